"""One side of a tunnel through Kubo, for the benchmark.

    kubo.py LIBRARY REPOSITORY tls|noise|quic listen TARGET
    kubo.py LIBRARY REPOSITORY tls|noise|quic forward PEER

LIBRARY is the shared library of the package kubo-python, REPOSITORY a directory that does not exist yet. Prints
`ADDRESS MICROSECONDS` when it is ready: where the other side dials, or where clients connect, and how long it took.
Ends with its input. The node has no bootstrap peers, no mDNS, no relays and no routing, and listens on 127.0.0.1 only.
"""

import ctypes
import json
import os
import sys
import time
from typing import Any

PROTOCOL = b"/x/bench"


def load(path: str) -> ctypes.CDLL:
    library = ctypes.CDLL(path)
    for name in ("GetNodeID", "GetNodeMultiAddrs", "P2PListListeners"):
        getattr(library, name).restype = ctypes.c_char_p
    return library


def configure(repository: str, what: str) -> None:
    path = os.path.join(repository, "config")
    with open(path) as file:
        config = json.load(file)
    quic = what == "quic"
    swarm = "/ip4/127.0.0.1/udp/0/quic-v1" if quic else "/ip4/127.0.0.1/tcp/0"
    config["Bootstrap"] = []
    config["Addresses"].update(Swarm=[swarm], API=[], Gateway=[], Announce=[], AppendAnnounce=[], NoAnnounce=[])
    config["Discovery"] = {"MDNS": {"Enabled": False}}
    config["AutoNAT"] = {"ServiceMode": "disabled"}
    config["Routing"] = {"Type": "none"}
    config["Swarm"].update(
        AddrFilters=[],
        DisableNatPortMap=True,
        EnableHolePunching=False,
        RelayClient={"Enabled": False},
        RelayService={"Enabled": False},
        # With the resource manager it refuses streams from the 1804th on.
        ResourceMgr={"Enabled": False},
        Transports={
            "Network": {"TCP": not quic, "QUIC": quic, "Websocket": False, "WebTransport": False, "Relay": False},
            "Security": {"TLS": 100 if what == "tls" else False, "Noise": 100 if what == "noise" else False},
            "Multiplexers": {"Yamux": 100, "Mplex": False},
        },
    )
    config["Experimental"]["Libp2pStreamMounting"] = True
    with open(path, "w") as file:
        json.dump(config, file)


def multiaddr(address: str) -> bytes:
    host, port = address.rsplit(":", 1)
    return f"/ip4/{host}/tcp/{port}".encode()


def check(done: bool, what: str) -> None:
    if not done:
        with open("kubo.log") as log:
            sys.exit(f"kubo.py: {what} failed\n{log.read()}")


def main() -> None:
    path, repository, what, side, address = sys.argv[1:]
    path = os.path.abspath(path)
    os.makedirs(repository)
    # The library writes its log to the working directory.
    os.chdir(repository)
    started = time.monotonic()
    library = load(path)
    node = repository.encode()
    check(library.CreateRepo(node) >= 0, "CreateRepo")
    configure(repository, what)
    check(library.RunNode(node) == 1, "RunNode")
    if side == "listen":
        check(library.P2PListen(node, PROTOCOL, multiaddr(address)) == 1, "P2PListen")
        addresses = json.loads(library.GetNodeMultiAddrs(node))
        ready = f"{addresses[0]}/p2p/{library.GetNodeID(node).decode()}"
    else:
        check(library.ConnectToPeer(node, address.encode()) == 0, "ConnectToPeer")
        peer = address.rsplit("/", 1)[1].encode()
        check(library.P2PForward(node, PROTOCOL, multiaddr("127.0.0.1:0"), peer) == 1, "P2PForward")
        mounts: Any = json.loads(library.P2PListListeners(node))
        _, _, host, _, port = mounts["Forwards"][0]["ListenAddress"].split("/")
        ready = f"{host}:{port}"
    print(ready, int((time.monotonic() - started) * 1e6), flush=True)
    sys.stdin.read()
    # The library's own end may hang.
    os._exit(0)


main()
