"""Pieces that several pages show: a figure with its words, code and data, and an error with its remedy."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from urllib.parse import urlencode

import pandas as pd
import streamlit as st

from app.state import Source, View
from cist_core.charts import Figure
from cist_core.errors import CistError
from cist_core.readings import RuleReading

PAGE_SETTINGS = {"entropy": ("layout", "rules", "sharp", "smooth"), "runs": ("run", "term")}
"""Keys of the widgets that belong to one page's view, by the page's address; further ones come by `share_settings`."""


def show_figure(
    figure: Figure, source: Source, readings: Sequence[RuleReading], *, key: str, heading: bool = True
) -> None:
    """The finding, the chart of the readings, and beside its caption the way out: code, command and data."""
    if heading:
        st.subheader(figure.title, anchor=False)
    st.vega_lite_chart(figure.spec | {"datasets": figure.datasets}, key=key, alt=figure.alt)
    words, exit_ = st.columns([5, 1], vertical_alignment="top")
    words.caption(figure.caption)
    with exit_.popover("Export", icon=":material/ios_share:", width="stretch"):
        st.caption("Command line")
        st.code(source.command(readings), language="bash", wrap_lines=True)
        st.caption("Python")
        st.code(source.python(readings), language="python", wrap_lines=True)
        for name, table in figure.datasets.items():
            st.download_button(
                f"Data of the chart: {name} (CSV)",
                _csv(table),
                file_name=f"{key}-{name}.csv",
                mime="text/csv",
                key=f"{key}-{name}-csv",
                on_click="ignore",
                width="stretch",
            )


def plain(text: str) -> str:
    """Text that somebody typed, for a place that reads Markdown: no formulas, links, colours or code come of it."""
    return re.sub(r"([\\`*\[\]$~<])", r"\\\1", text)


def _csv(table: pd.DataFrame) -> Callable[[], bytes]:
    """Made only when somebody downloads it."""
    return lambda: table.to_csv(index=False).encode()


def share_link(view: View, page: str) -> None:
    """The address of this screen with every setting in it, also those that stand at their default.

    The settings come from their widgets: the server's copy of the address is as old as the last page load.
    """
    if st.context.url is None:
        return
    keys = (*PAGE_SETTINGS.get(page, ()), *st.session_state.pop("_page_settings", ()))
    own = {key: _as_text(st.session_state[key]) for key in keys if key in st.session_state}
    shared = {
        "teacher": view.source.teacher,
        "data": view.source.data,
        "split": view.source.split,
        "tau": f"{view.tau:g}",
        "rho": f"{view.rho:g}",
        "matched": str(st.session_state["matched"]).lower(),
    }
    with st.popover("Link to this view", icon=":material/link:", width="stretch"):
        st.code(
            f"{st.context.url.partition('?')[0]}?{urlencode(shared | own, doseq=True)}", language=None, wrap_lines=True
        )


def loading_torch() -> AbstractContextManager[None]:
    """Around the imports of a page that needs torch: the first one in a process takes seconds, the others nothing."""
    loaded = "torch" in sys.modules
    return nullcontext() if loaded else st.spinner("Loading PyTorch, which takes a moment the first time")


def share_settings(keys: Sequence[str]) -> None:
    """Add settings to the link of this page, for a page whose widgets vary."""
    st.session_state["_page_settings"] = tuple(keys)


def _as_text(value: object) -> object:
    """A widget's value as its query parameter: an empty field is empty, a switch is lower case."""
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else value


def show_error(error: CistError, *, action: str | None = None, on_click: Callable[[], None] | None = None) -> None:
    """What went wrong where the user looks, and one button that helps, if there is one."""
    st.error(str(error), icon=":material/error:")
    if action is not None:
        st.button(action, on_click=on_click, type="primary")


def profile_table(readings: list[RuleReading]) -> pd.DataFrame:
    """One row a rule, for `show_profiles`; entropies in nats, shares in percent."""
    return pd.DataFrame(
        [
            {
                "Rule": reading.profile.rule,
                "Mean": reading.profile.mean,
                "Spread": reading.profile.std,
                "5 %": reading.profile.q05,
                "25 %": reading.profile.q25,
                "Median": reading.profile.median,
                "75 %": reading.profile.q75,
                "95 %": reading.profile.q95,
                "H / ln C": reading.profile.normalised_mean,
                "Over-sharp": reading.profile.over_sharp * 100,
                "Over-smoothed": reading.profile.over_smoothed * 100,
                "τ mean": reading.profile.tau_mean,
                "τ min": reading.profile.tau_min,
                "τ max": reading.profile.tau_max,
            }
            for reading in readings
        ]
    )


def show_profiles(readings: list[RuleReading], *, key: str) -> None:
    """The table of profiles; it scrolls inside itself and exports from its own toolbar."""
    nats = {name: f"{name} of the entropy over the samples, in nats" for name in ("Mean", "Median")}
    nats |= {
        share: f"{share} of the samples have a smaller entropy, in nats" for share in ("5 %", "25 %", "75 %", "95 %")
    }
    nats["Spread"] = "Standard deviation of the entropy over the samples, in nats"
    config: dict[str, object] = {
        name: st.column_config.NumberColumn(name, help=help_, format="%.3f") for name, help_ in nats.items()
    }
    config["Rule"] = st.column_config.TextColumn("Rule", pinned=True, help="As the command line and links write it")
    config["H / ln C"] = st.column_config.NumberColumn(format="%.3f", help="Mean normalised entropy, 0 to 1")
    for name in ("Over-sharp", "Over-smoothed"):
        config[name] = st.column_config.NumberColumn(format="%.1f %%", help="Share of the samples in the shaded region")
    for name in ("τ mean", "τ min", "τ max"):
        config[name] = st.column_config.NumberColumn(format="%.3g", help="Temperature over the samples, in logit units")
    st.dataframe(
        profile_table(readings),
        column_config=config,
        hide_index=True,
        key=key,
        alt="Entropy profile of each rule, in nats",
    )
