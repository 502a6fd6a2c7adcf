"""What a temperature rule is, and how one becomes known by its name.

A rule is written the same everywhere (command line, URL, configuration): ``tau=4``, ``cist:rho=3``,
``cist:rho=3,floor=0``, ``lskd:tau=2``, ``normkd:k=2``, ``dtkd:tau=4``, ``matched:H=0.6``.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from cist_core import kernels
from cist_core.entropy.curves import EntropyCurves
from cist_core.errors import CistError
from cist_core.temperature.guards import TAU_MIN
from cist_core.temperature.parameters import (
    REQUIRED,
    Number,
    Parameter,
    Signature,
    did_you_mean,
    is_scalar_tensor,
    split_text,
)

if TYPE_CHECKING:
    from torch import Tensor

    from cist_core.temperature.logit_rows import LogitRows


@dataclass(frozen=True)
class TemperatureRule(ABC):
    """One temperature per sample, from what is known of its logits.

    `temperatures` has the formula in NumPy, for the analysis. A rule that `torch_temperatures` gives it in torch too
    (or `torch_pair`, where the temperatures of one model depend on the other) can be trained with.

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
            if not is_scalar_tensor(value):
                self.signature().accept(field.name, value)

    @abstractmethod
    def temperatures(self, curves: EntropyCurves) -> NDArray[np.floating]:
        """The temperature of every sample, ``(N,)``, in logit units."""

    def torch_temperatures(self, rows: LogitRows) -> Tensor:
        """The same in torch, ``(N,)``, from the logits of one model, whose gradient they carry.

        Raises:
            CistError: if the rule has no formula in torch.
        """
        raise CistError(
            f"The rule '{self.name}' is for analysis alone; to train with it, give its class the method "
            "`torch_temperatures`, the formula in torch."
        )

    def torch_pair(self, teacher: LogitRows, student: LogitRows) -> tuple[Tensor, Tensor]:
        """The temperatures of teacher and student, ``(N,)`` each; each model's by its own logits, unless overridden."""
        return self.torch_temperatures(teacher), self.torch_temperatures(student)

    def torch_least_damping(self, student: LogitRows, tau: Tensor) -> Tensor | None:
        """How far the gradient of a student row may be damped (`cist_core.objectives.Softening`), ``(N,)``; None: not.

        Without a floor, the temperature of a constant row (``m <= TAU_MIN``) is held by a guard alone: there this is 0
        unless overridden, and 1 elsewhere.

        Args:
            student: the student's logits.
            tau: its temperatures, ``(N,)``, without gradient.
        """
        return (student.maximum.detach() > TAU_MIN).to(tau.dtype)

    def entropy(self, curves: EntropyCurves) -> NDArray[np.float32]:
        """The entropy of every sample's soft labels under this rule, ``(N,)`` nats."""
        return curves.at_temperature(self.temperatures(curves))

    def ratios(self, curves: EntropyCurves, temperatures: NDArray[np.floating] | None = None) -> NDArray[np.float64]:
        """``m_i / tau_i`` of every sample, ``(N,)``; 0 for constant rows.

        Args:
            curves: of the samples.
            temperatures: under the rule, where they are known, so that they are not computed again.
        """
        tau = self.temperatures(curves) if temperatures is None else temperatures
        return np.asarray(np.divide(curves.statistics.maximum, tau, dtype=np.float64))

    def ratio_ranks(self, curves: EntropyCurves) -> NDArray[np.float64]:
        """Ranks of the `ratios` from 1 on, ``(N,)``; equal ratios share the mean of theirs."""
        return kernels.ranks(self.ratios(curves))

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

    @classmethod
    def signature(cls) -> Signature:
        """Its parameters, options included, with what each may be."""
        return _signature(cls, cls.name)

    @classmethod
    def can_train(cls) -> bool:
        """Whether it has its formula in torch."""
        return (cls.torch_temperatures, cls.torch_pair) != (
            TemperatureRule.torch_temperatures,
            TemperatureRule.torch_pair,
        )

    def __str__(self) -> str:
        if not self.written:
            return self.name
        parameters = self.signature().write(self.written)
        return parameters if self.name == FIXED else f"{self.name}:{parameters}"


def option(default: float) -> Any:
    """A parameter of a rule that may be 0, and stands in its text only where it departs from the default."""
    return dataclasses.field(default=default, metadata={"option": True})


def _is_option(field: dataclasses.Field[Any]) -> bool:
    return bool(field.metadata.get("option"))


@cache
def _signature(rule: type[TemperatureRule], name: str) -> Signature:
    def parameter(field: dataclasses.Field[Any]) -> Parameter:
        help_ = f"{field.name} of the rule {rule.label or name}"
        kind = Number(help_, minimum=0) if _is_option(field) else Number(help_, above=0)
        return Parameter(field.name, kind, REQUIRED if field.default is dataclasses.MISSING else field.default)

    return Signature("rule", name, tuple(map(parameter, dataclasses.fields(rule))))


RuleClass = TypeVar("RuleClass", bound=type[TemperatureRule])
FIXED = "fixed"
RULES: dict[str, type[TemperatureRule]] = {}


def register_rule(name: str) -> Callable[[RuleClass], RuleClass]:
    """Make a rule known by its name to `parse_rule`, and so to the command line, URLs and configurations.

    One that has its formula in torch is an objective of that name too (`cist_core.objectives.create_objective`).

    Raises:
        ValueError: if another rule has that name.
    """

    def register(rule: RuleClass) -> RuleClass:
        known = RULES.setdefault(name, rule)
        if known.__qualname__ != rule.__qualname__ or known.__module__ != rule.__module__:
            raise ValueError(f"The rule name '{name}' belongs to {known.__module__}.{known.__qualname__} already.")
        RULES[name] = rule
        rule.name = name
        return rule

    return register


def rule_names() -> list[str]:
    return sorted(RULES)


def rule_class(name: str) -> type[TemperatureRule]:
    """The rule that was registered under a name.

    Raises:
        CistError: if there is none.
    """
    if name not in RULES:
        raise CistError(f"There is no temperature rule '{name}'; known are {_examples()}.{did_you_mean(name, RULES)}")
    return RULES[name]


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
    name, written = split_text(text)
    if ":" not in text and "=" in name:
        key = name.partition("=")[0].strip()
        if key not in RULES[FIXED].parameter_names():
            raise CistError(f"The rule '{FIXED}' has no parameter '{key}' in '{text}'; write one of {_examples()}.")
        name, written = FIXED, name
    if name not in RULES:
        raise CistError(
            f"There is no temperature rule '{name}' in '{text}'; known are {_examples()}.{did_you_mean(name, RULES)}"
        )
    signature = RULES[name].signature()
    return RULES[name](**signature.complete(signature.read(written)))


def _examples() -> str:
    return ", ".join(
        (f"{name}:" if name != FIXED else "") + ",".join(f"{field.name}=..." for field in dataclasses.fields(rule))
        for name, rule in sorted(RULES.items())
    )
