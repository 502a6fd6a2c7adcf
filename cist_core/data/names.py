"""What classes and splits are called."""

from __future__ import annotations

from collections.abc import Iterable

from cist_core.errors import CistError
from cist_core.plain_text import is_plain_text

MOST_CLASSES = 100_000
LONGEST_NAME = 1000
SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "val": "validation",
    "valid": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}
"""The split that a folder, a file or a value in a column means, by its name in lower case."""


def split_called(name: str) -> str:
    """Our name of a split; an unusual one stays as it is.

    Example:
        >>> split_called("Val"), split_called("unlabelled")
        ('validation', 'unlabelled')
    """
    return SPLIT_NAMES.get(name.lower(), name)


def checked_class_names(names: Iterable[object], where: str) -> tuple[str, ...]:
    """Class names as text. HTML and formulas stay what they are, text; whoever shows them escapes them.

    Args:
        names: one a class.
        where: what holds them, for errors.

    Raises:
        CistError: for too many classes, or a name that is overlong or holds control characters.
    """
    checked = tuple(name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name) for name in names)
    if len(checked) > MOST_CLASSES:
        raise CistError(
            f"{where} has {len(checked):,} classes; at most {MOST_CLASSES:,} are read. Are they the labels?"
        )
    for index, name in enumerate(checked):
        if len(name) > LONGEST_NAME or not is_plain_text(name):
            fault = f"is longer than {LONGEST_NAME} letters" if len(name) > LONGEST_NAME else "holds control characters"
            raise CistError(f"Class {index} of {where} is called {name[:40]!r}, which {fault}; rename it.")
    return checked
