#!/bin/bash
# import.sh: loquat-log against a running server: what goes in comes out, byte for byte, and once.
# From the caller: LOQUAT_URL and LOQUAT_TOKEN (scope admin). BUILD: where loquat-log is (build).
# The whole collection is imported too where it is (LOQUAT_DATASET, ../shared/data); LOQUAT_FULL=0: not.
# The last line is `N passed, N failed`.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1

log=${BUILD:-build}/loquat-log
sample=tests/data/chat-sample.jsonl.zst
: "${LOQUAT_URL:?the server}" "${LOQUAT_TOKEN:?a token of scope admin}"
export LOQUAT_URL LOQUAT_TOKEN
scratch=$(mktemp -d) || exit 1
trap 'rm -rf "$scratch"' EXIT
passed=0
failed=0

check() { # NAME STATUS
    if (($2 == 0)); then
        passed=$((passed + 1))
        echo "ok    $1"
    else
        failed=$((failed + 1))
        echo "FAIL  $1"
    fi
}
# By conversation, lines of one in their order.
by_conv() { LC_ALL=C sort -s -t'"' -k4,4; }
# What an import keeps of a line.
kept() {
    jq -c '{conv, ts, from, text, reply_to} + (if has("type") then {type} else {} end)'
}
total() { jq -r ".$1" "$scratch/totals"; } # FIELD of the last import

# FILE: imports it and checks the sums; NAME for the messages; NEW: how many lines, or - for any.
import() {
    local file=$1 name=$2 new=$3
    "$log" import --json "$file" >"$scratch/totals" 2>"$scratch/errors"
    check "$name: ends with 0" $?
    [[ $(total lines) -gt 0 && $(($(total new) + $(total there))) -eq $(total lines) ]]
    check "$name: every line is there" $?
    [[ $(total failed) == 0 && $(total disorder) == 0 ]]
    check "$name: in order, nothing given up" $?
    [[ $new == - || $(total new) == "$new" ]]
    check "$name: $new new lines ($(total new), $(total rate)/s)" $?
}

# WANT NAME: the lines of an export whose conversations are in the file WANT equal it.
export_equals() {
    local want=$1 name=$2
    "$log" export --all --out "$scratch/out.jsonl.zst" 2>"$scratch/errors"
    check "$name: export ends with 0" $?
    zstd -dcq "$scratch/out.jsonl.zst" |
        awk -F'"' 'NR == FNR { mine[$4]; next } $4 in mine' "$want" - | by_conv >"$scratch/got"
    cmp "$want" "$scratch/got"
    check "$name: export equals what went in" $?
}

# ---- the sample ----------------------------------------
zstd -dcq "$sample" | kept | by_conv >"$scratch/want"
import "$sample" sample -
import "$sample" 'sample again' 0
export_equals "$scratch/want" sample

# ---- whole lines, from standard input ----------------------------------------
zstd -dcq "$sample" | sed 's/^{"conv":"/&kept./' >"$scratch/kept.jsonl"
"$log" import --keep --json - <"$scratch/kept.jsonl" >"$scratch/totals" 2>"$scratch/errors"
check 'kept: import from standard input' $?
by_conv <"$scratch/kept.jsonl" >"$scratch/want.kept"
export_equals "$scratch/want.kept" kept

# ---- a file that grew ----------------------------------------
name=grown/$RANDOM$RANDOM$$
line() { printf '{"conv":"%s","ts":%s,"from":"%s","text":"%s","reply_to":%s}\n' "$name" "$@"; }
line 1400000000000 ann one null >"$scratch/grown.jsonl"
import "$scratch/grown.jsonl" 'new file' 1
line 1400000001000 'b|b' two 0 >>"$scratch/grown.jsonl"
import "$scratch/grown.jsonl" 'grown file' 1
[[ $(total there) == 1 ]]
check 'grown file: the rest was there' $?
export_equals "$scratch/grown.jsonl" 'grown file'

# ---- one conversation: stat, read, send, tail ----------------------------------------
page=''
id=''
while [[ -z $id ]]; do
    list=$(curl -fsS -H "Authorization: Bearer $LOQUAT_TOKEN" \
        "$LOQUAT_URL/v1/conversations?limit=200${page:+&page=$page}") || break
    id=$(jq -r --arg name "$name" '.convs[] | select(.name == $name).c' <<<"$list")
    page=$(jq -r '.next // empty | @uri' <<<"$list")
    [[ -n $page ]] || break
