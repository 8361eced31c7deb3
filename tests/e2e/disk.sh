#!/bin/bash
# disk.sh: a server on a small file system that fills up: writes are refused with `unavailable`,
# reading goes on, and writes are taken again when there is room. A sync that fails ends the process
# with a message. Needs root for the file system; says so when it can't be mounted.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/lib.sh
small=$scratch/small
trap 'stop_server >/dev/null 2>&1; umount "$small" 2>/dev/null; rm -rf "$scratch"' EXIT

post() { # CID: prints the status, the answer is in $scratch/body
    curl -sS -m 10 -o "$scratch/body" -w '%{http_code}' -H "Authorization: Bearer $token" \
        -d "{\"cid\":\"$1\",\"kind\":\"text\",\"body\":{\"text\":\"$1\"}}" "$url/v1/conversations/$c/messages"
}
wait_for() { # STATUS CID-PREFIX: posts until it is answered so
    local i
    for ((i = 0; i < 100; i++)); do
        [[ $(post "$2$i") == "$1" ]] && return 0
        sleep 0.1
    done
    return 1
}

mkdir "$small"
if mount -t tmpfs -o size=256m tmpfs "$small" 2>/dev/null; then
    start_server "$small/data" --disk-reserve 64
    check "a server on a small file system" $?
    token=$(token alice)
    c=$(curl -sS -H "Authorization: Bearer $token" -d '{"kind":"group","name":"disk","cid":"d"}' \
        "$url/v1/conversations" | jq -r .c)
    [[ $(post before) == 200 ]]
    check "there is room: written" $?
    dd if=/dev/zero of="$small/filler" bs=1M status=none 2>/dev/null
    wait_for 503 full
    check "full: refused" $?
    [[ $(jq -r '"\(.err.code) \(.err.retry)"' "$scratch/body") == "unavailable true" ]]
    check "full: unavailable, and worth trying again" $?
    grep -q 'disk is full' "$small/data.log"
    check "full: the log says so" $?
    curl -sS -m 10 -H "Authorization: Bearer $token" "$url/v1/conversations/$c/records?view=folded" |
        jq -e '[.records[].body.text] | index("before")' >/dev/null
    check "full: reading goes on" $?
    [[ $(curl -sS -o /dev/null -w '%{http_code}' "$url/readyz") == 200 ]]
    check "full: still ready" $?
    rm "$small/filler"
    wait_for 200 after
    check "room again: written" $?
    stop_server
    check "drained" $?
    umount "$small"
else
    echo "skipped: a full disk (no tmpfs can be mounted here)"
fi

# fsync and its kin fail once the file FAIL is there.
cat >"$scratch/shim.c" <<'C'
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>
static int broken(void)
{
    return access(getenv("FAIL"), F_OK) == 0;
}
#define SYNC(name)                                                                                 \
    int name(int fd)                                                                               \
    {                                                                                              \
        int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, #name);                                  \
        if (broken()) {                                                                            \
            errno = EIO;                                                                           \
            return -1;                                                                             \
        }                                                                                          \
        return real(fd);                                                                           \
    }
SYNC(fsync)
SYNC(fdatasync)
C
if [[ $build != *asan* && $build != *tsan* ]] && gcc -shared -fPIC -o "$scratch/shim.so" "$scratch/shim.c" -ldl; then
    export FAIL=$scratch/FAIL
    LD_PRELOAD=$scratch/shim.so start_server "$scratch/sync"
    check "a server whose disk can be made to fail" $?
    token=$(token alice)
    c=$(curl -sS -H "Authorization: Bearer $token" -d '{"kind":"group","name":"sync","cid":"d"}' \
        "$url/v1/conversations" | jq -r .c)
    [[ $(post before) == 200 ]]
    check "the disk works: written" $?
    touch "$FAIL"
    [[ $(post lost 2>/dev/null) != 200 ]]
    check "a failed sync is not acknowledged" $?
    wait "$server_pid"
    status=$?
    server_pid=
    [[ $status -ne 0 ]]
    check "a failed sync ends the process ($status)" $?
    grep -qiE 'sync|could not be written' "$scratch/sync.log"
    check "the log says why: $(tail -n 1 "$scratch/sync.log" | cut -c 1-160)" $?
    rm "$FAIL"
    start_server "$scratch/sync"
    check "with a good disk it comes back" $?
    [[ $(post before) == 200 && $(jq -r .dup "$scratch/body") == true ]]
    check "what was acknowledged is there" $?
    stop_server
    check "drained" $?
fi
finish
