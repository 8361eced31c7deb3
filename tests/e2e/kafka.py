"""kafka.py BUILD SCRATCH: see kafka.sh. Run one after the other; the last line is `N passed, N failed`."""

import asyncio
import atexit
import contextlib
import signal
import struct
import subprocess
import sys
import threading
import time

import async_lib
from hooks_lib import Gateway, Server, free_port, wait_for
from kafka_lib import (Member, Raw, RawMember, fetch, has_kafkajs, kcat, read_all, text, token, topics)

BUILD, SCRATCH = sys.argv[1:3]
PARTITIONS = 6
GROUPS = 12
nodes, gateways, members, groups = [], [], [], []
slow = silent = None  # what becomes of them is looked at later


def end_all():
    for member in members:
        with contextlib.suppress(Exception):
            member.process.send_signal(signal.SIGCONT)
            member.end(signal.SIGKILL)
    for server in gateways + nodes:
        if server.process is not None:
            server.process.send_signal(signal.SIGCONT)
            server.stop(signal.SIGKILL)


atexit.register(end_all)


def gateway(name, *options, port=None):
    one = Gateway(BUILD, SCRATCH, name, *options)
    one.kafka = f"localhost:{port or free_port()}"
    one.command += ("--kafka", one.kafka)
    gateways.append(one)
    return one.start()


def start_all():
    ports = [free_port() for _ in range(3)]
    cluster = ",".join(f"{i + 1}=127.0.0.1:{port}" for i, port in enumerate(ports))
    for i in range(3):
        nodes.append(Server(SCRATCH, f"n{i + 1}", f"{BUILD}/loquat-node", "--id", str(i + 1), "--data",
                            f"{SCRATCH}/d{i + 1}", "--cluster", cluster, "--partitions",
                            str(PARTITIONS), "--cluster-secret-file", f"{SCRATCH}/cluster"))
    starts = [threading.Thread(target=node.start) for node in nodes]
    for thread in starts:
        thread.start()
    for thread in starts:
        thread.join()
    for name in "ab":
        gateway(name, "--nodes", ",".join(f"127.0.0.1:{port}" for port in ports),
                "--cluster-secret-file", f"{SCRATCH}/cluster")


def ok(method, path, body=None):
    """Of gateway b; again while that may help."""

    def try_it():
        status, answer = gateways[1].ask(method, path, body)
        assert status == 200 or answer.get("retry"), f"{method} {path}: {status} {answer}"
        return (answer,) if status == 200 else None

    return wait_for(f"{method} {path}", try_it)[0]


def whole_feed():
    """{p: [(offset, c, record)]}"""
    got = {}
    for p in range(PARTITIONS):
        after = 0
        while True:
            page = ok("GET", f"/v1/partitions/{p}/feed?after={after}&max=4000")
            got.setdefault(p, []).extend((r["offset"], r["record"]["c"], r["record"])
                                         for r in page["records"])
            after = page["next"]
            if after >= page["head"]:
                break
    return got


def offsets_of(feed):
    return {(p, offset) for p, records in feed.items() for offset, _, _ in records}


@contextlib.contextmanager
def talk():
    """Somebody writes all the while; `count` says how much was said."""
    stop, sent = threading.Event(), []

    def run():
        while not stop.is_set():
            gateways[1].send(groups[len(sent) % GROUPS], f"t{time.time_ns()}")
            sent.append(1)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    yield lambda: len(sent)
    stop.set()
    thread.join()


def member(gate, group):
    one = Member(gate.kafka, group, f"m{len(members)}")
    members.append(one)
    return one


def lag(group):
    return ok("GET", f"/v1/consumers/{group}")["lag"]


def done_once(group, killed=()):
    """Everything is committed in the end; nobody has committed what another has. Who was killed may
    have committed what it could not say any more."""
    wait_for("all is committed", lambda: lag(group) == 0)
    mine = [m for m in members if m.group == group]
    ends = [one for m in mine for one in m.said if one["what"] == "crash" and not one["restart"]]
    assert not ends, ends
    wanted = offsets_of(whole_feed())
    read = {one for m in mine for one in m.of("read")}
    assert read == wanted, f"{len(wanted - read)} were not read, of {len(wanted)}"

    def all_said():
        said = [one for m in mine for one in m.of("committed")]
        assert len(said) == len(set(said)), "what is committed twice"
        unsaid = {one for m in killed for one in m.of("read")}
        return wanted <= set(said) | unsaid

    wait_for("their words", all_said)


