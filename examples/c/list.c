/* Shows the mounts and streams of a node while they change.
 *
 *     list expose [name=value ...] PROTOCOL TARGET [name=value ...]
 *     list forward [name=value ...] PROTOCOL LISTEN PEER [name=value ...]
 *
 * As `tunnel`, with a table that is printed anew at every event of a mount or stream, and once a second while streams
 * are open. One thread waits for its input and for events alike. */
#define _POSIX_C_SOURCE 200809L

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <p2pmount.h>

#include "common.h"

/* Both tables: on a terminal over the ones before, elsewhere below them and with an empty line at the end. Tells how
 * many streams there are. */
static int print_tables(p2p_node node, size_t *streams) {
    static size_t before = 0;
    size_t lines = 0;
    int in_place = isatty(STDOUT_FILENO), good;
    if (in_place && before > 0) printf("\033[%luA\033[J", (unsigned long)before);
    /* Lines that are too long are cut off there, not wrapped, so that their number is known. */
    if (in_place) printf("\033[?7l");
    good = print_list(node, &lines, streams);
    printf(in_place ? "\033[?7h" : "\n");
    fflush(stdout);
    before = lines;
    return good;
}

/* Whether the input has come to "quit" or to its end; takes what can be read. */
static int quits(void) {
    static char line[64];
    static size_t length = 0;
    char part[256];
    ssize_t at, count = read(STDIN_FILENO, part, sizeof part);
    if (count <= 0) return 1;
    for (at = 0; at < count; at++) {
        if (part[at] != '\n') {
            /* A line that is too long for "quit" is none. */
            if (length < sizeof line) line[length++] = part[at];
        } else {
            int quit = length == 4 && memcmp(line, "quit", 4) == 0;
            length = 0;
            if (quit) return 1;
        }
    }
    return 0;
}

/* Takes all events that wait. Returns the status that says why there are no more. */
static p2p_status take_events(p2p_queue queue, int *taken, p2p_error *error) {
    p2p_event event;
    p2p_status status;
    while ((status = p2p_next_event(queue, 0, &event, error)) == P2P_OK) {
        p2p_event_free(event);
        *taken = 1;
    }
    return status;
}

static int watch(p2p_node node, p2p_queue queue, int fd) {
    struct pollfd wanted[2] = {{STDIN_FILENO, POLLIN, 0}, {0, POLLIN, 0}};
    p2p_error error;
    size_t streams = 0;
    wanted[1].fd = fd;
    if (!print_tables(node, &streams)) return 0;
    for (;;) {
        /* Only the ages and counters of open streams change without an event. */
        int ready = poll(wanted, 2, streams > 0 ? 1000 : -1);
        int news = ready == 0;
        p2p_status status;
        if (ready > 0 && wanted[0].revents != 0 && quits()) return 1;
        status = take_events(queue, &news, &error);
        if (status == P2P_ERROR_CLOSED) return 1;
        if (status != P2P_ERROR_TIMED_OUT) return succeeded(status, "events", &error);
        if (news && !print_tables(node, &streams)) return 0;
    }
}

/* What happens before there is a queue is in the first table. */
static int show(p2p_node node) {
    p2p_queue queue;
    p2p_error error;
    int fd, good;
    uint32_t kinds = P2P_EVENT_MOUNT | P2P_EVENT_STREAM_OPENED | P2P_EVENT_STREAM_CLOSED;
    if (!succeeded(p2p_subscribe(node, kinds, 0, &queue, &error), "events", &error)) return 0;
    good = succeeded(p2p_queue_fd(queue, &fd, &error), "events", &error);
    if (good) {
        printf("ready\n");
        fflush(stdout);
        good = watch(node, queue, fd);
        close(fd);
    }
    p2p_queue_close(queue);
    return good;
}

int main(int argc, char **argv) {
    mounted made;
    int good, status = open_mount("list", argc, argv, &made);
    if (status != 0) return status;
    good = show(made.node);
    return close_mount(&made) && good ? 0 : 1;
}
