"""Choose ρ: which ρ gives the soft labels that trained best, and how consistent they are beside a fixed temperature."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pandas as pd
import streamlit as st

from app.forms.rho_export import CONFIGS, Chosen, export, snippet
from app.links import page_choice
from app.ranking import compare_entropies
from app.settings import page_setting
from app.sidebar import move_rho
from app.sliders.marker import move_marker
from app.state import Code, current_view, in_its_words
from app.widgets import (
    loading_torch,
    page_head,
    plain,
    profile_cells,
    profile_config,
    show_error,
    show_figure,
    show_floor,
    show_table,
    show_tabs,
)
from cist_core.cards import find_sample_model
from cist_core.charts.rho import evidence_figure, gain_figure, rho_figure
from cist_core.compare.anchors import ANCHORS, KD_TAU_1, KD_TAU_4, OWN, TRAINED_BEST, Anchor, find_anchors
from cist_core.compare.evidence import evidence_for
from cist_core.compare.findings import comparison
from cist_core.compare.recommendation import (
    RhoRecommendation,
    recommend_rho,
    recommendation_sentence,
    rho_outcome,
)
from cist_core.compare.rho_curves import RHOS, GainCurve, RhoSweep, gain_curve, rho_sweep
from cist_core.entropy.curves import EntropyCurves
from cist_core.errors import CistError
from cist_core.logits.choices import CLIPPED, chosen_at
from cist_core.temperature import Cist, Fixed, TemperatureRule
from cist_core.temperature.columns import COMPACT
from cist_core.wording import three_digits

SECTION = "Decide"
ORDER = 10
ICON = ":material/tune:"

QUESTION = "Which ρ suits this teacher?"
WHY, GAIN, COMPARE, TABLES, EXPORT = "Why", "Gain", "Compare entropies", "Tables", "Export"
CHART_HEIGHT = 420
BY_ENTROPY, BY_TEMPERATURE = "entropies", "temperatures"
_KEPT = 8
_GREEK = {"tau": "τ", "rho": "ρ"}


class Wanted(NamedTuple):
    """What is asked for: an anchor by its key, or a target and a range of one's own; nothing is the usual one."""

    anchor: str | None = None
    target: float | None = None
    ends: tuple[float, float] | None = None
    taus: tuple[float, float] | None = None


view = current_view()
source, student = view.source, view.source.student


@st.cache_data(show_spinner="Reading every ρ", max_entries=_KEPT)
def all_rhos(fingerprint: str, _curves: EntropyCurves, reach: float, floor: float) -> tuple[RhoSweep, GainCurve]:
    """The curves of both charts; they depend on logits and floor, and on a ρ only if it is further out than all."""
    sweep = rho_sweep(_curves, reach=reach, floor=floor)
    return sweep, gain_curve(_curves, sweep)


@st.cache_data(show_spinner=False, max_entries=_KEPT)
def anchors_of(fingerprint: str, of_text: bool, _curves: EntropyCurves, floor: float) -> tuple[Anchor, ...]:
    found = find_anchors(_curves, floor=floor)
    # What is usual and what trained best for images says nothing of a vocabulary.
    return tuple(anchor for anchor in found if not of_text or anchor.key in (KD_TAU_4, KD_TAU_1))


@st.cache_data(show_spinner=False, max_entries=4 * _KEPT)
def recommended(fingerprint: str, _curves: EntropyCurves, wanted: Wanted, floor: float) -> RhoRecommendation:
    low, high = wanted.ends or (None, None)
    return recommend_rho(
        _curves, anchor=wanted.anchor, target=wanted.target, low=low, high=high, tau_range=wanted.taus, floor=floor
    )


def choose_anchor() -> str:
    """Which anchor is used, by the names of the command line, which the address holds; each with its source."""
    offered = {anchor.key: anchor for anchor in anchors}
    titles = {**{key: title_of(anchor) for key, anchor in offered.items()}, OWN: capitalised(ANCHORS[OWN])}
    # The default of the teacher before, which nobody chose, gives way to that of this one.
    before = st.session_state.get("_rho_default", usual.anchor.key)
    if st.session_state.get("rho_anchor") == before:
        st.session_state["rho_anchor"] = usual.anchor.key
    st.session_state["_rho_default"] = usual.anchor.key
    chosen = page_choice(
        st.radio, "Choose ρ by", titles, key="rho_anchor", what="way to choose ρ", default=usual.anchor.key,
        captions=[*(plain(anchor.refused or anchor.why) for anchor in anchors), "A target, and a range around it."],
    )  # fmt: skip
    if TRAINED_BEST not in offered:
        st.caption(
            f"None of our own students were trained with about {source.predictions.num_classes:,} classes, so nothing "
            "is said here of what trained best."
        )
    return chosen


