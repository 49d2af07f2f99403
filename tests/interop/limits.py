#!/usr/bin/env python3
"""As many clients at once as Kubo does not take: each is answered, or is told by its end that it is not. None hangs.

    limits.py FOLDER KUBO...

KUBO is what scripts/kubo.sh prints. A Kubo has 256 streams on a QUIC connection, 8 connections with a peer, and a
resource manager that counts the streams of each peer; what it allows follows from the computer's memory. What our node
says of each client that was not served has to speak of a limit. Our node takes them all. Exit status 0 only if it is
so.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import os
import re
import resource
import sys
import tempfile
import time
from pathlib import Path

import identities
from child import Failure
from kubo import LISTEN, Kubo
from own import Fields, Own

CLIENTS = 2000
# Seconds for each client to be answered or refused.
PATIENCE = 60
PROTOCOL = "/x/crowd"
#: Files of this process, which has both ends of every tunnel.
DESCRIPTORS = 2 * CLIENTS + 200


class Crowd:
    """Clients that stay until each of them has been served or has seen its end."""

    def __init__(self, own: Own) -> None:
        self.ends: collections.Counter[str] = collections.Counter()
        #: What our node has said until then.
        self.said: list[Fields] = []
        self._own = own
        self._settled = asyncio.Event()
        self._served = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._served += 1
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            writer.write(await reader.readexactly(8))
            await writer.drain()
        await self._settled.wait()
        writer.close()
        self._served -= 1

    async def client(self, port: int) -> None:
        writer = None
        try:
            reader, writer = await asyncio.wait_for(asyncio.open_connection("127.0.0.1", port), PATIENCE)
            number = os.urandom(8)
            writer.write(number)
            answer = await asyncio.wait_for(reader.readexactly(8), PATIENCE)
            end = "answered" if answer == number else "answered wrongly"
        except (asyncio.TimeoutError, TimeoutError):
            end = "hangs"
        except asyncio.IncompleteReadError:
            end = "eof"
        except ConnectionError:
            end = "reset"
        self.ends[end] += 1
        if sum(self.ends.values()) == CLIENTS:
            self.said = self._own.events()
            self._settled.set()
        await self._settled.wait()
        if writer is not None:
            writer.close()

    async def run(self, listening: asyncio.Server, port: int) -> None:
        async with listening:
            await asyncio.gather(*(self.client(port) for _ in range(CLIENTS)))
        while self._served:
            await asyncio.sleep(0)


async def crowd(kubo: Kubo, own: Own, ours_forwards: bool) -> tuple[Crowd, int]:
    """What became of them, and how many connections it took."""
    people = Crowd(own)
    listening = await asyncio.start_server(people.serve, "127.0.0.1", 0, backlog=CLIENTS)
    target: int = listening.sockets[0].getsockname()[1]
    if ours_forwards:
        kubo.listen(PROTOCOL, target)
        port = own.forward(PROTOCOL, kubo.addresses[0])
    else:
        own.listen(PROTOCOL, target)
        kubo.connect(own.addresses[0])
        port = kubo.forward(PROTOCOL, own.peer_id)
    own.events()
    await people.run(listening, port)
    (peer,) = own.lists("peers")
    return people, int(peer["connections"])


def kind_of(message: str) -> str:
    """A sentence without what differs from client to client."""
    message = re.sub(r"\b(12D3KooW|Qm|16Uiu2)\w+", "ID", message)
    return re.sub(r"\d+", "N", message)


def run(path: Path, folder: Path, transport: str, ours_forwards: bool) -> list[str]:
    """One crowd; prints what became of it and returns what was wrong."""
    way = "own>Kubo" if ours_forwards else "Kubo>own"
    name = "%s, %s %s" % (path.parent.name, way, transport)
    with contextlib.ExitStack() as stack:
        where = Path(tempfile.mkdtemp(dir=folder))
        kubo = stack.enter_context(Kubo(path, where, LISTEN[transport], identity=identities.make("Ed25519")))
        options = {"transports": transport, "listen.addresses": LISTEN[transport], "open.timeout": "20s"}
        own = stack.enter_context(Own(None, **options))
        started = time.monotonic()
        people, connections = asyncio.run(crowd(kubo, own, ours_forwards))
        took = time.monotonic() - started
        said = collections.Counter(
            kind_of(str(event.get("message")))
            for event in people.said
            if event["kind"] in ("refused", "target refused", "stream closed")
        )
    ends = people.ends
    became = ", ".join("%d %s" % (count, end) for end, count in ends.most_common())
    lines = ["%s: %s; %d connections, %.1f s" % (name, became, connections, took)]
    lines += ["    %d times: %s" % (count, text) for text, count in said.most_common()]
    print("\n".join(lines), flush=True)
    wrong = ["%s: %d clients: %s" % (name, ends[end], end) for end in ("hangs", "answered wrongly") if ends[end]]
    unserved = ends["reset"] + ends["eof"]
    if not ours_forwards and unserved:
        wrong.append("%s: %d clients were not served, though our node allows more" % (name, unserved))
    if ours_forwards and transport == "quic" and connections < CLIENTS / 256:
        wrong.append("%s: %d connections are too few for a Kubo, which has 256 streams on each" % (name, connections))
    if ours_forwards and ends["eof"]:
        wrong.append("%s: %d clients of our node saw an end of file" % (name, ends["eof"]))
    blamed = sum(count for text, count in said.items() if re.search(r"\blimit\b", text))
    if ours_forwards and blamed < unserved:
        wrong.append(
            "%s: of %d clients that were not served our node speaks of a limit for %d" % (name, unserved, blamed)
        )
    return wrong


def main() -> int:
    if len(sys.argv) < 3:
        print((__doc__ or "").split("\n\n")[1].strip(), file=sys.stderr)
        return 2
    os.environ["P2PMOUNT_NETWORK"] = "local"
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most != resource.RLIM_INFINITY and most < DESCRIPTORS:
        print("limits: skipped: it needs %d descriptors, and may have %d" % (DESCRIPTORS, most))
        return 1 if os.environ.get("CI") == "true" else 0
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    started = time.monotonic()
    wrong: list[str] = []
    with tempfile.TemporaryDirectory(prefix="limits-", dir=sys.argv[1]) as name:
        folder = Path(name).resolve()
        for path in sys.argv[2:]:
            for transport in ("tcp", "quic"):
                for ours_forwards in (True, False):
                    try:
                        wrong += run(Path(path).resolve(), folder, transport, ours_forwards)
                    except Failure as failure:
                        wrong.append(str(failure))
    for text in wrong:
        print("FAILED: %s" % text)
    print("limits: %d s, %s" % (time.monotonic() - started, "%d failures" % len(wrong) if wrong else "all right"))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
