/* Promise: every error says in one sentence what failed, by name, and what would be right. All of them are printed, so
 * that they can be read beside each other. */
#include "net.h"

/* The call must fail with this status, and its sentence must hold every one of these words. */
#define SENTENCE(call, status, ...) \
    sentence(__LINE__, #call, POISONED(call), (status), (const char *const[]){__VA_ARGS__, NULL})

static void sentence(int line, const char *call, p2p_status got, p2p_status want, const char *const *words) {
    test_status(__FILE__, line, call, got, want, &error, NULL);
    printf("%-32s %s\n", p2p_status_name(got), error.message);
    for (; *words != NULL; words++)
        if (strstr(error.message, *words) == NULL)
            test_fail(__FILE__, line, "%s: \"%s\" does not say \"%s\"", call, error.message, *words);
    CHECK(strstr(error.message, "os error") == NULL, "\"%s\" has a number that belongs in system_error", error.message);
    CHECK(error.message[strlen(error.message) - 1] != '.', "\"%s\" ends in a full stop", error.message);
}

static p2p_node node;
static char other_address[P2P_ADDRESS_SIZE], other_id[P2P_PEER_ID_SIZE], own_id[P2P_PEER_ID_SIZE];

static void arguments(void) {
    p2p_mount mount;
    p2p_options options;
    p2p_snapshot snapshot;
    char buffer[8];
    STEP("arguments and handles");
    SENTENCE(p2p_options_new(NULL, &error), P2P_ERROR_INVALID_ARGUMENT, "options", "NULL");
    SENTENCE(p2p_listen(node, NULL, "8080", 0, &mount, &error), P2P_ERROR_INVALID_ARGUMENT, "protocol", "NULL");
    SENTENCE(p2p_listen(node, "\xff", "8080", 0, &mount, &error), P2P_ERROR_INVALID_ARGUMENT, "protocol", "UTF-8");
    SENTENCE(p2p_connect(node, other_address, -2, &error), P2P_ERROR_INVALID_ARGUMENT, "timeout_ms", "-2");
    SENTENCE(p2p_list(node, 0x100, &snapshot, &error), P2P_ERROR_INVALID_ARGUMENT, "what", "100");
    SENTENCE(p2p_mount_close(node, 0, &error), P2P_ERROR_BAD_HANDLE, "node", "mount");
    SENTENCE(p2p_node_close(UINT64_MAX, 0, &error), P2P_ERROR_BAD_HANDLE, "node");
    SENTENCE(p2p_node_peer_id(node, buffer, sizeof buffer, &error), P2P_ERROR_INVALID_ARGUMENT, "buffer", "8");
    SENTENCE(p2p_close(node, NULL, NULL, NULL, 0, NULL, &error), P2P_ERROR_INVALID_ARGUMENT, "P2P_CLOSE_ALL");
    SENTENCE(p2p_close(node, "a", NULL, NULL, P2P_CLOSE_ALL, NULL, &error), P2P_ERROR_INVALID_ARGUMENT,
             "P2P_CLOSE_ALL");
    SENTENCE(p2p_stream_close(node, 42, &error), P2P_ERROR_NOT_FOUND, "stream", "42");

    STEP("options");
    OK(p2p_options_new(&options, &error));
    SENTENCE(p2p_options_set(options, "transport", "tcp", &error), P2P_ERROR_BAD_OPTION, "transport", "transports");
    SENTENCE(p2p_options_set(options, "network", "lan", &error), P2P_ERROR_BAD_OPTION, "network", "'lan'",
             "public, private, local");
    SENTENCE(p2p_options_set(options, "transports", "tcp,sctp", &error), P2P_ERROR_BAD_OPTION, "transports", "tcp,sctp",
             "tcp, quic");
    SENTENCE(p2p_options_set(options, "verify", "maybe", &error), P2P_ERROR_BAD_OPTION, "verify", "'maybe'",
             "true or false");
    SENTENCE(p2p_options_set(options, "queue.capacity", "0", &error), P2P_ERROR_BAD_OPTION, "queue.capacity",
             "from 1 to");
    SENTENCE(p2p_options_set(options, "open.timeout", "soon", &error), P2P_ERROR_BAD_OPTION, "open.timeout", "'soon'",
             "30s");
    SENTENCE(p2p_options_set(options, "peers.allow", "me", &error), P2P_ERROR_BAD_OPTION, "peers.allow", "'me'");
    OK(p2p_options_set(options, "verify", "true", &error));
    SENTENCE(p2p_listen(node, "a", "8080", options, &mount, &error), P2P_ERROR_BAD_OPTION, "verify", "listener",
             "forward");
    PLAIN(p2p_options_free(options), P2P_OK);
    SENTENCE(p2p_set(node, "network", "local", &error), P2P_ERROR_BAD_OPTION, "network", "cannot be changed");
    options = options_of("identity.file", "/dev/null/key", (char *)NULL);
    p2p_node none;
    SENTENCE(p2p_node_open(options, &none, &error), P2P_ERROR_BAD_KEY, "/dev/null/key");
    CHECK_INT(error.system_error, ENOTDIR);
    PLAIN(p2p_options_free(options), P2P_OK);
}

static void names(void) {
    p2p_mount mount;
    STEP("names and addresses");
    SENTENCE(p2p_listen(node, "", "8080", 0, &mount, &error), P2P_ERROR_BAD_PROTOCOL, "protocol name is empty");
    SENTENCE(p2p_listen(node, "/http", "8080", 0, &mount, &error), P2P_ERROR_BAD_PROTOCOL, "'/http'",
             "protocol.custom=true");
    SENTENCE(p2p_listen(node, "a\nb", "8080", 0, &mount, &error), P2P_ERROR_BAD_PROTOCOL, "'a\\nb'",
             "control character");
    SENTENCE(p2p_listen(node, "a", "", 0, &mount, &error), P2P_ERROR_BAD_ADDRESS, "target address is empty");
    SENTENCE(p2p_listen(node, "a", "127.0.0.1:70000", 0, &mount, &error), P2P_ERROR_BAD_ADDRESS,
             "target address '127.0.0.1:70000'", "65535");
    SENTENCE(p2p_listen(node, "a", "0.0.0.0:80", 0, &mount, &error), P2P_ERROR_BAD_ADDRESS, "'0.0.0.0:80'",
             "127.0.0.1:80");
    SENTENCE(p2p_listen(node, "a", "8080:0", 0, &mount, &error), P2P_ERROR_BAD_ADDRESS, "'8080:0'");
    SENTENCE(p2p_listen(node, "a", "localhost:0", 0, &mount, &error), P2P_ERROR_BAD_ADDRESS, "'localhost:0'", "port");
    SENTENCE(p2p_listen(node, "a", "http://localhost:80", 0, &mount, &error), P2P_ERROR_BAD_ADDRESS, "URL");
    SENTENCE(p2p_forward(node, "a", "127.0.0.1", other_address, 0, &mount, &error), P2P_ERROR_BAD_ADDRESS,
             "listen address '127.0.0.1'", "port");
    SENTENCE(p2p_forward(node, "a", "0", "", 0, &mount, &error), P2P_ERROR_BAD_PEER, "peer is empty");
    SENTENCE(p2p_forward(node, "a", "0", "/ip4/127.0.0.1/tcp/1", 0, &mount, &error), P2P_ERROR_BAD_PEER,
             "'/ip4/127.0.0.1/tcp/1'", "/p2p/");
    SENTENCE(p2p_forward(node, "a", "0", "12D3KooWnot", 0, &mount, &error), P2P_ERROR_BAD_PEER, "12D3KooWnot");
    SENTENCE(p2p_forward(node, "a", "0", own_id, 0, &mount, &error), P2P_ERROR_BAD_PEER, own_id, "this node itself");
}

static void registrations(void) {
    p2p_mount mount, second;
    char address[64], path[64];
    STEP("what is taken already");
    OK(p2p_listen(node, "twice", "127.0.0.1:9", 0, &mount, &error));
    SENTENCE(p2p_listen(node, "twice", "127.0.0.1:10", 0, &second, &error), P2P_ERROR_ALREADY_REGISTERED, "/x/twice");
    OK(p2p_mount_close(mount, 0, &error));
    forward_to(node, "a", other_address, &mount, address);
    SENTENCE(p2p_forward(node, "b", address, other_address, 0, &second, &error), P2P_ERROR_ADDRESS_IN_USE,
             "listen address", address, "already in use");
    CHECK_INT(error.system_error, EADDRINUSE);
    OK(p2p_mount_close(mount, 0, &error));
    snprintf(path, sizeof path, "unix:%s", "/dev/null");
    SENTENCE(p2p_forward(node, "b", path, other_address, 0, &second, &error), P2P_ERROR_ADDRESS_IN_USE, "/dev/null",
             "already in use");
    SENTENCE(p2p_forward(node, "b", "unix:/dev/null/socket", other_address, 0, &second, &error), P2P_ERROR_SYSTEM,
             "/dev/null/socket");
    CHECK_INT(error.system_error, ENOTDIR);
    SENTENCE(p2p_forward(node, "b", "192.0.2.1:0", other_address, 0, &second, &error), P2P_ERROR_BAD_ADDRESS,
             "192.0.2.1:0", "network=local");
}

static void peers(void) {
    p2p_mount mount;
    char gone[P2P_ADDRESS_SIZE], gone_id[P2P_PEER_ID_SIZE], silent[256];
    server black_hole;
    STEP("peers that cannot be reached");
    p2p_node closed = node_open("transports", "tcp");
    OK(p2p_node_address(closed, gone, sizeof gone, &error));
    OK(p2p_node_peer_id(closed, gone_id, sizeof gone_id, &error));
    OK(p2p_node_close(closed, 0, &error));
    SENTENCE(p2p_connect(node, gone, 5000, &error), P2P_ERROR_UNREACHABLE, gone_id, "refused");
    CHECK((error.flags & P2P_ERROR_FLAG_TEMPORARY) != 0, "unreachable is not temporary");
    /* An address of the node that is gone is known now; another id has none. */
    SENTENCE(p2p_connect(node, "12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA", 5000, &error),
             P2P_ERROR_UNREACHABLE, "12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA", "address");
    server_start(&black_hole, serve_sink);
    silent_peer(&black_hole, silent);
    SENTENCE(p2p_connect(node, silent, 200, &error), P2P_ERROR_TIMED_OUT, "200");
    CHECK((error.flags & P2P_ERROR_FLAG_TIMED_OUT) != 0, "the flag for timeouts is not set");
    server_stop(&black_hole);
    p2p_options verify = options_of("verify", "true", (char *)NULL);
    SENTENCE(p2p_forward(node, "nobody-has-this", "127.0.0.1:0", other_address, verify, &mount, &error),
             P2P_ERROR_PROTOCOL_REFUSED, other_id, "/x/nobody-has-this");
    SENTENCE(p2p_forward(node, "a", "127.0.0.1:0", gone, verify, &mount, &error), P2P_ERROR_UNREACHABLE, gone_id);
    PLAIN(p2p_options_free(verify), P2P_OK);
    CHECK_INT(count_rows(node, P2P_LIST_FORWARDS), 0);
}

static void must_tell(p2p_queue queue, int64_t kind, p2p_status code, const char *part, const char *other) {
    p2p_event event = await_event(queue, kind, NULL, NULL);
    CHECK(number(event, 0, "code") == code, "expected %s, got %s: %s", p2p_status_name(code),
          p2p_status_name((p2p_status)number(event, 0, "code")), text(event, 0, "message"));
    printf("%-32s %s\n", p2p_status_name(code), text(event, 0, "message"));
    CHECK(strstr(text(event, 0, "message"), part) != NULL, "\"%s\" does not say \"%s\"", text(event, 0, "message"),
          part);
    CHECK(strstr(text(event, 0, "message"), other) != NULL, "\"%s\" does not say \"%s\"", text(event, 0, "message"),
          other);
    PLAIN(p2p_event_free(event), P2P_OK);
}

/* What happens to streams is told by events and by the mount's last error. */
static void events(p2p_node other) {
    p2p_mount listener, forward;
    char address[64], nothing[32];
    server place;
    STEP("targets that refuse");
    server_start(&place, serve_sink);
    snprintf(nothing, sizeof nothing, "%s", place.address);
    server_stop(&place);
    p2p_queue queue = subscribe(other, P2P_EVENT_TARGET_REFUSED | P2P_EVENT_REFUSED);
    OK(p2p_listen(other, "refuses", nothing, 0, &listener, &error));
    forward_to(node, "refuses", other_address, &forward, address);
    CHECK_INT(tcp_fate(address, ""), ECONNRESET);
    must_tell(queue, P2P_EVENT_TARGET_REFUSED, P2P_ERROR_TARGET_REFUSED, nothing, "refused");
    p2p_snapshot rows = list(listener, P2P_LIST_LISTENERS);
    CHECK_INT(number(rows, 0, "error_code"), P2P_ERROR_TARGET_REFUSED);
    CHECK(strstr(text(rows, 0, "error"), nothing) != NULL, "the last error is \"%s\"", text(rows, 0, "error"));
    PLAIN(p2p_snapshot_free(rows), P2P_OK);
    PLAIN(p2p_queue_close(queue), P2P_OK);
    OK(p2p_mount_close(listener, 0, &error));

    STEP("a client whose stream cannot be opened");
    queue = subscribe(node, P2P_EVENT_REFUSED);
    CHECK_INT(tcp_fate(address, ""), ECONNRESET);
    must_tell(queue, P2P_EVENT_REFUSED, P2P_ERROR_PROTOCOL_REFUSED, other_id, "/x/refuses");
    EVENTUALLY(number_of(forward, P2P_LIST_FORWARDS, "error_code") == P2P_ERROR_PROTOCOL_REFUSED, 5000,
               "the forward does not show its last error");
    PLAIN(p2p_queue_close(queue), P2P_OK);
    OK(p2p_mount_close(forward, 0, &error));
}

int main(void) {
    start(60);
    node = node_open("transports", "tcp");
    p2p_node other = node_open(NULL, NULL);
    OK(p2p_node_peer_id(node, own_id, sizeof own_id, &error));
    OK(p2p_node_peer_id(other, other_id, sizeof other_id, &error));
    OK(p2p_node_address(other, other_address, sizeof other_address, &error));
    arguments();
    names();
    registrations();
    peers();
    events(other);
    STEP("a node that is closed");
    char buffer[P2P_PEER_ID_SIZE];
    OK(p2p_node_close(other, 0, &error));
    OK(p2p_node_close(node, 0, &error));
    SENTENCE(p2p_node_peer_id(node, buffer, sizeof buffer, &error), P2P_ERROR_BAD_HANDLE, "node", "closed");
    p2p_snapshot none;
    SENTENCE(p2p_list(node, P2P_LIST_NODE, &none, &error), P2P_ERROR_BAD_HANDLE, "a node", "closed");
    return 0;
}
