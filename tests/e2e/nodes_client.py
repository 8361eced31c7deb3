"""Users of several gateways talk to each other until STOP is there: nodes_client.py ACKS STOP URL…
Each user lives at one of the gateways and goes to another when its own has gone. Every record must
come to every member exactly once and in order, whatever happens to the servers meanwhile; what was
acknowledged must stand in the log once, as the sequence that was answered. A refusal with `retry`
is followed by the same request again. Who was cut off, or has fallen behind by more than a window
(his gateway came back to a node later than others), reads what he missed. Environment:
LOQUAT_TOKEN_U0, U1, …. The last line says how often that was, by gateway where users were cut off."""

import asyncio
import json
import os
import random
import sys
import time
import urllib.request

import websockets

ACKS, STOP, *URLS = sys.argv[1:]
USERS = sum(name.startswith("LOQUAT_TOKEN_U") for name in os.environ)
ROOMS, WINDOW, WAIT_S = 6, 4, 60
TOKENS = [os.environ[f"LOQUAT_TOKEN_U{i}"] for i in range(USERS)]


def room_users(room):
    """Of both gateways in each: user i lives at gateway i % len(URLS)."""
    return [i for i in range(USERS) if (i + room) % 4 != 3]


def stopped():
    return os.path.exists(STOP)


class User:
    def __init__(self, number, acks):
        self.number, self.acks = number, acks
        self.home = number % len(URLS)
        self.seen = {}  # room id → last sequence
        self.cut = [0] * len(URLS)
        self.refused = self.lags = self.sent = 0
        self.open = []  # (room, cid, text) to be sent (again)

    async def run(self, rooms):
        while not self.done(rooms):
            try:
                await self.live(rooms)
            except (OSError, websockets.WebSocketException):
                self.home = (self.home + 1) % len(URLS)
                await asyncio.sleep(random.uniform(0.02, 0.1))

    def done(self, rooms):
        return stopped() and not self.open and rooms.complete(self)

    async def live(self, rooms):
        url = URLS[self.home].replace("http://", "ws://") + "/v1/ws"
        async with websockets.connect(url, subprotocols=["loquat.v1.json"], max_size=None) as ws:
            self.calls, self.reads, self.behind = {}, {}, []
            await ws.recv()
            await ws.send(json.dumps({"id": 1, "op": "auth", "token": TOKENS[self.number], "device": "d"}))
            assert "ok" in json.loads(await ws.recv())
            home, synced = self.home, await self.sync(ws)
            try:
                while synced and not self.done(rooms):
                    await self.catch_up(ws, rooms)
                    await self.talk(ws, rooms)
                    try:
                        frame = await asyncio.wait_for(ws.recv(), 0.05)
                    except asyncio.TimeoutError:
                        continue
                    for line in frame.split("\n"):
                        await self.take(ws, json.loads(line), rooms)
            finally:
                self.open += [call for call in self.calls.values() if call]
                if synced and not self.done(rooms):
                    self.cut[home] += 1

    async def sync(self, ws):
        """False: not now."""
        await ws.send(json.dumps({"id": 2, "op": "sync", "cur": self.seen, "limit": 100}))
        early = []
        while True:
            for line in (await ws.recv()).split("\n"):
                message = json.loads(line)
                if message.get("id") == 2:
                    if "err" in message:
                        assert message["err"]["retry"], message
                        return False
                    for conv in message["ok"]["convs"]:
                        self.seen.setdefault(conv["c"], conv["head"])
                    for record in early:
                        self.record(record)
                    return True
                if message.get("ev") == "rec":
                    early.append(message)

    async def talk(self, ws, rooms):
        while len(self.calls) < WINDOW and (self.open or not stopped()):
            if self.open:
                room, cid, text = self.open.pop()
            else:
                room = random.choice([r for r in range(ROOMS) if self.number in room_users(r)])
                cid = f"u{self.number}-{self.sent}"
                text = f"{cid} says this"
                self.sent += 1
            rooms.next_id += 1
            self.calls[rooms.next_id] = (room, cid, text)
            request = {"id": rooms.next_id, "op": "send", "c": rooms.ids[room], "cid": cid,
                       "kind": "text", "body": {"text": text}}
            await ws.send(json.dumps(request))

    async def catch_up(self, ws, rooms):
        while self.behind:
            op, conv = self.behind.pop()
            rooms.next_id += 1
            self.reads[rooms.next_id] = (op, conv)
            at = {"cur": self.seen[conv]} if op == "resume" else {"from": self.seen[conv] + 1}
            await ws.send(json.dumps({"id": rooms.next_id, "op": op, "c": conv, **at}))

    def caught_up(self, message):
        op, conv = self.reads.pop(message["id"])
        if "err" in message:
            assert message["err"]["retry"], message
            self.refused += 1
            self.behind.append((op, conv))
        elif op == "range":
            for record in message["ok"]["records"]:
                self.record(record)
            self.behind.append(("range" if message["ok"]["next"] else "resume", conv))

    def record(self, message):
        at = self.seen[message["c"]]
        assert message["s"] == at + 1, f"u{self.number} {message['c']}: {message['s']} after {at}"
        self.seen[message["c"]] = message["s"]

    async def take(self, ws, message, rooms):
        if message.get("ev") == "rec":
            self.record(message)
        elif message.get("ev") == "lag":
            self.lags += 1
            self.behind.append(("range", message["c"]))
        elif message.get("id") in self.reads:
            self.caught_up(message)
        elif "ok" in message:
            room, cid, text = self.calls.pop(message["id"])
            self.acks.write(json.dumps([rooms.ids[room], cid, message["ok"]["s"]]) + "\n")
        elif "err" in message:
            call = self.calls.pop(message["id"])
            error = message["err"]
            assert error["code"] == "unavailable" and error["retry"] and error["after_ms"] > 0, error
            self.refused += 1
            self.calls[("later", call[1])] = call  # not lost if the connection ends meanwhile
            asyncio.get_event_loop().call_later(error["after_ms"] / 1000, self.again, call)

    def again(self, call):
        if self.calls.pop(("later", call[1]), None):
            self.open.append(call)


