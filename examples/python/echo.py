#!/usr/bin/env python3
"""An echo server that other peers can reach, and its client: a complete service through a tunnel.

    echo.py server [name=value ...]
    echo.py client [name=value ...] PEER

The server listens on a free port of 127.0.0.1, which is exposed as the protocol "echo-protocol", prints its addresses
and serves until "quit" or the end of its input. The client is given one or more of these addresses, separated by
commas. It ties a free local port to the server and speaks plain TCP to it. name=value are options of the node.
"""

from __future__ import annotations

import socket
import socketserver
import sys
import threading

import p2pmount
from common import Usage, main, naming, no_more, options_from, print_node, say, wait_for_quit

USAGE = """usage: echo.py server [name=value ...]
       echo.py client [name=value ...] PEER"""

PROTOCOL = "echo-protocol"
MESSAGES = 5
# Seconds for a message to come back.
PATIENCE = 30


class Echo(socketserver.BaseRequestHandler):
    """Sends back what comes until the client has no more to say. Then the connection is closed: what was sent before
    still arrives, for each direction of a stream ends on its own."""

    def handle(self) -> None:
        try:
            while data := self.request.recv(65536):
                self.request.sendall(data)
        except ConnectionError:
            # The client left early.
            pass


class EchoServer(socketserver.ThreadingTCPServer):
    daemon_threads = True


def server(node: p2pmount.Node) -> None:
    with EchoServer(("127.0.0.1", 0), Echo) as service:
        threading.Thread(target=service.serve_forever, daemon=True).start()
        with naming("listen"):
            listener = node.listen(PROTOCOL, service.server_address)
        print_node(node)
        say("ready")
        wait_for_quit()
        listener.close()
        with naming("close"):
            node.close(drain=2)
        service.shutdown()


def client(node: p2pmount.Node, peer: str) -> None:
    with naming("forward"):
        # Without verify the peer is dialled when the connection below is made, and an error would only show there.
        forward = node.forward(PROTOCOL, "127.0.0.1:0", peer, verify=True)
    host, _, port = forward.address.rpartition(":")
    try:
        with (
            socket.create_connection((host, int(port)), PATIENCE) as connection,
            connection.makefile("r", encoding="utf-8", newline="\n") as lines,
        ):
            for number in range(1, MESSAGES + 1):
                message = f"Hello, world! ({number})"
                say(f"sent: {message}")
                connection.sendall(f"{message}\n".encode())
                answer = lines.readline()
                if not answer.endswith("\n"):
                    raise ConnectionError("the server ended the connection")
                say(f"received: {answer[:-1]}")
                if answer[:-1] != message:
                    raise ConnectionError(f"{answer[:-1]!r} came back for {message!r}")
    except OSError as error:
        print(f"echo: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    forward.close()
    with naming("close"):
        node.close(drain=2)


def run(arguments: list[str]) -> None:
    command = arguments.pop(0) if arguments else ""
    options = options_from(arguments)
    if command not in ("server", "client") or (command == "client" and not arguments):
        raise Usage
    peer = arguments.pop(0) if command == "client" else ""
    no_more(arguments)
    with naming("node"):
        node = p2pmount.Node(options)
    with node:
        if command == "server":
            server(node)
        else:
            client(node, peer)


if __name__ == "__main__":
    main("echo.py", USAGE, run)
