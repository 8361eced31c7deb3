#!/bin/bash
# hooks.sh: webhooks, from real gateways to real HTTP servers: signed, in order, again until they are
# taken; through restarts, kills and changes of who sends; where they may not go, nothing arrives.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/lib.sh
export PYTHONDONTWRITEBYTECODE=1

make_secret "$scratch/secret"
make_secret "$scratch/cluster"
for name in right other; do
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 \
        -subj "/CN=$name" -addext subjectAltName=DNS:localhost -keyout "$scratch/$name.key" \
        -out "$scratch/$name.pem" 2>>"$scratch/openssl.log"
done
LOQUAT_TOKEN_ALICE=$(token alice)
LOQUAT_TOKEN_JOBS=$(token worker --scope jobs)
export LOQUAT_TOKEN_ALICE LOQUAT_TOKEN_JOBS
/usr/bin/python3 tests/e2e/hooks.py "$build" "$scratch"
