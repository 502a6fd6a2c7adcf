"""Logits from a file of any known kind."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cist_core.errors import CistError
from cist_core.logit_files.arrays import StoredArrays
from cist_core.logit_files.given import GivenAs, as_logits
from cist_core.logit_files.labels import read_labels
from cist_core.logit_files.limits import GENEROUS_LIMITS, Limits
from cist_core.logit_files.names import (
    CLASS_NAMES,
    LABEL_NAMES,
    LOGIT_NAMES,
    MASK_NAMES,
    TOP_K_IDS,
    TOP_K_LOG_PROBS,
)
from cist_core.logit_files.opening import ARRAY_FILES, TABLE_FILES, existing_file, naming
from cist_core.logit_files.tables import read_table
from cist_core.logit_files.tokens import flatten_tokens
from cist_core.logits import LogitSet


@dataclass(frozen=True)
class _Contents:
    logits: Any
    labels: Any = None
    mask: Any = None
    class_names: Any = None
    provenance: Mapping[str, str] = field(default_factory=dict)


def read_logits(
    path: str | os.PathLike[str],
    *,
    labels: str | os.PathLike[str] | None = None,
    given_as: GivenAs = "auto",
    limits: Limits = GENEROUS_LIMITS,
) -> LogitSet:
    """Open a file of logits; the ending of its name decides how.

    ==================  ============================================================================================
    ``.safetensors``    tensors ``logits`` and, optionally, ``labels``; memory-mapped
    ``.npy``            the array itself, memory-mapped; no labels
    ``.npz``            ``logits`` (or the only 2-D array), optionally ``labels`` and ``classes``
    ``.pt``, ``.pth``   a tensor, or a dict as for ``.npz``; read with ``weights_only=True``, memory-mapped
    ``.csv``            a header; a column ``label`` if there is one; every other column is one class, except for
                        those that name the samples
    ``.parquet``        as ``.csv``
    ==================  ============================================================================================

    A column names the samples if it is called ``id``, ``index``, ``image``, ``filename`` or alike
    (`IDENTIFIER_NAMES`), or stands first without a name, as the index that pandas writes, and if it holds text or
    whole numbers that are all different. Any other column of numbers is a class. ``provenance["identifiers"]`` lists
    what was left out.

    **Probabilities and log-probabilities** are recognised from their values, whatever they are called (``probs``,
    ``log_probs``, ...), and become logits of the same soft labels: see `as_logits`. Rows count as probabilities if
    they hold no negative number and sum to 1 within 2e-3; logits do so by chance only, and then not row after row.
    ``provenance["given_as"]`` says what was found and done; it is absent for logits. ``given_as`` overrides.

    **Token logits** ``(B, L, C)`` of an ``.npy``, ``.npz``, ``.pt`` or ``.safetensors`` file become one sample a
    position: those where ``mask`` (or ``attention_mask``), ``(B, L)``, is 1 and the label, ``(B, L)``, is not -100.
    Labels must stand at the position of the logits that predict them. ``provenance["tokens"]`` says what was kept.

    **A file larger than memory** opens too. What can be mapped is; the rest (packed archives, tables, other types) is
    read in blocks into a nameless file in the cache folder (``CIST_CACHE``), which vanishes with the logits.

    Args:
        path: of the file.
        labels: path of a file of labels (`read_labels`), which are taken instead of those beside the logits.
        given_as: ``"logits"``, ``"log-probabilities"`` or ``"probabilities"``, where the recognition is wrong.
        limits: how large a file may be; `UPLOAD_LIMITS` for one that somebody else hands in.

    Raises:
        CistError: if the file is missing, damaged, of another kind, beyond the limits, or its logits are not valid.
    """
    source = Path(path)
    suffix = existing_file(source, [*ARRAY_FILES, *TABLE_FILES], "logits")
    with naming(source):
        if suffix in TABLE_FILES:
            contents = _from_table(source, suffix, limits)
        else:
            contents = _from_arrays(ARRAY_FILES[suffix](source, limits), limits)
        own = {} if suffix == ".safetensors" else {"file": source.name}
        logit_set = _as_set(contents, given_as, {**own, **contents.provenance})
    if labels is None:
        return logit_set
    shape = {"count": logit_set.num_samples, "classes": logit_set.num_classes}
    return replace(logit_set, labels=read_labels(labels, **shape, limits=limits))


def _from_table(source: Path, suffix: str, limits: Limits) -> _Contents:
    table = read_table(TABLE_FILES[suffix](source, limits), limits)
    provenance = {"identifiers": ", ".join(table.identifiers)} if table.identifiers else {}
    return _Contents(table.logits, table.labels, class_names=table.class_names, provenance=provenance)


def _from_arrays(file: StoredArrays, limits: Limits) -> _Contents:
    if holds_top_k(file):
        raise CistError(_top_k_sentence(file))
    name = _logits_name(file)
    limits.check_shape(file.arrays[name].shape, f"'{name}'")
    class_names, provenance = _own_metadata(file.metadata)
    return _Contents(
        file.arrays[name].load(),
        file.load(LABEL_NAMES),
        file.load(MASK_NAMES) if file.arrays[name].ndim == 3 else None,
        file.load(CLASS_NAMES) if class_names is None else class_names,
        provenance,
    )


def _logits_name(file: StoredArrays) -> str:
    """The array called ``logits`` or alike, else the only matrix, else the only three-dimensional one."""
    arrays = file.arrays
    if (named := file.find(LOGIT_NAMES)) is not None:
        return named
    if len(arrays) == 1 and (only := next(iter(arrays))) in ("array", "tensor"):
        return only
    if any(name.endswith((".weight", ".bias")) for name in arrays):
        raise CistError(
            f"this holds the weights of a network ({next(iter(arrays))}, ...), not logits; "
            "'cist infer --teacher FILE --data NAME' runs it."
        )
    if "images" in arrays:
        raise CistError(
            "this holds images, not logits; 'cist infer --teacher FILE --data' of this file lets a model answer them."
        )
    others = {*LABEL_NAMES, *MASK_NAMES, *CLASS_NAMES}
    for axes in (2, 3):
        found = [name for name, array in arrays.items() if array.ndim == axes and name not in others]
        if len(found) == 1:
            return found[0]
        if found:
            break
    raise CistError(
        f"found the arrays {file.names()}, but none named 'logits'; name the (samples, classes) one 'logits'."
    )


def holds_top_k(file: StoredArrays) -> bool:
    """Whether a file holds the ids and log-probabilities of the most probable classes only."""
    ids, log_probs = file.find(TOP_K_IDS), file.find(TOP_K_LOG_PROBS)
    if ids is None or log_probs is None or "logits" in file.arrays:
        return False
    return file.arrays[ids].ndim in (2, 3) and file.arrays[ids].shape == file.arrays[log_probs].shape


def _top_k_sentence(file: StoredArrays) -> str:
    """What such a file is, and what opens it."""
    *_, k = file.arrays[str(file.find(TOP_K_IDS))].shape
    return (
        f"this holds the {k} most probable classes of each sample, not the logits of all, so entropies have bounds "
        "only; 'cist analyze --logits FILE --vocabulary V' prints them, and cist_core.top_k.read_top_k reads it."
    )


def _own_metadata(metadata: Mapping[str, str]) -> tuple[Any, dict[str, str]]:
    """Class names and provenance that `LogitSet.save` has written, or nothing."""
    try:
        names = json.loads(metadata.get("class_names", "null"))
        provenance = dict(json.loads(metadata.get("provenance", "{}")))
        return None if names is None else list(names), {str(key): str(value) for key, value in provenance.items()}
    except (ValueError, TypeError, RecursionError) as error:
        raise CistError(f"this has damaged metadata ({error}); write the file again.") from error


def _as_set(contents: _Contents, given_as: GivenAs, provenance: dict[str, str]) -> LogitSet:
    values, labels = contents.logits, contents.labels
    if values.ndim == 3:
        values, labels, provenance["tokens"] = flatten_tokens(values, contents.mask, labels)
    values, said = as_logits(values, given_as)
    if said is not None:
        provenance.setdefault("given_as", said)
    return LogitSet.create(values, labels, class_names=contents.class_names, provenance=provenance)
