"""Clients that break rules, against a server of their own: each gets what docs/PROTOCOL.md says, and a
client that keeps to them never notices.

    abuse.py SCRATCH-DIRECTORY        the last line is `N passed, N failed`
"""

import json
import os
import socket
import struct
import sys
import threading
import time

from abuse_lib import (
    BINARY,
    CLOSE,
    PING,
    SECONDS,
    TEXT,
    Closed,
    Server,
    Ws,
    frame,
    read_response,
    finish,
    request,
    run,
    token,
)

SCRATCH = sys.argv[1]
SECRET = b"0123456789abcdef0123456789abcdef"
HEAD_SECONDS = 10  # a whole request
STUCK_SECONDS = 30  # none of an answer was taken
USER_CONNECTIONS = 20
RSS_MAX_MIB = 1200  # what waits for clients has a bound of 256 MiB a loop, and the store has caches
server = None
rss_top = 0


def bearer(user, **claims):
    return token(SECRET, user, **claims)


def client(user, **options):
    return Ws(server, bearer(user), **options)


def group(ws, name, *members, **more):
    return ws.ok("open", kind="group", name=name, members=list(members), cid=name, **more)["c"]


def send(ws, c, cid, text="x"):
    return ws.ok("send", c=c, cid=cid, kind="text", body={"text": text})


# ---- frames ------------------------------------------------------------------------------------

PING_LINE = json.dumps({"id": 1, "op": "ping"})
BAD_FRAMES = [
    ("unmasked", frame(TEXT, PING_LINE, mask=False), 1002),
    ("reserved bit 1", frame(TEXT, PING_LINE, rsv=4), 1002),
    ("reserved bit 3", frame(TEXT, PING_LINE, rsv=1), 1002),
    ("opcode 3", frame(3, "x"), 1002),
    ("opcode 11", frame(11, "x"), 1002),
    ("a fragmented ping", frame(PING, "x", fin=False), 1002),
    ("a long ping", frame(PING, "x" * 126), 1002),
    ("a continuation of nothing", frame(0, "x"), 1002),
    ("a message inside another", frame(TEXT, "{", fin=False) + frame(TEXT, PING_LINE), 1002),
    ("a length with bit 63", frame(TEXT, "x", size=1 << 63), 1002),
    ("a length longer than needed", bytes([0x81, 0xFE, 0, 1]) + b"\0\0\0\0x", 1002),
    ("binary", frame(BINARY, "x"), 1003),
    ("binary in pieces", frame(BINARY, "x", fin=False), 1003),
    ("not UTF-8", frame(TEXT, b"\xff\xfe"), 1007),
    ("UTF-8 that ends early", frame(TEXT, b'"\xe2\x82'), 1007),
    ("a surrogate in UTF-8", frame(TEXT, b"\xed\xa0\x80"), 1007),
    ("too long UTF-8", frame(TEXT, b"\xc0\x80"), 1007),
    ("not UTF-8, in pieces", frame(TEXT, b"\xe2", fin=False) + frame(0, b"A"), 1007),
    ("too large", frame(TEXT, "x" * 65537), 1009),
    ("said to be too large", frame(TEXT, "x", size=1 << 40), 1009),
    ("too large in pieces", frame(TEXT, "x" * 40000, fin=False) + frame(0, "x" * 40000), 1009),
    ("a close of one byte", frame(CLOSE, b"\x03"), 1002),
    ("close 999", frame(CLOSE, struct.pack(">H", 999)), 1002),
    ("close 1005", frame(CLOSE, struct.pack(">H", 1005)), 1002),
    ("close 1006", frame(CLOSE, struct.pack(">H", 1006)), 1002),
    ("close 5000", frame(CLOSE, struct.pack(">H", 5000)), 1002),
    ("a reason that is not UTF-8", frame(CLOSE, struct.pack(">H", 1000) + b"\xff"), 1007),
    ("close 1000", frame(CLOSE, struct.pack(">H", 1000)), 1000),
    ("close 4999", frame(CLOSE, struct.pack(">H", 4999) + b"bye"), 4999),
    ("a close without a code", frame(CLOSE), 1005),
]


