"""The sidebar with the source, and the bar with the two rules that are compared on it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import streamlit as st
from streamlit.delta_generator import DeltaGenerator
from streamlit.runtime.scriptrunner import get_script_run_ctx

from app import catalogue
from app.forms.references import Reference
from app.forms.slider_pair import Position, Slider, SliderPair
from app.links import asked_for, follow, follow_number, is_number, say_unfollowed, titled_choice
from app.people import may_launch
from app.settings import linked
from app.sliders.bar import rules_bar, show_sliders
from app.state import NO_STUDENT, Source, View, optional_view
from app.widgets import plain, show_error
from cist_core.added import Added
from cist_core.cards import Card
from cist_core.compare.matching import matched_pair
from cist_core.compare.slider_grid import NOTES, TAU_RANGE, nearest_position
from cist_core.data.loading import DATASETS
from cist_core.entropy.curves import EntropyCurves
from cist_core.errors import CistError
from cist_core.inference.sources import load_logits
from cist_core.language.text_predictions import TextPredictions
from cist_core.logits.alignment import align
from cist_core.logits.logit_set import LogitSet
from cist_core.samples.table import StudentLogits
from cist_core.temperature import Cist
from cist_core.wording import percent

STEP = 0.001
SLIDERS = (("Fixed temperature τ", "tau"), ("CIST ρ", "rho"))
FLOOR_RANGE = (0.0, TAU_RANGE[1])
_SOURCE_KEYS = ("teacher", "data", "split")
_NAMES = {"tau": "τ", "rho": "ρ", "floor": "floor of τ"}

_KEPT_SOURCES, _KEPT_SAMPLES = 4, 1_000_000


def choose_source(sidebar: DeltaGenerator, *, needed: bool = True) -> Source | None:
    """Let the user pick teacher, student, data and split, and load them.

    None after an error, which is on the page then, unless the page does not need a source.
    """
    try:
        cards = catalogue.cards()
    except CistError as error:
        if needed:
            show_error(error)
        return None
    notice = st.empty()  # on every run, or everything below it would move by one place
    catalogue.recall()
    catalogue.offer_linked(asked_for("teacher"))
    added = catalogue.ready_added()
    titles = catalogue.titles([*cards, *added])
    why = catalogue.why_not_here(asked_for("teacher"))
    if follow("teacher", list(titles), "teacher", titles=titles, why=why):
        _let_pair_go_with("teacher")
    teacher = titled_choice(sidebar.selectbox, "Teacher", titles, setting=linked("teacher"), place=sidebar)
    if teacher in added:
        own_data, own_split = catalogue.data_of(added[teacher])
        offered, splits = [own_data], [own_split]
    else:
        sidebar.caption(plain(cards[teacher].title))
        offered, splits = catalogue.suitable_data(cards[teacher]), []
    sidebar.page_link("../pages/add.py", label="Add your own", icon=":material/add_circle:")
    if follow("data", offered, "data set", depends=True):
        _let_pair_go_with("data")
    data = titled_choice(sidebar.selectbox, "Data", _same(offered), setting=linked("data"), place=sidebar)
    splits = splits or list(DATASETS[data].splits)
    usual_split = "test" if "test" in splits else splits[0]
    if follow("split", [usual_split, *splits], "split", depends=True):
        _let_pair_go_with("split")
    split = titled_choice(
        sidebar.segmented_control, "Split", _same(splits), setting=linked("split"), place=sidebar, default=usual_split,
        required=True,
    )  # fmt: skip
    students = _students(cards, added, teacher, data)
    student_titles = catalogue.titles(students)
    follow("student", students, "student", titles=student_titles, depends=True)
    student = titled_choice(
        sidebar.selectbox,
        "Student",
        student_titles,
        setting=linked("student"),
        place=sidebar,
        help="Its logits on the same samples, for the weights of CIST and for what the teacher can tell it.",
    )
    say_unfollowed(notice, "teacher", "data", "split", "student")
    return _load(teacher, data, split, student, needed=needed)


def _same(names: Sequence[str]) -> dict[str, str]:
    """Names that are titles, too."""
    return {name: name for name in names}


def open_source(added_id: str) -> None:
    """Look at something that was added: the sidebar turns to it. For a callback, before the sidebar is drawn."""
    catalogue.remember(added_id)
    st.session_state["teacher"] = added_id


def _students(cards: dict[str, Card], added: dict[str, Added], teacher: str, data: str) -> list[str]:
    """Models that answer the same samples, those made as students first; the first is the default."""
    ordered = catalogue.fitting_cards(cards, teacher, data, first="student")
    names = [card.name for card in ordered]
    if teacher in added and added[teacher].of_text:
        return [NO_STUDENT]
    if teacher in added:
        own = catalogue.own_student(added[teacher])
        alike = catalogue.alike_added(teacher, added[teacher].shape)
        return [*([] if own is None else [own]), NO_STUDENT, *alike, *names]
    return [*names, NO_STUDENT] if ordered and ordered[0].role == "student" else [NO_STUDENT, *names]


def _load(teacher: str, data: str, split: str, student: str, *, needed: bool) -> Source | None:
    """The source from this session's few last ones, or read, or inferred with a progress bar on the page."""
    kept: dict[tuple[str, ...], Source] = st.session_state.setdefault("_sources", {})
    name = (teacher, data, split, student)
    place = st.empty()  # on every run, or everything below it would move by one place
    if name in kept:
        kept[name] = kept.pop(name)
        return kept[name]
    download = st.session_state.pop("_download", False)
    try:
        with place.container():
            predictions = _predictions(teacher, data, split, download)
            learner, learner_reference = None, None
            if student != NO_STUDENT and isinstance(predictions, LogitSet):
                learner, learner_reference = _student(student, teacher, data, split, predictions)
            source = Source.of(
                teacher,
                data,
                split,
                catalogue.reference(teacher, data, split),
                predictions,
                learner,
                learner_reference,
            )
    except CistError as error:
        place.empty()
        if needed:
            with place.container():
                missing = data in DATASETS and not DATASETS[data].bundled and may_launch()
                show_error(error, action=f"Download {data}" if missing else None, on_click=_allow_download)
        return None
    place.empty()
    kept[name] = source
    while len(kept) > _KEPT_SOURCES or (
        len(kept) > 1 and sum(each.predictions.num_samples for each in kept.values()) > _KEPT_SAMPLES
    ):
        kept.pop(next(iter(kept)))
    return source


