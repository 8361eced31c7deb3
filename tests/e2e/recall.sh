#!/bin/bash
# recall.sh [--seed N] [--queries N] [--all]: search beside a scan in Python, on a server of its own:
# whatever is looked for is found, before it is in the index and after.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/lib.sh
export PYTHONDONTWRITEBYTECODE=1

start_server "$scratch/data" || exit 1
LOQUAT_TOKEN=$(token reader --scope admin)
export LOQUAT_TOKEN
/usr/bin/python3 tests/e2e/recall.py "$build/loquat-log" "$scratch" "$@"
