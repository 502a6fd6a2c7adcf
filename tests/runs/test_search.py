"""A search: what is written, what is read back from run directories, and where it ends up."""

import json
import math

import pytest
from command_line import run as cist

from cist_core import CistError
from cist_core.runs import RunState, Worker
from cist_core.runs.search import Search, SearchAxis
from cist_core.training import preset
from tests.runs.workplace import Workplace, config, end

optuna = pytest.importorskip("optuna", reason="the extra 'search' is not installed")
RATE = "optimiser.learning_rate"


def search(*space: str, **more: object) -> Search:
    made = Search(config(), tuple(SearchAxis.parse(text) for text in space), **more)
    made.check()
    return made


def finish(place: Workplace, run_id: str, accuracy: float) -> None:
    place.store.get(run_id).directory.write_status({"state": "finished", "last_val_accuracy": accuracy})
    end(place.store, run_id, RunState.FINISHED)


def step(place: Workplace, searched: Search) -> str:
    entry = searched.propose(place.store.list_runs("found"))
    return place.store.add(entry.config, name=entry.name, group="found").id


def test_language_models_are_searched_by_likelihood(workplace):
    run = workplace.store.get(step(workplace, search("rho=2..3")))
    texts = Search(preset("minillm-gpt2-base"), (SearchAxis.parse("rho=2..3"),))
    assert texts.measured(run) is None
    whole = dict.fromkeys(("val_accuracy", "student_maximum_mean"), 0.5)
    rows = [whole | {"epoch": epoch, "step": epoch, "val_nll": nll} for epoch, nll in ((1, 4.5), (2, 4.25))]
    run.directory.metrics_file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    run.directory.write_status({"state": "finished", "last_val_accuracy": 0.9})
    assert texts.measured(run) == -4.25


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("rho", r"Expected --space FIELD=LOW\.\.HIGH"),
        ("rho=4", r"Expected --space FIELD=LOW\.\.HIGH"),
        ("rho=4..2", "LOW below HIGH"),
        ("rho=a..b", r"Expected two numbers in --space rho=LOW\.\.HIGH, but got 'a\.\.b'"),
        ("rho=0..2:log", "above 0 for a logarithmic axis"),
        ("rho=1..2:square", "LOW below HIGH"),
        ("rho=nan..2", "LOW below HIGH"),
    ],
)
def test_an_axis_that_is_written_wrong_is_refused(text, told):
    with pytest.raises(CistError, match=told):
        SearchAxis.parse(text)


@pytest.mark.parametrize(
    ("space", "told"),
    [
        (["speed=1..2"], "The field 'speed' is no parameter of these objectives"),
        (["rho=-3..2"], "rho"),
        (["optimiser.speed=1..2"], "speed"),
        (["seed=1..2"], "option of its own"),
        (["rho=2..3", "rho=4..5"], "stands twice"),
    ],
)
def test_fields_and_bounds_are_checked_before_anything_runs(space, told):
    with pytest.raises(CistError, match=told):
        search(*space)


def test_a_proposal_lies_within_the_bounds_and_is_read_back_from_the_directory(workplace):
    searched = search("rho=2..3", f"{RATE}=0.001..0.1:log", "optimiser.nesterov=true,false", "batch_size=20,50")
    for _ in range(5):
        run = workplace.store.get(step(workplace, searched))
        values = searched.values(run)
        stored = json.loads(run.directory.config_file.read_text())
        assert values["rho"] == stored["objective"]["parameters"]["rho"]
        assert values[RATE] == stored["optimiser"]["learning_rate"]
        assert values["batch_size"] == str(stored["batch_size"])
        assert values["optimiser.nesterov"] == str(stored["optimiser"]["nesterov"]).lower()
        assert 2 <= values["rho"] <= 3
        assert 0.001 <= values[RATE] <= 0.1
        assert run.name.endswith(", seed 0")


def test_it_goes_where_the_measure_is_large(workplace):
    """A parabola over the logarithm of the learning rate, whose top is known."""
    searched = search(f"{RATE}=0.0001..1:log")
    distances = []
    for _ in range(30):
        run_id = step(workplace, searched)
        rate = workplace.store.get(run_id).directory.config().optimiser.learning_rate
        distances.append(abs(math.log10(rate) + 2))
        finish(workplace, run_id, 1 - (distances[-1] / 2) ** 2)
    # Drawn evenly, the mean distance from the middle of four decades is one decade, with a deviation of 0.13 over 20.
    assert sum(distances[10:]) / 20 < 0.7
    assert min(distances) < 0.1


