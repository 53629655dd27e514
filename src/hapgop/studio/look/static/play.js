// A convolution to play with: every setting, every filter, one's own picture; the engine computes.

import { choice, h, replace, say, slider } from "./dom.js";
import { byChannel, channelName, numbers, products, sum } from "./equation.js";
import { num } from "./format.js";
import { canvas, cell, frame, most, paint, photo } from "./plane.js";
import { once, post } from "./source.js";
import { go, state } from "./state.js";
import { t } from "./words.js";

// Of each setting: what it begins with, the least and the most.
const SETTINGS = { size: [3, 2, 11], stride: [1, 1, 6], padding: [0, 0, 6], dilation: [1, 1, 6], count: [1, 1, 6] };
// Weights that the visitor typed: they outlive another count, another language and another light.
const typed = new Map();
const KINDS = ["edge", "outline", "blur", "sharpen", "emboss", "identity"];

export function filterOf(kind, size) {
  const middle = (size - 1) / 2, at = (f) => Array.from({ length: size }, (_, i) => Array.from({ length: size }, (_, j) => f(i - middle, j - middle)));
  // One cell, left and above the middle where the size is even. In a filter of 2 it has but two neighbours.
  const c = size % 2 ? 0 : -0.5, centre = (i, j) => i === c && j === c, beside = (i, j) => Math.abs(i - c) + Math.abs(j - c) === 1;
  const cells = size * size, neighbours = size === 2 ? 2 : 4;
  return {
    edge: () => at((i, j) => Math.sign(j) * (Math.abs(i) < 0.6 ? 2 : 1)),
    outline: () => at((i, j) => (centre(i, j) ? cells - 1 : -1)),
    blur: () => at(() => 1 / cells),
    sharpen: () => at((i, j) => (centre(i, j) ? 1 + neighbours : beside(i, j) ? -1 : 0)),
    emboss: () => at((i, j) => Math.sign(i + j)),
    identity: () => at((i, j) => (centre(i, j) ? 1 : 0)),
  }[kind]();
}

