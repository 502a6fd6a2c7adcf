"""The report in a real browser, from the disk and without a network: its sliders say what Python says."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cist_core import EntropyCurves, LogitSet, matched_pair
from cist_core.charts import histogram_figure
from cist_core.charts.moving_ratio import moving_ratio_figure
from cist_core.charts.pictures import DARK, LIGHT
from cist_core.compare.findings import are_matched, comparison, gain_words
from cist_core.compare.slider_grid import Position, SliderGrid, number_words, rho_sentences, slider_grid
from cist_core.report import write_report
from cist_core.temperature import CIST_FLOOR, Fixed
from cist_core.temperature.readings import RuleReading, read_rule
from cist_core.wording import percent, three_digits
from tests.browser.actions import faint_words

pytestmark = pytest.mark.browser

EVIL = "</script><img src=x onerror=alert(1)>{{7*7}}\"'&<!--"


class Report:
    """A report on the disk, and the grid that is in it."""

    def __init__(self, folder: Path, logit_set: LogitSet, tau: float = 2.0, floor: float = CIST_FLOOR) -> None:
        self.curves = EntropyCurves.from_logits(logit_set)
        pair = matched_pair(self.curves, tau=tau, floor=floor)
        readings = [read_rule(rule, self.curves) for rule in (Fixed(tau), pair.cist)]
        self.grid: SliderGrid = slider_grid(*readings, self.curves)
        self.path = folder / "report.html"
        write_report(self.path, logit_set, self.curves, readings)

    def reading(self, position: Position) -> RuleReading:
        return read_rule(position.rule, self.curves)


def gain_of(tau: Position, rho: Position) -> str:
    return gain_words(tau.profile, rho.profile, rho.same_label)


def teacher(samples: int = 400, classes: int = 12) -> LogitSet:
    """Rows of different scales, a third of them with a close second: under CIST their entropies differ."""
    rng = np.random.default_rng(3)
    logits = rng.normal(size=(samples, classes)) * rng.uniform(0.5, 3.0, (samples, 1))
    logits[::3, 1] = logits[::3, 0] = logits[::3].max(axis=1) + 4
    return LogitSet.create(logits, rng.integers(0, classes, samples), class_names=[f"c{i}" for i in range(classes)])


def two_classes() -> LogitSet:
    """Rows of two classes have one entropy under CIST."""
    return LogitSet.create(np.random.default_rng(0).normal(size=(60, 2)) * 3)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    return Report(tmp_path_factory.mktemp("report"), teacher())


@pytest.fixture
def open_report(browser) -> Iterator[Callable]:
    """``open_report(path)`` opens a file in a context without a network; errors and other requests fail the test."""
    contexts, troubles = [], []

    def open_(path: Path, *, width: int = 1280, scheme: str = "light"):
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True, accept_downloads=True
        )
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("console", lambda message: troubles.append(message.text) if message.type == "error" else None)
        page.on("dialog", lambda dialog: (troubles.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: None if request.url == path.as_uri() else troubles.append(request.url))
        page.goto(path.as_uri())
        page.wait_for_function("Object.keys(views).length == Object.keys(data.charts).length", timeout=60_000)
        return page

    yield open_
    for context in contexts:
        context.close()
    assert [trouble for trouble in troubles if not trouble.startswith(("data:", "blob:"))] == []


def drawing(page, place: str = "#chart-1") -> str:
    return page.locator(f"{place} svg").first.evaluate("element => element.outerHTML")


def press(page, slider: str, key: str) -> None:
    """Move a slider by keyboard and let the charts follow."""
    page.locator(slider).focus()
    page.keyboard.press(key)
    page.wait_for_timeout(300)


def position(page, slider: str) -> int:
    return int(page.locator(slider).input_value())


@pytest.mark.parametrize(("make", "floor"), [(teacher, 1.0), (teacher, 0.0), (two_classes, 1.0), (two_classes, 0.0)])
def test_every_sentence_is_that_of_python(
    open_report, tmp_path: Path, make: Callable[[], LogitSet], floor: float
) -> None:
    """All pairs of positions, not some: what the page decides by itself is decided as in `findings`."""
    report = Report(tmp_path, make(), floor=floor)
    grid = report.grid
    sides = [[report.reading(p) for p in side] for side in (grid.taus, grid.rhos)]
    expected = [comparison(*pair) for pair in itertools.product(*sides)]
    page = open_report(report.path)
    said = page.evaluate("grid.taus.flatMap((_, tau) => grid.rhos.map((_, rho) => headline(tau, rho)))")
    assert said == expected
    if make is teacher:
        kinds = ["Not matched", "times less", "about as much"]
        kinds += [] if floor else ["times more"]  # down to the floor, where CIST is the fixed temperature
    else:
        kinds = ["the same soft label up to the winner"]
        assert not any("times less" in sentence for sentence in expected)
    for kind in kinds:
        assert any(kind in sentence for sentence in expected), kind
    gains = page.evaluate("grid.taus.flatMap((_, tau) => grid.rhos.map((_, rho) => gainWords(tau, rho)))")
    assert gains == [gain_of(*pair) for pair in itertools.product(grid.taus, grid.rhos)]
    sentences = page.evaluate("grid.taus.flatMap((_, tau) => grid.rhos.map((_, rho) => ratiosMove(tau, rho)))")
    assert sentences == [grid.ratios_move(*pair) for pair in itertools.product(grid.taus, grid.rhos)]
    assert any("the others smaller" in sentence for sentence in sentences) is (floor > 0)
    assert page.evaluate("grid.rhos.map((rho) => rho.sentences)") == [rho_sentences(rho) for rho in grid.rhos]


def test_numbers_are_written_as_python_writes_them(open_report, report: Report) -> None:
    rng = np.random.default_rng(1)
    numbers = [0.0, 1.0, 9.995, 9.9949, 99.95, 999.4, 999.6, 1234.5, 999_999.0, 1e6, 1.5e-4, 9.99e-5, 1e-4]
    numbers += [math.exp(x) for x in rng.uniform(-12, 16, 500)]
    page = open_report(report.path)
    assert page.evaluate("numbers => numbers.map(threeDigits)", numbers) == [three_digits(n) for n in numbers]


def test_charts_have_the_data_that_python_gives_them(open_report, report: Report) -> None:
    """A dozen pairs of positions over the whole range of both sliders."""
    page = open_report(report.path)
    grid = report.grid
    taus, rhos = (np.linspace(0, len(side) - 1, 12).astype(int) for side in (grid.taus, grid.rhos))
    for tau, rho in zip(taus.tolist(), np.roll(rhos, 3).tolist(), strict=True):
        readings = [report.reading(grid.taus[tau]), report.reading(grid.rhos[rho])]
        shown = page.evaluate("([tau, rho]) => histogramTables(tau, rho)", [tau, rho])
        for name, table in histogram_figure(readings).datasets.items():
            if name in shown:
                pd.testing.assert_frame_equal(pd.DataFrame(shown[name]), table, check_dtype=False)
        assert set(shown) == {"bins", "means", "regions"}
        shown = page.evaluate("([tau, rho]) => ratioTables(tau, rho)", [tau, rho])
        expected = moving_ratio_figure(grid, tau, rho).datasets
        assert set(shown) == set(expected)
        pd.testing.assert_frame_equal(pd.DataFrame(shown["curve"]), expected["curve"])
        # The page has the maxima to four digits.
        pd.testing.assert_frame_equal(pd.DataFrame(shown["points"]), expected["points"], rtol=1e-3)


def test_a_slider_moves_by_keyboard_and_everything_follows(open_report, report: Report) -> None:
    page = open_report(report.path)
    grid = report.grid
    assert (position(page, "#tau"), position(page, "#rho")) == grid.start
    before = drawing(page), drawing(page, "#chart-ratios"), page.locator("h1").inner_text()
    for _ in range(3):
        press(page, "#tau", "ArrowRight")
    tau, rho = position(page, "#tau"), position(page, "#rho")
    assert tau == grid.start[0] + 3
    assert rho == grid.partners_of_taus[tau]
    readings = [report.reading(grid.taus[tau]), report.reading(grid.rhos[rho])]
    assert are_matched(*(reading.profile for reading in readings))
    assert page.locator("h1").inner_text() == comparison(*readings) != before[2]
    assert page.locator("#tau").get_attribute("aria-valuetext") == f"τ = {grid.taus[tau].value:.4g}"
    cells = page.locator("#numbers tbody tr").nth(1).locator("td").all_inner_texts()
    assert cells[:2] == [three_digits(readings[1].profile.mean), three_digits(readings[1].profile.std)]
    assert cells == number_words(grid.rhos[rho])
    assert page.locator("#sentences").inner_text() == rho_sentences(grid.rhos[rho])
    assert page.locator("#gain").inner_text() == gain_of(grid.taus[tau], grid.rhos[rho])
    after = drawing(page), drawing(page, "#chart-ratios")
    assert after[0] != before[0]
    assert after[1] != before[1]
    counts = page.evaluate("views['chart-1'].data('bins').map(row => row.samples)")
    assert counts == [*grid.taus[tau].counts.tolist(), *grid.rhos[rho].counts.tolist()]


def test_unlocked_sliders_move_apart_and_the_page_says_so(open_report, report: Report) -> None:
    page = open_report(report.path)
    page.get_by_label("Match mean entropy").uncheck()
    press(page, "#rho", "Home")
    assert position(page, "#tau") == report.grid.start[0]
    assert page.locator("h1").inner_text().startswith("Not matched: the mean entropy is ")
    assert page.locator("#gain").inner_text() == "not matched"
    assert page.locator("#note").inner_text().startswith("Not matched: spreads at different")
    page.get_by_label("Match mean entropy").check()
    assert position(page, "#rho") == report.grid.start[1]
    assert page.locator("#note").inner_text() == ""
    press(page, "#tau", "Home")
    page.get_by_role("button", name="Back to the pair").click()
    assert (position(page, "#tau"), position(page, "#rho")) == report.grid.start


def test_a_slider_without_a_partner_says_so(open_report, tmp_path: Path) -> None:
    sharp = teacher()
    for floor, note in (
        (0.0, "No partner within the sliders"),
        (1.0, "CIST has a floor of 1: no ρ has the mean entropy of a lower τ, and the pair is not matched."),
    ):
        report = Report(tmp_path, LogitSet.create(8 * sharp.logits), tau=16.0, floor=floor)
        page = open_report(report.path)
        press(page, "#tau", "Home")
        assert page.locator("h1").inner_text().startswith("Not matched")
        assert page.locator("#note").inner_text().startswith(note)


def test_rho_moves_the_words_about_the_floor(open_report, report: Report) -> None:
    page = open_report(report.path)
    press(page, "#rho", "End")
    last = report.grid.rhos[-1]
    assert last.profile.at_floor == 1
    assert page.locator("#sentences").inner_text() == rho_sentences(last)
    assert page.locator("#numbers tbody tr").nth(1).locator("td").last.inner_text() == percent(last.profile.at_floor)
    assert page.locator("#ratios").inner_text().endswith("under CIST none reaches 15")
    ratios = page.evaluate("views['chart-ratios'].data('points').map(row => row.ratio)")[len(report.grid.maxima) :]
    np.testing.assert_allclose(ratios, np.minimum(last.value, report.grid.maxima), rtol=1e-3)


def test_a_page_that_is_reloaded_starts_at_the_pair_of_the_report(open_report, report: Report) -> None:
    page = open_report(report.path)
    press(page, "#tau", "End")
    page.reload()
    page.wait_for_function("Object.keys(views).length == Object.keys(data.charts).length")
    assert (position(page, "#tau"), position(page, "#rho")) == report.grid.start


def test_names_from_outside_run_nothing(open_report, tmp_path: Path) -> None:
    plain = teacher()
    names = [f"{EVIL}{index}" for index in range(12)]
    evil = LogitSet.create(plain.logits, plain.labels, class_names=names, provenance={EVIL: EVIL})
    page = open_report(Report(tmp_path, evil).path)
    assert page.locator("h2", has_text=EVIL).count() == 1
    assert page.locator("dt", has_text=EVIL).inner_text() == EVIL
    page.locator("path[aria-roledescription=circle][aria-label*='onerror']").first.hover()
    page.wait_for_selector("#vg-tooltip-element.visible")
    assert EVIL in page.locator("#vg-tooltip-element").inner_text()
    assert page.locator("img").count() == 0


def test_a_chart_can_be_saved_without_a_network(open_report, report: Report) -> None:
    page = open_report(report.path)
    page.locator("#chart-1 summary").click()
    with page.expect_download() as download:
        page.locator("#chart-1 a", has_text="Save as PNG").click()
    assert Path(download.value.path()).read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert page.locator("#chart-1 a", has_text="Editor").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_sticks_out_and_colours_follow_the_system(open_report, report: Report, width: int, scheme: str) -> None:
    page = open_report(report.path, width=width, scheme=scheme)
    assert page.evaluate("document.scrollingElement.scrollWidth - window.innerWidth") <= 0
    for chart in page.locator(".chart svg.marks").all():
        assert chart.bounding_box()["width"] <= width
    ink = {"light": LIGHT.ink, "dark": DARK.ink}
    assert ink[scheme] in drawing(page)
    other = "dark" if scheme == "light" else "light"
    page.emulate_media(color_scheme=other)
    page.wait_for_timeout(1000)
    assert ink[other] in drawing(page)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_stand_out(open_report, report: Report, scheme: str) -> None:
    page = open_report(report.path, scheme=scheme)
    page.wait_for_timeout(500)
    assert page.locator("svg.marks text").count() > 20
    assert faint_words(page) == []
