"""jobs.py BUILD SCRATCH: see jobs.sh. Run one after the other; the last line is `N passed, N failed`."""

import atexit
import json
import signal
import sys
import threading
import time
import urllib.request

import async_lib
from hooks_lib import Gateway, Server, free_port, wait_for

BUILD, SCRATCH = sys.argv[1:3]
PARTITIONS = 6
GROUPS = 24
nodes, gateways, admins = [], [], []


def start_all():
    ports = [free_port() for _ in range(3)]
    admins.extend(free_port() for _ in range(3))
    cluster = ",".join(f"{i + 1}=127.0.0.1:{port}" for i, port in enumerate(ports))
    for i in range(3):
        nodes.append(Server(SCRATCH, f"n{i + 1}", f"{BUILD}/loquat-node", "--id", str(i + 1), "--data",
                            f"{SCRATCH}/d{i + 1}", "--admin-listen", f"127.0.0.1:{admins[i]}", "--cluster", cluster, "--partitions",
                            str(PARTITIONS), "--cluster-secret-file", f"{SCRATCH}/cluster"))
    starts = [threading.Thread(target=node.start) for node in nodes]
    for thread in starts:
        thread.start()
    for thread in starts:
        thread.join()
    for name in "ab":
        gateways.append(Gateway(BUILD, SCRATCH, name, "--nodes",
                                ",".join(f"127.0.0.1:{port}" for port in ports),
                                "--cluster-secret-file", f"{SCRATCH}/cluster").start())


def end_all():
    for server in gateways + nodes:
        if server.process is not None:
            server.stop(signal.SIGKILL)


atexit.register(end_all)


def asked(method, path, body=None, gate=None, until=200):
    """Again while that may help: a gateway or a leader has gone for a moment. (status, answer)"""

    def try_it():
        for one in [gate] if gate else gateways:
            try:
                status, answer = one.ask(method, path, body)
            except OSError:
                continue
            if status == until or not answer.get("retry"):
                return status, answer
        return None

    return wait_for(f"{method} {path}", try_it)


def ok(method, path, body=None):
    status, answer = asked(method, path, body)
    assert status == 200, f"{method} {path}: {status} {answer}"
    return answer


def whole_feed(p):
    records, after = [], 0
    while True:
        page = ok("GET", f"/v1/partitions/{p}/feed?after={after}&max=7")
        records += page["records"]
        if page["next"] >= page["head"]:
            return records
        assert page["next"] > after
        after = page["next"]


class Worker(threading.Thread):
    """Reads what it is given, and says so: moved[p] are (was, offset) that the server took."""

    def __init__(self, name):
        super().__init__(daemon=True)
        self.name, self.moved, self.read = name, [], set()
        self.stopped = self.died = False
        self.start()

    def run(self):
        generation, places, join_at = 0, {}, 0
        while not self.stopped and not self.died:
            if time.monotonic() >= join_at:
                share = ok("PUT", f"/v1/consumers/job/workers/{self.name}", {"ttl_ms": 3000})
                join_at = time.monotonic() + 1
                if share["generation"] != generation:
                    generation, places = share["generation"], {}
                for p in share["partitions"]:
                    if p in places:
                        continue
                    status, answer = asked("PUT", f"/v1/consumers/job/{p}",
                                           {"take": True, "generation": generation})
                    if status == 200:
                        places[p] = answer["offset"]
                    else:
                        assert status == 409, answer
            for p in list(places):
                self.step(p, generation, places)
            time.sleep(0.005)
        if self.stopped:
            ok("DELETE", f"/v1/consumers/job/workers/{self.name}")

    def step(self, p, generation, places):
        page = ok("GET", f"/v1/partitions/{p}/feed?after={places[p]}&max=20&wait_ms=20")
        if page["next"] == places[p] or self.died:
            return
        status, answer = asked("PUT", f"/v1/consumers/job/{p}",
                               {"offset": page["next"], "generation": generation, "was": places[p]})
        if status == 409:
            del places[p]
            return
        assert status == 200, answer
        self.moved.append((p, places[p], page["next"]))
        self.read |= {(p, r["offset"]) for r in page["records"]}
        places[p] = page["next"]


