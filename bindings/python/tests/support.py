"""Helpers of the tests."""

from __future__ import annotations

import asyncio
import gc
import os
import queue
import socket
import subprocess
import sys
import threading
import time
from types import TracebackType
from typing import Callable, Dict, List, NamedTuple, Optional, Tuple, Type

import p2pmount
from p2pmount._queue import Descriptor

#: Seconds after which something that should come at once is not coming.
PATIENCE = 20


class Pair(NamedTuple):
    server: p2pmount.Node
    client: p2pmount.Node
    listener: p2pmount.Listener
    forward: p2pmount.Forward


class EchoServer:
    """Sends back what comes, until the client's end of file; on a free port of 127.0.0.1."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self._socket.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._echo, args=(connection,), daemon=True).start()

    @staticmethod
    def _echo(connection: socket.socket) -> None:
        with connection:
            try:
                while True:
                    data = connection.recv(65536)
                    if not data:
                        return
                    connection.sendall(data)
            except OSError:
                pass

    def __enter__(self) -> EchoServer:
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        # A close alone would leave the other thread in its accept.
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


def endpoint(address: str) -> Tuple[str, int]:
    """`127.0.0.1:8080` for a socket."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def connect(address: str) -> socket.socket:
    """A client of a forward."""
    return socket.create_connection(endpoint(address), PATIENCE)


def read_all(connection: socket.socket) -> bytes:
    parts: List[bytes] = []
    while True:
        part = connection.recv(1 << 16)
        if not part:
            return b"".join(parts)
        parts.append(part)


def exchange(address: str, data: bytes) -> bytes:
    """Sends data through a forward to an echo service, ends its direction, and returns all that comes back."""
    with connect(address) as connection:
        return exchange_on(connection, data)


def exchange_on(connection: socket.socket, data: bytes) -> bytes:
    """The same on a connection that is open."""

    def send() -> None:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)

    sender = threading.Thread(target=send)
    sender.start()
    received = read_all(connection)
    sender.join()
    return received


def eventually(condition: Callable[[], bool]) -> None:
    """Waits for what comes soon and that no event tells."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.005)


async def eventually_async(condition: Callable[[], bool]) -> None:
    """The same in a task, while others go on."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        await asyncio.sleep(0.001)


def descriptors() -> int:
    """How many wake descriptors this package holds; others come and go in the library's threads."""
    gc.collect()
    return sum(isinstance(each, Descriptor) and each.number >= 0 for each in gc.get_objects())


def ping(connection: socket.socket, data: bytes = b"ping") -> bytes:
    """One message to an echo service and back; the connection stays open."""
    connection.sendall(data)
    received = b""
    while len(received) < len(data):
        part = connection.recv(65536)
        if not part:
            return received
        received += part
    return received


#: A hanging program ends and says where it hung, also if the tests were killed meanwhile.
# Not faulthandler.dump_traceback_later: its thread hangs the children of a fork.
LIMITED = f"import faulthandler, signal\nfaulthandler.register(signal.SIGALRM, chain=True)\nsignal.alarm({PATIENCE})\n"

#: The same for a program that is not a script of the tests: the alarm goes on in what is executed.
EXECUTED = (
    f"import os, signal, sys; signal.alarm({3 * PATIENCE}); os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
)


def python(script: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs a script in an interpreter of its own; a hanging one fails the test and says where it hung."""
    return subprocess.run(
        [sys.executable, "-c", LIMITED + script, *arguments],
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        timeout=2 * PATIENCE,
    )


class Program:
    """A running program whose lines are read as they come."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", EXECUTED, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._lines: queue.Queue[Optional[str]] = queue.Queue()
        self.seen: List[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def line(self) -> str:
        """The next line."""
        try:
            line = self._lines.get(timeout=PATIENCE)
        except queue.Empty:
            raise AssertionError(f"no line came after {self.seen}") from None
        if line is None:
            raise AssertionError(f"the program ended after {self.seen}: {self.end()[1]}")
        self.seen.append(line)
        return line

    def until(self, wanted: Callable[[str], bool]) -> str:
        """The first line that is as wanted."""
        while True:
            line = self.line()
            if wanted(line):
                return line

    def values(self, last: str = "ready") -> Dict[str, List[str]]:
        """The lines `key value` up to one that says it is ready."""
        found: Dict[str, List[str]] = {}
        while True:
            line = self.line()
            if line == last:
                return found
            key, _, value = line.partition(" ")
            found.setdefault(key, []).append(value)

    def end(self, text: str = "") -> Tuple[int, str]:
        """Writes `text`, ends the input, and returns exit status and standard error."""
        assert self.process.stdin is not None and self.process.stderr is not None
        try:
            self.process.stdin.write(text)
            self.process.stdin.close()
        except BrokenPipeError:
            pass
        return self.wait()

    def wait(self) -> Tuple[int, str]:
        """Exit status and standard error."""
        assert self.process.stderr is not None
        try:
            status = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(f"the program did not end after {self.seen}") from None
        self._reader.join(PATIENCE)
        return status, self.process.stderr.read()

    def rest(self) -> List[str]:
        """The lines that are left after the end."""
        lines: List[str] = []
        while True:
            line = self._lines.get(timeout=PATIENCE)
            if line is None:
                return lines
            lines.append(line)

    def __enter__(self) -> Program:
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                try:
                    stream.close()
                except BrokenPipeError:
                    pass
