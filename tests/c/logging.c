/* Promise: logging goes where it is told and nowhere else, is off by default, never stalls a stream, counts what it
 * loses, and never shows a key. */
#include "net.h"

static int64_t dropped(void) {
    p2p_snapshot rows;
    int64_t number;
    OK(p2p_list(0, P2P_LIST_PROCESS, &rows, &error));
    OK(p2p_row_int(rows, 0, "log_dropped", &number, &error));
    PLAIN(p2p_snapshot_free(rows), P2P_OK);
    return number;
}

static void set(const char *name, const char *value) { OK(p2p_set(0, name, value, &error)); }

static void set_fd(int fd) {
    char text[16];
    snprintf(text, sizeof text, "%d", fd);
    set("log.fd", text);
}

static bool readable(int fd, int ms) {
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
    return poll(&poll_fd, 1, ms) > 0;
}

/* Everything that comes until a text does. */
static void read_until(int fd, char *seen, size_t size, const char *wanted) {
    size_t length = 0;
    while (strstr(seen, wanted) == NULL) {
        CHECK(length + 1 < size && readable(fd, 10000 * slow()), "\"%s\" is not in the log: %s", wanted, seen);
        ssize_t got = read(fd, seen + length, size - 1 - length);
        CHECK(got > 0, "the log ended");
        length += (size_t)got;
        seen[length] = 0;
    }
}

static void lines_arrive_at_a_duplicate(void) {
    static char seen[1 << 20];
    pair two;
    int ends[2];
    STEP("lines arrive at a duplicate of the descriptor");
    CHECK_INT(pipe(ends), 0);
    set_fd(ends[1]);
    CHECK(!readable(ends[0], 50), "something is logged although log.level is off");
    set("log.level", "debug");
    close(ends[1]);
    pair_open(&two, serve_echo, "tcp");
    CHECK(echo_check(two.address, 1000, 1) == NULL, "the tunnel works");
    read_until(ends[0], seen, sizeof seen, "stream closed");
    CHECK(strstr(seen, "node opened") != NULL && strstr(seen, "connected") != NULL, "what an operator needs: %s", seen);
    STEP("off is off at once");
    set("log.level", "off");
    set("log.fd", "-1");
    while (readable(ends[0], 0) && read(ends[0], seen, sizeof seen) > 0) continue;
    CHECK(echo_check(two.address, 1000, 2) == NULL, "the tunnel works");
    CHECK(!readable(ends[0], 100) || read(ends[0], seen, sizeof seen) == 0, "lines after log.level=off");
    pair_close(&two);
    close(ends[0]);
}

static void a_full_pipe_stalls_nobody(void) {
    pair two;
    int ends[2];
    char block[4096] = {0};
    STEP("a pipe that nobody reads");
    CHECK_INT(pipe(ends), 0);
    CHECK_INT(fcntl(ends[1], F_SETFL, O_NONBLOCK), 0);
    while (write(ends[1], block, sizeof block) > 0) continue;
    CHECK_INT(fcntl(ends[1], F_SETFL, 0), 0);
    int64_t before = dropped();
    set_fd(ends[1]);
    set("log.level", "trace");
    pair_open(&two, serve_echo, "tcp");
    for (unsigned i = 0; i < 50; i++) CHECK(echo_check(two.address, 10000, i) == NULL, "a stream waits for the log");
    EVENTUALLY(dropped() > before, 10000, "lost lines are counted");
    CHECK_INT(fcntl(ends[1], F_GETFL) & O_NONBLOCK, 0);
    STEP("a pipe whose reader is gone");
    close(ends[0]);
    before = dropped();
    CHECK(echo_check(two.address, 10000, 99) == NULL, "a stream dies with the log");
    EVENTUALLY(dropped() > before, 10000, "lost lines are counted");
    set("log.level", "off");
    set("log.fd", "-1");
    pair_close(&two);
    close(ends[1]);
}

static void bad_descriptors_are_refused(void) {
    STEP("descriptors that are not open");
    SAYS(p2p_set(0, "log.fd", "987", &error), P2P_ERROR_SYSTEM,
         "option log.fd: descriptor 987 cannot be used: Bad file descriptor");
    SAYS(p2p_set(0, "log.fd", "-2", &error), P2P_ERROR_BAD_OPTION,
         "option log.fd: '-2' is not a whole number from -1 to");
    SAYS(p2p_set(0, "log.level", "loud", &error), P2P_ERROR_BAD_OPTION,
         "option log.level: 'loud' is not one of off, error, warn, info, debug, trace");
}

static void keys_are_never_logged(void) {
    static char seen[1 << 20];
    char path[] = "/tmp/p2pmount-key-XXXXXX", key[256], hex[512] = "";
    int ends[2];
    p2p_options options;
    p2p_node node;
    STEP("the key is not in the log");
    CHECK(mkdtemp(path) != NULL, "a folder");
    char file[64];
    snprintf(file, sizeof file, "%s/key", path);
    CHECK_INT(pipe(ends), 0);
    set_fd(ends[1]);
    set("log.level", "trace");
    OK(p2p_options_new(&options, &error));
    OK(p2p_options_set(options, "identity.file", file, &error));
    OK(p2p_node_open(options, &node, &error));
    OK(p2p_node_close(node, 0, &error));
    PLAIN(p2p_options_free(options), P2P_OK);
    read_until(ends[0], seen, sizeof seen, "node closed");
    set("log.level", "off");
    set("log.fd", "-1");
    int fd = open(file, O_RDONLY);
    ssize_t size = read(fd, key, sizeof key);
    CHECK(size >= 36, "the key file");
    for (ssize_t i = 4; i < 12; i++) snprintf(hex + strlen(hex), 3, "%02x", (unsigned char)key[i]);
    CHECK(strcasestr(seen, hex) == NULL, "the key is in the log");
    close(fd);
    close(ends[0]);
    close(ends[1]);
    unlink(file);
    rmdir(path);
}

int main(void) {
    start(60);
    bad_descriptors_are_refused();
    lines_arrive_at_a_duplicate();
    a_full_pipe_stalls_nobody();
    keys_are_never_logged();
    return 0;
}
