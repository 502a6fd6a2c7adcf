"""What got slower between two result files is named, and noise is not."""

import json
import os
import subprocess
import sys
from pathlib import Path

import check
import pytest

ROOT = Path(__file__).resolve().parents[2]


def around(seconds, spread):
    return {"seconds": seconds, "lower": seconds - spread, "upper": seconds + spread}


def row(name, seconds, spread=0.001, size="50000x1000"):
    return {"name": name, "size": size} | ({"seconds": seconds} if spread is None else around(seconds, spread))


def written(folder, name, rows):
    path = folder / name
    path.write_text(json.dumps(rows))
    return path


def run(tmp_path, old, new):
    return check.main([str(written(tmp_path, "old.json", old)), str(written(tmp_path, "new.json", new))])


def test_only_what_got_slower_by_more_than_the_noise_of_both_is_named(tmp_path, capsys):
    old = [row("table build", 0.40, 0.02), row("first pass", 0.010), row("table read", 0.0002, 0.0001)]
    new = [row("table build", 0.45, 0.02), row("first pass", 0.0119), row("table read", 0.0003, 0.0001)]
    assert run(tmp_path, old, new) == 1
    said = capsys.readouterr().out.splitlines()
    assert said[0] == (
        "slower: table build (50000x1000): 400 ms (380 to 420) before, 450 ms (430 to 470) now, 1.12 times"
    )
    assert said[1:] == ["1 of 3 got slower by more than the noise of both."]


def test_rows_beside_a_machine_are_compared_with_rows_alone(tmp_path, capsys):
    beside = {"machine": {"cores": 2}, "rows": [row("table build", 0.7)]}
    assert run(tmp_path, [row("table build", 0.4)], beside) == 1
    assert capsys.readouterr().out.startswith("slower: table build")


def test_what_got_quicker_is_told_and_is_no_failure(tmp_path, capsys):
    assert run(tmp_path, [row("table build", 0.7)], [row("table build", 0.4)]) == 0
    assert "quicker: table build" in capsys.readouterr().out


def test_a_slower_read_says_that_the_machine_was_busier(tmp_path, capsys):
    assert run(tmp_path, [row("bare read of the memory", 0.004)], [row("bare read of the memory", 0.02)]) == 1
    assert "the machine was busier" in capsys.readouterr().out


def test_single_measurements_and_rows_of_one_file_are_named_and_not_judged(tmp_path, capsys):
    old = [row("first pass", 0.01), row("app", 0.1, spread=None), row("gone", 0.1)]
    new = [row("first pass", 0.01), row("app", 9.0, spread=None), row("first pass", 0.01, size="10x10")]
    assert run(tmp_path, old, new) == 0
    said = capsys.readouterr().out
    assert "measured once, so not judged: app (50000x1000)" in said
    assert "in one file only: first pass (10x10), gone (50000x1000)" in said


def test_the_last_of_several_looks_counts(tmp_path, capsys):
    def look(seconds):
        return {"size": "9x9", "look": "second look", "steps": {"slider move": around(seconds, 0.01)}}

    assert run(tmp_path, [look(9.0), look(0.1)], [look(0.1), look(0.2)]) == 1
    assert (
        "slower: slider move (9x9, second look): 100 ms (90 to 110) before, 200 ms (190 to 210) now"
        in capsys.readouterr().out
    )


@pytest.mark.parametrize("content", ["", "{}", "[3]", '[{"name": "x"}]', '[{"steps": []}]'])
def test_other_files_are_refused_in_one_sentence(tmp_path, capsys, content):
    path = tmp_path / "other.json"
    path.write_text(content)
    assert check.main([str(path), str(path)]) == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert "other.json" in said


@pytest.mark.slow
def test_streaming_looks_twice_and_its_results_can_be_compared(tmp_path):
    results = tmp_path / "streaming.json"
    command = [
        sys.executable,
        str(ROOT / "benchmarks" / "streaming.py"),
        "--size",
        "3000x300",
        "--output",
        str(results),
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([*command, "--folder", str(tmp_path)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    first, second, *from_disk = json.loads(results.read_text())
    assert first["bytes"] == second["bytes"] > 2 * 3000 * 300
    assert first["rho"] == pytest.approx(second["rho"], rel=1e-6)
    assert second["steps"]["table"]["processor_seconds"] < first["steps"]["table"]["processor_seconds"]
    for row in from_disk:
        assert (row["look"], row["bytes"]) == ("from the disk", first["bytes"])
        assert {what["repeats"] for what in row["steps"].values()} == {3}
    assert len(from_disk) == hasattr(os, "posix_fadvise")
    assert check.main([str(results), str(results)]) == 0
