"""How much the results of one kind may take in the cache folder; of more, those go that nobody has read for longest."""

from __future__ import annotations

import contextlib
import os
import shutil
import warnings
from pathlib import Path

from cist_core.errors import CistError, CistWarning

MOST_BYTES = 100_000_000_000
"""Unless ``CIST_CACHE_BYTES`` says otherwise."""


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


def keep_within_limit(newest: Path) -> None:
    """Remove what lies beside a new result and was not read for longest, until all are within the limit; say so.

    The new one stays, also where it is larger than all may be, and so does what is being written (names with a dot).
    When a file was read is what its file system says: on Linux to a day, and where that keeps no such times a file
    counts as read when it was written. Whoever has a file open that is removed goes on with it.

    Args:
        newest: a file or a folder.

    Raises:
        CistError: if ``CIST_CACHE_BYTES`` is no number of bytes.
    """
    limit, removed = cache_limit(), 0
    with contextlib.suppress(OSError):  # a result that is there is not lost over this
        others = [(*_read_and_size(path), path) for path in newest.parent.glob("[!.]*") if path != newest]
        used = _read_and_size(newest)[1] + sum(size for _, size, _ in others)
        for _, size, path in sorted(others):
            if used <= limit:
                break
            with contextlib.suppress(OSError):  # somebody else removes it as well
                shutil.rmtree(path) if path.is_dir() else path.unlink()
                removed += 1
            used -= size
    if removed:
        warnings.warn(
            f"Of the results in {newest.parent} {removed} that {'was' if removed == 1 else 'were'} not read for "
            f"longest made room for a new one; CIST_CACHE_BYTES allows more than {limit / 1e9:,.3g} GB.",
            CistWarning,
            stacklevel=3,
        )


def _read_and_size(path: Path) -> tuple[int, int]:
    """When it was read last, in nanoseconds, and its bytes; 0 and 0 where it is gone."""
    last, size = 0, 0
    for file in path.rglob("*") if path.is_dir() else [path]:
        with contextlib.suppress(OSError):
            state = file.stat()
            last = max(last, state.st_atime_ns, state.st_mtime_ns)
            size += state.st_size
    return last, size
