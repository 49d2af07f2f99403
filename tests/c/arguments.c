/* Promise: a wrong argument is an error code with a sentence that names it, never a crash and never a half-done call.
 * Handle outputs are 0 after a failure, and p2p_error may be NULL everywhere. */
#include "net.h"

#define BAD_TEXT "\xff\xfe!"
static const int32_t INVALID = P2P_ERROR_INVALID_ARGUMENT;

static p2p_node node, other;
static p2p_mount listener;
static p2p_options options;
static p2p_queue queue;
static p2p_snapshot snapshot;
static char peer[P2P_ADDRESS_SIZE], peer_id[P2P_PEER_ID_SIZE], own_id[P2P_PEER_ID_SIZE];
static char target[32];

/* A call that must fail and leave 0 in its handle output. */
#define NO_HANDLE(handle, call, status, part) \
    do { \
        (handle) = 77; \
        SAYS(call, status, part); \
        CHECK_INT(handle, 0); \
    } while (0)

static void null_pointers(void) {
    char buffer[P2P_ADDRESS_SIZE];
    uint64_t made;
    const char *value;
    int64_t integer;
    STEP("NULL for every required pointer");
    SAYS(p2p_options_new(NULL, &error), INVALID, "options");
    SAYS(p2p_options_set(options, NULL, "tcp", &error), INVALID, "name");
    SAYS(p2p_options_set(options, "transports", NULL, &error), INVALID, "value");
    SAYS(p2p_key_export(NULL, "base64", "/nowhere/key", &error), INVALID, "identity_file");
    SAYS(p2p_key_export("/nowhere/key", NULL, "/nowhere/other", &error), INVALID, "format");
    SAYS(p2p_key_export("/nowhere/key", "base64", NULL, &error), INVALID, "destination");
    SAYS(p2p_node_open(0, NULL, &error), INVALID, "node");
    SAYS(p2p_node_peer_id(node, NULL, 128, &error), INVALID, "buffer");
    SAYS(p2p_node_address(node, NULL, 4096, &error), INVALID, "buffer");
    SAYS(p2p_connect(node, NULL, 1000, &error), INVALID, "peer");
    SAYS(p2p_connect_start(node, peer, 1000, NULL, &error), INVALID, "operation");
    NO_HANDLE(made, p2p_connect_start(node, NULL, 1000, &made, &error), INVALID, "peer");
    SAYS(p2p_node_close_start(node, 0, NULL, &error), INVALID, "operation");
    SAYS(p2p_listen(node, "null", target, 0, NULL, &error), INVALID, "mount");
    NO_HANDLE(made, p2p_listen(node, NULL, target, 0, &made, &error), INVALID, "protocol");
    NO_HANDLE(made, p2p_listen(node, "null", NULL, 0, &made, &error), INVALID, "target_address");
    SAYS(p2p_forward(node, "null", "127.0.0.1:0", peer, 0, NULL, &error), INVALID, "mount");
    NO_HANDLE(made, p2p_forward(node, NULL, "127.0.0.1:0", peer, 0, &made, &error), INVALID, "protocol");
    NO_HANDLE(made, p2p_forward(node, "null", NULL, peer, 0, &made, &error), INVALID, "listen_address");
    NO_HANDLE(made, p2p_forward(node, "null", "127.0.0.1:0", NULL, 0, &made, &error), INVALID, "peer");
    SAYS(p2p_forward_start(node, "null", "127.0.0.1:0", peer, 0, NULL, &error), INVALID, "operation");
    NO_HANDLE(made, p2p_forward_start(node, NULL, "127.0.0.1:0", peer, 0, &made, &error), INVALID, "protocol");
    NO_HANDLE(made, p2p_forward_start(node, "null", NULL, peer, 0, &made, &error), INVALID, "listen_address");
    NO_HANDLE(made, p2p_forward_start(node, "null", "127.0.0.1:0", NULL, 0, &made, &error), INVALID, "peer");
    SAYS(p2p_mount_address(listener, NULL, 64, &error), INVALID, "buffer");
    SAYS(p2p_list(node, P2P_LIST_PEERS, NULL, &error), INVALID, "snapshot");
    SAYS(p2p_row_count(snapshot, NULL, &error), INVALID, "count");
    SAYS(p2p_row_field(snapshot, 0, 0, NULL, &error), INVALID, "name");
    SAYS(p2p_row_text(snapshot, 0, NULL, &value, &error), INVALID, "field");
    SAYS(p2p_row_text(snapshot, 0, "kind", NULL, &error), INVALID, "value");
    SAYS(p2p_row_int(snapshot, 0, NULL, &integer, &error), INVALID, "field");
    SAYS(p2p_row_int(snapshot, 0, "id", NULL, &error), INVALID, "value");
    SAYS(p2p_set(node, NULL, "1", &error), INVALID, "name");
    SAYS(p2p_set(node, "network", NULL, &error), INVALID, "value");
    NO_HANDLE(made, p2p_get(node, NULL, &made, &error), INVALID, "name");
    SAYS(p2p_get(node, "network", NULL, &error), INVALID, "snapshot");
    SAYS(p2p_subscribe(node, P2P_EVENT_ALL, 0, NULL, &error), INVALID, "queue");
    SAYS(p2p_next_event(queue, 0, NULL, &error), INVALID, "event");
    SAYS(p2p_queue_fd(queue, NULL, &error), INVALID, "fd");
    CHECK_INT(count_rows(node, P2P_LIST_LISTENERS | P2P_LIST_FORWARDS), 1);

    STEP("NULL for the optional pointers");
    PLAIN(p2p_options_new(&made, NULL), P2P_OK);
    PLAIN(p2p_options_set(made, "transports", "tcp", NULL), P2P_OK);
    PLAIN(p2p_options_set(made, "no.such.option", "1", NULL), P2P_ERROR_BAD_OPTION);
    PLAIN(p2p_options_free(made), P2P_OK);
    PLAIN(p2p_node_peer_id(node, buffer, sizeof buffer, NULL), P2P_OK);
    PLAIN(p2p_node_address(node, buffer, sizeof buffer, NULL), P2P_OK);
    PLAIN(p2p_list(node, P2P_LIST_NODE, &made, NULL), P2P_OK);
    PLAIN(p2p_snapshot_free(made), P2P_OK);
    PLAIN(p2p_listen(node, "optional", target, 0, &made, NULL), P2P_OK);
    PLAIN(p2p_close(node, "optional", NULL, NULL, 0, NULL, NULL), P2P_OK);
    PLAIN(p2p_forward(node, NULL, NULL, NULL, 0, NULL, NULL), INVALID);
    PLAIN(p2p_next_event(queue, -2, &made, NULL), INVALID);
    PLAIN(p2p_node_open(0, &made, NULL), P2P_OK);
    PLAIN(p2p_node_close(made, 0, NULL), P2P_OK);
}

