#!/usr/bin/env python3
"""A Kubo node with one mount, out of the library that the package kubo-python ships.

    kubo.py LIBRARY DIRECTORY TRANSPORT ADDRESS expose PROTOCOL TARGET
    kubo.py LIBRARY DIRECTORY TRANSPORT ADDRESS forward PROTOCOL LISTEN PEER

TRANSPORT is tcp (with TLS and yamux) or quic, ADDRESS the multiaddr that it listens on for peers, DIRECTORY a new one
for its repository. Prints what examples/c/tunnel.c prints, `address`, `listen` and `ready`, and serves until the end of
its input. It knows nobody but PEER and looks for nobody.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from typing import Any


class Kubo:
    def __init__(self, library: str, directory: str, transport: str, address: str) -> None:
        # The library writes its log into the working directory.
        os.chdir(directory)
        self.library = ctypes.CDLL(library)
        for name in ("GetNodeID", "GetNodeMultiAddrs"):
            getattr(self.library, name).restype = ctypes.c_char_p
        self.repository = os.path.join(directory, "repository").encode()
        os.mkdir(self.repository)
        if self.library.CreateRepo(self.repository) < 0:
            raise SystemExit("kubo: no repository was made")
        self.configure(transport, address)
        if self.library.RunNode(self.repository) != 1:
            raise SystemExit("kubo: the node does not run")

    def configure(self, transport: str, address: str) -> None:
        file = os.path.join(self.repository.decode(), "config")
        with open(file) as stream:
            config: dict[str, Any] = json.load(stream)
        config["Addresses"].update(Swarm=[address], API=[], Gateway=[], Announce=[], AppendAnnounce=[], NoAnnounce=[])
        config.update(
            Bootstrap=[],
            Discovery={"MDNS": {"Enabled": False}},
            AutoNAT={"ServiceMode": "disabled"},
            Routing={"Type": "none"},
        )
        config["Swarm"].update(
            AddrFilters=[],
            DisableNatPortMap=True,
            EnableHolePunching=False,
            RelayClient={"Enabled": False},
            RelayService={"Enabled": False},
            Transports={
                "Network": {
                    "TCP": transport == "tcp",
                    "QUIC": transport == "quic",
                    "Websocket": False,
                    "WebTransport": False,
                    "Relay": False,
                },
                "Security": {"TLS": 100, "Noise": False},
                "Multiplexers": {"Yamux": 100, "Mplex": False},
            },
        )
        config["Experimental"]["Libp2pStreamMounting"] = True
        with open(file, "w") as stream:
            json.dump(config, stream)

    def addresses(self) -> list[str]:
        peer: str = self.library.GetNodeID(self.repository).decode()
        found: list[str] = json.loads(self.library.GetNodeMultiAddrs(self.repository) or b"[]")
        return ["%s/p2p/%s" % (address, peer) for address in found]

    def expose(self, protocol: str, target: str) -> None:
        if self.library.P2PListen(self.repository, protocol.encode(), target.encode()) <= 0:
            raise SystemExit("kubo: no listener for " + target)

    def forward(self, protocol: str, listen: str, peer: str) -> None:
        if self.library.ConnectToPeer(self.repository, peer.encode()) != 0:
            raise SystemExit("kubo: no connection to " + peer)
        identity = peer.rsplit("/", 1)[1]
        if self.library.P2PForward(self.repository, protocol.encode(), listen.encode(), identity.encode()) <= 0:
            raise SystemExit("kubo: no forward on " + listen)


def main() -> None:
    if len(sys.argv) not in (8, 9):
        raise SystemExit(__doc__)
    library, directory, transport, address, kind, *names = sys.argv[1:]
    node = Kubo(library, directory, transport, address)
    if kind == "expose":
        node.expose(*names)
        for address in node.addresses():
            print("address", address)
    else:
        node.forward(*names)
        print("listen", names[1])
    print("ready", flush=True)
    sys.stdin.read()
    # Its orderly end takes seconds, and nothing of it is kept.
    os._exit(0)


if __name__ == "__main__":
    main()
