"""What separates the columns of a text table, and the digits of its numbers: spreadsheets differ by country."""

from __future__ import annotations

import re

SEPARATORS = ",;\t"
_WITH_POINT = re.compile(r"\s*[+-]?\d*\.\d+([eE][+-]?\d+)?\s*")
_WITH_COMMA = re.compile(r"\s*[+-]?\d*,\d+([eE][+-]?\d+)?\s*")


def separator(header: str) -> str:
    """Comma, semicolon or tab: what the first line has most of outside quotes.

    Example:
        >>> separator("id;cat;dog"), separator('"cat, wild";dog')
        (';', ';')
    """
    bare = re.sub(r'"[^"]*"', "", header)
    return max(SEPARATORS, key=bare.count)


def stated_separator(first_line: str) -> str | None:
    """What ``sep=;`` in the first line says, which Excel writes and reads there; None for any other line.

    Example:
        >>> stated_separator("sep=;"), stated_separator("a;b")
        (';', None)
    """
    found = re.fullmatch(r"\s*sep=(.)\s*", first_line, re.IGNORECASE | re.DOTALL)
    return None if found is None else found[1]


def decimal_mark(lines: list[str], between: str) -> str:
    """Point or comma: what numbers below the header have in them; the comma only where it separates no columns.

    Example:
        >>> decimal_mark(["0,5;1", "-1,25;2"], ";"), decimal_mark(["0.5;1"], ";"), decimal_mark(["0,5,1"], ",")
        (',', '.', '.')
    """
    if between == ",":
        return "."
    cells = [cell.strip().strip('"') for line in lines for cell in line.split(between)]
    commas = sum(_WITH_COMMA.fullmatch(cell) is not None for cell in cells)
    points = sum(_WITH_POINT.fullmatch(cell) is not None for cell in cells)
    return "," if commas > points else "."
