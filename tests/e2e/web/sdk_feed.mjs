// sdk_feed.mjs: what is given out: each sequence once and in order, whatever the network does.
import assert from "node:assert/strict";
import { runTests, test, until, WebSocket } from "./lib.mjs";
import {
  assertDense,
  client,
  isHole,
  live,
  mortal,
  noting,
  openGroup,
  texts,
} from "./sdk_lib.mjs";

test("sockets die in traffic: each sequence once, each send once, in order", async () => {
  const [net1, net2] = [mortal(), mortal()];
  const alice = client("alice", { socket: net1.socket });
  const bob = client("bob", { socket: net2.socket });
  alice.start();
  await live(alice);
  const conv = await openGroup(alice, ["bob"]);
  bob.start();
  await live(bob);
  const got = noting(bob, conv.c);
  const count = 300;
  let cuts = 0;
  const sends = [];
  for (let i = 0; i < count; i++) {
    sends.push(alice.send(conv.c, { body: { text: `${i}` } }).done);
    // The next comes when this one has left or the connection has.
    if (i % 10 === 9) await until("half of them are through", () => alice.queue().length < 5);
    if (i % 37 === 20) cuts += net1.cut();
    if (i % 53 === 30) cuts += net2.cut();
  }
  const results = await Promise.all(sends);
  const head = results.at(-1).s;
  await until("bob has them", () => bob.cursors()[conv.c] === head);
  assert.ok(cuts >= 10, `${cuts} sockets cut`);
  assertDense(got, conv.head, head);
  assert.deepEqual(
    await texts(bob, conv.c),
    Array.from({ length: count }, (_, i) => `${i}`),
  );
});

test("a long absence: lag is caught up from the cursor, everything once", async () => {
  const [alice, first] = [client("alice"), client("bob")];
  alice.start();
  await live(alice);
  const conv = await openGroup(alice, ["bob"]);
  first.start();
  await live(first);
  const before = noting(first, conv.c);
  const { s } = await alice.send(conv.c, { body: { text: "before" } }).done;
  await until("seen", () => first.cursors()[conv.c] === s);
  first.stop();
  const cursors = first.cursors();
  const writes = Array.from(
    { length: 700 },
    (_, i) => alice.send(conv.c, { body: { text: `${i}` } }).done,
  );
  const { s: head } = (await Promise.all(writes)).at(-1);
  const second = client("bob", { cursors });
  const after = noting(second, conv.c);
  let lags = 0;
  second.on("skipped", () => lags++);
  second.start();
  await until("caught up", () => second.cursors()[conv.c] === head);
  const { s: last } = await alice.send(conv.c, { body: { text: "live again" } }).done;
  await until("live again", () => second.cursors()[conv.c] === last);
  assertDense([...before, ...after], conv.head, last);
  assert.equal(lags, 0);
});

test("lagMax: what is too far behind is skipped, and said so", async () => {
  const alice = client("alice");
  alice.start();
  await live(alice);
  const conv = await openGroup(alice, ["bob"]);
  const writes = Array.from(
    { length: 400 },
    (_, i) => alice.send(conv.c, { body: { text: `${i}` } }).done,
  );
  const { s: head } = (await Promise.all(writes)).at(-1);
  const bob = client("bob", { cursors: { [conv.c]: conv.head }, lagMax: 100 });
  const skipped = [];
  bob.on("skipped", (event) => event.c === conv.c && skipped.push([event.from, event.to]));
  const got = noting(bob, conv.c);
  bob.start();
  await until("at the head", () => bob.cursors()[conv.c] === head);
  const { s } = await alice.send(conv.c, { body: { text: "now" } }).done;
  await until("live", () => bob.cursors()[conv.c] === s);
  assert.deepEqual(skipped, [[conv.head + 1, head]]);
  assert.deepEqual(got, [[s, s]]);
});

test("records that are lost or doubled on the way are noticed by their sequence", async () => {
  let [lost, doubled] = [0, 0];
  class Lossy extends WebSocket {
    set onmessage(fn) {
      super.onmessage = (event) => {
        const lines = event.data.split("\n").flatMap((line) => {
          if (!line.startsWith('{"ev":"rec"')) return [line];
          if (Math.random() < 0.2 && ++lost) return [];
          if (Math.random() < 0.2 && ++doubled) return [line, line];
          return [line];
        });
        fn?.({ data: lines.join("\n") });
      };
    }
  }
  const [alice, bob] = [client("alice"), client("bob", { socket: Lossy })];
  alice.start();
  bob.start();
  await live(alice, bob);
  const conv = await openGroup(alice, ["bob"]);
  await until("joined", () => conv.c in bob.cursors());
  const got = noting(bob, conv.c);
  for (let i = 0; i < 100; i++) await alice.send(conv.c, { body: { text: `${i}` } }).done;
  // The last ones may be lost too: the next that comes shows it.
  const head = await until("bob is at the head", async () => {
    const { s } = await alice.send(conv.c, { body: { text: "more" } }).done;
    return bob.cursors()[conv.c] === s && s;
  });
  assert.ok(lost > 3 && doubled > 3, `${lost} lost, ${doubled} doubled`);
  await until("given out", () => (got.at(-1)?.[1] ?? 0) >= head);
  assertDense(got, conv.head, got.at(-1)[1]);
});

