"""Every objective written out once more in plain float64 NumPy, from the formulas and not from the library.

Run as a script, it writes the frozen values of `frozen_objectives.json`.
"""

import json
from pathlib import Path

import numpy as np
from scipy.optimize import brentq
from scipy.special import softmax
from scipy.stats import entropy

FROZEN = Path(__file__).parent / "frozen_objectives.json"
EPOCH = 5

CASES = {
    "ce": {},
    "kd": {},
    "kd:tau=2,lambda_ce=0.5,lambda_kl=0.25": {"tau": 2, "ce": 0.5, "kl": 0.25},
    "cist:rho=3": {"rho": 3},
    "cist:rho=2.5,weighting=teacher": {"rho": 2.5, "weighting": "teacher"},
    "cist:rho=3,weighting=student": {"rho": 3, "weighting": "student"},
    "cist:rho=3,weighting=uniform": {"rho": 3, "weighting": "uniform"},
    "cist:rho=3,weighting=uniform-teacher": {"rho": 3, "weighting": "uniform-teacher"},
    "cist:rho=3,floor=0": {"rho": 3, "floor": 0},
    "cist:rho=3,floor=0,gradient=scale-free": {"rho": 3, "floor": 0},
    "cist:rho=3,floor=2.5,weighting=student": {"rho": 3, "floor": 2.5, "weighting": "student"},
    "cist:rho=9,lambda_kl=8": {"rho": 9, "kl": 8},
    "cist:rho=3,weighting=none,gradient=full": {"rho": 3, "weighting": "none"},
    "cist:rho=3,normalise=yes,gradient=constant": {"rho": 3, "normalise": True},
    "dkd": {},
    "dkd:alpha=2,beta=3,tau=1.5,warmup=0,lambda_ce=0.5": {"alpha": 2, "beta": 3, "tau": 1.5, "ramp": 1, "ce": 0.5},
    "cist+dkd:rho=4,beta=8": {"rho": 4},
    "cist+dkd:rho=1.5,beta=2,lambda_kl=4,warmup=0": {"rho": 1.5, "beta": 8, "ramp": 1},
    "ctkd": {},
    "ctkd:theta=-1": {"theta": -1},
    "cist+ctkd:rho=4": {"rho": 4},
    "cist+ctkd:rho=4,theta=0": {"rho": 4, "theta": 0},
    "mlkd": {},
    "mlkd:temperatures=1/2,keep=1": {"temperatures": [1, 2], "keep": 1},
    "cist+mlkd:rho=4": {"rho": 4},
    "cist+mlkd:rho=4,lambda_ce=1": {"rho": 4, "ce": 1},
    "lskd": {},
    "normkd": {},
    "dtkd": {},
    "dtkd:alpha=1,beta=2,tau=2,warmup=10": {"alpha": 1, "beta": 2, "tau": 2, "ramp": 0.5},
    "ttm": {},
    "wttm": {},
    "wttm:gamma=0.5,beta=2": {"gamma": 0.5, "beta": 2},
    "kd-entout-ce": {},
    "kd-entout-ce:tau=2,sides=both,share=0.5,lambda_ce=0.3": {"tau": 2, "sides": "both", "share": 0.5, "ce": 0.3},
    "kd-entout-ht": {},
    "kd-entout-ht:tau=3,step=2,sides=both,share=0.5": {"tau": 3, "step": 2, "sides": "both", "share": 0.5},
    "kd-entropy-threshold-ce": {"low": 0.05, "high": 0.95},
    "kd-entropy-threshold-ce:tau=1,low=0.3,high=0.8": {"tau": 1, "low": 0.3, "high": 0.8},
    "kd-entropy-threshold-ht": {"low": 0.05},
    "kd-entropy-threshold-ht:tau=1,low=0.3,higher_tau=5": {"tau": 1, "low": 0.3, "higher": 5},
    "entropy-matched:H=0.7": {"H": 0.7},
    "reverse-kl": {},
    "cist+reverse-kl:rho=3": {"rho": 3},
    "jsd": {},
    "jsd:beta=0.1,tau=1": {"beta": 0.1, "tau": 1},
    "cist+jsd:rho=3": {"rho": 3},
}


def example(seed=11, rows=8, classes=5):
    """Logits of teacher and student on two views, and labels; rounded, so that a file can hold them."""
    rng = np.random.default_rng(seed)
    teacher = rng.standard_normal((rows, classes)) * rng.uniform(0.3, 6, (rows, 1))
    teacher[np.arange(rows), rng.integers(0, classes, rows)] += rng.uniform(1, 8, rows)
    student = teacher * rng.uniform(0.2, 0.8, (rows, 1)) + rng.standard_normal((rows, classes)) - 0.5
    return {
        "teacher": teacher.round(4),
        "student": student.round(4),
        "strong_teacher": (teacher * 0.7 + rng.standard_normal((rows, classes))).round(4),
        "strong_student": (student * 0.7 + rng.standard_normal((rows, classes))).round(4),
        "labels": rng.integers(0, classes, rows),
    }


