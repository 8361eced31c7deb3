"""turns_lib.py: one command, one class of calls, and in each run the next call of the class fails."""
import collections
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import tempfile
import time

BUILD = pathlib.Path(os.environ.get("BUILD", "build")).resolve()
SHIM = BUILD / "tests/faults/shim.so"
TURN_S = 60  # a run that takes longer hangs; on a busy machine a sync alone takes a quarter of it
SLOW_S = 5  # one that takes longer is named
TURNS_MAX = 100000
ALL_MAX, ALL_MAX_DEAR = 300, 100
DEAR_RUNS = 2
SHORT_S = 90  # a short run begins no other command after it
SHOWN_MAX = 60  # kinds of failures that are printed with all they said

ENOMEM, EIO, EINTR, EMFILE, ENFILE, ENOSPC, EAGAIN, ENOBUFS, ECONNABORTED, SHORT = (
    12, 5, 4, 24, 23, 28, 11, 105, 103, 0)
OURS = "main"
LOOP = "main,libuv"
DISK = "main,libuv,librocksdb"
# Those that answer when they get no memory. Not RocksDB and libstdc++: they throw bad_alloc.
LIBRARIES = ("libuv,libcjose,libjansson,libcyaml,libyaml,libcrypto,libsimdjson,libwslay,libprotobuf,"
             "libz.,libraft")

Fault = collections.namedtuple("Fault", "name kind errno callers times", defaults=[1])
MEMORY = [Fault("memory", "alloc", ENOMEM, OURS),
          Fault("memory of libraries", "alloc", ENOMEM, LIBRARIES)]
ZSTD = [Fault("memory of zstd", "alloc", ENOMEM, "libzstd")]  # where RocksDB is not the one who asks


def calls(callers):
    """What a program asks of the kernel, by callers."""
    return [Fault("open", "open", EMFILE, callers), Fault("read", "read", EIO, callers),
            Fault("read again", "read", EINTR, callers), Fault("read less", "read", SHORT, callers),
            Fault("write", "write", ENOSPC, callers), Fault("write again", "write", EINTR, callers),
            Fault("write less", "write", SHORT, callers), Fault("sync", "sync", EIO, callers),
            Fault("rename", "rename", EIO, callers), Fault("close", "close", EIO, callers),
            Fault("socket", "socket", EMFILE, callers), Fault("map", "map", ENOMEM, callers),
            Fault("thread", "thread", EAGAIN, callers)]


Run = collections.namedtuple("Run", "status out err reached")


