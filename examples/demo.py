#!/usr/bin/env python3
"""Two nodes on this machine, one tunnel, one web server: what p2pmount does, in half a minute.

    demo.py TUNNEL TRANSPORT

TUNNEL is the built example (examples/c/tunnel.c), TRANSPORT is tcp or quic. A web server serves a page and a 100 MB
file; one TUNNEL mounts it on the network under a protocol name, another ties a local port to it by peer id, and both
are fetched through that port. Exit status 0 only if every byte arrived, the lists were right and both programs ended
well.
"""

from __future__ import annotations

import hashlib
import http.client
import http.server
import os
import queue
import subprocess
import sys
import threading
import time

PROTOCOL = "demo-web"
PAGE = b"<!doctype html><title>p2pmount</title><p>Hello through the tunnel.\n"
FILE_SIZE = 100 * 1000 * 1000
CHUNK = 1 << 20
# Seconds: for one line of an answer, for one read of a download, for a program to end.
LINE, READ, END = 20, 20, 15


class DemoError(Exception):
    """Something did not work; the text says what."""


class WebServer:
    """Serves the page at / and the file at /file, on a free port of 127.0.0.1."""

    def __init__(self, content: bytes) -> None:
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                body = {"/": PAGE, "/file": content}.get(self.path)
                if body is None:
                    self.send_error(404)
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                view = memoryview(body)
                try:
                    for start in range(0, len(view), CHUNK):
                        self.wfile.write(view[start : start + CHUNK])
                except ConnectionError:
                    # A client that leaves early, as the third download does on purpose.
                    self.close_connection = True

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.address = "127.0.0.1:%d" % self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


