"use strict";
// Rows of lists and events as plain objects. Nothing here knows a field: what a newer library adds is there by its name.

const { call, cell, foreign } = require("./library.cjs");
const { constants } = require("./prototypes.cjs");

/** @typedef {{ kind: string, [field: string]: any }} Row */

/**
 * "bytes_in" is bytesIn, "stream opened" is streamOpened.
 * @param {string} name
 */
function camelCase(name) {
    return name.replace(/[ _]+(.)/g, (_, letter) => letter.toUpperCase());
}

/** What a field is called here and whether it is a number; the library has one type for each. */
/** @type {Map<string, { key: string, isNumber: boolean }>} */
const fields = new Map();

/**
 * @param {number} rows
 * @param {number} row
 * @param {string} name
 */
function learn(rows, row, name) {
    const status = foreign("p2p_row_int")(rows, row, name, cell.place, null);
    const field = { key: camelCase(name), isNumber: status === constants.P2P_OK };
    fields.set(name, field);
    return field;
}

/**
 * @param {number} rows a snapshot or event
 * @param {number} row
 * @returns {Row}
 */
function readRow(rows, row) {
    const fieldName = foreign("p2p_row_field");
    const rowInt = foreign("p2p_row_int");
    const rowText = foreign("p2p_row_text");
    const values = /** @type {Row} */ ({});
    for (let index = 0; fieldName(rows, row, index, cell.place, null) === constants.P2P_OK; index++) {
        const name = cell.text();
        const field = fields.get(name) ?? learn(rows, row, name);
        if ((field.isNumber ? rowInt : rowText)(rows, row, name, cell.place, null) !== constants.P2P_OK) continue;
        values[field.key] = field.isNumber ? cell.number() : cell.text();
    }
    return values;
}

/**
 * The rows of a snapshot that `name` makes of `values`.
 * @param {string} name
 * @param {...(string | number)} values
 * @returns {Row[]}
 */
function readRows(name, ...values) {
    call(name, ...values, cell.place);
    const snapshot = cell.number();
    try {
        call("p2p_row_count", snapshot, cell.place);
        return Array.from({ length: cell.number() }, (_, row) => readRow(snapshot, row));
    } finally {
        foreign("p2p_snapshot_free")(snapshot);
    }
}

module.exports = { camelCase, readRow, readRows };