def test_bad_frames():
    """Each kind gets its close code, authenticated or not, whole or byte by byte."""
    for name, data, want in BAD_FRAMES:
        for ws in (Ws(server), client("framer")):
            ws.sock.sendall(data)
            got = ws.closes()
            assert got == want, (name, want, got)
            ws.close()
    for name, data, want in BAD_FRAMES:
        if len(data) > 200:
            continue
        ws = Ws(server)
        ws.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            for i in range(len(data)):
                ws.sock.sendall(data[i : i + 1])
        except (BrokenPipeError, ConnectionResetError):
            pass
        assert ws.closes() == want, name
        ws.close()


def test_frames_that_are_fine():
    """Fragments with pings between them, a message of exactly max_in, many messages in one write."""
    ws = client("framer")
    half = len(PING_LINE) // 2
    ws.sock.sendall(
        frame(TEXT, PING_LINE[:half], fin=False) + frame(PING, "between") + frame(0, PING_LINE[half:])
    )
    opcodes = [ws.frame() for _ in range(2)]
    assert sorted(o for o, _ in opcodes) == [TEXT, 10], opcodes
    assert (10, b"between") in opcodes
    line = json.dumps({"id": 7, "op": "ping"})
    ws.send(TEXT, line + " " * (65536 - len(line)))
    assert "ok" in ws.answer(7)
    ws.sock.sendall(b"".join(frame(TEXT, json.dumps({"id": 100 + i, "op": "ping"})) for i in range(500)))
    assert [ws.line()["id"] for _ in range(500)] == list(range(100, 600))
    ws.send(TEXT, "")
    assert ws.line()["err"]["code"] == "bad_request"
    ws.send(TEXT, "\n\n" + line + "\n")
    assert "ok" in ws.answer(7)
    ws.close()


# ---- requests ----------------------------------------------------------------------------------

DEEP = "[" * 40 + "]" * 40
NOT_REQUESTS = [
    "{",
    "[]",
    "1",
    '"x"',
    "null",
    "nonsense",
    PING_LINE + " trailing",
    '{"id":1,"id":2,"op":"ping"}',
    '{"id":1,"op":"ping","\\u006fp":"ping"}',
    '{"id":1,"op":"ping",}',
    '{"id":1,"op":"ping","x":1e400}',
    '{"id":1,"op":"ping","x":NaN}',
    '{"id":1,"op":"ping","x":01}',
    '{"id":1,"op":"ping","x":"\\ud800"}',
    '{"id":1,"op":"ping","x":"a\tb"}',
    '{"id":1,"op":"ping","x":' + DEEP + "}",
    '{"id":1,"op":"ping",' + ",".join(f'"f{i}":0' for i in range(60)) + "}",
    "\ufeff" + PING_LINE,
    "[" * 60000,
    '{"id":"1","op":"ping"}',
    '{"id":1.5,"op":"ping"}',
    '{"id":9007199254740992,"op":"ping"}',
    '{"id":1e400,"op":"ping"}',
    '{"id":null,"op":"ping"}',
    '{"id":true,"op":"ping"}',
    '{"id":[1],"op":"ping"}',
]


def test_what_is_no_request():
    """It is answered with id null and bad_request, and the connection goes on."""
    ws = client("talker")
    for line in NOT_REQUESTS:
        ws.send(TEXT, line)
        got = ws.line()
        assert got["id"] is None and got["err"]["code"] == "bad_request", (line[:80], got)
        assert got["err"]["retry"] is False
    ws.ok("ping")
    for number in ("-0", "0", "-5", "9007199254740991", "1e3", "1.0"):
        ws.send(TEXT, '{"id":%s,"op":"ping"}' % number)
        got = ws.line()
        assert got["id"] == float(number) and "ok" in got, (number, got)
    ws.send(TEXT, '{"id":5}')
    assert ws.line()["err"]["code"] == "bad_request"
    ws.send(TEXT, '{"id":6,"op":7}')
    assert ws.line()["err"]["code"] == "bad_request"
    ws.close()


