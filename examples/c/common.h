/* What both example programs do alike: options from the command line, addresses, the `list` command. */
#ifndef COMMON_H
#define COMMON_H

#include <p2pmount.h>

/* A node with one mount: what `tunnel` and `list` make of their arguments. */
typedef struct mounted {
    p2p_node node;
    p2p_mount mount;
} mounted;

/* Says on stderr what failed and why, and returns 0; returns 1 if `status` is P2P_OK. */
int succeeded(p2p_status status, const char *what, const p2p_error *error);

/* Puts the leading `name=value` arguments into new options. Stores how many there were in `used`. Returns 0 on failure,
 * which it has reported. The caller frees the options. */
int options_from(char **arguments, int count, p2p_options *options, int *used);

/* Prints the node's peer id and its addresses, one a line. Returns 0 on failure. */
int print_node(p2p_node node);

/* Makes a node and a mount from the arguments of `program`:
 *
 *     expose [name=value ...] PROTOCOL TARGET [name=value ...]
 *     forward [name=value ...] PROTOCOL LISTEN PEER [name=value ...]
 *
 * Options before the protocol are the node's, those at the end are the mount's. Prints where the node can be reached,
 * or where the forward listens. Returns 0, or the exit status of a failure that it has reported: 2 for wrong usage. */
int open_mount(const char *program, int argc, char **argv, mounted *made);

/* Closes the mount, then the node: streams that still run may finish, for at most two seconds. Returns 0 on failure. */
int close_mount(const mounted *made);

/* Prints the mounts and the streams of a node as two tables; counts `lines` up by what it printed and tells how many
 * streams there are. Returns 0 on failure. */
int print_list(p2p_node node, size_t *lines, size_t *streams);

/* Answers the lines "list" and "quit" on stdin, until "quit" or the end of the input. Returns 0 on failure. */
int serve_commands(p2p_node node);

#endif
