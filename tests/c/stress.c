/* Promise: every function may be called from every thread at any time; traffic beside it loses and invents no byte. */
#include "net.h"

enum { CALLERS = 8, CLIENTS = 50, SECONDS = 5 };

static pair two;
static atomic_bool stop;
static atomic_uint rounds, transfers;

static void *calls(void *context) {
    int own = (int)(intptr_t)context;
    for (unsigned round = 0; !atomic_load(&stop); round++) {
        char name[32], address[64];
        p2p_mount listener, forward;
        size_t closed;
        snprintf(name, sizeof name, "stress-%d", own);
        p2p_node node = own % 2 == 0 ? two.near : two.far;
        OK(p2p_listen(node, name, two.service.address, 0, &listener, &error));
        FAILS(p2p_listen(node, name, two.service.address, 0, &forward, &error), P2P_ERROR_ALREADY_REGISTERED);
        forward_to(two.near, name, two.far_address, &forward, address);
        p2p_snapshot rows = list(node, P2P_LIST_LISTENERS | P2P_LIST_FORWARDS | P2P_LIST_STREAMS | P2P_LIST_PEERS);
        size_t count = rows_in(rows), mine = 0;
        for (size_t row = 0; row < count; row++) {
            if (strcmp(text(rows, row, "kind"), "listener") != 0) continue;
            mine += number(rows, row, "id") == (int64_t)listener;
        }
        CHECK_INT(mine, 1);
        PLAIN(p2p_snapshot_free(rows), P2P_OK);
        p2p_queue queue = subscribe(node, P2P_EVENT_ALL);
        OK(p2p_mount_close(forward, round % 2 == 0 ? P2P_CLOSE_STREAMS : 0, &error));
        OK(p2p_close(node, name, NULL, NULL, 0, &closed, &error));
        CHECK_INT(closed, 1);
        FAILS(p2p_mount_close(listener, 0, &error), P2P_ERROR_BAD_HANDLE);
        PLAIN(p2p_queue_close(queue), P2P_OK);
        atomic_fetch_add(&rounds, 1);
    }
    return NULL;
}

static void *transfer(void *context) {
    unsigned seed = (unsigned)(intptr_t)context;
    while (!atomic_load(&stop)) {
        size_t size = (size_t)(seed * 7919u % 300000u);
        const char *wrong = echo_check(two.address, size, seed);
        CHECK(wrong == NULL, "%zu bytes: %s", size, wrong);
        seed += CLIENTS;
        atomic_fetch_add(&transfers, 1);
    }
    return NULL;
}

int main(void) {
    pthread_t threads[CALLERS + CLIENTS];
    start(90);
    OK(p2p_node_close(node_open(NULL, NULL), 0, &error));
    int64_t handles = number_of(0, P2P_LIST_PROCESS, "handles");
    int descriptors = count_descriptors_of_nodes();
    pair_open(&two, serve_echo, NULL);
    STEP("calls and transfers side by side");
    for (int i = 0; i < CALLERS + CLIENTS; i++)
        threads[i] = thread_start(i < CALLERS ? calls : transfer, (void *)(intptr_t)i);
    nap_ms(SECONDS * 1000);
    atomic_store(&stop, true);
    for (int i = 0; i < CALLERS + CLIENTS; i++) thread_join(threads[i]);
    printf("%u rounds of calls, %u transfers\n", atomic_load(&rounds), atomic_load(&transfers));
    CHECK(atomic_load(&rounds) >= CALLERS && atomic_load(&transfers) >= CLIENTS, "hardly anything was done");
    CHECK_INT(count_rows(two.near, P2P_LIST_LISTENERS), 0);
    CHECK_INT(count_rows(two.near, P2P_LIST_FORWARDS), 1);
    STEP("nothing is left");
    pair_close(&two);
    CHECK_INT(number_of(0, P2P_LIST_PROCESS, "handles"), handles);
    EVENTUALLY(count_descriptors_of_nodes() <= descriptors, 5000, "%d descriptors, %d at the start",
               count_descriptors_of_nodes(), descriptors);
    return 0;
}
