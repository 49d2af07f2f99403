"""What a client and a server do in each row of the matrix, and what each of them has to see then."""

from __future__ import annotations

import random
import select
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Optional, TypeVar

KB, MB = 1000, 1 << 20
#: What each side sends, from its beginning.
PATTERN = random.Random(3).randbytes(16 * MB)
#: Seconds for one call on a socket, for the other side to do something, and for a reset after an end of file to arrive.
#: A QUIC connection whose peer has died is given up after 30 s.
CALL, TURN, LATE_RESET = 45, 20, 1
#: How long it waits before it looks whether it is to go on.
LOOK = 0.2
LINGER_ZERO = struct.pack("ii", 1, 0)


T = TypeVar("T")


class Ended(Exception):
    """The connection ended before the side had done what it wanted to."""


class NeverReached(Exception):
    """No connection came to the server."""


class Side:
    """One end of a tunnelled connection: a socket, and what was seen on it."""

    def __init__(self, name: str, changed: threading.Condition) -> None:
        self.name = name
        self.socket: Optional[socket.socket] = None
        self.sent = 0
        self.received = 0
        #: From this many bytes on, what came is not what the other side sent.
        self.wrong: Optional[int] = None
        #: "eof" or "reset", the last that was seen.
        self.end: Optional[str] = None
        #: An end of file was seen, whatever came later.
        self.eof = False
        #: When it ended its direction and when it reset the connection, in seconds since 1970.
        self.finished_at: Optional[float] = None
        self.reset_at: Optional[float] = None
        #: It does nothing more; it is to do nothing more.
        self.gone = False
        self._given_up = False
        #: What went wrong in the test itself.
        self.trouble: Optional[str] = None
        self._changed = changed

    @property
    def connection(self) -> socket.socket:
        if self.socket is None:
            raise Ended
        return self.socket

    def _note(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def wait(self, other: Side, what: str, reached: Callable[[], bool]) -> None:
        """Waits for the other side."""
        with self._changed:
            if not self._changed.wait_for(lambda: reached() or other.gone, TURN):
                raise TimeoutError("it waited in vain until %s" % what)
            if not reached():
                raise Ended

    def _call(self, act: Callable[[socket.socket], T]) -> T:
        """Does something with the socket that may wait, at most for `CALL`."""
        deadline = time.monotonic() + CALL
        while True:
            try:
                return act(self.connection)
            except (TimeoutError, socket.timeout):
                if self._given_up:
                    self.reset()
                    raise Ended from None
                if time.monotonic() > deadline:
                    raise

    def send(self, count: int) -> None:
        end = self.sent + count
        pattern = memoryview(PATTERN)
        while self.sent < min(end, len(pattern)):
            try:
                self.sent += self._call(lambda connection: connection.send(pattern[self.sent : end]))
            except ConnectionError:
                self.end = "reset"
                raise Ended from None

    def read(self, count: int) -> None:
        """Exactly so many bytes."""
        wanted = self.received + count
        while self.received < wanted:
            if not self._read_some(wanted - self.received):
                raise Ended

    def drain(self) -> None:
        """Everything up to the end."""
        while self._read_some(1 << 18):
            pass
        if self.end == "reset":
            raise Ended

    def _read_some(self, most: int) -> bool:
        try:
            data = self._call(lambda socket: socket.recv(min(most, 1 << 18)))
        except ConnectionError:
            self.end = "reset"
            return False
        if not data:
            # After a failed write the system answers so, too.
            if self.end is None:
                self.end, self.eof = "eof", True
            self._note()
            return False
        if self.wrong is None and data != PATTERN[self.received : self.received + len(data)]:
            self.wrong = self.received
        self.received += len(data)
        self._note()
        return True

    def fin(self) -> None:
        self._finish()
        try:
            self.connection.shutdown(socket.SHUT_WR)
        except OSError:
            self.end = "reset"
            raise Ended from None
        self._note()

    def both(self, count: int) -> None:
        """Sends while it reads, as many bytes as the other side sends."""
        failed: list[BaseException] = []

        def send() -> None:
            try:
                self.send(count)
            except (Ended, OSError) as error:
                failed.append(error)

        sender = threading.Thread(target=send)
        sender.start()
        try:
            self.read(count)
        finally:
            sender.join()
        if failed:
            raise failed[0]

    def reset(self) -> None:
        connection = self.connection
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_ZERO)
        self.reset_at = time.time()
        self.close()

    def close(self) -> None:
        """Closes both directions at once."""
        connection, self.socket = self.connection, None
        if self.reset_at is None:
            self._finish()
        connection.close()
        self._note()

    def _finish(self) -> None:
        if self.finished_at is None:
            self.finished_at = time.time()

    def give_up(self) -> None:
        """From another thread, when the side waits for what cannot come: it resets the connection."""
        self._given_up = True

    def await_reset(self) -> None:
        """After an end of file: waits for the reset behind it."""
        poll = select.poll()
        poll.register(self.connection, 0)
        if poll.poll(1000 * LATE_RESET):
            self.end = "reset"

    def run(self, connect: Callable[[], socket.socket], act: Callable[[Side, Side], None], other: Side) -> None:
        """Does what the row says, then reads what is left, and closes."""
        try:
            self.socket = connect()
            self.socket.settimeout(LOOK)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._note()
            try:
                act(self, other)
            except Ended:
                while self.socket is not None and self._read_some(1 << 18):
                    pass
        except NeverReached:
            pass
        except ConnectionResetError:
            self.end = "reset"
        except Exception as error:
            self.trouble = "%s: %s" % (self.name, error or type(error).__name__)
        finally:
            if self.socket is not None:
                self.close()
            self.gone = True
            self._note()

    def __str__(self) -> str:
        return "%s sent %d, received %d, saw %s" % (self.name, self.sent, self.received, self.end or "no end")


