"""Charts over epochs: what is drawn, and that the sentences above say what the rows say."""

from __future__ import annotations

import json

import numpy as np
import pytest
from example_runs import metric_rows

from cist_core.charts.training import (
    MOST_BANDS,
    RUN_COLOURS,
    accuracy_figure,
    entropy_figure,
    loss_figure,
    loss_terms,
    maximum_figure,
    temperature_figure,
)
from cist_core.charts.training_sentences import RunCurve

FIGURES = [accuracy_figure, entropy_figure, temperature_figure, loss_figure, maximum_figure]


def cist(done: int = 12, **options: float) -> RunCurve:
    return RunCurve("cist", RUN_COLOURS[0], metric_rows(done, **options), 12)


def kd(done: int = 12, **options: float) -> RunCurve:
    return RunCurve("kd", RUN_COLOURS[1], metric_rows(done, fixed_tau=True, **options), 12)


def test_accuracy_draws_every_epoch_of_every_run_in_percent() -> None:
    lines = accuracy_figure([cist(), kd(7)]).datasets["lines"]
    counts = lines.groupby(["run", "series"]).size().to_dict()
    assert counts == {
        ("cist", "training"): 12, ("cist", "validation"): 12, ("kd", "training"): 7, ("kd", "validation"): 7
    }  # fmt: skip
    last = lines.query("run == 'cist' and series == 'validation' and epoch == 12").iloc[0]
    assert last["value"] == pytest.approx(100 * metric_rows(12)[-1]["val_accuracy"])


def test_the_axis_ends_where_the_data_end() -> None:
    figure = accuracy_figure([cist(3)])
    assert list(figure.datasets) == ["lines"]
    assert figure.datasets["lines"]["epoch"].max() == 3


def test_a_run_without_an_epoch_takes_no_place_in_the_legend() -> None:
    text = json.dumps(accuracy_figure([cist(3), kd(0)]).spec)
    assert f'"domain": ["cist"], "range": ["{RUN_COLOURS[0]}"]' in text


def seeds(*lengths: int) -> RunCurve:
    runs = [metric_rows(done, gain=0.01 * seed) for seed, done in enumerate(lengths)]
    return RunCurve.over_seeds("cist", RUN_COLOURS[0], runs, 12)


def test_several_seeds_are_their_mean_and_a_band_from_the_lowest_to_the_highest() -> None:
    figure = accuracy_figure([seeds(12, 12, 12)])
    lines = figure.datasets["lines"].query("series == 'validation'")
    single = [[100 * row["val_accuracy"] for row in metric_rows(12, gain=0.01 * seed)] for seed in range(3)]
    np.testing.assert_allclose(lines["value"], np.mean(single, axis=0))
    np.testing.assert_allclose(lines["low"], np.min(single, axis=0))
    np.testing.assert_allclose(lines["high"], np.max(single, axis=0))
    assert "Mean of 3 runs; band: from the lowest to the highest." in figure.caption
    assert figure.datasets["lines"].query("series == 'training'")["low"].isna().all()


def test_seeds_of_different_length_are_averaged_where_they_are_and_that_is_said() -> None:
    curve = seeds(12, 4, 0)
    assert [row["epoch"] for row in curve.rows] == list(range(1, 13))
    assert curve.rows[3]["val_accuracy"] == pytest.approx(metric_rows(4, gain=0.005)[3]["val_accuracy"])
    assert curve.rows[4]["val_accuracy"] == metric_rows(5)[4]["val_accuracy"]
    assert "of those that have" in accuracy_figure([curve]).caption
    assert seeds(5, 0).seeds == ()


def test_one_seed_whose_scale_collapses_is_named_and_marked() -> None:
    runs = [metric_rows(6), scaled("", 4.0, 1.0, 0.25, 0.0625, 0.0156, 0.0039).rows]
    curve = RunCurve.over_seeds("pure", RUN_COLOURS[0], runs, 12)
    figure = maximum_figure([curve])
    assert figure.title.startswith("The logits of pure have collapsed")
    assert figure.datasets["faults"]["epoch"].tolist() == [4]


def test_a_legend_has_as_many_columns_as_there_is_room_for() -> None:
    text = json.dumps(accuracy_figure([cist(), kd()]).spec)
    assert "floor(width / " in text


def test_spec_is_the_same_object_while_a_run_goes_on() -> None:
    for make in FIGURES:
        assert make([cist(3)]).spec is make([cist(4)]).spec


