"""What a person waits for: the first picture, frames while a slider is dragged, and the page after it, in a browser.

    python benchmarks/latency.py [--samples 50000] [--classes 100]

A fresh server shows synthetic logits under the card of a shipped teacher. The first picture is timed from the moment
the server answers to the first drawn chart of a new visitor. While the mouse drags tau back and forth, frames are
counted, and those in which the histogram has moved. From the moment the mouse lets go it is timed until the first
chart that the server draws on a page has changed (on Overview, where the browser draws all that moves, until the
server's own numbers are on the screen), and until the script is done. Medians and 95 % quantiles go to `latency.json`.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from app_rerun import ROOT, write_sample_models
from load import studio
from machine import machine
from playwright.sync_api import Page, sync_playwright

PAGES = ("overview", "entropy", "ratio", "weights", "samples", "rho")
"""Those that follow the sliders."""
DRAWN_IN_THE_BROWSER = ("overview", "entropy")
MOVES = 11
DRAG_SECONDS = 4.0
CHART = "[data-testid=stVegaLiteChart] :is(svg, canvas), .histogram svg:has(.bars path)"
RESULTS = Path(__file__).with_name("latency.json")

# Arms the page: `window.moved` resolves, after the server was told, with the milliseconds to the first frame in which
# the first chart of the server differs, and to the end of the script.
WATCH = """() => {
    const picture = () => {
        const chart = document.querySelector('[data-testid=stVegaLiteChart] :is(svg, canvas)');
        if (chart !== null) return chart.tagName === 'CANVAS' ? chart.toDataURL() : chart.innerHTML;
        return JSON.stringify(window.cistStudio.here.tau.at);
    };
    const app = document.querySelector('[data-testid=stApp]');
    const before = picture();
    window.moved = new Promise((resolve, reject) => window.addEventListener('cist-rest', () => {
        const start = performance.now();
        let chart, ran = false;
        const look = () => {
            const now = performance.now(), running = app.dataset.testScriptState === 'running';
            ran ||= running;
            if (chart === undefined && picture() !== before) chart = now - start;
            if (chart !== undefined && ran && !running) resolve({chart, page: now - start});
            else if (now - start > 20000) reject(new Error('the page did not change'));
            else requestAnimationFrame(look);
        };
        look();
    }, {once: true}));
}"""

# Counts frames, and those in which the histogram has moved, until `window.counted` is called.
COUNT = """() => {
    const roots = [...document.querySelectorAll('*')].map(element => element.shadowRoot).filter(Boolean);
    const bars = roots.map(root => root.querySelector('.histogram .bars path')).find(Boolean);
    const start = performance.now();
    let frames = 0, moves = 0, longest = 0, last = start, before = bars.getAttribute('d'), going = true;
    const look = now => {
        if (!going) return;
        frames += 1;
        longest = Math.max(longest, now - last);
        last = now;
        const path = bars.getAttribute('d');
        if (path !== before) { moves += 1; before = path; }
        requestAnimationFrame(look);
    };
    requestAnimationFrame(look);
    window.counted = () => {
        going = false;
        const seconds = (performance.now() - start) / 1000;
        return {frames_per_s: frames / seconds, moved_per_s: moves / seconds, longest_ms: longest};
    };
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
        with studio(Path(folder), CIST_SAMPLE_MODELS=str(ROOT / "sample_models")) as (address, _):
            shipped = first_charts(browser, address)
        with studio(Path(folder), CIST_SAMPLE_MODELS=folder) as (address, _):
            large = first_charts(browser, address)
            page = browser.new_page(viewport={"width": 1440, "height": 1000})
            moves = {name: slider_moves(page, address, name) for name in PAGES}
            drags = {name: slider_drag(page, address, name) for name in DRAWN_IN_THE_BROWSER}
        version = f"Chromium {browser.version}"
        browser.close()
    results = {
        "machine": machine("streamlit", "numpy") | {"browser": version},
        "samples": options.samples,
        "classes": options.classes,
        "first_chart_s": {"shipped teacher": shipped, "this size": large},
        "while_dragged": drags,
        "after_it_ms": moves,
    }
    RESULTS.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(results, indent=2))


def first_charts(browser: Any, address: str) -> dict[str, float]:
    """Seconds from the server's first answer to the first visitor's chart, and what a second visitor waits."""
    started = time.perf_counter()
    visit(browser, address)
    first = time.perf_counter() - started
    return {"of the server": round(first, 2), "of the next visitor": round(visit(browser, address), 2)}


def visit(browser: Any, address: str) -> float:
    page = browser.new_context(viewport={"width": 1440, "height": 1000}).new_page()
    start = time.perf_counter()
    page.goto(address)
    page.wait_for_selector(CHART, timeout=120_000)
    return time.perf_counter() - start


def slider_moves(page: Page, address: str, name: str) -> dict[str, dict[str, float]]:
    """Median and 95 % quantile over `MOVES` moves of tau, after two that warm the page up."""
    place = open_with_grid(page, address, name)
    times = []
    for move in range(MOVES + 2):
        page.evaluate(WATCH)
        page.mouse.move(*place())
        page.mouse.down()
        page.mouse.move(*place(0.5 + 0.02 * (move % 5)), steps=3)
        page.mouse.up()
        times.append(page.evaluate("window.moved"))
        settle(page)
    return {what: _summary([each[what] for each in times[2:]]) for what in ("chart", "page")}


def slider_drag(page: Page, address: str, name: str) -> dict[str, float]:
    """Frames per second while the mouse drags tau back and forth."""
    place = open_with_grid(page, address, name)
    page.mouse.move(*place())
    page.mouse.down()
    page.evaluate(COUNT)
    start = time.perf_counter()
    while (gone := time.perf_counter() - start) < DRAG_SECONDS:
        page.mouse.move(*place(0.5 + 0.3 * math.sin(2 * math.pi * gone / DRAG_SECONDS)))
    counted: dict[str, float] = page.evaluate("window.counted()")
    page.mouse.up()
    settle(page)
    return {what: round(number, 1) for what, number in counted.items()}


def open_with_grid(page: Page, address: str, name: str) -> Callable[..., tuple[float, float]]:
    """Open a page; returns where a share of the track lies in it, by default that of the thumb."""
    page.goto(f"{address}/{name if name != 'overview' else ''}")
    page.wait_for_selector(CHART, timeout=120_000)
    page.wait_for_function("cistStudio.grids.has(cistStudio.here.grid)", timeout=120_000)
    settle(page)
    page.evaluate(
        """() => {
            const roots = [...document.querySelectorAll('*')].map(element => element.shadowRoot).filter(Boolean);
            window.tau = roots.map(root => root.querySelector('.bar .tau input[type=range]')).find(Boolean);
        }"""
    )
    left, top, width = page.evaluate("(({x, y, width}) => [x, y, width])(tau.getBoundingClientRect())")

    def place(share: float | None = None) -> tuple[float, float]:
        share = float(page.evaluate("tau.value / tau.max")) if share is None else share
        return left + 10 + share * (width - 20), top + 13

    return place


def _summary(times: list[float]) -> dict[str, float]:
    kept = sorted(times)
    return {
        "median": round(statistics.median(kept)),
        "q95": round(kept[int(0.95 * (len(kept) - 1))]),
        "largest": round(kept[-1]),
    }


def settle(page: Page) -> None:
    page.wait_for_selector("[data-testid=stApp][data-test-script-state=notRunning]", timeout=60_000)
    page.wait_for_timeout(700)


def chromium() -> str:
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        sys.exit("There is no Chromium on this machine; `apt-get install chromium` brings one.")
    return found


if __name__ == "__main__":
    main()
