"""The overlaid teachers, checked against the readings they were made from."""

import json
import math

import numpy as np
import pytest

from cist_core.charts.figure import RULE_COLOURS, SELECTED
from cist_core.charts.teachers import (
    TEACHER_COLOURS,
    reliability_figure,
    teacher_entropy_figure,
    teacher_ratio_figure,
)
from cist_core.compare.teacher_comparison import CIST, FIXED, TeacherReading, consistency_finding, read_teacher
from cist_core.logits.logit_set import LogitSet
from cist_core.wording import percent, three_digits


@pytest.fixture
def teachers(logits, labels) -> list[TeacherReading]:
    blunt = 16 * np.sign(logits) * np.abs(logits) ** 0.5
    return [read_teacher(name, LogitSet.create(rows, labels)) for name, rows in (("A", 4 * logits), ("B", blunt))]


@pytest.mark.parametrize("rule", [FIXED, CIST])
def test_every_sample_falls_in_the_bin_of_its_entropy(teachers, rule):
    figure = teacher_entropy_figure(teachers, rule)
    for teacher in teachers:
        bins = figure.datasets["bins"].query("teacher == @teacher.name")
        expected, edges = np.histogram(teacher.under(rule).entropy, bins=60, range=(0, math.log(10)))
        assert bins["samples"].sum() == 300
        assert np.abs(bins["samples"].to_numpy() - expected).sum() <= 4  # one at an edge may fall on either side
        np.testing.assert_allclose(bins["from"], edges[:-1])
    assert figure.title == consistency_finding(teachers, rule)
    mean = three_digits(float(teachers[0].under(rule).entropy.mean()))
    assert figure.caption.startswith(f"Under {rule} at a mean entropy of {mean} nats")


def test_ratios_are_counted_and_the_held_one_drawn(teachers):
    figure = teacher_ratio_figure(teachers)
    bins = figure.datasets["bins"]
    assert bins.groupby("teacher")["samples"].sum().to_dict() == {"A": 300, "B": 300}
    middle = bins.query("teacher == 'A'")
    inside = (teachers[0].fixed.ratios >= middle["from"].iloc[5]) & (teachers[0].fixed.ratios < middle["to"].iloc[5])
    assert middle["samples"].iloc[5] == inside.sum()
    assert figure.datasets["held"]["ratio"].tolist() == [teacher.rho for teacher in teachers]
    width = float(np.std(teachers[0].fixed.ratios) / np.mean(teachers[0].fixed.ratios)) * 100
    assert f"{width:.1f} % (A)" in figure.title
    shares = [f"{percent(teacher.cist.profile.at_floor)} ({teacher.name})" for teacher in teachers]
    assert figure.title.endswith(f"CIST holds it above its floor, which leaves out {', '.join(shares)} of the samples")


def test_without_a_floor_cist_holds_the_ratio_of_every_sample(logits):
    free = [read_teacher("A", LogitSet.create(logits), floor=0)]
    assert teacher_ratio_figure(free).title.endswith("of its mean; CIST holds it")


def test_the_reliability_has_the_filled_bins_of_both_temperatures(teachers):
    figure = reliability_figure(teachers)
    bins = figure.datasets["bins"]
    for teacher in teachers:
        for when, expected in (("τ = 1", teacher.calibration.before), ("fitted τ", teacher.calibration.after)):
            rows = bins[(bins["teacher"] == teacher.name) & (bins["when"] == when)]
            assert rows["samples"].sum() == 300
            filled = expected.count > 0
            np.testing.assert_array_equal(rows["accuracy"], expected.accuracy[filled])
            np.testing.assert_array_equal(rows["confidence"], expected.confidence[filled])
    assert figure.title.startswith("One fitted temperature takes the calibration error of A from")


def test_the_spec_is_the_same_object_for_other_teachers_of_these_names(teachers, labels):
    other = [read_teacher(name, LogitSet.create(np.eye(10)[labels] * 5, labels)) for name in ("A", "B")]
    for make in (teacher_entropy_figure, teacher_ratio_figure, reliability_figure):
        assert make(teachers).spec is make(other).spec


def test_teachers_have_colours_that_no_rule_and_no_selection_has():
    assert len(set(TEACHER_COLOURS)) == len(TEACHER_COLOURS) == 4
    assert not set(TEACHER_COLOURS) & {*RULE_COLOURS.values(), SELECTED}


@pytest.mark.parametrize("count", [1, 2])
def test_they_compile_and_draw(teachers, count):
    vl_convert = pytest.importorskip("vl_convert")
    for make in (teacher_entropy_figure, teacher_ratio_figure, reliability_figure):
        figure = make(teachers[:count])
        whole = {**json.loads(json.dumps(figure.vega_lite(), allow_nan=False)), "width": 600}
        svg = vl_convert.vegalite_to_svg(whole)
        assert TEACHER_COLOURS[count - 1] in svg
        assert (TEACHER_COLOURS[1] in svg) == (count == 2)
        assert figure.title
        assert figure.alt
