import numpy as np
import pytest

from cist_core.data import ImageDataset, find_other_order, map_labels
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


def test_another_order_is_found_with_the_map_that_mends_it(pets: ImageDataset) -> None:
    found = find_other_order(pets.class_names, ["Dog", "CAT", "fish_"])
    assert found is not None
    assert "'cat' is 0 in the data and 1 for the teacher" in found.sentence
    assert str(found.mapping)[1:-1] in found.sentence
    mended = map_labels(pets, found.mapping, ["Dog", "CAT", "fish_"])
    assert mended.labels.tolist() == [1, 0, 2, 0, 1]
    assert find_other_order(mended.class_names, ["Dog", "CAT", "fish_"]) is None


def test_a_part_of_the_teachers_classes_is_another_order_too() -> None:
    found = find_other_order(["dog", "fish"], ["ant", "dog", "fish"])
    assert found is not None
    assert found.mapping == {"dog": "dog", "fish": "fish"}


@pytest.mark.parametrize(
    ("data", "teacher"),
    [
        (None, ["a"]),
        (["a"], None),
        (["a", "b"], ["a", "b", "c"]),
        (["a", "b"], ["b", "c"]),
        (["a", "b"], ["b", "B", "a"]),
        (["a", "A"], ["b", "a"]),
    ],
)
def test_no_other_order_is_claimed_without_proof(data: list[str] | None, teacher: list[str] | None) -> None:
    assert find_other_order(data, teacher) is None
