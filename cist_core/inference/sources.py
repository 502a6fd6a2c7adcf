"""Logits by the name of a teacher and the name of a data set, the quickest way there is."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from cist_core.cards import find_sample_model, known_sample_models
from cist_core.data.loading import load_dataset
from cist_core.errors import CistError
from cist_core.logits.cache import InferenceResult
from cist_core.logits.ensemble import ENSEMBLE, average_logits
from cist_core.logits.logit_set import LogitSet
from cist_core.progress import ProgressCallback
from cist_core.registry import listed
from cist_core.zoo.kinds import ModelKind, TeacherOptions, find_kind, model_kinds

# Shipped logits are read without importing torch, which takes longer than everything else together.
if TYPE_CHECKING:
    from cist_core.inference.run import Precision
    from cist_core.logits.class_maps import ClassMap
    from cist_core.zoo.teacher import Teacher
    from cist_core.zoo.weight_groups import Role


def find_teacher(
    reference: str,
    architecture: str | None = None,
    *,
    weights: str | None = None,
    role: Role = "teacher",
    download: bool = False,
) -> Teacher:
    """The teacher that a reference names, whatever kind it is.

    Args:
        reference: the name of a sample model; the path of a checkpoint, of an ``.onnx`` or ``.pt2`` file, or of a
            folder with a Hugging Face ``config.json``; ``torchvision:NAME`` or ``torchvision:NAME@WEIGHTS``;
            ``timm:NAME``; ``hf:OWNER/NAME``; ``package.module:function``, code of one's own, which the app refuses
            (`cist_core.zoo.kinds.code`). Several, joined by ``" + "``, are an ensemble that averages logits.
        architecture: of a checkpoint: a name in the zoo, ``torchvision:NAME`` or ``timm:NAME``; by default it is
            recognised from the weights. In an ensemble it is that of each member that is a checkpoint.
        weights: which of the weights in a checkpoint, by their name in it; by default those that are usually meant. In
            an ensemble they are those of each member that is a checkpoint.
        role: which of the two is meant where a checkpoint holds a teacher and a student.
        download: whether weights that are not on this machine may be fetched.

    Raises:
        CistError: if there is no such teacher, it cannot be loaded, a library that it needs is not installed, or an
            architecture or weights are named for anything but a checkpoint.
    """
    members = split_ensemble(reference)
    if len(members) > 1:
        from cist_core.zoo.ensembles import average_teachers

        return average_teachers(
            [
                find_teacher(member, own, weights=named, role=role, download=download)
                for member, own, named in _of_checkpoints(members, architecture, weights)
            ]
        )
    kind = find_kind(reference)
    if kind is None:
        raise CistError(
            f"There is no teacher '{reference}'; expected a sample model ({known_sample_models()}), "
            f"{_others_in_words()}."
        )
    _refuse_beside(kind, reference, architecture, weights)
    return kind.open_teacher(reference, TeacherOptions(architecture, weights, role, download))


def _others_in_words() -> str:
    named = [kind.written for kind in model_kinds() if kind.in_words is None]
    paths = [f"of {kind.in_words}" for kind in model_kinds() if kind.is_path and kind.in_words]
    return f"{', '.join(named)}, or the path {listed(paths)}"


def split_ensemble(reference: str) -> list[str]:
    """The members of an ensemble; one for any other reference, a path with " + " in it included.

    Raises:
        CistError: if a member is missing.

    Example:
        >>> split_ensemble("resnet20.th + torchvision:resnet50")
        ['resnet20.th', 'torchvision:resnet50']
    """
    if ENSEMBLE not in reference or Path(reference).expanduser().exists():
        return [reference]
    members = [member.strip() for member in reference.split(ENSEMBLE)]
    if not all(members):
        raise CistError(f"Expected a teacher on both sides of each ' + ', but got '{reference}'.")
    return members


def _of_checkpoints(
    members: list[str], architecture: str | None, weights: str | None
) -> list[tuple[str, str | None, str | None]]:
    """What is said of checkpoints, for the members that are; where none is, for all, which then refuse it."""
    checkpoints = [_is_checkpoint(member) for member in members]
    return [
        (member, architecture, weights) if own or not any(checkpoints) else (member, None, None)
        for member, own in zip(members, checkpoints, strict=True)
    ]


def _is_checkpoint(reference: str) -> bool:
    kind = find_kind(reference)
    return kind is not None and kind.own_word is None


def _refuse_beside(kind: ModelKind, reference: str, architecture: str | None, weights: str | None) -> None:
    """Refuse what is said of a checkpoint for anything else."""
    for name, option, value in (("architecture", "--arch", architecture), ("weights", "--weights", weights)):
        if value is not None and kind.own_word is not None:
            raise CistError(
                f"Expected `{name}` ({option} on the command line) only together with a checkpoint, but got '{value}' "
                f"for '{reference}'{kind.own_word}."
            )


def load_logits(
    teacher: str,
    data: str,
    split: str = "test",
    *,
    architecture: str | None = None,
    weights: str | None = None,
    role: Role = "teacher",
    class_map: ClassMap | None = None,
    download: bool = False,
    device: str = "auto",
    precision: Precision = "float32",
    limit: int | None = None,
    seed: int | None = None,
    progress: ProgressCallback | None = None,
    download_progress: ProgressCallback | None = None,
    should_stop: Callable[[], bool] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
) -> InferenceResult:
    """Logits of a teacher on a data set: shipped with the teacher, else from the cache, else computed.

    Shipped logits need neither the images nor the network. They are the same numbers less their row maximum, in
    float16, which moves no soft label by more than rounding (`cist_core.logits.logit_set.centre_for_storage`).

    Args:
        teacher: see `find_teacher`. The members of an ensemble are run one after the other, each on images of its own
            size, and are cached one by one.
        data: name or path of a data set; see `cist_core.data.loading.load_dataset`.
        split: of the data set.
        architecture: of a checkpoint, not of a sample model; by default it is recognised from the weights. In an
            ensemble it is that of each member that is a checkpoint.
        weights: see `find_teacher`.
        role: see `find_teacher`.
        class_map: from the data's classes to the teacher's; see `cist_core.data.class_maps.fit_classes`, which says
            what holds without one. With a map logits are computed, not taken from what is shipped.
        download: whether a data set or weights that are not there may be downloaded.
        device: see `infer`.
        precision: see `infer`. Anything but ``"float32"`` is computed, not taken from what is shipped.
        limit: see `infer`. A limited set is computed, not taken from what is shipped.
        seed: see `infer`.
        progress: called after each batch with the number of samples done and in all.
        download_progress: called during a download with the bytes so far and in all, for each file; in all is 0 where
            the server does not say.
        should_stop: see `infer`.
        cache_dir: see `infer`.

    Raises:
        CistError: for unknown names, data that do not fit the teacher, or files that cannot be read.
        Cancelled: if ``should_stop`` said so.
    """

    def load_one(
        name: str, architecture: str | None, weights: str | None, progress: ProgressCallback | None
    ) -> InferenceResult:
        started = time.perf_counter()
        card = find_sample_model(name)
        if card is not None:
            _refuse_beside(find_kind(name) or model_kinds()[0], name, architecture, weights)
        shipped = card.logits(data, split) if card is not None else None
        if shipped is not None and precision == "float32" and (limit, seed, class_map) == (None, None, None):
            logit_set = LogitSet.load(shipped)
            return InferenceResult(logit_set, logit_set.num_samples / (time.perf_counter() - started), cached=True)
        from cist_core.inference.run import fit_data, infer

        network = find_teacher(name, architecture, weights=weights, role=role, download=download)
        dataset = load_dataset(data, split, download=download, progress=download_progress)
        return infer(
            network,
            fit_data(network, dataset, class_map),
            device=device,
            precision=precision,
            limit=limit,
            seed=seed,
            progress=progress,
            should_stop=should_stop,
            cache_dir=cache_dir,
        )

    members = split_ensemble(teacher)
    if len(members) == 1:
        return load_one(teacher, architecture, weights, progress)
    started = time.perf_counter()
    results = [
        load_one(member, own, named, _share(progress, place, len(members)))
        for place, (member, own, named) in enumerate(_of_checkpoints(members, architecture, weights))
    ]
    return _average(results, time.perf_counter() - started)


def _share(progress: ProgressCallback | None, place: int, count: int) -> ProgressCallback | None:
    """The progress of one member as a part of that of all."""
    if progress is None:
        return None
    report = progress
    return lambda done, total: report(place * total + done, count * total)


def _average(results: list[InferenceResult], seconds: float) -> InferenceResult:
    logit_set = average_logits([result.logit_set for result in results])
    return InferenceResult(logit_set, logit_set.num_samples / seconds, all(result.cached for result in results))
