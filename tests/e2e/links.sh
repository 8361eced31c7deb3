#!/bin/bash
# links.sh: three nodes and a gateway whose links are TLS, with certificates that were made as
# docs/OPERATING.md says: messages flow; who has no certificate of the CA gets nothing, and both logs
# say why; certificates are renewed by SIGHUP.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/lib.sh
pids=() partitions=3 says_turns=300

trap 'kill_all ${pids[@]}; cleanup' EXIT

if ! command -v openssl >/dev/null; then
    echo "skipped: TLS of links (openssl is not installed; .ci/setup test installs it)"
    finish
fi
files=$scratch/files
mkdir "$files"

ca() { # NAME
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj "/CN=$1" \
        -keyout "$files/$1.key" -out "$files/$1.crt" 2>>"$scratch/openssl.log"
}
leaf() { # NAME CA [DAYS]
    openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj "/CN=$1" \
        -keyout "$files/$1.key" -out "$files/$1.csr" 2>>"$scratch/openssl.log" &&
        openssl x509 -req -in "$files/$1.csr" -CA "$files/$2.crt" -CAkey "$files/$2.key" \
            -CAcreateserial -days "${3:-2}" -out "$files/$1.crt" 2>>"$scratch/openssl.log"
}
ca ca && ca other && leaf node1 ca && leaf node2 ca && leaf node3 ca && leaf gateway ca &&
    leaf stranger other && leaf late ca 0
check "certificates were made" $?

tls() { # NAME [CA [PREFIX]]: options
    printf -- '--%stls-cert %s --%stls-key %s --%stls-ca %s' "${3:-}" "$files/$1.crt" "${3:-}" \
        "$files/$1.key" "${3:-}" "$files/${2:-ca}.crt"
}

end_node() { # N
    kill -TERM "${pids[$1]}" && wait "${pids[$1]}"
    local status=$?
    pids[$1]=
    return $status
}

start_gateway() { # NAME OPTION…: without waiting; its number in pids is 10
    local name=$1
    shift
    : >"$scratch/$name.out"
    "$build/loquat-gateway" --nodes "$nodes" --cluster-secret-file "$scratch/cluster" --loops 2 \
        --listen 127.0.0.1:0 --auth-secret-file "$scratch/secret" "$@" \
        >"$scratch/$name.out" 2>>"$scratch/$name.log" &
    pids[10]=$!
}

end_gateway() {
    end_node 10
}

refuses() { # STATUS TEXT COMMAND…
    local want=$1 text=$2 status
    shift 2
    timeout 20 "$@" >"$scratch/refused" 2>&1
    status=$?
    ((status == want)) && grep -qF -- "$text" "$scratch/refused"
}

read -r p1 p2 p3 <<<"$(ports 3)"
cluster=1=127.0.0.1:$p1,2=127.0.0.1:$p2,3=127.0.0.1:$p3
nodes=127.0.0.1:$p1,127.0.0.1:$p2,127.0.0.1:$p3
make_secret "$scratch/cluster"
make_secret "$scratch/secret"

# ---- what does not start ----
node=("$build/loquat-node" --data "$scratch/never" --cluster-secret-file "$scratch/cluster")
refuses 2 'give --tls-cert, --tls-key and --tls-ca' "${node[@]}" --tls-cert "$files/node1.crt"
check "a certificate alone" $?
# shellcheck disable=SC2046
refuses 1 'is not signed by a CA in' "${node[@]}" $(tls node1 other)
check "a certificate of another CA than the one given" $?
# shellcheck disable=SC2046
refuses 2 'give --cluster-tls-cert' "$build/loquat-gateway" --embed "$scratch/never" \
    --auth-secret-file "$scratch/secret" $(tls gateway ca cluster-)
check "links of a gateway that has none" $?
[[ ! -e $scratch/never ]]
check "nothing was made by those" $?

# ---- what does ----
for n in 1 2 3; do
    # shellcheck disable=SC2046
    start_node $n $(tls node$n)
done
for n in 1 2 3; do
    await_ready "$scratch/n$n.out" "${pids[n]}"
    check "node $n says ready" $?
done
# shellcheck disable=SC2046
start_gateway a $(tls gateway ca cluster-)
await_ready "$scratch/a.out" "${pids[10]}"
check "so does a gateway" $?
url=http://$address
status() { # OPTION…
    timeout 20 "$build/loquat-node" cluster status --cluster "$cluster" \
        --cluster-secret-file "$scratch/cluster" "$@" >"$scratch/status" 2>&1
}
for ((i = 0; i < 100; i++)); do
    # shellcheck disable=SC2046
    status $(tls gateway) && break
    sleep 0.1
done
((i < 100))
check "the status, by TLS: all is well" $?
! status
check "without TLS it learns nothing" $?

export LOQUAT_URL=$url LOQUAT_TOKEN
LOQUAT_TOKEN=$(token alice)
c=$(curl -sS -H "Authorization: Bearer $LOQUAT_TOKEN" -H 'Content-Type: application/json' \
    -d '{"kind":"group","name":"links","members":["bob"],"cid":"t"}' "$url/v1/conversations" | jq -r .c)
post() { # CID TEXT
    curl -sS -m 20 -o "$scratch/body" -w '%{http_code}' -H "Authorization: Bearer $LOQUAT_TOKEN" \
        -H 'Content-Type: application/json' -d "{\"cid\":\"$1\",\"kind\":\"text\",\"body\":{\"text\":\"$2\"}}" \
        "$url/v1/conversations/$c/messages"
}
wrong=0
for ((i = 1; i <= 50; i++)); do
    [[ $(post "p$i" "plum-$i") == 200 ]] || wrong=$((wrong + 1))
