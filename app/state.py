"""What every page shares: the source that is loaded, the two rules that are compared on it, the samples selected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple
from weakref import WeakValueDictionary

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from app.forms.references import Reference
from cist_core.compare.anchors import default_pair
from cist_core.compare.findings import are_matched
from cist_core.compare.matching import MatchedPair
from cist_core.entropy.curves import EntropyCurves
from cist_core.errors import CistError
from cist_core.logits.logit_set import LogitSet
from cist_core.samples.selection import Selection
from cist_core.samples.table import SampleTable, StudentLogits
from cist_core.temperature import CIST_FLOOR, Cist, Fixed
from cist_core.temperature.profile import OVER_SHARP, OVER_SMOOTHED
from cist_core.temperature.readings import RuleReading, read_rule

NO_STUDENT = "none"
"""The student that a link names where there is none."""


class Code(NamedTuple):
    """The same numbers without the app."""

    command: str
    python: str


_FLOORS_KEPT = 32
"""A source outlives its visitors, who may try any floor, several at a time."""


@dataclass(frozen=True)
class Source:
    """A teacher's logits on one split of a data set, ready to be read, and perhaps a student's on the same samples.

    Attributes:
        teacher: name of a model that ships, or id of something that was added.
        data: name of the data set, or of the file.
        split: of the data.
        reference: finds the teacher's logits without the app.
        logit_set: the teacher's logits.
        curves: of these.
        student: beside the teacher, or None.
        student_reference: finds its logits.

    Raises:
        CistError: from `of`, where no pair has the same mean entropy to start at (constant logits).
    """

    teacher: str
    data: str
    split: str
    reference: Reference
    logit_set: LogitSet
    curves: EntropyCurves
    student: StudentLogits | None = None
    student_reference: Reference | None = None
    _pairs: dict[float, MatchedPair] = field(default_factory=dict, repr=False)

    @classmethod
    def of(
        cls,
        teacher: str,
        data: str,
        split: str,
        reference: Reference,
        logit_set: LogitSet,
        student: StudentLogits | None = None,
        student_reference: Reference | None = None,
    ) -> Source:
        """The source, which every session that has the same open shares: its curves, and the handles of its files."""
        name: tuple[object, ...] = (teacher, data, split, repr(reference), *_content(logit_set))
        if student is not None:
            name += (student.name, repr(student_reference), *_content(student.logit_set))
        source = _OPEN.get(name)
        if source is None:
            curves = EntropyCurves.open(logit_set)
            if student is not None:
                curves = curves.beside(student.curves)
            pairs = {CIST_FLOOR: default_pair(curves)}
            source = cls(teacher, data, split, reference, logit_set, curves, student, student_reference, pairs)
            source = _OPEN.setdefault(name, source)
        return source

    def default_pair(self, floor: float) -> MatchedPair:
        """What the sliders start at under a floor of CIST's temperatures; that of the usual floor where it has none."""
        pair = self._pairs.get(floor)
        if pair is None:
            try:
                pair = default_pair(self.curves, floor=floor)
            except CistError:  # a table of streamed logits may end before the temperature of this pair
                if floor == CIST_FLOOR:
                    raise
                return self.default_pair(CIST_FLOOR)
            if len(self._pairs) >= _FLOORS_KEPT:
                self._pairs.clear()
            self._pairs[floor] = pair
        return pair

    @property
    def arguments(self) -> str:
        """What names the teacher on the command line."""
        return self.reference.arguments

    @property
    def student_arguments(self) -> str:
        """What names the student beside it, after a space; empty where there is none."""
        return "" if self.student_reference is None else f" {self.student_reference.as_student(self.reference)}"

    @property
    def imports(self) -> str:
        """Lines of Python that import what reads the logits of both."""
        references = (self.reference, self.student_reference)
        return "".join(sorted({reference.imports for reference in references if reference is not None}))

    @property
    def loading(self) -> str:
        """Python that reads ``logits`` and ``curves``, after `imports` and that of `EntropyCurves`."""
        return f"logits = {self.reference.expression}\ncurves = EntropyCurves.from_logits(logits)\n"

    @property
    def student_loading(self) -> str:
        """Python that reads the student's logits as ``student_logits``; empty where there is none."""
        return "" if self.student_reference is None else f"student_logits = {self.student_reference.expression}\n"

    def code(self, readings: Sequence[RuleReading]) -> Code:
        """What prints the numbers of these readings."""
        return Code(self._command(readings), self._python(readings))

    def _needs_student(self, readings: Sequence[RuleReading]) -> bool:
        return self.student is not None and any(reading.rule.needs_student for reading in readings)

    def _command(self, readings: Sequence[RuleReading]) -> str:
        first = readings[0].profile
        rules = " ".join(str(reading.rule) for reading in readings)
        thresholds = ""
        if (first.over_sharp_below, first.over_smoothed_above) != (OVER_SHARP, OVER_SMOOTHED):
            thresholds = f" --over-sharp {first.over_sharp_below:g} --over-smoothed {first.over_smoothed_above:g}"
        beside = self.student_arguments if self._needs_student(readings) else ""
        return f"cist analyze {self.arguments}{beside} --rule {rules}{thresholds}"

    def _python(self, readings: Sequence[RuleReading]) -> str:
        first = readings[0].profile
        rules = ", ".join(f'"{reading.rule}"' for reading in readings)
        needed = self._needs_student(readings)
        beside = "curves = curves.beside(EntropyCurves.from_logits(student_logits))\n" if needed else ""
        return (
            "from cist_core import EntropyCurves, EntropyProfile, parse_rule\n"
            f"{self.imports if needed else self.reference.imports}\n"
            f"{self.loading}"
            f"{self.student_loading if needed else ''}{beside}"
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


_OPEN: WeakValueDictionary[tuple[object, ...], Source] = WeakValueDictionary()
"""By what they are made of; one that no session has open any more is forgotten."""


def _content(logit_set: LogitSet) -> tuple[object, ...]:
    """What two sets share that are one and the same, whoever has read them."""
    names = logit_set.sample_names
    return (
        logit_set.fingerprint,
        logit_set.class_names,
        tuple(sorted(logit_set.provenance.items())),
        logit_set.left_out,
        None if names is None else names.to_bytes(),
    )


@dataclass(frozen=True)
class View:
    """What is on the screen: a source, the two rules of the sidebar, and which samples are selected.

    Attributes:
        source: what is loaded.
        tau: of the fixed temperature.
        rho: of CIST.
        floor: of CIST's temperatures, in logit units.
        fixed: the fixed temperature read on the source.
        cist: CIST read on the source.
        samples: every measure of every sample under the two.
        selection: the rule that the selected samples fulfil; empty for all.
        selected: the same as a mask, ``(N,)``; None where nothing is selected.
        slices: named selections.
    """

    source: Source
    tau: float
    rho: float
    floor: float
    fixed: RuleReading = field(repr=False)
    cist: RuleReading = field(repr=False)
    samples: SampleTable = field(repr=False)
    selection: Selection = field(default_factory=Selection)
    selected: NDArray[np.bool_] | None = field(default=None, repr=False)
    slices: Mapping[str, Selection] = field(default_factory=dict)

    @classmethod
    def of(cls, source: Source, tau: float, rho: float, floor: float) -> View:
        fixed, cist = read_rule(Fixed(tau), source.curves), read_rule(Cist(rho, floor), source.curves)
        samples = SampleTable(source.curves, fixed, cist, student=source.student)
        return cls(source, tau, rho, floor, fixed, cist, samples)

    @property
    def matched(self) -> bool:
        return are_matched(self.fixed.profile, self.cist.profile)

    @property
    def pair(self) -> list[RuleReading]:
        return [self.fixed, self.cist]

    def code(self) -> Code:
        return self.source.code(self.pair)


def set_view(view: View | None) -> None:
    st.session_state["_view"] = view


def current_view() -> View:
    """The view that the sidebar made; `app/main.py` runs it before any page that needs one."""
    view: View = st.session_state["_view"]
    return view


def optional_view() -> View | None:
    """The same for a page that can do without: None where no source could be loaded."""
    view: View | None = st.session_state["_view"]
    return view
