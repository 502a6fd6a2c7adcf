"""What the claim is measured on: settings, their data, and the methods with the values that are tried for each."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, partial
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from students import Lesson, Recipe
from torch import Tensor, nn
from torch.nn import functional as F

from cist_core.data.loading import load_dataset
from cist_core.data.splits import stratified_split
from cist_core.inference.sources import find_teacher
from cist_core.logits.scratch import cache_dir
from cist_core.zoo.architectures import create_model, find_architecture
from cist_core.zoo.folding import fold_batch_norm
from cist_core.zoo.preprocessing import Preprocessing
from cist_core.zoo.teacher import Teacher

Grid = Mapping[str, tuple[float, ...]]

LEARNING_RATES = (0.05, 0.1, 0.2)
LAMBDAS = (0.9, 2.0, 4.0, 8.0, 16.0)


@dataclass(frozen=True)
class Method:
    """An objective with the parameters that are tuned.

    Attributes:
        title: as the tables write it.
        template: the objective's text, with ``{name}`` for every parameter.
        grid: the values of each parameter that are tried first; the learning rate is one of them.
        whole: try every combination; otherwise one parameter at a time, until none moves.
        start: where the search of one parameter at a time begins.
        begins_as: the method whose choice is the start in a setting that starts from another; this one by default.
    """

    title: str
    template: str
    grid: Grid
    whole: bool = False
    start: Mapping[str, float] = field(default_factory=dict)
    begins_as: str | None = None

    def objective(self, values: Mapping[str, float]) -> str:
        return self.template.format(**{name: f"{value:g}" for name, value in values.items()})


def _methods(
    epochs: int, learning_rates: tuple[float, ...] = LEARNING_RATES, *, whole: bool = False
) -> dict[str, Method]:
    # The published warm-ups of 20 epochs belong to runs of 240: the same share of these.
    warmup = f"{epochs / 12:g}"
    rate, middle = {"learning_rate": learning_rates}, {"learning_rate": learning_rates[len(learning_rates) // 2]}
    return {
        "ce": Method("Cross-entropy only", "ce", rate, start=middle),
        "kd": Method(
            "KD",
            "kd:tau={tau},lambda_kl={lambda_kl}",
            {"tau": (1.0, 2.0, 4.0, 6.0, 8.0, 12.0), "lambda_kl": LAMBDAS, **rate},
            whole=whole,
            start={"tau": 4.0, "lambda_kl": 2.0, **middle},
        ),
        "cist": Method(
            "CIST",
            "cist:rho={rho},lambda_kl={lambda_kl}",
            {"rho": (1.5, 2.0, 3.0, 4.0, 5.0, 7.0), "lambda_kl": LAMBDAS, **rate},
            whole=whole,
            start={"rho": 3.0, "lambda_kl": 2.0, **middle},
        ),
        "cist-no-floor": Method(
            "CIST without a floor",
            "cist:rho={rho},floor=0,gradient=scale-free,lambda_kl={lambda_kl}",
            {"rho": (2.0, 3.0, 4.0, 7.0), "lambda_kl": LAMBDAS, **rate},
            start={"rho": 4.0, "lambda_kl": 0.9, **middle},
        ),
        "lskd": Method(
            "LSKD",
            "lskd:tau={tau},lambda_kl={lambda_kl}",
            {"tau": (1.0, 2.0, 4.0), "lambda_kl": (2.0, 4.5, 9.0, 18.0), **rate},
            start={"tau": 2.0, "lambda_kl": 9.0, **middle},
        ),
        "dkd": Method(
            "DKD",
            f"dkd:beta={{beta}},tau={{tau}},warmup={warmup}",
            {"beta": (1.0, 2.0, 4.0, 8.0), "tau": (2.0, 4.0, 8.0), **rate},
            start={"beta": 8.0, "tau": 4.0, **middle},
        ),
        "normkd": Method(
            "NormKD",
            "normkd:k={k},lambda_kl={lambda_kl}",
            {"k": (1.0, 2.0, 4.0), "lambda_kl": LAMBDAS, **rate},
            start={"k": 2.0, "lambda_kl": 2.0, **middle},
        ),
        "wttm": Method(
            "WTTM",
            "wttm:gamma={gamma},beta={beta}",
            {"gamma": (0.1, 0.2, 0.4), "beta": (0.5, 1.0, 2.25, 4.5, 9.0), **rate},
            start={"gamma": 0.1, "beta": 2.25, **middle},
        ),
        "dtkd": Method(
            "DTKD",
            f"dtkd:alpha={{alpha}},tau={{tau}},warmup={warmup}",
            {"alpha": (1.0, 3.0, 6.0), "tau": (2.0, 4.0, 8.0), **rate},
            start={"alpha": 3.0, "tau": 4.0, **middle},
        ),
        "kd-entout-ce": Method(
            "KD-EntOut-CE",
            "kd-entout-ce:tau={tau},lambda_kl={lambda_kl}",
            {"tau": (2.0, 4.0, 8.0), "lambda_kl": LAMBDAS, **rate},
            start={"tau": 4.0, "lambda_kl": 2.0, **middle},
        ),
        "kd-entout-ht": Method(
            "KD-EntOut-HT",
            "kd-entout-ht:tau={tau},lambda_kl={lambda_kl}",
            {"tau": (2.0, 4.0, 8.0), "lambda_kl": LAMBDAS, **rate},
            start={"tau": 4.0, "lambda_kl": 2.0, **middle},
        ),
        "cist+dkd": Method(
            "CIST + DKD",
            f"cist+dkd:rho={{rho}},beta={{beta}},warmup={warmup}",
            {"rho": (2.0, 3.0, 4.0), "beta": (1.0, 2.0, 4.0, 8.0), **rate},
            start={"rho": 3.0, "beta": 4.0, **middle},
        ),
        "kd-published": Method("KD at tau 4, lambda_KL 0.9, as published", "kd:tau=4", rate, start=middle),
        "cist-defaults": Method("CIST at rho 3, lambda_KL 0.9", "cist:rho=3", rate, start=middle),
        "cist-authors": Method(
            "CIST at rho 3, lambda_KL 8, as its authors", "cist:rho=3,lambda_kl=8", rate, start=middle
        ),
    }


def _some(methods: Mapping[str, Method], *names: str) -> dict[str, Method]:
    return {name: methods[name] for name in names}


@dataclass(frozen=True)
class Setting:
    """A teacher, a student, some data, and how the runs on them are spent.

    Attributes:
        title: one line.
        lesson: builds what the students learn from.
        recipe: how they are trained.
        methods: by name.
        tuning_seed: of the runs that choose.
        final_seeds: of the runs that are reported.
        tuned_in: another setting whose choices are taken over instead.
        start_from: another setting whose choices are where the searches begin, and of which this one is a condition.
        tunes_rate: tune the learning rate anew as well; otherwise it is that of ``start_from``.
    """

    title: str
    lesson: Callable[[Path | None], Lesson]
    recipe: Recipe
    methods: Mapping[str, Method]
    tuning_seed: int = 0
    final_seeds: tuple[int, ...] = (100, 101, 102, 103, 104)
    tuned_in: str | None = None
    start_from: str | None = None
    tunes_rate: bool = False


# ------------------------------------------------------------------------------------------------------ data


def _folder(images: Path | None) -> Path:
    folder = images or Path(os.environ.get("CLAIM_IMAGES", ""))
    if not (folder / "cifar100_train.npz").is_file():
        raise SystemExit(
            f"Expected cifar100_train.npz and cifar100_test.npz in {folder}; name their folder by --images."
        )
    return folder


@cache
def _cifar100(images: Path | None) -> dict[str, tuple[NDArray[np.uint8], NDArray[np.int64]]]:
    """Pixels and labels of each split; training and validation are those of the shipped teachers."""
    folder = _folder(images)
    from cist_core.data.pinned_splits import pinned_positions

    with np.load(folder / "cifar100_train.npz") as archive:
        pixels, labels = archive["images"], archive["labels"].astype(np.int64)
    parts = {}
    for split in ("train", "validation"):
        chosen = pinned_positions("cifar100", split, pixels, labels)
        if chosen is None:
            raise SystemExit(f"{folder / 'cifar100_train.npz'} does not hold the training images of CIFAR-100.")
        parts[split] = (pixels[chosen], labels[chosen])
    with np.load(folder / "cifar100_test.npz") as archive:
        parts["test"] = (archive["images"], archive["labels"].astype(np.int64))
    return parts


Condition = Callable[[NDArray[np.int64], Tensor, Path | None], tuple[NDArray[np.int64], NDArray[np.int64], Tensor]]
"""From all labels and logits of the training images to the images, labels and logits that students see."""


@torch.inference_mode()
def teacher_logits(teacher: Teacher, pixels: NDArray[np.uint8], device: str) -> Tensor:
    """``(N, C)`` float32 on the CPU."""
    network = teacher.model.to(device).eval()
    parts = torch.from_numpy(pixels).split(2000)
    return torch.cat([network(teacher.preprocessing(part.to(device))).float().cpu() for part in parts]).clone()


@cache
def _cifar100_teacher(name: str, images: Path | None) -> Tensor:
    """Logits of a shipped teacher on all training images; minutes on a CPU, so they are kept."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    pixels = _cifar100(images)["train"][0]
    return _kept(f"{name}-logits", lambda: {"logits": teacher_logits(find_teacher(name), pixels, device)})["logits"]


