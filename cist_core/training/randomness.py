"""Random numbers that follow from a seed and a place in the run, so that no generator need be kept."""

from __future__ import annotations

from enum import IntEnum

import numpy as np
import torch
from torch import Tensor


class Stream(IntEnum):
    """What random numbers are for; each use has its own, whatever the others draw."""

    WEIGHTS = 0
    """Fresh weights of the student."""
    ORDER = 1
    """Of the training samples, in every epoch."""
    STEP = 2
    """Augmentation and dropout of one step in one process."""


def random_order(count: int, *key: int) -> Tensor:
    """A permutation of ``count`` samples that depends on the key alone."""
    generator = torch.Generator().manual_seed(derived_seed(*key))
    return torch.randperm(count, generator=generator)


def derived_seed(*key: int) -> int:
    """One seed for each key of whole numbers, unrelated between keys."""
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> np.uint64(1))
