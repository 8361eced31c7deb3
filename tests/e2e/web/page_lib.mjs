// page_lib.mjs: Chromium on the page, one window for each user. An error on the console or anything
// that the policy of the page forbids is a failure.
// From the caller: LOQUAT_URL, LOQUAT_TOKEN_*, BUILD.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import fs from "node:fs";
import path from "node:path";
import { setTimeout as rest } from "node:timers/promises";
import { start } from "./browser.mjs";
import {
  build,
  PATIENCE_MS,
  Server,
  SUBPROTOCOL,
  tokens,
  until,
  url,
  WebSocket,
  wsUrl,
} from "./lib.mjs";

const browser = await start();
const pictures = path.join(build, "tests");
fs.mkdirSync(pictures, { recursive: true });
export const picture = (page, name) =>
  page.screenshot({ path: path.join(pictures, `web-${name}.png`) });

/** Chromium itself says this of a WebSocket while it is offline, or its server away. */
const AWAY =
  /^WebSocket connection to .* failed: .*ERR_(INTERNET_DISCONNECTED|CONNECTION_REFUSED)/;
const troubles = [];

/** The origin of the page without the page, and what Chromium looks for there by itself. */
const BARE = `${url}/healthz`;
const ICON = `${url}/favicon.ico`;
/** Usual windows that a test is done with: a new one is more work than most of what tests do in it. */
const spare = [];

async function newWindow(options) {
  const context = await browser.newContext({
    viewport: { width: 1200, height: 750 },
    ...options,
  });
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE_MS);
  page.on("pageerror", (err) => troubles.push(`${page.user}: ${err.stack}`));
  page.on("console", (message) => {
    const text = message.text();
    if (message.location().url === ICON) return;
    if (["error", "warning"].includes(message.type()) && !AWAY.test(text))
      troubles.push(`${page.user}: ${text}`);
  });
  page.on("websocket", (ws) =>
    ws.on("framesent", ({ payload }) => {
      page.reads += payload.toString().match(/"view":"folded"/g)?.length ?? 0;
      if (/"op":"prefs".*"draft":/.test(payload.toString())) page.drafts.push(Date.now());
      for (const line of payload.toString().split("\n"))
        if (line.includes('"op":"search"')) page.searches.push(JSON.parse(line));
    }),
  );
  await page.addInitScript(() => {
    window.violations = [];
    addEventListener("securitypolicyviolation", (event) =>
      window.violations.push(`${event.effectiveDirective} ${event.blockedURI} ${event.sample}`),
    );
  });
  return page;
}

/** `clock`: time goes on by itself, and by `page.clock.fastForward`. */
export async function open(user, { clock, ...options } = {}) {
  const usual = !clock && Object.keys(options).length === 0;
  const page = (usual && spare.pop()) || (await newWindow(options));
  page.usual = usual;
  page.user = user;
  page.reads = 0; // pages of messages that were asked for
  page.drafts = []; // when drafts were sent to be kept
  page.searches = []; // what was looked for
  if (clock) await page.clock.install();
  await page.goto(user ? `${url}/#token=${tokens[user]}` : url);
  if (user) await page.waitForSelector(".welcome h1");
  return page;
}

/** Done with these windows; nothing may have gone wrong in them. */
export async function finish(...pages) {
  for (const page of pages) {
    assert.deepEqual(await page.evaluate(() => window.violations), []);
    if (page.usual) await clean(page);
    else await page.context().close();
  }
  assert.deepEqual(troubles.splice(0), []);
}

/** Leaves nothing of what was in it: to the page that comes next the window is a new one. */
async function clean(page) {
  await page.goto(BARE);
  await page.evaluate(() => {
    localStorage.clear();
    sessionStorage.clear();
  });
  await page.mouse.move(0, 0);
  spare.push(page);
}

// ---- what people do --------------------------------------------------------------------------

export async function newGroup(page, name, members) {
  await page.click("text=New chat");
  await page.click("role=radio[name='A group']");
  await page.fill("[name=name]", name);
  await page.fill("[name=user]", members.join(" "));
  await page.click("text=Create group");
  await page.waitForSelector(`.bar h1:text-is("${name}")`);
  return page.evaluate(() => decodeURIComponent(location.hash.slice("#/c/".length)));
}
export const conv = (c) => `[data-conv="${c}"]`;
export const message = (text) => `.msg:has(.text:text-is("${text}"))`;

export async function say(page, text) {
  await page.fill(".composer textarea", text);
  await page.keyboard.press("Enter");
}
export const shown = (page, text) => page.waitForSelector(message(text));

