"""What a hyper-parameter of an objective may be, stated once, in its annotation.

The kinds below stand in the signature of an objective's function (``tau: Annotated[float, Number(above=0)] = 4.0``);
from there come the check, the text form and the form in the app.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any


class _Required:
    def __repr__(self) -> str:
        return "REQUIRED"


REQUIRED = _Required()
"""The default of a parameter that has none."""


@dataclass(frozen=True)
class Kind(ABC):
    """One kind of value: how it is checked, read from text and written back."""

    @abstractmethod
    def accept(self, value: object) -> Any:
        """The value in its own type.

        Raises:
            ValueError: if it is not one of this kind.
        """

    @abstractmethod
    def read(self, text: str) -> Any:
        """The value that a text stands for.

        Raises:
            ValueError: if it stands for none.
        """

    @abstractmethod
    def write(self, value: Any) -> str:
        """The shortest text that `read` turns into the same value."""

    @property
    @abstractmethod
    def expected(self) -> str:
        """What an error message asks for: "a positive number", ..."""


@dataclass(frozen=True)
class Number(Kind):
    """A finite number within bounds.

    Attributes:
        help: one line for a form.
        above: the number must be greater than this.
        minimum: the number must be at least this.
        below: the number must be less than this.
        maximum: the number must be at most this.
    """

    help: str = ""
    above: float = -math.inf
    minimum: float = -math.inf
    below: float = math.inf
    maximum: float = math.inf

    def accept(self, value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, Real):
            raise ValueError
        number = float(value)
        if not (math.isfinite(number) and self.above < number < self.below and self.minimum <= number <= self.maximum):
            raise ValueError
        return number

    def read(self, text: str) -> float:
        return self.accept(float(text))

    def write(self, value: float) -> str:
        return repr(float(value)).removesuffix(".0")

    @property
    def expected(self) -> str:
        if self.above == 0 and math.isinf(self.below) and math.isinf(self.maximum):
            return "a positive number"
        bounds = [
            f"{word} {limit:g}"
            for word, limit in (
                ("above", self.above),
                ("from", self.minimum),
                ("below", self.below),
                ("up to", self.maximum),
            )
            if math.isfinite(limit)
        ]
        return " ".join(["a number", *bounds])


@dataclass(frozen=True)
class Learnable(Number):
    """A number where a learnable parameter starts; the objective holds it as an ``nn.Parameter``."""


@dataclass(frozen=True)
class Numbers(Kind):
    """Several positive numbers, written ``4/3/5``."""

    help: str = ""

    def accept(self, value: object) -> tuple[float, ...]:
        if not isinstance(value, Sequence) or isinstance(value, str) or not value:
            raise ValueError
        return tuple(Number(above=0).accept(item) for item in value)

    def read(self, text: str) -> tuple[float, ...]:
        return self.accept([float(item) for item in text.split("/")])

    def write(self, value: tuple[float, ...]) -> str:
        return "/".join(Number().write(item) for item in value)

    @property
    def expected(self) -> str:
        return "positive numbers such as 4/3/5"


@dataclass(frozen=True)
class Choice(Kind):
    """One of a few words."""

    options: tuple[str, ...]
    help: str = ""

    def accept(self, value: object) -> str:
        if not isinstance(value, str) or value not in self.options:
            raise ValueError
        return value

    def read(self, text: str) -> str:
        return self.accept(text)

    def write(self, value: str) -> str:
        return value

    @property
    def expected(self) -> str:
        return f"one of {', '.join(self.options)}"


@dataclass(frozen=True)
class Switch(Kind):
    """Yes or no."""

    help: str = ""

    def accept(self, value: object) -> bool:
        if not isinstance(value, bool):
            raise ValueError
        return value

    def read(self, text: str) -> bool:
        return {"yes": True, "true": True, "no": False, "false": False}[text.lower()]

    def write(self, value: bool) -> str:
        return "yes" if value else "no"

    @property
    def expected(self) -> str:
        return "yes or no"


@dataclass(frozen=True)
class Parameter:
    """One hyper-parameter: enough to check it, to write it, and to build a form field.

    Attributes:
        name: as written.
        kind: what it may be; carries bounds or options, and a line of help.
        default: the published one, or `REQUIRED`.
    """

    name: str
    kind: Kind
    default: Any

    @property
    def required(self) -> bool:
        return self.default is REQUIRED

    @property
    def help(self) -> str:
        return str(getattr(self.kind, "help", ""))
