// Something to move for each chapter of the lesson.

import { choice, h, replace, slider } from "./dom.js";
import { numbers, signed } from "./equation.js";
import { by, large, num, percent } from "./format.js";
import { clipped, imageLike, spanOf } from "./geometry.js";
import { canvas, frame, most, paint, photo } from "./plane.js";
import { filterOf } from "./play.js";
import { once } from "./source.js";
import { address } from "./state.js";
import { t } from "./words.js";
import { Workbench, grid } from "./workbench.js";

const EDGE = filterOf("edge", 3);

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

export const widgets = { parts, filter, relu, sliding, stride, padding, six, depth, pooling, end, flip, learning };

async function parts(root) {
  let side = 32;
  const text = h("div", { class: "side" });
  const show = () => {
    const whole = side * side * 3 * 100, local = 5 * 5 * 3 * 100;
    const picture = (lit, words, count) => h("figure", {}, h("figcaption", {}, words), connections(lit), h("p", { class: "caption figure" }, count));
    replace(text, picture(true, t("parts.whole"), `${side} · ${side} · 3 · 100 = ${large(whole)}`), picture(false, t("parts.part"), `5 · 5 · 3 · 100 = ${large(local)}`));
  };
  root.append(h("div", { class: "controls" }, slider(t("parts.side"), side, 8, 224, (value) => { side = value; show(); }, 8)), text);
  show();
}

function connections(whole) {
  const made = canvas(t(whole ? "parts.whole" : "parts.part")), context = (made.width = 440, made.height = 280, made.getContext("2d")), style = getComputedStyle(document.documentElement);
  const at = (name) => style.getPropertyValue(name).trim(), cells = 9, size = 22;
  context.strokeStyle = at("--strong"); context.fillStyle = at("--track");
  const seen = (i, j) => whole || (i >= 3 && i < 6 && j >= 3 && j < 6);
  for (let i = 0; i < cells; i++) for (let j = 0; j < cells; j++) {
    context.fillStyle = seen(i, j) ? at("--accent") : at("--track");
    context.globalAlpha = seen(i, j) ? 0.35 : 1;
    context.fillRect(20 + j * size, 40 + i * size, size - 2, size - 2);
    context.globalAlpha = 0.5;
    if (seen(i, j)) { context.strokeStyle = at("--accent"); context.beginPath(); context.moveTo(20 + (j + 0.5) * size, 40 + (i + 0.5) * size); context.lineTo(390, 139); context.stroke(); }
    context.globalAlpha = 1;
  }
  context.fillStyle = at("--ink"); context.beginPath(); context.arc(392, 139, 9, 0, 7); context.fill();
  return made;
}

async function filter(root, ctx) {
  const table = h("div", {}), bench = new Workbench(root, { walking: true }), filters = [[EDGE.map((row) => [...row])]];
  let bias = 0;
  root.prepend(h("div", { class: "controls" }, slider(t("bias"), 0, -20, 20, (value) => { bias = value; bench.set({ bias: [bias] }); })), table);
  replace(table, numbers(filters[0][0].flat(), 3, 3, { scale: 3, caption: t("filter.edit"), changed: (i, j, value) => { if (Number.isFinite(value)) { filters[0][0][i][j] = value; bench.set({ filters }); } } }));
  await bench.set({ x: [await patch(ctx, 5)], filters, bias: [bias] });
  return () => bench.leave();
}

async function relu(root, ctx) {
  const bench = new Workbench(root, { numbers: false, relu: true }), x = await grey(ctx);
  let bias = 0;
  root.prepend(h("div", { class: "controls" }, slider(t("bias"), 0, -2, 2, (value) => { bias = value; bench.set({ bias: [bias] }); }, 0.1),
    choice("ReLU", [[false, t("relu.before")], [true, t("relu.after")]], true, (value) => { bench.relu = value; bench.set({}); })));
  await bench.set({ x, filters: [[EDGE]], bias: [bias] });
}

async function sliding(root, ctx) {
  const bench = new Workbench(root, { walking: true });
  await bench.set({ x: [await patch(ctx, 7)], filters: [[EDGE]] });
  return () => bench.leave();
}

