"""What is between the machines of cluster.py, and what goes wrong there. Machines are numbers:
those of nodes from 1, those of gateways from 11; users sit at USERS. Two kinds, with the same
methods:

Spaces: a network namespace for each machine, behind one bridge. Needs root, ip and tc.

Forwarded: without rights. Each machine is an address of 127.0.0.0/8; a node listens at another
port than the one that --cluster names, where the proxy (cluster_proxy.py) listens for it. So
--cluster is the same for all nodes, as it must be: the cluster's id is made of it. Who calls, the
proxy sees by the address from which he does: caller.so is preloaded, and binds each connection to
the address of its machine."""

import os
import subprocess

import cluster_proxy

NODES, GATEWAYS, USERS = (1, 2, 3), (11, 12), 20


def run(*words):
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)


class Spaces:
    KIND = "in network namespaces"

    def __init__(self, build):
        run("mount", "-t", "tmpfs", "tmpfs", "/run")
        run("ip", "link", "add", "br0", "type", "bridge")
        run("ip", "link", "set", "br0", "up")
        for machine in (*NODES, *GATEWAYS, USERS):
            space, end = f"m{machine}", f"at-m{machine}"
            run("ip", "netns", "add", space)
            run("ip", "link", "add", end, "type", "veth", "peer", "name", "eth0", "netns", space)
            run("ip", "link", "set", end, "master", "br0", "up")
            run(*self.inside(machine, "ip", "address", "add", self.host(machine) + "/24",
                             "dev", "eth0"))
            run(*self.inside(machine, "ip", "link", "set", "eth0", "up"))
            run(*self.inside(machine, "ip", "link", "set", "lo", "up"))

    @staticmethod
    def able():
        words = ["unshare", "-n", "-m", "ip", "link", "add", "type", "bridge"]
        return works(words) and works(["tc", "-V"])

    def host(self, machine):
        return f"10.77.0.{machine}"

    def inside(self, machine, *words):
        """The command that runs `words` there."""
        return ["ip", "netns", "exec", f"m{machine}", *words]

    def env(self, machine, *libraries):
        """The environment of a program that runs there, with these preloaded."""
        return preloading(libraries)

    def listen(self, machine, port):
        """Options of a node that is called at this port."""
        return []

    def cut(self, machine, off=True):
        run("ip", "link", "set", f"at-m{machine}", "down" if off else "up")

    def lose(self, machine, other, off=True):
        """What `machine` says to `other` gets lost, not the other way round."""
        run(*self.inside(machine, "ip", "route", "add" if off else "del", "blackhole",
                         self.host(other) + "/32"))

    def slow(self, machine, off=True):
        words = ["tbf", "rate", "1mbit", "burst", "8kb", "latency", "400ms"] if off else []
        run(*self.inside(machine, "tc", "qdisc", "add" if off else "del", "dev", "eth0", "root",
                         *words))


class Forwarded:
    KIND = "through a proxy"
    BEHIND = 1000  # ports from the one that is called to the one where a node listens

    def __init__(self, build):
        self.library = os.path.abspath(f"{build}/tests/faults/caller.so")
        self.proxy = cluster_proxy.Proxy()
        self.forwarded = set()

    def host(self, machine):
        """Others than those of a run beside this one."""
        return f"127.{64 + os.getpid() // 256 % 128}.{os.getpid() % 256}.{machine}"

    def inside(self, machine, *words):
        return list(words)

    def env(self, machine, *libraries):
        return preloading([*libraries, self.library], CALL_FROM=self.host(machine))

    def listen(self, machine, port):
        at, to = (self.host(machine), port), (self.host(machine), port + self.BEHIND)
        if at not in self.forwarded:
            self.proxy.forward(at, to)
            self.forwarded.add(at)
        return ["--listen", f"{to[0]}:{to[1]}"]

    @staticmethod
    def put(some, one, there):
        some.add(one) if there else some.discard(one)

    def cut(self, machine, off=True):
        self.put(self.proxy.cut, self.host(machine), off)

    def lose(self, machine, other, off=True):
        self.put(self.proxy.lost, (self.host(machine), self.host(other)), off)

    def slow(self, machine, off=True):
        self.put(self.proxy.slow, self.host(machine), off)


def preloading(libraries, **more):
    if libraries:
        more["LD_PRELOAD"] = ":".join(libraries)
    return dict(os.environ, **more)


def works(words):
    try:
        return subprocess.run(words, capture_output=True).returncode == 0
    except OSError:
        return False
