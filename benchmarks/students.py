"""Many small students trained side by side: the trainer behind the claim and the GPU check.

A student like a ResNet-8 leaves a GPU idle: its step is two hundred kernels of a few microseconds. Here the steps of
all students are recorded once, each on a stream of its own, as one CUDA graph, which is then replayed step by step. On
the CPU the same steps run one after the other.

What a step does is what `cist_core.training` does in one: the same initial weights, order of images, augmentation,
schedule and SGD for the same seed. A test holds the two against each other.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from cist_core.calibration import expected_calibration_error, fit_temperature, nll
from cist_core.objectives import Objective, create_objective
from cist_core.training.images import derived_seed, random_order

# The streams of random numbers of `cist_core.training.learner`.
_WEIGHTS, _ORDER, _STEP = 0, 1, 2
_EVALUATION_BATCH = 2500
_STREAMS = 24
"""Branches of the graph that may run at once; more students share them."""


@dataclass(frozen=True)
class Plan:
    """One student: what it learns from, with what, and under which seed."""

    lesson: str
    objective: str
    learning_rate: float
    seed: int


@dataclass(frozen=True)
class Recipe:
    """What the students of one call have in common.

    Attributes:
        create_student: a fresh network.
        epochs: passes over the training samples.
        batch_size: samples a step; those that do not fill a last batch wait for the next epoch.
        weight_decay: of all parameters.
        momentum: of SGD.
        crop_padding: shift every image by up to so many pixels.
        flip: mirror half of the images.
        channels_last: how images lie in memory.
        precision: of the networks' arithmetic; the loss is float32.
    """

    create_student: Callable[[], nn.Module]
    epochs: int
    batch_size: int = 64
    weight_decay: float = 5e-4
    momentum: float = 0.9
    crop_padding: int = 0
    flip: bool = False
    channels_last: bool = True
    precision: torch.dtype = torch.float32

    @property
    def augmented(self) -> bool:
        return bool(self.crop_padding or self.flip)


@dataclass(frozen=True, eq=False)
class Lesson:
    """What students learn from and are judged by.

    Attributes:
        inputs: ``(N, ...)`` float32 as the student reads them; ``(N, channels, H, W)`` uint8 where a recipe augments.
        labels: ``(N,)`` int64.
        teacher_logits: ``(N, C)`` float32; None where the teacher has to see every augmented image.
        validation: inputs (float32) and labels.
        test: likewise.
        mean: of the pixels, by channel, for uint8 inputs.
        std: likewise.
        teacher: from float32 images to logits, for uint8 inputs.
    """

    inputs: Tensor
    labels: Tensor
    teacher_logits: Tensor | None
    validation: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]
    mean: Tensor | None = None
    std: Tensor | None = None
    teacher: nn.Module | None = None

    def to(self, device: torch.device) -> Lesson:
        def move(value: object) -> object:
            if isinstance(value, (Tensor, nn.Module)):
                return value.to(device)
            return tuple(part.to(device) for part in value) if isinstance(value, tuple) else value

        return replace(self, **{name: move(value) for name, value in vars(self).items()})


@dataclass(eq=False)
class _Batches:
    """The batches of one seed of one lesson, which all of its students share: at ``step``, a tensor on the device."""

    lesson: Lesson
    recipe: Recipe
    order: Tensor
    moves: tuple[Tensor, Tensor] | None
    inputs: Tensor = field(init=False)
    labels: Tensor = field(init=False)
    teacher_logits: Tensor = field(init=False)

    @classmethod
    def create(cls, lesson: Lesson, recipe: Recipe, seed: int, device: torch.device) -> _Batches:
        count = len(lesson.labels)
        per_epoch = count // recipe.batch_size
        orders = [
            random_order(count, seed, _ORDER, epoch)[: per_epoch * recipe.batch_size].view(per_epoch, -1)
            for epoch in range(1, recipe.epochs + 1)
        ]
        order = torch.cat(orders)
        moves = _moves(recipe, len(order), seed) if recipe.augmented else None
        return cls(
            lesson, recipe, order.to(device), None if moves is None else (moves[0].to(device), moves[1].to(device))
        )

    @torch.no_grad()
    def load(self, step: Tensor) -> None:
        """Bring in the batch of a step, ``(1,)``."""
        lesson = self.lesson
        chosen = self.order.index_select(0, step)[0]
        inputs = lesson.inputs.index_select(0, chosen)
        if self.moves is not None:
            shifts, mirrored = (table.index_select(0, step)[0] for table in self.moves)
            inputs = _moved(inputs, self.recipe, shifts, mirrored)
        if lesson.mean is not None:
            assert lesson.std is not None
            inputs = (inputs.float() / 255 - lesson.mean) / lesson.std
        if self.recipe.channels_last and inputs.dim() == 4:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        self.inputs, self.labels = inputs, lesson.labels.index_select(0, chosen)
        if lesson.teacher_logits is not None:
            self.teacher_logits = lesson.teacher_logits.index_select(0, chosen)
        else:
            assert lesson.teacher is not None
            with _autocast(inputs.device, self.recipe.precision):
                self.teacher_logits = lesson.teacher(inputs).float()


def _moves(recipe: Recipe, steps: int, seed: int) -> tuple[Tensor, Tensor]:
    """How every image of every step is shifted, ``(steps, 2, B)``, and whether it is mirrored, ``(steps, B)``."""
    shifts = torch.zeros(steps, 2, recipe.batch_size, dtype=torch.int64)
    mirrored = torch.zeros(steps, recipe.batch_size, dtype=torch.bool)
    with torch.random.fork_rng(devices=[]):
        for step in range(steps):
            torch.manual_seed(derived_seed(seed, _STEP, step, 0))
            # Drawn as `shift_and_mirror` draws them.
            if recipe.crop_padding:
                shifts[step] = torch.randint(2 * recipe.crop_padding + 1, (2, recipe.batch_size))
            if recipe.flip:
                mirrored[step] = torch.rand(recipe.batch_size) < 0.5
    return shifts, mirrored


def _moved(images: Tensor, recipe: Recipe, shifts: Tensor, mirrored: Tensor) -> Tensor:
    """`shift_and_mirror` with the random numbers given."""
    count, _, height, width = images.shape
    if recipe.crop_padding:
        padding = recipe.crop_padding
        windows = F.pad(images, (padding, padding, padding, padding)).unfold(2, height, 1).unfold(3, width, 1)
        images = windows[torch.arange(count, device=images.device), :, shifts[0], shifts[1]]
    return torch.where(mirrored[:, None, None, None], images.flip(3), images)


def _autocast(device: torch.device, precision: torch.dtype) -> AbstractContextManager[None]:
    if precision == torch.float32:
        return nullcontext()
    return torch.autocast(device.type, dtype=precision, cache_enabled=False)


@dataclass(eq=False)
class _Student:
    plan: Plan
    network: nn.Module
    objective: Objective
    batches: _Batches
    rates: Tensor
    parameters: list[nn.Parameter]
    velocities: list[Tensor]
    loss: Tensor
    best: dict[str, Tensor] = field(default_factory=dict)
    history: list[float] = field(default_factory=list)

    @classmethod
    def create(cls, plan: Plan, batches: _Batches, recipe: Recipe, device: torch.device) -> _Student:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derived_seed(plan.seed, _WEIGHTS))
            network = recipe.create_student()
        network = network.to(device).train()
        if recipe.channels_last:
            network = network.to(memory_format=torch.channels_last)
        steps = len(batches.order)
        cosine = [0.5 + 0.5 * math.cos(math.pi * step / steps) for step in range(steps)]
        parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
        return cls(
            plan,
            network,
            create_objective(plan.objective).to(device),
            batches,
            -plan.learning_rate * torch.tensor(cosine, dtype=torch.float32, device=device),
            parameters,
            [torch.zeros_like(parameter) for parameter in parameters],
            torch.zeros((), device=device),
        )

    def step(self, step: Tensor, epoch: int, recipe: Recipe) -> None:
        """One update of the weights; `Recipe` and `cist_core.training.optimisation` say which."""
        batches = self.batches
        with _autocast(batches.inputs.device, recipe.precision):
            logits = self.network(batches.inputs)
        terms = self.objective(
            student_logits=logits, teacher_logits=batches.teacher_logits, labels=batches.labels, epoch=epoch
        )
        gradients = list(torch.autograd.grad(terms["total"], self.parameters))
        with torch.no_grad():
            self.loss.copy_(terms["total"])
            torch._foreach_add_(gradients, self.parameters, alpha=recipe.weight_decay)
            torch._foreach_mul_(self.velocities, recipe.momentum)
            torch._foreach_add_(self.velocities, gradients)
            # The rate is read on the device, so that a recorded step follows the schedule.
            rate = self.rates.index_select(0, step)[0]
            torch._foreach_add_(self.parameters, torch._foreach_mul(self.velocities, rate))

    def tensors(self) -> list[Tensor]:
        """Everything that a step changes."""
        return [*self.network.state_dict().values(), *self.velocities, self.loss]

    @torch.inference_mode()
    def logits(self, inputs: Tensor, recipe: Recipe) -> Tensor:
        self.network.eval()
        with _autocast(inputs.device, recipe.precision):
            parts = [self.network(part).float() for part in inputs.split(_EVALUATION_BATCH)]
        self.network.train()
        return torch.cat(parts)


Outcome = dict[str, float | int | str]
"""What a student came to: accuracies, calibration before and after one fitted temperature, and its logit scale."""


def train_side_by_side(
    plans: Sequence[Plan],
    lessons: Mapping[str, Lesson],
    recipe: Recipe,
    *,
    device: torch.device | str = "cpu",
    report: Callable[[str], None] = print,
) -> list[Outcome]:
    """Train all of these students at once and judge them.

    Args:
        plans: at least one; their lessons have equally many training samples.
        lessons: by the names that the plans use.
        recipe: what they have in common.
        device: one of them for all.
        report: is told what happens.

    Returns:
        One outcome a plan, in their order. ``val_accuracy`` is that of the last epoch, ``test_accuracy_at_best`` that
        of the epoch which was best on validation.
    """
    device = torch.device(device)
    here = {name: lessons[name].to(device) for name in {plan.lesson for plan in plans}}
    batches = {
        key: _Batches.create(here[key[0]], recipe, key[1], device)
        for key in dict.fromkeys((plan.lesson, plan.seed) for plan in plans)
    }
    students = [_Student.create(plan, batches[plan.lesson, plan.seed], recipe, device) for plan in plans]
    steps = {len(part.order) for part in batches.values()}
    if len(steps) != 1:
        raise ValueError(f"Expected lessons of one length, but they have {sorted(steps)} steps.")
    per_epoch = steps.pop() // recipe.epochs
    started = time.perf_counter()
    advance = _recorded(students, recipe) if device.type == "cuda" else _in_turn(students, recipe)
    next(advance)
    for epoch in range(1, recipe.epochs + 1):
        for _ in range(per_epoch):
            advance.send(epoch)
        for student in students:
            _validate(student, recipe)
        if epoch in (1, recipe.epochs):
            report(f"epoch {epoch} of {len(students)} students after {time.perf_counter() - started:.1f} s")
    # NumPy judges in float64, which takes longer than a student's last epoch: several at a time.
    with ThreadPoolExecutor() as pool:
        return list(pool.map(_judge, [_Answers.of(student, recipe) for student in students]))


def _in_turn(students: Sequence[_Student], recipe: Recipe) -> Iterator[None]:
    """Steps on the CPU: sent the epoch, it takes one."""
    step = torch.zeros(1, dtype=torch.int64)
    while True:
        epoch = yield
        for part in {id(student.batches): student.batches for student in students}.values():
            part.load(step)
        for student in students:
            student.step(step, epoch, recipe)
        step += 1


def _recorded(students: Sequence[_Student], recipe: Recipe) -> Iterator[None]:
    """Steps on a GPU: recorded as one graph, again when an objective moves on with its epoch."""
    torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = True, False
    device = students[0].loss.device
    step = torch.zeros(1, dtype=torch.int64, device=device)
    streams = [torch.cuda.Stream(device) for _ in range(min(_STREAMS, len(students)))]
    shared = list({id(student.batches): student.batches for student in students}.values())

    def all_of_them(epoch: int) -> None:
        main = torch.cuda.current_stream(device)
        for number, part in enumerate(shared):
            stream = streams[number % len(streams)]
            stream.wait_stream(main)
            with torch.cuda.stream(stream):
                part.load(step)
        for stream in streams[: len(shared)]:
            main.wait_stream(stream)
        for stream in streams:
            stream.wait_stream(main)
        for number, student in enumerate(students):
            with torch.cuda.stream(streams[number % len(streams)]):
                student.step(step, epoch, recipe)
        for stream in streams:
            main.wait_stream(stream)
        step.add_(1)

    # Libraries choose their algorithms and take their workspaces in a few steps that are then undone.
    tensors = [step, *(tensor for student in students for tensor in student.tensors())]
    before = [tensor.clone() for tensor in tensors]
    warm_up = torch.cuda.Stream(device)
    warm_up.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(warm_up):
        for _ in range(2):
            all_of_them(1)
    torch.cuda.synchronize(device)
    for tensor, value in zip(tensors, before, strict=True):
        tensor.copy_(value)

    graph, recorded_at = None, -1
    ramp_ends = _ramp_ends(students)
    while True:
        epoch = yield
        moment = min(epoch, ramp_ends)
        if graph is None or moment != recorded_at:
            graph = None
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                all_of_them(epoch)
            recorded_at = moment
        graph.replay()


def _ramp_ends(students: Iterable[_Student]) -> int:
    """The epoch from which no objective changes any more."""
    values = [student.objective.config() for student in students]
    return max(math.ceil(config.get("warmup", config.get("ramp", 0))) for config in values) or 1


def _validate(student: _Student, recipe: Recipe) -> None:
    inputs, labels = student.batches.lesson.validation
    accuracy = (student.logits(inputs, recipe).argmax(1) == labels).float().mean().item()
    if not student.history or accuracy > max(student.history):
        student.best = {name: value.clone() for name, value in student.network.state_dict().items()}
    student.history.append(accuracy)


@dataclass(frozen=True, eq=False)
class _Answers:
    """What a trained student says, on the CPU: its logits in the last epoch, and in the one best on validation."""

    plan: Plan
    history: list[float]
    validation: tuple[NDArray[np.float32], NDArray[np.int64]]
    test: tuple[NDArray[np.float32], NDArray[np.int64]]
    test_at_best: NDArray[np.float32]

    @classmethod
    def of(cls, student: _Student, recipe: Recipe) -> _Answers:
        lesson = student.batches.lesson
        validation, test = (
            (student.logits(inputs, recipe).cpu().numpy(), labels.cpu().numpy())
            for inputs, labels in (lesson.validation, lesson.test)
        )
        student.network.load_state_dict(student.best)
        at_best = student.logits(lesson.test[0], recipe).cpu().numpy()
        return cls(student.plan, student.history, validation, test, at_best)


def _judge(answers: _Answers) -> Outcome:
    plan, history = answers.plan, answers.history
    row: Outcome = {
        "objective": plan.objective,
        "learning_rate": plan.learning_rate,
        "seed": plan.seed,
        "val_accuracy": history[-1],
        "best_val_accuracy": max(history),
        "best_epoch": int(np.argmax(history)) + 1,
    }
    logits, labels = answers.test
    if not (np.isfinite(logits).all() and np.isfinite(answers.validation[0]).all()):
        return row | {"diverged": "a logit is not finite"}
    tau = fit_temperature(*answers.validation)
    row |= {
        "test_accuracy": float(np.mean(logits.argmax(1) == labels)),
        "test_accuracy_at_best": float(np.mean(answers.test_at_best.argmax(1) == labels)),
        "test_nll": nll(logits, labels),
        "test_ece": expected_calibration_error(logits, labels),
        "fitted_temperature": tau,
        "test_nll_fitted": nll(logits, labels, tau=tau),
        "test_ece_fitted": expected_calibration_error(logits, labels, tau=tau),
        "student_maximum": float(np.mean(logits.max(1) - logits.mean(1))),
    }
    return {name: round(value, 6) if isinstance(value, float) else value for name, value in row.items()}
