"""A folder of an object store, or of anything else that fsspec reaches, in the few verbs that a mirror needs."""

from __future__ import annotations

import contextlib
import errno
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, TypeVar

from cist_core.errors import CistError, first_line
from cist_core.installing import pip, pip_install

_URL = re.compile(r"([a-z][a-z0-9+.-]*)://\S+|memory:\S+|file:\S+")
_WHOLE = ("s3", "s3a", "gs", "gcs", "memory")
"""Stores in which an object appears whole or not at all, and which know writes under one condition."""
_LOCAL = ("file", "local")
BEGIN_SECONDS = 300.0
"""For what is asked before anything else is done."""
_T = TypeVar("_T")
_SECONDS = {"connect_timeout": 10, "read_timeout": 60, "retries": {"max_attempts": 2}}


def is_url(text: str) -> bool:
    """Whether a run directory lies in a store and not on a disk.

    Example:
        >>> [is_url(text) for text in ("s3://bucket/run", "runs/one", "C:/runs/one", "file:///mnt/run")]
        [True, False, False, True]
    """
    return _URL.fullmatch(text) is not None


class Store:
    """The folder that a URL names; names of files are relative to it, with slashes.

    Args:
        url: such as ``s3://bucket/runs/one``. Keys and the address of another S3 than Amazon's come from the
            environment, as boto reads it (``AWS_ACCESS_KEY_ID``, ``AWS_ENDPOINT_URL``, ...).

    Raises:
        CistError: if this kind of store is not known to write whole objects under a condition, or its library is
            missing.
    """

    def __init__(self, url: str) -> None:
        import fsspec

        self.url = url.rstrip("/")
        self._kind = self.url.partition(":")[0]
        if self._kind not in _WHOLE + _LOCAL:
            raise CistError(
                f"Expected the address of a folder in one of the stores {', '.join((*_WHOLE, 'file'))}, such as "
                f"s3://bucket/runs or file:///mnt/runs, but got '{url}'; other stores are not known to keep a half "
                "written object or a second writer out."
            )
        options: dict[str, Any] = {"use_listings_cache": False, "skip_instance_cache": True}
        if self._kind in ("s3", "s3a"):
            options |= {"config_kwargs": _SECONDS}
        try:
            self._fs, folder = fsspec.core.url_to_fs(self.url, **options)
        except ImportError as error:
            how = pip("install gcsfs") if self._kind in ("gs", "gcs") else pip_install("s3")
            raise CistError(f"The store of {url} needs a library ({first_line(error)}); {how}.") from error
        self._folder = PurePosixPath(folder)
        self._was_there = False

    def names(self) -> list[str]:
        """All files of the folder, also in folders below it.

        Raises:
            CistError: if a name would lead out of a folder on a disk; in an object store it may be any text.
        """
        try:
            found = self._fs.find(str(self._folder))
        except FileNotFoundError:
            return []
        # Some programs mark a folder by an empty object of its name with a slash.
        paths = [PurePosixPath(path) for path in found if not path.endswith("/")]
        names = [str(path.relative_to(self._folder)) for path in paths]
        for name in names:
            parts = PurePosixPath(name).parts
            if self._kind in _LOCAL and Path(self._folder / name).is_symlink():
                raise CistError(
                    f"Expected files in {self.url}, but '{name}' is a link to somewhere else; remove it, and ask who "
                    "may write there."
                )
            if ".." in parts or "\\" in name or PurePosixPath(name).is_absolute() or PureWindowsPath(name).drive:
                raise CistError(
                    f"Expected names of files in {self.url}, but there is the object '{name}', which would lead out "
                    "of a folder; remove it, and ask who may write there."
                )
        return names

    def read(self, name: str, *, most: int | None = None) -> bytes:
        """The content of a file, or its first bytes.

        Raises:
            FileNotFoundError: if there is none.
        """
        return bytes(self._fs.cat_file(self._path(name), end=most))

    def read_all(self, names: Sequence[str], *, most: int, lenient: bool = False) -> list[bytes | None]:
        """The first bytes of many files, asked for at once where the store can.

        Args:
            names: of the files.
            most: bytes of each.
            lenient: whether one that cannot be read is like one that is not there.

        Returns:
            None for a file that is not there, or has no byte.
        """
        found = self._fs.cat_ranges([self._path(name) for name in names], 0, most)
        for content in found:
            if not isinstance(content, BaseException) or isinstance(content, FileNotFoundError):
                continue
            empty = isinstance(content, OSError) and content.errno == errno.EINVAL  # S3: no such range
            if not (empty or (lenient and isinstance(content, OSError | ValueError))):
                raise content
        return [None if isinstance(content, BaseException) else bytes(content) for content in found]

    def bytes_of(self, names: Sequence[str]) -> int:
        """The sum of the sizes of files, as the store says them."""
        return sum(size or 0 for size in self._fs.sizes([self._path(name) for name in names]))

    def fetch(self, name: str, path: Path) -> None:
        """Copy a file to this machine."""
        self._fs.get_file(self._path(name), str(path))

    def check_there(self) -> None:
        """Refuse to look for files on a disk in a folder that is not there.

        Raises:
            CistError: naming the folder.
        """
        if self._kind in _LOCAL and not self._fs.isdir(str(self._folder)):
            raise CistError(f"There is no folder {self._folder}; check {self.url}, and whether its disk is mounted.")

    def expect_folder(self) -> None:
        """From now on write only where the folder is there: it was, and a bare mount point would be taken for it.

        A folder that is the mount point itself is there always.
        """
        self._was_there = True

    def check_mounted(self) -> None:
        """Refuse to make a folder on a disk in a place that is not there, as where that disk is not mounted.

        That is the folder above, and once something was written the folder itself: a mount point is there as well when
        nothing is mounted.

        Raises:
            CistError: naming the place.
        """
        needed = self._folder if self._was_there else self._folder.parent
        if self._kind in _LOCAL and not self._fs.isdir(str(needed)):
            raise CistError(
                f"The folder {needed} of {self.url} is not there, as if its disk were not mounted; mount it, or make "
                "the folder."
            )

    def write(self, name: str, content: bytes) -> None:
        """Replace a file whole."""
        with self._place_of(name):
            if self._kind in _LOCAL:
                self._replace(name, lambda partial: self._fs.pipe_file(partial, content))
            else:
                self._fs.pipe_file(self._path(name), content)

    def send(self, path: Path, name: str) -> None:
        """Replace a file whole by one of this machine that does not change any more."""
        with self._place_of(name):
            if self._kind in _LOCAL:
                self._replace(name, lambda partial: self._fs.put_file(str(path), partial))
            else:
                self._fs.put_file(str(path), self._path(name))

    def create(self, name: str, content: bytes) -> None:
        """Write a file that is not there.

        Raises:
            FileExistsError: if it is.
        """
        if self._kind in _LOCAL:  # fsspec's own way there looks first and writes then
            with self._place_of(name), self._fs.open(self._path(name), "xb") as file:
                file.write(content)
            return
        try:
            self._fs.pipe_file(self._path(name), content, mode="create")
        except FileExistsError:
            raise
        except Exception as error:  # s3fs gives this answer of the store as it comes
            if "PreconditionFailed" in str(error) or "pre-condition" in str(error).lower():
                raise FileExistsError(name) from error
            raise

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        try:
            self._fs.rm_file(self._path(name))
        except FileNotFoundError:
            return

    @contextlib.contextmanager
    def _place_of(self, name: str) -> Iterator[None]:
        """The folder of a file, in which it is then written; made where it may be.

        One by one and only below what has to be there: a disk may go away between the look and the writing.
        """
        self.check_mounted()
        try:
            if self._kind in _LOCAL:
                below = [self._folder / folder for folder in reversed(PurePosixPath(name).parents)]
                for folder in below[1:] if self._was_there else below:
                    Path(folder).mkdir(exist_ok=True)
            yield
        except FileNotFoundError:
            self.check_mounted()
            raise
        self._was_there = True

    def _path(self, name: str) -> str:
        return str(self._folder / name)

    def _replace(self, name: str, write: Any) -> None:
        target = self._folder / name
        partial = str(target.with_name(f".{target.name}.partial"))
        write(partial)
        self._fs.mv(partial, str(target))


def within(seconds: float, work: Callable[[], _T], who: str) -> _T:
    """What a function returns, unless it takes too long; it is then left alone in its thread.

    Args:
        seconds: how long it may take.
        work: asks a store for something.
        who: is asked, as a sentence begins: "The store of URL".

    Raises:
        CistError: its own, or a sentence on what the library of the store has raised.
    """
    outcome: list[_T] = []
    faults: list[BaseException] = []

    def attempt() -> None:
        try:
            outcome.append(work())
        except BaseException as error:
            faults.append(error)

    thread = threading.Thread(target=attempt, name="mirror-begin", daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise CistError(f"{who} has given no answer for {seconds:g} seconds; try again when it does.")
    if faults:
        if isinstance(faults[0], CistError):
            raise faults[0]
        raise CistError(
            f"{who} cannot be used ({first_line(faults[0])}); see that it exists and that this machine may write there."
        ) from faults[0]
    return outcome[0]
