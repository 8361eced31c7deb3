"""What an operation does to the model."""

from model_state import Conv, Invite, Member, Record, content, some_of


class Effects:
    def commit(self, plan, answer):
        if plan.kind == "new":
            self.commit_open(plan, answer)
        elif plan.kind in ("data", "join"):
            written = answer.get("record", answer)
            data = {"c": plan.conv.c, "s": written["s"], "mid": written["mid"],
                    "ts": written["ts"], "from": plan.user, **plan.value}
            ttl = data.pop("ttl", None)
            if ttl:
                data["expires"] = data["ts"] + ttl * 1000
            if plan.op == "invite":
                data["body"]["expires"] = data["ts"] + data["body"]["expires"] * 1000
            self.append(plan.conv, data, plan.fields["cid"], content(plan.op, plan.fields))
            if plan.op == "invite":
                shown = {k: answer[k] for k in ("s", "code", "expires", "uses")}
                plan.conv.invites[shown["s"]] = Invite(shown, plan.conv.records[-1])
        elif plan.kind == "ok" and plan.op == "mark":
            self.commit_mark(plan.conv, plan.conv.members[plan.user], plan.fields)
        elif plan.kind == "ok" and plan.op == "prefs":
            self.commit_prefs(plan.conv, plan.user, plan.fields)
        elif plan.op == "mark_thread":
            read = min(plan.fields["read"], plan.conv.head)
            plan.value.places[plan.user] = max(plan.value.places.get(plan.user, 0), read)
        elif plan.op == "hide":
            self.commit_hide(plan.conv, plan.user, plan.fields["s"])
        elif plan.op == "block" and plan.kind == "ok":
            self.commit_block(plan.user, plan.fields["user"], plan.fields.get("on", True))

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
        conv.records.append(Record(data, None if direct else fields["cid"], self.group))
        conv.created = first["ts"]
        for user in users:
            role = "owner" if user == plan.user and not direct else "member"
            if user not in conv.members:
                conv.members[user] = Member(role, data)
                conv.changed(user, 1)
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

    def commit_hide(self, conv, user, s):
        hidden = conv.hides.setdefault(user, {})
        if s not in hidden:
            hidden[s] = self.group
            self.entry(user, "hide", {"c": conv.c, "s": s})

    def commit_block(self, user, other, on):
        if on == self.blocks(user, other):
            return
        if on:
            self.blocked.setdefault(user, {})[other] = None
        else:
            del self.blocked[user][other]
        self.entry(user, "block", {"user": other, "on": on})

    def append(self, conv, data, cid, written):
        record = Record(data, cid, self.group)
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
            root = conv.at(record.data["thread"])
            root.replies += 1
            root.thread.append(record)
            root.places[record.data["from"]] = record.s

    @staticmethod
    def did_edit(conv, record, body, target):
        target.body, target.edited = body, record.data["ts"]
        target.versions.append({"s": record.s, "ts": record.data["ts"], "body": body})

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
            conv.taken_out.discard(body["user"])
            if "invite" in body:
                conv.invites[body["invite"]].used += 1
            self.entry(body["user"], "joined", {"c": conv.c})
        elif body["set"] == "remove":
            del conv.members[body["user"]]
            if record.data["from"] != body["user"]:
                conv.taken_out.add(body["user"])
            self.entry(body["user"], "left", {"c": conv.c})
        else:
            conv.members[body["user"]].role = body["role"]
        conv.changed(body["user"], record.s)

    @staticmethod
    def did_invite(conv, record, body, target):
        for invite in conv.invites.values():
            invite.gone = invite.gone or not invite.works(record.data["ts"])

    @staticmethod
    def did_uninvite(conv, record, body, target):
        conv.invites[target.s].gone = True

    @staticmethod
    def did_meta(conv, record, body, target):
        for key, value in body.items():
            setattr(conv, key, value)
