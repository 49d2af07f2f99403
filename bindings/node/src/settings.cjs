"use strict";
// Lists and options of a node, a mount, or (handle 0) the process.

const { invalid, optionText, text } = require("./arguments.cjs");
const { call } = require("./library.cjs");
const { listBits } = require("./names.cjs");
const { readRows } = require("./rows.cjs");

/**
 * @param {number} handle
 * @param {unknown[]} what names or bits
 */
function list(handle, what) {
    return readRows("p2p_list", handle, listBits(what));
}

/**
 * @param {number} handle
 * @param {unknown} name
 * @param {unknown} value
 */
function set(handle, name, value) {
    const option = text(name, "option");
    call("p2p_set", handle, option, optionText(value, `option ${option}`));
}

/**
 * @param {number} handle
 * @param {unknown} name
 */
function get(handle, name) {
    return readRows("p2p_get", handle, text(name, "option"))[0];
}

/**
 * Refuses the names in `given` that mean nothing there.
 * @param {Record<string, unknown>} given
 * @param {...string} known
 */
function onlyKnown(given, ...known) {
    for (const name of Object.keys(given)) {
        if (!known.includes(name)) throw invalid("option", name, `one of "${known.join('", "')}"`);
    }
}

module.exports = { get, list, onlyKnown, set };
