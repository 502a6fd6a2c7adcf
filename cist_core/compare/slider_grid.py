"""What two sliders show, computed beforehand: for the report, which has no Python behind it, and for the app, whose
pictures move while a slider is dragged without asking the server.

Every number and word of a position is computed here, by the functions that the pages use; the browser only looks them
up. Nothing is interpolated: the partner of a position, the one of the same mean entropy, is a position itself.
"""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cist_core.compare.findings import (
    GAINS,
    HEADLINES,
    are_matched,
    floor_sentence,
    gain_kind,
    headline_kind,
    one_label_sentence,
    rule_label,
    rule_name,
)
from cist_core.entropy.curves import EntropyCurves
from cist_core.temperature import Cist, Fixed, TemperatureRule
from cist_core.temperature.columns import profile_columns
from cist_core.temperature.profile import EntropyProfile, entropy_histogram
from cist_core.temperature.readings import RuleReading, read_rule
from cist_core.wording import how_many, percent, three_digits

TAU_RANGE, RHO_RANGE = (0.25, 20.0), (0.5, 15.0)
"""Ends of the two sliders, in the report and in the app."""

LANGUAGE_RHO_RANGE = (0.5, 30.0)
"""Over vocabularies, where the centred maximum is 15 to 18 at half of the tokens and a temperature of 1 is usual."""

POINTS = 240
"""Up to this many samples are drawn one by one in the picture of the ratios."""

RATIOS_MOVE = "Under {first} the ratios of the middle 90 % of the samples run from {low} to {high}; under CIST {held}"
"""What the picture of the ratios shows."""

_COLUMNS = profile_columns("mean", "std", "q05", "q95", "over_sharp", "over_smoothed", "at_floor")
NUMBERS = [column.name for column in _COLUMNS]
"""Headings of the table under the sliders."""

NOTES = {
    "apart": "Not matched: spreads at different mean entropies cannot be compared.",
    "out of reach": "No partner within the sliders has this mean entropy: the pair is not matched.",
    "below floor": "CIST has a floor of {floor}: no ρ has the mean entropy of a lower τ, and the pair is not matched.",
}

LITTLE_SAID = (
    "Each soft label should teach about equally much. One temperature: {first} say almost nothing. CIST: {second}."
)
"""What a pair leaves unsaid, by the shares of samples that are over-sharp or over-smoothed."""

MARKS = (1.0, 2.0, 4.0, 8.0)
"""Values that both sliders are marked with, and have a position at."""

# Each range is read at so many positions, and at the partners of the other's. Logits of more than so many numbers get
# fewer, so that a report of the largest sets takes seconds, not minutes.
_FEWEST, _MOST = 12, 80
FULL_SIZE = 50_000_000


@dataclass(frozen=True)
class Position:
    """One place of a slider: a rule, its profile, and what is drawn of it.

    Attributes:
        rule: the rule that the slider gives here.
        profile: over all samples.
        counts: histogram of the entropies, ``(60,)``.
        drawn: entropies of the samples that are drawn, ``(n,)`` in 255ths of ``ln C``.
        same_label: as `RuleReading.same_label`.
        student_at_floor: share of the samples at which the floor decides the student's temperature; None without a
            student.
    """

    rule: Fixed | Cist
    profile: EntropyProfile
    counts: NDArray[np.int64]
    drawn: NDArray[np.uint8]
    same_label: float = 0.0
    student_at_floor: float | None = None

    @property
    def value(self) -> float:
        """Tau or rho."""
        return self.rule.tau if isinstance(self.rule, Fixed) else self.rule.rho

    @classmethod
    def of(cls, reading: RuleReading, curves: EntropyCurves, drawn: NDArray[np.int64] | None = None) -> Position:
        """The position of a reading.

        Args:
            reading: of a fixed temperature or a CIST rule.
            curves: that it was read on.
            drawn: the samples that are drawn one by one; none where nothing draws them.
        """
        if not isinstance(reading.rule, Fixed | Cist):
            raise TypeError(f"Expected a fixed temperature or a CIST rule, but got {reading.rule}.")
        entropy = reading.entropy[:0] if drawn is None else reading.entropy[drawn]
        return cls(
            rule=reading.rule,
            profile=reading.profile,
            counts=entropy_histogram(reading.entropy, curves.num_classes),
            drawn=np.clip(np.rint(entropy * (255 / curves.max_entropy)), 0, 255).astype(np.uint8),
            same_label=reading.same_label,
            student_at_floor=None if reading.student_at_floor is None else float(reading.student_at_floor.mean()),
        )


