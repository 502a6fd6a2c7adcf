"""Sets in the folder layout of torchvision, so that existing downloads are found: of MNIST's kin, CIFAR and SVHN.

CIFAR's files are pickles, which can run code. torchvision opens none whose checksum is not that of its authors' file.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from cist_core.data.collection import Collection, DataDescription, Loaded
from cist_core.data.download import extract_gzip, extract_tar, fetch
from cist_core.data.idx import idx_file, idx_shape, read_idx
from cist_core.data.pinned_splits import PINNED, pinned_positions
from cist_core.data.splits import stratified_split
from cist_core.errors import CistError, CistWarning
from cist_core.progress import ProgressCallback

VALIDATION_FRACTION = 0.1
SPLIT_SEED = 0
SPLITS = ("train", "validation", "test")
CLASSES = {
    "mnist": "MNIST",
    "fashion-mnist": "FashionMNIST",
    "kmnist": "KMNIST",
    "cifar10": "CIFAR10",
    "cifar100": "CIFAR100",
    "svhn": "SVHN",
}
DIGITS = tuple(str(digit) for digit in range(10))
_CIFAR_FOLDERS = {"cifar-10-batches-py": "cifar10", "cifar-100-python": "cifar100"}
_IDX_PREFIXES = {"train": "train", "validation": "train", "test": "t10k"}

Arrays = tuple[NDArray[np.uint8], NDArray[np.int64], tuple[str, ...]]


def read_torchvision(name: str, split: str, root: Path, *, download: bool, progress: ProgressCallback | None) -> Arrays:
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
    if chosen is None:
        chosen = _part(labels, split)
    return images[chosen], labels[chosen], classes


def _part(labels: NDArray[np.int64], split: str) -> NDArray[np.int64]:
    """The positions of a split in its official part."""
    if split == "test":
        return np.arange(len(labels))
    train, validation = stratified_split(labels, (1 - VALIDATION_FRACTION, VALIDATION_FRACTION), SPLIT_SEED)
    return train if split == "train" else validation


def is_downloaded(name: str, root: Path) -> bool:
    """Whether every file that torchvision reads is there. None is opened: that would take seconds for each set."""
    dataset = _dataset_class(name)
    if name == "svhn":
        folder, files = root, [dataset.split_list[split][1] for split in ("train", "test")]
    elif name.startswith("cifar"):
        folder = root / dataset.base_folder
        files = [file for file, _ in dataset.train_list + dataset.test_list] + [dataset.meta["filename"]]
    else:
        folder = root / CLASSES[name] / "raw"
        files = [Path(archive).stem for archive, _ in dataset.resources]
    return all((folder / file).is_file() for file in files)


class TorchvisionFolder(Collection):
    """A folder in which torchvision keeps one set: CIFAR's folder of batches, or files of the format of MNIST."""

    kind: ClassVar[str] = "folder of a torchvision set"
    splits: ClassVar[tuple[str, ...]] = SPLITS

    def __init__(self, path: Path, folder: Path) -> None:
        """``folder`` in ``path`` holds the files; see `torchvision_folders`."""
        self.path, self._folder = path, folder
        self._name = _CIFAR_FOLDERS.get(folder.name)

    @classmethod
    def at(cls, path: Path) -> TorchvisionFolder | None:
        """What lies there; None for a folder of another kind.

        Raises:
            CistError: if there are several sets.
        """
        kept = torchvision_folders(path)
        if len(kept) > 1:
            raise CistError(f"{path} holds several data sets; give the path of one: {', '.join(map(str, kept))}.")
        return cls(path, kept[0]) if kept else None

    def describe(self) -> DataDescription:
        if self._name is not None:
            sizes: dict[str, int | None] = {"train": 45_000, "validation": 5_000, "test": 10_000}
            return DataDescription(self.kind, sizes, 10 if self._name == "cifar10" else 100, None, (32, 32, 3))
        counts: dict[str, int | None] = {split: len(self._part(split)) for split in SPLITS}
        height, width = self._image_shape("test")
        labels, names = self._labels("test"), self._idx_names()
        return DataDescription(
            self.kind, counts, len(names) if names else int(labels.max()) + 1, names, (height, width, 1)
        )

    def read(self, split: str) -> Loaded:
        if self._name is not None:
            return read_torchvision(self._name, split, self._folder.parent, download=False, progress=None)
        chosen = self._part(split)
        images = read_idx(self._file(split, "images-idx3-ubyte"))
        return images[chosen][..., None], self._labels(split)[chosen], self._idx_names()

    def _part(self, split: str) -> NDArray[np.int64]:
        return _part(self._labels(split), split)

    def _labels(self, split: str) -> NDArray[np.int64]:
        labels = read_idx(self._file(split, "labels-idx1-ubyte")).astype(np.int64)
        count = idx_shape(self._file(split, "images-idx3-ubyte"))[0]
        if labels.ndim != 1 or len(labels) != count or count == 0:
            raise CistError(
                f"Expected {self._folder} to hold one label for each image of its {_IDX_PREFIXES[split]} files, but "
                f"they have {count:,} images and labels of shape {labels.shape}; download them again."
            )
        return labels

    def _image_shape(self, split: str) -> tuple[int, int]:
        _, height, width = idx_shape(self._file(split, "images-idx3-ubyte"))
        return height, width

    def _file(self, split: str, name: str) -> Path:
        file = idx_file(self._folder, f"{_IDX_PREFIXES[split]}-{name}")
        if file is None:
            raise CistError(f"{self._folder} lacks {_IDX_PREFIXES[split]}-{name}; download it, packed or not.")
        return file

    def _idx_names(self) -> tuple[str, ...] | None:
        """Known where the folder is called as torchvision calls it: ``FashionMNIST/raw``."""
        parts = (self._folder.name, self._folder.parent.name)
        name = next((name for name, called in CLASSES.items() if called in parts), None)
        return None if name is None else _class_names(name, _dataset_class(name))


