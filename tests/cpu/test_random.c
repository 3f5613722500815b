/* test_random.c: random nests (shapes, steps, lanes, layouts, types, ops drawn by seed) against the interpreter. A failure prints the nest
 * and its seed; AQ_SEED=N runs that one alone with all levels. A nest that the emitter refuses counts as a failure too, unless its message
 * says which limit was met. */
#include "tests/cpu/kernel.h"

typedef struct writer {
    char text[8192];
    size_t n;
    aq_random r;
} writer;

static void add(writer *w, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void add(writer *w, const char *format, ...) {
    va_list args;
    va_start(args, format);
    w->n += (size_t)vsnprintf(w->text + w->n, sizeof w->text - w->n, format, args);
    va_end(args);
    assert_true(w->n < sizeof w->text);
}

static int below(writer *w, int n) {
    return (int)aq_random_below(&w->r, (uint32_t)n);
}
static int between(writer *w, int lo, int hi) {
    return lo + below(w, hi - lo + 1);
}
static const char *one_of(writer *w, const char *const *list, int n) {
    return list[below(w, n)];
}
#define ONE_OF(w, ...) one_of(w, (const char *const[]){__VA_ARGS__}, (int)(sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *)))

/* "by STEP" or "by STEP lanes L" */
static void add_step(writer *w, int lanes, int whole_blocks) {
    if (lanes) {
        int l = 2 << below(w, 5);
        if (whole_blocks)
            l = 16;
        add(w, "by %d lanes %d", l << below(w, 3), l);
    } else
        add(w, "by %d", whole_blocks ? 32 * between(w, 1, 3) : between(w, 1, 7));
}

/* An expression of %x[t, d], %g[d], a row number and constants. */
static void add_expression(writer *w, int depth) {
    if (depth == 0 || below(w, 6) == 0) {
        switch (below(w, 6)) {
        case 0:
            add(w, "%.3f", between(w, -300, 300) / 100.0);
            return;
        case 1:
            add(w, "%%g[d]");
            return;
        case 2:
            add(w, "t");
            return;
        case 3:
            add(w, "idiv(mul(d, 3), %d)", between(w, 1, 9));
            return;
        default:
            add(w, "%%x[t, d]");
            return;
        }
    }
    static const char *const unary[] = {"neg", "exp", "sigmoid", "silu", "tanh"}, *const binary[] = {"add", "sub", "mul", "maximum",
                                                                                                     "minimum"};
    switch (below(w, 4)) {
    case 0:
        add(w, "%s(", one_of(w, unary, 5));
        add(w, "minimum(");
        add_expression(w, depth - 1);
        add(w, ", 3))");
        return;
    case 1:
        add(w, "select(le(");
        add_expression(w, depth - 1);
        add(w, ", 0.5), ");
        add_expression(w, depth - 1);
        add(w, ", ");
        add_expression(w, depth - 1);
        add(w, ")");
        return;
    default:
        add(w, "%s(", one_of(w, binary, 5));
        add_expression(w, depth - 1);
        add(w, ", ");
        add_expression(w, depth - 1);
        add(w, ")");
    }
}

static void write_map(writer *w) {
    int D = between(w, 1, 70);
    const char *panel = ONE_OF(w, "", "panel");
    add(w, "nest m(in %%x: %s[T, %d] %s, in %%g: %s[%d], out %%y: %s[T, %d] %s) { axis t: T, d: %d\nphase { ",
        ONE_OF(w, "f32", "bf16", "f16"), D, panel, ONE_OF(w, "f32", "bf16", "i8"), D, ONE_OF(w, "f32", "bf16", "f16", "f64"), D,
        ONE_OF(w, "", "panel"), D);
    int t_lanes = below(w, 4) == 0, d_tiles = below(w, 2);
    add(w, "tiles t ");
    add_step(w, t_lanes, 0);
    add(w, " { %s d ", d_tiles ? "tiles" : "for");
    add_step(w, !t_lanes && below(w, 4), 0);
    add(w, " { %s", below(w, 2) ? "let %u = " : "store %y[t, d] = ");
    int is_let = w->text[w->n - 2] == '=' && strstr(w->text, "let %u");
    add_expression(w, 3);
    if (is_let)
        add(w, " store %%y[t, d] = mul(%%u, 0.5)");
    add(w, " } } } }");
}

static void write_reduction(writer *w) {
    int D = between(w, 1, 90), N = between(w, 1, 40), own_lanes = below(w, 2), lanes = !own_lanes && below(w, 3);
    const char *monoid = ONE_OF(w, "sum", "max", "lse", "argmax");
    int is_dot = !strcmp(monoid, "sum") && below(w, 2);
    add(w, "nest r(in %%x: f32[T, %d], in @w: %s[%d, %d] %s, out %%y: %s[T, %d]) { axis t: T, n: %d, d: %d\nphase { tiles n ", D,
        ONE_OF(w, "f32", "bf16", "f16"), N, D, ONE_OF(w, "", "panel"), strcmp(monoid, "argmax") ? "f32" : "i32", N, N, D);
    add_step(w, own_lanes, 0);
    add(w, " { tiles t ");
    add_step(w, 0, 0);
    add(w, " { acc %%a %s [t, n] for d ", monoid);
    add_step(w, lanes, 0);
    const char *sign = !strcmp(monoid, "sum") ? "+" : monoid;
    add(w, " { %%a %s= %s(%%x[t, d], @w[n, d]) } store %%y[t, n] = %%a } } } }", sign, is_dot ? "dot" : "mul");
}

static void write_blocks(writer *w) {
    const char *weight = ONE_OF(w, "q4_0", "q4_1", "q8_0", "q5_0", "q5_1", "q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "iq4_nl", "iq4_xs");
    int K = aq_dtype_of(aq_dtype_by_name(weight, strlen(weight)))->block == 256 ? 256 * between(w, 1, 2) : 32 * between(w, 1, 5), N = between(w, 1, 50);
    int two = below(w, 3) == 0;
    const char *act = ONE_OF(w, "a16", "a8"), *layout = ONE_OF(w, "panel", "panel", "");
    add(w,
        "nest b(in %%x: f32[T, %d], in @w: %s[%d, %d] %s, in @v: %s[%d, %d] %s, out %%y: f32[T, %d], scratch %%q: %s[T, %d], "
        "local %%l: %s[48, %d] wide) { axis t: T, n: %d, d: %d\n",
        K, weight, N, K, layout, weight, N, K, layout, N, act, K, weight, K, N, K);
    add(w, "phase { tiles t by %d { tiles d by %d lanes 16 { store %%q[t, d] = quantize(mul(%%x[t, d], 0.7)) {dtype=%s} } } }\n",
        between(w, 1, 3), 32 * between(w, 1, 2), act);
    add(w, "phase { tiles t by %d { tiles n ", 6 * between(w, 1, 3));
    int rows = below(w, 3) ? 16 * between(w, 1, 3) : 0;
    if (rows)
        add(w, "by %d lanes 16", rows);
    else
        add_step(w, below(w, 2), 0);
    int opened = rows && !strcmp(layout, "panel") && below(w, 2); /* one of the two through local memory */
    if (opened)
        add(w, " { for d by %d { store %%l[imod(n, %d), d] = @w[n, d] }", 32 * between(w, 1, 2), rows);
    else
        add(w, " {");
    add(w, " for t by %d { acc %%a sum [t, n] acc %%b sum [t, n] for d by %d { %%a += dot(%%q[t, d], ", between(w, 1, 6), 32 * between(w, 1, 2));
    add(w, opened ? "%%l[imod(n, %d), d])" : "@w[n, d])", rows);
    add(w, two ? " %%b += dot(%%q[t, d], @v[n, d]) }" : " }");
    add(w, " store %%y[t, n] = add(%%a, %%b) } } } } }");
}

static void write_attention(writer *w) {
    int E = 16 * between(w, 1, 5), S = between(w, 1, 100), H = between(w, 1, 3);
    add(w, "nest a(in %%q: f32[T, %d], in @k: f32[%d, %d] %s, in @v: %s[%d, %d], in %%len: i32[T], out %%y: f32[T, %d, %d]) {\n", E, S, E,
        ONE_OF(w, "", "panel"), ONE_OF(w, "f32", "f16"), S, E, H, E);
    add(w,
        "axis t: T, h: %d, s: %d limit %%len[t], d: %d, e: %d\nphase { tiles t by %d { tiles h by %d { for e by %d lanes 16 { acc %%o "
        "attend [t, h, e]\n",
        H, S, E, E, between(w, 1, 3), between(w, 1, H), E);
    add(w, "for s ");
    add_step(w, below(w, 3), 0);
    add(w, " { acc %%p sum [t, s] for d by %d { %%p += dot(%%q[t, d], @k[s, d]) }\n", between(w, 1, 5));
    add(w,
        "%%o attend= select(le(add(s, 1), %%len[t]), mul(%%p, mul(0.1, add(h, 1))), -inf), @v[s, e] }\nstore %%y[t, h, e] = %%o } } } } }");
}

static void limit_lengths(kernel *k) {
    for (aq_id i = 1; i < k->n->bufs.n; i++)
        if (!strcmp(k->n->bufs.at[i].name, "@v")) {
            int32_t *len = kernel_buf(k, "%len");
            for (int64_t t = 0; t < k->sym[AQ_SYM_T]; t++)
                len[t] = (int32_t)(len[t] % (k->n->bufs.at[i].type.dim[0].k + 1));
        }
}

static void run_seed(uint64_t seed) {
    static void (*const kinds[])(writer *) = {write_map, write_reduction, write_blocks, write_attention};
    writer w = {.r = aq_random_open(seed)};
    int kind = below(&w, 4);
    kinds[kind](&w);
    int64_t T[3] = {between(&w, 1, 9), between(&w, 10, 40), 0};
    kernel k;
    kernel_open(&k, w.text, T[0]);
    kernel_close(&k);
    printf("seed %llu\n", (unsigned long long)seed);
    check_nest_at(w.text, T, 100, 3e-6, kind == 3 ? limit_lengths : NULL);
}

static void random_nests(void **state) {
    (void)state;
    const char *one = getenv("AQ_SEED"), *count = getenv("AQ_NESTS");
    if (one) {
        run_seed(strtoull(one, NULL, 10));
        return;
    }
    for (uint64_t seed = 1; seed <= (count ? strtoull(count, NULL, 10) : 40); seed++)
        run_seed(seed);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(random_nests)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
