#!/bin/bash
# http.sh: the HTTP interface with curl and bare sockets. From the caller: LOQUAT_URL, LOQUAT_TOKEN_*,
# LOQUAT_SECRET_FILE.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/lib.sh
trap 'rm -rf "$scratch"' EXIT
url=${LOQUAT_URL:?}
address=${url#http://}

req() { # USER METHOD PATH [CURL OPTION…]: body to $scratch/body, prints the status
    local user=$1 method=$2 path=$3 token
    shift 3
    token=LOQUAT_TOKEN_${user^^}
    curl -sS -m 20 -o "$scratch/body" -D "$scratch/head" -w '%{http_code}' -X "$method" \
        -H "Authorization: Bearer ${!token:-}" "$@" "$url$path"
}
is() { # NAME WANT GOT
    [[ $2 == "$3" ]]
    local status=$?
    check "$1" $status
    ((status == 0)) || { echo "      wanted $2, got $3: $(head -c 300 "$scratch/body")"; }
}
field() { jq -r "$1" "$scratch/body"; }

is "healthz" 200 "$(req alice GET /healthz)"
is "readyz" 200 "$(req alice GET /readyz)"
is "metrics are served to this machine" 200 "$(req alice GET /metrics)"
if command -v promtool >/dev/null; then
    promtool check metrics <"$scratch/body" >"$scratch/promtool" 2>&1
    check "promtool accepts the metrics" $?
fi
is "no token" 401 "$(curl -sS -o "$scratch/body" -w '%{http_code}' "$url/v1/conversations")"
is "no token: the error" unauthorized "$(field .err.code)"
is "a broken token" 401 "$(curl -sS -o "$scratch/body" -w '%{http_code}' -H 'Authorization: Bearer a.b.c' "$url/v1/conversations")"

json=(-H 'Content-Type: application/json')
status=$(req alice POST /v1/conversations "${json[@]}" -d '{"kind":"group","name":"http","members":["bob"],"cid":"http-1"}')
is "open a group" 200 "$status"
c=$(field .c)
is "its name" http "$(field .name)"
is "again: the same" "$(req alice POST /v1/conversations "${json[@]}" -d '{"kind":"group","name":"http","members":["bob"],"cid":"http-1"}' >/dev/null; field .c)" "$c"
for i in 1 2 3; do
    is "send $i" 200 "$(req alice POST "/v1/conversations/$c/messages" "${json[@]}" -d "{\"cid\":\"m$i\",\"kind\":\"text\",\"body\":{\"text\":\"message $i\"}}")"
done
first=$(field .s)
is "the same cid again" 200 "$(req alice POST "/v1/conversations/$c/messages" "${json[@]}" -d '{"cid":"m3","kind":"text","body":{"text":"message 3"}}')"
is "the same cid again: dup" "true $first" "$(field '"\(.dup) \(.s)"')"
is "the same cid, other text" 409 "$(req alice POST "/v1/conversations/$c/messages" "${json[@]}" -d '{"cid":"m3","kind":"text","body":{"text":"other"}}')"
is "conversation" 200 "$(req bob GET "/v1/conversations/$c")"
is "unread of bob" 3 "$(field .unread)"
is "list" 200 "$(req bob GET "/v1/conversations")"
is "list has it" "$c" "$(field ".convs[] | select(.c == \"$c\") | .c")"
is "a stranger" 404 "$(req mallory GET "/v1/conversations/$c")"
is "records" 200 "$(req bob GET "/v1/conversations/$c/records?view=folded")"
is "records in order" "message 1,message 2,message 3" "$(field '[.records[].body.text] | join(",")')"
is "records from" 200 "$(req bob GET "/v1/conversations/$c/records?from=$first&view=folded")"
is "records from: one" 1 "$(field '.records | length')"
is "ndjson" 200 "$(req bob GET "/v1/conversations/$c/records?view=folded" -H 'Accept: application/x-ndjson')"
is "ndjson: a record a line" 3 "$(wc -l <"$scratch/body")"
is "a bad number" 400 "$(req bob GET "/v1/conversations/$c/records?from=x")"
is "a bad view" 400 "$(req bob GET "/v1/conversations/$c/records?view=x")"
is "a bad body" 400 "$(req alice POST "/v1/conversations/$c/messages" "${json[@]}" -d '{"cid":')"
is "no such path" 404 "$(req alice GET /v1/nothing)"
is "a wrong method" 405 "$(req alice DELETE /v1/conversations)"
is "too large" 413 "$(head -c 300000 /dev/zero | tr '\0' x | req alice POST "/v1/conversations/$c/messages" "${json[@]}" --data-binary @-)"
is "a path that climbs" 404 "$(req alice GET '/../../etc/passwd' --path-as-is)"

# A token that may only send into this conversation, for a program that reports there.
is "the hook is a member" 200 "$(req alice POST "/v1/conversations" "${json[@]}" -d '{"kind":"group","name":"hooked","members":["hook"],"cid":"hooked"}')"
hooked=$(field .c)
LOQUAT_TOKEN_HOOK=$("$build/loquat-log" token --user hook --scope "send:$hooked" --secret-file "$LOQUAT_SECRET_FILE")
report='{"cid":"r1","kind":"text","body":{"text":"the build is green"}}'
is "a hook sends" 200 "$(req hook POST "/v1/conversations/$hooked/messages" "${json[@]}" -d "$report")"
is "a hook sends nowhere else" 403 "$(req hook POST "/v1/conversations/$c/messages" "${json[@]}" -d "$report")"
is "a hook opens nothing" 403 "$(req hook POST /v1/conversations "${json[@]}" -d '{"kind":"direct","with":"alice"}')"
for path in /v1/conversations "/v1/conversations/$hooked" "/v1/conversations/$hooked/records" "/v1/conversations/$hooked/tail"; do
    is "a hook does not read $path" 403 "$(req hook GET "$path")"
done
is "what the hook said" hook "$(req alice GET "/v1/conversations/$hooked/records?view=folded" >/dev/null; field '.records[0].from')"

# The tail: what is there, then what comes, with ids to go on from.
curl -sS -N -m 3 -H "Authorization: Bearer $LOQUAT_TOKEN_BOB" "$url/v1/conversations/$c/tail?from=1" >"$scratch/tail" 2>/dev/null &
tail_pid=$!
sleep 0.5
req alice POST "/v1/conversations/$c/messages" "${json[@]}" -d '{"cid":"m4","kind":"text","body":{"text":"message 4"}}' >/dev/null
wait $tail_pid
is "the tail has all four" 4 "$(grep -c '"kind":"text"' "$scratch/tail")"
is "the tail's last id" "$((first + 1))" "$(sed -n 's/^id: *//p' "$scratch/tail" | tr -d '\r' | tail -n 1)"
curl -sS -N -m 1 -H "Last-Event-ID: $first" -H "Authorization: Bearer $LOQUAT_TOKEN_BOB" "$url/v1/conversations/$c/tail" >"$scratch/tail" 2>/dev/null
is "Last-Event-ID resumes" 1 "$(grep -c '"kind":"text"' "$scratch/tail")"

# Browsers of other places are refused.
ws=(-H 'Connection: Upgrade' -H 'Upgrade: websocket' -H 'Sec-WebSocket-Version: 13' -H 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==' -H 'Sec-WebSocket-Protocol: loquat.v1.json')
is "a foreign Origin" 403 "$(curl -sS -m 2 -o "$scratch/body" -w '%{http_code}' "${ws[@]}" -H 'Origin: http://evil.example' "$url/v1/ws")"
is "the own Origin" 101 "$(curl -sS -m 1 -o "$scratch/body" -w '%{http_code}' "${ws[@]}" -H "Origin: $url" "$url/v1/ws" 2>/dev/null)"

# Shapes that smuggle or stall: a 4xx and a close, and nobody else notices.
raw() { # NAME WANT_STATUS BYTES
    local got
    got=$(exec 3<>"/dev/tcp/${address%:*}/${address##*:}" && printf "$3" >&3 && timeout 5 head -c 4096 <&3 | head -n 1)
    [[ $got =~ ^HTTP/1\.[01]\ $2 ]]
    check "$1" $? || true
    [[ $got =~ ^HTTP/1\.[01]\ $2 ]] || echo "      wanted $2, got: $got"
}
raw "two Hosts" 400 'GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n'
raw "no Host" 400 'GET /healthz HTTP/1.1\r\n\r\n'
raw "lone CR" 400 'GET /healthz HTTP/1.1\r\nHost: a\rX: b\r\n\r\n'
raw "folded header" 400 'GET /healthz HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n'
raw "length and chunked" 400 'POST /v1/conversations HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n'
raw "two lengths" 400 'POST /v1/conversations HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcde'
raw "a length that is none" 400 'POST /v1/conversations HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n'
raw "space before colon" 400 'GET /healthz HTTP/1.1\r\nHost : a\r\n\r\n'
raw "NUL in a header" 400 'GET /healthz HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n'
raw "HTTP/0.9" '4[0-9][0-9]' 'GET /healthz\r\n\r\n'
raw "HTTP/2 preface" '(4|5)[0-9][0-9]' 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'
raw "a huge head" 431 "GET /healthz HTTP/1.1\r\nHost: a\r\nX: $(head -c 20000 /dev/zero | tr '\0' x)\r\n\r\n"
is "after all that" 200 "$(req alice GET /healthz)"

if [[ -f gateway/web/dist/index.html ]]; then
    is "the page" 200 "$(req alice GET /)"
    grep -qi "^content-security-policy: default-src 'none'" "$scratch/head"
    check "the page has a strict policy" $?
    ! grep -qiE '<script[^>]*>[^<]|<style|style="' "$scratch/body"
    check "nothing inline in the page" $?
fi
finish