async def test_kcat_reads_everything():
    global slow, silent
    start_all()
    silent = Raw(gateways[1].kafka)
    a, b = gateways
    groups.extend(a.open_group(f"kafka{i}") for i in range(GROUPS))
    for i in range(180):
        gateways[i % 2].send(groups[i % GROUPS], f"k{i}")
    for i in range(60):
        a.ok("POST", f"/v1/conversations/{groups[i % GROUPS]}/messages",
             {"kind": "text", "body": {"text": "long " * 4000}, "cid": f"long{i}"}, "ALICE")
    between = int(time.time() * 1000)
    late = [a.send(groups[0], f"late{i}") for i in range(5)]
    feed = whole_feed()
    for one in gateways:
        got = read_all(one.kafka)
        for p, records in feed.items():
            assert got.get(p, []) == records, f"{p}: {len(got.get(p, []))} of {len(records)}"
    behind = {r["s"] for records in read_all(a.kafka, "-o", f"s@{between}").values()
              for _, c, r in records if c == groups[0]}
    assert {one["s"] for one in late} <= behind and len(behind) <= len(late) + 2, "by time"
    assert read_all(a.kafka, "-o", "end") == {}
    # One that takes nothing of what it asks for.
    slow = Raw(a.kafka)
    assert slow.login()[0] == 0
    slow.socket.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        for _ in range(2000):
            slow.socket.send(slow.request(1, 4, fetch(PARTITIONS)))
    # What comes while one waits is there at once.
    p = next(p for p in feed if any(c == groups[0] for _, c, _ in feed[p]))
    raw = Raw(a.kafka)
    assert raw.login()[0] == 0
    threading.Timer(0.5, lambda: b.send(groups[0], "at last")).start()
    since = time.monotonic()
    said = raw.ask(1, 4, struct.pack(">iiiib", -1, 20000, 1, 1 << 20, 0) + topics(
        struct.pack(">iqi", p, feed[p][-1][0] + 1, 1 << 20)))
    assert b"at last" in said and time.monotonic() - since < 15
    raw.close()
    status, _, errors = kcat(a.kafka, "-P", "-t", "loquat.records", text="mine\n")
    assert status != 0 or "authorization failed" in errors, errors


async def test_a_group_of_three():
    if not has_kafkajs():
        print("left out: no kafkajs here")
        return
    three = [member(gateways[0], "three") for _ in range(3)]
    with talk() as count:
        wait_for("three at work", lambda: all(m.of("committed") for m in three), 30)
        nodes[0].stop(signal.SIGKILL)
        before = count()
        wait_for("messages without a node", lambda: count() > before + 30)
        nodes[0].start()
        assert three[0].end() == 0, "it leaves"
        fourth = member(gateways[0], "three")
        wait_for("another one at work", lambda: fourth.of("committed"))
        three[1].end(signal.SIGKILL)
        before = count()
        wait_for("messages without a member", lambda: count() > before + 30)
    done_once("three", [three[1]])
    shown = ok("GET", "/v1/consumers/three")
    assert len(shown["workers"]) == 1 and shown["workers"][0]["name"].startswith("kafka-")
    three[2].end(), fourth.end()
    wait_for("the group's end", lambda: not ok("GET", "/v1/consumers/three")["workers"])
    # Another one goes on where they were.
    gateways[0].send(groups[0], "after them")
    alone = member(gateways[0], "three")
    wait_for("it", lambda: lag("three") == 0)
    wait_for("its word", lambda: len(alone.of("committed")) == 1)
    alone.end()


async def test_two_gateways_do_not_share_a_group():
    if not has_kafkajs():
        return
    a, b = gateways
    at_a = member(a, "split")
    wait_for("one at work", lambda: at_a.of("committed"))
    at_b = member(b, "split")
    wait_for("the other is told", lambda: b.says("a Kafka group is coordinated elsewhere"))
    assert not at_b.joined()
    a.process.send_signal(signal.SIGSTOP)
    for i in range(20):
        b.send(groups[i % GROUPS], f"split{i}")
    wait_for("the other has taken it", lambda: lag("split") == 0)
    assert at_b.of("committed")
    a.process.send_signal(signal.SIGCONT)
    with talk() as count:
        wait_for("messages", lambda: count() > 30)
    wait_for("the first is told", lambda: a.says("a Kafka group is coordinated elsewhere"))
    done_once("split")
    at_a.end(signal.SIGKILL)
    at_b.end()


