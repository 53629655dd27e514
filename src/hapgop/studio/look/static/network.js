// The network as a picture: layers from left to right, each a stack of its maps at their true proportions.

import { css, dark, table } from "./colors.js";
import { h, replace, say, svg } from "./dom.js";
import { by, large, num, percent } from "./format.js";
import { imageLike } from "./geometry.js";
import { canvas, most, photo } from "./plane.js";
import { offline, once } from "./source.js";
import { address, go, state } from "./state.js";
import { t } from "./words.js";

const SIDE = 132;
// The longer side of a deep layer's small maps, so that they can still be seen and pointed at.
const LEAST = 36;
const PLANES = 14;
const FOLDED_FROM = 17;
const JOINS = new Set(["add", "concat", "mul"]);
const AFTER = new Set(["batch_norm2d", "relu", "relu6", "silu", "hardswish", "leaky_relu", "elu", "gelu", "dropout", "identity"]);

// Groups of consecutive layers: one each in short nets; in long ones a residual block, or a convolution and what follows it.
export function groups(layers) {
  if (layers.length < FOLDED_FROM) return layers.map((layer) => [layer]);
  const index = new Map(layers.map((layer, i) => [layer.name, i])), found = [];
  // A join belongs to the block that begins where the oldest of its inputs was read.
  const start = layers.map((_, i) => i);
  layers.forEach((layer, i) => {
    if (!JOINS.has(layer.op)) return;
    const from = Math.min(...layer.reads.map((name) => origin(layers, index, name, i)));
    for (let j = from + 1; j <= i; j++) start[j] = from + 1;
  });
  layers.forEach((layer, i) => {
    const last = found.at(-1), joined = start[i] < i && last && start[i] <= last.at(-1).at;
    if (last && (joined || AFTER.has(layer.op))) last.push({ at: i, layer });
    else found.push([{ at: i, layer }]);
  });
  return found.map((group) => group.map((one) => one.layer));
}

// The last layer before `i` that everything between reads through: where a skip begins.
function origin(layers, index, name, i) {
  const readers = layers.slice(0, i + 1).filter((layer) => layer.reads.includes(name));
  if (readers.length > 1 || !index.has(name)) return index.get(name) ?? -1;
  const layer = layers[index.get(name)];
  return origin(layers, index, layer.reads[0], i);
}

