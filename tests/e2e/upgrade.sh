#!/bin/bash
# upgrade.sh: three loquat-nodes and two gateways become, one after the other and under load, those of
# the next release, which has newer versions on the wire and on the disk ($BUILD/next: this release
# under tests/e2e/next.patch). No request fails, everything is there once. Any node can go back until
# the last one has come; then the directories are raised, and older programs are refused, with a reason.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/lib.sh
next=$build/next
pids=() client= acks_turns=400 says_turns=600 partitions=6
declare -A gateways=()

trap 'kill_all ${gateways[@]} ${pids[@]} $client; cleanup' EXIT

start_as() { # N PROGRAMS: and waits for it
    build=$2 start_node "$1"
    [[ ${3:-} == alone ]] || await_ready "$scratch/n$1.out" "${pids[$1]}"
}

stop_node() { # N: gives its status
    local pid=${pids[$1]}
    pids[$1]=
    kill -TERM "$pid"
    wait "$pid"
}

start_gateway() { # NAME PORT PROGRAMS
    : >"$scratch/$1.out"
    "$3/loquat-gateway" --nodes "$nodes" --cluster-secret-file "$scratch/cluster" \
        --listen "127.0.0.1:$2" --auth-secret-file "$scratch/secret" \
        >"$scratch/$1.out" 2>>"$scratch/$1.log" &
    gateways[$1]=$!
    await_ready "$scratch/$1.out" $!
}

stop_gateway() { # NAME
    kill -TERM "${gateways[$1]}"
    wait "${gateways[$1]}"
}

becomes() { # N NAME VALUE
    local i
    for ((i = 0; i < 600; i++)); do
        [[ $(metric "$1" "$2") == "$3" ]] && return
        sleep 0.05
    done
    echo "    node $1: $2 is $(metric "$1" "$2")"
    return 1
}

format() { # DIR
    sed -n 's/^format //p' "$1/FORMAT"
}

formats() {
    echo "$(format "$scratch/d1") $(format "$scratch/d2") $(format "$scratch/d3")"
}

status() {
    timeout 20 "$1/loquat-node" cluster status --cluster "$cluster" \
        --cluster-secret-file "$scratch/cluster" >"$scratch/status"
}

well() { # PROGRAMS: comes to be
    local i
    for ((i = 0; i < 100; i++)); do
        status "$1" && return
        sleep 0.1
    done
    cat "$scratch/status"
    return 1
}

[[ -x $next/loquat-node && -x $next/loquat-gateway ]]
check "the next release is built" $?
read -r p1 p2 p3 pa pb <<<"$(ports 5)"
cluster=1=127.0.0.1:$p1,2=127.0.0.1:$p2,3=127.0.0.1:$p3
nodes=127.0.0.1:$p1,127.0.0.1:$p2,127.0.0.1:$p3
: >"$scratch/acks"
make_secret "$scratch/cluster"
make_secret "$scratch/secret"
for n in 1 2 3; do
    start_as $n "$build" alone
done
for n in 1 2 3; do
    await_ready "$scratch/n$n.out" "${pids[n]}"
    check "node $n is ready" $?
done
old=$(metric 1 loquat_wire_version) old_format=$(metric 1 loquat_format_newest)
for n in 1 2 3; do
    becomes $n loquat_format "$old_format"
    check "all have been there for a while: node $n has the newest format of this release" $?
done
start_gateway a "$pa" "$build"
check "a gateway says ready" $?
start_gateway b "$pb" "$next"
check "so does one of the next release: it speaks as the nodes do" $?
for ((i = 0; i < 8; i++)); do
    export "LOQUAT_TOKEN_U$i=$(token "u$i")"
done
/usr/bin/python3 tests/e2e/nodes_client.py "$scratch/acks" "$scratch/stop" \
    "http://127.0.0.1:$pa" "http://127.0.0.1:$pb" >"$scratch/client.log" 2>&1 &
client=$!
more_acks 200
check "users of both talk" $?

# Node by node, and one of them there and back.
upgrade() { # N PROGRAMS
    stop_node "$1"
    check "node $1 ends with 0 when it is told to" $?
    more_acks 100
    check "talk goes on" $?
    [[ -d $scratch/before || $1 != 3 ]] || cp -a "$scratch/d3" "$scratch/before"
    start_as "$1" "$2"
    check "node $1 is back, with $2" $?
    well "$2" && more_acks 100
    check "talk goes on, and all is well" $?
}
upgrade 1 "$next"
new=$(metric 1 loquat_wire_version)
((new == old + 1)) && becomes 1 loquat_nodes_wire_version_lowest "$old"
check "the metrics of the newer node say what it speaks, and that others are older" $?
says "$scratch/n2.log" "\"a node is reached\",\"node\":1,\"at\":\"127.0.0.1:$p1\",\"version\":$new"
check "the log of an older one says that a newer one came" $?
says "$scratch/n1.log" "keeps its format until every node"
check "the newer one says why its directory stays as it was" $?
upgrade 2 "$next"
says "$scratch/n2.log" '"news of a node","node":1'
check "those of the next release speak as it does with each other" $?
upgrade 1 "$build"
check "a node went back: its directory has format $(format "$scratch/d1")" \
    "$(($(format "$scratch/d1") != old_format))"
