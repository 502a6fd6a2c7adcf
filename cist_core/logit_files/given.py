"""What the numbers of a file are: logits, log-probabilities or probabilities; and logits of the same soft labels."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from cist_core.errors import CistError
from cist_core.scratch import scratch_array

GivenAs = Literal["auto", "logits", "log-probabilities", "probabilities"]
GIVEN_AS: tuple[str, ...] = get_args(GivenAs)

LARGEST_FLOOR = 1e-12
"""A probability of 0 counts as the smallest one in the file, and as no more than this."""

_SUM_TOLERANCE = 2e-3  # half precision, and decimals that were cut off
_STATED_TOLERANCE = 2e-2  # where somebody says that they are probabilities
_PROBED_ROWS = 1000
_CHUNK_VALUES = 1 << 20


def as_logits(values: NDArray[Any], given_as: GivenAs = "auto") -> tuple[NDArray[Any], str | None]:
    """Logits of the same soft labels, and what was recognised and done.

    Log-probabilities are logits as they are. The logarithms of probabilities are logits, ``softmax(ln p) = p``; a
    probability of 0 has none, so it counts as the smallest one of the file, or as 1e-12 where that is smaller.
    A log-probability of ``-inf`` is treated likewise.

    Args:
        values: ``(N, C)``.
        given_as: what they are; ``"auto"`` looks at up to 1000 rows.

    Returns:
        ``(N, C)`` and a sentence, which is None for logits.

    Raises:
        CistError: if the numbers are not what they are said to be.

    Example:
        >>> as_logits(np.array([[0.5, 0.25, 0.25]]))[0].round(3).tolist()
        [[-0.6930000185966492, -1.3860000371932983, -1.3860000371932983]]
        >>> as_logits(np.array([[2.0, -1.0, 0.5]]))[1] is None
        True
    """
    if given_as not in GIVEN_AS:
        raise CistError(f"Expected given_as to be {', '.join(GIVEN_AS)}, but got '{given_as}'.")
    if not values.size or values.ndim != 2 or values.dtype.kind not in "fiu":
        return values, None  # refused elsewhere, with their shape or type
    kind = _recognised(values) if given_as == "auto" else given_as
    if kind == "probabilities":
        _check_rows(values, _not_probabilities(given_as), given_as)
        return _logarithms(values)
    if kind == "log-probabilities":
        if given_as == "auto" and any(_not_log_probabilities(rows).any() for rows in _chunks(values)):
            return values, None  # some rows only: then they are logits
        _check_rows(values, _not_log_probabilities, given_as)
        return _finite(values)
    if given_as == "logits" and _recognised(values) == "probabilities":
        return values, "logits, as was said, although every row is positive and sums to 1, as probabilities do"
    return values, None


def _recognised(values: NDArray[Any]) -> str:
    count = max(1, min(len(values), _PROBED_ROWS, _CHUNK_VALUES // values.shape[1]))
    rows = np.asarray(values[np.linspace(0, len(values) - 1, count).astype(int)])
    if not _not_probabilities("auto")(rows).any():
        return "probabilities"
    if not _not_log_probabilities(rows).any():
        return "log-probabilities"
    return "logits"


def _not_probabilities(given_as: str) -> Callable[[NDArray[Any]], NDArray[np.bool_]]:
    tolerance = _SUM_TOLERANCE if given_as == "auto" else _STATED_TOLERANCE

    def wrong(rows: NDArray[Any]) -> NDArray[np.bool_]:
        wide = rows.astype(np.float64)
        with np.errstate(invalid="ignore", over="ignore"):
            fits: NDArray[np.bool_] = (wide.min(axis=1) >= 0) & (np.abs(wide.sum(axis=1) - 1) <= tolerance)
        return ~fits

    return wrong


def _not_log_probabilities(rows: NDArray[Any]) -> NDArray[np.bool_]:
    """Half precision moves the sum by up to its rounding times the entropy, which is at most ln C."""
    wide = rows.astype(np.float64)
    tolerance = _SUM_TOLERANCE + math.log(max(2, rows.shape[1])) / 512
    with np.errstate(over="ignore", invalid="ignore"):
        total = np.exp(np.minimum(wide, 1.0)).sum(axis=1)
        fits: NDArray[np.bool_] = (wide.max(axis=1) <= 0) & (np.abs(total - 1) <= tolerance)
    return ~fits


def _check_rows(values: NDArray[Any], wrong: Callable[[NDArray[Any]], NDArray[np.bool_]], given_as: str) -> None:
    start = 0
    for rows in _chunks(values):
        bad = np.flatnonzero(wrong(rows))
        if len(bad):
            row = start + int(bad[0])
            raise CistError(_disagreement(np.asarray(rows[bad[0]], np.float64), row, given_as))
        start += len(rows)


def _disagreement(row: NDArray[np.float64], number: int, given_as: str) -> str:
    with np.errstate(over="ignore", invalid="ignore"):
        found = f"sample {number} lies between {row.min():.4g} and {row.max():.4g} and sums to {row.sum():.4g}"
        logarithms = float(np.exp(np.minimum(row, 700.0)).sum())
    if given_as == "log-probabilities":
        return (
            "these are said to be log-probabilities, which are at most 0 with exponentials that sum to 1, but those of "
            f"sample {number} sum to {logarithms:.4g} (largest: {row.max():.4g}); say what they are, or leave it to be "
            "recognised."
        )
    if given_as == "probabilities":
        return (
            f"these are said to be probabilities, which are not negative and sum to 1, but {found}; say what they are, "
            "or leave it to be recognised."
        )
    return (
        f"most rows are positive and sum to 1, as probabilities do, but {found}; say which they are: given as "
        "probabilities (and mend that row), or given as logits."
    )


def _logarithms(values: NDArray[Any]) -> tuple[NDArray[Any], str]:
    zeros, smallest = _zeros_and_smallest(values, lambda rows: rows > 0)
    floor = min(smallest, LARGEST_FLOOR)
    logits = _converted(values, lambda rows: np.log(np.maximum(rows, floor)))
    return logits, f"probabilities; their logarithms were taken{_clipped(zeros, values.size, floor)}"


def _finite(values: NDArray[Any]) -> tuple[NDArray[Any], str]:
    zeros, smallest = _zeros_and_smallest(values, np.isfinite)
    if not zeros:
        return values, "log-probabilities, which are logits as they are"
    floor = min(smallest, math.log(LARGEST_FLOOR))
    logits = _converted(values, lambda rows: np.maximum(rows, floor))
    return logits, f"log-probabilities{_clipped(zeros, values.size, math.exp(floor))}"


def _clipped(zeros: int, values: int, floor: float) -> str:
    return f"; {zeros:,} of {values:,} are 0 and count as {floor:.3g}" if zeros else ""


def _zeros_and_smallest(values: NDArray[Any], kept: Callable[[NDArray[Any]], NDArray[np.bool_]]) -> tuple[int, float]:
    zeros, smallest = 0, math.inf
    for rows in _chunks(values):
        fine = kept(rows)
        zeros += int(fine.size - np.count_nonzero(fine))
        smallest = min(smallest, float(np.min(rows, where=fine, initial=math.inf)))
    return zeros, smallest


def _converted(values: NDArray[Any], convert: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> NDArray[Any]:
    converted = scratch_array(values.shape, np.float32)
    start = 0
    for rows in _chunks(values):
        converted[start : start + len(rows)] = convert(rows.astype(np.float64))
        start += len(rows)
    return converted


def _chunks(values: NDArray[Any]) -> Iterator[NDArray[Any]]:
    step = max(1, _CHUNK_VALUES // values.shape[1])
    for start in range(0, len(values), step):
        yield values[start : start + step]
