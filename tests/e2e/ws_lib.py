"""A WebSocket client that nobody here wrote (python3-websockets), as ws_test.py and ws_social_test.py
use it. From the caller: LOQUAT_URL, LOQUAT_TOKEN_<USER> for alice, bob, carol, mallory and admin.
"""

import asyncio
import json
import os
import uuid

import websockets

URL = "ws" + os.environ["LOQUAT_URL"].removeprefix("http") + "/v1/ws"
TOKENS = {
    user: os.environ["LOQUAT_TOKEN_" + user.upper()]
    for user in ("alice", "bob", "carol", "mallory", "admin")
}
PROTOCOL = "loquat.v1.json"
SECONDS = 10


class Client:
    """One authenticated connection: requests by id, events in a queue."""

    def __init__(self, ws):
        self.ws = ws
        self.next_id = 0
        self.replies = {}
        self.events = asyncio.Queue()
        self.reader = asyncio.ensure_future(self.read())

    @classmethod
    async def connect(cls, user, device="d1", **options):
        ws = await websockets.connect(URL, subprotocols=[PROTOCOL], max_size=None, **options)
        client = cls(ws)
        client.hello = await client.event("hello")
        client.auth = await client.ok("auth", token=TOKENS[user], device=device)
        return client

    async def read(self):
        try:
            async for frame in self.ws:
                for line in frame.split("\n"):
                    message = json.loads(line)
                    if "ev" in message:
                        await self.events.put(message)
                    else:
                        self.replies.pop(message["id"]).set_result(message)
        except websockets.ConnectionClosed:
            pass
        for future in self.replies.values():
            if not future.done():
                future.set_exception(ConnectionError("closed"))

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

    async def err(self, op, wanted, **fields):
        reply = await self.call(op, **fields)
        assert reply.get("err", {}).get("code") == wanted, f"{op}: wanted {wanted}, got {reply}"
        return reply["err"]

    async def event(self, name, **match):
        """The next event of this name that has these values; others are dropped."""
        while True:
            event = await asyncio.wait_for(self.events.get(), SECONDS)
            if event["ev"] == name and all(event.get(k) == v for k, v in match.items()):
                return event

    async def quiet(self, seconds=0.3):
        """Events that come within some time."""
        await asyncio.sleep(seconds)
        got = []
        while not self.events.empty():
            got.append(self.events.get_nowait())
        return got

    async def close(self):
        await self.ws.close()
        await self.reader


def cid():
    return str(uuid.uuid4())


async def raw(frames, token=None, until=None):
    """Sends frames on a fresh connection; gives the close code and what came: all, or until this."""
    got = []
    async with websockets.connect(URL, subprotocols=[PROTOCOL], max_size=None) as ws:
        if token:
            await ws.send(json.dumps({"id": 1, "op": "auth", "token": token, "device": "raw"}))
        try:
            for frame in frames:
                await ws.send(frame)
            while not (until and any(until in frame for frame in got)):
                got.append(await asyncio.wait_for(ws.recv(), SECONDS))
            return None, got
        except websockets.ConnectionClosed as closed:
            return closed.code if closed.rcvd is None else closed.rcvd.code, got
        except asyncio.TimeoutError:
            return None, got
