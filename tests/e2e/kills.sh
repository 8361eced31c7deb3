#!/bin/bash
# kills.sh: a whole server is killed under load, again and again: every acknowledged message is there
# once, in dense order.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/lib.sh
rounds=${LOQUAT_KILL_ROUNDS:-10}

start_server "$scratch/d"
check "started" $?
listen=$address # the same port after each kill, so that clients find it
export LOQUAT_TOKEN_ALICE LOQUAT_TOKEN_BOB
LOQUAT_TOKEN_ALICE=$(token alice)
LOQUAT_TOKEN_BOB=$(token bob)
/usr/bin/python3 tests/e2e/kill_client.py "$scratch/acks" "$scratch/stop" >"$scratch/client.log" 2>&1 &
client=$!
for ((i = 0; i < rounds; i++)); do
    sleep "0.$((RANDOM % 9 + 1))"
    kill_server
    start_server "$scratch/d"
    check "round $i: comes back" $?
done
sleep 0.5
touch "$scratch/stop"
wait $client
check "the client ends by itself" $?
tail -n 3 "$scratch/client.log"
/usr/bin/python3 tests/e2e/kill_client.py --verify "$scratch/acks"
check "every acknowledged message is there once" $?
stop_server
check "drained" $?
finish
