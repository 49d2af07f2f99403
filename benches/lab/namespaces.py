"""The two network namespaces, this program's own and that of the far end, and the path between them."""

from __future__ import annotations

import os
import time
from typing import NamedTuple

from programs import LabError, Program, run

INTERFACE = "path"
NEAR, FAR = "10.77.0.1", "10.77.0.2"
# Bytes that the kernel may give to one TCP connection, in each direction: the path is to be the limit.
TCP_MEMORY = 64 << 20
# Packets that wait for the path program while it sleeps.
QUEUE = 20000


class Cell(NamedTuple):
    """A kind of path: milliseconds, Mbit/s, per cent."""

    rtt: float
    rate: float
    loss: float

    @property
    def buffer(self) -> int:
        """Bytes that wait for the line: one bandwidth-delay product, as much as is on the way without waiting."""
        return int(self.rate * self.rtt * 1000 / 8)

    def __str__(self) -> str:
        loss = "%g %% loss" % self.loss if self.loss else "no loss"
        return "%g ms, %g Mbit/s, %s" % (self.rtt, self.rate, loss)


class FarEnd:
    """The namespace beyond the path, and the target in it."""

    def __init__(self, congestion: str | None) -> None:
        directory = os.path.dirname(os.path.abspath(__file__))
        run("ip", "link", "set", "lo", "up")
        self.target = Program("target", ["unshare", "--net", "python3", os.path.join(directory, "target.py")])
        self.port = int(self.target.line().split()[1])
        run(*self.inside("ip", "link", "set", "lo", "up"))
        settings = {
            "tcp_rmem": "4096 131072 %d" % TCP_MEMORY,
            "tcp_wmem": "4096 16384 %d" % TCP_MEMORY,
            # What one system learns of the path would otherwise help the next.
            "tcp_no_metrics_save": "1",
        }
        if congestion is not None:
            settings["tcp_congestion_control"] = congestion
        for name, value in settings.items():
            write = "printf '%s' > /proc/sys/net/ipv4/%s" % (value, name)
            for command in (["sh", "-c", write], self.inside("sh", "-c", write)):
                run(*command)

    @property
    def pid(self) -> int:
        return self.target.process.pid

    def inside(self, *command: str) -> list[str]:
        """The command, to be run in this namespace."""
        return ["nsenter", "--net=/proc/%d/ns/net" % self.pid, "--", *command]

    def uploaded(self) -> tuple[int, float]:
        """The bytes that the target has taken until now, and the time."""
        size, at = self.target.ask("count").split()
        return int(size), float(at)


class Path:
    """A path of the kind of `cell`, for as long as this is open."""

    def __init__(self, program: str, far_end: FarEnd, cell: Cell) -> None:
        numbers = ["%g" % cell.rtt, "%g" % cell.rate, "%g" % cell.loss, str(cell.buffer)]
        self.program = Program("path", [program, str(far_end.pid), INTERFACE, *numbers])
        self.packets: list[dict[str, int]] = []
        if self.program.line() != "ready":
            raise LabError("the path was not made")
        for address, wrap in ((NEAR, lambda *c: list(c)), (FAR, far_end.inside)):
            run(*wrap("ip", "link", "set", INTERFACE, "txqueuelen", str(QUEUE), "up"))
            run(*wrap("ip", "address", "add", address + "/30", "dev", INTERFACE))

    def __enter__(self) -> Path:
        return self

    def __exit__(self, *_: object) -> None:
        for line in self.program.terminate():
            self.packets.append(dict(zip(("carried", "lost", "dropped"), map(int, line.split()))))
        # The interfaces go with the program, but not at once.
        while os.path.exists("/proc/sys/net/ipv4/conf/" + INTERFACE):
            time.sleep(0.01)
