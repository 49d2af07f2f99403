"use strict";
// AbortSignals: one listener for each, however many calls it may end. More than ten would look like a leak to Node.

/** @type {WeakMap<AbortSignal, { calls: Set<() => void>, listener: () => void }>} */
const watched = new WeakMap();

/** @param {AbortSignal} signal */
function watch(signal) {
    /** @type {Set<() => void>} */
    const calls = new Set();
    const listener = () => {
        for (const call of calls) call();
    };
    signal.addEventListener("abort", listener, { once: true });
    return { calls, listener };
}

/**
 * Calls `abort` when the signal comes. Returns a function that forgets it.
 * @param {AbortSignal | undefined} signal
 * @param {() => void} abort not given twice for the same signal
 * @returns {() => void}
 */
function onAbort(signal, abort) {
    if (signal === undefined) return () => {};
    const { calls, listener } = watched.get(signal) ?? watch(signal);
    watched.set(signal, { calls, listener });
    calls.add(abort);
    return () => {
        calls.delete(abort);
        if (calls.size > 0) return;
        watched.delete(signal);
        signal.removeEventListener("abort", listener);
    };
}

module.exports = { onAbort };
