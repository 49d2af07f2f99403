/* Prints the rows of a snapshot: an example of reading rows whose fields are not known beforehand. */
#include "table.h"

#include <ctype.h>
#include <string.h>

enum { CELL = 44, COLUMNS = 64 };

/* A cell's text; a field that this kind of row lacks is an empty cell. */
static const char *cell(uint64_t rows, size_t row, const char *field) {
    const char *value = "";
    if (p2p_row_text(rows, row, field, &value, NULL) != P2P_OK) return "";
    return value;
}

/* `value` in at most CELL bytes: peer ids and long addresses keep their beginning and their end. */
static const char *fit(const char *value, char buffer[CELL + 1]) {
    size_t length = strlen(value);
    if (length <= CELL) return value;
    memcpy(buffer, value, CELL / 2 - 2);
    memcpy(buffer + CELL / 2 - 2, "...", 3);
    memcpy(buffer + CELL / 2 + 1, value + length - (CELL / 2 - 1), CELL / 2);
    return buffer;
}

/* The fields of one row, in the library's order: walk the index until the library says that there is none. */
static p2p_status row_fields(uint64_t rows, size_t row, const char *names[COLUMNS + 1]) {
    p2p_status status = P2P_OK;
    size_t index = 0;
    while (index < COLUMNS && (status = p2p_row_field(rows, row, index, &names[index], NULL)) == P2P_OK) index++;
    names[index] = NULL;
    return status == P2P_ERROR_NOT_FOUND ? P2P_OK : status;
}

/* The name of a field in capitals. */
static const char *heading(const char *field, char buffer[CELL + 1]) {
    size_t at;
    for (at = 0; field[at] != '\0' && at < CELL; at++) buffer[at] = (char)toupper((unsigned char)field[at]);
    buffer[at] = '\0';
    return buffer;
}

/* One table: the rows from `first` up to `end`, which are of one kind. */
static p2p_status print_kind(FILE *out, uint64_t rows, size_t first, size_t end, const char *const *columns) {
    const char *all[COLUMNS + 1];
    size_t width[COLUMNS] = {0};
    size_t row, column;
    char buffer[CELL + 1];
    if (columns == NULL) {
        p2p_status status = row_fields(rows, first, all);
        if (status != P2P_OK) return status;
        columns = all;
    }
    for (column = 0; column < COLUMNS && columns[column] != NULL; column++) {
        for (row = first; row < end; row++) {
            size_t length = strlen(fit(cell(rows, row, columns[column]), buffer));
            if (length > width[column]) width[column] = length;
        }
        if (width[column] > 0 && strlen(columns[column]) > width[column]) width[column] = strlen(columns[column]);
    }
    for (column = 0; column < COLUMNS && columns[column] != NULL; column++)
        if (width[column] > 0) fprintf(out, "%-*s  ", (int)width[column], heading(columns[column], buffer));
    fputc('\n', out);
    for (row = first; row < end; row++) {
        for (column = 0; column < COLUMNS && columns[column] != NULL; column++)
            if (width[column] > 0)
                fprintf(out, "%-*s  ", (int)width[column], fit(cell(rows, row, columns[column]), buffer));
        fputc('\n', out);
    }
    return P2P_OK;
}

p2p_status print_table(FILE *out, uint64_t rows, const char *const *columns, size_t *lines) {
    size_t count, first = 0, end;
    p2p_status status = p2p_row_count(rows, &count, NULL);
    while (status == P2P_OK && first < count) {
        const char *kind = cell(rows, first, "kind");
        for (end = first + 1; end < count && strcmp(cell(rows, end, "kind"), kind) == 0;) end++;
        status = print_kind(out, rows, first, end, columns);
        *lines += 1 + end - first;
        first = end;
    }
    return status;
}
