#!/usr/bin/env bash
# The formatters and checkers for C and Python, in the versions of scripts/tools.txt.
#
#   tools.sh install           puts them below target/tools if they are not there yet
#   tools.sh run NAME ARG...   runs one; where it could not be installed, says so and succeeds, but fails if CI=true
set -eu
cd "$(dirname "$0")/.."
tools=${CARGO_TARGET_DIR:-target}/tools

install() {
    if cmp -s scripts/tools.txt "$tools/installed.txt"; then return; fi
    rm -rf "$tools"
    if ! python3 -m venv "$tools" >/dev/null 2>&1; then
        # Debian keeps venv in a package of its own.
        if [ "$(id -u)" = 0 ] && [ "${CI:-}" = true ] && command -v apt-get >/dev/null; then
            apt-get update -qq && apt-get install -y -qq python3-venv >/dev/null
        fi
        python3 -m venv "$tools" >/dev/null || return 1
    fi
    "$tools/bin/python" -m pip install --quiet --disable-pip-version-check -r scripts/tools.txt || return 1
    cp scripts/tools.txt "$tools/installed.txt"
}

case ${1:-} in
install)
    if ! install; then
        echo "the tools of scripts/tools.txt could not be installed" >&2
        if [ "${CI:-}" = true ]; then exit 1; fi
    fi
    ;;
run)
    name=$2
    shift 2
    if [ -x "$tools/bin/$name" ]; then
        exec "$tools/bin/$name" "$@"
    fi
    echo "skipped, not installed: $name" >&2
    if [ "${CI:-}" = true ]; then exit 1; fi
    ;;
*)
    sed -n '2,5s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac
