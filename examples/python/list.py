#!/usr/bin/env python3
"""A tunnel with a live table of its mounts and streams.

    list.py expose [name=value ...] PROTOCOL TARGET [name=value ...]
    list.py forward [name=value ...] PROTOCOL LISTEN PEER [name=value ...]

The arguments are those of tunnel.py. The table is printed anew whenever a mount or stream comes, goes or changes, and
once a second while streams are open; in place on a terminal, otherwise each one is followed by an empty line. When
nothing happens this program sleeps.
"""

from __future__ import annotations

import sys
import threading

import p2pmount
from common import Usage, main, naming, no_more, options_from, print_node, say, wait_for_quit
from p2pmount import EventKind, ListKind

USAGE = """usage: list.py expose [name=value ...] PROTOCOL TARGET [name=value ...]
       list.py forward [name=value ...] PROTOCOL LISTEN PEER [name=value ...]"""

MOUNT_COLUMNS = "kind protocol listen target state streams streams_total bytes_in bytes_out".split()
STREAM_COLUMNS = "kind id protocol origin target transport path age_ms bytes_in bytes_out".split()

# Seconds between two tables while streams are open.
REFRESH = 1
CLEAR = "\x1b[H\x1b[2J"


def run(arguments: list[str]) -> None:
    command = arguments.pop(0) if arguments else ""
    node_options = options_from(arguments)
    places = {"expose": 2, "forward": 3}.get(command)
    if places is None or len(arguments) < places:
        raise Usage
    names = [arguments.pop(0) for _ in range(places)]
    mount_options = options_from(arguments)
    no_more(arguments)

    with naming("node"):
        node = p2pmount.Node(node_options)
    with node:
        mount: p2pmount.Listener | p2pmount.Forward
        if command == "expose":
            protocol, target = names
            with naming("listen"):
                mount = node.listen(protocol, target, mount_options)
            print_node(node)
        else:
            protocol, listen, peer = names
            with naming("forward"):
                mount = node.forward(protocol, listen, peer, mount_options)
            say(f"listen {mount.address}")
        # Before the first table: what happens from here on is in the queue.
        events = node.events(EventKind.MOUNT | EventKind.STREAM_OPENED | EventKind.STREAM_CLOSED)
        say("ready")
        threading.Thread(target=close_at_quit, args=(events,), daemon=True).start()
        try:
            watch(node, events)
        except KeyboardInterrupt:
            pass
        mount.close()
        with naming("close"):
            node.close(drain=2)


def close_at_quit(events: p2pmount.Events) -> None:
    """The loop in `watch` waits for events, so the input is read beside it; closing the events ends the loop."""
    wait_for_quit()
    events.close()


def watch(node: p2pmount.Node, events: p2pmount.Events) -> None:
    """Shows the table at every event, until the events are closed."""
    while True:
        streams = show(node)
        try:
            events.get(timeout=REFRESH if streams else None)
            while True:
                # One table will do for all that happened at the same time.
                events.get(timeout=0)
        except p2pmount.TimedOutError:
            continue
        except p2pmount.ClosedError:
            return


def show(node: p2pmount.Node) -> int:
    """Prints the table, and returns how many streams there are."""
    listing = node.list(ListKind.FORWARDS | ListKind.LISTENERS | ListKind.STREAMS)
    lines = [*table(listing.mounts, MOUNT_COLUMNS), *table(listing.streams, STREAM_COLUMNS)]
    text = "\n".join(lines)
    if sys.stdout.isatty():
        print(CLEAR + text, flush=True)
    else:
        print(text + "\n", flush=True)
    return len(listing.streams)


def table(rows: list[p2pmount.MountRow] | list[p2pmount.StreamRow], columns: list[str]) -> list[str]:
    """The rows as lines of padded columns, below a line with their names."""
    if not rows:
        return []
    cells = [[column.upper() for column in columns]]
    # A row has its fields by name; one that it lacks is an empty cell.
    cells += [[str(row.fields.get(column, "")) for column in columns] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in cells]


if __name__ == "__main__":
    main("list.py", USAGE, run)
