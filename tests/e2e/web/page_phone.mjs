// page_phone.mjs: the page on a small screen, by touch.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { runTests, test, tokens, url } from "./lib.mjs";
import {
  conv,
  finish,
  message,
  newGroup,
  open,
  picture,
  reactions,
  request,
  say,
} from "./page_lib.mjs";

test("a phone: one view at a time, nothing sticks out, light and dark", async () => {
  const alice = await open("alice");
  await newGroup(alice, `small ${randomUUID().slice(0, 6)}`, []);
  await finish(alice);
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

test("a phone: reactions, picker, pins and settings fit", async () => {
  const alice = await open("alice");
  const c = await newGroup(alice, `pocket ${randomUUID().slice(0, 6)}`, ["bob"]);
  const [first, last] = ["first", "last, and long enough for more than one line of a phone"];
  for (const text of [first, last]) {
    await say(alice, text);
    await alice.waitForSelector(`.block ${message(text)} .tick.sent`);
  }
  const s = Number(await alice.getAttribute(message(first), "data-s"));
  for (const emoji of ["👍", "🎉", "🔥", "👀", "💯", "🚀", "☕", "🍰", "✅", "❤️"])
    await request({ op: "react", c, s, emoji });
  await request({ op: "pin", c, s });
  await request({ op: "pin", c, s: s + 1 });
  await request({
    op: "meta",
    c,
    ttl: 3600,
    topic: "a topic that is much longer than a phone",
  });
  const small = { viewport: { width: 360, height: 640 }, hasTouch: true, isMobile: true };
  const phone = await open(null, small);
  await phone.goto(`${url}/#token=${tokens.alice}`);
  await phone.reload();
  await phone.tap(conv(c));
  await phone.waitForSelector(`${message("first")} .reaction >> nth=9`);
  await phone.waitForSelector(".pins .all");
  const inside = async (what) => {
    const box = await phone.locator(what).boundingBox();
    const fits =
      box.x >= 0 && box.y >= 0 && box.x + box.width <= 360 && box.y + box.height <= 640;
    assert.ok(fits, `${what}: ${JSON.stringify(box)}`);
    assert.ok(await phone.evaluate(() => document.documentElement.scrollWidth <= innerWidth));
  };
  for (const what of [
    ".bar [aria-label=Members]",
    ".pins .all",
    `${message("first")} .reactions`,
  ])
    await inside(what);
  await phone.tap(`${message("first")} .text`);
  await phone.tap(`${message("first")} .tools [aria-label=React]`);
  await inside(".picker");
  await picture(phone, "phone-picker");
  await phone.tap(".picker [aria-label='party popper']");
  await phone.waitForSelector(`${message("first")} [data-emoji="🎉"]`, { state: "detached" });
  await phone.tap(".pins .all");
  await inside("dialog");
  await phone.tap("dialog [aria-label=Close]");
  await phone.tap("[aria-label=Settings]");
  await inside("dialog");
  await inside("dialog [type=submit]");
  await finish(alice, phone);
});

test("a phone: the list with its marks and the menu fit, by touch", async () => {
  const alice = await open("alice");
  const name = `a name that is longer than a phone is wide ${randomUUID().slice(0, 6)}`;
  const c = await newGroup(alice, name, ["bob"]);
  const text = "and a message that is long, too";
  await newGroup(alice, `elsewhere ${randomUUID().slice(0, 6)}`, []);
  await request({ op: "send", c, kind: "text", body: { text }, mentions: "all" }, "bob");
  const small = { viewport: { width: 360, height: 640 }, hasTouch: true, isMobile: true };
  const phone = await open(null, small);
  await phone.goto(`${url}/#token=${tokens.alice}`);
  await phone.reload();
  await phone.waitForSelector(`${conv(c)} .mention`);
  const more = `${conv(c)} + .more`;
  const inside = async (what) => {
    const { x, y, width, height } = await phone.locator(what).boundingBox();
    const fits = x >= 0 && y >= 0 && x + width <= 360 && y + height <= 640;
    assert.ok(fits, `${what}: ${[x, y, width, height]}`);
    return { left: x, right: x + width, width, height };
  };
  const touch = async (entry) => {
    await phone.tap(more);
    await inside(".menu");
    await phone.tap(`.menu [role=menuitem]:text-is("${entry}")`);
    await phone.waitForSelector(".menu", { state: "detached" });
  };
  await touch("Mute for a week");
  await touch("Pin to the top");
  await phone.waitForSelector(`${conv(c)} .mark.pin`);
  const button = await inside(more);
  assert.ok(button.width >= 40 && button.height >= 40, "large enough for a finger");
  for (const what of [".mark.mute", ".mark.pin", ".mention", ".badge.quiet", ".when"])
    await inside(`${conv(c)} ${what}`);
  const [title, mute] = [
    await inside(`${conv(c)} .title`),
    await inside(`${conv(c)} .mark.mute`),
  ];
  assert.ok(title.right <= mute.left, "the name leaves room for the marks");
  assert.ok(await phone.evaluate(() => document.documentElement.scrollWidth <= innerWidth));
  assert.equal(await phone.isVisible(".talk"), false, "the menu opens no conversation");
  await picture(phone, "phone-list");
  await touch("Unpin");
  await phone.waitForSelector(`${conv(c)} .mark.pin`, { state: "detached" });
  await finish(alice, phone);
});

await runTests();
