"""The command line: every command, every way to misuse it, and the numbers against SciPy."""

import io
import json
import os
import re
import shlex
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from command_line import run
from reference import centred_maximum, entropy_at, entropy_at_cist

from cist_core import CistError, EntropyCurves, LogitSet, __version__, matched_pair, read_logits
from cist_core.cli import analyze, build_parser, convert, infer
from cist_core.cli.output import ProgressBar, print_json, table
from cist_core.compare.anchors import default_anchor
from cist_core.compare.evidence import evidence_for
from cist_core.errors import CistWarning
from cist_core.objectives import objective_names
from cist_core.wording import percent

SAMPLE_MODELS = Path(__file__).resolve().parents[2] / "sample_models"
PROFILE_KEYS = {"rule", "mean", "std", "q05", "q25", "median", "q75", "q95", "over_sharp", "over_smoothed", "tau_mean"}
PROFILE_KEYS |= {"at_floor", "samples_at_floor"}


@pytest.fixture(autouse=True)
def folders(monkeypatch, tmp_path):
    """No test sees or leaves anything in the user's folders, nor finds a real download there."""
    monkeypatch.setenv("CIST_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CIST_DATA", str(tmp_path / "data"))
    monkeypatch.delenv("CIST_SAMPLE_MODELS", raising=False)


def run_json(capsys, *arguments):
    code, out, err = run(capsys, *arguments, "--json")
    assert code == 0, err
    return json.loads(out), err


# ---- analyze ---------------------------------------------------------------------------------------------------------


def test_the_profiles_are_those_of_scipy(capsys, file, logits):
    record, err = run_json(capsys, "analyze", "--logits", file, "--tau", 1, 2.5, "--rho", 3, "--rule", "lskd:tau=2")
    assert err == ""
    assert {"samples", "classes", "accuracy", "profiles"} <= set(record)
    assert (record["samples"], record["classes"]) == (300, 10)
    assert [profile["rule"] for profile in record["profiles"]] == ["tau=1", "tau=2.5", "cist:rho=3", "lskd:tau=2"]
    expected = [
        entropy_at(logits, 1),
        entropy_at(logits, 2.5),
        entropy_at_cist(logits, 3),
        entropy_at(logits, 2 * logits.astype(np.float64).std(axis=1, ddof=1)),
    ]
    for profile, entropy in zip(record["profiles"], expected, strict=True):
        assert set(profile) >= PROFILE_KEYS
        assert profile["mean"] == pytest.approx(entropy.mean(), abs=1e-4)
        assert profile["std"] == pytest.approx(entropy.std(), abs=1e-4)
        for key, share in (("q05", 5), ("q25", 25), ("median", 50), ("q75", 75), ("q95", 95)):
            assert profile[key] == pytest.approx(np.percentile(entropy, share), abs=1e-4)
        assert profile["over_sharp"] == pytest.approx(np.mean(entropy < 0.05 * np.log(10)), abs=0.004)
        assert profile["over_smoothed"] == pytest.approx(np.mean(entropy > 0.95 * np.log(10)), abs=0.004)
    assert record["profiles"][1]["tau_mean"] == pytest.approx(2.5)


def test_the_share_at_the_floor_is_in_the_record(capsys, file, logits):
    record, _ = run_json(capsys, "analyze", "--logits", file, "--rule", "tau=1", "cist:rho=3", "cist:rho=3,floor=0.5")
    fixed, *cist = record["profiles"]
    assert (fixed["at_floor"], fixed["samples_at_floor"]) == (0, 0)
    assert "floor" not in fixed
    for profile, floor in zip(cist, (1.0, 0.5), strict=True):
        count = int(np.sum(centred_maximum(logits) < 3 * floor))
        assert 0 < count < 300
        assert (profile["floor"], profile["samples_at_floor"]) == (floor, count)
        assert profile["at_floor"] == pytest.approx(count / 300)
        assert "student_at_floor" not in profile


def test_the_share_at_the_floor_is_told_of_teacher_and_student(capsys, file, logits, tmp_path):
    np.save(tmp_path / "student.npy", logits / 2)
    arguments = ["--logits", file, "--student", tmp_path / "student.npy", "--tau", 2, "--rho", 3]
    record, _ = run_json(capsys, "analyze", *arguments)
    teacher, student = (np.mean(centred_maximum(rows) < 3) for rows in (logits, logits / 2))
    assert record["profiles"][1]["student_at_floor"] == pytest.approx(student)
    assert record["profiles"][1]["student_samples_at_floor"] == round(300 * student)
    assert record["profiles"][0]["student_at_floor"] == 0
    _, out, _ = run(capsys, "analyze", *arguments)
    assert out.endswith(
        f"The floor of 1 holds on {percent(teacher)} of the samples for the teacher and on {percent(student)} for the "
        "student; where it holds for both, CIST is KD at τ = 1.\n"
    )
    _, out, _ = run(capsys, "analyze", "--logits", file, "--tau", 2, "--rho", 3)
    assert out.endswith(f"The floor of 1 holds on {percent(teacher)} of the samples: there CIST is KD at τ = 1.\n")
    head, _, fixed, cist = out.split("\n\n")[2].splitlines()
    assert "at the floor" in head
    assert re.search(r"  -  +2\.00$", fixed)
    assert f"  {percent(teacher)}  " in cist


