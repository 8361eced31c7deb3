"""For abuse*.py: servers, tokens, a WebSocket client of bare frames, a runner that counts.

Standard library only: these clients do what no proper library does.
"""

import base64
import concurrent.futures
import hashlib
import hmac
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import time
import traceback

BUILD = os.environ.get("BUILD", "build")
SECONDS = 20
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


class Server:
    """A gateway of its own on a fresh directory; its log is looked at when it ends."""

    def __init__(self, scratch, name, *options):
        self.log = os.path.join(scratch, name + ".log")
        os.makedirs(os.path.join(scratch, name), mode=0o700, exist_ok=True)
        self.process = subprocess.Popen(
            [BUILD + "/loquat-gateway", "--embed", os.path.join(scratch, name), "--listen", "127.0.0.1:0", *options],
            stdout=subprocess.PIPE,
            stderr=open(self.log, "ab"),
        )
        line = self.process.stdout.readline().decode()
        ready = re.search(r"ready listen=([\d.]+):(\d+)", line)
        if not ready:
            raise RuntimeError(f"{name} is not ready: {line!r}\n{open(self.log).read()[-2000:]}")
        self.address = (ready.group(1), int(ready.group(2)))

    def stop(self):
        """SIGTERM; how it ended and after how many seconds."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(40)
        except subprocess.TimeoutExpired:
            self.process.kill()
            status = "killed"
        if status != 0:
            sys.stdout.write(open(self.log, errors="replace").read()[-4000:])
        return status, time.monotonic() - began

    def rss_mib(self):
        with open(f"/proc/{self.process.pid}/statm") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 20

    def sanitized(self):
        with open(f"/proc/{self.process.pid}/maps") as maps:
            return "libasan" in maps.read()

    def metrics(self):
        """What /metrics says: series with its labels → value."""
        status, text = request(self, "GET", "/metrics")
        assert status == 200, text
        lines = (line.rsplit(" ", 1) for line in text.decode().split("\n") if line[:1] not in ("", "#"))
        return {series: float(value) for series, value in lines}

    def connect(self):
        sock = socket.create_connection(self.address, SECONDS)
        sock.settimeout(SECONDS)
        return sock


# ---- tokens ----


def b64(data):
    return base64.urlsafe_b64encode(data if isinstance(data, bytes) else data.encode()).rstrip(b"=").decode()


def signing_input(header, claims):
    return b64(json.dumps(header)) + "." + b64(json.dumps(claims))


def token(secret, user, seconds=3600, header=None, **claims):
    claims = {"sub": user, "exp": time.time() + seconds, **claims}
    claims["exp"] = int(claims["exp"]) if claims["exp"] is not None else None
    if claims["exp"] is None:
        del claims["exp"]
    text = signing_input(header or {"alg": "HS256", "typ": "JWT"}, claims)
    return text + "." + b64(hmac.new(secret, text.encode(), hashlib.sha256).digest())


# ---- HTTP ----


def read_response(sock, head_only=False, rest=b""):
    """One whole answer: status, headers, body, and what came behind it."""
    data = rest
    while b"\r\n\r\n" not in data:
        piece = sock.recv(65536)
        if not piece:
            raise EOFError(data)
        data += piece
    head, data = data.split(b"\r\n\r\n", 1)
    lines = head.decode().split("\r\n")
    headers = {k.lower(): v.strip() for k, v in (line.split(":", 1) for line in lines[1:])}
    size = 0 if head_only else int(headers.get("content-length", 0))
    while len(data) < size:
        piece = sock.recv(65536)
        if not piece:
            raise EOFError(data)
        data += piece
    return int(lines[0].split()[1]), headers, data[:size], data[size:]


def request(server, method, path, bearer=None, body=None, headers=()):
    with server.connect() as sock:
        lines = [f"{method} {path} HTTP/1.1", "Host: x", "Connection: close", *headers]
        if bearer is not None:
            lines.append("Authorization: Bearer " + bearer)
        data = b""
        if body is not None:
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            lines.append(f"Content-Length: {len(data)}")
        sock.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + data)
        status, _, got, _ = read_response(sock, method == "HEAD")
        return status, json.loads(got) if got[:1] == b"{" else got


# ---- WebSocket ----


class Closed(Exception):
    def __init__(self, code):
        super().__init__(code)
        self.code = code  # None: without a close frame


def frame(opcode, payload=b"", fin=True, rsv=0, mask=True, size=None):
    """`size`: what the head says, where that is a lie."""
    payload = payload.encode() if isinstance(payload, str) else payload
    n = len(payload) if size is None else size
    head = bytes([(0x80 if fin else 0) | rsv << 4 | opcode])
    bit = 0x80 if mask else 0
    if n < 126:
        head += bytes([bit | n])
    elif n < 65536:
        head += bytes([bit | 126]) + struct.pack(">H", n)
    else:
        head += bytes([bit | 127]) + struct.pack(">Q", n)
    if not mask:
        return head + payload
    key = b"\x01\x02\x03\x04"
    pad = (key * (len(payload) // 4 + 1))[: len(payload)]
    masked = int.from_bytes(payload, "big") ^ int.from_bytes(pad, "big")
    return head + key + masked.to_bytes(len(payload), "big")


UPGRADE = (
    "GET /v1/ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    "Sec-WebSocket-Protocol: loquat.v1.json\r\n\r\n"
).encode()


class Ws:
    def __init__(self, server, bearer=None, sock=None, receive=0):
        self.sock = sock or socket.socket()
        if sock is None:
            if receive:
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
            self.sock.settimeout(SECONDS)
            self.sock.connect(server.address)
        self.sock.sendall(UPGRADE)
        status, _, _, self.data = read_response(self.sock)
        if status != 101:
            raise RuntimeError(f"upgrade: {status}")
        self.lines = []
        self.id = 0
        self.hello = self.line()
        if bearer:
            self.ok("auth", token=bearer, device="abuse")

    def send(self, opcode, payload=b"", **how):
        self.sock.sendall(frame(opcode, payload, **how))

    def need(self, n):
        while len(self.data) < n:
            piece = self.sock.recv(1 << 20)
            if not piece:
                raise Closed(None)
            self.data += piece

    def frame(self):
        """The next frame of the server's: opcode and payload. Closed at a close frame or the end."""
        self.need(2)
        n, at = self.data[1] & 127, 2
        if n == 126:
            self.need(4)
            n, at = struct.unpack(">H", self.data[2:4])[0], 4
        elif n == 127:
            self.need(10)
            n, at = struct.unpack(">Q", self.data[2:10])[0], 10
        self.need(at + n)
        opcode, payload = self.data[0] & 15, self.data[at : at + n]
        self.data = self.data[at + n :]
        if opcode == CLOSE:
            raise Closed(struct.unpack(">H", payload[:2])[0] if len(payload) >= 2 else 1005)
        return opcode, payload

    def line(self):
        while not self.lines:
            opcode, payload = self.frame()
            if opcode == TEXT:
                self.lines = [json.loads(x) for x in payload.decode().split("\n")]
        return self.lines.pop(0)

    def ask(self, op, **fields):
        self.id += 1
        self.send(TEXT, json.dumps({"id": self.id, "op": op, **fields}))
        return self.id

    def answer(self, number):
        while True:
            message = self.line()
            if "ev" not in message and message["id"] == number:
                return message

    def call(self, op, **fields):
        return self.answer(self.ask(op, **fields))

    def ok(self, op, **fields):
        message = self.call(op, **fields)
        assert "ok" in message, (op, message)
        return message["ok"]

    def code(self, op, **fields):
        message = self.call(op, **fields)
        return message.get("err", {}).get("code", message)

    def event(self, name, **match):
        while True:
            message = self.line()
            if message.get("ev") == name and all(message.get(k) == v for k, v in match.items()):
                return message

    def closes(self):
        """Reads to the end; the close code."""
        try:
            while True:
                self.frame()
        except Closed as closed:
            return closed.code

    def close(self):
        self.sock.close()


# ---- running ----


def run(tests, workers):
    """All at once, `workers` at a time: most of them only wait. Gives a bool for each."""

    def one(test):
        began = time.monotonic()
        try:
            test()
            return f"ok    {test.__name__} ({time.monotonic() - began:.1f} s)", True
        except Exception:  # the report is the point
            return f"FAIL  {test.__name__}\n{traceback.format_exc()}", False

    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        results = []
        for text, fine in pool.map(one, tests):
            results.append(fine)
            print(text, flush=True)
    return results


def finish(results):
    print(f"{sum(results)} passed, {len(results) - sum(results)} failed")
    return 0 if all(results) else 1
