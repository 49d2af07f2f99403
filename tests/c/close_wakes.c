/* Promise: closing a node from another thread wakes every call that waits on it, with P2P_ERROR_CLOSED, at once; a
 * close that drains can be joined by another close and ends when the streams do. */
#include "net.h"

static server black_hole;
static char silent[256];

typedef struct waiter {
    const char *name;
    p2p_status (*call)(struct waiter *self);
    p2p_node node;
    p2p_queue queue;
    p2p_status status;
    p2p_error error;
    int64_t ended;
    atomic_bool entered;
} waiter;

static p2p_status wait_connect(waiter *self) { return p2p_connect(self->node, silent, -1, &self->error); }

static p2p_status wait_forward(waiter *self) {
    p2p_options options = options_of("verify", "true", (char *)NULL);
    p2p_mount mount = 77;
    p2p_status status = p2p_forward(self->node, "test", "127.0.0.1:0", silent, options, &mount, &self->error);
    if (status != P2P_OK) CHECK_INT(mount, 0);
    PLAIN(p2p_options_free(options), P2P_OK);
    return status;
}

static p2p_status wait_event(waiter *self) {
    p2p_event event = 77;
    p2p_status status = p2p_next_event(self->queue, -1, &event, &self->error);
    if (status != P2P_OK) CHECK_INT(event, 0);
    return status;
}

static void *waits(void *context) {
    waiter *self = context;
    atomic_store(&self->entered, true);
    self->status = self->call(self);
    self->ended = now_ms();
    return NULL;
}

static void must_be_quick(const char *what, int64_t since, int64_t until) {
    CHECK(until - since < 2000 * slow(), "%s returned %" PRId64 " ms after the close began", what, until - since);
}

/* Each waits in its own node; the dials have reached the silent peer before the close. */
static void closing_wakes(p2p_status (*call)(waiter *), const char *name, bool dials) {
    STEP(name);
    unsigned before = server_accepted(&black_hole);
    waiter own = {.name = name, .call = call, .node = node_open("transports", "tcp")};
    own.queue = subscribe(own.node, P2P_EVENT_STREAM_OPENED);
    pthread_t thread = thread_start(waits, &own);
    if (dials) server_await(&black_hole, before + 1);
    /* Whether the thread waits inside or comes just after the close, it must hear CLOSED (or a stale handle). */
    EVENTUALLY(atomic_load(&own.entered), 5000, "the thread does not run");
    nap_ms(dials ? 0 : 100);
    int64_t began = now_ms();
    OK(p2p_node_close(own.node, 0, &error));
    must_be_quick("p2p_node_close", began, now_ms());
    thread_join(thread);
    must_be_quick(name, began, own.ended);
    CHECK(own.status == P2P_ERROR_CLOSED && own.error.code == P2P_ERROR_CLOSED,
          "%s: expected P2P_ERROR_CLOSED, got %s: %s", name, p2p_status_name(own.status), own.error.message);
    PLAIN(p2p_queue_close(own.queue), P2P_OK);
}

/* Many at once on one node. */
static void all_together(void) {
    enum { EACH = 4 };
    static p2p_status (*const calls[])(waiter *) = {wait_connect, wait_forward, wait_event};
    waiter waiters[3 * EACH];
    pthread_t threads[3 * EACH];
    STEP("twelve waiters, one close");
    unsigned before = server_accepted(&black_hole);
    p2p_node node = node_open("transports", "tcp");
    p2p_queue queue = subscribe(node, P2P_EVENT_STREAM_OPENED);
    for (int i = 0; i < 3 * EACH; i++) {
        waiters[i] = (waiter){.name = "a waiter", .call = calls[i % 3], .node = node, .queue = queue};
        threads[i] = thread_start(waits, &waiters[i]);
    }
    server_await(&black_hole, before + 1);
    for (int i = 0; i < 3 * EACH; i++) EVENTUALLY(atomic_load(&waiters[i].entered), 5000, "a thread does not run");
    nap_ms(100);
    int64_t began = now_ms();
    OK(p2p_node_close(node, 0, &error));
    for (int i = 0; i < 3 * EACH; i++) {
        thread_join(threads[i]);
        must_be_quick("a waiter", began, waiters[i].ended);
        CHECK(waiters[i].status == P2P_ERROR_CLOSED, "waiter %d: expected P2P_ERROR_CLOSED, got %s: %s", i,
              p2p_status_name(waiters[i].status), waiters[i].error.message);
    }
    PLAIN(p2p_queue_close(queue), P2P_OK);
}

/* A queue can be closed under its reader, too. */
static void queue_close_wakes(void) {
    STEP("p2p_queue_close wakes its reader");
    waiter own = {.name = "p2p_next_event", .call = wait_event, .node = node_open(NULL, NULL)};
    own.queue = subscribe(own.node, P2P_EVENT_STREAM_OPENED);
    pthread_t thread = thread_start(waits, &own);
    EVENTUALLY(atomic_load(&own.entered), 5000, "the thread does not run");
    nap_ms(100);
    int64_t began = now_ms();
    PLAIN(p2p_queue_close(own.queue), P2P_OK);
    thread_join(thread);
    must_be_quick("p2p_next_event", began, own.ended);
    CHECK_INT(own.status, P2P_ERROR_CLOSED);
    OK(p2p_node_close(own.node, 0, &error));
}

