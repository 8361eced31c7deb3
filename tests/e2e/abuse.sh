#!/bin/bash
# abuse.sh: clients that break rules, tokens of every kind, drains: tests/e2e/abuse*.py on servers of
# their own. Ends with `N passed, N failed`.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/lib.sh
export BUILD=$build PYTHONDONTWRITEBYTECODE=1
for part in abuse abuse_keys abuse_drain; do
    mkdir -p "$scratch/$part"
    /usr/bin/python3 "tests/e2e/$part.py" "$scratch/$part" >"$scratch/$part.out" 2>&1
    status=$?
    cat "$scratch/$part.out"
    if [[ $(tail -n 1 "$scratch/$part.out") =~ ^([0-9]+)\ passed,\ ([0-9]+)\ failed$ ]]; then
        passed=$((passed + BASH_REMATCH[1]))
        failed=$((failed + BASH_REMATCH[2]))
    else
        check "$part: ended with counts (exit status $status)" 1
    fi
done
finish
