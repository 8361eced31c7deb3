// sdk_write.mjs: what is written: once, in order, offline too; marks, members.
import assert from "node:assert/strict";
import { runTests, test, until } from "./lib.mjs";
import {
  Area,
  client,
  live,
  memoryStorage,
  mortal,
  openGroup,
  texts,
  webStorage,
} from "./sdk_lib.mjs";

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

await runTests();
