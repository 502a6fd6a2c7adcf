"""Entropy of softened rows, fast: NumPy arrays run on the CPU, torch tensors where they live.

Every function takes finite logits ``(N, C)`` with ``C >= 2``: a float16 or float32 NumPy array (it may be
memory-mapped) or a floating torch tensor (meant for a GPU). Results are float32 in nats, of the same kind as the
logits, within 1e-4 nats of float64 arithmetic on the stored values.

They compute with every number they are given. Which classes take part is decided before, by one rule
(`cist_core.logits.absent_classes`): `LogitSet.create` and `EntropyCurves.from_chunks` leave masked classes out.

Write ``c = z - mean(z)`` and ``m = max(c)``; a ratio is ``r = m / tau``.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cist_core.kernels.grid import MAX_TABLE_RATIO, RATIO_GRID
from cist_core.kernels.statistics import RowStatistics, TokenStatistics

if TYPE_CHECKING:
    from types import ModuleType

__all__ = [
    "MAX_TABLE_RATIO",
    "RATIO_GRID",
    "RowStatistics",
    "TokenStatistics",
    "correlation",
    "cross_table",
    "curve_tables",
    "entropy",
    "entropy_sweep",
    "entropy_table",
    "fill_table",
    "first_pass",
    "grid_counts",
    "group_sums",
    "kl_divergence",
    "mean_and_variance",
    "ranks",
    "ratio_grid",
    "read_table",
    "row_statistics",
    "token_pass",
]

Array = Any
"""A NumPy array or a torch tensor."""


def row_statistics(logits: Array) -> RowStatistics:
    """Centred maximum, largest logit, its class, gap to the second and deviation of every row.

    Args:
        logits: finite, ``(N, C)``.

    Example:
        >>> row_statistics(np.array([[4.0, 1.0, 1.0]], np.float32)).maximum.tolist()
        [2.0]
    """
    return _backend(logits).row_statistics(logits)  # type: ignore[no-any-return]


def first_pass(
    logits: Array, *, tau: float | None = None, rho: float | None = None, floor: float = 0.0
) -> tuple[RowStatistics, Array]:
    """Statistics and entropy in one pass over the memory.

    ``H_i = entropy(softmax(z_i / tau))``, or with ``tau_i = max(m_i / rho, floor)``, the temperatures of CIST; a
    constant row has ``ln C``.

    Args:
        logits: finite, ``(N, C)``.
        tau: one positive temperature in logit units (``inf`` gives ``ln C``), or
        rho: one positive ratio.
        floor: beside rho, the smallest temperature in logit units; by default there is none. The floor of CIST is
            ``cist_core.temperature.CIST_FLOOR``.

    Returns:
        The statistics and the entropy ``(N,)`` in nats.

    Raises:
        ValueError: unless exactly one of tau and rho is given, and positive, and the floor is 0 or goes with rho.

    Example:
        >>> _, entropies = first_pass(np.array([[4.0, 0.0, 0.0], [1.0, 0.0, 0.0]], np.float32), rho=2.0)
        >>> print(entropies.round(4))
        [0.3666 0.3666]
        >>> _, entropies = first_pass(np.array([[4.0, 0.0, 0.0], [1.0, 0.0, 0.0]], np.float32), rho=2.0, floor=1.0)
        >>> print(entropies.round(4))  # the second row would need a temperature of 1/3
        [0.3666 0.9753]
    """
    given = tau if rho is None else rho
    if (tau is None) == (rho is None) or given is None or not given > 0:
        raise ValueError(f"Expected exactly one of `tau` and `rho`, and positive, but got tau={tau} and rho={rho}.")
    if not (0 <= floor < math.inf) or (floor and rho is None):
        raise ValueError(f"Expected a finite `floor` of 0 or above, and only beside `rho`, but got floor={floor}.")
    return _backend(logits).first_pass(logits, tau, rho, floor)  # type: ignore[no-any-return]


def entropy(logits: Array, peak: Array, tau: Array | float) -> Array:
    """``H_i = entropy(softmax(z_i / tau_i))`` in nats, ``(N,)``: what a slider moves.

    Args:
        logits: finite, ``(N, C)``.
        peak: ``max(z_i)``, ``(N,)``, from `row_statistics` or `first_pass`.
        tau: positive temperatures in logit units, one or ``(N,)``; ``inf`` gives ``ln C``.

    Example:
        >>> logits = np.array([[2.0, 0.0], [2.0, 2.0]], np.float32)
        >>> print(entropy(logits, logits.max(1), 1.0).round(4))
        [0.3653 0.6931]
    """
    return _backend(logits).entropy(logits, peak, tau)


def entropy_sweep(logits: Array, statistics: RowStatistics, *, start: float, step: float, count: int) -> Array:
    """``H_i(r_j) = entropy(softmax(r_j c_i / m_i))`` at evenly spaced ratios ``r_j = start + j step``.

    Uses ``e^((r + step) x) = e^(r x) e^(step x)``: after the first ratio, one multiplication per logit replaces the
    exponential.

    Args:
        logits: finite, ``(N, C)``.
        statistics: of the same rows.
        start: the first ratio, at least 0.
        step: the spacing, at least 0.
        count: the number of ratios, at least 1.

    Returns:
        ``(N, count)`` in nats; constant rows have ``ln C``.

    Raises:
        ValueError: for a negative start or step, or a count below 1.
    """
    if not (start >= 0 and step >= 0 and count >= 1):
        raise ValueError(f"Expected start >= 0, step >= 0 and count >= 1, but got {start}, {step} and {count}.")
    return _backend(logits).entropy_sweep(logits, statistics, start, step, count)


def ratio_grid() -> NDArray[np.float64]:
    """The ratios of `entropy_table`, ``(K,)``.

    From 0 in steps of 1/1024, then 1/64 up to 0.5, 0.25 up to 20, 0.5 up to 40 and 1 up to 64.
    """
    return RATIO_GRID


def entropy_table(logits: Array, statistics: RowStatistics) -> Array:
    """Every row's entropy curve, as ``H`` and ``dH/dr = -r Var(c / m)`` at the nodes of `ratio_grid`.

    One pass; afterwards `read_table` gives any ratio without the logits.

    Args:
        logits: finite, ``(N, C)``.
        statistics: of the same rows.

    Returns:
        ``(N, K, 2)``, in nats and nats per unit of ratio; constant rows have ``ln C`` and 0.
    """
    return _backend(logits).entropy_table(logits, statistics)


def fill_table(logits: NDArray[Any], statistics: RowStatistics, table: NDArray[np.float32]) -> None:
    """`entropy_table` into memory that is there, such as a mapped file.

    Args:
        logits: finite, ``(N, C)``, of NumPy.
        statistics: of the same rows.
        table: ``(K, N, 2)``, node by node, contiguous; its transpose ``(N, K, 2)`` is what `read_table` takes.
    """
    from cist_core.kernels import cpu

    cpu.fill_table(logits, statistics, table)


def curve_tables(logits: Array, statistics: RowStatistics) -> tuple[Array, Array]:
    """`entropy_table`, and the logarithm of the partition function beside it, in one pass.

    ``ln Z_i(r) = ln sum_j e^(r (z_ij - max z_i) / m_i)``, so that the soft label of a class is
    ``p = e^(r (z - max z) / m - ln Z)``. Its slope is ``(ln Z - H) / r``, and -1 at ``r = 0``, by definition of m.

    Args:
        logits: finite, ``(N, C)``.
        statistics: of the same rows.

    Returns:
        The table ``(N, K, 2)`` and ``ln Z`` ``(N, K)`` at the nodes of `ratio_grid`, in nats; constant rows have
        ``ln C``.
    """
    return _backend(logits).curve_tables(logits, statistics)  # type: ignore[no-any-return]


def cross_table(
    teacher_logits: NDArray[Any],
    student_logits: NDArray[Any],
    *,
    teacher_statistics: RowStatistics,
    student_statistics: RowStatistics,
) -> NDArray[np.float32]:
    """How far below its largest the student's logits lie where the teacher looks, at every ratio of the teacher.

    ``D_i(r) = sum_j p_ij(r) (max z_s,i - z_s,ij)`` with ``p_i(r) = softmax(r c_t,i / m_t,i)``. With the curves of both
    models it gives their divergence at any two temperatures, in one pass over the logits and without them afterwards:

        KL(p_t || p_s) = D(m_t / tau_t) / tau_s + ln Z_s(m_s / tau_s) - H_t(m_t / tau_t).

    Args:
        teacher_logits: finite, ``(N, C)``, of NumPy.
        student_logits: likewise.
        teacher_statistics: of the teacher's rows.
        student_statistics: of the student's.

    Returns:
        D and dD/dr at the nodes of `ratio_grid`, ``(N, K, 2)``, in logit units, for `read_table`.

    Raises:
        ValueError: if the shapes differ.
    """
    _check_one_shape(teacher_logits, student_logits)
    from cist_core.kernels import cpu

    return cpu.cross_table(teacher_logits, student_logits, teacher_statistics, student_statistics)


def token_pass(logits: NDArray[Any], actual: NDArray[np.int64], *, most: int) -> tuple[RowStatistics, TokenStatistics]:
    """Statistics, the largest logits, and what the model says of the actual class, in one pass over the memory.

    Args:
        logits: finite, ``(N, C)``, of NumPy.
        actual: the actual class of each row, ``(N,)`` in ``[0, C)``.
        most: how many of the largest logits are kept; all C if there are fewer.

    Example:
        >>> _, found = token_pass(np.array([[0.0, 3.0, 1.0]], np.float32), np.array([2]), most=2)
        >>> found.top.tolist(), found.top_classes.tolist(), found.rank.tolist()
        ([[0.0, -2.0]], [[1, 2]], [2])
    """
    from cist_core.kernels import cpu

    return cpu.token_pass(logits, actual, most)


def read_table(table: Array, ratio: Array | float) -> Array:
    """``H_i(r_i)`` in nats from a table, ``(N,)``, by cubic Hermite interpolation.

    Args:
        table: from `entropy_table`.
        ratio: one or ``(N,)``; the caller sees to ``0 <= ratio <= MAX_TABLE_RATIO``.
    """
    return _backend(table).read_table(table, ratio)


def correlation(a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
    """Pearson's correlation of two columns, ``(N,)`` each; both vary.

    In one pass and on one core: NumPy's goes through a matrix product, whose threads wait for each other.

    Example:
        >>> correlation(np.array([1.0, 2.0, 3.0]), np.array([3.0, 2.0, 1.0]))
        -1.0
    """
    from cist_core.kernels import cpu

    return cpu.correlation(a, b)


def grid_counts(
    across: NDArray[np.floating],
    up: NDArray[np.floating],
    chosen: NDArray[np.bool_],
    *,
    ends: tuple[float, float],
    cells: tuple[int, int],
) -> NDArray[np.int64]:
    """How many of the chosen samples fall into each cell of a grid from 0 to two ends, of the shape ``cells``.

    Args:
        across: one number of each sample, ``(N,)``; what lies beyond an end counts in the outermost cells.
        up: another, ``(N,)``.
        chosen: ``(N,)``.
        ends: of the grid, positive.
        cells: how many there are along each.

    Example:
        >>> chosen = np.array([True, True, False])
        >>> across, up = np.array([0.1, 9.0, 0.1]), np.array([0.9, 0.1, 0.9])
        >>> grid_counts(across, up, chosen, ends=(1, 1), cells=(2, 2)).tolist()
        [[0, 1], [1, 0]]
    """
    from cist_core.kernels import cpu

    return cpu.grid_counts(across, up, chosen, ends, cells)


def group_sums(
    ranks: NDArray[np.float64], values: NDArray[np.floating], groups: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Sizes and sums of values over equal groups of neighbours, ``(groups,)`` each.

    Args:
        ranks: `ranks` of what makes neighbours, ``(N,)``; what shares a rank shares a group.
        values: ``(N,)``.
        groups: at least 1.
    """
    from cist_core.kernels import cpu

    return cpu.group_sums(ranks, values, groups)


