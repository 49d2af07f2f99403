/* Promise: each queue gets the kinds it asked for, in order and numbered; an overflow loses only stream events and says
 * how many; the descriptor is readable exactly while events wait or the node is closed. */
#include "net.h"

static bool readable(int fd) {
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    int count = poll(&wait, 1, 0);
    CHECK(count >= 0, "poll: %s", strerror(errno));
    return count == 1;
}

/* Runs `count` streams through the pair, one after the other, until both ends of each have been reported by `watch`. */
static void run_streams(pair *two, p2p_queue watch, int count) {
    for (int i = 0; i < count; i++) {
        const char *wrong = echo_check(two->address, 100, 1);
        CHECK(wrong == NULL, "%s", wrong);
        await(watch, P2P_EVENT_STREAM_CLOSED, "reason", "finished");
    }
}

static void kinds(pair *two) {
    STEP("two queues with different kinds");
    p2p_queue opened = subscribe(two->near, P2P_EVENT_STREAM_OPENED);
    p2p_queue closed = subscribe(two->near, P2P_EVENT_STREAM_CLOSED);
    p2p_event event;
    run_streams(two, closed, 3);
    int64_t last = -1;
    for (int i = 0; i < 3; i++) {
        event = next_event(opened, 10000);
        CHECK_INT(number(event, 0, "event"), P2P_EVENT_STREAM_OPENED);
        CHECK_TEXT(text(event, 0, "kind"), "stream opened");
        CHECK_TEXT(text(event, 0, "protocol"), "/x/test");
        CHECK_TEXT(text(event, 0, "peer"), two->far_id);
        CHECK_INT(number(event, 0, "mount"), two->forward);
        CHECK_INT(number(event, 0, "sequence"), i + 1);
        CHECK(number(event, 0, "stream") > last, "stream numbers do not rise");
        last = number(event, 0, "stream");
        CHECK_INT(rows_in(event), 1);
        PLAIN(p2p_event_free(event), P2P_OK);
    }
    FAILS(p2p_next_event(opened, 0, &event, &error), P2P_ERROR_TIMED_OUT);
    CHECK((error.flags & P2P_ERROR_FLAG_TIMED_OUT) != 0, "the flag for timeouts is not set");
    FAILS(p2p_next_event(opened, 20, &event, &error), P2P_ERROR_TIMED_OUT);
    PLAIN(p2p_queue_close(opened), P2P_OK);
    PLAIN(p2p_queue_close(closed), P2P_OK);
}

static void overflow(pair *two) {
    enum { STREAMS = 10, CAPACITY = 4 };
    STEP("overflow");
    p2p_options small = options_of("queue.capacity", "4", (char *)NULL);
    p2p_queue queue;
    OK(p2p_subscribe(two->near, P2P_EVENT_STREAM_OPENED | P2P_EVENT_STREAM_CLOSED, small, &queue, &error));
    PLAIN(p2p_options_free(small), P2P_OK);
    p2p_queue watch = subscribe(two->near, P2P_EVENT_STREAM_CLOSED);
    run_streams(two, watch, STREAMS);
    int64_t lost = 0, last = 0, kept = 0, overflows = 0;
    for (p2p_event event; p2p_next_event(queue, 0, &event, NULL) == P2P_OK;) {
        CHECK(number(event, 0, "sequence") > last, "sequence %" PRId64 " after %" PRId64, number(event, 0, "sequence"),
              last);
        last = number(event, 0, "sequence");
        if (number(event, 0, "event") == P2P_EVENT_OVERFLOW) {
            CHECK_TEXT(text(event, 0, "kind"), "overflow");
            lost += number(event, 0, "count");
            overflows++;
        } else {
            kept++;
        }
        PLAIN(p2p_event_free(event), P2P_OK);
    }
    CHECK_INT(overflows, 1);
    CHECK_INT(lost, 2 * STREAMS - CAPACITY);
    CHECK_INT(kept, CAPACITY);
    CHECK_INT(last, 2 * STREAMS);
    PLAIN(p2p_queue_close(queue), P2P_OK);
    PLAIN(p2p_queue_close(watch), P2P_OK);

    STEP("state changes are never lost");
    small = options_of("queue.capacity", "1", (char *)NULL);
    OK(p2p_subscribe(two->near, P2P_EVENT_MOUNT, small, &queue, &error));
    PLAIN(p2p_options_free(small), P2P_OK);
    for (int i = 0; i < 20; i++) {
        p2p_mount mount;
        OK(p2p_listen(two->near, "many", two->service.address, 0, &mount, &error));
        OK(p2p_mount_close(mount, 0, &error));
    }
    int closed = 0;
    for (p2p_event event; p2p_next_event(queue, 0, &event, NULL) == P2P_OK;) {
        CHECK_INT(number(event, 0, "event"), P2P_EVENT_MOUNT);
        closed += strcmp(text(event, 0, "state"), "closed") == 0;
        PLAIN(p2p_event_free(event), P2P_OK);
    }
    CHECK_INT(closed, 20);
    PLAIN(p2p_queue_close(queue), P2P_OK);
}

