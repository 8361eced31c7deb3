// sdk_fold.mjs: what records make of messages and conversations; typing.
import assert from "node:assert/strict";
import { runTests, test, until, WebSocket } from "./lib.mjs";
import {
  assertSame,
  client,
  convOf,
  folding,
  foldMessage,
  foldReaction,
  isHole,
  live,
  mortal,
  openGroup,
  reactionsOf,
  TYPING_MS,
} from "./sdk_lib.mjs";

test("reactions: counted, one's own told apart, in the order of their first use", async () => {
  const [alice, bob] = [client("alice"), client("bob")];
  alice.start();
  bob.start();
  await live(alice, bob);
  const { c } = await openGroup(alice, ["bob"]);
  const { s } = await alice.send(c, { body: { text: "dinner?" } }).done;
  const { s: other } = await bob.send(c, { body: { text: "yes" } }).done;
  const [hers, his] = [await folding(alice, c), await folding(bob, c)];
  const both = (head) =>
    until("both have it", () => [alice, bob].every((each) => each.cursors()[c] === head));

  await alice.react(c, s, "🎉").done;
  await bob.react(c, s, "👍").done;
  await both((await alice.react(c, s, "👍").done).s);
  const [party, up] = [(me) => ["🎉", { n: 1, me }], (n, me) => ["👍", { n, me }]];
  assert.deepEqual(reactionsOf(hers, s), [party(true), up(2, true)]);
  assert.deepEqual(reactionsOf(his, s), [party(false), up(2, true)]);
  assert.deepEqual(reactionsOf(hers, other), []);

  const same = await alice.react(c, s, "👍").done;
  assert.equal(same.s, null, "it is on already");
  assert.equal((await bob.react(c, s, "🎉", false).done).s, null, "it is not his");
  await alice.react(c, s, "🎉", false).done;
  await both((await bob.react(c, s, ":party_parrot:").done).s);
  assert.deepEqual(reactionsOf(hers, s), [
    up(2, true),
    [":party_parrot:", { n: 1, me: false }],
  ]);
  await assert.rejects(bob.react(c, s, "words").done, { code: "bad_request" });
  bob.discard(bob.queue()[0].cid);
  for (const [view, from] of [
    [hers, alice],
    [his, bob],
  ])
    await assertSame(view, from, c);

  await alice.react(c, s, "👍", false).done;
  await bob.react(c, s, ":party_parrot:", false).done;
  await both((await bob.react(c, s, "👍", false).done).s);
  assert.equal(hers.messages.get(s).reactions, undefined);
  await assertSame(his, bob, c);
});

test("a reaction of one's own that is shown ahead of its record counts once", () => {
  const rec = { s: 1, kind: "text", reactions: { "👍": { n: 2, me: false } } };
  const record = (on) => ({
    target: 1,
    kind: "react",
    from: "alice",
    body: { emoji: "👍", on },
  });
  const ahead = foldReaction(rec, "👍", true, true);
  assert.deepEqual(ahead.reactions, { "👍": { n: 3, me: true } });
  assert.deepEqual(foldMessage(ahead, record(true), "alice"), ahead);
  assert.deepEqual(foldMessage(ahead, record(true), "bob").reactions["👍"].n, 4);
  assert.deepEqual(foldMessage(ahead, record(false), "alice"), rec);
});

test("sockets die while people react, pin, edit and delete: the views stay exact", async () => {
  const [net1, net2] = [mortal(), mortal()];
  const alice = client("alice", { socket: net1.socket });
  const bob = client("bob", { socket: net2.socket });
  alice.start();
  bob.start();
  await live(alice, bob);
  const { c } = await openGroup(alice, ["bob"]);
  await alice.member(c, "bob", "role", "admin");
  const seqs = [];
  for (let i = 0; i < 6; i++)
    seqs.push((await alice.send(c, { body: { text: `${i}` } }).done).s);
  const views = [await folding(alice, c), await folding(bob, c)];
  const emoji = ["👍", "🎉", "🇫🇷", "1️⃣", ":ok:"];
  const draw = (all) => all[Math.floor(Math.random() * all.length)];
  let [cuts, skipped, refused] = [0, 0, 0];
  for (const each of [alice, bob]) {
    each.on("skipped", () => skipped++);
    each.on("failed", ({ entry }) => each.discard(entry.cid, refused++));
  }
  const done = [];
  for (let i = 0; i < 240; i++) {
    const [who, s, on] = [draw([alice, bob]), draw(seqs), Math.random() < 0.6];
    if (i % 40 === 39) done.push(alice.edit(c, s, { text: `edit ${i}` }).done);
    else if (i % 5 === 4) done.push(who.pin(c, s, on).done);
    else done.push(who.react(c, s, draw(emoji), on).done);
    if (i === 200) done.push(alice.delete(c, seqs[3]).done);
    if (i % 10 === 9) await until("half of them are through", () => alice.queue().length < 5);
    if (i % 37 === 20) cuts += net1.cut();
    if (i % 53 === 30) cuts += net2.cut();
  }
  await Promise.allSettled(done);
  const { s: head } = await alice.send(c, { body: { text: "last" } }).done;
  await until("both have it", () => [alice, bob].every((each) => each.cursors()[c] === head));
  assert.ok(cuts >= 8, `${cuts} sockets cut`);
  assert.equal(skipped, 0);
  assert.ok(refused < done.length / 2, `${refused} refused`); // on what was deleted
  await assertSame(views[0], alice, c);
  await assertSame(views[1], bob, c);
});

