/* emit_dot.h: a dot of blocks as emit_dot.c (fast, lanes along a panel; its pieces: emit_dot_piece.c) and emit_dot_lanes.c (any shape) see it. */
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
    val whole[256];        /* what the parts of the group before gave */
    axes_set reduced;
    aq_id along;           /* the axis of the blocks */
} dots;

static inline val aq_emit_as_lanes(emitter *e, val v, typ t, int n) { return e->l->BuildBitCast(e->b, v, wide(e, t, n), ""); }

enum { QUADS = AQ_GROUP / 4, WORDS = 3 /* of each field, and the bytes of a quad's codes */ };

/* How the dot goes: by quads of four consecutive elements, in one piece (quads of bytes) or two (pairs of 16 bits). */
typedef struct dot_plan {
    int quads;     /* pieces are quads of bytes, else pairs of 16 bits */
    int zero;      /* taken off every weight through the start of the sum */
    int take_off;  /* .. or from every piece as it is unpacked: cheaper once more rows share it */
    int flip;      /* signed bytes become unsigned, which is 128 of `zero` */
    int widen_act; /* a8 words are widened to pairs */
    int by_words;  /* levels less zero are chosen by the 16-bit words that codes stand in */
} dot_plan;

dot_plan aq_emit_dot_plan(const emitter *e, const side *w, const side *a);
/* The words of quad n of position i of a side in panels, where they are not those of the quad before. */
void aq_emit_load_words(emitter *e, const side *w, int i, int n, int is_first, val *word);
/* Piece `half` of quad n of position i of a wide side. */
val aq_emit_wide_piece(emitter *e, const side *w, int i, int n, int half);
/* Piece `half` of quad n from the words that hold it; half 0 comes first. */
val aq_emit_piece(emitter *e, const side *w, const dot_plan *p, val *word, int n, int half);
/* The activations that meet it, the same in all lanes. */
val aq_emit_spread_act(emitter *e, const side *a, const dot_plan *p, int position, int n, int half);
/* acc (NULL: 0) + their products */
val aq_emit_dot_add(emitter *e, const dot_plan *p, val acc, val piece, val act);

/* `whole` (NULL: nothing yet) and the sum of a part of a group, times its step (NULL: 1): an i32, or by halves an f32. */
val aq_emit_half_taken(emitter *e, val whole, val sum, val step, int by_halves);

/* Sum of the integers of half of an activation block, i32. */
val aq_emit_half_sum(emitter *e, aq_dtype t, val group, int half);

/* One block of the dot, lane by lane; `yes` (may be NULL): whether it counts. */
void aq_emit_slow_block(emitter *e, dots *d, val yes);

#endif
