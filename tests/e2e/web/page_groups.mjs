// page_groups.mjs: who is in a group, and its settings.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { runTests, test } from "./lib.mjs";
import {
  act,
  conv,
  finish,
  message,
  newGroup,
  open,
  pair,
  picture,
  say,
  shown,
  showsReactions,
} from "./page_lib.mjs";

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

test("settings: who runs the group changes them, the others read them", async () => {
  const { alice, bob } = await pair("settings");
  await say(alice, "welcome");
  await shown(bob, "welcome");
  const name = `Walkers ${randomUUID().slice(0, 6)}`;
  await alice.click("[aria-label=Settings]");
  await alice.fill("dialog [name=name]", name);
  await alice.fill("dialog [name=topic]", "Every Sunday at ten");
  await alice.selectOption("dialog [name=ttl]", { label: "disappear after 1 week" });
  await alice.selectOption("dialog [name=history]", "joined");
  await picture(alice, "settings");
  await alice.click("dialog button:text-is('Save')");
  await alice.waitForSelector("dialog", { state: "detached" });
  await bob.waitForSelector(`.bar h1:text-is("${name}")`);
  await bob.waitForSelector(".bar .what span:text-is('Every Sunday at ten')");
  await bob.waitForSelector(`.conv.current .title:text-is("${name}")`);
  await bob.waitForSelector(".bar .ttl:has-text('1 week')");
  await bob.waitForSelector(`.line:has-text("alice named the group “${name}”, set the topic")`);
  await bob.click("[aria-label=Settings]");
  await bob.waitForSelector("dialog .hint");
  assert.equal(await bob.inputValue("dialog [name=topic]"), "Every Sunday at ten");
  assert.equal(await bob.inputValue("dialog [name=ttl]"), String(7 * 24 * 3600));
  assert.equal(await bob.inputValue("dialog [name=history]"), "joined");
  assert.equal(await bob.locator("dialog :is(input, select):not(:disabled)").count(), 0);
  assert.equal(await bob.locator("dialog [type=submit]").count(), 0);
  await bob.keyboard.press("Escape");
  await alice.click("[aria-label=Settings]");
  await alice.fill("dialog [name=name]", " ");
  await alice.click("dialog button:text-is('Save')");
  await alice.waitForSelector("dialog [role=alert]:has-text('needs a name')");
  await alice.fill("dialog [name=name]", name);
  await alice.fill("dialog [name=topic]", "");
  await alice.selectOption("dialog [name=ttl]", "0");
  await alice.click("dialog button:text-is('Save')");
  await bob.waitForSelector(".bar .ttl", { state: "detached" });
  await bob.waitForSelector(".bar .what span:text-is('2 members')");
  await finish(alice, bob);
});

test("only announcements: members read and react, and are told why they don't write", async () => {
  const { alice, bob } = await pair("news");
  const announce = async (on) => {
    await alice.click("[aria-label=Settings]");
    await alice.setChecked("dialog [name=announce]", on);
    await alice.click("dialog button:text-is('Save')");
    await alice.waitForSelector("dialog", { state: "detached" });
  };
  await bob.fill(".composer textarea", "half a thought");
  await announce(true);
  await bob.waitForSelector(".composer .closed:has-text('Only owners and admins')");
  assert.equal(await bob.locator(".composer textarea").count(), 0);
  await say(alice, "No school on Monday");
  await shown(bob, "No school on Monday");
  await bob.hover(`${message("No school on Monday")} .bubble`);
  await bob.waitForSelector(`${message("No school on Monday")} [aria-label=React]`);
  assert.equal(await bob.locator(".tools [aria-label=Reply]").count(), 0);
  await act(bob, "No school on Monday", "React");
  await bob.keyboard.press("Enter");
  await showsReactions(alice, "No school on Monday", ["👍 1"]);
  await bob.reload();
  await bob.waitForSelector(".composer .closed");
  await announce(false);
  await say(bob, "Thanks!");
  await shown(alice, "Thanks!");
  await finish(alice, bob);
});

await runTests();
