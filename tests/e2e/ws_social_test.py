"""What one user keeps from others, and how others are let in: blocks, privacy, messages deleted for
oneself, invites, threads, edits, who has read in large groups. As ws_test.py.

The last line is `N passed, N failed`.
"""

import asyncio
import sys
import time

import async_lib
from ws_lib import Client, cid


def text(word="x"):
    return {"kind": "text", "body": {"text": word}}


async def send(client, c, word="x", **fields):
    return (await client.ok("send", c=c, cid=cid(), **text(word), **fields))["s"]


async def conv_of(client, c):
    return next(conv for conv in (await client.ok("list"))["convs"] if conv["c"] == c)


async def kinds(client, seconds=0.4):
    return [event["ev"] for event in await client.quiet(seconds)]


async def test_blocked_users():
    alice, bob = await Client.connect("alice"), await Client.connect("bob")
    phone = await Client.connect("alice", "phone")
    c = (await alice.ok("open", kind="direct", **{"with": "bob"}))["c"]
    for client in alice, bob, phone:
        await client.ok("sync")
    s = await send(bob, c)
    own = await send(alice, c)
    try:
        assert await alice.ok("block", user="bob") == {}
        event = await phone.event("user", kind="block")
        assert event["body"] == {"user": "bob", "on": True}, event
        assert [b["user"] for b in (await phone.ok("blocks"))["users"]] == ["bob"]
        for op, fields in (
            ("send", text()),
            ("edit", {"s": s, "body": {"text": "y"}}),
            ("react", {"s": own, "emoji": "👍"}),
            ("pin", {"s": own}),
            ("meta", {"ttl": 60}),
        ):
            await bob.err(op, "forbidden", c=c, cid=cid(), **fields)
        await bob.ok("delete", c=c, cid=cid(), s=s, **{"for": "all"})
        last = await send(alice, c)
        for client in alice, phone:
            await client.quiet()
        await bob.ok("typing", c=c)
        await bob.ok("mark", c=c, read=last)
        assert not {"typing", "mark"} & set(await kinds(alice) + await kinds(phone))
        members = {m["user"]: m for m in (await alice.ok("members", c=c))["members"]}
        assert "read" not in members["bob"] and "read" in members["alice"], members
        assert (await alice.ok("seen", c=c, s=1))["users"] == ["alice"]
        tablet = await Client.connect("alice", "tablet")  # who comes later knows it, too
        await tablet.ok("sync")
        await bob.ok("mark", c=c, read=last)
        await asyncio.sleep(3)
        await bob.ok("typing", c=c)
        assert not {"typing", "mark"} & set(await kinds(tablet))
        await tablet.close()
        assert not [e for e in await bob.quiet() if e["ev"] == "user"], "nobody tells him"
    finally:
        await alice.ok("block", user="bob", on=False)
    await phone.event("user", kind="block")
    await send(bob, c)
    await bob.ok("mark", c=c, read=await send(alice, c))
    assert (await alice.event("mark"))["user"] == "bob"
    await alice.err("block", "bad_request", user="alice")
    await alice.err("block", "bad_request", user="no such name!")
    for client in alice, bob, phone:
        await client.close()


async def test_presence_is_private():
    alice, bob = await Client.connect("alice"), await Client.connect("bob")
    await alice.ok("open", kind="direct", **{"with": "bob"})
    await bob.ok("sync")
    await alice.ok("sync")

    async def state():
        event = await alice.event("presence")
        assert event["user"] == "bob", event
        return event["state"], event["last_seen"]

    await alice.ok("presence", watch=["bob"])
    assert await state() == ("online", None)
    assert await bob.ok("privacy") == {"presence": "shared"}
    try:
        assert await bob.ok("privacy", presence="hidden") == {"presence": "hidden"}
        assert await state() == ("offline", None), "last seen is nobody's business either"
        await bob.ok("presence", set="away")
        await bob.ok("presence", set="online")
        assert not [e for e in await alice.quiet(0.6) if e["ev"] == "presence"]
        assert await bob.ok("privacy") == {"presence": "hidden"}
        await bob.err("privacy", "bad_request", presence="friends")
    finally:
        await bob.ok("privacy", presence="shared")
    assert await state() == ("online", None)
    try:
        await bob.ok("block", user="alice")
        assert await state() == ("offline", None), "who is blocked sees nothing"
    finally:
        await bob.ok("block", user="alice", on=False)
    assert await state() == ("online", None)
    try:
        await alice.ok("block", user="bob")
        assert await state() == ("offline", None), "and who blocks is not shown it"
    finally:
        await alice.ok("block", user="bob", on=False)
    assert await state() == ("online", None)
    for client in alice, bob:
        await client.close()


