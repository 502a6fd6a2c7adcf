// A text whose tokens are coloured by what the model expected there. Everything that depends on a temperature is read from
// the entropy curves of the tokens, so that no move of a slider needs the server.
//
// The passage comes by itself, once (passage.js): tokens, names, nodes, classes, prompts, teacher, student, before.
// data:
//   id        of the passage
//   further   whether the model has read something before it
//   sliders   { tau, rho, matched, floor, bounds: { tau: [low, high], rho: [low, high] } }
//   scales    of each measure { low, high, log }
//   measure, rule, model, pinned
//   between   [first, last] position of the stretch that is selected, null for an open end; or null
//   others    whether each token fulfils whatever else is selected by; or null
//   turn      the number of what the server was told last

const TOKENS_REST = 300;  // milliseconds until the server is told
const TOKENS_STEPS = 1000;
const TOKENS_SAME_MEAN = .01;  // relative; what rounding the sliders does to mean entropies is less
const TOKENS_NARROW = 900;  // pixels, as in tokens.css; there the tables stand below the text
const TOKENS_ABOVE = 165, TOKENS_FACTS = 28, TOKENS_ROW = 21;  // pixels: above the tables once one has scrolled to the text, above each, of a row
const TOKENS_MOST = { cist: 82, fixed: 62 };  // percent of the colours; words on them stand out in both themes

const TOKEN_MEASURES = {
  entropy: { name: "Entropy", unit: "nats", ruled: true },
  surprisal: { name: "Surprisal", unit: "nats", ruled: true },
  maximum: { name: "Centred maximum m", unit: "" },
  temperature: { name: "CIST temperature", unit: "" },
  weight: { name: "CIST weight", unit: "× the mean", diverging: true, joint: true },
  divergence: { name: "KL to the student", unit: "nats", ruled: true, joint: true, needsStudent: true },
  reverse: { name: "Reverse KL, from the student", unit: "nats", ruled: true, joint: true, needsStudent: true },
  rank: { name: "Rank of the token", unit: "" },
};

// Whose numbers, by name: of one model, or of the first less those of the second. Measures of a pair are a student's.
const TOKEN_MODELS = {
  teacher: { of: ["teacher"] },
  student: { of: ["student"], pair: true },
  both: { of: ["student", "teacher"] },
  before: { of: ["before"], pair: true },
  change: { of: ["student", "before"], pair: true },
};

export default function ({ data, parentElement, setStateValue }) {
  const root = parentElement.querySelector(".tokens");
  root.tell = setStateValue;
  root.turn = Math.max(root.turn ?? 0, data.turn);
  root.given = data;
  if (!root.show) {
    root.show = () => showPassage(root);
    root.resize = () => root.reader?.redraw();  // there may be room for more
    window.addEventListener("cist-passage", root.show);
    window.addEventListener("resize", root.resize);
  }
  root.show();
  return () => {
    window.removeEventListener("cist-passage", root.show);
    window.removeEventListener("resize", root.resize);
    root.show = undefined;
  };
}

function showPassage(root) {
  const { given } = root, { passage } = STUDIO;
  if (passage?.id !== given.id) return;  // it is on its way
  if (root.made !== given.id) {
    root.made = given.id;
    root.reader?.leave();
    root.reader = startReader(root, { ...passage, ...given });
  }
  root.reader.take(given);
}

