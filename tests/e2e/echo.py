#!/usr/bin/python3
"""The WebSocket layer by itself, through `loquat-gateway --ws-echo`: what the Autobahn suite asks in
its groups 1 to 7, 9, 10, 12 and 13, with bare frames and with python3-websockets.

BUILD names the build directory. The last line is `N passed, N failed`.
"""

import asyncio
import os
import random
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import zlib

import websockets

from abuse_lib import BINARY, BUILD, CLOSE, PING, PONG, SECONDS, TEXT, finish, frame, read_response, run

CONT = 0
CONNS_MAX = 64
MIB = 1 << 20
SIZES = (0, 1, 124, 125, 126, 127, 128, 255, 256, 4095, 65534, 65535, 65536, 65537)
DEFLATE = "permessage-deflate"


class Echo:
    def __init__(self):
        self.process = subprocess.Popen(
            [BUILD + "/loquat-gateway", "--ws-echo", "--listen", "127.0.0.1:0", "--log-level", "warn"],
            stdout=subprocess.PIPE,
        )
        ready = re.fullmatch(r"ready listen=([\d.]+):(\d+)\n", self.process.stdout.readline().decode())
        self.address = (ready.group(1), int(ready.group(2)))

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return "killed"


class Raw:
    """A connection of bare frames. `offer`: a value of Sec-WebSocket-Extensions."""

    def __init__(self, offer=None, server=None, receive=0):
        self.sock = socket.socket()
        self.sock.settimeout(SECONDS)
        if receive:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
        self.sock.connect((server or SERVER).address)
        lines = [
            "GET / HTTP/1.1", "Host: x", "Connection: Upgrade", "Upgrade: websocket",
            "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        ]
        if offer:
            lines.append("Sec-WebSocket-Extensions: " + offer)
        self.sock.sendall("\r\n".join(lines).encode() + b"\r\n\r\n")
        status, headers, _, rest = read_response(self.sock)
        assert status == 101, status
        assert headers["sec-websocket-accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        self.extensions = headers.get("sec-websocket-extensions")
        self.data = bytearray(rest)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()

    def send(self, *frames):
        self.sock.sendall(b"".join(frames))

    def take(self, n):
        while len(self.data) < n:
            piece = self.sock.recv(MIB)
            if not piece:
                raise EOFError
            self.data += piece
        taken = bytes(self.data[:n])
        del self.data[:n]
        return taken

    def head(self):
        """Of the next frame: opcode, RSV1, size. The server never masks and never fragments."""
        first, n = self.take(2)
        assert first & 0xB0 == 0x80 and n < 128, (first, n)
        if n == 126:
            n = struct.unpack(">H", self.take(2))[0]
            assert n >= 126, n
        elif n == 127:
            n = struct.unpack(">Q", self.take(8))[0]
            assert n >= 65536, n
        return first & 15, bool(first & 0x40), n

    def frame(self):
        opcode, compressed, n = self.head()
        assert not compressed
        return opcode, self.take(n)

    def message(self, bits=15):
        opcode, compressed, n = self.head()
        payload = self.take(n)
        if compressed:
            inflater = zlib.decompressobj(-bits)
            payload = inflater.decompress(payload + b"\x00\x00\xff\xff") + inflater.flush()
        return opcode, payload

    def expect(self, opcode, payload, what=None):
        got = self.frame()
        assert got == (opcode, payload), (what, got[0], got[1][:80], len(got[1]), opcode, payload[:80], len(payload))

    def closes(self, payload, what=None):
        """The next frame is this close, the only one, and then the server ends the connection."""
        if isinstance(payload, int):
            payload = struct.pack(">H", payload)
        self.expect(CLOSE, payload, what)
        try:
            more = self.take(1)
        except EOFError:
            return
        raise AssertionError((what, more))


def refused(code, *frames, offer=None, before=()):
    with Raw(offer) as ws:
        ws.send(*frames)
        for opcode, payload in before:
            ws.expect(opcode, payload, frames)
        ws.closes(code, [f[:20] for f in frames])


def text_of(n):
    return (b"*-" * (n // 2 + 1))[:n]


def cut(data, n):
    """As frames of a text message of n bytes each."""
    pieces = [data[i : i + n] for i in range(0, len(data), n)] or [b""]
    last = len(pieces) - 1
    return [frame(CONT if i else TEXT, piece, fin=i == last) for i, piece in enumerate(pieces)]


# ---- 1, 10: payloads ----


def payloads_of_every_length_of_head():
    with Raw() as ws:
        for n in SIZES:
            for opcode, payload in ((TEXT, text_of(n)), (BINARY, os.urandom(n))):
                ws.send(frame(opcode, payload))
                ws.expect(opcode, payload, n)


def a_frame_octet_by_octet():
    with Raw() as ws:
        ws.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for n in (5, 126, 300):
            for octet in frame(TEXT, text_of(n)):
                ws.send(bytes([octet]))
            ws.expect(TEXT, text_of(n))


def fragments_of_one_size():
    with Raw() as ws:
        ws.send(*cut(text_of(65536), 1300))
        ws.expect(TEXT, text_of(65536))


def many_messages_at_once_come_back_in_order():
    with Raw() as ws:
        ws.send(*(frame(TEXT, str(i)) for i in range(2000)))
        for i in range(2000):
            ws.expect(TEXT, str(i).encode())


# ---- 2: pings ----


def pings_and_pongs():
    with Raw() as ws:
        for payload in (b"", b"hello", bytes(range(0xF8, 0x100)), os.urandom(125)):
            ws.send(frame(PING, payload))
            ws.expect(PONG, payload)
        ws.send(frame(PONG), frame(PONG, "unasked"), frame(PING, "x"))
        ws.expect(PONG, b"x")
        ws.send(*(frame(PING, f"payload {i}") for i in range(10)))
        for i in range(10):
            ws.expect(PONG, f"payload {i}".encode())
        for octet in frame(PING, b"z" * 125):
            ws.send(bytes([octet]))
        ws.expect(PONG, b"z" * 125)
    refused(1002, frame(PING, b"x" * 126))
    refused(1002, frame(PONG, b"x" * 126))


# ---- 3: reserved bits; masks ----


def reserved_bits():
    hello = frame(TEXT, "hello")
    for rsv in range(1, 8):
        for opcode in (TEXT, BINARY, PING, PONG, CLOSE):
            refused(1002, hello, frame(opcode, rsv=rsv), before=[(TEXT, b"hello")])
            if rsv != 4 or opcode not in (TEXT, BINARY):
                refused(1002, frame(opcode, rsv=rsv), offer=DEFLATE)
    refused(1002, frame(TEXT, "a", fin=False), frame(CONT, "b", rsv=4), offer=DEFLATE)


def frames_without_a_mask():
    refused(1002, frame(TEXT, "hello", mask=False))
    refused(1002, frame(PING, "hello", mask=False))


# ---- 4: opcodes ----


def opcodes_that_mean_nothing():
    for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15):
        for payload in (b"", b"x"):
            refused(1002, frame(TEXT, "hi"), frame(opcode, payload), frame(PING), before=[(TEXT, b"hi")])


# ---- 5: fragments ----


def control_frames_in_fragments():
    for opcode in (PING, PONG, CLOSE):
        refused(1002, frame(opcode, "ab", fin=False), frame(CONT, "cd"))


def control_frames_between_fragments():
    with Raw() as ws:
        for opcode in (TEXT, BINARY):
            ws.send(frame(opcode, "frag", fin=False))
            for i in range(5):
                ws.send(frame(PING, str(i)))
                ws.expect(PONG, str(i).encode())  # at once, not when the message is whole
                ws.send(frame(CONT, f"-{i}", fin=False), frame(PONG, "unasked"))
            ws.send(frame(PING, "last"), frame(CONT, "ment"))
            ws.expect(PONG, b"last")
            ws.expect(opcode, b"frag-0-1-2-3-4ment")


def empty_fragments():
    with Raw() as ws:
        ws.send(frame(TEXT, fin=False), frame(CONT, fin=False), frame(CONT))
        ws.expect(TEXT, b"")
        ws.send(frame(TEXT, fin=False), frame(CONT, "mid", fin=False), frame(CONT))
        ws.expect(TEXT, b"mid")


def continuations_of_nothing():
    for fin in (True, False):
        refused(1002, frame(CONT, "x", fin=fin), frame(TEXT, "y"))
        refused(1002, frame(TEXT, "a", fin=False), frame(CONT, "b"), frame(CONT, "c", fin=fin), before=[(TEXT, b"ab")])
    for opcode in (TEXT, BINARY):
        refused(1002, frame(TEXT, "a", fin=False), frame(opcode, "b"))


# ---- 6: UTF-8 ----

GOOD = "κόσμε \U0001f600 \u0080\u07ff\u0800\ud7ff\ue000\uffff\U00010000\U0010ffff".encode()
SEQUENCES = [
    *(bytes([lead, low]) for lead in (0x80, 0xC0, 0xC1, 0xC2, 0xDF, 0xF5, 0xFE, 0xFF) for low in (0x41, 0x80, 0xBF)),
    *(
        bytes([lead, second, 0x80])
        for lead in (0xE0, 0xE1, 0xED, 0xEF)
        for second in (0x7F, 0x80, 0x9F, 0xA0, 0xBF, 0xC0)
    ),
    *(
        bytes([lead, second, 0x80, 0xBF])
        for lead in (0xF0, 0xF1, 0xF4, 0xF5)
        for second in (0x7F, 0x80, 0x8F, 0x90, 0xBF, 0xC0)
    ),
    b"\xe2\x82\x41", b"\xf0\x9f\x98\x41", b"\xf0\x9f\x41", b"\xf8\x88\x80\x80\x80", b"\xfc\x84\x80\x80\x80\x80",
    b"\xef\xbf\xbf", b"\xf0\x9f\xbf\xbf", b"\xed\xa0\x80\xed\xb0\x80",
]  # fmt: skip


def may_begin_text(octets):
    """Whether some more octets make valid UTF-8 of these; by trying."""
    for second in (b"\x80", b"\x90", b"\xa0"):
        for more in (b"", second, second + b"\x80", second + b"\x80\x80"):
            try:
                (octets + more).decode()
                return True
            except UnicodeDecodeError:
                pass
    return False


def first_wrong(front, sequence):
    """The first octet after `front` with which nothing can be text any more; None: all may be."""
    for i in range(len(sequence)):
        if not may_begin_text(front + sequence[: i + 1]):
            return len(front) + i
    return None


def good_text_in_fragments_of_any_size():
    with Raw() as ws:
        for n in range(1, len(GOOD) + 1):
            ws.send(*cut(GOOD, n))
            ws.expect(TEXT, GOOD, n)


def bad_text_is_refused_at_its_first_wrong_octet():
    """In one frame that is never completed, and as fragments; one octet earlier it is still fine."""
    seen = 0
    for sequence in SEQUENCES:
        for front in (b"", GOOD, b"x" * 200):
            text = front + sequence
            at = first_wrong(front, sequence)
            if at is None:
                with Raw() as ws:
                    ws.send(frame(TEXT, text + b"!"))
                    ws.expect(TEXT, text + b"!", sequence)
                continue
            seen += 1
            whole = frame(TEXT, text + b"y" * 20)
            start = len(whole) - len(text) - 20
            refused(1007, whole[: start + at + 1])
            with Raw() as ws:
                ws.send(frame(TEXT, text[:at], fin=False), frame(PING))
                ws.expect(PONG, b"", sequence)
                ws.send(frame(CONT, text[at : at + 1], fin=False))
                ws.closes(1007, sequence)
    assert seen > 100, seen


def text_that_ends_inside_a_character():
    for character in ("é", "€", "\U0001f600"):
        data = character.encode()
        for n in range(1, len(data)):
            refused(1007, frame(TEXT, b"abc" + data[:n]))
            refused(1007, frame(TEXT, b"abc", fin=False), frame(CONT, data[:n], fin=False), frame(CONT))
    with Raw() as ws:  # bytes are no text
        ws.send(frame(BINARY, b"\xff\xc0\x80"))
        ws.expect(BINARY, b"\xff\xc0\x80")


# ---- 7: closing ----


def close_frames_are_answered():
    refused(b"", frame(CLOSE))
    for code in (*range(1000, 1004), *range(1007, 1015), 3000, 3999, 4000, 4999):
        for reason in (b"", b"bye", b"*" * 123):
            refused(code, frame(CLOSE, struct.pack(">H", code) + reason), frame(TEXT, "late"), frame(PING))


def close_codes_that_may_not_be_sent():
    for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535):
        refused(1002, frame(CLOSE, struct.pack(">H", code)))
        refused(1002, frame(CLOSE, struct.pack(">H", code) + b"why"))


def close_frames_that_are_malformed():
    refused(1002, frame(CLOSE, b"\x03"))
    refused(1002, frame(CLOSE, struct.pack(">H", 1000) + b"*" * 124))
    refused(1007, frame(CLOSE, struct.pack(">H", 1000) + b"\xce\xba\xe1\xbd\xb9\xed\xa0\x80"))
    refused(1007, frame(CLOSE, struct.pack(">H", 1000) + b"\xce"))


def closing_inside_a_message():
    refused(1000, frame(TEXT, "frag", fin=False), frame(CLOSE, b"\x03\xe8"), frame(CONT, "ment"))


def a_close_after_much_loses_nothing():
    big = text_of(256 << 10)
    refused(1000, frame(TEXT, big), frame(CLOSE, b"\x03\xe8"), frame(PING), before=[(TEXT, big)])
    refused(1002, frame(TEXT, rsv=1), b"\x00" * MIB)  # what comes behind does not reset the connection


# ---- 9: long messages ----


def sixteen_mib():
    big = text_of(16 * MIB)
    with Raw() as ws:
        for opcode in (TEXT, BINARY):
            ws.send(frame(opcode, big))
            ws.expect(opcode, big)
        ws.send(*cut(big, 64 << 10))
        ws.expect(TEXT, big)


def a_mib_in_small_fragments():
    big = text_of(MIB)
    with Raw() as ws:
        ws.send(*cut(big, 64))
        ws.expect(TEXT, big)
        data = frame(BINARY, big)
        for at in range(0, len(data), 700):
            ws.send(data[at : at + 700])
        ws.expect(BINARY, big)


def over_the_bound():
    refused(1009, frame(BINARY, "x", size=17 * MIB))
    refused(1009, frame(TEXT, text_of(16 * MIB), fin=False), frame(CONT, "x", size=MIB))


# ---- 12, 13: compression ----


def squeeze(data, bits=15, level=6):
    deflater = zlib.compressobj(level, zlib.DEFLATED, -bits)
    out = deflater.compress(data) + deflater.flush(zlib.Z_SYNC_FLUSH)
    assert out.endswith(b"\x00\x00\xff\xff")
    return out[:-4]


def some_json(n, rng):
    words = ["chat", "loquat", "message", "κόσμε", "\U0001f600", '{"id":', '"text":"', '"},', "\n"]
    text = "".join(rng.choice(words) for _ in range(n // 4 + 1)).encode()[:n]
    return text.decode(errors="ignore").encode().ljust(n, b"*")


def compressed_texts_of_every_size():
    rng = random.Random(7)
    small = 0
    with Raw(DEFLATE) as ws:
        assert ws.extensions.startswith(DEFLATE), ws.extensions
        for n in (*SIZES, 16, 64, 257, 1024, 4096, 8192, 16384, 32768, 131072, 131073):
            for opcode, data in ((TEXT, some_json(n, rng)), (BINARY, rng.randbytes(n))):
                ws.send(frame(opcode, squeeze(data), rsv=4))
                head = ws.head()
                payload = ws.take(head[2])
                if head[1]:
                    small += len(payload) < n
                    payload = zlib.decompressobj(-15).decompress(payload + b"\x00\x00\xff\xff")
                assert (head[0], payload) == (opcode, data), (n, head)
                ws.send(frame(opcode, data))  # uncompressed is allowed still
                assert ws.message() == (opcode, data), n
    assert small >= 10, small


def every_window_that_a_client_may_ask_for():
    data = some_json(131072, random.Random(8))
    for bits in range(8, 16):
        with Raw(f"{DEFLATE}; server_no_context_takeover; server_max_window_bits={bits}") as ws:
            ws.send(frame(TEXT, squeeze(data), rsv=4))
            assert ws.message(bits) == (TEXT, data), bits
    for offer in ("client_max_window_bits", "client_max_window_bits=9", "client_no_context_takeover"):
        with Raw(f"{DEFLATE}; {offer}") as ws:
            assert ws.extensions, offer
            ws.send(frame(TEXT, squeeze(data, 9), rsv=4))
            assert ws.message() == (TEXT, data), offer
    for offer in ("x-unknown", f"{DEFLATE}; server_max_window_bits=7", f"{DEFLATE}; unknown"):
        with Raw(offer) as ws:
            assert ws.extensions is None, offer
            ws.send(frame(TEXT, data))
            ws.expect(TEXT, data)


def compressed_fragments():
    data = some_json(70000, random.Random(9))
    packed = squeeze(data)
    with Raw(DEFLATE) as ws:
        for n in (1000, 4096, len(packed)):
            ws.send(frame(TEXT, packed[:n], fin=n >= len(packed), rsv=4))
            for at in range(n, len(packed), n):
                ws.send(frame(PING, "p"))
                ws.expect(PONG, b"p")
                ws.send(frame(CONT, packed[at : at + n], fin=at + n >= len(packed)))
            assert ws.message() == (TEXT, data), n


def compressed_wrongly():
    refused(1007, frame(TEXT, squeeze(b"x" * 300 + b"\xff"), rsv=4), offer=DEFLATE)
    refused(1007, frame(TEXT, b"\xff\xff\xff", rsv=4), offer=DEFLATE)
    refused(1009, frame(TEXT, squeeze(bytes(17 * MIB)), rsv=4), offer=DEFLATE)


def sixteen_mib_compressed():
    big = text_of(16 * MIB)
    with Raw(DEFLATE) as ws:
        ws.send(frame(TEXT, squeeze(big), rsv=4))
        assert ws.message() == (TEXT, big)


# ---- a library; bounds; the end ----


def python3_websockets():
    async def talk(compression):
        rng = random.Random(10)
        url = "ws://%s:%d/any/path" % SERVER.address
        async with websockets.connect(url, compression=compression, max_size=None) as ws:
            for n in (0, 1, 125, 126, 65535, 65536, 131072, 4 * MIB):
                for data in (some_json(n, rng).decode(), rng.randbytes(n)):
                    await ws.send(data)
                    assert await ws.recv() == data, n
            await ws.send(["in ", "three ", "pieces"])
            assert await ws.recv() == "in three pieces"
            await (await ws.ping("ping"))
            await ws.close(4321, "bye")
            assert ws.close_code == 4321

    for compression in (None, "deflate"):
        asyncio.run(asyncio.wait_for(talk(compression), SECONDS))


def what_is_no_handshake():
    upgrade = b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
    key = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    for lines, wanted in (
        (b"", 426),
        (upgrade + key + b"Sec-WebSocket-Version: 8\r\n", 426),
        (upgrade + b"Sec-WebSocket-Version: 13\r\n", 400),
        (upgrade + key + b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Extensions: ;;\r\n", 400),
        (b"no header\r\n", 400),
    ):
        with socket.create_connection(SERVER.address, SECONDS) as sock:
            sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n" + lines + b"\r\n")
            assert read_response(sock)[0] == wanted, lines
            assert sock.recv(1) == b""


def who_does_not_read_is_not_read():
    """Sending ends when some MiB wait beyond what the kernel may hold; once it is read, all comes back."""
    message = frame(BINARY, os.urandom(MIB))
    with open("/proc/sys/net/ipv4/tcp_rmem") as reads, open("/proc/sys/net/ipv4/tcp_wmem") as writes:
        most = 16 + (int(reads.read().split()[2]) + 2 * int(writes.read().split()[2])) // MIB
    with Raw(receive=65536) as ws:
        ws.sock.setblocking(False)
        sent = at = 0
        while sent < 2 * most and select.select([], [ws.sock], [], 1)[1]:
            at += ws.sock.send(message[at:])
            if at == len(message):
                sent, at = sent + 1, 0
        assert 4 <= sent < most, (sent, most)
        ws.sock.settimeout(SECONDS)
        for _ in range(sent):
            assert ws.frame() == (BINARY, message_payload(message))


def message_payload(data):
    key, masked = data[10:14], data[14:]
    pad = key * (len(masked) // 4)
    return (int.from_bytes(masked, "big") ^ int.from_bytes(pad, "big")).to_bytes(len(masked), "big")


def as_many_as_may_be_and_the_end():
    server = Echo()
    peers = []
    try:
        peers = [Raw(server=server) for _ in range(CONNS_MAX)]
        with socket.create_connection(server.address, SECONDS) as sock:
            assert sock.recv(1) == b"", "one too many"
        server.process.send_signal(signal.SIGTERM)
        for peer in peers:
            peer.closes(struct.pack(">H", 1001) + b"the server ends")
            peer.sock.close()
        assert server.process.wait(SECONDS) == 0
    finally:
        for peer in peers:
            peer.sock.close()
        if server.process.poll() is None:
            server.stop()


TESTS = [
    payloads_of_every_length_of_head, a_frame_octet_by_octet, fragments_of_one_size,
    many_messages_at_once_come_back_in_order, pings_and_pongs, reserved_bits, frames_without_a_mask,
    opcodes_that_mean_nothing, control_frames_in_fragments, control_frames_between_fragments, empty_fragments,
    continuations_of_nothing, good_text_in_fragments_of_any_size, bad_text_is_refused_at_its_first_wrong_octet,
    text_that_ends_inside_a_character, close_frames_are_answered, close_codes_that_may_not_be_sent,
    close_frames_that_are_malformed, closing_inside_a_message, a_close_after_much_loses_nothing, sixteen_mib,
    a_mib_in_small_fragments, over_the_bound, compressed_texts_of_every_size,
    every_window_that_a_client_may_ask_for, compressed_fragments, compressed_wrongly, sixteen_mib_compressed,
    python3_websockets, what_is_no_handshake, who_does_not_read_is_not_read, as_many_as_may_be_and_the_end,
]  # fmt: skip


def sigterm_ends_it_with_0():
    assert SERVER.stop() == 0


if __name__ == "__main__":
    SERVER = Echo()
    try:
        results = run(TESTS, 4)
        results += run([sigterm_ends_it_with_0], 1)
    finally:
        if SERVER.process.poll() is None:
            SERVER.stop()
    sys.exit(finish(results))
