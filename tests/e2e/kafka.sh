#!/bin/bash
# kafka.sh: clients of Kafka that nobody here wrote, kcat (librdkafka) and npm kafkajs, read all records
# of a cluster of three nodes, alone and in groups, while a leader is killed, members come, go and die,
# and a gateway hangs; and who is refused.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/lib.sh
export PYTHONDONTWRITEBYTECODE=1

make_secret "$scratch/secret"
make_secret "$scratch/cluster"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 \
    -subj "/CN=kafka" -addext subjectAltName=DNS:localhost -keyout "$scratch/tls.key" \
    -out "$scratch/tls.pem" 2>>"$scratch/openssl.log"
chmod 600 "$scratch/tls.key"
LOQUAT_TOKEN_ALICE=$(token alice)
LOQUAT_TOKEN_JOBS=$(token worker --scope jobs)
LOQUAT_TOKEN_SEND=$(token alice --scope send:g-aaaaaaaaaaaaaaaaaaaaaaaaaa)
export LOQUAT_TOKEN_ALICE LOQUAT_TOKEN_JOBS LOQUAT_TOKEN_SEND
/usr/bin/python3 tests/e2e/kafka.py "$build" "$scratch"
