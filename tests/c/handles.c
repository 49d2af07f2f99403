/* Promise: a handle that is stale, closed twice, of another kind or invented gives P2P_ERROR_BAD_HANDLE; closing 0 is
 * OK; closes that race all return. Handles are never reused, are below 2^53 and are not 0. */
#include "net.h"

enum { NODE = 1, MOUNT = 2, OPTIONS = 4, SNAPSHOT = 8, QUEUE = 16, EVENT = 32, OPERATION = 64, ZERO = 128 };
enum { KINDS = 7 };

static p2p_node other;
static char peer[P2P_ADDRESS_SIZE];

/* ---- every function that takes a handle, as a function of that handle -------------------------------------------- */

static p2p_status options_set(uint64_t h) { return p2p_options_set(h, "transports", "tcp", &error); }
static p2p_status options_free(uint64_t h) { return p2p_options_free(h); }
static p2p_status snapshot_free(uint64_t h) { return p2p_snapshot_free(h); }
static p2p_status queue_close(uint64_t h) { return p2p_queue_close(h); }
static p2p_status event_free(uint64_t h) { return p2p_event_free(h); }
static p2p_status node_close(uint64_t h) { return p2p_node_close(h, 0, &error); }
static p2p_status mount_close(uint64_t h) { return p2p_mount_close(h, 0, &error); }
static p2p_status operation_cancel(uint64_t h) { return p2p_operation_cancel(h, &error); }
static p2p_status stream_close(uint64_t h) { return p2p_stream_close(h, 0, &error); }
static p2p_status close_matching(uint64_t h) { return p2p_close(h, "none", NULL, NULL, 0, NULL, &error); }
static p2p_status connect_now(uint64_t h) { return p2p_connect(h, peer, 0, &error); }
static p2p_status set(uint64_t h) { return p2p_set(h, "peers.allow", "", &error); }

#define WITH_OUTPUT(name, call) \
    static p2p_status name(uint64_t h) { \
        uint64_t made = 77; \
        p2p_status status = call; \
        if (status != P2P_OK) CHECK_INT(made, 0); \
        return status; \
    }
WITH_OUTPUT(node_open_with, p2p_node_open(h, &made, &error))
WITH_OUTPUT(listen_on, p2p_listen(h, "handles", "127.0.0.1:9", 0, &made, &error))
WITH_OUTPUT(listen_with, p2p_listen(other, "handles", "127.0.0.1:9", h, &made, &error))
WITH_OUTPUT(forward_on, p2p_forward(h, "handles", "127.0.0.1:0", peer, 0, &made, &error))
WITH_OUTPUT(forward_with, p2p_forward(other, "handles", "127.0.0.1:0", peer, h, &made, &error))
WITH_OUTPUT(forward_start_on, p2p_forward_start(h, "handles", "127.0.0.1:0", peer, 0, &made, &error))
WITH_OUTPUT(forward_start_with, p2p_forward_start(other, "handles", "127.0.0.1:0", peer, h, &made, &error))
WITH_OUTPUT(connect_start, p2p_connect_start(h, peer, 0, &made, &error))
WITH_OUTPUT(close_start, p2p_node_close_start(h, 0, &made, &error))
WITH_OUTPUT(subscribe_to, p2p_subscribe(h, P2P_EVENT_NODE, 0, &made, &error))
WITH_OUTPUT(subscribe_with, p2p_subscribe(other, P2P_EVENT_NODE, h, &made, &error))
WITH_OUTPUT(next_of, p2p_next_event(h, 0, &made, &error))
WITH_OUTPUT(list_of, p2p_list(h, P2P_LIST_STREAMS, &made, &error))
WITH_OUTPUT(get, p2p_get(h, "network", &made, &error))

static p2p_status peer_id(uint64_t h) {
    char buffer[P2P_PEER_ID_SIZE];
    return p2p_node_peer_id(h, buffer, sizeof buffer, &error);
}
static p2p_status address(uint64_t h) {
    char buffer[P2P_ADDRESS_SIZE];
    return p2p_node_address(h, buffer, sizeof buffer, &error);
}
static p2p_status mount_address(uint64_t h) {
    char buffer[P2P_ADDRESS_SIZE];
    return p2p_mount_address(h, buffer, sizeof buffer, &error);
}
static p2p_status queue_fd(uint64_t h) {
    int fd;
    return p2p_queue_fd(h, &fd, &error);
}
static p2p_status row_count(uint64_t h) {
    size_t count;
    return p2p_row_count(h, &count, &error);
}
static p2p_status row_field(uint64_t h) {
    const char *name;
    return p2p_row_field(h, 0, 0, &name, &error);
}
static p2p_status row_text(uint64_t h) {
    const char *value;
    return p2p_row_text(h, 0, "kind", &value, &error);
}
static p2p_status row_int(uint64_t h) {
    int64_t value;
    return p2p_row_int(h, 0, "sequence", &value, &error);
}

