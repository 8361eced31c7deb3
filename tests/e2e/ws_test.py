"""WebSocket clients that nobody here wrote (python3-websockets) against a running server.

From the caller: LOQUAT_URL, LOQUAT_TOKEN_<USER> for alice, bob, carol, mallory, and LOQUAT_TOKEN_ADMIN.
The last line is `N passed, N failed`.
"""

import asyncio
import json
import sys
import time

import async_lib
import websockets
from ws_lib import PROTOCOL, SECONDS, TOKENS, URL, Client, cid, raw

# ---- what is promised -------------------------------------------------------------------------


async def test_hello_and_auth():
    """The server speaks first and says its limits; auth names the user."""
    client = await Client.connect("alice")
    assert client.ws.subprotocol == PROTOCOL
    assert client.hello["v"] == 1 and client.hello["max_in"] == 65536
    assert client.hello["window"] == 256 and client.hello["ping_ms"] > 0
    assert client.auth["user"] == "alice" and client.auth["device"] == "d1"
    now = (await client.ok("ping"))["now"]
    assert abs(now - client.auth["now"]) < 60000
    await client.close()


async def test_two_people_chat():
    """A message is acknowledged and reaches the other side live, once, in order."""
    alice, bob = await Client.connect("alice"), await Client.connect("bob")
    await alice.ok("sync", cur={})
    await bob.ok("sync", cur={})
    conv = await alice.ok("open", kind="direct", **{"with": "bob"}, cid=cid())
    assert conv["kind"] == "direct" and conv["with"] == "bob" and conv["members"] == 2
    again = await bob.ok("open", kind="direct", **{"with": "alice"}, cid=cid())
    assert again["c"] == conv["c"] and again["with"] == "alice"
    head = again["head"]
    for i in range(20):
        sent = await alice.ok(
            "send", c=conv["c"], cid=cid(), kind="text", body={"text": f"hi {i} ☃"}
        )
        assert sent["s"] == head + 1 + i and sent["dup"] is False and isinstance(sent["mid"], str)
    for i in range(20):
        rec = await bob.event("rec", c=conv["c"], kind="text")
        assert rec["s"] == head + 1 + i and rec["body"]["text"] == f"hi {i} ☃"
        assert rec["from"] == "alice" and "cid" not in rec
    mine = await alice.event("rec", c=conv["c"], kind="text")
    assert "cid" in mine
    await alice.close()
    await bob.close()


async def test_cid_is_written_once():
    """The same cid gives the first answer; with other content it is a conflict."""
    alice = await Client.connect("alice")
    conv = await alice.ok("open", kind="group", name="dup", members=["bob"], cid=cid())
    key = cid()
    first = await alice.ok("send", c=conv["c"], cid=key, kind="text", body={"text": "once"})
    second = await alice.ok("send", c=conv["c"], cid=key, kind="text", body={"text": "once"})
    assert second["dup"] is True
    assert all(first[k] == second[k] for k in ("s", "mid", "ts", "n"))
    await alice.err("send", "conflict", c=conv["c"], cid=key, kind="text", body={"text": "other"})
    page = await alice.ok("range", c=conv["c"], view="log")
    assert page["head"] == first["s"]
    key = cid()
    group = await alice.ok("open", kind="group", name="same", members=[], cid=key)
    assert (await alice.ok("open", kind="group", name="same", members=[], cid=key))["c"] == group["c"]
    await alice.close()


async def test_offline_then_sync():
    """Who was away gets everything from the cursor, once, then live."""
    alice, bob = await Client.connect("alice"), await Client.connect("bob")
    conv = await alice.ok("open", kind="group", name="away", members=["bob"], cid=cid())
    first = await bob.ok("sync", cur={})
    assert conv["c"] in [c["c"] for c in first["convs"]]
    cursor = next(c["head"] for c in first["convs"] if c["c"] == conv["c"])
    await bob.close()
    want = []
    for i in range(100):
        sent = await alice.ok("send", c=conv["c"], cid=cid(), kind="text", body={"text": str(i)})
        want.append(sent["s"])
    bob = await Client.connect("bob")
    synced = await bob.ok("sync", cur={conv["c"]: cursor})
    mine = next(c for c in synced["convs"] if c["c"] == conv["c"])
    assert mine["unread"] == 100 and mine["head"] == want[-1]
    assert mine["last"]["body"]["text"] == "99"
    got = [(await bob.event("rec", c=conv["c"]))["s"] for _ in want]
    assert got == want
    sent = await alice.ok("send", c=conv["c"], cid=cid(), kind="text", body={"text": "live"})
    assert (await bob.event("rec", c=conv["c"]))["s"] == sent["s"]
    await alice.close()
    await bob.close()


