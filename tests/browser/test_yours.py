"""What somebody added is found again: by their browser on a server of others, by anybody on their own machine."""

import io
import json

import numpy as np
import pytest

from app.browser_memory import MOST_KEPT
from app.forms.add import keep_upload
from cist_core.added import AddedStore, AddSpec
from cist_core.logits.logit_set import LogitSet
from cist_core.logits.synthetic import imagenet_shaped
from tests.browser.actions import settle
from tests.browser.conftest import wait_until_drawn
from tests.studio import running_studio

MEMORY = "cist-studio-added"


def add(folder, title: str) -> tuple[str, str]:
    """Logits under a title, ready to be looked at: the id, and the key that their browser has."""
    keys: dict[str, str] = {}
    store = AddedStore(folder / "added", keys=keys)
    added = store.draft(title=title)
    rows = np.random.default_rng(0).normal(size=(60, 5)).astype(np.float32) * 4
    content = io.BytesIO()
    np.savez(content, logits=rows)
    content.seek(0)
    path = keep_upload(store, added, "teacher", "logits.npz", content)
    store.start_preview(added.id, AddSpec.of(title=title, logits={"teacher": str(path)}))
    LogitSet.create(rows, np.arange(60) % 5).save(added.logit_file)
    return added.id, keys[added.id]


def teachers(page) -> list[str]:
    page.get_by_role("combobox", name="Teacher").click()
    page.get_by_role("option").first.wait_for()
    return [option.inner_text() for option in page.get_by_role("option").all()]


@pytest.mark.browser
@pytest.mark.parametrize("listens_on", ["0.0.0.0", "127.0.0.1"])
def test_it_is_found_again_in_a_new_tab_and_by_nobody_else_who_may_not(browser, tmp_path, listens_on) -> None:
    added_id, key = add(tmp_path, "My own teacher")
    own_machine = listens_on == "127.0.0.1"
    kept = json.dumps([] if own_machine else [f"{added_id}:{key}"])
    with running_studio(tmp_path, "--server.address", listens_on) as address:
        mine, other = (browser.new_context(reduced_motion="reduce") for _ in range(2))
        first = mine.new_page()
        first.add_init_script(f"localStorage.getItem('{MEMORY}') ?? localStorage.setItem('{MEMORY}', '{kept}')")
        first.goto(f"{address}/add?adding={added_id}")
        first.get_by_text("is ready: 60 samples").wait_for(timeout=60_000)
        settle(first)
        assert json.loads(first.evaluate(f"localStorage.getItem('{MEMORY}')")) == json.loads(kept)

        second = mine.new_page()
        second.goto(address)
        wait_until_drawn(second)
        settle(second)
        assert "My own teacher" in teachers(second)
        second.get_by_role("option", name="My own teacher").click()
        settle(second)
        assert f"teacher={added_id}" in second.url  # the link carries what finds it anywhere
        second.go_back()
        settle(second)
        assert second.get_by_role("combobox", name="Teacher").input_value() == "mnist5k-cnn"

        stranger = other.new_page()
        stranger.goto(address)
        wait_until_drawn(stranger)
        settle(stranger)
        assert ("My own teacher" in teachers(stranger)) == own_machine
        for context in (mine, other):
            context.close()


@pytest.mark.browser
def test_a_link_shows_what_was_added_and_only_its_browser_deletes_it(browser, tmp_path) -> None:
    content = io.BytesIO()
    np.savez(content, logits=np.random.default_rng(0).normal(size=(60, 5)).astype(np.float32) * 4)
    file = {"name": "mine.npz", "mimeType": "application/octet-stream", "buffer": content.getvalue()}
    with running_studio(tmp_path, "--server.address", "0.0.0.0") as address:
        mine, other = (browser.new_context(reduced_motion="reduce") for _ in range(2))
        page = mine.new_page()
        page.goto(f"{address}/add")
        page.locator("input[type=file]").first.set_input_files(file)
        page.get_by_role("button", name="Add", exact=True).wait_for(timeout=60_000)
        page.reload()  # a draft is gone on with in its own browser
        page.get_by_role("button", name="Add", exact=True).click(timeout=60_000)
        page.get_by_text("is ready: 60 samples").wait_for(timeout=60_000)
        settle(page)
        (added,) = AddedStore(tmp_path / "added").list_all()

        stranger = other.new_page()
        stranger.goto(f"{address}/?teacher={added.id}")
        wait_until_drawn(stranger)
        assert stranger.get_by_role("combobox", name="Teacher").input_value() == added.title
        stranger.goto(f"{address}/add?adding={added.id}")
        stranger.get_by_text("added in another browser").wait_for(timeout=60_000)
        settle(stranger)
        assert stranger.get_by_role("button", name="Delete").count() == 0

        again = mine.new_page()
        again.goto(f"{address}/add")
        again.get_by_role("button", name="Delete").click(timeout=60_000)
        again.get_by_role("button", name="Delete it").click()
        settle(again)
        assert AddedStore(tmp_path / "added").list_all() == []
        for context in (mine, other):
            context.close()


@pytest.mark.browser
def test_what_is_finished_is_remembered_before_drafts(browser, tmp_path) -> None:
    keys: dict[str, str] = {}
    store = AddedStore(tmp_path / "added", keys=keys)
    ready = store.add_logits(imagenet_shaped(samples=20, classes=5), title="Finished").id
    drafts = [store.draft(title="begun").id for _ in range(MOST_KEPT - 1)]
    entries = [f"{added_id}:{keys[added_id]}" for added_id in (*reversed(drafts), ready)]  # the newest first
    with running_studio(tmp_path, "--server.address", "0.0.0.0") as address:
        context = browser.new_context(reduced_motion="reduce")
        page = context.new_page()
        page.goto(f"{address}/_stcore/health")
        page.evaluate("entries => localStorage.setItem('cist-studio-added', JSON.stringify(entries))", entries)
        page.goto(f"{address}/add")
        page.get_by_text("Finished").first.wait_for(timeout=60_000)  # the app knows what the browser keeps
        settle(page)
        content = io.BytesIO()
        np.savez(content, logits=np.eye(5, dtype=np.float32))
        file = {"name": "mine.npz", "mimeType": "application/octet-stream", "buffer": content.getvalue()}
        page.locator("input[type=file]").first.set_input_files(file)
        page.get_by_text("mine.npz, ").first.wait_for(timeout=60_000)
        kept = "JSON.parse(localStorage.getItem('cist-studio-added')).map(entry => entry.split(':')[0])"
        page.wait_for_function(f"first => {kept}[0] !== first", arg=drafts[-1], timeout=60_000)
        settle(page)
        mine = page.evaluate(kept)[0]
        assert page.evaluate(kept) == [mine, *reversed(drafts[1:]), ready]

        # Another tab adds something, which the server of this one does not know yet.
        other = store.draft(title="begun").id
        page.evaluate(
            """entry => localStorage.setItem('cist-studio-added', JSON.stringify(
                [entry, ...JSON.parse(localStorage.getItem('cist-studio-added'))]))""",
            f"{other}:{keys[other]}",
        )
        page.emulate_media(color_scheme="dark")  # which runs the app again
        page.wait_for_function(f"oldest => !{kept}.includes(oldest)", arg=drafts[1], timeout=60_000)
        settle(page)
        assert page.evaluate(kept) == [other, mine, *reversed(drafts[2:]), ready]
        context.close()
