"""What the numbers of a file are: logits, log-probabilities or probabilities; and logits of the same soft labels."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from cist_core.errors import CistError
from cist_core.logits.absent_classes import listed, takes_part
from cist_core.logits.files.names import LOG_PROBABILITY_NAMES, PROBABILITY_NAMES
from cist_core.logits.scratch import scratch_array

GivenAs = Literal["auto", "logits", "log-probabilities", "probabilities"]
GIVEN_AS: tuple[str, ...] = get_args(GivenAs)

LARGEST_FLOOR = 1e-12
"""A probability of 0 counts as the smallest one in the file, and as no more than this."""

_EXACT = 1e-2  # how far rows of half precision stray from a sum of 1, at most
_ABOUT_ONE = 0.1  # and rows that were rounded, averaged or cut off
_ABOUT_ONE_ROUNDED = 0.35  # half of them, where rounding explains the rest
_WORTH_SAYING = 1e-4
_BELOW_ZERO = -1e-6  # 1 minus a sum of others
_MOST_DECIMALS = 6
_FEW = 0.05  # of the rows of a sample
_LARGEST_MEAN = 0.35  # of what was rounded to 0, in units of the last decimal; none exceeds 0.5
_SOME_ROWS = 10  # fewer are no evidence that sums near 1, or near 100, are meant to be so
_PROBED_ROWS = 1000
CHUNK_VALUES = 1 << 20
_SAMPLES_A_CLASS = 10  # from so many on, a class that rounding makes 0 in every sample is none of the teacher's


class Conversion(NamedTuple):
    """Logits, and what was recognised and done.

    Attributes:
        logits: ``(N, C)``.
        said: a clause, which is None for logits that were given as such.
        clipped: what rests on the floor that zeros were clipped to; None where nothing was clipped.
    """

    logits: NDArray[Any]
    said: str | None = None
    clipped: str | None = None

    @property
    def provenance(self) -> dict[str, str]:
        """The same for `LogitSet.provenance`."""
        said = {"given_as": self.said, "clipped": self.clipped}
        return {key: text for key, text in said.items() if text is not None}


def as_logits(
    values: NDArray[Any], given_as: GivenAs = "auto", *, name: str | None = None
) -> tuple[NDArray[Any], str | None]:
    """Logits of the same soft labels, and what was recognised and done: the first two of `convert`.

    Example:
        >>> as_logits(np.array([[0.5, 0.25, 0.25]]))[0].round(3).tolist()
        [[-0.6930000185966492, -1.3860000371932983, -1.3860000371932983]]
        >>> as_logits(np.array([[0.98, 0.01, 0.01], [0.33, 0.33, 0.33]]))[1][:36]
        'probabilities, rounded to 2 decimals'
        >>> as_logits(np.array([[2.0, -1.0, 0.5]]))[1] is None
        True
    """
    found = convert(values, given_as, name=name)
    return found.logits, found.said


def convert(
    values: NDArray[Any],
    given_as: GivenAs = "auto",
    *,
    name: str | None = None,
    labels: NDArray[np.int64] | None = None,
) -> Conversion:
    """Logits of the same soft labels, and what was recognised and done.

    Log-probabilities are logits as they are. The logarithms of probabilities are logits, ``softmax(ln p) = p``; rows
    are divided by their sums, percentages by 100. A probability of 0 has no logarithm, so it counts as the smallest one
    of the file, or as 1e-12 where that is smaller; where numbers were rounded, as its share of what all rows together
    lack to 1, if they lack anything. A log-probability of ``-inf`` is treated as a 0. The floor decides the mean of
    such a row's logits, and through it its centred maximum: ``clipped`` says by how much.

    A class that is 0 in every sample takes no part, and its logits are ``-inf``, which `LogitSet.create` leaves out.
    Where rounding or half precision can have made the zeros, that needs ten samples a class, and no label of it.

    ``"auto"`` weighs all rows. They are probabilities if most of them lie between 0 and 1 and sum to 1 within 0.01; or
    within three times the deviation that nine tenths of ten or more keep to, at most 0.1; or within what the decimals
    explain that the numbers were rounded or cut off to (0.1 for 10 classes and 2 decimals). If some rows do not fit,
    the first of them is named and all are refused. Log-probabilities are recognised likewise, and need no refusal,
    because they are taken as they are.

    Args:
        values: ``(N, C)``.
        given_as: what they are. That is believed as far as it can be true: no probability is negative, and no
            log-probability positive.
        name: of the array or column they come from, which is evidence too.
        labels: of the samples, ``(N,)``, which are evidence of the classes.

    Raises:
        CistError: if the numbers cannot be what they are said to be, or only most of them are probabilities.

    Example:
        >>> convert(np.array([[0.75, 0.25, 0.0], [0.25, 0.5, 0.25]])).said
        'probabilities; their logarithms were taken; 1 of 6 are 0 and count as 1e-12'
    """
    if given_as not in GIVEN_AS:
        raise CistError(f"Expected given_as to be {', '.join(GIVEN_AS)}, but got '{given_as}'.")
    if not values.size or values.ndim != 2 or values.dtype.kind not in "fiu":
        return Conversion(values)  # refused elsewhere, with their shape or type
    if given_as == "auto":
        return _recognised(values, name, labels)
    if given_as == "probabilities":
        return _stated_probabilities(values, labels)
    if given_as == "log-probabilities":
        return _stated_log_probabilities(values)
    looks = _probed(values).kind(name)
    return Conversion(
        values,
        None
        if looks != "probabilities"
        else "logits, as was said, although rows lie between 0 and 1 and sum to 1, as probabilities do",
    )


# ---- evidence --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Survey:
    """Of every row the smallest number, the largest, the sum, and the sum of the exponentials where none is above 0."""

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    total: NDArray[np.float64]
    exponentials: NDArray[np.float64]
    classes: int
    decimals: int | None  # that the numbers were rounded to

    @classmethod
    def of(cls, values: NDArray[Any]) -> _Survey:
        parts = [_row_figures(rows) for rows in _chunks(values)]
        low, high, total, exponentials = (np.concatenate(each) for each in zip(*parts, strict=True))
        return cls(low, high, total, exponentials, values.shape[1], _decimals(_sample(values)))

    def kind(self, name: str | None) -> str:
        """What most rows are."""
        named = name in PROBABILITY_NAMES
        about = _ABOUT_ONE if self.decimals is None else _ABOUT_ONE_ROUNDED
        if _most(fits := self.probable(1)) and (named or np.median(np.abs(self.total[fits] - 1)) <= about):
            return "probabilities"
        if len(self.low) >= _SOME_ROWS and _most(self.probable(100)):
            return "percentages"
        return "log-probabilities" if _most(self.logarithmic) else "logits"

    def probable(self, scale: int) -> NDArray[np.bool_]:
        """Which rows can be probabilities, or percentages where the scale is 100."""
        low, high, total = self.low / scale, self.high / scale, self.total / scale
        with np.errstate(invalid="ignore"):
            inside = (low >= _BELOW_ZERO) & (high <= 1 + _EXACT) & (total > 0)
            apart = self._usual(np.abs(total - 1), inside)
            step = self.step(scale) * self.classes
            below, above = np.maximum(apart, step), np.maximum(apart, np.minimum(step, total) / 2)
            fits: NDArray[np.bool_] = inside & (total >= 1 - below) & (total <= 1 + above)
        return fits

    @cached_property
    def logarithmic(self) -> NDArray[np.bool_]:
        """Which rows can be log-probabilities. Half precision moves the sum by its rounding times the entropy."""
        with np.errstate(invalid="ignore"):
            inside, deviation = self.high <= _EXACT, np.abs(self.exponentials - 1)
            fits: NDArray[np.bool_] = inside & (
                deviation <= self._usual(deviation, inside) + math.log(max(2, self.classes)) / 512
            )
        return fits

    def rules_out_all_but_logits(self) -> bool:
        """Whether so few rows of a sample look like anything else that most rows of the whole cannot."""
        others = [self.probable(1), self.probable(100), self.within_one]
        if not self.centred or self.logarithmic.all():
            others.append(self.logarithmic)
        return not any(np.mean(which) > _FEW for which in others)

    @property
    def within_one(self) -> NDArray[np.bool_]:
        """Which rows lie between 0 and 1, whatever they sum to."""
        with np.errstate(invalid="ignore"):
            within: NDArray[np.bool_] = (self.low >= 0) & (self.high <= 1) & (self.total > 0)
        return within

    @staticmethod
    def _usual(deviation: NDArray[np.float64], inside: NDArray[np.bool_]) -> float:
        """How far sums may stray from 1 without standing out."""
        if np.count_nonzero(inside) < _SOME_ROWS:
            return _EXACT  # a few rows can be so by chance
        return min(max(_EXACT, 3 * float(np.quantile(deviation[inside], 0.9))), _ABOUT_ONE)

    def step(self, scale: int) -> float:
        """The last decimal, which is what a number can have lost where it was cut off."""
        if self.decimals is None or (self.decimals == 0 and scale == 1):
            return 0.0
        return 10.0**-self.decimals / scale

    @property
    def centred(self) -> bool:
        """Whether most rows have a largest number of exactly 0: logits less their maximum."""
        return _most(self.high == 0)


def _row_figures(rows: NDArray[Any]) -> tuple[NDArray[np.float64], ...]:
    wide = rows.astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        exponentials = np.exp(np.minimum(wide, 1.0)).sum(axis=1)
        return wide.min(axis=1), wide.max(axis=1), wide.sum(axis=1), exponentials


def _sample(values: NDArray[Any]) -> NDArray[Any]:
    count = max(1, min(len(values), _PROBED_ROWS, CHUNK_VALUES // values.shape[1]))
    return np.asarray(values[np.linspace(0, len(values) - 1, count).astype(int)])


def _probed(values: NDArray[Any]) -> _Survey:
    return _Survey.of(_sample(values))


def _decimals(rows: NDArray[Any]) -> int | None:
    """How many decimals the numbers have, if they have few; the type has to be able to tell."""
    if rows.dtype.kind in "iu":
        return 0
    wide = rows[np.isfinite(rows)].astype(np.float64)
    smallest = np.min(np.abs(wide), where=wide != 0, initial=math.inf)
    for decimals in range(_MOST_DECIMALS + 1):
        blur = float(np.finfo(rows.dtype).eps) * 10**decimals * max(1.0, float(np.abs(wide).max(initial=0.0)))
        if blur > 0.2:
            return None
        scaled = wide * 10**decimals
        if smallest * 10**decimals >= 0.5 and np.all(np.abs(scaled - np.round(scaled)) <= blur + 1e-9):
            return decimals
    return None


def _most(which: NDArray[np.bool_]) -> bool:
    return bool(2 * np.count_nonzero(which) > len(which))


# ---- recognised ------------------------------------------------------------------------------------------------------


def _recognised(values: NDArray[Any], name: str | None, labels: NDArray[np.int64] | None) -> Conversion:
    if name not in PROBABILITY_NAMES + LOG_PROBABILITY_NAMES and _probed(values).rules_out_all_but_logits():
        return Conversion(values)
    survey = _Survey.of(values)
    kind = survey.kind(name)
    if kind in ("probabilities", "percentages"):
        scale = 1 if kind == "probabilities" else 100
        strange = np.flatnonzero(~survey.probable(scale))
        if len(strange):
            raise CistError(_disagreement(values, survey, strange, kind))
        return _logarithms(values, survey, scale, "", labels)
    if kind == "log-probabilities":
        return _as_they_are(values, survey)
    return Conversion(values, _logits_after_all(survey, name))


def _logits_after_all(survey: _Survey, name: str | None) -> str | None:
    """What to say of logits that look or are called like something else.

    Raises:
        CistError: for numbers that are called probabilities, lie between 0 and 1, and have no sum of 1.
    """
    sums = _range(survey.total)
    if survey.within_one.all():
        if name in PROBABILITY_NAMES:
            raise CistError(
                f"'{name}' lies between 0 and 1, but its rows sum to {sums}, not to 1, as scores of independent "
                "classes do; state what they are: --given-as probabilities divides each row by its sum, --given-as "
                "logits takes them as they are."
            )
        return (
            f"logits, although every number lies between 0 and 1: rows sum to {sums}, not to 1; --given-as "
            "probabilities divides each by its sum"
        )
    if name in PROBABILITY_NAMES:
        span = f"{survey.low.min():.4g} to {survey.high.max():.4g}"
        return f"logits, although they are called '{name}': they run from {span}, and probabilities from 0 to 1"
    if name in LOG_PROBABILITY_NAMES:
        return _unnormalised(survey, f"logits, although they are called '{name}'")
    return None


def _disagreement(values: NDArray[Any], survey: _Survey, strange: NDArray[np.int64], kind: str) -> str:
    count, number = len(survey.low), int(strange[0])
    whole, most = ("1", "0 and 1") if kind == "probabilities" else ("100", "0 and 100")
    more = f" (and {len(strange) - 1:,} more)" if len(strange) > 1 else ""
    row = np.asarray(values[number], np.float64)
    if np.isfinite(row).all():
        found = f"lies between {row.min():.4g} and {row.max():.4g} and sums to {row.sum():.4g}"
    else:
        place = int(np.flatnonzero(~np.isfinite(row))[0])
        found = f"has the value {row[place]} at class {place}"
    usable = bool((survey.low >= _BELOW_ZERO).all() and (survey.total > 0).all())
    either = "--given-as probabilities divides each row by its sum, " if usable else ""
    return (
        f"{count - len(strange):,} of {count:,} samples are {kind} (between {most}, with a sum of {whole}), but sample "
        f"{number:,} {found}{more}; mend or remove it, or state what all are: {either}--given-as logits takes them as "
        "they are."
    )


# ---- stated ----------------------------------------------------------------------------------------------------------


def _stated_probabilities(values: NDArray[Any], labels: NDArray[np.int64] | None) -> Conversion:
    survey = _Survey.of(values)
    with np.errstate(invalid="ignore"):
        wrong = np.flatnonzero(~((survey.low >= _BELOW_ZERO) & (survey.total > 0) & np.isfinite(survey.total)))
    if len(wrong):
        number = int(wrong[0])
        row = np.asarray(values[number], np.float64)
        if survey.low[number] >= _BELOW_ZERO and np.isfinite(row).all():
            raise CistError(f"sample {number:,} sums to 0, so it gives no class a probability; remove that sample.")
        place = int(np.argmin(row)) if np.isfinite(row).all() else int(np.flatnonzero(~np.isfinite(row))[0])
        raise CistError(
            f"a probability is a finite number of at least 0, but the value at sample {number:,}, class {place} is "
            f"{row[place]:.4g}; {_instead(survey, len(wrong))}."
        )
    scale = 100 if survey.kind(None) == "percentages" else 1
    return _logarithms(values, survey, scale, ", as was said", labels)


def _stated_log_probabilities(values: NDArray[Any]) -> Conversion:
    survey = _Survey.of(values)
    with np.errstate(invalid="ignore"):
        wrong = np.flatnonzero(~(survey.high <= _EXACT))
    if len(wrong):
        number = int(wrong[0])
        row = np.asarray(values[number], np.float64)
        place = int(np.argmax(row))
        raise CistError(
            f"a log-probability is a number of at most 0, but the value at sample {number:,}, class {place} is "
            f"{row[place]:.4g}; {_instead(survey, len(wrong))}."
        )
    if survey.logarithmic.all():
        return _as_they_are(values, survey)
    return _finite(values, _unnormalised(survey, "log-probabilities, as was said"))


def _instead(survey: _Survey, wrong: int) -> str:
    """What to do about numbers that are not what was said: what most of them look like, unless a few are damaged."""
    if 2 * wrong <= len(survey.low):
        return f"mend or remove {'that sample' if wrong == 1 else f'those {wrong:,} samples'}"
    kind = survey.kind(None)
    return f"they look like {kind}: use --given-as {'probabilities' if kind == 'percentages' else kind}"


# ---- what is done ----------------------------------------------------------------------------------------------------


def _logarithms(
    values: NDArray[Any], survey: _Survey, scale: int, stated: str, labels: NDArray[np.int64] | None
) -> Conversion:
    coarse = survey.decimals is not None or values.dtype == np.float16
    # A small probability may be 0 by rounding, or in a few samples by underflow: then a label makes its class one.
    doubtful = coarse or len(values) < _SAMPLES_A_CLASS * values.shape[1]
    zeros = _Zeros.of(values, lambda rows: rows > 0, labels=labels if doubtful else None, coarse=coarse)
    said = ("probabilities" if scale == 1 else "percentages") + stated
    deviation = float(np.abs(survey.total / scale - 1).max())
    least = min(zeros.smallest / scale, LARGEST_FLOOR)
    floor, count = np.full((len(values), 1), least), zeros.total
    shared = False
    if survey.decimals is not None and deviation > _WORTH_SAYING:
        way, shares = _lost_to_rounding(survey, zeros, scale)
        said += f", {way} to {survey.decimals} decimal{'s' * (survey.decimals != 1)}"
        shared = shares is not None and count > 0
        floor = floor if shares is None else np.maximum(shares, least)[:, None]
    if deviation > _WORTH_SAYING:
        said += f"; rows sum to {_range(survey.total)}, and each was divided by its sum"
    said += "; their logarithms were taken"
    if shared:
        least = float((floor[:, 0] * zeros.counts).sum() / count)
        said += (
            f"{_clipped(count, values.size, least)} on average, their share of what rows lack to 1; soft labels depend "
            "on it above τ = 1, and CIST's at any ρ"
        )
    else:
        said += _clipped(count, values.size, least)
    said += zeros.said
    divide = deviation > _WORTH_SAYING or scale != 1

    def converted(rows: NDArray[np.float64], start: int) -> NDArray[np.float64]:
        filled = np.maximum(rows / scale, floor[start : start + len(rows)])
        filled[:, zeros.absent] = 0
        if divide:
            filled /= filled.sum(axis=1, keepdims=True)
        with np.errstate(divide="ignore"):
            logs: NDArray[np.float64] = np.log(filled)
        return logs

    logits = _converted(values, converted)
    return Conversion(logits, said, _resting_on_floor(logits, zeros, least, "probabilities are 0"))


def _lost_to_rounding(survey: _Survey, found: _Zeros, scale: int) -> tuple[str, NDArray[np.float64] | None]:
    """How the numbers were shortened, and what a 0 of each row stands for then: its share of what the row lacks to 1.

    Rounding takes from the other numbers as much as it gives, so what a row lacks is what its zeros had, and an error
    with the variance ``n step^2 / 12`` of ``n`` others. It is drawn towards the mean of all rows by the part of its
    variance that is such error. Where no row reaches 1 and zeros would stand for more than rounding makes zeros of,
    numbers were cut off instead, and the others lack half of their last decimal each.
    """
    step, totals, zeros = survey.step(scale), survey.total / scale, found.counts
    lacking, others, way = 1 - totals, survey.classes - len(found.absent) - zeros, "rounded"
    if bool((totals <= 1 - step / 2).all()) and lacking.sum() > _LARGEST_MEAN * step * zeros.sum():
        lacking, way = lacking - others * step / 2, "cut off"
    if not zeros.any() or lacking.sum() <= LARGEST_FLOOR * zeros.sum():
        return way, None
    per_zero = lacking.sum() / zeros.sum()
    expected = per_zero * zeros
    spread, error = float(np.mean((lacking - expected) ** 2)), float(np.mean(others)) * step**2 / 12
    trust = 1 - error / spread if error < spread else 0.0
    drawn = expected + trust * (lacking - expected)
    return way, np.clip(drawn / np.maximum(zeros, 1), 0.0, step / 2)


def _as_they_are(values: NDArray[Any], survey: _Survey) -> Conversion:
    strange = np.flatnonzero(~survey.logarithmic)
    if not len(strange):
        return _finite(values, "log-probabilities, which are logits as they are")
    if survey.centred:
        return Conversion(values)
    number = int(strange[0])
    return Conversion(
        values,
        f"log-probabilities, which are logits as they are, though the exponentials of sample {number:,} sum to "
        f"{_sum_of_exponentials(values[number]):.4g}"
        + (f" (and {len(strange) - 1:,} more do not sum to 1)" if len(strange) > 1 else ""),
    )


def _unnormalised(survey: _Survey, said: str) -> str:
    if (survey.high > 1).any():  # the exponentials of larger numbers were not taken
        return f"{said}: they go up to {survey.high.max():.4g}, and the logarithm of a probability to 0"
    return (
        f"{said}; the exponentials of a row sum to {_range(survey.exponentials)}, not 1, and are divided by their sum"
    )


def _finite(values: NDArray[Any], said: str) -> Conversion:
    zeros = _Zeros.of(values, np.isfinite, ordinary=lambda rows: takes_part(rows.astype(np.float64)))
    if not zeros.total:
        return Conversion(values, said + zeros.said)
    floor = min(zeros.smallest, math.log(LARGEST_FLOOR))

    def converted(rows: NDArray[np.float64], start: int) -> NDArray[np.float64]:
        filled = np.where(rows == -np.inf, floor, rows)
        filled[:, zeros.absent] = -np.inf
        return filled

    logits, least = _converted(values, converted), math.exp(floor)
    said += _clipped(zeros.total, values.size, least) + zeros.said
    return Conversion(logits, said, _resting_on_floor(logits, zeros, least, "log-probabilities are -inf"))


def _clipped(zeros: int, values: int, floor: float) -> str:
    return f"; {zeros:,} of {values:,} are 0 and count as {floor:.3g}" if zeros else ""


def _range(values: NDArray[np.float64]) -> str:
    low, high = f"{values.min():.3g}", f"{values.max():.3g}"
    return low if low == high else f"{low} to {high}"


def _sum_of_exponentials(row: NDArray[Any]) -> float:
    return float(np.exp(np.minimum(np.asarray(row, np.float64), 700.0)).sum())


@dataclass(frozen=True, eq=False)
class _Zeros:
    """Probabilities of 0: in classes that have nothing else, which take no part, and the others, which are clipped.

    Attributes:
        counts: of those to be clipped in each row, ``(N,)``.
        smallest: of all other numbers.
        absent: the classes that take no part, by number.
        unsure: the classes that are 0 throughout as well, but may be so by rounding.
    """

    counts: NDArray[np.int64]
    smallest: float
    absent: NDArray[np.int64]
    unsure: NDArray[np.int64]

    @classmethod
    def of(
        cls,
        values: NDArray[Any],
        kept: Callable[[NDArray[Any]], NDArray[np.bool_]],
        *,
        ordinary: Callable[[NDArray[Any]], NDArray[np.bool_]] | None = None,
        labels: NDArray[np.int64] | None = None,
        coarse: bool = False,
    ) -> _Zeros:
        """Count them.

        Args:
            values: ``(N, C)``.
            kept: which numbers of some rows are no zeros.
            ordinary: which of them are no masks either; all by default.
            labels: of the samples, whose classes take part whatever the numbers say.
            coarse: whether a small probability can have become 0 by rounding.
        """
        count, classes = values.shape
        smallest, present = math.inf, np.zeros(classes, np.bool_)
        for rows in _chunks(values):
            fine = kept(rows) if ordinary is None else ordinary(rows)
            smallest = min(smallest, float(np.min(rows, where=fine, initial=math.inf)))
            present |= fine.any(axis=0)
        absent = ~present
        if labels is not None:
            absent[labels] = False
        if classes - np.count_nonzero(absent) < 2 or (coarse and count < _SAMPLES_A_CLASS * classes):
            absent[:] = False
        counts = [np.count_nonzero(~kept(rows) & ~absent, axis=1) for rows in _chunks(values)]
        return cls(np.concatenate(counts), smallest, np.flatnonzero(absent), np.flatnonzero(~present & ~absent))

    @property
    def total(self) -> int:
        return int(self.counts.sum())

    @property
    def said(self) -> str:
        if not len(self.absent):
            return ""
        one = len(self.absent) == 1
        return (
            f"; {'class' if one else 'the classes'} {listed(self.absent, None)} {'is' if one else 'are'} 0 in every "
            f"sample and take{'s' * one} no part"
        )


def _resting_on_floor(logits: NDArray[Any], zeros: _Zeros, floor: float, what: str) -> str | None:
    """By how much a floor decides the centred maximum, which moves by ``ln 10 k / C`` where it is a tenth, ``k`` the
    zeros of a row and ``C`` its classes that take part."""
    if not zeros.total:
        return None
    classes = logits.shape[1] - len(zeros.absent)
    maximum = 0.0
    for rows in _chunks(logits):
        finite = np.where(np.isfinite(rows), rows, 0).astype(np.float64)
        maximum += float((rows.max(axis=1) - finite.sum(axis=1) / classes).sum())
    maximum /= len(logits)
    move = math.log(10) * zeros.total / (len(logits) * classes)
    remedy = "Export logits, or log-probabilities that were taken from logits, to be free of it"
    if (unsure := len(zeros.unsure)) == 1:
        remedy += f"; class {zeros.unsure[0]} is 0 in every sample: leave out its column if it takes no part"
    elif unsure:
        remedy += (
            f"; the classes {listed(zeros.unsure, None)} are 0 in every sample: leave out their columns if they take "
            "no part"
        )
    return (
        f"{zeros.total:,} of {logits.size:,} {what} and were clipped to a floor of {floor:.3g}, which goes into "
        f"the mean of the logits: the centred maximum m, {maximum:.3g} on average, would be {maximum - move:.3g} with "
        f"ten times that floor and {maximum + move:.3g} with a tenth of it, and the ρ that matches a τ moves with m. "
        f"{remedy}"
    )


def _converted(
    values: NDArray[Any], convert: Callable[[NDArray[np.float64], int], NDArray[np.float64]]
) -> NDArray[Any]:
    converted = scratch_array(values.shape, np.float32)
    start = 0
    for rows in _chunks(values):
        converted[start : start + len(rows)] = convert(rows.astype(np.float64), start)
        start += len(rows)
    return converted


def _chunks(values: NDArray[Any]) -> Iterator[NDArray[Any]]:
    step = max(1, CHUNK_VALUES // values.shape[1])
    for start in range(0, len(values), step):
        yield values[start : start + step]
