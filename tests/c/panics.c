/* Promise: a panic inside the library ends what it happened in (a call, a stream, a mount, a node) with
 * P2P_ERROR_INTERNAL and an event, wakes every waiter, prints nothing, and leaves the rest alone. Needs the feature
 * fault-injection. */
#include "net.h"

p2p_status p2p_test_fault(const char *place);

static p2p_queue near, far;

/* The panic can strike either node: whichever queue has the event. */
static p2p_event await_either(int64_t kind, const char *field, const char *value) {
    int64_t until = now_ms() + 10000 * slow();
    for (;;) {
        p2p_event event;
        p2p_queue queues[] = {near, far};
        for (int i = 0; i < 2; i++)
            while (p2p_next_event(queues[i], 10, &event, NULL) == P2P_OK) {
                if (number(event, 0, "event") == kind && strcmp(text(event, 0, field), value) == 0) return event;
                PLAIN(p2p_event_free(event), P2P_OK);
            }
        CHECK(now_ms() < until, "no event %" PRId64 " with %s=%s", kind, field, value);
    }
}

static void must_be_internal(p2p_event event) {
    CHECK_INT(number(event, 0, "code"), P2P_ERROR_INTERNAL);
    CHECK(text(event, 0, "message")[0] != '\0', "the event has no sentence");
    PLAIN(p2p_event_free(event), P2P_OK);
}

static void echo_must_work(const pair *two) {
    const char *wrong = echo_check(two->address, 100000, 5);
    CHECK(wrong == NULL, "%s", wrong);
}

static void in_a_call(pair *two) {
    char id[P2P_PEER_ID_SIZE];
    STEP("panic in a call");
    PLAIN(p2p_test_fault("entry"), P2P_OK);
    FAILS(p2p_node_peer_id(two->near, id, sizeof id, &error), P2P_ERROR_INTERNAL);
    OK(p2p_node_peer_id(two->near, id, sizeof id, &error));
    PLAIN(p2p_test_fault("entry"), P2P_OK);
    PLAIN(p2p_node_peer_id(two->near, id, sizeof id, NULL), P2P_ERROR_INTERNAL);
    echo_must_work(two);
}

/* 0 if the stream still echoes, else the errno of the call that met its end; -1 for an end of file. */
static int still_echoes(int fd) {
    char answer[5];
    if (!send_all(fd, "ping!", 5)) return errno;
    ssize_t got = recv_all(fd, answer, 5);
    return got < 0 ? errno : got == 5 && memcmp(answer, "ping!", 5) == 0 ? 0 : -1;
}

static void in_a_stream(pair *two) {
    STEP("panic in a stream");
    EVENTUALLY(count_rows(two->near, P2P_LIST_STREAMS) + count_rows(two->far, P2P_LIST_STREAMS) == 0, 10000,
               "streams that have ended are still listed");
    int neighbour = tcp_ping(two->address);
    PLAIN(p2p_test_fault("copy"), P2P_OK);
    int client = tcp_try(two->address);
    int met = client < 0 ? errno : still_echoes(client);
    must_be_internal(await_either(P2P_EVENT_STREAM_CLOSED, "reason", "internal error"));
    /* Mostly it is the new stream's; the other one may just have had a last thing to do. One is reset, one lives on. */
    int beside = still_echoes(neighbour);
    CHECK((met == ECONNRESET && beside == 0) || (met == 0 && beside == ECONNRESET),
          "one stream should be reset, one alive: the new one ended with %d, the other with %d", met, beside);
    close(client);
    close(neighbour);
    echo_must_work(two);
    EVENTUALLY(count_rows(two->near, P2P_LIST_STREAMS) == 0, 10000, "the stream that panicked is still listed");
}

static void in_a_mount(pair *two) {
    p2p_mount mount;
    char address[64];
    STEP("panic in a mount");
    forward_to(two->near, "test", two->far_address, &mount, address);
    PLAIN(p2p_test_fault("mount"), P2P_OK);
    /* The client makes an accepting task pass the place, of this forward or of the listener behind it. */
    CHECK_INT(tcp_fate(address, "ping!"), ECONNRESET);
    p2p_event event = await_either(P2P_EVENT_MOUNT, "state", "failed");
    p2p_mount failed = (p2p_mount)number(event, 0, "mount");
    must_be_internal(event);
    uint32_t kind = failed == two->listener ? P2P_LIST_LISTENERS : P2P_LIST_FORWARDS;
    CHECK(row_is(failed, kind, "state", "failed"), "the mount that panicked is not listed as failed");
    CHECK_INT(number_of(failed, kind, "error_code"), P2P_ERROR_INTERNAL);
    OK(p2p_mount_close(failed, 0, &error));
    if (failed == two->listener) {
        OK(p2p_listen(two->far, "test", two->service.address, 0, &two->listener, &error));
        OK(p2p_mount_close(mount, 0, &error));
    } else if (failed == two->forward) {
        two->forward = mount;
        snprintf(two->address, sizeof two->address, "%s", address);
    } else {
        CHECK_INT(failed, mount);
        CHECK(is_free(address), "%s is not free after the failed forward was closed", address);
    }
    echo_must_work(two);
}

typedef struct dial {
    p2p_node node;
    const char *peer;
    p2p_status status;
} dial;

static void *waits_for_dial(void *context) {
    dial *own = context;
    own->status = p2p_connect(own->node, own->peer, -1, NULL);
    return NULL;
}

static void *waits_for_queue(void *context) {
    p2p_event event;
    return (void *)(intptr_t)p2p_next_event(*(p2p_queue *)context, -1, &event, NULL);
}

