"""The tab of Choose ρ that compares entropies: every rule at the same mean entropy, ranked by its spread."""

from __future__ import annotations

import numpy as np
import pandas as pd
import streamlit as st

from app.settings import page_setting
from app.state import Code, View
from app.widgets import plain, profile_cells, profile_config, show_error, show_figure, show_floor, show_table
from cist_core.charts.ranking import ranking_figure
from cist_core.compare.findings import rule_label
from cist_core.compare.ranking import CONFIDENCE, RESAMPLES, RankedRule, rank_rules
from cist_core.entropy.curves import EntropyCurves
from cist_core.errors import CistError
from cist_core.temperature import Cist, Dtkd
from cist_core.temperature.columns import profile_columns
from cist_core.temperature.readings import read_rule

CHOICES = [200, RESAMPLES, 2000]
LARGEST_SEED = 2**31 - 1
SPREAD, SHARES = profile_columns("std"), profile_columns("over_sharp", "over_smoothed", "at_floor")


# Without a spinner: the last picture stays, dimmed, while a slider moves.
@st.cache_data(show_spinner=False, max_entries=32)
def ranking_of(
    fingerprint: str,
    student: str | None,
    _curves: EntropyCurves,
    mean_entropy: float,
    floor: float,
    resamples: int,
    seed: int,
) -> list[RankedRule]:
    return rank_rules(_curves, mean_entropy, floor=floor, resamples=resamples, seed=seed)


def controls() -> tuple[int, int]:
    """The resamples behind the intervals; the mean entropy is that of the sidebar's pair."""
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        resamples = st.segmented_control(
            "Bootstrap resamples", CHOICES,
            default=RESAMPLES, required=True, **page_setting("rules_resamples"),
            help="More of them steady the ends of the intervals, and take longer.",
        )  # fmt: skip
        seed = st.number_input(
            "Seed", 0, LARGEST_SEED, 0, **page_setting("rules_seed"), width=140,
            help="Of the resamples: the same seed gives the same intervals.",
        )  # fmt: skip
    return int(resamples or RESAMPLES), int(seed)


def code(view: View, ranking: list[RankedRule], mean_entropy: float, resamples: int, seed: int) -> Code:
    """The same numbers without the app."""
    source, student = view.source, view.source.student
    rules = " ".join(str(ranked.rule) for ranked in ranking if ranked.rule)
    beside = "" if student is None else "curves = curves.beside(EntropyCurves.from_logits(student_logits))\n"
    return Code(
        f"cist analyze {source.arguments}{source.student_arguments} --rule {rules}",
        "from cist_core import EntropyCurves\n"
        "from cist_core.compare.ranking import rank_rules\n"
        f"{source.imports}\n"
        f"{source.loading}{source.student_loading}{beside}"
        f"ranking = rank_rules(curves, {mean_entropy:g}, floor={view.floor:g}, resamples={resamples}, seed={seed})\n"
        "for ranked in ranking:\n"
        "    print(ranked.rule or ranked.reason, ranked.std, ranked.interval, ranked.gain, ranked.gain_interval)\n",
    )


def as_table(ranking: list[RankedRule]) -> pd.DataFrame:
    """One row a rule; spreads in nats, shares in percent."""
    return pd.DataFrame(
        [
            {
                "Rule": ranked.label if ranked.rule is None else rule_label(ranked.rule),
                **profile_cells(SPREAD, ranked.rule, ranked.profile),
                "from": ranked.interval.low if ranked.interval else np.nan,
                "to": ranked.interval.high if ranked.interval else np.nan,
                "Gain": np.nan if ranked.gain is None else ranked.gain,
                "gain from": ranked.gain_interval.low if ranked.gain_interval else np.nan,
                "gain to": ranked.gain_interval.high if ranked.gain_interval else np.nan,
                **profile_cells(SHARES, ranked.rule, ranked.profile),
                "Note": note(ranked),
            }
            for ranked in ranking
        ]
    )


def note(ranked: RankedRule) -> str:
    if ranked.reason is not None:
        return ranked.reason
    if ranked.is_oracle:
        return "the best that any rule could do, not a rule to train with"
    return f"the same rule here as {' and '.join(ranked.same_as)}" if ranked.same_as else ""


def show_ranking(view: View, ranking: list[RankedRule]) -> None:
    share = f"{CONFIDENCE * 100:g} % interval"
    show_table(
        as_table(ranking),
        key="rules-ranking",
        alt="Spread, interval and consistency gain of every rule at the same mean entropy",
        columns={
            "Rule": st.column_config.TextColumn(pinned=True, help="With the parameter that has this mean entropy"),
            "from": st.column_config.NumberColumn(format="%.3f", help=f"Lower end of the {share} of the spread"),
            "to": st.column_config.NumberColumn(format="%.3f", help=f"Upper end of the {share} of the spread"),
            "Gain": st.column_config.NumberColumn(
                format="%.2f", help="Consistency gain: spread of the fixed temperature over this one; above 1 is better"
            ),
            "gain from": st.column_config.NumberColumn(
                format="%.2f", help=f"Lower end of the {share} of the gain, both rules on the same resamples"
            ),
            "gain to": st.column_config.NumberColumn(format="%.2f", help=f"Upper end of the {share} of the gain"),
            **profile_config([*SPREAD, *SHARES], view.fixed.profile),
            "Note": st.column_config.TextColumn(width="large"),
        },
    )


def show_notes(view: View, ranking: list[RankedRule]) -> None:
    """What a reader needs to know of two classes, and of rules that look at the student."""
    source, student = view.source, view.source.student
    if source.curves.num_classes == 2:
        st.info(
            "Two classes: a soft label is its winner and its ratio, so a rule that holds the ratio gives one soft "
            "label to all samples up to the winner. Its small spread is lost information, not a gain.",
            icon=":material/info:",
        )
    dtkd = next((ranked for ranked in ranking if ranked.name == Dtkd.name), None)
    if dtkd is None:
        return
    if dtkd.reason is not None and student is None:
        st.info(
            "DTKD is not in the picture: it depends on the student's logits as well. Choose a student in the sidebar.",
            icon=":material/school:",
        )
    elif dtkd.rule is not None and not np.any(source.curves.statistics.peak > 0):
        st.caption(
            f"DTKD beside the student {plain(student.name) if student else ''} takes the maxima of the centred logits: "
            "these logits are stored less their row maximum, so the raw maxima of the published rule are not known."
        )


def compare_entropies(view: View) -> None:
    """The ranking at the mean entropy of the present fixed temperature: picture, settings, table and notes."""
    source, student = view.source, view.source.student
    mean_entropy = float(f"{view.fixed.profile.mean:.4g}")
    place = st.container()
    st.caption(f"The mean entropy is that of τ = {view.tau:g}: move its slider to rank the rules at another.")
    resamples, seed = controls()
    try:
        ranking = ranking_of(
            source.predictions.fingerprint,
            None if student is None else student.logit_set.fingerprint,
            source.curves,
            mean_entropy,
            view.floor,
            resamples,
            seed,
        )
    except CistError as error:
        show_error(error)
        return
    with place:
        commands = code(view, ranking, mean_entropy, resamples, seed)
        show_figure(ranking_figure(ranking), key="rules-spread", code=commands)
    show_ranking(view, ranking)
    cist = next((ranked.rule for ranked in ranking if ranked.name == Cist.name), None)
    if cist is not None:
        show_floor(read_rule(cist, source.curves))
    show_notes(view, ranking)
