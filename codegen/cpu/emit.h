/* emit.h: what the files of the CPU emitter share. Reading order: emit.c (module, function), emit_items.c (work items), emit_loops.c
 * (loops), emit_index.c (subscripts), emit_mem.c (addresses, loads), emit_store.c, emit_expr.c (expressions), emit_math.c (functions of
 * numbers), emit_rope.c, emit_acc.c (accumulators), emit_block.c, emit_dot.c (blocks and their dots), emit_attend.c (attention).
 *
 * A failure is kept in the emitter (the first one counts) and harmless values go on, so that building code reads as formulas. */
#ifndef AQ_CODEGEN_CPU_EMIT_H
#define AQ_CODEGEN_CPU_EMIT_H

#include "codegen/cpu/llvm.h"
#include "codegen/codegen.h"
#include "ir/rope.h"

typedef LLVMValueRef val;
typedef LLVMTypeRef typ;
typedef LLVMBasicBlockRef block;

enum { MAX_AXES = 32, MAX_MEMO = 1 << 14 };

/* What the innermost loop over an axis covers now. */
typedef struct cover {
    int64_t step;  /* elements */
    int lanes;     /* 0: unrolled */
    val base, end; /* i64; end NULL: all `step` elements are there */
    int64_t align; /* base is a multiple of it */
    val turn, lo;  /* base = lo + turn * stride, where turn is not NULL: so that base / m stays a multiple of turn */
    int64_t stride, lo_align;
    int64_t first; /* added to lo + turn * stride */
    int depth;     /* loops around */
} cover;

/* A subscript: var + turn * stride + c + coef * lane, or a vector (i64 elements) where it is no such thing. var, turn NULL = 0. */
typedef struct ix {
    val var, turn, vec;
    int64_t stride, c, coef, align; /* var is a multiple of align */
    int nonneg;                     /* all but the lanes is known not to be negative */
} ix;

/* A let or an accumulator: its numbers, components in row-major order of its axes (an axis with lanes counts vectors). Accumulators keep
 * parts one after the other; one that is reduced along lanes keeps `partials` vectors a component. */
typedef struct tile_state {
    val *at;
    val rows;        /* attend: m, l and two more numbers of each row */
    val memory;      /* o of attend, where it is kept in memory: [component] vectors or numbers */
    int components, partials, lanes; /* lanes: of the reduced axis, 0 = not along lanes */
    int n_values;    /* all parts */
    uint8_t live;
    int depth;       /* loops around the declaration */
} tile_state;

/* A tile whose values were put into memory so that a loop over `axis` can take them one by one (emit_store.c). */
typedef struct rolled {
    aq_id tile, axis;
    int part, lanes;
    typ type;
    val memory, i;
    int64_t stride[AQ_MAX_TILE_AXES];
} rolled;

typedef struct memo {
    uint64_t key;
    uint32_t stamp;
    val v;
} memo;

typedef struct emitter {
    const aq_llvm *l;
    const aq_target *target;
    aq_arena *arena;
    aq_status status;
    LLVMContextRef ctx;
    LLVMModuleRef mod;
    LLVMBuilderRef b;
    typ i1, i8, i16, i32, i64, f16, bf16, f32, f64, ptr, none;
    val rope_table[8]; /* globals made so far, by the attributes that made them */
    aq_rope rope_key[8];
    int n_rope;
    /* the nest and its function */
    const aq_nest *n;
    val fn, sym_base, local;
    val *buf;          /* by buffer */
    val *sym;          /* by symbol of the module, i64 */
    int64_t *local_at; /* by buffer: offset in local */
    block entry;
    cover cover[MAX_AXES];
    int at[MAX_AXES];  /* which element (or vector) of each axis is being built */
    tile_state *tile;
    memo *memo;
    uint32_t now;
    rolled rolled[16]; /* tiles that a store's loop finds in memory */
    int n_rolled;
    int depth;         /* loops around the statement */
    int lanes;         /* of the expression being built, where it has any */
} emitter;

