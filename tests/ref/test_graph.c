/* test_graph.c: the reference against numbers worked out here, op by op, by other code: plain formulas on small arrays. */
#include "codegen/ref/map.h"
#include "codegen/ref/sample.h"
#include "ir/memory.h"
#include "tests/support/random_module.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define CHECK(e)                                                                                                                           \
    do {                                                                                                                                   \
        if ((e) != AQ_OK)                                                                                                                  \
            fail_msg("%s\n%s", aq_error(), aq_error_detail());                                                                             \
    } while (0)

typedef struct ran {
    aq_module m;
    aq_arena a;
    aq_ref_inputs in;
    aq_ref_tensor out[8];
} ran;

/* Reads "model m { <declarations> graph g(..) .. }" and runs it on inputs of the seed; x, y.. are params 0, 1.. */
static void run(ran *r, const char *text, uint64_t seed, int threads) {
    memset(r, 0, sizeof *r);
    CHECK(aq_read_module("t", text, strlen(text), NULL, 0, &r->m));
    CHECK(aq_ref_make_inputs(&r->m, r->m.graphs.at[0], seed, &r->a, &r->in));
    aq_ref_env env = {.sym = r->in.sym, .weights = r->in.weights, .states = r->in.states, .batch = &r->in.batch, .threads = threads};
    CHECK(aq_ref_run(&r->m, r->m.graphs.at[0], &env, r->in.in, &r->a, r->out));
}

static void close_run(ran *r) {
    aq_arena_close(&r->a);
    aq_module_close(&r->m);
    assert_int_equal(aq_mem_open_blocks(), 0);
}

static void near(const char *what, int64_t i, double got, double want) {
    double slack = 1e-12 * (1 + fabs(want));
    if (!(fabs(got - want) <= slack) && !(got == want) && !(isnan(got) && isnan(want)))
        fail_msg("%s: element %d is %.17g, expected %.17g", what, (int)i, got, want);
}

/* --- maps: every op that is one, by its formula ---------------------------------------------------------------------------------------- */

static double plain(aq_op op, double a, double b, double c) {
    switch (op) {
    case AQ_OP_add: return a + b;
    case AQ_OP_sub: return a - b;
    case AQ_OP_mul: return a * b;
    case AQ_OP_div: return a / b;
    case AQ_OP_maximum: return isnan(a) || isnan(b) ? NAN : fmax(a, b);
    case AQ_OP_minimum: return isnan(a) || isnan(b) ? NAN : fmin(a, b);
    case AQ_OP_neg: return 0 - a;
    case AQ_OP_exp: return pow(2.718281828459045235360287, a);
    case AQ_OP_log: return a < 0 ? NAN : log2(a) * 0.693147180559945309417232;
    case AQ_OP_sqrt: return a < 0 ? NAN : pow(a, 0.5);
    case AQ_OP_rsqrt: return a < 0 ? NAN : pow(a, -0.5);
    case AQ_OP_sigmoid: return 0.5 + 0.5 * tanh(a / 2);
    case AQ_OP_silu: return a * (0.5 + 0.5 * tanh(a / 2));
    case AQ_OP_tanh: return (exp(a) - exp(-a)) / (exp(a) + exp(-a));
    case AQ_OP_le: return a <= b;
    case AQ_OP_select: return a != 0 ? b : c;
    default: return NAN;
    }
}

static void every_map(void **state) {
    (void)state;
    for (int op = 1; op < AQ_OP_COUNT; op++) {
        const aq_op_info *info = aq_op_of((aq_op)op);
        int special = op == AQ_OP_cast || op == AQ_OP_quantize || op == AQ_OP_rope;
        if (!(info->traits & AQ_MAP))
            continue;
        if (!special && !aq_ref_map_of((aq_op)op))
            fail_msg("op %s is a map and ref has no function for it", info->name);
        if (special || (info->traits & AQ_INDEX))
            continue;
        char text[400];
        snprintf(text, sizeof text, "model m { sym T in 1..64 graph g(%%x: f32[T, 3, 5], %%y: f32[3, 1], %%z: f32[T, 1, 5]) -> f32[T, 3, 5] {\n"
                                    "%%r = %s %s %%o = add (mul (add (add %%x, %%y), %%z), 0), %%r return %%o } }",
                 info->name, info->arity == 1 ? "%x" : info->arity == 2 ? "%x, %y" : "%x, %y, %z");
        ran r;
        run(&r, text, (uint64_t)op, 1);
        for (int64_t i = 0; i < r.in.sym[1] * 15; i++)
            near(info->name, i, r.out[0].values[i], plain((aq_op)op, r.in.in[0].values[i], r.in.in[1].values[i / 5 % 3], r.in.in[2].values[i / 15 * 5 + i % 5]));
        close_run(&r);
    }
    assert_true(isnan(aq_ref_map_of(AQ_OP_maximum)(1, NAN, 0)) && isnan(aq_ref_map_of(AQ_OP_maximum)(NAN, 1, 0)));
    assert_true(isnan(aq_ref_map_of(AQ_OP_minimum)(1, NAN, 0)) && isnan(aq_ref_map_of(AQ_OP_minimum)(NAN, 1, 0)));
}

