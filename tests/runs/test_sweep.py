"""The grid of a sweep, and what its summary says, against SciPy."""

import math

import numpy as np
import pytest
from scipy import stats

from cist_core import CistError
from cist_core.runs import Outcome, RunState, Statistics, expand_sweep, outcomes, summarise
from cist_core.training import preset
from tests.runs.workplace import config

# ---- the grid --------------------------------------------------------------------------------------------------------


def names(**options):
    return [entry.name for entry in expand_sweep(config(), **options)]


def test_a_parameter_applies_to_the_objectives_that_have_it():
    assert names(objectives=["kd", "cist", "ce"], grid=["tau=1,2", "rho=3,4"]) == [
        "kd:tau=1, seed 0",
        "kd:tau=2, seed 0",
        "cist:rho=3, seed 0",
        "cist:rho=4, seed 0",
        "ce, seed 0",
    ]


def test_a_preset_is_called_by_its_name_until_the_grid_changes_it():
    assert names(objectives=["cist-authors", "kd-hinton"], grid=["rho=2,3"]) == [
        "cist:rho=2,lambda_kl=8, seed 0",
        "cist:rho=3,lambda_kl=8, seed 0",
        "kd-hinton, seed 0",
    ]
    assert names(objectives=["kd-hinton", "kd", "kd:tau=4"]) == ["kd-hinton, seed 0"]  # one setting, three names
    base = preset("demo").changed(objective="cist-authors")
    assert [entry.config.objective.preset for entry in expand_sweep(base, seeds=[0, 1])] == ["cist-authors"] * 2
    assert [entry.name for entry in expand_sweep(base, grid=["rho=2"])] == ["cist:rho=2,lambda_kl=8, seed 0"]


def test_seeds_of_one_setting_follow_each_other():
    assert names(objectives=["ce", "kd:tau=2"], seeds=[3, 1]) == [
        "ce, seed 3",
        "ce, seed 1",
        "kd:tau=2, seed 3",
        "kd:tau=2, seed 1",
    ]


def test_every_field_of_the_config_may_vary_and_the_rest_stays():
    entries = expand_sweep(
        config(), grid=["optimiser.learning_rate=0.01,0.1", "epochs=1,2", "optimiser.nesterov=true"], seeds=[5]
    )
    assert [(e.config.optimiser.learning_rate, e.config.epochs) for e in entries] == [
        (0.01, 1),
        (0.01, 2),
        (0.1, 1),
        (0.1, 2),
    ]
    assert entries[0].name == "cist:rho=4, learning_rate=0.01, epochs=1, nesterov=True, seed 5"
    expected = config(5, epochs=1, optimiser={"learning_rate": 0.01, "nesterov": True})
    assert entries[0].config == expected


def test_values_are_json_or_words():
    entries = expand_sweep(config(), grid=["schedule.name=constant,cosine"])
    assert [entry.config.schedule.name for entry in entries] == ["constant", "cosine"]
    entries = expand_sweep(config(), grid=["schedule.name=multistep", "schedule.milestones=[1,2],[3]"])
    assert [entry.config.schedule.milestones for entry in entries] == [(1, 2), (3,)]
    entries = expand_sweep(config(), grid=["steps=4,8"])
    assert [(entry.config.steps, entry.config.epochs) for entry in entries] == [(4, None), (8, None)]


def test_what_is_the_same_is_run_once():
    assert names(objectives=["kd", "kd:tau=4"]) == ["kd, seed 0"]
    assert names(objectives=["kd"], grid=["tau=4,4.0"]) == ["kd, seed 0"]


def test_what_an_objective_needs_and_lacks_is_the_configs():
    assert names(objectives=["ce", "kd", "cist", "cist+dkd:beta=2", "cist-authors"]) == [
        "ce, seed 0",
        "kd, seed 0",
        "cist:rho=4, seed 0",
        "cist+dkd:rho=4,beta=2, seed 0",
        "cist-authors, seed 0",
    ]
    base = config(objective="cist:rho=4,floor=0,lambda_kl=8")  # what it does not need has its default
    assert [entry.name for entry in expand_sweep(base, objectives=["cist"])] == ["cist:rho=4, seed 0"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"objectives": ["kd", "ce"], "grid": ["rho=1"]}, r"'rho' is no parameter of these objectives \(kd has tau"),
        ({"objectives": ["kd"], "grid": ["tau"]}, "Expected --grid FIELD=VALUE,VALUE,..., but got 'tau'"),
        ({"objectives": ["kd"], "grid": ["tau="]}, "but got 'tau='"),
        ({"objectives": ["kd"], "grid": ["tau=1", "tau=2"]}, "'tau' stands twice"),
        ({"objectives": ["kd:tau=3"], "grid": ["tau=1"]}, "'tau' of the objective 'kd' stands twice"),
        ({"objectives": ["kd"], "grid": ["tau=-1"]}, "tau of the objective 'kd' to be a positive number, but got '-1'"),
        ({"objectives": ["what"]}, "There is no objective 'what'"),
        ({"objectives": ["entropy-matched"]}, "The objective 'entropy-matched' needs H"),
        ({"grid": ["seed=1,2"]}, "option of its own: --seeds"),
        ({"grid": ["objective=kd"]}, "option of its own: --objective"),
        ({"grid": ["objective.parameters.rho=1"]}, "option of its own: --objective"),
        ({"grid": ["optimiser.rate=1"]}, "there is no field 'optimiser.rate'"),
        ({"grid": ["epochs=0"]}, "epochs: .*greater than or equal to 1, but got 0"),
        ({"grid": ["epochs=1", "epochs.x=2"]}, "Both 'epochs' and 'epochs.x'"),
        ({"seeds": [1, 1]}, "seed '1' stands twice"),
        ({"seeds": [-1]}, "seed: .*greater than or equal to 0, but got -1"),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_sentence(options, sentence):
    with pytest.raises(CistError, match=sentence):
        expand_sweep(config(), **options)


