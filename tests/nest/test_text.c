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
    close_world(&w);
}

/* `from` becomes `to` in the qkv nest; the message must name the place and the reason. */
static void broken(world *w, const char *from, const char *to, const char *place, const char *reason) {
    char text[4096];
    aq_nest *n;
    const char *at = strstr(qkv, from);
    assert_non_null(at);
    int len = snprintf(text, sizeof text, "%.*s%s%s", (int)(at - qkv), qkv, to, at + strlen(from));
    assert_int_equal(aq_read_nest(&w->m, &w->arena, "test.nest", text, (size_t)len, &n), AQ_REFUSED);
    if (!strstr(aq_error(), place) || !strstr(aq_error(), reason))
        fail_msg("'%s' -> '%s' gave: %s\nwanted: %s .. %s", from, to, aq_error(), place, reason);
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
        {"t 64 tiles 6 unroll; n 96 32 lanes 16; d 32; %n phase in scratch; %rms late; split 256; warps 2 4", NULL},
        {"n 32 lanes", NULL},
        {"d lanes 8", NULL},
        {"schedule cpu.v4 { t 1 ; rms late ; }", "t 1; %rms late"},
        {"%x in local stages 3 swizzle 128", NULL},
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
                                      "warps 1", "; ;",       "schedule cpu { t 1", "%x stages 999", "schedule cpu { t 1 } t 2"};
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
        cmocka_unit_test(broken_nests_are_refused_at_their_place),
        cmocka_unit_test(every_cut_of_a_nest_is_refused),
        cmocka_unit_test(schedules_print_as_they_were_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