static void integers(void **state) {
    (void)state;
    ran r;
    run(&r, "model m { sym T in 1..64 graph g(%i: i32[T]) -> i32[T], i32[T], i32[T] { %j = sub %i, 7 return (idiv %j, 4), (imod %j, 4), (maximum %j, 0) } }", 3, 1);
    for (int64_t i = 0; i < r.in.sym[1]; i++) {
        int j = (int)r.in.in[0].values[i] - 7, floor4 = j >= 0 ? j / 4 : -((3 - j) / 4);
        near("idiv", i, r.out[0].values[i], floor4);
        near("imod", i, r.out[1].values[i], j - 4 * floor4);
        near("maximum", i, r.out[2].values[i], j > 0 ? j : 0);
    }
    close_run(&r);
}

static void casts_round_as_they_are_stored(void **state) {
    (void)state;
    ran r;
    run(&r, "model m { sym T in 1..64 weight @w: q4_1[4, 64] weight @h: bf16[4, 64]\n"
            "graph g(%x: f32[T, 64]) -> bf16[T, 64], f16[T, 64], i8[T, 64], f32[4, 64], a16[T, 64], a8[T, 64], f32[4, 64] {\n"
            "return (cast %x {dtype=bf16}), (cast %x {dtype=f16}), (cast (mul %x, 100) {dtype=i8}), (cast @w {dtype=f32}), (quantize %x {dtype=a16}),"
            " (quantize %x {dtype=a8}), (cast @h {dtype=f32}) } }",
        5, 1);
    for (int64_t i = 0; i < r.in.sym[1] * 64; i++) {
        double x = r.in.in[0].values[i], q[64];
        near("bf16", i, r.out[0].values[i], (double)aq_bf16_to_f32(aq_f32_to_bf16((float)x)));
        near("f16", i, r.out[1].values[i], (double)aq_f16_to_f32(aq_f32_to_f16((float)x)));
        near("i8", i, r.out[2].values[i], rint(x * 100) > 127 ? 127 : rint(x * 100) < -128 ? -128 : rint(x * 100));
        aq_dtype_decode_f64(AQ_A16, r.out[4].blocks, (size_t)i / 64 * 64, 64, q);
        assert_true(fabs(q[i % 64] - x) < 1e-3);
        aq_dtype_decode_f64(AQ_A8, r.out[5].blocks, (size_t)i / 64 * 64, 64, q);
        assert_true(fabs(q[i % 64] - x) < 3e-2);
    }
    double w[256], h[256];
    aq_dtype_decode_f64(AQ_Q4_1, r.in.weights[0].blocks, 0, 256, w);
    aq_dtype_decode_f64(AQ_BF16, r.in.weights[1].blocks, 0, 256, h);
    for (int i = 0; i < 256; i++) {
        near("cast q4_1", i, r.out[3].values[i], (double)(float)w[i]);
        near("cast bf16", i, r.out[6].values[i], h[i]);
    }
    close_run(&r);
}

/* --- reductions, contractions ------------------------------------------------------------------------------------------------------------ */

