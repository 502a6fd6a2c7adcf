"""Runs: what came of it: progress, curves, comparison and the trained students."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pandas as pd
import streamlit as st

from app.forms import run_views
from app.forms.run_views import MOST_SELECTED, Answers, RunView
from app.people import require_sign_in, run_store
from app.settings import in_link, page_setting
from app.widgets import plain, show_error, show_figure, show_table
from cist_core.charts.training import (
    accuracy_figure,
    entropy_figure,
    loss_figure,
    loss_terms,
    maximum_figure,
    temperature_figure,
)
from cist_core.charts.training_sentences import RunCurve, term_name
from cist_core.errors import CistError
from cist_core.runs import Run, ensure_worker
from cist_core.tables import to_csv

SECTION = "Train"
ORDER = 20
ICON = ":material/monitoring:"

POLL_SECONDS = 2
CHART_HEIGHT = 320
MOST_ROWS = 8  # of the list before it scrolls
TABLE = "runs-table"
BADGES = {
    "queued": "gray",
    "running": "blue",
    "finished": "green",
    "failed": "red",
    "cancelled": "gray",
    "lost": "orange",
}
FAULTS = {"collapsed": "red", "running away": "red"}  # of the scale of the student's logits, beside the state


def wanted() -> list[str]:
    """The ids that this session has selected, or its link names."""
    if "run" not in st.session_state:
        st.session_state["run"] = st.query_params.get_all("run")
    return list(st.session_state["run"])


def known_runs() -> list[Run]:
    """The visitor's runs, and those of others that the link names."""
    own = store.list_runs()
    known = {run.id for run in own}
    shared = []
    for run_id in dict.fromkeys(wanted()[:MOST_SELECTED]):
        if run_id not in known:
            with contextlib.suppress(CistError):  # deleted meanwhile
                shared.append(store.get(run_id))
    return own + shared


def selection(known: list[str]) -> list[str]:
    """The ids of the selected runs: this session's, the link's, or the newest run."""
    chosen = [run for run in wanted() if run in known][:MOST_SELECTED] or known[:1]
    st.session_state["run"] = chosen
    if st.query_params.get_all("run") != chosen:
        st.query_params["run"] = chosen
    return chosen


def take_rows(order: list[str]) -> None:
    """The rows that were pressed become the selection; the whole page follows, its link too."""
    rows = st.session_state[TABLE]["selection"]["rows"]
    st.session_state["run"] = [order[row] for row in rows if row < len(order)]
    if len(rows) > MOST_SELECTED:
        st.toast(f"The charts hold {MOST_SELECTED} runs; the others are left out.")
    st.rerun()


def show_list(views: list[RunView], chosen: list[str], colours: dict[str, str]) -> None:
    """Every run, the newest first; pressing rows selects them."""
    order = [view.id for view in views]
    # Rows are known by position, and a new run moves all others down.
    rows = [order.index(run) for run in chosen]
    st.session_state[TABLE] = {"selection": {"rows": rows, "columns": [], "cells": []}}
    st.dataframe(
        run_views.listing(views, colours),
        column_config={
            "Colour": st.column_config.ImageColumn("", width=28, pinned=True, help="Its colour on the charts"),
            "Run": st.column_config.TextColumn(pinned=True),
            "State": st.column_config.MultiselectColumn(
                options=[*BADGES, *FAULTS],
                color=[*BADGES.values(), *FAULTS.values()],
                help="Collapsed, running away: the scale of the student's logits",
            ),
            "Progress": st.column_config.ProgressColumn(format="%.0f %%", min_value=0, max_value=100),
            "Epoch": st.column_config.TextColumn(help="Epochs done of all, and what is left at the present speed"),
            "Validation": st.column_config.NumberColumn(help="Accuracy on validation, newest epoch", format="%.1f %%"),
            "Test": st.column_config.NumberColumn(help="Accuracy on test, last epoch", format="%.1f %%"),
            "Added": st.column_config.DatetimeColumn(format="distance"),
        },
        hide_index=True,
        height=37 + 35 * min(max(len(views), 3), MOST_ROWS),
        key=TABLE,
        on_select=lambda: take_rows(order),
        selection_mode="multi-row",
        placeholder="",
        alt="All runs with their state, progress and accuracy",
    )


