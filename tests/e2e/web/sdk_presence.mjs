// sdk_presence.mjs: who is there, who has read; against a server and users of its own, as whoever
// else is connected counts.
import assert from "node:assert/strict";
import { runTests, Server, test, until, wsUrl } from "./lib.mjs";
import { client, live, mortal, openGroup, WATCH_MAX } from "./sdk_lib.mjs";

const server = await Server.start();
/** A client that notes what it is told of others, newest last, in `heard`. */
async function one(user, options = {}) {
  const made = client(user, {
    url: wsUrl(server.url),
    token: await server.token(user),
    ...options,
  });
  made.heard = [];
  made.on("presence", (event) => made.heard.push(event));
  made.start();
  await live(made);
  return made;
}
const last = (who, user) => who.heard.findLast((event) => event.user === user);
const hears = (who, user, state) =>
  until(`${user} is ${state}`, () => last(who, user)?.state === state, 20_000);

test("presence: online, away when nobody is at any device, offline; none without a word", async () => {
  const [ann, ben] = [await one("ann"), await one("ben")];
  await ann.open({ kind: "direct", with: "ben" });
  const since = Date.now();
  ann.watch(["ben", "stranger"]);
  await hears(ann, "ben", "online"); // a server that has just begun waits until it is sure
  const desk = await one("ben");
  ben.setAway(true);
  await ben.ping();
  await ann.ping();
  assert.equal(last(ann, "ben").state, "online", "the other device is there");
  desk.setAway(true);
  await hears(ann, "ben", "away");
  desk.setAway(false);
  await hears(ann, "ben", "online");
  desk.stop();
  await hears(ann, "ben", "away");
  ben.stop();
  await hears(ann, "ben", "offline");
  const { last_seen } = last(ann, "ben");
  assert.ok(last_seen >= since - 1000 && last_seen <= Date.now(), String(last_seen));
  assert.ok(!last(ann, "stranger"), "nothing comes of a stranger");
  ann.stop();
});

test("presence: unwatched, nothing more is told; the bound holds", async () => {
  const [cleo, dan] = [await one("cleo"), await one("dan")];
  await cleo.open({ kind: "direct", with: "dan" });
  cleo.watch(["dan"]);
  await hears(cleo, "dan", "online");
  const crowd = Array.from({ length: WATCH_MAX - 1 }, (_, i) => `nobody${i}`);
  cleo.watch(crowd);
  assert.throws(() => cleo.watch(["one-more", "and-another"]), { code: "too_large" });
  cleo.watch(["dan", crowd[7]]); // watched already
  // One makes room for another one, in the same turn.
  cleo.unwatch(["dan"]);
  cleo.watch(["eve"]);
  dan.setAway(true);
  const eve = await one("eve");
  await cleo.open({ kind: "direct", with: "eve" });
  cleo.unwatch(["eve", ...crowd]);
  await until("told", async () => (await cleo.ping()) && true);
  cleo.heard.length = 0;
  cleo.watch(["eve"]);
  await hears(cleo, "eve", "online");
  assert.ok(!last(cleo, "dan"), "he was away meanwhile, and nobody asked");
  for (const each of [cleo, dan, eve]) each.stop();
});

test("presence: all of it is said again on each new connection", async () => {
  const [net1, net2] = [mortal(), mortal()];
  const [fay, gus] = [
    await one("fay", { socket: net1.socket }),
    await one("gus", { socket: net2.socket }),
  ];
  await fay.open({ kind: "direct", with: "gus" });
  fay.watch([...Array.from({ length: WATCH_MAX - 1 }, (_, i) => `nobody${i}`), "gus"]);
  gus.setAway(true);
  await hears(fay, "gus", "away");
  for (let i = 0; i < 3; i++) {
    fay.heard.length = 0;
    net1.cut();
    await hears(fay, "gus", "away");
  }
  // His new connection says at once that nobody is at it: he is not told to be back for good.
  net2.cut();
  await until("he is live again", () => gus.state.name === "live");
  await gus.ping();
  await hears(fay, "gus", "away");
  gus.setAway(false);
  await hears(fay, "gus", "online");
  net1.cut();
  fay.unwatch(["gus"]); // while there is no connection
  await live(fay);
  fay.heard.length = 0;
  gus.setAway(true);
  await gus.ping();
  await fay.ping();
  assert.ok(!last(fay, "gus"));
  for (const each of [fay, gus]) each.stop();
});

test("seen: who has read up to a message, in pages by name", async () => {
  const hal = await one("hal");
  const people = ["ida", "jim", "kay"];
  const { c } = await openGroup(hal, people);
  const { s } = await hal.send(c, { body: { text: "read this" } }).done;
  const names = async () => (await hal.seen(c, s)).users;
  assert.deepEqual(await names(), ["hal"], "who writes has read it");
  for (const user of ["kay", "ida"]) {
    const reader = await one(user);
    reader.mark(c, { read: s });
    await until(`${user} has read`, async () => (await names()).includes(user));
    reader.stop();
  }
  const { n, users, next } = await hal.seen(c, s);
  assert.deepEqual([n, users, next], [3, ["hal", "ida", "kay"], null]);
  await assert.rejects(hal.seen("g-none", 1), { code: "not_found" });
  hal.stop();
  await server.stop();
});

await runTests();
