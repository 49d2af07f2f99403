"use strict";
// What the package offers. index.d.cts describes it, and is held against this file by test/types.

const { text } = require("./arguments.cjs");
const { P2pError } = require("./error.cjs");
const { call, foreign, load, statusName } = require("./library.cjs");
const { Mount } = require("./mount.cjs");
const { Node } = require("./node.cjs");
const { constants } = require("./prototypes.cjs");
const settings = require("./settings.cjs");

/** @returns {string} */
const version = () => foreign("p2p_version")();

/** @param {...(string | number)} what */
const list = (...what) => settings.list(0, what);

/**
 * @param {string} name
 * @param {unknown} value
 */
const set = (name, value) => settings.set(0, name, value);

/** @param {string} name */
const get = (name) => settings.get(0, name);

/**
 * @param {string} identityFile
 * @param {string} format
 * @param {string} destination
 */
const exportKey = (identityFile, format, destination) => {
    call(
        "p2p_key_export",
        text(identityFile, "identityFile"),
        text(format, "format"),
        text(destination, "destination"),
    );
};

module.exports = { Mount, Node, P2pError, constants, exportKey, get, list, load, set, statusName, version };
