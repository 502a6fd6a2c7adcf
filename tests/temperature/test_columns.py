"""The columns of profiles: their numbers against NumPy and SciPy, their words as a reader needs them."""

import dataclasses
import math

import numpy as np
import pytest
from reference import centred_maximum, entropy_at_cist

from cist_core.entropy.curves import EntropyCurves
from cist_core.logits.logit_set import LogitSet
from cist_core.temperature import Cist, Fixed, NormKd
from cist_core.temperature.columns import COLUMNS, profile_columns
from cist_core.temperature.profile import EntropyProfile


@pytest.fixture
def curves(logit_set: LogitSet) -> EntropyCurves:
    return EntropyCurves.from_logits(logit_set)


def test_every_number_is_what_its_name_says(curves: EntropyCurves, logits: np.ndarray) -> None:
    rule = Cist(3.0)
    profile = EntropyProfile.of(rule, curves)
    entropy, tau = entropy_at_cist(logits, 3.0, 1.0), np.maximum(centred_maximum(logits) / 3, 1)
    quantiles = {f"{100 * share:g} %": np.quantile(entropy, share) for share in (0.05, 0.25, 0.75, 0.95)}
    expected = {
        "mean": entropy.mean(),
        "spread": entropy.std(),
        "median": np.median(entropy),
        **quantiles,
        "H / ln C": entropy.mean() / math.log(10),
        "at the floor": (centred_maximum(logits) < 3).mean(),
        "mean τ": tau.mean(),
        "min τ": tau.min(),
        "max τ": tau.max(),
    }
    numbers = {column.name: column.number(rule, profile) for column in COLUMNS.values()}
    assert {name: numbers[name] for name in expected} == pytest.approx(expected, abs=1e-4)
    shares = {name: numbers[name] for name in numbers.keys() - expected.keys()}
    assert shares == pytest.approx(
        {
            "over-sharp": (entropy < 0.05 * math.log(10)).mean(),
            "over-smoothed": (entropy > 0.95 * math.log(10)).mean(),
        },
        abs=0.0034,  # a sample of the 300 within rounding of a threshold
    )


def test_a_share_is_in_percent_where_a_table_formats_it(curves: EntropyCurves) -> None:
    (column,) = profile_columns("at_floor")
    profile = EntropyProfile.of(Cist(3.0), curves)
    scaled = column.scaled(Cist(3.0), profile)
    assert scaled == pytest.approx(100 * profile.at_floor)
    assert column.format.printf % scaled == column.text(Cist(3.0), profile) == f"{100 * profile.at_floor:.1f} %"
    (mean,) = profile_columns("mean")
    assert mean.scaled(Cist(3.0), profile) == profile.mean


@pytest.mark.parametrize("rule", [Fixed(2.0), NormKd(2.0)])
def test_rules_without_a_floor_have_no_share_at_it(curves: EntropyCurves, rule: Fixed | NormKd) -> None:
    profile = EntropyProfile.of(rule, curves)
    column = COLUMNS["at_floor"]
    assert (column.number(rule, profile), column.scaled(rule, profile)) == (None, None)
    assert (column.text(rule, profile), column.text(rule, profile, without="-")) == ("–", "-")


def test_the_help_names_the_thresholds_of_the_profile(curves: EntropyCurves) -> None:
    profile = EntropyProfile.of(Fixed(2.0), curves, over_sharp_below=0.125, over_smoothed_above=0.8)
    sharp, smoothed = (column.help_for(profile) for column in profile_columns("over_sharp", "over_smoothed"))
    assert sharp == "Share of the samples with an entropy below 12.5 % of ln C"
    assert smoothed == "Share of the samples with an entropy above 80 % of ln C"
    assert not any("{" in column.help_for(profile) for column in COLUMNS.values())


def test_titles_begin_with_a_capital_and_are_told_apart() -> None:
    titles = [column.title for column in COLUMNS.values()]
    assert titles[:2] == ["Mean", "Spread"]
    assert {"5 %", "H / ln C", "At the floor", "Mean τ"} <= set(titles)
    assert len(set(titles)) == len(titles)


def test_the_columns_are_numbers_that_a_profile_has() -> None:
    fields = {field.name for field in dataclasses.fields(EntropyProfile)}
    assert set(COLUMNS) <= fields
    assert all(attribute == column.attribute for attribute, column in COLUMNS.items())