static const struct function {
    const char *name;
    p2p_status (*call)(uint64_t handle);
    int accepts;
} functions[] = {
    {"p2p_options_set", options_set, OPTIONS},
    {"p2p_options_free", options_free, OPTIONS | ZERO},
    {"p2p_node_open, options", node_open_with, OPTIONS | ZERO},
    {"p2p_node_close", node_close, NODE | ZERO},
    {"p2p_node_close_start", close_start, NODE},
    {"p2p_node_peer_id", peer_id, NODE},
    {"p2p_node_address", address, NODE},
    {"p2p_connect", connect_now, NODE},
    {"p2p_connect_start", connect_start, NODE},
    {"p2p_listen", listen_on, NODE},
    {"p2p_listen, options", listen_with, OPTIONS | ZERO},
    {"p2p_forward", forward_on, NODE},
    {"p2p_forward, options", forward_with, OPTIONS | ZERO},
    {"p2p_forward_start", forward_start_on, NODE},
    {"p2p_forward_start, options", forward_start_with, OPTIONS | ZERO},
    {"p2p_mount_address", mount_address, MOUNT},
    {"p2p_mount_close", mount_close, MOUNT | ZERO},
    {"p2p_close", close_matching, NODE},
    {"p2p_stream_close", stream_close, NODE},
    {"p2p_list", list_of, NODE | MOUNT},
    {"p2p_row_count", row_count, SNAPSHOT | EVENT},
    {"p2p_row_field", row_field, SNAPSHOT | EVENT},
    {"p2p_row_text", row_text, SNAPSHOT | EVENT},
    {"p2p_row_int", row_int, SNAPSHOT | EVENT},
    {"p2p_snapshot_free", snapshot_free, SNAPSHOT | ZERO},
    {"p2p_set", set, NODE | MOUNT | ZERO},
    {"p2p_get", get, NODE | MOUNT | ZERO},
    {"p2p_subscribe", subscribe_to, NODE},
    {"p2p_subscribe, options", subscribe_with, OPTIONS | ZERO},
    {"p2p_next_event", next_of, QUEUE},
    {"p2p_queue_fd", queue_fd, QUEUE},
    {"p2p_queue_close", queue_close, QUEUE | ZERO},
    {"p2p_event_free", event_free, EVENT | ZERO},
    {"p2p_operation_cancel", operation_cancel, OPERATION},
};
enum { FUNCTIONS = sizeof functions / sizeof *functions };

static void must_be_bad(const struct function *function, const char *which, uint64_t handle) {
    p2p_status status = POISONED(function->call(handle));
    CHECK(status == P2P_ERROR_BAD_HANDLE, "%s with %s (%" PRIu64 "): expected P2P_ERROR_BAD_HANDLE, got %s",
          function->name, which, handle, p2p_status_name(status));
}

/* One live object of each kind, in the order of the bits. The operation waits on a silent peer. */
static void make_objects(p2p_node node, const char *silent, uint64_t handles[KINDS]) {
    p2p_queue queue = subscribe(node, P2P_EVENT_MOUNT);
    p2p_mount mount;
    handles[0] = node;
    OK(p2p_listen(node, "objects", "127.0.0.1:9", 0, &mount, &error));
    handles[1] = mount;
    OK(p2p_options_new(&handles[2], &error));
    handles[3] = list(node, P2P_LIST_NODE);
    handles[4] = queue;
    handles[5] = next_event(queue, 10000);
    OK(p2p_connect_start(node, silent, -1, &handles[6], &error));
    for (int i = 0; i < KINDS; i++) {
        CHECK(handles[i] != 0 && handles[i] < (UINT64_C(1) << 53), "handle %" PRIu64 " of kind %d", handles[i], i);
        for (int j = 0; j < i; j++) CHECK(handles[i] != handles[j], "one handle for kinds %d and %d", i, j);
    }
}

static void end_objects(const uint64_t handles[KINDS]) {
    OK(p2p_operation_cancel(handles[6], &error));
    PLAIN(p2p_event_free(handles[5]), P2P_OK);
    PLAIN(p2p_queue_close(handles[4]), P2P_OK);
    PLAIN(p2p_snapshot_free(handles[3]), P2P_OK);
    PLAIN(p2p_options_free(handles[2]), P2P_OK);
    OK(p2p_mount_close(handles[1], 0, &error));
    OK(p2p_node_close(handles[0], 0, &error));
}

/* ---- closes that race -------------------------------------------------------------------------------------------- */

enum { RACERS = 8, ROUNDS = 20 };

static struct race {
    pthread_barrier_t line;
    p2p_status (*close)(uint64_t handle);
    uint64_t handle;
    atomic_int good, bad;
} race;

