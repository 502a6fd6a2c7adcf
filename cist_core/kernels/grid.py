"""The ratios at which a row's entropy curve is tabulated.

Runs of even spacing, finer toward 0. A spacing of 0.25 throughout is off by up to 2e-3 nats below 0.5; and a few logits
far below the rest (classes a model never predicts) bend the curve near 0, at ratios about their share of the classes.

Wider toward the end, where curves bend less: at a ratio r they fall over a width of about ``r / ln C``, where the
classes that are left vanish together. The error of cubic interpolation with spacing h is at most ``h^4 / 384`` times
the fourth derivative, which is largest for many classes at one distance below the first. Over such rows and mixtures
of four such groups it is at most 3e-5 nats with 50,000 classes above a ratio of 16, and 5e-5 with 256,000.

The values at the nodes come from power series about a few ratios. Let y be the distance of a class from the first in
units of m, ``d = r - r_0`` that of a node from the centre of its series. What a series of powers up to 10 leaves out of
a class of weight ``e^(-r y)`` is at most ``(d y)^11 / 11!``, and so ``0.12 (d / s)^11`` at the worst distance, with s
the node where d is negative and r_0 where it is not. Beside ``Z(s) = sum e^(-s y)``, which is at least 1 and, as the
mean of y is 1, at least ``C e^-s``, that is 7e-6 at most for 256,000 classes with the stretches below, in any row.
Only below a ratio of 1, where d is large beside it, rows must be narrow: ``(d y)^11 / 11!`` is 3e-7 at `WIDEST`.
"""

import itertools
import math

import numpy as np

_RUNS = (
    (0.0, 1 / 256, 1 / 1024),
    (1 / 256, 1 / 64, 1 / 256),
    (1 / 64, 0.5, 1 / 64),
    (0.5, 1.0, 0.125),
    (1.0, 20.0, 0.25),
    (20.0, 26.0, 0.5),
    (26.0, 32.0, 0.5),
    (32.0, 40.0, 0.5),
    (40.0, 65.0, 1.0),
)
"""Start, end (not included) and step of each run; all exact in binary."""

FIRST_SPARSE_RATIO = 26.0
"""From here on every run begins with the classes that still count; see `vanishing_exponent`."""

_STRETCHES = (0.0, 1.0, 2.0, 3.5, 5.5, 7.5, 9.5, 12.0, 15.0, 19.0, 24.0, 30.0, 38.0, 48.0, 60.0, 65.0)
"""Between two of them one power series holds; see the top of this file."""

SERIES_CENTRES = np.array(
    [0.4375, 1.375, 2.625, 4.375]
    + [octave * ratio for octave in (1, 2, 4) for ratio in (6.625, 8.375, 10.625)]
    + [53.0, 67.0]
)
"""The ratios about which the series are taken."""

FRESH_SERIES = 7
"""From here on each ratio is twice that of three before, and its powers are their squares."""

SPARSE_SERIES = np.array([0, 9, 12, len(SERIES_CENTRES)])
"""The series at which long rows are left with the classes that still count, see `vanishing_exponent`; and the end."""

WIDEST = 2.86
"""How far the classes of a row lie from the first at most, in units of m, where a series holds below the ratio 1."""

MAX_TABLE_RATIO = 64.0
"""The largest ratio in a table."""

RATIO_GRID = np.concatenate([np.arange(*run) for run in _RUNS])
"""All nodes, ``(183,)`` float64, increasing from 0 to `MAX_TABLE_RATIO`."""

RUN_STARTS = np.searchsorted(RATIO_GRID, [run[0] for run in _RUNS] + [np.inf])
"""The first node of each run, and the number of nodes."""

SERIES_STARTS = np.searchsorted(RATIO_GRID, _STRETCHES)
"""The first node of each stretch, and the number of nodes."""

SERIES_FACTORS = np.array(
    [
        [(ratio - centre) ** power / math.factorial(power) for power in range(11)]
        for centre, (first, last) in zip(SERIES_CENTRES, itertools.pairwise(SERIES_STARTS), strict=True)
        for ratio in RATIO_GRID[first:last]
    ],
    np.float32,
)
"""``d^t / t!`` for the distance d of each node from the centre of its stretch and t up to 10, ``(K, 11)``."""

SPARSE_RUN = int(np.searchsorted(RATIO_GRID[RUN_STARTS[:-1]], FIRST_SPARSE_RATIO))
"""The first run that begins with the classes that still count."""

BIN = 1 / 64
"""Nodes from `BIN` on are multiples of it, so a ratio's interval is found by one division."""

BIN_NODES = np.searchsorted(RATIO_GRID, BIN * np.arange(round(MAX_TABLE_RATIO / BIN) + 1), side="right") - 1
"""For each multiple of `BIN` the last node that is not above it."""

for _array in (RATIO_GRID, RUN_STARTS, BIN_NODES, SERIES_STARTS, SERIES_CENTRES, SERIES_FACTORS, SPARSE_SERIES):
    _array.setflags(write=False)


DROPPED_NATS = 1e-5
"""What all classes together that are left out at high ratios may change in an entropy."""


def vanishing_exponent(classes: int) -> float:
    """The exponent ``u`` from which on a class of weight ``e^-u`` beside the first one's 1 need not be summed.

    With ``H = ln Z + sum u e^-u / Z`` and ``Z >= 1``, leaving a class out changes H by at most
    ``e^-u (u + 1 + ln C)``, which falls as the ratio grows; all C together change it by less than `DROPPED_NATS` if
    ``u = ln(C / 1e-5) + ln(u + 1 + ln C)``.

    Example:
        >>> print(round(vanishing_exponent(1000), 2))
        21.81
    """
    exponent = math.log(classes / DROPPED_NATS)
    for _ in range(5):  # converges by a factor of 20 each time
        exponent = math.log(classes / DROPPED_NATS) + math.log(exponent + 1 + math.log(classes))
    return exponent
