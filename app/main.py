"""CIST Studio: the entry point. `streamlit run app/main.py`."""

from pathlib import Path

import streamlit as st

from app.background import wake_worker
from app.sidebar import choose_rules, choose_source
from app.state import set_view
from app.widgets import share_link

# A picture of our own: Streamlit fetches a named icon from the internet.
st.set_page_config(page_title="CIST Studio", page_icon=str(Path(__file__).with_name("icon.png")), layout="wide")

page = st.navigation(
    [
        st.Page(
            "../pages/overview.py",
            title="Overview",
            icon=":material/home:",
            default=True,
            help="What is loaded, and whether the temperature matters here: one sentence, one picture, three numbers.",
        ),
        st.Page(
            "../pages/entropy.py",
            title="Entropy",
            icon=":material/bar_chart:",
            help="How consistent the soft labels are: histograms, profiles of any rule, and the view by class.",
        ),
        st.Page(
            "../pages/ratio.py",
            title="Ratio",
            icon=":material/scatter_plot:",
            help="Why a fixed temperature spreads: entropy against the ratio of the maximum logit to the temperature.",
        ),
        st.Page(
            "../pages/distill.py",
            title="Distill",
            icon=":material/science:",
            help="Try it: choose a student, an objective and a recipe, and train in the background.",
        ),
        st.Page(
            "../pages/runs.py",
            title="Runs",
            icon=":material/monitoring:",
            help="What came of it: progress, curves, comparison and the trained students.",
        ),
    ]
)

# The sidebar comes first: it loads the source and reads the two rules that every page shows.
with st.sidebar:
    sidebar = st.container()
source = choose_source(sidebar)
if source is not None:
    view = choose_rules(sidebar, source)
    set_view(view)
    page.run()
    # After the page, whose own controls are part of the link.
    with sidebar:
        share_link(view, page.url_path)

wake_worker()  # last, so that the first picture does not wait for it
