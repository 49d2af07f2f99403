"""One side of a tunnel through Kubo, for the benchmark.

    kubo.py LIBRARY FOLDER tls|noise|quic listen TARGET
    kubo.py LIBRARY FOLDER tls|noise|quic forward PEER

LIBRARY is the shared library of the package kubo-python, FOLDER does not exist yet. Prints `ADDRESS MICROSECONDS` when
it is ready: where the other side dials, or where clients connect, and how long it took. Ends with its input. The node
(tests/interop/kubo_node.py) listens on 127.0.0.1 only.
"""

import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "interop"))
from kubo_node import Node  # noqa: E402

PROTOCOL = "bench"
LOOPBACK = "/ip4/127.0.0.1/tcp/0"


def main() -> None:
    library, name, what, side, address = sys.argv[1:]
    folder = Path(name)
    folder.mkdir(parents=True)
    started = time.monotonic()
    listen = "/ip4/127.0.0.1/udp/0/quic-v1" if what == "quic" else LOOPBACK
    # With its resource manager it refuses streams from the 1804th on.
    node = Node(os.path.abspath(library), folder.resolve(), listen, what, resource_manager=False)
    if side == "listen":
        host, port = address.rsplit(":", 1)
        node.listen(PROTOCOL, f"/ip4/{host}/tcp/{port}")
        ready = node.addresses[0]
    else:
        node.connect(address)
        _, _, host, _, port = node.forward(PROTOCOL, LOOPBACK, address.rsplit("/", 1)[1]).split("/")
        ready = f"{host}:{port}"
    print(ready, int((time.monotonic() - started) * 1e6), flush=True)
    sys.stdin.read()
    # The library's own end may hang.
    os._exit(0)


main()
