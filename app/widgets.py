"""Pieces that several pages show: a figure with its words, code and data, and an error with its remedy."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pandas as pd
import streamlit as st

from app.selection import SELECT, SLICES, brush_round, deselect, select_where
from app.settings import page_setting, page_settings
from app.state import NO_STUDENT, Code, View, in_its_words, optional_view
from cist_core.charts import Figure
from cist_core.charts.figure import BRUSH, PICK
from cist_core.charts.legible import with_legible_words
from cist_core.charts.pictures import DARK, LIGHT, png, svg, vega_config
from cist_core.compare.findings import rule_label, rule_sentences
from cist_core.errors import CistError
from cist_core.tables import to_csv, to_parquet
from cist_core.temperature import TemperatureRule
from cist_core.temperature.columns import COLUMNS, Column
from cist_core.temperature.profile import EntropyProfile
from cist_core.temperature.readings import RuleReading
from cist_core.wording import of_tokens

# Addresses that Markdown would turn into links by itself; an invisible joiner after it breaks each.
_AUTOMATIC_LINKS = re.compile(r"(?i)\bwww(?=\.)|\b(?:https?|ftp|mailto|xmpp)(?=:)|(?<=[\w.+-])@(?=\w)")
# Streamlit's own words for colours and badges, with or without a text in brackets.
_COLOURS = re.compile(
    r":(?=(?:red|orange|yellow|green|blue|violet|gr[ae]y|rainbow|primary|small|shimmer)(?:-background|-badge)?\b)"
)
# Inside a word underscores do not slant it.
_OUTER_UNDERSCORES = re.compile(r"(?<![^\W_])_+|_+(?![^\W_])")


PRODUCT = "CIST Studio"


def page_head(question: str, finding: str = "") -> None:
    """The question that a page answers, above everything else on it and in the browser's title, and the answer.

    Args:
        question: the same at any data.
        finding: a sentence computed from what is on the screen, without a full stop.
    """
    st.set_page_config(page_title=f"{question} · {PRODUCT}")
    with st.container(gap=None):
        st.title(plain(question), anchor=False)
        if finding:
            st.header(plain(in_its_words(finding)), anchor=False)


def show_figure(
    figure: Figure,
    *,
    key: str,
    code: Code | None = None,
    heading: bool = True,
    on_pick: Callable[[list[dict[str, Any]]], None] | None = None,
    draw: Callable[[], None] | None = None,
    of_source: bool = True,
) -> None:
    """The finding, the chart, and beside its caption the way out: code, command, picture and data.

    Args:
        figure: what to show. One that can be brushed selects samples in the whole app.
        key: of the chart, and the name of its files.
        code: what computes its numbers without the app.
        heading: whether its title stands above it.
        on_pick: called with the picked points of a chart that has the selection `PICK`.
        draw: draws the chart where something else than Vega does it; pictures and data are the figure's all the same.
        of_source: whether it shows the sidebar's source, whose samples are tokens where it is a text.
    """
    if of_source:
        figure = _in_its_words(figure)
    if heading:
        st.subheader(plain(figure.title), anchor=False)
    if draw is not None:
        draw()
    else:
        st.vega_lite_chart(themed_spec(figure), alt=figure.alt, **_chart_selection(figure, key, on_pick))
    below = st.container(horizontal=True, vertical_alignment="top")
    below.container().caption(plain(f"{figure.caption} {_hint(figure)}"))
    with below.popover("Export", icon=":material/ios_share:", type="tertiary", key=f"export-{key}", help="Export"):
        if code is not None:
            st.caption("Command line")
            st.code(code.command, language="bash", wrap_lines=True)
            st.caption("Python")
            st.code(code.python, language="python", wrap_lines=True)
        download_picture(lambda: figure, key)
        for name in figure.tables():
            download_table(partial(figure.datasets.__getitem__, name), f"{key}-{name}", label=f"Data: {name}")


def _in_its_words(figure: Figure) -> Figure:
    """The figure in the words of what is on the screen: of a text, samples are tokens."""
    view = optional_view()
    if view is None or view.source.text is None:
        return figure
    return replace(
        figure,
        title=of_tokens(figure.title),
        caption=of_tokens(figure.caption),
        alt=of_tokens(figure.alt),
        hint=of_tokens(figure.hint),
        spec=_spec_of_tokens(figure.spec),
    )


def _spec_of_tokens(spec: Any) -> Any:
    """Titles of axes and tooltips; the names of fields stay."""
    if isinstance(spec, dict):
        named = {
            name: of_tokens(part) if name == "title" and isinstance(part, str) else _spec_of_tokens(part)
            for name, part in spec.items()
        }
        untitled = named.get("field") == "samples" and "type" in named and "title" not in named
        return named | ({"title": "tokens"} if untitled else {})
    return [_spec_of_tokens(each) for each in spec] if isinstance(spec, list) else spec


def themed_spec(figure: Figure) -> dict[str, Any]:
    """The chart with its data in the colours of the page's theme: Streamlit's leaves words in a chart black, and its
    axes too faint to read.
    """
    theme = DARK if st.context.theme.type == "dark" else LIGHT
    spec = with_legible_words(figure.spec, theme.page, theme.ink)
    config = {key: value for key, value in vega_config(theme).items() if key not in ("background", "font")}
    return spec | {"datasets": dict(figure.datasets), "config": config}


def show_tabs(tabs: Mapping[str, Callable[[], None]], *, key: str) -> None:
    """Tabs of which only the open one is computed; the address and the link to the page name it.

    Args:
        tabs: what each of them shows, by its title; the first is open to begin with.
        key: of the tabs.
    """
    for tab, show in zip(st.tabs(list(tabs), **page_setting(key, keep=False)), tabs.values(), strict=True):
        if tab.open:
            with tab:
                show()


def _hint(figure: Figure) -> str:
    return in_its_words(figure.hint or ("Drag over it to select samples." if figure.brush else ""))


def _chart_selection(
    figure: Figure, key: str, on_pick: Callable[[list[dict[str, Any]]], None] | None
) -> dict[str, Any]:
    """The arguments that make a chart answer to a brush or a click."""
    if figure.brush:
        key = f"brush-{key}-{brush_round()}"
        return {"key": key, "on_select": partial(_follow_brush, key, figure.brush), "selection_mode": BRUSH}
    if on_pick is not None:
        return {"key": key, "on_select": partial(_follow_pick, key, on_pick), "selection_mode": PICK}
    return {"key": key}


def _follow_brush(key: str, measures: Mapping[str, str]) -> None:
    """A brush that was drawn selects, one that was wiped away lifts its conditions."""
    intervals = st.session_state[key].selection.get(BRUSH) or {}
    for field, measure in measures.items():
        if field in intervals:
            low, high = (float(f"{end:.4g}") for end in intervals[field])
            select_where(measure, low, high)
        else:
            deselect(measure)


def _follow_pick(key: str, on_pick: Callable[[list[dict[str, Any]]], None]) -> None:
    points = st.session_state[key].selection.get(PICK) or []
    if points:
        on_pick(points)


def show_table(
    frame: pd.DataFrame, *, key: str, alt: str, columns: Mapping[str, Any] | None = None, **dataframe: Any
) -> Any:
    """A table that scrolls inside itself, with its exports under it; returns what `st.dataframe` returns.

    Args:
        frame: what to show.
        key: of the table, and the name of its files.
        alt: what it says, for somebody who cannot see it.
        columns: `st.column_config` by column.
        dataframe: further arguments of `st.dataframe`.
    """
    settings = {"placeholder": "–"} | dataframe  # for a number that is none
    event = st.dataframe(frame, column_config=columns, hide_index=True, key=key, alt=in_its_words(alt), **settings)
    with st.popover("Export", icon=":material/ios_share:", type="tertiary", key=f"export-{key}", help="Export"):
        download_table(lambda: frame, key)
    return event


def download_picture(make: Callable[[], Figure], name: str) -> None:
    """Buttons for a figure as PNG and as SVG in the page's theme, drawn only when somebody downloads them."""
    dark = st.context.theme.type == "dark"
    _download("Picture (PNG)", lambda: png(make(), dark=dark), f"{name}.png", "image/png")
    _download("Picture (SVG)", lambda: svg(make(), dark=dark), f"{name}.svg", "image/svg+xml")


