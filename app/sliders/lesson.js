// Moves the pictures of the lesson that Vega has drawn while a slider of its step is dragged: what the server would send is
// computed here and given to Vega. The lesson's sliders are Streamlit's own, which tell nobody but the server, so they are
// watched. Where the server has them too, its own pictures stay.
const AFTER = 700;  // milliseconds in which a chart that the server draws meanwhile is put where the slider is

export default function ({ data, parentElement }) {
  const root = parentElement.querySelector("span");
  root.data = data;
  root.stopWatching?.();
  let until, frame;
  const follow = () => {
    frame = undefined;
    moveAll(root.data);
    if (performance.now() < until) frame = requestAnimationFrame(follow);
  };
  const followOn = () => {
    until = performance.now() + AFTER;
    frame ??= requestAnimationFrame(follow);
  };
  const watched = new Set(), watch = new MutationObserver(followOn);
  const findSliders = () => {
    for (const name of Object.keys(data.sliders)) {
      const slider = document.querySelector(`.st-key-lesson_${name} [data-testid=stSlider]`);
      if (!slider || watched.has(slider)) continue;
      watched.add(slider);
      watch.observe(slider, { subtree: true, attributes: true, characterData: true });
    }
  };
  const arrivals = new MutationObserver(findSliders);  // a slider may come after this, or anew
  arrivals.observe(document.querySelector("[data-testid=stMain]"), { subtree: true, childList: true });
  findSliders();
  followOn();  // the server may have come to where the sliders stand
  root.stopWatching = () => {
    arrivals.disconnect();
    watch.disconnect();
    cancelAnimationFrame(frame);
  };
  return root.stopWatching;
}

function moveAll({ sliders, pictures }) {
  const values = {};
  for (const name of Object.keys(sliders)) {
    const text = document.querySelector(`.st-key-lesson_${name} input[type=range]`)?.value;
    if (!text) return;
    values[name] = Number(text);
  }
  const atServer = Object.entries(sliders).every(([name, at]) => Math.abs(values[name] - at) < 1e-9);
  for (const picture of pictures) {
    const view = viewOf(picture.chart), tables = view && tablesOf(view, picture.tables);
    if (tables) move(view, tables, picture, { ...picture.given, ...values }, atServer);
  }
}

// What Vega computes a chart with. Vega ties it to each mark that it draws, which is how its own tooltips find it.
function viewOf(chart) {
  const drawn = document.querySelectorAll(`.st-key-${chart}-place svg.marks g > *`);
  for (const mark of drawn) {
    const view = mark.__data__?.mark?.group?.context?.dataflow;
    if (view) return view;
  }
  return null;
}

// The rows that are drawn; null where the step before still is, whose tables have other names.
function tablesOf(view, names) {
  try {
    return Object.fromEntries(names.map((name) => [name, view.data(name)]));
  } catch {
    return null;
  }
}

// Tables are given again only where they are others: asked for at other values, or drawn anew by the server, which leaves
// those of its own that have not changed.
function move(view, tables, { kind, drawn }, values, atServer) {
  const ours = Object.keys(tables).filter((name) => view.lesson?.rows[name][0] === tables[name][0]);
  if (atServer && !ours.length) return;
  const asked = JSON.stringify([atServer, values]);
  if (view.lesson?.asked === asked && ours.length === Object.keys(tables).length) return;
  const rows = atServer && drawn ? plain(drawn) : PICTURES[kind](values, plain(tables));
  if (!rows) return;
  for (const [name, changed] of Object.entries(rows)) view.data(name, changed);
  view.run();
  view.lesson = { asked, rows };
}

// The same rows without Vega's own mark of each.
function plain(tables) {
  const copy = (row) => Object.fromEntries(Object.entries(row));
  return Object.fromEntries(Object.entries(tables).map(([name, rows]) => [name, rows.map(copy)]));
}

// ---- What each picture shows: tables that cist_core's charts/lesson.py and charts/histogram.py fill, at other values ----

