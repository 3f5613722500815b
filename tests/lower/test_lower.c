/* test_lower.c: regions as the passes leave them, under schedules as text: the nest says what the region says (ref against ref, so any
 * difference is lower's), in every shape that has an edge, and the nests that matter look as they should. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "ir/random.h"
#include "tests/support/region.h"

/* Each row: a model text with one graph of one region, schedules to lower it under, values of T to run it at. */
typedef struct row {
    const char *story, *text, *schedules[6];
    int64_t t[6];
} row;

#define HEAD "model m {\n sym T in 1..4096\n sym O in 1..4096\n sym B in 1..64\n sym S in 64..65536\n sym P in 1..64\n"

static const row rows[] = {
    {"a map with broadcasting",
     HEAD "weight @g: f32[40]\n graph f(%x: f32[T, 40], %s: f32[T, 1]) -> f32[T, 40] {\n %y = fused(%x, %s, @g) { %a = mul %x, @g\n %b = "
          "add (mul %a, %a), (silu %s)\n yield %b }\n return %y }\n}",
     {"", "t 3; n 8 lanes", "n 7", "t 2; n 48 for 16 lanes", "t 3 1; n 8; %s in local; %x in local", "t 1; n 5; %g in local"},
     {1, 5}},
    {"rmsnorm",
     HEAD "weight @g: f32[72]\n graph f(%x: f32[T, 72]) -> f32[T, 72] {\n %y = fused(%x, @g) { yield (mul (mul %x, (rms %x {eps=1e-5})), "
          "@g) }\n return %y }\n}",
     {"", "t 2; n 16 for lanes 16; r 32 lanes 16", "t 1; n 32 tiles lanes 8; r 5", "%rms phase"},
     {1, 3}},
    {"softmax, opened",
     HEAD "graph f(%x: f32[T, 33]) -> f32[T, 33] {\n %y = fused(%x) { yield (exp (sub %x, (lse %x))) }\n return %y }\n}",
     {"", "n 16 for lanes 16; r 16 lanes 8"},
     {1, 4}},
    {"projection of what is normalised and quantised, rotated and appended",
     HEAD "weight @g: f32[64]\n weight @wq: q4_1[96, 64]\n weight @wk: q4_1[32, 64]\n weight @wv: q8_0[32, 64]\n state $k: f16[S, 2, 16]\n "
          "state $v: f16[S, 2, 16]\n"
          "graph f(%x: f32[T, 64], %b: batch) -> f32[T, 6, 16] {\n"
          " %q, $k'1, $v'1 = fused(%x, @g, @wq, @wk, @wv, %b, $k, $v) {\n"
          "  %nq = quantize (mul (mul %x, (rms %x {eps=1e-5})), @g) {dtype=a16}\n"
          "  %q = heads (rope (dot %nq, @wq {spec=\"tk,nk->tn\"}), %b.pos {dim=16, theta=100}) {heads=6}\n"
          "  %kk = cast (heads (rope (dot %nq, @wk {spec=\"tk,nk->tn\"}), %b.pos {dim=16, theta=100}) {heads=2}) {dtype=f16}\n"
          "  %vv = cast (heads (dot %nq, @wv {spec=\"tk,nk->tn\"}) {heads=2}) {dtype=f16}\n"
          "  append $k, %kk, %b\n  append $v, %vv, %b\n  yield %q, $k, $v }\n return %q }\n}",
     {"", "t 4; n 32 lanes 16; d 32; pt 1; pn 32 for lanes 16", "t 8 3; n 16 lanes; d 64"},
     {1, 4, 7}},
    {"gate and up share their loop",
     HEAD "weight @w1: q8_0[64, 32]\n weight @w3: q4_0[64, 32]\n graph f(%n: a16[T, 32]) -> a16[T, 64] {\n"
          " %y = fused(%n, @w1, @w3) { yield (quantize (mul (silu (dot %n, @w1 {spec=\"tk,nk->tn\"})), (dot %n, @w3 {spec=\"tk,nk->tn\"})) "
          "{dtype=a16}) }\n return %y }\n}",
     {"", "t 3; n 32 lanes 16", "t 2; n 64 lanes 16"},
     {1, 5}},
    {"gate and up as a GPU has them: items of warps, fragments, operands through local memory in stages",
     HEAD "weight @w1: bf16[64, 96]\n weight @w3: f16[64, 96]\n graph f(%x: f32[T, 96]) -> bf16[T, 64] {\n"
          " %y = fused(%x, @w1, @w3) { yield (cast (mul (silu (dot %x, @w1 {spec=\"tk,nk->tn\"})), (dot %x, @w3 {spec=\"tk,nk->tn\"})) {dtype=bf16}) }\n"
          " return %y }\n}",
     {"t 32 tiles 16 warps 16 mma; n 32 tiles 16 warps 8 mma; d 32 for 16 mma; %x in local stages 3; @w1 in local stages 3; @w3 in local stages 3",
      "t 3; n 4; d 64 32 warps lanes 4 vec 8; @w1 in reg stages 4", "t 2; n 64 16 warps lanes 16; d 3; %x in local", "t 5; n 7; d 13; @w1 in local; %x in local stages 2"},
     {1, 16, 37}},
    {"weights in panels opened once for the tokens of an item",
     HEAD "weight @w1: q6_k[40, 256] panel\n weight @w3: q4_k[40, 256] panel\n graph f(%n: a16[T, 256]) -> f32[T, 40] {\n"
          " %y = fused(%n, @w1, @w3) { yield (mul (silu (dot %n, @w1 {spec=\"tk,nk->tn\"})), (dot %n, @w3 {spec=\"tk,nk->tn\"})) }\n return %y }\n}",
     {"t 12 6; n 32 lanes 16; d 32; @w1 in local; @w3 in local", "t 4; n 16 lanes; d 32; @w3 in local", "t 9 2; n 48 for 16 lanes; d 64; @w1 in local"},
     {1, 13}},
    {"blocks with lanes, a lane a block",
     HEAD "weight @w: q4_0[32, 256]\n graph f(%n: a16[T, 256]) -> f32[T, 32] {\n"
          " %y = fused(%n, @w) { yield (dot %n, @w {spec=\"tk,nk->tn\"}) }\n return %y }\n}",
     {"t 1; n 4; d 128 lanes 4 vec 32; @w in reg stages 4", "t 3; n 8 4 warps; d 256 128 warps lanes 2 vec 64"},
     {1, 5}},
    {"projection and residual",
     HEAD "weight @wo: f32[40, 24]\n graph f(%x: f32[T, 40], %a: f32[T, 3, 8]) -> f32[T, 40] {\n"
          " %y = fused(%x, %a, @wo) { yield (add %x, (dot (merge %a), @wo {spec=\"tk,nk->tn\"})) }\n return %y }\n}",
     {"", "t 3; n 4; d 16 lanes 8", "t 2; n 32 lanes 16; d 4"},
     {1, 5}},
    {"late: the norm's factor behind the dot",
     HEAD "weight @g: f32[24]\n weight @w: f32[40, 24]\n weight @u: f32[40, 24]\n graph f(%x: f32[T, 24]) -> f32[T, 40] {\n"
          " %y = fused(%x, @g, @w, @u) { %n = mul (mul %x, (rms %x {eps=1e-5})), @g\n  yield (mul (silu (dot %n, @w "
          "{spec=\"tk,nk->tn\"})), (dot %n, @u {spec=\"tk,nk->tn\"})) }\n return %y }\n}",
     {"", "%rms late; t 2; n 16 lanes; d 3", "%rms late; n 4; d 16 lanes", "%rms tile; n 16 lanes; d 8"},
     {1, 3}},
    {"wanted rows, norm, quantise, logits, argmax",
     HEAD "weight @g: f32[32]\n weight @w: q8_0[48, 32]\n graph f(%x: f32[T, 32], %want: i32[O]) -> f32[O, 48], i32[O, 1] {\n"
          " %y, %top = fused(%x, %want, @g, @w) { %r = rows %x, %want\n %n = quantize (mul (mul %r, (rms %r {eps=1e-5})), @g) {dtype=a8}\n"
          "  %l = dot %n, @w {spec=\"tk,nk->tn\"}\n yield %l, (argmax %l) }\n return %y, %top }\n}",
     {"", "n 32 lanes 16"},
     {3}},
    {"the embedding",
     HEAD
     "weight @e: q4_0[10, 64]\n graph f(%tok: i32[T]) -> f32[T, 64] {\n %y = fused(%tok, @e) { yield (rows @e, %tok) }\n return %y }\n}",
     {"", "n 64 for lanes 16"},
     {1, 6, 40}},
    {"views that cross the axes",
     HEAD
     "graph f(%x: f32[T, 12, 5], %z: f32[T, 60]) -> f32[T, 10, 1] {\n"
     " %y = fused(%x, %z) { %a = reshape (add (slice (merge %x) {begin=10, end=50}), (slice %z {begin=0, end=40})) {shape=[T, 4, 10]}\n"
     "  yield (sum (transpose %a {perm=[0, 2, 1]})) }\n return %y }\n}",
     {"", "t 2; h 3; r 4 lanes"},
     {1, 3}},
    {"einsums of all kinds",
     HEAD "graph f(%x: f32[T, 6, 5], %y: f32[T, 4, 5], %w: f32[6, 4]) -> f32[T, 6, 4], f32[T], f32[T, T] {\n"
          " %a, %c, %d = fused(%x, %y, %w) { %p = dot %x, %y {spec=\"thd,tgd->thg\"}\n %q = dot %p, %w {spec=\"thg,hg->t\"}\n yield %p, "
          "%q, (dot %q, %q {spec=\"a,b->ab\"}) }\n"
          " return %a, %c, %d }\n}",
     {"", "t 2; h 3; n 3; d 4 lanes"},
     {1, 3}},
    {"attention",
     HEAD "state $k: f16[S, 2, 16]\n state $v: f16[S, 2, 24]\n graph f(%q: f32[T, 6, 16], %b: batch) -> f32[T, 6, 24] {\n"
          " %y = fused(%q, $k, $v, %b) { yield (attend %q, $k, $v, %b {causal, scale=0.25}) }\n return %y }\n}",
     {"", "c 64; t 5 1; s 16 lanes", "t 4; j 1; s 64 lanes 16; f 8; e lanes 8", "split 64; t 2; s 32 lanes 16", "split 128; j 3; s 16 lanes 8",
      "t 8 4 warps; s 32 16 warps; f 4; $k in reg stages 2"},
     {1, 2, 7, 12}},
    {"attention of all positions, merged and quantised",
     HEAD "state $k: f32[S, 1, 32]\n state $v: f32[S, 1, 32]\n graph f(%q: f32[T, 64], %b: batch) -> a16[T, 64] {\n"
          " %y = fused(%q, $k, $v, %b) { yield (quantize (merge (attend (heads %q {heads=2}), $k, $v, %b {scale=0.1})) {dtype=a16}) }\n "
          "return %y }\n}",
     {"", "split 64", "t 3; j 2; s 32 lanes"},
     {1, 6}},
    {"blocks that cross heads",
     HEAD
     "state $k: f32[S, 2, 16]\n state $v: f32[S, 2, 16]\n graph f(%q: f32[T, 4, 16], %b: batch) -> a16[T, 64] {\n"
     " %y = fused(%q, $k, $v, %b) { yield (quantize (merge (attend %q, $k, $v, %b {causal, scale=0.1})) {dtype=a16}) }\n return %y }\n}",
     {""},
     {2}},
    {"attention wanted twice, behind a projection of the query",
     HEAD
     "state $k: f16[S, 2, 16]\n state $v: f16[S, 2, 16]\n weight @w: f32[64, 20]\n graph f(%x: f32[T, 20], %b: batch) -> f32[T, 1], f32[T, "
     "4, 16] {\n"
     " %y, %z = fused(%x, @w, $k, $v, %b) { %q = heads (rope (dot %x, @w {spec=\"tk,nk->tn\"}), %b.pos {dim=16, theta=100}) {heads=4}\n"
     "  %a = attend %q, $k, $v, %b {causal, scale=0.25}\n yield (sum (merge %a)), (add %a, %q) }\n return %y, %z }\n}",
     {"", "split 64; t 2"},
     {1, 6}},
    {"sums of the same extent at different places",
     HEAD "weight @w: f32[24, 20]\n weight @g: f32[20]\n graph f(%x: f32[T, 20]) -> f32[T, 24] {\n"
          " %y = fused(%x, @w, @g) { yield (mul (dot @w, @g {spec=\"nk,k->n\"}), (dot %x, @w {spec=\"tk,nk->tn\"})) }\n return %y }\n}",
     {"", "t 4 2; n 16 lanes; d 4", "t 3; n 8 4; d 16 lanes"},
     {1, 7}},
    {"a rope that is wanted transposed",
     HEAD "graph f(%x: f32[T, 16], %b: batch) -> f32[16, T] {\n"
          " %y = fused(%x, %b) { yield (transpose (rope %x, %b.pos {dim=8, theta=100}) {perm=[1, 0]}) }\n return %y }\n}",
     {"", "n 3; t 2"},
     {1, 5}},
    {"statistics of a row, each in its own way",
     HEAD "graph f(%x: f32[T, 37]) -> f32[T, 37], f32[T, 1] {\n"
          " %y, %m = fused(%x) { %c = sub %x, (mul (sum %x), 0.027)\n %v = sum (mul %c, %c)\n yield (div %c, (sqrt (add %v, 0.001))), "
          "(maximum (rmax %x), (neg %v)) }\n return %y, %m }\n}",
     {"", "t 3; r 32 lanes 16; n 16 for lanes 16", "%sum phase"},
     {1, 4}},
};

