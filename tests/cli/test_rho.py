"""`cist rho`: its numbers against SciPy and against Python, what it says, and how it refuses."""

import json
import math
import re
import subprocess
import sys

import numpy as np
import pytest
from command_line import run
from reference import centred_maximum, entropy_at, entropy_at_cist, entropy_at_ratio

from cist_core import EntropyCurves, LogitSet, read_logits
from cist_core.cli import build_parser, rho
from cist_core.compare.anchors import ANCHORS, find_anchors
from cist_core.compare.evidence import evidence_for
from cist_core.compare.recommendation import recommend_rho, rho_outcome
from cist_core.inference.sources import load_logits
from cist_core.training.fields import flat


@pytest.fixture(autouse=True)
def folders(monkeypatch, tmp_path):
    monkeypatch.setenv("CIST_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CIST_DATA", str(tmp_path / "data"))
    monkeypatch.delenv("CIST_SAMPLE_MODELS", raising=False)


@pytest.fixture
def student_file(tmp_path, logits):
    path = tmp_path / "student.npy"
    np.save(path, 0.5 * logits + np.random.default_rng(1).normal(size=logits.shape).astype(np.float32))
    return str(path)


OWN = ["--target", "0.25", "--range", "0.15", "0.55"]
"""A mean entropy and a range of one's own."""


def record_of(capsys, *arguments):
    code, out, err = run(capsys, "rho", *arguments, "--json")
    assert code == 0, err
    return json.loads(out)


@pytest.mark.parametrize("options", [[], ["--floor", "0"], ["--floor", "0.5"]])
def test_the_numbers_are_those_of_scipy_and_of_python(capsys, tmp_path, logits, options):
    logits, file, floor = 4 * logits, tmp_path / "sharp.npy", float([*options, "1"][1 if options else 0])
    np.save(file, logits)
    record = record_of(capsys, "--logits", file, *OWN, *options)
    under_cist, under_tau = entropy_at_cist(logits, record["rho"], floor), entropy_at(logits, record["matched_tau"])
    assert under_cist.mean() == pytest.approx(0.25 * math.log(10), abs=1e-4)
    assert under_tau.mean() == pytest.approx(record["target_entropy"], abs=1e-4)
    assert [entropy_at_cist(logits, end, floor).mean() / math.log(10) for end in record["band"]] == pytest.approx(
        [0.55, 0.15], abs=1e-4
    )
    assert (record["floor"], record["cist"]["samples_at_floor"]) == (
        floor,
        np.sum(centred_maximum(logits) < record["rho"] * floor),
    )
    assert record["std_cist"] == pytest.approx(under_cist.std(), abs=1e-4)
    assert record["std_fixed"] == pytest.approx(under_tau.std(), abs=1e-4)
    assert record["gain"] == pytest.approx(under_tau.std() / under_cist.std(), rel=1e-3)
    curves = EntropyCurves.from_logits(read_logits(file))
    found = recommend_rho(curves, target=0.25, low=0.15, high=0.55, floor=floor)
    anchors = [anchor.to_dict() for anchor in find_anchors(curves, floor=floor)]
    assert record.pop("source")["samples"] == 300
    assert record == json.loads(json.dumps({**found.to_dict(), "anchors": anchors}))


@pytest.mark.parametrize(("name", "tau"), [("kd-tau-4", 4), ("kd-tau-1", 1)])
def test_an_anchor_by_name_has_its_mean_entropy(capsys, file, logits, name, tau):
    record = record_of(capsys, "--logits", file, "--anchor", name, "--floor", 0)
    assert record["anchor"]["key"] == name
    assert entropy_at_ratio(logits, record["rho"]).mean() == pytest.approx(entropy_at(logits, tau).mean(), abs=1e-4)
    assert record["band"] is None


def test_the_text_lists_the_anchors_marks_one_and_says_where_it_comes_from(capsys, file):
    code, out, err = run(capsys, "rho", "--logits", file, "--anchor", "authors", "--floor", 2)
    assert (code, err) == (0, "")
    assert "lhchau/element-wise-kd" in out
    assert re.search(r"^\* authors +as the authors: ρ = 3 +3\.00 ", out, re.MULTILINE)
    assert re.search(r"^  kd-tau-4 +as KD at τ = 4 +\d", out, re.MULTILINE)
    assert re.search(r"^  kd-tau-1 +as KD at τ = 1 +- ", out, re.MULTILINE)
    assert "  kd-tau-1: No rho gives these samples a mean entropy of" in out