def act(view_id: str, action: Callable[..., object], *arguments: object) -> None:
    """Do something to a run; what stands against it is said beside the run."""
    try:
        action(view_id, *arguments)
    except CistError as error:
        st.session_state["_refused"] = (view_id, str(error))
    st.rerun()


def show_run(view: RunView, colour: str) -> None:
    """One selected run: how it stands, what can be done, and why it stopped."""
    with st.container(gap="xxsmall"):
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.image(run_views.swatch(colour), width=16)
            badges = f":{BADGES[view.state]}-badge[{view.state}]"
            if view.scale_fault:
                badges += f" :{FAULTS[view.scale_fault.state]}-badge[logits {view.scale_fault.state}]"
            st.markdown(f"**{plain(view.label)}** {badges}", width="stretch")
            if not store.owns(view.run):
                st.caption("Somebody else's: to look at only.", width="content")
            elif view.active:
                stopping = view.run.cancel_requested
                st.button(
                    "Stopping" if stopping else "Cancel", icon=":material/stop:", key=f"cancel-{view.id}",
                    disabled=stopping, on_click=act, args=(view.id, store.cancel),
                    help="It saves where it is, and can be resumed.",
                )  # fmt: skip
            elif view.state != "finished":
                st.button(
                    "Resume", icon=":material/resume:", type="primary", key=f"resume-{view.id}",
                    on_click=act, args=(view.id, store.resume), help="Continue from the last checkpoint.",
                )  # fmt: skip
            if store.owns(view.run):
                show_more(view)
        if details := view.details():
            st.caption(plain(details))
    refused_id, refusal = st.session_state.get("_refused", (None, ""))
    if refused_id == view.id:
        show_error(CistError(refusal))
        del st.session_state["_refused"]


def show_more(view: RunView) -> None:
    """What is needed less often: name, note, another attempt, deletion."""

    def rename() -> None:
        act(view.id, store.rename, st.session_state[f"name-{view.id}"])

    def annotate() -> None:
        act(view.id, store.set_note, st.session_state[f"note-{view.id}"])

    with st.popover("More", icon=":material/more_horiz:", key=f"more-{view.id}"):
        st.text_input("Name", view.run.name, key=f"name-{view.id}", on_change=rename)
        st.text_input("Note", view.run.note, key=f"note-{view.id}", on_change=annotate)
        if not view.active:
            st.button(
                "Train again from scratch", icon=":material/replay:", key=f"retry-{view.id}", width="stretch",
                on_click=act, args=(view.id, store.retry), help="Its results so far are replaced.",
            )  # fmt: skip
            sure = st.checkbox("Delete it with its student and curves", key=f"sure-{view.id}")
            st.button(
                "Delete", icon=":material/delete:", key=f"delete-{view.id}", width="stretch", disabled=not sure,
                on_click=act, args=(view.id, store.delete),
            )  # fmt: skip


def show_curves(curves: list[RunCurve]) -> None:
    """Everything over the epochs; the sentence of the first chart is the title of the page."""
    show_figure(accuracy_figure(curves, height=CHART_HEIGHT), key="runs-accuracy", heading=False)
    if any(curve.softened for curve in curves):
        left, right = st.columns(2, gap="large")
        with left:
            show_figure(entropy_figure(curves), key="runs-entropy")
        with right:
            show_figure(temperature_figure(curves), key="runs-temperature")
    left, right = st.columns(2, gap="large")
    with left:
        show_figure(maximum_figure(curves), key="runs-maximum")
    with right:
        place = st.container()
        terms = {term_name(term): term for term in loss_terms(curves)}
        chosen = st.segmented_control(
            "Part of the loss", list(terms), default=next(iter(terms)), required=True,
            label_visibility="collapsed", **page_setting("term", keep=False),
        )  # fmt: skip
        with place:
            # The term of one method may be none of the next selection's.
            show_figure(loss_figure(curves, terms.get(str(chosen), "loss_total")), key="runs-loss")


