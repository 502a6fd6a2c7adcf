"""Classes are numbered by the number in their names, or by name, over all splits; and the order is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from command_line import run
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cist_core.data.class_maps import fit_classes
from cist_core.data.loading import describe_data, load_dataset
from cist_core.errors import CistError
from cist_core.logits.class_order import number_classes, numbers_in, order_of_columns


def write(path: Path, shade: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (4, 4), shade).save(path)


def folders(root: Path, *names: str, images: int = 1) -> Path:
    for name in names:
        for index in range(images):
            write(root / name / f"{index}.png")
    return root


def labels_of(root: Path, split: str = "test") -> dict[str, int]:
    dataset = load_dataset(root, split)
    paths = dataset.images.paths  # type: ignore[union-attr]
    return {path.parent.name: int(label) for path, label in zip(paths, dataset.labels, strict=True)}


# ---- folders ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "first"),
    [
        ([f"{number}" for number in range(23)], 0),
        ([f"{number}" for number in range(1, 13)], 1),
        ([f"{number:03d}" for number in range(12)], 0),
        ([f"class_{number}" for number in range(14)], 0),
        ([f"Class {number}" for number in range(1, 12)], 1),
        ([f"c{number}.images" for number in range(11)], 0),
    ],
)
def test_numbered_folders_are_in_the_order_of_their_numbers(tmp_path: Path, names: list[str], first: int) -> None:
    found = labels_of(folders(tmp_path, *names))
    assert found == {name: place for place, name in enumerate(names)}
    dataset = load_dataset(tmp_path)
    assert dataset.class_names == tuple(names)
    assert "in the order of the numbers in their folders" in str(dataset.class_order)
    assert ("is class 0" in str(dataset.class_order)) == (first == 1)
    assert describe_data(tmp_path).class_order == dataset.class_order


@pytest.mark.parametrize(
    ("numbers", "first"), [((3, 17, 42), 0), ((0, 1, 2, 4, 10), 0), ((1, 2, 3, 5), 1), ((1, 400, 2), 0)]
)
def test_numbers_with_gaps_are_the_classes(tmp_path: Path, numbers: tuple[int, ...], first: int) -> None:
    assert labels_of(folders(tmp_path, *map(str, numbers))) == {str(number): number - first for number in numbers}
    dataset = load_dataset(tmp_path)
    assert (dataset.class_names, dataset.num_classes) == (None, max(numbers) + 1 - first)
    assert f"{len(numbers)} of {max(numbers) + 1 - first} numbers are there" in str(dataset.class_order)


def test_ids_are_names(tmp_path: Path) -> None:
    names = ("n01440764", "n01443537", "n02123045")
    assert labels_of(folders(tmp_path, *names)) == dict(zip(names, range(3), strict=True))
    assert load_dataset(tmp_path).class_names == names


def test_a_class_has_one_number_in_all_splits(tmp_path: Path) -> None:
    folders(tmp_path / "train", "ant", "bee", "cat")
    folders(tmp_path / "test", "cat", "bee")
    assert labels_of(tmp_path, "train") == {"ant": 0, "bee": 1, "cat": 2}
    assert labels_of(tmp_path, "test") == {"bee": 1, "cat": 2}
    assert load_dataset(tmp_path, "test").class_names == ("ant", "bee", "cat")
    assert describe_data(tmp_path).splits == {"train": 3, "test": 2}


def test_names_are_in_alphabetical_order_which_is_said(tmp_path: Path) -> None:
    assert labels_of(folders(tmp_path, "wolf", "ape", "10 cents")) == {"10 cents": 0, "ape": 1, "wolf": 2}
    assert load_dataset(tmp_path).class_order == "Classes in alphabetical order of their folders: 10 cents, ape, wolf"


# ---- classes called like splits --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "names",
    [
        ("bus", "car", "train"),
        ("test", "train"),
        ("dev", "prod", "val"),
        ("Train", "bicycle", "tram"),
        ("training", "sleeping", "walking", "testing"),
    ],
)
def test_a_folder_of_images_called_like_a_split_is_a_class(tmp_path: Path, names: tuple[str, ...]) -> None:
    dataset = load_dataset(folders(tmp_path, *names, images=2))
    assert (dataset.split, dataset.class_names) == ("all", tuple(sorted(names)))


def test_a_class_called_train_within_splits(tmp_path: Path) -> None:
    for split in ("train", "test"):
        folders(tmp_path / split, "bus", "train")
    assert load_dataset(tmp_path, "test").class_names == ("bus", "train")
    write(tmp_path / "train" / "contact-sheet.png")  # among the classes of the split
    assert load_dataset(tmp_path, "train").num_samples == 2


def test_a_split_without_classes_says_so(tmp_path: Path) -> None:
    folders(tmp_path / "train", "bus", "car")
    write(tmp_path / "test" / "unlabelled.png")
    assert load_dataset(tmp_path, "train").num_samples == 2
    with pytest.raises(CistError, match=r"/test to hold one subfolder of images per class, but it has 0"):
        load_dataset(tmp_path, "test")


# ---- tables ----------------------------------------------------------------------------------------------------------


def test_labels_of_a_csv_file_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    names = [f"label-{number}" for number in range(1, 13)]
    for index in range(12):
        write(tmp_path / f"{index}.png")
    pd.DataFrame({"path": [f"{index}.png" for index in range(12)], "label": names}).to_csv(tmp_path / "list.csv")
    dataset = load_dataset(tmp_path / "list.csv")
    assert dataset.labels.tolist() == list(range(12))
    assert "label-1 is class 0" in str(dataset.class_order)


def test_labels_of_a_parquet_file_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    import io

    file = io.BytesIO()
    Image.new("L", (4, 4)).save(file, "PNG")
    names = [f"digit {number}" for number in (10, 2, 0, 1, 11, 3, 9, 4, 8, 5, 7, 6)]
    pd.DataFrame({"image": [file.getvalue()] * 12, "label": names}).to_parquet(tmp_path / "digits.parquet")
    dataset = load_dataset(tmp_path / "digits.parquet")
    assert dataset.labels.tolist() == [10, 2, 0, 1, 11, 3, 9, 4, 8, 5, 7, 6]
    assert describe_data(tmp_path / "digits.parquet").class_order == dataset.class_order


def test_what_says_its_order_itself_has_no_remark(tmp_path: Path) -> None:
    images = np.zeros((2, 4, 4), np.uint8)
    np.savez(tmp_path / "named.npz", images=images, labels=[0, 1], classes=["zebra", "ant"])
    assert load_dataset(tmp_path / "named.npz").class_order is None


# ---- the rules -------------------------------------------------------------------------------------------------------


@given(st.permutations(range(15)), st.sampled_from([0, 1]), st.sampled_from(["", "logit_", "p[", "Class "]))
def test_columns_come_into_the_order_of_their_numbers(order: list[int], first: int, before: str) -> None:
    after = "]" if before == "p[" else ""
    names = [f"{before}{number + first}{after}" for number in order]
    taken = order_of_columns(names)
    found = list(range(15)) if taken is None else taken
    assert [order[place] for place in found] == list(range(15))


@pytest.mark.parametrize(
    "names",
    [
        ["cat", "dog", "ant"],
        ["42", "3", "17"],  # ids of some classes, in an order of their own
        ["n02", "n01", "n07"],
        ["class_0", "probability_1"],
        ["1", "01"],
        ["0", "1", "2"],
    ],
)
def test_other_columns_stay_where_they_are(names: list[str]) -> None:
    assert order_of_columns(names) is None


def test_numbers_sorted_as_text_are_put_in_order_even_with_gaps() -> None:
    names = ["class_1", "class_10", "class_2", "class_33"]
    assert [names[place] for place in order_of_columns(names) or ()] == ["class_1", "class_2", "class_10", "class_33"]


def test_no_name_is_taken_for_a_number() -> None:
    assert numbers_in(["1e5", "2e5"]) is None
    assert numbers_in(["-1", "1"]) is None
    assert numbers_in(["7"]) is None
    assert number_classes(["b", "a"]).labels == {"a": 0, "b": 1}


# ---- where it is said ------------------------------------------------------------------------------------------------


def test_cist_infer_says_the_order(tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CIST_CACHE", str(tmp_path / "cache"))
    digits = load_dataset("mnist-5k")
    for index in range(0, 1000, 10):
        label = int(digits.labels[index])
        path = tmp_path / "digits" / f"digit-{label}" / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(digits.images[np.array([index])][0, :, :, 0]).save(path)
    command = ("infer", "--teacher", "mnist5k-cnn", "--data", tmp_path / "digits", "--out", tmp_path / "o.safetensors")
    code, said, wrong = run(capsys, *command)
    assert code == 0, wrong
    assert "Classes in the order of the numbers in their folders: digit-0, digit-1, digit-2, ..., digit-9." in said
    _, said, _ = run(capsys, *command, "--json")
    record = json.loads(said)
    assert record["class_order"].startswith("Classes in the order of the numbers")
    assert record["accuracy"] > 0.9


def test_folders_from_one_are_the_classes_of_a_teacher_from_zero(tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("CIST_CACHE", str(tmp_path / "cache"))
    digits = load_dataset("mnist-5k")
    for index in range(0, 1000, 10):
        path = tmp_path / "digits" / f"{digits.labels[index] + 1}" / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(digits.images[np.array([index])][0, :, :, 0]).save(path)
    command = ("infer", "--teacher", "mnist5k-cnn", "--data", tmp_path / "digits", "--out", tmp_path / "o.safetensors")
    code, said, wrong = run(capsys, *command)
    assert code == 0, wrong
    assert "Classes in the order of the numbers in their folders: 1, 2, 3, ..., 10; 1 is class 0." in said
    assert "accuracy 9" in said
    for number in range(4, 11):  # three digits of ten, which are called what they are
        (tmp_path / "digits" / f"{number}").rename(tmp_path / f"apart-{number}")
    fitted = fit_classes(load_dataset(tmp_path / "digits"), [f"{digit}" for digit in range(10)])
    assert sorted(set(fitted.labels.tolist())) == [1, 2, 3]
