/* Promise: a thousand clients that come within the same second are all served. */
#include "net.h"

enum { CLIENTS = 1000, SIZE = 1024 };

static struct client {
    int fd;
    size_t sent, got;
    bool done;
} clients[CLIENTS];

static void serve_small(int fd) {
    char buffer[SIZE];
    if (recv_all(fd, buffer, SIZE) == SIZE) send_all(fd, buffer, SIZE);
}

static void begin(struct client *self, const struct sockaddr_in *address) {
    self->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    CHECK(self->fd >= 0, "socket: %s", strerror(errno));
    CHECK(connect(self->fd, (const struct sockaddr *)address, sizeof *address) == 0 || errno == EINPROGRESS,
          "connect: %s", strerror(errno));
}

/* One step of client `which`: sends its pattern, reads it back, compares, sees the end. */
static void step(unsigned which, short ready) {
    struct client *self = &clients[which];
    uint8_t buffer[SIZE];
    if (ready & POLLOUT && self->sent < SIZE) {
        for (size_t i = 0; i < SIZE; i++) buffer[i] = pattern(which, i);
        ssize_t count = send(self->fd, buffer + self->sent, SIZE - self->sent, MSG_NOSIGNAL);
        CHECK(count > 0 || errno == EAGAIN, "client %u: send: %s", which, strerror(errno));
        self->sent += count > 0 ? (size_t)count : 0;
    }
    if (ready & (POLLIN | POLLHUP | POLLERR)) {
        ssize_t count = recv(self->fd, buffer, sizeof buffer, 0);
        CHECK(count >= 0 || errno == EAGAIN, "client %u: receive after %zu bytes: %s", which, self->got,
              strerror(errno));
        for (ssize_t i = 0; i < count; i++)
            CHECK(buffer[i] == pattern(which, self->got + (size_t)i), "client %u: byte %zu differs", which,
                  self->got + (size_t)i);
        self->got += count > 0 ? (size_t)count : 0;
        if (count == 0) {
            CHECK_INT(self->got, SIZE);
            self->done = true;
            close(self->fd);
        }
    }
}

static void serve_all(const char *transports) {
    pair two;
    struct pollfd polled[CLIENTS];
    STEP(transports);
    memset(clients, 0, sizeof clients);
    pair_open(&two, serve_small, transports);
    struct sockaddr_in address = loopback(two.address);
    int64_t began = now_ms(), connected;
    for (unsigned i = 0; i < CLIENTS; i++) begin(&clients[i], &address);
    connected = now_ms();
    for (unsigned left = CLIENTS; left > 0;) {
        unsigned count = 0, which[CLIENTS];
        for (unsigned i = 0; i < CLIENTS; i++) {
            if (clients[i].done) continue;
            polled[count] =
                (struct pollfd){.fd = clients[i].fd, .events = (short)(clients[i].sent < SIZE ? POLLOUT : POLLIN)};
            which[count++] = i;
        }
        left = count;
        if (count == 0) break;
        CHECK(poll(polled, count, 30000 * slow()) > 0, "%u of %d clients get no answer", count, CLIENTS);
        for (unsigned i = 0; i < count; i++)
            if (polled[i].revents != 0) step(which[i], polled[i].revents);
    }
    printf("%s: %d clients connected in %" PRId64 " ms, all served after %" PRId64 " ms\n", transports, CLIENTS,
           connected - began, now_ms() - began);
    CHECK(connected - began < 1000 * slow(), "the clients needed %" PRId64 " ms to come", connected - began);
    p2p_snapshot row = list(two.forward, P2P_LIST_FORWARDS);
    CHECK_INT(number(row, 0, "streams_total"), CLIENTS);
    CHECK_TEXT(text(row, 0, "error"), "");
    PLAIN(p2p_snapshot_free(row), P2P_OK);
    pair_close(&two);
}

int main(void) {
    struct rlimit limit;
    start(120);
    CHECK_INT(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = limit.rlim_max;
    CHECK_INT(setrlimit(RLIMIT_NOFILE, &limit), 0);
    CHECK(limit.rlim_cur >= 4500, "this test needs 4,500 descriptors, the limit is %" PRIu64, (uint64_t)limit.rlim_cur);
    serve_all("tcp");
    serve_all("quic");
    return 0;
}