async def test_deleted_for_me():
    alice, bob = await Client.connect("alice"), await Client.connect("bob")
    phone = await Client.connect("bob", "phone")
    c = (await alice.ok("open", kind="group", name="hide", members=["bob"], cid=cid()))["c"]
    for client in alice, bob, phone:
        await client.ok("sync")
    first, second = await send(alice, c, "keep"), await send(alice, c, "gone", mentions=["bob"])
    conv = await conv_of(bob, c)
    assert (conv["unread"], conv["mentions"]) == (2, 1), conv
    answer = await bob.ok("delete", c=c, cid=cid(), s=second, **{"for": "me"})
    assert answer["s"] is None, answer
    event = await phone.event("user", kind="hide")
    assert event["body"] == {"c": c, "s": second}, event
    conv = await conv_of(bob, c)
    assert (conv["unread"], conv["mentions"], conv["last"]["s"]) == (1, 0, first), conv
    for view in "log", "folded":
        page = (await bob.ok("range", c=c, view=view, **{"from": first}))["records"]
        assert page[1:] == [{"c": c, "hole": [second, second], "why": "hidden"}], page
        page = (await alice.ok("range", c=c, view=view, **{"from": first}))["records"]
        assert page[1]["body"] == {"text": "gone"}
    late = await Client.connect("bob", "tablet")  # from a cursor before it
    await late.ok("sync", cur={c: first - 1})
    assert (await late.event("rec", c=c))["s"] == first
    event = await late.event("rec", c=c)
    assert event["hole"] == [second, second] and event["why"] == "hidden", event
    await bob.err("delete", "not_found", c=c, cid=cid(), s=99, **{"for": "me"})
    await bob.err("delete", "bad_request", c=c, cid=cid(), s=first, **{"for": "them"})
    for client in alice, bob, phone, late:
        await client.close()


async def test_invites():
    alice, bob = await Client.connect("alice"), await Client.connect("bob")
    carol, mallory = await Client.connect("carol"), await Client.connect("mallory")
    c = (await alice.ok("open", kind="group", name="club", members=["bob"], cid=cid()))["c"]
    for client in alice, bob, carol, mallory:
        await client.ok("sync")
    key = cid()
    invite = await alice.ok("invite", c=c, cid=key, uses=2)
    assert invite["uses"] == 2 and len(invite["code"]) <= 128, invite
    assert abs(invite["expires"] / 1000 - time.time() - 7 * 86400) < 60
    assert await alice.ok("invite", c=c, cid=key, uses=2) == invite, "the same again"
    record = (await bob.event("rec", kind="invite"))
    assert invite["code"] not in str(record), "the record does not tell the code"
    await bob.err("invite", "forbidden", c=c, cid=cid())
    await bob.err("invites", "forbidden", c=c)
    await mallory.err("invites", "not_found", c=c)
    conv = await carol.ok("join", code=invite["code"], cid=cid())
    assert conv["c"] == c and conv["role"] == "member", conv
    await carol.event("joined", c=c)
    event = await bob.event("rec", kind="member")
    assert event["from"] == "carol"
    assert event["body"] == {"user": "carol", "set": "add", "invite": invite["s"]}, event
    assert (await carol.ok("join", code=invite["code"], cid=cid()))["c"] == c, "in already"
    [shown] = (await alice.ok("invites", c=c))["invites"]
    assert (shown["used"], shown["by"], shown["code"]) == (1, "alice", invite["code"]), shown
    wrong = invite["code"][:-1] + ("0" if invite["code"][-1] != "0" else "1")
    for code in wrong, "x", "a.b.c", invite["code"] + "0", f"{c}.0.{'0' * 32}", "." * 100:
        await mallory.err("join", "not_found", code=code, cid=cid())
    await mallory.err("join", "bad_request", code=5, cid=cid())
    await alice.ok("member", c=c, cid=cid(), user="carol", set="remove")
    await carol.err("join", "forbidden", code=invite["code"], cid=cid())
    await alice.ok("uninvite", c=c, cid=cid(), s=invite["s"])
    await mallory.err("join", "not_found", code=invite["code"], cid=cid())
    assert (await alice.ok("invites", c=c))["invites"] == []
    await alice.err("invite", "bad_request", c=c, cid=cid(), expires_s=5)
    await alice.ok("member", c=c, cid=cid(), user="bob", set="role", role="admin")
    invite = await bob.ok("invite", c=c, cid=key)
    await alice.ok("member", c=c, cid=cid(), user="bob", set="role", role="member")
    assert await bob.ok("invite", c=c, cid=key) == invite, "the first answer, to who may no more"
    await bob.err("invite", "forbidden", c=c, cid=cid())
    at = (await alice.ok("members", c=c, at=record["s"]))["members"]
    assert [(m["user"], m["role"]) for m in at] == [("alice", "owner"), ("bob", "member")], at
    at = (await alice.ok("members", c=c, at=event["s"]))["members"]
    assert [m["user"] for m in at] == ["alice", "bob", "carol"] and "read" not in at[0], at
    for client in alice, bob, carol, mallory:
        await client.close()


