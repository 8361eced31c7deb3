// page_people.mjs: who is there, who has what was written, and who is meant.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { runTests, test, until } from "./lib.mjs";
import {
  act,
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
} from "./page_lib.mjs";

const FIELD = ".composer textarea";
const IDLE_MS = 5 * 60_000;

/** A direct conversation with bob, opened on alice's page. */
async function direct(alice) {
  await alice.click("text=New chat");
  await alice.fill("[name=user]", "bob");
  await alice.click("text=Start chat");
  await alice.waitForSelector(".bar h1:text-is('bob')");
  return alice.evaluate(() => decodeURIComponent(location.hash.slice("#/c/".length)));
}
const tick = (page, text, state) =>
  page.waitForSelector(`.block ${message(text)} .tick.${state}[aria-label=${state}]`);

test("presence: beside the picture, in the header, among the members; in words, too", async () => {
  const [alice, bob] = [await open("alice"), await open("bob", { clock: true })];
  const c = await direct(alice);
  const shows = async (state) => {
    await alice.waitForSelector(`.bar .what span:text-is("${state}")`);
    await alice.waitForSelector(`${conv(c)} .presence.${state}[aria-label=${state}]`);
  };
  await shows("online");
  await bob.evaluate(() => {
    Object.defineProperty(document, "visibilityState", { get: () => window.sight });
    window.look = (sight) => {
      window.sight = sight;
      document.dispatchEvent(new Event("visibilitychange"));
    };
    window.look("hidden");
  });
  await shows("away");
  await bob.evaluate(() => window.look("visible"));
  await shows("online");
  // Nobody touches it for a while; then somebody does.
  await bob.clock.fastForward(IDLE_MS - 60_000);
  await bob.mouse.move(300, 300);
  await bob.clock.fastForward(61_000);
  await alice.reload();
  await shows("online");
  await bob.clock.fastForward(IDLE_MS);
  await shows("away");
  await picture(alice, "presence");
  await bob.mouse.move(200, 200);
  await shows("online");

  await newGroup(alice, `there ${randomUUID().slice(0, 6)}`, ["bob", "nobody"]);
  await alice.click("[aria-label=Members]");
  await alice.waitForSelector(".members li:has-text('bob') .presence.online");
  await alice.waitForSelector(".members li:has-text('bob') .seen:text-is('online')");
  assert.equal(await alice.locator(".members li:has-text('nobody') .presence").count(), 0);
  await finish(bob);
  await alice.waitForSelector(
    ".members li:has-text('bob') .seen:text-is('last seen just now')",
  );
  await alice.click(conv(c));
  await alice.waitForSelector(".bar .what span:text-is('last seen just now')");
  assert.equal(await alice.locator(`${conv(c)} .presence`).count(), 0);
  await finish(alice);
});

test("receipts: a group's ticks wait for all of it; who has read is listed by name", async () => {
  const { alice, bob, c } = await pair("receipts");
  await request({ op: "member", c, user: "carol", set: "add" });
  await say(alice, "All here?");
  await shown(bob, "All here?");
  await tick(alice, "All here?", "sent"); // carol's devices are off
  await act(alice, "All here?", "'Read by'");
  await alice.waitForSelector("dialog .readers li:has-text('bob')");
  await alice.waitForSelector("dialog .hint:text-is('1 person')");
  await picture(alice, "read-by");
  await alice.keyboard.press("Escape");
  await alice.waitForSelector("dialog", { state: "detached" });
  const carol = await open("carol"); // what was written while she was away has come
  await tick(alice, "All here?", "delivered");
  await carol.click(conv(c));
  await shown(carol, "All here?");
  await tick(alice, "All here?", "read");
  await say(carol, "Yes");
  await tick(carol, "Yes", "read");
  // Somebody who comes later has not read it; without him all have.
  await request({ op: "member", c, user: "mallory", set: "add" });
  await say(bob, "One more");
  await tick(bob, "One more", "sent");
  await request({ op: "member", c, user: "mallory", set: "remove" });
  await tick(bob, "One more", "read");
  await bob.focus(`.block ${message("All here?")}`);
  await bob.keyboard.press("i");
  await bob.waitForSelector("dialog .readers li:has-text('carol')");
  const names = await bob.$$eval("dialog .readers li", (all) => all.map((li) => li.innerText));
  assert.deepEqual(
    names.map((name) => name.split("\n").at(-1)),
    ["carol"],
    "neither the author nor himself",
  );
  await finish(alice, bob, carol);
});

