/* Promise: what is opened works, shows itself in the lists and in events, and is gone without trace when it is closed.
 */
#include "net.h"

static void check_fields(uint64_t rows, size_t row, const char *const *fields) {
    const char *value;
    int64_t integer;
    for (; *fields != NULL; fields++) {
        /* "!name" is a number: both getters must tell the same. */
        const char *name = *fields + (**fields == '!');
        CHECK(has_field(rows, row, name), "the walk over a %s row does not meet the field %s", text(rows, row, "kind"),
              name);
        OK(p2p_row_text(rows, row, name, &value, &error));
        if (**fields == '!') {
            char decimal[32];
            OK(p2p_row_int(rows, row, name, &integer, &error));
            snprintf(decimal, sizeof decimal, "%" PRId64, integer);
            test_text(__FILE__, __LINE__, name, value, decimal);
        }
    }
}

#define MOUNT_FIELDS \
    "!id", "kind", "protocol", "listen", "target", "state", "error", "!error_code", "!system_error", "!flags", \
        "!streams", "!streams_total", "!streams_cut", "!bytes_in", "!bytes_out"
static const char *const listener_fields[] = {MOUNT_FIELDS, "access", NULL};
static const char *const forward_fields[] = {MOUNT_FIELDS, "peer", "!all_interfaces", NULL};
static const char *const stream_fields[] = {"!id",     "kind",   "!mount",    "side",      "protocol",
                                            "origin",  "target", "peer",      "!bytes_in", "!bytes_out",
                                            "!age_ms", "path",   "transport", NULL};
static const char *const peer_fields[] = {"kind",         "peer",     "address", "direction", "transport", "path",
                                          "!connections", "!streams", "!rtt_us", "agent",     "!age_ms",   NULL};
static const char *const node_fields[] = {"kind",      "!id",      "peer",   "state",        "network", "!listeners",
                                          "!forwards", "!streams", "!peers", "!connections", NULL};
static const char *const option_fields[] = {"kind",  "name",    "type", "default", "scope",
                                            "!live", "!secret", "doc",  NULL};
static const char *const process_fields[] = {"kind",         "version",      "!nodes",           "!handles", "!threads",
                                             "!log_dropped", "!descriptors", "!descriptors_max", NULL};

