"""Maps from the classes of labels to those of a teacher, as people write them down."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cist_core.documents import parse_json
from cist_core.errors import CistError

Class = str | int
ClassMap = Mapping[Any, Class | None]  # of `Class`: keys of a mapping have one type, and JSON has only text

_MOST_BYTES = 16 << 20


def find_class(given: Class, names: Sequence[str] | None, count: int, owner: str) -> int:
    """The number of a class that is given by its name, or by its number as such or as text. A name comes first.

    Args:
        given: name or number from 0.
        names: of the classes, or None.
        count: of the classes.
        owner: whose they are, for errors.

    Raises:
        CistError: if there is no such class, or several have the name.

    Example:
        >>> find_class("dog", ["cat", "dog"], 2, "The teacher"), find_class("1", None, 2, "The teacher")
        (1, 1)
    """
    if isinstance(given, str) and names is not None:
        found = [number for number, name in enumerate(names) if name == given]
        if len(found) > 1:
            raise CistError(f"{owner} has {len(found)} classes called {given!r} ({found[:5]}); give the number of one.")
        if found:
            return found[0]
    number = int(given) if isinstance(given, int) or re.fullmatch("[0-9]{1,9}", given) else -1
    if not 0 <= number < count:
        known = "" if names is None else f": {', '.join(repr(name) for name in names[:10])}{', ...' * (count > 10)}"
        raise CistError(f"{owner} has no class {given!r}; it has {count:,}{known}.")
    return number


def parse_class_map(text: str) -> dict[Class, Class | None]:
    """Lines such as ``automobile = car``, the data's class before the teacher's; or the same as a JSON object.

    Nothing after the equals sign leaves the samples of that class out.

    Raises:
        CistError: for a line without an equals sign, a class that is mapped twice, or no line at all.

    Example:
        >>> parse_class_map("automobile = car\\n3 = cat\\ntruck =")
        {'automobile': 'car', '3': 'cat', 'truck': None}
    """
    if text.lstrip().startswith("{"):
        return _from_json(text)
    found: dict[Class, Class | None] = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        of_data, equals, of_teacher = (part.strip() for part in line.partition("="))
        if not (of_data and equals):
            raise CistError(f"Expected a line such as 'automobile = car' in the class map, but got '{line[:200]}'.")
        if of_data in found:
            raise CistError(f"The class map has two lines for '{of_data}'; keep one.")
        found[of_data] = of_teacher or None
    return found


def _from_json(text: str) -> dict[Class, Class | None]:
    try:
        found: Any = parse_json(text)
    except ValueError as error:
        raise CistError(f"The class map begins like JSON, but cannot be read as such ({error}).") from error
    fine = all(
        value is None or (isinstance(value, str | int) and not isinstance(value, bool)) for value in found.values()
    )
    if not fine:
        raise CistError('Expected a class map such as {"automobile": "car", "3": 5}, names or numbers of classes.')
    return {key: None if value == "" else value for key, value in found.items()}


def read_class_map(given: Sequence[str]) -> dict[Class, Class | None]:
    """A class map as it is given on the command line: a file of `parse_class_map`, or ``car=automobile`` items.

    Raises:
        CistError: as `parse_class_map`, and for a file that cannot be read.
    """
    if len(given) == 1 and os.path.isfile(given[0]):
        path = Path(given[0])
        try:
            if path.stat().st_size > _MOST_BYTES:
                raise CistError(f"{path} is larger than {_MOST_BYTES:,} bytes; a class map is not: is it another file?")
            text = path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise CistError(f"The class map {path} cannot be read ({error}).") from error
        found = parse_class_map(text)
        if not found:
            raise CistError(f"The class map {path} is empty; write lines such as 'automobile = car'.")
        return found
    for item in given:
        if "=" not in item:
            raise CistError(
                f"Expected a class map as items such as 'automobile=car', or one file of them, but got '{item}'."
            )
    return parse_class_map("\n".join(given))
