#!/usr/bin/python3
"""cluster.py [ROUNDS] [--seed N] [--keep DIR]: three nodes and two gateways, each in a network
namespace of its own behind one bridge; 16 users who talk; ROUNDS (100) faults, drawn from the seed.

A fault: a node is killed, stopped and started, hangs, is cut off (in both directions, from one other
in one direction, again and again), has a slow link, a slow disk, or no room on its disk. Some come
two at a time. After each the system heals, and users must get on.

At the end (nodes_client.py): what was acknowledged is there once, where it was said to be; sequences
have no gap; everybody got everything once and in order; nothing is there that nobody sent; and all
three replicas hold the same rows. Ends with `N passed, N failed`.
Needs root, ip and tc: everything is made in a namespace of this script's own, and goes with it."""

import argparse
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request

BUILD = os.environ.get("BUILD", "build")
TREE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
NODES, USERS, PORT = (1, 2, 3), 16, 7101
CLUSTER = ",".join(f"{n}=10.77.0.{n}:{PORT}" for n in NODES)
ROOM_MIB = 900  # of each node's disk
passed = failed = 0


def check(name, fine):
    global passed, failed
    passed += bool(fine)
    failed += not fine
    print(("ok    " if fine else "FAIL  ") + name, flush=True)
    return fine


def run(*words):
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)


def inside(space, *words):
    return ["ip", "netns", "exec", space, *words]


class Net:
    """A bridge, and a namespace behind it for each host: n1 to n3 at 10.77.0.1 to 3, g1 and g2 at
    10.77.0.11 and 12, users at 10.77.0.20."""

    HOSTS = {"n1": 1, "n2": 2, "n3": 3, "g1": 11, "g2": 12, "users": 20}

    def __init__(self):
        run("mount", "-t", "tmpfs", "tmpfs", "/run")
        run("ip", "link", "add", "br0", "type", "bridge")
        run("ip", "link", "set", "br0", "up")
        for host, number in self.HOSTS.items():
            run("ip", "netns", "add", host)
            run("ip", "link", "add", "at-" + host, "type", "veth", "peer", "name", "eth0", "netns", host)
            run("ip", "link", "set", "at-" + host, "master", "br0", "up")
            run(*inside(host, "ip", "address", "add", f"10.77.0.{number}/24", "dev", "eth0"))
            run(*inside(host, "ip", "link", "set", "eth0", "up"))
            run(*inside(host, "ip", "link", "set", "lo", "up"))

    def cut(self, node, off=True):
        run("ip", "link", "set", f"at-n{node}", "down" if off else "up")

    def deaf(self, node, other, off=True):
        """What `node` says to `other` gets lost, not the other way round."""
        run(*inside(f"n{node}", "ip", "route", "add" if off else "del", "blackhole", f"10.77.0.{other}/32"))

    def slow(self, node, off=True):
        words = ["root", "tbf", "rate", "1mbit", "burst", "8kb", "latency", "400ms"] if off else ["root"]
        run(*inside(f"n{node}", "tc", "qdisc", "add" if off else "del", "dev", "eth0", *words))


class Node:
    def __init__(self, number, scratch):
        self.number, self.scratch, self.process, self.starts = number, scratch, None, 0
        self.disk = f"{scratch}/disk{number}"
        os.mkdir(self.disk)
        run("mount", "-t", "tmpfs", "-o", f"size={ROOM_MIB}m", "tmpfs", self.disk)
        self.slow_file = f"{scratch}/slow{number}"

    def start(self):
        self.starts += 1
        env = dict(os.environ, SLOW_SYNC=self.slow_file, LD_PRELOAD=os.path.abspath(f"{BUILD}/tests/faults/slow.so"))
        self.out = f"{self.scratch}/n{self.number}.out"
        with open(self.out, "w") as out, open(f"{self.scratch}/n{self.number}.log", "a") as log:
            self.process = subprocess.Popen(
                inside(f"n{self.number}", f"{BUILD}/loquat-node", "--id", str(self.number),
                       "--data", self.disk + "/d", "--cluster", CLUSTER, "--partitions", "6",
                       "--admin-listen", f"10.77.0.{self.number}:9101",
                       "--cluster-secret-file", f"{self.scratch}/cluster"),
                stdout=out, stderr=log, env=env)

    def signal(self, number):
        if self.process.poll() is None:
            self.process.send_signal(number)

    def end(self, number):
        """True: it ended by it, with 0 if it was asked to."""
        self.signal(number)
        try:
            status = self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return False
        return status == (0 if number == signal.SIGTERM else -number)

    def ready(self, seconds=40):
        until = time.time() + seconds
        while time.time() < until and self.process.poll() is None:
            if open(self.out).read().startswith("ready "):
                return True
            time.sleep(0.05)
        return False

    def applied(self):
        words = inside("users", "curl", "-s", "-m", "5", f"http://10.77.0.{self.number}:9101/metrics")
        text = subprocess.run(words, capture_output=True, text=True).stdout
        found = re.search(r"^loquat_raft_applied_index (\d+)", text, re.M)
        return int(found.group(1)) if found else None