static void invalid_utf8(void) {
    uint64_t made;
    const char *value;
    int64_t integer;
    STEP("invalid UTF-8 for every string");
    SAYS(p2p_options_set(options, BAD_TEXT, "tcp", &error), INVALID, "name");
    SAYS(p2p_options_set(options, "transports", BAD_TEXT, &error), INVALID, "value");
    SAYS(p2p_key_export(BAD_TEXT, "base64", "/nowhere/key", &error), INVALID, "identity_file");
    SAYS(p2p_key_export("/nowhere/key", BAD_TEXT, "/nowhere/other", &error), INVALID, "format");
    SAYS(p2p_key_export("/nowhere/key", "base64", BAD_TEXT, &error), INVALID, "destination");
    SAYS(p2p_connect(node, BAD_TEXT, 1000, &error), INVALID, "peer");
    NO_HANDLE(made, p2p_connect_start(node, BAD_TEXT, 1000, &made, &error), INVALID, "peer");
    NO_HANDLE(made, p2p_listen(node, BAD_TEXT, target, 0, &made, &error), INVALID, "protocol");
    NO_HANDLE(made, p2p_listen(node, "utf8", BAD_TEXT, 0, &made, &error), INVALID, "target_address");
    NO_HANDLE(made, p2p_forward(node, BAD_TEXT, "127.0.0.1:0", peer, 0, &made, &error), INVALID, "protocol");
    NO_HANDLE(made, p2p_forward(node, "utf8", BAD_TEXT, peer, 0, &made, &error), INVALID, "listen_address");
    NO_HANDLE(made, p2p_forward(node, "utf8", "127.0.0.1:0", BAD_TEXT, 0, &made, &error), INVALID, "peer");
    NO_HANDLE(made, p2p_forward_start(node, BAD_TEXT, "127.0.0.1:0", peer, 0, &made, &error), INVALID, "protocol");
    NO_HANDLE(made, p2p_forward_start(node, "utf8", BAD_TEXT, peer, 0, &made, &error), INVALID, "listen_address");
    NO_HANDLE(made, p2p_forward_start(node, "utf8", "127.0.0.1:0", BAD_TEXT, 0, &made, &error), INVALID, "peer");
    SAYS(p2p_close(node, BAD_TEXT, NULL, NULL, 0, NULL, &error), INVALID, "protocol");
    SAYS(p2p_close(node, NULL, BAD_TEXT, NULL, 0, NULL, &error), INVALID, "listen_address");
    SAYS(p2p_close(node, NULL, NULL, BAD_TEXT, 0, NULL, &error), INVALID, "target");
    SAYS(p2p_row_text(snapshot, 0, BAD_TEXT, &value, &error), INVALID, "field");
    SAYS(p2p_row_int(snapshot, 0, BAD_TEXT, &integer, &error), INVALID, "field");
    SAYS(p2p_set(node, BAD_TEXT, "1", &error), INVALID, "name");
    SAYS(p2p_set(node, "network", BAD_TEXT, &error), INVALID, "value");
    NO_HANDLE(made, p2p_get(node, BAD_TEXT, &made, &error), INVALID, "name");
    CHECK_INT(count_rows(node, P2P_LIST_LISTENERS | P2P_LIST_FORWARDS), 1);
}

