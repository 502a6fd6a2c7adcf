"""What is known of an objective before one is made, read from the signature of its function."""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, ParamSpec

import torch
from torch import Tensor

from cist_core.objectives.batch import Logits
from cist_core.objectives.chunks import ChunkedLogits
from cist_core.objectives.terms import Terms
from cist_core.temperature.parameters import REQUIRED, Kind, Number, Parameter, Signature, is_scalar_tensor

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
        by_chunks: whether it takes `ChunkedLogits`, as its annotations say (`Logits`).
        all_at_once: why it does not, in words that follow its name.
    """

    name: str
    function: Callable[..., Terms]
    parameters: tuple[Parameter, ...]
    inputs: frozenset[str]
    summary: str
    check: Check | None = None
    by_chunks: bool = False
    all_at_once: str = ""

    @property
    def signature(self) -> Signature:
        """Its parameters as text."""
        return Signature("objective", self.name, self.parameters)


def specify(
    name: str,
    function: Callable[..., Terms],
    check: Check | None = None,
    *,
    bound: Collection[str] = (),
    all_at_once: str = "reads the logits of all samples at once",
) -> Specification:
    """The specification of a function.

    Args:
        name: as written in texts.
        function: the objective.
        check: refuses parameters that do not go together.
        bound: arguments that are neither inputs nor hyper-parameters, but given beforehand.
        all_at_once: why it takes no `ChunkedLogits`, unless it does.

    Raises:
        TypeError: if the signature is not that of an objective.
    """
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
        elif argument.name not in bound:
            raise TypeError(f"Annotate the parameter {argument.name} of the objective '{name}' with a kind.")
    missing = {*LOGITS, "mask"} - set(inputs)
    if missing:
        raise TypeError(f"The objective '{name}' does not take {', '.join(sorted(missing))}.")
    summary = (inspect.getdoc(function) or "").partition("\n")[0]
    by_chunks = hints.get("student_logits") == hints.get("teacher_logits") == Logits
    return Specification(
        name,
        function,
        tuple(parameters),
        frozenset(inputs),
        summary,
        check,
        by_chunks,
        "" if by_chunks else all_at_once,
    )


def guarded(function: Callable[P, Terms], specification: Specification) -> Callable[P, Terms]:
    """The function without autocast, and with its hyper-parameters checked where they do not come from a text."""
    signature = specification.signature
    kinds = {parameter.name: parameter.kind for parameter in specification.parameters}

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> Terms:
        for key, given in kwargs.items():
            if key in kinds and not (isinstance(kinds[key], Number) and is_scalar_tensor(given)):
                kwargs[key] = signature.accept(key, given)
        logits = kwargs.get("student_logits")
        if not isinstance(logits, Tensor | ChunkedLogits) or not torch.amp.is_autocast_available(logits.device.type):
            return function(*args, **kwargs)
        with torch.autocast(logits.device.type, enabled=False):
            return function(*args, **kwargs)

    return call
