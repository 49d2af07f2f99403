"""Calls that wait for the network. Each is an operation of the library, which goes on in the background until the event
of its end: so a blocking call can be interrupted by a signal, an asynchronous one by the cancellation of its task."""

from __future__ import annotations

import asyncio
from ctypes import byref, c_uint64
from typing import Callable, Dict, List, Optional, TypeVar

from ._error import BadHandleError, Error, TimedOutError, error_from_row
from ._library import Start, call, library
from ._queue import Descriptor, Queue
from ._rows import Row
from .constants import CloseFlag, Code, EventKind

T = TypeVar("T")

#: What becomes of the mount that an operation made, or of 0.
Result = Callable[[int], T]

# An operation that was cancelled ends at once; this is for a library that does not keep its word.
_CANCELLED_MS = 5000


def run(node: int, operation: c_uint64, start: Start, result: Result[T]) -> T:
    """Runs an operation and waits for its end. Whatever interrupts it, also between the calls of the library, nothing
    of the operation is left."""
    queue = Queue()
    # Empty until the operation has ended.
    rows: List[Row] = []
    try:
        queue.open(node, EventKind.OPERATION)
        # Whether there is a descriptor left shows before anything has begun.
        queue.descriptor()
        start(operation)
        _wait_end(operation.value, queue, -1, rows)
        # Not in a finally: interrupted there, the result would be lost.
        queue.close()
        return result(_mount(rows[0]))
    except BaseException:
        if operation.value:
            try:
                if not rows:
                    cancel(operation.value)
                    _wait_end(operation.value, queue, _CANCELLED_MS, rows)
                discard(rows[0])
            except Error:
                pass
        queue.close()
        raise


def _wait_end(operation: int, queue: Queue, timeout_ms: int, rows: List[Row]) -> None:
    """Stores the event of its end. Not as a result: one that was on its way would be lost by a signal."""

    def store(row: Row) -> None:
        if row.get("operation") == operation:
            rows.append(row)

    while not rows:
        queue.take(timeout_ms, store)


def _mount(row: Row) -> int:
    error = error_from_row(row)
    if error is not None:
        raise error
    return int(row.get("mount", 0))


def cancel(operation: int) -> None:
    """Ends an operation early; one that has ended stays as it is."""
    try:
        call("p2p_operation_cancel", operation)
    except BadHandleError:
        # It has ended; the event of that is on its way.
        pass


def discard(row: Row) -> None:
    """An operation that ended well when nobody wanted it any more leaves nothing behind."""
    close_mount(int(row.get("mount", 0)))


def close_mount(mount: int) -> None:
    """Closes a mount that nobody got to see."""
    if mount:
        library().p2p_mount_close(mount, CloseFlag.STREAMS, None)


class Dispatcher:
    """The ends of a node's operations in one event loop, from one queue, which is there only while operations are."""

    def __init__(self, node: int, loop: asyncio.AbstractEventLoop) -> None:
        self.users = 0
        self.waiting: Dict[int, asyncio.Future[Row]] = {}
        self._loop = loop
        self._queue = Queue()
        self._descriptor: Optional[Descriptor] = None
        try:
            self._queue.open(node, EventKind.OPERATION)
            self._descriptor = self._queue.new_descriptor()
            loop.add_reader(self._descriptor.number, self.drain)
        except BaseException:
            self.close()
            raise

    def drain(self) -> None:
        """Hands out what is there."""
        try:
            while True:
                self._queue.take_now(self._hand_out)
        except TimedOutError:
            pass
        except Error as error:
            # No end of an operation can come any more.
            self._stop_reading()
            for future in self.waiting.values():
                if not future.done():
                    future.set_exception(error)
            self.waiting.clear()

    def _hand_out(self, row: Row) -> None:
        future = self.waiting.pop(int(row.get("operation", 0)), None)
        if future is None:
            return
        if self._loop.is_closed():
            discard(row)
        elif not future.done():
            future.set_result(row)

    def end(self, operation: int, future: asyncio.Future[Row]) -> None:
        """Ends an operation for which no task can wait any more."""
        cancel(operation)
        self.waiting.setdefault(operation, future)
        try:
            while operation in self.waiting and not future.done():
                self._queue.take(_CANCELLED_MS, self._hand_out)
        except Error:
            # The node is closed, and the operation with it.
            pass
        self.waiting.pop(operation, None)
        if future.done() and future.exception() is None:
            discard(future.result())

    def abandon(self) -> None:
        """Its loop was closed, so no task waits for these operations any more."""
        for operation, future in list(self.waiting.items()):
            self.end(operation, future)
        self.close()

    def close(self) -> None:
        self._stop_reading()
        if self._descriptor is not None:
            self._descriptor.close()
        self._queue.close()

    def __del__(self) -> None:
        self._queue.close()

    def _stop_reading(self) -> None:
        if self._descriptor is not None and self._descriptor.number >= 0 and not self._loop.is_closed():
            self._loop.remove_reader(self._descriptor.number)


#: The dispatchers of one node.
Dispatchers = Dict[asyncio.AbstractEventLoop, Dispatcher]


def abandon_closed(dispatchers: Dispatchers) -> None:
    """Ends what loops that were closed have left."""
    for loop in list(dispatchers):
        if loop.is_closed():
            dispatcher = dispatchers.pop(loop, None)
            if dispatcher is not None:
                dispatcher.abandon()


async def run_async(node: int, dispatchers: Dispatchers, operation: c_uint64, start: Start, result: Result[T]) -> T:
    """:func:`run` for a task: when it is cancelled, the operation is, and nothing is left of it when the task ends."""
    loop = asyncio.get_running_loop()
    abandon_closed(dispatchers)
    dispatcher: Optional[Dispatcher] = dispatchers.get(loop)
    if dispatcher is None:
        dispatcher = dispatchers[loop] = Dispatcher(node, loop)
    dispatcher.users += 1
    future: asyncio.Future[Row] = loop.create_future()
    try:
        start(operation)
        dispatcher.waiting[operation.value] = future
        # Unlike awaiting the future, this leaves it alone when the task is cancelled.
        await asyncio.wait([future])
        return result(_mount(future.result()))
    except Error:
        raise
    except asyncio.CancelledError:
        cancel(operation.value)
        while not future.done():
            try:
                await asyncio.wait([future])
            except asyncio.CancelledError:
                continue
        if future.exception() is None:
            discard(future.result())
        raise
    except BaseException:
        # The coroutine is closed and cannot wait any more, or a signal came.
        if operation.value:
            dispatcher.end(operation.value, future)
        raise
    finally:
        dispatcher.users -= 1
        if dispatcher.users == 0:
            if dispatchers.get(loop) is dispatcher:
                del dispatchers[loop]
            dispatcher.close()


def start_close(node: int) -> None:
    """Closes a node in the background, for a finalizer, which cannot wait. A closed one, or the parent's, stays as it
    is."""
    lib = library()
    status = lib.p2p_node_close_start(node, 0, byref(c_uint64()), None)
    if status not in (Code.OK, Code.CLOSED, Code.BAD_HANDLE, Code.FORKED):
        # One that has failed, where there is nothing to wait for.
        lib.p2p_node_close(node, 0, None)