function startReader(root, data) {
  const find = (name) => root.querySelector(name);
  const [text, line, range, aside] = [".text", ".line", ".range", "aside"].map(find);
  const boxes = Object.fromEntries(["measure", "rule", "model", "floor"].map((name) => [name, find(`select.${name}`)]));
  const measureBox = boxes.measure, match = find("[role=switch]");
  const sides = {}, tables = tokenTables(data.nodes, data.teacher.tokens);
  for (const side of ["teacher", "before", "student"]) {
    if (!data[side]) continue;
    const { tokens, curves, cross, reverse } = data[side];
    sides[side] = { tokens, curves: tokenCurves(tables, curves), cross: cross && tables(cross, 2), reverse: reverse && tables(reverse, 2) };
  }
  const state = { measure: "entropy", rule: "rho", model: "teacher", tau: 1, rho: 17, floor: 0, matched: true, pinned: null, hovered: null, selected: null, others: null, drawn: false };
  let values = [], frame, timer;
  const leaving = new AbortController();
  const hear = (target, kind, act) => target.addEventListener(kind, act, { signal: leaving.signal });

  // ---- What there is

  measureBox.replaceChildren(...Object.entries(TOKEN_MEASURES)
    .filter(([, measure]) => sides.student || !measure.needsStudent).map(([key, measure]) => new Option(measure.name, key)));
  const models = Object.entries(TOKEN_MODELS).filter(([, { of }]) => of.every((side) => sides[side]));
  const spans = data.tokens.map((token, index) => tokenSpan(token, index, data.prompts));
  text.replaceChildren(...spans);

  const counts = (index) => data.tokens[index].counted && sides.teacher.tokens[index] !== null;
  const predicted = sides.teacher.tokens.map((token, index) => [token, index]).filter(([token]) => token !== null);
  const counted = predicted.filter(([, index]) => counts(index));
  // Whose numbers are told and matched: where no token counts, those of all that were predicted.
  const told = counted.length ? counted : predicted;
  const prompted = counted.length > 0 && predicted.some(([, index]) => !counts(index));
  // What is shown until somebody points at a token: the one that the model expected least.
  const first = told.map(([token, index]) => [sides.teacher.curves.logZ(index, token.maximum) - token.shifted, index])
    .reduce((largest, each) => (largest === null || each[0] > largest[0] ? each : largest), null)?.[1] ?? null;

  // ---- What the rules say of a token

  const ratioOf = (token, rule) => (rule === "tau" ? token.maximum / state.tau
    : state.floor > 0 ? Math.min(state.rho, token.maximum / state.floor) : state.rho);
  const temperatureOf = (token, rule) => (rule === "tau" ? state.tau : Math.max(token.maximum / state.rho, state.floor) || 1);

  function valueOf(name, rule, side) {
    const { tokens, curves } = sides[side];
    const meanWeight = name === "weight" ? mean(told.map(([, index]) => weightAt(index, side))) : 1;
    return tokens.map((token, index) => {
      if (token === null) return null;
      switch (name) {
        case "entropy": return curves.entropy(index, ratioOf(token, rule));
        case "surprisal": return curves.logZ(index, ratioOf(token, rule)) - token.shifted / temperatureOf(token, rule);
        case "maximum": return token.maximum;
        case "temperature": return temperatureOf(token, "rho");
        case "weight": return weightAt(index, side) / meanWeight;
        case "divergence": return divergence(index, rule, sides.teacher, sides[side], sides[side].cross);
        case "reverse": return divergence(index, rule, sides[side], sides.teacher, sides[side].reverse);
        default: return token.rank;
      }
    });
  }

  // tau_t tau_s; without a student the teacher's part alone.
  const weightAt = (index, side) => temperatureOf(sides.teacher.tokens[index], "rho") * (side === "teacher" ? 1 : temperatureOf(sides[side].tokens[index], "rho"));

  function divergence(index, rule, first, second, table) {
    const [token, other] = [first.tokens[index], second.tokens[index]], ratio = ratioOf(token, rule);
    const distance = table(index, ratio, (at) => at[0], (at) => at[1]) / temperatureOf(other, rule);
    return Math.max(distance + second.curves.logZ(index, ratioOf(other, rule)) - first.curves.entropy(index, ratio), 0);
  }

  // The models that a measure can be of: that of a pair is a student's, or alone the teacher's part of it.
  const modelsOf = (measure) => models.filter(([, { pair }]) => !measure.joint || !sides.student || pair);

  // ---- Drawing

  function draw() {
    frame = undefined;
    const measure = TOKEN_MEASURES[state.measure], { ruled } = measure;
    find(".under").hidden = !ruled;
    const offered = modelsOf(measure), [model, { of }] = offered.find(([name]) => name === state.model) ?? offered[0];
    find(".models").hidden = offered.length < 2;
    for (const option of boxes.model.options) option.hidden = option.disabled = !offered.some(([name]) => name === option.value);
    const rules = ruled && state.rule === "difference" ? ["rho", "tau"] : [ruled ? state.rule : "rho"];
    const byRule = rules.map((rule) => subtracted(of.map((side) => valueOf(state.measure, rule, side))));
    values = subtracted(byRule);
    const compared = of.length > 1 || rules.length > 1, { low, high, log } = data.scales[state.measure];
    const scale = compared ? symmetric(high / (log ? 4 : 2)) : [low, high];
    const place = placeOn(scale, log && !compared), diverging = compared || measure.diverging;
    spans.forEach((span, index) => {
      span.style[data.tokens[index].counted ? "backgroundColor" : "borderBottomColor"] = values[index] === null ? "" : tint(place(values[index]), diverging);
    });
    const stops = Array.from({ length: 11 }, (_, step) => tint(step / 10, diverging));
    find(".scale i").style.background = `linear-gradient(to right, ${stops.join(", ")})`;
    find(".from").textContent = spelledValue(scale[0], measure.unit, compared);
    find(".to").textContent = spelledValue(scale[1], measure.unit, compared);
    find(".says").textContent = told.length
      ? [`${meanSays(measure)}.`, floorSays(), partnerSays(), prompted ? "What does not count is underlined in its colour." : ""].filter(Boolean).join(" ") : "";
    drawLine(place);
    drawRange();
    drawDetails();
    for (const name of ["tau", "rho"]) {
      const [input, output] = find(`.slider.${name}`).querySelectorAll("input, output");
      const at = shareOf(state[name], data.sliders.bounds[name]);
      input.value = Math.round(TOKENS_STEPS * at);
      input.style.setProperty("--at", at);
      input.setAttribute("aria-valuetext", shortNumber(state[name]));
      output.textContent = shortNumber(state[name]);
    }
    match.setAttribute("aria-checked", state.matched);
    for (const [name, box] of Object.entries(boxes)) box.value = String(name === "model" ? model : state[name]);
  }

  function meanSays(measure) {
    const inMean = told.map(([, index]) => values[index]), number = told.length.toLocaleString("en-US");
    const which = counted.length ? `${number} token${told.length === 1 ? " that counts" : "s that count"}` : `${number} token${told.length === 1 ? "" : "s"}, none of which counts`;
    const middle = state.measure === "weight" ? `${shortNumber(Math.min(...inMean))} to ${shortNumber(Math.max(...inMean))}` : `mean ${shortNumber(mean(inMean))}`;
    return `${which}: ${middle}${unitOf(measure)}`;
  }

  function floorSays() {
    const held = told.filter(([token]) => token.maximum / state.rho <= state.floor).length;
    if (!state.floor) {
      const low = told.filter(([token]) => token.maximum / state.rho < 1).length;
      return low ? `Without a floor, CIST's temperature is below 1 at ${percent(low / told.length)} of them.` : "";
    }
    if (!held) return "";
    return `The floor holds the CIST temperature of ${percent(held / told.length)} of them at ${shortNumber(state.floor)}`
      + (state.tau === state.floor ? ", where both rules are one." : ".");
  }

  // At the end of a slider there may be no value with the mean entropy of the other.
  function partnerSays() {
    const atEnd = ["tau", "rho"].some((name) => data.sliders.bounds[name].some((end) => Math.abs(state[name] / end - 1) < 1e-3));
    if (!state.matched || !atEnd) return "";
    const [fixed, cist] = ["tau", "rho"].map((name) => meanEntropy(name, state[name]));
    if (Math.abs(fixed - cist) <= TOKENS_SAME_MEAN * Math.max(fixed, cist)) return "";
    return `The sliders cannot be matched here: the mean entropy is ${shortNumber(fixed)} nats at τ and ${shortNumber(cist)} under CIST.`;
  }

  const redraw = () => { frame ??= requestAnimationFrame(draw); };

  function drawLine(place) {
    const points = values.map((value, index) => value === null ? null
      : `${(1000 * (index + 0.5) / values.length).toFixed(1)},${(60 - 56 * place(value)).toFixed(1)}`).filter(Boolean);
    line.innerHTML = selectedStretches().map(([from, to]) => (
      `<rect x="${1000 * from / values.length}" width="${1000 * (to - from) / values.length}" y="0" height="64"/>`)).join("")
      + `<polyline points="${points.join(" ")}"/>`;
  }

  // Of one that is drawn every token, also those that do not count; of the rest whatever is next to one another.
  function selectedStretches() {
    if (!state.others) return state.selected ? [state.selected] : [];
    const found = [];
    spans.forEach((_, index) => {
      if (!isSelected(index)) return;
      if (found.at(-1)?.[1] === index) found.at(-1)[1] = index + 1;
      else found.push([index, index + 1]);
    });
    return found;
  }

  function drawRange() {
    const all = !state.selected && !state.others;
    spans.forEach((span, index) => span.classList.toggle("out", !all && !isSelected(index)));
    if (all) { range.textContent = "Drag along the line to select a stretch of the text."; return; }
    const inside = values.filter((_, index) => isSelected(index)), measure = TOKEN_MEASURES[state.measure];
    const tokens = inside.length === 1 ? "1 token" : `${inside.length.toLocaleString("en-US")} tokens`;
    range.textContent = inside.length ? `${tokens} selected: mean ${shortNumber(mean(inside))}, `
      + `largest ${shortNumber(Math.max(...inside))}${unitOf(measure)}.` : "No token that counts is selected here.";
  }

  // As the rule says it: of the tokens that count.
  const isSelected = (index) => counts(index) && (state.others?.[index] ?? true)
    && (!state.selected || (state.selected[0] <= index && index < state.selected[1]));

  function drawDetails() {
    const index = state.hovered ?? state.pinned ?? first;
    text.setAttribute("aria-activedescendant", state.hovered === null ? "" : spans[state.hovered].id);
    spans.forEach((span, at) => {
      span.classList.toggle("pinned", at === state.pinned);
      span.classList.toggle("here", at === state.hovered);
      span.setAttribute("aria-selected", at === state.pinned);
    });
    aside.classList.toggle("idle", state.hovered === null && state.pinned === null);
    if (index === null) { aside.replaceChildren(made("p", "hint", "No token of this passage was predicted.")); return; }
    const token = data.tokens[index];
    aside.replaceChildren(made("h4", "", token.text ? `“${visible(token.text)}”` : "the beginning of the next character"),
      made("p", "facts", `token ${token.position + 1} · ${token.role}${token.counted ? "" : ", does not count"}`));
    for (const [side, { tokens }] of Object.entries(sides)) {
      const own = tokens[index];
      if (own === null) { aside.append(made("p", "hint", data.further ? "It was predicted at the end of the passage before." : "Nothing stands before it that could predict it.")); return; }
      const whose = sides.student ? `${side === "before" ? "student before" : side}: ` : "";
      aside.append(made("p", "facts", `${whose}rank ${own.rank.toLocaleString("en-US")} · m ${shortNumber(own.maximum)}`), tableOf(side, index));
    }
    if (state.pinned === null) aside.append(made("p", "hint", state.hovered === null
      ? "The least expected token. Point at another, or move with the arrow keys; a click or Enter pins it." : "A click or Enter pins it."));
  }

  // So many that all tables are in sight while one points, where the window has room for more than a few.
  function rowsInSight(most) {
    const tables = Object.keys(sides).length, least = [most, 5, 3][tables - 1];
    if (window.innerWidth <= TOKENS_NARROW) return least;
    const room = (window.innerHeight - TOKENS_ABOVE) / tables - TOKENS_FACTS;
    return Math.min(Math.max(Math.floor(room / TOKENS_ROW) - 5, least), most);  // head, the token itself, all others, two sums
  }

  // The most likely tokens under no rule and both, the one that stands here, and all others together.
  function tableOf(side, index) {
    const { tokens, curves } = sides[side], token = tokens[index];
    const rules = [["raw", token.maximum, 1], ["τ", ratioOf(token, "tau"), state.tau], ["CIST ρ", ratioOf(token, "rho"), temperatureOf(token, "rho")]];
    const logZ = rules.map(([, ratio]) => curves.logZ(index, ratio));
    const most = token.top.length;
    const rows = token.top.slice(0, state.pinned === index ? most : rowsInSight(most)).map(([id, shifted], row) => [row + 1, id, shifted]);
    const here = data.tokens[index].id;
    if (!rows.some(([, id]) => id === here)) rows.push([token.rank, here, token.shifted]);
    const sharesOf = (shifted) => rules.map(([, , at], column) => Math.exp(shifted / at - logZ[column]));
    const rest = rows.reduce((left, [, , shifted]) => left.map((share, column) => Math.max(share - sharesOf(shifted)[column], 0)), [1, 1, 1]);
    const table = made("table", "");
    table.append(
      headOf(rules),
      ...rows.map(([rank, id, shifted]) => shareRow(rank.toLocaleString("en-US"), visible(data.names[id] ?? `token ${id}`), sharesOf(shifted), id === here)),
      shareRow("", `the other ${(data.classes - rows.length).toLocaleString("en-US")}`, rest, false),
      footRow("entropy, nats", rules.map(([, ratio]) => curves.entropy(index, ratio))),
      footRow("temperature", rules.map(([, , at]) => at)),
    );
    return table;
  }

  // ---- What a hand does

  const soon = () => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      timer = undefined;
      root.turn += 1;
      const { measure, rule, model, tau, rho, floor, matched, pinned } = state;
      root.tell("shown", { measure, rule, model, tau, rho, floor, matched, pinned, ...drawnStretch(), turn: root.turn });
    }, TOKENS_REST);
  };
  // Told only where a hand has drawn or lifted one: a rule may say more of it than its first and last token.
  const drawnStretch = () => (state.drawn
    ? { between: state.selected && [data.tokens[state.selected[0]].position, data.tokens[state.selected[1] - 1].position] } : {});
  const stretch = (selected) => change(selected || state.selected ? { selected, drawn: true } : {});
  const change = (what) => { Object.assign(state, what); redraw(); soon(); };

  const stretchBetween = (low, high) => {
    const inside = data.tokens.flatMap(({ position }, index) => ((low ?? -Infinity) <= position && position <= (high ?? Infinity) ? [index] : []));
    return inside.length ? [inside[0], inside.at(-1) + 1] : [0, 0];
  };

  // The other slider goes where the tokens that are shown have the same mean entropy, as far as it reaches.
  const meanEntropy = (name, value) => {
    const before = state[name];
    state[name] = value;
    const found = mean(told.map(([token, index]) => sides.teacher.curves.entropy(index, ratioOf(token, name))));
    state[name] = before;
    return found;
  };
  const partner = (moved, value) => {
    const other = moved === "tau" ? "rho" : "tau", wanted = meanEntropy(moved, value), sign = other === "tau" ? 1 : -1;
    let [low, high] = data.sliders.bounds[other];
    for (let step = 0; step < 30; step += 1) {
      const middle = Math.sqrt(low * high);
      if (sign * (meanEntropy(other, middle) - wanted) < 0) low = middle; else high = middle;
    }
    return { [other]: Number(Math.sqrt(low * high).toPrecision(4)) };
  };
  const slide = (name, value) => change({ [name]: value, ...(state.matched && told.length ? partner(name, value) : {}) });

  for (const name of ["measure", "rule", "model"]) hear(boxes[name], "change", () => change({ [name]: boxes[name].value }));
  hear(boxes.floor, "change", () => { state.floor = Number(boxes.floor.value); slide("tau", state.tau); });
  for (const name of ["tau", "rho"]) {
    hear(find(`.slider.${name} input`), "input", ({ target }) => {
      const [low, high] = data.sliders.bounds[name];
      slide(name, Number((low * (high / low) ** (target.value / TOKENS_STEPS)).toPrecision(3)));
    });
  }
  hear(match, "click", () => {
    state.matched = !state.matched;
    slide("tau", state.tau);
  });
  const indexOf = (event) => event.target.closest(".token")?.index ?? null;
  hear(text, "pointerover", (event) => {
    if (event.pointerType !== "touch") { state.hovered = indexOf(event); redraw(); }
  });
  hear(text, "pointerleave", () => { state.hovered = null; redraw(); });
  hear(text, "click", (event) => {
    const index = indexOf(event);
    if (index !== null) change({ pinned: state.pinned === index ? null : index });
  });
  hear(text, "keydown", (event) => {
    const last = spans.length - 1, now = state.hovered ?? state.pinned ?? -1;
    const moves = { ArrowRight: now + 1, ArrowLeft: now - 1, Home: 0, End: last, PageDown: now + 20, PageUp: now - 20 };
    if (event.key in moves) {
      event.preventDefault();
      state.hovered = Math.min(Math.max(moves[event.key], 0), last);
      spans[state.hovered].scrollIntoView({ block: "nearest" });
      if (event.shiftKey) {
        state.anchor ??= Math.max(now, 0);
        const [from, to] = [state.anchor, state.hovered].sort((a, b) => a - b);
        stretch([from, to + 1]);
      } else state.anchor = undefined;
      redraw();
    } else if ((event.key === "Enter" || event.key === " ") && state.hovered !== null) {
      event.preventDefault();
      change({ pinned: state.pinned === state.hovered ? null : state.hovered });
    } else if (event.key === "Escape") {
      Object.assign(state, { hovered: null, pinned: null });
      stretch(null);
    }
  });
  const at = (event) => {
    const box = line.getBoundingClientRect();
    return Math.min(Math.max((event.clientX - box.left) / box.width, 0), 1) * spans.length;
  };
  hear(line, "pointerdown", (event) => {
    if (event.pointerType === "touch" || event.button !== 0) return;  // a swipe scrolls
    event.preventDefault();
    text.focus({ preventScroll: true });  // which hears Escape
    line.setPointerCapture(event.pointerId);
    state.from = at(event);
  });
  hear(line, "pointermove", (event) => {
    if (state.from === undefined) return;
    const ends = [state.from, at(event)].sort((a, b) => a - b);
    state.selected = [Math.floor(ends[0]), Math.ceil(ends[1])];
    redraw();
  });
  hear(line, "pointerup", (event) => {
    if (state.from === undefined) return;
    const moved = Math.abs(at(event) - state.from) >= 1;
    state.from = undefined;
    stretch(moved ? state.selected : null);
  });

  return {
    redraw,
    leave() {  // the next passage has the same text, line and controls
      leaving.abort();
      cancelAnimationFrame(frame);
      clearTimeout(timer);
    },
    take(given) {
      if (timer !== undefined || given.turn < root.turn) { redraw(); return; }  // an answer to what a hand has changed since
      const { measure, rule, model, pinned, between, others, sliders: { tau, rho, floor, matched } } = given;
      Object.assign(state, { measure, rule, model, pinned, others, tau, rho, floor, matched, drawn: false });
      state.selected = between && stretchBetween(...between);
      if (!sides.student && TOKEN_MEASURES[measure].needsStudent) state.measure = "entropy";
      redraw();
    }
  };
}