def test_without_rules_the_pair_is_matched_and_announced(capsys, tmp_path, logits):
    np.save(tmp_path / "sharp.npy", 4 * logits)
    file = tmp_path / "sharp.npy"
    anchor = default_anchor(EntropyCurves.from_logits(read_logits(file)))
    record, err = run_json(capsys, "analyze", "--logits", file)
    fixed, cist = record["profiles"]
    assert fixed["rule"].startswith("tau=")
    assert cist["rule"].startswith("cist:rho=")
    assert fixed["mean"] == pytest.approx(anchor.target * np.log(10), rel=0.01)
    assert cist["mean"] == pytest.approx(fixed["mean"], abs=1e-3)
    assert f"No rule was given: {fixed['rule']} and {cist['rule']} are the pair" in err
    assert f"% of ln C, {anchor.title}" in err
    share = float(re.search(r"whose mean entropy is ([\d.]+) %", err)[1]) / 100
    assert share == pytest.approx(fixed["normalised_mean"], abs=6e-4)


def test_without_rules_the_announcement_says_how_much_evidence_there_is(capsys, tmp_path):
    """Of 100 classes there is evidence."""
    np.save(tmp_path / "rows.npy", 5 * np.random.default_rng(0).normal(size=(40, 100)))
    _, err = run_json(capsys, "analyze", "--logits", tmp_path / "rows.npy")
    best = evidence_for(100).best()
    assert f"what trained best in our runs (from {best.runs} runs with {best.classes} classes; " in err


def test_rules_may_be_given_in_pieces_and_twice(capsys, file):
    arguments = ["--tau", 4, "--rule", "tau=4.0", "--tau", 2, "--rule", "normkd", "cist:rho=3", "--rho", 3]
    record, _ = run_json(capsys, "analyze", "--logits", file, *arguments)
    assert [profile["rule"] for profile in record["profiles"]] == ["tau=4", "tau=2", "cist:rho=3", "normkd:k=2"]


def test_thresholds_can_be_set(capsys, file, logits):
    arguments = ["--tau", 2, "--over-sharp", 0.2, "--over-smoothed", 0.5]
    record, _ = run_json(capsys, "analyze", "--logits", file, *arguments)
    share = entropy_at(logits, 2) / np.log(10)
    assert record["profiles"][0]["over_sharp"] == pytest.approx(np.mean(share < 0.2), abs=0.004)
    assert record["profiles"][0]["over_smoothed"] == pytest.approx(np.mean(share > 0.5), abs=0.004)


def test_the_table_of_a_real_teacher(capsys, shared_file):
    path = shared_file("cifar10_resnet56_test_logits.npz")
    code, out, err = run(capsys, "analyze", "--logits", path, "--tau", 4, "--rho", 4.187)
    assert (code, err) == (0, "")
    assert "10,000 samples, 10 classes, accuracy 93.4 %" in out
    assert "in nats (ln C = 2.30)" in out
    fixed = next(line for line in out.splitlines() if line.startswith("tau=4 "))
    assert fixed.split()[:3] == ["tau=4", "0.599", "0.459"]
    assert "CIST's entropies vary 2.9 times less than at τ = 4, at the same mean (0.599 nats)." in out
    table_lines = out.split("\n\n")[2].splitlines()
    assert len({len(line) for line in table_lines}) == 1, "the columns are not aligned"


def test_the_finding_turns_against_cist_where_the_data_do(capsys, shared_file):
    path = shared_file("imagenet1k_sample_efflite0_logits.npz")
    _, out, _ = run(capsys, "analyze", "--logits", path, "--tau", 4, "--rho", 2.4775)
    assert "CIST's entropies vary 1.2 times more than at τ = 4, at the same mean (" in out


