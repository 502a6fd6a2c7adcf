"""The claim in language: what is trained next, and what the report says of runs that were made up."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("transformers")

import claim_language
from claim_language import (
    BESIDE,
    HARD_LABELS,
    PAIRS,
    SEEDS,
    SETTINGS,
    TUNING_SEED,
    UNTRAINED,
    Plan,
    Reported,
    Runs,
    Trainer,
    chosen,
    chosen_rate,
    drawn,
    families,
    missing,
    section,
    tuning_plans,
    verdict,
)
from tiny_language_models import WORDS, save_tiny_model

from cist_core.errors import CistError
from cist_core.language.evaluation import score_texts
from cist_core.language.models import open_language_model
from cist_core.objectives import create_objective
from cist_core.training.engine import train
from cist_core.training.language_texts import load_rows
from sample_models.texts import Document

PAIR = PAIRS["scripture"]
RATES = PAIR.learning_rates
BEFORE = {
    "test_nll": 4.0,
    "test_bits_per_byte": 1.5,
    "test_agreement": 0.4,
    "teacher_nll": 3.5,
    "teacher_bits_per_byte": 1.3,
    "train_tokens": 36_000,
    "test_tokens": 30_000,
    "mean_entropy": 3.4,
    "matched_rho": 12.0,
}


def made_up(plan: Plan) -> dict[str, float]:
    """The middle rate is the best one; CIST without a floor is 0.05 nats better than any temperature, whatever the
    seed, and with one no better."""
    nll = 3.9 + abs(math.log(plan.learning_rate / RATES[1])) / 10 + plan.seed / 100
    nll -= 0.05 + plan.seed % 2 / 1000 if "floor=0" in plan.objective else 0.0
    nll -= 0.02 if "tau=1," in plan.objective or "rho=12," in plan.objective else 0.0
    scores = {"nll": nll, "bits_per_byte": nll / 2.6, "agreement": 0.5, "nll_at_best": nll}
    row = {f"test_{name}": value for name, value in scores.items()}
    return row | {"val_nll": nll, "student_maximum_mean": 10.0, "teacher_entropy_mean": 3.4}


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    found = Runs(tmp_path / "runs.jsonl")
    found.add(Plan(BESIDE, UNTRAINED, 0.0, TUNING_SEED), BEFORE)
    return found


def test_rates_are_chosen_first_and_nothing_is_trained_twice(runs: Runs, tmp_path: Path) -> None:
    found = families(PAIR, BEFORE["matched_rho"])
    rounds = []
    while plans := missing(found, runs):
        rounds.append(plans)
        for plan in plans:
            assert runs.get(plan) is None
            create_objective(plan.objective)
            runs.add(plan, made_up(plan))
    middles, others, reported = rounds
    assert {plan.seed for plan in middles + others} == {TUNING_SEED}
    assert len(middles) == len(RATES) * (3 * len(SETTINGS) + 1)
    assert len(others) == 3 * 3 * 4 * len(SETTINGS)  # three rates around the middle's, of four others in each family
    assert {plan.learning_rate for plan in reported} == {RATES[1]}
    assert len(reported) == len(set(reported)) == len(SEEDS) * (3 * 5 * len(SETTINGS) + 1)
    assert not missing(found, Runs(tmp_path / "runs.jsonl"))  # read anew


def test_an_objective_beside_the_middle_moves_on_to_its_own_best_rate(runs: Runs) -> None:
    family = families(PAIR, 12.0)[0]
    other = family.members[0]
    assert tuning_plans(family, other, runs) == []
    for plan in tuning_plans(family, family.middle, runs):
        runs.add(plan, {"val_nll": abs(math.log(plan.learning_rate / RATES[1]))})
    tried = []
    while plans := [plan for plan in tuning_plans(family, other, runs) if runs.get(plan) is None]:
        tried.append([RATES.index(plan.learning_rate) for plan in plans])
        for plan in plans:
            runs.add(plan, {"val_nll": abs(math.log(plan.learning_rate / RATES[3]))})
    assert tried == [[0, 1, 2], [3], [4]]
    assert chosen_rate(family, other, runs) == RATES[3]
    assert chosen_rate(family._replace(rate_of_each=False), other, runs) == RATES[1]


def test_a_diverged_rate_is_not_chosen(runs: Runs) -> None:
    family = families(PAIR, 12.0)[0]
    for rate in RATES:
        assert chosen_rate(family, family.middle, runs) is None
        values = {"diverged": "Training diverged."} if rate < RATES[2] else {"val_nll": 9.0}
        runs.add(Plan(family.setting, family.middle, rate, TUNING_SEED), values)
    assert chosen_rate(family, family.middle, runs) == RATES[2]


def test_the_report_says_what_is_told_apart(runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = families(PAIR, 12.0)
    while plans := missing(found, runs):
        for plan in plans:
            runs.add(plan, made_up(plan))
    text = "\n".join(section(PAIR, runs))
    rates = f"each at one of {len(RATES)} learning rates"
    assert f"Best on validation of 5 candidates, {rates}: `kd:tau=1` with a test NLL of 3.9000 ± 0.0100" in text
    assert f"- CIST, floor 0, best of 5 candidates, {rates}: `cist:rho=12,floor=0` with 3.8" in text
    assert "; -0.0507 ± 0.0006 nats, better." in text
    assert "`cist:rho=12,floor=1` with 3.9000 ± 0.0100; +0.0000 ± 0.0000 nats, not told apart." in text
    assert "edge of the grid" not in text
    assert "Still open: nothing." in text
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    assert len(rows) == 2 * (5 + 10 + 1)  # hard labels stand in both tables
    page = tmp_path / "claim.md"
    page.write_text(f"Before.\n\n{claim_language.START}\na previous one\n{claim_language.END}\n\nAfter.\n")
    monkeypatch.setattr(claim_language, "PAGE", page)
    claim_language.write_report({"scripture": runs})
    written = page.read_text()
    assert written.startswith("Before.")
    assert written.endswith("After.\n")
    assert "a previous one" not in written


@pytest.mark.parametrize(
    ("gaps", "said"),
    [
        ([0.02, 0.021, 0.019], "worse"),
        ([-0.02, 0.01, 0.0], "not told apart"),
        ([-1.0, -1.1, -0.9], "better"),
        ([0.03, 0.05], "not told apart"),  # two deviations and more, but of two seeds
        ([0.0, 0.0, 0.0], "not told apart"),
        ([0.0, 0.06] * 10, "not told apart"),  # one deviation, but of twenty seeds
        ([1.0], "too few runs to say"),
    ],
)
def test_what_seeds_cannot_tell_apart_is_no_finding(gaps: list[float], said: str) -> None:
    assert verdict(gaps) == said


def test_comparisons_are_judged_together() -> None:
    gaps = [0.7, 1.0, 1.3]
    assert [verdict(gaps, comparisons) for comparisons in (1, 3)] == ["worse", "not told apart"]


def test_an_objective_that_diverged_under_a_seed_is_not_the_best(runs: Runs) -> None:
    found = families(PAIR, 12.0)
    while plans := missing(found, runs):
        for plan in plans:
            diverges = "tau=1," in plan.objective and plan.seed == SEEDS[1]
            runs.add(plan, {"diverged": "Training diverged."} if diverges else made_up(plan))
    text = "\n".join(section(PAIR, runs))
    assert "learning rates: `kd:tau=1`" not in text
    assert "`kd:tau=1` (1 diverged)" in text


def test_candidates_are_chosen_by_the_seeds_that_all_have(runs: Runs) -> None:
    family = families(PAIR, 12.0)[0]
    rows = [[{"seed": 1, "val_nll": 4.0}, {"seed": 2, "val_nll": 5.0}], [{"seed": 1, "val_nll": 4.1}]]
    results = [Reported(family, name, 1e-3, each, 0) for name, each in zip("ab", rows, strict=True)]
    best = chosen(results)
    assert best is not None
    assert best.objective == "a"


def test_a_rate_at_the_edge_of_the_grid_is_marked(runs: Runs) -> None:
    found = families(PAIR, 12.0)
    while plans := missing(found, runs):
        for plan in plans:
            runs.add(plan, made_up(plan) | {"val_nll": 4 - plan.learning_rate})
    assert "| 0.003 (edge of the grid) |" in "\n".join(section(PAIR, runs))


def test_the_same_documents_are_drawn_every_time() -> None:
    documents = [Document(f"{number}", "x" * (number + 1)) for number in range(100)]
    chosen = drawn(documents, 500)
    assert chosen == drawn(documents, 500)
    assert 500 <= sum(len(one.text) for one in chosen) < 600
    assert [one.name for one in chosen] != sorted((one.name for one in chosen), key=int)


def test_a_run_is_one_of_the_engine_and_goes_on(tmp_path: Path) -> None:
    model = save_tiny_model(tmp_path / "model")
    generator = np.random.default_rng(0)
    pair = replace(PAIR, teacher=str(model), student=str(model), length=16, train_rows=8)
    work = tmp_path / "work"
    work.mkdir()
    for split in pair.characters:
        words = (f"w{number}" for number in generator.integers(20, WORDS, 200))
        (work / f"{split}.jsonl").write_text(json.dumps({"text": " ".join(words)}) + "\n")
    trainer = Trainer(pair, work)
    before = trainer.untrained()
    trainer.check(before)
    with pytest.raises(CistError, match="another teacher"):
        trainer.check({**before, "teacher_sha256": "0"})
    with pytest.raises(CistError, match=r"other constants than those in claim_language\.py"):
        Trainer(replace(pair, epochs=3), work).check(before)
    test = work / "test.jsonl"
    whole = test.read_bytes()
    test.write_bytes(whole + b"\n")
    with pytest.raises(CistError, match="other test texts than those in"):
        trainer.check(before)
    test.write_bytes(whole)
    by_seed = [trainer.config(Plan(BESIDE, HARD_LABELS, 1e-3, seed)) for seed in (1, 2)]
    assert len({config.data.split_seed for config in by_seed}) == len({config.teacher.cache for config in by_seed}) == 2
    assert before["test_agreement"] == 1.0
    assert before["test_nll"] == before["teacher_nll"]
    plan = Plan(BESIDE, HARD_LABELS, 1e-3, 1)
    found = trainer.train(plan)
    assert found["test_nll"] != before["test_nll"]
    assert found["test_nll_at_best"] > 0
    assert not list((work / "runs").iterdir())
    directory = work / "runs" / f"{plan.setting} {plan.objective} {plan.learning_rate:g} {plan.seed}"
    train(trainer.config(plan), directory)  # finished, but killed before its line was written
    assert trainer.train(plan) == {**found, "cpu_seconds": pytest.approx(found["cpu_seconds"], abs=60)}


def test_a_student_is_cut_from_the_layers_of_its_teacher_and_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = save_tiny_model(tmp_path / "model", "llama")
    pair = replace(PAIRS["smollm2"], teacher=str(model), length=16, train_rows=4)
    work = tmp_path / "work"
    work.mkdir()
    for split in pair.characters:
        lines = [json.dumps({"text": " ".join(["w5 w7 w5 w9"] * 5)}) + "\n" for _ in range(40)]
        (work / f"{split}.jsonl").write_text("".join(lines))
    monkeypatch.setattr(claim_language, "CUT_LAYERS", (-1,))
    monkeypatch.setattr(claim_language, "CUT_LEARNING_RATE", 1e-2)
    monkeypatch.setattr(claim_language, "CUT_ROWS", 40)
    trainer = Trainer(pair, work)
    before = trainer.untrained()
    student, teacher = open_language_model(trainer.student), open_language_model(str(model))
    assert (student.network.config.num_hidden_layers, teacher.network.config.num_hidden_layers) == (1, 2)
    cut = open_language_model(str(work / "cut")).network.model
    assert all(
        value.equal(teacher.network.model.layers[1].state_dict()[name])
        for name, value in cut.layers[0].state_dict().items()
    )
    rows = load_rows(trainer.config(Plan(BESIDE, HARD_LABELS, 1e-3, 1)).data, teacher).by_split["test"]
    assert before["test_nll"] < score_texts(open_language_model(str(work / "cut")), rows).nll
    assert Trainer(pair, work).student == trainer.student  # not trained twice
