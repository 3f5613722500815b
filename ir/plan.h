/* plan.h: what is left to run: the structure that `compile` writes to an .aqp file and the runtime maps.
 *
 * A plan is one relocation-free block of bytes: header, then tables of fixed-size records, strings, the readable manifest, and the code
 * (one relocatable ELF object). Records refer to each other by index and to strings by offset. aq_plan_open checks every index, offset,
 * count and range before anybody follows one, so code that walks an opened plan needs no checks.
 *
 * Sizes stay symbolic: a size is k * symbol (sym 0: the number k). Symbols: see AQ_SYM_*; they are bound when a session opens (S, P and
 * the bounds of T, O, B) and at each step (T, O, B). */
#ifndef AQ_IR_PLAN_H
#define AQ_IR_PLAN_H

#include "ir/arena.h"
#include "ir/dtype.h"
#include "ir/layout.h"

/* The symbols a plan knows, by number (0 = none). Graph texts call them by these letters. */
enum { AQ_SYM_NONE, AQ_SYM_T, AQ_SYM_O, AQ_SYM_B, AQ_SYM_S, AQ_SYM_P, AQ_SYM_COUNT };

enum { AQ_PLAN_VERSION = 1, AQ_PLAN_MAX_RANK = 4 };

typedef struct aq_size { /* k * symbol */
    int64_t k;
    uint32_t sym, reserved;
} aq_size;

/* No hash of contents: a plan is made from figures, types and options alone and serves every checkpoint that has them (a fine-tuned model, another
 * seed); binding checks name, type, shape and order of rows. What depends on contents is the packed file in the cache, and that is named by them. */
typedef struct aq_plan_weight {
    uint32_t name;            /* string: house name, "wq.3" */
    uint32_t dtype, layout, rank;
    int64_t dim[AQ_PLAN_MAX_RANK];
    int64_t head_dim;         /* > 0: if the checkpoint's tensor is in rotate-half order, interleave heads of this size */
    uint64_t bytes;           /* in `layout` */
    uint32_t alias;           /* index + 1 of the weight whose storage this is; 0 = its own */
    uint32_t reserved;
} aq_plan_weight;

typedef struct aq_plan_state {
    uint32_t name, dtype, layout, rank;
    aq_size dim[AQ_PLAN_MAX_RANK];
} aq_plan_state;

/* A value between steps: at byte offset `offset` * (symbol value) in the arena of its symbol; offset and size are multiples of 64. */
typedef struct aq_plan_buffer {
    uint32_t name, dtype, rank, reserved;
    aq_size dim[AQ_PLAN_MAX_RANK];
    aq_size bytes;            /* of this buffer */
    int64_t offset;           /* bytes per unit of bytes.sym (or plain bytes) */
    uint32_t first_step, last_step; /* life within its variant */
} aq_plan_buffer;

typedef enum aq_arg_kind {
    AQ_ARG_BUFFER = 1, /* index of a buffer */
    AQ_ARG_WEIGHT,
    AQ_ARG_STATE,
    AQ_ARG_INPUT,      /* a graph input: index in the graph's inputs; batch arrays are inputs */
    AQ_ARG_OUTPUT      /* a graph result */
} aq_arg_kind;

typedef struct aq_plan_arg {
    uint32_t kind, index;
} aq_plan_arg;

typedef struct aq_plan_grid { /* product of ceil(extent / step) */
    uint32_t n, reserved;
    aq_size extent[4];
    int32_t step[4];
} aq_plan_grid;

typedef struct aq_plan_phase {
    uint32_t symbol;          /* string: function in the object */
    uint32_t first_grid, n_grids;
    uint32_t ragged;          /* 1: items differ much in length, hand out by a shared counter; 0: equal ranges */
} aq_plan_phase;

typedef enum aq_step_kind { AQ_STEP_LAUNCH = 1, AQ_STEP_COPY, AQ_STEP_FILL } aq_step_kind;

