"""Splits that are fixed image by image, for data whose copies come in different orders.

A shipped model was trained on certain images. Which ones must not depend on the order in which a mirror happens to
store them, or the model would be judged on images it has learned. So their keys are kept, in order, in a file beside
this one.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from importlib import resources
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

PINNED = {"cifar100": "cifar100_split.npz"}


def image_keys(images: NDArray[np.uint8], labels: NDArray[np.int64]) -> NDArray[np.uint64]:
    """A 64-bit key of each image with its label: ``(N,)``."""
    keys = np.empty(len(labels), np.uint64)
    for row, (image, label) in enumerate(zip(images, labels, strict=True)):
        digest = blake2b(np.ascontiguousarray(image).data, digest_size=8, salt=int(label).to_bytes(8, "little"))
        keys[row] = int.from_bytes(digest.digest(), "little")
    return keys


def pinned_positions(
    name: str, split: str, images: NDArray[np.uint8], labels: NDArray[np.int64]
) -> NDArray[np.int64] | None:
    """Positions of the images of a pinned split, in its order; None if it is not pinned or not all of them are here."""
    if name not in PINNED:
        return None
    with resources.files(__package__).joinpath(PINNED[name]).open("rb") as stream, np.load(stream) as archive:
        wanted = archive[split]
    keys = image_keys(images, labels)
    order = np.argsort(keys, kind="stable")
    # An image that is there twice with the same label is found once for both; the copies are equal.
    places = np.searchsorted(keys, wanted, sorter=order)
    positions: NDArray[np.int64] = order[np.minimum(places, len(order) - 1)]
    return positions if np.array_equal(keys[positions], wanted) else None


def write_pins(path: Path, splits: Mapping[str, tuple[NDArray[np.uint8], NDArray[np.int64]]]) -> None:
    """Write the keys of the images of each split."""
    np.savez(path, **{split: image_keys(*arrays) for split, arrays in splits.items()})  # type: ignore[arg-type]
