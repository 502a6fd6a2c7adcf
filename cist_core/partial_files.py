"""Files that were being written when their process was killed: known by name, removed once nobody writes to them.

What appears whole or not at all is written as ``.NAME.partial`` beside its place and renamed. Whoever writes for long
holds a lock on it, which ends with the process.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sys
import time
from pathlib import Path
from typing import BinaryIO

if sys.platform != "win32":
    import fcntl

ABANDONED_SECONDS = 600.0
"""A partial file that was not written to for so long, and whose process is gone, is removed."""
_OF_PROCESS = re.compile(r"\.(\d+)\.partial$")


def lock_file(path: Path) -> BinaryIO | None:
    """Open a file, made if need be, that this process alone writes to until it is closed; None where another has it."""
    if sys.platform == "win32":
        return None
    stream = path.open("a+b")
    with contextlib.suppress(OSError):  # locked, renamed meanwhile, or on a disk without locks
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if path.stat().st_ino == os.fstat(stream.fileno()).st_ino:
            return stream
    stream.close()
    return None


def remove_abandoned(folder: Path, pattern: str = ".*.partial", *, seconds: float = ABANDONED_SECONDS) -> None:
    """Remove what killed processes have left in a folder.

    Args:
        folder: looked through, without those below it.
        pattern: of the names.
        seconds: what was written to more recently stays.
    """
    with contextlib.suppress(OSError):
        for left in folder.glob(pattern):
            with contextlib.suppress(OSError):  # another was faster
                if time.time() - left.stat().st_mtime > seconds and not _in_use(left):
                    shutil.rmtree(left) if left.is_dir() else left.unlink()


def _in_use(path: Path) -> bool:
    import psutil

    named = _OF_PROCESS.search(path.name)
    if named is not None and psutil.pid_exists(int(named[1])):
        return True
    if sys.platform == "win32" or not path.is_file():
        return False
    with path.open("rb") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:  # a disk without locks
            return False
    return False
