"""A real Kubo as a peer of the tests: v0.22.0 from the wheel of kubo-python, through its C functions.

    with Kubo(library, folder, transport="tcp", security="noise", identity=(peer_id, key)) as kubo:
        kubo.listen("web", 8080)
        kubo.addresses                                  # what another node dials
        kubo.connect("/ip4/127.0.0.1/tcp/4001/p2p/12D3...")
        kubo.forward("web", "12D3...")                  # the local port that leads there

Each node (kubo_node.py) is a process of its own and listens on 127.0.0.1 only. Run as a program, this file is that
process.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
from pathlib import Path
from typing import Any, Optional

from child import Child, clean_environment, port_of, serve
from kubo_node import Node

#: Where a node listens for peers.
LISTEN = {"tcp": "/ip4/127.0.0.1/tcp/0", "quic": "/ip4/127.0.0.1/udp/0/quic-v1"}

Identity = tuple[str, bytes]
"""A peer id, and the private key in libp2p's protobuf form, as `identity.file` keeps it."""


class Kubo(Child):
    """A running node. `folder` has to be there and empty; without an identity it makes itself an RSA key."""

    def __init__(
        self,
        library: Path,
        folder: Path,
        *,
        transport: str = "tcp",
        security: str = "tls",
        identity: Optional[Identity] = None,
        swarm_key: Optional[bytes] = None,
    ) -> None:
        if identity is not None:
            peer_id, key = identity
            (folder / "identity").write_text(json.dumps([peer_id, base64.b64encode(key).decode()]))
        if swarm_key is not None:
            (folder / "swarm.key").write_bytes(swarm_key)
        super().__init__("Kubo", __file__, str(library), str(folder), "--" + transport, "--" + security)
        hello = self.answer()
        self.peer_id: str = hello["peer_id"]
        self.addresses: list[str] = hello["addresses"]

    def listen(self, protocol: str, port: int) -> None:
        """Exposes the port of 127.0.0.1."""
        self.ask("listen", protocol, port)

    def forward(self, protocol: str, peer_id: str) -> int:
        """Ties a free port of 127.0.0.1 to the protocol at a peer, and returns it. The peer has to be connected."""
        return int(self.ask("forward", protocol, peer_id))

    def connect(self, address: str) -> None:
        self.ask("connect", address)

    def mounts(self) -> dict[str, Any]:
        """Kubo's own lists, "Forwards", "Listens" and "Streams"."""
        found: dict[str, Any] = self.ask("list")
        return found

    def peers(self) -> list[str]:
        """The ids of the connected peers."""
        found: list[str] = self.ask("peers")
        return found

    def close_mounts(self, protocol: str = "") -> int:
        """Closes what listens and forwards, of one protocol or of all; streams live on. Returns how many it were."""
        return int(self.ask("close", protocol))

    def shut_down(self) -> None:
        """The node ends in order and takes its connections with it; the process stays."""
        self.ask("shut down")

    def __enter__(self) -> Kubo:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("library")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tcp", dest="transport", action="store_const", const="tcp")
    parser.add_argument("--quic", dest="transport", action="store_const", const="quic")
    parser.add_argument("--tls", dest="security", action="store_const", const="tls")
    parser.add_argument("--noise", dest="security", action="store_const", const="noise")
    options = parser.parse_args()
    clean_environment("IPFS_PATH", "LIBP2P_FORCE_PNET")
    folder = options.folder.resolve()
    identity, swarm_key = folder / "identity", folder / "swarm.key"
    node = Node(
        os.path.abspath(options.library),
        folder,
        LISTEN[options.transport],
        options.security,
        identity=identity if identity.exists() else None,
        swarm_key=swarm_key if swarm_key.exists() else None,
    )
    serve(
        {"peer_id": node.peer_id, "addresses": node.addresses},
        {
            "listen": lambda protocol, port: node.listen(protocol, "/ip4/127.0.0.1/tcp/%d" % port),
            "forward": lambda protocol, peer_id: port_of(node.forward(protocol, LISTEN["tcp"], peer_id)),
            "connect": node.connect,
            "list": lambda: node.values("P2PListListeners"),
            "peers": lambda: node.values("ListPeersIDs"),
            "close": lambda protocol: node.call("P2PClose", protocol, "", "", not protocol, True, True),
            "shut down": lambda: node.check("CleanupNode", good=0),
        },
    )
    # Its own shutdown has been seen to hang, and there is nothing to keep.
    os._exit(0)


if __name__ == "__main__":
    main()