def test_constant_rows_are_reported_and_harmless(capsys, tmp_path):
    np.save(tmp_path / "set.npy", np.array([[1.0, 1.0, 1.0], [4.0, 0.0, 1.0]]))
    arguments = ["--tau", 1, "--rho", 2, "--rule", "normkd", "lskd"]
    record, err = run_json(capsys, "analyze", "--logits", tmp_path / "set.npy", *arguments)
    assert "Samples whose logits are all equal: 1;" in err
    assert all(profile["q95"] <= np.log(3) + 1e-6 for profile in record["profiles"])


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".pt", ".csv", ".parquet", ".safetensors"])
def test_every_kind_of_file_gives_the_same_numbers(capsys, tmp_path, logits, suffix):
    path = tmp_path / f"set{suffix}"
    frame = pd.DataFrame(logits, columns=[f"c{index}" for index in range(10)])
    if suffix == ".npy":
        np.save(path, logits)
    elif suffix == ".npz":
        np.savez(path, logits=logits)
    elif suffix == ".pt":
        import torch

        torch.save(torch.from_numpy(logits), path)
    elif suffix == ".csv":
        frame.to_csv(path, index=False)
    elif suffix == ".parquet":
        frame.to_parquet(path)
    else:
        LogitSet.create(logits).save(path)
    record, _ = run_json(capsys, "analyze", "--logits", path, "--tau", 2)
    assert record["profiles"][0]["mean"] == pytest.approx(entropy_at(logits, 2).mean(), abs=1e-4)


def test_a_sample_teacher_on_the_bundled_data(capsys):
    record, _ = run_json(capsys, "analyze", "--teacher", "mnist5k-cnn", "--data", "mnist-5k", "--tau", 4)
    assert (record["samples"], record["classes"]) == (1000, 10)
    shipped = read_logits(SAMPLE_MODELS / "mnist5k-cnn/logits-mnist-5k-test.safetensors")
    assert record["profiles"][0]["mean"] == pytest.approx(entropy_at(shipped.logits, 4).mean(), abs=1e-4)


def test_a_report_is_written_beside_the_numbers(capsys, file, tmp_path):
    out = tmp_path / "new" / "report.html"
    record, err = run_json(capsys, "analyze", "--logits", file, "--tau", 2, "--rho", 3, "--out", out)
    assert len(record["profiles"]) == 2
    assert f"Wrote {out}." in err
    html = out.read_text(encoding="utf-8")
    assert html.lstrip().lower().startswith("<!doctype html>")
    assert "300 samples, 10 classes" in html
    assert "tau=2" in html or "τ = 2" in html


def test_the_report_says_which_of_several_rules_it_compares(capsys, file, tmp_path, logits):
    rho = f"{matched_pair(EntropyCurves.from_logits(LogitSet.create(logits)), tau=4).rho:.4g}"
    out = tmp_path / "report.html"
    for rhos, choice in (
        ([9, 12], "Compared: τ = 2 and CIST ρ = 9, the first of each kind, as none match."),
        ([9, rho], f"Compared: τ = 4 and CIST ρ = {rho}, the first two of the same mean entropy."),
    ):
        run_json(capsys, "analyze", "--logits", file, "--tau", 2, 4, "--rho", *rhos, "--out", out)
        assert choice in out.read_text(encoding="utf-8")
    run_json(capsys, "analyze", "--logits", file, "--tau", 2, "--rho", 9, "--out", out)
    assert "Compared:" not in out.read_text(encoding="utf-8")


def test_columns_that_are_no_classes_are_told(capsys, tmp_path):
    (tmp_path / "set.csv").write_text("id,a,b,filename\n1,0.5,2,x.png\n2,1.5,0.5,y.png\n")
    record, err = run_json(capsys, "analyze", "--logits", tmp_path / "set.csv", "--tau", 2)
    assert record["classes"] == 2
    assert err == "Columns that name the samples and are no classes: id, filename.\n"


def test_a_split_of_data_without_splits_is_refused(capsys, tmp_path):
    images = tmp_path / "images.npz"
    np.savez(images, images=np.zeros((4, 28, 28), np.uint8), labels=np.arange(4), classes=list("abcdefghij"))
    folder = tmp_path / "folder"
    for name in "ab":
        (folder / name).mkdir(parents=True)
    for data in (images, folder):
        source = ["--teacher", "mnist5k-mlp", "--data", data, "--split", "train"]
        for command in (["analyze", *source], ["infer", *source, "--out", tmp_path / "l.safetensors"]):
            code, _, err = run(capsys, *command)
            message = f"Expected --split only together with data that have splits, but got 'train' for {data}, which is"
            assert_refused(code, err, message)
    assert run_json(capsys, "analyze", "--teacher", "mnist5k-mlp", "--data", images)[0]["samples"] == 4