def _kept(name: str, compute: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """What was computed once, from the cache of this user."""
    path = cache_dir() / f"claim-{name}.npz"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, **{key: value.numpy() for key, value in compute().items()})
    with np.load(path) as archive:
        return {key: torch.from_numpy(archive[key]) for key in archive.files}


@cache
def _judges(images: Path | None) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Validation and test of CIFAR-100 as a student reads them."""
    parts = _cifar100(images)
    return _readable(*parts["validation"]), _readable(*parts["test"])


def _readable(
    pixels: NDArray[np.uint8], labels: NDArray[np.int64], architecture: str = "resnet8"
) -> tuple[Tensor, Tensor]:
    reads = find_architecture(architecture).preprocessing
    return reads(torch.from_numpy(pixels)), torch.from_numpy(labels)


def cifar100_small(images: Path | None, *, condition: Condition | None = None) -> Lesson:
    """10,000 training images, 100 a class, with cached teacher logits, or what a condition makes of them."""
    pixels, labels = _cifar100(images)["train"]
    logits = _cifar100_teacher("cifar100-resnet20", images)
    if condition is None:
        (chosen,) = stratified_split(labels, (10_000 / len(labels),), 0)
        seen, shown = labels[chosen], logits[chosen]
    else:
        chosen, seen, shown = condition(labels, logits, images)
    inputs, targets = _readable(pixels[chosen], seen)
    validation, test = _judges(images)
    return Lesson(inputs, targets, shown, validation, test)


def _ten_thousand(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    return stratified_split(labels, (10_000 / len(labels),), 0)[0]


def scale_jitter(sigma: float, labels: NDArray[np.int64], logits: Tensor, images: Path | None):
    """Every sample's teacher logits times a log-normal factor."""
    chosen = _ten_thousand(labels)
    factor = np.exp(np.random.default_rng(0).normal(0.0, sigma, len(chosen))).astype(np.float32)
    return chosen, labels[chosen], logits[chosen] * torch.from_numpy(factor)[:, None]