class Turns:
    """Counts, says what failed, and holds what all commands share."""

    def __init__(self, short, seed, only):
        self.short, self.only = short, only
        self.random = random.Random(seed)
        # In memory, where there is such a place: no sync waits for what others write.
        place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self.scratch = pathlib.Path(tempfile.mkdtemp(prefix="turns.", dir=os.environ.get("TMPDIR", place)))
        self.begun = time.monotonic()
        self.passed = self.failed = 0
        self.alike = collections.Counter()  # by where and what, so that each kind is shown once
        self.secret = self.scratch / "secret"
        self.secret.write_text("0123456789abcdef" * 4)
        self.secret.chmod(0o600)
        self.clean = {k: v for k, v in os.environ.items() if not k.startswith(("LOQUAT_", "FAULT_"))}
        self.started = []

    def close(self):
        for process in self.started:
            if process.poll() is None:
                process.kill()
                process.wait()
        shutil.rmtree(self.scratch, ignore_errors=True)

    # ---- running ----

    def environment(self, fault=None, at=0, more=None):
        env = dict(self.clean, **(more or {}))
        if fault is not None:
            env.update(LD_PRELOAD=str(SHIM), FAULT_CLASS=fault.kind, FAULT_AT=str(at),
                       FAULT_TIMES=str(fault.times), FAULT_ERRNO=str(fault.errno),
                       FAULT_FROM=fault.callers, FAULT_NOTE=str(self.note))
        return env

    @property
    def note(self):
        return self.scratch / "note"

    def reached(self):
        """Where the fault was, or nothing."""
        if not self.note.exists():
            return ""
        line = self.note.read_text().splitlines()[0]
        self.note.unlink()
        return line

    def run(self, argv, fault=None, at=0, env=None, stdin=None, limit=TURN_S, **how):
        """One run, on its own or with a fault. A status below 0 is a signal."""
        how.setdefault("stdout", subprocess.PIPE)
        done = subprocess.Popen([str(a) for a in argv], env=self.environment(fault, at, env),
                                stdin=stdin or subprocess.DEVNULL, stderr=subprocess.PIPE, **how)
        self.started.append(done)
        try:
            out, err = done.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            done.kill()
            out, err = done.communicate()
            err += b"\n[not done after %d s]" % limit
        self.started.remove(done)
        return Run(done.returncode, out or b"", err.decode(errors="replace"), self.reached())

    def log(self, *argv):
        return [BUILD / "loquat-log", *argv]

    def must(self, argv, **how):
        """A run without a fault, which has to work."""
        got = self.run(argv, **how)
        if got.status != 0:
            raise RuntimeError(f"{argv}: status {got.status}: {got.err}")
        return got.out

    # ---- the next call, and the next ----

    def numbers(self, fault, dear):
        """1, 2, 3, …, with gaps after ALL_MAX: how OpenSSL begins takes thousands of allocations.
        In a short run the gaps grow from the first on, or it is a few where a run is dear."""
        if self.short and dear:
            powers = 12 if fault.kind == "alloc" else 6
            yield from sorted(self.random.randint(1, 2 ** self.random.randint(0, powers))
                              for _ in range(DEAR_RUNS))
            return
        n = 1
        while n < TURNS_MAX:
            yield n
            all_max = ALL_MAX_DEAR if dear else ALL_MAX
            n += self.random.randint(1, n if self.short else 1 + n // all_max * 3)

    def each(self, command, faults, turn, dear=False):
        """turn(fault, n) makes one run and gives (Run, what is wrong with it or None)."""
        if self.only and self.only not in command:
            return
        if self.short and time.monotonic() - self.begun > SHORT_S:
            print(f"left out, no time: {command}")
            return
        began, before = time.monotonic(), self.failed
        runs = 0
        for fault in faults:
            for n in self.numbers(fault, dear):
                turn_began = time.monotonic()
                got, wrong = turn(fault, n)
                if time.monotonic() - turn_began > SLOW_S:
                    print(f"slow  {command}: {fault.name} {n}: {time.monotonic() - turn_began:.1f} s, "
                          f"status {got.status}, {self.place(got.reached)}", flush=True)
                if not got.reached:
                    self.count(f"{command}: {fault.name} {n} (not reached)", got, wrong)
                    break
                runs += 1
                self.count(f"{command}: {fault.name} {n}", got, wrong or self.manners(got))
        print(f"{'ok  ' if self.failed == before else 'FAIL'}  {command:<28} {runs:5} faults "
              f"{time.monotonic() - began:6.1f} s", flush=True)

    def manners(self, got):
        """What is asked of every program, whatever failed. A server may leave a core of an abort in
        one of its libraries, after a word."""
        if got.status == -signal.SIGABRT and "loquat-gateway: a library gave up" in got.err:
            return None
        if got.status < 0:
            return f"ended by {signal.Signals(-got.status).name}"
        if got.status not in (0, 1):
            return f"exit status {got.status}"
        if got.status != 0 and not got.err.strip():
            return "failed without a word"
        if re.search(r"^loquat: .*assertion failed", got.err, re.MULTILINE):
            return "an assertion of ours failed"
        return None

    def count(self, name, got, wrong):
        if wrong is None:
            self.passed += 1
            return
        self.failed += 1
        place = self.place(got.reached)
        kind = place, wrong
        self.alike[kind] += 1
        if self.alike[kind] == 1 and len(self.alike) <= SHOWN_MAX:
            print(f"FAIL  {name}: {wrong}\n      {place}\n"
                  f"      status {got.status}: {got.err.strip()[-300:]}", flush=True)

    def check(self, name, fine, got=Run(0, b"", "", "")):
        self.count(name, got, None if fine else "no")

    def place(self, reached):
        """`function object offset` as a line of our code."""
        if not reached:
            return "not reached"
        function, path, offset = reached.split()
        if "/lib/" in path:
            return f"{function} from {path}"
        line = subprocess.run(["addr2line", "-i", "-f", "-s", "-e", path, hex(int(offset, 16) - 1)],
                              capture_output=True, text=True).stdout.split("\n")
        return f"{function} from {' < '.join(line[:8])}"

    # ---- a server ----

    def serve(self, directory, fault=None, at=0, more=(), limit=TURN_S):
        """Starts a gateway; gives the process and its URL, or the process and None when it ended."""
        log = open(f"{directory}.log", "ab")
        process = subprocess.Popen(
            [BUILD / "loquat-gateway", "--embed", directory, "--listen", "127.0.0.1:0",
             "--auth-secret-file", self.secret, "--disk-reserve", "1", "--loops", "1",
             "--partitions", "2", *more],
            env=self.environment(fault, at), stdout=subprocess.PIPE, stderr=log)
        log.close()
        self.started.append(process)
        timer = time.monotonic() + limit
        os.set_blocking(process.stdout.fileno(), False)
        said = b""
        while time.monotonic() < timer:
            piece = process.stdout.read()
            said += piece or b""
            if b"\n" in said or piece == b"":
                break
            time.sleep(0.005)
        found = re.search(rb"ready listen=(\S+)", said)
        return process, f"http://{found.group(1).decode()}" if found else None

    def stop(self, process, limit=TURN_S):
        """By SIGTERM; the exit status, or None when it did not end."""
        process.terminate()
        try:
            status = process.wait(limit)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            status = None
        process.stdout.close()
        self.started.remove(process)
        return status
