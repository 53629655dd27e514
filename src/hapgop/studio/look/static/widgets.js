// Something to move for each chapter of the lesson.

import { choice, h, replace, slider } from "./dom.js";
import { numbers, signed } from "./equation.js";
import { by, large, num, percent } from "./format.js";
import { clipped, imageLike, readBox, spanOf, valueAt, windowOf } from "./geometry.js";
import { keep } from "./kept.js";
import { meaning } from "./meaning.js";
import { canvas, frame, most, paint, photo } from "./plane.js";
import { filterOf } from "./play.js";
import { once } from "./source.js";
import { address } from "./state.js";
import { t } from "./words.js";
import { Workbench, grid } from "./workbench.js";

const EDGE = filterOf("edge", 3);
// Of a map that is larger, a part of so many rows and columns is shown as numbers.
const WHOLE = 16, PART = 12;
const MOST_LABELS = 12;

// Whole numbers from 0 to 15 out of the picture at hand: the digit's own ink, small enough to multiply in the head.
async function patch(ctx, size) {
  const { data, shape: [height, width, channels] } = await ctx.pixels(), top = Math.max(0, Math.floor((height - size) / 2)), left = Math.max(0, Math.floor((width - size) / 2));
  return Array.from({ length: size }, (_, i) => Array.from({ length: size }, (_, j) =>
    top + i < height && left + j < width ? Math.round(data[((top + i) * width + left + j) * channels] / 17) : 0));
}

async function grey(ctx) {
  const { data, shape: [height, width, channels] } = (await once("larger", { image: ctx.image.image })).arrays["pixels:"];
  return [Array.from({ length: height }, (_, i) => Array.from({ length: width }, (_, j) => data[(i * width + j) * channels] / 255))];
}

// A picture of 32 x 32 in three colours, drawn here: a sky, a sun, a roof and a fence.
function scene() {
  const colourAt = (y, x) => {
    if ((y - 8) ** 2 + (x - 23) ** 2 < 22) return [1, 0.85, 0.2];
    if (y > 12 && y < 25 && Math.abs(x - 11) < y - 12 && y < 19) return [0.75, 0.2, 0.15];
    if (y >= 19 && y < 26 && x > 5 && x < 17) return [0.93, 0.88, 0.8];
    if (y >= 26) return x % 4 < 2 && y < 30 ? [0.45, 0.3, 0.2] : [0.25, 0.55, 0.25];
    return [0.45 + 0.01 * y, 0.65 + 0.008 * y, 0.95];
  };
  return [0, 1, 2].map((c) => Array.from({ length: 32 }, (_, y) => Array.from({ length: 32 }, (_, x) => colourAt(y, x)[c])));
}

const alike = (slice) => [slice, slice, slice].map((rows) => rows.map((row) => row.map((v) => v / 3)));
const tinted = (slice, tint) => tint.map((share) => slice.map((row) => row.map((v) => v * share)));
const turned = (slice) => slice[0].map((_, j) => slice.map((row) => row[j]));

export const widgets = { parts, filter, relu, sliding, stride, padding, six, depth, pooling, end, meaning, dot, learning };

async function parts(root) {
  const now = keep("parts", { side: 32 });
  const text = h("div", { class: "side" });
  const show = () => {
    const { side } = now, whole = side * side * 3 * 100, local = 5 * 5 * 3 * 100;
    const picture = (lit, words, count) => h("figure", {}, h("figcaption", {}, words), connections(lit), h("p", { class: "caption figure" }, count));
    replace(text, picture(true, t("parts.whole"), `${side} · ${side} · 3 · 100 = ${large(whole)}`), picture(false, t("parts.part"), `5 · 5 · 3 · 100 = ${large(local)}`));
  };
  root.append(h("div", { class: "controls" }, slider(t("parts.side"), now.side, 8, 224, (value) => { now.side = value; show(); }, 8)), text, h("p", { class: "caption" }, t("parts.count")));
  show();
}

