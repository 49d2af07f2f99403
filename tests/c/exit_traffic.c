/* Promise: a program may return from main, or call exit(), with nodes open and traffic running: its exit status is its
 * own. */
#include "net.h"

static pair two;
static atomic_size_t moved;

static void *download(void *context) {
    char buffer[16384];
    int fd = tcp_connect(two.address);
    (void)context;
    for (ssize_t count; (count = recv(fd, buffer, sizeof buffer, 0)) > 0;) atomic_fetch_add(&moved, (size_t)count);
    return NULL;
}

static void *lists(void *context) {
    (void)context;
    for (p2p_snapshot snapshot;;)
        if (p2p_list(two.near, P2P_LIST_STREAMS, &snapshot, NULL) == P2P_OK) p2p_snapshot_free(snapshot);
    return NULL;
}

static void *waits(void *queue) {
    p2p_event event;
    p2p_next_event(*(p2p_queue *)queue, -1, &event, NULL);
    return NULL;
}

/* The program under test: returns 7 from main while everything runs. */
static int busy(const char *way) {
    static p2p_queue queue;
    pair_open(&two, serve_source, NULL);
    queue = subscribe(two.near, P2P_EVENT_NODE);
    for (int i = 0; i < 4; i++) pthread_detach(thread_start(download, NULL));
    pthread_detach(thread_start(lists, NULL));
    pthread_detach(thread_start(waits, &queue));
    EVENTUALLY(atomic_load(&moved) > 4 << 20, 20000, "only %zu bytes moved", atomic_load(&moved));
    if (strcmp(way, "exit") == 0) exit(7);
    return 7;
}

static void run(char *self, char *way) {
    int output[2], status = 0;
    char said[512];
    size_t length = 0;
    CHECK_INT(pipe2(output, O_CLOEXEC), 0);
    pid_t pid = fork();
    CHECK(pid >= 0, "fork: %s", strerror(errno));
    if (pid == 0) {
        char *arguments[] = {self, way, NULL};
        dup2(output[1], STDOUT_FILENO);
        dup2(output[1], STDERR_FILENO);
        execv(self, arguments);
        _exit(127);
    }
    close(output[1]);
    for (ssize_t count;
         length < sizeof said - 1 && (count = read(output[0], said + length, sizeof said - 1 - length)) > 0;)
        length += (size_t)count;
    said[length] = '\0';
    close(output[0]);
    CHECK_INT(waitpid(pid, &status, 0), pid);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 7, "%s: expected exit status 7, got wait status %#x: %s", way,
          (unsigned)status, said);
    CHECK(length == 0, "%s: it printed: %s", way, said);
}

int main(int argc, char **argv) {
    start(120);
    if (argc > 1) {
        alarm(30 * (unsigned)slow());
        return busy(argv[1]);
    }
    int runs = slow() > 1 ? 3 : 20;
    for (int i = 0; i < runs; i++) {
        STEP("return from main");
        run(argv[0], "return");
        STEP("exit");
        run(argv[0], "exit");
    }
    return 0;
}