async def test_far_behind_lags_then_resumes():
    """Beyond the window: one lag event, nothing live until range and resume."""
    alice, bob = await Client.connect("alice"), await Client.connect("bob")
    conv = await alice.ok("open", kind="group", name="far", members=["bob"], cid=cid())
    cursor = conv["head"]
    count = 400
    replies = await asyncio.gather(
        *(
            alice.ok("send", c=conv["c"], cid=cid(), kind="text", body={"text": str(i)})
            for i in range(count)
        )
    )
    head = max(r["s"] for r in replies)
    await bob.ok("sync", cur={conv["c"]: cursor})
    lag = await bob.event("lag", c=conv["c"])
    assert lag["head"] == head, lag
    records, at = [], cursor + 1
    while at is not None:
        page = await bob.ok("range", c=conv["c"], **{"from": at}, max=150, view="log")
        records += page["records"]
        at = page["next"]
    assert [r["s"] for r in records] == list(range(cursor + 1, head + 1))
    late = await alice.ok("send", c=conv["c"], cid=cid(), kind="text", body={"text": "late"})
    await bob.ok("resume", c=conv["c"], cur=head)
    assert (await bob.event("rec", c=conv["c"]))["s"] == late["s"]
    await alice.close()
    await bob.close()


async def test_edit_delete_and_views():
    """The folded view shows what people see; the log view accounts for every sequence."""
    alice, bob = await Client.connect("alice"), await Client.connect("bob")
    conv = await alice.ok("open", kind="group", name="edit", members=["bob"], cid=cid())
    c = conv["c"]
    one = (await alice.ok("send", c=c, cid=cid(), kind="text", body={"text": "one"}))["s"]
    two = (await alice.ok("send", c=c, cid=cid(), kind="text", body={"text": "two"}))["s"]
    await alice.ok("edit", c=c, cid=cid(), s=one, body={"text": "uno"})
    await bob.err("edit", "forbidden", c=c, cid=cid(), s=one, body={"text": "mine"})
    await bob.err("delete", "forbidden", c=c, cid=cid(), s=two, **{"for": "all"})
    await alice.ok("delete", c=c, cid=cid(), s=two, **{"for": "all"})
    await alice.err("edit", "not_found", c=c, cid=cid(), s=two, body={"text": "again"})
    folded = (await bob.ok("range", c=c, view="folded"))["records"]
    assert [r["body"]["text"] for r in folded if "hole" not in r] == ["uno"]
    assert folded[0]["edited"] > 0
    assert any(r.get("hole") == [two, two] and r["why"] == "erased" for r in folded)
    log = await bob.ok("range", c=c, view="log")
    seen = []
    for r in log["records"]:
        seen += range(r["hole"][0], r["hole"][1] + 1) if "hole" in r else [r["s"]]
    assert seen == list(range(1, log["head"] + 1))
    down = (await bob.ok("range", c=c, view="log", order="desc"))["records"]
    assert [r.get("s") for r in down if "s" in r] == [r["s"] for r in log["records"][::-1] if "s" in r]
    mine = await bob.ok("list", limit=200)
    assert next(x for x in mine["convs"] if x["c"] == c)["unread"] == 1
    await alice.close()
    await bob.close()


async def test_strangers_learn_nothing():
    """A conversation of others answers like one that does not exist."""
    alice, mallory = await Client.connect("alice"), await Client.connect("mallory")
    conv = await alice.ok("open", kind="group", name="secret", members=["bob"], cid=cid())
    sent = await alice.ok("send", c=conv["c"], cid=cid(), kind="text", body={"text": "psst"})
    for op, fields in (
        ("send", {"kind": "text", "body": {"text": "x"}, "cid": cid()}),
        ("edit", {"s": sent["s"], "body": {"text": "x"}, "cid": cid()}),
        ("delete", {"s": sent["s"], "for": "all", "cid": cid()}),
        ("range", {}),
        ("members", {}),
        ("leave", {"cid": cid()}),
        ("member", {"user": "mallory", "set": "add", "cid": cid()}),
    ):
        real = await mallory.err(op, "not_found", c=conv["c"], **fields)
        none = await mallory.err(op, "not_found", c="g-nothing", **fields)
        assert real == none, (op, real, none)
    synced = await mallory.ok("sync", cur={conv["c"]: 0})
    assert conv["c"] not in [c["c"] for c in synced["convs"]]
    await alice.ok("send", c=conv["c"], cid=cid(), kind="text", body={"text": "psst"})
    assert not [e for e in await mallory.quiet() if e.get("c") == conv["c"]]
    await alice.close()
    await mallory.close()


