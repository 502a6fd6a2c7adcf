"""Runs: what came of it: tests with their intervals, curves over the seeds, and the trained students."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pandas as pd
import streamlit as st

from app.forms import run_copies, run_tokens, run_views
from app.forms.run_copies import CopyDesk
from app.forms.run_views import MOST_SELECTED, Answers, RunView, SettingView
from app.history import went_back
from app.people import on_own_machine, require_sign_in, run_store
from app.settings import in_link, page_setting
from app.sliders.bar import hide_source
from app.tokens.view import link_to_run
from app.widgets import page_head, plain, show_error, show_figure, show_table
from cist_core.charts.training import (
    accuracy_figure,
    entropy_figure,
    loss_figure,
    loss_terms,
    maximum_figure,
    temperature_figure,
)
from cist_core.charts.training_results import accuracy_on_test_figure
from cist_core.charts.training_sentences import RunCurve, term_name
from cist_core.charts.training_tokens import perplexity_figure, weights_figure
from cist_core.errors import CistError
from cist_core.runs import Run, ensure_worker
from cist_core.runs.copies import not_here
from cist_core.runs.executors.settings import mirror_url
from cist_core.tables import to_csv
from cist_core.training.mirror.listing import CopiedRun

SECTION = "Train"
ORDER = 20
ICON = ":material/monitoring:"

NO_EPOCH = "No epoch has ended yet."
QUESTION = "What came of the runs?"
POLL_SECONDS = 2
COPIES_POLL_SECONDS = 1
CHART_HEIGHT = 320
MOST_ROWS = 6  # of the list before it scrolls
TABLE = "runs-table"
BADGES = {
    "queued": "gray",
    "running": "blue",
    "stopping": "orange",
    "finished": "green",
    "failed": "red",
    "cancelled": "gray",
    "lost": "orange",
}
FAULTS = {"collapsed": "red", "running away": "red"}  # of the scale of the student's logits, beside the state
TABS = ("Curves", "Loss", "Soft labels", "Tables", "Agreement", "Export")

show_chart = partial(show_figure, of_source=False)


# ---- which settings are shown ----------------------------------------------------------------------------------------


def wanted() -> list[str]:
    """The ids of runs that this session has selected, or its link names."""
    if "run" not in st.session_state or went_back():
        st.session_state["run"] = st.query_params.get_all("run")
    return list(st.session_state["run"])


def known_runs() -> tuple[list[Run], list[str]]:
    """The visitor's runs and those of others that the link names; and the ids that nothing is known of."""
    own = store.list_runs()
    known = {run.id for run in own}
    shared, unknown = [], []
    for run_id in dict.fromkeys(wanted()):
        if run_id not in known:
            try:
                shared.append(store.get(run_id))
            except CistError:  # deleted meanwhile, or never there
                unknown.append(run_id)
    return own + shared, unknown


def selection(settings: Sequence[SettingView]) -> list[SettingView]:
    """The settings of the selected runs: this session's, the link's, or what was launched last."""
    ids = set(wanted())
    chosen = [setting for setting in settings if ids & {run.id for run in setting.runs}]
    if not chosen:
        newest = max(settings[0].runs, key=lambda run: run.run.created_at).run
        together = {newest.group} - {None}
        chosen = [
            setting
            for setting in settings
            if setting is settings[0] or together & {run.run.group for run in setting.runs}
        ]
    chosen = chosen[:MOST_SELECTED]
    ids_now = [run.id for setting in chosen for run in setting.runs]
    st.session_state["run"] = ids_now
    if st.query_params.get_all("run") != ids_now:
        st.query_params["run"] = ids_now
    return chosen


def take_rows(settings: Sequence[SettingView]) -> None:
    """The rows that were pressed become the selection."""
    rows = st.session_state[TABLE]["selection"]["rows"]
    st.session_state["run"] = [run.id for row in rows if row < len(settings) for run in settings[row].runs]
    if len(rows) > MOST_SELECTED:
        st.toast(f"The charts hold {MOST_SELECTED} settings; the others are left out.")


# ---- the list, and what can be done ----------------------------------------------------------------------------------


