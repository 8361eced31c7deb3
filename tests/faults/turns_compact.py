"""turns_compact.py: loquat-compact on a directory at rest and on that of a running server."""
import hashlib
import json
import shutil

from turns_lib import BUILD, DISK, LOOP, MEMORY, calls
from turns_log import archive

REPORT = ("ok", "conversations", "rows", "gone", "damages", "causes", "families", "convs")
KEEP = 10  # messages of a conversation of which `run` leaves so many


class Compact:
    def __init__(self, turns):
        self.turns, self.dir = turns, turns.scratch / "compact"
        process, url = turns.serve(self.dir)
        token = turns.must(turns.log("token", "--user", "ops", "--scope", "admin", "--secret-file",
                                     turns.secret)).decode().strip()
        env = {"LOQUAT_URL": url, "LOQUAT_TOKEN": token}
        for name in ("one", "two"):
            file = turns.scratch / f"{name}.jsonl"
            file.write_bytes(archive(name))
            turns.must(turns.log("import", file), env=env)
        turns.check("compact: the server ends with 0", turns.stop(process) == 0)
        self.whole = self.report("status", self.dir)

    def argv(self, command, directory, *more):
        return [BUILD / "loquat-compact", command, "--data", directory, "--json", *more]

    def report(self, command, directory, *more):
        return json.loads(self.turns.must(self.argv(command, directory, *more)))

    def picture(self):
        """What must stay as it is."""
        files = sorted(f for f in self.dir.rglob("*") if f.is_file() and f.name != "LOCK")
        return hashlib.sha256(b"".join(str(f).encode() + f.read_bytes() for f in files)).digest()

    @staticmethod
    def same(out, want, members):
        try:
            got = json.loads(out)
        except ValueError:
            return False
        return got.keys() == want.keys() and all(got.get(k) == want.get(k) for k in members)

    def reading(self, name, directory, argv, callers, members):
        want, before = json.loads(self.turns.must(argv)), self.picture()

        def turn(fault, n):
            got = self.turns.run(argv, fault, n)
            if got.status == 0 and not self.same(got.out, want, members):
                return got, "ended with 0: another report"
            if got.status == 1 and b'"what"' in got.out:
                got = got._replace(err=got.err or "damages are named")
            return got, None
        self.turns.each(name, MEMORY + calls(callers), turn)
        if directory == self.dir:
            self.turns.check(f"{name}: changed nothing", before == self.picture())

    def rest(self):
        for command, more in (("status", ()), ("plan", ("--max-count", KEEP)), ("verify", ())):
            self.reading(f"compact {command} at rest", self.dir,
                         self.argv(command, self.dir, *more), DISK, REPORT)

    def copy(self):
        to = self.turns.scratch / "copy"
        shutil.rmtree(to, ignore_errors=True)
        shutil.copytree(self.dir, to, ignore=lambda _, names: [n for n in names if "sock" in n])
        return to

    def run(self):
        argv = ("--max-count", KEEP, "--yes")
        to = self.copy()
        self.turns.must(self.argv("run", to, *argv))
        none = self.report("plan", to, *argv[:2])

        def turn(fault, n):
            directory = self.copy()
            got = self.turns.run(self.argv("run", directory, *argv), fault, n)
            left = self.turns.run(self.argv("verify", directory))
            if left.status != 0:
                return got, f"verify: {left.out.decode()[-300:]}{left.err}"
            if got.status == 0 and not self.done(directory, none):
                return got, "ended with 0: there is more to do"
            self.turns.must(self.argv("run", directory, *argv))
            return got, None if self.done(directory, none) else "again: there is more to do"
        self.turns.each("compact run at rest", MEMORY + calls(DISK), turn, dear=True)

    def done(self, directory, none):
        return self.report("plan", directory, "--max-count", KEEP).get("removed") == none.get("removed")

    def running(self):
        directory = self.copy()
        process, _ = self.turns.serve(directory)
        for command, more in (("status", ()), ("plan", ("--max-count", KEEP)), ("verify", ()),
                              ("run", ("--max-count", KEEP, "--yes"))):
            self.reading(f"compact {command} running", directory,
                         self.argv(command, directory, *more), LOOP, ("ok", "damages"))
        self.turns.check("compact: the server ends with 0", self.turns.stop(process) == 0)

    def full(self):
        for command in ("status", "plan", "verify"):
            for argv in (self.argv(command, self.dir), self.argv(command, self.dir)[:-1]):
                with open("/dev/full", "wb") as out:
                    got = self.turns.run(argv, stdout=out)
                wrong = self.turns.manners(got) or (None if got.status == 1 else "ended with 0")
                self.turns.count(f"compact {command} > /dev/full", got, wrong)

    def all(self):
        self.rest()
        self.run()
        self.running()
        self.full()
