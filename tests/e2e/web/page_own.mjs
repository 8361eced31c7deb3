// page_own.mjs: what a user keeps from others, links into groups, threads, what was said before.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { runTests, test, tokens, url } from "./lib.mjs";
import {
  act,
  choose,
  conv,
  finish,
  focused,
  message,
  newGroup,
  open,
  pair,
  picture,
  request,
  say,
  shown,
  showsReactions,
  visibleTexts,
} from "./page_lib.mjs";

const FIELD = ".composer textarea";

async function direct(page, user) {
  await page.click("text=New chat");
  await page.fill("[name=user]", user);
  await page.click("text=Start chat");
  await page.waitForSelector(`.bar h1:text-is("${user}")`);
  return page.evaluate(() => decodeURIComponent(location.hash.slice("#/c/".length)));
}

test("blocked: nothing comes of him; the list of them, and back again", async () => {
  const [alice, mallory] = [await open("alice"), await open("mallory")];
  const c = await direct(alice, "mallory");
  await mallory.click(conv(c));
  await mallory.waitForSelector(".bar .what span:text-is('online')");
  await choose(alice, c, "Block");
  await alice.waitForSelector(".composer .closed:has-text('You have blocked mallory')");
  assert.equal(await alice.locator(FIELD).count(), 0);
  await mallory.waitForSelector(".bar .what span:text-is('offline')");
  const text = `let me in ${randomUUID()}`;
  await say(mallory, text);
  await mallory.waitForSelector(".refusal:has-text('Not sent')");
  await alice.reload();
  await alice.waitForSelector(".composer .closed");
  await alice.click("[aria-label='Your settings, alice']");
  await alice.waitForSelector("dialog [aria-label=Blocked] li:has-text('mallory')");
  await picture(alice, "blocked");
  await alice.click("dialog [aria-label='Unblock mallory']");
  await alice.waitForSelector("dialog .hint:text-is('Nobody is blocked.')");
  await alice.keyboard.press("Escape");
  await alice.waitForSelector(FIELD);
  await mallory.waitForSelector(".bar .what span:text-is('online')");
  await mallory.click(".refusal button:text-is('Try again')");
  await shown(alice, text);
  await finish(alice, mallory);
});

test("privacy: who does not want it is not shown to be there", async () => {
  const [alice, bob] = [await open("alice"), await open("bob")];
  await direct(alice, "bob");
  await alice.waitForSelector(".bar .what span:text-is('online')");
  await bob.click("[aria-label='Your settings, bob']");
  await bob.waitForSelector("dialog [name=presence]:checked");
  await bob.uncheck("dialog [name=presence]");
  await alice.waitForSelector(".bar .what span:text-is('offline')");
  await bob.reload();
  await bob.click("[aria-label='Your settings, bob']");
  await bob.waitForSelector("dialog [name=presence]:not(:checked):not(:disabled)");
  await bob.check("dialog [name=presence]");
  await alice.waitForSelector(".bar .what span:text-is('online')");
  await finish(alice, bob);
});

test("deleted for oneself: gone on all own devices, still there for the others", async () => {
  const { alice, bob, c } = await pair("mine");
  const phone = await open("bob");
  await phone.click(conv(c));
  for (const text of ["stays", "goes", "last"]) await say(alice, text);
  for (const page of [alice, bob, phone]) await shown(page, "last");
  await act(bob, "goes", "Delete");
  assert.equal(await bob.locator("dialog button:text-is('Delete for everyone')").count(), 0);
  await bob.click("dialog button:text-is('Delete for me')");
  await act(bob, "last", "Delete");
  await bob.click("dialog button:text-is('Delete for me')");
  for (const page of [bob, phone]) {
    for (const text of ["goes", "last"])
      await page.waitForSelector(message(text), { state: "detached" });
    await page.waitForSelector(`${conv(c)} .preview:has-text("stays")`);
    assert.deepEqual(await visibleTexts(page), ["stays"]);
  }
  assert.equal(await bob.locator(".line:text-is('Message deleted')").count(), 0);
  await bob.reload();
  await shown(bob, "stays");
  assert.deepEqual(await visibleTexts(bob), ["stays"]);
  assert.deepEqual(await visibleTexts(alice), ["stays", "goes", "last"]);
  await finish(alice, bob, phone);
});

