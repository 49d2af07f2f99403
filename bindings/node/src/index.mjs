// The same for `import`: one copy of everything, whichever way a program's parts load it.
import implementation from "./index.cjs";

export const { Mount, Node, P2pError, constants, exportKey, get, list, load, set, statusName, version } =
    implementation;
