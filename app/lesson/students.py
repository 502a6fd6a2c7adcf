"""Two students that learn, played in the browser from what was recorded (`sample_models/record_students.py`)."""

from __future__ import annotations

import json
import math
from functools import cache
from pathlib import Path
from typing import Any

import streamlit as st

from cist_core.charts.figure import AMBER, BLUE
from cist_core.wording import percent, three_digits

FILE = Path(__file__).with_name("two-students.json")
TEST_IMAGES = 1_000
_NORMAL_95 = 1.96


@cache
def recorded() -> dict[str, Any]:
    """What was recorded: ten images with their labels, the teacher, and both students after every epoch."""
    record: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
    return record


def verdict(first: float, second: float, count: int = TEST_IMAGES) -> str:
    """Whether two accuracies on as many images can be told apart, as a sentence.

    They can where their difference is larger than 1.96 times its standard error, that of two independent binomials,
    ``sqrt((p (1 - p) + q (1 - q)) / n)``. Answers to the same images are not independent, which makes this cautious.
    """
    margin = _NORMAL_95 * math.sqrt((first * (1 - first) + second * (1 - second)) / count)
    apart = abs(first - second)
    if apart <= margin:
        return (
            f"{percent(apart)[:-2]} points apart, within the ± {margin * 100:.1f} of {count:,} test images: the two "
            "cannot be told apart."
        )
    return f"{percent(apart)[:-2]} points apart, more than the ± {margin * 100:.1f} of {count:,} test images."


def what_it_shows() -> str:
    """What came of both, and what one run each can say."""
    record = recorded()
    (kd, cist) = record["students"]
    last = len(kd["accuracy"]) - 1
    shares = [student["accuracy"][last] for student in (kd, cist)]
    names = [student["name"] for student in (kd, cist)]
    ahead = "" if shares[1] > shares[0] else " CIST is not ahead here."
    return (
        f"After {last} epochs {names[0]} has {percent(shares[0])} and {names[1]} {percent(shares[1])}: "
        f"{verdict(*shares)}{ahead} It is one run each, with the same first weights; what many runs say stands in the "
        "project's docs/claim.md."
    )


def numbers() -> list[tuple[str, str, str]]:
    """Name, value and explanation of three numbers about the last epoch."""
    kd, cist = recorded()["students"]
    teacher = recorded()["teacher"]
    return [
        (
            "Accuracy KD, CIST",
            f"{100 * kd['accuracy'][-1]:.1f}, {percent(cist['accuracy'][-1])}",
            "In the last epoch, on 1,000 test images",
        ),
        (
            "Entropy KD, CIST",
            f"{kd['entropy'][-1]:.2f}, {cist['entropy'][-1]:.2f} nats",
            "Mean entropy of the predictions at τ = 1 in the last epoch, on the same images",
        ),
        (
            "Teacher",
            percent(teacher["accuracy"]),
            f"Its accuracy; mean entropy {three_digits(teacher['entropy'])} nats",
        ),
    ]


def play() -> None:
    """The ten images with both soft labels, accuracy and entropy beside them, a slider over the epochs, and Play."""
    _PLAYER(key="lesson_students", data={**recorded(), "colours": [AMBER, BLUE]})


_HTML = """
<div class="player">
  <div class="bar">
    <button type="button" class="play">Play</button>
    <input type="range" min="0" step="1" aria-label="Epoch">
    <output></output>
  </div>
  <div class="stage">
    <div class="samples" role="img"></div>
    <div class="curves"></div>
  </div>
</div>
"""

