// Draw a digit, drop a photograph, or look through the camera: the answer and the first convolutions follow.

import { h, replace, say } from "./dom.js";
import { percent } from "./format.js";
import { canvas, most, paint } from "./plane.js";
import { tell } from "./notice.js";
import { size } from "./question.js";
import { post } from "./source.js";
import { address, go } from "./state.js";
import { t } from "./words.js";

const SIZE = 280;
const PER_LAYER = 16;
// What was drawn, for when one comes back, or turns on the light.
let kept = null;

export async function draw(root, ctx) {
  const { facts } = ctx, [channels] = facts.input_shape;
  const pad = canvas(t("draw.pad"), { tabIndex: 0, role: "application", class: "pad" }), context = (pad.width = pad.height = SIZE, pad.getContext("2d", { willReadFrequently: true }));
  const sent = Math.min(SIZE, Math.max(64, ...facts.input_shape.slice(1))), small = new OffscreenCanvas(sent, sent).getContext("2d", { willReadFrequently: true });
  small.imageSmoothingQuality = "high";
  const layers = facts.layers.filter((layer) => layer.output.length === 3 && layer.op === "conv2d").slice(0, 6);
  const bars = h("ol", { class: "bars" }), word = h("h1", { "aria-live": "polite", class: "begin" }, t("draw.begin")), rate = h("p", { class: "note figure" });
  const camera = h("video", { autoplay: true, muted: true, playsInline: true, hidden: true });
  const rows = layers.map((layer) => {
    const canvases = Array.from({ length: Math.min(PER_LAYER, layer.output[0]) }, () => h("canvas", { "aria-hidden": "true" }));
    return { layer, canvases, element: h("section", { class: "following" }, h("h2", {}, h("a", { href: address({ view: "window", layer: layer.name, c: 0, y: 0, x: 0, k: 0 }) }, layer.name), " ", h("small", {}, layer.output.join(" × "))), h("div", { class: "tiles", role: "img", "aria-label": t("maps.of", { layer: layer.name }) }, canvases)) };
  });
  let pen = null, dirty = true, busy = false, alive = true, stream = null, asking = false, at = [SIZE / 2, SIZE / 2], inked = false, blank = true, times = [];

  function clear() { context.fillStyle = "#000"; context.fillRect(0, 0, SIZE, SIZE); blank = true; dirty = true; }
  function line(from, to) {
    context.strokeStyle = "#fff"; context.lineWidth = SIZE / 9; context.lineCap = context.lineJoin = "round";
    context.beginPath(); context.moveTo(...from); context.lineTo(...to); context.stroke();
    blank = false; dirty = true;
  }
  const place = (event) => { const box = pad.getBoundingClientRect(); return [(event.clientX - box.left) / box.width * SIZE, (event.clientY - box.top) / box.height * SIZE]; };
  pad.addEventListener("pointerdown", (event) => { pad.setPointerCapture(event.pointerId); pen = place(event); line(pen, pen); });
  pad.addEventListener("pointermove", (event) => { if (pen) { const next = place(event); line(pen, next); pen = next; } });
  for (const name of ["pointerup", "pointercancel"]) pad.addEventListener(name, () => { pen = null; });
  pad.addEventListener("keydown", (event) => {
    const step = { ArrowUp: [0, -12], ArrowDown: [0, 12], ArrowLeft: [-12, 0], ArrowRight: [12, 0] }[event.key];
    if (event.key === " ") { event.preventDefault(); inked = !inked; if (inked) line(at, at); say(t(inked ? "pen.down" : "pen.up")); return; }
    if (!step) return;
    event.preventDefault();
    const next = [Math.min(SIZE, Math.max(0, at[0] + step[0])), Math.min(SIZE, Math.max(0, at[1] + step[1]))];
    if (inked) line(at, next);
    at = next;
  });

  async function tick() {
    if (!alive) return;
    requestAnimationFrame(tick);
    if (stream && camera.videoWidth) {
      const side = Math.min(camera.videoWidth, camera.videoHeight);
      context.drawImage(camera, (camera.videoWidth - side) / 2, (camera.videoHeight - side) / 2, side, side, 0, 0, SIZE, SIZE);
      blank = false; dirty = true;
    }
    if (!dirty || busy) return;
    dirty = false; busy = true;
    try { follow(await send()); } catch (error) { tell(error.message); }
    busy = false;
  }

  // As many pixels as the net can use, and no more: what is sent is what it sees.
  function send() {
    small.drawImage(pad, 0, 0, sent, sent);
    const { data } = small.getImageData(0, 0, sent, sent), bytes = new Uint8Array(sent * sent * 3);
    for (let i = 0, k = 0; i < data.length; i += 4) { bytes[k++] = data[i]; bytes[k++] = data[i + 1]; bytes[k++] = data[i + 2]; }
    return post("live", bytes, { h: sent, w: sent, c: 3, layers: layers.map((layer) => layer.name).join(",") });
  }

  function follow(found) {
    if (!alive) return;
    shown = found.image;
    for (const { layer, canvases } of rows) {
      const { data, shape: [, height, width] } = found.arrays[layer.name], scale = most(data);
      canvases.forEach((element, c) => paint(element, data.subarray(c * height * width, (c + 1) * height * width), height, width, scale));
    }
    root.dataset.updates = String(Number(root.dataset.updates ?? 0) + 1);
    why.hidden = blank;
    if (blank) { word.textContent = t("draw.begin"); word.className = "begin"; replace(bars); rate.textContent = ""; return; }
    const order = found.probabilities.map((p, i) => [p, i]).sort((a, b) => b[0] - a[0]).slice(0, 5);
    const name = facts.classes[order[0][1]];
    if (word.textContent !== name) { word.textContent = name; word.className = size(name) ?? ""; }
    replace(bars, order.map(([p, i]) => h("li", {}, h("span", { class: "name" }, facts.classes[i]), h("span", { class: "track" }, h("i", { style: `width:${100 * p}%` })), h("span", { class: "figure" }, percent(p)))));
    times = [...times, performance.now()].slice(-20);
    const seconds = (times.at(-1) - times[0]) / 1000;
    if (times.length > 4 && seconds < 3) { rate.textContent = t("rate", { n: Math.round((times.length - 1) / seconds) }); rate.dataset.rate = String((times.length - 1) / seconds); }
  }
  let shown = null;
  const why = h("p", {}, h("button", { type: "button", class: "button", onclick: () => shown && go({ view: "question", image: shown, label: null }) }, t("ask.why")));

  async function watch(event) {
    const button = event.currentTarget;
    if (stream) { stop(); button.setAttribute("aria-pressed", "false"); clear(); return; }
    if (asking) return;
    asking = true;
    try {
      stream = await navigator.mediaDevices.getUserMedia({ video: true });
      // The browser asks the visitor first: by the time of the answer the view may be gone.
      if (!alive) { stop(); return; }
      camera.srcObject = stream;
      button.setAttribute("aria-pressed", "true");
    } catch (error) { tell(t("camera.no", { error: error.message })); } finally { asking = false; }
  }
  function stop() { stream?.getTracks().forEach((track) => track.stop()); stream = null; }

  const file = h("input", { type: "file", accept: "image/*", class: "unseen", id: "photo", onchange: async () => {
    if (!file.files[0]) return;
    try {
      const bitmap = await createImageBitmap(file.files[0]), side = Math.min(bitmap.width, bitmap.height);
      context.drawImage(bitmap, (bitmap.width - side) / 2, (bitmap.height - side) / 2, side, side, 0, 0, SIZE, SIZE);
      blank = false; dirty = true;
    } catch { tell(t("no.picture")); }
    file.value = "";
  } });
  if (kept) { context.putImageData(kept, 0, 0); blank = false; } else clear();
  replace(root,
    h("section", { class: "hero" },
      h("figure", { class: "photo" }, pad, camera, h("figcaption", {}, h("div", { class: "buttons" },
        h("button", { type: "button", class: "button", onclick: clear }, t("clear")),
        h("button", { type: "button", class: "button", "aria-pressed": "false", onclick: watch }, t("camera")),
        file, h("label", { for: "photo", class: "button" }, t("open"))), h("p", { class: "note" }, t(channels === 1 ? "draw.lead" : "draw.lead.colour")))),
      h("div", { class: "answer" }, h("p", { class: "eyebrow" }, t("what")), word, bars, rate,
        why)),
    rows.map((row) => row.element));
  tick();
  return { update() {}, leave() { alive = false; kept = blank || stream ? null : context.getImageData(0, 0, SIZE, SIZE); stop(); } };
}
