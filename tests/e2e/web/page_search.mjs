// page_search.mjs: messages are found as one types, and lead to where they were written.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { runTests, test, tokens, until, url } from "./lib.mjs";
import {
  conv,
  fill,
  finish,
  focused,
  group,
  message,
  open,
  picture,
  request,
  shown,
} from "./page_lib.mjs";

const FIELD = "[type=search]";
const send = (c, text, user = "alice", more = {}) =>
  request({ op: "send", c, kind: "text", body: { text }, ...more }, user);
/** Letters that nobody else writes in these tests. */
const word = () => `q${randomUUID().replaceAll(/[^a-f]/g, "")}x`;
const hit = (c, s) => `[data-hit="${c} ${s}"]`;
/** Of alice's, in a window of its own; `route` stands between it and the server. */
async function special(options, route = async () => {}) {
  const page = await open(null, options);
  await route(page);
  await page.goto(`${url}/#token=${tokens.alice}`);
  await page.reload();
  await page.waitForSelector(".conv");
  return page;
}
/** `answer` gets what the server says to searches, and what gives it to the page. */
const between = (asks, answer) => (page) =>
  page.routeWebSocket(/\/v1\/ws/, (ws) => {
    const server = ws.connectToServer();
    const ids = new Set();
    ws.onMessage((text) => {
      for (const line of String(text).split("\n"))
        if (asks.test(line)) ids.add(JSON.parse(line).id);
      server.send(text);
    });
    server.onMessage((text) => {
      for (const line of String(text).split("\n"))
        if (!ids.has(JSON.parse(line).id)) ws.send(line);
        else answer(JSON.parse(line), (reply) => ws.send(JSON.stringify(reply)));
    });
  });
const found = (page) =>
  page.$$eval(".hit", (all) => all.map((each) => each.dataset.hit.split(" ").at(-1)).map(Number));
const finds = (page, wanted) =>
  until(`found: ${wanted}`, async () => `${await found(page)}` === `${wanted}`);
const settled = (page) => page.waitForSelector(".found[aria-busy=false]");
/** A row of the conversation in view. */
const inView = (page, text) =>
  page.waitForFunction((selector) => {
    const row = [...document.querySelectorAll(".block .msg")].find(
      (each) => each.querySelector(".text")?.textContent === selector,
    );
    const [box, view] = [row, document.querySelector(".scroller")].map((each) =>
      each?.getBoundingClientRect(),
    );
    return box && box.top >= view.top && box.bottom <= view.bottom;
  }, text);

test("results as one types: of the word so far, marked, the newest first", async () => {
  const page = await open("alice");
  const c = await group("orchard", ["bob"]);
  const w = word();
  const { s: first } = await send(c, `the old ${w}tree`);
  const { s: second } = await send(c, `${"far away ".repeat(30)}<b>${w}trees</b> & more`, "bob");
  const { s: third } = await send(c, `only ${w} here`);
  await page.focus(FIELD);
  await page.keyboard.type(w, { delay: 20 });
  await finds(page, [third, second, first]);
  assert.ok(page.searches.length < w.length, `${page.searches.length} for ${w.length} keys`);
  await page.waitForSelector(".begun");
  assert.equal(await page.textContent(`${hit(c, third)} mark`), w);
  await page.keyboard.type("tree");
  await finds(page, [second, first]);
  assert.equal(await page.locator(".begun").count(), 0, "in its other forms, as a word");
  const row = page.locator(hit(c, second));
  assert.equal(await row.locator("mark").textContent(), `${w}trees`);
  assert.match(await row.locator(".what").textContent(), /^bob: ….*<b>q/);
  assert.match(await row.locator(".title").textContent(), /^orchard /);
  assert.ok(await row.locator("time").getAttribute("title"));
  assert.match(await page.textContent(`${hit(c, first)} .what`), /^You: the old /);
  await until("it is said", async () => (await page.textContent(".spoken")) === "2 messages");
  await page.keyboard.type(" -more");
  await finds(page, [first]);
  await page.fill(FIELD, `from:bob ${w}trees`);
  await finds(page, [second]);
  await page.fill(FIELD, `${w}nothing`);
  await page.waitForSelector(".end:has-text('No message has all of this.')");
  await page.keyboard.press("Escape");
  await page.waitForSelector(".found", { state: "detached" });
  assert.equal(await page.inputValue(FIELD), "");
  await page.waitForSelector(conv(c));
  await finish(page);
});

