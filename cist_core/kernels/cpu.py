"""The kernels for NumPy rows: from arrays to compiled loops and back."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cist_core.kernels import compiled, grid
from cist_core.kernels.statistics import SMALLEST_MAXIMUM, RowStatistics, TokenStatistics
from cist_core.kernels.threads import over_rows

LogitArray = NDArray[np.float16] | NDArray[np.float32]
Vector = NDArray[np.float32]

READ_COST = 8
"""A table read costs about as much as this many logits; at one ratio for all rows, as one."""


def row_statistics(logits: LogitArray) -> RowStatistics:
    statistics = _empty_statistics(len(logits))
    kernel = compiled.few_statistics_kernel if _few(logits) else compiled.statistics_kernel
    _over(logits, kernel, _typed(logits), SMALLEST_MAXIMUM, *statistics)
    return statistics


def first_pass(logits: LogitArray, tau: float | None, rho: float | None, floor: float) -> tuple[RowStatistics, Vector]:
    statistics = _empty_statistics(len(logits))
    result = np.empty(len(logits), np.float32)
    # One signature for both: a temperature of 0 stands for "not given".
    parameters = float(tau or 0.0), float(rho or 0.0), float(floor)
    arguments = _typed(logits), SMALLEST_MAXIMUM, *parameters, *statistics, result
    _over(logits, compiled.few_first_pass_kernel if _few(logits) else compiled.first_pass_kernel, *arguments)
    return statistics, result


def entropy(logits: LogitArray, peak: Vector, tau: ArrayLike) -> Vector:
    result = np.empty(len(logits), np.float32)
    kernel = compiled.few_entropy_kernel if _few(logits) else compiled.entropy_kernel
    _over(logits, kernel, _typed(logits), _column(peak, logits), _column(tau, logits), result)
    return result


def entropy_sweep(logits: LogitArray, statistics: RowStatistics, start: float, step: float, count: int) -> Vector:
    rows, classes = logits.shape
    sweep = np.empty((rows, count), np.float32)
    columns = _column(statistics.peak, logits), _column(statistics.maximum, logits)
    work = classes * max(1, count // compiled.STEPS)
    over_rows(compiled.sweep_kernel, rows, work, _typed(logits), *columns, float(start), float(step), sweep)
    return sweep


def entropy_table(logits: LogitArray, statistics: RowStatistics) -> Vector:
    table = np.empty((len(grid.RATIO_GRID), len(logits), 2), np.float32)
    fill_table(logits, statistics, table)
    return table.transpose(1, 0, 2)


def curve_tables(logits: LogitArray, statistics: RowStatistics) -> tuple[Vector, Vector]:
    nodes, rows = len(grid.RATIO_GRID), len(logits)
    table, log_partition = np.empty((nodes, rows, 2), np.float32), np.empty((nodes, rows), np.float32)
    _fill_tables(logits, statistics, table, log_partition)
    return table.transpose(1, 0, 2), log_partition.T


def fill_table(logits: LogitArray, statistics: RowStatistics, table: Vector) -> None:
    _fill_tables(logits, statistics, table.view(np.ndarray), np.empty((len(table), 0), np.float32))


def _fill_tables(logits: LogitArray, statistics: RowStatistics, table: Vector, log_partition: Vector) -> None:
    rows, classes = logits.shape
    nodes = len(grid.RATIO_GRID)
    columns = _column(statistics.peak, logits), _column(statistics.maximum, logits)
    work = classes * nodes // compiled.STEPS
    nodes_of_runs, starts_of_runs, _, vanishing = _runs(classes)
    series = grid.SERIES_STARTS, grid.SERIES_CENTRES, grid.SERIES_FACTORS
    parts = grid.FRESH_SERIES, grid.SPARSE_SERIES, grid.WIDEST
    given = _typed(logits), *columns, nodes_of_runs, starts_of_runs, vanishing, *series, *parts
    over_rows(compiled.table_kernel, rows, work, *given, table, log_partition, together=compiled.TOGETHER)


def cross_table(
    teacher: LogitArray, student: LogitArray, of_teacher: RowStatistics, of_student: RowStatistics
) -> Vector:
    rows, classes = teacher.shape
    nodes = len(grid.RATIO_GRID)
    table = np.empty((nodes, rows, 2), np.float32)
    given = (of_teacher.peak, of_teacher.maximum, of_student.peak, of_student.maximum)
    columns = (_column(each, teacher) for each in given)
    work = classes * nodes // compiled.STEPS
    arguments = _typed(teacher), _typed(student), *columns, *_runs(classes), table
    over_rows(compiled.cross_kernel, rows, work, *arguments)
    return table.transpose(1, 0, 2)


def _runs(classes: int) -> tuple[Any, ...]:
    """Of the grid, as the kernels take them."""
    return grid.RATIO_GRID, grid.RUN_STARTS, grid.SPARSE_RUN, grid.vanishing_exponent(classes) / math.log(2)


def token_pass(logits: LogitArray, actual: NDArray[np.int64], most: int) -> tuple[RowStatistics, TokenStatistics]:
    rows, classes = logits.shape
    largest = min(most, classes)
    statistics = _empty_statistics(rows)
    of_tokens = TokenStatistics(
        top=np.empty((rows, largest), np.float32),
        top_classes=np.empty((rows, largest), np.int32),
        shifted=np.empty(rows, np.float32),
        log_partition=np.empty(rows, np.float32),
        entropy=np.empty(rows, np.float32),
        rank=np.empty(rows, np.int32),
    )
    arguments = _typed(logits), SMALLEST_MAXIMUM, _typed(actual.astype(np.int64)), *statistics, *of_tokens
    over_rows(compiled.token_kernel, rows, classes, *arguments)
    return statistics, of_tokens


def read_table(table: Vector, ratio: ArrayLike) -> Vector:
    rows = len(table)
    result = np.empty(rows, np.float32)
    ratios = np.ascontiguousarray(ratio, np.float64).reshape(-1)
    nodes = grid.RATIO_GRID, grid.BIN, grid.BIN_NODES
    cost = READ_COST if ratios.size > 1 else 1
    over_rows(compiled.read_kernel, rows, cost, _typed(table.transpose(1, 0, 2)), _typed(ratios), *nodes, result)
    return result


def kl_divergence(teacher: LogitArray, student: LogitArray, tau_teacher: ArrayLike, tau_student: ArrayLike) -> Vector:
    result = np.empty(len(teacher), np.float32)
    temperatures = _column(tau_teacher, teacher), _column(tau_student, student)
    over_rows(compiled.divergence_kernel, *teacher.shape, _typed(teacher), _typed(student), *temperatures, result)
    return result


def correlation(a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
    first, second = _numbers(a), _numbers(b)
    means = (compiled.moments_kernel(each)[0] for each in (first, second))
    return float(compiled.correlation_kernel(first, second, *means))


def mean_and_variance(values: NDArray[np.floating]) -> tuple[float, float]:
    return compiled.moments_kernel(_numbers(values))  # type: ignore[no-any-return]


def grid_counts(
    across: NDArray[np.floating],
    up: NDArray[np.floating],
    chosen: NDArray[np.bool_],
    ends: tuple[float, float],
    cells: tuple[int, int],
) -> NDArray[np.int64]:
    counts = np.zeros(cells, np.int64)
    scales = (size / end for size, end in zip(cells, ends, strict=True))
    if chosen.any():
        compiled.counts_kernel(_numbers(across), _numbers(up), _typed(chosen), *scales, counts)
    return counts


def group_sums(
    ranks: NDArray[np.float64], values: NDArray[np.floating], groups: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    sizes, sums = np.zeros(groups, np.int64), np.zeros(groups)
    compiled.group_sums_kernel(_typed(ranks), _numbers(values), groups / len(ranks), sizes, sums)
    return sizes, sums


def ranks(values: NDArray[np.floating]) -> NDArray[np.float64]:
    bits = _typed(np.asarray(values, np.float32)).view(np.int32)
    keyed, result = np.empty(len(values), np.int64), np.empty(len(values))
    over_rows(compiled.keys_kernel, len(values), 1, bits, keyed)
    keyed.sort()
    compiled.ranks_kernel(keyed, result)
    return result


def _few(logits: LogitArray) -> bool:
    """Whether rows are taken side by side."""
    return bool(logits.shape[1] <= compiled.FEW_CLASSES)


def _over(logits: LogitArray, kernel: Callable[..., None], *arguments: object) -> None:
    """A kernel that goes once through each row."""
    over_rows(kernel, *logits.shape, *arguments, together=compiled.TOGETHER if _few(logits) else 1)


def _empty_statistics(rows: int) -> RowStatistics:
    single = [np.empty(rows, np.float32) for _ in range(4)]
    return RowStatistics(single[0], single[1], np.empty(rows, np.int64), single[2], single[3])


def _typed(array: NDArray[Any]) -> NDArray[Any]:
    """One read-only contiguous view, so that mapped and ordinary arrays share one compiled kernel.

    Numba knows no float16 on the CPU: its bits go in as uint16.
    """
    view = np.ascontiguousarray(array).view(np.ndarray)
    view = view.view(np.uint16) if view.dtype == np.float16 else view.view()
    view.flags.writeable = False
    return view


def _numbers(values: NDArray[Any]) -> NDArray[Any]:
    """A column of float32 or float64 as it is, of which kernels make float64 as they go; of other numbers a copy."""
    return _typed(values if values.dtype in (np.float32, np.float64) else values.astype(np.float64))


def _column(value: ArrayLike, logits: LogitArray) -> NDArray[np.float32]:
    """One float32 number per row, from one per row or one for all; above float32's range it is infinite."""
    with np.errstate(over="ignore"):
        single = np.asarray(value).astype(np.float32, copy=False)
    return _typed(np.broadcast_to(single, len(logits)))
