/* lower.h: what the files of `lower` share: lower.c (order of things), lower_args.c (buffers), lower_place.c (what is kept in scratch),
 * lower_build.c (expressions, statements, open loops), lower_value.c (a value at given subscripts), lower_reduce.c (sums and dots),
 * lower_root.c (loops around what is stored), lower_stage.c (local memory, stages), attend.c. Nobody else includes it.
 *
 * Lowering pulls: for each stored value the loops over its axes are opened and the value is asked for at the loops' indices; a map asks
 * its operands at the same indices, a view at transformed ones, a reduction opens a loop and asks its operand inside. So axes unify by
 * themselves, and views cost nothing. Whatever depends on fewer loops than are open is put outside of the others. */
#ifndef AQ_CODEGEN_LOWER_H
#define AQ_CODEGEN_LOWER_H

#include "codegen/codegen.h"

typedef struct aq_low_value { /* by value of the module; only those of the region matter */
    uint32_t uses;            /* by nodes of the region and by its results */
    aq_id buf;                /* where it can be loaded from: params, and values kept in scratch or an output */
    aq_id shape_of;           /* the value whose dims the buffer has: itself, or a view with the same bytes */
    uint8_t made;             /* aq_made; PHASE: kept */
    uint8_t heavy;            /* a reduction or contraction is in its cone (kept values cut the cone) */
    uint8_t in_region;
    int16_t phase;  /* the first in which it can be computed; a kept value is stored then */
    uint32_t stamp; /* the walk that last saw it */
} aq_low_value;

/* Something to store: a result of the region or a kept value. */
typedef struct aq_low_root {
    aq_id value;  /* what is computed; views on the outside with the same bytes are stripped */
    aq_id append; /* node, if it goes into a state */
    aq_id buf;
    int phase;
    uint8_t is_kept;
} aq_low_root;

typedef struct aq_low_level { /* an open loop; [0] is the phase itself */
    aq_id axis;
    aq_stmt_kind kind;
    int32_t step;
    int16_t lanes;
    uint8_t vec, warps, mma;
    uint32_t uid;
    aq_id first, last; /* statements so far */
} aq_low_level;

typedef struct aq_low_memo {
    aq_id value, index[AQ_MAX_RANK], expr;
    uint32_t uid; /* of the level it lives in */
    int level;
} aq_low_memo;

typedef struct aq_low_staged { /* a load that reads local memory instead */
    aq_id from, to, buf, local;
    uint32_t uid; /* of the level it was copied at */
} aq_low_staged;

typedef struct aq_lower_state {
    const aq_module *m;
    const aq_body *b;
    const aq_schedule *s;
    aq_arena *arena;
    aq_nest *n;
    char place[96]; /* "region NAME" */
    aq_low_value *value;
    AQ_VEC(aq_low_root) roots;
    AQ_VEC(aq_low_memo) memo;
    AQ_VEC(aq_low_staged) staged;
    AQ_VEC(char) letter;        /* by axis of the nest: h n r d ...; prefix of its name */
    AQ_VEC(uint32_t) parts;     /* by expression: how many it has, written out */
    AQ_VEC(int) tile_level;     /* by tile */
    AQ_VEC(uint32_t) tile_mask; /* by tile: bit by axis */
    aq_low_level level[AQ_MAX_LOOPS + 1];
    int depth, base; /* innermost open loop; innermost `tiles` of the tree */
    uint32_t next_uid;
    aq_id root, root_index[AQ_MAX_RANK]; /* what is being stored, for reductions that look for company */
    aq_id force;                         /* a value that must be kept after all: start again */
    uint32_t stamp;
} aq_lower_state;

aq_status aq_low_refuse(aq_lower_state *l, aq_id value, const char *format, ...) AQ_PRINTF(3, 4);

/* ---- lower_args.c ---- */
/* "%q", "$k", or op and number within the region where it has no name: "rms", "rms.2". */
const char *aq_low_value_name(const aq_module *m, const aq_body *b, aq_id value, char *buf, size_t size);
/* The layout of what stands for a param: of a weight or state by its row, else ROWS. */
aq_layout aq_low_layout_of(const aq_module *m, aq_id body, uint32_t param);
AQ_MUST_USE aq_status aq_low_buffers(aq_lower_state *l, aq_id body);
AQ_MUST_USE aq_status aq_low_add_buf(aq_lower_state *l, const char *name, aq_buf_role role, aq_type type, aq_layout layout, aq_id *out);
/* The buffer of a batch param's field; 0 if the region does not read it. */
aq_id aq_low_field_buf(const aq_lower_state *l, aq_id param, const char *field);
const aq_value_plan *aq_low_value_plan(const aq_module *m, const aq_body *b, const aq_schedule *s, aq_id value);