def test_a_warning_of_ours_is_a_remark_and_others_keep_their_form(capsys, monkeypatch, file):
    def warn(path, **options):
        warnings.warn("The copy is not whole.", CistWarning, stacklevel=1)
        warnings.warn("other", UserWarning, stacklevel=1)
        return read_logits(file)

    monkeypatch.setattr("cist_core.cli.loading.read_logits", warn)
    for _ in range(2):
        with pytest.warns(UserWarning, match="other"):
            _, err = run_json(capsys, "analyze", "--logits", file, "--tau", 2)
        assert err == "The copy is not whole.\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Expected either --logits FILE, or --teacher NAME with --data NAME."),
        (["--logits", "FILE", "--teacher", "mnist5k-cnn"], "Expected either --logits FILE, or --teacher NAME"),
        (["--logits", "FILE", "--data", "mnist-5k"], "Expected --data only together with --teacher"),
        (
            ["--logits", "FILE", "--split", "test"],
            "Expected --split only together with --teacher; a file of logits has",
        ),
        (["--logits", "FILE", "--arch", "vgg8"], "Expected --arch only together with --teacher"),
        (["--logits", "FILE", "--device", "auto"], "Expected --device only together with --teacher"),
        (["--logits", "FILE", "--precision", "float32"], "Expected --precision only together with --teacher"),
        (["--logits", "FILE", "--limit", "0"], "Expected --limit only together with --teacher"),
        (["--logits", "FILE", "--download"], "Expected --download only together with --teacher"),
        (
            ["--teacher", "mnist5k-cnn", "--data", "mnist-5k", "--arch", "vgg8"],
            "(--arch on the command line) only together with a checkpoint, but got 'vgg8' for 'mnist5k-cnn'",
        ),
        (["--teacher", "mnist5k-cnn"], "Expected --data NAME for the teacher 'mnist5k-cnn'; 'cist data' lists"),
        (["--teacher", "nobody", "--data", "mnist-5k"], "There is no teacher 'nobody'"),
        (["--teacher", "mnist5k-cnn", "--data", "nothing"], "There is no data set 'nothing'"),
        (["--teacher", "mnist5k-cnn", "--data", "mnist-5k", "--split", "half"], "has no split 'half'"),
        (["--teacher", "mnist5k-cnn", "--data", "mnist"], "'mnist' is not (or not completely) in"),
        (["--logits", "none.npz"], "There is no file none.npz."),
        (["--logits", "none.xyz"], "none.xyz has the ending '.xyz'; logits are read from"),
        (["--logits", "FILE", "--tau", "0"], "Expected tau of the rule 'fixed' to be a positive number, but got '0'"),
        (["--logits", "FILE", "--tau", "-1"], "Expected tau of the rule 'fixed' to be a positive number, but got '-1'"),
        (
            ["--logits", "FILE", "--tau", "four"],
            "Expected tau of the rule 'fixed' to be a positive number, but got 'four'",
        ),
        (
            ["--logits", "FILE", "--rho", "nan"],
            "Expected rho of the rule 'cist' to be a positive number, but got 'nan'",
        ),
        (["--logits", "FILE", "--rule", "softest"], "There is no temperature rule 'softest' in 'softest'; known are"),
        (["--logits", "FILE", "--rule", "matched:H=9"], "to be below ln C = 2.3026 nats for 10 classes"),
        (["--logits", "FILE", "--out", "report.pdf"], "Expected the report of --out to end in .html, but got"),
        (["--logits", "FILE", "--over-sharp", "0.9", "--over-smoothed", "0.5"], "Expected 0 <= --over-sharp <"),
        (["--logits"], "argument --logits: expected one argument; see 'cist analyze --help'."),
        (["--logits", "FILE", "--tau"], "argument --tau: expected at least one argument"),
        (["--logits", "FILE", "--over-sharp", "x"], "argument --over-sharp: invalid float value: 'x'"),
        (["--logit", "FILE"], "unrecognized arguments: --logit"),
    ],
)
def test_analyze_refuses_with_one_sentence(capsys, file, arguments, message):
    code, out, err = run(capsys, "analyze", *[argument.replace("FILE", file) for argument in arguments])
    assert_refused(code, err, message)
    assert out == ""


def test_a_report_that_cannot_be_written_is_one_sentence(capsys, file):
    code, out, err = run(capsys, "analyze", "--logits", file, "--tau", 2, "--out", f"{file}/report.html")
    assert_refused(code, err, "report cannot be written to")
    assert "tau=2" in out


def assert_refused(code, err, message):
    assert code == 2
    assert message in err
    assert err.startswith("cist")
    assert err.count("\n") == 1
    assert err.endswith((".\n", "?\n"))
    assert "Traceback" not in err


# ---- infer -----------------------------------------------------------------------------------------------------------


