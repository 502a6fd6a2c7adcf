"""The k most probable classes of each sample, as those who distill language models store them: bounds, not numbers.

Let ``p_1 >= ... >= p_k`` be the seen probabilities of ``V`` classes, ``n = V - k`` classes unseen, and ``m`` their
mass; each of them has at most ``p_k``. At a fixed temperature ``tau``, with ``beta = 1 / tau``, the soft label is
``p^beta / Z`` with ``Z = Z_s + Z_u``, the sums of ``p^beta`` over the seen and the unseen classes. Spread evenly the
unseen ones give ``Z_u = n (m/n)^beta``, as concentrated as ``p_k`` allows ``floor(m/p_k) p_k^beta + rest^beta``: one is
the largest ``Z_u`` and the other the smallest, as ``q^beta`` is concave for ``beta < 1`` and convex for ``beta > 1``.

- Lower bound: ``H >= ln Z - (S_s + Z_u beta ln p_k) / Z`` with ``S_s = sum p^beta beta ln p``, at the smallest ``Z_u``:
  it grows with ``Z_u``, because no seen class is less probable than ``p_k``.
- Upper bound: ``H <= h(w) + (1 - w) H_s + w ln n`` with ``w = Z_u / Z`` and ``h`` the binary entropy, maximised over
  the possible ``w``: concave, with its top at ``n / (n + exp(H_s))``.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cist_core.errors import CistError
from cist_core.logits.files.arrays import StoredArrays
from cist_core.logits.files.distillkit import capture_files, layout_of, read_capture
from cist_core.logits.files.formats import find_format, logit_endings
from cist_core.logits.files.limits import GENEROUS_LIMITS, ReadingLimits
from cist_core.logits.files.names import MASK_NAMES, REMAINING_NAMES, TOP_K_IDS, TOP_K_LOG_PROBS, VOCABULARY_NAMES
from cist_core.logits.files.opening import errors_naming
from cist_core.logits.files.reading import holds_top_k
from cist_core.logits.files.served import ENDINGS, LOOKED_AT, PREPARED, is_served, read_served, refuse_renormalised
from cist_core.logits.files.tables import ParquetTable
from cist_core.logits.files.tokens import flatten_tokens

Vector = NDArray[np.float64]

_MASS_TOLERANCE = 5e-3  # of a sum of probabilities: half precision
CHUNK_VALUES = 1 << 20
_SURELY = 4.0
"""Standard deviations of a sign test."""

NO_CIST = (
    "CIST is not among them: its temperature needs the mean of all logits, and the unseen ones may lie as low as they "
    "like, so nothing bounds it"
)
"""Why CIST has no bounds."""


@dataclass(frozen=True, eq=False)
class TopK:
    """The most probable classes of each sample. No `LogitSet`: what is not here is not known.

    Build it with `TopK.create` or `read_top_k`.

    Attributes:
        ids: ``(N, k)`` int64, the classes, most probable first.
        log_probs: ``(N, k)`` float64, at most 0, descending.
        remaining: ``(N, 2)`` float64, the least and the greatest mass that the unseen classes can have together; they
            differ by the rounding of what was stored.
        vocabulary: V, the number of classes.
        provenance: where it came from, as text.

    Example:
        >>> top = TopK.create([[3, 1]], np.log([[0.6, 0.3]]), vocabulary=10)
        >>> lower, upper = top.entropy_bounds(1.0)
        >>> round(lower.item(), 3), round(upper.item(), 3)
        (0.788, 1.106)
    """

    ids: NDArray[np.int64]
    log_probs: Vector
    remaining: Vector
    vocabulary: int
    provenance: Mapping[str, str]

    @classmethod
    def create(
        cls,
        ids: ArrayLike,
        log_probs: ArrayLike,
        *,
        vocabulary: int,
        remaining: ArrayLike | None = None,
        stored_as: str | None = None,
        provenance: Mapping[str, str] | None = None,
    ) -> TopK:
        """Validate arrays, sort each row, and wrap them.

        Args:
            ids: ``(N, k)`` whole numbers in ``[0, V)``, different in each row.
            log_probs: ``(N, k)``, natural logarithms of probabilities among all V classes.
            vocabulary: V.
            remaining: ``(N,)``, the mass of the classes that are not here; by default 1 minus the sum.
            stored_as: the type to which the log-probabilities were rounded, ``"bfloat16"`` or one of NumPy's; by
                default theirs, and bfloat16 for those in float32 that have no more digits.
            provenance: free text; how many places of every row hold ``-inf`` and are left out is added.

        Raises:
            CistError: for other shapes or values, or classes that cannot be the most probable ones.
        """
        given = np.asarray(log_probs)
        raw, numbers = _valid(given, np.asarray(ids))
        classes, values = _checked_ids(numbers, vocabulary), _checked_log_probs(raw)
        if classes.shape != values.shape:
            raise CistError(f"Expected ids and log-probabilities of one shape, but got {classes.shape}, {raw.shape}.")
        order = np.argsort(-values, axis=1, kind="stable")
        classes, values = np.take_along_axis(classes, order, axis=1), np.take_along_axis(values, order, axis=1)
        rounding = _rounding(_stored_as(raw) if stored_as is None else stored_as)
        mass = _mass(values, rounding, None if remaining is None else np.asarray(remaining), vocabulary)
        said = dict(provenance or {})
        if raw.shape != given.shape:
            unfilled = given.shape[1] - raw.shape[1]
            said["left out"] = f"{unfilled:,} of {given.shape[1]:,} places in every row, which hold -inf"
        return cls(classes, values, mass, vocabulary, MappingProxyType(said))

    @property
    def num_samples(self) -> int:
        return int(self.log_probs.shape[0])

    @property
    def k(self) -> int:
        return int(self.log_probs.shape[1])

    @property
    def max_entropy(self) -> float:
        """``ln V`` in nats."""
        return math.log(self.vocabulary)

    def check_tokens(self, tokens: ArrayLike) -> None:
        """Whether the rows belong to these tokens: each holds the distribution from which its token came.

        Some programs write the distribution *after* a token beside it, others the one that predicts it. Rows that
        belong to the neighbours agree with these much more often.

        Args:
            tokens: ``(N,)`` whole numbers, the token that each row predicts.

        Raises:
            CistError: if the most probable classes agree with the next or the previous tokens clearly more often (by
                four standard deviations of a sign test), or there are not as many tokens as rows.
        """
        given = np.asarray(tokens)
        if given.shape != (self.num_samples,) or given.dtype.kind not in "iu":
            raise CistError(
                f"Expected {self.num_samples:,} whole numbers, the token that each row predicts, but got the shape "
                f"{given.shape} of the type {given.dtype}."
            )
        inner = slice(1, -1)
        right = (self.ids[:, 0] == given)[inner]
        for shift, which in ((-1, "next"), (1, "previous")):
            other = (self.ids[:, 0] == np.roll(given, shift))[inner]
            for_other, for_right = int((other & ~right).sum()), int((right & ~other).sum())
            if for_other - for_right > _SURELY * math.sqrt(for_other + for_right):
                raise CistError(
                    f"The most probable class is the token of its row in {int(right.sum()):,} of {len(right):,} rows, "
                    f"and the {which} row's token in {int(other.sum()):,}: the distributions are shifted by one "
                    "position. Pair each with the token that it predicts."
                )

    def entropy_bounds(self, tau: float) -> tuple[Vector, Vector]:
        """Bounds of the entropy of the whole soft labels at a fixed temperature, in nats: lower and upper, ``(N,)``.

        The probabilities are taken as they are stored; with half precision the bounds are that accurate, no more.

        Args:
            tau: positive, in the unit of the logits.

        Raises:
            CistError: if the temperature is not positive.
        """
        if not (tau > 0 and math.isfinite(tau)):
            raise CistError(f"Expected the temperature to be a positive number, but got {tau:g}.")
        parts = [_bounds(self.log_probs[rows], self.remaining[rows], self.vocabulary, 1 / tau) for rows in self._rows()]
        lower, upper = (np.concatenate(side) for side in zip(*parts, strict=True))
        return lower, upper

    def _rows(self) -> Iterator[slice]:
        step = max(1, CHUNK_VALUES // self.k)
        for start in range(0, self.num_samples, step):
            yield slice(start, start + step)


def read_top_k(
    path: str | os.PathLike[str], *, vocabulary: int | None = None, limits: ReadingLimits = GENEROUS_LIMITS
) -> TopK:
    """Read the k most probable classes of each sample: arrays, a capture of DistillKit, or what a server answered.

    The arrays of an ``.npz``, ``.pt``, ``.pth`` or ``.safetensors`` file: ``ids`` (or ``indices``, ``token_ids``,
    ``topk_ids``, ``top_indices``, ``target_token_ids``) and ``log_probs`` (or ``logprobs``,
    ``topk_logprobs``, ``top_values``, ``target_logprobs``), both ``(N, k)``, or ``(B, L, k)`` with a ``mask``
    ``(B, L)``; optionally ``remaining`` (or ``mass``, ``tail``), ``(N,)`` or ``(B, L)``, and ``vocabulary`` (or
    ``vocab_size``), one number.

    Captures are folders of ``.parquet``, or one such file: see `cist_core.logits.files.distillkit`. Their
    log-probabilities are compared with the tokens of their texts (`TopK.check_tokens`). The number of classes there is
    that of the tokenizer; a given one, such as that of a teacher with classes of padding, goes before.

    Answers of vLLM's server and data sets of axolotl are ``.json``, ``.jsonl`` or ``.parquet``: see
    `cist_core.logits.files.served`. Where they say which token came, it is compared likewise.

    Args:
        path: of the file, or of a folder with a capture.
        vocabulary: the number of classes, where the file does not say it.
        limits: how large the file may be.

    Raises:
        CistError: if it holds something else, or what it holds cannot be so.
    """
    source = Path(path)
    if not source.exists():
        raise CistError(f"There is no file or folder {source}.")
    with errors_naming(source):
        served = is_served(source, limits)
    if served:
        return _from_served(source, vocabulary, limits)
    if capture_files(source):
        return _from_capture(source, vocabulary, limits)
    file = _opened(source, limits)
    if file is None:
        records = f", nor log-probabilities in its first {LOOKED_AT} records" if source.suffix in ENDINGS else ""
        raise CistError(
            f"{source} holds no named arrays{records}; the most probable classes are read from "
            f"{', '.join(logit_endings('arrays'))}, from captures of DistillKit, and from answers of vLLM."
        )
    with errors_naming(source):
        if not holds_top_k(file):
            raise CistError(f"found the arrays {file.names()}, but not 'ids' and 'log_probs', both (samples, k).")
        ids, log_probs, remaining, said = _arrays(file, limits)
        provenance = {"file": source.name, **({} if said is None else {"tokens": said})}
        classes = _vocabulary(file.load(VOCABULARY_NAMES), vocabulary)
        return TopK.create(ids, log_probs, vocabulary=classes, remaining=remaining, provenance=provenance)


def is_top_k_file(path: str | os.PathLike[str]) -> bool:
    """Whether `read_top_k` is for this file; False for one that cannot be opened."""
    source = Path(path)
    try:
        with errors_naming(source):
            if is_served(source, GENEROUS_LIMITS):
                return True
            if files := capture_files(source):
                return layout_of(ParquetTable(files[0], GENEROUS_LIMITS, nested=True)) is not None
            file = _opened(source, GENEROUS_LIMITS)
            return file is not None and holds_top_k(file)
    except CistError:
        return False


def _from_served(source: Path, vocabulary: int | None, limits: ReadingLimits) -> TopK:
    with errors_naming(source):
        given = read_served(source, limits)
        top = TopK.create(
            given.ids,
            given.log_probs,
            vocabulary=_vocabulary(None, vocabulary),
            provenance={"file": source.name, "layout": given.said},
        )
        if given.tokens is not None:
            top.check_tokens(given.tokens)
        return top


def _from_capture(source: Path, vocabulary: int | None, limits: ReadingLimits) -> TopK:
    capture = read_capture(source, limits)
    with errors_naming(source):
        top = TopK.create(
            capture.ids,
            capture.log_probs,
            vocabulary=_vocabulary(capture.classes if vocabulary is None else None, vocabulary),
            stored_as=capture.stored_as,
            provenance={"file": source.name, "layout": capture.said},
        )
        if capture.tokens is not None:
            top.check_tokens(capture.tokens)
    return top


def _opened(source: Path, limits: ReadingLimits) -> StoredArrays | None:
    kind = find_format(source.suffix)
    if kind is None or kind.holds != "arrays":
        return None
    if not source.is_file():
        raise CistError(f"There is no file {source}.")
    with errors_naming(source):
        opened: StoredArrays = kind.open(source, limits)
        return opened


def _arrays(file: StoredArrays, limits: ReadingLimits) -> tuple[Any, Any, Any, str | None]:
    for names in (TOP_K_IDS, TOP_K_LOG_PROBS):
        name = str(file.find(names))
        limits.check_shape(file.arrays[name].shape, f"'{name}'")
    ids, log_probs, remaining = (file.load(names) for names in (TOP_K_IDS, TOP_K_LOG_PROBS, REMAINING_NAMES))
    said = None
    if log_probs.ndim == 3:
        mask = file.load(MASK_NAMES)
        log_probs, _, said = flatten_tokens(log_probs, mask)
        ids, _, _ = flatten_tokens(ids, mask)
        if remaining is not None:
            remaining = flatten_tokens(np.asarray(remaining)[..., None], mask)[0][:, 0]
    if file.find(TOP_K_LOG_PROBS) == PREPARED:
        refuse_renormalised(np.exp(log_probs.astype(np.float64)).sum(axis=-1))
    return ids, log_probs, remaining, said


def _vocabulary(stored: Any, given: int | None) -> int:
    """The number of classes, from the file or the caller; they must agree."""
    found = None
    if stored is not None:
        number = np.asarray(stored)
        if number.size != 1 or number.dtype.kind not in "iu":
            raise CistError(f"Expected the vocabulary to be one whole number, but got {number!r:.60}.")
        found = int(number.reshape(-1)[0])
    if found is None and given is None:
        raise CistError("the number of classes is not in it; give it with --vocabulary V, or store 'vocabulary'.")
    if found is not None and given is not None and found != given:
        raise CistError(f"it has a vocabulary of {found:,} classes, but {given:,} were given; leave --vocabulary out.")
    return int(given if found is None else found)  # type: ignore[arg-type]


def _valid(log_probs: NDArray[Any], ids: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Without the places that hold ``-inf`` where every row has as many: servers that give fewer classes than were
    asked for (vLLM gives 20 unless told otherwise) leave the rest at that."""
    if log_probs.shape != ids.shape or log_probs.ndim != 2 or log_probs.dtype.kind != "f" or not log_probs.size:
        return log_probs, ids
    order = np.argsort(-log_probs, axis=1, kind="stable")
    counts = np.count_nonzero(log_probs != -np.inf, axis=1)
    if not 0 < counts[0] < log_probs.shape[1] or (counts != counts[0]).any():
        return log_probs, ids
    kept = order[:, : counts[0]]
    return np.take_along_axis(log_probs, kept, axis=1), np.take_along_axis(ids, kept, axis=1)


