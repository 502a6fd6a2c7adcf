"""Training runs of language models: how likely their texts have become, and which tokens the weights favour."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import altair as alt
import pandas as pd

from cist_core.charts.figure import Figure, Slot, named, rule_scale
from cist_core.charts.training import VALIDATION, caption_of_seeds, over_epochs, series_of, wrapped_legend
from cist_core.charts.training_sentences import RunCurve
from cist_core.training.token_statistics import DECILES
from cist_core.wording import percent, three_digits


def perplexity_figure(runs: Sequence[RunCurve], *, height: int = 320) -> Figure:
    """Perplexity on validation texts, ``exp(sum NLL / tokens)``, with a band over the seeds."""
    return over_epochs(
        runs,
        [series_of(run, VALIDATION, "val_perplexity", over_seeds=True) for run in runs],
        title=perplexity_sentence(runs),
        caption="Of the validation texts, after every epoch: exp of the mean negative log-likelihood of a token."
        + caption_of_seeds(runs),
        y_title="perplexity",
        kind="perplexity",
        height=height,
    )


def perplexity_sentence(runs: Sequence[RunCurve]) -> str:
    """Where every setting is on validation texts."""
    told = [f"{run.name} {three_digits(value)}" for run in runs if (value := run.last("val_perplexity")) is not None]
    if not told:
        return "No epoch with a perplexity has ended yet"
    return f"Validation perplexity after the newest epoch: {', '.join(told)}"


def weights_figure(runs: Sequence[RunCurve], *, height: int = 260) -> Figure:
    """Which part of all weight each tenth of the tokens has, in the order of the teacher's entropies."""
    shown = [run for run in runs if run.last("weight_share_1") is not None]
    table = pd.DataFrame(
        [
            {"run": run.name, "tenth": tenth, "share": 100 * (run.last(f"weight_share_{tenth}") or 0.0)}
            for run in shown
            for tenth in range(1, DECILES + 1)
        ],
        columns=["run", "tenth", "share"],
    )
    title = weights_sentence(runs)
    return Figure(
        title=title,
        caption="Of the newest epoch. Tenths of the tokens by the entropy of the teacher's soft label, the surest "
        "first; the line at 10 % is equal weight for all.",
        alt=f"{title}. Horizontal: tenth of the tokens; vertical: share of all weight",
        spec=_spec(tuple(Slot(run.name, run.colour) for run in shown), height),
        datasets={"shares": table},
    )


def weights_sentence(runs: Sequence[RunCurve]) -> str:
    """What part the surest and the least sure tenth of the tokens have."""
    told = [
        f"{run.name} {percent(first)} and {percent(last)}"
        for run in runs
        if (first := run.last("weight_share_1")) is not None
        if (last := run.last(f"weight_share_{DECILES}")) is not None
    ]
    if not told:
        return "No epoch with weights has ended yet"
    return f"Weight of the surest and the least sure tenth of the tokens: {', '.join(told)}"


@lru_cache(maxsize=64)
def _spec(taken: tuple[Slot, ...], height: int) -> dict[str, Any]:
    x = alt.X("tenth:O", title="tenth of the tokens, by the entropy of the soft label", axis=alt.Axis(labelAngle=0))
    y = alt.Y("share:Q", title="share of all weight (%)", axis=alt.Axis(tickCount=5))
    tooltip = [
        alt.Tooltip("run:N"),
        alt.Tooltip("tenth:O"),
        alt.Tooltip("share:Q", title="share (%)", format=".1f"),
    ]
    colour = alt.Color("run:N", scale=rule_scale(taken), legend=wrapped_legend(slot.name for slot in taken))
    lines = alt.Chart(named("shares")).mark_line(point=alt.OverlayMarkDef(size=60)).encode(
        x=x, y=y, color=colour, tooltip=tooltip
    )  # fmt: skip
    equal = alt.Chart(named("shares")).mark_rule(strokeDash=[3, 3], opacity=0.5).encode(y=alt.datum(100 / DECILES))
    return dict(alt.layer(equal, lines).properties(width="container", height=height).to_dict())
