import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import koffi from "koffi";
import prototypes from "../src/prototypes.cjs";
import { PACKAGE, ROOT, test } from "./support.mjs";

const header = fs.readFileSync(path.join(ROOT, "include", "p2pmount.h"), "utf8");
const code = header.replace(/\/\*.*?\*\//gs, "").replace(/\/\/.*$/gm, "");

const squeeze = (text) => text.replace(/\s+/g, " ").trim();
/** A parameter without its name: "const char **value" is "const char **". */
const typeOf = (parameter) =>
    squeeze(parameter)
        .replace(/\w+$/, "")
        .trim()
        .replace(/([^* ])(\*+)$/, "$1 $2");

test("the table of functions is that of the header, in every type", () => {
    const declared = {};
    for (const [, result, name, list] of code.matchAll(/^([\w ]+?[ *]+)(p2p_\w+)\(([^)]*)\);/gm)) {
        const parameters = squeeze(list) === "void" ? [] : list.split(",").map(typeOf);
        declared[name] = [squeeze(result).replace(/ ?\*$/, " *"), parameters];
    }
    const symbols = fs
        .readFileSync(path.join(ROOT, "abi", "symbols.txt"), "utf8")
        .trim()
        .split("\n");
    assert.deepEqual(Object.keys(declared).sort(), symbols.sort(), "the header was not read whole");
    assert.deepEqual(prototypes.FUNCTIONS, declared);
});

test("the constants are those of the header", () => {
    const declared = {};
    for (const [, name, value] of code.matchAll(/^#define (P2P_\w+) (-?\d+)$/gm)) {
        if (!name.startsWith("P2P_VERSION_")) declared[name] = Number(value);
    }
    assert.ok(Object.keys(declared).length > 40);
    assert.deepEqual({ ...prototypes.constants }, declared);
});

test("handles, statuses and p2p_error have the sizes that the binding assumes", () => {
    for (const name of ["node", "mount", "options", "operation", "snapshot", "queue", "event"]) {
        assert.match(code, new RegExp(`^typedef uint64_t p2p_${name};$`, "m"));
    }
    assert.match(code, /^typedef int32_t p2p_status;$/m);
    const [, body] = /typedef struct p2p_error \{(.*?)\}/s.exec(code);
    const members = body
        .split(";")
        .map(squeeze)
        .filter((member) => member !== "");
    assert.deepEqual(members, [
        "int32_t code",
        "int32_t system_error",
        "uint32_t flags",
        "uint32_t reserved",
        "char message[1008]",
    ]);
    assert.equal(koffi.sizeof("int"), 4);
    assert.equal(koffi.sizeof("size_t"), 8);
});

test("the package has the version of the header and of its own lock file", () => {
    const [, version] = /#define P2P_VERSION_STRING "(.*)"/.exec(code);
    const read = (name) => JSON.parse(fs.readFileSync(path.join(PACKAGE, name), "utf8"));
    assert.equal(read("package.json").version, version);
    assert.equal(read("package-lock.json").version, version);
});

test("the lock file names no registry", () => {
    const lock = fs.readFileSync(path.join(PACKAGE, "package-lock.json"), "utf8");
    assert.doesNotMatch(lock, /"resolved"/);
    assert.match(lock, /"integrity"/);
});