test("invites: a link leads in; once it is taken back it does not", async () => {
  const alice = await open("alice");
  const name = `open house ${randomUUID().slice(0, 6)}`;
  const c = await newGroup(alice, name, []);
  await alice.click("[aria-label=Settings]");
  await alice.selectOption("dialog [aria-label='Works for']", "10");
  await alice.click("dialog button:text-is('New link')");
  const link = await alice.inputValue("dialog [aria-label='Link by alice']");
  await alice.waitForSelector("dialog .hint:has-text('used 0 of 10')");
  await picture(alice, "invites");
  assert.ok(link.startsWith(`${url}/?join=`), link);
  const carol = await open(null);
  await carol.goto(`${link}#token=${tokens.carol}`);
  await carol.waitForSelector("dialog h2:text-is('Join the group?')");
  assert.equal(carol.url(), `${url}/`);
  await picture(carol, "join");
  await carol.click("dialog button:text-is('Join')");
  await carol.waitForSelector(`.bar h1:text-is("${name}")`);
  await alice.waitForSelector("dialog .hint:has-text('used 1 of 10')");
  await alice.click("dialog [aria-label='Take the link back']");
  await alice.waitForSelector("dialog .invites li", { state: "detached" });
  await alice.keyboard.press("Escape");
  await alice.waitForSelector(".line:text-is('carol joined')");
  await alice.waitForSelector(".line:text-is('You took an invite link back')");
  await carol.click("[aria-label=Settings]");
  await carol.waitForSelector("dialog .hint");
  assert.equal(await carol.locator("dialog .invites").count(), 0);
  const mallory = await open(null);
  await mallory.goto(link); // asks for a token first
  await mallory.fill(".gate input", tokens.mallory);
  await mallory.click(".gate button");
  await mallory.click("dialog button:text-is('Join')");
  await mallory.waitForSelector("dialog [role=alert]:has-text('works no more')");
  await mallory.click("dialog button:text-is('Not now')");
  await mallory.waitForSelector(".welcome h1");
  assert.equal(await mallory.locator(conv(c)).count(), 0);
  await finish(alice, carol, mallory);
});

test("edits: what it said before, for those who may know", async () => {
  const { alice, bob } = await pair("ink");
  await say(bob, "Four o'clock");
  await shown(alice, "Four o'clock");
  await act(bob, "Four o'clock", "Edit");
  await bob.fill(FIELD, "Five o'clock");
  await bob.keyboard.press("Enter");
  await shown(alice, "Five o'clock");
  for (const page of [alice, bob]) {
    await page.click(`${message("Five o'clock")} .edited`);
    await page.waitForSelector("dialog .versions li >> nth=1");
    const texts = await page.$$eval("dialog .versions .text", (all) =>
      all.map((each) => each.textContent),
    );
    assert.deepEqual(texts, ["Four o'clock", "Five o'clock"]);
    await page.keyboard.press("Escape");
  }
  // Of hers he, who runs nothing, sees only that it was.
  await say(alice, "draft");
  await act(alice, "draft", "Edit");
  await alice.fill(FIELD, "final");
  await alice.keyboard.press("Enter");
  await bob.waitForSelector(`${message("final")} .meta:has-text("edited")`);
  assert.equal(await bob.locator(`${message("final")} .edited`).count(), 0);
  await finish(alice, bob);
});

