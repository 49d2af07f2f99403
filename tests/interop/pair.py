"""A Kubo and a node of ours, connected, with a tunnel between them."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

import p2pmount
from child import Failure
from frames import FrameLog
from identities import Identity
from kubo import LISTEN, Kubo
from own import Own
from rows import NeverReached

PROTOCOL = "/x/data"
# Seconds for what nodes say to each other when they meet.
MEETING = 5


@dataclass(frozen=True)
class Column:
    """Who forwards to whom, and how."""

    ours_forwards: bool
    transport: str
    security: str

    @property
    def way(self) -> str:
        return "own>Kubo" if self.ours_forwards else "Kubo>own"

    @property
    def name(self) -> str:
        names = {"tcp": self.security, "quic": "QUIC", "ws": "/ws"}
        return "%s %s" % (self.way, names[self.transport])

    @property
    def file_name(self) -> str:
        return self.name.replace(">", "-").replace(" ", "-").replace("/", "")


def has_websocket() -> bool:
    """Whether the library has that transport."""
    try:
        p2pmount.Node(transports="ws", listen_addresses="").close()
    except p2pmount.BadOptionError:
        return False
    return True


def columns() -> list[Column]:
    """Either way, over every transport."""
    ways = [("tcp", "tls"), ("tcp", "noise"), ("quic", "tls")]
    if has_websocket():
        ways.append(("ws", "noise"))
    return [Column(ours, transport, security) for ours in (True, False) for transport, security in ways]


class Relay:
    """Passes TCP connections on until it is cut, which resets both of its ends."""

    def __init__(self, port: int) -> None:
        self._target = ("127.0.0.1", port)
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._socket.accept()
                far = socket.create_connection(self._target)
                self._open += [near, far]
                for ends in ((near, far), (far, near)):
                    threading.Thread(target=self._pass, args=ends, daemon=True).start()

    @staticmethod
    def _pass(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    def cut(self) -> None:
        self._socket.close()
        for connection in self._open:
            # The shutdown wakes the threads that use the socket.
            with contextlib.suppress(OSError):
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()


class Pair:
    """A Kubo and a node of ours, connected, with a tunnel between them."""

    def __init__(self, kubo: Path, folder: Path, column: Column, identity: Identity, relayed: bool = False) -> None:
        self.column = column
        folder.mkdir()
        (folder / "kubo").mkdir()
        self.server = socket.create_server(("127.0.0.1", 0))
        self.server.settimeout(0.05)
        target: int = self.server.getsockname()[1]
        self.relay: Optional[Relay] = None
        with contextlib.ExitStack() as stack:
            self.kubo = stack.enter_context(
                Kubo(kubo, folder / "kubo", LISTEN[column.transport], column.security, identity=identity)
            )
            self.own = stack.enter_context(
                Own(
                    folder / "own.log",
                    **{
                        "transports": column.transport,
                        "security": column.security,
                        "listen.addresses": LISTEN[column.transport],
                        # So that no other streams are opened than those of the tunnel.
                        "ping.interval": "1h",
                        "connections.per_peer": "1",
                        "reconnect": "false",
                    },
                )
            )
            self.log = FrameLog(folder / "own.log")
            if column.ours_forwards:
                self.kubo.listen(PROTOCOL, target)
                self.port = self.own.forward(PROTOCOL, self._path(self.kubo.addresses[0], relayed))
                self.own.connect(self.kubo.peer_id)
            else:
                self.own.listen(PROTOCOL, target)
                self.kubo.connect(self._path(self.own.addresses[0], relayed))
                self.port = self.kubo.forward(PROTOCOL, self.own.peer_id)
            self._warm_up()
            self._stack = stack.pop_all()

    def _warm_up(self) -> None:
        """One stream through the tunnel, so that the streams with which nodes get to know each other are over."""
        with connect(self.port) as client:
            client.sendall(b"?")
            with accept(self.server, lambda: False) as server:
                if server.recv(1) != b"?":
                    raise Failure("%s: the tunnel does not work" % self.column.name)
        deadline = time.monotonic() + MEETING
        while not self.log.quiet() or not self._saw_tunnel():
            if time.monotonic() > deadline:
                raise Failure("%s: the nodes have not come to rest in %d s" % (self.column.name, MEETING))
            time.sleep(0.005)

    def _saw_tunnel(self) -> bool:
        """Whether the stream of the warming up is in the log to its end."""
        for wire in self.log.new_streams(set()):
            wire.carries(PROTOCOL)
            if wire.over and 1 in (wire.sent.payload, wire.received.payload):
                return True
        return False

    def _path(self, address: str, relayed: bool) -> str:
        if not relayed:
            return address
        host, _, rest = address.partition("/tcp/")
        port, _, peer = rest.partition("/")
        self.relay = Relay(int(port))
        return "%s/tcp/%d/%s" % (host, self.relay.port, peer)

    def close(self) -> None:
        self._stack.close()
        self.server.close()
        if self.relay is not None:
            self.relay.cut()


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), 10)


def accept(server: socket.socket, over: Callable[[], bool], late: float = 1) -> socket.socket:
    """The connection of this run's client; once the client or its stream is `over` there may be none to come, and it is
    waited for only for so many seconds."""
    patience: Optional[float] = None
    while patience is None or time.monotonic() < patience:
        with contextlib.suppress(TimeoutError, socket.timeout):
            return server.accept()[0]
        if over():
            patience = patience or time.monotonic() + late
    raise NeverReached
