"""Samples: what the student actually sees, one sample at a time, as pictures and as soft labels."""

import numpy as np
import streamlit as st
from numpy.typing import NDArray
from streamlit.delta_generator import DeltaGenerator

from app.gallery import AT, choose_order, open_sample, show_cards, step_to
from app.images import offer_images
from app.inspector import show_dark_knowledge, show_sample
from app.selection import select
from app.settings import page_setting
from app.state import Code, View, current_view
from app.token_list import list_tokens
from app.widgets import page_head, show_figure, show_floor, show_tabs
from cist_core.charts.soft_labels import MOST_IN_MATRIX, class_mass_figures, confused_pairs_figure, names_of
from cist_core.samples.dark_knowledge import ClassMass, mean_soft_labels
from cist_core.samples.selection import Selection
from cist_core.samples.table import find_measure

SECTION = "Look"
ORDER = 50
ICON = ":material/photo_library:"

PINS = {"A": "samples_a", "B": "samples_b"}
TOP, MOST_BARS = "samples_top", 100
TAB, PINNED = "samples_tab", "Pinned"

view = current_view()
text = view.source.text


def sample_field(label: str, key: str) -> int | None:
    """A field for the index of a sample; None where it is empty or names none of these samples."""
    shown = page_setting(key, keep=False)
    value: int | None = st.number_input(label, min_value=0, step=1, value=None, placeholder="none", **shown)
    if value is not None and value >= logit_set.num_samples:
        st.caption(f"There are {logit_set.num_samples:,} samples, counted from 0.")
        return None
    return value


def choose_sample(order: NDArray[np.int64]) -> int:
    """The buttons and fields that say which sample is open and which are pinned."""
    # The first sample of the order stays open when a slider moves; a link that names another one comes first.
    if st.session_state.get(AT, st.query_params.get(AT)) is None:
        open_sample(order[0])
    with st.container(horizontal=True, vertical_alignment="bottom", gap="xsmall"):
        buttons = st.container(horizontal=True, width="content", gap="xsmall")
        with st.container(width=105):
            chosen = sample_field("Sample", AT)
        index = int(order[0]) if chosen is None else chosen
        for pin, key in PINS.items():
            st.button(
                f"Pin {pin}", shortcut=pin, on_click=pin_sample, args=(key, index),
                key=f"samples_pin_{pin}", help="Keep this sample and compare it with another one.",
            )  # fmt: skip
        with st.popover("More"):
            for pin, key in PINS.items():
                sample_field(f"Sample pinned as {pin}", key)
            choose_top()
    step_buttons(buttons, order, index)
    return index


def choose_top() -> None:
    """How many classes have a bar of their own."""
    most = min(max(3, logit_set.num_classes), MOST_BARS)
    if st.session_state.get(TOP, 0) > most:  # from a source with more classes
        st.session_state[TOP] = most
    st.slider("Classes with a bar of their own", 2, most, min(10, most), **page_setting(TOP, keep=False))


def step_buttons(place: DeltaGenerator, order: NDArray[np.int64], index: int) -> None:
    """Previous and next in the order; from a sample outside of it, both lead to its first."""
    found = np.flatnonzero(order == index)
    at = int(found[0]) if len(found) else None
    for label, key, to in (("Previous", "P", 0 if at is None else at - 1), ("Next", "N", 0 if at is None else at + 1)):
        place.button(
            label, shortcut=key, key=f"samples_{label.lower()}", disabled=not 0 <= to < len(order),
            on_click=step_to, args=(order, to),
        )  # fmt: skip


def pin_sample(key: str, index: int | None) -> None:
    """Pin a sample and show it, or take the pin off, from a callback."""
    st.session_state[key] = index
    st.session_state[TAB] = PINNED


def show_wrong_classes() -> None:
    """How the mass off the label divides; with two classes there is nothing to divide."""
    if logit_set.num_classes == 2:
        st.info(
            "With two classes all mass off the label is on the other class, so there is no dark knowledge to divide.",
            icon=":material/info:",
        )
        return
    show_dark_knowledge(view, index, names, key="samples", top=st.session_state[TOP])