def download_table(make: Callable[[], pd.DataFrame], name: str, *, label: str = "Table") -> None:
    """Buttons for a table as CSV and as Parquet, made only when somebody downloads them."""
    _download(f"{label} (CSV)", lambda: to_csv(make()), f"{name}.csv", "text/csv")
    _download(f"{label} (Parquet)", lambda: to_parquet(make()), f"{name}.parquet", "application/vnd.apache.parquet")


def _download(label: str, make: Callable[[], bytes | str], file_name: str, mime: str) -> None:
    st.download_button(
        label, make, file_name=file_name, mime=mime, key=f"download-{file_name}", on_click="ignore", width="stretch"
    )


def plain(text: str) -> str:
    """Text from outside for a place that reads Markdown: no formula, link, colour, code, emoji or list comes of it."""
    text = re.sub(r"([\\`*\[\]$~<>&#|])", r"\\\1", text)
    text = re.sub(_OUTER_UNDERSCORES, lambda found: r"\_" * len(found[0]), text)
    text = re.sub(r"^(\s*)([-+])", r"\1\\\2", text, flags=re.MULTILINE)
    text = re.sub(r"^(\s*\d+)([.)])(?=\s|$)", r"\1\\\2", text, flags=re.MULTILINE)
    text = re.sub(_AUTOMATIC_LINKS, "\\g<0>\u2060", text)
    text = re.sub(_COLOURS, ":\u2060", text)
    # Emoji and icons are looked for after the escapes are gone; an invisible joiner breaks their names.
    return re.sub(r":(?=[\w/+-]+:)", ":\u2060", text)