def show_results(views: list[RunView]) -> None:
    """Numbers at the end of training, side by side."""
    table = run_views.results(views)
    help_ = {
        "Validation, last": "Accuracy of the last epoch",
        "Validation, best": "Accuracy of the best epoch; that one epoch is the best is partly luck",
        "Test, last": "Accuracy of the last epoch on the test images: the number to report",
        "Test at best": "Accuracy on the test images of the epoch that was best on validation",
        "Agreement": "Share of the test images where student and teacher give the same class",
    }
    shares = table.select_dtypes("float").columns
    st.subheader("Results", anchor=False)
    show_table(
        table,
        key="runs-results",
        columns={
            "Run": st.column_config.TextColumn(pinned=True),
            **{name: st.column_config.NumberColumn(format="%.2f %%", help=help_.get(name)) for name in shares},
        },
        placeholder="",
        alt="Results of the selected runs",
    )


def show_seeds(views: list[RunView]) -> None:
    """Mean and interval where several of the runs, or of those launched with them, differ in nothing but the seed."""
    table = run_views.over_seeds(views)
    if table.empty:
        return
    st.subheader("Over seeds", anchor=False, help="Of the selected runs and of those launched together with them.")
    help_ = {
        "Deviation": "Standard deviation over the seeds",
        "From": "Lower end of the 95 % interval of the mean, by Student's t",
        "To": "Upper end of the 95 % interval of the mean, by Student's t",
    }
    shares = table.select_dtypes("float").columns
    config = {name: st.column_config.NumberColumn(format="%.2f %%", help=help_.get(name)) for name in shares}
    show_table(table, key="runs-seeds", columns=config, alt="Accuracy over seeds, in percent")


@st.cache_data(max_entries=64, show_spinner=False)
def read_answers(path: Path, changed_at: float) -> Answers:
    return Answers.load(path)


def show_comparison(views: list[RunView]) -> None:
    """What differs in the configs, and how far the trained students agree image by image."""
    st.subheader("What differs in the configs", anchor=False)
    difference = run_views.config_difference(views)
    if difference.empty:
        st.caption("Nothing: these runs have one and the same config.")
    else:
        show_table(difference, key="runs-difference", alt="Fields of the configs that differ between the selected runs")

    tested = [view for view in views if view.run.directory.test_logits.is_file()]
    if len(tested) < 2:
        return
    try:
        answers = {
            view.label: read_answers(file, file.stat().st_mtime)
            for view in tested
            for file in [view.run.directory.test_logits]
        }
        st.subheader(plain(run_views.agreement_sentence(answers)), anchor=False)
        if len(tested) == 2:
            show_outcomes(answers)
        else:
            table = run_views.agreement(answers)
            config = {name: st.column_config.NumberColumn(format="%.1f %%") for name in answers}
            show_table(table, key="runs-agreement", columns=config, alt="Share of equal answers of each two students")
    except CistError as error:
        show_error(error)


def show_outcomes(answers: dict[str, Answers]) -> None:
    (first, a), (second, b) = answers.items()
    counts = run_views.who_is_right(a, b)
    if counts is None:
        return
    labels = {"both": "Both right", "first": f"Only {first}", "second": f"Only {second}", "neither": "Neither"}
    table = pd.DataFrame(
        {
            "Right": list(labels.values()),
            "Images": [counts[key] for key in labels],
            "Share": [100 * counts[key] / len(a.top) for key in labels],
        }
    )
    show_table(
        table,
        key="runs-outcomes",
        columns={
            "Images": st.column_config.NumberColumn(format="localized"),
            "Share": st.column_config.ProgressColumn(format="%.1f %%", min_value=0, max_value=100),
        },
        alt="Test images by who is right",
    )


