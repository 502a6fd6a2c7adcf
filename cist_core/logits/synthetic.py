"""Logits that no network gave: as many classes as ImageNet, spread like a published teacher's."""

from __future__ import annotations

import numpy as np

from cist_core.logits.logit_set import LogitSet

_GROUPS, _DIMENSIONS = 100, 256
_ALIKE = 0.6  # share of a class's direction that its whole group has
_BLUR, _SIZE, _SIZES_DIFFER = 0.7, 13.3, 0.12


def imagenet_shaped(*, samples: int = 1_000, classes: int = 1_000, seed: int = 0) -> LogitSet:
    """Synthetic logits that look like those of an ImageNet classifier; neither images nor a network stand behind them.

    ``z_ij = s_i <f_i / |f_i|, p_j>``: the classes have directions ``p_j``, alike within 100 groups, as breeds of dogs
    are; a sample's features ``f_i`` are a mixture of its class and another of the group, now and then of any, blurred
    by noise; its size ``s_i`` is log-normal. The constants are our choice: at 1,000 classes the accuracy is 84 %, and
    the mean entropies at tau = 1, 2 and 4 are 0.24, 0.83 and 0.99 of ln C, where 1,000 images of ImageNet under
    EfficientNet-Lite0 have 88 %, 0.21, 0.87 and 0.99.

    Args:
        samples: N, of the classes in turn.
        classes: C, at least 2.
        seed: the same one gives the same logits.

    Example:
        >>> made = imagenet_shaped(samples=100)
        >>> made.logits.shape, made.provenance["teacher"]
        ((100, 1000), 'synthetic, no network')
    """
    rng = np.random.default_rng(seed)
    group = np.arange(classes) * min(_GROUPS, classes) // classes
    shared, own = rng.normal(size=(_GROUPS, _DIMENSIONS))[group], rng.normal(size=(classes, _DIMENSIONS))
    directions = np.sqrt(_ALIKE) * shared + np.sqrt(1 - _ALIKE) * own
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)

    labels = rng.permutation(np.arange(samples) % classes)
    first = np.searchsorted(group, group[labels])
    relative = first + (rng.random(samples) * np.bincount(group)[group[labels]]).astype(np.int64)
    other = np.where(rng.random(samples) < 0.15, rng.integers(0, classes, samples), relative)
    mixed = rng.beta(1.0, 2.5, (samples, 1))
    blur = _BLUR * rng.gamma(4.0, 0.25, (samples, 1))
    features = (1 - mixed) * directions[labels] + mixed * directions[other]
    features += blur * rng.normal(size=(samples, _DIMENSIONS)) / np.sqrt(_DIMENSIONS)
    features *= (
        _SIZE * rng.lognormal(0.0, _SIZES_DIFFER, (samples, 1)) / np.linalg.norm(features, axis=1, keepdims=True)
    )
    return LogitSet.create(
        (features @ directions.T).astype(np.float32),
        labels,
        provenance={
            "teacher": "synthetic, no network",
            "architecture": "none",
            "data": "synthetic, no images",
            "made by": f"cist_core.logits.synthetic.imagenet_shaped(samples={samples}, classes={classes}, seed={seed})",
        },
    )
