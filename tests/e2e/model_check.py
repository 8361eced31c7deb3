"""Holds what reads and live events give against the model. A difference is an AssertionError."""

import asyncio
import time

WAIT_S = 20  # for events


def now_ms():
    return int(time.time() * 1000)


def same(got, wanted, what):
    if got == wanted:
        return
    if isinstance(got, dict) and isinstance(wanted, dict):
        none = object()
        keys = [k for k in {**wanted, **got} if got.get(k, none) != wanted.get(k, none)]
        got, wanted = ({k: x[k] for k in keys if k in x} for x in (got, wanted))
    raise AssertionError(f"{what}:\n    the server has {got}\n    the model has  {wanted}")


class Checker:
    def __init__(self, rng, model):
        self.rng, self.model = rng, model

    # ---- reads

    async def lists(self, device):
        """Every conversation of this user, all fields, and their order."""
        user, got, there = device.user, {}, []
        for hidden in (False, True):
            page, there, limit = None, [], self.rng.choice([1, 3, 50])
            while True:
                fields = {"limit": limit, **({"page": page} if page else {})}
                fields.update({"hidden": True} if hidden else {})
                answer = await device.ok("list", **fields)
                assert len(answer["convs"]) <= limit
                there += answer["convs"]
                page = answer["next"]
                if not page:
                    break
            for conv in there:
                assert conv["c"] not in got, f"{user}: list has {conv['c']} twice"
                assert conv.get("hidden", False) == hidden, f"{user}: list, hidden {hidden}: {conv}"
                got[conv["c"]] = conv
            self.sorted(user, there)
        self.convs(user, got, "list")
        await self.search(device)

    async def search(self, device):
        """A word that is somewhere, and only where it is; over all pages."""
        user, got, page, end = device.user, [], None, time.monotonic() + WAIT_S
        words = self.model.found(user, None, now_ms())[1]
        if not words:
            return
        word, limit = self.rng.choice(words), self.rng.choice([1, 3, 100])
        while True:
            fields = {"q": f'"{word}"', "limit": limit, **({"page": page} if page else {})}
            answer = await device.ok("search", **fields)
            assert len(answer["hits"]) <= limit, answer
            if not answer["indexed"]["complete"]:  # what is searched was set anew
                assert time.monotonic() < end, answer
                await asyncio.sleep(0.05)
                got, page = [], None
                continue
            got += answer["hits"]
            page = answer["next"]
            if not page:
                break
        for hit in got:
            assert (hit["c"], hit["s"]) == (hit["record"]["c"], hit["record"]["s"]), hit
            text = hit["record"]["body"]["text"].encode("utf-16-le")
            for first, end in hit["spans"]:
                assert text[2 * first:2 * end].decode("utf-16-le").lower() == word, hit
        wanted = self.model.found(user, word, now_ms())[0]
        same([hit["record"] for hit in got], wanted, f"{user}: search for {word}")

    def sorted(self, user, there):
        ages = [(conv["pinned"], self.model.age(self.model.convs[conv["c"]], user, now_ms()))
                for conv in there if conv["c"] in self.model.convs]
        assert ages == sorted(ages, reverse=True), f"{user}: the order of list: {ages}: " \
            f"{[conv['c'] for conv in there]}"

    def convs(self, user, got, what):
        now = now_ms()
        wanted = {conv.c: self.model.conv(conv, user, now) for conv in self.model.of(user)}
        same(sorted(got), sorted(wanted), f"{user}: {what}: which conversations")
        for c, conv in wanted.items():
            same(got[c], conv, f"{user}: {what}: {c}")

    async def conversation(self, device, conv):
        for folded in (False, True):
            await self.range(device, conv, folded, self.rng.random() < 0.5)
        if self.rng.random() < 0.3:
            got = await device.http(f"/v1/conversations/{conv.c}")
            same(got, self.model.conv(conv, device.user, now_ms()), f"{device}: HTTP: {conv.c}")
        members = await self.all_of(device, "members", conv, [1, 2, 500])
        same(members, self.model.members(conv, device.user), f"{device.user}: members of {conv.c}")
        s = self.rng.randint(1, conv.head + 1)
        answer = await device.ok("seen", c=conv.c, s=s)
        users = self.model.seen(conv, device.user, s)
        same(answer, {"n": len(users), "users": users, "next": None}, f"seen {s} of {conv.c}")
        await self.more(device, conv)

    async def all_of(self, device, op, conv, limits, **fields):
        """Every page of it."""
        found, fields = [], {**fields, "c": conv.c, "limit": self.rng.choice(limits)}
        while True:
            answer = await device.ok(op, **fields)
            assert len(answer[op]) <= fields["limit"], f"{device}: {op} {fields}: {answer}"
            found += answer[op]
            if not answer["next"]:
                return found
            fields["page"] = answer["next"]

    async def more(self, device, conv):
        """Who was in, threads, what messages said before, invites."""
        user, what, now = device.user, f"{device.user}: {conv.c}", now_ms()
        at = self.rng.randint(conv.since(user), conv.head)
        members = await self.all_of(device, "members", conv, [1, 2, 500], at=at)
        same(members, self.model.members_at(conv, at), f"{what}: members at {at}")
        if at > 1 and at == conv.since(user):
            answer = await device.call("members", {"c": conv.c, "at": at - 1})
            same(answer.get("err", {}).get("code"), "not_found", f"{what}: members at {at - 1}")
        threads = await self.all_of(device, "threads", conv, [1, 2, 100])
        same(threads, self.model.threads(conv, user, now), f"{what}: threads")
        for root in [r for r in conv.records if r.thread][-2:]:
            for folded in (False, True):
                desc = self.rng.random() < 0.5
                await self.thread(device, conv, root, folded, desc)
        await self.invites(device, conv)
        found = [r.s for r in conv.records if len(r.versions) > 1] or [self.rng.randint(1, at)]
        for s in {self.rng.choice(found), self.rng.randint(1, conv.head)}:
            answer = await device.call("edits", {"c": conv.c, "s": s})
            wanted = self.model.versions(conv, user, s, now)
            if wanted:
                same(answer.get("ok"), {"versions": wanted}, f"{what}: edits {s}")
            else:
                code = "not_found" if wanted is None else "forbidden"
                same(answer.get("err", answer).get("code"), code, f"{what}: edits {s}: {answer}")

    async def thread(self, device, conv, root, folded, desc):
        fields = {"c": conv.c, "thread": root.s, "view": "folded" if folded else "log",
                  "order": "desc" if desc else "asc", "max": self.rng.choice([1, 3, 1000])}
        what, got = f"{device.user}: range {fields}", []
        while True:
            answer = await device.ok("range", **fields)
            full = sum("hole" not in item for item in answer["records"])
            assert full <= fields["max"], f"{what}: {full} records"
            got += answer["records"]
            if answer["next"] is None:
                break
            fields["from"] = answer["next"]
        wanted = self.model.thread(conv, root, device.user, folded, now_ms())
        same(self.apart(got, desc), wanted[::-1] if desc else wanted, what)

    @staticmethod
    def apart(items, desc):
        """A hole for each sequence."""
        single = []
        for item in items:
            first, last = item.get("hole", [0, 0])
            each = [{**item, "hole": [s, s]} for s in range(first, last + 1)] if last else [item]
            single += each[::-1] if desc else each
        return single

    async def invites(self, device, conv):
        answer = await device.call("invites", {"c": conv.c})
        if conv.role(device.user) == "member":
            same(answer.get("err", answer).get("code"), "forbidden", f"{device.user}: invites")
            return
        same(answer.get("ok"), {"invites": self.model.invites(conv, now_ms())},
             f"{device.user}: invites of {conv.c}")

    async def presence(self, device, live):
        """Of whom a conversation is shared with; `live`: the users who are there."""
        shared = {user for conv in self.model.of(device.user) for user in conv.members}
        shared -= {device.user}
        device.presence.clear()
        await device.ok("presence", watch=sorted(shared))
        kept_from = {user for user in shared if self.model.blocks(user, device.user)
                     or self.model.blocks(device.user, user)}

        def told(user):
            states = device.presence.get(user)
            return states and (user not in live or user in kept_from or states[-1][0] == "online")
        end = time.monotonic() + WAIT_S
        while not all(map(told, shared)) and time.monotonic() < end:
            await asyncio.sleep(0.005)
        await device.ok("presence", unwatch=sorted(shared))
        for user in shared:
            assert told(user), f"{device}: presence of {user}: {device.presence.get(user)}"
            assert user not in kept_from or set(device.presence[user]) == {("offline", None)}, \
                f"{device}: presence of {user}, one of them blocked: {device.presence[user]}"

    async def blocks(self, device):
        answer = await device.ok("blocks")
        wanted = list(self.model.blocked.get(device.user, {}))
        same([each["user"] for each in answer["users"]], wanted, f"{device.user}: blocks")
        times = [each["ts"] for each in answer["users"]]
        assert times == sorted(times), f"{device.user}: blocks: {answer}"

    def pages(self, conv, desc):
        """Random bounds: fields of the first page, and the sequences that they name."""
        fields, first, last = {}, 1, conv.head
        if self.rng.random() < 0.4:
            fields["from"] = self.rng.randint(1, conv.head + 2)
        if self.rng.random() < 0.3:
            fields["to"] = self.rng.randint(1, conv.head + 2)
        if desc:
            first = fields.get("to", 0) + 1
            last = min(conv.head, fields.get("from", conv.head))
        else:
            first = fields.get("from", 1)
            last = min(conv.head, fields.get("to", conv.head + 1) - 1)
        return fields, first, last

    async def range(self, device, conv, folded, desc, user=None, whole=False):
        """Pages of it: they join, and give each sequence as the model has it."""
        user = user or device.user
        fields, first, last = ({}, 1, conv.head) if whole else self.pages(conv, desc)
        fields = {**fields, "c": conv.c, "view": "folded" if folded else "log",
                  "order": "desc" if desc else "asc"}
        if not whole and self.rng.random() < 0.7:
            fields["max"] = self.rng.choice([1, 2, 7, 30])
        got, at = {}, last if desc else first
        while True:
            answer = await device.ok("range", **fields)
            what = f"{user}: range {fields}"
            same([answer["head"], answer["floor"]], [conv.head, 1], what + ": head, floor")
            full = sum("hole" not in item for item in answer["records"])
            assert full <= fields.get("max", 1000), f"{what}: {full} records"
            if first > last:
                same(answer, {**answer, "records": [], "next": None}, what)
                return
            end = answer["next"] or (first - 1 if desc else last + 1)
            self.page(answer["records"], got, folded, desc, (at, end), what)
            if answer["next"] is None:
                break
            assert end < at if desc else end > at, f"{what}: next {end}"
            fields["from"] = at = end
        wanted = self.model.view(conv, user, folded, now_ms())
        wanted = {s: v for s, v in wanted.items() if first <= s <= last}
        what = f"{user}: range {fields}"
        if folded:  # a hole may reach over what does not show anyway
            got = {s: v for s, v in got.items() if s in wanted or isinstance(v, dict)}
        same(sorted(got), sorted(wanted), what + ": sequences")
        for s, shown in wanted.items():
            same(got[s], shown, f"{what}: sequence {s}")
            if isinstance(shown, dict) and "reactions" in shown:
                same(list(got[s]["reactions"]), list(shown["reactions"]), f"{what}: {s}: reactions")

    @staticmethod
    def page(records, got, folded, desc, bounds, what):
        """Adds the records of a page: between its bounds, in order, without a gap (log)."""
        at, end = bounds
        step = -1 if desc else 1
        for item in records:
            low, high = item.get("hole", [item.get("s")] * 2)
            each = range(high, low - 1, -1) if desc else range(low, high + 1)
            assert low <= high and (each[0] == at if not folded else (each[0] - at) * step >= 0), \
                f"{what}: {item} where {at} was to come"
            for s in each:
                got[s] = item.get("why", item)
            at = each[-1] + step
        assert at == end or folded and (end - at) * step >= 0, \
            f"{what}: records end before {at}, the page before {end}"

    @staticmethod
    async def walk(device, c):
        """While others write: the pages join. Whoever is taken out meanwhile is a stranger."""
        at, head = 1, 0
        while at:
            answer = await device.call("range", {"c": c, "from": at, "max": 5})
            if answer.get("err", {}).get("code") == "not_found":
                return
            page = answer["ok"]
            assert page["head"] >= head, f"{device}: {c}: head {page['head']} after {head}"
            head = page["head"]
            end = page["next"] or head + 1
            Checker.page(page["records"], {}, False, False, (at, end), f"{device}: {c} from {at}")
            at = page["next"]

    async def stranger(self, device, conv):
        for op, fields in (("range", {}), ("members", {}), ("seen", {"s": 1}), ("edits", {"s": 2}),
                           ("threads", {}), ("invites", {}), ("range", {"thread": 2}),
                           ("members", {"at": 1}), ("mark", {"thread": 2, "read": 2}),
                           ("delete", {"s": 2, "for": "me", "cid": "x"}), ("resume", {"cur": 1}),
                           ("typing", {})):
            answer = await device.call(op, {"c": conv.c, **fields})
            assert answer.get("err", {}).get("code") == "not_found", \
                f"{device.user} is not in {conv.c}: {op}: {answer}"

    # ---- live views

    async def settled(self, devices):
        """Waits until all live devices have everything that the model has."""
        for device in devices:
            end = time.monotonic() + WAIT_S
            while device.live and not device.faults and time.monotonic() < end:
                if not self.behind(device):
                    break
                await asyncio.sleep(0.005)
            self.faultless(device)
            if device.live:
                assert not self.behind(device), f"{device}: {self.behind(device)}"

    @staticmethod
    def faultless(device):
        assert not device.faults, f"{device}: " + "\n".join(device.faults)

    def behind(self, device):
        wanted = {conv.c: conv.head for conv in self.model.of(device.user)}
        got = {c: view.cursor for c, view in device.views.items()}
        if got != wanted:
            return f"it is at {got}, the model at {wanted}"
        if any(view.lagging for view in device.views.values()) or device.tasks:
            return "it still fetches"
        u = len(self.model.logs.get(device.user, []))
        return f"its user log is at {device.u}, the model at {u}" if device.u != u else ""

    def live_view(self, device):
        """What came live, or while catching up, is what was written."""
        now = now_ms()
        for c, view in device.views.items():
            conv = self.model.convs[c]
            assert list(view.seen) == list(range(view.start + 1, view.cursor + 1)), f"{device}: {c}"
            for s, item in view.seen.items():
                self.live_record(device, conv, conv.at(s), item, now)
        self.user_log(device)
        for c, marks in device.marks.items():
            for user, (read, delivered) in marks.items():
                member = self.model.convs[c].members.get(user)
                assert not member or read <= member.read and delivered <= member.delivered, \
                    f"{device}: {c}: mark of {user}: {read}, {delivered}"
        for (c, s), read in device.places.items():
            place = self.model.convs[c].at(s).places.get(device.user, 0)
            assert read <= place, f"{device}: {c}: mark of thread {s}: {read}, not {place}"

    @staticmethod
    def live_record(device, conv, record, item, now):
        what = f"{device}: {conv.c}: sequence {record.s} came as {item}"
        hidden = any(conv.hides_it(device.user, s) for s in (record.s, record.data.get("target")))
        if item == "hidden":  # `history` may have been so
            assert record.s < conv.members[device.user].since or hidden, what
        elif isinstance(item, str):
            assert hidden and item == "erased" or \
                conv.hole(record, device.user, now) in (item, "hidden", "expired"), what
        else:
            same(item, conv.shown(record, device.user, False), f"{device}: live: {record.s}")

    def user_log(self, device):
        """Entries of one operation, or of some at the same time, may come in any order."""
        entries = self.model.logs.get(device.user, [])
        for group in {g for g, _, _ in entries[device.u_start:]}:
            here = [i for i in range(device.u_start, len(entries)) if entries[i][0] == group]
            got = [device.entries.get(i + 1) for i in here]
            wanted = [entries[i][1:] for i in here]
            same(sorted(map(str, got)), sorted(map(str, wanted)), f"{device}: user log")

    def joined(self, device, expected):
        """Events `joined` are the Conv of the moment."""
        for event in device.joined:
            wanted = expected.get((device.user, event["c"], event["head"]))
            if wanted:
                same(event, wanted, f"{device}: joined {event['c']}")
        device.joined.clear()
