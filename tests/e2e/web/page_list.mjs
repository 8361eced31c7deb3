// page_list.mjs: the list of conversations on several devices of one user, and drafts.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { setTimeout as rest } from "node:timers/promises";
import { runTests, test, tokens, until, url } from "./lib.mjs";
import {
  choose,
  conv,
  finish,
  focused,
  group,
  newGroup,
  open,
  picture,
  request,
  say,
  shown,
} from "./page_lib.mjs";

const FOR_EVER = 8.64e15;
const FIELD = ".composer textarea";

/** Two devices of alice's, and a new group of hers and bob's; it is open on the first one. */
async function devices(name, options = {}) {
  const [desk, phone] = [await open("alice", options), await open("alice", options)];
  const c = await group(name, ["bob", "carol"]);
  await desk.click(conv(c));
  await desk.waitForSelector(FIELD);
  await phone.waitForSelector(conv(c));
  return { desk, phone, c };
}
const send = (c, text, more = {}, user = "bob") =>
  request({ op: "send", c, kind: "text", body: { text }, ...more }, user);
const place = (page, c) =>
  page.$eval(conv(c), (row) => Number(row.closest("li").getAttribute("aria-posinset")));
/** These stand in this order, whatever else is there. */
const inOrder = (page, ...all) =>
  until(`the order ${all}`, async () => {
    const places = [];
    for (const c of all) places.push(await place(page, c));
    return places.every((at, i) => i === 0 || places[i - 1] < at);
  });
const titleCount = async (page) => Number(/^\((\d+)\)/.exec(await page.title())?.[1] ?? 0);
const draft = (c, text) => `${conv(c)} .preview:has(.draft):has-text("${text}")`;
/** Sooner than what is still being typed. */
async function savesAtOnce(page, act) {
  const before = page.drafts.length;
  await act();
  await until("a draft is saved", () => page.drafts.length > before, 1500);
}
/** The draft that the server has. */
async function kept(c) {
  const headers = { authorization: `Bearer ${tokens.alice}` };
  const answer = await fetch(`${url}/v1/conversations/${encodeURIComponent(c)}`, { headers });
  return (await answer.json()).draft;
}
/** The clocks of these pages run fast until this has happened: they wait for seconds by design. */
async function soon(pages, happens) {
  let over = false;
  happens.finally(() => (over = true)).catch(() => undefined);
  while (!over) {
    for (const page of pages) await page.clock.fastForward(400);
    await rest(40);
  }
  await happens;
}
const hasText = (page, text) =>
  until(`the field says ${text}`, async () => (await page.inputValue(FIELD)) === text);

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

test("pinned on one device: first on the other one, too, until it is unpinned", async () => {
  const { desk, phone, c } = await devices("pinned");
  const others = [];
  for (const name of ["later", "latest"])
    others.unshift(await newGroup(desk, `${name} ${randomUUID().slice(0, 6)}`, []));
  for (const page of [desk, phone]) await inOrder(page, ...others, c);
  await choose(desk, c, "Pin to the top");
  for (const page of [desk, phone]) {
    await page.waitForSelector(`${conv(c)} .mark.pin`);
    await inOrder(page, c, ...others);
  }
  others.reverse();
  await send(others[0], "the newest of all", {}, "alice");
  await phone.waitForSelector(`${conv(others[0])} .preview:has-text('the newest of all')`);
  await inOrder(phone, c, ...others);
  await phone.reload();
  await phone.waitForSelector(`${conv(c)} .mark.pin`);
  await inOrder(phone, c, ...others);
  await choose(phone, c, "Unpin");
  for (const page of [desk, phone]) {
    await inOrder(page, ...others, c);
    assert.equal(await page.locator(`${conv(c)} .mark.pin`).count(), 0);
  }
  await finish(desk, phone);
});

test("muted: no colour and no count in the title, but mentions still count", async () => {
  const { desk, phone, c } = await devices("muted");
  await newGroup(desk, `elsewhere ${randomUUID().slice(0, 6)}`, []);
  const before = await titleCount(phone);
  await choose(desk, c, "Mute for 8 hours");
  for (const page of [desk, phone]) await page.waitForSelector(`${conv(c)} .mark.mute`);
  await send(c, "chatter");
  for (const page of [desk, phone])
    await page.waitForSelector(`${conv(c)} .badge.quiet:text-is("1")`);
  assert.equal(await phone.locator(`${conv(c)}.unread`).count(), 0);
  assert.equal(await titleCount(phone), before);
  await send(c, "alice, please", { mentions: ["alice"] });
  for (const page of [desk, phone]) {
    await page.waitForSelector(`${conv(c)} .mention:text-is("@1")`);
    await page.waitForSelector(`${conv(c)} .badge.quiet:text-is("2")`);
    await until("the title counts it", async () => (await titleCount(page)) === before + 1);
  }
  await picture(desk, "muted");
  await choose(phone, c, "Unmute");
  for (const page of [desk, phone]) {
    await page.waitForSelector(`${conv(c)} .mark.mute`, { state: "detached" });
    await page.waitForSelector(`${conv(c)}.unread .badge:not(.quiet):text-is("2")`);
    await until("the title counts all", async () => (await titleCount(page)) === before + 2);
  }
  // Muted for a while: heard again by itself.
  await request({ op: "prefs", c, muted_until: Date.now() + 1500 });
  for (const page of [desk, phone]) await page.waitForSelector(`${conv(c)} .mark.mute`);
  for (const page of [desk, phone])
    await page.waitForSelector(`${conv(c)} .mark.mute`, { state: "detached" });
  await request({ op: "prefs", c, muted_until: FOR_EVER });
  await phone.waitForSelector(`${conv(c)} .mark.mute`);
  await phone.hover(conv(c));
  await phone.click(`${conv(c)} + .more`);
  const title = await phone.getAttribute(".menu [role=menuitem]:text-is('Unmute')", "title");
  assert.equal(title, "Muted for ever");
  await phone.keyboard.press("Escape");
  await finish(desk, phone);
});

