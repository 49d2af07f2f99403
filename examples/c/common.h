/* What both example programs do alike: options from the command line, addresses, the `list` command. */
#ifndef COMMON_H
#define COMMON_H

#include <p2pmount.h>

/* Says on stderr what failed and why, and returns 0; returns 1 if `status` is P2P_OK. */
int succeeded(p2p_status status, const char *what, const p2p_error *error);

/* Puts the leading `name=value` arguments into new options. Stores how many there were in `used`. Returns 0 on failure,
 * which it has reported. The caller frees the options. */
int options_from(char **arguments, int count, p2p_options *options, int *used);

/* Prints the node's peer id and its addresses, one a line. Returns 0 on failure. */
int print_node(p2p_node node);

/* Answers the lines "list" and "quit" on stdin, until "quit" or the end of the input. Returns 0 on failure. */
int serve_commands(p2p_node node);

#endif
