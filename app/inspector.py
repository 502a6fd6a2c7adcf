"""The inspector: everything about one sample."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from app.state import Code, View
from app.thumbnails import missing_images, thumbnails, why_no_images
from app.widgets import plain, show_figure
from cist_core.charts.soft_labels import dark_knowledge_figure, soft_label_figure
from cist_core.samples.dark_knowledge import STUDENT, SoftLabel
from cist_core.wording import three_digits

AT_FLOOR = " (floor)"
_PICTURE, _SMALL = 200, 112  # pixels, alone and beside another one


def show_sample(
    view: View,
    index: int,
    names: Sequence[str],
    *,
    key: str,
    top: int,
    heading: bool = True,
    small: bool = False,
) -> str:
    """Picture, facts and soft labels of a sample; returns what the soft labels say.

    Args:
        view: what is on the screen.
        index: of the sample.
        names: of the classes, no two alike.
        key: of the charts.
        top: classes with a bar of their own.
        heading: whether the finding stands above the soft labels.
        small: for a sample beside another one.
    """
    _show_facts(view, index, names, _SMALL if small else _PICTURE)
    labels = soft_labels_of(view, index)
    hard = view.source.logit_set.labels is not None
    figure = soft_label_figure(labels, names, top=top, hard=hard)
    show_figure(figure, key=f"{key}-soft-labels", code=_code(view, index, labels[0].answer), heading=heading)
    return figure.title


def show_dark_knowledge(view: View, index: int, names: Sequence[str], *, key: str, top: int) -> None:
    """How the mass off the answer divides among the wrong classes; the arguments are those of `show_sample`."""
    labels = soft_labels_of(view, index)
    figure = dark_knowledge_figure(labels, names, top=top)
    show_figure(figure, key=f"{key}-dark-knowledge", code=_code(view, index, labels[0].answer))


def soft_labels_of(view: View, index: int) -> list[SoftLabel]:
    """The teacher's soft labels of a sample under the two rules, then the student's if there is one."""
    answer = _answer(view, index)
    teacher = [
        SoftLabel.of(view.source.logit_set.logits[index], reading.rule, reading.temperatures[index], answer)
        for reading in view.pair
    ]
    student = view.source.student
    if student is None:
        return teacher
    logits = student.logit_set.logits[index]
    return teacher + [
        SoftLabel.of(logits, reading.rule, reading.rule.temperatures(student.curves)[index], answer, model=STUDENT)
        for reading in view.pair
    ]


def facts(view: View, index: int, names: Sequence[str]) -> dict[str, str]:
    """What is known of a sample, in words and numbers with their units."""
    labels, student = view.source.logit_set.labels, view.source.student

    def number(name: str, unit: str = "") -> str:
        return f"{three_digits(float(view.samples.column(name)[index]))} {unit}".rstrip()

    known = {"Sample": f"{index:,}"}
    prediction = names[view.samples.column("prediction")[index]]
    if labels is not None:
        known["Label"] = names[labels[index]]
        prediction += " (right)" if view.samples.column("correct")[index] else " (wrong)"
    known |= {
        "Teacher says": prediction,
        "Entropy at τ": number("entropy", "nats"),
        "Entropy, CIST": number("entropy_cist", "nats"),
        "Ratio at τ": number("ratio"),
        "τᵢ, CIST": number("temperature") + (AT_FLOOR if view.cist.at_floor[index] else ""),
        "Margin": number("margin"),
    }
    if student is not None:
        floored = view.cist.student_at_floor
        assert floored is not None
        known |= {
            "Student says": names[int(student.logit_set.logits[index].argmax())],
            "Student τₛ": number("student_temperature") + (AT_FLOOR if floored[index] else ""),
            "Weight τₜ τₛ": number("weight"),
        }
        if labels is not None:
            known["Student loss"] = number("student_loss", "nats")
    return known


def _show_facts(view: View, index: int, names: Sequence[str], size: int) -> None:
    pictures = thumbnails(view, [index], size=size)
    with st.container(horizontal=True, gap="small"):  # wraps on a phone
        if pictures is not None:
            st.image(pictures[0], width=size, alt=f"Sample {index}")
        with st.container(horizontal=True, width="stretch" if pictures is None else 330, gap="small"):
            for name, value in facts(view, index, names).items():
                with st.container(width=98, gap=None):
                    st.caption(name)
                    st.markdown(f":red[{plain(value)}]" if value.endswith("(wrong)") else plain(value))
    if pictures is None and missing_images(view.source) is None and (reason := why_no_images(view)):
        st.caption(plain(reason))


def _answer(view: View, index: int) -> int:
    labels = view.source.logit_set.labels
    return int((view.samples.column("prediction") if labels is None else labels)[index])


def _code(view: View, index: int, answer: int) -> Code:
    source = view.source
    rules = ", ".join(f'"{reading.rule}"' for reading in view.pair)
    return Code(
        view.code().command,
        "from cist_core import EntropyCurves, parse_rule\n"
        "from cist_core.samples.dark_knowledge import SoftLabel\n"
        f"{source.reference.imports}\n"
        f"{source.loading}"
        f"for rule in map(parse_rule, [{rules}]):\n"
        f"    temperature = rule.temperatures(curves)[{index}]\n"
        f"    label = SoftLabel.of(logits.logits[{index}], rule, temperature, answer={answer})\n"
        "    print(rule, label.probabilities, label.wrong_shares)\n",
    )
