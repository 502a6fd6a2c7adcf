"""What a temperature rule is, and how one becomes known by its name.

A rule is written the same everywhere (command line, URL, configuration): ``tau=4``, ``cist:rho=3``,
``cist:rho=3,floor=0``, ``lskd:tau=2``, ``normkd:k=2``, ``dtkd:tau=4``, ``matched:H=0.6``.
"""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from cist_core.entropy.curves import EntropyCurves
from cist_core.errors import CistError


@dataclass(frozen=True)
class TemperatureRule(ABC):
    """One temperature per sample, from what is known of its logits.

    Subclasses are frozen dataclasses whose fields are positive numbers; the fields are the rule's parameters. A field
    made by `option` may be 0 as well.
    """

    name: ClassVar[str] = ""
    label: ClassVar[str] = ""
    """The rule's name as a person reads it; the registered name where this is empty."""
    needs_student: ClassVar[bool] = False
    """Whether it reads `EntropyCurves.student` as well."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not (isinstance(value, Real) and 0 <= float(value) < math.inf and (value or _is_option(field))):
                raise CistError(
                    f"Expected {field.name} of the rule '{self.name}' to be {_expected(field)}, but got {value}."
                )

    @abstractmethod
    def temperatures(self, curves: EntropyCurves) -> NDArray[np.floating]:
        """The temperature of every sample, ``(N,)``, in logit units."""

    def entropy(self, curves: EntropyCurves) -> NDArray[np.float32]:
        """The entropy of every sample's soft labels under this rule, ``(N,)`` nats."""
        return curves.at_temperature(self.temperatures(curves))

    def ratios(self, curves: EntropyCurves) -> NDArray[np.float64]:
        """``m_i / tau_i`` of every sample, ``(N,)``; 0 for constant rows."""
        return np.asarray(curves.statistics.maximum.astype(np.float64) / self.temperatures(curves))

    def at_floor(self, curves: EntropyCurves) -> NDArray[np.bool_]:
        """Where a floor of the rule, and not its formula, decides the temperature, ``(N,)``; nowhere by default."""
        return np.zeros(curves.num_samples, dtype=np.bool_)

    def student_at_floor(self, curves: EntropyCurves) -> NDArray[np.bool_] | None:
        """The same of the student beside the curves (`EntropyCurves.beside`), ``(N,)``; None without one."""
        return None if curves.student is None else np.zeros(curves.num_samples, dtype=np.bool_)

    @property
    def written(self) -> dict[str, float]:
        """The parameters that a text names: all but the options that are as by default."""
        values = {field: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {field.name: value for field, value in values.items() if not _is_option(field) or value != field.default}

    @classmethod
    def parameter_names(cls) -> list[str]:
        """The parameters that every rule of this kind needs; options are left out."""
        return [field.name for field in dataclasses.fields(cls) if not _is_option(field)]

    def __str__(self) -> str:
        if not self.written:
            return self.name
        parameters = ",".join(f"{name}={_number(value)}" for name, value in self.written.items())
        return parameters if self.name == FIXED else f"{self.name}:{parameters}"


def option(default: float) -> Any:
    """A parameter of a rule that may be 0, and stands in its text only where it departs from the default."""
    return dataclasses.field(default=default, metadata={"option": True})


def _is_option(field: dataclasses.Field[Any]) -> bool:
    return bool(field.metadata.get("option"))


def _expected(field: dataclasses.Field[Any]) -> str:
    return "0 or a positive number" if _is_option(field) else "a positive number"


RuleClass = TypeVar("RuleClass", bound=type[TemperatureRule])
FIXED = "fixed"
_RULES: dict[str, type[TemperatureRule]] = {}


def register_rule(name: str) -> Callable[[RuleClass], RuleClass]:
    """Make a rule known by its name to `parse_rule`, and so to the command line, URLs and configurations.

    Raises:
        ValueError: if another rule has that name.
    """

    def register(rule: RuleClass) -> RuleClass:
        known = _RULES.setdefault(name, rule)
        if known.__qualname__ != rule.__qualname__ or known.__module__ != rule.__module__:
            raise ValueError(f"The rule name '{name}' belongs to {known.__module__}.{known.__qualname__} already.")
        _RULES[name] = rule
        rule.name = name
        return rule

    return register


def rule_names() -> list[str]:
    return sorted(_RULES)


def rule_class(name: str) -> type[TemperatureRule]:
    """The rule that was registered under a name.

    Raises:
        CistError: if there is none.
    """
    if name not in _RULES:
        raise CistError(f"There is no temperature rule '{name}'; known are {_examples()}.")
    return _RULES[name]


def parse_rule(text: str) -> TemperatureRule:
    """Read a rule from its text: ``name:parameter=value,...``, or ``tau=4`` for a fixed temperature.

    Raises:
        CistError: for an unknown name or parameter, or a value that is not a positive number.

    Example:
        >>> parse_rule("cist:rho=3")
        Cist(rho=3.0, floor=1.0)
        >>> str(parse_rule("tau=4.0"))
        'tau=4'
        >>> str(parse_rule("cist:rho=3,floor=0"))
        'cist:rho=3,floor=0'
    """
    name, colon, rest = text.strip().partition(":")
    if not colon:
        name, rest = (FIXED, name) if "=" in name else (name, "")
    if name not in _RULES:
        raise CistError(f"There is no temperature rule '{name}' in '{text}'; known are {_examples()}.")
    rule = _RULES[name]
    known = {field.name: field for field in dataclasses.fields(rule)}
    parameters: dict[str, float] = {}
    for item in filter(None, rest.split(",")):
        key, _, value = (part.strip() for part in item.partition("="))
        if key in parameters:
            raise CistError(f"The parameter '{key}' stands twice in '{text}'; give it one value.")
        if key not in known:
            raise CistError(f"The rule '{name}' has no parameter '{key}' in '{text}'; write one of {_examples()}.")
        try:
            parameters[key] = float(value)
        except ValueError:
            raise CistError(f"Expected {key} in '{text}' to be {_expected(known[key])}, but got '{value}'.") from None
    missing = [
        field.name
        for field in dataclasses.fields(rule)
        if field.name not in parameters and field.default is dataclasses.MISSING
    ]
    if missing:
        raise CistError(f"The rule '{name}' in '{text}' lacks {missing[0]}; write one of {_examples()}.")
    return rule(**parameters)


def _examples() -> str:
    return ", ".join(
        (f"{name}:" if name != FIXED else "") + ",".join(f"{field.name}=..." for field in dataclasses.fields(rule))
        for name, rule in sorted(_RULES.items())
    )


def _number(value: float) -> str:
    """The shortest text that reads back as the same number, without a trailing ``.0``."""
    return repr(float(value)).removesuffix(".0")