def mean_and_variance(values: NDArray[np.floating]) -> tuple[float, float]:
    """Mean and population variance of ``(N,)`` values, summed in float64 without a copy of them.

    Example:
        >>> mean_and_variance(np.array([1.0, 3.0], np.float32))
        (2.0, 1.0)
    """
    from cist_core.kernels import cpu

    return cpu.mean_and_variance(values)


def ranks(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Ranks from 1 on, of values that are equal in float32 their mean, ``(N,)``, as `scipy.stats.rankdata` gives them.

    Each value is sorted together with its place as one whole number, which NumPy does in vectors: an argsort takes
    several times as long, and the stable one of SciPy longer still.

    Args:
        values: ``(N,)``, without NaN; float64 is rounded to float32.

    Example:
        >>> ranks(np.array([0.5, 2.0, 0.5, -1.0])).tolist()
        [2.5, 4.0, 2.5, 1.0]
    """
    from cist_core.kernels import cpu

    return cpu.ranks(values)


def kl_divergence(
    teacher_logits: Array, student_logits: Array, tau_teacher: Array | float, tau_student: Array | float
) -> Array:
    """``KL(softmax(z_t / tau_t) || softmax(z_s / tau_s))`` in nats, ``(N,)``.

    Args:
        teacher_logits: finite, ``(N, C)``.
        student_logits: finite, ``(N, C)``, of the same kind.
        tau_teacher: positive temperatures in logit units, one or ``(N,)``.
        tau_student: the same for the student.

    Raises:
        ValueError: if the shapes differ.

    Example:
        >>> teacher, student = np.array([[2.0, 0.0]], np.float32), np.array([[0.0, 0.0]], np.float32)
        >>> print(kl_divergence(teacher, student, 1.0, 1.0).round(4))
        [0.3278]
    """
    _check_one_shape(teacher_logits, student_logits)
    return _backend(teacher_logits).kl_divergence(teacher_logits, student_logits, tau_teacher, tau_student)


def _check_one_shape(teacher_logits: Array, student_logits: Array) -> None:
    if teacher_logits.shape != student_logits.shape:
        raise ValueError(
            f"Expected the student's logits to have the teacher's shape {tuple(teacher_logits.shape)}, "
            f"but got {tuple(student_logits.shape)}."
        )


def _backend(array: Array) -> ModuleType:
    """The module for the kind of array; torch is loaded only for those who use it."""
    if isinstance(array, np.ndarray):
        from cist_core.kernels import cpu

        return cpu
    from cist_core.kernels import torch_twin

    return torch_twin