def show_list(settings: list[SettingView], chosen: list[SettingView], colours: dict[str, str]) -> None:
    """Every setting, the newest first; pressing rows selects them."""
    keys = [setting.key for setting in settings]
    # Rows are known by position, and a new run moves all others down.
    rows = [keys.index(setting.key) for setting in chosen]
    st.session_state[TABLE] = {"selection": {"rows": rows, "columns": [], "cells": []}}
    st.dataframe(
        run_views.listing(settings, colours),
        column_config={
            "Colour": st.column_config.ImageColumn("", width=28, pinned=True, help="Its colour on the charts"),
            "Setting": st.column_config.TextColumn(pinned=True, help="Runs that differ in nothing but the seed"),
            "Runs": st.column_config.ListColumn(
                help="How many are in which state; collapsed and running away are faults of the student's logits"
            ),
            "Progress": st.column_config.ProgressColumn(format="%.0f %%", min_value=0, max_value=100),
            "Perplexity": st.column_config.NumberColumn(
                help="Of the test texts after the last epoch: exp of the mean NLL of the seeds", format="%.4g"
            ),
            "Test": st.column_config.NumberColumn(
                help="Accuracy after the last epoch, mean of the seeds; of texts the share of tokens", format="%.1f %%"
            ),
            "Seeds": st.column_config.NumberColumn(help="Tested so far"),
            "Added": st.column_config.DatetimeColumn(format="distance"),
        },
        hide_index=True,
        height=37 + 35 * min(max(len(settings), 1), MOST_ROWS),
        key=TABLE,
        on_select=lambda: take_rows(settings),
        selection_mode="multi-row",
        placeholder="",
        alt="All settings with the state, progress and test accuracy of their runs",
    )


def act(run_ids: Sequence[str], action: Callable[..., object], *arguments: object) -> None:
    """Do something to runs; what stands against it is said beside them. The page is drawn again right after."""
    for run_id in run_ids:
        try:
            action(run_id, *arguments)
        except CistError as error:
            st.session_state["_refused"] = (run_id, str(error))


def show_setting(setting: SettingView, colour: str) -> None:
    """One selected setting: how its runs stand, and what can be done with all of them; it opens to its runs."""
    label = f"**{plain(setting.label)}** {badges(setting.runs)}"
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.image(run_views.swatch(colour), width=16)
        if len(setting.runs) == 1:
            with st.container(gap="xxsmall"):
                st.markdown(label)
                show_details(setting.runs[0])
            show_actions(setting.runs[0])
            return
        with st.expander(label, key=f"runs-of-{setting.runs[0].id}"):
            for run in setting.runs:
                show_run(run)
        show_actions_on_all([run for run in setting.runs if store.owns(run.run)])


def show_actions_on_all(runs: Sequence[RunView]) -> None:
    going = [run.id for run in runs if run.active and not run.stopping]
    stopped = [run.id for run in runs if run.run.state.ended and run.state != "finished"]
    if going:
        st.button(
            f"Cancel {len(going)}", icon=":material/stop:", key=f"cancel-all-{runs[0].id}",
            on_click=act, args=(going, store.cancel), help="They save where they are, and can be resumed.",
        )  # fmt: skip
    elif stopped:
        st.button(
            f"Resume {len(stopped)}", icon=":material/resume:", key=f"resume-all-{runs[0].id}",
            on_click=act, args=(stopped, store.resume), help="They continue from their last checkpoints.",
        )  # fmt: skip


def badges(runs: Sequence[RunView]) -> str:
    """The states of runs, with their number where there are several."""
    states = run_views.states_of(runs)
    written = [
        f":{BADGES[state]}-badge[{state if len(runs) == 1 else f'{count} {state}'}]" for state, count in states.items()
    ]
    faults = dict.fromkeys(run.scale_fault.state for run in runs if run.scale_fault)
    return " ".join([*written, *(f":{FAULTS[state]}-badge[logits {state}]" for state in faults)])


