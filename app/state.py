"""What every page shares: the source that is loaded, the two rules that are compared on it, the samples selected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple, Protocol
from weakref import WeakValueDictionary

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from app.forms.references import Reference
from cist_core.compare.anchors import KD_TAU_1, default_pair
from cist_core.compare.findings import are_matched
from cist_core.compare.matching import MatchedPair, matched_pair
from cist_core.compare.slider_grid import LANGUAGE_RHO_RANGE, RHO_RANGE, TAU_RANGE
from cist_core.entropy.curves import EntropyCurves
from cist_core.errors import CistError
from cist_core.language.text_predictions import TextPredictions
from cist_core.logits.logit_set import LogitSet
from cist_core.samples.selection import Selection
from cist_core.samples.table import SampleTable, StudentLogits
from cist_core.temperature import CIST_FLOOR, Cist, Fixed, TemperatureRule
from cist_core.temperature.profile import OVER_SHARP, OVER_SMOOTHED
from cist_core.temperature.readings import RuleReading, read_rules
from cist_core.wording import of_tokens

NO_STUDENT = "none"
"""The student that a link names where there is none."""


class Code(NamedTuple):
    """The same numbers without the app."""

    command: str
    python: str


class Predictions(Protocol):
    """What the pages read of a model's predictions: a `LogitSet` of images has it, and a `TextPredictions`."""

    @property
    def num_samples(self) -> int: ...

    @property
    def num_classes(self) -> int: ...

    @property
    def class_names(self) -> tuple[str, ...] | None: ...

    @property
    def fingerprint(self) -> str: ...

    @property
    def provenance(self) -> Mapping[str, str]: ...

    @property
    def accuracy(self) -> float | None: ...

    @property
    def nll(self) -> float | None: ...

    @property
    def constant_rows(self) -> int: ...

    @property
    def left_out(self) -> tuple[int, ...]: ...


NO_LOGITS = (
    "Of a text the entropy curves are kept, not the logits over the whole vocabulary, which this needs; choose a "
    "source of images, or compute it from the model in Python."
)
"""Why something cannot be had of a text."""
_FLOORS_KEPT = 32
"""A source outlives its visitors, who may try any floor, several at a time."""


@dataclass(frozen=True)
class Source:
    """What a teacher says of one split of a data set, or of a text, and perhaps a student of the same samples.

    Attributes:
        teacher: name of a model that ships, or id of something that was added.
        data: name of the data set, or of the file.
        split: of the data.
        reference: finds the teacher's logits without the app.
        predictions: the teacher's.
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
    predictions: Predictions
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
        predictions: LogitSet | TextPredictions,
        student: StudentLogits | None = None,
        student_reference: Reference | None = None,
    ) -> Source:
        """The source, which every session that has the same open shares: its curves, and the handles of its files."""
        name: tuple[object, ...] = (teacher, data, split, repr(reference), *_content(predictions))
        if student is not None:
            name += (student.name, repr(student_reference), *_content(student.logit_set))
        source = _OPEN.get(name)
        if source is None:
            curves = curves_of(predictions)
            if student is not None:
                curves = curves.beside(student.curves)
            source = cls(teacher, data, split, reference, predictions, curves, student, student_reference)
            source.default_pair(source.usual_floor)
            source = _OPEN.setdefault(name, source)
        return source

    @property
    def text(self) -> TextPredictions | None:
        """The predictions on a text; None for images."""
        return self.predictions if isinstance(self.predictions, TextPredictions) else None

    @property
    def logit_set(self) -> LogitSet:
        """All logits of the teacher.

        Raises:
            CistError: for a text, of which they are not kept.
        """
        if not isinstance(self.predictions, LogitSet):
            raise CistError(NO_LOGITS)
        return self.predictions

    @property
    def usual_anchor(self) -> str | None:
        """What ρ is chosen by unless somebody says otherwise: for a text KD at τ = 1; None where evidence decides."""
        return None if self.text is None else KD_TAU_1

    @property
    def usual_floor(self) -> float:
        """The floor of CIST's temperatures to begin with: none for a text, as under 1 no ρ is as sharp as τ = 1."""
        return CIST_FLOOR if self.text is None else 0.0

    @cached_property
    def ranges(self) -> dict[str, tuple[float, float]]:
        """The ends of both sliders, as far as the curves reach."""
        rhos = RHO_RANGE if self.text is None else LANGUAGE_RHO_RANGE
        return {"tau": (self.curves.reachable(TAU_RANGE[0]), TAU_RANGE[1]), "rho": rhos}

    def default_pair(self, floor: float) -> MatchedPair:
        """What the sliders start at under a floor of CIST's temperatures; that of the usual floor where it has none."""
        pair = self._pairs.get(floor)
        if pair is None:
            try:
                pair = self._pair(floor)
            except CistError:  # a table of streamed logits may end before the temperature of this pair
                if floor == self.usual_floor:
                    raise
                return self.default_pair(self.usual_floor)
            if len(self._pairs) >= _FLOORS_KEPT:
                self._pairs.clear()
            self._pairs[floor] = pair
        return pair

    def _pair(self, floor: float) -> MatchedPair:
        if self.text is None:
            return default_pair(self.curves, floor=floor)
        # Language is distilled at temperature 1.
        return matched_pair(self.curves, tau=self.curves.reachable(1.0), floor=floor)

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
        """Python that reads ``curves``, after `imports` and that of `EntropyCurves`."""
        return self.reference.loading

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


def curves_of(predictions: LogitSet | TextPredictions) -> EntropyCurves:
    """Of images or of a text."""
    return predictions.curves() if isinstance(predictions, TextPredictions) else EntropyCurves.open(predictions)


_OPEN: WeakValueDictionary[tuple[object, ...], Source] = WeakValueDictionary()
"""By what they are made of; one that no session has open any more is forgotten."""


def _content(predictions: LogitSet | TextPredictions) -> tuple[object, ...]:
    """What two sets share that are one and the same, whoever has read them."""
    names = predictions.sample_names if isinstance(predictions, LogitSet) else None
    return (
        predictions.fingerprint,
        predictions.class_names,
        tuple(sorted(predictions.provenance.items())),
        predictions.left_out,
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
    def of(cls, source: Source, tau: float, rho: float, floor: float, before: View | None = None) -> View:
        """The view before the samples are chosen; a rule that the view ``before`` has read on the source is kept."""

        wanted: list[TemperatureRule] = [Fixed(tau), Cist(rho, floor)]
        kept = [] if before is None or before.source is not source else before.pair
        known = {reading.rule: reading for reading in kept}
        new = read_rules([rule for rule in wanted if rule not in known], source.curves)
        known |= {reading.rule: reading for reading in new}
        fixed, cist = (known[rule] for rule in wanted)
        samples = SampleTable(source.curves, fixed, cist, student=source.student, text=source.text)
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
    view: View | None = st.session_state.get("_view")
    return view


def in_its_words(text: str) -> str:
    """A sentence of samples in the words of what is on the screen: of a text, samples are tokens."""
    view = optional_view()
    return text if view is None or view.source.text is None else of_tokens(text)
