#!/usr/bin/env bash
# The data matrix against a real Kubo (tests/interop). Needs the library (make lib), and Kubo (scripts/kubo.sh). Where that
# cannot be had this is skipped, but is a failure if CI=true. What hangs is ended after 10 minutes.
set -euo pipefail
cd "$(dirname "$0")/.."
export P2PMOUNT_NETWORK=local
target=${CARGO_TARGET_DIR:-target}

library=$target/release/libp2pmount.so
if [ ! -e "$library" ]; then
    echo "$library is not there: run make lib first" >&2
    exit 1
fi
if ! kubo=$(scripts/kubo.sh 2>&1); then
    echo "skipped: $kubo"
    if [ "${CI:-}" = true ]; then exit 1; fi
    exit 0
fi

mkdir -p "$target/interop"
export P2PMOUNT_LIBRARY=$library PYTHONPATH=bindings/python/src
exec timeout --kill-after=10 600 python3 tests/interop/data.py "$kubo" "$target/interop"
