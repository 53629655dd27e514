// Light or dark: as the system has it, or as the visitor chose, for next time too.

const root = document.documentElement;

export function restore() {
  try {
    const kept = localStorage.getItem("theme");
    if (kept) root.dataset.theme = kept;
  } catch { /* a file has no storage: as the system has it */ }
}

export function turn() {
  const now = root.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  root.dataset.theme = now === "dark" ? "light" : "dark";
  try { localStorage.setItem("theme", root.dataset.theme); } catch { /* no storage: then for now only */ }
}