def show_run(view: RunView) -> None:
    """One run of a setting: how it stands, what can be done, and why it stopped."""
    with st.container(gap="xxsmall"):
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.markdown(f"seed {view.seed} {badges([view])}", width="stretch")
            show_actions(view)
        show_details(view)


def show_actions(view: RunView) -> None:
    if not store.owns(view.run):
        st.caption("Somebody else's: to look at only.", width="content")
        return
    if view.active:
        st.button(
            "Stopping" if view.stopping else "Cancel", icon=":material/stop:", key=f"cancel-{view.id}",
            disabled=view.stopping, on_click=act, args=([view.id], store.cancel),
            help="It saves where it is, and can be resumed.",
        )  # fmt: skip
    elif view.state != "finished":
        st.button(
            "Resume", icon=":material/resume:", type="primary", key=f"resume-{view.id}",
            on_click=act, args=([view.id], store.resume), help="Continue from the last checkpoint.",
        )  # fmt: skip
    show_more(view)


def show_details(view: RunView) -> None:
    if details := view.details():
        st.caption(plain(details))
    if view.of_texts and run_tokens.has_student(view.run):
        st.page_link(
            "../pages/tokens.py",
            label="See it on Tokens, before and after",
            icon=":material/short_text:",
            query_params=link_to_run(view.id),
        )
    refused_id, refusal = st.session_state.get("_refused", (None, ""))
    if refused_id == view.id:
        show_error(CistError(refusal))
        del st.session_state["_refused"]


def show_more(view: RunView) -> None:
    """What is needed less often: name, note, another attempt, deletion."""

    def rename() -> None:
        act([view.id], store.rename, st.session_state[f"name-{view.id}"])

    def annotate() -> None:
        act([view.id], store.set_note, st.session_state[f"note-{view.id}"])

    with st.popover("More", icon=":material/more_horiz:", key=f"more-{view.id}"):
        st.text_input("Name", view.run.name, key=f"name-{view.id}", on_change=rename)
        st.text_input("Note", view.run.note, key=f"note-{view.id}", on_change=annotate)
        if not view.active:
            st.button(
                "Train again from scratch", icon=":material/replay:", key=f"retry-{view.id}", width="stretch",
                on_click=act, args=([view.id], store.retry), help="Its results so far are replaced.",
            )  # fmt: skip
            sure = st.checkbox("Delete it with its student and curves", key=f"sure-{view.id}")
            st.button(
                "Delete", icon=":material/delete:", key=f"delete-{view.id}", width="stretch", disabled=not sure,
                on_click=act, args=([view.id], store.delete),
            )  # fmt: skip


# ---- the picture and the three numbers -------------------------------------------------------------------------------


def show_picture(settings: list[SettingView], curves: list[RunCurve], colours: dict[str, str]) -> bool:
    """The tests where there are any, else the curves so far; whether it was the tests.

    Of language models the course of the perplexity: their accuracies are not what they are judged by.
    """
    if run_tokens.are_texts(settings) and any(curve.last("val_perplexity") for curve in curves):
        show_chart(perplexity_figure(curves, height=CHART_HEIGHT), key="runs-perplexity", heading=False)
        return True
    tested = run_views.ranked(settings)
    if tested:
        by_label = {setting.label: colours[setting.key] for setting in settings}
        show_chart(accuracy_on_test_figure(tested, by_label), key="runs-tests", heading=False)
        return True
    if any(curve.rows for curve in curves):
        unit = run_views.unit_of([run for setting in settings for run in setting.runs])
        show_chart(accuracy_figure(curves, height=CHART_HEIGHT, unit=unit), key="runs-accuracy", heading=False)
    elif any(run.state == "running" for setting in settings for run in setting.runs):
        st.skeleton(height=CHART_HEIGHT)
        st.caption("The curves begin when the first epoch has ended.")
    return False


def headline(settings: list[SettingView], curves: list[RunCurve]) -> str:
    """What came of the selected settings; of language models by likelihood."""
    tested = run_tokens.finding(settings) if run_tokens.are_texts(settings) else ""
    return run_views.headline(settings, curves, tested=tested)


