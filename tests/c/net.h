/* For tests with traffic: TCP clients, small servers, and two nodes with a tunnel between them. */
#ifndef P2PMOUNT_TEST_NET_H
#define P2PMOUNT_TEST_NET_H

#include "test.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/resource.h>
#include <sys/socket.h>

/* ---- clients ---------------------------------------------------------------------------------------------------- */

static inline struct sockaddr_in loopback(const char *address) {
    const char *colon = strrchr(address, ':');
    struct sockaddr_in made = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    CHECK(colon != NULL && strncmp(address, "127.0.0.1:", 10) == 0, "not an address of this machine: %s", address);
    made.sin_port = htons((uint16_t)atoi(colon + 1));
    return made;
}

/* Whether the address can be bound as a server would. */
static inline bool is_free(const char *address) {
    struct sockaddr_in wanted = loopback(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), yes = 1;
    CHECK(fd >= 0, "socket: %s", strerror(errno));
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    bool free = bind(fd, (struct sockaddr *)&wanted, sizeof wanted) == 0 && listen(fd, 1) == 0;
    close(fd);
    return free;
}

/* Connects, with 30 s for every later call. Returns -1 and errno. */
static inline int tcp_try(const char *address) {
    struct sockaddr_in peer = loopback(address);
    struct timeval limit = {30 * slow(), 0};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return -1;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    if (connect(fd, (struct sockaddr *)&peer, sizeof peer) == 0) return fd;
    int why = errno;
    close(fd);
    errno = why;
    return -1;
}

static inline int tcp_connect(const char *address) {
    int fd = tcp_try(address);
    CHECK(fd >= 0, "connect to %s: %s", address, strerror(errno));
    return fd;
}

