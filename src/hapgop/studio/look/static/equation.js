// The arithmetic of one window, written out: values times filter gives products, and their sum.

import { css, ink } from "./colors.js";
import { h, replace } from "./dom.js";
import { full, num, short } from "./format.js";
import { t } from "./words.js";

// kh x kw numbers as a table; padding is hatched where it counts as zero (1), and empty where it takes no part (2).
export function numbers(values, kh, kw, { scale, padded = null, caption, changed = null, compact = false }) {
  const rows = [];
  for (let i = 0; i < kh; i++) {
    rows.push(h("tr", {}, Array.from({ length: kw }, (_, j) => {
      const value = values[i * kw + j], outside = padded?.[i * kw + j];
      if (outside === 2) return h("td", { title: t("apart.cell"), "data-value": "" });
      const style = outside ? "" : `background:${css(value, scale)};color:${ink(value, scale)}`;
      const text = compact || kh * kw > 25 ? short(value) : num(value);
      return h("td", { style, class: outside ? "padded" : null, title: outside ? t("padding.cell") : full(value), "data-value": full(value) },
        changed ? h("input", { type: "number", step: "any", value: String(Number(value.toFixed(4))), "aria-label": t("cell", { y: i, x: j }),
          oninput: (event) => changed(i, j, Number(event.target.value)) }) : text);
    })));
  }
  return h("table", { class: `numbers${kh * kw > 49 ? " many" : ""}` }, h("caption", {}, caption), h("tbody", {}, rows));
}

// One line for the whole sum: products, bias, activation, value. A single part is led to its result by an arrow.
export function sum(parts, result, sign = "+") {
  const list = [];
  parts.forEach(([words, value], number) => {
    if (number) list.push(h("span", { class: "sign", "aria-hidden": "true" }, sign));
    list.push(term(words, value));
  });
  list.push(h("span", { class: "sign", "aria-hidden": "true" }, sign ? "=" : "→"), term(...result[0]));
  for (const [words, value] of result.slice(1)) list.push(h("span", { class: "sign", "aria-hidden": "true" }, "→"), term(words, value));
  return h("p", { class: "sum" }, list);
}

export function term(words, value) {
  return h("span", { class: "term" }, h("b", { class: "figure", title: full(value), "data-value": full(value) }, num(value)), h("small", {}, words));
}

export function products(place, { values, weights, padded, kh, kw }, words, scales) {
  const made = values.map((value, i) => value * weights[i]);
  replace(place,
    numbers(values, kh, kw, { scale: scales[0], padded, caption: words[0] }),
    signed("×", numbers(weights, kh, kw, { scale: scales[1], caption: words[1] })),
    signed("=", numbers(made, kh, kw, { scale: Math.max(...made.map(Math.abs)), padded, caption: words[2] })));
}

// The sum of each channel's products beneath its picture, as buttons that choose the channel whose products are shown.
// `key` says of what the pictures are: as long as it stays the same, so do the buttons.
export function byChannel(list, { key, sums, k, labels, picture, chosen }) {
  const scale = Math.max(...sums.map(Math.abs));
  if (list.dataset.key !== key) {
    list.dataset.key = key;
    replace(list, Array.from(sums, (_, number) => h("li", {}, h("button", { type: "button", onclick: () => chosen(number) }, picture(number), h("span", { class: "figure" })))));
  }
  [...list.children].forEach(({ firstChild: button }, number) => {
    const figure = button.lastChild;
    figure.textContent = num(sums[number]);
    figure.classList.toggle("strong", Math.abs(sums[number]) > 0.5 * scale);
    button.setAttribute("aria-pressed", String(number === k));
    button.setAttribute("aria-label", labels[number]);
  });
}

// What a picture's channels are called: colours, if they are three.
export const channelName = (count, k) => (count === 3 ? t(`colour.${k}`) : t("sum.this", { k }));

// The strongest of the products of a whole row of inputs, largest first.
export function strongest(place, values, weights, count) {
  const order = Array.from(weights, (_, i) => i).sort((a, b) => Math.abs(values[b] * weights[b]) - Math.abs(values[a] * weights[a])).slice(0, count);
  replace(place, h("table", { class: "terms" }, h("caption", {}, t("strongest", { n: order.length, all: weights.length })),
    h("thead", {}, h("tr", {}, [t("input"), t("value"), t("weight"), t("product")].map((words) => h("th", { scope: "col" }, words)))),
    h("tbody", {}, order.map((i) => h("tr", {}, [String(i), num(values[i]), num(weights[i]), num(values[i] * weights[i])].map((text) => h("td", { class: "figure" }, text)))))));
}

// A sign and what follows it stay on one line.
export const signed = (sign, table) => h("div", { class: "signed" }, h("span", { class: "sign", "aria-hidden": "true" }, sign), table);
