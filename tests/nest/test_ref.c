/* test_ref.c: the nest interpreter against the same sums written out here: reductions, blocks, rope, attention in parts and merged, limits,
 * and that it sees a nest that reads outside of a buffer or relies on the order of its items. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "codegen/ref/ref.h"
#include "ir/random.h"

enum { T = 5, D = 64, N = 40 };

typedef struct world {
    aq_module m;
    aq_arena arena;
    int64_t sym[4];
} world;

static aq_nest *open_nest(world *w, const char *text) {
    aq_id id;
    aq_nest *n;
    memset(w, 0, sizeof *w);
    assert_int_equal(aq_module_open(&w->m, "test"), AQ_OK);
    assert_int_equal(aq_sym_add(&w->m, "T", 1, 4096, &id), AQ_OK);
    w->sym[id] = T;
    if (aq_read_nest(&w->m, &w->arena, "test.nest", text, strlen(text), &n))
        fail_msg("%s", aq_error());
    return n;
}

static void close_world(world *w) {
    aq_arena_close(&w->arena);
    aq_module_close(&w->m);
}

static void run(world *w, const aq_nest *n, void **buf) {
    for (uint64_t seed = 0; seed < 3; seed++)
        if (aq_ref_run_nest(n, buf, w->sym, seed))
            fail_msg("%s", aq_error());
}

static void fill(float *x, int n, uint64_t seed) {
    aq_random r = aq_random_open(seed);
    for (int i = 0; i < n; i++)
        x[i] = (float)aq_random_normal(&r);
}

static void near(double got, double want, double tolerance) {
    if (!(fabs(got - want) <= tolerance * (1 + fabs(want))))
        fail_msg("got %.9g, wanted %.9g", got, want);
}

static void norm_quantise_project_rotate(void **state) {
    (void)state;
    world w;
    aq_nest *n = open_nest(
        &w, "nest a(in %x: f32[T, 64], in @w: q8_0[40, 64] panel, in %pos: i32[T], out %y: f32[T, 40], scratch %n: a16[T, 64]) {\n"
            "axis t: T, d: 64, n: 40\n"
            "phase { tiles t by 2 { acc %s sum [t] for d by 32 lanes 16 { %s += mul(%x[t, d], %x[t, d]) }\n"
            "  for d by 32 lanes 16 { store %n[t, d] = quantize(mul(%x[t, d], rsqrt(add(mul(%s, 0.015625), 1e-05)))) {dtype=a16} } } }\n"
            "phase { tiles t by 3 { tiles n by 16 lanes 16 { acc %a sum [t, n] for d by 32 { %a += dot(%n[t, d], @w[n, d]) }\n"
            "  store %y[t, n] = rope(%a, %pos[t]) {dim=8, theta=100} } } } }");
    static float x[T * D], f[N * D], y[T * N];
    static unsigned char rows[N * D / 32 * 34], panel[48 * D / 32 * 34], scratch[T * D / 32 * 72];
    int32_t pos[T] = {0, 1, 7, 30, 2};
    fill(x, T * D, 1);
    fill(f, N * D, 2);
    aq_dtype_encode_f32(AQ_Q8_0, f, N * D, rows);
    aq_dtype_decode_f32(AQ_Q8_0, rows, 0, N * D, f);
    aq_layout_pack_panel(AQ_Q8_0, rows, N, D, 0, 0, N, panel);
    void *buf[] = {x, panel, pos, y, scratch};
    run(&w, n, buf);
    for (int t = 0; t < T; t++) {
        double s = 0, a[N] = {0};
        for (int d = 0; d < D; d++)
            s += (double)x[t * D + d] * x[t * D + d];
        for (int i = 0; i < N; i++)
            for (int d = 0; d < D; d++)
                a[i] += x[t * D + d] / sqrt(s / D + 1e-5) * f[i * D + d];
        for (int i = 0; i < N; i++) {
            double angle = pos[t] * pow(100, -2.0 * (i % 8 / 2) / 8), even = a[i & ~1], odd = a[i | 1];
            near(y[t * N + i], i & 1 ? even * sin(angle) + odd * cos(angle) : even * cos(angle) - odd * sin(angle), 1e-3);
        }
    }
    close_world(&w);
}

static void reductions_and_their_parts(void **state) {
    (void)state;
    world w;
    aq_nest *n =
        open_nest(&w, "nest b(in %x: f32[T, 64], in %len: i32[T], out %m: f32[T], out %i: i32[T], out %l: f32[T], out %s: f32[T]) {\n"
                      "axis t: T, d: 64 limit %len[t]\n"
                      "phase { tiles t by 1 { acc %m max [t] acc %i argmax [t] acc %l lse [t] acc %k lse [t] acc %s sum [t]\n"
                      "  for d by 7 { %m max= %x[t, d] %i argmax= %x[t, d] %l lse= %x[t, d] %s += %x[t, d] }\n"
                      "  for d by 16 lanes 8 { %k merge lse= %x[t, d], 1 }\n"
                      "  store %m[t] = %m store %i[t] = %i store %l[t] = mul(add(%l, %k), 0.5) store %s[t] = %s } } }");
    static float x[T * D], m[T], l[T], s[T];
    int32_t len[T] = {64, 1, 7, 8, 63}, at[T];
    fill(x, T * D, 3);
    void *buf[] = {x, len, m, at, l, s};
    run(&w, n, buf);
    for (int t = 0; t < T; t++) {
        double top = -INFINITY, e = 0, sum = 0;
        int best = 0;
        for (int d = 0; d < len[t]; d++) {
            best = x[t * D + d] > top ? d : best;
            top = fmax(top, x[t * D + d]);
            e += exp(x[t * D + d]);
            sum += x[t * D + d];
        }
        near(m[t], top, 0);
        assert_int_equal(at[t], best);
        near(l[t], log(e), 1e-6);
        near(s[t], sum, 1e-6);
    }
    close_world(&w);
}

static void attention_in_parts_equals_attention(void **state) {
    (void)state;
    world w;
    aq_nest *n =
        open_nest(&w, "nest c(in %p: f32[T, 40], in %v: f32[40, 64], out %y: f32[T, 64], scratch %m: f32[T, 4], scratch %l: f32[T, 4],\n"
                      "  scratch %o: f32[T, 4, 64]) {\n"
                      "axis t: T, c: 4, j: 10, e: 64\n"
                      "phase { tiles t by 2 { tiles c by 1 { for e { acc %o attend [t, c, e]\n"
                      "  for j by 5 { %o attend= %p[t, add(mul(c, 10), j)], %v[add(mul(c, 10), j), e] }\n"
                      "  store %m[t, c] = part(%o, 0) store %l[t, c] = part(%o, 1) store %o[t, c, e] = part(%o, 2) } } } }\n"
                      "phase { tiles t by 1 { for e by 16 lanes 16 { acc %u attend [t, e]\n"
                      "  for c by 1 { %u merge attend= %m[t, c], %l[t, c], %o[t, c, e] } store %y[t, e] = %u } } } }");
    static float p[T * 40], v[40 * 64], y[T * 64], m[T * 4], l[T * 4], o[T * 4 * 64];
    fill(p, T * 40, 4);
    fill(v, 40 * 64, 5);
    for (int s = 0; s < 40; s++) /* nothing to see for the first; a whole part unseen for the second */
        p[s] = -INFINITY, p[40 + s] = s < 10 ? -INFINITY : p[40 + s];
    void *buf[] = {p, v, y, m, l, o};
    run(&w, n, buf);
    for (int t = 0; t < T; t++)
        for (int e = 0; e < 64; e++) {
            double sum = 0, weight = 0;
            for (int s = 0; s < 40; s++) {
                sum += exp(p[t * 40 + s]) * v[s * 64 + e];
                weight += exp(p[t * 40 + s]);
            }
            near(y[t * 64 + e], weight == 0 ? 0 : sum / weight, 1e-5);
        }
    close_world(&w);
}

