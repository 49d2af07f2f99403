#!/usr/bin/env python3
"""The service at the far end of the path. Prints its port, then answers each line of its input with the bytes that
were uploaded until now and the time in seconds.

What it does for a client the client's first byte says: `e` one byte back and an end, `d` a download without end, `u`
it takes what comes.
"""

from __future__ import annotations

import socket
import sys
import threading
import time

CHUNK = 256 * 1024


class Target:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.uploaded = 0
        self.listener = socket.create_server(("0.0.0.0", 0), backlog=64)
        self.port: int = self.listener.getsockname()[1]

    def accept(self) -> None:
        while True:
            client, _ = self.listener.accept()
            threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def serve(self, client: socket.socket) -> None:
        try:
            with client:
                wish = client.recv(1)
                if wish == b"e":
                    client.sendall(wish)
                    # Kubo over QUIC loses the byte if the end follows at once.
                    client.recv(1)
                while wish == b"d":
                    client.sendall(bytes(CHUNK))
                if wish == b"u":
                    self.take(client)
        except OSError:
            pass  # Every client of a download leaves in the middle of it.

    def take(self, client: socket.socket) -> None:
        buffer = bytearray(CHUNK)
        while size := client.recv_into(buffer):
            with self.lock:
                self.uploaded += size


def main() -> None:
    target = Target()
    threading.Thread(target=target.accept, daemon=True).start()
    print("port %d" % target.port, flush=True)
    for _ in sys.stdin:
        print(target.uploaded, time.monotonic(), flush=True)


if __name__ == "__main__":
    main()
