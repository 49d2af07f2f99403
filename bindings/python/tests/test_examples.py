"""The example programs do what they say."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import List

import p2pmount
import pytest
from support import EchoServer, Program, connect, exchange, ping


@pytest.fixture
def examples(checkout: Path) -> Path:
    return checkout / "examples" / "python"


def test_tunnel_carries_data_both_ways_and_ends_with_its_input(examples: Path, echo: EchoServer) -> None:
    tunnel = str(examples / "tunnel.py")
    with Program(tunnel, "expose", "transports=tcp", "pair", echo.address, "streams.max=5") as refused:
        status, error = refused.wait()
        assert status == 1
        assert error.startswith("listen: ") and error.endswith("(P2P_ERROR_BAD_OPTION)\n")
    with Program(tunnel, "expose", "transports=tcp", "pair", echo.address, "target.timeout=5s") as expose:
        said = expose.values()
        (peer,) = said["peer"]
        assert all(address.endswith(f"/p2p/{peer}") for address in said["address"])
        addresses = ",".join(said["address"])
        with Program(tunnel, "forward", "pair", "127.0.0.1:0", addresses, "verify=true") as forward:
            (listen,) = forward.values()["listen"]
            data = bytes(range(256)) * 1000
            # The whole of it comes back only if the end of the client's direction is passed on alone.
            assert exchange(listen, data) == data
            assert forward.end("quit\n") == (0, "")
            assert forward.rest() == []
        assert expose.end() == (0, "")


def tcp(addresses: List[str]) -> str:
    """One of TCP, where a closed port shows at once."""
    return next(address for address in addresses if "/tcp/" in address)


def test_the_echo_client_gets_its_messages_back(examples: Path) -> None:
    echo = str(examples / "echo.py")
    with Program(echo, "server") as server:
        said = server.values()
        with Program(echo, "client", "transports=quic", ",".join(said["address"])) as client:
            assert client.wait() == (0, "")
            wanted: List[str] = []
            for number in range(1, 6):
                wanted += [f"sent: Hello, world! ({number})", f"received: Hello, world! ({number})"]
            assert client.rest() == wanted
        assert server.end("quit\n") == (0, "")
    with Program(echo, "client", tcp(said["address"])) as client:
        status, error = client.wait()
        assert status == 1
        assert error.startswith("forward: ") and error.endswith("(P2P_ERROR_UNREACHABLE)\n")


def cells(line: str) -> List[str]:
    return line.split()


@pytest.mark.parametrize("command", ["expose", "forward"])
def test_list_shows_a_stream_while_it_passes(examples: Path, echo: EchoServer, command: str) -> None:
    # The program under test on one side, a node of this process on the other.
    program = str(examples / "list.py")
    with p2pmount.Node() as node:
        if command == "expose":
            arguments = ["expose", "live", echo.address]
        else:
            node.listen("live", echo.address)
            arguments = ["forward", "live", "127.0.0.1:0", node.address]
        with Program(program, *arguments) as listed:
            said = listed.values()
            if command == "expose":
                listen = node.forward("live", 0, said["address"]).address
            else:
                (listen,) = said["listen"]
            header = listed.line()
            assert cells(header) == "KIND PROTOCOL LISTEN TARGET STATE STREAMS STREAMS_TOTAL BYTES_IN BYTES_OUT".split()
            row = listed.line()
            kind = "listener" if command == "expose" else "forward"
            assert cells(row)[:2] == [kind, "/x/live"]
            # Columns are padded.
            assert header.index("PROTOCOL") == row.index("/x/live")
            assert listed.line() == ""
            with connect(listen) as connection:
                assert ping(connection, b"12345") == b"12345"
                wanted = "KIND ID PROTOCOL ORIGIN TARGET TRANSPORT PATH AGE_MS BYTES_IN BYTES_OUT".split()
                listed.until(lambda line: cells(line) == wanted)
                # Once a second while it lasts: the counters get there.
                line = listed.until(lambda line: cells(line)[:1] == ["stream"] and cells(line)[-2:] == ["5", "5"])
                assert cells(line)[2] == "/x/live" and cells(line)[6] == "direct"
            # And it goes.
            gone = [kind, "0", "1", "5", "5"]
            listed.until(lambda line: cells(line)[:1] == [kind] and [kind, *cells(line)[-4:]] == gone)
            assert listed.end("quit\n") == (0, "")


def test_list_sleeps_while_nothing_happens(examples: Path) -> None:
    with Program(str(examples / "list.py"), "expose", "quiet", "127.0.0.1:1") as listed:
        listed.values()
        listed.until(lambda line: line == "")

        def switches() -> int:
            # Of the main thread, which watches.
            status = Path(f"/proc/{listed.process.pid}/task/{listed.process.pid}/status").read_text()
            return int(status.partition("\nvoluntary_ctxt_switches:")[2].split()[0])

        import time

        time.sleep(0.1)
        before = switches()
        time.sleep(1.2)
        assert switches() - before <= 1
        assert listed.end() == (0, "")


@pytest.mark.parametrize("program", ["tunnel", "echo", "list"])
@pytest.mark.parametrize("arguments", [[], ["wrong"], ["forward", "a"], ["server", "one=too", "many"]])
def test_wrong_usage_is_answered_with_the_usage(examples: Path, program: str, arguments: List[str]) -> None:
    result = subprocess.run(
        [sys.executable, str(examples / f"{program}.py"), *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert (result.returncode, result.stdout) == (2, "")
    assert f"usage: {program}.py" in result.stderr


def test_p2p_example_exposes_and_forwards_until_ctrl_c(checkout: Path, echo: EchoServer) -> None:
    example = str(checkout / "examples" / "p2p_example.py")
    port = echo.address.rpartition(":")[2]
    with Program(example, "--listen", "--protocol", "shown", "--port", port) as listening:
        peer = listening.until(lambda line: line.startswith("Reach it with: ")).rpartition(" ")[2]
        assert listening.until(lambda line: line.startswith("  Protocol: ")).endswith(f"Target: {echo.address}")
        with Program(example, "--forward", "--protocol", "shown", "--port", "0", "--peer-id", peer) as forwarding:
            line = forwarding.until(lambda line: line.startswith("  Protocol: /x/shown, Listen: "))
            address = line.split("Listen: ")[1].split(",")[0]
            forwarding.until(lambda line: line.startswith("Press Ctrl+C"))
            assert exchange(address, b"example") == b"example"
            for program in (forwarding, listening):
                if program is listening:
                    program.until(lambda line: line.startswith("Press Ctrl+C"))
                program.process.send_signal(signal.SIGINT)
                assert program.wait() == (0, "")
                assert program.rest() == ["Closed"]
    with Program(example, "--forward") as wrong:
        assert wrong.wait()[0] == 2


def test_p2p_socket_example_sends_five_messages_there_and_back(checkout: Path) -> None:
    example = str(checkout / "examples" / "p2p_socket_example.py")
    with Program(example, "--server", "--port", "0") as server:
        command = server.until(lambda line: line.startswith("Run the client with: ") and "/tcp/" in line)
        peer = command.rpartition(" ")[2]
        with Program(example, "--client", peer, "--port", "0", "--pause", "0.01") as client:
            received = [client.until(lambda line: line.startswith("Received: ")) for _ in range(5)]
            assert received == [f"Received: Hello, world! ({number})" for number in range(1, 6)]
            assert client.end("n\n") == (0, "")
            assert client.rest()[-1].endswith("Closed")
        server.until(lambda line: line.startswith("Press Ctrl+C"))
        server.process.send_signal(signal.SIGINT)
        assert server.wait() == (0, "")
    with Program(example, "--client", peer, "--port", "0") as client:
        status, error = client.wait()
        assert status == 1 and error.splitlines()[-1].startswith("Failed: ")
        assert client.until(lambda line: line.startswith("Not connected yet: ")).endswith("Connection refused")
