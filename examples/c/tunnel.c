/* Exposes a local TCP service to other peers under a protocol name, or forwards a local address to one.
 *
 *     tunnel expose [name=value ...] PROTOCOL TARGET [name=value ...]
 *     tunnel forward [name=value ...] PROTOCOL LISTEN PEER [name=value ...]
 *
 *     tunnel expose my-web 127.0.0.1:8080 peers.allow=12D3KooW...
 *     tunnel forward my-web 127.0.0.1:9090 /ip4/192.0.2.7/tcp/4001/p2p/12D3KooW... verify=true
 *
 * Prints the addresses that the other side takes as PEER, or the address to connect to; LISTEN with port 0 takes a free
 * port. Serves until "quit" or the end of its input; "list" shows what goes through. See common.c for all that is done
 * with the library. */
#include <p2pmount.h>

#include "common.h"

int main(int argc, char **argv) {
    mounted made;
    int good, status = open_mount("tunnel", argc, argv, &made);
    if (status != 0) return status;
    good = serve_commands(made.node);
    return close_mount(&made) && good ? 0 : 1;
}
