/* Promise: a _start call returns at once; its end is one event with the result; it can be cancelled at every stage, and
 * after a cancel or a timeout nothing is left registered. */
#include "net.h"

static server black_hole;
static char silent[256];

/* The end of an operation: its event must carry this status. Returns the mount, or 0. */
static p2p_mount must_end(p2p_queue queue, p2p_operation operation, p2p_status status) {
    char id[32];
    snprintf(id, sizeof id, "%" PRIu64, operation);
    p2p_event event = await_event(queue, P2P_EVENT_OPERATION, "operation", id);
    CHECK(number(event, 0, "code") == status, "operation: expected %s, got %s: %s", p2p_status_name(status),
          p2p_status_name((p2p_status)number(event, 0, "code")), text(event, 0, "message"));
    CHECK_INT(number(event, 0, "system_error"), 0);
    bool timed_out = (number(event, 0, "flags") & P2P_ERROR_FLAG_TIMED_OUT) != 0;
    CHECK_INT(timed_out, status == P2P_ERROR_TIMED_OUT);
    CHECK((text(event, 0, "message")[0] == '\0') == (status == P2P_OK), "sentence of %s: \"%s\"",
          p2p_status_name(status), text(event, 0, "message"));
    if (status == P2P_ERROR_CANCELLED) {
        const char *said = text(event, 0, "message");
        CHECK((strncmp(said, "connecting to peer ", 19) == 0 || strncmp(said, "forward /x/", 11) == 0 ||
               strncmp(said, "draining ", 9) == 0) &&
                  strstr(said, "was cancelled") != NULL,
              "\"%s\" does not name what was cancelled", said);
    }
    p2p_mount mount = 0;
    if (status == P2P_OK && has_field(event, 0, "mount")) {
        const char *value = text(event, 0, "mount");
        mount = strtoull(value, NULL, 10);
    }
    PLAIN(p2p_event_free(event), P2P_OK);
    FAILS(p2p_operation_cancel(operation, &error), P2P_ERROR_BAD_HANDLE);
    return mount;
}

static void results(void) {
    pair two;
    p2p_operation operation;
    char address[64];
    STEP("results");
    pair_open(&two, serve_echo, NULL);
    p2p_node node = node_open(NULL, NULL);
    p2p_queue queue = subscribe(node, P2P_EVENT_OPERATION);
    FAILS(p2p_connect(node, two.far_address, 0, &error), P2P_ERROR_TIMED_OUT);
    OK(p2p_connect_start(node, two.far_address, 10000, &operation, &error));
    must_end(queue, operation, P2P_OK);
    OK(p2p_connect(node, two.far_address, 0, &error));
    OK(p2p_connect_start(node, two.far_address, 0, &operation, &error));
    must_end(queue, operation, P2P_OK);

    p2p_options verify = options_of("verify", "true", (char *)NULL);
    OK(p2p_forward_start(node, "test", "127.0.0.1:0", two.far_address, verify, &operation, &error));
    p2p_mount mount = must_end(queue, operation, P2P_OK);
    CHECK(mount != 0, "the event of p2p_forward_start carries no mount");
    OK(p2p_mount_address(mount, address, sizeof address, &error));
    CHECK(echo_check(address, 5000, 1) == NULL, "no echo through the forward that was started");

    OK(p2p_forward_start(node, "nobody-offers-this", "127.0.0.1:0", two.far_address, verify, &operation, &error));
    must_end(queue, operation, P2P_ERROR_PROTOCOL_REFUSED);
    CHECK_INT(count_rows(node, P2P_LIST_FORWARDS), 1);
    PLAIN(p2p_options_free(verify), P2P_OK);

    STEP("an address in use fails at once");
    FAILS(p2p_forward_start(node, "test", address, two.far_address, 0, &operation, &error), P2P_ERROR_ADDRESS_IN_USE);

    STEP("p2p_node_close_start");
    OK(p2p_node_close_start(node, 0, &operation, &error));
    must_end(queue, operation, P2P_OK);
    CHECK(is_free(address), "%s is not free after the close's event", address);
    FAILS(p2p_node_close(node, 0, &error), P2P_ERROR_BAD_HANDLE);
    PLAIN(p2p_queue_close(queue), P2P_OK);

    STEP("a close that drains, without waiting");
    p2p_node third = node_open(NULL, NULL);
    p2p_mount other;
    forward_to(third, "test", two.far_address, &other, address);
    int client = tcp_ping(two.address), kept = tcp_ping(address);
    queue = subscribe(two.near, P2P_EVENT_OPERATION | P2P_EVENT_NODE);
    OK(p2p_node_close_start(two.near, -1, &operation, &error));
    await(queue, P2P_EVENT_NODE, "state", "closing");
    CHECK(ping_fd(client), "the stream ended while the node drains");
    close(client);
    must_end(queue, operation, P2P_OK);
    PLAIN(p2p_queue_close(queue), P2P_OK);

    STEP("cancelling a close ends its draining");
    queue = subscribe(third, P2P_EVENT_OPERATION | P2P_EVENT_NODE);
    OK(p2p_node_close_start(third, -1, &operation, &error));
    await(queue, P2P_EVENT_NODE, "state", "closing");
    CHECK(ping_fd(kept), "the stream ended while the node drains");
    OK(p2p_operation_cancel(operation, &error));
    must_end(queue, operation, P2P_ERROR_CANCELLED);
    CHECK_INT(end_of(kept), ECONNRESET);
    close(kept);
    FAILS(p2p_node_close(third, 0, &error), P2P_ERROR_BAD_HANDLE);
    PLAIN(p2p_queue_close(queue), P2P_OK);
    OK(p2p_node_close(two.far, 0, &error));
    server_stop(&two.service);
}

/* Cancelled before the dial can be done, and while the silent peer keeps the handshake waiting. */
static void cancels(void) {
    p2p_operation operation;
    p2p_node node = node_open("transports", "tcp");
    p2p_queue queue = subscribe(node, P2P_EVENT_OPERATION);
    p2p_options verify = options_of("verify", "true", (char *)NULL);
    for (int stage = 0; stage < 2; stage++) {
        STEP(stage == 0 ? "cancel right after the start" : "cancel during the handshake");
        unsigned before = server_accepted(&black_hole);
        char peer[256];
        silent_peer(&black_hole, peer);
        OK(p2p_connect_start(node, peer, -1, &operation, &error));
        if (stage == 1) server_await(&black_hole, before + 1);
        OK(p2p_operation_cancel(operation, &error));
        must_end(queue, operation, P2P_ERROR_CANCELLED);

        /* Another peer: the dial to the first one goes on for a while, and would be shared. */
        char address[64], other[256];
        silent_peer(&black_hole, other);
        server place; /* a free port whose number is known beforehand */
        server_start(&place, serve_sink);
        snprintf(address, sizeof address, "%s", place.address);
        server_stop(&place);
        before = server_accepted(&black_hole);
        OK(p2p_forward_start(node, "test", address, other, verify, &operation, &error));
        if (stage == 1) server_await(&black_hole, before + 1);
        OK(p2p_operation_cancel(operation, &error));
        must_end(queue, operation, P2P_ERROR_CANCELLED);
        CHECK_INT(count_rows(node, P2P_LIST_FORWARDS), 0);
        CHECK(is_free(address), "%s is not free after the cancel", address);
    }

    STEP("timeouts");
    int64_t began = now_ms();
    FAILS(p2p_connect(node, silent, 300, &error), P2P_ERROR_TIMED_OUT);
    CHECK((error.flags & P2P_ERROR_FLAG_TIMED_OUT) != 0, "the flag for timeouts is not set");
    CHECK(now_ms() - began >= 290 && now_ms() - began < 3000 * slow(), "a time limit of 300 ms took %" PRId64 " ms",
          now_ms() - began);
    OK(p2p_connect_start(node, silent, 300, &operation, &error));
    must_end(queue, operation, P2P_ERROR_TIMED_OUT);
    CHECK_INT(count_rows(node, P2P_LIST_PEERS), 0);

    STEP("a node that closes ends its operations");
    OK(p2p_connect_start(node, silent, -1, &operation, &error));
    OK(p2p_node_close(node, 0, &error));
    must_end(queue, operation, P2P_ERROR_CLOSED);
    PLAIN(p2p_queue_close(queue), P2P_OK);
    PLAIN(p2p_options_free(verify), P2P_OK);
}

/* Cancels from another thread at any moment of operations that succeed: OK or BAD_HANDLE, and always exactly one event.
 */
static void cancel_races(void) {
    enum { ROUNDS = 60 };
    pair two;
    STEP("cancels that race the end");
    pair_open(&two, serve_echo, NULL);
    p2p_options verify = options_of("verify", "true", (char *)NULL);
    for (int round = 0; round < ROUNDS; round++) {
        p2p_operation operation;
        p2p_node node = round % 8 == 0 ? node_open(NULL, NULL) : two.near;
        p2p_queue queue = subscribe(node, P2P_EVENT_OPERATION);
        OK(p2p_forward_start(node, "test", "127.0.0.1:0", two.far_address, verify, &operation, &error));
        for (volatile int spin = 0; spin < round * 5000;) spin = spin + 1;
        p2p_status cancelled = p2p_operation_cancel(operation, NULL);
        p2p_event event = next_event(queue, 10000), none;
        int64_t code = number(event, 0, "code");
        CHECK(code == P2P_OK || code == P2P_ERROR_CANCELLED, "the operation ended with %s",
              p2p_status_name((p2p_status)code));
        CHECK(cancelled == P2P_OK || cancelled == P2P_ERROR_BAD_HANDLE, "the cancel gave %s",
              p2p_status_name(cancelled));
        if (cancelled == P2P_ERROR_BAD_HANDLE) CHECK_INT(code, P2P_OK);
        size_t expected = (node == two.near ? 1 : 0) + (code == P2P_OK ? 1 : 0);
        CHECK_INT(count_rows(node, P2P_LIST_FORWARDS), expected);
        if (code == P2P_OK) OK(p2p_mount_close((p2p_mount)number(event, 0, "mount"), 0, &error));
        PLAIN(p2p_event_free(event), P2P_OK);
        FAILS(p2p_next_event(queue, 0, &none, &error), P2P_ERROR_TIMED_OUT);
        PLAIN(p2p_queue_close(queue), P2P_OK);
        if (node != two.near) OK(p2p_node_close(node, 0, &error));
    }
    PLAIN(p2p_options_free(verify), P2P_OK);
    pair_close(&two);
}

int main(void) {
    start(90);
    server_start(&black_hole, serve_sink);
    silent_peer(&black_hole, silent);
    OK(p2p_node_close(node_open(NULL, NULL), 0, &error));
    int64_t handles = number_of(0, P2P_LIST_PROCESS, "handles");
    results();
    cancels();
    cancel_races();
    STEP("nothing is left");
    CHECK_INT(number_of(0, P2P_LIST_PROCESS, "handles"), handles);
    server_stop(&black_hole);
    return 0;
}
