/** A running server against the two descriptions: every operation, event and path is asked for, and
 * everything that comes must be described, field by field. */

import { spawn } from "node:child_process";
import { createHmac, randomBytes } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import WebSocket from "ws";
import { Documents } from "./examples.js";

const ASYNC = "asyncapi.yaml";
const OPEN = "openapi.yaml";
const WAIT_MS = 20_000;

function token(secret, user, scope, seconds = 600) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const now = Math.floor(Date.now() / 1000);
  const text = `${part({ alg: "HS256", typ: "JWT" })}.${part({ sub: user, scope, iat: now, exp: now + seconds })}`;
  return `${text}.${createHmac("sha256", secret).update(text).digest("base64url")}`;
}

function within(promise, what) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: nothing in ${WAIT_MS} ms`)), WAIT_MS);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** Starts the server on a directory of its own; `stop` drains it and gives the exit status. */
async function start(program) {
  const dir = mkdtempSync(join(tmpdir(), "loquat-docs-"));
  const secret = randomBytes(32).toString("hex");
  writeFileSync(join(dir, "secret"), secret, { mode: 0o600 });
  const args = [
    "--embed",
    join(dir, "data"),
    "--listen",
    "127.0.0.1:0",
    "--auth-secret-file",
    join(dir, "secret"),
    "--webhooks",
    "off",
    "--log-level",
    "warn",
  ];
  const server = spawn(program, args, { stdio: ["ignore", "pipe", "inherit"] });
  const exited = new Promise((resolve) => server.once("exit", resolve));
  const lines = createInterface({ input: server.stdout });
  const ready = new Promise((resolve) =>
    lines.on("line", (line) => {
      const found = line.match(/^ready .*listen=(\S+)/);
      if (found) resolve(found[1]);
    }),
  );
  const address = await within(Promise.race([ready, exited.then(() => null)]), "the ready line");
  if (address === null) throw new Error("the server ended before it was ready");
  return {
    address,
    token: (user, scope = "") => token(secret, user, scope),
    drain: () => server.kill("SIGTERM"),
    exited: async () => {
      const status = await within(exited, "the end of the server").catch(() => null);
      if (status === null) server.kill("SIGKILL");
      rmSync(dir, { recursive: true, force: true });
      return status;
    },
  };
}

/** What was seen, and what of it is not described. */
class Judge {
  seen = new Set();
  problems = new Set();
  #documents;
  #validators = new Map();

  constructor(documents) {
    this.#documents = documents;
  }

  message(name, value) {
    const message = this.#documents.root(ASYNC).components.messages[name];
    if (message) return this.#judge(name, message.payload, ASYNC, value);
    if (!value.err) this.problems.add(`${name} is not described: ${JSON.stringify(value)}`);
  }

  response(method, path, status, type, text) {
    const name = `${method.toUpperCase()} ${path} ${status} ${type}`;
    const responses = this.#documents.root(OPEN).paths[path][method].responses;
    const described = responses[status] ?? responses[`${String(status)[0]}XX`];
    if (!described) return this.problems.add(`${name} is not described`);
    const [response, file] = this.#documents.resolve(described, OPEN);
    const media = response.content?.[type];
    if (!media) return this.problems.add(`${name}: this type is not described`);
    this.#judge(name, media.schema, file, type === "application/json" ? JSON.parse(text) : text);
  }

  #judge(name, schema, file, value) {
    this.seen.add(name);
    if (!this.#validators.has(name))
      this.#validators.set(name, this.#documents.validator(schema, file));
    for (const problem of this.#validators.get(name)(value))
      this.problems.add(`${name}: ${problem}: ${JSON.stringify(value).slice(0, 300)}`);
  }
}

class Client {
  #asked = new Map();
  #replies = new Map();
  #waiting = [];
  #events = [];
  #next = 0;

  static async connect(server, judge, user, scope) {
    const client = new Client();
    client.ws = new WebSocket(`ws://${server.address}/v1/ws`, "loquat.v1.json");
    client.closed = new Promise((resolve) => client.ws.once("close", (code) => resolve(code)));
    client.ws.on("message", (data) => {
      for (const line of data.toString().split("\n")) client.#take(JSON.parse(line), judge);
    });
    client.ws.on("error", () => {});
    await client.event("hello");
    client.auth = await client.call("auth", { token: server.token(user, scope), device: "docs" });
    return client;
  }

  #take(value, judge) {
    if (value.ev === undefined) {
      const request = this.#asked.get(value.id);
      if (value.ok) judge.message(request.op, request);
      judge.message(`${request.op}_answer`, value);
      this.#replies.get(value.id)?.(value);
      return;
    }
    judge.message(`ev_${value.ev}`, value);
    this.#events.push(value);
    this.#waiting = this.#waiting.filter((look) => !look());
  }

  /** The `ok`, or the `err`. */
  async call(op, fields = {}) {
    const id = ++this.#next;
    const request = { id, op, ...fields };
    this.#asked.set(id, request);
    const reply = new Promise((resolve) => this.#replies.set(id, resolve));
    this.ws.send(JSON.stringify(request));
    const value = await within(reply, `the answer to ${op}`);
    return value.ok ?? value.err;
  }

  /** `kind`: that of a record, or of an entry of the user log. */
  event(name, kind) {
    return within(
      new Promise((resolve) => {
        const look = () => {
          const at = this.#events.findIndex((e) => e.ev === name && (!kind || e.kind === kind));
          if (at < 0) return false;
          resolve(this.#events.splice(at, 1)[0]);
          return true;
        };
        if (!look()) this.#waiting.push(look);
      }),
      `the event ${name} ${kind ?? ""}`,
    );
  }
}

const text = (t) => ({ kind: "text", body: { text: t } });
let counter = 0;
const cid = () => `docs-${++counter}`;

/** A new server takes some operations only after a moment. */
async function ready(ask) {
  for (let i = 0; i < 100; i++) {
    const answer = await ask();
    if (answer.code !== "unavailable") return answer;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error("unavailable for five seconds");
}

/** Two people, and everything that they can do. */
async function talk(server, judge) {
  const alice = await Client.connect(server, judge, "alice");
  const bob = await Client.connect(server, judge, "bob");
  await alice.call("ping");
  await alice.call("sync", { cur: {} });
  await bob.call("sync", { cur: {}, u: 0, limit: 10 });
  await alice.call("open", { kind: "direct", with: "bob", cid: cid() });
  const { c } = await alice.call("open", {
    kind: "group",
    name: "docs",
    topic: "t",
    members: ["bob"],
    ttl: 3600,
    history: "joined",
    cid: cid(),
  });
  await bob.event("joined");
  const sent = await alice.call("send", { c, cid: cid(), ...text("one"), mentions: ["bob"] });
  await alice.call("send", {
    c,
    cid: cid(),
    ...text("two"),
    reply: sent.s,
    thread: sent.s,
    mentions: "all",
    ttl: 60,
  });
  await alice.call("send", { c, cid: cid(), kind: "x-poll", body: { q: 1 } });
  await bob.event("rec");
  await ready(() => bob.call("react", { c, cid: cid(), s: sent.s, emoji: "👍" }));
  await alice.call("react", { c, cid: cid(), s: sent.s, emoji: ":ok:", on: true });
  await alice.call("react", { c, cid: cid(), s: sent.s, emoji: "👍", on: false });
  await alice.call("pin", { c, cid: cid(), s: sent.s });
  await alice.call("meta", { c, cid: cid(), topic: null, ttl: null, announce: true, history: "all" });
  await alice.call("meta", { c, cid: cid(), lang: "en", searchable: false });
  await bob.call("list");
  await alice.call("prefs", { c, pinned: true, draft: "a", hidden: false, muted_until: 5 });
  await alice.event("user");
  await alice.call("list", { hidden: false });
  await alice.call("presence", { watch: ["bob"], unwatch: ["carol"], set: "online" });
  await alice.event("presence");
  await alice.call("typing", { c });
  await bob.event("typing");
  await alice.call("edit", { c, cid: cid(), s: sent.s, body: { text: "uno" } });
  await bob.call("mark", { c, read: sent.s });
  await alice.event("mark");
  await bob.call("range", { c, view: "log" });
  await bob.call("range", { c, view: "folded", order: "desc", max: 2 });
  await alice.call("delete", { c, cid: cid(), s: sent.s, for: "all" });
  await alice.call("delete", { c, cid: cid(), s: sent.s, for: "all" });
  await bob.call("range", { c, view: "log" });
  await alice.call("member", { c, cid: cid(), user: "carol", set: "add", role: "admin" });
  await alice.call("member", { c, cid: cid(), user: "carol", set: "add" });
  await alice.call("members", { c });
  await alice.call("seen", { c, s: sent.s });
  await alice.call("list", { limit: 1 });
  await bob.call("leave", { c, cid: cid() });
  await bob.event("left");
  const root = await Client.connect(server, judge, "root", "admin");
  await root.call("range", { c });
  await root.call("send", { c, cid: cid(), ...text("old"), from: "plato", ts: 1_000_000_000_000 });
  await alice.call("send", { c, cid: "", ...text("x") });
  await alice.call("range", { c: "g-nothing" });
  await farBehind(alice, server, judge);
  await letIn(alice, bob);
  await alone(alice, bob, await Client.connect(server, judge, "bob"));
  return { c, clients: [alice, bob, root] };
}

/** Beyond the window: lag, range, resume. */
async function farBehind(alice, server, judge) {
  const { c, head } = await alice.call("open", {
    kind: "group",
    name: "far",
    members: ["dora"],
    cid: cid(),
  });
  await Promise.all(
    Array.from({ length: 300 }, (_, i) =>
      alice.call("send", { c, cid: cid(), ...text(String(i)) }),
    ),
  );
  const dora = await Client.connect(server, judge, "dora");
  await dora.call("sync", { cur: { [c]: head } });
  const lag = await dora.event("lag");
  await dora.call("range", { c, from: lag.from, view: "log" });
  await dora.call("resume", { c, cur: lag.head });
  dora.ws.close();
}

/** Invites; then who was in it when. */
async function letIn(alice, bob) {
  const { c } = await alice.call("open", { kind: "group", name: "club", members: [], cid: cid() });
  const invite = await ready(() => alice.call("invite", { c, cid: cid(), expires_s: 60, uses: 2 }));
  await alice.event("rec", "invite");
  await alice.call("invite", { c, cid: cid() });
  await bob.call("join", { code: `${invite.code}0`, cid: cid() });
  await bob.call("join", { code: invite.code, cid: cid() });
  await alice.event("rec", "member");
  await bob.call("invites", { c });
  await alice.call("invites", { c });
  await alice.call("uninvite", { c, cid: cid(), s: invite.s });
  await bob.event("rec", "uninvite");
  await alice.call("members", { c, at: invite.s });
}

/** What bob keeps to himself, on his two devices; what alice is shown of it. */
async function alone(alice, bob, phone) {
  await phone.call("sync");
  const members = ["bob", ...Array.from({ length: 40 }, (_, i) => `reader${i}`)];
  const { c } = await alice.call("open", { kind: "group", name: "hall", members, cid: cid() });
  const root = await alice.call("send", { c, cid: cid(), ...text("root") });
  await alice.call("edit", { c, cid: cid(), s: root.s, body: { text: "the root" } });
  await alice.call("edits", { c, s: root.s });
  await bob.call("edits", { c, s: root.s });
  const reply = await alice.call("send", { c, cid: cid(), ...text("a"), thread: root.s });
  await bob.call("threads", { c, limit: 1 });
  await bob.call("search", { q: "from:bob", limit: 1 });
  await bob.call("range", { c, thread: root.s });
  await bob.call("mark", { c, thread: root.s, read: reply.s });
  await phone.event("mark");
  await bob.call("mark", { c, read: reply.s });
  await alice.event("seen");
  await bob.call("delete", { c, cid: cid(), s: reply.s, for: "me" });
  await phone.event("user", "hide");
  await bob.call("range", { c, from: reply.s });
  await bob.call("block", { user: "alice" });
  await phone.event("user", "block");
  await bob.call("blocks");
  await bob.call("members", { c, limit: 2 });
  await bob.call("block", { user: "alice", on: false });
  await bob.call("privacy");
  await bob.call("privacy", { presence: "hidden" });
  await phone.event("user", "privacy");
  phone.ws.close();
}

/** More at once than anybody may: asks until an answer is that it was too much. */
async function flood(ask, isRefusal) {
  for (let i = 0; i < 40; i++)
    if ((await Promise.all(Array.from({ length: 200 }, ask))).some(isRefusal)) return;
  throw new Error("8,000 messages were not too many");
}

const OF = "/v1/conversations/{c}";
const json = (value) => ({
  headers: { "content-type": "application/json" },
  body: JSON.stringify(value),
});

/** Requests of alice's; each gives the status. */
function asker(server, judge) {
  return async (method, path, target, options = {}) => {
    const token = server.token("alice", options.scope);
    const headers = { authorization: `Bearer ${token}`, ...options.headers };
    const abort = new AbortController();
    const response = await fetch(`http://${server.address}${target}`, {
      method,
      headers,
      body: options.body,
      signal: abort.signal,
    });
    const type = response.headers.get("content-type")?.split(";")[0] ?? "";
    let body = "";
    if (type === "text/event-stream") {
      const { value } = await response.body.getReader().read();
      body = Buffer.from(value).toString();
      abort.abort();
    } else body = await response.text();
    judge.response(method.toLowerCase(), path, response.status, type, body);
    return response.status;
  };
}

async function http(ask, c) {
  await ask(
    "POST",
    "/v1/conversations",
    "/v1/conversations",
    json({ kind: "group", name: "http", members: [], cid: cid() }),
  );
  await ask("GET", "/v1/conversations", "/v1/conversations?limit=2");
  await ask("GET", "/v1/conversations", "/v1/conversations", {
    headers: { authorization: "Bearer a.b.c" },
  });
  await ask("GET", OF, `/v1/conversations/${c}`);
  await ask("GET", OF, "/v1/conversations/g-nothing");
  await ask(
    "POST",
    `${OF}/messages`,
    `/v1/conversations/${c}/messages`,
    json({ cid: cid(), ...text("hi") }),
  );
  await ask(
    "POST",
    `${OF}/messages`,
    `/v1/conversations/${c}/messages`,
    json({ cid: "", ...text("hi") }),
  );
  await ask("GET", `${OF}/records`, `/v1/conversations/${c}/records?view=folded`);
  await ask("GET", `${OF}/records`, `/v1/conversations/${c}/records?view=x`);
  await ask("GET", `${OF}/records`, `/v1/conversations/${c}/records`, {
    headers: { accept: "application/x-ndjson" },
  });
  await ask("GET", `${OF}/tail`, `/v1/conversations/${c}/tail?from=1`);
  await ask("GET", "/healthz", "/healthz");
  await ask("GET", "/readyz", "/readyz");
  await ask("GET", "/metrics", "/metrics");
}

async function jobs(ask) {
  const scope = "jobs";
  const put = (value) => ({ scope, ...json(value) });
  const ONE = "/v1/consumers/{name}";
  const PLACE = `${ONE}/{p}`;
  const WORKER = `${ONE}/workers/{worker}`;
  await ask("GET", "/v1/partitions", "/v1/partitions", { scope });
  await ask("GET", "/v1/partitions", "/v1/partitions");
  for (let p = 0; p < 16; p++)
    await ask("GET", "/v1/partitions/{p}/feed", `/v1/partitions/${p}/feed?max=100`, { scope });
  await ask("GET", "/v1/partitions/{p}/feed", "/v1/partitions/0/feed?wait_ms=10", {
    scope,
    headers: { accept: "application/x-ndjson" },
  });
  await ask("GET", "/v1/partitions/{p}/feed", "/v1/partitions/0/feed?max=0", { scope });
  await ask("GET", "/v1/partitions/{p}/feed", "/v1/partitions/4000/feed", { scope });
  await ask("PUT", ONE, "/v1/consumers/indexer", put({ from: "start" }));
  await ask("PUT", ONE, "/v1/consumers/hook", put({ webhook: { url: "https://example.com/" } }));
  await ask("PUT", ONE, "/v1/consumers/hook", put({ webhook: { url: "https://127.0.0.1/" } }));
  await ask("PUT", ONE, "/v1/consumers/hook", put({ webhook: { url: "nowhere" } }));
  await ask("GET", "/v1/consumers", "/v1/consumers", { scope });
  await ask("GET", ONE, "/v1/consumers/indexer", { scope });
  await ask("GET", ONE, "/v1/consumers/nobody", { scope });
  await ask("PUT", WORKER, "/v1/consumers/indexer/workers/one", put({ ttl_ms: 10000 }));
  await ask("PUT", PLACE, "/v1/consumers/indexer/0", put({ take: true, generation: 9e15 }));
  await ask("PUT", PLACE, "/v1/consumers/indexer/0", put({ offset: 0, generation: 1 }));
  await ask("PUT", PLACE, "/v1/consumers/indexer/0", put({ offset: 0 }));
  await ask("PUT", PLACE, "/v1/consumers/indexer/0", put({}));
  await ask("DELETE", WORKER, "/v1/consumers/indexer/workers/one", { scope });
  await ask("DELETE", ONE, "/v1/consumers/indexer", { scope });
  await ask("DELETE", ONE, "/v1/consumers/hook", { scope });
}

/** Who is blocked, and who asks too often. */
async function refused(ask, alice, erin) {
  await erin.call("block", { user: "alice" });
  erin.ws.close();
  const status = await ask(
    "POST",
    "/v1/conversations",
    "/v1/conversations",
    json({ kind: "direct", with: "erin" }),
  );
  if (status !== 403) throw new Error(`who is blocked opened a conversation: ${status}`);
  const { c } = await alice.call("open", { kind: "group", name: "flood", members: [], cid: cid() });
  await flood(
    () => alice.call("send", { c, cid: cid(), ...text("x") }),
    (answer) => answer.code === "rate_limited" && answer.msg.includes("conversation"),
  );
  await flood(
    () =>
      ask(
        "POST",
        `${OF}/messages`,
        `/v1/conversations/${c}/messages`,
        json({ cid: cid(), ...text("hi") }),
      ),
    (answer) => answer === 429,
  );
}

/** The operations that docs/PROTOCOL.md calls reserved. */
function reservedOps(protocol) {
  return protocol.match(/^\| operations \|.*\|(.*)\|$/m)[1].match(/\w+/g);
}

async function reservedProblems(client, ops) {
  const problems = [];
  for (const op of ops) {
    const answer = await client.call(op, { c: "g-nothing" });
    if (answer.code !== "bad_request" || !/unknown op/.test(answer.msg))
      problems.push(`${op}: ${JSON.stringify(answer)}`);
  }
  return problems;
}

export async function checkLive({ program, read, check }) {
  const documents = new Documents({
    [ASYNC]: read("docs/asyncapi.yaml"),
    [OPEN]: read("docs/openapi.yaml"),
  });
  const judge = new Judge(documents);
  const failures = [];
  const server = await start(program);
  let clients = [];
  try {
    const talked = await talk(server, judge);
    clients = talked.clients;
    const ask = asker(server, judge);
    await http(ask, talked.c);
    await jobs(ask);
    await refused(ask, clients[0], await Client.connect(server, judge, "erin"));
    const reserved = reservedOps(read("docs/PROTOCOL.md"));
    check(
      `${reserved.length} reserved operations are unknown`,
      await reservedProblems(clients[0], reserved),
    );
  } catch (error) {
    failures.push(error.stack);
  }
  server.drain();
  const codes = await Promise.all(clients.map((client) => client.closed));
  const status = await server.exited();
  check("a talk with the server comes to its end", failures);
  check("everything that the server said is described", [...judge.problems]);
  const wanted = Object.keys(documents.root(ASYNC).components.messages).filter((name) =>
    /^ev_|_answer$/.test(name),
  );
  check(
    "every described answer and event was seen",
    wanted.filter((name) => !judge.seen.has(name)),
  );
  check(
    "a drain closes with 1012 and ends with 0",
    codes.every((code) => code === 1012) && status === 0
      ? []
      : [`close codes ${codes}, status ${status}`],
  );
}
