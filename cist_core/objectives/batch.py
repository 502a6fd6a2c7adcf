"""What an objective is called with, checked and brought into one form."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cist_core.errors import CistError, CistWarning
from cist_core.objectives.chunks import ChunkedLogits, Chunks
from cist_core.objectives.values import ValueCheck, taking_part
from cist_core.temperature.logit_rows import LogitRows, scalar

Logits = Tensor | ChunkedLogits
"""What an objective compares: all logits, or what makes them a chunk of rows at a time."""

_SURELY = 4.0
"""Standard deviations of a sign test from which labels are taken to belong to the other axis."""


@dataclass(frozen=True, eq=False)
class StepMean:
    """A mean over the samples of a whole optimiser step, of which a batch holds a part.

    ``mean(v) = sum_i a_i v_i / num_items``, over the parts of one process and averaged over the processes.

    Attributes:
        num_items: what sums over all parts of one process, averaged over the processes, are divided by.
        share: ``a_i`` of every sample that the mask keeps, ``(N,)``; None: 1.
        over_processes: the mean of a tensor over the processes, through which gradients pass; None: there is one.
            Given, or with one process, the batch has to be all that this process has of the step: then the weightings
            ``uniform`` and ``uniform-teacher`` and ``normalise`` take their means over the whole step.
        nothing_counts: whether no process has a sample in this step; ``num_items`` is any positive number then.
    """

    num_items: float | Tensor
    share: Tensor | None = None
    over_processes: Callable[[Tensor], Tensor] | None = None
    nothing_counts: bool | Tensor = False


NumItems = float | Tensor | StepMean | None
"""What the scalar terms of a batch are means over: see `Batch.mean`."""


@dataclass(frozen=True, eq=False)
class Batch:
    """N samples (images, or the tokens that a mask keeps) as every objective sees them.

    Attributes:
        student: logits of the student; carries the gradient.
        teacher: logits of the teacher, without gradient.
        given_labels: ``(N,)`` int64, or None where none were given.
        given_cross_entropy: of each sample under the student's own classes, ``(N,)`` nats; None without labels.
        num_items: what sums over the samples are divided by; None: by N.
        step: how the mean over the whole step is taken, where this is known.
        chunks: what makes the logits, where they are made a chunk at a time.
    """

    student: LogitRows
    teacher: LogitRows
    given_labels: Tensor | None
    given_cross_entropy: Tensor | None
    num_items: float | Tensor | None = None
    step: StepMean | None = None
    chunks: Chunks | None = None

    @classmethod
    def create(
        cls,
        *,
        student_logits: Logits,
        teacher_logits: Logits,
        labels: Tensor | None = None,
        mask: Tensor | None = None,
        num_items: NumItems = None,
        view: str = "",
    ) -> Batch:
        """Check and flatten.

        Half precision becomes float32, float64 stays. A class takes part in a row unless a mask stands there in one of
        the two models (`taking_part`). The others have probability 0 in both, and the means that centre the logits
        leave them out.

        Args:
            student_logits: ``(B, C)`` or ``(B, L, C)``, classes last; or `ChunkedLogits`, of which no more than a chunk
                exists at a time.
            teacher_logits: likewise; no gradient flows into them.
            labels: ``(B,)`` or ``(B, L)``, integers; what stands at masked positions is not read. None where the
                objective reads none.
            mask: boolean, of the shape of the labels; true where a sample counts.
            num_items: what sums over the samples are divided by, in the place of their number; see `Batch.mean`.
            view: stands before the names of the logits in errors, for objectives with two views.

        Raises:
            CistError: for what is no tensor, shapes, types or devices that do not fit, an empty batch, a mask that
                keeps nothing (unless ``num_items`` is given: then the batch adds nothing). On the CPU also for NaN,
                ``+inf``, labels outside the classes and labels of a class that takes no part; on an accelerator these
                checks would make every step wait for the device, so there a NaN shows in the loss. On the CPU too, if
                logits ``(B, n, n)`` agree with the labels along the wrong axis.

        Warns:
            CistWarning: for logits ``(B, n, n)``, whose shape does not say which axis holds the classes; on the CPU, if
                every row of one of the two lies between 0 and 1 and sums to 1; and if finite numbers leave a
                class out of every row, with the number of such classes and which they are.
        """
        names = (f"{view}student_logits", f"{view}teacher_logits")
        step = num_items if isinstance(num_items, StepMean) else None
        divisor = num_items.num_items if isinstance(num_items, StepMean) else num_items
        _check_num_items(divisor)
        if isinstance(divisor, Tensor):
            divisor = divisor.reshape(())
        if isinstance(student_logits, ChunkedLogits) or isinstance(teacher_logits, ChunkedLogits):
            chunks = _chunks(names, student_logits, teacher_logits, labels, mask)
            if not chunks.samples and num_items is None:
                raise CistError(_nothing_counts(mask))
            return cls(*chunks.rows, chunks.labels, None, divisor, step, chunks)
        logits = dict(zip(names, (student_logits, teacher_logits), strict=True))
        _check_tensors(**logits, **_given(labels=labels, mask=mask))
        _check_shapes(logits, labels, mask)
        if student_logits.dim() == 3 and student_logits.shape[1] == student_logits.shape[2]:
            _notice_square(logits, labels, mask)
        dtype = torch.float64 if torch.float64 in (student_logits.dtype, teacher_logits.dtype) else torch.float32
        student = _kept_rows(student_logits.to(dtype), mask)
        teacher = _kept_rows(teacher_logits.detach().to(dtype), mask)
        flat_labels = _kept_labels(labels, mask)
        if not len(student) and num_items is None:
            raise CistError(_nothing_counts(mask))
        part = taking_part(student.detach(), teacher, flat_labels)
        if student.device.type == "cpu" and len(student):
            check = ValueCheck(names)
            check.add(student, teacher, flat_labels, part)
            check.warn()
        return cls(
            student=LogitRows(student, part),
            teacher=LogitRows(teacher, part),
            given_labels=flat_labels,
            given_cross_entropy=(
                None if flat_labels is None else F.cross_entropy(student, flat_labels, reduction="none")
            ),
            num_items=divisor,
            step=step,
        )

    @property
    def labels(self) -> Tensor:
        """``(N,)`` int64.

        Raises:
            CistError: if none were given.
        """
        if self.given_labels is None:
            raise CistError(
                "This objective treats the label's class apart from the others, but labels is None; give the class of "
                "every sample."
            )
        return self.given_labels

    @property
    def cross_entropy(self) -> Tensor:
        """Of each sample under the student's own classes, ``(N,)`` nats.

        Raises:
            CistError: if no labels were given.
        """
        if self.chunks is not None and self.given_labels is not None:
            return self.chunks.cross_entropy
        if self.given_cross_entropy is None:
            raise CistError(
                "This objective learns from the hard label, but labels is None; give the class of every sample."
            )
        return self.given_cross_entropy

    def mean(self, values: Tensor) -> Tensor:
        """``sum_i v_i / N`` of values of every sample, ``(N,)``; with ``num_items``, ``sum_i v_i / num_items``.

        So the terms of the parts of a batch, each with the number of samples of the whole, add up to those of the
        whole, however the samples are spread over the parts.
        """
        if self.num_items is None:
            return values.mean()
        if self.step is not None and self.step.share is not None:
            values = values * self.step.share
        return values.sum() / self.num_items

    def step_mean(self, values: Tensor) -> Tensor:
        """The mean over the whole optimiser step where a `StepMean` was given, else over this batch."""
        if self.step is None:
            return values.mean()
        mean = self.mean(values)
        return mean if self.step.over_processes is None else self.step.over_processes(mean)

    def for_each_sample(self, value: float | Tensor) -> Tensor:
        """One number for each sample, ``(N,)``: a scalar for all of them, or what is one each already."""
        if self.chunks is not None:
            return scalar(value, like=self.chunks.like).expand_as(self.chunks.like)
        return scalar(value, like=self.student.maximum).expand_as(self.student.maximum)

    def read_rows(self, function: Callable[..., Tensor], *vectors: Tensor | None) -> Tensor:
        """What a function makes of the rows of both models, one number for each, ``(N,)``.

        Args:
            function: from rows of the student, the same rows of the teacher, and their numbers.
            vectors: a number for each sample, ``(N,)``, handed to the function; None stays None.
        """
        if self.chunks is not None:
            return self.chunks.read_with_labels(function, *vectors)
        return function(self.student, self.teacher, *vectors)

    def share(self, term: Tensor) -> Tensor:
        """A term of this batch that is no mean over samples, by its share of the whole: ``N / num_items`` of it."""
        return term if self.num_items is None else term * (len(self.student.takes_part) / self.num_items)


def _nothing_counts(mask: Tensor | None) -> str:
    return "Expected at least one sample, but " + (
        "the batch is empty." if mask is None else "the mask keeps no token; leave such a batch out."
    )


def _kept_rows(rows: Tensor, mask: Tensor | None) -> Tensor:
    """``(N, ...)`` from ``(B, ...)`` or ``(B, L, ...)``: those that the mask keeps."""
    flat = rows.reshape(-1, rows.shape[-1])
    return flat if mask is None else flat[mask.reshape(-1)]


def _kept_labels(labels: Tensor | None, mask: Tensor | None) -> Tensor | None:
    if labels is None:
        return None
    flat = labels.reshape(-1).long()
    return flat if mask is None else flat[mask.reshape(-1)]


def _chunks(
    names: tuple[str, str], student: Logits, teacher: Logits, labels: Tensor | None, mask: Tensor | None
) -> Chunks:
    """Both models' logits a chunk at a time, checked as far as shapes tell; the values are when they are made."""
    both = [ChunkedLogits.of(logits) for logits in (student, teacher)]
    _check_tensors(
        **{f"{name}.states": logits.states for name, logits in zip(names, both, strict=True)},
        **_given(labels=labels, mask=mask),
    )
    # Shapes alone: numbers without memory stand for what does not exist yet.
    stand_ins = {name: logits.stand_in() for name, logits in zip(names, both, strict=True)}
    _check_shapes(stand_ins, labels, mask)
    ours, theirs = (ChunkedLogits(_kept_rows(logits.states, mask), logits.head, logits.classes) for logits in both)
    return Chunks(names, ours, theirs, _kept_labels(labels, mask))


