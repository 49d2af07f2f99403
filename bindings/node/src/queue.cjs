"use strict";
// A queue of a node's events, and the descriptor that says when there are some.

const net = require("node:net");
const { withOptions } = require("./arguments.cjs");
const { call, cell, foreign } = require("./library.cjs");
const { constants } = require("./prototypes.cjs");
const { readRow } = require("./rows.cjs");

/** @typedef {import("./rows.cjs").Row} Row */

class Queue {
    /** @type {number} */
    #handle;
    /** @type {net.Socket} */
    #socket;
    /** No event waits and none can come any more. */
    ended = false;

    /**
     * @param {number} node
     * @param {number} kinds
     * @param {Record<string, unknown>} options
     * @param {() => void} wake called when there may be events, or an end
     */
    constructor(node, kinds, options, wake) {
        withOptions(options, (made) => call("p2p_subscribe", node, kinds, made, cell.place));
        this.#handle = cell.number();
        try {
            call("p2p_queue_fd", this.#handle, cell.place);
            // The socket reads the bytes away, which the library allows, and closes the descriptor when it is destroyed.
            this.#socket = new net.Socket({ fd: cell.int(), readable: true, writable: false });
        } catch (error) {
            foreign("p2p_queue_close")(this.#handle);
            throw error;
        }
        // What keeps the process running is decided in one place, core.cjs.
        this.#socket.unref();
        // Not from within the socket's own events: what a listener throws must not get into its state.
        const later = () => process.nextTick(wake);
        this.#socket.on("data", later).on("end", later).on("error", later);
    }

    /**
     * The next event; null if none waits.
     * @returns {Row | null}
     */
    take() {
        if (this.ended) return null;
        const status = foreign("p2p_next_event")(this.#handle, 0, cell.place, null);
        if (status === constants.P2P_OK) {
            const event = cell.number();
            try {
                return readRow(event, 0);
            } finally {
                foreign("p2p_event_free")(event);
            }
        }
        if (status !== constants.P2P_ERROR_TIMED_OUT) this.close();
        return null;
    }

    // A socket without its descriptor would wait for another to do it then, with a listener for each call.

    ref() {
        if (!this.#socket.destroyed) this.#socket.ref();
    }

    unref() {
        if (!this.#socket.destroyed) this.#socket.unref();
    }

    close() {
        if (this.ended) return;
        this.ended = true;
        foreign("p2p_queue_close")(this.#handle);
        this.#socket.destroy();
    }
}

module.exports = { Queue };
