"use strict";
// The two ways to get a node's events: as an EventEmitter's, and as an async iterator.

const { P2pError, abortReason } = require("./error.cjs");
const { constants } = require("./prototypes.cjs");
const { Queue } = require("./queue.cjs");
const { onAbort } = require("./signals.cjs");
const { asyncDispose } = require("./symbols.cjs");

/** @typedef {import("./core.cjs").Core} Core */
/** @typedef {import("./node.cjs").Node} Node */
/** @typedef {import("./rows.cjs").Row} Row */

/** Events that are handed out before other work gets its turn. */
const BATCH = 64;

/** What a node says that is being closed or is closed. */
const LATE = new Set([constants.P2P_ERROR_CLOSED, constants.P2P_ERROR_BAD_HANDLE].map(Number));

/** Events for listeners: one queue with the kinds that are listened for, none while nobody listens. */
class Subscription {
    /** @type {Core} */
    #core;
    /** @type {((row: Row) => void)[]} */
    #deliver;
    #kinds = 0;
    #wanted = 0;
    /** @type {Queue | null} */
    #queue = null;
    /** Events that were taken when one queue followed another, and wait for their turn. */
    /** @type {Row[]} */
    #pending = [];
    #scheduled = false;

    /**
     * @param {Core} core
     * @param {((row: Row) => void)[]} deliver each calls the listeners of one name
     */
    constructor(core, deliver) {
        this.#core = core;
        this.#deliver = deliver;
    }

