"""Logits of many samples and classes that exist a chunk of rows at a time.

The logits of 2,048 tokens over 50,257 classes are 412 MB in float32, and a loss needs several times that. But each
row of a language model's logits is its head applied to one final hidden state, which is sixty times smaller. So rows
are made from the states a chunk at a time, reduced to a few numbers each, forgotten, and made again in the backward
pass (`torch.utils.checkpoint`). What an objective does with these numbers, such as a weight that is a mean over all
samples, is an ordinary graph over N of them, so values and gradients are those of the objective on all logits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from cist_core.errors import CistError
from cist_core.objectives.values import ValueCheck, taking_part
from cist_core.temperature.logit_rows import LogitRows

CHUNK_VALUES = 1 << 23
"""Logits of one model in a chunk, at least: 32 MiB in float32; about a dozen tensors of that size exist at a time.

Smaller ones cost more memory, not less: up to 32 MiB the allocator of the C library keeps what is freed, and the pieces
of many chunks add up to several times what was in use at once."""


@dataclass(frozen=True, eq=False)
class ChunkedLogits:
    """Logits that are made from states when they are read.

    Attributes:
        states: ``(B, D)`` or ``(B, L, D)``, final hidden states; of the student with their gradient.
        head: from states ``(n, D)`` to logits ``(n, C)`` in float32 or float64; the gradient reaches the parameters
            that it uses.
        classes: C.

    Example:
        >>> from cist_core.objectives import create_objective
        >>> head, states = torch.nn.Linear(4, 7), torch.randn(3, 4)
        >>> teacher, labels = torch.randn(3, 7), torch.tensor([0, 3, 6])
        >>> objective = create_objective("kd:tau=2")
        >>> whole = objective(student_logits=head(states), teacher_logits=teacher, labels=labels)
        >>> parts = objective(student_logits=ChunkedLogits(states, head, 7), teacher_logits=teacher, labels=labels)
        >>> torch.allclose(whole["total"], parts["total"])
        True
    """

    states: Tensor
    head: Callable[[Tensor], Tensor]
    classes: int

    @classmethod
    def of(cls, logits: Tensor | ChunkedLogits) -> ChunkedLogits:
        """The same where they are chunked already; else rows of logits that are there."""
        if isinstance(logits, ChunkedLogits):
            return logits
        return cls(logits, _as_they_are, logits.shape[-1])

    @property
    def device(self) -> torch.device:
        return self.states.device

    def stand_in(self) -> Tensor:
        """A tensor of the shape and on the device of the logits that takes no memory."""
        return self.states.detach().new_zeros(()).expand(*self.states.shape[:-1], self.classes)


def _as_they_are(logits: Tensor) -> Tensor:
    return logits


class Chunks:
    """The logits of both models of N samples, a chunk of rows at a time.

    Args:
        names: of both, for errors.
        student: ``(N, D)`` states.
        teacher: likewise; no gradient flows into them.
        labels: ``(N,)``.
        check: whether to look for what no logits are.
    """

    def __init__(
        self,
        names: tuple[str, str],
        student: ChunkedLogits,
        teacher: ChunkedLogits,
        labels: Tensor | None,
        *,
        check: bool = True,
    ) -> None:
        self._student, self._teacher, self.labels = student, teacher, labels
        self._check = ValueCheck(names) if check else None
        self._cross_entropy: Tensor | None = None
        self._statistics: dict[str, dict[str, Tensor]] = {}

    @property
    def samples(self) -> int:
        return len(self._student.states)

    @cached_property
    def like(self) -> Tensor:
        """``(N,)``, of the type and on the device of what is made of rows."""
        states = (self._student.states, self._teacher.states)
        wide = torch.float64 if torch.float64 in (rows.dtype for rows in states) else torch.float32
        return torch.empty(self.samples, dtype=wide, device=self._student.device)

    @cached_property
    def rows(self) -> tuple[ChunkedRows, ChunkedRows]:
        """What is known of the rows of student and teacher."""
        return ChunkedRows(self, "student"), ChunkedRows(self, "teacher")

    def statistic(self, name: str, model: str) -> Tensor:
        """An attribute of `LogitRows`, one number a row, ``(N,)``; read for both models at once, when first asked."""
        if name not in self._statistics:
            student, teacher = self.read_several(
                lambda student, teacher: (getattr(student, name), getattr(teacher, name))
            )
            self._statistics[name] = {"student": student, "teacher": teacher.detach()}
        return self._statistics[name][model]

    @property
    def cross_entropy(self) -> Tensor:
        """Of the student, ``(N,)`` nats."""
        if self._cross_entropy is None:
            self.read_with_labels(lambda student, teacher: student.peak)
        assert self._cross_entropy is not None
        return self._cross_entropy

    def read_with_labels(self, function: Callable[..., Tensor], *vectors: Tensor | None) -> Tensor:
        """As `read`; the first time the cross-entropies come along, as the logits are there already."""
        if self.labels is None or self._cross_entropy is not None:
            return self.read(function, *vectors)
        values, self._cross_entropy = self._read(function, *vectors, hard_labels=True)
        return values

    def read(self, function: Callable[..., Tensor], *vectors: Tensor | None) -> Tensor:
        """What a function makes of rows of the student, those of the teacher and numbers of theirs, ``(N,)``."""
        (values,) = self._read(function, *vectors)
        return values

    def read_several(self, function: Callable[..., tuple[Tensor, ...]], *vectors: Tensor | None) -> tuple[Tensor, ...]:
        """As `read`, for a function that makes several numbers of each row."""
        return self._read(function, *vectors)

    def _read(
        self,
        function: Callable[..., Tensor | tuple[Tensor, ...]],
        *vectors: Tensor | None,
        hard_labels: bool = False,
    ) -> tuple[Tensor, ...]:
        parts = []
        for chunk in self._slices():
            inputs: tuple[Any, ...] = (
                self._student.states[chunk],
                self._teacher.states[chunk].detach(),
                None if self.labels is None else self.labels[chunk],
                *(None if vector is None else vector[chunk] for vector in vectors),
            )
            # What is no more than a usual chunk is no more to keep than to make again.
            if torch.is_grad_enabled() and self.samples * self._student.classes > CHUNK_VALUES:
                made = checkpoint(
                    self._of_chunk,
                    function,
                    hard_labels,
                    *inputs,
                    use_reentrant=False,
                    preserve_rng_state=False,
                )
            else:
                made = self._of_chunk(function, hard_labels, *inputs)
            parts.append(made)
        if self._check is not None:  # once; not again when chunks are read or made anew
            self._check.warn()
            self._check = None
        return tuple(values[0] if len(values) == 1 else torch.cat(values) for values in zip(*parts, strict=True))

    def _slices(self) -> list[slice]:
        """Which samples make a chunk: as many in each, so that the last is not smaller than `CHUNK_VALUES` either."""
        count = max(self.samples // -(-CHUNK_VALUES // self._student.classes), 1)
        ends = [self.samples * number // count for number in range(count + 1)]
        return [slice(*pair) for pair in pairwise(ends)]

    def _of_chunk(
        self,
        function: Callable[..., Tensor | tuple[Tensor, ...]],
        hard_labels: bool,
        student_states: Tensor,
        teacher_states: Tensor,
        labels: Tensor | None,
        *vectors: Tensor | None,
    ) -> tuple[Tensor, ...]:
        student = self._student.head(student_states).to(self.like.dtype)
        with torch.no_grad():
            teacher = self._teacher.head(teacher_states).to(self.like.dtype)
        part = taking_part(student.detach(), teacher, labels)
        if self._check is not None and student.device.type == "cpu" and len(student):
            self._check.add(student, teacher, labels, part)
        beside = (F.cross_entropy(student, labels, reduction="none"),) if hard_labels and labels is not None else ()
        # Asked on the CPU alone, where the answer does not have to be waited for.
        everywhere = part.device.type == "cpu" and bool(part.all())
        rows = tuple(LogitRows(logits, part, all_take_part=everywhere) for logits in (student, teacher))
        del student, teacher, part  # the rows have their own; two chunks less at the peak
        made = function(*rows, *vectors)
        return *((made,) if isinstance(made, Tensor) else made), *beside


class ChunkedRows(LogitRows):
    """The rows of one model of which no more than a chunk exists at a time: what temperature rules read of them."""

    def __init__(self, chunks: Chunks, model: str, *, detached: bool = False) -> None:
        self._chunks, self._model, self._detached = chunks, model, detached

    def detach(self) -> ChunkedRows:
        return ChunkedRows(self._chunks, self._model, detached=True)

    @cached_property
    def maximum(self) -> Tensor:
        return self._known(self._chunks.statistic("maximum", self._model))

    @cached_property
    def peak(self) -> Tensor:
        return self._known(self._chunks.statistic("peak", self._model))

    @cached_property
    def deviation(self) -> Tensor:
        return self._known(self._chunks.statistic("deviation", self._model))

    @cached_property
    def classes(self) -> Tensor:
        return self._chunks.statistic("classes", self._model)

    def entropy(self, tau: Tensor) -> Tensor:
        def of_chunk(student: LogitRows, teacher: LogitRows, taus: Tensor) -> Tensor:
            return (student if self._model == "student" else teacher).entropy(taus)

        return self._known(self._chunks.read(of_chunk, tau))

    @cached_property
    def answers(self) -> Tensor:
        return self._chunks.statistic("answers", self._model)

    @property
    def takes_part(self) -> Tensor:  # type: ignore[override]
        raise _all_at_once()

    @property
    def centred(self) -> Tensor:
        raise _all_at_once()

    def log_probabilities(self, tau: Tensor, damping: Tensor | None = None) -> Tensor:
        raise _all_at_once()

    def _known(self, values: Tensor) -> Tensor:
        return values.detach() if self._detached else values


def _all_at_once() -> CistError:
    return CistError(
        "This objective reads the logits of all samples at once, of which only a chunk exists at a time; choose "
        "another, such as kd, cist, lskd, jsd or reverse-kl, or give it tensors."
    )