test("mentions: who is named sees it in the list, until it is read; others don't", async () => {
  const { desk, phone, c } = await devices("mentions");
  const [bob, carol] = [await open("bob"), await open("carol")];
  await send(c, "hello", {}, "alice");
  await send(c, "bob, look at this", { mentions: ["bob"] }, "alice");
  await bob.waitForSelector(`${conv(c)} .mention:text-is("@1")`);
  await bob.waitForSelector(`${conv(c)} .badge:text-is("2")`);
  await send(c, "and all of you", { mentions: "all" }, "alice");
  await bob.waitForSelector(`${conv(c)} .mention[aria-label='2 mentions']`);
  await carol.waitForSelector(`${conv(c)} .mention:text-is("@1")`);
  await carol.waitForSelector(`${conv(c)} .badge:text-is("3")`);
  await bob.reload();
  await bob.waitForSelector(`${conv(c)} .mention:text-is("@2")`);
  for (const page of [desk, phone])
    assert.equal(await page.locator(`${conv(c)} .mention`).count(), 0, "they are her own");
  await bob.click(conv(c));
  await shown(bob, "and all of you");
  await bob.waitForSelector(`${conv(c)} .mention`, { state: "detached" });
  await bob.reload();
  await shown(bob, "and all of you");
  assert.equal(await bob.locator(`${conv(c)} .mention`).count(), 0);
  assert.equal(await carol.locator(`${conv(c)} .mention`).count(), 1);
  await finish(desk, phone, bob, carol);
});

test("archived: out of the list on all devices; back by hand, and with a new message", async () => {
  const { desk, phone, c } = await devices("archived");
  await send(c, "old news");
  await choose(desk, c, "Archive");
  for (const page of [desk, phone])
    await page.waitForSelector(`.convs ${conv(c)}`, { state: "detached" });
  const toEnd = () =>
    phone.evaluate(() => {
      const list = document.querySelector(".convs");
      list.scrollTop = list.scrollHeight;
    });
  await phone.reload();
  await phone.waitForSelector(".conv");
  await toEnd();
  await phone.click(".archived");
  await phone.waitForSelector(".sidebar strong:text-is('Archived')");
  await phone.waitForSelector(`${conv(c)} .preview:has-text('old news')`);
  assert.equal(await phone.locator(".archived").count(), 0);
  await choose(phone, c, "Back to the list");
  // It was the only one there: the list is shown again.
  for (const page of [desk, phone]) await page.waitForSelector(`.convs ${conv(c)}`);
  await phone.waitForSelector(".sidebar .new");
  await choose(phone, c, "Archive");
  for (const page of [desk, phone])
    await page.waitForSelector(`.convs ${conv(c)}`, { state: "detached" });
  // A search finds it all the same.
  const name = (await desk.textContent(".bar h1")).trim();
  await phone.fill("[type=search]", name);
  await phone.waitForSelector(conv(c));
  await phone.fill("[type=search]", "");
  await phone.waitForSelector(conv(c), { state: "detached" });
  await send(c, "news");
  for (const page of [desk, phone]) {
    await page.waitForSelector(`.convs ${conv(c)} .preview:has-text('news')`);
    assert.equal(await page.locator(".archived").count(), 0);
  }
  await finish(desk, phone);
});

