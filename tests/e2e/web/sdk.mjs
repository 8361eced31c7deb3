// sdk.mjs: the SDK under Node with npm `ws`, against real servers that come and go and sockets that
// are killed. From the caller: LOQUAT_URL, LOQUAT_TOKEN_*, BUILD.
import assert from "node:assert/strict";
import { randomUUID, webcrypto } from "node:crypto";
import path from "node:path";
import { pathToFileURL } from "node:url";
import {
  build,
  require,
  root,
  runTests,
  Server,
  test,
  tokens,
  until,
  WebSocket,
  wsUrl,
} from "./lib.mjs";

globalThis.crypto ??= webcrypto; // Node 18 has it under another name

/** The SDK as one module of JavaScript, made by the same tool that makes the page. */
async function loadSdk() {
  /* By its path: what `require` would resolve is the deprecated CommonJS one. */
  const home = path.dirname(require.resolve("vite/package.json"));
  const vite = await import(pathToFileURL(path.join(home, "dist/node/index.js")).href);
  const outDir = path.join(build, "tests/web");
  await vite.build({
    root: path.join(root, "gateway/web"),
    configFile: false,
    logLevel: "error",
    build: {
      lib: { entry: "sdk/index.ts", formats: ["es"], fileName: () => "sdk.mjs" },
      outDir,
      emptyOutDir: false,
      minify: false,
      target: "node18",
    },
  });
  return import(pathToFileURL(path.join(outDir, "sdk.mjs")).href);
}
const { Client, isHole, memoryStorage, tokenClaims, webStorage } = await loadSdk();

const FAST = { backoffMs: [20, 200], requestTimeoutMs: 15_000, socket: WebSocket };
const started = [];

function client(user, options = {}) {
  const made = new Client({
    url: wsUrl(),
    token: tokens[user],
    device: "sdk-test",
    ...FAST,
    ...options,
  });
  started.push(made);
  return made;
}
const live = (...clients) =>
  Promise.all(clients.map((each) => until("live", () => each.state.name === "live")));

/** Notes what a client gives out of one conversation, as [first, last] of each item. */
function noting(from, c) {
  const got = [];
  from.on("rec", (event) => event.c === c && got.push([event.rec.s, event.rec.s]));
  from.on("hole", (event) => event.c === c && got.push(event.hole.hole));
  return got;
}

/** Each sequence of (from, to] once, in order. */
function assertDense(got, from, to) {
  let at = from;
  for (const [first, last] of got) {
    assert.equal(first, at + 1, `${first} came after ${at}`);
    at = last;
  }
  assert.equal(at, to);
}

async function texts(reader, c) {
  const out = [];
  for (let from = 1; from !== null;) {
    const page = await reader.range(c, { from, view: "folded" });
    for (const item of page.records) if (!isHole(item)) out.push(item.body.text);
    from = page.next;
  }
  return out;
}

/** A socket whose connections can be cut, as a network would. */
function mortal() {
  const open = new Set();
  class Mortal extends WebSocket {
    constructor(...args) {
      super(...args);
      open.add(this);
      this.on("close", () => open.delete(this));
    }
  }
  return {
    socket: Mortal,
    cut: () => {
      for (const socket of open) socket.terminate();
      return open.size;
    },
  };
}

