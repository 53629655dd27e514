// A training while it goes on: where it is, its curves, and the first layer's filters as they form.

import { h, replace, say, svg } from "./dom.js";
import { num, percent } from "./format.js";
import { canvas, most, paint, photo } from "./plane.js";
import { ask } from "./source.js";
import { go, listen } from "./state.js";
import { restore, turn } from "./theme.js";
import { language, languages, t } from "./words.js";

const EVERY = 1000;
const PATIENCE = 5;
const WIDTH = 520, HEIGHT = 220;
const now = { told: null, points: [], epochs: [], filters: null, drawn: -1 };

function header() {
  document.documentElement.lang = language();
  document.title = `${t("watch")} · ${now.told.title}`;
  document.getElementById("skip").textContent = t("skip");
  replace(document.getElementById("header"),
    h("span", { class: "mark" }, h("b", {}, "hapgop"), h("span", {}, now.told.title)),
    h("div", { class: "settings" },
      Object.entries(languages).filter(([code]) => code !== language()).map(([code, name]) =>
        h("button", { type: "button", class: "plain", lang: code, onclick: () => go({ lang: code }) }, name)),
      h("button", { type: "button", class: "plain", onclick: () => { turn(); draw(); } }, t("theme"))));
}

function clock(seconds) {
  const whole = Math.round(seconds), parts = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  if (!parts[0]) parts.shift();
  return parts.map((part, i) => (i ? String(part).padStart(2, "0") : String(part))).join(":");
}

// A line for the training images, dots for the validation's after each epoch; epochs to the right.
function chart(label, line, dots, least, most, shown) {
  const across = (epoch) => epoch / Math.max(1, now.told.epochs) * WIDTH;
  const up = (value) => HEIGHT - (value - least) / (most - least || 1) * HEIGHT;
  const picture = svg("svg", { viewBox: `-4 -6 ${WIDTH + 8} ${HEIGHT + 12}`, role: "img", "aria-label": label, class: "chart" });
  for (const part of [0, 0.5, 1]) picture.append(svg("path", { d: `M0 ${HEIGHT * part}H${WIDTH}`, class: "rule" }));
  picture.append(svg("path", { d: line.map(([x, y], i) => `${i ? "L" : "M"}${across(x).toFixed(1)} ${up(y).toFixed(1)}`).join(""), class: "line" }));
  picture.append(svg("path", { d: dots.map(([x, y], i) => `${i ? "L" : "M"}${across(x).toFixed(1)} ${up(y).toFixed(1)}`).join(""), class: "line validation" }));
  for (const [x, y] of dots) picture.append(svg("circle", { cx: across(x), cy: up(y), r: 4 }));
  return h("div", { class: "plot" },
    h("span", { class: "figure top" }, shown(most)), picture, h("span", { class: "figure bottom" }, shown(least)));
}

function curves() {
  const losses = [...now.points.map((p) => p[1]), ...now.epochs.map((e) => e.val_loss)].filter(Number.isFinite);
  const high = losses.length ? Math.max(...losses) : 1;
  const last = now.epochs.at(-1), point = now.points.at(-1);
  const figure = (name, i, key, top, shown) => h("figure", {},
    h("figcaption", {}, h("b", {}, t(`watch.${name}`)), " ",
      [point && t("watch.training", { value: shown(point[i]) }), last && t("watch.validation", { value: shown(last[key]) })].filter(Boolean).join(", ")),
    chart(t(`watch.${name}`), now.points.map((p) => [p[0], p[i]]), now.epochs.map((e) => [e.epoch, e[key]]), 0, top, shown));
  return [figure("loss", 1, "val_loss", high, num), figure("accuracy", 2, "val_accuracy", 1, percent)];
}

// Colour filters as small pictures, grey ones as signed numbers; of deeper ones, the strongest slice.
function tiles() {
  const { data, shape: [count, depth, height, width] } = now.filters, size = height * width;
  const scale = most(data) || 1;
  return Array.from({ length: count }, (_, k) => {
    const filter = data.subarray(k * depth * size, (k + 1) * depth * size), made = canvas(t("watch.filter", { k }));
    if (depth !== 3) {
      const slices = Array.from({ length: depth }, (_, c) => filter.subarray(c * size, (c + 1) * size));
      const strongest = slices.reduce((a, b) => (most(b) > most(a) ? b : a));
      return h("li", {}, paint(made, strongest, height, width, scale));
    }
    const own = most(filter) || 1;
    const bytes = Uint8ClampedArray.from({ length: 3 * size }, (_, i) => 127.5 + 127.5 * filter[(i % 3) * size + Math.trunc(i / 3)] / own);
    return h("li", {}, photo(made, bytes, [height, width, 3]));
  });
}

function draw() {
  const told = now.told, main = document.getElementById("main");
  header();
  const share = told.stage === "judging" ? 1 : ((told.epoch - 1) * told.steps + told.step) / Math.max(1, told.epochs * told.steps);
  const where = told.stage === "training" ? t("watch.epoch", { epoch: told.epoch, epochs: told.epochs }) : t(`watch.stage.${told.stage}`);
  const pace = told.stage === "training"
    ? t("watch.pace", { speed: Math.round(told.images_per_second), left: clock(told.seconds_left), waiting: percent(told.waiting) }) : "";
  replace(main, h("div", { class: "view watch" },
    h("h1", {}, where),
    h("p", { class: "lead figure" }, pace),
    h("div", { class: "track", role: "progressbar", "aria-label": t("watch"), "aria-valuemin": 0, "aria-valuemax": 100, "aria-valuenow": String(Math.round(100 * share)) },
      h("i", { style: `width: ${100 * share}%` })),
    h("section", { class: "pairs" }, curves()),
    now.filters ? h("section", {}, h("h2", {}, t("watch.filters")),
      h("p", { class: "note" }, t(now.filters.shape[1] === 3 ? "watch.filters.colour" : "watch.filters.signed")),
      h("ul", { class: "tiles large" }, tiles())) : null));
  main.dataset.ready = "watch";
}

let failed = 0;
async function look() {
  let told, filters;
  try {
    told = await ask("watch", { since: now.points.length });
    filters = told.stage !== "done" && told.filters !== now.drawn ? (await ask("filters")).arrays.filters : now.filters;
    failed = 0;
  } catch {
    // A busy machine, or one that slept, misses a question: only silence that lasts is an end.
    if (++failed <= PATIENCE) { setTimeout(look, EVERY); return; }
    replace(document.getElementById("main"), h("p", { class: "wait", role: "alert" }, t("watch.gone")));
    return;
  }
  // The page of what was trained has taken this one's place.
  if (told.stage === "done") { location.replace("/"); return; }
  now.points.push(...told.points);
  if (told.done.length > now.epochs.length) {
    const last = told.done.at(-1);
    say(t("watch.said", { epoch: last.epoch, accuracy: percent(last.val_accuracy) }));
  }
  now.epochs = told.done;
  now.filters = filters;
  now.drawn = told.filters;
  now.told = told;
  draw();
  setTimeout(look, EVERY);
}

restore();
listen(() => { if (now.told) draw(); });
await look();
