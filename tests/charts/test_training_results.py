"""The dot plot of tests: what is drawn is what the comparison says."""

from __future__ import annotations

import json

import pytest

from cist_core.charts.training_results import accuracy_on_test_figure
from cist_core.runs.comparison import SettingAccuracy

CIST = SettingAccuracy("CIST ρ = 3", {0: 0.915, 1: 0.925, 2: 0.92}, 200)
KD = SettingAccuracy("KD τ = 4", {0: 0.91}, 200)
COLOURS = {"CIST ρ = 3": "#2E7FD1", "KD τ = 4": "#C77700"}


def test_every_setting_has_its_mean_interval_and_seeds_the_best_on_top() -> None:
    figure = accuracy_on_test_figure([KD, CIST], COLOURS)
    settings = figure.datasets["settings"]
    assert settings["setting"].tolist() == ["CIST ρ = 3", "KD τ = 4"]
    assert settings["mean"].tolist() == pytest.approx([92.0, 91.0])
    for row, setting in zip(settings.to_dict("records"), (CIST, KD), strict=True):
        assert (row["low"] / 100, row["high"] / 100) == pytest.approx(setting.interval())
    assert settings["label"].tolist() == ["CIST ρ = 3 · 3 seeds", "KD τ = 4 · 1 seed"]
    assert figure.datasets["seeds"]["accuracy"].tolist() == pytest.approx([91.5, 92.5, 92.0, 91.0])
    assert "CIST ρ = 3 and KD τ = 4 cannot be told apart on test" in figure.title
    assert "Student's t" in figure.caption
    assert "Wilson" in figure.caption


def test_colours_follow_the_setting_and_the_height_their_number() -> None:
    two, one = accuracy_on_test_figure([KD, CIST], COLOURS).spec, accuracy_on_test_figure([KD], COLOURS).spec
    assert '"domain": ["CIST ρ = 3", "KD τ = 4"], "range": ["#2E7FD1", "#C77700"]' in json.dumps(
        two, ensure_ascii=False
    )
    assert two["height"] > one["height"]


@pytest.mark.parametrize("images", [200, None])
def test_it_draws(images: int | None) -> None:
    vl_convert = pytest.importorskip("vl_convert")
    figure = accuracy_on_test_figure([CIST, SettingAccuracy("KD τ = 4", {0: 0.91}, images)], COLOURS)
    svg = vl_convert.vegalite_to_svg({**json.loads(json.dumps(figure.vega_lite(), allow_nan=False)), "width": 600})
    assert "NaN" not in svg
    assert "KD τ = 4 · 1 seed" in svg