def title_of(anchor: Anchor) -> str:
    """What it is, with its ρ where the name does not say it."""
    rho = "" if anchor.rho is None or f"ρ = {anchor.rho:g}" in anchor.title else f" (ρ = {three_digits(anchor.rho)})"
    return f"{capitalised(anchor.title)}{rho}"


def capitalised(words: str) -> str:
    return f"{words[0].upper()}{words[1:]}"


def own_wishes() -> Wanted:
    """A target and a range of one's own, as entropies or as two temperatures."""
    target = st.slider(
        "Wanted mean entropy, share of ln C",
        0.01, 0.99, min(max(round(usual.target, 2), 0.01), 0.99), 0.01, **page_setting("rho_target"),
        help=in_its_words("The mean over the samples. It starts at the recommended one."),
    )  # fmt: skip
    by = st.segmented_control(
        "Range by", [BY_ENTROPY, BY_TEMPERATURE],
        default=BY_ENTROPY, required=True, **page_setting("rho_by"),
        help="Which soft labels come into question: mean entropies from and to, or those of two temperatures.",
    )  # fmt: skip
    ends, taus = (range_of_entropies(), None) if by == BY_ENTROPY else (None, two_temperatures())
    return Wanted(OWN, target, ends, taus)


def usual_ends() -> tuple[float, float]:
    """The recommended range in the steps of the slider, never empty."""
    low, high = round(usual.low, 2), round(usual.high, 2)
    return (low, high) if low < high else (max(0.0, round(low - 0.05, 2)), min(1.0, round(high + 0.05, 2)))


def range_of_entropies() -> tuple[float, float]:
    low, high = st.slider(
        "From and to, shares of ln C",
        0.0, 1.0, usual_ends(), 0.01, **page_setting("rho_ends"),
        on_change=keep_target_inside,
    )  # fmt: skip
    return low, high


def two_temperatures() -> tuple[float, float]:
    coolest, warmest = source.ranges["tau"]
    cooler, warmer = (round(end or source.default_pair(view.floor).tau, 1) for end in usual.tau_band)
    low, high = st.slider(
        "From and to, fixed temperatures τ",
        coolest, warmest, (max(coolest, cooler), min(warmest, warmer)), 0.05,
        **page_setting("rho_taus"),
        help="They start where the recommended range of entropies ends on this teacher.",
    )  # fmt: skip
    return low, high


def keep_target_inside() -> None:
    low, high = st.session_state["rho_ends"]
    st.session_state["rho_target"] = min(max(st.session_state["rho_target"], low, 0.01), high, 0.99)


def recommend() -> tuple[RhoRecommendation, Code]:
    """What the controls ask for; where that cannot be had, it is said, and what is recommended stands in."""
    chosen = choose_anchor()
    wanted = own_wishes() if chosen == OWN else Wanted(chosen)
    try:
        return recommended(source.predictions.fingerprint, source.curves, wanted, view.floor), code(wanted)
    except CistError as error:
        show_error(error)
        return usual, code(Wanted(usual.anchor.key))


def code(wanted: Wanted) -> Code:
    """The same numbers without the app."""
    if wanted.target is None:
        options, arguments = f"--anchor {wanted.anchor}", f'anchor="{wanted.anchor}"'
    else:
        options, arguments = f"--target {wanted.target:g}", f"target={wanted.target:g}"
    if wanted.ends is not None:
        low, high = wanted.ends
        options, arguments = f"{options} --range {low:g} {high:g}", f"{arguments}, low={low:g}, high={high:g}"
    if wanted.taus is not None:
        cooler, warmer = wanted.taus
        options = f"{options} --tau-range {cooler:g} {warmer:g}"
        arguments = f"{arguments}, tau_range=({cooler:g}, {warmer:g})"
    floor_option = "" if view.floor == source.usual_floor else f" --floor {view.floor:g}"
    return Code(
        f"cist rho {source.arguments}{source.student_arguments} {options}{floor_option}",
        "from cist_core import EntropyCurves, gain_curve, recommend_rho, rho_sweep\n"
        f"{source.reference.imports}\n"
        f"{source.loading}"
        f"found = recommend_rho(curves, {arguments}, floor={view.floor:g})\n"
        "print(found.rho, found.band, found.matched_tau, found.gain)\n"
        f"sweep = rho_sweep(curves, reach=1.2 * found.rho, floor={view.floor:g})  # the first chart\n"
        "gains = gain_curve(curves, sweep)  # the second\n",
    )


