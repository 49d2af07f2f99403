// The package as its users get it: packed, installed into an empty folder, and run from there.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { promisify } from "node:util";
import { load } from "p2pmount";
import { bounded, echo, exchange, PACKAGE, ROOT, run, serve, test } from "./support.mjs";

const execute = promisify(execFile);
const npm = (cwd, ...args) => {
    const env = { ...process.env, P2PMOUNT_LIBRARY: path.resolve(load()), NODE_OPTIONS: bounded(45).join("=") };
    return execute("npm", args, { cwd, env });
};

/** A checkout with no more than the package needs: packing puts files into it, which would be found by other tests. */
function checkout(folder) {
    const home = path.join(folder, "checkout", "bindings", "node");
    for (const name of ["src", "scripts", "package.json", "README.md"]) {
        fs.cpSync(path.join(PACKAGE, name), path.join(home, name), { recursive: true });
    }
    for (const name of ["LICENSE-MIT", "LICENSE-APACHE"]) {
        fs.copyFileSync(path.join(ROOT, name), path.join(folder, "checkout", name));
    }
    return home;
}

/** The complete program of docs/node.md, which the README's readers run first. */
const page = fs.readFileSync(path.join(ROOT, "docs", "node.md"), "utf8");
const [program] = [...page.matchAll(/```js\n(.*?)```/gs)].map(([, text]) => text);

/** The same for require(): only the first and the last lines differ. */
function asCommonJs(text) {
    const body = text
        .replace(/^import (.*) from ("node:.*"|"p2pmount");$/gm, "const $1 = require($2);")
        .replace(/\{ (\w+) as (\w+) \}/g, "{ $1: $2 }");
    return `(async () => {\n${body}\n})();\n`;
}

test("packed and installed in an empty folder it runs, by import and by require, without a path to the library", async (t) => {
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), "p2pmount-"));
    t.after(() => fs.rmSync(folder, { recursive: true }));
    const source = checkout(folder);
    const packed = await npm(source, "pack", "--json", "--pack-destination", folder);
    const [{ filename, files }] = [JSON.parse(packed.stdout)].flat();
    const paths = files.map((file) => file.path);
    for (const wanted of [
        "src/index.mjs",
        "src/index.cjs",
        "src/index.d.mts",
        "src/index.d.cts",
        "LICENSE-MIT",
        "README.md",
    ]) {
        assert.ok(paths.includes(wanted), `${wanted} is not in the package`);
    }
    assert.ok(paths.includes(`lib/${process.platform}-${process.arch}/libp2pmount.so`));
    assert.deepEqual(
        paths.filter((file) => /test|scripts|lock|biome|tsconfig/.test(file)),
        [],
    );
    // Nothing of it stays in the checkout, where it would be found before the build tree.
    assert.deepEqual(fs.readdirSync(source).sort(), ["README.md", "package.json", "scripts", "src"]);

    const home = path.join(folder, "home");
    fs.mkdirSync(home);
    fs.writeFileSync(path.join(home, "package.json"), "{}");
    await npm(home, "install", "--no-audit", "--no-fund", "--ignore-scripts", path.join(folder, filename));
    fs.writeFileSync(path.join(home, "mount.mjs"), program);
    fs.writeFileSync(path.join(home, "mount.cjs"), asCommonJs(program));
    fs.writeFileSync(path.join(home, "where.cjs"), 'console.log(require("p2pmount").load());');

    const env = { P2PMOUNT_LIBRARY: "", CARGO_TARGET_DIR: "" };
    const where = (await run(t, ["where.cjs"], { cwd: home, env }).ended).output.trim();
    assert.equal(
        where,
        path.join(
            fs.realpathSync(home),
            "node_modules",
            "p2pmount",
            path.relative(".", `lib/${process.platform}-${process.arch}/libp2pmount.so`),
        ),
    );
    const { port } = await serve(t, echo);
    for (const name of ["mount.mjs", "mount.cjs"]) {
        const expose = run(t, [name, String(port)], { cwd: home, env });
        const addresses = await expose.line();
        assert.match(addresses ?? (await expose.ended).errors, /\/p2p\/12D3KooW/);
        const forward = run(t, [name, "0", addresses], { cwd: home, env });
        const address = await forward.line();
        assert.match(address ?? (await forward.ended).errors, /^127\.0\.0\.1:\d+$/);
        const answer = await exchange(t, { host: "127.0.0.1", port: Number(address.split(":")[1]) }, "hello");
        assert.equal(String(answer), "hello");
        for (const { child, ended } of [forward, expose]) {
            child.stdin.end("\n");
            const { code, errors } = await ended;
            assert.deepEqual([code, errors], [0, ""]);
        }
    }
});
