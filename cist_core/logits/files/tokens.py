"""Token logits ``(B, L, C)``: one sample a position that counts."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cist_core.errors import CistError
from cist_core.logits.logit_set import IGNORED_LABEL
from cist_core.logits.scratch import scratch_array

CHUNK_VALUES = 1 << 20
_SURELY = 4.0  # standard deviations of the sign test


def flatten_tokens(
    values: NDArray[Any], mask: Any = None, labels: Any = None
) -> tuple[NDArray[Any], NDArray[Any] | None, str]:
    """The positions that count, as rows.

    Args:
        values: ``(B, L, C)``, or ``(B, L, k)`` for the k most probable.
        mask: ``(B, L)`` of 0 and 1; without one every position counts.
        labels: ``(B, L)``; a position labelled -100 has no label and does not count.

    Returns:
        ``(N, C)``, labels ``(N,)`` or None, and what was kept, as text.

    Raises:
        CistError: if shapes do not fit, the mask is not of 0 and 1, nothing is left, or the labels say that the classes
            come before the positions.

    Example:
        >>> rows, labels, said = flatten_tokens(np.zeros((1, 3, 2)), labels=np.array([[1, -100, 0]]))
        >>> rows.shape, labels.tolist(), said
        ((2, 2), [1, 0], '2 of 3 positions of 1 sequence; left out: label -100')
    """
    places = values.shape[:2]
    keep = np.ones(places, np.bool_)
    reasons = []
    if mask is not None:
        keep &= _as_mask(mask, values.shape)
        reasons.append("masked out")
    if labels is not None:
        labels = np.asarray(labels)
        if labels.shape != places:
            raise CistError(
                f"Expected labels of the shape {places}, one for each position, but got {labels.shape}; "
                f"{_mend(labels.shape, values.shape) or 'store them beside the logits'}."
            )
        _refuse_classes_first(values, labels, keep & (labels != IGNORED_LABEL))
        keep &= labels != IGNORED_LABEL
        reasons.append(f"label {IGNORED_LABEL}")
    kept = np.flatnonzero(keep)
    if not len(kept):
        raise CistError(f"None of the {keep.size:,} positions is left: all are {' or '.join(reasons) or 'missing'}.")
    flat = _row_major(values).reshape(-1, values.shape[2])
    rows = flat if len(kept) == len(flat) else take_rows(flat, kept)
    said = f"{len(kept):,} of {keep.size:,} positions of {places[0]:,} sequence{'s' * (places[0] != 1)}"
    if values.shape[1] == values.shape[2]:
        said += f"; of {values.shape}, the last axis is read as the classes, which the shape does not tell"
    if len(kept) < keep.size:
        said += f"; left out: {' or '.join(reasons)}"
    return rows, None if labels is None else labels.reshape(-1)[kept], said


def _as_mask(mask: Any, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    array = np.asarray(mask)
    if array.shape != shape[:2]:
        remedy = _mend(array.shape, shape) or "store it beside the logits"
        raise CistError(
            f"Expected a mask of the shape {shape[:2]}, one for each position, but got {array.shape}; {remedy}."
        )
    if array.dtype.kind not in "biuf" or not np.isin(array, (0, 1)).all():
        raise CistError("Expected a mask of 0 (left out) and 1 (counts), but it holds other values.")
    return array.astype(np.bool_)


def _mend(found: tuple[int, ...], shape: tuple[int, ...]) -> str:
    """The remedy where what lies beside the logits says that the classes come before the positions."""
    first = found == (shape[0], shape[2])
    return f"the classes seem to come before the positions: store the logits as {_turned(shape)}" if first else ""


def _turned(shape: tuple[int, ...]) -> str:
    return f"({shape[0]}, {shape[2]}, {shape[1]}), by logits.transpose(0, 2, 1)"


def _refuse_classes_first(values: NDArray[Any], labels: NDArray[Any], counted: NDArray[np.bool_]) -> None:
    """Where both axes are equally long, by the sign test of which one's largest logits agree with the labels."""
    if values.shape[1] != values.shape[2]:
        return
    last = first = for_last = for_first = 0
    for sequence, expected, counts in zip(values, labels, counted, strict=True):
        by_last, by_first = ((sequence.argmax(axis) == expected) & counts for axis in (1, 0))
        last, first = last + by_last.sum(), first + by_first.sum()
        for_last, for_first = for_last + (by_last & ~by_first).sum(), for_first + (by_first & ~by_last).sum()
    if for_first - for_last > _SURELY * np.sqrt(for_first + for_last):
        raise CistError(
            f"The largest logits agree with the labels in {first:,} of {counted.sum():,} positions if the classes come "
            f"before the positions, and in {last:,} if they come last, as is expected; store the logits as "
            f"{_turned(values.shape)}."
        )


def _row_major(values: NDArray[Any]) -> NDArray[Any]:
    """In this order flattening copies nothing; another one is copied a sequence at a time."""
    if values.flags.c_contiguous:
        return values
    ordered = scratch_array(values.shape, values.dtype)
    for position, sequence in enumerate(values):
        ordered[position] = sequence
    return ordered


def take_rows(flat: NDArray[Any], kept: NDArray[np.int64]) -> NDArray[Any]:
    """Some rows of a matrix that may be larger than memory."""
    taken = scratch_array((len(kept), flat.shape[1]), flat.dtype)
    step = max(1, CHUNK_VALUES // max(1, flat.shape[1]))
    for start in range(0, len(kept), step):
        taken[start : start + step] = flat[kept[start : start + step]]
    return taken