test("records that come along with the list are neither lost nor doubled", async () => {
  let late = null; // the answer to `sync`, until the next frame comes and goes in with it
  class Late extends WebSocket {
    set onmessage(fn) {
      super.onmessage = ({ data }) => {
        if (data.includes('"convs":[')) late = data;
        else if (late !== null) fn?.({ data: `${late}\n${data}` }, (late = null));
        else fn?.({ data });
      };
    }
  }
  const alice = client("alice");
  alice.start();
  await live(alice);
  const conv = await openGroup(alice, ["bob"]);
  let cursors = { [conv.c]: conv.head };
  const got = [];
  for (let round = 0; round < 3; round++) {
    const bob = client("bob", { socket: Late, cursors });
    const skipped = [];
    bob.on("skipped", (event) => skipped.push(event));
    const items = noting(bob, conv.c);
    bob.start();
    await until("the list is on its way", () => late !== null);
    const { s } = await alice.send(conv.c, { body: { text: `${round}` } }).done;
    await until("given out", () => bob.cursors()[conv.c] === s);
    const { s: last } = await alice.send(conv.c, { body: { text: "live" } }).done;
    await until("live", () => bob.cursors()[conv.c] === last);
    assert.deepEqual(skipped, []);
    got.push(...items);
    cursors = bob.cursors();
    bob.stop();
  }
  assertDense(got, conv.head, cursors[conv.c]);
});

test("cursors that don't fit into one frame: nothing is missed all the same", async () => {
  class Narrow extends WebSocket {
    set onmessage(fn) {
      const narrow = (data) => data.replace(/"max_in":\d+/, '"max_in":2150');
      super.onmessage = ({ data }) => fn?.({ data: narrow(data) });
    }
    send(data) {
      for (const request of data.split("\n").map((line) => JSON.parse(line)))
        if (request.op === "sync" && request.cur) cursorsSent = Object.keys(request.cur).length;
      super.send(data);
    }
  }
  let cursorsSent = 0;
  const alice = client("alice");
  alice.start();
  await live(alice);
  const cursors = {};
  for (let i = 0; i < 6; i++) {
    const conv = await openGroup(alice, ["bob"]);
    cursors[conv.c] = conv.head;
    for (let k = 0; k < 3; k++) await alice.send(conv.c, { body: { text: `${k}` } }).done;
  }
  const bob = client("bob", { socket: Narrow, cursors });
  const got = Object.fromEntries(Object.keys(cursors).map((c) => [c, noting(bob, c)]));
  bob.start();
  const there = ([c, at]) => bob.cursors()[c] === at + 3;
  await until("all are caught up", () => Object.entries(cursors).every(there));
  for (const [c, at] of Object.entries(cursors)) assertDense(got[c], at, at + 3);
  assert.ok(cursorsSent > 0 && cursorsSent < 6, `${cursorsSent} went along`);
});

test("holes are given out in their place", async () => {
  const alice = client("alice");
  alice.start();
  await live(alice);
  const conv = await openGroup(alice, ["bob"]);
  const sent = [];
  for (let i = 0; i < 5; i++)
    sent.push(await alice.send(conv.c, { body: { text: `${i}` } }).done);
  const { s: head } = await alice.delete(conv.c, sent[2].s).done;
  const bob = client("bob", { cursors: { [conv.c]: 0 } });
  const got = noting(bob, conv.c);
  const holes = [];
  bob.on("hole", ({ hole }) => holes.push(hole));
  bob.start();
  await until("caught up", () => bob.cursors()[conv.c] === head);
  assertDense(got, 0, head);
  assert.ok(holes.some((hole) => hole.why === "erased" && hole.hole[0] === sent[2].s));
});

test("a slow loop over the iterator gets everything; nothing piles up", async () => {
  const [alice, bob] = [client("alice"), client("bob")];
  alice.start();
  bob.start();
  await live(alice, bob);
  const conv = await openGroup(alice, ["bob"]);
  await until("joined", () => conv.c in bob.cursors());
  const count = 1200;
  const writes = Array.from(
    { length: 900 },
    (_, i) => alice.send(conv.c, { body: { text: `${i}` } }).done,
  );
  const got = [];
  let furthest = 0;
  for await (const { c, item } of bob) {
    if (c !== conv.c) continue;
    got.push(isHole(item) ? item.hole : [item.s, item.s]);
    furthest = Math.max(furthest, bob.cursors()[conv.c] - item.s);
    // Reads while all is being written, and then some more.
    if (got.length === 1) {
      await Promise.all(writes);
      for (let i = 900; i < count; i++) alice.send(conv.c, { body: { text: `${i}` } });
    }
    if (got.length === count) break;
  }
  assertDense(got, got[0][0] - 1, got[0][0] - 1 + count);
  assert.ok(furthest <= 256, `${furthest} were waiting`);
});

await runTests();