def test_infer_writes_what_analyze_reads(capsys, tmp_path):
    out = tmp_path / "logits.safetensors"
    arguments = ["infer", "--teacher", "mnist5k-mlp", "--data", "mnist-5k", "--limit", 200, "--out", out]
    record, err = run_json(capsys, *arguments)
    assert err == ""
    assert (record["samples"], record["classes"], record["cached"]) == (200, 10, False)
    assert record["samples_per_second"] > 0
    logit_set = read_logits(out)
    assert logit_set.provenance["teacher"] == "mnist5k-mlp"
    assert record["accuracy"] == logit_set.accuracy == pytest.approx(0.93, abs=0.07)
    assert record["nll"] == pytest.approx(logit_set.nll)
    assert run_json(capsys, "analyze", "--logits", out, "--tau", 2)[0]["samples"] == 200

    code, text, _ = run(capsys, *arguments)
    assert code == 0
    assert "200 samples, 10 classes, accuracy" in text
    assert "read from the cache" in text
    assert f"Wrote {out}; next: cist analyze --logits {out}" in text


def test_infer_agrees_with_the_shipped_logits(capsys, tmp_path):
    out = tmp_path / "logits.safetensors"
    run_json(capsys, "infer", "--teacher", "mnist5k-mlp", "--data", "mnist-5k", "--out", out, "--batch-size", 77)
    shipped = read_logits(SAMPLE_MODELS / "mnist5k-mlp/logits-mnist-5k-test.safetensors")
    computed = read_logits(out)
    np.testing.assert_array_equal(computed.labels, shipped.labels)
    np.testing.assert_allclose(entropy_at(computed.logits, 2), entropy_at(shipped.logits, 2), rtol=0, atol=2e-3)


def test_a_public_checkpoint_on_an_array_of_images(capsys, tmp_path, shared_file):
    arguments = [
        "infer",
        "--checkpoint",
        shared_file("resnet20-12fca82f.th"),
        "--data",
        shared_file("cifar10_test.npz"),
    ]
    arguments += ["--limit", 300, "--out", tmp_path / "logits.safetensors"]
    usual, _ = run_json(capsys, *arguments)
    assert usual["accuracy"] > 0.87
    named, _ = run_json(capsys, *arguments, "--arch", "resnet20-plain")
    assert named["cached"]
    black = ["--mean", 9, 9, 9, "--std", 0.2, 0.2, 0.2]
    other, _ = run_json(capsys, *arguments, *black)
    assert not other["cached"]
    assert other["accuracy"] < 0.5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: --data, --out; see 'cist infer --help'."),
        (["--data", "mnist-5k", "--out", "o.safetensors"], "one of the arguments --teacher --checkpoint is required"),
        (["--teacher", "a", "--checkpoint", "b", "--data", "c", "--out", "d"], "not allowed with argument --teacher"),
        (["--teacher", "mnist5k-mlp", "--data", "mnist-5k", "--out", "o.npz"], "Expected --out to end in .safetensors"),
        (
            ["--teacher", "x", "--data", "mnist-5k", "--out", "o.safetensors"],
            "There is no teacher 'x'; expected a sample model (",
        ),
        (
            ["--teacher", "mnist5k-mlp", "--data", "x", "--out", "o.safetensors"],
            "There is no data set 'x'; expected one",
        ),
        (["--checkpoint", "x.pt", "--data", "mnist-5k", "--out", "o.safetensors"], "x.pt"),
        (
            ["--teacher", "mnist5k-mlp", "--data", "mnist-5k", "--out", "o.safetensors", "--mean", "0.5"],
            "Expected --mean only together with a teacher of your own; a sample model brings its own.",
        ),
        (
            ["--teacher", "mnist5k-mlp", "--data", "mnist-5k", "--out", "o.safetensors", "--grey-to-colour"],
            "Expected --grey-to-colour only together with a teacher of your own",
        ),
        (
            ["--checkpoint", "WEIGHTS", "--data", "mnist-5k", "--out", "o.safetensors", "--mean", "0.5", "0.5"],
            "Expected 1 values for --mean, one for each channel, but got 2.",
        ),
        (
            ["--checkpoint", "WEIGHTS", "--data", "mnist-5k", "--out", "o.safetensors", "--std", "0"],
            "each `std` above 0",
        ),
        (
            ["--checkpoint", "WEIGHTS", "--arch", "resnet9999", "--data", "mnist-5k", "--out", "o.safetensors"],
            "resnet9999",
        ),
        (
            ["--teacher", "mnist5k-mlp", "--data", "mnist-5k", "--out", "o.safetensors", "--device", "abacus"],
            "There is no device 'abacus'",
        ),
        (
            ["--teacher", "mnist5k-mlp", "--data", "mnist-5k", "--out", "o.safetensors", "--batch-size", "0"],
            "Expected a batch size of at least 1 image, but got 0",
        ),
        (
            ["--teacher", "mnist5k-mlp", "--data", "mnist-5k", "--out", "o.safetensors", "--limit", "0"],
            "Expected a limit of at least 1 sample, but got 0",
        ),
        (
            ["--teacher", "mnist5k-mlp", "--data", "mnist-5k", "--out", "o.safetensors", "--precision", "int4"],
            "argument --precision: invalid choice: 'int4'",
        ),
        (
            ["--teacher", "mnist5k-mlp", "--data", "mnist-5k", "--limit", "9", "--out", "WEIGHTS/o.safetensors"],
            "The logits cannot be written to",
        ),
    ],
)
def test_infer_refuses_with_one_sentence(capsys, tmp_path, monkeypatch, arguments, message):
    weights = str(SAMPLE_MODELS / "mnist5k-mlp" / "model.safetensors")
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, "infer", *[argument.replace("WEIGHTS", weights) for argument in arguments])
    assert_refused(code, err, message)
    assert out == ""
    assert not os.path.exists("o.safetensors")


