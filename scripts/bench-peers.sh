#!/usr/bin/env bash
# Installs what `make bench` compares with: Kubo (scripts/kubo.sh), and dumbpipe below target/bench-peers. socat and sshd
# come from the system; as root, on Debian and its kin, they are installed. Nothing of this is required: the benchmark
# leaves out what is missing, and so does this script what cannot be installed.
set -euo pipefail
cd "$(dirname "$0")/.."
peers=${CARGO_TARGET_DIR:-target}/bench-peers
mkdir -p "$peers"
peers=$(cd "$peers" && pwd)

dumbpipe=0.40.1

PATH=$PATH:/usr/sbin:/sbin
missing=()
for pair in socat:socat sshd:openssh-server ssh:openssh-client ip:iproute2; do
    command -v "${pair%%:*}" >/dev/null || missing+=("${pair#*:}")
done
if [ ${#missing[@]} -gt 0 ]; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt-get update -qq
        # In this runlevel no service is started: only the programs are wanted.
        RUNLEVEL=1 apt-get install -y -qq "${missing[@]}" >/dev/null || echo "not installed: ${missing[*]}" >&2
    else
        echo "not installed, and only root can: ${missing[*]}" >&2
    fi
fi
if [ "$(id -u)" = 0 ] && command -v sshd >/dev/null; then
    # sshd refuses to start as root without it; elsewhere the system makes it.
    mkdir -p -m 755 /run/sshd
fi

scripts/kubo.sh || echo "not installed: Kubo" >&2

if [ "$("$peers/bin/dumbpipe" --version 2>/dev/null)" != "dumbpipe $dumbpipe" ]; then
    CARGO_TARGET_DIR=$peers/build cargo install --quiet --locked --root "$peers" "dumbpipe@$dumbpipe" ||
        echo "not installed: dumbpipe $dumbpipe" >&2
    rm -rf "$peers/build"
fi