/** localStorage for Node. */
class Area {
  #items = new Map();
  get length() {
    return this.#items.size;
  }
  key = (i) => [...this.#items.keys()][i] ?? null;
  getItem = (key) => this.#items.get(key) ?? null;
  setItem = (key, value) => void this.#items.set(key, value);
  removeItem = (key) => void this.#items.delete(key);
}

const openGroup = (owner, members) =>
  owner.open({ kind: "group", name: "sdk", members, cid: randomUUID() });

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

test("what is written offline is kept, and lands once when there is a connection", async () => {
  const alice = client("alice");
  alice.start();
  await live(alice);
  const conv = await openGroup(alice, ["bob"]);
  const area = new Area();
  const offline = client("alice", { storage: webStorage(area, "alice") });
  for (let i = 0; i < 5; i++) offline.send(conv.c, { body: { text: `${i}` } });
  offline.send("g-none", { body: { text: "to nobody" } });
  assert.equal(offline.queue().length, 6);
  assert.equal(area.length, 6);

  // The page is opened again, in two tabs at once.
  const tabs = [0, 1].map(() => client("alice", { storage: webStorage(area, "alice") }));
  const failures = [];
  for (const tab of tabs) {
    assert.equal(tab.queue().length, 6);
    tab.on("failed", (event) => failures.push(event));
    tab.start();
  }
  await until("sent", () => tabs.every((tab) => tab.queue().every((entry) => entry.error)));
  assert.deepEqual(await texts(alice, conv.c), ["0", "1", "2", "3", "4"]);
  assert.equal(failures.length, 2);
  assert.equal(failures[0].error.code, "not_found");
  const [refused] = tabs[0].queue();
  assert.equal(refused.error.code, "not_found");
  tabs[0].discard(refused.cid);
  assert.deepEqual(tabs[0].queue(), []);
  assert.equal(area.length, 0);
});

test("an edit and a delete wait their turn behind the sends of their conversation", async () => {
  const storage = memoryStorage();
  const alice = client("alice");
  alice.start();
  await live(alice);
  const conv = await openGroup(alice, []);
  const { s } = await alice.send(conv.c, { body: { text: "old" } }).done;
  const { s: gone } = await alice.send(conv.c, { body: { text: "gone" } }).done;
  const offline = client("alice", { storage });
  const done = [
    offline.send(conv.c, { body: { text: "new" } }).done,
    offline.edit(conv.c, s, { text: "edited" }).done,
    offline.delete(conv.c, gone).done,
  ];
  offline.start();
  const results = await Promise.all(done);
  assert.deepEqual(
    results.map((result) => result.s),
    [gone + 1, gone + 2, gone + 3],
  );
  assert.deepEqual(await texts(alice, conv.c), ["edited", "new"]);
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

test("marks: the newest of many goes out, after a reconnect too", async () => {
  const net = mortal();
  const [alice, bob] = [client("alice"), client("bob", { socket: net.socket })];
  alice.start();
  bob.start();
  await live(alice, bob);
  const conv = await openGroup(alice, ["bob"]);
  let s = 0;
  for (let i = 0; i < 10; i++)
    ({ s } = await alice.send(conv.c, { body: { text: `${i}` } }).done);
  let seen = 0;
  alice.on("mark", (mark) => mark.user === "bob" && (seen = mark.read ?? seen));
  net.cut();
  for (let i = 9; i >= 0; i--) bob.mark(conv.c, { read: s - i });
  await until("alice is told", () => seen === s);
});

test("members, roles and lists", async () => {
  const alice = client("alice");
  alice.start();
  await live(alice);
  const conv = await openGroup(alice, ["bob"]);
  await alice.member(conv.c, "carol", "add");
  await alice.member(conv.c, "bob", "role", "owner");
  const { members } = await alice.members(conv.c);
  assert.deepEqual(Object.fromEntries(members.map((m) => [m.user, m.role])), {
    alice: "owner",
    bob: "owner",
    carol: "member",
  });
  assert.ok((await alice.list()).convs.some((each) => each.c === conv.c));
  const left = new Promise((resolve) => alice.on("left", ({ c }) => c === conv.c && resolve()));
  await alice.leave(conv.c);
  await left;
  await assert.rejects(alice.range(conv.c), { code: "not_found" });
});

test("a garbage token stops the client, and it does not come back", async () => {
  const states = [];
  const nobody = client("alice", { token: "a.b.c" });
  nobody.on("state", (state) => states.push(state));
  nobody.start();
  await until("stopped", () => nobody.state.name === "stopped");
  assert.equal(nobody.state.code, 4202);
  assert.ok(states.every((state) => state.name !== "waiting"));
});

test("tokens: renewed in time on the same connection; after 4100 asked for first", async () => {
  const server = await Server.start();
  const asked = [];
  let renew = true;
  let current = await server.token("alice", "4");
  const alice = client("alice", {
    url: wsUrl(server.url),
    token: async (why) => {
      asked.push(why);
      if (why === "refresh" && !renew) throw new Error("the issuer is away");
      if (asked.length > 1) current = await server.token("alice", "4");
      return current;
    },
  });
  const states = [];
  alice.on("state", (state) => states.push(state));
  alice.start();
  await live(alice);
  const first = tokenClaims(current).exp * 1000;
  await until("past the end of two tokens", () => Date.now() > first + 4500);
  assert.deepEqual(
    states.map((state) => state.name),
    ["connecting", "live"],
  );
  assert.ok(asked.filter((why) => why === "refresh").length >= 2, String(asked));
  await alice.ping();

  renew = false;
  await until("closed for the token's end", () => states.some((state) => state.code === 4100));
  await until("back", () => alice.state.name === "live");
  assert.equal(
    asked.findLast((why) => why !== "refresh"),
    "refused",
  );
  alice.stop();
  await server.stop();
});

test("waking a connection that comes up does not cut it off", async () => {
  let made = 0;
  class Counted extends WebSocket {
    constructor(...args) {
      super(...args);
      made++;
      setImmediate(() => alice.wake());
    }
  }
  const alice = client("alice", { socket: Counted });
  alice.start();
  await live(alice);
  assert.equal(made, 1);
  alice.stop();
});

test("a drained server says goodbye; a killed one does not: all goes on where it was", async () => {
  let server = await Server.start();
  const make = async (user) =>
    client(user, { url: wsUrl(server.url), token: await server.token(user) });
  const [alice, bob] = [await make("alice"), await make("bob")];
  alice.start();
  bob.start();
  await live(alice, bob);
  const conv = await openGroup(alice, ["bob"]);
  await until("joined", () => conv.c in bob.cursors());
  const got = noting(bob, conv.c);
  const waits = [];
  let goodbye = null;
  bob.on("other", (event) => event.ev === "goodbye" && (goodbye = event));
  bob.on("state", (state) => state.name === "waiting" && waits.push([state, Date.now()]));
  const sends = [];
  let n = 0;
  const write = () => sends.push(alice.send(conv.c, { body: { text: `${n++}` } }).done);

  for (const signal of ["SIGTERM", "SIGKILL"]) {
    for (let i = 0; i < 20; i++) write();
    await Promise.all(sends);
    waits.length = 0;
    await server.stop(signal);
    for (let i = 0; i < 20; i++) write();
    await until("both wait", () => [alice, bob].every((each) => each.state.name !== "live"));
    const [state, at] = await until("bob waits", () => waits[0]);
    if (signal === "SIGTERM") {
      assert.ok(goodbye, "goodbye came");
      const [low, high] = goodbye.reconnect_ms;
      const wait = state.retryAt - at;
      assert.ok(wait >= low - 50 && wait <= high + 50, `${wait} of ${low}–${high}`);
    }
    server = await Server.start(server.dir, server.listen);
    for (const each of [alice, bob]) each.wake();
    const results = await Promise.all(sends);
    await until("bob has them", () => bob.cursors()[conv.c] === results.at(-1).s);
  }
  assertDense(got, conv.head, bob.cursors()[conv.c]);
  assert.deepEqual(
    await texts(bob, conv.c),
    Array.from({ length: n }, (_, i) => `${i}`),
  );
  alice.stop();
  bob.stop();
  await server.stop();
});

process.on("exit", () => started.forEach((each) => each.stop()));
await runTests();