static void in_a_node(pair *two) {
    server black_hole;
    char silent[256], id[P2P_PEER_ID_SIZE];
    STEP("panic in a node's loop");
    server_start(&black_hole, serve_sink);
    silent_peer(&black_hole, silent);
    OK(p2p_node_close(two->near, 0, &error));
    OK(p2p_node_close(two->far, 0, &error));
    p2p_node node = node_open("transports", "tcp");
    p2p_queue events = subscribe(node, P2P_EVENT_NODE), quiet = subscribe(node, P2P_EVENT_STREAM_OPENED);
    dial own = {node, silent, P2P_OK};
    pthread_t dialler = thread_start(waits_for_dial, &own), reader = thread_start(waits_for_queue, &quiet);
    server_await(&black_hole, 1);
    PLAIN(p2p_test_fault("driver"), P2P_OK);
    /* Something for the loop to do, in case that it sleeps: a command, whose own result may be either. */
    p2p_connect(node, silent, 0, NULL);
    p2p_operation nudge;
    if (p2p_connect_start(node, silent, 100, &nudge, NULL) == P2P_OK) CHECK(nudge != 0, "no handle");
    must_be_internal(await_event(events, P2P_EVENT_NODE, "state", "failed"));
    thread_join(dialler);
    CHECK(own.status == P2P_ERROR_CLOSED || own.status == P2P_ERROR_INTERNAL, "the waiting p2p_connect gave %s",
          p2p_status_name(own.status));
    void *status;
    CHECK_INT(pthread_join(reader, &status), 0);
    CHECK_INT((intptr_t)status, P2P_ERROR_CLOSED);
    /* No call hangs; the handle may still answer what needs no network. */
    p2p_node_peer_id(node, id, sizeof id, NULL);
    CHECK(p2p_connect(node, silent, -1, NULL) != P2P_OK, "p2p_connect works on a node that failed");
    p2p_status closed = p2p_node_close(node, -1, &error);
    CHECK(closed == P2P_OK || closed == P2P_ERROR_BAD_HANDLE, "closing a node that failed gave %s",
          p2p_status_name(closed));
    PLAIN(p2p_queue_close(events), P2P_OK);
    PLAIN(p2p_queue_close(quiet), P2P_OK);
    server_stop(&black_hole);
}

/* A node fails under traffic while two others carry theirs. */
static void beside_others(void) {
    pair two, others;
    STEP("others go on when one node fails");
    pair_open(&others, serve_echo, NULL);
    int running = tcp_ping(others.address);
    p2p_queue near_events = subscribe(others.near, P2P_EVENT_NODE), far_events = subscribe(others.far, P2P_EVENT_NODE);
    pair_open(&two, serve_echo, NULL);
    near = subscribe(two.near, P2P_EVENT_NODE);
    far = subscribe(two.far, P2P_EVENT_NODE);
    int client = tcp_ping(two.address);
    PLAIN(p2p_test_fault("driver"), P2P_OK);
    /* Whose loop passes first is chance: each of the four can be the one. */
    p2p_queue queues[] = {near, far, near_events, far_events};
    int failed = -1;
    int64_t until = now_ms() + 10000 * slow();
    while (failed < 0) {
        p2p_connect(two.near, two.far_address, 100, NULL);
        for (int i = 0; i < 4 && failed < 0; i++) {
            p2p_event event;
            while (failed < 0 && p2p_next_event(queues[i], 10, &event, NULL) == P2P_OK) {
                if (strcmp(text(event, 0, "state"), "failed") == 0) failed = i;
                PLAIN(p2p_event_free(event), P2P_OK);
            }
        }
        CHECK(now_ms() < until, "no node failed");
    }
    /* The pair that has lost nothing still works; the other's stream is reset, never ended. */
    if (failed < 2) {
        CHECK_INT(end_of(client), ECONNRESET);
        CHECK(ping_fd(running), "a stream of another node ended");
        echo_must_work(&others);
    } else {
        CHECK_INT(end_of(running), ECONNRESET);
        CHECK(ping_fd(client), "a stream of another node ended");
        echo_must_work(&two);
    }
    close(client);
    close(running);
    for (int i = 0; i < 4; i++) PLAIN(p2p_queue_close(queues[i]), P2P_OK);
    p2p_node nodes[] = {two.near, two.far, others.near, others.far};
    for (int i = 0; i < 4; i++) {
        p2p_status closed = p2p_node_close(nodes[i], 0, NULL);
        CHECK(closed == P2P_OK || (i == failed && closed == P2P_ERROR_BAD_HANDLE), "closing a node gave %s",
              p2p_status_name(closed));
    }
    server_stop(&two.service);
    server_stop(&others.service);
    STEP("a new pair works");
    pair_open(&two, serve_echo, NULL);
    echo_must_work(&two);
    pair_close(&two);
}

int main(void) {
    pair two;
    start(60);
    pair_open(&two, serve_echo, NULL);
    near = subscribe(two.near, P2P_EVENT_STREAM_CLOSED | P2P_EVENT_MOUNT);
    far = subscribe(two.far, P2P_EVENT_STREAM_CLOSED | P2P_EVENT_MOUNT);
    in_a_call(&two);
    in_a_stream(&two);
    in_a_mount(&two);
    in_a_node(&two); /* closes both nodes */
    PLAIN(p2p_queue_close(near), P2P_OK);
    PLAIN(p2p_queue_close(far), P2P_OK);
    server_stop(&two.service);
    beside_others();
    return 0;
}
