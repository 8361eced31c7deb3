// sdk_own.mjs: what a user keeps from others or for the own devices, invites, threads, old versions.
import assert from "node:assert/strict";
import { runTests, Server, test, until, wsUrl } from "./lib.mjs";
import { client, convOf, foldHide, foldThread, isHole, live, openGroup } from "./sdk_lib.mjs";

const server = await Server.start(); // what is blocked here is in nobody's way
async function one(user) {
  const made = client(user, { url: wsUrl(server.url), token: await server.token(user) });
  made.start();
  await live(made);
  return made;
}
const say = async (from, c, text, more = {}) =>
  (await from.send(c, { body: { text }, ...more }).done).s;
/** What comes of one kind of event. */
function heard(from, name) {
  const all = [];
  from.on(name, (event) => all.push(event));
  return all;
}

test("blocked: can't write nor see who is there; every own device is told, he is not", async () => {
  const [ann, phone, ben] = [await one("ann"), await one("ann"), await one("ben")];
  const [told, his, states] = [
    heard(phone, "block"),
    heard(ben, "user"),
    heard(ben, "presence"),
  ];
  const { c } = await ann.open({ kind: "direct", with: "ben" });
  ben.watch(["ann"]);
  await until("there", () => states.at(-1)?.state === "online");
  await until("joined", () => c in ben.cursors());
  his.length = 0;
  await ann.block("ben");
  await until("the phone is told", () => told.length === 1);
  assert.deepEqual(told, [{ user: "ben", on: true }]);
  const [{ user, ts }] = await phone.blocks();
  assert.equal(user, "ben");
  assert.ok(Math.abs(ts - Date.now()) < 60_000);
  await until("gone, for him", () => states.at(-1).state === "offline");
  assert.equal(states.at(-1).last_seen, null);
  await assert.rejects(say(ben, c, "hello?"), { code: "forbidden" });
  ben.queue().forEach(({ cid }) => ben.discard(cid));
  await ann.block("ben", false);
  await until("there again", () => states.at(-1).state === "online");
  await say(ben, c, "hello");
  assert.deepEqual(await ann.blocks(), []);
  await assert.rejects(ann.block("ann"), { code: "bad_request" });
  assert.deepEqual(his, []);
});

test("privacy: hidden, the user is there for nobody", async () => {
  const [cid, dot] = [await one("cid"), await one("dot")];
  const states = heard(dot, "presence");
  await cid.open({ kind: "direct", with: "dot" });
  dot.watch(["cid"]);
  await until("there", () => states.at(-1)?.state === "online");
  assert.equal(await cid.privacy(), "shared");
  assert.equal(await cid.privacy("hidden"), "hidden");
  await until("gone", () => states.at(-1).state === "offline");
  assert.equal(await cid.privacy(), "hidden");
  assert.equal(await cid.privacy("shared"), "shared");
  await until("there again", () => states.at(-1).state === "online");
});

test("hide: a hole for this user on all devices, a message for the others", async () => {
  const [eva, phone, flo] = [await one("eva"), await one("eva"), await one("flo")];
  const { c } = await openGroup(flo, ["eva"]);
  const told = heard(phone, "hide");
  await say(flo, c, "stays");
  const s = await say(flo, c, "goes");
  const seen = async (from) => (await from.range(c, { from: s, view: "folded" })).records[0];
  const before = await seen(phone);
  assert.equal((await convOf(eva, c)).unread, 2);
  assert.equal((await eva.hide(c, s).done).s, null);
  await until("the phone is told", () => told.length === 1);
  assert.deepEqual(told, [{ c, s }]);
  assert.deepEqual(foldHide(before, s), await seen(phone), "as the server has it");
  assert.equal(foldHide(before, s - 1), before);
  assert.equal((await seen(flo)).body.text, "goes");
  assert.equal((await convOf(eva, c)).unread, 1);
  await assert.rejects(eva.hide(c, 999).done, { code: "not_found" });
});

