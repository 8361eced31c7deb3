#!/bin/bash
# nodes.sh: one loquat-node and two gateways beside it. Users of both talk to each other; the node is
# killed (or stopped) under load and comes back: everything acknowledged is there once, and whoever is live gets
# everything without being cut off. A gateway is killed: its users go to the other, and nothing else
# notices. A stranger gets nothing.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/lib.sh
node= gateways=()

trap 'kill_all ${gateways[@]} $node; cleanup' EXIT

start_node() { # at the same address again
    : >"$scratch/node.out"
    "$build/loquat-node" --data "$scratch/d" --listen "${node_at:-127.0.0.1:0}" \
        --admin-listen 127.0.0.1:0 --cluster-secret-file "$scratch/cluster" \
        >"$scratch/node.out" 2>>"$scratch/node.log" &
    node=$!
    await_ready "$scratch/node.out" $node || return
    node_at=$address
}

start_gateway() { # NAME [OPTION…]: sets address
    local name=$1
    shift
    : >"$scratch/$name.out"
    "$build/loquat-gateway" --nodes "$node_at" --cluster-secret-file "$scratch/cluster" \
        --listen 127.0.0.1:0 --auth-secret-file "$scratch/secret" "$@" \
        >"$scratch/$name.out" 2>>"$scratch/$name.log" &
    gateways+=($!)
    await_ready "$scratch/$name.out" $!
}

status_of() { # URL
    curl -s -o /dev/null -m 5 -w '%{http_code}' "$1"
}

becomes() { # URL STATUS
    local i
    for ((i = 0; i < 200; i++)); do
        [[ $(status_of "$1") == "$2" ]] && return
        sleep 0.05
    done
    return 1
}

refuses() { # STATUS TEXT PROGRAM…: ends with it, and says so
    local status=$1 text=$2
    shift 2
    timeout 10 "$@" >"$scratch/refused" 2>&1
    [[ $? == "$status" ]] && grep -qF -- "$text" "$scratch/refused"
}

: >"$scratch/acks"
make_secret "$scratch/cluster"
make_secret "$scratch/other"
make_secret "$scratch/secret"
start_node
check "a node says ready" $?
start_gateway a
check "a gateway beside it says ready" $?
a=http://$address
start_gateway b
check "another one, too" $?
b=http://$address
for ((i = 0; i < 8; i++)); do
    export "LOQUAT_TOKEN_U$i=$(token "u$i")"
done

/usr/bin/python3 tests/e2e/nodes_client.py "$scratch/acks" "$scratch/stop" "$a" "$b" \
    >"$scratch/client.log" 2>&1 &
client=$!
more_acks 200
check "users of both talk" $?
for round in 1 2 3; do
    if ((round < 3)); then
        kill -KILL "$node"
        wait "$node" 2>/dev/null
    else
        kill -TERM "$node"
        wait "$node"
        check "round $round: under load, too, SIGTERM ends the node with 0" $?
    fi
    becomes "$a/readyz" 503
    check "round $round: without its node a gateway is not ready" $?
    [[ $(status_of "$a/healthz") == 200 ]]
    check "round $round: but alive" $?
    start_node
    check "round $round: the node comes back" $?
    more_acks 200
    check "round $round: and users go on talking" $?
done
becomes "$a/readyz" 200
check "the gateway is ready again" $?
kill -KILL "${gateways[1]}"
wait "${gateways[1]}" 2>/dev/null
more_acks 200
check "a gateway is killed: talk goes on" $?
touch "$scratch/stop"
wait $client
check "all of it is there once, and came to everybody once" $?
tail -n 5 "$scratch/client.log"
grep -q 'cut off: 0 [1-9]' "$scratch/client.log"
check "nobody was cut off but the users of the killed gateway" $?
"$build/loquat-compact" status --data "$scratch/d" >"$scratch/status" 2>&1
check "loquat-compact talks to the running node" $?

