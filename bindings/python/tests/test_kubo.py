"""The classes of kubo_python and their later names behave as their users expect."""

from __future__ import annotations

import logging
import stat
from pathlib import Path
from typing import Callable, Iterator, List, Tuple, Type

import p2pmount
import pytest
from p2pmount.ipfs_node import IpfsNode, ListenerTunnel, SenderTunnel, TunnelsList
from p2pmount.kubo_python import IPFSP2P, IPFSNode, P2PMapping, P2PStream
from support import PATIENCE, EchoServer, connect, exchange, ping

Two = Tuple[IPFSNode, IPFSNode]


@pytest.fixture
def two() -> Iterator[Two]:
    with IPFSNode.ephemeral() as one, IPFSNode.ephemeral(online=True, enable_pubsub=False) as other:
        assert one.connect_to_peer(other.get_addrs()[0]) is True
        yield one, other


def test_an_ephemeral_node_has_an_id_and_full_addresses() -> None:
    with IPFSNode.ephemeral() as node, IPFSNode() as other:
        assert node.peer_id != other.peer_id
        assert node.get_addrs() and all(address.endswith("/p2p/" + node.peer_id) for address in node.get_addrs())
        assert str(node) == f"IPFSNode(peer_id={node.peer_id}, online)"
    assert str(node).endswith("closed)")
    node.close()


def test_a_persistent_node_keeps_its_key_in_a_directory_of_its_own(tmp_path: Path) -> None:
    repo = tmp_path / "deep" / "repo"
    ids = set()
    for path in (str(repo), repo):
        with IPFSNode(path) as node:
            ids.add(node.peer_id)
    assert len(ids) == 1
    assert stat.S_IMODE(repo.stat().st_mode) == 0o700
    assert [file.name for file in repo.iterdir()] == ["key"]
    assert stat.S_IMODE((repo / "key").stat().st_mode) == 0o600
    with IpfsNode(str(repo)) as later:
        assert {later.peer_id} == ids


def test_an_offline_node_does_not_listen_and_does_not_connect() -> None:
    with IPFSNode.ephemeral() as other, IPFSNode.ephemeral(online=False) as node:
        assert node.get_addrs() == []
        assert node.peer_id.startswith("12D3KooW")
        with pytest.raises(RuntimeError, match="offline"):
            node.connect_to_peer(other.get_addrs()[0])
        assert "offline" in str(node)


def test_a_failed_connect_returns_false_and_keeps_the_reason(two: Two, caplog: pytest.LogCaptureFixture) -> None:
    one, _ = two
    with caplog.at_level(logging.WARNING, "p2pmount.kubo_python"):
        assert one.connect_to_peer("/ip4/127.0.0.1/tcp/1/p2p/nobody") is False
    assert isinstance(one.last_error, p2pmount.BadPeerError)
    assert str(one.last_error) in caplog.text


def test_a_tunnel_carries_data_and_is_listed(two: Two, echo: EchoServer) -> None:
    one, other = two
    serving, using = IPFSP2P(other), IPFSP2P(one)
    assert serving.listen("my-protocol", "/ip4/127.0.0.1/tcp/%s" % echo.address.rpartition(":")[2]) is True
    assert using.listen("another", 8080) is True
    assert using.forward("my-protocol", "/ip4/127.0.0.1/tcp/0", other.peer_id) is True
    mappings, streams = using.list_listeners()
    # Forwards come first.
    assert [mapping.protocol for mapping in mappings] == ["/x/my-protocol", "/x/another"]
    forward, listener = mappings
    assert listener == P2PMapping("/x/another", f"/p2p/{one.peer_id}", "127.0.0.1:8080")
    assert forward.target_address == f"/p2p/{other.peer_id}"
    assert str(forward) == f"/x/my-protocol: {forward.listen_address} -> /p2p/{other.peer_id}"
    assert streams == []
    with connect(forward.listen_address) as connection:
        assert ping(connection) == b"ping"
        _, streams = using.list_listeners()
        origin = "%s:%d" % connection.getsockname()
        assert streams == [P2PStream("/x/my-protocol", origin, f"/p2p/{other.peer_id}")]
        assert str(streams[0]) == f"/x/my-protocol: {origin} -> /p2p/{other.peer_id}"
        (theirs,) = serving.list_listeners()[1]
        assert (theirs.origin_address, theirs.target_address) == (f"/p2p/{one.peer_id}", echo.address)
        assert using.close("my-protocol") is True
        with pytest.raises(ConnectionResetError):
            connection.recv(1)


