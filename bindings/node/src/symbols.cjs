"use strict";

// Node has them from 20.4; before, the ones that it will have cannot be had, and close() does the same.
const dispose = /** @type {typeof Symbol.dispose} */ (Symbol.dispose ?? Symbol.for("nodejs.dispose"));
const asyncDispose = /** @type {typeof Symbol.asyncDispose} */ (
    Symbol.asyncDispose ?? Symbol.for("nodejs.asyncDispose")
);

module.exports = { asyncDispose, dispose };
