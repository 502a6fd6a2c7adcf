"""Selections are rules: what they say in text, which samples they hold, and what they refuse."""

from __future__ import annotations

import math
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cist_core.entropy.curves import EntropyCurves
from cist_core.errors import CistError
from cist_core.logits.logit_set import LogitSet
from cist_core.samples.selection import Among, Between, Selection
from cist_core.samples.slices import EVERYTHING, SELECTED, format_slices, parse_slices, slice_statistics
from cist_core.samples.table import MEASURES, NUMBER, SampleTable, StudentLogits
from cist_core.temperature import Cist, Fixed
from cist_core.temperature.readings import read_rule


def samples(*, labels: bool = True, student: bool = True, count: int = 60) -> SampleTable:
    rng = np.random.default_rng(3)
    logits = rng.normal(size=(count, 5)).astype(np.float32) * 4
    logit_set = LogitSet.create(logits, rng.integers(0, 5, count) if labels else None)
    curves = EntropyCurves.from_logits(logit_set)
    other = LogitSet.create(logits[:, ::-1] * 0.5)
    learner = StudentLogits("small", other, EntropyCurves.from_logits(other), teacher=logit_set) if student else None
    return SampleTable(curves, read_rule(Fixed(2.0), curves), read_rule(Cist(3.0), curves), student=learner)


def test_every_measure_has_one_value_a_sample() -> None:
    table = samples()
    known = [name for name, measure in MEASURES.items() if "a text" not in measure.needs]
    assert [measure.name for measure in table.measures()] == known
    for name in known:
        assert table.column(name).shape == (60,)
    assert list(table.frame().columns) == known
    assert table.frame(np.array([3, 5]))["index"].tolist() == [3, 5]


def test_values_with_names_are_read_and_written_by_them() -> None:
    selection = Selection.parse("token_type=word start, number,0")
    assert str(selection) == "token_type=word start,number"
    assert selection.conditions[0].values == (0, 3)
    assert selection.describe(["cat", "dog"]) == "token type word start, number"
    with pytest.raises(CistError, match="Expected 'token_type' to be among word start, continuation"):
        Selection.parse("token_type=verb")


def test_measures_are_what_they_say() -> None:
    table = samples()
    logits = np.random.default_rng(3).normal(size=(60, 5)).astype(np.float32) * 4
    ordered = np.sort(logits, axis=1)
    centred = logits - logits.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(table.column("margin"), ordered[:, -1] - ordered[:, -2], rtol=1e-5)
    np.testing.assert_allclose(table.column("ratio"), centred.max(axis=1) / 2, rtol=1e-5)
    own_temperatures = np.maximum(centred.max(axis=1) / 3, 1)
    np.testing.assert_allclose(table.column("temperature"), own_temperatures, rtol=1e-5)
    np.testing.assert_array_equal(table.column("at_floor"), centred.max(axis=1) < 3)
    assert 0 < table.column("at_floor").sum() < 60
    student = (logits * 0.5)[:, ::-1].astype(np.float64)
    own = np.maximum((student - student.mean(axis=1, keepdims=True)).max(axis=1) / 3, 1)
    np.testing.assert_allclose(table.column("weight"), own_temperatures * own, rtol=1e-5)
    labels = table.column("class")
    expected = np.log(np.exp(student).sum(axis=1)) - student[np.arange(60), labels]
    np.testing.assert_allclose(table.column("student_loss"), expected, rtol=1e-4)
    assert np.array_equal(table.column("correct"), logits.argmax(axis=1) == labels)


def test_a_measure_says_what_it_lacks() -> None:
    table = samples(labels=False, student=False)
    assert {"class", "correct", "weight", "student_loss"}.isdisjoint(measure.name for measure in table.measures())
    with pytest.raises(CistError, match="'correct' needs labels"):
        table.column("correct")
    with pytest.raises(CistError, match="'student_loss' needs labels and a student"):
        table.column("student_loss")
    with pytest.raises(CistError, match=r"no measure 'nonsense'; known are index, class"):
        table.column("nonsense")


def test_a_student_of_another_shape_is_refused() -> None:
    teacher = LogitSet.create(np.eye(4))
    other = LogitSet.create(np.eye(4)[:3])
    with pytest.raises(CistError, match="Expected the student tiny to have logits of the teacher's 4 samples"):
        StudentLogits("tiny", other, EntropyCurves.from_logits(other), teacher=teacher)


def test_the_samples_at_the_floor_can_be_selected() -> None:
    table, selection = samples(), Selection.parse("at_floor=yes")
    np.testing.assert_array_equal(selection.mask(table), table.cist.at_floor)
    assert selection.describe() == "at the floor"
    assert Selection.parse("at_floor=no").describe() == "not at the floor"


def test_conditions_hold_together() -> None:
    table = samples()
    selection = Selection.parse("entropy=0.2..0.9 & correct=no & class=1,3")
    expected = (
        (table.column("entropy") >= 0.2)
        & (table.column("entropy") <= 0.9)
        & ~table.column("correct")
        & np.isin(table.column("class"), [1, 3])
    )
    assert np.array_equal(selection.mask(table), expected)
    assert 0 < expected.sum() < 60


