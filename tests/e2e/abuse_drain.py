"""SIGTERM with clients of every kind, and too few descriptors.

    abuse_drain.py SCRATCH-DIRECTORY
"""

import json
import os
import resource
import sys
import time

from abuse_lib import SECONDS, TEXT, Closed, Server, Ws, finish, frame, read_response, run, token

SCRATCH = sys.argv[1]
SECRET = b"0123456789abcdef0123456789abcdef"
SECRET_FILE = os.path.join(SCRATCH, "secret")
DRAIN_SECONDS = 5  # who does not go by himself


def bearer(user):
    return token(SECRET, user)


def start(name, *options):
    return Server(SCRATCH, name, "--auth-secret-file", SECRET_FILE, *options)


def send_line(i, c):
    return json.dumps({"id": i, "op": "send", "c": c, "cid": str(i), "kind": "text", "body": {"text": "d" * 100}})


def test_drain_answers_what_was_accepted():
    """Everything that was written has its answer before goodbye's close, and is there afterwards."""
    server = start("answers", "--loops", "2")
    ws = Ws(server, bearer("alice"))
    c = ws.ok("open", kind="group", name="drain", cid="drain")["c"]
    for start_at in range(1000, 3000, 100):
        ws.send(TEXT, "\n".join(send_line(i, c) for i in range(start_at, start_at + 100)))
    server.process.terminate()
    answered, goodbye, code = {}, None, None
    try:
        while True:
            message = ws.line()
            if message.get("ev") == "goodbye":
                goodbye = message
            elif "ok" in message and message["id"] >= 1000:
                answered[message["id"]] = message["ok"]["s"]
    except Closed as closed:
        code = closed.code
    ws.close()
    assert goodbye and goodbye["why"] == "drain" and len(goodbye["reconnect_ms"]) == 2, goodbye
    assert code == 1012, code
    assert server.process.wait(SECONDS) == 0
    again = start("answers")
    ws = Ws(again, bearer("alice"))
    page = ws.ok("range", c=c, max=1000)
    kept, at = {}, 1
    while at is not None:
        page = ws.ok("range", c=c, **{"from": at})
        kept.update({r["cid"]: r["s"] for r in page["records"] if "cid" in r})
        at = page["next"]
    for number, s in answered.items():
        assert kept.get(str(number)) == s, (number, s, kept.get(str(number)))
    written = sum(1 for cid in kept if cid.isdigit())
    assert written == len(answered), (written, len(answered))
    ws.close()
    assert again.stop()[0] == 0


def test_drain_waits_for_nobody():
    """Clients that do not read, do not close, say half a request, listen: the end comes all the same."""
    server = start("waits", "--loops", "2")
    deaf = [Ws(server, bearer("deaf"), receive=4096) for _ in range(5)]
    c = deaf[0].ok("open", kind="group", name="deaf", cid="deaf")["c"]
    for i in range(60):
        deaf[0].ask("send", c=c, cid=str(i), kind="text", body={"text": "d" * 30000})
    deaf[0].answer(deaf[0].id)
    for ws in deaf:
        for i in range(6):
            ws.ask("range", c=c)
    silent = [Ws(server, bearer("silent")) for _ in range(20)] + [Ws(server)]
    half, idle, tail = server.connect(), server.connect(), server.connect()
    half.sendall(b"GET /healthz HT")
    idle.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    assert read_response(idle)[2] == b"ok\n"
    tail.sendall(f"GET /v1/conversations/{c}/tail HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {bearer('deaf')}\r\n\r\n".encode())
    assert b"200 OK" in tail.recv(1000)
    part = Ws(server, bearer("silent"))
    part.sock.sendall(frame(TEXT, "{", fin=False))
    status, seconds = server.stop()
    assert status == 0 and seconds < DRAIN_SECONDS + 5, (status, seconds)
    for ws in silent:
        assert ws.closes() == 1012
    assert tail.recv(100) in (b"", b"2\r\n:\n\r\n") and idle.recv(1) == b"" and half.recv(1) == b""


def test_drain_is_quick_for_those_who_close():
    server = start("quick", "--loops", "1")
    clients = [Ws(server, bearer(f"u{i}")) for i in range(50)]
    server.process.terminate()
    began = time.monotonic()
    for ws in clients:
        assert ws.closes() == 1012
        ws.close()
    assert server.process.wait(SECONDS) == 0
    assert time.monotonic() - began < 2, time.monotonic() - began


def test_no_descriptors():
    """Without descriptors nobody is taken and nobody is lost; with them again, all are served."""
    server = start("few", "--loops", "1")
    first = Ws(server, bearer("alice"))
    pid = server.process.pid
    used = max(int(fd) for fd in os.listdir(f"/proc/{pid}/fd")) + 1
    _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (used + 5, hard))
    waiting = [server.connect() for _ in range(30)]
    before = sum(os.times()[2:4])
    for sock in waiting:
        sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    assert read_response(waiting[0])[2] == b"ok\n"
    with open(f"/proc/{pid}/stat") as stat:
        ticks = sum(int(x) for x in stat.read().split()[13:15])
    time.sleep(1)
    first.ok("ping")
    with open(f"/proc/{pid}/stat") as stat:
        spent = sum(int(x) for x in stat.read().split()[13:15]) - ticks
    assert spent < 50, (spent, before)  # hundredths of a second: it does not spin
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (hard, hard))
    for sock in waiting[1:]:
        assert read_response(sock)[2] == b"ok\n"
        sock.close()
    first.ok("list")
    first.close()
    waiting[0].close()
    assert server.stop()[0] == 0


with open(os.open(SECRET_FILE, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as out:
    out.write(SECRET)
sys.exit(
    finish(
        run(
            [
                test_drain_answers_what_was_accepted,
                test_drain_waits_for_nobody,
                test_drain_is_quick_for_those_who_close,
                test_no_descriptors,
            ],
            2,
        )
    )
)
