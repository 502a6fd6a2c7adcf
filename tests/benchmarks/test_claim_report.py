"""The report of the claim, from runs that were made up."""

import json
from dataclasses import replace
from pathlib import Path

import claim
import claim_objectives
import claim_report
import numpy as np
import pytest
import torch
from claim_factorial import FACTORIALS, factorial_plans
from claim_search import Runs
from claim_settings import SETTINGS
from students import Lesson, Plan

from cist_core.compare.evidence import parse_evidence
from cist_core.objectives import objective_names


def noise(classes: int) -> Lesson:
    logits = 5 * torch.randn(300, classes, generator=torch.Generator().manual_seed(0))
    labels = logits.argmax(1)
    return Lesson(logits, labels, logits, (logits, labels), (logits, labels))


@pytest.fixture
def pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_objectives: None) -> Path:
    """Where the report goes, and lessons that need no images; the claim's own objectives are known meanwhile."""
    claim_objectives.register()
    (tmp_path / "claim.md").write_text(f"Before.\n\n{claim_report.START}\nold\n{claim_report.END}\n\nAfter.\n")
    for name, path in (("PAGE", "claim.md"), ("FIGURES", "figures"), ("EVIDENCE", "evidence.json")):
        monkeypatch.setattr(claim_report, name, tmp_path / path)
    for name, setting in SETTINGS.items():
        classes = 10 if name in ("digits", "cifar10-test") else 100
        monkeypatch.setitem(SETTINGS, name, replace(setting, lesson=lambda images, classes=classes: noise(classes)))
    return tmp_path


def row_of(name: str, plan: Plan) -> dict[str, object]:
    """CIST is better than the rest by two points, whatever the seed; WTTM was trained on another device."""
    accuracy = 0.40 + 0.02 * plan.objective.startswith("cist:") + 0.001 * (plan.seed % 3)
    accuracy -= 0.01 * abs(np.log2(plan.learning_rate / 0.1))
    row = {"setting": name, "objective": plan.objective, "learning_rate": plan.learning_rate, "seed": plan.seed}
    row["device"] = "cpu" if plan.objective.startswith("wttm") else "a GPU"
    measures = ("test_accuracy", "test_nll", "test_nll_fitted", "test_ece", "test_ece_fitted", "student_maximum")
    return row | {"val_accuracy": round(accuracy, 4)} | {measure: round(accuracy, 4) for measure in measures}


def fill(runs: Runs, *names: str) -> None:
    for name in names:
        for plans in claim.stages(name, runs):
            runs.add(row_of(name, plan) for plan in plans)


def test_the_claims_own_objectives_are_not_among_the_librarys() -> None:
    assert "cist-teacher-only" not in objective_names()


def test_a_report_of_no_runs_says_that_all_is_open(pages: Path) -> None:
    claim_report.write_report(Runs(pages / "runs.jsonl"), None)
    text = (pages / "claim.md").read_text()
    assert text.startswith("Before.")
    assert text.endswith("After.\n")
    assert "\nold\n" not in text
    assert all(setting.title in text for setting in SETTINGS.values())
    assert json.loads((pages / "evidence.json").read_text()) == []