@dataclass(frozen=True)
class SliderGrid:
    """All positions of both sliders.

    Attributes:
        taus: by temperature.
        rhos: by rho.
        start: the pair that the report is about, as indices of the two.
        partners_of_taus: for each temperature the index of the rho with the nearest mean entropy, ``(len(taus),)``.
        partners_of_rhos: and the other way round.
        matched: which pairs have the same mean entropy, ``(len(taus), len(rhos))``.
        maxima: centred maxima of the samples that are drawn, ``(n,)``.
        middle: centred maxima that 5 % and 95 % of the samples stay below.
        max_entropy: ``ln C`` in nats.
        floor: of CIST, the same at every position, in logit units.
    """

    taus: Sequence[Position]
    rhos: Sequence[Position]
    start: tuple[int, int]
    partners_of_taus: NDArray[np.int64]
    partners_of_rhos: NDArray[np.int64]
    matched: NDArray[np.bool_]
    maxima: NDArray[np.float64]
    middle: tuple[float, float]
    max_entropy: float
    floor: float

    def ratios_move(self, tau: Position, rho: Position) -> str:
        """The finding over the picture of the ratios, at two positions."""
        low, high = (three_digits(maximum / tau.value) for maximum in self.middle)
        return RATIOS_MOVE.format(first=rule_label(tau.rule), low=low, high=high, held=_held(rho))

    def ratios(self, position: Position) -> NDArray[np.float64]:
        """The ratios of the samples that are drawn, ``(n,)``; 0 for constant rows."""
        if isinstance(position.rule, Fixed):
            return np.asarray(self.maxima / position.value)
        temperatures = np.maximum(self.maxima / position.value, self.floor)
        return np.asarray(np.divide(self.maxima, temperatures, out=np.zeros(len(self.maxima)), where=self.maxima > 0))

    def to_json(self, *, ratios: bool = True) -> dict[str, Any]:
        """The grid for a page, compact: words where it shows words, numbers where it compares or draws them.

        Args:
            ratios: with what the picture of the ratios shows; the app's pages draw theirs from the samples.
        """
        low, high = self.middle
        taus, rhos = ([_position(position) for position in side] for side in (self.taus, self.rhos))
        shown: dict[str, Any] = {
            "start": self.start,
            "taus": taus,
            "rhos": rhos,
            "partnersOfTaus": self.partners_of_taus.tolist(),
            "partnersOfRhos": self.partners_of_rhos.tolist(),
            "maxEntropy": self.max_entropy,
            "floor": self.floor,
            "samples": self.taus[0].profile.samples,
            "headlineOf": self._kinds(HEADLINES, headline_kind),
            "gainOf": self._kinds(GAINS, gain_kind),
            **sentences_json(self.rhos[0].rule, self.floor),
        }
        if ratios:
            for position, entry in zip(self.taus, taus, strict=True):
                entry |= {"low": three_digits(low / position.value), "high": three_digits(high / position.value)}
                entry["drawn"] = base64.b64encode(position.drawn.tobytes()).decode()
            for position, entry in zip(self.rhos, rhos, strict=True):
                entry |= {"held": _held(position), "sentences": rho_sentences(position)}
                entry["drawn"] = base64.b64encode(position.drawn.tobytes()).decode()
            # The mean entropy falls along both sliders, so the matched rhos of a temperature are neighbours.
            shown["matched"] = [_ends(row) for row in self.matched]
            shown["maxima"] = [float(f"{maximum:.4g}") for maximum in self.maxima]
            shown["ratiosMove"] = RATIOS_MOVE
        return shown

    def _kinds(self, sentences: Mapping[str, str], kind: _Kind) -> list[str]:
        """Which of a few sentences each pair has: a row a temperature, in it a digit a rho, the sentence's place."""
        return [_digits(sentences, kind, [tau], self.rhos) for tau in self.taus]


_Kind = Callable[[EntropyProfile, EntropyProfile, float], str]


def _digits(sentences: Mapping[str, str], kind: _Kind, taus: Sequence[Position], rhos: Sequence[Position]) -> str:
    place = {name: str(index) for index, name in enumerate(sentences)}
    return "".join(place[kind(tau.profile, rho.profile, rho.same_label)] for tau in taus for rho in rhos)


def sentences_json(rule: TemperatureRule, floor: float) -> dict[str, Any]:
    """The sentences that the browser fills, for a CIST rule with a floor."""
    return {
        "headlines": HEADLINES,
        "headlineKinds": list(HEADLINES),
        "second": rule_name(rule),
        "gains": GAINS,
        "gainKinds": list(GAINS),
        "notes": {name: note.format(floor=f"{floor:.4g}") for name, note in NOTES.items()},
        "littleSaid": LITTLE_SAID,
    }


