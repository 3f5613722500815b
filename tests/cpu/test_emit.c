/* test_emit.c: the CPU emitter against the interpreter of nests, form by form, for every level this machine runs (the others are compiled),
 * at the edges of their tiles. */
#include "tests/cpu/kernel.h"

static const int64_t edges[] = {1, 2, 5, 6, 7, 13, 0};

static void at_edges(const char *text, int high, double tolerance) {
    check_nest_at(text, edges, high, tolerance, NULL);
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

static const char *const all_weights[] = {"q4_0", "q4_1", "q8_0", "q5_0", "q5_1", "q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "iq4_nl", "iq4_xs"};
enum { N_WEIGHTS = sizeof all_weights / sizeof *all_weights };

/* An extent of several groups. */
static int several(const char *weight) { return aq_dtype_of(aq_dtype_by_name(weight, strlen(weight)))->block == 256 ? 256 : 96; }

static void block_dot(const char *weight, const char *layout, const char *act, const char *lanes, int t) {
    char text[1024];
    int d = several(weight) * (t == 1 && *layout ? 2 : 1);
    snprintf(text, sizeof text,
             "nest b(in %%x: %s[T, %d], in @w: %s[40, %d] %s, out %%y: f32[T, 40]) { axis t: T, n: 40, d: %d\n"
             "phase { tiles n by %s { tiles t by %d { acc %%a sum [t, n]\n"
             "  for d by 32 { %%a += dot(%%x[t, d], @w[n, d]) } store %%y[t, n] = %%a } } } }",
             act, d, weight, d, layout, d, lanes, t);
    at_edges(text, 8, 1e-6);
}
static void block_dots(void **state) {
    (void)state;
    for (int w = 0; w < N_WEIGHTS; w++) {
        block_dot(all_weights[w], "panel", "a16", "32 lanes 16", w % 2 ? 1 : 6);
        block_dot(all_weights[w], "panel", "a8", "32 lanes 16", w % 2 ? 6 : 1);
    }
}
/* Wide blocks in local memory, met by dots and read through a cast. */
static void opened_dots(void **state) {
    (void)state;
    char text[1024];
    for (int i = 0; i < 2 * N_WEIGHTS; i++) {
        const char *w = all_weights[i / 2];
        int d = several(w);
        snprintf(text, sizeof text,
                 "nest b(in %%x: %s[T, %d], in @w: %s[40, %d] panel, out %%y: f32[T, 40], out %%z: f32[40, %d], local %%l: %s[32, %d] wide) { axis t: T, n: 40, d: %d\n"
                 "phase { tiles n by 32 lanes 16 { for d by %d { store %%l[imod(n, 32), d] = @w[n, d] }\n"
                 "  for d by 4 { store %%z[n, d] = cast(%%l[imod(n, 32), d]) {dtype=f32} }\n"
                 "  for t by %d { acc %%a sum [t, n] for d by 32 { %%a += dot(%%x[t, d], %%l[imod(n, 32), d]) } store %%y[t, n] = %%a } } } }",
                 i % 2 ? "a8" : "a16", d, w, d, d, w, d, d, i % 3 ? 32 : 64, i % 4 < 2 ? 6 : 1);
        at_edges(text, 8, 1e-6);
    }
}

static void ones(kernel *k) { /* the largest integers everywhere: 32767, and codes and steps of -32 and -128 */
    unsigned char *x = k->at[0], *w = k->at[1];
    float one[32];
    for (int i = 0; i < 32; i++)
        one[i] = 1;
    for (size_t at = 0; at < k->bytes[0]; at += 72)
        aq_dtype_encode_f32(AQ_A16, one, 32, x + at);
    memset(w, 0, k->bytes[1]);
    const uint16_t half = 0x1400; /* 2^-10 */
    for (size_t at = 0; at < k->bytes[1]; at += 3392) {
        for (int r = 0; r < 16; r++)
            memcpy(w + at + 2 * r, &half, 2);
        memset(w + at + 64, 0x80, 256); /* steps; codes are 0, less 32 */
    }
}

/* Sums of q6_k that would leave 32 bits if a group were one. */
static void largest_sums(void **state) {
    (void)state;
    static const int64_t T[] = {1, 7, 0};
    for (int i = 0; i < 2; i++) {
        char text[1024];
        snprintf(text, sizeof text,
                 "nest b(in %%x: a16[T, 256], in @w: q6_k[40, 256] panel, out %%y: f32[T, 40], local %%l: q6_k[32, 256] wide) { axis t: T, n: 40, d: 256\n"
                 "phase { tiles n by 32 lanes 16 { for d by 32 { store %%l[imod(n, 32), d] = @w[n, d] }\n"
                 "  for t by 6 { acc %%a sum [t, n] for d by 32 { %%a += dot(%%x[t, d], %s) } store %%y[t, n] = %%a } } } }",
                 i ? "%l[imod(n, 32), d]" : "@w[n, d]");
        check_nest_at(text, T, 8, 1e-6, ones);
    }
}

/* What the chain of forms rests on: a token alone takes panels, many take wide blocks, and the bits are the same. */
static void opened_blocks_give_the_bits_of_panels(void **state) {
    (void)state;
    for (int w = 0; w < N_WEIGHTS; w++) {
        void *y[2] = {NULL, NULL};
        size_t bytes = 0;
        for (int i = 0; i < 2; i++) {
            char text[1024];
            int d = 2 * several(all_weights[w]);
            kernel k;
            snprintf(text, sizeof text,
                     "nest b(in %%x: a16[T, %d], in @w: %s[48, %d] panel, out %%y: f32[T, 48], local %%l: %s[32, %d] wide) { axis t: T, n: 48, d: %d\n"
                     "phase { tiles n by 32 lanes 16 { for d by 32 { store %%l[imod(n, 32), d] = @w[n, d] }\n"
                     "  for t by %d { acc %%a sum [t, n] for d by 32 { %%a += dot(%%x[t, d], %s) } store %%y[t, n] = %%a } } } }",
                     d, all_weights[w], d, all_weights[w], d, d, i ? 6 : 1, i ? "%l[imod(n, 32), d]" : "@w[n, d]");
            kernel_open(&k, text, 13);
            kernel_fill(&k, 7, 8);
            kernel_compile(&k, "cpu");
            kernel_run(&k, k.at);
            bytes = k.bytes[2];
            OK(aq_mem_alloc(bytes, &y[i]));
            memcpy(y[i], k.at[2], bytes);
            kernel_close(&k);
        }
        if (memcmp(y[0], y[1], bytes) != 0)
            fail_msg("%s: wide blocks do not give the bits of panels", all_weights[w]);
        aq_mem_free(y[0]);
        aq_mem_free(y[1]);
    }
}

static void block_dots_lane_by_lane(void **state) {
    (void)state;
    block_dot("q4_1", "", "a16", "8 lanes 8", 6);
    block_dot("q4_0", "panel", "a8", "8 lanes 8", 6);
    block_dot("q8_0", "panel", "a16", "8 lanes 8", 6);
    block_dot("q8_0", "", "a8", "4 lanes 4", 6);
    for (int w = 3; w < N_WEIGHTS; w++)
        block_dot(all_weights[w], w % 2 ? "" : "panel", w % 3 ? "a8" : "a16", "3", 2);
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
    for (int w = 0; w < N_WEIGHTS; w++) {
        char text[1024];
        const char *type = all_weights[w];
        int d = several(type);
        snprintf(text, sizeof text,
                 "nest c(in %%tok: i32[T], in @e: %s[24, %d], in @w: %s[40, %d] panel, out %%x: f32[T, %d], out %%y: f32[40, %d], out %%z: "
                 "f32[T, %d], out %%v: f32[T, %d]) {\n"
                 "axis t: T, n: 40, d: %d\n"
                 "phase { tiles t by 2 { for d by 16 lanes 16 { store %%x[t, d] = cast(@e[%%tok[t], d]) {dtype=f32} } }\n"
                 "  tiles n by 16 lanes 16 { for d by 3 { store %%y[n, d] = cast(@w[n, d]) {dtype=f32} } }\n"
                 "  tiles t by 1 { for d by 8 lanes 4 { store %%z[t, d] = cast(@w[%%tok[t], sub(%d, d)]) {dtype=f32} } }\n"
                 "  tiles t by 1 { for d by 16 lanes 16 { store %%v[t, d] = cast(@w[%%tok[t], d]) {dtype=f32} } } } }",
                 type, d, type, d, d, d, d, d, d, d - 1);
        at_edges(text, 24, 1e-6);
    }
}

static void rotated(void **state) {
    (void)state;
    at_edges("nest o(in %x: f32[T, 96], in %pos: i32[T], out %y: f32[T, 96], out %z: f32[T, 96], out %v: f32[T, 96], out %w: f32[T, 96]) { axis t: T, n: 96\n"
             "phase { tiles t by 2 { for n by 32 lanes 16 { store %y[t, n] = rope(%x[t, n], %pos[t]) {dim=32, theta=10000, factor=2} } }\n"
             "  tiles t by 1 { for n by 6 { store %z[t, n] = rope(%x[t, n], %pos[t]) {dim=6, theta=500} } }\n"
             "  tiles t by 2 { for n by 32 lanes 16 { store %v[t, n] = rope(%x[t, n], %pos[t]) {dim=32, theta=10000, factor=8, low=0.01, high=0.2, gain=1.25} } }\n"
             "  tiles t by 1 { for n by 6 { store %w[t, n] = rope(%x[t, n], %pos[t]) {dim=32, theta=10000, factor=3, low=0.01, high=0.2, ramp=1} } } } }",
             1000000, 1e-6);
}

static void monoids(void **state) {
    (void)state;
    at_edges(
        "nest m(in %x: f32[T, 72], in %len: i32[T], out %m: f32[T], out %i: i32[T], out %l: f32[T], out %j: i32[T], out %k: f32[T]) {\n"
        "axis t: T, d: 72 limit %len[t], u: T\n"
        "phase { tiles t by 1 { acc %m max [t] acc %i argmax [t] acc %l lse [t]\n"
        "  for d by 32 lanes 8 { %m max= %x[t, d] %i argmax= %x[t, d] %l lse= %x[t, d] }\n"
        "  store %m[t] = %m store %i[t] = %i store %l[t] = %l }\n"
        "  tiles t by 1 { acc %a argmax [t] acc %b lse [t] for d by 5 { %a argmax= %x[t, d] %b merge lse= %x[t, d], 1 }\n"
        "  store %j[t] = %a store %k[t] = %b } } }",
        73, 1e-6);
}

static void set_pages(kernel *k) {
    memcpy(kernel_buf(k, "%pages"), (int32_t[]){2, 0, 3, 1}, 16);
}

static void attention(void **state) {
    (void)state;
    for (int rows = 1; rows <= 4; rows += 3) {
        char text[2048];
        snprintf(text, sizeof text,
                 "nest a(in %%q: f32[T, 4, 32], state $k: %s[256, 2, 32] kv_panel, state $v: %s[256, 2, 32] kv_rows, in %%pages: i32[4],\n"
                 "  in %%pos: i32[T], out %%y: f32[T, 4, 32]) {\n"
                 "axis t: T, h: 4, s: 256 limit add(%%pos[t], 1), d: 32, e: 32\n"
                 "phase { tiles t by %d { tiles h by 1 { for e by 32 lanes 16 { acc %%o attend [t, h, e]\n"
                 "  for s by 64 lanes 16 { acc %%p sum [t, h, s]\n"
                 "    for d by 4 { %%p += dot(%%q[t, h, d], $k[add(mul(%%pages[idiv(s, 64)], 64), imod(s, 64)), idiv(h, 2), d]) }\n"
                 "    %%o attend= select(le(s, %%pos[t]), mul(%%p, 0.17), -inf), $v[add(mul(%%pages[idiv(s, 64)], 64), imod(s, 64)), "
                 "idiv(h, 2), e] }\n"
                 "  store %%y[t, h, e] = %%o } } } } }",
                 rows == 1 ? "f32" : "f16", rows == 1 ? "f32" : "f16", rows);
        check_nest_at(text, edges, 200, 2e-6, set_pages);
    }
}

static void attention_in_columns(void **state) { /* an o that does not fit the registers; scores without lanes; rows as heads */
    (void)state;
    at_edges("nest u(in %q: f32[T, 5], in %v: f32[40, 128], in %p: f32[T, 5, 40], out %y: f32[T, 5, 128]) {\n"
             "axis t: T, h: 5, s: 40, e: 128\n"
             "phase { tiles t by 1 { for h by 5 { for e by 128 lanes 16 { acc %o attend [t, h, e]\n"
             "  for s by 7 { %o attend= mul(%p[t, h, s], %q[t, h]), %v[s, e] } store %y[t, h, e] = %o } } } } }",
             8, 2e-6);
}

static void attention_in_parts(void **state) {
    (void)state;
    at_edges("nest c(in %p: f32[T, 40], in %v: f32[40, 64], out %y: f32[T, 64], scratch %m: f32[T, 4], scratch %l: f32[T, 4],\n"
             "  scratch %o: f32[T, 4, 64]) { axis t: T, c: 4, j: 10, e: 64\n"
             "phase { tiles t by 2 { tiles c by 1 { for e by 32 lanes 16 { acc %o attend [t, c, e]\n"
             "  for j by 5 { %o attend= %p[t, add(mul(c, 10), j)], %v[add(mul(c, 10), j), e] }\n"
             "  store %m[t, c] = part(%o, 0) store %l[t, c] = part(%o, 1) store %o[t, c, e] = part(%o, 2) } } } }\n"
             "phase { tiles t by 1 { for e by 16 lanes 16 { acc %u attend [t, e]\n"
             "  for c by 3 { %u merge attend= %m[t, c], %l[t, c], %o[t, c, e] } store %y[t, e] = %u } } } }",
             8, 2e-6);
}

static void local_panels(void **state) { /* a weight unpacked once for all rows of an item */
    (void)state;
    at_edges(
        "nest l(in %x: f32[T, 96], in @w: q4_0[72, 96] panel, out %y: f32[T, 72], local %l: bf16[32, 96] panel) { axis t: T, n: 72, d: 96\n"
        "phase { tiles n by 32 lanes 16 { for d by 8 { store %l[imod(n, 32), d] = cast(@w[n, d]) {dtype=f32} }\n"
        "  for t by 5 { acc %a sum [t, n] for d by 16 { %a += dot(%x[t, d], %l[imod(n, 32), d]) } store %y[t, n] = %a } } } }",
        8, 2e-3);
}

static void phases_and_splits(void **state) { /* split sums in scratch, joined after the barrier; arg max of parts */
    (void)state;
    at_edges(
        "nest s(in %x: f32[T, 200], out %y: f32[T], out %i: i32[T], scratch %p: f32[T, 5], scratch %m: f32[T, 5], scratch %a: i32[T, 5]) "
        "{\n"
        "axis t: T, c: 5, d: 40\n"
        "phase { tiles t by 3 { tiles c by 1 { acc %s sum [t, c] acc %b argmax [t, c]\n"
        "  for d by 16 lanes 8 { %s += %x[t, add(mul(c, 40), d)] %b argmax= %x[t, add(mul(c, 40), d)] }\n"
        "  store %p[t, c] = %s store %m[t, c] = part(%b, 0) store %a[t, c] = add(part(%b, 1), mul(c, 40)) } } }\n"
        "phase { tiles t by 4 { acc %s2 sum [t] acc %b2 argmax [t] for c by 2 { %s2 += %p[t, c] %b2 merge argmax= %m[t, c], %a[t, c] }\n"
        "  store %y[t] = %s2 store %i[t] = %b2 } } }",
        8, 2e-6);
}

static void numbers_of_all_kinds(void **state) {
    (void)state;
    at_edges(
        "nest k(in %x: f64[T, 24], in %b: i8[24], in %i: i32[T], out %y: f64[T, 24], out %j: i32[T, 24], out %c: i8[T, 24], out %m: f32[T, "
        "24]) {\n"
        "axis t: T, d: 24\n"
        "phase { tiles t by 2 { for d by 16 lanes 16 { store %y[t, d] = mul(%x[t, d], %b[d])\n"
        "  store %j[t, d] = add(imod(sub(d, mul(%i[t], 7)), 5), mul(idiv(sub(%i[t], d), 3), 100)) store %c[t, d] = mul(%x[t, d], 100)\n"
        "  store %m[t, d] = select(le(%x[t, d], 0.25), maximum(%x[t, d], -0.5), minimum(neg(%x[t, d]), div(1, add(d, 1)))) } } } }",
        50, 1e-6);
}

static void lanes_that_do_not_lie_side_by_side(void **state) {
    (void)state;
    at_edges("nest g(in %x: f32[T, 40], in %i: i32[40], in @w: f16[40, 24] panel, out %y: f32[40, T], out %z: f32[T, 40], out %u: bf16[24, "
             "40] panel) {\n"
             "axis t: T, d: 40, k: 24\n"
             "phase { tiles t by 1 { for d by 16 lanes 16 { store %y[sub(39, d), t] = %x[t, d] store %z[t, d] = %x[imod(t, T), %i[d]] } }\n"
             "  tiles d by 8 { for k by 16 lanes 16 { store %u[k, d] = @w[d, k] } } } }",
             40, 1e-6);
}

static void lanes_along_tokens(void **state) { /* the symbolic axis in the registers, cut */
    (void)state;
    at_edges("nest v(in %x: f32[8, T], in %pos: i32[T], out %y: f32[8, T], out %s: f32[8], out %r: f32[8, T]) { axis t: T, d: 8\n"
             "phase { tiles t by 32 lanes 16 { for d by 8 { store %y[d, t] = exp(%x[d, t]) } }\n"
             "  tiles d by 2 { acc %s sum [d] for t by 16 lanes 8 { %s += %x[d, t] } store %s[d] = %s } } }",
             8, 1e-6);
}

static void two_matrices_side_by_side(void **state) {
    (void)state;
    for (int i = 0; i < 4; i++) {
        char text[1024];
        const char *w = i == 0 ? "bf16" : i == 1 ? "q4_1" : i == 2 ? "q4_0" : "q8_0", *x = i == 0 ? "f32" : i == 3 ? "a8" : "a16";
        snprintf(
            text, sizeof text,
            "nest w(in %%x: %s[T, 64], in @a: %s[40, 64] panel, in @b: %s[40, 64] panel, out %%y: f32[T, 40]) { axis t: T, n: 40, d: 64\n"
            "phase { tiles t by 12 { tiles n by 32 lanes 16 { for t by 3 { acc %%a sum [t, n] acc %%b sum [t, n]\n"
            "  for d by 32 { %%a += dot(%%x[t, d], @a[n, d]) %%b += dot(%%x[t, d], @b[n, d]) } store %%y[t, n] = mul(silu(%%a), %%b) } } } "
            "} }",
            x, w, w);
        at_edges(text, 8, 2e-6);
    }
}

static void many_accumulators(void **state) { /* more than anybody counted on live across one loop; its last turn is cut */
    (void)state;
    enum { MANY = 70 };
    aq_arena arena = {0};
    aq_text t = {.arena = &arena};
    const char *text;
    OK(aq_text_add(&t, "nest w(in %%x: f32[8, 21], out %%y: f32[8]) { axis a: 8, b: 21\nphase { tiles a by 1 {\n"));
    for (int i = 0; i < MANY; i++)
        OK(aq_text_add(&t, "acc %%s%d sum [a]\n", i));
    OK(aq_text_add(&t, "for b by 2 {\n"));
    for (int i = 0; i < MANY; i++)
        OK(aq_text_add(&t, "%%s%d += mul(%%x[a, b], %d.5)\n", i, i + 1));
    OK(aq_text_add(&t, "}\nlet %%t0 = %%s0\n"));
    for (int i = 1; i < MANY; i++)
        OK(aq_text_add(&t, "let %%t%d = add(mul(%%t%d, 0.875), %%s%d)\n", i, i - 1, i));
    OK(aq_text_add(&t, "store %%y[a] = %%t%d } } }", MANY - 1));
    OK(aq_text_end(&t, &text));
    kernel k;
    kernel_open(&k, text, 1);
    kernel_fill(&k, 1, 8);
    kernel_check(&k, 2e-6);
    kernel_close(&k);
    aq_arena_close(&arena);
}

/* --- pairs of bf16 --------------------------------------------------------------------------------------------------------------- */

static void with_bf16(kernel *k) {
    k->needs = "bf16";
}

/* `side` is what the dot takes in for token t and element d of %x, which has type `x`. */
static void dot_of_pairs(const char *x, const char *side, int n, int d, const char *layout, const char *lanes, int t, int step) {
    char text[1024];
    snprintf(text, sizeof text,
             "nest p(in %%x: %s[T, %d], in @w: bf16[%d, %d] %s, out %%y: f32[T, %d]) { axis t: T, n: %d, d: %d\n"
             "phase { tiles n by %s { tiles t by %d { acc %%a sum [t, n]\n"
             "  for d by %d mma 2 { %%a += dot(%s, @w[n, d]) } store %%y[t, n] = %%a } } } }",
             x, d, n, d, layout, n, n, d, lanes, t, step, side);
    check_nest_at(text, edges, 8, 1e-5, with_bf16);
}

static void pairs_of_bf16(void **state) {
    (void)state;
    const char *loaded = "%x[t, d]", *rounded = "cast(%x[t, d]) {dtype=bf16}";
    dot_of_pairs("bf16", loaded, 64, 96, "panel", "32 lanes 16", 6, 8);
    dot_of_pairs("bf16", loaded, 72, 97, "panel", "32 lanes 16", 5, 4); /* an odd length: the last pair has a zero; rows at odd addresses */
    dot_of_pairs("bf16", loaded, 40, 3, "panel", "16 lanes 16", 1, 2);
    dot_of_pairs("bf16", loaded, 40, 1, "panel", "16 lanes 16", 2, 8);
    dot_of_pairs("f32", rounded, 40, 33, "panel", "16 lanes 16", 3, 16); /* no memory has the pairs of one side, */
    dot_of_pairs("bf16", loaded, 40, 34, "", "16 lanes 16", 3, 8);       /* or of the other */
    check_nest_at("nest w(in %x: bf16[T, 64], in @a: bf16[40, 64] panel, in @b: bf16[40, 64] panel, out %y: f32[T, 40]) { axis t: T, n: 40, d: 64\n"
                  "phase { tiles t by 12 { tiles n by 32 lanes 16 { for t by 3 { acc %a sum [t, n] acc %b sum [t, n]\n"
                  "  for d by 8 mma 2 { %a += dot(%x[t, d], @a[n, d]) %b += dot(%x[t, d], @b[n, d]) } store %y[t, n] = mul(silu(%a), %b) } } } } }",
                  edges, 8, 1e-5, with_bf16);
}

static void refuses_pairs(const char *target, const char *x, const char *lanes, const char *expected) {
    char text[1024];
    kernel k;
    aq_target t;
    unsigned char *object;
    size_t size;
    snprintf(text, sizeof text,
             "nest p(in %%x: %s[T, 64], in @w: bf16[64, 64] panel, out %%y: f32[T, 64]) { axis t: T, n: 64, d: 64 phase { tiles t by 1 {\n"
             "for n by %s { acc %%a sum [t, n] for d by 8 mma 2 { %%a += dot(%%x[t, d], @w[n, d]) } store %%y[t, n] = %%a } } } }",
             x, lanes);
    kernel_open(&k, text, 1);
    OK(aq_target_parse(target, &t));
    const aq_nest *n = k.n;
    assert_int_equal(aq_cpu_emit(&n, 1, &t, 1, &k.arena, &object, &size, &k.local_bytes, NULL), AQ_REFUSED);
    if (!strstr(aq_error(), expected))
        fail_msg("%s: expected it to name %s", aq_error(), expected);
    kernel_close(&k);
}

static void pairs_refused(void **state) {
    (void)state;
    refuses_pairs("cpu:v4+vnni", "bf16", "16 lanes 16", "a target with bf16");
    refuses_pairs("cpu:v4+bf16", "f32", "16 lanes 16", "dots of bf16 with bf16");
    refuses_pairs("cpu:v4+bf16", "bf16", "16 lanes 8", "16 lanes");
}

static void failing_allocations(void **state) { /* each of the emitter's own fails once: clean refusal, nothing left open */
    (void)state;
    kernel k;
    kernel_open(&k,
                "nest w(in %x: a16[T, 64], in @a: q4_1[40, 64] panel, in %p: i32[T], out %y: f32[T, 40]) { axis t: T, n: 40, d: 64\n"
                "phase { tiles t by 12 { tiles n by 32 lanes 16 { for t by 3 { acc %a sum [t, n] let %r = mul(%p[t], 2)\n"
                "  for d by 32 { %a += dot(%x[t, d], @a[n, d]) } store %y[t, n] = rope(mul(%a, %r), %p[t]) {dim=8, theta=100} } } } } }",
                5);
    aq_target t;
    OK(aq_target_parse("cpu:v3", &t));
    const aq_nest *n = k.n;
    int refused = 0, done = 0;
    for (long nth = 1; nth < 60 && !done; nth++) {
        aq_arena arena = {0};
        unsigned char *object;
        size_t size;
        long open = aq_mem_open_blocks();
        aq_mem_fail_after(nth);
        aq_status s = aq_cpu_emit(&n, 1, &t, 1, &arena, &object, &size, &k.local_bytes, NULL);
        aq_mem_fail_after(0);
        assert_true(s == AQ_OK || s == AQ_NO_MEMORY);
        refused += s == AQ_NO_MEMORY;
        done = s == AQ_OK;
        aq_arena_close(&arena);
        assert_int_equal(aq_mem_open_blocks(), open);
    }
    assert_true(done && refused >= 1);
    printf("%d allocations, each failed once\n", refused);
    kernel_close(&k);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(elementwise),
        cmocka_unit_test(rows_reduced),
        cmocka_unit_test(panel_dots),
        cmocka_unit_test(row_dots),
        cmocka_unit_test(block_dots),
        cmocka_unit_test(quantised),
        cmocka_unit_test(dequantised),
        cmocka_unit_test(block_dots_lane_by_lane),
        cmocka_unit_test(opened_dots),
        cmocka_unit_test(largest_sums),
        cmocka_unit_test(opened_blocks_give_the_bits_of_panels),
        cmocka_unit_test(rotated),
        cmocka_unit_test(monoids),
        cmocka_unit_test(attention),
        cmocka_unit_test(attention_in_columns),
        cmocka_unit_test(attention_in_parts),
        cmocka_unit_test(local_panels),
        cmocka_unit_test(phases_and_splits),
        cmocka_unit_test(numbers_of_all_kinds),
        cmocka_unit_test(lanes_that_do_not_lie_side_by_side),
        cmocka_unit_test(lanes_along_tokens),
        cmocka_unit_test(two_matrices_side_by_side),
        cmocka_unit_test(many_accumulators),
        cmocka_unit_test(pairs_of_bf16),
        cmocka_unit_test(pairs_refused),
        cmocka_unit_test(failing_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