def test_fields_of_other_kinds():
    """Numbers as strings, too large, negative, not whole; ids that are none; bodies of every shape."""
    ws = client("talker")
    c = group(ws, "fields")
    s = send(ws, c, "f1")["s"]
    whole = ["1", 1.5, -1, 2**53, 1e300, True, [1], {"s": 1}]
    for bad in whole:
        assert ws.code("range", c=c, **{"from": bad}) == "bad_request", bad
        assert ws.code("mark", c=c, read=bad) == "bad_request", bad
        assert ws.code("resume", c=c, cur=bad) == "bad_request", bad
        assert ws.code("edit", c=c, cid="e", s=bad, body={"text": "x"}) == "bad_request", bad
        assert ws.code("sync", limit=bad) == "bad_request", bad
        assert ws.code("sync", cur={c: bad}) == "bad_request", bad
        assert ws.code("send", c=c, cid="t", kind="text", body={"text": "x"}, ttl=bad) == "bad_request"
    for bad in (1, None, [c], {}, True):
        assert ws.code("range", c=bad) == "bad_request", bad
    for bad in ("", "x" * 65, "a b", "a/b", "\u2603", 'a"b', "g-nothing", "\u0000"):
        assert ws.code("range", c=bad) == "not_found", bad
    for bad in ("", "x" * 65, "a\nb", "\u0000", 7, None, ["x"]):
        assert ws.code("send", c=c, cid=bad, kind="text", body={"text": "x"}) == "bad_request", bad
    for bad in (None, 7, "x", [], {}, {"text": None}, {"text": ["x"]}, {"text": "x", "format": "html"}):
        assert ws.code("send", c=c, cid="b", kind="text", body=bad) == "bad_request", bad
    for bad in ("x-", "x-A", "x-" + "a" * 33, "text ", "", "edit", "member", "image", None, 7):
        assert ws.code("send", c=c, cid="k", kind=bad, body={}) == "bad_request", bad
    for bad in ("all ", 7, {"a": 1}, ["a b"], [7], [""], ["x" * 65]):
        assert ws.code("send", c=c, cid="m", kind="text", body={"text": "x"}, mentions=bad) == "bad_request"
    many = ["u%d" % i for i in range(101)]
    assert ws.code("send", c=c, cid="m", kind="text", body={"text": "x"}, mentions=many) == "too_large"
    assert ws.code("send", c=c, cid="l", kind="text", body={"text": "x" * 32769}) == "too_large"
    assert ws.code("open", kind="group", name="x" * 257, cid="n") == "too_large"
    assert ws.code("open", kind="group", name="a\u0001", cid="n") == "bad_request"
    assert ws.code("open", kind="direct", **{"with": "x" * 65}) == "bad_request"
    assert ws.code("delete", c=c, cid="d", s=s, **{"for": "them"}) == "bad_request"
    assert ws.code("member", c=c, cid="d", user="bob", set="promote") == "bad_request"
    assert ws.code("list", page="nonsense") == "bad_request"
    assert ws.code("sync", page="a b") == "bad_request"
    assert ws.code("range", c=c, max=1001) == "bad_request"
    assert ws.code("conv", c=c) == "bad_request"  # HTTP's own
    assert ws.code("records", c=c) == "bad_request"
    assert send(ws, c, "f2")["s"] == s + 1, "something was written"
    ws.close()


def test_cursors_have_a_bound():
    """Pages of a sync that is never ended can't pile up cursors."""
    ws = client("pager")
    for name in ("one", "two", "three"):
        group(ws, name)
    page = ws.ok("sync", cur={}, limit=1)["next"]
    for i in range(12):
        got = ws.call("sync", cur={"c%d-%d" % (i, k): 1 for k in range(2500)}, page=page, limit=1)
        if "err" in got:
            break
        assert got["ok"]["next"] is not None
    assert i == 8 and got["err"]["code"] == "bad_request", (i, got)
    ws.ok("sync", cur={})
    ws.close()


# ---- who asks ----------------------------------------------------------------------------------


def bad_tokens():
    now = int(time.time())
    good = bearer("alice").split(".")
    return {
        "none": "",
        "no token": "x.y.z",
        "two parts": ".".join(good[:2]),
        "four parts": ".".join(good + ["x"]),
        "expired": bearer("alice", seconds=-60),
        "without an end": token(SECRET, "alice", exp=None),
        "not yet": bearer("alice", nbf=now + 600),
        "alg none": token(SECRET, "alice", header={"alg": "none"}),
        "alg none, unsigned": token(SECRET, "alice", header={"alg": "none"}).rsplit(".", 1)[0] + ".",
        "alg HS512": token(SECRET, "alice", header={"alg": "HS512"}),
        "alg RS256": token(SECRET, "alice", header={"alg": "RS256"}),
        "crit": token(SECRET, "alice", header={"alg": "HS256", "crit": ["exp"]}),
        "another key": token(b"f" * 32, "alice"),
        "another signature": ".".join(good[:2] + [good[2][::-1]]),
        "a user that is none": bearer("al ice"),
        "an empty user": bearer(""),
        "a long user": bearer("x" * 65),
        "too long": bearer("alice", fill="x" * 9000),
    }