test("who was here: the members, and as what, when a message came; on both pages", async () => {
  const { alice, bob, c } = await pair("then");
  await request({ op: "member", c, user: "carol", set: "add" });
  await say(alice, "First");
  await shown(bob, "First");
  await request({ op: "member", c, user: "carol", set: "remove" });
  await request({ op: "member", c, user: "mallory", set: "add" });
  await request({ op: "member", c, user: "bob", set: "role", role: "admin" });
  await say(bob, "Second");
  await shown(alice, "Second");
  const lists = (page, ...wanted) =>
    until(`the members ${wanted}`, async () => {
      const rows = await page.$$eval(".members li", (all) =>
        all.map((li) => {
          const role = li.querySelector("select")?.value ?? li.querySelector(".role")?.innerText;
          return `${li.querySelector(".who").firstChild.data} ${role ?? "member"}`;
        }),
      );
      return `${rows}` === `${wanted}`;
    });
  const look = async (page, text) => {
    await act(page, text, "'Read by'");
    await page.click("dialog button:text-is('Who was here')");
    await page.waitForSelector("dialog", { state: "detached" });
    await page.waitForSelector(`.members .then:has-text('wrote “${text}”')`);
  };
  await look(alice, "First");
  await lists(alice, "alice (you) owner", "bob member", "carol member");
  await alice.waitForSelector(".members h2:text-is('3 members then')");
  assert.equal(await alice.locator(".members :is(select, input, footer)").count(), 0, "it is over");
  await look(bob, "First");
  await lists(bob, "alice owner", "bob (you) member", "carol member");
  await look(bob, "Second");
  await lists(bob, "alice owner", "bob (you) admin", "mallory member");
  // What happens now changes nothing of it, but who is there now.
  await request({ op: "member", c, user: "carol", set: "add" });
  await bob.waitForSelector(".line:has-text('alice added carol') >> nth=1");
  await lists(bob, "alice owner", "bob (you) admin", "mallory member");
  await picture(bob, "then");
  await bob.click(".members .then button:text-is('Now')");
  await lists(bob, "alice owner", "bob (you) admin", "carol member", "mallory member");
  assert.equal(await bob.locator(".members .then").count(), 0);
  await alice.click(".members .then button");
  await alice.selectOption(".members [aria-label='Role of mallory']", "admin");
  await lists(alice, "alice (you) owner", "bob admin", "mallory admin", "carol member");
  await alice.click("[aria-label=Members]");
  await alice.keyboard.press("Enter");
  assert.match(await focused(alice), /^Members of then /, "the next Tab is in it");
  await alice.keyboard.press("Escape");
  await alice.waitForSelector(".members", { state: "detached" });
  assert.equal(await focused(alice), "Message");
  await finish(alice, bob);
});

