/* Promise: peers and clients that vanish in the middle of a write do not kill a host that has SIGPIPE at its default.
 */
#include "net.h"

enum { ROUNDS = 30 };

static void downloads_that_are_cut(const char *transports) {
    pair two;
    STEP("clients reset during a download");
    pair_open(&two, serve_source, transports);
    p2p_queue queue = subscribe(two.near, P2P_EVENT_STREAM_CLOSED);
    for (int i = 0; i < ROUNDS; i++) {
        char buffer[100000];
        int fd = tcp_connect(two.address);
        CHECK_INT(recv_all(fd, buffer, sizeof buffer), sizeof buffer);
        if (i % 2 == 0)
            tcp_reset(fd);
        else
            close(fd); /* with data unread: a reset, too, after the next segment */
        await(queue, P2P_EVENT_STREAM_CLOSED, NULL, NULL);
    }
    EVENTUALLY(count_rows(two.far, P2P_LIST_STREAMS) == 0, 10000, "streams of clients that left");
    PLAIN(p2p_queue_close(queue), P2P_OK);
    pair_close(&two);
}

static void *uploads(void *address) {
    char buffer[16384] = {0};
    int fd = tcp_connect(address);
    while (send_all(fd, buffer, sizeof buffer)) continue;
    close(fd);
    return NULL;
}

static void uploads_that_are_cut(const char *transports) {
    pair two;
    STEP("targets reset during an upload");
    pair_open(&two, serve_reset, transports);
    for (int i = 0; i < ROUNDS / 3; i++) {
        pthread_t threads[3];
        for (int j = 0; j < 3; j++) threads[j] = thread_start(uploads, two.address);
        for (int j = 0; j < 3; j++) thread_join(threads[j]);
    }
    EVENTUALLY(count_rows(two.near, P2P_LIST_STREAMS) == 0, 10000, "streams whose target left");
    pair_close(&two);
}

static void nodes_that_vanish(const char *transports) {
    STEP("the other node closes during transfers");
    for (int i = 0; i < 5; i++) {
        pair two;
        pthread_t threads[4];
        pair_open(&two, serve_sink, transports);
        for (int j = 0; j < 4; j++) threads[j] = thread_start(uploads, two.address);
        server_await(&two.service, 4);
        OK(p2p_node_close(two.far, 0, &error));
        for (int j = 0; j < 4; j++) thread_join(threads[j]);
        OK(p2p_node_close(two.near, 0, &error));
        server_stop(&two.service);
    }
}

/* A caller's calls emit events on the caller's own thread, where SIGPIPE is not blocked. */
static void descriptors_that_are_closed(void) {
    STEP("the wake descriptor is closed by its owner");
    int fd;
    p2p_mount mount;
    p2p_node node = node_open(NULL, NULL);
    p2p_queue queue = subscribe(node, P2P_EVENT_ALL);
    OK(p2p_queue_fd(queue, &fd, &error));
    shutdown(fd, SHUT_RDWR);
    close(fd);
    for (int i = 0; i < 10; i++) {
        OK(p2p_listen(node, "wake", "127.0.0.1:9", 0, &mount, &error));
        OK(p2p_mount_close(mount, 0, &error));
    }
    await(queue, P2P_EVENT_MOUNT, "state", "closed");
    PLAIN(p2p_queue_close(queue), P2P_OK);
    OK(p2p_node_close(node, 0, &error));

    STEP("the reader of the log is gone");
    int ends[2];
    char number[16];
    CHECK_INT(pipe2(ends, O_CLOEXEC), 0);
    snprintf(number, sizeof number, "%d", ends[1]);
    OK(p2p_set(0, "log.fd", number, &error));
    OK(p2p_set(0, "log.level", "trace", &error));
    close(ends[0]);
    close(ends[1]);
    node = node_open(NULL, NULL);
    OK(p2p_listen(node, "log", "127.0.0.1:9", 0, &mount, &error));
    OK(p2p_node_close(node, 0, &error));
    OK(p2p_set(0, "log.level", "off", &error));
    OK(p2p_set(0, "log.fd", "-1", &error));
}

int main(void) {
    start(90);
    CHECK(signal(SIGPIPE, SIG_DFL) != SIG_ERR, "signal: %s", strerror(errno));
    static const char *const transports[] = {"tcp", "quic"};
    for (int i = 0; i < 2; i++) {
        downloads_that_are_cut(transports[i]);
        uploads_that_are_cut(transports[i]);
        nodes_that_vanish(transports[i]);
    }
    descriptors_that_are_closed();
    struct sigaction action;
    CHECK_INT(sigaction(SIGPIPE, NULL, &action), 0);
    CHECK(action.sa_handler == SIG_DFL, "the library changed what SIGPIPE does");
    return 0;
}