# ---- the summary -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [2, 3, 10])
def test_mean_deviation_and_interval_are_those_of_scipy(n):
    values = np.random.default_rng(n).uniform(0.5, 1, n)
    ours = Statistics.of(list(values))
    low, high = stats.t.interval(0.95, n - 1, loc=values.mean(), scale=stats.sem(values))
    assert ours.n == n
    assert [ours.mean, ours.sd, ours.low, ours.high] == pytest.approx(
        [values.mean(), stats.tstd(values), low, high], rel=1e-12
    )


def test_one_value_has_no_deviation_and_none_have_no_mean():
    one = Statistics.of([0.5])
    assert (one.n, one.mean) == (1, 0.5)
    assert math.isnan(one.sd)
    assert math.isnan(one.low)
    assert Statistics.of([]) is None


def outcome(seed, test, *, state=RunState.FINISHED, **changes):
    return Outcome(config(seed, **changes), state, {"test_accuracy": test, "last_val_accuracy": test + 0.01})


def test_runs_that_differ_in_the_seed_alone_are_one_setting():
    settings = summarise(
        [
            outcome(0, 0.8),
            outcome(1, 0.9),
            outcome(0, 0.5, objective="kd:tau=2"),
            outcome(0, 0.6, optimiser={"learning_rate": 0.5}),
        ]
    )
    assert [setting.name for setting in settings] == [
        "cist:rho=4, learning_rate=0.05",
        "kd:tau=2, learning_rate=0.05",
        "cist:rho=4, learning_rate=0.5",
    ]
    assert settings[0].runs == 2
    assert settings[0].objective == "cist:rho=4"
    assert settings[0].differences == {"optimiser.learning_rate": 0.05}
    assert settings[0].measures["test_accuracy"].mean == pytest.approx(0.85)
    assert settings[0].measures["val_accuracy"].mean == pytest.approx(0.86)
    assert settings[1].measures["test_accuracy"].n == 1


def test_a_preset_and_its_text_are_one_setting():
    (setting,) = summarise([outcome(0, 0.8, objective="kd-hinton"), outcome(1, 0.9, objective="kd")])
    assert (setting.name, setting.runs) == ("kd", 2)
    (setting,) = summarise([outcome(seed, 0.8, objective="cist-authors") for seed in range(2)])
    assert (setting.name, setting.objective) == ("cist-authors", "cist:rho=3,lambda_kl=8")


def test_only_finished_runs_count():
    (setting,) = summarise(
        [outcome(0, 0.8), outcome(1, 0.1, state=RunState.FAILED), outcome(2, 0.1, state=RunState.RUNNING)]
    )
    assert setting.name == "cist:rho=4"
    assert setting.runs == 3
    assert setting.measures["test_accuracy"] == Statistics.of([0.8])
    (setting,) = summarise([outcome(0, 0.8, state=RunState.LOST)])
    assert setting.measures == {"test_accuracy": None, "val_accuracy": None}
    assert summarise([]) == []


def test_a_seed_that_was_trained_twice_counts_once():
    (setting,) = summarise([outcome(0, 0.8), outcome(1, 0.9), outcome(1, 0.9)])
    assert setting.measures["test_accuracy"] == Statistics.of([0.8, 0.9])


def test_the_grid_takes_the_place_of_what_the_configs_objective_says():
    entries = expand_sweep(preset("demo"), grid=["rho=2,3"])
    assert [entry.config.objective.parameters["rho"] for entry in entries] == [2, 3]


def test_outcomes_are_read_from_the_directories(store):
    runs = store.add_all([("", config(seed)) for seed in range(2)])
    runs[0].directory.write_status({"state": "finished", "test_accuracy": 0.7})
    runs[1].directory.config_file.write_text("{")
    (found,) = outcomes(runs)
    assert found == Outcome(config(0), RunState.QUEUED, {"state": "finished", "test_accuracy": 0.7})
