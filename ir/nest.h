/* nest.h: loops over tiles: what `lower` makes of a region and a schedule, what emitters turn into machine code.
 *
 * A nest is a list of phases; a phase is a list of loop trees. `tiles` loops are independent work items (any order, any worker);
 * `for` loops are sequential. A phase ends with a barrier of all workers. Inside loops stand statements on tiles: the same ops as in a
 * graph, on the elements that the current loops cover.
 *
 * Axes and tiles. An axis has an extent. A loop over axis a with step s covers, at each turn, elements [i, i+s) of a (cut at the end of
 * the enclosing loop's range of a, or at the extent); the innermost loop over a that encloses a statement says which elements of a the
 * statement sees. A tile value has a set of axes and holds one number for each combination of the elements that these axes cover now.
 * `lanes` marks the axis whose elements lie side by side in vector registers; other axes of a tile are unrolled. Whether a step is 1 or
 * 96, elements past the cut are never stored, never accumulated and never trap (a load there reads an element inside the buffer).
 * Every axis of an expression needs an enclosing loop; a loop by 0 takes the whole extent in one turn.
 *
 * Accumulators. `acc` declares one where it stands (inside some loops): zero of its monoid, with its axes. `update` takes the elements of
 * an expression in: the expression's axes are those of the accumulator plus those that are reduced. Reading an accumulator after the loop
 * gives its finished value (reduce.def); `part` reads one part of it.
 *
 * Marks. What is said of a loop beside its step changes no element that a statement sees; some of it changes the order of sums (below).
 *   lanes L [vec V]  the axis lies in vectors: element e of a turn is in lane (e / V) mod L. V elements side by side are one wide load of a
 *                    GPU's lane; a CPU's vectors have V = 1
 *   warps W          the elements of a turn are cut into W contiguous parts, one a warp of the work item. A mark and not a loop: an
 *                    accumulator stays declared where its item begins while all warps together fill a LOCAL buffer inside. A statement
 *                    is divided by the marks of the axes that it has; the warps of an item are the largest such product
 *   mma M            the axis is cut into fragments of M for matrix instructions; a CPU's dot of bf16 with bf16 has pairs: mma 2 on the reduced
 *                    axis beside lanes of the accumulator
 *   stages N [BUF..] on a `for`: what is loaded from these buffers (all of the loop's, if none is named), or stored into these LOCAL ones,
 *                    is on its way N - 1 turns ahead. LOCAL buffers become rings of N
 * A CPU has lanes, and mma 2 where it has dots of bf16; the other marks are a GPU's, and the CPU's emitter refuses them.
 *
 * Order of a sum (the sum class). Without lanes on the reduced axis: elements in order, one accumulator, fused multiply-add for mul and
 * dot of plain types (class "seq"). Lanes on the reduced axis, L of them: L*U partial sums, element e goes to partial e mod (L*U) (U =
 * step / L), then a halving tree over the partials (class "lanesLxU"). With vec V > 1: L partial sums whatever the step, element e goes to
 * partial (e / V) mod L, in order, then the halving tree ("lanesLvV"). W warps on the reduced axis: each part so, then the parts in order
 * (".wW" behind the class). mma M on the reduced axis: the order within M elements is the hardware's, the same on every run of one chip and
 * on no other; fragments in order ("mmaM"). stages change no order. dot of a WEIGHT with an ACT block: per group of 32 the exact integer
 * dot product, a K type's integers times their step of d, then acc = fma(float(idot), d_w * d_a, acc), d_w the f16 of the block (iq4_xs: times the
 * step, which its integers do without; q6_k, whose sums may leave 32 bits: float(idot of the first half) + float(idot of the second)); and where the type has an offset acc = fma(m_w, s_a,
 * acc) after it, with scales of 16 elements for each half, s_a = d_a * float(sum of the half's integers) (class "blocks"); with lanes L and vec V (whole
 * groups), the groups of lane l into partial l, then the halving tree ("blocksLvV").
 *
 * Text (read_nest.c, print_nest.c): see the grammar at the end of this file. */
