// index.d.cts says what main.cjs is: the same names, and parameters of the same types.
import declared = require("../../src/index.cjs");
import main = require("../../src/main.cjs");

type Same<A, B> = [A] extends [B] ? ([B] extends [A] ? true : [B, "is not", A]) : [A, "is not", B];
type Names<T> = Extract<keyof T, string>;
const yes: Same<true, true> = true;

export const exports_: Same<keyof typeof main, keyof typeof declared> = yes;
export const names: Same<keyof typeof main.constants, keyof typeof declared.constants> = yes;
// What the implementation overrides only to hear of it is EventEmitter's in the declaration.
export const node: Same<Names<main.Node>, Names<declared.Node>> = yes;
export const mount: Same<Names<main.Mount>, Names<declared.Mount>> = yes;

type Methods<T> = { [K in keyof T]: T[K] extends (...values: infer P) => unknown ? P["length"] : never };
type Own = "listen" | "forward" | "connect" | "closeMounts" | "closeStream" | "set" | "get" | "close" | "ref" | "unref";
export const parameters: Same<Pick<Methods<main.Node>, Own>, Pick<Methods<declared.Node>, Own>> = yes;
export const ofMounts: Same<
    Methods<Pick<main.Mount, "set" | "get" | "close">>,
    Methods<Pick<declared.Mount, "set" | "get" | "close">>
> = yes;

declare const made: main.Node;
export const closed: Promise<void> = made.close({ drain: 5 });
export const forwarded: Promise<main.Mount> = made.forward("web", 0, ["a"], {});
export const error: declared.P2pError = new main.P2pError("a", { status: 17, code: "P2P_ERROR_LIMIT" });
