#!/bin/bash
# cluster.sh: three loquat-nodes and two gateways. Users talk while nodes are killed, stopped, paused
# and replaced: everything acknowledged is there once and in order, whoever is live gets everything once, no
# request fails and nobody is cut off. Nodes that do not belong are refused, with a reason.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/lib.sh
pids=() gateways=() client= acks_turns=400 partitions=6

trap 'kill_all ${gateways[@]} ${pids[@]} $client; cleanup' EXIT

node_ready() { # N
    await_ready "$scratch/n$1.out" "${pids[$1]}"
}

kill_node() { # N
    kill -KILL "${pids[$1]}"
    wait "${pids[$1]}" 2>/dev/null
    pids[$1]=
}

start_gateway() { # NAME: sets address
    "$build/loquat-gateway" --nodes "$nodes" --cluster-secret-file "$scratch/cluster" \
        --listen 127.0.0.1:0 --auth-secret-file "$scratch/secret" \
        >"$scratch/$1.out" 2>>"$scratch/$1.log" &
    gateways+=($!)
    await_ready "$scratch/$1.out" $!
}

led() { # N: how many partitions it serves
    metric "$1" loquat_partitions_serving
}

ask_cluster() { # WORD…: its words are in $scratch/ask
    timeout 100 "$build/loquat-node" cluster "$@" --cluster "$cluster" \
        --cluster-secret-file "$scratch/cluster" >"$scratch/ask" 2>&1
}

status() { # [OPTION…]
    timeout 20 "$build/loquat-node" cluster status --cluster "$cluster" \
        --cluster-secret-file "$scratch/cluster" "$@"
}

cluster_json() { # JQ-PROGRAM: asked once every partition is led: now and then one is handed over
    local i
    for ((i = 0; i < 100; i++)); do
        status --json >"$scratch/json"
        jq -e 'all(.partitions[]; .leader != null)' "$scratch/json" >"$scratch/led" && break
        sleep 0.1
    done
    jq -r "$1" "$scratch/json"
}

leader_of() { # PARTITION
    cluster_json ".partitions[$1].leader"
}

holders_of() { # PARTITION
    cluster_json "[.partitions[$1].replicas[].node] | join(\" \")"
}

holds() { # N: of how many partitions it has a replica
    cluster_json "[.partitions[].replicas[] | select(.node == $1)] | length"
}

state_of() { # N
    cluster_json ".nodes[] | select(.node == $1) | .state"
}

dealt_out() { # every node comes to lead two of the six
    local i
    for ((i = 0; i < 300; i++)); do
        [[ "$(led 1) $(led 2) $(led 3)" == "2 2 2" ]] && return
        sleep 0.1
    done
    echo "    led: $(led 1) $(led 2) $(led 3)"
    return 1
}

read -r p1 p2 p3 p4 <<<"$(ports 4)"
cluster=1=127.0.0.1:$p1,2=127.0.0.1:$p2,3=127.0.0.1:$p3
nodes=127.0.0.1:$p1,127.0.0.1:$p2,127.0.0.1:$p3
: >"$scratch/acks"
make_secret "$scratch/cluster"
make_secret "$scratch/other"
make_secret "$scratch/secret"

start_node 1
says "$scratch/n1.log" "waiting until most nodes"
check "one of three nodes waits, and says so" $?
kill -TERM "${pids[1]}"
wait "${pids[1]}"
check "and ends with 0 when it is told to" $?
start_node 1
start_node 2
node_ready 1 && node_ready 2
check "two of three are ready" $?
start_node 3
node_ready 3
check "so is the third" $?
start_gateway a
check "a gateway says ready" $?
a=http://$address
start_gateway b
check "another one, too" $?
b=http://$address
dealt_out
check "each node comes to lead its share of the partitions" $?
for ((i = 0; i < 50; i++)); do # not while one is handed over
    status >"$scratch/status" && break
    sleep 0.1
done
((i < 50))
check "the status says that all is well" $?
cat "$scratch/status"
[[ $(status --json | jq -c '[.well, ([.nodes[].leads] | add), ([.partitions[].leader] | length)]') == '[true,6,6]' ]]
check "for programs, too" $?
for ((i = 0; i < 8; i++)); do
    export "LOQUAT_TOKEN_U$i=$(token "u$i")"
done

/usr/bin/python3 tests/e2e/nodes_client.py "$scratch/acks" "$scratch/stop" "$a" "$b" \
    >"$scratch/client.log" 2>&1 &