async def test_members_come_and_go():
    """Added people see the conversation at once; removed ones get nothing more."""
    alice, carol = await Client.connect("alice"), await Client.connect("carol")
    await carol.ok("sync", cur={})
    conv = await alice.ok("open", kind="group", name="door", members=["bob"], cid=cid())
    c = conv["c"]
    await alice.ok("member", c=c, cid=cid(), user="carol", set="add")
    joined = await carol.event("joined", c=c)
    assert joined["name"] == "door" and joined["role"] == "member"
    sent = await alice.ok("send", c=c, cid=cid(), kind="text", body={"text": "hi carol"})
    assert (await carol.event("rec", c=c, kind="text"))["s"] == sent["s"]
    await carol.err("member", "forbidden", c=c, cid=cid(), user="bob", set="remove")
    members = (await carol.ok("members", c=c))["members"]
    assert {m["user"]: m["role"] for m in members} == {
        "alice": "owner",
        "bob": "member",
        "carol": "member",
    }
    await alice.ok("member", c=c, cid=cid(), user="carol", set="remove")
    await carol.event("left", c=c)
    await alice.ok("send", c=c, cid=cid(), kind="text", body={"text": "she is gone"})
    assert not [e for e in await carol.quiet() if e["ev"] == "rec" and e["c"] == c]
    await carol.err("range", "not_found", c=c)
    await alice.err("leave", "conflict", c=c, cid=cid())
    await alice.ok("member", c=c, cid=cid(), user="bob", set="role", role="owner")
    await alice.ok("leave", c=c, cid=cid())
    await alice.err("range", "not_found", c=c)
    await alice.close()
    await carol.close()


async def test_marks_count_unread():
    """Marks move forward only; unread is what lies after; the other side sees them."""
    alice, bob = await Client.connect("alice"), await Client.connect("bob")
    await alice.ok("sync", cur={})
    conv = await alice.ok("open", kind="group", name="marks", members=["bob"], cid=cid())
    c = conv["c"]
    seqs = [
        (await alice.ok("send", c=c, cid=cid(), kind="text", body={"text": str(i)}))["s"]
        for i in range(10)
    ]

    async def unread(client):
        convs = (await client.ok("list", limit=500))["convs"]
        return next(x for x in convs if x["c"] == c)["unread"]

    assert await unread(bob) == 10 and await unread(alice) == 0
    await bob.ok("mark", c=c, read=seqs[3])
    assert await unread(bob) == 6
    event = await alice.event("mark", c=c, user="bob")
    assert event["read"] == seqs[3]
    await bob.ok("mark", c=c, read=seqs[1])
    assert await unread(bob) == 6
    await bob.ok("mark", c=c, read=10**9)
    assert await unread(bob) == 0
    await alice.close()
    await bob.close()


async def now(client, op, **fields):
    """A node makes a new directory ready for newer records a moment after it serves."""
    for _ in range(200):
        reply = await client.call(op, **fields)
        if reply.get("err", {}).get("code") != "unavailable":
            break
        await asyncio.sleep(0.05)
    assert "ok" in reply, f"{op}: {reply}"
    return reply["ok"]


async def folded(client, c, s):
    page = await client.ok("range", c=c, view="folded", **{"from": s, "to": s + 1})
    return page["records"][0]


async def test_reactions():
    alice, bob = await Client.connect("alice"), await Client.connect("bob")
    mallory = await Client.connect("mallory")
    conv = await alice.ok("open", kind="group", name="react", members=["bob"], cid=cid())
    c = conv["c"]
    for client in alice, bob, mallory:
        await client.ok("sync")
    s = (await alice.ok("send", c=c, cid=cid(), kind="text", body={"text": "hi"}))["s"]
    one = cid()
    said = await now(bob, "react", c=c, s=s, cid=one, emoji="👍")
    assert said["s"] == s + 1 and not said["dup"]
    event = await alice.event("rec", kind="react")
    assert event["target"] == s and event["body"] == {"emoji": "👍", "on": True}, event
    assert event["from"] == "bob" and "cid" not in event
    assert (await bob.ok("react", c=c, s=s, cid=one, emoji="👍", on=True))["dup"]
    await bob.err("react", "conflict", c=c, s=s, cid=one, emoji="👍", on=False)
    assert (await bob.ok("react", c=c, s=s, cid=cid(), emoji="👍"))["s"] is None
    await alice.ok("react", c=c, s=s, cid=cid(), emoji="👍", on=True)
    await alice.ok("react", c=c, s=s, cid=cid(), emoji=":party_parrot:")
    want = {"👍": {"n": 2, "me": True}, ":party_parrot:": {"n": 1, "me": False}}
    assert (await folded(bob, c, s))["reactions"] == want
    last = (await bob.ok("list"))["convs"]
    assert next(x for x in last if x["c"] == c)["last"]["reactions"] == want
    await bob.ok("react", c=c, s=s, cid=cid(), emoji="👍", on=False)
    assert (await folded(bob, c, s))["reactions"]["👍"] == {"n": 1, "me": False}
    for emoji in "a", "", "👍👍", "👍 ", ":Party:", "::", "x" * 33, 7, None:
        await alice.err("react", "bad_request", c=c, s=s, cid=cid(), emoji=emoji)
    for emoji in "❤️", "1️⃣", "🇪🇺", "👨‍👩‍👧‍👦", "🏳️‍🌈", "👍🏿":
        assert (await alice.ok("react", c=c, s=s, cid=cid(), emoji=emoji))["s"], emoji
    await alice.err("react", "bad_request", c=c, s=s, cid=cid(), emoji="👍", on="yes")
    await alice.err("react", "not_found", c=c, s=99999, cid=cid(), emoji="👍")
    await mallory.err("react", "not_found", c=c, s=s, cid=cid(), emoji="👍")
    await alice.ok("delete", c=c, s=s, cid=cid(), **{"for": "all"})
    assert (await folded(bob, c, s))["hole"] == [s, s]
    await alice.err("react", "not_found", c=c, s=s, cid=cid(), emoji="👍")
    for client in alice, bob, mallory:
        await client.close()


