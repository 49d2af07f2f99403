"""A program of these tests as a child process: it is asked by lines of JSON and answers by lines of JSON.

`Child` is the test's side, `serve` the program's. A child ends with its standard input, so none outlives the test.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any, Optional

# Seconds: for an answer, for a child to end.
ANSWER, END = 20, 8


class Failure(Exception):
    """Something was not as promised; the text says what."""


class Child:
    """A running program. What it writes to standard error goes to the test's."""

    def __init__(self, name: str, program: str, *arguments: str) -> None:
        self.name = name
        self.process = subprocess.Popen(
            [sys.executable, program, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._answers: queue.Queue[str] = queue.Queue()
        self._turn = threading.Lock()
        # With both as they are now: a child that begins anew has others, and the end of the old one is not theirs.
        threading.Thread(target=_read, args=(self.process, self._answers), daemon=True).start()

    def answer(self, timeout: float = ANSWER) -> Any:
        try:
            line = self._answers.get(timeout=timeout)
        except queue.Empty:
            raise Failure("%s did not answer within %g s" % (self.name, timeout)) from None
        if line == "":
            raise Failure("%s ended early" % self.name)
        answer = json.loads(line)
        if "error" in answer:
            raise Failure("%s: %s" % (self.name, answer["error"]))
        return answer["ok"]

    def ask(self, command: str, *arguments: Any, timeout: float = ANSWER) -> Any:
        """What the child answers to a command."""
        with self._turn:
            if self.process.stdin is None:
                raise Failure("%s has no input" % self.name)
            try:
                self.process.stdin.write(json.dumps([command, *arguments]) + "\n")
                self.process.stdin.flush()
            except OSError:
                raise Failure("%s ended early" % self.name) from None
            return self.answer(timeout)

    def kill(self) -> None:
        """Ends it as a power cut would."""
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        """Ends its input; it should go by itself then, and is killed otherwise."""
        if self.process.stdin is not None:
            try:
                self.process.stdin.close()
            except OSError:
                # It has gone already, with something unread.
                pass
        try:
            self.process.wait(END)
        except subprocess.TimeoutExpired:
            self.kill()


def _read(process: subprocess.Popen[str], answers: queue.Queue[str]) -> None:
    for line in process.stdout or ():
        answers.put(line)
    answers.put("")


def serve(hello: Any, commands: dict[str, Callable[..., Any]]) -> None:
    """Says hello, then answers commands until standard input ends."""
    say({"ok": hello})
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        try:
            say({"ok": commands[name](*arguments)})
        except Exception as error:
            say({"error": "%s: %s" % (name, error or type(error).__name__)})


def say(answer: Any) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def clean_environment(*names: str) -> None:
    """What a user may have set and a program here must not see."""
    for name in names:
        os.environ.pop(name, None)


def port_of(address: str) -> int:
    """The port of "127.0.0.1:80" or "/ip4/127.0.0.1/tcp/80"."""
    found: Optional[str] = address.replace("/", ":").rpartition(":")[2]
    return int(found or 0)
