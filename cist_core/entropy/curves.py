"""One entropy curve per sample: everything interactive reads its numbers from here.

For a fixed row of logits the entropy of ``softmax(z / tau)`` depends on the temperature only through the ratio
``r = m / tau``, where ``m`` is the maximum of the centred logits: ``H_i(r) = entropy(softmax(r * c_i / m_i))``.
A fixed temperature reads each curve at ``m_i / tau``, CIST at ``min(rho, m_i / floor)``, any other rule elsewhere.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Iterable
from functools import cached_property, partial

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cist_core import kernels
from cist_core.errors import CistError, CistWarning
from cist_core.logits.absent_classes import DIVIDE
from cist_core.logits.logit_set import FloatArray, LogitSet, as_labels, renumbered

Vector = NDArray[np.float32]

TABULATED_LOGITS, TABULATED_CLASSES = 1 << 27, 256
"""So many logits take longer to go through than a slider should, and rows of fewer classes are as quickly computed as
read."""
_COPIED_LOGITS = 1 << 22  # at a time
_TABLE_ERROR = 2e-4  # nats; twice what is promised


class EntropyCurves:
    """The entropy curves of N samples over C classes.

    Built over logits in memory (or memory-mapped) it evaluates exactly; built from a stream of chunks it keeps one
    table row per sample (about 1.5 kB) and never the logits. Over large files of logits it reads a table that is kept
    on the disk, and the logits themselves where the table ends. All answer the same questions.

    Attributes:
        statistics: per sample the centred maximum, largest logit, its class, gap to the second and deviation.
        num_classes: C.
        labels: ``(N,)`` or None.
        student: the statistics of a student on the same samples, for rules that look at both models, or None.
        left_out: the classes of the given logits that take no part, by number; see `LogitSet.create`.

    Example:
        >>> curves = EntropyCurves.from_logits(LogitSet.create([[4.0, 0.0, 0.0], [1.0, 0.0, 0.0]]))
        >>> curves.at_ratio(2.0).astype(float).round(4).tolist()  # the other classes are equal: one entropy
        [0.3666, 0.3666]
        >>> curves.at_temperature(1.0).astype(float).round(4).tolist()
        [0.1773, 0.9753]
    """

    def __init__(
        self,
        statistics: kernels.RowStatistics,
        num_classes: int,
        *,
        logits: FloatArray | None = None,
        table: NDArray[np.float32] | None = None,
        labels: NDArray[np.int64] | None = None,
        left_out: tuple[int, ...] = (),
        rows: NDArray[np.int64] | None = None,
        fits_memory: bool = True,
        discard: Callable[[], None] = lambda: None,
    ) -> None:
        """See `from_logits` and `from_chunks`.

        Where a table has more rows than samples, ``rows`` are theirs. With ``fits_memory`` errors advise to load the
        logits into memory where a table ends. ``discard`` is called where a table beside logits is found wrong.
        """
        if logits is None and table is None:
            raise TypeError("EntropyCurves needs logits or a table; use from_logits or from_chunks.")
        self.statistics = statistics
        self.num_classes = num_classes
        self.labels = labels
        self.left_out = left_out
        self.student: kernels.RowStatistics | None = None
        self._logits = logits
        self._table = table
        self._rows = rows
        self._fits_memory = fits_memory
        self._confirmed = False
        self._discard = discard

    @classmethod
    def from_logits(cls, logit_set: LogitSet) -> EntropyCurves:
        """Exact curves over logits that stay where they are."""
        statistics = kernels.row_statistics(logit_set.logits)
        return cls(
            statistics,
            logit_set.num_classes,
            logits=logit_set.logits,
            labels=logit_set.labels,
            left_out=logit_set.left_out,
        )

    @classmethod
    def open(cls, logit_set: LogitSet) -> EntropyCurves:
        """Curves that answer a slider at once: `tabulated` over many logits, else exact ones.

        Where there is no room for a table, a `CistWarning` says why.
        """
        if logit_set.logits.size >= TABULATED_LOGITS and logit_set.num_classes >= TABULATED_CLASSES:
            try:
                return cls.tabulated(logit_set)
            except CistError as error:
                warnings.warn(
                    f"{error} Until then every number is computed from the logits, which takes longer.",
                    CistWarning,
                    stacklevel=2,
                )
        return cls.from_logits(logit_set)

    @classmethod
    def tabulated(cls, logit_set: LogitSet) -> EntropyCurves:
        """Curves read from a table within 1e-4 nats, and from the logits beyond its ratios.

        The table is made once and kept in the cache folder (``CIST_CACHE``), about 1.5 kB a sample. See `confirm`.

        Raises:
            CistError: if the disk has no room for the table.
        """
        from cist_core.entropy.table_cache import open_table, remove_table

        statistics, table = open_table(logit_set)
        return cls(
            statistics,
            logit_set.num_classes,
            logits=logit_set.logits,
            table=table,
            labels=logit_set.labels,
            left_out=logit_set.left_out,
            discard=partial(remove_table, logit_set),
        )

    @classmethod
    def from_chunks(cls, chunks: Iterable[ArrayLike], *, labels: ArrayLike | None = None) -> EntropyCurves:
        """Tabulated curves from one pass over chunks of rows, ``(n, C)`` each; no chunk is kept.

        Raises:
            CistError: if there is no chunk, the chunks differ in C or in the classes that take part, or a chunk or the
                labels are not valid.
        """
        statistics: list[kernels.RowStatistics] = []
        tables: list[NDArray[np.float32]] = []
        first: LogitSet | None = None
        count = 0
        for chunk in chunks:
            part = LogitSet.create(chunk)
            first = part if first is None else first
            if part.given_classes != first.given_classes:
                raise CistError(
                    f"Expected every chunk to have {first.given_classes} classes as the first, but sample {count} "
                    f"starts a chunk with {part.given_classes}."
                )
            if part.left_out != first.left_out:
                other = min({*part.left_out} ^ {*first.left_out})
                masked, unmasked = (count, 0) if other in part.left_out else (0, count)
                raise CistError(
                    f"Class {other} is masked in the chunk that starts with sample {masked} and takes part in that "
                    f"which starts with {unmasked}; the analysis needs the same classes in every sample. Give the "
                    f"samples that have the same classes as a stream each; {DIVIDE}."
                )
            count += part.num_samples
            statistics.append(kernels.row_statistics(part.logits))
            tables.append(kernels.entropy_table(part.logits, statistics[-1]))
        if first is None:
            raise CistError("Expected at least one chunk of logits, but the stream was empty.")
        merged = kernels.RowStatistics(*(np.concatenate(column) for column in zip(*statistics, strict=True)))
        checked = None if labels is None else as_labels(labels, count, first.given_classes)
        _, numbers = renumbered(checked, first.left_out, None)
        return cls(merged, first.num_classes, table=np.concatenate(tables), labels=numbers, left_out=first.left_out)

    def beside(self, student: EntropyCurves) -> EntropyCurves:
        """The same curves, knowing the student's statistics on the same samples; nothing is copied.

        Raises:
            CistError: if the student has another number of samples.

        Example:
            >>> teacher, student = (LogitSet.create([[top, 0.0], [0.0, 2.0]]) for top in (9.0, 3.0))
            >>> curves = EntropyCurves.from_logits(teacher).beside(EntropyCurves.from_logits(student))
            >>> curves.student.maximum.tolist()
            [1.5, 1.0]
        """
        if student.num_samples != self.num_samples:
            raise CistError(
                f"Expected the student's logits on the teacher's {self.num_samples:,} samples, but got "
                f"{student.num_samples:,}; use the same data and split for both."
            )
        joined = copy.copy(self)
        joined.student = student.statistics
        return joined

    @property
    def num_samples(self) -> int:
        return len(self.statistics.maximum)

    @property
    def exact(self) -> bool:
        """True where all is computed from the logits; False for a table, which is accurate to 1e-4 nats."""
        return self._table is None

    @property
    def max_ratio(self) -> float:
        """The largest ratio that can be read: that of a table without logits; infinite with them."""
        return math.inf if self._logits is not None else kernels.MAX_TABLE_RATIO

    @property
    def lowest_temperature(self) -> float:
        """The lowest fixed temperature that can be read: ``max_i m_i / max_ratio``; 0 over logits in memory."""
        return float(self.statistics.maximum.max()) / self.max_ratio

    def reachable(self, tau: float) -> float:
        """A fixed temperature or, where a table does not reach it, the lowest that it does, up to four digits.

        Example:
            >>> curves = EntropyCurves.from_chunks([[[90.0, 0.0, 0.0]]])
            >>> curves.reachable(1.0), curves.reachable(0.5)
            (1.0, 0.938)
        """
        lowest = self.lowest_temperature
        return tau if tau >= lowest else float(f"{lowest * 1.0005:.4g}")

    @property
    def or_in_memory(self) -> str:
        """What else helps where a table ends, to follow a remedy in an error."""
        return ", or load the logits into memory" if self._fits_memory else ""

    @property
    def max_entropy(self) -> float:
        """``ln C`` in nats."""
        return math.log(self.num_classes)

    @cached_property
    def correct(self) -> NDArray[np.bool_] | None:
        """Whether the top-1 class is the label, ``(N,)``; None without labels."""
        return None if self.labels is None else self.statistics.top1 == self.labels

    @cached_property
    def maximum_ranks(self) -> NDArray[np.float64]:
        """Ranks of the centred maxima from 1 on, ``(N,)``, which no temperature moves; equal ones share theirs."""
        return kernels.ranks(self.statistics.maximum)

    def at_temperature(self, tau: ArrayLike) -> Vector:
        """Entropy of ``softmax(z_i / tau_i)`` in nats, ``(N,)``.

        Args:
            tau: positive, one number or ``(N,)``.

        Raises:
            CistError: if a temperature is not positive, or a table does not reach its ratio.
        """
        temperatures = _positive(tau, "temperature", self.num_samples)
        table = self._table
        if table is None:
            return np.asarray(kernels.entropy(self._logits, self.statistics.peak, temperatures))
        with np.errstate(over="ignore"):  # a ratio beyond float32 lies beyond the table as well
            return self._read(table, self.statistics.maximum / temperatures)

    def at_ratio(self, ratio: ArrayLike) -> Vector:
        """Entropy of ``softmax(r_i c_i / m_i)`` in nats, ``(N,)``; constant rows have ``ln C``.

        Args:
            ratio: positive, one number or ``(N,)``.

        Raises:
            CistError: if a ratio is not positive or lies beyond a table.
        """
        ratios = _positive(ratio, "ratio", self.num_samples)
        table = self._table
        return self._computed(ratios) if table is None else self._read(table, ratios)

    def at_ratios(self, start: float, step: float, count: int) -> NDArray[np.float32]:
        """Entropy in nats at ``start + j * step``, ``(N, count)``; far quicker than one ratio after another."""
        if self._table is None:
            return np.asarray(kernels.entropy_sweep(self._logits, self.statistics, start=start, step=step, count=count))
        return np.stack([self.at_ratio(start + j * step) for j in range(count)], axis=1)

    def confirm(self, tau: ArrayLike) -> bool:
        """Compare a table with the logits beside it, in one exact pass; a table that is wrong is not read again.

        The statistics, which come from its file, are then computed from the logits as well.

        A table that was found right is not compared again, and there is nothing to compare without one, or without
        logits.

        Args:
            tau: the temperatures to compare at, one or ``(N,)``.

        Returns:
            Whether what was read before stands.
        """
        table = self._table
        if table is None or self._logits is None or self._confirmed:
            return True
        temperatures = _positive(tau, "temperature", self.num_samples)
        exact = np.asarray(kernels.entropy(self._logits, self.statistics.peak, temperatures))
        read = self._read(table, self.statistics.maximum / temperatures)
        self._confirmed = bool(np.abs(read - exact).max() <= _TABLE_ERROR)
        if not self._confirmed:
            self._table = None  # another thread may be about to read it
            self.statistics = kernels.row_statistics(self._logits)  # those that are used come from the same file
            for read_before in ("correct", "maximum_ranks"):
                self.__dict__.pop(read_before, None)
            self._discard()
        return self._confirmed

    def _read(self, table: NDArray[np.float32], ratio: NDArray[np.floating]) -> Vector:
        # A ratio that went through a temperature and back has rounded.
        beyond = ratio > kernels.MAX_TABLE_RATIO * (1 + 1e-6)
        if np.any(beyond) and self._logits is None:
            raise CistError(
                f"The ratio {float(np.max(ratio)):.4g} lies beyond the table of these curves, which ends at "
                f"{self.max_ratio:g}; use a higher temperature (a smaller rho), a fixed one from "
                f"{self.reachable(0):g} on{self.or_in_memory}."
            )
        reachable = np.minimum(ratio, kernels.MAX_TABLE_RATIO).astype(np.float32)
        if self._rows is not None and reachable.ndim:
            of_all = np.ones(len(table), np.float32)
            of_all[self._rows] = reachable
            reachable = of_all
        read = np.asarray(kernels.read_table(table, reachable))
        read = read if self._rows is None else read[self._rows]
        if np.any(beyond):
            ratios = np.broadcast_to(ratio, read.shape)
            rows = np.flatnonzero(np.broadcast_to(beyond, read.shape))
            step = max(1, _COPIED_LOGITS // self.num_classes)
            for start in range(0, len(rows), step):
                block = rows[start : start + step]
                read[block] = self._computed(ratios[block], block)
        return read

    def _computed(self, ratio: NDArray[np.floating], rows: NDArray[np.int64] | None = None) -> Vector:
        """Exactly, of some rows or of all."""
        assert self._logits is not None
        which = slice(None) if rows is None else rows
        maximum, peak = self.statistics.maximum[which], self.statistics.peak[which]
        with np.errstate(over="ignore"):  # an infinite temperature is a uniform row, which is what it means
            temperatures = maximum / ratio
        # A constant row has no ratio; any positive temperature gives its entropy, ln C.
        temperatures = np.where(maximum > 0, temperatures, 1.0).astype(np.float32)
        return np.asarray(kernels.entropy(self._logits[which], peak, temperatures))


def _positive(value: ArrayLike, name: str, count: int) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):  # beyond float32 a temperature is infinite, which the kernels understand
        array = np.asarray(value, dtype=np.float32)
    if array.shape not in ((), (count,)):
        raise CistError(f"Expected one {name} or one for each of the {count} samples, but got the shape {array.shape}.")
    if not np.all(array > 0):  # NaN is refused as well
        wrong = array[~(array > 0)]
        raise CistError(f"Expected every {name} to be a positive number, but got {wrong.flat[0]:g}.")
    return array
