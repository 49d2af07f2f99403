"""What people pass, as the text and numbers that the library takes."""

from __future__ import annotations

import math
import os
from datetime import timedelta
from enum import Enum, IntFlag
from ipaddress import IPv4Address, IPv6Address
from typing import Iterable, Tuple, Type, Union

from ._error import InvalidArgumentError
from ._library import encoded

#: A local address: a port of 127.0.0.1, text such as ``"127.0.0.1:8080"``, ``"[::1]:8080"``, ``"unix:/run/s"`` or a
#: multiaddr, a pair of host and port, or the path of a Unix socket.
Address = Union[int, str, Tuple[object, ...], "os.PathLike[str]"]

#: A peer: an id or multiaddrs, as one text or several.
Peer = Union[str, Iterable[str]]

#: Seconds, or a timedelta; None is for ever.
Duration = Union[int, float, timedelta, None]


class Default(Enum):
    """What stands for an argument that was not given, where None is one that can be."""

    TIMEOUT = "the timeout of the events"


def address_text(address: Address, what: str) -> bytes:
    """A local address for the library.

    >>> address_text(8080, "target"), address_text(("::1", 80), "target")
    (b'8080', b'[::1]:80')
    """
    if isinstance(address, str):
        return encoded(address, what)
    if isinstance(address, int) and not isinstance(address, bool):
        return b"%d" % address
    if isinstance(address, tuple):
        return encoded(_pair(address, what), what)
    if isinstance(address, os.PathLike):
        return encoded(f"unix:{os.fsdecode(address)}", what)
    raise TypeError(
        f"{what} must be a port, text such as '127.0.0.1:8080', a pair (host, port) or a pathlib.Path,"
        f" not {type(address).__name__}"
    )


def _pair(address: Tuple[object, ...], what: str) -> str:
    # Four items is what a socket of IPv6 calls its address.
    if len(address) in (2, 4):
        host, port = address[:2]
        named = isinstance(host, (str, IPv4Address, IPv6Address))
        if named and isinstance(port, int) and not isinstance(port, bool):
            if host == "":
                raise InvalidArgumentError(f"{what} has an empty host; '0.0.0.0' stands for all interfaces")
            return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"
    raise TypeError(f"{what} must be a pair of host and port, such as ('127.0.0.1', 8080), not {address!r}")


def peer_text(peer: Peer) -> bytes:
    """A peer for the library: an iterable is joined.

    >>> peer_text(["/ip4/127.0.0.1/tcp/1/p2p/A", "/ip4/127.0.0.1/tcp/2/p2p/A"])
    b'/ip4/127.0.0.1/tcp/1/p2p/A,/ip4/127.0.0.1/tcp/2/p2p/A'
    """
    if isinstance(peer, str):
        return encoded(peer, "peer")
    if isinstance(peer, Iterable) and not isinstance(peer, (bytes, bytearray)):
        return b",".join(encoded(each, "an address of the peer") for each in peer)
    raise TypeError(f"peer must be a peer id, a multiaddr or several, not {type(peer).__name__}")


def flags(value: int, name: str, kind: Type[IntFlag]) -> int:
    """Values of ``kind`` that were combined with ``|``."""
    if isinstance(value, bool) or not isinstance(value, int):
        example = next(iter(kind))
        raise TypeError(
            f"{name} must be {kind.__name__} values combined with |, such as {kind.__name__}.{example.name}; "
            f"not {type(value).__name__}"
        )
    return int(value)


def milliseconds(duration: Duration, what: str) -> int:
    """A time for the library: -1 is for ever, fractions are rounded up.

    >>> milliseconds(1.5, "timeout"), milliseconds(timedelta(minutes=1), "timeout"), milliseconds(None, "timeout")
    (1500, 60000, -1)
    """
    if duration is None:
        return -1
    if isinstance(duration, timedelta):
        duration = duration.total_seconds()
    if isinstance(duration, bool) or not isinstance(duration, (int, float)):
        raise TypeError(f"{what} must be seconds, a timedelta or None, not {type(duration).__name__}")
    if duration == math.inf:
        return -1
    if not 0 <= duration * 1000 < 1 << 31:
        raise InvalidArgumentError(
            f"{what} is {duration} seconds; it must be from 0 to 2147483 seconds, or None for no limit"
        )
    return math.ceil(round(duration * 1000, 6))
