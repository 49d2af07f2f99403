"""One run of a row through a pair of nodes, and what is to be said of it."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Optional, Union

from child import Failure
from frames import FrameLog, Wire
from pair import PROTOCOL, Pair, accept, connect
from rows import Cut, Row, Side
from verdict import our_faults, short, to_its_side, to_us

# Seconds: for one run, for the frames that end a stream.
RUN, FRAMES = 90, 5
#: Runs until the log of one is whole.
ATTEMPTS = 3


@dataclass
class Run:
    """One run of a cell."""

    near: Side
    far: Side
    wire: Optional[Wire]
    #: What our node did wrong, or what went wrong in the test.
    faults: list[str]
    #: For each side that saw something else than it had to: how, and what Kubo did to it by the frames.
    lost: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def __str__(self) -> str:
        parts = [str(self.near), str(self.far), str(self.wire or "no stream")]
        for what, deeds in self.lost:
            parts.append("%s: %s" % (what, " and ".join(deeds.values()) or "no reason in the frames"))
        return "; ".join([*self.faults, *parts])


def run_logged(pair: Pair, row: Union[Row, Cut]) -> Run:
    """A run of which the log has everything. A log that lost lines, or has a stream too many, proves nothing."""
    for _ in range(ATTEMPTS):
        dropped = pair.own.log_dropped()
        try:
            run = run_once(pair, row)
        except Ambiguous as ambiguous:
            why = str(ambiguous)
        else:
            if pair.own.process.poll() is not None or pair.own.log_dropped() == dropped:
                return run
            why = "the frame log lost lines"
        if isinstance(row, Cut):
            # The pair is no more what it was.
            break
        print("%-14s %s: once more, %s" % (pair.column.name, row.name, why))
    raise Failure(why)


def run_once(pair: Pair, row: Union[Row, Cut]) -> Run:
    """One run of a row through a pair of nodes, with its verdict."""
    pair.log.read()
    known = set(pair.log.streams)
    changed = threading.Condition()
    client, server = Side("the client", changed), Side("the server", changed)
    over = threading.Event()
    beginnings = (functools.partial(connect, pair.port), functools.partial(accept, pair.server, over.is_set))
    threads = [
        threading.Thread(target=client.run, args=(beginnings[0], row.client, server), daemon=True),
        threading.Thread(target=server.run, args=(beginnings[1], row.server, client), daemon=True),
    ]
    for thread in threads:
        thread.start()
    faults: list[str] = []
    if isinstance(row, Cut):
        with changed:
            if not changed.wait_for(lambda: row.under_way(client, server), 20):
                faults.append("the transfer did not get under way")
        do_cut(pair, row.what)
    deadline = time.monotonic() + RUN
    near, far = (client, server) if pair.column.ours_forwards else (server, client)
    while (alive := [thread for thread in threads if thread.is_alive()]) and time.monotonic() < deadline:
        alive[0].join(0.05)
        pair.log.read()
        streams = pair.log.new_streams(known)
        if client.gone or any(wire.over for wire in streams):
            over.set()
        if far.gone and any(wire.stalled for wire in streams):
            near.give_up()
    hanging = [side for side, thread in zip((client, server), threads) if thread.is_alive()]
    faults += ["%s did not come to its end within %d s" % (side, RUN) for side in hanging]
    faults += [side.trouble for side in (client, server) if side.trouble]
    return verdict(pair, row, known, client, server, faults)


def verdict(
    pair: Pair, row: Union[Row, Cut], known: set[tuple[int, int]], client: Side, server: Side, faults: list[str]
) -> Run:
    near, far = (client, server) if pair.column.ours_forwards else (server, client)
    near.name += " (ours)"
    far.name += " (Kubo's)"
    what = row.what if isinstance(row, Cut) else ""
    killed = what == "our node is killed"

    def is_settled(wire: Wire) -> bool:
        return wire.over or (wire.stalled and near.reset_at is None)

    wire = the_stream(pair.log, known, bool(what), is_settled, 0 if killed else FRAMES)
    if killed and wire is not None:
        # Its log cannot say so.
        wire.lost = True
    if wire is None and pair.column.ours_forwards:
        faults.append("our node opened no stream")
    if not killed:
        faults += our_faults(near, wire, closed=what == "our node is closed")
    if isinstance(row, Cut):
        near_sees, far_sees = row.near_sees, row.far_sees
    else:
        near_sees, far_sees = row.client_sees, row.server_sees
        if not pair.column.ours_forwards:
            near_sees, far_sees = far_sees, near_sees
    run = Run(near, far, wire, faults)
    for side, seen, deeds in ((near, near_sees, to_us), (far, far_sees, to_its_side)):
        if lost := short(side, seen):
            run.lost.append((lost, deeds(near, far, wire)))
    return run


class Ambiguous(Exception):
    """The log does not tell which stream was this run's."""


def the_stream(
    log: FrameLog, known: set[tuple[int, int]], cut: bool, is_settled: Callable[[Wire], bool], patience: float
) -> Optional[Wire]:
    """What the log has of this run's stream, once nothing more is to come. A cut comes after its opening."""
    deadline = time.monotonic() + patience
    while True:
        log.read()
        found = log.new_streams(known)[: 1 if cut else None]
        if (found and all(map(is_settled, found))) or time.monotonic() > deadline:
            break
        time.sleep(0.002)
    if len(found) > 1:
        raise Ambiguous("%d streams were opened meanwhile: %s" % (len(found), "; ".join(map(str, found))))
    if not found:
        return None
    found[0].carries(PROTOCOL)
    return found[0]


def do_cut(pair: Pair, what: str) -> None:
    if what == "Kubo is killed":
        pair.kubo.kill()
    elif what == "our node is killed":
        pair.own.kill()
    elif what == "Kubo shuts down":
        pair.kubo.shut_down()
    elif what == "our node is closed":
        pair.own.shut_down()
    elif pair.relay is not None:
        pair.relay.cut()