def show_numbers(settings: list[SettingView]) -> None:
    numbers = run_views.three_numbers(settings)
    if run_tokens.are_texts(settings) and run_tokens.ranked(settings):
        numbers = [*run_tokens.numbers(settings), *(one for one in numbers if one[0] not in run_views.OF_TESTS)]
    with st.container(horizontal=True, gap="large"):
        for label, value, help_ in numbers:
            st.metric(label, value, help=help_, width="content")


# ---- tabs ------------------------------------------------------------------------------------------------------------


def show_tabs(settings: list[SettingView], curves: list[RunCurve], tests_shown: bool) -> None:
    """The rest; only what is open is drawn, as all of it is drawn again every other second."""
    tabs = st.tabs(TABS, key="runs-tab", on_change="rerun")
    shown = [run for setting in settings for run in setting.runs]
    mine = [run for run in shown if store.owns(run.run)]
    parts: list[Callable[[], None]] = [
        lambda: show_curves(curves, tests_shown, run_views.unit_of(shown)),
        lambda: show_loss(curves),
        lambda: show_soft_labels(curves),
        lambda: show_tables(settings, shown),
        lambda: show_agreement(settings),
        lambda: show_exports(mine),
    ]
    for tab, part in zip(tabs, parts, strict=True):
        if tab.open:
            with tab:
                part()


def show_curves(curves: list[RunCurve], tests_shown: bool, unit: str) -> None:
    if not any(curve.rows for curve in curves):
        st.caption(NO_EPOCH)
    elif tests_shown:
        show_chart(accuracy_figure(curves, height=CHART_HEIGHT, unit=unit), key="runs-accuracy")
    else:
        st.caption("They stand above until the first test.")


def show_loss(curves: list[RunCurve]) -> None:
    terms = {term_name(term): term for term in loss_terms(curves)}
    if not terms:
        st.caption(NO_EPOCH)
        return
    chosen = st.segmented_control(
        "Part of the loss", list(terms), default=next(iter(terms)), required=True,
        label_visibility="collapsed", **page_setting("term", keep=False),
    )  # fmt: skip
    # The term of one method may be none of the next selection's.
    show_chart(loss_figure(curves, terms.get(str(chosen), "loss_total")), key="runs-loss")


def show_soft_labels(curves: list[RunCurve]) -> None:
    if not any(curve.rows for curve in curves):
        st.caption(NO_EPOCH)
        return
    if any(curve.softened for curve in curves):
        left, right = st.columns(2, gap="large")
        with left:
            show_chart(entropy_figure(curves), key="runs-entropy")
        with right:
            show_chart(temperature_figure(curves), key="runs-temperature")
    show_chart(maximum_figure(curves), key="runs-maximum")
    if any(curve.last("weight_share_1") is not None for curve in curves):
        show_chart(weights_figure(curves), key="runs-weights")


def show_tables(settings: list[SettingView], shown: list[RunView]) -> None:
    """Numbers at the end of training, intervals over seeds, and the fields of the configs that differ."""
    if run_tokens.are_texts(settings):
        show_likelihoods_over_seeds(settings)
    else:
        show_accuracies_over_seeds(settings)
    show_results(shown)
    st.markdown("**What differs in the configs**")
    difference = run_views.config_difference(settings)
    if difference.empty:
        st.caption("Nothing but seeds and machines.")
    else:
        show_table(difference, key="runs-difference", alt="Fields of the configs that differ between the settings")


def show_accuracies_over_seeds(settings: list[SettingView]) -> None:
    differences = run_views.differences_table(settings)
    if not differences.empty:
        st.markdown("**Differences on test**")
        points = {name: st.column_config.NumberColumn(format="%.2f") for name in ("Points", "From", "To")}
        show_table(
            differences,
            key="runs-differences",
            columns=points,
            alt="By how much the best test is better than each other",
        )
    seeds = run_views.over_seeds(settings)
    if not seeds.empty:
        st.markdown("**Over seeds**")
        help_ = {
            "Deviation": "Standard deviation over the seeds",
            "From": "Lower end of the 95 % interval of the mean, by Student's t",
            "To": "Upper end of the 95 % interval of the mean, by Student's t",
        }
        config = {
            name: st.column_config.NumberColumn(format="%.2f %%", help=help_.get(name))
            for name in seeds.select_dtypes("float").columns
        }
        show_table(seeds, key="runs-seeds", columns=config, alt="Test accuracy over seeds, in percent")


