// The example programs, run as their readers run them.

import assert from "node:assert/strict";
import crypto from "node:crypto";
import fs from "node:fs";
import path from "node:path";
import { connect, echo, exchange, NOBODY, PACKAGE, ROOT, readAll, run, serve, test } from "./support.mjs";

const FOLDER = path.join(ROOT, "examples", "node");

// Where npm would put it, so that the programs find the package by its name.
const link = path.join(FOLDER, "node_modules", "p2pmount");
if (!fs.existsSync(link)) {
    fs.mkdirSync(path.dirname(link), { recursive: true });
    fs.symlinkSync(path.relative(path.dirname(link), PACKAGE), link);
}

/** Starts a program and reads its lines up to "ready"; values by their first word. */
async function start(t, name, ...args) {
    const program = run(t, [path.join(FOLDER, `${name}.mjs`), ...args], { cwd: FOLDER });
    const values = { peer: [], address: [], listen: [] };
    for (;;) {
        const line = await program.line();
        if (line === undefined) assert.fail(`${name} ended early: ${(await program.ended).errors}`);
        if (line === "ready") break;
        const [word, value] = line.split(" ");
        assert.ok(word in values, line);
        values[word].push(value);
    }
    return { ...program, ...values };
}

/** Ends a program by the line "quit", its input left open, or by the end of its input. */
async function finish({ child, ended }, how) {
    if (how === "quit") child.stdin.write("quit\n");
    else child.stdin.end();
    const { code, errors } = await ended;
    assert.deepEqual([code, errors], [0, ""]);
}

const endpoint = (address) => {
    const colon = address.lastIndexOf(":");
    return { host: address.slice(0, colon), port: Number(address.slice(colon + 1)) };
};

test("tunnel: every byte, the answer after a half-close, and both ends end when told", async (t) => {
    const { port } = await serve(t, async (socket) => {
        const content = await readAll(socket);
        socket.end(crypto.createHash("sha256").update(content).digest());
    });
    const expose = await start(
        t,
        "tunnel",
        "expose",
        "transports=tcp",
        "my-web",
        `127.0.0.1:${port}`,
        "target.timeout=5s",
    );
    assert.match(expose.peer[0], /^12D3KooW/);
    assert.ok(expose.address.length > 0 && expose.address.every((address) => address.includes("/tcp/")));
    const forward = await start(
        t,
        "tunnel",
        "forward",
        "my-web",
        "127.0.0.1:0",
        expose.address.join(","),
        "verify=true",
    );
    const content = crypto.randomBytes(1 << 20);
    const answer = await exchange(t, endpoint(forward.listen[0]), content);
    assert.deepEqual(answer, crypto.createHash("sha256").update(content).digest());
    await finish(forward, "quit");
    await finish(expose, "end");
});

test("echo: the client says and hears five messages", async (t) => {
    const server = await start(t, "echo", "server");
    const client = run(t, [path.join(FOLDER, "echo.mjs"), "client", server.address[0]], { cwd: FOLDER });
    const { code, output, errors } = await client.ended;
    const expected = [1, 2, 3, 4, 5].map((i) => `sent: Hello, world! (${i})\nreceived: Hello, world! (${i})\n`);
    assert.deepEqual([output, errors, code], [expected.join(""), "", 0]);
    await finish(server, "quit");
});

test("echo: a client whose server is not there says why and fails", async (t) => {
    const client = run(t, [path.join(FOLDER, "echo.mjs"), "client", NOBODY], { cwd: FOLDER });
    const { code, output, errors } = await client.ended;
    assert.deepEqual([code, output], [1, ""]);
    assert.match(errors, /^forward: .*\(P2P_ERROR_UNREACHABLE\)\n$/);
});

