"""One pass over the logits of a language model: from chunks of rows to a token set.

What makes the logits is not known here: rows of logits come with the facts of the tokens that they predict.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cist_core import kernels
from cist_core.errors import CistError
from cist_core.language.token_set import TokenFacts, TokenSet, as_facts
from cist_core.logits.absent_classes import DIVIDE, HIGHEST_MASK, listed
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
    if count < 1:
        raise CistError(f"Expected at least one token, but got {count}; give texts of two tokens or more.")
    nodes = len(kernels.ratio_grid())
    table = scratch_array((nodes, count, 2), np.float32)
    log_partition = scratch_array((nodes, count), np.float32)
    known: list[tuple[TokenFacts, kernels.RowStatistics, kernels.TokenStatistics]] = []
    columns: _Columns | None = None
    done = 0
    for logits, facts in chunks:
        columns = columns or _Columns(logits)
        part = columns.read(logits, done)
        checked = as_facts(facts, part.num_samples, columns.vocabulary_size)
        columns.check_ids(checked.ids, done)
        rows = slice(done, done + part.num_samples)
        done = rows.stop
        if done > count:
            raise CistError(f"Expected {count:,} tokens, but at least {done:,} came; say how many there are.")
        statistics, of_tokens = kernels.token_pass(part.logits, columns.number(checked.ids), most=TOP)
        curves, partition = kernels.curve_tables(part.logits, statistics)
        table[:, rows] = curves.transpose(1, 0, 2)
        log_partition[:, rows] = partition.T
        known.append((checked, statistics, of_tokens))
        if progress:
            progress(done, count)
    if columns is None or done < count:
        raise CistError(f"Expected {count:,} tokens, but only {done:,} came; say how many there are.")
    facts, statistics, of_tokens = (
        type(parts[0])(*(np.concatenate(column) for column in zip(*parts, strict=True)))
        for parts in zip(*known, strict=True)
    )
    return TokenSet(
        facts,
        statistics._replace(top1=columns.kept[statistics.top1]),
        table.transpose(1, 0, 2),
        log_partition.T,
        of_tokens.top,
        columns.kept[of_tokens.top_classes].astype(np.int32),
        of_tokens.shifted,
        of_tokens.entropy,
        of_tokens.log_partition,
        of_tokens.rank,
        columns.vocabulary_size,
        columns.left_out,
        MappingProxyType({**(provenance or {}), **columns.said}),
    )


class _Columns:
    """Which tokens of the vocabulary take part, as the first chunk has it, and that the others agree."""

    def __init__(self, logits: ArrayLike) -> None:
        first = LogitSet.create(logits)
        self.vocabulary_size = first.given_classes
        self.left_out = first.left_out
        self.kept = first.kept_classes
        self.said = {name: text for name, text in first.provenance.items() if name == "absent classes"}

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
            part = LogitSet.create(logits)
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
            part = LogitSet.create(array[:, :end] if end == len(self.kept) else array[:, self.kept])
        if part.left_out:
            raise CistError(
                f"{len(part.left_out):,} tokens of the vocabulary ({listed(self.kept[list(part.left_out)], None)}) are "
                f"masked in the chunk that starts with token {done:,} and take part in the first; mask the same tokens "
                f"everywhere, or none. {DIVIDE.capitalize()}."
            )
        return part

    def check_ids(self, ids: NDArray[np.int64], done: int) -> None:
        """Refuse tokens that came true although they are masked."""
        wrong = np.flatnonzero(np.isin(ids, self.left_out))
        if len(wrong):
            raise CistError(
                f"Token {done + int(wrong[0]):,} has the id {ids[wrong[0]]}, which is masked and takes no part; check "
                "the mask, and that ids and logits are of one vocabulary."
            )

    def number(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """The columns of tokens among those that take part."""
        return np.searchsorted(self.kept, ids)
