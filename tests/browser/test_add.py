"""What a person brings: logits, a teacher, images; looked at, added, cancelled, found again, refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from security.forge import flag_beside, payload

from tests.browser.actions import HEADING, MINUTES, faint_words, settle
from tests.browser.conftest import each_look, go_to, save_whole_page, wait_until_drawn
from tests.studio import running_studio

CHECKPOINT, LOGITS, DATA = "Checkpoint", "Logits of the teacher", "Images and labels"
"""What the fields for files are called."""

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, runs_root: Path, shared_file) -> Iterator[str]:
    """A Studio with one open root, the folder of the real data, and nothing added yet."""
    folder = tmp_path_factory.mktemp("studio")
    opened = str(shared_file("cifar10_test.npz").parent)
    with running_studio(folder, CIST_RUNS=str(runs_root), CIST_ROOTS=opened) as address:
        yield address


def choose(page, name: str, *, place: int = 0) -> None:
    page.get_by_role("radio", name=name, exact=True).nth(place).click()
    settle(page)


def upload(page, file: Path, label: str) -> None:
    """As an impatient person does: whatever comes next is pressed while the page still draws itself.

    But not before the page names the file: one that is put into a field which the next drawing replaces is lost.
    """
    page.locator(f"[aria-label='{label}'] input[type=file]").set_input_files(file)
    page.get_by_text(f"{file.name}, ").wait_for(timeout=MINUTES)


def type_path(page, name: str) -> None:
    field = page.get_by_role("textbox", name=DATA, exact=True)
    field.fill(name)
    field.press("Enter")


def wait_for_heading(page, words: str, *, minutes: float = 3) -> str:
    page.wait_for_selector(f"{HEADING}:has-text('{words}')", timeout=minutes * MINUTES)
    settle(page)
    return page.locator(HEADING).inner_text()


def test_a_teacher_is_uploaded_and_its_accuracy_is_the_published_one(open_page, shared_file) -> None:
    page = open_page("add", sign=HEADING)
    choose(page, "Model")
    upload(page, shared_file("resnet20-12fca82f.th"), CHECKPOINT)
    choose(page, "Server path", place=1)
    type_path(page, "cifar10_test.npz")
    found = wait_for_heading(page, "of a sample of 512 right; all 10,000 will take about")
    assert found.startswith("resnet20-12fca82f on cifar10_test answers 9")
    assert page.get_by_text("resnet20-plain · 269,722 parameters · 10 classes").is_visible()
    assert page.locator("[data-testid=stMain] [data-testid=stImage]").count() == 12
    page.get_by_role("button", name="Add", exact=True).click()
    assert "10,000 samples, accuracy 91.73 %" in wait_for_heading(page, "is ready", minutes=8)
    page.get_by_role("button", name="Look at it").click()
    wait_until_drawn(page)
    assert "resnet20-12fca82f" in page.url
    assert page.locator("[data-testid=stMain]").get_by_text("91.7 %").is_visible()


def test_the_long_work_is_left_found_again_and_cancelled(open_page, shared_file) -> None:
    page = open_page("add", sign=HEADING)
    choose(page, "Model")
    upload(page, shared_file("resnet56-4bfd9763.th"), CHECKPOINT)
    choose(page, "Upload", place=1)
    upload(page, shared_file("cifar10_test.npz"), DATA)
    wait_for_heading(page, "of a sample of 512 right")
    page.get_by_role("button", name="Add", exact=True).click()
    page.get_by_text("of 10,000 samples").first.wait_for(timeout=2 * MINUTES)
    go_to(page, "Ratio")
    go_to(page, "Add", sign=HEADING)
    wait_for_heading(page, "is being added")
    page.get_by_role("button", name="Cancel").click()
    page.get_by_text("It was cancelled").wait_for(timeout=MINUTES)
    page.reload()
    wait_for_heading(page, "of a sample of 512 right")
    assert page.get_by_role("button", name="Add", exact=True).is_enabled()


def test_logits_are_uploaded_and_added(open_page, shared_file) -> None:
    page = open_page("add", sign=HEADING)
    upload(page, shared_file("cifar10_resnet56_test_logits.npz"), LOGITS)
    assert "answers 93.39 % of 10,000 samples right" in wait_for_heading(page, "answers")
    page.get_by_role("button", name="Add", exact=True).click()
    assert "accuracy 93.39 %" in wait_for_heading(page, "is ready")


def test_a_file_with_a_payload_is_refused_in_its_place_and_nothing_runs(open_page, tmp_path) -> None:
    file = tmp_path / "model.pt"
    proof = flag_beside(file)
    file.write_bytes(payload(file))
    page = open_page("add", sign=HEADING)
    choose(page, "Model")
    upload(page, file, CHECKPOINT)
    page.get_by_role("combobox", name="Data set").click()
    page.get_by_role("option", name="mnist-5k").click()
    alert = page.locator("[data-testid=stAlert]")
    alert.wait_for(timeout=2 * MINUTES)
    assert "model.pt" in alert.inner_text()
    assert str(tmp_path) not in alert.inner_text()
    step = {number: page.get_by_role("heading", name=f"{number} ·").bounding_box() for number in (1, 2)}
    place = alert.bounding_box()
    assert step[1]["y"] < place["y"] < step[2]["y"]
    assert abs(place["x"] - step[1]["x"]) < 10
    assert not proof.exists()


def test_words_stand_out_nothing_sticks_out_and_pictures_are_taken(open_page, shared_file) -> None:
    """The pictures are those of the documentation."""
    page = open_page("add", width=390, height=844, sign=HEADING)
    choose(page, "Model")
    upload(page, shared_file("resnet20-12fca82f.th"), CHECKPOINT)
    choose(page, "Server path", place=1)
    type_path(page, "cifar10_test.npz")
    wait_for_heading(page, "of a sample of 512 right")
    for scheme in each_look(page):
        assert faint_words(page) == [], (scheme, page.viewport_size)
        save_whole_page(page, "add", scheme)
