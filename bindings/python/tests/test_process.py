"""The end of a process, a crash and a fork do no harm, with nodes open and data passing."""

from __future__ import annotations

import copy
import os
import pickle
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, List

import p2pmount
import pytest
from support import LIMITED, PATIENCE, python

RUNS = 50

# Two nodes, data passing between them, threads blocked in the library.
TRAFFIC = """
import os, socket, sys, threading
import p2pmount

def echo(connection):
    try:
        while True:
            data = connection.recv(65536)
            if not data:
                return
            connection.sendall(data)
    except OSError:
        pass

def accept():
    while True:
        threading.Thread(target=echo, args=(service.accept()[0],), daemon=True).start()

service = socket.create_server(("127.0.0.1", 0))
threading.Thread(target=accept, daemon=True).start()
server, client = p2pmount.Node(), p2pmount.Node()
server.listen("echo", service.getsockname())
host, _, port = client.forward("echo", 0, server.address).address.rpartition(":")
events = server.events()
threading.Thread(target=lambda: [event for event in events], daemon=True).start()
passing = threading.Event()

def load():
    try:
        with socket.create_connection((host, int(port))) as connection:
            while True:
                connection.sendall(bytes(10000))
                left = 10000
                while left:
                    left -= len(connection.recv(left))
                passing.set()
    except OSError:
        pass

threading.Thread(target=load, daemon=True).start()
passing.wait()
"""


def test_an_interpreter_ends_well_with_nodes_open_and_data_passing() -> None:
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: python(TRAFFIC), range(RUNS)))
    failed = [(result.returncode, result.stderr) for result in results if result.returncode != 0 or result.stderr]
    assert failed == []
    assert len(results) == RUNS


@pytest.mark.parametrize(
    "ending, status, error",
    [
        ("sys.exit(3)", 3, ""),
        ("os._exit(4)", 4, ""),
        ("raise RuntimeError('a crash of the program')", 1, "RuntimeError: a crash of the program"),
        (
            "def crash(): raise RuntimeError('a crash of a thread')\n"
            "thread = threading.Thread(target=crash)\nthread.start()\nthread.join()",
            0,
            "RuntimeError: a crash of a thread",
        ),
        ("with client, server: raise RuntimeError('inside')", 1, "RuntimeError: inside"),
        ("import asyncio\nasyncio.run(asyncio.wait_for(client.connect_async('nobody'), 1))", 1, "BadPeerError"),
        ("os.kill(os.getpid(), 15)", -signal.SIGTERM, ""),
        ("os.kill(os.getpid(), 2)", -signal.SIGINT, "KeyboardInterrupt"),
    ],
)
def test_a_program_ends_with_its_own_status_however_it_ends(ending: str, status: int, error: str) -> None:
    result = python(TRAFFIC + ending)
    assert result.returncode == status, result.stderr
    assert (error in result.stderr) if error else (result.stderr == "")
    assert "Fatal" not in result.stderr and "panic" not in result.stderr


