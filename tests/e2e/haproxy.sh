#!/bin/bash
# haproxy.sh: the real HAProxy with docs/examples/haproxy.cfg (its ports, paths and times replaced)
# in front of a gateway: TLS, WebSockets, limits, a drain and a restart.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/lib.sh

PATH=$PATH:/usr/sbin
if ! command -v haproxy >/dev/null || ! command -v openssl >/dev/null; then
    echo "skipped: HAProxy (haproxy or openssl is not installed; .ci/setup test installs it)"
    finish
fi
example=${EXAMPLE:-docs/examples/haproxy.cfg}
proxy_pid=
client_pid=
trap 'end_proxy; [[ -z $client_pid ]] || kill "$client_pid" 2>/dev/null; cleanup' EXIT

end_proxy() {
    [[ -n $proxy_pid ]] || return 0
    kill -TERM "$proxy_pid" 2>/dev/null
    wait "$proxy_pid" 2>/dev/null
    proxy_pid=
}

free_ports() { # prints three
    /usr/bin/python3 -c '
import socket
socks = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
print(*(s.getsockname()[1] for s in socks))'
}

# What a test run can't have (ports below 1024, the user haproxy, syslog) is replaced; times are
# shorter: tunnel 3 s, client and server 2 s, the limit of an address 40 connections. A second
# server, which nobody started and no check finds out about, has the fewest connections: HAProxy
# tries it first each time. The clients take it out.
derive() { # OUT [SED-EXPRESSION]
    sed -e "s|/etc/haproxy/certs/chat.pem|$scratch/chat.pem|" \
        -e "s|bind :443|bind 127.0.0.1:$https|; s|bind :80|bind 127.0.0.1:$http|" \
        -e "s|127.0.0.1:8080|$address\n    server two 127.0.0.1:$dead no-check|" \
        -e "s|/run/haproxy/admin.sock|$scratch/admin.sock|" \
        -e '/^ *\(user\|group\|chroot\|log \/dev\/log\)/d' -e 's|\(maxconn\) 9000|\1 500|' \
        -e 's|\(timeout tunnel\) .*|\1 3s|; s|\(timeout client\) .*|\1 2s|' \
        -e 's|\(timeout server\) .*|\1 2s|; s|\(timeout http-request\) .*|\1 1s|' \
        -e 's|inter 2s fastinter 500ms downinter 1s|inter 200ms fastinter 100ms downinter 100ms|' \
        -e 's|sc0_conn_cur gt 500|sc0_conn_cur gt 40|' -e "${2:-}" "$example" >"$1"
}

start_proxy() { # [SED-EXPRESSION]: sets base; another process may have taken a port meanwhile
    local try i
    for ((try = 0; try < 5; try++)); do
        read -r http https dead < <(free_ports)
        derive "$scratch/haproxy.cfg" "${1:-}"
        haproxy -db -f "$scratch/haproxy.cfg" >"$scratch/haproxy.log" 2>&1 &
        proxy_pid=$!
        base=https://localhost:$https
        for ((i = 0; i < 100; i++)); do
            [[ $(status "$base/readyz") == 200 ]] && return 0
            kill -0 "$proxy_pid" 2>/dev/null || break
            sleep 0.05
        done
        end_proxy
    done
    cat "$scratch/haproxy.log"
    return 1
}

status() { # CURL-ARGUMENTS…: 000 when there is no answer
    curl -sS -m 10 --cacert "$scratch/chat.pem" -o "$scratch/body" -D "$scratch/head" \
        -w '%{http_code}' "$@" 2>/dev/null
}

openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 \
    -subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1 \
    -keyout "$scratch/key.pem" -out "$scratch/cert.pem" 2>"$scratch/openssl.log"
(umask 077 && cat "$scratch/cert.pem" "$scratch/key.pem" >"$scratch/chat.pem")

accepts() { # SED-EXPRESSION: HAProxy takes the example with that and the certificate's path changed
    sed -e "s|/etc/haproxy/certs/chat.pem|$scratch/chat.pem|" -e "$1" "$example" \
        >"$scratch/as-is.cfg"
    if haproxy -c -f "$scratch/as-is.cfg" >"$scratch/check.log" 2>&1 &&
        ! grep -qE 'WARNING|ALERT' "$scratch/check.log"; then
        return 0
    fi
    cat "$scratch/check.log"
    return 1
}
accepts ''
check "haproxy -c takes the example, without a warning" $?
for alternative in 'balance source' 'hash-type consistent' 'balance hdr'; do
    accepts "/balance leastconn/d; s|#alternative \($alternative\)|\1|"
    check "and with the alternative: $alternative" $?
