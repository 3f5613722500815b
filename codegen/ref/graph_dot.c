/* graph_dot.c: contractions. The form of every linear layer, "..k,nk->..n", goes by tiles of 8 rows of the weight: decoded once into
 * [k][8] doubles, then every token's 8 sums run side by side (the compiler makes vectors of them), each still in order of k. Other specs go
 * by plain loops over letters. Threads take rows of the weight apart, so bits do not depend on their number.
 * Cost (AMD EPYC, shared): 11 multiply-adds a ns and core at 4 tokens and more, 4.5 at one; SmolLM2-135M in
 * Q4_1: one token 0.18 s on one core, 1000 tokens 15 s on two. Left to itself the compiler made vectors of the wrong loop: 4 times slower. */
#include "codegen/ref/exec.h"

#include "codegen/parallel.h"
#include "ir/memory.h"

#include <string.h>

enum { W = 8 };

typedef struct linear {
    const double *x;
    const aq_ref_val *w;
    double *out;
    int64_t m, n, k;
    int64_t grain; /* rows of the weight a range */
    double *tiles; /* a tile [k][W] and a row [k] for each range */
} linear;

/* Four tokens by 8 rows: 32 sums in registers, each in order of k. No multiply-add is fused (-ffp-contract=off), so every clone gives the
 * same bits. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define FAST_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define FAST_CLONES
#endif

typedef double lanes __attribute__((vector_size(W * sizeof(double)), aligned(sizeof(double)), may_alias));

FAST_CLONES static void tile_4(const double *x, int64_t stride, const double *tile, int64_t k, double *restrict sums) {
    const double *x0 = x, *x1 = x + stride, *x2 = x + 2 * stride, *x3 = x + 3 * stride;
    lanes a0 = {0}, a1 = {0}, a2 = {0}, a3 = {0};
    for (int64_t i = 0; i < k; i++) {
        lanes w = *(const lanes *)(const void *)(tile + i * W);
        a0 += x0[i] * w;
        a1 += x1[i] * w;
        a2 += x2[i] * w;
        a3 += x3[i] * w;
    }
    lanes *to = (lanes *)(void *)sums;
    to[0] = a0, to[1] = a1, to[2] = a2, to[3] = a3;
}

FAST_CLONES static void tile_1(const double *x, const double *tile, int64_t k, double *restrict sums) {
    lanes a = {0};
    for (int64_t i = 0; i < k; i++)
        a += x[i] * *(const lanes *)(const void *)(tile + i * W);
    *(lanes *)(void *)sums = a;
}

static void linear_rows(void *user, int64_t begin, int64_t end) {
    const linear *l = user;
    double *tile = l->tiles + begin / l->grain * (W + 1) * l->k, *row = tile + W * l->k, sums[4 * W];
    for (int64_t n = begin; n < end; n += W) {
        int rows = (int)(end - n < W ? end - n : W);
        for (int r = 0; r < rows; r++) {
            aq_ref_load(l->w, (n + r) * l->k, l->k, row);
            for (int64_t i = 0; i < l->k; i++)
                tile[i * W + r] = row[i];
        }
        for (int64_t m = 0; m < l->m; m += 4) {
            int tokens = (int)(l->m - m < 4 ? l->m - m : 4);
            if (tokens == 4)
                tile_4(l->x + m * l->k, l->k, tile, l->k, sums);
            for (int t = 0; tokens < 4 && t < tokens; t++)
                tile_1(l->x + (m + t) * l->k, tile, l->k, sums + t * W);
            for (int t = 0; t < tokens; t++)
                memcpy(l->out + (m + t) * l->n + n, sums + t * W, (size_t)rows * sizeof *sums);
        }
    }
}

/* out[m,n] = sum over k of x[m,k] w[n,k]. */
static aq_status run_linear(aq_ref_exec *x, const aq_ref_val *in, const aq_ref_val *w, aq_ref_val *out) {
    linear l = {.w = w, .out = out->t.values, .n = w->t.dim[0], .k = w->t.dim[1]};
    double *scratch;
    void *tiles = NULL;
    aq_status status;
    AQ_TRY_GOTO(status, close, aq_ref_doubles(in, &scratch, &l.x));
    l.m = l.k ? aq_ref_count(&in->t) / l.k : 0;
    int threads = x->env->threads > 1 && l.m * l.n * l.k > 200000 ? x->env->threads : 1;
    l.grain = (l.n + threads - 1) / threads;
    l.grain = l.grain > W ? (l.grain + W - 1) / W * W : W;
    AQ_TRY_GOTO(status, close, aq_mem_alloc((size_t)((l.n + l.grain - 1) / l.grain * (W + 1) * l.k) * sizeof(double), &tiles));
    l.tiles = tiles;
    aq_parallel(threads, l.n, l.grain, linear_rows, &l);
close:
    aq_mem_free(tiles);
    aq_mem_free(scratch);
    return status;
}