def show_likelihoods_over_seeds(settings: list[SettingView]) -> None:
    table = run_tokens.over_seeds(settings)
    if len(table) < 2 and not (table.get("Seeds", pd.Series(dtype=int)) > 1).any():
        return
    help_ = {
        "Deviation": "Standard deviation over the seeds",
        "Above the first": "Difference in mean NLL to the first setting; empty where perplexities do not compare them",
        "From": "Lower end of its 95 % interval (Student's t over seeds; all rows together)",
        "To": "Upper end of it",
    }
    st.markdown("**Over seeds, in nats a token**")
    numbers = table.select_dtypes("float").columns
    columns = {name: st.column_config.NumberColumn(format="%.4f", help=help_.get(name)) for name in numbers}
    show_table(table, key="runs-nll", columns=columns, placeholder="", alt="Test NLL of every setting over its seeds")


def show_results(views: list[RunView]) -> None:
    """Numbers at the end of training, run by run."""
    table, unit = run_views.results(views), run_views.unit_of(views)
    help_ = {
        "Validation, last": "Accuracy of the last epoch",
        "Validation, best": "Accuracy of the best epoch; that one epoch is the best is partly luck",
        "Test, last": f"Accuracy of the last epoch on the test {unit}: the number to report",
        "Test at best": f"Accuracy on the test {unit} of the epoch that was best on validation",
        "Agreement": f"Share of the test {unit} where student and teacher give the same class",
    }
    if texts := [view for view in views if view.of_texts]:
        help_ |= {
            "Test, last": "Share of the test tokens that the student's most probable one is, after the last epoch",
            "Agreement": "Share of the test tokens for which student and teacher hold the same one most likely",
        }
        show_likelihoods(texts)
    shares = table.select_dtypes("float").columns
    st.markdown("**Run by run**")
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


def show_likelihoods(views: list[RunView]) -> None:
    """How likely the test texts are under language models, run by run."""
    help_ = {
        "Test NLL": "Negative log-likelihood of a test token after the last epoch, in nats: the number to report",
        "Perplexity": "exp of it",
        "Bits per byte": "The same per byte of the text in UTF-8, which other vocabularies can be compared by",
        "NLL at best": "After the epoch in which validation texts were likeliest",
        "Student's mean m": "Mean centred maximum of the logits in the newest epoch",
    }
    table = run_tokens.results(views)
    numbers = table.select_dtypes("float").columns
    formats = {"Tokens an epoch": "localized", "Bits per byte": "%.4f", "Test NLL": "%.4f", "NLL at best": "%.4f"}
    st.markdown("**Likelihood of the test texts**")
    show_table(
        table,
        key="runs-likelihoods",
        columns={
            "Run": st.column_config.TextColumn(pinned=True),
            **{
                name: st.column_config.NumberColumn(format=formats.get(name, "%.2f"), help=help_.get(name))
                for name in numbers
            },
        },
        placeholder="",
        alt="How likely the test texts are under the selected runs",
    )


@st.cache_data(max_entries=64, show_spinner=False)
def read_answers(path: Path, changed_at: float) -> Answers:
    return Answers.load(path)