static void a_load_outside_is_seen(void **state) {
    (void)state;
    world w;
    aq_nest *n = open_nest(&w, "nest d(in %x: f32[T, 64], out %y: f32[T, 64]) { axis t: T, d: 64\n"
                               "phase { tiles t by 2 { for d by 16 lanes 16 { store %y[t, d] = %x[t, add(d, 1)] } } } }");
    static float x[T * D], y[T * D];
    void *buf[] = {x, y};
    assert_int_equal(aq_ref_run_nest(n, buf, w.sym, 0), AQ_CHECK_FAILED);
    assert_non_null(strstr(aq_error(), "subscript 1 of %x is 64"));
    close_world(&w);
}

static void what_relies_on_order_gives_nan(void **state) {
    (void)state;
    world w;
    aq_nest *n = open_nest(&w, "nest e(in %x: f32[T, 64], out %y: f32[T, 64], scratch %z: f32[T, 64]) { axis t: T, d: 64, u: T, e: 64\n"
                               "phase { tiles t by 1 { for d by 16 lanes 16 { store %z[t, d] = %x[t, d] } }\n"
                               "        tiles u by 1 { for e by 16 lanes 16 { store %y[u, e] = %z[u, e] } } } }");
    static float x[T * D], y[T * D];
    void *all[] = {x, y, (float[T * D]){0}};
    fill(x, T * D, 6);
    assert_int_equal(aq_ref_run_nest(n, all, w.sym, 7), AQ_OK);
    int bad = 0;
    for (int i = 0; i < T * D; i++)
        bad += isnan(y[i]) != 0;
    assert_true(bad > 0);
    close_world(&w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(norm_quantise_project_rotate),        cmocka_unit_test(reductions_and_their_parts),
        cmocka_unit_test(attention_in_parts_equals_attention), cmocka_unit_test(a_load_outside_is_seen),
        cmocka_unit_test(what_relies_on_order_gives_nan),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
