// Functions of one variable, and the area under a product of two: what the lesson's integral rests on.

// Each lives on [-1, 1], is smooth within, and zero outside.
const FORMS = {
  box: () => 1,
  ramp: (x) => (1 - x) / 2,
  bell: (x) => (1 + Math.cos(Math.PI * x)) / 2,
  wave: (x) => Math.sin(Math.PI * x),
};
export const SHAPES = Object.keys(FORMS);

export const valueOf = (shape, x) => (Math.abs(x) > 1 ? 0 : FORMS[shape](x));

// Samples at -1, ..., 1, so many a unit. At the ends, where a function may jump, one is the mean of both sides.
export function samplesOf(shape, density) {
  return Array.from({ length: 2 * density + 1 }, (_, i) => {
    const x = i / density - 1, value = valueOf(shape, x) / (Math.abs(x) === 1 ? 2 : 1);
    // A sine of pi is not quite zero here; of a sample, that would be shown.
    return Math.round(1e6 * value) / 1e6 || 0;
  });
}

// What lies over a place x of f: g turned round and moved by t, or only moved.
export const over = (shape, x, t, flip) => valueOf(shape, flip ? t - x : x - t);

// Simpson's rule where both functions are: within, they are smooth, and so is their product.
export function integral(f, g, t, flip, parts = 64) {
  const from = Math.max(-1, t - 1), to = Math.min(1, t + 1), step = (to - from) / parts;
  if (step <= 0) return 0;
  let sum = 0;
  for (let i = 0; i <= parts; i++) {
    const x = from + i * step, weight = i === 0 || i === parts ? 1 : i % 2 ? 4 : 2;
    // By a hair inside: rounding must not lose the ends.
    const inner = flip ? t - x : x - t;
    sum += weight * valueOf(f, Math.min(1, Math.max(-1, x))) * valueOf(g, Math.min(1, Math.max(-1, inner)));
  }
  return sum * step / 3;
}
