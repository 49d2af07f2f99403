#!/usr/bin/env python3
"""Kubo's keys: the private network of a swarm.key, and identities that move to this library and back.

    keys.py FOLDER KUBO...

KUBO is what scripts/kubo.sh prints. Exit status 0 only if every check is ok.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import secrets
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import identities
import p2pmount
from child import Failure
from kubo import LISTEN, Kubo
from own import Own
from pair import has_websocket
from service import Service, client_of, echo_client, echo_server

#: Transports that a private network can have, and what secures the connections within it.
WAYS = [("tcp", "tls"), ("tcp", "noise"), ("ws", "noise")]
#: How `ipfs key export` calls the forms of a key, and what of ours has no other name.
FORMS = ("libp2p-protobuf-cleartext", "pem-pkcs8-cleartext", "base64")


def swarm_key() -> bytes:
    return b"/key/swarm/psk/1.0.0/\n/base16/\n" + secrets.token_hex(32).encode() + b"\n"


def private(path: Path, data: bytes) -> Path:
    """A file for its owner alone."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)
    return path


def expect(found: object, wanted: object, what: str) -> None:
    if found != wanted:
        raise Failure("%s: %r, not %r" % (what, found, wanted))


def refuses(texts: tuple[str, ...], call: Callable[[str], object], address: str) -> None:
    """The call fails, and says one of these."""
    try:
        call(address)
    except Failure as failure:
        if not any(text in str(failure) for text in texts):
            raise Failure("it failed without %r: %s" % (texts, failure)) from None
    else:
        raise Failure("it did not fail, but should: %r" % (texts,))


def a_private_network(path: Path, folder: Path, transport: str, security: str) -> None:
    """echo both ways within a private network; who has no key, or another, gets in from neither side, and is told"""
    (folder / "kubo").mkdir(parents=True)
    key = swarm_key()
    right, wrong = private(folder / "right", key), private(folder / "wrong", swarm_key())
    options = {"transports": transport, "security": security, "listen.addresses": LISTEN[transport]}
    with contextlib.ExitStack() as stack:
        arguments = (path, folder / "kubo", LISTEN[transport], security)
        identity = identities.make("Ed25519")
        kubo = stack.enter_context(Kubo(*arguments, identity=identity, swarm_key=key))
        own = stack.enter_context(Own(None, **options, **{"swarm.key": str(right)}))
        service = Service()
        stack.callback(service.close)
        own.connect(kubo.addresses[0])
        kubo.await_peer(own.peer_id)
        own.listen("ours", service.port)
        kubo.listen("/x/kubos", service.port)
        ports = (kubo.forward("/x/ours", own.peer_id), own.forward("kubos", kubo.peer_id))
        for port in ports:
            with service.up(echo_server), client_of(port) as client:
                echo_client(client)
        for keys, sentences in (
            # Kubo closes with what the stranger has said unread: a reset, which can overtake Kubo's own first words.
            ({}, ("does not speak libp2p, or is of a private network", "or be of a private network")),
            ({"swarm.key": str(wrong)}, ("has another private network key", "or have another")),
        ):
            stranger = stack.enter_context(Own(None, **options, **keys))
            refuses(sentences, stranger.connect, kubo.addresses[0])
            refuses(("",), kubo.connect, stranger.addresses[0])
            expect([row["peer"] for row in stranger.lists("peers")], [], "peers of the stranger")


def no_quic(folder: Path) -> None:
    """QUIC cannot carry a private network, and is refused with the reason"""
    folder.mkdir(parents=True)
    key = private(folder / "swarm.key", swarm_key())
    sentence = "QUIC cannot carry the private network of option swarm.key"
    try:
        p2pmount.Node(transports="tcp,quic", swarm_key=str(key)).close()
    except p2pmount.BadOptionError as error:
        if sentence not in str(error):
            raise Failure("it is refused without the reason: %s" % error) from None
    else:
        raise Failure("a node with both is made")
    with p2pmount.Node(swarm_key=str(key)) as node:
        quic = [address for address in node.addresses if "quic" in address]
        expect(quic, [], "QUIC addresses of a private node")
        with contextlib.suppress(p2pmount.Error):
            node.connect(LISTEN["quic"].replace("udp/0", "udp/9") + "/p2p/" + identities.make("Ed25519")[0], timeout=5)
            raise Failure("a QUIC address was dialled")


