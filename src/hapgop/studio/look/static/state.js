// All that decides what is seen, in the address: copy it, and someone else sees the same.

const NUMBERS = new Set(["c", "y", "x", "k", "label", "step", "strong"]);

function read() {
  const [view, rest = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const found = { view: view || "question" };
  for (const [name, value] of new URLSearchParams(rest)) {
    found[name] = NUMBERS.has(name) ? Math.max(0, Math.trunc(Number(value)) || 0) : value;
  }
  return found;
}

export let state = read();

export function address(patch) {
  const { view, ...rest } = { ...state, ...patch };
  const given = Object.entries(rest).filter(([, value]) => value !== null && value !== undefined && value !== "");
  return `#/${view}${given.length ? `?${new URLSearchParams(given)}` : ""}`;
}

// One step in the history is told by two events; the address says whether it was seen already.
let seen = location.hash;
let changed = () => {};
export const listen = (told) => { changed = told; };

// `quiet`: no new entry in the history, as for every step of a pointer.
export function go(patch, quiet = false) {
  const before = state;
  seen = address(patch);
  history[quiet ? "replaceState" : "pushState"](null, "", address(patch));
  state = read();
  changed(before);
}

for (const event of ["popstate", "hashchange"]) {
  addEventListener(event, () => {
    if (location.hash === seen) return;
    seen = location.hash;
    const before = state;
    state = read();
    changed(before);
  });
}
