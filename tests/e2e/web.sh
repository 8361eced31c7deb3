#!/bin/bash
# web.sh: npm `ws` by the protocol reference, the SDK under Node, the page in Chromium, against a
# running server. From the caller: LOQUAT_URL, LOQUAT_TOKEN_* of alice, bob, carol, mallory, admin.
# Pictures of the page: $BUILD/tests/web-*.png. The last line is `N passed, N failed`.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
export BUILD=${BUILD:-build}
: "${LOQUAT_URL:?the server}" "${LOQUAT_TOKEN_ALICE:?}" "${LOQUAT_TOKEN_BOB:?}" \
    "${LOQUAT_TOKEN_CAROL:?}" "${LOQUAT_TOKEN_MALLORY:?}" "${LOQUAT_TOKEN_ADMIN:?}"
log=$(mktemp) || exit 1
trap 'rm -f "$log"' EXIT
passed=0
failed=0

part() { # NAME: a script of tests/e2e/web; adds the counts of its last line
    local line status
    echo "-- $1"
    timeout --kill-after=10 300 node "tests/e2e/web/$1.mjs" >"$log" 2>&1
    status=$?
    cat "$log"
    line=$(tail -n 1 "$log")
    if [[ $line =~ ^([0-9]+)\ passed,\ ([0-9]+)\ failed$ ]]; then
        passed=$((passed + BASH_REMATCH[1]))
        failed=$((failed + BASH_REMATCH[2]))
        ((BASH_REMATCH[2] > 0 || status == 0)) && return
    fi
    echo "FAIL  $1 ended with $status"
    failed=$((failed + 1))
}

parts() { # PREFIX: every script of that name
    local script name
    for script in tests/e2e/web/"$1"_*.mjs; do
        name=${script##*/}
        [[ $name == *_lib.mjs ]] || part "${name%.mjs}"
    done
}

part protocol
parts sdk
if [[ ! -f gateway/web/dist/index.html ]]; then
    echo "FAIL  the page is not built: make web"
    failed=$((failed + 1))
elif [[ -x ${LOQUAT_CHROMIUM:-/usr/bin/chromium} ]]; then
    parts page
else
    echo "skipped: the page (no Chromium)"
fi
echo "$passed passed, $failed failed"
((failed == 0))
