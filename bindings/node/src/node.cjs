"use strict";

const { EventEmitter } = require("node:events");
const { inspect } = require("node:util");
const { abortSignal, address, milliseconds, peer, record, text, wholeNumber, withOptions } = require("./arguments.cjs");
const { Core } = require("./core.cjs");
const { abortReason } = require("./error.cjs");
const { EventStream, Subscription } = require("./events.cjs");
const { call, cell, foreign } = require("./library.cjs");
const { MOUNTS, Mount } = require("./mount.cjs");
const { eventBit, eventBits } = require("./names.cjs");
const { constants } = require("./prototypes.cjs");
const { camelCase, readRows } = require("./rows.cjs");
const { get, list, onlyKnown, set } = require("./settings.cjs");
const { asyncDispose } = require("./symbols.cjs");

/** @typedef {import("./rows.cjs").Row} Row */

/** @type {FinalizationRegistry<Core>} */
const forgotten = new FinalizationRegistry((core) => core.abandon());

/** Says to the constructor who calls it. */
const opening = Symbol("opening");

/** A node of the network. */
class Node extends EventEmitter {
    /** @type {Core} */
    #core;
    /** @type {Subscription} */
    #subscription;
    #closed = false;

    /**
     * @param {symbol} key
     * @param {number} handle
     */
    constructor(key, handle) {
        super();
        if (key !== opening) throw new TypeError("a node is opened with await Node.open(options)");
        const buffer = Buffer.alloc(constants.P2P_PEER_ID_SIZE);
        call("p2p_node_peer_id", handle, buffer, buffer.length);
        /** @readonly */
        this.peerId = buffer.toString("utf8", 0, buffer.indexOf(0));
        this.#core = new Core(handle);
        this.#core.own(this);
        this.#subscription = new Subscription(this.#core, [
            (row) => this.#tell(camelCase(row.kind), row),
            (row) => this.#tell("event", row),
        ]);
        forgotten.register(this, this.#core, this);
    }

    /**
     * @param {Record<string, unknown>} [options]
     * @returns {Promise<Node>}
     */
    static async open(options) {
        withOptions(record(options, "options"), (made) => call("p2p_node_open", made, cell.place));
        const handle = cell.number();
        try {
            return new Node(opening, handle);
        } catch (error) {
            foreign("p2p_node_close")(handle, 0, null);
            throw error;
        }
    }

    get closed() {
        return this.#closed;
    }

    get addresses() {
        const rows = readRows("p2p_list", this.#core.handle, constants.P2P_LIST_ADDRESSES);
        return rows.map((row) => /** @type {string} */ (row.address));
    }

    /**
     * @param {string} protocol
     * @param {unknown} target
     * @param {Record<string, unknown>} [options]
     */
    listen(protocol, target, options) {
        const values = [text(protocol, "protocol"), address(target, "target")];
        withOptions(record(options, "options"), (made) =>
            call("p2p_listen", this.#core.handle, ...values, made, cell.place),
        );
        const mount = cell.number();
        this.#core.mountsChanged();
        return new Mount(this, this.#core, mount);
    }

    /**
     * @param {string} protocol
     * @param {unknown} listen
     * @param {string | string[]} peers
     * @param {Record<string, unknown>} [options]
     */
    async forward(protocol, listen, peers, options) {
        const { signal, ...others } = record(options, "options");
        const values = [text(protocol, "protocol"), address(listen, "listen"), peer(peers, "peer")];
        const end = await withOptions(others, (made) =>
            this.#core.run("p2p_forward_start", [...values, made], abortSignal(signal)),
        );
        this.#core.mountsChanged();
        return new Mount(this, this.#core, end.mount);
    }

    /**
     * @param {string | string[]} peers
     * @param {{ timeout?: number, signal?: AbortSignal }} [options]
     */
    async connect(peers, options) {
        const { timeout = Number.POSITIVE_INFINITY, signal, ...others } = record(options, "options");
        onlyKnown(others, "timeout", "signal");
        const values = [peer(peers, "peer"), milliseconds(timeout, "timeout")];
        await this.#core.run("p2p_connect_start", values, abortSignal(signal));
    }

    /** @param {Record<string, unknown>} filters */
    closeMounts(filters) {
        const { protocol, listen, target, all, listeners, forwards, streams, ...others } = record(filters, "filters");
        onlyKnown(others, "protocol", "listen", "target", "all", "listeners", "forwards", "streams");
        const flags =
            (all ? constants.P2P_CLOSE_ALL : 0) |
            (listeners ? constants.P2P_CLOSE_LISTENERS : 0) |
            (forwards ? constants.P2P_CLOSE_FORWARDS : 0) |
            (streams ? constants.P2P_CLOSE_STREAMS : 0);
        const values = [
            protocol === undefined ? null : text(protocol, "protocol"),
            listen === undefined ? null : address(listen, "listen"),
            target === undefined ? null : address(target, "target"),
        ];
        call("p2p_close", this.#core.handle, ...values, flags, cell.place);
        const closed = cell.number();
        this.#core.mountsChanged();
        return closed;
    }

    /** @param {number} id */
    closeStream(id) {
        call("p2p_stream_close", this.#core.handle, wholeNumber(id, "stream id"));
    }

    /** @param {...(string | number)} what */
    list(...what) {
        return list(this.#core.handle, what.length === 0 ? [MOUNTS] : what);
    }

    /**
     * @param {string} name
     * @param {unknown} value
     */
    set(name, value) {
        set(this.#core.handle, name, value);
    }

    /** @param {string} name */
    get(name) {
        return get(this.#core.handle, name);
    }

    /** @param {Record<string, unknown>} [options] */
    events(options) {
        const { kinds, signal, ...others } = record(options, "options");
        return new EventStream(this, this.#core, eventBits(kinds), others, abortSignal(signal));
    }

    /** @param {{ drain?: number, signal?: AbortSignal }} [options] */
    async close(options) {
        const { drain = 0, signal, ...others } = record(options, "options");
        onlyKnown(others, "drain", "signal");
        const [time, ends] = [milliseconds(drain, "drain"), abortSignal(signal)];
        if (ends?.aborted) throw abortReason(ends);
        this.#closed = true;
        forgotten.unregister(this);
        await this.#core.close(time, ends);
    }

    ref() {
        this.#core.reference(true);
        return this;
    }

    unref() {
        this.#core.reference(false);
        return this;
    }

    async [asyncDispose]() {
        await this.close();
    }

    [inspect.custom]() {
        return `Node { peerId: '${this.peerId}', closed: ${this.#closed} }`;
    }

    /**
     * @param {string} name
     * @param {Row} row
     */
    #tell(name, row) {
        // Only to who listens: an event that happens to be called "error" must not end the process.
        if (this.listenerCount(name) > 0) this.emit(name, row);
    }

    /**
     * Gets the kinds that are listened for now.
     * @param {(string | symbol)[]} more names that will be listened for
     */
    #listen(...more) {
        let kinds = 0;
        for (const name of [...this.eventNames(), ...more]) {
            kinds |= name === "event" ? constants.P2P_EVENT_ALL : eventBit(name);
        }
        this.#subscription.want(kinds);
        return this;
    }

    /**
     * The events first: if they cannot be had, nothing is left of the attempt to listen.
     * @param {string | symbol} name
     * @param {() => void} add the listener
     */
    #add(name, add) {
        this.#listen(name);
        try {
            add();
        } finally {
            this.#listen();
        }
        return this;
    }

    // once, off, events.once and the like come through these.

    /**
     * @param {string | symbol} name
     * @param {(...values: any[]) => void} listener
     */
    on(name, listener) {
        return this.#add(name, () => super.on(name, listener));
    }

    /**
     * @param {string | symbol} name
     * @param {(...values: any[]) => void} listener
     */
    addListener(name, listener) {
        return this.on(name, listener);
    }

    /**
     * @param {string | symbol} name
     * @param {(...values: any[]) => void} listener
     */
    prependListener(name, listener) {
        return this.#add(name, () => super.prependListener(name, listener));
    }

    /**
     * @param {string | symbol} name
     * @param {(...values: any[]) => void} listener
     */
    removeListener(name, listener) {
        super.removeListener(name, listener);
        return this.#listen();
    }

    /**
     * @param {string | symbol} name
     * @param {(...values: any[]) => void} listener
     */
    off(name, listener) {
        return this.removeListener(name, listener);
    }

    /** @param {string | symbol} [name] */
    removeAllListeners(name) {
        super.removeAllListeners(...(name === undefined ? [] : [name]));
        return this.#listen();
    }
}

module.exports = { Node };
