#!/bin/bash
# tests/e2e/package.sh: `make install` and `make deb` of what is built under $BUILD, and whether what they
# install works: programs, page, C library, unit, package. Nothing is left behind, nothing is installed
# into the machine. Ends with `N passed, N failed`.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/lib.sh
built=$build
unset MAKEFLAGS MFLAGS MAKELEVEL LOQUAT_TOKEN

if [[ $(nm "$built/libbase.a" 2>/dev/null) == *__asan_init* ]]; then
    echo "skipped: $built is built with sanitizers, which nobody installs"
    finish
fi

run() { # NAME COMMAND…: its output is shown when it fails
    local name=$1
    shift
    "$@" >"$scratch/run.log" 2>&1
    local status=$?
    ((status == 0)) || sed 's/^/    /' "$scratch/run.log" | tail -n 30
    check "$name" $status
}

example_files='alerts.yml count.c feed.py feed.sh grafana-dashboard.json haproxy.cfg loquat-node.yaml loquat.yaml tail.c'

same() { # NAME EXPECTED ACTUAL
    [[ $2 == "$3" ]]
    local status=$?
    ((status == 0)) || printf '    expected: %s\n    got:      %s\n' "$2" "$3"
    check "$1" $status
}

programs() { # BIN
    local program version
    version=$(sed -n 's/^VERSION := //p' Makefile)
    for program in loquat-gateway loquat-node loquat-log loquat-compact; do
        same "$program --version" "$program $version" "$("$1/$program" --version 2>&1)"
        [[ $("$1/$program" --help 2>&1) == Usage:\ * ]]
        check "$program --help" $?
    done
}

status_of() { # URL
    curl -s -o "$scratch/body" -w '%{http_code}' "$1"
}

serves() { # BIN NAME: a server of it answers, with the page that was installed beside it
    build=$1
    start_server "$scratch/$2-data"
    check "$2: the server says ready" $?
    same "$2: /healthz" 200 "$(status_of "$url/healthz")"
    if [[ -f gateway/web/dist/index.html ]]; then
        same "$2: /" 200 "$(status_of "$url/")"
        cmp -s "$scratch/body" "$1/../share/loquat/web/index.html"
        check "$2: / is the installed page" $?
    else
        echo "skipped: the page (it is not built)"
    fi
}

c_program() { # NAME SOURCE [STD]: $scratch/NAME, built with what pkg-config says; uv.h needs gnu17
    # shellcheck disable=SC2046
    gcc "-std=${3:-gnu17}" -Wall -Wextra -Werror -o "$scratch/$1" "$2" $(pkg-config --cflags --libs loquat)
}

# Each reads what there is, then what has come since; needs a server with a conversation of alice.
examples() { # FOLDER
    local alice jobs conv name lines
    alice=$(token alice) jobs=$(token jobs --scope jobs)
    conv=$(curl -s -H "Authorization: Bearer $alice" "$url/v1/conversations" | jq -r '.convs[0].c')
    run "the example count.c is built" c_program count "$1/count.c"
    run "the example tail.c is built" c_program tail "$1/tail.c" c17
    local -A job=([count]="$scratch/count" [feed.py]="$1/feed.py python" [feed.sh]="$1/feed.sh shell")
    export LOQUAT_TOKEN=$jobs
    lines=$(loquat feed --json | wc -l)
    for name in count feed.py feed.sh; do
        read -ra command <<<"${job[$name]}"
        run "the example $name ends" timeout 60 "${command[@]}"
        mv "$scratch/run.log" "$scratch/$name.first"
    done
    same "count has every message" "$(loquat feed --json | grep -c '"kind":"text"')" \
        "$(awk '{ n += $2 } END { print n }' "$scratch/count.first")"
    same "feed.py has every record" "$lines" "$(wc -l <"$scratch/feed.py.first")"
    loquat feed --json | cmp - "$scratch/feed.sh.first"
    check "feed.sh prints what loquat-log feed does" $?
    LOQUAT_TOKEN=$alice loquat send "$conv" 'for the examples' >/dev/null
    same "count goes on where it was" "$conv 1" "$(timeout 60 "$scratch/count")"
    same "so does feed.py" "$conv text {\"text\": \"for the examples\"}" \
        "$(timeout 60 "$1/feed.py" python | cut -d' ' -f2-)"
    same "and feed.sh" "$(loquat feed --json | grep 'for the examples')" "$(timeout 60 "$1/feed.sh" shell)"
    follows INT 0 "$scratch/count"
    same "count has left" 0 "$(loquat consumer show --json count | jq '.workers | length')"
    follows TERM 143 "$1/feed.py" python
    for name in "$1/feed.py python" "$1/feed.sh shell"; do
        read -ra command <<<"$name"
        ! LOQUAT_TOKEN=$alice timeout 60 "${command[@]}" >"$scratch/run.log" 2>&1
        check "${command[0]##*/} fails where it may not read" $?
    done
    export LOQUAT_TOKEN=$alice
    same "tail prints the conversation" "$(loquat read --view log --json "$conv" |
        jq -r '"\(.s) \(.from) \(.kind) \(.body | tojson)"')" \
        "$(timeout 60 "$scratch/tail" "$conv" "$(loquat read --view log --json "$conv" | wc -l)")"
    unset LOQUAT_TOKEN
}
loquat() { "$prefix/bin/loquat-log" "$@"; }