def kl(p, q):
    return entropy(p, q, axis=-1)


def cross_entropy(z, y):
    return -np.log(softmax(z, axis=1)[np.arange(len(y)), y])


def soft(z, tau):
    return softmax(z / np.broadcast_to(tau, len(z))[:, None], axis=1)


def cist_temperatures(z, rho, floor=1):
    return np.maximum((z.max(axis=1) - z.mean(axis=1)) / rho, floor)


def weights(t, s, weighting="product", normalise=False):
    w = {
        "product": t * s,
        "teacher": t**2,
        "student": s**2,
        "uniform": np.full_like(t, np.mean(t * s)),
        "uniform-teacher": np.full_like(t, np.mean(t) ** 2),
        "none": np.ones_like(t),
    }[weighting]
    return w / w.mean() if normalise else w


def outliers(entropies, sides, share):
    """Indices of the outliers of low and of high entropy: Python sorts stably, so the earlier of equals counts."""
    order = sorted(range(len(entropies)), key=lambda i: entropies[i])
    if sides == "low":
        return order[: max(1, int(share * len(order)))], []
    count = max(1, int(share / 2 * len(order)))
    high = sorted(range(len(entropies)), key=lambda i: -entropies[i])[:count]
    return order[:count], [i for i in high if i not in order[:count]]


def matched(z, H):
    return np.array([brentq(lambda tau, row=row: entropy(softmax(row / tau)) - H, 1e-3, 1e4, xtol=1e-14) for row in z])


def decoupled(p, q, y, alpha, beta):
    rows = np.arange(len(y))
    py, qy = p[rows, y], q[rows, y]
    target = kl(np.stack([py, 1 - py], 1), np.stack([qy, 1 - qy], 1))
    others = np.arange(p.shape[1]) != y[:, None]
    rest_p, rest_q = p[others].reshape(len(y), -1), q[others].reshape(len(y), -1)
    return alpha * target + beta * kl(rest_p / rest_p.sum(1)[:, None], rest_q / rest_q.sum(1)[:, None])


def curriculum(theta):
    return 1 + 20 / (1 + np.exp(-theta))


def multi_level(data, pairs, keep):
    """``pairs(view)`` gives a list of (teacher temperatures, student temperatures, weights)."""
    confidence = softmax(data["teacher"], axis=1)
    samples = confidence.max(1) <= np.quantile(confidence.max(1), keep)
    classes = confidence.sum(0) <= np.quantile(confidence.sum(0), keep)
    total = 0.0
    for t, s, w in pairs(""):
        p, q = soft(data["teacher"], t), soft(data["student"], s)
        total += np.sum((w * kl(p, q))[samples]) / len(p)
        total += np.sum(((p @ p.T - q @ q.T) ** 2)[np.ix_(samples, samples)]) / len(p)
        total += np.sum(((p.T @ p - q.T @ q) ** 2)[np.ix_(classes, classes)]) / p.shape[1]
    for t, s, w in pairs("strong_"):
        total += np.mean(w * kl(soft(data["strong_teacher"], t), soft(data["strong_student"], s)))
    return total


