"""How long a text of 512 tokens takes to have other colours on the page Tokens, in a browser.

    python benchmarks/recolour.py

A teacher and a student of random weights, with the tokenizer that ships, read 512 tokens: what the browser computes
depends on how many tokens and models there are, not on what these have learned. Then τ is moved, with ρ matched to it
and alone, and the measure is changed. Each move is timed from its event to the frame after the one in which the tokens
have other colours, when that one is on the screen; in between, the server's answer is waited for. Medians, the largest,
and the processor time of the page's thread go to `recolour.json`.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path
from urllib.parse import quote

import psutil
import torch
from app_rerun import ROOT
from latency import chromium, settle
from load import studio
from machine import machine
from playwright.sync_api import CDPSession, Locator, Page, sync_playwright
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

from cist_core.language.passage import LONGEST

MOVES = 20
WANTED_MS = 300
MEASURES = ("surprisal", "maximum", "temperature", "weight", "divergence", "reverse", "rank", "entropy")
SHIPPED = ROOT / "sample_models"
RESULTS = Path(__file__).with_name("recolour.json")

# Resolves with the milliseconds until the new colours are on the screen, and whether they are new. The page draws in
# the next frame; what asks for a frame after it has its turn later in that one, and once more in the one after it.
MOVE = """(field, [value, event]) => new Promise(done => {
    const tokens = [...field.getRootNode().querySelectorAll('.text .token')];
    const colours = () => tokens.map(token => token.style.backgroundColor).join();
    const before = colours(), start = performance.now();
    field.value = value;
    field.dispatchEvent(new Event(event));
    requestAnimationFrame(() => {
        const changed = colours() !== before;
        requestAnimationFrame(() => done({milliseconds: performance.now() - start, changed, tokens: tokens.length}));
    });
})"""


def main() -> None:
    measured_on = machine("streamlit")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        models = write_models(Path(folder) / "models")
        lines = (SHIPPED / "language" / "texts" / "scripture-test.jsonl").read_text(encoding="utf-8").splitlines()
        text = " ".join(json.loads(line)["text"] for line in lines)[: 6 * LONGEST]
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox", "--disable-gpu"])
        with studio(Path(folder), CIST_SAMPLE_MODELS=str(models)) as (address, _):
            page = browser.new_page(viewport={"width": 1440, "height": 1000})
            page.set_default_timeout(600_000)
            page.goto(f"{address}/tokens?tokens_model=a-teacher&tokens_student=b-student&tokens_text={quote(text)}")
            page.wait_for_selector(".text .token")
            settle(page)
            session = page.context.new_cdp_session(page)
            session.send("Performance.enable", {"timeDomain": "threadTicks"})
            psutil.cpu_percent()
            slider, measure = page.locator(".slider.tau input"), page.locator("select.measure")
            moves = {
                "matched": timed(page, session, slider, "input", slid()),
                "alone": timed(page, session, slider, "input", slid(), before=lambda: apart(page)),
                "measure": timed(page, session, measure, "change", cycle(MEASURES)),
            }
            busy = psutil.cpu_percent()
        version = browser.version
        browser.close()
    results = {
        "tokens": LONGEST,
        "models": 2,
        "moves": MOVES,
        **moves,
        "machine": measured_on | {"busy_percent": round(busy), "chromium": version},
    }
    RESULTS.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(results, indent=2))


def write_models(folder: Path) -> Path:
    """The models that ship, but for those of language: two with random weights, which read 1,024 tokens at once."""
    (folder / "language").mkdir(parents=True)
    for path in SHIPPED.iterdir():
        if path.is_dir() and path.name != "language":
            (folder / path.name).symlink_to(path)
    tokenizer = AutoTokenizer.from_pretrained(SHIPPED / "language" / "scripture-gpt")
    tokenizer.model_max_length = 1_024
    for seed, name in enumerate(("a-teacher", "b-student")):
        torch.manual_seed(seed)
        size = {"n_positions": 1_024, "n_embd": 96, "n_layer": 2, "n_head": 4}
        end = tokenizer.eos_token_id
        network = GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), bos_token_id=end, eos_token_id=end, **size))
        with torch.no_grad():
            network.transformer.wte.weight.mul_(20.0)  # logits that are far from equal
        place = folder / "language" / name
        network.save_pretrained(place)
        tokenizer.save_pretrained(place)
        card = {"title": name, "role": name[2:], "parameters": 1, "vocabulary": len(tokenizer)}
        (place / "card.json").write_text(json.dumps(card | {"data": "nothing", "licence": "none", "nll": {}}))
    return folder


def slid() -> Iterator[int]:
    """Places of the slider, near and far."""
    while True:
        yield from (480, 500, 620, 300, 700, 520)


def apart(page: Page) -> None:
    page.locator(".tokens [role=switch]").click()
    settle(page)


def timed(
    page: Page,
    session: CDPSession,
    field: Locator,
    event: str,
    values: Iterator[object],
    *,
    before: Callable[[], None] = lambda: None,
) -> dict[str, float]:
    """Milliseconds of `MOVES` moves, after two that warm the page up, and of the processor."""
    before()
    times: list[float] = []
    processor: list[float] = []
    for _ in range(MOVES + 2):
        started = processor_milliseconds(session)
        found = field.evaluate(MOVE, [next(values), event])
        processor.append(processor_milliseconds(session) - started)
        if not found["changed"] or found["tokens"] != LONGEST:
            raise RuntimeError(f"expected {LONGEST} tokens with other colours, but got {found}")
        times.append(found["milliseconds"])
        settle(page)  # the page tells the server where it rests
    times, processor = times[2:], processor[2:]
    return {
        "median_ms": round(statistics.median(times), 1),
        "largest_ms": round(max(times), 1),
        f"within_{WANTED_MS}_ms": sum(time <= WANTED_MS for time in times),
        "median_processor_ms": round(statistics.median(processor), 1),
        "largest_processor_ms": round(max(processor), 1),
    }


def processor_milliseconds(session: CDPSession) -> float:
    """That the page's own thread has had."""
    metrics = session.send("Performance.getMetrics")["metrics"]
    return 1_000 * float(next(each["value"] for each in metrics if each["name"] == "TaskDuration"))


if __name__ == "__main__":
    main()
