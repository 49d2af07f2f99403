"use strict";
// The part of a node that lives as long as the node is open, even if the Node object is forgotten: its operations, and
// what keeps the process running.

const { P2pError, abortReason } = require("./error.cjs");
const { call, cell, foreign, statusName } = require("./library.cjs");
const { constants } = require("./prototypes.cjs");
const { Queue } = require("./queue.cjs");
const { readRows } = require("./rows.cjs");
const { onAbort } = require("./signals.cjs");

/** @typedef {import("./rows.cjs").Row} Row */
/** @typedef {{ poll(): void }} Follower what gets events of the node */

/** @type {Set<Core>} */
const open = new Set();

/** Whether the end of this thread is watched, which is that of the process or of a worker. */
let watchesExit = false;

/**
 * Closes every node before the process or the worker ends, so that the peers hear of it: with QUIC nothing but a message
 * tells them. All at once, since each waits a moment for its last messages; nothing drains.
 */
function closeAll() {
    const cores = [...open];
    for (const core of cores) core.abandon();
    for (const core of cores) foreign("p2p_node_close")(core.handle, 0, null);
}

class Core {
    /** @type {number} */
    handle;
    /** @type {Map<number, (end: Row | null) => void>} */
    #operations = new Map();
    /** @type {Queue} */
    #queue;
    #mounts = 0;
    #unreferenced = false;
    /** Streams of events that somebody waits for. */
    #waiting = new Set();
    /** @type {Set<Follower>} */
    followers = new Set();
    /** @type {Promise<Row | null> | undefined} */
    #closing;
    #closeOperation = 0;
    /** The node is closed or has failed: this queue has ended, and every other gets no more events and ends now. */
    ended = false;
    /** @type {() => void} */
    #whenEnded = () => {};
    /** @type {Promise<void>} */
    #end = new Promise((resolve) => {
        this.#whenEnded = resolve;
    });
    /** The Node object, held while something can still happen through it. */
    /** @type {object | null} */
    held = null;
    /** @type {WeakRef<object> | null} */
    #owner = null;

    /** @param {number} handle */
    constructor(handle) {
        this.handle = handle;
        this.#queue = new Queue(handle, constants.P2P_EVENT_OPERATION, {}, () => this.#wake());
        open.add(this);
        if (!watchesExit) {
            watchesExit = true;
            process.on("exit", closeAll);
        }
    }

    /** @param {object} owner the Node object */
    own(owner) {
        this.#owner = new WeakRef(owner);
    }

    #wake() {
        for (let row = this.#queue.take(); row !== null; row = this.#queue.take()) {
            const finish = this.#operations.get(row.operation);
            this.#operations.delete(row.operation);
            finish?.(row);
        }
        if (this.#queue.ended && !this.ended) {
            this.ended = true;
            open.delete(this);
            this.#mounts = 0;
            // Listeners hear the last events before whoever waits for the end goes on.
            for (const follower of this.followers) follower.poll();
            for (const finish of this.#operations.values()) finish(null);
            this.#operations.clear();
            this.#whenEnded();
        }
        this.#update();
    }

    /** Mounts and operations keep the process running, and the Node object alive. */
    #update() {
        // The queues end a moment after the operation that closes the node.
        const operating = this.#operations.size > 0 || (this.#closing !== undefined && !this.ended);
        const working = operating || this.#mounts > 0;
        const idle = this.#unreferenced || (this.#mounts === 0 && this.#waiting.size === 0);
        if (operating || !idle) this.#queue.ref();
        else this.#queue.unref();
        this.held = working ? (this.#owner?.deref() ?? null) : null;
    }

    /** Mounts were made or closed. */
    mountsChanged() {
        if (this.ended || this.#closing !== undefined) return;
        const node = readRows("p2p_list", this.handle, constants.P2P_LIST_NODE)[0];
        this.#mounts = node === undefined ? 0 : node.listeners + node.forwards;
        this.#update();
    }

    /** @param {boolean} referenced */
    reference(referenced) {
        this.#unreferenced = !referenced;
        this.#update();
    }

    /**
     * Somebody waits for events, or does not any more.
     * @param {object} stream
     * @param {boolean} waiting
     */
    waits(stream, waiting) {
        if (waiting) this.#waiting.add(stream);
        else this.#waiting.delete(stream);
        this.#update();
    }

    /**
     * Starts an operation and waits for its end, which a signal brings about early.
     * @param {string} name of the function, whose last parameters are an operation and an error
     * @param {(string | number)[]} values the parameters before
     * @param {AbortSignal | undefined} signal
     * @returns {Promise<Row>}
     */
    run(name, values, signal) {
        const from = { stack: "" };
        Error.captureStackTrace(from, this.run);
        return new Promise((resolve, reject) => {
            if (signal?.aborted) throw abortReason(signal);
            call(name, this.handle, ...values, cell.place);
            const operation = cell.number();
            const cancel = () => foreign("p2p_operation_cancel")(operation, null);
            const forget = onAbort(signal, cancel);
            this.#operations.set(operation, (end) => {
                forget();
                if (end !== null && end.code === constants.P2P_OK) resolve(end);
                else reject(endError(end, signal, from.stack));
            });
            this.#update();
        });
    }

    /**
     * Closes the node. Calls after the first wait for the same end; each signal ends the draining.
     * @param {number} drain
     * @param {AbortSignal | undefined} signal
     * @returns {Promise<void>}
     */
    async close(drain, signal) {
        this.#closing ??= this.#startClose(drain);
        const cancel = () => foreign("p2p_operation_cancel")(this.#closeOperation, null);
        const forget = onAbort(signal, cancel);
        const end = await this.#closing;
        forget();
        if (signal?.aborted && end?.code === constants.P2P_ERROR_CANCELLED) throw abortReason(signal);
    }

    /**
     * @param {number} drain
     * @returns {Promise<Row | null>}
     */
    async #startClose(drain) {
        if (foreign("p2p_node_close_start")(this.handle, drain, cell.place, null) !== constants.P2P_OK) {
            // A node that has failed: nothing is left of it that could take long.
            call("p2p_node_close", this.handle, 0);
            return null;
        }
        this.#closeOperation = cell.number();
        /** @type {Row | null} */
        let last = null;
        this.#operations.set(this.#closeOperation, (end) => {
            last = end;
        });
        this.#update();
        // The event of the operation is the node's last; then its queues end, and the other queues have all they get.
        await this.#end;
        return last;
    }

    /** Closes the node without waiting: nobody has it any more, or its thread ends. */
    abandon() {
        open.delete(this);
        if (this.#closing === undefined) foreign("p2p_node_close_start")(this.handle, 0, cell.place, null);
        else foreign("p2p_operation_cancel")(this.#closeOperation, null);
    }
}

/**
 * @param {Row | null} end null: there is none, the node has failed
 * @param {AbortSignal | undefined} signal
 * @param {string} stack where the operation was started
 */
function endError(end, signal, stack) {
    if (signal?.aborted && end?.code === constants.P2P_ERROR_CANCELLED) return abortReason(signal);
    const status = end?.code ?? constants.P2P_ERROR_CLOSED;
    const error = new P2pError(end?.message ?? "the node was closed", {
        status,
        code: statusName(status),
        systemError: end?.systemError,
        flags: end?.flags,
    });
    // The stack from here would only show this file.
    error.stack = `${error}\n${stack.slice(stack.indexOf("\n") + 1)}`;
    return error;
}

module.exports = { Core };