class Example:
    """One of the example programs, driven by lines on its standard input."""

    def __init__(self, name: str, *arguments: str) -> None:
        self.name = name
        environment = dict(os.environ, P2PMOUNT_NETWORK="local")
        self.process = subprocess.Popen(
            arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, env=environment
        )
        self.lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self.process.stdout or ():
            self.lines.put(line.rstrip("\n"))
        self.lines.put(None)

    def until(self, last: str) -> list[str]:
        """The lines before the one that equals `last`."""
        lines: list[str] = []
        deadline = time.monotonic() + LINE
        while True:
            try:
                line = self.lines.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise DemoError("%s did not answer within %d s" % (self.name, LINE)) from None
            if line is None:
                raise DemoError("%s ended early" % self.name)
            if line == last:
                return lines
            lines.append(line)

    def values(self, key: str, last: str = "ready") -> list[str]:
        """The values of the lines `key value` up to the line `last`."""
        found = [line.split(" ", 1)[1] for line in self.until(last) if line.startswith(key + " ")]
        if not found:
            raise DemoError("%s printed no %s" % (self.name, key))
        return found

    def say(self, word: str) -> None:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(word + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise DemoError("%s ended early" % self.name) from None

    def listing(self) -> list[str]:
        self.say("list")
        return self.until("")

    def quit(self) -> None:
        """Ends the program as a user would; its exit status must be 0."""
        self.say("quit")
        try:
            status = self.process.wait(END)
        except subprocess.TimeoutExpired:
            raise DemoError("%s did not end within %d s" % (self.name, END)) from None
        if status != 0:
            raise DemoError("%s ended with status %d" % (self.name, status))

    def kill(self) -> None:
        """The last resort: the child that this object started, by its process id."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def fetch(address: str, path: str) -> tuple[str, int, float]:
    """Fetches over HTTP. Returns (SHA-256, bytes, seconds)."""
    digest = hashlib.sha256()
    size = 0
    started = time.monotonic()
    host, port = address.rsplit(":", 1)
    connection = http.client.HTTPConnection(host, int(port), timeout=READ)
    try:
        connection.request("GET", path, headers={"Connection": "close"})
        response = connection.getresponse()
        if response.status != 200:
            raise DemoError("GET %s: status %d" % (path, response.status))
        while True:
            chunk = response.read(CHUNK)
            if not chunk:
                break
            digest.update(chunk)
            size += len(chunk)
    except (OSError, http.client.HTTPException) as error:
        raise DemoError("GET %s through %s: %s" % (path, address, error or type(error).__name__)) from error
    finally:
        connection.close()
    return digest.hexdigest(), size, time.monotonic() - started


def expect(path: str, body: bytes, fetched: tuple[str, int, float]) -> None:
    digest, size, _ = fetched
    if size != len(body):
        raise DemoError("%s: %d bytes arrived, %d were sent" % (path, size, len(body)))
    if digest != hashlib.sha256(body).hexdigest():
        raise DemoError("%s: the bytes that arrived are not those that were sent" % path)


def show(title: str, lines: list[str]) -> None:
    print("\n%s" % title)
    for line in lines:
        print("    " + line.rstrip())


def must_name(title: str, lines: list[str], *words: str) -> None:
    for word in words:
        if not any(word in line for line in lines):
            raise DemoError("%s does not show %s" % (title, word))


def refused_now(address: str) -> bool:
    """True when nothing accepts connections at the address."""
    try:
        fetch(address, "/")
    except DemoError:
        return True
    return False


def run(tunnel: str, transport: str, started: list[Example]) -> None:
    content = os.urandom(FILE_SIZE)
    web = WebServer(content)
    print("web server       %s: a page and a file of %d MB" % (web.address, FILE_SIZE // 10**6))

    expose = Example("expose", tunnel, "expose", "transports=" + transport, PROTOCOL, web.address)
    started.append(expose)
    peer = ",".join(expose.values("address"))
    peer_id = peer.rsplit("/", 1)[1]
    print("listening node   %s exposes %s as %s" % (peer_id, web.address, PROTOCOL))

    forward = Example("forward", tunnel, "forward", "transports=" + transport, PROTOCOL, "127.0.0.1:0", peer)
    started.append(forward)
    address = forward.values("listen")[0]
    print("forwarding node  %s leads to %s over %s" % (address, peer_id, transport))

    expect("/", PAGE, fetch(address, "/"))
    print("page             arrived, SHA-256 equal")
    fetched = fetch(address, "/file")
    expect("/file", content, fetched)
    rate = FILE_SIZE / 1e6 / fetched[2]
    print("file             arrived, SHA-256 equal: %.2f s, %.0f MB/s" % (fetched[2], rate))

    # A download that waits half-way, so that the lists have a stream to show.
    host, port = address.rsplit(":", 1)
    held = http.client.HTTPConnection(host, int(port), timeout=READ)
    try:
        held.request("GET", "/file", headers={"Connection": "close"})
        held.getresponse().read(CHUNK)
        there, here = expose.listing(), forward.listing()
    finally:
        held.close()
    show("p2p_list on the listening node, during a third download", there)
    show("p2p_list on the forwarding node", here)
    must_name("the list of the listening node", there, "/x/" + PROTOCOL, web.address, transport)
    must_name("the list of the forwarding node", here, "/x/" + PROTOCOL, address, transport)

    forward.quit()
    if not refused_now(address):
        raise DemoError("%s still answers after the forward was closed" % address)
    expose.quit()
    web.close()
    print("\nclosed           %s is free again, both nodes ended with status 0" % address)


def main() -> int:
    if len(sys.argv) != 3 or sys.argv[2] not in ("tcp", "quic"):
        print("usage: demo.py TUNNEL tcp|quic", file=sys.stderr)
        return 2
    started: list[Example] = []
    try:
        run(os.path.abspath(sys.argv[1]), sys.argv[2], started)
    except (DemoError, OSError) as error:
        print("FAILED: %s" % error, file=sys.stderr)
        return 1
    finally:
        for example in started:
            example.kill()
    print("all right")
    return 0


if __name__ == "__main__":
    sys.exit(main())
