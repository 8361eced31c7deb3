#!/bin/bash
# presence.sh: three loquat-nodes and two gateways. Who is there and who writes is told from one gateway to the
# other; when the nodes are killed one after the other nobody who stays is said to be gone, and what
# happens afterwards is told as before. Reactions wait in a new cluster until all know of them.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/lib.sh
pids=() gateways=() client= partitions=6

trap 'kill_all ${gateways[@]} ${pids[@]} $client; cleanup' EXIT

start_gateway() { # NAME OPTION…: sets address
    local name=$1
    shift
    "$build/loquat-gateway" --nodes "$nodes" --cluster-secret-file "$scratch/cluster" \
        --listen 127.0.0.1:0 --auth-secret-file "$scratch/secret" "$@" \
        >"$scratch/$name.out" 2>>"$scratch/$name.log" &
    gateways+=($!)
    await_ready "$scratch/$name.out" $!
}

make_secret "$scratch/cluster"
make_secret "$scratch/secret"
read -r p1 p2 p3 <<<"$(ports 3)"
cluster=1=127.0.0.1:$p1,2=127.0.0.1:$p2,3=127.0.0.1:$p3
nodes=127.0.0.1:$p1,127.0.0.1:$p2,127.0.0.1:$p3
for n in 1 2 3; do
    start_node $n
done
for n in 1 2 3; do
    await_ready "$scratch/n$n.out" "${pids[n]}"
    check "node $n is ready" $?
done
start_gateway a
check "a gateway says ready" $?
a=http://$address
start_gateway b --io-uring off
check "so does another one" $?
b=http://$address
for user in alice bob; do
    export "LOQUAT_TOKEN_${user^^}=$(token "$user")"
done
mkfifo "$scratch/say" "$scratch/hear"
/usr/bin/python3 tests/e2e/presence.py "$a" "$b" <"$scratch/say" >"$scratch/hear" 2>"$scratch/client.log" &
client=$!
exec 3>"$scratch/say" 4<"$scratch/hear"

step() { # WORD WHAT: the client does it, and says how it went
    local answer
    echo "$1" >&3
    read -r -t 60 answer <&4
    [[ $answer == "$1 ok" ]] || tail -n 20 "$scratch/client.log"
    [[ $answer == "$1 ok" ]]
    check "$2" $?
}

step there "alice, on one gateway, is told of bob on the other: there, writing, away"
step react "a reaction goes through once all nodes are known to understand it"
for n in 1 2 3; do
    kill -KILL "${pids[n]}"
    wait "${pids[n]}" 2>/dev/null
    sleep 3
    start_node $n
    await_ready "$scratch/n$n.out" "${pids[n]}"
    check "node $n was killed and is back" $?
done
step still "bob was never said to be gone"
step gone "what changes is told as before: typing, away, gone and back"
step end "the client ends"
wait "$client" || tail -n 20 "$scratch/client.log"
client=
for pid in "${gateways[@]}"; do
    kill -TERM "$pid"
    wait "$pid"
    check "a gateway drains and ends with 0" $?
done
gateways=()
for n in 1 2 3; do
    kill -TERM "${pids[n]}"
done
for n in 1 2 3; do
    wait "${pids[n]}"
    check "node $n ends with 0" $?
done
pids=()
finish
