// How a process ends while its nodes are open and busy: without a word, with the status it chose.

import assert from "node:assert/strict";
import { runText, test } from "./support.mjs";

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
