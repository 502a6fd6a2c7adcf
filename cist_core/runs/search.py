"""A search beyond a grid: optuna proposes settings, and the runs of a group are what it has seen so far.

Nothing is kept beside the run directories: the trials are read from them anew before each proposal, so a search goes on
wherever it was stopped, on runs that finished meanwhile or were trained elsewhere.
"""

from __future__ import annotations

import importlib.util
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cist_core.documents import parse_json
from cist_core.errors import CistError
from cist_core.installing import pip_install
from cist_core.runs.run import Run, RunState
from cist_core.runs.sweep import SweepEntry, expand_sweep

if TYPE_CHECKING:
    from cist_core.training.config import RunConfig

_DIGITS = 4
_MOST_DRAWS = 100  # until one was not tried


@dataclass(frozen=True)
class SearchAxis:
    """One field and where its values are looked for.

    Attributes:
        field: a hyper-parameter of the objective, or a field of the config.
        low: smallest value; None for choices.
        high: largest value.
        log: whether the logarithm is drawn evenly.
        choices: values as text, in place of bounds.
    """

    field: str
    low: float | None = None
    high: float | None = None
    log: bool = False
    choices: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> SearchAxis:
        """An axis as it is written.

        Raises:
            CistError: if it is written wrong.

        Example:
            >>> SearchAxis.parse("optimiser.learning_rate=0.001..0.1:log")
            SearchAxis(field='optimiser.learning_rate', low=0.001, high=0.1, log=True, choices=())
            >>> SearchAxis.parse("tau=1,2,4").choices
            ('1', '2', '4')
        """
        field, _, values = (part.strip() for part in text.partition("="))
        bounds, _, scale = values.partition(":")
        low, dots, high = bounds.partition("..")
        if not dots:
            words = tuple(dict.fromkeys(word.strip() for word in values.split(",") if word.strip()))
            if field and len(words) > 1:
                return cls(field, choices=words)
            raise CistError(
                f"Expected --space FIELD=LOW..HIGH, FIELD=LOW..HIGH:log or FIELD=A,B,..., but got '{text}'; write for "
                "example rho=2..8."
            )
        try:
            axis = cls(field, float(low), float(high), log=scale == "log")
        except ValueError:
            raise CistError(f"Expected two numbers in --space {field}=LOW..HIGH, but got '{values}'.") from None
        assert axis.low is not None
        assert axis.high is not None
        if not field or scale not in ("", "log") or not (math.isfinite(axis.low) and axis.low < axis.high < math.inf):
            raise CistError(f"Expected --space FIELD=LOW..HIGH with LOW below HIGH, but got '{text}'.")
        if axis.log and axis.low <= 0:
            raise CistError(f"Expected LOW above 0 for a logarithmic axis, but got '{text}'.")
        return axis

    def distribution(self, *, integer: bool = False) -> Any:
        """For optuna."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        if self.choices:
            return CategoricalDistribution(self.choices)
        if integer:
            assert self.low is not None
            assert self.high is not None
            return IntDistribution(int(self.low), int(self.high), log=self.log)
        return FloatDistribution(self.low, self.high, log=self.log)

    def text(self, value: Any) -> str:
        """A value as it stands in a config: four digits, and within the bounds."""
        if self.choices or isinstance(value, int):
            return str(value)
        assert self.low is not None
        assert self.high is not None
        return f"{min(max(float(f'{value:.{_DIGITS}g}'), self.low), self.high):g}"

    def value_in(self, config: RunConfig) -> Any:
        """What a config has there, as `distribution` knows it; None if that is none of it."""
        found: Any = config.objective.parameters.get(self.field)
        if found is None:
            found = config.model_dump(mode="json")
            for part in self.field.split("."):
                found = found.get(part) if isinstance(found, dict) else None
        if self.choices:
            return next((word for word in self.choices if _same(word, found)), None)
        if isinstance(found, bool) or not isinstance(found, int | float):
            return None
        assert self.low is not None
        assert self.high is not None
        return float(found) if self.low <= found <= self.high else None


def _same(word: str, value: object) -> bool:
    """Whether a word of `--space` is a value of a config."""
    try:
        return bool(parse_json(word) == value)
    except ValueError:
        return word == value


@dataclass(frozen=True)
class Search:
    """What is looked for, and where.

    Attributes:
        base: what the runs have in common, their seed included.
        axes: what they differ in.
        objective: text of the objective; None: that of ``base``.
    """

    base: RunConfig
    axes: tuple[SearchAxis, ...]
    objective: str | None = None

    def check(self) -> None:
        """Refuse fields that nothing has, and bounds that the config does not allow.

        Raises:
            CistError: naming the field.
        """
        if importlib.util.find_spec("optuna") is None:
            raise CistError(f"A search needs optuna; {pip_install('search')}.")
        for axis in self.axes:
            if self._is_integer(axis) and any(end != int(end) for end in (axis.low or 0, axis.high or 0)):
                raise CistError(
                    f"Expected whole numbers in --space {axis.field}={axis.low:g}..{axis.high:g}, as '{axis.field}' "
                    "is one."
                )
        for share in (0.0, 0.37, 1.0):  # between the ends as well, where a field may take whole numbers alone
            self._entry([self._at(axis, share) for axis in self.axes])

    def _at(self, axis: SearchAxis, share: float) -> Any:
        """A value so far between the ends of an axis."""
        if axis.choices:
            return axis.choices[round(share * (len(axis.choices) - 1))]
        assert axis.low is not None
        assert axis.high is not None
        value = axis.low + share * (axis.high - axis.low)
        return int(value) if self._is_integer(axis) else value

    def _is_integer(self, axis: SearchAxis) -> bool:
        """Whether the field of an axis with bounds is a whole number in the config."""
        if axis.choices or axis.field in self.base.objective.parameters:
            return False
        found: Any = self.base.model_dump(mode="json")
        for part in axis.field.split("."):
            found = found.get(part) if isinstance(found, dict) else None
        return isinstance(found, int) and not isinstance(found, bool)

    def propose(self, runs: Sequence[Run]) -> SweepEntry | None:
        """The setting to try next, which none of the runs has; None if there is no other.

        The first ten are drawn at random, later ones by optuna's tree-structured Parzen estimator (TPE; Bergstra et
        al., "Algorithms for Hyper-Parameter Optimization", 2011) from the finished runs. Those that still run count as
        poor, so that several at a time do not try the same.

        Args:
            runs: all of the search so far. The same runs give the same proposal.
        """
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        sampler = optuna.samplers.TPESampler(seed=self.base.seed + len(runs), constant_liar=True)
        study = optuna.create_study(direction="maximize", sampler=sampler)
        distributions = {axis.field: axis.distribution(integer=self._is_integer(axis)) for axis in self.axes}
        tried = set()
        for run in sorted(runs, key=lambda run: run.id):
            values = self.values(run)
            if values is not None:
                tried.add(self._texts(values))
            if values is None or run.state in (RunState.FAILED, RunState.CANCELLED, RunState.LOST):
                continue
            value = self.measured(run) if run.state is RunState.FINISHED else None
            study.add_trial(
                optuna.trial.create_trial(
                    state=optuna.trial.TrialState.RUNNING if value is None else optuna.trial.TrialState.COMPLETE,
                    value=value,
                    params=values,
                    distributions=distributions,
                )
            )
        for _ in range(_MOST_DRAWS):
            values = study.ask(distributions).params
            if self._texts(values) not in tried:
                return self._entry([values[axis.field] for axis in self.axes])
        if any(not (axis.choices or self._is_integer(axis)) for axis in self.axes):
            return None
        all_values = (axis.choices or range(int(axis.low or 0), int(axis.high or 0) + 1) for axis in self.axes)
        for combination in itertools.islice(itertools.product(*all_values), len(tried) + 1):
            if tuple(map(str, combination)) not in tried:
                return self._entry(combination)
        return None

    def _texts(self, values: dict[str, Any]) -> tuple[str, ...]:
        return tuple(axis.text(values[axis.field]) for axis in self.axes)

    def values(self, run: Run) -> dict[str, Any] | None:
        """Where a run stands on the axes; None if it lies outside."""
        config = run.directory.config()
        found = {axis.field: axis.value_in(config) for axis in self.axes}
        if None in found.values():
            return None
        return {
            axis.field: int(found[axis.field]) if self._is_integer(axis) else found[axis.field] for axis in self.axes
        }

    @property
    def by_likelihood(self) -> bool:
        """Whether it looks for the likeliest texts, as language models are judged, and not for right answers."""
        return self.base.task == "language"

    def measured(self, run: Run) -> float | None:
        """What it makes large, on validation, as the test data must not choose: the accuracy of the last epoch, from 0
        to 1, or minus its negative log-likelihood of a token in nats; None before a run has finished an epoch."""
        if not self.by_likelihood:
            found = run.directory.status().get("last_val_accuracy")
            return None if found is None else float(found)
        rows = run.directory.metrics()
        return -float(rows[-1]["val_nll"]) if rows and "val_nll" in rows[-1] else None

    def _entry(self, values: Sequence[Any]) -> SweepEntry:
        (entry,) = expand_sweep(
            self.base,
            objectives=[] if self.objective is None else [self.objective],
            grid=[f"{axis.field}={axis.text(value)}" for axis, value in zip(self.axes, values, strict=True)],
        )
        return entry
