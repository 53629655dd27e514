// The window: any number of any layer, and how it was made.

import { h, replace, say, still } from "./dom.js";
import { byChannel, numbers, products, strongest, sum } from "./equation.js";
import { full, num, percent } from "./format.js";
import { channelsOf, clipped, imageLike, readBox, reading, sourceOf, spanOf, strip, sumOf, valueAt, windowOf } from "./geometry.js";
import { folded, normOf, normed } from "./norm.js";
import { canvas, cell, frame, heat, most, paint, photo } from "./plane.js";
import { offline, once } from "./source.js";
import { address, go, state } from "./state.js";
import { t } from "./words.js";

const SHOWN = 48;
const MOST_CELLS = 400;
const PACE = 260;

export async function inspect(root, ctx) {
  // Of a large net, a single file holds some windows only: of some layers, and of some of their channels.
  const { windows } = ctx.facts, held = windows ? ctx.facts.layers.filter((layer) => windows[layer.name]) : ctx.facts.layers;
  const names = held.map((layer) => layer.name);
  const first = held.find((layer) => layer.taps) ?? held[0];
  let view = null, turn = 0, timer = 0;

  async function build() {
    const mine = ++turn;
    const layer = wanted();
    if (!names.includes(layer.name)) {
      view = { layer, update() {} };
      replace(root, h("div", { class: "chooser" }, chooseLayer(layer)), h("p", {}, t("window.left", { layer: layer.name })), part());
      return;
    }
    const built = await Layer.load(ctx, layer);
    if (mine !== turn) return;
    view = built;
    replace(root,
      h("div", { class: "chooser" }, chooseLayer(layer), h("label", {}, h("span", {}, t("channel")), chooseChannel(layer, built)),
        h("button", { type: "button", class: "button slide", onclick: slide, "aria-pressed": "false" }, t("slide"))),
      built.root, part());
    built.update();
  }

  const wanted = () => ctx.layers.get(state.layer) ?? first;
  const part = () => (windows ? h("p", { class: "note apart" }, t("window.part", { n: names.length, all: ctx.facts.layers.length })) : null);

  function chooseLayer(layer) {
    const shown = names.includes(layer.name) ? names : [layer.name, ...names];
    return h("label", {}, h("span", {}, t("layer")), select(shown, layer.name, (name) => go({ layer: name, c: 0, y: 0, x: 0, k: 0 })));
  }

  function chooseChannel(layer, built) {
    if (built.some) return select(built.some.map(String), String(built.unit()[0]), (c) => go({ c }, true));
    return h("input", { type: "number", min: "0", max: String(layer.output[0] - 1), value: String(built.unit()[0]),
      oninput: (event) => go({ c: Math.min(layer.output[0] - 1, Math.max(0, Number(event.target.value) || 0)) }, true) });
  }

  function slide(event) {
    if (timer) { stop(); return; }
    const button = event.currentTarget;
    button.setAttribute("aria-pressed", "true");
    button.textContent = t("stop");
    const [, height, width] = imageLike(view.layer.output);
    timer = setInterval(() => {
      const [, y, x] = view.unit(), next = (y * width + x + 1) % (height * width);
      go({ y: Math.floor(next / width), x: next % width }, true);
    }, still() ? 3 * PACE : PACE);
  }

  function stop() {
    clearInterval(timer);
    timer = 0;
    const button = root.querySelector(".slide");
    if (button) { button.setAttribute("aria-pressed", "false"); button.textContent = t("slide"); }
  }

  await build();
  return {
    update() {
      if (wanted().name !== view.layer.name) { stop(); build(); return; }
      view.update();
      // Not while it is being emptied, to type another.
      const field = root.querySelector(".chooser label:nth-child(2) > :last-child");
      if (!field) return;
      if (field.value || field !== document.activeElement) field.value = String(view.unit()[0]);
    },
    leave: stop,
  };
}

function select(names, value, chosen) {
  return h("select", { onchange: (event) => chosen(event.target.value) },
    names.map((name) => h("option", { value: name, selected: name === value }, name)));
}

// The convolution that a batch norm reads, where nothing else reads it: it takes the norm in.
async function before(ctx, layer) {
  const [name] = layer.reads, conv = ctx.layers.get(name), readers = ctx.facts.layers.filter((one) => one.reads.includes(name));
  if (conv?.op !== "conv2d" || conv.activation || readers.length > 1) return null;
  try { return { name, ...await ctx.weights(name) }; } catch { return null; /* a single file may lack them */ }
}

