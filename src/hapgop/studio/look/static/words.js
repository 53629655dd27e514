import { en } from "./words.en.js";
import { ko } from "./words.ko.js";
import { state } from "./state.js";

export const languages = { en: "English", ko: "한국어" };
const tables = { en, ko };

export function language() {
  if (state.lang in tables) return state.lang;
  return navigator.language?.startsWith("ko") ? "ko" : "en";
}

// The words of a key, with {names} filled in; {n|one|many} is the word that fits the number n.
export function t(key, values = {}) {
  const words = tables[language()][key];
  if (words === undefined) throw new Error(`no words for ${key}`);
  return words.replace(/\{(\w+)(?:\|([^|}]*)\|([^}]*))?\}/g, (_, name, one, many) => (many === undefined ? String(values[name] ?? "") : values[name] === 1 ? one : many));
}
