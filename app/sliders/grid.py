"""The grid that the sliders look up while they move: computed once a source and floor, after the page is drawn."""

from __future__ import annotations

import json
from dataclasses import dataclass

import streamlit as st

from app.sliders.component import live_component, read
from app.state import Source, View
from cist_core.compare.slider_grid import SliderGrid, SliderGridReader, nearest_position
from cist_core.temperature import Cist, Fixed
from cist_core.temperature.readings import read_rule
from cist_core.wording import all_of_tokens

KEY = "slider-grid"
_AT_A_TIME = 0.05  # seconds: so long does a person wait at most who moves something in between
_KEPT = 8


@dataclass
class _Grid:
    """One that is being read, and how it is sent."""

    reader: SliderGridReader
    sent: bytes | None = None


def grid_id(source: Source, floor: float) -> str:
    """Names the grid of a source under a floor; two of one name are the same."""
    student = "" if source.student is None else source.student.logit_set.fingerprint[:16]
    return f"{source.predictions.fingerprint[:16]}-{student}-{floor:g}"


def grid_of(source: Source, floor: float) -> SliderGrid | None:
    """The grid, if it has been read by now."""
    return _grid(grid_id(source, floor), source, floor).reader.grid


def send_grid(view: View) -> None:
    """Read what is left of the grid and give it to the browser; called last, when the page is drawn."""
    name, place = grid_id(view.source, view.floor), st.empty()
    kept = _grid(name, view.source, view.floor)
    grid = kept.reader.read_on(0)
    while grid is None:
        place.empty()  # here Streamlit ends the script if the person has moved something
        grid = kept.reader.read_on(_AT_A_TIME)
    if kept.sent is None:
        content = grid.to_json(ratios=False)
        shown = (content if view.source.text is None else all_of_tokens(content)) | {"id": name}
        kept.sent = json.dumps(shown, separators=(",", ":"), allow_nan=False).encode()
    _GRID(key=KEY, data=kept.sent)


@st.cache_resource(show_spinner=False, max_entries=_KEPT)
def _grid(name: str, _source: Source, _floor: float) -> _Grid:
    pair, curves = _source.default_pair(_floor), _source.curves
    ranges = _source.ranges
    tau, rho = nearest_position(pair.tau, ranges["tau"]), nearest_position(pair.rho, ranges["rho"])
    fixed, cist = read_rule(Fixed(tau), curves), read_rule(Cist(rho, _floor), curves)
    return _Grid(SliderGridReader(fixed, cist, curves, rho_range=ranges["rho"]))


_GRID = live_component("cist_slider_grid", html="<span></span>", scripts=[read("grid.js")])
