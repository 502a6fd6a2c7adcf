"""Small pictures as text that a page can show."""

from __future__ import annotations

import base64
import io

import numpy as np
from numpy.typing import NDArray

SIZE = 96
"""Pixels of the longer side; a smaller image grows by a whole factor, so that its own pixels stay sharp."""


def as_data_uri(pixels: NDArray[np.uint8], size: int = SIZE) -> str:
    """One image, ``(H, W, channels)``, as a PNG whose longer side has about ``size`` pixels."""
    from PIL import Image

    picture = Image.fromarray(pixels.squeeze(axis=2) if pixels.shape[2] == 1 else pixels)
    factor = size // max(picture.size)
    if factor >= 1:
        picture = picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
    else:
        picture.thumbnail((size, size))
    file = io.BytesIO()
    picture.save(file, format="PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
