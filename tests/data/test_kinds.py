"""A real file of every kind of data, written by its own library, opens with its images, labels and names."""

import csv
import gzip
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms._presets import ImageClassification

from cist_core.data.dataset import ImageDataset
from cist_core.data.decoded import DecodedImages
from cist_core.data.loading import data_splits, describe_data, is_one_set, load_dataset
from cist_core.errors import CistError

COLOURS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (200, 100, 50)]
NAMES = ("cat", "dog")


def png(colour: Sequence[int], size: tuple[int, int] = (8, 8)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, tuple(colour)).save(file, "PNG")
    return file.getvalue()


def features(**labels: list[str]) -> dict[bytes, bytes]:
    """What `datasets` writes beside a schema."""
    of_labels = {name: {"names": names, "_type": "ClassLabel"} for name, names in labels.items()}
    return {b"huggingface": json.dumps({"info": {"features": {"image": {"_type": "Image"}, **of_labels}}}).encode()}


def table(labels: list[Any], metadata: dict[bytes, bytes] | None = None, **more: list[Any]) -> pa.Table:
    pictures = [{"bytes": png(COLOURS[index % 4]), "path": f"{index}.png"} for index in range(len(labels))]
    return pa.table({"image": pictures, "label": labels, **more}).replace_schema_metadata(metadata)


def colours_of(dataset: ImageDataset) -> list[tuple[int, ...]]:
    assert isinstance(dataset.images, DecodedImages)
    return [tuple(int(value) for value in image[2, 2]) for image in dataset.images.at(4, 3)[:]]


# ---- Parquet ---------------------------------------------------------------------------------------------------------


def test_parquet_as_hugging_face_writes_it(tmp_path: Path) -> None:
    path = tmp_path / "pets.parquet"
    pq.write_table(table([0, 1, 1, 0], features(label=list(NAMES))), path, row_group_size=3)
    dataset = load_dataset(path)
    assert (dataset.name, dataset.split, dataset.class_names) == ("pets", "all", NAMES)
    assert dataset.labels.tolist() == [0, 1, 1, 0]
    assert colours_of(dataset) == COLOURS
    assert colours_of(dataset.take(np.array([3, 1]))) == [COLOURS[3], COLOURS[1]]
    assert load_dataset(dataset.source).fingerprint == dataset.fingerprint
    assert describe_data(path).splits == {"all": 4}


