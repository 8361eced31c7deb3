// sdk_lib.mjs: the SDK under Node with npm `ws`, against real servers that come and go and sockets that
// are killed. From the caller: LOQUAT_URL, LOQUAT_TOKEN_*, BUILD.
import assert from "node:assert/strict";
import { randomUUID, webcrypto } from "node:crypto";
import path from "node:path";
import { pathToFileURL } from "node:url";
import { build, require, root, Server, tokens, until, WebSocket, wsUrl } from "./lib.mjs";

globalThis.crypto ??= webcrypto; // Node 18 has it under another name

/** The SDK as one module of JavaScript, made by the same tool that makes the page. */
async function loadSdk() {
  /* By its path: what `require` would resolve is the deprecated CommonJS one. */
  const home = path.dirname(require.resolve("vite/package.json"));
  const vite = await import(pathToFileURL(path.join(home, "dist/node/index.js")).href);
  const outDir = path.join(build, "tests/web");
  await vite.build({
    root: path.join(root, "gateway/web"),
    configFile: false,
    logLevel: "error",
    build: {
      lib: { entry: "sdk/index.ts", formats: ["es"], fileName: () => "sdk.mjs" },
      outDir,
      emptyOutDir: false,
      minify: false,
      target: "node18",
    },
  });
  return import(pathToFileURL(path.join(outDir, "sdk.mjs")).href);
}
const sdk = await loadSdk();
export const { Client, isHole, isMessage, memoryStorage, tokenClaims, webStorage } = sdk;
export const { foldConv, foldHide, foldMessage, foldPrefs, foldReaction, foldThread } = sdk;
export const { isMention } = sdk;
export const { DRAFT_MAX, MUTED_FOR_EVER, TYPING_MS, WATCH_MAX } = sdk;

const FAST = { backoffMs: [20, 200], requestTimeoutMs: 15_000, socket: WebSocket };
const started = [];

export function client(user, options = {}) {
  const made = new Client({
    url: wsUrl(),
    token: tokens[user],
    device: "sdk-test",
    ...FAST,
    ...options,
  });
  started.push(made);
  return made;
}
export const live = (...clients) =>
  Promise.all(clients.map((each) => until("live", () => each.state.name === "live")));

/** Notes what a client gives out of one conversation, as [first, last] of each item. */
export function noting(from, c) {
  const got = [];
  from.on("rec", (event) => event.c === c && got.push([event.rec.s, event.rec.s]));
  from.on("hole", (event) => event.c === c && got.push(event.hole.hole));
  return got;
}

/** Each sequence of (from, to] once, in order. */
export function assertDense(got, from, to) {
  let at = from;
  for (const [first, last] of got) {
    assert.equal(first, at + 1, `${first} came after ${at}`);
    at = last;
  }
  assert.equal(at, to);
}

export async function texts(reader, c) {
  const out = [];
  for (let from = 1; from !== null;) {
    const page = await reader.range(c, { from, view: "folded" });
    for (const item of page.records) if (!isHole(item)) out.push(item.body.text);
    from = page.next;
  }
  return out;
}

/**
 * Messages and settings of a conversation as one client sees them: read once, then kept up by what
 * it is given.
 */
export async function folding(from, c) {
  const given = [];
  const view = { messages: new Map(), conv: null };
  let head = Infinity;
  const take = (rec) => {
    if (rec.s > view.conv.head) view.conv = foldConv(view.conv, rec, from.user);
    if (rec.s <= head) return;
    if (isMessage(rec)) view.messages.set(rec.s, rec);
    const old = view.messages.get(rec.target);
    if (old && !isHole(old)) view.messages.set(old.s, foldMessage(old, rec, from.user));
  };
  from.on("rec", ({ c: where, rec }) => {
    if (where !== c) return;
    if (head === Infinity) given.push(rec);
    else take(rec);
  });
  view.conv = await convOf(from, c);
  const page = await from.range(c, { view: "folded" });
  for (const item of page.records) if (!isHole(item)) view.messages.set(item.s, item);
  head = page.head;
  given.forEach(take);
  return view;
}
export const convOf = async (from, c) => (await from.list()).convs.find((each) => each.c === c);

/** As the server tells it, to one who comes anew. */
export async function assertSame(view, from, c) {
  const page = await from.range(c, { view: "folded" });
  /* The order of reactions counts: deepEqual does not look at it. */
  const plain = (rec) =>
    isHole(rec) ? rec.hole : { ...rec, reactions: Object.entries(rec.reactions ?? {}) };
  assert.deepEqual([...view.messages.values()].map(plain), page.records.map(plain));
  const settings = (conv) => {
    const { name, topic, ttl, history, pins, members, role } = conv;
    const { announce = false, lang = null, searchable = true } = conv;
    return { name, topic, ttl, history, pins, members, role, announce, lang, searchable };
  };
  assert.deepEqual(settings(view.conv), settings(await convOf(from, c)));
}
export const reactionsOf = (view, s) => Object.entries(view.messages.get(s).reactions ?? {});

/** A socket whose connections can be cut, as a network would. */
export function mortal() {
  const open = new Set();
  class Mortal extends WebSocket {
    constructor(...args) {
      super(...args);
      open.add(this);
      this.on("close", () => open.delete(this));
    }
  }
  return {
    socket: Mortal,
    cut: () => {
      for (const socket of open) socket.terminate();
      return open.size;
    },
  };
}

/** localStorage for Node. */
export class Area {
  #items = new Map();
  get length() {
    return this.#items.size;
  }
  key = (i) => [...this.#items.keys()][i] ?? null;
  getItem = (key) => this.#items.get(key) ?? null;
  setItem = (key, value) => void this.#items.set(key, value);
  removeItem = (key) => void this.#items.delete(key);
}

export const openGroup = (owner, members) =>
  owner.open({ kind: "group", name: "sdk", members, cid: randomUUID() });

process.on("exit", () => started.forEach((each) => each.stop()));