done
accepts 's|#alternative cookie|cookie|; s|\(server one [^ ]*\)|\1 cookie one|'
check "and with the alternative: cookie" $?

start_server "$scratch/data"
check "a server with two loops" $?
start_proxy
check "HAProxy serves the derived file" $?
gateway=$address # where it comes back later
alice=$(token alice)

[[ $(status "http://127.0.0.1:$http/v1/conversations?max=1") == 301 ]] &&
    grep -qi "^location: https://127.0.0.1:$http/v1/conversations?max=1" "$scratch/head"
check "HTTP is redirected to the same path" $?
for version in 1.1 1.2; do
    option=-tls${version/./_}
    openssl s_client "$option" -cipher DEFAULT:@SECLEVEL=0 -connect "127.0.0.1:$https" \
        </dev/null >"$scratch/tls-$version" 2>&1 # what the library would not offer by itself
done
grep -q 'alert protocol version' "$scratch/tls-1.1"
check "TLS 1.1 is refused" $?
grep -q 'Cipher is ECDHE' "$scratch/tls-1.2"
check "TLS 1.2 is not" $?
[[ $(status --http2 "$base/healthz") == 200 ]] && grep -q '^HTTP/2 200' "$scratch/head"
check "HTTP/2 is spoken" $?
grep -qi '^strict-transport-security: max-age=' "$scratch/head"
check "Strict-Transport-Security" $?
[[ $(status "$base/v1/conversations") == 401 ]]
check "the API without a token: 401" $?
c=$(curl -sS --cacert "$scratch/chat.pem" -H "Authorization: Bearer $alice" \
    -d '{"kind":"group","name":"proxy","members":["bob"],"cid":"p"}' "$base/v1/conversations" |
    jq -r .c)
[[ $(status -H "Authorization: Bearer $alice" "$base/v1/conversations/$c") == 200 ]]
check "the API by HTTPS" $?
many=0
for ((i = 0; i < 20; i++)); do
    [[ $(status "$base/readyz") == 200 ]] && many=$((many + 1))
done
((many == 20))
check "whoever is sent to a dead server first gets his answer from the other ($many of 20)" $?

[[ $(status "$url/metrics") == 200 ]] && grep -q loquat_connections "$scratch/body"
check "/metrics for this machine" $?
for path in /metrics /%6Detrics /metrics?x; do
    [[ $(status --path-as-is "$base$path") == 404 ]] && grep -q '<h1>404' "$scratch/body"
    check "$path from outside: 404 by HAProxy" $?
done

export LOQUAT_TOKEN_ALICE=$alice LOQUAT_CA=$scratch/chat.pem LOQUAT_CONV=$c
LOQUAT_TOKEN_BOB=$(token bob)
export LOQUAT_TOKEN_BOB LOQUAT_PROXY=wss://localhost:$https LOQUAT_SOCKET=$scratch/admin.sock

# The clients say `down` when they were sent away and the proxy answers 503; then it comes back.
mkfifo "$scratch/said"
/usr/bin/python3 tests/e2e/haproxy_clients.py "$server_pid" 3>"$scratch/said" \
    >"$scratch/clients.log" 2>&1 &
client_pid=$!
exec 4<"$scratch/said"
read -r -t 25 said <&4
[[ ${said:-} == down ]]
check "the clients saw the drain" $?
[[ ${said:-} == down ]] || kill -TERM "$server_pid" 2>/dev/null # they did not get that far
wait "$server_pid"
check "SIGTERM drains and ends with 0 behind the proxy" $?
server_pid=
[[ $(status "$base/v1/conversations") == 503 ]]
check "while it is down the proxy answers 503" $?
listen=$gateway start_server "$scratch/data"
check "it comes back at the same port" $?
wait "$client_pid"
check "the clients: exit status" $?
client_pid=
cat "$scratch/clients.log"
line=$(tail -n 1 "$scratch/clients.log")
if [[ $line =~ ([0-9]+)\ passed,\ ([0-9]+)\ failed ]]; then
    passed=$((passed + BASH_REMATCH[1]))
    failed=$((failed + BASH_REMATCH[2]))
else
    check "the clients ended with counts" 1
fi
end_proxy

# Whoever forgets the rule: the gateway refuses by X-Forwarded-For, which HAProxy puts there.
start_proxy '/path,url_dec -m beg .metrics/d'
check "HAProxy without the rule for /metrics" $?
[[ $(status "$base/metrics") == 404 ]] && ! grep -q loquat_ "$scratch/body"
check "/metrics is refused by the gateway too" $?
end_proxy
stop_server
check "drained" $?
finish
