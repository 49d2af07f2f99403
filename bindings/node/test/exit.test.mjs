// How a process ends while its nodes are open and busy: without a word, with the status it chose.

import assert from "node:assert/strict";
import { Worker } from "node:worker_threads";
import { echo, next, openNode, runText, serve, test } from "./support.mjs";

/** Two nodes in one process, a tunnel between them, and a client that keeps sending through it. */
const TRAFFIC = `
    import net from "node:net";
    import { once } from "node:events";
    import { Node } from "p2pmount";
    const service = net.createServer((socket) => socket.on("error", () => {}).unref().pipe(socket)).listen(0, "127.0.0.1");
    await once(service, "listening");
    const server = await Node.open();
    const client = await Node.open();
    server.on("event", () => {});
    server.listen("test", service.address());
    const forward = await client.forward("test", 0, server.addresses);
    const socket = net.connect(forward.endpoint).on("error", () => {});
    const part = Buffer.alloc(65536);
    const send = () => { while (socket.write(part)); };
    socket.on("drain", send);
    let received = 0;
    socket.on("data", (data) => { received += data.length; });
    send();
    while (received < 1 << 20) await once(socket, "data");
    const reading = (async () => { for await (const event of server.events()); })();
`;

const ENDS = {
    "process.exit()": ["process.exit(3);", 3, /^$/],
    "an uncaught exception": ['setImmediate(() => { throw new Error("mine"); });', 1, /Error: mine/],
    // The socket's own writes would keep the process running.
    "its own end": [
        'socket.off("drain", send); for (const each of [server, client, service, socket]) each.unref();',
        0,
        /^$/,
    ],
};

for (const [name, [ending, code, message]] of Object.entries(ENDS)) {
    test(`a process with open nodes and traffic ends cleanly by ${name}, 20 of 20 times`, async (t) => {
        for (let left = 20; left > 0; left -= 4) {
            const ended = await Promise.all(Array.from({ length: 4 }, () => runText(t, TRAFFIC + ending).ended));
            for (const end of ended) {
                assert.deepEqual([end.code, end.signal], [code, null], end.errors);
                assert.match(end.errors, message);
            }
        }
    });
}

/** How long a peer may take to learn that a process is gone; by itself it would take half a minute. */
const SOON = 5000;

/** The start of a program with a node that has a stream to a peer, which nothing ends. */
const leaving = (from, { addresses }) => `
    import { once } from "node:events";
    import net from "node:net";
    import { Node } from ${JSON.stringify(from)};
    const node = await Node.open({ transports: "quic" });
    const forward = await node.forward("test", 0, ${JSON.stringify(addresses)});
    const socket = net.connect(forward.endpoint).on("error", () => {});
    socket.write("hello");
    await once(socket, "data");
    socket.unref();
`;

const LEAVING = {
    "process.exit()": "process.exit();",
    "an uncaught exception": 'setImmediate(() => { throw new Error("mine"); });',
    "its own end": "node.unref();",
    "process.exit() while it drains": "node.close({ drain: Infinity }); process.exit();",
};

for (const [name, ending] of Object.entries(LEAVING)) {
    test(`peers learn at once of the end of a process by ${name}, over QUIC, too`, async (t) => {
        const here = await openNode(t, { transports: "quic" });
        here.listen("test", await serve(t, echo));
        const events = here.events({ kinds: "peer" });
        const { ended } = runText(t, leaving("p2pmount", here) + ending);
        assert.equal((await next(events)).state, "connected");
        await ended;
        const since = performance.now();
        assert.equal((await next(events)).state, "disconnected");
        const took = performance.now() - since;
        assert.ok(took < SOON, `${took} ms after the end`);
    });
}

test("peers learn at once of the end of a worker by process.exit() while it drains", async (t) => {
    const here = await openNode(t, { transports: "quic" });
    here.listen("test", await serve(t, echo));
    const events = here.events({ kinds: "peer" });
    const text = `${leaving(import.meta.resolve("p2pmount"), here)} node.close({ drain: Infinity }); process.exit();`;
    const worker = new Worker(new URL(`data:text/javascript,${encodeURIComponent(text)}`));
    t.after(() => worker.terminate());
    assert.equal((await next(events)).state, "connected");
    const since = performance.now();
    assert.equal((await next(events)).state, "disconnected");
    assert.ok(performance.now() - since < SOON);
});

test("the end of a process with eight connected nodes takes well below a second", async (t) => {
    const here = await openNode(t, { transports: "quic" });
    const text = `
        import { Node } from "p2pmount";
        let started;
        process.on("exit", () => { started = performance.now(); });
        for (let left = 8; left > 0; left--) {
            const node = await Node.open({ transports: "quic" });
            await node.connect(${JSON.stringify(here.addresses)});
        }
        process.on("exit", () => console.log(Math.round(performance.now() - started)));
        process.exit();
    `;
    const { output, errors } = await runText(t, text).ended;
    assert.equal(errors, "");
    t.diagnostic(`${output.trim()} ms`);
    assert.ok(Number(output) < 800, `${output} ms`);
});
