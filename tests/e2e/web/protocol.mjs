// protocol.mjs: npm `ws`, a WebSocket client that nobody here wrote, walks through the protocol
// reference without the SDK. From the caller: LOQUAT_URL, LOQUAT_TOKEN_*.
import assert from "node:assert/strict";
import { randomBytes, randomUUID } from "node:crypto";
import net from "node:net";
import tls from "node:tls";
import { once } from "node:events";
import {
  PATIENCE_MS,
  runTests,
  SUBPROTOCOL,
  test,
  tokens,
  until,
  url,
  WebSocket,
  wsUrl,
} from "./lib.mjs";

class Client {
  events = [];
  closed = null;
  #next = 1;
  #waiting = new Map();

  static async open(user, options = {}) {
    const client = new Client();
    client.ws = new WebSocket(wsUrl(), [SUBPROTOCOL], options);
    client.ws.on("message", (data, binary) => client.#take(String(data), binary));
    client.ws.on("close", (code, reason) => (client.closed = { code, reason: String(reason) }));
    client.ws.on("error", () => undefined);
    client.hello = await client.event("hello");
    if (user) client.who = await client.ok("auth", { token: tokens[user], device: "walk" });
    return client;
  }

  #take(text, binary) {
    assert.equal(binary, false, "the server speaks text frames");
    for (const line of text.split("\n")) {
      const message = JSON.parse(line);
      if (message.ev) this.events.push(message);
      else if (this.#waiting.has(message.id)) this.#waiting.get(message.id)(message);
      else this.events.push({ ev: "reply", ...message });
    }
  }

  request(op, fields = {}) {
    const id = this.#next++;
    this.ws.send(JSON.stringify({ id, op, ...fields }));
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`no answer to ${op}`)), PATIENCE_MS);
      this.#waiting.set(id, (message) => {
        clearTimeout(timer);
        resolve(message);
      });
    });
  }
  async ok(op, fields) {
    const message = await this.request(op, fields);
    assert.ok(message.ok, `${op}: ${JSON.stringify(message)}`);
    return message.ok;
  }
  async err(op, code, fields) {
    const message = await this.request(op, fields);
    assert.equal(message.err?.code, code, `${op}: ${JSON.stringify(message)}`);
    return message.err;
  }
  say(c, text, more = {}) {
    return this.ok("send", { c, cid: randomUUID(), kind: "text", body: { text }, ...more });
  }

  /** Takes the first event that fits out of those that came. */
  event(name, fits = () => true) {
    return until(`event ${name}`, () => {
      const at = this.events.findIndex((event) => event.ev === name && fits(event));
      return at >= 0 && this.events.splice(at, 1)[0];
    });
  }
  recs(c) {
    return this.events.filter((event) => event.ev === "rec" && event.c === c);
  }
  close() {
    this.ws.close();
    return until("closed", () => this.closed);
  }
}

const group = (client, members, name = "walk") =>
  client.ok("open", { kind: "group", name, members, cid: randomUUID() });
const lengthOf = (item) => (item.hole ? item.hole[1] - item.hole[0] + 1 : 1);

test("hello comes first, and says the limits", async () => {
  const client = await Client.open(null);
  assert.equal(client.hello.v, 1);
  for (const key of ["ping_ms", "max_in", "window", "auth_ms"])
    assert.ok(client.hello[key] > 0, key);
  assert.equal(client.ws.protocol, SUBPROTOCOL);
  assert.equal(client.events.length, 0);
  await client.close();
});

test("a client that offers to compress is served so, without context takeover", async () => {
  let agreed = null;
  const client = await Client.open("alice", {
    perMessageDeflate: { threshold: 0 },
    finishRequest: (request) => {
      request.on("upgrade", (answer) => (agreed = answer.headers["sec-websocket-extensions"]));
      request.end();
    },
  });
  assert.equal(client.ws.extensions, "permessage-deflate");
  assert.match(agreed, /client_no_context_takeover/);
  assert.match(agreed, /server_no_context_takeover/);
  const { c } = await group(client, ["bob"]);
  const text = "the same again ".repeat(1500);
  const { s } = await client.say(c, text);
  const page = await client.ok("range", { c, from: s, view: "log" });
  assert.equal(page.records[0].body.text, text);
  await client.close();
});

test("nothing is answered before auth; a bad token closes with 4202", async () => {
  const client = await Client.open(null);
  await client.err("list", "unauthorized");
  await client.err("auth", "unauthorized", { token: "a.b.c", device: "walk" });
  await until("closed", () => client.closed);
  assert.equal(client.closed.code, 4202);
});

