// Exposes a local TCP service to other peers under a protocol name, or forwards a local address to one.
//
//     tunnel expose [name=value ...] PROTOCOL TARGET [name=value ...]
//     tunnel forward [name=value ...] PROTOCOL LISTEN PEER [name=value ...]
//
//     tunnel expose my-web 127.0.0.1:8080
//     tunnel forward my-web 127.0.0.1:9090 /ip4/192.0.2.7/tcp/4001/p2p/12D3KooW...
//
// Prints the addresses that the other side takes as PEER, or the address to connect to. Runs until "quit" or the end of
// its input. See common.hpp for all that is done with the library.
#include "common.hpp"

int main(int argc, char **argv) {
    return run(argc, argv, [](const arguments &given) {
        opened open = open_mount("tunnel", given);
        std::cout << "ready" << std::endl;
        wait_for_quit();
        close_all(open.node, open.mount);
    });
}
