"""One damaged file of one run spoils what is said of this run, and of no other."""

import json
import os
import time

import pytest
from command_line import run as cist

from cist_core.training import RunDirectory, run_files
from tests.damaged_files import METRICS, STATUSES
from tests.runs.workplace import GONE, config

ROW = b'{"epoch": 2, "step": 40, "val_accuracy": 0.5, "student_maximum_mean": 3.5, "train_accuracy": null}\n'


@pytest.mark.parametrize("content", STATUSES.values(), ids=STATUSES)
def test_a_damaged_status_says_less_and_names_what_is_left_out(tmp_path, content):
    directory = RunDirectory(tmp_path)
    assert (directory.status(), directory.damage()) == ({}, [])
    directory.status_file.write_bytes(content)
    assert directory.status() == {}
    (said,) = directory.damage()
    assert said.startswith("status.json is damaged (")
    assert len(said) < 250
    said.encode("utf-8")


def test_whole_fields_beside_damaged_ones_are_kept(tmp_path):
    directory = RunDirectory(tmp_path)
    directory.status_file.write_text('{"state": "finished", "epoch": 3, "epochs": [], "of a later version": [1]}')
    assert directory.status() == {"state": "finished", "epoch": 3, "of a later version": [1]}
    assert directory.damage() == ["status.json is damaged (epochs is [])"]


@pytest.mark.parametrize("content", METRICS.values(), ids=METRICS)
def test_a_damaged_row_is_left_out_and_the_rows_around_it_are_read(tmp_path, content):
    directory = RunDirectory(tmp_path)
    directory.metrics_file.write_bytes(ROW + content + ROW.replace(b"2", b"3") + b'{"epoch": 4, "st')
    assert directory.metrics() == [json.loads(ROW), json.loads(ROW.replace(b"2", b"3"))]
    (said,) = directory.damage()
    assert said.startswith("metrics.jsonl is damaged (line")
    assert "2" in said


def test_metrics_that_have_not_changed_are_read_once_for_their_damage(tmp_path, monkeypatch):
    directory, read = RunDirectory(tmp_path), []
    directory.metrics_file.write_bytes(ROW)
    monkeypatch.setattr(run_files, "read_bytes", lambda path, most: read.append(path.name) or path.read_bytes())
    assert [directory.damage() for _ in range(3)] == [[]] * 3
    assert read.count("metrics.jsonl") == 1
    with directory.metrics_file.open("ab") as stream:
        stream.write(b"no row\n")
    assert [directory.damage() for _ in range(3)] == [["metrics.jsonl is damaged (line 2)"]] * 3
    assert read.count("metrics.jsonl") == 2


def test_a_pipe_in_place_of_a_file_is_no_place_to_wait(tmp_path):
    directory = RunDirectory(tmp_path)
    os.mkfifo(directory.status_file)
    os.mkfifo(directory.metrics_file)
    assert (directory.status(), directory.metrics()) == ({}, [])
    assert [said.partition(" (")[0] for said in directory.damage()] == [
        "status.json is damaged", "metrics.jsonl cannot be read",
    ]  # fmt: skip


def test_the_terminal_lists_all_runs_and_names_the_damaged(store, capsys):
    whole = store.add(config())
    whole.directory.write_status({"state": "running", "epoch": 1, "epochs": 3, "last_val_accuracy": 0.5})
    damaged = [store.add(config()) for _ in (*STATUSES, *METRICS)]
    for run, content in zip(damaged, STATUSES.values(), strict=False):
        run.directory.status_file.write_bytes(content)
    for run, content in zip(damaged[len(STATUSES) :], METRICS.values(), strict=True):
        run.directory.metrics_file.write_bytes(content)
    code, out, err = cist(capsys, "runs", "--root", str(store.root))
    assert (code, err) == (0, "")
    lines = {line.split()[0]: line for line in out.splitlines() if line.strip()}
    assert all("queued, damaged files" in lines[run.id] for run in damaged)
    assert "damaged" not in lines[whole.id]
    assert "1 of 3" in lines[whole.id]
    shown = cist(capsys, "runs", "show", damaged[1].id, "--root", str(store.root))[1]
    assert 'status.json is damaged (epoch is "three", epochs is "x", step is "a" and 7 more)' in shown
    listed = json.loads(cist(capsys, "runs", "--json", "--root", str(store.root))[1])["runs"]
    assert [bool(run["damage"]) for run in listed] == [True] * len(damaged) + [False]


@pytest.mark.parametrize("content", STATUSES.values(), ids=STATUSES)
def test_a_run_that_is_gone_and_left_a_damaged_status_is_lost(store, content):
    run = store.add(config())
    claim = store.claim(1)
    claim.started(*GONE)
    time.sleep(0.001)
    run.directory.status_file.write_bytes(content)
    store.reconcile()
    assert store.get(run.id).state == "lost"