async def test_pins():
    alice, bob = await Client.connect("alice"), await Client.connect("bob")
    conv = await alice.ok("open", kind="group", name="pins", members=["bob"], cid=cid())
    c = conv["c"]
    assert conv["pins"] == []
    await bob.ok("sync")
    s = (await bob.ok("send", c=c, cid=cid(), kind="text", body={"text": "read this"}))["s"]
    await now(alice, "pin", c=c, s=s, cid=cid())
    event = await bob.event("rec", kind="pin")
    assert event["target"] == s and event["body"] == {"on": True}, event
    await bob.err("pin", "forbidden", c=c, s=s, cid=cid(), on=False)
    assert (await folded(bob, c, s))["pinned"] == event["ts"]
    mine = next(x for x in (await bob.ok("list"))["convs"] if x["c"] == c)
    assert mine["pins"] == [s]
    await alice.ok("pin", c=c, s=s, cid=cid(), on=False)
    assert "pinned" not in await folded(bob, c, s)
    direct = await alice.ok("open", kind="direct", **{"with": "bob"})
    s = (await alice.ok("send", c=direct["c"], cid=cid(), kind="text", body={"text": "x"}))["s"]
    await bob.ok("pin", c=direct["c"], s=s, cid=cid())
    await alice.ok("pin", c=direct["c"], s=s, cid=cid(), on=False)
    for client in alice, bob:
        await client.close()


async def test_settings():
    alice, bob = await Client.connect("alice"), await Client.connect("bob")
    conv = await alice.ok("open", kind="group", name="before", members=["bob"], cid=cid())
    c = conv["c"]
    await bob.ok("sync")
    await now(alice, "meta", c=c, cid=cid(), name="after", topic="why", ttl=3600, history="joined")
    event = await bob.event("rec", kind="meta")
    want = {"name": "after", "topic": "why", "ttl": 3600, "history": "joined"}
    assert event["body"] == want, event

    async def conv_of(client):
        return next(x for x in (await client.ok("list"))["convs"] if x["c"] == c)

    got = await conv_of(bob)
    assert {k: got[k] for k in want} == want and "announce" not in got, got
    await alice.ok("meta", c=c, cid=cid(), topic=None, ttl=0, announce=True)
    event = await bob.event("rec", kind="meta")
    assert event["body"] == {"topic": None, "ttl": None, "announce": True}, event
    got = await conv_of(bob)
    assert (got["topic"], got["ttl"], got["announce"]) == (None, None, True)
    text = {"kind": "text", "body": {"text": "x"}}
    await bob.err("send", "forbidden", c=c, cid=cid(), **text)
    await alice.ok("send", c=c, cid=cid(), **text)
    await bob.err("meta", "forbidden", c=c, cid=cid(), topic="mine")
    await alice.err("meta", "bad_request", c=c, cid=cid())
    await alice.err("meta", "bad_request", c=c, cid=cid(), history="none")
    await alice.err("meta", "bad_request", c=c, cid=cid(), name=None)
    await alice.err("meta", "too_large", c=c, cid=cid(), topic="x" * 1025)
    assert (await alice.ok("meta", c=c, cid=cid(), announce=True))["s"] is None
    assert not {"lang", "searchable"} & set(got), got
    await alice.ok("meta", c=c, cid=cid(), lang="de", searchable=False)
    event = await bob.event("rec", kind="meta")
    assert event["body"] == {"lang": "de", "searchable": False}, event
    got = await conv_of(bob)
    assert (got["lang"], got["searchable"]) == ("de", False)
    for wrong in {"lang": "German"}, {"lang": "DE"}, {"lang": 1}, {"searchable": 1}:
        await alice.err("meta", "too_large" if wrong == {"lang": "German"} else "bad_request",
                        c=c, cid=cid(), **wrong)
    await alice.ok("meta", c=c, cid=cid(), lang=None, searchable=True)
    got = await conv_of(bob)
    assert not {"lang", "searchable"} & set(got), got
    for client in alice, bob:
        await client.close()


