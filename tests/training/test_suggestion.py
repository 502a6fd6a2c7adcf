"""The config that a chosen rho leads to: valid for every data set, and about nothing but what was chosen."""

import pytest

from cist_core.cards import sample_models
from cist_core.data.loading import DATASETS
from cist_core.errors import CistError
from cist_core.training import parse_config, preset
from cist_core.training.suggestion import suggest_config, suggested_preset
from cist_core.zoo.architectures import find_architecture


@pytest.mark.parametrize("data", [*DATASETS, "photos/train"])
def test_it_is_valid_and_its_student_takes_such_images(data):
    config = suggest_config(3.25, teacher="some/teacher.pt", data=data)
    assert parse_config(config.model_dump(mode="json")) == config
    assert (config.teacher.name, config.teacher.architecture) == ("some/teacher.pt", None)
    assert config.data.name == data
    assert (config.objective.name, config.objective.parameters["rho"]) == ("cist", 3.25)
    if data in DATASETS:
        student = find_architecture(config.student.architecture)
        assert (student.image_size, student.image_size, student.channels) == DATASETS[data].image_shape


def test_beside_teacher_data_and_rho_it_is_the_preset():
    config = suggest_config(4.0, teacher="cifar100-resnet20", data="cifar100")
    assert config == preset("cifar-240").changed(objective="cist:rho=4")
    assert suggest_config(2.0, teacher="mnist5k-mlp", data="mnist-5k").data == preset("demo").data


def test_the_student_can_be_named():
    assert suggest_config(4.0, teacher="t", data="cifar10", student="resnet14").student.architecture == "resnet14"
    with pytest.raises(CistError, match="resnet9999"):
        suggest_config(4.0, teacher="t", data="cifar10", student="resnet9999")


def test_every_shipped_model_has_a_recipe_made_for_its_images():
    for card in sample_models():
        assert preset(suggested_preset(card.data)).data.name == card.data


def test_a_rho_that_is_none_is_refused():
    with pytest.raises(CistError, match="rho of the rule 'cist' to be a positive number"):
        suggest_config(0.0, teacher="t", data="mnist-5k")
