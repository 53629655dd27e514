// Elements from JavaScript. Text always goes in as text: names of classes and files are never markup.

export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "class") element.className = value;
    else if (name in element && typeof value !== "string") element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export function svg(tag, attributes) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

// Which child of which child of `parent` an element is.
function path(parent, element) {
  const steps = [];
  for (let at = element; at !== parent; at = at.parentElement) steps.unshift([...at.parentElement.children].indexOf(at));
  return steps;
}

// What had the keyboard's focus hands it on to its like in the new children: a control often rebuilds its own parent.
export function replace(parent, ...children) {
  const held = document.activeElement, steps = held !== parent && parent.contains(held) ? path(parent, held) : null;
  parent.replaceChildren(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  if (!steps) return;
  const last = steps.pop(), place = steps.reduce((at, step) => at?.children[step], parent);
  const like = (element) => element?.tagName === held.tagName && element.type === held.type;
  const found = [place?.children[last], ...(place?.querySelectorAll(held.tagName) ?? [])].find(like);
  found?.focus({ preventScroll: true });
  if (typeof held.selectionStart === "number") found?.setSelectionRange(held.selectionStart, held.selectionEnd);
}

// Choices of which one holds: radio buttons that look like words in a row.
let groups = 0;
export function choice(label, options, value, chosen) {
  const name = `choice${groups++}`;
  return h("fieldset", { class: "choice" },
    h("legend", { class: "unseen" }, label),
    options.map(([key, words]) => h("label", {},
      h("input", { type: "radio", name, value: String(key), checked: key === value, onchange: () => chosen(key) }),
      h("span", {}, words))));
}

// A number with a slider: both say the same.
export function slider(label, value, least, most, changed, step = 1) {
  const out = h("output", {}, String(value));
  const input = h("input", {
    type: "range", min: String(least), max: String(most), step: String(step), value: String(value), "aria-label": label,
    oninput: (event) => { out.textContent = event.target.value; changed(Number(event.target.value)); },
  });
  return h("label", { class: "slider" }, h("span", {}, label), input, out);
}

// For those who listen: one polite sentence at a time.
let timer = 0;
export function say(sentence) {
  clearTimeout(timer);
  timer = setTimeout(() => { document.getElementById("said").textContent = sentence; }, 150);
}

export const still = () => matchMedia("(prefers-reduced-motion: reduce)").matches;
