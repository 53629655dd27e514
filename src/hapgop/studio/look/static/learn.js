// The lesson: one idea after the other, each with something to move.

import { h, replace } from "./dom.js";
import { lesson as en } from "./lesson.en.js";
import { lesson as ko } from "./lesson.ko.js";
import { address, state } from "./state.js";
import { widgets } from "./widgets.js";
import { language, t } from "./words.js";

const lessons = { en, ko };

// `code` between backquotes; everything else is text.
const prose = (words) => words.split("`").map((part, i) => (i % 2 ? h("code", {}, part) : part));

export async function learn(root, ctx) {
  const chapters = lessons[language()], nav = h("nav", { "aria-label": t("chapters") }), article = h("article", {});
  let shown = -1, left = null, turn = 0;

  // On a narrow screen the chapters lie in a strip that scrolls: the current one is brought into its middle.
  function centre() {
    const strip = nav.firstChild;
    if (strip.scrollWidth > strip.clientWidth) nav.querySelector("[aria-current]").scrollIntoView({ inline: "center", block: "nearest" });
  }

  async function update() {
    const step = Math.min(chapters.length - 1, Math.max(0, (state.step ?? 1) - 1)), mine = ++turn;
    document.title = `${chapters[step].title} · ${t("view.learn")} · ${ctx.facts.title}`;
    if (step === shown) return;
    left?.();
    left = null;
    shown = step;
    const { title, text, after, then } = chapters[step], place = (words) => h("section", { class: "widget", "aria-label": words });
    const first = place(title), second = then && place(then.title);
    const said = (texts) => (texts ?? []).map((words) => h("p", {}, prose(words)));
    replace(nav, h("ol", {}, chapters.map((chapter, i) => h("li", {}, h("a", { href: address({ step: i + 1 }), "aria-current": i === step ? "step" : null }, h("span", {}, chapter.title))))));
    centre();
    replace(article, h("h1", {}, title), said(text), first, said(after),
      then ? [h("h2", {}, then.title), said(then.text), second] : null,
      h("p", { class: "turn" },
        step > 0 ? h("a", { href: address({ step }) }, `← ${chapters[step - 1].title}`) : h("span"),
        step < chapters.length - 1 ? h("a", { href: address({ step: step + 2 }) }, `${chapters[step + 1].title} →`) : h("a", { href: address({ view: "play", step: null }) }, `${t("view.play")} →`)));
    const leave = await widgets[chapters[step].key](first, ctx);
    if (then && mine === turn) await widgets[then.key](second, ctx);
    if (mine === turn) left = leave ?? null; else leave?.();
    root.dataset.step = String(step + 1);
  }

  replace(root, h("div", { class: "course" }, nav, article));
  await update();
  return { update, placed: centre, leave: () => left?.() };
}