function connections(whole) {
  const made = canvas(t(whole ? "parts.whole" : "parts.part")), context = (made.width = 440, made.height = 280, made.getContext("2d")), style = getComputedStyle(document.documentElement);
  const at = (name) => style.getPropertyValue(name).trim(), cells = 9, size = 22;
  const places = Array.from({ length: cells * cells }, (_, n) => [Math.floor(n / cells), n % cells]), seen = ([i, j]) => whole || (i >= 2 && i < 7 && j >= 2 && j < 7);
  for (const [i, j] of places) {
    context.fillStyle = seen([i, j]) ? at("--accent") : at("--track");
    context.globalAlpha = seen([i, j]) ? 0.35 : 1;
    context.fillRect(20 + j * size, 40 + i * size, size - 2, size - 2);
  }
  // All lines after all cells, so that none is painted over.
  context.globalAlpha = 0.5;
  context.strokeStyle = at("--accent");
  for (const [i, j] of places.filter(seen)) { context.beginPath(); context.moveTo(20 + (j + 0.5) * size, 40 + (i + 0.5) * size); context.lineTo(390, 139); context.stroke(); }
  context.globalAlpha = 1;
  context.fillStyle = at("--ink"); context.beginPath(); context.arc(392, 139, 9, 0, 7); context.fill();
  return made;
}

async function filter(root, ctx) {
  const now = keep("filter", { rows: EDGE.map((row) => [...row]), bias: 0 });
  const table = h("div", {}), bench = new Workbench(root, { walking: true, unpadded: true }), set = (patch = {}) => bench.set({ filters: [[now.rows]], bias: [now.bias], ...patch });
  root.prepend(h("div", { class: "controls" }, slider(t("bias"), now.bias, -20, 20, (value) => { now.bias = value; set(); })), table);
  replace(table, numbers(now.rows.flat(), 3, 3, { scale: 3, caption: t("filter.edit"), changed: (i, j, value) => { if (Number.isFinite(value)) { now.rows[i][j] = value; set(); } } }));
  await set({ x: [await patch(ctx, 5)] });
  return () => bench.leave();
}

async function relu(root, ctx) {
  const now = keep("relu", { bias: 0, after: true }), bench = new Workbench(root, { numbers: false, relu: now.after, unpadded: true }), x = await grey(ctx);
  root.prepend(h("div", { class: "controls" }, slider(t("bias"), now.bias, -2, 2, (value) => { now.bias = value; bench.set({ bias: [value] }); }, 0.1),
    choice("ReLU", [[false, t("relu.before")], [true, t("relu.after")]], now.after, (value) => { now.after = bench.relu = value; bench.set({}); })));
  await bench.set({ x, filters: [[EDGE]], bias: [now.bias] });
}

async function sliding(root, ctx) {
  const bench = new Workbench(root, { walking: true, unpadded: true });
  await bench.set({ x: [await patch(ctx, 7)], filters: [[EDGE]] });
  return () => bench.leave();
}

async function stride(root, ctx) {
  const bench = new Workbench(root, { walking: true, unpadded: true }), now = keep("stride", { n: 7, f: 3, stride: 1 });
  const x = await patch(ctx, 11);
  const set = () => bench.set({ settings: { stride: now.stride, padding: 0, dilation: 1, flip: false }, x: [x.slice(0, now.n).map((row) => row.slice(0, now.n))], filters: [[filterOf("edge", now.f)]] });
  const moved = (name) => (value) => { now[name] = value; set(); };
  root.prepend(h("div", { class: "controls" },
    slider(t("stride.n"), now.n, 3, 11, moved("n")), slider(t("stride.f"), now.f, 2, 7, moved("f")), slider(t("stride.s"), now.stride, 1, 5, moved("stride"))));
  await set();
  return () => bench.leave();
}

async function padding(root, ctx) {
  const bench = new Workbench(root, { walking: true }), now = keep("padding", { stride: 1, padding: 1, dilation: 1, flip: false });
  const moved = (name) => (value) => { now[name] = value; bench.set({ settings: { ...now } }); };
  root.prepend(h("div", { class: "controls" }, slider(t("play.padding"), now.padding, 0, 3, moved("padding")), slider(t("play.stride"), now.stride, 1, 3, moved("stride"))));
  await bench.set({ x: [await patch(ctx, 7)], filters: [[EDGE]], settings: { ...now } });
  return () => bench.leave();
}