# ---- convert, models, data -------------------------------------------------------------------------------------------


def test_convert_adds_labels(capsys, tmp_path, logits, labels):
    np.save(tmp_path / "in.npy", logits)
    (tmp_path / "labels.txt").write_text("\n".join(map(str, labels)))
    arguments = ["convert", tmp_path / "in.npy", tmp_path / "out.safetensors", "--labels", tmp_path / "labels.txt"]
    record, _ = run_json(capsys, *arguments)
    converted = LogitSet.load(tmp_path / "out.safetensors")
    np.testing.assert_array_equal(converted.logits, logits)
    np.testing.assert_array_equal(converted.labels, labels)
    assert converted.provenance["file"] == "in.npy"
    assert record["fingerprint"] == converted.fingerprint == LogitSet.create(logits, labels).fingerprint
    assert record["accuracy"] == np.mean(logits.argmax(axis=1) == labels)
    assert record["dtype"] == "float32"


def test_convert_to_half_precision_keeps_labels_and_names(capsys, file, tmp_path, logits, labels):
    code, out, _ = run(capsys, "convert", file, tmp_path / "out.safetensors", "--float16")
    assert code == 0
    assert "300 samples, 10 classes, accuracy" in out
    assert "float16" in out
    converted = LogitSet.load(tmp_path / "out.safetensors")
    assert converted.logits.dtype == np.float16
    assert converted.class_names == read_logits(file).class_names
    np.testing.assert_array_equal(converted.labels, labels)
    np.testing.assert_allclose(entropy_at(converted.logits, 1), entropy_at(logits, 1), rtol=0, atol=2e-3)


def test_a_file_converts_onto_itself(capsys, file):
    before = LogitSet.load(file).fingerprint
    assert run(capsys, "convert", file, file)[0] == 0
    assert LogitSet.load(file).fingerprint == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["FILE"], "the following arguments are required: OUT"),
        (["FILE", "out.npz"], "Expected OUT to end in .safetensors, but got 'out.npz'."),
        (["none.npy", "out.safetensors"], "There is no file none.npy."),
        (["FILE", "out.safetensors", "--labels", "none.txt"], "There is no file none.txt."),
        (["FILE", "out.safetensors", "--labels", "l.json"], "the ending '.json'; labels are read from"),
        (["FILE", "FILE/out.safetensors"], "The logits cannot be written to"),
    ],
)
def test_convert_refuses_with_one_sentence(capsys, file, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, "convert", *[argument.replace("FILE", file) for argument in arguments])
    assert_refused(code, err, message)
    assert out == ""
    assert not os.path.exists("out.safetensors")


def test_models_lists_what_ships_and_what_can_be_loaded(capsys):
    record, err = run_json(capsys, "models")
    assert err == ""
    models = {model["name"]: model for model in record["models"]}
    assert models["mnist5k-cnn"]["role"] == "teacher"
    assert models["mnist5k-cnn"]["accuracy"]["test"] > 0.9
    names = [architecture["name"] for architecture in record["architectures"]]
    assert {"resnet56", "resnet32x4", "wrn_40_2", "vgg8", "MobileNetV2", "ShuffleV2"} <= set(names)
    _, out, _ = run(capsys, "models")
    assert all(name in out for name in [*models, *names])


def test_models_lists_language_models_and_how_to_get_them(capsys, monkeypatch):
    monkeypatch.setattr("cist_core.language.known.find_spec", lambda name: None)
    record, _ = run_json(capsys, "models")
    smollm2 = record["language_models"][-1]
    assert (smollm2["name"], smollm2["vocabulary"], smollm2["present"]) == ("smollm2", 49_152, False)
    assert f"smollm2 is not on this machine: {smollm2['how_to_get_it']}" in run(capsys, "models")[1]