client=$!
more_acks 200
check "users of both talk" $?
for n in 1 2 3; do
    kill_node $n
    more_acks 200
    check "node $n is killed: talk goes on" $?
    start_node $n
    node_ready $n && more_acks 100
    check "node $n is back" $?
done
dealt_out
check "and gets its share again" $?
for n in 1 2 3; do
    kill -TERM "${pids[n]}"
    wait "${pids[n]}"
    check "node $n ends with 0 when it is told to" $?
    more_acks 100
    check "talk goes on" $?
    start_node $n
    node_ready $n
    check "node $n is back" $?
done
for n in 1 2 3; do
    kill -STOP "${pids[n]}"
    more_acks 200
    check "node $n hangs: talk goes on" $?
    kill -CONT "${pids[n]}"
    more_acks 100
    check "node $n wakes up: talk goes on" $?
done
kill_node 1
kill_node 2
sleep 2
start_node 1
more_acks 200
check "two nodes were killed, one came back: talk goes on" $?
start_node 2
node_ready 2 && more_acks 100
check "and with the other one" $?
# Who leads what can be said, and who leads nothing.
ask_cluster transfer 0 3 && [[ $(leader_of 0) == 3 ]]
check "a partition is led by whom it is given to" $?
ask_cluster drain 2 && [[ $(led 2) == 0 ]] && more_acks 100
check "a node that is drained leads nothing" $?
kill -TERM "${pids[2]}"
wait "${pids[2]}"
start_node 2
node_ready 2 && more_acks 100
check "it starts again: talk goes on" $?
[[ $(led 2) == 0 ]]
check "it leads nothing then either" $?
state_of 2 | grep -q drained
check "and says that it is drained" $?
ask_cluster undrain 2 && dealt_out
check "until it may" $?
ask_cluster transfer 0 9
(($? == 1)) && grep -q 'did not come to lead' "$scratch/ask"
check "who gives it to nobody is told so" $?

# A node that has lost its disk is replaced by a new one, while all goes on.
kill_node 3
mv "$scratch/d3" "$scratch/lost"
start_node 3
says "$scratch/n3.log" "was here before with another directory"
check "a node that lost its disk is refused under its number, and is told" $?
says "$scratch/n1.log" "was here before with another directory"
check "so are the operators of the others" $?
kill -TERM "${pids[3]}"
wait "${pids[3]}"
check "it ends with 0 when it is told to" $?
pids[3]=
rest=1=127.0.0.1:$p1,2=127.0.0.1:$p2
timeout 10 "$build/loquat-node" cluster add "4=127.0.0.1:$p4" --cluster "$rest" \
    --cluster-secret-file "$scratch/cluster" >"$scratch/add" 2>"$scratch/add.log"
grep -q 'cluster remove 3' "$scratch/add.log"
check "who adds a node is told that a lost one is in the way" $?
timeout 100 "$build/loquat-node" cluster remove 3 --cluster "$rest" \
    --cluster-secret-file "$scratch/cluster" >"$scratch/remove" 2>&1
check "the lost one is removed" $?
timeout 100 "$build/loquat-node" cluster add "4=127.0.0.1:$p4" --cluster "$rest" \
    --cluster-secret-file "$scratch/cluster" >"$scratch/add" 2>"$scratch/add.log" &
