"""Configs: what is refused and how, what is filled in, and what changes when a field does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from cist_core.errors import CistError
from cist_core.training import config_schema, load_config, parse_config, preset
from cist_core.training.presets import DEMO_LANGUAGE, LANGUAGE_PRESETS, preset_names


@pytest.mark.parametrize("name", preset_names())
def test_presets_are_valid_and_survive_json(name: str, tmp_path: Path) -> None:
    config = preset(name)
    config.save(tmp_path / "config.json")
    assert load_config(tmp_path / "config.json") == config
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(json.loads((tmp_path / "config.json").read_text())))
    assert load_config(tmp_path / "config.yaml") == config


@pytest.mark.parametrize("name", [name for name in LANGUAGE_PRESETS if name.startswith("minillm")])
def test_recipes_with_texts_of_their_own_for_each_part_train_on_all_others(name: str) -> None:
    data = preset(name).data
    assert len({data.name, data.validation, data.test} - {None}) == 3


@pytest.mark.parametrize("here", [{"scripture-gpt"}, {"scripture-gpt", "scripture-gpt-small"}])
def test_the_demo_of_language_is_known_where_its_models_are(
    here: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = {"title": "x", "role": "teacher", "parameters": 1, "vocabulary": 9, "data": "x", "licence": "MIT", "nll": {}}
    for name in here:
        (tmp_path / "language" / name).mkdir(parents=True)
        (tmp_path / "language" / name / "card.json").write_text(json.dumps(card))
    monkeypatch.setenv("CIST_SAMPLE_MODELS", str(tmp_path))
    assert (DEMO_LANGUAGE in preset_names()) == (len(here) == 2)
    if len(here) == 1:
        with pytest.raises(CistError, match="There is no preset 'demo-language'; known are demo, "):
            preset(DEMO_LANGUAGE)


def test_an_objective_is_recorded_with_every_parameter() -> None:
    parameters = preset("demo").changed(objective="cist:rho=3").objective.parameters
    assert parameters == {
        "rho": 3.0,
        "floor": 1.0,
        "weighting": "product",
        "normalise": False,
        "gradient": "constant",
        "lambda_ce": 0.1,
        "lambda_kl": 0.9,
    }


def test_a_preset_of_the_objective_is_recorded_by_its_name(tmp_path: Path) -> None:
    config = preset("demo").changed(objective="cist-authors")
    assert (config.objective.name, config.objective.preset) == ("cist", "cist-authors")
    assert config.objective.parameters["lambda_kl"] == 8
    assert (config.objective.label, str(config.objective)) == ("cist-authors", "cist:rho=3,lambda_kl=8")
    config.save(tmp_path / "config.json")
    assert json.loads((tmp_path / "config.json").read_text())["objective"]["preset"] == "cist-authors"
    assert load_config(tmp_path / "config.json") == config
    assert config.changed(seed=1).objective.preset == "cist-authors"


def test_a_value_that_is_changed_leaves_the_preset() -> None:
    for text in ("cist-authors:rho=4", "cist:rho=3,lambda_kl=8"):
        objective = preset("demo").changed(objective=text).objective
        assert objective.preset is None
        assert objective.label == str(objective)
        assert objective.parameters["lambda_kl"] == 8


def test_configs_that_train_alike_differ_in_the_name_of_the_preset_alone() -> None:
    named, plain = (preset("demo").changed(objective=text) for text in ("cist-authors", "cist:rho=3,lambda_kl=8"))
    assert named != plain
    assert named.unnamed() == plain.unnamed() == plain


def test_changing_a_part_keeps_its_other_fields() -> None:
    config = preset("cifar-240").changed(optimiser={"learning_rate": 0.1}, epochs=3)
    assert (config.optimiser.learning_rate, config.optimiser.weight_decay, config.epochs) == (0.1, 5e-4, 3)


def test_steps_take_the_place_of_epochs() -> None:
    config = preset("demo").changed(steps=7)
    assert (config.steps, config.epochs) == (7, None)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"epoch": 3}, "there is no field 'epoch'; did you mean epochs?"),
        ({"schedule": {"nme": "cosine"}}, "there is no field 'schedule.nme'; did you mean name?"),
        ({"batch_size": 0}, "batch_size: input should be greater than or equal to 1, but got 0"),
        ({"epochs": 2**63}, "epochs: input should be less than 2147483648, but got 9223372036854775808"),
        ({"optimiser": {"learning_rate": float("nan")}}, "optimiser.learning_rate: input should be a finite number"),
        ({"epochs": 3, "steps": 3}, "give epochs or steps, one of the two"),
        ({"objective": "cist"}, "needs rho"),
        ({"objective": "cist:rho=-1"}, "rho of the objective 'cist' to be a positive number, but got '-1'"),
        ({"objective": {"name": "kd", "parameters": {"rho": 3}}}, "has no parameter 'rho'"),
        ({"objective": "kd-entout-ht:tau=1,sides=both"}, "objective: With sides=both the outliers of high entropy"),
        ({"objective": {"name": "kd", "preset": "kd-hintn"}}, "objective: there is no preset 'kd-hintn'"),
        (
            {"objective": {"name": "kd", "parameters": {"tau": 3}, "preset": "kd-hinton"}},
            "the preset 'kd-hinton' is kd:tau=4,lambda_ce=0.1,lambda_kl=0.9; leave it out where",
        ),
        ({"objective": {"name": "ce", "preset": "kd-hinton"}}, "the preset 'kd-hinton' is kd:tau=4"),
        ({"student": {"architecture": "resne8"}}, "did you mean resnet8"),
        ({"schedule": {"name": "multistep"}}, "multistep needs milestones"),
        ({"schedule": {"milestones": [3]}}, "milestones belong to multistep"),
        ({"optimiser": {"name": "adamw", "nesterov": True}}, "momentum and nesterov belong to sgd"),
        ({"augmentation": {"resized_crop": [0.9, 0.1]}}, "the smaller share comes first"),
        ({"threads": 2}, "there is no field 'threads'; did you mean machine.threads?"),
        ({"augmentation": {"strong_view": True}}, "strong_view is for objectives with two views"),
    ],
)
def test_a_wrong_field_is_named_with_its_value(changes: dict, sentence: str) -> None:
    with pytest.raises(CistError) as error:
        preset("demo").changed(**changes)
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_part_is_named() -> None:
    with pytest.raises(CistError, match="'teacher' is missing"):
        parse_config(
            {"data": {"name": "mnist-5k"}, "student": {"architecture": "resnet8"}, "objective": "kd", "epochs": 1}
        )


def test_files_that_hold_no_config(tmp_path: Path) -> None:
    with pytest.raises(CistError, match="cannot be read"):
        load_config(tmp_path / "none.json")
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(CistError, match="is not JSON"):
        load_config(tmp_path / "broken.json")
    (tmp_path / "broken.yml").write_text("a: [")
    with pytest.raises(CistError, match="is not YAML"):
        load_config(tmp_path / "broken.yml")
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(CistError, match="Mend"):
        load_config(tmp_path / "list.json")


def test_the_schema_describes_every_field() -> None:
    schema = json.loads(json.dumps(config_schema()))
    of_tasks = {
        name: schema["$defs"][place.rpartition("/")[2]] for name, place in schema["discriminator"]["mapping"].items()
    }
    assert set(of_tasks) == {"image-classification", "language"}
    for described in of_tasks.values():
        assert set(described["required"]) == {"data", "teacher", "student", "objective"}
        assert "Updates of the weights" in described["properties"]["steps"]["description"]


def test_unknown_preset() -> None:
    with pytest.raises(CistError, match="known are demo"):
        preset("none")


def test_a_config_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    config = preset("demo").changed(
        machine={"device": "cpu", "threads": 2, "checkpoint_every_steps": 5, "trackers": ["mlflow"]}
    )
    content = config.model_dump(mode="json")
    machine = content.pop("machine")
    del machine["micro_batch_size"]
    (tmp_path / "config.json").write_text(json.dumps(content | machine))
    assert load_config(tmp_path / "config.json") == config
    with pytest.raises(CistError, match=r"Both 'threads' and 'machine\.threads' are given"):
        parse_config(content | {"threads": 1, "machine": {"threads": 1}})


@pytest.mark.parametrize("machine", [None, 5, [1], "device"])
def test_a_machine_that_is_no_part_is_named(machine: object) -> None:
    content = preset("demo").model_dump(mode="json") | {"device": "cpu", "machine": machine}
    with pytest.raises(CistError, match="machine: input should be a valid dictionary"):
        parse_config(content)


def test_an_unknown_task_is_named() -> None:
    with pytest.raises(CistError, match="task: input should be 'image-classification', but got \"weather\""):
        parse_config(preset("demo").model_dump(mode="json") | {"task": "weather"})
