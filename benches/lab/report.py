"""The table for people and the file for programs."""

from __future__ import annotations

import json
import os
import platform
import re
import statistics
import subprocess
from typing import Any, NamedTuple, Optional

from namespaces import TCP_MEMORY, Cell


class Figure(NamedTuple):
    """Something that is measured; `streams` 0 for the time to the first byte, else Mbit/s."""

    key: str
    label: str
    unit: str
    streams: int
    upload: bool


FIGURES = (
    Figure("first", "first byte of a new client", "ms", 0, False),
    Figure("down1", "download, one stream", "Mbit/s", 1, False),
    Figure("down8", "download, eight streams", "Mbit/s", 8, False),
    Figure("up1", "upload, one stream", "Mbit/s", 1, True),
    Figure("up8", "upload, eight streams", "Mbit/s", 8, True),
)
# Pairs whose ratio is shown, where both were measured.
RATIOS = (("tcp", "plain"), ("quic", "plain"), ("tcp", "kubo-tls"), ("quic", "kubo-quic"))

# What one system did in one round: figures by key, and under "series" and "packets" what they come from.
Sample = dict[str, Any]
Rounds = list[dict[str, Sample]]


def median(rounds: Rounds, system: str, key: str) -> Optional[float]:
    values = [one[system][key] for one in rounds if system in one and one[system].get(key) is not None]
    return statistics.median(values) if values else None


def shown(value: Optional[float], decimals: int) -> str:
    return "-" if value is None else "%.*f" % (decimals, value)


def table(cell: Cell, rounds: Rounds, systems: list[str], figures: list[Figure]) -> str:
    """One cell: medians, and how this library stands to the others."""
    ratios = [(ours, other) for ours, other in RATIOS if ours in systems and other in systems]
    head = "%-36s" % ("%s; medians of %d" % (cell, len(rounds)))
    head += "".join("%10s" % system for system in systems)
    head += "".join("%16s" % ("%s/%s" % pair) for pair in ratios)
    lines = [head]
    for figure in figures:
        line = "%-36s" % ("%s, %s" % (figure.label, figure.unit))
        line += "".join("%10s" % shown(median(rounds, system, figure.key), 1) for system in systems)
        for ours, other in ratios:
            a, b = median(rounds, ours, figure.key), median(rounds, other, figure.key)
            line += "%16s" % shown(a / b if a is not None and b else None, 2)
        lines.append(line.rstrip())
    return "\n".join(lines) + "\n"


def machine(kubo: bool, congestion: str) -> dict[str, Any]:
    """Where the figures come from."""
    text = read("/proc/cpuinfo")
    processor = re.search(r"^model name\s*: (.*)$", text, re.MULTILINE)
    version = re.search(r'^version = "(.*)"', read("Cargo.toml"), re.MULTILINE)
    lock = dict(re.findall(r'name = "(libp2p|quinn|quinn-proto|tokio)"\nversion = "(.*)"', read("Cargo.lock")))
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return {
        "processor": processor.group(1) if processor else "unknown",
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "congestion_control": congestion,
        "tcp_memory": TCP_MEMORY,
        "p2pmount": version.group(1) if version else "unknown",
        "commit": commit.stdout.strip(),
        "kubo": "0.22 (kubo-python 0.1.5)" if kubo else None,
        **lock,
    }


def congestion_control() -> str:
    """What TCP uses on this machine."""
    return read("/proc/sys/net/ipv4/tcp_congestion_control").strip()


def read(file: str) -> str:
    with open(file) as stream:
        return stream.read()


def write(file: str, about: dict[str, Any], cells: list[tuple[Cell, Rounds]]) -> None:
    """Every figure of every round."""
    content = {
        "machine": about,
        "cells": [{**cell._asdict(), "buffer": cell.buffer, "rounds": rounds} for cell, rounds in cells],
    }
    with open(file, "w") as stream:
        json.dump(content, stream, indent=1)
        stream.write("\n")
