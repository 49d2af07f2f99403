#!/usr/bin/env python3
"""What `ipfs p2p` promises, with Kubo's own commands on one side and this library on the other.

    semantics.py FOLDER IPFS

IPFS is what `scripts/kubo.sh current` prints. Exit status 0 only if everything was as Kubo's tests and its help say,
and where this library does otherwise, as docs/from-ipfs-p2p.md says.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import identities
from child import Failure
from frames import GREETING, FrameLog
from kubo import LISTEN, Kubo
from own import Own
from service import Service, await_end, client_of, echo_client, echo_server, read

# Seconds for what has been asked for to be so on the other side, too; for a client to see its end.
SOON, END = 5, 10


class Both:
    """A Kubo and a node of ours, connected over one transport."""

    def __init__(self, kubo: Kubo, own: Own, service: Service) -> None:
        self.kubo, self.own, self.service = kubo, own, service
        self.target = "/ip4/127.0.0.1/tcp/%d" % service.port

    def ipfs(self, *arguments: str) -> str:
        return self.kubo.command(*arguments)

    def kubos_mounts(self) -> list[tuple[str, str, str]]:
        """As `ipfs p2p ls` prints them."""
        lines = self.ipfs("p2p", "ls").splitlines()
        return sorted((a, b, c) for a, b, c in map(str.split, lines))

    def kubos_streams(self) -> list[list[str]]:
        return [line.split() for line in self.ipfs("p2p", "stream", "ls").splitlines()]

    def kubo_forwards(self, protocol: str, *options: str) -> int:
        return self.kubo_forwards_to("/p2p/" + self.own.peer_id, protocol, *options)

    def kubo_forwards_to(self, peer: str, protocol: str, *options: str) -> int:
        before = self.kubos_mounts()
        expect(self.ipfs("p2p", "forward", *options, protocol, LISTEN["tcp"], peer), "", "what p2p forward prints")
        (made,) = [row for row in self.kubos_mounts() if row not in before]
        expect((made[0], made[2]), (protocol, "/p2p/" + peer.rpartition("/")[2]), "the row of p2p ls")
        return int(made[1].rpartition("/")[2])

    def tidy(self) -> None:
        """Nothing is left of a check, on either side."""
        self.ipfs("p2p", "stream", "close", "--all")
        self.ipfs("p2p", "close", "--all")
        self.own.close_mounts(all=True, streams=True)
        soon("no streams are left", lambda: not self.kubos_streams() and not self.own.lists("streams"))
        self.own.events()


def expect(found: object, wanted: object, what: str) -> None:
    if found != wanted:
        raise Failure("%s: %r, not %r" % (what, found, wanted))


def refuses(text: str, call: Callable[..., object], *arguments: object, **named: object) -> None:
    """The call fails and says so."""
    try:
        call(*arguments, **named)
    except Failure as failure:
        if text not in str(failure):
            raise Failure("it was refused with other words than %r: %s" % (text, failure)) from None
        return
    raise Failure("it was accepted, but had to be refused: %s" % text)


def soon(what: str, holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SOON
    while not holds():
        if time.monotonic() > deadline:
            raise Failure("not within %d s: %s" % (SOON, what))
        # Nothing tells what another program's list says.
        time.sleep(0.01)


def talk(both: Both, port: int) -> None:
    with both.service.up(echo_server), client_of(port) as end:
        echo_client(end)


def ends_without_data(port: int) -> str:
    """How the connection of a client that is not served ends: "eof" or "reset"."""
    try:
        with client_of(port) as end:
            end.settimeout(END)
            if end.recv(1):
                raise Failure("a client got something that had to be refused")
            return "eof"
    except (ConnectionResetError, BrokenPipeError):
        return "reset"
    except (TimeoutError, socket.timeout):
        raise Failure("a client that is not served sees nothing for %d s" % END) from None


def expect_closed(port: int) -> None:
    with contextlib.suppress(ConnectionRefusedError):
        with client_of(port):
            raise Failure("port %d is still open" % port)


@contextlib.contextmanager
def idle_stream(both: Both, port: int) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A stream on which both ends have said something: its client and its server."""
    with both.service.listening() as listening:
        listening.settimeout(END)
        client = client_of(port)
        client.sendall(b"?")
        server, _ = listening.accept()
    with client, server:
        server.settimeout(END)
        read(server, 1)
        server.sendall(b"!")
        read(client, 1)
        yield client, server