def test_closing_regards_address_and_peer(two: Two) -> None:
    one, other = two
    p2p = IPFSP2P(one)
    for _ in range(3):
        assert p2p.forward("web", "127.0.0.1:0", other.peer_id)
    addresses = [mapping.listen_address for mapping in p2p.list_listeners()[0]]
    assert p2p.close("web", addresses[0], one.peer_id) is False
    assert p2p.close("web", addresses[0], other.peer_id) is True
    assert sorted(mapping.listen_address for mapping in p2p.list_listeners()[0]) == sorted(addresses[1:])
    assert p2p.close("web", addresses[0]) is False
    assert p2p.close("web", target_peer_id=f"/p2p/{other.peer_id}") is True
    assert p2p.list_listeners() == ([], [])


def test_whatever_fails_returns_false_and_says_why(two: Two, caplog: pytest.LogCaptureFixture) -> None:
    one, other = two
    p2p = IPFSP2P(one)
    assert p2p.last_error is None
    failures: List[Tuple[Callable[[], bool], Type[p2pmount.Error]]] = [
        (lambda: p2p.listen("web", "127.0.0.1:0"), p2pmount.BadAddressError),
        (lambda: p2p.listen("", "127.0.0.1:80"), p2pmount.BadProtocolError),
        (lambda: p2p.listen("/web", "127.0.0.1:80"), p2pmount.BadProtocolError),
        (lambda: p2p.forward("web", "127.0.0.1:0", "QmTarget..."), p2pmount.BadPeerError),
        (lambda: p2p.forward("web", "nowhere", other.peer_id), p2pmount.BadAddressError),
        (lambda: p2p.close("web"), p2pmount.NotFoundError),
    ]
    for call, kind in failures:
        caplog.clear()
        with caplog.at_level(logging.WARNING, "p2pmount.kubo_python"):
            assert call() is False
        assert isinstance(p2p.last_error, kind)
        assert str(p2p.last_error) in caplog.text
    assert p2p.listen("web", 80) is True
    assert p2p.listen("web", 80) is False
    one.close()
    assert p2p.enable() is False
    assert p2p.list_listeners() == ([], [])
    assert isinstance(p2p.last_error, p2pmount.BadHandleError)
    assert IPFSP2P(one).last_error is not None


