"""Limits on the memory and the time of a process that opens what other people bring."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from functools import partial
from pathlib import Path
from types import FrameType

from cist_core.errors import CistError


def limit_memory(at_once: int) -> int | None:
    """Let this process have ``CIST_ADDED_MEMORY`` bytes, by default its part of three quarters of what there is.

    Args:
        at_once: processes of this kind that work at the same time.

    Returns:
        the limit, or None where the system has none.

    Raises:
        CistError: if the variable is no number.
    """
    try:
        import resource
    except ImportError:  # Windows
        return None
    import psutil

    text = os.environ.get("CIST_ADDED_MEMORY", "")
    try:
        allowed = int(float(text)) if text else int(0.75 * _memory(psutil.virtual_memory().total) / at_once)
    except (ValueError, OverflowError):
        raise CistError(f"Expected CIST_ADDED_MEMORY to be a number of bytes, but it is '{text}'.") from None
    # Data, not address space: mapped files and what CUDA reserves would count there.
    resource.setrlimit(resource.RLIMIT_DATA, (allowed, allowed))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    return allowed


def limit_time(seconds: int, sentence: str) -> None:
    """Raise `CistError` with the sentence when the time is up; the system ends a library that never comes back.

    The time counts from now, and an earlier limit on it ends.
    """
    with contextlib.suppress(ImportError):  # Windows
        import resource

        processor = int(time.process_time()) + seconds * (os.cpu_count() or 1) + 5
        _, most = resource.getrlimit(resource.RLIMIT_CPU)
        if most != resource.RLIM_INFINITY:  # no process raises its own
            processor = min(processor, most)
        resource.setrlimit(resource.RLIMIT_CPU, (processor - 5, processor))
        signal.signal(signal.SIGALRM, partial(_time_is_up, sentence))
        signal.alarm(seconds)


def _memory(machine: int) -> int:
    """What a container may have, if this is one."""
    try:
        return min(machine, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    except (OSError, ValueError):  # no container, or "max"
        return machine


def _time_is_up(sentence: str, number: int, frame: FrameType | None) -> None:
    raise CistError(sentence)
