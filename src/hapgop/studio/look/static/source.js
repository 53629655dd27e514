// Where answers come from: the server, or, in a single file, what was written into it.

import { t } from "./words.js";

const element = document.getElementById("data");
const stored = element ? JSON.parse(element.textContent) : null;

export const offline = stored !== null;

export class Refused extends Error {}

const TYPES = { f4: Float32Array, u1: Uint8Array, i4: Int32Array };

export function unpack(buffer) {
  const length = new DataView(buffer).getUint32(0, true);
  const head = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  const arrays = {};
  for (const [name, [kind, shape, offset]] of Object.entries(head.arrays)) {
    const count = shape.reduce((a, b) => a * b, 1);
    arrays[name] = { data: new TYPES[kind](buffer, 4 + length + offset, count), shape };
  }
  return { ...head, arrays };
}

// What `fetch` itself throws is a TypeError, whatever cut the way: in English only, and of no use to who reads it.
async function reach(address, options) {
  try {
    return await fetch(address, options);
  } catch (error) {
    throw error instanceof TypeError ? new Refused(t("server.gone")) : error;
  }
}

async function answer(response) {
  if (!response.ok) {
    let text = response.statusText;
    try { text = (await response.json()).error; } catch { /* no JSON: the status says it */ }
    throw new Refused(text);
  }
  return response.headers.get("content-type").startsWith("application/json") ? response.json() : unpack(await response.arrayBuffer());
}

async function kept(question, parameters) {
  const coded = stored[[question, parameters.layer ?? parameters.layers ?? parameters.method].filter(Boolean).join(" ")];
  if (coded === undefined) throw new Refused(t("not.in.file"));
  const bytes = Uint8Array.from(atob(coded.slice(1)), (letter) => letter.charCodeAt(0));
  const plain = await new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"))).arrayBuffer();
  return coded[0] === "b" ? spread(unpack(plain)) : JSON.parse(new TextDecoder().decode(plain));
}

// Where only some channels were kept, the others are zeros, so that each stands where it belongs.
function spread(answer) {
  const { channels, count, arrays } = answer;
  for (const [name, { data, shape: [held, ...rest] }] of Object.entries(channels ? arrays : {})) {
    const size = data.length / held, whole = new data.constructor(count * size);
    channels.forEach((channel, i) => whole.set(data.subarray(i * size, (i + 1) * size), channel * size));
    arrays[name] = { data: whole, shape: [count, ...rest] };
  }
  return answer;
}

export async function ask(question, parameters = {}) {
  if (offline) return kept(question, parameters);
  const given = Object.entries(parameters).filter(([, value]) => value !== null && value !== undefined);
  return answer(await reach(`/api/${question}?${new URLSearchParams(given)}`));
}

export async function post(question, body, parameters = {}) {
  if (offline) throw new Refused(t("not.in.file"));
  return answer(await reach(`/api/${question}?${new URLSearchParams(parameters)}`, { method: "POST", body }));
}

const cache = new Map();
const MOST_ANSWERS = 400;
// As much as the server keeps of maps: those of one picture can have 60 MB.
const MOST_BYTES = 256 * 2 ** 20;

const bytesOf = ({ arrays = {} }) => Object.values(arrays).reduce((sum, { data }) => sum + data.byteLength, 0);

// The same question again costs nothing; the oldest answers go first.
export function once(question, parameters) {
  const key = `${question} ${JSON.stringify(parameters)}`;
  if (!cache.has(key)) {
    const one = { found: ask(question, parameters), bytes: 0 };
    cache.set(key, one);
    one.found.then((answer) => { one.bytes = bytesOf(answer); makeRoom(); }, () => cache.delete(key));
    makeRoom();
  }
  return cache.get(key).found;
}

function makeRoom() {
  let held = [...cache.values()].reduce((sum, { bytes }) => sum + bytes, 0);
  for (const [key, { bytes }] of cache) {
    if (cache.size <= MOST_ANSWERS && held <= MOST_BYTES) return;
    cache.delete(key);
    held -= bytes;
  }
}
