"""Entropy: how consistent the soft labels are: histograms, profiles of any rule, slices, and the view by class."""

from functools import partial

import streamlit as st

from app.selection import current_selection, select
from app.selection_bar import show_slices
from app.settings import page_setting
from app.sliders.histogram import draw_histogram
from app.sliders.words import show_finding
from app.state import current_view, in_its_words
from app.widgets import page_head, show_error, show_figure, show_floor, show_profiles, show_tabs
from cist_core.charts import histogram_figure, per_class_figure, stacked_histograms
from cist_core.errors import CistError
from cist_core.language.pieces import TOKEN_TYPES
from cist_core.temperature import Matched, parse_rule
from cist_core.temperature.profile import OVER_SHARP, OVER_SMOOTHED
from cist_core.temperature.readings import RuleReading, read_rules

SECTION = "Look"
ORDER = 20
ICON = ":material/bar_chart:"

BRUSHED = {"fixed τ": "entropy", "CIST": "entropy_cist"}
SUGGESTED = ["tau=1", "tau=2", "lskd:tau=2", "normkd:k=2"]

view = current_view()
source, curves = view.source, view.source.curves


def controls() -> tuple[str, str, list[str], float, float]:
    """The page's own controls: layout, what a brush reads, further rules, and the two thresholds."""
    left, next_, middle, right = st.columns([2, 2, 4, 2], vertical_alignment="bottom")
    layout = left.segmented_control(
        "Histograms", ["overlaid", "stacked"], default="overlaid", required=True, **page_setting("layout", keep=False)
    )
    brushed = next_.segmented_control(
        "Brush selects on",
        list(BRUSHED),
        default="fixed τ",
        required=True,
        **page_setting("entropy_brush", keep=False),
        disabled=layout == "stacked",
        help="Both rules share the axis: which of the two entropies the dragged interval is about.",
    )
    oracle = str(Matched(round(max(view.fixed.profile.mean, 1e-3), 3)))
    extra = middle.multiselect(
        "Further rules",
        [*SUGGESTED, oracle],
        **page_setting("rules", keep=False),
        accept_new_options=True,
        placeholder="Add rules: tau=2, lskd:tau=2, normkd:k=2, matched:H=0.6",
    )
    with right.popover("Thresholds", icon=":material/tune:", width="stretch"):
        sharp = st.slider(
            "Over-sharp below, share of ln C", 0.01, 0.30, OVER_SHARP, 0.01, **page_setting("sharp", keep=False)
        )
        smooth = st.slider(
            "Over-smoothed above, share of ln C", 0.70, 0.99, OVER_SMOOTHED, 0.01, **page_setting("smooth", keep=False)
        )
    return str(layout), str(brushed), list(extra), sharp, smooth


def read_all(extra: list[str], sharp: float, smooth: float) -> list[RuleReading]:
    """The pair of the sidebar and the further rules; one that cannot be read is named and left out."""
    rules = [reading.rule for reading in view.pair]
    usual = (sharp, smooth) == (OVER_SHARP, OVER_SMOOTHED)
    readings = view.pair if usual else read_rules(rules, curves, over_sharp_below=sharp, over_smoothed_above=smooth)
    for text in extra:
        try:
            rule = parse_rule(text)
            if rule not in rules:
                readings += read_rules([rule], curves, over_sharp_below=sharp, over_smoothed_above=smooth)
                rules.append(rule)
        except CistError as error:
            show_error(error)
    return readings


def pick_class(points: list[dict[str, object]]) -> None:
    """A click on a class selects its samples everywhere."""
    select(current_selection().among("class", [int(str(point["index"])) for point in points]))


page_head("How consistent are my soft labels?")
show_finding()
layout, brushed, extra, sharp, smooth = controls()
readings = read_all(extra, sharp, smooth)

if layout == "overlaid":
    figure = histogram_figure(readings, selected=view.selected, brushed=BRUSHED[brushed])
    show_figure(
        figure,
        key="entropy-histogram",
        code=source.code(readings),
        heading=view.selected is not None,  # then it speaks of the selection
        draw=partial(draw_histogram, view, readings, key="entropy-histogram", brushed=BRUSHED[brushed]),
    )
else:
    for index, figure in enumerate(stacked_histograms(readings, selected=view.selected)):
        show_figure(figure, key=f"entropy-histogram-{index}", code=source.code([readings[index]]))

show_floor(view.cist)


def pick_type(points: list[dict[str, object]]) -> None:
    """The same of a type of token."""
    select(current_selection().among("token_type", [int(str(point["index"])) for point in points]))


def by_type() -> None:
    assert source.text is not None
    types = per_class_figure(readings[:2], source.text.kinds, TOKEN_TYPES, what="token type")
    show_figure(types, key="entropy-types", code=source.code(readings[:2]), on_pick=pick_type)


def by_class() -> None:
    if curves.labels is None:
        st.info("These logits have no labels, so there is no view by class.", icon=":material/label_off:")
        return
    classes = per_class_figure(readings[:2], curves.labels, source.predictions.class_names)
    show_figure(classes, key="entropy-classes", code=source.code(readings[:2]), on_pick=pick_class)


def tables() -> None:
    st.subheader("Profiles", anchor=False)
    show_profiles(readings, key="profiles")
    st.subheader("Slices", anchor=False)
    show_slices(view)
    if view.selected is None and not view.slices:
        st.caption(
            in_its_words("Drag over the chart to select samples; keep a selection under a name to compare it here.")
        )


first = {"By class": by_class} if source.text is None else {"By token type": by_type}
show_tabs({**first, "Tables": tables}, key="entropy_tab")