test("threads: begun from a message, counted where unread, read where they are looked at", async () => {
  const { alice, bob, c } = await pair("threads");
  const phone = await open("bob");
  await phone.click(conv(c));
  await say(alice, "Where to?");
  await say(alice, "Who drives?");
  await shown(bob, "Who drives?");
  await bob.waitForSelector("[aria-label=Threads]");
  await act(alice, "Where to?", "Thread");
  await alice.waitForSelector(".thread .msg:has-text('Where to?')");
  const reply = async (page, text) => {
    await page.fill(".thread textarea", text);
    await page.keyboard.press("Enter");
    await page.waitForSelector(`.thread .msg:has-text("${text}")`);
  };
  await reply(alice, "To the lake");
  await reply(alice, "Or the hills");
  for (const page of [bob, phone]) {
    await page.waitForSelector("[aria-label='Threads, 2 unread replies'] .badge:text-is('2')");
    await page.waitForSelector(`${message("Where to?")} .replies-of:has-text("2 replies")`);
    await page.waitForSelector(`${message("To the lake")} .in-thread:has-text("Where to?")`);
  }
  await phone.reload();
  await phone.waitForSelector("[aria-label='Threads, 2 unread replies']");
  await phone.waitForSelector(`${message("Where to?")} .replies-of:has-text("2 replies")`);
  await bob.click("[aria-label='Threads, 2 unread replies']");
  await bob.waitForSelector(".to-thread:has-text('Where to?') .badge:text-is('2')");
  await picture(bob, "threads");
  await bob.click(".to-thread:has-text('Where to?')");
  await bob.waitForSelector(".thread .msg:has-text('Or the hills')");
  for (const page of [bob, phone]) await page.waitForSelector("[aria-label=Threads]");
  await reply(bob, "The hills, @alice!");
  await alice.waitForSelector(".thread .msg:has-text('The hills') .at.me");
  await picture(alice, "thread");
  await alice.waitForSelector("[aria-label=Threads]"); // it is open: nothing is unread
  await act(alice, "To the lake", "Delete");
  await alice.click("dialog button:text-is('Delete for everyone')");
  for (const page of [alice, bob])
    await page.waitForSelector(".thread .msg:has-text('To the lake')", {
      state: "detached",
    });
  await phone.reload();
  await phone.click(`${message("Where to?")} .replies-of`);
  await phone.waitForSelector(".thread .msg:has-text('The hills')");
  const texts = await phone.$$eval(".thread .msg .text", (all) =>
    all.map((each) => each.textContent),
  );
  assert.deepEqual(texts, ["Where to?", "Or the hills", "The hills, @alice!"]);
  await phone.click(".thread [aria-label='All threads']");
  await phone.waitForSelector(".to-thread:has-text('Where to?')");
  // One more in a thread that is known: counted at once.
  await bob.click(".thread [aria-label=Close]");
  await reply(alice, "Settled then");
  await phone.waitForSelector(".to-thread:has-text('Where to?') .badge:text-is('1')");
  await bob.waitForSelector("[aria-label='Threads, 1 unread reply']");
  await finish(alice, bob, phone);
});

