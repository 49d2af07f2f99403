#include "common.h"

#include <stdio.h>
#include <string.h>

#include "table.h"

int succeeded(p2p_status status, const char *what, const p2p_error *error) {
    if (status == P2P_OK) return 1;
    fprintf(stderr, "%s: %s (%s)\n", what, error->message, p2p_status_name(status));
    return 0;
}

int options_from(char **arguments, int count, p2p_options *options, int *used) {
    p2p_error error;
    if (!succeeded(p2p_options_new(options, &error), "options", &error)) return 0;
    for (*used = 0; *used < count; ++*used) {
        char *equals = strchr(arguments[*used], '=');
        if (equals == NULL) break;
        *equals = '\0';
        if (!succeeded(p2p_options_set(*options, arguments[*used], equals + 1, &error), "option", &error)) {
            p2p_options_free(*options);
            return 0;
        }
    }
    return 1;
}

int print_node(p2p_node node) {
    char id[P2P_PEER_ID_SIZE], addresses[P2P_ADDRESS_SIZE];
    char *address;
    p2p_error error;
    if (!succeeded(p2p_node_peer_id(node, id, sizeof id, &error), "peer id", &error)) return 0;
    if (!succeeded(p2p_node_address(node, addresses, sizeof addresses, &error), "addresses", &error)) return 0;
    printf("peer %s\n", id);
    for (address = strtok(addresses, ","); address != NULL; address = strtok(NULL, ","))
        printf("address %s\n", address);
    return 1;
}

/* Mounts, then streams, each with the columns that fit a terminal; NULL in their place would show all of them. */
static int print_list(p2p_node node) {
    static const char *const mounts[] = {"kind",          "protocol", "listen",    "target", "state", "streams",
                                         "streams_total", "bytes_in", "bytes_out", "error",  NULL};
    static const char *const streams[] = {"kind", "protocol", "origin",   "target",    "transport",
                                          "path", "age_ms",   "bytes_in", "bytes_out", NULL};
    p2p_snapshot snapshot;
    p2p_status status;
    p2p_error error;
    if (!succeeded(p2p_list(node, P2P_LIST_LISTENERS | P2P_LIST_FORWARDS, &snapshot, &error), "list", &error)) return 0;
    status = print_table(stdout, snapshot, mounts);
    p2p_snapshot_free(snapshot);
    if (status != P2P_OK) return 0;
    if (!succeeded(p2p_list(node, P2P_LIST_STREAMS, &snapshot, &error), "list", &error)) return 0;
    status = print_table(stdout, snapshot, streams);
    p2p_snapshot_free(snapshot);
    return status == P2P_OK;
}

int serve_commands(p2p_node node) {
    char line[64];
    printf("ready\n");
    fflush(stdout);
    while (fgets(line, sizeof line, stdin) != NULL) {
        line[strcspn(line, "\r\n")] = '\0';
        if (strcmp(line, "quit") == 0) break;
        if (strcmp(line, "list") == 0) {
            if (!print_list(node)) return 0;
        } else {
            printf("commands: list, quit\n");
        }
        /* An empty line ends each answer, for programs that read this one. */
        printf("\n");
        fflush(stdout);
    }
    return !ferror(stdin);
}
