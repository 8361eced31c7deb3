#!/bin/bash
# tls.sh: a gateway that speaks TLS itself: curl, openssl s_client, python3-websockets, bare sockets;
# reloads by SIGHUP, bad files, plain HTTP at its port.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/lib.sh
export PYTHONDONTWRITEBYTECODE=1

if ! command -v openssl >/dev/null; then
    echo "skipped: TLS (openssl is not installed; .ci/setup test installs it)"
    finish
fi
files=$scratch/files
mkdir "$files"

# A root that clients know, an authority below it, and the server's own.
ca() { # NAME ISSUER-OPTIONS…
    local name=$1
    shift
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 \
        -subj "/CN=$name" -keyout "$files/$name.key" -out "$files/$name.crt" "$@" \
        2>>"$scratch/openssl.log"
}
leaf() { # NAME: NAME.pem with its chain, NAME.key
    openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=localhost \
        -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -keyout "$files/$1.key" \
        -out "$files/$1.csr" 2>>"$scratch/openssl.log" &&
        openssl x509 -req -in "$files/$1.csr" -CA "$files/middle.crt" -CAkey "$files/middle.key" \
            -CAcreateserial -days 2 -copy_extensions copy -out "$files/$1.crt" \
            2>>"$scratch/openssl.log" && cat "$files/$1.crt" "$files/middle.crt" >"$files/$1.pem"
}
ca root && openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes \
    -subj /CN=middle -addext basicConstraints=critical,CA:TRUE -keyout "$files/middle.key" \
    -out "$files/middle.csr" 2>>"$scratch/openssl.log" &&
    openssl x509 -req -in "$files/middle.csr" -CA "$files/root.crt" -CAkey "$files/root.key" \
        -CAcreateserial -days 2 -copy_extensions copy -out "$files/middle.crt" \
        2>>"$scratch/openssl.log" && leaf one && leaf two && chmod 600 "$files"/*.key
check "certificates were made" $?
cp "$files/one.pem" "$files/cert.pem"
cp -p "$files/one.key" "$files/key.pem"

# ---- what does not start ----
make_secret "$scratch/secret"
refuses() { # NAME STATUS TEXT OPTION…
    local name=$1 want=$2 text=$3 status
    shift 3
    timeout 20 "$build/loquat-gateway" --embed "$scratch/never" --listen 127.0.0.1:0 \
        --auth-secret-file "$scratch/secret" "$@" >"$scratch/refused" 2>&1
    status=$?
    ((status == want)) && grep -qF "$text" "$scratch/refused"
    check "$name" $?
}
refuses "a certificate alone" 2 'give both --tls-cert and --tls-key' --tls-cert "$files/cert.pem"
refuses "a key alone" 2 'give both --tls-cert and --tls-key' --tls-key "$files/key.pem"
refuses "a file that is not there" 1 'No such file' --tls-cert "$files/no" --tls-key "$files/key.pem"
refuses "another's key" 1 'is not the key of the first certificate' \
    --tls-cert "$files/cert.pem" --tls-key "$files/two.key"
cat "$files/middle.crt" "$files/one.crt" >"$files/upside-down.pem"
refuses "a chain upside down" 1 "put the server's own certificate before its chain" \
    --tls-cert "$files/upside-down.pem" --tls-key "$files/key.pem"
openssl pkey -in "$files/one.key" -aes128 -passout pass:x -out "$files/locked.key"
refuses "a key with a passphrase" 1 'take it off: openssl pkey' \
    --tls-cert "$files/cert.pem" --tls-key "$files/locked.key"
[[ ! -e $scratch/never ]]
check "nothing was made by those" $?

# ---- what does ----
chmod 644 "$files/key.pem"
mkdir "$scratch/web"
echo '<!doctype html><title>page</title>' >"$scratch/web/index.html"
head -c 6000000 /dev/urandom >"$scratch/web/large.bin"
start_server "$scratch/data" --web "$scratch/web" --conv-rate 0 \
    --tls-cert "$files/cert.pem" --tls-key "$files/key.pem"
check "a server with TLS says ready" $?
grep -q 'every user of this machine may read or change the key' "$scratch/data.log"
check "a key that others may read: a warning" $?
url=https://$address
export LOQUAT_URL=$url LOQUAT_CA=$files/root.crt CURL_CA_BUNDLE=$files/root.crt
for user in alice bob carol mallory; do
    export "LOQUAT_TOKEN_${user^^}=$(token "$user")"
done
LOQUAT_TOKEN_ADMIN=$(token root --scope admin)
export LOQUAT_TOKEN_ADMIN

[[ $(curl -sS -o "$scratch/body" -w '%{http_code} %{http_version}' "$url/readyz") == '200 1.1' ]]
check "curl, by the root alone: the chain was sent" $?
curl -sS "$url/large.bin" | cmp - "$scratch/web/large.bin"
check "a large file" $?
curl -sS --limit-rate 3M "$url/large.bin" | cmp - "$scratch/web/large.bin"
check "and slowly" $?
c=$(curl -sS -H "Authorization: Bearer $LOQUAT_TOKEN_ALICE" -H 'Content-Type: application/json' \
    -d '{"kind":"group","name":"tls","members":["bob"],"cid":"t"}' "$url/v1/conversations" | jq -r .c)
[[ $c == g-* ]]
check "the API" $?
[[ $(curl -sS -m 5 -o "$scratch/body" -w '%{http_code} %{content_type}' "http://$address/v1/conversations") \
    == '400 text/plain' ]] && grep -q '^This port speaks TLS: use https:// or wss://$' "$scratch/body"
check "plain HTTP: 400, and what to do" $?
[[ $(curl -sS -m 5 -o "$scratch/body" -w '%{http_code}' -X PUT \
    --data-binary "@$scratch/web/large.bin" "http://$address/") == 400 ]]
check "with a large body, too" $?

client() { # OUT OPTION…: openssl s_client, which says what it got
    local out=$1
    shift
    openssl s_client -connect "$address" -CAfile "$files/root.crt" "$@" >"$scratch/$out" 2>&1
}
client 1.1 -tls1_1 -cipher DEFAULT:@SECLEVEL=0 </dev/null
grep -q 'alert protocol version' "$scratch/1.1"
check "TLS 1.1 is refused" $?
for version in 2 3; do
    client "1.$version" "-tls1_$version" -alpn h2,http/1.1 </dev/null
    grep -q 'Verification: OK' "$scratch/1.$version" && grep -q "TLSv1.$version, Cipher is " \
        "$scratch/1.$version" && grep -q 'ALPN protocol: http/1.1' "$scratch/1.$version" &&
        grep -q 'Compression: NONE' "$scratch/1.$version"
    check "TLS 1.$version: verified, ALPN, no compression" $?
    request=$'GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n'
    client ticket "-tls1_$version" -ign_eof -sess_out "$scratch/session" <<<"$request"
    client resumed "-tls1_$version" -ign_eof -sess_in "$scratch/session" <<<"$request"
    grep -q '^Reused, ' "$scratch/resumed" && grep -q '200 OK' "$scratch/resumed"
    check "TLS 1.$version: resumed by a ticket" $?
done
client h2 -alpn h2 </dev/null
grep -q 'no application protocol' "$scratch/h2"
check "a client of HTTP/2 alone is told" $?
client renewed -tls1_2 < <(
    echo R
    sleep 1
)
! grep -q 'verify return:1.*RENEGOTIATING\|Renegotiation DONE' "$scratch/renewed" &&
    grep -q 'RENEGOTIATING' "$scratch/renewed" && grep -qi 'error\|alert\|closed' "$scratch/renewed"
check "no renegotiation" $?

part() { # COMMAND…: adds the counts of its last line
    "$@" >"$scratch/part.log" 2>&1
    local status=$? line
    cat "$scratch/part.log"
    line=$(tail -n 1 "$scratch/part.log")
    if [[ $line =~ ^([0-9]+)\ passed,\ ([0-9]+)\ failed$ ]]; then
        passed=$((passed + BASH_REMATCH[1]))
        failed=$((failed + BASH_REMATCH[2]))
    else
        check "$*: ended with counts (exit status $status)" 1
    fi
}
SSL_CERT_FILE=$files/root.crt part /usr/bin/python3 tests/e2e/ws_test.py
if command -v node >/dev/null && [[ -d gateway/web/node_modules ]]; then
    NODE_EXTRA_CA_CERTS=$files/root.crt part node tests/e2e/web/protocol.mjs
else
    echo "skipped: npm ws (no node, or gateway/web is not built)"
fi
curl -sS "$url/metrics" >"$scratch/metrics"
until=$(date -d "$(openssl x509 -noout -enddate -in "$files/one.crt" | cut -d= -f2)" +%s)
grep -qx "loquat_tls_not_after_seconds $until" "$scratch/metrics"
check "the metric of the certificate's end" $?
grep -q 'failed_total{reason="plain_http"} 2$' "$scratch/metrics" &&
    grep -q 'failed_total{reason="version"} 1$' "$scratch/metrics" &&
    grep -q 'failed_total{reason="nothing_in_common"} 1$' "$scratch/metrics" &&
    grep -q 'handshakes_total{kind="resumed"} [1-9]' "$scratch/metrics" &&
    grep -q 'handshakes_total{kind="full"} [1-9]' "$scratch/metrics"
check "handshakes are counted, failed ones by reason" $?
if command -v promtool >/dev/null; then
    promtool check metrics <"$scratch/metrics" >"$scratch/promtool" 2>&1
    check "promtool accepts the metrics" $?
fi
chmod 600 "$files/key.pem"
export LOQUAT_CONV=$c LOQUAT_FILES=$files LOQUAT_LOG=$scratch/data.log
part /usr/bin/python3 tests/e2e/tls_clients.py "$server_pid" # its last test is a drain
wait "$server_pid"
check "SIGTERM drains and ends with 0" $?
server_pid=
[[ $(grep -c '"level":"\(warn\|error\)"' "$scratch/data.log") == 2 ]]
check "the log warns of the key and the bad pair, and of no connection" $?

# ---- loquat-log ----
start_server "$scratch/data" --tls-cert "$files/cert.pem" --tls-key "$files/key.pem"
export LOQUAT_URL=https://$address
unset LOQUAT_CA # it would be the option --ca
export LOQUAT_TOKEN=$LOQUAT_TOKEN_ALICE
log() { # SUBCOMMAND…
    timeout 20 "$build/loquat-log" "$@" >"$scratch/log.out" 2>"$scratch/log.err"
}
log send --ca "$files/root.crt" "$c" 'by TLS' && log read --ca "$files/root.crt" "$c" &&
    grep -q 'by TLS' "$scratch/log.out"
check "loquat-log sends and reads by https://" $?
log stat --url "https://localhost:${address##*:}" --ca "$files/root.crt" "$c"
check "and by name" $?
LOQUAT_TOKEN=$LOQUAT_TOKEN_ADMIN log import --ca "$files/root.crt" tests/data/chat-sample.jsonl.zst &&
    LOQUAT_TOKEN=$LOQUAT_TOKEN_ADMIN log export --ca "$files/root.crt" --all &&
    (($(wc -l <"$scratch/log.out") > 5000))
check "import and export" $?
SSL_CERT_FILE=$files/root.crt log stat "$c"
check "trusted by the system" $?
log send "$c" x
(($? == 1)) && grep -q "certificate is not accepted: unable to get local issuer" "$scratch/log.err"
check "not trusted: it says so" $?
log send --url "https://127.0.0.2:${address##*:}" --ca "$files/root.crt" "$c" x
(($? == 1))
check "another address" $?
log send --ca "$scratch/nothing" "$c" x
(($? == 1)) && grep -q "no certificates to trust can be read from $scratch/nothing" "$scratch/log.err"
check "no such file" $?
log send --url "http://$address" "$c" x
(($? == 1))
check "http:// to it fails" $?
stop_server

# ---- an expired certificate ----
if openssl x509 -req -in "$files/one.csr" -CA "$files/root.crt" -CAkey "$files/root.key" \
    -CAcreateserial -days -1 -copy_extensions copy -out "$files/old.pem" 2>>"$scratch/openssl.log"; then
    start_server "$scratch/data" --tls-cert "$files/old.pem" --tls-key "$files/one.key"
    check "an expired certificate is served" $?
    grep -q "the certificate has expired.*\"expired\":\"$(date -u -d yesterday +%Y-%m-)" "$scratch/data.log"
    check "the log says since when" $?
    curl -sS "https://$address/readyz" >"$scratch/body" 2>&1
    (($? == 60)) && grep -q 'certificate has expired' "$scratch/body"
    check "curl refuses it" $?
    stop_server
fi
finish
