// What the tests share. Every test awaits events, never time; whatever it opens is closed when it ends.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import net from "node:net";
import path from "node:path";
import { test as nodeTest } from "node:test";
import { fileURLToPath } from "node:url";
import { Node } from "p2pmount";
import "./bounds.mjs";

if (process.env.P2PMOUNT_NETWORK !== "local") throw new Error("tests run with P2PMOUNT_NETWORK=local only");

export const PACKAGE = fileURLToPath(new URL("..", import.meta.url));
export const ROOT = path.join(PACKAGE, "..", "..");

/** Of Node's about this process, such as too many listeners of one event: a defect of the package. */
const warnings = [];
process.on("warning", (warning) => warnings.push(String(warning)));

/**
 * A test with a limit of its own, so that one that hangs says where. The runner has a longer one for each file. What Node
 * warns of meanwhile fails it.
 */
export const test = (name, body) =>
    nodeTest(name, { timeout: 45000 }, async (t) => {
        await body(t);
        // Warnings come a moment later.
        await new Promise(setImmediate);
        assert.deepEqual(warnings.splice(0), []);
    });

/** A peer that is not there. */
export const NOBODY = "/ip4/127.0.0.1/tcp/1/p2p/12D3KooWMSmygJ7RhRdin5oB46PbyrDxsNjtB83wNwU9h7jAjdy6";

/** A node that is closed after the test. */
export async function openNode(t, options) {
    const node = await Node.open(options);
    t.after(() => node.close());
    return node;
}

/** A TCP server; its connections are ended with it. Gives what its address() gives. */
export async function serve(t, handler, where = { host: "127.0.0.1", port: 0 }) {
    const connections = new Set();
    const server = net.createServer({ allowHalfOpen: true }, (socket) => {
        connections.add(socket.on("close", () => connections.delete(socket)).on("error", () => {}));
        Promise.resolve(handler(socket)).catch(() => {});
    });
    server.listen(where);
    await once(server, "listening");
    t.after(() => {
        for (const socket of connections) socket.destroy();
        server.close();
    });
    return server.address();
}

export const echo = (socket) => socket.pipe(socket);

/** Two nodes and a service of one of them that the other forwards. */
export async function tunnel(t, handler = echo, { options = {}, listen = {}, forward = {} } = {}) {
    const [server, client] = [await openNode(t, options), await openNode(t, options)];
    const listener = server.listen("test", await serve(t, handler), listen);
    return { server, client, listener, forward: await client.forward("test", 0, server.addresses, forward) };
}

/** A connection that may end with an error nobody waits for. */
export async function connect(t, endpoint) {
    const socket = net.connect({ ...endpoint, allowHalfOpen: true }).on("error", () => {});
    t.after(() => socket.destroy());
    await once(socket, "connect");
    return socket;
}

/** Everything up to the end. Not with `for await`, which destroys a socket whose other direction is still open. */
export function readAll(socket) {
    return new Promise((resolve, reject) => {
        const parts = [];
        socket.on("data", (part) => parts.push(part));
        socket.on("end", () => resolve(Buffer.concat(parts)));
        socket.on("error", reject);
    });
}

/** Sends all, ends its direction, and gives what comes back until the end. */
export async function exchange(t, endpoint, content) {
    const socket = await connect(t, endpoint);
    socket.end(content);
    return readAll(socket);
}

/** The first event of a stream that fits. */
export async function next(events, fits = () => true) {
    for (;;) {
        const { value, done } = await events.next();
        if (done) throw new Error("the events ended without the one that was awaited");
        if (fits(value)) return value;
    }
}

/** Arguments of a Node.js that ends with this process, and after so many seconds. */
export const bounded = (seconds) => ["--import", `${new URL("bounds.mjs", import.meta.url)}?${seconds}`];

/** Runs a program of Node's; `line` gives its output line by line, `ended` how it ended. It has a minute. */
export function run(t, args, { env = {}, cwd = PACKAGE, shell } = {}) {
    const options = { cwd, env: { ...process.env, ...env }, stdio: "pipe" };
    const command = [process.execPath, ...bounded(60), ...args];
    // `shell`: what runs before it, which goes on as "$0" "$@".
    const [file, ...rest] = shell === undefined ? command : ["bash", "-c", shell, ...command];
    const child = spawn(file, rest, options);
    t.after(() => child.kill("SIGKILL"));
    let [output, errors] = ["", ""];
    child.stdout.setEncoding("utf8").on("data", (text) => {
        output += text;
        child.emit("output");
    });
    child.stderr.setEncoding("utf8").on("data", (text) => {
        errors += text;
    });
    const ended = once(child, "close").then(([code, signal]) => ({ code, signal, output, errors }));
    ended.then(() => child.emit("output"));
    let taken = 0;
    /** The next line, without its end; undefined at the end of the output. */
    const line = async () => {
        for (;;) {
            const end = output.indexOf("\n", taken);
            if (end >= 0) {
                const text = output.slice(taken, end);
                taken = end + 1;
                return text;
            }
            if (child.exitCode !== null || child.signalCode !== null) {
                if (child.stdout.readableEnded) return undefined;
            }
            await once(child, "output");
        }
    };
    return { child, line, ended };
}

/** Runs a program given as text, as an ES module that can import the package. */
export const runText = (t, text, options) => run(t, ["--input-type=module", "--eval", text], options);

/** A multiaddr of a peer that accepts connections and never answers, so that dialling it takes as long as it may. */
export async function silentPeer(t) {
    const { port } = await serve(t, () => {});
    const node = await Node.open({ "listen.addresses": [] });
    await node.close();
    return `/ip4/127.0.0.1/tcp/${port}/p2p/${node.peerId}`;
}
