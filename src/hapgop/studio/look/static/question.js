// The question first: what is it, how sure, and what speaks for it.

import { choice, h, replace, say } from "./dom.js";
import { num, percent } from "./format.js";
import { tell } from "./notice.js";
import { canvas, frame, heat, most, paint, photo } from "./plane.js";
import { offline, once } from "./source.js";
import { address, go, state } from "./state.js";
import { t } from "./words.js";

const METHODS = ["occlusion", "gradcam", "integrated"];
const TOP = 5;

export async function question(root, ctx) {
  const { facts, image } = ctx, [, height, width] = facts.input_shape;
  const best = image.probabilities.indexOf(Math.max(...image.probabilities));
  const empty = !offline && !facts.samples.length && !state.image;
  const picture = photo(canvas(t("picture.of", { name: image.name || t("yours") })), ...Object.values(await pixels(ctx)));
  const over = canvas(t("evidence"), { class: "over" }), mark = h("i", { class: "frame dashed", hidden: true });
  const caption = h("p", { class: "note" }), methods = h("div", {}), changes = h("p", { class: "changes" });
  const mattered = h("ul", { class: "mattered" }), bars = h("ol", { class: "bars" });

  function label() { return !offline && state.label < facts.classes.length ? state.label : best; }

  // Answers come in any order: what was asked for another label than the last is dropped.
  let turn = 0;
  async function evidence(mine) {
    const asked = label(), small = height * width <= 64 * 64;
    const method = METHODS.includes(state.method) ? state.method : small ? "occlusion" : "gradcam";
    replace(methods, choice(t("method"), METHODS.map((key) => [key, t(`method.${key}`)]), method, (key) => go({ method: key }, true)));
    caption.textContent = t("computing");
    try {
      const found = await once("evidence", { image: image.image, method, label: offline ? null : asked });
      if (mine !== turn) return;
      heat(over, found.arrays.heat.data, height, width);
      over.dataset.drawn = `${method} ${asked}`;
      caption.textContent = t(`explain.${method}`, { label: facts.classes[asked], layer: found.layer, h: found.patch?.[0], w: found.patch?.[1] });
      over.setAttribute("aria-label", `${t("evidence")}: ${caption.textContent} ${where(found.arrays.heat.data, height, width)}`.trimEnd());
    } catch (error) { if (mine === turn) caption.textContent = error.message; }
  }

  function ranking() {
    const order = image.probabilities.map((p, i) => [p, i]).sort((a, b) => b[0] - a[0]).slice(0, TOP);
    replace(bars, order.map(([p, i]) => h("li", {},
      h("button", { type: "button", disabled: offline, "aria-pressed": String(i === label()), onclick: () => { go({ label: i }, true); say(t("why", { label: facts.classes[i] })); } },
        h("span", { class: "name" }, facts.classes[i]),
        h("span", { class: "track" }, h("i", { style: `width:${100 * p}%` })),
        h("span", { class: "figure" }, percent(p))))));
  }

  async function channels(mine) {
    // As high as what it takes the place of, so that nothing below jumps.
    mattered.style.minHeight = `${mattered.offsetHeight}px`;
    replace(mattered, h("li", { class: "note" }, t("computing")));
    let cards;
    try {
      const found = await once("mattered", { image: image.image, label: offline ? null : label() });
      cards = await Promise.all(found.channels.map((one) => card(ctx, one)));
    } catch (error) { cards = h("li", { class: "note" }, error.message); }
    if (mine !== turn) return;
    replace(mattered, cards);
    mattered.style.minHeight = "";
  }

  // Hundreds of runs of the net, the same for every label: in parts, after all else, and no longer than it is looked at.
  let left = false;
  async function covering() {
    let found = { looked: 0, all: 1, change: null };
    try {
      while (!left && !found.change && found.looked < found.all) {
        changes.textContent = found.looked ? t("changes.looked", { n: found.looked, all: found.all }) : t("changes.looking");
        found = await once("change", { image: image.image, first: found.looked });
      }
    } catch (error) { changes.textContent = error.message; return; }
    if (left) return;
    const { change } = found;
    mark.hidden = !change;
    if (change) frame(mark, [change.top, change.left, change.top + change.patch[0], change.left + change.patch[1]], height, width);
    changes.textContent = change ? t("changes", { label: facts.classes[change.label] }) : t("changes.not");
  }

  const alike = h("section", { hidden: true });
  async function lessons(mine) {
    const asked = label();
    try {
      const found = await once("alike", { image: image.image, label: asked });
      const items = await Promise.all(found.found.map((one) => lesson(one, found.layer)));
      if (mine !== turn) return;
      replace(alike, h("h2", {}, t("alike")), h("p", { class: "lead" }, t("alike.lead", { n: found.looked, layer: found.layer })), h("ul", { class: "strip wide" }, items));
      alike.hidden = !items.length;
      alike.dataset.label = String(asked);
    } catch {
      // Not every net has maps to compare by: then there is nothing to show, and nothing of another label either.
      if (mine === turn) alike.hidden = true;
    }
  }

  async function lesson(one, layer) {
    const { data, shape } = (await once("maps", { image: one.image, layers: facts.input })).arrays["pixels:"];
    const box = h("i", { class: "frame thin" });
    frame(box, one.box, height, width);
    return h("li", {}, h("a", { href: address({ view: "window", image: one.image, layer, y: one.y, x: one.x }) },
      h("span", { class: "layers" }, photo(h("canvas", { "aria-hidden": "true" }), data, shape), box),
      h("span", { class: "under" }, h("span", {}, one.truth), h("span", { class: "figure" }, num(one.similarity)))));
  }

  replace(root,
    h("section", { class: "hero" },
      h("figure", { class: "photo" }, h("div", { class: "layers" }, picture, over, mark), h("figcaption", {}, methods, legend(), caption)),
      h("div", { class: "answer" },
        h("p", { class: "eyebrow" }, t("what")), empty ? [h("h1", { class: "begin" }, t("begin")), h("p", {}, opener(ctx)), h("p", { class: "note" }, t("begin.lead"))] : [
        h("h1", { class: size(facts.classes[best]) }, facts.classes[best]),
        h("p", { class: "sure" }, t("sure", { p: percent(image.probabilities[best]) }), " ",
          image.truth === null ? "" : h("span", { class: image.truth === facts.classes[best] ? "right" : "wrong" },
            t(image.truth === facts.classes[best] ? "right" : "wrong", { truth: image.truth }))),
        bars, facts.mirror ? h("p", { class: "note" }, t("mirror")) : null, changes])),
    h("section", {}, h("h2", {}, t("mattered")), h("p", { class: "lead" }, t("mattered.lead")), mattered,
      h("p", { class: "on" }, h("a", { href: address({ view: "network" }) }, t("to.network")))),
    alike,
    offline || empty ? null : h("section", { class: "others" }, h("h2", {}, t("another")), strip(ctx)));

  function update() {
    const mine = ++turn;
    ranking();
    return Promise.all([evidence(mine), channels(mine), facts.taught && !offline && !empty ? lessons(mine) : null]);
  }
  changes.textContent = t("changes.looking");
  update().then(covering);
  return { update, leave: () => { left = true; } };
}