static void regions_lower_to_what_they_mean(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (int s = 0; s < 6 && rows[i].schedules[s]; s++)
            for (int t = 0; t < 6 && rows[i].t[t]; t++)
                for (int panels = strstr(rows[i].text, "] panel") != NULL; panels < 3; panels++) /* 2: planes, where the type has them */
                    region_check(rows[i].story, rows[i].text, rows[i].schedules[s], rows[i].t[t], panels, 1 + (uint64_t)t);
}

/* Every reason that a person can run into is said with the name it is about. */
static void schedules_that_do_not_fit_are_refused(void **state) {
    (void)state;
    static const char text[] =
        HEAD "weight @g: f32[64]\n weight @w: q8_0[48, 64]\n state $k: f32[S, 2, 32]\n graph f(%x: f32[T, 64], %b: batch) -> f32[T, 48], "
             "f32[T, 2, 32] {\n"
             " %y, %a = fused(%x, @g, @w, $k, %b) { %n = quantize (mul (mul %x, (rms %x {eps=1e-5})), @g) {dtype=a16}\n"
             "  yield (dot %n, @w {spec=\"tk,nk->tn\"}), (attend (heads %x {heads=2}), $k, $k, %b {scale=1}) }\n return %y, %a }\n}";
    static const char *const bad[][2] = {
        {"z 3", "no axis is called z"},
        {"d 24", "steps of 32"},
        {"n 96 24 mma", "mma 24"},
        {"%x in local", "computed subscript"},
        {"%g in local stages 3", ""},
        {"%w in local", "plain numbers, or a weight of blocks in panels"},
        {"%b in reg stages 2", "no `for` loop reads it"},
        {"%q phase", "no value of the region is called q"},
        {"%n phase in local", "local"},
        {"%n in reg stages 2", "stages are for what the region reads"},
        {"split 100", "split"},
        {"j 3; split 64", ""},
        {"r 48 lanes 16", "power of two"},
        {"t 300; n 300", "expected smaller steps"},
    };
    aq_module m;
    if (aq_read_module("test.aq", text, strlen(text), NULL, 0, &m))
        fail_msg("%s", aq_error());
    aq_id body = 0;
    for (aq_id i = 1; i < m.nodes.n; i++)
        body = m.nodes.at[i].op == AQ_OP_fused ? m.nodes.at[i].body : body;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        aq_arena arena = {0};
        aq_schedule *s;
        aq_nest *n;
        assert_int_equal(aq_read_schedule(&arena, "s", bad[i][0], strlen(bad[i][0]), &s), AQ_OK);
        aq_status status = aq_lower(&m, body, s, "k", &arena, &n);
        if (*bad[i][1] ? status != AQ_REFUSED || !strstr(aq_error(), bad[i][1]) : status != AQ_OK)
            fail_msg("'%s' gave %d: %s", bad[i][0], status, status ? aq_error() : "");
        aq_arena_close(&arena);
    }
    aq_module_close(&m);
}