admin=http://$(grep -o '"serving operators","listen":"[^"]*' "$scratch/node.log" | tail -n 1 | sed 's/.*"//')
[[ $(status_of "$admin/readyz") == 200 && $(status_of "$admin/healthz") == 200 ]] &&
    [[ $(status_of "$admin/nothing") == 404 && $(status_of "$admin/metrics") == 200 ]] &&
    curl -s "$admin/metrics" >"$scratch/metrics" &&
    grep -q '^loquat_links_accepted_total [1-9]' "$scratch/metrics"
check "operators see how the node is" $?

# What others do while a gateway has no node comes to its clients when it is back.
/usr/bin/python3 tests/e2e/nodes_pause.py "$a" >"$scratch/pause.log" 2>&1 &
pause=$!
for ((i = 0; i < 200; i++)); do
    grep -q live "$scratch/pause.log" && break
    sleep 0.05
done
kill -KILL "$node"
wait "$node" 2>/dev/null
usual=$node_at
node_at=127.0.0.1:0
start_node && start_gateway c && timeout 20 /usr/bin/python3 tests/e2e/nodes_pause.py --meanwhile "http://$address"
check "elsewhere somebody writes and reads meanwhile" $?
kill -KILL "$node" "${gateways[2]}"
wait "$node" "${gateways[2]}" 2>/dev/null
node_at=$usual
start_node
wait $pause
check "and it all comes, a read mark too, on the connection from before" $?
tail -n 3 "$scratch/pause.log"

# Strangers.
port=${node_at##*:}
timeout 60 /usr/bin/python3 tests/e2e/nodes_stranger.py "$port" >"$scratch/stranger" 2>&1
check "who does not prove himself gets nothing and is cut in seconds" $?
cat "$scratch/stranger"
"$build/loquat-gateway" --nodes "$node_at" --cluster-secret-file "$scratch/other" \
    --listen 127.0.0.1:0 --auth-secret-file "$scratch/secret" >"$scratch/x.out" 2>"$scratch/x.log" &
stranger=$!
for ((i = 0; i < 200; i++)); do
    grep -q 'not reached' "$scratch/x.log" && break
    sleep 0.05
done
! grep -q ready "$scratch/x.out" && grep -q 'secret' "$scratch/x.log"
check "a gateway with another secret is not served, and says why" $?
kill -TERM $stranger
wait $stranger
check "and ends with 0 when it is told to, without ever having had a node" $?
! grep -qF -f "$scratch/cluster" "$scratch"/*.log
check "the secret is in no log" $?

# Wrong use.
refuses 2 "write HOST:PORT" "$build/loquat-gateway" --nodes 127.0.0.1:1,nowhere \
    --cluster-secret-file "$scratch/cluster" --auth-secret-file "$scratch/secret"
check "an address without a port is refused" $?
refuses 2 "not in it" "$build/loquat-node" --data "$scratch/e" --id 3 \
    --cluster-secret-file "$scratch/cluster" --cluster 1=127.0.0.1:1,2=127.0.0.1:2
check "a cluster without this node is refused" $?
refuses 2 "is there twice" "$build/loquat-node" --data "$scratch/e" \
    --cluster-secret-file "$scratch/cluster" --cluster 1=127.0.0.1:1,1=127.0.0.1:2
check "a number that is there twice is refused" $?
refuses 2 "Give --cluster" "$build/loquat-node" --data "$scratch/e" --id 2 \
    --cluster-secret-file "$scratch/cluster"
check "a second node without a first one is refused" $?
echo short >"$scratch/short"
refuses 1 "too short" "$build/loquat-node" --data "$scratch/e" --cluster-secret-file "$scratch/short"
check "a short secret is refused" $?
[[ ! -e $scratch/e ]]
check "and nothing was made on disk" $?

kill -TERM "$node"
wait "$node"
check "SIGTERM ends the node with 0" $?
node=
kill -TERM "${gateways[0]}"
wait "${gateways[0]}"
check "a gateway without its node drains and ends with 0" $?
gateways=()
finish
