"""A node of this library as a peer of the tests, in a process of its own, with its frame log in a file.

Run as a program, this file is that process. It finds the library as the Python package does.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import p2pmount
from child import Child, port_of, serve


class Own(Child):
    """A running node."""

    def __init__(self, log: Path, **options: str) -> None:
        self.log = log
        super().__init__("our node", __file__, str(log), json.dumps(options))
        hello = self.answer()
        self.peer_id: str = hello["peer_id"]
        self.addresses: list[str] = hello["addresses"]

    def listen(self, protocol: str, port: int) -> None:
        """Exposes the port of 127.0.0.1."""
        self.ask("listen", protocol, port)

    def forward(self, protocol: str, peer: str) -> int:
        """Ties a free port of 127.0.0.1 to the protocol at a peer, and returns it."""
        return int(self.ask("forward", protocol, peer))

    def connect(self, address: str) -> None:
        self.ask("connect", address)

    def shut_down(self) -> None:
        """The node is closed at once; the process stays."""
        self.ask("shut down")

    def log_dropped(self) -> int:
        """Lines that the log has lost."""
        return int(self.ask("log dropped"))

    def __enter__(self) -> Own:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def main() -> None:
    log, options = sys.argv[1:]
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    p2pmount.set("log.fd", descriptor)
    p2pmount.set("log.level", "trace")
    node = p2pmount.Node(json.loads(options))

    def listen(protocol: str, port: int) -> None:
        node.listen(protocol, port)

    serve(
        {"peer_id": node.peer_id, "addresses": node.addresses},
        {
            "listen": listen,
            "forward": lambda protocol, peer: port_of(node.forward(protocol, 0, peer).address),
            "connect": lambda address: node.connect(address, timeout=15),
            "shut down": node.close,
            "log dropped": lambda: p2pmount.process().log_dropped,
        },
    )
    node.close()


if __name__ == "__main__":
    main()