/* Every kind of row, with one stream up. */
static void lists(pair *two, const char *transport) {
    char far_target[P2P_PEER_ID_SIZE + 8];
    snprintf(far_target, sizeof far_target, "/p2p/%s", two->far_id);
    int client = tcp_ping(two->address);
    STEP("row of the forward");
    p2p_snapshot rows = list(two->near, P2P_LIST_FORWARDS);
    CHECK_INT(rows_in(rows), 1);
    check_fields(rows, 0, forward_fields);
    CHECK_INT(number(rows, 0, "id"), two->forward);
    CHECK_TEXT(text(rows, 0, "kind"), "forward");
    CHECK_TEXT(text(rows, 0, "protocol"), "/x/test");
    CHECK_TEXT(text(rows, 0, "listen"), two->address);
    CHECK_TEXT(text(rows, 0, "target"), far_target);
    CHECK_TEXT(text(rows, 0, "peer"), two->far_id);
    CHECK_TEXT(text(rows, 0, "state"), "connected");
    CHECK_TEXT(text(rows, 0, "error"), "");
    CHECK_INT(number(rows, 0, "error_code"), 0);
    CHECK_INT(number(rows, 0, "streams"), 1);
    CHECK_INT(number(rows, 0, "streams_total"), 1);
    CHECK_INT(number(rows, 0, "all_interfaces"), 0);
    PLAIN(p2p_snapshot_free(rows), P2P_OK);
    STEP("row of the listener");
    rows = list(two->far, P2P_LIST_LISTENERS);
    CHECK_INT(rows_in(rows), 1);
    check_fields(rows, 0, listener_fields);
    CHECK_INT(number(rows, 0, "id"), two->listener);
    CHECK_TEXT(text(rows, 0, "kind"), "listener");
    CHECK_TEXT(text(rows, 0, "listen"), far_target);
    CHECK_TEXT(text(rows, 0, "target"), two->service.address);
    CHECK_TEXT(text(rows, 0, "state"), "listening");
    CHECK_TEXT(text(rows, 0, "access"), "open to all");
    PLAIN(p2p_snapshot_free(rows), P2P_OK);
    STEP("rows of the stream");
    const struct {
        p2p_node node;
        p2p_mount mount;
        const char *side, *target;
    } sides[] = {{two->near, two->forward, "forward", far_target},
                 {two->far, two->listener, "listener", two->service.address}};
    for (int side = 0; side < 2; side++) {
        rows = list(sides[side].node, P2P_LIST_STREAMS);
        CHECK_INT(rows_in(rows), 1);
        check_fields(rows, 0, stream_fields);
        CHECK_INT(number(rows, 0, "mount"), sides[side].mount);
        CHECK_TEXT(text(rows, 0, "kind"), "stream");
        CHECK_TEXT(text(rows, 0, "side"), sides[side].side);
        CHECK_TEXT(text(rows, 0, "target"), sides[side].target);
        CHECK_TEXT(text(rows, 0, "path"), "direct");
        CHECK_TEXT(text(rows, 0, "transport"), transport);
        CHECK(strncmp(text(rows, 0, "origin"), side == 0 ? "127.0.0.1:" : "/p2p/", 5) == 0, "origin is %s",
              text(rows, 0, "origin"));
        PLAIN(p2p_snapshot_free(rows), P2P_OK);
        CHECK_INT(count_rows(sides[side].mount, P2P_LIST_STREAMS), 1);
    }
    STEP("row of the peer");
    rows = list(two->near, P2P_LIST_PEERS);
    CHECK_INT(rows_in(rows), 1);
    check_fields(rows, 0, peer_fields);
    CHECK_TEXT(text(rows, 0, "peer"), two->far_id);
    CHECK_TEXT(text(rows, 0, "direction"), "outbound");
    CHECK_TEXT(text(rows, 0, "transport"), transport);
    CHECK_INT(number(rows, 0, "streams"), 1);
    PLAIN(p2p_snapshot_free(rows), P2P_OK);
    STEP("rows of the node, its addresses, the options and the process");
    rows = list(two->near, P2P_LIST_NODE);
    CHECK_INT(rows_in(rows), 1);
    check_fields(rows, 0, node_fields);
    CHECK_TEXT(text(rows, 0, "network"), "local");
    CHECK_INT(number(rows, 0, "forwards"), 1);
    CHECK_INT(number(rows, 0, "listeners"), 0);
    CHECK_INT(number(rows, 0, "streams"), 1);
    CHECK_INT(number(rows, 0, "peers"), 1);
    PLAIN(p2p_snapshot_free(rows), P2P_OK);
    rows = list(two->far, P2P_LIST_ADDRESSES);
    CHECK(rows_in(rows) > 0, "a node without addresses");
    for (size_t row = 0; row < rows_in(rows); row++) {
        CHECK_TEXT(text(rows, row, "kind"), "address");
        CHECK(strstr(two->far_address, text(rows, row, "address")) != NULL, "p2p_node_address lacks %s",
              text(rows, row, "address"));
        CHECK(strstr(text(rows, row, "address"), two->far_id) != NULL, "%s does not end in the peer id",
              text(rows, row, "address"));
    }
    PLAIN(p2p_snapshot_free(rows), P2P_OK);
    rows = list(0, P2P_LIST_OPTIONS);
    CHECK(rows_in(rows) > 5, "%zu options", rows_in(rows));
    for (size_t row = 0; row < rows_in(rows); row++) check_fields(rows, row, option_fields);
    PLAIN(p2p_snapshot_free(rows), P2P_OK);
    rows = list(0, P2P_LIST_PROCESS);
    CHECK_INT(rows_in(rows), 1);
    check_fields(rows, 0, process_fields);
    CHECK_TEXT(text(rows, 0, "version"), P2P_VERSION_STRING);
    CHECK_INT(number(rows, 0, "nodes"), 2);
    PLAIN(p2p_snapshot_free(rows), P2P_OK);
    STEP("a stream ends");
    close(client);
    EVENTUALLY(count_rows(two->near, P2P_LIST_STREAMS) == 0 && count_rows(two->far, P2P_LIST_STREAMS) == 0, 10000,
               "the streams of a client that left are still listed");
    rows = list(two->forward, P2P_LIST_FORWARDS);
    CHECK_INT(number(rows, 0, "bytes_in"), 5);
    CHECK_INT(number(rows, 0, "bytes_out"), 5);
    CHECK_INT(number(rows, 0, "streams"), 0);
    PLAIN(p2p_snapshot_free(rows), P2P_OK);
}

static void data(pair *two) {
    STEP("data");
    static const size_t sizes[] = {0, 1, 1000, 65536, 3000017};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        const char *wrong = echo_check(two->address, sizes[i], (unsigned)i);
        CHECK(wrong == NULL, "%zu bytes: %s", sizes[i], wrong);
    }
}