def both_end(ends: tuple[socket.socket, socket.socket]) -> None:
    for end in ends:
        end.settimeout(END)
        try:
            await_end(end)
        except (TimeoutError, socket.timeout):
            raise Failure("an end of a stream that was closed is still open after %d s" % END) from None


def still_works(ends: tuple[socket.socket, socket.socket]) -> None:
    client, server = ends
    client.sendall(b"1")
    read(server, 1)
    server.sendall(b"2")
    read(client, 1)


# Kubo listens.


def listing_on_both_sides(both: Both) -> None:
    """p2p ls and our lists say the same"""
    both.ipfs("p2p", "listen", "/x/here", both.target)
    expect(both.kubos_mounts(), [("/x/here", "/p2p/" + both.kubo.peer_id, both.target)], "p2p ls")
    port = both.own.forward("here", both.kubo.peer_id)
    (row,) = both.own.lists("forwards")
    wanted = ("/x/here", "127.0.0.1:%d" % port, "/p2p/" + both.kubo.peer_id)
    expect((row["protocol"], row["listen"], row["target"]), wanted, "our forward")
    talk(both, port)
    both.own.listen("there", both.service.port)
    (row,) = both.own.lists("listeners")
    wanted = ("/x/there", "/p2p/" + both.own.peer_id, "127.0.0.1:%d" % both.service.port)
    expect((row["protocol"], row["listen"], row["target"]), wanted, "our listener")


def listening_twice(both: Both) -> None:
    """a protocol is registered once, whatever its target"""
    both.ipfs("p2p", "listen", "/x/once", both.target)
    for target in (both.target, "/ip4/127.0.0.1/tcp/1"):
        refuses("listener already registered", both.ipfs, "p2p", "listen", "/x/once", target)
    both.own.listen("once", both.service.port)
    for port in (both.service.port, 1):
        refuses("a listener for protocol /x/once is already registered", both.own.listen, "once", port)


def bad_arguments(both: Both) -> None:
    """port 0 as a target, names outside /x/"""
    refuses("port can not be 0", both.ipfs, "p2p", "listen", "/x/zero", "/ip4/127.0.0.1/tcp/0")
    refuses("port 0", both.own.listen, "zero", 0)
    for name in ("/other", "/p2p-test"):
        refuses("protocol name must be within '/x/' namespace", both.ipfs, "p2p", "listen", name, both.target)
        refuses("/x/", both.own.listen, name, both.service.port)
        refuses("/x/", both.own.forward, name, both.kubo.peer_id)
    expect((both.kubos_mounts(), both.own.lists("listeners"), both.own.lists("forwards")), ([], [], []), "what is left")


def names(both: Both) -> None:
    """a name of digits, custom protocols, both ways"""
    for name in ("/x/1234", "/x/a/b", "/p2p-test", "/http/1.1"):
        custom = [] if name.startswith("/x/") else ["--allow-custom-protocol"]
        ours = {"protocol.custom": "true"} if custom else {}
        both.ipfs("p2p", "listen", *custom, name, both.target)
        talk(both, both.own.forward(name, both.kubo.peer_id, **ours))
        expect(both.ipfs("p2p", "close", "--protocol", name), "Closed 1 stream(s)\n", "p2p close")
        both.own.listen(name, both.service.port, **ours)
        talk(both, both.kubo_forwards(name, *custom))
        expect(both.own.close_mounts(protocol=name if custom else name[3:]), 2, "mounts closed")


def ways_to_name_a_peer(both: Both) -> None:
    """/p2p/ID, /ipfs/ID, a whole multiaddr, a bare id"""
    both.own.listen("peer", both.service.port)
    for form in ("/p2p/" + both.own.peer_id, "/ipfs/" + both.own.peer_id, both.own.addresses[0]):
        talk(both, both.kubo_forwards_to(form, "/x/peer"))
    both.ipfs("p2p", "listen", "/x/peer", both.target)
    for form in (both.kubo.peer_id, "/p2p/" + both.kubo.peer_id, "/ipfs/" + both.kubo.peer_id, both.kubo.addresses[0]):
        talk(both, both.own.forward("peer", form))


