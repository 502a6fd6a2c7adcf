"""Entropy: how consistent the soft labels are."""

import streamlit as st

from app.state import current_view
from app.widgets import show_error, show_figure, show_profiles
from cist_core.charts import histogram_figure, per_class_figure, stacked_histograms
from cist_core.errors import CistError
from cist_core.profile import OVER_SHARP, OVER_SMOOTHED
from cist_core.readings import RuleReading, read_rules
from cist_core.temperature import Matched, parse_rule

SUGGESTED = ["tau=1", "tau=2", "lskd:tau=2", "normkd:k=2"]

view = current_view()
source, curves = view.source, view.source.curves


def controls() -> tuple[str, list[str], float, float]:
    """The page's own controls: layout, further rules, and the two thresholds."""
    left, middle, right = st.columns([2, 5, 2], vertical_alignment="bottom")
    layout = left.segmented_control(
        "Histograms", ["overlaid", "stacked"], default="overlaid", required=True, key="layout", bind="query-params"
    )
    oracle = str(Matched(round(max(view.fixed.profile.mean, 1e-3), 3)))
    extra = middle.multiselect(
        "Further rules",
        [*SUGGESTED, oracle],
        key="rules",
        bind="query-params",
        accept_new_options=True,
        placeholder="Add rules: tau=2, lskd:tau=2, normkd:k=2, matched:H=0.6",
    )
    with right.popover("Thresholds", icon=":material/tune:", width="stretch"):
        sharp = st.slider(
            "Over-sharp below, share of ln C", 0.01, 0.30, OVER_SHARP, 0.01, key="sharp", bind="query-params"
        )
        smooth = st.slider(
            "Over-smoothed above, share of ln C", 0.70, 0.99, OVER_SMOOTHED, 0.01, key="smooth", bind="query-params"
        )
    return str(layout), list(extra), sharp, smooth


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


layout, extra, sharp, smooth = controls()
readings = read_all(extra, sharp, smooth)

if layout == "overlaid":
    show_figure(histogram_figure(readings), source, readings, key="entropy-histogram")
else:
    for index, (reading, figure) in enumerate(zip(readings, stacked_histograms(readings), strict=True)):
        show_figure(figure, source, [reading], key=f"entropy-histogram-{index}")

st.subheader("Profiles", anchor=False)
show_profiles(readings, key="profiles")

if curves.labels is None:
    st.info("These logits have no labels, so there is no view by class.", icon=":material/label_off:")
else:
    classes = per_class_figure(readings[:2], curves.labels, source.logit_set.class_names)
    show_figure(classes, source, readings[:2], key="entropy-classes")
