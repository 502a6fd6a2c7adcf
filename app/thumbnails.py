"""The images behind a source's samples, where they are at hand: as pictures that tables and cards can show."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import numpy as np
import streamlit as st
from numpy.typing import NDArray
from PIL import Image

from app.state import Source, View
from cist_core.data import DATASETS, ImageDataset, evenly_spaced, is_present, load_dataset
from cist_core.errors import CistError

SIZE = 96
"""Pixels of the longer side; a smaller image grows by a whole factor, so that its own pixels stay sharp."""


def thumbnails(view: View, indices: Sequence[int] | NDArray[np.integer], *, size: int = SIZE) -> list[str] | None:
    """The images of these samples as data URIs of PNG files, in their order; None where they are not at hand.

    Nothing is ever downloaded for it; `why_no_images` says in a sentence what is missing.
    """
    try:
        dataset, positions = _images_of(view.source)
    except CistError:
        return None
    pixels = dataset.images[positions[np.asarray(indices, dtype=np.int64)]]
    return [_as_data_uri(image, size) for image in pixels]


def why_no_images(view: View) -> str | None:
    """Why there are no pictures, as a sentence; None where there are."""
    try:
        _images_of(view.source)
    except CistError as error:
        return str(error)
    return None


def _images_of(source: Source) -> tuple[ImageDataset, NDArray[np.int64]]:
    """The data set, and the position in it of every sample.

    Raises:
        CistError: if the images are not there, or are not those that the logits were made from.
    """
    if source.data in DATASETS and not is_present(source.data):
        raise CistError(f"The images of {source.data} are not on this machine, so samples are shown without pictures.")
    dataset = _load(source.data, source.split)
    # Logits of a limited set were made from samples spread over all of it.
    positions = evenly_spaced(dataset.num_samples, source.logit_set.num_samples)
    labels = source.logit_set.labels
    if labels is None or not np.array_equal(dataset.labels[positions], labels):
        raise CistError(
            f"The labels of these logits are not those of the images in {source.data} ({source.split} split), "
            "so no picture can be told to belong to a sample."
        )
    return dataset, positions


# Errors are not kept: data that somebody downloads later are found.
@st.cache_resource(show_spinner="Opening the images", max_entries=8)
def _load(data: str, split: str) -> ImageDataset:
    return load_dataset(data, split)


def _as_data_uri(pixels: NDArray[np.uint8], size: int) -> str:
    """One image, ``(H, W, channels)``, as a PNG whose longer side has about ``size`` pixels."""
    picture = Image.fromarray(pixels.squeeze(axis=2) if pixels.shape[2] == 1 else pixels)
    factor = size // max(picture.size)
    if factor >= 1:
        picture = picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
    else:
        picture.thumbnail((size, size))
    file = io.BytesIO()
    picture.save(file, format="PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