static void reductions(void **state) {
    (void)state;
    ran r;
    run(&r, "model m { sym T in 1..64 weight @g: f32[9] graph g(%x: f32[T, 9]) -> f32[T, 1], f32[T, 1], f32[T, 1], f32[T, 1], i32[T, 1], f32[T, 9], f32[T, 9] {\n"
            "return (sum %x), (rmax %x), (lse %x), (rms %x {eps=0.5}), (argmax %x), (softmax %x), (rmsnorm %x, @g {eps=0.5}) } }",
        7, 1);
    for (int64_t t = 0; t < r.in.sym[1]; t++) {
        const double *x = r.in.in[0].values + 9 * t;
        double sum = 0, squares = 0, powers = 0;
        int best = 0;
        for (int i = 0; i < 9; i++) {
            sum += x[i], squares += x[i] * x[i], powers += exp(x[i]);
            best = x[i] > x[best] ? i : best;
        }
        near("sum", t, r.out[0].values[t], sum);
        near("rmax", t, r.out[1].values[t], x[best]);
        near("lse", t, r.out[2].values[t], log(powers));
        near("rms", t, r.out[3].values[t], 1 / sqrt(squares / 9 + 0.5));
        near("argmax", t, r.out[4].values[t], best);
        for (int i = 0; i < 9; i++) {
            double g;
            aq_dtype_decode_f64(AQ_F32, r.in.weights[0].blocks, (size_t)i, 1, &g);
            near("softmax", t, r.out[5].values[t * 9 + i], exp(x[i]) / powers);
            near("rmsnorm", t, r.out[6].values[t * 9 + i], x[i] * g / sqrt(squares / 9 + 0.5));
        }
    }
    close_run(&r);
}

/* Both ways through graph_dot.c give the plain sum; tiles of 8 rows and 4 tokens have every kind of edge. */
static void contractions(void **state) {
    (void)state;
    for (int n = 1; n <= 19; n += 3) {
        char text[700];
        ran r;
        snprintf(text, sizeof text, "model m { sym T in 1..64 weight @w: q8_0[%d, 96] weight @v: f32[96, %d] graph g(%%x: f32[T, 96], %%y: f32[T, 2, 96]) -> "
                                    "f32[T, %d], f32[T, %d], f32[%d, T], f32[T, %d], f32[T, 2, %d], f32[T, %d] {\n"
                                    "return (matmul %%x, @w), (dot %%x, (cast @w {dtype=f32}) {spec=\"tk,nk->tn\"}), (dot (cast @w {dtype=f32}), %%x {spec=\"nk,tk->nt\"}),"
                                    "(dot %%x, @v {spec=\"tk,kn->tn\"}), (matmul %%y, @w), (dot (quantize %%x {dtype=a16}), @w {spec=\"tk,nk->tn\"}) } }",
                 n, n, n, n, n, n, n, n);
        run(&r, text, (uint64_t)n, 1);
        double *w = calloc((size_t)n * 96, sizeof *w), *v = calloc((size_t)n * 96, sizeof *v);
        aq_dtype_decode_f64(AQ_Q8_0, r.in.weights[0].blocks, 0, (size_t)n * 96, w);
        aq_dtype_decode_f64(AQ_F32, r.in.weights[1].blocks, 0, (size_t)n * 96, v);
        for (int64_t t = 0; t < r.in.sym[1]; t++)
            for (int j = 0; j < n; j++) {
                double xw = 0, xv = 0, yw[2] = {0, 0};
                for (int k = 0; k < 96; k++) {
                    xw += r.in.in[0].values[t * 96 + k] * w[j * 96 + k];
                    xv += r.in.in[0].values[t * 96 + k] * v[k * n + j];
                    yw[0] += r.in.in[1].values[t * 192 + k] * w[j * 96 + k];
                    yw[1] += r.in.in[1].values[t * 192 + 96 + k] * w[j * 96 + k];
                }
                assert_true(r.out[0].values[t * n + j] == xw); /* the same sum in the same order: the same bits */
                near("dot cast", j, r.out[1].values[t * n + j], xw);
                near("dot nk,tk->nt", j, r.out[2].values[j * r.in.sym[1] + t], xw);
                near("dot tk,kn->tn", j, r.out[3].values[t * n + j], xv);
                near("matmul of rank 3", j, r.out[4].values[(t * 2 + 0) * n + j], yw[0]);
                near("matmul of rank 3", j, r.out[4].values[(t * 2 + 1) * n + j], yw[1]);
                assert_true(fabs(r.out[5].values[t * n + j] - xw) < 1e-3 * (1 + fabs(xw)));
            }
        free(w), free(v);
        close_run(&r);
    }
}

