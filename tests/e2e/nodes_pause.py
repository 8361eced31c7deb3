"""What happens while a gateway has no node, at another gateway: nodes_pause.py URL is live there as
u0 and says `live`; it ends when the messages and the read mark of the other user have come, in
order, on the same connection. nodes_pause.py --meanwhile URL is that other user, u1, for a moment."""

import asyncio
import json
import os
import sys

import websockets

URL = sys.argv[-1].replace("http://", "ws://") + "/v1/ws"
MEANWHILE = sys.argv[1] == "--meanwhile"
USER = "u1" if MEANWHILE else "u0"
MESSAGES = 3


class Session:
    def __init__(self, ws):
        self.ws, self.lines, self.next_id, self.events = ws, [], 0, []

    async def line(self):
        while not self.lines:
            self.lines = (await self.ws.recv()).split("\n")
        return json.loads(self.lines.pop(0))

    async def ok(self, op, **fields):
        self.next_id += 1
        await self.ws.send(json.dumps({"id": self.next_id, "op": op, **fields}))
        while True:
            message = await self.line()
            if message.get("id") == self.next_id:
                return message["ok"]
            self.events.append(message)

    async def event(self):
        return self.events.pop(0) if self.events else await self.line()


async def main():
    async with websockets.connect(URL, subprotocols=["loquat.v1.json"], max_size=None) as ws:
        me = Session(ws)
        await me.ok("auth", token=os.environ["LOQUAT_TOKEN_" + USER.upper()], device="p")
        conv = await me.ok("open", kind="direct", cid="pause", **{"with": "u0" if MEANWHILE else "u1"})
        if MEANWHILE:
            for number in range(MESSAGES):
                last = await me.ok("send", c=conv["c"], cid=f"m{number}", kind="text",
                                   body={"text": f"meanwhile {number}"})
            await me.ok("mark", c=conv["c"], read=last["s"], delivered=last["s"])
            return
        await me.ok("sync", cur={conv["c"]: conv["head"]})
        print("live", flush=True)
        wanted, marked, seen = [f"meanwhile {number}" for number in range(MESSAGES)], False, conv["head"]
        while wanted or not marked:
            event = await asyncio.wait_for(me.event(), 30)
            if event.get("c") != conv["c"]:
                continue
            if event["ev"] == "rec":
                assert event["s"] == seen + 1 and event["body"]["text"] == wanted.pop(0), event
                seen = event["s"]
            elif event["ev"] == "mark" and event["user"] == "u1":
                marked = event["read"] == conv["head"] + MESSAGES
            else:
                assert event["ev"] == "mark", event
        print("all has come")


asyncio.run(main())