#ifndef AQ_IR_NEST_H
#define AQ_IR_NEST_H

#include "ir/graph.h"

enum { AQ_MAX_LOOPS = 12, AQ_MAX_AXES = 8, AQ_MAX_TILE_AXES = 8, AQ_MAX_VALUES = 32 };

typedef enum aq_buf_role {
    AQ_BUF_IN = 1,  /* read only: inputs, weights, batch arrays */
    AQ_BUF_OUT,     /* written, every element once */
    AQ_BUF_STATE,   /* a cache: read and written at single rows */
    AQ_BUF_SCRATCH, /* one for the launch, shared by the workers, lives from phase to phase */
    AQ_BUF_LOCAL    /* one for each worker, lives within one work item: L1/L2 panel, shared memory */
} aq_buf_role;

typedef struct aq_nest_buf {
    const char *name; /* with sigil: %x, @wq, $k, %b.pos */
    aq_buf_role role;
    aq_type type;     /* LOCAL: dims are numbers */
    aq_layout layout;
} aq_nest_buf;

typedef struct aq_nest_axis {
    const char *name;
    aq_dim extent; /* the bound: sizes grids and buffers */
    aq_id limit;   /* expression (i32) of the true extent now, at most `extent`; 0 = the extent. tiles past it do nothing. Read where
                    * the outermost loop over the axis begins; where its own axes cover several elements there, the largest counts */
} aq_nest_axis;

typedef enum aq_expr_kind {
    AQ_EXPR_CONST = 1, /* number */
    AQ_EXPR_AXIS,      /* the index along `axis`, i32: a tile over that axis */
    AQ_EXPR_DIM,       /* a dim's value, i32 (f32 where used as such) */
    AQ_EXPR_TILE,      /* tile value `tile`: a let, or an accumulator's finished value */
    AQ_EXPR_PART,      /* part `part` of accumulator `tile` */
    AQ_EXPR_LOAD,      /* buf[in[0], in[1], ..]: n_in i32 expressions, one a dim of the buffer */
    AQ_EXPR_OP         /* op(in[..]) with node-like attributes: MAP ops, dot (elementwise product under `update`), rope, quantize, cast */
} aq_expr_kind;

typedef struct aq_expr {
    aq_expr_kind kind;
    aq_op op;
    uint8_t n_in, part;
    aq_id in[AQ_MAX_RANK]; /* expressions */
    aq_id axis, buf, tile; /* indices from 1 */
    aq_dim dim;
    double number;         /* CONST */
    aq_id attr;            /* OP: first of n_attr in nest->attrs */
    uint8_t n_attr;
    aq_dtype dtype;        /* f32, i32 for subscripts, or an ACT type (quantize, loads of blocks); filled by aq_nest_check */
    uint8_t n_axes;        /* the axes it has elements over, in order of the axis table; filled by aq_nest_check */
    uint8_t axes[AQ_MAX_TILE_AXES];
} aq_expr;

/* let: named tile values; acc: accumulators. */
typedef struct aq_tile {
    const char *name;
    uint8_t is_acc;
    aq_monoid monoid;
    uint8_t n_axes;
    uint8_t axes[AQ_MAX_TILE_AXES]; /* of the let's expression or as declared; for attend: the axes of o, the last is e; m and l lack it */
} aq_tile;

typedef enum aq_stmt_kind {
    AQ_STMT_PHASE = 1, /* children: loops */
    AQ_STMT_TILES,     /* loop of independent items over `axis` by `step`; directly nested tiles form one grid, the outer the slower */
    AQ_STMT_FOR,       /* sequential loop */
    AQ_STMT_LET,       /* tile = expr[0] */
    AQ_STMT_ACC,       /* declares accumulator `tile` */
    AQ_STMT_UPDATE,    /* tile monoid= expr[0]; attend: score expr[0], value expr[1]; merge: one expr a part */
    AQ_STMT_STORE      /* buf[index..] = expr[0]; rounded to the buffer's type; only the elements inside every cut */
} aq_stmt_kind;