async def test_mentions_are_counted():
    alice, bob = await Client.connect("alice"), await Client.connect("bob")
    conv = await alice.ok("open", kind="group", name="names", members=["bob"], cid=cid())
    c = conv["c"]
    text = {"kind": "text", "body": {"text": "x"}}

    async def mentions():
        return next(x for x in (await bob.ok("list"))["convs"] if x["c"] == c)["mentions"]

    await now(alice, "pin", c=c, s=(await alice.ok("send", c=c, cid=cid(), **text))["s"], cid=cid())
    first = (await alice.ok("send", c=c, cid=cid(), mentions=["bob"], **text))["s"]
    second = (await alice.ok("send", c=c, cid=cid(), mentions="all", **text))["s"]
    await alice.ok("send", c=c, cid=cid(), mentions=["carol"], **text)
    assert await mentions() == 2
    await bob.ok("mark", c=c, read=first)
    assert await mentions() == 1
    await alice.ok("delete", c=c, s=second, cid=cid(), **{"for": "all"})
    assert await mentions() == 0
    for client in alice, bob:
        await client.close()


async def test_preferences():
    alice, phone = await Client.connect("alice"), await Client.connect("alice", "phone")
    bob = await Client.connect("bob")
    convs = []
    for name in "one", "two", "three":
        conv = await alice.ok("open", kind="group", name=name, members=["bob"], cid=cid())
        convs.append(conv["c"])
        assert (conv["muted_until"], conv["pinned"]) == (None, False), conv
        assert "draft" not in conv and "hidden" not in conv
    one, two, three = convs
    u = (await phone.ok("sync"))["u"]
    assert await now(alice, "prefs", c=one, pinned=True, muted_until=9000000000000) == {}
    event = await phone.event("user", kind="prefs")
    assert event["s"] == u + 1
    assert event["body"] == {"c": one, "muted_until": 9000000000000, "pinned": True}, event
    await alice.ok("prefs", c=two, draft="half a sent")
    assert (await phone.event("user"))["body"] == {"c": two, "draft": "half a sent"}

    async def listed(**options):
        found = (await phone.ok("list", **options))["convs"]
        return [x for x in found if x["c"] in convs]

    found = await listed()
    assert [x["c"] for x in found] == [one, three, two], "pinned first, then newest"
    assert (found[0]["pinned"], found[0]["muted_until"]) == (True, 9000000000000)
    assert found[2]["draft"] == "half a sent"
    pages, page = [], None
    while not pages or page:
        got = await phone.ok("list", limit=1, **({"page": page} if page else {}))
        pages += [x["c"] for x in got["convs"]]
        page = got["next"]
    assert [c for c in pages if c in convs] == [one, three, two], "by pages, too"
    again = await alice.ok("open", kind="direct", **{"with": "bob"})
    await alice.ok("prefs", c=again["c"], draft="to bob")
    assert (await alice.ok("open", kind="direct", **{"with": "bob"}))["draft"] == "to bob"
    assert "draft" not in await bob.ok("open", kind="direct", **{"with": "alice"})
    await alice.ok("prefs", c=again["c"], draft=None)
    await alice.ok("prefs", c=three, hidden=True)
    assert [x["c"] for x in await listed()] == [one, two]
    assert [(x["c"], x["hidden"]) for x in await listed(hidden=True)] == [(three, True)]
    synced = (await phone.ok("sync"))["convs"]
    assert next(x for x in synced if x["c"] == three)["hidden"]
    await bob.ok("send", c=three, cid=cid(), kind="text", body={"text": "there?"})
    assert [x["c"] for x in await listed()] == [one, three, two], "it is back"
    assert not await listed(hidden=True)
    await alice.err("prefs", "bad_request", c=one)
    await alice.err("prefs", "bad_request", c=one, pinned="yes")
    await alice.err("prefs", "bad_request", c=one, draft=7)
    await alice.err("prefs", "too_large", c=one, draft="x" * 4097)
    await alice.err("prefs", "not_found", c="g-nothing", draft="x")
    for client in alice, phone, bob:
        await client.close()


async def test_typing():
    alice, bob = await Client.connect("alice"), await Client.connect("bob")
    phone, mallory = await Client.connect("alice", "phone"), await Client.connect("mallory")
    conv = await alice.ok("open", kind="group", name="dots", members=["bob"], cid=cid())
    c = conv["c"]
    for client in alice, bob, phone, mallory:
        await client.ok("sync")
    await alice.ws.send(json.dumps({"op": "typing", "c": c}))
    event = await bob.event("typing")
    assert event == {"ev": "typing", "c": c, "user": "alice", "ttl_ms": 5000}, event
    for _ in range(20):
        await alice.ok("typing", c=c)
    assert not await bob.quiet(), "one in three seconds"
    await bob.ok("typing", c=c)
    assert (await alice.event("typing"))["user"] == "bob"
    assert (await phone.event("typing"))["user"] == "bob", "no device is told of its own user"
    await mallory.err("typing", "not_found", c=c)
    assert not [e for e in await mallory.quiet() if e["ev"] == "typing"]
    records = (await alice.ok("range", c=c, **{"from": 1}))["records"]
    assert len(records) == 1, "nothing is stored"
    await asyncio.sleep(3)
    await alice.ok("typing", c=c)
    assert (await bob.event("typing"))["user"] == "alice"
    for client in alice, bob, phone, mallory:
        await client.close()