static void threads_change_no_bits(void **state) {
    (void)state;
    const char *text = "model m { sym T in 5..64 sym S in 64..4096 sym B in 1..4 sym P in 1..64 weight @w: q4_0[300, 512] state $k: f32[S, 3, 32]\n"
                       "graph g(%x: f32[T, 512], %q: f32[T, 9, 32], %b: batch) -> f32[T, 300], f32[T, 9, 32] {\n"
                       "return (matmul %x, @w), (attend %q, $k, $k, %b {scale=0.2}) } }";
    for (int threads = 1; threads <= 7; threads += 2) {
        ran one, many;
        memset(&one, 0, sizeof one);
        run(&many, text, 11, threads);
        aq_arena keep = {0};
        double *first;
        int64_t n = many.in.sym[1] * 300;
        CHECK(aq_arena_alloc(&keep, (size_t)n * 2, sizeof(double), (void **)&first));
        memcpy(first, many.out[0].values, (size_t)n * sizeof *first);
        memcpy(first + n, many.out[1].values, (size_t)many.in.sym[1] * 288 * sizeof *first);
        aq_arena_close(&many.a), aq_module_close(&many.m);
        run(&one, text, 11, 1);
        assert_memory_equal(one.out[0].values, first, (size_t)n * sizeof *first);
        assert_memory_equal(one.out[1].values, first + n, (size_t)one.in.sym[1] * 288 * sizeof *first);
        aq_arena_close(&keep);
        close_run(&one);
    }
}

/* --- positions and caches ------------------------------------------------------------------------------------------------------------------ */

static void rope_turns_pairs(void **state) {
    (void)state;
    ran r;
    run(&r, "model m { sym T in 1..64 sym B in 1..3 sym P in 1..9 sym S in 64..4096 graph g(%x: f32[T, 2, 16], %y: f32[T, 16], %b: batch) -> f32[T, 2, 16], f32[T, 16] {\n"
            "return (rope %x, %b.pos {theta=500}), (rope %y, %b.pos {theta=500, dim=8, factor=4}) } }",
        13, 1);
    for (int64_t t = 0; t < r.in.sym[1]; t++)
        for (int i = 0; i < 16; i += 2) {
            double pos = r.in.batch.field[0][t], a = pos * pow(500, -i / 16.0), b = pos / 4 * pow(500, -(i % 8) / 8.0);
            for (int h = 0; h < 2; h++) {
                const double *x = r.in.in[0].values + t * 32 + h * 16 + i, *o = r.out[0].values + t * 32 + h * 16 + i;
                assert_true(fabs(o[0] - (x[0] * cos(a) - x[1] * sin(a))) < 1e-12 && fabs(o[1] - (x[0] * sin(a) + x[1] * cos(a))) < 1e-12);
            }
            const double *y = r.in.in[1].values + t * 16 + i, *o = r.out[1].values + t * 16 + i;
            assert_true(fabs(o[0] - (y[0] * cos(b) - y[1] * sin(b))) < 1e-12 && fabs(o[1] - (y[0] * sin(b) + y[1] * cos(b))) < 1e-12);
        }
    close_run(&r);
    double c, s;
    aq_ref_rope_turn(&(aq_rope){.theta = 10000, .factor = 2, .gain = 1, .dim = 64}, 3, 1000, &c, &s);
    near("cos", 0, c, cos(500 / pow(10000, 6.0 / 64)));
    near("sin", 0, s, sin(500 / pow(10000, 6.0 / 64)));
}

