"""What lists consist of: one dataclass for each kind of row.

Every field that the library has in a row is in ``fields``, by its name in docs/FIELDS.md, also those that a newer
library adds; the usual ones are attributes, too. A field that the row lacks is "" or 0.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Dict, Iterable, Iterator, List, Mapping, Optional, Tuple, Type, TypeVar, Union

from ._error import Error, error_from_row
from ._library import call, encoded
from ._options import OptionValue, option_text
from ._rows import Row as _Row
from ._rows import listed, setting

Value = Union[int, str]

R = TypeVar("R", bound="Row")


@dataclass(frozen=True)
class Row:
    """One row; also what a row of a kind newer than this package is."""

    kind: str = ""
    #: Everything that the library has in this row.
    fields: Mapping[str, Value] = field(default_factory=dict, repr=False, compare=False)

    def __getitem__(self, name: str) -> Value:
        """A field by its name.

        >>> import p2pmount
        >>> p2pmount.process()["version"] == p2pmount.version()
        True
        """
        return self.fields[name]

    @classmethod
    def from_fields(cls: Type[R], fields: _Row) -> R:
        """The row with these fields."""
        names = _attributes(cls)
        values: Dict[str, Any] = {name: value for name, value in fields.items() if name in names}
        return cls(**values, fields=MappingProxyType(dict(fields)))

    def __reduce__(self) -> Tuple[Any, ...]:
        return _from_fields, (type(self), dict(self.fields))


def _from_fields(cls: Type[R], fields: _Row) -> R:
    return cls.from_fields(fields)


_attribute_names: Dict[Type[Row], frozenset[str]] = {}


def _attributes(cls: Type[Row]) -> frozenset[str]:
    if cls not in _attribute_names:
        _attribute_names[cls] = frozenset(each.name for each in dataclasses.fields(cls)) - {"fields"}
    return _attribute_names[cls]


@dataclass(frozen=True)
class MountRow(Row):
    """What listeners and forwards have in common."""

    #: The library's handle of the mount, as in the field ``mount`` of streams and events.
    id: int = 0
    protocol: str = ""
    listen: str = ""
    target: str = ""
    state: str = ""
    #: Sentence of the last error, "" if there was none.
    error: str = ""
    error_code: int = 0
    #: Its ``errno``, or 0, and its ``P2P_ERROR_FLAG_`` bits.
    system_error: int = 0
    flags: int = 0
    #: Streams now, and since the mount was made.
    streams: int = 0
    streams_total: int = 0
    #: Of those that have ended: the peer reset them, or their connection was lost.
    streams_cut: int = 0
    #: Bytes that came from the network, and that went there.
    bytes_in: int = 0
    bytes_out: int = 0

    @property
    def last_error(self) -> Optional[Error]:
        """The last error, as an exception that can be looked at or raised."""
        return error_from_row(self.fields, "error_code", "error")


@dataclass(frozen=True)
class ListenerRow(MountRow):
    """A listener: ``target`` is the local service, ``access`` says who is admitted."""

    access: str = ""


@dataclass(frozen=True)
class ForwardRow(MountRow):
    """A forward: ``listen`` is its real local address, ``target`` is ``/p2p/`` and the peer id."""

    peer: str = ""
    all_interfaces: int = 0


@dataclass(frozen=True)
class StreamRow(Row):
    """A live stream; ``id`` is what :meth:`Node.close_stream` takes."""

    id: int = 0
    mount: int = 0
    #: ``"listener"`` or ``"forward"``.
    side: str = ""
    protocol: str = ""
    origin: str = ""
    target: str = ""
    peer: str = ""
    bytes_in: int = 0
    bytes_out: int = 0
    age_ms: int = 0
    path: str = ""
    transport: str = ""


@dataclass(frozen=True)
class PeerRow(Row):
    """A connected peer."""

    peer: str = ""
    address: str = ""
    direction: str = ""
    transport: str = ""
    path: str = ""
    connections: int = 0
    streams: int = 0
    #: Last round trip time in microseconds, -1 if not known yet.
    rtt_us: int = -1
    agent: str = ""
    age_ms: int = 0


@dataclass(frozen=True)
class AddressRow(Row):
    """A listening address of the node: a multiaddr that ends in its peer id."""

    address: str = ""


@dataclass(frozen=True)
class NodeRow(Row):
    """A node."""

    id: int = 0
    peer: str = ""
    state: str = ""
    network: str = ""
    listeners: int = 0
    forwards: int = 0
    streams: int = 0
    peers: int = 0
    connections: int = 0


@dataclass(frozen=True)
class OptionRow(Row):
    """An option that the library knows."""

    name: str = ""
    type: str = ""
    default: str = ""
    #: Where it may be given: process, node, listener, forward, queue.
    scope: str = ""
    live: int = 0
    secret: int = 0
    doc: str = ""


@dataclass(frozen=True)
class ProcessRow(Row):
    """The library in this process."""

    version: str = ""
    nodes: int = 0
    handles: int = 0
    threads: int = 0
    log_dropped: int = 0
    descriptors: int = 0
    descriptors_max: int = 0


@dataclass(frozen=True)
class Setting(Row):
    """The value of an option in force; ``source`` is default, environment, options or set."""

    name: str = ""
    value: str = ""
    source: str = ""

    def __str__(self) -> str:
        return self.value


_KINDS: Dict[str, Type[Row]] = {
    "listener": ListenerRow,
    "forward": ForwardRow,
    "stream": StreamRow,
    "peer": PeerRow,
    "address": AddressRow,
    "node": NodeRow,
    "option": OptionRow,
    "process": ProcessRow,
}


class Listing:
    """The rows of a list, as they were when it was made.

    >>> import p2pmount
    >>> with p2pmount.Node() as node:
    ...     mount = node.listen("web", 8080)
    ...     listing = node.list()
    >>> [(row.protocol, row.target) for row in listing.listeners]
    [('/x/web', '127.0.0.1:8080')]
    >>> listing.streams
    []
    """

    def __init__(self, rows: Iterable[Row]) -> None:
        #: All rows, forwards before listeners before streams.
        self.rows = tuple(rows)

    def of_kind(self, cls: Type[R]) -> List[R]:
        """The rows of one class."""
        return [row for row in self.rows if isinstance(row, cls)]

    @property
    def forwards(self) -> List[ForwardRow]:
        return self.of_kind(ForwardRow)

    @property
    def listeners(self) -> List[ListenerRow]:
        return self.of_kind(ListenerRow)

    @property
    def mounts(self) -> List[MountRow]:
        return self.of_kind(MountRow)

    @property
    def streams(self) -> List[StreamRow]:
        return self.of_kind(StreamRow)

    @property
    def peers(self) -> List[PeerRow]:
        return self.of_kind(PeerRow)

    @property
    def addresses(self) -> List[AddressRow]:
        return self.of_kind(AddressRow)

    @property
    def node(self) -> Optional[NodeRow]:
        return next(iter(self.of_kind(NodeRow)), None)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        return f"Listing({list(self.rows)!r})"


def listing(handle: int, what: int) -> Listing:
    """What the library lists of a node, a mount or the process."""
    return Listing(_KINDS.get(str(row.get("kind")), Row).from_fields(row) for row in listed(handle, what))


def set_option(handle: int, name: str, value: OptionValue) -> None:
    """Changes an option that can be changed in use."""
    text = option_text(value, name)
    call("p2p_set", handle, encoded(name, "the name of an option"), encoded(text, f"option {name}"))


def get_setting(handle: int, name: str) -> Setting:
    """The value of an option in force."""
    return Setting.from_fields(setting(handle, encoded(name, "the name of an option")))