def _checked_ids(ids: NDArray[Any], vocabulary: int) -> NDArray[np.int64]:
    if ids.ndim != 2 or ids.size == 0:
        raise CistError(f"Expected ids of the shape (samples, k), but got {ids.shape}.")
    if ids.dtype.kind not in "iu":
        raise CistError(f"Expected ids to be whole numbers, but got the type {ids.dtype}.")
    low, high = int(ids.min()), int(ids.max())
    if low < 0 or high >= vocabulary:
        wrong = low if low < 0 else high
        raise CistError(
            f"Expected ids from 0 to {vocabulary - 1:,}, but found {wrong:,}; give the vocabulary of the teacher, "
            "and leave padded positions out with a mask."
        )
    ordered = np.sort(ids, axis=1)
    twice = (ordered[:, 1:] == ordered[:, :-1]).any(axis=1)
    if twice.any():
        raise CistError(f"Expected different ids in each row, but sample {int(np.argmax(twice))} has one twice.")
    return ids.astype(np.int64)


def _checked_log_probs(values: NDArray[Any]) -> Vector:
    if values.ndim != 2 or values.dtype.kind != "f":
        raise CistError(
            f"Expected log-probabilities of the shape (samples, k), but got {values.shape} of the type {values.dtype}."
        )
    wide = values.astype(np.float64)
    if not np.isfinite(wide).all():
        row = int(np.argmax(~np.isfinite(wide).all(axis=1)))
        raise CistError(
            f"Expected finite log-probabilities, but sample {row} holds a value that is not; "
            "store the same number of classes for each sample, and leave padding out with a mask."
        )
    largest = wide.max(axis=1)
    if (largest > _MASS_TOLERANCE).any():
        row = int(np.argmax(largest))
        raise CistError(
            f"Expected log-probabilities of at most 0, but sample {row} has {largest[row]:.4g}; these may be logits, "
            "which need the log-sum-exp of all classes taken off first."
        )
    return np.minimum(wide, 0.0)