/* The walks of lower recurse: a chain of ten thousand operations is refused, not followed. */
static void a_region_without_measure_is_refused(void **state) {
    (void)state;
    aq_arena arena = {0};
    aq_text t = {.arena = &arena};
    const char *text;
    aq_module m;
    aq_nest *n;
    enum { CHAIN = 10000 };
    assert_int_equal(aq_text_add(&t, "model m { graph f(%%v0: f32[8]) -> f32[8] { %%y = fused(%%v0) {\n"), AQ_OK);
    for (int i = 0; i < CHAIN; i++)
        assert_int_equal(aq_text_add(&t, "%%v%d = silu %%v%d\n", i + 1, i), AQ_OK);
    assert_int_equal(aq_text_add(&t, "yield %%v%d }\n return %%y } }", CHAIN), AQ_OK);
    assert_int_equal(aq_text_end(&t, &text), AQ_OK);
    if (aq_read_module("test.aq", text, strlen(text), NULL, 0, &m))
        fail_msg("%s", aq_error());
    aq_schedule s = {.target = "cpu"};
    assert_int_equal(aq_lower(&m, m.nodes.at[m.nodes.n - 1].body, &s, "k", &arena, &n), AQ_REFUSED);
    assert_string_equal(aq_error(), "test.aq: kernel k: a region of 10000 operations: expected at most 1024");
    aq_module_close(&m);
    aq_arena_close(&arena);
}