def test_bad_tokens():
    """Refused: 401 over HTTP; `unauthorized` and 4202 over WebSocket; nothing was said before."""
    for name, text in bad_tokens().items():
        status, body = request(server, "GET", "/v1/conversations", bearer=text)
        assert status in (401, 431) and (status == 431 or body["err"]["code"] == "unauthorized"), (name, status, body)
        ws = Ws(server)
        assert ws.code("list") == "unauthorized"
        message = ws.call("auth", token=text, device="d")
        assert message["err"]["code"] == "unauthorized", (name, message)
        assert ws.closes() == 4202, name
        ws.close()
    ws = Ws(server)
    for bad in (None, 7, ["x"]):
        ws = Ws(server)
        assert ws.code("auth", token=bad) == "unauthorized"
        assert ws.closes() == 4202
    ws = Ws(server)
    assert ws.code("auth", token=bearer("alice"), device="x" * 65) == "too_large"
    ws.ok("auth", token=bearer("alice"))


def test_nobody_inherits_a_connection():
    """A proxy may send requests of several users through one connection: an upgrade on it is nobody's."""
    sock = server.connect()
    sock.sendall(
        b"GET /v1/conversations HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + bearer("alice").encode() + b"\r\n\r\n"
    )
    assert read_response(sock)[0] == 200
    ws = Ws(server, sock=sock)
    assert ws.code("list") == "unauthorized"
    ws.ok("auth", token=bearer("bob"))
    ws.ok("list")
    ws.close()


def test_expiry():
    """4100 when the token ends; `auth` in time keeps the connection, as the same user only."""
    ends, stays, other = (Ws(server, bearer("alice", seconds=3)) for _ in range(3))
    began = time.monotonic()
    stays.ok("auth", token=bearer("alice"), device="d")
    assert other.code("auth", token=bearer("bob"), device="d") == "unauthorized"
    assert other.closes() == 4202
    assert ends.closes() == 4100
    assert 1 < time.monotonic() - began < 5
    stays.ok("ping")
    time.sleep(1)
    stays.ok("list")
    for ws in (ends, stays, other):
        ws.close()


def test_a_tail_ends_with_its_token():
    ws = client("alice")
    c = group(ws, "tail-ends")
    sock = server.connect()
    short = bearer("alice", seconds=2)
    sock.sendall(f"GET /v1/conversations/{c}/tail?from=1 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {short}\r\n\r\n".encode())
    began, data = time.monotonic(), b""
    while piece := sock.recv(65536):
        data += piece
    assert b"id: 1\n" in data and time.monotonic() - began < 5, data
    sock.close()
    ws.close()


def test_connections_of_a_user():
    """Above --user-connections: rate_limited and 4000; one that ends makes room; tails count, too."""
    held = [client("crowd") for _ in range(USER_CONNECTIONS)]
    c = group(held[0], "crowd")
    extra = Ws(server)
    assert extra.code("auth", token=bearer("crowd")) == "rate_limited"
    assert extra.closes() == 4000
    assert request(server, "GET", f"/v1/conversations/{c}/tail", bearer("crowd"))[0] == 429
    assert request(server, "GET", "/v1/conversations", bearer("crowd"))[0] == 200
    held.pop().close()
    until = time.monotonic() + SECONDS
    while True:  # until the server has seen the end
        again = Ws(server)
        if "ok" in again.call("auth", token=bearer("crowd")):
            break
        assert time.monotonic() < until
    for ws in held + [again, extra]:
        ws.close()


def test_rate():
    """Above the rate: rate_limited with after_ms, after which it works again; `ping` is free."""
    ws = client("hasty")
    c = group(ws, "rate")
    asked = [ws.ask("mark", c=c, read=1) for _ in range(700)]
    answers = [ws.line() for _ in asked]
    errors = [m["err"] for m in answers if "err" in m]
    assert errors and all(e["code"] == "rate_limited" and e["retry"] and e["after_ms"] > 0 for e in errors)
    ws.ok("ping")
    sock, rest, answers = server.connect(), b"", []
    sock.sendall(
        f"GET /v1/conversations HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {bearer('hasty')}\r\n\r\n".encode() * 200
    )
    for _ in range(200):
        status, _, body, rest = read_response(sock, rest=rest)
        answers.append((status, json.loads(body)))
    limited = [body["err"] for status, body in answers if status == 429]
    assert limited and all(e["code"] == "rate_limited" for e in limited), answers[0]
    time.sleep(limited[-1]["after_ms"] / 1000)
    ws.ok("list")
    ws.close()


