// pictures.mjs: makes the pictures in docs/ of a thread, a search, and of a phone: `node
// tests/e2e/web/with_server.mjs pictures`, in the tree, once the page and the programs are built.
// Emoji need a font: fonts-noto-color-emoji.
import path from "node:path";
import { root, runTests, test, tokens, url } from "./lib.mjs";
import { conv, fill, finish, message, open, request, shown } from "./page_lib.mjs";

const TEXTS = [
  ["bob", "Morning! Has anybody ordered the tents yet?"],
  ["alice", "Not yet, I wanted to wait for the numbers."],
  ["carol", "We are 140 so far, and the school comes with two more classes. I'd plan for 190."],
  ["alice", "Then three large ones, and the small round one for the kids"],
  ["bob", "The brewery lends us benches again"],
  ["carol", "Lovely! I'll write the list tonight"],
  ["bob", "Who brings the van?"],
];

async function talk() {
  const { c } = await request({ op: "open", kind: "group", name: "Harvest festival", members: ["bob", "carol"] });
  const begin = Date.now() - 3_600_000;
  await fill(c, TEXTS.map(([from, text], i) => ({ from, text, ts: begin + i * 400_000 })));
  const { records } = await request({ op: "range", c, view: "folded" });
  const s = (i) => records.filter((r) => r.kind === "text")[i].s;
  const van = s(6);
  for (const [i, emoji, user] of [[4, "🎉", "alice"], [4, "🎉", "carol"], [5, "❤️", "bob"], [3, "👍", "bob"]])
    await request({ op: "react", c, s: s(i), emoji }, user);
  await request({ op: "pin", c, s: s(2) });
  for (const [user, text] of [
    ["carol", "I can, if somebody helps me load it"],
    ["bob", "I'll help. Eight o'clock?"],
    ["alice", "Perfect, thank you both"],
  ])
    await request({ op: "send", c, kind: "text", body: { text }, thread: van }, user);
  await request({ op: "meta", c, topic: "Saturday, at the old mill" });
  return c;
}

/** Some time ago, in other conversations: for the search. */
async function elsewhere() {
  const days = (n) => Date.now() - n * 86_400_000;
  const { c: board } = await request({ op: "open", kind: "group", name: "School board", members: ["carol"] });
  await fill(board, [
    { from: "carol", ts: days(41), text: "The gym is being painted in October" },
    { from: "alice", ts: days(40), text: "Then the bazaar has to be outside. The festival committee may lend us its tent, if we ask them early enough and bring it back dry." },
    { from: "carol", ts: days(39), text: "A tent it is" },
  ]);
  const { c: bob } = await request({ op: "open", kind: "direct", with: "bob" });
  await fill(bob, [
    { from: "bob", ts: days(12), text: "Have you still got the tent poles from last year?" },
    { from: "alice", ts: days(12) + 600_000, text: "In the barn, behind the ladder" },
  ]);
}

async function take(c, name, { animations = "disabled", ...options }, rest = async () => {}) {
  const page = await open(null, options);
  await page.goto(`${url}/#token=${tokens.alice}`);
  await page.click(conv(c));
  await shown(page, "Who brings the van?");
  await rest(page);
  await page.mouse.move(600, 740);
  await page.screenshot({ path: path.join(root, "docs", `${name}.png`), animations });
  await finish(page);
}

test("pictures", async () => {
  await elsewhere();
  const c = await talk();
  await take(c, "page-thread", { colorScheme: "dark", viewport: { width: 1200, height: 750 } }, async (page) => {
    await page.click(".threads-button");
    await page.click(".to-thread");
    await page.waitForSelector(`.thread ${message("Perfect, thank you both")}`);
  });
  await take(c, "page-search", { animations: "allow", viewport: { width: 1200, height: 750 } }, async (page) => {
    await page.fill("[type=search]", "tent");
    await page.waitForSelector(".hit >> nth=3");
    await page.click(".hit >> nth=0");
    await page.waitForSelector(".msg.flash");
  });
  await take(c, "page-phone", { hasTouch: true, isMobile: true, viewport: { width: 375, height: 750 } });
});

await runTests();
