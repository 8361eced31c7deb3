"""The parts of the model: records, members, conversations; and limits of docs/PROTOCOL.md."""

import json

TEXT_MAX, NAME_MAX, TOPIC_MAX, DRAFT_MAX, LANG_MAX = 32768, 256, 1024, 4096, 3
TTL_MAX, MENTIONS_MAX, MENTION_ALL_MAX, PINS_MAX = 316224000, 100, 32, 50
INVITES_MAX, USES_MAX, EXPIRES_S = 50, 100000, range(60, 31536001)
INVITE_S = 7 * 24 * 3600
CHANGES_MAX, VERSIONS_MAX, HIDES_MAX = 64, 100, 10000
REACTIONS_OWN, REACTIONS_ALL, LAST_WITHIN, MENTIONS_SHOWN = 20, 64, 64, 1000
ADMIN = "root"  # has scope `admin`, and is in no conversation
RANK = {"member": 0, "admin": 1, "owner": 2}
WRITES = ("send", "edit", "delete", "react", "pin", "member", "leave", "meta",
          "invite", "uninvite")


class Refused(Exception):
    pass


class Plan:
    """code: refused; dup: that record again; data: a record to be; null: nothing to write."""

    def __init__(self, kind, user, op, fields, value=None, conv=None):
        self.kind, self.user, self.op, self.fields = kind, user, op, fields
        self.value, self.conv = value, conv

    def __str__(self):
        return f"{self.kind} {self.value if self.kind != 'dup' else self.value.data}"


class Record:
    def __init__(self, data, cid, group):
        self.data, self.cid, self.group = data, cid, group
        self.s, self.kind = data["s"], data["kind"]
        self.body, self.edited, self.pinned = data["body"], None, None
        self.deleted, self.replies, self.reactions = False, 0, {}
        self.versions = [{"s": self.s, "ts": data["ts"], "body": data["body"]}]
        self.places, self.thread = {}, []  # of a root: how far users have read, its messages

    @property
    def message(self):
        return self.kind == "text" or self.kind.startswith("x-")

    def expired(self, now):
        return self.data.get("expires", now + 1) <= now


class Invite:
    """`answer` is that of `invite`; `gone`: taken back, or ended and forgotten."""

    def __init__(self, answer, record):
        self.answer, self.record, self.used, self.gone = answer, record, 0, False

    def works(self, now):
        uses = self.answer["uses"]
        return not self.gone and now < self.answer["expires"] and \
            (uses is None or self.used < uses)

    def shown(self):
        data = self.record.data
        return {**self.answer, "by": data["from"], "created": data["ts"], "used": self.used}


class Member:
    def __init__(self, role, record):
        self.role, self.joined, self.since = role, record["ts"], record["s"]
        self.read = self.delivered = record["s"]
        self.prefs = {"muted_until": None, "pinned": False, "hidden": None, "draft": None}


class Conv:
    def __init__(self, c, kind, users, fields):
        self.c, self.kind, self.users = c, kind, users
        self.name, self.topic = fields.get("name"), fields.get("topic")
        self.ttl, self.history = fields.get("ttl"), fields.get("history", "all")
        self.announce, self.created = False, None
        self.lang, self.searchable = None, True
        self.records, self.members, self.pins, self.cids = [], {}, [], {}
        self.hides = {}  # user → {sequence: group of the deleting}
        self.invites = {}  # sequence → Invite
        self.changes = {}  # user → [(sequence, role or None, joined)]
        self.taken_out = set()  # by others

    @property
    def head(self):
        return len(self.records)

    @property
    def n(self):
        return self.records[-1].data["n"] if self.records else 0

    def role(self, user):
        return "owner" if user == ADMIN else self.members[user].role

    def at(self, s):
        return self.records[s - 1] if 1 <= s <= self.head else None

    def since(self, user):
        member = self.members.get(user)
        return member.since if member and self.history == "joined" else 1

    def hidden(self, user):
        """By the user, and no message has come since."""
        since = self.members[user].prefs["hidden"]
        return since is not None and not any(r.message for r in self.records[since:])

    def changed(self, user, s):
        """Another entry for `members` with `at`."""
        member = self.members.get(user)
        role, joined = (member.role, member.joined) if member else (None, None)
        changes = self.changes.setdefault(user, [])
        changes.append((s, role, joined))
        del changes[:-CHANGES_MAX]

    def hides_it(self, user, s):
        return s in self.hides.get(user, {})

    def owners(self):
        return sum(m.role == "owner" for m in self.members.values())

    def message(self, s, now):
        """One that can still be changed."""
        record = self.at(s)
        if not record or not record.message or record.deleted or record.expired(now):
            raise Refused("not_found")
        return record

    def hole(self, record, user, now):
        """Why this reader gets a hole, or None."""
        if record.s < self.since(user):
            return "hidden"
        target = self.at(record.data["target"]) if record.kind == "edit" else record
        if record.expired(now):
            return "expired"
        if target.deleted:
            return "erased"
        own = self.hides_it(user, record.s) or self.hides_it(user, record.data.get("target"))
        return "hidden" if own else None

    def gone(self, record, user, now):
        """A message that does not count as unread."""
        return record.deleted or record.expired(now) or self.hides_it(user, record.s)

    def shown(self, record, user, folded):
        data = dict(record.data)
        if record.cid and data["from"] == user:
            data["cid"] = record.cid
        if folded:
            data["body"] = record.body
            optional = {"edited": record.edited, "replies": record.replies, "pinned": record.pinned}
            data.update({k: v for k, v in optional.items() if v})
            if record.reactions:
                data["reactions"] = {emoji: {"n": len(users), "me": user in users}
                                     for emoji, users in record.reactions.items()}
        return data


def content(op, fields):
    return json.dumps([op, {k: v for k, v in fields.items() if k != "cid"}], sort_keys=True)


def some_of(fields, *names):
    return {name: fields[name] for name in names if name in fields}


def bytes_of(text):
    return len(text.encode())