test("an answer to what was typed before is dropped, however late", async () => {
  const [slow, fast] = [word(), word()];
  const c = await group(`late ${fast}`, []);
  await send(c, slow);
  const { s } = await send(c, fast);
  const late = [];
  const asks = new RegExp(`"op":"search".*${slow}`);
  const page = await special(
    { locale: "en-GB" },
    between(asks, (reply, give) => late.push(() => give(reply))),
  );
  await page.fill(FIELD, slow);
  await until("the answer is there, and held", () => late.length > 0);
  await page.fill(FIELD, fast);
  await finds(page, [s]);
  late.forEach((give) => give());
  // What follows it on the connection is there, so the late one was, too.
  await send(c, "behind the late one");
  await page.waitForSelector(`${conv(c)} .preview:has-text('behind the late one')`);
  assert.deepEqual(await found(page), [s]);
  await finish(page);
});

test("a hit far away: shown with its surroundings, highlighted, with a way back", async () => {
  const page = await open("alice");
  const c = await group("long", ["bob"]);
  const other = await group("open meanwhile", []);
  const w = word();
  const now = Date.now();
  await fill(
    c,
    Array.from({ length: 3000 }, (_, i) => ({
      from: i % 2 ? "alice" : "bob",
      ts: now - (3000 - i) * 60_000,
      text: i === 9 ? `the tenth has ${w}` : `#${i}`,
    })),
  );
  await page.click(conv(other));
  await page.waitForSelector(".composer textarea");
  await page.fill(FIELD, w);
  await page.click(".hit");
  await page.waitForSelector(`.flash${message(`the tenth has ${w}`)}`);
  await inView(page, `the tenth has ${w}`);
  for (const text of ["#8", "#10"]) await inView(page, text);
  assert.match(page.url(), new RegExp(encodeURIComponent(c).replaceAll(/[.*+?^$()]/g, "\\$&")));
  await until("it has the focus", async () => /^bob|^You/.test(await focused(page)));
  assert.equal(await page.getAttribute(".hit", "aria-current"), "true");
  await picture(page, "search");
  await page.click(".to-end");
  await shown(page, "#2999");
  // Once more, from the far end of the same conversation.
  await page.click(".hit");
  await inView(page, `the tenth has ${w}`);
  await finish(page);
});

test("what is deleted, hidden, edited or expired is not found, nor shown any longer", async () => {
  const page = await open("bob");
  const c = await group("gone", ["bob"]);
  const w = word();
  const seqs = [];
  for (const text of ["kept", "deleted", "hidden", "edited"])
    seqs.push((await send(c, `${text} ${w}`, text === "hidden" ? "bob" : "alice")).s);
  await page.fill(FIELD, w);
  await finds(page, seqs.toReversed());
  await request({ op: "delete", c, s: seqs[1], for: "all" });
  await page.waitForSelector(hit(c, seqs[1]), { state: "detached" });
  await request({ op: "delete", c, s: seqs[2], for: "me" }, "bob");
  await page.waitForSelector(hit(c, seqs[2]), { state: "detached" });
  await request({ op: "edit", c, s: seqs[3], body: { text: "says another thing" } });
  await page.waitForSelector(`${hit(c, seqs[3])}:has-text('says another thing'):not(:has(mark))`);
  // Asked again: as the server has it.
  await page.fill(FIELD, `${w} `);
  await finds(page, [seqs[0]]);
  await page.fill(FIELD, "says another thing");
  await page.waitForSelector(hit(c, seqs[3]));
  const { s: brief } = await send(c, `brief ${w}`, "alice", { ttl: 6 });
  await page.fill(FIELD, `brief ${w}`);
  await page.waitForSelector(hit(c, brief));
  await page.waitForSelector(hit(c, brief), { state: "detached" });
  await finish(page);
});

