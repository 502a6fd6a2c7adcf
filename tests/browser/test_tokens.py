"""A text whose colours, numbers and soft labels move with the sliders in the browser, from the curves of its tokens."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import numpy as np
import psutil
import pytest

pytest.importorskip("transformers")

from tiny_language_models import CLASSES, WORDS, save_tiny_model

from app.tokens.view import Shown, link_to_run
from cist_core.cards import sample_models_folder
from cist_core.files import own_folder
from cist_core.language.inference import infer_pair, infer_pairs
from cist_core.language.known import SMOLLM2, known_language_models
from cist_core.language.models import open_language_model
from cist_core.language.reading import OPENING_SECONDS, SECONDS
from cist_core.language.sources import tokens_for
from cist_core.language.texts import example_of, read_texts, tokenise_all
from cist_core.language.token_set import TokenPair
from cist_core.runs import Run, RunState, RunStore, ensure_worker
from cist_core.training import parse_config
from cist_core.training.before_after import open_distilled
from tests.browser.actions import FINDING, HEADING, MINUTES, faint_words, fill, settle, wait_for
from tests.browser.conftest import each_look, go_to, save_whole_page
from tests.studio import running_studio

pytestmark = [pytest.mark.browser, pytest.mark.slow]

TEXT = " ".join(f"w{20 + 7 * number % 70}" for number in range(40))
A_TOKEN = ".text .token"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The models that ship, and two tiny language models in the place of those."""
    folder = tmp_path_factory.mktemp("models")
    for path in sample_models_folder().iterdir():
        if path.name != "language":
            (folder / path.name).symlink_to(path)
    for seed, name in enumerate(("a-teacher", "b-student")):
        place = save_tiny_model(folder / "language" / name, seed=seed, scale=6.0 - 2 * seed)
        card = {"title": f"Model {name}", "role": name[2:], "parameters": 1, "vocabulary": CLASSES}
        (place / "card.json").write_text(json.dumps(card | {"data": "nothing", "licence": "MIT", "nll": {}}))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the server keeps what it writes."""
    return tmp_path_factory.mktemp("studio")


@pytest.fixture(scope="module")
def server(folder: Path, models: Path) -> Iterator[str]:
    with running_studio(folder, CIST_SAMPLE_MODELS=str(models)) as address:
        yield address


@pytest.fixture
def run(folder: Path, server: str, models: Path) -> Run:
    """One that has distilled a tiny teacher, finished."""
    (folder / "texts.jsonl").write_text("\n".join(json.dumps({"text": TEXT}) for _ in range(20)))
    config = parse_config(
        {
            "task": "language",
            "data": {"name": str(folder / "texts.jsonl"), "length": 64, "validation_share": 0.2},
            "teacher": {"name": str(models / "language" / "a-teacher")},
            "student": {"architecture": "gpt2:width=16,layers=1,heads=2"},
            "objective": "kd:tau=1",
            "optimiser": {"name": "adamw", "learning_rate": 0.02},
            "epochs": 2,
            "batch_size": 4,
            "machine": {"device": "cpu", "threads": 1},
        }
    )
    store = RunStore(folder / "runs")
    added = store.add(config)
    ensure_worker(store)
    wait_for(lambda: store.get(added.id).state.ended, seconds=480)
    found = store.get(added.id)
    assert found.state is RunState.FINISHED, found.reason
    return found


@pytest.fixture(scope="module")
def pair(models: Path, tmp_path_factory: pytest.TempPathFactory) -> TokenPair:
    """The same text read here."""
    folder = tmp_path_factory.mktemp("text")
    (folder / "text.txt").write_text(TEXT)
    both = [open_language_model(str(models / "language" / name)) for name in ("a-teacher", "b-student")]
    return infer_pair(*both, tokenise_all(read_texts(folder / "text.txt"), both[0].tokenizer, longest=64))


@pytest.fixture
def page(open_page):
    return open_page(f"tokens?tokens_model=a-teacher&tokens_student=b-student&tokens_text={quote(TEXT)}", sign=A_TOKEN)


def mean_shown(page) -> float:
    """The mean over the tokens that count, as the legend says it."""
    return float(page.locator(".says").inner_text().partition("mean ")[2].split()[0].rstrip(".").replace("−", "-"))


def choose(page, name: str, value: str) -> None:
    page.locator(f"select.{name}").select_option(value)
    page.wait_for_timeout(200)


def drag(page, name: str, share: float) -> float:
    """Put a slider at a share of its track, at once, and return where it stands."""
    field = page.locator(f".slider.{name} input")
    field.evaluate(
        "(field, value) => { field.value = value; field.dispatchEvent(new Event('input')); }", round(1000 * share)
    )
    page.wait_for_timeout(200)
    return float(page.locator(f".slider.{name} output").inner_text())


def test_the_numbers_of_the_browser_are_those_of_the_library(page, pair: TokenPair) -> None:
    page.get_by_role("switch", name="Match").click()
    choose(page, "floor", "0")
    tau, rho = drag(page, "tau", 0.6), drag(page, "rho", 0.5)
    held = pair.teacher.statistics.maximum / rho, pair.student.statistics.maximum / rho
    curves = pair.teacher.curves()
    expected = {
        ("entropy", "tau", "teacher"): curves.at_temperature(tau).mean(),
        ("entropy", "rho", "teacher"): curves.at_ratio(rho).mean(),
        ("entropy", "tau", "student"): pair.student.curves().at_temperature(tau).mean(),
        ("surprisal", "tau", "teacher"): pair.teacher.surprisal(tau).mean(),
        ("divergence", "tau", "teacher"): pair.divergence(tau, tau).mean(),
        ("divergence", "rho", "teacher"): pair.divergence(*held).mean(),
        ("reverse", "tau", "teacher"): pair.reverse_divergence(tau, tau).mean(),
        ("reverse", "rho", "teacher"): pair.reverse_divergence(*held).mean(),
        ("temperature", "rho", "teacher"): held[0].mean(),
        ("rank", "rho", "teacher"): pair.teacher.rank.mean(),
    }
    for (measure, rule, model), value in expected.items():
        choose(page, "measure", measure)
        for name, wanted in (("rule", rule), ("model", model)):
            if page.locator(f"select.{name}").is_visible():
                choose(page, name, wanted)
        assert mean_shown(page) == pytest.approx(float(value), rel=0.01), (measure, rule, model)


def test_matched_sliders_have_one_mean_entropy_and_every_token_its_colour(page) -> None:
    choose(page, "floor", "0")
    before = colours(page)
    drag(page, "tau", 0.7)
    assert colours(page) != before
    choose(page, "rule", "tau")
    fixed = mean_shown(page)
    choose(page, "rule", "rho")
    assert mean_shown(page) == pytest.approx(fixed, rel=0.01)


def test_where_no_rho_has_the_mean_entropy_of_tau_that_is_said(page) -> None:
    choose(page, "floor", "1")
    says = page.locator(".says")
    assert "cannot be matched" not in says.inner_text()
    drag(page, "tau", 0.0)  # sharper than the floor lets CIST be
    assert page.locator(".slider.rho output").inner_text() == "30"
    assert "The sliders cannot be matched here: the mean entropy is " in says.inner_text()
    page.get_by_role("switch", name="Match").click()
    page.wait_for_timeout(200)
    assert "cannot be matched" not in says.inner_text()


def test_the_passage_is_sent_once_and_a_slider_that_rests_costs_little(browser, server) -> None:
    page = browser.new_page(reduced_motion="reduce")
    received: list[int] = []
    page.on("websocket", lambda socket: socket.on("framereceived", lambda frame: received.append(len(frame))))
    page.goto(f"{server}/tokens?tokens_model=a-teacher&tokens_student=b-student&tokens_text={quote(TEXT)}")
    page.wait_for_selector(A_TOKEN, timeout=120_000)
    settle(page)
    at_first = sum(received)
    for share in (0.6, 0.7):
        received.clear()
        drag(page, "tau", share)
        page.wait_for_function(f"location.search.includes('~{page.locator('.slider.tau output').inner_text()}~')")
        settle(page)
        assert 0 < sum(received) < at_first / 5  # without the passage
    page.close()


def test_passages_are_ranked_by_what_colours_the_text(open_page) -> None:
    long = " ".join(f"w{20 + (30 + number * number) % 60}" for number in range(240))
    shown = Shown(tau=1.5, rho=5.0, matched=False)
    models = "tokens_model=a-teacher&tokens_student=b-student"
    page = open_page(
        f"tokens?{models}&tokens_order=mean&tokens_view={shown.as_link()}&tokens_text={quote(long)}", sign=A_TOKEN
    )
    for measure, rule, model, words in (
        ("surprisal", "rho", "both", "surprisal under CIST ρ = 5, student − teacher"),
        ("divergence", "tau", "student", "KL to the student at τ = 1.5"),
        ("temperature", "rho", "student", "CIST temperature at ρ = 5, of the student"),
        ("rank", "rho", "teacher", "rank of the token"),
    ):
        choose(page, "measure", measure)
        for name, wanted in (("rule", rule), ("model", model)):
            if page.locator(f"select.{name}").is_visible():
                choose(page, name, wanted)
        page.get_by_text(f"Passages by {words}", exact=True).wait_for(timeout=MINUTES)
        settle(page)
        said = page.get_by_role("combobox", name="Passage", exact=True).input_value()
        told = float(said.partition("mean ")[2].partition(",")[0].replace("−", "-").replace(",", ""))
        assert mean_shown(page) == pytest.approx(told, rel=0.01, abs=2e-3), (measure, said)


def test_a_passage_that_is_left_hears_nothing_any_more(open_page) -> None:
    long = " ".join(f"w{20 + (30 + number * number) % 60}" for number in range(240))
    page = open_page(f"tokens?tokens_model=a-teacher&tokens_student=b-student&tokens_text={quote(long)}", sign=A_TOKEN)
    page.evaluate(
        """() => {
            const { send } = WebSocket.prototype;
            WebSocket.prototype.send = function (...given) { window.sent += 1; return send.apply(this, given); };
        }"""
    )

    def messages(share: float) -> int:
        page.evaluate("window.sent = 0")
        drag(page, "tau", share)
        settle(page)
        return page.evaluate("window.sent")

    of_the_first = messages(0.5)
    for number in (2, 3, 4):
        page.get_by_role("combobox", name="Passage", exact=True).click()
        page.get_by_role("option", name=re.compile(f"^{number}: ")).click()
        page.wait_for_function("number => location.search.includes(`tokens_passage=${number}`)", arg=number)
        settle(page)
    assert messages(0.6) == of_the_first
    assert "tokens_passage=4" in page.url
    said = page.get_by_role("combobox", name="Passage", exact=True).input_value()
    assert mean_shown(page) == pytest.approx(float(said.partition("mean ")[2].partition(",")[0]), rel=0.01)


def test_a_token_is_reached_by_keyboard_pinned_and_in_the_link(page, pair: TokenPair) -> None:
    page.set_viewport_size({"width": 1440, "height": 1300})  # with room for ten of each model
    page.locator(".text").focus()
    for _ in range(6):
        page.keyboard.press("ArrowRight")
    page.wait_for_timeout(200)
    details = page.locator("aside").inner_text()
    assert f"rank {pair.teacher.rank[4]}" in details
    assert f"the other {WORDS - 10:,}" in details or f"the other {WORDS - 11:,}" in details
    assert page.locator(".token.here").inner_text().strip() == page.locator("aside h4").inner_text().strip("“”·")
    page.keyboard.press("Enter")
    settle(page)
    assert page.locator(".token.pinned").count() == 1
    assert page.url.endswith("~matched~5")
    page.reload()
    page.wait_for_selector(".token.pinned", timeout=120_000)
    page.go_back()  # one press undoes one thing
    page.wait_for_function("!location.search.endsWith('~5')")
    page.wait_for_selector(".token.pinned", state="detached", timeout=30_000)


def test_a_stretch_is_selected_by_dragging_along_the_line_and_lifted_by_escape(page) -> None:
    box = page.locator("svg.line").bounding_box()
    y = box["y"] + 30
    page.mouse.move(box["x"] + 0.25 * box["width"], y)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.5 * box["width"], y, steps=4)
    page.mouse.up()
    page.wait_for_timeout(200)
    assert re.match(r"1\d tokens selected: mean ", page.locator(".range").inner_text())
    assert 0 < page.locator(".token.out").count() < page.locator(A_TOKEN).count()
    settle(page)
    assert "tokens_select=position%3D10..20" in page.url
    assert page.get_by_label("Select tokens").input_value() == "position=10..20"
    assert page.get_by_role("heading", level=2).inner_text().count("of 11 selected tokens") == 1
    page.keyboard.press("Escape")
    page.wait_for_timeout(200)
    assert page.locator(".token.out").count() == 0
    settle(page)
    assert page.get_by_label("Select tokens").input_value() == ""
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("Shift+ArrowRight")
    page.wait_for_timeout(200)
    assert page.locator(f"{A_TOKEN}:not(.out)").count() == 2  # nothing predicts the first token, so it does not count


def test_a_rule_selects_tokens_and_a_stretch_that_is_drawn_joins_it(page, pair: TokenPair) -> None:
    middle = round(float(np.median(pair.teacher.nll)), 4)
    fill(page, "Select tokens", f"surprisal={middle}..")
    chosen = pair.teacher.nll >= middle
    wait_for(lambda: page.locator(f"{A_TOKEN}:not(.out)").count() == chosen.sum(), seconds=30)
    assert page.locator(".range").inner_text().startswith(f"{chosen.sum()} tokens selected")
    assert page.locator("svg.line rect").count() > 1
    drag(page, "tau", 0.8)  # a move of a slider says nothing of the selection
    settle(page)
    assert page.get_by_label("Select tokens").input_value() == f"surprisal={middle}.."
    page.locator(".text").focus()
    page.keyboard.press("Home")
    for _ in range(12):
        page.keyboard.press("Shift+ArrowRight")
    settle(page)
    assert page.get_by_label("Select tokens").input_value() == f"surprisal={middle}.. & position=0..12"
    inside = chosen & (pair.teacher.facts.positions <= 12)
    assert page.locator(f"{A_TOKEN}:not(.out)").count() == inside.sum()


def test_a_text_that_somebody_types_is_read_and_in_the_link(open_page) -> None:
    page = open_page("tokens?tokens_model=a-teacher&tokens_student=none", sign=A_TOKEN)
    page.get_by_role("button", name="Your own text").click()
    page.get_by_label("Text", exact=True).fill("w21 w22\nw23")
    page.get_by_role("button", name="Read it").click()
    page.wait_for_selector(f"{A_TOKEN}:has-text('w22')", timeout=120_000)
    settle(page)
    assert "tokens_text=w21+w22%0Aw23" in page.url
    page.reload()
    page.wait_for_selector(f"{A_TOKEN}:has-text('w22')", timeout=120_000)
    assert page.get_by_text("The model's first choice").count() == 1


def test_a_prompt_is_dimmed_and_a_pinned_token_shows_ten(open_page) -> None:
    link = (
        f"tokens?tokens_model=a-teacher&tokens_student=b-student&tokens_text={quote(' w30 w31')}&tokens_prompt=w21+w22"
    )
    page = open_page(link, sign=A_TOKEN)
    page.set_viewport_size({"width": 1440, "height": 600})
    assert page.locator(f"{A_TOKEN}.prompt").all_inner_texts() == ["w21", " w22"]
    assert colours(page)[:2] == ["rgba(0, 0, 0, 0)"] * 2  # a line below stands for the ground of the others
    assert page.locator(".says").inner_text().endswith("What does not count is underlined in its colour.")
    page.locator(A_TOKEN).nth(2).hover()
    page.locator(".token.here").wait_for()
    wait_for(lambda: "w30" in page.locator("aside h4").inner_text(), seconds=30)
    rows = page.locator("aside table").first.locator("tr")
    shown = rows.count()
    page.set_viewport_size({"width": 1440, "height": 1300})
    page.locator(A_TOKEN).nth(3).hover()
    wait_for(lambda: "w31" in page.locator("aside h4").inner_text(), seconds=30)
    tables = page.locator("aside").bounding_box()
    assert shown + 4 <= rows.count() <= shown + 6
    assert tables["y"] + tables["height"] < 1300  # everything is in sight at once
    page.set_viewport_size({"width": 1440, "height": 600})
    wait_for(lambda: rows.count() <= shown + 1, seconds=30)
    page.locator(A_TOKEN).nth(2).hover()
    wait_for(lambda: rows.count() == shown, seconds=30)
    page.locator(A_TOKEN).nth(2).click()
    page.locator(".token.pinned").wait_for()
    # Ten in place of five, and the token itself if it is none of them.
    wait_for(lambda: shown + 4 <= rows.count() <= shown + 5, seconds=30)
    page.get_by_role("button", name="Your own text").click()
    prompt = page.get_by_role("textbox", name="Prompt (optional)")
    wait_for(lambda: prompt.input_value() == "w21 w22", seconds=10)


def test_words_stand_out_and_nothing_sticks_out(open_page) -> None:
    page = open_page("tokens?tokens_model=a-teacher", width=390, height=844, sign=A_TOKEN)
    for scheme in each_look(page):
        for name in ("entropy", "rank", "weight"):
            choose(page, "measure", name)
            page.locator(A_TOKEN).first.evaluate(  # the ends of the scale, wherever the tokens are
                """token => token.parentElement.querySelectorAll('.token').forEach((each, index) => {
                    const image = getComputedStyle(token.getRootNode().querySelector('.scale i')).backgroundImage;
                    const stops = image.match(/color\\([^()]*\\)/g);
                    each.style.backgroundColor = stops[index % 2 ? 0 : stops.length - 1];
                })"""
            )
            assert faint_words(page) == [], (scheme, page.viewport_size)
        assert page.evaluate("document.scrollingElement.scrollWidth - window.innerWidth") <= 0


def colours(page) -> list[str]:
    return page.eval_on_selector_all(A_TOKEN, "all => all.map(token => getComputedStyle(token).backgroundColor)")


def test_colours_are_of_the_values(page) -> None:
    """The legend is fixed, so one value has one colour wherever the sliders stand."""
    choose(page, "measure", "maximum")
    before = colours(page)
    drag(page, "tau", 0.9)
    assert colours(page) == before
    assert len(np.unique(before)) > 5


def test_from_a_finished_run_one_press_shows_its_student_before_and_after(open_page, run: Run) -> None:
    page = open_page(f"tokens?tokens_model=a-teacher&tokens_student=none&tokens_text={quote(TEXT)}", sign=A_TOKEN)
    go_to(page, "Runs", sign=HEADING)  # what was chosen on Tokens before stands in the session
    page.get_by_role("link", name="See it on Tokens, before and after").click()
    page.wait_for_selector("select.measure", timeout=2 * MINUTES)
    page.wait_for_function(f"location.search.includes('{run.id}')")
    settle(page)
    teacher, student, before = open_distilled(run.directory.path)
    texts = tokens_for([teacher, student, before], [example_of({"text": TEXT}, "the same")])
    after, earlier = infer_pairs(teacher, [student, before], texts)
    assert page.locator("select.measure").input_value() == "surprisal"
    assert page.locator("select.model").input_value() == "change"
    moved = float((after.student.nll - earlier.student.nll).mean())
    assert mean_shown(page) == pytest.approx(moved, rel=0.01)
    assert f"is {-moved:.3g} nats likelier than before" in page.locator(FINDING).first.inner_text()
    choose(page, "model", "before")
    assert mean_shown(page) == pytest.approx(float(earlier.student.nll.mean()), rel=0.01)
    choose(page, "measure", "divergence")
    for model, value in (
        ("before", earlier.divergence(1.0, 1.0)),
        ("student", after.divergence(1.0, 1.0)),
        ("change", after.divergence(1.0, 1.0) - earlier.divergence(1.0, 1.0)),
    ):
        choose(page, "model", model)
        assert mean_shown(page) == pytest.approx(float(value.mean()), rel=0.01), model
    assert page.locator("select.model option:not([hidden])").count() == 3  # a divergence is no teacher's alone
    settle(page)
    page.reload()
    page.wait_for_selector(A_TOKEN, timeout=2 * MINUTES)
    settle(page)
    assert page.locator("select.model").input_value() == "change"
    page.get_by_role("combobox", name="Model", exact=True).click()
    page.get_by_role("option", name="b-student").click()
    page.wait_for_function("document.querySelector('h2, h3')?.innerText.includes('first choice')", timeout=2 * MINUTES)


def stands_in_sight(page, words: str) -> bool:
    """Whether an alert with these words is on the screen without scrolling."""
    box = page.get_by_role("alert").filter(has_text=words).bounding_box()
    return box is not None and box["y"] >= 0 and box["y"] + box["height"] <= page.viewport_size["height"]


def test_a_model_that_cannot_be_opened_is_said_in_sight_and_tried_again(open_page, models: Path) -> None:
    place = models / "language" / "c-damaged"
    shutil.copytree(models / "language" / "b-student", place)
    weights = place / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-100])
    try:
        address = f"tokens?tokens_model={place.name}&tokens_student=none&tokens_text={quote(TEXT)}"
        page = open_page(address, width=390, height=844, sign="[data-testid=stAlert]")
        for width, height in ((390, 844), (1440, 900)):
            page.set_viewport_size({"width": width, "height": height})
            settle(page)
            assert stands_in_sight(page, place.name), width
            assert page.evaluate("document.scrollingElement.scrollWidth - window.innerWidth") <= 0, width
        weights.write_bytes(whole)
        page.get_by_role("button", name="Try again").click()
        page.wait_for_selector(f"{A_TOKEN}:has-text('{TEXT.split()[1]}')", timeout=2 * MINUTES)
        assert page.get_by_role("alert").count() == 0
        assert quote(TEXT).replace("%20", "+") in page.url
        assert place.name in page.url
    finally:
        shutil.rmtree(place)


def readers_of(text: str) -> list[psutil.Process]:
    """The processes that read it."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        command = process.info["cmdline"] or []
        files = [Path(part) for part in command if part.endswith("text.txt")]
        if "cist_core.language.reading" in command and any(file.read_text() == text for file in files):
            found.append(process)
    return found


