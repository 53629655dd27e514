// Numbers for people: four decimals or four figures, a true minus, never more than they mean.

export function num(value) {
  if (!Number.isFinite(value)) return String(value);
  if (Number.isInteger(value) && Math.abs(value) < 10000) return String(value).replace("-", "−");
  const size = Math.abs(value);
  let text;
  if (size < 5e-5) text = value.toExponential(1);
  else if (size < 10) text = value.toFixed(4);
  else if (size < 100) text = value.toFixed(3);
  else if (size < 1000) text = value.toFixed(2);
  else if (size < 1e6) text = value.toFixed(1);
  else text = value.toExponential(3);
  return text.replaceAll("-", "−");
}

// Every digit that a float32 has.
export const full = (value) => String(Number(Math.fround(value).toPrecision(9)));

// For narrow cells: two decimals, or what is too small for them in two figures.
export function short(value) {
  const size = Math.abs(value);
  const text = Number.isInteger(value) ? String(value) : size < 0.1 ? value.toPrecision(2) : value.toFixed(size < 10 ? 2 : 1);
  return text.replaceAll("-", "−");
}

export const percent = (share) => (share > 0 && share < 0.0005 ? "< 0.1 %" : share < 1 && share > 0.9995 ? "> 99.9 %" : `${(100 * share).toFixed(1)} %`);

export function large(count) {
  for (const [size, unit] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
    // From here on, it rounds up to the unit.
    if (count >= 0.9995 * size) return `${(count / size).toFixed(count / size < 10 ? 1 : 0)} ${unit}`;
  }
  return String(count);
}

export const by = (shape) => shape.join(" × ");
