import p2pmount = require("p2pmount");

export async function open(): Promise<p2pmount.Mount> {
    const node: p2pmount.Node = await p2pmount.Node.open({ network: "local" });
    return node.listen("web", 8080);
}