@pytest.mark.parametrize(
    ("how", "said"),
    [("ended", "did not come to the end"), ("stopped", "Somebody stopped the reading before it was done")],
)
def test_a_reading_that_ends_loses_nothing_and_is_begun_again(open_page, how: str, said: str) -> None:
    text = f"{TEXT} w{20 + len(how)}"
    page = open_page("tokens?tokens_model=a-teacher&tokens_student=none", sign=A_TOKEN)
    page.get_by_role("button", name="Your own text").click()
    page.get_by_label("Text", exact=True).fill(text)
    page.get_by_role("button", name="Read it").click()
    wait_for(lambda: readers_of(text), seconds=60)
    if how == "ended":
        for process in readers_of(text):
            process.kill()
    else:
        page.get_by_role("button", name="Stop").click()
    page.get_by_role("alert").filter(has_text=said).wait_for(timeout=2 * MINUTES)
    assert stands_in_sight(page, said)
    settle(page)
    page.get_by_role("button", name="Your own text").click()
    wait_for(lambda: page.get_by_label("Text", exact=True).input_value() == text, seconds=10)
    settle(page)
    page.get_by_role("button", name="Your own text").click()
    page.get_by_label("Text", exact=True).wait_for(state="detached")
    page.get_by_role("button", name="Try again").click()
    page.wait_for_selector(f"{A_TOKEN}:has-text('{text.split()[-1]}')", timeout=2 * MINUTES)
    assert page.get_by_role("alert").count() == 0


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Studio with the models that people have, and the cache of this machine."""
    cache = str(own_folder("CIST_CACHE", "cache"))
    with running_studio(tmp_path_factory.mktemp("shipped"), CIST_CACHE=cache) as address:
        yield address


def take_pictures(browser, address: str, name: str, says: str) -> None:
    """Of a text that is read at an address, on a phone and wide, light and dark."""
    context = browser.new_context(reduced_motion="reduce")
    for width, height in ((390, 844), (1440, 1000)):
        page = context.new_page()
        page.set_viewport_size({"width": width, "height": height})
        shown = Shown(pinned=20 if width > 1000 else None)  # on a phone it covers the lower edge
        page.goto(address.format(view=shown.as_link()))
        page.wait_for_selector(A_TOKEN, timeout=1000 * (OPENING_SECONDS + SECONDS))
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            settle(page)
            assert says in page.locator(FINDING).first.inner_text()
            assert page.get_by_role("alert").count() == 0
            assert faint_words(page) == [], (width, scheme)
            save_whole_page(page, name, scheme)
    context.close()


@pytest.mark.parametrize("name", ["tokens", "tokens-smollm2"])
def test_pictures_with_models_that_people_have(browser, shipped: str, name: str) -> None:
    """The pair that ships, which a visitor sees first, and SmolLM2, converted once a machine."""
    models = {model.name: model for model in known_language_models() if model.path is not None}
    smollm2 = models.pop(SMOLLM2, None)
    if smollm2 is None if name.endswith(SMOLLM2) else not models:
        pytest.skip(f"the models of {name} are not on this machine")
    chosen = f"tokens_model={SMOLLM2}&" if name.endswith(SMOLLM2) else ""
    take_pictures(browser, f"{shipped}/tokens?{chosen}tokens_view={{view}}", name, "first choice")


def test_pictures_of_a_student_before_and_after(browser, tmp_path: Path) -> None:
    """Of a finished run of the preset demo-language, which takes minutes; CIST_DEMO_RUN names its directory."""
    made = os.environ.get("CIST_DEMO_RUN")
    if made is None:
        pytest.skip("CIST_DEMO_RUN names no finished run of the preset demo-language")
    run_id = "20260101-120000-beef"
    shutil.copytree(made, tmp_path / "runs" / run_id)
    RunStore(tmp_path / "runs").forget_rebuilt()  # the table is made of the directory
    link = "&".join(f"{key}={quote(value)}" for key, value in link_to_run(run_id).items())
    with running_studio(tmp_path) as address:
        take_pictures(browser, f"{address}/tokens?{link}", "tokens-distilled", "After distillation")
