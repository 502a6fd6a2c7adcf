"""Every page of the app with a teacher, data and classes called as nobody should: nothing of it runs or breaks out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from safetensors.numpy import save_file
from security.names import HOSTILE_NAMES

from app.pages import DEFAULT, find_pages
from cist_core import LogitSet
from cist_core.cards import sample_models
from tests.studio import CHROMIUM, FLAGS, running_studio

HALF = "half \ud800 of a pair"  # which no message to a browser can hold
NAMES = [*[name for title, name in HOSTILE_NAMES.items() if title not in ("very long",)][:9], HALF]
PAGES = ["" if page.name == DEFAULT else page.name for page in find_pages() if page.offers_source]  # those that show it

SHOWN = "Card <img"
"""The card's title stands in the sidebar of every page, as text."""

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One shipped model's card with hostile words in every field that is text, and logits under hostile classes."""
    card = next(card for card in sample_models() if card.num_classes == len(NAMES))
    folder = tmp_path_factory.mktemp("models") / "hostile"
    folder.mkdir()
    content = dict(card.content) | {"title": f"Card {HOSTILE_NAMES['HTML']} $x$ {HALF}", "class_names": NAMES}
    shutil.copy(card.checkpoint, folder / "model.safetensors")
    for file in card.folder.glob("logits-*.safetensors"):
        shipped = LogitSet.load(file)
        origin = dict.fromkeys(shipped.provenance, HOSTILE_NAMES["script"] + HALF)
        metadata = {"class_names": json.dumps(NAMES), "provenance": json.dumps(origin)}  # as we would not write them
        tensors = {"logits": np.array(shipped.logits), "labels": np.array(shipped.labels)}
        save_file(tensors, folder / file.name, metadata=metadata)
    (folder / "card.json").write_text(json.dumps(content))
    return folder.parent


@pytest.fixture(scope="module")
def server(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_studio(tmp_path_factory.mktemp("server"), CIST_SAMPLE_MODELS=str(models)) as address:
        yield address


def test_no_page_runs_or_renders_a_name(server: str) -> None:
    sync_api = pytest.importorskip("playwright.sync_api")
    # A thread has no event loop, and this one may have that of another test's browser, beside which none can start.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(_visit_all, sync_api, server).result()


def _visit_all(sync_api: Any, server: str) -> None:
    hostile_query = quote(f"x: entropy=0..1\n{HOSTILE_NAMES['HTML']}: correct=no")
    dialogs: list[str] = []
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 900}, reduced_motion="reduce")

        def dismiss(dialog: Any) -> None:
            dialogs.append(dialog.message)
            dialog.dismiss()

        page.on("dialog", dismiss)
        for name in PAGES:
            page.goto(f"{server}/{name}?slices={hostile_query}")
            page.get_by_text(SHOWN).first.wait_for(timeout=120_000)
            page.wait_for_selector("[data-testid=stMain] :is(h1, h2, h3)", timeout=120_000)
            page.wait_for_selector("[data-testid=stApp][data-test-script-state=notRunning]", timeout=120_000)
            assert not dialogs, f"a dialog on the page '{name}': {dialogs}"
            assert page.evaluate("window.__ran") is None, f"a name ran on the page '{name}'"
            assert page.locator("img[src=x]").count() == 0, f"a name became a picture on the page '{name}'"
            assert page.locator("a[href^=javascript]").count() == 0, f"a name became a link on the page '{name}'"
            assert page.locator("[data-testid=stSidebar] .katex").count() == 0, f"a name became a formula on '{name}'"
            wide = page.evaluate("document.documentElement.scrollWidth > window.innerWidth")
            assert not wide, f"the page '{name}' scrolls sideways"
            assert page.locator("[data-testid=stException]").count() == 0, f"the page '{name}' fails"
        browser.close()