# ---- HTTP --------------------------------------------------------------------------------------


def test_crowd():
    """Above the rate of a conversation: its live members wait; strangers can't use it up."""
    stranger, people = client("stranger"), [client(f"crowd{i}") for i in range(2)]
    c = group(people[0], "crowd", "crowd1")
    for ws in people:
        ws.ok("sync")
    text = {"kind": "text", "body": {"text": "x"}}
    codes = [stranger.code("send", c=c, cid=f"s{i}", **text) for i in range(300)]
    assert set(codes) == {"not_found"}, set(codes)
    for i in range(350):
        for ws in people:
            ws.ask("send", c=c, cid=f"m{i}", **text)
    refused = []
    for ws in people:
        for _ in range(350):
            while "ev" in (message := ws.line()):
                pass
            refused += [message["err"]] if "err" in message else []
    assert 0 < len(refused) <= 100 and {e["code"] for e in refused} == {"rate_limited"}, refused[:3]
    time.sleep(refused[-1]["after_ms"] / 1000)
    people[0].ok("send", c=c, cid="later", **text)
    for ws in [stranger, *people]:
        ws.close()


def test_http_shapes():
    """Keep-alive, pipelines, bodies in chunks, HEAD, an end of input after the question."""
    auth = f"Authorization: Bearer {bearer('alice')}\r\n"
    with server.connect() as sock:
        one = f"GET /v1/conversations?limit=1 HTTP/1.1\r\nHost: x\r\n{auth}\r\n"
        two = f"HEAD /v1/conversations HTTP/1.1\r\nHost: x\r\n{auth}\r\n"
        three = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
        sock.sendall((one + two + three).encode() * 20)
        rest = b""
        for i in range(60):
            status, headers, body, rest = read_response(sock, i % 3 == 1, rest)
            assert status == 200 and (i % 3 != 2 or body == b"ok\n"), (i, status, body)
        assert rest == b""
    text = json.dumps({"kind": "group", "name": "chunks", "cid": "chunks"}).encode()
    with server.connect() as sock:
        sock.sendall(f"POST /v1/conversations HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n{auth}\r\n".encode())
        for byte in text:
            sock.sendall(b"1\r\n%c\r\n" % byte)
        sock.sendall(b"0\r\n\r\n")
        status, _, body, _ = read_response(sock)
        assert status == 200, body
    with server.connect() as sock:
        sock.sendall((one + three).encode())
        sock.shutdown(socket.SHUT_WR)
        status, _, _, rest = read_response(sock)
        assert status == 200
        assert read_response(sock, rest=rest)[2] == b"ok\n"
        assert sock.recv(1) == b""


def test_http_too_much():
    """Bodies, heads and targets over their bounds; JSON that is none."""
    alice = bearer("alice")
    post = ("POST", "/v1/conversations", alice)
    assert request(server, *post, body=b"x" * 65537)[0] == 413
    assert request(server, *post, body=b'{"kind":"group","name":"x","cid":"x","y":' + DEEP.encode() + b"}")[0] == 400
    assert request(server, *post, body=b'{"kind":"group","kind":"group","name":"x","cid":"x"}')[0] == 400
    assert request(server, *post, body=b'{"kind":"group","name":"\xff","cid":"x"}')[0] == 400
    assert request(server, *post, body=b"")[0] == 400
    assert request(server, "GET", "/" + "x" * 9000)[0] == 414
    assert request(server, "GET", "/", headers=["X: " + "x" * 17000])[0] == 431
    assert request(server, "GET", "/", headers=[f"X{i}: x" for i in range(80)])[0] == 431
    assert request(server, "GET", "/v1/conversations/%00", alice)[0] == 404
    assert request(server, "GET", "/v1/conversations/%zz", alice)[0] == 404
    assert request(server, "GET", "/v1/conversations/a%2Fb/records", alice)[0] == 404
    assert request(server, "GET", "/v1/conversations/../../etc/passwd", alice)[0] == 404
    assert request(server, "GET", "/%2e%2e/%2e%2e/etc/passwd")[0] == 404
    for bad in (b"zz\r\n", b"-1\r\nx\r\n", b"5\nabcde\r\n", b"1\r\nxx\r\n", b"ffffffffffffffffff\r\n"):
        with server.connect() as sock:
            sock.sendall(
                f"POST /v1/conversations HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {alice}\r\n"
                "Transfer-Encoding: chunked\r\n\r\n".encode() + bad
            )
            assert read_response(sock)[0] in (400, 413), bad


