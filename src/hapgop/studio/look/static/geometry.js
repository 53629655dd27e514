// Where windows and fields lie: only places, taken from the tables that the server sent.

export const imageLike = (shape) => (shape.length === 3 ? shape : [shape[0], 1, 1]);

// The window of unit (y, x): places per tap (outside the input: padding) and where each value comes from (-1: zero).
export function windowOf(layer, y, x) {
  if (!layer.taps) return null;
  const { rows, columns } = layer.taps;
  return { rows: rows.places[y], columns: columns.places[x], rowReads: rows.reads[y], columnReads: columns.reads[x] };
}

// From the first row and column to behind the last: the taps of a transposed convolution go up.
const around = (rows, columns) => [Math.min(...rows), Math.min(...columns), Math.max(...rows) + 1, Math.max(...columns) + 1];

// The box of the places that are read there: what lies in the padding, or outside an adaptive window, is not.
export function readBox({ rows, columns, rowReads, columnReads }) {
  const within = (places, reads) => places.filter((place, i) => place === reads[i]);
  const down = within(rows, rowReads), across = within(columns, columnReads);
  return down.length && across.length ? around(down, across) : [0, 0, 0, 0];
}

// Where one value that is only passed on comes from: which input (n), which channel of it, and the place there.
export function sourceOf(layer, inputs, c, y, x, k = 0) {
  if (layer.op === "flatten") {
    const [, ih, iw] = imageLike(layer.input);
    return { n: 0, channel: Math.floor(c / (ih * iw)), y: Math.floor(c / iw) % ih, x: c % iw };
  }
  if (layer.op !== "concat") return { n: 0, channel: layer.op === "linear" ? 0 : channelsOf(layer, c)[k], y, x };
  let n = 0, channel = c;
  while (channel >= inputs[n].shape[0]) channel -= inputs[n++].shape[0];
  return { n, channel, y, x };
}

// A value of a map, whose single row, column or channel stands for all.
export function valueAt(map, c, y, x) {
  const [channels, height, width] = imageLike(map.shape), at = (place, side) => (side === 1 ? 0 : place);
  return map.data[(at(c, channels) * height + at(y, height)) * width + at(x, width)];
}

export function clipped([top, left, bottom, right], height, width) {
  return [Math.max(0, top), Math.max(0, left), Math.min(height, bottom), Math.min(width, right)];
}

// What the unit sees of the image, as on an endless image.
export function spanOf(layer, y, x) {
  const { size, jump, start } = layer.field;
  const top = start[0] + y * jump[0], left = start[1] + x * jump[1];
  return [top, left, top + size[0], left + size[1]];
}

export function channelsOf(layer, oc) {
  const [ic] = layer.input, oc_ = layer.output[0];
  if (layer.op === "pointwise") return Array.from({ length: ic }, (_, k) => k);
  if (layer.op !== "conv2d" && layer.op !== "conv_transpose2d") return [oc];
  const each = ic / layer.groups, group = Math.floor(oc / (oc_ / layer.groups));
  return Array.from({ length: each }, (_, k) => k + group * each);
}

// A window's numbers as they lie in the maps: {values, weights, padded} of kh * kw for input channel number k. Of
// `padded`, 1 counts as zero and 2 takes no part: a pooling knows its padding only where its mean counts it.
export function reading(layer, input, weight, oc, y, x, k) {
  const w = windowOf(layer, y, x), channel = channelsOf(layer, oc)[k];
  const [, ih, iw] = layer.input, kh = w.rows.length, kw = w.columns.length, each = weight ? weight.shape[1] : 1;
  const values = new Float64Array(kh * kw), weights = new Float64Array(kh * kw), padded = new Uint8Array(kh * kw);
  const pools = layer.op.endsWith("pool2d"), [bottom, right] = layer.counted ?? [-Infinity, -Infinity];
  for (let i = 0; i < kh; i++) {
    for (let j = 0; j < kw; j++) {
      const row = w.rowReads[i], column = w.columnReads[j], at = i * kw + j;
      padded[at] = row >= 0 && column >= 0 ? 0 : pools && !(w.rows[i] < bottom && w.columns[j] < right) ? 2 : 1;
      values[at] = padded[at] ? 0 : input.data[(channel * ih + row) * iw + column];
      weights[at] = weight ? weight.data[((oc * each + k) * kh + i) * kw + j] : 1;
    }
  }
  return { values, weights, padded, kh, kw, channel };
}

export function sumOf({ values, weights }) {
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += values[i] * weights[i];
  return sum;
}

// So many numbers as a rectangle, nearly square; the last cells of it are zeros.
export function strip(values) {
  const columns = Math.ceil(Math.sqrt(values.length)), rows = Math.ceil(values.length / columns), found = new Float32Array(rows * columns);
  found.set(values);
  return [found, rows, columns];
}
