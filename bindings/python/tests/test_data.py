"""Bytes and ends pass through a tunnel made with this package."""

from __future__ import annotations

import os
import random
import socket
import stat
import threading
from pathlib import Path

import p2pmount
import pytest
from support import PATIENCE, EchoServer, Pair, connect, exchange, ping, read_all


@pytest.mark.parametrize("transport", ["tcp", "quic"])
def test_a_megabyte_passes_both_ways_and_each_direction_ends_on_its_own(echo: EchoServer, transport: str) -> None:
    data = random.Random(1).getrandbits(8 << 20).to_bytes(1 << 20, "big")
    with p2pmount.Node(transports=transport) as server, p2pmount.Node(transports=transport) as client:
        server.listen("echo", echo.address)
        forward = client.forward("echo", 0, server.addresses)
        assert exchange(forward.address, data) == data
        (peer,) = client.list().peers
        assert peer.transport == transport


def test_the_answer_after_a_half_close_arrives_whole(server: p2pmount.Node, client: p2pmount.Node) -> None:
    def answer() -> None:
        connection, _ = service.accept()
        with connection:
            request = read_all(connection)
            connection.sendall(request[::-1])

    with socket.create_server(("127.0.0.1", 0)) as service:
        threading.Thread(target=answer, daemon=True).start()
        server.listen("reverse", service.getsockname())
        assert exchange(client.forward("reverse", 0, server.address).address, b"abc") == b"cba"


def test_many_connections_at_once(pair: Pair) -> None:
    failures = []

    def one(number: int) -> None:
        data = str(number).encode() * 1000
        if exchange(pair.forward.address, data) != data:
            failures.append(number)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert failures == []


def test_ipv6_addresses_as_pairs(server: p2pmount.Node, client: p2pmount.Node) -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as service:
        server.listen("hello", service.getsockname())
        forward = client.forward("hello", ("::1", 0), server.address)
        assert forward.address.startswith("[::1]:")
        with connect(forward.address) as connection:
            accepted, _ = service.accept()
            with accepted:
                accepted.sendall(b"hello")
            assert read_all(connection) == b"hello"


def test_unix_sockets_on_both_sides_as_paths(server: p2pmount.Node, client: p2pmount.Node, tmp_path: Path) -> None:
    target, listen = tmp_path / "target", tmp_path / "listen"
    with socket.socket(socket.AF_UNIX) as service, socket.socket(socket.AF_UNIX) as connection:
        service.bind(str(target))
        service.listen()
        server.listen("unix", target)
        with client.forward("unix", listen, server.address) as forward:
            assert forward.address == f"unix:{listen}"
            assert stat.S_IMODE(os.stat(listen).st_mode) == 0o600
            connection.connect(str(listen))
            accepted, _ = service.accept()
            with accepted:
                accepted.sendall(b"hello")
            assert read_all(connection) == b"hello"
    assert not listen.exists()


def test_the_target_is_told_the_peer_id_of_the_origin(server: p2pmount.Node, client: p2pmount.Node) -> None:
    with socket.create_server(("127.0.0.1", 0)) as service:
        server.listen("web", service.getsockname(), report_peer_id=True)
        with connect(client.forward("web", 0, server.address).address) as connection:
            connection.sendall(b"request")
            connection.shutdown(socket.SHUT_WR)
            accepted, _ = service.accept()
            with accepted:
                assert read_all(accepted) == f"{client.peer_id}\nrequest".encode()


def test_a_peer_that_is_not_admitted_is_reset(server: p2pmount.Node, client: p2pmount.Node, echo: EchoServer) -> None:
    listener = server.listen("echo", echo.address, peers_deny=[client.peer_id])
    forward = client.forward("echo", 0, server.address)
    with pytest.raises(ConnectionResetError), connect(forward.address) as connection:
        ping(connection)
    listener.set("peers.deny", [])
    assert exchange(forward.address, b"now") == b"now"
