"""CIST Studio: the script of every page. `streamlit run app/server.py`, or `app/main.py` without its headers."""

import os
from pathlib import Path

import streamlit as st

from app.background import wake_worker
from app.catalogue import let_browser_remember
from app.history import keep_history
from app.housekeeping import keep_house
from app.pages import DEFAULT, SECTIONS, find_pages
from app.people import account
from app.selection_bar import choose_samples
from app.selection_tray import show_tray
from app.settings import forget_page_settings
from app.sidebar import choose_rules, choose_source
from app.sliders.bar import SOURCE
from app.sliders.grid import send_grid
from app.start import greet
from app.state import set_view
from app.theme import follow_theme
from app.widgets import PRODUCT, share_link
from cist_core.zoo.kinds.code import NO_CODE

os.environ[NO_CODE] = "1"  # here and in every process that is started from here, workers among them

HERE = Path(__file__).parent
# Pictures of our own: Streamlit fetches a named icon from the internet.
st.set_page_config(page_title=PRODUCT, page_icon=str(HERE / "icon.png"), layout="wide")
st.logo(HERE / "wordmark.svg", size="large", icon_image=HERE / "icon.png")
st.html(HERE / "style.css")
keep_history()

pages = {
    info: st.Page(
        info.path,
        title=info.title,
        icon=info.icon,
        help=info.help,
        default=info.name == DEFAULT,
        visibility="hidden" if info.hidden else "visible",
    )
    for info in find_pages()
}
chosen = st.navigation(
    {section: [page for info, page in pages.items() if info.section == section] for section in SECTIONS},
    expanded=True,
)
info = next(info for info, page in pages.items() if page == chosen)

greet()
# The sidebar comes first: it loads the source and reads the two rules that every page shows.
with st.sidebar:
    sidebar = st.container()
chosen_source = sidebar.container(key=SOURCE)
source = choose_source(chosen_source, needed=info.needs_source) if info.offers_source else None
view = None
if source is not None:
    view = choose_samples(choose_rules(chosen_source, source, with_bar=info.needs_source), with_bar=info.shows_samples)
if view is not None or not info.needs_source:
    set_view(view)
    forget_page_settings()
    chosen.run()
    if view is not None and info.can_brush:
        show_tray(view)
    # After the page, whose own controls are part of the link.
    with sidebar:
        share_link(view)

account(sidebar)  # also where no page could be shown
let_browser_remember()
follow_theme()
wake_worker()  # last, so that the first picture does not wait for it
keep_house()
if view is not None:
    send_grid(view)  # what the sliders look up while they move: after everything that can be seen
