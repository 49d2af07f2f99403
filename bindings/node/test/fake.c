/* A library that has the functions of p2pmount and does next to nothing: what a package does with one of another
 * version. */
#include <p2pmount.h>
#include <string.h>
#include <sys/socket.h>

#ifndef FAKE_ABI
#define FAKE_ABI P2P_ABI_VERSION
#endif

enum { NODE = 8, QUEUE = 16, OPERATIONS = 24, EVENT = 32, SNAPSHOT = 40, OPERATION = 48 };

/* How far the end of a queue has come. */
enum end { GOING, ENDING, ENDED };

/* A queue: the descriptor that makes it readable, and how many events wait in it. */
static struct queue {
    int wake;
    int waiting;
    enum end end;
} operations, events = {.waiting = 2};

const char *p2p_version(void) { return "0.99.0"; }
uint32_t p2p_abi_version(void) { return FAKE_ABI; }
const char *p2p_status_name(p2p_status status) { return status == 99 ? "P2P_ERROR_BRAND_NEW" : "P2P_ERROR_?"; }

#define NOTHING(name, ...) \
    p2p_status name(__VA_ARGS__) { return P2P_OK; }
NOTHING(p2p_options_new, p2p_options *options, p2p_error *error)
NOTHING(p2p_options_set, p2p_options options, const char *name, const char *value, p2p_error *error)
NOTHING(p2p_options_free, p2p_options options)
NOTHING(p2p_key_export, const char *identity_file, const char *format, const char *destination, p2p_error *error)
NOTHING(p2p_set, uint64_t handle, const char *name, const char *value, p2p_error *error)
NOTHING(p2p_get, uint64_t handle, const char *name, p2p_snapshot *snapshot, p2p_error *error)
NOTHING(p2p_node_close, p2p_node node, int32_t drain_ms, p2p_error *error)
NOTHING(p2p_node_address, p2p_node node, char *buffer, size_t size, p2p_error *error)
NOTHING(p2p_connect, p2p_node node, const char *peer, int32_t timeout_ms, p2p_error *error)
NOTHING(p2p_connect_start, p2p_node node, const char *peer, int32_t timeout_ms, p2p_operation *operation,
        p2p_error *error)
NOTHING(p2p_listen, p2p_node node, const char *protocol, const char *target_address, p2p_options options,
        p2p_mount *mount, p2p_error *error)
NOTHING(p2p_forward, p2p_node node, const char *protocol, const char *listen_address, const char *peer,
        p2p_options options, p2p_mount *mount, p2p_error *error)
NOTHING(p2p_forward_start, p2p_node node, const char *protocol, const char *listen_address, const char *peer,
        p2p_options options, p2p_operation *operation, p2p_error *error)
NOTHING(p2p_mount_address, p2p_mount mount, char *buffer, size_t size, p2p_error *error)
NOTHING(p2p_mount_close, p2p_mount mount, uint32_t flags, p2p_error *error)
NOTHING(p2p_close, p2p_node node, const char *protocol, const char *listen_address, const char *target, uint32_t flags,
        size_t *closed, p2p_error *error)
NOTHING(p2p_snapshot_free, p2p_snapshot snapshot)
NOTHING(p2p_queue_close, p2p_queue queue)
NOTHING(p2p_event_free, p2p_event event)
NOTHING(p2p_operation_cancel, p2p_operation operation, p2p_error *error)

p2p_status p2p_node_open(p2p_options options, p2p_node *node, p2p_error *error) {
    *node = NODE;
    return P2P_OK;
}

p2p_status p2p_node_close_start(p2p_node node, int32_t drain_ms, p2p_operation *operation, p2p_error *error) {
    *operation = OPERATION;
    operations.waiting = 1;
    operations.end = ENDING;
    return send(operations.wake, "x", 1, 0) == 1 ? P2P_OK : P2P_ERROR_SYSTEM;
}

p2p_status p2p_node_peer_id(p2p_node node, char *buffer, size_t size, p2p_error *error) {
    strcpy(buffer, "fake");
    return P2P_OK;
}

p2p_status p2p_stream_close(p2p_node node, uint64_t stream_id, p2p_error *error) {
    memset(error, 0, sizeof *error);
    error->code = 99;
    error->system_error = 5;
    error->flags = P2P_ERROR_FLAG_TEMPORARY | 64;
    strcpy(error->message,
           "stream 7 is a br\xc3\xbc"
           "cke");
    return 99;
}

p2p_status p2p_subscribe(p2p_node node, uint32_t kinds, p2p_options options, p2p_queue *queue, p2p_error *error) {
    *queue = kinds == P2P_EVENT_OPERATION ? OPERATIONS : QUEUE;
    return P2P_OK;
}

p2p_status p2p_queue_fd(p2p_queue handle, int *fd, p2p_error *error) {
    struct queue *queue = handle == OPERATIONS ? &operations : &events;
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) != 0) return P2P_ERROR_SYSTEM;
    if (queue->waiting > 0 && send(ends[1], "x", 1, 0) != 1) return P2P_ERROR_SYSTEM;
    queue->wake = ends[1];
    *fd = ends[0];
    return P2P_OK;
}

/* The queues of a node that is being closed end one after the other, each just after it was found empty. */
p2p_status p2p_next_event(p2p_queue handle, int32_t timeout_ms, p2p_event *event, p2p_error *error) {
    struct queue *queue = handle == OPERATIONS ? &operations : &events;
    if (queue->waiting > 0) {
        queue->waiting--;
        *event = EVENT;
        return P2P_OK;
    }
    if (queue->end == ENDED) {
        if (queue == &operations) events.end = ENDING;
        return P2P_ERROR_CLOSED;
    }
    if (queue->end == ENDING) {
        queue->end = ENDED;
        shutdown(queue->wake, SHUT_RDWR);
    }
    return P2P_ERROR_TIMED_OUT;
}

p2p_status p2p_list(uint64_t handle, uint32_t what, p2p_snapshot *snapshot, p2p_error *error) {
    *snapshot = SNAPSHOT;
    return P2P_OK;
}

p2p_status p2p_row_count(uint64_t rows, size_t *count, p2p_error *error) {
    *count = 1;
    return P2P_OK;
}

static const char *const names[] = {"kind",  "bytes_in", "brand_new_text", "brand_new_number",
                                    "below", "exact",    "event",          "operation"};

p2p_status p2p_row_field(uint64_t rows, size_t row, size_t index, const char **name, p2p_error *error) {
    if (index >= sizeof names / sizeof *names) return P2P_ERROR_NOT_FOUND;
    *name = names[index];
    return P2P_OK;
}

p2p_status p2p_row_text(uint64_t rows, size_t row, const char *field, const char **value, p2p_error *error) {
    *value = strcmp(field, "kind") == 0 ? (rows == EVENT ? "error" : "brand new") : "gr\xc3\xbc\xc3\x9f";
    return P2P_OK;
}

p2p_status p2p_row_int(uint64_t rows, size_t row, const char *field, int64_t *value, p2p_error *error) {
    if (strcmp(field, "kind") == 0 || strcmp(field, "brand_new_text") == 0) return P2P_ERROR_INVALID_ARGUMENT;
    *value = (int64_t)3 << 40;
    if (strcmp(field, "brand_new_number") == 0) *value = INT64_MAX;
    if (strcmp(field, "below") == 0) *value = -1;
    if (strcmp(field, "exact") == 0) *value = (int64_t)1 << 53;
    if (strcmp(field, "event") == 0) *value = 1 << 20;
    if (strcmp(field, "operation") == 0) *value = OPERATION;
    return P2P_OK;
}
