/* test_text.c: nests and schedules as text: what is read prints as the same text, and broken texts are refused at their place. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "ir/nest.h"

static const char qkv[] = /* normalise and quantise, then one projection: everything the grammar has but merge and part */
    "nest qkv.0(\n"
    "  in %x: f32[T, 64],\n"
    "  in @g: f32[64],\n"
    "  in @wq: q4_1[96, 64] panel,\n"
    "  in %b.pos: i32[T],\n"
    "  out %q: f32[T, 96],\n"
    "  scratch %n: a16[T, 64]\n"
    ") {\n"
    "  axis t: T, d: 64, n: 96\n"
    "  phase {\n"
    "    tiles t by 1 {\n"
    "      acc %s sum [t]\n"
    "      for d by 32 lanes 16 {\n"
    "        %s += mul(%x[t, d], %x[t, d])\n"
    "      }\n"
    "      let %r = rsqrt(add(mul(%s, 0.015625), 1e-05))\n"
    "      for d by 32 lanes 16 {\n"
    "        store %n[t, d] = quantize(mul(mul(%x[t, d], %r), @g[d])) {dtype=a16}\n"
    "      }\n"
    "    }\n"
    "  }\n"
    "  phase {\n"
    "    tiles t by 6 {\n"
    "      tiles n by 32 lanes 16 {\n"
    "        acc %a sum [t, n]\n"
    "        for d by 32 {\n"
    "          %a += dot(%n[t, d], @wq[n, d])\n"
    "        }\n"
    "        store %q[t, n] = rope(%a, %b.pos[t]) {dim=32, theta=10000, factor=1}\n"
    "      }\n"
    "    }\n"
    "  }\n"
    "}\n";

static const char merge[] = /* parts of another result, a limit, a dim as a number, a loop over the whole axis */
    "nest merge(\n"
    "  in %m: f32[T, 4],\n"
    "  in %i: i32[T, 4],\n"
    "  in %len: i32[T],\n"
    "  out %y: i32[T, 1],\n"
    "  out %z: f32[T]\n"
    ") {\n"
    "  axis t: T, c: 4 limit minimum(%len[t], add(T, 2*T))\n"
    "  phase {\n"
    "    tiles t by 1 {\n"
    "      acc %a argmax []\n"
    "      for c by 1 {\n"
    "        %a merge argmax= %m[t, c], %i[t, c]\n"
    "      }\n"
    "      store %y[t, 0] = %a\n"
    "      store %z[t] = mul(part(%a, 0), -inf)\n"
    "    }\n"
    "  }\n"
    "}\n";

static const char gate[] = /* the marks of a GPU, at the size they are for: more than 4096 numbers an item, 16 fragments a warp */
    "nest gate(\n"
    "  in %x: bf16[T, 4096],\n"
    "  in %r: f32[T],\n"
    "  in @w1: bf16[11008, 4096],\n"
    "  out %h: bf16[T, 11008],\n"
    "  out %n: f32[T],\n"
    "  local %xs: bf16[128, 64],\n"
    "  local %s1: bf16[128, 64]\n"
    ") {\n"
    "  axis t: T, f: 11008, d: 4096, e: 4096\n"
    "  phase {\n"
    "    tiles f by 128 warps 4 mma 8 {\n"
    "      tiles t by 128 warps 2 mma 16 {\n"
    "        acc %a sum [t, f]\n"
    "        for d by 64 mma 16 stages 3 %xs, %s1 {\n"
    "          store %xs[imod(t, 128), imod(d, 64)] = %x[t, d]\n"
    "          store %s1[imod(f, 128), imod(d, 64)] = @w1[f, d]\n"
    "          %a += dot(%xs[imod(t, 128), imod(d, 64)], %s1[imod(f, 128), imod(d, 64)])\n"
    "        }\n"
    "        store %h[t, f] = silu(mul(%a, %r[t]))\n"
    "      }\n"
    "    }\n"
    "  }\n"
    "  phase {\n"
    "    tiles t by 1 {\n"
    "      acc %s sum [t]\n"
    "      for e by 1024 lanes 32 vec 8 warps 4 stages 4 {\n"
    "        %s += mul(%x[t, e], %x[t, e])\n"
    "      }\n"
    "      store %n[t] = %s\n"
    "    }\n"
    "  }\n"
    "}\n";

typedef struct world {
    aq_module m;
    aq_arena arena;
} world;

static void open_world(world *w) {
    aq_id id;
    memset(w, 0, sizeof *w);
    assert_int_equal(aq_module_open(&w->m, "test"), AQ_OK);
    assert_int_equal(aq_sym_add(&w->m, "T", 1, 4096, &id), AQ_OK);
}

