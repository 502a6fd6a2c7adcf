"""Ratio: why a fixed temperature spreads."""

import streamlit as st

from app.state import current_view
from app.widgets import show_figure
from cist_core.charts import ratio_figure, variance_figure
from cist_core.findings import three_digits

view = current_view()

show_figure(ratio_figure(*view.pair), view.source, view.pair, key="ratio-density")

held = "held constant"
association = view.fixed.association
spearman, r_squared, explained, left = st.columns(4)
spearman.metric(
    f"Spearman at τ = {view.tau:g}",
    held if association.spearman is None else f"{association.spearman:.3f}",
    help="Rank correlation of entropy and ratio over the samples. Under CIST the ratio does not vary.",
)
r_squared.metric(
    f"R² at τ = {view.tau:g}",
    held if association.r_squared is None else f"{association.r_squared:.3f}",
    help="Share of the entropy's variance that a straight line in the ratio explains.",
)
explained.metric(
    f"Explained at τ = {view.tau:g}",
    "none" if association.explained is None else f"{association.explained:.3f}",
    help="Var(E[H | r]) over Var(H): the share that any function of the ratio explains.",
)
left.metric(
    "Spread left under CIST",
    f"{three_digits(view.cist.profile.std)} nats",
    help="With the ratio held, only differences in the shape of the logits are left: ties and second modes.",
)

show_figure(variance_figure(*view.pair), view.source, view.pair, key="ratio-variance")