static void descriptor(pair *two) {
    char buffer[64];
    int fd, again;
    p2p_event event;
    p2p_mount mounts[3];
    STEP("flags of the descriptor");
    p2p_queue queue = subscribe(two->near, P2P_EVENT_MOUNT | P2P_EVENT_NODE);
    OK(p2p_queue_fd(queue, &fd, &error));
    OK(p2p_queue_fd(queue, &again, &error));
    CHECK(fd > 2 && again > 2 && fd != again, "descriptors %d and %d", fd, again);
    CHECK(fcntl(fd, F_GETFD) & FD_CLOEXEC, "the descriptor is not close-on-exec");
    CHECK(fcntl(fd, F_GETFL) & O_NONBLOCK, "the descriptor blocks");

    STEP("readable exactly while events wait");
    CHECK(!readable(fd), "readable without an event");
    for (int i = 0; i < 3; i++) {
        char name[16];
        snprintf(name, sizeof name, "fd%d", i);
        OK(p2p_listen(two->near, name, two->service.address, 0, &mounts[i], &error));
    }
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    CHECK_INT(poll(&wait, 1, 10000 * slow()), 1);
    CHECK(readable(again), "the second descriptor does not tell the same");
    close(again);
    /* Eats bytes at every turn, as Node does: what still waits must make it readable again. */
    for (int seen = 0; seen < 3; seen++) {
        CHECK(readable(fd), "not readable with %d events waiting", 3 - seen);
        if (seen > 0) CHECK(read(fd, buffer, sizeof buffer) > 0, "readable, but a read finds nothing");
        PLAIN(p2p_event_free(next_event(queue, 10000)), P2P_OK);
    }
    while (p2p_next_event(queue, 0, &event, NULL) == P2P_OK) PLAIN(p2p_event_free(event), P2P_OK);
    CHECK(!readable(fd), "readable after the last event was read");
    CHECK(read(fd, buffer, sizeof buffer) < 0 && errno == EAGAIN, "a read with no event waiting");
    OK(p2p_mount_close(mounts[0], 0, &error));
    CHECK_INT(poll(&wait, 1, 10000 * slow()), 1);
    PLAIN(p2p_event_free(next_event(queue, 10000)), P2P_OK);

    STEP("after the node is closed");
    OK(p2p_node_close(two->near, 0, &error));
    CHECK(readable(fd), "not readable after the node was closed");
    await(queue, P2P_EVENT_NODE, "state", "closed");
    FAILS(p2p_next_event(queue, 0, &event, &error), P2P_ERROR_CLOSED);
    FAILS(p2p_next_event(queue, -1, &event, &error), P2P_ERROR_CLOSED);
    CHECK(readable(fd), "not readable any more although the node is closed");
    while (read(fd, buffer, sizeof buffer) > 0) continue;
    CHECK(readable(fd), "not readable any more after its bytes were read");
    int late;
    OK(p2p_queue_fd(queue, &late, &error));
    CHECK(readable(late), "a descriptor made after the close is not readable");
    close(late);
    PLAIN(p2p_queue_close(queue), P2P_OK);
    CHECK(readable(fd), "not readable after the queue was closed");
    close(fd);
}

/* Several readers of one queue: every event goes to exactly one of them. */
static struct {
    p2p_queue queue;
    atomic_int seen;
} shared;

static void *reader(void *context) {
    (void)context;
    for (p2p_event event; p2p_next_event(shared.queue, -1, &event, NULL) == P2P_OK;) {
        if (strcmp(text(event, 0, "state"), "closed") == 0) atomic_fetch_add(&shared.seen, 1);
        PLAIN(p2p_event_free(event), P2P_OK);
    }
    return NULL;
}

static void readers(void) {
    enum { READERS = 6, MOUNTS = 200 };
    pthread_t threads[READERS];
    STEP("many readers of one queue");
    p2p_node node = node_open(NULL, NULL);
    shared.queue = subscribe(node, P2P_EVENT_MOUNT);
    for (int i = 0; i < READERS; i++) threads[i] = thread_start(reader, NULL);
    for (int i = 0; i < MOUNTS; i++) {
        p2p_mount mount;
        OK(p2p_listen(node, "readers", "127.0.0.1:9", 0, &mount, &error));
        OK(p2p_mount_close(mount, 0, &error));
    }
    OK(p2p_node_close(node, 0, &error));
    for (int i = 0; i < READERS; i++) thread_join(threads[i]);
    CHECK_INT(atomic_load(&shared.seen), MOUNTS);
    PLAIN(p2p_queue_close(shared.queue), P2P_OK);
}

int main(void) {
    pair two;
    start(60);
    OK(p2p_node_close(node_open(NULL, NULL), 0, &error));
    int64_t handles = number_of(0, P2P_LIST_PROCESS, "handles");
    int descriptors = count_descriptors_of_nodes();
    pair_open(&two, serve_echo, NULL);
    kinds(&two);
    overflow(&two);
    descriptor(&two); /* closes the near node */
    OK(p2p_node_close(two.far, 0, &error));
    server_stop(&two.service);
    readers();
    STEP("nothing is left");
    CHECK_INT(number_of(0, P2P_LIST_PROCESS, "handles"), handles);
    EVENTUALLY(count_descriptors_of_nodes() <= descriptors, 5000, "%d descriptors, %d at the start",
               count_descriptors_of_nodes(), descriptors);
    return 0;
}
