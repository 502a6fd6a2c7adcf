"""Ratio: why a fixed temperature spreads: entropy against the ratio of the maximum logit to the temperature."""

from collections.abc import Iterable

import numpy as np
import pandas as pd
import streamlit as st

from app.selection import select
from app.settings import page_setting
from app.state import Code, current_view, in_its_words
from app.token_list import in_context
from app.widgets import page_head, plain, show_figure, show_floor, show_table, show_tabs
from cist_core.charts import ratio_figure, variance_figure
from cist_core.charts.ratio import envelope_sentence
from cist_core.charts.residuals import furthest_sentence, gap_figure, reasons_figure
from cist_core.compare.findings import rule_label
from cist_core.samples.residuals import Residuals, why_far
from cist_core.samples.selection import Selection
from cist_core.temperature import Cist
from cist_core.wording import three_digits

SECTION = "Look"
ORDER = 30
ICON = ":material/scatter_plot:"

FURTHEST = 12

view = current_view()
source = view.source


def show_ratio() -> None:
    """The chart, and beside it the three numbers that say why, and how far the envelope is to be narrowed."""
    head = st.container()
    chart, numbers = st.columns([3, 1], gap="large")
    with numbers:
        show_numbers()
        gap = st.slider(
            "Envelope for a gap of at least",
            0.0, 3.0, 0.0, 0.1, format="%.1f", **page_setting("ratio_gap"),
            help="The gap between the two largest logits, over the temperature. 0 allows ties.",
        )  # fmt: skip
        st.caption(plain(in_its_words(envelope_sentence(residuals, view.rho, gap))))
        show_floor(view.cist)
    figure = ratio_figure(*view.pair, selected=view.selected, gap=gap)
    with head:
        page_head("Why do the entropies differ?", figure.title)
    with chart:
        show_figure(figure, key="ratio-density", code=view.code(), heading=False)


def show_numbers() -> None:
    association = view.fixed.association
    st.metric(
        f"Explained at τ = {view.tau:g}",
        "none" if association.explained is None else f"{association.explained:.3f}",
        help="Var(E[H | r]) over Var(H): the share that any function of the ratio explains.",
    )
    st.metric(
        f"Spearman at τ = {view.tau:g}",
        "held constant" if association.spearman is None else f"{association.spearman:.3f}",
        help=in_its_words(
            "Rank correlation of entropy and ratio over the samples. Under CIST the ratio varies only at the floor."
        ),
    )
    st.metric(
        "Spread left under CIST",
        f"{three_digits(view.cist.profile.std)} nats",
        help="With the ratio held, only differences in the shape of the logits are left, ties and second modes; at the "
        "floor the ratio differs too.",
    )


def association_table() -> pd.DataFrame:
    """How entropy and ratio hang together under the two rules."""
    return pd.DataFrame(
        [
            {
                "Rule": rule_label(reading.rule),
                "Spearman": reading.association.spearman,
                "R²": reading.association.r_squared,
                "Explained": reading.association.explained,
                "Variance": reading.association.variance,
                "By the ratio": reading.association.between,
                "At equal ratios": reading.association.within,
            }
            for reading in view.pair
        ]
    ).astype({"Spearman": float, "R²": float, "Explained": float})


def show_tables() -> None:
    help_ = {
        "Spearman": "Rank correlation of entropy and ratio; none where the ratio is held",
        "R²": "Share of the entropy's variance that a straight line in the ratio explains",
        "Explained": "Share of it that any function of the ratio explains",
        "Variance": "Of the entropy, in nats²",
        "By the ratio": "Var(E[H | r]), in nats²",
        "At equal ratios": "E[Var(H | r)], in nats²",
    }
    show_table(
        association_table(),
        key="ratio-association",
        alt="Correlation of entropy and ratio and the two parts of the entropy's variance, under each rule",
        columns={name: st.column_config.NumberColumn(format="%.4f", help=words) for name, words in help_.items()},
    )


def residual_code() -> Code:
    """The pair's command, and Python for the distances from the curve."""
    return Code(
        view.code().command,
        "from cist_core import EntropyCurves, parse_rule\n"
        "from cist_core.temperature.readings import read_rule\n"
        "from cist_core.samples.residuals import why_far\n"
        f"{source.reference.imports}\n"
        f"{source.loading}"
        f'found = why_far(curves, read_rule(parse_rule("{view.cist.rule}"), curves))\n'
        "print(found.spread)\n"
        f"for sample in found.furthest({FURTHEST}):\n"
        "    print(sample, found.reason[sample], found.residual[sample])\n",
    )


def furthest_table() -> pd.DataFrame:
    """The samples that lie furthest from the curve, with the reason."""
    rows = residuals.furthest(FURTHEST)
    names, labels = source.predictions.class_names, source.curves.labels

    def classes(of: Iterable[int]) -> list[str]:
        return [str(index) if names is None else names[index] for index in of]

    return pd.DataFrame(
        {
            "Sample": rows,
            **({} if source.text is None else {"In the text": in_context(view, rows)}),
            **({} if labels is None else {"Class": classes(labels[rows])}),
            "Prediction": classes(source.curves.statistics.top1[rows]),
            "Gap": residuals.gap[rows],
            "Entropy": residuals.entropy[rows],
            "Curve": residuals.equal_others[rows],
            "Distance": residuals.residual[rows],
            "By the second class": residuals.from_second[rows],
            "Reason": np.where(residuals.far[rows], residuals.reason[rows], ""),
        }
    )


def show_furthest() -> None:
    st.subheader(in_its_words(furthest_sentence(residuals, FURTHEST)), anchor=False)
    table = furthest_table()
    help_ = {
        "Gap": "Largest less second logit, over the sample's temperature",
        "Entropy": "Of the soft label under CIST, in nats",
        "Curve": "Entropy if all other classes were equal, in nats",
        "Distance": "Entropy less curve, in nats",
        "By the second class": "The part of the distance that the second class alone explains, in nats",
    }
    show_table(
        table,
        key="ratio-furthest",
        height="content",
        alt=f"The {len(table)} samples that lie furthest from the equal-others curve under CIST, with the reason",
        columns={
            "Sample": st.column_config.NumberColumn(
                in_its_words("Sample"), pinned=True, format="%d", help="Position in the split"
            ),
            **{name: st.column_config.NumberColumn(format="%.3f", help=words) for name, words in help_.items()},
        },
    )
    st.button(
        f"Highlight these {len(table)} everywhere",
        icon=":material/my_location:",
        key="ratio-select-furthest",
        on_click=select,
        args=(Selection().among("index", table["Sample"]),),
    )


def show_why() -> None:
    show_figure(variance_figure(*view.pair), key="ratio-variance", code=view.code())
    gaps = gap_figure(residuals, Cist(view.rho, view.floor), selected=view.selected)
    show_figure(gaps, key="ratio-gap", code=residual_code())


def show_exceptions() -> None:
    figure = reasons_figure(residuals)
    if residuals.num_classes == 2:
        st.info(
            "With two classes no sample is an exception: there is one other class, so all lie on the curve.",
            icon=":material/info:",
        )
        return
    if residuals.far.any():
        show_figure(figure, key="ratio-reasons", code=residual_code())
    else:
        st.info(plain(in_its_words(f"{figure.title}.")), icon=":material/info:")
    show_furthest()


residuals: Residuals = why_far(source.curves, view.cist)

show_ratio()
show_tabs({"Why": show_why, "Exceptions": show_exceptions, "Tables": show_tables}, key="ratio_tab")
