// A plot over one axis, from -sight to sight: curves, samples and bars in it, drawn anew for each change.

import { h, svg } from "./dom.js";

const WIDTH = 400, HIGH = 150, EDGE = 8, UNDER = 16;
const FINE = 160;

export class Plot {
  constructor(sight, handlers = {}, high = HIGH) {
    const pointed = Object.keys(handlers).length > 0;
    Object.assign(this, { sight, high });
    this.drawing = svg("svg", { viewBox: `0 0 ${WIDTH} ${high + UNDER}`, "aria-hidden": "true" });
    this.element = h("div", { class: `graph${pointed ? " pointed" : ""}`, role: handlers.onkeydown ? "application" : "img", tabIndex: handlers.onkeydown ? 0 : null, ...handlers }, this.drawing);
  }

  begin(least, most) {
    const span = most - least;
    this.across = (x) => (x + this.sight) / (2 * this.sight) * WIDTH;
    this.up = (y) => EDGE + (most - y) / span * (this.high - 2 * EDGE);
    this.drawing.replaceChildren();
    for (let x = Math.ceil(-this.sight); x <= this.sight; x++) {
      this.add("path", { class: "rule", d: `M${this.across(x)} ${this.up(0) - 3}v6` });
      const text = this.add("text", { x: this.across(x), y: this.high + UNDER - 4 });
      text.textContent = String(x).replace("-", "−");
    }
    this.add("path", { class: "rule", d: `M0 ${this.up(0)}H${WIDTH}` });
  }

  add(tag, attributes) {
    const made = svg(tag, attributes);
    this.drawing.append(made);
    return made;
  }

  // What the plot shows, in its corner.
  name(words) {
    const text = this.add("text", { x: 0, y: 10, class: "name" });
    text.textContent = words;
  }

  label(words) { this.element.setAttribute("aria-label", words); }

  // `alone`: zero outside [from, to], where the function may jump; there the line is upright.
  curve(of, kind, [from, to], alone = false) {
    const line = fine(from, to).map((x, i) => [x, of(inside(x, i, from, to))]);
    const whole = alone ? [[-this.sight, 0], [from, 0], ...line, [to, 0], [this.sight, 0]] : line;
    this.add("path", { class: `line ${kind}`, d: whole.map(([x, y], i) => `${i ? "L" : "M"}${this.across(x).toFixed(1)} ${this.up(y).toFixed(1)}`).join("") });
  }

  // What lies between the function and zero: above and below apart, as one adds and the other takes away.
  area(of, from, to) {
    if (to <= from) return;
    for (const [kind, part] of [["adds", Math.max], ["takes", Math.min]]) {
      const top = fine(from, to).map((x, i) => `L${this.across(x).toFixed(1)} ${this.up(part(0, of(inside(x, i, from, to)))).toFixed(1)}`);
      this.add("path", { class: kind, d: `M${this.across(from)} ${this.up(0)}${top.join("")}L${this.across(to)} ${this.up(0)}Z` });
    }
  }

  band(from, to) { this.add("rect", { class: "band", x: this.across(from), y: 0, width: this.across(to) - this.across(from), height: this.high }); }

  bar(x, value, width) {
    const left = this.across(x - width / 2), top = Math.min(this.up(0), this.up(value));
    this.add("rect", { class: value < 0 ? "takes" : "adds", x: left, y: top, width: this.across(x + width / 2) - left, height: Math.abs(this.up(value) - this.up(0)) });
  }

  dot(x, value, kind, large = false) {
    this.add("path", { class: `stem ${kind}`, d: `M${this.across(x)} ${this.up(0)}V${this.up(value)}` });
    this.add("circle", { class: `dot ${kind}`, cx: this.across(x), cy: this.up(value), r: large ? 6 : 3 });
  }

  // Where on the axis a pointer is.
  place(event) {
    const box = this.drawing.getBoundingClientRect();
    return (event.clientX - box.left) / box.width * 2 * this.sight - this.sight;
  }
}

const fine = (from, to) => Array.from({ length: FINE + 1 }, (_, i) => from + i * (to - from) / FINE);
// By a hair within the ends, so that rounding does not lose what stands there.
const inside = (x, i, from, to) => (i === 0 ? from + 1e-9 : i === FINE ? to - 1e-9 : x);
