// The pair of rules that the sliders hold, shared by all components of the page: they are no frames, so they meet on
// `window`. The bar says where its sliders stand; every other component follows:
//
//   followRules(root, (pair) => { ... })
//
// calls back at once if the pair is known, and then at most once a frame while a slider moves. `pair` has
//   tau, rho     the positions: at (the number), label, mean, std (nats), words, counts, ...; see cist_core's slider_grid
//   values       { tau, rho, floor } as the sliders stand, which may lie between positions
//   finding, gain, unsaid   sentences about the pair;  matched, note
//   moving       while a slider moves and the server has not been told;  playing, while nobody's hand moves it
// What moves is looked up and exact; between two positions the nearest is shown. When a hand rests and the server is told,
// `cist-rest` is sent on `window`; whoever sends `cist-play` there starts and stops the play.

const STUDIO = (window.cistStudio ??= { grids: new Map(), here: null, at: null, pair: null, moving: false });

function followRules(root, show) {
  root.showRules = show;
  if (!root.followsRules) {
    root.followsRules = (event) => root.showRules(event.detail);
    window.addEventListener("cist-rules", root.followsRules);
  }
  if (STUDIO.pair) show(STUDIO.pair);
  return () => {
    window.removeEventListener("cist-rules", root.followsRules);
    root.followsRules = undefined;
  };
}

// A position of the grid near a value, by index; null without a grid.
function nearestPosition(grid, slider, value) {
  if (!grid) return null;
  const positions = slider === "tau" ? grid.taus : grid.rhos;
  let low = 0, high = positions.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (positions[middle].at <= value) low = middle; else high = middle;
  }
  return value * value <= positions[low].at * positions[high].at ? low : high;
}

// What there is to show of two positions; an index of the grid, or null for where the server knows the slider to be.
function pairAt(tau, rho, values, together, moving, playing) {
  const { here } = STUDIO, grid = STUDIO.grids.get(here.grid), words = here.sentences;
  if (tau !== null && rho === null && !here.headline.ofRho) rho = nearestPosition(grid, "rho", here.rho.at);
  if (rho !== null && tau === null && !here.headline.ofTau) tau = nearestPosition(grid, "tau", here.tau.at);
  const a = tau === null ? here.tau : grid.taus[tau], b = rho === null ? here.rho : grid.rhos[rho];
  const kind = (name, rows) => Number(
    tau === null ? (rho === null ? here[name].pair : here[name].ofTau[rho])
      : rho === null ? here[name].ofRho[tau] : grid[rows][tau][rho]);
  const headline = words.headlineKinds[kind("headline", "headlineOf")];
  const gain = words.gainKinds[kind("gain", "gainOf")];
  const matched = headline !== "unmatched";
  return {
    tau: a, rho: b, values, matched, moving, playing, samples: here.samples, maxEntropy: here.maxEntropy,
    finding: findingOf(words, headline, a, b), gain: gainOf(words, gain, a, b),
    unsaid: fill(words.littleSaid, { first: a.unsaid, second: b.unsaid }),
    note: matched ? "" : moving ? words.notes[whyNotMatched({ floor: here.floor }, together, a)] : here.note
  };
}

function publish(pair) {
  STUDIO.pair = pair;
  if (STUDIO.frame !== undefined) return;
  STUDIO.frame = requestAnimationFrame(() => {
    STUDIO.frame = undefined;
    window.dispatchEvent(new CustomEvent("cist-rules", { detail: STUDIO.pair }));
  });
}

// The soft labels of a sample's logits.
function soften(logits, temperature) {
  const largest = Math.max(...logits);
  const powers = logits.map((logit) => (temperature > 0 ? Math.exp((logit - largest) / temperature) : Number(logit === largest)));
  const sum = powers.reduce((total, power) => total + power, 0);
  return powers.map((power) => power / sum);
}

// As cist_core.wording.percent of a share that is rounded to 12 digits.
function percent(share) {
  if (share < 5e-13) return "0 %";
  if (share > 1 - 5e-13) return "100 %";
  if (share < 0.0001) return "< 0.01 %";
  if (share < 0.01) return `${(100 * share).toFixed(2)} %`;
  return share > 0.999 ? "> 99.9 %" : `${(100 * share).toFixed(1)} %`;
}
