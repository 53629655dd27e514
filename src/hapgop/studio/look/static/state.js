// All that decides what is seen, in the address: copy it, and someone else sees the same.

const NUMBERS = new Set(["c", "y", "x", "k", "label", "step", "strong"]);
// Browsers refuse an address that changes too often: Chromium after 200 changes in ten seconds, Safari after 100 in thirty.
const EVERY = 300;

const empty = (value) => value === null || value === undefined || value === "";

// As the address gives it back: a whole number, or text.
const plain = (name, value) => (NUMBERS.has(name) ? Math.max(0, Math.trunc(Number(value)) || 0) : String(value));

function read() {
  const [view, rest = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const found = { view: view || "question" };
  for (const [name, value] of new URLSearchParams(rest)) found[name] = plain(name, value);
  return found;
}

function merged(patch) {
  const given = Object.entries({ ...state, ...patch }).filter(([, value]) => !empty(value));
  return Object.fromEntries(given.map(([name, value]) => [name, plain(name, value)]));
}

export let state = read();

export function address(patch) {
  const { view, ...rest } = merged(patch);
  return `#/${view}${Object.keys(rest).length ? `?${new URLSearchParams(rest)}` : ""}`;
}

// One step in the history is told by two events; the address says whether it was seen already.
let seen = location.hash;
let changed = () => {};
export const listen = (told) => { changed = told; };

function write(how) {
  try { history[how](null, "", address({})); } catch { /* too often for this browser: the next one says it all */ }
  seen = location.hash;
}

// What is pointed at goes on in `state`; the address follows at once after a rest, and otherwise every 300 ms.
let timer = 0, late = false;

function follow() {
  clearTimeout(timer);
  timer = setTimeout(() => { timer = 0; if (late) follow(); }, EVERY);
  late = false;
  write("replaceState");
}

const flush = () => { if (late) follow(); };

// `quiet`: no new entry in the history, as for every step of a pointer.
export function go(patch, quiet = false) {
  const before = state;
  if (!quiet) flush();
  state = merged(patch);
  if (!quiet) write("pushState");
  else {
    late = true;
    if (!timer) follow();
  }
  changed(before);
}

for (const event of ["popstate", "hashchange"]) {
  addEventListener(event, () => {
    if (location.hash === seen) return;
    seen = location.hash;
    late = false;
    const before = state;
    state = read();
    changed(before);
  });
}
// Before a link is followed, or the page is left, its own entry in the history says where it was.
addEventListener("click", flush, true);
addEventListener("pagehide", flush);
document.addEventListener("visibilitychange", flush);