follows() { # SIGNAL STATUS COMMAND…: it has what comes while it waits, and ends so
    local pid conv
    conv=$(loquat feed --json --max 1 | jq -r .record.c)
    "${@:3}" --follow >"$scratch/follows" 2>"$scratch/run.log" &
    pid=$!
    LOQUAT_TOKEN=$(token alice) loquat send "$conv" 'and then' >/dev/null
    says "$scratch/follows" "$conv"
    check "${3##*/} --follow has what comes" $?
    kill "-$1" "$pid"
    wait "$pid" 2>/dev/null
    same "${3##*/}: SIG$1" "$2" $?
}

library() { # needs a server
    local prefix=$1 declared global
    export PKG_CONFIG_PATH=$prefix/lib/pkgconfig
    declared=$(grep -oE '\bloquat_[a-z_]+\(' "$prefix/include/loquat.h" | tr -d '(' | sort -u)
    global=$(nm --defined-only -g "$prefix/lib/libloquat.a" | awk 'NF == 3 { print $3 }' | sort -u)
    same "libloquat.a has the header's names and no other" "$declared" "$global"
    run "a C program is built with what pkg-config says" c_program client tests/e2e/package_client.c c17
    same "it sends and reads" 'alice {"text":"hello"}' \
        "$(LOQUAT_TOKEN=$(token alice) "$scratch/client" 2>&1)"
    run "a program that reads in every way is built" c_program package_reads tests/e2e/package_reads.c
    run "it reads, blocking and on a loop" env LOQUAT_TOKEN="$(token alice)" \
        LOQUAT_TOKEN_JOBS="$(token jobs --scope jobs)" timeout 120 "$scratch/package_reads"
    run "the header is C++, too" g++ -std=c++17 -Wall -Werror -fsyntax-only -x c++ \
        "$prefix/include/loquat.h"
}