class Layer {
  static async load(ctx, layer) {
    const inputs = await Promise.all(layer.reads.map((name) => ctx.maps(name)));
    const [output, arrays, pixels] = await Promise.all([ctx.maps(layer.name), layer.weights || layer.norm ? ctx.weights(layer.name) : {}, ctx.pixels()]);
    const built = new Layer(ctx, layer, inputs, output, layer.norm ? {} : arrays, pixels);
    if (layer.norm) Object.assign(built, { norm: arrays, conv: await before(ctx, layer) });
    return built;
  }

  constructor(ctx, layer, inputs, output, { weight = null, bias = null }, pixels) {
    Object.assign(this, { ctx, layer, inputs, output, weight, bias, image: ctx.image.image });
    const held = ctx.facts.windows?.[layer.name];
    this.some = held && held.length < layer.output[0] ? held : null;
    this.shape = imageLike(layer.output);
    this.reads = imageLike(layer.input);
    this.outScale = most(output.data);
    this.inScales = inputs.map((input) => most(input.data));
    [this.inScale] = this.inScales;
    this.weightScale = weight ? most(weight.data) : 1;
    const [, oh, ow] = this.shape, [, ih, iw] = this.reads, [, height, width] = ctx.facts.input_shape;
    this.photo = photo(canvas(t("picture.of", { name: ctx.image.name || t("yours") })), pixels.data, pixels.shape);
    this.field = h("i", { class: "frame" });
    this.mask = canvas("", { class: "over", "aria-hidden": "true" });
    this.before = canvas(t("map.before"), {});
    this.beforeFrame = h("i", { class: "frame" });
    this.after = canvas("", { tabIndex: 0, role: "application", class: "pointed", "aria-roledescription": t("map"),
      onpointermove: (event) => this.point(event), onpointerdown: (event) => this.point(event), onkeydown: (event) => this.key(event) });
    this.afterFrame = h("i", { class: "frame" });
    this.beforeTitle = h("span"); this.afterTitle = h("span"); this.fieldText = h("p", { class: "note" });
    this.equation = h("div", { class: "equation" }); this.total = h("div"); this.made = h("div", { class: "made" });
    this.partial = h("ul", { class: "partial", "aria-label": t("by.channel") });
    this.partialTitle = h("p", { class: "note apart", "aria-hidden": "true" }, t("by.channel"));
    this.more = h("p", { class: "note", hidden: true });
    this.excited = h("div");
    this.judged = h("div", { class: "health" });
    this.moves = canvas("", { class: "over", "aria-hidden": "true", hidden: true });
    this.strength = offline ? null : h("button", { type: "button", class: "plain", "aria-pressed": "false",
      onclick: () => go({ strong: state.strong ? null : 1 }, true) }, t("strength"));
    const figure = (title, ratio, children, note) => h("figure", {}, h("figcaption", {}, title), h("div", { class: "layers", style: `aspect-ratio:${ratio}` }, children), note);
    this.root = h("div", { class: "inspect" },
      h("div", { class: "triptych" },
        figure(h("span", {}, t("image")), `${width}/${height}`, [this.photo, this.mask, this.moves, this.field], [this.fieldText, this.strength]),
        figure(this.beforeTitle, `${iw}/${ih}`, [this.before, this.beforeFrame], null),
        figure(this.afterTitle, `${ow}/${oh}`, [this.after, this.afterFrame], h("p", { class: "note" }, t("arrows")))),
      this.equation, this.total, this.made, this.partialTitle, this.partial, this.more, this.excited, this.judged);
    this.health();
    this.drawn = "";
    this.exactly = 0;
  }

  unit() {
    const [c, h_, w] = this.shape, clamp = (value, side) => Math.min(side - 1, Math.max(0, value || 0));
    const channel = clamp(state.c, c);
    return [this.some && !this.some.includes(channel) ? this.some[0] : channel, clamp(state.y, h_), clamp(state.x, w)];
  }

  point(event) {
    if (event.pointerType === "touch" && event.type === "pointermove" && !event.buttons) return;
    const [, height, width] = this.shape, [y, x] = cell(event, this.after, height, width), [, y0, x0] = this.unit();
    if (y !== y0 || x !== x0) go({ layer: this.layer.name, y, x }, true);
  }