def test_models_without_the_folder_of_models(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("CIST_SAMPLE_MODELS", str(tmp_path / "none"))
    assert run_json(capsys, "models")[0]["models"] == []
    assert run(capsys, "models")[0] == 0


def test_data_says_what_is_there(capsys, tmp_path):
    record, _ = run_json(capsys, "data")
    there = {info["name"]: (info["bundled"], info["present"]) for info in record["datasets"]}
    assert there["mnist-5k"] == (True, True)
    assert there["cifar100"] == (False, False)
    assert record["root"] == str(tmp_path / "data")
    _, out, _ = run(capsys, "data")
    assert all(name in out for name in there)
    assert "bundled" in out
    assert "with --download" in out
    assert "5,000" in out


def test_data_are_there_when_their_files_are_and_none_is_opened(capsys, tmp_path):
    raw = tmp_path / "data" / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for part in ("train", "t10k"):
        for kind in ("images-idx3", "labels-idx1"):
            (raw / f"{part}-{kind}-ubyte").touch()
    record, _ = run_json(capsys, "data")
    assert [info["name"] for info in record["datasets"] if info["present"]] == ["mnist-5k", "fashion-mnist"]


def test_objectives_lists_every_objective_and_preset(capsys):
    record, err = run_json(capsys, "objectives")
    assert err == ""
    objectives = {item["name"]: item for item in record["objectives"]}
    assert list(objectives) == objective_names()
    rho, floor = objectives["cist"]["parameters"][:2]
    assert (rho["name"], rho["default"], rho["expected"]) == ("rho", None, "a positive number")
    assert (floor["name"], floor["default"]) == ("floor", 1.0)
    presets = {item["name"]: item for item in record["presets"]}
    assert presets["kd-imagenet"]["objective"] == "kd:tau=1,lambda_ce=0.5,lambda_kl=0.5"
    assert all(item["source"] and item["summary"] for item in presets.values())
    _, out, _ = run(capsys, "objectives")
    assert all(name in out for name in [*objectives, *presets])


# ---- the shell around them -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [[], ["analyze"], ["infer"], ["convert"], ["models"], ["data"], ["objectives"]])
def test_help_exits_with_success(capsys, command):
    code, out, err = run(capsys, *command, "--help")
    assert (code, err) == (0, "")
    assert out.startswith(f"usage: {' '.join(['cist', *command])}")
    if command and command[0] in ("analyze", "infer", "convert"):
        assert "examples:" in out


@pytest.mark.parametrize("module", [analyze, infer, convert], ids=lambda module: module.__name__)
def test_the_examples_of_the_help_parse(module):
    text = re.sub(r"\\\n *", "", module.EXAMPLES)  # a continued line is one command
    examples = [shlex.split(line.split("   ")[0]) for line in text.splitlines() if line.startswith("  cist ")]
    assert len(examples) >= 2
    for example in examples:
        assert build_parser().parse_args(example[1:]).run is module.run


def test_version(capsys):
    assert run(capsys, "--version") == (0, f"cist {__version__}\n", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "cist: the following arguments are required: COMMAND; see 'cist --help'."),
        (["conjure"], "invalid choice: 'conjure'"),
        (["models", "--colour"], "unrecognized arguments: --colour"),
    ],
)
def test_a_wrong_command_line_is_one_sentence(capsys, arguments, message):
    code, _, err = run(capsys, *arguments)
    assert_refused(code, err, message)


def test_ctrl_c_is_one_sentence(capsys, monkeypatch, file):
    def interrupted(path, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("cist_core.cli.loading.read_logits", interrupted)
    code, out, err = run(capsys, "analyze", "--logits", file)
    assert (code, out) == (130, "")
    assert err == "cist: Interrupted; the command did not finish.\n"


def test_an_error_of_the_system_is_one_sentence(capsys, monkeypatch, file):
    def full(path, **options):
        raise OSError(28, "No space left on device", "somewhere.html")

    monkeypatch.setattr("cist_core.cli.loading.read_logits", full)
    assert run(capsys, "analyze", "--logits", file) == (2, "", "cist: somewhere.html: No space left on device.\n")


def cist(*arguments, **options):
    return subprocess.Popen(
        [sys.executable, "-m", "cist_core", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        **options,
    )


def test_a_real_process_analyzes_and_refuses(file):
    with cist("analyze", "--logits", file, "--tau", "2", "--json") as process:
        out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, "")
    assert json.loads(out)["samples"] == 300
    with cist("analyze", "--logits", "none.npz") as process:
        out, err = process.communicate(timeout=120)
    assert (process.returncode, out, err) == (2, "", "cist: There is no file none.npz.\n")


def test_a_terminal_without_greek_letters_gets_the_text_all_the_same(file):
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    with cist("analyze", "--logits", file, "--tau", "2", env=environment) as process:
        out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, "")
    assert "? = 2 leaves" in out


def test_a_closed_pipe_is_quiet(file):
    with cist("analyze", "--logits", file, "--tau", "2", "--json") as process:
        process.stdout.close()
        err = process.stderr.read()
    assert process.wait(timeout=120) == 141
    assert err == ""


