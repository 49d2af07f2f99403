"""What the example programs do alike: options from the command line, addresses, the end of the program."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import Callable, Iterator

import p2pmount


class Usage(Exception):
    """The command line is not one that the program understands."""


def options_from(arguments: list[str]) -> dict[str, str]:
    """Takes the leading `name=value` arguments away and returns them as options."""
    options = {}
    while arguments and "=" in arguments[0]:
        name, _, value = arguments.pop(0).partition("=")
        options[name] = value
    return options


def no_more(arguments: list[str]) -> None:
    """What is left now is wrong."""
    if arguments:
        raise Usage(f'"{arguments[0]}" is not an option of the form name=value')


def say(line: str) -> None:
    """Prints a line for whoever started this program and waits for it."""
    print(line, flush=True)


def print_node(node: p2pmount.Node) -> None:
    """The peer id and the addresses, one of which another node has to be given."""
    say(f"peer {node.peer_id}")
    for address in node.addresses:
        say(f"address {address}")


def wait_for_quit() -> None:
    """Returns at a line `quit`, at the end of the input, or at Ctrl+C."""
    try:
        for line in sys.stdin:
            if line.strip() == "quit":
                break
    except KeyboardInterrupt:
        pass


@contextmanager
def naming(what: str) -> Iterator[None]:
    """Names what an error of the library was about: `what: sentence (P2P_ERROR_...)`, exit status 1."""
    try:
        yield
    except p2pmount.Error as error:
        print(f"{what}: {error} ({error.name})", file=sys.stderr)
        raise SystemExit(1) from None


def main(program: str, usage: str, run: Callable[[list[str]], None]) -> None:
    """Runs a program with its arguments; says how it is used if it cannot make sense of them."""
    try:
        run(sys.argv[1:])
    except Usage as error:
        if str(error):
            print(f"{program}: {error}", file=sys.stderr)
        print(usage, file=sys.stderr)
        raise SystemExit(2) from None