def test_ctrl_c_interrupts_a_program_that_waits() -> None:
    script = TRAFFIC + "print('ready', flush=True)\nfor event in client.events(): pass\n"
    process = subprocess.Popen(
        [sys.executable, "-c", LIMITED + script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    watchdog = threading.Timer(PATIENCE, process.kill)
    watchdog.start()
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        _, error = process.communicate()
    finally:
        watchdog.cancel()
    assert process.returncode == -signal.SIGINT
    assert "KeyboardInterrupt" in error


def test_the_other_side_learns_at_once_that_a_program_has_ended() -> None:
    # With QUIC nothing but the library's last word tells it: there is no end of a connection as with TCP. And the node
    # is one that the interpreter does not collect at its end.
    script = '''
import subprocess, sys, time
import p2pmount
with p2pmount.Node(transports="quic") as node:
    events = node.events(p2pmount.EventKind.PEER)
    program = """
import ctypes, p2pmount, sys
node = p2pmount.Node(transports="quic")
ctypes.pythonapi.Py_IncRef(ctypes.py_object(node))
node.connect(sys.argv[1], 10)
"""
    subprocess.run([sys.executable, "-c", program, node.address], check=True)
    assert events.get(10).state == "connected"
    started = time.monotonic()
    assert events.get(10).state == "disconnected"
    assert time.monotonic() - started < 3
'''
    result = python(script)
    assert (result.returncode, result.stderr) == (0, "")


# In the child: every use of what was inherited fails clearly, and a node of its own works.
CHILD = """
def in_child():
    for use in (
        lambda: client.list(), lambda: client.address, lambda: client.listen("a", 1), lambda: client.close(),
        lambda: client.close(drain=1), lambda: forward.state, lambda: forward.close(), lambda: events.get(0),
        lambda: next(events), lambda: client.connect(server.peer_id), lambda: client.events(),
        lambda: client.forward("echo", 0, "x"), lambda: client.set("reconnect", True),
    ):
        try:
            use()
        except p2pmount.ForkedError as error:
            assert "forked" in str(error), error
        else:
            raise AssertionError("an inherited object worked")
    with p2pmount.Node() as mine, p2pmount.Node() as other:
        mine.connect(other.address, 10)
        with mine.forward("nothing", 0, other.peer_id) as own:
            assert own.state == "connected"
"""

SETUP = TRAFFIC + "forward = client.forward('echo', 0, server.peer_id)\n" + CHILD

STILL_WORKS = """
passing.clear()
assert passing.wait(10), "the parent's tunnel stopped"
assert len(client.list().forwards) == 2
client.close()
server.close()
"""


def test_a_forked_child_is_told_so_and_may_open_a_node_of_its_own() -> None:
    # The child ends like any program, so its finalizers and exit handlers run over what it inherited.
    script = (
        SETUP
        + """
import gc, warnings
warnings.simplefilter("ignore", DeprecationWarning)
child = os.fork()
if child == 0:
    signal.alarm(15)
    with client, forward:
        in_child()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del client, server, forward, events
        gc.collect()
    # Who forgets what is not his needs no warning.
    assert not [each for each in caught if "p2pmount" in str(each.message)]
    sys.exit(0)
_, status = os.waitpid(child, 0)
assert status == 0, status
"""
        + STILL_WORKS
    )
    result = python(script)
    assert (result.returncode, result.stderr) == (0, "")


def test_many_forked_children_end_while_the_parent_is_busy() -> None:
    script = (
        SETUP
        + """
import warnings
warnings.simplefilter("ignore", DeprecationWarning)
children = []
for number in range(10):
    child = os.fork()
    if child == 0:
        signal.alarm(15)
        if number % 2:
            in_child()
        sys.exit(0)
    children.append(child)
for child in children:
    assert os.waitpid(child, 0)[1] == 0
"""
        + STILL_WORKS
    )
    result = python(script)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_multiprocessing_works(method: str, tmp_path: object) -> None:
    script = f"""
import multiprocessing, warnings
import p2pmount

def work(inherited, address, results):
    try:
        if inherited is not None:
            try:
                inherited.list()
                results.put("an inherited node worked")
                return
            except p2pmount.ForkedError:
                pass
        with p2pmount.Node() as node:
            node.connect(address, 10)
            results.put("ok")
    except BaseException as error:
        results.put(repr(error))

if __name__ == "__main__":
    warnings.simplefilter("ignore", DeprecationWarning)
    context = multiprocessing.get_context("{method}")
    with p2pmount.Node() as node:
        results = context.Queue()
        given = node if "{method}" == "fork" else None
        processes = [context.Process(target=work, args=(given, node.address, results)) for _ in range(3)]
        for process in processes:
            process.start()
        assert [results.get(timeout=15) for _ in processes] == ["ok"] * 3
        for process in processes:
            process.join(15)
            assert process.exitcode == 0, process.exitcode
        assert node.list().node.state == "open"
"""
    path = os.path.join(str(tmp_path), "program.py")
    with open(path, "w") as file:
        file.write(script)
    result = subprocess.run(
        [sys.executable, path], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=2 * PATIENCE
    )
    assert (result.returncode, result.stderr) == (0, "")


def test_the_package_prints_nothing_and_writes_no_file(tmp_path: object) -> None:
    result = subprocess.run(
        [sys.executable, "-c", "import p2pmount\nwith p2pmount.Node() as node: node.listen('web', 80)"],
        cwd=str(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert (result.returncode, result.stdout) == (0, "")
    assert os.listdir(str(tmp_path)) == []


# A thread drains for ever: a stream is open whose other end is another process, which stays.
DRAINING = """
import os, socket, subprocess, sys, threading
import p2pmount

other = subprocess.Popen(
    [sys.executable, "-c", sys.argv[1]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
)
client = p2pmount.Node()
host, _, port = client.forward("echo", 0, other.stdout.readline().strip()).address.rpartition(":")
connection = socket.create_connection((host, int(port)))
connection.sendall(b"x")
assert connection.recv(1) == b"x"
events = client.events(p2pmount.EventKind.NODE)
threading.Thread(target=lambda: client.close(drain=None), daemon=True).start()
assert events.get(10).state == "closing"
print("draining", flush=True)
"""

SERVING = (
    LIMITED
    + """
import socket, sys
import p2pmount
service = socket.create_server(("127.0.0.1", 0))
with p2pmount.Node() as node:
    node.listen("echo", service.getsockname())
    print(node.address, flush=True)
    accepted, _ = service.accept()
    accepted.sendall(accepted.recv(1))
    sys.stdin.read()
"""
)


def test_a_program_ends_while_one_of_its_threads_drains() -> None:
    result = python(DRAINING, SERVING)
    assert (result.returncode, result.stdout, result.stderr) == (0, "draining\n", "")


def test_ctrl_c_interrupts_a_close_that_waits_for_the_draining_of_a_thread() -> None:
    result = python(DRAINING + "threading.Timer(0.2, os.kill, (os.getpid(), 2)).start()\nclient.close()\n", SERVING)
    assert result.returncode == -signal.SIGINT
    assert "KeyboardInterrupt" in result.stderr


def test_what_is_in_the_library_cannot_be_copied() -> None:
    with p2pmount.Node() as node:
        events = node.events()
        mount = node.listen("web", 80)
        for each in (node, mount, events, events._queue, events._queue.descriptor()):
            ways: List[Callable[[Any], object]] = [copy.copy, copy.deepcopy, pickle.dumps]
            for way in ways:
                with pytest.raises(TypeError, match=f"{type(each).__name__} belongs to its process and cannot be"):
                    way(each)
        with pytest.raises(TypeError):
            copy.deepcopy({"node": node})
        assert node.list().mounts[0].id == mount.id
        events.get(0)


def test_a_node_is_no_argument_of_a_spawned_process(tmp_path: object) -> None:
    path = os.path.join(str(tmp_path), "program.py")
    with open(path, "w") as file:
        file.write(
            LIMITED
            + """
import multiprocessing
import p2pmount

def work(node):
    node.listen("web", 80)

if __name__ == "__main__":
    with p2pmount.Node() as node:
        process = multiprocessing.get_context("spawn").Process(target=work, args=(node,))
        try:
            process.start()
        except TypeError as error:
            print(error)
        assert node.list().mounts == []
"""
        )
    result = subprocess.run([sys.executable, path], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout == "Node belongs to its process and cannot be pickled or copied\n"
