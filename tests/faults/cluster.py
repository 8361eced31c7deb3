#!/usr/bin/python3
"""cluster.py [ROUNDS] [--seed N] [--keep DIR] [--proxy] [--only FAULT,…]: three nodes, each on a
machine of its own, and two gateways; 16 users who talk; ROUNDS (100) faults, drawn from the seed.

A fault (cluster_faults.py): a node is killed, stopped and started, hangs, is cut off (in both
directions, from one other in one direction, again and again), has a slow link, a slow disk, or no
room on its disk; it loses its disk, and is replaced by one with a new number; it is handed a
partition, or drained. Some come two at a time. After each the system heals, and users must get
on. Those that can't be done here are left out, and named.

At the end (nodes_client.py): what was acknowledged is there once, where it was said to be;
sequences have no gap; everybody got everything once and in order; nobody was cut off; nothing is
there that nobody sent; all nodes reach each other; and all three replicas hold the same rows. Ends
with `N passed, N failed`.

Machines (cluster_net.py) are network namespaces, which need root, ip and tc, and go with this
script's own; or addresses behind a proxy, where that can't be, and with --proxy. The first line
says which. Disks are small file systems in memory; without the rights for that, directories."""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import cluster_net
from cluster_faults import Faults
from cluster_net import GATEWAYS, NODES, USERS
from cluster_node import Node

BUILD = os.environ.get("BUILD", "build")
TREE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TALKERS = 16
LINKS_S = 4  # longer than it takes to try again
WEB_PORT = 8080
passed = failed = 0


def check(name, fine):
    global passed, failed
    passed += bool(fine)
    failed += not fine
    print(("ok    " if fine else "FAIL  ") + name, flush=True)
    return fine


class World:
    """Nodes, gateways and users; `mounts`: nodes have small disks of their own."""

    def __init__(self, scratch, net, mounts, seed):
        self.scratch, self.net, self.mounts, self.build = scratch, net, mounts, BUILD
        self.dice, self.check = random.Random(seed), check
        self.gateways, self.client, self.told = [], None, []
        self.secret, self.tokens = f"{scratch}/cluster", f"{scratch}/secret"
        for name in (self.secret, self.tokens):
            with open(name, "w", opener=lambda p, f: os.open(p, f, 0o600)) as out:
                out.write(os.urandom(32).hex())
        self.nodes = {}
        for number in NODES:
            self.nodes[number] = Node(number, self)
        self.faults = Faults(self)

    def start(self):
        for node in self.nodes.values():
            node.start()
        check("three nodes are ready", all(node.ready() for node in self.nodes.values()))
        for i, machine in enumerate(GATEWAYS, 1):
            self.gateways.append(self.gateway(i, machine))
        self.talk()
        check("users talk", self.goes_on())

    def cluster(self, without=None):
        nodes = [node for node in self.nodes.values() if node is not without]
        return ",".join(f"{node.id}={node.name}" for node in nodes)

    def gateway(self, i, machine):
        out = f"{self.scratch}/g{i}.out"
        words = [f"{BUILD}/loquat-gateway", "--cluster-secret-file", self.secret,
                 "--nodes", ",".join(node.name for node in self.nodes.values()),
                 "--listen", f"{self.net.host(machine)}:{WEB_PORT}",
                 "--auth-secret-file", self.tokens]
        with open(out, "w") as stdout, open(f"{self.scratch}/g{i}.log", "w") as log:
            process = subprocess.Popen(self.net.inside(machine, *words), stdout=stdout,
                                       stderr=log, env=self.net.env(machine))
        until = time.time() + 20
        while not open(out).read().startswith("ready ") and time.time() < until:
            time.sleep(0.05)
        check(f"gateway {i} is ready", open(out).read().startswith("ready "))
        return process

    def talk(self):
        env = dict(os.environ)
        for i in range(TALKERS):
            words = [f"{BUILD}/loquat-log", "token", "--user", f"u{i}",
                     "--secret-file", self.tokens]
            made = subprocess.run(words, check=True, capture_output=True, text=True)
            env[f"LOQUAT_TOKEN_U{i}"] = made.stdout.strip()
        self.acks = f"{self.scratch}/acks"
        self.acks_seen = self.acks_count = 0
        open(self.acks, "w").close()
        words = ["/usr/bin/python3", f"{TREE}/tests/e2e/nodes_client.py", self.acks,
                 f"{self.scratch}/stop",
                 *(f"http://{self.net.host(machine)}:{WEB_PORT}" for machine in GATEWAYS)]
        with open(f"{self.scratch}/client.log", "w") as log:
            self.client = subprocess.Popen(self.net.inside(USERS, *words), stdout=log,
                                           stderr=subprocess.STDOUT, env=env)

    def answers(self):
        """How many users have got."""
        with open(self.acks, "rb") as file:
            file.seek(self.acks_seen)
            new = file.read()
        self.acks_seen += len(new)
        self.acks_count += new.count(b"\n")
        return self.acks_count

    def goes_on(self, more=50, seconds=30):
        """Users get so many more answers."""
        before, until = self.answers(), time.time() + seconds
        while time.time() < until and self.client.poll() is None:
            if self.answers() >= before + more:
                return True
            time.sleep(0.05)
        return False

    # ---- commands of operators ----

    def tell(self, cluster, *words):
        """Begins `loquat-node cluster WORDS`, which is at work until check_told."""
        words = [f"{BUILD}/loquat-node", "cluster", *words, "--cluster", cluster,
                 "--cluster-secret-file", self.secret]
        self.told = [process for process in self.told if process.poll() is None]
        self.told.append(subprocess.Popen(
            self.net.inside(USERS, *words), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, env=self.net.env(USERS)))
        return self.told[-1]

    def check_told(self, process, seconds):
        try:
            said = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            said = process.communicate()
        if process.returncode != 0:
            words = process.args[process.args.index("cluster"):][:4]
            check(f"{' '.join(words)}: status {process.returncode}: {' '.join(said)}", False)

    def well(self, seconds=30):
        """It comes to be so that `cluster status` says that all is well."""
        until = time.time() + seconds
        while time.time() < until:
            asking = self.tell(self.cluster(), "status")
            asking.communicate()
            if asking.returncode == 0:
                return True
            time.sleep(0.2)
        return False

    def check_well(self):
        if not self.well():
            check("cluster status says that all is well", False)

    # ---- rounds, and the end ----

    def round(self, number):
        what = self.faults.draw()
        return check(f"{number}: {what}: users get on", self.goes_on())

    def settle(self):
        """All nodes have applied the same."""
        def applied():
            return [node.metric("loquat_raft_applied_index") for node in self.nodes.values()]
        until = time.time() + 60
        while time.time() < until:
            first = applied()
            time.sleep(0.5)
            if None not in first and first == applied() and len(set(first)) == 1:
                return True
        print("    applied:", first)
        return False

    def links_hold(self):
        """All reach each other, once what went wrong is over, and go on to."""
        def broken():
            return sum(open(node.log).read().count("is not reached any more")
                       for node in self.nodes.values())
        for _ in range(3):
            before = broken()
            time.sleep(LINKS_S)
            if broken() == before:
                return self.well()
        return False

    def finish(self):
        open(f"{self.scratch}/stop", "w").close()
        try:
            fine = self.client.wait(timeout=120) == 0
        except subprocess.TimeoutExpired:
            self.client.kill()
            fine = False
        check("what was acknowledged is there once, and everybody got everything once, in order",
              fine)
        with open(f"{self.scratch}/client.log") as log:
            said = log.readlines()[-5:]
        print("    " + "    ".join(said).rstrip())
        check("nobody was cut off", said and said[-1].rstrip().endswith("cut off: 0 0"))
        for node in self.nodes.values():
            if not node.ready():
                check(f"node {node.number} is ready", False)
        check("every node comes to have applied the same", self.settle())
        check("all nodes reach each other, and go on to", self.links_hold())
        for gateway in self.gateways:
            gateway.send_signal(signal.SIGTERM)
            check("a gateway ends with 0", gateway.wait(timeout=30) == 0)
        for node in self.nodes.values():
            check(f"node {node.number} ends with 0", node.end(signal.SIGTERM))
        words = [f"{BUILD}/tests/faults/replicas", *(node.data for node in self.nodes.values())]
        result = subprocess.run(words, capture_output=True, text=True)
        check("the replicas hold the same rows: " + result.stdout.strip().replace("\n", "; "),
              result.returncode == 0)

    def close(self, keep):
        """With what the disks hold put there, or with None."""
        nodes = [node.process for node in self.nodes.values()]
        for process in [*self.told, *self.gateways, *nodes, self.client]:
            if process is not None and process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
                process.wait()
        for node in self.nodes.values():
            if keep:
                shutil.copytree(node.data, f"{keep}/data{node.number}",
                                ignore=shutil.ignore_patterns("*.sock"))
            if self.mounts:
                subprocess.run(["umount", "-l", node.disk], capture_output=True)


