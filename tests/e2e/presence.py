"""Two users of two gateways, who do what standard input says and answer on standard output: `<word> ok`.

From the caller: the gateways' addresses, LOQUAT_TOKEN_ALICE and LOQUAT_TOKEN_BOB.
"""

import asyncio
import json
import os
import sys
import time
import traceback

import websockets

SECONDS = 30


class User:
    def __init__(self, name, url):
        self.name, self.url = name, "ws" + url.removeprefix("http") + "/v1/ws"
        self.next_id, self.replies, self.heard = 0, {}, []

    async def connect(self):
        self.ws = await websockets.connect(self.url, subprotocols=["loquat.v1.json"], max_size=None)
        self.reader = asyncio.ensure_future(self.read())
        await self.ok("auth", token=os.environ["LOQUAT_TOKEN_" + self.name.upper()], device="d")

    async def close(self):
        await self.ws.close()
        await self.reader

    async def read(self):
        async for frame in self.ws:
            for line in frame.split("\n"):
                message = json.loads(line)
                if "ev" in message:
                    self.heard.append(message)
                else:
                    self.replies.pop(message["id"]).set_result(message)

    async def call(self, op, **fields):
        self.next_id += 1
        future = asyncio.get_event_loop().create_future()
        self.replies[self.next_id] = future
        await self.ws.send(json.dumps({"id": self.next_id, "op": op, **fields}))
        return await asyncio.wait_for(future, SECONDS)

    async def ok(self, op, **fields):
        reply = await self.call(op, **fields)
        assert "ok" in reply, f"{op}: {reply}"
        return reply["ok"]

    async def hears(self, **wanted):
        """Waits for an event with these values, and gives it; all up to it are forgotten."""
        until = time.time() + SECONDS
        while time.time() < until:
            for i, event in enumerate(self.heard):
                if all(event.get(k) == v for k, v in wanted.items()):
                    del self.heard[: i + 1]
                    return event
            await asyncio.sleep(0.02)
        raise AssertionError(f"{self.name} did not hear {wanted}, but {self.heard}")


class Talk:
    def __init__(self, a, b):
        self.alice, self.bob = User("alice", a), User("bob", b)

    async def there(self):
        await self.alice.connect()
        self.c = (await self.alice.ok("open", kind="direct", **{"with": "bob"}))["c"]
        await self.alice.ok("sync")
        await self.alice.ok("presence", watch=["bob"])
        await self.alice.hears(ev="presence", user="bob", state="offline")
        await self.bob.connect()
        await self.bob.ok("sync")
        await self.alice.hears(ev="presence", user="bob", state="online")
        await self.bob.ok("typing", c=self.c)
        await self.alice.hears(ev="typing", user="bob", c=self.c)
        await self.bob.ok("presence", set="away")
        await self.alice.hears(ev="presence", user="bob", state="away")
        await self.bob.ok("presence", set="online")
        await self.alice.hears(ev="presence", user="bob", state="online")

    async def react(self):
        s = (await self.alice.ok("send", c=self.c, cid="m", kind="text", body={"text": "x"}))["s"]
        for _ in range(400):
            reply = await self.bob.call("react", c=self.c, cid="r", s=s, emoji="👍")
            if "ok" in reply:
                break
            assert reply["err"]["code"] == "unavailable" and reply["err"]["retry"], reply
            await asyncio.sleep(0.1)
        await self.alice.hears(ev="rec", kind="react", target=s)
        page = await self.alice.ok("range", c=self.c, view="folded", **{"from": s, "to": s + 1})
        assert page["records"][0]["reactions"] == {"👍": {"n": 1, "me": False}}, page

    async def still(self):
        await asyncio.sleep(12)  # longer than a new leader waits
        said = [e for e in self.alice.heard if e["ev"] == "presence" and e["state"] != "online"]
        assert not said, said
        self.alice.heard.clear()

    async def gone(self):
        await self.bob.ok("typing", c=self.c)
        await self.alice.hears(ev="typing", user="bob")
        await self.bob.ok("presence", set="away")
        await self.alice.hears(ev="presence", user="bob", state="away")
        for _ in range(3):  # the nodes may still be handing the lead back: then it takes longer
            closing = time.time()
            await self.bob.close()
            closed = time.time()
            event = await self.alice.hears(ev="presence", user="bob", state="offline")
            took = time.time() - closed
            assert took < 15, f"{took} s"
            assert closing - 1 < event["last_seen"] / 1000 < closed + 1, (closing, closed, event)
            await self.bob.connect()
            await self.bob.ok("sync")
            await self.alice.hears(ev="presence", user="bob", state="online")
            if took < 5:
                return
        assert took < 5, f"{took} s"

    async def end(self):
        await self.alice.close()
        await self.bob.close()


async def main():
    talk = Talk(*sys.argv[1:3])
    loop = asyncio.get_event_loop()
    while True:
        word = (await loop.run_in_executor(None, sys.stdin.readline)).strip()
        if not word:
            return
        try:
            await getattr(talk, word)()
            print(word, "ok", flush=True)
        except Exception:  # the report is the point
            traceback.print_exc()
            print(word, "failed", flush=True)
        if word == "end":
            return


asyncio.run(main())
