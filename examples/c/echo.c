/* An echo server behind a node, and a client that talks to it through another.
 *
 *     echo server [name=value ...]
 *     echo client [name=value ...] PEER
 *
 * The server prints its addresses; with them, comma separated, as PEER the client sends five messages and prints what
 * comes back. The options are the node's. Both programs speak plain TCP to an address of their own machine. */
#define _POSIX_C_SOURCE 200809L

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <p2pmount.h>

#include "common.h"

static const char protocol[] = "echo-protocol";

/* A socket and the address 127.0.0.1:`port`. */
static int tcp_socket(uint16_t port, struct sockaddr_in *address) {
    memset(address, 0, sizeof *address);
    address->sin_family = AF_INET;
    address->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address->sin_port = htons(port);
    return socket(AF_INET, SOCK_STREAM, 0);
}

static int send_all(int fd, const char *bytes, size_t count) {
    while (count > 0) {
        ssize_t sent = send(fd, bytes, count, MSG_NOSIGNAL);
        if (sent < 0) return 0;
        bytes += sent;
        count -= (size_t)sent;
    }
    return 1;
}

/* ---- the server ------------------------------------------------------------------------------------------------- */

/* Echoes until the client's end of file, then ends too. */
static void *echo(void *context) {
    int client = (int)(intptr_t)context;
    char bytes[1 << 16];
    ssize_t count;
    while ((count = recv(client, bytes, sizeof bytes, 0)) > 0)
        if (!send_all(client, bytes, (size_t)count)) break;
    close(client);
    return NULL;
}

static int start(void *(*run)(void *), int fd) {
    pthread_t thread;
    int failed = pthread_create(&thread, NULL, run, (void *)(intptr_t)fd);
    if (failed == 0) pthread_detach(thread);
    return failed == 0;
}

/* A thread for each client, until the program ends. */
static void *accept_clients(void *context) {
    int listening = (int)(intptr_t)context;
    for (;;) {
        int client = accept(listening, NULL, NULL);
        if (client < 0 && errno != EINTR && errno != ECONNABORTED) return NULL;
        if (client >= 0 && !start(echo, client)) close(client);
    }
}

/* Starts to echo on a free port, which it returns; 0 on failure. */
static uint16_t start_echo_server(void) {
    struct sockaddr_in address;
    socklen_t size = sizeof address;
    int listening = tcp_socket(0, &address);
    if (listening < 0 || bind(listening, (struct sockaddr *)&address, size) != 0 || listen(listening, 128) != 0 ||
        getsockname(listening, (struct sockaddr *)&address, &size) != 0 || !start(accept_clients, listening)) {
        perror("echo server");
        return 0;
    }
    return ntohs(address.sin_port);
}

static int server(p2p_node node) {
    char target[32];
    char line[64];
    p2p_mount listener;
    p2p_error error;
    uint16_t port = start_echo_server();
    if (port == 0) return 0;
    snprintf(target, sizeof target, "127.0.0.1:%u", (unsigned)port);
    if (!succeeded(p2p_listen(node, protocol, target, 0, &listener, &error), "listen", &error)) return 0;
    if (!print_node(node)) return 0;
    printf("ready\n");
    fflush(stdout);
    while (fgets(line, sizeof line, stdin) != NULL && strcmp(line, "quit\n") != 0) continue;
    return succeeded(p2p_mount_close(listener, 0, &error), "close", &error);
}

/* ---- the client ------------------------------------------------------------------------------------------------- */

/* Sends five messages and reads each back. */
static int talk(int connection) {
    char message[32], answer[32];
    int number;
    for (number = 1; number <= 5; number++) {
        size_t length = (size_t)snprintf(message, sizeof message, "Hello, world! (%d)", number), have = 0;
        if (!send_all(connection, message, length)) {
            perror("send");
            return 0;
        }
        printf("sent: %s\n", message);
        while (have < length) {
            ssize_t count = recv(connection, answer + have, length - have, 0);
            if (count < 0) perror("receive");
            if (count == 0) fprintf(stderr, "receive: the connection ended early\n");
            if (count <= 0) return 0;
            have += (size_t)count;
        }
        printf("received: %.*s\n", (int)length, answer);
        fflush(stdout);
        if (memcmp(answer, message, length) != 0) {
            fprintf(stderr, "receive: the answer is not what was sent\n");
            return 0;
        }
    }
    return 1;
}

/* With verify the forward fails with a sentence, and not the first message, if the peer cannot be reached. */
static int make_forward(p2p_node node, const char *peer, p2p_mount *forward) {
    p2p_options options;
    p2p_error error;
    int good;
    if (!succeeded(p2p_options_new(&options, &error), "options", &error)) return 0;
    good = succeeded(p2p_options_set(options, "verify", "true", &error), "option", &error) &&
           succeeded(p2p_forward(node, protocol, "127.0.0.1:0", peer, options, forward, &error), "forward", &error);
    p2p_options_free(options);
    return good;
}

static int client(p2p_node node, const char *peer) {
    char local[P2P_ADDRESS_SIZE];
    struct sockaddr_in address;
    p2p_mount forward;
    p2p_error error;
    int connection, good;
    if (!make_forward(node, peer, &forward)) return 0;
    if (!succeeded(p2p_mount_address(forward, local, sizeof local, &error), "address", &error)) return 0;
    connection = tcp_socket((uint16_t)atoi(strrchr(local, ':') + 1), &address);
    good = connection >= 0 && connect(connection, (struct sockaddr *)&address, sizeof address) == 0;
    if (!good) perror("connect");
    good = good && talk(connection);
    if (connection >= 0) close(connection);
    return succeeded(p2p_mount_close(forward, 0, &error), "close", &error) && good;
}

int main(int argc, char **argv) {
    p2p_options options;
    p2p_node node;
    p2p_error error;
    int used = 0, good, serves = argc > 1 && strcmp(argv[1], "server") == 0;

    if (!serves && (argc < 2 || strcmp(argv[1], "client") != 0)) {
        argc = 0;
    } else if (!options_from(argv + 2, argc - 2, &options, &used)) {
        return 1;
    } else if (argc - 2 - used != (serves ? 0 : 1)) {
        p2p_options_free(options);
        argc = 0;
    }
    if (argc == 0) {
        fprintf(stderr, "usage: echo server [name=value ...]\n       echo client [name=value ...] PEER\n");
        return 2;
    }

    good = succeeded(p2p_node_open(options, &node, &error), "node", &error);
    if (good) {
        good = serves ? server(node) : client(node, argv[2 + used]);
        /* Streams that still run may finish, for at most two seconds. */
        good = succeeded(p2p_node_close(node, 2000, &error), "close", &error) && good;
    }
    p2p_options_free(options);
    return good ? 0 : 1;
}