test("others' conversations are not searched; one alone is, by button and by switch", async () => {
  const [alice, carol] = [await open("alice"), await open("carol")];
  const [c, second] = [await group("ours", ["bob"]), await group("mine", [])];
  const w = word();
  const { s } = await send(c, w);
  const { s: apart } = await send(second, `${w} too`);
  await carol.fill(FIELD, w);
  await carol.waitForSelector(".end:has-text('No message has all of this.')");
  assert.equal(await carol.locator(".hit").count(), 0);
  await alice.fill(FIELD, w);
  await alice.waitForSelector(hit(c, s));
  await alice.waitForSelector(hit(second, apart));
  await alice.click(hit(second, apart));
  await alice.click(".scope:has-text('Only in mine')");
  await alice.waitForSelector(".scope[aria-pressed=true]");
  await finds(alice, [apart]);
  await alice.click(".end :text('Search everywhere')");
  await alice.waitForSelector(hit(c, s));
  await alice.press(FIELD, "Escape");
  await alice.click(conv(c));
  await alice.click(".bar [aria-label='Search in this conversation']");
  await until("the field is ready", async () => (await focused(alice)) === "Search");
  await alice.keyboard.type(w);
  await finds(alice, [s]);
  assert.equal(alice.searches.at(-1).c, c);
  await finish(alice, carol);
});

test("what is searched of a group: its language, or nothing at all", async () => {
  const alice = await open("alice");
  const c = await group("Deutsch", []);
  const w = word();
  const first = (await send(c, `${w} Die Häuser am Fluss`)).s;
  await alice.click(conv(c));
  await alice.waitForSelector(".composer textarea");
  const set = async (change) => {
    await alice.click("[aria-label=Settings]");
    await change();
    await alice.click("dialog button:text-is('Save')");
    await alice.waitForSelector("dialog", { state: "detached" });
  };
  await alice.fill(FIELD, `häusern ${w}`);
  await settled(alice);
  await finds(alice, []);
  await set(async () => {
    await picture(alice, "settings");
    await alice.selectOption("dialog [name=lang]", { label: "German" });
  });
  await alice.waitForSelector(".line:has-text('set the language of search to German')");
  await until("it is found by another form", async () => {
    await alice.fill(FIELD, "");
    await alice.fill(FIELD, `häusern ${w}`);
    await settled(alice);
    return `${await found(alice)}` === `${first}`;
  });
  await set(() => alice.setChecked("dialog [name=searchable]", false));
  await alice.waitForSelector(".line:has-text('turned search off')");
  await alice.click(".bar [aria-label='Search in this conversation']");
  await alice.fill(FIELD, w);
  await alice.waitForSelector(".end :text('Search is off here')");
  await finds(alice, []);
  await set(() => alice.setChecked("dialog [name=searchable]", true));
  await until("it is found again", async () => {
    await alice.fill(FIELD, "");
    await alice.fill(FIELD, w);
    await settled(alice);
    return `${await found(alice)}` === `${first}`;
  });
  assert.equal(await alice.locator(".end :text('Search is off here')").count(), 0);
  await finish(alice);
});

test("by the keyboard alone: / and Ctrl+K, arrows, Enter, Escape", async () => {
  const page = await open("alice");
  const c = await group("keys", []);
  const w = word();
  const seqs = [];
  for (const text of ["one", "two", "three"]) seqs.unshift((await send(c, `${text} ${w}`)).s);
  await page.keyboard.press("/");
  assert.equal(await focused(page), "Search");
  assert.equal(await page.inputValue(FIELD), "");
  await page.keyboard.type(w);
  await finds(page, seqs);
  const at = () => page.evaluate(() => document.activeElement.dataset.hit?.split(" ").at(-1));
  for (const s of [seqs[0], seqs[1], seqs[2], seqs[2]]) {
    await page.keyboard.press("ArrowDown");
    assert.equal(await at(), String(s));
  }
  await page.keyboard.press("ArrowUp");
  assert.equal(await at(), String(seqs[1]));
  await page.keyboard.press("Enter");
  await until("the message has the focus", () =>
    page.evaluate((s) => document.activeElement.dataset.s === String(s), seqs[1]),
  );
  assert.equal(await page.textContent(":focus .text"), `two ${w}`);
  await page.keyboard.press("ArrowUp");
  assert.equal(await page.textContent(":focus .text"), `one ${w}`);
  // Where somebody writes it is a sign like others; with Ctrl it is never one.
  await page.focus(".composer textarea");
  await page.keyboard.type("1/2");
  assert.equal(await page.inputValue(".composer textarea"), "1/2");
  await page.keyboard.press("Control+k");
  assert.equal(await focused(page), "Search");
  await page.keyboard.press("ArrowDown");
  assert.equal(await at(), String(seqs[1]), "the one that was visited");
  await page.keyboard.press("Escape");
  await page.waitForSelector(".found", { state: "detached" });
  assert.equal(await focused(page), "Search");
  // The name of a conversation comes first, and Enter opens it.
  await page.evaluate(() => (location.hash = ""));
  await page.waitForSelector(".talk", { state: "detached" });
  const name = (await page.textContent(`${conv(c)} .title`)).trim();
  await page.keyboard.type(name);
  await settled(page);
  await page.keyboard.press("Enter");
  await page.waitForSelector(`.bar h1:text-is("${name}")`);
  await page.press(FIELD, "Escape");
  await page.focus("[aria-label='How to search']");
  await page.keyboard.press("Enter");
  await page.waitForSelector(".tips:has-text('from:me')");
  await finish(page);
});

