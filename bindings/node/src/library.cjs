"use strict";
// The shared library: where it is, and how it is called. Everything that crosses the border goes through `call` and `cell`.

const fs = require("node:fs");
const path = require("node:path");
const koffi = require("koffi");
const { P2pError } = require("./error.cjs");
const { FUNCTIONS, constants } = require("./prototypes.cjs");

/** @typedef {(...values: any[]) => any} Foreign */

/** C's types as koffi's. Everything that the library writes to is memory of ours. */
const TYPES = /** @type {Record<string, string>} */ ({
    p2p_status: "int32_t",
    p2p_node: "uint64_t",
    p2p_mount: "uint64_t",
    p2p_options: "uint64_t",
    p2p_operation: "uint64_t",
    p2p_snapshot: "uint64_t",
    p2p_queue: "uint64_t",
    p2p_event: "uint64_t",
    uint64_t: "uint64_t",
    uint32_t: "uint32_t",
    int32_t: "int32_t",
    size_t: "size_t",
    "const char *": "str",
});

/** @param {string} type */
function foreignType(type) {
    return TYPES[type] ?? "void *";
}

/** @type {{ path: string, functions: Record<string, Foreign> } | undefined} */
let loaded;

/**
 * Where the library may be, the first that exists counts: inside the package, in the build tree of a checkout, and
 * wherever the system's loader finds it.
 * @returns {string}
 */
function find() {
    const home = path.join(__dirname, "..");
    const inside = path.join(home, "lib", `${process.platform}-${process.arch}`, "libp2pmount.so");
    if (fs.existsSync(inside)) return inside;
    const checkout = path.join(home, "..", "..");
    if (fs.existsSync(path.join(checkout, "include", "p2pmount.h"))) {
        const target = process.env.CARGO_TARGET_DIR || "target";
        const built = path.resolve(checkout, target, "release", "libp2pmount.so");
        if (fs.existsSync(built)) return built;
    }
    return `libp2pmount.so.${constants.P2P_ABI_VERSION}`;
}

/**
 * @param {string} message
 * @param {unknown} [cause]
 */
function loadError(message, cause) {
    return Object.assign(new Error(message, { cause }), { code: "ERR_DLOPEN_FAILED" });
}

/** @param {string} file */
function open(file) {
    /** @type {import("koffi").LibraryHandle} */
    let library;
    try {
        library = koffi.load(file);
    } catch (cause) {
        const why = cause instanceof Error ? cause.message : String(cause);
        throw loadError(
            `the p2pmount library ${file} cannot be loaded: ${why}. Build it (make lib), install it, or name it in P2PMOUNT_LIBRARY`,
            cause,
        );
    }
    /** @param {string} name */
    const bind = (name) => {
        const [result, parameters] = /** @type {[string, string[]]} */ (FUNCTIONS[name]);
        try {
            return library.func(name, foreignType(result), parameters.map(foreignType));
        } catch (cause) {
            throw loadError(`${file} is not a p2pmount library of this ABI version: it has no ${name}`, cause);
        }
    };
    // Before anything else: a library of another ABI version may lack any other function.
    const abi = bind("p2p_abi_version")();
    if (abi !== constants.P2P_ABI_VERSION) {
        throw loadError(
            `${file} has ABI version ${abi}, this package needs ABI version ${constants.P2P_ABI_VERSION}: ` +
                "install a package and a library of the same version",
        );
    }
    return Object.fromEntries(Object.keys(FUNCTIONS).map((name) => [name, bind(name)]));
}

/**
 * Loads the library, which otherwise happens at the first call. Returns the file that is loaded.
 * @param {string} [file] default: P2PMOUNT_LIBRARY, else where `find` finds it
 * @returns {string}
 */
function load(file) {
    if (loaded === undefined) {
        const wanted = file ?? (process.env.P2PMOUNT_LIBRARY || find());
        loaded = { path: wanted, functions: open(wanted) };
    } else if (file !== undefined && file !== loaded.path) {
        throw loadError(`the p2pmount library is loaded already, from ${loaded.path}; load("${file}") comes too late`);
    }
    return loaded.path;
}

/** @returns {Record<string, Foreign>} */
function functions() {
    if (loaded === undefined) load();
    return /** @type {{ functions: Record<string, Foreign> }} */ (loaded).functions;
}

/**
 * A function of the library, for calls that need no sentence when they fail.
 * @param {string} name
 * @returns {Foreign}
 */
function foreign(name) {
    return /** @type {Foreign} */ (functions()[name]);
}

// Calls are synchronous and JavaScript has one thread per copy of this module, so one error and one result are enough.
const error = Buffer.alloc(1024);
const words = new Int32Array(error.buffer, error.byteOffset, 4);
const longs = new BigInt64Array(1);
const ints = new Int32Array(longs.buffer);

/**
 * Where results go that are one number or pointer. They are read as numbers: handles stay below 2^53, and so does
 * whatever is counted; a BigInt never leaves this file.
 */
const cell = {
    place: longs,
    number: () => Number(longs[0]),
    int: () => /** @type {number} */ (ints[0]),
    text: () => /** @type {string} */ (koffi.decode.string(longs[0])),
};

/** @param {number} status */
function statusName(status) {
    return /** @type {string} */ (foreign("p2p_status_name")(status));
}

/**
 * Calls a function whose last parameter is a p2p_error, and throws what it reports.
 * @param {string} name
 * @param {...(string | number | null | ArrayBufferView)} values all parameters but the last
 */
function call(name, ...values) {
    const status = foreign(name)(...values, error);
    if (status === constants.P2P_OK) return;
    const message = error.toString("utf8", 16, error.indexOf(0, 16));
    throw new P2pError(message, { status, code: statusName(status), systemError: words[1], flags: words[2] });
}

module.exports = { call, cell, foreign, load, statusName };
