"""What an operation must be answered, from docs/PROTOCOL.md."""

import re

from model_state import (
    ADMIN, DRAFT_MAX, EXPIRES_S, HIDES_MAX, INVITE_S, INVITES_MAX, LANG_MAX, MENTION_ALL_MAX,
    MENTIONS_MAX, NAME_MAX, PINS_MAX, RANK, REACTIONS_ALL, REACTIONS_OWN, TEXT_MAX, TOPIC_MAX,
    TTL_MAX, USES_MAX, WRITES, Plan, Refused, bytes_of, content, some_of)

NAME = "[A-Za-z0-9._@-]{1,64}"
SETTINGS = ("name", "topic", "ttl", "history", "announce", "lang", "searchable")
REFUSED = ("send", "edit", "react", "pin", "meta", "member", "invite", "uninvite")  # of the blocked


class Rules:
    def plan(self, user, op, fields, now):
        try:
            check = getattr(self, "shape_" + op, None)
            if check:
                check(fields)
            if op in ("open", "join", "block"):
                return getattr(self, "plan_" + op)(user, fields, now)
            conv = self.convs.get(fields["c"])
            before = conv and conv.cids.get((user, fields.get("cid")))
            there = conv and (user in conv.members or before and op == "leave" or
                              user == ADMIN and op in WRITES and op != "leave")
            if not there:
                raise Refused("not_found")
            if op not in WRITES or op == "delete" and fields["for"] == "me":
                return self.plan_own(conv, user, op, fields, now)
            if before and before[0] != content(op, fields) and not self.erased(conv, before[1]):
                raise Refused("conflict")
            if before:
                return self.plan_again(conv, user, op, fields, before[1], now)
            if op in REFUSED and self.is_blocked(conv, user):
                raise Refused("forbidden")
            data = getattr(self, "plan_" + op)(conv, user, fields, now)
            return Plan("data" if data else "null", user, op, fields, data, conv)
        except Refused as refused:
            return Plan("code", user, op, fields, str(refused))

    @staticmethod
    def plan_again(conv, user, op, fields, record, now):
        if op != "invite":
            return Plan("dup", user, op, fields, record, conv)
        invite = conv.invites.get(record.s)
        if not invite or not invite.works(now):
            raise Refused("not_found")
        return Plan("invited", user, op, fields, invite.answer, conv)

    def plan_own(self, conv, user, op, fields, now):
        """What only the user sees."""
        if op == "delete":
            if user not in conv.members:
                raise Refused("not_found")
            self.plan_hide(conv, user, fields, now)
            return Plan("null", user, "hide", fields, None, conv)
        if op == "mark" and "thread" in fields:
            root = conv.at(fields["thread"])
            if not root or not root.thread:
                raise Refused("not_found")
            return Plan("ok", user, "mark_thread", fields, root, conv)
        return Plan("ok", user, op, fields, None, conv)

    @staticmethod
    def plan_hide(conv, user, fields, now):
        record, hidden = conv.at(fields["s"]), conv.hides.get(user, {})
        if not record or not record.message or record.s < conv.since(user):
            raise Refused("not_found")
        if len(hidden) >= HIDES_MAX and record.s not in hidden:
            raise Refused("too_large")

    def is_blocked(self, conv, user):
        if conv.kind != "direct" or user not in conv.users:
            return False
        return self.blocks(conv.users[conv.users[0] == user], user)

    @staticmethod
    def erased(conv, record):
        target = conv.at(record.data["target"]) if record.kind == "edit" else record
        return target.deleted

    @staticmethod
    def shape_open(fields):
        Rules.shape_settings(fields)
        if any(not re.fullmatch(NAME, m)
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
        if not set(fields) & set(SETTINGS):
            raise Refused("bad_request")
        if bytes_of(fields.get("lang") or "") > LANG_MAX:
            raise Refused("too_large")
        Rules.shape_settings(fields)

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
        Rules.shape_body(fields["kind"], fields["body"])
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

    @staticmethod
    def shape_invite(fields):
        if fields.get("expires_s", INVITE_S) not in EXPIRES_S:
            raise Refused("bad_request")
        if not 1 <= fields.get("uses", 1) <= USES_MAX:
            raise Refused("bad_request")

    @staticmethod
    def shape_block(fields):
        if not re.fullmatch(NAME, fields["user"]):
            raise Refused("bad_request")

    def plan_open(self, user, fields, now):
        direct = fields["kind"] == "direct"
        users = [user, fields["with"]] if direct else [user] + fields.get("members", [])
        key = frozenset(users) if direct else (user, fields["cid"])
        found = self.opened.get(key)
        if found:
            if user not in found.members:
                raise Refused("not_found")
            return Plan("found", user, "open", fields, key, found)
        if direct and self.blocks(fields["with"], user):
            raise Refused("forbidden")
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
        Rules.shape_body(record.kind, fields["body"])
        return Rules.inherit(record, {"kind": "edit", "body": fields["body"], "target": record.s})

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
        return Rules.inherit(record, {"kind": "react", "body": body, "target": record.s})

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
        given = some_of(fields, *SETTINGS)
        if conv.kind == "direct" and set(given) - {"ttl", "lang", "searchable"}:
            raise Refused("bad_request")
        if conv.kind == "group" and conv.role(user) == "member":
            raise Refused("forbidden")
        given = {k: None if k == "ttl" and not v else v for k, v in given.items()}
        if all(getattr(conv, k) == v for k, v in given.items()):
            return None
        return {"kind": "meta", "body": given}

    @staticmethod
    def may_invite(conv, user):
        if conv.kind == "direct":
            raise Refused("bad_request")
        if conv.role(user) == "member":
            raise Refused("forbidden")

    @staticmethod
    def plan_invite(conv, user, fields, now):
        Rules.may_invite(conv, user)
        if sum(invite.works(now) for invite in conv.invites.values()) >= INVITES_MAX:
            raise Refused("too_large")
        body = {"expires": fields.get("expires_s", INVITE_S), "uses": fields.get("uses")}
        return {"kind": "invite", "body": body}  # seconds: its time is not known yet

    @staticmethod
    def plan_uninvite(conv, user, fields, now):
        Rules.may_invite(conv, user)
        invite = conv.invites.get(fields["s"])
        if not invite or invite.gone:
            raise Refused("not_found")
        return {"kind": "uninvite", "body": {}, "target": fields["s"]}

    def plan_join(self, user, fields, now):
        found = [(conv, invite) for conv in self.convs.values() for invite in conv.invites.values()
                 if invite.answer["code"] == fields["code"]]
        if not found:
            raise Refused("not_found")
        conv, invite = found[0]
        before = conv.cids.get((user, fields["cid"]))
        if before and before[0] != content("join", fields) and not self.erased(conv, before[1]):
            raise Refused("conflict")
        if user in conv.members:
            return Plan("found", user, "join", fields, None, conv)
        if before or not invite.works(now):
            raise Refused("not_found")
        if user in conv.taken_out:
            raise Refused("forbidden")
        if len(conv.members) >= self.group_max:
            raise Refused("too_large")
        body = {"user": user, "set": "add", "invite": invite.record.s}
        return Plan("join", user, "join", fields, {"kind": "member", "body": body}, conv)

    def plan_block(self, user, fields, now):
        if fields["user"] == user:
            raise Refused("bad_request")
        return Plan("ok", user, "block", fields)
