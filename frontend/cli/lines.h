/* lines.h: standard input or a file, line by line, for verbs that answer each line. Before it waits for more input, standard output is
 * flushed, so a program at the other end of two pipes may ask, wait and ask again. */
#ifndef AQ_FRONTEND_CLI_LINES_H
#define AQ_FRONTEND_CLI_LINES_H

#include "ir/file.h"

typedef struct aq_lines {
    const char *path; /* "-" is standard input; a pipe (of a shell's <(...)) is read whole before its first line is given */
    aq_file file;
    char *held;       /* bytes read; [at, n) are not given yet. A file is copied here line by line too: lines are changed in place */
    size_t at, n, room;
    uint64_t number;  /* of the line last given, from 1 */
    int ended, is_open;
    int is_mapped;    /* a regular file */
} aq_lines;

AQ_MUST_USE aq_status aq_lines_open(const char *path, aq_lines *out);

/* *line (n bytes, writable, without its newline, a NUL behind) is valid until the next call; NULL at the end. AQ_REFUSED past 1 GiB,
 * AQ_INTERRUPTED. */
AQ_MUST_USE aq_status aq_lines_next(aq_lines *l, char **line, size_t *n);
void aq_lines_close(aq_lines *l);

#endif