def _stored_as(values: NDArray[Any]) -> str:
    """Their type; bfloat16, which NumPy does not have, comes as float32 without its lower half."""
    if values.dtype == np.float32 and not (np.ascontiguousarray(values).view(np.uint32) & 0xFFFF).any():
        return "bfloat16"
    return str(values.dtype)


def _rounding(stored_as: str) -> tuple[float, float]:
    """The distance of a type's numbers from each other: at 1, and next to 0."""
    if stored_as == "bfloat16":
        return 2.0**-7, 2.0**-133
    kind = np.finfo(stored_as)
    return float(kind.eps), float(kind.smallest_subnormal)


def _mass(log_probs: Vector, rounding: tuple[float, float], given: NDArray[Any] | None, vocabulary: int) -> Vector:
    """The least and greatest mass of the unseen classes, ``(N, 2)``."""
    seen = np.exp(log_probs).sum(axis=1)
    # A logarithm is stored to half a step of its type, which near 0 is a number of its own (of differences that were
    # added up there are k), and a sum of k numbers is rounded k times.
    at_one, at_zero = rounding
    doubt = at_one * np.abs(np.exp(log_probs) * log_probs).sum(axis=1)
    doubt += at_zero * log_probs.shape[1] * seen + 2.0**-52 * (2 + log_probs.shape[1])
    if (seen > 1 + np.maximum(doubt, _MASS_TOLERANCE)).any():
        row = int(np.argmax(seen - doubt))
        raise CistError(
            f"Expected probabilities that sum to at most 1, but those of sample {row} have {seen[row]:.4g}."
        )
    least, most = 1 - seen - doubt, 1 - seen + doubt
    if given is not None:
        said_least, said_most = _given_mass(given, seen, log_probs.shape[1], doubt)
        # Both hold; where rounding has driven them apart, neither is believed alone.
        apart = np.maximum(least, said_least) > np.minimum(most, said_most)
        least = np.where(apart, np.minimum(least, said_least), np.maximum(least, said_least))
        most = np.where(apart, np.maximum(most, said_most), np.minimum(most, said_most))
    last = at_one * np.abs(log_probs[:, -1]) + at_zero
    return _possible(np.stack([least, most], axis=1), log_probs, vocabulary, last)


