"""A grid of configs: every method with every value of its parameters, every value of other fields, every seed."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cist_core.documents import parse_json
from cist_core.errors import CistError
from cist_core.training.fields import nested

if TYPE_CHECKING:
    from cist_core.training.config import ObjectiveConfig, RunConfig

_OWN_OPTION = {"seed": "--seeds", "objective": "--objective"}


@dataclass(frozen=True)
class SweepEntry:
    """One run of a sweep."""

    name: str
    config: RunConfig


@dataclass(frozen=True)
class _Axis:
    """One field and the values it takes, as text."""

    field: str
    text: str
    is_config_field: bool

    def words(self) -> list[str]:
        return [word.strip() for word in self.text.split(",") if word.strip()]

    def values(self) -> list[Any]:
        """As JSON where it is JSON (``0.1``, ``true``, ``[150,180]``), else as words."""
        try:
            values: list[Any] = parse_json(f"[{self.text}]")
        except ValueError:
            return self.words()
        return values


def expand_sweep(
    base: RunConfig, *, objectives: Sequence[str] = (), grid: Sequence[str] = (), seeds: Sequence[int] = ()
) -> list[SweepEntry]:
    """All combinations, each once; the seeds of one setting follow each other.

    Args:
        base: what the runs have in common.
        objectives: texts such as ``"kd"``, ``"cist:rho=4"`` or ``"cist-authors"``; default: that of ``base``. One that
            needs a parameter and lacks it has that of ``base``.
        grid: ``field=value,value,...``, where a field is a hyper-parameter of objectives (it applies to those that have
            it) or a field of the config (``epochs``, ``optimiser.learning_rate``).
        seeds: default: that of ``base``.

    Raises:
        CistError: for a field that nothing has, a value out of bounds, or what stands twice.

    Example:
        >>> from cist_core.training import preset
        >>> for entry in expand_sweep(preset("demo"), objectives=["ce", "kd", "cist"], grid=["tau=2,8"], seeds=[0]):
        ...     print(entry.name)
        ce, seed 0
        kd:tau=2, seed 0
        kd:tau=8, seed 0
        cist:rho=4, seed 0
    """
    axes = [_axis(text, base) for text in grid]
    _refuse_repeats("seed", seeds)
    _refuse_repeats("field in the grid", [axis.field for axis in axes])
    parameter_axes = [axis for axis in axes if not axis.is_config_field]
    fields = {axis.field for axis in parameter_axes}
    methods = [base.objective.fill_in(text, given=fields) for text in objectives] or [_without(base.objective, fields)]
    _refuse_unused(parameter_axes, methods)
    settings: dict[str, tuple[str, RunConfig]] = {}
    for method in methods:
        for objective in _objective_texts(method, parameter_axes):
            for changes in _products([axis for axis in axes if axis.is_config_field]):
                config = base.changed(**nested({**changes, "objective": objective, "seed": base.seed}))
                name = ", ".join(
                    [
                        config.objective.label,
                        *(f"{field.rpartition('.')[2]}={value}" for field, value in changes.items()),
                    ]
                )
                settings.setdefault(config.unnamed().model_dump_json(), (name, config))
    return [
        SweepEntry(f"{name}, seed {seed}", config.changed(seed=seed))
        for name, config in settings.values()
        for seed in seeds or [base.seed]
    ]


def _without(objective: ObjectiveConfig, fields: set[str]) -> str:
    """The objective of the config as text, but for the parameters that the grid gives."""
    if objective.preset is not None and not fields & objective.parameters.keys():
        return objective.preset
    name, _, written = str(objective).partition(":")
    kept = [item for item in written.split(",") if item and item.partition("=")[0] not in fields]
    return f"{name}:{','.join(kept)}" if kept else name


def _axis(text: str, base: RunConfig) -> _Axis:
    field, _, values = (part.strip() for part in text.partition("="))
    top = field.partition(".")[0]
    axis = _Axis(field, values, top in type(base).model_fields)
    if not field or not axis.words():
        raise CistError(f"Expected --grid FIELD=VALUE,VALUE,..., but got '{text}'; write for example tau=1,2,4.")
    if top in _OWN_OPTION:
        raise CistError(f"The field '{field}' has an option of its own: {_OWN_OPTION[top]}, not --grid.")
    return axis


def _refuse_repeats(what: str, values: Sequence[object]) -> None:
    for value in values:
        if values.count(value) > 1:
            raise CistError(f"The {what} '{value}' stands twice; once is enough.")


def _refuse_unused(axes: Sequence[_Axis], methods: Sequence[str]) -> None:
    known = {method.partition(":")[0].strip(): _parameters(method) for method in methods}
    for axis in axes:
        if not any(axis.field in parameters for parameters in known.values()):
            has = "; ".join(f"{name} has {', '.join(parameters) or 'none'}" for name, parameters in known.items())
            raise CistError(
                f"The field '{axis.field}' is no parameter of these objectives ({has}), nor a field of the config such "
                "as optimiser.learning_rate."
            )


def _parameters(method: str) -> list[str]:
    from cist_core.objectives import objective_specification

    name = method.partition(":")[0].strip()
    return [parameter.name for parameter in objective_specification(name).parameters]


def _objective_texts(method: str, axes: Sequence[_Axis]) -> list[str]:
    """The text with every combination of those axes that belong to it."""
    own = [axis for axis in axes if axis.field in _parameters(method)]
    texts = []
    for words in itertools.product(*(axis.words() for axis in own)):
        given = [f"{axis.field}={word}" for axis, word in zip(own, words, strict=True)]
        texts.append(method if not given else f"{method}{',' if ':' in method else ':'}{','.join(given)}")
    return texts


def _products(axes: Sequence[_Axis]) -> list[dict[str, Any]]:
    combinations = itertools.product(*(axis.values() for axis in axes))
    return [dict(zip([axis.field for axis in axes], values, strict=True)) for values in combinations]