@dataclass
class Seen:
    """What a side has to see: so many bytes (None: any part of what was sent), and then this end (None: any)."""

    received: Optional[int]
    end: Optional[str]

    def by(self, side: Side) -> bool:
        return self.received in (None, side.received) and self.end in (None, side.end) and side.wrong is None


@dataclass
class Row:
    name: str
    client: Callable[[Side, Side], None]
    server: Callable[[Side, Side], None]
    client_sees: Seen
    server_sees: Seen
    repeat: int = 3


@dataclass
class Cut:
    """A row in which the connection between the nodes ends before the stream."""

    name: str
    #: What ends it, once the transfer is under way.
    what: str
    client: Callable[[Side, Side], None]
    server: Callable[[Side, Side], None]
    under_way: Callable[[Side, Side], bool]
    #: What the side at our node has to see, and the one at Kubo.
    near_sees: Seen
    far_sees: Seen


def closes_after_reply(n: int) -> Row:
    def client(me: Side, _: Side) -> None:
        me.drain()

    def server(me: Side, _: Side) -> None:
        me.send(n)
        me.close()

    name = "%s bytes down, the server closes at once" % format(n, ",")
    return Row(name, client, server, Seen(n, "eof"), Seen(0, None), repeat=1 if n > MB else 5)


def closes_after_upload(n: int) -> Row:
    def client(me: Side, _: Side) -> None:
        me.send(n)
        me.close()

    def server(me: Side, _: Side) -> None:
        me.drain()

    name = "%s bytes up, the client closes at once" % format(n, ",")
    return Row(name, client, server, Seen(0, None), Seen(n, "eof"), repeat=1 if n > MB else 5)


def request_and_reply(n: int) -> Row:
    def client(me: Side, _: Side) -> None:
        me.send(KB)
        me.drain()

    def server(me: Side, _: Side) -> None:
        me.read(KB)
        me.send(n)
        me.close()

    name = "request, reply of %s, the server closes at once" % format(n, ",")
    return Row(name, client, server, Seen(n, "eof"), Seen(KB, None), repeat=5)


def half_close(n: int) -> Row:
    def client(me: Side, _: Side) -> None:
        me.send(n)
        me.fin()
        me.drain()

    def server(me: Side, _: Side) -> None:
        me.drain()
        me.send(n)
        me.close()

    name = "%s up, the client half-closes, then the reply" % format(n, ",")
    return Row(name, client, server, Seen(n, "eof"), Seen(n, "eof"))


def server_half_closes() -> Row:
    def client(me: Side, _: Side) -> None:
        me.drain()
        me.send(200 * KB)
        me.close()

    def server(me: Side, _: Side) -> None:
        me.send(KB)
        me.fin()
        me.drain()

    return Row("the server half-closes, then the upload", client, server, Seen(KB, "eof"), Seen(200 * KB, "eof"))


def server_half_closes_meanwhile() -> Row:
    def client(me: Side, server: Side) -> None:
        me.send(200 * KB)
        me.wait(server, "the server ends its direction", lambda: server.finished_at is not None)
        me.send(MB)
        me.drain()
        me.close()

    def server(me: Side, _: Side) -> None:
        me.read(200 * KB)
        me.send(KB)
        me.fin()
        me.drain()

    n = MB + 200 * KB
    return Row("the server half-closes during the upload", client, server, Seen(KB, "eof"), Seen(n, "eof"))


