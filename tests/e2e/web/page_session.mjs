// page_session.mjs: tokens, connections that go and come, and what happens meanwhile.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { runTests, Server, test, tokens, url } from "./lib.mjs";
import {
  conv,
  fill,
  finish,
  message,
  newGroup,
  open,
  picture,
  say,
  shown,
  visibleTexts,
} from "./page_lib.mjs";

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

await runTests();
