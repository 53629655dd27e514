// The frame of the page: what is looked at, which view, which words, which light.

import { h, replace } from "./dom.js";
import { draw } from "./draw.js";
import { learn } from "./learn.js";
import { network } from "./network.js";
import { play } from "./play.js";
import { question } from "./question.js";
import { tell } from "./notice.js";
import { Refused, offline, once, post } from "./source.js";
import { address, go, listen, state } from "./state.js";
import { restore, turn as turnTheme } from "./theme.js";
import { inspect } from "./inspect.js";
import { language, languages, t } from "./words.js";

const VIEWS = offline ? { question, network, window: inspect } : { question, network, window: inspect, play, draw, learn };
const ctx = {
  facts: null, layers: null, image: null,
  maps: async (name) => (await once("maps", { image: ctx.image.image, layers: name })).arrays[name],
  pixels: async () => (await once("maps", { image: ctx.image.image, layers: ctx.facts.input })).arrays["pixels:"],
  weights: async (name) => (await once("weights", { layer: name })).arrays,
  accept,
};
let mounted = null, shownAs = "";

async function accept(file) {
  const found = await post("show", file, { name: file.name ?? "" });
  go({ image: found.image, label: null, view: state.view === "draw" ? "question" : state.view });
}

// What the address names, or the first sample where it names none.
async function picture() {
  if (!state.image) return once("sample", { n: 0 });
  const { image } = state;
  if (image === ctx.image?.image) return ctx.image;
  try {
    return await once("picture", { image });
  } catch (error) {
    if (offline) throw error;
    // From now on the address names what is shown, or every step of a pointer would ask for the lost one again.
    if (state.image === image) { go({ image: ctx.image?.image ?? null }, true); tell(error.message); }
    return ctx.image;
  }
}

function header() {
  document.documentElement.lang = language();
  document.title = `${t(`view.${state.view in VIEWS ? state.view : "question"}`)} · ${ctx.facts.title}`;
  document.getElementById("skip").textContent = t("skip");
  replace(document.getElementById("header"),
    h("a", { class: "mark", href: address({ view: "question" }) }, h("b", {}, "hapgop"), h("span", {}, ctx.facts.title)),
    h("nav", { "aria-label": t("views") }, Object.keys(VIEWS).map((view) =>
      h("a", { href: address({ view, step: null }), "aria-current": view === state.view ? "page" : null }, t(`view.${view}`)))),
    h("div", { class: "settings" },
      Object.entries(languages).filter(([code]) => code !== language()).map(([code, name]) =>
        h("button", { type: "button", class: "plain", lang: code, onclick: () => go({ lang: code }) }, name)),
      h("button", { type: "button", class: "plain", onclick: light }, t("theme"))));
}

function light() {
  turnTheme();
  shownAs = "";
  show();
}

let turn = 0;
async function show() {
  const mine = ++turn, view = state.view in VIEWS ? state.view : "question";
  try {
    const image = await picture();
    if (mine !== turn) return;
    ctx.image = image;
    header();
    const as = [view, ctx.image.image, language(), document.documentElement.dataset.theme].join(" ");
    if (as === shownAs && mounted?.update) { mounted.update(); return; }
    mounted?.leave?.();
    shownAs = "";
    const root = h("div", { class: `view ${view}` });
    const made = await VIEWS[view](root, ctx);
    if (mine !== turn) { made?.leave?.(); return; }
    mounted = made;
    shownAs = as;
    const main = document.getElementById("main");
    replace(main, root);
    main.dataset.ready = view;
    mounted?.placed?.();
  } catch (error) {
    replace(document.getElementById("main"), h("p", { class: "wait", role: "alert" }, error.message));
    if (!(error instanceof Refused)) throw error;
  }
}

function dropping() {
  addEventListener("dragover", (event) => { event.preventDefault(); document.body.classList.add("dropping"); });
  addEventListener("dragleave", (event) => { if (!event.relatedTarget) document.body.classList.remove("dropping"); });
  addEventListener("drop", async (event) => {
    event.preventDefault();
    document.body.classList.remove("dropping");
    const file = event.dataTransfer.files[0];
    if (!file) return;
    try { await accept(file); } catch (error) { tell(error.message); }
  });
}

restore();
listen((before) => {
  const other = (...names) => names.some((name) => before[name] !== state[name]);
  if (other("view", "image", "step")) {
    scrollTo(0, 0);
    // Who goes through the chapters by keyboard stays among them.
    if (other("view", "image") || !document.activeElement.closest("nav")) document.getElementById("main").focus({ preventScroll: true });
  }
  if (other("view", "image", "step", "layer")) document.querySelector(".notice")?.remove();
  show();
});
// What a view asked for in passing, and did not get: its reason is told all the same.
addEventListener("unhandledrejection", (event) => {
  if (!(event.reason instanceof Refused)) return;
  event.preventDefault();
  tell(event.reason.message);
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { shownAs = ""; show(); });
ctx.facts = await once("net", {});
ctx.layers = new Map(ctx.facts.layers.map((layer) => [layer.name, layer]));
if (!offline) dropping();
await show();