class World:
    def __init__(self, scratch, seed):
        self.scratch, self.dice = scratch, random.Random(seed)
        self.net = Net()
        for name in ("cluster", "secret"):
            with open(f"{scratch}/{name}", "w", opener=lambda p, f: os.open(p, f, 0o600)) as out:
                out.write(os.urandom(32).hex())
        self.nodes = {n: Node(n, scratch) for n in NODES}
        for node in self.nodes.values():
            node.start()
        check("three nodes are ready", all(node.ready() for node in self.nodes.values()))
        self.gateways = [self.gateway(i) for i in (1, 2)]
        self.talk()
        check("users talk", self.goes_on())

    def gateway(self, i):
        out = f"{self.scratch}/g{i}.out"
        with open(out, "w") as stdout, open(f"{self.scratch}/g{i}.log", "w") as log:
            process = subprocess.Popen(
                inside(f"g{i}", f"{BUILD}/loquat-gateway", "--nodes",
                       ",".join(f"10.77.0.{n}:{PORT}" for n in NODES),
                       "--cluster-secret-file", f"{self.scratch}/cluster",
                       "--listen", f"10.77.0.{10 + i}:8080", "--auth-secret-file", f"{self.scratch}/secret"),
                stdout=stdout, stderr=log)
        until = time.time() + 20
        while not open(out).read().startswith("ready ") and time.time() < until:
            time.sleep(0.05)
        check(f"gateway {i} is ready", open(out).read().startswith("ready "))
        return process

    def talk(self):
        env = dict(os.environ)
        for i in range(USERS):
            words = [f"{BUILD}/loquat-log", "token", "--user", f"u{i}", "--secret-file", f"{self.scratch}/secret"]
            env[f"LOQUAT_TOKEN_U{i}"] = subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()
        self.acks = f"{self.scratch}/acks"
        open(self.acks, "w").close()
        with open(f"{self.scratch}/client.log", "w") as log:
            self.client = subprocess.Popen(
                inside("users", "/usr/bin/python3", f"{TREE}/tests/e2e/nodes_client.py", self.acks,
                       f"{self.scratch}/stop", "http://10.77.0.11:8080", "http://10.77.0.12:8080"),
                stdout=log, stderr=subprocess.STDOUT, env=env)

    def goes_on(self, more=50, seconds=30):
        """Users get so many more answers."""
        def count():
            return sum(1 for _ in open(self.acks))
        before, until = count(), time.time() + seconds
        while time.time() < until and self.client.poll() is None:
            if count() >= before + more:
                return True
            time.sleep(0.05)
        return False

    # ---- faults: each does it, waits, and puts it right again ----

    def pause(self, least=0.5, most=4.0):
        time.sleep(self.dice.uniform(least, most))

    def kill(self, node):
        node.end(signal.SIGKILL)
        self.pause(0.1, 3)
        node.start()

    def restart(self, node):
        if not node.end(signal.SIGTERM):
            check(f"node {node.number} ends with 0 when it is told to", False)
        node.start()

    def hang(self, node):
        node.signal(signal.SIGSTOP)
        self.pause()
        node.signal(signal.SIGCONT)

    def stutter(self, node):
        for _ in range(20):
            self.hang_for(node, 0.15)
            time.sleep(0.05)

    def hang_for(self, node, seconds):
        node.signal(signal.SIGSTOP)
        time.sleep(seconds)
        node.signal(signal.SIGCONT)

    def cut(self, node):
        self.net.cut(node.number)
        self.pause(0.5, 6)
        self.net.cut(node.number, False)

    def flap(self, node):
        for _ in range(self.dice.randint(3, 8)):
            self.net.cut(node.number)
            self.pause(0.1, 0.8)
            self.net.cut(node.number, False)
            self.pause(0.1, 0.8)

    def one_way(self, node):
        other = self.dice.choice([n for n in NODES if n != node.number])
        self.net.deaf(node.number, other)
        self.pause(1, 6)
        self.net.deaf(node.number, other, False)

    def slow_link(self, node):
        self.net.slow(node.number)
        self.pause(1, 5)
        self.net.slow(node.number, False)

    def slow_disk(self, node):
        with open(node.slow_file, "w") as file:
            file.write(str(self.dice.choice((20, 100, 500))))
        self.pause(1, 5)
        os.unlink(node.slow_file)

    def full_disk(self, node):
        stat = os.statvfs(node.disk)
        with open(node.disk + "/filler", "wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(stat.f_bavail * stat.f_frsize - (120 << 20), 1))
        self.pause(1, 4)
        os.unlink(node.disk + "/filler")

    FAULTS = ("kill", "kill", "restart", "hang", "stutter", "cut", "flap", "one_way", "slow_link", "slow_disk", "full_disk")

    def round(self, number):
        first = self.dice.choice(NODES)
        name = self.dice.choice(self.FAULTS)
        names = [f"{name} {first}"]
        getattr(self, name)(self.nodes[first])
        if self.dice.random() < 0.2:  # before the one before has healed
            second = self.dice.choice([n for n in NODES if n != first])
            more = self.dice.choice(("kill", "hang", "cut"))
            names.append(f"{more} {second}")
            getattr(self, more)(self.nodes[second])
        return check(f"{number}: {', '.join(names)}: users get on", self.goes_on())

    # ---- the end ----

    def settle(self):
        """All nodes have applied the same."""
        until = time.time() + 60
        while time.time() < until:
            first = [node.applied() for node in self.nodes.values()]
            time.sleep(0.5)
            second = [node.applied() for node in self.nodes.values()]
            if None not in first and first == second and len(set(first)) == 1:
                return True
        print("    applied:", first)
        return False

    def finish(self):
        open(f"{self.scratch}/stop", "w").close()
        try:
            fine = self.client.wait(timeout=120) == 0
        except subprocess.TimeoutExpired:
            self.client.kill()
            fine = False
        check("what was acknowledged is there once, and everybody got everything once, in order", fine)
        print("    " + "    ".join(open(f"{self.scratch}/client.log").readlines()[-5:]).rstrip())
        for node in self.nodes.values():
            if not node.ready():
                check(f"node {node.number} is ready", False)
        check("every node comes to have applied the same", self.settle())
        for gateway in self.gateways:
            gateway.send_signal(signal.SIGTERM)
            check("a gateway ends with 0", gateway.wait(timeout=30) == 0)
        for node in self.nodes.values():
            check(f"node {node.number} ends with 0", node.end(signal.SIGTERM))
        words = [f"{BUILD}/tests/faults/replicas", *(node.disk + "/d" for node in self.nodes.values())]
        result = subprocess.run(words, capture_output=True, text=True)
        check("the replicas hold the same rows: " + result.stdout.strip().replace("\n", "; "), result.returncode == 0)

    def close(self):
        everybody = [node.process for node in self.nodes.values()] + self.gateways + [self.client]
        for process in everybody:
            if process is not None and process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
                process.wait()


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rounds", nargs="?", type=int, default=100)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 31))
    parser.add_argument("--keep", help="a directory for what the programs say")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def main():
    options = parse()
    if not options.inside:
        able = subprocess.run(["unshare", "-n", "-m", "ip", "link", "add", "type", "bridge"], capture_output=True)
        if able.returncode != 0:
            print("skipped: network namespaces can't be made here (root, ip, unshare)")
            print("0 passed, 0 failed")
            return 0
        words = [sys.executable, os.path.abspath(__file__), str(options.rounds), "--seed", str(options.seed), "--inside"]
        if options.keep:
            words += ["--keep", os.path.abspath(options.keep)]
        os.execvp("unshare", ["unshare", "-n", "-m", "--propagation", "private", *words])
    os.chdir(TREE)
    print(f"seed {options.seed}, in network namespaces", flush=True)
    with tempfile.TemporaryDirectory() as place:
        scratch = options.keep or place
        os.makedirs(scratch, exist_ok=True)
        world = None
        try:
            world = World(scratch, options.seed)
            for number in range(1, options.rounds + 1):
                if not world.round(number):
                    break
            world.finish()
        finally:
            if world is not None:
                world.close()
            for number in NODES:
                subprocess.run(["umount", "-l", f"{scratch}/disk{number}"], capture_output=True)
    print(f"{passed} passed, {failed} failed")
    return failed > 0


sys.exit(main())