def lift_floor() -> None:
    """Let a ρ have the mean entropy of any τ, from a callback."""
    st.session_state["floor"] = 0.0


def pick(points: list[dict[str, float]]) -> None:
    st.session_state["_rho_turn"] = st.session_state.get("_rho_turn", 0) + 1
    move_rho(points[0]["rho"])


def show_now() -> None:
    """The anchor that is no recommendation: where the slider stands."""
    now = view.cist.profile
    st.caption(
        f"**Now**: ρ = {view.rho:g}, mean {three_digits(now.mean)} nats ({100 * now.normalised_mean:.3g} % of ln C). "
        "A click in the chart moves it."
    )


def show_numbers(found: RhoRecommendation) -> None:
    with st.container(horizontal=True, gap="large"):
        st.metric(
            "Recommended ρ",
            three_digits(found.rho),
            delta=f"range {range_in_words(*found.band)}" if found.has_range else None,
            delta_color="off",
            delta_arrow="off",
            help="By what is chosen above; the range is that of the ρ at both ends, as far as a ρ reaches them.",
            width="content",
        )
        st.metric(
            "Same mean entropy as",
            "no τ" if found.matched_tau is None else f"τ = {three_digits(found.matched_tau)}",
            help="The fixed temperature that the recommended ρ stands beside.",
            width="content",
        )
        st.metric(
            "Consistency gain there",
            found.outcome.gain_words,
            help="Spread at that fixed temperature over spread under CIST. Below 1, CIST is the less consistent one.",
            width="content",
        )


def show_actions(found: RhoRecommendation) -> None:
    """Use it here, copy it, distill with it."""
    least, largest = source.ranges["rho"]
    nearest = min(max(found.rho, least), largest)
    there = abs(view.rho - nearest) <= 0.0051
    taken = f"{nearest:.3g}"
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.button(
            f"Use ρ = {taken}" if nearest == found.rho else f"Use ρ = {taken}, the nearest",
            key="rho_use",
            on_click=move_rho,
            args=(nearest,),
            type="primary",
            icon=":material/check:",
            disabled=there,
            help="It is in use." if there else "Moves the slider, for the whole app.",
        )
        with st.popover("Copy", icon=":material/content_copy:"):
            rule = Cist(float(f"{found.rho:.4g}"), view.floor)
            st.caption("The rule, as the command line and links write it")
            st.code(str(rule), language=None)
            configs = "" if source.text is not None else "; configs stand in the tab Export"
            st.caption(f"For a training loop of your own{configs}")
            st.code(snippet(rule, of_text=source.text is not None), language="python", height=240)
        if st.button(
            "Distill with it", key="rho_distill", icon=":material/science:", on_click=move_rho, args=(nearest,),
            help="Moves the slider and opens Distill, which compares it with the matched temperature.",
        ):  # fmt: skip
            st.switch_page("../pages/distill.py")
    if nearest != found.rho:
        st.caption(
            f"The slider goes from ρ = {least:g} to {largest:g}: the recommended {three_digits(found.rho)} "
            "lies beyond it, and can be used on the command line and in Python."
        )


def show_floor_of_clip() -> None:
    """What the floor of clipped zeros decides, of the teacher and of the student."""
    provenances = {"": source.predictions.provenance}
    if student is not None:
        provenances["Of the student: "] = student.logit_set.provenance
    for whose, provenance in provenances.items():
        said = chosen_at(provenance, CLIPPED)
        if said is not None:
            st.warning(plain(f"{whose}{said}"), icon=":material/warning:")


def range_in_words(softer: float | None, sharper: float | None) -> str:
    """From one ρ to the other; an end that no ρ reaches, because of the floor or of ties, is open."""
    if softer is not None and sharper is not None:
        return f"{three_digits(softer)} to {three_digits(sharper)}"
    if softer is not None:
        return f"{three_digits(softer)} or more"
    return "any" if sharper is None else f"up to {three_digits(sharper)}"


def side_by_side() -> pd.DataFrame:
    """Fixed temperature and CIST as they are set now, the student at the same ρ and floor; in nats and percent."""
    rows = [("teacher", reading.rule, reading.profile) for reading in view.pair]
    if student is not None:
        outcome = rho_outcome(student.curves, view.rho, floor=view.floor)
        rows += [("student", rule, profile) for rule, profile in outcome.profiles]
    return pd.DataFrame(
        [
            {"Model": model, "Rule": rounded(rule), **profile_cells(COMPACT, rule, profile)}
            for model, rule, profile in rows
        ]
    )