def share_link(view: View | None) -> None:
    """The address of this screen with every setting in it, also those that stand at their default.

    The settings come from their widgets: the server's copy of the address is as old as the last page load.
    """
    if st.context.url is None:
        return
    query = urlencode((_shared(view) if view is not None else {}) | page_settings(), doseq=True)
    with st.popover("Link to this view", icon=":material/link:", width="stretch"):
        st.code(f"{st.context.url.partition('?')[0]}?{query}", language=None, wrap_lines=True)


def _shared(view: View) -> dict[str, str]:
    """What every page shows."""
    source = view.source
    settings = {
        "teacher": source.teacher,
        "student": source.student.name if source.student is not None else NO_STUDENT,
        "data": source.data,
        "split": source.split,
        "tau": f"{view.tau:g}",
        "rho": f"{view.rho:g}",
        "floor": f"{view.floor:g}",
        "matched": str(st.session_state["matched"]).lower(),
    }
    return settings | {key: st.session_state[key] for key in (SELECT, SLICES) if st.session_state.get(key)}


def show_floor(cist: RuleReading) -> None:
    """On how many samples the floor decides the temperature of CIST, and a warning where it leaves one soft label.

    Stands on every page that shows CIST.
    """
    teacher, student = cist.at_floor, cist.student_at_floor
    counts = [in_its_words(f"{np.count_nonzero(teacher):,} of {len(teacher):,} samples")]
    counts += [] if student is None else [f"{np.count_nonzero(student):,} for the student"]
    floor, *lost = rule_sentences([cist])
    for sentence in lost:
        st.warning(plain(in_its_words(f"{sentence}.")), icon=":material/warning:")
    st.caption(
        plain(in_its_words(f"{floor}.")),
        help=f"{', '.join(counts)}. There τᵢ is the floor, and the ratio m / τᵢ is below ρ. The floor stands in the "
        "sidebar, under ρ.",
    )


def loading_torch() -> AbstractContextManager[None]:
    """Around the imports of a page that needs torch: the first one in a process takes seconds, the others nothing."""
    loaded = "torch" in sys.modules
    return nullcontext() if loaded else st.spinner("Loading PyTorch, which takes a moment the first time")


def show_error(error: CistError, *, action: str | None = None, on_click: Callable[[], None] | None = None) -> None:
    """What went wrong where the user looks, and one button that helps, if there is one."""
    st.error(plain(str(error)), icon=":material/error:")
    if action is not None:
        st.button(action, on_click=on_click, type="primary")


def profile_cells(
    columns: Iterable[Column], rule: TemperatureRule | None, profile: EntropyProfile | None
) -> dict[str, float]:
    """A profile's part of a row, by the titles of columns; shares in percent, NaN for what there is not."""
    cells = {
        column.title: None if rule is None or profile is None else column.scaled(rule, profile) for column in columns
    }
    return {title: np.nan if number is None else number for title, number in cells.items()}


def profile_config(columns: Iterable[Column], profile: EntropyProfile) -> dict[str, object]:
    """How `show_table` shows the cells of `profile_cells`, with the thresholds of a profile in the help."""
    return {
        column.title: st.column_config.NumberColumn(
            format=column.format.printf, help=in_its_words(column.help_for(profile))
        )
        for column in columns
    }


def profile_table(readings: list[RuleReading]) -> pd.DataFrame:
    """One row a rule, for `show_profiles`; entropies in nats, shares in percent."""
    return pd.DataFrame(
        [
            {"Rule": rule_label(reading.rule), **profile_cells(COLUMNS.values(), reading.rule, reading.profile)}
            for reading in readings
        ]
    )


def show_profiles(readings: list[RuleReading], *, key: str) -> None:
    """The table of profiles, all read with the same thresholds."""
    config = {
        "Rule": st.column_config.TextColumn(pinned=True),
        **profile_config(COLUMNS.values(), readings[0].profile),
    }
    show_table(profile_table(readings), key=key, alt="Entropy profile of each rule, in nats", columns=config)
