#!/bin/bash
# replay.sh: 200 live users who say what the people of a chat archive said, 50 times as fast, for five
# seconds: what each of them has seen is what the server folded, and what is unread counts right
# (bench/replay says so, and has the differences).
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/lib.sh

BUILD=$build timeout 120 "$build/bench/replay" --conns 200 --secs 5 >"$scratch/results"
check "every view is the server's" $?
grep '"bench":"replay","value":0,' "$scratch/results" | grep '"users":200,' |
    grep -q '"missed":0,"twice":0,'
check "nothing is missed, nothing comes twice, nothing differs" $?
finish