/** Presses one of the tools of a message; `where`: in the conversation, or in `.thread`. */
export async function act(page, text, button, where = ".messages") {
  const row = `${where} ${message(text)}`;
  await page.mouse.move(0, 0); // the tools of a neighbour may be over it
  await page.hover(`${row} .bubble`);
  await page.click(`${row} .tools [aria-label=${button}]`);
}

/** The reactions below a message, such as `👍 2 mine`. */
export const reactions = (page, text, where = ".messages") =>
  page.$$eval(`${where} ${message(text)} .reaction`, (all) =>
    all.map((each) => {
      const mine = each.getAttribute("aria-pressed") === "true";
      return `${[...each.children].map((part) => part.textContent).join(" ")}${mine ? " mine" : ""}`;
    }),
  );
export const showsReactions = (page, text, wanted, where) =>
  until(`${wanted} below ${text}`, async () => {
    const shown = await reactions(page, text, where);
    return JSON.stringify(shown) === JSON.stringify(wanted);
  });
export const focused = (page) =>
  page.evaluate(() => document.activeElement?.getAttribute("aria-label") ?? "");

export const visibleTexts = (page) =>
  page.$$eval(".block .msg .text", (all) => all.map((each) => each.textContent));

/** Opens the menu of a conversation in the list and presses one of its entries. */
export async function choose(page, c, entry) {
  await page.hover(conv(c));
  await page.click(`${conv(c)} + .more`);
  await page.click(`.menu [role=menuitem]:text-is("${entry}")`);
  await page.waitForSelector(".menu", { state: "detached" });
}

/** A new group of alice's, made by the protocol itself. */
export async function group(name, members) {
  const id = `${name} ${randomUUID().slice(0, 6)}`;
  return (await request({ op: "open", kind: "group", name: id, members })).c;
}

/** Two windows on a new group of alice's. */
export async function pair(name, options = {}) {
  const [alice, bob] = [await open("alice", options), await open("bob", options)];
  const c = await group(name, ["bob"]);
  for (const page of [alice, bob]) {
    await page.click(conv(c));
    await page.waitForSelector(".composer textarea");
  }
  return { alice, bob, c };
}

// ---- filling a conversation from outside -----------------------------------------------------

/** One request by the protocol itself; a server that has just begun has it again. */
export async function request(fields, user = "alice") {
  const cid = randomUUID();
  for (;;) {
    const reply = await requestOnce({ cid, ...fields }, user);
    if (!reply.err) return reply.ok;
    if (!reply.err.retry) throw new Error(JSON.stringify(reply.err));
    await rest(reply.err.after_ms ?? 200);
  }
}

async function requestOnce(fields, user) {
  const ws = new WebSocket(wsUrl(), [SUBPROTOCOL]);
  let reply = null;
  ws.on("message", (data) => {
    for (const line of String(data).split("\n")) {
      const message = JSON.parse(line);
      if (message.id === 2) reply = message;
    }
  });
  await until("connected", () => ws.readyState === WebSocket.OPEN);
  ws.send(JSON.stringify({ id: 1, op: "auth", token: tokens[user], device: "request" }));
  ws.send(JSON.stringify({ id: 2, ...fields }));
  await until("an answer", () => reply);
  ws.close();
  return reply;
}

/** Sends by the protocol itself, a window at a time. */
export async function fill(c, messages) {
  const ws = new WebSocket(wsUrl(), [SUBPROTOCOL]);
  const waiting = new Map();
  let id = 0;
  let broken = null;
  ws.on("error", (err) => (broken = err));
  ws.on("message", (data) => {
    for (const line of String(data).split("\n")) {
      const reply = JSON.parse(line);
      if (reply.err) broken = new Error(JSON.stringify(reply.err));
      waiting.delete(reply.id);
    }
  });
  const request = (fields) => {
    waiting.set(++id, true);
    ws.send(JSON.stringify({ id, ...fields }));
  };
  await until("connected", () => broken || ws.readyState === WebSocket.OPEN);
  request({ op: "auth", token: tokens.admin, device: "fill" });
  await until("in", () => broken || waiting.size === 0);
  for (const { from, ts, text, reply } of messages) {
    if (waiting.size >= 200) await until("answers", () => broken || waiting.size < 100);
    if (broken) throw broken;
    const more = reply ? { reply } : {};
    request({
      op: "send",
      c,
      cid: randomUUID(),
      kind: "text",
      body: { text },
      from,
      ts,
      ...more,
    });
  }
  await until("all answered", () => broken || waiting.size === 0);
  ws.close();
  if (broken) throw broken;
}
