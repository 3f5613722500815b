/* nest_check.h: what nest_check.c (the tree) and nest_type.c (the expressions) share. Nobody else includes it. */
#ifndef AQ_IR_NEST_CHECK_H
#define AQ_IR_NEST_CHECK_H

#include "ir/nest.h"

#define REFUSE(c, ...) return aq_fail(AQ_REFUSED, (c)->place, __VA_ARGS__)

enum { MAX_EXPR_DEPTH = 64, MAX_TILE_ELEMENTS = 4096, MAX_NEST_AXES = 32 };

typedef struct nest_check {
    aq_nest *n;
    char place[80];       /* "nest NAME" */
    uint8_t *typed;       /* by expression: done */
    uint32_t *stamp, now; /* by expression: the statement that last looked at it, so shared parts cost once */
    aq_dtype *tile_dtype; /* by tile; AQ_DTYPE_NONE until declared */
    uint8_t *visible;     /* by tile */
    aq_id (*cover)[AQ_MAX_TILE_AXES]; /* by tile: the loop over each of its axes where it was declared */
    int *declared;        /* by tile: how deep in loops */
    uint8_t *seen;        /* by statement */
    aq_id loop[AQ_MAX_LOOPS];
    uint8_t ring_used[AQ_MAX_LOOPS]; /* by open loop: bit by buffer of its stages, set where a statement inside touches it */
    int depth;
    int opens_blocks;     /* the store at hand is into a wide buffer: its expression may be a load of weight blocks */
} nest_check;

/* The innermost loop over `axis` at the walk's place, 0 if none. */
aq_id aq_check_loop_of(const nest_check *c, aq_id axis);
/* Elements of a turn of `loop`. */
int64_t aq_check_step(const nest_check *c, aq_id loop);
/* Of them those that one warp has. */
int64_t aq_check_part(const nest_check *c, aq_id loop);
/* A load or store of `buf` stands here: what is under way in stages is not stored meanwhile, unless it is local. */
AQ_MUST_USE aq_status aq_check_touch(nest_check *c, aq_id buf, int is_store);
/* 1 if `expr` is a multiple of m whatever the loops do. */
int aq_check_multiple(const nest_check *c, aq_id expr, int64_t m);
/* 1 if `expr` is AXIS plus multiples of 32, the axis taken in steps of whole blocks: how blocks are subscripted. */
int aq_check_block_index(const nest_check *c, aq_id expr, aq_id *out_axis);

/* Ids, arities and depths of all expressions, before anybody walks them. */
AQ_MUST_USE aq_status aq_check_exprs(nest_check *c);
/* Fills dtype and axes of `id` and all below it. */
AQ_MUST_USE aq_status aq_check_type(nest_check *c, aq_id id);

/* Types expression `id` and demands that it makes sense at the walk's place; `wide` allows two axes with lanes (values of attend). */
AQ_MUST_USE aq_status aq_check_use(nest_check *c, aq_id id, int wide);
AQ_MUST_USE aq_status aq_check_let(nest_check *c, const aq_stmt *s);
AQ_MUST_USE aq_status aq_check_acc(nest_check *c, const aq_stmt *s);
AQ_MUST_USE aq_status aq_check_update(nest_check *c, const aq_stmt *s);
AQ_MUST_USE aq_status aq_check_store(nest_check *c, const aq_stmt *s);

#endif
