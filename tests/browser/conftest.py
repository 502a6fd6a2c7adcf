"""The real app in a real browser: one server for all tests, one fresh page each."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from PIL import Image

from app.pages import DEFAULT, find_pages
from tests.browser.actions import A_CHART, HEADING, until_idle, until_still
from tests.studio import CHROMIUM, FLAGS, ROOT, running_studio

SCREENSHOTS = ROOT / "docs" / "screenshots"
PAGES = {
    page.name: page.name.removeprefix(DEFAULT) for page in find_pages() if page.section != "Train" and not page.hidden
}
PAGES["learn"] = "learn?lesson_step=5"
for without_chart in ("add", "tokens"):  # test_add.py and test_tokens.py look at them
    del PAGES[without_chart]
"""The address of every page that shows something without a run."""

LOOKS = [(390, 844, "light"), (1440, 1000, "light"), (1440, 1000, "dark")]
"""How every page is looked at: width, height, colour scheme; as it opens on a phone first, where least has room."""


@pytest.fixture(scope="session")
def runs_root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the server keeps its runs; whatever works there when the tests are over is ended."""
    root = tmp_path_factory.mktemp("runs")
    yield root
    for process in psutil.process_iter(["cmdline"]):
        if any(str(root) in part for part in process.info["cmdline"] or ()):
            process.kill()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, runs_root: Path) -> Iterator[str]:
    """The address of a freshly started Studio."""
    with running_studio(tmp_path_factory.mktemp("server"), CIST_RUNS=str(runs_root)) as address:
        yield address


@pytest.fixture(scope="session")
def browser() -> Iterator[object]:
    playwright_api = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine; `apt-get install chromium` brings one")
    with playwright_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def context(browser) -> Iterator[object]:
    """Shared by all tests, so that the app's files are fetched and compiled once; `open_page` leaves nothing in it."""
    # Streamlit's placeholders pulsate while a page loads, which without a graphics card takes a core.
    shared = new_context(browser, reduced_motion="reduce")
    yield shared
    shared.close()


def new_context(browser, **options: object):
    """A browser of its own for a visitor, whose pages count how often they ask the server."""
    context = browser.new_context(**options)
    context.add_init_script(path=Path(__file__).with_name("watch.js"))
    return context


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):
    """Beside a failure stands what was on the pages, which nobody can look at afterwards."""
    report = yield
    context = getattr(item, "funcargs", {}).get("context")
    if call.when == "call" and report.failed and context is not None:
        for page in context.pages:
            report.sections.append((f"what {page.url} showed", words_on(page)))
    return report


def words_on(page) -> str:
    """The text of a page, and what stands in its fields."""
    try:
        words = page.locator("body").inner_text(timeout=5_000)  # first, as it alone has a limit: a page may hang
        fields = page.eval_on_selector_all(
            "input, textarea", "all => all.map(field => `${field.ariaLabel || field.type}: ${field.value}`)"
        )
        return "\n".join([words, *fields])
    except Exception as error:  # whatever is wrong with the page must not hide why the test failed
        return str(error)


@pytest.fixture
def open_page(context, server):
    """``open_page("entropy?tau=4", width=390, scheme="dark")`` opens a page of a fresh visitor, charts drawn."""

    def open_(path: str = "", *, width: int = 1440, height: int = 1000, scheme: str = "light", sign: str = A_CHART):
        page = context.new_page()
        page.set_viewport_size({"width": width, "height": height})
        page.emulate_media(color_scheme=scheme)
        page.goto(f"{server}/{path}")
        wait_until_drawn(page, sign)
        return page

    yield open_
    for page in context.pages:
        if page.url.startswith(server):
            page.evaluate("localStorage.clear()")
        page.close()
    context.clear_cookies()


def wait_until_drawn(page, sign: str = A_CHART) -> None:
    """Until a chart, or another sign, is on the page and the script has come to rest."""
    page.wait_for_selector(sign, timeout=60_000)
    if "/learn" in page.url:  # which is drawn once more, as high as the window that the browser has told it of
        page.wait_for_selector(".st-key-lesson-window span[data-size]", state="attached", timeout=60_000)
        before, size = page.evaluate("[window.told, window.told = `${innerWidth} x ${innerHeight}`]")
        if size != before:
            page.wait_for_timeout(500)  # until the server has heard it
    page.wait_for_selector("[data-testid=stApp][data-test-script-state=notRunning]", timeout=60_000)
    until_idle(page)
    page.evaluate("document.fonts.ready.then(() => null)")
    until_still(page)  # the chart takes the room that it is given


def each_look(page) -> Iterator[str]:
    """The colour schemes in which an open page is looked at, one width of `LOOKS` after the other."""
    for width, height, scheme in LOOKS:
        page.set_viewport_size({"width": width, "height": height})
        page.emulate_media(color_scheme=scheme)
        page.wait_for_timeout(500)  # until it has seen that
        wait_until_drawn(page, HEADING)
        yield scheme


def go_to(page, title: str, *, sign: str = A_CHART) -> None:
    """Open another page from the sidebar."""
    page.locator("[data-testid=stSidebarNav]").get_by_role("link", name=title, exact=True).click()
    page.wait_for_timeout(500)
    wait_until_drawn(page, sign)


def save_picture(page, name: str) -> None:
    """A picture for the documentation, in 256 colours: a third of the size, and no eye sees it."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    picture.quantize(256, dither=Image.Dither.NONE).save(SCREENSHOTS / f"{name}.png", optimize=True)


def save_whole_page(page, name: str, scheme: str) -> None:
    """A picture of everything on the page, at most four screens high; nothing may stick out at the side."""
    width = page.viewport_size["width"]
    assert page.evaluate("document.scrollingElement.scrollWidth - window.innerWidth") <= 0
    height = page.locator("[data-testid=stMain]").evaluate("element => element.scrollHeight")
    page.set_viewport_size({"width": width, "height": min(max(height, 600), 4000)})
    page.wait_for_timeout(600)
    save_picture(page, f"{name}-{scheme}{'' if width > 1000 else '-phone'}")
