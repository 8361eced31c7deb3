#!/bin/bash
# feed.sh: `loquat-log feed' and `consumer' against servers of its own: the feed has what the
# conversations have; it is followed through a kill of the server; workers of a consumer come, leave
# and are killed, and together print every record. The last line is `N passed, N failed`.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/lib.sh

log=$build/loquat-log
sample=tests/data/chat-sample.jsonl.zst
export TZ=UTC
declare -A workers=() # name → pid
writer=

cleanup_feed() {
    kill_all ${workers[@]+"${workers[@]}"} ${writer:+"$writer"}
    cleanup
}
trap cleanup_feed EXIT

# ---- helpers ----------------------------------------

# until_ COMMAND…: it succeeds within 60 s.
until_() {
    local i
    for ((i = 0; i < 600; i++)); do
        "$@" && return
        sleep 0.1
    done
    return 1
}
# Whole lines of a feed in FILE… as its own order has them: by partition, then by offset.
ordered() { cat "$@" | sed 's/^{"p":\([0-9]*\),"offset":\([0-9]*\),/\1 \2 &/' | sort -n -k1,1 -k2,2 | cut -d' ' -f3-; }
has_lines() { (($(wc -l <"$1") >= $2)); } # FILE N
same() { cmp "$1" "$2" >&2; }
lag_is() { [[ $("$log" consumer show --json "$1" | jq .lag) == "$2" ]]; } # CONSUMER N
shares() { [[ $("$log" consumer show --json "$1" | jq '.workers | length') == "$2" ]]; } # CONSUMER N

metric_is() { # CONSUMER N, or - when it has none
    local said
    said=$(env -u LOQUAT_TOKEN "$log" stat --json | jq -r ".[\"loquat_consumer_lag_records{consumer=\\\"$1\\\"}\"] // \"-\"")
    [[ $said == "$2" ]]
}

work() { # CONSUMER NAME: a worker, its lines in $scratch/CONSUMER.NAME
    "$log" feed --consumer "$1" --worker "$2" --follow --json \
        >"$scratch/$1.$2" 2>"$scratch/$1.$2.errors" &
    workers[$2]=$!
}
end_worker() { # NAME SIGNAL: gives its exit status
    local pid=${workers[$1]}
    kill "-$2" "$pid"
    wait "$pid" 2>/dev/null
    local status=$?
    unset "workers[$1]"
    return "$status"
}

# Writes into all conversations in turn until $scratch/enough is there.
write_on() {
    local i c
    rm -f "$scratch/enough"
    for ((i = 0; ; i++)); do
        for c in "${convs[@]}"; do
            [[ -e $scratch/enough ]] && return 0
            LOQUAT_TOKEN=$admin "$log" send "$c" "said $i" >/dev/null || return 1
        done
    done
}
start_writing() {
    write_on 2>"$scratch/writer.errors" &
    writer=$!
}
stop_writing() {
    touch "$scratch/enough"
    wait "$writer"
    local status=$?
    writer=
    rm -f "$scratch/enough"
    return "$status"
}

usage() { # NAME TEXT ARGUMENT…: is refused with 2, and the text
    local name=$1 text=$2
    shift 2
    "$log" "$@" >"$scratch/usage" 2>&1
    [[ $? == 2 ]] && grep -qF -- "$text" "$scratch/usage"
    check "$name" $?
}
fails() { # NAME TEXT ARGUMENT…: ends with 1, and says the text
    local name=$1 text=$2
    shift 2
    "$log" "$@" >"$scratch/fails" 2>&1
    [[ $? == 1 ]] && grep -qF -- "$text" "$scratch/fails"
    check "$name" $?
}

# ---- an empty server, then the sample ----------------------------------------
listen=127.0.0.1:$(ports 1)
start_server "$scratch/data" --conv-rate 0 --rate 0
check 'a server' $?
admin=$(token root --scope admin)
jobs=$(token jobs --scope jobs)
export LOQUAT_TOKEN=$jobs
[[ -z $("$log" feed --json) ]]
check 'the feed of an empty server is empty' $?
"$log" feed --follow --json >"$scratch/followed" 2>"$scratch/follow.errors" &
workers[follow]=$!
LOQUAT_TOKEN=$admin "$log" import "$sample" >"$scratch/import" 2>&1
check 'the sample is imported' $?

"$log" feed --json >"$scratch/feed"
check 'feed ends with 0' $?
mapfile -t convs < <(jq -r .record.c "$scratch/feed" | LC_ALL=C sort -u)
[[ ${#convs[@]} == $(curl -fsS -H "Authorization: Bearer $admin" \
    "$LOQUAT_URL/v1/conversations?limit=200" | jq '.convs | length') ]]
