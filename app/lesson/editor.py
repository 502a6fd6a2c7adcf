"""The logits under the fingers: six bars that are dragged, presets, and the same numbers as text in the address."""

from __future__ import annotations

import math

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from app.settings import page_setting

CLASSES = ("cat", "lynx", "fox", "dog", "car", "ship")
LIMIT = 25.0
STEP = 0.5

PRESETS = {
    "ambiguous": (8.0, 6.0, 4.0, 3.0, -5.0, -6.0),
    "confident": (18.0, 6.0, 2.0, 1.0, -12.0, -15.0),
    "two modes": (8.0, 7.5, -2.0, -3.0, -5.0, -6.0),
    "flat": (1.0, 0.5, 0.5, 0.0, -0.5, -1.5),
    "big scale": (24.0, 18.0, 12.0, 9.0, -15.0, -18.0),
}
"""``big scale`` is ``ambiguous`` times 3."""

TEXT, _PRESET, _BARS = "lesson_logits", "lesson-preset", "lesson-bars"


def read_logits(text: str) -> tuple[float, ...] | None:
    """Six numbers from text, brought to the nearest positions of the bars; None for anything else.

    Example:
        >>> read_logits("8, 6, 4.2, 3, -5, -600")
        (8.0, 6.0, 4.0, 3.0, -5.0, -25.0)
        >>> read_logits("8, six") is None
        True
    """
    try:
        values = [float(part) for part in text.replace(",", " ").split()]
    except ValueError:
        return None
    if len(values) != len(CLASSES) or not all(map(math.isfinite, values)):
        return None
    return tuple(round(min(max(value, -LIMIT), LIMIT) / STEP) * STEP for value in values)


def write_logits(logits: tuple[float, ...]) -> str:
    return ",".join(f"{value:g}" for value in logits)


def edit_logits(place: DeltaGenerator) -> tuple[float, ...]:
    """Draw the editor and return what it holds."""
    with place:
        presets, bars, more = st.container(), st.container(), st.container()
    # The text comes first: it is what the address carries, and the other two show what it says.
    text = more.text_input(
        "The same as text",
        write_logits(PRESETS["ambiguous"]),
        **page_setting(TEXT, keep=False),
        help=f"The logits of {', '.join(CLASSES)}: six numbers from {-LIMIT:g} to {LIMIT:g}, in steps of {STEP:g}. The "
        "address carries them.",
    )
    logits = read_logits(text)
    if logits is None:
        more.error("Expected six numbers such as 8, 6, 4, 3, -5, -6; shown are those of the preset “ambiguous”.")
        logits = PRESETS["ambiguous"]
    known: dict[tuple[float, ...], str] = {values: name for name, values in PRESETS.items()}
    st.session_state[_PRESET] = known.get(logits)
    presets.segmented_control(
        "Logits", list(PRESETS), key=_PRESET, on_change=_take_preset, help="A start; then drag the bars."
    )
    with bars:
        _BAR_EDITOR(
            key=_BARS,
            data={"names": list(CLASSES), "logits": list(logits), "limit": LIMIT, "step": STEP},
            on_moved_change=_take_bars,
        )
    return logits


def _take_preset() -> None:
    name = st.session_state[_PRESET]
    if name is not None:
        st.session_state[TEXT] = write_logits(PRESETS[name])


def _take_bars() -> None:
    moved = st.session_state[_BARS].get("moved")
    values = read_logits(str((moved or {}).get("logits", "")))
    if values is not None:
        st.session_state[TEXT] = write_logits(values)


# Native range inputs: the keyboard, screen readers and touch come with them. The filled part runs from zero.
_HTML = """
<div class="rows" role="group" aria-label="Logits, one bar a class"></div>
"""

_CSS = """
.rows { display: grid; gap: 2px; font-family: var(--st-font); color: var(--st-text-color); }
label { display: grid; grid-template-columns: 3.2rem 1fr 3.2rem; align-items: center; gap: 0.6rem; font-size: 1.05rem; }
output { text-align: right; font-variant-numeric: tabular-nums; font-weight: 600; }
input {
  appearance: none; -webkit-appearance: none; width: 100%; height: 34px; margin: 0; background: none; cursor: ew-resize;
}
input::-webkit-slider-runnable-track { height: 20px; border-radius: 4px; background: var(--bar); }
input::-moz-range-track { height: 20px; border-radius: 4px; background: var(--bar); }
input::-webkit-slider-thumb {
  -webkit-appearance: none; width: 10px; height: 28px; margin-top: -4px; border-radius: 4px;
  background: var(--st-text-color); border: 2px solid var(--st-background-color);
}
input::-moz-range-thumb {
  width: 8px; height: 26px; border-radius: 4px;
  background: var(--st-text-color); border: 2px solid var(--st-background-color);
}
input:focus-visible { outline: 2px solid var(--st-primary-color); outline-offset: 1px; border-radius: 6px; }
"""

_JS = """
const PAUSE = 80, ECHO = 1500

function paint(input) {
  const share = value => 100 * (value - input.min) / (input.max - input.min)
  const [from, to] = [share(0), share(input.value)].sort((a, b) => a - b)
  const empty = "color-mix(in srgb, var(--st-text-color) 9%, transparent)"
  const full = "color-mix(in srgb, var(--st-text-color) 45%, transparent)"
  input.style.setProperty("--bar",
    `linear-gradient(to right, ${empty} ${from}%, ${full} ${from}% ${to}%, ${empty} ${to}%)`)
  input.nextElementSibling.value = Number(input.value).toFixed(1).replace("-", "\\u2212")
}

export default function ({ data, parentElement, setStateValue }) {
  const root = parentElement.querySelector(".rows")
  if (root.childElementCount !== data.names.length) {
    root.replaceChildren(...data.names.map(name => {
      const row = document.createElement("label")
      const word = document.createElement("span")
      word.textContent = name
      const input = document.createElement("input")
      Object.assign(input, { type: "range", min: -data.limit, max: data.limit, step: data.step })
      input.setAttribute("aria-label", `Logit of ${name}`)
      row.append(word, input, document.createElement("output"))
      return row
    }))
  }
  const inputs = [...root.querySelectorAll("input")]
  const waiting = () => root.sent !== undefined && Date.now() - root.sentAt < ECHO
  const send = () => {
    // One question at a time: a slow server would otherwise still be answering when the hand has stopped.
    root.timer = waiting() ? setTimeout(send, PAUSE) : undefined
    if (root.timer !== undefined) return
    root.sent = inputs.map(input => input.value).join(",")
    root.sentAt = Date.now()
    // With the time, so that a return to earlier numbers is news as well.
    setStateValue("moved", { logits: root.sent, at: root.sentAt })
  }
  for (const input of inputs) {
    input.oninput = () => {
      paint(input)
      root.timer ??= setTimeout(send, PAUSE)
    }
  }
  // While a hand is on a bar, the server answers to where it was a moment ago: that answer must not pull it back.
  if (data.logits.join(",") === root.sent) root.sent = undefined
  if (root.timer !== undefined || waiting()) return
  inputs.forEach((input, index) => {
    input.value = data.logits[index]
    paint(input)
  })
}
"""

_BAR_EDITOR = st.components.v2.component("cist_lesson_bars", html=_HTML, css=_CSS, js=_JS)
