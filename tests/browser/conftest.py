"""The real app in a real browser: one server for all tests, one fresh page each."""

from __future__ import annotations

import io
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
SCREENSHOTS = ROOT / "docs" / "screenshots"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
A_CHART = "[data-testid=stVegaLiteChart] :is(svg, canvas)"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


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
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine; `apt-get install chromium` brings one")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = tmp_path_factory.mktemp("server") / "log.txt"
    command = [sys.executable, "-m", "streamlit", "run", "app/main.py", "--server.port", str(port)]
    environment = os.environ | {"CIST_RUNS": str(runs_root)}
    with log.open("w") as stream:
        process = subprocess.Popen(command, cwd=ROOT, stdout=stream, stderr=subprocess.STDOUT, env=environment)
        try:
            address = f"http://127.0.0.1:{port}"
            _wait_until_healthy(address, process, log)
            yield address
        finally:
            process.terminate()
            process.wait(timeout=20)
    assert "Traceback" not in log.read_text(), log.read_text()


def _wait_until_healthy(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(300):
        if process.poll() is not None:
            pytest.fail(f"The server stopped: {log.read_text()}")
        try:
            with urllib.request.urlopen(f"{address}/_stcore/health", timeout=1):
                return
        except OSError:
            time.sleep(0.1)
    pytest.fail(f"The server did not answer within 30 seconds: {log.read_text()}")


@pytest.fixture(scope="session")
def browser() -> Iterator[object]:
    playwright_api = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine; `apt-get install chromium` brings one")
    with playwright_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def open_page(browser, server):
    """``open_page("entropy?tau=4", width=390, scheme="dark")`` opens a page in a context of its own, charts drawn."""
    contexts = []

    def open_(path: str = "", *, width: int = 1440, height: int = 1000, scheme: str = "light", sign: str = A_CHART):
        # Streamlit's placeholders pulsate while a page loads, which without a graphics card takes a core.
        context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme, reduced_motion="reduce"
        )
        contexts.append(context)
        page = context.new_page()
        page.goto(f"{server}/{path}")
        wait_until_drawn(page, sign)
        return page

    yield open_
    for context in contexts:
        context.close()


def wait_until_drawn(page, sign: str = A_CHART) -> None:
    """Until a chart, or another sign, is on the page and the script has come to rest."""
    page.wait_for_selector(sign, timeout=60_000)
    page.wait_for_selector("[data-testid=stApp][data-test-script-state=notRunning]", timeout=60_000)
    page.wait_for_timeout(400)  # fonts and the chart's own resize


def go_to(page, section: str, title: str) -> None:
    """Open another page by the menu above."""
    page.get_by_role("button", name=section, exact=True).click()
    page.get_by_role("menuitem", name=title).click()
    page.wait_for_timeout(500)
    wait_until_drawn(page)


def save_picture(page, name: str) -> None:
    """A picture for the documentation, in 256 colours: a third of the size, and no eye sees it."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    picture.quantize(256, dither=Image.Dither.NONE).save(SCREENSHOTS / f"{name}.png", optimize=True)
