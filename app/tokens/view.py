"""The component that colours a passage, and where its controls stand: for the page, its link and its export."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import streamlit as st
from numpy.typing import NDArray

from app.sliders.component import live_component, read
from app.state import Code
from cist_core.compare.matching import match_rho
from cist_core.compare.slider_grid import LANGUAGE_RHO_RANGE
from cist_core.entropy.curves import EntropyCurves
from cist_core.errors import CistError
from cist_core.language.token_set import TokenPair, TokenSet
from cist_core.temperature import Cist
from cist_core.training.run_directory import RunDirectory

TAUS, RHOS = (0.25, 16.0), LANGUAGE_RHO_RANGE
"""Ends of the sliders; language starts at a temperature of 1."""
FLOORS = (0.0, 1.0)
MODEL, VIEW, RUN = "tokens_model", "tokens_view", "run:"
"""Query parameters of the page: which model, or which run by what stands before its id; where the controls stand."""

_CHOICES = {
    "measure": ("entropy", "surprisal", "maximum", "temperature", "weight", "divergence", "reverse", "rank"),
    "rule": ("tau", "rho", "difference"),
    "model": ("teacher", "student", "both", "before", "change"),
}
_BETWEEN, _MATCHED, _APART = "~", "matched", "apart"
_PARTS_OF_BEFORE = 9
_SAME_MEAN = 0.005  # relative; what rounding the sliders to three and four digits does to mean entropies


@dataclass(frozen=True)
class Shown:
    """Where the controls stand.

    Attributes:
        measure: that tokens are coloured by.
        rule: under which rule, or the difference of both.
        model: whose, or the student's less the teacher's (``both``); of a run also that of the student before its
            training, or the student's less that (``change``).
        tau: of the fixed temperature.
        rho: of CIST; None for where it has tau's mean entropy.
        floor: of CIST's temperatures; without one to begin with, as under a floor of 1 CIST is KD at temperature 1 on
            most tokens.
        matched: whether one slider takes the other along.
        pinned: the token whose soft labels stay, by its place in the passage, or None.
    """

    measure: str = "entropy"
    rule: str = "tau"
    model: str = "teacher"
    tau: float = 1.0
    rho: float | None = None
    floor: float = FLOORS[0]
    matched: bool = True
    pinned: int | None = None

    def told(self, by_browser: dict[str, Any] | None) -> Shown:
        """After what a hand has set in the browser; what cannot be is left as it was."""
        given = by_browser or {}
        known = {each.name: given[each.name] for each in fields(self) if each.name in given}
        try:
            return self.from_link(replace(self, **known).as_link())
        except (ValueError, TypeError):
            return self

    def fits(self, count: int) -> bool:
        """Whether a passage of so many tokens has the one that is pinned."""
        return (self.pinned or 0) < count

    def with_partner(self, curves: EntropyCurves | None) -> Shown:
        """The same with the rho of tau's mean entropy, where they are matched and rho has another.

        Args:
            curves: of the tokens that count, or where none does of all that were predicted; None where none was.
        """
        if curves is None or (self.rho is not None and not self.matched):
            return replace(self, rho=RHOS[1]) if self.rho is None else self
        wanted = float(np.mean(curves.at_temperature(self.tau)))
        if self.rho is not None:
            mean = float(np.mean(Cist(self.rho, self.floor).entropy(curves)))
            if abs(mean - wanted) <= _SAME_MEAN * wanted:
                return self
        try:
            rho = float(f"{match_rho(curves, wanted, floor=self.floor):.4g}")
        except CistError:  # none has it: the slider stands at its end, and the means are on the screen
            rho = RHOS[1]
        return replace(self, rho=min(max(rho, RHOS[0]), RHOS[1]))

    def as_link(self) -> str:
        """As a query parameter."""
        return _BETWEEN.join(
            (
                self.measure,
                self.rule,
                self.model,
                f"{self.tau:g}",
                "" if self.rho is None else f"{self.rho:g}",
                f"{self.floor:g}",
                _MATCHED if self.matched else _APART,
                "" if self.pinned is None else f"{self.pinned:d}",
            )
        )

    @classmethod
    def from_link(cls, text: str) -> Shown:
        """What `as_link` has written.

        Raises:
            ValueError: for anything else.

        Example:
            >>> Shown.from_link(Shown(tau=2.0, pinned=7).as_link()).pinned
            7
        """
        parts = text.split(_BETWEEN)
        if len(parts) == _PARTS_OF_BEFORE and not parts[-1]:
            parts.pop()  # where a stretch was, which the rule of the selection has now
        measure, rule, model, tau, rho, floor, matched, pinned = parts
        for name, value in (("measure", measure), ("rule", rule), ("model", model)):
            if value not in _CHOICES[name]:
                raise ValueError(value)
        if matched not in (_MATCHED, _APART) or float(floor) not in FLOORS:
            raise ValueError(text)
        if pinned and int(pinned) < 0:
            raise ValueError(pinned)
        return cls(
            measure,
            rule,
            model,
            _within(tau, TAUS),
            _within(rho, RHOS) if rho else None,
            float(floor),
            matched == _MATCHED,
            int(pinned) if pinned else None,
        )


def link_to_run(run_id: str) -> dict[str, str]:
    """The query parameters under which the page shows what a run made of its student."""
    return {MODEL: f"{RUN}{run_id}", VIEW: Shown(measure="surprisal", model="change").as_link()}


def _within(text: str, ends: tuple[float, float]) -> float:
    value = float(text)
    if not ends[0] <= value <= ends[1]:
        raise ValueError(text)
    return value


class MeasureScale(NamedTuple):
    """From which value to which the colours of a measure go, and whether by the logarithm."""

    low: float
    high: float
    log: bool = True


def scales_of(classes: int) -> dict[str, MeasureScale]:
    """Of each measure, over so many classes: the same for any text, rule and slider, so that colours compare."""
    nats = MeasureScale(0.0, math.log(classes), log=False)
    divergence = MeasureScale(0.01, 10.0)
    return {
        "entropy": nats,
        "surprisal": nats,
        "maximum": MeasureScale(1.0, 64.0),
        "temperature": MeasureScale(*TAUS),
        "weight": MeasureScale(0.25, 4.0),
        "divergence": divergence,
        "reverse": divergence,
        "rank": MeasureScale(1.0, float(classes)),
    }


def show_passage(
    passage: bytes,
    shown: Shown,
    *,
    lowest: float,
    turn: int,
    name: str,
    further: bool,
    between: tuple[float | None, float | None] | None,
    others: Sequence[bool] | None,
    scales: Mapping[str, MeasureScale],
    on_change: Callable[[], None],
) -> None:
    """Draw a passage, which goes to the browser once, and where the controls stand, which does each time.

    Args:
        passage: of `Reading.passage`, as it lies on the disk.
        shown: where the controls stand, with a rho.
        lowest: temperature that the curves of the passage reach.
        turn: of what the browser said last, which it says with it.
        name: of the passage, another for another.
        further: whether the model has read something before it.
        between: the positions of the stretch that is selected, None for an open end; None for no stretch.
        others: whether each token fulfils whatever else is selected by; None for nothing else.
        scales: see `scales_of`.
        on_change: called when a hand rests.
    """
    sliders = {key: getattr(shown, key) for key in ("tau", "rho", "floor", "matched")}
    with st.container(key="tokens-passage"):
        _PASSAGE(key="tokens_sent", data=name.encode() + b"\n" + passage)
    _TOKENS(
        key="tokens",
        data={
            "id": name,
            "further": further,
            "turn": turn,
            "between": between,
            "others": others,
            "scales": {measure: scale._asdict() for measure, scale in scales.items()},
            "sliders": {**sliders, "bounds": {"tau": (lowest, TAUS[1]), "rho": RHOS}},
            **{key: getattr(shown, key) for key in ("measure", "rule", "model", "pinned")},
        },
        on_shown_change=on_change,
    )


def table_of(
    passage: dict[str, Any],
    read: TokenSet | TokenPair,
    rows: NDArray[np.int64],
    shown: Shown,
    *,
    before: TokenPair | None = None,
    selected: NDArray[np.int64] | None = None,
    number: int | None = None,
) -> pd.DataFrame:
    """What is on the screen as numbers, a row a token; those that nothing predicted have none.

    Args:
        passage: as `cist_core.language.passage.describe` makes it.
        read: what it was made of.
        rows: its tokens in what was read.
        shown: where the controls stand, with a rho.
        before: what the teacher and the student before its training expected of the same text.
        selected: the positions of the selected tokens, which a column then tells; None where nothing is selected.
        number: of the passage, which a column then tells; None where it is the whole text.
    """
    rules = (f"tau={shown.tau:g}", str(Cist(shown.rho or RHOS[1], shown.floor)))
    teacher = read.models[0]
    pairs = {"student's ": read if isinstance(read, TokenPair) else None, "earlier student's ": before}
    compared = {whose: pair for whose, pair in pairs.items() if pair is not None}
    columns: dict[str, Any] = {"position": teacher.facts.positions[rows]}
    for whose, tokens in {"": teacher, **{whose: pair.student for whose, pair in compared.items()}}.items():
        curves, held = tokens.curves(counted_only=False), held_temperatures(tokens, shown)
        columns |= {
            f"{whose}rank": tokens.rank[rows],
            f"{whose}maximum": tokens.statistics.maximum[rows],
            f"{whose}nll": tokens.nll[rows],
            f"{whose}entropy, {rules[0]}": curves.at_temperature(shown.tau)[rows],
            f"{whose}entropy, {rules[1]}": curves.at_temperature(held)[rows],
            f"{whose}CIST temperature": held[rows],
        }
    for whose, pair in compared.items():
        both = [held_temperatures(tokens, shown) for tokens in pair.models]
        name = "KL" if pair is read else f"{whose}KL"
        columns |= {
            f"{name}, {rules[0]}": pair.divergence(shown.tau, shown.tau)[rows],
            f"{name}, {rules[1]}": pair.divergence(*both)[rows],
            f"reverse {name}, {rules[0]}": pair.reverse_divergence(shown.tau, shown.tau)[rows],
            f"reverse {name}, {rules[1]}": pair.reverse_divergence(*both)[rows],
        }
    words = pd.DataFrame(passage["tokens"])[["position", "id", "text", "role", "counted"]]
    if selected is not None:
        words["selected"] = words["position"].isin(selected)
    if number is not None:
        words.insert(0, "passage", number)
    return words.merge(pd.DataFrame(columns), on="position", how="left")


def held_temperatures(tokens: TokenSet, shown: Shown) -> NDArray[np.floating]:
    """Those of CIST; 1 where the logits are all equal, whose soft label no temperature changes."""
    found = np.maximum(tokens.statistics.maximum / (shown.rho or RHOS[1]), shown.floor)
    return np.asarray(np.where(found > 0, found, 1.0))


def code_of(models: Sequence[str], shown: Shown, file: str, *, run: str | None = None) -> Code:
    """What reads the same text without the app, and prints the mean entropies under both rules.

    Args:
        models: names of one, or of a teacher and a student.
        shown: where the controls stand, with a rho.
        file: that holds the text.
        run: the directory of a run whose models these are, with its student before and after; it needs no names.
    """
    rules = f"tau={shown.tau:g}", str(Cist(shown.rho or RHOS[1], shown.floor))
    names = ["model", "student"][: len(models)] if run is None else ["model", "student", "before"]
    opened = [f"{name} = open_language_model({json.dumps(model)})" for name, model in zip(names, models, strict=False)]
    python = [
        "from cist_core import EntropyProfile, parse_rule",
        f"from cist_core.language.inference import {'infer_tokens' if len(names) == 1 else 'infer_pairs'}",
        *(["from cist_core.language.models import open_language_model"] if run is None else []),
        "from cist_core.language.sources import tokens_for",
        "from cist_core.language.texts import load_texts",
        *([] if run is None else ["from cist_core.training.before_after import open_distilled"]),
        "",
        *(opened if run is None else [f"{', '.join(names)} = open_distilled({json.dumps(run)})"]),
        f'texts = tokens_for([{", ".join(names)}], load_texts("{file}"))',
        *(
            ["found = infer_tokens(model, texts)"]
            if len(names) == 1
            else [f"pairs = infer_pairs(model, [{', '.join(names[1:])}], texts)", "found = pairs[0].teacher"]
        ),
        f"for rule in [{', '.join(map(json.dumps, rules))}]:",
        "    print(EntropyProfile.of(parse_rule(rule), found.curves()))",
        *(
            []
            if run is None
            else ["for pair in pairs:", "    print(pair.student.nll[pair.student.facts.counted].mean())"]
        ),
        "",
    ]
    lm = models[0] if run is None else str(RunDirectory(run).language_student)
    command = f"cist analyze --lm {shlex.quote(lm)} --text {file} --rule {' '.join(rules)}"
    return Code(command, "\n".join(python))


def _read(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


_PASSAGE = live_component("cist_tokens_passage", html="<span></span>", scripts=[_read("passage.js")])
_TOKENS = live_component(
    "cist_tokens", html=_read("tokens.html"), css=read("range.css") + _read("tokens.css"), scripts=[_read("tokens.js")]
)
