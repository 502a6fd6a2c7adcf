"""``.safetensors``: tensors and metadata, memory-mapped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cist_core.logits.files.arrays import StoredArray, StoredArrays, stored
from cist_core.logits.files.limits import ReadingLimits
from cist_core.logits.logit_set import SAFETENSORS_TYPES, check_whole, map_safetensors
from cist_core.logits.scratch import scratch_array

# NumPy has no bfloat16: the upper half of a float32, here as a structure so that it is not taken for a whole number.
_BFLOAT16 = np.dtype([("upper_half", "<u2")])
CHUNK_VALUES = 1 << 20


def open_safetensors(path: Path, limits: ReadingLimits) -> StoredArrays:
    """The tensors of a file and its metadata; bfloat16 is widened to float32 when it is asked for.

    Raises:
        CistError: if it is damaged or cut off.
    """
    with path.open("rb") as stream:
        limits.check_text(int.from_bytes(stream.read(8), "little"), "the header of this safetensors file")
    metadata, arrays = map_safetensors(path, {**SAFETENSORS_TYPES, "BF16": _BFLOAT16})
    check_whole(path, metadata)
    return StoredArrays({name: _stored(array) for name, array in arrays.items()}, metadata)


def _stored(array: NDArray[Any]) -> StoredArray:
    return StoredArray(array.shape, lambda: _widened(array)) if array.dtype == _BFLOAT16 else stored(array)


def _widened(array: NDArray[Any]) -> NDArray[np.float32]:
    wide = scratch_array((array.size,), np.float32)
    halves = array.reshape(-1)["upper_half"]
    for start in range(0, len(wide), CHUNK_VALUES):
        part = halves[start : start + CHUNK_VALUES].astype(np.uint32) << 16
        wide[start : start + len(part)] = part.view(np.float32)
    return wide.reshape(array.shape)
