"""Events come as an iterator that blocks nobody else and always ends."""

from __future__ import annotations

import asyncio
import gc
import os
import select
import signal
import sys
import threading
import time
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Callable, List

import p2pmount
import pytest
from p2pmount import EventKind, _queue
from support import PATIENCE, Pair, connect, descriptors, eventually, eventually_async, ping


def test_an_iteration_gives_the_events_asked_for_until_the_node_is_closed(pair: Pair) -> None:
    events = pair.client.events(EventKind.STREAM_OPENED | EventKind.STREAM_CLOSED | EventKind.NODE)
    seen: List[p2pmount.Event] = []
    thread = threading.Thread(target=lambda: seen.extend(events))
    thread.start()
    with connect(pair.forward.address) as connection:
        assert ping(connection) == b"ping"
    # The end of the stream, then that of the node.
    pair.client.close(drain=PATIENCE)
    thread.join(PATIENCE)
    assert [event.kind for event in seen if event.kind != "node"] == ["stream opened", "stream closed"]
    opened, closed = (event for event in seen if event.kind != "node")
    assert opened.stream == closed.stream == 0
    assert opened.mount == pair.forward.id and opened.protocol == "/x/echo"
    assert (closed.reason, closed.bytes_in, closed.bytes_out) == ("finished", 4, 4)
    assert [event.state for event in seen if event.kind == "node"][0] == "closing"
    assert [event.sequence for event in seen] == list(range(1, len(seen) + 1))


def test_an_event_has_typed_fields_and_all_others_by_name(server: p2pmount.Node) -> None:
    with server.events(EventKind.MOUNT) as events:
        listener = server.listen("web", 80)
        event = events.get(PATIENCE)
    assert (event.mount, event.state, event.target) == (listener.id, "listening", "127.0.0.1:80")
    assert event.event == EventKind.MOUNT
    assert event.stream is None and event.error is None
    assert abs(event.time - datetime.now(timezone.utc)) < timedelta(minutes=1)
    assert event["protocol"] == event.fields["protocol"] == "/x/web"
    known = {name: value for name, value in event.fields.items() if hasattr(event, name)}
    assert len(known) >= 10
    assert all(getattr(event, name) == value for name, value in known.items())


def test_an_event_of_a_kind_that_is_not_known_is_passed_on() -> None:
    event = p2pmount.Event.from_fields({"kind": "novelty", "event": 1 << 20, "sequence": 1, "color": "green"})
    assert (event.kind, event.event, event["color"]) == ("novelty", 1 << 20, "green")


def test_waiting_has_a_limit_in_each_form(client: p2pmount.Node) -> None:
    events = client.events(EventKind.MOUNT, timeout=0.05)
    waits: List[Callable[[], p2pmount.Event]] = [
        lambda: events.get(timeout=0),
        lambda: events.get(timedelta(milliseconds=50)),
        lambda: next(events),
    ]
    for wait in waits:
        started = time.monotonic()
        with pytest.raises(p2pmount.TimedOutError):
            wait()
        assert time.monotonic() - started < 5

    async def wait_async() -> None:
        with pytest.raises(p2pmount.TimedOutError):
            await events.get_async(0.05)
        with pytest.raises(p2pmount.TimedOutError):
            async for _ in events:
                pass

    asyncio.run(wait_async())


def test_closing_from_another_thread_ends_a_waiting_iteration(client: p2pmount.Node) -> None:
    events = client.events(EventKind.MOUNT)
    seen = []
    waiting = [threading.Thread(target=lambda: seen.append(list(events))) for _ in range(4)]
    for thread in waiting:
        thread.start()
    events.close()
    for thread in waiting:
        thread.join(PATIENCE)
    assert seen == [[], [], [], []]
    events.close()
    assert events.closed
    with pytest.raises(p2pmount.ClosedError):
        events.get(timeout=0)
    with pytest.raises(p2pmount.ClosedError):
        events.fileno()


