// Every block of JavaScript in the manual and in the README is run, with what the text around it takes for granted.

import assert from "node:assert/strict";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { PACKAGE, ROOT, runText, test } from "./support.mjs";

/** What a block may use without making it. */
const GIVEN = {
    server: 'const server = await Opened.open(); server.listen("web", 8080);',
    client: "const client = await Opened.open();",
    // Somebody connects when the block waits.
    node: `const [node, other] = [await Opened.open(), await Opened.open()];
        setImmediate(() => other.connect(node.addresses));`,
};

const blocks = (file) => [...fs.readFileSync(file, "utf8").matchAll(/```js\n(.*?)```/gs)].map(([, text]) => text);

const pages = { "docs/node.md": path.join(ROOT, "docs", "node.md"), "README.md": path.join(PACKAGE, "README.md") };
for (const [page, file] of Object.entries(pages)) {
    // The complete program, which takes arguments, is run by package.test.mjs.
    const fragments = blocks(file).filter((text) => !text.includes("process.argv"));
    assert.ok(fragments.length > 0);
    for (const [index, fragment] of fragments.entries()) {
        const [first] = fragment.split("\n").filter((line) => line !== "" && !line.startsWith("import"));
        test(`${page}, block ${index + 1} runs: ${first}`, async (t) => {
            const folder = fs.mkdtempSync(path.join(os.tmpdir(), "p2pmount-"));
            t.after(() => fs.rmSync(folder, { recursive: true }));
            const given = Object.keys(GIVEN).filter(
                (name) => new RegExp(`\\b${name}\\.`).test(fragment) && !fragment.includes(`const ${name} =`),
            );
            const lines = ['import { Node as Opened } from "p2pmount";', ...given.map((name) => GIVEN[name])];
            // What every block may leave out; imports are hoisted wherever they stand.
            if (!/import .*\bNode\b/.test(fragment)) lines.push("const Node = Opened;");
            // The ports and places of the manual are its reader's.
            lines.push(fragment.replaceAll("/var/lib/me", folder).replace(/\b9090\b(?=,)/g, "0"));
            const { code, errors } = await runText(t, [...lines, "process.exit();"].join("\n")).ended;
            assert.equal(errors, "");
            assert.equal(code, 0);
        });
    }
}
