// What went wrong, in a sentence above the page.

import { h } from "./dom.js";
import { t } from "./words.js";

export function tell(message) {
  if (document.querySelector(".notice")?.firstChild.textContent === message) return;
  document.querySelector(".notice")?.remove();
  document.getElementById("main").before(h("p", { class: "notice", role: "alert" }, message,
    h("button", { type: "button", class: "plain", "aria-label": t("close"), onclick: (event) => event.target.parentElement.remove() }, "×")));
}
