import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cist_core.data.dataset import ImageDataset
from cist_core.data.folder import FolderImages
from cist_core.data.loading import DATASETS, load_dataset
from cist_core.errors import CistError


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_bundled_digits_are_split_by_class(split: str) -> None:
    dataset = load_dataset("mnist-5k", split)
    size = DATASETS["mnist-5k"].splits[split]
    assert dataset.images.shape == (size, 28, 28, 1)
    assert np.bincount(dataset.labels).tolist() == [size // 10] * 10
    assert dataset.images[:].max() == 255
    assert dataset.class_names == tuple("0123456789")


def test_bundled_splits_share_no_image_and_never_change() -> None:
    splits = [load_dataset("mnist-5k", split) for split in DATASETS["mnist-5k"].splits]
    pixels = np.concatenate([np.asarray(split.images).reshape(split.num_samples, -1) for split in splits])
    assert len(np.unique(pixels, axis=0)) == 5000
    # Shipped logits belong to these very images.
    assert splits[2].fingerprint == "43c41a4bb90a0806bd5356993bd1ec06da50b0866ccabe69baf07acbde95a667"


def test_scikit_learn_is_not_imported_before_the_digits_are_asked_for() -> None:
    code = "import sys, cist_core.data; assert not {'sklearn', 'mlxtend', 'torchvision'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_unknown_names_and_splits_list_the_known() -> None:
    with pytest.raises(CistError, match=r"no data set 'minst'; expected one of mnist-5k, mnist, .*\.npz"):
        load_dataset("minst")
    with pytest.raises(CistError, match="'mnist-5k' has no split 'val'; it has train, validation, test"):
        load_dataset("mnist-5k", "val")


def test_archive_of_colour_images(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (6, 5, 5, 3), np.uint8)
    labels = np.array([0, 1, 2, 0, 1, 2], np.int32)
    np.savez(tmp_path / "mine.npz", images=images, labels=labels, classes=np.array(["a", "b", "c"]))
    dataset = load_dataset(tmp_path / "mine.npz")
    assert (dataset.name, dataset.split, dataset.class_names) == ("mine", "all", ("a", "b", "c"))
    assert dataset.labels.dtype == np.int64
    np.testing.assert_array_equal(dataset.images[np.array([4, 1])], images[[4, 1]])
    assert load_dataset(dataset.source).fingerprint == dataset.fingerprint


def test_archive_of_grey_images_without_names(tmp_path: Path) -> None:
    np.savez(tmp_path / "grey.npz", images=np.zeros((3, 4, 4), np.uint8), labels=np.array([0, 4, 2]))
    dataset = load_dataset(str(tmp_path / "grey.npz"))
    assert dataset.images.shape == (3, 4, 4, 1)
    assert (dataset.class_names, dataset.num_classes) == (None, 5)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"labels": np.zeros(3, int)}, "but not 'images'"),
        ({"images": np.zeros((3, 4, 4), np.uint8)}, "but not 'labels'"),
        ({"images": np.zeros((3, 4, 4)), "labels": np.zeros(3, int)}, "to be uint8 .* but it is float64"),
        ({"images": np.zeros((3, 4), np.uint8), "labels": np.zeros(3, int)}, r"but it is uint8 of shape \(3, 4\)"),
        ({"images": np.zeros((3, 4, 4), np.uint8), "labels": np.full(3, 0.5)}, "integer labels .* but got the type fl"),
        (
            {"images": np.zeros((3, 4, 4), np.uint8), "labels": np.zeros(3, complex)},
            "whole numbers .* it is complex128",
        ),
        ({"images": np.zeros((3, 4, 4), np.uint8), "labels": np.zeros(2, int)}, "3 images and 2 labels"),
        ({"images": np.zeros((0, 4, 4), np.uint8), "labels": np.zeros(0, int)}, "at least one image"),
        ({"images": np.zeros((2, 4, 4), np.uint8), "labels": np.array([0, -1])}, "run from -1 to 0"),
        (
            {"images": np.zeros((2, 4, 4), np.uint8), "labels": np.array([0, 2]), "classes": np.array(["a", "b"])},
            "below its 2 classes, but they run from 0 to 2",
        ),
        (
            {"images": np.zeros((2, 4, 4), np.uint8), "labels": np.array([0, 1]), "classes": np.array("ab")},
            r"`classes` .* to be a list of names, but its shape is \(\)",
        ),
    ],
)
def test_unsuitable_archives_are_refused(tmp_path: Path, arrays: dict[str, np.ndarray], message: str) -> None:
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(CistError, match=message):
        load_dataset(tmp_path / "bad.npz")


class Payload:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch '{self.marker}'",)


