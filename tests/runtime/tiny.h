/* tiny.h: a language model small enough to check by hand, as a plan: tables filled in here, kernels in tiny_kernels.c.
 *
 *   x[t] = emb[tok[t]];  k[slot[t]] = x[t];  y[t] = x[t] + sum over q <= pos[t] of k[row of q] / (1 + q);  logits[o] = out * y[want[o]]
 *
 * Two variants (T = 1 and T = 2 ..), a copy, a fill, a kernel of two phases, a ragged phase, a panel weight, a rotated weight, an alias.
 * tiny_logits computes the same from the token list alone, in the same order, so results are compared bit by bit. */
#ifndef AQ_TESTS_TINY_H
#define AQ_TESTS_TINY_H

#include "ir/plan.h"
#include "runtime/internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* after stdarg, setjmp */
#include <cmocka.h>

#define assert_ok(expr)                                                                                                                     \
    do {                                                                                                                                    \
        aq_status status_ = (expr);                                                                                                         \
        if (status_ != AQ_OK)                                                                                                               \
            fail_msg("%s gave %d: %s", #expr, status_, aq_error());                                                                         \
    } while (0)

/* The call is refused with `code` and a message that holds `text`. */
#define assert_refused(code, text, expr)                                                                                                    \
    do {                                                                                                                                    \
        aq_status status_ = (expr);                                                                                                         \
        if (status_ != (code) || !strstr(aq_error(), text))                                                                                 \
            fail_msg("%s gave %d: \"%s\"; expected %d and \"%s\"", #expr, status_, status_ ? aq_error() : "", code, text);                  \
    } while (0)

enum { TINY_V = 50, TINY_D = 16, TINY_HEAD = 8 };

typedef struct tiny {
    float emb[TINY_V * TINY_D], out[TINY_V * TINY_D], mix[TINY_D * TINY_D], norm[TINY_D];
    int rotate_half; /* the checkpoint's mix has its rows in that order */
} tiny;

/* tiny_kernels.c */
#define TINY_KERNELS(X) X(tiny_embed) X(tiny_sum) X(tiny_add) X(tiny_head)
#define X(name) void name(void *const *buf, const int64_t *sym, void *local, int64_t begin, int64_t end);
TINY_KERNELS(X)
#undef X

static aq_kernel tiny_lookup(void *user, const char *symbol) {
    (void)user;
#define X(name)                                                                                                                             \
    if (strcmp(symbol, #name) == 0)                                                                                                         \
        return name;
    TINY_KERNELS(X)
#undef X
    return NULL;
}

/* The plan's tables, with room to spoil them. */
typedef struct tiny_tables {
    aq_plan p;
    char strings[1024];
    uint32_t used;
    aq_plan_model model;
    aq_plan_sym syms[AQ_SYM_COUNT];
    aq_plan_weight weights[5];
    aq_plan_state states[1];
    aq_plan_graph graphs[1];
    aq_plan_variant variants[2];
    aq_plan_input io[16];
    aq_plan_buffer buffers[8];
    aq_plan_step steps[16];
    aq_plan_phase phases[8];
    aq_plan_grid grids[8];
    aq_plan_arg args[64];
} tiny_tables;

static uint32_t tiny_string(tiny_tables *t, const char *s) {
    uint32_t at = t->used;
    assert_true(at + strlen(s) + 1 <= sizeof t->strings);
    memcpy(t->strings + at, s, strlen(s) + 1);
    t->used += (uint32_t)strlen(s) + 1;
    t->p.strings_size = t->used;
    return at;
}

static aq_size tiny_size(int64_t k, uint32_t sym) { return (aq_size){.k = k, .sym = sym}; }

static void tiny_weight(tiny_tables *t, const char *name, aq_layout layout, int64_t n, int64_t k, int64_t head_dim, uint32_t alias) {
    size_t bytes;
    aq_plan_weight *w = &t->weights[t->p.n_weights++];
    *w = (aq_plan_weight){.name = tiny_string(t, name), .dtype = AQ_F32, .layout = layout, .rank = k ? 2 : 1, .dim = {n, k}, .head_dim = head_dim, .alias = alias};
    assert_ok(aq_layout_bytes(layout, AQ_F32, w->dim, (int)w->rank, name, &bytes));
    w->bytes = bytes;
}

static uint32_t tiny_buffer(tiny_tables *t, aq_plan_variant *v, const char *name, uint32_t sym, uint32_t last) {
    int64_t bytes = TINY_D * 4;
    t->buffers[t->p.n_buffers] = (aq_plan_buffer){.name = tiny_string(t, name), .dtype = AQ_F32, .rank = 2, .dim = {{.k = 1, .sym = sym}, {.k = TINY_D}},
                                                  .bytes = {.k = bytes, .sym = sym}, .offset = v->arena[sym], .last_step = last};
    v->arena[sym] += bytes;
    v->n_buffers++;
    return t->p.n_buffers++;
}

/* A step of the kinds and arguments given as pairs; ends with kind 0. */
static void tiny_step(tiny_tables *t, uint32_t kind, const char *name, uint32_t first_phase, uint32_t n_phases, const aq_plan_arg *args) {
    aq_plan_step *s = &t->steps[t->p.n_steps++];
    *s = (aq_plan_step){.kind = kind, .name = tiny_string(t, name), .first_arg = t->p.n_args, .first_phase = first_phase, .n_phases = n_phases,
                        .local_bytes = kind == AQ_STEP_LAUNCH ? 100 : 0, .layer = -1};
    for (; args->kind; args++, s->n_args++)
        t->args[t->p.n_args++] = *args;
}

static void tiny_variant(tiny_tables *t, int64_t lo, int64_t hi) {
    aq_plan_variant *v = &t->variants[t->p.n_variants++];
    *v = (aq_plan_variant){.t_lo = lo, .t_hi = hi, .first_step = t->p.n_steps, .first_buffer = t->p.n_buffers};
    uint32_t x = tiny_buffer(t, v, "x", AQ_SYM_T, 5), y = tiny_buffer(t, v, "y", AQ_SYM_T, 5), z = tiny_buffer(t, v, "z", AQ_SYM_T, 5);
#define BUF(i) {AQ_ARG_BUFFER, i}
#define IN(i) {AQ_ARG_INPUT, i}
    tiny_step(t, AQ_STEP_LAUNCH, "embed", 0, 1, (aq_plan_arg[]){IN(0), IN(3), {AQ_ARG_WEIGHT, 0}, BUF(x), {AQ_ARG_STATE, 0}, {0, 0}});
    tiny_step(t, AQ_STEP_FILL, "zero", 0, 0, (aq_plan_arg[]){BUF(z), {0, 0}});
    tiny_step(t, AQ_STEP_LAUNCH, "sum", 1, 2,
              (aq_plan_arg[]){IN(2), IN(4), IN(5), IN(6), IN(7), {AQ_ARG_STATE, 0}, BUF(x), BUF(z), {0, 0}});
    tiny_step(t, AQ_STEP_COPY, "copy", 0, 0, (aq_plan_arg[]){BUF(z), BUF(y), {0, 0}});
    tiny_step(t, AQ_STEP_LAUNCH, "head", 3, 1,
              (aq_plan_arg[]){IN(1), BUF(y), {AQ_ARG_WEIGHT, 1}, {AQ_ARG_WEIGHT, 2}, {AQ_ARG_WEIGHT, 3}, {AQ_ARG_OUTPUT, 0}, {0, 0}});
    v->n_steps = t->p.n_steps - v->first_step;
    for (uint32_t i = v->first_buffer; i < t->p.n_buffers; i++)
        t->buffers[i].last_step = v->n_steps - 1;
}

static void tiny_io(tiny_tables *t, const char *name, aq_dtype type, uint32_t field, aq_size a, aq_size b) {
    t->io[t->p.n_io++] = (aq_plan_input){.name = tiny_string(t, name), .dtype = type, .rank = b.k ? 2 : 1, .field = field, .dim = {a, b}};
}

static void tiny_fill(tiny_tables *t) {
    static const unsigned char code[8] = "no code";
    memset(t, 0, sizeof *t);
    aq_plan *p = &t->p;
    aq_size none = {0};
    tiny_string(t, "");
    t->model = (aq_plan_model){.name = tiny_string(t, "tiny"), .D = TINY_D, .L = 1, .H = 1, .HKV = 1, .DH = TINY_D, .V = TINY_V, .max_length = 1000, .pad = -1};
    static const char *const letter[] = {"", "T", "O", "B", "S", "P"};
    for (int i = 0; i < AQ_SYM_COUNT; i++)
        t->syms[i] = (aq_plan_sym){.name = tiny_string(t, letter[i]), .lo = 1, .hi = i == AQ_SYM_B ? 100 : 1 << 20};
    tiny_weight(t, "emb", AQ_LAYOUT_ROWS, TINY_V, TINY_D, 0, 0);
    tiny_weight(t, "out", AQ_LAYOUT_PANEL, TINY_V, TINY_D, 0, 0);
    tiny_weight(t, "mix", AQ_LAYOUT_ROWS, TINY_D, TINY_D, TINY_HEAD, 0);
    tiny_weight(t, "norm", AQ_LAYOUT_ROWS, TINY_D, 0, 0, 0);
    tiny_weight(t, "tied", AQ_LAYOUT_PANEL, TINY_V, TINY_D, 0, 2);
    t->states[0] = (aq_plan_state){.name = tiny_string(t, "k"), .dtype = AQ_F32, .layout = AQ_LAYOUT_KV_ROWS, .rank = 3, .dim = {{1, AQ_SYM_S, 0}, {1, 0, 0}, {TINY_D, 0, 0}}};
    p->n_states = 1;
    tiny_io(t, "tok", AQ_I32, 0, tiny_size(1, AQ_SYM_T), none);
    tiny_io(t, "want", AQ_I32, 0, tiny_size(1, AQ_SYM_O), none);
    static const uint32_t dims[][2] = {
#define FIELD(name, n, a, b, doc) {AQ_SYM_##a, AQ_SYM_##b},
#include "ir/batch.def"
#undef FIELD
    };
    for (uint32_t i = 0; i < AQ_FIELD_COUNT; i++)
        tiny_io(t, "b", AQ_I32, i + 1, tiny_size(1, dims[i][0]), dims[i][1] ? tiny_size(1, dims[i][1]) : none);
    tiny_io(t, "logits", AQ_F32, 0, tiny_size(1, AQ_SYM_O), tiny_size(TINY_V, 0));
    static const char *const symbol[] = {"tiny_embed", "tiny_sum", "tiny_add", "tiny_head"};
    for (uint32_t i = 0; i < 4; i++) {
        t->phases[i] = (aq_plan_phase){.symbol = tiny_string(t, symbol[i]), .first_grid = i, .n_grids = 1, .ragged = i == 1};
        t->grids[i] = (aq_plan_grid){.n = 1, .extent = {tiny_size(1, AQ_SYM_T)}, .step = {i == 0 ? 4 : 1}};
    }
    t->grids[3] = (aq_plan_grid){.n = 2, .extent = {tiny_size(1, AQ_SYM_O), tiny_size(TINY_V, 0)}, .step = {1, AQ_PANEL_ROWS}};
    p->n_phases = p->n_grids = 4;
    tiny_variant(t, 1, 1);
    tiny_variant(t, 2, 1 << 20);
    t->graphs[0] = (aq_plan_graph){.name = tiny_string(t, "step"), .n_inputs = 2 + AQ_FIELD_COUNT, .first_output = 2 + AQ_FIELD_COUNT, .n_outputs = 1, .n_variants = 2};
    p->n_graphs = 1;
    p->strings = t->strings;
    p->target = "cpu:v3";
    p->manifest = "a plan made by hand\nfor tests";
    p->options = "";
    p->model = &t->model;
    p->syms = t->syms, p->weights = t->weights, p->states = t->states, p->graphs = t->graphs, p->variants = t->variants, p->io = t->io;
    p->buffers = t->buffers, p->steps = t->steps, p->phases = t->phases, p->grids = t->grids, p->args = t->args;
    p->code = code, p->code_size = sizeof code;
}

/* Numbers of few bits, so that sums are exact only by the order being right. */
__attribute__((unused)) static void tiny_make(tiny *m, uint32_t seed) {
    float *all[] = {m->emb, m->out, m->mix, m->norm};
    size_t n[] = {TINY_V * TINY_D, TINY_V * TINY_D, TINY_D * TINY_D, TINY_D};
    for (int k = 0; k < 4; k++)
        for (size_t i = 0; i < n[k]; i++)
            all[k][i] = (float)((seed = seed * 1664525u + 1013904223u) >> 9) / (1 << 22) - 1;
    m->rotate_half = 0;
}

__attribute__((unused)) static aq_status tiny_source(void *user, const char *name, aq_rt_tensor *out) {
    tiny *m = user;
    *out = (aq_rt_tensor){.dtype = AQ_F32, .rank = 2, .dim = {TINY_V, TINY_D}};
    if (strcmp(name, "emb") == 0)
        out->data = m->emb;
    else if (strcmp(name, "out") == 0)
        out->data = m->out;
    else if (strcmp(name, "mix") == 0)
        out->data = m->mix, out->dim[0] = TINY_D, out->rotate_half = m->rotate_half;
    else if (strcmp(name, "norm") == 0)
        out->data = m->norm, out->rank = 1, out->dim[0] = TINY_D, out->dim[1] = 0;
    else
        return aq_fail(AQ_REFUSED, name, "no such tensor");
    out->bytes = sizeof(float) * (size_t)out->dim[0] * (size_t)(out->rank == 2 ? out->dim[1] : 1);
    return AQ_OK;
}

/* Logits of the last token of a sequence. */
__attribute__((unused)) static void tiny_logits(const tiny *m, const int32_t *tok, int64_t n, float *logits) {
    float y[TINY_D] = {0}, z[TINY_D];
    for (int64_t q = 0; q < n; q++)
        for (int d = 0; d < TINY_D; d++)
            y[d] += m->emb[tok[q] * TINY_D + d] / (float)(1 + q);
    for (int d = 0; d < TINY_D; d++)
        y[d] += m->emb[tok[n - 1] * TINY_D + d];
    for (int i = 0; i < TINY_D; i++) { /* mix as the checkpoint means it: interleaved rows */
        int head = i / TINY_HEAD * TINY_HEAD, in = i % TINY_HEAD, row = m->rotate_half ? head + in / 2 + in % 2 * (TINY_HEAD / 2) : i;
        z[i] = 0;
        for (int d = 0; d < TINY_D; d++)
            z[i] += m->mix[row * TINY_D + d] * y[d];
        z[i] *= m->norm[i];
    }
    for (int v = 0; v < TINY_V; v++) {
        logits[v] = 0;
        for (int d = 0; d < TINY_D; d++)
            logits[v] += m->out[v * TINY_D + d] * z[d];
    }
}

/* The opened plan of the tables; the arena holds its bytes. */
__attribute__((unused)) static aq_rt_plan *tiny_plan(aq_arena *arena) {
    tiny_tables *t = malloc(sizeof *t);
    unsigned char *bytes;
    size_t size;
    aq_rt_plan *p;
    tiny_fill(t);
    assert_ok(aq_plan_write(&t->p, arena, &bytes, &size));
    free(t);
    assert_ok(aq_rt_plan_from_functions("tiny.aqp", bytes, size, tiny_lookup, NULL, &p));
    return p;
}

#endif