def parse():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rounds", nargs="?", type=int, default=100)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 31))
    parser.add_argument("--keep", help="a directory for what the programs say")
    parser.add_argument("--proxy", action="store_true", help="no network namespaces")
    parser.add_argument("--only", help="faults to draw from, instead of all")
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    return parser.parse_args()


def go_inside(options):
    """Begins this script again in namespaces of its own, as far as it may. There, `inside` says
    what it may do."""
    able = []
    if not options.proxy and cluster_net.Spaces.able():
        able.append("net")
    if cluster_net.works(["unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]):
        able.append("mount")
    words = [sys.executable, *sys.argv, "--seed", str(options.seed),
             "--inside", " ".join(able)]
    if "mount" in able:
        words = ["unshare", "-m", "--propagation", "private", *words]
    if "net" in able:
        words = ["unshare", "-n", *words]
    os.execvp(words[0], words)


def main():
    options = parse()
    if options.keep:
        os.makedirs(options.keep, exist_ok=True)
    if options.inside is None:
        go_inside(options)
    keep = options.keep and os.path.abspath(options.keep)
    os.chdir(TREE)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # nobody is left behind
    kind = cluster_net.Spaces if "net" in options.inside else cluster_net.Forwarded
    print(f"seed {options.seed}, {kind.KIND}", flush=True)
    with tempfile.TemporaryDirectory() as place:
        world = World(keep or place, kind(BUILD), "mount" in options.inside, options.seed)
        if options.only:
            world.faults.kinds = options.only.split(",")
        for why in world.faults.without:
            print(f"without {why}")
        try:
            world.start()
            for number in range(1, options.rounds + 1):
                if not world.round(number):
                    break
            world.finish()
        finally:
            world.close(keep if failed > 0 else None)
    print(f"{passed} passed, {failed} failed")
    return failed > 0


sys.exit(main())
