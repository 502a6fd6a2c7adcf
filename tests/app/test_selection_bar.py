"""One selection for the whole app: typed, linked, kept under a name, and shown on every page that shows samples."""

from __future__ import annotations

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from app.selection import SELECT, SLICES
from tests.app.driver import ROOT, open_app, view_of

RULE = "entropy=0.1..0.5 & correct=yes"


def words(app) -> str:
    return app.markdown[0].value


def test_nothing_is_selected_at_first() -> None:
    app = open_app()
    assert view_of(app).selected is None
    assert "All 1,000 samples" in words(app)


@pytest.mark.parametrize("page", ["overview", "entropy", "ratio"])
def test_a_link_selects_the_same_samples_on_every_page(page: str) -> None:
    app = open_app(page, **{SELECT: RULE})
    view = view_of(app)
    entropy = view.fixed.entropy
    assert np.array_equal(view.selected, (entropy >= 0.1) & (entropy <= 0.5) & view.source.curves.correct)
    assert f"{view.selected.sum():,} of 1,000 samples" in words(app)
    assert not app.error


def test_the_selection_survives_a_visit_to_a_page_without_a_bar() -> None:
    app = open_app(**{SELECT: RULE})
    before = view_of(app).selected
    app.switch_page("../pages/distill.py").run()
    assert np.array_equal(view_of(app).selected, before)
    app.switch_page("../pages/entropy.py").run()
    assert app.text_input(key=SELECT).value == RULE
    assert np.array_equal(view_of(app).selected, before)


def test_the_rule_follows_the_sliders() -> None:
    app = open_app(**{SELECT: "entropy=0.1..0.5"})
    before = view_of(app).selected.sum()
    app.slider(key="tau").set_value(6.0).run()
    view = view_of(app)
    assert view.selected.sum() != before
    assert np.array_equal(view.selected, (view.fixed.entropy >= 0.1) & (view.fixed.entropy <= 0.5))


@pytest.mark.parametrize(
    ("rule", "message"), [("nonsense=1", "no measure 'nonsense'"), ("entropy=2..1", "from a smaller number")]
)
def test_a_rule_that_cannot_be_read_is_named_and_the_page_stays(rule: str, message: str) -> None:
    app = open_app("entropy", **{SELECT: rule})
    assert message in app.error[0].value
    assert view_of(app).selected is None
    assert app.get("vega_lite_chart")


def test_a_rule_about_the_student_needs_one() -> None:
    app = open_app(student="none", **{SELECT: "weight=1.."})
    assert "needs a student" in app.error[0].value


def test_select_every_sample_clears_the_rule() -> None:
    app = open_app(**{SELECT: RULE})
    app.button(key="select-all").click().run()
    assert view_of(app).selected is None
    assert app.text_input(key=SELECT).value == ""


def test_a_selection_kept_as_a_slice_has_its_row_of_statistics() -> None:
    app = open_app("entropy", **{SELECT: "correct=no", "entropy_tab": "Tables"})
    app.text_input(key="slice_name").set_value("wrong ones").run()
    app.button(key="slice_keep").click().run()
    assert app.text_area(key=SLICES).value == "wrong ones: correct=no"
    view = view_of(app)
    assert list(view.slices) == ["wrong ones"]
    table = next(frame.value for frame in app.dataframe if "slice" in frame.value.columns)
    assert table["slice"].tolist() == ["all samples", "selected", "wrong ones"]
    assert table["samples"].tolist()[2] == np.count_nonzero(~view.source.curves.correct)
    assert table["accuracy"].tolist()[2] == 0


def test_a_slice_that_cannot_be_read_is_named() -> None:
    app = open_app("entropy", **{SLICES: "no colon here"})
    assert "Expected a slice as 'name: rule'" in app.error[0].value


def test_a_slice_without_a_name_takes_the_first_free_number() -> None:
    app = open_app("entropy", **{SELECT: "correct=no", SLICES: "slice 1: margin=..1"})
    app.button(key="slice_keep").click().run()
    assert app.text_area(key=SLICES).value == "slice 1: margin=..1\nslice 2: correct=no"


def test_slices_that_cannot_be_read_stay_as_they_are_when_another_is_kept() -> None:
    app = open_app("entropy", **{SELECT: "correct=no", SLICES: "no colon here"})
    app.button(key="slice_keep").click().run()
    assert not app.exception
    assert app.text_area(key=SLICES).value == "no colon here"


def test_a_slice_with_a_name_that_is_taken_is_refused() -> None:
    app = open_app("entropy", **{SLICES: "all samples: correct=no"})
    assert "belongs to the table of slices" in app.error[0].value
    assert not view_of(app).slices


@pytest.mark.parametrize("page", ["rho", "learn", "distill"])
def test_a_link_to_a_page_without_a_bar_selects_on_the_next_one(page: str) -> None:
    app = open_at(page, **{SELECT: RULE, SLICES: "wrong: correct=no"})
    app.switch_page("../pages/entropy.py").run()
    assert app.text_input(key=SELECT).value == RULE
    view = view_of(app)
    assert str(view.selection) == RULE
    assert list(view.slices) == ["wrong"]


def open_at(page: str, **query: str) -> AppTest:
    """Opened there, not reached from the first page."""
    app = AppTest.from_file(str(ROOT / "app" / "main.py"), default_timeout=60)
    app.switch_page(f"../pages/{page}.py")
    for key, value in query.items():
        app.query_params[key] = value
    app.run()
    assert not app.exception
    return app


def test_a_selection_that_cannot_be_read_cannot_be_kept() -> None:
    app = open_app("entropy", **{SELECT: "banana"})
    assert app.button(key="slice_keep").disabled


def tray_buttons(app) -> list[int]:
    return [
        int(button.key[5:])
        for button in app.button
        if (button.key or "").startswith("tray_") and button.key[5:].isdigit()
    ]


def test_the_tray_shows_twelve_samples_from_the_least_to_the_largest_entropy() -> None:
    app = open_app("ratio", **{SELECT: RULE})
    view = view_of(app)
    entropy = view.fixed.entropy[tray_buttons(app)]
    chosen = np.sort(view.fixed.entropy[view.selected])
    assert len(entropy) == 12
    assert (entropy[0], entropy[-1]) == (chosen[0], chosen[-1])
    assert (np.diff(entropy) >= 0).all()
    weight = view.samples.column("weight")
    assert any(
        f"{view.selected.sum():,} selected: 100 % right, weight {weight[view.selected].mean() / weight.mean():.2f} ×"
        in words.value
        for words in app.markdown
    )


@pytest.mark.parametrize("page", ["samples", "rho", "distill"])
def test_pages_without_a_brush_have_no_tray(page: str) -> None:
    assert not tray_buttons(open_app(page, **{SELECT: RULE}))


def test_without_images_words_stand_in_the_tray(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("CIST_DATA", str(tmp_path))
    app = open_app("ratio", teacher="cifar100-resnet20", **{SELECT: "correct=no"})
    first = tray_buttons(app)[0]
    assert "→" in app.button(key=f"tray_{first}").label


def test_a_selection_without_samples_has_an_empty_tray() -> None:
    app = open_app("ratio", **{SELECT: "entropy=50.."})
    assert not tray_buttons(app)
    assert any("0 selected" in words.value for words in app.markdown)
