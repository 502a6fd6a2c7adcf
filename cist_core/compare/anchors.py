"""Named anchors for choosing rho: what soft labels are usual, what the authors take, and what trained best.

No entropy is good by itself: which one trains well is a matter of evidence. An anchor names a mean entropy of the
teacher's soft labels and says where it comes from; the rho that gives it on a teacher follows from the curves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from cist_core.compare.evidence import TrainedBest, TrainedPoint, evidence_for
from cist_core.compare.matching import MatchedPair, match_rho, matched_pair
from cist_core.entropy.curves import EntropyCurves
from cist_core.errors import CistError
from cist_core.temperature import CIST_FLOOR, Cist

TRAINED_BEST, AUTHORS, KD_TAU_4, KD_TAU_1, OWN = "trained-best", "authors", "kd-tau-4", "kd-tau-1", "own"
ANCHORS = {
    TRAINED_BEST: "what trained best in our runs",
    AUTHORS: "as the authors",
    KD_TAU_4: "as KD at τ = 4",
    KD_TAU_1: "as KD at τ = 1",
    OWN: "a mean entropy of your own",
}
"""Every anchor by its key, in the order in which they are offered."""

Ends = tuple[float | None, float | None]

_CIFAR_CLASSES = 300
"""Up to here the authors' figures for CIFAR-100 are taken, beyond those for ImageNet: a factor of three from either."""
_REPOSITORY = "lhchau/element-wise-kd"


@dataclass(frozen=True)
class Anchor:
    """A mean entropy to aim at, by name, with its source. Normalised entropies are shares of ``ln C``.

    Attributes:
        key: one of `ANCHORS`.
        title: in words.
        why: where it comes from, in whole sentences.
        target: mean normalised entropy of the soft labels.
        low: lower end of its range of mean normalised entropies; the target itself where it has none.
        high: upper end, likewise.
        rho: the ratio that gives the target under the floor; None where none does.
        band: the rho of ``high`` and that of ``low``: a smaller rho is softer. None for an end that no rho reaches.
        refused: why no rho gives the target, in whole sentences; empty where one does.
        best: the evidence of `TRAINED_BEST`.
    """

    key: str
    title: str
    why: str
    target: float
    low: float
    high: float
    rho: float | None
    band: Ends
    refused: str = ""
    best: TrainedBest | None = None

    @property
    def has_range(self) -> bool:
        return self.low < self.high

    @property
    def range_name(self) -> str:
        """What its range is called in a sentence."""
        return {TRAINED_BEST: "the range that trained best", AUTHORS: "the authors' range"}.get(self.key, "your range")

    @property
    def uncertainty(self) -> str:
        """How much evidence there is and what it cannot tell apart, without a full stop; empty without evidence."""
        return "" if self.best is None else uncertainty_sentence(self.best)

    def to_dict(self) -> dict[str, Any]:
        """The numbers and words, JSON-ready."""
        return {
            "key": self.key,
            "title": self.title,
            "why": self.why,
            "rho": self.rho,
            "band": list(self.band) if self.has_range else None,
            "target_normalised_entropy": self.target,
            "range_normalised_entropy": [self.low, self.high] if self.has_range else None,
            "refused": self.refused or None,
            "evidence": None if self.best is None else asdict(self.best),
        }


def uncertainty_sentence(best: TrainedBest) -> str:
    """How many runs speak for it, and which mean entropies they cannot tell apart; no full stop.

    Example:
        >>> best = TrainedBest("digits", 10, "cist:rho=3", 0.9, 0.6, 0.5, 0.7, points=4, runs=11)
        >>> uncertainty_sentence(best)
        'from 11 runs with 10 classes; 50 to 70 % of ln C cannot be told apart'
    """
    return f"from {best.runs:,} runs with {best.classes:,} classes; {level_sentence(best)}"


def _better_sentence(better: TrainedPoint) -> str:
    return (
        f"With another learning rate and weight of the divergence, {better.rule} reached {better.accuracy * 100:.3g} % "
        f"at {100 * better.normalised_entropy:.3g} % of ln C"
    )


