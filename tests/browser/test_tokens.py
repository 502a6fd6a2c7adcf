"""A text whose colours, numbers and soft labels move with the sliders in the browser, from the curves of its tokens."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest

pytest.importorskip("transformers")

from tiny_language_models import CLASSES, WORDS, save_tiny_model

from cist_core.cards import sample_models_folder
from cist_core.files import own_folder
from cist_core.language.inference import infer_pair
from cist_core.language.known import SMOLLM2, known_language_models
from cist_core.language.models import open_language_model
from cist_core.language.reading import OPENING_SECONDS, SECONDS
from cist_core.language.texts import read_texts, tokenise_all
from cist_core.language.token_set import TokenPair
from tests.browser.actions import faint_words, settle
from tests.browser.conftest import LOOKS, save_whole_page
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
def server(tmp_path_factory: pytest.TempPathFactory, models: Path) -> Iterator[str]:
    with running_studio(tmp_path_factory.mktemp("studio"), CIST_SAMPLE_MODELS=str(models)) as address:
        yield address


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
    return float(page.locator(".says").inner_text().partition("mean ")[2].split()[0].rstrip("."))


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


def test_a_token_is_reached_by_keyboard_pinned_and_in_the_link(page, pair: TokenPair) -> None:
    page.locator(".text").focus()
    for _ in range(6):
        page.keyboard.press("ArrowRight")
    page.wait_for_timeout(200)
    details = page.locator("aside").inner_text()
    assert f"rank {pair.teacher.rank[4]}" in details
    assert f"the other {WORDS - 5:,}" in details or f"the other {WORDS - 6:,}" in details
    assert page.locator(".token.here").inner_text().strip() == page.locator("aside h4").inner_text().strip("“”·")
    page.keyboard.press("Enter")
    settle(page)
    assert page.locator(".token.pinned").count() == 1
    assert page.url.endswith("~5~")
    page.reload()
    page.wait_for_selector(".token.pinned", timeout=120_000)
    page.go_back()  # one press undoes one thing
    page.wait_for_function("!location.search.includes('~5~')")
    page.wait_for_selector(".token.pinned", state="detached", timeout=30_000)


def test_a_stretch_is_selected_by_dragging_along_the_line_and_lifted_by_escape(page) -> None:
    box = page.locator("svg.line").bounding_box()
    y = box["y"] + 30
    page.mouse.move(box["x"] + 0.25 * box["width"], y)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.5 * box["width"], y, steps=4)
    page.mouse.up()
    page.wait_for_timeout(200)
    assert page.locator(".range").inner_text().startswith("Tokens 11 to ")
    assert 0 < page.locator(".token.out").count() < page.locator(A_TOKEN).count()
    settle(page)
    assert page.url.endswith("~10-21")
    page.locator(".text").focus()
    page.keyboard.press("Escape")
    page.wait_for_timeout(200)
    assert page.locator(".token.out").count() == 0
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("Shift+ArrowRight")
    page.wait_for_timeout(200)
    assert page.locator(f"{A_TOKEN}:not(.out)").count() == 3


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


@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (1440, "dark"), (390, "light")])
def test_words_stand_out_and_nothing_sticks_out(open_page, width: int, scheme: str) -> None:
    page = open_page("tokens?tokens_model=a-teacher", width=width, scheme=scheme, sign=A_TOKEN)
    for name in ("entropy", "rank", "weight"):
        choose(page, "measure", name)
        page.locator(A_TOKEN).first.evaluate(  # the ends of the scale, wherever the tokens are
            """token => token.parentElement.querySelectorAll('.token').forEach((each, index) => {
                const image = getComputedStyle(token.getRootNode().querySelector('.scale i')).backgroundImage;
                const stops = image.match(/color\\([^()]*\\)/g);
                each.style.backgroundColor = stops[index % 2 ? 0 : stops.length - 1];
            })"""
        )
        assert faint_words(page) == []
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


@pytest.mark.parametrize("name", ["tokens", "tokens-smollm2"])
def test_pictures_with_models_that_people_have(browser, tmp_path: Path, name: str) -> None:
    """The pair that ships, which a visitor sees first, and SmolLM2, converted once a machine."""
    models = {model.name: model for model in known_language_models() if model.path is not None}
    smollm2 = models.pop(SMOLLM2, None)
    if smollm2 is None if name.endswith(SMOLLM2) else not models:
        pytest.skip(f"the models of {name} are not on this machine")
    chosen = f"tokens_model={SMOLLM2}&" if name.endswith(SMOLLM2) else ""
    with running_studio(tmp_path, CIST_CACHE=str(own_folder("CIST_CACHE", "cache"))) as address:
        for width, height, scheme in LOOKS:
            view = {"viewport": {"width": width, "height": height}, "color_scheme": scheme}
            page = browser.new_page(**view, reduced_motion="reduce")
            page.goto(f"{address}/tokens?{chosen}tokens_view=entropy~tau~teacher~1~~0~matched~20~")
            page.wait_for_selector(A_TOKEN, timeout=1000 * (OPENING_SECONDS + SECONDS))
            settle(page)
            assert faint_words(page) == []
            save_whole_page(page, name, scheme)
            page.close()
