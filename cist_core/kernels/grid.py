"""The ratios at which a row's entropy curve is tabulated.

Runs of even spacing, finer toward 0. A spacing of 0.25 throughout is off by up to 2e-3 nats below 0.5; and a few logits
far below the rest (classes a model never predicts) bend the curve near 0, at ratios about their share of the classes.
"""

import numpy as np

_RUNS = (
    (0.0, 1 / 256, 1 / 1024),
    (1 / 256, 1 / 64, 1 / 256),
    (1 / 64, 0.5, 1 / 64),
    (0.5, 1.0, 0.125),
    (1.0, 16.25, 0.25),
)
"""Start, end (not included) and step of each run; all exact in binary."""

MAX_TABLE_RATIO = 16.0
"""The largest ratio in a table."""

RATIO_GRID = np.concatenate([np.arange(*run) for run in _RUNS])
"""All nodes, ``(103,)`` float64, increasing from 0 to `MAX_TABLE_RATIO`."""

RUN_STARTS = np.searchsorted(RATIO_GRID, [run[0] for run in _RUNS] + [np.inf])
"""The first node of each run, and the number of nodes."""

BIN = 1 / 64
"""Nodes from `BIN` on are multiples of it, so a ratio's interval is found by one division."""

BIN_NODES = np.searchsorted(RATIO_GRID, BIN * np.arange(round(MAX_TABLE_RATIO / BIN) + 1), side="right") - 1
"""For each multiple of `BIN` the last node that is not above it."""

for _array in (RATIO_GRID, RUN_STARTS, BIN_NODES):
    _array.setflags(write=False)
