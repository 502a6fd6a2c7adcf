"""Sentences and numbers about the two rules that move with the sliders."""

from __future__ import annotations

from streamlit.components.v2.types import ComponentRenderer

from app.sliders.component import live_component, read

_FINDING = """
  <h2 data-says="finding" aria-live="polite"></h2>
"""

_UNSAID = """
  <div class="unsaid">
    <p data-says="unsaid"></p>
    <button type="button" data-plays aria-pressed="false"
            title="Moves τ from 1 to 10 while ρ stays; any key or touch stops it.">
      <svg viewBox="0 0 16 16" width="14" height="14" aria-hidden="true" fill="currentColor">
        <path class="play" d="M3 1.5v13l11-6.5z"/><path class="stop" d="M2 2h12v12H2z"/>
      </svg>
      <span class="play">Play</span><span class="stop">Stop</span>
    </button>
  </div>
"""

_NUMBERS = """
  <dl>
    <dt title="Standard deviation of the entropy over the samples">Spread at <span data-says="tau.label"></span></dt>
    <dd><span data-says="tau.words.1"></span> <span class="unit">nats</span></dd>
    <dt title="Standard deviation of the entropy over the samples">Spread at <span data-says="rho.label"></span></dt>
    <dd><span data-says="rho.words.1"></span> <span class="unit">nats</span></dd>
    <dt title="Spread at the fixed temperature over spread under CIST, at the same mean entropy.
Below 1, CIST is the less consistent one.">Consistency gain</dt>
    <dd data-says="gain"></dd>
  </dl>
"""


def show_finding(*, play: bool = False) -> None:
    """What the pair says; with ``play`` also what it leaves unsaid, and the button that lets tau run."""
    (_SAYS_AND_PLAYS if play else _SAYS)()  # without a key: every text field asks for all that has one


def show_numbers() -> None:
    """The two spreads and the consistency gain."""
    _COUNTS()


def _words(name: str, html: str) -> ComponentRenderer:
    html = f'<div class="words">{html}</div>'
    return live_component(name, html=html, css=read("words.css"), scripts=[read("words.js")])


_SAYS = _words("cist_finding", _FINDING)
_SAYS_AND_PLAYS = _words("cist_finding_and_play", _FINDING + _UNSAID)
_COUNTS = _words("cist_numbers", _NUMBERS)