def test_a_payload_in_an_archive_is_refused_and_never_runs(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    objects = np.array([Payload(marker)], dtype=object)
    np.savez(tmp_path / "bad.npz", images=objects, labels=np.zeros(1, int))
    (tmp_path / "pickle.npz").write_bytes(pickle.dumps(Payload(marker)))
    for name in ("bad.npz", "pickle.npz"):
        with pytest.raises(CistError, match=f"{name} is not a readable"):
            load_dataset(tmp_path / name)
    assert not marker.exists()


def test_damaged_archive_is_named(tmp_path: Path) -> None:
    (tmp_path / "cut.npz").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(CistError, match=r"cut\.npz is not a readable"):
        load_dataset(tmp_path / "cut.npz")


def test_damage_anywhere_in_an_archive_gives_a_set_or_one_sentence(tmp_path: Path) -> None:
    path, rng = tmp_path / "set.npz", np.random.default_rng(0)
    images = rng.integers(0, 256, (4, 5, 5, 3), np.uint8)
    np.savez_compressed(path, images=images, labels=np.arange(4), classes=np.array(list("abcd")))
    content, messages = path.read_bytes(), []
    for _ in range(400):
        mutated = bytearray(content)
        for _ in range(rng.integers(1, 4)):
            mutated[rng.integers(len(mutated))] = rng.integers(256)
        path.write_bytes(mutated)
        try:
            assert load_dataset(path).num_samples > 0
        except CistError as error:
            messages.append(str(error))
    assert messages
    assert all("set" in message and "\n" not in message for message in messages)


def _write(path: Path, colour: tuple[int, int, int], size: tuple[int, int] = (8, 8)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    _write(tmp_path / "cats" / "1.png", (255, 0, 0))
    _write(tmp_path / "cats" / "2.jpg", (0, 255, 0), (20, 10))
    _write(tmp_path / "dogs" / "1.png", (0, 0, 255), (5, 30))
    (tmp_path / "dogs" / "notes.txt").write_text("not an image")
    (tmp_path / ".hidden").mkdir()
    return tmp_path


def test_folder_without_splits(folder: Path) -> None:
    dataset = load_dataset(folder)
    assert (dataset.split, dataset.class_names, dataset.labels.tolist()) == ("all", ("cats", "dogs"), [0, 0, 1])
    assert isinstance(dataset.images, FolderImages)
    at_size = dataset.images.at(6, 3)
    assert at_size.shape == (3, 6, 6, 3)
    np.testing.assert_array_equal(at_size[np.array([2, 0])][:, 3, 3], [[0, 0, 255], [255, 0, 0]])
    assert dataset.images.at(6, 1)[:].shape == (3, 6, 6, 1)


def test_the_centre_of_an_image_is_kept_in_proportion(tmp_path: Path) -> None:
    pixels = np.zeros((10, 30, 3), np.uint8)
    pixels[:, 10:20] = 255  # a white square in the middle of a wide black image
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Image.fromarray(pixels).save(tmp_path / name / "1.png")
    images = load_dataset(tmp_path).images
    assert isinstance(images, FolderImages)
    assert (images.at(10, 3)[:] == 255).all()


def test_pictures_decoded_in_several_threads_keep_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cist_core.data.decoded.usable_cores", lambda: 3)
    for index in range(20):
        _write(tmp_path / "ab"[index % 2] / f"{index:02}.png", (index, 2 * index, 3 * index))
    images = load_dataset(tmp_path).images
    assert isinstance(images, FolderImages)
    chosen = np.random.default_rng(0).permutation(20)
    expected = [(number, 2 * number, 3 * number) for number in (int(images.paths[i].stem) for i in chosen)]
    np.testing.assert_array_equal(images.at(6, 3)[chosen][:, 3, 3], expected)
    images.paths[7].write_bytes(b"no picture")
    with pytest.raises(CistError, match=str(images.paths[7])):
        images[:]


def test_folder_with_splits(tmp_path: Path) -> None:
    for split, count in (("train", 3), ("val", 2)):
        for index in range(count):
            for name in ("a", "b"):
                _write(tmp_path / split / name / f"{index}.png", (index, 0, 0))
    assert load_dataset(tmp_path, "train").num_samples == 6
    assert load_dataset(tmp_path, "validation").split == "validation"
    with pytest.raises(CistError, match="no split 'test'; it has: train, validation"):
        load_dataset(tmp_path, "test")


def test_unreadable_image_is_named_when_it_is_read(folder: Path) -> None:
    (folder / "cats" / "2.jpg").write_bytes(b"not a picture")
    dataset = load_dataset(folder)
    with pytest.raises(CistError, match=r"cats/2\.jpg is not a readable image"):
        dataset.images[np.array([0, 1])]


def test_cut_off_image_is_named(folder: Path) -> None:
    path = folder / "cats" / "1.png"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(CistError, match=r"cats/1\.png is not a readable image"):
        load_dataset(folder).images[:]


def test_folders_without_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CistError, match=r"one subfolder of images per class, but it has 0"):
        load_dataset(tmp_path)
    _write(tmp_path / "a" / "1.png", (0, 0, 0))
    (tmp_path / "b").mkdir()
    with pytest.raises(CistError, match=r"/b holds no images"):
        load_dataset(tmp_path)


def test_fingerprint_is_of_the_content(folder: Path) -> None:
    before = load_dataset(folder).fingerprint
    assert load_dataset(folder).fingerprint == before
    _write(folder / "dogs" / "1.png", (0, 0, 254), (5, 30))
    assert load_dataset(folder).fingerprint != before

    images = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 1), np.uint8)
    labels = np.arange(5)

    def fingerprint(pixels: np.ndarray, classes: np.ndarray) -> str:
        return ImageDataset("any", "all", pixels, classes, None, "any").fingerprint

    reference = fingerprint(images, labels)
    assert fingerprint(images.copy(order="F"), labels.copy()) == reference
    assert fingerprint(images, labels[::-1]) != reference
    assert fingerprint(images[::-1], labels) != reference
    assert fingerprint(images.reshape(5, 2, 8, 1), labels) != reference