test("pins: who may, in the order of pinning, gone with their message", async () => {
  const [alice, bob] = [client("alice"), client("bob")];
  alice.start();
  bob.start();
  await live(alice, bob);
  const { c } = await openGroup(alice, ["bob"]);
  const seqs = [];
  for (let i = 0; i < 3; i++) seqs.push((await bob.send(c, { body: { text: `${i}` } }).done).s);
  const his = await folding(bob, c);
  assert.deepEqual(his.conv.pins, []);
  for (const s of [seqs[2], seqs[0], seqs[1]]) await alice.pin(c, s).done;
  assert.equal((await alice.pin(c, seqs[0]).done).s, null);
  const { s: head } = await alice.pin(c, seqs[2], false).done;
  await until("told", () => bob.cursors()[c] === head);
  assert.deepEqual(his.conv.pins, [seqs[0], seqs[1]]);
  assert.ok(his.messages.get(seqs[0]).pinned > 0);
  assert.equal(his.messages.get(seqs[2]).pinned, undefined);
  await assertSame(his, bob, c);
  await assert.rejects(bob.pin(c, seqs[2]).done, { code: "forbidden" });
  bob.discard(bob.queue()[0].cid);
  const { s: last } = await bob.delete(c, seqs[0]).done;
  await until("told", () => bob.cursors()[c] === last);
  assert.deepEqual(his.conv.pins, [seqs[1]]);
  await assertSame(his, bob, c);

  const direct = await alice.open({ kind: "direct", with: "bob" });
  const { s } = await alice.send(direct.c, { body: { text: "keep this" } }).done;
  await bob.pin(direct.c, s).done;
  assert.ok((await convOf(alice, direct.c)).pins.includes(s));
  await alice.pin(direct.c, s, false).done;
});

test("settings: what is set is told to all, the rest stays; only announcements", async () => {
  const [alice, bob] = [client("alice"), client("bob")];
  alice.start();
  bob.start();
  await live(alice, bob);
  const { c } = await openGroup(alice, ["bob"]);
  const his = await folding(bob, c);
  const told = [];
  bob.on("rec", ({ rec }) => rec.c === c && rec.kind === "meta" && told.push(rec.body));
  const set = async (settings) => {
    const { s } = await alice.meta(c, settings);
    await until("told", () => bob.cursors()[c] === s);
    assert.deepEqual(told.at(-1), settings);
    await assertSame(his, bob, c);
  };
  await set({ name: "Sunday walkers", topic: "by the river" });
  await set({ topic: null, ttl: 3600, history: "joined" });
  const { name, topic, ttl, history } = his.conv;
  assert.deepEqual([name, topic, ttl, history], ["Sunday walkers", null, 3600, "joined"]);
  assert.equal((await alice.meta(c, { ttl: 3600 })).s, null, "it is so already");
  await set({ ttl: null, announce: true });
  await assert.rejects(bob.meta(c, { name: "mine" }), { code: "forbidden" });
  await assert.rejects(bob.send(c, { body: { text: "may I?" } }).done, { code: "forbidden" });
  bob.discard(bob.queue()[0].cid);
  await alice.send(c, { body: { text: "nobody may" } }).done;
  await set({ announce: false, lang: "de", searchable: false });
  await set({ lang: null, searchable: true });
  await bob.send(c, { body: { text: "now I may" } }).done;

  const direct = await alice.open({ kind: "direct", with: "bob" });
  await assert.rejects(bob.meta(direct.c, { name: "us" }), { code: "bad_request" });
  await bob.meta(direct.c, { ttl: 7200 });
  assert.equal((await convOf(alice, direct.c)).ttl, 7200);
  await alice.meta(direct.c, { ttl: null });
  assert.equal((await convOf(bob, direct.c)).ttl, null);
});

test("with a ttl messages say when they end, and then they are gone", async () => {
  const alice = client("alice");
  alice.start();
  await live(alice);
  const { c } = await openGroup(alice, []);
  await alice.meta(c, { ttl: 1 });
  const { s, ts } = await alice.send(c, { body: { text: "not for long" } }).done;
  const read = async () => (await alice.range(c, { from: s, view: "folded" })).records[0];
  assert.equal((await read()).expires, ts + 1000);
  const hole = await until("gone", async () => {
    const item = await read();
    return isHole(item) && item;
  });
  assert.equal(hole.why, "expired");
});

test("typing: once in three seconds, to the others, never late", async () => {
  const sent = [];
  class Heard extends WebSocket {
    send(data) {
      for (const line of data.split("\n")) if (line.includes('"typing"')) sent.push(line);
      super.send(data);
    }
  }
  const [alice, bob] = [client("alice", { socket: Heard }), client("bob")];
  alice.start();
  bob.start();
  await live(alice, bob);
  const { c } = await openGroup(alice, ["bob"]);
  const { c: elsewhere } = await openGroup(alice, ["bob"]);
  await until("joined", () => [c, elsewhere].every((each) => each in bob.cursors()));
  const [his, hers] = [[], []];
  bob.on("typing", (event) => event.c === c && his.push(event));
  alice.on("typing", (event) => hers.push(event));
  const start = Date.now();
  for (let i = 0; i < 20; i++) alice.typing(c);
  alice.typing(elsewhere);
  await until("bob is told", () => his.length > 0);
  assert.deepEqual([his[0].user, his[0].ttl_ms], ["alice", 5000]);
  assert.deepEqual(
    sent.map((line) => JSON.parse(line)),
    [c, elsewhere].map((each) => ({ op: "typing", c: each })),
  );
  await until("told again", () => {
    alice.typing(c);
    return his.length === 2;
  });
  assert.ok(Date.now() - start >= TYPING_MS, "not before its time");
  assert.equal(sent.length, 3);
  assert.deepEqual(hers, []);
  // Without a connection it is forgotten.
  const away = client("alice", { socket: Heard });
  away.typing(c);
  away.start();
  await live(away);
  await away.ping();
  assert.equal(sent.length, 3);
});

await runTests();