def test_the_later_names_open_list_and_close_tunnels(echo: EchoServer) -> None:
    port = int(echo.address.rpartition(":")[2])
    with IpfsNode.ephemeral() as server, IpfsNode.ephemeral() as client:
        assert client.peers.connect(server.get_addrs()[0]) is True
        assert client.peers.list_ids() == [server.peer_id]
        assert client.peers.is_connected(server.peer_id)
        assert not client.peers.is_connected(client.peer_id)
        (address,) = client.peers.list_peers()
        assert address.endswith(f"/p2p/{server.peer_id}")
        assert client.peers.find(server.peer_id) == [address.partition("/p2p/")[0]]
        assert client.peers.find(client.peer_id) == []

        server.tunnels.open_listener("my-app", port)
        client.tunnels.open_sender("my-app", 0, server.peer_id)
        tunnels = client.tunnels.get_tunnels()
        assert isinstance(tunnels, TunnelsList)
        (sender,) = tunnels.senders
        assert sender == SenderTunnel("/x/my-app", sender.listen_address, f"/p2p/{server.peer_id}")
        assert tunnels.listeners == []
        assert server.tunnels.get_tunnels() == ([], [ListenerTunnel("/x/my-app", echo.address)])
        assert exchange(sender.listen_address, b"my-app") == b"my-app"

        with pytest.raises(p2pmount.AlreadyRegisteredError):
            server.tunnels.open_listener("my-app", port)
        with connect(sender.listen_address) as connection:
            assert ping(connection) == b"ping"
            bound = int(sender.listen_address.rpartition(":")[2])
            assert client.tunnels.close_sender("my-app", bound + 1 if bound < 65535 else 1) == 0
            assert client.tunnels.close_sender("my-app", bound, server.peer_id) == 1
            assert ping(connection) == b"ping"
            assert client.tunnels.close_streams("my-app") is True
            with pytest.raises(ConnectionResetError):
                connection.recv(1)
        assert client.tunnels.close_streams("my-app") is False
        assert server.tunnels.close_listener("my-app", port) == 1


def test_the_later_names_close_by_kind() -> None:
    with IpfsNode.ephemeral() as node, IpfsNode.ephemeral() as other:
        tunnels = node.tunnels

        def fill() -> None:
            tunnels.open_listener("a", 1)
            tunnels.open_listener("b", "/ip4/127.0.0.1/tcp/2")
            tunnels.open_sender("a", 0, ",".join(other.get_addrs()))

        fill()
        assert tunnels.close_all_senders() == 1
        assert tunnels.close_listener("b") == 1
        assert tunnels.close_all_listeners() == 1
        assert tunnels.close_all() == 0
        fill()
        assert tunnels.close_tcp_connections("a") == 2
        assert tunnels.close_tcp_connections() == 0
        assert tunnels.close_tcp_connections(target_addr="127.0.0.1:2", senders=False) == 1
        fill()
        assert tunnels.close_tcp_connections(all=True) == 3
        fill()
        assert tunnels.close_sender() == 1
        assert tunnels.close_listener() == 2


def test_an_empty_name_or_address_is_an_error_and_not_everything() -> None:
    with IpfsNode.ephemeral() as node, IpfsNode.ephemeral() as other:
        tunnels = node.tunnels
        tunnels.open_listener("a", 1)
        tunnels.open_sender("a", 0, ",".join(other.get_addrs()))
        with pytest.raises(p2pmount.BadProtocolError):
            tunnels.close_streams("")
        with pytest.raises(p2pmount.BadProtocolError):
            tunnels.close_sender("")
        with pytest.raises(p2pmount.BadProtocolError):
            tunnels.close_listener("")
        with pytest.raises(p2pmount.BadAddressError):
            tunnels.close_sender(port="")
        with pytest.raises(p2pmount.BadPeerError):
            tunnels.close_sender(peer_id="")
        assert tunnels.close_tcp_connections("") == 0
        assert len(node.node.list().mounts) == 2


def test_a_terminated_node_stays_terminated() -> None:
    node = IpfsNode.ephemeral(online=False)
    with pytest.raises(RuntimeError):
        node.peers.connect("/p2p/x")
    node.terminate()
    node.terminate()
    with pytest.raises(p2pmount.BadHandleError):
        node.tunnels.open_listener("web", 80)
    with pytest.raises(p2pmount.BadHandleError):
        node.get_addrs()


def test_a_peer_that_does_not_answer_is_not_connected() -> None:
    with IpfsNode.ephemeral() as node, IpfsNode.ephemeral() as other:
        # That a port of TCP is closed shows at once, one of QUIC only by its silence.
        address = next(address for address in other.get_addrs() if "/tcp/" in address)
        other.terminate()
        assert node.peers.connect(address, timeout=PATIENCE) is False
        assert isinstance(node.peers.last_error, p2pmount.UnreachableError)