export async function network(root, ctx) {
  const { facts } = ctx, shown = groups(facts.layers), open = new Set((state.open ?? "").split("-").filter(Boolean).map(Number));
  // The largest of all, which transposed convolutions make larger than the image.
  const sides = [facts.input_shape, ...facts.layers.map((layer) => imageLike(layer.output))].flatMap((shape) => shape.slice(1));
  const scale = SIDE / Math.max(...sides), widest = Math.max(...facts.layers.map((layer) => imageLike(layer.output)[0]));
  const row = h("ol", { class: "row" }), arcs = svg("svg", {});
  const scroller = h("div", { class: "scroll", tabIndex: 0, role: "region", "aria-label": t("view.network") }, h("div", { class: "rail" }, arcs, row));
  arcs.setAttribute("aria-hidden", "true");
  const places = new Map([[facts.input, null]]);
  const pixels = await ctx.pixels();
  const total = facts.layers.reduce((sum, layer) => sum + layer.macs, 0), parameters = facts.layers.reduce((sum, layer) => sum + layer.parameters, 0);

  function item(layer, words, group = null, number = 0) {
    const shape = imageLike(layer.output), picture = stackCanvas(shape, scale, widest);
    const conv = layer.op === "conv2d", last = layer.name === facts.output;
    const element = h("li", { class: "stack" },
      h("a", { class: "art", href: address({ view: "window", layer: layer.name, c: 0, y: Math.floor(shape[1] / 2), x: Math.floor(shape[2] / 2), k: 0, open: null }),
        "aria-label": t("layer.of", { name: layer.name, op: t(`op.${layer.op}`), shape: by(layer.output) }) }, picture),
      h("p", { class: "name" }, words),
      h("p", { class: "size" }, by(layer.output)),
      layer.formula && layer.op !== "flatten" ? h("p", { class: "formula" }, layer.formula.split("\n").map((line) => h("span", {}, line))) : null,
      conv ? h("p", { class: "note" }, layer.filter) : null,
      group ? h("button", { type: "button", class: "plain", "aria-expanded": String(open.has(number)), onclick: () => toggle(number) }, t(open.has(number) ? "fold" : "unfold", { n: group.length })) : null,
      last ? labels(ctx) : null);
    fill(picture, layer, shape);
    return element;
  }

  async function fill(picture, layer, shape) {
    try { drawStack(picture, await ctx.maps(layer.name), shape, scale, widest); }
    catch { drawStack(picture, null, shape, scale, widest); }
  }

  function toggle(number) {
    open.has(number) ? open.delete(number) : open.add(number);
    go({ open: [...open].sort((a, b) => a - b).join("-") }, true);
    build();
    say(t(open.has(number) ? "unfolded" : "folded"));
  }

  function build() {
    const items = [h("li", { class: "stack" }, h("a", { class: "art", href: address({ view: "question", open: null }), "aria-label": t("image") }, sized(photo(canvas(t("image")), pixels.data, pixels.shape), facts.input_shape, scale)),
      h("p", { class: "name" }, t("image")), h("p", { class: "size" }, by(facts.input_shape)))];
    places.set(facts.input, items[0]);
    shown.forEach((group, number) => {
      if (group.length > 1 && !open.has(number)) {
        const last = group.at(-1), element = item(last, title(group), group, number);
        group.forEach((layer) => places.set(layer.name, element));
        items.push(element);
      } else {
        group.forEach((layer, i) => {
          const element = item(layer, [t(`op.${layer.op}`), " ", h("small", {}, layer.name)], group.length > 1 && i === 0 ? group : null, number);
          places.set(layer.name, element);
          items.push(element);
        });
      }
    });
    replace(row, items);
    requestAnimationFrame(draw);
  }

  // Every path that does not simply go on to the next picture is drawn as an arc above.
  function draw() {
    const items = [...row.children], base = row.getBoundingClientRect(), lines = [];
    facts.layers.forEach((layer) => layer.reads.forEach((name) => {
      const from = places.get(name), to = places.get(layer.name);
      const inside = from === to && JOINS.has(layer.op), gap = items.indexOf(to) - items.indexOf(from);
      if (from && to && (gap > 1 || inside)) lines.push([from, to, gap]);
    }));
    const middle = (element) => { const box = element.querySelector("canvas").getBoundingClientRect(); return [box.left + box.width / 2 - base.left, box.top - base.top]; };
    arcs.setAttribute("width", row.scrollWidth);
    arcs.replaceChildren(...lines.map(([from, to, gap]) => {
      const [x0, y0] = middle(from), [x1, y1] = middle(to);
      const rise = gap ? Math.min(46, 16 + 6 * gap) : 18, spread = gap ? 0 : 22, top = Math.max(6, Math.min(y0, y1) - rise);
      return svg("path", { d: `M${x0 - spread} ${y0 - 4} C${x0 - spread} ${top},${x1 + spread} ${top},${x1 + spread} ${y1 - 4}` });
    }));
  }

  build();
  replace(root,
    h("h1", {}, t("network.title")),
    h("p", { class: "lead" }, t("network.lead", { layers: facts.layers.length, parameters: large(parameters), macs: large(total) })),
    scroller,
    offline ? null : h("p", {}, h("button", { type: "button", class: "button", onclick: (event) => costs(event.target, root.querySelector(".costs"), ctx) }, t("costs"))),
    h("div", { class: "costs" }));
  const watch = new ResizeObserver(draw);
  watch.observe(row);
  return { update() {}, placed: draw, leave: () => watch.disconnect() };
}

function title(group) {
  const prefix = group.map((layer) => layer.name).filter((name) => name.includes(".")).map((name) => name.split(".").slice(0, -1).join("."));
  const convolutions = group.filter((layer) => layer.op === "conv2d").length;
  const name = prefix.sort((a, b) => a.length - b.length)[0] ?? group[0].name;
  return [convolutions > 1 ? t("block", { n: convolutions }) : t(`op.${group[0].op}`), " ", h("small", {}, name)];
}

const depthOf = (channels, widest) => 4 + 44 * Math.sqrt(channels / widest);

function stackCanvas(shape, scale, widest) {
  const [c, height, width] = shape, vector = height * width === 1, depth = vector ? 0 : depthOf(c, widest);
  const size = Math.max(scale, LEAST / Math.max(height, width));
  const wide = vector ? 16 : Math.max(10, width * size), high = vector ? Math.min(SIDE, 8 + 6 * Math.min(c, 20)) : Math.max(10, height * size);
  const made = canvas("", { "aria-hidden": "true" });
  made.style.width = `${wide + depth}px`;
  made.style.height = `${high + depth}px`;
  return made;
}