check "it has all ${#convs[@]} conversations" $?
for c in "${convs[@]}"; do
    LOQUAT_TOKEN=$admin "$log" read --view log --json "$c"
done | jq -c 'del(.cid)' >"$scratch/want" # a cid is said to its author only
jq -c .record "$scratch/feed" | sed 's/^{"c":"\([^"]*\)"/\1 &/' | LC_ALL=C sort -s -k1,1 |
    cut -d' ' -f2- >"$scratch/got"
same "$scratch/want" "$scratch/got"
check 'its records are those of the conversations, in their order' $?
ordered "$scratch/feed" | same - "$scratch/feed"
check 'offsets of a partition rise' $?
[[ $(jq -c '[.p, .offset]' "$scratch/feed" | sort | uniq -d) == '' ]]
check 'each stands there once' $?

# ---- parts of it ----------------------------------------
read -r p offset < <(jq -r '"\(.p) \(.offset)"' "$scratch/feed" | sed -n 3000p)
"$log" feed --json --partition "$p" --after "$offset" >"$scratch/part"
jq -c "select(.p == $p and .offset > $offset)" "$scratch/feed" >"$scratch/want"
[[ -s $scratch/want ]] && same "$scratch/want" "$scratch/part"
check '--partition --after gives what lies behind' $?
"$log" feed --json --max 2500 | same - <(head -n 2500 "$scratch/feed")
check '--max gives the first' $?
"$log" feed --partition "$p" --after "$offset" --max 1 | grep -qE "^ *$p +[0-9]+  g-[a-z0-9]+ +[0-9]+  2[0-9-]+ [0-9:]+  [<*]"
check 'for people: partition, offset, conversation, record' $?
[[ -z $("$log" feed --at now --json) ]]
check '--at now: nothing' $?
"$log" feed --at '1h ago' --json | same - "$scratch/feed"
check '--at "1h ago": all of it' $?
said_at=$(($(date +%s%3N) + 1))
until_ test "$(date +%s%3N)" -gt "$said_at"
LOQUAT_TOKEN=$admin "$log" send "${convs[0]}" 'the last word' >/dev/null
[[ $("$log" feed --json --at "$(date -u -d "@${said_at:0:-3}.${said_at: -3}" +%FT%T.%3NZ)" |
    jq -r .record.body.text) == 'the last word' ]]
check '--at a time gives what was written since' $?

# ---- followed through a kill ----------------------------------------
until_ has_lines "$scratch/followed" 5990
check '--follow had it as it came' $?
kill_server
start_server "$scratch/data" --conv-rate 0 --rate 0
check 'the server was killed and is back' $?
for c in "${convs[@]}"; do
    LOQUAT_TOKEN=$admin "$log" send "$c" 'after the kill' >/dev/null
done
"$log" feed --json >"$scratch/feed"
until_ has_lines "$scratch/followed" "$(wc -l <"$scratch/feed")"
check '--follow has what came after it' $?
end_worker follow INT
check 'Ctrl-C ends it with 0' $?
ordered "$scratch/followed" | same - "$scratch/feed"
check 'each record once' $?
for p in $(jq .p "$scratch/feed" | sort -un); do
    cmp -s <(grep "^{\"p\":$p," "$scratch/followed") <(grep "^{\"p\":$p," "$scratch/feed") || echo "$p"
done >"$scratch/disorder"
[[ ! -s $scratch/disorder ]]
check 'and in the order of each partition' $?

# ---- a consumer, read by one ----------------------------------------
"$log" consumer add one >"$scratch/out"
check 'consumer add' $?
lag_is one "$(wc -l <"$scratch/feed")"
check 'it begins at the start: everything lies ahead' $?
timeout 30 "$log" feed --consumer one --json >"$scratch/one"
check 'feed --consumer ends by itself' $?
ordered "$scratch/one" | same - "$scratch/feed"
check 'having printed everything once' $?
lag_is one 0 && shares one 0
check 'the cursors are at the end, and the worker has left' $?
[[ -z $(timeout 30 "$log" feed --consumer one --json) ]]
check 'another time: nothing' $?
"$log" consumer seek one --start >"$scratch/out"
timeout 30 "$log" feed --consumer one --json | ordered - | same - "$scratch/feed"
check 'seek --start: everything again' $?
read -r p offset < <(jq -r '"\(.p) \(.offset)"' "$scratch/feed" | sed -n 3000p)
[[ $("$log" consumer seek one --partition "$p" --offset "$offset" --json) == "{\"p\":$p,\"offset\":$offset}" ]]
check 'seek to an offset says where it is' $?
timeout 30 "$log" feed --consumer one --json |
    same - <(jq -c "select(.p == $p and .offset > $offset)" "$scratch/feed")
