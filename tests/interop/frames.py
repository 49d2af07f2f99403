"""The frame log of a node (docs/troubleshooting.md), read while it is written: what went over the wire per stream."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Optional

TARGET = " TRACE p2pmount::frames "
VALUE = re.compile(r'(\w+)=("[^"]*"|\S*)')
#: What multistream-select says on a stream before the first byte of its own, each way: its name, then the protocol's.
GREETING = len("\x13/multistream/1.0.0\n")
#: What a stream of yamux may send before the first window update.
WINDOW = 256 * 1024


@dataclass
class Direction:
    """What was sent, or what was received."""

    #: All bytes, those of the negotiation included.
    total: int = 0
    #: What of them is the negotiation.
    negotiation: int = 0
    #: It ended with FIN, with RST or RESET_STREAM; whoever sends it wants no more either (RST, STOP_SENDING).
    fin: bool = False
    reset: bool = False
    stop: bool = False
    #: When it ended, in seconds since 1970.
    ended: Optional[float] = None

    @property
    def payload(self) -> int:
        """Bytes of the local side."""
        return max(0, self.total - self.negotiation)

    @property
    def over(self) -> bool:
        return self.fin or self.reset


@dataclass
class Wire:
    """A stream on the wire."""

    muxer: str
    connection: int
    stream: int
    sent: Direction = field(default_factory=Direction)
    received: Direction = field(default_factory=Direction)
    #: The ends in the order in which they were logged, as "sent FIN".
    ends: list[str] = field(default_factory=list)
    #: Bytes that may be sent (yamux).
    window: int = WINDOW
    lost: bool = False

    @property
    def by_dialler(self) -> bool:
        """Whether it was opened by the side that made the connection."""
        return self.stream % 2 == (1 if self.muxer == "yamux" else 0)

    @property
    def over(self) -> bool:
        """Nothing more can come."""
        out = self.sent.over or self.received.stop
        back = self.received.over or self.sent.stop
        return self.lost or (out and back)

    @property
    def stalled(self) -> bool:
        """The peer has ended its direction, and neither opens the window for ours nor says that it wants no more."""
        full = self.muxer == "yamux" and self.sent.total == self.window
        return full and self.received.fin and not (self.sent.fin or self.received.stop)

    def carries(self, protocol: str) -> None:
        """Leaves the negotiation of the protocol out of the payload."""
        for direction in (self.sent, self.received):
            direction.negotiation = GREETING + len("\x00%s\n" % protocol)

    def __str__(self) -> str:
        ends = ", ".join(self.ends) or "no end"
        numbers = (self.connection, self.stream, self.sent.payload, self.received.payload)
        return "connection %d stream %d: sent %d, received %d, " % numbers + ends


class FrameLog:
    """The log of one node."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.streams: dict[tuple[int, int], Wire] = {}
        self._position = 0
        self._rest = b""

    def read(self) -> None:
        """Takes in what was written since the last time."""
        with self.path.open("rb") as file:
            file.seek(self._position)
            new = file.read()
        self._position += len(new)
        *lines, self._rest = (self._rest + new).split(b"\n")
        for line in lines:
            when, found, text = line.decode().partition(TARGET)
            if found:
                self._take(when, text)

    def _take(self, when: str, text: str) -> None:
        muxer, what = text.split()[:2]
        values = {name: value.strip('"') for name, value in VALUE.findall(text)}
        key = (int(values["connection"]), int(values["stream"]))
        if values.get("kind") in ("ping", "go-away"):
            # The connection's.
            return
        wire = self.streams.setdefault(key, Wire(muxer, *key))
        if muxer == "quic":
            wire.received.total = int(values.get("bytes_in", 0))
            wire.sent.total = int(values.get("bytes_out", 0))
        if what == "lost":
            wire.lost = True
            wire.ends.append("lost")
        if "kind" not in values:
            return
        direction = wire.sent if what == "sent" else wire.received
        # What comes behind an end is no part of the stream: when its two loops race, Kubo sends data behind its FIN.
        if values["kind"] == "data" and not direction.over:
            direction.total += int(values["length"])
        if values["kind"] == "window" and what == "received" and "RST" not in values["flags"]:
            wire.window += int(values["length"])
        for kind in values["flags"].split("|") if muxer == "yamux" else [values["kind"]]:
            direction.fin |= kind == "FIN"
            direction.reset |= kind in ("RST", "RESET_STREAM")
            direction.stop |= kind in ("RST", "STOP_SENDING")
            if kind in ("FIN", "RST", "RESET_STREAM", "STOP_SENDING"):
                wire.ends.append("%s %s" % (what, kind))
            if kind in ("FIN", "RST", "RESET_STREAM") and direction.ended is None:
                direction.ended = datetime.strptime(when + "+0000", "%Y-%m-%dT%H:%M:%S.%fZ%z").timestamp()

    def open_streams(self) -> list[Wire]:
        return [wire for wire in self.streams.values() if not wire.over]

    def new_streams(self, known: set[tuple[int, int]]) -> list[Wire]:
        """Those that the dialler has opened since."""
        return [wire for key, wire in self.streams.items() if key not in known and wire.by_dialler]

    def quiet(self) -> bool:
        """Whether what nodes say to each other at the beginning is over; one stream is left for pings."""
        self.read()
        return len(self.open_streams()) <= 1
