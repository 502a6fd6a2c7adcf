"""The kernels in plain torch operations, for logits that live on a GPU.

Rows go through in chunks, so that the working memory stays below a few times `CHUNK_VALUES` float32 numbers however
many rows there are. The mathematics is that of the CPU module, in base e.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import torch
from torch import Tensor

from cist_core.kernels import grid
from cist_core.kernels.statistics import SMALLEST_MAXIMUM, RowStatistics

CHUNK_VALUES = 1 << 25
"""Logits per chunk: 128 MiB in float32."""
RESTART = 64
_FAR = -1e30  # an infinite exponent times a weight of 0 would be NaN
_MIN_EXPONENT = -200.0
"""exp underflows to 0 well above; keeps ``0 * exponent`` finite."""

Number = float | Tensor


def row_statistics(logits: Tensor) -> RowStatistics:
    parts = [_statistics(logits[rows].float()) for rows in _chunks(logits)]
    return RowStatistics(*(torch.cat(columns) for columns in zip(*parts, strict=True)))


def first_pass(logits: Tensor, tau: float | None, rho: float | None, floor: float) -> tuple[RowStatistics, Tensor]:
    parts, entropies = [], []
    for rows in _chunks(logits):
        chunk = logits[rows].float()
        statistics = _statistics(chunk)
        temperature: Number = tau if tau is not None else _temperature_at(statistics.maximum, rho or 0.0, floor)
        parts.append(statistics)
        entropies.append(_entropy(chunk, statistics.peak, _column(temperature, chunk)))
    return RowStatistics(*(torch.cat(columns) for columns in zip(*parts, strict=True))), torch.cat(entropies)


def entropy(logits: Tensor, peak: Tensor, tau: Number) -> Tensor:
    column = _column(tau, logits)
    return torch.cat([_entropy(logits[rows].float(), peak[rows], column[rows]) for rows in _chunks(logits)])


def entropy_sweep(logits: Tensor, statistics: RowStatistics, start: float, step: float, count: int) -> Tensor:
    ratios = [start + k * step for k in range(count)]
    parts = [_moments(logits[rows], statistics, rows, ratios, step) for rows in _chunks(logits)]
    moments = torch.cat(parts)
    total, first, _ = moments.unbind(-1)
    return _bounded(total.log() - logits.new_tensor(ratios, dtype=torch.float32) * first / total, logits.shape[1])


def entropy_table(logits: Tensor, statistics: RowStatistics) -> Tensor:
    return curve_tables(logits, statistics)[0]


def curve_tables(logits: Tensor, statistics: RowStatistics) -> tuple[Tensor, Tensor]:
    nodes = grid.RATIO_GRID.tolist()
    runs = [nodes[first:last] for first, last in itertools.pairwise(grid.RUN_STARTS.tolist())]
    parts = [
        torch.cat([_moments(logits[rows], statistics, rows, run, run[1] - run[0]) for run in runs], dim=1)
        for rows in _chunks(logits)
    ]
    total, first, second = torch.cat(parts).unbind(-1)
    ratio = logits.new_tensor(nodes, dtype=torch.float32)
    mean, log_partition = first / total, total.log()
    curve = _bounded(log_partition - ratio * mean, logits.shape[1])
    slope = -ratio * (second / total - mean.square()).clamp_min(0.0)
    return torch.stack([curve, slope], dim=-1), log_partition


def read_table(table: Tensor, ratio: Number) -> Tensor:
    nodes = table.new_tensor(grid.RATIO_GRID, dtype=torch.float64)
    ratios = torch.as_tensor(ratio, dtype=torch.float64, device=table.device).expand(len(table)).contiguous()
    k = (torch.searchsorted(nodes, ratios, right=True) - 1).clamp(0, len(nodes) - 2)
    step = nodes[k + 1] - nodes[k]
    t = (ratios - nodes[k]) / step
    rows = torch.arange(len(table), device=table.device)
    (h0, d0), (h1, d1) = table[rows, k].double().unbind(-1), table[rows, k + 1].double().unbind(-1)
    d0, d1, rise = d0 * step, d1 * step, h1 - h0
    value = h0 + t * (d0 + t * (3 * rise - 2 * d0 - d1 + t * (d0 + d1 - 2 * rise)))
    return value.clamp_min(0.0).float()


def kl_divergence(teacher: Tensor, student: Tensor, tau_teacher: Number, tau_student: Number) -> Tensor:
    t_tau, s_tau = _column(tau_teacher, teacher), _column(tau_student, student)
    parts = []
    for rows in _chunks(teacher):
        target, scores = teacher[rows].float(), student[rows].float()
        target = (target - target.amax(1, keepdim=True)) / t_tau[rows, None]
        scores = ((scores - scores.amax(1, keepdim=True)) / s_tau[rows, None]).clamp_min(_FAR)
        difference = (torch.softmax(target, 1) * (target.clamp_min(_MIN_EXPONENT) - scores)).sum(1)
        parts.append((difference - target.logsumexp(1) + scores.logsumexp(1)).clamp_min(0.0))
    return torch.cat(parts)


def _chunks(logits: Tensor) -> Iterator[slice]:
    size = max(1, CHUNK_VALUES // logits.shape[1])
    for start in range(0, len(logits), size):
        yield slice(start, start + size)


def _column(value: Number, logits: Tensor) -> Tensor:
    smallest = torch.finfo(torch.float32).tiny  # a temperature that rounds to 0 would give 0 / 0
    column = torch.as_tensor(value, dtype=torch.float32, device=logits.device)
    return column.clamp_min(smallest).expand(len(logits))


def _temperature_at(maximum: Tensor, rho: float, floor: float) -> Tensor:
    """``max(m / rho, floor)``; a constant row has no ratio, and any temperature gives its entropy."""
    return torch.where(maximum > 0, (maximum / rho).clamp_min(floor), torch.ones_like(maximum))


def _statistics(chunk: Tensor) -> RowStatistics:
    peak, second = chunk.topk(2, dim=1).values.unbind(1)
    below = peak[:, None] - chunk  # distances do not cancel, wherever the row lies, and are all 0 in a constant row
    maximum = below.mean(1)
    maximum = torch.where(maximum < SMALLEST_MAXIMUM, torch.zeros_like(maximum), maximum)
    return RowStatistics(maximum, peak, chunk.argmax(1), peak - second, below.std(1, correction=0))


def _entropy(chunk: Tensor, peak: Tensor, tau: Tensor) -> Tensor:
    x = ((chunk - peak[:, None]) / tau[:, None]).clamp_min_(_MIN_EXPONENT)
    power = x.exp()
    total = power.sum(1)
    return _bounded(total.log() - power.mul_(x).sum(1) / total, chunk.shape[1])


def _moments(chunk: Tensor, statistics: RowStatistics, rows: slice, ratios: list[float], step: float) -> Tensor:
    """``sum w x^k`` for k = 0, 1, 2 of ``w = e^(r x)``, ``x = (z - max z) / m`` at all ratios: ``(n, K, 3)``."""
    m = statistics.maximum[rows, None]
    x: Tensor = (chunk.float() - statistics.peak[rows, None]) / torch.where(m > 0, m, torch.ones_like(m))
    factor = (step * x).exp()
    moments: Tensor = x.new_empty(len(x), len(ratios), 3)
    power = factor
    for k, ratio in enumerate(ratios):
        power = (ratio * x).exp() if k % RESTART == 0 else power * factor
        weighted = power * x
        moments[:, k, 0] = power.sum(1)
        moments[:, k, 1] = weighted.sum(1)
        moments[:, k, 2] = (weighted * x).sum(1)
    return moments


def _bounded(entropy: Tensor, classes: int) -> Tensor:
    bounded: Tensor = entropy.clamp(0.0, math.log(classes))
    return bounded
