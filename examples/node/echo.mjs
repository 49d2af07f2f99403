// An echo service that is reached by peer id, and a client of it.
//
//     node echo.mjs server [name=value ...]
//     node echo.mjs client [name=value ...] PEER
//
// The server prints its addresses; the client takes one or several of them, comma separated. Both ends are ordinary
// programs of node:net, which know nothing of p2pmount: the server listens on a port of this machine, the client connects
// to one.

import { once } from "node:events";
import net from "node:net";
import { Node } from "p2pmount";
import { attempt, printNode, runMain, takeOptions, takeWords, UsageError, untilQuit } from "./common.mjs";

const PROTOCOL = "echo-protocol";
const USAGE = `usage: echo.mjs server [name=value ...]
       echo.mjs client [name=value ...] PEER`;

async function server(args) {
    const options = takeOptions(args);
    if (args.length > 0) throw new UsageError();

    // With allowHalfOpen a client that has said everything still gets the rest of its echo; pipe() ends after it.
    const service = net.createServer({ allowHalfOpen: true }, (socket) => {
        socket.on("error", () => {}); // A client that vanishes ends its own connection, not the server.
        socket.pipe(socket);
    });
    service.listen(0, "127.0.0.1");
    await once(service, "listening");

    try {
        const node = await attempt("node", () => Node.open(options));
        const listener = await attempt("listen", () => node.listen(PROTOCOL, service.address()));
        printNode(node);
        await untilQuit();
        listener.close();
        await node.close({ drain: 2000 });
    } finally {
        service.close();
    }
}

async function client(args) {
    const options = takeOptions(args);
    const [peer] = takeWords(args, 1);
    if (args.length > 0) throw new UsageError();

    const node = await attempt("node", () => Node.open(options));
    try {
        // verify=true reaches out at once, so that a wrong address or a missing service has a name. Port 0 is a free one.
        const forward = await attempt("forward", () => node.forward(PROTOCOL, 0, peer, { verify: true }));
        const socket = net.connect(forward.endpoint);
        await once(socket, "connect");
        for (let i = 1; i <= 5; i++) {
            const message = `Hello, world! (${i})`;
            socket.write(message);
            console.log(`sent: ${message}`);
            console.log(`received: ${await receive(socket, Buffer.byteLength(message))}`);
        }
        socket.end();
        forward.close();
    } finally {
        await node.close({ drain: 2000 });
    }
}

/** Reads exactly `length` bytes: TCP keeps no borders between messages. */
async function receive(socket, length) {
    for (;;) {
        const content = socket.read(length);
        if (content?.length === length) return content.toString();
        if (socket.readableEnded || socket.destroyed)
            throw new Error("the connection ended before the whole echo came");
        await once(socket, "readable"); // Rejects when the connection is reset.
    }
}

await runMain(USAGE, async (args) => {
    const [command] = takeWords(args, 1);
    if (command === "server") await server(args);
    else if (command === "client") await client(args);
    else throw new UsageError();
});
