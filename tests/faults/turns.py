#!/usr/bin/python3
"""turns.py [--short] [--seed N] [--only TEXT] [log|compact|gateway|parsers…]: every fallible call in
turn. Each command is run with its first call of a class failing, with its second, and so on until it
has no more (tests/faults/shim.c). Each run ends with 0 only if its work is done, and otherwise with a
message and 1, never by a signal; files are whole or absent; what was kept is sound; the same again
does the rest. --short leaves out more and more of the later calls, by the seed that is printed.
The last line, `N passed, N failed`, counts runs."""
import argparse
import os
import re
import signal
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import turns_compact  # noqa: E402
import turns_gateway  # noqa: E402
import turns_lib  # noqa: E402
import turns_log  # noqa: E402


class Parsers:
    """build/tests/faults/parse, which takes its turns by itself."""

    def __init__(self, turns):
        self.turns = turns

    def all(self):
        done = subprocess.run([turns_lib.BUILD / "tests/faults/parse"], stdout=subprocess.PIPE, text=True,
                              env=dict(self.turns.clean, LD_PRELOAD=str(turns_lib.SHIM)))
        print(done.stdout, end="")
        counts = re.search(r"(\d+) passed, (\d+) failed\s*$", done.stdout)
        self.turns.passed += int(counts.group(1)) if counts else 0
        self.turns.failed += int(counts.group(2)) if counts else 1


def main():
    parts = {"parsers": Parsers, "log": turns_log.Log, "compact": turns_compact.Compact,
             "gateway": turns_gateway.Gateway}
    parser = argparse.ArgumentParser()
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "little"))
    parser.add_argument("--only", default="", help="commands whose name has this in it")
    parser.add_argument("parts", nargs="*", default=list(parts))
    options = parser.parse_args()
    print(f"seed {options.seed}")
    if re.search("asan|tsan", str(turns_lib.BUILD)):
        print("skipped: a sanitizer comes before the shim\n0 passed, 0 failed")
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # servers are ended then, too
    turns = turns_lib.Turns(options.short, options.seed, options.only)
    try:
        for part in options.parts:
            parts[part](turns).all()
    finally:
        turns.close()
    print(f"{turns.passed} passed, {turns.failed} failed")
    return 1 if turns.failed else 0


if __name__ == "__main__":
    sys.exit(main())
