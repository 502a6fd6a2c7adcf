"""What every page shares: the source that is loaded, and the two rules that are compared on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import streamlit as st

from cist_core.curves import EntropyCurves
from cist_core.findings import are_matched
from cist_core.logits import LogitSet
from cist_core.profile import OVER_SHARP, OVER_SMOOTHED
from cist_core.readings import RuleReading, read_rule
from cist_core.rho import MatchedPair, default_pair
from cist_core.temperature import Cist, Fixed


@dataclass(frozen=True)
class Source:
    """A teacher's logits on one split of a data set, ready to be read."""

    teacher: str
    data: str
    split: str
    logit_set: LogitSet
    curves: EntropyCurves
    default_pair: MatchedPair

    @classmethod
    def of(cls, teacher: str, data: str, split: str, logit_set: LogitSet) -> Source:
        curves = EntropyCurves.from_logits(logit_set)
        return cls(teacher, data, split, logit_set, curves, default_pair(curves))

    def command(self, readings: Sequence[RuleReading]) -> str:
        """The command line that prints the numbers of these readings."""
        first = readings[0].profile
        rules = " ".join(str(reading.rule) for reading in readings)
        thresholds = ""
        if (first.over_sharp_below, first.over_smoothed_above) != (OVER_SHARP, OVER_SMOOTHED):
            thresholds = f" --over-sharp {first.over_sharp_below:g} --over-smoothed {first.over_smoothed_above:g}"
        return (
            f"cist analyze --teacher {self.teacher} --data {self.data} --split {self.split} --rule {rules}{thresholds}"
        )

    def python(self, readings: Sequence[RuleReading]) -> str:
        """Python that computes them."""
        first = readings[0].profile
        rules = ", ".join(f'"{reading.rule}"' for reading in readings)
        return (
            "from cist_core import EntropyCurves, EntropyProfile, parse_rule\n"
            "from cist_core.sources import load_logits\n\n"
            f'logits = load_logits("{self.teacher}", "{self.data}", "{self.split}").logit_set\n'
            "curves = EntropyCurves.from_logits(logits)\n"
            f"for rule in [{rules}]:\n"
            "    print(\n"
            "        EntropyProfile.of(\n"
            "            parse_rule(rule),\n"
            "            curves,\n"
            f"            over_sharp_below={first.over_sharp_below:g},\n"
            f"            over_smoothed_above={first.over_smoothed_above:g},\n"
            "        )\n"
            "    )\n"
        )


@dataclass(frozen=True)
class View:
    """What is on the screen: a source and the two rules of the sidebar."""

    source: Source
    tau: float
    rho: float
    fixed: RuleReading = field(repr=False)
    cist: RuleReading = field(repr=False)

    @classmethod
    def of(cls, source: Source, tau: float, rho: float) -> View:
        fixed, cist = read_rule(Fixed(tau), source.curves), read_rule(Cist(rho), source.curves)
        return cls(source, tau, rho, fixed, cist)

    @property
    def matched(self) -> bool:
        return are_matched(self.fixed.profile, self.cist.profile)

    @property
    def pair(self) -> list[RuleReading]:
        return [self.fixed, self.cist]


def set_view(view: View) -> None:
    st.session_state["_view"] = view


def current_view() -> View:
    """The view that the sidebar made; `app/main.py` runs it before any page."""
    view: View = st.session_state["_view"]
    return view
