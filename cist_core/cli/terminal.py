"""What comes from outside is shown on a terminal and cannot command it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any, TextIO, cast

from cist_core.plain_text import written_out


def printable(text: str) -> str:
    r"""The text with every control character written out; tabs, line feeds and carriage returns stay.

    Example:
        >>> printable("a\x1b[31mb")
        'a\\x1b[31mb'
    """
    return written_out(text, keep="\t\n\r")


@contextmanager
def printable_output() -> Iterator[None]:
    """Whatever is printed inside, on either stream, is `printable`."""
    with (
        redirect_stdout(cast(TextIO, _Printable(sys.stdout))),
        redirect_stderr(cast(TextIO, _Printable(sys.stderr))),
    ):
        yield


class _Printable:
    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        return self._stream.write(printable(text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
