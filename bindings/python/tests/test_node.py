"""A node's life, mounts, lists and closing."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import pickle
import socket
import threading
import warnings
from pathlib import Path
from typing import Any, List

import p2pmount
import pytest
from p2pmount import EventKind, ListKind, _library
from support import PATIENCE, EchoServer, Pair, connect, endpoint, eventually, exchange, exchange_on, ping


def test_a_node_tells_its_peer_id_and_addresses() -> None:
    with p2pmount.Node(transports="tcp", listen_addresses="/ip4/127.0.0.1/tcp/0") as node:
        assert node.peer_id.startswith("12D3KooW")
        (address,) = node.addresses
        assert address.startswith("/ip4/127.0.0.1/tcp/") and address.endswith("/p2p/" + node.peer_id)
        assert node.address == address
        assert node.peer_id in repr(node)
        listener = node.listen("web", 8080)
        assert f"/x/web /p2p/{node.peer_id} -> 127.0.0.1:8080 listening>" in repr(listener)
        listener.close()
        assert repr(listener).endswith(" closed>")


def test_a_node_that_only_dials_has_no_address() -> None:
    with p2pmount.Node(listen_addresses=[]) as node:
        assert node.addresses == []
        assert node.address == node.peer_id


def test_closing_twice_is_allowed_and_a_closed_node_says_so() -> None:
    node = p2pmount.Node()
    peer_id = node.peer_id
    node.close()
    node.close(drain=None)
    assert node.closed and node.peer_id == peer_id and "closed" in repr(node)
    with pytest.raises(p2pmount.BadHandleError):
        node.list()
    with pytest.raises(p2pmount.BadHandleError):
        node.connect(peer_id)


def test_many_threads_may_close_a_node_at_once() -> None:
    node = p2pmount.Node()
    failures = []

    def close(drain: float) -> None:
        try:
            node.close(drain)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=close, args=(number % 2,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert failures == []
    with pytest.raises(p2pmount.BadHandleError):
        node.list()


def test_closing_a_node_wakes_a_blocked_call(client: p2pmount.Node) -> None:
    # A socket that accepts and says nothing: the dial does not end by itself.
    with socket.create_server(("127.0.0.1", 0)) as silent, p2pmount.Node() as node:
        peer = f"/ip4/127.0.0.1/tcp/{silent.getsockname()[1]}/p2p/{client.peer_id}"
        ended = []

        def dial() -> None:
            with pytest.raises(p2pmount.ClosedError) as caught:
                node.connect(peer)
            ended.append(caught.value)

        thread = threading.Thread(target=dial)
        thread.start()
        dialled, _ = silent.accept()
        with dialled:
            node.close()
            thread.join(PATIENCE)
        assert ended


def test_a_node_that_is_forgotten_is_closed_with_a_warning(client: p2pmount.Node) -> None:
    before = p2pmount.process().nodes
    events = client.events(EventKind.PEER)
    node = p2pmount.Node()
    node.connect(client.address, timeout=PATIENCE)
    assert events.get(PATIENCE).state == "connected"
    with pytest.warns(ResourceWarning, match="was never closed"):
        del node
        gc.collect()
    assert events.get(PATIENCE).state == "disconnected"
    assert p2pmount.process().nodes == before


def test_a_closed_node_is_collected_without_a_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with p2pmount.Node() as node:
            node.events()
        del node
        gc.collect()


def test_a_mount_outlives_its_object_but_not_its_node(server: p2pmount.Node) -> None:
    server.listen("web", 80)
    gc.collect()
    assert [row.protocol for row in server.list().listeners] == ["/x/web"]


@pytest.mark.parametrize(
    "target, address",
    [
        (8080, "127.0.0.1:8080"),
        ("8080", "127.0.0.1:8080"),
        (":8080", "127.0.0.1:8080"),
        (("127.0.0.1", 8080), "127.0.0.1:8080"),
        (("::1", 8080), "[::1]:8080"),
        (("::1", 8080, 0, 0), "[::1]:8080"),
        ("/ip6/::1/tcp/8080", "[::1]:8080"),
        (("localhost", 8080), "localhost:8080"),
        (Path("/tmp/some socket"), "unix:/tmp/some socket"),
        ("unix:/tmp/s", "unix:/tmp/s"),
    ],
)
def test_an_address_may_be_written_in_many_ways(server: p2pmount.Node, target: p2pmount.Address, address: str) -> None:
    with server.listen("web", target) as listener:
        assert listener.address == listener.target == address


def test_a_listener_tells_about_itself(server: p2pmount.Node) -> None:
    with server.listen("web", 8080) as listener:
        assert (listener.protocol, listener.state, listener.error) == ("/x/web", "listening", None)
        assert listener.access == "open to all"
        assert (listener.streams_total, listener.bytes_in, listener.bytes_out) == (0, 0, 0)
        assert listener.node is server
        assert not listener.closed
    assert listener.closed
    with pytest.raises(p2pmount.BadHandleError):
        listener.info()
    assert server.list().mounts == []


def test_a_forward_tells_its_real_port_and_counts(pair: Pair) -> None:
    assert pair.forward.state == "idle"
    assert pair.forward.peer == pair.server.peer_id
    host, port = endpoint(pair.forward.address)
    assert host == "127.0.0.1" and port > 0
    with connect(pair.forward.address) as connection:
        assert ping(connection, b"12345") == b"12345"
        assert pair.forward.state == "connected"
        assert pair.forward.streams_total == 1
        eventually(lambda: (pair.forward.bytes_in, pair.forward.bytes_out) == (5, 5))
        (stream,) = pair.forward.streams()
        assert stream.origin == "%s:%d" % connection.getsockname()
        assert stream.mount == pair.forward.id


def test_closing_a_mount_frees_its_port_and_lets_streams_run_on(pair: Pair) -> None:
    address = pair.forward.address
    with connect(address) as connection:
        assert ping(connection) == b"ping"
        pair.forward.close()
        pair.forward.close()
        with pytest.raises(ConnectionRefusedError):
            connect(address)
        assert ping(connection) == b"ping"
        socket.create_server(endpoint(address)).close()


def test_closing_a_mount_with_its_streams_resets_them(pair: Pair) -> None:
    with connect(pair.forward.address) as connection:
        assert ping(connection) == b"ping"
        pair.forward.close(streams=True)
        with pytest.raises(ConnectionResetError):
            connection.recv(1)


def test_one_stream_can_be_closed(pair: Pair) -> None:
    with connect(pair.forward.address) as one, connect(pair.forward.address) as other:
        assert ping(one) == ping(other) == b"ping"
        streams = pair.client.list(ListKind.STREAMS).streams
        assert len(streams) == 2
        pair.client.close_stream(next(row.id for row in streams if row.origin == "%s:%d" % one.getsockname()))
        with pytest.raises(ConnectionResetError):
            one.recv(1)
        assert ping(other) == b"ping"
        with pytest.raises(p2pmount.NotFoundError):
            pair.client.close_stream(999)


def test_mounts_are_closed_by_filters_that_all_have_to_fit(server: p2pmount.Node, client: p2pmount.Node) -> None:
    listeners = [server.listen(name, port) for name, port in (("a", 1), ("b", 2), ("c", 2))]
    forwards = [server.forward("a", 0, client.address) for _ in range(3)]
    assert server.close_mounts("a", target=1) == 1
    assert server.close_mounts(listen=forwards[0].address, target=f"/p2p/{server.peer_id}") == 0
    assert server.close_mounts(listen=endpoint(forwards[0].address)) == 1
    assert server.close_mounts(target=("127.0.0.1", 2), forwards=True) == 0
    assert server.close_mounts(target=("127.0.0.1", 2), listeners=True) == 2
    assert server.close_mounts(target=f"/p2p/{client.peer_id}") == 2
    assert server.close_mounts(all=True) == 0
    mounts: List[p2pmount.Mount[Any]] = [*listeners, *forwards]
    for mount in mounts:
        mount.close()
    with pytest.raises(p2pmount.InvalidArgumentError):
        server.close_mounts()
    with pytest.raises(p2pmount.InvalidArgumentError):
        server.close_mounts("a", all=True)


def test_a_list_has_typed_rows_and_every_field(pair: Pair) -> None:
    with connect(pair.forward.address) as connection:
        assert ping(connection) == b"ping"
        listing = pair.client.list()
    (forward,), (stream,), (peer,) = listing.forwards, listing.streams, listing.peers
    assert (forward.id, forward.protocol, forward.streams, forward.last_error) == (pair.forward.id, "/x/echo", 1, None)
    assert stream.side == "forward" and stream.age_ms >= 0 and stream.path == "direct"
    assert stream.transport == peer.transport
    assert listing.node is not None and listing.node.forwards == 1 and listing.node.network == "local"
    assert [row.address for row in listing.addresses] == pair.client.addresses
    assert len(listing) == len(list(listing)) == len(listing.rows)
    for row in listing:
        # Each attribute says what the field says, whether or not the library has more fields than this package knows.
        names = {each.name for each in dataclasses.fields(row)} - {"fields"}
        assert names <= set(row.fields)
        assert all(getattr(row, name) == row[name] == row.fields[name] for name in names)
        again = pickle.loads(pickle.dumps(row))
        assert again == row and again.fields == row.fields


def test_a_row_of_a_kind_that_is_not_known_keeps_its_fields() -> None:
    row = p2pmount.Row.from_fields({"kind": "novelty", "color": "green", "weight": 3})
    assert (row.kind, row["color"], row["weight"]) == ("novelty", "green", 3)
    known = p2pmount.StreamRow.from_fields({"kind": "stream", "id": 7, "color": "green"})
    assert (known.id, known["color"], known.protocol) == (7, "green", "")


def test_a_list_of_some_kinds_has_only_these(pair: Pair) -> None:
    listing = pair.server.list(ListKind.LISTENERS | ListKind.NODE)
    assert {row.kind for row in listing} == {"listener", "node"}
    with pytest.raises(p2pmount.InvalidArgumentError):
        pair.server.list(0)


def test_process_figures_need_no_node(client: p2pmount.Node) -> None:
    figures = p2pmount.process()
    assert figures.nodes >= 1 and figures.handles >= 1 and figures.version == p2pmount.version()


def test_connecting_makes_a_bare_id_enough(server: p2pmount.Node, client: p2pmount.Node, echo: EchoServer) -> None:
    with pytest.raises(p2pmount.UnreachableError):
        client.forward("echo", 0, server.peer_id)
    with pytest.raises((p2pmount.TimedOutError, p2pmount.UnreachableError)):
        client.connect(server.address, timeout=0)
    client.connect(server.addresses, timeout=PATIENCE)
    client.connect(server.peer_id, timeout=0)
    server.listen("echo", echo.address)
    forward = client.forward("echo", 0, server.peer_id)
    assert exchange(forward.address, b"by id") == b"by id"


def test_the_listening_side_can_forward_to_who_connected(
    server: p2pmount.Node, client: p2pmount.Node, echo: EchoServer
) -> None:
    events = server.events(EventKind.PEER)
    client.connect(server.address, timeout=PATIENCE)
    assert events.get(PATIENCE).peer == client.peer_id
    client.listen("echo", echo.address)
    assert exchange(server.forward("echo", 0, client.peer_id).address, b"back") == b"back"


def test_a_verified_forward_fails_now_and_leaves_no_port(
    server: p2pmount.Node, client: p2pmount.Node, free_port: int
) -> None:
    with pytest.raises(p2pmount.ProtocolRefusedError):
        client.forward("nothing", free_port, server.address, verify=True)
    socket.create_server(("127.0.0.1", free_port)).close()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        peer = f"/ip4/127.0.0.1/tcp/{silent.getsockname()[1]}/p2p/{p2pmount_id()}"
        with pytest.raises(p2pmount.TimedOutError) as caught:
            client.forward("nothing", free_port, peer, verify=True, open_timeout="200ms")
        assert isinstance(caught.value, TimeoutError)


def p2pmount_id() -> str:
    """The id of a peer that is not there."""
    with p2pmount.Node(listen_addresses=[]) as node:
        return node.peer_id


def test_a_peer_that_is_not_there_is_unreachable(client: p2pmount.Node, free_port: int) -> None:
    with pytest.raises(p2pmount.UnreachableError, match="Connection refused"):
        client.connect(f"/ip4/127.0.0.1/tcp/{free_port}/p2p/{p2pmount_id()}", timeout=PATIENCE)
    with pytest.raises(p2pmount.BadPeerError):
        client.connect("/ip4/127.0.0.1/tcp/1")
    with pytest.raises(p2pmount.BadPeerError):
        client.connect(client.address)


def test_a_mount_keeps_the_sentence_of_its_last_error(client: p2pmount.Node, free_port: int) -> None:
    events = client.events(EventKind.MOUNT | EventKind.REFUSED)
    forward = client.forward("web", 0, f"/ip4/127.0.0.1/tcp/{free_port}/p2p/{p2pmount_id()}")
    with pytest.raises(ConnectionResetError), connect(forward.address) as connection:
        connection.recv(1)
    while events.get(PATIENCE).code == 0:
        pass
    error = forward.error
    assert isinstance(error, p2pmount.UnreachableError)
    assert "Connection refused" in str(error)
    row = forward.info()
    assert (error.code, error.system_error, error.flags) == (row.error_code, row.system_error, row.flags)
    assert error.temporary


def test_a_second_listener_for_a_protocol_is_refused(server: p2pmount.Node) -> None:
    server.listen("web", 80)
    with pytest.raises(p2pmount.AlreadyRegisteredError):
        server.listen("/x/web", 81)
    with pytest.raises(p2pmount.BadProtocolError):
        server.listen("/web", 81)
    assert server.listen("/web", 81, protocol_custom=True).protocol == "/web"


def test_draining_lets_a_transfer_finish(pair: Pair) -> None:
    data = bytes(1 << 20)
    with connect(pair.forward.address) as connection:
        assert ping(connection) == b"ping"
        received: List[bytes] = []
        transfer = threading.Thread(target=lambda: received.append(exchange_on(connection, data)))
        transfer.start()
        pair.client.close(drain=PATIENCE)
        transfer.join(PATIENCE)
    assert received == [data]


@pytest.mark.parametrize("way", ["close", "drain", "close_async", "async with", "forgotten"])
def test_a_node_that_has_failed_can_be_closed(monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    # What the library says of a failed node, which cannot be had here.
    def failing(*arguments: Any) -> int:
        if arguments[-1] is not None:
            arguments[-1]._obj.code = p2pmount.Code.INTERNAL
            arguments[-1]._obj.message = b"the node failed"
        return p2pmount.Code.INTERNAL

    before = p2pmount.process().nodes
    node = p2pmount.Node()
    with monkeypatch.context() as patch:
        patch.setattr(_library.library(), "p2p_subscribe", failing)
        patch.setattr(_library.library(), "p2p_node_close_start", failing)

        async def leave() -> None:
            async with node:
                pass

        if way == "close":
            node.close()
        elif way == "drain":
            node.close(drain=None)
        elif way == "close_async":
            asyncio.run(node.close_async(drain=None))
        elif way == "async with":
            asyncio.run(leave())
        else:
            with pytest.warns(ResourceWarning):
                del node
                gc.collect()
    assert p2pmount.process().nodes == before


def test_a_close_without_a_descriptor_to_wait_on_drains_all_the_same(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*arguments: Any) -> int:
        arguments[-1]._obj.code = p2pmount.Code.LIMIT
        return p2pmount.Code.LIMIT

    data = bytes(1 << 20)
    with connect(pair.forward.address) as connection:
        assert ping(connection) == b"ping"
        received: List[bytes] = []
        transfer = threading.Thread(target=lambda: received.append(exchange_on(connection, data)))
        transfer.start()
        with monkeypatch.context() as patch:
            patch.setattr(_library.library(), "p2p_queue_fd", failing)
            pair.client.close(drain=PATIENCE)
        transfer.join(PATIENCE)
    assert received == [data]


def test_the_path_of_a_unix_socket_may_be_bytes_within(server: p2pmount.Node, tmp_path: Path) -> None:
    class InBytes:
        def __init__(self, path: Path) -> None:
            self.path = path

        def __fspath__(self) -> Any:
            return bytes(self.path)

    assert server.listen("web", InBytes(Path("/tmp/s"))).address == "unix:/tmp/s"
    with p2pmount.Node(identity_file=InBytes(tmp_path / "key")):
        assert (tmp_path / "key").is_file()
