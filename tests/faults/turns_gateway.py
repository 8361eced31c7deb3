"""turns_gateway.py: loquat-gateway: what fails while it starts and ends, and accept."""
import os
import resource
import shutil
import socket
import subprocess
import time

from turns_lib import (BUILD, DISK, ECONNABORTED, EINTR, EMFILE, ENFILE, ENOBUFS, ENOMEM, MEMORY,
                       OURS, TURN_S, Fault, Run, calls)
from turns_log import archive

STUCK = [EMFILE, ENFILE, ENOBUFS, ENOMEM]  # accept: not now
GONE = [ECONNABORTED, EINTR]  # accept: that one is not there any more
KEPT = 300  # lines of what is there


class Gateway:
    def __init__(self, turns):
        self.turns = turns
        self.made = turns.scratch / "made"
        process, url = turns.serve(self.made)
        token = turns.must(turns.log("token", "--user", "ops", "--scope", "admin", "--secret-file",
                                     turns.secret)).decode().strip()
        self.env = {"LOQUAT_TOKEN": token}
        file = turns.scratch / "kept.jsonl"
        file.write_bytes(archive("kept", KEPT))
        turns.must(turns.log("import", file), env=dict(self.env, LOQUAT_URL=url))
        self.kept = self.export(url)
        turns.check("gateway: what was imported is exported", self.kept.count(b"\n") == KEPT)
        turns.check("gateway: ends with 0", turns.stop(process) == 0)

    def export(self, url):
        return self.turns.must(self.turns.log("export", "--all"), env=dict(self.env, LOQUAT_URL=url))

    def life(self, directory, fault, n, kept=None):
        """Starts with the fault, and ends when it could; one Run of both. `kept`: what it must have."""
        log = self.turns.scratch / f"{directory.name}.log"
        log.unlink(missing_ok=True)
        process, url = self.turns.serve(directory, fault, n)
        status, served, lost = None, False, False
        if url is not None:
            served = answers(url) or answers(url)  # the fault may be that of one connection
            lost = kept is not None and self.export(url) != kept
            status = self.turns.stop(process)
        else:
            try:
                status = process.wait(TURN_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            process.stdout.close()
            self.turns.started.remove(process)
        got = Run(status if status is not None else 1, b"", log.read_text(), self.turns.reached())
        if status is None:
            return got, "hangs"
        if status == 0 and url is None:
            return got, "ended with 0 before it was ready"
        if status == 0 and not served:
            return got, "ready, but does not answer"
        if lost:
            return got, "not all that was there is there"
        return got, None

    def starts(self, name, directory, prepare, kept=None):
        def turn(fault, n):
            shutil.rmtree(directory, ignore_errors=True)
            prepare()
            got, wrong = self.life(directory, fault, n)
            again, wrong_again = self.life(directory, None, 0, kept)
            if wrong_again or again.status != 0:
                return got, f"the next start: {wrong_again or again.err[-300:]}"
            left = self.turns.run([BUILD / "loquat-compact", "verify", "--data", directory])
            if left.status != 0:
                return got, f"verify: {left.out.decode()[-300:]}{left.err}"
            return got, wrong
        self.turns.each(name, MEMORY + calls(DISK), turn, dear=True)

    def accept(self):
        """The first connection meets the error, so many times; then it is served."""
        for error in STUCK + GONE:
            for times in (1, 3):
                name = f"gateway accept: {os.strerror(error)}, {times} times"
                if self.turns.only and self.turns.only not in name:
                    continue
                log = self.turns.scratch / "accept.log"
                log.unlink(missing_ok=True)
                shutil.rmtree(self.turns.scratch / "accept", ignore_errors=True)
                shutil.copytree(self.made, self.turns.scratch / "accept")
                process, url = self.turns.serve(self.turns.scratch / "accept",
                                                Fault("accept", "accept", error, OURS, times), 1)
                began = time.monotonic()
                fine = url is not None and answers(url)
                took = time.monotonic() - began
                status = self.turns.stop(process)
                text = log.read_text()
                got = Run(status or 0, b"", text, self.turns.reached())
                said = text.count("no more connections can be taken") == times
                wrong = (None if fine and status == 0 and got.reached and took < 5 else
                         f"answered {fine} after {took:.1f} s")
                if wrong is None and error in STUCK and not said:
                    wrong = "the log does not say so"
                self.turns.count(name, got, wrong)

    def descriptors(self):
        """No descriptor is left in a server that runs: who comes waits, and is served once there is."""
        process, url = self.turns.serve(self.turns.scratch / "descriptors")
        used = len(os.listdir(f"/proc/{process.pid}/fd"))
        _, hard = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
        # Descriptors that are closed in between leave gaps, hence the highest.
        highest = max(int(fd) for fd in os.listdir(f"/proc/{process.pid}/fd"))
        fine = answers(url)
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (min(used, highest), hard))
        host, port = url.removeprefix("http://").split(":")
        waiting = [socket.create_connection((host, int(port)), 5) for _ in range(3)]
        for client in waiting:
            client.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        log = self.turns.scratch / "descriptors.log"
        until = time.monotonic() + 10
        while "no more connections" not in log.read_text() and time.monotonic() < until:
            time.sleep(0.01)
        said = "no more connections" in log.read_text()
        calm = len(log.read_text().splitlines())
        time.sleep(1)  # the time is what is measured: how often it says so
        calm = len(log.read_text().splitlines()) - calm
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (hard, hard))
        served = 0
        for client in waiting:
            client.settimeout(5)
            try:
                served += client.recv(4096).startswith(b"HTTP/1.1 200")
            except TimeoutError:
                pass
            client.close()
        status = self.turns.stop(process)
        got = Run(status or 0, b"", log.read_text(), "")
        self.turns.count("gateway: no descriptor left", got,
                         None if fine and said and served == 3 and calm <= 6 and status == 0 else
                         f"said {said}, {calm} lines a second, served {served} of 3")

    def all(self):
        only = self.turns.only
        self.accept()
        if not only or only in "gateway descriptors":
            self.descriptors()
        self.starts("gateway first start", self.turns.scratch / "first", lambda: None)
        again = self.turns.scratch / "again"
        self.starts("gateway start", again, lambda: shutil.copytree(self.made, again), self.kept)
        old = self.turns.scratch / "old"
        shutil.copytree(self.made, old)
        self.turns.must([BUILD / "tests/faults/older", old])
        self.starts("gateway start, old directory", again, lambda: shutil.copytree(old, again),
                    self.kept)


def answers(url):
    """A good client: waits for as long as one would."""
    done = subprocess.run(["curl", "-s", "-m", "8", "-o", "/dev/null", "-w", "%{http_code}",
                           f"{url}/healthz"], capture_output=True)
    return done.stdout == b"200"
