/* test_emit.c: the CPU emitter against the interpreter of nests, form by form, for every level this machine runs (the others are compiled),
 * at the edges of their tiles. */
#include "tests/cpu/kernel.h"

static const int64_t edges[] = {1, 2, 5, 6, 7, 13};

static void at_edges(const char *text, int high, double tolerance) {
    for (size_t i = 0; i < sizeof edges / sizeof *edges; i++)
        check_nest(text, edges[i], high, tolerance);
}

static void elementwise(void **state) {
    (void)state;
    at_edges("nest e(in %x: f32[T, 40], in %g: bf16[40], out %y: f32[T, 40], out %h: f16[T, 40], out %b: bf16[T, 40]) {\n"
             "axis t: T, d: 40\n"
             "phase { tiles t by 2 { for d by 32 lanes 16 { let %u = mul(%x[t, d], %g[d])\n"
             "  store %y[t, d] = silu(%u) store %h[t, d] = %u store %b[t, d] = add(%u, 1) } } } }",
             8, 1e-6);
}

static void rows_reduced(void **state) {
    (void)state;
    at_edges("nest r(in %x: f32[T, 72], out %y: f32[T, 72], out %s: f32[T]) { axis t: T, d: 72\n"
             "phase { tiles t by 2 { acc %s sum [t] for d by 32 lanes 16 { %s += mul(%x[t, d], %x[t, d]) }\n"
             "  let %r = rsqrt(add(mul(%s, 0.0138888), 1e-05)) store %s[t] = %r\n"
             "  for d by 16 lanes 16 { store %y[t, d] = mul(%x[t, d], %r) } } } }",
             8, 1e-6);
}

static void panel_dot(const char *dtype, double tolerance) {
    char text[1024];
    snprintf(text, sizeof text,
             "nest p(in %%x: f32[T, 96], in @w: %s[72, 96] panel, out %%y: f32[T, 72]) { axis t: T, n: 72, d: 96\n"
             "phase { tiles n by 32 lanes 16 { tiles t by 6 { acc %%a sum [t, n]\n"
             "  for d by 32 { %%a += dot(%%x[t, d], @w[n, d]) } store %%y[t, n] = %%a } } } }",
             dtype);
    at_edges(text, 8, tolerance);
}
static void panel_dots(void **state) {
    (void)state;
    panel_dot("f32", 1e-6);
    panel_dot("bf16", 1e-6);
    panel_dot("f16", 1e-6);
}

static void row_dots(void **state) {
    (void)state;
    at_edges("nest q(in %x: f32[T, 200], in @w: bf16[21, 200], out %y: f32[T, 21]) { axis t: T, n: 21, d: 200\n"
             "phase { tiles t by 1 { tiles n by 8 { acc %a sum [t, n]\n"
             "  for d by 64 lanes 16 { %a += dot(%x[t, d], @w[n, d]) } store %y[t, n] = %a } } } }",
             8, 1e-6);
}

static void block_dot(const char *weight, const char *layout, const char *act, const char *lanes) {
    char text[1024];
    snprintf(text, sizeof text,
             "nest b(in %%x: %s[T, 96], in @w: %s[40, 96] %s, out %%y: f32[T, 40]) { axis t: T, n: 40, d: 96\n"
             "phase { tiles n by 32 %s { tiles t by 6 { acc %%a sum [t, n]\n"
             "  for d by 32 { %%a += dot(%%x[t, d], @w[n, d]) } store %%y[t, n] = %%a } } } }",
             act, weight, layout, lanes);
    at_edges(text, 8, 1e-6);
}
static void block_dots(void **state) {
    (void)state;
    static const char *const weights[] = {"q4_0", "q4_1", "q8_0"}, *const acts[] = {"a16", "a8"};
    for (int w = 0; w < 3; w++)
        for (int a = 0; a < 2; a++)
            block_dot(weights[w], "panel", acts[a], "lanes 16");
}
static void block_dots_lane_by_lane(void **state) {
    (void)state;
    block_dot("q4_1", "", "a16", "lanes 8");
    block_dot("q4_0", "panel", "a8", "lanes 8");
    block_dot("q8_0", "panel", "a16", "lanes 8");
    block_dot("q8_0", "", "a8", "lanes 4");
}

static void quantised(void **state) {
    (void)state;
    for (int i = 0; i < 4; i++) {
        char text[1024];
        snprintf(text, sizeof text,
                 "nest z(in %%x: f32[T, 96], out %%y: %s[T, 96]) { axis t: T, d: 96\n"
                 "phase { tiles t by 2 { for d by %s { store %%y[t, d] = quantize(mul(%%x[t, d], 1.5)) {dtype=%s} } } } }",
                 i & 1 ? "a8" : "a16", i & 2 ? "64 lanes 32" : "32 lanes 16", i & 1 ? "a8" : "a16");
        at_edges(text, 8, 1e-6);
    }
}