async def test_presence():
    alice = await Client.connect("alice")
    mallory = await Client.connect("mallory")
    conv = await alice.ok("open", kind="group", name="who", members=["bob"], cid=cid())
    await alice.ok("sync")
    await mallory.ok("sync")
    assert await alice.ok("presence", watch=["bob", "mallory", "nobody"]) == {}
    assert await mallory.ok("presence", watch=["alice", "bob"]) == {}
    event = await alice.event("presence")  # a server that has just begun waits a while
    assert (event["user"], event["state"]) == ("bob", "offline"), event
    bob = await Client.connect("bob")
    assert not [e for e in await alice.quiet() if e["ev"] == "presence"], "not live yet"
    await bob.ok("sync")
    event = await alice.event("presence")
    assert event == {"ev": "presence", "user": "bob", "state": "online", "last_seen": None}, event
    phone = await Client.connect("bob", "phone")
    await phone.ok("sync")
    await bob.ok("presence", set="away")
    assert not [e for e in await alice.quiet() if e["ev"] == "presence"], "the phone is there"
    await phone.ok("presence", set="away")
    assert (await alice.event("presence"))["state"] == "away"
    await phone.ok("presence", set="online")
    assert (await alice.event("presence"))["state"] == "online"
    await phone.close()
    assert (await alice.event("presence"))["state"] == "away"
    closed = time.time()
    await bob.close()
    event = await alice.event("presence")
    assert event["state"] == "offline" and time.time() - closed <= 5, event
    assert abs(event["last_seen"] / 1000 - closed) < 2, event
    bob = await Client.connect("bob")
    await bob.ok("sync")
    assert (await alice.event("presence"))["state"] == "online"
    await bob.close()
    bob = await Client.connect("bob")
    await bob.ok("sync")
    assert not [e for e in await alice.quiet(4) if e["ev"] == "presence"], "back at once: no word"
    got = [e for e in await mallory.quiet() if e["ev"] == "presence"]
    assert not got, "a stranger learns nothing: " + str(got)
    await alice.ok("member", c=conv["c"], cid=cid(), user="mallory", set="add")
    await mallory.event("joined")
    await alice.ok("presence", set="away")
    assert (await mallory.event("presence"))["state"] == "away", "no stranger now"
    await alice.ok("member", c=conv["c"], cid=cid(), user="mallory", set="remove")
    await mallory.event("left")
    await alice.ok("presence", set="online")
    assert not [e for e in await mallory.quiet(1) if e["ev"] == "presence"], "and again one"
    await alice.ok("presence", unwatch=["bob", "mallory"])
    await bob.ok("presence", set="away")
    assert not [e for e in await alice.quiet(1) if e["ev"] == "presence"], "not asked for any more"
    await alice.err("presence", "bad_request", watch="bob")
    await alice.err("presence", "bad_request", watch=["no such name!"])
    await alice.err("presence", "bad_request", set="busy")
    await alice.err("presence", "too_large", watch=[f"u{i}" for i in range(1001)])
    for client in alice, bob, mallory:
        await client.close()


async def test_seen_by():
    alice, bob = await Client.connect("alice"), await Client.connect("bob")
    mallory = await Client.connect("mallory")
    members = ["bob", "carol"] + [f"member{i:04}" for i in range(400)]
    conv = await alice.ok("open", kind="group", name="seen", members=members, cid=cid())
    c = conv["c"]
    text = {"kind": "text", "body": {"text": "x"}}
    s = (await alice.ok("send", c=c, cid=cid(), **text))["s"]
    assert await bob.ok("seen", c=c, s=s) == {"n": 1, "users": ["alice"], "next": None}
    await bob.ok("mark", c=c, read=s)
    assert await alice.ok("seen", c=c, s=s) == {"n": 2, "users": ["alice", "bob"], "next": None}
    assert (await alice.ok("seen", c=c, s=1))["n"] == 403
    assert (await alice.ok("seen", c=c, s=1, page="member0390"))["n"] == 9
    await mallory.err("seen", "not_found", c=c, s=s)
    await alice.err("seen", "bad_request", c=c)
    for client in alice, bob, mallory:
        await client.close()


