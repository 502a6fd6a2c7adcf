"""Teachers: which teacher suits this student? Consistency, calibration and capacity gap, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import pandas as pd
import streamlit as st

from app import catalogue
from app.forms.references import Reference
from app.links import titled_multiselect
from app.settings import page_setting
from app.state import NO_LOGITS, Code, current_view, curves_of
from app.widgets import (
    loading_torch,
    page_head,
    plain,
    profile_cells,
    profile_config,
    show_error,
    show_figure,
    show_table,
    show_tabs,
)
from cist_core.cards import find_sample_model
from cist_core.charts.teachers import (
    TEACHER_COLOURS,
    reliability_figure,
    teacher_entropy_figure,
    teacher_ratio_figure,
)
from cist_core.compare.anchors import Anchor, default_anchor, find_anchor
from cist_core.compare.teacher_comparison import (
    CIST,
    FIXED,
    TeacherReading,
    nearness_finding,
    read_curves,
    read_teacher,
)
from cist_core.errors import CistError
from cist_core.language.text_predictions import TextPredictions
from cist_core.logits.alignment import align
from cist_core.logits.logit_set import LogitSet
from cist_core.samples.table import StudentLogits
from cist_core.temperature.columns import COLUMNS
from cist_core.wording import percent, three_digits

SECTION = "Decide"
ORDER = 30
ICON = ":material/compare_arrows:"

SPREAD, AT_FLOOR = COLUMNS["std"], COLUMNS["at_floor"]
QUESTION = "Which teacher suits this student?"
STUDENT_AT_FLOOR = f"Student {AT_FLOOR.name}"

view = current_view()
source, student = view.source, view.source.student


@st.cache_resource(show_spinner="Reading the logits of the other teacher", max_entries=6)
def predictions_of(teacher: str, data: str, split: str) -> LogitSet | TextPredictions:
    return catalogue.load(teacher, data, split)


@st.cache_data(show_spinner="Comparing the teachers", max_entries=12)
def anchor_of(fingerprint: str, floor: float, _predictions: LogitSet | TextPredictions) -> Anchor | None:
    """What is recommended for a teacher; None for one that says the same at every ρ."""
    try:
        curves, usual = curves_of(_predictions), source.usual_anchor
        return default_anchor(curves, floor=floor) if usual is None else find_anchor(curves, usual, floor=floor)
    except CistError:
        return None


@st.cache_data(show_spinner="Comparing the teachers", max_entries=12)
def reading_of(
    name: str,
    fingerprint: str,
    student: str | None,
    target: float,
    floor: float,
    _predictions: LogitSet | TextPredictions,
    _student: StudentLogits | None,
) -> TeacherReading:
    if isinstance(_predictions, TextPredictions):
        return read_curves(name, _predictions.curves(), _predictions.accuracy, target=target, floor=floor)
    if _student is None:
        return read_teacher(name, _predictions, target=target, floor=floor)
    return read_teacher(
        name, _predictions, target=target, floor=floor, student=_student.logit_set, student_curves=_student.curves
    )


def choose_others() -> list[str]:
    """The teachers beside that of the sidebar; those whose logits are at hand, but for the student, to begin with."""
    others = catalogue.comparable_models(source)
    own_student = None if student is None else student.name
    at_hand = [name for name in others if not needs_inference(name) and name != own_student]
    key = f"teachers_beside_{source.teacher}"  # each teacher has others beside it
    if source.text is None:
        alone = "No other model answers these samples"
        help_ = "Models on the same data and split, shipped or added; logits that are not at hand are computed once."
    else:
        alone = "Add this text with another model"
        help_ = "Models that were added with the same text and read it in the same tokens."
    return titled_multiselect(
        f"Beside {catalogue.title_of(source.teacher)}",
        others,
        key=key,
        default=at_hand[: len(TEACHER_COLOURS) - 1],
        titles=catalogue.titles(others),
        max_selections=len(TEACHER_COLOURS) - 1,
        placeholder="Add a teacher" if others else alone,
        help=help_,
    )


def shown_names(others: Sequence[str]) -> dict[str, str]:
    """What the sidebar's teacher and the others are called."""
    return catalogue.titles((source.teacher, *others))