async def test_threads():
    alice, bob = await Client.connect("alice"), await Client.connect("bob")
    phone = await Client.connect("bob", "phone")
    c = (await alice.ok("open", kind="group", name="deep", members=["bob"], cid=cid()))["c"]
    for client in alice, bob, phone:
        await client.ok("sync")
    one, two = await send(alice, c, "one"), await send(alice, c, "two")
    assert await bob.ok("threads", c=c) == {"threads": [], "next": None}
    a = await send(alice, c, "a", thread=one)
    b = await send(alice, c, "b", thread=two)
    d = await send(alice, c, "d", thread=one)
    threads = (await bob.ok("threads", c=c))["threads"]
    assert threads == [
        {"s": one, "replies": 2, "unread": 2, "read": 0, "last": d},
        {"s": two, "replies": 1, "unread": 1, "read": 0, "last": b},
    ], threads
    page = await bob.ok("threads", c=c, limit=1)
    assert [t["s"] for t in page["threads"]] == [one] and page["next"], page
    page = await bob.ok("threads", c=c, limit=1, page=page["next"])
    assert [t["s"] for t in page["threads"]] == [two] and page["next"] is None, page
    page = await bob.ok("range", c=c, thread=one, view="folded")
    assert [r["s"] for r in page["records"]] == [a, d], page
    page = await bob.ok("range", c=c, thread=one, order="desc", max=1)
    assert [r["s"] for r in page["records"]] == [d] and page["next"], page
    assert await bob.ok("mark", c=c, thread=one, read=a) == {}
    event = await phone.event("mark")
    assert event == {"ev": "mark", "c": c, "user": "bob", "thread": one, "read": a}, event
    assert not [e for e in await alice.quiet() if e["ev"] == "mark"], "nobody else's business"
    assert (await bob.ok("threads", c=c))["threads"][0]["unread"] == 1
    await bob.ok("delete", c=c, cid=cid(), s=d, **{"for": "me"})
    assert (await bob.ok("threads", c=c))["threads"][0]["unread"] == 0
    await alice.ok("delete", c=c, cid=cid(), s=a, **{"for": "all"})
    assert (await bob.ok("threads", c=c))["threads"][0]["replies"] == 1
    [root] = [r for r in (await bob.ok("range", c=c, view="folded"))["records"] if r.get("s") == one]
    assert root["replies"] == 1, root
    await bob.err("mark", "not_found", c=c, thread=b, read=b)
    await bob.err("mark", "bad_request", c=c, thread=one, delivered=b)
    for client in alice, bob, phone:
        await client.close()


