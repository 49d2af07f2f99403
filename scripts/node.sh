#!/usr/bin/env bash
# The Node.js package, its examples and its manual.
#
#   node.sh test     every test; needs the library: make lib
#   node.sh check    formatting, lints, types
#   node.sh fmt      formats
#   node.sh install  only what the examples need to run
#
# What they need is installed below bindings/node/node_modules, in the versions of package-lock.json.
set -eu
cd "$(dirname "$0")/.."

# Nothing that is run from here leaves the machine.
export P2PMOUNT_NETWORK=local
export npm_config_update_notifier=false npm_config_audit=false npm_config_fund=false

skip() {
    echo "skipped: $1 is not installed"
    if [ "${CI:-}" = true ]; then exit 1; fi
    exit 0
}

install() {
    command -v node >/dev/null || skip node
    command -v npm >/dev/null || skip npm
    if [ "$(node -p 'process.versions.node.split(".")[0] >= 20')" != true ]; then skip "Node.js 20 or later"; fi
    if ! cmp -s bindings/node/package-lock.json bindings/node/node_modules/.installed.json; then
        # koffi brings its native part along; no install script has to run.
        (cd bindings/node && npm ci --ignore-scripts --silent)
        cp bindings/node/package-lock.json bindings/node/node_modules/.installed.json
    fi
    mkdir -p examples/node/node_modules
    ln -sfn ../../../bindings/node examples/node/node_modules/p2pmount
}

# Runs biome over the examples, which lie outside of what it takes for the project: over a copy inside.
biome_examples() {
    copy=$(mktemp -d)
    trap 'rm -rf "$copy"' EXIT
    mkdir "$copy/src"
    cp biome.json "$copy"
    cp ../../examples/node/*.mjs "$copy/src"
    (biome=$PWD/node_modules/.bin/biome && cd "$copy" && "$biome" "$@" --colors=off .)
}

case ${1:-} in
install) install ;;
test)
    install
    # One library for all tests: one that was left in the package would be found before that of the build.
    P2PMOUNT_LIBRARY=$(realpath -ms "${P2PMOUNT_LIBRARY:-${CARGO_TARGET_DIR:-target}/release/libp2pmount.so}")
    export P2PMOUNT_LIBRARY
    if [ ! -e "$P2PMOUNT_LIBRARY" ]; then
        echo "there is no $P2PMOUNT_LIBRARY: build it with make lib" >&2
        exit 1
    fi
    cd bindings/node
    # Each test has a limit of its own; these are for one that blocks its process.
    timeout --kill-after=10 600 node --test --test-timeout=240000 --test-reporter=spec test/*.test.mjs
    ;;
check)
    install
    cd bindings/node
    npx --no-install biome ci --colors=off .
    biome_examples ci
    npx --no-install tsc
    npx --no-install tsc -p test/types
    echo "check of bindings/node: all right"
    ;;
fmt)
    install
    cd bindings/node
    npx --no-install biome check --write --colors=off .
    biome_examples check --write
    cp "$copy"/src/*.mjs ../../examples/node
    ;;
*)
    sed -n '2,9s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac
