#!/usr/bin/env bash
# The Python package (bindings/python) and its examples.
#
#   python.sh test [ARGUMENT...]   builds and installs the wheel below target/python and tests that; arguments are pytest's
#   python.sh check                formatting, lints, types
#   python.sh fmt                  formats
#
# The library has to be there: make lib. PYTHON is the interpreter, python3 if it is not set. What hangs is ended after
# 10 minutes.
set -eu
cd "$(dirname "$0")/.."
if [ -z "${PYTHON_SH_LIMITED:-}" ]; then
    export PYTHON_SH_LIMITED=yes
    limit=(timeout --kill-after=10)
    # At a terminal Ctrl+C has to come through; elsewhere what the script has started ends with it.
    if [ -t 0 ]; then limit+=(--foreground); fi
    exec "${limit[@]}" 600 bash scripts/python.sh "$@"
fi
export P2PMOUNT_NETWORK=local
unset P2PMOUNT_LIBRARY PYTHONPATH
target=${CARGO_TARGET_DIR:-target}
package=bindings/python
examples=(examples/p2p_example.py examples/p2p_socket_example.py examples/python/*.py)

skip() {
    echo "skipped: $1 is not installed" >&2
    if [ "${CI:-}" = true ]; then exit 1; fi
    exit 0
}

# An environment in $2 for the interpreter $1, with what the tests need.
environment() {
    local wanted
    wanted=$("$1" -V && cat $package/requirements-test.txt)
    if [ -x "$2/bin/python" ] && [ "$wanted" = "$(cat "$2/installed.txt" 2>/dev/null)" ]; then return; fi
    rm -rf "$2"
    if ! "$1" -m venv "$2" >/dev/null 2>&1; then
        # Debian keeps venv in a package of its own.
        if [ "$(id -u)" = 0 ] && [ "${CI:-}" = true ] && command -v apt-get >/dev/null; then
            apt-get update -qq && apt-get install -y -qq python3-venv >/dev/null
        fi
        "$1" -m venv "$2" >/dev/null || skip "venv of $1"
    fi
    "$2/bin/python" -m pip install --quiet --disable-pip-version-check -r $package/requirements-test.txt
    echo "$wanted" >"$2/installed.txt"
}

interpreter() {
    python=${PYTHON:-python3}
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 9))' 2>/dev/null || skip "Python 3.9 or later"
}

# The oldest Python from 3.9 on that is older than $python, in $oldest; empty if there is none.
find_oldest() {
    local minor candidate
    for minor in 9 10 11 12; do
        for candidate in "python3.$minor" "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3."$minor".*/bin/python; do
            oldest=$candidate
            if ! "$candidate" -c '' 2>/dev/null; then continue; fi
            if [ "$("$python" -c 'import sys; print(sys.version_info[1])')" -gt "$minor" ]; then return; fi
        done
    done
    oldest=
}

# Installs the wheel into the environment $1.
install() {
    "$1/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --no-index --force-reinstall "$wheel"
}

# Runs pytest in the environment $1.
run() {
    local environment=$1
    shift
    P2PMOUNT_TEST_WHEEL=$PWD/$wheel "$environment/bin/python" -X dev -m pytest -c $package/pyproject.toml "$@"
}

test_package() {
    local library=$target/release/libp2pmount.so
    if [ ! -f "$library" ]; then
        echo "$library is not there; build it first: make lib" >&2
        exit 1
    fi
    library=$(realpath "$library")
    interpreter
    environment "$python" "$target/python/venv"
    rm -rf "$target/python/dist"
    P2PMOUNT_LIBRARY=$library "$target/python/venv/bin/python" -m pip wheel --quiet --disable-pip-version-check \
        --no-deps --no-index --no-build-isolation --wheel-dir "$target/python/dist" ./$package
    wheel=$(echo "$target"/python/dist/*.whl)
    install "$target/python/venv"
    if [ $# -gt 0 ]; then
        run "$target/python/venv" "$@"
        return
    fi
    echo "== $("$target/python/venv/bin/python" -V), the whole suite"
    run "$target/python/venv"
    find_oldest
    if [ -z "$oldest" ]; then
        echo "== no Python from 3.9 on that is older than this one was found"
        return
    fi
    echo "== $("$oldest" -V), what the package does and the classes of kubo_python"
    environment "$oldest" "$target/python/venv-oldest"
    install "$target/python/venv-oldest"
    run "$target/python/venv-oldest" $package/tests/test_{node,data,events,asyncio,signals,seed,kubo}.py
}

check() {
    scripts/tools.sh install
    interpreter
    environment "$python" "$target/python/venv"
    local files=($package "${examples[@]}")
    scripts/tools.sh run ruff check "${files[@]}"
    scripts/tools.sh run ruff format --check "${files[@]}"
    types $package/src
    types $package/hatch_build.py
    types $package/tests
    types "${examples[@]}"
}

types() {
    MYPYPATH=$package/src:examples/python scripts/tools.sh run mypy --strict --python-executable "$target/python/venv/bin/python" \
        --cache-dir "$target/tools/mypy" "$@"
}

case ${1:-} in
test)
    shift
    test_package "$@"
    ;;
check)
    check
    ;;
fmt)
    scripts/tools.sh install
    scripts/tools.sh run ruff check --fix-only --quiet $package "${examples[@]}"
    scripts/tools.sh run ruff format --quiet $package "${examples[@]}"
    ;;
*)
    sed -n '2,9s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac
