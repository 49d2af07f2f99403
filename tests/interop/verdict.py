"""Who lost what: what both sides saw, held against what the frame log says went over the wire."""

from __future__ import annotations

from typing import Optional

from frames import Wire
from rows import Seen, Side


def our_faults(near: Side, wire: Optional[Wire], closed: bool) -> list[str]:
    """Where our node did not pass on what came over the wire, or did not send what its local side gave it.

    `closed` says that it was closed meanwhile.
    """
    faults = []
    if near.wrong is not None:
        faults.append("the local side got wrong bytes from byte %d on" % near.wrong)
    if wire is None:
        if near.received or near.eof:
            faults.append("the local side saw something, though there was no stream")
        return faults
    # Kubo has reset the stream or takes no more, or the connection is gone.
    refused = wire.received.reset or wire.received.stop or wire.lost or closed
    arrived, left = wire.received.payload, wire.sent.payload

    # From the wire to the local side.
    if near.eof and not wire.received.fin:
        faults.append("the local side saw an end of file, but no FIN came")
    if near.eof and near.received != arrived:
        faults.append("%d bytes and FIN came, the local side got %d" % (arrived, near.received))
    if near.received > arrived:
        faults.append("%d bytes came, the local side got %d" % (arrived, near.received))
    if near.end == "reset" and not refused:
        faults.append("the local side was reset, but neither a reset came nor was the connection lost")
    if near.end == "reset" and wire.received.fin and near.received != arrived:
        faults.append("%d bytes came before FIN, the local side got %d and a reset" % (arrived, near.received))

    # From the local side to the wire.
    if left > near.sent:
        faults.append("%d bytes were sent, but the local side gave %d" % (left, near.sent))
    if wire.sent.fin and near.finished_at is None:
        faults.append("FIN was sent, but the local side had not ended")
    if wire.sent.fin and left != near.sent:
        faults.append("FIN was sent after %d of %d bytes" % (left, near.sent))
    if near.finished_at is not None and not (wire.sent.fin or refused or wire.stalled or near.reset_at is not None):
        faults.append("the local side ended, but no FIN was sent")
    finished = wire.sent.fin and wire.received.fin
    # Behind our FIN, QUIC has nothing but STOP_SENDING.
    told = wire.sent.reset or (wire.sent.fin and wire.sent.stop)
    if near.reset_at is not None and not (told or refused or finished):
        faults.append("the local side reset the connection, but no reset was sent")
    if wire.sent.reset and not (near.reset_at is not None or refused):
        faults.append("a reset was sent without a reason")
    return faults


def to_us(near: Side, far: Side, wire: Optional[Wire]) -> dict[str, str]:
    """What Kubo did wrong towards us, as the frames show it: words of losses.py, each with a sentence."""
    if wire is None:
        return {"cut": "Kubo opened no stream for a client that it had accepted"}
    deeds = {}
    arrived, received = wire.received.payload, wire.received
    kind = "FIN and then RST" if received.fin and received.reset else "FIN" if received.fin else "a reset"
    of = "after %s of %s bytes" % (format(arrived, ","), format(far.sent, ","))
    # The log's times are cut to milliseconds.
    over_at = (received.ended or 0) + 0.001
    early = over_at < (far.finished_at or over_at + 1)
    if received.over and over_at < (far.reset_at or over_at + 1):
        if arrived < far.sent:
            deeds["cut"] = "Kubo sent %s %s" % (kind, of)
        elif early:
            deeds["cut"] = "Kubo sent %s before its local side had ended" % kind
        elif not received.fin:
            deeds["rst"] = "Kubo sent a reset %s, where its local side had ended" % of
    if received.stop and not received.over and not wire.lost:
        deeds["stop"] = "Kubo sent STOP_SENDING before the protocol was agreed"
    if received.fin and far.reset_at is not None:
        deeds["fin"] = "Kubo sent FIN for the reset of its local side"
    if wire.stalled:
        deeds["stall"] = stall(near, wire)
    return deeds


def to_its_side(near: Side, far: Side, wire: Optional[Wire]) -> dict[str, str]:
    """What Kubo made of what we sent: words of losses.py, each with a sentence."""
    if wire is None:
        return {}
    deeds = {}
    left, sent, received = wire.sent.payload, wire.sent, wire.received
    got = "of %s bytes that we sent Kubo delivered %s" % (format(left, ","), format(far.received, ","))
    if received.stop and far.reset_at is None and left < near.sent:
        deeds["stop"] = "Kubo took no more after %s of %s bytes" % (format(left, ","), format(near.sent, ","))
    if sent.fin and far.received < left:
        deeds["drop"] = got + ", in spite of our FIN"
    if sent.fin and far.end == "reset" and near.reset_at is None:
        deeds["rst"] = "Kubo made a reset of our FIN"
    if far.eof and not sent.fin:
        if sent.reset or wire.lost:
            deeds["eof"] = "Kubo made an end of file of %s" % ("our reset" if sent.reset else "the lost connection")
        elif received.fin or received.reset:
            deeds["both"] = "Kubo ended both ways when one had ended"
    if sent.fin and near.reset_at is not None and far.end == "eof":
        if sent.reset or sent.stop:
            deeds["eof"] = "Kubo passed nothing on of the reset behind our FIN"
        elif received.over:
            deeds["both"] = "Kubo ended both ways at our FIN, so that the reset behind it could not be sent"
    if wire.stalled:
        deeds["stall"] = stall(near, wire)
    return deeds


def stall(near: Side, wire: Wire) -> str:
    of = "%s of %s bytes" % (format(wire.sent.payload, ","), format(near.sent, ","))
    return "Kubo sent FIN, opened our window no more after %s, and said nothing" % of


def short(side: Side, seen: Seen) -> str:
    """How what a side saw differs from what it had to see; empty if it does not."""
    if seen.by(side):
        return ""
    wanted = "any" if seen.received is None else format(seen.received, ",")
    got = (side.name, format(side.received, ","), wanted, side.end or "no end", seen.end or "any")
    return "%s received %s bytes (%s wanted) and saw %s (%s wanted)" % got
