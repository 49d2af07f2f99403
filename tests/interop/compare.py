#!/usr/bin/env python3
"""How often something is damaged through this library and a Kubo, beside a Kubo and a Kubo.

    compare.py FOLDER KUBO...

KUBO is what scripts/kubo.sh prints. A cell such as "3+2/20" says: in 3 of 20 repetitions bytes were missing, in 2 more
they were all there, but one of the two programs saw a reset in place of an end of file. (A Kubo makes an end of file
of every reset, so that its programs take what was cut for whole.) data.py says whose doing it was. Exit status 0 if
nothing hung, and if bytes were not missing more often with this library at one end than with a Kubo at both.
"""

from __future__ import annotations

import contextlib
import functools
import os
import socket
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Union

import identities
from child import Failure
from kubo import LISTEN, Kubo
from own import Own
from pair import accept, connect
from rows import KB, Row, Side, closes_after_reply, closes_after_upload, half_close

ROWS = [
    closes_after_reply(KB),
    closes_after_reply(200 * KB),
    closes_after_upload(KB),
    closes_after_upload(200 * KB),
    half_close(KB),
]
TRANSPORTS = [("tcp", "tls"), ("tcp", "noise"), ("quic", "tls")]
WAYS = ["own>Kubo", "Kubo>own", "Kubo>Kubo"]
REPEAT = 20
# Seconds: for one repetition, for a connection to come to the server when its client has gone.
RUN, LATE = 30, 0.5
PROTOCOL = "/x/compare"

Peer = Union[Kubo, Own]


class Tunnel:
    """Two nodes with a tunnel between them, and the server's port."""

    def __init__(self, kubo: Path, folder: Path, way: str, transport: str, security: str) -> None:
        self.stack = contextlib.ExitStack()
        self.server = self.stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        self.server.settimeout(0.05)
        near, far = (self._node(kubo, folder / name, name, transport, security) for name in way.split(">"))
        far.listen(PROTOCOL, self.server.getsockname()[1])
        near.connect(far.addresses[0])
        self.port = near.forward(PROTOCOL, far.peer_id)

    def _node(self, kubo: Path, folder: Path, name: str, transport: str, security: str) -> Peer:
        if name == "own":
            options = {"transports": transport, "security": security, "listen.addresses": LISTEN[transport]}
            return self.stack.enter_context(Own(None, **options))
        folder = Path(tempfile.mkdtemp(dir=folder.parent))
        return self.stack.enter_context(
            Kubo(kubo, folder, LISTEN[transport], security, identity=identities.make("Ed25519"))
        )

    def repeat(self, row: Row) -> str:
        """One repetition: "" if all was right, "bytes" if some were missing, or "end"."""
        with contextlib.suppress(TimeoutError, socket.timeout):
            # What came too late for the one before.
            while True:
                self.server.accept()[0].close()
        changed = threading.Condition()
        client, server = Side("the client", changed), Side("the server", changed)
        come = functools.partial(accept, self.server, lambda: client.gone, LATE)
        threads = [
            threading.Thread(target=client.run, args=(functools.partial(connect, self.port), row.client, server)),
            threading.Thread(target=server.run, args=(come, row.server, client)),
        ]
        for thread in threads:
            thread.daemon = True
            thread.start()
        deadline = time.monotonic() + RUN
        for thread, side, other in zip(threads, (client, server), (server, client)):
            while thread.is_alive() and time.monotonic() < deadline:
                thread.join(0.05)
                if other.gone:
                    # Kubo may have left it waiting.
                    side.give_up()
            if thread.is_alive():
                raise Failure("%s did not come to its end within %d s" % (side.name, RUN))
        for side in (client, server):
            if side.trouble:
                raise Failure(side.trouble)
        pairs = ((row.client_sees, client), (row.server_sees, server))
        if not all(seen.received in (None, side.received) and side.wrong is None for seen, side in pairs):
            return "bytes"
        return "" if all(seen.by(side) for seen, side in pairs) else "end"


class Table:
    """One Kubo's."""

    def __init__(self, kubo: Path, folder: Path) -> None:
        self.name = kubo.parent.name
        self.cells: dict[tuple[str, str, str], str] = {}
        self.missing = dict.fromkeys(WAYS, 0)
        self.failures: list[str] = []
        self._kubo, self._folder = kubo, folder

    def column(self, way: str, transport: str, security: str) -> None:
        where = transport_name(transport, security)
        tunnel = Tunnel(self._kubo, self._folder, way, transport, security)
        with tunnel.stack:
            for row in ROWS:
                try:
                    found = [tunnel.repeat(row) for _ in range(REPEAT)]
                    self.missing[way] += found.count("bytes")
                    text = "%d+%d/%d" % (found.count("bytes"), found.count("end"), REPEAT)
                except Failure as failure:
                    text = "FAILED"
                    self.failures.append("%s, %s, %s: %s" % (way, where, row.name, failure))
                self.cells[row.name, way, where] = text

    def show(self) -> None:
        wheres = [transport_name(*one) for one in TRANSPORTS]
        print("\n%s: bytes missing + only another end, of all" % self.name)
        print(" ".join(["%-50s" % "", *("%-15s" % ("%s %s" % (way, where)) for where in wheres for way in WAYS)]))
        for row in ROWS:
            texts = [self.cells.get((row.name, way, where), "-") for where in wheres for way in WAYS]
            print(" ".join(["%-50s" % row.name, *("%-15s" % text for text in texts)]))
        print("bytes missing: %s" % ", ".join("%s %d" % item for item in self.missing.items()), flush=True)
        if (self.missing["own>Kubo"] + self.missing["Kubo>own"]) / 2 > self.missing["Kubo>Kubo"]:
            self.failures.append("bytes are missing more often with our node at one end than with a Kubo at both")
        for failure in self.failures:
            print("  FAILED: %s" % failure)


def transport_name(transport: str, security: str) -> str:
    return "QUIC" if transport == "quic" else security


def main() -> int:
    if len(sys.argv) < 3:
        print((__doc__ or "").split("\n\n")[1].strip(), file=sys.stderr)
        return 2
    os.environ["P2PMOUNT_NETWORK"] = "local"
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="compare-", dir=sys.argv[1]) as name:
        folder = Path(name).resolve()
        tables = [Table(Path(kubo).resolve(), folder) for kubo in sys.argv[2:]]
        with ThreadPoolExecutor(3) as pool:
            jobs = [
                pool.submit(table.column, way, transport, security)
                # Those that wait most come first.
                for transport, security in reversed(TRANSPORTS)
                for way in reversed(WAYS)
                for table in tables
            ]
            for job in jobs:
                job.result()
        for table in tables:
            table.show()
    failed = sum(len(table.failures) for table in tables)
    print("compare: %d s, %s" % (time.monotonic() - started, "%d failures" % failed if failed else "all right"))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