def _given(**tensors: Tensor | None) -> dict[str, Any]:
    return {name: tensor for name, tensor in tensors.items() if tensor is not None}


def _check_tensors(**tensors: Any) -> None:
    """That all are dense tensors on one device."""
    for name, value in tensors.items():
        if isinstance(value, Tensor) and value.layout is torch.strided and not value.is_nested:
            continue
        if isinstance(value, Tensor):
            raise CistError(
                f"Expected {name} to be a dense tensor, but got a nested or sparse one; "
                f"{name}.to_dense() or padding with a mask makes one."
            )
        remedy = f"torch.as_tensor({name}) makes one"
        if isinstance(getattr(value, "logits", None), Tensor):
            remedy = "give its .logits"
        elif isinstance(value, tuple | list) and any(isinstance(item, Tensor) for item in value):
            remedy = "give the one among its items that is meant"
        elif value is None:
            remedy = "every objective compares the logits of both models"
        raise CistError(f"Expected {name} to be a tensor, but got {_kind(value)}; {remedy}.")
    (first, reference), *others = tensors.items()
    for name, tensor in others:
        if tensor.device != reference.device:
            raise CistError(
                f"Expected {name} to be where {first} are, on {reference.device}, but they are on {tensor.device}; "
                f"move them: {name}.to({str(reference.device)!r})."
            )


