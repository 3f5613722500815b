/* emit_dot.h: a dot of blocks as emit_dot.c (fast, lanes along a panel) and emit_dot_lanes.c (any shape) see it. */
#ifndef AQ_CODEGEN_CPU_EMIT_DOT_H
#define AQ_CODEGEN_CPU_EMIT_DOT_H

#include "codegen/cpu/emit_block.h"

enum { MAX_SIDES = 64, MAX_PARTS = 4, MAX_TOGETHER = 4 };

typedef struct side {
    aq_id load, buf;
    block_form form;
    aq_dtype dtype;
    axes_set axes;         /* axes of the accumulator that it varies along */
    int n;                 /* positions */
    block_place place[MAX_SIDES]; /* of the block, by position */
    val codes[MAX_SIDES];  /* in panels: address of the group's codes */
} side;

typedef struct dots {
    const aq_tile *t;
    tile_state *state;
    side w, a;
    int components, w_of[256], a_of[256];
    int parts;             /* chains of integer sums of one component */
    val sum[256][MAX_PARTS];
    val isum[MAX_SIDES];   /* sums of the activations' integers, where made */
    axes_set reduced;
    aq_id along;           /* the axis of the blocks */
} dots;

static inline val aq_emit_as_lanes(emitter *e, val v, typ t, int n) { return e->l->BuildBitCast(e->b, v, wide(e, t, n), ""); }

/* Sum of the integers of half of an activation block, i32. */
val aq_emit_half_sum(emitter *e, aq_dtype t, val group, int half);

/* One block of the dot, lane by lane; `yes` (may be NULL): whether it counts. */
void aq_emit_slow_block(emitter *e, dots *d, val yes);

#endif