def test_open_ends_and_sample_numbers() -> None:
    table = samples()
    assert np.array_equal(Selection.parse("margin=..1").mask(table), table.column("margin") <= 1)
    assert np.array_equal(Selection.parse("margin=1..").mask(table), table.column("margin") >= 1)
    assert np.flatnonzero(Selection.parse("index=4,9").mask(table)).tolist() == [4, 9]
    assert np.flatnonzero(Selection.parse("index=4..6").mask(table)).tolist() == [4, 5, 6]


def test_a_condition_replaces_the_one_on_the_same_measure() -> None:
    selection = Selection.parse("entropy=0..1 & class=2").between("entropy", 0.5, 0.25)
    assert str(selection) == "class=2 & entropy=0.25..0.5"
    assert str(selection.among("class", [])) == "entropy=0.25..0.5"
    assert not selection.without("class", "entropy")


def test_no_condition_is_every_sample() -> None:
    assert Selection.parse("  ").mask(samples()).all()
    assert Selection().describe() == "every sample"
    assert not Selection()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nonsense=1", "no measure 'nonsense'"),
        ("entropy", "Expected a condition as 'measure=value', but got 'entropy'"),
        ("entropy=", "Expected a condition as 'measure=value'"),
        ("entropy=3", "Expected 'entropy' as a range"),
        ("entropy=..", "Expected 'entropy' as a range"),
        ("entropy=a..b", "Expected numbers on both sides"),
        ("entropy=nan..1", "from a smaller number to a larger one"),
        ("entropy=2..1", "from a smaller number to a larger one"),
        ("entropy=-inf..inf", "from a smaller number to a larger one"),
        ("entropy=1.. & entropy=..2", "The rule has 2 conditions on 'entropy'; give it one"),
        ("class=-1", "counted from 0"),
        ("correct=maybe", "Expected 'correct' to be yes or no, but got 'maybe'"),
        ("class=cat", "Expected 'class' to be whole numbers"),
        ("class=99999999999999999999999", "positions of classes or samples"),
    ],
)
def test_a_rule_that_cannot_be_read_says_why(text: str, message: str) -> None:
    with pytest.raises(CistError, match=message):
        Selection.parse(text)


numbers = st.floats(allow_nan=False, allow_infinity=False)
ranges = st.builds(
    lambda measure, a, b: Between(measure, min(a, b), max(a, b)),
    st.sampled_from([name for name, measure in MEASURES.items() if measure.kind == NUMBER]),
    numbers,
    numbers,
)
sets = st.builds(
    Among,
    st.sampled_from(["class", "prediction", "index"]),
    st.lists(st.integers(0, 2**40), min_size=1, max_size=5, unique=True).map(tuple),
)
flags = st.builds(lambda value: Among("correct", (value,)), st.sampled_from([0, 1]))


@given(st.lists(ranges | sets | flags, max_size=4, unique_by=lambda condition: condition.measure))
def test_the_text_reads_back_as_the_same_rule(conditions: list[Between | Among]) -> None:
    selection = Selection(tuple(conditions))
    assert Selection.parse(str(selection)) == selection


@given(st.text(max_size=40))
def test_any_text_is_a_rule_or_refused(text: str) -> None:
    with suppress(CistError):
        Selection.parse(text)


def test_words_name_classes_and_units() -> None:
    selection = Selection.parse("class=0,2 & correct=no & margin=..1 & weight=2..")
    assert selection.describe(["cat", "dog", "bird"]) == (
        "class cat, bird, not correct, teacher margin at most 1.00 logit units, weight τₜ τₛ at least 2.00 logit units²"
    )
    assert Selection.parse("index=1,2,3,4,5,6").describe() == "sample 1, 2, 3, 4 and 2 more"


def test_slices_read_back() -> None:
    slices = parse_slices("confused: correct=no & margin=..1\n\n sure :entropy=..0.1\n")
    assert list(slices) == ["confused", "sure"]
    assert parse_slices(format_slices(slices)) == slices


def test_the_names_of_the_table_s_own_rows_are_taken() -> None:
    for name in (EVERYTHING, SELECTED):
        with pytest.raises(CistError, match=f"The name '{name}' belongs to the table"):
            parse_slices(f"{name}: correct=no")


def test_a_colon_in_a_name_does_not_cut_it() -> None:
    text = format_slices({"a: b": Selection.parse("correct=no")})
    assert list(parse_slices(text)) == ["a b"]


@pytest.mark.parametrize("line", ["no colon", ": entropy=0..1", "name:"])
def test_a_slice_needs_a_name_and_a_rule(line: str) -> None:
    with pytest.raises(CistError, match="Expected a slice as 'name: rule'"):
        parse_slices(line)


def test_statistics_of_slices_are_those_of_their_samples() -> None:
    table = samples()
    mask = Selection.parse("correct=no").mask(table)
    rows = slice_statistics(table, {"wrong": mask, "none": np.zeros(60, bool)}).set_index("slice")
    assert list(rows.index) == [EVERYTHING, "wrong", "none"]
    assert rows.loc["wrong", "samples"] == mask.sum()
    assert rows.loc["wrong", "accuracy"] == 0
    assert rows.loc[EVERYTHING, "accuracy"] == pytest.approx(np.mean(table.column("correct")))
    assert rows.loc["wrong", "spread_cist"] == pytest.approx(np.std(table.column("entropy_cist")[mask].astype(float)))
    assert rows.loc["wrong", "at_floor"] == np.mean(table.column("at_floor")[mask])
    assert math.isnan(rows.loc["none", "mean_fixed"])
    assert math.isnan(slice_statistics(samples(labels=False), {})["accuracy"][0])
