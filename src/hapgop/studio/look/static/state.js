// All that decides what is seen, in the address: copy it, and someone else sees the same.

const NUMBERS = new Set(["c", "y", "x", "k", "label", "step"]);

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

let changed = () => {};
export const listen = (told) => { changed = told; };

// `quiet`: no new entry in the history, as for every step of a pointer.
export function go(patch, quiet = false) {
  const before = state;
  history[quiet ? "replaceState" : "pushState"](null, "", address(patch));
  state = read();
  changed(before);
}

for (const event of ["popstate", "hashchange"]) {
  addEventListener(event, () => { const before = state; state = read(); changed(before); });
}
