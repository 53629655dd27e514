// One scale for signed numbers: zero is the page itself; both arms gain the same lightness for the same step (OKLab),
// warm for what adds, cold for what takes away.

const STEPS = 255;

function srgb(lightness, chroma, hue) {
  const a = chroma * Math.cos(hue * Math.PI / 180), b = chroma * Math.sin(hue * Math.PI / 180);
  const l = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3;
  const m = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3;
  const s = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3;
  const linear = [
    4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s,
    -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s,
    -0.0041960863 * l - 0.7034186147 * m + 1.7076147010 * s,
  ];
  return linear.map((v) => {
    const x = Math.min(1, Math.max(0, v));
    return Math.round(255 * (x <= 0.0031308 ? 12.92 * x : 1.055 * x ** (1 / 2.4) - 0.055));
  });
}

function scale(dark) {
  const [zero, end] = dark ? [0.25, 0.84] : [0.975, 0.5];
  const table = new Uint8ClampedArray(3 * (2 * STEPS + 1));
  for (let i = -STEPS; i <= STEPS; i++) {
    const t = Math.abs(i) / STEPS;
    const [hue, chroma] = i < 0 ? [255, dark ? 0.115 : 0.15] : [50, dark ? 0.125 : 0.15];
    table.set(srgb(zero + (end - zero) * t, chroma * Math.min(1, 1.25 * t), hue), 3 * (i + STEPS));
  }
  return table;
}

const tables = { light: scale(false), dark: scale(true) };

export const dark = () => document.documentElement.dataset.theme === "dark" ||
  (!document.documentElement.dataset.theme && matchMedia("(prefers-color-scheme: dark)").matches);

export const table = () => (dark() ? tables.dark : tables.light);

export function colour(value, most) {
  const at = 3 * (Math.round(STEPS * Math.max(-1, Math.min(1, most > 0 ? value / most : 0))) + STEPS), lut = table();
  return [lut[at], lut[at + 1], lut[at + 2]];
}

export const css = (value, most) => `rgb(${colour(value, most).join(" ")})`;

// The ink that can be read on it: black or white, whichever contrasts more (they are equal at this luminance).
const EVEN = 0.179;

export function ink(value, most) {
  const [r, g, b] = colour(value, most).map((v) => (v <= 10 ? v / 3294.6 : ((v / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b > EVEN ? "#000" : "#fff";
}
