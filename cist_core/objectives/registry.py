"""Objectives by name: a pure function becomes known, checked and callable as a module."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ParamSpec

import torch
from torch import Tensor, nn

from cist_core.errors import CistError
from cist_core.objectives.parameters import REQUIRED, Kind, Learnable, Number, Parameter
from cist_core.objectives.presets import objective_presets
from cist_core.objectives.terms import Terms

P = ParamSpec("P")
Check = Callable[[Mapping[str, Any]], None]
"""Given every parameter by name, raises a `CistError` where one rules another out."""

LOGITS = ("student_logits", "teacher_logits", "labels")
OPTIONAL_INPUTS = ("mask", "num_items", "epoch", "strong_student_logits", "strong_teacher_logits")


@dataclass(frozen=True)
class Specification:
    """What is known of an objective before one is made.

    Attributes:
        name: as written.
        function: the pure function.
        parameters: its hyper-parameters, in the order of the signature.
        inputs: names of what a call hands it.
        summary: first line of the function's docstring.
        check: refuses parameters that do not go together.
    """

    name: str
    function: Callable[..., Terms]
    parameters: tuple[Parameter, ...]
    inputs: frozenset[str]
    summary: str
    check: Check | None = None


_OBJECTIVES: dict[str, Specification] = {}


def register_objective(name: str, *, check: Check | None = None) -> Callable[[Callable[P, Terms]], Callable[P, Terms]]:
    """Make a function an objective, known by its name to `create_objective`.

    The function takes keyword-only ``student_logits``, ``teacher_logits``, ``labels`` and ``mask``, where it knows them
    ``num_items``, ``epoch``, ``strong_student_logits`` and ``strong_teacher_logits``, and its hyper-parameters,
    annotated with a kind from `cist_core.objectives.parameters`. It comes back the same but for two things: autocast is
    off inside, and its hyper-parameters are checked.

    Args:
        name: as written in texts.
        check: refuses parameters that do not go together, before a run starts.

    Raises:
        ValueError: if another function, or a preset, has that name.
        TypeError: if the signature is another one.

    Example:
        >>> from typing import Annotated
        >>> from cist_core.objectives import Number
        >>> @register_objective("example")
        ... def squared_error(
        ...     *, student_logits, teacher_logits, labels, mask=None, scale: Annotated[float, Number(above=0)] = 1.0
        ... ):
        ...     '''Mean squared difference of the logits.'''
        ...     return {"total": scale * (student_logits - teacher_logits.detach()).square().mean()}
        >>> str(create_objective("example:scale=2"))
        'example:scale=2'
        >>> del _OBJECTIVES["example"]
    """

    def register(function: Callable[P, Terms]) -> Callable[P, Terms]:
        known = _OBJECTIVES.get(name)
        if known is not None and _home(known.function) != _home(function):
            raise ValueError(f"The objective name '{name}' belongs to {'.'.join(_home(known.function))} already.")
        if name in objective_presets():
            raise ValueError(f"The objective name '{name}' belongs to a preset already.")
        specification = _specify(name, function, check)
        guarded = _guarded(function, specification)
        _OBJECTIVES[name] = dataclasses.replace(specification, function=guarded)
        return guarded

    return register


def objective_names() -> list[str]:
    """Every name that `create_objective` knows, sorted."""
    return sorted(_OBJECTIVES)


def objective_specification(name: str) -> Specification:
    """What is known of an objective: its parameters, inputs and summary.

    Args:
        name: of an objective, or of a preset, which stands for its objective.

    Raises:
        CistError: for an unknown name.
    """
    preset = objective_presets().get(name)
    found = _OBJECTIVES.get(name if preset is None else preset.objective.partition(":")[0])
    if found is None:
        raise CistError(
            f"There is no objective '{name}'; known are {', '.join(objective_names())}, and the presets of "
            "'cist objectives'."
        )
    return found


def create_objective(text: str, /, **parameters: object) -> Objective:
    """Make an objective from its text, its parameters, or both.

    Args:
        text: ``name`` or ``name:parameter=value,...``. The name of a preset stands for its objective with its values,
            in the place of the defaults: ``cist-authors``, ``cist-authors:rho=4``.
        parameters: by name; each stands either here or in the text.

    Raises:
        CistError: for an unknown name or parameter, a value out of bounds, a parameter that is missing or stands twice.

    Example:
        >>> str(create_objective("cist:rho=4.0"))
        'cist:rho=4'
        >>> create_objective("dkd", beta=2).config()
        {'alpha': 1.0, 'beta': 2.0, 'tau': 4.0, 'warmup': 20.0, 'lambda_ce': 1.0}
        >>> str(create_objective("cist-authors:rho=4"))
        'cist:rho=4,lambda_kl=8'
    """
    if not isinstance(text, str):
        raise CistError(
            f"Expected an objective as text, such as 'cist:rho=4', but got {text!r}; 'cist objectives' lists them."
        )
    name, _, rest = text.strip().partition(":")
    specification = objective_specification(name.strip())
    values = _read(specification, rest)
    for key, given in parameters.items():
        _take(specification, values, key, given, from_text=False)
    preset = objective_presets().get(name.strip())
    as_published = preset is not None and not values
    if preset is not None:
        values = {**_read(specification, preset.objective.partition(":")[2]), **values}
    for parameter in specification.parameters:
        if parameter.name not in values and parameter.required:
            raise CistError(
                f"The objective '{specification.name}' needs {parameter.name}; write for example "
                f"'{specification.name}:{parameter.name}=...'."
            )
        values.setdefault(parameter.name, parameter.default)
    if specification.check is not None:
        specification.check(values)
    ordered = {parameter.name: values[parameter.name] for parameter in specification.parameters}
    return Objective(specification, ordered, preset=preset.name if preset is not None and as_published else None)


def _read(specification: Specification, written: str) -> dict[str, Any]:
    """``parameter=value,...`` as values by name."""
    values: dict[str, Any] = {}
    for item in filter(str.strip, written.split(",")):
        key, _, value = (part.strip() for part in item.partition("="))
        _take(specification, values, key, value, from_text=True)
    return values


def _take(specification: Specification, values: dict[str, Any], key: str, given: Any, *, from_text: bool) -> None:
    kinds = {parameter.name: parameter.kind for parameter in specification.parameters}
    if key not in kinds:
        raise CistError(
            f"The objective '{specification.name}' has no parameter '{key}'; it knows {', '.join(kinds) or 'none'}."
        )
    if key in values:
        raise CistError(
            f"The parameter '{key}' of the objective '{specification.name}' stands twice; give it one value."
        )
    values[key] = _accepted(specification.name, key, kinds[key], given, from_text=from_text)


def _accepted(name: str, key: str, kind: Kind, given: Any, *, from_text: bool = False) -> Any:
    try:
        return kind.read(given) if from_text else kind.accept(given)
    except (ValueError, KeyError, OverflowError):
        raise CistError(f"Expected {key} of the objective '{name}' to be {kind.expected}, but got '{given}'.") from None


class Objective(nn.Module):
    """An objective as a module: its function, with its hyper-parameters bound.

    A learnable hyper-parameter (the temperature of CTKD) is an ``nn.Parameter``: hand ``objective.parameters()`` to the
    optimiser beside those of the student. Made by `create_objective`.

    Attributes:
        specification: what is known of it.
        preset: the preset that it is, if it was asked for by that name and no value was changed.
    """

    def __init__(self, specification: Specification, values: Mapping[str, Any], *, preset: str | None = None) -> None:
        super().__init__()
        self.specification = specification
        self.preset = preset
        self._values = dict(values)
        for parameter in specification.parameters:
            if isinstance(parameter.kind, Learnable):
                start = torch.tensor(self._values[parameter.name], dtype=torch.float32)
                self.register_parameter(parameter.name, nn.Parameter(start))

    @property
    def name(self) -> str:
        return self.specification.name

    def fields(self) -> tuple[Parameter, ...]:
        """The hyper-parameters of this objective and no others, for a form."""
        return self.specification.parameters

    def config(self) -> dict[str, Any]:
        """The value of every hyper-parameter; a learnable one appears as it started."""
        return dict(self._values)

    def forward(
        self,
        *,
        student_logits: Tensor,
        teacher_logits: Tensor,
        labels: Tensor | None = None,
        mask: Tensor | None = None,
        num_items: float | Tensor | None = None,
        epoch: float | Tensor | None = None,
        strong_student_logits: Tensor | None = None,
        strong_teacher_logits: Tensor | None = None,
        **others: Any,
    ) -> Terms:
        """The named terms of one batch; see `cist_core.objectives.terms.Terms`.

        Args:
            student_logits: ``(B, C)`` or ``(B, L, C)``.
            teacher_logits: likewise.
            labels: ``(B,)`` or ``(B, L)`` integers. None where the objective reads none: with ``lambda_ce=0``, but for
                those that treat the label's class apart (DKD) or some samples by cross-entropy alone.
            mask: ``(B, L)`` boolean, true where a token counts.
            num_items: how many samples (tokens that count) the whole optimiser step has, over all of its micro-batches
                and processes; the scalar terms are then sums over this batch divided by that number. None: means over
                this batch. A number, or a scalar tensor.
            epoch: from 1, for the objectives that ramp up; the others do without. A scalar tensor on the device where a
                recorded CUDA graph is to read it anew at every replay.
            strong_student_logits: of a strongly augmented view, for the objectives with two views.
            strong_teacher_logits: likewise.

        Raises:
            CistError: for inputs that do not fit, or that this objective cannot use.
        """
        if others:
            raise CistError(
                f"The objective '{self.name}' takes no '{next(iter(others))}' with a batch; hyper-parameters are given "
                f"when it is made, as in create_objective('{self}')."
            )
        inputs = self.specification.inputs
        if "strong_student_logits" not in inputs and not (
            strong_student_logits is None and strong_teacher_logits is None
        ):
            raise CistError(
                f"The objective '{self.name}' uses one view; leave strong_student_logits and its teacher out."
            )
        if "num_items" not in inputs and num_items is not None:
            raise CistError(f"The objective '{self.name}' does not take num_items; leave it out.")
        optional = {
            "mask": mask,
            "num_items": num_items,
            "epoch": epoch,
            "strong_student_logits": strong_student_logits,
            "strong_teacher_logits": strong_teacher_logits,
        }
        return self.specification.function(
            student_logits=student_logits,
            teacher_logits=teacher_logits,
            labels=labels,
            **{key: value for key, value in optional.items() if key in inputs},
            **(self._values | dict(self.named_parameters())),
        )

    def __str__(self) -> str:
        written = [
            f"{parameter.name}={parameter.kind.write(self._values[parameter.name])}"
            for parameter in self.specification.parameters
            if parameter.required or self._values[parameter.name] != parameter.default
        ]
        return f"{self.name}:{','.join(written)}" if written else self.name

    def __repr__(self) -> str:
        return f"create_objective({str(self)!r})"


def _guarded(function: Callable[P, Terms], specification: Specification) -> Callable[P, Terms]:
    """The function without autocast, and with its hyper-parameters checked where they do not come from a text."""
    kinds = {parameter.name: parameter.kind for parameter in specification.parameters}

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> Terms:
        for key, given in kwargs.items():
            # A number may be a scalar tensor, whose value would have to be fetched from the device.
            if key in kinds and not (isinstance(given, Tensor) and given.dim() == 0 and isinstance(kinds[key], Number)):
                kwargs[key] = _accepted(specification.name, key, kinds[key], given)
        logits = kwargs.get("student_logits")
        if not isinstance(logits, Tensor) or not torch.amp.is_autocast_available(logits.device.type):
            return function(*args, **kwargs)
        with torch.autocast(logits.device.type, enabled=False):
            return function(*args, **kwargs)

    return call


def _home(function: Callable[..., Terms]) -> tuple[str, str]:
    return function.__module__, function.__qualname__


def _specify(name: str, function: Callable[..., Terms], check: Check | None) -> Specification:
    hints = typing.get_type_hints(function, include_extras=True)
    inputs: list[str] = []
    parameters: list[Parameter] = []
    for argument in inspect.signature(function).parameters.values():
        kinds = [item for item in getattr(hints.get(argument.name), "__metadata__", ()) if isinstance(item, Kind)]
        if argument.kind is not inspect.Parameter.KEYWORD_ONLY:
            raise TypeError(f"Expected the arguments of the objective '{name}' to be keyword-only: {argument.name}.")
        if kinds:
            default = REQUIRED if argument.default is argument.empty else kinds[0].accept(argument.default)
            parameters.append(Parameter(argument.name, kinds[0], default))
        elif argument.name in LOGITS + OPTIONAL_INPUTS:
            inputs.append(argument.name)
        else:
            raise TypeError(f"Annotate the parameter {argument.name} of the objective '{name}' with a kind.")
    missing = {*LOGITS, "mask"} - set(inputs)
    if missing:
        raise TypeError(f"The objective '{name}' does not take {', '.join(sorted(missing))}.")
    summary = (inspect.getdoc(function) or "").partition("\n")[0]
    return Specification(name, function, tuple(parameters), frozenset(inputs), summary, check)