def show_pins() -> None:
    """The two pinned samples side by side, on one axis."""
    pinned = {pin: st.session_state.get(key) for pin, key in PINS.items()}
    for column, (pin, index) in zip(st.columns(2, gap="large"), pinned.items(), strict=True):
        with column:
            if index is None or index >= logit_set.num_samples:
                st.info(f"Open another sample and press {pin} to see it here.", icon=":material/push_pin:")
                continue
            with st.container(horizontal=True, vertical_alignment="center"):
                st.markdown(f"**{pin}**: sample {index:,}", width="stretch")
                st.button("Unpin", key=f"samples_unpin_{pin}", on_click=pin_sample, args=(PINS[pin], None))
            show_sample(view, index, names, key=f"samples-{pin}", top=st.session_state[TOP], small=True)


@st.cache_data(max_entries=4, show_spinner=False)
def class_masses(
    fingerprint: str, rules: list[str], selected: NDArray[np.bool_] | None, _view: View
) -> list[ClassMass]:
    """The mean soft labels of the selected samples' classes under both rules; the first three arguments decide it."""
    chosen = slice(None) if selected is None else selected
    logits = _view.source.logit_set
    answers = _view.samples.column("prediction" if logits.labels is None else "class")
    return [
        mean_soft_labels(logits.logits[chosen], reading.temperatures[chosen], answers[chosen]) for reading in _view.pair
    ]


def class_code() -> Code:
    """The same means without the app."""
    source = view.source
    answers = "curves.statistics.top1" if logit_set.labels is None else "logits.labels"
    student = beside = ""
    if any("a student" in find_measure(condition.measure).needs for condition in view.selection.conditions):
        beside = ", student=student"
        student = (
            f"{source.student_loading}"
            "student_curves = EntropyCurves.from_logits(student_logits)\n"
            'student = StudentLogits("student", student_logits, student_curves, teacher=logits)\n'
        )
    return Code(
        view.code().command,
        "from cist_core import EntropyCurves, parse_rule\n"
        "from cist_core.samples.dark_knowledge import confused_pairs, mean_soft_labels\n"
        "from cist_core.temperature.readings import read_rules\n"
        f"from cist_core.samples.table import SampleTable{', StudentLogits' if beside else ''}\n"
        "from cist_core.samples.selection import Selection\n"
        f"{source.imports if beside else source.reference.imports}\n"
        f"{source.loading}"
        f'readings = read_rules(map(parse_rule, ["{view.fixed.rule}", "{view.cist.rule}"]), curves)\n'
        f"{student}"
        f'chosen = Selection.parse("{view.selection}").mask(SampleTable(curves, *readings{beside}))\n'
        "for reading in readings:\n"
        f"    mass = mean_soft_labels(logits.logits[chosen], reading.temperatures[chosen], {answers}[chosen])\n"
        "    print(reading.rule, confused_pairs(mass, 15))\n",
    )


def show_classes() -> None:
    """Which wrong classes get the mass of which class, over all selected samples."""
    rules = [reading.rule for reading in view.pair]
    found = class_masses(logit_set.fingerprint, list(map(str, rules)), view.selected, view)
    masses = dict(zip(rules, found, strict=True))
    code = class_code()
    if logit_set.num_classes > MOST_IN_MATRIX:
        show_figure(confused_pairs_figure(masses, names), key="samples-pairs", code=code)
        return
    columns = st.columns(2, gap="large")
    for column, name, figure in zip(columns, ("fixed", "cist"), class_mass_figures(masses, names), strict=True):
        with column:
            show_figure(figure, key=f"samples-classes-{name}", code=code)


if text is not None:
    page_head("Which tokens are these?")
    list_tokens(view)
else:
    logit_set = view.source.logit_set
    names = names_of(logit_set.class_names, logit_set.num_classes)
    head = st.container()
    inspector, gallery = st.columns([3, 2], gap="large")
    with gallery:
        offer_images(view)
        order = choose_order(view, names)
        if not len(order):
            st.info("No sample fulfils all conditions of the selection.", icon=":material/filter_alt_off:")
            st.button("Select every sample", key="samples_all", on_click=select, args=(Selection(),), type="primary")
    if len(order):
        with inspector:
            index = choose_sample(order)
            finding = show_sample(view, index, names, key="samples", top=st.session_state[TOP], heading=False)
            show_floor(view.cist)
        with gallery:
            show_cards(view, order, names, index)
        show_tabs(
            {
                "Dark knowledge": show_wrong_classes,
                PINNED: show_pins,
                "Classes": show_classes,
            },
            key=TAB,
        )
    with head:
        page_head("What does the student actually see?", finding if len(order) else "")
