"""A queue of events of the library. Waiting is done on its descriptor, so that signals such as Ctrl+C are heard."""

from __future__ import annotations

import os
import select
import time
from collections import deque
from ctypes import byref, c_int, c_uint64
from typing import Callable, Deque, Dict, Optional, TypeVar, Union

from ._error import BadHandleError, ClosedError, TimedOutError
from ._library import Unique, call, free, make
from ._rows import Row
from ._rows import event as read_event

T = TypeVar("T")

# The longest time that poll takes.
_POLL_MS = (1 << 31) - 1


class Descriptor(Unique):
    """Readable while events wait or none can come any more. Closed when nobody refers to it any more: a thread that
    still polls it never polls a number that means something else by now."""

    _owner: Optional[select.epoll] = None

    def __init__(self, queue: int) -> None:
        number = c_int(-1)
        try:
            call("p2p_queue_fd", queue, byref(number))
        except BaseException:
            if number.value >= 0:
                os.close(number.value)
            raise
        # Only for its finalizer, which closes the number and is not Python: signals would be heard in that, and what
        # their handlers raise only printed.
        self._owner = select.epoll.fromfd(number.value)

    @property
    def number(self) -> int:
        """-1 when it is closed."""
        owner = self._owner
        return -1 if owner is None else owner.fileno()

    def close(self) -> None:
        """At once, for who knows that nobody else uses it."""
        # Not closed, which another thread could do while this number is asked for: nobody has it any more.
        self._owner = None


class Queue(Unique):
    """The library's queue. Any number of threads may take from it. Who opens it closes it."""

    def __init__(self) -> None:
        self._handle = c_uint64()
        self._descriptor: Dict[str, Descriptor] = {}
        # What a call had taken that a signal interrupted before it could return it: an event, or its row.
        self._back: Deque[Union[int, Row]] = deque()

    def open(self, node: int, kinds: int, options: int = 0) -> None:
        """Subscribes."""
        make(self._handle, "p2p_subscribe", node, kinds, options)

    @property
    def handle(self) -> int:
        """0 when it is closed."""
        return self._handle.value

    def take_now(self, read: Callable[[Row], T]) -> T:
        """The next event, as ``read`` makes it of its row; TimedOutError if there is none, ClosedError if none can come
        any more."""
        event = c_uint64()
        row: Optional[Row] = None
        try:
            back = self._back.popleft() if self._back else 0
            if isinstance(back, dict):
                row = back
            else:
                event.value = back
                if not back:
                    make(event, "p2p_next_event", self.handle, 0)
                row = read_event(event.value)
                free("p2p_event_free", event.value)
            return read(row)
        except BadHandleError:
            # Whether this thread saw the close or came after it is all the same here.
            raise ClosedError("the queue was closed") from None
        except BaseException:
            if row or event.value:
                self._back.appendleft(row or event.value)
            if row and event.value:
                free("p2p_event_free", event.value)
            raise

    def take(self, timeout_ms: int, read: Callable[[Row], T]) -> T:
        """The next event, waiting for it; -1 is for ever."""
        deadline = None if timeout_ms < 0 else time.monotonic() + timeout_ms / 1000
        while True:
            try:
                return self.take_now(read)
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
            poll.poll(None if seconds is None else min(seconds * 1000 + 1, _POLL_MS))
        finally:
            # An exception that somebody keeps must not keep the descriptor.
            del descriptor

    def descriptor(self) -> Descriptor:
        """The queue's descriptor, made when it is first needed."""
        descriptor = self._descriptor.get("")
        if descriptor is None:
            # Of several threads that come here at once one makes the descriptor that is kept. (Not a lock, which a
            # forked child would find taken for ever.)
            descriptor = self._descriptor.setdefault("", self.new_descriptor())
        return descriptor

    def new_descriptor(self) -> Descriptor:
        """Another descriptor, which says the same."""
        try:
            return Descriptor(self.handle)
        except BadHandleError:
            raise ClosedError("the queue was closed") from None

    def close(self) -> None:
        """Ends the queue and wakes who waits on it. Never blocks."""
        handle, self._handle.value = self._handle.value, 0
        self._descriptor.clear()
        if handle:
            free("p2p_queue_close", handle)
        while self._back:
            back = self._back.popleft()
            if isinstance(back, int):
                free("p2p_event_free", back)
