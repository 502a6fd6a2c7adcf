"""Files that appear whole or not at all, and are still there after a power cut."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cist_core.errors import CistError

if TYPE_CHECKING:
    from filelock import FileLock


def own_folder(variable: str, kind: Literal["cache", "data"], *below: str) -> Path:
    """Where the project keeps files of its own: where an environment variable says, or in the user's folder.

    Args:
        variable: its name, such as ``CIST_CACHE``.
        kind: which of the user's folders; what lies in the cache can be made again.
        below: folders below that of the project, unless the variable is set.
    """
    override = os.environ.get(variable)
    if override:
        return Path(override).expanduser()
    import platformdirs

    find = platformdirs.user_cache_dir if kind == "cache" else platformdirs.user_data_dir
    return Path(find("cist-studio"), *below)


def file_lock(path: str | os.PathLike[str]) -> FileLock:
    """A lock that the system frees when its holder is killed; taking it fails on a file system that knows none.

    There, a file that is made for a lock would stay when its holder is killed, and two machines may not agree on it.
    """
    from filelock import FileLock

    return FileLock(path, fallback_to_soft=False)


def file_state(path: str | os.PathLike[str]) -> tuple[int, int, int, int]:
    """What changes when a file does: its number on the disk, its size, and when its content and anything of it changed.

    Raises:
        OSError: if there is none.
    """
    found = os.stat(path)
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def write_whole(
    path: str | os.PathLike[str],
    write: Callable[[Path], object],
    *,
    what: str,
    durable: bool = True,
    make_folders: bool = True,
) -> None:
    """Let ``write`` fill a file beside ``path``, then give it that name.

    Args:
        path: where the file goes; an older one there is replaced.
        write: called with the path to write to.
        what: names the content in the error, for example ``"The report"``.
        durable: return when the disk has the file under this name, so that a power cut leaves it or the older one.
            False for what may as well be gone then: there may be an empty file in its place.
        make_folders: make those that are missing; false: refuse to write, as where the folder may have been removed.

    Raises:
        CistError: if the file cannot be written.
    """
    from safetensors import SafetensorError  # not an OSError, whatever the disk said

    target = Path(path)
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        if make_folders:
            make_folder(target.parent)
        partial.touch()
        mode = partial.stat().st_mode
        write(partial)
        partial.chmod(mode)  # safetensors makes files that nobody else can read
        if durable:
            flush(partial)
        partial.replace(target)
        if durable:
            flush(target.parent)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CistError(f"{what} cannot be written to {target} ({reason}); choose another place.") from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def make_folder(path: Path) -> None:
    """Make a folder and those above it that are missing; a power cut does not take them away again.

    Raises:
        OSError: if it cannot be made.
    """
    if path.is_dir():
        return
    if path.parent != path:  # else it is a drive that is not there
        make_folder(path.parent)
    path.mkdir(exist_ok=True)
    flush(path.parent)


def move_into_place(partial: Path, target: Path) -> None:
    """Give a file or folder that was written under another name its own; after a power cut it is whole or not there.

    A file that has the name is replaced; a folder must not be there.

    Raises:
        OSError: if the disk cannot.
    """
    for path in partial.rglob("*") if partial.is_dir() else ():
        flush(path)
    flush(partial)
    partial.replace(target)
    flush(target.parent)


def flush(path: Path) -> None:
    """Have the disk write what the system still holds of a file, or the names in a folder (fsync).

    Of a folder it is left out where that cannot be done: on Windows, and where the folder may be written to and not
    read.

    Raises:
        OSError: if the disk cannot.
    """
    folder = path.is_dir()
    if os.name == "nt" and folder:
        return
    try:
        number = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    except PermissionError:
        if folder:
            return
        raise
    try:
        os.fsync(number)
    except OSError as error:
        if error.errno != errno.EINVAL:  # of file systems that know no flushing of folders
            raise
    finally:
        os.close(number)
