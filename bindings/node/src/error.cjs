"use strict";
// What the library says when something fails, as a JavaScript error.

const { constants } = require("./prototypes.cjs");

/**
 * A failure that the library reported. `code` is its name, such as "P2P_ERROR_LIMIT"; the message is the library's.
 */
class P2pError extends Error {
    /**
     * @param {string} message a whole sentence
     * @param {{ status: number, code: string, systemError?: number | undefined, flags?: number | undefined }} details
     */
    constructor(message, { status, code, systemError = 0, flags = 0 }) {
        super(message);
        this.code = code;
        this.status = status;
        this.systemError = systemError;
        this.temporary = (flags & constants.P2P_ERROR_FLAG_TEMPORARY) !== 0;
        this.timedOut = (flags & constants.P2P_ERROR_FLAG_TIMED_OUT) !== 0;
    }
}
// Not a field of each error: the name belongs to the class, as with the errors of the language.
Object.defineProperty(P2pError.prototype, "name", { value: "P2pError", writable: true, configurable: true });

/** What Node's own functions throw when a signal ends them. */
class AbortError extends Error {
    /** @param {unknown} cause */
    constructor(cause) {
        super("The operation was aborted", { cause });
        this.code = "ABORT_ERR";
    }
}
Object.defineProperty(AbortError.prototype, "name", { value: "AbortError", writable: true, configurable: true });

/**
 * What a promise rejects with when `signal` ended its call: the reason that was given to abort(), else an AbortError.
 * @param {AbortSignal} signal
 * @returns {unknown}
 */
function abortReason(signal) {
    const reason = signal.reason;
    const isDefault =
        Object.prototype.toString.call(reason) === "[object DOMException]" && reason.name === "AbortError";
    return isDefault ? new AbortError(reason) : reason;
}

module.exports = { P2pError, abortReason };
