"""One rule read on one set of curves: the arrays behind every chart, table and sentence."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cist_core import kernels
from cist_core.entropy.curves import EntropyCurves
from cist_core.temperature import Fixed, TemperatureRule
from cist_core.temperature.profile import OVER_SHARP, OVER_SMOOTHED, Association, EntropyProfile, VarianceParts


@dataclass(frozen=True, eq=False)
class RuleReading:
    """What one rule does to every sample.

    Attributes:
        rule: the rule.
        temperatures: ``(N,)`` in logit units.
        entropy: ``(N,)`` nats.
        ratios: ``(N,)``, centred maximum over temperature.
        at_floor: ``(N,)``, whether a floor of the rule decides the temperature; nowhere for a rule without one.
        profile: the numbers over all samples; its ``at_floor`` is the share of these samples.
        student_at_floor: ``(N,)``, the same as ``at_floor`` for the student beside the curves; None without one.
        curves: that it was read on, which know the ranks of their maxima; a copy by pickle does without.
    """

    rule: TemperatureRule
    temperatures: NDArray[np.floating]
    entropy: NDArray[np.float32]
    ratios: NDArray[np.floating]
    at_floor: NDArray[np.bool_]
    profile: EntropyProfile
    student_at_floor: NDArray[np.bool_] | None = None
    curves: EntropyCurves | None = field(default=None, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"curves": None}

    @cached_property
    def same_label(self) -> float:
        """Share of the samples to which the rule gives one soft label up to the winner: those that share a ratio.

        Two classes have nothing but a winner and a ratio. 0 with more of them, for a fixed temperature, which keeps
        apart what the logits keep apart, and for fewer than one sample in a hundred, which may share it by chance.
        """
        if self.profile.classes != 2 or isinstance(self.rule, Fixed):
            return 0.0
        _, counts = np.unique(np.round(self.ratios.astype(np.float64), 4), return_counts=True)
        share = float(counts.max() / len(self.ratios))
        return share if share >= 0.01 else 0.0

    @cached_property
    def ratio_ranks(self) -> NDArray[np.float64]:
        """Ranks of the ratios from 1 on, ``(N,)``; equal ratios share the mean of theirs."""
        return kernels.ranks(self.ratios) if self.curves is None else self.rule.ratio_ranks(self.curves)

    @cached_property
    def variance_parts(self) -> VarianceParts:
        """What of the entropy's variance the ratio explains: `association` less what needs ranks of the entropies."""
        return VarianceParts.of(self.entropy, self.ratios, self.ratio_ranks)

    @cached_property
    def association(self) -> Association:
        """How far the ratio explains the entropy."""
        return Association.of(self.entropy, self.ratios, self.ratio_ranks, self.variance_parts)


def read_rule(
    rule: TemperatureRule,
    curves: EntropyCurves,
    *,
    over_sharp_below: float = OVER_SHARP,
    over_smoothed_above: float = OVER_SMOOTHED,
) -> RuleReading:
    """Read a rule on curves; thresholds are shares of ``ln C``."""
    temperatures = rule.temperatures(curves)
    entropy, at_floor = curves.at_temperature(temperatures), rule.at_floor(curves)
    profile = EntropyProfile.from_arrays(
        str(rule),
        entropy,
        temperatures,
        classes=curves.num_classes,
        at_floor=at_floor,
        over_sharp_below=over_sharp_below,
        over_smoothed_above=over_smoothed_above,
    )
    return RuleReading(
        rule=rule,
        temperatures=temperatures,
        entropy=entropy,
        ratios=rule.ratios(curves, temperatures),
        at_floor=at_floor,
        profile=profile,
        student_at_floor=rule.student_at_floor(curves),
        curves=curves,
    )


def read_rules(rules: Iterable[TemperatureRule], curves: EntropyCurves, **thresholds: float) -> list[RuleReading]:
    """Several rules, in the order given, each on a core of its own as far as there are some."""
    from cist_core.kernels.threads import run_together  # which imports numba

    return run_together(*(partial(read_rule, rule, curves, **thresholds) for rule in rules))
