#!/usr/bin/env python3
"""Writes the inputs in fuzz/seeds from which the fuzzer starts: the frames of the muxer's tests, by hand.

How an input is read stands in src/network/yamux/fuzzing/mod.rs.
"""

import pathlib
import struct

DATA, WINDOW, PING, GO_AWAY = range(4)
SYN, ACK, FIN, RST = 1, 2, 4, 8

# What the local side does (the place of a stream in the upper half of the byte).
OPEN, ACCEPT, POLL, TRICKLE, DRINK, FLOW, STALL, SLOW, READ, WRITE, CLOSE, DROP = 0, 2, 4, 5, 6, 7, 8, 9, 10, 12, 14, 15


def config(
    client: bool = False,
    budget: int = 0,
    streams: int = 0,
    windows: int = 0,
    backlog: int = 0,
    stall: bool = False,
    end: int = 0,
) -> bytes:
    """Everything that is not named is at its largest; end: 0 close, 1 end of file, 2 an error, 3 dropped."""
    return bytes([client, budget, streams, windows, windows, 0, backlog, backlog, end << 2 | stall])


def frame(kind: int, flags: int, stream: int, length: int = 0, body: bytes = b"") -> bytes:
    return struct.pack(">BBHII", 0, kind, flags, stream, length or len(body)) + body


def act(what: int, place: int = 0, number: int = 1000) -> bytes:
    step = bytes([what | place << 4])
    return step + struct.pack(">H", number) if what in (READ, WRITE) else step


def arrive(power: int) -> bytes:
    """The next 2 ** power bytes."""
    return bytes([128 + 8 * power])


def raw(settings: bytes, steps: list[bytes], sent: list[bytes]) -> bytes:
    return settings + struct.pack(">H", len(b"".join(steps))) + b"".join(steps) + b"".join(sent)


USE = [act(ACCEPT), act(READ), act(WRITE), act(READ), act(CLOSE), act(DROP)]
OPENED = frame(WINDOW, SYN, 1)

BYTES = {
    "transfer": raw(
        config(), [arrive(5), *USE], [frame(DATA, SYN, 1, body=b"hello"), frame(DATA, FIN, 1, body=b", world")]
    ),
    "answer": raw(
        config(client=True),
        [act(OPEN), act(WRITE), act(POLL), arrive(5), act(READ)],
        [frame(DATA, ACK | FIN, 1, body=b"answer")],
    ),
    "cut": raw(config(end=1), [arrive(i) for i in range(5)] + USE, [frame(DATA, SYN | FIN, 1, 50, b"the beginning")]),
    "reset": raw(config(), [arrive(4), act(ACCEPT), arrive(4), act(READ)], [OPENED, frame(WINDOW, RST, 1, 2**32 - 1)]),
    "late": raw(
        config(client=True),
        [act(OPEN), act(POLL), act(DROP)],
        [frame(DATA, ACK, 1, body=b"late"), frame(WINDOW, FIN, 1, 9), frame(DATA, RST, 1)],
    ),
    "version": raw(config(), [], [b"\1" + frame(PING, SYN, 0)[1:]]),
    "kind": raw(config(), [], [frame(4, SYN, 0)]),
    "large": raw(config(), [], [OPENED, frame(DATA, 0, 1, 2**24 + 1)]),
    "parity": raw(config(), [], [frame(DATA, SYN, 2)]),
    "twice": raw(config(), [], [OPENED, OPENED]),
    "beyond": raw(config(), [], [OPENED, frame(DATA, 0, 1, 256 * 1024 + 1)]),
    "overflow": raw(config(), [], [OPENED, frame(WINDOW, 0, 1, 2**32 - 1)]),
    "pings": raw(config(stall=True), [act(FLOW)], [frame(PING, SYN, 0, i) for i in range(20)]),
    "go-away": raw(config(client=True), [act(OPEN), act(POLL), arrive(4), act(OPEN)], [frame(GO_AWAY, 0, 0)]),
    "flood": raw(config(streams=1, backlog=1), [], [frame(DATA, SYN, i, body=b"x") for i in range(1, 40, 2)]),
    "crossed": raw(
        config(stall=True),
        [arrive(4), act(ACCEPT), act(WRITE, number=60000), arrive(12)],
        [OPENED, frame(DATA, 0, 1, body=b"y" * 3000)],
    ),
}


def say(choice: int, stream: int = 0, number: int = 0, more: bytes = b"", held: bool = False) -> bytes:
    """A frame of the remote's."""
    step = bytes([(192 if held else 128) + choice, stream])
    if choice in (9, 12):
        more = struct.pack(">H", number)
    return step + (struct.pack(">H", number) + bytes([0, 7]) if choice in (2, 3, 4, 7, 8) else more)


def part(number: int) -> bytes:
    return bytes([128 + 15]) + struct.pack(">H", number)


PONG = bytes([128 + 13])


def two_ways(settings: bytes) -> bytes:
    """Both sides send as much as they can, while little is read."""
    round_ = say(4, number=50000) + act(WRITE, number=50000) + act(READ, number=9000) + act(DRINK, 3)
    return settings + say(0) + act(ACCEPT) + PONG + act(SLOW) + 12 * round_ + act(FLOW) + 6 * act(READ, number=60000)


FRAMES = {
    "transfer": config()
    + say(2, number=1000)
    + act(ACCEPT)
    + act(READ)
    + act(WRITE)
    + say(7, number=500)
    + act(READ)
    + act(CLOSE)
    + act(POLL),
    "two-ways": two_ways(config()),
    "two-ways-stalled": two_ways(config(stall=True)),
    "half-close": config()
    + say(3, number=1000)
    + act(ACCEPT)
    + act(READ)
    + 3 * act(WRITE, number=30000)
    + say(9, number=5000)
    + act(CLOSE),
    "other-half": config(client=True)
    + act(OPEN)
    + act(CLOSE)
    + act(POLL)
    + 3 * (say(4, number=60000) + act(READ, number=60000))
    + say(7),
    "resets": config()
    + 3 * (say(0) + act(ACCEPT))
    + say(11)
    + act(READ)
    + act(DROP, 1)
    + act(DROP, 1)
    + say(4, 1, 100)
    + say(4, 2, 100),
    "reset-after-fin": config() + say(3, number=10) + act(ACCEPT) + say(11) + act(WRITE) + act(READ) + act(READ),
    "limits": config(streams=1, backlog=1)
    + 6 * say(0)
    + 3 * act(ACCEPT)
    + 3 * act(OPEN)
    + act(DROP)
    + say(0)
    + act(ACCEPT),
    "budget": config(budget=1) + 6 * say(0) + 6 * act(ACCEPT) + act(OPEN) + act(DROP) + act(OPEN),
    "torn": config()
    + say(0, held=True)
    + say(4, number=300, held=True)
    + say(7, number=300, held=True)
    + part(5)
    + part(9)
    + act(ACCEPT)
    + part(250)
    + act(READ)
    + part(400)
    + act(READ),
    "pings": config(stall=True) + 40 * say(12, number=7) + act(TRICKLE, 3) + act(FLOW) + PONG,
}


def main() -> None:
    here = pathlib.Path(__file__).parent
    for target, inputs in (("bytes", BYTES), ("frames", FRAMES)):
        folder = here / "seeds" / target
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in inputs.items():
            (folder / name).write_bytes(data)


if __name__ == "__main__":
    main()