test("auth names the user, ping tells the time", async () => {
  const client = await Client.open("alice");
  assert.equal(client.who.user, "alice");
  assert.equal(client.who.device, "walk");
  assert.ok(Math.abs((await client.ok("ping")).now - Date.now()) < 60_000);
  await client.close();
});

test("a direct conversation is the same from both sides", async () => {
  const [alice, bob] = [await Client.open("alice"), await Client.open("bob")];
  const mine = await alice.ok("open", { kind: "direct", with: "bob", cid: randomUUID() });
  const theirs = await bob.ok("open", { kind: "direct", with: "alice", cid: randomUUID() });
  assert.equal(mine.c, theirs.c);
  assert.equal(mine.with, "bob");
  assert.equal(theirs.with, "alice");
  await Promise.all([alice.close(), bob.close()]);
});

test("a send is acknowledged, goes out live in order, and stands in the log", async () => {
  const [alice, bob] = [await Client.open("alice"), await Client.open("bob")];
  const { c, head } = await group(alice, ["bob"]);
  await bob.ok("sync", { cur: { [c]: head } });
  await alice.ok("sync", { cur: { [c]: head } });
  const acks = await Promise.all(Array.from({ length: 100 }, (_, i) => alice.say(c, `${i}`)));
  await until("all came", () => bob.recs(c).length >= 100 && alice.recs(c).length >= 100);
  assert.deepEqual(
    bob.recs(c).map((rec) => [rec.s, rec.body.text]),
    acks.map((ack, i) => [ack.s, `${i}`]),
  );
  assert.deepEqual(
    acks.map((ack) => ack.s),
    Array.from({ length: 100 }, (_, i) => head + 1 + i),
  );
  assert.ok(
    alice.recs(c).every((rec) => rec.cid),
    "the author sees the cid",
  );
  assert.ok(
    bob.recs(c).every((rec) => rec.cid === undefined),
    "nobody else does",
  );
  const log = await bob.ok("range", { c, view: "log" });
  const live = bob.recs(c).map(({ ev: _, ...rec }) => rec);
  assert.deepEqual(log.records.slice(-100), live);
  assert.equal(log.next, null);
  assert.equal(log.head, acks.at(-1).s);
  await Promise.all([alice.close(), bob.close()]);
});

test("the same cid is written once; with other content it is a conflict", async () => {
  const alice = await Client.open("alice");
  const { c } = await group(alice, []);
  const fields = { c, cid: randomUUID(), kind: "text", body: { text: "once" } };
  const first = await alice.ok("send", fields);
  const again = await alice.ok("send", fields);
  assert.deepEqual({ ...first, dup: true }, again);
  await alice.err("send", "conflict", { ...fields, body: { text: "twice" } });
  await alice.close();
});

test("a cursor brings back exactly what was missed", async () => {
  const [alice, bob] = [await Client.open("alice"), await Client.open("bob")];
  const { c, head } = await group(alice, ["bob"]);
  await bob.ok("sync", { cur: { [c]: head } });
  await alice.say(c, "live");
  const { s: cursor } = await bob.event("rec", (rec) => rec.c === c);
  await bob.close();
  for (let i = 0; i < 20; i++) await alice.say(c, `missed ${i}`);
  const back = await Client.open("bob");
  await back.ok("sync", { cur: { [c]: cursor } });
  await alice.say(c, "live again");
  await until("all came", () => back.recs(c).length >= 21);
  assert.deepEqual(
    back.recs(c).map((rec) => rec.s),
    Array.from({ length: 21 }, (_, i) => cursor + 1 + i),
  );
  await Promise.all([alice.close(), back.close()]);
});

test("further behind than the window: lag, then range, then resume", async () => {
  const alice = await Client.open("alice");
  const { c, head } = await group(alice, ["bob"]);
  const count = alice.hello.window + 50;
  await Promise.all(Array.from({ length: count }, (_, i) => alice.say(c, `${i}`)));
  const bob = await Client.open("bob");
  await bob.ok("sync", { cur: { [c]: head } });
  const lag = await bob.event("lag", (event) => event.c === c);
  assert.equal(lag.from, head + 1);
  assert.equal(lag.head, head + count);
  await alice.say(c, "not told while lagging");
  let held = head;
  for (let from = head + 1; from !== null;) {
    const page = await bob.ok("range", { c, from, max: 100, view: "log" });
    for (const rec of page.records) assert.equal(rec.s, ++held);
    from = page.next;
  }
  assert.equal(bob.recs(c).length, 0);
  await bob.ok("resume", { c, cur: held });
  const { s } = await alice.say(c, "told again");
  await until("caught up", () => bob.recs(c).at(-1)?.s === s);
  for (const rec of bob.recs(c)) assert.equal(rec.s, ++held);
  await Promise.all([alice.close(), bob.close()]);
});

