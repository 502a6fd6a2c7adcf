"""Folders of the cache that are bounded in bytes: for a new entry those go that were not used for longest.

An entry is a file or a folder with files; what begins with a dot beside or in it is being written. An entry that some
process has mapped, that is being written, or that was used a moment ago stays, and so does the rest where the bound
cannot be kept for it: then a folder holds more for a while.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from cist_core.logits.scratch import has_room, require_room
from cist_core.partial_files import remove_abandoned

RECENT_SECONDS = 300.0
"""What was used within them is not removed: whoever has looked for an entry may be about to open it."""

_USED = ".used"


def mark_used(entry: Path) -> None:
    """Say that an entry is used now; nothing happens where there is none, or the disk takes nothing."""
    with contextlib.suppress(OSError):
        if entry.is_file():  # whose own times say what is known of its content
            mark = _mark_of(entry)
            mark.touch()
        elif entry.is_dir():
            mark = entry
        else:
            return
        now = time.time_ns()  # the system's own time stamps are some milliseconds coarse
        os.utime(mark, ns=(now, now))


def make_room(entry: Path, size: int, *, most_bytes: int) -> None:
    """Remove the entries beside a new one that were not used for longest, until all take ``most_bytes`` at most.

    All of them stay where the disk would have no room even without them.

    Args:
        entry: the new one.
        size: that it will have, in bytes.
        most_bytes: for all entries of its folder.

    Raises:
        CistError: if the disk has no room.
        OSError: if the folder cannot be read.
    """
    remove_abandoned(entry.parent)
    total = _bytes_of(path for path in entry.parent.glob(".*") if not path.name.startswith(f".{entry.name}."))
    others: list[tuple[int, Path, int]] = []
    for other in entry.parent.iterdir():
        if other.name.startswith(".") or other == entry:
            continue
        with contextlib.suppress(FileNotFoundError):  # another process makes room as well
            last = _last_used(other)
            if other.is_dir():
                remove_abandoned(other)
            used = _bytes_of([other])
            total += used
            others.append((last, other, used))
    if total + size <= most_bytes and has_room(entry.parent, size):
        return
    mapped, now = _mapped(), time.time_ns()
    removable = [
        (last, other, used)
        for last, other, used in sorted(others)
        if now - last >= RECENT_SECONDS * 1e9 and not _in_use(other, mapped)
    ]
    require_room(entry.parent, size - sum(used for _, _, used in removable))
    for _, other, used in removable:
        if total + size <= most_bytes and has_room(entry.parent, size):
            break
        _remove(other)
        total -= used
    require_room(entry.parent, size)


def _mark_of(entry: Path) -> Path:
    return entry.with_name(f".{entry.name}{_USED}")


def _last_used(entry: Path) -> int:
    times = [entry.stat().st_mtime_ns]
    with contextlib.suppress(FileNotFoundError):
        times.append(_mark_of(entry).stat().st_mtime_ns)
    return max(times)


def _bytes_of(entries: Iterable[Path]) -> int:
    """Of files, and of those in folders; what another process has just renamed or removed counts nothing."""
    total = 0
    for entry in entries:
        for file in entry.iterdir() if entry.is_dir() else [entry]:
            with contextlib.suppress(FileNotFoundError):
                total += file.stat().st_size
    return total


def _in_use(entry: Path, mapped: set[str]) -> bool:
    if not entry.is_dir():
        return str(entry.resolve()) in mapped
    return any(file.name.startswith(".") or str(file.resolve()) in mapped for file in entry.iterdir())


def _mapped() -> set[str]:
    """The files that processes have mapped, as far as the system tells: on Linux, of this user's processes.

    A file that is removed elsewhere stays readable for those who have mapped it, or the system refuses to remove it.
    """
    return {line.split(maxsplit=5)[5].rstrip("\n") for line in _maps() if line.count("/")}


def _maps() -> Iterator[str]:
    for maps in Path("/proc").glob("[0-9]*/maps"):
        with contextlib.suppress(OSError), maps.open(errors="surrogateescape") as lines:  # another user's, or ended
            yield from lines


def _remove(entry: Path) -> None:
    """As far as the system lets us."""
    with contextlib.suppress(OSError):
        if entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink()
            _mark_of(entry).unlink(missing_ok=True)
