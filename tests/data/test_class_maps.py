from dataclasses import replace

import numpy as np
import pytest

from cist_core.data.class_maps import fit_classes, map_labels
from cist_core.data.dataset import ImageDataset
from cist_core.errors import CistError

TEACHER = ("bird", "Tiger cat", "wolf")


@pytest.fixture
def pets() -> ImageDataset:
    images = np.arange(5, dtype=np.uint8)[:, None, None, None].repeat(2, 1).repeat(2, 2)
    return ImageDataset("pets", "test", images, np.array([0, 1, 2, 1, 0]), ("cat", "dog", "fish"), "pets.npz")


def test_by_names_and_numbers(pets: ImageDataset) -> None:
    for mapping in (
        {"cat": "Tiger cat", "dog": "wolf", "fish": "bird"},
        {0: 1, 1: 2, 2: 0},
        {"0": "1", "dog": 2, 2: "bird"},
    ):
        mapped = map_labels(pets, mapping, TEACHER)
        assert mapped.labels.tolist() == [1, 2, 0, 2, 1]
        assert (mapped.class_names, mapped.class_map, mapped.source) == (TEACHER, (1, 2, 0), "pets.npz")
    assert map_labels(pets, {0: 7, 1: 7, 2: 9}, 10).labels.tolist() == [7, 7, 9, 7, 7]


def test_classes_that_lead_to_nothing_are_left_out(pets: ImageDataset) -> None:
    for mapping, drop in (({"cat": "wolf", "dog": None, "fish": ""}, False), ({"cat": "wolf"}, True)):
        mapped = map_labels(pets, mapping, TEACHER, drop=drop)
        assert mapped.labels.tolist() == [2, 2]
        assert np.asarray(mapped.images)[:, 0, 0, 0].tolist() == [0, 4]
        assert mapped.fingerprint != pets.fingerprint


def test_numbers_as_names_come_first() -> None:
    images = np.zeros((2, 2, 2, 1), np.uint8)
    digits = ImageDataset("digits", "all", images, np.array([0, 1]), ("1", "0"), "digits")
    assert map_labels(digits, {"1": "b", "0": "a"}, ["a", "b"]).labels.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"cat": "wolf"}, "No class of the teacher is given for 'dog', 'fish' of 'pets'"),
        ({"cow": "wolf"}, "The data set 'pets' has no class 'cow'; it has 3: 'cat', 'dog', 'fish'"),
        ({"cat": "lion"}, "The teacher has no class 'lion'; it has 3: 'bird', 'Tiger cat', 'wolf'"),
        ({3: "wolf"}, "The data set 'pets' has no class 3"),
        ({-1: "wolf"}, "has no class -1"),
        ({"cat": 3}, "The teacher has no class 3"),
        ({"cat": None, "dog": None, "fish": None}, "No image of 'pets' has a class of the teacher"),
    ],
)
def test_maps_that_cannot_be_are_refused(pets: ImageDataset, mapping: dict, message: str) -> None:
    with pytest.raises(CistError, match=message):
        map_labels(pets, mapping, TEACHER)


def test_ambiguous_names_ask_for_a_number(pets: ImageDataset) -> None:
    with pytest.raises(CistError, match=r"The teacher has 2 classes called 'crane' \(\[0, 2\]\); give the number"):
        map_labels(pets, {"cat": "crane"}, ["crane", "ox", "crane"])


# By name, number or map


@pytest.mark.parametrize(
    ("teacher", "labels"),
    [
        (["Dog", "CAT", "fish_"], [1, 0, 2, 0, 1]),  # another order, written otherwise
        (["ant", "dog", "emu", "fish", "cat"], [4, 1, 3, 1, 4]),  # a part of the teacher's classes
        (["cat", "dog", "fish", "gnu"], [0, 1, 2, 1, 0]),  # the first of them
    ],
)
def test_classes_are_found_by_name(pets: ImageDataset, teacher: list[str], labels: list[int]) -> None:
    found = fit_classes(pets, teacher)
    assert found.labels.tolist() == labels
    assert (found.class_names, len(found.class_map or ())) == (tuple(teacher), 3)
    assert found.class_order == (
        f"Classes by their names: 'cat' is the teacher's class {labels[0]}, 'dog' is {labels[1]}, 'fish' is {labels[2]}"
    )
    assert fit_classes(found, teacher) is found


