# tests/e2e/lib.sh: for scripts of this folder: starts servers on loopback, counts checks.
# Sourced after `cd` to the tree. Servers are ended by their process id when the script ends.
build=${BUILD:-build}
scratch=$(mktemp -d)
server_pid=
passed=0
failed=0

cleanup() {
    stop_server >/dev/null 2>&1
    rm -rf "$scratch"
}
trap cleanup EXIT

check() { # NAME STATUS
    if (($2 == 0)); then
        passed=$((passed + 1))
        echo "ok    $1"
    else
        failed=$((failed + 1))
        echo "FAIL  $1"
    fi
}

finish() {
    echo "$passed passed, $failed failed"
    ((failed == 0))
    exit
}

make_secret() { # FILE
    (umask 077 && head -c 32 /dev/urandom | od -An -vtx1 | tr -d ' \n' >"$1")
}

# await_ready FILE PID: waits for a server's line in FILE, and sets address.
await_ready() {
    local i
    for ((i = 0; i < 600; i++)); do
        grep -q '^ready ' "$1" && break
        kill -0 "$2" 2>/dev/null || break
        sleep 0.05
    done
    address=$(sed -n 's/^ready .*listen=\([^ ]*\).*/\1/p' "$1" | head -n 1)
    [[ -n $address ]]
}

ports() { # N: that many, free a moment ago
    /usr/bin/python3 -c '
import socket, sys
all = [socket.socket() for _ in range(int(sys.argv[1]))]
for one in all: one.bind(("127.0.0.1", 0))
print(*[one.getsockname()[1] for one in all])' "$1"
}

# says FILE TEXT: it comes to stand in it; after $says_turns twentieths of a second it does not.
says() {
    local i
    for ((i = 0; i < ${says_turns:-200}; i++)); do
        grep -qF -- "$2" "$1" && return
        sleep 0.05
    done
    return 1
}

# start_server DIR [OPTION…]: sets url and server_pid; the log is DIR.log. Port 0: the kernel chooses.
# Two loops, whatever the machine has, so that what one owes the other is tried.
start_server() {
    local dir=$1
    shift
    mkdir -p -m 700 "$dir"
    [[ -s $scratch/secret ]] || make_secret "$scratch/secret"
    : >"$dir.out"
    "$build/loquat-gateway" --embed "$dir" --listen "${listen:-127.0.0.1:0}" \
        --auth-secret-file "$scratch/secret" --loops 2 "$@" >"$dir.out" 2>>"$dir.log" &
    server_pid=$!
    await_ready "$dir.out" "$server_pid"
    url=http://$address
    export LOQUAT_URL=$url
    [[ -n $address ]]
}

# Ends the server with SIGTERM and gives its exit status.
stop_server() {
    [[ -n $server_pid ]] || return 0
    kill -TERM "$server_pid" 2>/dev/null
    local i
    for ((i = 0; i < 300; i++)); do
        kill -0 "$server_pid" 2>/dev/null || break
        sleep 0.05
    done
    kill -KILL "$server_pid" 2>/dev/null
    wait "$server_pid"
    local status=$?
    server_pid=
    return $status
}

kill_server() {
    kill -KILL "$server_pid"
    wait "$server_pid" 2>/dev/null
    server_pid=
}

# Of these processes what still runs is ended, hanging or not.
kill_all() { # PID…
    local pid
    for pid; do
        kill -CONT "$pid" 2>/dev/null
        kill -KILL "$pid" 2>/dev/null
        wait "$pid" 2>/dev/null
    done
}

# more_acks N: waits until so many more of the process $client have come to $scratch/acks; at most
# $acks_turns twentieths of a second.
more_acks() {
    local before i
    before=$(wc -l <"$scratch/acks")
    for ((i = 0; i < ${acks_turns:-600}; i++)); do
        (($(wc -l <"$scratch/acks") >= before + $1)) && return
        kill -0 "$client" 2>/dev/null || return 1
        sleep 0.05
    done
    return 1
}

token() { # USER [OPTION…]
    local user=$1
    shift
    "$build/loquat-log" token --user "$user" --secret-file "$scratch/secret" "$@"
}

start_node() { # N [OPTION…]: of $cluster, with $partitions; its pid in pids[N]; without waiting
    local n=$1
    shift
    : >"$scratch/n$n.out"
    "$build/loquat-node" --id "$n" --data "$scratch/d$n" --cluster "$cluster" \
        --partitions "$partitions" --admin-listen 127.0.0.1:0 \
        --cluster-secret-file "$scratch/cluster" "$@" >"$scratch/n$n.out" 2>>"$scratch/n$n.log" &
    pids[n]=$!
}

metric() { # N NAME: of a node that start_node began
    local at
    at=$(grep -o '"serving operators","listen":"[^"]*' "$scratch/n$1.log" | tail -n 1 | sed 's/.*"//')
    curl -s -m 5 "http://$at/metrics" | sed -n "s/^$2 //p"
}