/* Appends, then attends: against a softmax over the sequence's own positions, gathered through the page table by hand. */
static void attend_through_pages(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 12; seed++)
        for (int causal = 0; causal < 2; causal++) {
            char text[600];
            ran r;
            snprintf(text, sizeof text, "model m { sym T in 1..64 sym S in 64..4096 sym B in 1..3 sym P in 1..64 state $k: f16[S, 2, 8] state $v: f32[S, 2, 8]\n"
                                        "graph g(%%q: f32[T, 6, 8], %%k: f32[T, 2, 8], %%v: f32[T, 2, 8], %%b: batch) -> f32[T, 6, 8] {\n"
                                        "append $k, %%k, %%b append $v, %%v, %%b return attend %%q, $k, $v, %%b {scale=0.3%s} } }",
                     causal ? ", causal" : "");
            run(&r, text, seed, 2);
            const int32_t *const *f = r.in.batch.field;
            for (int64_t b = 0; b < r.in.batch.n[2]; b++)
                for (int64_t t = f[2][b]; t < f[2][b] + f[3][b]; t++)
                    for (int h = 0; h < 6; h++) {
                        double p[400], sum = 0, o[8] = {0};
                        int64_t seen = causal ? f[0][t] + 1 : f[4][b], table = r.in.batch.n[5] / r.in.batch.n[2];
                        for (int64_t s = 0; s < seen; s++) {
                            int64_t row = (int64_t)f[5][b * table + s / 64] * 64 + s % 64;
                            double score = 0;
                            for (int e = 0; e < 8; e++)
                                score += r.in.in[0].values[(t * 6 + h) * 8 + e] * r.in.states[0].values[(row * 2 + h / 3) * 8 + e];
                            sum += p[s] = exp(0.3 * score);
                            for (int e = 0; e < 8; e++)
                                o[e] += p[s] * r.in.states[1].values[(row * 2 + h / 3) * 8 + e];
                        }
                        for (int e = 0; e < 8; e++)
                            near("attend", e, r.out[0].values[(t * 6 + h) * 8 + e], o[e] / sum);
                    }
            for (int64_t t = 0; t < r.in.sym[1]; t++)
                for (int e = 0; e < 16; e++) {
                    near("append", e, r.in.states[0].values[f[1][t] * 16 + e], aq_ref_round(AQ_F16, r.in.in[1].values[t * 16 + e]));
                    near("append", e, r.in.states[1].values[f[1][t] * 16 + e], r.in.in[2].values[t * 16 + e]);
                }
            close_run(&r);
        }
}

/* SSA: a reader of the old version sees the old numbers, whatever was appended since, through views and regions too. */
static void old_versions_keep_their_numbers(void **state) {
    (void)state;
    static const char head[] = "model m { sym T in 1..64 sym S in 64..4096 sym B in 1..3 sym P in 1..64 state $k: f32[S, 2, 8]\n"
                               "graph g(%x: f32[T, 2, 8], %q: f32[T, 2, 8], %b: batch) -> f32[T, 2, 8], f32[S, 16] {\n";
    static const char *const bodies[] = {
        "%o = attend %q, $k, $k, %b {scale=1} %m = add (merge $k), 0 $k'1 = append $k, %x, %b return %o, %m } }",
        "%m = merge $k $k'1 = append $k, %x, %b %o = attend %q, $k, $k, %b {scale=1} return %o, (add %m, 0) } }",
        "%m = merge $k $k'1 = fused(%x, $k, %b) { $k'1 = append $k, %x, %b yield $k'1 } %o = attend %q, $k, $k, %b {scale=1} return %o, (add %m, 0) } }",
        "%m, $k'1 = fused(%x, $k, %b) { %m = merge $k $k'1 = append $k, %x, %b yield %m, $k'1 } %o = attend %q, $k, $k, %b {scale=1} return %o, %m } }",
    };
    ran first, r;
    char text[900];
    snprintf(text, sizeof text, "%s%s", head, bodies[0]);
    run(&first, text, 21, 1);
    for (int i = 1; i < 4; i++) {
        snprintf(text, sizeof text, "%s%s", head, bodies[i]);
        run(&r, text, 21, 1);
        for (int k = 0; k < 2; k++)
            for (int64_t e = 0; e < (k ? r.in.sym[2] : r.in.sym[1]) * 16; e++)
                if (r.out[k].values[e] != first.out[k].values[e])
                    fail_msg("form %d: result %d, element %d is %g, expected %g", i, k, (int)e, r.out[k].values[e], first.out[k].values[e]);
        aq_arena_close(&r.a), aq_module_close(&r.m);
    }
    close_run(&first);
}

