/* edits.h: schedules and nests that a person wrote for single kernels of a model: the text of `compile --edits FILE`.
 *
 * A file is a sequence of `schedule KERNEL { .. }` and `nest KERNEL(BUFFERS) { .. }` in the grammars of ir/nest.h; KERNEL is a name as `compile
 * --print schedules` and `--print nests` give it, in this very form. A schedule takes the place of the default one. A nest takes the place of what
 * lower makes: its buffers that are neither scratch nor local must be those of the kernel, in order. What it computes is the writer's word: nobody
 * compares it with the region (`exec --check ref` does, on the nest's own text), and its subscripts are checked by type, not by range. */
#ifndef AQ_FRONTEND_EDITS_H
#define AQ_FRONTEND_EDITS_H

#include "ir/nest.h"

typedef struct aq_edit {
    const char *kernel;
    int is_nest, used;
    size_t from, to; /* in the text */
    int line;
} aq_edit;

typedef struct aq_edits {
    const char *file, *text;
    AQ_VEC(aq_edit) list;
} aq_edits;

/* Finds the entries of text (which must outlive *out) and their ends; what is in them is read when the kernel is made. AQ_REFUSED with FILE:LINE. */
AQ_MUST_USE aq_status aq_edits_open(aq_arena *arena, const char *file, const char *text, aq_edits *out);
/* The kernel's schedule; *out stays as it is if the file has none. */
AQ_MUST_USE aq_status aq_edits_schedule(aq_edits *e, aq_arena *arena, const char *kernel, aq_schedule **out);
/* The kernel's nest in place of *nest; *nest stays as it is if the file has none. *is_edited says which. */
AQ_MUST_USE aq_status aq_edits_nest(aq_edits *e, aq_arena *arena, const aq_module *m, const char *kernel, aq_nest **nest, int *is_edited);
/* Can `n` be the kernel for which lower made `made`: are its arguments (buffers that are neither scratch nor local) the same, in order? AQ_REFUSED
 * with both. */
AQ_MUST_USE aq_status aq_nest_stands_for(const aq_nest *made, const aq_nest *n, const char *place, aq_arena *arena);
/* AQ_REFUSED if an entry names no kernel that was asked for. */
AQ_MUST_USE aq_status aq_edits_all_used(const aq_edits *e);

#endif