static void dequantised(void **state) {
    (void)state;
    static const char *const weights[] = {"q4_0", "q4_1", "q8_0"};
    for (int w = 0; w < 3; w++) {
        char text[1024];
        snprintf(text, sizeof text,
                 "nest c(in %%tok: i32[T], in @e: %s[24, 96], in @w: %s[40, 96] panel, out %%x: f32[T, 96], out %%y: f32[40, 96], out %%z: f32[T, 96]) {\n"
                 "axis t: T, n: 40, d: 96\n"
                 "phase { tiles t by 2 { for d by 16 lanes 16 { store %%x[t, d] = cast(@e[%%tok[t], d]) {dtype=f32} } }\n"
                 "  tiles n by 16 lanes 16 { for d by 3 { store %%y[n, d] = cast(@w[n, d]) {dtype=f32} } }\n"
                 "  tiles t by 1 { for d by 8 lanes 4 { store %%z[t, d] = cast(@w[%%tok[t], sub(95, d)]) {dtype=f32} } } } }",
                 weights[w], weights[w]);
        at_edges(text, 24, 1e-6);
    }
}

static void rotated(void **state) {
    (void)state;
    at_edges("nest o(in %x: f32[T, 96], in %pos: i32[T], out %y: f32[T, 96], out %z: f32[T, 96]) { axis t: T, n: 96\n"
             "phase { tiles t by 2 { for n by 32 lanes 16 { store %y[t, n] = rope(%x[t, n], %pos[t]) {dim=32, theta=10000, factor=2} } }\n"
             "  tiles t by 1 { for n by 6 { store %z[t, n] = rope(%x[t, n], %pos[t]) {dim=6, theta=500} } } } }",
             1000000, 1e-6);
}

static void monoids(void **state) {
    (void)state;
    at_edges("nest m(in %x: f32[T, 72], in %len: i32[T], out %m: f32[T], out %i: i32[T], out %l: f32[T], out %j: i32[T], out %k: f32[T]) {\n"
             "axis t: T, d: 72 limit %len[t], u: T\n"
             "phase { tiles t by 1 { acc %m max [t] acc %i argmax [t] acc %l lse [t]\n"
             "  for d by 32 lanes 8 { %m max= %x[t, d] %i argmax= %x[t, d] %l lse= %x[t, d] }\n"
             "  store %m[t] = %m store %i[t] = %i store %l[t] = %l }\n"
             "  tiles t by 1 { acc %a argmax [t] acc %b lse [t] for d by 5 { %a argmax= %x[t, d] %b merge lse= %x[t, d], 1 }\n"
             "  store %j[t] = %a store %k[t] = %b } } }",
             73, 1e-6);
}

static void attention(void **state) {
    (void)state;
    for (int rows = 1; rows <= 4; rows += 3) {
        char text[2048];
        snprintf(text, sizeof text,
                 "nest a(in %%q: f32[T, 4, 32], state $k: f32[256, 2, 32] kv_panel, state $v: f32[256, 2, 32] kv_rows, in %%pages: i32[4],\n"
                 "  in %%pos: i32[T], out %%y: f32[T, 4, 32]) {\n"
                 "axis t: T, h: 4, s: 256 limit add(%%pos[t], 1), d: 32, e: 32\n"
                 "phase { tiles t by %d { tiles h by 1 { for e by 32 lanes 16 { acc %%o attend [t, h, e]\n"
                 "  for s by 64 lanes 16 { acc %%p sum [t, h, s]\n"
                 "    for d by 4 { %%p += dot(%%q[t, h, d], $k[add(mul(%%pages[idiv(s, 64)], 64), imod(s, 64)), idiv(h, 2), d]) }\n"
                 "    %%o attend= select(le(s, %%pos[t]), mul(%%p, 0.17), -inf), $v[add(mul(%%pages[idiv(s, 64)], 64), imod(s, 64)), idiv(h, 2), e] }\n"
                 "  store %%y[t, h, e] = %%o } } } } }",
                 rows);
        for (size_t i = 0; i < sizeof edges / sizeof *edges; i++) {
            kernel k;
            kernel_open(&k, text, edges[i]);
            kernel_fill(&k, 7, 200);
            memcpy(kernel_buf(&k, "%pages"), (int32_t[]){2, 0, 3, 1}, 16);
            kernel_check(&k, 2e-6);
            kernel_close(&k);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(elementwise), cmocka_unit_test(rows_reduced), cmocka_unit_test(panel_dots), cmocka_unit_test(row_dots),
        cmocka_unit_test(block_dots),  cmocka_unit_test(quantised),    cmocka_unit_test(dequantised), cmocka_unit_test(block_dots_lane_by_lane),
        cmocka_unit_test(rotated),     cmocka_unit_test(monoids),      cmocka_unit_test(attention),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