def test_the_same_runs_give_the_same_proposal_to_another_process_that_goes_on(workplace):
    for number in range(12):
        finish(workplace, step(workplace, search("rho=2..8")), number / 20)
    runs = workplace.store.list_runs("found")
    again = [search("rho=2..8").propose(order).name for order in (runs, runs[::-1])]
    assert again[0] == again[1]


def test_what_failed_or_lies_outside_teaches_nothing_and_what_runs_is_not_tried_again(workplace):
    searched = search("rho=2..8")
    for number in range(12):
        finish(workplace, step(workplace, searched), number / 20)
    before = workplace.store.list_runs("found")
    failed = workplace.store.add(config(objective="cist:rho=5"), group="found")
    end(workplace.store, failed.id, RunState.FAILED)
    outside = workplace.store.add(config(objective="cist:rho=20"), group="found")
    finish(workplace, outside.id, 1.0)
    assert searched.values(workplace.store.get(outside.id)) is None
    unlearnt = [workplace.store.get(run_id) for run_id in (failed.id, outside.id)]
    others = [workplace.store.add(config(objective=f"cist:rho={rho}"), group="found") for rho in (30, 40)]
    # As many runs, on which the draw depends.
    assert searched.propose([*before, *unlearnt]).name == searched.propose([*before, *others]).name
    at_once = {step(workplace, searched) for _ in range(3)}
    assert len({searched.values(workplace.store.get(run_id))["rho"] for run_id in at_once}) == 3


def test_each_choice_is_tried_once_and_then_there_is_no_other(workplace):
    searched = search("rho=2,3,4", "optimiser.nesterov=true,false")
    for number in range(6):
        finish(workplace, step(workplace, searched), number / 10)
    runs = workplace.store.list_runs("found")
    assert len({tuple(searched.values(run).items()) for run in runs}) == 6
    assert searched.propose(runs) is None
    gone = runs[3]
    again = searched.propose([run for run in runs if run is not gone])
    assert again.config.objective == gone.directory.config().objective


def test_whole_numbers_are_drawn_for_fields_that_are(workplace):
    searched = search("epochs=1..3")
    for _ in range(3):
        finish(workplace, step(workplace, searched), 0.5)
    runs = workplace.store.list_runs("found")
    assert sorted(run.directory.config().epochs for run in runs) == [1, 2, 3]
    assert searched.propose(runs) is None
    with pytest.raises(CistError, match=r"whole numbers in --space epochs=1\.5\.\.3"):
        search("epochs=1.5..3")


def test_the_command_ends_when_all_settings_were_tried(workplace, ticking, tmp_path, capsys):
    file = tmp_path / "config.json"
    config().save(file)
    options = ["--space", "rho=2,3", "--group", "two", "--trials", 5, "--root", workplace.store.root, "--json"]
    code, out, err = cist(capsys, "search", file, *options)
    assert (code, len(json.loads(out)["runs"])) == (0, 2)
    assert "All settings of --space were tried, so there are 2 runs, not 5." in err


@pytest.fixture
def ticking(workplace, monkeypatch) -> Worker:
    """In place of the worker in a process of its own."""
    worker = workplace.worker("finish", say=lambda _: None)
    monkeypatch.setattr("cist_core.runs.ensure_worker", lambda _: worker.tick())
    monkeypatch.setattr("cist_core.cli.search.POLL_SECONDS", 0.01)
    return worker


def test_the_command_searches_and_goes_on_with_more_trials(workplace, ticking, tmp_path, capsys):
    file = tmp_path / "config.json"
    config().save(file)
    command = ["search", file, "--space", "rho=2..8", "--group", "rhos", "--root", workplace.store.root, "--json"]
    code, out, err = cist(capsys, *command, "--trials", 2)
    assert code == 0, err
    assert len(json.loads(out)["runs"]) == 2
    code, out, err = cist(capsys, *command, "--trials", 3)
    assert code == 0, err
    assert "Going on with the search 'rhos', which has 2 runs." in err
    found = json.loads(out)
    assert found["group"] == "rhos"
    assert [(2 <= run["values"]["rho"] <= 8, run["val_accuracy"]) for run in found["runs"]] == [(True, 0.8)] * 3
    assert len(workplace.store.list_runs("rhos")) == 3


def test_the_command_says_when_nothing_has_finished(workplace, monkeypatch, tmp_path, capsys):
    worker = workplace.worker("fail", say=lambda _: None)
    monkeypatch.setattr("cist_core.runs.ensure_worker", lambda _: worker.tick())
    file = tmp_path / "config.json"
    config().save(file)
    options = ["--space", "rho=2..8", "--group", "rhos", "--trials", 1, "--root", workplace.store.root]
    code, _, err = cist(capsys, "search", file, *options)
    assert (code, "None of the 1 runs" in err, "lower the learning rate" in err) == (2, True, True)
