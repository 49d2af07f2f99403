"""Programs that are started, spoken to by lines, and ended."""

from __future__ import annotations

import queue
import subprocess
import threading
import time
from collections.abc import Sequence

# Seconds: for one line of an answer, for a program to end.
LINE, END = 30, 5


class LabError(Exception):
    """Something did not work; the text says what."""


class Program:
    """One program. It has its own session: an interrupt meets only the benchmark, which then ends what it started."""

    def __init__(self, name: str, arguments: Sequence[str]) -> None:
        self.name = name
        self.process = subprocess.Popen(
            arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, start_new_session=True
        )
        self.lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self.process.stdout or ():
            self.lines.put(line.rstrip("\n"))
        self.lines.put(None)

    def line(self) -> str:
        try:
            line = self.lines.get(timeout=LINE)
        except queue.Empty:
            raise LabError("%s did not answer within %d s" % (self.name, LINE)) from None
        if line is None:
            raise LabError("%s ended early" % self.name)
        return line

    def value(self, key: str) -> str:
        """The first value of the lines `key value` up to the line `ready`."""
        found = ""
        while (line := self.line()) != "ready":
            if not found and line.startswith(key + " "):
                found = line[len(key) + 1 :]
        if not found:
            raise LabError("%s printed no %s" % (self.name, key))
        return found

    def ask(self, word: str) -> str:
        assert self.process.stdin is not None
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()
        return self.line()

    def terminate(self) -> list[str]:
        """Ends the program with SIGTERM; what it printed last."""
        self.process.terminate()
        last = []
        deadline = time.monotonic() + END
        try:
            while (line := self.lines.get(timeout=max(0.0, deadline - time.monotonic()))) is not None:
                last.append(line)
        except queue.Empty:
            pass
        self.kill()
        return last

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def run(*arguments: str) -> None:
    """Runs a program that ends by itself."""
    result = subprocess.run(arguments, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    if result.returncode != 0:
        raise LabError("%s: %s" % (" ".join(arguments), result.stderr.strip()))
