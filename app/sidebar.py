"""The sidebar: the source, and the two rules that are compared on it."""

from __future__ import annotations

import math

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from app.state import Source, View
from app.widgets import show_error
from cist_core.cards import Card, sample_models
from cist_core.data import DATASETS
from cist_core.errors import CistError
from cist_core.rho import matched_pair
from cist_core.sources import load_logits

TAU_RANGE = (0.25, 20.0)
RHO_RANGE = (0.5, 15.0)
STEP = 0.01

_KEPT_SOURCES = 4


def choose_source(sidebar: DeltaGenerator) -> Source | None:
    """Let the user pick teacher, data and split, and load them; None after an error, which is on the page then."""
    # Teachers before students, and the one whose images come along first: it is what the app opens on.
    cards = {
        card.name: card
        for card in sorted(sample_models(), key=lambda c: (c.role != "teacher", not DATASETS[c.data].bundled))
    }
    teacher = sidebar.selectbox("Teacher", list(cards), key="teacher", bind="query-params")
    sidebar.caption(cards[teacher].title)
    data = sidebar.selectbox("Data", _suitable_data(cards[teacher]), key="data", bind="query-params")
    split = sidebar.segmented_control(
        "Split", list(DATASETS[data].splits), default="test", required=True, key="split", bind="query-params"
    )
    return _load(teacher, data, str(split))


def _suitable_data(card: Card) -> list[str]:
    """The data set of the teacher first, then those with as many classes and images of the same shape."""
    own = DATASETS[card.data]
    others = (info for info in DATASETS.values() if info is not own)
    return [
        own.name,
        *(info.name for info in others if (info.classes, info.image_shape) == (own.classes, own.image_shape)),
    ]


def _load(teacher: str, data: str, split: str) -> Source | None:
    """The source from this session's few last ones, or read, or inferred with a progress bar on the page."""
    kept: dict[tuple[str, str, str], Source] = st.session_state.setdefault("_sources", {})
    name = (teacher, data, split)
    if name in kept:
        kept[name] = kept.pop(name)
        return kept[name]
    place = st.empty()
    download = st.session_state.pop("_download", False)
    try:
        with place.container():
            bar = st.progress(0.0, text=f"Preparing {teacher} on {data}, {split} split")
            result = load_logits(
                teacher,
                data,
                split,
                download=download,
                progress=lambda done, total: bar.progress(
                    done / total, text=f"{teacher} on {data}: {done / total:.0%}"
                ),
            )
            source = Source.of(teacher, data, split, result.logit_set)
    except CistError as error:
        with place.container():
            action = None if DATASETS[data].bundled else f"Download {data}"
            show_error(error, action=action, on_click=_allow_download)
        return None
    place.empty()
    while len(kept) >= _KEPT_SOURCES:
        kept.pop(next(iter(kept)))
    kept[name] = source
    return source


def _allow_download() -> None:
    st.session_state["_download"] = True


def choose_rules(sidebar: DeltaGenerator, source: Source) -> View:
    """The two sliders and the switch that ties them to the same mean entropy."""
    _start_pair(source)
    sidebar.slider(
        "Fixed temperature τ",
        *TAU_RANGE,
        value=_in_range(source.default_pair.tau, TAU_RANGE),
        step=STEP,
        key="tau",
        bind="query-params",
        on_change=_match,
        args=(source, "tau"),
        help="One temperature for all samples. Higher is softer.",
    )
    sidebar.slider(
        "CIST ρ",
        *RHO_RANGE,
        value=_in_range(source.default_pair.rho, RHO_RANGE),
        step=STEP,
        key="rho",
        bind="query-params",
        on_change=_match,
        args=(source, "rho"),
        help="The ratio that CIST gives every sample: τᵢ = max(centred logits) / ρ. Higher is sharper.",
    )
    sidebar.toggle(
        "Match mean entropy",
        value=True,
        key="matched",
        bind="query-params",
        on_change=_match,
        args=(source, "tau"),
        help="Moving one slider moves the other to the same mean entropy, so that spreads can be compared.",
    )
    # A link may carry anything, and Streamlit passes NaN on.
    view = View.of(source, *(_number(st.session_state[key], key, source) for key in ("tau", "rho")))
    if st.session_state["matched"] and not view.matched:
        sidebar.caption("No partner within the sliders has this mean entropy: the pair is not matched.")
    elif not view.matched:
        sidebar.caption("Not matched: spreads at different mean entropies do not compare.")
    return view


def _start_pair(source: Source) -> None:
    """A new source starts at its own default pair; a link that names only one of the two gets its partner."""
    name = (source.teacher, source.data, source.split)
    before = st.session_state.get("_pair_of")
    st.session_state["_pair_of"] = name
    if before is None:
        given = [key for key in ("tau", "rho") if key in st.query_params]
        if len(given) == 1 and "matched" not in st.query_params:
            st.session_state[given[0]] = _number(st.query_params[given[0]], given[0], source)
            _match(source, given[0])
    elif before != name:
        st.session_state["tau"] = _in_range(source.default_pair.tau, TAU_RANGE)
        st.session_state["rho"] = _in_range(source.default_pair.rho, RHO_RANGE)


def _number(value: str | float, key: str, source: Source) -> float:
    """A slider position from a link: within the slider's range, or the default if it is no number at all."""
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if math.isnan(number):
        number = getattr(source.default_pair, key)
    return _in_range(number, TAU_RANGE if key == "tau" else RHO_RANGE)


def _match(source: Source, moved: str) -> None:
    """Give the slider that was not moved the value with the same mean entropy, as near as its range allows."""
    if not st.session_state.get("matched", True):
        return
    try:
        pair = matched_pair(source.curves, **{moved: st.session_state[moved]})
    except CistError:
        return  # tied or constant logits: the note under the sliders says that the pair is not matched
    if moved == "tau":
        st.session_state["rho"] = _in_range(pair.rho, RHO_RANGE)
    else:
        st.session_state["tau"] = _in_range(pair.tau, TAU_RANGE)


def _in_range(value: float, bounds: tuple[float, float]) -> float:
    """The slider position nearest to a value."""
    return round(min(max(value, bounds[0]), bounds[1]), 2)
