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
        members, page = [], None
        limit = self.rng.choice([1, 2, 500])
        while True:
            fields = {"c": conv.c, "limit": limit, **({"page": page} if page else {})}
            answer = await device.ok("members", **fields)
            members += answer["members"]
            page = answer["next"]
            if not page:
                break
        same(members, self.model.members(conv), f"{device.user}: members of {conv.c}")
        s = self.rng.randint(1, conv.head + 1)
        answer = await device.ok("seen", c=conv.c, s=s)
        users = self.model.seen(conv, s)
        same(answer, {"n": len(users), "users": users, "next": None}, f"seen {s} of {conv.c}")

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
        for op, fields in (("range", {}), ("members", {}), ("seen", {"s": 1}),
                           ("resume", {"cur": 1}), ("typing", {})):
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

    @staticmethod
    def live_record(device, conv, record, item, now):
        what = f"{device}: {conv.c}: sequence {record.s} came as {item}"
        if item == "hidden":  # while `history` was so
            assert record.s < conv.members[device.user].since, what
        elif isinstance(item, str):
            assert conv.hole(record, device.user, now) in (item, "hidden", "expired"), what
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
