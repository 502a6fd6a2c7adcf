"""MNIST, FashionMNIST, CIFAR-10 and CIFAR-100 in the folder layout of torchvision, so existing downloads are found."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cist_core.data.download import Progress, extract_gzip, extract_tar, fetch
from cist_core.data.pinned_splits import PINNED, pinned_positions
from cist_core.data.splits import stratified_split
from cist_core.errors import CistError, CistWarning

VALIDATION_FRACTION = 0.1
SPLIT_SEED = 0
CLASSES = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST", "cifar10": "CIFAR10", "cifar100": "CIFAR100"}

Arrays = tuple[NDArray[np.uint8], NDArray[np.int64], tuple[str, ...]]


def read_torchvision(name: str, split: str, root: Path, *, download: bool, progress: Progress | None) -> Arrays:
    """Images ``(N, H, W, channels)``, labels and class names of one split.

    ``"test"`` is the official test part. The official training part is cut, by class, into 90 % ``"train"`` and 10 %
    ``"validation"``: image by image where a shipped model was trained on them (`pinned_splits`), else with a seed.
    A `CistWarning` tells where images of such a split are missing, and it is cut with a seed after all.

    Raises:
        CistError: if the data are not there (or damaged) and ``download`` is off, or the download fails.
    """
    images, labels, classes = _open_or_download(name, split != "test", root, download, progress)
    chosen = pinned_positions(name, split, images, labels)
    if chosen is None and name in PINNED:
        warnings.warn(
            f"The copy of '{name}' in {root} lacks images of its usual {split} split; another one is used, which may "
            "hold images that the sample models have learned. Download the set again for the usual one.",
            CistWarning,
            stacklevel=2,
        )
    if chosen is None and split == "test":
        return images, labels, classes
    if chosen is None:
        train, validation = stratified_split(labels, (1 - VALIDATION_FRACTION, VALIDATION_FRACTION), SPLIT_SEED)
        chosen = train if split == "train" else validation
    return images[chosen], labels[chosen], classes


def is_downloaded(name: str, root: Path) -> bool:
    """Whether every file that torchvision reads is there. None is opened: that would take seconds for each set."""
    dataset = _dataset_class(name)
    if name.startswith("cifar"):
        folder = root / dataset.base_folder
        files = [file for file, _ in dataset.train_list + dataset.test_list] + [dataset.meta["filename"]]
    else:
        folder = root / CLASSES[name] / "raw"
        files = [Path(archive).stem for archive, _ in dataset.resources]
    return all((folder / file).is_file() for file in files)


def _open_or_download(name: str, train: bool, root: Path, download: bool, progress: Progress | None) -> Arrays:
    try:
        return _open(name, train, root)
    except _UNREADABLE as error:
        if not download:
            raise CistError(
                f"The data set '{name}' is not (or not completely) in {root}; download it (--download on the "
                "command line, `download=True` in Python), or set CIST_DATA to the folder that holds it."
            ) from error
    _download(name, root, progress)
    try:
        return _open(name, train, root)
    except _UNREADABLE as error:
        raise CistError(f"The data set '{name}' in {root} cannot be read after a new download ({error}).") from error


# What torchvision raises for absent files (RuntimeError), cut-off ones and ones of another format.
_UNREADABLE = (RuntimeError, OSError, ValueError, AssertionError, EOFError, IndexError)


def _dataset_class(name: str) -> Any:
    from torchvision import datasets

    return getattr(datasets, CLASSES[name])


def _open(name: str, train: bool, root: Path) -> Arrays:
    with warnings.catch_warnings():
        # The CIFAR archives were pickled by a NumPy of 2009, whose way of writing a dtype newer versions remark upon.
        warnings.filterwarnings("ignore", r"dtype\(\): align should be passed", np.exceptions.VisibleDeprecationWarning)
        dataset = _dataset_class(name)(root, train=train, download=False)
    images = np.ascontiguousarray(np.asarray(dataset.data), np.uint8)
    labels = np.asarray(dataset.targets, np.int64)
    classes = [str(digit) for digit in range(10)] if name == "mnist" else dataset.classes
    return images if images.ndim == 4 else images[..., None], labels, tuple(classes)


def _download(name: str, root: Path, progress: Progress | None) -> None:
    dataset = _dataset_class(name)
    if name.startswith("cifar"):
        archive = root / dataset.filename
        fetch([dataset.url], archive, dataset.tgz_md5, progress=progress)
        extract_tar(archive, dataset.base_folder)
        archive.unlink()
        return
    folder = root / CLASSES[name] / "raw"
    for filename, md5 in dataset.resources:
        fetch([mirror + filename for mirror in dataset.mirrors], folder / filename, md5, progress=progress)
        extract_gzip(folder / filename, folder / Path(filename).stem)
