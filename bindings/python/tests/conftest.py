"""What the tests share. Nothing here leaves the machine."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path
from typing import Iterator

import pytest

os.environ["P2PMOUNT_NETWORK"] = "local"

import p2pmount  # noqa: E402
from support import PATIENCE, EchoServer, Pair  # noqa: E402


@pytest.fixture
def server() -> Iterator[p2pmount.Node]:
    with p2pmount.Node() as node:
        yield node


@pytest.fixture
def client() -> Iterator[p2pmount.Node]:
    with p2pmount.Node() as node:
        yield node


@pytest.fixture
def echo() -> Iterator[EchoServer]:
    with EchoServer() as service:
        yield service


@pytest.fixture
def pair(server: p2pmount.Node, client: p2pmount.Node, echo: EchoServer) -> Pair:
    """A listener for the echo service on one node, a forward to it on another."""
    listener = server.listen("echo", echo.address)
    forward = client.forward("echo", 0, server.address)
    return Pair(server, client, listener, forward)


@pytest.fixture
def free_port() -> int:
    """A port that was free just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="session")
def checkout() -> Path:
    """The root of the project."""
    return Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        if not thread.daemon:
            thread.join(PATIENCE)
            assert not thread.is_alive(), f"{thread} is left"
