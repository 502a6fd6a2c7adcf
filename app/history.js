const REST = 800;  // milliseconds: a widget that is moved on within them has not come to rest
const SOON = 5000;  // milliseconds after a move: a script that starts later was started by a timer
const NOBODY = 0;  // whom such a script answers, and all that happens before the first move
const MODIFIERS = ["Shift", "Control", "Alt", "Meta"];

// Streamlit replaces the entry of the browser's history when somebody changes a widget that is bound to the address, and
// makes one for what the script sets. Here each move of a hand makes one, whatever comes of it.
export default function watch() {
  if (window.cistHistory) return;  // once a tab, however often the app is drawn
  window.cistHistory = true;
  const { pushState, replaceState } = history;
  const NOTHING = { move: NOBODY, key: null, answered: new Set(), at: -Infinity };
  let moves = 0, move = NOBODY, moved = 0, held = false, made = NOTHING;  // since the page was loaded, or brought back
  let running = false, due = false, asked = NOBODY;  // whether a script is, or will be at once, and the move it answers

  const begin = (event) => {
    moved = event.timeStamp;
    if (event.repeat || MODIFIERS.includes(event.key)) return;
    move = moves += 1;
    if (asked === NOBODY) asked = move;  // nobody can tell what a timer's script has still to say from what this asks for
  };
  const hear = (kind, what) => window.addEventListener(kind, what, true);
  hear("keydown", begin);
  hear("pointerdown", (event) => { held = true; begin(event); });
  for (const kind of ["pointerup", "pointercancel"]) hear(kind, (event) => { held = false; moved = event.timeStamp; });
  hear("input", (event) => { if (!held) begin(event); });  // also of what is pasted or spoken
  hear("click", (event) => { if (event.detail === 0) begin(event); });  // of a screen reader, which has no pointer
  hear("popstate", () => { move = asked = NOBODY; made = NOTHING; });

  const observer = new MutationObserver(() => {
    const now = document.querySelector("[data-test-script-state=running]") !== null;
    if (now && !running && !due) asked = held || performance.now() - moved < SOON ? move : NOBODY;
    if (now) due = false;
    running = now;
  });
  observer.observe(document.documentElement, { subtree: true, attributeFilter: ["data-test-script-state"] });

  // A widget was changed, or, after a press of Back, the script puts the address right.
  history.replaceState = function (state, title, url) {
    const key = move === NOBODY ? null : changedHere(url);
    if (key === null) return replaceState.call(this, state, title, url);
    const movedOn = key === made.key && (move === made.move || moved - made.at < REST);
    made = { move, key, answered: new Set(), at: moved };
    due = !running;
    asked = move;  // a script that runs still will be stopped for it
    return (movedOn ? replaceState : pushState).call(this, state, title, url);
  };

  // Another page, or what the script sets, a parameter each: of its own accord, or in answer to a move. The hand may have
  // moved on meanwhile; a parameter that the script has set before is then in answer to the new move.
  history.pushState = function (state, title, url) {
    const key = changedHere(url);
    const by = key === null || !(running || due) || (move !== asked && made.answered.has(key)) ? move : asked;
    const answers = key !== null && (by === NOBODY || by === made.move);
    if (!answers) made = { ...NOTHING, move: by, answered: new Set() };
    if (key === null) asked = move;
    else made.answered.add(key);
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