done
[[ -n $id ]]
check 'the conversation is in the list' $?
[[ $("$log" stat --json "$id" | jq -r .name) == "$name" ]]
check 'stat knows its name' $?
"$log" stat "$id" | grep -q '^members  *3$'
check 'stat: the writers and the importer are members' $?
"$log" read "$id" | grep -q '<b|b> (to #[0-9]*) two$'
check 'read shows the nickname and the reply' $?
seqs=$("$log" read --view log --json "$id" | jq -r 'if .hole then .hole[0], .hole[1] else .s end')
[[ $seqs == "$(seq 1 "$(wc -l <<<"$seqs")")" ]]
check 'read --view log: every sequence once' $?
[[ $("$log" read --json --desc --max 1 "$id" | jq -r .body.text) == two ]]
check 'read --desc --max 1 gives the newest' $?

timeout 20 "$log" tail --json --from 1 "$id" >"$scratch/tail" 2>"$scratch/errors" &
tail_pid=$!
first=$("$log" send --cid e2e-1 "$id" hello there)
check 'send prints the sequence' $?
again=$("$log" send --cid e2e-1 "$id" hello there)
[[ $again == "$first "* ]]
check 'the same cid again is written once' $?
"$log" send --cid e2e-1 "$id" something else 2>"$scratch/errors"
[[ $? == 1 ]] && grep -q conflict "$scratch/errors"
check 'the same cid with another text is refused' $?
printf 'two\nlines\n' | "$log" send --reply "$first" "$id" >"$scratch/sent"
check 'send from standard input' $?
last=$(<"$scratch/sent")
for _ in {1..50}; do
    [[ $(tail -n 1 "$scratch/tail" | jq -r .s 2>&1) == "$last" ]] && break
    sleep 0.1
done
[[ $(jq -r .s "$scratch/tail") == "$(seq 1 "$last")" ]]
check 'tail gave every record once, up to the last' $?
[[ $(tail -n 1 "$scratch/tail" | jq -r '.body.text') == $'two\nlines' ]]
check 'the text came as it was typed' $?
kill -INT "$tail_pid" 2>&1
wait "$tail_pid"
check 'Ctrl-C ends tail with 0' $?

# ---- what goes wrong ----------------------------------------
{ line 1 ann one null; echo '{"conv":"x"'; } >"$scratch/broken.jsonl"
"$log" import "$scratch/broken.jsonl" >"$scratch/errors" 2>&1
[[ $? == 1 ]] && grep -q 'line 2' "$scratch/errors"
check 'a broken line is named' $?
for name in mixed-a mixed-b mixed-a; do line 1 ann one null; done >"$scratch/mixed.jsonl"
"$log" import "$scratch/mixed.jsonl" >"$scratch/errors" 2>&1
[[ $? == 1 ]] && grep -q 'line 3: the lines of mixed-a are not together: sort the file' "$scratch/errors"
check 'mixed conversations are named' $?
head -c 5000 "$sample" >"$scratch/cut.zst"
"$log" import "$scratch/cut.zst" >"$scratch/errors" 2>&1
[[ $? == 1 ]]
check 'a cut file is an error' $?
"$log" read no-such-conversation 2>"$scratch/errors"
[[ $? == 1 ]] && grep -q not_found "$scratch/errors"
check 'an unknown conversation is not_found' $?
LOQUAT_URL=http://127.0.0.1:1 "$log" send x y 2>"$scratch/errors"
[[ $? == 1 ]]
check 'no server: fails at once' $?
"$log" send 2>"$scratch/errors"
[[ $? == 2 ]]
check 'wrong usage ends with 2' $?
"$log" import --help | grep -q 'chat archive'
check 'every subcommand has --help' $?

# ---- the whole collection ----------------------------------------
full=${LOQUAT_DATASET:-../shared/data}/chat-en.jsonl.zst
if [[ ${LOQUAT_FULL:-1} != 1 || ! -r $full ]]; then
    echo "skipped: the whole collection ($full is not there, or LOQUAT_FULL=0)"
else
    "$log" import "$full" >"$scratch/errors" 2>&1 &
    import_pid=$!
    sleep 2
    kill -KILL "$import_pid" 2>&1 # what was acknowledged is there; the rest comes now
    wait "$import_pid"
    import "$full" 'whole collection' -
    import "$full" 'whole collection again' 0
    zstd -dcq "$full" | kept | by_conv >"$scratch/want.full"
    export_equals "$scratch/want.full" 'whole collection'
fi

echo "$passed passed, $failed failed"
((failed == 0))
