// A tunnel, as tunnel.mjs makes it, that shows what goes through: a table of its mounts and streams, printed anew when one
// of them changes, and once a second while streams are open.
//
//     node list.mjs expose [name=value ...] PROTOCOL TARGET [name=value ...]
//     node list.mjs forward [name=value ...] PROTOCOL LISTEN PEER [name=value ...]

import { openMount, runMain, untilQuit } from "./common.mjs";

const USAGE = `usage: list.mjs expose [name=value ...] PROTOCOL TARGET [name=value ...]
       list.mjs forward [name=value ...] PROTOCOL LISTEN PEER [name=value ...]`;

// The columns by the names of docs/FIELDS.md.
const MOUNT = "kind protocol listen target state streams streams_total bytes_in bytes_out".split(" ");
const STREAM = "kind id protocol origin target transport path age_ms bytes_in bytes_out".split(" ");

/** A row has its fields in camel case. */
const field = (column) => column.replace(/_(.)/g, (_, letter) => letter.toUpperCase());

/** Lines with padded columns below a header in capitals; none if there are no rows. */
function table(columns, rows) {
    if (rows.length === 0) return [];
    const cells = [
        columns.map((column) => column.toUpperCase()),
        ...rows.map((row) => columns.map((column) => String(row[field(column)]))),
    ];
    const widths = columns.map((_, column) => Math.max(...cells.map((line) => line[column].length)));
    return cells.map((line) =>
        line
            .map((cell, column) => cell.padEnd(widths[column]))
            .join("  ")
            .trimEnd(),
    );
}

let shown = 0;

function print(node) {
    const lines = [...table(MOUNT, node.list("forwards", "listeners")), ...table(STREAM, node.list("streams"))];
    if (process.stdout.isTTY) {
        // In place: up to where the last table began, and everything from there erased. A line that wraps would count twice.
        if (shown > 0) process.stdout.write(`\x1b[${shown}A\x1b[J`);
        for (const line of lines) console.log(line.slice(0, process.stdout.columns - 1));
        shown = lines.length;
    } else {
        console.log(`${lines.join("\n")}\n`);
    }
}

await runMain(USAGE, async (args) => {
    const { node, mount } = await openMount(args);

    // Several events at once are one table. Nothing happens while nothing happens: the timer runs with streams only.
    let due = null;
    let clock = null;
    const refresh = () => {
        if (due !== null) return;
        due = setImmediate(() => {
            due = null;
            if (node.closed) return;
            print(node);
            clearTimeout(clock);
            if (node.list("streams").length > 0) clock = setTimeout(refresh, 1000);
        });
    };
    node.on("mount", refresh).on("streamOpened", refresh).on("streamClosed", refresh);
    const ended = untilQuit();
    print(node);

    await ended;
    mount.close();
    await node.close({ drain: 2000 });
    clearTimeout(clock);
});
