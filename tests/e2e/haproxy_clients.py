"""For haproxy.sh: WebSocket clients (python3-websockets) of a gateway behind HAProxy.

    haproxy_clients.py GATEWAY-PID

Ends the gateway by SIGTERM in the middle and says `down` on descriptor 3 once the proxy answers
503; the caller starts it again. From the environment: LOQUAT_PROXY (wss://HOST:PORT), LOQUAT_CA,
LOQUAT_CONV, LOQUAT_SOCKET (HAProxy's commands), LOQUAT_TOKEN_ALICE and _BOB.
"""

import asyncio
import json
import os
import signal
import ssl
import sys
import time
import traceback

import websockets

PROXY, CONV = os.environ["LOQUAT_PROXY"], os.environ["LOQUAT_CONV"]
URL = PROXY + "/v1/ws"
ORIGIN = PROXY.replace("wss://", "https://")
SECONDS = 10
TUNNEL_SECONDS = 3  # timeout tunnel of the derived configuration
ADDRESS_MAX = 40  # connections that an address may have there
TLS = ssl.create_default_context(cafile=os.environ["LOQUAT_CA"])


class Client:
    """An authenticated, live connection. Events that come before an answer are kept."""

    @classmethod
    async def connect(cls, user, cur=None, **options):
        self = cls()
        self.events, self.id = [], 0
        self.ws = await open_ws(**options)
        assert json.loads(await self.recv())["ev"] == "hello"
        await self.ok("auth", token=os.environ["LOQUAT_TOKEN_" + user.upper()], device="p")
        await self.ok("sync", cur={} if cur is None else {CONV: cur})
        return self

    async def recv(self):
        return await asyncio.wait_for(self.ws.recv(), SECONDS)

    async def ok(self, op, **fields):
        self.id += 1
        await self.ws.send(json.dumps({"id": self.id, "op": op, **fields}))
        while True:
            for message in map(json.loads, (await self.recv()).split("\n")):
                if message.get("id") == self.id:
                    assert "ok" in message, message
                    return message["ok"]
                self.events.append(message)

    async def event(self, name):
        while True:
            for at, message in enumerate(self.events):
                if message.get("ev") == name:
                    return self.events.pop(at)
            self.events += map(json.loads, (await self.recv()).split("\n"))

    async def say(self, cid):
        return (await self.ok("send", c=CONV, cid=cid, kind="text", body={"text": cid}))["s"]

    async def close_code(self):
        """Reads to the end."""
        try:
            while True:
                self.events += map(json.loads, (await self.recv()).split("\n"))
        except websockets.ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd else None


def open_ws(**options):
    options.setdefault("ping_interval", 1)
    return websockets.connect(
        URL,
        ssl=TLS,
        subprotocols=["loquat.v1.json"],
        open_timeout=SECONDS,
        close_timeout=1,
        **options,
    )


async def command(text):
    reader, writer = await asyncio.open_unix_connection(os.environ["LOQUAT_SOCKET"])
    writer.write(text.encode() + b"\n")
    answer = await reader.read()
    writer.close()
    assert answer.strip() == b"", answer


async def refused_with(status, seconds=SECONDS):
    """Waits until a handshake is answered so."""
    until = time.monotonic() + seconds
    while True:
        try:
            async with open_ws():
                got = 101
        except websockets.InvalidStatusCode as refused:
            got = refused.status_code
        if got == status:
            return
        assert time.monotonic() < until, got
        await asyncio.sleep(0.1)


async def test_chat():
    """Auth, send and live events; a page of the proxy's host may connect, another may not."""
    alice, bob = await Client.connect("alice", origin=ORIGIN), await Client.connect("bob")
    s = await alice.say("chat")
    got = await bob.event("rec")
    assert (got["s"], got["body"]["text"], got["from"]) == (s, "chat", "alice"), got
    await alice.ws.close()
    await bob.ws.close()
    try:
        await open_ws(origin="https://elsewhere.example")
        raise AssertionError("a foreign page was let in")
    except websockets.InvalidStatusCode as refused:
        assert refused.status_code == 403, refused


async def test_pings_keep_the_tunnel():
    """Pings outlast `timeout tunnel`, which is in force: without them the connection ends by it."""
    kept = await Client.connect("alice")
    idle = await Client.connect("bob", ping_interval=None)
    began = time.monotonic()
    await idle.close_code()
    # `timeout client` and `timeout server` are a second less.
    assert TUNNEL_SECONDS - 0.5 < time.monotonic() - began < TUNNEL_SECONDS + 3
    await asyncio.sleep(max(0, began + TUNNEL_SECONDS + 2 - time.monotonic()))
    await kept.ok("ping")
    await kept.ws.close()


async def test_address_limit():
    """An address gets so many connections, and again when it has given some back."""
    opened = []
    try:
        for _ in range(ADDRESS_MAX + 10):
            opened.append(await open_ws())
    except (OSError, ssl.SSLError, websockets.InvalidHandshake):
        pass
    count = len(opened)
    await asyncio.gather(*(ws.close() for ws in opened))
    assert ADDRESS_MAX - 2 <= count <= ADDRESS_MAX, count
    await (await open_ws()).close()


async def test_drain_by_hand():
    """State `drain`: those who are connected stay, new ones are kept away until `ready`."""
    alice = await Client.connect("alice")
    await command("set server loquat/one state drain")
    await refused_with(503)
    await alice.say("while draining")
    await command("set server loquat/one state ready")
    await (await Client.connect("bob")).ws.close()
    await alice.ws.close()


async def test_restart():
    """SIGTERM: goodbye and 1012 for everybody, 503 while it is down, then all come back."""
    clients = [await Client.connect("bob") for _ in range(8)]
    alice = await Client.connect("alice")
    cursor = await alice.say("before")
    for client in clients:
        while (await client.event("rec"))["s"] != cursor:
            pass
    os.kill(int(sys.argv[1]), signal.SIGTERM)
    codes = await asyncio.gather(*(client.close_code() for client in [*clients, alice]))
    assert codes == [1012] * len(codes), codes
    for client in [*clients, alice]:
        goodbye = await client.event("goodbye")
        assert goodbye["why"] == "drain" and len(goodbye["reconnect_ms"]) == 2, goodbye
    await refused_with(503)
    os.write(3, b"down\n")
    alice = await back("alice", cursor)
    s = await alice.say("after")
    for client in await asyncio.gather(*(back("bob", cursor) for _ in range(8))):
        got = await client.event("rec")
        assert (got["s"], got["body"]["text"]) == (s, "after"), got
        await client.ws.close()
    await alice.ws.close()


async def back(user, cursor):
    """As a client does it: again and again while the proxy says 503."""
    until = time.monotonic() + SECONDS
    while True:
        try:
            return await Client.connect(user, cur=cursor)
        except websockets.InvalidStatusCode as refused:
            assert refused.status_code == 503 and time.monotonic() < until, refused
        await asyncio.sleep(0.1)


async def main():
    failed = 0
    await command("set server loquat/two state maint")  # nobody listens there
    tests = [
        test_chat,
        test_pings_keep_the_tunnel,
        test_address_limit,
        test_drain_by_hand,
        test_restart,
    ]
    for test in tests:
        try:
            await test()
            print(f"ok    {test.__name__}")
        except Exception:
            failed += 1
            print(f"FAIL  {test.__name__}")
            traceback.print_exc(file=sys.stdout)
    print(f"{len(tests) - failed} passed, {failed} failed")
    return failed > 0


sys.exit(asyncio.run(main()))