def torchvision_folders(path: Path) -> list[Path]:
    """The folders in ``path`` that hold files as torchvision keeps them, ``path`` itself perhaps."""
    candidates = [path, path / "raw", *(path / name / "raw" for name in CLASSES.values())]
    found = [folder for folder in candidates if idx_file(folder, "t10k-images-idx3-ubyte")]
    for name in _CIFAR_FOLDERS:
        found += [folder for folder in (path, path / name) if folder.name == name and folder.is_dir()]
    return found


def _open_or_download(name: str, train: bool, root: Path, download: bool, progress: ProgressCallback | None) -> Arrays:
    try:
        return read_arrays(name, train, root)
    except _UNREADABLE as error:
        if not download:
            raise CistError(
                f"The data set '{name}' is not (or not completely) in {root}; download it (--download on the "
                "command line, `download=True` in Python), or set CIST_DATA to the folder that holds it."
            ) from error
    _download(name, root, progress)
    try:
        return read_arrays(name, train, root)
    except _UNREADABLE as error:
        raise CistError(f"The data set '{name}' in {root} cannot be read after a new download ({error}).") from error


# What torchvision raises for absent files (RuntimeError), cut-off ones and ones of another format.
_UNREADABLE = (RuntimeError, OSError, ValueError, AssertionError, EOFError, IndexError)


def _dataset_class(name: str) -> Any:
    from torchvision import datasets

    return getattr(datasets, CLASSES[name])


def read_arrays(name: str, train: bool, root: Path) -> Arrays:
    """Images, labels and class names of a data set that torchvision knows, as its files in ``root`` give them."""
    if name == "svhn":
        return _open_svhn("train" if train else "test", root)
    with warnings.catch_warnings():
        # The CIFAR archives were pickled by a NumPy of 2009, whose way of writing a dtype newer versions remark upon.
        warnings.filterwarnings("ignore", r"dtype\(\): align should be passed", np.exceptions.VisibleDeprecationWarning)
        dataset = _dataset_class(name)(root, train=train, download=False)
    images = np.ascontiguousarray(np.asarray(dataset.data), np.uint8)
    labels = np.asarray(dataset.targets, np.int64)
    return images if images.ndim == 4 else images[..., None], labels, _class_names(name, dataset)


def _open_svhn(part: str, root: Path) -> Arrays:
    dataset = _dataset_class("svhn")(root, split=part, download=False)
    return np.ascontiguousarray(dataset.data.transpose(0, 2, 3, 1)), dataset.labels, DIGITS


def _class_names(name: str, dataset: Any) -> tuple[str, ...]:
    return DIGITS if name in ("mnist", "svhn") else tuple(dataset.classes)


def _download(name: str, root: Path, progress: ProgressCallback | None) -> None:
    dataset = _dataset_class(name)
    if name == "svhn":
        for part in ("train", "test"):
            url, filename, md5 = dataset.split_list[part]
            fetch([url], root / filename, md5, progress=progress)
        return
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
