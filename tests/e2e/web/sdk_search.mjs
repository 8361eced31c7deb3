// sdk_search.mjs: messages are found by their text and by what is known of them, page by page.
import assert from "node:assert/strict";
import { runTests, Server, test, wsUrl } from "./lib.mjs";
import { client, live, openGroup } from "./sdk_lib.mjs";

const server = await Server.start(); // nobody else's messages are found here
async function one(user) {
  const made = client(user, { url: wsUrl(server.url), token: await server.token(user) });
  made.start();
  await live(made);
  return made;
}
const say = async (from, c, text, more = {}) =>
  (await from.send(c, { body: { text }, ...more }).done).s;
const where = ({ hits }) => hits.map(({ c, s }) => [c, s]);

test("search: as it is now, with its places in the text; all pages, each hit once", async () => {
  const [ann, ben] = [await one("ann"), await one("ben")];
  const { c } = await openGroup(ann, ["ben"]);
  const all = [];
  for (let i = 0; i < 7; i++) all.unshift(await say(i % 2 ? ben : ann, c, `🍐 pear number ${i}`));
  await say(ann, c, "an apple");
  const found = await ben.search("pears");
  assert.deepEqual(where(found), all.map((s) => [c, s]), "in another form, the newest first");
  assert.equal(found.next, null);
  assert.equal(found.indexed.complete, true);
  const { record, spans } = found.hits[0];
  assert.deepEqual([record.c, record.s, record.from], [c, all[0], "ann"]);
  assert.deepEqual(spans.map((span) => record.body.text.slice(...span)), ["pear"]);
  const paged = [];
  for (let page = null; page !== undefined;) {
    const { hits, next } = await ben.search("pear", { limit: 3, ...(page && { page }) });
    assert.ok(hits.length <= 3);
    paged.push(...hits.map(({ s }) => s));
    page = next ?? undefined;
  }
  assert.deepEqual(paged, all);
  await ann.edit(c, all[0], { text: "two plums" }).done;
  await ann.delete(c, all[2]).done;
  await ben.hide(c, all[4]).done;
  const left = all.filter((_, i) => ![0, 2, 4].includes(i));
  assert.deepEqual(where(await ben.search("pear")), left.map((s) => [c, s]));
  assert.equal((await ann.search("pear")).hits.length, left.length + 1, "hidden for ben alone");
  const [edited] = (await ben.search("plum")).hits;
  assert.deepEqual([edited.s, edited.record.body.text], [all[0], "two plums"]);
  assert.ok(edited.record.edited > 0);
});

test("search: narrowed by its fields, or by them alone; what is wrong is refused", async () => {
  const [cid, dot, eva] = [await one("cid"), await one("dot"), await one("eva")];
  const [c, other] = [(await openGroup(cid, ["dot"])).c, (await openGroup(cid, [])).c];
  const plain = await say(cid, c, "cherries");
  const linked = await say(dot, c, "cherries at https://example.com/");
  const away = await say(cid, other, "cherries");
  const note = await say(cid, c, "cherry cake", { kind: "x-recipe" });
  const of = async (q, query) => where(await cid.search(q, query)).map(([, s]) => s);
  assert.deepEqual(where(await cid.search("cherries", { c: other })), [[other, away]]);
  assert.deepEqual(await of("cherries", { c, from_user: "dot" }), [linked]);
  assert.deepEqual(await of("", { has: "link" }), [linked]);
  assert.deepEqual(await of("", { kind: "x-recipe" }), [note]);
  const { ts } = (await cid.search("", { has: "link" })).hits[0].record;
  assert.ok(!(await of("cherries", { c, before: ts })).includes(linked));
  assert.ok((await of("cherries", { c, after: ts })).includes(linked));
  assert.ok(!(await of("cherries", { c, after: ts + 1 })).includes(plain));
  assert.deepEqual(where(await eva.search("cherries")), [], "she is in none of them");
  assert.deepEqual(where(await eva.search("cherries", { c })), []);
  await assert.rejects(cid.search(" "), { code: "bad_request" });
  await assert.rejects(cid.search("x", { limit: 101 }), { code: "bad_request" });
  await assert.rejects(cid.search("x".repeat(5000)), { code: "too_large" });
});

await runTests();