test("many hits: they come as one scrolls, each once; so do those that are begun", async () => {
  const page = await open("alice");
  const c = await group("many", []);
  const w = word();
  const now = Date.now();
  await fill(
    c,
    Array.from({ length: 130 }, (_, i) => ({
      from: "alice",
      ts: now - (130 - i) * 1000,
      text: i < 65 ? `${w}less ${i}` : `${w} ${i}`,
    })),
  );
  await page.fill(FIELD, w);
  await page.waitForSelector(".hit >> nth=19");
  await settled(page);
  assert.ok((await found(page)).length < 65, "not all at once");
  await until("the end", async () => {
    await page.evaluate(() => document.querySelector(".found").scrollTo(0, 1e6));
    return (await found(page)).length === 130;
  });
  await settled(page);
  const all = await found(page);
  assert.deepEqual(all, all.toSorted((a, b) => b - a), "each once, the newest first");
  assert.equal(new Set(all).size, 130);
  assert.equal(await page.locator(".begun").count(), 1);
  await finish(page);
});

test("an index that is behind is told of; what could not be read is tried again", async () => {
  const c = await group("behind", []);
  const w = word();
  const { s } = await send(c, w);
  let mode = "partial";
  const err = { code: "internal", msg: "no luck", retry: false };
  const page = await special(
    { locale: "en-GB" },
    between(/"op":"search"/, (reply, give) => {
      if (mode === "partial") reply.ok.indexed = { behind: 70_000, complete: false };
      give(mode === "broken" ? { id: reply.id, err } : reply);
    }),
  );
  await page.fill(FIELD, w);
  await finds(page, [s]);
  await page.waitForSelector(".end:has-text('The index is not complete yet')");
  mode = "broken";
  await page.fill(FIELD, `${w} `);
  await page.waitForSelector(".end .error:has-text('no luck')");
  assert.deepEqual(await found(page), []);
  mode = "fine";
  await page.click(".end :text('Try again')");
  await finds(page, [s]);
  assert.equal(await page.locator(".end .error").count(), 0);
  assert.ok(!(await page.textContent(".end")).includes("not complete"));
  await finish(page);
});

test("a phone: from a conversation to its search, the message, back to the results", async () => {
  const c = await group("a pocket with a name that is long", ["bob"]);
  const w = word();
  const { s } = await send(c, `${"a long message ".repeat(8)}${w} ${"w".repeat(200)}`, "bob");
  for (const colorScheme of ["light", "dark"]) {
    const small = { viewport: { width: 360, height: 640 }, hasTouch: true, isMobile: true };
    const phone = await special({ ...small, colorScheme });
    const fits = () => phone.evaluate(() => document.documentElement.scrollWidth <= innerWidth);
    await phone.tap(conv(c));
    await phone.waitForSelector(".composer textarea");
    assert.ok(await fits());
    await phone.tap(".bar [aria-label='Search in this conversation']");
    await phone.waitForSelector(".scope[aria-pressed=true]");
    assert.equal(await phone.isVisible(".talk"), false);
    await until("the field is ready", async () => (await focused(phone)) === "Search");
    await phone.keyboard.type(w);
    await finds(phone, [s]);
    assert.ok(await fits());
    const box = await phone.locator(hit(c, s)).boundingBox();
    assert.ok(box.x >= 0 && box.x + box.width <= 360, JSON.stringify(box));
    const mark = await phone.locator(`${hit(c, s)} mark`).boundingBox();
    assert.ok(mark.y + mark.height <= box.y + box.height, "what was found is not cut off");
    await picture(phone, `phone-search-${colorScheme}`);
    await phone.tap(hit(c, s));
    await phone.waitForSelector(".msg.flash");
    assert.equal(await phone.isVisible(".sidebar"), false);
    await phone.tap("[aria-label='Back to the list']");
    await phone.waitForSelector(`${hit(c, s)}.visited`);
    await finish(phone);
  }
});

await runTests();
