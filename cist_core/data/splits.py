"""Seeded, stratified splits: every class is cut in the same proportions."""

from __future__ import annotations

import numpy as np


def stratified_split(labels: np.ndarray, fractions: tuple[float, ...], seed: int) -> list[np.ndarray]:
    """Cut sample indices into disjoint parts that each hold the given fraction of every class.

    Args:
        labels: integer labels, ``(N,)``.
        fractions: size of each part as a fraction of N; they sum to 1 at most, what is left over is dropped.
        seed: of the permutation; the same seed gives the same parts on every machine.

    Returns:
        One sorted index array per fraction.

    Raises:
        ValueError: if a fraction is not positive or they sum to more than 1.
    """
    if min(fractions) <= 0 or sum(fractions) > 1 + 1e-9:
        raise ValueError(f"Expected `fractions` to be positive and to sum to 1 at most, but got {fractions}.")
    rng = np.random.default_rng(seed)
    parts: list[list[np.ndarray]] = [[] for _ in fractions]
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        ends = np.round(np.cumsum(fractions) * len(members)).astype(int)
        for part, start, end in zip(parts, [0, *ends[:-1]], ends, strict=True):
            part.append(members[start:end])
    return [np.sort(np.concatenate(part)) for part in parts]
