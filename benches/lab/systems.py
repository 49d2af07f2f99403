"""What is compared: plain TCP, this library, and Kubo."""

from __future__ import annotations

import os
import socket
import sys
import tempfile
from types import TracebackType

from namespaces import FAR, NEAR, FarEnd
from programs import Program

SYSTEMS = ("plain", "tcp", "quic", "kubo-tls", "kubo-quic")
LISTEN = {"tcp": "/ip4/%s/tcp/0", "quic": "/ip4/%s/udp/0/quic-v1"}


class System:
    """One of `SYSTEMS`, with both its processes, for as long as this is open. `address` leads to the target."""

    def __init__(self, name: str, far_end: FarEnd, build: str, kubo: str) -> None:
        self.programs: list[Program] = []
        self.address = (FAR, far_end.port)
        if name == "plain":
            return
        transport = "quic" if name.endswith("quic") else "tcp"
        target = "/ip4/127.0.0.1/tcp/%d" % far_end.port
        self.address = ("127.0.0.1", free_port())
        listen = "/ip4/127.0.0.1/tcp/%d" % self.address[1]
        if name.startswith("kubo"):
            program = os.path.join(os.path.dirname(os.path.abspath(__file__)), "kubo.py")
            near, far = (
                [sys.executable, program, kubo, new_directory(build, side), LISTEN[transport] % address]
                for side, address in (("near", NEAR), ("far", FAR))
            )
            near, far = [*near, "forward"], [*far, "expose"]
        else:
            options = ["network=private", "transports=" + transport]
            tunnel = os.path.join(build, "tunnel")
            near = [tunnel, "forward", *options, "listen.addresses="]
            far = [tunnel, "expose", *options, "listen.addresses=" + LISTEN[transport] % FAR]
        try:
            peer = self.start(name + " listener", far_end.inside(*far, "lab", target)).value("address")
            self.start(name + " forward", [*near, "lab", listen, peer]).value("listen")
        except BaseException:
            self.close()
            raise

    def start(self, name: str, command: list[str]) -> Program:
        program = Program(name, command)
        self.programs.append(program)
        return program

    def close(self) -> None:
        for program in self.programs:
            program.kill()

    def __enter__(self) -> System:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()


def new_directory(build: str, name: str) -> str:
    """A directory that lasts as long as the namespaces."""
    return tempfile.mkdtemp(prefix=name + "-", dir=os.path.join(build, "run"))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port