def test_parquet_splits_of_several_files(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for name, labels in {"train-00000-of-00002": ["b", "a"], "train-00001-of-00002": ["a"], "test-0": ["c"]}.items():
        pq.write_table(table(labels), tmp_path / "data" / f"{name}.parquet")
    train, test = load_dataset(tmp_path, "train"), load_dataset(tmp_path, "test")
    assert train.labels.tolist() == [1, 0, 0]
    assert (test.labels.tolist(), test.class_names) == ([2], ("a", "b", "c"))  # numbered over both splits
    assert colours_of(train) == [COLOURS[0], COLOURS[1], COLOURS[0]]
    assert describe_data(tmp_path).splits == {"train": 3, "test": 1}
    assert not is_one_set(tmp_path)
    with pytest.raises(CistError, match="has no split 'validation'; it has: test, train"):
        load_dataset(tmp_path, "validation")


def test_parquet_with_a_column_of_bytes_and_other_columns(tmp_path: Path) -> None:
    frame = pd.DataFrame({"img": [png(colour) for colour in COLOURS], "note": list("abcd"), "target": [2, 0, 1, 1]})
    frame.to_parquet(tmp_path / "mine.parquet")
    dataset = load_dataset(tmp_path / "mine.parquet")
    assert (dataset.labels.tolist(), dataset.class_names, dataset.num_classes) == ([2, 0, 1, 1], None, 3)
    assert colours_of(dataset) == COLOURS


def test_parquet_with_categories_of_pandas(tmp_path: Path) -> None:
    frame = pd.DataFrame({"image": [png(colour) for colour in COLOURS], "label": pd.Categorical(list("yxxy"))})
    frame.to_parquet(tmp_path / "mine.parquet")
    dataset = load_dataset(tmp_path / "mine.parquet")
    assert (dataset.labels.tolist(), dataset.class_names) == ([1, 0, 0, 1], ("x", "y"))


def test_parquet_prefers_the_fine_label(tmp_path: Path) -> None:
    rows = table([0, 0], coarse_label=[0, 0]).rename_columns({"label": "fine_label"})
    metadata = features(coarse_label=["z"], fine_label=["x", "y"])
    pq.write_table(rows.replace_schema_metadata(metadata), tmp_path / "c.parquet")
    assert load_dataset(tmp_path / "c.parquet").class_names == ("x", "y")


def test_parquet_that_names_its_pictures(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    for index in (0, 1):
        (tmp_path / "pictures" / f"{index}.png").write_bytes(png(COLOURS[index]))
    cells = [{"bytes": None, "path": f"pictures/{index}.png"} for index in (1, 0)]
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    pq.write_table(pa.table({"image": pa.array(cells, kind), "label": [0, 1]}), tmp_path / "list.parquet")
    assert colours_of(load_dataset(tmp_path / "list.parquet")) == [COLOURS[1], COLOURS[0]]


# ---- CSV -------------------------------------------------------------------------------------------------------------


def write_csv(path: Path, rows: Sequence[Sequence[object]], delimiter: str = ",", encoding: str = "utf-8") -> Path:
    with path.open("w", newline="", encoding=encoding) as stream:
        csv.writer(stream, delimiter=delimiter).writerows(rows)
    for index, colour in enumerate(COLOURS):
        (path.parent / f"{index}.png").write_bytes(png(colour))
    return path


def test_csv_of_paths_and_names(tmp_path: Path) -> None:
    rows = [
        ["Filename", "Label", "split"],
        ["2.png", "dog", "train"],
        ["0.png", "cat", "val"],
        ["1.png", "emu", "train"],
    ]
    path = write_csv(tmp_path / "list.csv", rows)
    train, validation = load_dataset(path, "train"), load_dataset(path, "validation")
    assert (train.labels.tolist(), train.class_names) == ([1, 2], ("cat", "dog", "emu"))
    assert (colours_of(train), colours_of(validation)) == ([COLOURS[2], COLOURS[1]], [COLOURS[0]])
    assert describe_data(path).splits == {"train": 2, "validation": 1}


@pytest.mark.parametrize(("delimiter", "encoding"), [(";", "utf-8-sig"), ("\t", "utf-8"), (",", "utf-8")])
def test_csv_of_spreadsheets(tmp_path: Path, delimiter: str, encoding: str) -> None:
    path = write_csv(
        tmp_path / "list.csv", [["path", "class"], ["0.png", "3"], ["1.png", "0"], []], delimiter, encoding
    )
    dataset = load_dataset(path)
    assert (dataset.split, dataset.labels.tolist(), dataset.class_names) == ("all", [3, 0], None)
    assert is_one_set(path)


def test_csv_with_a_class_called_na_or_html(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "list.csv", [["path", "label"], ["0.png", "NA"], ["1.png", "<b>=1+1</b>"]])
    assert load_dataset(path).class_names == ("<b>=1+1</b>", "NA")


# ---- Hugging Face ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pets() -> Any:
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    rows = {"image": [Image.new("RGB", (8, 8), colour) for colour in COLOURS], "label": [1, 0, 0, 1]}
    kinds = datasets.Features(image=datasets.Image(), label=datasets.ClassLabel(names=list(NAMES)))
    return datasets.Dataset.from_dict(rows, features=kinds)


def test_a_saved_dataset(tmp_path: Path, pets: Any) -> None:
    pets.save_to_disk(tmp_path / "pets", num_shards=2)
    dataset = load_dataset(tmp_path / "pets")
    assert (dataset.split, dataset.class_names, dataset.labels.tolist()) == ("all", NAMES, [1, 0, 0, 1])
    assert colours_of(dataset) == COLOURS
    assert describe_data(tmp_path / "pets").num_classes == 2


def test_a_saved_dict_of_datasets(tmp_path: Path, pets: Any) -> None:
    import datasets

    datasets.DatasetDict(train=pets, test=pets.select([2])).save_to_disk(tmp_path / "pets")
    assert colours_of(load_dataset(tmp_path / "pets", "test")) == [COLOURS[2]]
    assert describe_data(tmp_path / "pets").splits == {"train": 4, "test": 1}


def test_the_parquet_of_datasets(tmp_path: Path, pets: Any) -> None:
    pets.to_parquet(tmp_path / "pets.parquet")
    dataset = load_dataset(tmp_path / "pets.parquet")
    assert (dataset.class_names, colours_of(dataset)) == (NAMES, COLOURS)


def test_a_dataset_of_the_hub(monkeypatch: pytest.MonkeyPatch, pets: Any) -> None:
    import datasets

    asked: list[tuple[Any, ...]] = []

    def load(repo: str, config: str | None, *, split: str, download_config: Any) -> Any:
        asked.append((repo, config, split, download_config.local_files_only))
        return pets

    monkeypatch.setattr(datasets, "get_dataset_split_names", lambda *_, **__: ["train", "val"])
    monkeypatch.setattr(datasets, "load_dataset", load)
    dataset = load_dataset("hf:some/pets:small", "validation", download=True)
    assert (dataset.source, dataset.split, dataset.class_names) == ("hf:some/pets:small", "validation", NAMES)
    assert colours_of(dataset) == COLOURS
    assert describe_data("hf:some/pets").splits == {"train": None, "validation": None}
    load_dataset("hf:some/pets", "train")
    assert asked == [("some/pets", "small", "val", False), ("some/pets", None, "train", True)]


def test_a_hub_that_cannot_be_reached_is_one_sentence(monkeypatch: pytest.MonkeyPatch, pets: Any) -> None:
    import datasets

    def fail(*_: object, **__: object) -> None:
        raise ConnectionError("no route\nand more")

    monkeypatch.setattr(datasets, "get_dataset_split_names", fail)
    with pytest.raises(CistError, match=r"'hf:some/pets' cannot be opened \(no route\); download it \(--download"):
        load_dataset("hf:some/pets")
    with pytest.raises(CistError, match="check the name and the connection"):
        load_dataset("hf:some/pets", download=True)


def test_without_datasets_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(CistError, match=r"pip install 'cist-studio\[hf\]'"):
        load_dataset("hf:some/pets")


# ---- NumPy and torchvision -------------------------------------------------------------------------------------------


def write_idx(folder: Path, *, packed: bool = False) -> dict[str, np.ndarray]:
    """MNIST's four files: 40 images of 6 x 6 to learn from and 20 for the test; the images."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    images = {"train": rng.integers(0, 256, (40, 6, 6), np.uint8), "t10k": rng.integers(0, 256, (20, 6, 6), np.uint8)}
    for part, pixels in images.items():
        labels = (np.arange(len(pixels)) % 4).astype(np.uint8)
        for name, array in {f"{part}-images-idx3-ubyte": pixels, f"{part}-labels-idx1-ubyte": labels}.items():
            # Two zeros, the type (8 is uint8), the rank, the sizes, the bytes.
            head = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
            content = head + array.tobytes()
            (folder / f"{name}{'.gz' * packed}").write_bytes(gzip.compress(content) if packed else content)
    return images


@pytest.mark.parametrize(
    "names",
    [
        ("train_images", "train_labels", "val_images", "val_labels"),
        ("x_train", "y_train", "x_validation", "y_validation"),
    ],
)
def test_archives_with_splits(tmp_path: Path, names: tuple[str, ...]) -> None:
    rng = np.random.default_rng(0)
    arrays = [rng.integers(0, 256, (3, 4, 4, 3), np.uint8), np.array([[0], [2], [1]], np.uint8)]
    arrays += [rng.integers(0, 256, (2, 4, 4, 3), np.uint8), np.array([[1], [0]], np.uint8)]
    np.savez(tmp_path / "medical.npz", **dict(zip(names, arrays, strict=True)))
    train = load_dataset(tmp_path / "medical.npz", "train")
    assert (train.split, train.labels.tolist()) == ("train", [0, 2, 1])
    np.testing.assert_array_equal(load_dataset(tmp_path / "medical.npz", "validation").images, arrays[2])
    found = describe_data(tmp_path / "medical.npz")
    assert (found.splits, found.num_classes, found.image_shape) == ({"train": 3, "validation": 2}, 3, (4, 4, 3))


def test_an_archive_of_x_and_y(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", X=np.ones((2, 4, 5), np.uint8), y=np.array([1, 0]))
    assert load_dataset(tmp_path / "a.npz").images.shape == (2, 4, 5, 1)
    assert describe_data(tmp_path / "a.npz").image_shape == (4, 5, 1)


@pytest.mark.parametrize("packed", [False, True])
def test_a_folder_of_mnist_files(tmp_path: Path, packed: bool) -> None:
    raw = tmp_path / "FashionMNIST" / "raw"
    images = write_idx(raw, packed=packed)
    dataset = load_dataset(raw)
    np.testing.assert_array_equal(dataset.images[..., 0], images["t10k"])
    assert dataset.class_names is not None
    assert dataset.class_names[9] == "Ankle boot"
    found = describe_data(tmp_path)
    assert (found.splits, found.image_shape) == ({"train": 36, "validation": 4, "test": 20}, (6, 6, 1))
    train, validation = (load_dataset(tmp_path, split) for split in ("train", "validation"))
    together = np.concatenate([train.images, validation.images])[..., 0].reshape(40, -1)
    assert sorted(map(bytes, together)) == sorted(map(bytes, images["train"].reshape(40, -1)))


def test_several_sets_in_a_folder_are_told_apart(tmp_path: Path) -> None:
    write_idx(tmp_path / "MNIST" / "raw")
    write_idx(tmp_path / "KMNIST" / "raw")
    with pytest.raises(CistError, match=r"holds several data sets; give the path of one: .*/MNIST/raw, .*/KMNIST/raw"):
        load_dataset(tmp_path)
    assert load_dataset(tmp_path / "KMNIST").class_names is not None


def test_cifar_pickles_of_strangers_are_not_opened(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    marker = tmp_path / "ran"
    payload = b"cos\nsystem\n(S'touch " + str(marker).encode() + b"'\ntR."
    for name in [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch", "batches.meta"]:
        (folder / name).write_bytes(payload)
    for path in (tmp_path, folder):
        with pytest.raises(CistError, match="'cifar10' is not"):
            load_dataset(path)
    assert not marker.exists()


def test_svhn_is_read_from_its_matlab_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import hashlib

    from scipy.io import savemat
    from torchvision import datasets

    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3, 100), np.uint8)
    labels = np.tile(np.arange(1, 11, dtype=np.uint8), 10)[:, None]  # 10 means the digit 0
    parts = {}
    for part in ("train", "test"):
        savemat(tmp_path / f"{part}_32x32.mat", {"X": pixels, "y": labels})
        md5 = hashlib.md5((tmp_path / f"{part}_32x32.mat").read_bytes()).hexdigest()
        parts[part] = ["http://127.0.0.1:9/", f"{part}_32x32.mat", md5]
    monkeypatch.setattr(datasets.SVHN, "split_list", parts)
    dataset = load_dataset("svhn", root=tmp_path)
    np.testing.assert_array_equal(dataset.images, pixels.transpose(3, 0, 1, 2))
    assert dataset.labels.tolist() == [*range(1, 10), 0] * 10
    assert load_dataset("svhn", "validation", root=tmp_path).num_samples == 10


# ---- what is told without decoding -----------------------------------------------------------------------------------


def test_descriptions_decode_nothing(tmp_path: Path) -> None:
    for name in NAMES:
        (tmp_path / name).mkdir()
        (tmp_path / name / "broken.png").write_bytes(b"not a picture")
    found = describe_data(tmp_path)
    assert (found.kind, found.splits, found.class_names) == ("image folder", {"all": 2}, NAMES)
    assert data_splits("cifar10") == ("train", "validation", "test")
    assert describe_data("mnist-5k").class_names == tuple("0123456789")
    with pytest.raises(CistError, match="There is no data set"):
        describe_data(tmp_path / "absent")


# ---- how a picture is decoded ----------------------------------------------------------------------------------------


def test_the_centre_is_cut_before_it_is_scaled(tmp_path: Path) -> None:
    pixels = np.zeros((20, 40, 3), np.uint8)
    pixels[5:15, 15:25] = 255  # half of the shorter side, in the middle
    for name in NAMES:
        (tmp_path / name).mkdir()
        Image.fromarray(pixels).save(tmp_path / name / "1.png")
    images = load_dataset(tmp_path).images
    assert isinstance(images, DecodedImages)
    assert (images.at(10, 3, crop=0.5)[:] == 255).all()
    assert not (images.at(10, 3, crop=0.6)[:] == 255).all()
    bilinear, bicubic = images.at(7, 3)[:], images.at(7, 3, interpolation="bicubic")[:]
    assert not np.array_equal(bilinear, bicubic)
    for crop in (0.0, 1.2, float("nan")):
        with pytest.raises(CistError, match="`crop`"):
            images.at(7, 3, crop=crop)


@pytest.mark.parametrize(("width", "height"), [(100, 75), (61, 83), (64, 64), (500, 375)])
@pytest.mark.parametrize(("size", "resize"), [(28, 32), (28, 28), (29, 31), (224, 256)])
@pytest.mark.parametrize("method", ["bilinear", "bicubic"])
def test_the_centre_is_that_of_torchvision(
    tmp_path: Path, method: Any, size: int, resize: int, width: int, height: int
) -> None:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))
    for name in NAMES:
        (tmp_path / name).mkdir()
        picture.save(tmp_path / name / "1.png")
    images = load_dataset(tmp_path).images
    assert isinstance(images, DecodedImages)
    theirs = ImageClassification(
        crop_size=size, resize_size=resize, interpolation=InterpolationMode(method), mean=(0, 0, 0), std=(1, 1, 1)
    )(picture)
    ours = images.at(size, 3, crop=size / resize, interpolation=method)[:][0]
    differences = np.abs(ours - theirs.permute(1, 2, 0).numpy() * 255)
    assert differences.max() < 1.01  # Pillow keeps the place of the square in single precision
    assert differences.mean() < 0.01


def test_a_very_long_picture_takes_no_more_memory_than_it_has(tmp_path: Path) -> None:
    for name in NAMES:
        (tmp_path / name).mkdir()
        Image.new("L", (65_000, 1), 9).save(tmp_path / name / "1.png")
    images = load_dataset(tmp_path).images
    assert isinstance(images, DecodedImages)
    assert (images.at(224, 3)[:] == 9).all()


# What has to be done to the stored pixels, by the number in EXIF's tag 0x0112 (CIPA DC-008, 4.6.5)
UPRIGHT = {
    1: lambda pixels: pixels,
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.transpose(1, 0, 2),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: pixels[::-1, ::-1].transpose(1, 0, 2),
    8: lambda pixels: np.rot90(pixels, 1),
}


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("kind", ["folder", "csv", "parquet"])
def test_a_photograph_stands_as_it_was_taken(tmp_path: Path, orientation: int, kind: str) -> None:
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[:4] += np.array([90, 90, 90], np.uint8)
    pixels[:, :4] += np.array([120, 120, 120], np.uint8)  # four squares of different grey
    turned = Image.Exif()
    turned[0x0112] = orientation
    files = [tmp_path / name / "1.png" for name in NAMES]
    for file in files:
        file.parent.mkdir()
        Image.fromarray(pixels).save(file, exif=turned)
    data = tmp_path
    if kind == "csv":
        data = tmp_path / "list.csv"
        data.write_text("path,label\n" + "".join(f"{name}/1.png,{name}\n" for name in NAMES))
    elif kind == "parquet":
        data = tmp_path / "table.parquet"
        pq.write_table(pa.table({"image": [file.read_bytes() for file in files], "label": NAMES}), data)
    images = load_dataset(data).images
    assert isinstance(images, DecodedImages)
    np.testing.assert_array_equal(images.at(8, 3)[:][0], UPRIGHT[orientation](pixels))


def test_packed_idx_files_end_where_they_say(tmp_path: Path) -> None:
    write_idx(tmp_path)
    longer = (tmp_path / "t10k-images-idx3-ubyte").read_bytes() + b"more"
    (tmp_path / "t10k-images-idx3-ubyte").unlink()
    (tmp_path / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(longer))
    with pytest.raises(CistError, match=r"promises 720 bytes of shape .* but holds others"):
        load_dataset(tmp_path)
