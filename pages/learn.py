"""Learn: a lesson in ten steps to project or to read, from a hard label to a sentence, word by word."""

import streamlit as st

from app.history import went_back
from app.lesson.layout import PRESENTED, Layout, set_layout
from app.lesson.qr import show_qr
from app.lesson.steps import STEPS
from app.lesson.window import watch_window
from app.links import follow, say_unfollowed
from app.settings import page_setting
from app.state import optional_view
from app.widgets import PRODUCT

SECTION = "Teach"
ORDER = 10
ICON = ":material/school:"
NEEDS_SOURCE = False

LINKED = (
    "lesson_step", "lesson_tau", "lesson_rho", "lesson_sample", "lesson_scale", "lesson_gap", "lesson_seconds",
    "lesson_student", "lesson_floor", "lesson_token_tau", "lesson_token_rho",
)  # fmt: skip
NUMBERS = [str(number) for number in range(1, len(STEPS) + 1)]


def go(by: int) -> None:
    number = int(st.session_state["lesson_step"]) + by
    if 1 <= number <= len(STEPS):
        st.session_state["lesson_step"] = str(number)


# A link says present=1, and Streamlit's own reading of an address knows only "true".
if "present" not in st.session_state or went_back():
    st.session_state["present"] = st.query_params.get("present") in ("1", "true")

notice = st.empty()
follow("lesson_step", NUMBERS, "step")
head, corner = st.columns([6, 1], vertical_alignment="top") if st.session_state["present"] else (st.container(), None)
with head.container(horizontal=True, vertical_alignment="center", gap="small"):
    row, before, after = st.container(width="content"), st.container(width="content"), st.container(width="content")
    chosen = row.segmented_control(
        "Step", NUMBERS, default="1", required=True, **page_setting("lesson_step", keep=False),
        label_visibility="collapsed",
    )  # fmt: skip
    number = int(chosen)
    before.button(
        "Previous", icon=":material/arrow_back:", key="lesson-previous", on_click=go, args=(-1,), disabled=number == 1
    )
    after.button(
        "Next", icon=":material/arrow_forward:", icon_position="right", key="lesson-next", type="primary", on_click=go,
        args=(1,), disabled=number == len(STEPS),
    )  # fmt: skip
    present = st.toggle(
        "Present", key="present",
        help="For a projector: nothing but the step, its pictures as high as the window, arrow keys, and a QR code.",
    )  # fmt: skip
if present and st.query_params.get("present") != "1":
    st.query_params["present"] = "1"
elif not present and "present" in st.query_params:
    del st.query_params["present"]
set_layout(Layout(present, watch_window(go, keys=present)))
if present:
    st.html(PRESENTED)

step = STEPS[number - 1]
st.set_page_config(page_title=f"{step.title} · {PRODUCT}")
head.title(f"{number}. {step.title}", anchor=False)

left, right = st.columns([1, 3] if present else [1, 2], gap="large")
step.show(left, right, optional_view())
say_unfollowed(notice, *LINKED)
with right.container(key="lesson-questions"):
    for question, answer in step.questions:
        with st.expander(question, icon=":material/help:"):
            st.markdown(answer)
if corner is not None:
    with corner:
        show_qr()  # after the step, whose sliders are part of the link
