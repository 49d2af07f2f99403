"""A node of this library as a peer of the tests, in a process of its own, with its frame log in a file.

Run as a program, this file is that process. It finds the library as the Python package does.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Optional

import p2pmount
from child import Child, port_of, serve

Fields = dict[str, Any]
"""A row or an event, as docs/FIELDS.md has it."""
#: Events that may wait to be asked for.
EVENTS = 100_000


class Own(Child):
    """A running node. Without `log` it logs nothing, which is faster."""

    def __init__(self, log: Optional[Path], **options: str) -> None:
        self.log = log
        self._options = options
        self._begin()

    def _begin(self, **changed: str) -> None:
        super().__init__("our node", __file__, str(self.log or ""), json.dumps({**self._options, **changed}))
        hello = self.answer()
        self.peer_id: str = hello["peer_id"]
        self.addresses: list[str] = hello["addresses"]

    def restart(self) -> None:
        """Ends in order and begins anew, with the same ports (and the same identity, if it has a file). Mounts are not
        kept."""
        self.shut_down()
        self.close()
        self._begin(**{"listen.addresses": ",".join(address.partition("/p2p/")[0] for address in self.addresses)})

    def listen(self, protocol: str, port: int, **options: str) -> None:
        """Exposes the port of 127.0.0.1."""
        self.ask("listen", protocol, port, options)

    def forward(self, protocol: str, peer: str, **options: str) -> int:
        """Ties a free port of 127.0.0.1 to the protocol at a peer, and returns it."""
        return int(self.ask("forward", protocol, peer, options))

    def connect(self, address: str) -> None:
        self.ask("connect", address)

    def lists(self, what: str) -> list[Fields]:
        """The rows of "listeners", "forwards", "streams" or "peers"."""
        rows: list[Fields] = self.ask("list", what)
        return rows

    def close_mounts(self, **filters: Any) -> int:
        """As p2pmount.Node.close_mounts."""
        return int(self.ask("close mounts", filters))

    def close_stream(self, number: int) -> None:
        self.ask("close stream", number)

    def events(self) -> list[Fields]:
        """What has happened since the last time."""
        found: list[Fields] = self.ask("events")
        return found

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
    if log:
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        p2pmount.set("log.fd", descriptor)
        p2pmount.set("log.level", "trace")
    node = p2pmount.Node(json.loads(options))
    events = node.events(queue_capacity=EVENTS)

    def listen(protocol: str, port: int, options: dict[str, str]) -> None:
        node.listen(protocol, port, options)

    def happened() -> list[Fields]:
        found: list[Fields] = []
        try:
            while True:
                found.append(dict(events.get(timeout=0).fields))
        except p2pmount.TimedOutError:
            return found

    commands: dict[str, Callable[..., Any]] = {
        "listen": listen,
        "forward": lambda protocol, peer, options: port_of(node.forward(protocol, 0, peer, options).address),
        "connect": lambda address: node.connect(address, timeout=15),
        "list": lambda what: [dict(row.fields) for row in getattr(node.list(), what)],
        "close mounts": lambda filters: node.close_mounts(**filters),
        "close stream": node.close_stream,
        "events": happened,
        "shut down": node.close,
        "log dropped": lambda: p2pmount.process().log_dropped,
    }
    serve({"peer_id": node.peer_id, "addresses": node.addresses}, commands)
    node.close()


if __name__ == "__main__":
    main()
