#!/usr/bin/env python3
"""P2P stream mounting with the classes of kubo_python: exposes a local port, or forwards one to a peer.

    p2p_example.py --listen  --protocol demo --port 8765
    p2p_example.py --forward --protocol demo --port 8766 --peer-id PEER

The first program makes the service on its port 8765 available and prints what PEER is for the second, whose port 8766
then leads to that service. PEER is one of the printed addresses, or the peer id alone where the nodes know each other.
Ctrl+C ends either.
"""

from __future__ import annotations

import argparse
import sys
import threading

from p2pmount.kubo_python import IPFSP2P, IPFSNode


def main() -> int:
    parser = argparse.ArgumentParser(description="Exposes a local port to peers, or forwards one to a peer.")
    mode = parser.add_mutually_exclusive_group(required=True)
    mode.add_argument("--listen", action="store_true", help="expose the service on --port")
    mode.add_argument("--forward", action="store_true", help="forward --port to the service of --peer-id")
    parser.add_argument("--protocol", default="demo", help="name of the service (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8765, help="local port (default: %(default)s)")
    parser.add_argument("--peer-id", help="peer that exposes the service: one of its addresses, or its id")
    arguments = parser.parse_args()
    if arguments.forward and not arguments.peer_id:
        parser.error("--forward needs --peer-id")

    with IPFSNode.ephemeral(online=True) as node:
        print(f"Peer id: {node.peer_id}")
        p2p = IPFSP2P(node)
        address = f"/ip4/127.0.0.1/tcp/{arguments.port}"
        if arguments.listen:
            done = p2p.listen(arguments.protocol, address)
        else:
            done = p2p.forward(arguments.protocol, address, arguments.peer_id)
        if not done:
            print(f"Failed: {p2p.last_error}", file=sys.stderr)
            return 1

        if arguments.listen:
            for own in node.get_addrs():
                print(f"Reach it with: --forward --protocol {arguments.protocol} --peer-id {own}")
        listeners, streams = p2p.list_listeners()
        print("Listeners:")
        for listener in listeners:
            print(
                f"  Protocol: {listener.protocol}, Listen: {listener.listen_address}, Target: {listener.target_address}"
            )
        print("Streams:")
        for stream in streams:
            print(f"  Protocol: {stream.protocol}, Origin: {stream.origin_address}, Target: {stream.target_address}")
        print("Press Ctrl+C to exit", flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            pass
        p2p.close(arguments.protocol)
        print("Closed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
