"""The clients: what is measured, of one system on one path."""

from __future__ import annotations

import contextlib
import socket
import statistics
import struct
import threading
import time
from collections.abc import Callable

from programs import LabError

CHUNK = 256 * 1024
# Seconds without progress after which a client gives up.
SILENCE = 15
SAMPLE = 0.25

Address = tuple[str, int]
# Bytes until now, and the time.
Meter = Callable[[], "tuple[int, float]"]


def first_byte(address: Address) -> float:
    """Seconds from the connect of a new client to the first byte that comes back."""
    begin = time.monotonic()
    with socket.create_connection(address, SILENCE) as client:
        client.sendall(b"e")
        if client.recv(1) != b"e":
            raise LabError("a client got no answer")
        return time.monotonic() - begin


def median_first_byte(address: Address, count: int) -> float:
    """The median of new clients one after the other, the connection between the nodes being there."""
    first_byte(address)
    return statistics.median(first_byte(address) for _ in range(count))


def settle(address: Address, quiet: float) -> None:
    """Waits until what the load before left in buffers is gone: new clients are served about as fast as on a quiet
    path."""
    deadline = time.monotonic() + SILENCE
    good = 0
    while good < 2 and time.monotonic() < deadline:
        good = good + 1 if first_byte(address) < 1.5 * quiet + 0.02 else 0


class Flood:
    """Clients that move bytes in one direction as fast as they can, for as long as this is open."""

    def __init__(self, address: Address, streams: int, upload: bool) -> None:
        self.counts = [0] * streams
        self.failure: Exception | None = None
        self.stopped = False
        self.clients: list[socket.socket] = []
        self.threads: list[threading.Thread] = []
        for index in range(streams):
            client = socket.create_connection(address, SILENCE)
            # It leaves with a reset: nothing that is still under way is delivered.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.clients.append(client)
            work = self.send if upload else self.receive
            self.threads.append(threading.Thread(target=self.guard, args=(work, client, index), daemon=True))
        for thread in self.threads:
            thread.start()

    def guard(self, work: Callable[[socket.socket, int], None], client: socket.socket, index: int) -> None:
        try:
            work(client, index)
        except (OSError, LabError) as error:
            if not self.stopped:
                self.failure = error

    def send(self, client: socket.socket, index: int) -> None:
        client.sendall(b"u")
        data = bytes(CHUNK)
        while not self.stopped:
            self.counts[index] += client.send(data)

    def receive(self, client: socket.socket, index: int) -> None:
        client.sendall(b"d")
        buffer = bytearray(CHUNK)
        while not self.stopped:
            size = client.recv_into(buffer)
            if size == 0:
                raise LabError("a download ended early")
            self.counts[index] += size

    def received(self) -> tuple[int, float]:
        return sum(self.counts), time.monotonic()

    def __enter__(self) -> Flood:
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped = True
        for client in self.clients:
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)
        for thread in self.threads:
            thread.join(SILENCE)
        for client in self.clients:
            client.close()


def throughput(
    address: Address, streams: int, uploaded: Meter | None, warm_up: float, window: float
) -> tuple[float, list[float]]:
    """Mbit/s after the warm-up, counted where the bytes arrive, and the Mbit/s of each `SAMPLE` seconds from the
    beginning. An upload if there is a meter for it."""
    with Flood(address, streams, uploaded is not None) as flood:
        meter = uploaded or flood.received
        begin = meter()
        samples = [begin]
        while samples[-1][1] < begin[1] + warm_up + window:
            time.sleep(max(0.0, begin[1] + SAMPLE * len(samples) - time.monotonic()))
            samples.append(meter())
            if flood.failure:
                raise LabError(str(flood.failure))
    warm = next(sample for sample in samples if sample[1] >= begin[1] + warm_up - SAMPLE / 2)
    return rate(warm, samples[-1]), [round(rate(a, b), 2) for a, b in zip(samples, samples[1:])]


def rate(begin: tuple[int, float], end: tuple[int, float]) -> float:
    return (end[0] - begin[0]) * 8 / (end[1] - begin[1]) / 1e6