/* A tree in one array: first_child and next are indices, 0 = none. */
typedef struct aq_stmt {
    aq_stmt_kind kind;
    aq_id first_child, next;
    aq_id axis, tile, buf; /* from 1 */
    int32_t step;          /* loops: elements a turn; 0 = the whole extent (numbers only) */
    int16_t lanes;         /* loops: 0 = unrolled elements; else the vector width in elements that `step` is a multiple of */
    uint8_t vec;           /* loops with lanes: elements side by side in a lane; 0 = 1 */
    uint8_t warps, mma;    /* loops: parts for warps, size of fragments; 0 = none */
    uint8_t stages, n_ring; /* FOR: turns on their way; 0 = no mark */
    aq_id ring[4];          /* the buffers that it speaks of; n_ring 0: every one that is loaded inside */
    uint8_t merge;         /* UPDATE: exprs are the parts of another partial result */
    uint8_t n_expr, n_index;
    aq_id expr[3];
    aq_id index[AQ_MAX_RANK];
} aq_stmt;

typedef struct aq_nest {
    const char *name;              /* kernel symbol: [A-Za-z0-9_.] */
    const aq_module *module;       /* for symbols */
    AQ_VEC(aq_nest_buf) bufs;      /* [0] unused in all of these */
    AQ_VEC(aq_nest_axis) axes;
    AQ_VEC(aq_expr) exprs;
    AQ_VEC(aq_tile) tiles;
    AQ_VEC(aq_stmt) stmts;
    AQ_VEC(aq_attr) attrs;
    aq_id first_phase;
} aq_nest;

AQ_MUST_USE aq_status aq_nest_open(const aq_module *m, aq_arena *arena, const char *name, aq_nest **out);

/* nest_check.c: ids in range, parts of expressions before wholes (in[i] < the expression's own index), tree shape, one lanes axis a tile at most, tiles at the top of phases only, subscripts i32, steps, monoid arity,
 * every OUT element stored at most once by construction (each store's index names every tiles axis) ... and fills dtype and axes of the
 * expressions. Everything that runs or emits a nest demands that this passed. */
AQ_MUST_USE aq_status aq_nest_check(aq_nest *n);

/* An attribute of an OP expression; NULL if absent. */
const aq_attr *aq_nest_attr(const aq_nest *n, const aq_expr *e, aq_attr_key key);

/* Number of phases; the grid of a phase: the work list is its top `tiles` trees one after the other. */
int aq_nest_phases(const aq_nest *n);
typedef struct aq_grid {   /* one tree: product over its tiles loops of ceil(extent / step), outer first */
    uint8_t n;
    aq_dim extent[AQ_MAX_AXES];
    int32_t step[AQ_MAX_AXES];
} aq_grid;
enum { AQ_MAX_TREES = 8 };
/* Writes up to AQ_MAX_TREES grids; returns how many. */
int aq_nest_grids(const aq_nest *n, int phase, aq_grid *out);

/* "seq", "lanes16x2", "lanes32v8.w4", "mma16", "blocks", or several joined by '+', in the order of the updates; for the plan's manifest and the verifier. */
AQ_MUST_USE aq_status aq_nest_sum_class(const aq_nest *n, aq_arena *arena, const char **out);

AQ_MUST_USE aq_status aq_print_nest(const aq_nest *n, aq_text *out);
AQ_MUST_USE aq_status aq_read_nest(const aq_module *m, aq_arena *arena, const char *file, const char *text, size_t n, aq_nest **out);

/* --- schedules: how a region becomes a nest, as data ----------------------------------------------------------------------------- */

