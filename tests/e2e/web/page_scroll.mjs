// page_scroll.mjs: thousands of messages in one conversation.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { runTests, test } from "./lib.mjs";
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
} from "./page_lib.mjs";

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
  await bob.fill("[aria-label='Search']", name);
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