def _given_mass(given: NDArray[Any], seen: Vector, k: int, doubt: Vector) -> tuple[Vector, Vector]:
    if given.shape != seen.shape or given.dtype.kind != "f":
        raise CistError(f"Expected a remaining mass for each of the {len(seen):,} samples, but got {given.shape}.")
    mass = given.astype(np.float64)
    wrong = ~(np.abs(seen + mass - 1) <= 2 * _MASS_TOLERANCE) | (mass < -_MASS_TOLERANCE)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise CistError(
            f"Expected probabilities and remaining mass to sum to 1, but those of sample {row} sum to "
            f"{seen[row]:.4g} and {mass[row]:.4g}; store 1 minus the sum, or leave the mass out."
        )
    # It may be 1 minus a sum of k numbers, all in its own type, of probabilities that were rounded themselves.
    step = np.finfo(given.dtype)
    doubt = doubt + float(step.eps) * (1 + k) + float(step.smallest_subnormal)
    return mass - doubt, mass + doubt


def _possible(mass: Vector, log_probs: Vector, vocabulary: int, doubt: Vector) -> Vector:
    """No unseen class is more probable than the last seen one, whose logarithm is known up to this doubt."""
    most = (vocabulary - log_probs.shape[1]) * np.exp(log_probs[:, -1] + doubt)
    wrong = mass[:, 0] > most * (1 + _MASS_TOLERANCE) + _MASS_TOLERANCE
    if wrong.any():
        row = int(np.argmax(wrong))
        raise CistError(
            f"Expected the most probable classes of each sample, but those of sample {row} leave a mass of "
            f"{mass[row, 0]:.4g}, more than the {most[row]:.4g} that the other {vocabulary - log_probs.shape[1]:,} "
            "classes can have; give the vocabulary of the teacher, and store the k largest, not drawn ones."
        )
    return np.clip(mass, 0.0, most[:, None])


