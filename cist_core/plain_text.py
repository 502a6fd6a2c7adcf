"""The rule for names that come from files: what steers a terminal or a page, or fits in no file, is written out.

Every name passes here once, where it enters: `LogitSet.create` (classes, samples, provenance), `Teacher`, cards, what
is added, and the sentences of errors. Classes of images and the texts of a config, which are mended where they stand,
are refused.
"""

from __future__ import annotations

import re
from typing import Any

# Control characters, halves of a surrogate pair, which no encoding takes, the marks that turn the text around them, and
# the two that no XML may hold, an SVG among them.
_STEERING = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")


def is_plain_text(text: str) -> bool:
    """Whether text holds no character that steers a terminal or a page, or that no file can be written with."""
    return _STEERING.search(text) is None


def written_out(text: str, *, keep: str = "") -> str:
    r"""The text with every such character as Python would write it.

    Args:
        text: of any kind.
        keep: characters that stay as they are.

    Example:
        >>> written_out("a\x1b[31m\ud800b"), written_out("two\nlines", keep="\n")
        ('a\\x1b[31m\\ud800b', 'two\nlines')
    """
    return _STEERING.sub(lambda found: found[0] if found[0] in keep else _code(ord(found[0])), text)


def all_written_out(content: Any) -> Any:
    r"""What a JSON file holds, with every text `written_out`, names of fields included.

    Example:
        >>> all_written_out({"title": ["a\x00", 3, None]})
        {'title': ['a\\x00', 3, None]}
    """
    if isinstance(content, str):
        return written_out(content)
    if isinstance(content, dict):
        return {all_written_out(name): all_written_out(value) for name, value in content.items()}
    if isinstance(content, list | tuple):
        return type(content)(map(all_written_out, content))
    return content


def _code(number: int) -> str:
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}"