def load_all(others: Sequence[str]) -> dict[str, LogitSet | TextPredictions]:
    """The predictions by name, the sidebar's teacher first; one that cannot be compared is named and left out."""
    loaded = {}
    for name, shown in shown_names(others).items():
        try:
            loaded[name] = source.text or source.logit_set if name == source.teacher else load_beside(name, shown)
        except CistError as error:
            show_error(error)
    return loaded


def load_beside(name: str, shown: str) -> LogitSet | TextPredictions:
    """What another teacher says of the same samples."""
    found = load(name)
    return found if isinstance(found, TextPredictions) else align(source.logit_set, found, name=shown)


def read_all(loaded: Mapping[str, LogitSet | TextPredictions], target: float) -> list[TeacherReading]:
    """Each at one mean entropy; one that cannot be read is named and left out."""
    shown = shown_names(others)
    readings: list[TeacherReading] = []
    for name, predictions in loaded.items():
        beside = None if student is None or student.name == name else student
        fingerprint = None if beside is None else beside.logit_set.fingerprint
        try:
            readings.append(
                reading_of(shown[name], predictions.fingerprint, fingerprint, target, view.floor, predictions, beside)
            )
        except CistError as error:
            show_error(error)
    return readings


def load(name: str) -> LogitSet | TextPredictions:
    with loading_torch() if needs_inference(name) else st.container():
        return predictions_of(name, source.data, source.split)


def precisions(loaded: Mapping[str, LogitSet | TextPredictions]) -> list[str]:
    """In what precision each language model has computed."""
    shown = shown_names(others)
    return [f"{shown[name]}: {each.provenance.get('precision', 'not recorded')}" for name, each in loaded.items()]


def needs_inference(name: str) -> bool:
    card = find_sample_model(name)
    return card is not None and card.logits(source.data, source.split) is None


def code(readings: Sequence[TeacherReading]) -> Code:
    """The same numbers without the app."""
    if source.text is not None:
        return code_of_texts(readings)
    references = {
        shown: catalogue.reference(name, source.data, source.split)
        for name, shown in shown_names(others).items()
        if shown in {reading.name for reading in readings}
    }
    imports = {reference.imports for reference in references.values()}
    if source.student_reference is not None:
        imports.add(source.student_reference.imports)
    options = f"target={target:g}, floor={view.floor:g}, "
    teachers = "".join(f"    {name!r}: {reference.expression},\n" for name, reference in references.items())
    return Code(
        command_lines(references, readings),
        f"{''.join(sorted(imports))}"
        "from cist_core.compare.teacher_comparison import read_teacher\n\n"
        f"teachers = {{\n{teachers}}}\n"
        f"{source.student_loading or 'student_logits = None' + chr(10)}"
        "for name, logits in teachers.items():\n"
        f"    teacher = read_teacher(name, logits, {options}student=student_logits)\n"
        "    print(name, teacher.rho, teacher.fixed.profile.std, teacher.cist.profile.std, teacher.gap)\n",
    )


def command_lines(references: Mapping[str, Reference], readings: Sequence[TeacherReading]) -> str:
    """What prints the numbers of each in the terminal, a line each."""
    return "\n".join(
        f"cist analyze {references[reading.name].arguments} --rule {reading.fixed.rule} {reading.cist.rule}"
        for reading in readings
    )


def code_of_texts(readings: Sequence[TeacherReading]) -> Code:
    """The same of language models on a text."""
    references = {
        shown: catalogue.reference(name, source.data, source.split) for name, shown in shown_names(others).items()
    }
    read = {reading.name: references[reading.name] for reading in readings}
    teachers = "".join(f"    {name!r}: {reference.expression},\n" for name, reference in read.items())
    return Code(
        command_lines(read, readings),
        f"{source.reference.imports}from cist_core.compare.teacher_comparison import read_curves\n\n"
        f"teachers = {{\n{teachers}}}\n"
        "for name, tokens in teachers.items():\n"
        f"    teacher = read_curves(name, tokens.curves(), None, target={target:g}, floor={view.floor:g})\n"
        "    print(name, teacher.rho, teacher.fixed.profile.std, teacher.cist.profile.std)\n",
    )