def _predictions(model: str, data: str, split: str, download: bool) -> LogitSet | TextPredictions:
    if catalogue.find_added(model) is not None:
        return catalogue.load(model, data, split)
    bar = st.progress(0.0, text=f"Preparing {model} on {data}, {split} split")

    def inferred(done: int, total: int) -> None:
        bar.progress(done / total, f"{model} on {data}: {done / total:.0%}")

    def downloaded(done: int, total: int) -> None:
        bar.progress(min(done / total, 1.0) if total else 0.0, f"Downloading {data}: {done / 1e6:,.1f} MB")

    return load_logits(
        model,
        data,
        split,
        download=download,
        progress=inferred,
        download_progress=downloaded,
    ).logit_set


def _student(
    name: str, teacher: str, data: str, split: str, teacher_logits: LogitSet
) -> tuple[StudentLogits, Reference]:
    added = catalogue.find_added(teacher)
    if added is not None and name == catalogue.own_student(added):
        logit_set, reference = catalogue.student_of(added)
    else:
        found = _predictions(name, data, split, download=False)
        assert isinstance(found, LogitSet)  # no text is offered beside images
        logit_set, reference = found, catalogue.reference(name, data, split)
    logit_set = align(teacher_logits, logit_set, name=f"the student {name}")
    return StudentLogits(name, logit_set, EntropyCurves.from_logits(logit_set), teacher=teacher_logits), reference


def _allow_download() -> None:
    st.session_state["_download"] = may_launch()  # asked again: the button may be older than the list of people