static void names(void) {
    /* "/x/" and 1,019 bytes are the longest name there is. */
    char name[1021], huge[5001];
    p2p_mount made;
    memset(name, 'n', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    memset(huge, 'a', sizeof huge - 1);
    huge[sizeof huge - 1] = '\0';
    STEP("protocol names");
    static const char *const bad[] = {"", "two\nlines", "tab\ttab\n", "\n", "/other/name", "/x/"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        NO_HANDLE(made, p2p_listen(node, bad[i], target, 0, &made, &error), P2P_ERROR_BAD_PROTOCOL, "protocol");
        NO_HANDLE(made, p2p_forward(node, bad[i], "127.0.0.1:0", peer, 0, &made, &error), P2P_ERROR_BAD_PROTOCOL,
                  "protocol");
    }
    NO_HANDLE(made, p2p_listen(node, name, target, 0, &made, &error), P2P_ERROR_BAD_PROTOCOL, "protocol");
    NO_HANDLE(made, p2p_listen(node, huge, target, 0, &made, &error), P2P_ERROR_BAD_PROTOCOL, "protocol");
    name[1019] = '\0';
    OK(p2p_listen(node, name, target, 0, &made, &error));
    OK(p2p_mount_close(made, 0, &error));

    STEP("addresses");
    static const char *const addresses[] = {"",
                                            "127.0.0.1:99999",
                                            "127.0.0.1:",
                                            "127.0.0.1:80\n",
                                            "127.0.0.1",
                                            "[::1:80",
                                            "-1",
                                            "127.0.0.1:8x",
                                            "unix:",
                                            "/ip4/127.0.0.1",
                                            "/ip4/1.2.3/tcp/1",
                                            "two words:80",
                                            "127.0.0.1:80:80"};
    for (size_t i = 0; i < sizeof addresses / sizeof *addresses; i++) {
        NO_HANDLE(made, p2p_listen(node, "addresses", addresses[i], 0, &made, &error), P2P_ERROR_BAD_ADDRESS,
                  "address");
        NO_HANDLE(made, p2p_forward(node, "addresses", addresses[i], peer, 0, &made, &error), P2P_ERROR_BAD_ADDRESS,
                  "address");
    }
    NO_HANDLE(made, p2p_listen(node, "addresses", huge, 0, &made, &error), P2P_ERROR_BAD_ADDRESS, "address");
    NO_HANDLE(made, p2p_forward(node, "addresses", huge, peer, 0, &made, &error), P2P_ERROR_BAD_ADDRESS, "address");
    memcpy(huge, "unix:/tmp/", 10);
    NO_HANDLE(made, p2p_forward(node, "addresses", huge, peer, 0, &made, &error), P2P_ERROR_BAD_ADDRESS, "unix");
    NO_HANDLE(made, p2p_listen(node, "addresses", "127.0.0.1:0", 0, &made, &error), P2P_ERROR_BAD_ADDRESS, "port");

    STEP("peers");
    memset(huge, 'Q', sizeof huge - 1);
    const char *const peers[] = {"",     "nobody", "/ip4/127.0.0.1/tcp/4001", "/p2p/nobody", "12D3KooW", "\n", ",",
                                 own_id, huge};
    for (size_t i = 0; i < sizeof peers / sizeof *peers; i++) {
        p2p_operation operation;
        SAYS(p2p_connect(node, peers[i], 1000, &error), P2P_ERROR_BAD_PEER, "peer");
        NO_HANDLE(operation, p2p_connect_start(node, peers[i], 1000, &operation, &error), P2P_ERROR_BAD_PEER, "peer");
        NO_HANDLE(made, p2p_forward(node, "peers", "127.0.0.1:0", peers[i], 0, &made, &error), P2P_ERROR_BAD_PEER,
                  "peer");
    }
    CHECK_INT(count_rows(node, P2P_LIST_LISTENERS | P2P_LIST_FORWARDS), 1);
}

static void flags_and_numbers(void) {
    static const uint32_t unknown[] = {0x80000000u, 0x40000000u, 0x100u};
    char buffer[P2P_ADDRESS_SIZE];
    uint64_t made;
    const char *value;
    int64_t integer;
    size_t closed = 0;
    STEP("unknown flags");
    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++) {
        SAYS(p2p_mount_close(listener, unknown[i], &error), INVALID, "flags");
        SAYS(p2p_close(node, NULL, NULL, NULL, P2P_CLOSE_ALL | unknown[i], NULL, &error), INVALID, "flags");
        NO_HANDLE(made, p2p_list(node, P2P_LIST_PEERS | unknown[i], &made, &error), INVALID, "what");
    }
    NO_HANDLE(made, p2p_subscribe(node, 0x80000000u, 0, &made, &error), INVALID, "kinds");
    STEP("what needs a node");
    NO_HANDLE(made, p2p_list(0, P2P_LIST_PEERS, &made, &error), P2P_ERROR_BAD_HANDLE, "");
    STEP("filters of p2p_close");
    FAILS(p2p_close(node, NULL, NULL, NULL, 0, NULL, &error), INVALID);
    FAILS(p2p_close(node, "test", NULL, NULL, P2P_CLOSE_ALL, NULL, &error), INVALID);
    OK(p2p_close(node, "nothing-has-this-name", NULL, NULL, 0, &closed, &error));
    CHECK_INT(closed, 0);

    STEP("times below -1");
    static const int32_t times[] = {-2, INT32_MIN};
    for (size_t i = 0; i < 2; i++) {
        SAYS(p2p_connect(node, peer, times[i], &error), INVALID, "timeout_ms");
        NO_HANDLE(made, p2p_connect_start(node, peer, times[i], &made, &error), INVALID, "timeout_ms");
        NO_HANDLE(made, p2p_next_event(queue, times[i], &made, &error), INVALID, "timeout_ms");
        SAYS(p2p_node_close(node, times[i], &error), INVALID, "drain_ms");
        NO_HANDLE(made, p2p_node_close_start(node, times[i], &made, &error), INVALID, "drain_ms");
    }
    OK(p2p_node_peer_id(node, buffer, sizeof buffer, &error)); /* and the node is still open */

    STEP("buffers that are too small");
    buffer[4] = '#';
    FAILS(p2p_node_peer_id(node, buffer, 4, &error), INVALID);
    FAILS(p2p_node_peer_id(node, buffer, 0, &error), INVALID);
    FAILS(p2p_node_address(node, buffer, 4, &error), INVALID);
    FAILS(p2p_mount_address(listener, buffer, 4, &error), INVALID);
    CHECK_INT(buffer[4], '#');
    OK(p2p_node_peer_id(node, buffer, strlen(own_id) + 1, &error));
    CHECK_TEXT(buffer, own_id);

    STEP("rows and fields that are not there");
    FAILS(p2p_row_text(snapshot, 1000, "kind", &value, &error), P2P_ERROR_NOT_FOUND);
    FAILS(p2p_row_text(snapshot, SIZE_MAX, "kind", &value, &error), P2P_ERROR_NOT_FOUND);
    SAYS(p2p_row_text(snapshot, 0, "no_such_field", &value, &error), INVALID, "no_such_field");
    SAYS(p2p_row_int(snapshot, 0, "no_such_field", &integer, &error), INVALID, "no_such_field");
    SAYS(p2p_row_text(snapshot, 0, "rtt_us", &value, &error), P2P_ERROR_NOT_FOUND, "rtt_us");
    SAYS(p2p_row_int(snapshot, 0, "rtt_us", &integer, &error), P2P_ERROR_NOT_FOUND, "rtt_us");
    SAYS(p2p_row_int(snapshot, 0, "kind", &integer, &error), INVALID, "kind");
    FAILS(p2p_row_field(snapshot, 0, 1000, &value, &error), P2P_ERROR_NOT_FOUND);
    FAILS(p2p_row_field(snapshot, 0, SIZE_MAX, &value, &error), P2P_ERROR_NOT_FOUND);
    FAILS(p2p_stream_close(node, 123456, &error), P2P_ERROR_NOT_FOUND);
    FAILS(p2p_stream_close(node, UINT64_MAX, &error), P2P_ERROR_NOT_FOUND);
}