def reported_peer(both: Both) -> None:
    """--report-peer-id writes the id and a newline before everything else, both ways"""

    def expect_id(peer_id: str) -> Callable[[socket.socket], None]:
        def server(end: socket.socket) -> None:
            line = read(end, len(peer_id) + 1)
            expect(line, peer_id.encode() + b"\n", "the first line")
            echo_server(end)

        return server

    both.ipfs("p2p", "listen", "--report-peer-id", "/x/who", both.target)
    both.own.listen("who", both.service.port, **{"report-peer-id": "true"})
    for port, peer_id in (
        (both.own.forward("who", both.kubo.peer_id), both.own.peer_id),
        (both.kubo_forwards("/x/who"), both.kubo.peer_id),
    ):
        with both.service.up(expect_id(peer_id)), client_of(port) as end:
            echo_client(end)


def streams_listed(both: Both) -> None:
    """p2p stream ls and our list of streams, both ways"""
    own, kubo = both.own.peer_id, both.kubo.peer_id
    ours = "127.0.0.1:%d" % both.service.port
    both.ipfs("p2p", "listen", "/x/idle", both.target)
    with idle_stream(both, both.own.forward("idle", kubo)) as (client, _):
        ((number, *row),) = both.kubos_streams()
        expect(row, ["/x/idle", "/p2p/" + own, both.target], "the row of p2p stream ls")
        (stream,) = both.own.lists("streams")
        row = [stream[name] for name in ("protocol", "origin", "target", "side", "peer")]
        origin = "127.0.0.1:%d" % client.getsockname()[1]
        expect(row, ["/x/idle", origin, "/p2p/" + kubo, "forward", kubo], "our row")
        expect((stream["bytes_out"], stream["bytes_in"]), (1, 1), "bytes")
    both.tidy()
    both.own.listen("idle", both.service.port)
    with idle_stream(both, both.kubo_forwards("/x/idle")) as (client, _):
        ((later, *row),) = both.kubos_streams()
        expect(int(later) > int(number), True, "numbers of streams grow")
        expect(row, ["/x/idle", "/ip4/127.0.0.1/tcp/%d" % client.getsockname()[1], "/p2p/" + own], "p2p stream ls")
        (stream,) = both.own.lists("streams")
        row = [stream[name] for name in ("protocol", "origin", "target", "side")]
        expect(row, ["/x/idle", "/p2p/" + kubo, ours, "listener"], "our row")


def stream_closed_by_number(both: Both) -> None:
    """p2p stream close ID and our close_stream end both TCP connections; others live on"""
    both.ipfs("p2p", "listen", "/x/two", both.target)
    port = both.own.forward("two", both.kubo.peer_id)
    with idle_stream(both, port) as first, idle_stream(both, port) as second:
        number = min(int(row[0]) for row in both.kubos_streams())
        both.ipfs("p2p", "stream", "close", str(number))
        both_end(first)
        still_works(second)
        both.ipfs("p2p", "stream", "close", "999999")
        soon("one stream is left", lambda: len(both.own.lists("streams")) == 1)
        (stream,) = both.own.lists("streams")
        both.own.close_stream(stream["id"])
        both_end(second)
        soon("Kubo has no stream", lambda: not both.kubos_streams())
        refuses("no stream", both.own.close_stream, stream["id"])


def streams_outlive_mounts(both: Both) -> None:
    """closing a mount refuses new clients and leaves streams alone; p2p stream close -a ends them"""
    both.ipfs("p2p", "listen", "/x/last", both.target)
    both.own.listen("last", both.service.port)
    ours, kubos = both.own.forward("last", both.kubo.peer_id), both.kubo_forwards("/x/last")
    with idle_stream(both, ours) as one, idle_stream(both, kubos) as other:
        expect(both.ipfs("p2p", "close", "--all"), "Closed 2 stream(s)\n", "p2p close --all")
        expect_closed(kubos)
        still_works(one)
        still_works(other)
        expect(ends_without_data(ours), "reset", "a client of our forward to what Kubo has closed")
        expect(both.own.close_mounts(all=True), 2, "mounts closed")
        expect_closed(ours)
        still_works(one)
        still_works(other)
        expect(both.ipfs("p2p", "stream", "close", "--all"), "", "what p2p stream close prints")
        both_end(one)
        both_end(other)
    soon("we have no streams", lambda: not both.own.lists("streams"))


