// A node, its mounts and lists.

import assert from "node:assert/strict";
import crypto from "node:crypto";
import { once } from "node:events";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { inspect } from "node:util";
import { constants, exportKey, get, list, Mount, Node, P2pError, set, statusName, version } from "p2pmount";
import { connect, echo, exchange, NOBODY, next, openNode, readAll, serve, test, tunnel } from "./support.mjs";

function temporary(t) {
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), "p2pmount-"));
    t.after(() => fs.rmSync(folder, { recursive: true }));
    return folder;
}

for (const transport of ["tcp", "quic"]) {
    test(`a tunnel over ${transport} carries every byte both ways, and the answer after a half-close`, async (t) => {
        const digest = async (socket) => {
            const content = await readAll(socket);
            socket.end(Buffer.concat([crypto.createHash("sha256").update(content).digest(), content]));
        };
        const { client, forward } = await tunnel(t, digest, { options: { transports: transport } });
        const content = crypto.randomBytes(3 << 20);
        const answer = await exchange(t, forward.endpoint, content);
        assert.deepEqual(answer.subarray(0, 32), crypto.createHash("sha256").update(content).digest());
        assert.ok(answer.subarray(32).equals(content));
        assert.equal(client.list("peers")[0].transport, transport);
    });
}

test("a reset of the service arrives as a reset", async (t) => {
    const { forward } = await tunnel(t, (socket) => socket.once("data", () => socket.resetAndDestroy()));
    const socket = await connect(t, forward.endpoint);
    socket.write("go");
    const [error] = await once(socket, "error");
    assert.equal(error.code, "ECONNRESET");
});

test("every form of an address works for listeners and forwards", async (t) => {
    const folder = temporary(t);
    const server = await openNode(t);
    const client = await openNode(t);
    const port = (await serve(t, echo)).port;
    const sixth = (await serve(t, echo, { host: "::1", port: 0 })).port;
    const file = path.join(folder, "service");
    const own = await serve(t, echo, { path: file });
    const targets = [
        port,
        String(port),
        `127.0.0.1:${port}`,
        `/ip4/127.0.0.1/tcp/${port}`,
        { port },
        { port: String(port) },
        { host: "127.0.0.1", port },
        { host: "localhost", port },
        { host: "::1", port: sixth },
        { host: "[::1]", port: sixth },
        { address: "::1", family: "IPv6", port: sixth },
        { path: own },
        `unix:${file}`,
    ];
    const listens = [0, "0", "127.0.0.1:0", { port: 0 }, { host: "::1", port: 0 }, { path: path.join(folder, "l") }];
    for (const [index, target] of targets.entries()) {
        server.listen(`service-${index}`, target);
        const forward = await client.forward(`service-${index}`, listens[index % listens.length], server.addresses);
        const answer = await exchange(t, forward.endpoint, "hello");
        assert.equal(String(answer), "hello", `target ${inspect(target)} at ${forward.address}`);
        forward.close();
    }
});

test("a mount tells its number, kind, protocol and real address, and cannot be changed", async (t) => {
    const { client, server, listener, forward } = await tunnel(t);
    assert.ok(forward instanceof Mount);
    assert.equal(forward.kind, "forward");
    assert.equal(forward.protocol, "/x/test");
    assert.equal(forward.address, `127.0.0.1:${forward.endpoint.port}`);
    assert.ok(forward.endpoint.port > 0);
    assert.equal(listener.kind, "listener");
    assert.deepEqual(client.list("forwards")[0].id, forward.id);
    assert.deepEqual(forward.list(), client.list("forwards"));
    assert.deepEqual(listener.list(), server.list("listeners"));
    assert.throws(() => {
        forward.address = "";
    }, TypeError);
});

test("a peer may be one string, several with commas, or an array", async (t) => {
    const server = await openNode(t);
    const client = await openNode(t);
    assert.match(server.peerId, /^12D3KooW/);
    for (const address of server.addresses) assert.ok(address.endsWith(`/p2p/${server.peerId}`), address);
    await client.connect(server.addresses[0]);
    await client.connect(server.addresses.join(","));
    await client.connect(server.addresses);
    await client.connect(server.peerId);
    assert.equal(client.list("peers")[0].peer, server.peerId);
    const silent = await openNode(t, { "listen.addresses": [] });
    assert.deepEqual(silent.addresses, []);
});

