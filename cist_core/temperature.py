"""Temperature rules: anything that gives each sample a temperature.

A rule is written the same everywhere (command line, URL, configuration): ``tau=4``, ``cist:rho=3``, ``lskd:tau=2``,
``normkd:k=2``, ``matched:H=0.6``. A new rule is a frozen dataclass with a `temperatures` method and a name::

    @register_rule("linear")
    @dataclass(frozen=True)
    class Linear(TemperatureRule):
        slope: float = 1.0

        def temperatures(self, curves):
            return self.slope * curves.statistics.gap
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

TAU_MIN = 1e-6
"""Smallest temperature CIST gives, in logit units: a row whose centred maximum is below ``rho * TAU_MIN`` is constant
in float32 for any logits of ordinary size. The text states no guard; this one is our choice."""

LSKD_EPSILON = 1e-7
"""Added to the deviation by LSKD's published code."""


@dataclass(frozen=True)
class TemperatureRule(ABC):
    """One temperature per sample, from what is known of its logits.

    Subclasses are frozen dataclasses whose fields are positive numbers; the fields are the rule's parameters.
    """

    name: ClassVar[str] = ""

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


@register_rule(FIXED)
@dataclass(frozen=True)
class Fixed(TemperatureRule):
    """One temperature for all samples (Hinton et al. 2015, arXiv 1503.02531)."""

    tau: float

    def temperatures(self, curves: EntropyCurves) -> NDArray[np.floating]:
        return np.full(curves.num_samples, self.tau)


@register_rule("cist")
@dataclass(frozen=True)
class Cist(TemperatureRule):
    """``tau_i = max(m_i / rho, TAU_MIN)``: the same ratio for every sample (arXiv 2605.20357)."""

    rho: float

    def temperatures(self, curves: EntropyCurves) -> NDArray[np.floating]:
        return np.asarray(np.maximum(curves.statistics.maximum.astype(np.float64) / self.rho, TAU_MIN))


@register_rule("lskd")
@dataclass(frozen=True)
class Lskd(TemperatureRule):
    """``tau_i = (std(z_i) + 1e-7) * tau``: z-scored logits at a base temperature (Sun et al. 2024, arXiv 2403.01427).

    The deviation divides by C - 1, as the published code does.
    """

    tau: float = 2.0

    def temperatures(self, curves: EntropyCurves) -> NDArray[np.floating]:
        return np.asarray((_sample_deviation(curves) + LSKD_EPSILON) * self.tau)


@register_rule("normkd")
@dataclass(frozen=True)
class NormKd(TemperatureRule):
    """``tau_i = max(std(z_i) * k, TAU_MIN)`` (Chi et al. 2023, arXiv 2308.00520).

    The published code gives NaN for a constant row; the guard is ours.
    """

    k: float = 2.0

    def temperatures(self, curves: EntropyCurves) -> NDArray[np.floating]:
        return np.asarray(np.maximum(_sample_deviation(curves) * self.k, TAU_MIN))


@register_rule("matched")
@dataclass(frozen=True)
class Matched(TemperatureRule):
    """The oracle: the temperature at which each sample's entropy is exactly ``H`` nats.

    It is the upper bound of consistency, found by bisection on each curve. A sample that cannot reach ``H`` (its
    largest logit is tied, so its entropy never falls below the logarithm of the number of tied classes) takes the
    temperature that comes closest.
    """

    H: float

    # exp(-7) to exp(14): from "every class alike" to "one class in a million times the second" for any real row.
    _LOG_RATIOS: ClassVar[tuple[float, float]] = (-7.0, 14.0)
    _STEPS: ClassVar[int] = 32

    def temperatures(self, curves: EntropyCurves) -> NDArray[np.floating]:
        if curves.max_entropy <= self.H:
            raise CistError(
                f"Expected H of the rule '{self}' to be below ln C = {curves.max_entropy:.4f} nats for "
                f"{curves.num_classes} classes; choose a smaller H."
            )
        low = np.full(curves.num_samples, self._LOG_RATIOS[0])
        high = np.full(curves.num_samples, min(self._LOG_RATIOS[1], math.log(curves.max_ratio)))
        if not curves.exact and np.any(curves.at_ratio(curves.max_ratio) > self.H):
            raise CistError(
                f"Some samples reach H = {self.H:g} nats only beyond the table of this stream; choose a larger H, or "
                "load the logits into memory."
            )
        for _ in range(self._STEPS):
            middle = (low + high) / 2
            too_soft = curves.at_ratio(np.exp(middle)) > self.H
            low, high = np.where(too_soft, middle, low), np.where(too_soft, high, middle)
        return np.asarray(np.maximum(curves.statistics.maximum / np.exp(high), TAU_MIN))


def _sample_deviation(curves: EntropyCurves) -> NDArray[np.float64]:
    classes = curves.num_classes
    return np.asarray(curves.statistics.std.astype(np.float64) * math.sqrt(classes / (classes - 1)))