async def test_many_lines_in_a_frame():
    """Several objects in one frame are several requests."""
    alice = await Client.connect("alice")
    conv = await alice.ok("open", kind="group", name="lines", members=[], cid=cid())
    lines, futures = [], []
    for i in range(200):
        alice.next_id += 1
        future = asyncio.get_event_loop().create_future()
        alice.replies[alice.next_id] = future
        futures.append(future)
        lines.append(
            json.dumps(
                {
                    "id": alice.next_id,
                    "op": "send",
                    "c": conv["c"],
                    "cid": cid(),
                    "kind": "text",
                    "body": {"text": str(i)},
                }
            )
        )
    await alice.ws.send("\n".join(lines))
    seqs = [(await asyncio.wait_for(f, SECONDS))["ok"]["s"] for f in futures]
    assert seqs == list(range(seqs[0], seqs[0] + 200))
    await alice.close()


async def test_bad_requests():
    """Every malformed request is answered with its error; the connection goes on."""
    alice = await Client.connect("alice")
    conv = await alice.ok("open", kind="group", name="bad", members=[], cid=cid())
    c = conv["c"]
    text = {"kind": "text", "body": {"text": "x"}}
    await alice.err("fly", "bad_request")
    await alice.err("send", "bad_request", c=c, cid="", **text)
    await alice.err("send", "bad_request", c=c, cid="x" * 65, **text)
    await alice.err("send", "bad_request", c=c, **text)
    await alice.err("send", "bad_request", c=c, cid=cid(), kind="nope", body={})
    await alice.err("send", "bad_request", c=c, cid=cid(), kind="text", body="x")
    await alice.err("send", "bad_request", c=c, cid=cid(), kind="text", body={"text": 7})
    await alice.err("send", "too_large", c=c, cid=cid(), kind="text", body={"text": "x" * 32769})
    await alice.err("send", "bad_request", c=c, cid=cid(), reply=10**6, **text)
    await alice.err("send", "bad_request", c=c, cid=cid(), reply=-1, **text)
    await alice.err("send", "bad_request", c=c, cid=cid(), reply=1.5, **text)
    await alice.err("open", "bad_request", kind="direct", **{"with": "a b"}, cid=cid())
    await alice.err("open", "bad_request", kind="group", name="x", members="bob", cid=cid())
    await alice.err("range", "bad_request", c=c, view="sideways")
    await alice.err("range", "bad_request", c=c, max=0)
    await alice.err("mark", "bad_request", c=c, read="7")
    await alice.err("edit", "not_found", c=c, cid=cid(), s=999, body={"text": "x"})
    await alice.ok("send", c=c, cid=cid(), **text, future_field=[1, {"a": None}])
    await alice.close()


async def test_bad_frames_close():
    """Frames that can't be understood get the documented close code."""
    token = TOKENS["alice"]
    assert (await raw([b"\x00\x01"], token))[0] == 1003
    assert (await raw(["x" * 70000], token))[0] == 1009
    code, got = await raw([json.dumps({"id": 1, "op": "auth", "token": "x.y.z", "device": "d"})])
    assert code == 4202, (code, got)
    for bad in ("{", "[]", "nonsense", '{"id":1,"op":"ping"} trailing', '{"id":1,"id":2,"op":"ping"}'):
        code, got = await raw([bad, json.dumps({"id": 9, "op": "ping"})], token, until='"id":9,')
        lines = [json.loads(x) for frame in got for x in frame.split("\n")]
        assert any(x.get("err", {}).get("code") == "bad_request" for x in lines), (bad, code, got)
        assert any(x.get("id") == 9 and "ok" in x for x in lines), (bad, code, got)


async def test_nothing_before_auth():
    """Nothing is answered before auth."""
    async with websockets.connect(URL, subprotocols=[PROTOCOL]) as ws:
        json.loads(await ws.recv())
        await ws.send(json.dumps({"id": 1, "op": "list"}))
        reply = json.loads(await asyncio.wait_for(ws.recv(), SECONDS))
        assert reply["id"] == 1 and reply["err"]["code"] == "unauthorized", reply


async def test_no_auth_in_time():
    """Who does not authenticate in auth_ms is closed with 4201."""
    async with websockets.connect(URL, subprotocols=[PROTOCOL]) as ws:
        hello = json.loads(await ws.recv())
        try:
            await asyncio.wait_for(ws.recv(), hello["auth_ms"] / 1000 + SECONDS)
            assert False, "answered"
        except websockets.ConnectionClosed as closed:
            assert closed.rcvd.code == 4201, closed


async def test_many_devices():
    """A user's devices all get each record once."""
    devices = [await Client.connect("bob", device=f"d{i}") for i in range(5)]
    for device in devices:
        await device.ok("sync", cur={})
    alice = await Client.connect("alice")
    conv = await alice.ok("open", kind="group", name="devices", members=["bob"], cid=cid())
    for device in devices:
        await device.event("joined", c=conv["c"])
    sent = [
        (await alice.ok("send", c=conv["c"], cid=cid(), kind="text", body={"text": str(i)}))["s"]
        for i in range(50)
    ]
    for device in devices:
        got = [(await device.event("rec", c=conv["c"], kind="text"))["s"] for _ in sent]
        assert got == sent
    for client in devices + [alice]:
        await client.close()


