#!/bin/bash
# compact.sh: loquat-compact on a running server and on its directory at rest: plan, run, verify; what
# people read before and after. BUILD: where the programs are (build). Ends with `N passed, N failed`.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/lib.sh

unset LOQUAT_DATA # here it would be the --data of every call
dir=$scratch/d
compact() { # COMMAND [OPTION…]: JSON to $scratch/report; the exit status
    timeout 120 "$build/loquat-compact" "$1" --data "$dir" --json "${@:2}" \
        >"$scratch/report" 2>"$scratch/errors" </dev/null
}
report() { jq -r "$1" "$scratch/report"; }
req() { # TOKEN METHOD PATH [CURL OPTION…]: body to $scratch/body, prints the status
    curl -sS -m 20 -o "$scratch/body" -w '%{http_code}' -X "$2" -H "Authorization: Bearer $1" \
        -H 'Content-Type: application/json' "${@:4}" "$url$3"
}
field() { jq -r "$1" "$scratch/body"; }
is() { # NAME WANT GOT
    [[ $2 == "$3" ]]
    local status=$?
    check "$1" $status
    ((status == 0)) || echo "      wanted $2, got $3: $(head -c 300 "$scratch/errors" "$scratch/body")"
}
send() { # CID: a message of alice; prints the status
    req "$alice" POST "/v1/conversations/$c/messages" \
        -d "{\"cid\":\"$1\",\"kind\":\"text\",\"body\":{\"text\":\"words of $1\"}}"
}
picture() { (cd "$dir" && find . -type f -printf '%p %s %T@\n' -exec sha256sum {} + | sort); }
# The whole log as bob sees it: what each sequence is, one a line: "7 record" or "7 trimmed".
log_of_bob() {
    local from=1
    while [[ $from != null ]]; do
        req "$bob" GET "/v1/conversations/$c/records?view=log&max=1000&from=$from" >/dev/null
        jq -r '.records[] | if .hole then .why as $w | range(.hole[0]; .hole[1] + 1) | "\(.) \($w)"
            else "\(.s) record" end' "$scratch/body"
        from=$(field .next)
    done
}
dense() { # FILE HEAD: every sequence from 1 to the head, once and in order
    diff -q <(cut -d' ' -f1 "$1") <(seq 1 "$2") >/dev/null
}

start_server "$dir"
check "a server" $?
alice=$(token alice)
bob=$(token bob)
LOQUAT_TOKEN=$(token root --scope admin) "$build/loquat-log" import tests/data/chat-sample.jsonl.zst \
    >/dev/null 2>&1
check "old conversations were imported" $?
is "open" 200 "$(req "$alice" POST /v1/conversations \
    -d '{"kind":"group","name":"kept","members":["bob"],"cid":"compact"}')"
c=$(field .c)
for i in $(seq 40); do
    send "m$i" >/dev/null
done
is "forty messages" 41 "$(field .s)"
is "one that expires" 200 "$(req "$alice" POST "/v1/conversations/$c/messages" \
    -d '{"cid":"fleeting","kind":"text","body":{"text":"fleeting words"},"ttl":1}')"

# ---- a running server ----
compact status
is "status ends with 0" 0 $?
is "status: of a running node" true "$(report .running)"
convs=$(report .conversations)
rows=$(report .rows)
[[ $convs -gt 10 && $rows -gt 5000 ]]
check "status: conversations and rows are counted ($convs, $rows)" $?
is "status: families" "log conv fold dedup user feed out apl" \
    "$(report '[.families[].family] | join(" ")')"
compact verify
is "verify ends with 0" 0 $?
is "verify: every conversation" "$convs 0" "$(report '"\(.conversations) \(.damaged)"')"

compact plan --max-age 365d --conv "$c"
is "plan for one: nothing of it is old" "1 0" "$(report '"\(.conversations) \(.raised)"')"
compact plan --max-age 365d
is "plan ends with 0" 0 $?
raised=$(report .raised)
old=$(zstdcat tests/data/chat-sample.jsonl.zst |
    jq -rn '[reduce inputs as $l ({}; .[$l.conv] //= [$l.ts]) | .[][0] | select(. != null)] | length')