def consistency_table(readings: Sequence[TeacherReading]) -> pd.DataFrame:
    """One row a teacher; entropies in nats, shares in percent."""
    return pd.DataFrame(
        [
            {
                "Teacher": reading.name,
                "Accuracy": _percent(reading.accuracy),
                "ρ": reading.rho,
                "Matched τ": reading.tau,
                f"{SPREAD.title} fixed": SPREAD.scaled(reading.fixed.rule, reading.fixed.profile),
                f"{SPREAD.title} CIST": SPREAD.scaled(reading.cist.rule, reading.cist.profile),
                "Gain": reading.gain,
                **profile_cells([AT_FLOOR], reading.cist.rule, reading.cist.profile),
            }
            for reading in readings
        ]
    ).astype({"Gain": float, "Accuracy": float})


def calibration_table(readings: Sequence[TeacherReading]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "Teacher": reading.name,
                "Fitted τ": reading.calibration.tau,
                "ECE at τ = 1": reading.calibration.before.error * 100,
                "ECE at fitted τ": reading.calibration.after.error * 100,
                "NLL at τ = 1": reading.calibration.nll_before,
                "NLL at fitted τ": reading.calibration.nll_after,
            }
            for reading in readings
            if reading.calibration is not None
        ]
    )


def gap_table(readings: Sequence[TeacherReading]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "Teacher": reading.name,
                "Agreement": reading.gap.agreement * 100,
                "KL at τ = 1": reading.gap.kl,
                "KL under CIST": reading.gap.kl_cist,
                STUDENT_AT_FLOOR: student_at_floor(reading) * AT_FLOOR.format.factor,
                "Scale": reading.gap.scale,
                "Accuracy gap": _percent(reading.gap.accuracy),
            }
            for reading in readings
            if reading.gap is not None
        ]
    )


def student_at_floor(reading: TeacherReading) -> float:
    """Share of the student's samples at the floor, at the ρ that is recommended for this teacher."""
    assert student is not None
    return float(reading.cist.rule.at_floor(student.curves).mean())


def _percent(share: float | None) -> float:
    return np.nan if share is None else share * 100


def number(format_: str, help_: str) -> object:
    return st.column_config.NumberColumn(format=format_, help=help_)


def show_consistency(readings: Sequence[TeacherReading]) -> None:
    """The chart, and beside it which teacher has the best of three numbers."""
    chart, numbers = st.columns([3, 1], gap="large")
    with chart:
        place = st.container()
        rule = st.segmented_control(
            "Soft labels under", [FIXED, CIST], default=FIXED, required=True,
            **page_setting("teachers_rule"),
        )  # fmt: skip
        figure = teacher_entropy_figure(readings, str(rule))
        with place:
            show_figure(figure, key="teachers-entropy", code=commands, heading=False)
    with head:
        page_head(QUESTION, figure.title)
    with numbers:
        show_best(readings, str(rule))


def show_best(readings: Sequence[TeacherReading], rule: str) -> None:
    """The smallest spread, the smallest divergence from the student, the smallest calibration error, and whose."""
    spreads = {reading.name: reading.under(rule).profile.std for reading in readings}
    gaps = {reading.name: reading.gap.kl_cist for reading in readings if reading.gap is not None}
    errors = {reading.name: reading.calibration.before.error for reading in readings if reading.calibration is not None}
    for label, help_, values, words in (
        (f"Smallest spread under {rule}", SPREAD.help, spreads, nats),
        ("Nearest to the student", "Mean KL(teacher ‖ student), each at its own CIST temperature", gaps, nats),
        ("Best calibrated", "Expected calibration error at τ = 1, over 15 bins", errors, percent),
    ):
        if values:
            best = min(values, key=lambda name: values[name])
            st.metric(label, words(values[best]), delta=best, delta_color="off", delta_arrow="off", help=help_)


def nats(value: float) -> str:
    return f"{three_digits(value)} nats"


def show_table_of_all(readings: Sequence[TeacherReading]) -> None:
    show_table(
        consistency_table(readings),
        key="teachers-consistency",
        alt="Accuracy, recommended ρ, matched temperature and spreads of each teacher",
        columns={
            "Accuracy": number("%.1f %%", "Share of right answers on this split"),
            "ρ": number("%.2f", f"Its mean entropy is {target:.3g} ln C"),
            "Matched τ": number("%.2f", "The fixed temperature with that mean entropy"),
            f"{SPREAD.title} fixed": number(SPREAD.format.printf, f"{SPREAD.help}, at the matched temperature"),
            f"{SPREAD.title} CIST": number(SPREAD.format.printf, f"{SPREAD.help}, at the recommended ρ"),
            "Gain": number("%.2f", "Consistency gain: the one over the other; below 1, CIST is the less consistent"),
            **profile_config([AT_FLOOR], readings[0].cist.profile),
        },
    )


