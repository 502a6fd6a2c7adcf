"""At 1,000 classes the pair has the same mean entropy within half a per cent, wherever a slider stands."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import entropy

from cist_core import EntropyCurves
from cist_core.compare.anchors import default_pair
from cist_core.compare.matching import matched_pair
from cist_core.compare.slider_grid import RHO_RANGE, TAU_RANGE, SliderGrid, nearest_position, slider_grid
from cist_core.errors import CistError
from cist_core.logits.synthetic import imagenet_shaped
from cist_core.temperature import Cist, Fixed
from cist_core.temperature.readings import read_rule

HALF_A_PER_CENT = 0.005


class Means:
    """Mean entropies in float64, by SciPy."""

    def __init__(self) -> None:
        self.logit_set = imagenet_shaped(samples=200)
        self.logits = self.logit_set.logits.astype(np.float64)
        self.maxima = self.logits.max(axis=1) - self.logits.mean(axis=1)

    def at_tau(self, tau: float) -> float:
        return float(entropy(softmax(self.logits / tau, axis=1), axis=1).mean())

    def at_rho(self, rho: float, floor: float) -> float:
        temperatures = np.maximum(self.maxima / rho, floor)[:, None]
        return float(entropy(softmax(self.logits / temperatures, axis=1), axis=1).mean())


@pytest.fixture(scope="module")
def means() -> Means:
    return Means()


@pytest.fixture(scope="module")
def curves(means: Means) -> EntropyCurves:
    return EntropyCurves.from_logits(means.logit_set)


def differs(first: float, second: float) -> float:
    return abs(first - second) / max(first, second)


def grid_of(curves: EntropyCurves, floor: float) -> SliderGrid:
    pair = default_pair(curves, floor=floor)
    rules = Fixed(nearest_position(pair.tau, TAU_RANGE)), Cist(nearest_position(pair.rho, RHO_RANGE), floor)
    return slider_grid(*(read_rule(rule, curves) for rule in rules), curves)


@pytest.mark.parametrize("floor", [0.0, 1.0])
def test_while_a_slider_is_dragged(means: Means, curves: EntropyCurves, floor: float) -> None:
    grid = grid_of(curves, floor)
    at_taus = [means.at_tau(each.value) for each in grid.taus]
    at_rhos = [means.at_rho(each.value, floor) for each in grid.rhos]
    for own, others, partners in (
        (at_taus, at_rhos, grid.partners_of_taus),
        (at_rhos, at_taus, grid.partners_of_rhos),
    ):
        reached = [place for place, mean in enumerate(own) if min(others) <= mean <= max(others)]
        assert len(reached) > 100
        assert max(differs(own[place], others[partners[place]]) for place in reached) < HALF_A_PER_CENT


@pytest.mark.parametrize("floor", [0.0, 1.0])
def test_where_a_slider_rests(means: Means, curves: EntropyCurves, floor: float) -> None:
    compared = 0
    for tau in sorted({nearest_position(tau, TAU_RANGE) for tau in np.geomspace(*TAU_RANGE, 80)}):
        try:
            rho = matched_pair(curves, tau=tau, floor=floor).rho
        except CistError:  # sharper than the floor lets any rho be
            continue
        if RHO_RANGE[0] <= rho <= RHO_RANGE[1]:
            compared += 1
            assert differs(means.at_tau(tau), means.at_rho(nearest_position(rho, RHO_RANGE), floor)) < HALF_A_PER_CENT
    assert compared > 40