adding=$!
says "$scratch/add.log" "--join"
check "who adds a node is told how it is started" $?
start_node 4 --cluster "$rest,4=127.0.0.1:$p4" --join "$(grep -oE -- '--join [0-9a-f]+' "$scratch/add.log" | cut -d' ' -f2)"
wait $adding && grep -q 'added node 4' "$scratch/add"
check "it gets everything, and votes" $?
node_ready 4
check "and is ready" $?
cluster=$rest,4=127.0.0.1:$p4
more_acks 200
check "talk goes on" $?
kill_node 1
more_acks 200
check "the new node counts: another one may go" $?
start_node 1
node_ready 1 && more_acks 100
check "and come back" $?
# A fourth node takes its share; each partition stays on three.
nodes_4=$cluster
p5=$(ports 1)
cluster=$nodes_4,5=127.0.0.1:$p5
start_node 5 --join "$(grep -oE -- '--join [0-9a-f]+' "$scratch/add.log" | cut -d' ' -f2)"
cluster=$nodes_4
ask_cluster add "5=127.0.0.1:$p5" && node_ready 5
check "one more is added" $? || cat "$scratch/ask" "$scratch/n5.log"
cluster=$nodes_4,5=127.0.0.1:$p5
[[ "$(for n in 1 2 4 5; do holds "$n"; done | sort | uniq -c | tr -s ' ')" == $' 2 4\n 2 5' ]]
check "the four hold as much each, and each partition has three replicas" $? || status
has=$(holders_of 0)
for n in 1 2 4 5; do [[ " $has " == *" $n "* ]] || to=$n; done
from=${has%% *}
ask_cluster move 0 "$from" "$to" && [[ " $(holders_of 0) " == *" $to "* && " $(holders_of 0) " != *" $from "* ]]
check "a partition is moved from one node to another" $?
says "$scratch/n$from.log" "the partition is kept elsewhere"
check "where it was it is removed" $?
ask_cluster move 0 "$to" "$from" && [[ " $(holders_of 0) " == *" $from "* ]]
check "and it comes back" $?
ask_cluster move 0 "$from" "$to" && [[ " $(holders_of 0) " == *" $to "* ]]
check "and goes again" $?
more_acks 100
check "and talk goes on" $?
kill_node "$to"
more_acks 200
check "also when that one goes" $?
start_node "$to"
node_ready "$to"
ask_cluster remove 5 && [[ $(holds 5) == 0 ]]
check "a node that is there gives up what it holds" $?
for ((i = 0; i < 200; i++)); do
    [[ $(metric 5 loquat_partitions_kept) == 0 ]] && break
    sleep 0.1
done
[[ $(metric 5 loquat_partitions_kept) == 0 ]]
check "and removes it" $?
kill_node 5
ask_cluster spread && more_acks 100
check "and may go" $?
touch "$scratch/stop"
wait "$client"
check "all of it is there once, and came to everybody once" $?
client=
tail -n 5 "$scratch/client.log"
grep -q 'cut off: 0 0' "$scratch/client.log"
check "nobody was cut off" $?
grep -q ' 0 refused' "$scratch/client.log"
check "no request failed" $?

# Those that do not belong.
kill_node 4
status >"$scratch/status"
[[ $? == 1 ]] && grep -q '^4 .* away' "$scratch/status"
check "the status says who is away" $?
timeout 10 "$build/loquat-node" --id 1 --data "$scratch/d4" --cluster "$cluster" \
    --listen 127.0.0.1:0 --cluster-secret-file "$scratch/cluster" >"$scratch/x" 2>&1
[[ $? == 1 ]] && grep -q 'is that of node 4' "$scratch/x"
check "the directory of one node is not taken by another" $?
timeout 10 "$build/loquat-gateway" --embed "$scratch/d4" --listen 127.0.0.1:0 \
    --auth-secret-file "$scratch/secret" >"$scratch/x" 2>&1
[[ $? == 1 ]] && grep -q 'among others' "$scratch/x"
check "nor by a gateway alone" $?
"$build/loquat-node" --id 4 --data "$scratch/e3" --cluster "$cluster" --partitions 7 \
    --cluster-secret-file "$scratch/cluster" >"$scratch/x.out" 2>"$scratch/x.log" &
pids[4]=$!
says "$scratch/x.log" "belongs to cluster"
check "a node with another number of partitions is refused, and is told" $?
kill_node 4
"$build/loquat-node" --id 4 --data "$scratch/e4" --cluster "$cluster" --partitions 6 \
    --cluster-secret-file "$scratch/other" >"$scratch/x.out" 2>"$scratch/x.log" &
pids[4]=$!
sleep 1.5
! grep -q ready "$scratch/x.out" && ! grep -q "is reached" "$scratch/x.log"
check "one with another secret reaches nobody" $?
kill_node 4
! grep -qF -f "$scratch/cluster" "$scratch"/*.log
check "the secret is in no log" $?
for gateway in "${gateways[@]}"; do
    kill -TERM "$gateway"
    wait "$gateway"
    check "a gateway drains and ends with 0" $?
done
gateways=()
kill -TERM "${pids[1]}" "${pids[2]}"
wait "${pids[1]}" && wait "${pids[2]}"
check "the last nodes end with 0" $?
: >"$scratch/n1.log"
start_node 1
says "$scratch/n1.log" "waiting until most nodes"
kill -TERM "${pids[1]}"
for ((i = 0; i < 100; i++)); do
    kill -0 "${pids[1]}" 2>/dev/null || break
    sleep 0.05
done
! kill -0 "${pids[1]}" 2>/dev/null && wait "${pids[1]}"
check "one that knows of nobody, and has much behind it, ends with 0 as well" $?
pids=()
finish
