const REST = 800;  // milliseconds: a widget that is moved on within them has not come to rest

// Streamlit replaces the entry of the browser's history when somebody changes a widget that is bound to the address, and
// makes one for what the script sets. Here each move of a hand makes one, whatever comes of it.
export default function watch() {
  if (window.cistHistory) return;  // once a tab, however often the app is drawn
  window.cistHistory = true;
  const { pushState, replaceState } = history;
  const NOTHING = { move: null, key: null, at: -Infinity };
  let moves = 0, move = null, moved = 0, held = false, made = NOTHING;  // since the page was loaded, or brought back

  const begin = (event) => {
    moved = event.timeStamp;
    if (!event.repeat) move = moves += 1;
  };
  const hear = (kind, what) => window.addEventListener(kind, what, true);
  hear("keydown", begin);
  hear("pointerdown", (event) => { held = true; begin(event); });
  for (const kind of ["pointerup", "pointercancel"]) hear(kind, (event) => { held = false; moved = event.timeStamp; });
  hear("input", (event) => { if (!held) begin(event); });  // also of what is pasted or spoken
  hear("click", (event) => { if (move === null) begin(event); });  // of a screen reader
  hear("popstate", () => { move = null; made = NOTHING; });

  // A widget was changed, or, after a press of Back, the script puts the address right.
  history.replaceState = function (state, title, url) {
    const key = move === null ? null : changedHere(url);
    if (key === null) return replaceState.call(this, state, title, url);
    const movedOn = key === made.key && (move === made.move || moved - made.at < REST);
    made = { move, key, at: moved };
    return (movedOn ? replaceState : pushState).call(this, state, title, url);
  };

  // Another page, or what the script sets: of its own accord, or in answer to a page or widget that has its entry.
  history.pushState = function (state, title, url) {
    const key = changedHere(url), answers = key !== null && (move === null || move === made.move);
    if (key === null) made = { ...NOTHING, move };
    return (answers ? replaceState : pushState).call(this, state, title, url);
  };
}

// The first parameter that an address has otherwise than that of the page; null where it is the same, or another page.
function changedHere(url) {
  const there = new URL(url ?? "", location.href), here = new URL(location.href);
  if (there.pathname !== here.pathname) return null;
  const [before, after] = [here.searchParams, there.searchParams];
  const differs = (key) => before.getAll(key).join("\n") !== after.getAll(key).join("\n");
  return [...new Set([...before.keys(), ...after.keys()])].find(differs) ?? null;
}
