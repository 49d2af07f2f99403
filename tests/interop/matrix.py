#!/usr/bin/env python3
"""The compatibility matrix: p2pmount and Kubo, either way, over each transport, for each kind of key of Kubo's.

    matrix.py FOLDER KUBO...

KUBO is what scripts/kubo.sh prints. Exit status 0 only if every cell is ok.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import identities
from child import Failure
from kubo import LISTEN, Kubo
from own import Own
from pair import Column, columns
from service import (
    Crowd,
    Service,
    Transfer,
    client_of,
    echo_client,
    echo_server,
    greeting_client,
    greeting_server,
)

#: MiB of a transfer, and clients at once.
SIZE, CLIENTS = 64, 100
# Seconds for a client to see that there is no target, and for a forward to recover.
REFUSED, RECOVERY = 10, 20


class Tunnel:
    """A node of ours with a tunnel to or from a Kubo."""

    def __init__(self, kubo: Kubo, folder: Path, column: Column) -> None:
        self.kubo = kubo
        self.column = column
        self.protocol = "/x/" + column.file_name
        self.service = Service()
        self.own = Own(
            None,
            **{
                "transports": column.transport,
                "security": column.security,
                "listen.addresses": LISTEN[column.transport],
                "identity.file": str(folder / ("own-" + column.file_name)),
            },
        )

    def open(self, ours: bool = True, kubos: bool = True) -> None:
        """Makes the mounts of our node, of Kubo, or of both."""
        listens, forwards = (kubos, ours) if self.column.ours_forwards else (ours, kubos)
        listener = self.kubo if self.column.ours_forwards else self.own
        if listens:
            listener.listen(self.protocol, self.service.port)
        if forwards:
            if self.column.ours_forwards:
                self.port = self.own.forward(self.protocol, self._kubos_address())
            else:
                self.kubo.connect(self.own.addresses[0])
                self.port = self.kubo.forward(self.protocol, self.own.peer_id)

    def _kubos_address(self) -> str:
        parts = {"tcp": "/tcp/", "quic": "/quic-v1/", "ws": "/ws/"}
        for address in self.kubo.addresses:
            if parts[self.column.transport] in address and ("/ws/" in address) == (self.column.transport == "ws"):
                return address
        raise Failure("Kubo does not listen: %s" % self.kubo.addresses)

    def last_words(self) -> str:
        """What our node has said of late."""
        said = [event["message"] for event in self.own.events() if event.get("message")]
        return "our node: %s" % (" | ".join(said[-4:]) or "nothing")

    def close(self) -> None:
        self.own.close()
        self.service.close()


def talk(tunnel: Tunnel, server: Callable[..., None], client: Callable[..., None], clients: int = 1) -> None:
    with tunnel.service.up(server):
        with ThreadPoolExecutor(clients) as pool:
            for job in [pool.submit(one_client, tunnel.port, client) for _ in range(clients)]:
                job.result()


def one_client(port: int, client: Callable[..., None]) -> None:
    with client_of(port) as end:
        client(end)


def echo(tunnel: Tunnel) -> str:
    talk(tunnel, echo_server, echo_client)
    return "ok"


def greeting(tunnel: Tunnel) -> str:
    talk(tunnel, greeting_server, greeting_client)
    return "ok"


def transfer(tunnel: Tunnel, upload: bool) -> str:
    what = Transfer(SIZE, upload)
    started = time.monotonic()
    talk(tunnel, what.server, what.client)
    return "%d MiB/s" % (SIZE / (time.monotonic() - started))


def crowd(tunnel: Tunnel) -> str:
    what = Crowd(CLIENTS)
    talk(tunnel, what.server, what.client, CLIENTS)
    return "ok"


def target_down(tunnel: Tunnel) -> str:
    seen = "eof"
    try:
        # The reset may come before the system says that it is connected.
        with client_of(tunnel.port) as end:
            end.settimeout(REFUSED)
            if end.recv(1):
                raise Failure("without a target the client got something")
    except ConnectionResetError:
        seen = "reset"
    except (TimeoutError, socket.timeout):
        raise Failure("without a target the client saw nothing for %d s" % REFUSED) from None
    if tunnel.column.ours_forwards and seen != "reset":
        raise Failure("our node made an end of file of the refusal")
    echo(tunnel)
    return "ok (%s)" % seen


def recovers(tunnel: Tunnel) -> str:
    """Clients come until one is served."""
    deadline, attempts = time.monotonic() + RECOVERY, 0
    while True:
        attempts += 1
        try:
            echo(tunnel)
            return "ok" if attempts == 1 else "ok at no. %d" % attempts
        except (OSError, Failure) as error:
            if time.monotonic() > deadline:
                raise Failure("not recovered after %d s and %d clients: %s" % (RECOVERY, attempts, error)) from None


def kubo_restarts(tunnels: list[Tunnel]) -> None:
    tunnels[0].kubo.restart()
    for tunnel in tunnels:
        tunnel.open(ours=False)


def own_restarts(tunnels: list[Tunnel]) -> None:
    for tunnel in tunnels:
        tunnel.own.restart()
        tunnel.open(kubos=False)


Row = tuple[str, Callable[[list[Tunnel]], None], Callable[[Tunnel], str]]
ROWS: list[Row] = [
    ("echo", lambda _: None, echo),
    ("the server speaks first", lambda _: None, greeting),
    ("%d MiB up" % SIZE, lambda _: None, lambda tunnel: transfer(tunnel, True)),
    ("%d MiB down" % SIZE, lambda _: None, lambda tunnel: transfer(tunnel, False)),
    ("%d clients at once" % CLIENTS, lambda _: None, crowd),
    ("target down and back", lambda _: None, target_down),
    ("Kubo restarts", kubo_restarts, recovers),
    ("our node restarts", own_restarts, recovers),
]


class Table:
    """The rows for one Kubo with one kind of key."""

    def __init__(self, kubo: Path, kind: str, columns: list[Column], folder: Path) -> None:
        self.name = "%s, %s" % (kubo.parent.name, kind)
        self.columns = columns
        self.cells: dict[tuple[str, Column], str] = {}
        self.failures: list[str] = []
        self._kubo, self._kind, self._folder = kubo, kind, folder

    def run(self) -> None:
        started = time.monotonic()
        try:
            with contextlib.ExitStack() as stack:
                self._run(stack)
        except Failure as failure:
            self.failures.append("%s: %s" % (self.name, failure))
        self.seconds = time.monotonic() - started

    def _run(self, stack: contextlib.ExitStack) -> None:
        repository = self._folder / "kubo"
        repository.mkdir(parents=True)
        addresses = ",".join(LISTEN[transport] for transport in dict.fromkeys(c.transport for c in self.columns))
        kubo = stack.enter_context(Kubo(self._kubo, repository, addresses, identity=identities.make(self._kind)))
        tunnels = []
        for column in self.columns:
            tunnel = Tunnel(kubo, self._folder, column)
            stack.callback(tunnel.close)
            tunnel.open()
            tunnels.append(tunnel)
        for name, prepare, check in ROWS:
            prepare(tunnels)
            for tunnel in tunnels:
                tunnel.own.events()
                try:
                    text = check(tunnel)
                except (OSError, Failure) as error:
                    text = "FAILED"
                    where = "%s, %s" % (tunnel.column.name, name)
                    self.failures.append("%s: %s; %s" % (where, error or type(error).__name__, tunnel.last_words()))
                self.cells[name, tunnel.column] = text

    def show(self) -> None:
        print()
        print(" ".join(["%-30s" % self.name, *("%-14s" % column.name for column in self.columns)]))
        for name, _, _ in ROWS:
            texts = [self.cells.get((name, column), "-") for column in self.columns]
            print(" ".join(["%-30s" % ("  " + name), *("%-14s" % text for text in texts)]), flush=True)
        print("  %d s" % self.seconds, flush=True)
        for failure in self.failures:
            print("  FAILED: %s" % failure)


def main() -> int:
    if len(sys.argv) < 3:
        print((__doc__ or "").split("\n\n")[1].strip(), file=sys.stderr)
        return 2
    os.environ["P2PMOUNT_NETWORK"] = "local"
    started = time.monotonic()
    found = columns()
    turn = threading.Lock()
    with tempfile.TemporaryDirectory(prefix="matrix-", dir=sys.argv[1]) as folder:
        tables = [
            [
                Table(Path(kubo).resolve(), kind, found, Path(folder).resolve() / str(number) / kind)
                for kind in identities.KINDS
            ]
            for number, kubo in enumerate(sys.argv[2:])
        ]

        def run(of_one_kubo: list[Table]) -> None:
            for table in of_one_kubo:
                table.run()
                with turn:
                    table.show()

        with ThreadPoolExecutor(len(tables)) as pool:
            for job in [pool.submit(run, of_one_kubo) for of_one_kubo in tables]:
                job.result()
    failed = sum(len(table.failures) for of_one_kubo in tables for table in of_one_kubo)
    print("\nmatrix: %d s, %s" % (time.monotonic() - started, "%d failures" % failed if failed else "all right"))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
