"""Who may write to a copy of a run: one process at a time, on whatever machine.

A lease is an object ``lease-N`` that only its holder writes, again and again. The next one is made by a write that the
store refuses if there is such an object (If-None-Match), so of two that try one wins. Nobody compares clocks: a lease
is over when its holder has said so, is known to be dead, or has not written for a while on the clock of the one who
waits. The last one stays when it is over, so that whoever slept meanwhile sees that others have been there.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import socket
import time
from collections.abc import Callable
from typing import Any

import psutil

from cist_core.documents import parse_json
from cist_core.errors import CistError
from cist_core.processes import age, is_alive, start_of
from cist_core.training.mirror.store import Store

RENEW_SECONDS = 10.0
STALE_SECONDS = 60.0
_NAME = re.compile(r"lease-(\d{9})")


class LeaseLost(CistError):  # noqa: N818 - what has happened to us, not a fault of ours
    """Another process has taken the run over."""


class Lease:
    """The right to write to a folder of a store.

    Args:
        store: the folder.
        stale_seconds: for so long a holder may not write before somebody else takes over.
        wait: called with seconds while another one's lease is watched.
    """

    def __init__(
        self, store: Store, *, stale_seconds: float = STALE_SECONDS, wait: Callable[[float], object] = time.sleep
    ) -> None:
        self._store = store
        self._stale_seconds = stale_seconds
        self._wait = wait
        self._token = secrets.token_hex(8)
        self._number = 0
        self._written = 0

    def take(self) -> None:
        """Have the lease, at once where nobody has it, or after its holder was silent for long enough.

        Raises:
            CistError: if another process works there, or the store would let two have the lease.
        """
        self._check_store()
        seen: tuple[int, bytes] | None = None
        since = time.monotonic()
        while True:
            newest = self._newest()
            if newest is not None and not _is_over(newest[1]):
                if seen is None:
                    seen, since = newest, time.monotonic()
                elif newest != seen:
                    raise CistError(
                        f"Another process trains the run in {self._store.url} ({_who(newest[1])}); wait for it, or "
                        "stop it."
                    )
                if time.monotonic() - since < self._stale_seconds:
                    self._wait(min(RENEW_SECONDS / 4, self._stale_seconds / 10))
                    continue
            self._number = 1 if newest is None else newest[0] + 1
            try:
                self._store.create(self._name(self._number), self._content())
            except FileExistsError:  # somebody was faster
                seen = None
                continue
            for number in self._numbers():
                if number < self._number:
                    self._store.remove(self._name(number))
            return

    def renew(self) -> None:
        """Show that we live.

        Raises:
            LeaseLost: if somebody else has the lease by now.
        """
        self.check()
        self._store.write(self._name(self._number), self._content())

    def check(self) -> None:
        """See that the lease is ours, and make it again where there is none at all, as in a store that was emptied.

        Raises:
            LeaseLost: if somebody else has the lease by now.
        """
        newest = self._newest()
        if newest is None:
            with contextlib.suppress(FileExistsError):
                self._store.create(self._name(self._number), self._content())
                return
            newest = self._newest()
        if newest is None:
            raise CistError(f"The store of {self._store.url} has and has not a lease; it is asked again.")
        if newest[0] != self._number or _field(newest[1], "token") != self._token:
            raise LeaseLost(
                f"The run in {self._store.url} was taken over ({_who(newest[1])}) while this process could not reach "
                f"it for more than {self._stale_seconds:g} seconds, so it ends here."
            )

    def release(self) -> None:
        """Let the next one begin at once."""
        with contextlib.suppress(LeaseLost):
            self.check()
            self._store.write(self._name(self._number), self._content(released=True))

    def _check_store(self) -> None:
        """Two writes under one name, of which the second must be refused."""
        probe = f"probe-{self._token}"
        self._store.create(probe, b"")
        try:
            self._store.create(probe, b"")
        except FileExistsError:
            return
        finally:
            self._store.remove(probe)
        raise CistError(
            f"The store of {self._store.url} overwrites what it was asked to make only if it is not there "
            "(If-None-Match), so nothing would keep two machines from one run; use another store, or copy the run "
            "directory by hand."
        )

    def _newest(self) -> tuple[int, bytes] | None:
        for number in sorted(self._numbers(), reverse=True):
            with contextlib.suppress(FileNotFoundError):  # just removed by the next one
                return number, self._store.read(self._name(number))
        return None

    def _numbers(self) -> list[int]:
        return [int(match[1]) for name in self._store.names() if (match := _NAME.fullmatch(name))]

    def _name(self, number: int) -> str:
        return f"lease-{number:09d}"

    def _content(self, *, released: bool = False) -> bytes:
        self._written += 1
        who = {"host": socket.gethostname(), "pid": os.getpid(), "started": start_of(os.getpid())}
        return json.dumps({"token": self._token, "written": self._written, "released": released, **who}).encode()


def is_lease(name: str) -> bool:
    """Whether an object of the store is a lease, or was made to find out whether there can be one."""
    return _NAME.fullmatch(name) is not None or name.startswith("probe-")


def _field(content: bytes, name: str) -> Any:
    try:
        found = parse_json(content)
    except ValueError:
        return None
    return found.get(name) if isinstance(found, dict) else None


def _who(content: bytes) -> str:
    return f"process {_field(content, 'pid')} on {_field(content, 'host')}"


def _is_over(content: bytes) -> bool:
    """Whether the holder has said so, or was a process of this machine, since it was started, and has ended."""
    if _field(content, "released") is True:
        return True
    pid, started = _field(content, "pid"), _field(content, "started")
    if not isinstance(pid, int) or not isinstance(started, str) or age(started) is None:
        return False  # of another machine, or another boot of this one
    with contextlib.suppress(psutil.Error, OSError, ValueError):
        return _field(content, "host") == socket.gethostname() and not is_alive(pid, started)
    return False