def mixed_teachers(labels: NDArray[np.int64], logits: Tensor, images: Path | None):
    """Each sample is taught by one of two teachers: a ResNet-20, or a ResNet-8 whose logits are smaller."""
    chosen = _ten_thousand(labels)
    other = _cifar100_teacher("cifar100-resnet8", images)[chosen]
    first = torch.from_numpy(np.random.default_rng(0).random(len(chosen)) < 0.5)[:, None]
    return chosen, labels[chosen], torch.where(first, logits[chosen], other)


def long_tail(factor: float, labels: NDArray[np.int64], logits: Tensor, images: Path | None):
    """Class sizes fall geometrically from all images to ``1 / factor`` of them (Cao et al. 2019, arXiv 1906.07413)."""
    rng = np.random.default_rng(0)
    largest = np.bincount(labels).min()
    kept = [
        rng.permutation(np.flatnonzero(labels == label))[: round(largest * factor ** (-label / 99))]
        for label in range(100)
    ]
    chosen = np.sort(np.concatenate(kept))
    return chosen, labels[chosen], logits[chosen]


def label_noise(share: float, labels: NDArray[np.int64], logits: Tensor, images: Path | None):
    """A share of the labels is drawn anew among the other classes; the teacher has never seen the wrong ones."""
    chosen = _ten_thousand(labels)
    rng = np.random.default_rng(0)
    seen = labels[chosen].copy()
    wrong = rng.random(len(seen)) < share
    seen[wrong] = (seen[wrong] + rng.integers(1, 100, wrong.sum())) % 100
    return chosen, seen, logits[chosen]


