#!/usr/bin/env bash
# A listener in each language, a forward in each other (tests/languages.py). Needs the library (make lib), and for each
# language its compiler or interpreter; one that is missing is left out and named, but is a failure if CI=true.
set -euo pipefail
cd "$(dirname "$0")/.."
export P2PMOUNT_NETWORK=local GOTOOLCHAIN=local GOWORK=off
target=$(mkdir -p "${CARGO_TARGET_DIR:-target}" && cd "${CARGO_TARGET_DIR:-target}" && pwd)
release=$target/release
build=$target/languages
link=(-pthread -L"$release" -lp2pmount -Wl,-rpath,"$release")
commands=()
mkdir -p "$build"
if [ ! -e "$release/libp2pmount.so.0" ]; then
    echo "$release/libp2pmount.so.0 is not there: run make lib first" >&2
    exit 1
fi

# The one that is tested, for those that look for it at run time.
export P2PMOUNT_LIBRARY=$release/libp2pmount.so

quoted() { printf '%q' "$1"; }

# Whether the language $1 can be used here, which it can if $2 is installed.
has() {
    command -v "$2" >/dev/null && return
    echo "skipped: $1, $2 is not installed"
    if [ "${CI:-}" = true ]; then exit 1; fi
    return 1
}

if has c "${CC:-cc}"; then
    "${CC:-cc}" -O2 -Iinclude examples/c/{tunnel,common,table}.c -o "$build/c" "${link[@]}"
    commands+=("c=$(quoted "$build/c")")
fi
if has cpp "${CXX:-c++}"; then
    "${CXX:-c++}" -std=c++17 -O1 -Iinclude -Ibindings/cpp/include examples/cpp/tunnel.cc -o "$build/cpp" "${link[@]}"
    commands+=("cpp=$(quoted "$build/cpp")")
fi
if has python python3; then
    commands+=("python=env PYTHONPATH=bindings/python/src python3 examples/python/tunnel.py")
fi
if has go go; then
    (cd examples/go && CGO_LDFLAGS="-L$release -Wl,-rpath,$release ${CGO_LDFLAGS:-}" go build -o "$build/go" ./tunnel)
    commands+=("go=$(quoted "$build/go")")
fi
if has node node; then
    scripts/node.sh install
    commands+=("node=node examples/node/tunnel.mjs")
fi
python3 tests/languages.py "${commands[@]}"
