const REST = 250, ECHO = 10000;  // milliseconds
const TRACK = 10000;  // steps of the native sliders, whose scale is the logarithm's
const PLAY = 8000, PLAYED = [1, 10], PLAYED_STEPS = [1, 2, 4, 7, 10];
const NEAR_MARK = 0.012;  // a mark holds a thumb that is this near, as a share of the track

const decimals = (value) => (value >= 2 ? 2 : 3);
const rounded = (value) => Number(value.toFixed(decimals(value)));
const spelled = (value) => String(Number(value.toPrecision(4)));

export default function ({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector(".bar");
  root.data = data;
  root.tell = setTriggerValue;
  root.sides ??= startBar(root);
  STUDIO.here = data.here;
  // A slow server still answers to where a slider was a moment ago: that must not pull it from under a hand.
  const waiting = root.sent !== undefined && data.echo !== root.sent && Date.now() - root.sent < ECHO;
  if (!root.held && !root.timer && !waiting && !root.playing) root.takeOver();
  return () => {
    root.stopPlaying?.();
    window.removeEventListener("cist-play", root.play);
    root.sides = undefined;
  };
}

function startBar(root) {
  const sides = {};
  const grid = () => STUDIO.grids.get(STUDIO.here?.grid);
  for (const name of ["tau", "rho"]) {
    const place = root.querySelector(`.${name}`);
    sides[name] = {
      name, place, input: place.querySelector("input[type=range]"), field: place.querySelector("input[type=text]"),
      value: null, index: null
    };
  }
  const other = (side) => sides[side.name === "tau" ? "rho" : "tau"];
  const together = () => root.data.matched;
  const bounds = (side) => root.data.bounds[side.name];
  const share = (side, value) => Math.log(value / bounds(side)[0]) / Math.log(bounds(side)[1] / bounds(side)[0]);
  const valueAt = (side, at) => bounds(side)[0] * (bounds(side)[1] / bounds(side)[0]) ** at;
  const clamp = (side, value) => Math.min(Math.max(value, bounds(side)[0]), bounds(side)[1]);
  const positions = (side) => (side.name === "tau" ? grid()?.taus : grid()?.rhos);

  function paint(side) {
    const at = share(side, side.value);
    side.input.value = Math.round(at * TRACK);
    side.place.style.setProperty("--at", at);
    side.input.setAttribute("aria-valuetext", `${side.name === "tau" ? "τ" : "ρ"} = ${spelled(side.value)}`);
    side.input.dataset.value = side.value;
    if (side.field.getRootNode().activeElement !== side.field || !side.field.typed) side.field.value = spelled(side.value);
  }

  function show(moving) {
    for (const side of Object.values(sides)) paint(side);
    const values = { tau: sides.tau.value, rho: sides.rho.value, floor: root.data.here.floor };
    publish(pairAt(sides.tau.index, sides.rho.index, values, together() && !root.playing, moving, Boolean(root.playing)));
    note();
  }

  // Why the pair is not matched, after what is to be said of a number that was typed: that until its slider moves, or
  // has other ends.
  function note() {
    const text = [root.remark?.text, root.playing ? "" : STUDIO.pair.note].filter(Boolean).join(" ");
    const place = root.querySelector(".note");
    if (place.textContent !== text) place.textContent = text;
  }

  function remark(side, text) {
    root.remark = text ? { text, of: standing(side) } : undefined;
    note();
  }

  // Where a slider stands between its ends, to the digits that are shown.
  const standing = (side) => `${side.name} ${spelled(side.value)} ${bounds(side)}`;

  // A slider goes to a value, and takes the other along where they are matched.
  function move(side, value, { alone = false, exact = false } = {}) {
    root.remark = undefined;
    const near = nearestPosition(grid(), side.name, value);
    side.index = near;
    side.value = exact || near === null ? rounded(value) : positions(side)[near].at;
    if (together() && !alone && near !== null) {
      const partner = other(side);
      partner.index = partnerOf(grid(), side.name, near);
      partner.value = positions(partner)[partner.index].at;
    }
    root.moved = side;
    show(true);
  }

  // Marks hold a thumb that comes near, so that they can be met.
  function nearMark(side, at) {
    const mark = root.data.marks.find((value) => Math.abs(share(side, value) - at) < NEAR_MARK);
    return mark ?? valueAt(side, at);
  }

  function step(side, key, fine) {
    const [low, high] = bounds(side), now = side.value;
    const size = fine ? (now >= 2 ? 0.01 : 0.001) : now < 0.5 ? 0.01 : now < 1 ? 0.02 : now < 2 ? 0.05 : now < 5 ? 0.1 : 0.2;
    const marks = [low, ...[0.5, 0.75, 1, 1.5, 2, 3, 4, 6, 8, 12, 16].filter((mark) => low < mark && mark < high), high];
    switch (key) {
      case "ArrowRight": case "ArrowUp": return (Math.floor(now / size + 1e-6) + 1) * size;
      case "ArrowLeft": case "ArrowDown": return (Math.ceil(now / size - 1e-6) - 1) * size;
      case "PageUp": return marks.find((mark) => mark > now * 1.001) ?? high;
      case "PageDown": return marks.findLast((mark) => mark < now * 0.999) ?? low;
      case "Home": return low;
      case "End": return high;
      default: return null;
    }
  }

  function rest() {
    clearTimeout(root.timer);
    root.timer = undefined;
    if (!root.moved) return;
    const side = root.moved;
    root.moved = undefined;
    tell({ slider: side.name, value: side.value });
  }

  function tell(what) {
    root.sent = Date.now();
    root.tell("rest", { ...what, at: root.sent });
    window.dispatchEvent(new CustomEvent("cist-rest", { detail: what }));
  }

  const soon = () => {
    clearTimeout(root.timer);
    root.timer = setTimeout(rest, REST);
  };

  for (const side of Object.values(sides)) {
    const { input, field } = side;
    input.addEventListener("pointerdown", () => { root.stopPlaying?.(); root.held = true; });
    input.addEventListener("input", () => {
      const before = side.value, raw = Number(input.value) / TRACK;
      let value = nearMark(side, raw);
      // A screen reader moves by single steps of the native slider, which are finer than a position.
      if (!root.held && Math.abs(raw - share(side, before)) < 0.005) {
        value = clamp(side, step(side, raw > share(side, before) ? "ArrowRight" : "ArrowLeft", false));
      }
      move(side, value);
      soon();
    });
    const letGo = () => { root.held = false; if (root.moved) rest(); };
    input.addEventListener("pointerup", letGo);
    input.addEventListener("pointercancel", letGo);
    input.addEventListener("change", letGo);
    input.addEventListener("keydown", (event) => {
      if (event.altKey || event.ctrlKey || event.metaKey) return;
      const value = step(side, event.key, event.shiftKey);
      if (value === null) return;
      event.preventDefault();
      event.stopPropagation();  // the page's own keys are others
      root.stopPlaying?.();
      move(side, clamp(side, value), { exact: true });
      soon();
    });
    const typed = () => {
      if (!field.typed) return;
      field.typed = false;
      const text = field.value.trim(), value = Number(text.replace(",", "."));
      const letter = side.name === "tau" ? "τ" : "ρ", [low, high] = bounds(side).map(spelled);
      if (text === "" || !Number.isFinite(value)) {
        remark(side, text && `“${text.slice(0, 20)}” is no number: ${letter} stays at ${spelled(side.value)}.`);
        return paint(side);
      }
      const nearest = clamp(side, value);
      if (nearest !== side.value) {
        move(side, nearest, { exact: true });
        rest();
      }
      remark(side, nearest === value ? "" : `${letter} goes from ${low} to ${high} here, so not to ${text.slice(0, 20)}.`);
      paint(side);
    };
    field.addEventListener("input", () => { root.stopPlaying?.(); field.typed = true; });
    field.addEventListener("blur", typed);
    field.addEventListener("keydown", (event) => {
      if (event.key === "Enter") typed();
      if (event.key === "Escape") { field.typed = false; paint(side); }
    });
  }

  const button = root.querySelector("[role=switch]");
  button.addEventListener("click", () => {
    root.stopPlaying?.();
    root.data.matched = !root.data.matched;
    root.remark = undefined;
    button.setAttribute("aria-checked", root.data.matched);
    if (root.data.matched) move(sides.tau, sides.tau.value, { exact: true });
    root.moved = undefined;
    tell({ matched: root.data.matched });
  });

  // ---- Play: tau runs, and rho stays, so that one sees what it is that the temperature does

  function play() {
    if (root.playing || Date.now() - root.stopped < 400 || !grid()) return;
    const side = sides.tau, [first, last] = PLAYED;
    if (window.matchMedia("(prefers-reduced-motion: reduce)").matches) {
      root.playing = true;
      move(side, PLAYED_STEPS.find((value) => value > side.value * 1.001) ?? first, { alone: true, exact: true });
      root.playing = false;
      soon();
      return;
    }
    const start = performance.now();
    const run = (now) => {
      const done = Math.min(Math.max((now - start) / PLAY, 0), 1);
      move(side, first * (last / first) ** done, { alone: true, exact: done === 1 });
      if (done < 1) root.playing = requestAnimationFrame(run);
      else root.stopPlaying();
    };
    const stop = () => root.stopPlaying();
    const ways = ["pointerdown", "keydown", "wheel", "touchstart"];
    root.stopPlaying = () => {
      cancelAnimationFrame(root.playing);
      root.playing = root.stopPlaying = undefined;
      root.stopped = Date.now();
      for (const way of ways) window.removeEventListener(way, stop, true);
      rest();
    };
    for (const way of ways) window.addEventListener(way, stop, { capture: true, passive: true });
    root.playing = requestAnimationFrame(run);
  }
  root.play = play;
  window.addEventListener("cist-play", play);

  // Where the server knows the sliders to be.
  root.takeOver = () => {
    const { here, matched } = root.data;
    for (const [name, side] of Object.entries(sides)) {
      side.value = here[name].at;
      side.index = null;
      const [low, high] = bounds(side);
      side.place.querySelectorAll(".marks span").forEach((mark, index) => {
        mark.style.setProperty("--at", share(side, root.data.marks[index]));
      });
      side.input.setAttribute("aria-valuemin", low);
      side.input.setAttribute("aria-valuemax", high);
    }
    button.setAttribute("aria-checked", matched);
    root.moved = undefined;
    if (root.remark && !Object.values(sides).some((side) => standing(side) === root.remark.of)) root.remark = undefined;
    show(false);
  };

  return sides;
}