static size_t close_by(p2p_node node, const char *protocol, const char *listen, const char *target, uint32_t flags) {
    size_t closed = 99;
    OK(p2p_close(node, protocol, listen, target, flags, &closed, &error));
    return closed;
}

static void filters(pair *two) {
    char first[64], second[64], target[P2P_PEER_ID_SIZE + 8];
    p2p_mount mounts[3];
    STEP("filters of p2p_close");
    snprintf(target, sizeof target, "/p2p/%s", two->far_id);
    forward_to(two->near, "one", two->far_address, &mounts[0], first);
    forward_to(two->near, "one", two->far_address, &mounts[1], second);
    OK(p2p_listen(two->near, "one", "127.0.0.1:9", 0, &mounts[2], &error));
    CHECK_INT(close_by(two->near, "other", NULL, NULL, 0), 0);
    CHECK_INT(close_by(two->near, "other", first, NULL, 0), 0);
    CHECK_INT(close_by(two->near, "one", first, target, 0), 1);
    CHECK(is_free(first), "%s is not free after p2p_close", first);
    FAILS(p2p_mount_close(mounts[0], 0, &error), P2P_ERROR_BAD_HANDLE);
    CHECK_INT(close_by(two->near, "one", NULL, "127.0.0.1:9", 0), 1);
    FAILS(p2p_mount_close(mounts[2], 0, &error), P2P_ERROR_BAD_HANDLE);
    CHECK_INT(close_by(two->near, "/x/one", NULL, NULL, P2P_CLOSE_LISTENERS), 0);
    CHECK_INT(close_by(two->near, "/x/one", NULL, NULL, P2P_CLOSE_FORWARDS), 1);
    CHECK(is_free(second), "%s is not free after p2p_close", second);
    CHECK_INT(count_rows(two->near, P2P_LIST_FORWARDS), 1);
}

/* Closing a mount leaves its streams alone unless it is asked to end them; one stream can be ended alone. */
static void streams_and_mounts(pair *two) {
    p2p_mount mount;
    char address[64];
    p2p_queue near = subscribe(two->near, P2P_EVENT_STREAM_CLOSED | P2P_EVENT_STREAM_OPENED);
    STEP("a stream outlives its mount");
    forward_to(two->near, "test", two->far_address, &mount, address);
    int client = tcp_ping(address);
    OK(p2p_mount_close(mount, 0, &error));
    CHECK(is_free(address), "%s is not free after p2p_mount_close", address);
    CHECK(ping_fd(client), "the stream ended with its mount");
    CHECK_INT(count_rows(two->near, P2P_LIST_STREAMS), 1);
    close(client);
    await(near, P2P_EVENT_STREAM_CLOSED, "reason", "finished");

    STEP("P2P_CLOSE_STREAMS resets");
    forward_to(two->near, "test", two->far_address, &mount, address);
    client = tcp_ping(address);
    OK(p2p_mount_close(mount, P2P_CLOSE_STREAMS, &error));
    CHECK_INT(end_of(client), ECONNRESET);
    close(client);
    await(near, P2P_EVENT_STREAM_CLOSED, "reason", "closed by request");

    STEP("p2p_stream_close ends one");
    client = tcp_ping(two->address);
    int neighbour = tcp_ping(two->address);
    p2p_snapshot rows = list(two->near, P2P_LIST_STREAMS);
    CHECK_INT(rows_in(rows), 2);
    size_t older = number(rows, 0, "id") < number(rows, 1, "id") ? 0 : 1;
    uint64_t id = (uint64_t)number(rows, older, "id");
    PLAIN(p2p_snapshot_free(rows), P2P_OK);
    OK(p2p_stream_close(two->near, id, &error));
    CHECK_INT(end_of(client), ECONNRESET);
    CHECK(ping_fd(neighbour), "p2p_stream_close ended the neighbour");
    FAILS(p2p_stream_close(two->near, id, &error), P2P_ERROR_NOT_FOUND);
    close(client);
    close(neighbour);
    PLAIN(p2p_queue_close(near), P2P_OK);
}

