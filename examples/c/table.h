/* Prints the rows of a snapshot (or of an event) as an aligned table. */
#ifndef TABLE_H
#define TABLE_H

#include <stdio.h>

#include <p2pmount.h>

/* `columns` names the fields to show, in this order, and ends with NULL; NULL instead shows every field. Rows of one
 * kind form one table under a line of headings; columns that are empty in every row are left out, long values are
 * shortened in the middle. `lines` is counted up by the lines printed. Returns P2P_OK, or what the library refused
 * (P2P_ERROR_BAD_HANDLE for a snapshot that was freed). */
p2p_status print_table(FILE *out, uint64_t rows, const char *const *columns, size_t *lines);

#endif