def level_sentence(best: TrainedBest) -> str:
    """Which mean entropies trained as well as the best, as far as the runs can tell; no full stop."""
    low, high = f"{100 * best.low:.3g}", f"{100 * best.high:.3g}"
    if low == high:
        return "every other mean entropy that was tried was worse"
    return f"{low} to {high} % of ln C cannot be told apart"


def find_anchors(curves: EntropyCurves, *, floor: float = CIST_FLOOR) -> tuple[Anchor, ...]:
    """Every anchor but `OWN`, in the order of `ANCHORS`; `TRAINED_BEST` only where there is evidence.

    An anchor that no rho reaches under the floor is among them, and says so.

    Args:
        curves: of the teacher.
        floor: smallest temperature of CIST, in logit units; 0 is the pure ratio rule.

    Example:
        >>> from cist_core import EntropyCurves, LogitSet
        >>> curves = EntropyCurves.from_logits(LogitSet.create([[18.0, 2.0, 0.0], [4.0, 1.0, 0.0]]))
        >>> for anchor in find_anchors(curves, floor=2):
        ...     print(anchor.key, anchor.rho and round(anchor.rho, 2), anchor.refused[:35] or "reached")
        authors 3.0 reached
        kd-tau-4 1.92 reached
        kd-tau-1 None No rho gives these samples a mean e
    """
    found = [_trained_best(curves, floor), _authors(curves, floor), *(_as_kd(curves, tau, floor) for tau in (4.0, 1.0))]
    return tuple(anchor for anchor in found if anchor is not None)


def find_anchor(curves: EntropyCurves, key: str, *, floor: float = CIST_FLOOR) -> Anchor:
    """One anchor by its key, reached.

    Raises:
        CistError: if there is none of this name, no evidence for this number of classes, or no rho reaches it.
    """
    if key not in ANCHORS or key == OWN:
        known = ", ".join(name for name in ANCHORS if name != OWN)
        raise CistError(f"There is no anchor {key!r}; choose one of {known}, or '{OWN}' with a target or a range.")
    found = next((anchor for anchor in find_anchors(curves, floor=floor) if anchor.key == key), None)
    if found is None:
        raise CistError(
            f"No students of ours were trained with about {curves.num_classes:,} classes (within a factor of three), "
            f"so there is no anchor '{TRAINED_BEST}' here; choose another, such as '{AUTHORS}'."
        )
    if found.refused:
        raise CistError(found.refused)
    return found


def default_anchor(curves: EntropyCurves, *, floor: float = CIST_FLOOR) -> Anchor:
    """What is recommended unless something else is wanted: `TRAINED_BEST` where the evidence decides, else `AUTHORS`.

    Evidence that cannot tell most mean entropies apart decides nothing (`TrainedBest.decides`). Where the floor keeps
    CIST above what trained best, it is `AUTHORS` too: their rho then gives the softest labels that the floor leaves
    near it.

    Raises:
        CistError: if no rho makes a difference (constant rows).
    """
    first, second = _trained_best(curves, floor), _authors(curves, floor)
    if first is not None and first.best is not None and first.best.decides and not first.refused:
        return first
    if second.refused:
        raise CistError(second.refused)
    return second


def default_pair(curves: EntropyCurves, *, floor: float = CIST_FLOOR) -> MatchedPair:
    """The pair to start from: the rho of `default_anchor` and the fixed temperature of the same mean entropy.

    Raises:
        CistError: if no rho or no fixed temperature has this mean entropy (tied or constant rows).
    """
    return matched_pair(curves, rho=default_anchor(curves, floor=floor).rho, floor=floor)


def end_of(match: Callable[[EntropyCurves, float], float], curves: EntropyCurves, entropy: float) -> float | None:
    """The parameter of a mean entropy, or None where there is none: an end that cannot be reached is not an error."""
    try:
        return match(curves, entropy)
    except CistError:
        return None


def band_of(curves: EntropyCurves, low: float, high: float, floor: float) -> Ends:
    """The rho of the upper and that of the lower end of a range of mean normalised entropies."""

    def rho_of(of: EntropyCurves, entropy: float) -> float:
        return match_rho(of, entropy, floor=floor)

    return end_of(rho_of, curves, high * curves.max_entropy), end_of(rho_of, curves, low * curves.max_entropy)