def close_filters(both: Both) -> None:
    """close by protocol, listen address and target, and nothing else with it"""
    kubo, own = "/p2p/" + both.kubo.peer_id, "/p2p/" + both.own.peer_id
    both.ipfs("p2p", "listen", "/x/one", both.target)
    both.ipfs("p2p", "listen", "/x/two", "/ip4/127.0.0.1/tcp/1")
    port = both.kubo_forwards("/x/one")
    listen = "/ip4/127.0.0.1/tcp/%d" % port
    refuses("no matching options given", both.ipfs, "p2p", "close")
    refuses("can't combine --all with other matching options", both.ipfs, "p2p", "close", "-a", "-p", "/x/one")
    for arguments, count in (
        (("-l", LISTEN["tcp"]), 0),
        (("-p", "/x/two", "-t", both.target), 0),
        (("-t", both.target), 1),
        (("-l", listen), 1),
        (("-l", kubo), 1),
    ):
        expect(both.ipfs("p2p", "close", *arguments), "Closed %d stream(s)\n" % count, "p2p close %s" % (arguments,))
    expect(both.kubos_mounts(), [], "p2p ls")
    both.own.listen("one", both.service.port)
    both.own.listen("two", 1)
    port = both.own.forward("one", both.kubo.peer_id)
    refuses("nothing says which mounts to close", both.own.close_mounts)
    refuses("cannot be combined", both.own.close_mounts, all=True, protocol="one")
    for filters, count in (
        ({"listen": "127.0.0.1:0"}, 0),
        ({"protocol": "two", "target": both.target}, 0),
        ({"target": both.target}, 1),
        ({"listen": "/ip4/127.0.0.1/tcp/%d" % port}, 1),
        ({"listen": own}, 1),
    ):
        expect(both.own.close_mounts(**filters), count, "mounts closed with %s" % filters)
    expect_closed(port)


def refused_at_negotiation(both: Both) -> None:
    """a protocol that nobody has offered yet is refused when it is agreed on"""
    expect(ends_without_data(both.own.forward("nowhere", both.kubo.peer_id)), "reset", "a client of our forward")
    said = [str(event.get("message")) for event in both.own.events() if event["kind"] == "refused"]
    expect(any("/x/nowhere" in text for text in said), True, "our event names the protocol: %s" % said)
    refuses("/x/nowhere", both.own.forward, "nowhere", both.kubo.peer_id, verify="true")
    ends_without_data(both.kubo_forwards("/x/nowhere"))
    # And later, without making them anew.
    both.ipfs("p2p", "listen", "/x/nowhere", both.target)
    (row,) = both.own.lists("forwards")
    talk(both, int(row["listen"].rpartition(":")[2]))


def refused_at_first_read(both: Both) -> None:
    """a protocol that was there is assumed to be there: its refusal comes behind the first bytes"""
    both.own.listen("gone", both.service.port)
    both.ipfs("p2p", "listen", "/x/gone", both.target)
    ours, kubos = both.own.forward("gone", both.kubo.peer_id), both.kubo_forwards("/x/gone")
    for port in (ours, kubos):
        talk(both, port)
    both.own.close_mounts(protocol="gone", listeners=True)
    both.ipfs("p2p", "close", "-p", "/x/gone", "-l", "/p2p/" + both.kubo.peer_id)
    for port in (ours, kubos):
        try:
            with client_of(port) as end:
                end.sendall(b"is anybody there?")
                end.settimeout(END)
                if end.recv(1):
                    raise Failure("somebody answered for a protocol that is closed")
        except (ConnectionResetError, BrokenPipeError):
            pass
        except (TimeoutError, socket.timeout):
            raise Failure("a client of a protocol that is closed sees nothing for %d s" % END) from None


def payload_with_the_header(both: Both) -> None:
    """Kubo sends a stream's first bytes with the protocol's name, and none is lost"""
    both.own.listen("lazy", both.service.port)
    port = both.kubo_forwards("/x/lazy")
    talk(both, port)
    assert both.own.log is not None
    log = FrameLog(both.own.log)
    log.read()
    known = set(log.streams)
    for _ in range(20):
        talk(both, port)
    deadline = time.monotonic() + END
    while True:
        log.read()
        # Our node made the connection, Kubo opens the streams.
        streams = [wire for key, wire in log.streams.items() if key not in known and not wire.by_dialler]
        for wire in streams:
            wire.carries("/x/lazy")
        # The log is written by another thread.
        if all(wire.sent.payload and wire.received.payload for wire in streams) or time.monotonic() > deadline:
            break
        time.sleep(0.02)
    for wire in streams:
        expect((wire.received.payload, wire.sent.payload), (71_001, 71_001), "bytes of a stream")
    expect(len(streams), 20, "streams opened")
    header = GREETING + len("\x08/x/lazy\n")
    first = first_frames(both.own.log, {(wire.connection, wire.stream) for wire in streams})
    if first and not any(length > header for length in first):
        raise Failure("no first frame has more than the header, %d bytes: %s" % (header, first))