def both_ways() -> Row:
    def client(me: Side, _: Side) -> None:
        me.both(MB)
        me.close()

    def server(me: Side, _: Side) -> None:
        me.both(MB)
        me.drain()

    return Row("1 MiB both ways at once, then the client closes", client, server, Seen(MB, None), Seen(MB, "eof"))


def both_ways_with_ends() -> Row:
    def act(me: Side, _: Side) -> None:
        ends: list[BaseException] = []

        def send() -> None:
            try:
                me.send(MB)
                me.fin()
            except (Ended, OSError) as error:
                ends.append(error)

        sender = threading.Thread(target=send)
        sender.start()
        try:
            me.drain()
        finally:
            sender.join()
        if ends:
            raise ends[0]

    return Row("1 MiB both ways at once, each with its end", act, act, Seen(MB, "eof"), Seen(MB, "eof"))


def resets(who: str, when: str) -> Row:
    def before_the_first_byte(me: Side, other: Side) -> None:
        me.wait(other, "the other side is there", lambda: other.socket is not None)
        me.reset()

    def after_something(me: Side, other: Side) -> None:
        me.send(KB)
        me.wait(other, "what was sent has arrived", lambda: other.received == KB)
        me.reset()

    def while_it_sends(me: Side, other: Side) -> None:
        while other.received < 200 * KB and me.sent < 16 * MB and not other.gone:
            me.send(64 * KB)
        me.wait(other, "the transfer is under way", lambda: other.received >= 200 * KB)
        me.reset()

    def while_it_receives(me: Side, _: Side) -> None:
        me.read(200 * KB)
        me.reset()

    def after_its_end(me: Side, other: Side) -> None:
        me.send(KB)
        me.fin()
        me.wait(other, "the end has arrived", lambda: other.eof)
        me.reset()

    def reads(me: Side, _: Side) -> None:
        me.drain()

    def sends(me: Side, _: Side) -> None:
        me.send(16 * MB)
        me.drain()

    def reads_and_waits(me: Side, _: Side) -> None:
        me.drain()
        me.await_reset()

    act, react, received = {
        "before the first byte": (before_the_first_byte, reads, 0),
        "after 1,000 bytes": (after_something, reads, KB),
        "while it sends": (while_it_sends, reads, None),
        "while it receives": (while_it_receives, sends, 0),
        "after its FIN": (after_its_end, reads_and_waits, KB),
    }[when]
    name = "the %s resets %s" % (who, when)
    if who == "client":
        return Row(name, act, react, Seen(None, None), Seen(received, "reset"))
    return Row(name, react, act, Seen(received, "reset"), Seen(None, None))


def cut(what: str, during_download: bool) -> Cut:
    def talk(me: Side, _: Side) -> None:
        me.send(KB)
        me.drain()

    def download(me: Side, _: Side) -> None:
        me.send(16 * MB)
        me.drain()

    def read(me: Side, _: Side) -> None:
        me.drain()

    # Of a program that is killed its own clients see what the system makes of it.
    anything, reset = Seen(None, None), Seen(None, "reset")
    near_sees = anything if what == "our node is killed" else reset
    far_sees = anything if what == "Kubo is killed" else reset
    if during_download:
        name = "%s during a download" % what
        return Cut(name, what, read, download, lambda client, _: client.received >= 200 * KB, near_sees, far_sees)

    def both(client: Side, server: Side) -> bool:
        return client.received == server.received == KB

    return Cut("%s, the stream is idle" % what, what, talk, talk, both, near_sees, far_sees)


WHEN = ["before the first byte", "after 1,000 bytes", "while it sends", "while it receives", "after its FIN"]
SIZES = [0, 1, KB, 200 * KB, 16 * MB]

ROWS = [
    *[closes_after_reply(n) for n in SIZES],
    *[closes_after_upload(n) for n in SIZES],
    *[request_and_reply(n) for n in (KB, 200 * KB)],
    *[half_close(n) for n in (0, KB, 200 * KB)],
    server_half_closes(),
    server_half_closes_meanwhile(),
    both_ways(),
    both_ways_with_ends(),
    *[resets(who, when) for who in ("client", "server") for when in WHEN],
]

CUTS = [
    cut(what, during_download)
    for what in ("Kubo is killed", "our node is killed", "Kubo shuts down", "our node is closed", "the path is cut")
    for during_download in (False, True)
]
