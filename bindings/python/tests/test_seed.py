"""The programs of seed_snippets.md run as they are written, with another import."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List

import p2pmount
import pytest
from p2pmount import EventKind
from support import PATIENCE, EchoServer, exchange

SNIPPETS = re.findall(r"```python\n(.*?)```", (Path(__file__).parent / "seed_snippets.md").read_text(), re.S)

IMPORT = "from kubo_python import"
OWN_IMPORT = "from p2pmount.kubo_python import"
PEER = "QmTarget..."


def adapted(snippet: str, peer_id: str, port: int) -> str:
    """With the import of this package, a peer that exists, and a port that is free."""
    return snippet.replace(IMPORT, OWN_IMPORT).replace(PEER, peer_id).replace(":8080", f":{port}")


def test_there_is_nothing_else_to_adapt() -> None:
    text = "".join(SNIPPETS)
    assert len(SNIPPETS) == 5
    assert text.count("import") == text.count(IMPORT) == 1
    assert text.count(PEER) == 2 and text.count("8080") == 3


def test_every_snippet_runs_and_returns_what_the_document_says(
    server: p2pmount.Node, echo: EchoServer, free_port: int
) -> None:
    server.listen("my-protocol", echo.address)
    create, listen, forward, show, close = (adapted(snippet, server.peer_id, free_port) for snippet in SNIPPETS)
    names: Dict[str, Any] = {}
    exec(create, names)
    node, p2p = names["node"], names["p2p"]
    try:
        assert p2p.enable() is True
        # The document's nodes are connected by the network; here the other one does it.
        events = node.node.events(EventKind.PEER)
        server.connect(node.get_addrs(), timeout=PATIENCE)
        assert events.get(PATIENCE).peer == server.peer_id

        exec(listen, names)
        assert names["success"] is True
        exec(forward, names)
        assert names["success"] is True
        assert exchange(f"127.0.0.1:{free_port}", b"through the snippet's tunnel") == b"through the snippet's tunnel"

        import socket

        with socket.create_connection(("127.0.0.1", free_port)) as connection:
            connection.sendall(b"x")
            assert connection.recv(1) == b"x"
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                exec(show, names)
            origin = "%s:%d" % connection.getsockname()
            lines = printed.getvalue().splitlines()
            assert lines == [
                f"Protocol: /x/my-protocol, Target: /p2p/{server.peer_id}",
                f"Protocol: /x/my-protocol, Target: 127.0.0.1:{free_port}",
                f"Protocol: /x/my-protocol, Origin: {origin}, Target: /p2p/{server.peer_id}",
            ]
            exec(close, names)
            # Streams end with what is closed.
            with pytest.raises(ConnectionResetError):
                connection.recv(1)
        assert p2p.list_listeners() == ([], [])
    finally:
        node.close()


def test_each_way_of_closing_returns_true(server: p2pmount.Node, free_port: int) -> None:
    create, _, forward, _, close = (adapted(snippet, server.peer_id, free_port) for snippet in SNIPPETS)
    names: Dict[str, Any] = {}
    exec(create, names)
    node = names["node"]
    try:
        events = node.node.events(EventKind.PEER)
        server.connect(node.get_addrs(), timeout=PATIENCE)
        events.get(PATIENCE)
        calls = [line for line in close.splitlines() if line.startswith("p2p.close(")]
        assert len(calls) == 2
        for call in calls:
            exec(forward, names)
            assert names["success"] is True
            assert eval(call, names) is True
            assert eval(call, names) is False
    finally:
        node.close()


# In a network namespace of its own port 8080 is free, and the snippets run to the letter.
UNMODIFIED = """
import sys
import p2pmount
from p2pmount import EventKind
import p2pmount.kubo_python
sys.modules["kubo_python"] = p2pmount.kubo_python
peer = p2pmount.Node()
names = {}
snippets = [each.replace("QmTarget...", peer.peer_id) for each in sys.argv[1:]]
exec(snippets[0], names)
events = names["node"].node.events(EventKind.PEER)
peer.connect(names["node"].get_addrs(), 10)
events.get(10)
for snippet in snippets[1:3]:
    exec(snippet, names)
    assert names["success"] is True, names["p2p"].last_error
for snippet in snippets[3:]:
    exec(snippet, names)
names["node"].close()
peer.close()
"""


def can_unshare() -> List[str]:
    """The command that gives a program a network of its own, empty if this machine does not."""
    if shutil.which("unshare") and shutil.which("ip"):
        command = ["unshare", "-rn"]
        if subprocess.run([*command, "ip", "link", "set", "lo", "up"], stderr=subprocess.DEVNULL).returncode == 0:
            return command
    return []


def test_the_snippets_run_unmodified_where_port_8080_is_free() -> None:
    command = can_unshare()
    if not command:
        reason = "unshare and ip give no network of its own here (it may be forbidden), so port 8080 may be taken"
        assert os.environ.get("CI") != "true", reason
        pytest.skip(reason)
    script = 'ip link set lo up && exec "$@"'
    result = subprocess.run(
        [*command, "sh", "-c", script, "sh", sys.executable, "-c", UNMODIFIED, *SNIPPETS],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        timeout=2 * PATIENCE,
        env=dict(os.environ, P2PMOUNT_NETWORK="local"),
    )
    # The first way of closing has closed all; that the second finds nothing is told by the log.
    assert result.returncode == 0, result.stderr
    assert result.stderr.startswith("close: nothing is mounted that fits my-protocol 127.0.0.1:8080")
    assert result.stderr.count("\n") == 1
    assert "Protocol: /x/my-protocol, Target: 127.0.0.1:8080" in result.stdout