// ---- The curves

// Tables of functions of the ratio, some columns at each node for every token that was predicted; read by cubic Hermite
// interpolation of what `value` and `slope` make of the columns of a node.
function tokenTables(nodes, tokens) {
  const rows = tokens.map((token) => token !== null).reduce((found, known) => [...found, found.at(-1) + Number(known)], [0]);
  return (packed, columns) => {
    const bytes = Uint8Array.from(atob(packed), (letter) => letter.charCodeAt(0)), table = new Float32Array(bytes.buffer);
    return (index, ratio, value, slope) => {
      let low = 0, high = nodes.length - 1;
      const at = Math.min(ratio, nodes[high]);
      while (high - low > 1) { const middle = (low + high) >> 1; if (nodes[middle] <= at) low = middle; else high = middle; }
      const width = nodes[high] - nodes[low], t = (at - nodes[low]) / width;
      const ends = [low, high].map((node) => {
        const start = (rows[index] * nodes.length + node) * columns;
        return [table.subarray(start, start + columns), nodes[node]];
      });
      const [[a, b], [da, db]] = [value, slope].map((kind) => ends.map((end) => kind(...end)));
      return a * (1 + 2 * t) * (1 - t) ** 2 + da * width * t * (1 - t) ** 2 + b * t * t * (3 - 2 * t) + db * width * t * t * (t - 1);
    };
  };
}