aq_status aq_ref_op_matmul(aq_ref_exec *x, const aq_node *n) {
    aq_ref_val *out;
    AQ_TRY(aq_ref_result(x, n, &out));
    return run_linear(x, aq_ref_in(x, n, 0), aq_ref_in(x, n, 1), out);
}

/* --- any spec ---------------------------------------------------------------------------------------------------------------------------- */

/* "xyk,nk->xyn": the last letters of both sides reduced, the second's first letter last in the result. */
static int is_linear(const char *spec) {
    const char *comma = strchr(spec, ','), *arrow = strchr(spec, '>');
    size_t lead = (size_t)(comma - spec) - 1;
    return comma > spec && arrow - comma == 4 && comma[-1] == comma[2] && strlen(arrow + 1) == lead + 1 && !memcmp(spec, arrow + 1, lead) &&
           arrow[1 + lead] == comma[1] && !memchr(spec, comma[1], lead + 1);
}

typedef struct letters {
    int n, n_out;                 /* letters in all: those of the result, then the reduced ones in order of appearance */
    int64_t size[2 * AQ_MAX_RANK];
    int64_t step[2][2 * AQ_MAX_RANK];
} letters;

static void add_letter(letters *l, const char *const *side, const aq_ref_tensor *const *t, char c) {
    for (int s = 0; s < 2; s++) {
        int64_t run = 1;
        l->step[s][l->n] = 0;
        for (int i = t[s]->rank; i-- > 0; run *= t[s]->dim[i])
            if (side[s][i] == c)
                l->step[s][l->n] = run, l->size[l->n] = t[s]->dim[i];
    }
    l->n++;
}

static letters letters_of(const char *spec, const aq_ref_tensor *a, const aq_ref_tensor *b) {
    letters l = {0};
    const char *side[2] = {spec, strchr(spec, ',') + 1}, *out = strchr(spec, '>') + 1;
    const aq_ref_tensor *t[2] = {a, b};
    for (const char *p = out; *p; p++)
        add_letter(&l, side, t, *p);
    l.n_out = l.n;
    for (const char *p = spec; *p != '-'; p++)
        if (*p != ',' && !strchr(out, *p) && !memchr(spec, *p, (size_t)(p - spec)))
            add_letter(&l, side, t, *p);
    return l;
}

static void any_dot(const letters *l, const double *a, const double *b, double *out, int64_t count) {
    int64_t inner = 1;
    for (int i = l->n_out; i < l->n; i++)
        inner *= l->size[i];
    for (int64_t o = 0; o < count; o++) {
        int64_t base[2] = {0, 0}, rest = o;
        for (int i = l->n_out; i-- > 0; rest /= l->size[i])
            for (int s = 0; s < 2; s++)
                base[s] += rest % l->size[i] * l->step[s][i];
        double sum = 0;
        for (int64_t k = 0; k < inner; k++) {
            int64_t at[2] = {base[0], base[1]}, r = k;
            for (int i = l->n; i-- > l->n_out; r /= l->size[i])
                for (int s = 0; s < 2; s++)
                    at[s] += r % l->size[i] * l->step[s][i];
            sum += a[at[0]] * b[at[1]];
        }
        out[o] = sum;
    }
}

aq_status aq_ref_op_dot(aq_ref_exec *x, const aq_node *n) {
    const char *spec = aq_node_attr(x->m, n, AQ_ATTR_spec)->text;
    aq_ref_val *a = aq_ref_in(x, n, 0), *b = aq_ref_in(x, n, 1), *out;
    double *scratch[2] = {NULL, NULL};
    const double *p[2];
    aq_status status;
    AQ_TRY(aq_ref_result(x, n, &out));
    if (is_linear(spec))
        return run_linear(x, a, b, out);
    AQ_TRY_GOTO(status, close, aq_ref_doubles(a, &scratch[0], &p[0]));
    AQ_TRY_GOTO(status, close, aq_ref_doubles(b, &scratch[1], &p[1]));
    letters l = letters_of(spec, &a->t, &b->t);
    any_dot(&l, p[0], p[1], out->t.values, aq_ref_count(&out->t));
close:
    aq_mem_free(scratch[0]);
    aq_mem_free(scratch[1]);
    return status;
}
