// sdk_session.mjs: tokens, signs of life, servers that go and come.
import assert from "node:assert/strict";
import { runTests, Server, test, tokens, until, url, WebSocket, wsUrl } from "./lib.mjs";
import {
  assertDense,
  client,
  live,
  noting,
  openGroup,
  texts,
  tokenClaims,
} from "./sdk_lib.mjs";

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

test("a connection that dies just after a last word is noticed all the same", async () => {
  let deaf = false; // what comes in is lost
  let asked = Infinity;
  class Deaf extends WebSocket {
    set onmessage(fn) {
      super.onmessage = (event) => {
        if (!deaf) fn?.(event);
      };
      this.say = (data) => fn?.({ data });
    }
    constructor(...args) {
      super(...args);
      deaf = false; // that was the network of the one before
      last = this;
    }
    send(data) {
      if (data.includes('"ping"')) asked = Date.now();
      super.send(data);
    }
  }
  let last = null;
  const alice = client("alice", { socket: Deaf, pingTimeoutMs: 300 });
  alice.start();
  await live(alice);
  const states = [];
  alice.on("state", (state) => states.push(state.name));
  deaf = true;
  alice.wake();
  await until("asked, for a while", () => Date.now() - asked > 50);
  last.say('{"ev":"typing","c":"none","user":"bob","ttl_ms":5000}');
  await until("given up", () => states.includes("waiting"), 5000);
  await until("back", () => alice.state.name === "live");
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

await runTests();
