// Which library is loaded, and what happens with one of another version.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { load } from "p2pmount";
import { PACKAGE, ROOT, run, runText, test } from "./support.mjs";

const real = fs.realpathSync(load());
const SAY = 'import { load, version } from "p2pmount"; console.log(load(), version());';

function folder(t) {
    const made = fs.realpathSync(fs.mkdtempSync(path.join(os.tmpdir(), "p2pmount-")));
    t.after(() => fs.rmSync(made, { recursive: true }));
    return made;
}

/** Compiles test/fake.c; undefined if there is no compiler, which only a developer's machine may lack. */
function fake(t, ...flags) {
    const file = path.join(folder(t), "libfake.so");
    const source = path.join(PACKAGE, "test", "fake.c");
    try {
        execFileSync("cc", ["-shared", "-fPIC", "-I", path.join(ROOT, "include"), ...flags, source, "-o", file]);
    } catch (error) {
        if (error.code !== "ENOENT" || process.env.CI === "true") throw error;
        t.skip("cc is not installed");
        return undefined;
    }
    return file;
}

/** What a program says that runs with this library and ends well. */
async function outputWith(t, file, text) {
    const { output, errors, code } = await runText(t, text, { env: { P2PMOUNT_LIBRARY: file } }).ended;
    assert.deepEqual([errors, code], ["", 0]);
    return output;
}

test("the file that P2PMOUNT_LIBRARY names is loaded, and no other", async (t) => {
    const other = path.join(folder(t), "other.so");
    fs.copyFileSync(real, other);
    const { output } = await runText(t, SAY, { env: { P2PMOUNT_LIBRARY: other } }).ended;
    assert.match(output, /other\.so \d/);
    const missing = await runText(t, SAY, { env: { P2PMOUNT_LIBRARY: "/no/such/lib.so" } }).ended;
    assert.equal(missing.code, 1);
    assert.match(missing.errors, /the p2pmount library \/no\/such\/lib\.so cannot be loaded.*P2PMOUNT_LIBRARY/);
    assert.match(missing.errors, /ERR_DLOPEN_FAILED/);
});

test("load() takes a path before anything else, once", async (t) => {
    const other = path.join(folder(t), "other.so");
    fs.copyFileSync(real, other);
    const text = `
        import { load, version } from "p2pmount";
        console.log(load(${JSON.stringify(other)}), load(), load(${JSON.stringify(other)}));
        try { load("/another.so"); } catch (error) { console.log(error.message); }
    `;
    const { output } = await runText(t, text, { env: { P2PMOUNT_LIBRARY: real } }).ended;
    assert.match(output, /(other\.so.*){3}\n.*loaded already, from .*other\.so.*another\.so/);
});

test("without it: the package's own file, then the build tree of a checkout, then the system's", async (t) => {
    const root = folder(t);
    const home = path.join(root, "bindings", "node");
    fs.mkdirSync(home, { recursive: true });
    fs.cpSync(path.join(PACKAGE, "src"), path.join(home, "src"), { recursive: true });
    fs.copyFileSync(path.join(PACKAGE, "package.json"), path.join(home, "package.json"));
    fs.symlinkSync(path.join(PACKAGE, "node_modules"), path.join(home, "node_modules"));
    const system = path.join(root, "system");
    const built = path.join(root, "target", "release");
    const inside = path.join(home, "lib", `${process.platform}-${process.arch}`);
    for (const made of [system, built, inside, path.join(root, "include")]) fs.mkdirSync(made, { recursive: true });
    const env = { P2PMOUNT_LIBRARY: "", CARGO_TARGET_DIR: "", LD_LIBRARY_PATH: system };
    const found = async () => (await runText(t, SAY, { env, cwd: home }).ended).output.split(" ")[0];

    const none = await runText(t, SAY, { env, cwd: home }).ended;
    // Unless the machine has one installed.
    if (none.code !== 0) assert.match(none.errors, /libp2pmount\.so\.0 cannot be loaded.*make lib/);
    fs.copyFileSync(real, path.join(system, "libp2pmount.so.0"));
    assert.equal(await found(), "libp2pmount.so.0");
    fs.copyFileSync(real, path.join(built, "libp2pmount.so"));
    assert.equal(await found(), "libp2pmount.so.0", "not a checkout yet");
    fs.writeFileSync(path.join(root, "include", "p2pmount.h"), "");
    assert.equal(await found(), path.join(built, "libp2pmount.so"));
    env.CARGO_TARGET_DIR = path.join(root, "elsewhere");
    assert.equal(await found(), "libp2pmount.so.0");
    fs.copyFileSync(real, path.join(inside, "libp2pmount.so"));
    assert.equal(await found(), path.join(inside, "libp2pmount.so"));
});

