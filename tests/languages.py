#!/usr/bin/env python3
"""A listener in each language, a forward in each other: the same bytes and the same ends.

    languages.py [NAME=COMMAND ...]

NAME is a language and COMMAND how its example `tunnel` is started there (split as a shell does). For each pair of
them, in both directions and each with itself, a client sends 1 MiB through the tunnel while it receives 1 MiB, ends its
own direction, and gets everything that the service behind the listener still has to say after that. Exit status 0 only
if every byte and every end was right.
"""

from __future__ import annotations

import hashlib
import os
import queue
import random
import shlex
import socket
import subprocess
import sys
import threading
import time

SIZE = 1 << 20
# Seconds: for one line of a program, for one transfer, for a program to end.
LINE, TRANSFER, END = 20, 30, 15


class Failure(Exception):
    """Something was not as promised; the text says what."""


def read_all(connection: socket.socket) -> bytes:
    parts = []
    while part := connection.recv(1 << 16):
        parts.append(part)
    return b"".join(parts)


class Service:
    """Sends 1 MiB at once; after the client's end of file sends the digest of all that came, and ends."""

    def __init__(self) -> None:
        self.content = random.Random(2).randbytes(SIZE)
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.socket.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            connection, _ = self.socket.accept()
            threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        with connection:
            connection.settimeout(TRANSFER)
            try:
                sender = threading.Thread(target=connection.sendall, args=(self.content,))
                sender.start()
                digest = hashlib.sha256(read_all(connection)).digest()
                sender.join()
                connection.sendall(digest)
                connection.shutdown(socket.SHUT_WR)
            except OSError as error:
                print("the service's connection: %s" % error, file=sys.stderr)


class Program:
    """A running example `tunnel`."""

    def __init__(self, language: str, command: list[str], *arguments: str) -> None:
        self.name = "%s %s" % (language, arguments[0])
        environment = dict(os.environ, P2PMOUNT_NETWORK="local")
        try:
            self.process = subprocess.Popen(
                [*command, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
            )
        except OSError as error:
            raise Failure("%s cannot be started: %s" % (self.name, error)) from None
        self.lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self.process.stdout or ():
            self.lines.put(line.rstrip("\n"))
        self.lines.put("")

    def values(self, key: str) -> list[str]:
        """The values of the lines `key value` up to the line `ready`."""
        found: list[str] = []
        deadline = time.monotonic() + LINE
        while True:
            try:
                line = self.lines.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise Failure("%s did not get ready within %d s" % (self.name, LINE)) from None
            if line == "":
                raise Failure("%s ended early" % self.name)
            if line == "ready":
                return found
            word, _, value = line.partition(" ")
            if word == key:
                found.append(value)

    def end(self) -> None:
        """Ends its input; it has to go by itself then, with status 0."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        try:
            status = self.process.wait(END)
        except subprocess.TimeoutExpired:
            raise Failure("%s did not end within %d s" % (self.name, END)) from None
        if status != 0:
            raise Failure("%s ended with status %d" % (self.name, status))

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        """What has not ended by itself is killed."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def transfer(address: str, service: Service) -> None:
    host, _, port = address.rpartition(":")
    content = random.Random(1).randbytes(SIZE)
    with socket.create_connection((host, int(port)), TRANSFER) as client:
        client.settimeout(TRANSFER)

        def send() -> None:
            client.sendall(content)
            client.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send)
        sender.start()
        received = read_all(client)
        sender.join()
    wanted = service.content + hashlib.sha256(content).digest()
    if received != wanted:
        same = next((at for at, pair in enumerate(zip(received, wanted)) if pair[0] != pair[1]), "the shorter's end")
        raise Failure("%d bytes came instead of %d, the same up to %s" % (len(received), len(wanted), same))


def main() -> int:
    commands = {}
    for argument in sys.argv[1:]:
        language, _, command = argument.partition("=")
        commands[language] = shlex.split(command)
    if not commands or not all(commands.values()):
        print((__doc__ or "").split("\n\n")[1].strip(), file=sys.stderr)
        return 2
    service = Service()
    passed = failed = 0
    for far, far_command in commands.items():
        try:
            with Program(far, far_command, "expose", "pair", service.address) as listener:
                peer = ",".join(listener.values("address"))
                for near, near_command in commands.items():
                    started = time.monotonic()
                    try:
                        with Program(near, near_command, "forward", "pair", "127.0.0.1:0", peer) as forward:
                            transfer(forward.values("listen")[0], service)
                            forward.end()
                    except (Failure, OSError) as error:
                        failed += 1
                        print("%-7s forwards to %-7s FAILED: %s" % (near, far, error))
                    else:
                        passed += 1
                        took = 1000 * (time.monotonic() - started)
                        print("%-7s forwards to %-7s all right, %4.0f ms" % (near, far, took))
                listener.end()
        except Failure as error:
            failed += 1
            print("%-7s FAILED: %s" % (far, error))
    print("%d passed, %d failed" % (passed, failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