async def test_feeds_have_everything_in_order():
    start_all()
    groups = [gateways[0].open_group(f"feed{i}") for i in range(GROUPS)]
    for i in range(240):
        gateways[i % 2].send(groups[i % GROUPS], f"f{i}")
    feeds = {p: whole_feed(p) for p in range(PARTITIONS)}
    assert all(feeds.values()), "every partition has some"
    mids = {}
    for p, records in feeds.items():
        offsets = [r["offset"] for r in records]
        assert offsets == sorted(set(offsets)), "offsets rise"
        assert [int(r["record"]["mid"]) for r in records] == sorted(
            int(r["record"]["mid"]) for r in records), "in the order of mids"
        for r in records:
            mids.setdefault(r["record"]["c"], []).append(r["record"])
    for c in groups:
        log = ok("GET", f"/v1/conversations/{c}/records?view=log")["records"]
        assert mids[c] == log, f"{c}: the feed and the log"
    ends = ok("GET", "/v1/partitions")["partitions"]
    assert [e["p"] for e in ends] == list(range(PARTITIONS))
    for e in ends:
        assert (e["first"], e["head"]) == ((feeds[e["p"]][0]["offset"], feeds[e["p"]][-1]["offset"])
                                           if feeds[e["p"]] else (0, 0))
    # The same at whoever leads next, line by line too.
    led = {e["leader"] for e in ends}
    assert None not in led and len(led) > 1
    nodes[0].stop()
    for p in range(PARTITIONS):
        assert whole_feed(p) == feeds[p], "another leader tells the same"
    status, lines = gateways[1].ask("GET", "/v1/partitions/1/feed", accept="application/x-ndjson")
    assert status == 200 and [json.loads(line) for line in lines.splitlines()] == feeds[1]
    nodes[0].start()
    # A long poll ends with what comes.
    c, p = groups[0], next(p for p in feeds if any(r["record"]["c"] == groups[0] for r in feeds[p]))
    threading.Timer(0.5, lambda: gateways[1].send(c, "at last")).start()
    since = time.monotonic()
    page = ok("GET", f"/v1/partitions/{p}/feed?after={feeds[p][-1]['offset']}&wait_ms=20000")
    assert [r["record"]["body"] for r in page["records"]] == [{"text": "at last"}]
    assert time.monotonic() - since < 15
    page = ok("GET", f"/v1/partitions/{p}/feed?after={page['next']}&wait_ms=300")
    assert page["records"] == []


def lags(consumer):
    """(records over all nodes, the most seconds of any), None where no node says either."""
    records, seconds = [], []
    for port in admins:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
            for line in answer.read().decode().splitlines():
                name, _, value = line.rpartition(" ")
                if name == f'loquat_consumer_lag_records{{consumer="{consumer}"}}':
                    records.append(int(value))
                elif name == f'loquat_consumer_lag_seconds{{consumer="{consumer}"}}':
                    seconds.append(float(value))
    return (sum(records), max(seconds)) if records and seconds else None


async def test_nodes_say_how_far_consumers_are_behind():
    ok("PUT", "/v1/consumers/late", {"from": "start"})
    ok("PUT", "/v1/consumers/soon", {"from": "now"})
    lag = ok("GET", "/v1/consumers/late")["lag"]
    assert lag >= 240
    wait_for("each record counted by one node", lambda: (lags("late") or (0,))[0] == lag)
    assert lags("late")[1] > 0
    wait_for("nobody behind", lambda: lags("soon") == (0, 0))
    for name in "late", "soon":
        ok("DELETE", f"/v1/consumers/{name}")
        wait_for("it is forgotten", lambda: lags(name) is None)


async def test_workers_share_and_nothing_is_passed_over():
    ok("PUT", "/v1/consumers/job", {"from": "start"})
    groups = [gateways[0].open_group(f"feed{i}") for i in range(GROUPS)]
    workers = [Worker(f"w{i}") for i in range(3)]
    sent, stop = [], threading.Event()

    def talk(n):
        i = 0
        while not stop.is_set():
            for gate in gateways:
                try:
                    if gate.ask("POST", f"/v1/conversations/{groups[(n + i) % GROUPS]}/messages",
                                {"kind": "text", "body": {"text": "x"}, "cid": f"j{n}-{i}"},
                                "ALICE")[0] == 200:
                        sent.append(i)
                        i += 1
                        break
                except OSError:
                    continue

    talkers = [threading.Thread(target=talk, args=(n,), daemon=True) for n in range(2)]
    for talker in talkers:
        talker.start()
    wait_for("three workers", lambda: len(ok("GET", "/v1/consumers/job")["workers"]) == 3)
    wait_for("all of them at work", lambda: all(w.moved for w in workers))
    for i in range(3):  # every leader goes once
        nodes[i].stop(signal.SIGKILL)
        count = len(sent)
        wait_for("messages without it", lambda: len(sent) > count + 50)
        nodes[i].start()
    workers[0].died = True  # it holds its partitions, and says nothing
    workers.append(Worker("w3"))
    gateways[0].stop(signal.SIGKILL)
    count = len(sent)
    wait_for("messages", lambda: len(sent) > count + 50)
    gateways[0].start()
    workers[1].stopped = True
    workers[1].join(60)
    wait_for("the share of two", lambda: sorted(
        w["name"] for w in ok("GET", "/v1/consumers/job")["workers"]) == ["w2", "w3"])
    stop.set()
    for talker in talkers:
        talker.join(60)
    wait_for("all is read", lambda: ok("GET", "/v1/consumers/job")["lag"] == 0)
    for worker in workers:
        worker.stopped = True
    for worker in workers[1:]:
        worker.join(60)
        assert not worker.is_alive()
    # What was moved over is one chain in each partition, whoever did it, and every record is in it.
    for p in range(PARTITIONS):
        steps = sorted(m[1:] for w in workers for m in w.moved if m[0] == p)
        assert [s[0] for s in steps] == [0] + [s[1] for s in steps[:-1]], f"partition {p}: {steps}"
        read = {offset for w in workers for q, offset in w.read if q == p}
        assert read == {r["offset"] for r in whole_feed(p)}, f"partition {p}"
    ok("DELETE", "/v1/consumers/job")
    assert asked("GET", "/v1/consumers/job")[0] == 404
    for server in gateways + nodes:
        assert server.stop() == 0


async_lib.main(globals())