def rounded(rule: TemperatureRule) -> str:
    """The rule with three digits of its parameters, as one of the student's has many."""
    names = [f"{_GREEK.get(name, name)} = {three_digits(value)}" for name, value in rule.written.items()]
    return f"{'fixed' if isinstance(rule, Fixed) else 'CIST'} {', '.join(names)}"


def show_side_by_side() -> None:
    st.subheader(comparison(*view.pair), anchor=False)
    show_table(
        side_by_side(),
        key="rho-side-by-side",
        alt="Spread, over-sharp and over-smoothed shares of the fixed temperature and of CIST, side by side",
        columns=profile_config(COMPACT, view.fixed.profile),
    )
    if student is not None:
        st.caption(
            f"The student {plain(student.name)} stands at the same ρ and floor, and has its own mean entropy there; "
            "its fixed temperature is the one with that mean entropy."
        )


def show_export(recommending: str) -> None:
    """The ρ that is set now, for a run or for a loop of one's own."""
    with st.container(border=True):
        st.subheader(f"Take ρ = {view.rho:g} and the floor of {view.floor:g} with you", anchor=False)
        card = None if student is None else find_sample_model(student.name)
        teacher = None if find_sample_model(source.teacher) is None else source.teacher
        architecture = None if card is None else card.architecture
        chosen = Chosen(view.rho, view.floor, teacher, source.data, architecture, source.text is not None)
        kind = st.segmented_control(
            "As", chosen.kinds, default=chosen.kinds[0], required=True, **page_setting("rho_export"),
        )  # fmt: skip
        try:
            if kind in CONFIGS:
                with loading_torch():
                    made = export(kind, chosen, recommending)
            else:
                made = export(str(kind), chosen, recommending)
        except CistError as error:
            show_error(error)
            return
        st.code(made.text, language=made.language, wrap_lines=True, height=320 if kind in CONFIGS else "content")
        st.download_button(
            f"Download {made.file_name}",
            made.text,
            file_name=made.file_name,
            mime=made.mime,
            key="rho_download",
            on_click="ignore",
            icon=":material/download:",
        )


def show_gain(found: RhoRecommendation) -> None:
    """How much more consistent CIST is at each mean entropy, and where it is less so."""
    show_figure(gain_figure(gains, found, *view.pair, student=other_gains), key="rho-gain", code=commands)


def show_reasons(found: RhoRecommendation) -> None:
    """The students behind what is said to train best, where there are any with about as many classes; and the rest."""
    parts: dict[str, Callable[[], None]] = {
        GAIN: lambda: show_gain(found),
        COMPARE: lambda: compare_entropies(view),
        TABLES: show_side_by_side,
        EXPORT: lambda: show_export(commands.command),
    }
    evidence = None if source.text is not None else evidence_for(source.predictions.num_classes)
    if evidence is not None:
        figure = evidence_figure(evidence, found)
        parts = {WHY: lambda: show_figure(figure, key="rho-evidence", code=commands), **parts}
    show_tabs(parts, key="rho_tab")


try:
    usual = recommended(source.predictions.fingerprint, source.curves, Wanted(source.usual_anchor), view.floor)
except CistError as error:
    if source.text is None:
        raise
    page_head(QUESTION)
    show_error(error, action="Set the floor to 0", on_click=lift_floor)
else:
    anchors = anchors_of(source.predictions.fingerprint, source.text is not None, source.curves, view.floor)
    page_head(QUESTION)
    finding = st.container()
    left, right = st.columns([5, 3], gap="medium")
    with right:
        found, commands = recommend()
        show_now()
    finding.subheader(plain(in_its_words(recommendation_sentence(found))), anchor=False)
    end = float(RHOS[-1]) if source.text is None else source.ranges["rho"][1]
    reach = max(end, 1.2 * found.rho)  # with room for its words
    sweep, gains = all_rhos(source.predictions.fingerprint, source.curves, reach, view.floor)
    others, other_gains = (
        (None, None) if student is None else all_rhos(student.logit_set.fingerprint, student.curves, reach, view.floor)
    )
    turn = st.session_state.get("_rho_turn", 0)
    with left:
        show_figure(
            rho_figure(
                sweep, found, view.cist, anchors=anchors, student=others, turn=turn, most=end, height=CHART_HEIGHT
            ),
            key="rho-entropy",
            code=commands,
            heading=False,
            on_pick=pick,
        )
        move_marker("rho-entropy", found)
    show_numbers(found)
    show_actions(found)
    show_floor(view.cist)
    show_floor_of_clip()
    show_reasons(found)
