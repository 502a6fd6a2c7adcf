"""Weights: who is heard more and who less: temperatures, weights against difficulty, shares of the gradient."""

from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from app.selection import select
from app.settings import page_setting
from app.state import NO_LOGITS, Code, current_view, in_its_words
from app.thumbnails import thumbnails
from app.token_list import in_context
from app.widgets import loading_torch, page_head, plain, show_figure, show_floor, show_table, show_tabs
from cist_core.charts.gradients import gradient_figure
from cist_core.charts.weights import difficulty_figure, factors_figure, weight_figure
from cist_core.samples.gradients import GradientNorms, cist_gradients, kd_gradients
from cist_core.samples.selection import Selection
from cist_core.samples.table import Measure
from cist_core.temperature.weights import WEIGHT_FORMULAS, SampleWeights, rank_correlation
from cist_core.wording import percent, three_digits

SECTION = "Look"
ORDER = 40
ICON = ":material/balance:"

# What the segmented control says, and the measure it means.
DIFFICULTY = {"margin": "margin", "student loss": "student_loss", "entropy": "entropy", "surprisal": "surprisal"}
GRADIENT_MODES = ("constant", "scale-free", "full")
LOSSES = ("divergence", "whole loss")
ROWS = 8
# Up to this many logits the gradients follow the sliders unasked.
AT_ONCE = 2_000_000
_HELP = {
    "Weight": "Times the mean weight",
    "τ teacher": "The teacher's factor, in logit units",
    "τ student": "The student's factor, in logit units",
    "Student loss": "Cross-entropy with the label, in nats",
    "Margin": "The teacher's largest logit minus the second, in logit units",
}
ENDS = {
    "Image": st.column_config.ImageColumn(width="small", pinned=True),
    "Sample": st.column_config.NumberColumn(in_its_words("Sample"), format="%d", help="Position in the split"),
    **{name: st.column_config.NumberColumn(format="%.3g", help=words) for name, words in _HELP.items()},
}

view = current_view()
source, student, labels = view.source, view.source.student, view.source.curves.labels


def choose_weighting() -> tuple[str, bool]:
    """The weighting and whether it is normalised; without a student only the teacher's own is possible."""
    if student is None:
        return "teacher", False
    weighting = st.segmented_control(
        "Weighting",
        list(WEIGHT_FORMULAS),
        default="product",
        required=True,
        **page_setting("weights_weighting"),
        help="product: τₜ τₛ, teacher: τₜ², student: τₛ², uniform: the mean of the product, none: 1. "
        "Where something else than confidence scales the logits, such as several teachers, uniform trained better.",
    )
    normalise = st.toggle(
        "Normalise to mean 1",
        **page_setting("weights_normalise"),
        help="Divide the weights by their mean. It moves no sample against another.",
    )
    return str(weighting), normalise


def choose_measure() -> Measure:
    """The measure of difficulty; only those that these samples have are offered."""
    have = {measure.name: measure for measure in view.samples.measures()}
    options = {words: have[name] for words, name in DIFFICULTY.items() if name in have}
    if st.session_state.get("weights_measure") not in options:
        st.session_state.pop("weights_measure", None)
    chosen = st.segmented_control(
        "Against",
        list(options),
        default=next(iter(options)),
        required=True,
        **page_setting("weights_measure"),
        help="; ".join(f"{words}: {measure.help}" for words, measure in options.items()),
    )
    return options[str(chosen)]


def code(imports: str, lines: str) -> Code:
    """The pair's command, and Python that loads the logits first."""
    if source.text is not None:
        return Code(view.code().command, f"{imports}{source.imports}\n{source.loading}{lines}")
    loads = f"teacher = {source.reference.expression}\n"
    if source.student_reference is not None:
        loads += f"student = {source.student_reference.expression}\n"
    return Code(view.code().command, f"{imports}{source.imports}\n{loads}{lines}")


def weights_code() -> Code:
    models = "teacher" if student is None else "teacher, student"
    imports = "from cist_core import EntropyCurves\n" if source.text is None else ""
    read = f"curves = [EntropyCurves.from_logits(logits) for logits in [{models}]]\n"
    return code(
        f"{imports}from cist_core.temperature.weights import SampleWeights\n",
        f"{read if source.text is None else 'curves = [curves]' + chr(10)}"
        f"weights = SampleWeights.of(\n"
        f'    *curves, rho={view.rho:g}, floor={view.floor:g}, weighting="{weighting}", normalise={normalise}\n'
        ")\n"
        f"print(weights.effective_samples, weights.raised({ROWS}), weights.lowered({ROWS}))\n",
    )


