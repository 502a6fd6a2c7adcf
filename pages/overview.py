"""Overview: what is loaded, and whether the temperature matters here."""

import streamlit as st

from app.state import current_view
from app.widgets import show_figure
from cist_core.charts import histogram_figure
from cist_core.findings import consistency_gain, percent, three_digits

view = current_view()
logit_set = view.source.logit_set
fixed, cist = view.fixed.profile, view.cist.profile
figure = histogram_figure(view.pair)

st.title(figure.title, anchor=False)

chart, numbers = st.columns([3, 1], gap="large")
with chart:
    show_figure(figure, view.source, view.pair, key="overview-histogram", heading=False)

with numbers:
    gain = consistency_gain(fixed, cist)
    st.metric(
        f"Spread at τ = {view.tau:g}",
        f"{three_digits(fixed.std)} nats",
        help="Standard deviation of the entropy over the samples",
    )
    st.metric(
        f"Spread under CIST, ρ = {view.rho:g}",
        f"{three_digits(cist.std)} nats",
        help="Standard deviation of the entropy over the samples",
    )
    st.metric(
        "Consistency gain",
        "not matched" if not view.matched else "no spread left" if gain is None else f"{three_digits(gain)} ×",
        help="Spread at the fixed temperature over spread under CIST, at the same mean entropy. "
        "Below 1, CIST is the less consistent one.",
    )

with st.container(border=True):
    st.subheader("What is loaded", anchor=False)
    facts = {
        "Teacher": logit_set.provenance.get("teacher", view.source.teacher),
        "Architecture": logit_set.provenance.get("architecture", "not recorded"),
        "Data": f"{view.source.data}, {view.source.split} split",
        "Samples": f"{logit_set.num_samples:,}",
        "Classes": f"{logit_set.num_classes:,}",
        "Accuracy": percent(logit_set.accuracy) if logit_set.accuracy is not None else "no labels",
        "NLL at τ = 1": f"{three_digits(logit_set.nll)} nats" if logit_set.nll is not None else "no labels",
    }
    with st.container(horizontal=True):  # wraps on a phone, where columns would stack
        for name, value in facts.items():
            with st.container(width=125, gap=None):
                st.caption(name)
                st.markdown(value)
    if logit_set.constant_rows:
        st.warning(
            f"{logit_set.constant_rows:,} samples have constant logits: uniform soft labels at any temperature.",
            icon=":material/warning:",
        )
    with st.expander("Provenance"):
        st.table({"": list(logit_set.provenance), "value": list(logit_set.provenance.values())})

st.page_link("../pages/entropy.py", label="See every rule's entropies", icon=":material/bar_chart:")
st.page_link("../pages/ratio.py", label="See why: the ratio", icon=":material/scatter_plot:")