static void option_names_and_values(void) {
    uint64_t made;
    p2p_options wrong;
    STEP("options");
    static const char *const unknown[] = {"", "no.such.option", "Network", "network ", "net\nwork"};
    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++) {
        FAILS(p2p_options_set(options, unknown[i], "1", &error), P2P_ERROR_BAD_OPTION);
        FAILS(p2p_set(node, unknown[i], "1", &error), P2P_ERROR_BAD_OPTION);
        NO_HANDLE(made, p2p_get(node, unknown[i], &made, &error), P2P_ERROR_BAD_OPTION, "");
    }
    SAYS(p2p_options_set(options, "no.such.option", "1", &error), P2P_ERROR_BAD_OPTION, "no.such.option");
    SAYS(p2p_options_set(options, "network", "nowhere", &error), P2P_ERROR_BAD_OPTION, "nowhere");
    static const char *const networks[] = {"public", "private", "local"};
    for (size_t i = 0; i < 3; i++)
        SAYS(p2p_options_set(options, "network", "nowhere", &error), P2P_ERROR_BAD_OPTION, networks[i]);
    SAYS(p2p_options_set(options, "transports", "pigeon", &error), P2P_ERROR_BAD_OPTION, "tcp");
    SAYS(p2p_options_set(options, "transports", "pigeon", &error), P2P_ERROR_BAD_OPTION, "quic");
    SAYS(p2p_options_set(options, "verify", "perhaps", &error), P2P_ERROR_BAD_OPTION, "true");
    SAYS(p2p_options_set(options, "queue.capacity", "many", &error), P2P_ERROR_BAD_OPTION, "queue.capacity");
    SAYS(p2p_options_set(options, "queue.capacity", "-1", &error), P2P_ERROR_BAD_OPTION, "queue.capacity");
    SAYS(p2p_options_set(options, "queue.capacity", "99999999999999999999", &error), P2P_ERROR_BAD_OPTION,
         "queue.capacity");

    STEP("options out of scope");
    wrong = options_of("verify", "true", (char *)NULL);
    NO_HANDLE(made, p2p_node_open(wrong, &made, &error), P2P_ERROR_BAD_OPTION, "verify");
    NO_HANDLE(made, p2p_subscribe(node, P2P_EVENT_ALL, wrong, &made, &error), P2P_ERROR_BAD_OPTION, "verify");
    PLAIN(p2p_options_free(wrong), P2P_OK);
    wrong = options_of("network", "local", (char *)NULL);
    NO_HANDLE(made, p2p_listen(node, "scope", target, wrong, &made, &error), P2P_ERROR_BAD_OPTION, "network");
    NO_HANDLE(made, p2p_forward(node, "scope", "127.0.0.1:0", peer, wrong, &made, &error), P2P_ERROR_BAD_OPTION,
              "network");
    NO_HANDLE(made, p2p_forward_start(node, "scope", "127.0.0.1:0", peer, wrong, &made, &error), P2P_ERROR_BAD_OPTION,
              "network");
    PLAIN(p2p_options_free(wrong), P2P_OK);
    SAYS(p2p_set(node, "network", "public", &error), P2P_ERROR_BAD_OPTION, "network"); /* not changeable live */
    SAYS(p2p_set(0, "network", "local", &error), P2P_ERROR_BAD_OPTION, "network");
    CHECK_INT(count_rows(node, P2P_LIST_LISTENERS | P2P_LIST_FORWARDS), 1);
}

