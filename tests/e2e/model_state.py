"""What conversations must be: a simple model, from docs/PROTOCOL.md, one operation after the other.

`plan` says what an operation must be answered, and changes nothing; `commit` does it, with the ids
and times of the server's answer. `conv`, `view`, `members`, `seen`, `age` are what reads must give.

Where the page says nothing, the model has what the server does:
- a member's marks begin at the record of the joining, which is `since` where `history` is `joined`
- scope `admin` can delete, pin and set in direct conversations, too, but not edit
- admins may take themselves out, and give up their role
- who leaves writes a `member` record that removes him
- an edit or a reaction expires with its message; of a deleted one, edits are holes, reactions stay
- what was deleted and then expires is a hole `expired`, and can't be deleted again
- `replies` count expired ones
- a thread can hang on an expired message, not on a deleted one
- what `hidden` hides can be reacted to and answered
- setting by `prefs` what is so already is no entry of the user log
"""

import json
import re

TEXT_MAX, NAME_MAX, TOPIC_MAX, DRAFT_MAX = 32768, 256, 1024, 4096
TTL_MAX, MENTIONS_MAX, MENTION_ALL_MAX, PINS_MAX = 316224000, 100, 32, 50
REACTIONS_OWN, REACTIONS_ALL, LAST_WITHIN, MENTIONS_SHOWN = 20, 64, 64, 1000
ADMIN = "root"  # has scope `admin`, and is in no conversation
RANK = {"member": 0, "admin": 1, "owner": 2}
WRITES = ("send", "edit", "delete", "react", "pin", "member", "leave", "meta")


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
    def __init__(self, data, cid):
        self.data, self.cid = data, cid
        self.s, self.kind = data["s"], data["kind"]
        self.body, self.edited, self.pinned = data["body"], None, None
        self.deleted, self.replies, self.reactions = False, 0, {}

    @property
    def message(self):
        return self.kind == "text" or self.kind.startswith("x-")

    def expired(self, now):
        return self.data.get("expires", now + 1) <= now


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
        self.records, self.members, self.pins, self.cids = [], {}, [], {}

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
        return "erased" if target.deleted else None

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


