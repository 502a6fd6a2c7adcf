"""The bars and cells of soft labels, checked against SciPy's softmax."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.special import softmax

from cist_core.charts.soft_labels import (
    MOST_PAIRS,
    class_mass_figures,
    confused_pairs_figure,
    dark_knowledge_figure,
    names_of,
    soft_label_figure,
)
from cist_core.samples.dark_knowledge import STUDENT, SoftLabel, mean_soft_labels
from cist_core.temperature import Cist, Fixed

NAMES = [f"c{index}" for index in range(7)]
TEACHER_ROW = np.array([0.5, 6.0, 2.0, 5.0, -1.0, 0.0, 1.0])
STUDENT_ROW = np.array([0.0, 1.0, 2.0, 4.0, -1.0, 0.0, 1.0])
RULES = {Fixed(2.0): 2.0, Cist(3.0): 1.4}


def example(answer: int = 1, *, student: bool = False) -> list[SoftLabel]:
    labels = [SoftLabel.of(TEACHER_ROW, rule, tau, answer) for rule, tau in RULES.items()]
    if student:
        labels += [SoftLabel.of(STUDENT_ROW, rule, tau, answer, model=STUDENT) for rule, tau in RULES.items()]
    return labels


def test_bars_are_the_largest_probabilities_and_the_rest_together() -> None:
    bars = soft_label_figure(example(), NAMES, top=3).datasets["teacher"]
    for name, tau in (("fixed τ", 2.0), ("CIST", 1.4)):
        rows = bars[bars["rule"] == name].sort_values("position")
        expected = softmax(TEACHER_ROW / tau)
        assert rows["class"].tolist() == ["c1", "c3", "c2", "4 others"]
        np.testing.assert_allclose(rows["value"], [*expected[[1, 3, 2]], expected[[0, 4, 5, 6]].sum()])
        assert rows["value"].sum() == pytest.approx(1.0)


def test_the_answer_has_a_row_even_where_it_is_improbable() -> None:
    figure = soft_label_figure(example(answer=4), NAMES, top=3)
    bars = figure.datasets["teacher"]
    assert bars["class"].unique().tolist() == ["c1", "c3", "c4", "4 others"]
    assert bars.groupby("rule")["value"].sum().tolist() == pytest.approx([1.0, 1.0])
    assert figure.datasets["hard"][["class", "position", "value"]].to_numpy().tolist() == [["c4", 2, 1.0]]


def test_all_classes_leave_no_others() -> None:
    assert soft_label_figure(example(), NAMES, top=7).datasets["teacher"]["class"].nunique() == 7
    assert "1 other" in set(soft_label_figure(example(), NAMES, top=6).datasets["teacher"]["class"])


def test_title_says_what_label_and_rival_get() -> None:
    title = soft_label_figure(example(), NAMES).title
    fixed, cist = (softmax(TEACHER_ROW / tau) for tau in (2.0, 1.4))
    assert title == (
        f"The label “c1” gets {fixed[1]:.1%} at τ = 2 and {cist[1]:.1%} under CIST; "
        f"“c3” gets {fixed[3]:.1%} and {cist[3]:.1%}"
    ).replace("%", " %")


def test_without_labels_there_is_no_hard_label() -> None:
    figure = soft_label_figure(example(), NAMES, hard=False)
    assert figure.title.startswith("The top class “c1”")
    assert figure.datasets["hard"].empty
    assert "hard label" not in json.dumps(figure.spec)


def test_the_student_is_drawn_over_the_teacher_at_the_same_classes() -> None:
    figure = soft_label_figure(example(student=True), NAMES, top=3)
    student = figure.datasets["student"].query("rule == 'CIST'")
    expected = softmax(STUDENT_ROW / 1.4)
    assert student["class"].tolist() == ["c1", "c3", "c2", "4 others"]
    np.testing.assert_allclose(student["value"], [*expected[[1, 3, 2]], expected[[0, 4, 5, 6]].sum()])
    words = figure.datasets["teacher"].query("rule == 'CIST'").iloc[1]
    assert words["text_at"] == pytest.approx(max(expected[3], softmax(TEACHER_ROW / 1.4)[3]))
    assert words["text"].count("%") == 2
    assert soft_label_figure(example(), NAMES).datasets["student"].empty


def test_dark_knowledge_leaves_the_answer_out_and_adds_up() -> None:
    figure = dark_knowledge_figure(example(), NAMES, top=2)
    bars = figure.datasets["teacher"]
    assert bars["class"].unique().tolist() == ["c3", "c2", "4 others"]
    assert bars.groupby("rule")["value"].sum().tolist() == pytest.approx([1.0, 1.0])
    fixed = softmax(TEACHER_ROW / 2.0)
    assert bars["value"].iloc[0] == pytest.approx(fixed[3] / (1 - fixed[1]))
    assert figure.title.startswith(f"Dark knowledge is {1 - fixed[1]:.1%}".replace("%", " %"))


def test_matrix_holds_the_mean_soft_label_of_each_class(logits: np.ndarray, labels: np.ndarray) -> None:
    masses = {rule: mean_soft_labels(logits, tau, labels) for rule, tau in RULES.items()}
    figures = class_mass_figures(masses, [str(index) for index in range(10)])
    assert len(figures) == 2
    cells = figures[0].datasets["cells"]
    expected = softmax(logits.astype(np.float64) / 2.0, axis=1)
    cell = cells.query("answer == '3' and other == '8'").iloc[0]
    assert cell["mass"] == pytest.approx(expected[labels == 3, 8].mean(), abs=1e-6)
    assert len(cells) == 100
    strongest = [figure.datasets["cells"].query("not own")["strength"].max() for figure in figures]
    assert max(strongest) == pytest.approx(1.0)
    assert min(strongest) < 1.0  # one scale for both


def test_a_class_without_samples_is_an_empty_row() -> None:
    masses = {rule: mean_soft_labels(np.eye(3), tau, [0, 0, 2]) for rule, tau in RULES.items()}
    row = class_mass_figures(masses, ["a", "b", "c"])[0].datasets["cells"].query("answer == 'b'")
    assert row["mass"].isna().all()
    assert set(row["text"]) == {""}


def test_pairs_are_sorted_by_both_rules_and_the_title_names_the_largest_of_each() -> None:
    rng = np.random.default_rng(3)
    logits, labels = rng.normal(size=(4_000, 40)).astype(np.float32), rng.integers(0, 40, 4_000)
    logits[labels == 5, 6] += 4.0
    names = [f"n{index}" for index in range(40)]
    masses = {rule: mean_soft_labels(logits, tau, labels) for rule, tau in RULES.items()}
    figure = confused_pairs_figure(masses, names)
    bars = figure.datasets["teacher"]
    assert len(bars) == 2 * MOST_PAIRS
    means = bars.groupby("position")["value"].mean()
    assert means.is_monotonic_decreasing
    assert bars["class"].iloc[0] == "n5 → n6"
    expected = softmax(logits[labels == 5].astype(np.float64) / 2.0, axis=1)[:, 6].mean()
    assert bars["value"].iloc[0] == pytest.approx(expected, abs=1e-5)
    assert figure.title.startswith("“n5” gives “n6” the most")


def test_rules_that_disagree_about_the_largest_pair_are_both_named() -> None:
    fixed = mean_soft_labels([[3.0, 2.0, 0.0], [0.0, 3.0, 1.0]], 1.0, [0, 1])
    cist = mean_soft_labels([[9.0, 0.0, 0.0], [0.0, 3.0, 2.9]], 1.0, [0, 1])
    title = confused_pairs_figure({Fixed(1.0): fixed, Cist(2.0): cist}, ["a", "b", "c"]).title
    assert "“a” gives “b”" in title
    assert "“b” gives “c”" in title


def test_names_are_told_apart() -> None:
    assert names_of(["crane", "dog", "crane"], 3) == ["crane (0)", "dog", "crane (2)"]
    assert names_of(None, 2) == ["0", "1"]


def test_spec_is_the_same_object_for_another_sample_and_slider_position() -> None:
    other = [SoftLabel.of(TEACHER_ROW[::-1], rule, 3.0, 2) for rule in (Fixed(3.0), Cist(1.0))]
    assert soft_label_figure(example(), NAMES).spec is soft_label_figure(other, NAMES).spec
    assert dark_knowledge_figure(example(), NAMES).spec is dark_knowledge_figure(other, NAMES).spec
    masses = {rule: mean_soft_labels(np.eye(3), tau, [0, 1, 2]) for rule, tau in RULES.items()}
    figures = [class_mass_figures(masses, ["a", "b", "c"]) for _ in range(2)]
    assert figures[0][1].spec is figures[1][1].spec


def test_every_figure_compiles_to_a_picture(logits: np.ndarray, labels: np.ndarray) -> None:
    vl_convert = pytest.importorskip("vl_convert")
    masses = {rule: mean_soft_labels(logits, tau, labels) for rule, tau in RULES.items()}
    names = [f"name {index}" for index in range(10)]
    figures = [
        soft_label_figure(example(student=True), NAMES, top=3),
        dark_knowledge_figure(example(), NAMES),
        *class_mass_figures(masses, names),
        confused_pairs_figure(masses, names),
    ]
    for figure in figures:
        svg = vl_convert.vegalite_to_svg({**figure.vega_lite(), "width": 400})
        assert "NaN" not in svg
    first = vl_convert.vegalite_to_svg({**figures[0].vega_lite(), "width": 400})
    places = [first.index(f">{name}<") for name in ("c1", "c3", "c2", "4 others")]
    assert places == sorted(places)  # the axis is in the teacher's order
