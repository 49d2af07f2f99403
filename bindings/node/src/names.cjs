"use strict";
// The bits of lists and events by the names that they have here, taken from the header's: P2P_EVENT_STREAM_OPENED is
// "streamOpened". A number stands for bits that this version has no name for.

const { invalid } = require("./arguments.cjs");
const { constants } = require("./prototypes.cjs");
const { camelCase } = require("./rows.cjs");

/**
 * @param {string} prefix
 * @returns {Map<string, number>}
 */
function named(prefix) {
    const found = Object.entries(constants).filter(([name]) => name.startsWith(prefix));
    return new Map(found.map(([name, bit]) => [camelCase(name.slice(prefix.length).toLowerCase()), bit]));
}

const LISTS = named("P2P_LIST_");
const EVENTS = named("P2P_EVENT_");

/**
 * @param {Map<string, number>} names
 * @param {string} what
 * @param {unknown[]} values
 * @returns {number}
 */
function bits(names, what, values) {
    let all = 0;
    for (const value of values) {
        const bit = typeof value === "string" ? names.get(value) : value;
        if (typeof bit !== "number" || !Number.isInteger(bit) || bit <= 0 || bit > 0x7fffffff) {
            throw invalid(what, value, `one of "${[...names.keys()].join('", "')}"`);
        }
        all |= bit;
    }
    return all;
}

/** @param {unknown[]} values */
const listBits = (values) => bits(LISTS, "what to list", values);

/** @param {unknown} kinds a name or bit, or an array of these; undefined is all */
function eventBits(kinds) {
    if (kinds === undefined) return constants.P2P_EVENT_ALL;
    const values = Array.isArray(kinds) ? kinds : [kinds];
    if (values.length === 0) throw invalid("kinds", kinds, "at least one kind of event");
    return bits(EVENTS, "kind of event", values);
}

/**
 * The bit of an event's name, 0 if it is not one.
 * @param {string | symbol} name
 */
function eventBit(name) {
    return (typeof name === "string" && name !== "all" && EVENTS.get(name)) || 0;
}

module.exports = { eventBit, eventBits, listBits };