def _kind(value: object) -> str:
    if value is None:
        return "None"
    module, name = type(value).__module__.partition(".")[0], type(value).__qualname__
    return name if module == "builtins" else f"{module}.{name}"


def _check_shapes(logits: dict[str, Tensor], labels: Tensor | None, mask: Tensor | None) -> None:
    for name, tensor in logits.items():
        if not tensor.is_floating_point():
            raise CistError(
                f"Expected {name} to be floating point, but got {tensor.dtype}; {name}.float() makes them so."
            )
    (student_name, student), (teacher_name, teacher) = logits.items()
    if student.dim() not in (2, 3) or student.shape[-1] < 2:
        remedy = "a single sample is a batch of one: unsqueeze(0)"
        if student.dim() > 3:
            remedy = (
                "bring the classes last, flatten the positions and give each its label: movedim(1, -1).flatten(1, -2)"
            )
        elif student.dim() in (2, 3):
            remedy = "a model with one output has no distribution over classes"
        raise CistError(
            f"Expected {student_name} of the shape (B, C) or (B, L, C) with C >= 2, but got {tuple(student.shape)}; "
            f"{remedy}."
        )
    if teacher.shape != student.shape:
        remedy = "both models need the same samples and the same classes in the same order"
        if student.dim() == 3 and teacher.shape == student.transpose(1, 2).shape:
            remedy = "one of the two has the classes before the tokens: transpose(1, 2)"
        elif student.dim() == 2 and teacher.shape == student.T.shape:
            remedy = "one of the two is transposed"
        raise CistError(
            f"Expected {teacher_name} of the shape of {student_name}, {tuple(student.shape)}, but got "
            f"{tuple(teacher.shape)}; {remedy}."
        )
    expected = student.shape[:-1]
    if student.dim() == 3:
        _refuse_classes_first(student_name, student, labels=labels, mask=mask)
    if labels is not None and (labels.shape != expected or not _is_integer(labels)):
        raise CistError(
            f"Expected integer labels of the shape {tuple(expected)}, one for each row of logits, but got "
            f"{labels.dtype} of the shape {tuple(labels.shape)}; {_mend_labels(labels, student)}."
        )
    if mask is not None and (mask.shape != expected or mask.dtype != torch.bool):
        remedy = "mask.bool() makes it so" if mask.shape == expected else "it has one entry for each row of logits"
        raise CistError(
            f"Expected a boolean mask of the shape {tuple(expected)}, but got {mask.dtype} of the shape "
            f"{tuple(mask.shape)}; {remedy}."
        )


