"""The classes of ``kubo_python``: programs written for its P2P stream mounting run with only the import changed.

>>> from p2pmount.kubo_python import IPFSNode, IPFSP2P
>>> with IPFSNode.ephemeral() as node:
...     p2p = IPFSP2P(node)
...     p2p.listen("my-protocol", "127.0.0.1:8080")
...     listeners, streams = p2p.list_listeners()
...     print(listeners[0].protocol, listeners[0].target_address)
...     p2p.close("my-protocol")
True
/x/my-protocol 127.0.0.1:8080
True

What is different: addresses may be written as ``127.0.0.1:8080`` (and as multiaddrs, too), the reason of a False is
kept as ``last_error`` and logged to the logger ``p2pmount.kubo_python``, and :meth:`IPFSP2P.close` regards its address
and peer. Peers are not looked for: a peer id is enough once the node is connected with the peer, in either direction;
otherwise give one of the peer's addresses, as ``get_addrs()`` of its node lists them. There are no files and no pubsub.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from types import TracebackType
from typing import List, Mapping, Optional, Tuple, Type, TypeVar, Union

from ._arguments import Address, Duration
from ._error import BadHandleError, Error, NotFoundError
from ._options import OptionValue
from .constants import ListKind
from .node import Node

__all__ = ["IPFSNode", "IPFSP2P", "P2PMapping", "P2PStream"]

_log = logging.getLogger(__name__)

Self = TypeVar("Self", bound="IPFSNode")

#: Where a persistent node keeps its key; None for one that is not.
Path = Union[None, str, "os.PathLike[str]"]

#: File of the key in the directory of a persistent node.
KEY_FILE = "key"

#: Seconds for connecting with a peer.
CONNECT_TIMEOUT = 30


def open_node(repo_path: Path, online: bool, options: Optional[Mapping[str, OptionValue]] = None) -> Node:
    """A node whose key is in the directory ``repo_path``, or new; not ``online``: one that no peer can connect to."""
    given = dict(options or {})
    if repo_path is not None:
        os.makedirs(repo_path, mode=0o700, exist_ok=True)
        given.setdefault("identity.file", os.path.join(repo_path, KEY_FILE))
    if not online:
        given["listen.addresses"] = ""
    return Node(given)


def peer_filter(peer: str) -> str:
    """A peer id in any form as the filter of a close."""
    return f"/p2p/{peer.strip().rpartition('/')[2]}"


class IPFSNode:
    """A node of the network. With ``repo_path`` its key is kept in that directory, which is made (mode 0700) if it is
    missing; without, key and peer id are new each time. Not ``online``, it does not listen. ``enable_pubsub`` is
    accepted and does nothing. ``options`` are those of :class:`p2pmount.Node`."""

    def __init__(
        self,
        repo_path: Path = None,
        online: bool = True,
        enable_pubsub: bool = True,
        *,
        options: Optional[Mapping[str, OptionValue]] = None,
    ) -> None:
        self._online = online
        #: Why the last call that returned False did.
        self.last_error: Optional[Error] = None
        #: The node itself, with all that the library can do.
        self.node = open_node(repo_path, online, options)

    @classmethod
    def ephemeral(cls: Type[Self], online: bool = True, enable_pubsub: bool = True) -> Self:
        """A node with a new key, of which nothing is kept."""
        return cls(None, online, enable_pubsub)

    @property
    def peer_id(self) -> str:
        """The node's peer id."""
        return self.node.peer_id

    def get_addrs(self) -> List[str]:
        """The node's addresses: full multiaddrs, as another node's ``connect_to_peer`` takes them."""
        return self.node.addresses

    def connect_to_peer(self, peer_addr: str, timeout: Duration = CONNECT_TIMEOUT) -> bool:
        """Connects to a peer. False if that fails, with the reason in ``last_error``; RuntimeError if not online."""
        if not self._online:
            raise RuntimeError("Cannot connect to peers in offline mode")
        try:
            self.node.connect(peer_addr, timeout)
        except Error as error:
            self.last_error = error
            _log.warning("connect_to_peer: %s", error)
            return False
        return True

    def close(self) -> None:
        """Closes the node and all that it has. A second time does nothing."""
        self.node.close()

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.node.__exit__(kind, error, trace)

    def __str__(self) -> str:
        state = "closed" if self.node.closed else "online" if self._online else "offline"
        return f"IPFSNode(peer_id={self.peer_id}, {state})"


@dataclass(frozen=True)
class P2PMapping:
    """A forward or a listener: a protocol tied to addresses."""

    protocol: str
    listen_address: str
    target_address: str

    def __str__(self) -> str:
        return f"{self.protocol}: {self.listen_address} -> {self.target_address}"


@dataclass(frozen=True)
class P2PStream:
    """A live stream."""

    protocol: str
    origin_address: str
    target_address: str

    def __str__(self) -> str:
        return f"{self.protocol}: {self.origin_address} -> {self.target_address}"


class IPFSP2P:
    """Exposes and reaches services through an :class:`IPFSNode`. What fails returns False; ``last_error`` says why."""

    def __init__(self, node: IPFSNode) -> None:
        self._node = node
        #: Why the last call that returned False did: an exception, with ``code`` and the sentence.
        self.last_error: Optional[Error] = None
        self.enable()

    def enable(self) -> bool:
        """Whether the node is in use; there is nothing to enable."""
        if self._node.node.closed:
            return self._failed("enable", BadHandleError("the node is closed"))
        return True

    def listen(self, protocol: str, target_addr: Address) -> bool:
        """Exposes the local service at ``target_addr`` under ``protocol``."""
        try:
            self._node.node.listen(protocol, target_addr)
        except Error as error:
            return self._failed("listen", error)
        return True

    def forward(self, protocol: str, listen_addr: Address, target_peer_id: str) -> bool:
        """Ties ``listen_addr`` to ``protocol`` of a peer."""
        try:
            self._node.node.forward(protocol, listen_addr, target_peer_id)
        except Error as error:
            return self._failed("forward", error)
        return True

    def close(self, protocol: str, listen_addr: Address = "", target_peer_id: str = "") -> bool:
        """Closes what is mounted under ``protocol``, with its streams; an address and a peer restrict it to the
        forwards that have them. True if anything was closed."""
        try:
            closed = self._node.node.close_mounts(
                protocol,
                listen=listen_addr if listen_addr != "" else None,
                target=peer_filter(target_peer_id) if target_peer_id else None,
                streams=True,
            )
        except Error as error:
            return self._failed("close", error)
        if closed == 0:
            given = " ".join(str(each) for each in (protocol, listen_addr, target_peer_id) if each != "")
            return self._failed("close", NotFoundError(f"nothing is mounted that fits {given}"))
        return True

    def list_listeners(self) -> Tuple[List[P2PMapping], List[P2PStream]]:
        """Forwards and listeners, in this order, and the live streams."""
        try:
            listing = self._node.node.list(ListKind.FORWARDS | ListKind.LISTENERS | ListKind.STREAMS)
        except Error as error:
            self._failed("list_listeners", error)
            return [], []
        mounts = [P2PMapping(row.protocol, row.listen, row.target) for row in listing.mounts]
        return mounts, [P2PStream(row.protocol, row.origin, row.target) for row in listing.streams]

    def _failed(self, what: str, error: Error) -> bool:
        self.last_error = error
        _log.warning("%s: %s", what, error)
        return False

    def __str__(self) -> str:
        return f"IPFSP2P({self._node})"