test("options are plain values: booleans, numbers, text, lists; one that is undefined is left out", async (t) => {
    const node = await openNode(t, {
        transports: ["tcp"],
        "protocol.custom": true,
        "open.timeout": 1500,
        "connection.idle_timeout": "2m",
        "streams.max": 10n,
        "identity.file": undefined,
    });
    const value = (name) => node.get(name).value;
    assert.equal(value("transports"), "tcp");
    assert.equal(value("protocol.custom"), "true");
    assert.equal(value("open.timeout"), "1500");
    assert.equal(value("streams.max"), "10");
    assert.deepEqual(node.get("open.timeout"), {
        kind: "option",
        name: "open.timeout",
        value: "1500",
        source: "options",
    });
    assert.equal(node.get("identity.file").source, "default");
    const listener = node.listen("/custom/1.0", 8080, { "peers.allow": [] });
    assert.equal(listener.get("peers.allow").value, "");
    listener.set("peers.allow", [node.peerId]);
    assert.equal(listener.get("peers.allow").value, node.peerId);
    node.set("open.timeout", "3s");
    assert.equal(node.get("open.timeout").source, "set");
});

test("every option of the library's own table is taken by name", async (t) => {
    const values = { "log.level": "off", network: "local", "listen.addresses": "", "identity.file": "" };
    const rows = list("options").filter((row) => row.scope.split(", ").includes("node"));
    assert.ok(rows.length > 15);
    const options = Object.fromEntries(rows.map((row) => [row.name, values[row.name] ?? row.default]));
    const node = await openNode(t, options);
    for (const name of Object.keys(options)) assert.equal(node.get(name).source, "options", name);
});

test("what the library refuses is a P2pError with code, status and its sentence", async (t) => {
    const node = await openNode(t);
    node.listen("web", 8080);
    const refused = (call, code, message) =>
        assert.rejects(
            async () => call(),
            (error) => {
                assert.ok(error instanceof P2pError && error instanceof Error, String(error));
                assert.equal(error.code, code);
                assert.equal(error.status, constants[code]);
                assert.equal(error.name, "P2pError");
                assert.match(error.message, message);
                assert.match(error.stack, /node\.test\.mjs/);
                return true;
            },
        );
    await refused(() => node.listen("web", 8081), "P2P_ERROR_ALREADY_REGISTERED", /web/);
    await refused(() => node.listen("", 8081), "P2P_ERROR_BAD_PROTOCOL", /protocol/);
    await refused(() => node.listen("a", "nonsense"), "P2P_ERROR_BAD_ADDRESS", /nonsense/);
    await refused(() => node.listen("a", 0), "P2P_ERROR_BAD_ADDRESS", /0/);
    await refused(() => node.listen("a", 1, { verify: true }), "P2P_ERROR_BAD_OPTION", /verify/);
    await refused(() => node.listen("a", 1, { "no.such": 1 }), "P2P_ERROR_BAD_OPTION", /no\.such/);
    await refused(() => Node.open({ transports: ["smoke"] }), "P2P_ERROR_BAD_OPTION", /smoke/);
    await refused(() => node.connect(node.peerId), "P2P_ERROR_BAD_PEER", /itself/);
    await refused(() => node.closeMounts({}), "P2P_ERROR_INVALID_ARGUMENT", /P2P_CLOSE_ALL|filter/);
    await refused(() => node.closeStream(7), "P2P_ERROR_NOT_FOUND", /7/);
    await refused(() => node.list(1 << 20), "P2P_ERROR_INVALID_ARGUMENT", /what/);
    await refused(() => list("streams"), "P2P_ERROR_BAD_HANDLE", /handle/);
    const port = (await serve(t, echo)).port;
    await refused(() => node.forward("a", port, NOBODY), "P2P_ERROR_ADDRESS_IN_USE", new RegExp(String(port)));
});

test("system errors carry errno", async (t) => {
    const node = await openNode(t);
    const folder = path.join(temporary(t), "missing", "socket");
    await assert.rejects(node.forward("a", { path: folder }, NOBODY), (error) => {
        assert.equal(error.systemError, os.constants.errno.ENOENT);
        return true;
    });
});

