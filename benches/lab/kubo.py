#!/usr/bin/env python3
"""A Kubo node with one mount.

    kubo.py LIBRARY FOLDER ADDRESS expose PROTOCOL TARGET
    kubo.py LIBRARY FOLDER ADDRESS forward PROTOCOL LISTEN PEER

LIBRARY is the shared library of the package kubo-python, FOLDER an empty directory, ADDRESS the multiaddr that the node
(tests/interop/kubo_node.py) listens on for peers, over TCP with TLS or over QUIC. Prints what examples/c/tunnel.c
prints, `address`, `listen` and `ready`, and serves until the end of its input.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "interop"))
from kubo_node import Node  # noqa: E402


def main() -> None:
    if len(sys.argv) not in (7, 8):
        raise SystemExit(__doc__)
    library, folder, address, kind, protocol, *ends = sys.argv[1:]
    node = Node(library, Path(folder), address)
    if kind == "expose":
        node.listen(protocol, *ends)
        for address in node.addresses:
            print("address", address)
    else:
        listen, peer = ends
        node.connect(peer)
        print("listen", node.forward(protocol, listen, peer.rsplit("/", 1)[1]))
    print("ready", flush=True)
    sys.stdin.read()
    # Its orderly end takes seconds, and nothing of it is kept.
    os._exit(0)


if __name__ == "__main__":
    main()
