"""What happens on a node, as an iterator and as an asynchronous iterator."""

from __future__ import annotations

import asyncio
import datetime
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Optional, Type, Union

from ._arguments import Default, Duration, milliseconds
from ._error import ClosedError, Error, TimedOutError, error_from_row
from ._library import Unique
from ._queue import Queue
from .rows import Row

if TYPE_CHECKING:
    from .node import Node


@dataclass(frozen=True)
class Event(Row):
    """An event. Which fields it has depends on its ``kind``; those that it lacks are "", 0 or None."""

    #: The kind as a bit of :class:`EventKind`; newer libraries have more.
    event: int = 0
    #: Its number in its queue, from 1. A gap is what was lost.
    sequence: int = 0
    #: When, in milliseconds since 1970 (UTC).
    time_ms: int = 0
    #: The mount's ``id``, 0 for none.
    mount: int = 0
    #: The stream's ``id``.
    stream: Optional[int] = None
    #: The operation that ended.
    operation: int = 0
    protocol: str = ""
    listen: str = ""
    target: str = ""
    origin: str = ""
    peer: str = ""
    address: str = ""
    state: str = ""
    direction: str = ""
    transport: str = ""
    path: str = ""
    #: How the stream ended.
    reason: str = ""
    bytes_in: int = 0
    bytes_out: int = 0
    code: int = 0
    system_error: int = 0
    flags: int = 0
    message: str = ""
    #: How many events were lost.
    count: int = 0

    @property
    def time(self) -> datetime.datetime:
        """When it happened."""
        return datetime.datetime.fromtimestamp(self.time_ms / 1000, datetime.timezone.utc)

    @property
    def error(self) -> Optional[Error]:
        """What failed, as an exception that can be looked at or raised."""
        return error_from_row(self.fields)


class Events(Unique):
    """A node's events from the moment this was made; :meth:`Node.events` makes it.

    Iterating waits for the next event, in a ``for`` or an ``async for`` loop, and ends when the node or this object is
    closed, which another thread may do at any time. Several threads or tasks may share it: each event goes to one.

    >>> import p2pmount
    >>> with p2pmount.Node() as node, node.events(p2pmount.EventKind.MOUNT) as events:
    ...     mount = node.listen("web", 8080)
    ...     event = events.get(timeout=5)
    >>> event.kind, event.state, event.protocol
    ('mount', 'listening', '/x/web')
    """

    def __init__(self, node: Node, queue: Queue, timeout: Duration = None) -> None:
        self._node = node
        self._queue = queue
        self._timeout_ms = milliseconds(timeout, "timeout")

    def get(self, timeout: Union[Duration, Default] = Default.TIMEOUT) -> Event:
        """The next event. :exc:`TimedOutError` if none came in time (None: for ever, 0: only one that is there already;
        not given: the timeout of :meth:`Node.events`), :exc:`ClosedError` if none can come any more. What was queued
        before the node was closed still comes."""
        return self._queue.take(self._limit(timeout), Event.from_fields)

    async def get_async(self, timeout: Union[Duration, Default] = Default.TIMEOUT) -> Event:
        """:meth:`get` for a task."""
        return await self._get_async(self._limit(timeout))

    def _limit(self, timeout: Union[Duration, Default]) -> int:
        return self._timeout_ms if isinstance(timeout, Default) else milliseconds(timeout, "timeout")

    async def _get_async(self, timeout_ms: int) -> Event:
        loop = asyncio.get_running_loop()
        deadline = None if timeout_ms < 0 else loop.time() + timeout_ms / 1000
        while True:
            try:
                return self._queue.take_now(Event.from_fields)
            except TimedOutError:
                left = None if deadline is None else deadline - loop.time()
                if left is not None and left <= 0:
                    raise
            await self._readable(loop, left)

    async def _readable(self, loop: asyncio.AbstractEventLoop, seconds: Optional[float]) -> None:
        # A descriptor of its own: tasks and loops that share this object do not take each other's reader away.
        descriptor = self._queue.new_descriptor()
        waiter: asyncio.Future[None] = loop.create_future()

        def wake() -> None:
            loop.remove_reader(descriptor.number)
            if not waiter.done():
                waiter.set_result(None)

        loop.add_reader(descriptor.number, wake)
        try:
            await asyncio.wait([waiter], timeout=seconds)
        finally:
            if not loop.is_closed():
                loop.remove_reader(descriptor.number)
            descriptor.close()

    def fileno(self) -> int:
        """A descriptor for poll, select or an event loop of another kind: readable while events wait or no more can
        come. It belongs to this object; its bytes mean nothing."""
        return self._queue.descriptor().number

    def close(self) -> None:
        """Ends it; whoever waits sees the end. From any thread, any number of times."""
        self._queue.close()

    @property
    def closed(self) -> bool:
        """Whether :meth:`close` was called."""
        return self._queue.handle == 0

    def __del__(self) -> None:
        self._queue.close()

    def __iter__(self) -> Events:
        return self

    def __next__(self) -> Event:
        try:
            return self._queue.take(self._timeout_ms, Event.from_fields)
        except ClosedError:
            raise StopIteration from None

    def __aiter__(self) -> Events:
        return self

    async def __anext__(self) -> Event:
        try:
            return await self._get_async(self._timeout_ms)
        except ClosedError:
            raise StopAsyncIteration from None

    def __enter__(self) -> Events:
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.close()

    async def __aenter__(self) -> Events:
        return self

    async def __aexit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.close()