done
((wrong == 0))
check "messages are taken" $?
large=$(head -c 7000 /dev/zero | tr '\0' x)
[[ $(post large "$large") == 200 ]]
check "a large one, too" $?
count() {
    curl -sS -m 20 -H "Authorization: Bearer $LOQUAT_TOKEN" \
        "$url/v1/conversations/$c/records?view=folded&limit=100" | grep -o 'plum-[0-9]*' | sort -u | wc -l
}
[[ $(count) == 50 ]]
check "and are read" $?
end_node 2
check "a node ends with 0" $?
[[ $(post after after) == 200 ]] && [[ $(count) == 50 ]]
check "the others go on" $?
# shellcheck disable=SC2046
start_node 2 $(tls node2)
await_ready "$scratch/n2.out" "${pids[2]}"
check "it is back" $?

# ---- those who do not belong ----
strange() { # OUT OPTION…: openssl s_client, as long as it is let
    local out=$1
    shift
    timeout 20 openssl s_client -connect "127.0.0.1:$p1" -CAfile "$files/ca.crt" -ign_eof "$@" \
        </dev/null >"$scratch/$out" 2>&1
}
sleep 5 # a door says what is wrong every five seconds
strange none
grep -q 'certificate required' "$scratch/none" && says "$scratch/n1.log" 'it shows no certificate'
check "openssl without a certificate is cut, and the log says why" $?
sleep 5
strange wrong -cert "$files/stranger.crt" -key "$files/stranger.key"
grep -q 'alert unknown ca' "$scratch/wrong" && says "$scratch/n1.log" 'its certificate is not accepted'
check "with one of another CA, too" $?
strange old -tls1_2 -cert "$files/gateway.crt" -key "$files/gateway.key"
grep -q 'alert protocol version' "$scratch/old"
check "TLS 1.2 is refused" $?
timeout 20 /usr/bin/python3 -c '
import socket, sys
with socket.create_connection(("127.0.0.1", int(sys.argv[1])), 4) as sock:
    sock.sendall(b"lqhs\1\1\0\0" + bytes(32))
    try:
        sys.exit(len(sock.recv(100)))
    except ConnectionResetError:
        pass' "$p1"
check "plain words get nothing, and are cut at once" $?
admin=http://$(grep -o '"serving operators","listen":"[^"]*' "$scratch/n1.log" | tail -n 1 | sed 's/.*"//')
curl -s "$admin/metrics" >"$scratch/metrics"
until=$(date -d "$(openssl x509 -noout -enddate -in "$files/node1.crt" | cut -d= -f2)" +%s)
grep -qx "loquat_links_tls_not_after_seconds $until" "$scratch/metrics"
check "the metric of the certificate's end" $?
end_gateway
check "the gateway drains and ends with 0" $?

tells() { # NAME WHY-THERE WHY-HERE OPTION…: a gateway with these options is refused
    local name=$1 there=$2 here=$3
    shift 3
    sleep 5
    : >"$scratch/n1.log"
    : >"$scratch/$name.log"
    start_gateway "$name" "$@"
    says "$scratch/$name.log" "$here" && says "$scratch/n1.log" "$there" &&
        ! grep -q ready "$scratch/$name.out"
    check "a gateway $name is not served; both say why" $?
    end_gateway
}
tells plain 'it does not speak TLS, and this node does' 'does it speak TLS only'
# shellcheck disable=SC2046
tells expired 'certificate has expired' 'does not accept the certificate of this side' \
    $(tls late ca cluster-)
grep -q 'the certificate has expired: others refuse it' "$scratch/expired.log"
check "it was told at once" $?
# shellcheck disable=SC2046
tells stranger 'does not accept the certificate of this side' 'its certificate is not accepted' \
    $(tls stranger other cluster-)

# ---- renewing ----
leaf node1 ca
kill -HUP "${pids[1]}"
says "$scratch/n1.log" 'the certificate was read again'
check "SIGHUP: a certificate is read again" $?
shown=$(timeout 5 openssl s_client -connect "127.0.0.1:$p1" </dev/null 2>/dev/null |
    openssl x509 -noout -serial)
[[ -n $shown && $shown == "$(openssl x509 -noout -serial -in "$files/node1.crt")" ]]
check "who comes is shown the new one" $?
echo nonsense >"$files/node1.crt"
kill -HUP "${pids[1]}"
says "$scratch/n1.log" 'the certificate could not be read again; the one before stays'
check "one that is no certificate changes nothing" $?
# shellcheck disable=SC2046
start_gateway b $(tls gateway ca cluster-)
await_ready "$scratch/b.out" "${pids[10]}" && url=http://$address && [[ $(count) == 50 ]]
check "a gateway that comes then is served" $?
kill -HUP "${pids[10]}"
says "$scratch/b.log" '"with":"nodes"'
check "it reads its own again, too" $?
end_gateway
check "and ends with 0" $?
for n in 1 2 3; do
    end_node $n
    check "node $n ends with 0" $?
done

# ---- a node without TLS ----
start_node 1
# shellcheck disable=SC2046
start_gateway c $(tls gateway ca cluster-)
says "$scratch/n1.log" 'it speaks TLS, and this node does not' &&
    says "$scratch/c.log" 'does it speak TLS?'
check "a node without TLS takes none, and both say why" $?
! grep -qF -f "$scratch/cluster" "$scratch"/*.log && ! grep -q 'PRIVATE KEY' "$scratch"/*.log
check "no secret and no key is in a log" $?
finish
