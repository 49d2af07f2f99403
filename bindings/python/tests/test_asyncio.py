"""Calls that wait for the network do not block an event loop, and a cancelled one leaves nothing behind."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from typing import Iterator, Tuple

import p2pmount
import pytest
from p2pmount import EventKind
from support import PATIENCE, EchoServer, Pair, connect, descriptors, eventually_async, exchange, ping


@pytest.fixture
def silent_peer() -> Iterator[Tuple[socket.socket, str]]:
    """A peer that accepts connections and says nothing, so that a dial lasts."""
    with socket.create_server(("127.0.0.1", 0)) as silent, p2pmount.Node(listen_addresses=[]) as node:
        yield silent, f"/ip4/127.0.0.1/tcp/{silent.getsockname()[1]}/p2p/{node.peer_id}"


def test_connect_forward_and_close_can_be_awaited(server: p2pmount.Node, echo: EchoServer) -> None:
    async def main() -> None:
        server.listen("echo", echo.address)
        async with p2pmount.Node() as client:
            await client.connect_async(server.addresses, timeout=PATIENCE)
            forward = await client.forward_async("echo", 0, server.peer_id, verify=True)
            answer = await asyncio.get_running_loop().run_in_executor(None, exchange, forward.address, b"async")
            assert answer == b"async"
            await client.close_async(drain=1)
            assert client.closed
            await client.close_async()
        with pytest.raises(p2pmount.BadHandleError):
            client.list()

    asyncio.run(main())


def test_errors_are_raised_where_they_are_awaited(server: p2pmount.Node, client: p2pmount.Node, free_port: int) -> None:
    async def main() -> None:
        with pytest.raises(p2pmount.ProtocolRefusedError):
            await client.forward_async("nothing", 0, server.address, verify=True)
        with pytest.raises(p2pmount.BadPeerError):
            await client.connect_async("nobody")
        with pytest.raises(p2pmount.UnreachableError, match="Connection refused"):
            await client.connect_async(f"/ip4/127.0.0.1/tcp/{free_port}/p2p/{other_id()}")
        with pytest.raises(p2pmount.BadAddressError):
            await client.forward_async("echo", "nowhere", server.address)

    asyncio.run(main())


def other_id() -> str:
    with p2pmount.Node(listen_addresses=[]) as node:
        return node.peer_id


def test_the_loop_goes_on_while_an_operation_lasts(
    client: p2pmount.Node, silent_peer: Tuple[socket.socket, str]
) -> None:
    async def main() -> None:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0.01)
                ticks += 1

        ticking = asyncio.create_task(tick())
        with pytest.raises(p2pmount.TimedOutError):
            await client.connect_async(silent_peer[1], timeout=0.3)
        ticking.cancel()
        assert ticks > 5

    asyncio.run(main())


def test_a_cancelled_operation_leaves_nothing_behind(
    client: p2pmount.Node, silent_peer: Tuple[socket.socket, str], free_port: int
) -> None:
    async def main() -> None:
        handles, before = p2pmount.process().handles, descriptors()
        forwarding = asyncio.create_task(client.forward_async("echo", free_port, silent_peer[1], verify=True))
        connecting = asyncio.create_task(client.connect_async(silent_peer[1]))
        # Two operations and a queue.
        await eventually_async(lambda: p2pmount.process().handles >= handles + 3)
        for task in (forwarding, connecting):
            task.cancel()
            # A second cancellation does not let it go without its end.
            asyncio.get_running_loop().call_soon(task.cancel)
        for task in (forwarding, connecting):
            with pytest.raises(asyncio.CancelledError):
                await task
        assert p2pmount.process().handles == handles
        assert client.list().mounts == []
        # The port is free.
        socket.create_server(("127.0.0.1", free_port)).close()
        assert descriptors() == before
        assert client._dispatchers == {}

    asyncio.run(main())


def test_a_timeout_of_asyncio_cancels_the_operation(
    client: p2pmount.Node, silent_peer: Tuple[socket.socket, str]
) -> None:
    async def main() -> None:
        handles = p2pmount.process().handles
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(client.connect_async(silent_peer[1]), 0.1)
        assert p2pmount.process().handles == handles

    asyncio.run(main())


def test_cancelling_at_any_moment_leaves_no_forward(pair: Pair) -> None:
    async def main() -> None:
        pair.client.connect(pair.server.address, timeout=PATIENCE)
        before = p2pmount.process().handles
        cancelled = finished = 0
        for number in range(60):
            task = asyncio.create_task(pair.client.forward_async("echo", 0, pair.server.peer_id, verify=True))
            await asyncio.sleep(number * 0.00005)
            task.cancel()
            try:
                (await task).close()
                finished += 1
            except asyncio.CancelledError:
                cancelled += 1
        assert cancelled > 0
        assert len(pair.client.list().forwards) == 1
        assert p2pmount.process().handles == before

    asyncio.run(main())


def test_a_coroutine_that_is_dropped_cancels_its_operation(
    client: p2pmount.Node, silent_peer: Tuple[socket.socket, str]
) -> None:
    handles = p2pmount.process().handles
    loop = asyncio.new_event_loop()
    try:
        coroutine = client.connect_async(silent_peer[1])

        async def start() -> None:
            # One step by hand, as a loop does that is stopped afterwards.
            coroutine.send(None)

        loop.run_until_complete(start())
        assert p2pmount.process().handles > handles
        coroutine.close()
    finally:
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
    deadline = time.monotonic() + PATIENCE
    while p2pmount.process().handles > handles:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_operations_of_one_loop_share_a_queue(pair: Pair) -> None:
    async def main() -> None:
        handles, before = p2pmount.process().handles, descriptors()
        tasks = [
            asyncio.create_task(pair.client.forward_async("echo", 0, pair.server.address, verify=True))
            for _ in range(50)
        ]
        await asyncio.sleep(0)
        # A handle or two for each operation (it may have its mount already), and one queue with its descriptor.
        assert p2pmount.process().handles <= handles + 101
        assert descriptors() == before + 1
        forwards = await asyncio.gather(*tasks)
        assert len({forward.address for forward in forwards}) == 50
        assert pair.client._dispatchers == {}
        for forward in forwards:
            forward.close()
        assert p2pmount.process().handles == handles
        assert descriptors() == before

    asyncio.run(main())


def test_loops_in_several_threads_use_one_node(pair: Pair) -> None:
    failures = []

    async def main() -> None:
        for _ in range(5):
            (await pair.client.forward_async("echo", 0, pair.server.address, verify=True)).close()

    def run() -> None:
        try:
            asyncio.run(main())
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert failures == []
    assert pair.client._dispatchers == {}


def test_cancelling_a_close_ends_the_draining(pair: Pair) -> None:
    async def main() -> None:
        with connect(pair.forward.address) as connection:
            assert ping(connection) == b"ping"
            events = pair.server.events(EventKind.STREAM_CLOSED)
            node_events = pair.client.events(EventKind.NODE)
            closing = asyncio.create_task(pair.client.close_async(drain=None))
            assert (await node_events.get_async(PATIENCE)).state == "closing"
            assert not closing.done()
            closing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await closing
            with pytest.raises(ConnectionResetError):
                connection.recv(1)
            await events.get_async(PATIENCE)
        await pair.client.close_async()
        with pytest.raises(p2pmount.BadHandleError):
            pair.client.list()

    asyncio.run(main())


def test_closing_the_node_ends_what_is_awaited(client: p2pmount.Node, silent_peer: Tuple[socket.socket, str]) -> None:
    async def main() -> None:
        with p2pmount.Node() as node:
            handles = p2pmount.process().handles
            connecting = asyncio.create_task(node.connect_async(silent_peer[1]))
            await eventually_async(lambda: p2pmount.process().handles > handles)
            await node.close_async()
            with pytest.raises(p2pmount.ClosedError):
                await connecting

    asyncio.run(main())


def test_an_asynchronous_close_waits_for_another_threads(pair: Pair) -> None:
    async def main() -> None:
        with connect(pair.forward.address) as connection:
            assert ping(connection) == b"ping"
            closing = threading.Thread(target=lambda: pair.client.close(drain=0.3))
            started = time.monotonic()
            events = pair.client.events(EventKind.NODE)
            closing.start()
            # The other is the first.
            assert (await events.get_async(PATIENCE)).state == "closing"
            await pair.client.close_async()
            assert time.monotonic() - started >= 0.25
            closing.join(PATIENCE)

    asyncio.run(main())


def test_what_a_closed_loop_has_left_is_ended_by_the_next_call(
    client: p2pmount.Node, silent_peer: Tuple[socket.socket, str], free_port: int
) -> None:
    handles = p2pmount.process().handles
    loop = asyncio.new_event_loop()
    coroutines = [
        client.forward_async("echo", free_port, silent_peer[1], verify=True),
        client.connect_async(silent_peer[1]),
    ]

    async def start() -> None:
        # One step by hand: tasks would be complained of by the loop.
        for coroutine in coroutines:
            coroutine.send(None)

    loop.run_until_complete(start())
    loop.close()
    assert p2pmount.process().handles > handles

    async def fail() -> None:
        with pytest.raises(p2pmount.TimedOutError):
            await client.connect_async(silent_peer[1], timeout=0)

    asyncio.run(fail())
    assert p2pmount.process().handles == handles
    assert client._dispatchers == {}
    socket.create_server(("127.0.0.1", free_port)).close()
    for coroutine in coroutines:
        coroutine.close()
