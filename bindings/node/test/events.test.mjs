// Events: listeners and iterators.

import assert from "node:assert/strict";
import { once } from "node:events";
import net from "node:net";
import { list, Node } from "p2pmount";
import { exchange, next, openNode, run, serve, test, tunnel } from "./support.mjs";

const queues = () => list("process")[0].handles;
const turn = () => new Promise((resolve) => setImmediate(resolve));

test("each kind comes under its own name, in order, as plain objects", async (t) => {
    const { client, server } = await tunnel(t);
    const seen = [];
    for (const name of ["mount", "streamOpened", "streamClosed", "targetRefused", "refused", "peer", "node", "event"]) {
        client.on(name, (event) => seen.push([name, event]));
    }
    const forward = await client.forward("test", 0, server.addresses);
    const closed = once(client, "streamClosed");
    await exchange(t, forward.endpoint, "hello");
    const [event] = await closed;
    assert.deepEqual([event.kind, event.reason, event.bytesIn, event.bytesOut], ["stream closed", "finished", 5, 5]);
    assert.ok(Math.abs(event.timeMs - Date.now()) < 60000, "not a time");
    await client.close();
    const named = seen.filter(([name]) => name !== "event");
    const kinds = named.map(([name, row]) => (row.state === undefined ? name : `${name} ${row.state}`));
    const position = (kind) => {
        assert.ok(kinds.includes(kind), `${kind} is not among ${kinds}`);
        return kinds.indexOf(kind);
    };
    const order = ["peer connected", "streamOpened", "streamClosed", "node closing", "node closed"].map(position);
    assert.deepEqual(
        order,
        order.toSorted((a, b) => a - b),
    );
    const generic = seen.filter(([name]) => name === "event").map(([, row]) => row);
    assert.deepEqual(
        generic.filter((row) => row.kind !== "operation" && row.kind !== "address"),
        named.map(([, row]) => row),
    );
});

test("the side of the service hears of a target that refuses, by name, code and sentence", async (t) => {
    const { client, server } = await tunnel(t);
    const probe = await serve(t, () => {});
    // A port that nobody has: a Unix path that does not exist is refused just so.
    server.listen("down", { path: `/tmp/p2pmount-no-such-${process.pid}-${probe.port}` });
    const forward = await client.forward("down", 0, server.addresses);
    const refused = once(server, "targetRefused");
    const socket = net.connect(forward.endpoint);
    const closed = new Promise((resolve) => socket.on("error", resolve));
    const [event] = await refused;
    assert.equal(event.code, 13);
    assert.match(event.message, /p2pmount-no-such/);
    assert.equal((await closed).code, "ECONNRESET");
});

test("without listeners there is no queue, and it goes with the last of them", async (t) => {
    const node = await openNode(t);
    const before = queues();
    const listener = () => {};
    node.on("peer", listener);
    assert.equal(queues(), before + 1);
    node.on("mount", listener).once("node", listener).prependListener("address", listener);
    assert.equal(queues(), before + 1);
    node.on("something", listener);
    node.off("peer", listener).removeListener("mount", listener);
    node.removeAllListeners("node");
    await turn();
    assert.equal(queues(), before + 1);
    node.removeAllListeners();
    await turn();
    assert.equal(queues(), before);
    node.on("event", listener);
    assert.equal(queues(), before + 1);
    node.off("event", listener);
    await turn();
    assert.equal(queues(), before);
});

test("a kind that nobody listens for is not even made", async (t) => {
    const { client, server } = await tunnel(t);
    const seen = [];
    client.on("streamOpened", (event) => seen.push(event));
    const forward = await client.forward("test", 0, server.addresses);
    const opened = once(client, "streamOpened");
    await exchange(t, forward.endpoint, "hello");
    await opened;
    // The queue numbers all that it gets.
    assert.deepEqual(
        seen.map((event) => event.sequence),
        [1],
    );
});

test("listening for more kinds meanwhile loses nothing, repeats nothing and keeps the order", async (t) => {
    const { client, server } = await tunnel(t);
    const seen = [];
    const record = (event) => seen.push(`${event.kind} ${event.listen ?? event.mount}`);
    client.on("mount", record);
    const forwards = [];
    for (let i = 0; i < 30; i++) {
        forwards.push(await client.forward("test", 0, server.addresses));
        // Between two events of a kind that is listened for, the queue is replaced by another again and again.
        const extra = () => {};
        const name = ["peer", "address", "refused", "node"][i % 4];
        client.on(name, extra);
        forwards.at(-1).close();
        client.off(name, extra);
        if (i % 5 === 0) await turn();
    }
    await client.close();
    const expected = forwards.flatMap((forward) => Array(2).fill(`mount ${forward.address}`));
    assert.deepEqual(
        seen.filter((text) => forwards.some((forward) => text.endsWith(forward.address))),
        expected,
    );
});

