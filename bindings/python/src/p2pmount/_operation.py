"""Calls that wait for the network. Each is an operation of the library, which goes on in the background until the event
of its end: so a blocking call can be interrupted by a signal, an asynchronous one by the cancellation of its task."""

from __future__ import annotations

import asyncio
from ctypes import byref, c_uint64
from typing import Dict, Optional

from ._error import BadHandleError, ClosedError, Error, TimedOutError, error_from_row
from ._library import Start, call, library
from ._queue import Descriptor, Queue
from ._rows import Row
from .constants import CloseFlag, EventKind

# An operation that was cancelled ends at once; this is for a library that does not keep its word.
_CANCELLED_MS = 5000


def run(node: int, start: Start) -> int:
    """Runs an operation and waits for its end. Returns the mount that it made, or 0."""
    queue = Queue(node, EventKind.OPERATION)
    try:
        operation = start()
        try:
            return _mount(_end_of(operation, queue, -1))
        except Error:
            raise
        except BaseException:
            _cancel(operation)
            try:
                _discard(_end_of(operation, queue, _CANCELLED_MS))
            except (TimedOutError, ClosedError):
                pass
            raise
    finally:
        queue.close()


def _end_of(operation: int, queue: Queue, timeout_ms: int) -> Row:
    while True:
        row = queue.take(timeout_ms)
        if row.get("operation") == operation:
            return row


def _mount(row: Row) -> int:
    error = error_from_row(row)
    if error is not None:
        raise error
    return int(row.get("mount", 0))


def _cancel(operation: int) -> None:
    try:
        call("p2p_operation_cancel", operation)
    except BadHandleError:
        # It has ended; the event of that is on its way.
        pass


def _discard(row: Row) -> None:
    """An operation that ended well when nobody wanted it any more leaves nothing behind."""
    mount = row.get("mount", 0)
    if mount:
        library().p2p_mount_close(mount, CloseFlag.STREAMS, None)


class Dispatcher:
    """The ends of a node's operations in one event loop, from one queue, which is there only while operations are."""

    def __init__(self, node: int, loop: asyncio.AbstractEventLoop) -> None:
        self.users = 0
        self.waiting: Dict[int, asyncio.Future[Row]] = {}
        self._loop = loop
        self._queue = Queue(node, EventKind.OPERATION)
        self._descriptor: Descriptor = self._queue.new_descriptor()
        loop.add_reader(self._descriptor.number, self.drain)

    def drain(self) -> None:
        """Hands out what is there."""
        try:
            while True:
                row = self._queue.take_now()
                future = self.waiting.pop(int(row.get("operation", 0)), None)
                if future is not None and not future.done():
                    future.set_result(row)
        except TimedOutError:
            pass
        except Error as error:
            # No end of an operation can come any more.
            self._stop_reading()
            for future in self.waiting.values():
                if not future.done():
                    future.set_exception(error)
            self.waiting.clear()

    def close(self) -> None:
        self._stop_reading()
        self._descriptor.close()
        self._queue.close()

    def _stop_reading(self) -> None:
        if not self._loop.is_closed() and self._descriptor.number >= 0:
            self._loop.remove_reader(self._descriptor.number)


#: The dispatchers of one node.
Dispatchers = Dict[asyncio.AbstractEventLoop, Dispatcher]


async def run_async(node: int, dispatchers: Dispatchers, start: Start) -> int:
    """:func:`run` for a task: when it is cancelled, the operation is, and nothing is left of it when the task ends."""
    loop = asyncio.get_running_loop()
    dispatcher: Optional[Dispatcher] = dispatchers.get(loop)
    if dispatcher is None:
        dispatcher = dispatchers[loop] = Dispatcher(node, loop)
    dispatcher.users += 1
    try:
        operation = start()
        future: asyncio.Future[Row] = loop.create_future()
        dispatcher.waiting[operation] = future
        try:
            # Unlike awaiting the future, this leaves it alone when the task is cancelled.
            await asyncio.wait([future])
        except asyncio.CancelledError:
            _cancel(operation)
            while not future.done():
                try:
                    await asyncio.wait([future])
                except asyncio.CancelledError:
                    continue
            if future.exception() is None:
                _discard(future.result())
            raise
        except BaseException:
            # The coroutine is closed and cannot wait any more.
            _cancel(operation)
            dispatcher.drain()
            if future.done() and future.exception() is None:
                _discard(future.result())
            raise
        return _mount(future.result())
    finally:
        dispatcher.users -= 1
        if dispatcher.users == 0:
            del dispatchers[loop]
            dispatcher.close()


def start_close(node: int) -> None:
    """Closes a node in the background, for a finalizer, which cannot wait. A closed one, or the parent's, stays as it
    is."""
    library().p2p_node_close_start(node, 0, byref(c_uint64()), None)
