"""What the kinds of files that hold named arrays have in common: shapes first, numbers when asked for."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cist_core.errors import CistError
from cist_core.logits.files.names import plain

_NAMES_SHOWN = 8


@dataclass(frozen=True)
class StoredArray:
    """One array of a file, not read yet.

    Attributes:
        shape: as the header has it, which has been compared with the size of the file.
        load: reads it; what is large comes memory-mapped.
    """

    shape: tuple[int, ...]
    load: Callable[[], Any]

    @property
    def ndim(self) -> int:
        return len(self.shape)


@dataclass(frozen=True)
class StoredArrays:
    """The arrays of one file by their names, and its own metadata as text."""

    arrays: Mapping[str, StoredArray]
    metadata: Mapping[str, str] = field(default_factory=dict)

    def names(self) -> str:
        """What is in the file, for an error; long lists are cut."""
        return shortened(sorted(self.arrays))

    def load(self, names: tuple[str, ...]) -> Any:
        """The first array that has one of the names, or None."""
        name = self.find(names)
        return None if name is None else self.arrays[name].load()

    def find(self, names: tuple[str, ...], *, among: Collection[str] | None = None) -> str | None:
        """The array with the first of the names that there is, however it is written (`plain`)."""
        called = {plain(name): name for name in reversed(list(self.arrays if among is None else among))}
        return next((called[name] for name in names if name in called), None)

    def described(self, name: str) -> str:
        """An array by its name and shape, for a list of them."""
        shape = self.arrays[name].shape
        return f"{name[:40]} {shape}" if shape else name[:40]


def shortened(names: Sequence[str]) -> str:
    """A list of names that a sentence can hold.

    Example:
        >>> shortened(["a", "b"])
        "['a', 'b']"
    """
    shown = [name[:40] for name in names[:_NAMES_SHOWN]]
    more = f" and {len(names) - len(shown):,} more" if len(names) > len(shown) else ""
    return f"{shown}{more}"


def few(names: Sequence[str], most: int = 12) -> list[str]:
    """The first of many names, and how many more there are.

    Example:
        >>> few(["a", "b", "c"], most=2)
        ['a', 'b', '1 more']
    """
    return [*names] if len(names) <= most else [*names[:most], f"{len(names) - most:,} more"]


def check_numbers(dtype: np.dtype[Any], what: str) -> None:
    """Refuse what holds neither numbers nor text.

    Raises:
        CistError: naming the array and its type.
    """
    if dtype.hasobject:
        raise CistError(
            f"{what} holds Python objects, whose loading could run code; store plain numbers, array.astype('float32')."
        )
    if dtype.kind not in "fiubcSU":
        raise CistError(f"{what} has the type {dtype}, which is neither numbers nor text; store plain numbers.")


def stored(value: Any) -> StoredArray:
    """What is in memory (or mapped) already."""
    try:
        array = np.asanyarray(value)
    except ValueError:  # lists that differ in length
        return StoredArray((), lambda: value)
    return StoredArray(array.shape, lambda: array)


def byte_count(shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    """Bytes of an array, in whole numbers that do not overflow."""
    return math.prod(shape) * dtype.itemsize


def shaped(raw: NDArray[np.uint8], shape: tuple[int, ...], dtype: np.dtype[Any], *, fortran: bool) -> NDArray[Any]:
    """Bytes as the array that they are."""
    if not dtype.itemsize:
        return np.zeros(shape, dtype)
    flat = raw.view(dtype)
    return flat.reshape(shape[::-1]).T if fortran else flat.reshape(shape)