async function stride(root, ctx) {
  const bench = new Workbench(root, { walking: true }), settings = { stride: 1, padding: 0, dilation: 1, flip: false };
  const x = await patch(ctx, 11), size = { n: 7, f: 3 };
  const set = () => bench.set({ settings: { ...settings }, x: [x.slice(0, size.n).map((row) => row.slice(0, size.n))], filters: [[filterOf("edge", size.f)]] });
  root.prepend(h("div", { class: "controls" },
    slider(t("stride.n"), 7, 3, 11, (value) => { size.n = value; set(); }), slider(t("stride.f"), 3, 1, 7, (value) => { size.f = value; set(); }), slider(t("stride.s"), 1, 1, 5, (value) => { settings.stride = value; set(); })));
  await set();
  return () => bench.leave();
}

async function padding(root, ctx) {
  const bench = new Workbench(root, { walking: true });
  let settings = { stride: 1, padding: 1, dilation: 1, flip: false };
  root.prepend(h("div", { class: "controls" }, slider(t("play.padding"), 1, 0, 3, (value) => { settings = { ...settings, padding: value }; bench.set({ settings }); }), slider(t("play.stride"), 1, 1, 3, (value) => { settings = { ...settings, stride: value }; bench.set({ settings }); })));
  await bench.set({ x: [await patch(ctx, 7)], filters: [[EDGE]], settings });
  return () => bench.leave();
}

async function six(root) {
  const edge = filterOf("edge", 5), blob = filterOf("outline", 5).map((row) => row.map((v) => v / 24));
  const filters = [alike(edge), alike(turned(edge)), alike(filterOf("blur", 5)), tinted(filterOf("blur", 5), [2, -1, -1]), tinted(filterOf("blur", 5), [-0.5, -0.5, 1]), alike(blob)];
  const bench = new Workbench(root, { numbers: false });
  await bench.set({ x: scene(), filters, bias: [0, 0, 0, 0, 0, 0], unit: [0, 14, 10] });
  root.append(h("p", { class: "caption" }, t("six.count"), " ", h("code", {}, "(5 · 5 · 3 + 1) · 6 = 456")));
}

async function depth(root, ctx) {
  const layers = ctx.facts.layers.filter((layer) => layer.output.length === 3 && layer.taps), [, height, width] = ctx.facts.input_shape, pixels = await ctx.pixels();
  const mark = h("i", { class: "frame" }), words = h("p", { class: "caption" }), after = h("figure", {});
  const show = async (number) => {
    const layer = layers[number - 1], [, oh, ow] = layer.output, y = oh >> 1, x = ow >> 1;
    const box = clipped(spanOf(layer, y, x), height, width);
    frame(mark, box, height, width);
    words.textContent = t("depth.sees", { layer: layer.name, h: layer.field.size[0], w: layer.field.size[1] });
    const map = await ctx.maps(layer.name), spot = h("i", { class: "frame" });
    frame(spot, [y, x, y + 1, x + 1], oh, ow);
    replace(after, h("figcaption", {}, `${layer.name} · ${by(layer.output)}`), h("div", { class: "layers", style: `aspect-ratio:${ow}/${oh}` }, paint(canvas(t("map.of", { layer: layer.name, c: 0 })), map.data.subarray(0, oh * ow), oh, ow, most(map.data)), spot));
  };
  root.append(h("div", { class: "controls" }, slider(t("depth.layer"), 1, 1, layers.length, show)),
    h("div", { class: "side" }, h("figure", {}, h("figcaption", {}, t("image")), h("div", { class: "layers", style: `aspect-ratio:${width}/${height}` }, photo(canvas(t("image")), pixels.data, pixels.shape), mark)), after), words);
  await show(1);
}