test("log and folded view, both ways: edits, deletes, replies", async () => {
  const alice = await Client.open("alice");
  const { c } = await group(alice, ["bob"]);
  const a = await alice.say(c, "first");
  const b = await alice.say(c, "second", { reply: a.s });
  const d = await alice.say(c, "third");
  await alice.ok("edit", { c, s: b.s, body: { text: "second!" }, cid: randomUUID() });
  await alice.ok("delete", { c, s: d.s, for: "all", cid: randomUUID() });
  const log = await alice.ok("range", { c, view: "log", from: 1 });
  let next = 1;
  for (const item of log.records) {
    assert.equal(item.hole ? item.hole[0] : item.s, next);
    next += lengthOf(item);
  }
  assert.equal(next, log.head + 1);
  assert.ok(log.records.some((item) => item.why === "erased" && item.hole[0] === d.s));
  const edit = log.records.find((item) => item.kind === "edit");
  assert.equal(edit.target, b.s);
  const up = await alice.ok("range", { c, view: "folded", from: a.s });
  const seen = up.records.map((item) => (item.hole ? item.why : item.body.text));
  assert.deepEqual(seen, ["first", "second!", "erased"]);
  assert.equal(up.records[1].reply, a.s);
  assert.equal(up.records[1].edited, edit.ts);
  const down = await alice.ok("range", { c, view: "folded", order: "desc", to: a.s - 1 });
  assert.deepEqual(down.records, [...up.records].reverse());
  await alice.close();
});

test("pages join without a gap and without an overlap", async () => {
  const alice = await Client.open("alice");
  const { c, head } = await group(alice, []);
  for (let i = 0; i < 25; i++) await alice.say(c, `${i}`);
  for (const order of ["asc", "desc"]) {
    const got = [];
    for (let from = order === "asc" ? head + 1 : undefined; from !== null;) {
      const edge = order === "asc" ? {} : { to: head };
      const page = await alice.ok("range", {
        c,
        from,
        max: 10,
        order,
        view: "folded",
        ...edge,
      });
      got.push(...page.records.map((rec) => rec.body.text));
      from = page.next;
    }
    const want = Array.from({ length: 25 }, (_, i) => `${i}`);
    assert.deepEqual(got, order === "asc" ? want : want.reverse());
  }
  await alice.close();
});

test("marks reach the other one, and move forward only", async () => {
  const [alice, bob] = [await Client.open("alice"), await Client.open("bob")];
  const { c } = await group(alice, ["bob"]);
  await alice.ok("sync", { cur: {} });
  const { s } = await alice.say(c, "read me");
  await bob.ok("mark", { c, delivered: s });
  await alice.event(
    "mark",
    (mark) => mark.c === c && mark.user === "bob" && mark.delivered === s,
  );
  await bob.ok("mark", { c, read: s });
  await alice.event("mark", (mark) => mark.c === c && mark.user === "bob" && mark.read === s);
  await bob.ok("mark", { c, read: s - 1 });
  const { members } = await alice.ok("members", { c });
  assert.equal(members.find((member) => member.user === "bob").read, s);
  await Promise.all([alice.close(), bob.close()]);
});

test("people who come and go are told", async () => {
  const [alice, carol] = [await Client.open("alice"), await Client.open("carol")];
  await carol.ok("sync", { cur: {} });
  const { c } = await group(alice, []);
  await alice.ok("member", { c, user: "carol", set: "add", cid: randomUUID() });
  const joined = await carol.event("joined", (event) => event.c === c);
  assert.equal(joined.role, "member");
  await alice.say(c, "welcome");
  await carol.event("rec", (rec) => rec.c === c && rec.body.text === "welcome");
  await alice.ok("member", { c, user: "carol", set: "remove", cid: randomUUID() });
  await carol.event("left", (event) => event.c === c);
  await carol.err("range", "not_found", { c });
  await Promise.all([alice.close(), carol.close()]);
});