test("the menu by the keyboard and by the right button", async () => {
  const { desk, phone, c } = await devices("menu");
  await desk.focus(conv(c));
  await desk.keyboard.press("Tab");
  assert.match(await focused(desk), /^Options of menu /);
  await desk.keyboard.press("Enter");
  const entry = () => desk.evaluate(() => document.activeElement.textContent);
  assert.equal(await entry(), "Pin to the top");
  for (const [key, name] of [
    ["ArrowDown", "Mute for 1 hour"],
    ["End", "Archive"],
    ["ArrowDown", "Pin to the top"],
    ["ArrowUp", "Archive"],
    ["Home", "Pin to the top"],
  ]) {
    await desk.keyboard.press(key);
    assert.equal(await entry(), name, key);
  }
  await desk.keyboard.press("Escape");
  await desk.waitForSelector(".menu", { state: "detached" });
  assert.match(await focused(desk), /^Options of menu /);
  assert.equal(await desk.locator(`${conv(c)} .mark`).count(), 0);
  await desk.keyboard.press("Enter");
  await desk.keyboard.press("Enter");
  for (const page of [desk, phone]) await page.waitForSelector(`${conv(c)} .mark.pin`);
  assert.match(await focused(desk), /^Options of menu /);
  await phone.click(conv(c), { button: "right" });
  await phone.click(".menu [role=menuitem]:text-is('Unpin')");
  for (const page of [desk, phone])
    await page.waitForSelector(`${conv(c)} .mark.pin`, { state: "detached" });
  // A press beside it closes it and does nothing else.
  await phone.click(conv(c), { button: "right" });
  await phone.waitForSelector(".menu[open]");
  await phone.mouse.click(900, 700);
  await phone.waitForSelector(".menu", { state: "detached" });
  assert.equal(await phone.locator(`${conv(c)} .mark`).count(), 0);
  await finish(desk, phone);
});

test("a draft begun on one device goes on on the other one, and goes when it is sent", async () => {
  const { desk, phone, c } = await devices("draft", { clock: true });
  const both = [desk, phone];
  await send(c, "hi");
  await desk.locator(FIELD).pressSequentially("Dear b");
  await soon(both, phone.waitForSelector(draft(c, "Draft: Dear b")));
  assert.equal(await desk.locator(draft(c, "")).count(), 0, "it is open here");
  await phone.click(conv(c));
  await hasText(phone, "Dear b");
  await phone.locator(FIELD).press("End");
  await phone.locator(FIELD).pressSequentially("ob, come at five");
  await soon(both, hasText(desk, "Dear bob, come at five"));
  await savesAtOnce(phone, () => phone.keyboard.press("Enter"));
  await shown(desk, "Dear bob, come at five");
  for (const page of both) await soon(both, hasText(page, ""));
  // Left at once: it need not wait.
  await desk.fill(FIELD, "not now");
  await savesAtOnce(desk, () => desk.evaluate(() => (location.hash = "")));
  for (const page of [desk, phone]) {
    await page.evaluate(() => (location.hash = ""));
    await soon(both, page.waitForSelector(draft(c, "not now")));
  }
  await desk.reload();
  await desk.click(conv(c));
  await hasText(desk, "not now");
  await desk.fill(FIELD, "");
  await soon(both, phone.waitForSelector(draft(c, ""), { state: "detached" }));
  await phone.waitForSelector(`${conv(c)} .preview:text-is("You: Dear bob, come at five")`);
  await finish(desk, phone);
});

test("a draft: saved now and then, and nothing that comes takes the place of typing", async () => {
  const { desk, phone, c } = await devices("typing", { clock: true });
  const field = desk.locator(FIELD);
  const start = Date.now();
  let typed = "";
  while (Date.now() - start < 6500) {
    await field.pressSequentially("ab ");
    typed += "ab ";
    // From elsewhere, all the time.
    if (typed.length % 15 === 0) await request({ op: "prefs", c, draft: `other ${typed}` });
    assert.equal(await field.inputValue(), typed);
  }
  assert.ok(desk.drafts.length >= 2, `${desk.drafts}`);
  for (const [i, at] of desk.drafts.entries())
    assert.ok(i === 0 || at - desk.drafts[i - 1] > 2900, `${desk.drafts}`);
  await soon(
    [desk],
    until("the last of it is kept", async () => (await kept(c)) === typed),
  );
  // Some time after the last key another device is listened to again.
  await request({ op: "prefs", c, draft: "from elsewhere" });
  await phone.waitForSelector(draft(c, "from elsewhere"));
  assert.equal(await field.inputValue(), typed);
  await soon([desk], hasText(desk, "from elsewhere"));
  await finish(desk, phone);
});

test("a draft written offline outlives its tab, and reaches the other device", async () => {
  const { desk, phone, c } = await devices("offline");
  const context = desk.context();
  await context.setOffline(true);
  await desk.waitForSelector(".banner:has-text('You are offline')");
  await desk.fill(FIELD, "in the tunnel");
  await desk.evaluate(() => (location.hash = ""));
  await desk.waitForSelector(draft(c, "in the tunnel"));
  await desk.close();
  await context.setOffline(false);
  assert.equal(await phone.locator(draft(c, "")).count(), 0);
  const again = await context.newPage();
  await again.goto(`${url}/#token=${tokens.alice}`);
  for (const page of [again, phone]) await page.waitForSelector(draft(c, "in the tunnel"));
  await until("nothing is kept here any more", () =>
    again.evaluate(() => !Object.keys(localStorage).some((key) => key.includes(".draft."))),
  );
  await request({ op: "prefs", c, draft: null });
  await phone.waitForSelector(draft(c, ""), { state: "detached" });
  await again.reload();
  await again.waitForSelector(conv(c));
  assert.equal(await again.locator(draft(c, "")).count(), 0);
  await context.close();
  await finish(phone);
});

await runTests();
