// Draws the charts, and moves the first ones with the sliders. What a pair says is in slider_grid.js, which stands above.
const data = JSON.parse(document.getElementById("data").textContent);
const grid = data.grid;
const dark = window.matchMedia("(prefers-color-scheme: dark)");
const element = (id) => document.getElementById(id);

// ---- Charts

const views = {};

function draw() {
  const config = dark.matches ? data.themes.dark : data.themes.light;
  const options = {
    config: config, renderer: "svg", actions: { export: true, source: false, compiled: false, editor: false }
  };
  for (const [id, spec] of Object.entries(data.charts)) {
    // In the dark the words have other colours; marks and data are the same.
    vegaEmbed("#" + id, structuredClone({ ...spec, ...(dark.matches ? data.dark[id] : {}) }), options).then((result) => {
      views[id] = result.view;
      if (grid) show(id);
    });
  }
}

// ---- A pair of positions

function areMatched(tau, rho) {
  const [first, last] = grid.matched[tau];
  return first <= rho && rho <= last;
}

function headline(tau, rho) {
  return findingOf(grid, grid.headlineKinds[grid.headlineOf[tau][rho]], grid.taus[tau], grid.rhos[rho]);
}

function gainWords(tau, rho) {
  return gainOf(grid, grid.gainKinds[grid.gainOf[tau][rho]], grid.taus[tau], grid.rhos[rho]);
}

function ratiosMove(tau, rho) {
  const a = grid.taus[tau];
  return fill(grid.ratiosMove, { first: a.label, low: a.low, high: a.high, held: grid.rhos[rho].held });
}

// The tables of the first chart with the numbers of a pair in the places of those it was made with.
function histogramTables(tau, rho) {
  const sides = [grid.taus[tau], grid.rhos[rho]];
  const made = data.charts["chart-1"].datasets;
  const bins = sides[0].counts.length;
  const highest = Math.max(...sides.flatMap((side) => side.counts));
  return {
    bins: made.bins.map((row, index) => {
      const side = sides[Math.floor(index / bins)], samples = side.counts[index % bins];
      return { ...row, label: side.label, samples: samples, share: samples / grid.samples };
    }),
    means: made.means.map((row, index) => ({
      ...row, label: sides[index].label, mean: sides[index].mean, spread: sides[index].std, headroom: highest * 1.2
    })),
    regions: made.regions.map((row) => {
      const side = sides[row.line], sharp = row.region === "over-sharp";
      return {
        ...row, label: side.label, text: side.words[sharp ? 4 : 5], samples: sharp ? side.sharp : side.smoothed
      };
    })
  };
}

function ratioTables(tau, rho) {
  const sides = [grid.taus[tau], grid.rhos[rho]];
  const made = data.charts["chart-ratios"].datasets.points;
  const shown = grid.maxima.length;
  const heights = sides.map((side) => Uint8Array.from(atob(side.drawn), (letter) => letter.charCodeAt(0)));
  const points = made.map((row, index) => {
    const held = index >= shown, sample = index % shown, maximum = grid.maxima[sample];
    const temperature = held ? Math.max(maximum / sides[1].at, grid.floor) : sides[0].at;
    const ratio = maximum > 0 ? maximum / temperature : 0;
    const side = held ? 1 : 0;
    return { ...row, label: sides[side].label, ratio: ratio, entropy: heights[side][sample] * grid.maxEntropy / 255 };
  });
  const reach = points.reduce((most, row) => Math.max(most, row.ratio), 0) * data.beyond;
  return { points: points, curve: data.curve.filter((row) => row.ratio <= reach) };
}

const TABLES = { "chart-1": histogramTables, "chart-ratios": ratioTables };

// ---- The page

const pair = () => [Number(element("tau").value), Number(element("rho").value)];

function show(id) {
  if (!(id in TABLES) || !views[id]) return;
  for (const [name, rows] of Object.entries(TABLES[id](...pair()))) views[id].data(name, rows);
  views[id].runAsync();
}

let waiting = false;

function showPair() {
  const [tau, rho] = pair();
  const sides = { tau: grid.taus[tau], rho: grid.rhos[rho] };
  for (const [id, side] of Object.entries(sides)) {
    element(id + "-label").textContent = side.label;
    element(id).setAttribute("aria-valuetext", side.label);
  }
  element("headline").textContent = headline(tau, rho);
  element("gain").textContent = gainWords(tau, rho);
  element("ratios").textContent = ratiosMove(tau, rho);
  element("sentences").textContent = sides.rho.sentences;
  element("note").textContent = areMatched(tau, rho) ? "" : grid.notes[whyNotMatched(grid, element("matching").checked, sides.tau)];
  element("chart-1").setAttribute("aria-label", headline(tau, rho));
  element("chart-ratios").setAttribute("aria-label", ratiosMove(tau, rho));
  document.querySelectorAll("#numbers tbody tr").forEach((row, index) => {
    const side = index === 0 ? sides.tau : sides.rho;
    row.querySelector("th span:last-child").textContent = side.label;
    row.querySelectorAll("td").forEach((cell, column) => { cell.textContent = side.words[column]; });
  });
  // A dragged slider moves more often than a screen is drawn.
  if (!waiting) requestAnimationFrame(() => { waiting = false; Object.keys(TABLES).forEach(show); });
  waiting = true;
}

function match(moved) {
  if (!element("matching").checked) return;
  const [tau, rho] = pair();
  if (moved === "tau") element("rho").value = partnerOf(grid, "tau", tau);
  else element("tau").value = partnerOf(grid, "rho", rho);
}

if (grid) {
  for (const id of ["tau", "rho"]) element(id).addEventListener("input", () => { match(id); showPair(); });
  element("matching").addEventListener("change", () => { match("tau"); showPair(); });
  element("reset").addEventListener("click", () => {
    [element("tau").value, element("rho").value] = grid.start;
    element("matching").checked = areMatched(...grid.start);
    showPair();
  });
}
dark.addEventListener("change", draw);
draw();
