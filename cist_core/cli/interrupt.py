"""Ctrl-C while a library computes: Python hears it only once the library comes back."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

GRACE_SECONDS = 3.0
"""Time that the work has to come back from a library and end by itself."""
_INTERRUPTED = 130


@contextmanager
def ends_on_interrupt() -> Iterator[None]:
    """Whatever is done inside ends within `GRACE_SECONDS` of Ctrl-C, in the middle of a library's work if need be."""
    main_thread = threading.current_thread() is threading.main_thread()
    if not main_thread or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield  # somebody else answers it
        return
    read_end, write_end = os.pipe()
    if hasattr(os, "set_blocking"):  # on Windows from Python 3.12 on
        os.set_blocking(write_end, False)
    # The number of a signal goes into the pipe at once, whatever the main thread is doing.
    before = signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    over = threading.Event()
    watching = threading.Thread(target=_watch, args=(read_end, over), daemon=True)
    watching.start()
    try:
        yield
    finally:
        over.set()
        signal.set_wakeup_fd(before)
        os.close(write_end)  # which ends the reading
        watching.join()
        os.close(read_end)


def _watch(read_end: int, over: threading.Event) -> None:
    while numbers := os.read(read_end, 64):
        if signal.SIGINT in numbers:
            if not over.wait(GRACE_SECONDS):
                print("cist: Interrupted in the middle of a library's work.", file=sys.stderr, flush=True)
                os._exit(_INTERRUPTED)
            return
