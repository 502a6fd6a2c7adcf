"""The parameters of temperature rules and objectives: what each may be, and ``name:parameter=value,...`` as text.

A kind says it once. It stands in the signature of an objective's function (``tau: Annotated[float, Number(above=0)] =
4.0``) and behind the field of a rule; from there come the check, the text form and the form in the app.
"""

from __future__ import annotations

import difflib
import math
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

from cist_core.errors import CistError


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
        if math.isinf(self.below) and math.isinf(self.maximum):
            if self.above == 0:
                return "a positive number"
            if self.minimum == 0:
                return "0 or a positive number"
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


@dataclass(frozen=True)
class Signature:
    """The parameters of one rule or objective, and what is said of a value that does not fit.

    Attributes:
        what: "rule" or "objective".
        name: as registered.
        parameters: in the order in which they are written.

    Example:
        >>> signature = Signature("rule", "cist", (Parameter("rho", Number(above=0), REQUIRED),))
        >>> signature.read(" rho = 3.0 ")
        {'rho': 3.0}
        >>> signature.write({"rho": 3.0})
        'rho=3'
    """

    what: str
    name: str
    parameters: tuple[Parameter, ...]

    def read(self, written: str) -> dict[str, Any]:
        """``parameter=value,...`` as values by name.

        Raises:
            CistError: for a parameter that is not known or stands twice, and a value that it cannot have.
        """
        values: dict[str, Any] = {}
        for item in filter(str.strip, written.split(",")):
            key, _, text = (part.strip() for part in item.partition("="))
            self._check_new(key, values)
            values[key] = self._checked(key, text, from_text=True)
        return values

    def add(self, values: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
        """The values, and those given in code beside them.

        Raises:
            CistError: as `read`.
        """
        added = dict(values)
        for key, value in given.items():
            self._check_new(key, added)
            added[key] = self.accept(key, value)
        return added

    def accept(self, key: str, value: object) -> Any:
        """A value of a known parameter, in its own type.

        Raises:
            CistError: if it cannot have it.
        """
        return self._checked(key, value, from_text=False)

    def complete(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Every parameter in its order, with its default where there is no value.

        Raises:
            CistError: if one without a default has no value.
        """
        for parameter in self.parameters:
            if parameter.required and parameter.name not in values:
                raise CistError(
                    f"The {self.what} '{self.name}' needs {parameter.name}; write for example "
                    f"'{self.name}:{parameter.name}=...'."
                )
        return {parameter.name: values.get(parameter.name, parameter.default) for parameter in self.parameters}

    def write(self, values: Mapping[str, Any]) -> str:
        """The values that there are as ``parameter=value,...``."""
        return ",".join(
            f"{parameter.name}={parameter.kind.write(values[parameter.name])}"
            for parameter in self.parameters
            if parameter.name in values
        )

    def _check_new(self, key: str, values: Mapping[str, Any]) -> None:
        known = [parameter.name for parameter in self.parameters]
        if key not in known:
            raise CistError(
                f"The {self.what} '{self.name}' has no parameter '{key}'; it knows {', '.join(known) or 'none'}."
                f"{did_you_mean(key, known)}"
            )
        if key in values:
            raise CistError(f"The parameter '{key}' of the {self.what} '{self.name}' stands twice; give it one value.")

    def _checked(self, key: str, given: Any, *, from_text: bool) -> Any:
        kind = next(parameter.kind for parameter in self.parameters if parameter.name == key)
        try:
            return kind.read(given) if from_text else kind.accept(given)
        except (ValueError, KeyError, OverflowError):
            shown = f"'{given}'" if isinstance(given, str) else given
            raise CistError(
                f"Expected {key} of the {self.what} '{self.name}' to be {kind.expected}, but got {shown}."
            ) from None


def split_text(text: str) -> tuple[str, str]:
    """The name of a rule or objective and its parameters as they are written, from ``name:parameter=value,...``."""
    name, _, written = text.partition(":")
    return name.strip(), written


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A question that names the nearest of the known names, to stand after a sentence; empty where none is near."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean '{near[0]}'?" if near else ""


def is_scalar_tensor(value: object) -> bool:
    """Whether a value is a scalar tensor of torch, which no check reads: it would have to come from the device."""
    # Another thread may be importing torch at this moment, and then it has no Tensor yet.
    tensor = getattr(sys.modules.get("torch"), "Tensor", None)
    return tensor is not None and isinstance(value, tensor) and value.dim() == 0