def choose_rules(sidebar: DeltaGenerator, source: Source, *, with_bar: bool = True) -> View:
    """The bar with the two sliders and the switch that ties them to the same mean entropy; the floor in the sidebar.

    Without the bar, on a page that shows neither rule, both keep their values.
    """
    ranges = _ranges(source)
    for key, ends in ranges.items():
        follow_number(key, *ends, _NAMES[key])
    _let_floor_go_with(source)
    place = st.empty()  # on every run, or everything below it would move by one place
    if source.text is not None:  # what it moves entropies by is no matter of the rules
        sidebar.caption(plain(f"Precision: {source.text.provenance.get('precision', 'not recorded')}"))
    bar, values = rules_bar()
    pair = _slider_pair(source)
    # What a link says is known once its fields are drawn; what a person has changed, before.
    moved = _move_before_drawn(pair, source, st.session_state.get("floor", source.usual_floor))
    # Before the sliders: what they start at depends on it.
    floor = values.number_input(
        "Floor", *FLOOR_RANGE, value=source.usual_floor, step=0.1, format="%g", **linked("floor")
    )
    st.session_state["floor_box"] = floor
    sidebar.number_input(
        "Floor of τ",
        *FLOOR_RANGE,
        step=0.1,
        format="%g",
        key="floor_box",
        on_change=_take_floor,
        help="CIST's smallest temperature, of teacher and student: τᵢ = max(m / ρ, floor); 0 is the pure ratio rule.",
    )
    start = source.default_pair(floor)
    for label, key in SLIDERS:
        values.slider(
            label,
            *ranges[key],
            value=nearest_position(getattr(start, key), ranges[key]),
            step=STEP,
            **linked(key),
        )
    together = values.toggle("Match mean entropy", value=True, **linked("matched"))
    # A link may carry anything, and Streamlit passes NaN on.
    tau, rho = (_number(st.session_state[key], getattr(start, key), ranges[key]) for key in ("tau", "rho"))
    if not moved:
        _move_after_drawn(pair, Position(_name(source), tau, rho, floor, together))
    view = View.of(source, tau, rho, floor, before=optional_view())
    say_unfollowed(place, *ranges)
    if with_bar:
        show_sliders(bar, view, together=together, note="" if view.matched else _note(view, together))
    return view


def _ranges(source: Source) -> dict[str, tuple[float, float]]:
    """What the sliders and the floor can be."""
    return source.ranges | {"floor": FLOOR_RANGE}


def _let_floor_go_with(source: Source) -> None:
    """Before the floor is drawn: one that stands where it started for the source before starts anew for this one."""
    before = st.session_state.get("_usual_floor")
    if before not in (None, source.usual_floor) and st.session_state.get("floor") == before:
        st.session_state["floor"] = source.usual_floor
    st.session_state["_usual_floor"] = source.usual_floor


def _take_floor() -> None:
    st.session_state["floor"] = st.session_state["floor_box"]


def _note(view: View, together: bool) -> str:
    """Why the pair is not matched, and what helps."""
    if not together:
        return NOTES["apart"]
    held, sharpest = view.cist.profile.at_floor, view.source.ranges["rho"][1]
    if held and view.rho == sharpest and view.fixed.profile.mean < view.cist.profile.mean:
        return (
            f"Not matched: no ρ up to {sharpest:g} is as sharp as τ = {view.tau:g}, as the floor of {view.floor:g} "
            f"holds on {percent(held)} of the samples there. Raise τ, or lower the floor."
        )
    return NOTES["out of reach"]


def _slider_pair(source: Source) -> SliderPair:
    """How the sliders move each other on a source."""
    taus, rhos = source.ranges["tau"], source.ranges["rho"]

    def start(floor: float) -> tuple[float, float]:
        pair = source.default_pair(floor)
        return nearest_position(pair.tau, taus), nearest_position(pair.rho, rhos)

    def partner(moved: Slider, value: float, floor: float, guess: float | None) -> float | None:
        try:
            pair = matched_pair(source.curves, **{moved: value}, floor=floor, guess=guess)
        except CistError:  # none, as with tied or constant logits; or beyond the sharpest that the floor allows
            sharpest = rhos[1]
            reached, wanted = Cist(sharpest, floor).entropy(source.curves), source.curves.at_temperature(value)
            return sharpest if moved == "tau" and reached.mean() > wanted.mean() else None
        return nearest_position(pair.rho, rhos) if moved == "tau" else nearest_position(pair.tau, taus)

    def is_matched(tau: float, rho: float, floor: float) -> bool:
        return View.of(source, tau, rho, floor).matched

    return SliderPair(start, partner, is_matched)


