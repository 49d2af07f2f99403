"""Listeners and forwards."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, List, Optional, Type, TypeVar

from ._error import BadHandleError, Error, ForkedError, NotFoundError
from ._library import Unique, call, text_of
from ._options import OptionValue
from ._prototypes import ADDRESS_SIZE
from .constants import CloseFlag, ListKind
from .rows import ForwardRow, ListenerRow, MountRow, Setting, StreamRow, get_setting, listing, set_option

if TYPE_CHECKING:
    from .node import Node

M = TypeVar("M", bound=MountRow)
Self = TypeVar("Self", bound="Mount[Any]")


class Mount(Unique, Generic[M]):
    """A listener or a forward. It belongs to its node, which closes it at the latest; dropping this object does not.

    Each property asks the library anew; :meth:`info` has them all, of one moment.
    """

    _row: Type[M]
    _kind: ListKind

    def __init__(self, node: Node, handle: int) -> None:
        self._node = node
        self._handle = handle
        self._closed = False

    @property
    def node(self) -> Node:
        """The node that it belongs to."""
        return self._node

    @property
    def id(self) -> int:
        """The number of this mount in the field ``mount`` of streams and events."""
        return self._handle

    @property
    def address(self) -> str:
        """The local address: where clients connect to a forward, with its real port, or the target of a listener."""
        return text_of("p2p_mount_address", self._handle, ADDRESS_SIZE)

    def info(self) -> M:
        """State, last error and counters, all of one moment."""
        rows = listing(self._handle, self._kind).of_kind(self._row)
        if not rows:
            raise NotFoundError(f"{self._name()} is not in the list any more")
        return rows[0]

    @property
    def protocol(self) -> str:
        """The protocol name with its prefix, such as ``/x/web``."""
        return self.info().protocol

    @property
    def state(self) -> str:
        """``listening``; of a forward ``idle``, ``connecting``, ``connected`` or ``disconnected``. Or ``failed``."""
        return self.info().state

    @property
    def error(self) -> Optional[Error]:
        """The last error, None if there was none. It is an exception that can be looked at or raised."""
        return self.info().last_error

    @property
    def bytes_in(self) -> int:
        """Bytes that came from the network."""
        return self.info().bytes_in

    @property
    def bytes_out(self) -> int:
        """Bytes that went to the network."""
        return self.info().bytes_out

    @property
    def streams_total(self) -> int:
        """Streams since it was made."""
        return self.info().streams_total

    def streams(self) -> List[StreamRow]:
        """Its live streams."""
        return listing(self._handle, ListKind.STREAMS).streams

    def set(self, name: str, value: OptionValue) -> None:
        """Changes an option that can be changed in use, for example ``peers.allow``."""
        set_option(self._handle, name, value)

    def get(self, name: str) -> Setting:
        """The value of an option in force, and where it came from."""
        return get_setting(self._handle, name)

    def close(self, streams: bool = False) -> None:
        """Closes it and returns when its port is free; a second time does nothing. Its live streams run on, or are
        reset with ``streams=True``."""
        if self._closed:
            return
        try:
            call("p2p_mount_close", self._handle, CloseFlag.STREAMS if streams else 0)
        except BadHandleError:
            # With its node, or by Node.close_mounts.
            pass
        self._closed = True

    @property
    def closed(self) -> bool:
        """Whether :meth:`close` was called."""
        return self._closed

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        try:
            self.close()
        except ForkedError:
            # The parent's, which goes on there.
            pass

    def __repr__(self) -> str:
        if self._closed:
            return f"<{self._name()} closed>"
        try:
            row = self.info()
        except Error:
            return f"<{self._name()}>"
        return f"<{self._name()} {row.protocol} {row.listen} -> {row.target} {row.state}>"

    def _name(self) -> str:
        return f"p2pmount.{type(self).__name__} {self._handle}"


class Listener(Mount[ListenerRow]):
    """Exposes a local service; :meth:`Node.listen` makes it."""

    _row = ListenerRow
    _kind = ListKind.LISTENERS

    @property
    def target(self) -> str:
        """The address of the local service."""
        return self.address

    @property
    def access(self) -> str:
        """Who is admitted: "open to all", or how many peers are allowed and denied."""
        return self.info().access


class Forward(Mount[ForwardRow]):
    """Ties a local address to a protocol of a peer; :meth:`Node.forward` makes it."""

    _row = ForwardRow
    _kind = ListKind.FORWARDS

    @property
    def peer(self) -> str:
        """The peer id of the other side."""
        return self.info().peer
