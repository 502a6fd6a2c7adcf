"""One pass over the logits of a language model: from chunks of rows to a token set.

What makes the logits is not known here: rows of logits come with the facts of the tokens that they predict.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cist_core import kernels
from cist_core.errors import CistError
from cist_core.language.token_set import TokenFacts, TokenPair, TokenSet, as_facts, check_same_classes
from cist_core.logits.absent_classes import DIVIDE, FEWEST, HIGHEST_MASK, listed
from cist_core.logits.choices import LIKE_MASKS
from cist_core.logits.logit_set import LogitSet
from cist_core.logits.scratch import scratch_array
from cist_core.progress import ProgressCallback

TOP = 32
"""How many of the largest logits are kept of a token."""


def token_set(
    chunks: Iterable[tuple[ArrayLike, TokenFacts]],
    *,
    count: int,
    provenance: Mapping[str, str] | None = None,
    progress: ProgressCallback | None = None,
) -> TokenSet:
    """What is kept of a model's predictions, in one pass; no chunk is kept.

    Tokens of the vocabulary that are masked in every row take no part (`absent_classes.takes_part`), and are named in
    ``provenance["absent classes"]``. Padding is no token: give no rows for it.

    Args:
        chunks: logits ``(n, V)``, an array or a tensor, and what is known of the n tokens that the rows predict. A few
            hundred rows at a time are quick; only one chunk is in memory.
        count: of all tokens that will come.
        provenance: free text, such as the teacher's name and precision.
        progress: told how many tokens are done.

    Raises:
        CistError: if there are more or fewer tokens, V or the tokens that take part change, or a chunk is not valid.

    Example:
        >>> facts = TokenFacts(*(np.array(each) for each in ([2, 0], [0, 0], [1, 2], ["text"] * 2, [True] * 2)))
        >>> found = token_set([([[0.0, 1.0, 3.0], [1.0, 0.0, 2.0]], facts)], count=2)
        >>> found.rank.tolist(), found.nll.astype(float).round(4).tolist()
        ([1, 2], [0.1698, 1.4076])
    """
    whole = _Pass(count, progress)
    for logits, facts in chunks:
        whole.add(logits, facts)
    return whole.finished(provenance)


def token_pair(
    chunks: Iterable[tuple[ArrayLike, ArrayLike, TokenFacts]],
    *,
    count: int,
    teacher_provenance: Mapping[str, str] | None = None,
    student_provenance: Mapping[str, str] | None = None,
    progress: ProgressCallback | None = None,
) -> TokenPair:
    """What is kept of the predictions of two models on the same tokens, their divergence at any temperatures included.

    Args:
        chunks: logits of the teacher and of the student, ``(n, V)`` each, and what is known of the n tokens; V may
            differ by tokens that take no part.
        count: of all tokens that will come.
        teacher_provenance: free text, such as the teacher's name and precision.
        student_provenance: the same of the student.
        progress: told how many tokens are done.

    Raises:
        CistError: as `token_set`, for either model; or if the tokens of the vocabulary that take part are not the same.
    """
    given = (((teacher, student), facts) for teacher, student, facts in chunks)
    (pair,) = token_pairs(given, count=count, provenances=(teacher_provenance, student_provenance), progress=progress)
    return pair


def token_pairs(
    chunks: Iterable[tuple[Sequence[ArrayLike], TokenFacts]],
    *,
    count: int,
    provenances: Sequence[Mapping[str, str] | None],
    progress: ProgressCallback | None = None,
) -> list[TokenPair]:
    """The same of a teacher and each of several students, in one pass; all pairs have one token set of the teacher.

    Args:
        chunks: logits of the teacher first and then of each student, and what is known of the tokens.
        count: of all tokens that will come.
        provenances: free text on each model, in the same order; at least two.
        progress: told how many tokens are done.

    Raises:
        CistError: as `token_pair`.
    """
    teacher, *students = passes = [_Pass(count) for _ in provenances[1:]] + [_Pass(count, progress)]
    nodes = len(kernels.ratio_grid())
    tables = [[scratch_array((nodes, count, 2), np.float32) for _ in range(2)] for _ in students]
    for logits, facts in chunks:
        rows = slice(teacher.done, teacher.done + len(facts.ids))
        (ours, of_teacher), *others = [each.add(part, facts) for each, part in zip(passes, logits, strict=True)]
        for student, (theirs, of_student), (cross, reverse) in zip(students, others, tables, strict=True):
            teacher.check_same_classes(student)
            both = (ours.logits, of_teacher), (theirs.logits, of_student)
            for table, ((of, of_one), (other, of_other)) in ((cross, both), (reverse, both[::-1])):
                found = kernels.cross_table(of, other, teacher_statistics=of_one, student_statistics=of_other)
                table[:, rows] = found.transpose(1, 0, 2)
    first, *rest = [each.finished(said) for each, said in zip(passes, provenances, strict=True)]
    return [
        TokenPair(first, found, *(table.transpose(1, 0, 2) for table in both))
        for found, both in zip(rest, tables, strict=True)
    ]


class _Pass:
    """The pass over the logits of one model, a chunk at a time."""

    def __init__(self, count: int, progress: ProgressCallback | None = None) -> None:
        if count < 1:
            raise CistError(f"Expected at least one token, but got {count}; give texts of two tokens or more.")
        nodes = len(kernels.ratio_grid())
        self.done = 0
        self._count, self._progress = count, progress
        self._table = scratch_array((nodes, count, 2), np.float32)
        self._log_partition = scratch_array((nodes, count), np.float32)
        self._known: list[tuple[TokenFacts, kernels.RowStatistics, kernels.TokenStatistics]] = []
        self._columns: _Columns | None = None

    def add(self, logits: ArrayLike, facts: TokenFacts) -> tuple[LogitSet, kernels.RowStatistics]:
        """Take in the next rows; returns those columns of them that take part, and their statistics."""
        columns = self._columns = self._columns or _Columns(logits)
        part = columns.read(logits, self.done)
        checked = as_facts(facts, part.num_samples, columns.vocabulary_size)
        columns.check_ids(checked.ids, self.done)
        rows = slice(self.done, self.done + part.num_samples)
        if rows.stop > self._count:
            raise CistError(
                f"Expected {self._count:,} tokens, but at least {rows.stop:,} came; say how many there are."
            )
        statistics, of_tokens = kernels.token_pass(part.logits, columns.number(checked.ids), most=TOP)
        curves, partition = kernels.curve_tables(part.logits, statistics)
        self._table[:, rows] = curves.transpose(1, 0, 2)
        self._log_partition[:, rows] = partition.T
        self._known.append((checked, statistics, of_tokens))
        self.done = rows.stop
        if self._progress:
            self._progress(self.done, self._count)
        return part, statistics

    def check_same_classes(self, student: _Pass) -> None:
        """Refuse two models whose distributions are not over the same tokens."""
        if self._columns is not None and student._columns is not None:
            check_same_classes(self._columns.kept, student._columns.kept)

    def finished(self, provenance: Mapping[str, str] | None) -> TokenSet:
        if self._columns is None or self.done < self._count:
            raise CistError(f"Expected {self._count:,} tokens, but only {self.done:,} came; say how many there are.")
        facts, statistics, of_tokens = (
            type(parts[0])(*(np.concatenate(column) for column in zip(*parts, strict=True)))
            for parts in zip(*self._known, strict=True)
        )
        return TokenSet(
            facts,
            statistics._replace(top1=self._columns.kept[statistics.top1]),
            self._table.transpose(1, 0, 2),
            self._log_partition.T,
            of_tokens.top,
            self._columns.kept[of_tokens.top_classes].astype(np.int32),
            of_tokens.shifted,
            of_tokens.entropy,
            of_tokens.log_partition,
            of_tokens.rank,
            self._columns.vocabulary_size,
            self._columns.left_out,
            MappingProxyType({**(provenance or {}), **self._columns.said}),
        )


def _created(logits: Any, done: int) -> LogitSet:
    """A chunk of rows, checked; errors name tokens.

    Raises:
        CistError: as `LogitSet.create`.
    """
    try:
        return LogitSet.create(logits)
    except CistError as error:
        values = np.asarray(logits.detach().float().cpu() if hasattr(logits, "detach") else logits)
        wrong = np.argwhere(np.isnan(values) | (values == np.inf))
        if values.ndim == 2 and len(wrong):
            row, column = wrong[0].tolist()
            raise CistError(
                f"Expected finite logits, but those of token {done + row:,} have {values[row, column]} at place "
                f"{column:,}; compute the model in float32 or bfloat16 if it was in float16, and check its weights."
            ) from error
        raise CistError(f"In the chunk of logits that starts with token {done:,}: {error}") from error


def _which(said: str | None) -> str | None:
    """The classes and their number, without the averages."""
    return None if said is None else said.partition(";")[0]


class _Columns:
    """Which tokens of the vocabulary take part, as the first chunk has it, and that the others agree."""

    def __init__(self, logits: ArrayLike) -> None:
        first = _created(logits, 0)
        self.vocabulary_size = first.given_classes
        self.left_out = first.left_out
        self.kept = first.kept_classes
        self.said = {name: text for name, text in first.provenance.items() if name == "absent classes"}
        self._like_masks: tuple[str, int] | None = None
        self._seen_like_masks = False

    def look_for_like_masks(self, part: LogitSet) -> None:
        """Keep what is said of numbers that look like masks as long as every chunk says it; a tiny one says nothing."""
        if part.num_samples < FEWEST:
            return
        found = part.provenance.get(LIKE_MASKS)
        if not self._seen_like_masks and found is not None:
            self._like_masks = found, part.num_samples
        elif self._like_masks is not None and _which(found) != _which(self._like_masks[0]):
            self._like_masks = None
        self._seen_like_masks = True
        if self._like_masks is None:
            self.said.pop(LIKE_MASKS, None)
        else:
            text, count = self._like_masks
            numbers = "; the numbers are among the tokens of the vocabulary that take part" if self.left_out else ""
            self.said[LIKE_MASKS] = f"{text} (in all tokens; the averages are of the first {count:,}{numbers})"

    def read(self, logits: Any, done: int) -> LogitSet:
        """The columns that take part.

        Raises:
            CistError: if V or the tokens that take part are others than in the first chunk.
        """
        width = np.shape(logits)[-1]
        if width != self.vocabulary_size:
            raise CistError(
                f"Expected every chunk to have the vocabulary of the first, {self.vocabulary_size:,} tokens, but token "
                f"{done:,} starts a chunk with {width:,}."
            )
        if not self.left_out:
            part = _created(logits, done)
        else:
            array = logits if hasattr(logits, "detach") else np.asarray(logits)
            taking_part = float(array[:, list(self.left_out)].max())
            if not taking_part <= HIGHEST_MASK:
                raise CistError(
                    f"A token that is masked in the first chunk has the logit {taking_part:g} in the chunk that starts "
                    f"with token {done:,}; mask the same tokens everywhere, or none. {DIVIDE.capitalize()}."
                )
            end = int(self.kept[-1]) + 1
            # Those that only fill a vocabulary up stand at its end, where a slice leaves them out.
            part = _created(array[:, :end] if end == len(self.kept) else array[:, self.kept], done)
        if part.left_out:
            raise CistError(
                f"{len(part.left_out):,} tokens of the vocabulary ({listed(self.kept[list(part.left_out)], None)}) are "
                f"masked in the chunk that starts with token {done:,} and take part in the first; mask the same tokens "
                f"everywhere, or none. {DIVIDE.capitalize()}."
            )
        self.look_for_like_masks(part)
        return part

    def check_ids(self, ids: NDArray[np.int64], done: int) -> None:
        """Refuse actual tokens that are masked."""
        wrong = np.flatnonzero(np.isin(ids, self.left_out))
        if len(wrong):
            raise CistError(
                f"Token {done + int(wrong[0]):,} has the id {ids[wrong[0]]}, which is masked and takes no part; check "
                "the mask, and that ids and logits are of one vocabulary."
            )

    def number(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """The columns of tokens among those that take part."""
        return np.searchsorted(self.kept, ids)
