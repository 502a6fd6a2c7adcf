"""Labelled images: the bundled set, downloads, folders and arrays."""

from cist_core.data.dataset import ImageDataset, evenly_spaced
from cist_core.data.folder import FolderImages
from cist_core.data.loading import DATASETS, DatasetInfo, data_root, is_one_set, is_present, load_dataset
from cist_core.data.splits import stratified_split

__all__ = [
    "DATASETS",
    "DatasetInfo",
    "FolderImages",
    "ImageDataset",
    "data_root",
    "evenly_spaced",
    "is_one_set",
    "is_present",
    "load_dataset",
    "stratified_split",
]