static void close_world(world *w) {
    aq_arena_close(&w->arena);
    aq_module_close(&w->m);
}

static void read_and_print(world *w, const char *text) {
    aq_nest *n;
    aq_text t = {.arena = &w->arena};
    const char *printed;
    if (aq_read_nest(&w->m, &w->arena, "test.nest", text, strlen(text), &n))
        fail_msg("%s", aq_error());
    assert_int_equal(aq_print_nest(n, &t), AQ_OK);
    assert_int_equal(aq_text_end(&t, &printed), AQ_OK);
    assert_string_equal(printed, text);
}

static void nests_print_as_they_were_read(void **state) {
    (void)state;
    world w;
    open_world(&w);
    read_and_print(&w, qkv);
    read_and_print(&w, merge);
    read_and_print(&w, gate);
    close_world(&w);
}

/* What decides the order of sums is in the class; what does not (stages, warps on other axes) is not. */
static void marks_name_their_sum_class(void **state) {
    (void)state;
    static const char *const rows[][3] = {
        {"for e", "for e", "mma16+lanes32v8.w4"},
        {" stages 4", "", "mma16+lanes32v8.w4"},
        {" vec 8 warps 4", "", "mma16+lanes32x32"},
        {" lanes 32 vec 8", "", "mma16+seq.w4"},
        {" mma 16 stages 3", " stages 2", "seq+lanes32v8.w4"},
    };
    world w;
    open_world(&w);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char text[4096];
        aq_nest *n;
        const char *at = strstr(gate, rows[i][0]), *class;
        int len = snprintf(text, sizeof text, "%.*s%s%s", (int)(at - gate), gate, rows[i][1], at + strlen(rows[i][0]));
        if (aq_read_nest(&w.m, &w.arena, "test.nest", text, (size_t)len, &n))
            fail_msg("%s", aq_error());
        assert_int_equal(aq_nest_sum_class(n, &w.arena, &class), AQ_OK);
        assert_string_equal(class, rows[i][2]);
    }
    close_world(&w);
}

/* `from` becomes `to` in one of the nests; the message must name the place and the reason. */
static void broken_in(world *w, const char *nest, const char *from, const char *to, const char *place, const char *reason) {
    char text[4096];
    aq_nest *n;
    const char *at = strstr(nest, from);
    assert_non_null(at);
    int len = snprintf(text, sizeof text, "%.*s%s%s", (int)(at - nest), nest, to, at + strlen(from));
    assert_int_equal(aq_read_nest(&w->m, &w->arena, "test.nest", text, (size_t)len, &n), AQ_REFUSED);
    if (!strstr(aq_error(), place) || !strstr(aq_error(), reason))
        fail_msg("'%s' -> '%s' gave: %s\nwanted: %s .. %s", from, to, aq_error(), place, reason);
}

static void broken(world *w, const char *from, const char *to, const char *place, const char *reason) {
    broken_in(w, qkv, from, to, place, reason);
}

static void marks_that_do_not_fit_are_refused(void **state) {
    (void)state;
    static const char *const rows[][3] = {
        {"warps 4 mma 8", "warps 3 mma 8", "3 warps"},
        {"warps 4 mma 8", "warps 64 mma 8", "64 warps"},
        {"warps 4 mma 8", "warps 32 mma 4", "mma 4"},
        {"warps 4 mma 8 {\n      tiles t by 128 warps 2", "warps 16 mma 8 {\n      tiles t by 128 warps 8", "more than 32 warps"},
        {"in @w1: bf16[11008, 4096]", "in @w1: bf16[11008, 4096] planes", "planes of bf16"},
        {"warps 4 mma 8", "warps 4 mma 4", "mma 4"},
        {"warps 4 mma 8", "warps 4 mma 24", "mma 24"},
        {"warps 4 mma 8", "warps 4", "mma on two axes"},
        {"warps 4 mma 8", "lanes 32 mma 8", "mma 8"},
        {"f by 128 warps 4 mma 8", "f by 128 stages 3", "stages 3"},
        {"stages 3 %xs", "stages 1 %xs", "stages 1"},
        {"stages 3 %xs", "stages 9 %xs", "stages 9"},
        {"stages 3 %xs", "stages 3 %h", "neither loads nor stores"},
        {"e by 1024 lanes 32 vec 8 warps 4 stages 4 {\n", "e by 1 stages 4 %n { store %n[t] = %s", "stored where it is loaded"},
        {"stages 3 %xs", "stages 3 %r", "neither loads nor stores"},
        {"stages 3 %xs", "stages 3 %nothing", "no buffer"},
        {"lanes 32 vec 8", "vec 8", "behind lanes"},
        {"lanes 32 vec 8", "lanes 32 vec 64", "divides the step of a warp"},
        {"lanes 32 vec 8", "lanes 32 vec 6", "vec 6"},
    };
    world w;
    open_world(&w);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        broken_in(&w, gate, rows[i][0], rows[i][1], "", rows[i][2]);
    close_world(&w);
}