static void names_of_status_codes(void) {
    STEP("status names and versions");
    CHECK_TEXT(p2p_status_name(P2P_OK), "P2P_OK");
    CHECK_TEXT(p2p_status_name(P2P_ERROR_LIMIT), "P2P_ERROR_LIMIT");
    CHECK_TEXT(p2p_status_name(P2P_ERROR_INTERNAL), "P2P_ERROR_INTERNAL");
    for (p2p_status status = P2P_OK; status <= P2P_ERROR_INTERNAL; status++)
        CHECK(strncmp(p2p_status_name(status), "P2P_", 4) == 0, "status %d is called %s", status,
              p2p_status_name(status));
    static const p2p_status none[] = {-1, 22, INT32_MIN, INT32_MAX};
    for (size_t i = 0; i < 4; i++) CHECK(p2p_status_name(none[i]) != NULL, "no name for status %d", none[i]);
    char version[32];
    snprintf(version, sizeof version, "%d.%d.%d", P2P_VERSION_MAJOR, P2P_VERSION_MINOR, P2P_VERSION_PATCH);
    CHECK_TEXT(P2P_VERSION_STRING, version);
    CHECK_TEXT(p2p_version(), P2P_VERSION_STRING);
    CHECK_INT(P2P_VERSION_NUMBER, P2P_VERSION_MAJOR * 10000 + P2P_VERSION_MINOR * 100 + P2P_VERSION_PATCH);
    CHECK_INT(p2p_abi_version(), P2P_ABI_VERSION);
    CHECK_INT(sizeof(p2p_error), 1024);
}

