"use strict";

const { record } = require("./arguments.cjs");
const { call, foreign } = require("./library.cjs");
const { constants } = require("./prototypes.cjs");
const { readRows } = require("./rows.cjs");
const { get, list, onlyKnown, set } = require("./settings.cjs");
const { dispose } = require("./symbols.cjs");

/** @typedef {import("./core.cjs").Core} Core */
/** @typedef {import("./node.cjs").Node} Node */

const MOUNTS = constants.P2P_LIST_LISTENERS | constants.P2P_LIST_FORWARDS;

/**
 * A mount's address as net.connect takes it; undefined for a multiaddr that has no such form.
 * @param {string} address
 */
function endpointOf(address) {
    if (address.startsWith("unix:")) return { path: address.slice("unix:".length) };
    const [, host, port] = /^(.*):(\d+)$/.exec(address) ?? [];
    if (host === undefined || port === undefined) return undefined;
    return { host: host.replace(/^\[(.*)\]$/, "$1"), port: Number(port) };
}

/** A listener or a forward. */
class Mount {
    /** @type {Core} */
    #core;
    /** @type {Node} */
    // biome-ignore lint/correctness/noUnusedPrivateClassMembers: whoever has the mount has its node, too
    #node;

    /**
     * @param {Node} node
     * @param {Core} core the node's
     * @param {number} id
     */
    constructor(node, core, id) {
        this.#node = node;
        this.#core = core;
        const buffer = Buffer.alloc(constants.P2P_ADDRESS_SIZE);
        call("p2p_mount_address", id, buffer, buffer.length);
        const row = readRows("p2p_list", id, MOUNTS)[0];
        this.id = id;
        this.kind = row?.kind;
        this.protocol = row?.protocol;
        this.address = buffer.toString("utf8", 0, buffer.indexOf(0));
        this.endpoint = endpointOf(this.address);
        Object.freeze(this);
    }

    /** @param {{ streams?: boolean }} [options] */
    close(options) {
        const { streams, ...others } = record(options, "options");
        onlyKnown({ ...others }, "streams");
        const flags = streams ? constants.P2P_CLOSE_STREAMS : 0;
        const status = foreign("p2p_mount_close")(this.id, flags, null);
        // One that was closed before, by whomever, is what was asked for.
        if (status !== constants.P2P_OK && status !== constants.P2P_ERROR_BAD_HANDLE) {
            call("p2p_mount_close", this.id, flags);
        }
        this.#core.mountsChanged();
    }

    /** @param {...(string | number)} what */
    list(...what) {
        return list(this.id, what.length === 0 ? [MOUNTS] : what);
    }

    /**
     * @param {string} name
     * @param {unknown} value
     */
    set(name, value) {
        set(this.id, name, value);
    }

    /** @param {string} name */
    get(name) {
        return get(this.id, name);
    }

    [dispose]() {
        this.close();
    }
}

module.exports = { MOUNTS, Mount };
