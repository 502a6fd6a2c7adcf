"""What a person waits for: the first picture, and the chart after a slider moved, in a real browser.

    python benchmarks/latency.py [--samples 50000] [--classes 100]

A fresh server shows synthetic logits under the card of a shipped teacher. The first picture is timed from the moment
the server answers to the first drawn chart of a new visitor; a slider move from the key press to the chart's first
changed frame, network and browser included. Medians and 95 % quantiles go to `latency.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from app_rerun import ROOT, write_sample_models
from playwright.sync_api import Page, sync_playwright

PAGES = ("overview", "entropy", "ratio", "weights", "samples", "rho")
"""Those whose first chart follows the sliders."""
MOVES = 11
CHART = "[data-testid=stVegaLiteChart] :is(svg, canvas)"
RESULTS = Path(__file__).with_name("latency.json")

# Arms the slider: `window.moved` resolves with the milliseconds from the next key press on it to the first frame in
# which the first chart differs.
WATCH = """label => {
    const picture = () => {
        const chart = document.querySelector('[data-testid=stVegaLiteChart] :is(svg, canvas)');
        return chart === null ? null : chart.tagName === 'CANVAS' ? chart.toDataURL() : chart.innerHTML;
    };
    const slider = document.querySelector(`input[type=range][aria-label='${label}']`);
    slider.focus();
    const before = picture();
    window.moved = new Promise((resolve, reject) => slider.addEventListener('keydown', () => {
        const start = performance.now();
        const look = () => {
            const now = picture();
            if (now !== null && now !== before) resolve(performance.now() - start);
            else if (performance.now() - start > 20000) reject(new Error('the chart did not change'));
            else requestAnimationFrame(look);
        };
        look();
    }, {once: true, capture: true}));
}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=50_000)
    parser.add_argument("--classes", type=int, default=100)
    options = parser.parse_args()
    logits = np.random.default_rng(0).normal(size=(options.samples, options.classes)).astype(np.float32)
    logits *= np.random.default_rng(1).gamma(4.0, 0.6, (options.samples, 1)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        write_sample_models(Path(folder), logits)
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox", "--disable-gpu"])
        with server(str(ROOT / "sample_models"), folder) as (address, started):
            shipped = first_charts(browser, address, started)
        with server(folder, folder) as (address, started):
            large = first_charts(browser, address, started)
            page = browser.new_page(viewport={"width": 1440, "height": 1000})
            moves = {name: slider_moves(page, address, name) for name in PAGES}
        browser.close()
    results = {
        "samples": options.samples,
        "classes": options.classes,
        "first_chart_s": {"shipped teacher": shipped, "this size": large},
        "slider_ms": moves,
    }
    RESULTS.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(results, indent=2))


def first_charts(browser: Any, address: str, started: float) -> dict[str, float]:
    """Seconds from the server's first answer to the first visitor's chart, and what a second visitor waits."""
    visit(browser, address)
    first = time.perf_counter() - started
    return {"of the server": round(first, 2), "of the next visitor": round(visit(browser, address), 2)}


def visit(browser: Any, address: str) -> float:
    page = browser.new_context(viewport={"width": 1440, "height": 1000}).new_page()
    start = time.perf_counter()
    page.goto(address)
    page.wait_for_selector(CHART, timeout=120_000)
    return time.perf_counter() - start


def slider_moves(page: Page, address: str, name: str) -> dict[str, float]:
    """Median and 95 % quantile over `MOVES` single moves of tau, after two that warm the page up."""
    page.goto(f"{address}/{name if name != 'overview' else ''}")
    page.wait_for_selector(CHART, timeout=120_000)
    settle(page)
    times = []
    for move in range(MOVES + 2):
        times.append(timed_move(page, "PageDown" if move % 2 else "PageUp"))
        settle(page)
    kept = sorted(times[2:])
    return {
        "median": round(statistics.median(kept)),
        "q95": round(kept[int(0.95 * (len(kept) - 1))]),
        "largest": round(kept[-1]),
    }


def timed_move(page: Page, key: str) -> float:
    page.evaluate(WATCH, "Fixed temperature τ")
    page.keyboard.press(key)
    return float(page.evaluate("window.moved"))


def settle(page: Page) -> None:
    page.wait_for_selector("[data-testid=stApp][data-test-script-state=notRunning]", timeout=60_000)
    page.wait_for_timeout(700)


@contextmanager
def server(models: str, runs: str) -> Iterator[tuple[str, float]]:
    """A fresh Studio on these models: its address, and when it first answered."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", "app/main.py", "--server.port", str(port)]
    environment = os.environ | {"CIST_SAMPLE_MODELS": models, "CIST_RUNS": f"{runs}/runs"}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        address = f"http://127.0.0.1:{port}"
        while True:
            try:
                urllib.request.urlopen(f"{address}/_stcore/health", timeout=1).close()
                break
            except OSError:
                time.sleep(0.05)
        yield address, time.perf_counter()
    finally:
        process.terminate()
        process.wait(timeout=20)


def chromium() -> str:
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        sys.exit("There is no Chromium on this machine; `apt-get install chromium` brings one.")
    return found


if __name__ == "__main__":
    main()
