"""Times the entropy kernels beside what a user would write instead, and checks them against float64 SciPy.

    python benchmarks/bench.py [--output benchmarks/results.json] [--rounds 7] [--sizes 50000x1000 ...]

Everything of one size runs in one process, interleaved: each round times every kernel and the bare read once; medians
count (`repeated.py`). Ratios are of processor time, which other work on the machine moves less, and the medians of
those within each round. Peers that take long run in the first rounds only (`PEER_ROUNDS`), always on the full size,
except the loops over 64 temperatures: one temperature is timed and counted 64 times, as its cost does not depend on the
temperature.

- SciPy: `softmax` and `entropy` (or `rel_entr` for KL) as a user writes them, on the float32 logits.
- torch: `log_softmax`, then ``-(p log p).sum``, in eager mode, with as many threads as the kernels.
- read: a sum over the array by numba's parallel loop, with as many threads.

- app: the server's share of a slider move on each page (`app_rerun`).

- tokens: rows over a vocabulary. The first pass gives statistics, entropy, the 32 largest logits, the negative
  log-likelihood and the rank; its peer is torch's `log_softmax`, entropy, `topk` and `gather`. The token set has the
  whole curves besides (`cist_core.language.analysis`); its peer is calculated: all that once, and `log_softmax` with
  entropy once for each further ratio of the table.

A row has its median and the quartiles around it; `check.py` compares two result files by them.

The first pass also gives the centred maximum, top-1, gap and deviation; its peers give the entropy alone.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch
from app_rerun import CLASSES, SAMPLES, measure_app
from machine import machine
from numpy.typing import NDArray
from repeated import Times, figures, in_turn, times_of
from scipy import special, stats

from cist_core import kernels
from cist_core.language.analysis import TOP, token_set
from cist_core.language.token_set import TokenFacts

SIZES = ("10000x100", "50000x100", "50000x1000")
TOKENS = "500x49152"
SWEEP = {"start": 0.25, "step": 0.25, "count": 64}
TAU, RHO, STUDENT_TAU = 2.0, 4.0, 3.0
PEER_ROUNDS = 3
CHECKED_ROWS = 200
CHECKED_RATIOS = (0.004, 0.01, 0.05, 0.1, 0.2, 0.29, 0.5, 0.7, 1.1, 2.3, 4.0, 7.9, 12.3, 17.1, 26.4, 43.7, 64.0)
CHECKED_TAUS = (0.25, 0.5, 1.0, 2.0, 4.0, 20.0)

Logits = NDArray[np.float32]
Row = dict[str, Any]


@numba.njit(parallel=True, fastmath=True)  # type: ignore[untyped-decorator]
def read_memory(values):  # type: ignore[no-untyped-def]
    total = np.float32(0)
    for i in numba.prange(values.size):
        total += values[i]
    return total


def realistic_logits(samples: int, classes: int) -> Logits:
    """Gaussian logits of different spread per sample, with one class raised: some samples are sure, some are not."""
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((samples, classes), dtype=np.float32)
    logits *= rng.uniform(1, 3, (samples, 1)).astype(np.float32)
    logits[np.arange(samples), rng.integers(0, classes, samples)] += rng.gamma(3.0, 3.0, samples).astype(np.float32)
    return logits


def scipy_entropy(logits: NDArray[Any], tau: Any) -> NDArray[Any]:
    return np.asarray(stats.entropy(special.softmax(logits / tau, axis=1), axis=1))


def torch_entropy(logits: torch.Tensor, tau: float) -> torch.Tensor:
    log_p = torch.log_softmax(logits / tau, dim=1)
    return -(log_p.exp() * log_p).sum(dim=1)


def scipy_divergence(teacher: NDArray[Any], student: NDArray[Any]) -> NDArray[Any]:
    p, q = special.softmax(teacher / TAU, axis=1), special.softmax(student / STUDENT_TAU, axis=1)
    return np.asarray(special.rel_entr(p, q).sum(axis=1))


def torch_divergence(teacher: torch.Tensor, student: torch.Tensor) -> torch.Tensor:
    log_p, log_q = torch.log_softmax(teacher / TAU, dim=1), torch.log_softmax(student / STUDENT_TAU, dim=1)
    return torch.nn.functional.kl_div(log_q, log_p, reduction="none", log_target=True).sum(dim=1)


def versus(times: dict[str, Times], name: str, other: str) -> float:
    """How many times as much processor time the other takes, by the rounds that both were in."""
    both = min(len(times[name].processor), len(times[other].processor))
    return times_of(times[other].processor[:both], times[name].processor[:both])["median"]


def measure(size: str, rounds: int) -> list[Row]:
    samples, classes = (int(part) for part in size.split("x"))
    logits = realistic_logits(samples, classes)
    student = (logits * np.float32(0.7) + np.float32(0.5) * realistic_logits(samples, classes)[::-1]).astype(np.float32)
    flat, tensor, student_tensor = logits.reshape(-1), torch.from_numpy(logits), torch.from_numpy(student)
    statistics = kernels.row_statistics(logits)
    table = kernels.entropy_table(logits, statistics)
    tau = np.full(samples, TAU, np.float32)

    ours: dict[str, Callable[[], object]] = {
        "first pass": lambda: kernels.first_pass(logits, tau=TAU),
        "exact slider move": lambda: kernels.entropy(logits, statistics.peak, tau),
        "64-ratio sweep": lambda: kernels.entropy_sweep(logits, statistics, **SWEEP),  # type: ignore[arg-type]
        "table build": lambda: kernels.entropy_table(logits, statistics),
        "table read": lambda: kernels.read_table(table, RHO),
        "KL divergence": lambda: kernels.kl_divergence(logits, student, TAU, STUDENT_TAU),
        "read": lambda: read_memory(flat),
    }
    peers: dict[str, Callable[[], object]] = {
        "scipy entropy": lambda: scipy_entropy(logits, np.float32(TAU)),
        "torch entropy": lambda: torch_entropy(tensor, TAU),
        "scipy KL": lambda: scipy_divergence(logits, student),
        "torch KL": lambda: torch_divergence(tensor, student_tensor),
    }
    for function in ours.values():  # compiles, and pages the results in
        function()
    times = in_turn(ours | peers, min(rounds, PEER_ROUNDS))
    for name, further in in_turn(ours, max(0, rounds - PEER_ROUNDS)).items():
        times[name] = Times(times[name].wall + further.wall, times[name].processor + further.processor)

    errors = largest_errors(logits, student)
    peer_of = {  # the peer, and how many times it must run for the same answer
        "first pass": ("entropy", 1),
        "exact slider move": ("entropy", 1),
        "64-ratio sweep": ("entropy", SWEEP["count"]),
        "table build": ("entropy", len(kernels.RATIO_GRID)),
        "table read": ("entropy", 1),
        "KL divergence": ("KL", 1),
    }
    rows: list[Row] = [{"name": "bare read of the memory", "size": size, **figures(times["read"]),
                        "versus_scipy": None, "versus_torch": None,
                        "versus_read": 1.0, "max_error": None}]  # fmt: skip
    for name, (peer, runs) in peer_of.items():
        rows.append(
            {
                "name": name,
                "size": size,
                **figures(times[name]),
                "versus_scipy": runs * versus(times, name, f"scipy {peer}"),
                "versus_torch": runs * versus(times, name, f"torch {peer}"),
                "versus_read": versus(times, "read", name),
                "max_error": errors[name],
            }
        )
    return rows


def torch_tokens(logits: torch.Tensor, ids: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """What a user writes for the entropy, the likeliest tokens and the likelihood of the actual one."""
    log_p = torch.log_softmax(logits, dim=1)
    entropy = -(log_p.exp() * log_p).sum(dim=1)
    return entropy, log_p.gather(1, ids[:, None]), *log_p.topk(TOP, dim=1)


def measure_tokens(size: str, rounds: int) -> list[Row]:
    tokens, vocabulary = (int(part) for part in size.split("x"))
    logits = realistic_logits(tokens, vocabulary)
    ids = np.random.default_rng(1).integers(0, vocabulary, tokens)
    places = np.arange(tokens)
    facts = TokenFacts(ids, places * 0, places, np.full(tokens, "text"), np.ones(tokens, np.bool_))
    tensor, indices = torch.from_numpy(logits), torch.from_numpy(ids)
    functions: dict[str, Callable[[], object]] = {
        "first pass over tokens": lambda: kernels.token_pass(logits, ids, most=TOP),
        "token set": lambda: token_set([(logits, facts)], count=tokens),
        "torch": lambda: torch_tokens(tensor, indices),
        "torch entropy": lambda: torch_entropy(tensor, TAU),
        "read": lambda: read_memory(logits.reshape(-1)),
    }
    for function in functions.values():
        function()
    times = in_turn(functions, rounds)
    exact = logits[:CHECKED_ROWS].astype(np.float64)
    found = token_set([(logits, facts)], count=tokens)
    curves = found.curves()
    errors = {
        "first pass over tokens": np.abs(found.entropy[:CHECKED_ROWS] - scipy_entropy(exact, 1.0)).max(),
        "token set": max(
            np.abs(curves.at_temperature(tau)[:CHECKED_ROWS] - scipy_entropy(exact, tau)).max()
            for tau in CHECKED_TAUS
            if found.statistics.maximum.max() / tau <= kernels.MAX_TABLE_RATIO
        ),
    }
    further = (len(kernels.RATIO_GRID) - 1) * versus(times, "token set", "torch entropy")
    peers = {
        "first pass over tokens": versus(times, "first pass over tokens", "torch"),
        "token set": versus(times, "token set", "torch") + further,
    }
    return [
        {
            "name": name,
            "size": size,
            **figures(times[name]),
            "versus_scipy": None,
            "versus_torch": peer,
            "versus_read": versus(times, "read", name),
            "max_error": float(errors[name]),
        }
        for name, peer in peers.items()
    ]


def largest_errors(logits: Logits, student: Logits) -> dict[str, float]:
    """Largest difference in nats from float64 SciPy, on evenly spread rows."""
    chosen = np.linspace(0, len(logits) - 1, CHECKED_ROWS).astype(int)
    logits, student = logits[chosen], student[chosen]
    exact = logits.astype(np.float64)
    maximum = (exact.max(axis=1) - exact.mean(axis=1))[:, None]
    statistics = kernels.row_statistics(logits)
    table = kernels.entropy_table(logits, statistics)
    at_ratio = {ratio: scipy_entropy(exact, maximum / ratio) for ratio in CHECKED_RATIOS}

    def worst(pairs: list[tuple[Any, Any]]) -> float:
        return max(float(np.abs(ours - reference).max()) for ours, reference in pairs)

    fine = kernels.entropy_sweep(logits, statistics, start=0.01, step=0.25, count=64)
    reading = worst([(kernels.read_table(table, ratio), reference) for ratio, reference in at_ratio.items()])
    divergence = kernels.kl_divergence(logits, student, TAU, STUDENT_TAU)
    return {
        "first pass": worst([(kernels.first_pass(logits, rho=r)[1], reference) for r, reference in at_ratio.items()]),
        "exact slider move": worst(
            [(kernels.entropy(logits, statistics.peak, tau), scipy_entropy(exact, tau)) for tau in CHECKED_TAUS]
        ),
        "64-ratio sweep": worst([(fine[:, j], scipy_entropy(exact, maximum / (0.01 + 0.25 * j))) for j in range(64)]),
        "table build": worst(
            [
                (table[:, k, 0], scipy_entropy(exact, maximum / ratio))
                for k, ratio in enumerate(kernels.RATIO_GRID)
                if ratio > 0
            ]
        ),
        "table read": reading,
        "KL divergence": worst([(divergence, scipy_divergence(exact, student.astype(np.float64)))]),
    }


def print_table(rows: list[Row]) -> None:
    def times(value: Any) -> str:
        return "-" if value is None else f"{value:,.1f}x"

    print(f"{'':30} {'size':>11} {'ms':>9} {'vs SciPy':>10} {'vs torch':>10} {'of a read':>10} {'max error':>10}")
    for row in rows:
        error = "-" if row["max_error"] is None else f"{row['max_error']:.1e}"
        milliseconds = float(row["seconds"] or 0) * 1e3
        ratios = "".join(f"{times(row[f'versus_{peer}']):>11}" for peer in ("scipy", "torch", "read"))
        print(f"{row['name']:30} {row['size']:>11} {milliseconds:9.3f}{ratios} {error:>10}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the entropy kernels beside SciPy, torch and a bare read.")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("results.json"), help="JSON to write")
    parser.add_argument("--rounds", type=int, default=7, help="repetitions; the median counts")
    parser.add_argument("--sizes", nargs="+", default=SIZES, metavar="SAMPLESxCLASSES")
    arguments = parser.parse_args()

    torch.set_num_threads(numba.config.NUMBA_NUM_THREADS)
    measured_on, rows = machine("numpy", "scipy", "numba", "torch", "streamlit"), list[Row]()
    for size in arguments.sizes:
        rows += measure(size, arguments.rounds)
    rows += measure_tokens(TOKENS, arguments.rounds)
    rows += measure_app(realistic_logits(SAMPLES, CLASSES))
    print_table(rows)
    arguments.output.write_text(json.dumps({"machine": measured_on, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