def own_anchor(curves: EntropyCurves, target: float, low: float, high: float, *, floor: float = CIST_FLOOR) -> Anchor:
    """A mean normalised entropy of one's own, with a range of one's own or, where both ends are the target, none."""
    return _by_entropy(curves, OWN, "You choose this mean entropy.", target, low, high, floor)


def _trained_best(curves: EntropyCurves, floor: float) -> Anchor | None:
    evidence = evidence_for(curves.num_classes)
    best = None if evidence is None else evidence.best()
    if best is None:
        return None
    why = (
        f"Students of CIST were best at this mean entropy ({best.setting}): {best.accuracy * 100:.3g} % on validation, "
        f"{uncertainty_sentence(best)} (docs/claim.md)."
        + ("" if best.better is None else f" {_better_sentence(best.better)}.")
        + ("" if best.decides else " So little is decided by that, that it is not the default.")
    )
    return _by_entropy(curves, TRAINED_BEST, why, best.target, best.low, best.high, floor, best)


def _by_entropy(
    curves: EntropyCurves,
    key: str,
    why: str,
    target: float,
    low: float,
    high: float,
    floor: float,
    best: TrainedBest | None = None,
) -> Anchor:
    rho, refused = None, ""
    try:
        rho = match_rho(curves, target * curves.max_entropy, floor=floor)
    except CistError as error:
        refused = str(error)
    band: Ends = band_of(curves, low, high, floor) if low < high else (rho, rho)
    return Anchor(key, ANCHORS[key], why, target, low, high, rho, band, refused, best)


def _authors(curves: EntropyCurves, floor: float) -> Anchor:
    """The rho of the authors' development repository, commit e1b1a68 of 2026-01-08, by the number of classes."""
    if curves.num_classes <= _CIFAR_CLASSES:
        rho, softer, sharper = 3.0, 2.0, 5.0
        why = f"The authors' repository, {_REPOSITORY}, tries ρ from 2 to 5 on CIFAR-100, where 3 came out best."
    else:
        rho, softer, sharper = 4.5, 4.0, 6.0
        why = f"The authors' repository, {_REPOSITORY}, tries ρ from 4 to 6 on ImageNet, and 4.5 in its figures."
    target, high, low = (
        float(np.mean(Cist(each, floor).entropy(curves), dtype=np.float64)) / curves.max_entropy
        for each in (rho, softer, sharper)
    )
    refused = ""
    if not curves.statistics.maximum.any():
        refused = "No rho makes a difference to these samples: tied or constant logits keep their entropy at any rho."
    title = f"{ANCHORS[AUTHORS]}: ρ = {rho:g}"
    return Anchor(AUTHORS, title, why, target, low, high, None if refused else rho, (softer, sharper), refused)


def _as_kd(curves: EntropyCurves, tau: float, floor: float) -> Anchor:
    """The mean entropy of a usual temperature; under a floor of as much, every sample is at the floor there.

    Where a table does not reach that temperature, it is the lowest that it reaches, and the anchor says so.
    """
    key, where = (KD_TAU_4, "on CIFAR") if tau == 4 else (KD_TAU_1, "on ImageNet and of language models")
    reached = curves.reachable(tau)
    target = float(curves.at_temperature(reached).mean(dtype=np.float64)) / curves.max_entropy
    why = f"KD {where} is usually done at τ = {tau:g}; this ρ gives the same mean entropy."
    found = _by_entropy(curves, key, why, target, target, target, floor)
    if reached == tau:
        return found
    return replace(
        found,
        title=f"as KD at τ = {reached:g}, the lowest that the table reaches",
        why=(
            f"KD {where} is usually done at τ = {tau:g}, but the table of these curves ends at the ratio "
            f"{curves.max_ratio:g}, and the largest centred maximum is {curves.statistics.maximum.max():.4g}: "
            f"τ = {reached:g} is the lowest that it reaches, and this ρ gives the same mean entropy."
        ),
    )
