"use strict";
// What people write, as the text and numbers that the library takes. The library checks the rest: nothing here knows an
// option, and an address is only put together.

const { inspect } = require("node:util");
const { call, cell, foreign } = require("./library.cjs");

/**
 * @param {string} name
 * @param {unknown} value
 * @param {string} expected
 */
function invalid(name, value, expected) {
    const shown = inspect(value, { depth: 1, breakLength: Number.POSITIVE_INFINITY, maxStringLength: 60 });
    return Object.assign(new TypeError(`${name} is ${shown}; it must be ${expected}`), {
        code: "ERR_INVALID_ARG_TYPE",
    });
}

/**
 * A string that C can take whole.
 * @param {unknown} value
 * @param {string} name
 * @param {string} [expected]
 * @returns {string}
 */
function text(value, name, expected = "a string") {
    if (typeof value !== "string") throw invalid(name, value, expected);
    if (value.includes("\0")) throw invalid(name, value, `${expected} without NUL characters`);
    if (!value.isWellFormed()) throw invalid(name, value, `${expected} that is well-formed Unicode`);
    return value;
}

/**
 * @param {unknown} value
 * @returns {value is Record<string, unknown>}
 */
function isPlainObject(value) {
    if (typeof value !== "object" || value === null) return false;
    const prototype = Object.getPrototypeOf(value);
    // Objects of other contexts (vm, test runners) have another Object.prototype.
    return prototype === null || Object.getPrototypeOf(prototype) === null;
}

/**
 * @param {unknown} value
 * @param {string} name
 * @returns {Record<string, unknown>}
 */
function record(value, name) {
    if (value === undefined) return {};
    if (!isPlainObject(value)) throw invalid(name, value, "an object");
    return value;
}

const ADDRESS = 'a port number, a string such as "127.0.0.1:8080", { host, port } or { path }';

/**
 * @param {unknown} port
 * @param {string} name
 */
function portText(port, name) {
    const number = typeof port === "string" && /^\d+$/.test(port) ? Number(port) : port;
    if (typeof number !== "number" || !Number.isInteger(number) || number < 0 || number > 65535) {
        throw invalid(name, port, "a whole number from 0 to 65535");
    }
    return String(number);
}

/**
 * A local address, in one of the forms that JavaScript programs have at hand.
 * @param {unknown} value
 * @param {string} name
 * @returns {string}
 */
function address(value, name) {
    if (typeof value === "string") return text(value, name);
    if (typeof value === "number") return portText(value, name);
    if (typeof value !== "object" || value === null || Array.isArray(value)) throw invalid(name, value, ADDRESS);
    const parts = /** @type {Record<string, unknown>} */ (value);
    if (parts.path !== undefined) {
        if (parts.port !== undefined || parts.host !== undefined) throw invalid(name, value, ADDRESS);
        return `unix:${text(parts.path, `${name}.path`)}`;
    }
    if (parts.port === undefined) throw invalid(name, value, ADDRESS);
    const port = portText(parts.port, `${name}.port`);
    // net.Server's address() calls its host `address`.
    const key = parts.host === undefined ? "address" : "host";
    if (parts[key] === undefined) return port;
    const host = text(parts[key], `${name}.${key}`);
    if (host === "") throw invalid(`${name}.${key}`, host, "a name or an IP address");
    return host.includes(":") && !host.startsWith("[") ? `[${host}]:${port}` : `${host}:${port}`;
}

const PEER = "a peer id, a multiaddr that ends in /p2p/ID, or an array of these";

/**
 * @param {unknown} value
 * @param {string} name
 * @returns {string}
 */
function peer(value, name) {
    if (!Array.isArray(value)) return text(value, name, PEER);
    if (value.length === 0) throw invalid(name, value, PEER);
    return value.map((part, index) => text(part, `${name}[${index}]`, "a multiaddr")).join(",");
}

/**
 * Milliseconds for the library, which says "for ever" with -1.
 * @param {unknown} value
 * @param {string} name
 * @returns {number}
 */
function milliseconds(value, name) {
    if (value === Number.POSITIVE_INFINITY) return -1;
    if (typeof value !== "number" || !(value >= 0) || value > 0x7fffffff) {
        throw invalid(name, value, "a number of milliseconds from 0 to 2147483647, or Infinity");
    }
    return Math.ceil(value);
}

/**
 * @param {unknown} value
 * @returns {AbortSignal | undefined}
 */
function abortSignal(value) {
    if (value === undefined || value instanceof AbortSignal) return value;
    // Of another context: test runners have an AbortSignal of their own.
    if (Object.prototype.toString.call(value) === "[object AbortSignal]") return /** @type {AbortSignal} */ (value);
    throw invalid("signal", value, "an AbortSignal");
}

/**
 * @param {unknown} value
 * @param {string} name
 * @returns {number}
 */
function wholeNumber(value, name) {
    if (typeof value === "number" && Number.isSafeInteger(value) && value >= 0) return value;
    throw invalid(name, value, "a whole number");
}

/**
 * The value of an option as the text that the library takes.
 * @param {unknown} value
 * @param {string} name
 * @returns {string}
 */
function optionText(value, name) {
    switch (typeof value) {
        case "string":
            return text(value, name);
        case "boolean":
        case "bigint":
            return String(value);
        case "number":
            if (Number.isFinite(value)) return String(value);
            break;
        case "object":
            if (Array.isArray(value)) {
                return value.map((part, index) => optionText(part, `${name}[${index}]`)).join(",");
            }
            break;
        default:
    }
    throw invalid(name, value, "a string, a number, a boolean or an array of these");
}

/**
 * Makes the library's options of `given`, which are left out where they are undefined, and frees them after `use`.
 * @template T
 * @param {Record<string, unknown>} given
 * @param {(options: number) => T} use gets 0 if there are none
 * @returns {T}
 */
function withOptions(given, use) {
    const entries = Object.entries(given).filter(([, value]) => value !== undefined);
    if (entries.length === 0) return use(0);
    call("p2p_options_new", cell.place);
    const options = cell.number();
    try {
        for (const [name, value] of entries) {
            call("p2p_options_set", options, text(name, "option"), optionText(value, `option ${name}`));
        }
        return use(options);
    } finally {
        foreign("p2p_options_free")(options);
    }
}

module.exports = {
    abortSignal,
    address,
    invalid,
    milliseconds,
    optionText,
    peer,
    record,
    text,
    wholeNumber,
    withOptions,
};
