#!/usr/bin/env bash
# The Go binding. Needs Go 1.23, a C compiler, and the library in target/release (make lib).
#
#   go.sh test     the tests of the binding, the programs and pieces of docs/go.md, the module as its users get it, and
#                  the examples, all with the race detector where it can be had
#   go.sh check    formatting, go vet for every way of linking
#   go.sh fmt      formats, and copies the header and the licences into the module
#
# P2PMOUNT_PREFIX  a prefix made by make install, for the way of linking by pkg-config; without it one is staged
set -euo pipefail
cd "$(dirname "$0")/.."
export P2PMOUNT_NETWORK=local GOTOOLCHAIN=local GOWORK=off

modules=(bindings/go examples/go)
copies=(include/p2pmount.h LICENSE-MIT LICENSE-APACHE)

release=$(mkdir -p "${CARGO_TARGET_DIR:-target}" && cd "${CARGO_TARGET_DIR:-target}" && pwd)/release
# The package itself knows only the usual place.
if [ -n "${CARGO_TARGET_DIR:-}" ]; then
    export CARGO_TARGET_DIR=${release%/release}
    export CGO_LDFLAGS="-L$release -Wl,-rpath,$release ${CGO_LDFLAGS:-}"
fi

missing() {
    echo "skipped: $1 is not installed"
    if [ "${CI:-}" = true ]; then exit 1; fi
    exit 0
}

# The binding does with Go 1.22; some of its tests use what came with 1.23.
need() {
    for tool in go gofmt "${CC:-cc}"; do
        command -v "$tool" >/dev/null || missing "$tool"
    done
    go version | awk '{ split(substr($3, 3), part, "."); exit !(part[1] > 1 || part[2] + 0 >= 23) }' || missing "Go 1.23 or newer"
}

need_library() {
    if [ ! -e "$release/libp2pmount.so.0" ] || [ ! -e "$release/libp2pmount.a" ]; then
        echo "$release/libp2pmount.so.0 or libp2pmount.a is not there: run make lib first" >&2
        exit 1
    fi
}

# Runs a command in each module.
each() {
    for module in "${modules[@]}"; do
        (cd "$module" && "$@") || exit 1
    done
}

check_format() {
    local bad
    bad=$(gofmt -l "${modules[@]}")
    if [ -n "$bad" ]; then
        echo "not formatted, scripts/go.sh fmt does it:" "$bad" >&2
        exit 1
    fi
}

# What go vet needs of an installed library: a pkg-config file and the header.
vet_pkgconfig() {
    local prefix=${P2PMOUNT_PREFIX:-}
    command -v pkg-config >/dev/null || missing pkg-config
    if [ -z "$prefix" ]; then
        prefix=${release%/release}/go/prefix
        mkdir -p "$prefix/include" "$prefix/lib/pkgconfig"
        cp include/p2pmount.h "$prefix/include/"
        sed -e "s|@PREFIX@|$prefix|g" -e "s|@LIBDIR@|$release|g" -e "s|@INCLUDEDIR@|$prefix/include|g" \
            -e 's|@VERSION@|0|g' -e 's|@STATIC_LIBS@||g' p2pmount.pc.in >"$prefix/lib/pkgconfig/p2pmount.pc"
    fi
    (
        cd bindings/go
        export PKG_CONFIG_PATH=$prefix/lib/pkgconfig
        # Without it go vet would look at less and say nothing of it.
        pkg-config --print-errors --exists p2pmount
        go vet -tags p2pmount_pkgconfig ./...
    )
}

# Whether a program can be built with the race detector, which not every machine has.
has_race() {
    printf 'package main\n\nfunc main() {}\n' >"$1/main.go"
    go build -race -o "$1/main" "$1/main.go" 2>/dev/null
}

case ${1:-} in
test)
    need
    need_library
    flags=(-count=1 -shuffle=on -timeout=150s)
    scratch=$(mktemp -d)
    trap 'rm -rf "$scratch"' EXIT
    if has_race "$scratch"; then
        flags+=(-race)
    else
        echo "skipped: the race detector is not there"
        if [ "${CI:-}" = true ]; then exit 1; fi
    fi
    each go test "${flags[@]}" ./...
    ;;
check)
    need
    need_library
    check_format
    # This also fails if go.mod or go.sum lacks something.
    each go vet -mod=readonly ./...
    (cd bindings/go && go vet -tags p2pmount_static ./...)
    vet_pkgconfig
    echo "go: all right"
    ;;
fmt)
    need
    gofmt -w "${modules[@]}"
    for file in "${copies[@]}"; do cp "$file" "bindings/go/${file##*/}"; done
    ;;
*)
    sed -n '2,9s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac
