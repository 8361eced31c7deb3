"""What goes wrong with a node of cluster.py: each fault does it, waits, and puts it right again.
All that is left to chance comes from the world's dice."""

import re
import signal
import subprocess
import time

from cluster_node import PARTITIONS

ADDED_S = 100  # in which a node gets everything, or is let go
LED_S = 20  # in which a node that is drained leads nothing


class Faults:
    ALWAYS = ("kill", "kill", "restart", "hang", "stutter", "cut", "flap", "one_way", "slow_link",
              "slow_disk", "wipe")
    SHORT = ("kill", "hang", "cut")  # while another one is under way, or has not healed

    def __init__(self, world):
        self.world, self.dice, self.net = world, world.dice, world.net
        self.next_id = max(world.nodes) + 1
        self.without = []  # why which faults are left out
        self.kinds = list(self.ALWAYS)
        told = subprocess.run([f"{world.build}/loquat-node", "--help"], capture_output=True,
                              text=True).stdout
        told = " ".join(told.split())  # its lines are broken anywhere
        for name, able, why in (
                ("full_disk", world.mounts, "no rights to mount a small disk"),
                ("wipe_here", True, ""),
                ("transfer", "cluster transfer " in told, "loquat-node has no such command"),
                ("drain", "cluster drain" in told, "loquat-node has no such command")):
            if able:
                self.kinds.append(name)
            else:
                self.without.append(f"{name}: {why}")

    def draw(self):
        """Does one, or two. Returns what they were."""
        first = self.dice.choice(list(self.world.nodes.values()))
        name = self.dice.choice(self.kinds)
        meanwhile = getattr(self, name)(first)
        said = [f"{name} {first.number}" + (f" (and {meanwhile})" if meanwhile else "")]
        if self.dice.random() < 0.2:
            said.append(self.another(first))
        return ", ".join(said)

    def other(self, node=None):
        return self.dice.choice([n for n in self.world.nodes.values() if n is not node])

    def another(self, node=None):
        name, other = self.dice.choice(self.SHORT), self.other(node)
        getattr(self, name)(other)
        return f"{name} {other.number}"

    def pause(self, least=0.5, most=4.0):
        time.sleep(self.dice.uniform(least, most))

    # ---- the process ----

    def kill(self, node):
        node.end(signal.SIGKILL)
        self.pause(0.1, 3)
        node.start()

    def restart(self, node):
        if not node.end(signal.SIGTERM):
            self.world.check(f"node {node.number} ends with 0 when it is told to", False)
        node.start()

    def hang(self, node, least=0.5, most=4.0):
        node.signal(signal.SIGSTOP)
        self.pause(least, most)
        node.signal(signal.SIGCONT)

    def stutter(self, node):
        for _ in range(20):
            self.hang(node, 0.15, 0.15)
            time.sleep(0.05)

    # ---- the network ----

    def cut(self, node, least=0.5, most=6.0):
        self.net.cut(node.number)
        self.pause(least, most)
        self.net.cut(node.number, False)

    def flap(self, node):
        for _ in range(self.dice.randint(3, 8)):
            self.cut(node, 0.1, 0.8)
            self.pause(0.1, 0.8)

    def one_way(self, node):
        other = self.other(node)
        self.net.lose(node.number, other.number)
        self.pause(1, 6)
        self.net.lose(node.number, other.number, False)

    def slow_link(self, node):
        self.net.slow(node.number)
        self.pause(1, 5)
        self.net.slow(node.number, False)

    # ---- the disk ----

    def slow_disk(self, node):
        node.slow_disk(self.dice.choice((20, 100, 500)))
        self.pause(1, 5)
        node.quick_disk()

    def full_disk(self, node):
        node.fill()
        self.pause(1, 4)
        node.empty()

    def wipe(self, node, elsewhere=True):
        """The disk is lost; another node takes its place. Half of the time something else goes
        wrong meanwhile, with the newcomer or with others."""
        lost = node.id
        node.end(signal.SIGKILL)
        node.wipe(self.next_id, elsewhere)
        self.next_id += 1
        rest = self.world.cluster(node)
        self.pause(0.1, 2)
        self.ask(rest, "remove", str(lost))
        adding = self.world.tell(rest, "add", f"{node.id}={node.name}")
        how = ""
        for line in adding.stderr:
            how = re.search(r"--join [0-9a-f]+", line)
            if how:
                break
        if not how:
            self.world.check(f"who adds node {node.id} is told how to start it", False)
            adding.kill()
            return None
        node.join = how.group().split()
        node.start()
        meanwhile = self.another() if self.dice.random() < 0.5 else None
        self.world.check_told(adding, ADDED_S)
        return meanwhile

    def wipe_here(self, node):
        """The new node has the address of the one that was lost."""
        return self.wipe(node, elsewhere=False)

    # ---- what operators do on purpose, when all is well ----

    def ask(self, cluster, *words, seconds=ADDED_S):
        self.world.check_told(self.world.tell(cluster, *words), seconds)

    def transfer(self, node):
        partition = self.dice.randrange(PARTITIONS)
        self.world.check_well()
        self.ask(self.world.cluster(), "transfer", str(partition), str(node.id))

    def drain(self, node):
        self.world.check_well()
        self.ask(self.world.cluster(), "drain", str(node.id))
        until = time.time() + LED_S
        while node.metric("loquat_partitions_serving") != 0:
            if time.time() > until:
                self.world.check(f"node {node.number}, which is drained, leads nothing", False)
                break
            time.sleep(0.1)
        self.pause(0.1, 3)
        self.ask(self.world.cluster(), "undrain", str(node.id))
