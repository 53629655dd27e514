// Maps and pictures on canvases: one pixel for one number, made larger by CSS.

import { table } from "./colors.js";
import { h } from "./dom.js";

export function most(values) {
  let found = 0;
  for (let i = 0; i < values.length; i++) {
    const size = Math.abs(values[i]);
    if (size > found && size < Infinity) found = size;
  }
  return found;
}

// (h, w) numbers, signed. `scale` is the number of full strength.
export function paint(canvas, values, height, width, scale = most(values)) {
  if (canvas.width !== width || canvas.height !== height) { canvas.width = width; canvas.height = height; }
  const context = canvas.getContext("2d"), image = context.createImageData(width, height), lut = table();
  const factor = scale > 0 ? 255 / scale : 0;
  for (let i = 0; i < values.length; i++) {
    const step = Math.max(-255, Math.min(255, Math.round(values[i] * factor))) || 0;
    const at = 3 * (step + 255);
    image.data[4 * i] = lut[at]; image.data[4 * i + 1] = lut[at + 1]; image.data[4 * i + 2] = lut[at + 2];
    image.data[4 * i + 3] = 255;
  }
  context.putImageData(image, 0, 0);
  canvas.classList.toggle("pixels", Math.max(height, width) <= 128);
  return canvas;
}

// (h, w, c) bytes as they are.
export function photo(canvas, bytes, [height, width, channels]) {
  canvas.width = width; canvas.height = height;
  const context = canvas.getContext("2d"), image = context.createImageData(width, height);
  for (let i = 0; i < height * width; i++) {
    for (let c = 0; c < 3; c++) image.data[4 * i + c] = bytes[i * channels + (channels >= 3 ? c : 0)];
    image.data[4 * i + 3] = 255;
  }
  context.putImageData(image, 0, 0);
  canvas.classList.toggle("pixels", Math.max(height, width) <= 64);
  return canvas;
}

// Evidence over a picture: the sign is the colour, the strength how little of the picture shows through. It is drawn
// soft, so that the eye tells it from the pixels of the picture, which are drawn hard; and never so strong as to hide them.
export function heat(canvas, values, height, width) {
  canvas.width = width; canvas.height = height;
  const context = canvas.getContext("2d"), image = context.createImageData(width, height), scale = most(values) || 1;
  for (let i = 0; i < values.length; i++) {
    const share = Math.max(-1, Math.min(1, values[i] / scale));
    image.data.set(share > 0 ? [240, 125, 30] : [50, 125, 225], 4 * i);
    image.data[4 * i + 3] = Math.round(160 * Math.abs(share) ** 1.2);
  }
  context.putImageData(image, 0, 0);
  return canvas;
}

export const canvas = (label, attributes = {}) => h("canvas", { role: "img", "aria-label": label, width: 1, height: 1, ...attributes });

// A frame over a canvas that shows height x width cells, from (top, left) to (bottom, right), excluded.
export function frame(element, box, height, width) {
  const [top, left, bottom, right] = box;
  element.style.top = `${100 * top / height}%`;
  element.style.left = `${100 * left / width}%`;
  element.style.height = `${100 * (bottom - top) / height}%`;
  element.style.width = `${100 * (right - left) / width}%`;
  element.hidden = bottom <= top || right <= left;
}

// Which cell of a canvas lies under a pointer.
export function cell(event, element, height, width) {
  const box = element.getBoundingClientRect();
  const y = Math.floor((event.clientY - box.top) / box.height * height);
  const x = Math.floor((event.clientX - box.left) / box.width * width);
  return [Math.max(0, Math.min(height - 1, y)), Math.max(0, Math.min(width - 1, x))];
}
