/* graph_file.h: a graph text as `opt` and `exec` take it: FILE.aq, a folder that holds aquila.aq, or `-`; the symbols of its `dims` bound by
 * --config and --bind, weights without a type typed by --weights-type.
 *
 *   aq_graph_file_open -> aq_graph_file_module (as often as needed) -> aq_graph_file_close */
#ifndef AQ_FRONTEND_CLI_GRAPH_FILE_H
#define AQ_FRONTEND_CLI_GRAPH_FILE_H

#include "frontend/cli/common.h"
#include "ir/graph.h"

typedef struct aq_graph_file {
    const aq_args *args;
    aq_arena arena;
    const char *path;      /* for messages */
    char *text;
    size_t n;
    AQ_VEC(aq_bind) binds; /* --config, then --bind over it */
    uint32_t n_config;     /* of them from --config */
} aq_graph_file;

/* Reads the text and the binds. AQ_USAGE for a --bind that is none or names nothing in the text; AQ_REFUSED for files. Close in any case. */
AQ_MUST_USE aq_status aq_graph_file_open(const aq_args *args, const char *path, aq_graph_file *out);

/* The module. Free symbols named by --bind get that value as their only one. toy: what --config bound is cut down (two layers, at most 128
 * wide, 256 words) so that the reference can run a whole model in a second; `out_toy` (may be NULL) says to what, NULL if nothing was. */
AQ_MUST_USE aq_status aq_graph_file_module(const aq_graph_file *f, int toy, aq_arena *arena, const char **out_toy, aq_module *out);

/* Free symbols of m that --bind names get that value as their only one; aq_graph_file_module does it itself. */
AQ_MUST_USE aq_status aq_graph_file_narrow(const aq_graph_file *f, aq_module *m);

void aq_graph_file_close(aq_graph_file *f);

#endif
