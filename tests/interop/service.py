"""A TCP service that a test can take down and bring back, and what its clients talk about with it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import threading
from collections.abc import Callable, Iterator

from child import Failure

# Seconds for one call on a socket, for everybody to be there.
CALL, TOGETHER = 30, 30
MB = 1 << 20
#: What is sent over and over in a transfer.
BLOCK = os.urandom(MB)

Handler = Callable[[socket.socket], None]


class Service:
    """A port of 127.0.0.1, held while nothing listens on it: clients are refused then, and nobody else gets it."""

    def __init__(self) -> None:
        self._holder = self._bound(0)
        self.port: int = self._holder.getsockname()[1]

    @staticmethod
    def _bound(port: int) -> socket.socket:
        bound = socket.socket()
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(("127.0.0.1", port))
        return bound

    def listening(self) -> socket.socket:
        """It listens until this is closed."""
        listening = self._bound(self.port)
        listening.listen(512)
        return listening

    @contextlib.contextmanager
    def up(self, handler: Handler) -> Iterator[list[str]]:
        """Serves each client in a thread of its own. What goes wrong there is in the list, and fails the end."""
        listening = self.listening()
        troubles: list[str] = []
        serving: list[threading.Thread] = []

        def serve(client: socket.socket) -> None:
            with client:
                client.settimeout(CALL)
                try:
                    handler(client)
                except (OSError, Failure) as error:
                    troubles.append("the server: %s" % (error or type(error).__name__))

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    client, _ = listening.accept()
                    serving.append(threading.Thread(target=serve, args=(client,), daemon=True))
                    serving[-1].start()

        accepting = threading.Thread(target=accept, daemon=True)
        accepting.start()
        try:
            yield troubles
        finally:
            # Wakes the thread that accepts.
            listening.shutdown(socket.SHUT_RDWR)
            accepting.join()
            listening.close()
        for thread in serving:
            thread.join(CALL)
            if thread.is_alive():
                raise Failure("the server did not come to its end within %d s" % CALL)
        if troubles:
            raise Failure(troubles[0])

    def close(self) -> None:
        self._holder.close()


def client_of(port: int) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", port), CALL)
    client.settimeout(CALL)
    return client


def read(end: socket.socket, count: int) -> bytes:
    """Exactly so many bytes."""
    parts, missing = [], count
    while missing:
        data = end.recv(min(missing, 1 << 18))
        if not data:
            raise Failure("an end of file came after %d of %d bytes" % (count - missing, count))
        parts.append(data)
        missing -= len(data)
    return b"".join(parts)


def await_end(end: socket.socket) -> None:
    """Whichever end it is: a reset in place of an end of file is Kubo's habit, and the matter of data.py."""
    with contextlib.suppress(ConnectionResetError):
        if end.recv(1):
            raise Failure("something came behind the last byte")


# Pairs of a server's and a client's side. One closes when nothing is on its way any more, the other waits for the end:
# what is lost when somebody closes earlier is the matter of data.py.


def echo_server(end: socket.socket) -> None:
    for size in ECHOES:
        end.sendall(read(end, size))
    await_end(end)


def echo_client(end: socket.socket) -> None:
    for size in ECHOES:
        sent = os.urandom(size)
        end.sendall(sent)
        if read(end, size) != sent:
            raise Failure("the echo of %d bytes differs" % size)


ECHOES = (1, 1000, 70_000)
GREETING = b"220 who is there?\r\n"


def greeting_server(end: socket.socket) -> None:
    end.sendall(GREETING)
    if read(end, 2) != b"me":
        raise Failure("another answer to the greeting")


def greeting_client(end: socket.socket) -> None:
    if read(end, len(GREETING)) != GREETING:
        raise Failure("another greeting")
    end.sendall(b"me")
    await_end(end)


class Transfer:
    """So many MiB one way, compared by SHA-256."""

    def __init__(self, size: int, upload: bool) -> None:
        self.size = size
        self.server, self.client = (self._receive, self._send) if upload else (self._send, self._receive)

    def _send(self, end: socket.socket) -> None:
        digest = hashlib.sha256()
        for number in range(self.size):
            head = number.to_bytes(8, "big")
            for part in (head, memoryview(BLOCK)[8:]):
                end.sendall(part)
                digest.update(part)
        if read(end, 32) != digest.digest():
            raise Failure("SHA-256 of what arrived differs from that of what was sent")

    def _receive(self, end: socket.socket) -> None:
        digest, missing = hashlib.sha256(), self.size * MB
        buffer = memoryview(bytearray(1 << 18))
        while missing:
            count = end.recv_into(buffer, min(missing, len(buffer)))
            if not count:
                raise Failure("an end of file came, %d bytes are missing" % missing)
            digest.update(buffer[:count])
            missing -= count
        end.sendall(digest.digest())
        await_end(end)


class Crowd:
    """So many clients at once: nobody is answered before everybody is there."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._all = threading.Barrier(size)

    def server(self, end: socket.socket) -> None:
        number = read(end, 8)
        self._wait()
        end.sendall(number)
        await_end(end)

    def client(self, end: socket.socket) -> None:
        number = os.urandom(8)
        end.sendall(number)
        if read(end, 8) != number:
            raise Failure("one got the answer of another")

    def _wait(self) -> None:
        try:
            self._all.wait(TOGETHER)
        except threading.BrokenBarrierError:
            raise Failure("not all of %d clients were there within %d s" % (self.size, TOGETHER)) from None
