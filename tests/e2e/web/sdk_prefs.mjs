// sdk_prefs.mjs: what a user sets of conversations, on several devices; mentions.
import assert from "node:assert/strict";
import { runTests, test, until } from "./lib.mjs";
import {
  client,
  convOf,
  DRAFT_MAX,
  foldConv,
  foldPrefs,
  isMention,
  live,
  mortal,
  MUTED_FOR_EVER,
  openGroup,
} from "./sdk_lib.mjs";

const settings = ({ muted_until = null, pinned = false, hidden = false, draft = null }) => ({
  muted_until,
  pinned,
  hidden,
  draft,
});

/** The conversations of a client, kept up by what it is given; before it starts. What is set of one
 * may come before it does. */
function listing(from) {
  const convs = new Map();
  from.on("convs", ({ convs: all }) => all.forEach((conv) => convs.set(conv.c, conv)));
  from.on("joined", ({ conv }) => convs.set(conv.c, conv));
  from.on("prefs", ({ c, prefs, ts }) => {
    if (convs.has(c)) convs.set(c, foldPrefs(convs.get(c), prefs, ts));
  });
  from.on("rec", ({ c, rec }) => {
    const conv = foldConv(convs.get(c), rec, from.user);
    convs.set(c, { ...conv, head: rec.s, last: rec });
  });
  return (c) => settings(convs.get(c) ?? {});
}

/** What is set here comes to be seen there. */
const shows = (there, c, wanted) =>
  until(JSON.stringify(wanted), () => {
    const all = { ...there(c), ...wanted };
    return JSON.stringify(all) === JSON.stringify(there(c));
  });

async function hiddenOf(from, c) {
  return (await from.list(undefined, 500, true)).convs.find((each) => each.c === c);
}

test("prefs: every device of the user is told, nobody else; what is not named stays", async () => {
  const [phone, desk, bob] = [client("alice"), client("alice"), client("bob")];
  const there = listing(desk);
  const told = [];
  bob.on("prefs", (event) => told.push(event));
  for (const each of [phone, desk, bob]) each.start();
  await live(phone, desk, bob);
  const { c } = await openGroup(phone, ["bob"]);
  const plain = { muted_until: null, pinned: false, hidden: false, draft: null };
  assert.deepEqual(settings(await convOf(phone, c)), plain);
  await until("joined", () => c in desk.cursors() && c in bob.cursors());
  await phone.prefs(c, { pinned: true, muted_until: MUTED_FOR_EVER });
  await shows(there, c, { ...plain, pinned: true, muted_until: MUTED_FOR_EVER });
  await desk.prefs(c, { draft: "Dear all,\n" });
  const all = { ...plain, pinned: true, muted_until: MUTED_FOR_EVER, draft: "Dear all,\n" };
  await shows(there, c, all);
  assert.deepEqual(settings(await convOf(phone, c)), all);
  await phone.prefs(c, { muted_until: 0, draft: null, pinned: false });
  await shows(there, c, plain);
  assert.deepEqual(settings(await convOf(phone, c)), plain);
  await bob.ping();
  assert.deepEqual(told, []);
});

test("prefs: what is refused", async () => {
  const [alice, mallory] = [client("alice"), client("mallory")];
  alice.start();
  mallory.start();
  await live(alice, mallory);
  const { c } = await openGroup(alice, []);
  await assert.rejects(mallory.prefs(c, { pinned: true }), { code: "not_found" });
  await assert.rejects(alice.prefs(c, {}), { code: "bad_request" });
  await assert.rejects(alice.prefs(c, { pinned: "yes" }), { code: "bad_request" });
  await assert.rejects(alice.prefs(c, { draft: "é".repeat(DRAFT_MAX / 2) + "!" }), {
    code: "too_large",
  });
  await alice.prefs(c, { draft: "é".repeat(DRAFT_MAX / 2) });
  assert.equal((await convOf(alice, c)).draft.length, DRAFT_MAX / 2);
});

test("hidden: out of the list, and back with the next message or by hand", async () => {
  const [phone, desk, bob] = [client("alice"), client("alice"), client("bob")];
  const there = listing(desk);
  for (const each of [phone, desk, bob]) each.start();
  await live(phone, desk, bob);
  const { c } = await openGroup(phone, ["bob"]);
  await until("joined", () => c in desk.cursors());
  const hide = async () => {
    await phone.prefs(c, { hidden: true });
    await shows(there, c, { hidden: true });
    assert.equal(await convOf(phone, c), undefined);
    assert.equal((await hiddenOf(phone, c)).hidden, true);
  };
  const isBack = async () => {
    await shows(there, c, { hidden: false });
    assert.equal((await convOf(phone, c)).hidden, undefined);
    assert.equal(await hiddenOf(phone, c), undefined);
  };
  await hide();
  const { s } = await bob.send(c, { body: { text: "are you there?" } }).done;
  await isBack();
  await hide();
  // What only changes a message is no reason to come back.
  const { s: reacted } = await bob.react(c, s, "👍").done;
  await until("told", () => desk.cursors()[c] === reacted);
  assert.equal(there(c).hidden, true);
  assert.equal(await convOf(phone, c), undefined);
  await desk.prefs(c, { hidden: false });
  await isBack();
});