static void *racer(void *context) {
    (void)context;
    pthread_barrier_wait(&race.line);
    p2p_status status = race.close(race.handle);
    CHECK(status == P2P_OK || status == P2P_ERROR_BAD_HANDLE, "a racing close gave %s: %s", p2p_status_name(status),
          error.message);
    atomic_fetch_add(status == P2P_OK ? &race.good : &race.bad, 1);
    return NULL;
}

static void race_to_close(const char *what, p2p_status (*close_it)(uint64_t), uint64_t handle) {
    pthread_t threads[RACERS];
    race.close = close_it;
    race.handle = handle;
    atomic_store(&race.good, 0);
    atomic_store(&race.bad, 0);
    pthread_barrier_init(&race.line, NULL, RACERS);
    for (int i = 0; i < RACERS; i++) threads[i] = thread_start(racer, NULL);
    for (int i = 0; i < RACERS; i++) thread_join(threads[i]);
    pthread_barrier_destroy(&race.line);
    CHECK(atomic_load(&race.good) >= 1, "%s: none of %d racing closes succeeded", what, RACERS);
    CHECK_INT(atomic_load(&race.good) + atomic_load(&race.bad), RACERS);
    /* Once cancelled, an operation takes a moment to end. */
    EVENTUALLY(close_it(handle) == P2P_ERROR_BAD_HANDLE, 5000, "%s: a handle that was closed still works", what);
}

static void races(const char *silent) {
    static p2p_status (*const closes[KINDS])(uint64_t) = {node_close,  mount_close, options_free,    snapshot_free,
                                                          queue_close, event_free,  operation_cancel};
    static const char *const names[KINDS] = {"node", "mount", "options", "snapshot", "queue", "event", "operation"};
    for (int round = 0; round < ROUNDS; round++) {
        uint64_t handles[KINDS];
        make_objects(node_open(NULL, NULL), silent, handles);
        for (int kind = KINDS - 1; kind >= 0; kind--) race_to_close(names[kind], closes[kind], handles[kind]);
    }
}

int main(void) {
    static const char *const kind_names[KINDS] = {"a node",  "a mount",  "options",     "a snapshot",
                                                  "a queue", "an event", "an operation"};
    uint64_t stale[KINDS], live[KINDS];
    server black_hole;
    char silent[256];
    start(90);
    server_start(&black_hole, serve_sink);
    silent_peer(&black_hole, silent);
    other = node_open(NULL, NULL);
    OK(p2p_node_address(other, peer, sizeof peer, &error));
    make_objects(node_open(NULL, NULL), silent, stale);
    end_objects(stale);
    make_objects(node_open(NULL, NULL), silent, live);

    STEP("handles that name nothing");
    for (int f = 0; f < FUNCTIONS; f++) {
        must_be_bad(&functions[f], "UINT64_MAX", UINT64_MAX);
        must_be_bad(&functions[f], "2^53", UINT64_C(1) << 53);
        for (uint64_t small = 1; small < 8; small++) must_be_bad(&functions[f], "a small number", small);
        if (!(functions[f].accepts & ZERO)) must_be_bad(&functions[f], "0", 0);
    }
    STEP("stale handles and handles of another kind");
    for (int f = 0; f < FUNCTIONS; f++)
        for (int kind = 0; kind < KINDS; kind++) {
            char which[64];
            snprintf(which, sizeof which, "%s that was closed", kind_names[kind]);
            must_be_bad(&functions[f], which, stale[kind]);
            if (!(functions[f].accepts & (1 << kind))) must_be_bad(&functions[f], kind_names[kind], live[kind]);
        }
    STEP("closing nothing");
    for (int f = 0; f < FUNCTIONS; f++)
        if ((functions[f].accepts & ZERO) &&
            (strstr(functions[f].name, "_free") || strstr(functions[f].name, "_close")))
            CHECK_INT(functions[f].call(0), P2P_OK);

    STEP("children end with their node; options, snapshots and events do not");
    OK(p2p_node_close(live[0], 0, &error));
    FAILS(p2p_mount_close(live[1], 0, &error), P2P_ERROR_BAD_HANDLE);
    FAILS(p2p_operation_cancel(live[6], &error), P2P_ERROR_BAD_HANDLE);
    CHECK_TEXT(text(live[3], 0, "kind"), "node");
    CHECK_INT(number(live[5], 0, "sequence"), 1);
    OK(p2p_options_set(live[2], "transports", "tcp", &error));
    PLAIN(p2p_event_free(live[5]), P2P_OK);
    PLAIN(p2p_queue_close(live[4]), P2P_OK);
    PLAIN(p2p_snapshot_free(live[3]), P2P_OK);
    PLAIN(p2p_options_free(live[2]), P2P_OK);
    PLAIN(p2p_event_free(live[5]), P2P_ERROR_BAD_HANDLE);
    PLAIN(p2p_queue_close(live[4]), P2P_ERROR_BAD_HANDLE);

    STEP("racing closes");
    races(silent);
    OK(p2p_node_close(other, 0, &error));
    server_stop(&black_hole);
    return 0;
}