/* The steps of the tiles of a phase's first tree, by the axis' first letter. */
static int32_t tiles_of(const aq_nest *n, aq_id phase, char letter) {
    for (aq_id id = n->stmts.at[phase].first_child; id && n->stmts.at[id].kind == AQ_STMT_TILES; id = n->stmts.at[id].first_child)
        if (n->axes.at[n->stmts.at[id].axis].name[0] == letter)
            return n->stmts.at[id].step;
    return 0;
}

/* What is kept has plans of its own, pt pn: they are taken for it and for nothing else. */
static void kept_values_have_their_own_plans(void **state) {
    (void)state;
    static const char text[] = HEAD "weight @w: q8_0[96, 192]\n graph f(%x: f32[T, 192]) -> f32[T, 96] {\n %y = fused(%x, @w) {\n"
                                    "  %n = quantize %x {dtype=a16}\n  yield (dot %n, @w {spec=\"tk,nk->tn\"}) }\n return %y }\n}";
    aq_module m;
    aq_random r = aq_random_open(3);
    if (aq_read_module("test.aq", text, strlen(text), NULL, 0, &m))
        fail_msg("%s", aq_error());
    for (int i = 0; i < 60; i++) {
        aq_arena arena = {0};
        aq_schedule *s;
        aq_nest *n;
        char words[120];
        int t = 1 + (int)aq_random_below(&r, 6), columns = 16 * (1 + (int)aq_random_below(&r, 6)), pt = 1 + (int)aq_random_below(&r, 6), pn = 32 * (1 + (int)aq_random_below(&r, 6));
        snprintf(words, sizeof words, i % 2 ? "t %d; n %d lanes 16; d 32; pt %d; pn %d lanes 16" : "pn %4$d lanes 16; pt %3$d; d 32; n %2$d lanes 16; t %1$d", t, columns, pt, pn);
        assert_int_equal(aq_read_schedule(&arena, "words", words, strlen(words), &s), AQ_OK);
        if (aq_lower(&m, m.nodes.at[m.nodes.n - 1].body, s, "k", &arena, &n))
            fail_msg("%s: %s", words, aq_error());
        aq_id first = n->first_phase, second = n->stmts.at[first].next;
        if (tiles_of(n, first, 't') != pt || tiles_of(n, first, 'n') != pn || tiles_of(n, second, 't') != t || tiles_of(n, second, 'n') != columns)
            fail_msg("%s: kept by %d, %d, stored by %d, %d", words, tiles_of(n, first, 't'), tiles_of(n, first, 'n'), tiles_of(n, second, 't'), tiles_of(n, second, 'n'));
        aq_arena_close(&arena);
    }
    aq_module_close(&m);
}

