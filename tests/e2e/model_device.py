"""One device of one user: a connection, and what it has made of its live events.

Each conversation is a `View`: every sequence from where it began, once and in order, or a fault."""

import asyncio
import base64
import hashlib
import hmac
import json
import time
import urllib.request

import websockets

SECONDS = 30


def token(secret, user, scope=None):
    def b64(data):
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    claims = {"sub": user, "exp": int(time.time()) + 24 * 3600}
    if scope:
        claims["scope"] = scope
    text = b64(b'{"alg":"HS256"}') + "." + b64(json.dumps(claims).encode())
    return text + "." + b64(hmac.new(secret, text.encode(), hashlib.sha256).digest())


class View:
    def __init__(self, cursor):
        self.start = self.cursor = cursor
        self.seen = {}  # sequence → record or why it is a hole
        self.lagging = False

    def take(self, item):
        first, last = item.get("hole", [item.get("s")] * 2)
        if first != self.cursor + 1:
            return f"{first} came after {self.cursor}"
        for s in range(first, last + 1):
            self.seen[s] = item["why"] if "hole" in item else item
        self.cursor = last
        return None


class Device:
    def __init__(self, user, name, url, credentials):
        self.user, self.name, self.url, self.token = user, name, url, credentials
        self.views, self.faults, self.lags, self.ws, self.number = {}, [], 0, None, 0
        self.joined = []  # events

    def __str__(self):
        return f"{self.user}/{self.name}"

    @property
    def live(self):
        return self.ws is not None

    async def connect(self, limit, forget=()):
        """Live again, without what it had of those in `forget`; gives what `sync` said."""
        self.views = {c: v for c, v in self.views.items() if c not in forget}
        self.replies, self.syncs, self.early, self.synced, self.tasks = {}, set(), {}, set(), set()
        self.entries, self.u, self.u_start = {}, None, None
        self.marks, self.places, self.presence = {}, {}, {}
        self.ws = await websockets.connect(
            self.url, subprotocols=["loquat.v1.json"], max_size=None, compression=None)
        self.reader = asyncio.ensure_future(self.read())
        await self.ok("auth", token=self.token, device=self.name)
        answer = await self.ok("blocks")
        self.blocked = {each["user"] for each in answer["users"]}
        convs, page = [], None
        cur = {c: view.cursor for c, view in self.views.items()}
        while page or not convs:
            fields = {"limit": limit, "page": page} if page else {"limit": limit, "cur": cur}
            answer = await self.ok("sync", **fields)
            convs += answer["convs"]
            page = answer["next"]
            if not page:
                break
        there = {conv["c"] for conv in convs}
        self.views = {c: v for c, v in self.views.items() if c in there}
        return convs

    async def close(self):
        ws, self.ws = self.ws, None
        await ws.close()
        await self.reader

    async def read(self):
        try:
            async for frame in self.ws:
                for line in frame.split("\n"):
                    self.take(json.loads(line))
        except websockets.ConnectionClosed:
            pass
        except AttributeError:
            if self.ws:
                raise
        if self.ws:
            self.faults.append("the connection was cut off")
        for future in self.replies.values():
            if not future.done():
                future.set_exception(ConnectionError("closed"))

    def take(self, message):
        if "ev" not in message:
            if message["id"] in self.syncs and "ok" in message:
                self.on_sync(message["ok"])
            self.replies.pop(message["id"]).set_result(message)
            return
        handler = getattr(self, "on_" + message.pop("ev"), None)
        if handler:
            handler(message)

    def start(self, op, fields):
        """Sends nothing yet; the future of the answer and the frame."""
        self.number += 1
        future = asyncio.get_running_loop().create_future()
        self.replies[self.number] = future
        if op == "sync":
            self.syncs.add(self.number)
        return future, json.dumps({"id": self.number, "op": op, **fields})

    async def call(self, op, fields):
        """The answer; an error with `retry` is followed by the same request again."""
        for turn in range(100):
            future, frame = self.start(op, fields)
            await self.ws.send(frame)
            answer = await asyncio.wait_for(future, SECONDS)
            if not answer.get("err", {}).get("retry"):
                break
            await asyncio.sleep(min(answer["err"].get("after_ms", 100), 500) / 1000)
        answer.pop("id")
        answer["again"] = turn > 0
        return answer

    async def ok(self, op, **fields):
        answer = await self.call(op, fields)
        assert "ok" in answer, f"{self}: {op} {fields}: {answer}"
        return answer["ok"]

    async def http(self, path):
        base = self.url.replace("ws", "http", 1).removesuffix("/v1/ws")
        headers = {"Authorization": "Bearer " + self.token}
        request = urllib.request.Request(base + path, headers=headers)

        def get():
            with urllib.request.urlopen(request, timeout=SECONDS) as answer:
                return json.load(answer)
        return await asyncio.get_running_loop().run_in_executor(None, get)

    # ---- events

    def on_sync(self, answer):
        if self.u is None:
            self.u = self.u_start = answer["u"]
        for conv in answer["convs"]:
            c = conv["c"]
            if c in self.synced:
                self.faults.append(f"sync gave {c} twice")
            self.synced.add(c)
            view = self.views.get(c)
            if not view:
                view = self.views[c] = View(conv["head"])
            view.cursor = min(view.cursor, conv["head"])
            for handler, event in self.early.pop(c, []):
                handler(event)

    def view(self, event, handler):
        """None: not known yet, to be handled after `sync`."""
        c = event["c"]
        if c in self.views and c in self.synced:
            return self.views[c]
        if c in self.synced:
            self.faults.append(f"an event of a conversation that was left: {event}")
        else:
            self.early.setdefault(c, []).append((handler, event))
        return None

    def on_rec(self, event):
        view = self.view(event, self.on_rec)
        if not view:
            return
        fault = "it came while lagging" if view.lagging else view.take(event)
        if fault:
            self.faults.append(f"{event['c']}: {fault}: {event}")

    def on_lag(self, event):
        view = self.view(event, self.on_lag)
        if not view:
            return
        if event["from"] != view.cursor + 1 or view.lagging:
            self.faults.append(f"lag {event} at {view.cursor}, lagging: {view.lagging}")
        self.lags += 1
        view.lagging = True
        task = asyncio.ensure_future(self.catch_up(event["c"], view))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def catch_up(self, c, view):
        start = view.cursor + 1
        while start:
            answer = await self.call("range", {"c": c, "from": start, "view": "log", "max": 100})
            if self.views.get(c) is not view:
                return
            if "err" in answer:
                self.faults.append(f"range while lagging: {answer}")
                return
            for item in answer["ok"]["records"]:
                fault = view.take(item)
                if fault:
                    self.faults.append(f"{c}: range: {fault}: {item}")
            start = answer["ok"]["next"]
        view.lagging = False
        answer = await self.call("resume", {"c": c, "cur": view.cursor})
        if "err" in answer and self.views.get(c) is view:
            self.faults.append(f"resume: {answer}")

    def on_joined(self, event):
        c = event["c"]
        if c in self.views and c in self.synced:
            self.faults.append(f"joined, and was in: {event}")
        self.synced.add(c)
        self.views[c] = View(event["head"])
        self.joined.append(event)

    def on_left(self, event):
        if event["c"] not in self.views or event["c"] not in self.synced:
            self.faults.append(f"left, and was not in: {event}")
        self.synced.add(event["c"])
        self.views.pop(event["c"], None)
        self.marks.pop(event["c"], None)

    def on_user(self, event):
        if self.u is not None and event["s"] != self.u + 1:
            self.faults.append(f"user log: {event} after {self.u}")
        self.u = event["s"]
        self.entries[event["s"]] = (event["kind"], event["body"])
        if event["kind"] == "block":
            (self.blocked.add if event["body"]["on"] else self.blocked.discard)(
                event["body"]["user"])

    def on_presence(self, event):
        self.presence.setdefault(event["user"], []).append((event["state"], event["last_seen"]))

    def on_typing(self, event):
        if event["user"] in self.blocked:
            self.faults.append(f"typing of somebody blocked: {event}")

    def on_mark(self, event):
        if event["user"] in self.blocked:
            self.faults.append(f"a mark of somebody blocked: {event}")
        if "thread" in event:
            if event["user"] != self.user:
                self.faults.append(f"somebody else's place in a thread: {event}")
            self.places[event["c"], event["thread"]] = event["read"]
            return
        marks = self.marks.setdefault(event["c"], {})
        if event["delivered"] < event["read"]:
            self.faults.append(f"read, but not delivered: {event}")
        marks[event["user"]] = event["read"], event["delivered"]
