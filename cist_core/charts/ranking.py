"""The rules ranked: one dot a rule, as far right as it spreads, with its interval."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import altair as alt
import pandas as pd

from cist_core.charts.figure import Figure, Slot, named, slots
from cist_core.compare.findings import NO_SPREAD, rule_label
from cist_core.compare.ranking import CONFIDENCE, RankedRule, listed, ranking_finding
from cist_core.wording import three_digits

_DECADES = 10.0
"""Spreads further apart than this factor stand on a logarithmic axis."""
_ROW, _AXES = 38, 70
"""Height of one rule, and of the axis with its title, in pixels."""
_SMALLEST = 1e-3
"""What lies below, in nats, is drawn at the left end of a logarithmic axis: the oracle, say, which does not spread."""


def ranking_figure(ranking: Sequence[RankedRule], *, confidence: float = CONFIDENCE) -> Figure:
    """Spread of every rule that could be matched, the most consistent on top.

    Args:
        ranking: from `rank_rules`.
        confidence: that the intervals were made with.
    """
    matched = [(ranked, ranked.rule) for ranked in ranking if ranked.rule is not None]
    taken = slots([rule for _, rule in matched])
    spreads = [ranked.std for ranked, _ in matched if not ranked.is_oracle]
    logarithmic = bool(spreads) and max(spreads) > _DECADES * max(min(spreads), _SMALLEST)
    floor = _SMALLEST if logarithmic else 0.0
    rows = []
    for (ranked, rule), slot in zip(matched, taken, strict=True):
        assert ranked.interval is not None
        rows.append(
            {
                "rule": slot.name,
                "label": rule_label(rule),
                "std": max(ranked.std, floor),
                "low": max(ranked.interval.low, floor),
                "high": max(ranked.interval.high, floor),
                "spread": f"{three_digits(ranked.std)} nats" if ranked.std >= NO_SPREAD else "0 nats",
                "gain": "" if ranked.gain is None else f"{three_digits(ranked.gain)} ×",
                "same": ", ".join(ranked.same_as),
            }
        )
    means = [ranked.profile.mean for ranked in ranking if ranked.profile is not None]
    mean = f" of {three_digits(means[0])} nats" if means else ""
    ties = _ties([ranked for ranked, _ in matched])
    title = ranking_finding(ranking)
    left_out = [rule.label for rule in ranking if rule.rule is None]
    caption = (
        f"Every rule at the same mean entropy{mean}; a line is the {confidence * 100:g} % bootstrap interval over "
        "the samples"
        + (f"; logarithmic axis, less than {_SMALLEST:g} nats at its left end" if logarithmic else "")
        + f". Further left is more consistent.{ties}"
        + (f" Not matched: {', '.join(left_out)}." if left_out else "")
    )
    words = "; ".join(f"{row['label']}: {row['spread']}" for row in rows)
    return Figure(
        title=title,
        caption=caption,
        alt=f"{title}. Spread by rule: {words}",
        spec=_spec(taken, logarithmic),
        datasets={"ranking": pd.DataFrame(rows, columns=_COLUMNS)},
    )


_COLUMNS = ["rule", "label", "std", "low", "high", "spread", "gain", "same"]


def _ties(rules: Sequence[RankedRule]) -> str:
    """A sentence for each group of rules that are one rule at this mean entropy."""
    groups = dict.fromkeys(tuple(sorted((rule.label, *rule.same_as))) for rule in rules if rule.same_as)
    return "".join(f" {listed(group)} tie: at equal mean entropy they are one rule." for group in groups)


@lru_cache(maxsize=64)
def _spec(taken: tuple[Slot, ...], logarithmic: bool) -> dict[str, Any]:
    names = [slot.name for slot in taken]
    scale = alt.Scale(type="log", nice=False, padding=12) if logarithmic else alt.Scale(zero=True, nice=True)
    x = alt.X("std:Q", title="spread of the entropy (nats)", scale=scale, axis=alt.Axis(tickCount=6, format="~g"))
    # Streamlit's theme pushes the first label into the plot, away from its dot.
    axis = alt.Axis(labelFlush=False, labelBound=False)
    y = alt.Y("rule:N", title=None, sort=None, scale=alt.Scale(domain=names), axis=axis)
    colour = alt.Color("rule:N", scale=alt.Scale(domain=names, range=[slot.colour for slot in taken]), legend=None)
    tooltip = [
        alt.Tooltip("label:N", title="rule"),
        alt.Tooltip("spread:N"),
        alt.Tooltip("low:Q", title="interval from (nats)", format=".4f"),
        alt.Tooltip("high:Q", title="to (nats)", format=".4f"),
        alt.Tooltip("gain:N", title="consistency gain"),
        alt.Tooltip("same:N", title="the same rule here"),
    ]
    base = alt.Chart(named("ranking")).encode(y=y, color=colour, tooltip=tooltip)
    # An interval may be narrower than its dot; the ends keep it visible.
    lines = base.mark_rule(strokeWidth=3, opacity=0.6).encode(x=alt.X("low:Q", scale=scale), x2="high:Q")
    ends = [
        base.mark_tick(thickness=2, size=14).encode(x=alt.X(f"{field}:Q", scale=scale)) for field in ("low", "high")
    ]
    dots = base.mark_circle(size=110, opacity=1).encode(x=x)
    numbers = base.mark_text(align="left", dx=10, fontSize=12).encode(x=alt.X("high:Q", scale=scale), text="spread:N")
    height = _ROW * max(len(taken), 1) + _AXES
    chart = alt.layer(lines, *ends, dots, numbers).properties(
        width="container", height=height, padding={"left": 5, "top": 5, "right": 70, "bottom": 5}
    )
    return dict(chart.to_dict())
