"""What the server does once, and from then on by itself, so that many people can come and go."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import logging
import sys
import threading
from typing import Any

from streamlit import runtime

HANDLES = 65_536
"""Open files that are enough: a session takes four, and some programs go through all that they may have."""

_LOOK_EVERY = 5.0  # seconds


_log = logging.getLogger(__name__)
_begun = threading.Lock()  # not a cache of Streamlit's, which any browser may ask it to clear


def keep_house() -> None:
    """Once a server: allow as many open files as the machine does, and forget who has left."""
    if runtime.exists() and _begun.acquire(blocking=False):
        raise_handles()
        Sweeper(runtime.get_instance()).start()


def raise_handles() -> None:
    """Raise the soft limit of open files to the hard one, up to `HANDLES`; nothing where there is no such limit.

    Most systems begin with 1,024, which 250 people use up.
    """
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = HANDLES if hard == resource.RLIM_INFINITY else min(hard, HANDLES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (ValueError, OSError):  # macOS allows fewer than it says
            return


class Sweeper:
    """Gives back what the sessions held whose time is over (`server.disconnectedSessionTTL`).

    Streamlit itself forgets them when the next visitor leaves, which after a lesson may be the next day.
    """

    def __init__(self, server: runtime.Runtime) -> None:
        self._server = server

    def start(self) -> None:
        """Look from now on; where Streamlit has been made otherwise, say so in the log and leave it alone."""
        try:
            loop: asyncio.AbstractEventLoop = self._server._get_async_objs().eventloop
            self._cache()
        except (AttributeError, RuntimeError) as error:
            _log.warning("Sessions that have left are forgotten when Streamlit does so only: %s", error)
            return
        loop.call_soon_threadsafe(self.look, loop)

    def _cache(self) -> Any:
        """Where Streamlit keeps who has left; no public interface of it does."""
        return self._server._session_mgr._session_storage._cache  # type: ignore[attr-defined]

    def look(self, loop: asyncio.AbstractEventLoop) -> None:
        """On the server's own loop, where Streamlit does the same."""
        try:
            if self._cache().expire():
                gc.collect()  # sessions are circles, and end when they are collected
                _return_memory()
        finally:
            loop.call_later(_LOOK_EVERY, self.look, loop)


def _return_memory() -> None:
    """Let the allocator of Linux give what is free back to the machine: of 33 MB that 40 people took it kept all."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it, musl does not
        if trim is not None:
            trim(0)
