"""Who opens what comes from outside: the library, the command line and the page Add."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from security.forge import GOOD

SAMPLES, CLASSES = GOOD.shape
"""Of the logits that labels are read for."""


def read_logits(path: Path) -> object:
    from cist_core.logits import files

    return files.read_logits(path, limits=files.UPLOAD_LIMITS)


def read_labels(path: Path, *, count: int = SAMPLES, classes: int = CLASSES) -> object:
    from cist_core.logits import files

    return files.read_labels(path, count=count, classes=classes)


def load_logits(path: Path) -> object:
    from cist_core import LogitSet

    return LogitSet.load(path)


def load_checkpoint(path: Path) -> object:
    from cist_core.zoo import teachers

    return teachers.load_checkpoint(path)


def find_teacher(path: Path) -> object:
    from cist_core.inference import sources

    return sources.find_teacher(str(path))


def load_data(path: Path) -> object:
    from cist_core.data.loading import load_dataset

    dataset = load_dataset(path)
    return dataset.images[np.arange(dataset.num_samples)]


def list_cards(path: Path) -> object:
    from cist_core.cards import sample_models

    os.environ["CIST_SAMPLE_MODELS"] = str(path)
    return sample_models()


@dataclass(frozen=True)
class Reader:
    """The ways to one kind of file.

    Attributes:
        read: in the library.
        command: the words of the command line after ``cist``; None where it is given no such file.
        answers: those of the page Add; None where it is given no such file.
    """

    read: Callable[[Path], object]
    command: Callable[[Path], list[str]] | None = None
    answers: Callable[[Path], dict[str, dict[str, Any]]] | None = None


def _good(path: Path) -> str:
    """Logits for the labels at a path, beside them."""
    np.save(path.parent / "good-logits.npy", GOOD)
    return str(path.parent / "good-logits.npy")


def _infer(teacher: object, data: object, home: Path) -> list[str]:
    return ["infer", "--teacher", str(teacher), "--data", str(data), "--out", str(home / "out.safetensors")]


def _logits(read: Callable[[Path], object]) -> Reader:
    return Reader(
        read, lambda path: ["analyze", "--logits", str(path)], lambda path: {"logits": {"teacher": str(path)}}
    )


def _teacher(read: Callable[[Path], object]) -> Reader:
    return Reader(
        read,
        lambda path: _infer(path, "mnist-5k", path.parent),
        lambda path: {"model": {"teacher": str(path), "data": "mnist-5k"}},
    )


READERS: dict[str, Reader] = {
    "logits": _logits(read_logits),
    "labels": Reader(
        read_labels,
        lambda path: ["analyze", "--logits", _good(path), "--labels", str(path)],
        lambda path: {"logits": {"teacher": _good(path), "labels": str(path)}},
    ),
    "our own logits": _logits(load_logits),
    "checkpoint": _teacher(load_checkpoint),
    "teacher": _teacher(find_teacher),
    "data": Reader(  # the folders of the catalogue have two classes, and the teacher ten
        load_data,
        lambda path: [
            *_infer("mnist5k-cnn", path, path.parent),
            *(["--class-map", "cat=0", "dog=1"] if path.is_dir() else []),
        ],
        lambda path: {
            "model": {"teacher": "mnist5k-cnn", "data": str(path)}
            | ({"class_map": {"cat": "0", "dog": "1"}} if path.is_dir() else {})
        },
    ),
    "card": Reader(list_cards),
}