test("in a thread messages are answered, edited, reacted to and deleted as elsewhere", async () => {
  const { alice, bob, c } = await pair("seams");
  const both = [alice, bob];
  const inThread = (text) => `.thread ${message(text)}`;
  await say(alice, "Red or blue?");
  await shown(bob, "Red or blue?");
  for (const page of both) {
    await act(page, "Red or blue?", "Thread");
    await page.waitForSelector(inThread("Red or blue?"));
  }
  assert.equal(await focused(alice), "Reply in the thread");
  const write = async (page, text) => {
    await page.fill(".thread textarea", text);
    await page.keyboard.press("Enter");
  };
  await write(alice, "Red");
  await write(alice, "Rather blue");
  await bob.waitForSelector(inThread("Rather blue"));
  assert.equal(await bob.locator(".thread .in-thread, .thread .replies-of").count(), 0);

  // Answered by quoting: the quote leads to what it quotes, which is in the thread.
  await act(bob, "Red", "Reply", ".thread");
  await bob.waitForSelector(".thread .about:has-text('Reply to alice')");
  assert.equal(await bob.locator(".talk .about").count(), 0, "the other field is left alone");
  await write(bob, "Why not");
  await alice.waitForSelector(`${inThread("Why not")} .quote:has-text("Red")`);
  await alice.click(`${inThread("Why not")} .quote`);
  await alice.waitForSelector(".thread .msg.flash:has-text('Red')");
  for (const page of both)
    await page.waitForSelector(`.messages ${message("Why not")} .quote:has-text("Red")`);

  // Edited: by the button, and by the arrow in an empty field.
  await act(alice, "Rather blue", "Edit", ".thread");
  assert.equal(await alice.inputValue(".thread textarea"), "Rather blue");
  await write(alice, "Blue, really");
  for (const page of both) {
    await page.waitForSelector(`${inThread("Blue, really")} .meta:has-text("edited")`);
    await page.waitForSelector(`.messages ${message("Blue, really")}`);
  }
  await alice.click(`${inThread("Blue, really")} .edited`);
  await alice.waitForSelector("dialog .versions li:has-text('Rather blue')");
  await alice.keyboard.press("Escape");
  await bob.focus(".thread textarea");
  await bob.keyboard.press("ArrowUp");
  await bob.waitForSelector(".thread .about:has-text('Edit message')");
  await write(bob, "Why not green");
  await alice.waitForSelector(inThread("Why not green"));

  // Reacted to, by the mouse and by keys; the root, too.
  await act(bob, "Blue, really", "React", ".thread");
  await bob.click(".picker [aria-label='party popper']");
  await showsReactions(bob, "Blue, really", ["🎉 1 mine"], ".thread");
  await showsReactions(alice, "Blue, really", ["🎉 1"], ".thread");
  await alice.click(`${inThread("Blue, really")} .reaction`);
  for (const where of [".thread", ".messages"])
    for (const page of both)
      await showsReactions(page, "Blue, really", ["🎉 2 mine"], where);
  await bob.focus(inThread("Why not green"));
  for (const text of ["Blue, really", "Red", "Red or blue?"]) {
    await bob.keyboard.press("ArrowUp");
    await bob.waitForFunction(
      (text) => document.activeElement.querySelector(".text")?.textContent === text,
      text,
    );
  }
  await bob.keyboard.press("+");
  await bob.waitForSelector(".picker[open]");
  await bob.keyboard.press("Enter");
  for (const where of [".thread", ".messages"])
    await showsReactions(alice, "Red or blue?", ["👍 1"], where);

  // Escape leaves; what was begun is there again when it is opened.
  await bob.fill(".thread textarea", "Perhaps");
  await bob.keyboard.press("Escape");
  await bob.waitForSelector(".thread", { state: "detached" });
  assert.equal(await focused(bob), "Message");
  await bob.focus(`.messages ${message("Red or blue?")}`);
  await bob.keyboard.press("t");
  await bob.waitForSelector(inThread("Why not green"));
  assert.equal(await focused(bob), "Reply in the thread");
  assert.equal(await bob.inputValue(".thread textarea"), "Perhaps");
  await bob.fill(".thread textarea", "");

  // Deleted for all, and for oneself.
  await act(alice, "Red", "Delete", ".thread");
  await alice.click("dialog button:text-is('Delete for everyone')");
  for (const page of both) await page.waitForSelector(inThread("Red"), { state: "detached" });
  await act(alice, "Blue, really", "Delete", ".thread");
  await alice.click("dialog button:text-is('Delete for me')");
  const texts = (page) =>
    page.$$eval(".thread .msg .text", (all) => all.map((each) => each.textContent));
  await alice.waitForSelector(inThread("Blue, really"), { state: "detached" });
  assert.deepEqual(await texts(alice), ["Red or blue?", "Why not green"]);
  assert.deepEqual(await texts(bob), ["Red or blue?", "Blue, really", "Why not green"]);
  await picture(bob, "in-thread");

  // What is refused says so here, too; and what has had its time goes.
  await request({ op: "meta", c, announce: true });
  await bob.waitForSelector(".thread .closed:has-text('Only owners and admins write here.')");
  await bob.hover(`${inThread("Blue, really")} .bubble`);
  await bob.waitForSelector(`${inThread("Blue, really")} .tools`);
  assert.equal(await bob.locator(".thread .tools [aria-label=Reply]").count(), 0);
  await request({ op: "meta", c, announce: false, ttl: 2 });
  await bob.waitForSelector(".thread textarea");
  await write(bob, "Gone soon");
  await alice.waitForSelector(inThread("Gone soon"));
  for (const page of both)
    await page.waitForSelector(inThread("Gone soon"), { state: "detached" });

  // All of it is the same when it is read anew.
  await bob.reload();
  await bob.click(`${message("Red or blue?")} .replies-of`);
  await bob.waitForSelector(inThread("Why not green"));
  assert.deepEqual(await texts(bob), ["Red or blue?", "Blue, really", "Why not green"]);
  await showsReactions(bob, "Blue, really", ["🎉 2 mine"], ".thread");
  await showsReactions(bob, "Red or blue?", ["👍 1 mine"], ".thread");
  await act(alice, "Red or blue?", "Delete", ".thread");
  await alice.click("dialog button:text-is('Delete for everyone')");
  for (const page of both)
    await page.waitForSelector(".thread .nothing:text-is('Message deleted')");
  await finish(alice, bob);
});

test("in a large group it is shown how many have read the newest message", async () => {
  const alice = await open("alice");
  const crowd = Array.from({ length: 33 }, (_, i) => `guest${i}`);
  const c = await newGroup(alice, `hall ${randomUUID().slice(0, 6)}`, [
    "bob",
    "carol",
    ...crowd,
  ]);
  await say(alice, "Welcome");
  await alice.waitForSelector(`.block ${message("Welcome")}`);
  const s = Number(await alice.getAttribute(`.block ${message("Welcome")}`, "data-s"));
  await request({ op: "mark", c, read: s }, "bob");
  await alice.waitForSelector(".seen-by:text-is('Read by 1')");
  await request({ op: "mark", c, read: s }, "carol");
  await alice.waitForSelector(".seen-by:text-is('Read by 2')");
  await alice.click(".seen-by");
  await alice.waitForSelector("dialog .hint:text-is('2 people')");
  await alice.reload();
  await alice.waitForSelector(".seen-by:text-is('Read by 2')");
  await finish(alice);
});

await runTests();