def test_the_report_compares_with_kd_seed_by_seed_and_names_what_is_open(
    pages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = Runs(pages / "runs.jsonl")
    fill(runs, "cifar100-10k")
    claim_report.write_report(runs, None)
    text = (pages / "claim.md").read_text()
    (cist,) = [line for line in text.splitlines() if line.startswith("| CIST | ")]
    assert "+2.0 ± 0.0" in cist
    assert [line.split(" | ")[0] for line in text.splitlines() if "†" in line and line.startswith("|")] == ["| WTTM †"]
    (kd,) = [line for line in text.splitlines() if line.startswith("| KD | ")]
    assert "limit of" not in kd
    monkeypatch.setitem(claim_report.LIMITS, "learning_rate", (0.1, 1.6))
    claim_report.write_report(runs, None)
    assert ", learning rate 0.1 (limit of learning rate) |" in (pages / "claim.md").read_text()
    table = text.split("### Still open")[0]
    assert "| open | open | open | open |" in table  # of the factorial
    assert "ResNet-8, 15 epochs: combinations of the parts of CIST" in text.split("### Still open")[1]
    (evidence,) = parse_evidence(json.loads((pages / "evidence.json").read_text()))
    best = evidence.best("cist")
    assert best is not None
    assert evidence.classes == 100
    assert 0 < best.low <= best.target <= best.high < 1
    assert (pages / "figures" / "claim-methods.svg").is_file()
    assert (pages / "figures" / "claim-entropy.svg").is_file()


def test_runs_of_another_device_are_compared_with_those_that_kd_has_there(pages: Path) -> None:
    """On the CPU everything is a point better than on the GPU; WTTM has been trained there only."""
    runs = Runs(pages / "runs.jsonl")
    fill(runs, "cifar100-10k")
    kd = claim_report.reported(runs, "cifar100-10k")["kd"].rows
    runs.add(row | {"device": "cpu", "test_accuracy": row["test_accuracy"] + 0.01} for row in kd)
    for again in (runs, Runs(pages / "runs.jsonl")):  # as they are told and as they are read
        claim_report.write_report(again, None)
        lines = (pages / "claim.md").read_text().splitlines()
        (wttm,) = [line for line in lines if line.startswith("| WTTM")]
        (once_more,) = [line for line in lines if line.startswith("| KD, once more on a CPU | ")]
        assert "†" not in "".join(line for line in lines if line.startswith("|"))
        assert "| -1.0 ± 0.0 |" in wttm
        assert "| 41.1 ± 0.1 |  |" in once_more


def test_nothing_is_open_once_everything_is_trained(pages: Path) -> None:
    runs = Runs(pages / "runs.jsonl")
    fill(runs, *SETTINGS)
    for factorial in FACTORIALS.values():
        plans = factorial_plans(runs, factorial, noise(100))
        # Four weights lambda_KL; both floors are one run where they leave the matched temperature.
        assert len(plans) in {len(factorial.seeds) * 4 * (fixed + 4 + 4) for fixed in (1, 2)}
        runs.add(row_of(factorial.setting, plan) for plan in plans)
    claim_report.write_report(runs, None)
    text = (pages / "claim.md").read_text()
    assert "| open" not in text
    assert "Nothing." in text
    assert {path.name for path in (pages / "figures").glob("claim-factorial*")} == {
        "claim-factorial.svg",
        "claim-factorial-features.svg",
    }
    combinations = [line.split(" | ")[:3] for line in text.splitlines() if line.startswith("| one ")]
    assert all(combinations.count(combination) == len(FACTORIALS) for combination in combinations)


def test_a_run_says_what_it_waits_for(pages: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trainer = claim.Trainer(Runs(pages / "runs.jsonl"), None, "cpu", 1, 0.0)
    claim.run(["jitter-1", "factorial"], trainer)
    said = capsys.readouterr().out
    assert [line.partition(" ")[0] for line in said.splitlines() if "waits for" in line] == ["jitter-1", "factorial"]


def test_the_evidence_compares_rules_that_had_the_same_chances(pages: Path) -> None:
    """A rho that was tried at more learning rates than the others does not look better for it."""
    runs = Runs(pages / "runs.jsonl")
    for rho, lambda_kl, rate, accuracy in (
        (2, 2, 0.1, 0.40),
        (3, 2, 0.1, 0.41),
        (3, 2, 0.4, 0.60),
        (3, 4, 0.1, 0.42),
        (4, 2, 0.1, 0.42),
        (4, 4, 0.1, 0.43),
    ):
        plan = claim.plan("cifar100-10k", f"cist:rho={rho},lambda_kl={lambda_kl}", rate, 0)
        runs.add([row_of("cifar100-10k", plan) | {"val_accuracy": accuracy}])
    (evidence,) = parse_evidence([claim_report.evidence_of(runs, "cifar100-10k", None)])
    found = {point.rule: (point.accuracy, point.runs) for point in evidence.points}
    assert found == {"cist:rho=2": (0.40, 1), "cist:rho=3": (0.41, 1), "cist:rho=4": (0.42, 1)}
    claim_report.write_report(runs, None)
    assert json.loads((pages / "evidence.json").read_text()) == []  # the searches have not ended