/* emit.c */
val aq_emit_refuse(emitter *e, const char *what, const char *expected); /* undef i32; the emission will fail */
val aq_emit_intrinsic(emitter *e, const char *name, typ *types, int n_types, val *args, int n_args);
block aq_emit_block(emitter *e, const char *name);
val aq_emit_alloca(emitter *e, typ t, int64_t count); /* in the entry block, aligned to 64 */
void aq_emit_status(emitter *e, aq_status s);         /* keeps the first failure */

/* small values */
static inline val k64(emitter *e, int64_t x) { return e->l->ConstInt(e->i64, (unsigned long long)x, 1); }
static inline val k32(emitter *e, int64_t x) { return e->l->ConstInt(e->i32, (unsigned long long)x, 1); }
static inline int lanes_of(emitter *e, val v) {
    typ t = e->l->TypeOf(v);
    return e->l->GetTypeKind(t) == LLVMVectorTypeKind ? (int)e->l->GetVectorSize(t) : 0;
}
static inline typ wide(emitter *e, typ t, int lanes) { return lanes ? e->l->VectorType(t, (unsigned)lanes) : t; }
val aq_emit_splat(emitter *e, val v, int lanes); /* itself where lanes = 0 or it is a vector already */
val aq_emit_const_like(emitter *e, val like, double x); /* f32 or i32 constant, scalar or vector as `like` */
val aq_emit_int_like(emitter *e, val like, int64_t x);  /* i32 constant with the lanes of `like` */
val aq_emit_lane_numbers(emitter *e, typ t, int lanes); /* 0, 1, .. */
val aq_emit_half_of(emitter *e, val v, int upper);     /* the lower or upper half of a vector; its one element for two */
val aq_emit_f32(emitter *e, val v);                    /* i32 to f32 where it is one */
val aq_emit_fma(emitter *e, val a, val b, val c);
val aq_emit_cast_type(emitter *e, val v, typ element);  /* bitcast keeping the lanes */

/* emit_items.c */
void aq_emit_tree(emitter *e, aq_id tree, val item);

/* emit_loops.c */
void aq_emit_for(emitter *e, const aq_stmt *s);
val aq_emit_axis_end(emitter *e, aq_id axis); /* where the whole axis ends now: extent or limit */
static inline int64_t aq_emit_round_up(int64_t n, int64_t to) { return to ? (n + to - 1) / to * to : n; }
void aq_emit_list(emitter *e, aq_id first);
int64_t aq_emit_count(const emitter *e, aq_id axis); /* elements or vectors that the axis covers now */
val aq_emit_dim(emitter *e, aq_dim d);

/* emit_index.c */
ix aq_emit_index(emitter *e, aq_id expr);
ix aq_emit_axis_index(emitter *e, aq_id axis);
aq_id aq_emit_lane_axis(const emitter *e, const uint8_t *axes, int n); /* the axis with lanes among them, 0 if none */
aq_id aq_emit_expr_lanes(const emitter *e, aq_id expr);
ix aq_emit_ix_const(int64_t c);
ix aq_emit_ix_value(val var, int64_t align, int nonneg);
ix aq_emit_ix_add(emitter *e, ix a, ix b);
ix aq_emit_ix_mul(emitter *e, ix a, ix b);
ix aq_emit_ix_div(emitter *e, ix a, int64_t m); /* m > 0, floor */
ix aq_emit_ix_mod(emitter *e, ix a, int64_t m);
val aq_emit_ix_scalar(emitter *e, ix a);        /* i64 */
val aq_emit_ix_vector(emitter *e, ix a, int lanes);
int64_t aq_emit_ix_align(ix a);                 /* what its first lane is a multiple of */

/* emit_mem.c */
ix aq_emit_offset(emitter *e, const aq_nest_buf *b, const ix *index);
val aq_emit_address(emitter *e, aq_id buf, ix offset, int64_t bytes); /* of the first lane */
val aq_emit_load(emitter *e, aq_id expr);
val aq_emit_mask(emitter *e, aq_id lane_axis);   /* NULL: all lanes are there */
val aq_emit_load_at(emitter *e, typ t, val address, int align);
val aq_emit_step_address(emitter *e, val address, int64_t bytes);
val aq_emit_inside(emitter *e, const uint8_t *axes, int n); /* i1: the unrolled elements at e->at are inside their cuts; NULL = yes */

