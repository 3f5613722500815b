/* nest.h: what nest.c (statements, loops) and nest_expr.c (expressions, memory) of the reference share. Nobody else includes it. */
#ifndef AQ_CODEGEN_REF_NEST_H
#define AQ_CODEGEN_REF_NEST_H

#include "codegen/ref/ref.h"

typedef struct aq_ref_tile { /* the elements covered when it was declared; parts one after the other */
    int64_t lo[AQ_MAX_TILE_AXES], count[AQ_MAX_TILE_AXES];
    size_t elements, room;
    double *value;
} aq_ref_tile;

typedef struct aq_ref_nest {
    const aq_nest *n;
    const int64_t *sym;
    aq_arena arena;
    void **buf;                  /* by buffer of the nest */
    int64_t (*dim)[AQ_MAX_RANK]; /* its sizes now */
    aq_ref_tile *tile;
    int64_t *lo, *hi, *at; /* by axis: what its innermost loop covers, and the element at hand */
    int *depth;            /* by axis: loops over it that are open */
    aq_status status;      /* the first failure inside an expression */
} aq_ref_nest;

double aq_ref_nest_eval(aq_ref_nest *r, aq_id expr);
/* Where the element at hand lies in its tile. without_e: in the parts of attend that lack the last axis. */
size_t aq_ref_tile_index(const aq_ref_nest *r, aq_id tile, int without_e);
/* The subscripts, each inside the buffer, or AQ_CHECK_FAILED; flat (may be NULL): row-major number of the element. */
AQ_MUST_USE aq_status aq_ref_nest_index(aq_ref_nest *r, aq_id buf, const aq_id *ids, int n, int64_t *index, size_t *flat);
/* Fills the buffers of that role with bytes 0xff (NaN in every float type); LOCAL ones are allocated at the first call. */
AQ_MUST_USE aq_status aq_ref_poison(aq_ref_nest *r, aq_buf_role role);
int64_t aq_ref_turns(const aq_ref_nest *r, aq_id loop);

#endif