test("strangers can't tell whether a conversation exists", async () => {
  const [alice, mallory] = [await Client.open("alice"), await Client.open("mallory")];
  const { c } = await group(alice, ["bob"]);
  const there = await mallory.err("range", "not_found", { c });
  assert.deepEqual(there, await mallory.err("range", "not_found", { c: "g-none" }));
  await Promise.all([alice.close(), mallory.close()]);
});

test("unknown ops and broken lines are answered; the connection goes on", async () => {
  const alice = await Client.open("alice");
  await alice.err("fly", "bad_request");
  await alice.err("range", "bad_request", { c: 7 });
  for (const broken of ["{", "[]", "nonsense", '{"id":1,"id":2,"op":"ping"}']) {
    alice.ws.send(broken);
    await alice.event("reply", (reply) => reply.err?.code === "bad_request");
  }
  // Two in one frame; the first wants no answer.
  alice.ws.send('{"op":"ping"}\n{"id":1000000,"op":"ping","unknown":{"a":[1]}}');
  await alice.event("reply", (reply) => reply.id === 1_000_000 && reply.ok);
  assert.equal(alice.events.filter((event) => event.ev === "reply").length, 0);
  await alice.close();
});

// ---- frames that end a connection ------------------------------------------------------------

async function closeCode(misbehave, options = {}) {
  const client = await Client.open("alice", options);
  misbehave(client.ws);
  return (await until("closed", () => client.closed)).code;
}

test("a binary frame: 1003", async () => {
  assert.equal(await closeCode((ws) => ws.send(Buffer.from([1, 2, 3]))), 1003);
});
test("text that is not UTF-8: 1007", async () => {
  assert.equal(
    await closeCode((ws) => ws.send(Buffer.from([0xff, 0xfe, 0x7b]), { binary: false })),
    1007,
  );
});
test("a frame over max_in: 1009", async () => {
  assert.equal(await closeCode((ws) => ws.send("x".repeat(70_000))), 1009);
});
test("a compressed frame that inflates over max_in: 1009", async () => {
  const options = { perMessageDeflate: { threshold: 0 } };
  assert.equal(await closeCode((ws) => ws.send("x".repeat(4_000_000)), options), 1009);
});

/** Bytes that no library would send; gives the code of the close frame that comes back. */
async function rawCode(...frames) {
  const { hostname, port, protocol } = new URL(url);
  const socket = (protocol === "https:" ? tls : net).connect(Number(port), hostname);
  let got = Buffer.alloc(0);
  socket.on("data", (data) => (got = Buffer.concat([got, data])));
  socket.on("error", () => undefined);
  const ended = once(socket, "close");
  socket.write(
    [
      "GET /v1/ws HTTP/1.1",
      `Host: ${hostname}:${port}`,
      "Connection: Upgrade",
      "Upgrade: websocket",
      "Sec-WebSocket-Version: 13",
      `Sec-WebSocket-Key: ${randomBytes(16).toString("base64")}`,
      `Sec-WebSocket-Protocol: ${SUBPROTOCOL}`,
      "\r\n",
    ].join("\r\n"),
  );
  await until("upgraded", () => got.includes("\r\n\r\n"));
  assert.match(got.toString("latin1"), /^HTTP\/1\.1 101 /);
  for (const frame of frames) socket.write(frame);
  await ended;
  let at = got.indexOf("\r\n\r\n") + 4;
  while (at < got.length) {
    const [first, length] = [got[at], got[at + 1]];
    const head = length === 126 ? 4 : 2;
    const size = length === 126 ? got.readUInt16BE(at + 2) : length;
    if ((first & 15) === 8) return got.readUInt16BE(at + head);
    at += head + size;
  }
  return null;
}
const masked = (first, payload) =>
  Buffer.from([first, 0x80 | payload.length, 0, 0, 0, 0, ...payload]);
const BROKEN = {
  "not masked": [Buffer.from([0x81, 2, 0x7b, 0x7d])],
  "a reserved opcode": [masked(0x83, [])],
  "a reserved bit": [masked(0xa1, [0x7b, 0x7d])],
  "a ping in parts": [masked(0x09, [1])],
  "a continuation of nothing": [masked(0x80, [0x7b])],
  "a new message inside another": [masked(0x01, [0x7b]), masked(0x81, [0x7d])],
  "a close frame with one byte": [masked(0x88, [3])],
};
for (const [name, frames] of Object.entries(BROKEN)) {
  test(`${name}: 1002`, async () => assert.equal(await rawCode(...frames), 1002));
}

await runTests();
