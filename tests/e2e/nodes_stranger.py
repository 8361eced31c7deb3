"""Calls on a node as somebody who does not know the secret: nodes_stranger.py PORT."""

import concurrent.futures
import socket
import sys
import time

PORT = int(sys.argv[1])
HELLO = b"lqhs\x01\x01\x00\x00" + bytes(32)
FRAMES = b"lq\x01\x00" + bytes(12)
SECONDS = 8  # a node waits five


def call(sent):
    """What came until the node hung up, and after how long that was."""
    started = time.monotonic()
    with socket.create_connection(("127.0.0.1", PORT), SECONDS) as sock:
        sock.sendall(sent)
        got = b""
        while True:
            try:
                piece = sock.recv(4096)
            except ConnectionResetError:
                break
            if not piece:
                break
            got += piece
    return got, time.monotonic() - started


CASES = (
    ("garbage", b"GET / HTTP/1.1\r\nHost: x\r\nAccept: everything there is\r\n\r\n", 0, False),
    ("frames without a hello", FRAMES * 4, 0, False),
    ("a role that there is not", HELLO[:5] + b"\x03" + HELLO[6:], 0, False),
    ("a wrong proof", HELLO + bytes(32), 40, False),
    ("half a hello", HELLO[:20], 0, True),
    ("a hello and silence", HELLO, 40, True),
)
with concurrent.futures.ThreadPoolExecutor(len(CASES)) as pool:
    for (name, _, size, slow), (got, took) in zip(CASES, pool.map(call, (case[1] for case in CASES))):
        assert len(got) == size, (name, got)
        assert took > 3 if slow else took < 2, (name, took)
        print(f"{name}: {len(got)} bytes, cut after {took:.1f} s")

# Many who are silent do not keep others away.
crowd = [socket.create_connection(("127.0.0.1", PORT)) for _ in range(200)]
got, took = call(HELLO + bytes(32))
assert len(got) == 40 and took < 2, (got, took)
for sock in crowd:
    sock.close()
print("200 silent ones keep nobody away")
