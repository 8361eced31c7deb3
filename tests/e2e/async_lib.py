"""Runs the `test_…` coroutines of a module one after the other; the last line is `N passed, N failed`."""

import asyncio
import sys
import traceback

SECONDS_MAX = 60  # for one of them


async def run(module, only):
    passed = failed = 0
    for name, function in [(n, f) for n, f in module.items() if n.startswith("test_")]:
        if only and name not in only:
            continue
        try:
            await asyncio.wait_for(function(), SECONDS_MAX)
            passed += 1
            print(f"ok    {name}", flush=True)
        except Exception:  # the report is the point
            failed += 1
            print(f"FAIL  {name}\n{traceback.format_exc()}", flush=True)
    print(f"{passed} passed, {failed} failed")
    return failed


def main(module, only=()):
    sys.exit(1 if asyncio.run(run(module, only)) else 0)