    /** @param {number} kinds */
    want(kinds) {
        this.#wanted = kinds;
        if ((kinds & ~this.#kinds) !== 0) this.#subscribe();
        // Fewer: not at once, a listener that is called once may be followed by the next.
        else if (kinds !== this.#kinds) setImmediate(() => this.#subscribe()).unref();
    }

    /**
     * Kinds cannot be added to a queue: another follows, which misses nothing and repeats nothing. What happens while both
     * are there is in both, and in the new one when the closing of the old one has returned.
     */
    #subscribe() {
        const kinds = this.#wanted;
        if (kinds === this.#kinds || this.#core.ended) return;
        const old = this.#queue;
        this.#pending.push(...takeAll(old));
        if (this.#pending.length > 0) this.#schedule();
        let next = null;
        try {
            if (kinds !== 0) next = new Queue(this.#core.handle, kinds, {}, () => this.#turn());
        } catch (error) {
            // A node that is being closed takes no new queue, and nobody is to blame for listening too late. Without a
            // queue for fewer kinds the one with more does as well: what nobody listens for goes to nobody.
            const enough = (kinds & ~this.#kinds) === 0;
            if (error instanceof P2pError && (enough || LATE.has(error.status))) return;
            throw error;
        }
        const between = takeAll(old);
        old?.close();
        this.#pending.push(...between, ...without(takeAll(next), between));
        this.#queue = next;
        this.#kinds = kinds;
        if (next === null) this.#core.followers.delete(this);
        else this.#core.followers.add(this);
        if (this.#pending.length > 0) this.#schedule();
    }

    /** @returns {Row | null} */
    #next() {
        return this.#pending.shift() ?? this.#queue?.take() ?? null;
    }

    #schedule() {
        if (this.#scheduled) return;
        this.#scheduled = true;
        setImmediate(() => {
            this.#scheduled = false;
            this.#turn();
        });
    }

    #turn() {
        this.#hand(BATCH);
    }

    /** Hands out everything, for the last time. */
    poll() {
        this.#hand(Number.POSITIVE_INFINITY);
        this.#core.followers.delete(this);
    }

    /** @param {number} most */
    #hand(most) {
        for (let left = most; left > 0; left--) {
            const row = this.#next();
            if (row === null) return;
            for (const deliver of this.#deliver) {
                try {
                    deliver(row);
                } catch (error) {
                    // A listener's fault is an uncaught exception, as anywhere; nothing else is lost by it.
                    process.nextTick(() => {
                        throw error;
                    });
                }
            }
        }
        this.#schedule();
    }
}

/**
 * @param {Queue | null} queue
 * @returns {Row[]}
 */
function takeAll(queue) {
    const rows = [];
    for (let row = queue?.take() ?? null; row !== null; row = queue?.take() ?? null) rows.push(row);
    return rows;
}

/**
 * `rows` without those of `others`, which had other numbers in another queue.
 * @param {Row[]} rows
 * @param {Row[]} others
 */
function without(rows, others) {
    const left = others.map((row) => JSON.stringify({ ...row, sequence: 0 }));
    return rows.filter((row) => {
        const at = left.indexOf(JSON.stringify({ ...row, sequence: 0 }));
        if (at >= 0) left.splice(at, 1);
        return at < 0;
    });
}

/**
 * The inside of an EventStream; what wakes it does not hold the EventStream itself, unless somebody waits for it: then
 * the EventStream and its node live on, whoever else has forgotten them.
 */
class Source {
    /** @type {Core} */
    #core;
    /** @type {AbortSignal | undefined} */
    #signal;
    /** @type {Queue} */
    #queue;
    #forget = () => {};
    /**
     * @typedef {object} Waiter
     * @property {(result: IteratorResult<Row, undefined>) => void} resolve
     * @property {(reason: unknown) => void} reject
     * @property {EventStream} stream held until it was answered
     */
    /** @type {Waiter[]} */
    #waiters = [];
    #aborted = false;
    #abort = () => {
        this.#aborted = !this.#queue.ended;
        this.close();
    };

    /**
     * @param {Core} core
     * @param {number} kinds
     * @param {Record<string, unknown>} options
     * @param {AbortSignal | undefined} signal
     */
    constructor(core, kinds, options, signal) {
        this.#core = core;
        this.#signal = signal;
        this.#queue = new Queue(core.handle, kinds, options, () => this.poll());
        core.followers.add(this);
        this.#forget = onAbort(signal, this.#abort);
        if (signal?.aborted) this.#abort();
    }

    /**
     * @param {EventStream} stream
     * @returns {Promise<IteratorResult<Row, undefined>>}
     */
    next(stream) {
        return new Promise((resolve, reject) => {
            this.#waiters.push({ resolve, reject, stream });
            this.poll();
        });
    }

    /** Answers whom it can answer now. */
    poll() {
        while (this.#waiters.length > 0) {
            const row = this.#queue.take();
            if (row === null) break;
            this.#waiters.shift()?.resolve({ value: row, done: false });
        }
        if (this.#queue.ended) this.#finish();
        this.#core.waits(this, this.#waiters.length > 0);
        // The core's queue, by which that keeps the process running, may end before this one.
        if (this.#core.ended && this.#waiters.length > 0) this.#queue.ref();
    }

    #finish() {
        this.#core.followers.delete(this);
        this.#forget();
        for (const waiter of this.#waiters.splice(0)) {
            if (this.#aborted && this.#signal !== undefined) {
                // Once, as the end of an iteration; then it is over.
                this.#aborted = false;
                waiter.reject(abortReason(this.#signal));
            } else {
                waiter.resolve({ value: undefined, done: true });
            }
        }
    }

    close() {
        this.#queue.close();
        this.poll();
    }
}

/** @type {FinalizationRegistry<Source>} */
const forgotten = new FinalizationRegistry((source) => source.close());

/** Events in order, pulled from a queue of their own. */
class EventStream {
    /** @type {Source} */
    #source;
    /** @type {Node} */
    // biome-ignore lint/correctness/noUnusedPrivateClassMembers: whoever has the events has their node, too
    #node;

    /**
     * @param {Node} node
     * @param {Core} core the node's
     * @param {number} kinds
     * @param {Record<string, unknown>} options
     * @param {AbortSignal | undefined} signal
     */
    constructor(node, core, kinds, options, signal) {
        this.#node = node;
        this.#source = new Source(core, kinds, options, signal);
        forgotten.register(this, this.#source, this);
    }

    next() {
        return this.#source.next(this);
    }

    /** @returns {Promise<IteratorResult<Row, undefined>>} */
    async return() {
        forgotten.unregister(this);
        this.#source.close();
        return { value: undefined, done: true };
    }

    [Symbol.asyncIterator]() {
        return this;
    }

    async [asyncDispose]() {
        await this.return();
    }
}

module.exports = { EventStream, Subscription };
