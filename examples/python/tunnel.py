#!/usr/bin/env python3
"""Exposes a local TCP service to other peers under a protocol name, or reaches one.

    tunnel.py expose [name=value ...] PROTOCOL TARGET [name=value ...]
    tunnel.py forward [name=value ...] PROTOCOL LISTEN PEER [name=value ...]

    tunnel.py expose transports=quic my-web 127.0.0.1:8080
    tunnel.py forward my-web 127.0.0.1:9090 /ip4/192.0.2.7/tcp/4001/p2p/12D3KooW... verify=true

Options before the protocol are the node's, those at the end are the listener's or forward's. `expose` prints the
addresses that `forward` takes as PEER (several are separated by commas), `forward` the address to connect to; LISTEN
with port 0 takes a free one. Both serve until "quit" or the end of their input.
"""

from __future__ import annotations

import p2pmount
from common import Usage, main, naming, no_more, options_from, print_node, say, wait_for_quit

USAGE = """usage: tunnel.py expose [name=value ...] PROTOCOL TARGET [name=value ...]
       tunnel.py forward [name=value ...] PROTOCOL LISTEN PEER [name=value ...]"""


def run(arguments: list[str]) -> None:
    command = arguments.pop(0) if arguments else ""
    node_options = options_from(arguments)
    places = {"expose": 2, "forward": 3}.get(command)
    if places is None or len(arguments) < places:
        raise Usage
    names = [arguments.pop(0) for _ in range(places)]
    mount_options = options_from(arguments)
    no_more(arguments)

    with naming("node"):
        node = p2pmount.Node(node_options)
    # Leaving this block by an error closes the node at once, without the pause below for streams that still run.
    with node:
        if command == "expose":
            expose(node, names, mount_options)
        else:
            forward(node, names, mount_options)
        with naming("close"):
            node.close(drain=2)


def expose(node: p2pmount.Node, names: list[str], options: dict[str, str]) -> None:
    protocol, target = names
    with naming("listen"):
        listener = node.listen(protocol, target, options)
    print_node(node)
    say("ready")
    wait_for_quit()
    # No new streams; those that are open run on.
    listener.close()


def forward(node: p2pmount.Node, names: list[str], options: dict[str, str]) -> None:
    protocol, listen, peer = names
    with naming("forward"):
        mount = node.forward(protocol, listen, peer, options)
    say(f"listen {mount.address}")
    say("ready")
    wait_for_quit()
    mount.close()


if __name__ == "__main__":
    main("tunnel.py", USAGE, run)
