"""What Kubo loses, cell by cell: v0.22, and where v0.43 differs (CURRENT).

Kubo copies each direction in a loop of its own; what ends first, ends the whole: an end of file closes the local
connection and the stream, an error closes the one and resets the other, and the second loop then resets what the first
has closed. It never resets a local connection. That is where all of this comes from.

An entry says "always" or "sometimes" (a race in Kubo), and the words of which the frame log has to show one for each
side that did not see what it had to. In any other cell nothing may be lost at all.

Towards us, as it came over the wire:
  cut   FIN or a reset before its local side had given everything and ended
  rst   a reset after everything, in place of FIN
  fin   FIN for a reset of its local side
Towards its own side, where our frames were right:
  drop  it delivered less than we had sent before our FIN
  eof   it made an end of file of our reset, or of the lost connection
  both  it ended both ways when one had ended
  rst   it made a reset of our FIN
In either:
  stop  it took no more of what our side sent (RST, STOP_SENDING)
  stall the same, but it said nothing: it sent FIN and left our window as it was
"""

from __future__ import annotations

from pair import Column

DOWN = ("sometimes rst cut", "sometimes rst cut", "sometimes drop", "")
UP = ("sometimes drop", "", "sometimes rst cut", "sometimes rst cut stop")
EITHER_END_FIRST = "sometimes rst cut both stop stall drop eof"
EOF_TO_ITS_SERVER = ("always eof", "always eof", "", "")
EOF_TO_ITS_CLIENT = ("", "", "always eof", "always eof")

#: For each row: we forward over TCP, over QUIC; Kubo forwards over TCP, over QUIC.
LOSSES: dict[str, tuple[str, str, str, str]] = {
    "0 bytes down, the server closes at once": DOWN,
    "1 bytes down, the server closes at once": DOWN,
    "1,000 bytes down, the server closes at once": DOWN,
    "200,000 bytes down, the server closes at once": DOWN,
    "16,777,216 bytes down, the server closes at once": DOWN,
    "request, reply of 1,000, the server closes at once": DOWN,
    "request, reply of 200,000, the server closes at once": DOWN,
    "0 bytes up, the client closes at once": UP,
    "1 bytes up, the client closes at once": UP,
    "1,000 bytes up, the client closes at once": UP,
    "200,000 bytes up, the client closes at once": UP,
    "16,777,216 bytes up, the client closes at once": UP,
    "1 MiB both ways at once, then the client closes": UP,
    "0 up, the client half-closes, then the reply": (
        "sometimes rst cut",
        "sometimes rst cut",
        "sometimes rst cut",
        "sometimes rst cut stop",
    ),
    "1,000 up, the client half-closes, then the reply": (
        "always cut drop",
        "always cut drop",
        "always drop rst cut stop both",
        "always drop rst cut stop eof both",
    ),
    "200,000 up, the client half-closes, then the reply": (
        "always cut drop",
        "always cut drop",
        "always drop rst cut stop both",
        "always drop rst cut stop eof both",
    ),
    "the server half-closes, then the upload": (
        "always drop stop stall both rst cut",
        "always drop stop eof both rst cut",
        "always cut drop",
        "always cut",
    ),
    "the server half-closes during the upload": (
        "always both drop stop stall rst cut",
        "always both drop stop eof rst cut",
        "always cut rst drop",
        "always cut rst",
    ),
    "1 MiB both ways at once, each with its end": (
        EITHER_END_FIRST,
        EITHER_END_FIRST,
        EITHER_END_FIRST,
        EITHER_END_FIRST,
    ),
    "the client resets before the first byte": EOF_TO_ITS_SERVER,
    "the client resets after 1,000 bytes": EOF_TO_ITS_SERVER,
    "the client resets while it sends": EOF_TO_ITS_SERVER,
    "the client resets while it receives": ("", "", "sometimes fin stall", ""),
    "the client resets after its FIN": (
        "always both eof drop",
        "always both eof drop",
        "sometimes fin cut rst",
        "sometimes fin cut rst stop",
    ),
    "the server resets before the first byte": EOF_TO_ITS_CLIENT,
    "the server resets after 1,000 bytes": EOF_TO_ITS_CLIENT,
    "the server resets while it sends": EOF_TO_ITS_CLIENT,
    "the server resets while it receives": ("sometimes fin stall", "", "", ""),
    "the server resets after its FIN": (
        "sometimes fin cut rst",
        "sometimes fin cut rst",
        "always both eof drop",
        "always both eof drop",
    ),
    "our node is killed, the stream is idle": ("always eof", "always eof", "always eof", "always eof"),
    "our node is killed during a download": ("sometimes eof", "sometimes eof", "always eof", "always eof"),
    "our node is closed, the stream is idle": ("always eof", "always eof", "always eof", "always eof"),
    "our node is closed during a download": ("sometimes eof", "sometimes eof", "always eof", "always eof"),
    "the path is cut, the stream is idle": ("always eof", "", "always eof", ""),
    "the path is cut during a download": ("sometimes eof", "", "always eof", ""),
    "Kubo shuts down, the stream is idle": (
        "always both eof cut",
        "always eof cut",
        "always both eof cut",
        "always eof cut",
    ),
    "Kubo shuts down during a download": (
        "sometimes cut both eof",
        "sometimes cut eof",
        "always both eof stop stall",
        "always eof stop",
    ),
}


#: Where a current Kubo (v0.43) differs.
CURRENT: dict[str, tuple[str, str, str, str]] = {}

TABLES = (LOSSES, CURRENT)


def losses(row: str, column: Column, is_old: bool) -> tuple[str, set[str]]:
    """How often Kubo loses something in a cell, and the words for it."""
    place = (0 if column.ours_forwards else 2) + (1 if column.transport == "quic" else 0)
    cells = LOSSES.get(row, ("", "", "", ""))
    if not is_old:
        cells = CURRENT.get(row, cells)
    often, *words = cells[place].split() or ["never"]
    return often, set(words)