is "plan: what was imported with times is old" "$old" "$raised"
for ((i = 0; i < 50; i++)); do # the fleeting one goes before the two are taken, not in between
    log_of_bob >"$scratch/before"
    grep -q expired "$scratch/before" && break
    sleep 0.1
done
compact run --max-count 10 --conv "$c"
is "without --yes and a terminal nothing is removed" 2 $?
log_of_bob >"$scratch/after"
cmp -s "$scratch/before" "$scratch/after"
check "and nothing was" $?

for i in $(seq 41 140); do # meanwhile somebody writes
    send "m$i"
    echo
done >"$scratch/written" &
writer=$!
compact run --max-count 10 --yes --conv "$c"
is "run for one conversation ends with 0" 0 $?
is "run: its floor rose" 1 "$(report .raised)"
wait "$writer"
is "all writes meanwhile were taken" 100 "$(grep -c '^200$' "$scratch/written")"
log_of_bob >"$scratch/after"
dense "$scratch/after" 142
check "every sequence is there, once" $?
is "the log begins with a hole" "1 trimmed" "$(head -n 1 "$scratch/after")"
is "and ends with records" "142 record" "$(tail -n 1 "$scratch/after")"
is "a cid of what went: answered" 200 "$(send m1)"
is "a cid of what went: as before" "true 2" "$(field '"\(.dup) \(.s)"')"

compact run --max-age 365d --yes
is "run for all ends with 0" 0 $?
is "run: as planned" "$raised" "$(report .raised)"
sizes=$(report '"\(.disk_before) -> \(.disk_after) bytes"')
[[ $(report .disk_after) -lt $(report .disk_before) ]]
check "the files are smaller ($sizes)" $?
compact plan --max-age 365d
is "nothing more to do" "0 0" "$(report '"\(.raised) \(.causes.floor.rows)"')"
compact verify
is "all is whole" "0 0" "$? $(report .damaged)"
is "unread" 200 "$(req "$bob" GET "/v1/conversations/$c")"
floor=$(field .floor)
unread=$(field .unread)
is "unread counts what is left, and has not expired" \
    $((142 - floor + 1 - $(log_of_bob | grep -c expired))) "$unread"

found() { req "$bob" GET "/v1/search?q=words+$1" && field ' " \(.hits | length) \(.indexed.complete)"'; }
is "what is there is found" "200 1 true" "$(found m140)"
is "what was removed is not" "200 0 true" "$(found m1)"
compact reindex
is "reindex of all" "0 true" "$? $(report '.segments >= .conversations')"
begin=$SECONDS
compact reindex --conv "$c" --rate 25
is "reindex of one conversation, in no hurry" "0 1" "$? $(report .segments)"
took=$((SECONDS - begin))
((took >= 3))
check "a hundred messages took their time ($took s)" $?
is "it is found still" "200 1 true" "$(found m140)"

# ---- at rest ----
stop_server
check "drained" $?
before=$(picture)
compact status
is "status at rest" "0 false" "$? $(report .running)"
compact plan --max-count 5
is "plan at rest" 0 $?
compact verify
is "verify at rest" "0 0" "$? $(report .damaged)"
is "verify: it is all there" "$convs" "$(report .conversations)"
[[ $(picture) == "$before" ]]
check "reading changes no file" $?
compact run --max-count 5 --yes --conv "$c"
is "run at rest" "0 1 false" "$? $(report '"\(.raised) \(.running)"')"
compact run --max-count 5 --yes --conv "$c"
is "run again: nothing" "0 0" "$(report '"\(.raised) \(.gone)"')"
compact reindex --conv "$c"
is "reindex at rest" "0 1 false" "$? $(report '"\(.segments) \(.running)"')"
compact reindex --rate 0
is "a rate is at least 1" 2 $?
"$build/loquat-compact" status --data "$dir" >"$scratch/text" 2>"$scratch/errors"
is "status for people" 0 $?
grep -q 'at rest' "$scratch/text" && grep -q 'below the floor' "$scratch/text"
check "status for people: reasons" $?

