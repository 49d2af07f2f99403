/* What the C tests share: checks that say where and what, deadlines, and rows and events read by name. Sockets, servers
 * and pairs of nodes are in net.h. Include one of the two before anything else. */
#ifndef P2PMOUNT_TEST_H
#define P2PMOUNT_TEST_H

#define _GNU_SOURCE

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <p2pmount.h>

/* The error that OK, FAILS and SAYS read; name it in the call they wrap. */
static _Thread_local p2p_error error __attribute__((unused));
/* What the test is doing, for the line that is printed when something fails or the deadline passes. */
static const char *volatile test_step = "start";
#define STEP(text) (test_step = (text))

__attribute__((format(printf, 3, 4), noreturn)) static inline void test_fail(const char *file, int line,
                                                                             const char *format, ...) {
    va_list arguments;
    flockfile(stderr);
    fprintf(stderr, "%s:%d: [%s] ", file, line, test_step);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    fflush(NULL);
    _exit(1);
}

#define CHECK(condition, ...) \
    do { \
        if (!(condition)) test_fail(__FILE__, __LINE__, __VA_ARGS__); \
    } while (0)
#define CHECK_INT(got, want) test_int(__FILE__, __LINE__, #got, (int64_t)(got), (int64_t)(want))
#define CHECK_TEXT(got, want) test_text(__FILE__, __LINE__, #got, (got), (want))

static inline void test_int(const char *file, int line, const char *what, int64_t got, int64_t want) {
    if (got != want) test_fail(file, line, "%s: expected %" PRId64 ", got %" PRId64, what, want, got);
}

static inline void test_text(const char *file, int line, const char *what, const char *got, const char *want) {
    if (got == NULL || strcmp(got, want) != 0)
        test_fail(file, line, "%s: expected \"%s\", got \"%s\"", what, want, got == NULL ? "(NULL)" : got);
}

/* The status of a call and its p2p_error, which every call overwrites whole: SAYS also looks for a part of the
 * sentence. */
#define POISONED(call) (memset(&error, 0xa5, sizeof error), (call))
#define OK(call) test_status(__FILE__, __LINE__, #call, POISONED(call), P2P_OK, &error, NULL)
#define FAILS(call, status) test_status(__FILE__, __LINE__, #call, POISONED(call), (status), &error, NULL)
#define SAYS(call, status, part) test_status(__FILE__, __LINE__, #call, POISONED(call), (status), &error, (part))
/* For calls that have no p2p_error, or get NULL for it. */
#define PLAIN(call, status) test_status(__FILE__, __LINE__, #call, (call), (status), NULL, NULL)

static inline void test_status(const char *file, int line, const char *call, p2p_status got, p2p_status want,
                               const p2p_error *told, const char *part) {
    const char *end = told == NULL ? NULL : memchr(told->message, 0, sizeof told->message);
    if (got != want)
        test_fail(file, line, "%s: expected %s, got %s: %s", call, p2p_status_name(want), p2p_status_name(got),
                  end == NULL ? "(no sentence)" : told->message);
    if (told == NULL) return;
    if (end == NULL) test_fail(file, line, "%s: the sentence has no end", call);
    if (told->code != got) test_fail(file, line, "%s: error.code is %d, the status %d", call, told->code, got);
    if (told->reserved != 0) test_fail(file, line, "%s: error.reserved is %#x", call, told->reserved);
    if ((told->flags & ~(uint32_t)(P2P_ERROR_FLAG_TEMPORARY | P2P_ERROR_FLAG_TIMED_OUT)) != 0)
        test_fail(file, line, "%s: error.flags is %#x", call, told->flags);
    if (told->system_error < 0 || told->system_error > 4095)
        test_fail(file, line, "%s: error.system_error is %d", call, told->system_error);
    if ((got == P2P_OK) != (end == told->message))
        test_fail(file, line, "%s: %s with the sentence \"%s\"", call, p2p_status_name(got), told->message);
    if (got == P2P_OK && (told->flags != 0 || told->system_error != 0))
        test_fail(file, line, "%s: OK with flags %#x, errno %d", call, told->flags, told->system_error);
    if (strpbrk(told->message, "\r\n") != NULL) test_fail(file, line, "%s: line break in \"%s\"", call, told->message);
    if (part != NULL && strstr(told->message, part) == NULL)
        test_fail(file, line, "%s: \"%s\" does not say \"%s\"", call, told->message, part);
}

/* ---- time ------------------------------------------------------------------------------------------------------- */