def show_agreement(settings: list[SettingView]) -> None:
    """How far the trained students agree image by image: of each setting the first seed that was tested."""
    answers = {}
    try:
        for setting in settings:
            file = next((file for run in setting.runs if (file := run.run.directory.test_logits).is_file()), None)
            if file is not None:
                answers[setting.label] = read_answers(file, file.stat().st_mtime)
        if run_tokens.are_texts(settings):
            st.caption("Language models are compared with their teacher: Tables has the share of equal tokens.")
            return
        if len(answers) < 2:
            st.caption("Two settings with a test are needed; select another row of the list.")
            return
        st.markdown(f"**{plain(run_views.agreement_sentence(answers))}**")
        if len(answers) == 2:
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
    """Metrics, students, commands and logs to take along."""
    if not views:
        st.caption("These runs are somebody else's: to look at only.")
        return
    with st.container(horizontal=True):
        st.download_button(
            "Metrics of every epoch (CSV)", lambda: to_csv(run_views.metrics_table(own(views))),
            file_name="metrics.csv", mime="text/csv", key="runs-csv", on_click="ignore",
        )  # fmt: skip
        st.download_button(
            "Configs, results and metrics (JSON)", lambda: run_views.everything(own(views)).encode(),
            file_name="runs.json", mime="application/json", key="runs-json", on_click="ignore",
        )  # fmt: skip
        for view in views:
            if view.run.directory.student.is_file():
                st.download_button(
                    f"Student of {plain(view.label)}, seed {view.seed} (zip)", partial(student_archive, view),
                    file_name=f"student-{view.id}.zip", mime="application/zip", key=f"student-{view.id}",
                    on_click="ignore",
                )  # fmt: skip
    st.caption("The same on the command line")
    commands = [f"cist distill {shlex.quote(str(view.run.directory.config_file))}" for view in views]
    st.code("\n".join(commands), language="bash", wrap_lines=True)
    with st.expander("Log", icon=":material/notes:"):
        for view in views:
            if len(views) > 1:
                st.caption(plain(f"{view.label}, seed {view.seed}"))
            st.code(view.run.directory.log_tail(30) or "Nothing was logged yet.", language=None, height=220)


# ---- runs that are not here ------------------------------------------------------------------------------------------


def show_copies() -> None:
    """Runs that lie in the operator's store alone, for whoever may see all runs; it is asked when somebody wants it."""
    if store.owner is not None:
        return
    url = mirror_url(store.root)
    if url is None:
        return
    desk = st.session_state.get("_copies")
    if desk is None or desk.url != url:
        desk = st.session_state["_copies"] = CopyDesk(url, store.root)
    busy = desk.busy

    def show() -> None:
        came = desk.go_on()
        if came:
            st.session_state["run"] = came
        if desk.busy != busy:
            st.rerun()  # once more, with or without a clock, and with the runs that have come
        with st.expander("Copies of runs that are not here", icon=":material/cloud_download:", key="runs-copies"):
            try:
                show_desk(desk)
            except CistError as error:  # a fragment is drawn again without what is around it
                show_error(error)

    st.fragment(show, run_every=COPIES_POLL_SECONDS if busy else None)()


def show_desk(desk: CopyDesk) -> None:
    """Which copies there are of runs that are not here, and what can be done."""
    st.caption(
        f"Runs are copied to {plain(desk.url)} while they train. One that is not on this disk can be brought here "
        "from its copy: its files are fetched, and it is listed when all of them are there."
    )
    missing = [] if desk.copies is None or desk.coming else not_here(store, desk.copies)
    missing.sort(key=lambda copy: copy.name, reverse=True)  # ids begin with the time
    chosen: list[CopiedRun] = []
    if missing:
        event = st.dataframe(
            run_copies.listing(missing),
            column_config={
                "Run": st.column_config.TextColumn(width="medium"),
                "State": st.column_config.TextColumn(
                    help="As it last said; one that was killed says for ever that it is running"
                ),
                "Test": st.column_config.NumberColumn(help="Accuracy after the last epoch", format="%.1f %%"),
            },
            hide_index=True,
            height=37 + 35 * min(len(missing), MOST_ROWS),
            key=f"copies-{desk.looks}-{len(missing)}",
            on_select="rerun",
            selection_mode="multi-row",
            placeholder="–",
            alt="Copies of runs that are not here, with state, epoch and test accuracy",
        )
        chosen = [missing[row] for row in event["selection"]["rows"] if row < len(missing)]
    elif desk.coming:
        names = ", ".join(copy.title or copy.name for copy in desk.coming)
        st.markdown(f"Bringing {plain(names)} here, {desk.so_far} so far ...")
    elif desk.copies:
        st.markdown(f"All {len(desk.copies):,} runs that have a copy there are here.")
    elif desk.copies is not None:
        st.markdown("There are no copies of runs.")
    if desk.fault is not None:
        show_error(CistError(desk.fault))
    with st.container(horizontal=True):
        if missing:
            label = f"Bring {len(chosen)} here" if len(chosen) > 1 else "Bring it here"
            st.button(
                label if chosen else "Select runs to bring here", icon=":material/download:", type="primary",
                disabled=not chosen or desk.busy, key="copies-bring", on_click=desk.bring, args=(chosen,),
            )  # fmt: skip
        if desk.coming:
            st.button("Stop", icon=":material/stop:", key="copies-stop", on_click=desk.stop)
        else:
            words = "Looking ..." if desk.busy else "Look" if desk.copies is None else "Look again"
            st.button(words, icon=":material/search:", disabled=desk.busy, key="copies-look", on_click=desk.look)


