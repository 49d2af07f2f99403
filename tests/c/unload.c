/* Promise: dlclose while the library's threads run is harmless, and the library can be opened again. Not linked with
 * the library: its path is the environment variable P2PMOUNT_LIBRARY. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <p2pmount.h>

#define CHECK(condition, what) \
    do { \
        if (!(condition)) { \
            const char *why_ = dlerror(); \
            fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, what, why_ == NULL ? "" : why_); \
            return 1; \
        } \
    } while (0)

typedef p2p_status open_function(p2p_options, p2p_node *, p2p_error *);
typedef p2p_status close_function(p2p_node, int32_t, p2p_error *);

int main(void) {
    const char *path = getenv("P2PMOUNT_LIBRARY");
    struct timespec moment = {0, 200 * 1000 * 1000};
    setenv("P2PMOUNT_NETWORK", "local", 1);
    alarm(60);
    CHECK(path != NULL, "P2PMOUNT_LIBRARY is not set");
    for (int round = 0; round < 3; round++) {
        void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
        CHECK(library != NULL, path);
        open_function *node_open = (open_function *)(uintptr_t)dlsym(library, "p2p_node_open");
        close_function *node_close = (close_function *)(uintptr_t)dlsym(library, "p2p_node_close");
        CHECK(node_open != NULL && node_close != NULL, "a function is missing");
        p2p_node first, second;
        CHECK(node_open(0, &first, NULL) == P2P_OK, "p2p_node_open");
        CHECK(node_open(0, &second, NULL) == P2P_OK, "p2p_node_open");
        if (round > 0) CHECK(node_close(second, 0, NULL) == P2P_OK, "p2p_node_close");
        CHECK(dlclose(library) == 0, "dlclose");
        /* The threads of the node that is still open run on in code that dlclose was asked to unmap. */
        nanosleep(&moment, NULL);
    }
    return 0;
}
