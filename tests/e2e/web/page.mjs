// page.mjs: Chromium on the page, one window for each user. An error on the console or anything
// that the policy of the page forbids is a failure.
// From the caller: LOQUAT_URL, LOQUAT_TOKEN_*, BUILD.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import fs from "node:fs";
import path from "node:path";
import {
  build,
  PATIENCE_MS,
  require,
  runTests,
  Server,
  SUBPROTOCOL,
  test,
  tokens,
  until,
  url,
  WebSocket,
  wsUrl,
} from "./lib.mjs";

const { chromium } = require("playwright-core");
const FLAGS =
  "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking " +
  "--disable-component-update --disable-sync";
const browser = await chromium.launch({
  executablePath: process.env.LOQUAT_CHROMIUM ?? "/usr/bin/chromium",
  args: FLAGS.split(" "),
});
const pictures = path.join(build, "tests");
fs.mkdirSync(pictures, { recursive: true });
const picture = (page, name) =>
  page.screenshot({ path: path.join(pictures, `web-${name}.png`) });

/** Chromium itself says this of a WebSocket while it is offline, or its server away. */
const AWAY =
  /^WebSocket connection to .* failed: .*ERR_(INTERNET_DISCONNECTED|CONNECTION_REFUSED)/;
const troubles = [];

async function open(user, options = {}) {
  const context = await browser.newContext({
    viewport: { width: 1200, height: 750 },
    ...options,
  });
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE_MS);
  page.on("pageerror", (err) => troubles.push(`${user}: ${err.stack}`));
  page.on("console", (message) => {
    const text = message.text();
    if (["error", "warning"].includes(message.type()) && !AWAY.test(text))
      troubles.push(`${user}: ${text}`);
  });
  page.reads = 0; // pages of messages that were asked for
  page.on("websocket", (ws) =>
    ws.on("framesent", ({ payload }) => {
      page.reads += payload.toString().match(/"view":"folded"/g)?.length ?? 0;
    }),
  );
  await page.addInitScript(() => {
    window.violations = [];
    addEventListener("securitypolicyviolation", (event) =>
      window.violations.push(`${event.effectiveDirective} ${event.blockedURI} ${event.sample}`),
    );
  });
  await page.goto(user ? `${url}/#token=${tokens[user]}` : url);
  if (user) await page.waitForSelector(".welcome h1");
  return page;
}

/** Closes the windows; nothing may have gone wrong in them. */
async function finish(...pages) {
  for (const page of pages) {
    assert.deepEqual(await page.evaluate(() => window.violations), []);
    await page.context().close();
  }
  assert.deepEqual(troubles.splice(0), []);
}

// ---- what people do --------------------------------------------------------------------------

async function newGroup(page, name, members) {
  await page.click("text=New chat");
  await page.click("role=radio[name='A group']");
  await page.fill("[name=name]", name);
  await page.fill("[name=user]", members.join(" "));
  await page.click("text=Create group");
  await page.waitForSelector(`.bar h1:text-is("${name}")`);
  return page.evaluate(() => decodeURIComponent(location.hash.slice("#/c/".length)));
}
const conv = (c) => `[data-conv="${c}"]`;
const message = (text) => `.msg:has(.text:text-is("${text}"))`;

async function say(page, text) {
  await page.fill(".composer textarea", text);
  await page.keyboard.press("Enter");
}
const shown = (page, text) => page.waitForSelector(message(text));

/** Opens the menu of a message and presses one of its buttons. */
async function act(page, text, button) {
  await page.hover(message(text));
  await page.click(`${message(text)} .tools [aria-label=${button}]`);
}

const visibleTexts = (page) =>
  page.$$eval(".block .msg .text", (all) => all.map((each) => each.textContent));

// ---- filling a conversation from outside -----------------------------------------------------