def test_each_event_goes_to_one_of_several_threads(client: p2pmount.Node) -> None:
    events = client.events(EventKind.MOUNT)
    lists: list[list[int]] = [[], [], []]
    threads = [threading.Thread(target=lambda seen=seen: seen.extend(e.sequence for e in events)) for seen in lists]
    for thread in threads:
        thread.start()
    for number in range(30):
        client.listen(f"web-{number}", 80)
    while sum(map(len, lists)) < 30:
        assert all(thread.is_alive() for thread in threads)
        time.sleep(0.01)
    events.close()
    for thread in threads:
        thread.join(PATIENCE)
    assert sorted(sum(lists, [])) == list(range(1, 31))


def test_other_threads_run_while_one_waits(client: p2pmount.Node) -> None:
    events = client.events(EventKind.MOUNT)
    counts = []

    def count() -> None:
        ended = time.monotonic() + 0.3
        number = 0
        while time.monotonic() < ended:
            number += 1
            time.sleep(0.001)
        counts.append(number)

    thread = threading.Thread(target=count)
    thread.start()
    with pytest.raises(p2pmount.TimedOutError):
        events.get(timeout=0.4)
    thread.join(PATIENCE)
    assert counts[0] > 20


@pytest.mark.parametrize("what", ["events", "connect", "forward", "drain"])
def test_a_signal_interrupts_a_wait_in_the_main_thread(pair: Pair, what: str) -> None:
    import socket

    class Interrupted(Exception):
        pass

    def interrupt(number: int, frame: object) -> None:
        raise Interrupted

    previous = signal.signal(signal.SIGALRM, interrupt)
    handles = p2pmount.process().handles
    with socket.create_server(("127.0.0.1", 0)) as silent, connect(pair.forward.address) as connection:
        assert ping(connection) == b"ping"
        silent_peer = f"/ip4/127.0.0.1/tcp/{silent.getsockname()[1]}/p2p/{_some_id()}"
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        try:
            with pytest.raises(Interrupted):
                if what == "events":
                    with pair.client.events() as events:
                        for _ in events:
                            pass
                elif what == "connect":
                    pair.client.connect(silent_peer)
                elif what == "forward":
                    pair.client.forward("web", 0, silent_peer, verify=True)
                else:
                    pair.client.close(drain=None)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, previous)
        if what == "drain":
            # The end of the draining: the node is closed all the same.
            with pytest.raises(ConnectionResetError):
                connection.recv(1)
        else:
            assert [row.protocol for row in pair.client.list().forwards] == ["/x/echo"]
            assert p2pmount.process().handles == handles


def _some_id() -> str:
    with p2pmount.Node(listen_addresses=[]) as node:
        return node.peer_id


def test_a_descriptor_is_readable_exactly_while_events_wait(client: p2pmount.Node) -> None:
    with client.events(EventKind.MOUNT) as events:
        number = events.fileno()
        assert number == events.fileno()
        assert select.select([events], [], [], 0)[0] == []
        client.listen("web", 80)
        assert select.select([events], [], [], PATIENCE)[0] == [events]
        events.get(timeout=0)
        assert select.select([events], [], [], 0)[0] == []


def test_an_overflow_is_told_and_the_capacity_is_an_option(pair: Pair) -> None:
    with pair.client.events(EventKind.STREAM_OPENED | EventKind.STREAM_CLOSED, queue_capacity=2) as events:
        watch = pair.client.events(EventKind.STREAM_CLOSED)
        for _ in range(3):
            with connect(pair.forward.address) as connection:
                ping(connection)
            watch.get(PATIENCE)
        first = events.get(PATIENCE)
        assert (first.kind, first.event) == ("overflow", EventKind.OVERFLOW)
        assert first.count == 4


def test_an_asynchronous_iteration_gives_the_events_until_the_end(server: p2pmount.Node) -> None:
    async def main() -> list[str]:
        events = server.events(EventKind.MOUNT)
        seen = []

        async def watch() -> None:
            async for event in events:
                seen.append(event.state)
                if len(seen) == 2:
                    break
            async for _ in events:
                raise AssertionError("an event came after the last")

        watching = asyncio.create_task(watch())
        await asyncio.sleep(0)
        listener = server.listen("web", 80)
        await eventually_async(lambda: len(seen) == 1)
        listener.close()
        await eventually_async(lambda: len(seen) == 2)
        events.close()
        await asyncio.wait_for(watching, PATIENCE)
        return seen

    assert asyncio.run(main()) == ["listening", "closed"]