test("listening for more kinds while streams come from the other threads loses none and repeats none", async (t) => {
    const { client, forward } = await tunnel(t);
    const seen = [];
    client.on("streamClosed", (event) => seen.push(event.stream));
    const extra = () => {};
    let replaced = 0;
    let busy = true;
    const replacing = (async () => {
        for (; busy; replaced++) {
            client.on("address", extra).off("address", extra);
            await turn();
        }
    })();
    for (let i = 0; i < 20; i++) {
        await Promise.all(Array.from({ length: 10 }, () => exchange(t, forward.endpoint, "hello")));
    }
    busy = false;
    await replacing;
    await client.close({ drain: 10000 });
    assert.ok(replaced > 20, `${replaced} times`);
    assert.deepEqual(
        seen.toSorted((a, b) => a - b),
        Array.from({ length: 200 }, (_, number) => number),
    );
});

test("close resolves after the last event was heard, however many there are", async () => {
    const node = await Node.open();
    for (let i = 0; i < 300; i++) node.listen(`service-${i}`, 8080);
    let closed = 0;
    node.on("mount", ({ state }) => {
        if (state === "closed") closed++;
    });
    await node.close();
    assert.equal(closed, 300);
});

test("once, events.once and off work as everywhere", async (t) => {
    const node = await openNode(t);
    let calls = 0;
    node.once("mount", () => calls++);
    const [made] = await Promise.all([once(node, "mount"), node.listen("a", 8080)]);
    assert.equal(made[0].state, "listening");
    node.listen("b", 8080);
    const [second] = await once(node, "mount");
    assert.equal(second.protocol, "/x/b");
    assert.equal(calls, 1);
    const controller = new AbortController();
    const ended = assert.rejects(once(node, "peer", { signal: controller.signal }), { name: "AbortError" });
    controller.abort();
    await ended;
    assert.deepEqual(node.eventNames(), []);
});

test("listening on a node that is closed is no error", async () => {
    const node = await Node.open();
    const closing = node.close();
    node.on("peer", () => {});
    await closing;
    node.on("mount", () => {}).removeAllListeners();
});

test("a listener that throws is an uncaught exception, and the other events still come", async (t) => {
    const program = `
        import { Node } from "p2pmount";
        const node = await Node.open();
        const said = [];
        process.on("uncaughtException", (error) => said.push(error.message));
        node.on("mount", (event) => { throw new Error(event.protocol); });
        for (const name of ["a", "b", "c"]) node.listen(name, 8080);
        node.closeMounts({ all: true });
        await node.close();
        setImmediate(() => console.log(said.length, said.slice(0, 3).join()));
    `;
    const { ended } = run(t, ["--input-type=module", "--eval", program]);
    const { code, output, errors } = await ended;
    assert.equal(errors, "");
    assert.match(output, /^6 \/x\/a,\/x\/b,\/x\/c$/m);
    assert.equal(code, 0);
});

test("what listens for every event hears also the one at which another listener throws", async (t) => {
    const program = `
        import { Node } from "p2pmount";
        const node = await Node.open();
        let faults = 0;
        let heard = 0;
        process.on("uncaughtException", () => faults++);
        node.on("mount", () => { throw new Error("mine"); }).on("event", ({ kind }) => {
            if (kind === "mount") heard++;
        });
        node.listen("a", 8080);
        await node.close();
        setImmediate(() => console.log(faults, heard));
    `;
    const { code, output, errors } = await run(t, ["--input-type=module", "--eval", program]).ended;
    assert.deepEqual([output, errors, code], ["2 2\n", "", 0]);
});

test("without descriptors a listener is refused and not registered, and taking one away is no error", async (t) => {
    const program = `
        import fs from "node:fs";
        import { Node } from "p2pmount";
        const node = await Node.open({ "listen.addresses": [] });
        const heard = [];
        const listener = ({ protocol, state }) => heard.push(protocol + " " + state);
        node.on("mount", listener).on("peer", listener).once("address", listener);
        const taken = [];
        try {
            for (;;) taken.push(fs.openSync("/dev/null"));
        } catch ({ code }) {
            console.log(code);
        }
        node.off("peer", listener).off("address", listener);
        await new Promise((resolve) => setTimeout(resolve, 20));
        node.listen("early", 8080);
        for (const add of ["on", "once", "addListener", "prependListener", "prependOnceListener"]) {
            try {
                node[add]("refused", listener);
            } catch ({ code }) {
                console.log(add, code, node.listenerCount("refused"));
            }
        }
        await new Promise((resolve) => setTimeout(resolve, 20));
        console.log(heard.splice(0).join());
        for (const descriptor of taken) fs.closeSync(descriptor);
        node.closeMounts({ protocol: "early" });
        node.listen("a", 8080);
        node.on("node", () => {});
        node.listen("b", 8080);
        await node.close();
        console.log(heard.join());
    `;
    const text = 'ulimit -n 100 && exec "$0" "$@"';
    const { code, output, errors } = await run(t, ["--input-type=module", "--eval", program], { shell: text }).ended;
    assert.equal(errors, "");
    const refused = ["on", "once", "addListener", "prependListener", "prependOnceListener"];
    assert.deepEqual(output.split("\n"), [
        "EMFILE",
        ...refused.map((add) => `${add} P2P_ERROR_SYSTEM 0`),
        "/x/early listening",
        "/x/early closed,/x/a listening,/x/b listening,/x/a closed,/x/b closed",
        "",
    ]);
    assert.equal(code, 0);
});