/* How much slower than usual this run may be (valgrind, sanitizers): P2PMOUNT_TEST_SLOW, else 1. */
static inline int slow(void) {
    const char *text = getenv("P2PMOUNT_TEST_SLOW");
    int factor = text == NULL ? 1 : atoi(text);
    return factor < 1 ? 1 : factor;
}

static inline int64_t now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static inline void nap_ms(int ms) {
    struct timespec time = {ms / 1000, (long)(ms % 1000) * 1000000};
    nanosleep(&time, NULL);
}

/* Waits for something that no event tells. */
#define EVENTUALLY(condition, ms, ...) \
    do { \
        int64_t until_ = now_ms() + (int64_t)(ms) * slow(); \
        while (!(condition)) { \
            CHECK(now_ms() < until_, __VA_ARGS__); \
            nap_ms(5); \
        } \
    } while (0)

static inline void test_say(const char *text) {
    if (write(STDERR_FILENO, text, strlen(text)) < 0) return;
}

static inline void test_deadline(int number) {
    (void)number;
    test_say("deadline passed at step: ");
    test_say(test_step);
    test_say("\n");
    _exit(1);
}

/* First line of every main: loopback only, and an end within `seconds` whatever happens. */
static inline void start(unsigned seconds) {
    setenv("P2PMOUNT_NETWORK", "local", 1);
    signal(SIGALRM, test_deadline);
    alarm(seconds * (unsigned)slow());
}

/* ---- threads, processes, descriptors ---------------------------------------------------------------------------- */

static inline pthread_t thread_start(void *(*run)(void *), void *context) {
    pthread_t thread;
    CHECK_INT(pthread_create(&thread, NULL, run, context), 0);
    return thread;
}

static inline void thread_join(pthread_t thread) { CHECK_INT(pthread_join(thread, NULL), 0); }

static inline int count_descriptors(void) {
    DIR *directory = opendir("/proc/self/fd");
    int count = -1; /* the directory's own */
    CHECK(directory != NULL, "/proc/self/fd: %s", strerror(errno));
    for (struct dirent *entry; (entry = readdir(directory)) != NULL;) count += entry->d_name[0] != '.';
    closedir(directory);
    return count;
}

static inline bool instrumented(void) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    return true;
#else
    const char *wrapper = getenv("P2PMOUNT_TEST_WRAPPER");
    return wrapper != NULL && *wrapper != '\0';
#endif
}

typedef struct child {
    pid_t pid;
    int report;
} child;

/* Forks: returns 0 in the child, which has `seconds` and ends with child_exit, and 1 in the parent. */
static inline int child_start(child *made, unsigned seconds) {
    int ends[2];
    CHECK_INT(pipe2(ends, O_CLOEXEC), 0);
    fflush(NULL);
    made->pid = fork();
    CHECK(made->pid >= 0, "fork: %s", strerror(errno));
    if (made->pid == 0) {
        close(ends[0]);
        made->report = ends[1];
        alarm(seconds * (unsigned)slow());
        return 0;
    }
    close(ends[1]);
    made->report = ends[0];
    return 1;
}

/* Ends the child through exit(), so that what libraries do at exit is part of the test. Leak checkers would count what
 * the parent's threads own as lost in the child: under them the child reports and is killed. */
__attribute__((noreturn)) static inline void child_exit(child *self) {
    if (write(self->report, "k", 1) != 1) _exit(3);
    if (instrumented()) {
        kill(getpid(), SIGKILL);
        for (;;) pause();
    }
    exit(0);
}

static inline void child_wait(child *made) {
    char report = 0;
    int status = 0;
    bool good = read(made->report, &report, 1) == 1 && report == 'k';
    close(made->report);
    CHECK_INT(waitpid(made->pid, &status, 0), made->pid);
    CHECK(good, "the child failed: wait status %#x", (unsigned)status);
    if (!instrumented())
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0, "child: wait status %#x", (unsigned)status);
}

/* ---- options, rows, events -------------------------------------------------------------------------------------- */

/* Options from name, value, ..., NULL. */
static inline p2p_options options_of(const char *name, ...) {
    p2p_options options;
    va_list arguments;
    OK(p2p_options_new(&options, &error));
    va_start(arguments, name);
    for (; name != NULL; name = va_arg(arguments, const char *))
        OK(p2p_options_set(options, name, va_arg(arguments, const char *), &error));
    va_end(arguments);
    return options;
}

/* A node with one option, or with defaults when `name` is NULL. */
static inline p2p_node node_open(const char *name, const char *value) {
    p2p_options options = name == NULL ? 0 : options_of(name, value, (char *)NULL);
    p2p_node node;
    OK(p2p_node_open(options, &node, &error));
    CHECK(node != 0, "an open node has the handle 0");
    PLAIN(p2p_options_free(options), P2P_OK);
    return node;
}

