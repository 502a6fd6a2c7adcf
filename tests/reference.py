"""What the tests compare with: float64 SciPy, as a user would write it."""

import numpy as np
from scipy.special import softmax
from scipy.stats import entropy as scipy_entropy


def entropy_at(logits, tau):
    """Entropy of ``softmax(z_i / tau_i)`` in nats, ``(N,)``; tau is one number or ``(N,)``."""
    tau = np.broadcast_to(np.asarray(tau, np.float64), (len(logits),))
    return scipy_entropy(softmax(np.asarray(logits, np.float64) / tau[:, None], axis=1), axis=1)


def centred_maximum(logits):
    rows = np.asarray(logits, np.float64)
    return rows.max(axis=1) - rows.mean(axis=1)


def entropy_at_ratio(logits, ratio):
    """Entropy of ``softmax(r c_i / m_i)`` in nats; a constant row has ``ln C``."""
    maximum = centred_maximum(logits)
    constant = maximum <= 0
    tau = np.where(constant, 1.0, maximum) / np.broadcast_to(ratio, maximum.shape)
    return entropy_at(logits, tau)


def cist_temperatures(logits, rho, floor=1.0):
    """``tau_i = max(m_i / rho, floor)``, ``(N,)``; no less than 1e-6."""
    return np.maximum(centred_maximum(logits) / rho, max(floor, 1e-6))


def entropy_at_cist(logits, rho, floor=1.0):
    """Entropy under CIST in nats: that of ``softmax(z_i / max(m_i / rho, floor))``, ``(N,)``."""
    return entropy_at(logits, cist_temperatures(logits, rho, floor))


def hard_rows(classes, count=40, seed=3):
    """Rows that break careless code: random, tied, one-hot-like, constant, huge and tiny ones, in this order."""
    rng = np.random.default_rng(seed)
    random = rng.standard_normal((count, classes)) * rng.uniform(0.3, 8, (count, 1))
    tied = random.copy()
    tied[:, : max(2, classes // 3)] = tied.max(axis=1, keepdims=True)
    one_hot = np.zeros((count, classes))
    one_hot[np.arange(count), rng.integers(0, classes, count)] = rng.uniform(1, 30, count)
    constant = np.full((count, classes), 1.0) * rng.uniform(-50, 50, (count, 1))
    huge = 1e4 * rng.standard_normal((count, classes))
    tiny = 1e-3 * rng.standard_normal((count, classes))
    return np.concatenate([random, tied, one_hot, constant, huge, tiny]).astype(np.float32)
