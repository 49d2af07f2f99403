// What a program may write, and what it may not.
import {
    type AnyEvent,
    constants,
    get,
    type ListenerRow,
    list,
    load,
    Mount,
    Node,
    P2pError,
    set,
    statusName,
    version,
} from "p2pmount";

const file: string = load();
const text: string = version() + statusName(17) + file;
set("log.level", "info");
set("log.fd", 2);
const source: "default" | "environment" | "options" | "set" = get("log.level").source;
const limit: number = constants.P2P_ERROR_LIMIT;
const options: string[] = list("options").map((row) => row.doc);

const node: Node = await Node.open({ transports: ["tcp", "quic"], "open.timeout": 500, "identity.file": undefined });
const own: [string, string[], boolean] = [node.peerId, node.addresses, node.closed];

const listener: Mount = node.listen("web", 8080, { "peers.allow": [] });
node.listen("web", "127.0.0.1:8080");
node.listen("web", { host: "::1", port: 8080 });
node.listen("web", { path: "/run/s" });
node.listen("web", { address: "127.0.0.1", family: "IPv4", port: 8080 } as { address: string; port: number });
// @ts-expect-error
node.listen("web");
// @ts-expect-error
node.listen("web", { path: "/run/s", port: 8080 });
// @ts-expect-error
node.listen(5, 8080);
// @ts-expect-error
node.listen("web", 8080, { "target.timeout": null });

const forward: Mount = await node.forward("web", 0, node.addresses, { verify: true, signal: AbortSignal.timeout(500) });
const endpoint: { host: string; port: number } | { path: string } | undefined = forward.endpoint;
// @ts-expect-error
forward.address = "";
// @ts-expect-error
await node.connect("12D3", { timeout: "5s" });
await node.connect(["/ip4/127.0.0.1/tcp/1/p2p/12D3"], { timeout: 5, signal: new AbortController().signal });

const listeners: ListenerRow[] = node.list("listeners");
const bytes: number[] = node.list("streams").map((row) => row.bytesIn);
for (const row of node.list()) {
    if (row.kind === "forward") row.peer.toUpperCase();
    else row.access.toUpperCase();
}
for (const row of node.list("listeners", "streams")) console.log(row.kind === "stream" ? row.origin : row.access);
// Rows may have what this version does not know.
const unknown: unknown = node.list("peers")[0]?.somethingNew;
const count: number = node.closeMounts({ protocol: "web", streams: true }) + node.closeMounts({ all: true });
// @ts-expect-error
node.closeMounts({ protocl: "web" });
node.closeStream(7);

node.on("streamClosed", (event) => console.log(event.reason.length, event.bytesIn + 1))
    .once("peer", (event) => console.log(event.state === "connected"))
    .on("event", (event: AnyEvent) => console.log(event.kind))
    .on("somethingNew", (event) => console.log(event.kind))
    .ref()
    .unref();

for await (const event of node.events({ kinds: ["streamOpened", "streamClosed"], "queue.capacity": 10 })) {
    if (event.kind === "stream closed") console.log(event.reason);
    else if (event.kind === "overflow") console.log(event.count);
    else console.log(event.origin);
}
for await (const event of node.events()) console.log(event.kind, event.timeMs);
{
    await using peers = node.events({ kinds: "peer" });
    const { value } = await peers.next();
    if (value?.kind === "peer") console.log(value.direction === "inbound", value.message?.length);
}
node.on("refused", ({ origin, mount, systemError, flags }) => console.log(origin?.length, mount, systemError + flags));
for await (const event of node.events({ kinds: 1024 })) console.log(event.sequence);
// @ts-expect-error
node.events({ kinds: true });

try {
    await node.close({ drain: 2000 });
} catch (error) {
    if (error instanceof P2pError && error.code === "P2P_ERROR_LIMIT" && error.temporary)
        console.log(error.status, error.systemError);
}
await using second = await Node.open();
using temporary = second.listen("web", 8080);
// @ts-expect-error
new Node();
// @ts-expect-error
new Mount();

export { bytes, count, endpoint, limit, listener, listeners, options, own, source, temporary, text, unknown };
