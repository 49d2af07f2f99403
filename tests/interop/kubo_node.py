"""A Kubo node in this process, v0.22.0: the C functions of the library of kubo-python, with their results checked.

It is deterministic and looks for nobody: no bootstrap peers, no mDNS, no DHT, no relays, no port mapping.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from pathlib import Path
from typing import Any, Optional

from kubo_config import keep_quiet, save


class Node:
    """A node with a repository of its own below `folder`, which has to be there; a later one for the same folder goes
    on with the first one's identity.

    It listens on `address`, a multiaddr or several with commas between, over QUIC, or over TCP with yamux and
    `security`, "tls", "noise" or "tls,noise". `identity` is a file with its peer id and private key (else it makes
    itself an RSA key), `swarm_key` the file of a private network's key.
    """

    def __init__(
        self,
        library: str,
        folder: Path,
        address: str,
        security: str = "tls",
        *,
        resource_manager: bool = True,
        identity: Optional[Path] = None,
        swarm_key: Optional[Path] = None,
    ) -> None:
        # The library writes kubo.log into the working directory.
        os.chdir(folder)
        self._library = ctypes.CDLL(library)
        self._libc = ctypes.CDLL(None)
        self._libc.free.argtypes = [ctypes.c_void_p]
        self._log = folder / "kubo.log"
        repository = folder / "repository"
        self._repository = str(repository).encode()
        if not repository.exists():
            repository.mkdir()
            if self.call("CreateRepo") < 0:
                sys.exit("Kubo could not make its repository: %s" % self._log.read_text())
            if swarm_key is not None:
                swarm_key.rename(repository / "swarm.key")
        configure(repository / "config", address, security, resource_manager, identity)
        if self.call("RunNode") != 1:
            sys.exit("Kubo did not start: %s" % self._log.read_text())
        self.peer_id = self.text("GetNodeID")
        self.addresses = ["%s/p2p/%s" % (found, self.peer_id) for found in self.values("GetNodeMultiAddrs")]

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
            raise RuntimeError("%s returned %d; %s says more" % (name, result, self._log))

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

    def listen(self, protocol: str, target: str) -> None:
        """Exposes the multiaddr `target`."""
        self.check("P2PListen", protocol, target, good=1)

    def connect(self, address: str) -> None:
        self.check("ConnectToPeer", address, good=0)

    def forward(self, protocol: str, listen: str, peer_id: str) -> str:
        """Ties a multiaddr to the protocol at a connected peer; returns it with its real port."""
        before = {row["ListenAddress"] for row in self._forwards()}
        self.check("P2PForward", protocol, listen, peer_id, good=1)
        (made,) = {row["ListenAddress"] for row in self._forwards()} - before
        return made

    def lists(self) -> Any:
        return self.values("P2PListListeners")

    def peers(self) -> Any:
        return self.values("ListPeersIDs")

    def close_mounts(self, protocol: str) -> int:
        return self.call("P2PClose", protocol, "", "", not protocol, True, True)

    def shut_down(self) -> None:
        self.check("CleanupNode", good=0)

    def _forwards(self) -> list[dict[str, str]]:
        return (self.values("P2PListListeners") or {}).get("Forwards") or []


def configure(path: Path, address: str, security: str, resource_manager: bool, identity: Optional[Path]) -> None:
    """Changes the configuration of a fresh repository."""
    config = json.loads(path.read_text())
    keep_quiet(config, address.split(","), security, 100)
    config["Addresses"]["API"] = []
    config["Routing"] = {"Type": "none"}
    # What it can besides, mplex, it cannot do well, and today's Kubo has it no more.
    config["Swarm"]["Transports"]["Multiplexers"]["Mplex"] = False
    if not resource_manager:
        config["Swarm"]["ResourceMgr"] = {"Enabled": False}
    save(config, path, identity)
