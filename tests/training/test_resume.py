"""``cist distill --run-dir DIR --resume``: the directory says what the run is, and nothing else may contradict it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from command_line import run
from filelock import FileLock
from safetensors.torch import load_file
from whole_runs import TINY, results, stop_after

from cist_core import LogitSet
from cist_core.errors import Cancelled, CistError
from cist_core.training import RunConfig, RunDirectory
from cist_core.training.engine import train
from cist_core.zoo.checkpoints import read_checkpoint


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, cache: None) -> Path:
    """A run that nobody disturbed."""
    path = tmp_path_factory.mktemp("whole")
    train(TINY, path)
    return path


def stopped(path: Path, config: RunConfig = TINY, steps: int = 7) -> Path:
    with pytest.raises(Cancelled):
        train(config, path, should_stop=stop_after(steps))
    return path


def test_a_stopped_run_goes_on_by_its_directory_alone(capsys, whole: Path, tmp_path: Path) -> None:
    cut = stopped(tmp_path / "cut")
    code, out, err = run(capsys, "distill", "--run-dir", cut, "--resume")
    assert (code, "Test accuracy" in out) == (0, True), err
    assert results(cut) == results(whole)
    ours, theirs = (load_file(path / "student.safetensors") for path in (cut, whole))
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    assert RunDirectory(cut).config().objective.preset == "cist-authors"


def test_the_sentence_of_a_stopped_run_is_a_command_that_goes_on(capsys, whole: Path, tmp_path: Path) -> None:
    with pytest.raises(Cancelled) as stop:
        train(TINY, tmp_path / "a run", should_stop=stop_after(5))
    command = str(stop.value).rpartition("go on with: cist ")[2]
    assert command == f"distill --run-dir '{tmp_path}/a run' --resume"
    assert run(capsys, *["distill", "--run-dir", tmp_path / "a run", "--resume"])[0] == 0
    assert results(tmp_path / "a run") == results(whole)


def test_kill_9_and_the_one_word_give_the_metrics_of_an_undisturbed_run(tmp_path: Path) -> None:
    config = TINY.changed(epochs=60, machine={"checkpoint_every_steps": 2})
    config.save(tmp_path / "config.json")
    train(config, tmp_path / "whole")
    cut = RunDirectory(tmp_path / "cut")
    command = [sys.executable, "-m", "cist_core", "distill"]
    process = subprocess.Popen([*command, str(tmp_path / "config.json"), "--run-dir", str(cut.path)])
    try:
        while process.poll() is None and not any(cut.checkpoints.glob("step-*.pt")):
            time.sleep(0.01)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == -signal.SIGKILL
    (tmp_path / "config.json").unlink()
    resumed = subprocess.run(
        [*command, "--run-dir", str(cut.path), "--resume"], capture_output=True, text=True, check=False
    )
    assert resumed.returncode == 0, resumed.stderr
    assert "Resumed after" in cut.log_tail(1000)
    assert results(cut.path) == results(tmp_path / "whole")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--seed", "5"], "seed is 0, not 5"),
        (["--objective", "kd:tau=4"], 'objective is "cist:rho=3,lambda_kl=8", not "kd"'),
        (["--set", "epochs=6"], "epochs is 4, not 6"),
        (["--set", "optimiser.learning_rate=0.5"], "optimiser.learning_rate is 0.004, not 0.5"),
        (["--preset", "demo"], 'student.architecture is "mlp_14x14", not'),
    ],
)
@pytest.mark.parametrize("started", [True, False], ids=["checkpoint", "config only"])
def test_a_flag_against_the_run_is_refused_with_both_values(
    capsys, tmp_path: Path, options: list[str], told: str, started: bool
) -> None:
    if started:
        stopped(tmp_path / "cut")
    else:
        (tmp_path / "cut").mkdir()
        TINY.save(tmp_path / "cut" / "config.json")
    code, _, err = run(capsys, "distill", *options, "--run-dir", tmp_path / "cut", "--resume")
    assert code == 2
    assert told in err
    assert f"Resume it by its own (cist distill --run-dir {tmp_path / 'cut'} --resume)" in err
    assert err.count("\n") == 1
    assert RunDirectory(tmp_path / "cut").config() == TINY


def test_a_config_that_was_edited_since_is_refused(capsys, tmp_path: Path) -> None:
    cut = RunDirectory(stopped(tmp_path))
    TINY.changed(batch_size=25).save(cut.config_file)
    code, _, err = run(capsys, "distill", "--run-dir", tmp_path, "--resume")
    assert (code, "batch_size is 20, not 25" in err) == (2, True)


def test_the_same_flags_again_are_no_contradiction(capsys, whole: Path, tmp_path: Path) -> None:
    cut = stopped(tmp_path)
    options = ["--seed", "0", "--objective", "cist:rho=3,lambda_kl=8", "--set", "epochs=4"]
    code, _, err = run(capsys, "distill", *options, "--run-dir", cut, "--resume")
    assert code == 0, err
    assert results(cut) == results(whole)


def test_what_does_not_decide_the_result_may_change_and_is_logged(capsys, whole: Path, tmp_path: Path) -> None:
    cut = RunDirectory(stopped(tmp_path))
    options = [
        "--set",
        "machine.checkpoint_every_steps=3",
        "--set",
        "machine.device=auto",
        "--set",
        "data.download=true",
    ]
    code, _, err = run(capsys, "distill", *options, "--run-dir", tmp_path, "--resume")
    assert code == 0, err
    assert "Resumed with another machine.checkpoint_every_steps: 3, not null" in cut.log_tail(1000)
    assert cut.config().machine.checkpoint_every_steps == 3
    if not torch.cuda.is_available():
        assert results(tmp_path) == results(whole)


def test_a_run_goes_on_on_another_machine_and_the_log_says_so(tmp_path: Path) -> None:
    config = TINY.changed(machine={"device": "auto", "threads": 1})
    cut = RunDirectory(stopped(tmp_path, config))
    moved = config.changed(machine={"device": "cpu", "threads": 2})
    assert train(moved, tmp_path, resume=True)["state"] == "finished"
    assert 'Resumed with another machine.device: "cpu", not "auto"' in cut.log_tail(1000)
    assert "Resumed with another machine.threads: 2, not 1" in cut.log_tail(1000)
    assert cut.config() == moved


def test_a_run_of_an_earlier_version_goes_on(capsys, whole: Path, tmp_path: Path) -> None:
    """Its config, and the one in its checkpoint, have the fields of the machine beside the others."""
    cut = RunDirectory(stopped(tmp_path))

    def earlier(config: dict) -> dict:
        machine = config.pop("machine")
        del machine["micro_batch_size"]
        return config | machine

    cut.config_file.write_text(json.dumps(earlier(json.loads(cut.config_file.read_text()))))
    for file in cut.checkpoints.glob("*.pt"):
        state = torch.load(file, weights_only=True)
        torch.save(state | {"config": json.dumps(earlier(json.loads(state["config"])))}, file)
    code, _, err = run(capsys, "distill", "--run-dir", tmp_path, "--resume")
    assert code == 0, err
    assert results(tmp_path) == results(whole)
    assert cut.config() == TINY


def flip(path: Path) -> None:
    """64 bits, somewhere among the weights."""
    content = bytearray(path.read_bytes())
    for place in range(len(content) // 3, len(content) // 3 + 64):
        content[place] ^= 64
    path.write_bytes(content)


def test_a_damaged_checkpoint_is_passed_over_and_said(capsys, whole: Path, tmp_path: Path) -> None:
    cut = stopped(tmp_path / "cut")
    older, newest = sorted((cut / "checkpoints").glob("*.pt"))
    flip(newest)
    code, out, err = run(capsys, "distill", "--run-dir", cut, "--resume")
    assert (code, "Test accuracy" in out) == (0, True), err
    assert results(cut) == results(whole)
    ours, theirs = (load_file(path / "student.safetensors") for path in (cut, whole))
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    (warning,) = (said for said in RunDirectory(cut).status()["warnings"] if "checkpoint" in said)
    assert warning.startswith(f"The checkpoint {newest.name} is damaged (the checksum of ")
    assert warning.endswith(f"the run goes on from {older.name} instead.")
    assert warning in RunDirectory(cut).log_file.read_text()


def test_damage_in_what_a_run_leaves_is_noticed_by_whoever_opens_it(whole: Path, tmp_path: Path) -> None:
    directory = RunDirectory(whole)
    for file, reader in (
        (directory.student, read_checkpoint),
        (directory.best_student, read_checkpoint),
        (directory.test_logits, LogitSet.load),
    ):
        copy = tmp_path / file.name
        copy.write_bytes(file.read_bytes())
        assert reader(copy)
        flip(copy)
        with pytest.raises(CistError, match=r"is damaged: .* checksum|finite logits|at most"):
            reader(copy)


def test_a_run_without_a_whole_checkpoint_ends_with_a_sentence(capsys, tmp_path: Path) -> None:
    cut = stopped(tmp_path / "cut")
    for path in (cut / "checkpoints").glob("*.pt"):
        flip(path)
    for _ in range(2):
        code, _, err = run(capsys, "distill", "--run-dir", cut, "--resume")
        assert code == 2
        assert "None of the checkpoints" in err
        assert "the checksum of" in err


def test_a_finished_run_is_not_resumed(capsys, whole: Path) -> None:
    before = results(whole)
    code, _, err = run(capsys, "distill", "--run-dir", whole, "--resume")
    assert code == 2
    assert f"The run in {whole} has finished; there is nothing to resume." in err
    assert results(whole) == before


@pytest.mark.parametrize("anew", [False, True], ids=["resume", "anew"])
def test_where_a_run_lives_no_other_begins_and_nothing_is_touched(capsys, tmp_path: Path, anew: bool) -> None:
    cut = RunDirectory(stopped(tmp_path / "cut"))
    TINY.save(tmp_path / "config.json")
    (cut.path / ".metrics.jsonl.7.partial").write_text("what it is writing")
    before = {file: file.read_bytes() for file in cut.path.rglob("*") if file.is_file()}
    with FileLock(cut.lock_file, is_singleton=False):
        how = [tmp_path / "config.json"] if anew else ["--resume"]
        code, _, err = run(capsys, "distill", *how, "--run-dir", cut.path)
        after = {file: file.read_bytes() for file in cut.path.rglob("*") if file.is_file()}
    assert (code, f"Another process is training in {cut.path}, so its files are left alone" in err) == (2, True)
    assert after == before


@pytest.mark.parametrize("there", [True, False])
def test_a_folder_without_a_run_has_nothing_to_resume(capsys, tmp_path: Path, there: bool) -> None:
    path = tmp_path / "runs"
    if there:
        path.mkdir()
    code, _, err = run(capsys, "distill", "--run-dir", path, "--resume")
    assert code == 2
    assert f"There is no run to resume in {path}" in err
    assert ("holds no config.json" if there else "does not exist") in err
    assert path.exists() == there
    assert not there or not list(path.iterdir())


def test_a_damaged_config_is_named(capsys, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"seed": ')
    code, _, err = run(capsys, "distill", "--run-dir", tmp_path, "--resume")
    assert (code, f"The config {tmp_path}/config.json is not JSON" in err) == (2, True)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--resume"], "Expected --run-dir together with --resume"),
        ([], "Expected CONFIG.json or --preset NAME"),
        (["--run-dir", "runs/one"], "--run-dir DIR --resume to go on with a run"),
    ],
)
def test_what_is_missing_is_asked_for(capsys, options: list[str], told: str) -> None:
    code, _, err = run(capsys, "distill", *options)
    assert (code, told in err) == (2, True)


def test_the_stored_config_is_printed(capsys, tmp_path: Path) -> None:
    TINY.save(tmp_path / "config.json")
    code, out, _ = run(capsys, "distill", "--run-dir", tmp_path, "--resume", "--print")
    assert (code, json.loads(out)) == (0, TINY.model_dump(mode="json"))


def test_the_library_refuses_another_config_as_well(tmp_path: Path) -> None:
    stopped(tmp_path)
    with pytest.raises(CistError, match=r"data\.train_samples is 100, not 50"):
        train(TINY.changed(data={"train_samples": 50}), tmp_path, resume=True)