/* A view of a view, neither a part of the other, doubles the subscript: thirty of them have 2^30 parts. */
static void views_of_views_are_refused(void **state) {
    (void)state;
    static const char *const shapes[] = {"6, 35", "14, 15", "10, 21", "5, 42", "30, 7"};
    aq_arena arena = {0};
    aq_text t = {.arena = &arena};
    const char *text;
    aq_module m;
    aq_nest *n;
    assert_int_equal(aq_text_add(&t, "model m { graph f(%%v0: f32[210]) -> f32[210] { %%y = fused(%%v0) {\n"), AQ_OK);
    for (int i = 0; i < 30; i++)
        assert_int_equal(aq_text_add(&t, "%%v%d = silu (reshape %%v%d {shape=[%s]})\n", i + 1, i, shapes[i % 5]), AQ_OK);
    assert_int_equal(aq_text_add(&t, "yield (reshape %%v30 {shape=[210]}) }\n return %%y } }"), AQ_OK);
    assert_int_equal(aq_text_end(&t, &text), AQ_OK);
    if (aq_read_module("test.aq", text, strlen(text), NULL, 0, &m))
        fail_msg("%s", aq_error());
    aq_schedule s = {.target = "cpu"};
    assert_int_equal(aq_lower(&m, m.nodes.at[m.nodes.n - 1].body, &s, "k", &arena, &n), AQ_REFUSED);
    assert_string_equal(aq_error(), "region k: an expression of more than 4096 parts: expected fewer views of views in one region");
    aq_module_close(&m);
    aq_arena_close(&arena);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(schedules_that_do_not_fit_are_refused),
        cmocka_unit_test(a_region_without_measure_is_refused),
        cmocka_unit_test(views_of_views_are_refused),
        cmocka_unit_test(kept_values_have_their_own_plans),
        cmocka_unit_test(regions_lower_to_what_they_mean),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