def show_ratios(readings: Sequence[TeacherReading]) -> None:
    show_figure(teacher_ratio_figure(readings), key="teachers-ratio", code=commands)


def show_gap(readings: Sequence[TeacherReading]) -> None:
    if source.text is not None:
        st.info(f"The distance to a student is not known here. {NO_LOGITS}", icon=":material/school:")
        return
    if student is None:
        st.info("Choose a student in the sidebar to see how far it is from each teacher.", icon=":material/school:")
        return
    measured = gap_table(readings)
    if measured.empty:
        return
    st.subheader(plain(nearness_finding(readings, student.name)), anchor=False)
    show_table(
        measured,
        key="teachers-gap",
        alt=f"Capacity gap between each teacher and the student {student.name}",
        columns={
            "Agreement": number("%.1f %%", "Share of the samples with the same top-1 class"),
            "KL at τ = 1": number("%.3f", "Mean KL(teacher ‖ student) in nats, both at temperature 1"),
            "KL under CIST": number("%.3f", "The same, each at its own CIST temperature for the recommended ρ"),
            STUDENT_AT_FLOOR: number(
                AT_FLOOR.format.printf,
                f"The student's samples whose temperature is the floor of {view.floor:g} at that ρ",
            ),
            "Scale": number(
                "%.2f", "Mean centred maximum of the teacher over the student's: what one temperature makes it copy"
            ),
            "Accuracy gap": number(
                "%+.1f points", "Accuracy of the teacher less that of the student, in percentage points"
            ),
        },
    )


def show_calibration(readings: Sequence[TeacherReading]) -> None:
    if source.text is not None:
        st.info(f"The calibration is not known here. {NO_LOGITS}", icon=":material/short_text:")
        return
    if source.curves.labels is None:
        st.info("These logits have no labels, so their calibration is not known.", icon=":material/label_off:")
        return
    show_figure(reliability_figure(readings), key="teachers-reliability", code=commands)
    show_table(
        calibration_table(readings),
        key="teachers-calibration",
        alt="Calibration error and negative log-likelihood of each teacher before and after one fitted temperature",
        columns={
            "Fitted τ": number("%.2f", "The temperature with the smallest NLL on these labels; above 1: overconfident"),
            **{
                f"ECE at {when}": number("%.2f %%", "Expected calibration error over 15 bins")
                for when in ("τ = 1", "fitted τ")
            },
            **{
                f"NLL at {when}": number("%.3f", "Negative log-likelihood of the labels, in nats")
                for when in ("τ = 1", "fitted τ")
            },
        },
    )


head = st.container()
others = choose_others()
loaded = load_all(others)
# They can be compared at one mean entropy only: the softest that is recommended, as all floors leave that to all.
found = (anchor_of(each.fingerprint, view.floor, each) for each in loaded.values())
anchors = [anchor for anchor in found if anchor is not None]
target = max((anchor.target for anchor in anchors), default=0.5)
readings = read_all(loaded, target)
if readings and anchors:
    commands = code(readings)
    wanted = next(anchor for anchor in anchors if anchor.target == target)
    uncertainty = f" ({wanted.uncertainty})" if wanted.uncertainty else ""
    softest = ", on the teacher where that is softest" if len({anchor.target for anchor in anchors}) > 1 else ""
    st.caption(
        f"Every teacher at its own τ and ρ, where its mean entropy is {target:.3g} ln C: "
        f"{wanted.title}{softest}{uncertainty}; the floor is {view.floor:g}."
    )
    if source.text is not None:  # which entropies depend on
        st.caption(plain(f"Precision: {'; '.join(precisions(loaded))}."))
    show_consistency(readings)
    tabs = {"Why": show_ratios, "Student": show_gap, "Calibration": show_calibration, "Tables": show_table_of_all}
    show_tabs({title: partial(show, readings) for title, show in tabs.items()}, key="teachers_tab")
else:
    with head:
        page_head(QUESTION)
