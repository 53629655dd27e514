import { h, replace } from "./dom.js";
import { t } from "./words.js";
export async function learn(root) { replace(root, h("h1", {}, t("view.learn"))); return { update() {} }; }