async def test_offsets_without_a_group():
    gate = gateways[1]
    raw = Raw(gate.kafka)
    assert raw.login()[0] == 0

    def commit(group, offset, generation=-1, who=""):
        said = raw.ask(8, 2, text(group) + struct.pack(">i", generation) + text(who) +
                       struct.pack(">q", -1) + topics(struct.pack(">iqh", 2, offset, -1)))
        return struct.unpack(">h", said[-2:])[0]

    def committed(group):
        said = raw.ask(9, 1, text(group) + topics(struct.pack(">i", 2)))
        return struct.unpack(">qhh", said[-12:])[0::2]

    last = whole_feed()[2][-1][0]
    assert committed("alone") == (-1, 0), "nothing yet"
    wait_for("a new cluster's first moments", lambda: commit("alone", last + 1) != 15)
    assert committed("alone") == (last + 1, 0), f"{last}: {committed('alone')}"
    assert next(p for p in ok("GET", "/v1/consumers/alone")["partitions"] if p["p"] == 2)["lag"] == 0
    assert commit("alone", last - 100) == 0 and committed("alone") == (last - 100, 0)
    assert commit("alone", last + (1 << 40)) == 1, "ahead of all"
    assert commit("alone", last, 1, "nobody") == 25
    assert commit("no/name", last) == 24
    # What is begun over HTTP at the end goes on there, even where nothing was written since.
    ok("PUT", "/v1/consumers/begun", {"from": "now"})
    assert committed("begun")[0] == last + 1
    webhook = {"webhook": {"url": "https://example.org/"}}
    gate.ok("PUT", "/v1/consumers/hooked", webhook)
    assert commit("hooked", last) == 24, "gateways send that one"
    ok("DELETE", "/v1/consumers/hooked")
    # Out of the feed, and no partition.
    said = raw.ask(1, 4, struct.pack(">iiiib", -1, 0, 1, 1 << 20, 0) + topics(
        struct.pack(">iqi", 2, last + (1 << 40), 1 << 20), struct.pack(">iqi", 99, 0, 1 << 20)))
    assert struct.unpack_from(">h", said, 32)[0] == 1 and struct.unpack_from(">h", said, 62)[0] == 3
    raw.close()


async def test_a_group_step_by_step():
    gate = gateways[1]
    last = whole_feed()[2][-1][0]
    one, two = RawMember(gate.kafka, "steps"), RawMember(gate.kafka, "steps", 1500)

    def join_first():
        one.ask_join()
        return one.joined()[0] == 0

    wait_for("its group", join_first)
    first = one.generation
    assert one.heartbeat() == 0 and one.commit(2, last - 5) == 27, "nothing is assigned yet"
    assert one.sync({one.member: b"all"}) == (0, b"all")
    assert one.committed(2) == -1 and one.commit(2, last - 5) == 0 and one.committed(2) == last - 5
    # Another one comes: all join again, and what is of the generation before counts no more.
    two.ask_join()
    wait_for("word of it", lambda: one.heartbeat() == 27)
    assert one.commit(2, last - 4) == 0, "what was done until then"
    one.ask_join()
    err, ids = one.joined()
    assert err == 0 and two.joined() == (0, []) and set(ids) == {one.member, two.member}
    assert one.generation == two.generation > first
    one.generation -= 1
    assert one.heartbeat() == 22 and one.sync({})[0] == 22 and one.commit(2, last - 3) == 22
    one.generation += 1
    assert one.sync({one.member: b"a", two.member: b"b"}) == (0, b"a") and two.sync({}) == (0, b"b")
    assert two.commit(2, last - 3) == 0 and one.committed(2) == last - 3
    two.member, mine = "nobody", two.member
    assert two.heartbeat() == 25 and two.commit(2, last) == 25 and two.leave() == 25
    two.member = mine
    # One says nothing for its session; then the other leaves.
    wait_for("the other's end", lambda: one.heartbeat() == 27)
    assert two.commit(2, last) == 25
    one.ask_join()
    err, ids = one.joined()
    assert err == 0 and ids == [one.member] and one.sync({one.member: b"all"}) == (0, b"all")
    # Somebody else has taken the partition in the store: it is refused there, and lets go.
    share = gate.ok("PUT", "/v1/consumers/steps/workers/other", {"ttl_ms": 60000})
    taken = gate.ok("PUT", "/v1/consumers/steps/2", {"take": True, "generation": share["generation"] + 1000})
    assert taken["offset"] == last - 4
    assert one.commit(2, last) == 16 and one.heartbeat() == 25
    one.member = ""
    one.ask_join()
    assert one.joined()[0] == 15, "as long as the other is there"
    gate.ok("DELETE", "/v1/consumers/steps/workers/other")
    one.member = ""
    wait_for("it is free", join_first)
    assert one.leave() == 0
    one.close(), two.close()