const PICTURES = {
  fixed: bars(({ logits, tau }) => [soften(logits, tau)]),
  both: bars(({ logits, tau, rho }) => [soften(logits, tau), soften(logits, temperatureAt(logits, rho))]),
  scaled: bars(({ logits, tau, scale }) => [soften(logits, tau), soften(stretched(logits, scale), tau)]),
  // Both have the ratio that tau gives the logits as they are.
  held: bars(({ logits, tau, scale }) => {
    const ratio = Math.max(Number((centredMaximum(logits) / tau).toFixed(3)), 0.001);
    return [logits, stretched(logits, scale)].map((row) => soften(row, temperatureAt(row, ratio)));
  }),
  gap: bars((values) => [soften(rowWithGap(values, values.rho), 1)]),
  students: bars(({ logits, tau, floor, student }) => {
    const scaled = stretched(logits, student), [one, own] = twoTemperatures(student, tau, floor);
    return [soften(logits, one), soften(scaled, one), soften(scaled, own)];
  }),

  temperature({ logits, tau }) {
    const entropy = entropyOf(soften(logits, tau));
    return { now: [{ tau, entropy, text: nats(entropy) }] };
  },

  envelope(values, { row }) {
    const at = (ratio) => entropyOf(soften(rowWithGap(values, ratio), 1)), entropy = at(values.rho);
    return {
      row: row.map((point) => ({ ...point, entropy: at(point.ratio) })),
      now: [{ ratio: values.rho, entropy, text: nats(entropy) }]
    };
  },

  divergence({ logits, tau, floor, student }, { curves, now }) {
    const at = (scale, rule) => {
      const [one, own] = twoTemperatures(scale, tau, floor);
      return divergenceOf(soften(logits, one), soften(stretched(logits, scale), rule === "CIST" ? own : one));
    };
    return {
      curves: curves.map((point) => ({ ...point, divergence: at(point.scale, point.rule) })),
      now: now.map((point) => ({ ...point, scale: student, divergence: at(student, point.rule) }))
    };
  },

  // What the server has read at every position of both sliders.
  entropies(values, { points }) {
    const read = readAt(values).flat();
    return { points: points.map((point, index) => ({ ...point, entropy: read[index] })) };
  },

  shares(values, { bars }) {
    const read = readAt(values).flat();
    if (read.length !== bars.length) return null;  // those of the token before
    return { bars: bars.map((bar, index) => ({ ...bar, probability: read[index], text: percent(read[index]) })) };
  },

  histogram({ grid: name, tau }, { bins, means, regions }) {
    const grid = STUDIO.grids.get(name);
    if (!grid) return null;
    const place = nearestPosition(grid, "tau", tau);
    const pair = [grid.taus[place], grid.rhos[grid.partnersOfTaus[place]]];
    const count = pair[0].counts.length, room = 1 + 0.1 * pair.length;
    const headroom = Math.max(...pair.flatMap((rule) => rule.counts)) * room;
    return {
      bins: bins.map((bin, index) => {
        const rule = pair[Math.floor(index / count)], samples = rule.counts[index % count];
        return { ...bin, label: rule.label, samples, share: samples / grid.samples };
      }),
      means: means.map((mean, index) => ({ ...mean, label: pair[index].label, mean: pair[index].mean, spread: pair[index].std, headroom })),
      regions: regions.map((region) => {
        const rule = pair[region.line], sharp = region.region === "over-sharp";
        return { ...region, label: rule.label, text: rule.words[sharp ? 4 : 5], samples: sharp ? rule.sharp : rule.smoothed };
      })
    };
  }
};

// Bars of soft labels: of the classes that are shown and, in one bar, of all others.
function bars(softLabels) {
  return (values, tables) => {
    const { shown } = values, shares = softLabels(values).flatMap((soft) => {
      const named = shown.map((index) => soft[index]);
      return shown.length < soft.length ? [...named, 1 - named.reduce((sum, share) => sum + share, 0)] : named;
    });
    if (shares.length !== tables.bars.length) return null;
    return {
      bars: tables.bars.map((bar, index) => {
        const probability = Math.max(shares[index], 0);
        return { ...bar, probability, text: percent(probability) };
      })
    };
  };
}

function readAt({ scales, at, token_tau, token_rho }) {
  return [token_tau, token_rho].map((value, rule) => at[rule][Math.round((value - scales[rule].low) / scales[rule].step)]);
}

const stretched = (logits, scale) => logits.map((logit) => scale * logit);
const centredMaximum = (logits) => Math.max(...logits) - logits.reduce((sum, logit) => sum + logit, 0) / logits.length;
const entropyOf = (soft) => Math.max(0, -soft.reduce((sum, share) => sum + (share > 0 ? share * Math.log(share) : 0), 0));
const divergenceOf = (p, q) => Math.max(0, p.reduce((sum, share, index) => sum + (share > 0 ? share * Math.log(share / q[index]) : 0), 0));
const nats = (entropy) => `${threeDigits(entropy)} nats`;

function temperatureAt(logits, rho) {
  const maximum = centredMaximum(logits);
  return maximum > 0 ? maximum / rho : 1;
}

function twoTemperatures(scale, tau, floor) {
  return [Math.max(tau, floor), Math.max(scale * tau, floor)];
}

function rowWithGap({ logits, seconds, gap }, ratio) {
  const classes = logits.length, rest = classes - 1 - seconds, second = ratio - gap / 100 * ratio * classes / (classes - 1);
  return [ratio, ...Array(seconds).fill(second), ...Array(rest).fill(-(ratio + seconds * second) / rest)];
}