upgrade 1 "$next"
status "$build"
check "an old program understands how the newer nodes are" $?
sleep 4 # longer than all have to be new for, in the next release
[[ $(formats) == "$old_format $old_format $old_format" ]]
check "while one node is old no directory is raised" $?
! grep -qE '"(news of a node","node":3|a gateway.s link ended)' "$scratch"/n[12].log && ! grep -q '"news' "$scratch/n3.log"
check "nobody was told what only the next release understands" $?
upgrade 3 "$next"
for n in 1 2 3; do
    becomes $n loquat_nodes_wire_version_lowest "$new"
    check "node $n sees that all nodes are new" $?
    becomes $n loquat_links_wire_version_lowest "$old"
    check "and that a gateway is old" $?
    says "$scratch/n$n.log" "\"format\":$((old_format + 1)),\"before\":$old_format"
    check "it raises its directory" $?
done
[[ $(formats) == "$((old_format + 1)) $((old_format + 1)) $((old_format + 1))" ]]
check "all three have the next format" $?
becomes 2 loquat_format "$((old_format + 1))"
check "as the metrics say" $?
more_acks 200
check "talk goes on" $?

# There is no way back.
stop_node 3
find "$scratch/d3" -type f ! -name LOCK -exec md5sum {} + | sort >"$scratch/sums"
start_as 3 "$build" alone
wait "${pids[3]}"
status=$?
tail -n 1 "$scratch/n3.log"
[[ $status == 1 ]] && tail -n 1 "$scratch/n3.log" | grep -qE "has format $((old_format + 1)), this program knows $old_format; run .* newer one"
check "the old program refuses a raised directory, and says what to do" $?
find "$scratch/d3" -type f ! -name LOCK -exec md5sum {} + | sort | cmp -s - "$scratch/sums"
check "it has touched nothing" $?
"$build/loquat-compact" status --data "$scratch/d3" >"$scratch/x" 2>&1
[[ $? != 0 ]] && grep -q "has format" "$scratch/x"
check "so does its loquat-compact" $?
"$next/loquat-compact" verify --data "$scratch/d3" >"$scratch/x" 2>&1
check "the next one finds nothing wrong with it" $?
# One that left before it had raised its directory, and comes back as it was.
mv "$scratch/d3" "$scratch/raised"
mv "$scratch/before" "$scratch/d3"
start_as 3 "$build" alone
says "$scratch/n3.log" "node 3 speaks version $old of the protocol; $new is needed"
check "an old node is not let in where directories are raised, and is told" $?
says "$scratch/n1.log" "node 3 speaks version $old of the protocol; $new is needed"
check "so are the operators of the others" $?
stop_node 3
mv "$scratch/d3" "$scratch/before"
mv "$scratch/raised" "$scratch/d3"
start_as 3 "$next" && well "$next" && more_acks 100
check "with the next release it is back" $?

# The gateway that is still old; its users go to the other one meanwhile.
stop_gateway a
check "the old gateway drains and ends with 0" $?
start_gateway a "$pa" "$next"
check "it is back, of the next release" $?
for n in 1 2 3; do
    becomes $n loquat_links_wire_version_lowest "$new"
    check "node $n sees that all gateways are new" $?
done
more_acks 200
check "talk goes on" $?
touch "$scratch/stop"
wait "$client"
check "all of it is there once, and came to everybody once" $?
client=
tail -n 5 "$scratch/client.log"
grep -qE 'cut off: [0-9]+ 0$' "$scratch/client.log"
check "nobody was cut off but by the gateway that ended" $?
grep -q ' 0 refused' "$scratch/client.log"
check "no request failed" $?
for gateway in a b; do
    stop_gateway $gateway
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

# A node that is alone waits for nobody.
embed() { # PROGRAMS
    : >"$scratch/e.out"
    "$1/loquat-gateway" --embed "$scratch/alone" --listen 127.0.0.1:0 \
        --auth-secret-file "$scratch/secret" >"$scratch/e.out" 2>>"$scratch/e.log" &
    server_pid=$!
    await_ready "$scratch/e.out" $server_pid
}
mkdir -m 700 "$scratch/alone"
embed "$build" && stop_server && embed "$next" && says "$scratch/e.log" "\"format\":$((old_format + 1))," && stop_server
check "with --embed the next release raises the directory when it serves" $?
! embed "$build" && tail -n 1 "$scratch/e.log" | grep -q "it was raised"
check "and the old one refuses it" $?
embed "$next" && stop_server
check "the next one takes it" $?
finish
