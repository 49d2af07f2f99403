"""The exception of a signal handler comes at any moment, and what was under way then is neither lost nor left."""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any, Callable, Iterator, List, Optional

import p2pmount
import pytest
from p2pmount import EventKind, _library
from support import PATIENCE, Pair

PACKAGE = str(Path(p2pmount.__file__).parent)


class Interrupted(BaseException):
    pass


def interrupt(number: int, frame: Optional[FrameType]) -> None:
    raise Interrupted


@pytest.fixture(autouse=True)
def handler() -> Iterator[None]:
    previous = signal.signal(signal.SIGALRM, interrupt)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, previous)


def signal_during(monkeypatch: pytest.MonkeyPatch, function: str) -> None:
    """A signal comes while this function of the library first runs: Python hears it when the call returns."""
    real = getattr(_library.library(), function)
    sent = False

    def call(*arguments: Any) -> Any:
        nonlocal sent
        result = real(*arguments)
        if not sent:
            sent = True
            os.kill(os.getpid(), signal.SIGALRM)
        return result

    monkeypatch.setattr(_library.library(), function, call)


@pytest.mark.parametrize(
    "function", ["p2p_subscribe", "p2p_queue_fd", "p2p_options_new", "p2p_forward_start", "p2p_next_event"]
)
def test_a_signal_during_any_call_of_a_forward_leaves_nothing_of_it(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    handles = p2pmount.process().handles
    with monkeypatch.context() as patch:
        signal_during(patch, function)
        started = time.monotonic()
        with pytest.raises(Interrupted):
            pair.client.forward("echo", 0, pair.server.address, open_timeout="5s")
        assert time.monotonic() - started < 2
    assert len(pair.client.list().forwards) == 1
    assert p2pmount.process().handles == handles


@pytest.mark.parametrize("function", ["p2p_node_open", "p2p_list", "p2p_get", "p2p_listen"])
def test_a_signal_during_a_call_leaves_nothing_of_what_it_made(
    client: p2pmount.Node, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    calls: dict[str, Callable[[], object]] = {
        "p2p_node_open": p2pmount.Node,
        "p2p_list": client.list,
        "p2p_get": lambda: client.get("open.timeout"),
        "p2p_listen": lambda: client.listen("web", 80),
    }
    handles = p2pmount.process().handles
    with monkeypatch.context() as patch:
        signal_during(patch, function)
        with pytest.raises(Interrupted):
            calls[function]()
    assert client.list().mounts == []
    deadline = time.monotonic() + PATIENCE
    # A node is closed in the background.
    while p2pmount.process().handles > handles:
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_an_event_that_a_signal_interrupts_is_the_next_one(
    client: p2pmount.Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = client.events(EventKind.MOUNT)
    handles = p2pmount.process().handles
    for name in ("one", "two"):
        client.listen(name, 80).close()
    seen = []
    for function in ("p2p_next_event", "p2p_row_field", "p2p_event_free"):
        with monkeypatch.context() as patch:
            signal_during(patch, function)
            with pytest.raises(Interrupted):
                events.get(timeout=0)
        seen.append(events.get(timeout=0).sequence)
    seen.append(events.get(timeout=0).sequence)
    assert seen == [1, 2, 3, 4]
    assert p2pmount.process().handles == handles


class AtLine:
    """Raises in the line of the package with this number, in the order in which they are run."""

    def __init__(self, number: int) -> None:
        self.left = number

    def __enter__(self) -> AtLine:
        self._before = sys.gettrace()
        sys.settrace(self._trace)
        return self

    def __exit__(self, *error: object) -> None:
        sys.settrace(self._before)

    def _trace(self, frame: FrameType, event: str, argument: object) -> Any:
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        # Not in a finalizer, whose exceptions Python only prints.
        if event == "line" and frame.f_code.co_name not in ("__del__", "<lambda>"):
            self.left -= 1
            if self.left == 0:
                raise Interrupted
        return self._trace


def interrupted_at_each_line(call: Callable[[], object]) -> Iterator[int]:
    """Interrupts one run after the other a line later, until one goes through."""
    for number in range(1, 5000):
        try:
            with AtLine(number):
                call()
        except Interrupted:
            yield number
        else:
            assert number > 20
            return
    raise AssertionError("it does not end")


def test_a_forward_that_is_interrupted_at_any_line_is_not_left(pair: Pair) -> None:
    made: List[p2pmount.Forward] = []
    for number in interrupted_at_each_line(
        lambda: made.append(pair.client.forward("echo", 0, pair.server.address, open_timeout="5s"))
    ):
        assert len(pair.client.list().forwards) == 1, f"line {number}"
    assert len(made) == 1


def test_a_listener_that_is_interrupted_at_any_line_is_not_left(client: p2pmount.Node) -> None:
    for number in interrupted_at_each_line(lambda: client.listen("web", 80)):
        assert client.list().mounts == [], f"line {number}"


def test_events_that_are_interrupted_at_any_line_are_not_lost(client: p2pmount.Node) -> None:
    events = client.events(EventKind.MOUNT)
    client.listen("web", 80)
    seen: List[int] = []
    for number in interrupted_at_each_line(lambda: seen.append(events.get(timeout=0).sequence)):
        assert seen == [], f"line {number}"
    assert seen == [1]


@pytest.mark.parametrize("verify", [False, True])
def test_signals_at_random_moments_keep_nobody_waiting(pair: Pair, verify: bool) -> None:
    """How many of the results get lost between a call's return and their assignment here is chance, and differs between
    versions of Python; what the calls themselves leave is checked line by line above."""
    pair.client.connect(pair.server.address, timeout=PATIENCE)
    armed = False

    def interrupt_if_armed(number: int, frame: Optional[FrameType]) -> None:
        if armed:
            raise Interrupted

    signal.signal(signal.SIGALRM, interrupt_if_armed)
    moments = random.Random(1)
    interrupted = slow = 0
    ended = time.monotonic() + 3
    while time.monotonic() < ended:
        forward: Optional[p2pmount.Forward] = None
        started = time.monotonic()
        try:
            armed = True
            signal.setitimer(signal.ITIMER_REAL, moments.uniform(0.0001, 0.003))
            forward = pair.client.forward("echo", 0, pair.server.peer_id, verify=verify)
            # Stopping the timer would not be enough: Python calls the handler some steps after the signal has come.
            armed = False
        except Interrupted:
            interrupted += 1
        signal.setitimer(signal.ITIMER_REAL, 0)
        slow += time.monotonic() - started > 3
        if forward is not None:
            forward.close()
    assert interrupted > 10 and slow == 0


def test_a_second_close_hears_signals_and_ends_the_draining(pair: Pair) -> None:
    from support import connect, ping

    with connect(pair.forward.address) as connection:
        assert ping(connection) == b"ping"
        events = pair.client.events(EventKind.NODE)
        first = threading.Thread(target=lambda: pair.client.close(drain=None))
        first.start()
        assert events.get(PATIENCE).state == "closing"
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        started = time.monotonic()
        with pytest.raises(Interrupted):
            pair.client.close()
        assert time.monotonic() - started < 5
        first.join(PATIENCE)
        assert not first.is_alive()
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
    assert pair.client.closed
