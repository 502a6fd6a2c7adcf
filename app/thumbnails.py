"""The images behind a source's samples, where they are at hand: as pictures that tables and cards can show."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from app import catalogue
from app.state import Source, View
from cist_core.data.class_maps import apply_class_map
from cist_core.data.dataset import ImageDataset, evenly_spaced
from cist_core.data.loading import DATASETS, describe_data, is_present, load_dataset
from cist_core.data.sampling import sample_positions
from cist_core.data.thumbnail import SIZE, as_data_uri
from cist_core.errors import CistError
from cist_core.wording import byte_size

MOST_BYTES = 2 << 30
"""Of images that lie in memory for everybody who looks; those that are decoded one by one have no such bound."""


def thumbnails(view: View, indices: Sequence[int] | NDArray[np.integer], *, size: int = SIZE) -> list[str] | None:
    """The images of these samples as data URIs of PNG files, in their order; None where they are not at hand.

    Nothing is ever downloaded for it; `why_no_images` says in a sentence what is missing.
    """
    try:
        dataset, positions = _images_of(view.source)
        pixels = dataset.images[positions[np.asarray(indices, dtype=np.int64)]]
    except CistError:
        return None
    return [as_data_uri(image, size) for image in pixels]


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
    provenance, labels = source.logit_set.provenance, source.logit_set.labels
    place = _place_of(source)
    dataset = _load(place, source.split, _changed_at(place))
    if "class_map" in provenance:
        dataset = apply_class_map(dataset, _class_map(provenance["class_map"]), None)
    samples = provenance.get("samples")
    positions = (
        # Logits of a limited set were made from samples spread over all of it.
        evenly_spaced(dataset.num_samples, source.logit_set.num_samples)
        if samples is None
        else sample_positions(samples, dataset.labels)
    )
    if labels is None or not np.array_equal(dataset.labels[positions], source.logit_set.kept_classes[labels]):
        raise CistError(
            f"The labels of these logits are not those of the images in {source.data} ({source.split} split), "
            "so no picture can be told to belong to a sample."
        )
    return dataset, positions


def _class_map(text: str) -> list[int | None]:
    try:
        return [None if number is None else int(number) for number in json.loads(text)]
    except (ValueError, TypeError, RecursionError) as error:
        raise CistError("The class map of these logits cannot be read, so no picture can be told.") from error


def _place_of(source: Source) -> str:
    """Where the images of a source lie. Of a file of logits that somebody gave us nothing is believed but its labels.

    Raises:
        CistError: if they are not at hand.
    """
    if source.data in DATASETS:
        if not is_present(source.data):
            raise CistError(
                f"The images of {source.data} are not on this machine, so samples are shown without pictures."
            )
        return source.data
    added = catalogue.find_added(source.teacher)
    if added is None or added.spec is None or added.spec.model is None:
        raise CistError(f"The logits of {source.teacher} came without images, so samples are shown without pictures.")
    catalogue.check_readable(added)
    return added.spec.model.data


# Errors are not kept: data that somebody downloads later are found.
@st.cache_resource(show_spinner="Opening the images", max_entries=4)
def _load(data: str, split: str, changed_at: float) -> ImageDataset:
    found = describe_data(data)
    largest = math.prod(found.image_shape or (0,)) * max((count or 0 for count in found.splits.values()), default=0)
    if largest > MOST_BYTES:
        raise CistError(f"These images take {byte_size(largest)}, too much to be shown here.")
    return load_dataset(data, split)


def _changed_at(data: str) -> float:
    """So that another file under the same name is not taken for the one that was opened before."""
    try:
        return Path(data).stat().st_mtime
    except OSError:  # a name
        return 0.0
