// A small convolution on a table: an input, a filter, an output; each output can be pointed at, and shows its sum.

import { css, ink } from "./colors.js";
import { h, replace, say } from "./dom.js";
import { byChannel, channelName, products, sum } from "./equation.js";
import { num, short } from "./format.js";
import { canvas, cell, frame, most, paint } from "./plane.js";
import { post } from "./source.js";
import { t } from "./words.js";

const PACE = 550;

// A table of numbers as a grid of cells; `box` is lit, `padding` cells are hatched, `unread` (rows, columns) fade.
export function grid(values, { scale = most(values.flat()), box = null, padding = 0, unread = [0, 0], label, on = null }) {
  const side = values[0].length;
  const inside = (y, x) => box && y >= box[0] && x >= box[1] && y < box[2] && x < box[3] && (y - box[0]) % (box[4] ?? 1) === 0 && (x - box[1]) % (box[4] ?? 1) === 0;
  return h("div", { class: `grid${side > 9 ? " small" : ""}`, role: "img", "aria-label": label, style: `grid-template-columns:repeat(${side},max-content)` },
    values.flatMap((row, y) => row.map((value, x) => {
      const zero = y < padding || x < padding || y >= values.length - padding || x >= side - padding;
      const faded = y >= values.length - unread[0] || x >= side - unread[1];
      return h("span", { class: `${zero ? "zero" : ""}${faded ? " unread" : ""}`, style: (zero ? "" : `background:${css(value, scale)};color:${ink(value, scale)};`) + (inside(y, x) ? "box-shadow:0 0 0 2px var(--accent);position:relative;z-index:1" : ""),
        // Not pointerenter: of a cell that is made anew under a resting pointer, that would be told too.
        onpointermove: on && (() => on(y, x)), onpointerdown: on && (() => on(y, x)) }, short(value));
    })));
}

// Options: x (c, h, w nested), filters (oc, c, kh, kw), and settings. `unpadded`: the lesson does not know of padding yet.
export class Workbench {
  constructor(root, { numbers = true, relu = false, walking = false, unpadded = false } = {}) {
    Object.assign(this, { numbers, relu, unpadded, slice: 0, answers: 0, unit: [0, 0, 0], settings: { stride: 1, padding: 0, dilation: 1, flip: false }, bias: null, timer: 0, waiting: null });
    this.formula = h("p", { class: "formula big", role: "status" });
    this.table = h("div", { class: "side" });
    this.equation = h("div", { class: "equation" });
    this.partial = h("ul", { class: "partial", "aria-label": t("by.channel"), hidden: true });
    this.total = h("div");
    this.walk = h("button", { type: "button", class: "button", "aria-pressed": "false", onclick: () => this.slide() }, t("slide"));
    root.append(this.formula, this.table, walking ? h("p", {}, this.walk) : "", this.equation, this.partial, this.total);
  }

  async set(patch) {
    Object.assign(this, patch);
    if (this.running) { this.waiting = true; return; }
    this.running = true;
    try {
      const found = await post("play", JSON.stringify({ numbers: this.x, filters: this.filters, bias: this.bias, ...this.settings }));
      this.result = found;
      this.answers++;
      this.formula.classList.remove("wrong");
      const [oc, oh, ow] = found.arrays.maps.shape;
      replace(this.formula, found.formula.split("\n").map((line) => h("code", {}, this.unpadded ? line.replace(" + 0 + 0", "") : line)), h("span", {}, t("bench.result", { n: oc, h: oh, w: ow })),
        found.unread[0] + found.unread[1] ? h("span", {}, t("unread", { rows: found.unread[0], columns: found.unread[1] })) : "");
      this.unit = [Math.min(this.unit[0], oc - 1), Math.min(this.unit[1], oh - 1), Math.min(this.unit[2], ow - 1)];
      this.draw();
    } catch (error) {
      this.result = null;
      this.formula.classList.add("wrong");
      replace(this.formula, h("span", {}, t("impossible")), error.message.split("\n").map((line) => h("span", {}, line)));
      replace(this.table); replace(this.equation); replace(this.total);
      this.partial.hidden = true;
    }
    this.running = false;
    if (this.waiting) { this.waiting = false; this.set({}); }
  }

