"""What every page shares: the source that is loaded, and the two rules that are compared on it."""

from __future__ import annotations

from dataclasses import dataclass, field

import streamlit as st

from cist_core.curves import EntropyCurves
from cist_core.findings import are_matched
from cist_core.logits import LogitSet
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

    @property
    def command_line(self) -> str:
        """The arguments that name this source to the `cist` command."""
        return f"--teacher {self.teacher} --data {self.data} --split {self.split}"

    @property
    def python(self) -> str:
        """Python that loads this source."""
        return (
            "from cist_core import EntropyCurves, EntropyProfile, parse_rule\n"
            "from cist_core.sources import load_logits\n\n"
            f'logits = load_logits("{self.teacher}", "{self.data}", "{self.split}").logit_set\n'
            "curves = EntropyCurves.from_logits(logits)\n"
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
    def command(self) -> str:
        """The command line that prints these numbers."""
        return f"cist analyze {self.source.command_line} --tau {self.tau:g} --rho {self.rho:g}"

    @property
    def python(self) -> str:
        """Python that computes these numbers."""
        return (
            f"{self.source.python}"
            f'for rule in ("tau={self.tau:g}", "cist:rho={self.rho:g}"):\n'
            "    print(EntropyProfile.of(parse_rule(rule), curves))"
        )


def set_view(view: View) -> None:
    st.session_state["_view"] = view


def current_view() -> View:
    """The view that the sidebar made; `app/main.py` runs it before any page."""
    view: View = st.session_state["_view"]
    return view