/** Sends by the protocol itself, a window at a time. */
async function fill(c, messages) {
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

// ---- tests -----------------------------------------------------------------------------------

test("without a token the page asks for one", async () => {
  const page = await open(null);
  await page.waitForSelector(".gate h1");
  await page.fill(".gate input", "nonsense");
  await page.click(".gate button");
  await page.waitForSelector(".gate [role=alert]");
  await page.fill(".gate input", `${url}/#token=${tokens.alice}`);
  await page.click(".gate button");
  await page.waitForSelector(".welcome h1");
  await finish(page);
});

test("a refused token leads back to the form", async () => {
  const page = await open(null);
  const parts = tokens.alice.split(".");
  await page.fill(".gate input", `${parts[0]}.${parts[1]}.AAAA`);
  await page.click(".gate button");
  await page.waitForSelector("text=not valid any more");
  await page.fill(".gate input", tokens.alice);
  await page.click(".gate button");
  await page.waitForSelector(".welcome h1");
  await finish(page);
});

test("a token that ends, a new link in the same tab, a server that goes and comes", async () => {
  let server = await Server.start();
  const page = await open(null);
  await page.goto(`${server.url}/#token=${await server.token("mira", "4")}`);
  await page.waitForSelector(".welcome h1");
  await page.waitForSelector(".gate h1");
  const link = `#token=${await server.token("mira")}`;
  await page.evaluate((hash) => (location.hash = hash), link);
  await page.waitForSelector(".welcome h1");
  assert.equal(new URL(page.url()).hash, "");
  await server.stop();
  await page.waitForSelector(".banner:has-text('No connection')");
  server = await Server.start(server.dir, server.listen);
  await page.evaluate(() => dispatchEvent(new Event("online")));
  await page.waitForSelector(".banner", { state: "hidden" });
  await newGroup(page, "after all that", []);
  await say(page, "still here");
  await shown(page, "still here");
  await finish(page);
  await server.stop();
});

test("the token leaves the address at once, and outlives a reload", async () => {
  const page = await open("alice");
  assert.equal(page.url(), `${url}/`);
  await page.reload();
  await page.waitForSelector(".welcome h1");
  assert.ok(!(await page.content()).includes(tokens.alice));
  await finish(page);
});

test("two people chat: unread counts, reply, edit, delete", async () => {
  const [alice, bob] = [await open("alice"), await open("bob")];
  const c = await newGroup(alice, `lunch ${randomUUID().slice(0, 6)}`, ["bob"]);
  await bob.waitForSelector(conv(c));
  await say(alice, "Who is hungry?");
  await say(alice, "I am");
  await bob.waitForSelector(`${conv(c)} .badge:text-is("2")`);
  assert.match(await bob.title(), /^\(\d+\) /);
  await bob.click(conv(c));
  await shown(bob, "I am");
  await bob.waitForSelector(".new-line");
  await bob.waitForSelector(`${conv(c)} .badge`, { state: "detached" });

  await act(bob, "Who is hungry?", "Reply");
  await say(bob, "Me too");
  await alice.waitForSelector(`${message("Me too")} .quote:has-text("Who is hungry?")`);
  await act(alice, "I am", "Edit");
  await alice.fill(".composer textarea", "I am, very much");
  await alice.keyboard.press("Enter");
  await bob.waitForSelector(`${message("I am, very much")} .meta:has-text("edited")`);
  await act(alice, "Who is hungry?", "Delete");
  await alice.click("dialog button:text-is('Delete')");
  for (const page of [alice, bob]) {
    await page.waitForSelector(message("Who is hungry?"), { state: "detached" });
    await page.waitForSelector(".line:text-is('Message deleted')");
    assert.deepEqual(await visibleTexts(page), ["I am, very much", "Me too"]);
  }
  await picture(alice, "chat");
  // The same after a reload: nothing was there in the window alone.
  await bob.reload();
  await shown(bob, "Me too");
  assert.deepEqual(await visibleTexts(bob), ["I am, very much", "Me too"]);
  await finish(alice, bob);
});

test("in a direct chat the author sees what was read", async () => {
  const [alice, bob] = [await open("alice"), await open("bob")];
  await alice.click("text=New chat");
  await alice.fill("[name=user]", "bob");
  await alice.click("text=Start chat");
  await alice.waitForSelector(".bar h1:text-is('bob')");
  const c = await alice.evaluate(() => decodeURIComponent(location.hash.slice("#/c/".length)));
  const text = `read me ${randomUUID()}`;
  await say(alice, text);
  await alice.waitForSelector(`${message(text)} .tick.delivered`);
  await bob.click(conv(c));
  await shown(bob, text);
  /* Read is what was in view: with older messages unread the newest is below. */
  await bob.locator(message(text)).scrollIntoViewIfNeeded();
  await alice.waitForSelector(`${message(text)} .tick.read`);
  await finish(alice, bob);
});

test("what is written offline waits, and arrives once and in order", async () => {
  const [alice, bob] = [await open("alice"), await open("bob")];
  const c = await newGroup(alice, `tunnel ${randomUUID().slice(0, 6)}`, ["bob"]);
  await bob.click(conv(c));
  await say(alice, "still here");
  await shown(bob, "still here");
  await alice.context().setOffline(true);
  for (const text of ["one", "two", "three"]) await say(alice, text);
  await alice.waitForSelector(".banner:has-text('3 messages wait to be sent')");
  assert.equal(await alice.locator(".outbox .msg.waiting").count(), 3);
  await picture(alice, "offline");
  assert.deepEqual(await visibleTexts(bob), ["still here"]);
  await alice.context().setOffline(false);
  await shown(bob, "three");
  await alice.waitForSelector(".outbox .msg", { state: "detached" });
  await alice.waitForSelector(".banner", { state: "hidden" });
  await say(alice, "out again");
  await shown(bob, "out again");
  for (const page of [alice, bob])
    assert.deepEqual(await visibleTexts(page), [
      "still here",
      "one",
      "two",
      "three",
      "out again",
    ]);
  // Bob was away for that: he gets what he missed, once.
  await bob.context().setOffline(true);
  await bob.waitForSelector(".banner:has-text('You are offline')");
  await say(alice, "while bob is away");
  await alice.waitForSelector(`${message("while bob is away")} .tick.sent`);
  await bob.context().setOffline(false);
  await shown(bob, "while bob is away");
  assert.equal(
    (await visibleTexts(bob)).filter((text) => text === "while bob is away").length,
    1,
  );
  await finish(alice, bob);
});

test("what was written offline outlives its tab", async () => {
  const [alice, bob] = [await open("alice"), await open("bob")];
  const c = await newGroup(alice, `tab ${randomUUID().slice(0, 6)}`, ["bob"]);
  await bob.click(conv(c));
  const context = alice.context();
  await context.setOffline(true);
  await alice.waitForSelector(".banner:has-text('You are offline')");
  for (const text of ["a", "b"]) await say(alice, text);
  await alice.waitForSelector(".outbox .msg >> nth=1");
  await alice.close();
  await context.setOffline(false);
  const again = await context.newPage();
  await again.goto(`${url}/#token=${tokens.alice}`);
  await again.waitForSelector(".welcome h1");
  await shown(bob, "b");
  assert.deepEqual(await visibleTexts(bob), ["a", "b"]);
  await context.close();
  await finish(bob);
});

test("what one device reads, the other one counts no more", async () => {
  const [alice, desk, phone] = [await open("alice"), await open("bob"), await open("bob")];
  const c = await newGroup(alice, `devices ${randomUUID().slice(0, 6)}`, ["bob"]);
  for (const text of ["one", "two"]) await say(alice, text);
  for (const page of [desk, phone])
    await page.waitForSelector(`${conv(c)} .badge:text-is("2")`);
  await phone.click(conv(c));
  await shown(phone, "two");
  for (const page of [desk, phone])
    await page.waitForSelector(`${conv(c)} .badge`, { state: "detached" });
  await say(phone, "from the phone");
  await desk.waitForSelector(`${conv(c)} .preview:text-is("You: from the phone")`);
  assert.equal(await desk.locator(`${conv(c)} .badge`).count(), 0);
  await finish(alice, desk, phone);
});

test("a long absence is not read through: it is counted, and the newest is there", async () => {
  const [alice, bob] = [await open("alice"), await open("bob")];
  const c = await newGroup(alice, `absence ${randomUUID().slice(0, 6)}`, ["bob"]);
  await bob.click(conv(c));
  await say(alice, "before");
  await shown(bob, "before");
  await bob.waitForSelector(`${conv(c)} .badge`, { state: "detached" });
  await bob.evaluate(() => (location.hash = ""));
  await bob.waitForSelector(".welcome h1");
  await bob.context().setOffline(true);
  await bob.waitForSelector(".banner:has-text('You are offline')");
  const now = Date.now();
  const absence = Array.from({ length: 1200 }, (_, i) => `#${i}`);
  await fill(
    c,
    absence.map((text, i) => ({ from: "alice", ts: now + i, text })),
  );
  await bob.context().setOffline(false);
  await bob.waitForSelector(`${conv(c)} .badge[aria-label='1,200 unread messages']`);
  await bob.click(conv(c));
  await bob.waitForSelector(".new-line");
  await shown(bob, "#0");
  await bob.click(".to-end");
  await shown(bob, "#1199");
  await bob.waitForSelector(`${conv(c)} .badge`, { state: "detached" });
  await say(alice, "after");
  await shown(bob, "after");
  await finish(alice, bob);
});

test("groups: people are added, removed, and leave", async () => {
  const [alice, carol] = [await open("alice"), await open("carol")];
  const c = await newGroup(alice, `club ${randomUUID().slice(0, 6)}`, ["bob"]);
  await alice.click("[aria-label=Members]");
  await alice.fill(".members input", "carol");
  await alice.keyboard.press("Enter");
  await alice.waitForSelector(".members li:has-text('carol')");
  await carol.click(conv(c));
  await alice.waitForSelector(".line:has-text('You added carol')");
  await say(carol, "hello everyone");
  await shown(alice, "hello everyone");
  await alice.click("text=Leave group");
  await alice.click("button.danger:has-text('Leave')");
  await alice.waitForSelector(".members [role=alert]:has-text('only owner')");
  await alice.selectOption("[aria-label='Role of carol']", "owner");
  await alice.waitForSelector(".line:has-text('You made carol owner')");
  await alice.click("[aria-label='Remove bob']");
  await alice.waitForSelector(".line:has-text('You removed bob')");
  await picture(alice, "members");
  await alice.click("text=Leave group");
  await alice.click("button.danger:has-text('Leave')");
  await alice.waitForSelector(conv(c), { state: "detached" });
  await carol.waitForSelector(".line:has-text('alice left')");
  await carol.waitForSelector(".bar .what span:text-is('1 member')");
  await finish(alice, carol);
});

test("text is text: no markup comes alive, only http(s) addresses are links", async () => {
  const page = await open("alice");
  await newGroup(page, `text ${randomUUID().slice(0, 6)}`, []);
  const nasty = `<img src=x onerror=alert(1)> <script>alert(2)</script> javascript:alert(3)`;
  await say(page, nasty);
  await shown(page, nasty.replaceAll('"', '\\"'));
  await say(page, "see https://example.org/a_(b)?q=1&r=2. Or http://example.com/!");
  await page.waitForSelector(".msg a >> nth=1");
  const links = await page.$$eval(".msg a", (all) =>
    all.map((a) => [a.getAttribute("href"), a.rel]),
  );
  assert.deepEqual(
    links.map(([href]) => href),
    ["https://example.org/a_(b)?q=1&r=2", "http://example.com/"],
  );
  assert.ok(links.every(([, rel]) => rel.includes("noopener")));
  assert.equal(await page.locator(".msg img, .msg script, [style*=javascript]").count(), 0);
  await finish(page);
});

test("the keyboard is enough", async () => {
  const page = await open("alice");
  await newGroup(page, `keys ${randomUUID().slice(0, 6)}`, []);
  const field = page.locator(".composer textarea");
  const height = () => field.evaluate((element) => element.clientHeight);
  const low = await height();
  await field.pressSequentially("first line");
  await page.keyboard.press("Shift+Enter");
  await field.pressSequentially("second line");
  assert.ok((await height()) > low, "the field grows");
  await page.keyboard.press("Enter");
  await page.waitForFunction(
    () =>
      document.querySelector(".block .msg .text")?.textContent === "first line\nsecond line",
  );
  assert.equal(await field.inputValue(), "");
  await page.waitForSelector(".block .msg");
  await page.keyboard.press("ArrowUp");
  await page.waitForSelector(".about:has-text('Edit message')");
  await page.keyboard.press("Escape");
  await page.waitForSelector(".about", { state: "detached" });
  await page.keyboard.press("Shift+Tab");
  await page.waitForFunction(() => document.activeElement.getAttribute("role") === "article");
  await page.keyboard.press("r");
  await page.waitForSelector(".about:has-text('Reply')");
  const nameless = await page.$$eval("button, input, textarea, select", (all) =>
    all
      .filter(
        (each) =>
          !each.getAttribute("aria-label") && !each.labels?.length && !each.textContent.trim(),
      )
      .map((each) => each.outerHTML),
  );
  assert.deepEqual(nameless, []);
  await finish(page);
});

test("a phone: one view at a time, nothing sticks out, light and dark", async () => {
  const small = { viewport: { width: 360, height: 700 }, hasTouch: true, isMobile: true };
  for (const colorScheme of ["light", "dark"]) {
    const page = await (async () => {
      const opened = open(null, { ...small, colorScheme });
      const made = await opened;
      await made.goto(`${url}/#token=${tokens.alice}`);
      await made.reload();
      await made.waitForSelector(".conv");
      return made;
    })();
    const fits = () => page.evaluate(() => document.documentElement.scrollWidth <= innerWidth);
    assert.ok(await fits());
    assert.equal(await page.isVisible(".talk"), false);
    await page.tap(".conv >> nth=0");
    await page.waitForSelector(".composer textarea");
    assert.equal(await page.isVisible(".sidebar"), false);
    assert.ok(await fits());
    await picture(page, `phone-${colorScheme}`);
    await page.tap("[aria-label='Back to the list']");
    await page.waitForSelector(".sidebar");
    await finish(page);
  }
});

test("scrolling back through thousands: all are seen, the page stays small and still", async () => {
  const COUNT = 4000;
  const alice = await open("alice");
  const name = `long ${randomUUID().slice(0, 6)}`;
  const c = await newGroup(alice, name, ["bob"]);
  const now = Date.now();
  const messages = Array.from({ length: COUNT }, (_, i) => ({
    from: ["alice", "bob", "carol"][(i >> 2) % 3],
    ts: now - (COUNT - i) * 60_000,
    text: `#${i} ${"some words of no importance ".repeat((i * 7) % 9)}`,
    reply: i % 13 === 12 ? i - 2 : 0,
  }));
  await fill(c, messages);
  const bob = await open("bob");
  await bob.fill("[aria-label='Find a conversation']", name);
  await bob.click(conv(c));
  // Bob has read nothing yet: he starts at the first new message, and sees how many follow.
  await bob.waitForSelector(".new-line");
  await bob.waitForSelector(".to-end .badge");
  await bob.click(".to-end");
  await bob.waitForSelector(`.msg:has(.text:text-matches("^#${COUNT - 1} "))`);
  await bob.waitForSelector(`${conv(c)} .badge`, { state: "detached" });

  const result = await bob.evaluate(async (count) => {
    const scroller = document.querySelector(".scroller");
    const frame = () => new Promise((resolve) => requestAnimationFrame(resolve));
    const inView = (element) => {
      const [box, view] = [element.getBoundingClientRect(), scroller.getBoundingClientRect()];
      return box.bottom > view.top && box.top < view.bottom;
    };
    const seen = new Set();
    let [nodes, moved, steps] = [0, [], 0];
    const look = () => {
      for (const text of scroller.querySelectorAll(".msg .text"))
        if (inView(text)) seen.add(Number(/^#(\d+)/.exec(text.textContent)[1]));
      nodes = Math.max(nodes, document.getElementsByTagName("*").length);
    };
    const settled = async () => {
      for (let i = 0; i < 600; i++) {
        const filled = [...scroller.querySelectorAll(".msg")].some(inView);
        if (filled && ![...scroller.querySelectorAll(".skeleton")].some(inView)) return;
        await frame();
      }
      throw new Error("nothing came");
    };
    look();
    while (!seen.has(0) && ++steps < count) {
      const row = [...scroller.querySelectorAll(".msg")].find(inView);
      const before = row.getBoundingClientRect().top;
      const by = Math.min(scroller.clientHeight - 60, scroller.scrollTop);
      scroller.scrollTop -= by;
      await frame();
      await frame();
      await settled();
      // Whatever was put in front meanwhile: the row moved by what was scrolled, no more.
      if (row.isConnected) {
        const off = row.getBoundingClientRect().top - before - by;
        if (Math.abs(off) > 3) moved.push(off);
      }
      look();
    }
    const missing = [];
    for (let i = 0; i < count; i++) if (!seen.has(i)) missing.push(i);
    return { missing: missing.slice(0, 20), nodes, moved, steps };
  }, COUNT);
  console.log(`      ${result.steps} steps, at most ${result.nodes} elements`);
  assert.deepEqual(result.missing, []);
  assert.deepEqual(result.moved, []);
  assert.ok(result.nodes < 3000, `${result.nodes} elements`);
  await picture(bob, "long");

  // The scroll bar reaches any place at once, and the button leads back.
  await bob.evaluate(() => {
    const scroller = document.querySelector(".scroller");
    scroller.scrollTop = scroller.scrollHeight / 2;
  });
  await bob.waitForFunction(() => {
    const view = document.querySelector(".scroller").getBoundingClientRect();
    const row = [...document.querySelectorAll(".msg")].find(
      (each) => each.getBoundingClientRect().top > view.top,
    );
    const n = Number(/#(\d+)/.exec(row?.textContent ?? "")?.[1]);
    return row && row.getBoundingClientRect().top < view.bottom && n > 1000 && n < 3000;
  });
  // New ones come meanwhile: nothing moves, the count says so.
  await say(alice, "at the end");
  await bob.waitForSelector(".to-end .badge");
  const reads = bob.reads;
  await bob.click(".to-end");
  await shown(bob, "at the end");
  assert.ok(bob.reads > reads, "what was far away was dropped, and is read again");
  await bob.waitForSelector(".to-end", { state: "detached" });
  // A quote leads to the message it quotes.
  await bob.locator(".quote").last().click();
  await bob.waitForSelector(".msg.flash");
  await finish(alice, bob);
});

await runTests();