export async function play(root, ctx) {
  const now = { ...Object.fromEntries(Object.keys(SETTINGS).map((name) => [name, int(name)])), flip: state.flip === "1" };
  let kinds = (state.kinds ?? "edge").split("-"), filters = [], result = null, unit = [0, 0, 0], sending = false, again = false, chosen = 0, slice = 0, answers = 0;
  const pixels = (await once("larger", { image: ctx.image.image })).arrays["pixels:"], [height, width] = pixels.shape;
  const learned = ctx.facts.layers.find((layer) => layer.op === "conv2d");
  const input = photo(canvas(t("image")), pixels.data, pixels.shape), inFrame = h("i", { class: "frame" });
  const outputs = h("ul", { class: "outputs" }), editor = h("div", { class: "editor" }), formula = h("p", { class: "formula big", role: "status" });
  const equation = h("div", { class: "equation" }), partial = h("ul", { class: "partial", "aria-label": t("by.channel") }), total = h("div"), controls = h("div", { class: "controls" });

  function int(name) {
    const value = Math.trunc(Number(state[name])), [otherwise, least, largest] = SETTINGS[name];
    return Number.isFinite(value) && state[name] !== undefined ? Math.min(largest, Math.max(least, value)) : otherwise;
  }

  async function weightsOf(kind) {
    if (kind.startsWith("learned")) {
      const { weight } = await ctx.weights(learned.name), [oc, each, kh, kw] = weight.shape, c = Number(kind.slice(7)) % oc;
      return Array.from({ length: each }, (_, k) => Array.from({ length: kh }, (_, i) => Array.from({ length: kw }, (_, j) => weight.data[((c * each + k) * kh + i) * kw + j])));
    }
    return [filterOf(KINDS.includes(kind) ? kind : "edge", now.size)];
  }

  async function choose() {
    kinds = Array.from({ length: now.count }, (_, n) => kinds[n] ?? KINDS[n % KINDS.length]);
    filters = await Promise.all(kinds.map(weightsOf));
    const ic = pixels.shape[2];
    // Filters of one piece all: a learned one has a slice for each colour, a drawn one serves all colours alike.
    const deep = Math.max(...filters.map((filter) => filter.length));
    const kh = Math.max(...filters.map((filter) => filter[0].length)), kw = Math.max(...filters.map((filter) => filter[0][0].length));
    filters = filters.map((filter) => {
      const slices = filter.length === deep ? filter : Array.from({ length: deep }, () => filter[0].map((row) => row.map((v) => v / deep)));
      return slices.map((slice) => centred(slice, kh, kw));
    });
    if (deep > 1 && deep !== ic) filters = filters.map((filter) => [filter[0]]);
    filters = filters.map((filter, n) => typed.get(typedAs(n, filter)) ?? filter);
    edit();
    await run();
  }

  const typedAs = (n, filter) => [n, kinds[n], filter.length, filter[0].length, filter[0][0].length].join(" ");

  function remember() {
    go({ size: now.size, stride: now.stride, padding: now.padding, dilation: now.dilation, count: now.count, flip: now.flip ? "1" : null, kinds: kinds.join("-") }, true);
  }

  // One question at a time; the last setting always gets its answer.
  async function run() {
    if (sending) { again = true; return; }
    sending = true;
    try {
      const { size, count, ...settings } = now, shared = filters[0].length === 1;
      result = await post("play", JSON.stringify({ image: ctx.image.image, filters, ...settings }));
      formula.classList.remove("wrong");
      result.shared = shared;
      answers++;
      const [, oh, ow] = result.arrays.maps.shape;
      replace(formula, result.formula.split("\n").map((line) => h("code", {}, line)), h("span", {}, t("play.result", { n: count, h: oh, w: ow })),
        result.unread[0] + result.unread[1] ? h("span", { class: "note" }, t("unread", { rows: result.unread[0], columns: result.unread[1] })) : null);
      show();
    } catch (error) {
      formula.classList.add("wrong");
      replace(formula, h("span", {}, t("impossible")), error.message.split("\n").map((line) => h("span", {}, line)));
      replace(outputs); replace(equation); replace(total);
      partial.hidden = true;
      inFrame.hidden = true;
    }
    sending = false;
    if (again) { again = false; run(); }
  }

  function show() {
    const { data, shape: [oc, oh, ow] } = result.arrays.maps;
    unit = [Math.min(unit[0], oc - 1), Math.min(unit[1], oh - 1), Math.min(unit[2], ow - 1)];
    replace(outputs, Array.from({ length: oc }, (_, c) => {
      const mark = h("i", { class: "frame", hidden: true });
      const made = paint(canvas(t("map.of", { layer: t("view.play"), c }), { tabIndex: 0, role: "application", class: "pointed",
        onpointermove: (event) => { const [y, x] = cell(event, made, oh, ow); point(c, y, x); }, onkeydown: (event) => key(event, c) }), data.subarray(c * oh * ow, (c + 1) * oh * ow), oh, ow);
      return h("li", {}, h("button", { type: "button", "aria-pressed": String(c === chosen), onclick: () => { chosen = c; edit(); show(); } }, `${t("filter.n", { n: c + 1 })}: ${nameOf(kinds[c])}`),
        h("div", { class: "layers", style: `aspect-ratio:${ow}/${oh};width:${100 * Math.min(1, ow / width)}%` }, made, mark));
    }));
    point(...unit);
  }

  function key(event, c) {
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (!step) return;
    event.preventDefault();
    const [, oh, ow] = result.arrays.maps.shape;
    point(c, Math.min(oh - 1, Math.max(0, unit[1] + step[0])), Math.min(ow - 1, Math.max(0, unit[2] + step[1])));
    say(event.currentTarget.getAttribute("aria-label"));
  }

  function point(c, y, x) {
    unit = [c, y, x];
    const { input: given, maps, filters: applied } = result.arrays, [ic, ih, iw] = given.shape, [, oh, ow] = maps.shape, [, each, kh, kw] = applied.shape;
    [...outputs.children].forEach((item, n) => frame(item.querySelector(".frame"), n === c ? [y, x, y + 1, x + 1] : [0, 0, 0, 0], oh, ow));
    const top = y * now.stride - now.padding, left = x * now.stride - now.padding;
    frame(inFrame, [Math.max(0, top), Math.max(0, left), Math.min(ih, top + (kh - 1) * now.dilation + 1), Math.min(iw, left + (kw - 1) * now.dilation + 1)], ih, iw);
    const values = new Float64Array(kh * kw), weights = new Float64Array(kh * kw), padded = new Uint8Array(kh * kw), sums = Array(each).fill(0);
    slice = Math.min(slice, each - 1);
    for (let k = 0; k < each; k++) for (let i = 0; i < kh; i++) for (let j = 0; j < kw; j++) {
      const row = top + i * now.dilation, column = left + j * now.dilation, outside = row < 0 || column < 0 || row >= ih || column >= iw;
      const value = outside ? 0 : given.data[(k * ih + row) * iw + column], weight = applied.data[((c * each + k) * kh + i) * kw + j];
      sums[k] += value * weight;
      if (k === slice) { values[i * kw + j] = value; weights[i * kw + j] = weight; padded[i * kw + j] = outside; }
    }
    const value = maps.data[(c * oh + y) * ow + x], all = sums.reduce((a, b) => a + b, 0), names = sums.map((_, k) => channelName(ic, k));
    const filter = t(now.flip ? "play.flipped" : "filter"), shared = ic > 1 && result.shared;
    products(equation, { values, weights, padded, kh, kw }, [ic > 1 ? t("play.window.of", { colour: names[slice] }) : t("play.window"), shared ? t("play.divided", { filter, n: ic }) : filter, t("products")], [1, most(applied.data)]);
    partial.hidden = ic < 2;
    if (ic > 1) byChannel(partial, { key: String(answers), sums, k: slice, labels: sums.map((v, k) => `${names[k]}: ${num(v)}`), chosen: (k) => { slice = k; point(...unit); },
      picture: (k) => paint(canvas("", { "aria-hidden": "true" }), given.data.subarray(k * ih * iw, (k + 1) * ih * iw), ih, iw, 1) });
    replace(total, ic > 1 ? sum(sums.map((v, k) => [names[k], v]), [[t("play.all", { n: ic }), all], [t("engine"), value]]) : sum([[t("sum"), all]], [[t("engine"), value]]));
    outputs.children[c].querySelector("canvas").setAttribute("aria-label", t("spoken", { layer: t("view.play"), c, y, x, value: num(value) }));
  }

  const nameOf = (kind) => (kind.startsWith("learned") ? t("kind.learned", { n: kind.slice(7) }) : t(`kind.${KINDS.includes(kind) ? kind : "edge"}`));

  function edit() {
    chosen = Math.min(chosen, filters.length - 1);
    const filter = filters[chosen], options = [...KINDS, ...(learned ? Array.from({ length: Math.min(8, learned.output[0]) }, (_, n) => `learned${n}`) : [])];
    replace(editor,
      h("label", {}, h("span", {}, t("filter.n", { n: chosen + 1 })), h("select", { onchange: (event) => {
        kinds[chosen] = event.target.value;
        for (const key of typed.keys()) if (key.startsWith(`${chosen} `)) typed.delete(key);
        remember(); choose();
      } },
        options.map((kind) => h("option", { value: kind, selected: kind === kinds[chosen] }, nameOf(kind))))),
      numbers(filter[0].flat(), filter[0].length, filter[0][0].length, { scale: most(filter.flat(2)), caption: filter.length > 1 ? t("slice.first", { n: filter.length }) : t("filter.edit"),
        changed: (i, j, value) => { if (Number.isFinite(value)) { filter[0][i][j] = value; typed.set(typedAs(chosen, filter), filter); run(); } } }));
  }

  const set = (name, refill = false) => (value) => { now[name] = value; remember(); refill ? choose() : run(); };
  replace(controls,
    Object.entries(SETTINGS).map(([name, [, least, largest]]) => slider(t(`play.${name}`), now[name], least, largest, set(name, name === "size" || name === "count"))),
    choice(t("flip"), [[false, t("correlation")], [true, t("convolution")]], now.flip, set("flip")));
  replace(root, h("h1", {}, t("play.title")), h("p", { class: "lead" }, t("play.lead")),
    controls, formula, h("div", { class: "bench" }, h("figure", {}, h("figcaption", {}, t("image")), h("div", { class: "layers", style: `aspect-ratio:${width}/${height}` }, input, inFrame)), editor),
    h("section", { class: "results", "aria-label": t("maps") }, outputs), equation, partial, total);
  await choose();
  return { update() {} };
}

// A filter in the middle of zeros, where others are larger.
function centred(slice, kh, kw) {
  const top = Math.floor((kh - slice.length) / 2), left = Math.floor((kw - slice[0].length) / 2);
  return Array.from({ length: kh }, (_, i) => Array.from({ length: kw }, (_, j) => slice[i - top]?.[j - left] ?? 0));
}