test("list: a stream appears with its origin and bytes, and is counted when it has gone", async (t) => {
    const expose = await start(t, "list", "expose", "web", `127.0.0.1:${(await serve(t, echo)).port}`);
    const forward = await start(t, "list", "forward", "web", "127.0.0.1:0", expose.address.join(","));
    /** The next table of a program as rows of cells; each ends with an empty line. */
    const table = async ({ line }) => {
        const rows = [];
        for (let text = await line(); text !== ""; text = await line()) {
            assert.notEqual(text, undefined, "the program ended");
            rows.push(text.split(/ {2,}/));
        }
        return rows;
    };
    const until = async (program, fits) => {
        for (;;) {
            const rows = await table(program);
            if (fits(rows)) return rows;
        }
    };
    const first = await table(forward);
    assert.equal(first[0].join(" "), "KIND PROTOCOL LISTEN TARGET STATE STREAMS STREAMS_TOTAL BYTES_IN BYTES_OUT");
    assert.deepEqual(first[1].slice(0, 3), ["forward", "/x/web", forward.listen[0]]);

    const socket = await connect(t, endpoint(forward.listen[0]));
    socket.write("12345");
    // Without a further event: by the clock, which runs while there are streams.
    const [heads, stream] = (await until(forward, (rows) => rows.length === 4 && rows[3].at(-1) === "5")).slice(2);
    assert.equal(heads.join(" "), "KIND ID PROTOCOL ORIGIN TARGET TRANSPORT PATH AGE_MS BYTES_IN BYTES_OUT");
    assert.deepEqual([stream[0], stream[3], stream[6]], ["stream", `127.0.0.1:${socket.localPort}`, "direct"]);
    const there = await until(expose, (rows) => rows.length === 4);
    assert.match(there[3][3], /^\/p2p\/12D3KooW/);

    socket.end();
    await until(forward, (rows) => rows.length === 2 && rows[1].slice(-3).join() === "1,5,5");
    await finish(forward, "quit");
    await finish(expose, "end");
});

test("list: prints nothing while nothing happens", async (t) => {
    const expose = await start(t, "list", "expose", "web", "8080");
    let output = "";
    expose.child.stdout.on("data", (text) => {
        output += text;
    });
    // Longer than the second after which it would print with streams.
    await new Promise((resolve) => setTimeout(resolve, 1500));
    const tables = output.split("\n\n").length;
    assert.ok(tables <= 3, output);
    await finish(expose, "quit");
});

const NO_SUCH = (what) => new RegExp(`^${what}: option .*no\\.such.*\\(P2P_ERROR_BAD_OPTION\\)\\n$`);

test("wrong usage is told on stderr with status 2, a refusal of the library with status 1", async (t) => {
    const cases = [
        ["tunnel", [], 2, /^usage: tunnel\.mjs expose/],
        ["tunnel", ["expose", "web"], 2, /^usage/],
        ["tunnel", ["forward", "web", "0", NOBODY, "verify"], 2, /^"verify" is not an option .*\nusage/],
        ["echo", ["client"], 2, /^usage: echo\.mjs server/],
        ["list", ["watch"], 2, /^usage: list\.mjs expose/],
        ["tunnel", ["expose", "no.such=1", "web", "80"], 1, NO_SUCH("node")],
        ["tunnel", ["forward", "no.such=1", "web", "0", NOBODY], 1, NO_SUCH("node")],
        ["tunnel", ["expose", "web", "80", "no.such=1"], 1, NO_SUCH("listen")],
        ["tunnel", ["forward", "web", "0", NOBODY, "no.such=1"], 1, NO_SUCH("forward")],
        ["echo", ["server", "no.such=1"], 1, NO_SUCH("node")],
        ["echo", ["client", "no.such=1", NOBODY], 1, NO_SUCH("node")],
        ["list", ["expose", "no.such=1", "web", "80"], 1, NO_SUCH("node")],
        ["list", ["expose", "web", "80", "no.such=1"], 1, NO_SUCH("listen")],
        ["tunnel", ["expose", "web", "nonsense"], 1, /^listen: .*nonsense.*\(P2P_ERROR_BAD_ADDRESS\)\n$/],
        ["list", ["forward", "web", "0", "nobody"], 1, /^forward: .*nobody.*\(P2P_ERROR_BAD_PEER\)\n$/],
    ];
    for (const [name, args, status, message] of cases) {
        // Its input stays open: it has to end by itself.
        const { code, errors } = await run(t, [path.join(FOLDER, `${name}.mjs`), ...args], { cwd: FOLDER }).ended;
        assert.match(errors, message);
        assert.equal(code, status, `${name} ${args.join(" ")}`);
    }
});
