"""From a path to its arrays or its table, and from whatever goes wrong to one sentence."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cist_core.errors import CistError, first_line
from cist_core.logits.files.arrays import StoredArrays
from cist_core.logits.files.limits import Limits
from cist_core.logits.files.numpy_files import open_npy, open_npz
from cist_core.logits.files.safetensors_files import open_safetensors
from cist_core.logits.files.tables import CsvTable, ParquetTable, Table
from cist_core.logits.files.torch_files import open_torch

ARRAY_FILES: dict[str, Callable[[Path, Limits], StoredArrays]] = {
    ".safetensors": open_safetensors,
    ".npy": open_npy,
    ".npz": open_npz,
    ".pt": open_torch,
    ".pth": open_torch,
}

TABLE_FILES: dict[str, Callable[[Path, Limits], Table]] = {".csv": CsvTable, ".tsv": CsvTable, ".parquet": ParquetTable}


def existing_file(source: Path, endings: list[str], what: str) -> str:
    """The ending of a file, in small letters.

    Raises:
        CistError: if it is none of the known ones, or there is no such file.
    """
    suffix = source.suffix.lower()
    if source.is_dir():
        raise CistError(f"{source} is a folder, and {what} are read from a file; data are named by --data.")
    if suffix not in endings:
        raise CistError(f"{source} has the ending '{suffix}'; {what} are read from {', '.join(endings)}.")
    if not source.is_file():
        raise CistError(f"There is no file {source}.")
    return suffix


@contextmanager
def naming(source: Path) -> Iterator[None]:
    """Turn whatever a reader raises over a bad file into one sentence that names the file."""
    try:
        yield
    except CistError as error:
        if str(error).startswith(str(source)):
            raise
        raise CistError(f"{source}: {error}") from error
    # A damaged file can make NumPy, pandas, pyarrow and torch raise anything (zlib.error, tokenize.TokenError, ...).
    except Exception as error:
        kind, reason = source.suffix.lower(), first_line(error, 200)
        raise CistError(f"{source} cannot be read as {kind} ({reason}); write the file again.") from error