test("what is no function is refused as a listener, and leaves no queue", async (t) => {
    const node = await openNode(t);
    const before = queues();
    assert.throws(() => node.on("peer", "listener"), { code: "ERR_INVALID_ARG_TYPE" });
    await turn();
    assert.deepEqual([node.eventNames(), queues()], [[], before]);
});

test("an iterator gives the events of its kinds from the call on, and ends with the node", async (t) => {
    const node = await Node.open();
    node.listen("before", 8080);
    const events = node.events({ kinds: ["mount", "node"] });
    node.listen("after", 8080);
    const seen = [];
    const reading = (async () => {
        for await (const event of events) seen.push(`${event.kind} ${event.protocol ?? ""} ${event.state}`);
    })();
    await node.close();
    await reading;
    assert.deepEqual(seen, [
        "mount /x/after listening",
        "node  closing",
        "mount /x/before closed",
        "mount /x/after closed",
        "node  closed",
    ]);
    assert.deepEqual(await events.next(), { value: undefined, done: true });
    t.diagnostic(seen.join(", "));
});

test("what a queue held when the node was closed can still be read", async () => {
    const node = await Node.open();
    const events = node.events({ kinds: "mount" });
    node.listen("a", 8080);
    await node.close();
    const states = [];
    for await (const event of events) states.push(event.state);
    assert.deepEqual(states, ["listening", "closed"]);
});

test("leaving the loop, return() and a signal free the queue", async (t) => {
    const node = await openNode(t);
    const before = queues();
    node.events();
    const first = node.events({ kinds: "mount" });
    node.listen("a", 8080);
    for await (const event of first) {
        assert.equal(event.protocol, "/x/a");
        break;
    }
    const second = node.events();
    const waiting = second.next();
    await second.return();
    assert.deepEqual(await waiting, { value: undefined, done: true });
    const disposed = node.events();
    await disposed[Symbol.asyncDispose]();
    assert.deepEqual(await disposed.next(), { value: undefined, done: true });
    const controller = new AbortController();
    const third = node.events({ signal: controller.signal });
    const aborted = assert.rejects(third.next(), { name: "AbortError", code: "ABORT_ERR" });
    controller.abort();
    await aborted;
    assert.deepEqual(await third.next(), { value: undefined, done: true });
    await assert.rejects(node.events({ signal: AbortSignal.abort() }).next(), { name: "AbortError" });
    assert.equal(queues() - before, 1 + 1, "the one that is still held, and the mount");
});

test("several may wait for the next event of one iterator, and are served in order", async (t) => {
    const node = await openNode(t);
    const events = node.events({ kinds: "mount" });
    const waiting = [events.next(), events.next()];
    node.listen("a", 8080);
    node.listen("b", 8080);
    const results = await Promise.all(waiting);
    assert.deepEqual(
        results.map((result) => result.value.protocol),
        ["/x/a", "/x/b"],
    );
});

test("an iterator that is read slowly is bounded and told what it lost", async (t) => {
    const { client, server } = await tunnel(t);
    const forward = await client.forward("test", 0, server.addresses);
    const events = client.events({ kinds: ["streamOpened", "streamClosed"], "queue.capacity": 4 });
    const counting = client.events({ kinds: "streamClosed" });
    for (let i = 0; i < 6; i++) {
        await exchange(t, forward.endpoint, "hello");
        await next(counting);
    }
    const overflow = await next(events);
    assert.deepEqual([overflow.kind, overflow.count], ["overflow", 8]);
    for (let left = 4; left > 0; left--) assert.match((await next(events)).kind, /^stream /);
});

test("a kind that this package does not know is taken as a number", async (t) => {
    const node = await openNode(t);
    const events = node.events({ kinds: [1 << 20, "mount"] });
    node.listen("a", 8080);
    assert.equal((await next(events)).kind, "mount");
});
