"""A real Kubo as a peer of the tests: v0.22.0 from the wheel of kubo-python, or a current one.

    with Kubo(path, folder, LISTEN["tcp"], "noise", identity=identity) as kubo:
        kubo.listen("web", 8080)
        kubo.addresses                                  # what another node dials
        kubo.connect("/ip4/127.0.0.1/tcp/4001/p2p/12D3...")
        kubo.forward("web", "12D3...")                  # the local port that leads there

`path` is what scripts/kubo.sh prints: the old one's shared library, used through its C functions (kubo_node.py), or the
program `ipfs` (kubo_daemon.py). Each node is a process of its own and listens on 127.0.0.1 only. Run as a program, this
file is that process.
"""

from __future__ import annotations

import base64
import json
import os
import sys
import time
from pathlib import Path
from typing import Any, Optional

from child import Child, Failure, clean_environment, port_of, serve
from identities import Identity
from kubo_daemon import Daemon
from kubo_node import Node

#: Where a node listens for peers.
LISTEN = {"tcp": "/ip4/127.0.0.1/tcp/0", "quic": "/ip4/127.0.0.1/udp/0/quic-v1", "ws": "/ip4/127.0.0.1/tcp/0/ws"}
# Seconds for a node to be ready, or for a connection; a computer that does a lot besides takes long.
BEGINNING = 40


class Kubo(Child):
    """A running node. `folder` has to be there and empty; without an identity it makes itself a key."""

    def __init__(
        self,
        path: Path,
        folder: Path,
        addresses: str,
        security: str = "tls,noise",
        *,
        identity: Optional[Identity] = None,
        swarm_key: Optional[bytes] = None,
    ) -> None:
        self.is_library = path.suffix == ".so"
        if identity is not None:
            peer_id, key = identity
            (folder / "identity").write_text(json.dumps([peer_id, base64.b64encode(key).decode()]))
        if swarm_key is not None:
            (folder / "swarm.key").write_bytes(swarm_key)
        self._arguments = [str(path), str(folder), security]
        self._begin(addresses)

    def _begin(self, addresses: str) -> None:
        super().__init__("Kubo", __file__, *self._arguments, addresses)
        hello = self.answer(BEGINNING)
        self.peer_id: str = hello["peer_id"]
        self.addresses: list[str] = hello["addresses"]

    def restart(self) -> None:
        """Ends in order and begins anew, with the same identity and the same ports. Mounts are not kept."""
        self.shut_down()
        self.close()
        self._begin(",".join(address.partition("/p2p/")[0] for address in self.addresses))

    def listen(self, protocol: str, port: int) -> None:
        """Exposes the port of 127.0.0.1."""
        self.ask("listen", protocol, port)

    def forward(self, protocol: str, peer_id: str) -> int:
        """Ties a free port of 127.0.0.1 to the protocol at a peer, and returns it. The peer has to be connected."""
        return int(self.ask("forward", protocol, peer_id))

    def connect(self, address: str) -> None:
        self.ask("connect", address)

    def await_peer(self, peer_id: str) -> None:
        """Until it knows of a connection that the peer has made: the peer may use it before Kubo does."""
        deadline = time.monotonic() + BEGINNING
        while peer_id not in self.peers():
            if time.monotonic() > deadline:
                raise Failure("Kubo has no connection to %s after %d s" % (peer_id, BEGINNING))
            time.sleep(0.01)

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

    def command(self, *arguments: str) -> str:
        """What `ipfs` prints for these arguments; a `Failure` with what it says when it fails. Not with the library."""
        return str(self.ask("command", *arguments))

    def shut_down(self) -> None:
        """The node ends in order and takes its connections with it; the process stays."""
        self.ask("shut down")

    def __enter__(self) -> Kubo:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def main() -> None:
    path, where, security, addresses = sys.argv[1:]
    clean_environment("IPFS_PATH", "LIBP2P_FORCE_PNET")
    folder = Path(where).resolve()
    identity, swarm_key = (name if name.exists() else None for name in (folder / "identity", folder / "swarm.key"))
    commands: dict[str, Any] = {}
    node: Node | Daemon
    if path.endswith(".so"):
        node = Node(os.path.abspath(path), folder, addresses, security, identity=identity, swarm_key=swarm_key)
    else:
        node = Daemon(os.path.abspath(path), folder, addresses, security, identity=identity, swarm_key=swarm_key)
        commands["command"] = node.command
    serve(
        {"peer_id": node.peer_id, "addresses": node.addresses},
        {
            **commands,
            "listen": lambda protocol, port: node.listen(protocol, "/ip4/127.0.0.1/tcp/%d" % port),
            "forward": lambda protocol, peer_id: port_of(node.forward(protocol, LISTEN["tcp"], peer_id)),
            "connect": node.connect,
            "list": node.lists,
            "peers": node.peers,
            "close": node.close_mounts,
            "shut down": node.shut_down,
        },
    )
    # The library's own end has been seen to hang, and there is nothing to keep; the daemon ends with this process.
    os._exit(0)


if __name__ == "__main__":
    main()