def test_streams_that_are_left():
    """NDJSON and event streams whose readers go away in the middle."""
    ws = client("alice")
    c = group(ws, "left")
    for i in range(150):
        ws.ask("send", c=c, cid=str(i), kind="text", body={"text": "y" * 20000})
    ws.answer(ws.id)
    for path in ("records", "tail?from=1"):
        for _ in range(20):
            sock = server.connect()
            sock.sendall(
                f"GET /v1/conversations/{c}/{path} HTTP/1.1\r\nHost: x\r\nAccept: application/x-ndjson\r\n"
                f"Authorization: Bearer {bearer('alice')}\r\n\r\n".encode()
            )
            assert sock.recv(1000)[:12] == b"HTTP/1.1 200"
            sock.close()
    ws.ok("ping")
    ws.close()


# ---- what those see who go and come back ---------------------------------------------------------


def test_nothing_from_before_the_joining():
    """Where history is `joined`, no cursor brings what was written before."""
    alice, carol = client("alice"), client("carol")
    carol.ok("sync", cur={})
    c = group(alice, "joined", history="joined")
    for i in range(5):
        send(alice, c, str(i), "secret")
    added = alice.ok("member", c=c, cid="add", user="carol", set="add")["s"]
    carol.event("joined", c=c)
    for cursor in (0, 3, added - 2):
        carol.ok("resume", c=c, cur=cursor)
        got = carol.event("rec", c=c)
        assert got.get("hole") == [cursor + 1, added - 1] and got["why"] == "hidden", got
        assert carol.event("rec", c=c)["s"] == added
    again = client("carol")
    again.ok("sync", cur={c: 2})
    assert again.event("rec", c=c)["hole"] == [3, added - 1]
    for ws in (alice, carol, again):
        ws.close()


def test_removed_while_behind():
    """A member who is taken out while behind gets `left` and nothing that came after."""
    alice, bob = client("alice"), client("bob", receive=4096)
    c = group(alice, "behind", "bob")
    bob.ok("sync", cur={c: 1})
    for i in range(100):
        alice.ask("send", c=c, cid=str(i), kind="text", body={"text": "z" * 30000})
    alice.answer(alice.id)
    out = alice.ok("member", c=c, cid="out", user="bob", set="remove")["s"]
    for i in range(5):
        send(alice, c, f"after{i}", "not for bob")
    last = 1
    while True:
        message = bob.line()
        if message.get("c") != c:
            continue
        if message["ev"] == "left":
            break
        assert message["ev"] == "rec" and message["s"] == last + 1 and last + 1 < out, message["s"]
        last += 1
    try:
        number = bob.ask("ping")
        while (message := bob.line()).get("id") != number:
            assert message.get("c") != c, message
        bob.close()
    except Closed as closed:
        # His own log may have had news while he took nothing: "connect again", and nothing else.
        assert closed.args[0] == 4000, closed
    alice.close()


# ---- slow, silent, greedy ----------------------------------------------------------------------


def ends_within(sock, low, high, began):
    """The server ends the connection, in this many seconds after `began`."""
    sock.settimeout(high + 5)
    try:
        while sock.recv(65536):
            pass
    except ConnectionResetError:
        pass
    seconds = time.monotonic() - began
    assert low <= seconds <= high, seconds


def test_slow_requests():
    """Heads and bodies that come a byte at a time have ten seconds, whole."""
    began = time.monotonic()
    head = b"POST /v1/conversations HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n"
    socks = [server.connect() for _ in range(60)]
    for sock in socks[30:]:
        sock.sendall(head + b"\r\n")
    open_socks = list(socks)
    while time.monotonic() - began < HEAD_SECONDS - 1:
        for i, sock in enumerate(socks):
            sock.sendall(head[i % 7 : i % 7 + 1] if i < 30 else b"{")
        time.sleep(0.5)
    for sock in open_socks:
        ends_within(sock, HEAD_SECONDS - 1, HEAD_SECONDS + 5, began)
        sock.close()


