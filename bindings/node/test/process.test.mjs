// What keeps the process running, how it ends, and threads, in programs of their own.

import assert from "node:assert/strict";
import { once } from "node:events";
import { Worker } from "node:worker_threads";
import { list, Node } from "p2pmount";
import { echo, exchange, openNode, run, runText, serve, silentPeer, test } from "./support.mjs";

const program = (body) => `
    import { Node } from "p2pmount";
    import { once } from "node:events";
    const node = await Node.open();
    process.on("exit", () => console.log("exit"));
    ${body}
`;

/** Whether a program is still there after the loop had nothing else to do. */
async function staysUp(t, body) {
    // A timer that is not referenced fires only if something else keeps the process running.
    const { ended } = runText(
        t,
        program(`${body}; setTimeout(() => { console.log("up"); process.exit(); }, 200).unref();`),
    );
    const { code, output, errors } = await ended;
    assert.equal(errors, "");
    assert.equal(code, 0);
    return output.includes("up");
}

test("a node keeps the process running while it has mounts, and no longer", async (t) => {
    assert.equal(await staysUp(t, ""), false, "a node without mounts");
    assert.equal(await staysUp(t, 'node.on("event", () => {})'), false, "with listeners for events only");
    assert.equal(await staysUp(t, 'node.listen("a", 8080)'), true, "a mount");
    assert.equal(await staysUp(t, 'node.listen("a", 8080).close()'), false, "a mount that was closed");
    assert.equal(await staysUp(t, 'node.listen("a", 8080); node.closeMounts({ all: true })'), false, "all closed");
    assert.equal(await staysUp(t, 'node.listen("a", 8080); await node.close()'), false, "a node that was closed");
});

test("unref() lets the process end, ref() takes it back", async (t) => {
    assert.equal(await staysUp(t, 'node.listen("a", 8080); node.unref()'), false);
    assert.equal(await staysUp(t, 'node.unref().listen("a", 8080)'), false);
    assert.equal(await staysUp(t, 'node.unref().listen("a", 8080); node.ref()'), true);
});

test("a call that is awaited keeps the process running, also of a node that is unreferenced", async (t) => {
    const peer = await silentPeer(t);
    const body = `
        node.unref();
        await node.connect(${JSON.stringify(peer)}, { timeout: 50 }).catch((error) => console.log(error.code));
        await node.close();
        console.log("closed");
    `;
    const { output } = await runText(t, program(body)).ended;
    assert.equal(output, "P2P_ERROR_TIMED_OUT\nclosed\nexit\n");
});

test("an event that is waited for keeps the process running, unless the node is unreferenced", async (t) => {
    const wait = "(async () => { for await (const event of node.events({ kinds: 'peer' })); })()";
    assert.equal(await staysUp(t, wait), true);
    assert.equal(await staysUp(t, `node.unref(); ${wait}`), false);
    assert.equal(await staysUp(t, "node.events()"), false);
});

test("a node with mounts lives on when nobody holds it; one without is closed by the garbage collector", async (t) => {
    const text = `
        import { list, Node } from "p2pmount";
        const turn = () => new Promise((resolve) => setTimeout(resolve, 5));
        const nodes = () => list("process")[0].nodes;
        await (async () => { (await Node.open()).listen("kept", 8080); })();
        await (async () => { for (let i = 0; i < 5; i++) await Node.open(); })();
        await (async () => { const node = await Node.open(); node.on("peer", () => {}).removeAllListeners(); })();
        await (async () => { const node = await Node.open(); node.listen("gone", 8080).close(); })();
        while (nodes() > 1) { await turn(); globalThis.gc(); }
        for (let i = 0; i < 5; i++) { await turn(); globalThis.gc(); }
        console.log(nodes());
        const node = await Node.open();
        const before = list("process")[0].handles;
        (() => { for (let i = 0; i < 5; i++) node.events(); })();
        while (list("process")[0].handles > before) { await turn(); globalThis.gc(); }
        console.log("freed");
        process.exit(node.closed ? 1 : 0);
    `;
    const { code, output, errors } = await run(t, ["--expose-gc", "--input-type=module", "--eval", text]).ended;
    assert.deepEqual([output, errors, code], ["1\nfreed\n", "", 0]);
});

