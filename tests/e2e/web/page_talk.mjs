// page_talk.mjs: messages and what people do with them: chat, answer, edit, read, react, pin.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { runTests, test, until } from "./lib.mjs";
import {
  act,
  conv,
  fill,
  finish,
  focused,
  message,
  newGroup,
  open,
  pair,
  picture,
  reactions,
  request,
  say,
  shown,
  showsReactions,
  visibleTexts,
} from "./page_lib.mjs";

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
  await alice.click("dialog button:text-is('Delete for everyone')");
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
  // Either pins, and sets how long messages stay and what is searched; there is nothing else to set.
  await act(bob, text, "Pin");
  await alice.waitForSelector(`.pins .newest:has-text("${text}")`);
  await alice.waitForSelector(".line:has-text('bob pinned a message')");
  await act(alice, text, "Unpin");
  await bob.waitForSelector(".pins", { state: "detached" });
  await bob.click("[aria-label=Settings]");
  const fields = await bob.$$eval("dialog :is(input, select)", (all) => all.map((x) => x.name));
  assert.deepEqual(fields, ["ttl", "lang", "searchable"]);
  await bob.selectOption("dialog [name=ttl]", { label: "disappear after 1 day" });
  await bob.click("dialog button:text-is('Save')");
  await alice.waitForSelector(".bar .ttl:has-text('1 day')");
  await request({ op: "meta", c, ttl: null });
  await alice.waitForSelector(".bar .ttl", { state: "detached" });
  await finish(alice, bob);
});

test("reactions: what one puts on, the other sees, joins, and takes off", async () => {
  const { alice, bob } = await pair("reactions");
  await say(alice, "Cake at four");
  await shown(bob, "Cake at four");
  await act(bob, "Cake at four", "React");
  await bob.click(".picker [aria-label='party popper']");
  await bob.waitForSelector(".picker", { state: "detached" });
  await showsReactions(bob, "Cake at four", ["🎉 1 mine"]);
  await showsReactions(alice, "Cake at four", ["🎉 1"]);
  const chip = `${message("Cake at four")} .reaction[data-emoji="🎉"]`;
  assert.equal(await alice.getAttribute(chip, "title"), "🎉 1 person");
  await alice.click(chip);
  for (const page of [alice, bob]) await showsReactions(page, "Cake at four", ["🎉 2 mine"]);
  assert.equal(await alice.getAttribute(chip, "aria-label"), "party popper, you and 1 other");
  await bob.click(chip);
  await showsReactions(bob, "Cake at four", ["🎉 1"]);
  await showsReactions(alice, "Cake at four", ["🎉 1 mine"]);
  // Without a connection it shows at once, and lands later; off again, it was never there.
  await bob.context().setOffline(true);
  await bob.waitForSelector(".banner:has-text('You are offline')");
  await bob.click(chip);
  await showsReactions(bob, "Cake at four", ["🎉 2 mine"]);
  await showsReactions(alice, "Cake at four", ["🎉 1 mine"]);
  await bob.context().setOffline(false);
  await showsReactions(alice, "Cake at four", ["🎉 2 mine"]);
  await say(alice, "And tea");
  await shown(bob, "And tea");
  await showsReactions(bob, "Cake at four", ["🎉 2 mine"]);
  for (const page of [alice, bob]) {
    await page.reload();
    await shown(page, "And tea");
    await showsReactions(page, "Cake at four", ["🎉 2 mine"]);
  }
  await finish(alice, bob);
});

test("reactions by the keyboard: arrows, Enter, Escape, and any emoji in the field", async () => {
  const page = await open("alice");
  await newGroup(page, `arrows ${randomUUID().slice(0, 6)}`, []);
  await say(page, "Look");
  await page.waitForSelector(`${message("Look")}[data-s]`); // sent: what still waits takes no focus
  await page.focus(`${message("Look")}[data-s]`);
  await page.keyboard.press("+");
  await page.waitForSelector(".picker[open]");
  assert.equal(await focused(page), "thumbs up");
  for (const [key, name] of [
    ["ArrowRight", "heart"],
    ["ArrowDown", "nervous laugh"],
    ["End", "coffee"],
    ["ArrowRight", "coffee"],
    ["ArrowUp", "eyes"],
    ["Home", "thumbs up"],
    ["ArrowUp", "thumbs up"],
  ]) {
    await page.keyboard.press(key);
    assert.equal(await focused(page), name, key);
  }
  await page.keyboard.press("Escape");
  await page.waitForSelector(".picker", { state: "detached" });
  assert.equal(await page.evaluate(() => document.activeElement.dataset.s !== undefined), true);
  assert.deepEqual(await reactions(page, "Look"), []);
  await page.keyboard.press("+");
  await page.keyboard.press("ArrowRight");
  await page.keyboard.press("Enter");
  await showsReactions(page, "Look", ["❤️ 1 mine"]);
  await page.keyboard.press("+");
  await page.fill(".picker input", "no emoji");
  await page.keyboard.press("Enter");
  await page.waitForSelector(".picker [role=alert]");
  await page.fill(".picker input", "🦥");
  await page.keyboard.press("Enter");
  await showsReactions(page, "Look", ["❤️ 1 mine", "🦥 1 mine"]);
  // The chips follow the message in the order of Tab.
  await page.waitForFunction(() => document.activeElement.dataset.s !== undefined);
  await page.keyboard.press("Tab");
  assert.equal(await focused(page), "heart, you");
  await page.keyboard.press("Space");
  await showsReactions(page, "Look", ["🦥 1 mine"]);
  await finish(page);
});