def test_what_differs_at_the_end_can_be_seen() -> None:
    figure = accuracy_figure([cist(), kd()])
    lowest = min(row["val_accuracy"] for row in metric_rows(12)[6:])
    assert lowest > 0.89
    assert '"domainMin": 80' in json.dumps(figure.spec)
    assert "below 80 %, are cut off" in figure.caption
    assert len(figure.datasets["lines"]) == 48
    for whole in (accuracy_figure([cist(5), kd()]), accuracy_figure([cist(0)])):
        assert "domainMin" not in json.dumps(whole.spec)
        assert "cut off" not in whole.caption


@pytest.mark.parametrize("make", FIGURES)
def test_bands_surround_the_mean_and_stay_above_zero(make) -> None:
    lines = make([cist(), kd()]).datasets["lines"]
    banded = lines.dropna(subset=["low"])
    assert (banded["low"] >= 0).all()
    assert (banded["low"] <= banded["value"]).all()
    assert (banded["high"] >= banded["value"]).all()
    assert banded.empty == (make not in (entropy_figure, temperature_figure))


def test_many_runs_have_no_bands_and_the_caption_says_so() -> None:
    runs = [RunCurve(f"run {index}", RUN_COLOURS[index], metric_rows(3), 3) for index in range(MOST_BANDS + 1)]
    figure = entropy_figure(runs)
    assert figure.datasets["lines"]["low"].isna().all()
    assert "bands" not in figure.caption
    assert "bands" in entropy_figure(runs[:MOST_BANDS]).caption


def test_teacher_is_solid_and_student_dashed() -> None:
    text = json.dumps(entropy_figure([cist()]).spec)
    assert '"domain": ["teacher", "student"], "range": [[1, 0], [6, 4]]' in text


def test_colours_are_those_of_the_runs() -> None:
    for make in FIGURES:
        text = json.dumps(make([cist(), kd()]).spec)
        assert f'"domain": ["cist", "kd"], "range": ["{RUN_COLOURS[0]}", "{RUN_COLOURS[1]}"]' in text
    assert len(set(RUN_COLOURS)) == 6


def test_loss_terms_come_with_the_total_first() -> None:
    assert loss_terms([cist()]) == ["loss_total", "loss_ce", "loss_kd"]
    assert loss_terms([RunCurve("ce", RUN_COLOURS[0], metric_rows(2, soft=False), 2)]) == ["loss_total", "loss_ce"]


@pytest.mark.parametrize(
    ("runs", "title"),
    [
        ([cist(0)], "No epoch has ended yet"),
        ([cist(3)], "cist is at 76.6 % on validation after 3 of 12 epochs"),
        ([cist()], "cist reached 94.1 % on validation after 12 epochs"),
        ([cist(gain=0.004), kd()], "Validation accuracy after 12 epochs: cist 94.5 %, kd 94.1 %"),
        (
            [cist(12), kd(3, gain=0.02)],
            "Validation accuracy after 3 epochs, the last that all have: cist 76.6 %, kd 78.6 %",
        ),
        (
            [RunCurve(str(index), RUN_COLOURS[index], metric_rows(12, gain=-0.01 * index), 12) for index in range(4)],
            "Validation accuracy after 12 epochs: 91.1 % to 94.1 %",
        ),
        ([cist(), kd(0)], "cist reached 94.1 % on validation after 12 epochs"),
    ],
)
def test_accuracy_title_says_how_far_all_are(runs: list[RunCurve], title: str) -> None:
    assert accuracy_figure(runs).title == title


def test_accuracy_title_says_that_the_best_epoch_is_past() -> None:
    rows = metric_rows(12)
    rows[4] = rows[4] | {"val_accuracy": 0.96}
    title = accuracy_figure([RunCurve("cist", RUN_COLOURS[0], rows, 12)]).title
    assert title.endswith("after 12 epochs, 1.9 points below its best, epoch 5")


def test_entropy_title_compares_the_spreads_of_the_teacher() -> None:
    assert entropy_figure([cist(), kd()]).title == (
        "Spread of the teacher's entropy: 0.00400 nats under cist, 0.450 nats under kd"
    )
    assert "the teacher's" not in entropy_figure([cist(0)]).title


def test_temperature_title_knows_a_single_temperature() -> None:
    assert temperature_figure([kd()]).title == "One temperature for everything: τ = 4.00"
    assert temperature_figure([cist()]).title.startswith("The student's temperature went from 0.567 to 2.40")