static void wide_buffers_are_checked(void **state) {
    (void)state;
    static const char text[] = "nest o(in %x: a16[T, 512], in @w: q6_k[64, 512] panel, out %y: f32[T, 64], local %l: q6_k[32, 512] wide) {\n"
                               "  axis t: T, n: 64, d: 512, e: 512\n"
                               "  phase { tiles n by 32 lanes 16 {\n"
                               "    for d by 32 { store %l[imod(n, 32), d] = @w[n, d] }\n"
                               "    for t by 6 { acc %a sum [t, n] for d by 32 { %a += dot(%x[t, d], %l[imod(n, 32), d]) } store %y[t, n] = %a }\n"
                               "  } }\n}\n";
    static const char *const rows[][3] = {
        {"local %l", "scratch %l", "expected a local buffer"},
        {"local %l: q6_k[32, 512]", "local %l: f32[32, 512]", "weight block type"},
        {"local %l: q6_k", "local %l: q5_k", "expected blocks of q5_k straight from a panel"},
        {"[64, 512] panel", "[64, 512]", "straight from a panel"},
        {" wide", " panel", "cast or dot"},
        {"= @w[n, d] }", "= cast(@w[n, d]) {dtype=f32} }", "straight from a panel"},
        {"for d by 32 { store", "for d by 16 { store", "steps of 32"},
        {"= @w[n, d] }", "= @w[n, mul(d, 1)] }", "steps of 32"},
        {"for d by 32 { store %l[imod(n, 32), d] = @w[n, d] }", "for d by 32 { for e by 32 { store %l[imod(n, 32), d] = @w[n, e] } }", "no subscript names"},
        {"store %l[imod(n, 32), d]", "store %l[imod(add(n, d), 32), d]", "in two subscripts"},
        {"= %a }", "= @w[n, t] }", "cast or dot"},
    };
    world w;
    open_world(&w);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        broken_in(&w, text, rows[i][0], rows[i][1], "", rows[i][2]);
    close_world(&w);
}

static void pairs_beside_lanes(void **state) {
    (void)state;
    world w;
    aq_nest *n;
    const char *class;
    open_world(&w);
    const char text[] = "nest p(\n  in %x: bf16[T, 64],\n  in @w: bf16[64, 64] panel,\n  out %y: f32[T, 64]\n) {\n"
                        "  axis t: T, n: 64, d: 64\n"
                        "  phase {\n"
                        "    tiles t by 1 {\n"
                        "      tiles n by 16 lanes 16 {\n"
                        "        acc %a sum [t, n]\n"
                        "        for d by 8 mma 2 {\n"
                        "          %a += dot(%x[t, d], @w[n, d])\n"
                        "        }\n"
                        "        store %y[t, n] = %a\n"
                        "      }\n"
                        "    }\n"
                        "  }\n"
                        "}\n";
    read_and_print(&w, text);
    assert_int_equal(aq_read_nest(&w.m, &w.arena, "test.nest", text, strlen(text), &n), AQ_OK);
    assert_int_equal(aq_nest_sum_class(n, &w.arena, &class), AQ_OK);
    assert_string_equal(class, "mma2");
    broken_in(&w, text, "by 16 lanes 16", "by 16", "", "beside lanes of a dot");
    broken_in(&w, text, "mma 2", "mma 4", "", "mma 4");
    broken_in(&w, text, "by 8 mma 2", "by 7 mma 2", "", "mma 2");
    broken_in(&w, text, "dot(%x[t, d], @w[n, d])", "add(%x[t, d], @w[n, d])", "", "beside lanes of a dot");
    close_world(&w);
}