def test_the_same_classes_stay_as_they_are(pets: ImageDataset) -> None:
    for teacher in (["Cat", "dog", "fish"], 3, ["n01", "n02", "n03"]):
        assert fit_classes(pets, teacher) is pets
    unnamed = replace(pets, class_names=None)
    for teacher in (["ant", "bee", "cow", "doe"], 3, 100):
        assert fit_classes(unnamed, teacher) is unnamed


@pytest.mark.parametrize(
    ("teacher", "message"),
    [
        (
            ["ant", "Cat", "dog"],
            "2 of the 3 classes of the data set 'pets' are among the teacher's 3 by name, but not 'fi",
        ),
        (
            ["cat", "dog", "gnu", "emu"],
            "2 of the 3 classes .* among the teacher's 4 by name, but not 'fish'; map each wi",
        ),
        (
            ["ant", "bee", "cow", "doe"],
            r"tells 4 classes apart \('ant', 'bee', 'cow', ...\), but the data set 'pets' has 3",
        ),
        (2, "tells 2 classes apart, but the data set 'pets' has 3; choose .*, or map each with --class-map"),
        (5, "tells 5 classes apart, but the data set 'pets' has 3"),
    ],
)
def test_classes_that_cannot_be_told_are_refused_with_a_way_out(pets: ImageDataset, teacher, message: str) -> None:
    with pytest.raises(CistError, match=message):
        fit_classes(pets, teacher)
    places = {name: (number + 1) % 2 for number, name in enumerate(("cat", "dog", "fish"))}
    assert fit_classes(pets, teacher, places).labels.tolist() == [1, 0, 1, 0, 1]  # as the message says


def test_a_map_needs_only_what_the_names_do_not_say(pets: ImageDataset) -> None:
    teacher = ["ant", "Cat", "dog", "carp"]
    found = fit_classes(pets, teacher, {"fish": "carp"})
    assert found.labels.tolist() == [1, 2, 3, 2, 1]
    assert found.class_order == (
        "Classes through the class map: 'cat' is the teacher's class 1, 'dog' is 2, 'fish' is 3"
    )
    left = fit_classes(pets, teacher, {"fish": None, "dog": "ant"})
    assert left.labels.tolist() == [1, 0, 0, 1]
    assert left.class_order is not None
    assert left.class_order.endswith("; 1 images without a class in it are left out")


@pytest.mark.parametrize("teacher", [["b", "B", "a"], ["dog", "DOG", "cat"]])
def test_ambiguous_names_say_nothing(pets: ImageDataset, teacher: list[str]) -> None:
    assert fit_classes(pets, teacher) is pets
    twice = replace(pets, class_names=("a", "A", "b"))
    assert fit_classes(twice, ["b", "a", "c"]) is twice


def test_one_class_more_or_less_has_a_usual_reason(pets: ImageDataset) -> None:
    with pytest.raises(CistError, match=r"first class is a background, the map is 0=1, 1=2, and so on"):
        fit_classes(pets, 4)
    from_one = replace(pets, class_names=None, labels=np.array([1, 2, 3, 2, 1]))
    with pytest.raises(CistError, match=r"run from 1 to 3: if 1 is the teacher's first class, the map is 1=0, 2=1"):
        fit_classes(from_one, 3)
    mapped = fit_classes(from_one, 3, {1: 0, 2: 1, 3: 2})
    assert mapped.labels.tolist() == [0, 1, 2, 1, 0]
