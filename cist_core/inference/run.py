"""Logits of a teacher on a data set: batched, interruptible, in bounded memory, and computed once.

A result is a file in the cache (`cist_core.logits.cache`), named after everything that decides it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from cist_core.cache_limit import cache_limit, keep_within_limit, mark_read
from cist_core.data.class_maps import fit_classes
from cist_core.data.dataset import ImageDataset
from cist_core.data.decoded import DecodedImages
from cist_core.data.sampling import choose_samples, samples_text
from cist_core.errors import Cancelled, CistError
from cist_core.inference import on_ray
from cist_core.inference.ahead import in_order
from cist_core.logits import scratch
from cist_core.logits.cache import InferenceResult, LogitWriter, read_cached
from cist_core.logits.class_maps import ClassMap
from cist_core.logits.files.arrays import few
from cist_core.logits.files.given import convert
from cist_core.logits.logit_set import LogitSet
from cist_core.notebook import progress_bar
from cist_core.progress import ProgressCallback
from cist_core.zoo.folding import fold_batch_norm, runs_side_by_side
from cist_core.zoo.layout import in_its_layout
from cist_core.zoo.teacher import Teacher

_RESULTS = re.compile(r"[0-9a-f]{40}\.safetensors")
"""Names of the files in the cache; see `_key`."""

Precision = Literal["float32", "bfloat16", "float16"]
Place = Literal["here", "ray"]
PRECISIONS: dict[str, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
# Raised when the same key would have to mean other logits.
CACHE_FORMAT = 2
# Pixels that one batch may hold by default: enough to keep the device busy, few enough for a small one.
PIXELS_PER_BATCH = {"cpu": 250 * 32 * 32, "mps": 500 * 32 * 32, "cuda": 2000 * 32 * 32}
# Fewer images than this leave threads waiting for each other; photographs of 224 pixels take half as long in batches of
# 32 as in batches of 5. So many are taken as long as they are no larger than the second number.
WORTH_WAITING, WORTH_SIZE = 32, 384
# A batch that one thread computes should stay in its cache: of ResNet-20, 250 images take 1.45 times as long as 64 at a
# time. Below 8, getting weights ready weighs more.
PIXELS_OF_A_THREAD, WORTH_A_THREAD = 64 * 32 * 32, 8
# Batches that are computed at once, and the pixels that these may have together, as each needs its memory.
MOST_SIDE_BY_SIDE, PIXELS_AT_ONCE = 16, 64 * 384 * 384
# Batches of pixels that lie ready, beside those that are being computed.
READ_AHEAD = 2


def choose_device(device: str = "auto") -> torch.device:
    """``"auto"`` is CUDA where there is a GPU, then Apple's MPS, then the CPU.

    Raises:
        CistError: for a device that torch does not know or this machine does not have.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        return torch.device(next(name for name, there in available.items() if there))
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise CistError(f"There is no device '{device}'; expected auto, cuda, mps or cpu.") from error
    if not available.get(chosen.type, False):
        there = ", ".join(name for name, found in available.items() if found)
        raise CistError(f"The device '{device}' is not available on this machine; it has {there}.")
    return chosen


def fit_data(teacher: Teacher, dataset: ImageDataset, class_map: ClassMap | None = None) -> ImageDataset:
    """The images under the teacher's classes (`fit_classes`), refused where it was not made for them.

    Args:
        teacher: whose classes and preprocessing decide.
        dataset: whose labels are those of its own classes, or the teacher's already.
        class_map: from the data's classes to the teacher's, where names and numbers do not say it.

    Raises:
        CistError: if the classes, the image size or the number of channels do not fit.
    """
    try:
        fitted = fit_classes(dataset, teacher.class_names or teacher.num_classes, class_map)
    except CistError as error:
        raise CistError(f"'{teacher.name}' cannot be judged on '{dataset.name}': {error}") from error
    if isinstance(fitted.images, DecodedImages):
        return fitted  # they are decoded at the teacher's size
    try:
        teacher.preprocessing.check(fitted.images.shape[1:])
    except CistError as error:
        raise CistError(f"'{teacher.name}' cannot read '{dataset.name}': {error}") from error
    return fitted


