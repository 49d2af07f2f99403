// Calls that wait for the network: their ends, limits and signals.

import assert from "node:assert/strict";
import { getEventListeners } from "node:events";
import { list, Node, P2pError } from "p2pmount";
import { connect, exchange, NOBODY, next, openNode, serve, silentPeer, test, tunnel } from "./support.mjs";

test("a connection that cannot be made is UNREACHABLE, with the address and why", async (t) => {
    const node = await openNode(t);
    await assert.rejects(node.connect(NOBODY), (error) => {
        assert.ok(error instanceof P2pError);
        assert.equal(error.code, "P2P_ERROR_UNREACHABLE");
        assert.match(error.message, /127\.0\.0\.1\/tcp\/1/);
        assert.match(error.stack, /operations\.test\.mjs/, "the stack does not lead to the call");
        assert.equal(error.timedOut, false);
        return true;
    });
});

test("a timeout ends connect with TIMED_OUT; 0 only looks", async (t) => {
    const node = await openNode(t);
    const peer = await silentPeer(t);
    await assert.rejects(node.connect(peer, { timeout: 30 }), (error) => {
        assert.deepEqual([error.code, error.status, error.timedOut], ["P2P_ERROR_TIMED_OUT", 14, true]);
        return true;
    });
    await assert.rejects(node.connect(peer, { timeout: 0 }));
    const other = await openNode(t);
    await node.connect(other.addresses, { timeout: Number.POSITIVE_INFINITY });
    await node.connect(other.addresses, { timeout: 0 });
});

test("a verified forward fails with the reason, and nothing of it is left", async (t) => {
    const { client, server } = await tunnel(t);
    await assert.rejects(client.forward("none", 0, server.addresses, { verify: true }), {
        code: "P2P_ERROR_PROTOCOL_REFUSED",
    });
    await assert.rejects(client.forward("none", 0, NOBODY, { verify: true }), { code: "P2P_ERROR_UNREACHABLE" });
    assert.equal(client.list("forwards").length, 1);
});

test("a signal ends connect and forward early, with its reason, and nothing is left", async (t) => {
    const node = await openNode(t);
    const peer = await silentPeer(t);
    for (const start of [
        (signal) => node.connect(peer, { signal }),
        (signal) => node.forward("a", 0, peer, { verify: true, signal }),
    ]) {
        const controller = new AbortController();
        const reason = new Error("changed my mind");
        const ended = assert.rejects(start(controller.signal), (error) => error === reason);
        assert.equal(getEventListeners(controller.signal, "abort").length, 1);
        controller.abort(reason);
        await ended;
        assert.equal(getEventListeners(controller.signal, "abort").length, 0);
    }
    assert.deepEqual(node.list(), []);
});

test("without a reason it is an AbortError with Node's code; of a time limit the TimeoutError", async (t) => {
    const node = await openNode(t);
    const peer = await silentPeer(t);
    const controller = new AbortController();
    const ended = assert.rejects(
        node.connect(peer, { signal: controller.signal }),
        ({ name, code, cause }) => name === "AbortError" && code === "ABORT_ERR" && cause === controller.signal.reason,
    );
    controller.abort();
    await ended;
    await assert.rejects(node.connect(peer, { signal: AbortSignal.timeout(20) }), { name: "TimeoutError" });
});

test("a signal that is aborted already starts nothing", async (t) => {
    const { client, server, forward } = await tunnel(t);
    const { handles } = list("process")[0];
    const signal = AbortSignal.abort();
    await assert.rejects(client.connect(server.addresses, { signal }), { name: "AbortError" });
    await assert.rejects(client.forward("test", 0, server.addresses, { signal }), { name: "AbortError" });
    await assert.rejects(client.close({ signal }), { name: "AbortError" });
    assert.equal(client.closed, false);
    assert.equal(list("process")[0].handles, handles);
    assert.equal(String(await exchange(t, forward.endpoint, "still")), "still");
});

test("an abort after the end changes nothing", async (t) => {
    const { client, server } = await tunnel(t);
    const controller = new AbortController();
    const forward = await client.forward("test", 0, server.addresses, { signal: controller.signal });
    assert.equal(getEventListeners(controller.signal, "abort").length, 0);
    controller.abort();
    assert.equal(String(await exchange(t, forward.endpoint, "hello")), "hello");
});

test("many operations at once each get their own end", async (t) => {
    const node = await openNode(t);
    const other = await openNode(t);
    const peer = await silentPeer(t);
    const controller = new AbortController();
    const calls = [];
    for (let i = 0; i < 40; i++) {
        calls.push(node.connect(other.addresses).then(() => "connected"));
        calls.push(node.connect(NOBODY).catch((error) => error.code));
        calls.push(node.connect(peer, { signal: controller.signal }).catch((error) => error.name));
    }
    Promise.allSettled(calls.filter((_, i) => i % 3 !== 2)).then(() => controller.abort());
    const ends = await Promise.all(calls);
    const expected = ["connected", "P2P_ERROR_UNREACHABLE", "AbortError"];
    assert.deepEqual(
        ends,
        ends.map((_, i) => expected[i % 3]),
    );
});

test("closing the node ends what still goes on with CLOSED", async (t) => {
    const node = await Node.open();
    const peer = await silentPeer(t);
    const connecting = assert.rejects(node.connect(peer), { code: "P2P_ERROR_CLOSED" });
    const forwarding = assert.rejects(node.forward("a", 0, peer, { verify: true }), { code: "P2P_ERROR_CLOSED" });
    await node.close();
    await Promise.all([connecting, forwarding]);
});

test("a signal ends the draining: the streams are reset, and the node is closed all the same", async (t) => {
    const { client, forward } = await tunnel(t);
    const opened = client.events({ kinds: "streamOpened" });
    const socket = await connect(t, forward.endpoint);
    await next(opened);
    const reset = new Promise((resolve) => socket.once("error", resolve));
    const controller = new AbortController();
    const reason = new Error("enough");
    const patient = client.close({ drain: Number.POSITIVE_INFINITY });
    const hasty = assert.rejects(client.close({ signal: controller.signal }), (error) => error === reason);
    controller.abort(reason);
    await Promise.all([patient, hasty]);
    assert.equal((await reset).code, "ECONNRESET");
    await serve(t, () => {}, forward.endpoint);
});