// Entropy and ln Z of softmax(r (z - max) / m) at any ratio.
function tokenCurves(tables, packed) {
  const read = tables(packed, 3);
  return {
    entropy: (index, ratio) => Math.max(read(index, ratio, (at) => at[0], (at) => at[1]), 0),
    // d ln Z / dr is the mean of (z - max) / m, (ln Z - H) / r; at 0 it is -1.
    logZ: (index, ratio) => read(index, ratio, (at) => at[2], (at, node) => (node > 0 ? (at[2] - at[0]) / node : -1)),
  };
}

// ---- Small parts

function tokenSpan(token, index, prompts) {
  const span = made("span", "token");
  span.append(...written(token.text).split(/([ \t\n])/).filter(Boolean).flatMap((part) => (
    part === "\n" ? [made("span", "newline"), document.createElement("br")]
      : part === " " ? [made("span", "space", part)] : part === "\t" ? [made("span", "tab", part)] : [part])));
  span.index = index;
  span.id = `token-${index}`;
  span.setAttribute("role", "option");
  if (prompts.includes(token.role)) span.classList.add("prompt");
  if (!token.counted) span.classList.add("uncounted");
  return span;
}

function headOf(rules) {
  const head = made("tr", "");
  head.append(made("th", ""), made("th", ""), ...rules.map(([name]) => made("th", "", name)));
  return head;
}