async function pooling(root, ctx) {
  const layer = ctx.facts.layers.find((one) => one.op === "max_pool2d" && one.input[1] <= 16);
  if (!layer) { root.append(h("p", {}, t("pooling.none"))); return; }
  const [given, made] = await Promise.all([ctx.maps(layer.reads[0]), ctx.maps(layer.name)]), [channels, ih, iw] = given.shape, [, oh, ow] = made.shape;
  let channel = 0, unit = [0, 0];
  const place = h("div", { class: "side" }), total = h("p", { class: "caption figure" });
  const rows = (map, height, width) => Array.from({ length: height }, (_, i) => Array.from(map.data.subarray((channel * height + i) * width, (channel * height + i + 1) * width)));
  const show = () => {
    const { rows: r, columns: c } = layer.taps, top = r.places[unit[0]], left = c.places[unit[1]], table = rows(given, ih, iw);
    const values = top.flatMap((i) => left.map((j) => table[i][j])), scale = most(given.data);
    replace(place, h("figure", {}, h("figcaption", {}, `${layer.reads[0]} · ${channel}`), grid(table, { scale, box: [top[0], left[0], top.at(-1) + 1, left.at(-1) + 1], label: t("input") })),
      h("figure", {}, h("figcaption", {}, `${layer.name} · ${channel}`), grid(rows(made, oh, ow), { scale, box: [...unit, unit[0] + 1, unit[1] + 1], label: t("maps"), on: (y, x) => { unit = [y, x]; show(); } })));
    total.textContent = `max(${values.map(num).join(", ")}) = ${num(made.data[(channel * oh + unit[0]) * ow + unit[1]])}`;
  };
  root.append(h("div", { class: "controls" }, slider(t("channel"), 0, 0, channels - 1, (value) => { channel = value; show(); }), slider(t("pooling.window"), 0, 0, oh * ow - 1, (value) => { unit = [Math.floor(value / ow), value % ow]; show(); })), place, total);
  show();
}

async function end(root, ctx) {
  const last = ctx.facts.layers.findLast((layer) => layer.op === "linear"), map = await ctx.maps(ctx.facts.output), { probabilities } = ctx.image, scale = most(map.data);
  root.append(h("table", { class: "table" }, h("caption", {}, t("end.caption")), h("thead", {}, h("tr", {}, [t("end.label"), t("end.score"), t("end.power"), t("end.share")].map((words) => h("th", { scope: "col" }, words)))),
    h("tbody", {}, Array.from(map.data).slice(0, 12).map((score, i) => h("tr", {}, h("th", { scope: "row" }, h("a", { href: address({ view: "window", layer: last.name, c: i, y: 0, x: 0, step: null }) }, ctx.facts.classes[i])),
      h("td", { class: "figure", style: `color:${Math.abs(score) === scale ? "var(--accent)" : "inherit"}` }, num(score)), h("td", { class: "figure" }, num(Math.exp(score))), h("td", { class: "figure" }, h("span", { class: "meter", style: `--share:${probabilities[i]}` }), percent(probabilities[i])))))));
  const inputs = imageLike(last.input)[0];
  root.append(h("p", { class: "caption" }, t("end.weights"), " ", h("code", {}, `${last.output[0]} · (${inputs} + 1) = ${last.output[0] * (inputs + 1)}`)));
}

async function flip(root) {
  const bench = new Workbench(root), dot = Array.from({ length: 5 }, (_, i) => Array.from({ length: 5 }, (_, j) => (i === 2 && j === 2 ? 1 : 0)));
  const settings = { stride: 1, padding: 0, dilation: 1, flip: false };
  root.prepend(h("div", { class: "controls" }, choice(t("flip"), [[false, t("correlation")], [true, t("convolution")]], false, (value) => bench.set({ settings: { ...settings, flip: value } }))));
  await bench.set({ x: [dot], filters: [[[[1, 2, 3], [4, 5, 6], [7, 8, 9]]]], settings });
}

async function learning(root, ctx) {
  const found = await once("learning", { image: ctx.image.image }), { filters, target } = found.arrays, scale = most(target.data), place = h("div", { class: "equation" }), words = h("p", { class: "caption figure", role: "status" });
  const show = (number) => {
    replace(place, numbers(filters.data.subarray(9 * number, 9 * number + 9), 3, 3, { scale, caption: t("learning.now", { step: found.steps[number] }) }), signed("→", numbers(target.data, 3, 3, { scale, caption: t("learning.target") })));
    words.textContent = t("learning.loss", { loss: num(found.losses[number]) });
  };
  root.append(h("div", { class: "controls" }, slider(t("learning.step"), 0, 0, found.steps.length - 1, show)), place, words);
  show(0);
}
