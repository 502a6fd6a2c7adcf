"""Logits from a file of any known kind."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from cist_core.documents import parse_json
from cist_core.errors import CistError
from cist_core.logits.class_maps import ClassMap
from cist_core.logits.files.arrays import StoredArrays, few
from cist_core.logits.files.distillkit import layout_of
from cist_core.logits.files.formats import logit_endings
from cist_core.logits.files.given import GivenAs, convert
from cist_core.logits.files.labels import LabelFile, NumberedLabels, find_sample_names, number_labels, open_labels
from cist_core.logits.files.limits import GENEROUS_LIMITS, ReadingLimits
from cist_core.logits.files.names import (
    CLASS_NAMES,
    FEATURE_NAMES,
    LABEL_NAMES,
    LOGIT_NAMES,
    MASK_NAMES,
    TOP_K_IDS,
    TOP_K_LOG_PROBS,
    plain,
)
from cist_core.logits.files.opening import errors_naming, format_of
from cist_core.logits.files.tables import Table, read_table
from cist_core.logits.files.tokens import flatten_tokens, take_rows
from cist_core.logits.logit_set import IGNORED_LABEL, SAMPLE_NAMES, LabelArray, LogitSet, read_sample_names
from cist_core.logits.sample_names import SampleNames, match_samples

# What has no name of its own: one array, those of `numpy.savez` and of a list.
_NO_NAME = re.compile(r"array|tensor|arr_\d+|\d+")


@dataclass(frozen=True)
class _Contents:
    """What a file holds, as it stands there.

    Attributes:
        logits: ``(N, C)`` or ``(B, L, C)``.
        labels: in any form.
        labels_from: what the array or column of the labels is called.
        mask: of tokens.
        class_names: C names.
        called: what the logits are called.
        unused: what nothing is made of.
        provenance: more to say.
        sample_names: what the file calls the samples.
    """

    logits: Any
    labels: Any = None
    labels_from: str | None = None
    mask: Any = None
    class_names: Any = None
    called: str | None = None
    unused: Sequence[str] = ()
    provenance: Mapping[str, str] = field(default_factory=dict)
    sample_names: SampleNames | None = None


def read_logits(
    path: str | os.PathLike[str],
    *,
    labels: str | os.PathLike[str] | None = None,
    given_as: GivenAs = "auto",
    class_map: ClassMap | None = None,
    limits: ReadingLimits = GENEROUS_LIMITS,
) -> LogitSet:
    """Open a file of logits; the ending of its name decides how.

    ==================  ============================================================================================
    ``.safetensors``    tensors ``logits`` and, optionally, ``labels``; memory-mapped
    ``.npy``            the array itself, memory-mapped; no labels
    ``.npz``            ``logits`` (or the only 2-D array), optionally ``labels`` and ``classes``
    ``.pt``, ``.pth``   a tensor, a dict as for ``.npz``, or a pair; read with ``weights_only=True``, memory-mapped
    ``.csv``, ``.tsv``  a header; one column a class, and perhaps labels, names of the samples and others; columns are
                        separated by commas, semicolons or tabs, and numbers may have a decimal comma
    ``.parquet``        as ``.csv``, or one column of lists of numbers
    ==================  ============================================================================================

    **What is what** follows from names, shapes and values. Labels are called ``labels``, ``target``, ``y_true``,
    ``ground_truth``, ``label_ids`` or alike (`LABEL_NAMES`), and are whole numbers, names of the classes, or one-hot;
    samples with the label -100 are left out. Of a table, columns of one pattern (``logit_0``, ``logit_1``, ...) are
    the classes, and the others are not; without a pattern, columns that are called like predictions, losses, folds and
    so on are left out, and so are whole numbers among fractions. A column names the samples if it is called ``id``,
    ``index``, ``image``, ``filename`` or alike (`IDENTIFIER_NAMES`), or stands first without a name, as the index that
    pandas writes, and if it holds text or whole numbers that are all different. Arrays and columns that are called
    ``features``, ``embeddings``, ``pixel_0`` or alike are no logits. ``provenance["identifiers"]``, ``["unused"]``,
    ``["labels"]`` and ``["left out"]`` list what was decided; `cist_core.logits.choices.chosen` puts it into sentences.

    **Order** comes from numbers and names. Columns of one pattern stand in the order of their numbers
    (`cist_core.logits.class_order.order_of_columns`); labels such as 1 to 10 beside columns that are called so are
    these. Labels of their own file are joined by the names of the samples where both files have some, and refused
    where they lack one. ``provenance["class_order"]`` and ``["sample_order"]`` say so. The names stay with the logits
    (`LogitSet.sample_names`), for `cist_core.logits.alignment.align`.

    **Probabilities and log-probabilities** are recognised from all values together, whatever they are called
    (``probs``, ``log_probs``, ...), and become logits of the same soft labels: see `as_logits`.
    ``provenance["given_as"]`` says what was found and done; it is absent for logits. ``given_as`` overrides.

    **Masked classes** (``-inf``, -1e4, -1e9 and so on in every sample; `absent_classes.takes_part`) take no
    part: their columns are left out, with the samples that are labelled so. ``provenance["absent classes"]`` names
    them. A class that is masked in some samples only is refused.

    **Token logits** ``(B, L, C)`` of an ``.npy``, ``.npz``, ``.pt`` or ``.safetensors`` file become one sample a
    position: those where ``mask`` (or ``attention_mask``), ``(B, L)``, is 1 and the label, ``(B, L)``, is not -100.
    Labels must stand at the position of the logits that predict them. ``provenance["tokens"]`` says what was kept.

    **A file larger than memory** opens too. What can be mapped is; the rest (packed archives, tables, other types) is
    read in blocks into a nameless file in the cache folder (``CIST_CACHE``), which vanishes with the logits.

    Args:
        path: of the file.
        labels: path of a file of labels (`read_labels`), which are taken instead of those beside the logits.
        given_as: ``"logits"``, ``"log-probabilities"`` or ``"probabilities"``, where the recognition is wrong.
        class_map: from what the labels say to the class of the logits, both by name or number (as text too); None or an
            empty name leaves the samples of that label out.
        limits: how large a file may be; `UPLOAD_LIMITS` for one that somebody else hands in.

    Raises:
        CistError: if the file is missing, damaged, of another kind, beyond the limits, or its logits are not valid.
    """
    source = Path(path)
    kind = format_of(source, logit_endings(), "logits")
    with errors_naming(source):
        opened = kind.open(source, limits)
        contents = _from_table(opened, limits) if kind.holds == "table" else _from_arrays(opened, limits)
    if labels is not None:
        contents = _with_labels(
            contents, open_labels(labels, count=math.prod(contents.logits.shape[:-1]), limits=limits)
        )
    with errors_naming(source):
        own = {} if source.suffix.lower() == ".safetensors" else {"file": source.name}
        values, raw, provenance = _samples(contents, {**own, **contents.provenance})
        if values.ndim != 2:
            return LogitSet.create(values)  # which says what is wrong with the shape
    with errors_naming(source if labels is None else Path(labels)):
        found = number_labels(
            raw, contents.labels_from, values.shape, class_names=contents.class_names, class_map=class_map
        )
    with errors_naming(source):
        if found.said:
            provenance["labels"] = found.said
        names = None if len(contents.logits.shape) == 3 else contents.sample_names
        values, numbers, names = _counting(values, found, provenance, names)
        converted = convert(values, given_as, name=contents.called, labels=numbers)
        provenance = {**converted.provenance, **provenance}  # our own file says what it was
        return LogitSet.create(
            converted.logits,
            numbers,
            class_names=found.class_names,
            provenance=provenance,
            sample_names=names,
            leave_out_labelled=True,
        )


def read_beside(
    path: str | os.PathLike[str],
    *,
    labels: str | os.PathLike[str] | None = None,
    given_as: GivenAs = "auto",
    class_map: ClassMap | None = None,
    limits: ReadingLimits = GENEROUS_LIMITS,
) -> LogitSet:
    """Another model's logits on the samples of a file that was read with these arguments (`read_logits`).

    What the labels leave out of the one is left out of the other: by its own labels where it has some, which the class
    map is for as well, else by those of the file of labels.

    Raises:
        CistError: as `read_logits`.
    """
    found = read_logits(path, given_as=given_as, limits=limits)
    if found.labels is None and labels is not None:
        return read_logits(path, labels=labels, given_as=given_as, class_map=class_map, limits=limits)
    if found.labels is not None and class_map is not None:
        return read_logits(path, given_as=given_as, class_map=class_map, limits=limits)
    return found


def _counting(
    values: Any, labels: NumberedLabels, provenance: dict[str, str], names: SampleNames | None
) -> tuple[Any, LabelArray | None, SampleNames | None]:
    """The samples that count, their labels, and what they are called."""
    if labels.numbers is None or labels.ignored is None:
        return values, labels.numbers, names
    kept = np.flatnonzero(labels.numbers != IGNORED_LABEL)
    if not len(kept):
        raise CistError(f"none of the {len(values):,} samples is left: {labels.ignored}.")
    provenance["left out"] = f"{len(values) - len(kept):,} of {len(values):,} samples: {labels.ignored}"
    return take_rows(values, kept), labels.numbers[kept], None if names is None else names.take(kept)


def _from_table(opened: Table, limits: ReadingLimits) -> _Contents:
    if layout_of(opened) is not None:
        raise CistError(_top_k_sentence("some of the"))
    table = read_table(opened, limits)
    provenance = {"identifiers": ", ".join(table.identifiers)} if table.identifiers else {}
    if table.class_order is not None:
        provenance["class_order"] = table.class_order
    return _Contents(
        table.logits,
        table.labels,
        table.label_column,
        class_names=table.class_names,
        called=table.called,
        unused=table.unused,
        provenance=provenance,
        sample_names=SampleNames.of(table.sample_names, len(table.logits)),
    )


def _from_arrays(file: StoredArrays, limits: ReadingLimits) -> _Contents:
    if holds_top_k(file):
        *_, k = file.arrays[str(file.find(TOP_K_IDS))].shape
        raise CistError(_top_k_sentence(f"the {k}"))
    name = _logits_name(file)
    limits.check_shape(file.arrays[name].shape, f"'{name}'")
    tokens = file.arrays[name].ndim == 3
    others = [each for each in file.arrays if each != name]
    label, mask, classes = (file.find(names, among=others) for names in (LABEL_NAMES, MASK_NAMES, CLASS_NAMES))
    label = _unnamed_labels(file, name) if label is None else label
    mask = mask if tokens else None
    class_names, provenance = _own_metadata(file.metadata)
    count = (*file.arrays[name].shape, 0)[0]
    known = (name, label, mask, classes, SAMPLE_NAMES)
    lists = find_sample_names(file, (count,), but=known)
    if lists:
        provenance["identifiers"] = ", ".join(lists)
    own = read_sample_names(file.load((SAMPLE_NAMES,)), count)
    names = SampleNames.of({**({} if own is None else own.columns), **lists}, count)
    return _Contents(
        file.arrays[name].load(),
        None if label is None else file.arrays[label].load(),
        label,
        None if mask is None else file.arrays[mask].load(),
        file.arrays[classes].load() if class_names is None and classes is not None else class_names,
        plain(name),
        [file.described(each) for each in others if each not in known and each not in lists],
        provenance,
        names,
    )


def _logits_name(file: StoredArrays) -> str:
    """The array called ``logits`` or alike, else the only matrix, else the only three-dimensional one."""
    arrays = file.arrays
    shaped = [name for name, array in arrays.items() if array.ndim in (2, 3)]
    if (named := file.find(LOGIT_NAMES, among=shaped) or file.find(LOGIT_NAMES[:2])) is not None:
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
    aside = {*LABEL_NAMES, *MASK_NAMES, *CLASS_NAMES}
    matrices = [name for name in shaped if plain(name) not in aside]
    candidates = [name for name in matrices if plain(name) not in FEATURE_NAMES]
    if matrices and not candidates:
        verb = "is" if len(matrices) == 1 else "are"
        raise CistError(
            f"the array{'s' * (len(matrices) > 1)} {', '.join(map(file.described, matrices))} {verb} called like the "
            "inner values of a network or what goes into it, not like logits; call the one 'logits' that holds them."
        )
    for axes in (2, 3):
        found = [name for name in candidates if arrays[name].ndim == axes]
        if len(found) == 1:
            return found[0]
        if found:
            break
    raise CistError(
        f"found the arrays {file.names()}, but none named 'logits'; name the (samples, classes) one 'logits'."
    )


def _unnamed_labels(file: StoredArrays, logits: str) -> str | None:
    """The only list of whole numbers beside logits that have no name of their own either: a pair, or ``arr_1``."""
    if not _NO_NAME.fullmatch(logits) or not file.arrays[logits].shape:
        return None
    count = file.arrays[logits].shape[0]
    beside = [name for name, array in file.arrays.items() if name != logits and array.shape in ((count,), (count, 1))]
    if len(beside) != 1 or not _NO_NAME.fullmatch(beside[0]):
        return None
    return beside[0] if np.asarray(file.arrays[beside[0]].load()).dtype.kind in "iu" else None


def holds_top_k(file: StoredArrays) -> bool:
    """Whether a file holds the ids and log-probabilities of the most probable classes only."""
    ids, log_probs = file.find(TOP_K_IDS), file.find(TOP_K_LOG_PROBS)
    if ids is None or log_probs is None or "logits" in file.arrays:
        return False
    return file.arrays[ids].ndim in (2, 3) and file.arrays[ids].shape == file.arrays[log_probs].shape


def _top_k_sentence(which: str) -> str:
    """What such a file is, and what opens it."""
    return (
        f"this holds {which} most probable classes of each sample, not the logits of all, so entropies have bounds "
        "only; 'cist analyze --logits FILE --vocabulary V' prints them, and cist_core.logits.top_k.read_top_k reads it."
    )


def _own_metadata(metadata: Mapping[str, str]) -> tuple[Any, dict[str, str]]:
    """Class names and provenance that `LogitSet.save` has written, or nothing."""
    try:
        names = parse_json(metadata.get("class_names", "null"))
        provenance = dict(parse_json(metadata.get("provenance", "{}")))
        return None if names is None else list(names), {str(key): str(value) for key, value in provenance.items()}
    except (ValueError, TypeError, RecursionError) as error:
        raise CistError(f"this has damaged metadata ({error}); write the file again.") from error


def _with_labels(contents: _Contents, found: LabelFile) -> _Contents:
    """The labels of a file of their own in place of those beside the logits."""
    replaced = [] if contents.labels_from is None else [f"{contents.labels_from} (those of the file of labels are)"]
    values, unused, beside = found.values, list(found.unused), dict[str, str]()
    if found.sample_names:
        theirs = SampleNames.of(found.sample_names, len(values))
        match = match_samples(contents.sample_names, theirs, name="the file of labels", of="the logits", part=True)
        if match is None:
            unused = [*found.sample_names, *unused]
        elif match.positions is not None:
            spare = len(values) - len(match.positions)
            values = np.asarray(values)[match.positions]
            beside["sample_order"] = f"Labels joined to the logits by '{match.column}'" + (
                f"; {spare:,} of other samples left out" if spare else ""
            )
    if unused:
        beside["unused beside the labels"] = ", ".join(few(unused))
    return replace(
        contents,
        labels=values,
        labels_from=found.name,
        unused=[*contents.unused, *replaced],
        provenance={**contents.provenance, **beside},
    )


def _samples(contents: _Contents, provenance: dict[str, str]) -> tuple[Any, Any, dict[str, str]]:
    """One row a sample, and the labels beside them."""
    if contents.unused:
        provenance["unused"] = ", ".join(few(contents.unused))
    values, labels = contents.logits, contents.labels
    if values.ndim != 3:
        return values, labels, provenance
    if labels is not None and contents.labels_from is None and np.ndim(labels) == 1:  # of the positions that count
        values, _, provenance["tokens"] = flatten_tokens(values, contents.mask)
    else:
        values, labels, provenance["tokens"] = flatten_tokens(values, contents.mask, labels)
    return values, labels, provenance
