"""turns_log.py: loquat-log against a server that is well."""
import json
import os
import re
import resource
import signal
import subprocess
import time

from turns_lib import BUILD, LOOP, MEMORY, TURN_S, ZSTD, Run, calls

FAULTS = MEMORY + ZSTD + calls(LOOP)
LINES = 30


def archive(name, lines=LINES):
    """Three writers, with what lines may have."""
    text, begun = "", int(time.time() * 1000)
    for i in range(lines):
        line = {"conv": name, "ts": begun + i, "from": ("ann", "bob", "c d")[i % 3],
                "text": f"line {i} " + "x" * (i * 7), "reply_to": i - 1 if i % 4 == 3 else None}
        text += json.dumps(line, separators=(",", ":"), ensure_ascii=False) + "\n"
    return text.encode()


class Log:
    def __init__(self, turns):
        self.turns, self.serial = turns, 0
        self.process, url = turns.serve(turns.scratch / "server")
        token = turns.must(turns.log("token", "--user", "ops", "--scope", "admin", "--secret-file",
                                     turns.secret)).decode().strip()
        self.env = {"LOQUAT_URL": url, "LOQUAT_TOKEN": token}
        file = turns.scratch / "first.jsonl"
        file.write_bytes(archive("first"))
        self.must("import", file)
        listed = self.must("export", "--all")
        turns.check("log: what was imported is exported", listed == file.read_bytes())
        self.first = self.must("open", "--name", "plain", "--cid", "plain", "ann").decode().strip()
        for i in range(5):
            self.must("send", "--cid", f"m{i}", self.first, f"message {i}")

    def must(self, *argv, **how):
        return self.turns.must(self.turns.log(*argv), env=self.env, **how)

    def run(self, fault, n, *argv, **how):
        env = dict(self.env, **how.pop("more", {}))
        return self.turns.run(self.turns.log(*argv), fault, n, env=env, **how)

    # ---- commands that print ----

    def printing(self, name, argv, fits, faults=FAULTS, more=None):
        """What ends with 0 has printed all of it."""
        def turn(fault, n):
            got = self.run(fault, n, *argv, more=more or {})
            return got, None if got.status != 0 or fits(got.out) else "ended with 0: not all is there"
        self.turns.each(f"log {name}", faults, turn)

    def prints(self):
        token = re.compile(rb"[\w-]+\.[\w-]+\.[\w-]+\n")
        self.printing("token", ["token", "--user", "a", "--secret-file", self.turns.secret],
                      lambda out: token.fullmatch(out))
        config = self.turns.scratch / "log.yaml"
        file = self.turns.scratch / "token"
        file.write_text(self.env["LOQUAT_TOKEN"])
        config.write_text(f"url: {self.env['LOQUAT_URL']}\ntoken-file: {file}\n")
        for name, argv, more in (("read", ["read", self.first], {}),
                                 ("read --json", ["read", "--json", self.first], {}),
                                 ("stat conversation", ["stat", self.first], {}),
                                 ("export to a pipe", ["export", self.first], {}),
                                 ("settings file", ["read", "--config", config, self.first],
                                  {"LOQUAT_URL": "", "LOQUAT_TOKEN": ""}),
                                 ("--config-show", ["read", "--config", config, "--config-show"],
                                  {"LOQUAT_URL": "", "LOQUAT_TOKEN": ""})):
            want = self.turns.must(self.turns.log(*argv), env=dict(self.env, **more))
            self.printing(name, argv, lambda out, want=want: out == want, more=more)
        self.printing("stat", ["stat"], lambda out: b"loquat_connections_accepted_total" in out
                      and out.endswith(b"\n"))

    # ---- commands that write ----

    def count_of(self, text):
        return self.must("read", self.first).count(text.encode())

    def send(self):
        def turn(fault, n):
            self.serial += 1
            text = f"text {self.serial}."
            argv = ("send", "--cid", f"s{self.serial}", self.first)
            file = self.turns.scratch / "text"
            file.write_text(text + "\n")
            with open(file, "rb") as stdin:
                got = self.run(fault, n, *argv, stdin=stdin)
            if got.status == 0 and not re.match(rb"\d+", got.out):
                return got, "ended with 0 without a sequence"
            if got.status == 0 and self.count_of(text) != 1:
                return got, "ended with 0, and the message is not there once"
            self.must(*argv, text)
            return got, None if self.count_of(text) == 1 else "the message is not there once"
        self.turns.each("log send", FAULTS, turn, dear=True)

    def open(self):
        def turn(fault, n):
            self.serial += 1
            argv = ("open", "--name", "g", "--cid", f"o{self.serial}", "ann", "bob")
            got, again = self.run(fault, n, *argv), self.must(*argv)
            return got, None if got.status != 0 or got.out == again else "ended with 0: another id"
        self.turns.each("log open", FAULTS, turn)

    def imports(self):
        def turn(fault, n):
            self.serial += 1
            name = f"i{self.serial}"
            file = self.turns.scratch / ("a.jsonl.zst" if self.serial % 2 else "a.jsonl")
            text = archive(name)
            file.write_bytes(text)
            if self.serial % 2:
                subprocess.run(["zstd", "-qf", "-o", file, "-"], input=text, check=True)
            got = self.run(fault, n, "import", file)
            if got.status != 0:
                self.must("import", file)
            group = self.find(name)
            return got, None if self.must("export", group) == text else "not what was imported"
        self.turns.each("log import", FAULTS, turn, dear=True)

    def find(self, name):
        """The id of one of the newest conversations by its name."""
        request = subprocess.run(
            ["curl", "-sS", "-H", f"Authorization: Bearer {self.env['LOQUAT_TOKEN']}",
             f"{self.env['LOQUAT_URL']}/v1/conversations?limit=10"], capture_output=True, check=True)
        return next(c["c"] for c in json.loads(request.stdout)["convs"] if c.get("name") == name)

    def export(self, suffix):
        out, part = (self.turns.scratch / f"out.{suffix}{more}" for more in ("", ".part"))
        argv = ("export", self.first, "--out", out)
        self.must(*argv)
        want = out.read_bytes()

        def turn(fault, n):
            for file in (out, part):
                file.unlink(missing_ok=True)
            got = self.run(fault, n, *argv)
            there = out.read_bytes() if out.exists() else None
            if there != want and (got.status == 0 or there is not None):
                return got, "the file is not whole"
            ended_at_once = fault.kind == "alloc" or "gave up" in got.err
            if part.exists() and not ended_at_once:
                return got, "a half file is left"
            self.must(*argv)
            return got, None if out.read_bytes() == want else "again: the file is not whole"
        self.turns.each(f"log export {suffix}", FAULTS, turn)

    def tail(self):
        want = self.must("read", "--view", "log", self.first)
        lines = want.count(b"\n")

        def turn(fault, n):
            process = subprocess.Popen(
                self.turns.log("tail", "--from", "1", self.first), stderr=subprocess.PIPE,
                env=self.turns.environment(fault, n, self.env), stdout=subprocess.PIPE)
            out, until = b"", time.monotonic() + TURN_S
            os.set_blocking(process.stdout.fileno(), False)
            while out.count(b"\n") < lines and process.poll() is None and time.monotonic() < until:
                out += process.stdout.read() or b""
                time.sleep(0.002)
            process.send_signal(signal.SIGINT)
            rest, err = process.communicate()
            got = Run(process.returncode, out + rest, err.decode(), self.turns.reached())
            if got.status == 0 and got.out != want:
                return got, "not every record once"
            return got, None
        self.turns.each("log tail", FAULTS, turn, dear=True)

    # ---- standard output and input ----

    def streams(self):
        """Real ones: a disk that is full at once or after some bytes, a closed one, no input."""
        commands = {"token": ("token", "--user", "a", "--secret-file", self.turns.secret),
                    "read": ("read", self.first), "read --json": ("read", "--json", self.first),
                    "export": ("export", self.first), "stat": ("stat",),
                    "send": ("send", "--cid", "full", self.first, "full"),
                    "open": ("open", "--name", "g", "--cid", "full", "ann"),
                    "import": ("import", self.turns.scratch / "first.jsonl"),
                    "--help": ("--help",), "--version": ("--version",), "read --help": ("read", "--help"),
                    "--config-show": ("read", "--config-show")}
        for name, argv in commands.items():
            with open("/dev/full", "wb") as full:
                got = self.run(None, 0, *argv, stdout=full)
            wrong = self.turns.manners(got) or (None if got.status == 1 else "ended with 0")
            self.turns.count(f"log {name} > /dev/full", got, wrong)
            got = self.run(None, 0, *argv, preexec_fn=lambda: os.close(1))
            wrong = self.turns.manners(got) or (None if got.status == 1 else "ended with 0")
            self.turns.count(f"log {name} >&-", got, wrong)
        size = len(self.must("export", self.first))
        for most in range(0, size, max(1, size // 7)):
            file = self.turns.scratch / "limited"
            with open(file, "wb") as out:
                got = self.run(None, 0, "export", self.first, stdout=out,
                               preexec_fn=lambda most=most: limit_files(most))
            wrong = self.turns.manners(got) or (None if got.status == 1 else "ended with 0")
            self.turns.count(f"log export > a file of {most} bytes at most", got, wrong)
        folder = os.open("/", os.O_RDONLY)
        for argv in (("send", self.first), ("import", "-")):
            got = self.run(None, 0, *argv, stdin=folder)
            wrong = self.turns.manners(got) or (None if got.status == 1 else "ended with 0")
            self.turns.count(f"log {argv[0]} < /", got, wrong)
        os.close(folder)

    def all(self):
        self.prints()
        self.send()
        self.open()
        self.imports()
        self.export("jsonl")
        self.export("jsonl.zst")
        self.tail()
        if not self.turns.only or "streams" in self.turns.only:
            self.streams()
        self.turns.check("log: the server ends with 0", self.turns.stop(self.process) == 0)
        got = self.turns.run([BUILD / "loquat-compact", "verify", "--data",
                              self.turns.scratch / "server"])
        self.turns.check("log: nothing of the server is damaged", got.status == 0, got)


def limit_files(most):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
