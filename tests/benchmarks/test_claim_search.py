"""The search behind the claim: what it asks for next, and what it settles on."""

import json
from pathlib import Path

import claim
import pytest
from claim_search import LIMITS, Runs, canonical, found, search, what_is_open
from claim_settings import SETTINGS, Method

Values = dict[str, float]


def searched(method: Method, true_score) -> tuple[Values, int, int]:
    """The best point, how many points were tried, and in how many rounds."""
    known: dict[tuple[float, ...], float] = {}
    for rounds in range(100):
        state = search(method, lambda values: known.get(tuple(values.values())))
        if state.best is not None:
            return state.best, len(known), rounds
        assert state.missing
        for values in state.missing:
            known[tuple(values.values())] = true_score(values)
    raise AssertionError("the search does not end")


def peak(**best: float):
    def score(values: Values) -> float:
        return 1.0 - sum(abs(values[name] - value) / value for name, value in best.items())

    return score


def test_one_parameter_at_a_time_finds_a_separable_peak() -> None:
    method = Method("", "", {"tau": (1.0, 2.0, 4.0), "learning_rate": (0.05, 0.1)}, start={"tau": 1.0})
    assert searched(method, peak(tau=2.0, learning_rate=0.1))[0] == {"tau": 2.0, "learning_rate": 0.1}


@pytest.mark.parametrize(("best", "found_at"), [(16.0, 16.0), (1.0, 1.0), (500.0, LIMITS["tau"][1])])
@pytest.mark.parametrize("whole", [False, True])
def test_a_grid_grows_until_the_best_is_inside_or_the_limit_is_reached(
    best: float, found_at: float, whole: bool
) -> None:
    method = Method("", "", {"tau": (2.0, 4.0), "learning_rate": (0.05, 0.1, 0.2)}, whole, {"tau": 2.0})
    assert searched(method, peak(tau=best, learning_rate=0.1))[0] == {"tau": found_at, "learning_rate": 0.1}


def test_the_whole_grid_is_tried_before_one_parameter_moves() -> None:
    method = Method("", "", {"tau": (1.0, 2.0, 4.0), "learning_rate": (0.05, 0.1, 0.2)}, whole=True)
    state = search(method, lambda values: None)
    assert len(state.missing) == 9
    # A peak that one parameter at a time would miss from the corner: both have to move together.
    diagonal = searched(
        method, lambda values: -abs(values["tau"] * values["learning_rate"] - 0.2) + values["tau"] / 100
    )
    assert diagonal[0]["tau"] * diagonal[0]["learning_rate"] == pytest.approx(0.2)


def test_a_parameter_of_one_value_stays() -> None:
    method = Method("", "", {"tau": (4.0,), "learning_rate": (0.05, 0.1)})
    assert searched(method, peak(tau=100.0, learning_rate=0.05))[0] == {"tau": 4.0, "learning_rate": 0.05}


