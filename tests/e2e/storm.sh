#!/bin/bash
# storm.sh: 200 live clients cut off at once, by resets and by kills of the server, and back within
# a second: all are live again, and every record came to each exactly once (bench/storm says so).
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/lib.sh

BUILD=$build "$build/bench/storm" --conns 200 --secs 1 >"$scratch/results"
check "resets and kills: all come back, nothing is missed, nothing comes twice" $?
for case in storm-reset storm-kill storm; do
    grep "\"bench\":\"$case\"" "$scratch/results" |
        grep '"connections":200,' | grep '"failed":0,' | grep -q '"missed":0,"twice":0,'
    check "$case: no connection that could not be made" $?
done
finish
