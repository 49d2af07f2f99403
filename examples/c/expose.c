/* Exposes a local TCP service to other peers under a protocol name.
 *
 *     expose [name=value ...] PROTOCOL TARGET [name=value ...]
 *     expose transports=quic my-web 127.0.0.1:8080 peers.allow=12D3KooW...
 *
 * Options before the protocol are the node's, those after the target are the listener's. Prints the addresses that
 * `forward` takes as PEER, then serves until "quit" or the end of its input; "list" shows what goes through. */
#include <stdio.h>

#include <p2pmount.h>

#include "common.h"

static int expose(p2p_node node, const char *protocol, const char *target, p2p_options options) {
    p2p_mount listener;
    p2p_error error;
    if (!succeeded(p2p_listen(node, protocol, target, options, &listener, &error), "listen", &error)) return 0;
    return print_node(node) && serve_commands(node) && succeeded(p2p_mount_close(listener, 0, &error), "close", &error);
}

int main(int argc, char **argv) {
    p2p_options node_options, listener_options;
    p2p_node node;
    p2p_error error;
    int used, trailing, good;
    const char *protocol, *target;

    if (!options_from(argv + 1, argc - 1, &node_options, &used)) return 1;
    argv += 1 + used;
    argc -= 1 + used;
    if (argc < 2) {
        fprintf(stderr, "usage: expose [name=value ...] PROTOCOL TARGET [name=value ...]\n");
        p2p_options_free(node_options);
        return 2;
    }
    protocol = argv[0];
    target = argv[1];
    good = options_from(argv + 2, argc - 2, &listener_options, &trailing);
    if (!good) {
        p2p_options_free(node_options);
        return 1;
    }
    if (trailing != argc - 2) {
        fprintf(stderr, "\"%s\" is not an option of the form name=value\n", argv[2 + trailing]);
        good = 0;
    }

    good = good && succeeded(p2p_node_open(node_options, &node, &error), "node", &error);
    if (good) {
        good = expose(node, protocol, target, listener_options);
        /* Streams that still run may finish, for at most two seconds. */
        good = succeeded(p2p_node_close(node, 2000, &error), "close", &error) && good;
    }
    p2p_options_free(listener_options);
    p2p_options_free(node_options);
    return good ? 0 : 1;
}
