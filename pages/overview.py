"""Overview: what is loaded, and whether the temperature matters here: one sentence, one picture, three numbers."""

from functools import partial
from html import escape

import streamlit as st

from app.catalogue import title_of
from app.selection_bar import slice_table
from app.sliders.histogram import draw_histogram
from app.sliders.samples import show_samples
from app.sliders.words import show_finding, show_numbers
from app.start import show_start
from app.state import current_view, in_its_words
from app.token_list import show_few
from app.widgets import page_head, plain, show_figure, show_floor
from cist_core.charts import histogram_figure
from cist_core.language.text_predictions import TextPredictions
from cist_core.logits.accuracy import judge_accuracy
from cist_core.logits.logit_set import LogitSet
from cist_core.report import render_report
from cist_core.wording import percent, perplexity, three_digits

SECTION = "Look"
ORDER = 10
ICON = ":material/home:"

view = current_view()
source, predictions, text = view.source, view.source.predictions, view.source.text


@st.cache_data(max_entries=64, show_spinner=False)
def accuracy_doubts(fingerprint: str, _logit_set: LogitSet) -> tuple[str, ...]:
    """What speaks against the accuracy; looked for once a set of logits."""
    judged = judge_accuracy(_logit_set)
    return () if judged is None else judged.sentences


def report() -> bytes:
    """Made when somebody downloads it."""
    return render_report(source.logit_set, view.source.curves, view.pair, slices=slice_table(view)).encode()


def facts_of_images() -> dict[str, str]:
    """What is loaded."""
    logit_set = source.logit_set
    return {
        "Teacher": logit_set.provenance.get("teacher") or title_of(source.teacher),
        "Architecture": logit_set.provenance.get("architecture", "not recorded"),
        "Data": f"{source.data}, {source.split} split",
        "Samples": f"{logit_set.num_samples:,}",
        "Classes": f"{logit_set.num_classes:,}",
        "Accuracy": percent(logit_set.accuracy) if logit_set.accuracy is not None else "no labels",
        "NLL at τ = 1": f"{three_digits(logit_set.nll)} nats" if logit_set.nll is not None else "no labels",
    }


def facts_of_text(text: TextPredictions) -> dict[str, str]:
    """The same of a language model on a text."""
    return {
        "Language model": text.provenance.get("teacher") or title_of(source.teacher),
        "Precision": text.provenance.get("precision", "not recorded"),
        "Text": source.data,
        "Tokens": f"{text.num_samples:,}",
        "Vocabulary": f"{text.num_classes:,}",
        "Accuracy": percent(text.accuracy),
        "NLL at τ = 1": f"{three_digits(text.nll)} nats (perplexity {perplexity(text.nll)})",
    }


figure = histogram_figure(view.pair, selected=view.selected, brushed="entropy")

page_head("What have I got, and does the temperature matter?")
with st.container(key="first-look"):  # in which a phone shows the cards last
    show_finding(play=True)
    show_start(view)
    chart, samples = st.columns([8, 5], gap="medium")
with chart:
    show_figure(
        figure,
        key="overview-histogram",
        code=view.code(),
        heading=view.selected is not None,  # then it speaks of the selection
        draw=partial(draw_histogram, view, view.pair, key="overview-histogram", brushed="entropy"),
    )
    show_numbers()
    show_floor(view.cist)
with samples:
    if text is None:
        show_samples(view)
    else:
        show_few(view)

with st.container(border=True):
    st.subheader("What is loaded", anchor=False)
    facts = facts_of_images() if text is None else facts_of_text(text)
    # One element, not three a fact: each of them costs the server time on every move of a slider.
    rows = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts.items())
    st.html(f'<dl class="cist-facts">{rows}</dl>')
    if predictions.constant_rows:
        st.warning(
            in_its_words(
                f"{predictions.constant_rows:,} samples have constant logits: uniform soft labels at any temperature."
            ),
            icon=":material/warning:",
        )
    if text is None:
        for sentence in accuracy_doubts(predictions.fingerprint, source.logit_set):
            st.warning(plain(sentence), icon=":material/warning:")
    with st.expander("Provenance"):
        provenance = {plain(name): plain(value) for name, value in predictions.provenance.items()}
        st.table({"": list(provenance), "value": list(provenance.values())})

with st.container(horizontal=True):
    st.page_link("../pages/entropy.py", label="Compare entropies", icon=":material/bar_chart:")
    st.page_link("../pages/ratio.py", label="Why: the ratio", icon=":material/scatter_plot:")
    st.page_link("../pages/samples.py", label=in_its_words("The samples one by one"), icon=":material/photo_library:")
    st.page_link("../pages/rho.py", label="Choose ρ", icon=":material/target:")
    st.page_link("../pages/learn.py", label="New to this? The lesson", icon=":material/school:")

if text is None:
    st.download_button(
        "Report: one HTML file with sliders that work offline",
        report,
        file_name=f"{source.teacher}-{source.data}-{source.split}.html",
        mime="text/html",
        icon=":material/description:",
        on_click="ignore",
    )
else:
    st.caption("A report in one file is made of images only: it needs the logits, which are not kept of a text.")
