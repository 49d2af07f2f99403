// The event loop and the thread pool stay free, whatever a tunnel or peer does.

import assert from "node:assert/strict";
import dns from "node:dns";
import { once } from "node:events";
import fs from "node:fs";
import { monitorEventLoopDelay } from "node:perf_hooks";
import { setTimeout as delay } from "node:timers/promises";
import { connect, next, openNode, silentPeer, test, tunnel } from "./support.mjs";

test("a stalled tunnel and a dozen pending connects block neither files, names nor timers", async (t) => {
    // The service never reads.
    const { client, forward } = await tunnel(t, (socket) => socket.pause());
    const opened = client.events({ kinds: "streamOpened" });
    const socket = await connect(t, forward.endpoint);
    await next(opened);
    const part = Buffer.alloc(1 << 20);
    let stalled = false;
    while (!stalled) {
        // Until a piece stays where it is.
        const drained = socket.write(part) ? true : await Promise.race([once(socket, "drain"), delay(300, false)]);
        stalled = drained === false;
    }
    const controller = new AbortController();
    const node = await openNode(t);
    const pending = [];
    for (let i = 0; i < 12; i++) pending.push(node.connect(await silentPeer(t), { signal: controller.signal }));
    const settled = Promise.allSettled(pending);

    const lag = monitorEventLoopDelay({ resolution: 5 });
    lag.enable();
    const started = performance.now();
    await Promise.all([
        ...Array.from({ length: 20 }, () => fs.promises.readFile(new URL(import.meta.url))),
        ...Array.from({ length: 4 }, () => dns.promises.lookup("localhost")),
        delay(50),
    ]);
    const elapsed = performance.now() - started;
    lag.disable();
    assert.ok(elapsed < 2000, `files, names and a timer took ${elapsed} ms`);
    assert.ok(lag.max / 1e6 < 1000, `the loop stood still for ${lag.max / 1e6} ms`);
    assert.equal(client.list("streams").length, 1);

    controller.abort();
    for (const end of await settled) assert.equal(end.reason.name, "AbortError");
    const closing = performance.now();
    await client.close({ drain: 50 });
    assert.ok(performance.now() - closing < 5000);
});

test("closing a node that drains does not stop the loop", async (t) => {
    const { client, forward } = await tunnel(t);
    const opened = client.events({ kinds: "streamOpened" });
    await connect(t, forward.endpoint);
    await next(opened);
    const closing = client.close({ drain: 100 });
    let turns = 0;
    const counting = setInterval(() => turns++, 5);
    await closing;
    clearInterval(counting);
    assert.ok(turns >= 5, `${turns} turns in 100 ms`);
});