def infer(
    teacher: Teacher,
    dataset: ImageDataset,
    *,
    batch_size: int | None = None,
    device: str = "auto",
    precision: Precision = "float32",
    progress: ProgressCallback | None = None,
    should_stop: Callable[[], bool] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    limit: int | None = None,
    seed: int | None = None,
    executor: Place = "here",
    workers: int | None = None,
) -> InferenceResult:
    """Run a teacher over a data set, or read what an earlier run with the same inputs left in the cache.

    A run that was killed, or interrupted by Ctrl-C, leaves its batches, and the next one goes on from there.

    Args:
        teacher: see `cist_core.inference.sources.find_teacher`.
        dataset: see `cist_core.data.loading.load_dataset`; its classes become the teacher's by name where both have
            names.
        batch_size: images at a time; by default as many as suit the device. On a CPU several such batches may be
            computed at once, one in a thread, up to 16 and 9.4 million pixels together. It is halved as often as memory
            runs out, and here, not on Ray, the result's ``reduced_batch`` says to how many.
        device: ``"auto"``, ``"cuda"``, ``"mps"`` or ``"cpu"``.
        precision: of the network's arithmetic; logits are stored in float32 in any case. On a CPU, ``"bfloat16"`` is
            slower than ``"float32"`` and ``"float16"`` is refused.
        progress: called after each batch with the number of samples done and in all; a notebook shows a bar without it.
        should_stop: asked before each batch; True ends the run and nothing is kept.
        cache_dir: by default `cist_core.logits.scratch.cache_dir`.
        limit: use only this many samples.
        seed: draws them, each class in proportion to its size; by default they are evenly spaced over the data set.
        executor: ``"here"``, or ``"ray"``: by the nodes of the Ray cluster that this machine is a part of
            (`cist_core.inference.on_ray`). The result is that of this machine to rounding, and either goes on with what
            the other has left.
        workers: processes on Ray at most; by default as many as there are CPUs, or GPUs where there are any.

    Returns:
        the logits. Of a network that returns probabilities they are the logarithms (`as_logits`), and the provenance's
        ``given_as`` says so.

    Raises:
        Cancelled: if ``should_stop`` said so.
        CistError: if teacher and data do not fit, an image cannot be read, an option is not available here, or the
            cache cannot be written to; if ``CIST_CACHE_BYTES`` is no number of bytes.
    """
    started = time.perf_counter()
    dataset = fit_data(teacher, dataset)
    _check_options(precision, batch_size, device, executor, workers)
    cache_limit()  # refused before the work, not after
    indices = choose_samples(dataset.labels, limit, seed)
    samples = samples_text(len(indices), dataset.num_samples, seed)
    provenance = _provenance(teacher, dataset, precision, samples)
    cache = Path(cache_dir) if cache_dir is not None else scratch.cache_dir()
    path = cache / "logits" / f"{_key(provenance)}.safetensors"

    class_names = dataset.class_names or teacher.class_names

    logit_set = read_cached(path, class_names=class_names, provenance=provenance)
    cached, resumed, reduced = logit_set is not None, 0, None
    if logit_set is None:
        labels = dataset.labels[indices]
        with LogitWriter(
            path,
            (len(labels), teacher.num_classes),
            labels,
            class_names=class_names,
            provenance=provenance,
            resumable=True,
        ) as writer:
            resumed = writer.done
            with progress_bar(progress, "Computing logits") as reporting:
                if executor == "ray":
                    part = _Part(teacher, dataset, indices, device, PRECISIONS[precision], batch_size)
                    on_gpu = None if device == "auto" else device.startswith("cuda")
                    on_ray.fill(
                        writer,
                        part,
                        on_gpu=on_gpu,
                        most_workers=workers,
                        progress=reporting,
                        should_stop=should_stop,
                    )
                else:
                    run = _Run(teacher, dataset, indices, choose_device(device), PRECISIONS[precision])
                    reduced = run.fill(writer, batch_size, reporting, should_stop)
            logit_set = _finish(writer, teacher)
        keep_within_limit(path, _RESULTS)
    else:
        mark_read(path)
        if progress is not None:
            progress(len(indices), len(indices))
    logit_set = _without_softmax(logit_set)
    speed = (len(indices) - resumed) / (time.perf_counter() - started)
    return InferenceResult(logit_set, speed, cached, resumed, reduced)