def test_runs_are_found_again_however_their_objective_is_written(tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    row = {"setting": "digits", "objective": "kd:tau=4", "learning_rate": 0.01, "seed": 0, "val_accuracy": 0.9}
    Runs(path).add([row])
    assert json.loads(path.read_text()) == row
    again = Runs(path)
    assert again.get("digits", "kd", 0.01, 0) == again.get("digits", "kd:lambda_kl=0.9,tau=4", 0.01, 0) == row
    assert again.get("digits", "kd", 0.01, 1) is None
    # A default may change; what was trained does not.
    assert canonical("kd") == "kd:tau=4,lambda_ce=0.1,lambda_kl=0.9"


@pytest.mark.parametrize("name", SETTINGS)
def test_every_method_names_parameters_that_its_objective_has(name: str) -> None:
    for method in SETTINGS[name].methods.values():
        values = {parameter: values[0] for parameter, values in method.grid.items()}
        assert canonical(method.objective({**values, **method.start}))
        assert set(method.start) <= set(method.grid)
        assert all(
            method.start[parameter] in values for parameter, values in method.grid.items() if parameter in method.start
        )


def test_kd_and_cist_have_equal_budgets() -> None:
    methods = SETTINGS["cifar100-10k"].methods
    sizes = {name: [len(values) for values in methods[name].grid.values()] for name in ("kd", "cist")}
    assert sizes["kd"] == sizes["cist"]
    assert methods["kd"].whole == methods["cist"].whole


@pytest.mark.parametrize(("seconds", "waves"), [(float("inf"), [2, 2, 1]), (25.0, [2]), (0.0, [])])
def test_runs_are_trained_in_waves_as_long_as_the_time_allows(
    seconds: float, waves: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, trained = [0.0], []

    def train(plans, lessons, recipe, **options):
        trained.append(len(plans))
        clock[0] += 10.0 * len(plans)  # so that a third student would end at 30
        return [{"objective": p.objective, "learning_rate": 0.1, "seed": p.seed, "val_accuracy": 0.5} for p in plans]

    monkeypatch.setattr(claim, "train_side_by_side", train)
    monkeypatch.setattr(claim.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(claim.Trainer, "lesson", lambda self, name: None)
    trainer = claim.Trainer(Runs(tmp_path / "runs.jsonl"), None, "cpu", students=2, seconds=seconds)
    plans = [claim.plan("digits", "kd", 0.1, seed) for seed in range(5)]
    assert trainer.train("digits", plans) == (sum(waves) == 5)
    assert trained == waves
    # What was trained once is not trained again.
    assert len(Runs(tmp_path / "runs.jsonl").of("digits")) == sum(waves)


def test_what_another_device_has_trained_is_trained_again_where_that_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once; what counts stays the run that was first."""

    def train(plans, lessons, recipe, **options):
        return [{"objective": p.objective, "learning_rate": 0.1, "seed": p.seed, "val_accuracy": 0.5} for p in plans]

    monkeypatch.setattr(claim, "train_side_by_side", train)
    monkeypatch.setattr(claim.Trainer, "lesson", lambda self, name: None)
    plans = [claim.plan("digits", "kd", 0.1, seed) for seed in range(3)]
    runs = Runs(tmp_path / "runs.jsonl")
    runs.add(
        {"setting": "digits", "objective": "kd", "learning_rate": 0.1, "seed": seed, "val_accuracy": 0.6, "device": on}
        for seed, on in ((0, "a GPU"), (1, "cpu"))
    )
    for _ in range(2):
        trainer = claim.Trainer(Runs(tmp_path / "runs.jsonl"), None, "cpu", students=1, seconds=100.0)
        assert trainer.train("digits", plans[:2])
        assert trainer.train("digits", plans[:2], again=True)
    runs = Runs(tmp_path / "runs.jsonl")
    assert [(row["seed"], row["device"]) for row in runs.of("digits")] == [(0, "a GPU"), (1, "cpu")]
    again = runs.again("digits", "kd", 0.1, range(3))
    assert {device: [row["seed"] for row in rows] for device, rows in again.items()} == {"cpu": [0]}
    first = runs.get("digits", "kd", 0.1, 0)
    assert first is not None
    assert first["val_accuracy"] == 0.6


def test_what_is_open_is_said_until_nothing_is(tmp_path: Path) -> None:
    runs = Runs(tmp_path / "runs.jsonl")
    assert len(what_is_open(runs, SETTINGS)) == len(SETTINGS)
    for name in SETTINGS:
        for plans in claim.stages(name, runs):
            runs.add(
                {
                    "setting": name,
                    "objective": plan.objective,
                    "learning_rate": plan.learning_rate,
                    "seed": plan.seed,
                    "val_accuracy": 0.5 - abs(plan.learning_rate - 0.05),
                }
                for plan in plans
            )
        assert found(runs, SETTINGS, name, "ce").best is not None
    assert what_is_open(runs, SETTINGS) == []
    # The seeds that choose take no part in what is reported.
    for setting in SETTINGS.values():
        assert setting.tuning_seed not in setting.final_seeds
