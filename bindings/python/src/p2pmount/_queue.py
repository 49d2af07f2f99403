"""A queue of events of the library. Waiting is done on its descriptor, so that signals such as Ctrl+C are heard."""

from __future__ import annotations

import os
import select
import time
from ctypes import byref, c_int
from typing import Any, Callable, Optional

from ._error import BadHandleError, ClosedError, TimedOutError
from ._library import call, free, made
from ._rows import Row
from ._rows import event as read_event


class Descriptor:
    """Readable while events wait or none can come any more. Closed when nobody refers to it any more: a thread that
    still polls it never polls a number that means something else by now."""

    def __init__(self, queue: int) -> None:
        self.number = -1
        number = c_int()
        call("p2p_queue_fd", queue, byref(number))
        self.number = number.value

    def close(self) -> None:
        """At once, for who knows that nobody else uses it."""
        number, self.number = self.number, -1
        if number >= 0:
            os.close(number)

    def __del__(self, _close: Callable[[int], None] = os.close) -> None:
        if self.number >= 0:
            _close(self.number)


class Queue:
    """The library's queue. Any number of threads may take from it."""

    def __init__(self, node: int, kinds: int, options: int = 0) -> None:
        self.handle = 0
        self._descriptor: Optional[Descriptor] = None
        self.handle = made("p2p_subscribe", node, kinds, options)

    def take_now(self) -> Row:
        """The next event; TimedOutError if there is none, ClosedError if none can come any more."""
        handle = self.handle
        try:
            return read_event(made("p2p_next_event", handle, 0))
        except BadHandleError:
            # Whether this thread saw the close or came after it is all the same here.
            raise ClosedError("the queue was closed") from None

    def take(self, timeout_ms: int) -> Row:
        """The next event, waiting for it; -1 is for ever."""
        deadline = None if timeout_ms < 0 else time.monotonic() + timeout_ms / 1000
        while True:
            try:
                return self.take_now()
            except TimedOutError:
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    raise
            self._wait(left)

    def _wait(self, seconds: Optional[float]) -> None:
        descriptor = self.descriptor()
        try:
            poll = select.poll()
            poll.register(descriptor.number, select.POLLIN)
            poll.poll(None if seconds is None else seconds * 1000 + 1)
        finally:
            # An exception that somebody keeps must not keep the descriptor.
            del descriptor

    def descriptor(self) -> Descriptor:
        """The queue's descriptor, made when it is first needed."""
        descriptor = self._descriptor
        if descriptor is None:
            descriptor = self._descriptor = self.new_descriptor()
        return descriptor

    def new_descriptor(self) -> Descriptor:
        """Another descriptor, which says the same."""
        try:
            return Descriptor(self.handle)
        except BadHandleError:
            raise ClosedError("the queue was closed") from None

    def close(self) -> None:
        """Ends the queue and wakes who waits on it. Never blocks."""
        handle, self.handle = self.handle, 0
        self._descriptor = None
        if handle:
            free("p2p_queue_close", handle)

    def __del__(self, _free: Callable[[str, int], Any] = free) -> None:
        if self.handle:
            _free("p2p_queue_close", self.handle)
