"use strict";
// Puts into the package what lies elsewhere in the checkout, before npm packs it, and takes it out again after that:
//
//     node scripts/pack.cjs add       the library, from P2PMOUNT_LIBRARY or the build tree, and the licences
//     node scripts/pack.cjs remove

const fs = require("node:fs");
const path = require("node:path");

const home = path.join(__dirname, "..");
const root = path.join(home, "..", "..");
const folder = path.join(home, "lib", `${process.platform}-${process.arch}`);
const licences = ["LICENSE-MIT", "LICENSE-APACHE"];

function add() {
    const target = path.resolve(root, process.env.CARGO_TARGET_DIR || "target");
    const library = process.env.P2PMOUNT_LIBRARY || path.join(target, "release", "libp2pmount.so");
    if (!fs.existsSync(library)) {
        throw new Error(
            `there is no library to pack at ${library}: build it (make lib) or name one in P2PMOUNT_LIBRARY`,
        );
    }
    fs.mkdirSync(folder, { recursive: true });
    fs.copyFileSync(library, path.join(folder, "libp2pmount.so"));
    for (const licence of licences) fs.copyFileSync(path.join(root, licence), path.join(home, licence));
}

function remove() {
    // It would be found before the build tree, and grow old.
    fs.rmSync(path.join(home, "lib"), { recursive: true, force: true });
    for (const licence of licences) fs.rmSync(path.join(home, licence), { force: true });
}

const actions = { add, remove };
const action = /** @type {Record<string, (() => void) | undefined>} */ (actions)[process.argv[2] ?? ""];
if (action === undefined) {
    console.error("usage: pack.cjs add | remove");
    process.exit(2);
}
action();