static void *closes_with_drain(void *context) {
    waiter *self = context;
    self->status = p2p_node_close(self->node, -1, &self->error);
    self->ended = now_ms();
    return NULL;
}

static void *closes_now(void *context) {
    waiter *self = context;
    self->status = p2p_node_close(self->node, 0, &self->error);
    self->ended = now_ms();
    return NULL;
}

/* Draining: no new clients, live streams run on to their end, whoever closes too waits and gets OK. */
static void draining(void) {
    pair two;
    p2p_event event;
    STEP("a close that drains");
    pair_open(&two, serve_echo, NULL);
    int client = tcp_ping(two.address);
    p2p_queue queue = subscribe(two.near, P2P_EVENT_NODE | P2P_EVENT_STREAM_CLOSED);
    waiter first = {.node = two.near}, second = {.node = two.near};
    pthread_t draining_thread = thread_start(closes_with_drain, &first);
    await(queue, P2P_EVENT_NODE, "state", "closing");
    EVENTUALLY(is_free(two.address), 5000, "%s accepts clients while the node drains", two.address);
    CHECK(ping_fd(client), "the stream does not run on while the node drains");
    FAILS(p2p_next_event(queue, 0, &event, &error), P2P_ERROR_TIMED_OUT);
    pthread_t racing = thread_start(closes_now, &second);
    nap_ms(50);
    close(client);
    int64_t ended = now_ms();
    thread_join(draining_thread);
    thread_join(racing);
    must_be_quick("the draining close", ended, first.ended);
    must_be_quick("the racing close", ended, second.ended);
    CHECK_INT(first.status, P2P_OK);
    CHECK(second.status == P2P_OK || second.status == P2P_ERROR_BAD_HANDLE, "the racing close gave %s",
          p2p_status_name(second.status));
    await(queue, P2P_EVENT_NODE, "state", "closed");
    FAILS(p2p_next_event(queue, -1, &event, &error), P2P_ERROR_CLOSED);
    PLAIN(p2p_queue_close(queue), P2P_OK);

    STEP("a drain that runs out resets");
    two.near = node_open(NULL, NULL);
    forward_to(two.near, "test", two.far_address, &two.forward, two.address);
    client = tcp_ping(two.address);
    int64_t began = now_ms();
    OK(p2p_node_close(two.near, 300, &error));
    CHECK(now_ms() - began >= 290, "the drain of 300 ms ended after %" PRId64 " ms", now_ms() - began);
    must_be_quick("the close", began + 300, now_ms());
    CHECK_INT(end_of(client), ECONNRESET);
    close(client);
    OK(p2p_node_close(two.far, 0, &error));
    server_stop(&two.service);
}

typedef struct {
    p2p_node node;
    p2p_mount mount;
    atomic_int ready;
} contested;

static void *closes_mount(void *context) {
    contested *on = context;
    atomic_fetch_add(&on->ready, 1);
    p2p_status status = p2p_mount_close(on->mount, 0, NULL);
    CHECK(status == P2P_OK || status == P2P_ERROR_BAD_HANDLE, "p2p_mount_close gave %s", p2p_status_name(status));
    return NULL;
}

static void *waits_on_a_new_queue(void *context) {
    contested *on = context;
    p2p_queue queue;
    p2p_event event;
    atomic_fetch_add(&on->ready, 1);
    while (p2p_subscribe(on->node, P2P_EVENT_PEER, 0, &queue, NULL) == P2P_OK) {
        if (atomic_load(&on->ready) >= 100) {
            p2p_status status = p2p_next_event(queue, -1, &event, NULL);
            CHECK(status == P2P_ERROR_CLOSED, "a queue made while the node closes gave %s", p2p_status_name(status));
        }
        PLAIN(p2p_queue_close(queue), P2P_OK);
    }
    return NULL;
}

/* Closes of the same mount, new queues and the close of their node, all at once: nobody waits for ever. */
static void races_with_the_node(void) {
    STEP("a mount closed by two threads, and queues made, while the node is closed");
    for (int round = 0; round < 150; round++) {
        contested on = {.node = node_open("transports", "tcp")};
        pthread_t threads[5];
        OK(p2p_listen(on.node, "x", "127.0.0.1:9", 0, &on.mount, &error));
        for (int i = 0; i < 5; i++) threads[i] = thread_start(i < 2 ? closes_mount : waits_on_a_new_queue, &on);
        while (atomic_load(&on.ready) < 5) sched_yield();
        atomic_store(&on.ready, 100);
        OK(p2p_node_close(on.node, 0, &error));
        for (int i = 0; i < 5; i++) thread_join(threads[i]);
    }
}

int main(void) {
    start(60);
    server_start(&black_hole, serve_sink);
    silent_peer(&black_hole, silent);
    closing_wakes(wait_connect, "p2p_connect", true);
    closing_wakes(wait_forward, "p2p_forward with verify", true);
    closing_wakes(wait_event, "p2p_next_event", false);
    all_together();
    queue_close_wakes();
    draining();
    races_with_the_node();
    server_stop(&black_hole);
    return 0;
}