async def test_stalled_reader_catches_up():
    """A client that stops reading holds nobody up, and gets everything once it reads again."""
    alice = await Client.connect("alice")
    conv = await alice.ok("open", kind="group", name="stall", members=["bob", "carol"], cid=cid())
    c = conv["c"]
    carol, flood = await Client.connect("carol"), await Client.connect("admin")
    await carol.ok("sync", cur={})
    ws = await websockets.connect(URL, subprotocols=[PROTOCOL], max_size=None, max_queue=1, read_limit=1024)
    await ws.recv()
    await ws.send(json.dumps({"id": 1, "op": "auth", "token": TOKENS["bob"], "device": "slow"}))
    await ws.recv()
    await ws.send(json.dumps({"id": 2, "op": "sync", "cur": {c: conv["head"]}}))
    ws.transport.pause_reading()
    body = {"text": "y" * 4000}
    count = 600
    for start in range(0, count, 100):
        await asyncio.gather(
            *(flood.ok("send", c=c, cid=cid(), kind="text", body=body, **{"from": "alice"}) for _ in range(100))
        )
    for _ in range(count):
        await carol.event("rec", c=c, kind="text")
    ws.transport.resume_reading()
    held, head = conv["head"], conv["head"] + count
    request = 10
    while held < head:
        frame = await asyncio.wait_for(ws.recv(), SECONDS)
        for line in frame.split("\n"):
            message = json.loads(line)
            if message.get("ev") == "rec" and message["c"] == c:
                assert message["s"] == held + 1, (message["s"], held)
                held += 1
            elif message.get("ev") == "lag" and message["c"] == c:
                await ws.send(
                    json.dumps({"id": request, "op": "range", "c": c, "from": held + 1, "view": "log"})
                )
            elif message.get("id", 0) >= 10 and "records" in message.get("ok", {}):
                for record in message["ok"]["records"]:
                    if record["s"] > held:
                        assert record["s"] == held + 1
                        held += 1
                request += 1
                if message["ok"]["next"] is None:
                    await ws.send(json.dumps({"id": 5, "op": "resume", "c": c, "cur": held}))
                else:
                    await ws.send(
                        json.dumps({"id": request, "op": "range", "c": c, "from": held + 1, "view": "log"})
                    )
    await ws.close()
    await alice.close()
    await carol.close()


async def test_stalled_reader_hears_of_marks():
    """Marks that could not be told to a client that did not read are told when it does."""
    alice = await Client.connect("alice")
    conv = await alice.ok("open", kind="group", name="stall2", members=["bob", "carol"], cid=cid())
    c = conv["c"]
    carol, flood = await Client.connect("carol"), await Client.connect("admin")
    ws = await websockets.connect(URL, subprotocols=[PROTOCOL], max_size=None, max_queue=1, read_limit=1024)
    await ws.recv()
    await ws.send(json.dumps({"id": 1, "op": "auth", "token": TOKENS["bob"], "device": "slow2"}))
    await ws.recv()
    await ws.send(json.dumps({"id": 2, "op": "sync", "cur": {c: conv["head"]}}))
    ws.transport.pause_reading()
    body = {"text": "y" * 30000}
    for _ in range(20):  # more than the sockets between take
        await asyncio.gather(
            *(flood.ok("send", c=c, cid=cid(), kind="text", body=body, **{"from": "alice"}) for _ in range(50))
        )
    last = (await alice.ok("send", c=c, cid=cid(), kind="text", body={"text": "last"}))["s"]
    await carol.ok("mark", c=c, read=last)
    ws.transport.resume_reading()
    marked = None
    while marked != last:
        frame = await asyncio.wait_for(ws.recv(), SECONDS)
        for line in frame.split("\n"):
            message = json.loads(line)
            if message.get("ev") == "mark" and message["user"] == "carol":
                marked = message["read"]
    await ws.close()
    await alice.close()
    await carol.close()


async def test_admin_writes_as_others():
    """Scope admin may write records of others with their own time (imports)."""
    admin = await Client.connect("admin")
    conv = await admin.ok("open", kind="group", name="past", members=["alice"], cid=cid())
    sent = await admin.ok(
        "send", c=conv["c"], cid="0", kind="text", body={"text": "long ago"}, **{"from": "plato", "ts": 1234567890123}
    )
    assert sent["ts"] == 1234567890123
    page = await admin.ok("range", c=conv["c"], view="folded")
    assert page["records"][-1]["from"] == "plato" and page["records"][-1]["ts"] == 1234567890123
    alice = await Client.connect("alice")
    await alice.err(
        "send", "forbidden", c=conv["c"], cid=cid(), kind="text", body={"text": "x"}, **{"from": "plato"}
    )
    await admin.close()
    await alice.close()


async_lib.main(globals(), sys.argv[1:])
