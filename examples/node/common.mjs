// What the example programs do alike: options from the command line, addresses, failures, their end.

import { once } from "node:events";
import readline from "node:readline";
import { Node, P2pError } from "p2pmount";

/** Wrong arguments: the usage is printed, and the exit status is 2. */
export class UsageError extends Error {}

/** Takes the arguments of the form name=value off the front of `args`. The library checks them. */
export function takeOptions(args) {
    const options = {};
    while (args.length > 0 && args[0].includes("=")) {
        const [name, ...value] = args.shift().split("=");
        options[name] = value.join("=");
    }
    return options;
}

/** Takes `count` words off the front of `args`. */
export function takeWords(args, count) {
    if (args.length < count) throw new UsageError();
    return args.splice(0, count);
}

/** Names what failed, for the one line that is printed in the end. */
export async function attempt(what, action) {
    try {
        return await action();
    } catch (error) {
        if (error instanceof P2pError) error.what = what;
        throw error;
    }
}

/**
 * Opens a node and makes the one mount that the command line asks for:
 *
 *     expose [name=value ...] PROTOCOL TARGET [name=value ...]
 *     forward [name=value ...] PROTOCOL LISTEN PEER [name=value ...]
 *
 * Options before the protocol are the node's, those at the end are the mount's.
 */
export async function openMount(args) {
    const [command] = takeWords(args, 1);
    if (command !== "expose" && command !== "forward") throw new UsageError();
    const nodeOptions = takeOptions(args);
    const words = takeWords(args, command === "expose" ? 2 : 3);
    const mountOptions = takeOptions(args);
    if (args.length > 0) throw new UsageError(`"${args[0]}" is not an option of the form name=value`);

    const node = await attempt("node", () => Node.open(nodeOptions));
    if (command === "expose") {
        const mount = await attempt("listen", () => node.listen(...words, mountOptions));
        printNode(node);
        return { node, mount };
    }
    const mount = await attempt("forward", () => node.forward(...words, mountOptions));
    console.log(`listen ${mount.address}`);
    return { node, mount };
}

export function printNode(node) {
    console.log(`peer ${node.peerId}`);
    for (const address of node.addresses) console.log(`address ${address}`);
}

/** Says "ready", and waits for the line "quit" or the end of the input. */
export async function untilQuit() {
    console.log("ready");
    const input = readline.createInterface({ input: process.stdin });
    input.on("line", (line) => {
        if (line === "quit") input.close();
    });
    await once(input, "close");
    process.stdin.unref?.();
}

/** Runs a program: `main` gets the arguments. Failures go to stderr and into the exit status. */
export async function runMain(usage, main) {
    try {
        await main(process.argv.slice(2));
    } catch (error) {
        if (error instanceof UsageError) {
            if (error.message !== "") console.error(error.message);
            console.error(usage);
            process.exitCode = 2;
        } else if (error instanceof P2pError) {
            console.error(`${error.what ?? "p2pmount"}: ${error.message} (${error.code})`);
            process.exitCode = 1;
        } else {
            console.error(error.message);
            process.exitCode = 1;
        }
    }
}
