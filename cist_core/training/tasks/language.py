"""Causal language models: a teacher and a student of one vocabulary, compared token by token.

The engine gets the student's final hidden states at the counted tokens, which are small, and objectives make logits of
them a chunk at a time (`cist_core.objectives.ChunkedLogits`).
"""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cist_core.errors import Cancelled, CistError
from cist_core.objectives import ChunkedLogits, StepMean
from cist_core.progress import ProgressCallback
from cist_core.training.language_config import LanguageConfig
from cist_core.training.run_directory import STUDENT_FOLDER, RunDirectory
from cist_core.training.statistics import EpochStatistics
from cist_core.training.tasks.protocol import Split, StepBatch, Task, register_task
from cist_core.training.token_statistics import TokenStatistics

if TYPE_CHECKING:
    from cist_core.language.batches import Batch
    from cist_core.language.head import Head
    from cist_core.language.teacher_cache import TeacherCache

_EVALUATION_BATCH = 8
_PHASES: dict[Split, str] = {
    "train": "teacher on training texts",
    "validation": "teacher on validation texts",
    "test": "teacher on test texts",
}

log = logging.getLogger("cist_core.training")


class StateNetwork(nn.Module):
    """A causal language model that returns the final hidden states at the counted tokens, ``(n, D)``.

    Tied weights stand once in its state.
    """

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network
        body = {id(parameter) for parameter in network.base_model.parameters()}
        head = network.get_output_embeddings().parameters()
        self._of_the_head_alone = [parameter for parameter in head if id(parameter) not in body]

    def forward(self, ids: Tensor, texts: Tensor, position_ids: Tensor, counted: Tensor) -> Tensor:
        from cist_core.language.batches import Batch
        from cist_core.language.models import states_of

        batch = Batch(ids, texts, position_ids, counted)
        states = states_of(self.network, batch).flatten(0, 1)[batch.predictions().places]
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            for parameter in self._of_the_head_alone:  # else DDP would not know that it has a gradient to share
                states = states + 0 * parameter.sum()
        return states

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        state: dict[str, Any] = super().state_dict(*args, **kwargs)
        names = {_memory(name, tensor): name for name, tensor in reversed(state.items())}
        return {name: tensor for name, tensor in state.items() if names[_memory(name, tensor)] == name}

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        own = super().state_dict()
        tied = {_memory(name, tensor): state_dict[name] for name, tensor in own.items() if name in state_dict}
        whole = {name: tied.get(_memory(name, tensor), state_dict.get(name)) for name, tensor in own.items()}
        there = {name: tensor for name, tensor in whole.items() if tensor is not None}
        return super().load_state_dict(there | dict(state_dict), strict=strict, assign=assign)


def _memory(name: str, tensor: Tensor) -> Hashable:
    """The same for two names of one tensor; not for empty ones, nor for a part of another tensor."""
    return (tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride()) if tensor.numel() else name