/* ---- lower_place.c ---- */
/* Decides what is kept, strips views off results, gives every root its phase. */
AQ_MUST_USE aq_status aq_low_place(aq_lower_state *l);
const aq_node *aq_low_node(const aq_lower_state *l, aq_id value); /* NULL for params and constants */
int aq_low_is_reduction(const aq_node *n);
/* A reduction along a last axis in the cone of v, whose value may be kept itself. */
int aq_low_has_row_sum(aq_lower_state *l, aq_id v);
int aq_low_has_rope(aq_lower_state *l, aq_id v);
/* The same bytes in row-major order: heads, merge, reshape. */
int aq_low_is_flat_view(const aq_node *n);

/* ---- lower_build.c ---- */
AQ_MUST_USE aq_status aq_low_expr(aq_lower_state *l, aq_expr e, aq_id *out); /* an equal one is used again */
AQ_MUST_USE aq_status aq_low_const(aq_lower_state *l, double x, aq_id *out);
AQ_MUST_USE aq_status aq_low_dim(aq_lower_state *l, aq_dim d, aq_id *out);
AQ_MUST_USE aq_status aq_low_axis_expr(aq_lower_state *l, aq_id axis, aq_id *out);
AQ_MUST_USE aq_status aq_low_op1(aq_lower_state *l, aq_op op, aq_id a, aq_id *out);
AQ_MUST_USE aq_status aq_low_op2(aq_lower_state *l, aq_op op, aq_id a, aq_id b, aq_id *out); /* subscripts are simplified */
AQ_MUST_USE aq_status aq_low_op_attr(aq_lower_state *l, aq_op op, const aq_id *in, int n_in, const aq_attr *attr, int n_attr, aq_id *out);
AQ_MUST_USE aq_status aq_low_load(aq_lower_state *l, aq_id buf, const aq_id *index, int n, aq_id *out);
AQ_MUST_USE aq_status aq_low_tile_expr(aq_lower_state *l, aq_id tile, int part, aq_id *out); /* part -1: the value */
uint32_t aq_low_mask(const aq_lower_state *l, aq_id expr);
uint32_t aq_low_mask_all(const aq_lower_state *l, const aq_id *exprs, int n);
/* The outermost loop inside which everything in these expressions is known. */
int aq_low_level_of(const aq_lower_state *l, const aq_id *exprs, int n);
int aq_low_has_lanes(const aq_lower_state *l, uint32_t mask);
/* An axis of the nest for this letter and extent that no open loop uses; made if need be. */
AQ_MUST_USE aq_status aq_low_axis(aq_lower_state *l, char letter, aq_dim extent, aq_id *out);
AQ_MUST_USE aq_status aq_low_new_axis(aq_lower_state *l, char letter, aq_dim extent, aq_id limit, aq_id *out);
AQ_MUST_USE aq_status aq_low_open(aq_lower_state *l, aq_stmt_kind kind, aq_id axis, int32_t step, int16_t lanes);
/* Loops by the steps of a plan: those that are loops; warps and mma mark the loop before them, vec the innermost. Steps may have been
 * fitted to the axis since the plan was read: AQ_REFUSED where a mark does not divide its loop any more. kind_of_first: of step 0. */