def _move_before_drawn(pair: SliderPair, source: Source, floor: float) -> bool:
    """Bring the sliders where they belong while they can still be moved; true if that has moved one."""
    settled: Position | None = st.session_state.get("_settled")
    belongs: Position | None = st.session_state.pop("_sliders_belong", None)
    if belongs is None:
        if settled is None:
            return False  # what a link says is known once the sliders are drawn
        if settled.source != _name(source) and _came_with_source(settled, source):
            return False  # the same of the browser's history
        start = source.default_pair(floor)
        tau, rho = (
            _number(st.session_state.get(key, getattr(settled, key)), getattr(start, key), ends)
            for key, ends in source.ranges.items()
        )
        now = Position(_name(source), tau, rho, floor, st.session_state.get("matched", settled.together))
        belongs = pair.update(settled, now)
        if belongs == now == settled:
            return False
    st.session_state["_settled"] = belongs
    for key, value in (("tau", belongs.tau), ("rho", belongs.rho), ("matched", belongs.together)):
        if st.session_state.get(key) != value:
            st.session_state[key] = value
    _move_in_one_step(settled, belongs, source)
    return True


def _move_in_one_step(settled: Position | None, belongs: Position, source: Source) -> None:
    """Let what moves together be one entry of the browser's history, so that one Back press takes back all of it.

    Streamlit makes an entry for each value that the script has set, when its widget is drawn; one that stands in the
    address already makes none. The floor is drawn first and makes the entry where it has changed, with both sliders, as
    one that stays may start elsewhere now. Else rho, the last, does where both have moved. The others are in the
    address by then.
    """
    context = get_script_run_ctx(suppress_warning=True)
    if settled is None or context is None or settled.source != belongs.source:
        return  # another source makes an entry by itself
    moved = [key for key in source.ranges if getattr(settled, key) != getattr(belongs, key)]
    silent = list(source.ranges) if settled.floor != belongs.floor else moved[:-1]
    start = source.default_pair(belongs.floor)
    with context.session_state.query_params() as address:
        for key in silent:
            if getattr(belongs, key) == nearest_position(getattr(start, key), source.ranges[key]):
                address.discard_param_no_forward_msg(key)  # where it starts, it does not stand in the address
            else:
                address.set_with_no_forward_msg(key, [f"{getattr(belongs, key):g}"])


def _move_after_drawn(pair: SliderPair, now: Position) -> None:
    """A link, or the browser's history, shows only in sliders that are drawn; to move one then takes another run."""
    belongs = pair.update(st.session_state.get("_settled"), now)
    st.session_state["_settled"] = belongs
    if belongs != now:
        st.session_state["_sliders_belong"] = belongs
        st.rerun()


def _let_pair_go_with(key: str) -> None:
    """Before another teacher, data set or split is drawn, whose entry of the history is then the only one: the
    pair starts anew, and does not stand in the address where it starts.

    Args:
        key: of a choice that `follow` did not put right. One that it did nobody has made: a link asks for what is not
            here, or the browser's history has brought another teacher, whose pair stands in the address.
    """
    settled: Position | None = st.session_state.get("_settled")
    context = get_script_run_ctx(suppress_warning=True)
    if settled is None or context is None:
        return
    assert isinstance(settled.source, tuple)
    if st.session_state.get(key) in (None, settled.source[_SOURCE_KEYS.index(key)]):
        return
    with context.session_state.query_params() as address:
        for _, slider in SLIDERS:
            address.discard_param_no_forward_msg(slider)


def _came_with_source(settled: Position, source: Source) -> bool:
    """Whether the address, that of an earlier view, has another pair than the session."""
    asked = {key: st.query_params.get(key) for key in source.ranges}
    return any(
        text is not None and is_number(text, *source.ranges[key]) and float(text) != getattr(settled, key)
        for key, text in asked.items()
    )


def _name(source: Source) -> tuple[str, str, str]:
    """By the choices of `_SOURCE_KEYS`."""
    return source.teacher, source.data, source.split


def _number(value: float, start: float, ends: tuple[float, float]) -> float:
    """A slider position from a link: within the slider's range, or where it starts if it is no number at all."""
    return nearest_position(start if math.isnan(value) else value, ends)


def move_rho(value: float) -> None:
    """Move rho for the whole app, from a callback; tau follows where they are matched."""
    view = optional_view()
    assert view is not None
    st.session_state["rho"] = nearest_position(value, view.source.ranges["rho"])
