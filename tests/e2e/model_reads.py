"""What reads must give, from docs/PROTOCOL.md."""

import re

from model_state import LAST_WITHIN, MENTIONS_SHOWN, VERSIONS_MAX


class Reads:
    def of(self, user):
        return [conv for conv in self.convs.values() if user in conv.members]

    @staticmethod
    def conv(conv, user, now):
        member = conv.members[user]
        unread = [r for r in conv.records[member.read:]
                  if r.message and not conv.gone(r, user, now)]
        named = [r for r in unread if r.data.get("mentions") == "all"
                 or user in r.data.get("mentions", [])]
        last = Reads.last(conv, user, now)
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
        if not conv.searchable:
            shown["searchable"] = False
        optional = {"announce": conv.announce, "lang": conv.lang, "hidden": conv.hidden(user),
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
    def thread(conv, root, user, folded, now):
        items = []
        for record in root.thread if root.s >= conv.since(user) else []:
            why = conv.hole(record, user, now)
            if not record.deleted and record.s >= conv.since(user):
                hole = {"c": conv.c, "hole": [record.s, record.s], "why": why}
                items.append(hole if why else conv.shown(record, user, folded))
        return items

    def members(self, conv, reader):
        """As a live connection of this reader is told."""
        shown = []
        for user, m in sorted(conv.members.items()):
            shown.append({"user": user, "role": m.role, "joined": m.joined})
            if not self.blocks(reader, user):
                shown[-1].update({"read": m.read, "delivered": m.delivered})
        return shown

    @staticmethod
    def members_at(conv, s):
        shown = []
        for user, changes in sorted(conv.changes.items()):
            before = [change for change in changes if change[0] <= s]
            if before and before[-1][1]:
                shown.append({"user": user, "role": before[-1][1], "joined": before[-1][2]})
        return shown

    def seen(self, conv, reader, s):
        return sorted(user for user, m in conv.members.items()
                      if m.read >= s and not self.blocks(reader, user))

    @staticmethod
    def versions(conv, user, s, now):
        """None: not found; False: forbidden."""
        record = conv.at(s)
        if not record or not record.message or conv.hole(record, user, now):
            return None
        if conv.kind == "group" and conv.role(user) == "member" and record.data["from"] != user:
            return False
        return record.versions[:1] + record.versions[1:][-VERSIONS_MAX:]

    @staticmethod
    def threads(conv, user, now):
        found, member = [], conv.members[user]
        for root in conv.records:
            if not root.thread or root.s < conv.since(user):
                continue
            place = root.places.get(user, 0)
            behind = [r for r in root.thread if r.s > max(place, member.since)
                      and not conv.gone(r, user, now)]
            found.append({"s": root.s, "replies": root.replies, "unread": len(behind),
                          "read": place, "last": root.thread[-1].s})
        return sorted(found, key=lambda each: -each["last"])

    def found(self, user, word, now):
        """Messages that have this word, newest first; and which words of ASCII there are."""
        hits, words = [], set()
        for conv in self.of(user):
            for record in conv.records:
                text = record.body.get("text") if record.message else None
                if not isinstance(text, str) or conv.hole(record, user, now):
                    continue
                there = set(re.findall(r"[^\W_]+", text.lower()))
                words |= {each for each in there if each.isascii()}
                if word in there and conv.searchable:
                    hits.append(conv.shown(record, user, True))
        return sorted(hits, key=lambda hit: -int(hit["mid"])), sorted(words)

    @staticmethod
    def invites(conv, now):
        return [invite.shown() for invite in conv.invites.values() if invite.works(now)]

    @staticmethod
    def age(conv, user, now):
        """By what `list` sorts, beside the user's own pins."""
        for record in reversed(conv.records):
            if record.message:
                return record.data["ts"] if record.s >= conv.since(user) else conv.created
        return conv.created