def show_difficulty() -> None:
    """The chart, and beside it the three numbers of the weights."""
    values = view.samples.column(measure.name)
    figure = difficulty_figure(weights, values, measure, selected=view.selected)
    with head:
        page_head("Who is heard more, who less?", figure.title)
    chart, numbers = st.columns([3, 1], gap="large")
    with chart:
        show_figure(figure, key="weights-difficulty", code=weights_code(), heading=False)
    correlation = None if weights.equal else rank_correlation(weights.weight, values)
    with numbers:
        st.metric(
            "Effective sample size",
            f"{round(weights.effective_samples):,} ({percent(weights.effective_share)})",
            help=in_its_words(
                "(Σw)² / Σw²: how many samples of equal weight would count as much; in brackets, as a share of all."
            ),
        )
        st.metric(
            "Spread of the weight",
            f"{three_digits(weights.spread)} of its mean",
            help="Standard deviation of the weights over their mean.",
        )
        st.metric(
            f"Spearman with {measure.title}",
            "held constant" if correlation is None else f"{correlation:.3f}",
            help=in_its_words("Rank correlation of the weight and the measure over the samples."),
        )
        show_floor(view.cist)


def show_distributions() -> None:
    left, right = st.columns(2, gap="large")
    with left:
        show_figure(factors_figure(weights, selected=view.selected), key="weights-factors", code=weights_code())
    with right:
        show_figure(weight_figure(weights, selected=view.selected), key="weights-weight", code=weights_code())