_CSS = """
.player { font-family: var(--st-font); color: var(--st-text-color); display: grid; gap: 0.6rem; }
.bar { display: grid; grid-template-columns: auto 1fr 5.6rem; gap: 0.8rem; align-items: center; }
button {
  font: inherit; padding: 0.3rem 0.9rem; border-radius: var(--st-button-radius, 8px); cursor: pointer;
  border: 1px solid var(--st-primary-color); background: var(--st-primary-color); color: #fff; min-width: 7.4rem;
}
button:focus-visible, input:focus-visible { outline: 2px solid var(--st-primary-color); outline-offset: 2px; }
input { width: 100%; accent-color: var(--st-primary-color); height: 28px; }
output { text-align: right; font-variant-numeric: tabular-nums; font-weight: 600; }
.stage { display: grid; grid-template-columns: 3fr 2fr; gap: 1.2rem; align-items: start; }
.samples { display: grid; grid-template-columns: repeat(2, 1fr); gap: 0.35rem 1rem; }
.player { --row: clamp(34px, 6.6vh, 88px); }
.sample { display: grid; grid-template-columns: var(--row) 1fr 1fr; gap: 0.5rem; align-items: end; }
.sample svg { height: var(--row); }
.sample img { width: var(--row); height: var(--row); border-radius: 4px; align-self: center;
  image-rendering: pixelated; }
svg { width: 100%; display: block; overflow: visible; }
.key { display: flex; gap: 1rem; font-size: 0.85rem; align-items: center; flex-wrap: wrap; }
.key i { display: inline-block; width: 0.8rem; height: 0.8rem; border-radius: 3px; margin-right: 0.35rem; }
text { fill: var(--st-text-color); font-size: 11px; font-family: var(--st-font); }
.axis { stroke: var(--st-border-color); stroke-width: 1; }
.past { fill: none; stroke-width: 2.2; }
.rest { fill: none; stroke-width: 1.2; opacity: 0.28; }
rect { transition: y 90ms linear, height 90ms linear; }
@media (prefers-reduced-motion: reduce) { rect { transition: none; } }
@media (max-width: 640px) {
  .stage { grid-template-columns: 1fr; gap: 0.5rem; }
  .player { --row: 32px; }
  .sample { gap: 0.3rem; }
  .samples { gap: 0.25rem 0.8rem; }
  .curves { display: grid; grid-template-columns: 1fr 1fr; gap: 0.6rem; }
}
"""

