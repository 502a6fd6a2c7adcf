"use strict";
// What a pair of slider positions says: one piece of code for the report and for the app. Numbers, words, and which of the
// sentences of cist_core.compare.findings holds come from cist_core.compare.slider_grid; here the blanks are filled.

// ---- Numbers as Python writes them

function threeDigits(value) {
  if (value === 0) return "0";
  const [digits, exponent] = value.toExponential(2).split("e");
  const size = Math.abs(value);
  if (!(size >= 1e-4 && size < 1e6)) {
    return digits + "e" + exponent[0] + exponent.slice(1).padStart(2, "0");
  }
  const decimals = Math.max(0, 2 - Number(exponent));
  return Number(digits + "e" + exponent).toLocaleString("en-US",
    { minimumFractionDigits: decimals, maximumFractionDigits: decimals });
}

function times(factor) {
  return factor < 100 ? factor.toFixed(1) : factor.toLocaleString("en-US", { maximumFractionDigits: 0 });
}

function fill(sentence, blanks) {
  return sentence.replace(/\{(\w+)\}/g, (blank, name) => blanks[name]);
}

// ---- A pair of positions

// The finding, of its kind; a and b are a position of each slider.
function findingOf(grid, kind, a, b) {
  const gain = a.std / b.std;
  return fill(grid.headlines[kind], {
    first: a.label, second: grid.second, mean: a.words[0], other_mean: b.words[0], spread: a.words[1],
    other_spread: b.words[1], times: times(Math.max(gain, 1 / gain)), alike: b.alike
  });
}

// The consistency gain, of its kind.
function gainOf(grid, kind, a, b) {
  return kind === "gain" ? fill(grid.gains.gain, { gain: threeDigits(a.std / b.std) }) : grid.gains[kind];
}

// The index of the position with the same mean entropy on the other slider.
function partnerOf(grid, moved, index) {
  return moved === "tau" ? grid.partnersOfTaus[index] : grid.partnersOfRhos[index];
}

// Why a pair is not matched, as a name of grid.notes.
function whyNotMatched(grid, together, a) {
  if (!together) return "apart";
  return a.at < grid.floor ? "below floor" : "out of reach";
}