static inline p2p_snapshot list(uint64_t handle, uint32_t what) {
    p2p_snapshot snapshot;
    OK(p2p_list(handle, what, &snapshot, &error));
    return snapshot;
}

static inline size_t rows_in(uint64_t rows) {
    size_t count;
    OK(p2p_row_count(rows, &count, &error));
    return count;
}

static inline size_t count_rows(uint64_t handle, uint32_t what) {
    p2p_snapshot snapshot = list(handle, what);
    size_t count = rows_in(snapshot);
    PLAIN(p2p_snapshot_free(snapshot), P2P_OK);
    return count;
}

static inline const char *text(uint64_t rows, size_t row, const char *field) {
    const char *value = NULL;
    OK(p2p_row_text(rows, row, field, &value, &error));
    CHECK(value != NULL, "field %s is NULL", field);
    return value;
}

static inline int64_t number(uint64_t rows, size_t row, const char *field) {
    int64_t value;
    OK(p2p_row_int(rows, row, field, &value, &error));
    return value;
}

/* One number of one row, read from a snapshot of its own. */
static inline int64_t number_of(uint64_t handle, uint32_t what, const char *field) {
    p2p_snapshot snapshot = list(handle, what);
    CHECK(rows_in(snapshot) > 0, "no row to read %s from", field);
    int64_t value = number(snapshot, 0, field);
    PLAIN(p2p_snapshot_free(snapshot), P2P_OK);
    return value;
}

/* Descriptors beside those of the library's threads, three each: a thread stays, and a second may be started under
 * load. */
static inline int count_descriptors_of_nodes(void) {
    return count_descriptors() - 3 * (int)number_of(0, P2P_LIST_PROCESS, "threads");
}

/* Whether the one row of `handle` has this text in `field`. */
static inline bool row_is(uint64_t handle, uint32_t what, const char *field, const char *want) {
    p2p_snapshot snapshot = list(handle, what);
    bool same = rows_in(snapshot) > 0 && strcmp(text(snapshot, 0, field), want) == 0;
    PLAIN(p2p_snapshot_free(snapshot), P2P_OK);
    return same;
}

static inline bool has_field(uint64_t rows, size_t row, const char *field) {
    for (size_t index = 0;; index++) {
        const char *name = NULL;
        p2p_status status = POISONED(p2p_row_field(rows, row, index, &name, &error));
        if (status == P2P_ERROR_NOT_FOUND) return false;
        test_status(__FILE__, __LINE__, "p2p_row_field", status, P2P_OK, &error, NULL);
        if (strcmp(name, field) == 0) return true;
    }
}

static inline void print_row(FILE *out, uint64_t rows, size_t row) {
    const char *name, *value;
    for (size_t index = 0; p2p_row_field(rows, row, index, &name, NULL) == P2P_OK; index++)
        if (p2p_row_text(rows, row, name, &value, NULL) == P2P_OK && *value != '\0')
            fprintf(out, " %s=%s", name, value);
    fputc('\n', out);
}

static inline p2p_queue subscribe(p2p_node node, uint32_t kinds) {
    p2p_queue queue;
    OK(p2p_subscribe(node, kinds, 0, &queue, &error));
    CHECK(queue != 0, "a queue has the handle 0");
    return queue;
}

static inline p2p_event next_event(p2p_queue queue, int ms) {
    p2p_event event;
    OK(p2p_next_event(queue, ms * slow(), &event, &error));
    return event;
}

/* The next event of this kind whose `field` (if any) is `value`; others are read and freed. Within 10 s. */
static inline p2p_event await_event(p2p_queue queue, int64_t kind, const char *field, const char *value) {
    int64_t until = now_ms() + 10000 * slow();
    for (;;) {
        int64_t left = until - now_ms();
        p2p_event event = 0;
        p2p_status status = POISONED(p2p_next_event(queue, left > 0 ? (int32_t)left : 0, &event, &error));
        CHECK(status == P2P_OK, "waiting for event %" PRId64 " %s=%s: %s: %s", kind, field == NULL ? "" : field,
              field == NULL ? "" : value, p2p_status_name(status), error.message);
        if (number(event, 0, "event") == kind && (field == NULL || strcmp(text(event, 0, field), value) == 0))
            return event;
        PLAIN(p2p_event_free(event), P2P_OK);
    }
}

static inline void await(p2p_queue queue, int64_t kind, const char *field, const char *value) {
    PLAIN(p2p_event_free(await_event(queue, kind, field, value)), P2P_OK);
}

#endif