def test_what_trained_best_says_how_much_evidence_there_is(capsys, tmp_path):
    """Of 100 classes there is evidence."""
    np.save(tmp_path / "rows.npy", 5 * np.random.default_rng(0).normal(size=(40, 100)))
    code, out, err = run(capsys, "rho", "--logits", tmp_path / "rows.npy")
    best = evidence_for(100).best()
    assert (code, err) == (0, "")
    assert "at the mean entropy that trained best in our runs" in out
    assert f"from {best.runs} runs with {best.classes} classes; " in out
    assert "docs/claim.md" in out
    record = record_of(capsys, "--logits", tmp_path / "rows.npy")
    assert record["target_normalised_entropy"] == best.target
    assert record["anchor"]["evidence"]["setting"] == best.setting


def test_the_help_lists_every_anchor(capsys):
    with pytest.raises(SystemExit):
        build_parser().parse_args(["rho", "--help"])
    shown = capsys.readouterr().out
    assert all(name in shown for name in ANCHORS)


def test_target_range_and_thresholds_are_passed_on(capsys, file, logits):
    given = ["--target", 0.4, "--range", 0.2, 0.6, "--over-sharp", 0.3, "--floor", 0]
    record = record_of(capsys, "--logits", file, *given)
    assert entropy_at_ratio(logits, record["rho"]).mean() / math.log(10) == pytest.approx(0.4, abs=1e-4)
    assert record["range_normalised_entropy"] == [0.2, 0.6]
    share = entropy_at_ratio(logits, record["rho"]) / math.log(10)
    assert record["cist"]["over_sharp"] == pytest.approx(np.mean(share < 0.3), abs=0.004)


def test_two_temperatures_can_name_the_range(capsys, file, logits):
    record = record_of(capsys, "--logits", file, "--tau-range", 1, 3)
    assert record["tau_band"] == [1.0, 3.0]
    assert record["range_entropy"] == pytest.approx(
        [entropy_at(logits, 1).mean(), entropy_at(logits, 3).mean()], abs=2e-4
    )


def test_a_real_teacher(capsys, shared_file):
    """tau 4 on CIFAR-10 stands beside rho 4.19, with spreads 0.459 and 0.157 and a gain of 2.9, floor or not."""
    path = shared_file("cifar10_resnet56_test_logits.npz")
    record = record_of(capsys, "--logits", path, "--target", 0.26006)
    assert record["matched_tau"] == pytest.approx(4, abs=0.01)
    assert record["rho"] == pytest.approx(4.19, abs=0.01)
    assert record["std_fixed"] == pytest.approx(0.459, abs=0.002)
    assert record["std_cist"] == pytest.approx(0.157, abs=0.002)
    assert record["gain"] == pytest.approx(2.9, abs=0.06)


def test_the_text_recommends_compares_and_turns_against_cist(capsys, shared_file):
    path = shared_file("imagenet1k_sample_efflite0_logits.npz")
    code, out, err = run(capsys, "rho", "--logits", path, *OWN)
    assert (code, err) == (0, "")
    assert "1,000 samples, 1,000 classes, accuracy 88.3 %" in out
    assert "Recommended: ρ = 9.69. It matches τ = 1.06 (mean 1.73 nats, 25 % of ln C)." in out
    assert " ρ from 7.31 up stays in your range.\n" in out
    assert re.search(r"^teacher  tau=1\.06 +1\.73 +1\.29 .* -$", out, re.MULTILINE)
    assert re.search(r"^teacher  cist:rho=9\.694 +1\.73 +0\.996 .* 40\.6 %$", out, re.MULTILINE)
    assert "\nThe floor of 1 holds on 40.6 % of the samples: there CIST is KD at τ = 1.\n" in out
    assert re.search(r"^\* +25 % +9\.69 +1\.06 .* 1\.30  █+$", out, re.MULTILINE)
    assert "\n*    15 %" not in out
    assert re.search(r"^   +95 % .* 1\.68  █+$", out, re.MULTILINE)
    assert "The floor of 1 keeps the mean entropy under CIST above 20.7 % of ln C; between there and 55 %" in out
    assert out.endswith("above 98.2 % it is the less consistent one.\n")