@register_task
class Language(Task):
    """Texts are rows of tokens; what is compared are the tokens of a row that count."""

    name = "language"
    config_class = LanguageConfig
    config: LanguageConfig

    def load(self) -> None:
        from cist_core.language.models import open_language_model
        from cist_core.training.language_texts import load_rows

        self.device = self.accelerator.device
        teacher = self.config.teacher
        self.teacher = open_language_model(teacher.name, device=self.device.type, download=teacher.download)
        self.teacher.network.requires_grad_(False)
        self.rows, self._row_remarks = load_rows(self.config.data, self.teacher)
        for split, rows in self.rows.items():
            if not any(row.counted[1:].any() for row in rows):
                raise CistError(
                    f"No token of the {split} texts counts, so there is nothing to learn or to score; give texts with "
                    "a response, or without a prompt."
                )
        self._token_classes = torch.from_numpy(self.teacher.vocabulary.classes).to(self.device)
        self.classes = len(self._token_classes)
        self._cache: TeacherCache | None = None
        self._teacher_head = self.teacher.head.of(self._token_classes)  # once: it does not change
        self._answers: dict[Split, tuple[NDArray[np.int64], Mapping[str, float | None]]] = {}
        self._bytes: dict[Split, int] = {}

    def count(self, split: Split) -> int:
        return len(self.rows[split])

    def create_student(self) -> nn.Module:
        from cist_core.language.models import open_language_model
        from cist_core.language.vocabulary import shared_classes
        from cist_core.training.before_after import fresh_student

        wanted = self.config.student
        self._student_remark = f"fresh weights of {wanted.architecture}"
        network = fresh_student(self.config, self.teacher)
        if network is None:
            opened = open_language_model(wanted.architecture, download=wanted.download, dtype="float32")
            shared_classes(self.teacher.vocabulary, opened.vocabulary)
            if opened.longest < self.config.data.length:
                raise CistError(
                    f"The student {opened.name} reads {opened.longest:,} tokens at most, but data.length is "
                    f"{self.config.data.length:,}; lower it."
                )
            network, self._student_remark = opened.network, f"the weights of {opened.name}"
        self.student = StateNetwork(network).train()
        return self.student

    @property
    def remarks(self) -> list[str]:
        from cist_core.language.texts import remarks as describe

        tokens = sum(int(row.counted[1:].sum()) for row in self.rows["train"])
        remarks = [
            f"The teacher: {self.teacher.name}; {self.teacher.precision}.",
            f"The student starts from {self._student_remark}.",
            f"{tokens:,} tokens of {self.count('train'):,} rows count in an epoch.",
        ]
        sizes = [self.teacher.head.num_classes, self._head().num_classes]
        if max(sizes) > self.classes:
            remarks.append(
                f"Teacher and student have {sizes[0]:,} and {sizes[1]:,} classes, of which {self.classes:,} are "
                "tokens; the others are padding and left out in both."
            )
        rows = [row for split in self.rows.values() for row in split]
        return remarks + self._row_remarks + describe(rows)

    def _head(self) -> Head:
        from cist_core.language.head import head_of

        return head_of(self.student.network)

    # The teacher

    @property
    def teacher_runs_in_steps(self) -> bool:
        return self.config.teacher.cache is None

    def prepare_teacher(self, split: Split) -> None:
        """The states on the training texts, if they are kept; of the others what the teacher answers."""
        cache = None if self.config.teacher.cache is None else self._cached(split, self.config.teacher.cache)
        if split != "train":
            self._answers[split] = self._answered(split, cache)
        elif cache is not None:
            self._read_states_of(cache)

    def _cached(self, split: Split, folder: str) -> TeacherCache:
        """Training texts have the folder itself, others one in it for each choice of them."""
        from cist_core.language.teacher_cache import digest, open_teacher_cache

        root = Path(folder).expanduser()
        with self.accelerator.main_process_first():
            return open_teacher_cache(
                root if split == "train" else root / f"{split}-{digest(self.rows[split])[:12]}",
                self.teacher,
                self.rows[split],
                batch_size=self._most(_EVALUATION_BATCH),
                progress=self._until_stopped(_PHASES[split]),
            )

    def _read_states_of(self, cache: TeacherCache) -> None:
        weight, bias = cache.head.weight.to(self.device), cache.head.bias
        bias = None if bias is None else bias.to(self.device)
        head = dataclasses.replace(cache.head, weight=weight, bias=bias)
        self._cache, self._teacher_head = cache, head.of(self._token_classes)

    def _answered(self, split: Split, cache: TeacherCache | None) -> tuple[NDArray[np.int64], dict[str, float]]:
        """The teacher's most probable token at every place of the rows, -1 where none counts; and its scores."""
        report, count = self._until_stopped(_PHASES[split]), self.count(split)
        answers, right, tokens, nll = np.full((count, self.config.data.length), -1), 0, 0, 0.0
        size = self._most(_EVALUATION_BATCH)
        for start in range(0, count, size):
            chosen = torch.arange(start, min(start + size, count))
            batch = self._padded(split, chosen)
            found = batch.predictions()
            states = self._teacher_states(batch) if cache is None else cache.of_texts(chosen.tolist()).to(self.device)
            scores = self._scores(states, found.ids, self.teacher.head)
            given = scores.answers.cpu()
            answers[start + found.texts.cpu().numpy(), found.positions.cpu().numpy()] = given.numpy()
            right += int((given == found.ids.cpu()).sum())
            tokens += len(given)
            nll += float(scores.nll.double().sum())
            report(min(start + size, count), count)
        return answers, {"accuracy": right / tokens, "nll": nll / tokens}

    def _until_stopped(self, phase: str) -> ProgressCallback:
        report = self.report(phase)

        def progress(done: int, total: int) -> None:
            if self.should_stop():
                raise Cancelled
            report(done, total)

        return progress

    def stand_in_for_teacher(self) -> None:
        """A teacher without a cache is timed as it runs; what it answers is drawn."""
        from cist_core.language.teacher_cache import random_teacher_cache

        if not self.teacher_runs_in_steps:
            self._read_states_of(random_teacher_cache(self.teacher, self.rows["train"]))
        for split in ("validation", "test"):
            shape = (self.count(split), self.config.data.length)
            self._answers[split] = np.random.default_rng(0).integers(0, self.classes, shape), {"accuracy": None}

    def run_teacher(self, split: Split, chosen: Tensor) -> None:
        for part in torch.split(chosen, self._most(_EVALUATION_BATCH)):
            self._teacher_states(self._padded(split, part))

    def _teacher_states(self, batch: Batch) -> Tensor:
        return self.teacher.counted_states(batch)[1]

    # Steps

    def batch(self, chosen: Tensor) -> StepBatch:
        rows = self._padded("train", chosen)
        found = rows.predictions()
        if self._cache is not None:
            states = self._cache.of_texts(chosen.tolist()).to(self.device)
        else:
            size = self._most(len(chosen))
            states = torch.cat(
                [self._teacher_states(self._padded("train", part)) for part in torch.split(chosen, size)]
            )
        inputs = {name: getattr(rows, name) for name in ("ids", "texts", "position_ids", "counted")}
        labels = torch.searchsorted(self._token_classes, found.ids)  # padding may lie between tokens
        return StepBatch(inputs, {"teacher_states": states, "labels": labels, "texts": found.texts})

    def student_logits(self, student: nn.Module, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The states that the logits are made of."""
        return {"student_states": student(**inputs)}

    def objective_inputs(self, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> dict[str, Any]:
        student, teacher = self._head().of(self._token_classes), self._teacher_head  # without padding
        return {
            "student_logits": ChunkedLogits(outputs["student_states"], student.logits, self.classes),
            "teacher_logits": ChunkedLogits(targets["teacher_states"], teacher.logits, self.classes),
            "labels": targets["labels"],
            "num_items": self._step_mean(targets["texts"]),
        }

    def _step_mean(self, texts: Tensor) -> StepMean:
        """Over the tokens, or the rows, of the step in all processes; one of which nothing counts adds 0."""
        share = None
        items = torch.tensor(float(len(texts)), device=self.device)
        if self.config.reduction == "sequence":
            lengths = torch.bincount(texts)
            share = 1 / lengths[texts].to(torch.float32)
            items = (lengths > 0).sum().to(torch.float32)
        if self.accelerator.num_processes == 1:
            return StepMean(items.clamp(min=1), share, nothing_counts=items == 0)
        mean: Tensor = self.accelerator.reduce(items, reduction="mean")
        least = 1 / self.accelerator.num_processes
        return StepMean(mean.clamp(min=least), share, self._over_processes, nothing_counts=mean == 0)

    def _over_processes(self, value: Tensor) -> Tensor:
        from torch.distributed.nn.functional import all_reduce

        summed: Tensor = all_reduce(value.clone())  # type: ignore[no-untyped-call]
        mean: Tensor = summed / self.accelerator.num_processes
        return mean

    def new_statistics(self) -> EpochStatistics:
        return TokenStatistics(self.classes, processes=self.accelerator.num_processes)

    def check_epoch(self, row: Mapping[str, float]) -> None:
        if not row["tokens"]:
            raise CistError(
                f"No token counted in epoch {row['epoch']:.0f}, so nothing was learned; give texts with a response, or "
                "without a prompt."
            )

    # Evaluation

    def measure(self, student: nn.Module, split: Split, chosen: Tensor) -> dict[str, Tensor]:
        """Of every row the sums over its counted tokens."""
        head, answers = self._head(), self._answers[split][0]
        parts = []
        for part in torch.split(chosen, self._most(_EVALUATION_BATCH)):
            batch = self._padded(split, part)
            found = batch.predictions()
            states = student(batch.ids, batch.texts, batch.position_ids, batch.counted)
            scores = self._scores(states, found.ids, head)
            wanted = torch.from_numpy(answers[part.numpy()]).to(self.device)[found.texts, found.positions]
            columns = [scores.nll, scores.answers == found.ids, scores.answers == wanted, torch.ones_like(scores.nll)]
            sums = torch.zeros(len(part), len(columns), device=self.device)
            sums.index_add_(0, found.texts, torch.stack([column.float() for column in columns], 1))
            parts.append(sums)
        names = ("nll", "right", "agreeing", "tokens")
        return dict(zip(names, torch.cat(parts).unbind(1), strict=True))

    def scores(self, split: Split, measured: Mapping[str, NDArray[np.float32]]) -> dict[str, float]:
        """Accuracy of the most probable token, negative log-likelihood of a token (nats), perplexity, bits per byte,
        and agreement with the teacher's most probable token."""
        from cist_core.language.evaluation import TextScores

        sums = {name: float(values.astype(np.float64).sum()) for name, values in measured.items()}
        if not math.isfinite(sums["nll"]):
            row = int(np.argmin(np.isfinite(measured["nll"])))
            raise CistError(f"Expected finite logits of the student, but those of row {row} are not.")
        if split not in self._bytes:
            self._bytes[split] = sum(row.counted_bytes for row in self.rows[split])
        found = TextScores(
            sums["nll"],
            round(sums["tokens"]),
            round(sums["right"]),
            self._bytes[split],
            round(sums["agreeing"]),
        )
        scores = {"accuracy": found.accuracy, "nll": found.nll}
        for name in ("bits_per_byte", "perplexity"):
            if math.isfinite(getattr(found, name)):
                scores[name] = getattr(found, name)
        return scores | {"agreement": found.agreement or 0.0}

    def merit(self, scores: Mapping[str, float]) -> float:
        """The likelihood: a student that spreads its probability badly can still name the likeliest token."""
        return -scores["nll"]

    def teacher_scores(self, split: Split) -> Mapping[str, float | None]:
        return self._answers[split][1]

    # What is left of a run

    def card(self) -> dict[str, Any]:
        return {
            "architecture": type(self.student.network).__name__,
            "num_classes": self._head().num_classes,
            "tokenizer": self.teacher.name,
            "folder": STUDENT_FOLDER,
        }

    def keep(self, directory: RunDirectory, measured: Mapping[str, NDArray[np.float32]]) -> None:
        """The student as a folder of transformers, with the tokenizer, that can be opened by its path."""
        folder = directory.language_student
        tokenizer: Any = self.teacher.tokenizer
        self.student.network.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        arrays: dict[str, Any] = dict(measured)
        np.savez(directory.path / "test-rows.npz", **arrays)

    # Rows

    def _padded(self, split: Split, chosen: Tensor) -> Batch:
        from cist_core.language.batches import pad

        return pad([self.rows[split][number] for number in chosen.tolist()]).to(self.device)

    def _scores(self, states: Tensor, ids: Tensor, head: Head) -> Any:
        from cist_core.language.evaluation import score_tokens

        return score_tokens(states, ids.to(states.device), head, self._token_classes)

    def _most(self, usual: int) -> int:
        return min(usual, self.config.machine.micro_batch_size or usual)
