// Exposes a local TCP service to other peers under a protocol name, or ties a local address to it.
//
//     node tunnel.mjs expose [name=value ...] PROTOCOL TARGET [name=value ...]
//     node tunnel.mjs forward [name=value ...] PROTOCOL LISTEN PEER [name=value ...]
//
//     node tunnel.mjs expose my-web 127.0.0.1:8080
//     node tunnel.mjs forward my-web 127.0.0.1:9090 /ip4/192.0.2.7/tcp/4001/p2p/12D3KooW... verify=true
//
// `expose` prints the addresses that `forward` takes as PEER (one or several, comma separated), `forward` the address to
// connect to. Both run until the line "quit" or the end of their input.

import { openMount, runMain, untilQuit } from "./common.mjs";

const USAGE = `usage: tunnel.mjs expose [name=value ...] PROTOCOL TARGET [name=value ...]
       tunnel.mjs forward [name=value ...] PROTOCOL LISTEN PEER [name=value ...]`;

await runMain(USAGE, async (args) => {
    const { node, mount } = await openMount(args);
    await untilQuit();
    // No new connections; those that run may finish, for at most two seconds.
    mount.close();
    await node.close({ drain: 2000 });
});