def pair_json(tau: Position, rho: Position, grid: SliderGrid | None) -> dict[str, Any]:
    """A pair that need not be on the grid, and which sentences it has with every position of it.

    Args:
        tau: a fixed temperature.
        rho: a CIST rule of the grid's floor.
        grid: to move on from the pair; None while it is not ready.
    """
    others = ([], []) if grid is None else (grid.taus, grid.rhos)
    kinds: tuple[tuple[str, Mapping[str, str], _Kind], ...] = (
        ("headline", HEADLINES, headline_kind),
        ("gain", GAINS, gain_kind),
    )
    return {"tau": _position(tau), "rho": _position(rho)} | {
        name: {
            "pair": _digits(sentences, kind, [tau], [rho]),
            "ofTau": _digits(sentences, kind, [tau], others[1]),
            "ofRho": _digits(sentences, kind, others[0], [rho]),
        }
        for name, sentences, kind in kinds
    }


def slider_javascript() -> str:
    """What fills the sentences of a pair in the browser, the same in the report and in the app."""
    return files("cist_core").joinpath("templates", "slider_grid.js").read_text(encoding="utf-8")


def slider_grid(
    fixed: RuleReading, cist: RuleReading, curves: EntropyCurves, *, rho_range: tuple[float, float] = RHO_RANGE
) -> SliderGrid:
    """Read the whole range of both sliders on curves.

    Args:
        fixed: a fixed temperature, the position the tau slider starts at.
        cist: a CIST rule, the position the rho slider starts at; its floor is that of all positions.
        curves: that both were read on; a table refuses temperatures beyond its largest ratio, which are left out.
        rho_range: ends of the rho slider.
    """
    grid = SliderGridReader(fixed, cist, curves, rho_range=rho_range).read_on()
    assert grid is not None
    return grid


class SliderGridReader:
    """Reads a grid a little at a time, so that a page can answer in between; arguments as `slider_grid`.

    Several threads may ask for it: one of them reads.
    """

    def __init__(
        self,
        fixed: RuleReading,
        cist: RuleReading,
        curves: EntropyCurves,
        *,
        rho_range: tuple[float, float] = RHO_RANGE,
    ) -> None:
        self._steps = _read_grid(fixed, cist, curves, rho_range)
        self._reading = threading.Lock()
        self.grid: SliderGrid | None = None

    def read_on(self, seconds: float = float("inf")) -> SliderGrid | None:
        """The grid if it is whole after about so many seconds more; None where it is not yet."""
        until = time.monotonic() + seconds
        with self._reading:
            while self.grid is None:
                try:
                    next(self._steps)
                except StopIteration as whole:
                    self.grid = whole.value
                if time.monotonic() >= until:
                    break
        return self.grid


def _read_grid(
    fixed: RuleReading, cist: RuleReading, curves: EntropyCurves, rho_range: tuple[float, float]
) -> Generator[None, None, SliderGrid]:
    """Yields after every position that it has read."""
    if not (isinstance(fixed.rule, Fixed) and isinstance(cist.rule, Cist)):
        raise TypeError(f"Expected a fixed temperature and a CIST rule, but got {fixed.rule} and {cist.rule}.")
    drawn = _spread_out(curves)
    read = _reader(curves, drawn, fixed.profile)
    count = int(np.clip(_MOST * FULL_SIZE / (curves.num_samples * curves.num_classes), _FEWEST, _MOST))
    floor = cist.rule.floor
    taus = yield from read(
        Fixed(tau) for tau in [*_even(TAU_RANGE, count), fixed.rule.tau] if tau > curves.lowest_temperature
    )
    rhos = yield from read(Cist(rho, floor) for rho in [*_even(rho_range, count), cist.rule.rho])
    more_taus, more_rhos = _partners(rhos, taus), _partners(taus, rhos)
    taus = _sorted([*(yield from read(Fixed(tau) for tau in more_taus)), *taus])
    rhos = _sorted([*(yield from read(Cist(rho, floor) for rho in more_rhos)), *rhos])
    start = _index(taus, fixed.rule.tau), _index(rhos, cist.rule.rho)
    matched = np.array([[are_matched(tau.profile, rho.profile) for rho in rhos] for tau in taus])
    partners_of_taus, partners_of_rhos = _nearest(taus, rhos), _nearest(rhos, taus)
    if matched[start]:  # the pair of the report stays together, whatever else lies as near
        partners_of_taus[start[0]], partners_of_rhos[start[1]] = start[1], start[0]
    maxima = curves.statistics.maximum
    varied = maxima[maxima > 0]
    low, high = np.quantile(varied, (0.05, 0.95)) if varied.size else (0.0, 0.0)
    return SliderGrid(
        taus=taus,
        rhos=rhos,
        start=start,
        partners_of_taus=partners_of_taus,
        partners_of_rhos=partners_of_rhos,
        matched=matched,
        maxima=maxima[drawn].astype(np.float64),
        middle=(float(low), float(high)),
        max_entropy=curves.max_entropy,
        floor=floor,
    )


