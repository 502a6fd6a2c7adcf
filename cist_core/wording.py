"""Numbers as sentences write them: the same digits in the app, the report and the terminal."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Mapping
from typing import Any

_SAMPLES = re.compile(r"\b([Ss])ample(s?)\b(?! size)")


def three_digits(value: float) -> str:
    """Three significant digits without an exponent for ordinary sizes: ``0.603``, ``12.0``, ``1,230``, ``0``."""
    if value == 0:
        return "0"
    size = abs(value)
    if not 1e-4 <= size < 1e6:
        return f"{value:.2e}"
    rounded = f"{value:.2e}"
    exponent = int(rounded.partition("e")[2])
    return f"{float(rounded):,.{max(0, 2 - exponent)}f}"


LARGEST_LOG = math.log(sys.float_info.max)
"""From here on, ``exp`` is no number."""


def perplexity(nll: float) -> str:
    """The perplexity of a mean negative log-likelihood in nats, ``exp(nll)``, for people.

    Example:
        >>> perplexity(3.0), perplexity(1e4)
        ('20.1', 'beyond all numbers')
    """
    return three_digits(math.exp(nll)) if nll < LARGEST_LOG else "beyond all numbers"


def percent(share: float) -> str:
    """A share as a percentage to one decimal, two below 1 %; never rounded to 0 or 100 % when it is not."""
    if share in (0.0, 1.0):
        return f"{share * 100:.0f} %"
    if share < 0.0001:
        return "< 0.01 %"
    if share < 0.01:
        return f"{share * 100:.2f} %"
    if share > 0.999:
        return "> 99.9 %"
    return f"{share * 100:.1f} %"


def times(factor: float) -> str:
    """A factor, to be read before "times": ``1.3``, ``12.0``, ``123``."""
    return f"{factor:.1f}" if factor < 100 else f"{factor:,.0f}"


def how_many(share: float) -> str:
    """A share of the samples, to be read before "of the samples": ``none``, ``all``, ``3.1 %``."""
    return {0.0: "none", 1.0: "all"}.get(share, percent(share))


def of_tokens(text: str) -> str:
    """A sentence about samples as one about the tokens of a text.

    Example:
        >>> of_tokens("Effective sample size: 12 of 400 samples; a sample at the floor")
        'Effective sample size: 12 of 400 tokens; a token at the floor'
    """
    return _SAMPLES.sub(lambda found: f"{'T' if found[1] == 'S' else 't'}oken{found[2]}", text)


def all_of_tokens(content: Any) -> Any:
    """The same of every text in JSON; names of fields stay."""
    if isinstance(content, str):
        return of_tokens(content)
    if isinstance(content, Mapping):
        return {name: all_of_tokens(value) for name, value in content.items()}
    return [all_of_tokens(each) for each in content] if isinstance(content, list | tuple) else content


def byte_size(count: float, *, binary: bool = False) -> str:
    """A number of bytes as a person reads it.

    Example:
        >>> byte_size(123_456), byte_size(50e9), byte_size(3 << 30, binary=True)
        ('123.5 kB', '50.0 GB', '3.0 GiB')
    """
    from humanize import naturalsize

    return naturalsize(count, binary=binary)


def percent_of(part: float, whole: float) -> str:
    """A part as a percentage of a whole, which it may exceed."""
    return "none" if part == 0 else percent(part / whole) if part <= whole else f"{part / whole * 100:.0f} %"
