/* Promise: in a forked child every inherited handle gives P2P_ERROR_FORKED at once, whatever the parent's threads were
 * doing, and a new node works; the parent does not notice. */
#include "net.h"

static pair two;
static p2p_queue queue;
static p2p_options options;
static p2p_snapshot snapshot;
static p2p_event event;
static p2p_operation operation;
static atomic_bool stop;

#define FORKED P2P_ERROR_FORKED

/* AddressSanitizer's allocator stays locked in a child that is forked while another thread allocates: with it nothing
 * else may run then. */
#ifdef __SANITIZE_ADDRESS__
enum { CALLERS = 0, FORKS = 3 };
static void quiet(void) { nap_ms(500); }
#else
enum { CALLERS = 4, FORKS = 40 };
static void quiet(void) {}
#endif

static void inherited_handles(void) {
    char buffer[P2P_ADDRESS_SIZE];
    uint64_t made = 0;
    const char *value;
    int64_t integer;
    size_t count;
    int fd;
    STEP("child: inherited handles");
    FAILS(p2p_node_peer_id(two.near, buffer, sizeof buffer, &error), FORKED);
    FAILS(p2p_node_address(two.near, buffer, sizeof buffer, &error), FORKED);
    FAILS(p2p_connect(two.near, two.far_address, -1, &error), FORKED);
    FAILS(p2p_connect_start(two.near, two.far_address, -1, &made, &error), FORKED);
    FAILS(p2p_listen(two.near, "child", "127.0.0.1:9", 0, &made, &error), FORKED);
    FAILS(p2p_forward(two.near, "child", "127.0.0.1:0", two.far_address, 0, &made, &error), FORKED);
    FAILS(p2p_forward_start(two.near, "child", "127.0.0.1:0", two.far_address, 0, &made, &error), FORKED);
    FAILS(p2p_mount_address(two.forward, buffer, sizeof buffer, &error), FORKED);
    FAILS(p2p_mount_close(two.forward, 0, &error), FORKED);
    FAILS(p2p_close(two.near, "test", NULL, NULL, 0, &count, &error), FORKED);
    FAILS(p2p_stream_close(two.near, 0, &error), FORKED);
    FAILS(p2p_list(two.near, P2P_LIST_PEERS, &made, &error), FORKED);
    FAILS(p2p_row_count(snapshot, &count, &error), FORKED);
    FAILS(p2p_row_field(snapshot, 0, 0, &value, &error), FORKED);
    FAILS(p2p_row_text(snapshot, 0, "kind", &value, &error), FORKED);
    FAILS(p2p_row_int(event, 0, "sequence", &integer, &error), FORKED);
    FAILS(p2p_set(two.near, "peers.allow", "*", &error), FORKED);
    FAILS(p2p_get(two.near, "network", &made, &error), FORKED);
    FAILS(p2p_options_set(options, "transports", "tcp", &error), FORKED);
    FAILS(p2p_node_open(options, &made, &error), FORKED);
    FAILS(p2p_subscribe(two.near, P2P_EVENT_ALL, 0, &made, &error), FORKED);
    FAILS(p2p_next_event(queue, -1, &made, &error), FORKED);
    FAILS(p2p_queue_fd(queue, &fd, &error), FORKED);
    FAILS(p2p_operation_cancel(operation, &error), FORKED);
    PLAIN(p2p_queue_close(queue), FORKED);
    PLAIN(p2p_event_free(event), FORKED);
    PLAIN(p2p_snapshot_free(snapshot), FORKED);
    PLAIN(p2p_options_free(options), FORKED);
    FAILS(p2p_node_close_start(two.near, -1, &made, &error), FORKED);
    FAILS(p2p_node_close(two.near, -1, &error), FORKED);
    CHECK_INT(made, 0);
}

static void echo_must_work(const pair *tunnel) {
    const char *wrong = echo_check(tunnel->address, 200000, 7);
    CHECK(wrong == NULL, "%s", wrong);
}

static void *traffic(void *context) {
    (void)context;
    while (!atomic_load(&stop)) echo_must_work(&two);
    return NULL;
}

static void *lists(void *context) {
    (void)context;
    while (!atomic_load(&stop)) {
        count_rows(two.near, P2P_LIST_STREAMS | P2P_LIST_PEERS | P2P_LIST_FORWARDS);
        count_rows(0, P2P_LIST_PROCESS);
    }
    return NULL;
}

