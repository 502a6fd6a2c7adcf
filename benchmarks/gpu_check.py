"""What a GPU makes of the project: kernels, losses and inference against plain torch, and the pair of the paper.

    python benchmarks/gpu_check.py --images DIR --seconds 400

Without a GPU everything runs at toy size on the CPU, so that the script is known to work when there is one. The pair
is ResNet32x4 to ResNet8x4 on CIFAR-100, with the images in the memory of the GPU, bfloat16, channels last, and all
students side by side, for as many epochs as the time allows: far fewer than the 240 of the field, so its accuracies say
how far this went and not how good the methods are.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from students import Lesson, Plan, Recipe, train_side_by_side
from torch import Tensor
from torch.nn import functional as F

from cist_core import kernels
from cist_core.data.dataset import ImageDataset
from cist_core.data.decoded import DecodedImages
from cist_core.data.loading import load_dataset
from cist_core.errors import first_line
from cist_core.inference.run import PRECISIONS, infer
from cist_core.kernels import torch_twin
from cist_core.objectives import create_objective
from cist_core.zoo.architectures import create_model, find_architecture
from cist_core.zoo.teacher import Teacher

HERE = Path(__file__).parent
STUDENTS = ("ce", "kd:tau=4", "kd:tau=4,lambda_kl=8", "lskd", "cist:rho=3", "cist:rho=3,lambda_kl=8")
_SHARE_OF_TEACHER = 0.45
"""Of the time for the pair."""
_LEFT_FOR_PAIR = 120.0
"""Seconds below which nothing else is begun."""


def seconds_of(call: Callable[[], object], repeats: int, device: torch.device) -> float:
    """The median time of a call, after two that do not count."""
    times = []
    for number in range(repeats + 2):
        _wait(device)
        started = time.perf_counter()
        call()
        _wait(device)
        if number >= 2:
            times.append(time.perf_counter() - started)
    return statistics.median(times)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def against(
    ours: Callable[[], object], plain: Callable[[], object], repeats: int, device: torch.device
) -> dict[str, float]:
    """Both times in milliseconds, and how many times quicker ours is."""
    mine, other = (1e3 * seconds_of(call, repeats, device) for call in (ours, plain))
    return {"ours_ms": round(mine, 4), "torch_ms": round(other, 4), "ratio": round(other / mine, 3)}


def check_kernels(rows: int, classes: int, repeats: int, device: torch.device) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    logits = (3 * torch.randn(rows, classes, generator=generator)).to(device)
    other = (3 * torch.randn(rows, classes, generator=generator)).to(device)
    found = kernels.row_statistics(logits)

    def plain_entropy(tau: Tensor | float) -> Tensor:
        log_p = (logits / tau).log_softmax(1)
        return -(log_p.exp() * log_p).sum(1)

    def plain_first_pass() -> Tensor:
        centred = logits - logits.mean(1, keepdim=True)
        return plain_entropy((centred.amax(1) / 3).unsqueeze(1))

    def plain_sweep() -> list[Tensor]:
        return [plain_entropy((found.maximum / (0.25 * (step + 1))).unsqueeze(1)) for step in range(64)]

    def plain_divergence() -> Tensor:
        log_p, log_q = (logits / 4).log_softmax(1), (other / 4).log_softmax(1)
        return (log_p.exp() * (log_p - log_q)).sum(1)

    return {
        "rows": rows,
        "classes": classes,
        "first pass": against(lambda: kernels.first_pass(logits, rho=3.0), plain_first_pass, repeats, device),
        "move": against(lambda: kernels.entropy(logits, found.peak, 4.0), lambda: plain_entropy(4.0), repeats, device),
        "sweep of 64": against(
            lambda: kernels.entropy_sweep(logits, found, start=0.25, step=0.25, count=64),
            plain_sweep,
            max(repeats // 5, 1),
            device,
        ),
        "divergence": against(
            lambda: kernels.kl_divergence(logits, other, 4.0, 4.0), plain_divergence, repeats, device
        ),
    }


def check_compiled(rows: int, classes: int, repeats: int, device: torch.device) -> dict[str, Any]:
    """Whether `torch.compile` pays: our kernels in torch, compiled, against the same as they are.

    Elsewhere than on a GPU nothing is generated, only traced, as at toy size that would take the longest of all.
    """
    generator = torch.Generator().manual_seed(0)
    logits = (3 * torch.randn(rows, classes, generator=generator)).to(device)
    other = (3 * torch.randn(rows, classes, generator=generator)).to(device)
    statistics_ = torch_twin.row_statistics(logits)
    calls: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
        "first pass": (torch_twin.first_pass, (logits, None, 3.0, 1.0)),
        "move": (torch_twin.entropy, (logits, statistics_.peak, 4.0)),
        "sweep of 64": (torch_twin.entropy_sweep, (logits, statistics_, 0.25, 0.25, 64)),
        "divergence": (torch_twin.kl_divergence, (logits, other, 4.0, 4.0)),
    }
    found: dict[str, Any] = {"rows": rows, "classes": classes}
    for name, (kernel, arguments) in calls.items():
        torch.compiler.reset()
        compiled = torch.compile(kernel, backend="inductor" if device.type == "cuda" else "eager", dynamic=False)
        started = time.perf_counter()
        try:
            made = compiled(*arguments)
            _wait(device)
            seconds = time.perf_counter() - started
            torch.testing.assert_close(made, kernel(*arguments), rtol=1e-4, atol=1e-4)
        except Exception as error:  # whatever the compiler of this machine lacks, or makes wrong
            found[name] = {"fault": first_line(error, 200)}
            continue
        times = against(partial(compiled, *arguments), partial(kernel, *arguments), max(repeats // 2, 1), device)
        found[name] = {
            "compiling_s": round(seconds, 2),
            "compiled_ms": times["ours_ms"],
            "as_it_is_ms": times["torch_ms"],
        }
        found[name]["ratio"] = times["ratio"]
    return found


def check_losses(rows: int, classes: int, repeats: int, device: torch.device) -> dict[str, Any]:
    """Forward and backward of the losses against the plain loss of Hinton."""
    generator = torch.Generator().manual_seed(0)
    teacher = (3 * torch.randn(rows, classes, generator=generator)).to(device)
    student = (3 * torch.randn(rows, classes, generator=generator)).to(device).requires_grad_()
    labels = torch.randint(classes, (rows,), generator=generator).to(device)

    def plain() -> None:
        soft = F.kl_div((student / 4).log_softmax(1), (teacher / 4).softmax(1), reduction="batchmean") * 16
        torch.autograd.grad(0.1 * F.cross_entropy(student, labels) + 0.9 * soft, student)

    def ours(text: str) -> Callable[[], None]:
        objective = create_objective(text)

        def call() -> None:
            terms = objective(student_logits=student, teacher_logits=teacher, labels=labels, epoch=1)
            torch.autograd.grad(terms["total"], student)

        return call

    named = {text: against(ours(text), plain, repeats, device) for text in ("kd", "cist:rho=3", "dkd", "lskd")}
    return {"rows": rows, "classes": classes, **named}


def check_inference(images: int, architectures: tuple[str, ...], device: torch.device) -> dict[str, Any]:
    """Images a second of `infer`, against a plain loop over the same batches."""
    pixels = np.random.default_rng(0).integers(0, 256, (images, 32, 32, 3), dtype=np.uint8)
    dataset = ImageDataset("noise", "test", pixels, np.zeros(images, np.int64), None, "noise")
    rates: dict[str, Any] = {"images": images}
    for name in architectures:
        architecture = find_architecture(name)
        torch.manual_seed(0)
        model = create_model(name, num_classes=100).eval()
        teacher = Teacher(name, model, name, 100, None, architecture.preprocessing, "fresh weights")
        for precision in PRECISIONS if device.type == "cuda" else ("float32", "bfloat16"):
            times = []
            for _ in range(2):  # the first one loads the libraries of the device
                with tempfile.TemporaryDirectory() as cache:
                    started = time.perf_counter()
                    infer(teacher, dataset, device=device.type, precision=precision, cache_dir=cache)
                    times.append(time.perf_counter() - started)
            rates[f"{name}, {precision}"] = {"ours_images_per_s": round(images / times[-1])}
        model = model.to(device)

        @torch.inference_mode()
        def plain(model: torch.nn.Module = model, reads: Any = architecture.preprocessing) -> None:
            for part in torch.from_numpy(pixels).split(256):
                model(reads(part.to(device))).float().cpu()

        plain()
        rates[f"{name}, float32"]["torch_images_per_s"] = round(images / seconds_of(plain, 1, device))
    return rates


def check_reading(images: int, device: torch.device) -> dict[str, Any]:
    """Whether decoding and computing overlap, in seconds, and what pinned memory is worth to a copy."""
    noise = np.random.default_rng(0)
    architecture = find_architecture("resnet20")
    torch.manual_seed(0)
    model = create_model("resnet20", num_classes=10).eval()
    teacher = Teacher("resnet20", model, "resnet20", 10, None, architecture.preprocessing, "fresh weights")
    with tempfile.TemporaryDirectory() as folder:
        for index in range(images):
            place = Path(folder) / "images" / str(index % 10)
            place.mkdir(parents=True, exist_ok=True)
            picture = Image.fromarray(noise.integers(0, 256, (96, 128, 3), dtype=np.uint8))
            picture.save(place / f"{index:05}.jpg")
        dataset = load_dataset(Path(folder) / "images")
        assert isinstance(dataset.images, DecodedImages)
        decoded = dataset.images.at(architecture.image_size, 3)
        indices = np.arange(images)
        pixels = replace(dataset, images=decoded[indices])

        def run(data: ImageDataset) -> None:
            with tempfile.TemporaryDirectory() as cache:
                infer(teacher, data, device=device.type, cache_dir=cache)

        run(pixels)
        calls = {"decoding": lambda: decoded[indices], "computing": lambda: run(pixels), "both": lambda: run(dataset)}
        found: dict[str, Any] = {"images": images}
        found |= {f"{name}_s": round(seconds_of(call, 3, device), 4) for name, call in calls.items()}
    found["of_their_sum"] = round(found["both_s"] / (found["decoding_s"] + found["computing_s"]), 3)
    if device.type == "cuda":
        pageable = torch.zeros(2_000, 32, 32, 3, dtype=torch.uint8)
        pinned = pageable.pin_memory()
        copies = lambda source: lambda: source.to(device, non_blocking=True)  # noqa: E731
        found["pinned copy"] = against(copies(pinned), copies(pageable), 20, device)
    return found


def check_memory(images: int, device: torch.device) -> dict[str, Any]:
    """What becomes of a batch that is too large: it is halved, and the result says to how many images.

    On a GPU the network asks for more memory than there is; elsewhere it says that it has run out.
    """

    class Greedy(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = torch.nn.Linear(3 * 32 * 32, 10)

        def forward(self, x: Tensor) -> Tensor:
            if len(x) > 8:  # not traceable, so this runs in every batch
                if device.type != "cuda":
                    raise torch.OutOfMemoryError("out of memory")
                torch.empty(torch.cuda.get_device_properties(device).total_memory + 1, dtype=torch.uint8, device=device)
            logits: Tensor = self.linear(x.flatten(1))
            return logits

    torch.manual_seed(0)
    pixels = np.random.default_rng(0).integers(0, 256, (images, 32, 32, 3), dtype=np.uint8)
    dataset = ImageDataset("noise", "test", pixels, np.zeros(images, np.int64), None, "noise")
    reads = find_architecture("resnet20").preprocessing
    teacher = Teacher("greedy", Greedy().eval(), "greedy", 10, None, reads, "fresh weights")
    with tempfile.TemporaryDirectory() as cache:
        result = infer(teacher, dataset, device=device.type, batch_size=images, cache_dir=cache)
        finite = bool(np.isfinite(np.asarray(result.logit_set.logits)).all())
    return {"images": images, "asked_for": images, "taken": result.reduced_batch, "finite": finite}


def pair_lessons(images: Path | None, device: torch.device) -> tuple[Lesson, Lesson]:
    """For the teacher, which has none itself, and for the students, whose teacher is set later."""
    reads = find_architecture("resnet8x4").preprocessing
    mean, std = (torch.tensor(part)[:, None, None] for part in (reads.mean, reads.std))
    if images is None:
        generator = torch.Generator().manual_seed(0)
        pixels = torch.randint(0, 256, (48, 3, 32, 32), dtype=torch.uint8, generator=generator)
        labels = torch.randint(100, (48,), generator=generator)
        judge = ((pixels.float() / 255 - mean) / std)[:16], labels[:16]
        parts = (pixels, labels, judge, judge)
    else:
        from claim_settings import cifar100_whole

        whole = cifar100_whole(images)
        parts = (whole.inputs, whole.labels, whole.validation, whole.test)
    pixels, labels, validation, test = parts
    alone = Lesson(pixels, labels, torch.zeros(len(labels), 100), validation, test, mean, std).to(device)
    return alone, Lesson(alone.inputs, alone.labels, None, alone.validation, alone.test, alone.mean, alone.std)


def check_pair(images: Path | None, seconds: float, device: torch.device) -> dict[str, Any]:
    on_gpu = device.type == "cuda"
    names = ("resnet32x4", "resnet8x4") if on_gpu else ("resnet8", "resnet8")
    precision = torch.bfloat16 if on_gpu else torch.float32
    recipe = Recipe(
        partial(create_model, names[0], num_classes=100),
        epochs=1,
        batch_size=128 if on_gpu else 16,
        crop_padding=4,
        flip=True,
        precision=precision,
    )
    alone, taught = pair_lessons(images, device)
    kept: list[torch.nn.Module] = []

    def train(
        create: Callable[[], torch.nn.Module], lesson: Lesson, plans: list[Plan], budget: float
    ) -> dict[str, Any]:
        few = min(len(lesson.labels), 20 * recipe.batch_size)
        part = None if lesson.teacher_logits is None else lesson.teacher_logits[:few]
        brief = Lesson(
            lesson.inputs[:few],
            lesson.labels[:few],
            part,
            lesson.validation,
            lesson.test,
            lesson.mean,
            lesson.std,
            lesson.teacher,
        )
        with_epochs = partial(_with_epochs, recipe, create)
        times = []
        for epochs in (1, 1, 3):  # the first one loads the libraries of the device, and would make the others look free
            _wait(device)
            started = time.perf_counter()
            train_side_by_side(plans, {"pair": brief}, with_epochs(epochs), device=device, report=lambda text: None)
            _wait(device)
            times.append(time.perf_counter() - started)
        _, one, three = times
        an_epoch = max((three - one) / 2, 1e-3) * len(lesson.labels) / few
        epochs = max(1, min(240, int((budget - sum(times)) / an_epoch)))
        started = time.perf_counter()
        rows = train_side_by_side(plans, {"pair": lesson}, with_epochs(epochs), device=device, report=print)
        elapsed = time.perf_counter() - started
        print(f"{epochs} epochs of {len(plans)} in {elapsed:.1f} s", flush=True)
        images_seen = epochs * len(lesson.labels) * len(plans)
        return {
            "epochs": epochs,
            "seconds": round(elapsed, 1),
            "images_per_s": round(images_seen / elapsed),
            "runs": rows,
        }

    def teacher() -> torch.nn.Module:
        kept.append(create_model(names[0], num_classes=100))
        return kept[-1]

    result = {"teacher": names[0], "student": names[1]}
    result["teacher_run"] = train(teacher, alone, [Plan("pair", "ce", 0.1, 0)], seconds * _SHARE_OF_TEACHER)
    taught = Lesson(**{**vars(taught), "teacher": kept[-1].eval()})
    plans = [Plan("pair", objective, 0.1, 0) for objective in (STUDENTS if on_gpu else STUDENTS[-2:])]
    create = partial(create_model, names[1], num_classes=100)
    result["student_runs"] = train(create, taught, plans, seconds * (1 - _SHARE_OF_TEACHER))
    return result


def _with_epochs(recipe: Recipe, create: Callable[[], torch.nn.Module], epochs: int) -> Recipe:
    return Recipe(**{**vars(recipe), "create_student": create, "epochs": epochs})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--images", type=Path, help="folder of cifar100_train.npz and cifar100_test.npz; without: noise"
    )
    parser.add_argument("--seconds", type=float, default=300.0, help="for everything, the pair last")
    parser.add_argument("--results", type=Path, default=HERE / "gpu_check.json")
    parser.add_argument("--tests-exit", type=int, default=None, help="how the gpu tests ended, to be written down")
    options = parser.parse_args()
    end = time.monotonic() + options.seconds
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    on_gpu = device.type == "cuda"
    results: dict[str, Any] = {
        "device": torch.cuda.get_device_name() if on_gpu else "cpu, toy sizes",
        "torch": torch.__version__,
        "gpu_tests_exit": options.tests_exit,
    }

    def note(name: str, value: dict[str, Any]) -> None:
        results[name] = value
        options.results.write_text(json.dumps(results, indent=1) + "\n")
        print(name, json.dumps(value)[:600], flush=True)

    repeats = 20 if on_gpu else 2
    note("kernels", check_kernels(*((50_000, 1_000) if on_gpu else (200, 20)), repeats, device))
    note("kernels over a vocabulary", check_kernels(*((2_000, 50_257) if on_gpu else (20, 300)), repeats, device))
    note("losses", check_losses(*((1_024, 1_000) if on_gpu else (32, 20)), repeats, device))
    architectures = ("resnet20", "resnet32x4") if on_gpu else ("resnet8",)
    note("inference", check_inference(20_000 if on_gpu else 64, architectures, device))
    note("reading", check_reading(4_000 if on_gpu else 40, device))
    note("memory", check_memory(512 if on_gpu else 64, device))
    for name, size in (("compiled", (50_000, 1_000)), ("compiled over a vocabulary", (2_000, 50_257))):
        if not on_gpu or end - time.monotonic() > _LEFT_FOR_PAIR:
            note(name, check_compiled(*(size if on_gpu else (20, 300)), repeats, device))
    images = options.images if on_gpu else None
    note("pair", check_pair(images, max(end - time.monotonic(), 5.0) if on_gpu else 2.0, device))
    if options.tests_exit:
        sys.exit(f"The gpu tests ended with {options.tests_exit}.")


if __name__ == "__main__":
    main()