typedef struct aq_plan_step {
    uint32_t kind, name;      /* string: kernel */
    uint32_t device, queue;
    uint32_t first_arg, n_args;
    uint32_t first_phase, n_phases;
    uint64_t local_bytes;     /* memory each worker needs */
    uint32_t schedule, sum_class; /* strings, for show and trace */
    int32_t layer;
    uint32_t provenance;      /* string: default, model text, edits, nest (a person's, no schedule); later measured, predicted */
    double expected_ns_per_token;
} aq_plan_step;

typedef struct aq_plan_input {
    uint32_t name, dtype, rank, field; /* field: 1 + row of batch.def, or 0 for an ordinary input */
    aq_size dim[AQ_PLAN_MAX_RANK];
} aq_plan_input;

typedef struct aq_plan_variant { /* steps for t_lo <= T <= t_hi */
    int64_t t_lo, t_hi;
    uint32_t first_step, n_steps;
    uint32_t first_buffer, n_buffers;
    int64_t arena[AQ_SYM_COUNT]; /* bytes of buffers a unit of each symbol; [0] plain bytes */
} aq_plan_variant;

typedef struct aq_plan_graph {
    uint32_t name;
    uint32_t first_input, n_inputs;
    uint32_t first_output, n_outputs; /* also aq_plan_input records */
    uint32_t first_variant, n_variants, reserved;
} aq_plan_graph;

/* Figures of the model that a host needs to run a plan without its text. */
typedef struct aq_plan_model {
    uint32_t name, family;
    int64_t D, L, H, HKV, DH, F, V, max_length;
    int32_t bos, eos, pad, reserved;
} aq_plan_model;

typedef struct aq_plan_sym {
    uint32_t name, reserved;
    int64_t lo, hi;
} aq_plan_sym;

/* An opened plan: pointers into the bytes. */
typedef struct aq_plan {
    const unsigned char *bytes;
    size_t size;
    uint64_t hash;             /* XXH3 of everything behind the header */
    const char *strings;       /* string i = strings + i */
    const char *target;        /* "cpu:v4+bf16+vnni" */
    const char *manifest;      /* readable: kernels, schedules, sum classes, provenance */
    const char *options;       /* the options it was compiled with, canonical text */
    const aq_plan_model *model;
    const aq_plan_sym *syms;   /* AQ_SYM_COUNT of them */
    const aq_plan_weight *weights;
    const aq_plan_state *states;
    const aq_plan_graph *graphs;
    const aq_plan_variant *variants;
    const aq_plan_input *io;
    const aq_plan_buffer *buffers;
    const aq_plan_step *steps;
    const aq_plan_phase *phases;
    const aq_plan_grid *grids;
    const aq_plan_arg *args;
    const unsigned char *code;
    size_t code_size;
    uint32_t n_weights, n_states, n_graphs, n_variants, n_io, n_buffers, n_steps, n_phases, n_grids, n_args, strings_size;
} aq_plan;

/* Checks everything (magic, version, hash, every reference) and fills *out; bytes must outlive it, 64-byte aligned. AQ_REFUSED names the
 * field that differs. */
AQ_MUST_USE aq_status aq_plan_open(const char *file, const void *bytes, size_t size, aq_plan *out);

/* The other direction: the tables of `p` (bytes, size, hash unused) into one block in `arena`. Same tables, same bytes. */
AQ_MUST_USE aq_status aq_plan_write(const aq_plan *p, aq_arena *arena, unsigned char **out_bytes, size_t *out_size);

/* k * bound[sym]; INT64_MAX on overflow. ceil-product of a grid. */
int64_t aq_size_eval(aq_size s, const int64_t *bound);
int64_t aq_plan_grid_count(const aq_plan_grid *g, const int64_t *bound);

/* What a kernel is in the object: one function a phase, symbol in aq_plan_phase. Computes work items [begin, end) of the phase's work
 * list. buf: one pointer for each buffer of the nest except LOCAL, in order (SCRATCH included); sym[AQ_SYM_*]: the symbols' values now;
 * local: aq_plan_step.local_bytes of this worker's own memory, 64-byte aligned. */
typedef void (*aq_kernel)(void *const *buf, const int64_t *sym, void *local, int64_t begin, int64_t end);

#endif