  slide() {
    if (this.timer) { this.leave(); return; }
    this.walk.setAttribute("aria-pressed", "true");
    this.walk.textContent = t("stop");
    this.timer = setInterval(() => {
      if (!this.result) return;
      const [, oh, ow] = this.result.arrays.maps.shape, next = (this.unit[1] * ow + this.unit[2] + 1) % (oh * ow);
      this.point(this.unit[0], Math.floor(next / ow), next % ow);
    }, PACE);
  }

  leave() {
    clearInterval(this.timer);
    this.timer = 0;
    this.walk.setAttribute("aria-pressed", "false");
    this.walk.textContent = t("slide");
  }

  point(c, y, x) {
    if (String([c, y, x]) === String(this.unit)) return;
    this.unit = [c, y, x];
    this.draw(true);
  }

  place() {
    const { stride, padding, dilation } = this.settings, [, , kh, kw] = this.result.arrays.filters.shape, [, y, x] = this.unit;
    const top = y * stride - padding, left = x * stride - padding;
    return [top, left, top + (kh - 1) * dilation + 1, left + (kw - 1) * dilation + 1];
  }

  draw(same = false) {
    const { maps, input } = this.result.arrays, box = this.place();
    if (this.numbers) this.asNumbers(maps, input, box); else this.asPictures(maps, input, box, same);
    this.arithmetic(maps, input, box);
  }

  asNumbers(maps, input, box) {
    const [oc, oh, ow] = maps.shape, [, ih, iw] = input.shape, { padding, dilation } = this.settings, [c, y, x] = this.unit;
    const rows = (data, at, height, width) => Array.from({ length: height }, (_, i) => Array.from(data.subarray((at * height + i) * width, (at * height + i + 1) * width)));
    const inner = rows(input.data, 0, ih, iw), blank = Array(iw + 2 * padding).fill(0);
    const wide = [...Array(padding).fill(blank), ...inner.map((row) => [...Array(padding).fill(0), ...row, ...Array(padding).fill(0)]), ...Array(padding).fill(blank)];
    const lit = [...box.slice(0, 4).map((v) => v + padding), dilation];
    const focused = this.table.contains(document.activeElement);
    const outputs = Array.from({ length: oc }, (_, n) => {
      const made = grid(rows(maps.data, n, oh, ow), { box: n === c ? [y, x, y + 1, x + 1] : null, label: t("maps"), on: (v, u) => this.point(n, v, u) });
      return h("div", { class: "pointed", tabIndex: 0, role: "application", "aria-label": t("spoken", { layer: t("maps"), c: n, y, x, value: num(maps.data[(n * oh + y) * ow + x]) }), onkeydown: (event) => this.key(event, n) }, made);
    });
    replace(this.table, h("figure", {}, h("figcaption", {}, t("input")), grid(wide, { box: lit, padding, unread: this.result.unread, label: t("input") })),
      h("figure", {}, h("figcaption", {}, t("maps")), outputs));
    if (focused) outputs[c].focus();
  }

  asPictures(maps, input, box, same) {
    const [oc, oh, ow] = maps.shape, [ic, ih, iw] = input.shape, [c, y, x] = this.unit;
    if (!same || !this.marks) {
      this.inMark = h("i", { class: "frame" });
      const source = canvas(t("input"));
      if (ic === 3) colour(source, input); else paint(source, input.data.subarray(0, ih * iw), ih, iw, 1);
      this.marks = Array.from({ length: oc }, () => h("i", { class: "frame", hidden: true }));
      const figure = (words, children, width, height) => h("figure", {}, h("figcaption", {}, words), h("div", { class: "layers", style: `aspect-ratio:${width}/${height}` }, children));
      replace(this.table, figure(`${t("input")} ${ih} × ${iw} × ${ic}`, [source, this.inMark], iw, ih),
        ...this.marks.map((mark, n) => {
          const made = canvas(t("map.of", { layer: t("maps"), c: n }), { tabIndex: 0, role: "application", class: "pointed", onkeydown: (event) => this.key(event, n),
            onpointermove: (event) => { const [v, u] = cell(event, made, oh, ow); this.point(n, v, u); } });
          const data = maps.data.slice(n * oh * ow, (n + 1) * oh * ow);
          return figure(oc > 1 ? t("filter.n", { n: n + 1 }) : t("maps"), [paint(made, this.relu ? data.map((v) => Math.max(0, v)) : data, oh, ow, most(data)), mark], ow, oh);
        }));
    }
    this.marks.forEach((mark, n) => frame(mark, n === c ? [y, x, y + 1, x + 1] : [0, 0, 0, 0], oh, ow));
    frame(this.inMark, [Math.max(0, box[0]), Math.max(0, box[1]), Math.min(ih, box[2]), Math.min(iw, box[3])], ih, iw);
  }

