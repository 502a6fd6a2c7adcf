"""Logits from other people's files: NumPy, PyTorch, CSV and Parquet. No code runs from any of them."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cist_core.errors import CistError
from cist_core.logits import LabelArray, LogitSet, as_labels

LABEL_NAMES = ("labels", "label", "targets", "target", "y")
CLASS_NAMES = ("classes", "class_names")
IDENTIFIER_NAMES = (
    "id", "uid", "uuid", "idx", "index", "row", "sample", "sample_id", "image", "image_id", "image_name", "image_path",
    "file", "file_name", "filename", "file_path", "filepath", "path",
)  # fmt: skip
"""What a column that names the samples may be called, if its values do: see `read_logits`."""

_UNNAMED_FIRST = "Unnamed: 0"  # to pandas
_PROBED_ROWS = 1000


@dataclass(frozen=True)
class _Contents:
    logits: Any
    labels: Any = None
    class_names: Any = None
    identifiers: tuple[str, ...] = ()


def read_logits(path: str | os.PathLike[str]) -> LogitSet:
    """Open a file of logits; the ending of its name decides how.

    ==================  ============================================================================================
    ``.safetensors``    tensors ``logits`` and, optionally, ``labels``; memory-mapped
    ``.npy``            the array itself, memory-mapped; no labels
    ``.npz``            ``logits`` (or the only 2-D array), optionally ``labels`` and ``classes``
    ``.pt``, ``.pth``   a tensor, or a dict as for ``.npz``; read with ``weights_only=True``
    ``.csv``            a header; a column ``label`` if there is one; every other column is one class, except for
                        those that name the samples
    ``.parquet``        as ``.csv``
    ==================  ============================================================================================

    A column names the samples if it is called ``id``, ``index``, ``image``, ``filename`` or alike (`IDENTIFIER_NAMES`),
    or stands first without a name, as the index that pandas writes, and if it holds text or whole numbers that are all
    different. Any other column of numbers is a class. ``provenance["identifiers"]`` lists what was left out.

    Probabilities are refused whatever file they are in, our own included: rows that hold no negative number and sum
    to 1 within 2e-3. Logits do so by chance only, and then not row after row.

    Raises:
        CistError: if the file is missing, damaged, of another kind, or its logits are not valid.
    """
    source = Path(path)
    suffix = source.suffix.lower()
    reader = _READERS.get(suffix)
    if reader is None and suffix != ".safetensors":
        known = ", ".join([".safetensors", *_READERS])
        raise CistError(f"{source} has the ending '{suffix}'; logits are read from {known}.")
    if not source.is_file():
        raise CistError(f"There is no file {source}.")
    with _naming(source):
        logit_set = LogitSet.load(source) if reader is None else _wrap(reader(source), source)
        _refuse_probabilities(logit_set)
        return logit_set


def _wrap(contents: _Contents, source: Path) -> LogitSet:
    provenance = {"file": source.name}
    if contents.identifiers:
        provenance["identifiers"] = ", ".join(contents.identifiers)
    return LogitSet.create(contents.logits, contents.labels, class_names=contents.class_names, provenance=provenance)


def read_labels(path: str | os.PathLike[str], *, count: int, classes: int) -> LabelArray:
    """Read the labels of ``count`` samples from a file of their own.

    ==================  ============================================================================================
    ``.npy``            the array itself
    ``.npz``            ``labels`` (or ``label``, ``targets``, ``target``, ``y``), or the only array
    ``.csv``            a header and a column of one of those names, or a single column
    ``.txt``            one number a line
    ==================  ============================================================================================

    Raises:
        CistError: if the file is missing, damaged, of another kind, or its labels are not ``count`` below ``classes``.
    """
    source = Path(path)
    suffix = source.suffix.lower()
    reader = _LABEL_READERS.get(suffix)
    if reader is None:
        raise CistError(f"{source} has the ending '{suffix}'; labels are read from {', '.join(_LABEL_READERS)}.")
    if not source.is_file():
        raise CistError(f"There is no file {source}.")
    with _naming(source):
        return as_labels(reader(source), count, classes)


@contextmanager
def _naming(source: Path) -> Iterator[None]:
    """Turn whatever a reader raises over a bad file into one sentence that names the file."""
    try:
        yield
    except CistError as error:
        if str(error).startswith(str(source)):
            raise
        raise CistError(f"{source}: {error}") from error
    # A damaged file can make NumPy, pandas, pyarrow and torch raise anything (zlib.error, tokenize.TokenError, ...).
    except Exception as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        kind = source.suffix.lower()
        raise CistError(f"{source} cannot be read as {kind} ({reason.rstrip('.')}); write the file again.") from error


def _refuse_probabilities(logit_set: LogitSet) -> None:
    """A softmax of probabilities is nearly uniform at any temperature: a plausible picture, and wrong."""
    rows = logit_set.logits[:_PROBED_ROWS].astype(np.float64)
    if rows.min() >= 0 and np.allclose(rows.sum(axis=1), 1, rtol=0, atol=2e-3):
        raise CistError(
            "every row is positive and sums to 1, so these are probabilities; store their logarithms, "
            "log(max(p, 1e-12)), which are logits of the same soft labels."
        )


def _read_npy(path: Path) -> _Contents:
    return _Contents(_load_npy(path))


def _load_npy(path: Path) -> Any:
    return np.lib.format.open_memmap(path, mode="r")


def _read_npz(path: Path) -> _Contents:
    return _from_mapping(_load_npz(path))


def _load_npz(path: Path) -> dict[str, Any]:
    if not zipfile.is_zipfile(path):
        raise CistError("this is not an .npz archive; write it with numpy.savez.")
    # NumPy leaves a file open that it cannot read, unless it is handed an open one.
    with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def _read_torch(path: Path) -> _Contents:
    import torch

    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:  # torch's own text advises to switch the protection off
        raise CistError(
            "this is damaged, or holds objects whose loading could run code; save a tensor or a dict of tensors."
        ) from error
    if isinstance(loaded, torch.Tensor):
        return _Contents(_numpy(loaded))
    if isinstance(loaded, Mapping):
        return _from_mapping({str(name): _numpy(value) for name, value in loaded.items()})
    raise CistError(f"expected a tensor or a dict of tensors, but got a {type(loaded).__name__}.")


def _numpy(value: Any) -> Any:
    """Tensors as arrays (NumPy has no bfloat16); anything else as it is."""
    import torch

    if not isinstance(value, torch.Tensor):
        return value
    value = value.detach()
    return value.float().numpy() if value.dtype == torch.bfloat16 else value.numpy()


def _read_csv(path: Path) -> _Contents:
    import pandas as pd

    return _from_table(pd.read_csv(path))


def _read_parquet(path: Path) -> _Contents:
    import pandas as pd

    return _from_table(pd.read_parquet(path))


def _from_mapping(arrays: Mapping[str, Any]) -> _Contents:
    matrices = [name for name, value in arrays.items() if isinstance(value, np.ndarray) and value.ndim == 2]
    if "logits" in arrays:
        name = "logits"
    elif len(matrices) == 1:
        name = matrices[0]
    else:
        raise CistError(
            f"found the arrays {sorted(arrays)}, but none named 'logits'; name the (samples, classes) one 'logits'."
        )
    return _Contents(
        arrays[name],
        next((arrays[key] for key in LABEL_NAMES if key in arrays), None),
        next((arrays[key] for key in CLASS_NAMES if key in arrays), None),
    )


def _from_table(table: Any) -> _Contents:
    names = [str(column).strip() for column in table.columns]
    table = table.set_axis(names, axis="columns")
    numbers = [name for name in names if _is_number(name)]
    if numbers != [str(index) for index in range(len(numbers))]:
        raise CistError(
            f"the first line holds numbers ({numbers[0]}, ...) where the column names should be; "
            "add a header line with a name for each class, or 0, 1, 2 and so on."
        )
    label = next((name for name in names if name.lower() in LABEL_NAMES), None)
    logits = table.drop(columns=[label]) if label is not None else table
    identifiers = [name for name, values in logits.items() if _names_samples(name, values)]
    logits = logits.drop(columns=identifiers)
    for name, kind in logits.dtypes.items():
        if kind.kind not in "fiu":
            raise CistError(
                f"column '{name}' is not numeric; keep one numeric column a class and, optionally, a column 'label' "
                "and one that names the samples, such as 'id' or 'filename'."
            )
        if name.startswith("Unnamed:"):  # what pandas calls a column without a name
            raise CistError(f"column {names.index(name) + 1} has no name; give it that of its class, or remove it.")
    with np.errstate(over="ignore"):  # what does not fit becomes infinite, and is refused with its place
        matrix = logits.to_numpy(np.float32)
    return _Contents(
        matrix,
        None if label is None else table[label].to_numpy(),
        list(logits.columns),
        tuple("the first, without a name" if name == _UNNAMED_FIRST else name for name in identifiers),
    )


def _names_samples(name: str, values: Any) -> bool:
    """Whether a column holds no logits but tells the samples apart: its name says so, and so do its values."""
    if name.lower() not in IDENTIFIER_NAMES and name != _UNNAMED_FIRST:
        return False
    return values.dtype.kind not in "fiub" or (values.dtype.kind in "iu" and bool(values.is_unique))


def _is_number(name: str) -> bool:
    """Whether a column is named like a logit: then the name may be one, taken from the first sample."""
    try:
        float(name)
    except ValueError:
        return False
    return True


def _label_column(path: Path) -> Any:
    import pandas as pd

    table = pd.read_csv(path)
    column = next((name for name in table.columns if str(name).strip().lower() in LABEL_NAMES), None)
    if column is None and len(table.columns) != 1:
        raise CistError(f"found the columns {[str(name) for name in table.columns]}, but none named 'label'.")
    return table[table.columns[0] if column is None else column].to_numpy()


def _label_array(path: Path) -> Any:
    arrays = _load_npz(path)
    name = next((name for name in LABEL_NAMES if name in arrays), next(iter(arrays)) if len(arrays) == 1 else None)
    if name is None:
        raise CistError(f"found the arrays {sorted(arrays)}, but none named 'labels'.")
    return arrays[name]


def _label_lines(path: Path) -> Any:
    return np.array(path.read_text(encoding="utf-8").split(), dtype=np.float64)


_READERS: dict[str, Callable[[Path], _Contents]] = {
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".pt": _read_torch,
    ".pth": _read_torch,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
}

_LABEL_READERS: dict[str, Callable[[Path], Any]] = {
    ".npy": _load_npy,
    ".npz": _label_array,
    ".csv": _label_column,
    ".txt": _label_lines,
}
