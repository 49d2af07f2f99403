#!/usr/bin/env bash
# Against a real Kubo, an old and a current one (tests/interop). Needs the library (make lib) and scripts/kubo.sh.
#
#   interop.sh [PART...]   all parts, or some of: matrix semantics limits keys compare data
#   interop.sh test        all of them if CI=true, and otherwise says why not
#
# A Kubo that cannot be had is left out with the reason, which is a failure if CI=true. What hangs is ended, and the part
# that hung is named.
set -euo pipefail
cd "$(dirname "$0")/.."
export P2PMOUNT_NETWORK=local
target=${CARGO_TARGET_DIR:-target}
parts=(matrix semantics limits keys compare data)

case ${1:-} in
test)
    if [ "${CI:-}" != true ]; then
        echo "skipped: against a real Kubo; it takes minutes, and pip and go fetch a Kubo: make interop, or CI=true make test"
        exit 0
    fi
    ;;
"") ;;
*)
    for part; do
        [[ " ${parts[*]} " = *" $part "* ]] || { sed -n '4,5s/^# \{0,1\}//p' "$0" >&2; exit 2; }
    done
    parts=("$@")
    ;;
esac

library=$target/release/libp2pmount.so
if [ ! -e "$library" ]; then
    echo "$library is not there: run make lib first" >&2
    exit 1
fi
mkdir -p "$target/interop"
export P2PMOUNT_LIBRARY=$library PYTHONPATH=bindings/python/src

kubos=()
current=
for which in 0.22 current; do
    if said=$(scripts/kubo.sh $which 2>"$target/interop/kubo.txt"); then
        kubos+=("$said")
        if [ $which = current ]; then current=$said; fi
    else
        echo "skipped: Kubo $which: $(tail -n 1 "$target/interop/kubo.txt")"
        if [ "${CI:-}" = true ]; then exit 1; fi
    fi
done
if [ ${#kubos[@]} = 0 ]; then exit 0; fi

failed=()
# Runs a part for at most $1 seconds. Python says where it hung.
run() {
    local seconds=$1 status=0
    shift
    timeout --signal=ABRT --kill-after=10 "$seconds" python3 -X faulthandler "$@" || status=$?
    if [ $status = 124 ]; then echo "$1 hung: ended after $seconds s"; fi
    return $status
}

for part in "${parts[@]}"; do
    echo "== $part"
    started=$SECONDS
    case $part in
    data)
        # Mostly it waits for QUIC to notice that a peer has died: so for both at once.
        waiting=()
        log() { echo "$target/interop/data-$(basename "$(dirname "$1")").txt"; }
        for kubo in "${kubos[@]}"; do
            run 300 tests/interop/data.py "$kubo" "$target/interop" >"$(log "$kubo")" 2>&1 &
            waiting+=("$!:$kubo")
        done
        for one in "${waiting[@]}"; do
            kubo=${one#*:}
            if ! wait "${one%%:*}"; then
                cat "$(log "$kubo")"
                echo "-- once more: a race within Kubo may have come out as it seldom does, a loss of ours comes again"
                if ! run 300 tests/interop/data.py "$kubo" "$target/interop" >"$(log "$kubo")" 2>&1; then
                    failed+=("data")
                    cat "$(log "$kubo")"
                    continue
                fi
            fi
            echo "-- $(basename "$(dirname "$kubo")")"
            # The table; the file has what was done in which time.
            sed -n '/^$/,$p' "$(log "$kubo")"
        done
        ;;
    semantics)
        if [ -z "$current" ]; then
            echo "skipped: it needs the commands of a current Kubo"
        else
            run 120 tests/interop/semantics.py "$target/interop" "$current" || failed+=("$part")
        fi
        ;;
    *) run 240 "tests/interop/$part.py" "$target/interop" "${kubos[@]}" || failed+=("$part") ;;
    esac
    echo "== $part: $((SECONDS - started)) s"
done
if [ ${#failed[@]} -gt 0 ]; then
    echo "interop: failed: ${failed[*]}"
    exit 1
fi
echo "interop: all right"