def cifar100_whole(images: Path | None) -> Lesson:
    """All training images, augmented; the teacher sees what the student sees."""
    pixels, labels = _cifar100(images)["train"]
    teacher = find_teacher("cifar100-resnet20")
    validation, test = _judges(images)
    mean, std = (torch.tensor(part)[:, None, None] for part in _same_preprocessing(teacher.preprocessing))
    inputs = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()
    network = fold_batch_norm(teacher.model).eval().to(memory_format=torch.channels_last)
    return Lesson(inputs, torch.from_numpy(labels), None, validation, test, mean, std, network)


def _same_preprocessing(
    teacher: Preprocessing, architecture: str = "resnet8"
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    student = find_architecture(architecture).preprocessing
    if (teacher.mean, teacher.std) != (student.mean, student.std):
        raise ValueError("Expected teacher and student to normalise pixels alike.")
    return student.mean, student.std


def cifar10_test_images(images: Path | None) -> Lesson:
    """The test images of CIFAR-10 as data, 8,000 / 1,000 / 1,000, under a public ResNet-56 that has not seen them."""
    folder = _folder(images)
    with np.load(folder / "cifar10_test.npz") as archive:
        pixels, labels = archive["images"], archive["labels"].astype(np.int64)
    with np.load(folder / "cifar10_resnet56_test_logits.npz") as archive:
        if not np.array_equal(archive["labels"], labels):
            raise SystemExit("cifar10_resnet56_test_logits.npz belongs to images in another order.")
        logits = torch.from_numpy(archive["logits"])
    train, validation, test = stratified_split(labels, (0.8, 0.1, 0.1), 0)
    inputs, targets = _readable(pixels[train], labels[train])
    return Lesson(
        inputs,
        targets,
        logits[train],
        _readable(pixels[validation], labels[validation]),
        _readable(pixels[test], labels[test]),
    )


def digits(images: Path | None) -> Lesson:
    """200 of the bundled digits."""
    parts = {split: load_dataset("mnist-5k", split) for split in ("train", "validation", "test")}
    (chosen,) = stratified_split(parts["train"].labels, (200 / parts["train"].num_samples,), 0)
    train = parts["train"].take(chosen)
    (some,) = stratified_split(parts["validation"].labels, (500 / parts["validation"].num_samples,), 0)
    judge = {"validation": parts["validation"].take(some), "test": parts["test"]}
    readable = {
        name: _readable(part.images[:], part.labels, "cnn_16_32") for name, part in (judge | {"train": train}).items()
    }
    logits = teacher_logits(find_teacher("mnist5k-cnn"), train.images[:], "cpu")
    return Lesson(*readable["train"], logits, readable["validation"], readable["test"])


# Coates and Ng: one layer of whitened random patches, a soft threshold, sums over the quadrants of the image.
_PATCH, _FILTERS, _THRESHOLD = 6, 400, 0.25


def patch_features(images: Path | None, *, condition: Condition | None = None) -> Lesson:
    """The images of the tuning ground as 1,600 features of random patches (Coates and Ng 2012), for a perceptron."""
    small = cifar100_small(images, condition=condition)
    parts = {"train": small.inputs, "validation": small.validation[0], "test": small.test[0]}
    # Conditions that change labels or logits alone share the features of their images.
    seen = sha256(small.inputs.numpy().tobytes()).hexdigest()[:16]
    found = _kept(f"patch-features-{seen}", lambda: _patch_features(parts))
    return Lesson(
        found["train"],
        small.labels,
        small.teacher_logits,
        (found["validation"], small.validation[1]),
        (found["test"], small.test[1]),
    )


def _patch_features(parts: dict[str, Tensor]) -> dict[str, Tensor]:
    source = parts["train"]
    generator = torch.Generator().manual_seed(0)

    def contrast(patches: Tensor) -> Tensor:
        centred = patches - patches.mean(1, keepdim=True)
        return centred / (centred.var(1, keepdim=True) + 0.1).sqrt()

    rows = torch.randint(len(source), (20_000,), generator=generator)
    top, left = torch.randint(32 - _PATCH + 1, (2, 20_000), generator=generator)
    patches = torch.stack(
        [source[r, :, t : t + _PATCH, k : k + _PATCH].flatten() for r, t, k in zip(rows, top, left, strict=True)]
    )
    patches = contrast(patches)
    mean = patches.mean(0)
    values, vectors = torch.linalg.eigh((patches - mean).T @ (patches - mean) / len(patches))
    whiten = vectors @ torch.diag((values + 0.1).rsqrt()) @ vectors.T
    filters = (patches[:_FILTERS] - mean) @ whiten
    filters = filters / filters.norm(dim=1, keepdim=True)

    def features(images: Tensor) -> Tensor:
        unfolded = F.unfold(images, _PATCH).transpose(1, 2)
        count, places, size = unfolded.shape
        white = (contrast(unfolded.reshape(-1, size)) - mean) @ whiten
        answers = (white @ filters.T - _THRESHOLD).clamp(min=0)
        side = round(places**0.5)
        grid = answers.view(count, side, side, _FILTERS).permute(0, 3, 1, 2)
        return F.adaptive_avg_pool2d(grid, 2).flatten(1)

    computed = {name: torch.cat([features(some) for some in part.split(200)]) for name, part in parts.items()}
    centre, spread = computed["train"].mean(0), computed["train"].std(0) + 1e-6
    return {name: (part - centre) / spread for name, part in computed.items()}


def perceptron() -> nn.Module:
    return nn.Sequential(nn.Linear(4 * _FILTERS, 256), nn.BatchNorm1d(256), nn.ReLU(), nn.Linear(256, 100))


# -------------------------------------------------------------------------------------------------- settings

_RESNET8 = partial(create_model, "resnet8", num_classes=100)
# The product of the temperatures passes differences of scale on to the weights; whether that matters shows without it.
_SAME_WEIGHT = Method(
    "CIST, the same weight for all",
    "cist:rho={rho},weighting=uniform,lambda_kl={lambda_kl}",
    _methods(15)["cist"].grid,
    begins_as="cist",
)
_DIGITS = _methods(20, (0.005, 0.01, 0.02, 0.04), whole=True)
# From alpha 3 at these rates all students but one stay at chance, so a search from there has nothing to follow.
_DIGITS["dtkd"] = replace(
    _DIGITS["dtkd"],
    grid={"alpha": (0.5, 1.0, 3.0), "tau": (2.0, 4.0, 8.0), "learning_rate": (0.0025, 0.005, 0.01, 0.02)},
    start={"alpha": 0.5, "tau": 4.0, "learning_rate": 0.005},
)

_FEW = ("kd", "cist", "cist-authors", "lskd", "ce", "dkd", "kd-published", "cist-defaults")
"""What is compared where a run takes minutes to hours on a CPU and nothing was tuned there before."""

SETTINGS: dict[str, Setting] = {
    "cifar100-10k": Setting(
        "10,000 images of CIFAR-100, ResNet-20 to ResNet-8, 15 epochs",
        cifar100_small,
        Recipe(_RESNET8, epochs=15),
        _methods(15),
    ),
    "cifar100": Setting(
        "All 45,000 training images of CIFAR-100 with crop and flip, ResNet-20 to ResNet-8, 30 epochs",
        cifar100_whole,
        Recipe(_RESNET8, epochs=30, crop_padding=4, flip=True),
        _some(_methods(30), *_FEW),
        final_seeds=(100, 101, 102),
        tuned_in="cifar100-10k",
    ),
    "cifar10-test": Setting(
        "8,000 test images of CIFAR-10, a public ResNet-56 to ResNet-8, 15 epochs",
        cifar10_test_images,
        Recipe(partial(create_model, "resnet8", num_classes=10), epochs=15),
        _some(_methods(15), *_FEW),
        final_seeds=(100, 101, 102),
    ),
    "digits": Setting(
        "200 digits, a convolutional network of 115,274 weights, 20 epochs",
        digits,
        Recipe(partial(create_model, "cnn_16_32", num_classes=10), epochs=20, batch_size=50),
        _DIGITS,
    ),
    "patch-features": Setting(
        "Features of 10,000 images of CIFAR-100, a perceptron of 256 hidden units, 15 epochs",
        patch_features,
        Recipe(perceptron, epochs=15),
        _methods(15, whole=True),
        final_seeds=tuple(range(100, 110)),
    ),
}


def _condition(ground: str, title: str, change: Condition, same_weight: bool) -> Setting:
    """A setting of which one thing is changed; where a run takes seconds, learning rates are tuned anew as well."""
    called = {"cifar100-10k": "the tuning ground", "patch-features": "the features"}[ground]
    return replace(
        SETTINGS[ground],
        title=f"{title}; otherwise as {called}",
        lesson=partial(SETTINGS[ground].lesson, condition=change),
        methods=_some(_methods(15), "ce", "kd", "cist", "lskd")
        | ({"cist_uniform": _SAME_WEIGHT} if same_weight else {}),
        start_from=ground,
        tunes_rate=ground == "patch-features",
    )


_CONDITIONS: dict[str, tuple[str, Condition, bool]] = {
    "jitter-0.5": ("Teacher logits times log-normal factors, sigma 0.5", partial(scale_jitter, 0.5), True),
    "jitter-1": ("Teacher logits times log-normal factors, sigma 1", partial(scale_jitter, 1.0), True),
    "mixed-teachers": ("Each sample taught by a ResNet-20 or a ResNet-8", mixed_teachers, True),
    "long-tail": ("Class sizes from 450 down to 4 or 5", partial(long_tail, 100.0), False),
    "noise-20": ("20 % of the labels wrong", partial(label_noise, 0.2), False),
    "noise-40": ("40 % of the labels wrong", partial(label_noise, 0.4), False),
}
"""Their titles, what they change, and whether CIST with the same weight for all is tried."""
SETTINGS |= {name: _condition("cifar100-10k", *_CONDITIONS[name]) for name in ("jitter-1", "noise-40")}
SETTINGS |= {f"features-{name}": _condition("patch-features", *condition) for name, condition in _CONDITIONS.items()}
