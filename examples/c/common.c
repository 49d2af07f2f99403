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

/* The rows of one kind as a table, and how many there are. */
static int print_kind(p2p_node node, uint32_t what, const char *const *columns, size_t *lines, size_t *count) {
    p2p_snapshot snapshot;
    p2p_error error;
    int good;
    if (!succeeded(p2p_list(node, what, &snapshot, &error), "list", &error)) return 0;
    good = succeeded(p2p_row_count(snapshot, count, &error), "list", &error) &&
           print_table(stdout, snapshot, columns, lines) == P2P_OK;
    p2p_snapshot_free(snapshot);
    return good;
}

/* The columns that fit a terminal; NULL in their place would show all of them. */
int print_list(p2p_node node, size_t *lines, size_t *streams) {
    static const char *const mount_columns[] = {"kind",          "protocol", "listen",    "target", "state", "streams",
                                                "streams_total", "bytes_in", "bytes_out", "error",  NULL};
    static const char *const stream_columns[] = {"kind", "id",     "protocol", "origin",    "target", "transport",
                                                 "path", "age_ms", "bytes_in", "bytes_out", NULL};
    size_t mounts;
    return print_kind(node, P2P_LIST_LISTENERS | P2P_LIST_FORWARDS, mount_columns, lines, &mounts) &&
           print_kind(node, P2P_LIST_STREAMS, stream_columns, lines, streams);
}

int serve_commands(p2p_node node) {
    char line[64];
    size_t lines = 0, streams;
    printf("ready\n");
    fflush(stdout);
    while (fgets(line, sizeof line, stdin) != NULL) {
        line[strcspn(line, "\r\n")] = '\0';
        if (strcmp(line, "quit") == 0) break;
        if (strcmp(line, "list") == 0) {
            if (!print_list(node, &lines, &streams)) return 0;
        } else {
            printf("commands: list, quit\n");
        }
        /* An empty line ends each answer, for programs that read this one. */
        printf("\n");
        fflush(stdout);
    }
    return !ferror(stdin);
}

static int usage(const char *program) {
    fprintf(stderr,
            "usage: %s expose [name=value ...] PROTOCOL TARGET [name=value ...]\n"
            "       %s forward [name=value ...] PROTOCOL LISTEN PEER [name=value ...]\n",
            program, program);
    return 2;
}

/* The node is there; `names` are protocol and target, or protocol, listen address and peer. */
static int mount_it(char **names, int expose, p2p_options options, mounted *made) {
    char address[P2P_ADDRESS_SIZE];
    p2p_error error;
    if (expose)
        return succeeded(p2p_listen(made->node, names[0], names[1], options, &made->mount, &error), "listen", &error) &&
               print_node(made->node);
    if (!succeeded(p2p_forward(made->node, names[0], names[1], names[2], options, &made->mount, &error), "forward",
                   &error))
        return 0;
    if (!succeeded(p2p_mount_address(made->mount, address, sizeof address, &error), "address", &error)) return 0;
    printf("listen %s\n", address);
    return 1;
}

int open_mount(const char *program, int argc, char **argv, mounted *made) {
    p2p_options node_options, mount_options;
    p2p_error error;
    int names, used, status = 1;
    int expose = argc > 1 && strcmp(argv[1], "expose") == 0;

    if (!expose && (argc < 2 || strcmp(argv[1], "forward") != 0)) return usage(program);
    names = expose ? 2 : 3;
    argv += 2;
    argc -= 2;
    if (!options_from(argv, argc, &node_options, &used)) return 1;
    argv += used;
    argc -= used;
    if (argc < names) {
        p2p_options_free(node_options);
        return usage(program);
    }
    if (!options_from(argv + names, argc - names, &mount_options, &used)) {
        p2p_options_free(node_options);
        return 1;
    }
    if (used != argc - names) {
        fprintf(stderr, "\"%s\" is not an option of the form name=value\n", argv[names + used]);
        status = usage(program);
    } else if (succeeded(p2p_node_open(node_options, &made->node, &error), "node", &error)) {
        if (mount_it(argv, expose, mount_options, made))
            status = 0;
        else
            p2p_node_close(made->node, 0, NULL);
    }
    p2p_options_free(mount_options);
    p2p_options_free(node_options);
    return status;
}

int close_mount(const mounted *made) {
    p2p_error error;
    int good = succeeded(p2p_mount_close(made->mount, 0, &error), "close", &error);
    return succeeded(p2p_node_close(made->node, 2000, &error), "close", &error) && good;
}