// Names of many letters are set smaller, so that they stay beside the picture.
export const size = (name) => (name.length > 24 ? "longest" : name.length > 8 ? "long" : null);

async function pixels(ctx) {
  const { data, shape } = await ctx.pixels();
  return { data, shape };
}

// What the two colours of the evidence say.
function legend() {
  return h("p", { class: "legend", "aria-hidden": "true" }, h("span", {}, t("against")), h("i", {}), h("span", {}, t("for")));
}

// A filter beside the map that it made.
async function card(ctx, { layer, channel, share }) {
  const facts = ctx.layers.get(layer), [, height, width] = facts.output;
  let map = null, weight = null;
  try {
    [map, weight] = await Promise.all([ctx.maps(layer), ctx.weights(layer).then((arrays) => arrays.weight)]);
  } catch { return h("li", { class: "note" }, `${layer}, ${channel}`); }
  const plane = map.data.subarray(channel * height * width, (channel + 1) * height * width);
  const [, each, kh, kw] = weight.shape;
  const filter = weight.data.subarray(channel * each * kh * kw, (channel + 1) * each * kh * kw);
  const slice = strongest(filter, each, kh * kw);
  const at = plane.indexOf(Math.max(...plane));
  return h("li", {}, h("a", { href: address({ view: "window", layer, c: channel, y: Math.floor(at / width), x: at % width, k: slice }) },
    h("span", { class: "pair" },
      paint(canvas(t("filter.of", { c: channel }), { class: "small" }), filter.subarray(slice * kh * kw, (slice + 1) * kh * kw), kh, kw, most(filter)),
      paint(canvas(t("map.of", { layer, c: channel })), plane, height, width)),
    h("span", { class: "name" }, `${layer} · ${channel}`),
    h("span", { class: "figure" }, `${share < 0 ? "" : "+"}${num(share)}`)));
}

export function strongest(filter, each, size) {
  let best = 0, found = -1;
  for (let k = 0; k < each; k++) {
    let sum = 0;
    for (let i = 0; i < size; i++) sum += filter[k * size + i] ** 2;
    if (sum > found) [best, found] = [k, sum];
  }
  return best;
}

// The samples to choose from come when they come: the answer above does not wait for them.
function strip(ctx) {
  const list = h("ul", { class: "strip" }), empty = !ctx.facts.samples.length && !state.image;
  thumbnails(ctx).then((shown) => replace(list, shown), (error) => replace(list, h("li", { class: "note" }, error.message)));
  return [list, empty ? null : h("p", {}, opener(ctx), " ", h("span", { class: "note" }, t("or.drop")))];
}

function thumbnails(ctx) {
  return Promise.all(ctx.facts.samples.slice(0, 24).map(async (sample, n) => {
    const found = await once("pixels", { n });
    const { data, shape } = found.arrays["pixels:"];
    return h("li", {}, h("a", { href: address({ image: found.image, label: null }), "aria-current": found.image === ctx.image.image ? "true" : null,
      "aria-label": sample.truth === null ? sample.name : t("sample.of", { truth: sample.truth }) },
    photo(h("canvas", { "aria-hidden": "true" }), data, shape)));
  }));
}

function opener(ctx) {
  const input = h("input", { type: "file", accept: "image/*", class: "unseen", id: "file", onchange: async () => {
    if (!input.files[0]) return;
    try { await ctx.accept(input.files[0]); } catch (error) { tell(error.message); }
    // Emptied, or the same file once more would be no change, and say nothing.
    input.value = "";
  } });
  return [input, h("label", { for: "file", class: "button" }, t("open"))];
}

// For those who do not see the heat: in which ninth of the picture most of it lies. Where nothing is warm, no words.
export function where(values, height, width) {
  const sums = new Float64Array(9);
  values.forEach((v, i) => { if (v > 0) sums[3 * Math.floor(3 * Math.floor(i / width) / height) + Math.floor(3 * (i % width) / width)] += v; });
  const best = Math.max(...sums);
  return best > 0 ? t("where", { place: t(`place.${sums.indexOf(best)}`) }) : "";
}
