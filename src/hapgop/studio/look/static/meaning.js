// What a convolution means, in one dimension: g turned round, shifted, multiplied with f, and added up to one point of
// f * g; of functions beside of samples, whose sums the engine makes.

import { choice, h, replace, say, slider } from "./dom.js";
import { sum, term } from "./equation.js";
import { num } from "./format.js";
import { keep } from "./kept.js";
import { Plot } from "./plot.js";
import { SHAPES, integral, over, samplesOf, valueOf } from "./signals.js";
import { post } from "./source.js";
import { t } from "./words.js";

const REACH = 2.5, STEP = 0.025, SIGHT = 3.5;
const DENSITIES = [2, 4, 8];
const PACE = 50;

const plain = (value) => String(value).replace("-", "−");

export async function meaning(root) {
  const now = keep("meaning", { f: "box", g: "ramp", shift: -0.5, flip: true, density: 4, k: 0 });
  const given = h("div", { class: "pairs" }), shifted = h("div", { class: "slider-place" });
  const walk = h("button", { type: "button", class: "button", "aria-pressed": "false", onclick: slide }, t("slide"));
  const planes = { whole: new Plot(SIGHT), sampled: new Plot(SIGHT, { onpointermove: pointed, onpointerdown: pointed, onkeydown: key }) };
  const curves = { whole: new Plot(SIGHT, { onpointermove: moved, onpointerdown: moved }), sampled: new Plot(SIGHT, { onpointermove: moved, onpointerdown: moved }) };
  const words = { area: h("div"), whole: h("div"), one: h("div"), sampled: h("div") }, formulas = { whole: h("code"), sampled: h("code") };
  let timer = 0, found = null, turn = 0;

  const name = () => (now.flip ? "f ∗ g" : "f ⋆ g");
  const count = () => Math.round(now.shift * now.density);
  const partner = (k) => (now.flip ? count() - k : k - count());

  // The same samples, between zeros, as a picture of one row under a filter of one row. Zeros enough for every shift.
  async function ask() {
    const mine = ++turn, { f, g, density, flip } = now, around = Array(REACH * density).fill(0);
    const answer = await post("play", JSON.stringify({ numbers: [[[...around, ...samplesOf(f, density), ...around]]], filters: [[[samplesOf(g, density)]]], flip }));
    if (mine !== turn) return;
    found = { f: samplesOf(f, density).map(Math.fround), g: samplesOf(g, density).map(Math.fround), sums: answer.arrays.maps.data, density };
    show();
  }

  const at = (values, k) => values[k + now.density] ?? 0;

  function show() {
    if (found?.density !== now.density) return;
    drawPlanes();
    drawCurves();
    tell();
  }

  function drawPlanes() {
    const { f, g, shift, flip, density, k } = now, least = [f, g].includes("wave") ? -1 : 0;
    planes.whole.begin(least, 1);
    planes.whole.area((x) => valueOf(f, x) * over(g, x, shift, flip), Math.max(-1, shift - 1), Math.min(1, shift + 1));
    planes.whole.curve((x) => valueOf(f, x), "f", [-1, 1], true);
    planes.whole.curve((x) => over(g, x, shift, flip), "g", [shift - 1, shift + 1], true);
    planes.whole.name(flip ? "f(τ), g(t − τ)" : "f(τ), g(τ − t)");
    planes.whole.label(t("meaning.plane", { t: plain(shift) }));
    const places = Array.from({ length: 2 * density + 1 }, (_, i) => i - density);
    planes.sampled.begin(least, 1);
    planes.sampled.name(flip ? "f[k], g[n − k]" : "f[k], g[k − n]");
    planes.sampled.band((k - 0.5) / density, (k + 0.5) / density);
    for (const i of places) planes.sampled.bar(i / density, at(found.f, i) * at(found.g, partner(i)), 0.8 / density);
    for (const i of places) planes.sampled.dot((i + count()) / density, at(found.g, flip ? -i : i), "g");
    for (const i of places) planes.sampled.dot(i / density, at(found.f, i), "f");
  }

  function drawCurves() {
    const { f, g, shift, flip, density } = now, whole = (x) => integral(f, g, x, flip), reach = REACH * density;
    const heights = Array.from(found.sums, (v) => v / density), least = Math.min(0, ...heights), most = Math.max(0.1, ...heights);
    curves.whole.begin(least, most);
    curves.whole.curve(whole, "rest", [-REACH, REACH]);
    curves.whole.curve(whole, "result", [-REACH, shift]);
    curves.whole.dot(shift, whole(shift), "result now", true);
    curves.whole.name(`(${name()})(t)`);
    curves.whole.label(t("meaning.curve", { name: name(), t: plain(shift), value: num(whole(shift)) }));
    curves.sampled.begin(least, most);
    heights.forEach((value, i) => curves.sampled.dot((i - reach) / density, value, i - reach <= count() ? "result" : "rest", i - reach === count()));
    curves.sampled.name(`(${name()})[n]`);
    curves.sampled.label(t("meaning.curve", { name: name(), t: `n = ${count()}`, value: num(total()) }));
  }

  const engine = () => found.sums[count() + REACH * now.density];
  const running = (until) => { let sum_ = 0; for (let i = -now.density; i <= until; i++) sum_ += at(found.f, i) * at(found.g, partner(i)); return sum_; };
  const total = () => running(now.density);

  function tell() {
    const { shift, density, k } = now, area = integral(now.f, now.g, shift, now.flip), here = at(found.f, k), there = at(found.g, partner(k));
    replace(words.area, h("p", { class: "sum" }, term(t("meaning.area"), area)));
    replace(words.whole, h("p", { class: "sum" }, term(`(${name()})(${plain(shift)})`, area)));
    replace(words.one, sum([[`f[${plain(k)}]`, here], [`g[${plain(partner(k))}]`, there]], [[t("product"), here * there], [t("meaning.running"), running(k)]], "×"));
    replace(words.sampled, sum([[t("sum"), total()]], [[t("engine"), engine()], [t("meaning.spaced", { d: plain(1 / density) }), engine() / density]]));
    planes.sampled.label(t("meaning.sample", { k: plain(k), f: num(here), g: num(there), product: num(here * there), sum: num(running(k)) }));
    replace(formulas.whole, now.flip ? "(f ∗ g)(t) = ∫ f(τ) g(t − τ) dτ" : "(f ⋆ g)(t) = ∫ f(τ) g(τ − t) dτ");
    replace(formulas.sampled, now.flip ? "(f ∗ g)[n] = Σ f[k] g[n − k]" : "(f ⋆ g)[n] = Σ f[k] g[k − n]");
  }

  function pointed(event) {
    point(Math.round(planes.sampled.place(event) * now.density));
  }
  function point(k) {
    const next = Math.min(now.density, Math.max(-now.density, k));
    if (next === now.k) return;
    now.k = next;
    show();
  }
  function key(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    point(now.k + step);
    say(planes.sampled.element.getAttribute("aria-label"));
  }
  function moved(event) {
    if (event.pointerType === "touch" && event.type === "pointermove" && !event.buttons) return;
    const plot = event.currentTarget === curves.whole.element ? curves.whole : curves.sampled;
    const step = plot === curves.whole ? STEP : 1 / now.density;
    shiftTo(Math.round(plot.place(event) / step) * step);
  }
  function shiftTo(value) {
    now.shift = Math.min(REACH, Math.max(-REACH, Number(value.toFixed(3))));
    setShift();
    show();
  }
  function setShift() {
    const input = shifted.querySelector("input");
    input.value = String(now.shift);
    shifted.querySelector("output").textContent = plain(now.shift);
  }
  function slide() {
    if (timer) { leave(); return; }
    walk.setAttribute("aria-pressed", "true");
    walk.textContent = t("stop");
    timer = setInterval(() => shiftTo(now.shift >= REACH ? -REACH : now.shift + STEP), PACE);
  }
  function leave() {
    clearInterval(timer);
    timer = 0;
    walk.setAttribute("aria-pressed", "false");
    walk.textContent = t("slide");
  }

  // The sample that is pointed at stays where it was.
  function thicken(value) {
    now.k = Math.round(now.k * value / now.density);
    now.density = value;
    ask();
  }

  function pick(name) {
    const plot = new Plot(1.6, {}, 70);
    const draw = () => {
      plot.begin(now[name] === "wave" ? -1 : 0, 1);
      plot.curve((x) => valueOf(now[name], x), name, [-1, 1], true);
      plot.label(`${name}: ${t(`shape.${now[name]}`)}`);
    };
    draw();
    return h("figure", { class: `given ${name}` }, h("figcaption", {}, h("i", {}, name), choice(name, SHAPES.map((shape) => [shape, t(`shape.${shape}`)]), now[name], (shape) => { now[name] = shape; draw(); ask(); })), plot.element);
  }

  replace(given, pick("f"), pick("g"));
  replace(shifted, slider(t("meaning.shift"), now.shift, -REACH, REACH, shiftTo, STEP));
  const column = (title, kind, told) => h("div", {}, h("h2", {}, title), formulas[kind], planes[kind].element, told, curves[kind].element, words[kind]);
  root.append(given,
    h("div", { class: "controls" }, shifted, choice(t("flip"), [[true, t("convolution")], [false, t("correlation")]], now.flip, (value) => { now.flip = value; ask(); }),
      h("div", { class: "labelled" }, h("span", { "aria-hidden": "true" }, t("meaning.density")), choice(t("meaning.density"), DENSITIES.map((n) => [n, String(n)]), now.density, thicken))),
    h("p", {}, walk), h("div", { class: "beside" }, column(t("meaning.continuous"), "whole", words.area), column(t("meaning.sampled"), "sampled", words.one)),
    h("p", { class: "caption" }, t("meaning.ends")));
  setShift();
  await ask();
  return leave;
}