# ---- the page --------------------------------------------------------------------------------------------------------


def show_rebuilt() -> None:
    """That the table was lost and rebuilt, until the operator has read it."""
    if store.rebuilt is None:
        return
    st.warning(plain(store.rebuilt), icon=":material/restore:")
    if on_own_machine() and st.button("I have read this", icon=":material/check:", key="runs-rebuilt"):
        store.forget_rebuilt()
        st.rerun()


def see_to_runs() -> CistError | None:
    """Have a worker start and watch them while some are active; why none can, while the page shows them anyway."""
    if not any(run.state in run_views.ACTIVE for run in known_runs()[0]):
        return None
    try:
        ensure_worker(store)
    except CistError as error:
        return error
    finally:
        store.reconcile()
    return None


def show_page(polling: bool, faults: list[CistError | None]) -> None:
    """The whole page, which repeats itself while a run is queued or running.

    Args:
        polling: whether it does.
        faults: what `see_to_runs` has said just now; used up by the first drawing, as it may be mended before the next.
    """
    page_head(QUESTION)
    show_rebuilt()
    fault = see_to_runs() if polling and not faults else faults[0]
    if polling:
        faults.clear()
    if fault is not None:
        show_error(fault)
    runs, unknown = known_runs()
    views = run_views.read_runs(runs)
    active = any(view.active for view in views)
    if active != polling:
        st.rerun()  # the last run has ended, or one was resumed: draw once more, without or with a clock
    for run_id in unknown:
        st.warning(
            f"There is no run {plain(run_id)} here: it was deleted, or belongs to another Studio.",
            icon=":material/link_off:",
        )
    if not views:
        st.markdown("No runs yet: a run trains a student in the background, and its tests and curves appear here.")
        if st.button("Distill a teacher", icon=":material/science:", type="primary"):
            st.switch_page("../pages/distill.py", query_params={})
        return
    everything = run_views.in_settings(views)
    chosen = selection(everything)
    selected = run_views.told_apart(chosen)
    if run_tokens.are_texts(selected):
        hide_source()  # nothing below goes by a teacher of images or its rules
    colours = run_views.assign_colours(selected, st.session_state.get("_run_colours", {}))
    st.session_state["_run_colours"] = colours
    curves = [setting.curve(colours[setting.key]) for setting in selected]

    st.subheader(plain(headline(selected, curves)), anchor=False)
    tests_shown = show_picture(selected, curves, colours)
    show_numbers(selected)
    for setting in selected:
        show_setting(setting, colours[setting.key])
    show_list(run_views.told_apart(everything), chosen, colours)
    show_tabs(selected, curves, tests_shown)


def show_page_or_error(polling: bool, faults: list[CistError | None]) -> None:
    try:
        show_page(polling, faults)
    except CistError as error:
        show_error(error)


def show_polling() -> None:
    """The page, with a clock while a run is queued or running."""
    fault = see_to_runs()
    polling = any(run.state in run_views.ACTIVE for run in known_runs()[0])
    st.fragment(show_page_or_error, run_every=POLL_SECONDS if polling else None)(polling, [fault])


in_link("run")
if require_sign_in("see your runs"):
    try:
        store = run_store()
        show_polling()
        show_copies()
    except CistError as error:
        show_error(error)
