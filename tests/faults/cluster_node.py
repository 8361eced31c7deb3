"""A node of cluster.py's cluster, on a machine of its own: the process, its disk, what it says."""

import os
import re
import shutil
import signal
import subprocess
import time

from cluster_net import run, USERS

PORT, ADMIN_PORT = 7101, 9101
PARTITIONS = 6
ROOM_MIB = 900  # of each node's disk
FREE_MIB = 120  # when it has no room: less than a node wants to have


class Node:
    """`number` is that of the machine. The node's own is `id`: it changes when the disk is lost."""

    def __init__(self, number, world):
        self.number, self.id, self.world = number, number, world
        self.port, self.process, self.join = PORT, None, []
        self.disk = f"{world.scratch}/disk{number}"
        self.out, self.log = (f"{world.scratch}/n{number}.{kind}" for kind in ("out", "log"))
        self.slow_file = f"{world.scratch}/slow{number}"
        os.mkdir(self.disk)
        if world.mounts:
            run("mount", "-t", "tmpfs", "-o", f"size={ROOM_MIB}m", "tmpfs", self.disk)

    @property
    def name(self):
        return f"{self.world.net.host(self.number)}:{self.port}"

    @property
    def data(self):
        return self.disk + "/d"

    def start(self):
        net = self.world.net
        slow = os.path.abspath(f"{self.world.build}/tests/faults/slow.so")
        env = dict(net.env(self.number, slow), SLOW_SYNC=self.slow_file)
        words = [f"{self.world.build}/loquat-node", "--id", str(self.id), "--data", self.data,
                 "--cluster", self.world.cluster(), "--partitions", str(PARTITIONS),
                 "--admin-listen", f"{net.host(self.number)}:{ADMIN_PORT}",
                 "--cluster-secret-file", self.world.secret,
                 *net.listen(self.number, self.port), *self.join]
        with open(self.out, "w") as out, open(self.log, "a") as log:
            self.process = subprocess.Popen(net.inside(self.number, *words), stdout=out,
                                            stderr=log, env=env)

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

    def metric(self, name):
        words = ["curl", "-s", "-m", "5",
                 f"http://{self.world.net.host(self.number)}:{ADMIN_PORT}/metrics"]
        text = subprocess.run(self.world.net.inside(USERS, *words), capture_output=True,
                              text=True).stdout
        found = re.search(rf"^{name} (\d+)", text, re.M)
        return int(found.group(1)) if found else None

    # ---- its disk ----

    def slow_disk(self, ms):
        with open(self.slow_file, "w") as file:
            file.write(str(ms))

    def quick_disk(self):
        os.unlink(self.slow_file)

    def fill(self):
        stat = os.statvfs(self.disk)
        size = stat.f_bavail * stat.f_frsize - (FREE_MIB << 20)
        with open(self.disk + "/filler", "wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(size, 1))

    def empty(self):
        os.unlink(self.disk + "/filler")

    def wipe(self, new_id, elsewhere):
        """Of a node that is not running: the one that starts here next is another one, and
        `elsewhere`, at another address, as if it were on another machine."""
        shutil.rmtree(self.data)
        self.id = new_id
        self.port += elsewhere
