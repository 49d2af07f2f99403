#!/usr/bin/env python3
"""What a long path does to a tunnel: throughput and time to the first byte of plain TCP, of this library over TCP and
over QUIC, and of Kubo over TCP and over QUIC.

lab.sh starts it in a network namespace of its own. A second one holds the far end with the target; between them lies a
path of the wanted round-trip time, rate and loss (path.c). Its buffer holds one bandwidth-delay product, its loss is
random and in both directions. For each system both nodes are started anew. Systems take turns round by round; the
medians of the rounds count.
"""

from __future__ import annotations

import argparse
import itertools
import os
import signal
import sys
import time
from collections.abc import Callable

from load import median_first_byte, settle, throughput
from namespaces import Cell, FarEnd, Path
from programs import LabError, run
from report import FIGURES, Figure, Rounds, Sample, congestion_control, machine, table, write
from systems import SYSTEMS, System

# Seconds measured, after a warm-up in which slow start ends and windows grow.
WINDOW = 6.0
# New clients one after the other.
CLIENTS = 5


def warm_up(cell: Cell) -> float:
    return 1.5 + cell.rtt / 75


def measure(system: System, far_end: FarEnd, cell: Cell, figures: list[Figure]) -> Sample:
    quiet = median_first_byte(system.address, CLIENTS)
    sample: Sample = {"first": round(quiet * 1000, 2), "series": {}}
    for figure in figures:
        if figure.streams == 0:
            continue
        try:
            meter = far_end.uploaded if figure.upload else None
            mean, series = throughput(system.address, figure.streams, meter, warm_up(cell), WINDOW)
            sample[figure.key], sample["series"][figure.key] = round(mean, 2), series
            settle(system.address, quiet)
        except (LabError, OSError) as error:
            sample.setdefault("errors", {})[figure.key] = str(error)
    return sample


def one(name: str, far_end: FarEnd, cell: Cell, figures: list[Figure], build: str, kubo: str) -> Sample:
    """One system on one path."""
    path = Path(os.path.join(build, "path"), far_end, cell)
    try:
        with path, System(name, far_end, build, kubo) as system:
            sample = measure(system, far_end, cell, figures)
    except (LabError, OSError) as error:
        sample = {"errors": {"": str(error)}}
    sample["packets"] = path.packets
    for key, text in sample.get("errors", {}).items():
        print("lab-bench: %s, %s: %s: %s" % (cell, name, key or "not measured", text), file=sys.stderr)
    return sample


def numbers(text: str) -> list[float]:
    return [float(number) for number in text.split(",")]


def choice(*known: str) -> Callable[[str], list[str]]:
    def parse(text: str) -> list[str]:
        for name in text.split(","):
            if name not in known:
                raise argparse.ArgumentTypeError("%r is none of %s" % (name, ", ".join(known)))
        return [name for name in known if name in text.split(",")]

    return parse


def arguments() -> argparse.Namespace:
    keys = [figure.key for figure in FIGURES]
    usual = ["first", "down1", "down8", "up1"]
    parser = argparse.ArgumentParser(prog="lab.sh", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="the cell of 150 ms, 100 Mbit/s, no loss alone")
    parser.add_argument("--rtt", type=numbers, default=[40, 150], help="milliseconds, comma separated")
    parser.add_argument("--rate", type=numbers, default=[100, 500], help="Mbit/s, comma separated")
    parser.add_argument("--loss", type=numbers, default=[0, 1], help="per cent, comma separated")
    parser.add_argument("--only", type=choice(*SYSTEMS), default=list(SYSTEMS), help=",".join(SYSTEMS))
    parser.add_argument("--figures", type=choice(*keys), default=usual, help=",".join(keys))
    parser.add_argument("--congestion", help="congestion control of TCP, for all systems (the machine's default)")
    parser.add_argument("--output", help="JSON file (target/bench/lab.json)")
    parser.add_argument("--build", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--kubo", required=True, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    given = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    cells = [Cell(150, 100, 0)]
    if not given.quick:
        cells = [Cell(*numbers) for numbers in itertools.product(given.rtt, given.rate, given.loss)]
    systems = [name for name in given.only if not name.startswith("kubo") or os.path.exists(given.kubo)]
    figures = [figure for figure in FIGURES if figure.key in given.figures]
    output = given.output or os.path.join(os.path.dirname(given.build), "lab.json")
    about = machine(any(name.startswith("kubo") for name in systems), given.congestion or congestion_control())

    print("%(processor)s, %(cores)s cores, Linux %(kernel)s, TCP with %(congestion_control)s" % about)
    print("p2pmount %(p2pmount)s (%(commit)s), libp2p %(libp2p)s, quinn %(quinn)s, Kubo %(kubo)s" % about)
    print("windows of %g s after a warm-up; buffer of the path: one bandwidth-delay product\n" % WINDOW, flush=True)
    # What the nodes write goes with the namespaces.
    run("mount", "-t", "tmpfs", "lab", os.path.join(given.build, "run"))
    far_end = FarEnd(given.congestion)
    done: list[tuple[Cell, Rounds]] = []
    failed = False
    for cell in cells:
        begin = time.monotonic()
        rounds: Rounds = []
        for _ in range(given.rounds):
            rounds.append({name: one(name, far_end, cell, figures, given.build, given.kubo) for name in systems})
        done.append((cell, rounds))
        failed = failed or any("errors" in sample for round_ in rounds for sample in round_.values())
        print(table(cell, rounds, systems, figures), flush=True)
        print("lab-bench: %s: %.0f s" % (cell, time.monotonic() - begin), file=sys.stderr)
        write(output, about, done)
    print("every figure: " + os.path.relpath(output))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    try:
        main()
    except LabError as error:
        sys.exit("lab-bench: %s" % error)
    except KeyboardInterrupt:
        sys.exit(130)
