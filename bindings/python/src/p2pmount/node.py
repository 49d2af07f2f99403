"""A node of the network."""

from __future__ import annotations

import asyncio
import atexit
import os
import time
import warnings
import weakref
from ctypes import byref, c_size_t, c_uint64
from types import TracebackType
from typing import Callable, List, Mapping, Optional, Type

from . import _operation
from ._arguments import Address, Duration, Peer, address_text, flags, milliseconds, peer_text
from ._error import BadHandleError, CancelledError, ClosedError, Error, ForkedError, InvalidArgumentError
from ._library import Start, Unique, call, encoded, make, text_of
from ._options import OptionValue, option_set
from ._prototypes import ADDRESS_SIZE, PEER_ID_SIZE
from ._queue import Queue
from .constants import CloseFlag, EventKind, ListKind
from .events import Events
from .mount import Forward, Listener
from .rows import Listing, Setting, get_setting, listing, set_option

#: What :meth:`Node.list` lists unless it is told.
EVERYTHING = (
    ListKind.LISTENERS | ListKind.FORWARDS | ListKind.STREAMS | ListKind.PEERS | ListKind.ADDRESSES | ListKind.NODE
)

Options = Optional[Mapping[str, OptionValue]]

# The longest time between two looks whether a node is closed that another thread closes, in seconds.
_SLICE = 0.05