check 'seek to an offset: what lies behind it' $?
"$log" consumer seek one --at '1h ago' >"$scratch/out" && lag_is one "$(wc -l <"$scratch/feed")"
check 'seek --at a time' $?
"$log" stat >"$scratch/out" &&
    grep -qE '^one +[0-9,]+ +[0-9a-z.]+ +0' "$scratch/out" && grep -q '^loquat_partitions ' "$scratch/out"
check 'stat: the metrics, and who is how far behind' $?
[[ $("$log" stat --json | jq -c '[.loquat_partitions, .consumers[].name, .consumers[0].lag]') == \
    "[16,\"one\",$(wc -l <"$scratch/feed")]" ]]
check 'stat --json' $?
[[ $(LOQUAT_TOKEN=$(token alice) "$log" stat --json | jq .consumers) == null ]] &&
    [[ $(env -u LOQUAT_TOKEN "$log" stat --json | jq .consumers) == null ]]
check 'stat of who may not know: no consumers' $?
until_ metric_is one "$(wc -l <"$scratch/feed")"
check 'the metrics have it' $?
curl -sS "$LOQUAT_URL/metrics" >"$scratch/metrics"
[[ $(sed -n 's/^loquat_consumer_lag_seconds{consumer="one"} //p' "$scratch/metrics") =~ ^[0-9]+\.[0-9]{6}$ ]]
check 'and for how long' $?
if command -v promtool >/dev/null; then
    promtool check metrics <"$scratch/metrics" >"$scratch/promtool" 2>&1
    check 'promtool accepts them' $?
fi
"$log" consumer seek one --now >"$scratch/out" && lag_is one 0
check 'seek --now' $?
until_ metric_is one 0
check 'the metrics follow' $?
"$log" consumer list | grep -qE '^one +0 +- +0'
check 'consumer list: lag, time and workers' $?
"$log" consumer add late --from now >"$scratch/out" && lag_is late 0
check 'add --from now: nothing lies ahead' $?

# ---- shared, some leaving ----------------------------------------
"$log" consumer add group >"$scratch/out"
work group a
work group b
work group c
until_ shares group 3
check 'three workers share a consumer' $?
"$log" consumer show group | grep -q '^workers   a, b, c$'
check 'consumer show names them' $?
start_writing
until_ test -s "$scratch/group.a" -a -s "$scratch/group.b" -a -s "$scratch/group.c"
check 'each gets records' $?
end_worker b TERM
check 'SIGTERM ends one with 0' $?
! "$log" consumer show --json group | jq -r '.workers[].name' | grep -qx b
check 'it has left at once' $?
work group d
until_ test -s "$scratch/group.d"
check 'one that comes gets records' $?
stop_writing
check 'all the while there were records to be written' $?
until_ lag_is group 0
check 'they come to the end' $?
for name in a c d; do end_worker "$name" TERM || echo "$name"; done >"$scratch/ended"
[[ ! -s $scratch/ended ]]
check 'all end with 0' $?
"$log" feed --json >"$scratch/feed"
ordered "$scratch"/group.[abcd] | same - "$scratch/feed"
check 'together they printed each record exactly once' $?

# ---- shared, one killed ----------------------------------------
"$log" consumer add hard >"$scratch/out"
work hard a
work hard b
work hard c
until_ shares hard 3
start_writing
until_ test -s "$scratch/hard.a" -a -s "$scratch/hard.b" -a -s "$scratch/hard.c"
check 'three others share another' $?
kill -STOP "${workers[a]}"
until_ shares hard 2
check 'one that stands still is missed after a while' $?
took_over() { [[ -z $(comm -23 <(sed 's/,.*//' "$scratch/hard.a" | sort -u) \
    <(tail -qn 50 "$scratch"/hard.[bc] | sed 's/,.*//' | sort -u)) ]]; }
