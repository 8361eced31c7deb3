#!/bin/bash
# jobs.sh: backend jobs of a cluster of three nodes and two gateways: feeds, and a consumer whose three
# workers share the partitions, while nodes and a gateway are killed, and workers come, go and die.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/lib.sh
export PYTHONDONTWRITEBYTECODE=1

make_secret "$scratch/secret"
make_secret "$scratch/cluster"
LOQUAT_TOKEN_ALICE=$(token alice)
LOQUAT_TOKEN_JOBS=$(token worker --scope jobs)
export LOQUAT_TOKEN_ALICE LOQUAT_TOKEN_JOBS
/usr/bin/python3 tests/e2e/jobs.py "$build" "$scratch"