val aq_emit_gather(emitter *e, val base, ix offset, int lanes, val mask, int64_t bytes, typ t);

/* emit_store.c */
void aq_emit_store_stmt(emitter *e, const aq_stmt *s);
val aq_emit_rolled(emitter *e, aq_id tile, int part); /* the value in memory, NULL if the tile is not rolled */

/* emit_block.c: blocks of quantised numbers */
val aq_emit_dequantize(emitter *e, aq_id load);
void aq_emit_quantize_store(emitter *e, const aq_stmt *s);

/* emit_expr.c */
void aq_emit_forget(emitter *e);          /* memoised values do not hold here any more */
val aq_emit_eval(emitter *e, aq_id expr); /* f32 or i32, scalar or vector */
val aq_emit_eval_f32(emitter *e, aq_id expr);
val aq_emit_eval_wide(emitter *e, aq_id expr, int lanes); /* f32, splat to the lanes */
val aq_emit_round_bf16(emitter *e, val x);               /* f32 bits with the lower half zero */
val aq_emit_round_int(emitter *e, val x, double limit);      /* f32 to i32, nearest even, saturating at -limit - 1 and limit */
val aq_emit_cast(emitter *e, const aq_expr *x);
val aq_emit_rope(emitter *e, aq_id expr);

/* emit_math.c */
val aq_emit_exp(emitter *e, val x);
val aq_emit_log(emitter *e, val x);
val aq_emit_tanh(emitter *e, val x);
val aq_emit_sigmoid(emitter *e, val x);
val aq_emit_sqrt(emitter *e, val x);
void aq_emit_sincos(emitter *e, val angle, val *out_sin, val *out_cos); /* angle f64, results f32 */

/* emit_acc.c */
void aq_emit_acc_open(emitter *e, const aq_stmt *s, aq_id first_sibling);
void aq_emit_update(emitter *e, const aq_stmt *s);
void aq_emit_updates(emitter *e, aq_id first); /* a list of nothing but updates, none of attend */
val aq_emit_tile_read(emitter *e, aq_id tile, int part); /* part -1: the finished value */
int aq_emit_component(const emitter *e, const aq_tile *t, int n_axes);
typedef struct axes_set {
    uint8_t axis[16];
    int n;
} axes_set;
void aq_emit_add_axes(axes_set *s, const uint8_t *axes, int n, const uint8_t *but, int n_but);
/* What follows runs only where the elements at e->at are inside their cuts; aq_emit_unguard ends it, given what aq_emit_guard gave (NULL: no cut). */
block aq_emit_guard(emitter *e, const axes_set *set);
void aq_emit_unguard(emitter *e, block next);
/* The axes of the update's expressions that its accumulator lacks, but for those that a loop around the declaration holds at one element. */
axes_set aq_emit_reduced(const emitter *e, const aq_stmt *s);
/* Visits all coordinates of the axes, the first the slowest: set e->at to the next ones; 0 when through. Start with first = 1. */
int aq_emit_next(emitter *e, const axes_set *s, int first);

/* emit_dot.c */
int aq_emit_is_block_dot(const emitter *e, aq_id expr);
void aq_emit_block_dot(emitter *e, const aq_stmt *s);
int aq_emit_block_dots(emitter *e, aq_id first); /* a list of nothing but such updates, side by side; 0 if they do not go together */

/* emit_pairs.c: a loop with `mma 2` around nothing but dots of bf16 with bf16, on a target that has them */
int aq_emit_is_pairs(const emitter *e, const aq_stmt *loop);
void aq_emit_pairs(emitter *e, const aq_stmt *loop, int n); /* its updates for the n = 1 or 2 elements from the cover's base on */

/* emit_attend.c */
void aq_emit_attend(emitter *e, const aq_stmt *s);
void aq_emit_attend_open(emitter *e, const aq_stmt *s);
val aq_emit_attend_read(emitter *e, aq_id tile, int part);

#endif