def _bounds(log_probs: Vector, mass: Vector, vocabulary: int, beta: float) -> tuple[Vector, Vector]:
    """Everything is taken relative to ``p_1^beta``, so that no power underflows."""
    unseen = vocabulary - log_probs.shape[1]
    scaled = beta * (log_probs - log_probs[:, :1])
    powers = np.exp(scaled)
    seen = powers.sum(axis=1)
    products = (powers * scaled).sum(axis=1)
    last = scaled[:, -1]
    low, high = _unseen_range(log_probs, mass, unseen, beta)
    total = seen + low
    lower = np.log(total) - (products + low * last) / total
    seen_entropy = np.log(seen) - products / seen
    if not unseen:
        return lower, np.maximum(seen_entropy, lower)
    best = unseen / (unseen + np.exp(seen_entropy))
    share = np.clip(best, low / total, high / (seen + high))
    upper = _binary_entropy(share) + (1 - share) * seen_entropy + share * math.log(unseen)
    return np.maximum(lower, 0.0), np.maximum(np.minimum(upper, math.log(vocabulary)), lower)


def _unseen_range(log_probs: Vector, mass: Vector, unseen: int, beta: float) -> tuple[Vector, Vector]:
    """The smallest and largest sum of ``q^beta`` over the unseen classes, relative to ``p_1^beta``."""
    if not unseen:
        return np.zeros(len(mass)), np.zeros(len(mass))
    smallest, largest = (_concentrated, _even) if beta < 1 else (_even, _concentrated)
    low = smallest(log_probs, mass[:, 0], unseen, beta)
    return low, np.maximum(largest(log_probs, mass[:, 1], unseen, beta), low)


def _even(log_probs: Vector, mass: Vector, unseen: int, beta: float) -> Vector:
    with np.errstate(divide="ignore"):
        each = np.log(mass) - math.log(unseen)
    spread: Vector = np.where(mass > 0, unseen * np.exp(beta * (each - log_probs[:, 0])), 0.0)
    return spread


def _concentrated(log_probs: Vector, mass: Vector, unseen: int, beta: float) -> Vector:
    """As many classes as fit at ``p_k``, and one with the rest."""
    with np.errstate(divide="ignore"):
        fitting = np.minimum(np.exp(np.minimum(np.log(mass) - log_probs[:, -1], 700.0)), unseen)
    whole = np.floor(fitting)
    packed: Vector = (whole + (fitting - whole) ** beta) * np.exp(beta * (log_probs[:, -1] - log_probs[:, 0]))
    return packed


def _binary_entropy(share: Vector) -> Vector:
    from scipy.special import entr

    both: Vector = entr(share) + entr(1 - share)
    return both
