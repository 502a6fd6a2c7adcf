"""A part of a data set: which samples, and how a file of logits says it, so that their images are found again."""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from cist_core.data.dataset import evenly_spaced
from cist_core.errors import CistError

_TEXT = re.compile(r"([0-9]{1,15}) of ([0-9]{1,15})(?:, stratified, seed ([0-9]{1,15}))?")


def stratified_sample(labels: NDArray[np.int64], count: int, seed: int) -> NDArray[np.int64]:
    """Positions of ``count`` samples drawn at random, each class in proportion to its size.

    A class gets its share of ``count`` rounded down; what is left goes to the classes with the largest remainders (the
    method of Hamilton), by lot among equals. With as many samples as classes or more, none goes without.

    Args:
        labels: ``(N,)``.
        count: at most N.
        seed: the same one draws the same samples on every machine.

    Returns:
        Sorted positions, ``(count,)``.

    Raises:
        CistError: for a count or a seed that cannot be.

    Example:
        >>> labels = np.array([0] * 6 + [1] * 3 + [2])
        >>> labels[stratified_sample(labels, 5, seed=0)]
        array([0, 0, 0, 1, 2])
    """
    if not 1 <= count <= len(labels):
        raise CistError(f"Expected a sample of 1 to {len(labels):,}, all there are, but got {count:,}.")
    if seed < 0:
        raise CistError(f"Expected a seed of 0 or more, but got {seed}.")
    rng = np.random.default_rng(seed)
    _, sizes = np.unique(labels, return_counts=True)
    taken = _apportion(sizes, count, rng)
    order: NDArray[np.int64] = np.argsort(labels, kind="stable")
    members = np.split(order, np.cumsum(sizes)[:-1])
    chosen = [rng.permutation(of)[:number] for of, number in zip(members, taken, strict=True)]
    drawn: NDArray[np.int64] = np.sort(np.concatenate(chosen))
    return drawn


def _apportion(sizes: NDArray[np.int64], count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """How many of each class; no class gets more than it has."""
    shares = count * sizes / sizes.sum()
    taken: NDArray[np.int64] = np.floor(shares).astype(np.int64)
    if count >= len(sizes):
        taken = np.maximum(taken, 1)
    lots = rng.random(len(sizes))
    missing = count - int(taken.sum())
    if missing > 0:
        taken[np.lexsort((lots, taken - shares))[:missing]] += 1
    for _ in range(-missing):  # rare classes were given one that others must spare
        spare = np.where(taken > 1, taken - shares, -np.inf)
        taken[np.argmax(spare)] -= 1
    return taken


def samples_text(count: int, total: int, seed: int | None) -> str:
    """How provenance says which samples were used.

    Example:
        >>> samples_text(1000, 10000, None), samples_text(1000, 10000, 3)
        ('1000 of 10000', '1000 of 10000, stratified, seed 3')
    """
    drawn = "" if seed is None or count == total else f", stratified, seed {seed}"
    return f"{count} of {total}{drawn}"


def choose_samples(labels: NDArray[np.int64], limit: int | None, seed: int | None) -> NDArray[np.int64]:
    """Positions of at most ``limit`` samples: evenly spaced, or a stratified sample where a seed is given.

    Raises:
        CistError: for a limit below 1, or a seed without a limit or below 0.
    """
    if seed is not None and (limit is None or seed < 0):
        raise CistError(
            f"Expected `seed` (--seed) to be 0 or more, and only together with `limit` (--limit), but got {seed}."
        )
    if seed is None or limit is None or limit >= len(labels) or limit < 1:
        return evenly_spaced(len(labels), limit)
    return stratified_sample(labels, limit, seed)


def sample_positions(samples: str, labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """The positions that `samples_text` tells of, in a data set with these labels.

    Raises:
        CistError: if the text is none of these, or tells of a data set of another size.

    Example:
        >>> sample_positions("4 of 10", np.zeros(10, int))
        array([0, 3, 6, 9])
    """
    match = _TEXT.fullmatch(samples)
    if match is None:
        raise CistError(f"Expected which samples were used as in '1000 of 10000', but got '{samples[:80]}'.")
    count, total = int(match[1]), int(match[2])
    if total != len(labels):
        raise CistError(f"These logits were made from {total:,} images, but there are {len(labels):,}.")
    return choose_samples(labels, count, None if match[3] is None else int(match[3]))
