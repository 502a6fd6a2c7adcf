"""The images of a known data set that are not at hand: one press downloads them, or points at a copy of them."""

from __future__ import annotations

import streamlit as st

from app.people import may_launch, may_read_server_paths
from app.state import View
from app.thumbnails import missing_images, use_copy
from app.widgets import show_error
from cist_core.added import roots
from cist_core.data.loading import DATASETS, load_dataset
from cist_core.errors import CistError
from cist_core.wording import byte_size

_PATH, _FAULT = "images_path", "_images_fault"


def offer_images(view: View) -> None:
    """Nothing where the images are at hand, or are of no known data set."""
    place = st.empty()  # on every run, or everything below it would move by one place
    name = missing_images(view.source)
    if name is None:
        return
    with place.container(border=True, key="offer-images", gap="small"):
        st.markdown(f"The images of {name} are not here yet.")
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            wanted = may_launch() and st.button(
                f"Download ({byte_size(DATASETS[name].download_bytes)})", key="images_download",
                icon=":material/download:", type="primary", help="From its authors, checked; kept in CIST_DATA.",
            )  # fmt: skip
            with st.popover("From a folder", icon=":material/folder_open:"):
                _ask_for_copy(view)
        if not may_launch():
            st.caption("Sign in to download them.")
        fault = st.session_state.pop(_FAULT, None)
        if fault is not None:
            show_error(fault)
        if wanted:
            _download(name, view.source.split)


def _ask_for_copy(view: View) -> None:
    """A path below the folders that are open to visitors, or how to open one."""
    if not may_read_server_paths():
        st.caption("Files on the server can be opened after signing in.")
    elif not roots():
        st.caption(
            "Files on the server can be opened once `CIST_ROOTS` names their folders. `CIST_DATA` names the folder in "
            "which downloaded sets lie."
        )
    else:
        st.text_input(
            "Folder or file on the server", key=_PATH, placeholder="cifar-100-python",
            help="As torchvision keeps it, a folder of images per class, or an `.npz`, Parquet or CSV file.",
        )  # fmt: skip
        st.button("Use its images", key="images_use", on_click=_use, args=(view,), type="primary")


def _use(view: View) -> None:
    try:
        use_copy(view.source, str(st.session_state[_PATH]))
    except CistError as error:
        st.session_state[_FAULT] = error


def _download(name: str, split: str) -> None:
    bar = st.progress(0.0, f"Downloading {name}")

    def downloaded(done: int, total: int) -> None:
        share = f" of {byte_size(total)}" if total else ""
        bar.progress(min(done / total, 1.0) if total else 0.0, f"Downloading {name}: {byte_size(done)}{share}")

    try:
        load_dataset(name, split, download=True, progress=downloaded)
    except CistError as error:
        bar.empty()
        show_error(error)
        return
    st.rerun()