def choose_gradient() -> tuple[str, bool, bool]:
    """Where the gradient flows, whether it is that of the whole loss, and whether it is wanted at all."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        mode = st.segmented_control(
            "Gradient through the student's temperature",
            GRADIENT_MODES,
            default=GRADIENT_MODES[0],
            required=True,
            **page_setting("weights_gradient"),
            help="constant: nowhere; scale-free: in the softmax; full: in the softmax and in the weight. "
            "At the floor and at the fixed temperature there is none.",
        )
        loss = LOSSES[0] if labels is None else st.segmented_control(
            "Of",
            LOSSES,
            default=LOSSES[0],
            required=True,
            **page_setting("weights_loss"),
            help="The weighted divergence alone, or 0.1 of the cross-entropy and 0.9 of the divergence.",
        )  # fmt: skip
        wanted = source.logit_set.logits.size <= AT_ONCE or st.toggle(
            f"Compute for all {source.logit_set.num_samples:,} samples",
            key="weights_compute",
            help="So many logits take seconds after every move of a slider.",
        )
    return str(mode), loss == LOSSES[1], wanted


def show_gradients() -> None:
    """The share of the gradient under both rules; nothing until somebody asks for that of a large set."""
    if source.text is not None:
        st.info(f"There are no gradients here. {NO_LOGITS}", icon=":material/short_text:")
        return
    if student is None:
        st.info("Choose a student in the sidebar to see the gradients.", icon=":material/person_off:")
        return
    place = st.container()
    mode, whole, wanted = choose_gradient()
    with place:
        if not wanted:
            st.info(
                f"The gradients of {source.logit_set.num_samples:,} samples take a while: switch them on below.",
                icon=":material/hourglass:",
            )
            return
        fixed, cist = gradient_norms(mode, whole)
        show_figure(
            gradient_figure((view.fixed.rule, fixed), (view.cist.rule, cist), selected=view.selected),
            key="weights-gradients",
            code=gradients_code(mode, whole),
        )
    show_gradient_table(fixed, cist)


def gradient_norms(mode: str, whole: bool) -> tuple[GradientNorms, GradientNorms]:
    """Under the fixed temperature and under CIST."""
    assert student is not None
    with loading_torch():
        import cist_core.objectives  # noqa: F401 - so that the wait has its words
    fingerprints = (source.logit_set.fingerprint, student.logit_set.fingerprint)
    return (
        kd_norms(fingerprints, view.tau, whole),
        cist_norms(fingerprints, view.rho, view.floor, weighting, normalise, mode, whole),
    )


def show_gradient_table(fixed: GradientNorms, cist: GradientNorms) -> None:
    """The gradients of the samples with the largest and the smallest weight."""
    if weights.equal:
        return
    table = ends_table(np.concatenate([weights.raised(ROWS), weights.lowered(ROWS)])).drop(columns="Margin")
    for rule, norms in (("τ", fixed), ("CIST", cist)):
        table[f"Gradient {rule}"] = norms.share[table["Sample"]] * weights.samples
    show_table(
        table,
        key="weights-gradients-table",
        alt=f"The gradients of the {ROWS} samples with the largest weight and of the {ROWS} with the smallest",
        columns=ENDS
        | {
            f"Gradient {rule}": st.column_config.NumberColumn(
                format="%.3g", help=f"Size of the gradient {where}, times the mean over the samples"
            )
            for rule, where in (("τ", f"at τ = {view.tau:g}"), ("CIST", "under CIST"))
        },
        row_height=56 if "Image" in table else None,
        height=290,
    )


def gradients_code(mode: str, whole: bool) -> Code:
    terms = ", labels=teacher.labels, lambda_ce=0.1, lambda_kl=0.9" if whole else ""
    options = f'weighting="{weighting}", normalise={normalise}, gradient="{mode}"{terms}'
    return code(
        "from cist_core.samples.gradients import cist_gradients, kd_gradients\n",
        'models = {"student_logits": student.logits, "teacher_logits": teacher.logits}\n'
        f"print(kd_gradients(**models, tau={view.tau:g}{terms}).held_by(0.1))\n"
        f"print(cist_gradients(**models, rho={view.rho:g}, floor={view.floor:g}, {options}).held_by(0.1))\n",
    )


@st.cache_data(show_spinner="Computing the gradients under τ", max_entries=4)
def kd_norms(fingerprints: tuple[str, str], tau: float, whole: bool) -> GradientNorms:
    return kd_gradients(**inputs(whole), tau=tau)


@st.cache_data(show_spinner="Computing the gradients under CIST", max_entries=4)
def cist_norms(
    fingerprints: tuple[str, str], rho: float, floor: float, weighting: str, normalise: bool, mode: str, whole: bool
) -> GradientNorms:
    return cist_gradients(
        **inputs(whole), rho=rho, floor=floor, weighting=weighting, normalise=normalise, gradient=mode
    )


def inputs(whole: bool) -> dict[str, Any]:
    """The logits that the fingerprints are of; for the whole loss also the labels and the weights of its terms."""
    assert student is not None
    both = {"student_logits": student.logit_set.logits, "teacher_logits": source.logit_set.logits}
    return both | ({"labels": labels, "lambda_ce": 0.1, "lambda_kl": 0.9} if whole else {})


def ends_table(rows: np.ndarray) -> pd.DataFrame:
    """These samples with their pictures, classes and factors."""
    names = source.predictions.class_names

    def classes(of: np.ndarray) -> list[str]:
        return [str(index) if names is None else names[index] for index in of]

    pictures = thumbnails(view, rows)
    table = {
        **({} if pictures is None else {"Image": pictures}),
        "Sample": rows,
        **({} if source.text is None else {"In the text": in_context(view, rows)}),
        **({} if labels is None else {"Class": classes(labels[rows])}),
        "Prediction": classes(source.curves.statistics.top1[rows]),
        "Weight": weights.relative[rows],
        "τ teacher": weights.teacher[rows],
    }
    if student is not None and weights.student is not None:
        table["τ student"] = weights.student[rows]
        if labels is not None:
            table["Student loss"] = student.loss[rows]
    table["Margin"] = source.curves.statistics.gap[rows]
    return pd.DataFrame(table)


def show_ends() -> None:
    """The samples with the largest and with the smallest weight, side by side."""
    if weights.equal:
        st.caption(in_its_words("Under this weighting no sample is raised or lowered."))
        return
    ends = {"raised": (weights.raised(ROWS), "most"), "lowered": (weights.lowered(ROWS), "least")}
    for place, (end, (rows, words)) in zip(st.columns(2, gap="large"), ends.items(), strict=True):
        with place:
            st.subheader(end_sentence(end, rows), anchor=False)
            table = ends_table(rows)
            show_table(
                table,
                key=f"weights-{end}",
                alt=f"The {len(rows)} samples that weigh {words} under CIST",
                columns=ENDS,
                row_height=56 if "Image" in table else None,
                height="content",
            )
            st.button(
                f"Highlight these {len(rows)} everywhere",
                icon=":material/my_location:",
                key=f"weights-select-{end}",
                on_click=select,
                args=(Selection().among("index", rows),),
            )


def end_sentence(end: str, rows: np.ndarray) -> str:
    """By how much these samples are raised or lowered, and how often the teacher is right on them."""
    times = weights.relative[rows]
    reach = f"{three_digits(float(times.min()))} to {three_digits(float(times.max()))}"
    correct = source.curves.correct
    right = 0 if correct is None else int(correct[rows].sum())
    which = f"all {len(rows)}" if right == len(rows) else f"{right} of {len(rows)}"
    told = "" if correct is None else f"; the teacher gets {which} right"
    return plain(f"The {len(rows)} most {end} weigh {reach} times the mean{told}")


head = st.container()
if source.text is not None:
    st.info(
        "A text has no student here, as that needs all logits, which are not kept; so this page shows the teacher's "
        "half: its temperatures, and its factor squared as the weight.",
        icon=":material/person_off:",
    )
elif student is None:
    st.info(
        "No student is chosen, so this page shows the teacher's half: its temperatures, and its factor squared as "
        "the weight. Choose a student in the sidebar for the product, the student's loss and the gradients.",
        icon=":material/person_off:",
    )
with st.container(horizontal=True, vertical_alignment="bottom"):
    weighting, normalise = choose_weighting()
    measure = choose_measure()
weights = SampleWeights.of(
    source.curves,
    None if student is None else student.curves,
    rho=view.rho,
    floor=view.floor,
    weighting=weighting,
    normalise=normalise,
)

show_difficulty()
show_tabs({"Why": show_distributions, "Exceptions": show_ends, "Gradients": show_gradients}, key="weights_tab")