async def test_who_is_refused():
    gate = gateways[1]
    for who, why in (("not.a.token", ""), (token("ALICE"), "scope jobs"), (token("SEND"), "scope jobs")):
        raw = Raw(gate.kafka)
        err, said = raw.login(who)
        assert err == 58 and why in said and raw.closed(), said
    status, _, errors = kcat(gate.kafka, "-L", password=token("ALICE"))
    assert status != 0 and "scope jobs" in errors, errors
    status, _, errors = kcat(gate.kafka, "-L", "-m", "3", protocol="plaintext")
    assert status != 0, "without a token"
    for before, what in (
            (False, lambda raw: raw.request(3, 1, struct.pack(">i", -1))),  # before there was a token
            (False, lambda raw: struct.pack(">i", 20000)),
            (False, lambda raw: struct.pack(">i", -1)),
            (False, lambda raw: b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"),
            (False, lambda raw: raw.framed(b"\0" * 7)),
            (True, lambda raw: struct.pack(">i", (1 << 20) + 1)),
            (True, lambda raw: raw.framed(b"\x7f" * 100)),
            (True, lambda raw: raw.request(3, 9)),
            (True, lambda raw: raw.request(1, 4, fetch(3)[:-1])),
            (True, lambda raw: raw.request(1, 4, fetch(3) + b"x")),
            (True, lambda raw: raw.request(1, 4, fetch(2000)))):
        raw = Raw(gate.kafka)
        if before:
            assert raw.login()[0] == 0
        raw.socket.sendall(what(raw))
        assert raw.closed()
    # Unknown versions of ApiVersions are answered; SaslHandshake 0 has a token without a request.
    raw = Raw(gate.kafka)
    assert struct.unpack_from(">h", raw.ask(18, 9))[0] == 35
    assert struct.unpack_from(">h", raw.ask(17, 1, text("GSSAPI")))[0] == 33
    assert raw.ask(17, 0, text("PLAIN"))[:2] == b"\0\0"
    raw.socket.sendall(raw.framed(b"\0any\0" + token().encode()))
    assert raw.read(4) == b"\0\0\0\0"
    assert TOPIC_BYTES in raw.ask(3, 1, struct.pack(">i", -1))
    raw.close()
    # With its token a connection ends.
    brief = subprocess.run([f"{BUILD}/loquat-log", "token", "--user", "w", "--scope", "jobs", "--ttl", "2",
                            "--secret-file", f"{SCRATCH}/secret"], capture_output=True, text=True, check=True)
    raw = Raw(gate.kafka)
    assert raw.login(brief.stdout.strip())[0] == 0 and raw.closed()
    assert silent.closed(), "who says nothing is not waited for"
    assert gate.metric('loquat_kafka_refused_total{reason="token"}') >= 4
    assert gate.metric('loquat_kafka_refused_total{reason="no_token"}') >= 3
    assert gate.metric('loquat_kafka_refused_total{reason="malformed"}') >= 6
    assert gate.metric('loquat_kafka_refused_total{reason="too_large"}') >= 4


TOPIC_BYTES = b"loquat.records"


async def test_over_tls():
    port = free_port()
    one = gateway("tls", "--embed", f"{SCRATCH}/tls", "--tls-cert", f"{SCRATCH}/tls.pem", "--tls-key",
                  f"{SCRATCH}/tls.key", "--kafka-advertise", f"localhost:{port}", port=port)
    ca = ("-X", f"ssl.ca.location={SCRATCH}/tls.pem")
    status, lines, errors = kcat(one.kafka, "-L", *ca, protocol="sasl_ssl")
    assert status == 0 and any(one.kafka in line for line in lines), errors
    assert read_all(one.kafka, "-o", "beginning", *ca, protocol="sasl_ssl") == {}
    raw = Raw(one.kafka)
    raw.socket.sendall(raw.request(18, 0))
    with contextlib.suppress(EOFError):
        raw.read(1 << 20)  # at most an alert, and the end
    assert one.stop() == 0


async def test_who_takes_nothing_is_cut():
    await asyncio.to_thread(wait_for, "its end", lambda: gateways[0].metric(
        'loquat_kafka_refused_total{reason="stuck"}') == 1)
    for server in gateways + nodes:
        if server.process is not None:
            assert server.stop() == 0


async_lib.main(globals())
