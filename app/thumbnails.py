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
from app.people import may_read_server_paths
from app.state import Source, View
from cist_core.added import under_roots
from cist_core.data.class_maps import apply_class_map
from cist_core.data.dataset import ImageDataset, evenly_spaced
from cist_core.data.loading import DATASETS, describe_data, is_present, load_copy, load_dataset
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


def missing_images(source: Source) -> str | None:
    """The known data set whose images are not at hand, though they could be; None where nothing is missing."""
    data = source.data
    if data not in DATASETS or is_present(data):
        return None
    try:
        _images_of(source)  # a copy that was pointed at may be gone
    except CistError:
        return data
    return None


def use_copy(source: Source, path: str) -> None:
    """Take the pictures of a known data set's split from a copy of it on the server, until the session ends.

    Args:
        source: whose samples the images must be.
        path: of the copy, as a person typed it; below the folders that are open to visitors.

    Raises:
        CistError: if it may not be read, or its images are not those of the source.
    """
    _images_of(source, copy=path)
    session_copies()[source.data, source.split] = path


def session_copies() -> dict[tuple[str, str], str]:
    """Where this session has copies of known data sets, by their names and splits."""
    copies: dict[tuple[str, str], str] = st.session_state.setdefault("_image_copies", {})
    return copies


def _images_of(source: Source, copy: str | None = None) -> tuple[ImageDataset, NDArray[np.int64]]:
    """The data set, and the position in it of every sample.

    Args:
        source: whose samples these are.
        copy: of a known data set, where it lies; by default where this session knows one to be.

    Raises:
        CistError: if the images are not there, or are not those that the logits were made from.
    """
    provenance, labels = source.logit_set.provenance, source.logit_set.labels
    place = _place_of(source, copy)
    known = source.data if source.data in DATASETS and place != source.data else None
    dataset = _load(place, source.split, _changed_at(place), known)
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


def _place_of(source: Source, copy: str | None) -> str:
    """Where the images of a source lie. Of a file of logits that somebody gave us nothing is believed but its labels.

    Raises:
        CistError: if they are not at hand.
    """
    if source.data in DATASETS:
        copy = copy if copy is not None else session_copies().get((source.data, source.split))
        if copy is not None:
            if not may_read_server_paths():
                raise CistError("Files on the server can be opened after signing in.")
            return str(under_roots(copy))
        if not is_present(source.data):
            raise CistError(
                f"The images of {source.data} are not on this machine, so samples are shown without pictures."
            )
        return source.data
    added = catalogue.find_added(source.teacher)
    if added is None or added.spec is None or added.spec.model is None:
        called = source.teacher if added is None else added.title
        raise CistError(f"The logits of {called} came without images, so samples are shown without pictures.")
    catalogue.check_readable(added)
    return added.spec.model.data


# Errors are not kept: data that somebody downloads later are found.
@st.cache_resource(show_spinner="Opening the images", max_entries=4)
def _load(data: str, split: str, changed_at: float, copy_of: str | None) -> ImageDataset:
    found = describe_data(data)
    largest = math.prod(found.image_shape or (0,)) * max((count or 0 for count in found.splits.values()), default=0)
    if largest > MOST_BYTES:
        raise CistError(f"These images take {byte_size(largest)}, too much to be shown here.")
    return load_dataset(data, split) if copy_of is None else load_copy(copy_of, split, data)


def _changed_at(data: str) -> float:
    """So that another file under the same name is not taken for the one that was opened before."""
    try:
        return Path(data).stat().st_mtime
    except OSError:  # a name
        return 0.0
