"""What a temperature rule is, and how one becomes known by its name.

A rule is written the same everywhere (command line, URL, configuration): ``tau=4``, ``cist:rho=3``, ``lskd:tau=2``,
``normkd:k=2``, ``dtkd:tau=4``, ``matched:H=0.6``.
"""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real
from typing import ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from cist_core.curves import EntropyCurves
from cist_core.errors import CistError


@dataclass(frozen=True)
class TemperatureRule(ABC):
    """One temperature per sample, from what is known of its logits.

    Subclasses are frozen dataclasses whose fields are positive numbers; the fields are the rule's parameters.
    """

    name: ClassVar[str] = ""
    label: ClassVar[str] = ""
    """The rule's name as a person reads it; the registered name where this is empty."""
    needs_student: ClassVar[bool] = False
    """Whether it reads `EntropyCurves.student` as well."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not (isinstance(value, Real) and 0 < float(value) < math.inf):
                raise CistError(
                    f"Expected {field.name} of the rule '{self.name}' to be a positive number, but got {value}."
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

    def __str__(self) -> str:
        fields = dataclasses.fields(self)
        if not dataclasses.fields(self):
            return self.name
        parameters = ",".join(f"{field.name}={_number(getattr(self, field.name))}" for field in fields)
        return parameters if self.name == FIXED else f"{self.name}:{parameters}"


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
        Cist(rho=3.0)
        >>> str(parse_rule("tau=4.0"))
        'tau=4'
    """
    name, colon, rest = text.strip().partition(":")
    if not colon:
        name, rest = (FIXED, name) if "=" in name else (name, "")
    if name not in _RULES:
        raise CistError(f"There is no temperature rule '{name}' in '{text}'; known are {_examples()}.")
    rule = _RULES[name]
    known = {field.name for field in dataclasses.fields(rule)}
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
            raise CistError(f"Expected {key} in '{text}' to be a positive number, but got '{value}'.") from None
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