def reference(text, data):
    """``total``, ``ce`` and ``kd`` of one case."""
    name, o = text.partition(":")[0], CASES[text]
    z_t, z_s, y = data["teacher"], data["student"], data["labels"]
    hard = cross_entropy(z_s, y)
    ce = hard.mean()
    if name == "ce":
        return {"total": ce, "ce": ce}
    tau = np.full(len(y), float(o.get("tau", 4)))
    t = s = tau
    if "rho" in o:
        t, s = (cist_temperatures(z, o["rho"], o.get("floor", 1)) for z in (z_t, z_s))
    w = weights(t, s, o.get("weighting", "product"), o.get("normalise", False))
    lambda_ce, lambda_kl = o.get("ce", 0.1), o.get("kl", 0.9)
    family = name.removeprefix("cist+")
    if family == "entropy-matched":
        t, s = matched(z_t, o["H"]), matched(z_s, o["H"])
        w = t * s
    if family == "lskd":
        t, s = (2 * (z.std(axis=1, ddof=1) + 1e-7) for z in (z_t, z_s))
        w, lambda_kl = np.full_like(t, 4.0), 9
    if family == "normkd":
        t, s = (2 * z.std(axis=1, ddof=1) for z in (z_t, z_s))
        w = t**2
    if family == "ctkd":
        theta = o.get("theta", 1)
        g = curriculum(theta) / curriculum(1) if "rho" in o else curriculum(theta) / 4
        t, s, w = t * g, s * g, w * g**2
    p, q = soft(z_t, t), soft(z_s, s)
    if family in ("kd", "cist", "entropy-matched", "lskd", "normkd", "ctkd"):
        kd = np.mean(w * kl(p, q))
    elif family == "dkd":
        lambda_ce, lambda_kl = o.get("ce", 1), o.get("ramp", EPOCH / 20)
        kd = np.mean(w * decoupled(p, q, y, o.get("alpha", 1), o.get("beta", 8)))
    elif family == "dtkd":
        lambda_ce, lambda_kl = 1, o.get("ramp", EPOCH / 20)
        m_t, m_s = z_t.max(1), z_s.max(1)
        usable = (m_t > 0) & (m_s > 0)
        m_t = np.where(usable, m_t, m_t - z_t.mean(1))
        m_s = np.where(usable, m_s, m_s - z_s.mean(1))
        t, s = 2 * tau * m_t / (m_t + m_s), 2 * tau * m_s / (m_t + m_s)
        dynamic = t * s * kl(soft(z_t, t), soft(z_s, s))
        kd = np.mean(o.get("alpha", 3) * dynamic + o.get("beta", 1) * tau**2 * kl(p, q))
    elif family in ("ttm", "wttm"):
        powers = softmax(z_t, axis=1) ** o.get("gamma", 0.1)
        kl_i = kl(powers / powers.sum(1)[:, None], softmax(z_s, axis=1))
        lambda_ce, lambda_kl = 1, o.get("beta", 45 if family == "ttm" else 2.25)
        kd = np.mean(kl_i if family == "ttm" else powers.sum(1) * kl_i)
    elif family == "kd-entout-ce":
        low, high = outliers(entropy(p, axis=1), o.get("sides", "low"), o.get("share", 0.05))
        outlier = np.isin(np.arange(len(y)), low + high)
        kd = np.mean(np.where(outlier, 0, w * kl(p, q)))
        total = np.mean(np.where(outlier, hard, lambda_ce * hard + lambda_kl * w * kl(p, q)))
        return {"total": total, "ce": ce, "kd": kd, "outlier_ce": np.mean(outlier * hard), "outliers": outlier.mean()}
    elif family == "kd-entout-ht":
        low, high = outliers(entropy(p, axis=1), o.get("sides", "low"), o.get("share", 0.05))
        tau[low] += o.get("step", 1)
        tau[high] -= o.get("step", 1)
        kd = np.mean(tau**2 * kl(soft(z_t, tau), soft(z_s, tau)))
    elif family == "kd-entropy-threshold-ce":
        share = entropy(p, axis=1) / np.log(p.shape[1])
        kd = np.mean(np.where((share < o["low"]) | (share > o["high"]), hard, w * kl(p, q)))
    elif family == "kd-entropy-threshold-ht":
        tau = np.where(entropy(p, axis=1) / np.log(p.shape[1]) < o["low"], o.get("higher", 8), tau)
        kd = np.mean(tau**2 * kl(soft(z_t, tau), soft(z_s, tau)))
    elif family == "reverse-kl":
        kd = np.mean(w * kl(q, p))
    elif family == "jsd":
        beta = o.get("beta", 0.5)
        m = beta * p + (1 - beta) * q
        kd = np.mean(w * (beta * kl(p, m) + (1 - beta) * kl(q, m)))
    elif family == "mlkd":
        temperatures = np.array(o.get("temperatures", [4, 3, 5, 2, 6]), float)
        ce = ce + cross_entropy(data["strong_student"], y).mean()

        def pairs(view):
            if "rho" not in o:
                return [(T, T, T**2) for T in temperatures]
            t, s = (cist_temperatures(data[view + model], o["rho"]) for model in ("teacher", "student"))
            return [(t * g, s * g, t * s * g**2) for g in temperatures / temperatures.mean()]

        kd = multi_level(data, pairs, o.get("keep", 0.5))
    return {"total": lambda_ce * ce + lambda_kl * kd, "ce": ce, "kd": kd}


def main():
    data = example()
    frozen = {
        "epoch": EPOCH,
        "inputs": {name: values.tolist() for name, values in data.items()},
        "expected": {
            text: {name: round(float(value), 12) for name, value in reference(text, data).items()} for text in CASES
        },
    }
    FROZEN.write_text(json.dumps(frozen, indent=1) + "\n")


if __name__ == "__main__":
    main()
