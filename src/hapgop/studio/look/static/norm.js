// Batch norm taken apart: the four numbers of a channel, and how they go into the filter and the bias before it.

import { h } from "./dom.js";
import { numbers, signed, sum, term } from "./equation.js";
import { most } from "./plane.js";
import { num } from "./format.js";
import { t } from "./words.js";

// Of one channel. Without weights of its own it has only normed: gamma is 1, and beta 0.
export function normOf({ weight, bias, running_mean: mean, running_var: variance }, eps, c) {
  const found = { mean: mean.data[c], variance: variance.data[c], eps, gamma: weight?.data[c] ?? 1, beta: bias?.data[c] ?? 0 };
  found.deviation = Math.sqrt(found.variance + eps);
  found.factor = found.gamma / found.deviation;
  found.shift = found.beta - found.mean * found.factor;
  return found;
}

const sign = (text) => h("span", { class: "sign", "aria-hidden": "true" }, text);

// The value, step by step, and what the engine gave.
export function normed(x, reads, value, norm) {
  const made = (x - norm.mean) / norm.deviation * norm.gamma + norm.beta;
  return h("p", { class: "sum" }, sign("("), term(reads, x), sign("−"), term(t("norm.mean"), norm.mean), sign(")"), sign("÷"),
    term(t("norm.deviation", { variance: num(norm.variance), eps: String(norm.eps) }), norm.deviation), sign("×"), term(t("norm.gamma"), norm.gamma),
    sign("+"), term(t("norm.beta"), norm.beta), sign("="), term(t("total"), made), sign("→"), term(t("engine"), value));
}

// The same as one factor and one number; and, where a convolution comes before, what becomes of its filter (its first
// slice is shown) and bias.
export function folded(norm, c, conv) {
  const parts = [h("h2", {}, t("norm.folded")), h("p", { class: "note" }, t("norm.fixed")),
    h("p", { class: "sum" }, term(t("norm.factor"), norm.factor), sign(","), term(t("norm.shift"), norm.shift))];
  if (!conv) return parts;
  const { name, weight, bias } = conv, [, each, kh, kw] = weight.shape, slice = weight.data.subarray(c * each * kh * kw, (c * each + 1) * kh * kw), before = bias ? bias.data[c] : 0;
  const into = Array.from(slice, (v) => v * norm.factor);
  return [...parts, h("p", { class: "note" }, t("norm.into", { layer: name })),
    h("div", { class: "equation" }, numbers(slice, kh, kw, { scale: most(slice), caption: t("filter.slice", { c, k: 0 }) }), signed("×", h("p", { class: "sum" }, term(t("norm.factor"), norm.factor))),
      signed("=", numbers(into, kh, kw, { scale: most(into), caption: t("norm.filter") }))),
    sum([[t("norm.bias"), before * norm.factor], [t("norm.shift"), norm.shift]], [[t("norm.bias.new"), before * norm.factor + norm.shift]])];
}