/* Closes with a reset instead of an end of file. */
static inline void tcp_reset(int fd) {
    struct linger now = {1, 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    close(fd);
}

static inline bool send_all(int fd, const void *data, size_t size) {
    for (size_t sent = 0; sent < size;) {
        ssize_t count = send(fd, (const char *)data + sent, size - sent, MSG_NOSIGNAL);
        if (count < 0 && errno == EINTR) continue;
        if (count <= 0) return false;
        sent += (size_t)count;
    }
    return true;
}

/* Reads until `size` bytes or the end of file. Returns the count, or -1 and errno. */
static inline ssize_t recv_all(int fd, void *data, size_t size) {
    size_t got = 0;
    while (got < size) {
        ssize_t count = recv(fd, (char *)data + got, size - got, 0);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return -1;
        if (count == 0) break;
        got += (size_t)count;
    }
    return (ssize_t)got;
}

/* Sends a word and wants it back: the stream is open from end to end. */
static inline bool ping_fd(int fd) {
    char answer[5] = {0};
    return send_all(fd, "ping!", 5) && recv_all(fd, answer, 5) == 5 && memcmp(answer, "ping!", 5) == 0;
}

static inline int tcp_ping(const char *address) {
    int fd = tcp_connect(address);
    CHECK(ping_fd(fd), "no echo through %s: %s", address, strerror(errno));
    return fd;
}

/* 0 for an end of file, else the errno of the read (ECONNRESET for a reset). Data before it is thrown away. */
static inline int end_of(int fd) {
    char buffer[4096];
    for (;;) {
        ssize_t count = recv(fd, buffer, sizeof buffer, 0);
        if (count == 0) return 0;
        if (count < 0 && errno != EINTR) return errno;
    }
}

/* Connects, sends a word and reads to the end: 0 for an end of file, else the errno of the first call that met the
 * reset (a reset is told once: after a send that failed, reading would give an end of file). */
static inline int tcp_fate(const char *address, const char *word) {
    int fd = tcp_try(address);
    if (fd < 0) return errno;
    int fate = send_all(fd, word, strlen(word)) ? end_of(fd) : errno;
    close(fd);
    return fate;
}

static inline uint8_t pattern(unsigned seed, size_t at) {
    return (uint8_t)(seed + at * 31 + (at >> 8) * 7 + (at >> 16) * 13);
}

/* Sends `size` bytes to an echo server while reading them back, then ends its direction and waits for the other's end.
 * Returns NULL, or what went wrong (in the thread's own buffer). */
static inline const char *echo_check(const char *address, size_t size, unsigned seed) {
    static _Thread_local char wrong[160];
    uint8_t buffer[16384];
    size_t sent = 0, got = 0;
    bool ended = false;
    int64_t until = now_ms() + 60000 * slow();
    int fd = tcp_try(address);
    if (fd < 0) {
        snprintf(wrong, sizeof wrong, "connect: %s", strerror(errno));
        return wrong;
    }
    wrong[0] = '\0';
    if (size == 0) shutdown(fd, SHUT_WR);
    while (!ended && wrong[0] == '\0') {
        struct pollfd wait = {.fd = fd, .events = (short)(POLLIN | (sent < size ? POLLOUT : 0))};
        int64_t left = until - now_ms();
        if (left <= 0 || poll(&wait, 1, (int)left) == 0) {
            snprintf(wrong, sizeof wrong, "time out after %zu of %zu bytes sent, %zu back", sent, size, got);
            break;
        }
        if (wait.revents & POLLOUT) {
            size_t part = size - sent < sizeof buffer ? size - sent : sizeof buffer;
            for (size_t i = 0; i < part; i++) buffer[i] = pattern(seed, sent + i);
            ssize_t count = send(fd, buffer, part, MSG_NOSIGNAL | MSG_DONTWAIT);
            if (count < 0 && errno != EAGAIN && errno != EINTR)
                snprintf(wrong, sizeof wrong, "send after %zu of %zu bytes: %s", sent, size, strerror(errno));
            sent += count > 0 ? (size_t)count : 0;
            if (sent == size && count > 0) shutdown(fd, SHUT_WR);
        }
        if (wait.revents & (POLLIN | POLLHUP | POLLERR)) {
            ssize_t count = recv(fd, buffer, sizeof buffer, MSG_DONTWAIT);
            if (count < 0 && errno != EAGAIN && errno != EINTR)
                snprintf(wrong, sizeof wrong, "receive after %zu of %zu bytes: %s", got, size, strerror(errno));
            for (ssize_t i = 0; i < count && wrong[0] == '\0'; i++)
                if (buffer[i] != pattern(seed, got + (size_t)i))
                    snprintf(wrong, sizeof wrong, "byte %zu differs", got + (size_t)i);
            got += count > 0 ? (size_t)count : 0;
            ended = count == 0;
        }
    }
    if (wrong[0] == '\0' && got != size) snprintf(wrong, sizeof wrong, "end of file after %zu of %zu bytes", got, size);
    close(fd);
    return wrong[0] == '\0' ? NULL : wrong;
}

/* ---- servers ---------------------------------------------------------------------------------------------------- */

/* A server on a free port of 127.0.0.1, one thread for each connection. */
typedef struct server {
    int fd;
    char address[32];
    void (*serve)(int fd);
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int *live;
    size_t live_count, live_room;
    unsigned accepted;
} server;

typedef struct served {
    server *owner;
    int fd;
} served;

static inline void *server_connection(void *context) {
    served own = *(served *)context;
    free(context);
    own.owner->serve(own.fd);
    pthread_mutex_lock(&own.owner->lock);
    for (size_t i = 0; i < own.owner->live_count; i++)
        if (own.owner->live[i] == own.fd) {
            own.owner->live[i] = own.owner->live[--own.owner->live_count];
            break;
        }
    close(own.fd);
    pthread_cond_broadcast(&own.owner->changed);
    pthread_mutex_unlock(&own.owner->lock);
    return NULL;
}

static inline void *server_accept(void *context) {
    server *self = context;
    pthread_attr_t small;
    pthread_attr_init(&small);
    pthread_attr_setdetachstate(&small, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&small, 256 * 1024);
    for (;;) {
        int fd = accept4(self->fd, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0 && errno == EINVAL) break; /* shut down by server_stop */
        if (fd < 0) {
            nap_ms(1);
            continue;
        }
        served *own = malloc(sizeof *own);
        pthread_t thread;
        CHECK(own != NULL, "out of memory");
        *own = (served){self, fd};
        pthread_mutex_lock(&self->lock);
        if (self->live_count == self->live_room) {
            self->live_room = self->live_room == 0 ? 64 : self->live_room * 2;
            self->live = realloc(self->live, self->live_room * sizeof *self->live);
            CHECK(self->live != NULL, "out of memory");
        }
        self->live[self->live_count++] = fd;
        self->accepted++;
        pthread_cond_broadcast(&self->changed);
        pthread_mutex_unlock(&self->lock);
        CHECK_INT(pthread_create(&thread, &small, server_connection, own), 0);
    }
    pthread_attr_destroy(&small);
    return NULL;
}

static inline void server_start(server *self, void (*serve)(int fd)) {
    struct sockaddr_in own = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof own;
    memset(self, 0, sizeof *self);
    self->serve = serve;
    pthread_mutex_init(&self->lock, NULL);
    pthread_cond_init(&self->changed, NULL);
    self->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(self->fd >= 0 && bind(self->fd, (struct sockaddr *)&own, sizeof own) == 0 && listen(self->fd, 4096) == 0,
          "server: %s", strerror(errno));
    CHECK_INT(getsockname(self->fd, (struct sockaddr *)&own, &size), 0);
    snprintf(self->address, sizeof self->address, "127.0.0.1:%u", ntohs(own.sin_port));
    self->thread = thread_start(server_accept, self);
}

static inline unsigned server_accepted(server *self) {
    pthread_mutex_lock(&self->lock);
    unsigned count = self->accepted;
    pthread_mutex_unlock(&self->lock);
    return count;
}

/* Waits until `count` connections were accepted in all. */
static inline void server_await(server *self, unsigned count) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 20 * slow();
    pthread_mutex_lock(&self->lock);
    while (self->accepted < count)
        CHECK(pthread_cond_timedwait(&self->changed, &self->lock, &until) == 0, "%u of %u connections came",
              self->accepted, count);
    pthread_mutex_unlock(&self->lock);
}