async function six(root) {
  const edge = filterOf("edge", 5), blob = filterOf("outline", 5).map((row) => row.map((v) => v / 24));
  const filters = [alike(edge), alike(turned(edge)), alike(filterOf("blur", 5)), tinted(filterOf("blur", 5), [2, -1, -1]), tinted(filterOf("blur", 5), [-0.5, -0.5, 1]), alike(blob)];
  const bench = new Workbench(root, { numbers: false, unpadded: true });
  await bench.set({ x: scene(), filters, bias: [0, 0, 0, 0, 0, 0], unit: [0, 14, 10] });
  root.append(h("p", { class: "caption" }, t("six.count"), " ", h("code", {}, "(5 · 5 · 3 + 1) · 6 = 456")));
}

async function depth(root, ctx) {
  const layers = ctx.facts.layers.filter((layer) => layer.output.length === 3 && layer.taps);
  if (!layers.length) { root.append(h("p", {}, t("depth.none"))); return; }
  const [, height, width] = ctx.facts.input_shape, pixels = await ctx.pixels();
  const mark = h("i", { class: "frame" }), words = h("p", { class: "caption" }), after = h("figure", {});
  const now = keep("depth", { layer: 1 });
  const show = async (number) => {
    now.layer = number;
    const layer = layers[number - 1], [, oh, ow] = layer.output, y = oh >> 1, x = ow >> 1;
    const box = clipped(spanOf(layer, y, x), height, width);
    frame(mark, box, height, width);
    words.textContent = t("depth.sees", { layer: layer.name, h: box[2] - box[0], w: box[3] - box[1] });
    const map = await ctx.maps(layer.name), spot = h("i", { class: "frame" });
    frame(spot, [y, x, y + 1, x + 1], oh, ow);
    replace(after, h("figcaption", {}, `${layer.name} · ${by(layer.output)}`), h("div", { class: "layers", style: `aspect-ratio:${ow}/${oh}` }, paint(canvas(t("map.of", { layer: layer.name, c: 0 })), map.data.subarray(0, oh * ow), oh, ow, most(map.data)), spot));
  };
  root.append(h("div", { class: "controls" }, slider(t("depth.layer"), now.layer, 1, layers.length, show)),
    h("div", { class: "side" }, h("figure", {}, h("figcaption", {}, t("image")), h("div", { class: "layers", style: `aspect-ratio:${width}/${height}` }, photo(canvas(t("image")), pixels.data, pixels.shape), mark)), after), words);
  await show(now.layer);
}

// Which windows are shown along one axis, and the rows of the input that they lie in: all of a small map, or, from the
// middle on, as many as fit.
function part({ places }, side) {
  if (side <= WHOLE) return { first: 0, count: places.length, from: 0, to: side };
  const first = Math.max(0, (places.length >> 1) - 2), from = Math.max(0, places[first][0]);
  let count = 1;
  while (first + count < places.length && places[first + count].at(-1) < from + PART) count++;
  return { first, count, from, to: Math.min(side, Math.max(from + PART, places[first].at(-1) + 1)) };
}

async function pooling(root, ctx) {
  const layers = ctx.facts.layers.filter((one) => one.op === "max_pool2d"), layer = layers.find((one) => Math.max(...one.input.slice(1)) <= WHOLE) ?? layers[0];
  if (!layer) { root.append(h("p", {}, t("pooling.none"))); return; }
  const [given, made] = await Promise.all([ctx.maps(layer.reads[0]), ctx.maps(layer.name)]), [channels, ih, iw] = given.shape;
  const down = part(layer.taps.rows, ih), across = part(layer.taps.columns, iw), now = keep("pooling", { channel: 0, y: 0, x: 0 });
  const place = h("div", { class: "side" }), total = h("p", { class: "caption figure" }), scale = most(given.data);
  const rows = (map, top, left, bottom, right) => Array.from({ length: bottom - top }, (_, i) => Array.from({ length: right - left }, (_, j) => valueAt(map, now.channel, top + i, left + j)));
  const show = () => {
    const y = down.first + now.y, x = across.first + now.x, window_ = windowOf(layer, y, x), [top, left, bottom, right] = readBox(window_);
    // What lies in the padding takes no part.
    const values = window_.rowReads.filter((i) => i >= 0).flatMap((i) => window_.columnReads.filter((j) => j >= 0).map((j) => valueAt(given, now.channel, i, j)));
    replace(place, h("figure", {}, h("figcaption", {}, `${layer.reads[0]} · ${now.channel}`), grid(rows(given, down.from, across.from, down.to, across.to), { scale, box: [top - down.from, left - across.from, bottom - down.from, right - across.from], label: t("input") })),
      h("figure", {}, h("figcaption", {}, `${layer.name} · ${now.channel}`), grid(rows(made, down.first, across.first, down.first + down.count, across.first + across.count), { scale, box: [now.y, now.x, now.y + 1, now.x + 1], label: t("maps"), on: (v, u) => { if (v !== now.y || u !== now.x) { Object.assign(now, { y: v, x: u }); show(); } } })));
    total.textContent = `max(${values.map(num).join(", ")}) = ${num(valueAt(made, now.channel, y, x))}`;
  };
  const windows = down.count * across.count;
  root.append(h("div", { class: "controls" }, slider(t("channel"), now.channel, 0, channels - 1, (value) => { now.channel = value; show(); }), slider(t("pooling.window"), now.y * across.count + now.x, 0, windows - 1, (value) => { Object.assign(now, { y: Math.floor(value / across.count), x: value % across.count }); show(); })), place, total);
  show();
}

