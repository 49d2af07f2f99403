// The types of rows and events, written by hand, held against rows of a library that is running.

import assert from "node:assert/strict";
import fs from "node:fs";
import net from "node:net";
import path from "node:path";
import koffi from "koffi";
import { get, list, Node, set } from "p2pmount";
import ts from "typescript";
import { connect, echo, next, PACKAGE, serve, test } from "./support.mjs";

const TYPES = path.join(PACKAGE, "src", "index.d.cts");
const source = ts.createSourceFile(TYPES, fs.readFileSync(TYPES, "utf8"), ts.ScriptTarget.ES2022);
const interfaces = new Map(source.statements.filter(ts.isInterfaceDeclaration).map((node) => [node.name.text, node]));

/** The members of an interface by their names, inherited ones included: their type, and whether they may be missing. */
function membersOf(name) {
    const declared = interfaces.get(name);
    assert.ok(declared, `there is no interface ${name}`);
    const bases = (declared.heritageClauses ?? []).flatMap((clause) => clause.types);
    const members = bases.flatMap((base) => [...membersOf(base.expression.getText(source))]);
    for (const member of declared.members.filter(ts.isPropertySignature)) {
        const type = member.type.getText(source);
        const isNumber = type === "number";
        members.push([
            member.name.text,
            { type: isNumber ? "number" : "string", text: type, optional: !!member.questionToken },
        ]);
    }
    return new Map(members);
}

/** The interface of each name in `Lists` and `Events`. */
const named = (name) => [...membersOf(name)].map(([key, { text }]) => [key, text]);

/** The limit of this process, which is that of its machine, made one that a reserve can be as large as. */
function limitDescriptors(most) {
    const RLIMIT_NOFILE = 7;
    const libc = koffi.load("libc.so.6");
    const limits = new BigUint64Array(2);
    assert.equal(libc.func("int getrlimit(int resource, void *limits)")(RLIMIT_NOFILE, limits), 0);
    if (limits[0] > BigInt(most)) limits[0] = BigInt(most);
    assert.equal(libc.func("int setrlimit(int resource, void *limits)")(RLIMIT_NOFILE, limits), 0);
}

/** Rows of everything there is, by the name of their interface. */
async function liveRows(t) {
    const rows = [];
    const open = async (options) => {
        const node = await Node.open(options);
        t.after(() => node.close());
        node.on("event", (row) => rows.push(row));
        return node;
    };
    const server = await open();
    const client = await open();
    const events = client.events({ kinds: "streamOpened", "queue.capacity": 1 });
    const overflowing = client.events({ kinds: ["streamOpened", "streamClosed"], "queue.capacity": 1 });
    server.listen("test", await serve(t, echo));
    server.listen("down", { path: `/tmp/p2pmount-no-such-${process.pid}` });
    const forward = await client.forward("test", 0, server.addresses);
    const socket = await connect(t, forward.endpoint);
    await next(events);
    await new Promise((resolve) => socket.once("data", resolve) && socket.write("hello"));
    for (const node of [client, server]) {
        rows.push(...node.list("listeners", "forwards", "streams", "peers", "addresses", "node"));
    }
    // What the other side refuses, for its target and for its protocol.
    for (const name of ["down", "none"]) {
        const refused = await client.forward(name, 0, server.addresses);
        await new Promise((resolve) =>
            net
                .connect(refused.endpoint)
                .on("error", () => {})
                .once("close", resolve),
        );
    }
    // What a node refuses by its own limits: a connection, and a client for want of descriptors.
    const full = await open({ "connections.max": 1 });
    const refusing = full.events({ kinds: "refused" });
    await client.connect(full.addresses);
    const turnedAway = server.connect(full.addresses, { timeout: 10000 }).catch(() => {});
    await next(refusing);
    const pausing = client.events({ kinds: "refused" });
    const reserve = get("descriptors.reserve").value;
    limitDescriptors(10000);
    set("descriptors.reserve", 10000);
    // A few are left all the same.
    const waiting = Array.from({ length: 20 }, () => net.connect(forward.endpoint).on("error", () => {}));
    await next(pausing);
    set("descriptors.reserve", reserve);
    for (const each of waiting) each.destroy();
    await turnedAway;
    socket.destroy();
    await client.close();
    await full.close();
    await server.close();
    rows.push(await next(overflowing));
    rows.push(...list("options", "process"));
    return { rows, settings: [get("log.level")] };
}

test("every field of a live row is declared with its type, and none is declared that no row has", async (t) => {
    const { rows, settings } = await liveRows(t);
    const camelCase = (text) => text.replace(/ (.)/g, (_, letter) => letter.toUpperCase());
    const kinds = [];
    for (const [name, type] of named("Events")) {
        kinds.push([type, rows.filter((row) => row.event !== undefined && camelCase(row.kind) === name)]);
    }
    for (const [, type] of named("Lists")) {
        const kind = /"(.*)"/.exec(membersOf(type).get("kind").text)[1];
        kinds.push([type, rows.filter((row) => row.event === undefined && row.kind === kind)]);
    }
    kinds.push(["Setting", settings]);
    for (const [type, found] of kinds) {
        assert.ok(found.length > 0, `no row for ${type}`);
        const members = membersOf(type);
        const seen = new Set();
        for (const row of found) {
            for (const [field, value] of Object.entries(row)) {
                assert.ok(members.has(field), `${type} has no ${field}`);
                assert.equal(typeof value, members.get(field).type, `${type}.${field}`);
                seen.add(field);
            }
            for (const [field, { optional }] of members) {
                assert.ok(optional || field in row, `${type}.${field} is not in ${JSON.stringify(row)}`);
            }
        }
        for (const field of members.keys()) assert.ok(seen.has(field), `no ${type} had ${field}`);
    }
});
