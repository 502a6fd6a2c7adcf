"""What comes from outside is shown on a terminal and cannot command it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any, TextIO, cast

# Escape sequences recolour, overwrite and answer; the marks of direction show a text other than it is.
_COMMANDS = [*range(0x20), *range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)]
_SHOWN = {
    code: f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" for code in _COMMANDS if chr(code) not in "\t\n\r"
}


def printable(text: str) -> str:
    r"""The text with every control character written out; tabs, line feeds and carriage returns stay.

    Example:
        >>> printable("a\x1b[31mb")
        'a\\x1b[31mb'
    """
    return text.translate(_SHOWN)


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