typedef struct aq_low_steps {
    int n;
    int32_t step[3];
    uint8_t warps[3], mma[3];
    int16_t lanes, vec;
} aq_low_steps;
AQ_MUST_USE aq_status aq_low_steps_of(aq_lower_state *l, const aq_axis_plan *p, aq_low_steps *out);
AQ_MUST_USE aq_status aq_low_open_step(aq_lower_state *l, aq_stmt_kind kind, aq_id axis, const aq_low_steps *s, int k);
AQ_MUST_USE aq_status aq_low_close(aq_lower_state *l);
AQ_MUST_USE aq_status aq_low_stmt(aq_lower_state *l, int level, aq_stmt s);
/* Names expr at the outermost level that it can stand at. */
AQ_MUST_USE aq_status aq_low_let(aq_lower_state *l, const char *name, aq_id expr, aq_id *out);
AQ_MUST_USE aq_status aq_low_acc(aq_lower_state *l, const char *name, aq_monoid monoid, uint32_t mask, int level, aq_id *out_tile);
AQ_MUST_USE aq_status aq_low_update(aq_lower_state *l, aq_id tile, int merge, const aq_id *exprs, int n);
AQ_MUST_USE aq_status aq_low_store(aq_lower_state *l, aq_id buf, const aq_id *index, int n, aq_id expr);
/* Loops between `level` and the innermost are set aside, and put back. */
typedef struct aq_low_aside {
    aq_low_level level[AQ_MAX_LOOPS + 1];
    int depth;
} aq_low_aside;
void aq_low_set_aside(aq_lower_state *l, int level, aq_low_aside *a);
void aq_low_put_back(aq_lower_state *l, int level, const aq_low_aside *a);
int aq_low_remembered(const aq_lower_state *l, aq_id value, const aq_id *index, int rank, aq_id *out);
AQ_MUST_USE aq_status aq_low_remember(aq_lower_state *l, aq_id value, const aq_id *index, int rank, aq_id expr);

/* ---- lower_stage.c ---- */
/* aq_low_load of a value of the region, through local memory where the schedule keeps it there. */
AQ_MUST_USE aq_status aq_low_load_param(aq_lower_state *l, aq_id value, aq_id buf, const aq_id *index, int n, aq_id *out);
/* Puts the marks of `stages` on the finished loops. */
AQ_MUST_USE aq_status aq_low_mark_stages(aq_lower_state *l);
/* Marks the loop opened last with the warps, mma and vec of the plan for this letter; for loops that are not opened by aq_low_steps. */
AQ_MUST_USE aq_status aq_low_mark_open(aq_lower_state *l, char letter);

/* ---- lower_value.c ---- */
/* The value at these subscripts (one a dim of it). */
AQ_MUST_USE aq_status aq_low_at(aq_lower_state *l, aq_id value, const aq_id *index, aq_id *out);
/* The same, but computed even if it is kept: for storing it. */
AQ_MUST_USE aq_status aq_low_compute(aq_lower_state *l, aq_id value, const aq_id *index, aq_id *out);
/* Subscripts of operand i of a map or view that is asked for at `index`; 0 in *known if they cannot be told without code. */
AQ_MUST_USE aq_status aq_low_operand_index(aq_lower_state *l, const aq_node *n, int i, const aq_id *index, aq_id *out, int *known);

/* Subscripts of the same element of the same bytes seen as another shape; leading equal dims pass through. */
AQ_MUST_USE aq_status aq_low_reindex(aq_lower_state *l, const aq_type *from, const aq_id *index, const aq_type *to, aq_id *out);

/* ---- lower_reduce.c ---- */
AQ_MUST_USE aq_status aq_low_reduce(aq_lower_state *l, aq_id value, const aq_id *index, aq_id *out);

/* ---- lower_root.c ---- */
AQ_MUST_USE aq_status aq_low_root_tree(aq_lower_state *l, const aq_low_root *r);
/* The axis plan for a letter: "n", or "pn" for values that are kept. NULL if the schedule has none. */
const aq_axis_plan *aq_low_plan(const aq_lower_state *l, int is_kept, char letter);

/* What root r stores for the element at `index` of its value: the buffer's own rounding does a last cast. */
AQ_MUST_USE aq_status aq_low_stored(aq_lower_state *l, const aq_low_root *r, const aq_id *index, aq_id *out);

/* ---- attend.c ---- */
aq_id aq_low_attend_of(const aq_lower_state *l);   /* the first attend of the region, 0 if none */
int aq_low_wants_attend(aq_lower_state *l, const aq_low_root *r); /* lower_place.c: is it stored by the loops of the attend? */
int aq_low_has_attend(aq_lower_state *l, aq_id v); /* lower_place.c: in the cone of v, up to what is kept */
/* Can this root be stored by the loops of the attend below it: is it a map of its elements? */
int aq_low_attend_fits(aq_lower_state *l, const aq_low_root *r);
/* The tree of the attend `a` and the stores of the roots of `phase` that want it. part: 0 all of it; 1 partial results of splits of the
 * positions, into scratch; 2 their merge and the stores. */
AQ_MUST_USE aq_status aq_low_attend(aq_lower_state *l, aq_id a, int phase, int part);

#endif
