#!/bin/bash
# feed.sh: a backend job in the shell, with curl and jq: prints every record that a consumer has not had
# yet, one JSON a line, and moves the consumer's place behind what was printed.
#
#   LOQUAT_URL=http://127.0.0.1:8080 LOQUAT_TOKEN=… feed.sh CONSUMER
#
# The token has the scope jobs. Ends when all is read; again later, it goes on from there.
set -euo pipefail
: "${LOQUAT_URL:=http://127.0.0.1:8080}" "${LOQUAT_TOKEN:?a token of scope jobs}"
name=$(jq -rn --arg name "${1:?usage: feed.sh CONSUMER}" '$name | @uri')
page=$(mktemp)
trap 'rm -f "$page" "$page.head"' EXIT

ask() { # METHOD PATH CURL-ARGUMENT…
    curl -sS --fail-with-body -X "$1" -H "Authorization: Bearer $LOQUAT_TOKEN" "${@:3}" "$LOQUAT_URL$2"
}
header() { # NAME: of the page
    tr -d '\r' <"$page.head" | sed -n "s/^$1: //Ip"
}

# A consumer that is there stays as it is.
ask PUT "/v1/consumers/$name" -d '{}' | jq -r '.partitions[] | "\(.p) \(.offset)"' | while read -r p place; do
    while :; do
        ask GET "/v1/partitions/$p/feed?after=$place" -H 'Accept: application/x-ndjson' \
            -D "$page.head" -o "$page"
        jq -c --argjson p "$p" '{p: $p} + .' "$page"
        next=$(header Loquat-Next)
        ((next == place)) || ask PUT "/v1/consumers/$name/$p" -d "{\"offset\": $next}" -o /dev/null
        place=$next
        ((place < $(header Loquat-Head))) || break
    done
done