typedef enum aq_role { AQ_ROLE_NONE, AQ_ROLE_TILES, AQ_ROLE_FOR, AQ_ROLE_UNROLL, AQ_ROLE_WARPS, AQ_ROLE_MMA } aq_role;

/* One axis of the region: steps outer to inner (0 = no more), each with its role. Steps with the roles tiles, for and unroll are loops; warps
 * and mma are marks on the loop before them: `t 128 tiles 64 warps 16 mma` is tiles by 128, two warps of 64, fragments of 16. `lanes` =
 * vector width on the innermost loop, `vec` elements side by side in each lane (0 = 1). */
typedef struct aq_axis_plan {
    const char *axis; /* the letter(s) `lower` gives it: t n d k h e s ... (see aq_lower_axes) */
    int32_t step[3];
    uint8_t role[3];
    int16_t lanes, vec;
} aq_axis_plan;

/* Where a value of the region is computed: inline = again wherever it is read; tile = once a work item before the loop that reads it;
 * phase = in a phase of its own, kept in scratch; late = (row factors) applied after the dot. kept
 * local, of a param: copied to memory of the work item where a loop first reads it. stages, of a param or a value kept local: how many turns
 * of the loop that reads it are under way. */
typedef enum aq_made { AQ_MADE_DEFAULT, AQ_MADE_INLINE, AQ_MADE_TILE, AQ_MADE_PHASE, AQ_MADE_LATE } aq_made;
typedef enum aq_kept { AQ_KEPT_DEFAULT, AQ_KEPT_REG, AQ_KEPT_LOCAL, AQ_KEPT_SCRATCH } aq_kept;
typedef struct aq_value_plan {
    const char *value; /* its name in the region */
    uint8_t made, kept, stages;
} aq_value_plan;

typedef struct aq_schedule {
    const char *target; /* "cpu", "cpu.v4", "cuda.sm90": whom it is for */
    uint8_t n_axes, n_values;
    int32_t split;      /* elements a split of the reduced axis (flash decoding); 0 = none */
    aq_axis_plan axis[AQ_MAX_AXES];
    aq_value_plan value[AQ_MAX_VALUES];
} aq_schedule;

AQ_MUST_USE aq_status aq_print_schedule(const aq_schedule *s, aq_text *out);
/* Text between `schedule TARGET {` and `}`: `t 6 unroll; n 96 32 lanes; d 32; %n phase in scratch; rms late; split 256; @w in local stages 3`. */
AQ_MUST_USE aq_status aq_read_schedule(aq_arena *arena, const char *file, const char *text, size_t n, aq_schedule **out);

/* Grammar of a nest (names as in graphs; comments from # to the end of the line):
 *   nest NAME(BUF, ...) {                       BUF: (in|out|state|scratch|local) SIGIL_NAME: TYPE [LAYOUT]
 *     axis t: T, s: S limit add(%b.start[b], 1), e: 64
 *     phase {
 *       tiles t by 6 { tiles n by 32 lanes 16 {
 *         acc %a sum [t, n]
 *         for d by 32 { %a += dot(%x[t, d], @w[n, d]) }
 *         let %r = rsqrt(add(mul(%s, 0.001736), 1e-05))
 *         store %q[t, n] = rope(%a, %b.pos[t]) {dim=64, theta=10000}
 *       } }
 *     }
 *   }
 *   Loops: `for AXIS [by STEP] [lanes WIDTH [vec N]] [warps N] [mma N] [stages N [BUF, ..]] {`, likewise tiles (without stages); without `by` the
 *   whole extent in one turn. Names are declared before they are used; %NAME is the newest tile of that name, %NAME[..] the buffer.
 *   Expressions: numbers (inf, -inf), axis names, dims (`T`, `2*T`), %tile, part(%acc, 1), BUF[expr, ...], op(expr, ...) {attr=..}.
 *   Updates: `%m max= e`, `%a += e`, `%o attend= score, value`, `%o merge attend= part0, part1, part2`. */

#endif