def own(views: list[RunView]) -> list[RunView]:
    """The runs once more, when somebody takes them away.

    Raises:
        CistError: if they are not the visitor's.
    """
    return run_views.read_runs([store.get_owned(view.id) for view in views])


def student_archive(view: RunView) -> bytes:
    return run_views.student_archive(*own([view]))


def show_exports(views: list[RunView]) -> None:
    """Metrics, students and commands to take along."""
    with st.popover("Export these runs", icon=":material/ios_share:"):
        st.download_button(
            "Metrics of every epoch (CSV)", lambda: to_csv(run_views.metrics_table(own(views))),
            file_name="metrics.csv", mime="text/csv", key="runs-csv", on_click="ignore", width="stretch",
        )  # fmt: skip
        st.download_button(
            "Configs, results and metrics (JSON)", lambda: run_views.everything(own(views)).encode(),
            file_name="runs.json", mime="application/json", key="runs-json", on_click="ignore", width="stretch",
        )  # fmt: skip
        for view in views:
            if view.run.directory.student.is_file():
                st.download_button(
                    f"Student of {plain(view.label)} (zip)", partial(student_archive, view),
                    file_name=f"student-{view.id}.zip", mime="application/zip", key=f"student-{view.id}",
                    on_click="ignore", width="stretch",
                )  # fmt: skip
        st.caption("The same on the command line")
        commands = [f"cist distill {shlex.quote(str(view.run.directory.config_file))}" for view in views]
        st.code("\n".join(commands), language="bash", wrap_lines=True)


def show_logs(views: list[RunView]) -> None:
    with st.expander("Log", icon=":material/notes:"):
        for view in views:
            if len(views) > 1:
                st.caption(plain(view.label))
            st.code(view.run.directory.log_tail(30) or "Nothing was logged yet.", language=None, height=220)


def show_page(polling: bool) -> None:
    """The whole page, which repeats itself while a run is queued or running."""
    views = run_views.read_runs(known_runs())
    if any(view.active for view in views):
        ensure_worker(store)
    elif polling:
        st.rerun()  # the last run has ended: draw once more, without a clock
    if not views:
        st.title("No runs yet: a run trains a student in the background, and its curves appear here", anchor=False)
        if st.button("Distill a teacher", icon=":material/science:", type="primary"):
            st.switch_page("../pages/distill.py", query_params={})
        return
    chosen = selection([view.id for view in views])
    selected = run_views.told_apart([view for view in views if view.id in chosen])
    colours = run_views.assign_colours(selected, st.session_state.get("_run_colours", {}))
    st.session_state["_run_colours"] = colours
    curves = [view.curve(colours[view.id]) for view in selected]

    st.title(plain(run_views.headline(selected, curves)), anchor=False)
    show_list(views, chosen, colours)
    for view in selected:
        show_run(view, colours[view.id])
    if any(curve.rows for curve in curves):
        show_curves(curves)
        show_results(selected)
        show_seeds(run_views.with_their_groups(selected, views))
    elif any(view.state == "running" for view in selected):
        st.skeleton(height=CHART_HEIGHT)
        st.caption("The curves begin when the first epoch has ended.")
    if len(selected) > 1:
        show_comparison(selected)
    mine = [view for view in selected if store.owns(view.run)]
    if mine:
        show_exports(mine)
        show_logs(mine)


def show_page_or_error(polling: bool) -> None:
    try:
        show_page(polling)
    except CistError as error:
        show_error(error)


def show_polling() -> None:
    """The page, with a clock while a run is queued or running."""
    polling = any(run.state in run_views.ACTIVE for run in known_runs())
    st.fragment(show_page_or_error, run_every=POLL_SECONDS if polling else None)(polling)


in_link("run")
if require_sign_in("see your runs"):
    try:
        store = run_store()
        show_polling()
    except CistError as error:
        show_error(error)