def test_silent_connections():
    """1,000 connections that say nothing are closed in time, and nobody waits for them."""
    began = time.monotonic()
    socks = [server.connect() for _ in range(1000)]
    for sock in socks:
        ends_within(sock, HEAD_SECONDS - 1, HEAD_SECONDS + 10, began)
        sock.close()


def test_silent_websockets():
    """Upgraded and then silent: 4201, long before anything else."""
    silent = [Ws(server) for _ in range(50)]
    for ws in silent:
        assert ws.closes() == 4201
        ws.close()


def test_slow_writers():
    """200 clients whose frame comes byte by byte are all answered."""
    slow = [client(f"slow{i % 10}") for i in range(200)]
    data = frame(TEXT, PING_LINE)
    for i in range(len(data)):
        for ws in slow:
            ws.sock.sendall(data[i : i + 1])
    for ws in slow:
        assert "ok" in ws.answer(1)
        ws.close()


def flood(sock, data, most):
    """Writes until the server reads no more for a second; how much it took."""
    sock.setblocking(False)
    taken, quiet = 0, time.monotonic()
    while taken < most and time.monotonic() - quiet < 1:
        try:
            taken += sock.send(data)
            quiet = time.monotonic()
        except BlockingIOError:
            time.sleep(0.02)
        except (BrokenPipeError, ConnectionResetError):
            break
    return taken


def test_pings_and_never_reads():
    """Neither pongs nor answers pile up: the server stops to read (of many pings it answers few)."""
    ping = frame(PING, "p" * 125) * 500
    line = frame(TEXT, "\n".join([PING_LINE] * 500))
    pinger, liner = client("pinger", receive=4096), client("pinger", receive=4096)
    flood(pinger.sock, ping, 32 << 20)
    taken = flood(liner.sock, line, 64 << 20)
    assert taken < 32 << 20, taken
    pinger.close()
    liner.close()


def test_asks_over_http_and_never_reads():
    """Pipelined requests wait while their answers do."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.settimeout(SECONDS)
    sock.connect(server.address)
    taken = flood(sock, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 1000, 64 << 20)
    assert taken < 16 << 20, taken
    sock.close()


def test_answers_that_are_not_taken():
    """An answer of which nothing is taken for half a minute ends, in the middle."""
    root = Ws(server, bearer("root", scope="admin"))
    c = group(root, "stuck")
    for i in range(500):
        root.ask("send", c=c, cid=str(i), kind="text", body={"text": "y" * 25000})
        if i % 20 == 19:
            assert all("ok" in root.line() for _ in range(20))
    auth = f"Host: x\r\nAuthorization: Bearer {bearer('root', scope='admin')}\r\n"
    page = f"GET /v1/conversations/{c}/records HTTP/1.1\r\n{auth}"
    socks = []
    for text in (page + "Accept: application/x-ndjson\r\n\r\n", (page + "\r\n") * 12 + page + "Connection: close\r\n\r\n"):
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.settimeout(SECONDS)
        sock.connect(server.address)
        sock.sendall(text.encode())
        socks.append(sock)
    time.sleep(STUCK_SECONDS + 4)
    for sock in socks:
        size, end = 0, b""
        while piece := sock.recv(1 << 20):
            size, end = size + len(piece), piece
        assert 0 < size < 12 << 20 and not end.endswith(b"0\r\n\r\n"), size
        sock.close()
    root.close()


def test_sends_and_never_reads():
    """Its messages are written, and what is owed to it is not kept."""
    ws = client("writer", receive=4096)
    c = group(ws, "writes", "reader")
    ws.ok("sync", cur={})
    lines = b"".join(
        frame(TEXT, json.dumps({"id": i, "op": "send", "c": c, "cid": str(i), "kind": "text", "body": {"text": "w" * 200}}))
        for i in range(4000)
    )
    flood(ws.sock, lines, len(lines))
    other = client("reader")
    until = time.monotonic() + SECONDS
    while other.ok("range", c=c, order="desc", max=1)["head"] < 100:
        assert time.monotonic() < until
        time.sleep(0.1)
    other.close()
    ws.close()


def test_hoarders():  # by itself, see main
    """Clients that ask for much and read nothing: memory has its bound."""
    ws = client("alice")
    c = group(ws, "hoard", *(f"hoarder{i}" for i in range(10)))
    for i in range(60):
        ws.ask("send", c=c, cid=str(i), kind="text", body={"text": "h" * 20000})
    ws.answer(ws.id)
    hoard = [client(f"hoarder{i % 10}", receive=4096) for i in range(100)]
    ask = frame(TEXT, "\n".join(json.dumps({"id": i, "op": "range", "c": c}) for i in range(50, 58)))
    for h in hoard:
        h.sock.sendall(ask)
    time.sleep(2)
    until = time.monotonic() + SECONDS  # who was refused for want of memory is served again
    while "ok" not in (got := ws.call("range", c=c, max=1)):
        assert got["err"]["code"] == "unavailable" and time.monotonic() < until, got
        time.sleep(0.2)
    for h in hoard:
        h.close()
    ws.close()


# ---- around all of it ---------------------------------------------------------------------------


class Good:
    """A client that keeps to the rules and times its pings; and the server's memory meanwhile."""

    def __init__(self):
        self.worst = 0
        self.done = threading.Event()
        self.error = None
        self.thread = threading.Thread(target=self.live)
        self.thread.start()

    def live(self):
        global rss_top
        try:
            clients = [client("good") for _ in range(4)]  # on several loops
            while not self.done.wait(0.05):
                for ws in clients:
                    began = time.monotonic()
                    ws.ok("ping")
                    self.worst = max(self.worst, time.monotonic() - began)
                rss_top = max(rss_top, server.rss_mib())
            for ws in clients:
                ws.close()
        except Exception as error:
            self.error = repr(error)

    def end(self):
        self.done.set()
        self.thread.join()


