/* Forwards a local address to a service that another peer exposes.
 *
 *     forward [name=value ...] PROTOCOL LISTEN PEER [name=value ...]
 *     forward my-web 127.0.0.1:9090 /ip4/192.0.2.7/tcp/4001/p2p/12D3KooW... verify=true
 *
 * Options before the protocol are the node's, those after the peer are the forward's. LISTEN with port 0 takes a free
 * port. Prints the address to connect to, then serves until "quit" or the end of its input; "list" shows what goes
 * through. */
#include <stdio.h>

#include <p2pmount.h>

#include "common.h"

static int forward(p2p_node node, char **names, p2p_options options) {
    char address[P2P_ADDRESS_SIZE];
    p2p_mount mount;
    p2p_error error;
    if (!succeeded(p2p_forward(node, names[0], names[1], names[2], options, &mount, &error), "forward", &error))
        return 0;
    if (!succeeded(p2p_mount_address(mount, address, sizeof address, &error), "address", &error)) return 0;
    printf("listen %s\n", address);
    return serve_commands(node) && succeeded(p2p_mount_close(mount, 0, &error), "close", &error);
}

int main(int argc, char **argv) {
    p2p_options node_options, forward_options;
    p2p_node node;
    p2p_error error;
    int used, trailing, good;

    if (!options_from(argv + 1, argc - 1, &node_options, &used)) return 1;
    argv += 1 + used;
    argc -= 1 + used;
    if (argc < 3) {
        fprintf(stderr, "usage: forward [name=value ...] PROTOCOL LISTEN PEER [name=value ...]\n");
        p2p_options_free(node_options);
        return 2;
    }
    good = options_from(argv + 3, argc - 3, &forward_options, &trailing);
    if (!good) {
        p2p_options_free(node_options);
        return 1;
    }
    if (trailing != argc - 3) {
        fprintf(stderr, "\"%s\" is not an option of the form name=value\n", argv[3 + trailing]);
        good = 0;
    }

    good = good && succeeded(p2p_node_open(node_options, &node, &error), "node", &error);
    if (good) {
        good = forward(node, argv, forward_options);
        /* Streams that still run may finish, for at most two seconds. */
        good = succeeded(p2p_node_close(node, 2000, &error), "close", &error) && good;
    }
    p2p_options_free(forward_options);
    p2p_options_free(node_options);
    return good ? 0 : 1;
}