def _without_softmax(logit_set: LogitSet) -> LogitSet:
    """Logits of the same soft labels where a network returns probabilities, which the cache keeps as they are."""
    try:
        found = convert(logit_set.logits, labels=logit_set.labels)
    except CistError:  # only most rows look so
        return logit_set
    if found.said is None or not found.said.startswith("probabilities"):
        return logit_set
    said = {**found.provenance, "given_as": f"{found.said}, as the network ends with a softmax"}
    return LogitSet.create(
        found.logits,
        logit_set.labels,
        class_names=logit_set.class_names,
        provenance={**logit_set.provenance, **said},
        sample_names=logit_set.sample_names,
    )


def _check_options(precision: str, batch_size: int | None, device: str, executor: str, workers: int | None) -> None:
    if executor not in get_args(Place):
        raise CistError(f"Expected `executor` to be one of {', '.join(get_args(Place))}, but got '{executor}'.")
    if workers is not None and (executor == "here" or workers < 1):
        raise CistError(f"Expected `workers` of 1 or more, and only together with Ray, but got {workers}.")
    # The devices of other machines are asked for there.
    kind = choose_device(device).type if executor == "here" or device == "cpu" else device
    if precision not in PRECISIONS:
        raise CistError(f"Expected `precision` to be one of {', '.join(PRECISIONS)}, but got '{precision}'.")
    if precision == "float16" and kind == "cpu":
        raise CistError("float16 arithmetic is not available on the CPU; use float32 there, or a GPU.")
    if batch_size is not None and batch_size < 1:
        raise CistError(f"Expected a batch size of at least 1 image, but got {batch_size}.")


def _provenance(teacher: Teacher, dataset: ImageDataset, precision: str, samples: str) -> dict[str, str]:
    mapped = None if dataset.class_map is None else json.dumps(dataset.class_map)
    unused = f"{', '.join(few(dataset.unused))} of the data" if dataset.unused else None
    said = {"class_map": mapped, "class_order": dataset.class_order, "weights": teacher.weights, "unused": unused}
    return {
        "teacher": teacher.name,
        "architecture": teacher.architecture,
        "checkpoint_sha256": teacher.checkpoint_sha256,
        "data": dataset.name,
        "split": dataset.split,
        "data_fingerprint": dataset.fingerprint,
        "preprocessing": str(teacher.preprocessing),
        "precision": precision,
        "images": dataset.source,
        "samples": samples,
        **{key: text for key, text in said.items() if text is not None},
    }


def _key(provenance: dict[str, str]) -> str:
    """Names and paths do not decide logits; weights, pixels and arithmetic do."""
    decisive = ("architecture", "checkpoint_sha256", "data_fingerprint", "preprocessing", "precision", "samples")
    text = json.dumps([CACHE_FORMAT, *(provenance[name] for name in decisive)])
    return hashlib.sha256(text.encode()).hexdigest()[:40]


