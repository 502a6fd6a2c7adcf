"""What the child process does: look at what somebody wants to add, or turn it into logits."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cist_core.added.entry import Preview, PreviewImage
from cist_core.added.snapshot import LOGITS, STUDENT
from cist_core.added.spec import AddSpec, LanguageModelOnTexts, LogitFiles, ModelOnData
from cist_core.errors import CistError
from cist_core.logits.accuracy import AccuracyJudgement, judge_accuracy
from cist_core.logits.alignment import align
from cist_core.logits.cache import write_logits
from cist_core.logits.choices import chosen, chosen_for_student
from cist_core.logits.files import UPLOAD_LIMITS, read_beside, read_logits
from cist_core.logits.logit_set import LogitSet
from cist_core.plain_text import written_out
from cist_core.progress import ProgressCallback

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cist_core.data.dataset import ImageDataset
    from cist_core.language.models import LanguageModel
    from cist_core.language.texts import Tokens
    from cist_core.zoo.teacher import Teacher

MOST_SAMPLES = 1_000_000
SAMPLE = 512
SAMPLE_SEED = 0
IMAGES = 12
TOKENS_OF_PREVIEW = 256
MOST_TOKENS = 200_000
"""Of one text in the Studio; each takes 2.5 kB of the disk."""
BYTES_A_TOKEN = 2_600


def preview(spec: AddSpec) -> Preview:
    """Look at the files, and let a model answer a sample.

    Raises:
        CistError: if they cannot be used.
    """
    if spec.logits is not None:
        return _preview_logits(spec.logits)
    if spec.language is not None:
        return _preview_texts(spec.language)
    assert spec.model is not None
    return _preview_model(spec.model)


def add(spec: AddSpec, folder: Path, *, check_room: Callable[[int], None], progress: ProgressCallback) -> None:
    """Write ``logits.safetensors``, and ``student.safetensors`` where there is a student, into the folder; of texts
    what `TextPredictions.save` writes.

    Args:
        spec: what is added.
        folder: where to.
        check_room: refuses so many bytes where there is no room for them.
        progress: called with the samples done and in all.

    Raises:
        CistError: if the files cannot be used, or the folder is full.
    """
    if spec.logits is not None:
        teacher, student = _read(spec.logits)
        if student is not None:
            write_logits(folder / STUDENT, student)
        write_logits(folder / LOGITS, teacher, progress=progress)
        return
    if spec.language is not None:
        _add_texts(spec.language, folder, check_room=check_room, progress=progress)
        return
    assert spec.model is not None
    from cist_core.inference.run import infer

    model, dataset = _open(spec.model)
    _check_size(spec.model, model, dataset)
    check_room(4 * dataset.num_samples * model.num_classes)
    cache = folder / "cache"  # of its own, so that what is deleted is gone
    try:
        found = infer(
            model, dataset, limit=spec.model.limit, seed=spec.model.seed, progress=progress, cache_dir=cache
        ).logit_set
        write_logits(folder / LOGITS, found)
    finally:
        shutil.rmtree(cache, ignore_errors=True)


def _read(files: LogitFiles) -> tuple[LogitSet, LogitSet | None]:
    said: dict[str, Any] = {"labels": files.labels, "given_as": files.given_as, "class_map": files.class_map}
    teacher = _checked(read_logits(files.teacher, limits=UPLOAD_LIMITS, **said), files.teacher)
    if files.student is None:
        return teacher, None
    student = _checked(read_beside(files.student, limits=UPLOAD_LIMITS, **said), files.student)
    return teacher, align(teacher, student)


def _checked(logit_set: LogitSet, path: str) -> LogitSet:
    _check_samples(logit_set.num_samples, Path(path).name)
    return logit_set


def _check_samples(count: int, name: str) -> None:
    """The app keeps a few hundred bytes a sample for everybody who looks."""
    if count > MOST_SAMPLES:
        raise CistError(
            f"{name} has {count:,} samples, and the Studio looks at {MOST_SAMPLES:,} at most; use a part of them, or "
            "'cist analyze', which has no such bound."
        )


def _check_size(answers: ModelOnData, teacher: Teacher, dataset: ImageDataset) -> int:
    """Refuse more logits than the app looks at; returns the number of samples."""
    total = min(answers.limit or dataset.num_samples, dataset.num_samples)
    _check_samples(total, dataset.name)
    UPLOAD_LIMITS.check_shape((total, teacher.num_classes), f"What {teacher.name} would answer")
    return total


def _preview_logits(files: LogitFiles) -> Preview:
    teacher, student = _read(files)
    judged = judge_accuracy(teacher)
    warnings = _doubts(judged, "Check that the labels are of these samples and number the classes alike.")
    if teacher.labels is None:
        warnings += ("There are no labels, so nothing can be said of right and wrong; add a file of labels.",)
    if teacher.constant_rows:
        warnings += (f"{teacher.constant_rows:,} samples have constant logits: uniform soft labels whatever is done.",)
    facts = dict(teacher.provenance)
    if student is not None and student.accuracy is not None:
        facts["student"] = f"accuracy {student.accuracy:.4f}"
    return Preview(
        name=written_out(Path(files.teacher).name),
        num_samples=teacher.num_samples,
        num_classes=teacher.num_classes,
        class_names=teacher.class_names,
        accuracy=teacher.accuracy,
        sample_size=teacher.num_samples if teacher.labels is not None else 0,
        warnings=warnings,
        remarks=(*chosen(teacher.provenance), *(() if student is None else chosen_for_student(student.provenance))),
        facts=facts,
        class_map=_suggested_map(judged, teacher.labels, None, teacher.class_names) if _are_numbers(teacher) else None,
    )


def _are_numbers(logit_set: LogitSet) -> bool:
    """Whether the labels are numbers of classes as they stand in their file."""
    said = logit_set.provenance.get("labels", "")
    return not any(word in said for word in ("names", "class map"))


def _preview_model(answers: ModelOnData) -> Preview:
    from cist_core.data.sampling import stratified_sample
    from cist_core.inference.run import infer

    teacher, dataset = _open(answers)
    total = _check_size(answers, teacher, dataset)
    sample = dataset.take(stratified_sample(dataset.labels, min(SAMPLE, total), SAMPLE_SEED))
    clock = _Clock()
    with tempfile.TemporaryDirectory(prefix="cist-preview-") as cache:
        found = infer(teacher, sample, progress=clock, cache_dir=cache).logit_set
        logit_set = dataclasses.replace(found, logits=np.array(found.logits))  # the file goes
    reason = (
        "Usual reasons are another normalisation, classes in another order, or an architecture that fits the weights "
        "but is not theirs."
    )
    if teacher.other_weights:
        reason += (
            f" The file holds other weights too, which the field Weights offers: {', '.join(teacher.other_weights)}."
        )
    judged = judge_accuracy(logit_set)
    return Preview(
        name=teacher.name,
        architecture=teacher.architecture,
        parameters=sum(parameter.numel() for parameter in teacher.model.parameters()),
        num_samples=total,
        num_classes=teacher.num_classes,
        class_names=logit_set.class_names,
        accuracy=logit_set.accuracy,
        sample_size=sample.num_samples,
        preprocessing=teacher.preprocessing.to_dict(),
        warnings=_doubts(judged, reason),
        remarks=tuple(chosen(logit_set.provenance)),
        facts=dict(teacher.facts),
        images=_images(sample, logit_set),
        split=dataset.split,
        seconds=None if clock.per_sample is None else clock.per_sample * total,
        other_weights=teacher.other_weights,
        class_map=None
        if dataset.class_map is not None  # its labels are the teacher's classes already
        else _suggested_map(judged, dataset.labels, dataset.class_names, teacher.class_names),
    )


class _Clock:
    """Time of a sample, the first batch left out, as it pays for what all share."""

    def __init__(self) -> None:
        self._began: tuple[float, int] | None = None
        self.per_sample: float | None = None

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if self._began is None:
            self._began = (now, done)
        elif done > self._began[1]:
            self.per_sample = (now - self._began[0]) / (done - self._began[1])


def _open(answers: ModelOnData) -> tuple[Teacher, ImageDataset]:
    from cist_core.data.loading import load_dataset
    from cist_core.inference.run import fit_data
    from cist_core.inference.sources import find_teacher
    from cist_core.zoo.preprocessing import Preprocessing

    teacher = find_teacher(answers.teacher, answers.architecture, weights=answers.weights, download=answers.download)
    if answers.preprocessing is not None:
        teacher = dataclasses.replace(
            teacher, preprocessing=Preprocessing.from_dict({**teacher.preprocessing.to_dict(), **answers.preprocessing})
        )
    dataset = load_dataset(answers.data, answers.split, download=answers.download)
    return teacher, fit_data(teacher, dataset, answers.class_map)


def _preview_texts(answers: LanguageModelOnTexts) -> Preview:
    """The size of the texts, and what the model says of the first few hundred tokens."""
    from cist_core.language.inference import infer_tokens
    from cist_core.language.sources import describe_tokens

    model, texts, counted = _open_texts(answers)
    sample = _first_tokens(texts, TOKENS_OF_PREVIEW)
    began, computed = time.monotonic(), []

    def told(done: int, total: int) -> None:
        computed.append(done)

    found = describe_tokens(model, texts, infer_tokens(model, sample, progress=told))
    per_token = (time.monotonic() - began) / found.tokens.num_tokens
    right = found.tokens.rank[found.tokens.facts.counted] == 1
    total = sum(max(0, len(text.ids) - 1) for text in texts)
    return Preview(
        name=model.name,
        architecture=type(model.network).__name__,
        parameters=model.parameters,
        num_samples=counted,
        num_classes=found.tokens.num_classes,
        accuracy=float(right.mean()) if len(right) else None,
        sample_size=len(right),
        remarks=found.sentences,
        facts=dict(model.facts),
        split="all",
        seconds=per_token * total if computed else None,  # what was in the cache took no time
    )


def _open_texts(answers: LanguageModelOnTexts) -> tuple[LanguageModel, list[Tokens], int]:
    """The model, the texts, and how many of their tokens count; refused where none or too many do."""
    from cist_core.language.sources import open_texts

    model, texts = open_texts(answers.model, answers.texts, length=answers.length, download=answers.download)
    name = Path(answers.texts).name
    counted = sum(int(text.counted[1:].sum()) for text in texts)
    if not counted:
        raise CistError(
            f"No token of {name} counts: the first token of a text is predicted by nothing, and those of a prompt are "
            "given; add a longer text, or one with a response."
        )
    if sum(len(text.ids) for text in texts) > MOST_TOKENS:
        raise CistError(
            f"{name} has {sum(len(text.ids) for text in texts):,} tokens, and the Studio looks at {MOST_TOKENS:,} at "
            "most; use a part of it, or 'cist analyze --lm', which has no such bound."
        )
    return model, texts, counted


def _first_tokens(texts: Sequence[Tokens], most: int) -> list[Tokens]:
    """The beginnings of the first texts, up to so many tokens in all; one of them counts."""
    kept: list[Tokens] = []
    room = most
    for text in texts:
        if room < 2 and any(each.counted[1:].any() for each in kept):
            break
        end = len(text.ids) if room < 2 else room
        part = text._replace(
            ids=text.ids[:end], roles=text.roles[:end], counted=text.counted[:end], bytes=text.bytes[:end]
        )
        kept.append(part)
        room -= len(part.ids)
    return kept


def _add_texts(
    answers: LanguageModelOnTexts, folder: Path, *, check_room: Callable[[int], None], progress: ProgressCallback
) -> None:
    from cist_core.language.inference import infer_tokens
    from cist_core.language.sources import describe_tokens
    from cist_core.language.text_predictions import TextPredictions

    model, texts, _ = _open_texts(answers)
    check_room(BYTES_A_TOKEN * sum(len(text.ids) for text in texts))
    found = describe_tokens(model, texts, infer_tokens(model, texts, progress=progress))
    TextPredictions.of(found, texts, model.tokenizer).save(folder)


def _doubts(judged: AccuracyJudgement | None, reason: str) -> tuple[str, ...]:
    """What speaks against an accuracy, in one warning; where nothing would explain it, what to look at."""
    if judged is None or not judged.sentences:
        return ()
    return (" ".join([*judged.sentences, *([reason] if judged.explanation is None else [])]),)


def _suggested_map(
    judged: AccuracyJudgement | None,
    labels: NDArray[np.int64] | None,
    names: Sequence[str] | None,
    teacher_names: Sequence[str] | None,
) -> dict[str, str] | None:
    """The class map that would explain the accuracy, by names where there are some; None unless it has every label."""
    explained = None if judged is None else judged.explanation
    if explained is None or explained.class_map is None or labels is None:
        return None
    there = [int(label) for label in np.unique(labels)]
    if not all(label in explained.class_map for label in there):
        return None
    pairs = [(_written(label, names), _written(explained.class_map[label], teacher_names)) for label in there]
    mapping = dict(pairs)
    readable = len(mapping) == len(pairs) and not any("=" in name or "\n" in name for pair in pairs for name in pair)
    return mapping if readable else None


def _written(number: int, names: Sequence[str] | None) -> str:
    return f"{number}" if names is None or len(set(names)) < len(names) else names[number]


def _images(sample: ImageDataset, logit_set: LogitSet) -> tuple[PreviewImage, ...]:
    """The first images of the sample, spread over it."""
    from cist_core.data.thumbnail import as_data_uri

    names = logit_set.class_names or tuple(str(index) for index in range(logit_set.num_classes))
    shown: NDArray[np.int64] = np.linspace(0, sample.num_samples - 1, min(IMAGES, sample.num_samples)).astype(np.int64)
    pixels: Any = sample.images[shown]
    cards = []
    for row, image in zip(shown, pixels, strict=True):
        logits = logit_set.logits[row].astype(np.float64)
        soft = np.exp(logits - logits.max())
        top = int(logits.argmax())
        cards.append(
            PreviewImage(as_data_uri(image), names[int(sample.labels[row])], names[top], float(soft[top] / soft.sum()))
        )
    return tuple(cards)
