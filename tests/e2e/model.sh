#!/bin/bash
# model.sh [--nodes 1|3] [--kill] [--seed N] [--seeds N] [--ops N] [--users N]: random operations of
# random users against a model, through real gateways: one with its own node, or two beside three
# nodes, of which one is killed now and then (--kill). Without --nodes: both, some seeds of each.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/lib.sh
pids=() gateways=() client= tail= partitions=6 group_max=40

trap 'kill_all ${gateways[@]} ${pids[@]} $client $tail; cleanup' EXIT

start_gateway() { # NAME: sets address
    "$build/loquat-gateway" --nodes "$nodes" --cluster-secret-file "$scratch/cluster" \
        --listen 127.0.0.1:0 --auth-secret-file "$scratch/secret" --group-max $group_max \
        >"$scratch/$1.out" 2>>"$scratch/$1.log" &
    gateways+=($!)
    await_ready "$scratch/$1.out" $!
}

model() { # OPTION… URL…: in $client
    : >"$scratch/client.log"
    timeout "$seconds" /usr/bin/python3 tests/e2e/model.py --group-max $group_max \
        --secret-file "$scratch/secret" "$@" >"$scratch/client.log" 2>&1 &
    client=$!
    tail -n +1 -f --pid=$client "$scratch/client.log" 2>/dev/null &
    tail=$!
}

counted() { # when the client has ended: the counts of its last line are added
    local status line
    wait $client
    status=$?
    client=
    wait $tail
    line=$(tail -n 1 "$scratch/client.log")
    if [[ $line =~ ([0-9]+)\ passed,\ ([0-9]+)\ failed ]]; then
        passed=$((passed + BASH_REMATCH[1]))
        failed=$((failed + BASH_REMATCH[2]))
    else
        check "the model ends with counts (exit status $status)" 1
    fi
}

on_one() { # OPTION…
    start_server "$scratch/one" --group-max $group_max
    check "a server with its own node says ready" $?
    model --nodes 1 "$@" "$url"
    counted
    stop_server
    check "it ends with 0 when it is told to" $?
}

start_three() {
    local n
    make_secret "$scratch/cluster"
    read -r p1 p2 p3 <<<"$(ports 3)"
    cluster=1=127.0.0.1:$p1,2=127.0.0.1:$p2,3=127.0.0.1:$p3
    nodes=127.0.0.1:$p1,127.0.0.1:$p2,127.0.0.1:$p3
    for n in 1 2 3; do
        start_node $n
    done
    for n in 1 2 3; do
        await_ready "$scratch/n$n.out" "${pids[n]}" || return
    done
    start_gateway a || return
    a=http://$address
    start_gateway b || return
    b=http://$address
}

on_three() { # OPTION…
    local word n pid
    mkfifo "$scratch/say" "$scratch/hear"
    model --nodes 3 --control "$scratch/say,$scratch/hear" "$@" "$a" "$b"
    exec 3<"$scratch/say" 4>"$scratch/hear"
    while read -r word n <&3; do
        kill -KILL "${pids[n]}"
        wait "${pids[n]}" 2>/dev/null
        sleep 1
        start_node "$n"
        await_ready "$scratch/n$n.out" "${pids[n]}" && echo back >&4 || echo failed >&4
    done
    counted
    for pid in "${gateways[@]}"; do
        kill -TERM "$pid"
        wait "$pid"
        check "a gateway drains and ends with 0" $?
    done
    gateways=()
    for n in 1 2 3; do
        kill -TERM "${pids[n]}"
        wait "${pids[n]}"
        check "node $n ends with 0" $?
    done
    pids=()
}

on=both options=()
while (($# > 0)); do
    case $1 in
    --nodes) on=$2 && shift ;;
    *) options+=("$1") ;;
    esac
    shift
done
[[ -s $scratch/secret ]] || make_secret "$scratch/secret"
seconds=100000
[[ $on == both ]] && seconds=120
if [[ $on != 1 ]]; then # first of all: a new cluster takes some time until it takes everything
    start_three
    check "three nodes and two gateways say ready" $?
fi
case $on in
1) on_one "${options[@]}" ;;
3) on_three "${options[@]}" ;;
*)
    on_one --seed 1 --seeds 3 "${options[@]}"
    on_three --seed 101 --seeds 2 --ops 200 --kill "${options[@]}"
    ;;
esac
finish