def test_without_a_floor_the_gain_of_the_same_teacher_is_larger(capsys, shared_file):
    path = shared_file("imagenet1k_sample_efflite0_logits.npz")
    code, out, err = run(capsys, "rho", "--logits", path, "--floor", 0, *OWN)
    assert (code, err) == (0, "")
    assert "Recommended: ρ = 9.18. It matches τ = 1.06 (mean 1.73 nats, 25 % of ln C)." in out
    assert re.search(r"^teacher  cist:rho=9\.184,floor=0 +1\.73 +0\.467 .* 0 %$", out, re.MULTILINE)
    assert re.search(r"^\* +25 % +9\.18 +1\.06 .* 2\.76  █+$", out, re.MULTILINE)
    assert re.search(r"^\* +15 % ", out, re.MULTILINE)
    assert "\nWithout a floor every sample has the ratio ρ.\n" in out


def test_lines_on_which_cist_is_the_less_consistent_one_say_so(capsys, tmp_path):
    """Half of the rows have a tie at the top, and the temperatures suit each row already."""
    one = np.array([6.0, 0, 0, 0, 0, 0, 0, 0])
    two = np.array([5.0, 5.0, 0, 0, 0, 0, 0, 0])
    np.save(tmp_path / "rows.npy", np.array([one, two] * 10))
    curves = EntropyCurves.from_logits(read_logits(tmp_path / "rows.npy"))
    _, out, _ = run(capsys, "rho", "--logits", tmp_path / "rows.npy", "--target", 0.4, "--range", 0.3, 0.9)
    for line in out.splitlines():
        numbers = re.match(r"^[* ] +(\d+) % +(\S+)", line)
        if numbers:
            gain = rho_outcome(curves, float(numbers[2])).gain
            assert line.endswith("█ CIST is the less consistent one") is (gain < 0.99)
    assert "CIST is the less consistent one" in out


@pytest.mark.parametrize("as_file", [True, False])
def test_the_student_stands_at_the_rho_of_the_teacher(capsys, file, student_file, as_file):
    if as_file:
        arguments = ["--logits", file, "--student", student_file]
        teacher, student = read_logits(file), read_logits(student_file)
    else:
        arguments = ["--teacher", "mnist5k-cnn", "--data", "mnist-5k", "--student", "mnist5k-cnn-small"]
        teacher, student = (load_logits(name, "mnist-5k").logit_set for name in ("mnist5k-cnn", "mnist5k-cnn-small"))
    record = record_of(capsys, *arguments)
    assert record["rho"] == recommend_rho(EntropyCurves.from_logits(teacher)).rho
    entropy = entropy_at_cist(student.logits, record["rho"])
    assert (record["student"]["rho"], record["student"]["floor"]) == (record["rho"], 1.0)
    floored = np.sum(centred_maximum(student.logits) < record["rho"])
    assert record["student"]["cist"]["samples_at_floor"] == floored
    assert record["student"]["mean_entropy"] == pytest.approx(entropy.mean(), abs=2e-4)
    assert record["student"]["std_cist"] == pytest.approx(entropy.std(), abs=2e-4)
    assert entropy_at(student.logits, record["student"]["matched_tau"]).mean() == pytest.approx(
        entropy.mean(), abs=2e-4
    )
    code, out, _ = run(capsys, "rho", *arguments)
    assert code == 0
    assert len(re.findall("^student  ", out, re.MULTILINE)) == 2
    assert re.search(r"^The floor of 1 holds on .* of the samples for the teacher and on .* for the student", out, re.M)


def test_a_file_of_student_logits_beside_a_named_teacher(capsys, tmp_path):
    student = load_logits("mnist5k-cnn-small", "mnist-5k").logit_set
    student.save(tmp_path / "student.safetensors")
    arguments = ["--teacher", "mnist5k-cnn", "--data", "mnist-5k", "--student"]
    by_name = record_of(capsys, *arguments, "mnist5k-cnn-small")
    by_file = record_of(capsys, *arguments, tmp_path / "student.safetensors")
    ours, theirs = (
        {name: value for name, value in flat(record["student"]).items() if isinstance(value, float)}
        for record in (by_file, by_name)
    )
    assert ours == pytest.approx(theirs, rel=1e-6)
    assert len(ours) > 5


def test_the_config_trains_with_this_rho(capsys, tmp_path):
    from cist_core.training import load_config

    arguments = ["--teacher", "mnist5k-mlp", "--data", "mnist-5k", "--config", tmp_path / "run.json"]
    code, _, err = run(capsys, "rho", *arguments)
    assert code == 0
    assert f"next: cist distill {tmp_path / 'run.json'}" in err
    config = load_config(tmp_path / "run.json")
    wanted = recommend_rho(EntropyCurves.from_logits(load_logits("mnist5k-mlp", "mnist-5k").logit_set)).rho
    assert config.objective.parameters["rho"] == pytest.approx(wanted, rel=1e-3)
    assert config.objective.parameters["floor"] == 1
    assert (config.teacher.name, config.data.name) == ("mnist5k-mlp", "mnist-5k")
    run(capsys, "rho", *arguments, "--floor", 0)
    assert load_config(tmp_path / "run.json").objective.parameters["floor"] == 0