static void broken_nests_are_refused_at_their_place(void **state) {
    (void)state;
    world w;
    open_world(&w);
    broken(&w, "nest", "next", "test.nest:1:1", "expected nest NAME");
    broken(&w, "in %x", "inn %x", "test.nest:2:7", "role");
    broken(&w, "f32[T", "f33[T", "test.nest:2:", "element type");
    broken(&w, "f32[T", "f32[Q", "test.nest:2:", "symbol");
    broken(&w, " panel", " pannel", "test.nest:4:", "layout");
    broken(&w, "by 1 {", "by 0 {", "test.nest:11:", "step");
    broken(&w, "acc %s sum", "acc %s sun", "test.nest:12:", "monoid");
    broken(&w, "%s += mul", "%u += mul", "test.nest:14:", "not declared");
    broken(&w, "mul(%x[t, d], %x", "mul(%y[t, d], %x", "test.nest:14:", "no buffer");
    broken(&w, "rsqrt", "rsqrtt", "test.nest:16:", "no op");
    broken(&w, "{dtype=a16}", "{dtypo=a16}", "test.nest:18:", "no attribute");
    broken(&w, "{dtype=a16}", "{dtype=a17}", "test.nest:18:", "element type");
    broken(&w, "store %n", "stare %n", "test.nest:18:", "no statement");
    broken(&w, "tiles t by 6", "tiles u by 6", "test.nest:23:", "no axis");
    broken(&w, "theta=10000", "theta=many", "test.nest:29:", "number");
    broken(&w, "    }\n  }\n}\n", "    }\n  }\n", "test.nest:", "");
    broken(&w, "q4_1[96, 64] panel", "q4_1[96, 60] panel", "", "");
    close_world(&w);
}

static void every_cut_of_a_nest_is_refused(void **state) {
    (void)state;
    world w;
    open_world(&w);
    for (size_t n = 0; n + 2 < sizeof qkv; n++) {
        aq_nest *nest;
        aq_arena arena = {0};
        assert_int_equal(aq_read_nest(&w.m, &arena, "test.nest", qkv, n, &nest), AQ_REFUSED);
        aq_arena_close(&arena);
    }
    close_world(&w);
}

static void schedules_print_as_they_were_read(void **state) {
    (void)state;
    static const struct {
        const char *text, *printed;
    } rows[] = {
        {"", ""},
        {"t 64 tiles 6 unroll; n 96 32 lanes 16; d 32; %n phase in scratch; %rms late; split 256", NULL},
        {"t 128 tiles 64 warps 16 mma; n 128 32 warps 8 mma; d 64 for 16 mma; @w in local stages 3", "t 128 tiles 64 warps 16 mma; n 128 32 warps 8 mma; "
         "d 64 for 16 mma; %w in local stages 3"},
        {"d 1024 256 warps lanes 32 vec 8; %wq in reg stages 4", NULL},
        {"n 32 lanes", NULL},
        {"d lanes 8", NULL},
        {"schedule cpu.v4 { t 1 ; rms late ; }", "t 1; %rms late"},
        {"%x in local stages 3", NULL},
    };
    aq_arena arena = {0};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        aq_schedule *s;
        aq_text t = {.arena = &arena};
        const char *printed;
        if (aq_read_schedule(&arena, "test.aq", rows[i].text, strlen(rows[i].text), &s))
            fail_msg("%s", aq_error());
        assert_int_equal(aq_print_schedule(s, &t), AQ_OK);
        assert_int_equal(aq_text_end(&t, &printed), AQ_OK);
        assert_string_equal(printed, rows[i].printed ? rows[i].printed : rows[i].text);
    }
    static const char *const bad[] = {"t",       "t 6 6 6 6", "n 32 lanes 5",       "t 0",           "t -1",
                                      "t 1.5",   "x never",   "x in air",           "t 1 t 2",       "split",
                                      "t 64 warps", "t 64 24 warps", "d 64 lanes 32 vec 65", "; ;",       "schedule cpu { t 1", "%x stages 999", "schedule cpu { t 1 } t 2"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        aq_schedule *s;
        if (aq_read_schedule(&arena, "test.aq", bad[i], strlen(bad[i]), &s) != AQ_REFUSED)
            fail_msg("'%s' was not refused", bad[i]);
        assert_true(!strncmp(aq_error(), "test.aq:1:", 10));
    }
    aq_arena_close(&arena);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nests_print_as_they_were_read),
        cmocka_unit_test(marks_name_their_sum_class),
        cmocka_unit_test(marks_that_do_not_fit_are_refused),
        cmocka_unit_test(wide_buffers_are_checked),
        cmocka_unit_test(pairs_beside_lanes),
        cmocka_unit_test(broken_nests_are_refused_at_their_place),
        cmocka_unit_test(every_cut_of_a_nest_is_refused),
        cmocka_unit_test(schedules_print_as_they_were_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
