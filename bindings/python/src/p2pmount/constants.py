"""The numbers of include/p2pmount.h. The tests hold them against the header."""

from __future__ import annotations

from enum import IntEnum, IntFlag


class Code(IntEnum):
    """What kind of failure it was: ``P2P_OK`` and the ``P2P_ERROR_`` codes.

    >>> from p2pmount import Code
    >>> Code.ADDRESS_IN_USE.value
    8
    """

    OK = 0
    INVALID_ARGUMENT = 1
    BAD_HANDLE = 2
    BAD_OPTION = 3
    BAD_ADDRESS = 4
    BAD_PROTOCOL = 5
    BAD_PEER = 6
    BAD_KEY = 7
    ADDRESS_IN_USE = 8
    ALREADY_REGISTERED = 9
    NOT_FOUND = 10
    UNREACHABLE = 11
    PROTOCOL_REFUSED = 12
    TARGET_REFUSED = 13
    TIMED_OUT = 14
    CANCELLED = 15
    CLOSED = 16
    LIMIT = 17
    RESET = 18
    FORKED = 19
    SYSTEM = 20
    INTERNAL = 21


class ErrorFlag(IntFlag):
    """``P2P_ERROR_FLAG_``: more about a failure."""

    TEMPORARY = 1
    TIMED_OUT = 2


class ListKind(IntFlag):
    """``P2P_LIST_``: what to list."""

    LISTENERS = 1
    FORWARDS = 2
    STREAMS = 4
    PEERS = 8
    ADDRESSES = 16
    NODE = 32
    OPTIONS = 64
    PROCESS = 128


class CloseFlag(IntFlag):
    """``P2P_CLOSE_``: what to close."""

    ALL = 1
    LISTENERS = 2
    FORWARDS = 4
    STREAMS = 8


class EventKind(IntFlag):
    """``P2P_EVENT_``: kinds of events, combined with ``|``.

    >>> from p2pmount import EventKind
    >>> int(EventKind.STREAM_OPENED | EventKind.STREAM_CLOSED)
    6
    """

    MOUNT = 1
    STREAM_OPENED = 2
    STREAM_CLOSED = 4
    TARGET_REFUSED = 8
    REFUSED = 16
    PEER = 32
    ADDRESS = 64
    OPERATION = 128
    NODE = 256
    OVERFLOW = 512
    ALL = 2147483647
