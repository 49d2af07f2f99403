#!/usr/bin/env python3
"""An echo service between two peers with the classes of kubo_python.

    p2p_socket_example.py --server
    p2p_socket_example.py --client PEER

The server echoes on a local port, exposes that as "echo-protocol" and prints the command line of the client. The client
forwards a local port to it, sends five messages and prints what comes back.
"""

from __future__ import annotations

import argparse
import socket
import sys
import threading
import time

from p2pmount.kubo_python import IPFSP2P, IPFSNode

PROTOCOL = "echo-protocol"
SERVER_PORT = 8765
CLIENT_PORT = 9876
MESSAGES = 5


def serve(listening: socket.socket) -> None:
    """Accepts until the socket is closed, each client in a thread of its own."""
    while True:
        try:
            client, _ = listening.accept()
        except OSError:
            return
        threading.Thread(target=echo, args=(client,), daemon=True).start()


def echo(client: socket.socket) -> None:
    """Sends back what comes, until the client has no more to say."""
    with client:
        try:
            while data := client.recv(4096):
                client.sendall(data)
        except ConnectionError:
            pass


def run_server(port: int) -> int:
    with socket.create_server(("127.0.0.1", port)) as listening, IPFSNode.ephemeral(online=True) as node:
        threading.Thread(target=serve, args=(listening,), daemon=True).start()
        port = listening.getsockname()[1]
        print(f"Echo server on 127.0.0.1:{port}")
        p2p = IPFSP2P(node)
        if not p2p.listen(PROTOCOL, f"127.0.0.1:{port}"):
            print(f"Failed: {p2p.last_error}", file=sys.stderr)
            return 1
        print(f"Peer id: {node.peer_id}")
        for address in node.get_addrs():
            print(f"Run the client with: {sys.argv[0]} --client {address}")
        print("Press Ctrl+C to exit", flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            pass
        p2p.close(PROTOCOL)
    print("Closed")
    return 0


def run_client(peer: str, port: int, pause: float) -> int:
    with IPFSNode.ephemeral(online=True) as node:
        print(f"Peer id: {node.peer_id}")
        # Tells early whether the peer can be reached; the forward would find its way without.
        if not node.connect_to_peer(peer if peer.startswith("/") else f"/p2p/{peer}"):
            print(f"Not connected yet: {node.last_error}")
        p2p = IPFSP2P(node)
        if not p2p.forward(PROTOCOL, f"127.0.0.1:{port}", peer):
            print(f"Failed: {p2p.last_error}", file=sys.stderr)
            return 1
        # The real port, if --port was 0.
        (forward,), _ = p2p.list_listeners()
        host, _, bound = forward.listen_address.rpartition(":")
        try:
            talk(host, int(bound), pause)
        except OSError as error:
            print(f"Failed: {error}", file=sys.stderr)
            return 1
        try:
            if input("Keep connection open? [y/N] ").strip().lower() == "y":
                print(f"Forwarding on {forward.listen_address}. Press Ctrl+C to exit", flush=True)
                threading.Event().wait()
        except (EOFError, KeyboardInterrupt):
            pass
        p2p.close(PROTOCOL)
    print("Closed")
    return 0


def talk(host: str, port: int, pause: float) -> None:
    """Five messages there and back over one connection."""
    with socket.create_connection((host, port), 30) as connection:
        for number in range(1, MESSAGES + 1):
            message = f"Hello, world! ({number})"
            print(f"Sent: {message}")
            connection.sendall(message.encode())
            received = b""
            while len(received) < len(message):
                data = connection.recv(4096)
                if not data:
                    raise ConnectionError("the server ended the connection")
                received += data
            print(f"Received: {received.decode()}", flush=True)
            if number < MESSAGES:
                time.sleep(pause)


def main() -> int:
    parser = argparse.ArgumentParser(description="An echo service between two peers.")
    mode = parser.add_mutually_exclusive_group(required=True)
    mode.add_argument("--server", action="store_true", help="run the echo server")
    mode.add_argument("--client", metavar="PEER", help="talk to the server: one of the addresses that it prints")
    parser.add_argument(
        "--port", type=int, help=f"local port (server: {SERVER_PORT}, client: {CLIENT_PORT}; 0: a free one)"
    )
    parser.add_argument("--pause", type=float, default=1.0, help="seconds between messages (default: %(default)s)")
    arguments = parser.parse_args()
    if arguments.server:
        return run_server(SERVER_PORT if arguments.port is None else arguments.port)
    return run_client(arguments.client, CLIENT_PORT if arguments.port is None else arguments.port, arguments.pause)


if __name__ == "__main__":
    sys.exit(main())
