#!/bin/bash
# replicas.sh: a long log is read from all nodes that have it: its pages come from followers too, and
# make one whole; also while nodes go and come.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/lib.sh
pids=() partitions=4 messages=40000

trap 'kill_all ${pids[@]}; cleanup' EXIT

read -r p1 p2 p3 <<<"$(ports 3)"
cluster=1=127.0.0.1:$p1,2=127.0.0.1:$p2,3=127.0.0.1:$p3
make_secret "$scratch/cluster"
make_secret "$scratch/secret"
for n in 1 2 3; do
    start_node $n
done
for n in 1 2 3; do
    await_ready "$scratch/n$n.out" "${pids[n]}"
    check "node $n says ready" $?
done
: >"$scratch/gateway.out"
"$build/loquat-gateway" --nodes "127.0.0.1:$p1,127.0.0.1:$p2,127.0.0.1:$p3" --loops 1 \
    --cluster-secret-file "$scratch/cluster" --listen 127.0.0.1:0 --auth-secret-file "$scratch/secret" \
    >"$scratch/gateway.out" 2>"$scratch/gateway.log" &
pids[10]=$!
await_ready "$scratch/gateway.out" "${pids[10]}"
check "a gateway says ready" $?
export LOQUAT_URL=http://$address LOQUAT_TOKEN
LOQUAT_TOKEN=$(token root --scope admin)

/usr/bin/python3 -c '
import json, sys
for i in range(int(sys.argv[1])):
    print(json.dumps({"conv": "long", "ts": 1700000000000 + i * 1000, "from": f"user{i % 7}",
                      "text": f"message {i} of a log that takes many pages " + "x" * (i % 200)}))
' "$messages" >"$scratch/long.jsonl"
"$build/loquat-log" import --json "$scratch/long.jsonl" >"$scratch/totals" 2>"$scratch/errors"
check "a long log is imported" $?
c=$(curl -sS -m 20 -H "Authorization: Bearer $LOQUAT_TOKEN" "$LOQUAT_URL/v1/conversations" |
    jq -r '[.. | objects | select(.c?) | .c][0]')
[[ $c == ?* && $c != null ]]
check "its id is known: $c" $?
followed() {
    local n sum=0
    for n in 1 2 3; do
        [[ -z ${pids[n]} ]] || sum=$((sum + $(metric "$n" loquat_follower_reads_total)))
    done
    echo "$sum"
}
read_all() { # FILE
    curl -sS -m 60 -H "Authorization: Bearer $LOQUAT_TOKEN" -H 'Accept: application/x-ndjson' \
        "$LOQUAT_URL/v1/conversations/$c/records" >"$1"
}
read_all "$scratch/first"
check "it is read" $?
[[ $(grep -c 'of a log that takes many pages' "$scratch/first") == "$messages" ]]
check "whole" $?
sleep 1.5 # metrics are taken now and then
((($(followed)) > 0))
check "followers had a part in it ($(followed) pages)" $?

differ=0
for n in 1 2 3; do
    kill -KILL "${pids[n]}"
    wait "${pids[n]}" 2>/dev/null
    pids[n]=
    for ((i = 0; i < 3; i++)); do
        read_all "$scratch/again" && cmp -s "$scratch/first" "$scratch/again" || differ=$((differ + 1))
    done
    start_node $n
    read_all "$scratch/again" && cmp -s "$scratch/first" "$scratch/again" || differ=$((differ + 1))
    await_ready "$scratch/n$n.out" "${pids[n]}"
    check "node $n was killed, and is back" $?
done
((differ == 0))
check "what was read meanwhile is the same each time ($differ of 12 differ)" $?

# Twelve readers at once, while a node hangs: its pages come from elsewhere when it is given up.
kill -STOP "${pids[2]}"
readers=()
for ((i = 0; i < 12; i++)); do
    read_all "$scratch/reader$i" &
    readers+=($!)
done
wait "${readers[@]}"
kill -CONT "${pids[2]}"
differ=0
for ((i = 0; i < 12; i++)); do
    cmp -s "$scratch/first" "$scratch/reader$i" || differ=$((differ + 1))
done
((differ == 0))
check "twelve readers while a node hangs: $differ differ" $?
finish