_JS = """
const SVG = "http://www.w3.org/2000/svg", FRAME = 220, WIDE = 100, HIGH = 48
const still = matchMedia("(prefers-reduced-motion: reduce)")

function make(name, attributes, parent) {
  const made = document.createElementNS(SVG, name)
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value)
  parent?.append(made)
  return made
}

function bars(colour, label, parent) {
  const svg = make("svg", { viewBox: `0 0 ${WIDE} ${HIGH + 1}`, preserveAspectRatio: "none", height: HIGH }, parent)
  const step = WIDE / 10
  return [...Array(10).keys()].map(index => {
    const bar = make("rect", { x: index * step + 0.8, width: step - 1.6, rx: 1, fill: colour }, svg)
    bar.setAttribute("opacity", index === label ? 1 : 0.5)
    make("line", { x1: index * step + 0.8, x2: (index + 1) * step - 0.8, y1: HIGH + 0.5, y2: HIGH + 0.5,
      class: "axis", style: index === label ? "stroke: var(--st-text-color); stroke-width: 2" : "" }, svg)
    return bar
  })
}

function curve(title, values, colours, top, write, parent) {
  const [left, right, upper, lower] = [36, 214, 26, 108], last = values[0].length - 1
  const svg = make("svg", { viewBox: "0 0 220 128", role: "img", "aria-label": title }, parent)
  make("text", { x: 0, y: 12, style: "font-weight: 600" }, svg).textContent = title
  const x = epoch => left + (right - left) * epoch / last, y = value => lower - (lower - upper) * value / top
  for (const share of [0, 0.5, 1]) {
    make("line", { x1: left, x2: right, y1: y(share * top), y2: y(share * top), class: "axis" }, svg)
    make("text", { x: left - 5, y: y(share * top) + 4, "text-anchor": "end" }, svg).textContent = write(share * top)
  }
  make("text", { x: right, y: 124, "text-anchor": "end" }, svg).textContent = `epoch ${last}`
  const path = (row, end) =>
    row.slice(0, end + 1).map((value, epoch) => `${epoch ? "L" : "M"}${x(epoch)} ${y(value)}`).join("")
  const drawn = values.map((row, index) => {
    make("path", { d: path(row, last), stroke: colours[index], class: "rest" }, svg)
    return [
      make("path", { stroke: colours[index], class: "past" }, svg),
      make("circle", { r: 3.4, fill: colours[index] }, svg),
    ]
  })
  return epoch => drawn.forEach(([line, dot], index) => {
    line.setAttribute("d", path(values[index], epoch))
    dot.setAttribute("cx", x(epoch))
    dot.setAttribute("cy", y(values[index][epoch]))
  })
}

export default function ({ data, parentElement }) {
  const root = parentElement.querySelector(".player")
  if (root.dataset.built) return root.stop
  root.dataset.built = "yes"
  const [button, slider, output] = ["button", "input", "output"].map(name => root.querySelector(name))
  const { students, colours } = data, last = students[0].accuracy.length - 1
  const samples = root.querySelector(".samples"), curves = root.querySelector(".curves")
  const key = document.createElement("div")
  key.className = "key"
  students.forEach((student, index) => {
    const entry = document.createElement("span"), square = document.createElement("i")
    square.style.background = colours[index]
    entry.append(square, student.name)
    key.append(entry)
  })
  samples.before(key)
  const stage = root.querySelector(".stage")
  root.insertBefore(key, stage)
  const charts = data.images.map((image, index) => {
    const row = document.createElement("div"), picture = document.createElement("img")
    row.className = "sample"
    Object.assign(picture, { src: image, alt: `A ${data.labels[index]}` })
    row.append(picture)
    samples.append(row)
    return students.map((_, who) => bars(colours[who], data.labels[index], row))
  })
  const moving = [
    curve("Accuracy, 1,000 test images", students.map(each => each.accuracy), colours, 1,
      value => `${100 * value} %`, curves),
    curve("Mean entropy, nats", students.map(each => each.entropy), colours, 2.4,
      value => value.toFixed(1), curves),
  ]
  const draw = epoch => {
    charts.forEach((pair, index) => pair.forEach((row, who) => row.forEach((bar, digit) => {
      const height = HIGH * students[who].soft[epoch][index][digit]
      bar.setAttribute("height", height)
      bar.setAttribute("y", HIGH - height)
    })))
    moving.forEach(move => move(epoch))
    slider.value = epoch
    output.value = `epoch ${epoch}`
    slider.setAttribute("aria-valuetext", `Epoch ${epoch}: ` + students.map(each =>
      `${each.name} ${(100 * each.accuracy[epoch]).toFixed(1)} %, ${each.entropy[epoch].toFixed(2)} nats`).join("; "))
    samples.setAttribute("aria-label", `Soft labels of ten test images after epoch ${epoch}, both students`)
  }
  let timer
  const idle = () => still.matches ? "Next epoch" : "Play"
  const stop = () => { clearInterval(timer); timer = undefined; button.textContent = idle() }
  const next = () => {
    const epoch = Number(slider.value) + 1
    if (epoch > last) return stop()
    draw(epoch)
    if (epoch === last) stop()
  }
  button.onclick = () => {
    if (timer !== undefined) return stop()
    if (Number(slider.value) >= last) draw(0)
    if (still.matches) return next()
    button.textContent = "Stop"
    timer = setInterval(next, FRAME)
  }
  slider.max = last
  slider.oninput = () => { stop(); draw(Number(slider.value)) }
  slider.onpointerdown = stop
  still.onchange = stop
  root.stop = stop
  stop()
  draw(0)
  return stop
}
"""

_PLAYER = st.components.v2.component("cist_lesson_students", html=_HTML, css=_CSS, js=_JS)