  key(event, n) {
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (!step) return;
    event.preventDefault();
    const { maps } = this.result.arrays, [, oh, ow] = maps.shape, [, y, x] = this.unit;
    this.point(n, Math.min(oh - 1, Math.max(0, y + step[0])), Math.min(ow - 1, Math.max(0, x + step[1])));
    const [c, v, u] = this.unit;
    say(t("spoken", { layer: t("maps"), c, y: v, x: u, value: num(maps.data[(c * oh + v) * ow + u]) }));
  }

  arithmetic(maps, input, box) {
    const { filters } = this.result.arrays, [, oh, ow] = maps.shape, [ic, ih, iw] = input.shape, [, , kh, kw] = filters.shape, [c, y, x] = this.unit, { dilation } = this.settings;
    const values = new Float64Array(kh * kw), weights = new Float64Array(kh * kw), padded = new Uint8Array(kh * kw), sums = Array(ic).fill(0), names = sums.map((_, k) => channelName(ic, k));
    for (let k = 0; k < ic; k++) for (let i = 0; i < kh; i++) for (let j = 0; j < kw; j++) {
      const row = box[0] + i * dilation, column = box[1] + j * dilation, outside = row < 0 || column < 0 || row >= ih || column >= iw;
      const value = outside ? 0 : input.data[(k * ih + row) * iw + column], weight = filters.data[((c * ic + k) * kh + i) * kw + j];
      sums[k] += value * weight;
      if (k === this.slice) { values[i * kw + j] = value; weights[i * kw + j] = weight; padded[i * kw + j] = outside; }
    }
    products(this.equation, { values, weights, padded, kh, kw }, [ic > 1 ? t("play.window.of", { colour: names[this.slice] }) : t("play.window"), t(this.settings.flip ? "play.flipped" : "filter"), t("products")], [most(input.data), most(filters.data)]);
    const bias = this.bias ? this.bias[c] : null, value = maps.data[(c * oh + y) * ow + x];
    this.partial.hidden = ic < 2;
    if (ic > 1) byChannel(this.partial, { key: String(this.answers), sums, k: this.slice, labels: sums.map((v, k) => `${names[k]}: ${num(v)}`), chosen: (k) => { this.slice = k; this.draw(true); },
      picture: (k) => paint(canvas("", { "aria-hidden": "true" }), input.data.subarray(k * ih * iw, (k + 1) * ih * iw), ih, iw, 1) });
    const parts = sums.map((v, k) => [ic > 1 ? names[k] : t("sum"), v]);
    replace(this.total, sum(bias === null ? parts : [...parts, [t("bias"), bias]], this.relu ? [[t("before"), value], ["ReLU", Math.max(0, value)]] : [[t("engine"), value]]));
  }
}

function colour(element, input) {
  const [, height, width] = input.shape, context = (element.width = width, element.height = height, element.getContext("2d")), image = context.createImageData(width, height);
  for (let i = 0; i < height * width; i++) {
    for (let c = 0; c < 3; c++) image.data[4 * i + c] = Math.round(255 * input.data[c * height * width + i]);
    image.data[4 * i + 3] = 255;
  }
  context.putImageData(image, 0, 0);
  element.classList.add("pixels");
}
