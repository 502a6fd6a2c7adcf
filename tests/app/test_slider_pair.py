"""The two sliders as a state machine: what stands, what moved, and where everything belongs."""

from __future__ import annotations

import pytest

from app.forms.slider_pair import Position, SliderPair

TIED = 12.0  # in place of curves: matched where tau times rho is this plus the floor


def partner(moved: str, value: float, floor: float, guess: float | None) -> float | None:
    """As sliders have it: rounded, and no further than 0.25 to 10."""
    if value == 7.77:
        return None  # tied logits
    return round(min(max((TIED + floor) / value, 0.25), 10.0), 2)


def is_matched(tau: float, rho: float, floor: float) -> bool:
    return abs(tau * rho - TIED - floor) < 0.05


PAIR = SliderPair(start=lambda floor: (4.0, 3.0 + floor / 4), partner=partner, is_matched=is_matched)


def at(tau: float, rho: float, *, floor: float = 0.0, together: bool = True, source: str = "a") -> Position:
    return Position(source, tau, rho, floor, together)


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        pytest.param(at(4, 3), at(4, 3), at(4, 3), id="nothing moved"),
        pytest.param(at(4, 3), at(6, 3), at(6, 2), id="tau takes rho along"),
        pytest.param(at(4, 3), at(4, 2), at(6, 2), id="rho takes tau along"),
        pytest.param(at(4, 3), at(1, 3), at(1, 10), id="as near as the range allows"),
        pytest.param(at(1, 10), at(1, 10), at(1, 10), id="and stays there"),
        pytest.param(at(4, 3), at(7.77, 3), at(7.77, 3), id="no partner"),
        pytest.param(at(4, 3), at(4, 3, floor=4), at(4, 4, floor=4), id="a new floor keeps tau"),
        pytest.param(at(4, 5), at(4, 3, floor=4), at(4, 4, floor=4), id="the browser's history, a floor and a rho"),
        pytest.param(
            at(4, 3, together=False), at(6, 3, together=False), at(6, 3, together=False), id="apart, tau moves alone"
        ),
        pytest.param(at(4, 3), at(4, 3, together=False), at(4, 3, together=False), id="the switch goes off"),
        pytest.param(at(6, 3, together=False), at(6, 3), at(6, 2), id="the switch goes on and keeps tau"),
        pytest.param(at(6, 2), at(2, 6), at(2, 6), id="the browser's history, both and matched"),
        pytest.param(at(6, 2), at(4, 9), at(4, 3), id="the browser's history, both and apart: tau counts"),
        pytest.param(at(6, 2), at(1, 10), at(1, 10), id="the browser's history, as near as the range allows"),
        pytest.param(at(6, 2), at(6, 2, source="b"), at(4, 3, source="b"), id="another source"),
        pytest.param(
            at(6, 2), at(2, 3, source="b"), at(2, 6, source="b"), id="the browser's history, another source and its tau"
        ),
        pytest.param(
            at(6, 2),
            at(2, 6, source="b"),
            at(2, 6, source="b"),
            id="the browser's history, another source and its pair",
        ),
        pytest.param(
            at(6, 2, together=False),
            at(2, 9, source="b", together=False),
            at(2, 9, source="b", together=False),
            id="the browser's history, another source and its pair, apart",
        ),
        pytest.param(
            at(6, 2, together=False),
            at(6, 2, source="b", floor=4, together=False),
            at(4, 4, source="b", floor=4, together=False),
            id="another source, apart, with a floor",
        ),
        pytest.param(None, at(4, 3), at(4, 3), id="a session begins"),
        pytest.param(None, at(6, 3), at(6, 2), id="a link with tau"),
        pytest.param(None, at(4, 2), at(6, 2), id="a link with rho"),
        pytest.param(None, at(2, 6), at(2, 6), id="a link with both, matched"),
        pytest.param(None, at(1, 10), at(1, 10), id="a link with both, as near as the range allows"),
        pytest.param(None, at(2, 9), at(2, 9, together=False), id="a link with both, apart: meant so"),
        pytest.param(None, at(2, 9, together=False), at(2, 9, together=False), id="a link that says apart"),
        pytest.param(None, at(4, 4, floor=4), at(4, 4, floor=4), id="a link with a floor"),
    ],
)
def test_where_the_sliders_belong(before: Position | None, now: Position, expected: Position) -> None:
    belongs = PAIR.update(before, now)
    assert belongs == expected
    assert PAIR.update(belongs, belongs) == belongs  # and there they stay


def test_a_move_hands_the_pair_before_to_the_search_as_its_guess() -> None:
    guesses: list[float | None] = []

    def remembering(moved: str, value: float, floor: float, guess: float | None) -> float | None:
        guesses.append(guess)
        return partner(moved, value, floor, guess)

    pair = SliderPair(PAIR.start, remembering, is_matched)
    pair.update(at(4, 3), at(6, 3))
    pair.update(at(4, 3), at(4, 2))
    assert guesses == [pytest.approx(2.0), pytest.approx(6.0)]
