"""p2pmount: mounts TCP services on a libp2p network.

One program exposes a local service under a protocol name, another ties a local port to it by peer id:

>>> import p2pmount
>>> with p2pmount.Node() as server, p2pmount.Node() as client:
...     listener = server.listen("web", "127.0.0.1:8080")
...     forward = client.forward("web", "127.0.0.1:0", server.address)
...     forward.protocol
'/x/web'

Now whoever connects to ``forward.address`` talks to the service on port 8080 of the server's machine.
"""

from __future__ import annotations

from ._arguments import Address, Duration, Peer
from ._error import (
    AddressInUseError,
    AlreadyRegisteredError,
    BadAddressError,
    BadHandleError,
    BadKeyError,
    BadOptionError,
    BadPeerError,
    BadProtocolError,
    CancelledError,
    ClosedError,
    Error,
    ForkedError,
    InternalError,
    InvalidArgumentError,
    LimitError,
    NotFoundError,
    ProtocolRefusedError,
    ResetError,
    SystemCallError,
    TargetRefusedError,
    TimedOutError,
    UnreachableError,
)
from ._library import LibraryError, load_library, version
from ._options import OptionValue
from ._prototypes import ABI_VERSION
from .constants import CloseFlag, Code, ErrorFlag, EventKind, ListKind
from .events import Event, Events
from .mount import Forward, Listener, Mount
from .node import Node
from .process import export_key, options, process
from .process import get as get
from .process import set as set
from .rows import (
    AddressRow,
    ForwardRow,
    ListenerRow,
    Listing,
    MountRow,
    NodeRow,
    OptionRow,
    PeerRow,
    ProcessRow,
    Row,
    Setting,
    StreamRow,
)

# Not set and get: an import of everything must not replace the builtin.
__all__ = [
    "ABI_VERSION",
    "Address",
    "AddressInUseError",
    "AddressRow",
    "AlreadyRegisteredError",
    "BadAddressError",
    "BadHandleError",
    "BadKeyError",
    "BadOptionError",
    "BadPeerError",
    "BadProtocolError",
    "CancelledError",
    "CloseFlag",
    "ClosedError",
    "Code",
    "Duration",
    "Error",
    "ErrorFlag",
    "Event",
    "EventKind",
    "Events",
    "ForkedError",
    "Forward",
    "ForwardRow",
    "InternalError",
    "InvalidArgumentError",
    "LibraryError",
    "LimitError",
    "ListKind",
    "Listener",
    "ListenerRow",
    "Listing",
    "Mount",
    "MountRow",
    "Node",
    "NodeRow",
    "NotFoundError",
    "OptionRow",
    "OptionValue",
    "Peer",
    "PeerRow",
    "ProcessRow",
    "ProtocolRefusedError",
    "ResetError",
    "Row",
    "Setting",
    "StreamRow",
    "SystemCallError",
    "TargetRefusedError",
    "TimedOutError",
    "UnreachableError",
    "export_key",
    "load_library",
    "options",
    "process",
    "version",
]