async def test_edits_can_be_looked_up():
    alice, bob = await Client.connect("alice"), await Client.connect("bob")
    carol = await Client.connect("carol")
    c = (await alice.ok("open", kind="group", name="ink", members=["bob", "carol"], cid=cid()))["c"]
    s = await send(bob, c, "first")
    await bob.ok("edit", c=c, cid=cid(), s=s, body={"text": "second"})
    last = (await bob.ok("edit", c=c, cid=cid(), s=s, body={"text": "third"}))["s"]
    for client in alice, bob:
        versions = (await client.ok("edits", c=c, s=s))["versions"]
        assert [v["body"]["text"] for v in versions] == ["first", "second", "third"], versions
        assert versions[0]["s"] == s and versions[2]["s"] == last
        assert versions[0]["ts"] <= versions[2]["ts"]
    await carol.err("edits", "forbidden", c=c, s=s)
    await alice.err("edits", "not_found", c=c, s=99)
    await bob.ok("delete", c=c, cid=cid(), s=s, **{"for": "all"})
    await alice.err("edits", "not_found", c=c, s=s)
    for client in alice, bob, carol:
        await client.close()


async def test_what_looks_like_a_text():
    alice = await Client.connect("alice")
    c = (await alice.ok("open", kind="group", name="kinds", members=[], cid=cid()))["c"]
    own = (await alice.ok("send", c=c, cid=cid(), kind="x-note", body={"text": "a", "to": 1}))["s"]
    await alice.ok("edit", c=c, cid=cid(), s=own, body={"text": "b", "to": 2})
    await alice.ok("edit", c=c, cid=cid(), s=own, body={"text": 5})
    [record] = [r for r in (await alice.ok("range", c=c, view="folded"))["records"] if r.get("s") == own]
    assert record["body"] == {"text": 5}, record
    s = await send(alice, c)
    await alice.err("edit", "bad_request", c=c, cid=cid(), s=s, body={"text": 5})
    await alice.err("edit", "bad_request", c=c, cid=cid(), s=s, body={"word": "b"})
    await alice.close()


async def test_expired_is_not_unread():
    alice, bob = await Client.connect("alice"), await Client.connect("bob")
    c = (await alice.ok("open", kind="group", name="brief", members=["bob"], cid=cid()))["c"]
    await send(alice, c, "brief", ttl=1)
    await send(alice, c, "stays")
    assert (await conv_of(bob, c))["unread"] == 2
    await asyncio.sleep(1.1)
    assert (await conv_of(bob, c))["unread"] == 1
    for client in alice, bob:
        await client.close()


async def test_how_many_have_seen_it():
    alice, bob = await Client.connect("alice"), await Client.connect("bob")
    carol = await Client.connect("carol")
    members = ["bob", "carol"] + [f"reader{i:02}" for i in range(40)]
    c = (await alice.ok("open", kind="group", name="hall", members=members, cid=cid()))["c"]
    await alice.ok("sync")
    s = await send(alice, c)
    await bob.ok("mark", c=c, read=s)
    assert await alice.event("seen") == {"ev": "seen", "c": c, "s": s, "n": 2}
    began = time.time()
    await carol.ok("mark", c=c, read=s)
    assert await alice.event("seen") == {"ev": "seen", "c": c, "s": s, "n": 3}
    assert time.time() - began > 0.6, "one a second"
    assert not [e for e in await alice.quiet(1.4) if e["ev"] in ("seen", "mark")]
    for client in alice, bob, carol:
        await client.close()


async def test_floods_are_held_up():
    alice = await Client.connect("alice")
    c = (await alice.ok("open", kind="group", name="flood", members=[], cid=cid()))["c"]
    other = (await alice.ok("open", kind="group", name="calm", members=[], cid=cid()))["c"]
    replies = await asyncio.gather(
        *(alice.call("send", c=c, cid=cid(), **text()) for _ in range(700))
    )
    refused = [r["err"] for r in replies if "err" in r]
    assert 50 < len(refused) <= 200, len(refused)
    assert {e["code"] for e in refused} == {"rate_limited"} and refused[0]["retry"], refused[0]
    await send(alice, other)
    await asyncio.sleep(refused[-1]["after_ms"] / 1000)
    await send(alice, c)
    await alice.close()


if __name__ == "__main__":
    async_lib.main(dict(globals()), sys.argv[1:])