start_server "$dir"
check "the server starts again" $?
log_of_bob >"$scratch/after"
dense "$scratch/after" 142
check "every sequence, once" $?
is "five messages are left" 5 "$(grep -c ' record$' "$scratch/after")"
is "a cid of what went, after all that: answered" 200 "$(send m30)"
is "a cid of what went, after all that: as before" true "$(field .dup)"
is "the next sequence" "200 143" "$(send new) $(field .s)"
is "the one that expired answers its cid" 200 "$(req "$alice" POST "/v1/conversations/$c/messages" \
    -d '{"cid":"fleeting","kind":"text","body":{"text":"fleeting words"},"ttl":1}')"
is "the one that expired: as before" true "$(field .dup)"
kill_server
compact verify
is "whole after a kill" "0 0" "$? $(report .damaged)"
start_server "$dir"
check "and it starts" $?
stop_server

# ---- ended in the middle ----
for i in 1 2 3; do # the server, at some moment of a run
    start_server "$dir"
    "$build/loquat-compact" run --data "$dir" --max-count $((60 - 10 * i)) --yes >/dev/null 2>&1 &
    run=$!
    sleep "0.0$((RANDOM % 9))"
    kill_server
    wait "$run"
    compact verify
    is "whole after a kill in a run ($i)" "0 0" "$? $(report .damaged)"
done
"$build/loquat-compact" run --data "$dir" --max-count 20 --yes >/dev/null 2>&1 & # at rest
run=$!
sleep "0.0$((RANDOM % 9))"
kill -KILL "$run" 2>/dev/null
wait "$run" 2>/dev/null
compact verify
is "whole after a run at rest was killed" "0 0" "$? $(report .damaged)"
compact run --max-count 20 --yes
is "and it goes on" 0 $?
compact plan --max-count 20
is "until nothing is left to do" "0 0" "$(report '"\(.raised) \(.causes.floor.rows)"')"

# ---- damage, and wrong use ----
cp -r "$dir" "$scratch/damaged"
for f in "$scratch"/damaged/data/*.sst; do
    size=$(stat -c %s "$f")
    ((size > 20000)) && printf '\xff\xff\xff' |
        dd of="$f" bs=1 seek=$((size / 3)) conv=notrunc status=none
done
dir=$scratch/damaged
compact verify
is "damaged files: 1" 1 $?
what=$(report '.damages[0] | "\(.family) \(.what)"' | head -c 120)
[[ $(report .ok) == false && $(report '.damaged') -gt 0 ]]
check "damaged files are named: $what" $?
"$build/loquat-compact" verify --data "$dir" >"$scratch/text" 2>"$scratch/errors"
grep -q '^DAMAGED' "$scratch/text" && grep -q 'restore the directory from a backup' "$scratch/text"
check "damaged files: what to do" $?
dir=$scratch/nowhere
compact status
is "no directory: 1" 1 $?
mkdir "$scratch/foreign"
dir=$scratch/foreign
compact run --max-count 1 --yes
is "somebody else's directory: 1" 1 $?
is "nothing is put into it" 0 "$(find "$dir" -mindepth 1 | wc -l)"
for words in "" "nonsense" "status" "status --data x y" "run --data x --max-age soon" \
    "status --data x --max-count 3" "plan --data x --conv a/b"; do
    # shellcheck disable=SC2086
    "$build/loquat-compact" $words >/dev/null 2>"$scratch/errors" </dev/null
    is "wrong use \"$words\": 2" 2 $?
done
"$build/loquat-compact" run --help | grep -q -- --max-age
check "help" $?
if grep -qE 'ERROR: AddressSanitizer|runtime error:|LeakSanitizer' "$scratch"/d.log; then
    sed -n '/ERROR: AddressSanitizer\|runtime error:\|LeakSanitizer/,+30p' "$scratch/d.log"
    check "the sanitizers have nothing to say" 1
fi
finish