def scaled(name: str, *maxima: float) -> RunCurve:
    rows = [
        row | {"student_maximum_mean": maximum} for row, maximum in zip(metric_rows(len(maxima)), maxima, strict=True)
    ]
    return RunCurve(name, RUN_COLOURS[2], rows, 12)


def test_a_collapse_and_a_runaway_are_named_and_marked_where_they_begin() -> None:
    collapsed = scaled("pure", 4.0, 1.0, 0.25, 0.0625, 0.0156, 0.0039)
    figure = maximum_figure([kd(), collapsed])
    assert figure.title == "The logits of pure have collapsed (mean centred maximum 0.00390, the teacher's 12.0)"
    assert "Crosses" in figure.caption
    assert '"type": "log"' in json.dumps(figure.spec)
    assert figure.datasets["faults"].to_dict(orient="records") == [
        {"run": "pure", "epoch": 4, "value": 0.0625, "state": "collapsed"}
    ]
    away = scaled("free", 4.0, 60.0, 20.0, 60.0, 90.0)
    assert maximum_figure([away]).datasets["faults"]["epoch"].tolist() == [2, 4]
    assert maximum_figure([kd(), collapsed, away]).title == (
        "The logits of pure have collapsed and the logits of free are running away"
    )


def test_constant_logits_have_a_place_on_the_logarithmic_axis() -> None:
    figure = maximum_figure([scaled("dead", 4.0, 0.0, 0.0, 0.0)])
    assert figure.datasets["lines"]["value"].min() > 0
    assert figure.datasets["faults"]["value"].min() > 0


def test_a_run_that_has_recovered_keeps_its_mark() -> None:
    figure = maximum_figure([scaled("kd", 4.0, 0.1, 0.1, 2.0, 6.0)])
    assert figure.title == "The student's centred maximum went from 4.00 to 6.00"
    assert figure.datasets["faults"]["epoch"].tolist() == [3]
    healthy = maximum_figure([kd()])
    assert "Crosses" not in healthy.caption
    assert '"type": "log"' not in json.dumps(healthy.spec)


def test_the_teachers_scale_is_drawn_where_the_run_has_recorded_it() -> None:
    lines = maximum_figure([kd()]).datasets["lines"]
    assert lines.query("series == 'teacher'")["value"].tolist() == [12.0] * 12
    older = [{key: value for key, value in row.items() if key != "teacher_maximum_mean"} for row in metric_rows(3)]
    lines = maximum_figure([RunCurve("kd", RUN_COLOURS[1], older, 12)]).datasets["lines"]
    assert set(lines["series"]) == {"student"}


def test_losses_are_told_by_their_course() -> None:
    assert loss_figure([cist()]).title == "The total loss went from 1.99 to 0.571"
    title = loss_figure([cist(), kd()], "loss_kd").title
    assert title == "The distillation term since the first epoch: cist −68 %, kd −68 %"
    assert loss_figure([cist()], "loss_batch").title == "No epoch with a batch term has ended yet"


def test_an_objective_without_soft_labels_is_drawn_empty() -> None:
    figure = entropy_figure([RunCurve("ce", RUN_COLOURS[0], metric_rows(3, soft=False), 3)])
    assert figure.datasets["lines"].empty
    assert figure.title == "No soft labels so far"


@pytest.mark.parametrize("done", [0, 1, 12])
@pytest.mark.parametrize("make", FIGURES)
def test_figures_compile_draw_and_name_only_data_they_carry(make, done: int) -> None:
    vl_convert = pytest.importorskip("vl_convert")
    figure = make([cist(done), kd(done)])
    text = json.dumps(figure.vega_lite(), allow_nan=False)
    for name in figure.datasets:
        assert f'"name": "{name}"' in text
    svg = vl_convert.vegalite_to_svg({**figure.vega_lite(), "width": 600})
    assert "NaN" not in svg
    assert "undefined" not in svg
    # Two circles an epoch at least, one for each run.
    assert svg.count("<path") > 2 * done


def test_long_runs_have_no_dots() -> None:
    short, long = (
        json.dumps(accuracy_figure([RunCurve("cist", RUN_COLOURS[0], metric_rows(2), epochs)]).spec)
        for epochs in (40, 240)
    )
    assert '"opacity": 1, "size": 30' in short
    assert '"opacity": 0, "size": 60' in long