class Rooms:
    def __init__(self):
        self.ids, self.next_id, self.users = [], 10, []

    def open(self):
        for room in range(ROOMS):
            members = room_users(room)
            body = {"kind": "group", "name": f"room {room}", "cid": f"room{room}",
                    "members": [f"u{i}" for i in members[1:]]}
            request = urllib.request.Request(
                URLS[0] + "/v1/conversations", json.dumps(body).encode(),
                {"Authorization": "Bearer " + TOKENS[members[0]]})
            self.ids.append(json.load(urllib.request.urlopen(request, timeout=10))["c"])

    def complete(self, user):
        """Nobody has anything to send any more, and this one has seen what anybody saw."""
        if any(u.open or u.calls for u in self.users):
            return False
        return all(user.seen.get(self.ids[r]) == max(u.seen.get(self.ids[r], 0) for u in self.users)
                   for r in range(ROOMS) if user.number in room_users(r))


def read_log(room, ids):
    reader = room_users(room)[0]
    for url in URLS:
        try:
            request = urllib.request.Request(
                f"{url}/v1/conversations/{ids[room]}/records?view=log",
                headers={"Authorization": "Bearer " + TOKENS[reader], "Accept": "application/x-ndjson"})
            with urllib.request.urlopen(request, timeout=30) as response:
                return [json.loads(line) for line in response]
        except OSError:
            continue
    raise AssertionError("no gateway answers")


def verify(rooms):
    found = {}
    for room in range(ROOMS):
        records = read_log(room, rooms.ids)
        assert [r["s"] for r in records] == list(range(1, len(records) + 1)), "a hole, or a double"
        for record in records:
            if record["kind"] == "text":
                key = (rooms.ids[room], record["body"]["text"].split()[0])
                assert key not in found, f"{key} is there twice"
                found[key] = record["s"]
        for user in rooms.users:
            if user.number in room_users(room):
                assert user.seen[rooms.ids[room]] == len(records), "somebody has not got all"
    count = 0
    for line in open(ACKS):
        conv, cid, seq = json.loads(line)
        assert found.get((conv, cid)) == seq, (conv, cid, seq, found.get((conv, cid)))
        count += 1
    sent = sum(user.sent for user in rooms.users)
    assert count == sent == len(found), (count, sent, len(found))
    return count


async def main():
    rooms = Rooms()
    rooms.open()
    with open(ACKS, "w", buffering=1) as acks:
        rooms.users = [User(i, acks) for i in range(USERS)]
        for user in rooms.users:
            user.calls = {}
        tasks = [asyncio.ensure_future(user.run(rooms)) for user in rooms.users]
        while not stopped():
            done, _ = await asyncio.wait(tasks, timeout=0.1, return_when=asyncio.FIRST_EXCEPTION)
            for task in done:
                task.result()
        await asyncio.wait_for(asyncio.gather(*tasks), WAIT_S)
    count = verify(rooms)
    cut = [sum(user.cut[i] for user in rooms.users) for i in range(len(URLS))]
    print(f"{count} acknowledged and found once, {sum(u.refused for u in rooms.users)} refused for a while, "
          f"{sum(u.lags for u in rooms.users)} times behind by more than a window, "
          f"cut off: {' '.join(map(str, cut))}")


started = time.time()
asyncio.run(main())
