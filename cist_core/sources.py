"""Logits by the name of a teacher and the name of a data set, the quickest way there is."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from cist_core.cards import Card, find_sample_model, known_sample_models
from cist_core.data import load_dataset
from cist_core.errors import CistError
from cist_core.logit_cache import InferenceResult
from cist_core.logits import LogitSet

# Shipped logits are read without importing torch, which takes longer than everything else together.
if TYPE_CHECKING:
    from cist_core.inference import Precision
    from cist_core.zoo import Teacher


def find_teacher(name_or_path: str, architecture: str | None = None) -> Teacher:
    """A shipped model by its name, or a checkpoint by its path.

    Args:
        name_or_path: see `cist_core.zoo.load_teacher` and `cist_core.zoo.load_checkpoint`.
        architecture: of a checkpoint; by default it is recognised from the weights.

    Raises:
        CistError: if there is neither, the checkpoint cannot be loaded, or a sample model is given an architecture.
    """
    from cist_core.zoo import load_checkpoint, load_teacher

    if _find_card(name_or_path, architecture) is not None:
        return load_teacher(name_or_path)
    if os.path.isfile(name_or_path):
        return load_checkpoint(name_or_path, architecture)
    raise CistError(
        f"There is no teacher '{name_or_path}'; expected a sample model ({known_sample_models()}) "
        "or the path of a checkpoint."
    )


def _find_card(teacher: str, architecture: str | None) -> Card | None:
    card = find_sample_model(teacher)
    if card is not None and architecture is not None:
        raise CistError(
            f"Expected `architecture` (--arch on the command line) only together with a checkpoint, but got "
            f"'{architecture}' for '{teacher}'; a sample model brings its own."
        )
    return card


def load_logits(
    teacher: str,
    data: str,
    split: str = "test",
    *,
    architecture: str | None = None,
    download: bool = False,
    device: str = "auto",
    precision: Precision = "float32",
    limit: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    download_progress: Callable[[int, int], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
) -> InferenceResult:
    """Logits of a teacher on a data set: shipped with the teacher, else from the cache, else computed.

    Shipped logits need neither the images nor the network. They are the same numbers less their row maximum, in
    float16, which moves no soft label by more than rounding (`cist_core.logits.centre_for_storage`).

    Args:
        teacher: name of a sample model, or path of a checkpoint.
        data: name of a data set, or path of an ``.npz`` file or an image folder.
        split: of the data set.
        architecture: of a checkpoint, not of a sample model; by default it is recognised from the weights.
        download: whether a data set that is not there may be downloaded.
        device: see `infer`.
        precision: see `infer`. Anything but ``"float32"`` is computed, not taken from what is shipped.
        limit: see `infer`. A limited set is computed, not taken from what is shipped.
        progress: called after each batch with the number of samples done and in all.
        download_progress: called during a download with the bytes so far and in all, for each file; in all is 0 where
            the server does not say.
        should_stop: see `infer`.
        cache_dir: see `infer`.

    Raises:
        CistError: for unknown names, data that do not fit the teacher, or files that cannot be read.
        Cancelled: if ``should_stop`` said so.
    """
    started = time.perf_counter()
    card = _find_card(teacher, architecture)
    shipped = card.logits(data, split) if card is not None else None
    if shipped is not None and precision == "float32" and limit is None:
        logit_set = LogitSet.load(shipped)
        return InferenceResult(logit_set, logit_set.num_samples / (time.perf_counter() - started), cached=True)
    from cist_core.inference import infer

    loaded = find_teacher(teacher, architecture)
    dataset = load_dataset(data, split, download=download, progress=download_progress)
    return infer(
        loaded,
        dataset,
        device=device,
        precision=precision,
        limit=limit,
        progress=progress,
        should_stop=should_stop,
        cache_dir=cache_dir,
    )
