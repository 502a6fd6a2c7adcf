"""Labelled images: the bundled set, downloads, and whatever people have on disk."""

from cist_core.data.class_maps import apply_class_map, fit_classes, map_labels
from cist_core.data.collection import DataDescription
from cist_core.data.dataset import ImageDataset, evenly_spaced
from cist_core.data.decoded import DecodedImages
from cist_core.data.folder import FolderImages
from cist_core.data.loading import (
    DATASETS,
    DatasetInfo,
    data_root,
    data_splits,
    describe_data,
    is_one_set,
    is_present,
    load_dataset,
)
from cist_core.data.sampling import choose_samples, sample_positions, samples_text, stratified_sample
from cist_core.data.splits import stratified_split

__all__ = [
    "DATASETS",
    "DataDescription",
    "DatasetInfo",
    "DecodedImages",
    "FolderImages",
    "ImageDataset",
    "apply_class_map",
    "choose_samples",
    "data_root",
    "data_splits",
    "describe_data",
    "evenly_spaced",
    "fit_classes",
    "is_one_set",
    "is_present",
    "load_dataset",
    "map_labels",
    "sample_positions",
    "samples_text",
    "stratified_sample",
    "stratified_split",
]
