/* A path between two network namespaces: this process's own and that of another process.
 *
 *     path PID INTERFACE RTT_MS MBIT_PER_SECOND LOSS_PERCENT BUFFER_BYTES
 *
 * Makes a TUN interface of that name in both namespaces and carries packets between them, each direction for itself: a
 * packet is lost by chance, or waits in a buffer for its turn on the line and is lost if the buffer is full, takes its
 * time on the line, and arrives half a round trip later. The chance is the same in each run. Prints "ready"; at SIGTERM
 * how many packets were carried, lost by chance, and lost at a full buffer, in the direction away from this namespace
 * and back.
 *
 * It does what tc's netem and tbf do on a veth pair, but needs no module that a kernel may be without. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

/* Packets are looked after this often, in nanoseconds: a wake-up for each would cost more than the packet itself. */
#define TICK 200000
/* Packets taken in from one side before the other has its turn. */
#define BATCH 2048
#define PACKET_MAX 2048

typedef struct {
    int64_t due;
    uint32_t size; /* 0: the rest of the ring is empty */
    uint32_t unused;
} entry;

typedef struct {
    int from, to;
    uint8_t *ring;
    size_t capacity, head, tail; /* head == tail: empty */
    int64_t line_free;
    uint64_t chance;
    unsigned long carried, lost, dropped;
} direction;

static double line_nanoseconds_per_byte;
static int64_t delay, buffer_time;
static uint64_t loss; /* of 2^32 */
static volatile sig_atomic_t stopped;

static void stop(int signal) {
    (void)signal;
    stopped = 1;
}

static void fail(const char *what) {
    fprintf(stderr, "path: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * INT64_C(1000000000) + time.tv_nsec;
}

static int open_interface(const char *name) {
    struct ifreq request;
    int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) fail("/dev/net/tun");
    memset(&request, 0, sizeof request);
    strncpy(request.ifr_name, name, IFNAMSIZ - 1);
    request.ifr_flags = IFF_TUN | IFF_NO_PI;
    if (ioctl(fd, TUNSETIFF, &request) < 0) fail(name);
    return fd;
}

static void enter_namespace_of(const char *pid) {
    char file[64];
    int fd;
    snprintf(file, sizeof file, "/proc/%.20s/ns/net", pid);
    fd = open(file, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || setns(fd, CLONE_NEWNET) < 0) fail(file);
    close(fd);
}

/* Room for one packet at the tail, or NULL. */
static entry *room(direction *way) {
    size_t needed = sizeof(entry) + PACKET_MAX;
    if (way->tail >= way->head && way->capacity - way->tail < needed + sizeof(entry)) {
        if (way->head <= needed) return NULL;
        ((entry *)(void *)(way->ring + way->tail))->size = 0;
        way->tail = 0;
    }
    if (way->tail < way->head && way->head - way->tail <= needed) return NULL;
    return (entry *)(void *)(way->ring + way->tail);
}

static int by_chance(direction *way) {
    way->chance ^= way->chance << 13;
    way->chance ^= way->chance >> 7;
    way->chance ^= way->chance << 17;
    return (way->chance >> 32) < loss;
}

static int take_in(direction *way, int64_t time) {
    int count;
    for (count = 0; count < BATCH; ++count) {
        static uint8_t surplus[PACKET_MAX];
        entry *packet = room(way);
        uint8_t *data = packet != NULL ? (uint8_t *)(packet + 1) : surplus;
        ssize_t size = read(way->from, data, PACKET_MAX);
        if (size < 0 && (errno == EAGAIN || errno == EINTR)) break;
        if (size <= 0) fail("read");
        if (by_chance(way)) {
            ++way->lost;
            continue;
        }
        if (way->line_free < time) way->line_free = time;
        if (packet == NULL || way->line_free - time > buffer_time) {
            ++way->dropped;
            continue;
        }
        ++way->carried;
        way->line_free += (int64_t)(line_nanoseconds_per_byte * (double)size);
        packet->due = way->line_free + delay;
        packet->size = (uint32_t)size;
        way->tail += (sizeof *packet + (size_t)size + sizeof *packet - 1) / sizeof *packet * sizeof *packet;
    }
    return count;
}

static void deliver(direction *way, int64_t time) {
    while (way->head != way->tail) {
        entry *packet = (entry *)(void *)(way->ring + way->head);
        if (packet->size == 0) {
            way->head = 0;
            continue;
        }
        if (packet->due > time) return;
        /* An interface that is down, or a namespace that ends, takes nothing. */
        if (write(way->to, packet + 1, packet->size) < 0 && errno != EIO && errno != ENOBUFS && errno != EAGAIN)
            fail("write");
        way->head += (sizeof *packet + packet->size + sizeof *packet - 1) / sizeof *packet * sizeof *packet;
    }
}

int main(int argc, char **argv) {
    direction ways[2];
    struct sigaction action;
    double rtt, rate, percent, buffer;
    int i, here, there;
    if (argc != 7) {
        fprintf(stderr, "usage: path PID INTERFACE RTT_MS MBIT_PER_SECOND LOSS_PERCENT BUFFER_BYTES\n");
        return 2;
    }
    rtt = atof(argv[3]), rate = atof(argv[4]), percent = atof(argv[5]), buffer = atof(argv[6]);
    line_nanoseconds_per_byte = 8000 / rate;
    delay = (int64_t)(rtt * 1e6 / 2);
    buffer_time = (int64_t)(buffer * line_nanoseconds_per_byte);
    loss = (uint64_t)(percent / 100 * 4294967296.0);

    here = open_interface(argv[2]);
    enter_namespace_of(argv[1]);
    there = open_interface(argv[2]);
    memset(ways, 0, sizeof ways);
    for (i = 0; i < 2; ++i) {
        ways[i].from = i == 0 ? here : there;
        ways[i].to = i == 0 ? there : here;
        ways[i].chance = UINT64_C(0x9E3779B97F4A7C15) + (uint64_t)i;
        /* Twice what is under way: small packets take more room here than on the line. */
        ways[i].capacity = (size_t)(2 * (buffer + (double)delay / line_nanoseconds_per_byte)) + (4 << 20);
        ways[i].capacity -= ways[i].capacity % sizeof(entry);
        ways[i].ring = malloc(ways[i].capacity);
        if (ways[i].ring == NULL) fail("memory");
    }
    memset(&action, 0, sizeof action);
    action.sa_handler = stop;
    sigaction(SIGTERM, &action, NULL);
    /* Wishes: the path should be punctual also when the processors are busy. */
    prctl(PR_SET_TIMERSLACK, 1UL);
    setpriority(PRIO_PROCESS, 0, -15);
    printf("ready\n");
    fflush(stdout);

    while (!stopped) {
        int64_t time = now();
        int count = take_in(&ways[0], time) + take_in(&ways[1], time);
        deliver(&ways[0], time);
        deliver(&ways[1], time);
        if (count == 0 && ways[0].head == ways[0].tail && ways[1].head == ways[1].tail) {
            struct pollfd fds[2];
            fds[0].fd = here, fds[1].fd = there;
            fds[0].events = fds[1].events = POLLIN;
            if (poll(fds, 2, -1) < 0 && errno != EINTR) fail("poll");
        } else {
            struct timespec pause = {0, TICK};
            nanosleep(&pause, NULL);
        }
    }
    for (i = 0; i < 2; ++i) printf("%lu %lu %lu\n", ways[i].carried, ways[i].lost, ways[i].dropped);
    return 0;
}
