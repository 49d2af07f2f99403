#!/usr/bin/env bash
# The Go binding. Needs Go 1.23, a C compiler, and the library in target/release (make lib).
#
#   go.sh test     the tests of the binding, the programs and pieces of docs/go.md, the module as its users get it, and
#                  the examples, all with the race detector where it can be had
#   go.sh check    formatting, go vet for every way of linking, the copies of header and licences
#   go.sh fmt      formats, and copies the header and the licences into the module
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

check_copies() {
    for file in "${copies[@]}"; do
        if ! cmp -s "$file" "bindings/go/${file##*/}"; then
            echo "bindings/go/${file##*/} is not the same as $file, scripts/go.sh fmt copies it" >&2
            exit 1
        fi
    done
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
    check_copies
    # This also fails if go.mod or go.sum lacks something.
    each go vet -mod=readonly ./...
    (cd bindings/go && go vet -tags p2pmount_static ./...)
    echo "go: all right"
    ;;
fmt)
    need
    gofmt -w "${modules[@]}"
    for file in "${copies[@]}"; do cp "$file" "bindings/go/${file##*/}"; done
    ;;
*)
    sed -n '2,7s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac
