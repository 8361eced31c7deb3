#!/bin/bash
# directories.sh: data directories that are not to be opened: a clear message, nothing touched.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/lib.sh

picture() { # DIR: names, sizes and contents; times of access and the lock do not count
    (cd "$1" && find . -type f ! -name LOCK ! -name 'LOG*' -exec sha256sum {} + | sort)
}
refuses() { # NAME DIR PATTERN [OPTION…]
    local name=$1 dir=$2 pattern=$3 before status
    shift 3
    before=$(picture "$dir")
    timeout 20 "$build/loquat-gateway" --embed "$dir" --listen 127.0.0.1:0 \
        --auth-secret-file "$scratch/secret" "$@" >"$scratch/out" 2>&1
    status=$?
    [[ $status -eq 1 || $status -eq 2 ]]
    check "$name: refused ($status)" $?
    grep -qE "$pattern" "$scratch/out"
    check "$name: says why" $? || true
    grep -qE "$pattern" "$scratch/out" || cat "$scratch/out"
    [[ $(picture "$dir") == "$before" ]]
    check "$name: nothing touched" $?
}

start_server "$scratch/d"
check "a new directory" $?
timeout 20 "$build/loquat-gateway" --embed "$scratch/d" --listen 127.0.0.1:0 \
    --auth-secret-file "$scratch/secret" >"$scratch/out" 2>&1
status=$?
[[ $status -eq 1 ]]
check "a second process on it: refused ($status)" $?
grep -q 'in use by another process' "$scratch/out"
check "a second process on it: says why" $?
stop_server
check "drained" $?

refuses "another partition count" "$scratch/d" 'partitions' --partitions 32
cp -r "$scratch/d" "$scratch/newer"
sed -i 's/^format .*/format 99/' "$scratch/newer/FORMAT"
refuses "a newer format" "$scratch/newer" 'format 99'
cp -r "$scratch/d" "$scratch/torn"
rm -r "$scratch/torn/journal"
refuses "a part is missing" "$scratch/torn" 'missing'
cp -r "$scratch/d" "$scratch/garbage"
echo nonsense >"$scratch/garbage/FORMAT"
refuses "a damaged FORMAT" "$scratch/garbage" 'damaged'
mkdir "$scratch/foreign"
echo mine >"$scratch/foreign/letter.txt"
refuses "somebody else's directory" "$scratch/foreign" 'not empty|no loquat data'
cp -r "$scratch/d" "$scratch/manifest"
for f in "$scratch"/manifest/data/MANIFEST-*; do
    printf 'XXXXXXXX' | dd of="$f" bs=1 seek=20 conv=notrunc status=none
done
refuses "a damaged MANIFEST" "$scratch/manifest" "can't be opened"

# Words that are wrong end with 2 and say so.
"$build/loquat-gateway" --no-such-thing >"$scratch/out" 2>&1
check "an unknown option ends with 2" $(($? == 2 ? 0 : 1))
"$build/loquat-gateway" --listen nonsense --embed "$scratch/x" --auth-secret-file "$scratch/secret" >"$scratch/out" 2>&1
check "a bad address ends with 2" $(($? == 2 ? 0 : 1))
printf 'listen: 127.0.0.1:0\nlissten: 1\n' >"$scratch/conf.yaml"
"$build/loquat-gateway" --config "$scratch/conf.yaml" >"$scratch/out" 2>&1
check "an unknown key in the file ends with 2" $(($? == 2 ? 0 : 1))
grep -q 'lissten' "$scratch/out" && grep -qE '2[:,]' "$scratch/out"
check "it is named with its line" $?
finish
