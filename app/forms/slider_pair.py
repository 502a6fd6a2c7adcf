"""The two sliders, CIST's floor and the switch that ties them: where all stand once one of them has moved."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from typing import Literal

Slider = Literal["tau", "rho"]


@dataclass(frozen=True)
class Position:
    """Where the sliders stand.

    Attributes:
        source: what they are drawn for.
        tau: of the fixed temperature.
        rho: of CIST.
        floor: of CIST's temperatures.
        together: whether moving one slider moves the other.
    """

    source: Hashable
    tau: float
    rho: float
    floor: float
    together: bool = True


@dataclass(frozen=True)
class SliderPair:
    """What follows from a move, whether a person made it, a link, or the browser's history.

    Attributes:
        start: tau and rho that a floor starts at.
        partner: from the slider that moved, its value, the floor and a guess: the value of the other slider with the
            same mean entropy, as near as its range allows; None where there is none.
        is_matched: whether tau and rho give the same mean entropy under a floor.
    """

    start: Callable[[float], tuple[float, float]]
    partner: Callable[[Slider, float, float, float | None], float | None]
    is_matched: Callable[[float, float, float], bool]

    def update(self, before: Position | None, now: Position) -> Position:
        """Where the sliders belong.

        - Another source starts at its own pair, unless another pair has come along with it: both are then an earlier
          view of the browser's history.
        - One slider that moved gets its partner. A new floor, and the switch when it is turned on, keep tau, also where
          the browser's history has brought another rho with the floor.
        - Two that moved and do not match: at the beginning of a session both were meant, by a link, and the switch goes
          off. Later they come from the browser's history, which remembers a slider without the partner it got, and tau
          counts.

        Args:
            before: where they stood, as this returned it; None at the beginning of a session.
            now: where they stand.
        """
        at_start = Position(now.source, *self.start(now.floor), now.floor)
        other = before is not None and before.source != now.source
        if other and before is not None and (now.tau, now.rho) == (before.tau, before.rho):
            return replace(at_start, together=now.together)
        known = at_start if before is None or other else before
        moved = [key for key in ("tau", "rho") if getattr(now, key) != getattr(known, key)]
        if now == known or not now.together:
            return now
        if len(moved) == 2:
            if self._agree(now):
                return now
            if before is None:
                return replace(now, together=False)
        # Temperature times rho is a logit, and moves little with the slider.
        if moved == ["rho"] and now.floor == known.floor:
            tau = self.partner("rho", now.rho, now.floor, known.tau * known.rho / now.rho)
            return now if tau is None else replace(now, tau=tau)
        rho = self.partner("tau", now.tau, now.floor, known.tau * known.rho / now.tau)
        return now if rho is None else replace(now, rho=rho)

    def _agree(self, now: Position) -> bool:
        """Whether they match, or as nearly as their ranges let them."""
        return (
            self.is_matched(now.tau, now.rho, now.floor)
            or now.rho == self.partner("tau", now.tau, now.floor, None)
            or now.tau == self.partner("rho", now.rho, now.floor, None)
        )