def test_analyzing_a_file_and_asking_for_help_do_not_load_torch(file):
    code = (
        "import sys, contextlib\nfrom cist_core.cli import main\n"
        f"main(['analyze', '--logits', {file!r}, '--json'])\n"
        "with contextlib.suppress(SystemExit): main(['infer', '--help'])\n"
        "sys.exit(int('torch' in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, timeout=120).returncode == 0


# ---- output ----------------------------------------------------------------------------------------------------------


def test_json_knows_no_nan(capsys):
    print_json({"a": float("nan"), "b": [1.5, float("inf"), (2, None)], "c": {"d": -float("inf"), "e": "NaN"}})
    assert json.loads(capsys.readouterr().out) == {"a": None, "b": [1.5, None, [2, None]], "c": {"d": None, "e": "NaN"}}


def test_tables_are_aligned():
    assert table(["name", "n"], [["a", "1"], ["longer", "1,000"]]).splitlines() == [
        "name        n",
        "-------------",
        "a           1",
        "longer  1,000",
    ]


class Stream(io.StringIO):
    def __init__(self, terminal):
        super().__init__()
        self.terminal = terminal

    def isatty(self):
        return self.terminal


def on_screen(stream):
    """What a terminal shows of one line, where each carriage return begins it anew over what stands there."""
    shown = ""
    for written in stream.getvalue().split("\r"):
        shown = written + shown[len(written) :]
    return shown.rstrip()


def test_progress_is_one_line_on_a_terminal_and_leaves_nothing(monkeypatch):
    monkeypatch.setattr(ProgressBar, "TERMINAL_SECONDS", 0.0)
    stream = Stream(terminal=True)
    with ProgressBar("Running", "samples", stream) as progress:
        progress(10_000, 20_000)
        progress(3, 0)
    lines = [line.rstrip() for line in stream.getvalue().split("\r")]
    assert any(line.startswith("Running:  50%|") and "10.0k/20.0k [" in line for line in lines)
    assert any(line.startswith("Running: 3.00 samples [") for line in lines)
    assert "\n" not in stream.getvalue()
    assert on_screen(stream) == ""


def test_a_shorter_line_of_the_next_step_leaves_nothing_of_the_last(monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr(ProgressBar, "TERMINAL_SECONDS", 0.0)
    stream = Stream(terminal=True)
    loading, inferring = ProgressBar("Downloading", "bytes", stream), ProgressBar("Running", "samples", stream)
    with loading as downloading, inferring as running:
        downloading(170_498_071, 170_498_071)
        running(1, 2)
        assert on_screen(stream).startswith("Running:  50%|")
        assert on_screen(stream).endswith(" samples/s]")
        assert "Downloading: 100%|" in stream.getvalue()
    assert on_screen(stream) == ""


def test_downloading_and_running_are_told_apart(capsys, monkeypatch, tmp_path):
    from cist_core.data.loading import load_dataset

    digits = load_dataset("mnist-5k")

    def download(name, split, *, download, progress):
        progress(1_000, 0)
        return digits

    monkeypatch.setattr(ProgressBar, "LOG_SECONDS", 0.0)
    monkeypatch.setattr("cist_core.inference.sources.load_dataset", download)
    monkeypatch.setattr("cist_core.data.loading.load_dataset", download)
    arguments = ["--teacher", "mnist5k-mlp", "--data", "mnist", "--limit", 10, "--download"]
    for command in (["analyze", *arguments, "--tau", 2], ["infer", *arguments, "--out", tmp_path / "l.safetensors"]):
        _, err = run_json(capsys, *command)
        assert err.splitlines() == ["Downloading: 1,000 bytes", "Running the teacher: 10 of 10 samples (100 %)"]


def test_progress_in_a_log_is_a_line_now_and_then(monkeypatch):
    stream = Stream(terminal=False)
    with ProgressBar("Running", stream=stream) as progress:
        progress(1, 2)
        assert stream.getvalue() == ""
        monkeypatch.setattr(ProgressBar, "LOG_SECONDS", 0.0)
        progress(2, 2)
    assert stream.getvalue() == "Running: 2 of 2 (100 %)\n"


def test_progress_does_not_flood_a_terminal():
    stream = Stream(terminal=True)
    with ProgressBar("Running", stream=stream) as progress:
        for done in range(10_000):
            progress(done, 10_000)
    assert stream.getvalue().count("\r") < 50


def test_a_failure_of_a_command_leaves_no_progress_behind():
    stream = Stream(terminal=True)

    def fail():
        with ProgressBar("Running", stream=stream) as progress:
            progress(1, 2)
            raise CistError("stopped")

    with pytest.raises(CistError, match="stopped"):
        fail()
    assert stream.getvalue().endswith("\r")
    assert on_screen(stream) == ""