function footRow(name, numbers) {
  const row = made("tr", "foot");
  row.append(made("td", ""), made("td", "", name), ...numbers.map((number) => made("td", "", shortNumber(number))));
  return row;
}

function shareRow(rank, name, shares, own) {
  const row = made("tr", own ? "own" : ""), kinds = ["raw", "fixed", "cist"];
  row.append(made("td", "rank", rank), made("td", "name", name), ...shares.map((share, side) => {
    const cell = made("td", `share ${kinds[side]}`), bar = made("i", "");
    bar.style.setProperty("--share", share.toFixed(4));
    cell.append(bar, made("span", "", percent(share && Math.max(share, 1e-9))));  // as little as it may be, it is not 0
    return cell;
  }));
  return row;
}

const made = (name, kind, words = "") => Object.assign(document.createElement(name), { className: kind, textContent: words });
// Control characters, marks that turn the text around them and what is not seen are written out, as in pictures.
const TOKENS_STEERING = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]|\r(?!\n)/g;
const written = (words) => words.replace(TOKENS_STEERING, (letter) => `\\u${letter.charCodeAt(0).toString(16).padStart(4, "0")}`);
const visible = (words) => written(words).replace(/ /g, "·").replace(/\n/g, "↵").replace(/\t/g, "⇥");
const mean = (numbers) => numbers.reduce((sum, number) => sum + number, 0) / numbers.length;
// The first list, less the second where there is one.
const subtracted = ([first, second]) => (second ? first.map((value, index) => (value === null ? null : value - second[index])) : first);
// The stronger, the further from the end of the scale, or from its middle; small differences from the middle are seen.
const tint = (at, diverging) => {
  const far = diverging ? Math.abs(2 * at - 1) ** 0.7 : at, name = diverging && at < 0.5 ? "fixed" : "cist";
  return `color-mix(in srgb, var(--${name}) ${((diverging ? 0 : 3) + (TOKENS_MOST[name] - 3) * far).toFixed(1)}%, transparent)`;
};
const symmetric = (half) => [-half, half];
const shareOf = (value, [low, high]) => Math.log(value / low) / Math.log(high / low);
const placeOn = ([low, high], log) => (value) => Math.min(Math.max(log ? shareOf(value, [low, high]) : (value - low) / (high - low), 0), 1);
const unitOf = (measure) => (measure.unit ? ` ${measure.unit}` : "");
const shortNumber = (value) => (Math.abs(value) >= 1000 ? Math.round(value).toLocaleString("en-US") : String(Number(value.toPrecision(3)))).replace("-", "−");
const spelledValue = (value, unit, signed) => `${signed && value > 0 ? "+" : ""}${shortNumber(value)}${unit ? ` ${unit}` : ""}`;