class Model:
    def __init__(self, group_max):
        self.group_max = group_max
        self.convs, self.opened, self.logs, self.group = {}, {}, {}, 0

    # ---- what must be answered

    def plan(self, user, op, fields, now):
        try:
            check = getattr(self, "shape_" + op, None)
            if check:
                check(fields)
            if op == "open":
                return self.plan_open(user, fields)
            conv = self.convs.get(fields["c"])
            before = conv and conv.cids.get((user, fields.get("cid")))
            there = conv and (user in conv.members or before and op == "leave" or
                              user == ADMIN and op in WRITES and op != "leave")
            if not there:
                raise Refused("not_found")
            if op not in WRITES:
                return Plan("ok", user, op, fields, None, conv)
            if before and before[0] != content(op, fields) and not self.erased(conv, before[1]):
                raise Refused("conflict")
            if before:
                return Plan("dup", user, op, fields, before[1], conv)
            data = getattr(self, "plan_" + op)(conv, user, fields, now)
            return Plan("data" if data else "null", user, op, fields, data, conv)
        except Refused as refused:
            return Plan("code", user, op, fields, str(refused))

    @staticmethod
    def erased(conv, record):
        target = conv.at(record.data["target"]) if record.kind == "edit" else record
        return target.deleted

    @staticmethod
    def shape_open(fields):
        Model.shape_settings(fields)
        if any(not re.fullmatch("[A-Za-z0-9._@-]{1,64}", m)
               for m in fields.get("members", []) + [fields.get("with", "x")]):
            raise Refused("bad_request")

    @staticmethod
    def shape_settings(fields):
        if "name" in fields and not fields["name"]:
            raise Refused("bad_request")
        if bytes_of(fields.get("name") or "") > NAME_MAX:
            raise Refused("too_large")
        if bytes_of(fields.get("topic") or "") > TOPIC_MAX:
            raise Refused("too_large")
        if any(ord(x) < 32 for x in (fields.get("name") or "") + (fields.get("topic") or "")):
            raise Refused("bad_request")
        if (fields.get("ttl") or 0) > TTL_MAX:
            raise Refused("bad_request")
        if fields.get("history", "all") not in ("all", "joined"):
            raise Refused("bad_request")

    @staticmethod
    def shape_meta(fields):
        if not set(fields) & {"name", "topic", "ttl", "history", "announce"}:
            raise Refused("bad_request")
        Model.shape_settings(fields)

    @staticmethod
    def shape_body(kind, body):
        if kind == "text" and not isinstance(body.get("text"), str):
            raise Refused("bad_request")
        if kind == "text" and bytes_of(body["text"]) > TEXT_MAX:
            raise Refused("too_large")

    @staticmethod
    def shape_send(fields):
        if not re.fullmatch("text|x-[a-z0-9-]{1,32}", fields["kind"]):
            raise Refused("bad_request")
        Model.shape_body(fields["kind"], fields["body"])
        if "ttl" in fields and not 1 <= fields["ttl"] <= TTL_MAX:
            raise Refused("bad_request")
        mentions = fields.get("mentions", [])
        if mentions != "all" and len(mentions) > MENTIONS_MAX:
            raise Refused("too_large")
        if "from" in fields or "ts" in fields:
            raise Refused("forbidden")

    @staticmethod
    def shape_delete(fields):
        if fields["for"] not in ("all", "me"):
            raise Refused("bad_request")

    @staticmethod
    def shape_prefs(fields):
        if not set(fields) & {"muted_until", "pinned", "hidden", "draft"}:
            raise Refused("bad_request")
        if bytes_of(fields.get("draft") or "") > DRAFT_MAX:
            raise Refused("too_large")

    @staticmethod
    def shape_mark(fields):
        if not set(fields) & {"read", "delivered"}:
            raise Refused("bad_request")

    def plan_open(self, user, fields):
        direct = fields["kind"] == "direct"
        users = [user, fields["with"]] if direct else [user] + fields.get("members", [])
        key = frozenset(users) if direct else (user, fields["cid"])
        found = self.opened.get(key)
        if found:
            if user not in found.members:
                raise Refused("not_found")
            return Plan("found", user, "open", fields, key, found)
        if not direct and len(set(users)) > self.group_max:
            raise Refused("too_large")
        return Plan("new", user, "open", fields, key, None)

    @staticmethod
    def plan_send(conv, user, fields, now):
        if conv.announce and conv.role(user) == "member":
            raise Refused("forbidden")
        if fields.get("mentions") == "all" and len(conv.members) > MENTION_ALL_MAX:
            if conv.role(user) == "member":
                raise Refused("forbidden")
        if fields.get("reply", 1) > conv.head:
            raise Refused("bad_request")
        if "thread" in fields:
            root = conv.at(fields["thread"])
            if not root or not root.message or root.deleted or "thread" in root.data:
                raise Refused("bad_request")
        data = some_of(fields, "kind", "body", "reply", "thread", "mentions")
        ttl = fields.get("ttl", conv.ttl)
        return {**data, "ttl": ttl} if ttl else data

    @staticmethod
    def plan_edit(conv, user, fields, now):
        record = conv.message(fields["s"], now)
        if record.data["from"] != user:
            raise Refused("forbidden")
        Model.shape_body(record.kind, fields["body"])
        return Model.inherit(record, {"kind": "edit", "body": fields["body"], "target": record.s})

    @staticmethod
    def inherit(record, data):
        if "expires" in record.data:
            data["expires"] = record.data["expires"]
        return data

    @staticmethod
    def plan_delete(conv, user, fields, now):
        record = conv.at(fields["s"])
        if not record or not record.message or record.expired(now):
            raise Refused("not_found")
        if record.data["from"] != user and conv.role(user) == "member":
            raise Refused("forbidden")
        if record.deleted:
            return None
        return {"kind": "delete", "body": {}, "target": record.s, **some_of(record.data, "thread")}

    @staticmethod
    def plan_react(conv, user, fields, now):
        record, emoji, on = conv.message(fields["s"], now), fields["emoji"], fields.get("on", True)
        if on == (user in record.reactions.get(emoji, [])):
            return None
        own = sum(user in users for users in record.reactions.values())
        if on and own >= REACTIONS_OWN:
            raise Refused("too_large")
        if on and emoji not in record.reactions and len(record.reactions) >= REACTIONS_ALL:
            raise Refused("too_large")
        body = {"emoji": emoji, "on": on}
        return Model.inherit(record, {"kind": "react", "body": body, "target": record.s})

    @staticmethod
    def plan_pin(conv, user, fields, now):
        s, on = fields["s"], fields.get("on", True)
        if conv.kind == "group" and conv.role(user) == "member":
            raise Refused("forbidden")
        record = conv.at(s)
        if not record or not record.message:
            raise Refused("not_found")
        if on:
            conv.message(s, now)
        if on == (s in conv.pins):
            return None
        if on and len(conv.pins) >= PINS_MAX:
            raise Refused("too_large")
        return {"kind": "pin", "body": {"on": on}, "target": s}

    def plan_member(self, conv, user, fields, now):
        if conv.kind == "direct":
            raise Refused("bad_request")
        own, whom = RANK[conv.role(user)], conv.members.get(fields["user"])
        change, role = fields["set"], fields.get("role")
        if not own:
            raise Refused("forbidden")
        if change == "add" and (whom or RANK[role or "member"] > own):
            if whom:
                return None
            raise Refused("forbidden")
        if change == "add" and len(conv.members) >= self.group_max and user != ADMIN:
            raise Refused("too_large")
        if change != "add":
            self.may_change(conv, own, whom, change, role, fields["user"] == user)
            if change == "role" and whom.role == role:
                return None
        return {"kind": "member", "body": some_of(fields, "user", "set", "role")}

    @staticmethod
    def may_change(conv, own, whom, change, role, oneself):
        if not whom:
            raise Refused("not_found")
        rank = RANK[whom.role]
        if change == "role" and (RANK[role] > own):
            raise Refused("forbidden")
        if rank and own < RANK["owner"] and not oneself:
            raise Refused("forbidden")
        last = whom.role == "owner" and conv.owners() == 1
        if last and role != "owner":
            raise Refused("conflict")

    @staticmethod
    def plan_leave(conv, user, fields, now):
        if conv.kind == "direct":
            raise Refused("bad_request")
        if conv.role(user) == "owner" and conv.owners() == 1 and len(conv.members) > 1:
            raise Refused("conflict")
        return {"kind": "member", "body": {"user": user, "set": "remove"}}

    @staticmethod
    def plan_meta(conv, user, fields, now):
        given = some_of(fields, "name", "topic", "ttl", "history", "announce")
        if conv.kind == "direct" and set(given) != {"ttl"}:
            raise Refused("bad_request")
        if conv.kind == "group" and conv.role(user) == "member":
            raise Refused("forbidden")
        given = {k: None if k == "ttl" and not v else v for k, v in given.items()}
        if all(getattr(conv, k) == v for k, v in given.items()):
            return None
        return {"kind": "meta", "body": given}

    # ---- what it does

    def entry(self, user, kind, body):
        self.logs.setdefault(user, []).append((self.group, kind, body))

    def commit(self, plan, answer):
        if plan.kind == "new":
            self.commit_open(plan, answer)
        elif plan.kind == "data":
            data = {"c": plan.conv.c, "s": answer["s"], "mid": answer["mid"], "ts": answer["ts"],
                    "from": plan.user, **plan.value}
            ttl = data.pop("ttl", None)
            if ttl:
                data["expires"] = data["ts"] + ttl * 1000
            self.append(plan.conv, data, plan.fields["cid"], content(plan.op, plan.fields))
        elif plan.kind == "ok" and plan.op == "mark":
            self.commit_mark(plan.conv, plan.conv.members[plan.user], plan.fields)
        elif plan.kind == "ok" and plan.op == "prefs":
            self.commit_prefs(plan.conv, plan.user, plan.fields)

    def commit_open(self, plan, answer):
        """The first record is read with `range` first of all: answer has it as `first`."""
        fields, direct = plan.fields, plan.fields["kind"] == "direct"
        users = [plan.user] + ([fields["with"]] if direct else fields.get("members", []))
        conv = Conv(answer["c"], fields["kind"], users, fields)
        self.convs[conv.c] = self.opened[plan.value] = conv
        first = answer["first"]
        body = {k: fields[k] for k in ("kind", "name", "topic") if fields.get(k) is not None}
        data = {"c": conv.c, "s": 1, "mid": first["mid"], "ts": first["ts"], "from": plan.user,
                "kind": "meta", "body": body, "n": 0}
        conv.records.append(Record(data, None if direct else fields["cid"]))
        conv.created = first["ts"]
        for user in users:
            role = "owner" if user == plan.user and not direct else "member"
            if user not in conv.members:
                conv.members[user] = Member(role, data)
                self.entry(user, "joined", {"c": conv.c})
        if not direct:
            conv.cids[plan.user, fields["cid"]] = ("open", conv.records[0])

    @staticmethod
    def commit_mark(conv, member, fields):
        read = min(fields.get("read", 0), conv.head)
        member.read = max(member.read, read)
        member.delivered = max(member.delivered, min(fields.get("delivered", 0), conv.head), read)

    def commit_prefs(self, conv, user, fields):
        prefs = conv.members[user].prefs
        given = some_of(fields, *prefs)
        if "muted_until" in given:
            given["muted_until"] = given["muted_until"] or None
        if "draft" in given:
            given["draft"] = given["draft"] or None
        now = {**prefs, "hidden": False if prefs["hidden"] is None else None}
        if all(now[k] == v for k, v in given.items()):
            return
        if "hidden" in given:
            prefs["hidden"] = conv.head if given["hidden"] else None
        prefs.update({k: v for k, v in given.items() if k != "hidden"})
        self.entry(user, "prefs", {"c": conv.c, **given})

    def append(self, conv, data, cid, written):
        record = Record(data, cid)
        conv.records.append(record)
        data["n"] = (conv.records[-2].data["n"]) + record.message
        conv.cids[data["from"], cid] = (written, record)
        if record.message:
            self.did_message(conv, record)
        else:
            target = conv.at(data.get("target", 0))
            getattr(self, "did_" + record.kind)(conv, record, data["body"], target)

    @staticmethod
    def did_message(conv, record):
        author = conv.members.get(record.data["from"])
        if author:
            author.read = author.delivered = record.s
        if "thread" in record.data:
            conv.at(record.data["thread"]).replies += 1

    @staticmethod
    def did_edit(conv, record, body, target):
        target.body, target.edited = body, record.data["ts"]

    @staticmethod
    def did_delete(conv, record, body, target):
        target.deleted = True
        if "thread" in target.data:
            conv.at(target.data["thread"]).replies -= 1
        if target.s in conv.pins:
            conv.pins.remove(target.s)

    @staticmethod
    def did_react(conv, record, body, target):
        users = target.reactions.setdefault(body["emoji"], [])
        if body["on"]:
            users.append(record.data["from"])
        else:
            users.remove(record.data["from"])
        if not users:
            del target.reactions[body["emoji"]]

    @staticmethod
    def did_pin(conv, record, body, target):
        target.pinned = record.data["ts"] if body["on"] else None
        if body["on"]:
            conv.pins.append(target.s)
        else:
            conv.pins.remove(target.s)

    def did_member(self, conv, record, body, target):
        if body["set"] == "add":
            conv.members[body["user"]] = Member(body.get("role", "member"), record.data)
            self.entry(body["user"], "joined", {"c": conv.c})
        elif body["set"] == "remove":
            del conv.members[body["user"]]
            self.entry(body["user"], "left", {"c": conv.c})
        else:
            conv.members[body["user"]].role = body["role"]

    @staticmethod
    def did_meta(conv, record, body, target):
        for key, value in body.items():
            setattr(conv, key, value)

    # ---- what reads must give

    def of(self, user):
        return [conv for conv in self.convs.values() if user in conv.members]

    @staticmethod
    def conv(conv, user, now):
        member = conv.members[user]
        unread = [r for r in conv.records[member.read:]
                  if r.message and not r.deleted and not r.expired(now)]
        named = [r for r in unread if r.data.get("mentions") == "all"
                 or user in r.data.get("mentions", [])]
        last = Model.last(conv, user, now)
        prefs = member.prefs
        shown = {
            "c": conv.c, "kind": conv.kind, "name": conv.name, "topic": conv.topic,
            "members": len(conv.members), "role": member.role, "head": conv.head, "floor": 1,
            "n": conv.n, "unread": len(unread), "mentions": min(len(named), MENTIONS_SHOWN),
            "read": member.read, "delivered": member.delivered, "since": conv.since(user),
            "created": conv.created, "history": conv.history, "ttl": conv.ttl,
            "pins": [s for s in conv.pins if s >= conv.since(user)],
            "muted_until": prefs["muted_until"], "pinned": prefs["pinned"],
            "last": conv.shown(last, user, True) if last else None,
        }
        if conv.kind == "direct":
            shown["with"] = conv.users[0] if conv.users[1] == user else conv.users[1]
        optional = {"announce": conv.announce, "hidden": conv.hidden(user),
                    "draft": prefs["draft"]}
        return {**shown, **{k: v for k, v in optional.items() if v}}

    @staticmethod
    def last(conv, user, now):
        for record in reversed(conv.records[-LAST_WITHIN:]):
            if record.message and not conv.hole(record, user, now):
                return record
        return None

    @staticmethod
    def view(conv, user, folded, now):
        """{sequence: record, or why it is a hole}."""
        seen = {}
        for record in conv.records:
            if folded and not record.message:
                continue
            why = conv.hole(record, user, now)
            seen[record.s] = why or conv.shown(record, user, folded)
        return seen

    @staticmethod
    def members(conv):
        return [{"user": user, "role": m.role, "joined": m.joined, "read": m.read,
                 "delivered": m.delivered} for user, m in sorted(conv.members.items())]

    @staticmethod
    def seen(conv, s):
        return sorted(user for user, m in conv.members.items() if m.read >= s)

    @staticmethod
    def age(conv, user, now):
        """By what `list` sorts, beside the user's own pins."""
        for record in reversed(conv.records):
            if record.message:
                return record.data["ts"] if record.s >= conv.since(user) else conv.created
        return conv.created
