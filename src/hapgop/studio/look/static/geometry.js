// Where windows and fields lie: only places, taken from the tables that the server sent.

export const imageLike = (shape) => (shape.length === 3 ? shape : [shape[0], 1, 1]);

// The window of unit (y, x): places per tap (outside the input: padding) and where each value comes from (-1: zero).
export function windowOf(layer, y, x) {
  if (!layer.taps) return null;
  const { rows, columns } = layer.taps;
  return {
    rows: rows.places[y], columns: columns.places[x], rowReads: rows.reads[y], columnReads: columns.reads[x],
    box: [rows.places[y][0], columns.places[x][0], rows.places[y].at(-1) + 1, columns.places[x].at(-1) + 1],
  };
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
  if (layer.op !== "conv2d") return [oc];
  const each = ic / layer.groups, group = Math.floor(oc / (oc_ / layer.groups));
  return Array.from({ length: each }, (_, k) => k + group * each);
}

// A window's numbers as they lie in the maps: {values, weights, padded} of kh * kw for input channel number k.
export function reading(layer, input, weight, oc, y, x, k) {
  const w = windowOf(layer, y, x), channel = channelsOf(layer, oc)[k];
  const [, ih, iw] = layer.input, kh = w.rows.length, kw = w.columns.length, each = weight ? weight.shape[1] : 1;
  const values = new Float64Array(kh * kw), weights = new Float64Array(kh * kw), padded = new Uint8Array(kh * kw);
  for (let i = 0; i < kh; i++) {
    for (let j = 0; j < kw; j++) {
      const row = w.rowReads[i], column = w.columnReads[j], at = i * kw + j;
      padded[at] = row < 0 || column < 0;
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