static void gathers_and_views(void **state) {
    (void)state;
    ran r;
    run(&r, "model m { sym T in 1..64 weight @w: q4_0[5, 32] graph g(%x: f32[T, 3, 8], %i: i32[T]) -> f32[T, 32], f32[8, T, 3], f32[T, 3, 5], f32[T, 4, 6], f32[T, 32] {\n"
            "return (rows @w, %i), (transpose %x {perm=[2, 0, 1]}), (slice %x {begin=2, end=7}), (reshape %x {shape=[T, 4, 6]}), (rows @w, (sub %i, 100)) } }",
        17, 1);
    int64_t T = r.in.sym[1];
    for (int64_t t = 0; t < T; t++) {
        double row[32], zero[32];
        aq_dtype_decode_f64(AQ_Q4_0, r.in.weights[0].blocks, (size_t)r.in.in[1].values[t] * 32, 32, row);
        aq_dtype_decode_f64(AQ_Q4_0, r.in.weights[0].blocks, 0, 32, zero);
        for (int e = 0; e < 32; e++) {
            near("rows", e, r.out[0].values[t * 32 + e], row[e]);
            near("rows out of range", e, r.out[4].values[t * 32 + e], zero[e]);
        }
        for (int e = 0; e < 24; e++) {
            double x = r.in.in[0].values[t * 24 + e];
            near("transpose", e, r.out[1].values[(e % 8 * T + t) * 3 + e / 8], x);
            near("reshape", e, r.out[3].values[t * 24 + e], x);
            if (e % 8 >= 2 && e % 8 < 7)
                near("slice", e, r.out[2].values[t * 15 + e / 8 * 5 + e % 8 - 2], x);
        }
    }
    close_run(&r);
}

/* --- refusals ------------------------------------------------------------------------------------------------------------------------------ */

static void bad_batches_and_tensors_are_refused(void **state) {
    (void)state;
    ran r;
    run(&r, "model m { sym T in 3..64 sym S in 64..4096 sym B in 2..3 sym P in 1..64 weight @w: f32[4, 16] state $k: f32[S, 2, 8]\n"
            "graph g(%q: f32[T, 2, 8], %b: batch) -> f32[T, 4] { append $k, %q, %b return matmul (merge (attend %q, $k, $k, %b {scale=1})), @w } }",
        31, 1);
    aq_ref_env env = {.sym = r.in.sym, .weights = r.in.weights, .states = r.in.states, .batch = &r.in.batch, .threads = 1};
    aq_id g = r.m.graphs.at[0];
    for (int f = 1; f < 6; f++) {
        const int32_t *good = r.in.batch.field[f];
        static const int32_t junk[] = {-1, 1 << 20, INT32_MAX, INT32_MIN};
        for (int j = 0; j < 4; j++) {
            int32_t *bad;
            CHECK(aq_arena_alloc(&r.a, (size_t)r.in.batch.n[f], sizeof *bad, (void **)&bad));
            for (int64_t i = 0; i < r.in.batch.n[f]; i++)
                bad[i] = junk[j];
            r.in.batch.field[f] = bad;
            aq_status status = aq_ref_run(&r.m, g, &env, r.in.in, &r.a, r.out);
            if (status != AQ_REFUSED)
                fail_msg("batch array %s of %d everywhere: status %d", aq_batch_field_of(f)->name, junk[j], status);
        }
        r.in.batch.field[f] = good;
        int64_t n = r.in.batch.n[f];
        r.in.batch.n[f] = 0;
        assert_int_equal(f == 2 ? AQ_REFUSED : aq_ref_run(&r.m, g, &env, r.in.in, &r.a, r.out), AQ_REFUSED);
        r.in.batch.n[f] = n;
    }
    r.in.weights[0].dim[0] = 3;
    assert_int_equal(aq_ref_run(&r.m, g, &env, r.in.in, &r.a, r.out), AQ_REFUSED);
    r.in.weights[0].dim[0] = 4;
    r.in.in[0].dim[1] = 1;
    assert_int_equal(aq_ref_run(&r.m, g, &env, r.in.in, &r.a, r.out), AQ_REFUSED);
    r.in.in[0].dim[1] = 2;
    CHECK(aq_ref_run(&r.m, g, &env, r.in.in, &r.a, r.out));
    aq_status status = AQ_NO_MEMORY;
    for (long nth = 1; status != AQ_OK; nth++) {
        aq_mem_fail_after(nth);
        status = aq_ref_run(&r.m, g, &env, r.in.in, &r.a, r.out);
        aq_mem_fail_after(0);
        if (status != AQ_OK && status != AQ_NO_MEMORY)
            fail_msg("allocation %ld fails: %s", nth, aq_error());
    }
    close_run(&r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_map),        cmocka_unit_test(integers),         cmocka_unit_test(casts_round_as_they_are_stored),
        cmocka_unit_test(reductions),       cmocka_unit_test(contractions),     cmocka_unit_test(threads_change_no_bits),
        cmocka_unit_test(rope_turns_pairs), cmocka_unit_test(attend_through_pages), cmocka_unit_test(old_versions_keep_their_numbers),
        cmocka_unit_test(gathers_and_views), cmocka_unit_test(bad_batches_and_tensors_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
