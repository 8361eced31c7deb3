"""Random operations, right and wrong ones, made from what the model has."""

import copy

from model_state import ADMIN

EMOJI = ["👍", "❤️", "👨‍👩‍👧", "🇪🇺", "1️⃣", ":x:", ":party_parrot:", "😀", "🎉", "👎🏽"]
WORDS = "one two three äöü 漢字 🍐 \"quoted\" back\\slash <b> line\nbreak".split(" ")
WEIGHTS = {"send": 34, "edit": 9, "delete": 7, "react": 12, "pin": 8, "member": 11, "leave": 2,
           "meta": 6, "mark": 8, "prefs": 8, "open": 2, "typing": 1, "again": 6, "wrong": 9,
           "invite": 3, "uninvite": 1, "join": 6, "block": 2}
OWN = ("mark", "prefs", "typing")  # without a cid
UNORDERED = ("open", "join", "block", "wrong")  # no answer says where in a log they stand
MEMBERSHIP = ("member", "leave", "open")


class Maker:
    def __init__(self, rng, model, users, ghosts):
        self.rng, self.model, self.users, self.ghosts = rng, model, users, ghosts
        self.cids, self.done, self.short = 0, [], 0
        self.short_max = 5  # messages that expire while the test runs

    def cid(self, user):
        self.cids += 1
        return f"{user}-{self.cids}"

    def text(self):
        return " ".join(self.rng.choices(WORDS, k=self.rng.randint(0, 5)))

    def make(self, user, without=()):
        """(op, fields) of this user."""
        kinds = {k: w for k, w in WEIGHTS.items() if k not in without}
        convs = list(self.model.convs.values()) if user == ADMIN else self.model.of(user)
        op = self.rng.choices(list(kinds), list(kinds.values()))[0] if convs else "open"
        if op == "again":
            made = self.again(user, without)
            if made:
                return made
            op = "send"
        if op == "open":
            return op, self.open(user)
        if op == "block":
            return op, self.block(user)
        if op == "join":
            return op, self.join(user)
        conv = self.choose(user, op, convs)
        if op == "wrong":
            return self.wrong(user, conv)
        fields = getattr(self, op)(user, conv)
        fields = {"c": conv.c, **fields}
        if op not in OWN:
            fields["cid"] = self.cid(user)
        return op, fields

    def choose(self, user, op, convs):
        """Some more often than others; those in which the user may, for the most part."""
        if op in ("member", "meta", "pin", "invite", "uninvite") and self.rng.random() < 0.7:
            convs = [c for c in convs if c.role(user) != "member"] or convs
        if op in ("invite", "uninvite"):
            convs = [c for c in convs if c.kind == "group"] or convs
        if op in ("member", "leave") and self.rng.random() < 0.7:
            convs = [c for c in convs if c.kind == "group"] or convs
        return self.rng.choices(convs, [1 / (i + 1) for i in range(len(convs))])[0]

    def limits(self, conv, device, live):
        """More pins, or more reactions on a message, than there may be: [(device, op, fields)]."""
        asked, last = [], conv.head + 300
        dice = self.rng.random()
        if dice < 0.3 and conv.kind == "group":
            for _ in range(52):
                asked.append((device, "invite", {"c": conv.c, "cid": self.cid(device.user)}))
        elif dice < 0.6:
            for s in range(last - 52, last):
                asked.append((device, "pin", {"c": conv.c, "s": s, "cid": self.cid(device.user)}))
        else:
            for other in [d for d in live if d.user in conv.members]:
                for emoji in [f":{other}-{i}:".replace("/", "-") for i in range(22)]:
                    fields = {"c": conv.c, "s": max(1, conv.head), "emoji": emoji,
                              "cid": self.cid(other.user)}
                    asked.append((other, "react", fields))
        return asked

    def wrote(self, user, op, fields):
        """It was done under its cid: it can be said again."""
        self.done.append((user, op, fields))

    def again(self, user, without):
        """What was said before, or something else under its cid."""
        said = [(o, f) for u, o, f in self.done if u == user and o not in without]
        if not said:
            return None
        op, fields = self.rng.choice(said)
        if "c" in fields and self.rng.random() < 0.4:
            fields = copy.deepcopy(fields)
            other = self.rng.choice(["edit", "send", "pin", "invite"])
            if op == "send" and other == "send":
                fields["body"] = {"text": "something else"}
                fields["kind"] = "text"
            elif op != other:
                made = getattr(self, other)(user, self.model.convs[fields["c"]])
                return other, {"c": fields["c"], **made, "cid": fields["cid"]}
        return op, fields

    # ---- right, most of them

    def open(self, user):
        if self.rng.random() < 0.35:
            return {"kind": "direct", "with": self.rng.choice(self.users)}
        names = self.rng.sample(self.users, self.rng.randint(0, min(4, len(self.users))))
        if self.rng.random() < 0.15:
            names += self.rng.sample(self.ghosts, self.rng.choice([5, 30, 33]))
        fields = {"kind": "group", "name": f"group {self.cids}", "members": names,
                  "cid": self.cid(user)}
        if self.rng.random() < 0.4:
            fields["history"] = self.rng.choice(["all", "joined"])
        if self.rng.random() < 0.3:
            fields["topic"] = self.text() or "topic"
            fields["topic"] = fields["topic"].replace("\n", " ")
        if self.rng.random() < 0.2:
            fields["ttl"] = self.rng.choice([3600, 316224000])
        return fields

    def send(self, user, conv):
        fields = {"kind": "text", "body": {"text": self.text()}}
        if self.rng.random() < 0.15:
            body = {"q": self.text(), "a": [1, {}]}
            fields = {"kind": self.rng.choice(["x-poll", "x-1"]), "body": body}
        elif self.rng.random() < 0.1:
            fields["body"].update({"format": "markdown", "more": {"a": None}})
        if conv.head and self.rng.random() < 0.2:
            fields["reply"] = self.rng.randint(1, conv.head)
        if self.rng.random() < 0.2:
            fields["thread"] = self.root(conv) or self.message(conv)
        if self.rng.random() < 0.3:
            names = self.rng.sample(self.users, self.rng.randint(1, min(3, len(self.users))))
            fields["mentions"] = self.rng.choice(["all", names])
        if self.rng.random() < 0.1:
            fields["ttl"] = self.rng.choice([3600, 86400])
        elif self.rng.random() < 0.04 and self.short < self.short_max:
            self.short += 1
            fields["ttl"] = self.rng.randint(1, 2)
        return fields

    def message(self, conv, author=None):
        """The sequence of a message, most often; a late one rather than an early one."""
        found = [r.s for r in conv.records if r.message and author in (None, r.data["from"])]
        if not found or self.rng.random() < 0.05:
            return self.rng.randint(1, conv.head + 2)
        return self.rng.choice(found[-12:] if self.rng.random() < 0.8 else found)

    def root(self, conv):
        """Of a thread that is there, most often."""
        roots = [r.s for r in conv.records if r.thread]
        return self.rng.choice(roots[-4:]) if roots and self.rng.random() < 0.7 else None

    def edit(self, user, conv):
        s = self.message(conv, user if self.rng.random() < 0.9 else None)
        record = conv.at(s)
        body = {"text": self.text()}
        if record and record.kind.startswith("x-") and self.rng.random() < 0.8:
            body = {"q": "new"}
        return {"s": s, "body": body}

    def delete(self, user, conv):
        found = [r for r in conv.records if r.message and r.data["from"] == user]
        if found and self.rng.random() < 0.4:
            return {"s": found[-1].s, "for": self.rng.choice(["all", "all", "me"])}
        if self.rng.random() < 0.4:
            return {"s": self.message(conv), "for": "me"}
        return {"s": self.message(conv, user if self.rng.random() < 0.6 else None), "for": "all"}

    def react(self, user, conv):
        there = [r for r in conv.records[-60:] if r.reactions and not r.deleted]
        if there and self.rng.random() < 0.6:
            record = self.rng.choice(there[:5])
            fields = {"s": record.s, "emoji": self.rng.choice(list(record.reactions))}
            if user in record.reactions[fields["emoji"]]:
                fields["on"] = self.rng.random() < 0.2
            return fields
        fields = {"s": self.message(conv), "emoji": self.rng.choice(EMOJI)}
        if self.rng.random() < 0.5:
            fields["on"] = self.rng.random() < 0.5
        return fields

    def pin(self, user, conv):
        fields = {"s": self.message(conv)}
        if conv.pins and self.rng.random() < 0.4:
            fields = {"s": self.rng.choice(conv.pins), "on": False}
        return fields

    def member(self, user, conv):
        change = self.rng.choice(["add", "add", "remove", "role", "role"])
        fields = {"user": self.rng.choice(self.users), "set": change}
        out = [u for u in self.users if u not in conv.members]
        if change == "add" and out and self.rng.random() < 0.8:
            fields["user"] = self.rng.choice(out)
        if change != "add" and conv.members and self.rng.random() < 0.8:
            fields["user"] = self.rng.choice(list(conv.members))
        if change == "role" or change == "add" and self.rng.random() < 0.4:
            fields["role"] = self.rng.choice(["member", "admin", "owner"])
        return fields

    def leave(self, user, conv):
        return {}

    def meta(self, user, conv):
        all_of = {"name": f"name {self.rng.randint(1, 9)}",
                  "history": self.rng.choice(["all", "joined"]),
                  "topic": self.rng.choice([None, "a topic", "another"]),
                  "announce": self.rng.random() < 0.3, "ttl": self.rng.choice([None, 0, 7200]),
                  "lang": self.rng.choice([None, "de", "en", "German"]),
                  "searchable": self.rng.random() < 0.7}
        if conv.kind == "direct" and self.rng.random() < 0.9:
            return {k: all_of[k] for k in self.rng.choice([["ttl"], ["lang", "searchable"]])}
        return {k: all_of[k] for k in self.rng.sample(list(all_of), self.rng.randint(1, 2))}

    def mark(self, user, conv):
        root = self.root(conv)
        if root and self.rng.random() < 0.4:
            return {"thread": root, "read": self.rng.randint(0, conv.head + 1)}
        names = self.rng.choice([["read"], ["delivered"], ["read", "delivered"]])
        return {name: self.rng.randint(0, conv.head + 1) for name in names}

    def prefs(self, user, conv):
        all_of = {"muted_until": self.rng.choice([None, 0, 4102444800000]),
                  "pinned": self.rng.random() < 0.5, "hidden": self.rng.random() < 0.7,
                  "draft": self.rng.choice([None, "begun", "ünd"])}
        return {k: all_of[k] for k in self.rng.sample(list(all_of), self.rng.randint(1, 2))}

    def typing(self, user, conv):
        return {}

    def invite(self, user, conv):
        fields = {}
        if self.rng.random() < 0.5:
            fields["uses"] = self.rng.choice([1, 2, 100000])
        if self.rng.random() < 0.5:
            fields["expires_s"] = self.rng.choice([60, 3600, 31536000])
        return fields

    def uninvite(self, user, conv):
        if conv.invites and self.rng.random() < 0.9:
            return {"s": self.rng.choice(list(conv.invites))}
        return {"s": self.rng.randint(1, conv.head + 1)}

    def join(self, user):
        """By a code that works or does not, into a group in which the user is not, most often."""
        known = [(conv, invite) for conv in self.model.convs.values()
                 for invite in conv.invites.values()]
        foreign = [each for each in known if user not in each[0].members]
        if foreign and self.rng.random() < 0.8:
            known = foreign
        if not known or self.rng.random() < 0.05:
            return {"code": "nothing", "cid": self.cid(user)}
        conv, invite = self.rng.choice(known[-6:])
        used = [cid for name, cid in conv.cids if name == user]
        cid = self.rng.choice(used) if used and self.rng.random() < 0.15 else self.cid(user)
        return {"code": invite.answer["code"], "cid": cid}

    def block(self, user):
        there = list(self.model.blocked.get(user, {}))
        if there and self.rng.random() < 0.5:
            return {"user": self.rng.choice(there), "on": False}
        fields = {"user": self.rng.choice([u for u in self.users if u != user] + [ADMIN])}
        if self.rng.random() < 0.4:
            fields["on"] = self.rng.random() < 0.6
        return fields

    # ---- wrong

    def wrong(self, user, conv):
        """One thing is wrong with each."""
        cid = {"c": conv.c, "cid": self.cid(user)}
        text = {**cid, "kind": "text", "body": {"text": "wrong"}}
        foreign = [c for c in self.model.convs.values() if user not in c.members]
        choices = [
            ("send", {**text, "body": {"text": "x" * 32769}}),
            ("send", {**text, "kind": "image", "body": {}}),
            ("send", {**text, "kind": "x-Big"}),
            ("send", {**text, "reply": conv.head + 1}),
            ("send", {**text, "ttl": 316224001}),
            ("send", {**text, "from": self.users[0]}),
            ("send", {**text, "mentions": [f"m{i}" for i in range(101)]}),
            ("send", {**text, "c": "g-nothing"}),
            ("delete", {**cid, "s": 1, "for": "them"}),
            ("react", {**cid, "s": conv.head + 1, "emoji": "👍"}),
            ("pin", {**cid, "s": 1}),
            ("edit", {**cid, "s": 1, "body": {"text": "x"}}),
            ("meta", {**cid, "name": "n" * 257}),
            ("meta", {**cid, "topic": "t" * 1025}),
            ("meta", {**cid, "name": "bell\a"}),
            ("meta", cid),
            ("prefs", {"c": conv.c, "draft": "d" * 4097}),
            ("prefs", {"c": conv.c}),
            ("mark", {"c": conv.c}),
            ("mark", {"c": conv.c, "thread": conv.head + 1, "read": 1}),
            ("delete", {**cid, "s": 1, "for": "me"}),
            ("delete", {**cid, "s": conv.head + 1, "for": "me"}),
            ("invite", {**cid, "expires_s": 59}),
            ("invite", {**cid, "expires_s": 31536001}),
            ("invite", {**cid, "uses": 0}),
            ("invite", {**cid, "uses": 100001}),
            ("uninvite", {**cid, "s": 1}),
            ("join", {"code": "x" * 129, "cid": cid["cid"]}),
            ("block", {"user": user}),
            ("block", {"user": "not a name"}),
            ("open", {"kind": "group", "name": "", "cid": cid["cid"]}),
            ("open", {"kind": "group", "name": "no", "members": ["not a name"], "cid": cid["cid"]}),
            ("open", {"kind": "group", "name": "no", "members": self.ghosts, "cid": cid["cid"]}),
        ]
        for other in foreign[-3:]:
            choices += [("send", {**text, "c": other.c}), ("leave", {**cid, "c": other.c}),
                        ("mark", {"c": other.c, "read": 1}),
                        ("invite", {**cid, "c": other.c}),
                        ("uninvite", {**cid, "c": other.c, "s": 2}),
                        ("prefs", {"c": other.c, "pinned": True}),
                        ("react", {**cid, "c": other.c, "s": 2, "emoji": "👍"}),
                        ("meta", {**cid, "c": other.c, "name": "mine"})]
        return self.rng.choice(choices)
