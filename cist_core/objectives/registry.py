"""Objectives by name: a pure function becomes known, checked and callable as a module."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from cist_core.errors import CistError
from cist_core.objectives.any_rule import TRAINED_AS, rule_objectives, rule_specification
from cist_core.objectives.batch import Logits, NumItems
from cist_core.objectives.chunks import ChunkedLogits
from cist_core.objectives.presets import objective_presets
from cist_core.objectives.specification import Check, P, Specification, guarded, specify
from cist_core.objectives.terms import Terms
from cist_core.temperature import rule_names
from cist_core.temperature.parameters import Learnable, Parameter, did_you_mean, split_text

OBJECTIVES: dict[str, Specification] = {}


def register_objective(
    name: str, *, check: Check | None = None, all_at_once: str | None = None
) -> Callable[[Callable[P, Terms]], Callable[P, Terms]]:
    """Make a function an objective, known by its name to `create_objective`.

    The function takes keyword-only ``student_logits``, ``teacher_logits``, ``labels`` and ``mask``, where it knows them
    ``num_items``, ``epoch``, ``strong_student_logits`` and ``strong_teacher_logits``, and its hyper-parameters,
    annotated with a kind from `cist_core.temperature.parameters`. It comes back the same but for two things: autocast
    is off inside, and its hyper-parameters are checked.

    Args:
        name: as written in texts.
        check: refuses parameters that do not go together, before a run starts.
        all_at_once: why it cannot take `ChunkedLogits`, in words that follow its name. One that can says so by its
            annotations, ``student_logits: Logits``.

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
        >>> del OBJECTIVES["example"]
    """

    def register(function: Callable[P, Terms]) -> Callable[P, Terms]:
        known = OBJECTIVES.get(name)
        if known is not None and _home(known.function) != _home(function):
            raise ValueError(f"The objective name '{name}' belongs to {'.'.join(_home(known.function))} already.")
        if name in objective_presets():
            raise ValueError(f"The objective name '{name}' belongs to a preset already.")
        reason = {} if all_at_once is None else {"all_at_once": all_at_once}
        specification = specify(name, function, check, **reason)
        checked = guarded(function, specification)
        OBJECTIVES[name] = dataclasses.replace(specification, function=checked)
        return checked

    return register


def objective_names() -> list[str]:
    """Every name that `create_objective` knows, sorted: what is registered, and the rules that can be trained with."""
    return sorted({*OBJECTIVES, *rule_objectives()})


def objective_specification(name: str) -> Specification:
    """What is known of an objective: its parameters, inputs and summary.

    Args:
        name: of an objective, of a preset, which stands for its objective, or of a temperature rule that has its
            formula in torch, which stands for `rule_loss` under it.

    Raises:
        CistError: for an unknown name.
    """
    preset = objective_presets().get(name)
    found = OBJECTIVES.get(name if preset is None else preset.objective.partition(":")[0])
    if found is not None:
        return found
    if name in rule_objectives():
        return rule_specification(name)
    known = objective_names()
    remedy = did_you_mean(name, [*known, *objective_presets()])
    if name in TRAINED_AS:
        remedy = f" The rule '{name}' is trained with as '{TRAINED_AS[name]}'."
    elif name in rule_names():
        remedy = f" The rule '{name}' is for analysis alone, as it has no formula in torch (`torch_temperatures`)."
    raise CistError(
        f"There is no objective '{name}'; known are {', '.join(known)}, and the presets of 'cist objectives'.{remedy}"
    )


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
    name, written = split_text(text)
    specification = objective_specification(name)
    signature = specification.signature
    values = signature.add(signature.read(written), parameters)
    preset = objective_presets().get(name)
    as_published = preset is not None and not values
    if preset is not None:
        values = signature.read(split_text(preset.objective)[1]) | values
    values = signature.complete(values)
    if specification.check is not None:
        specification.check(values)
    return Objective(specification, values, preset=preset.name if preset is not None and as_published else None)


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
        student_logits: Logits,
        teacher_logits: Logits,
        labels: Tensor | None = None,
        mask: Tensor | None = None,
        num_items: NumItems = None,
        epoch: float | Tensor | None = None,
        strong_student_logits: Tensor | None = None,
        strong_teacher_logits: Tensor | None = None,
        **others: Any,
    ) -> Terms:
        """The named terms of one batch; see `cist_core.objectives.terms.Terms`.

        Args:
            student_logits: ``(B, C)`` or ``(B, L, C)``; or `ChunkedLogits`.
            teacher_logits: likewise.
            labels: ``(B,)`` or ``(B, L)`` integers. None where the objective reads none: with ``lambda_ce=0``, but for
                those that treat the label's class apart (DKD) or some samples by cross-entropy alone.
            mask: ``(B, L)`` boolean, true where a token counts.
            num_items: how many samples (tokens that count) the whole optimiser step has, over all of its micro-batches
                and processes; the scalar terms are then sums over this batch divided by that number. None: means over
                this batch. A number, or a scalar tensor; or a `StepMean`, for other means over the step.
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
        if any(isinstance(logits, ChunkedLogits) for logits in (student_logits, teacher_logits)):
            self.check_by_chunks()
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

    def check_by_chunks(self) -> None:
        """Whether it takes `ChunkedLogits`.

        Raises:
            CistError: if it does not, with the reason.
        """
        if not self.specification.by_chunks:
            raise CistError(
                f"The objective '{self.name}' {self.specification.all_at_once}, which language models have too many "
                "classes for; choose one that compares token by token, such as kd, cist, lskd, jsd or reverse-kl."
            )

    def __str__(self) -> str:
        written = {
            parameter.name: self._values[parameter.name]
            for parameter in self.specification.parameters
            if parameter.required or self._values[parameter.name] != parameter.default
        }
        return f"{self.name}:{self.specification.signature.write(written)}" if written else self.name

    def __repr__(self) -> str:
        return f"create_objective({str(self)!r})"


def _home(function: Callable[..., Terms]) -> tuple[str, str]:
    return function.__module__, function.__qualname__