test("what somebody waits for lives on when nobody holds it: an event, an iterator, a mount's node", async (t) => {
    const text = `
        import { list, Node } from "p2pmount";
        const collect = async () => {
            for (let i = 0; i < 20; i++) {
                await new Promise((resolve) => setTimeout(resolve, 5));
                globalThis.gc();
            }
        };
        const nodes = () => list("process")[0].nodes;
        const ends = [];
        const events = await (async () => (await Node.open()).events())();
        const mount = await (async () => {
            const node = await Node.open();
            const mount = node.listen("a", 8080);
            node.listen("b", 8080);
            node.closeMounts({ protocol: "b" });
            mount.close();
            return mount;
        })();
        let addresses;
        await (async () => {
            const node = await Node.open();
            addresses = node.addresses;
            node.events({ kinds: "peer" }).next().then(({ value }) => ends.push("next " + value?.state));
        })();
        let looped;
        await (async () => {
            const node = await Node.open();
            looped = node.addresses;
            (async () => {
                for await (const { state } of node.events({ kinds: "peer" })) ends.push("loop " + state);
                ends.push("the loop ended");
            })();
        })();
        await collect();
        console.log(nodes(), ends.length, typeof events.next, mount.kind);
        const other = await Node.open();
        await other.connect(addresses);
        while (ends.length < 1) await new Promise(setImmediate);
        await other.connect(looped);
        while (ends.length < 2) await new Promise(setImmediate);
        console.log(ends.join());
        process.exit();
    `;
    const { code, output, errors } = await run(t, ["--expose-gc", "--input-type=module", "--eval", text]).ended;
    assert.deepEqual([output, errors, code], ["4 0 function listener\nnext connected,loop connected\n", "", 0]);
});

const WORKER = `
    import { parentPort, workerData } from "node:worker_threads";
    import { Node } from "p2pmount";
    const node = await Node.open({ transports: "tcp" });
    if (workerData.target !== undefined) {
        node.listen("test", workerData.target);
        parentPort.postMessage(node.addresses);
    } else {
        parentPort.postMessage((await node.forward("test", 0, workerData.peer)).endpoint);
    }
    parentPort.once("message", () => process.exit());
`;

function worker(t, workerData) {
    const url = new URL(
        `data:text/javascript,${encodeURIComponent(WORKER.replace('"p2pmount"', JSON.stringify(import.meta.resolve("p2pmount"))))}`,
    );
    const made = new Worker(url, { workerData });
    t.after(() => made.terminate());
    return made;
}

test("two workers each have a node of their own, and one that ends closes its node", async (t) => {
    const before = list("process")[0].nodes;
    const first = worker(t, { target: await serve(t, echo) });
    const [peer] = await once(first, "message");
    const second = worker(t, { peer });
    const [endpoint] = await once(second, "message");
    const here = await openNode(t);
    assert.equal(String(await exchange(t, endpoint, "through two threads")), "through two threads");
    const forward = await here.forward("test", 0, peer);
    assert.equal(String(await exchange(t, forward.endpoint, "and here")), "and here");
    // What the third node sees: the peer goes when its worker ends.
    const gone = once(here, "peer");
    for (const ending of [first, second]) {
        const exit = once(ending, "exit");
        ending.postMessage("end");
        await exit;
    }
    assert.equal((await gone)[0].state, "disconnected");
    const deadline = Date.now() + 10000;
    while (list("process")[0].nodes > before + 1 && Date.now() < deadline) await new Promise(setImmediate);
    assert.equal(list("process")[0].nodes, before + 1);
});

test("neither ref() nor unref() nor what is read after the end of a node makes Node warn", async () => {
    const node = await Node.open();
    const events = node.events({ kinds: "mount" });
    for (let i = 0; i < 20; i++) node.listen(`service-${i}`, 8080);
    await node.close();
    let count = 0;
    for await (const _ of events) count++;
    assert.equal(count, 40);
    for (let i = 0; i < 15; i++) node.unref().ref();
    // Warnings are looked for by every test; see support.mjs.
});

test("a child process inherits nothing: a port that is closed here is free although the child lives", async (t) => {
    const node = await openNode(t);
    const forward = await node.forward("test", 0, await silentPeer(t));
    const { child, line, ended } = runText(t, 'console.log("up"); process.stdin.resume();');
    assert.equal(await line(), "up");
    forward.close();
    await serve(t, echo, forward.endpoint);
    child.stdin.end();
    assert.equal((await ended).code, 0);
});

test("a hundred nodes opened and closed leave no descriptor behind", async () => {
    const fs = await import("node:fs");
    const count = () => fs.readdirSync("/proc/self/fd").length;
    await (await Node.open()).close();
    const before = count();
    for (let i = 0; i < 100; i += 10) {
        const nodes = await Promise.all(Array.from({ length: 10 }, () => Node.open({ "listen.addresses": [] })));
        for (const node of nodes) node.on("event", () => {});
        await Promise.all(nodes.map((node) => node.close()));
    }
    // Node closes the descriptors of sockets a turn of its loop later.
    await new Promise(setImmediate);
    assert.ok(count() <= before, `${count()} descriptors, before ${before}`);
});