class Node(Unique):
    """A node: opened when made, closed by ``with``, by :meth:`close`, or at the latest when the program ends.

    Options are given by name: in a mapping, or as keywords in which underscores stand for dots and dashes. All methods
    may be called from all threads.

    >>> import p2pmount
    >>> with p2pmount.Node({"open.timeout": "5s"}, transports=["tcp"]) as node:
    ...     node.get("open.timeout").value, node.peer_id.startswith("12D3KooW")
    ('5s', True)
    """

    def __init__(self, options: Options = None, **keywords: OptionValue) -> None:
        self._cell = c_uint64()
        self._closed = False
        self._process = os.getpid()
        self._dispatchers: _operation.Dispatchers = {}
        # The closes that are under way.
        self._closing: List[c_uint64] = []
        try:
            with option_set(options, keywords) as given:
                make(self._cell, "p2p_node_open", given)
            self._peer_id = text_of("p2p_node_peer_id", self._handle, PEER_ID_SIZE)
            _open_nodes.add(self)
        except BaseException:
            self._closed = True
            if self._handle:
                _operation.start_close(self._handle)
            raise

    @property
    def _handle(self) -> int:
        return self._cell.value

    @property
    def peer_id(self) -> str:
        """The node's peer id, such as ``"12D3KooW..."``."""
        return self._peer_id

    @property
    def address(self) -> str:
        """The node's listening addresses in one text, as :meth:`forward` and :meth:`connect` of another node take it:
        full multiaddrs, comma separated; the bare peer id if the node does not listen."""
        return text_of("p2p_node_address", self._handle, ADDRESS_SIZE)

    @property
    def addresses(self) -> List[str]:
        """The node's listening addresses: full multiaddrs, none if the node only dials."""
        return [row.address for row in listing(self._handle, ListKind.ADDRESSES).addresses]

    # Mounts

    def listen(self, protocol: str, target: Address, options: Options = None, **keywords: OptionValue) -> Listener:
        """Exposes a local service: streams that peers open for ``protocol`` are connected to ``target``, each by a
        connection of its own. Contacts nobody.

        >>> import p2pmount
        >>> with p2pmount.Node() as node, node.listen("web", ("127.0.0.1", 8080), peers_allow=[]) as listener:
        ...     listener.address, listener.state, listener.access
        ('127.0.0.1:8080', 'listening', 'open to nobody')
        """
        name, text = encoded(protocol, "protocol"), address_text(target, "target")
        mount = c_uint64()
        try:
            with option_set(options, keywords) as given:
                make(mount, "p2p_listen", self._handle, name, text, given)
            return Listener(self, mount.value)
        except BaseException:
            _operation.close_mount(mount.value)
            raise

    def forward(
        self, protocol: str, listen: Address, peer: Peer, options: Options = None, **keywords: OptionValue
    ) -> Forward:
        """Ties a local address to a protocol of a peer: each client that connects to ``listen`` (port 0: a free one,
        which ``address`` tells) gets a stream of its own to the peer.

        Dials the peer when the first client comes. With ``verify=True`` it does so now, and fails if the peer cannot be
        reached or does not offer the protocol.

        >>> import p2pmount
        >>> with p2pmount.Node() as server, p2pmount.Node() as client:
        ...     forward = client.forward("web", 0, server.address)
        ...     forward.address.startswith("127.0.0.1:"), forward.state, forward.peer == server.peer_id
        (True, 'idle', True)
        """
        start = self._start_forward(protocol, listen, peer, options, keywords)
        return _operation.run(self._handle, c_uint64(), start, lambda mount: Forward(self, mount))

    async def forward_async(
        self, protocol: str, listen: Address, peer: Peer, options: Options = None, **keywords: OptionValue
    ) -> Forward:
        """:meth:`forward` for a task. When the task is cancelled, nothing of the forward is left."""
        start = self._start_forward(protocol, listen, peer, options, keywords)
        return await _operation.run_async(
            self._handle, self._dispatchers, c_uint64(), start, lambda mount: Forward(self, mount)
        )

    def _start_forward(
        self, protocol: str, listen: Address, peer: Peer, options: Options, keywords: Mapping[str, OptionValue]
    ) -> Start:
        name, text, to = encoded(protocol, "protocol"), address_text(listen, "listen"), peer_text(peer)

        def start(operation: c_uint64) -> None:
            with option_set(options, keywords) as given:
                make(operation, "p2p_forward_start", self._handle, name, text, to, given)

        return start

    def close_mounts(
        self,
        protocol: Optional[str] = None,
        listen: Optional[Address] = None,
        target: Optional[Address] = None,
        *,
        all: bool = False,
        listeners: bool = False,
        forwards: bool = False,
        streams: bool = False,
    ) -> int:
        """Closes every mount that fits all filters given, and returns how many there were.

        ``listen`` is a forward's listen address, or ``"/p2p/"`` and the own peer id for listeners; ``target`` is a
        listener's target, or ``"/p2p/"`` and a peer id for forwards. ``all=True`` stands for no filter. ``listeners``
        and ``forwards`` restrict it to one kind, ``streams`` also resets the live streams of what is closed.

        >>> import p2pmount
        >>> with p2pmount.Node() as node:
        ...     mounts = node.listen("a", 8080), node.listen("b", 8080)
        ...     node.close_mounts("a"), node.close_mounts(all=True), node.close_mounts(all=True)
        (1, 1, 0)
        """
        flags = CloseFlag(0)
        for flag, wanted in (
            (CloseFlag.ALL, all),
            (CloseFlag.LISTENERS, listeners),
            (CloseFlag.FORWARDS, forwards),
            (CloseFlag.STREAMS, streams),
        ):
            if wanted:
                flags |= flag
        closed = c_size_t()
        call(
            "p2p_close",
            self._handle,
            None if protocol is None else encoded(protocol, "protocol"),
            None if listen is None else address_text(listen, "listen"),
            None if target is None else address_text(target, "target"),
            flags,
            byref(closed),
        )
        return closed.value

    def close_stream(self, id: int) -> None:
        """Resets one stream at both ends; ``id`` is that of its row. :exc:`NotFoundError` if it has ended."""
        call("p2p_stream_close", self._handle, id)

    # Lists and events

    def list(self, what: int = EVERYTHING) -> Listing:
        """What the node has at this moment: any of :class:`ListKind`. Never waits for a peer."""
        return listing(self._handle, flags(what, "what", ListKind))

    def events(self, kinds: int = EventKind.ALL, *, timeout: Duration = None, **keywords: OptionValue) -> Events:
        """The node's events from now on, of the :class:`EventKind` asked for. ``timeout`` is the longest time that an
        iteration, or :meth:`Events.get`, waits for one event before it raises :exc:`TimedOutError`; keywords are
        options of the queue."""
        milliseconds(timeout, "timeout")
        flags(kinds, "kinds", EventKind)
        queue = Queue()
        try:
            with option_set(None, keywords) as given:
                queue.open(self._handle, kinds, given)
            return Events(self, queue, timeout)
        except BaseException:
            queue.close()
            raise

    # Peers and options

    def connect(self, peer: Peer, timeout: Duration = None) -> None:
        """Connects to a peer and remembers its addresses for as long as the node lives. Returns when it is connected,
        at once if it is already. ``timeout`` is in seconds; None waits for ever, 0 only looks.

        >>> import p2pmount
        >>> with p2pmount.Node() as server, p2pmount.Node() as client:
        ...     client.connect(server.addresses, timeout=10)
        ...     [row.peer == server.peer_id for row in client.list().peers]
        [True]
        """
        text, timeout_ms = peer_text(peer), milliseconds(timeout, "timeout")
        _operation.run(
            self._handle,
            c_uint64(),
            lambda operation: make(operation, "p2p_connect_start", self._handle, text, timeout_ms),
            bool,
        )

    async def connect_async(self, peer: Peer, timeout: Duration = None) -> None:
        """:meth:`connect` for a task; cancelling the task gives up the dial."""
        text, timeout_ms = peer_text(peer), milliseconds(timeout, "timeout")
        await _operation.run_async(
            self._handle,
            self._dispatchers,
            c_uint64(),
            lambda operation: make(operation, "p2p_connect_start", self._handle, text, timeout_ms),
            bool,
        )

    def set(self, name: str, value: OptionValue) -> None:
        """Changes an option that can be changed in use, for the node and those of its mounts that have no value of
        their own."""
        set_option(self._handle, name, value)

    def get(self, name: str) -> Setting:
        """The value of an option in force, and where it came from."""
        return get_setting(self._handle, name)

    # The end

    def close(self, drain: Duration = 0) -> None:
        """Closes the node with all its mounts and returns when the local ports are free; a second time does nothing.

        Streams may take ``drain`` seconds to finish (None: as long as they take, 0: none); what is left is reset. Data
        that was not delivered is never followed by a clean end of file.
        """
        if self._closed:
            return
        drain_ms = milliseconds(drain, "drain")
        _operation.abandon_closed(self._dispatchers)
        start, operation = self._start_close(drain_ms), c_uint64()
        self._closing.append(operation)
        try:
            _operation.run(self._handle, operation, start, bool)
        except Error as error:
            if self._goes_on(error, start, operation):
                self._wait_closed()
        finally:
            self._closing.remove(operation)
        self._closed = True

    async def close_async(self, drain: Duration = 0) -> None:
        """:meth:`close` for a task. Cancelling the task ends the draining: the node is closed all the same."""
        if self._closed:
            return
        drain_ms = milliseconds(drain, "drain")
        start, operation = self._start_close(drain_ms), c_uint64()
        self._closing.append(operation)
        try:
            await _operation.run_async(self._handle, self._dispatchers, operation, start, bool)
        except Error as error:
            if self._goes_on(error, start, operation):
                await self._wait_closed_async()
        finally:
            self._closing.remove(operation)
        self._closed = True

    def _start_close(self, drain_ms: int) -> Start:
        return lambda operation: make(operation, "p2p_node_close_start", self._handle, drain_ms)

    def _goes_on(self, error: Error, start: Start, operation: c_uint64) -> bool:
        """What to do when a close failed; True if the node is being closed and that may take its time."""
        if isinstance(error, (ForkedError, InvalidArgumentError)):
            raise error
        if isinstance(error, (BadHandleError, CancelledError)):
            # Closed before, or now with its draining cut short.
            return False
        if isinstance(error, ClosedError):
            # Another thread is closing it.
            return True
        try:
            # There was no descriptor left to be woken by.
            start(operation)
            return True
        except ClosedError:
            return True
        except BadHandleError:
            return False
        except Error:
            # The node has failed. It has nothing to wait for.
            try:
                call("p2p_node_close", self._handle, 0)
            except BadHandleError:
                pass
            return False

    def _end_draining(self) -> None:
        for operation in list(self._closing):
            if operation.value:
                _operation.cancel(operation.value)

    def _is_gone(self) -> bool:
        try:
            text_of("p2p_node_peer_id", self._handle, PEER_ID_SIZE)
        except BadHandleError:
            return True
        return False

    def _wait_closed(self, hurry: bool = False) -> None:
        # Not in the library, where a signal would not be heard.
        pause = 0.001
        try:
            while not self._is_gone():
                if hurry:
                    self._end_draining()
                time.sleep(pause)
                pause = min(2 * pause, _SLICE)
        except BaseException:
            self._end_draining()
            raise

    async def _wait_closed_async(self) -> None:
        pause = 0.001
        try:
            while not self._is_gone():
                await asyncio.sleep(pause)
                pause = min(2 * pause, _SLICE)
        except BaseException:
            self._end_draining()
            raise

    @property
    def closed(self) -> bool:
        """Whether the node was closed by :meth:`close`."""
        return self._closed

    def __enter__(self) -> Node:
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        try:
            self.close()
        except ForkedError:
            # The parent's, which goes on there.
            pass

    async def __aenter__(self) -> Node:
        return self

    async def __aexit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        try:
            await self.close_async()
        except ForkedError:
            pass

    def __del__(self, _warn: Callable[..., None] = warnings.warn) -> None:
        if self._handle and not self._closed and self._process == os.getpid():
            _warn(f"{self!r} was never closed", ResourceWarning, source=self)
            # A finalizer runs at any time on any thread, so this one does not wait.
            _operation.start_close(self._handle)

    def __repr__(self) -> str:
        return f"<p2pmount.Node {getattr(self, '_peer_id', '')}{' closed' if self._closed else ''}>"


_open_nodes: weakref.WeakSet[Node] = weakref.WeakSet()


@atexit.register
def _close_at_exit() -> None:
    """Peers learn at once that a program ends, not when their pings fail. Not the nodes of a parent process."""
    nodes = [node for node in list(_open_nodes) if not node._closed and node._process == os.getpid()]
    for node in nodes:
        # Another thread may be draining it, for ever perhaps.
        node._end_draining()
        _operation.start_close(node._handle)
    for node in nodes:
        try:
            node._wait_closed(hurry=True)
        except Error:
            pass