test("mentions: the list opens at an @, by keys and by mouse, and the message names them", async () => {
  const { alice, bob, c } = await pair("called");
  await request({ op: "member", c, user: "carol", set: "add" });
  await request({ op: "member", c, user: "bob.the.builder", set: "add" });
  const options = () =>
    alice.$$eval("[role=listbox] [role=option]", (all) =>
      all.map((each) => {
        const name = each.querySelector(".name").textContent;
        return each.getAttribute("aria-selected") === "true" ? `${name}!` : name;
      }),
    );
  const lists = (...wanted) =>
    until(`the options ${wanted}`, async () => `${await options()}` === `${wanted}`);
  const active = () =>
    alice.$eval(FIELD, (field) => {
      const id = field.getAttribute("aria-activedescendant");
      return document.getElementById(id)?.querySelector(".name").textContent;
    });
  await alice.focus(FIELD);
  await alice.keyboard.type("Hello @");
  await lists("all!", "bob", "bob.the.builder", "carol");
  assert.equal(await focused(alice), "Message", "the focus stays in the field");
  assert.equal(await alice.getAttribute(FIELD, "aria-haspopup"), "listbox");
  for (const [key, name] of [
    ["ArrowDown", "bob"],
    ["ArrowDown", "bob.the.builder"],
    ["ArrowUp", "bob"],
    ["ArrowUp", "all"],
    ["ArrowUp", "carol"],
  ]) {
    await alice.keyboard.press(key);
    await until(`${key} leads to ${name}`, async () => (await active()) === name);
  }
  await picture(alice, "mentions");
  await alice.keyboard.type("BO");
  await lists("bob!", "bob.the.builder");
  await alice.keyboard.press("Enter");
  await lists();
  assert.equal(await alice.inputValue(FIELD), "Hello @bob ");
  await alice.keyboard.type("and @buil");
  await lists("bob.the.builder!");
  await alice.keyboard.press("Tab");
  assert.equal(await alice.inputValue(FIELD), "Hello @bob and @bob.the.builder ");
  await alice.keyboard.type("or me@ca");
  await lists();
  await alice.keyboard.type(" @ca");
  await lists("carol!");
  await alice.keyboard.press("Escape");
  await lists();
  await alice.keyboard.type(", @ca");
  await alice.click("[role=option]");
  const text = "Hello @bob and @bob.the.builder or me@ca @ca, @carol";
  assert.equal(await alice.inputValue(FIELD), `${text} `);
  await alice.keyboard.press("Enter");
  const row = `.block .msg:has-text("${text}")`; // of several pieces
  await bob.waitForSelector(row);
  const marked = (page) =>
    page.$$eval(`${row} .at`, (all) =>
      all.map((each) => `${each.textContent}${each.classList.contains("me") ? " me" : ""}`),
    );
  assert.deepEqual(await marked(bob), ["@bob me", "@bob.the.builder", "@carol"]);
  assert.match(await bob.getAttribute(row, "aria-label"), /, mentions you$/);
  assert.deepEqual(await marked(alice), ["@bob", "@bob.the.builder", "@carol"]);
  // A dot behind a name is no part of it.
  await bob.evaluate(() => (location.hash = ""));
  await alice.keyboard.type("Ask @carol. Or @bob!");
  await alice.keyboard.press("Enter");
  await bob.waitForSelector(`${conv(c)} .mention:text-is("@1")`);
  await bob.click(conv(c));
  await bob.waitForSelector(".called .at:text-is('@carol')");
  await picture(bob, "called");
  await finish(alice, bob);
});

test("mentions: all are named only by those who may", async () => {
  const [alice, bob] = [await open("alice"), await open("bob")];
  const crowd = Array.from({ length: 31 }, (_, i) => `albert${i}`);
  const c = await newGroup(alice, `crowd ${randomUUID().slice(0, 6)}`, ["bob", ...crowd]);
  await bob.click(conv(c));
  for (const page of [alice, bob]) await page.locator(FIELD).pressSequentially("@al");
  await alice.waitForSelector("[role=option]:has-text('everybody, 33 members')");
  await bob.waitForSelector("[role=option]:has-text('albert1')");
  assert.equal(await bob.locator("[role=option]:has-text('everybody')").count(), 0);
  assert.ok((await bob.locator("[role=option]").count()) <= 8, "a few are enough");
  await bob.keyboard.press("Escape");
  await bob.locator(FIELD).pressSequentially("l, he says");
  await bob.keyboard.press("Enter");
  await shown(alice, "@all, he says");
  assert.equal(await alice.locator(".called").count(), 0);
  await alice.keyboard.press("Enter");
  await alice.keyboard.type("come!");
  await alice.keyboard.press("Enter");
  await bob.waitForSelector(".called:has-text('@all come!') .at.me:text-is('@all')");
  await finish(alice, bob);
});

await runTests();