int main(void) {
    server sink;
    start(60);
    names_of_status_codes();
    server_start(&sink, serve_sink);
    snprintf(target, sizeof target, "%s", sink.address);
    node = node_open(NULL, NULL);
    other = node_open(NULL, NULL);
    OK(p2p_node_peer_id(node, own_id, sizeof own_id, &error));
    OK(p2p_node_peer_id(other, peer_id, sizeof peer_id, &error));
    OK(p2p_node_address(other, peer, sizeof peer, &error));
    OK(p2p_listen(node, "test", target, 0, &listener, &error));
    OK(p2p_options_new(&options, &error));
    queue = subscribe(node, P2P_EVENT_STREAM_OPENED);
    snapshot = list(node, P2P_LIST_LISTENERS);

    null_pointers();
    invalid_utf8();
    names();
    flags_and_numbers();
    option_names_and_values();

    STEP("end");
    CHECK_INT(server_accepted(&sink), 0);
    PLAIN(p2p_snapshot_free(snapshot), P2P_OK);
    PLAIN(p2p_queue_close(queue), P2P_OK);
    PLAIN(p2p_options_free(options), P2P_OK);
    OK(p2p_node_close(other, 0, &error));
    OK(p2p_node_close(node, 0, &error));
    server_stop(&sink);
    return 0;
}