test("a library of another ABI version is refused, with both numbers and the file", async (t) => {
    const file = fake(t, "-DFAKE_ABI=7");
    if (file === undefined) return;
    const { code, errors } = await runText(t, SAY, { env: { P2PMOUNT_LIBRARY: file } }).ended;
    assert.equal(code, 1);
    assert.match(errors, /libfake\.so has ABI version 7, this package needs ABI version 0/);
});

test("a file that is some other library is refused", async (t) => {
    const file = fake(t, "-Dp2p_abi_version=other");
    if (file === undefined) return;
    const { errors } = await runText(t, SAY, { env: { P2PMOUNT_LIBRARY: file } }).ended;
    assert.match(errors, /libfake\.so is not a p2pmount library of this ABI version: it has no p2p_abi_version/);
});

test("fields, kinds of events and statuses of a newer library come through, and large numbers are numbers", async (t) => {
    const file = fake(t);
    if (file === undefined) return;
    const text = `
        import { list, Node, P2pError } from "p2pmount";
        const node = await Node.open();
        console.log(JSON.stringify(list("options")));
        try {
            node.closeStream(7);
        } catch ({ message, code, status, systemError, temporary, timedOut }) {
            console.log(JSON.stringify([message, code, status, systemError, temporary, timedOut]));
        }
        node.on("event", (event) => {
            console.log(JSON.stringify(event.kind));
            if (event.event === 1 << 20) setImmediate(() => process.exit(0));
        });
        setInterval(() => {}, 1000);
    `;
    const output = await outputWith(t, file, text);
    const [rows, error, ...kinds] = output
        .trim()
        .split("\n")
        .map((line) => JSON.parse(line));
    assert.deepEqual(rows, [
        {
            kind: "brand new",
            bytesIn: 3 * 2 ** 40,
            brandNewText: "grüß",
            brandNewNumber: 2 ** 63,
            below: -1,
            exact: 2 ** 53,
            event: 1 << 20,
            operation: 48,
        },
    ]);
    assert.deepEqual(error, ["stream 7 is a brücke", "P2P_ERROR_BRAND_NEW", 99, 5, true, false]);
    // Of a kind called "error", to which nobody listens by that name: it must not end the process.
    assert.deepEqual(kinds, ["error", "error"]);
});

test("close keeps the process running until the queues have ended, which may be a moment after the operation", async (t) => {
    const file = fake(t);
    if (file === undefined) return;
    const text = `
        import { Node } from "p2pmount";
        const node = await Node.open();
        await node.unref().close();
        console.log("closed");
    `;
    assert.equal(await outputWith(t, file, text), "closed\n");
});

test("events keep the process running until their queue has ended, which may be a moment after the node's last", async (t) => {
    const file = fake(t);
    if (file === undefined) return;
    const text = `
        import { Node } from "p2pmount";
        const node = await Node.open();
        const events = node.events();
        await events.next();
        await events.next();
        const last = events.next();
        node.close();
        console.log(await last);
    `;
    assert.equal(await outputWith(t, file, text), "{ value: undefined, done: true }\n");
});

test("importing the package loads nothing yet", async (t) => {
    const text = 'import { constants } from "p2pmount"; console.log(constants.P2P_ERROR_LIMIT);';
    const { output } = await runText(t, text, { env: { P2PMOUNT_LIBRARY: "/no/such/lib.so" } }).ended;
    assert.equal(output, "17\n");
});

test("import and require give the same classes", async (t) => {
    const text = `
        import { createRequire } from "node:module";
        import * as imported from "p2pmount";
        const required = createRequire(import.meta.url)("p2pmount");
        console.log(Object.keys(required).every((name) => required[name] === imported[name]));
        console.log(Object.keys(imported).sort().join() === Object.keys(required).sort().join());
    `;
    const { output } = await runText(t, text).ended;
    assert.equal(output, "true\ntrue\n");
    const cjs = 'const { Node, load } = require("p2pmount"); console.log(typeof Node.open, load().length > 0);';
    assert.equal((await run(t, ["--input-type=commonjs", "--eval", cjs]).ended).output, "function true\n");
});
