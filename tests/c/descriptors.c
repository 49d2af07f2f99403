/* Promise: with too few descriptors for its clients the library serves those it can, leaves some to its host, does not
 * spin, and serves again when clients leave. The library runs in a child with 256 descriptors; clients and target stay
 * here. */
#include "net.h"

enum { CLIENTS = 1000, LIMIT = 256 };

/* One line of words between the two processes. */
static void tell(int fd, const char *word) {
    char line[64] = {0};
    snprintf(line, sizeof line, "%s", word);
    CHECK(send_all(fd, line, sizeof line), "the other process is gone");
}

static void hear(int fd, char word[64]) { CHECK_INT(recv_all(fd, word, 64), 64); }

static double processor_seconds(void) {
    struct rusage usage;
    CHECK_INT(getrusage(RUSAGE_SELF, &usage), 0);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

/* The process with the library. */
static void library(int talk) {
    struct rlimit limit;
    char word[64], address[64] = {0}, target[64], peer[P2P_ADDRESS_SIZE];
    p2p_mount mount;
    hear(talk, target);
    CHECK_INT(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = LIMIT;
    CHECK_INT(setrlimit(RLIMIT_NOFILE, &limit), 0);
    p2p_node far = node_open(NULL, NULL), near = node_open(NULL, NULL);
    p2p_queue queue = subscribe(near, P2P_EVENT_REFUSED);
    OK(p2p_node_address(far, peer, sizeof peer, &error));
    OK(p2p_listen(far, "test", target, 0, &mount, &error));
    forward_to(near, "test", peer, &mount, address);
    tell(talk, address);
    for (;;) {
        hear(talk, word);
        if (strcmp(word, "quit") == 0) break;
        STEP("child: idle under a crowd");
        /* Until accepting paused, there is work to do; after that there must be next to none. */
        p2p_event event = next_event(queue, 20000);
        CHECK_INT(number(event, 0, "code"), P2P_ERROR_LIMIT);
        PLAIN(p2p_event_free(event), P2P_OK);
        nap_ms(500);
        double before = processor_seconds();
        nap_ms(2000);
        double used = processor_seconds() - before;
        CHECK(used < 1.0 * slow(), "%.2f s of processor time in 2 s of waiting", used);
        STEP("child: descriptors left to the host");
        int files[16];
        for (int i = 0; i < 16; i++) {
            files[i] = open("/dev/null", O_RDONLY | O_CLOEXEC);
            CHECK(files[i] >= 0, "the host cannot open file %d: %s", i + 1, strerror(errno));
        }
        for (int i = 0; i < 16; i++) close(files[i]);
        CHECK(count_rows(near, P2P_LIST_STREAMS) >= 30, "only %zu clients are served",
              count_rows(near, P2P_LIST_STREAMS));
        for (int more = 1; more;) {
            more = p2p_next_event(queue, 0, &event, NULL) == P2P_OK;
            if (more) PLAIN(p2p_event_free(event), P2P_OK);
        }
        char measured[64];
        snprintf(measured, sizeof measured, "%.0f %% of a processor, %zu streams", used * 50,
                 count_rows(near, P2P_LIST_STREAMS));
        tell(talk, measured);
    }
    PLAIN(p2p_queue_close(queue), P2P_OK);
    OK(p2p_node_close(near, 0, &error));
    OK(p2p_node_close(far, 0, &error));
}

int main(void) {
    int talk[2], clients[CLIENTS];
    char address[64], word[64];
    struct rlimit limit;
    server echo;
    child made;
    start(90);
    CHECK_INT(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = limit.rlim_max;
    CHECK_INT(setrlimit(RLIMIT_NOFILE, &limit), 0);
    CHECK(limit.rlim_cur >= 2500, "this test needs 2,500 descriptors, the limit is %" PRIu64, (uint64_t)limit.rlim_cur);
    CHECK_INT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, talk), 0);
    /* While there is one thread: what another one holds, in an allocator, stays held in a child. */
    if (child_start(&made, 80) == 0) {
        close(talk[0]);
        library(talk[1]);
        child_exit(&made);
    }
    close(talk[1]);
    server_start(&echo, serve_echo);
    tell(talk[0], echo.address);
    hear(talk[0], address);
    close(tcp_ping(address));

    for (int round = 0; round < 2; round++) {
        STEP("a crowd of clients");
        struct sockaddr_in peer = loopback(address);
        for (int i = 0; i < CLIENTS; i++) {
            clients[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
            CHECK(clients[i] >= 0, "socket: %s", strerror(errno));
            CHECK(connect(clients[i], (struct sockaddr *)&peer, sizeof peer) == 0 || errno == EINPROGRESS,
                  "connect: %s", strerror(errno));
        }
        tell(talk[0], "measure");
        hear(talk[0], word);
        printf("%d clients: %s\n", CLIENTS, word);

        STEP("service after the crowd has left");
        for (int i = 0; i < CLIENTS; i++) close(clients[i]);
        int64_t until = now_ms() + 20000 * slow();
        bool served = false;
        while (!served) {
            int fd = tcp_try(address);
            served = fd >= 0 && ping_fd(fd);
            if (fd >= 0) close(fd);
            CHECK(served || now_ms() < until, "no service after the clients have left");
        }
    }
    tell(talk[0], "quit");
    child_wait(&made);
    close(talk[0]);
    server_stop(&echo);
    return 0;
}
