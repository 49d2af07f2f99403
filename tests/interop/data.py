#!/usr/bin/env python3
"""The data matrix against a real Kubo: every byte, every end and every reset, both ways, over each transport.

    data.py KUBO [FOLDER]

KUBO is what scripts/kubo.sh prints. FOLDER is where the nodes keep what they write; without it a fresh one is taken,
and removed if all is right. Exit status 0 only if nothing was lost but what losses.py lists as Kubo's, and the frame
log of our node shows that it was Kubo.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Union

import p2pmount
from child import Failure
from losses import TABLES, losses
from pair import Column, Pair, columns
from rows import CUTS, ROWS, Cut, Row
from run import Run, run_logged

EVERY_ROW: list[Union[Row, Cut]] = [*ROWS, *CUTS]


@dataclass
class Cell:
    runs: list[Run] = field(default_factory=list)
    #: What fails it.
    failures: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        if self.failures:
            return "FAILED"
        words = sorted({word for run in self.runs for _, deeds in run.lost for word in deeds})
        if not words:
            return "ok"
        lossy = sum(bool(run.lost) for run in self.runs)
        return "%s %d/%d" % ("+".join(words), lossy, len(self.runs))


def run_row(pair: Pair, row: Union[Row, Cut], cell: Cell) -> None:
    """Runs a row as often as it says and judges it by Kubo's table."""
    for _ in range(1 if isinstance(row, Cut) else row.repeat):
        cell.runs.append(run_logged(pair, row))
        if cell.runs[-1].faults:
            break
    judge(row.name, pair.column, cell, pair.kubo.is_library)


def judge(row: str, column: Column, cell: Cell, is_old: bool) -> None:
    often, words = losses(row, column, is_old)
    for run in cell.runs:
        if run.faults:
            cell.failures.append(str(run))
        elif run.lost and often == "never":
            cell.failures.append("losses.py does not have it: %s" % run)
        elif any(not words & deeds.keys() for _, deeds in run.lost):
            cell.failures.append("the frames do not show that Kubo did it (%s): %s" % (" ".join(sorted(words)), run))
        elif not run.lost and often == "always":
            cell.failures.append("Kubo lost nothing, though it always does by losses.py: %s" % run)


class Matrix:
    def __init__(self, kubo: Path, folder: Path) -> None:
        self.kubo = kubo
        self.folder = folder
        self.columns = columns()
        self.cells = {(row.name, column): Cell() for row in EVERY_ROW for column in self.columns}
        key = folder / "identity"
        with p2pmount.Node(identity_file=key, listen_addresses="") as node:
            self.identity = (node.peer_id, key.read_bytes())

    def run(self) -> None:
        with ThreadPoolExecutor(2) as pool, ThreadPoolExecutor(2) as cuts:
            jobs = [pool.submit(self.column, column) for column in self.columns]
            jobs += [
                cuts.submit(self.cut, row, column)
                for row in CUTS
                for column in self.columns
                if row.what != "the path is cut" or column.transport != "quic"
            ]
            for job in jobs:
                job.result()

    @contextlib.contextmanager
    def pair(self, name: str, column: Column, relayed: bool = False) -> Iterator[Pair]:
        pair = Pair(self.kubo, self.folder / name, column, self.identity, relayed)
        try:
            yield pair
        finally:
            pair.close()

    def column(self, column: Column) -> None:
        with self.pair(column.file_name, column) as pair:
            for row in ROWS:
                self.cell(row, pair)

    def cut(self, row: Cut, column: Column) -> None:
        name = "%s-%s" % (column.file_name, row.name.replace(" ", "-").replace(",", ""))
        with self.pair(name, column, row.what == "the path is cut") as pair:
            self.cell(row, pair)

    def cell(self, row: Union[Row, Cut], pair: Pair) -> None:
        cell = self.cells[row.name, pair.column]
        started = time.monotonic()
        try:
            run_row(pair, row, cell)
        except Failure as failure:
            cell.failures.append(str(failure))
        took = time.monotonic() - started
        print("%-14s %-50s %-14s %5.0f ms" % (pair.column.name, row.name, cell.text, 1000 * took), flush=True)
        for text in cell.failures:
            print("    " + text)

    def show(self) -> None:
        print()
        print(" ".join(["%-50s" % "", *("%-14s" % column.name for column in self.columns)]))
        for row in EVERY_ROW:
            cells = [self.cells[row.name, column] for column in self.columns]
            print(" ".join(["%-50s" % row.name, *("%-14s" % (cell.text if cell.runs else "-") for cell in cells)]))


def main() -> int:
    if len(sys.argv) not in (2, 3):
        print((__doc__ or "").split("\n\n")[1].strip(), file=sys.stderr)
        return 2
    os.environ["P2PMOUNT_NETWORK"] = "local"
    names = {row.name for row in EVERY_ROW}
    if strangers := {row for table in TABLES for row in table} - names:
        print("losses.py has rows that are not there: %s" % ", ".join(sorted(strangers)), file=sys.stderr)
        return 2
    folder = Path(tempfile.mkdtemp(prefix="interop-", dir=sys.argv[2] if len(sys.argv) > 2 else None)).resolve()
    matrix = Matrix(Path(sys.argv[1]).resolve(), folder)
    started = time.monotonic()
    matrix.run()
    matrix.show()
    failed = sum(bool(cell.failures) for cell in matrix.cells.values())
    print("%d s" % (time.monotonic() - started))
    if failed:
        print("%d cells failed; %s has the logs" % (failed, folder))
        return 1
    shutil.rmtree(folder)
    print("all right")
    return 0


if __name__ == "__main__":
    sys.exit(main())