test("pins: above the conversation for all, a press leads to the message", async () => {
  const { alice, bob, c } = await pair("pins");
  await say(alice, "The door code is 4711");
  await say(alice, "Bring chairs");
  const now = Date.now();
  await fill(
    c,
    Array.from({ length: 150 }, (_, i) => ({ from: "bob", ts: now + i, text: `chat ${i}` })),
  );
  await alice.click(".to-end", { timeout: 3000 }).catch(() => undefined);
  await shown(bob, "chat 149");
  assert.equal(await bob.locator(".pins").count(), 0);
  await say(alice, "See above");
  await act(alice, "See above", "Pin");
  await bob.waitForSelector(".pins .newest:has-text('See above')");
  await bob.waitForSelector(`${message("See above")} .pinned`);
  await bob.waitForSelector(".line:has-text('alice pinned a message')");
  await bob.hover(`${message("See above")} .bubble`);
  await bob.waitForSelector(`${message("See above")} .tools`);
  assert.equal(await bob.locator(".tools [aria-label=Unpin]").count(), 0, "not his to unpin");
  // Far up, where nothing is loaded: read by its sequence.
  await alice.evaluate(() => (document.querySelector(".scroller").scrollTop = 0));
  await shown(alice, "The door code is 4711");
  await act(alice, "The door code is 4711", "Pin");
  await bob.waitForSelector(".pins .newest:has-text('The door code is 4711')");
  assert.equal(await bob.locator(message("The door code is 4711")).count(), 0);
  await bob.click(".pins .newest");
  await bob.waitForSelector(`${message("The door code is 4711")} >> nth=0`);
  await bob.waitForSelector(`.msg.flash:has-text("The door code is 4711")`);
  await bob.click(".pins .all");
  await bob.waitForSelector("dialog h2:text-is('2 pinned messages')");
  const listed = await bob.$$eval(".to-pin span", (all) => all.map((each) => each.textContent));
  assert.deepEqual(listed, ["The door code is 4711", "See above"]);
  assert.equal(await bob.locator("dialog [aria-label^=Unpin]").count(), 0);
  await bob.click(".to-pin:has-text('See above')");
  await bob.waitForSelector("dialog", { state: "detached" });
  await bob.waitForSelector(`.msg.flash:has-text("See above")`);
  await alice.click(".pins .all");
  await picture(alice, "pins");
  await alice.click("dialog [aria-label='Unpin: The door code is 4711']");
  await bob.waitForSelector(".pins .newest:has-text('See above')");
  await alice.keyboard.press("Escape");
  await alice.click(".to-end");
  await act(alice, "See above", "Unpin");
  for (const page of [alice, bob]) await page.waitForSelector(".pins", { state: "detached" });
  await finish(alice, bob);
});

test("a message that has had its time vanishes by itself", async () => {
  const { alice, bob, c } = await pair("sand");
  await say(alice, "this stays");
  await shown(bob, "this stays");
  await request({ op: "meta", c, ttl: 2 });
  await bob.waitForSelector(".bar .ttl:has-text('2 seconds')");
  await say(alice, "this goes");
  await shown(bob, "this goes");
  for (const page of [alice, bob]) {
    await page.waitForSelector(message("this goes"), { state: "detached" });
    assert.deepEqual(await visibleTexts(page), ["this stays"]);
    await page.waitForSelector(`${conv(c)} .preview:has-text("this stays")`);
  }
  await finish(alice, bob);
});

test("typing: dots appear, and go with the message or by themselves", async () => {
  const { alice, bob } = await pair("dots");
  await alice.locator(".composer textarea").pressSequentially("Hel");
  await bob.waitForSelector(".typing:has-text('alice is typing') .dots");
  assert.equal(await alice.locator(".typing .dots").count(), 0);
  await alice.keyboard.type("lo");
  await alice.keyboard.press("Enter");
  await shown(bob, "Hello");
  await bob.waitForSelector(".typing .dots", { state: "detached", timeout: 1000 });
  await until("it may be said again", async () => {
    await alice.keyboard.type("x");
    return (await bob.locator(".typing .dots").count()) > 0;
  });
  const since = Date.now();
  await bob.waitForSelector(".typing .dots", { state: "detached" });
  assert.ok(Date.now() - since > 3000, "they stay for a while");
  await finish(alice, bob);
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

await runTests();
