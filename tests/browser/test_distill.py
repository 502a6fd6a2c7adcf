"""What a person does: launch a run, watch it, lose it, resume it, compare it with another."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path

import pytest

from app.forms.run_views import in_settings, read_runs
from cist_core.runs import Run, RunState, RunStore, ensure_worker
from cist_core.training import preset
from tests.browser.actions import FINDING, HEADING, MINUTES, faint_words, fill, settle, wait_for
from tests.browser.conftest import each_look, save_picture, save_whole_page

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture
def store(server, runs_root: Path) -> RunStore:
    """The server's own runs."""
    return RunStore(runs_root)


@pytest.fixture
def two_runs(store: RunStore) -> list[Run]:
    """CIST and KD on the digits, both finished."""
    wanted = {"CIST": "cist:rho=3.5", "KD": "kd:tau=4"}
    done = {run.name: run for run in store.list_runs() if run.state is RunState.FINISHED}
    for name, objective in wanted.items():
        if name not in done:
            store.add(preset("demo").changed(objective=objective), name=name)
    ensure_worker(store)
    wait_for(lambda: all(run.state.ended for run in store.list_runs()), seconds=480)
    runs = [next(run for run in store.list_runs() if run.name == name) for name in wanted]
    assert [run.state for run in runs] == [RunState.FINISHED] * 2, [run.reason for run in runs]
    return runs


def launch(page, *, epochs: int) -> None:
    fill(page, "Epochs", str(epochs))
    fill(page, "Training images", "300")
    page.get_by_role("button", name="Launch", exact=True).click()
    page.get_by_text("The run is in the queue").wait_for(timeout=30_000)
    page.get_by_role("link", name="Watch it on Runs").click()
    page.wait_for_url("**/runs**")


def finding(page) -> str:
    return page.locator(FINDING).first.inner_text()


def test_a_run_is_launched_watched_and_left_alone_when_it_has_finished(open_page, store: RunStore) -> None:
    page = open_page("distill?tau=3", sign=HEADING)
    frames: list[float] = []
    page.on("websocket", lambda socket: socket.on("framereceived", lambda _: frames.append(time.monotonic())))
    page.reload()
    page.wait_for_selector(HEADING)
    settle(page)
    launch(page, epochs=2)
    page.wait_for_selector(f"{FINDING}:has-text('on test')", timeout=2 * MINUTES)
    page.locator(".stMarkdownBadge", has_text="finished").wait_for(timeout=MINUTES)
    settle(page)
    assert page.get_by_role("slider", name="Fixed temperature τ").get_attribute("data-value") == "3"
    assert "Runs" in page.locator("[data-testid=stSidebarNav] [aria-current=page]").inner_text()
    assert page.locator("[data-testid=stVegaLiteChart]").count() == 2
    page.wait_for_timeout(2_000)
    seen = len(frames)
    page.wait_for_timeout(5_000)
    assert len(frames) == seen, "the page asks on although nothing runs"
    run = store.list_runs()[0]
    assert run.state is RunState.FINISHED
    assert run.directory.config().epochs == 2


def test_one_press_compares_cist_with_the_matched_temperature_over_three_seeds(open_page, store: RunStore) -> None:
    page = open_page("distill", sign=HEADING)
    fill(page, "Epochs", "1")
    fill(page, "Training images", "1000")
    page.get_by_role("button", name="Run all 6").click()
    page.get_by_text("6 runs are in the queue").wait_for(timeout=30_000)
    page.get_by_role("link", name="Watch them on Runs").click()
    page.wait_for_url("**/runs**")
    page.get_by_text("6 of 6").wait_for(timeout=8 * MINUTES)
    settle(page)
    assert re.search(r"(points better than|cannot be told apart on test)", finding(page))
    assert "3 seeds" in finding(page)
    newest = store.list_runs()[:6]
    assert {run.state for run in newest} == {RunState.FINISHED}
    assert len({run.group for run in newest}) == 1


def test_a_cancelled_run_can_be_resumed(open_page, store: RunStore) -> None:
    page = open_page("distill", sign=HEADING)
    launch(page, epochs=400)
    page.wait_for_selector(f"{FINDING}:has-text('of 400 epochs')", timeout=2 * MINUTES)
    page.get_by_role("button", name="Cancel").click()
    page.get_by_text("is stopping").wait_for(timeout=5_000)
    page.get_by_role("button", name="Resume").wait_for(timeout=60_000)
    assert store.list_runs()[0].state is RunState.CANCELLED