async function end(root, ctx) {
  const map = await ctx.maps(ctx.facts.output), { probabilities } = ctx.image, scores = Array.from(map.data), highest = scores.indexOf(Math.max(...scores));
  const last = ctx.facts.layers.findLast((layer) => layer.op === "linear" && layer.output[0] === scores.length);
  const labels = scores.map((_, i) => i), shown = labels.length > MOST_LABELS ? labels.sort((a, b) => scores[b] - scores[a]).slice(0, MOST_LABELS) : labels;
  const name = (i) => (last ? h("a", { href: address({ view: "window", layer: last.name, c: i, y: 0, x: 0, step: null }) }, ctx.facts.classes[i]) : ctx.facts.classes[i]);
  root.append(h("table", { class: "table" }, h("caption", {}, t("end.caption")), h("thead", {}, h("tr", {}, [t("end.label"), t("end.score"), t("end.power"), t("end.share")].map((words) => h("th", { scope: "col" }, words)))),
    h("tbody", {}, shown.map((i) => h("tr", {}, h("th", { scope: "row" }, name(i)),
      h("td", { class: "figure", style: `color:${i === highest ? "var(--accent)" : "inherit"}` }, num(scores[i])), h("td", { class: "figure" }, num(Math.exp(scores[i]))), h("td", { class: "figure" }, h("span", { class: "meter", style: `--share:${probabilities[i]}` }), percent(probabilities[i])))))));
  if (ctx.facts.mirror) root.append(h("p", { class: "caption" }, t("mirror")));
  if (!last) return;
  const inputs = imageLike(last.input)[0], [outputs] = last.output, each = last.parameters > outputs * inputs ? `(${inputs} + 1)` : inputs;
  root.append(h("p", { class: "caption" }, t("end.weights"), " ", h("code", {}, `${outputs} · ${each} = ${last.parameters}`)));
}

async function dot(root) {
  const bench = new Workbench(root, { unpadded: true }), now = keep("dot", { flip: false }), point = Array.from({ length: 5 }, (_, i) => Array.from({ length: 5 }, (_, j) => (i === 2 && j === 2 ? 1 : 0)));
  const settings = () => ({ stride: 1, padding: 0, dilation: 1, flip: now.flip });
  root.prepend(h("div", { class: "controls" }, choice(t("flip"), [[false, t("correlation")], [true, t("convolution")]], now.flip, (value) => { now.flip = value; bench.set({ settings: settings() }); })));
  await bench.set({ x: [point], filters: [[[[1, 2, 3], [4, 5, 6], [7, 8, 9]]]], settings: settings() });
}

async function learning(root, ctx) {
  const found = await once("learning", { image: ctx.image.image }), { filters, target } = found.arrays, scale = most(target.data), place = h("div", { class: "equation" }), words = h("p", { class: "caption figure", role: "status" });
  const now = keep("learning", { step: 0 });
  now.step = Math.min(now.step, found.steps.length - 1);
  const show = (number) => {
    now.step = number;
    replace(place, numbers(filters.data.subarray(9 * number, 9 * number + 9), 3, 3, { scale, caption: t("learning.now", { step: found.steps[number] }) }), signed("→", numbers(target.data, 3, 3, { scale, caption: t("learning.target") })));
    words.textContent = t("learning.loss", { loss: num(found.losses[number]) });
  };
  root.append(h("div", { class: "controls" }, slider(t("learning.step"), now.step, 0, found.steps.length - 1, show)), place, words);
  show(now.step);
}