until_ took_over
check 'the others read its partitions' $?
kill -CONT "${workers[a]}"
until_ shares hard 3
check 'and comes again when it goes on' $?
end_worker c KILL
[[ $? == 137 ]]
check 'one is killed' $?
until_ shares hard 2
check 'it is missed after a while' $?
stop_writing
until_ lag_is hard 0
check 'the two come to the end' $?
"$log" feed --json >"$scratch/feed"
sed -i '${/}$/!d}' "$scratch/hard.c" # what was killed may have ended in a line
ordered "$scratch"/hard.[abc] | uniq | same - "$scratch/feed"
check 'together they printed each record at least once' $?

# ---- set back while they wait ----------------------------------------
before=$(cat "$scratch"/hard.[ab] | wc -l)
"$log" consumer seek hard --start >"$scratch/out"
replayed() { (($(cat "$scratch"/hard.[ab] | wc -l) >= before + $(wc -l <"$scratch/feed"))); }
until_ replayed && until_ lag_is hard 0
check 'seek --start under way: workers that wait go back' $?
kill_server
start_server "$scratch/data" --conv-rate 0 --rate 0
LOQUAT_TOKEN=$admin "$log" send "${convs[0]}" 'to the workers' >/dev/null
said() { grep -hq 'to the workers' "$scratch"/hard.[ab]; }
until_ said
check 'they go on after a kill of the server' $?
for name in a b; do end_worker "$name" TERM || echo "$name"; done >"$scratch/ended"
[[ ! -s $scratch/ended ]]
check 'and end with 0' $?

# ---- removed, and what goes wrong ----------------------------------------
work late a
until_ shares late 1
until_ metric_is late 0 && "$log" consumer remove late
check 'consumer remove' $?
wait "${workers[a]}"
[[ $? == 1 ]] && grep -q 'no such consumer' "$scratch/late.a.errors"
check 'a worker of what was removed ends with 1, and says so' $?
unset 'workers[a]'
until_ metric_is late -
check 'its metrics are gone' $?
fails 'a second remove' 'late: not_found: no such consumer' consumer remove late
fails 'feed of no consumer says what makes one' 'loquat-log consumer add NAME' feed --consumer late
fails 'add of one that is there' 'is there already' consumer add one
fails 'an offset ahead' 'the offset lies ahead of the feed' consumer seek one -p 0 --offset 999999999999
fails 'a partition that there is not' 'there are partitions from 0 to 15' feed --partition 16
fails '… for seek' 'there are partitions from 0 to 15' consumer seek one --partition 16 --now
LOQUAT_TOKEN=$(token alice) fails 'a user may not' 'scope jobs' feed
LOQUAT_URL=http://127.0.0.1:1 fails 'no server: fails at once' 'connection refused' feed
usage 'feed --worker alone' 'give --consumer' feed --worker w
usage 'feed --after alone' 'give --partition' feed --after 1
usage 'feed --after --at' 'not both' feed -p 1 --after 1 --at now
usage 'feed --consumer --at' 'consumer seek' feed --consumer one --at now
usage 'feed --at what is no time' 'a time is' feed --at yesterday
usage 'feed with a word' 'takes options only' feed one
usage 'consumer alone' 'list, show, add, seek or remove' consumer
usage 'consumer without a name' 'takes one name' consumer show
usage 'seek without a place' 'one of --offset, --at, --start and --now' consumer seek one
usage 'seek to two places' 'one of --offset, --at, --start and --now' consumer seek one --now --start
usage 'seek --offset alone' 'give --partition' consumer seek one --offset 1
usage 'a name that can not be' 'A-Z a-z 0-9' consumer add 'a b'
usage 'add --from elsewhere' 'start or now' consumer add x --from here
"$log" feed --json | head -n 1 >"$scratch/out"
[[ ${PIPESTATUS[0]} == 1 ]]
check 'a reader that goes away ends it with 1' $?

stop_server
check 'the server ends with 0' $?

# ---- by https ----------------------------------------
if ! command -v openssl >/dev/null; then
    echo 'skipped: feed by https (openssl is not installed; .ci/setup test installs it)'
    finish
fi
(umask 077 && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 \
    -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1 \
    -keyout "$scratch/key.pem" -out "$scratch/cert.pem" 2>"$scratch/openssl.log")
start_server "$scratch/data" --tls-cert "$scratch/cert.pem" --tls-key "$scratch/key.pem"
export LOQUAT_URL=https://$address LOQUAT_CA=$scratch/cert.pem
"$log" feed --json >"$scratch/feed" && [[ -s $scratch/feed ]] &&
    "$log" consumer seek one --start >"$scratch/out" &&
    timeout 30 "$log" feed --consumer one --json | ordered - | same - "$scratch/feed"
check 'by https: the feed, seek, and a worker of every partition at once' $?
stop_server
finish