test("what cannot be right is a TypeError that names the culprit and says what would be", async (t) => {
    const node = await openNode(t);
    const cases = [
        [() => node.listen(5, 8080), /^protocol is 5; it must be a string$/],
        [() => node.listen("a\0b", 8080), /^protocol is 'a\\x00b'; .*NUL/],
        [() => node.listen("\ud800", 8080), /^protocol is .*well-formed/],
        [() => node.listen("a", 70000), /^target is 70000; .*65535/],
        [() => node.listen("a", 1.5), /^target is 1.5/],
        [() => node.listen("a", null), /^target is null; .*port number/],
        [() => node.listen("a", { host: "::1" }), /^target is \{ host: '::1' \}/],
        [() => node.listen("a", { host: "", port: 1 }), /^target\.host is ''/],
        [() => node.listen("a", { port: 1, path: "b" }), /^target is/],
        [() => node.listen("a", 1, "b"), /^options is 'b'/],
        [() => node.listen("a", 1, { "target.timeout": null }), /^option target\.timeout is null; .*number/],
        [() => node.listen("a", 1, { "target.timeout": Number.NaN }), /^option target\.timeout is NaN/],
        [() => node.listen("a", 1, { "peers.allow": ["b", {}] }), /^option peers\.allow\[1\] is \{\}/],
        [() => node.forward("a", 0, 5), /^peer is 5; .*multiaddr/],
        [() => node.forward("a", 0, []), /^peer is \[\]/],
        [() => node.forward("a", 0, ["b", 5]), /^peer\[1\] is 5/],
        [() => node.forward("a", 0, "b", { signal: 5 }), /^signal is 5; .*AbortSignal/],
        [() => node.connect("a", { timeout: -1 }), /^timeout is -1; .*Infinity/],
        [() => node.connect("a", { timeout: "5s" }), /^timeout is '5s'/],
        [() => node.connect("a", { timeuot: 5 }), /^option is 'timeuot'; .*"timeout"/],
        [() => node.close({ drain: 2 ** 31 }), /^drain is 2147483648/],
        [() => node.closeMounts({ protocl: "a" }), /^option is 'protocl'/],
        [() => node.closeStream("7"), /^stream id is '7'/],
        [() => node.list("mounts"), /^what to list is 'mounts'; .*"listeners", "forwards"/],
        [() => node.events({ kinds: "stream" }), /^kind of event is 'stream'; .*"streamOpened"/],
        [() => node.events({ kinds: [] }), /^kinds is \[\]/],
        [() => node.set("open.timeout", {}), /^option open\.timeout is \{\}/],
        [() => new Node(), /Node\.open/],
    ];
    for (const [call, message] of cases) {
        await assert.rejects(
            async () => call(),
            (error) => error instanceof TypeError && message.test(error.message),
            String(call),
        );
    }
    assert.deepEqual(node.list(), []);
    assert.equal(node.closed, false);
});

test("lists are plain objects with numbers and text, under their names in camel case", async (t) => {
    const { client, server, forward } = await tunnel(t);
    const events = client.events({ kinds: "streamOpened" });
    const socket = await connect(t, forward.endpoint);
    socket.write("12345");
    await once(socket, "data");
    const opened = await next(events);
    // A byte is counted when it was delivered, which may be a moment after it was seen.
    while (client.list("streams")[0].bytesIn < 5) await new Promise(setImmediate);
    const [row] = client.list("streams");
    assert.equal(Object.getPrototypeOf(row), Object.prototype);
    assert.equal(row.id, opened.stream);
    assert.deepEqual([row.kind, row.side, row.bytesOut, row.bytesIn], ["stream", "forward", 5, 5]);
    assert.equal(row.origin, `127.0.0.1:${socket.localPort}`);
    assert.deepEqual(forward.list("streams").length, 1);
    assert.equal(server.list("streams")[0].origin, `/p2p/${client.peerId}`);
    assert.deepEqual(
        client.list("streams", "forwards", "node").map((found) => found.kind),
        ["node", "forward", "stream"],
    );
    assert.deepEqual(client.list(constants.P2P_LIST_NODE)[0].peer, client.peerId);
    assert.equal(list("process")[0].version, version());
    for (const value of Object.values(server.list("peers")[0])) assert.match(typeof value, /^(string|number)$/);
});

test("a stream can be reset by its number", async (t) => {
    const { client, forward } = await tunnel(t);
    const events = client.events({ kinds: "streamOpened" });
    const socket = await connect(t, forward.endpoint);
    client.closeStream((await next(events)).stream);
    const [error] = await once(socket, "error");
    assert.equal(error.code, "ECONNRESET");
});

test("closing a mount frees its port at once; its streams run on unless they are closed, too", async (t) => {
    const { client, server, forward } = await tunnel(t);
    const socket = await connect(t, forward.endpoint);
    socket.write("one");
    await once(socket, "data");
    forward.close();
    await serve(t, echo, forward.endpoint);
    socket.write("two");
    assert.equal(String((await once(socket, "data"))[0]), "two");
    forward.close();

    const second = await client.forward("test", 0, server.addresses);
    const cut = await connect(t, second.endpoint);
    cut.write("one");
    await once(cut, "data");
    second.close({ streams: true });
    assert.equal((await once(cut, "error"))[0].code, "ECONNRESET");
    assert.deepEqual(client.list(), []);
});

test("mounts are closed by filters, and counted", async (t) => {
    const server = await openNode(t);
    const client = await openNode(t);
    for (const name of ["a", "b", "c"]) server.listen(name, 8080);
    const forward = await client.forward("a", 0, server.addresses);
    await client.forward("a", 0, server.addresses);
    await client.forward("b", 0, server.addresses);
    assert.equal(server.closeMounts({ protocol: "none" }), 0);
    assert.equal(server.closeMounts({ protocol: "/x/a" }), 1);
    assert.equal(server.closeMounts({ target: { host: "127.0.0.1", port: 8080 }, forwards: true }), 0);
    assert.equal(server.closeMounts({ target: 8080 }), 2);
    assert.equal(client.closeMounts({ listen: forward.endpoint }), 1);
    assert.equal(client.closeMounts({ target: `/p2p/${server.peerId}`, protocol: "b" }), 1);
    assert.equal(client.closeMounts({ all: true }), 1);
});

