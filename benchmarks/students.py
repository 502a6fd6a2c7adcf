"""Many small students trained side by side: the trainer behind the claim and the GPU check.

A student like a ResNet-8 leaves a GPU idle: its step is two hundred kernels of a few microseconds. Here the steps of
all students are recorded once, their networks on streams of their own, as one CUDA graph, which is then replayed step
by step. Objectives of one kind run as one, vectorised over their students, and so does SGD. On the CPU the same steps
run one after the other.

What a step does is what `cist_core.training` does in one: the same initial weights, order of images, augmentation,
schedule and SGD for the same seed. A test holds the two against each other.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from cist_core.logits.calibration import expected_calibration_error, fit_temperature, nll
from cist_core.objectives import Objective, create_objective
from cist_core.training.randomness import Stream, derived_seed, random_order

_EVALUATION_BATCH = 2500
_STREAMS = 24
"""Branches of the graph that may run at once; more students share them."""

_Item, _Result = TypeVar("_Item"), TypeVar("_Result")


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
            random_order(count, seed, Stream.ORDER, epoch)[: per_epoch * recipe.batch_size].view(per_epoch, -1)
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
            torch.manual_seed(derived_seed(seed, Stream.STEP, step, 0))
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
    batches: _Batches
    parameters: list[nn.Parameter]
    best: dict[str, Tensor] = field(default_factory=dict)
    history: list[float] = field(default_factory=list)

    @classmethod
    def create(cls, plan: Plan, batches: _Batches, recipe: Recipe, device: torch.device) -> _Student:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derived_seed(plan.seed, Stream.WEIGHTS))
            network = recipe.create_student()
        network = network.to(device).train()
        if recipe.channels_last:
            network = network.to(memory_format=torch.channels_last)
        for module in network.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.num_batches_tracked = None  # a kernel a layer and step, for a count that nothing reads
        return cls(plan, network, batches, [part for part in network.parameters() if part.requires_grad])

    def forward(self, recipe: Recipe) -> Tensor:
        with _autocast(self.batches.inputs.device, recipe.precision):
            logits: Tensor = self.network(self.batches.inputs)
        return logits.float()

    @torch.inference_mode()
    def logits(self, inputs: Tensor, recipe: Recipe) -> Tensor:
        self.network.eval()
        with _autocast(inputs.device, recipe.precision):
            parts = [self.network(part).float() for part in inputs.split(_EVALUATION_BATCH)]
        self.network.train()
        return torch.cat(parts)


_VECTORISED = ("tau", "rho", "k", "alpha", "beta", "gamma", "lambda_ce", "lambda_kl")
"""Hyper-parameters that may differ between the objectives that run as one."""


@dataclass(eq=False)
class Objectives:
    """The objectives of one kind: the same function, of which only some numbers differ between students.

    Attributes:
        members: positions of their students.
        one: an objective of this kind; its other hyper-parameters are those of all.
        varying: the numbers that differ, ``(S,)`` each.
    """

    members: list[int]
    one: Objective
    varying: dict[str, Tensor]

    @classmethod
    def of(cls, plans: Sequence[Plan], device: torch.device) -> list[Objectives]:
        kinds: dict[str, list[int]] = {}
        objectives = [create_objective(plan.objective) for plan in plans]
        for position, objective in enumerate(objectives):
            fixed = {name: value for name, value in objective.config().items() if name not in _VECTORISED}
            kinds.setdefault(f"{objective.name} {fixed}", []).append(position)
        return [
            cls(
                members,
                objectives[members[0]],
                {
                    name: torch.tensor([objectives[member].config()[name] for member in members], device=device)
                    for name in objectives[members[0]].config()
                    if name in _VECTORISED
                },
            )
            for members in kinds.values()
        ]

    def gradients(
        self, logits: Tensor, teacher_logits: Tensor, labels: Tensor, epoch: int, *, vectorised: bool = False
    ) -> Tensor:
        """``d total / d logits`` of every student, ``(S, B, C)``.

        Args:
            logits: of the students, ``(S, B, C)``.
            teacher_logits: likewise.
            labels: ``(S, B)``.
            epoch: from 1.
            vectorised: all at once, where objectives do not look at their values: on a GPU.
        """
        specification = self.one.specification
        fixed = {name: value for name, value in self.one.config().items() if name not in self.varying}
        if "epoch" in specification.inputs:
            fixed["epoch"] = epoch

        def total(student: Tensor, teacher: Tensor, targets: Tensor, numbers: dict[str, Tensor]) -> Tensor:
            terms = specification.function(
                student_logits=student, teacher_logits=teacher, labels=targets, **fixed, **numbers
            )
            return terms["total"]

        leaf = logits.detach().requires_grad_()
        if vectorised:
            losses = torch.func.vmap(total)(leaf, teacher_logits, labels, self.varying)
        else:
            numbers = [{name: value[i] for name, value in self.varying.items()} for i in range(len(leaf))]
            # An objective refuses the logits of a student that diverged; its gradient is NaN, as it is on a GPU.
            losses = torch.stack(
                [
                    total(*given) if given[0].isfinite().all() else given[0].sum() * torch.nan
                    for given in zip(leaf, teacher_logits, labels, numbers, strict=True)
                ]
            )
        return torch.autograd.grad(losses.sum(), leaf)[0]


class _Weights:
    """The weights of all students in one matrix, ``(S, P)``, which SGD moves at once; their networks hold views."""

    def __init__(self, students: Sequence[_Student], recipe: Recipe, steps: int, device: torch.device) -> None:
        self._recipe = recipe
        self.values = torch.stack([torch.cat([_flat(part.data) for part in each.parameters]) for each in students])
        self.velocity = torch.zeros_like(self.values)
        self._gradient = torch.zeros_like(self.values)
        for row, student in zip(self.values, students, strict=True):
            sizes = [part.numel() for part in student.parameters]
            for part, piece in zip(student.parameters, row.split(sizes), strict=True):
                part.data = _shaped(piece, part)
        rates = [student.plan.learning_rate for student in students]
        self._rates = -torch.tensor(rates, dtype=torch.float32, device=device)[:, None]
        cosine = [0.5 + 0.5 * math.cos(math.pi * step / steps) for step in range(steps)]
        self._cosine = torch.tensor(cosine, dtype=torch.float32, device=device)

    @torch.no_grad()
    def step(self, gradients: Sequence[Sequence[Tensor]], step: Tensor) -> None:
        """SGD with momentum and weight decay; the rate is read on the device, so that a recorded step follows it."""
        pieces = [_flat(gradient) for student in gradients for gradient in student]
        torch.cat(pieces, out=self._gradient.view(-1))
        self._gradient.add_(self.values, alpha=self._recipe.weight_decay)
        self.velocity.mul_(self._recipe.momentum).add_(self._gradient)
        self.values.addcmul_(self.velocity, self._rates * self._cosine.index_select(0, step))


def _flat(tensor: Tensor) -> Tensor:
    """One dimension, in the order of channels-last memory for kernels of convolutions."""
    return (tensor.permute(0, 2, 3, 1) if tensor.dim() == 4 else tensor).reshape(-1)


def _shaped(piece: Tensor, like: Tensor) -> Tensor:
    if like.dim() != 4:
        return piece.view(like.shape)
    out, channels, height, width = like.shape
    return piece.view(out, height, width, channels).permute(0, 3, 1, 2)


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
    started = time.perf_counter()
    course = _Course(students, list(batches.values()), recipe, steps.pop(), device)
    for epoch in range(1, recipe.epochs + 1):
        for _ in range(course.steps // recipe.epochs):
            course.advance(epoch)
        for student in students:
            _validate(student, recipe)
        if epoch in (1, recipe.epochs):
            report(f"epoch {epoch} of {len(students)} students after {time.perf_counter() - started:.1f} s")
    # NumPy judges in float64, which takes longer than a student's last epoch: several at a time.
    with ThreadPoolExecutor() as pool:
        return list(pool.map(_judge, [_Answers.of(student, recipe) for student in students]))


class _Course:
    """All students on their way: one step of all of them at a time."""

    def __init__(
        self,
        students: Sequence[_Student],
        batches: Sequence[_Batches],
        recipe: Recipe,
        steps: int,
        device: torch.device,
    ) -> None:
        self.steps, self._students, self._batches, self._recipe = steps, students, batches, recipe
        self._weights = _Weights(students, recipe, steps, device)
        self._objectives = Objectives.of([student.plan for student in students], device)
        self._step = torch.zeros(1, dtype=torch.int64, device=device)
        self._device = device
        self._ramps_end = _ramp_ends(self._objectives)
        self._graph: torch.cuda.CUDAGraph | None = None
        self._recorded_at = -1
        self._streams: list[torch.cuda.Stream] = []
        if device.type == "cuda":
            self._streams = [torch.cuda.Stream(device) for _ in range(min(_STREAMS, len(students)))]
            self._warm_up()

    def advance(self, epoch: int) -> None:
        """One step of everybody; on a GPU recorded before, and again when an objective moves on with its epoch."""
        if self._device.type == "cpu":
            self._take(epoch)
            return
        moment = min(epoch, self._ramps_end)
        if self._graph is None or moment != self._recorded_at:
            self._graph, self._recorded_at = torch.cuda.CUDAGraph(), moment
            with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
                self._take(epoch)
        self._graph.replay()

    def _take(self, epoch: int) -> None:
        self._beside(self._batches, lambda part: part.load(self._step))
        logits = self._beside(self._students, lambda student: student.forward(self._recipe))
        pulls: list[Tensor] = [torch.empty(0)] * len(logits)
        for found in self._beside(self._objectives, lambda part: self._pulls_of(part, logits, epoch)):
            for position, pull in found.items():
                pulls[position] = pull
        gradients = self._beside(
            range(len(logits)),
            lambda i: torch.autograd.grad(logits[i], self._students[i].parameters, grad_outputs=pulls[i]),
        )
        self._weights.step(gradients, self._step)
        self._step.add_(1)

    def _pulls_of(self, part: Objectives, logits: Sequence[Tensor], epoch: int) -> dict[int, Tensor]:
        batches = [self._students[member].batches for member in part.members]
        found = part.gradients(
            torch.stack([logits[member].detach() for member in part.members]),
            torch.stack([each.teacher_logits for each in batches]),
            torch.stack([each.labels for each in batches]),
            epoch,
            vectorised=self._device.type == "cuda",
        )
        return dict(zip(part.members, found.unbind(), strict=True))

    def _beside(self, items: Sequence[_Item], work: Callable[[_Item], _Result]) -> list[_Result]:
        """The work on every item; on a GPU side by side, each on one of the streams."""
        if not self._streams:
            return [work(item) for item in items]
        main, results = torch.cuda.current_stream(self._device), []
        for stream in self._streams:
            stream.wait_stream(main)
        for number, item in enumerate(items):
            with torch.cuda.stream(self._streams[number % len(self._streams)]):
                results.append(work(item))
        for stream in self._streams:
            main.wait_stream(stream)
        return results

    def _warm_up(self) -> None:
        """Libraries choose their algorithms and take their workspaces in a few steps, which are then undone."""
        torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = True, False
        networks = [buffer for student in self._students for buffer in student.network.buffers()]
        changed = [self._step, self._weights.values, self._weights.velocity, *networks]
        before = [tensor.clone() for tensor in changed]
        aside = torch.cuda.Stream(self._device)
        aside.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(aside):
            for _ in range(2):
                self._take(1)
        torch.cuda.synchronize(self._device)
        for tensor, value in zip(changed, before, strict=True):
            tensor.copy_(value)


def _ramp_ends(objectives: Iterable[Objectives]) -> int:
    """The epoch from which no objective changes any more."""
    configs = [part.one.config() for part in objectives]
    return max(math.ceil(config.get("warmup", config.get("ramp", 0))) for config in configs) or 1


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
        with torch.no_grad():
            for name, value in student.network.state_dict().items():
                value.copy_(student.best[name])
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