def _is_integer(tensor: Tensor) -> bool:
    return not (tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool)


def _mend_labels(labels: Tensor, student: Tensor) -> str:
    if labels.shape == student.shape:
        return "one-hot labels become classes by labels.argmax(-1), and mixed ones are no labels of one class"
    if labels.shape == (*student.shape[:-1], 1):
        return "labels.squeeze(-1) takes the last axis away"
    if labels.shape == student.shape[:-1]:
        return "labels.long() makes whole numbers of them"
    return "give each row the number of its class"


def _refuse_classes_first(name: str, student: Tensor, **beside: Tensor | None) -> None:
    """Token logits as ``torch.nn.functional.cross_entropy`` takes them, ``(B, C, L)``."""
    batch, tokens, classes = student.shape
    for what, tensor in _given(**beside).items():
        if tensor.shape == (batch, classes) and tokens != classes:
            raise CistError(
                f"Expected {name} of the shape (B, L, C), classes last, but the {what} {tuple(tensor.shape)} say that "
                f"in {tuple(student.shape)} they come first, as in torch's cross_entropy; give both models' logits as "
                "logits.transpose(1, 2)."
            )


def _notice_square(logits: dict[str, Tensor], labels: Tensor | None, mask: Tensor | None) -> None:
    shape = tuple(next(iter(logits.values())).shape)
    remedy = f"logits.transpose(1, 2), or say it by shape: logits ({shape[0] * shape[1]}, {shape[2]}), one row a token"
    if labels is not None and labels.device.type == "cpu":
        counted = torch.ones_like(labels, dtype=torch.bool) if mask is None else mask
        for name, tensor in logits.items():
            last, first = ((tensor.detach().argmax(axis) == labels) & counted for axis in (-1, 1))
            # The sign test: tokens that agree along one axis alone favour neither where there is nothing to find.
            for_first, for_last = int((first & ~last).sum()), int((last & ~first).sum())
            if for_first - for_last > _SURELY * math.sqrt(for_first + for_last):
                raise CistError(
                    f"Expected {name} of the shape (B, L, C), classes last, but in {shape} the largest logits agree "
                    f"with the labels in {int(first.sum())} of {int(counted.sum())} tokens if the classes come first, "
                    f"and in {int(last.sum())} if they come last; give {remedy}."
                )
    warnings.warn(
        f"Logits of the shape {shape} are read as (B, L, C), classes last; the shape would be the same if the classes "
        f"came first, as in torch's cross_entropy. In that case give {remedy}.",
        CistWarning,
        stacklevel=4,
    )


def _check_num_items(num_items: Any) -> None:
    if num_items is None:
        return
    value = num_items
    if isinstance(value, Tensor) and value.numel() == 1 and not value.is_complex() and value.dtype != torch.bool:
        if value.device.type != "cpu":
            return
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 < float(value) < math.inf:
        raise CistError(
            "Expected num_items to be the positive number of samples (tokens that count) of the whole optimiser step, "
            f"but got {num_items!r}; leave it out for a mean over this batch."
        )