test("hidden: the word of it and a message may come in either order", () => {
  const text = (ts) => ({ c: "c", s: 2, ts, kind: "text", from: "bob" });
  const conv = { c: "c", last: text(10) };
  assert.equal(foldPrefs(conv, { hidden: true }, 9).hidden, false);
  const hidden = foldPrefs(conv, { hidden: true }, 11);
  assert.equal(hidden.hidden, true);
  assert.equal(foldConv(hidden, text(11), "alice").hidden, true, "it was written before");
  assert.equal(foldConv(hidden, text(12), "alice").hidden, false);
  assert.equal(foldPrefs(hidden, { pinned: true }, 12).hidden, true);
});

test("the list: pinned ones first, each part by its newest message", async () => {
  const alice = client("alice");
  alice.start();
  await live(alice);
  const all = [];
  for (let i = 0; i < 4; i++) {
    const { c } = await openGroup(alice, []);
    await alice.send(c, { body: { text: `${i}` } }).done;
    all.push(c);
  }
  const order = async () =>
    (await alice.list()).convs.map(({ c }) => all.indexOf(c)).filter((i) => i >= 0);
  assert.deepEqual(await order(), [3, 2, 1, 0]);
  await alice.prefs(all[0], { pinned: true });
  await alice.prefs(all[2], { pinned: true });
  assert.deepEqual(await order(), [2, 0, 3, 1]);
  await alice.send(all[0], { body: { text: "newest" } }).done;
  assert.deepEqual(await order(), [0, 2, 3, 1]);
  await alice.prefs(all[0], { pinned: false });
  await alice.prefs(all[2], { pinned: false });
  assert.deepEqual(await order(), [0, 3, 2, 1]);
});

test("prefs set while a device is away, or while its sockets die: it has them all", async () => {
  const [net1, net2] = [mortal(), mortal()];
  const phone = client("alice", { socket: net1.socket });
  const desk = client("alice", { socket: net2.socket });
  const [hers, theirs] = [listing(phone), listing(desk)];
  phone.start();
  desk.start();
  await live(phone, desk);
  const all = [];
  for (let i = 0; i < 3; i++) all.push((await openGroup(phone, [])).c);
  await until("joined", () => all.every((c) => c in desk.cursors()));
  const draw = (from) => from[Math.floor(Math.random() * from.length)];
  let cuts = 0;
  for (let i = 0; i < 90; i++) {
    const prefs = draw([
      { pinned: i % 2 === 0 },
      { hidden: i % 3 === 0 },
      { muted_until: draw([null, 5, MUTED_FOR_EVER]) },
      { draft: draw([null, `draft ${i}`]) },
    ]);
    const set = draw([phone, desk]).prefs(draw(all), prefs);
    if (i % 11 === 5) cuts += net1.cut();
    if (i % 7 === 3) cuts += net2.cut();
    await set;
  }
  await live(phone, desk);
  assert.ok(cuts >= 8, `${cuts} sockets cut`);
  for (const c of all) {
    const conv = (await convOf(desk, c)) ?? (await hiddenOf(desk, c));
    for (const view of [hers, theirs]) await shows(view, c, settings(conv));
  }
  // One that was away for all of it.
  const later = client("alice");
  const view = listing(later);
  later.start();
  await live(later);
  for (const c of all) assert.deepEqual(view(c), theirs(c));
  // Nothing of this is in the way of other tests.
  for (const c of all)
    await later.prefs(c, { pinned: false, hidden: false, muted_until: null, draft: null });
});

test("mentions: of one, of all, counted until they are read", async () => {
  const [alice, bob] = [client("alice"), client("bob")];
  alice.start();
  bob.start();
  await live(alice, bob);
  const { c } = await openGroup(alice, ["bob"]);
  await until("joined", () => c in bob.cursors());
  const named = [];
  bob.on("rec", ({ rec }) => rec.c === c && named.push(isMention(rec, bob.user)));
  for (const mentions of [["bob"], ["carol"], "all", undefined])
    await alice.send(c, { body: { text: "hey" }, ...(mentions && { mentions }) }).done;
  await until("told", () => named.length === 4);
  assert.deepEqual(named, [true, false, true, false]);
  const his = await convOf(bob, c);
  assert.deepEqual([his.unread, his.mentions], [4, 2]);
  assert.equal((await convOf(alice, c)).mentions, 0);
  bob.mark(c, { read: his.head - 1 });
  await until("counted", async () => {
    const { unread, mentions } = await convOf(bob, c);
    return unread === 1 && mentions === 0;
  });
});

await runTests();