def first_frames(log: Path, streams: set[tuple[int, int]]) -> list[int]:
    """The length of the first frame with data that came on each stream of a TCP connection."""
    found: dict[tuple[int, int], int] = {}
    for line in log.read_text().splitlines():
        if " yamux received " in line and " kind=data " in line:
            values = dict(part.split("=", 1) for part in line.split() if "=" in part)
            key = (int(values["connection"]), int(values["stream"]))
            if key in streams and int(values["length"]):
                found.setdefault(key, int(values["length"]))
    return list(found.values())


def who_gets_in(both: Both) -> None:
    """a listener that does not admit Kubo is as if it were not there, in identify, too"""
    both.own.listen("open", both.service.port)
    both.own.listen("closed", both.service.port, **{"peers.deny": both.kubo.peer_id})

    def offered() -> set[str]:
        return {name for name in json.loads(both.ipfs("id", both.own.peer_id))["Protocols"] if name.startswith("/x/")}

    soon("identify names what Kubo may use", lambda: offered() == {"/x/open"})
    talk(both, both.kubo_forwards("/x/open"))
    with both.service.up(lambda _: None) as troubles:
        ends_without_data(both.kubo_forwards("/x/closed"))
        expect(troubles, [], "what the target saw")
    both.own.close_mounts(protocol="open")
    soon("identify names nothing more", lambda: offered() == set())
    (peer,) = [row for row in both.own.lists("peers") if row["peer"] == both.kubo.peer_id]
    expect(peer["agent"].split("/")[0], "kubo", "what program Kubo says it is")


def target_refuses(both: Both) -> None:
    """a listener contacts nobody; without a target a client is not left waiting"""
    both.ipfs("p2p", "listen", "/x/later", both.target)
    both.own.listen("later", both.service.port)
    ours, kubos = both.own.forward("later", both.kubo.peer_id), both.kubo_forwards("/x/later")
    expect(ends_without_data(ours), "reset", "a client of our forward")
    ends_without_data(kubos)
    said = {event["kind"]: event.get("message") for event in both.own.events()}
    expect("target refused" in said, True, "our events: %s" % said)
    talk(both, ours)
    talk(both, kubos)


CHECKS = [
    listing_on_both_sides,
    listening_twice,
    bad_arguments,
    names,
    ways_to_name_a_peer,
    reported_peer,
    streams_listed,
    stream_closed_by_number,
    streams_outlive_mounts,
    close_filters,
    refused_at_negotiation,
    refused_at_first_read,
    payload_with_the_header,
    who_gets_in,
    target_refuses,
]


def run(ipfs: Path, folder: Path, transport: str) -> int:
    """All checks over one transport; how many failed."""
    (folder / "kubo").mkdir(parents=True)
    failed = 0
    with contextlib.ExitStack() as stack:
        key = identities.make("Ed25519")
        kubo = stack.enter_context(Kubo(ipfs, folder / "kubo", LISTEN[transport], identity=key))
        options = {"transports": transport, "listen.addresses": LISTEN[transport]}
        own = stack.enter_context(Own(folder / "own.log", **options))
        service = Service()
        stack.callback(service.close)
        own.connect(kubo.addresses[0])
        kubo.await_peer(own.peer_id)
        both = Both(kubo, own, service)
        for check in CHECKS:
            started = time.monotonic()
            try:
                check(both)
                both.tidy()
                result = "ok"
            except (OSError, Failure, ValueError) as error:
                failed += 1
                result = "FAILED: %s" % (error or type(error).__name__)
                with contextlib.suppress(Failure):
                    both.tidy()
            took = 1000 * (time.monotonic() - started)
            print("%-5s %-90s %5.0f ms %s" % (transport, check.__doc__, took, result), flush=True)
    return failed


def main() -> int:
    if len(sys.argv) != 3:
        print((__doc__ or "").split("\n\n")[1].strip(), file=sys.stderr)
        return 2
    os.environ["P2PMOUNT_NETWORK"] = "local"
    with tempfile.TemporaryDirectory(prefix="semantics-", dir=sys.argv[1]) as name:
        folder = Path(name).resolve()
        failed = sum(run(Path(sys.argv[2]).resolve(), folder / transport, transport) for transport in ("tcp", "quic"))
    print("semantics: %s" % ("%d checks failed" % failed if failed else "all right"))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
