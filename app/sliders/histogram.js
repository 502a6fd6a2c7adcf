const SVG = "http://www.w3.org/2000/svg";
const REACH = 8;  // pixels around the end of a brush in which it is taken hold of
const LEFT = 52, RIGHT = 14, TOP = 44, BOTTOM = 46;

export default function ({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector(".histogram");
  root.data = data;
  root.tell = setTriggerValue;
  root.parts ??= startHistogram(root);
  const stop = followRules(root, (pair) => {
    root.pair = pair;
    root.parts.draw();
  });
  return () => {
    stop();
    root.parts.stop();
    root.parts = undefined;
  };
}

function startHistogram(root) {
  const svg = root.querySelector("svg"), tip = root.querySelector(".tip"), legend = root.querySelector(".legend");
  const make = (name, parent, attributes = {}) => {
    const made = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    parent.append(made);
    return made;
  };
  const layer = (name) => make("g", svg, { class: name });
  const layers = Object.fromEntries(
    ["bands", "grid", "bars", "chosen", "means", "counts", "nats", "units", "titles", "shares", "brush"].map((name) => [name, layer(name)]));
  // Marks are made once and moved, which is what keeps a drag smooth.
  const kept = new Map();
  const mark = (name, key, parent, attributes) => {
    if (!kept.has(key)) kept.set(key, make(name, parent));
    const known = kept.get(key);
    for (const [attribute, value] of Object.entries(attributes)) {
      if (known[`_${attribute}`] !== value) {
        known[`_${attribute}`] = value;
        known.setAttribute(attribute, value);
      }
    }
    known.shown = turn;
    return known;
  };
  const text = (key, parent, words, attributes) => {
    const known = mark("text", key, parent, attributes);
    if (known.textContent !== words) known.textContent = words;
  };
  let turn = 0, box = { width: 0, height: 0 };

  const series = () => {
    const { tau, rho } = root.pair;
    return [
      { ...tau, key: "fixed", name: "fixed τ", colour: "var(--fixed)", chosen: root.data.selected?.[0] },
      { ...rho, key: "cist", name: "CIST", colour: "var(--cist)", chosen: root.data.selected?.[1] },
      ...root.data.further.map((rule, index) => ({ ...rule, key: `further-${index}` }))
    ];
  };

  function draw() {
    if (!root.pair || box.width < 50) return;
    turn += 1;
    const { data, pair } = root, rules = series();
    const limit = pair.maxEntropy, bins = pair.tau.counts.length;
    const width = box.width, height = box.height, right = width - RIGHT, bottom = height - BOTTOM;
    const highest = rules.reduce((most, rule) => Math.max(most, ...rule.counts), 1) * (1 + 0.1 * rules.length);
    const x = (value) => LEFT + (value / limit) * (right - LEFT);
    const y = (count) => bottom - (count / highest) * (bottom - TOP);
    root.scale = { x, limit, bins, right, bottom, rules };
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);

    const bands = [["sharp", 0, data.regions[0]], ["smoothed", data.regions[1], limit]];
    for (const [name, from, to] of bands) {
      mark("rect", name, layers.bands, { x: x(from), y: TOP, width: Math.max(0, x(to) - x(from)), height: bottom - TOP });
    }
    const step = niceStep(highest / 5, 1);
    for (let count = 0, index = 0; count <= highest; count += step, index += 1) {
      mark("line", `grid-${index}`, layers.grid, { x1: LEFT, x2: right, y1: y(count), y2: y(count) });
      text(`count-${index}`, layers.counts, count.toLocaleString("en-US"),
        { x: LEFT - 8, y: y(count) + 4, "text-anchor": "end" });
    }
    const outline = (counts) => {
      let path = "";
      counts.forEach((count, bin) => {
        if (count) path += `M${x(bin * limit / bins).toFixed(1)} ${bottom}V${y(count).toFixed(1)}H${x((bin + 1) * limit / bins).toFixed(1)}V${bottom}Z`;
      });
      return path || "M0 0";
    };
    for (const rule of rules) {
      mark("path", `bars-${rule.key}`, layers.bars, { d: outline(rule.counts), fill: rule.colour });
      if (rule.chosen && !pair.moving) {
        mark("path", `chosen-${rule.key}`, layers.chosen, { d: outline(rule.chosen), fill: rule.colour });
      }
      mark("line", `mean-${rule.key}`, layers.means, { x1: x(rule.mean), x2: x(rule.mean), y1: TOP + 6 + 16 * rules.length, y2: bottom, stroke: rule.colour });
    }
    const wide = width >= 470;
    const known = (rule) => !(pair.moving && data.unusual && (rule.key === "fixed" || rule.key === "cist"));
    rules.forEach((rule, line) => {
      const row = TOP + 16 + 16 * line, shares = rule.shares ?? (data.unusual && !pair.moving ? data.shares[line] : [rule.words[4], rule.words[5]]);
      text(`sharp-${rule.key}`, layers.shares, known(rule) ? shares[0] + (wide ? " over-sharp" : "") : "",
        { x: x(data.regions[0]) + 6, y: row, fill: ink(rule.colour) });
      text(`smoothed-${rule.key}`, layers.shares, known(rule) ? shares[1] + (wide ? " over-smoothed" : "") : "",
        { x: x(data.regions[1]) - 6, y: row, fill: ink(rule.colour), "text-anchor": "end" });
    });
    const unit = niceStep(limit / (width > 600 ? 8 : 5), 0);
    for (let value = 0, index = 0; value <= limit; value += unit, index += 1) {
      text(`nats-${index}`, layers.nats, value.toFixed(unit < 1 ? 1 : 0), { x: x(value), y: bottom + 17, "text-anchor": "middle" });
    }
    [0, 0.2, 0.4, 0.6, 0.8, 1].forEach((value, index) => {
      text(`unit-${index}`, layers.units, value.toFixed(1), { x: x(value * limit), y: TOP - 7, "text-anchor": "middle" });
    });
    text("x", layers.titles, "entropy (nats)", { x: (LEFT + right) / 2, y: height - 8, "text-anchor": "middle", class: "title" });
    text("top", layers.titles, "normalised entropy (H / ln C)", { x: (LEFT + right) / 2, y: 15, "text-anchor": "middle", class: "title" });
    text("y", layers.titles, root.data.unit || "samples", { x: 0, y: 0, "text-anchor": "middle", class: "title",
      transform: `translate(12 ${(TOP + bottom) / 2}) rotate(-90)` });
    drawBrush();
    for (const [key, known] of kept) {
      if (known.shown !== turn) {
        known.remove();
        kept.delete(key);
      }
    }
    const spoken = `${pair.finding}. ` + rules.map((rule) =>
      `${rule.label}: mean ${threeDigits(rule.mean)}, spread ${threeDigits(rule.std)} nats`).join("; ");
    if (!pair.moving) svg.setAttribute("aria-label", spoken);
    const names = rules.map((rule) => rule.name).join("|");
    if (legend.names !== names) {
      legend.names = names;
      legend.replaceChildren(...rules.map((rule) => {
        const entry = document.createElement("span");
        entry.textContent = rule.name;
        entry.style.setProperty("--colour", rule.colour);
        return entry;
      }));
    }
  }

  // Words in a rule's colour are mixed with ink, or they would be too pale to read.
  const ink = (colour) => `color-mix(in srgb, ${colour} 68%, var(--st-text-color))`;

  // ---- The brush: with a mouse or a pen; a finger that swipes scrolls

  let pulled = null;
  const interval = () => pulled ?? (root.pair?.moving ? null : root.data.interval);

  function drawBrush() {
    const ends = interval();
    if (!ends) return;
    const { x, bottom } = root.scale, [from, to] = ends.map((value) => x(Math.min(Math.max(value, 0), root.scale.limit)));
    mark("rect", "brush", layers.brush, { x: from, y: TOP, width: Math.max(1, to - from), height: bottom - TOP, class: "area" });
    const middle = (TOP + bottom) / 2;
    for (const [name, at] of [["from", from], ["to", to]]) {
      mark("line", `brush-${name}`, layers.brush, { x1: at, x2: at, y1: TOP, y2: bottom, class: "end" });
      mark("rect", `handle-${name}`, layers.brush, { x: at - 5, y: middle - 14, width: 10, height: 28, rx: 4, class: "handle" });
      mark("path", `grip-${name}`, layers.brush, { d: `M${at - 1.5} ${middle - 6}v12m3 0v-12`, class: "grip" });
    }
  }

  // What a drag that begins here makes of the brush: an end is moved by its handle, the whole by what lies between. Beside
  // it are the pixels that it must go, and whether it wipes the brush away where it goes no farther.
  function pulling(event) {
    const start = entropyAt(event), ends = interval(), { x, limit } = root.scale;
    const between = (one) => (other) => [one, other].sort((a, b) => a - b);
    const afresh = { pull: between(start), least: 4, wipes: true };
    if (!ends) return afresh;
    const [low, high] = ends, far = ends.map((end) => Math.abs(x(end) - x(start)));
    if (Math.min(...far) <= REACH) return { pull: between(far[0] < far[1] ? high : low), least: 0, wipes: false };
    if (start < low || start > high) return afresh;
    const pull = (now) => {
      const by = Math.min(Math.max(now - start, -low), limit - high);
      return [low + by, high + by];
    };
    return { pull, least: 4, wipes: false };
  }

  const entropyAt = (event) => {
    const place = svg.getBoundingClientRect(), { limit, right } = root.scale;
    return Math.min(Math.max((event.clientX - place.left - LEFT) / (right - LEFT), 0), 1) * limit;
  };
  svg.addEventListener("pointerdown", (event) => {
    if (!root.scale || !root.data.brush || event.pointerType === "touch" || event.button !== 0) return;
    const first = event.clientX, { pull, least, wipes } = pulling(event);
    svg.setPointerCapture(event.pointerId);
    const drag = (moved) => {
      pulled = pull(entropyAt(moved));
      tip.hidden = true;
      draw();
    };
    const end = (up) => {
      svg.removeEventListener("pointermove", drag);
      svg.removeEventListener("pointerup", end);
      svg.removeEventListener("pointercancel", end);
      const chosen = Math.abs(up.clientX - first) > least && up.type === "pointerup" ? pulled : null;
      pulled = null;
      if (chosen) root.data.interval = chosen;
      if (chosen || (wipes && up.type === "pointerup" && root.data.interval)) {
        if (!chosen) root.data.interval = null;
        root.tell("brushed", { interval: chosen });
      }
      draw();
    };
    svg.addEventListener("pointermove", drag);
    svg.addEventListener("pointerup", end);
    svg.addEventListener("pointercancel", end);
    event.preventDefault();
  });

  // ---- What is under the mouse

  svg.addEventListener("pointermove", (event) => {
    if (!root.scale || pulled) return;
    const { limit, bins, rules, x, bottom } = root.scale, place = svg.getBoundingClientRect();
    const at = event.clientX - place.left, down = event.clientY - place.top;
    if (at < LEFT || at > x(limit) || down < TOP || down > bottom) { tip.hidden = true; return; }
    const bin = Math.min(bins - 1, Math.floor(entropyAt(event) / limit * bins));
    const size = limit / bins;
    const lines = [`${(bin * size).toFixed(3)} to ${((bin + 1) * size).toFixed(3)} nats`, ...rules.map((rule) =>
      `${rule.label}: ${rule.counts[bin].toLocaleString("en-US")} (${(100 * rule.counts[bin] / root.pair.samples).toFixed(1)} %)`)];
    tip.replaceChildren(...lines.map((words) => Object.assign(document.createElement("div"), { textContent: words })));
    tip.hidden = false;
    tip.style.left = `${Math.min(at + 14, place.width - 190)}px`;
    tip.style.top = `${Math.max(0, down - 20)}px`;
  });
  svg.addEventListener("pointerleave", () => { tip.hidden = true; });

  const watch = new ResizeObserver(() => {
    box = { width: svg.clientWidth, height: svg.clientHeight };
    draw();
  });
  watch.observe(svg);
  return { draw, stop: () => watch.disconnect() };
}

// A step of 1, 2 or 5 times a power of ten, no smaller than the least.
function niceStep(about, least) {
  const size = 10 ** Math.floor(Math.log10(about));
  const step = [1, 2, 5, 10].find((factor) => factor * size >= about) * size;
  return Math.max(step, least);
}