def _spread_out(curves: EntropyCurves) -> NDArray[np.int64]:
    """Samples evenly spaced in the order of their centred maxima, so that few stand for all."""
    order = np.argsort(curves.statistics.maximum, kind="stable")
    count = min(POINTS, curves.num_samples)
    return order[np.linspace(0, curves.num_samples - 1, count).round().astype(np.int64)]


def _reader(
    curves: EntropyCurves, drawn: NDArray[np.int64], like: EntropyProfile
) -> Callable[[Iterable[Fixed | Cist]], Generator[None, None, list[Position]]]:
    """Reads positions with the thresholds of a profile."""

    def read(rules: Iterable[Fixed | Cist]) -> Generator[None, None, list[Position]]:
        positions = []
        for rule in rules:
            reading = read_rule(
                rule,
                curves,
                over_sharp_below=like.over_sharp_below,
                over_smoothed_above=like.over_smoothed_above,
            )
            positions.append(Position.of(reading, curves, drawn))
            yield
        return positions

    return read


def _even(bounds: tuple[float, float], count: int) -> list[float]:
    """Positions at equal factors, as they are written, and the marks."""
    return sorted({*map(written, np.geomspace(*bounds, count)), *MARKS})


def written(value: float) -> float:
    """The position of a slider nearest to a value: two decimals, three below 2, where a step counts for more."""
    return round(float(value), 2 if value >= 2 else 3)


def nearest_position(value: float, bounds: tuple[float, float]) -> float:
    """The position of a slider with these ends that is nearest to a value."""
    return written(min(max(float(value), bounds[0]), bounds[1]))


def _partners(positions: Sequence[Position], others: Sequence[Position]) -> list[float]:
    """Where the other slider has the mean entropies of these positions, as far as it reaches."""
    by_mean = {position.profile.mean: np.log(position.value) for position in others}
    means = sorted(by_mean)
    wanted = [position.profile.mean for position in positions if means[0] <= position.profile.mean <= means[-1]]
    if len(means) < 2 or not wanted:
        return [written(np.exp(by_mean[mean])) for mean in wanted]
    from scipy.interpolate import PchipInterpolator  # takes longer to import than the rest of the analysis

    # Monotone and smooth: straight pieces are off by more than a step of the slider where the curve bends.
    inverse = PchipInterpolator(means, [by_mean[mean] for mean in means])
    return [written(value) for value in np.exp(inverse(wanted))]


def _sorted(positions: Iterable[Position]) -> list[Position]:
    """By value, each once; of equal ones the last."""
    return sorted({position.value: position for position in positions}.values(), key=lambda position: position.value)


def _index(positions: Sequence[Position], value: float) -> int:
    return [position.value for position in positions].index(value)


def _nearest(positions: Sequence[Position], others: Sequence[Position]) -> NDArray[np.int64]:
    means, other_means = (np.array([p.profile.mean for p in side]) for side in (positions, others))
    return np.asarray(np.abs(means[:, None] - other_means).argmin(axis=1))


def number_words(position: Position) -> list[str]:
    """The cells of `NUMBERS` for a position."""
    return [column.text(position.rule, position.profile) for column in _COLUMNS]


def rho_sentences(position: Position) -> str:
    """What has to be said of a position of CIST besides its numbers, in sentences."""
    assert isinstance(position.rule, Cist)
    floored = floor_sentence(position.rule.floor, position.profile.at_floor, position.student_at_floor)
    return " ".join(
        f"{sentence}." for sentence in (floored, one_label_sentence(position.rule, position.same_label)) if sentence
    )


def _held(position: Position) -> str:
    """What the ratios under CIST are at a position: all of them rho, but for those at the floor."""
    value, floored = f"{position.value:.4g}", position.profile.at_floor
    if floored == 0:
        return f"all are {value}"
    return f"none reaches {value}" if floored == 1 else f"{percent(1 - floored)} are {value}, the others smaller"


def _position(position: Position) -> dict[str, Any]:
    profile = position.profile
    return {
        "label": rule_label(position.rule),
        "at": position.value,
        "value": f"{position.value:.4g}",
        "mean": profile.mean,
        "std": profile.std,
        "words": number_words(position),
        "unsaid": percent(profile.over_sharp + profile.over_smoothed),
        "sharp": round(profile.over_sharp * profile.samples),
        "smoothed": round(profile.over_smoothed * profile.samples),
        "alike": how_many(position.same_label) if position.same_label else "",
        "counts": position.counts.tolist(),
    }


def _ends(row: NDArray[np.bool_]) -> list[int]:
    """The first and last index that is true; an empty run if none is."""
    places = np.flatnonzero(row)
    return [int(places[0]), int(places[-1])] if places.size else [0, -1]