def main():
    global server
    secret = os.path.join(SCRATCH, "secret")
    with open(os.open(secret, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as out:
        out.write(SECRET)
    options = ["--user-connections", str(USER_CONNECTIONS), "--rate", "100", "--burst", "500", "--loops", "2"]
    options += ["--conv-rate-all", "60"]
    server = Server(SCRATCH, "abuse", "--auth-secret-file", secret, *options)
    slow_factor = 5 if server.sanitized() else 1
    good = Good()
    only = sys.argv[2:]
    tests = [f for n, f in globals().items() if n.startswith("test_") and (not only or n in only)]
    together = [f for f in tests if f is not test_hoarders]

    def test_the_good_client_never_noticed():
        good.end()
        assert good.error is None, good.error
        assert good.worst < 1 * slow_factor, good.worst
        assert rss_top < RSS_MAX_MIB * slow_factor, rss_top

    def test_bounds_were_counted():
        """Whoever looks at the metrics sees what happened here: which bounds held, and that they did."""
        until = time.monotonic() + SECONDS
        while (got := server.metrics())["loquat_connections"] > 1:  # nobody but who asks is left
            assert time.monotonic() < until, got["loquat_connections"]
            time.sleep(0.1)
        hit = ("user_rate", "conv_rate", "user_connections", "connection_out", "connection_reads", "upstream_pages")
        for series in [f'loquat_bound_hits_total{{bound="{bound}"}}' for bound in hit] + [
            "loquat_connections_timed_out_total",
            "loquat_requests_refused_total",
            'loquat_upstream_seconds_count{kind="write"}',
            'loquat_upstream_seconds_count{kind="page"}',
        ]:
            assert got[series] > 0, series
        assert got["loquat_follows_behind"] == got["loquat_out_waiting_bytes"] == 0, got
        assert got["loquat_loops_linked"] == got["loquat_loops"] == 2

    def test_it_ends_well():
        status, seconds = server.stop()
        assert status == 0 and seconds < 15 * slow_factor, (status, seconds)

    results = run(sorted(together, key=lambda f: f is not test_answers_that_are_not_taken), 8)
    print(f"worst ping {good.worst * 1000:.0f} ms, {rss_top} MiB at most", flush=True)
    results += run([f for f in tests if f is test_hoarders], 1)
    print(f"worst ping {good.worst * 1000:.0f} ms, {rss_top} MiB at most", flush=True)
    results += run([test_the_good_client_never_noticed, test_bounds_were_counted, test_it_ends_well], 1)
    return finish(results)


if __name__ == "__main__":
    sys.exit(main())