def test_a_killed_run_is_resumed_where_it_was_and_finishes(open_page, store: RunStore) -> None:
    page = open_page("distill", sign=HEADING)
    launch(page, epochs=100)
    page.wait_for_selector(f"{FINDING}:has-text('of 100 epochs')", timeout=2 * MINUTES)
    settle(page)
    save_picture(page, "run-watched")
    run = store.list_runs()[0]
    os.kill(run.directory.status()["pid"], signal.SIGKILL)
    page.get_by_role("button", name="Resume").wait_for(timeout=30_000)
    assert page.locator(".stMarkdownBadge", has_text="lost").is_visible()
    before = epoch_on_screen(page)
    settle(page)
    save_picture(page, "run-killed")
    page.get_by_role("button", name="Resume").click()
    page.wait_for_selector(f"{FINDING}:has-text('on test')", timeout=5 * MINUTES)
    page.locator(".stMarkdownBadge", has_text="finished").wait_for(timeout=30_000)
    settle(page)
    save_picture(page, "run-resumed")
    run = store.get(run.id)
    assert (run.state, run.attempt) == (RunState.FINISHED, 2)
    assert [row["epoch"] for row in run.directory.metrics()] == list(range(1, 101)), "it left epochs out"
    resumed_after = int(re.findall(r"Resumed after (\d+) steps", run.directory.log_tail(200))[-1])
    steps_per_epoch = 300 // run.directory.config().batch_size
    assert resumed_after >= steps_per_epoch * before, "it began anew"


def epoch_on_screen(page) -> int:
    match = re.search(r"after (\d+) of", finding(page))
    assert match, finding(page)
    return int(match[1])


def test_two_runs_are_compared_by_pressing_their_rows(open_page, two_runs: list[Run], store: RunStore) -> None:
    cist, kd = two_runs
    page = open_page(f"runs?run={cist.id}")
    assert finding(page).startswith("CIST reached ")
    row = names_of_settings(store).index(kd.name)
    table = page.locator("[data-testid=stDataFrame]").first.bounding_box()
    page.mouse.click(table["x"] + 20, table["y"] + 36 + 35 * row + 17)
    page.wait_for_selector(f"{FINDING}:has-text('KD')", timeout=30_000)
    settle(page)
    assert re.search(r"(points better than|cannot be told apart)", finding(page))
    page.get_by_role("tab", name="Tables").click()
    page.get_by_text("What differs in the configs").wait_for()
    page.get_by_role("tab", name="Agreement").click()
    page.get_by_text("The students agree on").wait_for()
    assert set(re.findall(r"run=([^&]+)", page.url)) == {cist.id, kd.id}
    second = open_page(page.url.split("/", 3)[3])
    assert finding(second) == finding(page)


def names_of_settings(store: RunStore) -> list[str]:
    """As the list on the page has them, the newest first."""
    return [setting.runs[0].run.name for setting in in_settings(read_runs(store.list_runs()))]


def test_a_student_is_downloaded(open_page, two_runs: list[Run]) -> None:
    page = open_page(f"runs?run={two_runs[0].id}")
    page.get_by_role("tab", name="Export").click()
    with page.expect_download() as download:
        page.get_by_role("button", name="Student of CIST, seed 0 (zip)").click()
    assert Path(download.value.path()).read_bytes()[:2] == b"PK"


@pytest.mark.parametrize("name", ["distill", "runs"])
def test_words_stand_out_nothing_sticks_out_and_pictures_are_taken(open_page, two_runs: list[Run], name: str) -> None:
    """The pictures are those of the documentation."""
    path = name if name == "distill" else "runs?" + "&".join(f"run={run.id}" for run in two_runs)
    page = open_page(path, width=390, height=844, sign=HEADING)
    for scheme in each_look(page):
        page.wait_for_function("document.querySelectorAll('[data-testid=stSkeleton]').length == 0")
        settle(page)
        assert faint_words(page) == [], (scheme, page.viewport_size)
        save_whole_page(page, name, scheme)