/* The events of one forward with one stream, in their order and without a gap in the numbers. */
static void events(pair *two) {
    static const struct {
        int64_t kind;
        const char *field, *value;
    } expected[] = {{P2P_EVENT_MOUNT, "kind", "mount"},
                    {P2P_EVENT_STREAM_OPENED, "kind", "stream opened"},
                    {P2P_EVENT_STREAM_CLOSED, "reason", "finished"},
                    {P2P_EVENT_STREAM_OPENED, "protocol", "/x/test"},
                    {P2P_EVENT_STREAM_CLOSED, "reason", "reset by the local side"}};
    p2p_queue far = subscribe(two->far, P2P_EVENT_STREAM_CLOSED);
    p2p_queue near = subscribe(two->near, P2P_EVENT_MOUNT | P2P_EVENT_STREAM_OPENED | P2P_EVENT_STREAM_CLOSED);
    p2p_mount mount;
    char address[64];
    int64_t sequence = 0, stream = -1;
    STEP("events");
    forward_to(two->near, "test", two->far_address, &mount, address);
    CHECK(echo_check(address, 100000, 3) == NULL, "no echo");
    await(far, P2P_EVENT_STREAM_CLOSED, "reason", "finished");
    /* The reset only after the finished stream's event, so that the order is certain. */
    for (size_t i = 0; i < sizeof expected / sizeof *expected;) {
        if (i == 3 && stream != -2) {
            tcp_reset(tcp_ping(address));
            stream = -2;
        }
        p2p_event event = next_event(near, 10000);
        CHECK_INT(number(event, 0, "sequence"), ++sequence);
        CHECK(number(event, 0, "time_ms") > INT64_C(1600000000000), "time_ms is not milliseconds since 1970");
        /* Streams of other mounts may still be ending; the mount's state may change before the first stream is open. */
        bool extra = number(event, 0, "mount") != (int64_t)mount ||
                     (number(event, 0, "event") == P2P_EVENT_MOUNT && expected[i].kind != P2P_EVENT_MOUNT);
        if (!extra) {
            CHECK_INT(number(event, 0, "event"), expected[i].kind);
            CHECK_TEXT(text(event, 0, expected[i].field), expected[i].value);
            if (i == 2) {
                CHECK_INT(number(event, 0, "bytes_in"), 100000);
                CHECK_INT(number(event, 0, "bytes_out"), 100000);
            }
            i++;
        }
        PLAIN(p2p_event_free(event), P2P_OK);
    }
    await(far, P2P_EVENT_STREAM_CLOSED, "reason", "reset by the peer");
    OK(p2p_mount_close(mount, 0, &error));
    await(near, P2P_EVENT_MOUNT, "state", "closed");
    PLAIN(p2p_queue_close(near), P2P_OK);
    PLAIN(p2p_queue_close(far), P2P_OK);
}

/* Closing a node ends its streams and frees its ports; the last event is the node's. */
static void node_close(pair *two) {
    STEP("closing a node");
    p2p_queue near = subscribe(two->near, P2P_EVENT_NODE | P2P_EVENT_STREAM_CLOSED);
    int client = tcp_ping(two->address);
    OK(p2p_node_close(two->near, 0, &error));
    CHECK(is_free(two->address), "%s is not free after p2p_node_close", two->address);
    CHECK_INT(end_of(client), ECONNRESET);
    close(client);
    await(near, P2P_EVENT_STREAM_CLOSED, "reason", "node closed");
    await(near, P2P_EVENT_NODE, "state", "closed");
    p2p_event event;
    FAILS(p2p_next_event(near, -1, &event, &error), P2P_ERROR_CLOSED);
    PLAIN(p2p_queue_close(near), P2P_OK);

    STEP("the same port again");
    p2p_mount mount;
    two->near = node_open(NULL, NULL);
    OK(p2p_forward(two->near, "test", two->address, two->far_address, 0, &mount, &error));
    CHECK(echo_check(two->address, 1000, 1) == NULL, "no echo through the port that was bound again");
}

static void run(const char *transports, const char *transport) {
    pair two;
    pair_open(&two, serve_echo, transports);
    lists(&two, transport);
    data(&two);
    filters(&two);
    streams_and_mounts(&two);
    events(&two);
    node_close(&two);
    STEP("end");
    pair_close(&two);
}

int main(void) {
    start(90);
    /* The first node starts the library's threads; what they hold stays. */
    OK(p2p_node_close(node_open(NULL, NULL), 0, &error));
    int64_t handles = number_of(0, P2P_LIST_PROCESS, "handles");
    int descriptors = count_descriptors_of_nodes();
    run("tcp", "tcp");
    run("quic", "quic");
    STEP("nothing is left");
    CHECK_INT(number_of(0, P2P_LIST_PROCESS, "handles"), handles);
    CHECK_INT(number_of(0, P2P_LIST_PROCESS, "nodes"), 0);
    EVENTUALLY(count_descriptors_of_nodes() <= descriptors, 5000, "%d descriptors, %d at the start",
               count_descriptors_of_nodes(), descriptors);
    return 0;
}