  key(event) {
    const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }, step = steps[event.key];
    const [c, y, x] = this.unit(), [channels, height, width] = this.shape;
    if (step) {
      event.preventDefault();
      go({ layer: this.layer.name, y: Math.min(height - 1, Math.max(0, y + step[0])), x: Math.min(width - 1, Math.max(0, x + step[1])) }, true);
    } else if (event.key === "PageUp" || event.key === "PageDown") {
      event.preventDefault();
      const all = this.some ?? Array.from({ length: channels }, (_, n) => n), step_ = event.key === "PageDown" ? 1 : all.length - 1;
      go({ layer: this.layer.name, c: all[(all.indexOf(c) + step_) % all.length] }, true);
    } else return;
    this.spoken = true;
  }

  update() {
    const [c, y, x] = this.unit(), { layer } = this, [, oh, ow] = this.shape, [, ih, iw] = this.reads;
    this.channels = layer.op === "linear" ? [0] : channelsOf(layer, c);
    const k = Math.min(this.channels.length - 1, state.k ?? 0);
    const value = this.output.data[(c * oh + y) * ow + x];
    const from = this.from = sourceOf(layer, this.inputs, c, y, x, k);
    this.planes(c);
    this.beforeTitle.textContent = layer.op === "linear" ? layer.reads[0] : `${layer.reads[from.n]} · ${from.channel}`;
    this.afterTitle.textContent = `${layer.name} · ${c}`;
    frame(this.afterFrame, [y, x, y + 1, x + 1], oh, ow);
    const window_ = windowOf(layer, y, x);
    const box = window_ ? readBox(window_) : layer.op === "linear" ? [0, 0, 1, 1] : [from.y, from.x, from.y + 1, from.x + 1];
    frame(this.beforeFrame, clipped(box, ih, iw), ih, iw);
    this.sees(y, x);
    this.arithmetic(c, y, x, k, value);
    const spoken = t("spoken", { layer: layer.name, c, y, x, value: num(value) });
    this.after.setAttribute("aria-label", spoken);
    if (this.spoken) { say(spoken); this.spoken = false; }
  }

  planes(c) {
    const { n, channel } = this.from, key = `${c} ${n} ${channel}`;
    if (key === this.drawn) return;
    this.drawn = key;
    const [, oh, ow] = this.shape, [, ih, iw] = this.reads, whole = this.layer.op === "linear", { data } = this.inputs[n];
    paint(this.after, this.output.data.subarray(c * oh * ow, (c + 1) * oh * ow), oh, ow, this.outScale);
    const [values, rows, columns] = whole ? strip(data) : [data.subarray(channel * ih * iw, (channel + 1) * ih * iw), ih, iw];
    paint(this.before, values, rows, columns, this.inScales[n]);
    if (whole) this.before.parentElement.style.aspectRatio = `${columns}/${rows}`;
    this.exciting(c);
  }

  sees(y, x) {
    const [, height, width] = this.ctx.facts.input_shape, [c] = this.unit();
    // A flattened value sees what it saw in its map.
    const flat = this.layer.op === "flatten", [row, column] = flat ? [this.from.y, this.from.x] : [y, x];
    const span = spanOf(this.layer, row, column), box = clipped(span, height, width), vector = this.layer.output.length < 3;
    frame(this.field, vector && !flat ? [0, 0, height, width] : box, height, width);
    // Where units do not see alike, the span is but the smallest that holds what each of them sees.
    const padding = this.layer.unequal ? 0 : 1 - (box[2] - box[0]) * (box[3] - box[1]) / ((span[2] - span[0]) * (span[3] - span[1]));
    this.fieldText.textContent = t(padding > 0.0005 && !vector ? "sees.padding" : "sees", { h: box[2] - box[0], w: box[3] - box[1], p: percent(padding) });
    this.mask.hidden = this.moves.hidden = true;
    if (offline) return;
    this.strength.setAttribute("aria-pressed", String(Boolean(state.strong)));
    // The exact pixels, gaps of dilation and all, as soon as the pointer rests.
    clearTimeout(this.exactly);
    const wanted = { layer: this.layer.name, c, y, x };
    this.exactly = setTimeout(async () => {
      const elsewhere = () => { const now = this.unit(); return now[0] !== c || now[1] !== y || now[2] !== x; };
      let held = false;
      if (state.strong) {
        const { heat: felt } = (await once("effective", { image: this.image, ...wanted })).arrays;
        if (elsewhere() || !state.strong) return;
        heat(this.moves, felt.data, height, width);
        this.moves.hidden = false;
        held = !most(felt.data);
      }
      const { box: [top, left, bottom, right], padding: beyond, arrays } = await once("field", wanted), seen = arrays.mask.data;
      if (elsewhere()) return;
      const count = seen.reduce((a, b) => a + b, 0), sees = count === 1 ? "sees.one" : beyond > 0.0005 && !vector ? "sees.exact.padding" : "sees.exact";
      this.fieldText.textContent = held ? t("strength.none") : t(sees, { n: count, h: bottom - top, w: right - left, p: percent(beyond) });
      if (!state.strong) shade(this.mask, seen, height, width);
      frame(this.field, [top, left, bottom, right], height, width);
    }, 60);
  }

  arithmetic(c, y, x, k, value) {
    const { layer } = this, bias = this.bias ? this.bias.data[c] : 0;
    this.partial.hidden = this.partialTitle.hidden = this.more.hidden = true;
    if (layer.taps && this.weight) {
      const sums = this.channels.map((_, number) => sumOf(reading(layer, this.inputs[0], this.weight, c, y, x, number)));
      const one = reading(layer, this.inputs[0], this.weight, c, y, x, k), total = sums.reduce((a, b) => a + b, 0);
      products(this.equation, one, [t("window.of", { layer: layer.reads[0], c: this.channels[k] }), t("filter.slice", { c, k }), t("products")], [this.inScale, this.weightScale]);
      const parts = this.channels.length > 1
        ? [[t("sum.this", { k: this.channels[k] }), sums[k]], [t("sum.others", { n: this.channels.length - 1 }), total - sums[k]], [t("bias"), bias]]
        : [[t("sum"), total], [t("bias"), bias]];
      this.result(parts, total + bias, value);
      this.byChannel(sums, k);
    } else if (layer.op === "linear") {
      this.fully(c, bias, value);
    } else if (layer.taps) {
      const one = reading(layer, this.inputs[0], null, c, y, x, 0);
      // More than can be read at once is only framed above.
      replace(this.equation, one.kh * one.kw > MOST_CELLS ? null : numbers(one.values, one.kh, one.kw, { scale: this.inScale, padded: one.padded, caption: t("window.of", { layer: layer.reads[0], c }) }));
      const max = layer.op.endsWith("max_pool2d"), counts = one.values.filter((_, i) => one.padded[i] < 2);
      const made = max ? Math.max(...counts) : counts.reduce((a, b) => a + b, 0) / counts.length;
      replace(this.total, sum([[t(max ? "largest" : "mean"), made]], [[t("engine"), value]]));
    } else if (this.norm) {
      const norm = normOf(this.norm, layer.norm.eps, c);
      replace(this.equation);
      replace(this.total, normed(valueAt(this.inputs[0], c, y, x), layer.reads[0], value, norm), folded(norm, c, this.conv));
    } else {
      const passed = layer.op === "concat" || layer.op === "flatten", { n, channel } = this.from;
      const from = passed ? [[`${layer.reads[n]} · ${channel}`, valueAt(this.inputs[n], channel, this.from.y, this.from.x)]]
        : this.inputs.map((input, i) => [layer.reads[i], valueAt(input, c, y, x)]);
      replace(this.equation);
      const simple = !["softmax", "log_softmax", "mean", "layer_norm"].includes(layer.op);
      replace(this.total, simple ? sum(from, [[t(`op.${layer.op}`), value]], from.length < 2 && !passed ? null : layer.op === "mul" ? "×" : "+") : h("p", { class: "sum" }, h("span", { class: "term" }, h("b", { class: "figure", "data-value": full(value) }, num(value)), h("small", {}, t(`op.${layer.op}`)))));
    }
    this.algorithm();
  }

  result(parts, before, value) {
    const { activation } = this.layer, steps = activation ? [[t("before"), before], [t(`op.${activation}`), activation === "relu" ? Math.max(0, before) : value]] : [[t("total"), before]];
    replace(this.total, sum(parts, steps), h("p", { class: "engine" }, t("engine"), " ", h("b", { class: "figure value", title: full(value), "data-value": full(value) }, num(value)), " ",
      h("span", { class: "note" }, t("difference", { d: num(value - steps.at(-1)[1]) }))));
  }

  fully(c, bias, value) {
    const weights = this.weight.data.subarray(c * this.weight.shape[1], (c + 1) * this.weight.shape[1]), x = this.inputs[0].data;
    const total = weights.reduce((a, w, i) => a + w * x[i], 0);
    strongest(this.equation, x, weights, 8);
    this.result([[t("sum.all", { n: weights.length }), total], [t("bias"), bias]], total + bias, value);
  }

  byChannel(sums, k) {
    if (sums.length < 2) return;
    this.partial.hidden = this.partialTitle.hidden = false;
    this.more.hidden = sums.length <= SHOWN;
    this.more.textContent = `+ ${t("sum.others", { n: sums.length - SHOWN })}`;
    const [, ih, iw] = this.reads, plane = (channel) => this.inputs[0].data.subarray(channel * ih * iw, (channel + 1) * ih * iw);
    byChannel(this.partial, { key: String(this.channels[0]), sums: sums.slice(0, SHOWN), k, labels: this.channels.map((channel, number) => t("partial.of", { k: channel, value: num(sums[number]) })),
      picture: (number) => paint(canvas("", { "aria-hidden": "true" }), plane(this.channels[number]), ih, iw, this.inScale), chosen: (number) => go({ k: number }, true) });
  }

  algorithm() {
    const made = this.layer.algorithm;
    if (this.made.childElementCount) return;
    const size = this.layer.formula ? h("p", { class: "formula" }, h("span", {}, t("size")), h("code", {}, this.layer.formula)) : null;
    replace(this.made, size, made ? h("details", {}, h("summary", {}, t("made.by"), " ", h("b", {}, made.name), ". ", this.weight ? t(made.products ? "products.yes" : "products.no") : ""), h("pre", { tabIndex: 0 }, made.plan)) : null);
  }

  // How well the filters are used: which are never above zero, which are twice there, which stand at their limit.
  async health() {
    if (offline || this.layer.op !== "conv2d") return;
    const found = await once("health", { layer: this.layer.name });
    const link = (c) => h("a", { href: address({ layer: this.layer.name, c }) }, String(c));
    const list = (items) => items.flatMap((item, i) => (i ? [", ", item] : [item]));
    const said = [
      found.dead.length ? [t("health.dead"), " ", list(found.dead.map(link))] : null,
      found.still.length ? [t("health.still"), " ", list(found.still.map(link))] : null,
      found.duplicates.length ? [t("health.duplicates"), " ", list(found.duplicates.map(([a, b]) => h("span", {}, link(a), " = ", link(b))))] : null,
      found.saturated.length ? [t("health.saturated"), " ", list(found.saturated.map(link))] : null,
    ].filter(Boolean);
    replace(this.judged, h("h2", {}, t("health")), h("p", { class: "note" }, t("health.lead", { n: found.images })),
      said.length ? said.map((line) => h("p", { class: "note" }, line)) : h("p", { class: "note" }, t(found.rectified ? "health.well" : "health.unjudged", { n: this.layer.output[0] })));
  }

  async exciting(c) {
    if (offline || !this.ctx.facts.samples.length || this.layer.output.length < 3) return;
    clearTimeout(this.later);
    this.later = setTimeout(async () => {
      const found = await once("exciting", { layer: this.layer.name, c });
      if (this.unit()[0] !== c) return;
      const [, height, width] = this.ctx.facts.input_shape;
      const items = await Promise.all(found.found.filter((one) => one.value > 0).map(async (one) => {
        const { data, shape } = (await once("pixels", { n: one.sample })).arrays["pixels:"];
        const box = h("i", { class: "frame thin" });
        frame(box, one.box, height, width);
        return h("li", {}, h("a", { href: address({ image: one.image, layer: this.layer.name, c, y: one.y, x: one.x }), "aria-label": t("excites", { value: num(one.value) }) },
          h("span", { class: "layers" }, photo(h("canvas", { "aria-hidden": "true" }), data, shape), box), h("span", { class: "figure" }, num(one.value))));
      }));
      replace(this.excited, h("h2", {}, t("exciting", { c })), items.length ? h("ul", { class: "strip wide" }, items) : h("p", { class: "note" }, t("exciting.none", { n: found.samples })));
    }, 200);
  }
}

function shade(mask, seen, height, width) {
  mask.width = width; mask.height = height;
  const context = mask.getContext("2d"), image = context.createImageData(width, height);
  const veil = 165;
  for (let i = 0; i < seen.length; i++) image.data[4 * i + 3] = seen[i] ? 0 : veil;
  context.putImageData(image, 0, 0);
  mask.classList.toggle("pixels", Math.max(height, width) <= 64);
  mask.hidden = false;
}