beside() { # PREFIX: what stands beside the programs
    local manual
    run "the example settings are valid" "$1/bin/loquat-gateway" \
        --config "$1/share/doc/loquat/examples/loquat.yaml" --config-show
    run "those of a node, too" "$1/bin/loquat-node" \
        --config "$1/share/doc/loquat/examples/loquat-node.yaml" --config-show
    same "the examples" "$example_files" \
        "$(cd "$1/share/doc/loquat/examples" && echo *)"
    grep -q 'Apache License' "$1/share/doc/loquat/LICENSE" &&
        grep -q 'Fedor Indutny' "$1/share/doc/loquat/NOTICES"
    check "licence and notices" $?
    if command -v scdoc >/dev/null; then
        for manual in docs/man/*.scd; do
            manual=$(basename "$manual" .scd)
            grep -q '^\.SH NAME' "$1/share/man/man1/$manual"
            check "manual $manual" $?
        done
    else
        echo "skipped: manuals (no scdoc)"
    fi
    if command -v systemd-analyze >/dev/null; then
        run "the units are well-formed" systemd-analyze verify --man=no \
            "$1"/lib/systemd/system/loquat-{node,gateway}.service
        same "and nothing is said about them" '' "$(cat "$scratch/run.log")"
    else
        echo "skipped: the unit (no systemd-analyze)"
    fi
}

# A package is installed into a root of its own, with its scripts.
scripts() { # DEB
    local root=$scratch/root dpkg secret
    dpkg=(dpkg "--root=$root" --log=/dev/null --force-script-chrootless --force-depends)
    if [[ $(id -u) -ne 0 ]] || ! command -v systemd-sysusers >/dev/null; then
        echo "skipped: the package's scripts (not root, or no systemd-sysusers)"
        return
    fi
    mkdir -p "$root"/{etc,var/lib/dpkg/{info,updates,triggers}}
    touch "$root/var/lib/dpkg/status"
    run "dpkg -i into a root of its own" "${dpkg[@]}" -i "$1"
    same "the user" 1 "$(grep -c '^loquat:.*:/var/lib/loquat:.*nologin$' "$root/etc/passwd")"
    same "the secret is for that user alone" \
        "600 $(sed -n 's/^loquat:[^:]*:\([0-9]*:[0-9]*\):.*/\1/p' "$root/etc/passwd")" \
        "$(stat -c '%a %u:%g' "$root/etc/loquat/secret")"
    secret=$(<"$root/etc/loquat/secret")
    same "the secret has 32 bytes in hex" 64 ${#secret}
    same "so has that of a node and its gateways" 64 "$(tr -d '\n' <"$root/etc/loquat/cluster-secret" | wc -c)"
    same "the data directory" 700 "$(stat -c %a "$root/var/lib/loquat")"
    echo 'listen: 127.0.0.1:9' >"$root/etc/loquat/loquat.yaml"
    touch "$root/var/lib/loquat/messages"
    run "dpkg -i again" "${dpkg[@]}" --force-confold -i "$1"
    same "the secret stays" "$secret" "$(cat "$root/etc/loquat/secret")"
    same "changed settings stay" 'listen: 127.0.0.1:9' "$(cat "$root/etc/loquat/loquat.yaml")"
    run "dpkg -P" "${dpkg[@]}" -P loquat
    [[ ! -e $root/etc/loquat ]]
    check "purging takes settings and secret" $?
    [[ -e $root/var/lib/loquat/messages ]]
    check "and leaves the conversations" $?
}

package() {
    local deb tree=$scratch/tree said
    run "make deb" make --no-print-directory -o web BUILD="$built" deb
    deb=$(realpath "$(tail -n 1 "$scratch/run.log")" 2>/dev/null)
    [[ $deb == *.deb && -f $deb ]] || return
    said=$(dpkg-deb -f "$deb" Package Version Architecture Depends 2>&1)
    grep -q 'libraft0 (>= 0.22' <<<"$said" && grep -q 'librocksdb' <<<"$said"
    check "it depends on what the programs are linked with" $?
    same "conffiles" $'/etc/loquat/loquat.yaml\n/etc/loquat/loquat-node.yaml' "$(dpkg-deb --ctrl-tarfile "$deb" | tar -xO ./conffiles)"
    run "dpkg-deb -x" dpkg-deb -x "$deb" "$tree"
    programs "$tree/usr/bin"
    serves "$tree/usr/bin" package
    stop_server
    check "package: SIGTERM ends it with 0" $?
    (cd "$tree" && dpkg-deb --ctrl-tarfile "$deb" | tar -xO ./md5sums | md5sum --quiet -c -)
    check "the sums of its files" $?
    same "the examples of the package" "$example_files" \
        "$(cd "$tree/usr/share/doc/loquat/examples" && echo *)"
    if [[ $(id -u) -eq 0 ]]; then
        run "dpkg --dry-run -i" dpkg --dry-run --log=/dev/null -i "$deb"
    fi
    if command -v lintian >/dev/null; then
        run "lintian has no errors" lintian --allow-root --fail-on error "$deb"
        grep -E '^[EW]:' "$scratch/run.log" | sed 's/^/    /'
    else
        echo "skipped: lintian is not here"
    fi
    scripts "$deb"
}

# The page needs tools that a machine may not have, or only old ones: that ends nothing.
without_node() {
    local said
    mkdir "$scratch/plain" "$scratch/old"
    ln -s /usr/bin/* "$scratch/plain/"
    rm -f "$scratch"/plain/{node,nodejs,npm,npx}
    said=$(PATH=$scratch/plain make --no-print-directory BUILD="$built" web 2>&1)
    same "make web without node: status" 0 $?
    [[ $said == 'web: no npm with node '* ]]
    check "make web without node says so" $?
    printf '#!/bin/sh\nexit 1\n' >"$scratch/old/node"
    printf '#!/bin/sh\ntouch %q\nexit 1\n' "$scratch/npm-was-called" >"$scratch/old/npm"
    chmod +x "$scratch"/old/*
    said=$(PATH=$scratch/old:$scratch/plain make --no-print-directory BUILD="$built" web 2>&1)
    same "make web with an old node: status" 0 $?
    [[ $said == 'web: no npm with node '* && ! -e $scratch/npm-was-called ]]
    check "make web with an old node says so" $?
    printf '#!/bin/sh\nexit 0\n' >"$scratch/old/node"
    PATH=$scratch/old:$scratch/plain make --no-print-directory BUILD="$built" -B web >/dev/null 2>&1
    [[ -e $scratch/npm-was-called ]]
    check "make web with a node that fits builds" $?
}

without_node
prefix=$scratch/prefix
run "make install" make --no-print-directory BUILD="$built" PREFIX="$prefix" install
[[ -x $prefix/bin/loquat-gateway ]] || finish
programs "$prefix/bin"
beside "$prefix"
serves "$prefix/bin" prefix
library "$prefix"
examples "$prefix/share/doc/loquat/examples"
stop_server
check "prefix: SIGTERM ends it with 0" $?
if command -v dpkg-shlibdeps >/dev/null; then
    package
else
    echo "skipped: the package (no dpkg-dev)"
fi
finish
