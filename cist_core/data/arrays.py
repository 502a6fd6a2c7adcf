"""Images and labels from a NumPy archive."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cist_core.errors import CistError


def read_arrays(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64], tuple[str, ...] | None]:
    """``images`` (uint8, ``(N, H, W, channels)`` or ``(N, H, W)``), ``labels`` and, if there are any, ``classes``.

    Raises:
        CistError: if the archive is damaged, holds pickled objects, lacks an array, or one is of another type or shape.
    """
    try:
        # NumPy leaves a file open that it cannot read, unless it is handed an open one.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in ("images", "labels", "classes") if name in archive.files}
            names = archive.files
    # Damage can make NumPy raise anything: zlib.error, NotImplementedError, tokenize.TokenError, ...
    except Exception as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise CistError(f"{path} is not a readable .npz archive of plain arrays ({reason}).") from error
    for name in ("images", "labels"):
        if name not in arrays:
            raise CistError(f"{path} holds the arrays {sorted(names)}, but not '{name}'; save it with `{name}=`.")
    images, labels = arrays["images"], arrays["labels"]
    if images.dtype != np.uint8 or images.ndim not in (3, 4):
        raise CistError(
            f"Expected `images` in {path} to be uint8 of shape (N, H, W, channels) or (N, H, W), "
            f"but it is {images.dtype} of shape {images.shape}."
        )
    if not np.issubdtype(labels.dtype, np.integer) or labels.ndim != 1:
        raise CistError(
            f"Expected `labels` in {path} to be whole numbers of shape (N,), "
            f"but it is {labels.dtype} of shape {labels.shape}."
        )
    if "classes" in arrays and arrays["classes"].ndim != 1:
        raise CistError(
            f"Expected `classes` in {path} to be a list of names, but its shape is {arrays['classes'].shape}."
        )
    classes = tuple(str(name) for name in arrays["classes"]) if "classes" in arrays else None
    return images if images.ndim == 4 else images[..., None], labels.astype(np.int64), classes