def test_tasks_share_events_and_a_cancelled_one_leaves_no_reader(server: p2pmount.Node) -> None:
    async def main() -> None:
        events = server.events(EventKind.MOUNT)
        before = descriptors()
        tasks = [asyncio.create_task(events.get_async()) for _ in range(3)]
        await eventually_async(lambda: descriptors() == before + 3)
        tasks[0].cancel()
        for number in range(2):
            server.listen(f"web-{number}", 80)
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(results[0], asyncio.CancelledError)
        assert sorted(result.protocol for result in results[1:] if isinstance(result, p2pmount.Event)) == [
            "/x/web-0",
            "/x/web-1",
        ]
        events.close()
        assert descriptors() == before

    asyncio.run(main())


def test_events_that_are_forgotten_are_closed(client: p2pmount.Node) -> None:
    before = p2pmount.process().handles
    events = client.events()
    number = events.fileno()
    inode = os.fstat(number).st_ino
    assert p2pmount.process().handles == before + 1
    del events
    gc.collect()
    assert p2pmount.process().handles == before
    try:
        assert os.fstat(number).st_ino != inode
    except OSError:
        pass


def test_the_timeout_of_the_events_is_that_of_get(client: p2pmount.Node) -> None:
    events = client.events(EventKind.MOUNT, timeout=0.05)
    with pytest.raises(p2pmount.TimedOutError):
        events.get()
    with pytest.raises(p2pmount.TimedOutError):
        asyncio.run(events.get_async())
    # And None is for ever all the same.
    waiting = threading.Thread(target=lambda: seen.append(events.get(timeout=None)))
    seen: List[p2pmount.Event] = []
    waiting.start()
    waiting.join(0.2)
    assert waiting.is_alive()
    client.listen("web", 80)
    waiting.join(PATIENCE)
    assert [event.state for event in seen] == ["listening"]


def test_the_longest_timeout_is_waited_for(client: p2pmount.Node, monkeypatch: pytest.MonkeyPatch) -> None:
    # Its clock stands still, so that nothing of it has passed when the waiting begins.
    monkeypatch.setattr(_queue, "time", SimpleNamespace(monotonic=lambda: 0.0))
    events = client.events(EventKind.MOUNT)
    seen: List[p2pmount.Event] = []
    waiting = threading.Thread(target=lambda: seen.append(events.get(timeout=2147483.647)))
    before = descriptors()
    waiting.start()
    eventually(lambda: descriptors() == before + 1)
    client.listen("web", 80)
    waiting.join(PATIENCE)
    assert [event.state for event in seen] == ["listening"]


def test_events_are_closed_by_async_with(client: p2pmount.Node) -> None:
    async def main() -> None:
        async with client.events(EventKind.MOUNT) as events:
            client.listen("web", 80)
            assert (await events.get_async(PATIENCE)).protocol == "/x/web"
        assert events.closed

    asyncio.run(main())


def test_threads_that_ask_for_the_descriptor_at_once_get_the_same(client: p2pmount.Node) -> None:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(200):
            with client.events(EventKind.MOUNT) as events:
                numbers: List[int] = []
                together = threading.Barrier(3)

                def ask(numbers: List[int] = numbers, together: threading.Barrier = together) -> None:
                    together.wait()
                    numbers.append(events.fileno())

                threads = [threading.Thread(target=ask) for _ in range(3)]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join(PATIENCE)
                assert numbers == [events.fileno()] * 3
    finally:
        sys.setswitchinterval(interval)


def test_a_descriptor_is_closed_once(client: p2pmount.Node) -> None:
    events = client.events(EventKind.MOUNT)
    descriptor = events._queue.new_descriptor()
    number = descriptor.number
    # In cyclic garbage a finalizer may come before somebody's close.
    getattr(descriptor, "__del__", descriptor.close)()
    with open(os.devnull) as other:
        # The number means something else now.
        assert other.fileno() == number
        descriptor.close()
        del descriptor
        gc.collect()
        os.fstat(number)