/* A child with nodes and traffic of its own; and, there, a child of the child. */
static void children_work(int depth) {
    child made;
    quiet();
    if (child_start(&made, 40) == 1) {
        child_wait(&made);
        return;
    }
    inherited_handles();
    STEP("child: a node of its own");
    pair own;
    pair_open(&own, serve_echo, NULL);
    echo_must_work(&own);
    CHECK_INT(number_of(0, P2P_LIST_PROCESS, "nodes"), 2);
    STEP("child: timers run, so pings are sent and answered");
    p2p_node impatient = node_open("ping.interval", "100ms");
    OK(p2p_connect(impatient, own.far_address, 10000, &error));
    EVENTUALLY(number_of(impatient, P2P_LIST_PEERS, "rtt_us") >= 0, 10000, "no ping was answered");
    OK(p2p_node_close(impatient, 0, &error));
    STEP("child: a child of the child");
    if (depth < 2) children_work(depth + 1);
    pair_close(&own);
    child_exit(&made);
}

int main(void) {
    pthread_t threads[CALLERS + 1];
    server black_hole;
    char silent[256];
    start(120);
    server_start(&black_hole, serve_sink);
    silent_peer(&black_hole, silent);
    pair_open(&two, serve_echo, NULL);
    queue = subscribe(two.near, P2P_EVENT_MOUNT);
    OK(p2p_options_new(&options, &error));
    snapshot = list(two.near, P2P_LIST_NODE);
    p2p_mount mount;
    OK(p2p_listen(two.near, "event", "127.0.0.1:9", 0, &mount, &error));
    event = next_event(queue, 10000);
    OK(p2p_connect_start(two.near, silent, -1, &operation, &error));

    STEP("forks under traffic");
    for (int i = 0; i < CALLERS; i++) threads[i] = thread_start(i % 2 == 0 ? traffic : lists, NULL);
    for (int i = 0; i < 5; i++) children_work(0);

    STEP("forks while other threads are inside the library");
    for (int i = 0; i < FORKS; i++) {
        child made;
        quiet();
        if (child_start(&made, 20) == 1) {
            child_wait(&made);
            continue;
        }
        p2p_snapshot none;
        p2p_options fresh;
        FAILS(p2p_list(two.near, P2P_LIST_STREAMS, &none, &error), FORKED);
        OK(p2p_options_new(&fresh, &error));
        PLAIN(p2p_options_free(fresh), P2P_OK);
        CHECK_INT(number_of(0, P2P_LIST_PROCESS, "nodes"), 0);
        child_exit(&made);
    }

    STEP("the descriptor of a queue tells the close although a child holds copies");
    int fd, gate[2];
    char byte;
    OK(p2p_queue_fd(queue, &fd, &error));
    CHECK_INT(pipe2(gate, O_CLOEXEC), 0);
    child holder;
    if (child_start(&holder, 30) == 0) {
        close(gate[1]);
        if (read(gate[0], &byte, 1) < 0) _exit(1);
        child_exit(&holder);
    }
    close(gate[0]);

    STEP("the parent goes on");
    atomic_store(&stop, true);
    for (int i = 0; i < CALLERS; i++) thread_join(threads[i]);
    echo_must_work(&two);
    CHECK_TEXT(text(snapshot, 0, "kind"), "node");
    /* In a slow run the library has given up dialling the silent peer by now. */
    if (slow() == 1) OK(p2p_operation_cancel(operation, &error));
    PLAIN(p2p_event_free(event), P2P_OK);
    PLAIN(p2p_snapshot_free(snapshot), P2P_OK);
    PLAIN(p2p_options_free(options), P2P_OK);
    for (p2p_event left; p2p_next_event(queue, 0, &left, NULL) == P2P_OK;) PLAIN(p2p_event_free(left), P2P_OK);
    pair_close(&two);
    for (p2p_event left; p2p_next_event(queue, 0, &left, NULL) == P2P_OK;) PLAIN(p2p_event_free(left), P2P_OK);
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    CHECK(poll(&wait, 1, 5000) == 1, "the descriptor does not tell that the node is closed");
    close(fd);
    close(gate[1]);
    child_wait(&holder);
    PLAIN(p2p_queue_close(queue), P2P_OK);
    server_stop(&black_hole);
    return 0;
}