// Planes one behind the other, the liveliest map in front.
function drawStack(element, map, [c, height, width], scale, widest) {
  const ratio = devicePixelRatio || 1, context = element.getContext("2d"), vector = height * width === 1;
  const full = [parseFloat(element.style.width), parseFloat(element.style.height)], depth = vector ? 0 : depthOf(c, widest);
  element.width = full[0] * ratio; element.height = full[1] * ratio;
  context.scale(ratio, ratio);
  const wide = full[0] - depth, high = full[1] - depth, edge = dark() ? "#63656b" : "#b9b3a9";
  if (vector) { column(context, map, c, full, edge); return; }
  const planes = Math.min(c, PLANES), order = map ? lively(map.data, c, height * width, planes) : [];
  const scale_ = map ? most(map.data) : 1;
  context.imageSmoothingEnabled = width > 64;
  for (let i = planes - 1; i >= 0; i--) {
    const shift = planes > 1 ? depth * i / (planes - 1) : 0, x = shift, y = depth - shift;
    if (map) context.drawImage(tile(map.data, order[i], height, width, scale_), x, y, wide, high);
    else { context.fillStyle = css(0.1, 1); context.fillRect(x, y, wide, high); }
    context.strokeStyle = edge; context.lineWidth = 1;
    context.strokeRect(x + 0.5, y + 0.5, wide - 1, high - 1);
  }
}

function column(context, map, count, [wide, high], edge) {
  const cells = Math.min(count, 20), size = high / cells, scale = map ? most(map.data) : 1;
  for (let i = 0; i < cells; i++) {
    context.fillStyle = map ? css(map.data[Math.floor(i * count / cells)], scale) : css(0, 1);
    context.fillRect(0, i * size, wide, size);
  }
  context.strokeStyle = edge;
  context.strokeRect(0.5, 0.5, wide - 1, high - 1);
}

function lively(values, channels, size, count) {
  const spread = Array.from({ length: channels }, (_, c) => {
    let sum = 0, square = 0;
    for (let i = c * size; i < (c + 1) * size; i++) { sum += values[i]; square += values[i] * values[i]; }
    return [square / size - (sum / size) ** 2, c];
  });
  return spread.sort((a, b) => b[0] - a[0]).slice(0, count).map(([, c]) => c);
}

function tile(values, channel, height, width, scale) {
  const made = new OffscreenCanvas(width, height), context = made.getContext("2d"), image = context.createImageData(width, height), lut = table();
  for (let i = 0; i < height * width; i++) {
    const at = 3 * (Math.max(-255, Math.min(255, Math.round(255 * values[channel * height * width + i] / (scale || 1)))) + 255);
    image.data.set([lut[at], lut[at + 1], lut[at + 2], 255], 4 * i);
  }
  context.putImageData(image, 0, 0);
  return made;
}

function sized(element, [, height, width], scale) {
  element.style.width = `${width * scale}px`;
  element.style.height = `${height * scale}px`;
  return element;
}

function labels(ctx) {
  const { probabilities } = ctx.image, order = probabilities.map((p, i) => [p, i]).sort((a, b) => b[0] - a[0]).slice(0, 3);
  return h("ol", { class: "labels" }, order.map(([p, i]) => h("li", {}, h("b", {}, ctx.facts.classes[i]), " ", h("span", { class: "figure" }, percent(p)))));
}

async function costs(button, place, ctx) {
  button.disabled = true;
  const found = await once("costs", { image: ctx.image.image }), slowest = Math.max(...found.map((one) => one.seconds));
  replace(place, h("table", { class: "table" }, h("caption", {}, t("costs.note")),
    h("thead", {}, h("tr", {}, ["layer", "macs", "memory", "time", "made.by"].map((key) => h("th", { scope: "col" }, t(key))))),
    h("tbody", {}, found.map((one) => h("tr", {},
      h("th", { scope: "row" }, one.layer), h("td", { class: "figure" }, one.macs ? large(one.macs) : ""), h("td", { class: "figure" }, `${large(one.memory)}B`),
      h("td", { class: "figure" }, h("span", { class: "meter", style: `--share:${one.seconds / slowest}` }), `${num(1000 * one.seconds)} ms`),
      h("td", {}, ctx.layers.get(one.layer).algorithm?.name ?? ""))))));
  button.disabled = false;
}
