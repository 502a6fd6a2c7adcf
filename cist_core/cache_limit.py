"""How much the results of one kind may take in the cache folder; of more, those go that nobody has read for longest."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
import warnings
from pathlib import Path

from cist_core.errors import CistError, CistWarning

MOST_BYTES = 100_000_000_000
"""Unless ``CIST_CACHE_BYTES`` says otherwise."""
_DAY = 24 * 3600.0


def cache_limit() -> int:
    """Bytes that all logits of the cache may take, all token sets, and all converted models.

    Raises:
        CistError: if ``CIST_CACHE_BYTES`` is no number of bytes.
    """
    text = os.environ.get("CIST_CACHE_BYTES", "")
    try:
        limit = int(float(text)) if text else MOST_BYTES
    except (ValueError, OverflowError):
        limit = -1
    if limit < 0:
        raise CistError(f"Expected CIST_CACHE_BYTES to be a number of bytes, but it is '{text}'.")
    return limit


def mark_read(result: Path) -> None:
    """Say that a result was read, where its file system does not: once a day, as Linux does by itself.

    Not more often, since a file that was touched counts as one that may have changed.
    """
    with contextlib.suppress(OSError):  # a cache that cannot be written to can be read
        state = result.stat()
        if time.time() - max(state.st_atime, state.st_mtime) > _DAY:
            os.utime(result, ns=(time.time_ns(), state.st_mtime_ns))


def keep_within_limit(newest: Path, names: re.Pattern[str]) -> None:
    """Remove results beside a new one that were not read for longest, until all are within the limit; say so.

    The new one stays, also where it is larger than all may be. Whoever has a file open that is removed goes on with it.

    Args:
        newest: a file or a folder.
        names: whole names of such results; what has another name is not ours and stays.

    Raises:
        CistError: if ``CIST_CACHE_BYTES`` is no number of bytes.
    """
    limit, removed = cache_limit(), 0
    with contextlib.suppress(OSError):  # a result that is there is not lost over this
        others = [path for path in newest.parent.iterdir() if names.fullmatch(path.name) and path != newest]
        found = sorted((*_read_and_size(path), path) for path in others)
        used = _read_and_size(newest)[1] + sum(size for _, size, _ in found)
        for _, size, path in found:
            if used <= limit:
                break
            if _remove(path):
                used, removed = used - size, removed + 1
    if removed:
        warnings.warn(
            f"Of the results in {newest.parent} {removed} that {'was' if removed == 1 else 'were'} not read for "
            f"longest made room for a new one; CIST_CACHE_BYTES allows more than {limit / 1e9:,.3g} GB.",
            CistWarning,
            stacklevel=3,
        )


def _remove(path: Path) -> bool:
    """Whether it is gone. A folder is never half there: it gets another name before it is emptied."""
    gone = path.with_name(f".{path.name}.{os.getpid()}.partial")  # what is left is removed with abandoned files
    try:
        path.rename(gone)
        if gone.is_dir() and not gone.is_symlink():
            shutil.rmtree(gone)
        else:
            gone.unlink()
    except OSError:
        return not path.exists()
    return True


def _read_and_size(path: Path) -> tuple[float, int]:
    """When it was read last, and its bytes; 0 and 0 where it is gone."""
    last, size = 0.0, 0
    for file in [path, *(path.rglob("*") if path.is_dir() else ())]:
        with contextlib.suppress(OSError):
            state = file.stat()
            last = max(last, state.st_mtime if file.is_dir() else max(state.st_atime, state.st_mtime))
            size += 0 if file.is_dir() else state.st_size
    return last, size
