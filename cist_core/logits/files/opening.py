"""From a path to its format, and from whatever goes wrong to one sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cist_core.errors import CistError, first_line
from cist_core.logits.files.formats import LogitFormat, find_format


def format_of(source: Path, endings: list[str], what: str) -> LogitFormat:
    """The format of a file, by its ending.

    Args:
        source: path of the file.
        endings: those that are read here.
        what: is read, in the plural.

    Raises:
        CistError: if its ending is none of these, or there is no such file.
    """
    suffix = source.suffix.lower()
    found = find_format(suffix)
    if source.is_dir():
        raise CistError(f"{source} is a folder, and {what} are read from a file; data are named by --data.")
    if found is None or suffix not in endings:
        raise CistError(f"{source} has the ending '{suffix}'; {what} are read from {', '.join(endings)}.")
    if not source.is_file():
        raise CistError(f"There is no file {source}.")
    return found


@contextmanager
def errors_naming(source: Path) -> Iterator[None]:
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
