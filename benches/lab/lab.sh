#!/usr/bin/env bash
# What a tunnel makes of a long path (lab.py): compiles what the laboratory needs and starts it in network namespaces of
# its own, which have no way out. They, and every process in them, end with it, however it ends. Root or not; needs the
# library (make lib), a C compiler, Python 3.9+, util-linux, iproute2, and for Kubo pip once. Arguments: see --help.
set -euo pipefail
cd "$(dirname "$0")/../.."
target=$(mkdir -p "${CARGO_TARGET_DIR:-target}" && cd "${CARGO_TARGET_DIR:-target}" && pwd)
build=$target/bench/lab
cc=${CC:-cc}

fail() {
    echo "lab-bench: $*" >&2
    exit 1
}

for pair in "$cc":gcc python3:python3 unshare:util-linux nsenter:util-linux mount:mount ip:iproute2; do
    command -v "${pair%:*}" >/dev/null || fail "${pair%:*} is not installed (package ${pair##*:})"
done
[ -c /dev/net/tun ] || fail "there is no /dev/net/tun (modprobe tun)"
[ -r /dev/net/tun ] && [ -w /dev/net/tun ] || fail "this user may not open /dev/net/tun: run it as root"
[ -e "$target/release/libp2pmount.so.0" ] || fail "$target/release/libp2pmount.so.0 is not there: run make lib first"

enter=(unshare --net --mount --pid --fork --kill-child --mount-proc)
if [ "$(id -u)" != 0 ]; then enter+=(--user --map-root-user); fi
"${enter[@]}" true || fail "no network namespace can be made: run it as root, or allow user namespaces (unshare -r)"

mkdir -p "$build/run"
flags=(-std=c99 -Wall -Wextra -O2)
"$cc" "${flags[@]}" benches/lab/path.c -o "$build/path"
"$cc" "${flags[@]}" -Iinclude examples/c/{tunnel,common,table}.c -o "$build/tunnel" \
    -pthread -L"$target/release" -lp2pmount -Wl,-rpath,"$target/release"

case " $* " in
*" --help "* | *" -h "*) only=none ;;
*" --only"*) only=$* ;;
*) only=kubo ;;
esac
kubo=
if [[ $only = *kubo* ]]; then kubo=$(scripts/kubo.sh) || echo "lab-bench: without Kubo" >&2; fi

unset "${!P2PMOUNT_@}"
exec "${enter[@]}" python3 benches/lab/lab.py --build "$build" --kubo "$kubo" "$@"
