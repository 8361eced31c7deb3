"""For tls.sh: clients of a gateway that speaks TLS itself, in bytes and with python3-websockets.

    tls_clients.py GATEWAY-PID

Installs another certificate in the middle, and a bad one. From the environment: LOQUAT_URL (https),
LOQUAT_CA, LOQUAT_CONV (alice and bob are in it), LOQUAT_FILES (a folder with two.pem, two.key,
where cert.pem and key.pem are the server's), LOQUAT_LOG, LOQUAT_TOKEN_ALICE and _BOB.
The last line is `N passed, N failed`.
"""

import asyncio
import json
import os
import re
import shutil
import signal
import socket
import ssl
import sys
import time
import urllib.request

import async_lib
import websockets

URL, CONV, FILES = os.environ["LOQUAT_URL"], os.environ["LOQUAT_CONV"], os.environ["LOQUAT_FILES"]
HOST, PORT = URL.removeprefix("https://").split(":")
TLS = ssl.create_default_context(cafile=os.environ["LOQUAT_CA"])
TLS.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF  # an end without close_notify is an error
TOKEN = os.environ["LOQUAT_TOKEN_ALICE"]
PID = int(sys.argv[1])
with open(f"/proc/{PID}/maps") as maps:
    SANITIZED = re.search("lib[at]san", maps.read())  # which keep what was freed
SECONDS = 10
HEAD_SECONDS = 10  # HEAD_MS of gateway/conn.c
TEXT = "history " * 1000  # 8,000 bytes
MESSAGES = 2000


class Raw:
    """TLS in memory on a bare socket: what goes out, and when, is the test's to say."""

    def __init__(self, context=TLS):
        self.sock = socket.create_connection((HOST, int(PORT)))
        self.sock.settimeout(SECONDS)
        self.into, self.out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.into, self.out, server_hostname="localhost")

    def shake(self):
        while True:
            try:
                self.tls.do_handshake()
                self.flush()
                return self
            except ssl.SSLWantReadError:
                self.flush()
                self.receive()

    def flush(self):
        self.sock.sendall(self.out.read())

    def receive(self):
        got = self.sock.recv(65536)
        self.into.write(got) if got else self.into.write_eof()
        return got

    def read(self):
        """b"" after close_notify; an SSLEOFError where the stream was cut."""
        while True:
            try:
                return self.tls.read(65536)
            except ssl.SSLWantReadError:
                self.receive()
            except ssl.SSLZeroReturnError:
                return b""

    def read_all(self):
        pieces = []
        while piece := self.read():
            pieces.append(piece)
        return b"".join(pieces)

    def close_notify(self):
        try:
            self.tls.unwrap()
        except ssl.SSLWantReadError:
            pass  # it is in `out`; theirs is to come


def get(path, more=""):
    return (
        f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n{more}\r\n"
    ).encode()


async def connect(user="alice", live=True):
    ws = await websockets.connect(
        "ws" + URL.removeprefix("http") + "/v1/ws", ssl=TLS, subprotocols=["loquat.v1.json"], max_size=None
    )
    await ws.recv()
    await ask(ws, "auth", token=os.environ["LOQUAT_TOKEN_" + user.upper()], device="t")
    if live:
        await ask(ws, "sync", cur={})
    return ws


async def ask(ws, op, **fields):
    await ws.send(json.dumps({"id": 1, "op": op, **fields}))
    while True:
        for message in map(json.loads, (await asyncio.wait_for(ws.recv(), SECONDS)).split("\n")):
            if message.get("id") == 1:
                assert "ok" in message, message
                return message["ok"]


def metric(name):
    with urllib.request.urlopen(URL + "/metrics", context=TLS) as answer:
        for line in answer.read().decode().splitlines():
            if line.startswith(name + " "):
                return float(line.split()[-1])
    raise AssertionError(f"no {name}")


def resident_mib():
    with open(f"/proc/{PID}/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


async def test_half_close():
    """Requests and close_notify in one packet: all are answered, then the server closes, too."""
    raw = Raw().shake()
    raw.tls.write(get(f"/v1/conversations/{CONV}") * 3)
    raw.close_notify()
    raw.flush()
    assert raw.read_all().count(b"HTTP/1.1 200") == 3


async def test_truncated():
    """Streams that end within a handshake or a record: the server goes on, and counts the former."""
    gone = metric('loquat_tls_handshakes_failed_total{reason="gone"}')
    hello = Raw()
    try:
        hello.tls.do_handshake()
    except ssl.SSLWantReadError:
        pass
    bytes_ = hello.out.read()
    hello.sock.close()
    for n in (0, 1, 5, 6, 100, len(bytes_) - 1):
        with socket.create_connection((HOST, int(PORT))) as sock:
            sock.sendall(bytes_[:n])
    raw = Raw().shake()
    raw.tls.write(get("/readyz"))
    raw.sock.sendall(raw.out.read()[:-1])
    raw.sock.shutdown(socket.SHUT_WR)
    while raw.sock.recv(65536):
        pass  # its tickets, and no answer: the request was not whole
    until = time.monotonic() + SECONDS
    while metric('loquat_tls_handshakes_failed_total{reason="gone"}') < gone + 6:
        assert time.monotonic() < until
        await asyncio.sleep(0.05)


async def test_garbage():
    """Neither HTTP nor TLS: an alert at most, the end, and a count."""
    before = metric('loquat_tls_handshakes_failed_total{reason="not_tls"}')
    for bytes_ in (b"\0" * 100, b"\x00\x01\x02garbage"):
        with socket.create_connection((HOST, int(PORT)), timeout=SECONDS) as sock:
            sock.sendall(bytes_)
            while sock.recv(4096):
                pass
    assert metric('loquat_tls_handshakes_failed_total{reason="not_tls"}') == before + 2


async def test_not_trusted():
    """Who does not trust the certificate says so, and is counted."""
    before = metric('loquat_tls_handshakes_failed_total{reason="refused_by_client"}')
    try:
        Raw(ssl.create_default_context()).shake()
        raise AssertionError("trusted")
    except ssl.SSLCertVerificationError:
        pass
    raw = Raw(ssl.create_default_context())
    try:
        raw.shake()
    except ssl.SSLCertVerificationError:
        raw.flush()
    raw.sock.recv(4096)
    until = time.monotonic() + SECONDS
    while metric('loquat_tls_handshakes_failed_total{reason="refused_by_client"}') <= before:
        assert time.monotonic() < until
        await asyncio.sleep(0.05)


async def test_slow_handshake():
    """A handshake is cut at the deadline of a first request, however it trickles; so is one that was
    done by somebody who then asks for nothing."""
    before = metric('loquat_tls_handshakes_failed_total{reason="timeout"}')
    began = time.monotonic()
    silent = Raw().shake()
    trickling = Raw()
    try:
        trickling.tls.do_handshake()
    except ssl.SSLWantReadError:
        pass
    bytes_ = trickling.out.read()
    trickling.sock.settimeout(0.25)
    for at in range(len(bytes_) - 1):
        try:
            trickling.sock.sendall(bytes_[at : at + 1])
            if trickling.sock.recv(1) == b"":
                break
        except TimeoutError:
            continue
        except ConnectionError:
            break
    took = time.monotonic() - began
    assert HEAD_SECONDS - 0.5 < took < HEAD_SECONDS + 2, took
    assert at > HEAD_SECONDS
    assert silent.sock.recv(65536) is not None  # its tickets
    assert silent.sock.recv(65536) == b""
    assert time.monotonic() - began < HEAD_SECONDS + 2
    assert metric('loquat_tls_handshakes_failed_total{reason="timeout"}') == before + 1


async def test_history():
    """A long history as a stream, to a reader that dawdles: complete, and none of it waits in the
    server."""
    alice = await connect(live=False)
    for first in range(0, MESSAGES, 200):
        for at in range(first, first + 200):
            body = {"text": f"{at} {TEXT}"}
            await alice.send(json.dumps({"id": at, "op": "send", "c": CONV, "cid": f"h{at}", "kind": "text", "body": body}))
        answers = 0
        while answers < 200:
            for line in (await asyncio.wait_for(alice.recv(), SECONDS)).split("\n"):
                assert "ok" in json.loads(line), line
                answers += 1
    await alice.close()
    path = f"/v1/conversations/{CONV}/records?view=folded"
    lazy = [Raw().shake() for _ in range(40)]
    before = resident_mib()
    begun = []
    for raw in lazy:
        raw.tls.write(get(path, "Accept: application/x-ndjson\r\nConnection: close\r\n"))
        raw.flush()
        begun.append(raw.read())  # the server has answered as far as it does without being read
    grown = resident_mib() - before
    assert SANITIZED or grown < 300, f"{grown} MiB"  # pages of 1 MiB; 640 MiB were asked for
    for raw in lazy[3:]:
        raw.sock.close()
    for raw, text in zip(lazy[:3], begun):
        text += raw.read_all()
        found = [at for at in range(MESSAGES) if f'"{at} {TEXT}"'.encode() in text] if raw is lazy[0] else None
        assert found is None or len(found) == MESSAGES, len(found)
        assert text.count(TEXT.encode()) == MESSAGES
        assert text.endswith(b"0\r\n\r\n")


async def test_who_never_reads():
    """Requests without end from somebody who reads no answer: what waits is bounded, and the server
    stops reading."""
    raw = Raw().shake()
    raw.sock.settimeout(1)
    before = resident_mib()
    sent = 0
    try:
        while sent < 64 << 20:
            raw.tls.write(get(f"/v1/conversations/{CONV}/records") * 50)
            bytes_ = raw.out.read()
            raw.sock.sendall(bytes_)
            sent += len(bytes_)
    except TimeoutError:
        pass
    assert sent < 32 << 20, sent
    assert SANITIZED or resident_mib() - before < 16
    raw.sock.close()


async def logged(text, before):
    until = time.monotonic() + SECONDS
    while True:
        with open(os.environ["LOQUAT_LOG"]) as log:
            if log.read().count(text) > before:
                return
        assert time.monotonic() < until, text
        await asyncio.sleep(0.05)


def serial():
    return Raw().shake().tls.getpeercert()["serialNumber"]


async def test_reload():
    """SIGHUP: new connections get the new certificate, those that are there stay; with a key that is
    not the certificate's all stays as it was, and the log has an error."""
    stays, first = await connect(), serial()
    for name in ("cert.pem", "key.pem"):
        shutil.copy(f"{FILES}/{name}", f"{FILES}/old-{name}")
    shutil.copy(f"{FILES}/two.pem", f"{FILES}/cert.pem")
    os.kill(PID, signal.SIGHUP)
    await logged("the certificate could not be read again", 0)
    assert serial() == first
    shutil.copy(f"{FILES}/two.key", f"{FILES}/key.pem")
    os.kill(PID, signal.SIGHUP)
    await logged("the certificate was read again", 0)
    second = serial()
    assert second != first
    await ask(stays, "send", c=CONV, cid="reloaded", kind="text", body={"text": "still here"})
    for name in ("cert.pem", "key.pem"):
        shutil.copy(f"{FILES}/old-{name}", f"{FILES}/{name}")
    os.kill(PID, signal.SIGHUP)
    await logged("the certificate was read again", 1)
    assert serial() == first
    await ask(stays, "ping")
    await stays.close()


async def test_many_at_once():
    """More handshakes than one turn takes, while somebody is served."""
    alice = await connect()
    many = [Raw() for _ in range(150)]
    for raw in many:
        try:
            raw.tls.do_handshake()
        except ssl.SSLWantReadError:
            raw.flush()
    await ask(alice, "ping")
    for raw in many:
        raw.shake()
        raw.tls.write(get("/readyz", "Connection: close\r\n"))
        raw.flush()
    for raw in many:
        assert b" 200 " in raw.read_all()
    await alice.close()


async def test_drain():
    """Last: SIGTERM: goodbye, 1012, and close_notify."""
    alice, idle = await connect(), Raw().shake()
    idle.tls.write(get("/readyz"))
    idle.flush()
    assert b" 200 " in idle.read()
    os.kill(PID, signal.SIGTERM)
    said = ""
    try:
        while True:
            said += await asyncio.wait_for(alice.recv(), SECONDS)
    except websockets.ConnectionClosed as closed:
        assert closed.rcvd.code == 1012, closed
    assert '"ev":"goodbye"' in said
    assert idle.read() == b""


async_lib.main(globals())