test("an identity file keeps the peer id", async (t) => {
    const options = { "identity.file": path.join(temporary(t), "key") };
    const first = await Node.open(options);
    await first.close();
    const second = await openNode(t, options);
    assert.equal(second.peerId, first.peerId);
});

test("an exported key is the same in each form", async (t) => {
    const folder = temporary(t);
    const key = path.join(folder, "key");
    const { peerId } = await openNode(t, { "identity.file": key });
    for (const format of ["libp2p-protobuf-cleartext", "pem-pkcs8-cleartext", "base64"]) {
        const file = path.join(folder, format);
        exportKey(key, format, file);
        assert.equal(fs.statSync(file).mode & 0o777, 0o600);
        assert.equal((await openNode(t, { "identity.file": file })).peerId, peerId);
    }
    assert.throws(() => exportKey(key, "base64", key), { code: "P2P_ERROR_BAD_KEY", message: /exists already/ });
    assert.throws(() => exportKey(key, "jwk", path.join(folder, "new")), { code: "P2P_ERROR_INVALID_ARGUMENT" });
    assert.throws(() => exportKey(key, "base64"), { name: "TypeError", message: /^destination/ });
});

test("close waits for streams, frees ports, may be called again, and what comes after says that it is closed", async (t) => {
    const { server, client, forward } = await tunnel(t);
    const answer = exchange(t, forward.endpoint, Buffer.alloc(1 << 20, "a"));
    await next(client.events({ kinds: "streamOpened" }));
    const closing = client.close({ drain: 10000 });
    assert.equal(client.closed, true);
    assert.equal((await answer).length, 1 << 20);
    await Promise.all([closing, client.close()]);
    await client.close();
    await serve(t, echo, forward.endpoint);
    assert.throws(() => client.list(), { code: "P2P_ERROR_BAD_HANDLE" });
    await assert.rejects(client.connect(server.addresses), { code: "P2P_ERROR_BAD_HANDLE" });
    forward.close();
    assert.match(client.peerId, /^12D3/);
    assert.equal(inspect(client), `Node { peerId: '${client.peerId}', closed: true }`);
});

test("a node and a mount can be disposed of", async (t) => {
    const node = await Node.open();
    const forward = node.listen("web", 8080);
    assert.equal(typeof Symbol.asyncDispose, "symbol");
    forward[Symbol.dispose]();
    assert.deepEqual(node.list(), []);
    await node[Symbol.asyncDispose]();
    assert.equal(node.closed, true);
    t.diagnostic(`Node ${process.version}`);
});

test("the process has its own lists and options", () => {
    assert.match(version(), /^\d+\.\d+\.\d+$/);
    assert.equal(statusName(17), "P2P_ERROR_LIMIT");
    assert.equal(statusName(9999), "P2P_ERROR_?");
    set("descriptors.reserve", 65);
    assert.deepEqual(get("descriptors.reserve").value, "65");
    const { doc, type, live } = list("options").find((row) => row.name === "verify");
    assert.deepEqual([typeof doc, type, live], ["string", "bool", 0]);
});

test("the log goes to the descriptor that is given", async (t) => {
    const file = path.join(temporary(t), "log");
    const handle = await fs.promises.open(file, "w");
    t.after(async () => {
        set("log.level", "off");
        set("log.fd", -1);
        await handle.close();
    });
    set("log.fd", handle.fd);
    set("log.level", "info");
    const node = await Node.open();
    await node.close();
    assert.match(fs.readFileSync(file, "utf8"), new RegExp(node.peerId));
});

test("nothing is left behind: handles and nodes are as many as before", async (t) => {
    const count = () => {
        const { handles, nodes, descriptors } = list("process")[0];
        return { handles, nodes, descriptors };
    };
    const before = count();
    const server = await Node.open({ transports: "tcp" });
    const client = await Node.open({ transports: "tcp" });
    const port = (await serve(t, echo)).port;
    server.listen("test", port);
    const heard = once(client, "streamClosed");
    const events = client.events();
    const forward = await client.forward("test", 0, server.addresses, { verify: true });
    await exchange(t, forward.endpoint, "hello");
    await heard;
    await next(events);
    await events.return();
    await assert.rejects(client.forward("none", 0, server.addresses, { verify: true }));
    client.list("streams", "node");
    client.get("reconnect");
    await Promise.all([client.close({ drain: 5000 }), server.close({ drain: 5000 })]);
    assert.deepEqual(count(), before);
});