static inline void server_stop(server *self) {
    shutdown(self->fd, SHUT_RDWR);
    thread_join(self->thread);
    pthread_mutex_lock(&self->lock);
    for (size_t i = 0; i < self->live_count; i++) shutdown(self->live[i], SHUT_RDWR);
    while (self->live_count > 0) pthread_cond_wait(&self->changed, &self->lock);
    pthread_mutex_unlock(&self->lock);
    close(self->fd);
    free(self->live);
    pthread_mutex_destroy(&self->lock);
    pthread_cond_destroy(&self->changed);
}

static inline void serve_echo(int fd) {
    char buffer[16384];
    ssize_t count;
    while ((count = recv(fd, buffer, sizeof buffer, 0)) > 0)
        if (!send_all(fd, buffer, (size_t)count)) return;
    if (count == 0) shutdown(fd, SHUT_WR);
}

/* Reads to the end and never answers. */
static inline void serve_sink(int fd) { end_of(fd); }

/* Sends without end. */
static inline void serve_source(int fd) {
    char buffer[16384];
    for (size_t i = 0; i < sizeof buffer; i++) buffer[i] = (char)pattern(1, i);
    while (send_all(fd, buffer, sizeof buffer)) continue;
}

/* Reads 64 KiB, then resets the connection in the middle of what comes. */
static inline void serve_reset(int fd) {
    char buffer[65536];
    struct linger now = {1, 0};
    recv_all(fd, buffer, sizeof buffer);
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
}

/* ---- nodes ------------------------------------------------------------------------------------------------------ */

/* A service behind the node `far`, forwarded by the node `near` to a local address. */
typedef struct pair {
    server service;
    p2p_node far, near;
    p2p_mount listener, forward;
    char far_id[P2P_PEER_ID_SIZE], far_address[P2P_ADDRESS_SIZE];
    char address[64];
} pair;

static inline void forward_to(p2p_node node, const char *protocol, const char *peer, p2p_mount *mount,
                              char address[64]) {
    OK(p2p_forward(node, protocol, "127.0.0.1:0", peer, 0, mount, &error));
    OK(p2p_mount_address(*mount, address, 64, &error));
}

/* `transports` is tcp or quic, or NULL for the default. */
static inline void pair_open(pair *made, void (*serve)(int fd), const char *transports) {
    server_start(&made->service, serve);
    made->far = node_open(transports == NULL ? NULL : "transports", transports);
    made->near = node_open(transports == NULL ? NULL : "transports", transports);
    OK(p2p_node_peer_id(made->far, made->far_id, sizeof made->far_id, &error));
    OK(p2p_node_address(made->far, made->far_address, sizeof made->far_address, &error));
    OK(p2p_listen(made->far, "test", made->service.address, 0, &made->listener, &error));
    forward_to(made->near, "test", made->far_address, &made->forward, made->address);
}

static inline void pair_close(pair *made) {
    OK(p2p_node_close(made->near, 0, &error));
    OK(p2p_node_close(made->far, 0, &error));
    server_stop(&made->service);
}

/* A full address of a peer that accepts connections and never says a word: a dial to it waits. `silent` must be a
 * running server. The peer id is that of a node that is closed again. */
static inline void silent_peer(server *silent, char address[256]) {
    char id[P2P_PEER_ID_SIZE];
    p2p_node node = node_open(NULL, NULL);
    OK(p2p_node_peer_id(node, id, sizeof id, &error));
    OK(p2p_node_close(node, 0, &error));
    snprintf(address, 256, "/ip4/127.0.0.1/tcp/%s/p2p/%s", strrchr(silent->address, ':') + 1, id);
}

#endif
