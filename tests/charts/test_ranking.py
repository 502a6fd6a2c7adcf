"""The ranked dots, checked against the ranking they were made from."""

import dataclasses
import json

import numpy as np
import pytest

from cist_core.charts.figure import RULE_COLOURS
from cist_core.charts.ranking import ranking_figure
from cist_core.compare.ranking import Interval, RankedRule, rank_rules
from cist_core.entropy.curves import EntropyCurves
from cist_core.logits.logit_set import LogitSet


@pytest.fixture
def ranking(logits) -> list[RankedRule]:
    return rank_rules(EntropyCurves.from_logits(LogitSet.create(logits)), 1.2, resamples=50)


def test_every_matched_rule_is_a_dot_with_its_interval(ranking):
    figure = ranking_figure(ranking)
    table = figure.datasets["ranking"].set_index("rule")
    assert list(table.index) == ["oracle", *[rule.label for rule in ranking[1:] if rule.rule is not None]]
    for rule in ranking[1:]:
        if rule.rule is None:
            assert rule.label not in table.index
            assert f"Not matched: {rule.label}" in figure.caption
            continue
        row = table.loc[rule.label]
        assert (row["std"], row["low"], row["high"]) == (rule.std, *rule.interval)
    assert "LSKD and NormKD tie" in figure.caption
    assert "of 1.20 nats" in figure.caption


def test_a_floor_that_keeps_cist_out_is_said(logits):
    low = rank_rules(EntropyCurves.from_logits(LogitSet.create(logits)), 0.9, resamples=10)
    assert "Not matched: CIST, DTKD." in ranking_figure(low).caption


def scales(figure) -> list[dict]:
    return [layer["encoding"]["x"]["scale"] for layer in figure.spec["layer"]]


def test_spreads_over_decades_stand_on_a_logarithmic_axis_with_the_oracle_at_its_end(ranking):
    assert not any(scale.get("type") == "log" for scale in scales(ranking_figure(ranking)))
    far = []
    for rule in ranking:
        if rule.name == "cist":
            profile = dataclasses.replace(rule.profile, std=0.002)
            rule = dataclasses.replace(rule, profile=profile, interval=Interval(0.0018, 0.0022))
        far.append(rule)
    figure = ranking_figure(far)
    assert all(scale["type"] == "log" for scale in scales(figure))
    table = figure.datasets["ranking"].set_index("rule")
    assert (table[["std", "low", "high"]] > 0).all(axis=None)
    assert table.loc["oracle", "spread"] == "0 nats"
    assert table.loc["CIST", "std"] == 0.002


def test_rules_have_their_colours(ranking):
    figure = ranking_figure(ranking)
    scale = figure.spec["layer"][0]["encoding"]["color"]["scale"]
    colours = dict(zip(scale["domain"], scale["range"], strict=True))
    assert colours["CIST"] == RULE_COLOURS["cist"]
    assert colours["fixed τ"] == RULE_COLOURS["fixed"]
    assert colours["oracle"] == RULE_COLOURS["matched"]


def test_the_spec_stands_still_while_the_order_does(logits):
    curves = EntropyCurves.from_logits(LogitSet.create(logits))
    first, second = (ranking_figure(rank_rules(curves, target, resamples=10)) for target in (1.2, 1.25))
    assert list(first.datasets["ranking"]["rule"]) == list(second.datasets["ranking"]["rule"])
    assert first.spec is second.spec


def test_it_compiles_and_draws_every_rule(ranking):
    vl_convert = pytest.importorskip("vl_convert")
    whole = {**ranking_figure(ranking).vega_lite(), "width": 600}
    svg = vl_convert.vegalite_to_svg(json.loads(json.dumps(whole, allow_nan=False)))
    for name in ("oracle", "CIST", "LSKD", "NormKD", "fixed τ"):
        assert f">{name}</text>" in svg
    assert np.isfinite(ranking_figure(ranking).datasets["ranking"]["std"]).all()
