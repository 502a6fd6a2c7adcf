"""Learn: a lesson in eight steps to project or to read, from a hard label to the histogram of a data set."""

import streamlit as st

from app.lesson.steps import STEPS
from app.settings import page_setting
from app.state import optional_view

SECTION = "Teach"
ORDER = 10
ICON = ":material/school:"
NEEDS_SOURCE = False

NUMBERS = [str(number) for number in range(1, len(STEPS) + 1)]


def go(by: int) -> None:
    st.session_state["lesson_step"] = str(int(st.session_state["lesson_step"]) + by)


with st.container(horizontal=True, vertical_alignment="center", gap="small"):
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

step = STEPS[number - 1]
st.title(f"{number}. {step.title}", anchor=False)

left, right = st.columns([1, 2], gap="large")
step.show(left, right, optional_view())
with right:
    for question, answer in step.questions:
        with st.expander(question, icon=":material/help:"):
            st.markdown(answer)