test("invites: made, used, listed, revoked", async () => {
  const [gil, hope, ian] = [await one("gil"), await one("hope"), await one("ian")];
  const { c } = await openGroup(gil, []);
  const joined = heard(hope, "joined");
  const invite = await gil.invite(c, { uses: 1, expires_s: 3600 });
  assert.ok(Math.abs(invite.expires - Date.now() - 3_600_000) < 60_000);
  assert.equal((await hope.join(invite.code)).c, c);
  await until("told", () => joined.some(({ conv }) => conv.c === c));
  await assert.rejects(ian.join(invite.code), { code: "not_found" }, "used up");
  const free = await gil.invite(c);
  assert.equal(free.uses, null);
  const [listed] = await gil.invites(c);
  assert.deepEqual(
    { ...listed, created: 0 },
    { ...free, by: "gil", used: 0, created: 0 },
    "the one that still works",
  );
  await assert.rejects(hope.invites(c), { code: "forbidden" });
  await assert.rejects(hope.invite(c), { code: "forbidden" });
  await gil.uninvite(c, free.s);
  await assert.rejects(ian.join(free.code), { code: "not_found" });
  assert.deepEqual(await gil.invites(c), []);
  const then = (await gil.members(c, undefined, free.s)).members.map(({ user }) => user);
  assert.deepEqual(then, ["gil", "hope"]);
  assert.deepEqual((await gil.members(c, undefined, invite.s)).members.length, 1);
});

test("threads: what is unread of each, kept up by what comes; a place on all devices", async () => {
  const [jo, kim, phone] = [await one("jo"), await one("kim"), await one("kim")];
  const { c } = await openGroup(jo, ["kim"]);
  const roots = [await say(jo, c, "one"), await say(jo, c, "two")];
  await say(jo, c, "a", { thread: roots[0] });
  let threads = new Map((await kim.threads(c)).threads.map((each) => [each.s, each]));
  assert.deepEqual([...threads.keys()], [roots[0]]);
  await until("nothing of it is to come", () => kim.cursors()[c] === roots[1] + 1);
  kim.on("rec", ({ rec }) => {
    const old = threads.get(rec.thread);
    if (old) threads.set(old.s, foldThread(old, rec, "kim"));
  });
  const last = await say(jo, c, "b", { thread: roots[0] });
  await say(jo, c, "no thread");
  const own = await say(kim, c, "mine", { thread: roots[0] });
  await until("all is here", () => kim.cursors()[c] === own);
  const server = async () => (await kim.threads(c)).threads.find(({ s }) => s === roots[0]);
  assert.deepEqual(threads.get(roots[0]), await server());
  const { records } = await kim.range(c, { thread: roots[0], view: "folded" });
  assert.deepEqual(
    records.map(({ body }) => body.text),
    ["a", "b", "mine"],
  );
  const [root] = (await kim.range(c, { from: roots[0], to: roots[0] + 1, view: "folded" }))
    .records;
  assert.equal(root.replies, 3);
  await kim.delete(c, own);
  await until("one less", () => threads.get(roots[0]).replies === 2);
  assert.equal((await server()).replies, 2);
  const places = heard(phone, "thread");
  const marks = heard(phone, "mark");
  const next = await say(jo, c, "d", { thread: roots[0] });
  assert.equal((await server()).unread, 1);
  await kim.markThread(c, roots[0], next);
  await until("told", () => places.some(({ read }) => read === next));
  const place = places.at(-1);
  assert.deepEqual([place.c, place.thread, place.read], [c, roots[0], next]);
  assert.ok(marks.every((mark) => !("thread" in mark)));
  assert.deepEqual([(await server()).unread, (await server()).read], [0, next]);
  await say(jo, c, "c", { thread: roots[1] });
  const first = await kim.threads(c, undefined, 1);
  assert.deepEqual([first.threads[0].s, first.threads.length], [roots[1], 1]);
  assert.equal((await kim.threads(c, first.next, 1)).threads[0].s, roots[0]);
});

test("edits: what a message said before, for those who may know", async () => {
  const [lou, max, nan] = [await one("lou"), await one("max"), await one("nan")];
  const { c } = await openGroup(lou, ["max", "nan"]);
  const s = await say(max, c, "first");
  await max.edit(c, s, { text: "second" }).done;
  const versions = await lou.edits(c, s);
  assert.deepEqual(
    versions.map(({ body }) => body.text),
    ["first", "second"],
  );
  assert.equal(versions[0].s, s);
  await assert.rejects(nan.edits(c, s), { code: "forbidden" });
});

test("seen: in a large group it is told how many have read the newest message", async () => {
  const [oto, pia] = [await one("oto"), await one("pia")];
  const crowd = Array.from({ length: 40 }, (_, i) => `reader${i}`);
  const { c } = await openGroup(oto, ["pia", ...crowd]);
  const told = heard(oto, "seen");
  await until("joined", () => c in oto.cursors() && c in pia.cursors());
  const s = await say(oto, c, "all of you");
  pia.mark(c, { read: s });
  await until("told", () => told.at(-1)?.n === 2);
  assert.deepEqual([told.at(-1).c, told.at(-1).s], [c, s]);
  const page = await oto.range(c, { from: s, view: "folded" });
  assert.ok(!isHole(page.records[0]));
});

await runTests();