class _Run:
    """One pass of a folded model over the chosen images.

    Pixels are read ahead by a thread, which itself decodes in as many as there are cores. On a CPU as many batches are
    computed at once as torch may use threads, where the network allows it (`runs_side_by_side`): a thread with a batch
    of its own waits for none, where threads that share a batch wait for each other after every layer.
    """

    def __init__(
        self,
        teacher: Teacher,
        dataset: ImageDataset,
        indices: NDArray[np.int64],
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.teacher, self.indices, self.device, self.dtype = teacher, indices, device, dtype
        reads, images = teacher.preprocessing, dataset.images
        if isinstance(images, DecodedImages):
            images = images.at(reads.image_size, reads.channels, reads.crop, reads.interpolation)
        self.images = images
        model: nn.Module = fold_batch_norm(teacher.model).to(device)
        self.alone = device.type != "cpu" or not runs_side_by_side(model)
        self.model = in_its_layout(model)

    def fill(
        self,
        writer: on_ray.Rows,
        batch_size: int | None,
        progress: ProgressCallback | None,
        should_stop: Callable[[], bool] | None,
    ) -> int | None:
        """Compute what is missing; returns the size of a batch that memory sufficed for, if it ran out with more."""
        out, total, done = writer.logits, len(self.indices), writer.done
        reduced: int | None = None
        batch = batch_size or _batch_that_suits(self.device.type, self.teacher.preprocessing.image_size, self.alone)
        while done < total:
            batch = min(batch, total - done)
            with self._batches(done, batch) as batches:
                while done < total:
                    if should_stop is not None and should_stop():
                        raise Cancelled(f"Inference was stopped after {done} of {total} samples; nothing was kept.")
                    logits = next(batches)
                    if logits is None:
                        break
                    out[done : done + len(logits)] = logits
                    done += len(logits)
                    writer.keep(done)
                    if progress is not None:
                        progress(done, total)
            if done < total:
                batch = reduced = self._less_than(min(batch, total - done))
        return reduced

    def _less_than(self, images: int) -> int:
        """How many to take at a time where memory ran out with so many: one batch after the other first."""
        release_memory(self.device)
        if not self.alone:
            self.alone = True
            return images
        if images == 1:
            raise CistError(f"The device {self.device} has too little memory for a single image; use another device.")
        return images // 2

    @contextlib.contextmanager
    def _batches(self, start: int, size: int) -> Iterator[Iterator[NDArray[np.float32] | None]]:
        """The logits from ``start`` on, batch by batch; None in the place of one that memory was too small for."""
        ends = range(start, len(self.indices), size)
        with contextlib.ExitStack() as stack:
            read = in_order(self._read, [self.indices[at : at + size] for at in ends], threads=1, ahead=READ_AHEAD)
            stack.enter_context(contextlib.closing(read))
            threads = stack.enter_context(_threads_of_torch())
            pixels = size * self.teacher.preprocessing.image_size**2
            at_once = min(threads, len(ends), MOST_SIDE_BY_SIDE, max(1, PIXELS_AT_ONCE // pixels))
            if self.alone or at_once == 1:
                torch.set_num_threads(threads)  # this thread may be younger than a pass that goes on beside it
                yield map(self._compute, read)
                return
            each = partial(torch.set_num_threads, threads // at_once)
            computed = in_order(self._compute, read, threads=at_once, ahead=at_once + 1, prepare=each)
            yield stack.enter_context(contextlib.closing(computed))

    def _read(self, indices: NDArray[np.int64]) -> torch.Tensor:
        pixels = torch.from_numpy(self.images[indices])
        if self.device.type == "cuda":
            with contextlib.suppress(RuntimeError):  # a container may allow too little
                return pixels.pin_memory()  # so that copying it holds up nobody
        return pixels

    def _compute(self, pixels: torch.Tensor) -> NDArray[np.float32] | None:
        """None if memory ran out. The error dies here, and with it its hold on the batch's tensors."""
        try:
            return self.forward(pixels)
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            return None

    def forward(self, pixels: torch.Tensor) -> NDArray[np.float32]:
        mixed = self.dtype != torch.float32
        context = torch.autocast(self.device.type, self.dtype) if mixed else contextlib.nullcontext()
        with torch.inference_mode(), context:
            logits = self.model(self.teacher.preprocessing(pixels.to(self.device, non_blocking=True)))
            expected = (len(pixels), self.teacher.num_classes)
            if not isinstance(logits, torch.Tensor) or logits.shape != expected:
                got = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
                raise CistError(
                    f"Expected the teacher '{self.teacher.name}' to return logits of shape {expected}, but got {got}."
                )
            result: NDArray[np.float32] = logits.float().cpu().numpy()
        return result


@dataclass
class _Rows:
    """Rows in memory, where `_Run.fill` expects those of a file."""

    logits: NDArray[np.float32]
    done: int = 0

    def keep(self, end: int) -> None:
        self.done = end


@dataclass(frozen=True, eq=False)
class _Part:
    """The share of another process in a pass: called there, it returns what computes the rows that it is asked for."""

    teacher: Teacher
    dataset: ImageDataset
    indices: NDArray[np.int64]
    device: str
    dtype: torch.dtype
    batch_size: int | None

    def __call__(self) -> on_ray.Compute:
        device = choose_device(self.device)
        if self.dtype == torch.float16 and device.type == "cpu":
            raise CistError("float16 arithmetic is not available on the CPU, which is what this node has.")
        run = _Run(self.teacher, self.dataset, self.indices, device, self.dtype)
        size = self.batch_size

        def compute(rows: NDArray[np.int64]) -> NDArray[np.float32]:
            nonlocal size
            run.indices = self.indices[rows]
            found = _Rows(np.empty((len(rows), self.teacher.num_classes), np.float32))
            size = run.fill(found, size, None, None) or size  # what memory suffices for is found once
            return found.logits

        return compute


class _Passes:
    """Those that go on in this process, and how many threads torch had before the first of them."""

    lock, count, threads = threading.Lock(), 0, 1


@contextlib.contextmanager
def _threads_of_torch() -> Iterator[int]:
    """How many threads torch may use, put back when the last pass of several has ended.

    Threads that compute side by side share these out, which torch knows for a process as a whole only: a pass that asks
    while another one goes on would be told its share.
    """
    with _Passes.lock:
        if not _Passes.count:
            _Passes.threads = torch.get_num_threads()
        _Passes.count += 1
    try:
        yield _Passes.threads
    finally:
        with _Passes.lock:
            _Passes.count -= 1
            if not _Passes.count:
                torch.set_num_threads(_Passes.threads)


def _batch_that_suits(device: str, image_size: int, alone: bool) -> int:
    pixels = image_size**2
    most, worth = (PIXELS_PER_BATCH[device], WORTH_WAITING) if alone else (PIXELS_OF_A_THREAD, WORTH_A_THREAD)
    return max(1, most // pixels, min(worth, worth * WORTH_SIZE**2 // pixels))


def _finish(writer: LogitWriter, teacher: Teacher) -> LogitSet:
    try:
        return writer.finish()
    except CistError as error:
        broken = _first_broken_weight(teacher.model)
        cause = "" if broken is None else f" Its weight '{broken}' is not finite: the checkpoint is damaged."
        raise CistError(f"The logits of the teacher '{teacher.name}' cannot be used: {error}{cause}") from error


def _first_broken_weight(model: nn.Module) -> str | None:
    tensors = (*model.named_parameters(), *model.named_buffers())
    return next((name for name, tensor in tensors if not torch.isfinite(tensor).all()), None)


def out_of_memory(error: Exception) -> bool:
    """Whether memory ran out: on the CPU torch raises a plain RuntimeError that names the allocator."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and ("out of memory" in text or "defaultcpuallocator" in text)


def release_memory(device: torch.device) -> None:
    """Give back what torch keeps of a device's memory for later."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()
