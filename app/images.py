"""The images of a known data set that are not at hand: one press downloads them, or points at a copy of them."""

from __future__ import annotations

import threading

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
    if _runs(view.source.data):
        with place.container(border=True, key="download-images"):
            _show_progress(view.source.data)
        return
    name = missing_images(view.source)
    if name is None:
        return
    with place.container(border=True, key="offer-images", gap="small"):
        st.markdown(f"The images of {DATASETS[name].title or name} are not here yet.")
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            if may_launch():
                st.button(
                    f"Download ({byte_size(DATASETS[name].download_bytes)})", key="images_download",
                    icon=":material/download:", type="primary",
                    help="From its authors, checked, and kept for everybody.",
                    on_click=_download, args=(name, view.source.split),
                )  # fmt: skip
            with st.popover("From a folder", icon=":material/folder_open:"):
                _ask_for_copy(view)
        if not may_launch():
            st.caption("Sign in to download them.")
        failed = downloads.get(name)
        for fault in (st.session_state.pop(_FAULT, None), None if failed is None else failed.fault):
            if fault is not None:
                show_error(fault)


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


class _Download(threading.Thread):
    """A download that goes on whatever the pages do: Streamlit ends a page's own work when a slider is moved."""

    def __init__(self, name: str, split: str) -> None:
        super().__init__(name=f"download of {name}", daemon=True)
        self._wanted = name, split
        self.fault: CistError | None = None
        self.done, self.total = 0, 0

    def run(self) -> None:
        try:
            load_dataset(*self._wanted, download=True, progress=self._downloaded)
        except CistError as error:
            self.fault = error
        except Exception as error:  # nobody else would hear of it
            self.fault = CistError(f"The images of {self._wanted[0]} could not be downloaded: {error}")

    def _downloaded(self, done: int, total: int) -> None:
        self.done, self.total = done, total


downloads: dict[str, _Download] = {}  # the newest of each data set, for everybody
_starting = threading.Lock()


def _download(name: str, split: str) -> None:
    with _starting:
        if name not in downloads or not downloads[name].is_alive():
            downloads[name] = _Download(name, split)
            downloads[name].start()


def _runs(name: str) -> bool:
    return name in downloads and downloads[name].is_alive()


@st.fragment(run_every=1.0)
def _show_progress(name: str) -> None:
    """How far it is, until it has ended; then the whole page once more."""
    if not _runs(name):
        st.rerun()
    done, total = downloads[name].done, downloads[name].total
    share = f" of {byte_size(total)}" if total else ""
    st.progress(min(done / total, 1.0) if total else 0.0, f"Downloading {name}: {byte_size(done)}{share}")