def an_identity(path: Path, folder: Path, kind: str) -> None:
    """Kubo's key in each form is the same peer here, and exported from here the same peer at Kubo"""
    folder.mkdir(parents=True)
    peer_id, key = identities.make(kind)
    config = {"Identity": {"PeerID": peer_id, "PrivKey": base64.b64encode(key).decode()}}
    given = {
        "protobuf": private(folder / "protobuf", key),
        "base64": private(folder / "base64", base64.b64encode(key)),
        "config": private(folder / "config", json.dumps(config).encode()),
    }
    for form in FORMS:
        given["exported " + form] = folder / ("exported " + form)
        p2pmount.export_key(given["config"], form, given["exported " + form])
    for form, file in given.items():
        with p2pmount.Node(identity_file=str(file)) as node:
            expect(node.peer_id, peer_id, "the peer id of %s" % form)
    (folder / "kubo").mkdir()
    exported = base64.b64decode(given["exported base64"].read_bytes())
    with Kubo(path, folder / "kubo", LISTEN["tcp"], identity=(peer_id, exported)) as kubo:
        expect(kubo.peer_id, peer_id, "Kubo's peer id")


def kubos_export(path: Path, folder: Path) -> None:
    """what `ipfs key export` writes is read here, and what is written here `ipfs key import` reads"""
    (folder / "kubo").mkdir(parents=True)
    with Kubo(path, folder / "kubo", LISTEN["tcp"], identity=identities.make("Ed25519")) as kubo:
        for kind in ("ed25519", "rsa"):
            wanted = kubo.command("key", "gen", "--type=" + kind, "--ipns-base=b58mh", kind).strip()
            for form in FORMS[:2]:
                file = folder / ("%s %s" % (kind, form))
                kubo.command("key", "export", "--format=" + form, "--output=" + str(file), kind)
                file.chmod(0o600)
                with p2pmount.Node(identity_file=str(file)) as node:
                    expect(node.peer_id, wanted, "the peer id of %s" % file.name)
                back = folder / ("back %s" % file.name)
                p2pmount.export_key(file, form, back)
                name = "%s-%s" % (kind, form)
                said = kubo.command("key", "import", "--format=" + form, "--ipns-base=b58mh", name, str(back))
                expect(said.strip(), wanted, "the peer id of %s" % back.name)


def check(name: str, what: Callable[..., None], *arguments: object) -> int:
    """1 if it failed."""
    started = time.monotonic()
    try:
        what(*arguments)
        result = "ok"
    except (OSError, Failure, ValueError, RuntimeError, p2pmount.Error) as error:
        result = "FAILED: %s" % (error or type(error).__name__)
    print("%-26s %-104s %5.0f ms %s" % (name, what.__doc__, 1000 * (time.monotonic() - started), result), flush=True)
    return int(result != "ok")


def main() -> int:
    if len(sys.argv) < 3:
        print((__doc__ or "").split("\n\n")[1].strip(), file=sys.stderr)
        return 2
    os.environ["P2PMOUNT_NETWORK"] = "local"
    with tempfile.TemporaryDirectory(prefix="keys-", dir=sys.argv[1]) as name:
        base = Path(name).resolve()
        failed = check("QUIC", no_quic, base / "quic")
        for path in map(Path, sys.argv[2:]):
            kubo = path.resolve().parent.name
            for transport, security in WAYS:
                if transport == "ws" and not has_websocket():
                    continue
                way = "%s %s %s" % (kubo, transport, security)
                failed += check(way, a_private_network, path.resolve(), base / way, transport, security)
            for kind in identities.KINDS:
                way = "%s %s" % (kubo, kind)
                failed += check(way, an_identity, path.resolve(), base / way, kind)
            if path.suffix != ".so":
                failed += check(kubo, kubos_export, path.resolve(), base / kubo)
    print("keys: %s" % ("%d checks failed" % failed if failed else "all right"))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