def test_rows_without_a_spread_have_dashes_and_nulls(capsys, tmp_path):
    np.save(tmp_path / "two.npy", np.random.default_rng(0).normal(size=(50, 2)) * 3)
    assert record_of(capsys, "--logits", tmp_path / "two.npy", "--floor", 0, *OWN)["gain"] is None
    _, out, _ = run(capsys, "rho", "--logits", tmp_path / "two.npy", "--floor", 0, *OWN)
    assert re.search(r"^\* +25 % .* -$", out, re.MULTILINE)
    assert "CIST gives every sample the same entropy; at the fixed temperature of the same mean they vary by" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Expected either --logits FILE, or --teacher NAME with --data NAME."),
        (["--logits", "FILE", *OWN[2:], "--target", "0.9"], "The target 0.9 lies outside the range 0.15 to 0.55"),
        (["--logits", "FILE", "--anchor", "moon"], "argument --anchor: invalid choice: 'moon'"),
        (["--logits", "FILE", "--anchor", "kd-tau-4", "--target", "0.5"], "or the target 0.5, but got both"),
        (["--logits", "FILE", "--anchor", "own"], "Expected a target or a range with the anchor 'own'"),
        (["--logits", "FILE", "--anchor", "kd-tau-1", "--floor", "2"], "its floor of 2; choose a smaller floor"),
        (["--logits", "FILE", "--range", "0.6", "0.2"], "0 <= low < high <= 1"),
        (["--logits", "FILE", "--tau-range", "4", "1"], "the smaller of two different temperatures first"),
        (["--logits", "FILE", "--tau-range", "-4", "1"], "to be a positive number"),
        (["--logits", "FILE", "--range", "0.2", "0.6", "--tau-range", "1", "4"], "not allowed with argument --range"),
        (["--logits", "FILE", "--over-sharp", "0.9", "--over-smoothed", "0.5"], "Expected 0 <= --over-sharp <"),
        (["--logits", "FILE", "--config", "run.json"], "Expected --config only together with --teacher and --data"),
        (["--logits", "FILE", "--student", "none.npz"], "There is no file none.npz."),
        (
            ["--logits", "FILE", "--student", "OTHER"],
            "to have logits of the teacher's 300 samples and 10 classes, but they have 3 samples and 4 classes",
        ),
        (["--teacher", "mnist5k-cnn", "--data", "mnist-5k", "--student", "nobody"], "There is no teacher 'nobody'"),
        (["--logits", "CONSTANT"], "tied or constant logits keep their entropy"),
        (["--logits", "FILE", "--floor", "-1"], "Expected floor of the rule 'cist' to be 0 or a positive number"),
        (["--logits", "FILE", "--target", "0.25"], "choose a smaller floor, or a larger mean entropy"),
    ],
)
def test_it_refuses_with_one_sentence(capsys, tmp_path, file, arguments, message):
    np.save(tmp_path / "other.npy", np.random.default_rng(0).normal(size=(3, 4)))
    np.save(tmp_path / "constant.npy", np.ones((3, 4)))
    names = {"FILE": file, "OTHER": str(tmp_path / "other.npy"), "CONSTANT": str(tmp_path / "constant.npy")}
    code, out, err = run(capsys, "rho", *(names.get(argument, argument) for argument in arguments))
    assert (code, out) == (2, "")
    assert message in err
    assert err.startswith("cist") or "CONSTANT" in arguments  # constant rows are remarked on first
    assert err.endswith(".\n")
    assert "Traceback" not in err


def test_the_examples_of_the_help_parse():
    examples = [line.split("   ")[0].split() for line in rho.EXAMPLES.splitlines() if line.startswith("  cist ")]
    assert len(examples) == 7
    for example in examples:
        assert build_parser().parse_args(example[1:]).run is rho.run


def test_a_file_is_read_without_torch(file):
    code = (
        "import sys\nfrom cist_core.cli import main\n"
        f"main(['rho', '--logits', {file!r}])\nsys.exit(int('torch' in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, timeout=120).returncode == 0


def test_logits_in_memory_and_in_a_file_agree(capsys, file, logits):
    found = recommend_rho(EntropyCurves.from_logits(LogitSet.create(logits)))
    assert record_of(capsys, "--logits", file)["rho"] == pytest.approx(found.rho, rel=1e-4)
