#!/bin/bash
# web.sh: npm `ws` by the protocol reference, the SDK under Node, the page in Chromium, against a
# running server; the scripts of the page against servers of their own, two at once beside the rest.
# From the caller: LOQUAT_URL, LOQUAT_TOKEN_* of alice, bob, carol, mallory, admin.
# Pictures of the page: $BUILD/tests/web-*.png. The last line is `N passed, N failed`.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
export BUILD=${BUILD:-build}
: "${LOQUAT_URL:?the server}" "${LOQUAT_TOKEN_ALICE:?}" "${LOQUAT_TOKEN_BOB:?}" \
    "${LOQUAT_TOKEN_CAROL:?}" "${LOQUAT_TOKEN_MALLORY:?}" "${LOQUAT_TOKEN_ADMIN:?}"
logs=$(mktemp -d) || exit 1
lanes=()
trap 'kill ${lanes[@]} 2>/dev/null; wait; rm -rf "$logs"' EXIT
passed=0
failed=0

run() { # NAME SCRIPT [ARG…]: of tests/e2e/web; its words and its status go into files
    local name=$1 script=$2
    shift 2
    timeout --kill-after=10 300 node "tests/e2e/web/$script.mjs" "$@" >"$logs/$name" 2>&1
    echo $? >"$logs/$name.status"
}

lane() { # one script of the page after another, in one Chromium, as long as nobody else took it
    local name said
    exec {said}< <(exec node tests/e2e/web/browser.mjs)
    browser=$!
    trap 'kill "$browser"' EXIT
    read -r LOQUAT_BROWSER <&"$said"
    export LOQUAT_BROWSER
    for name in "${pages[@]}"; do
        mkdir "$logs/$name.taken" 2>/dev/null || continue
        run "$name" with_server "$name"
    done
}

tell() { # NAME: shows what a script said, and adds the counts of its last line
    local line status
    status=$(<"$logs/$1.status")
    echo "-- $1"
    cat "$logs/$1"
    line=$(tail -n 1 "$logs/$1")
    if [[ $line =~ ^([0-9]+)\ passed,\ ([0-9]+)\ failed$ ]]; then
        passed=$((passed + BASH_REMATCH[1]))
        failed=$((failed + BASH_REMATCH[2]))
        ((BASH_REMATCH[2] > 0 || status == 0)) && return
    fi
    echo "FAIL  $1 ended with $status"
    failed=$((failed + 1))
}

scripts() { # PREFIX: every script of that name, the largest first: no long one begins last
    local name
    for name in $(cd tests/e2e/web && ls -S "$1"_*.mjs); do
        [[ $name == *_lib.mjs ]] || echo "${name%.mjs}"
    done
}

pages=()
if [[ ! -f gateway/web/dist/index.html ]]; then
    echo "FAIL  the page is not built: make web"
    failed=$((failed + 1))
elif [[ -x ${LOQUAT_CHROMIUM:-/usr/bin/chromium} ]]; then
    mapfile -t pages < <(scripts page)
    for _ in 1 2; do
        lane &
        lanes+=($!)
    done
else
    echo "skipped: the page (no Chromium)"
fi
mapfile -t sdk < <(scripts sdk)
for name in protocol "${sdk[@]}"; do
    run "$name" "$name"
    tell "$name"
done
wait "${lanes[@]}"
lanes=()
for name in "${pages[@]}"; do
    tell "$name"
done
echo "$passed passed, $failed failed"
((failed == 0))
