"""For kafka.py: Kafka's clients as processes, and its protocol by hand for what they never do."""

import json
import os
import signal
import socket
import struct
import subprocess
import threading

from hooks_lib import SECONDS, wait_for

TOPIC = "loquat.records"


def token(who="JOBS"):
    return os.environ["LOQUAT_TOKEN_" + who]


def kcat(address, *options, password=None, protocol="sasl_plaintext", text=None):
    """(status, lines, errors)"""
    sasl = ["-X", f"security.protocol={protocol}"]
    if protocol.startswith("sasl"):
        sasl += ["-X", "sasl.mechanism=PLAIN", "-X", "sasl.username=any", "-X",
                 "sasl.password=" + (password or token())]
    done = subprocess.run(["kcat", "-b", address, *sasl, "-X", "check.crcs=true", *options],
                          input=text, capture_output=True, text=True, timeout=SECONDS)
    return done.returncode, done.stdout.splitlines(), done.stderr


def read_all(address, *options, **more):
    """{p: [(offset, key, value)]}"""
    status, lines, errors = kcat(address, "-C", "-t", TOPIC, "-e", "-f", "%p %o %k %s\n",
                                 *(options or ("-o", "beginning")), **more)
    assert status == 0, errors
    got = {}
    for line in lines:
        p, offset, key, value = line.split(" ", 3)
        got.setdefault(int(p), []).append((int(offset), key, json.loads(value)))
    return got


class Member:
    """One of a group: a process with kafkajs (kafka_member.mjs)."""

    def __init__(self, address, group, name):
        self.said, self.name, self.group = [], name, group
        self.process = subprocess.Popen(["node", "tests/e2e/kafka_member.mjs", address, group],
                                        stdout=subprocess.PIPE, text=True)
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self):
        for line in self.process.stdout:
            self.said.append(json.loads(line))

    def of(self, what):
        """What it has read, or committed: [(p, offset)]"""
        return [(one["p"], offset) for one in list(self.said) if one["what"] == what
                for offset in one["offsets"]]

    def joined(self):
        return any(one["what"] == "joined" for one in list(self.said))

    def end(self, how=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(how)
        return self.process.wait(SECONDS)


class Raw:
    """A connection, and requests byte by byte."""

    def __init__(self, address):
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), SECONDS)
        self.number = 0

    def request(self, api, version, body=b""):
        self.number += 1
        return self.framed(struct.pack(">hhih", api, version, self.number, -1) + body)

    @staticmethod
    def framed(body):
        return struct.pack(">i", len(body)) + body

    def read(self, n):
        got = b""
        while len(got) < n:
            try:
                part = self.socket.recv(n - len(got))
            except ConnectionResetError:
                part = b""
            if not part:
                raise EOFError
            got += part
        return got

    def answer(self):
        body = self.read(struct.unpack(">i", self.read(4))[0])
        assert struct.unpack_from(">i", body)[0] == self.number
        return body[4:]

    def ask(self, api, version, body=b""):
        self.socket.sendall(self.request(api, version, body))
        return self.answer()

    def login(self, password=None):
        """The error, and what it says."""
        said = self.ask(17, 1, text("PLAIN"))
        assert said == struct.pack(">hi", 0, 1) + text("PLAIN")
        plain = b"\0any\0" + (password or token()).encode()
        said = self.ask(36, 0, struct.pack(">i", len(plain)) + plain)
        return struct.unpack_from(">h", said)[0], said[4:-4].decode()

    def closed(self):
        """Waits until the other side has closed; nothing is to come before."""
        try:
            return self.read(1) and False
        except EOFError:
            return True

    def close(self):
        self.socket.close()


class RawMember(Raw):
    """Of a group, by hand. What the group asks, it asks only when it is told to."""

    def __init__(self, address, group, session_ms=30000):
        super().__init__(address)
        assert self.login()[0] == 0
        self.group, self.member, self.generation, self.session_ms = group, "", -1, session_ms

    def ask_join(self):
        self.socket.sendall(self.request(11, 2, text(self.group) + struct.pack(
            ">ii", self.session_ms, self.session_ms) + text(self.member) + text("consumer") +
            struct.pack(">i", 1) + text("any") + struct.pack(">i", 0)))

    def joined(self):
        """(error, the ids of all members, of who leads)"""
        said = self.answer()
        err, self.generation = struct.unpack_from(">hi", said, 4)
        words, at = [], 10
        for _ in range(3):  # protocol, who leads, who I am
            n = struct.unpack_from(">h", said, at)[0]
            words.append(said[at + 2:at + 2 + n].decode())
            at += 2 + n
        count, at, ids = struct.unpack_from(">i", said, at)[0], at + 4, []
        for _ in range(count):
            n = struct.unpack_from(">h", said, at)[0]
            ids.append(said[at + 2:at + 2 + n].decode())
            at += 2 + n + 4
        self.member = words[2]
        return err, ids

    def who(self):
        return text(self.group) + struct.pack(">i", self.generation) + text(self.member)

    def sync(self, assigned):
        """(error, what it is assigned)"""
        said = self.ask(14, 0, self.who() + struct.pack(">i", len(assigned)) + b"".join(
            text(one) + struct.pack(">i", len(what)) + what for one, what in assigned.items()))
        return struct.unpack_from(">h", said)[0], said[6:]

    def heartbeat(self):
        return struct.unpack(">h", self.ask(12, 0, self.who()))[0]

    def leave(self):
        return struct.unpack(">h", self.ask(13, 0, text(self.group) + text(self.member)))[0]

    def commit(self, p, offset):
        said = self.ask(8, 2, self.who() + struct.pack(">q", -1) + topics(
            struct.pack(">iqh", p, offset, -1)))
        return struct.unpack(">h", said[-2:])[0]

    def committed(self, p):
        said = self.ask(9, 1, text(self.group) + topics(struct.pack(">i", p)))
        return struct.unpack_from(">q", said, len(said) - 12)[0]


def text(words):
    return struct.pack(">h", len(words)) + words.encode()


def topics(*parts):
    """One topic: the partitions, packed."""
    return struct.pack(">i", 1) + text(TOPIC) + struct.pack(">i", len(parts)) + b"".join(parts)


def fetch(count, offset=0, wait_ms=0, each=1 << 20):
    return struct.pack(">iiiib", -1, wait_ms, 1, 1 << 24, 0) + topics(
        *(struct.pack(">iqi", p, offset, each) for p in range(count)))


def has_kafkajs():
    return os.path.isdir("gateway/web/node_modules/kafkajs") and subprocess.run(
        ["node", "--version"], capture_output=True, check=False).returncode == 0


__all__ = ["Member", "Raw", "RawMember", "TOPIC", "fetch", "has_kafkajs", "kcat", "read_all", "text", "token",
           "topics", "wait_for"]
