"""What labelled images are read from: the one list, which help, forms and errors read as well.

It imports no reader; a new kind of data is one module with a subclass of `cist_core.data.collection.Collection`, and
one entry here; or `register_image_format` from elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cist_core.registry import imported, listed


@dataclass(frozen=True)
class ImageFormat:
    """One kind of data.

    Attributes:
        name: for people.
        reader: from a path (for a scheme: from the whole name, and ``download=``) to a
            `cist_core.data.collection.Collection`; for folders to None where a folder is none of its kind. As
            ``"package.module:name"`` it is imported when such data are opened.
        endings: of files, in small letters.
        folder: what a folder of this kind is, in words; None where there are no folders of it.
        scheme: what names of this kind begin with, up to the colon; None for paths.
        written: how such a name is written.
        complete: whether one file holds everything, so that it can be uploaded alone.
        contents: of such a file, in words.
        extra: of this project, which brings what the reader needs beyond the usual libraries.
    """

    name: str
    reader: str | Callable[..., Any]
    endings: tuple[str, ...] = ()
    folder: str | None = None
    scheme: str | None = None
    written: str | None = None
    complete: bool = False
    contents: str | None = None
    extra: str | None = None

    def open(self, name: str | Path, **options: Any) -> Any:
        """The data of a path or name; None for a folder of another kind.

        Raises:
            CistError: as the reader, or if a library that it needs is not installed.
        """
        return imported(self.reader, extra=self.extra, purpose=f"Reading a {self.name}")(name, **options)


_DATA = "cist_core.data"
FORMATS = [
    ImageFormat(
        "NumPy archive",
        f"{_DATA}.arrays:NpzArrays",
        (".npz",),
        complete=True,
        contents="arrays `images` and `labels`",
    ),
    ImageFormat(
        "table of paths and labels",
        f"{_DATA}.path_table:PathTable",
        (".csv", ".tsv"),
        contents="paths of images and labels",
    ),
    ImageFormat(
        "Hugging Face data set on disk",
        f"{_DATA}.tables:SavedDataset.at",
        folder="a folder that Hugging Face's datasets wrote",
    ),
    ImageFormat(
        "folder of a torchvision set",
        f"{_DATA}.torchvision_sets:TorchvisionFolder.at",
        folder="a folder that torchvision wrote",
    ),
    ImageFormat(
        "Parquet table of images",
        f"{_DATA}.tables:ParquetTables.at",
        (".parquet",),
        folder="a folder of Parquet files",
        complete=True,
        contents="a table with images",
    ),
    ImageFormat(
        "data set of the Hugging Face hub",
        f"{_DATA}.hub:HubDataset",
        scheme="hf",
        written="hf:OWNER/NAME",
        extra="hf",
    ),
    ImageFormat(
        "image folder",
        f"{_DATA}.folder:ImageFolder",
        folder="a folder with one subfolder of images per class",
    ),
]


def register_image_format(image_format: ImageFormat) -> None:
    """Make a kind of data known to `cist_core.data.loading.load_dataset`, to the command line, the app and errors.

    Its folders are looked for before those of images.

    Raises:
        ValueError: if an ending or the scheme is another's.
    """
    taken = {*image_endings(), *(each.scheme for each in FORMATS if each.scheme is not None)}
    for each in (*image_format.endings, image_format.scheme):
        if each in taken:
            raise ValueError(f"'{each}' belongs to another format of images already.")
    FORMATS.insert(len(FORMATS) - 1, image_format)


def image_formats() -> tuple[ImageFormat, ...]:
    """All that are known, in the order in which a folder is held against them."""
    return tuple(FORMATS)


def image_endings(*, complete: bool = False) -> list[str]:
    """Of the files that images are read from.

    Args:
        complete: only of those that hold everything themselves.

    Example:
        >>> image_endings(complete=True)
        ['.npz', '.parquet']
    """
    return [ending for each in FORMATS if each.complete or not complete for ending in each.endings]


def paths_in_words() -> str:
    """What a path of images may be, for help: files by their endings, and folders."""
    folders = [each.folder for each in reversed(FORMATS) if each.folder is not None]
    return f"{', '.join(image_endings())}, {listed(folders)}"


def names_in_words() -> str:
    """How data are named that lie on no path."""
    return listed([each.written for each in FORMATS if each.written is not None])
