/* test_text.c: the language as text: what is read is what is printed, and every refusal says where and what was expected. */
#include "ir/file.h"
#include "ir/memory.h"
#include "tests/support/random_module.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static const aq_bind smollm2[] = {{"V", 49152}, {"D", 576},    {"L", 30},      {"H", 9},          {"HKV", 3},
                                  {"DH", 64},   {"F", 1536},   {"EPS", 1e-5},  {"THETA", 100000}, {"ROPE_FACTOR", 1}, {"ROPE_LOW", NAN}, {"ROPE_HIGH", NAN}, {"ROPE_RAMP", NAN}, {"ROPE_GAIN", NAN}};

static void read_or_fail(const char *text, aq_module *m) {
    if (aq_read_module("t.aq", text, strlen(text), smollm2, sizeof smollm2 / sizeof *smollm2, m) != AQ_OK)
        fail_msg("%s\n%s\nin:\n%s", aq_error(), aq_error_detail(), text);
}

/* print(read(text)) = text, and the same for what that says. */
static void is_stable(const char *text, const char *story) {
    aq_module m;
    aq_arena a = {0};
    read_or_fail(text, &m);
    const char *again = aq_print_or_fail(&m, &a);
    if (strcmp(text, again))
        fail_msg("%s: a print read and printed again differs\n--- first\n%s\n--- again\n%s", story, text, again);
    aq_module_close(&m);
    aq_arena_close(&a);
}

static void aquila_reads_prints_and_reads(void **state) {
    (void)state;
    char *text;
    size_t n;
    aq_module m;
    aq_arena a = {0};
    assert_int_equal(aq_file_read("models/aquila/aquila.aq", 1 << 20, &text, &n), AQ_OK);
    if (aq_read_module("models/aquila/aquila.aq", text, n, smollm2, sizeof smollm2 / sizeof *smollm2, &m) != AQ_OK)
        fail_msg("%s\n%s", aq_error(), aq_error_detail());
    assert_int_equal(m.weights.n, 3 + 9 * 30);
    assert_int_equal(m.states.n, 60);
    const aq_body *step = aq_graph_find(&m, "step");
    assert_non_null(step);
    assert_int_equal(step->nodes.n, 1 + 1 + 30 * 22 + 3); /* rows, one field, the layers, the head */
    assert_int_equal(m.nodes.at[step->nodes.at[step->nodes.n - 4]].layer, 29);
    is_stable(aq_print_or_fail(&m, &a), "aquila.aq");
    aq_module_close(&m);
    aq_arena_close(&a);
    aq_mem_free(text);
    assert_int_equal(aq_mem_open_blocks(), 0);
}

#define HEAD                                                                                                                               \
    "model m {\n  sym T in 1..64\n  sym S in 64..4096\n  sym B in 1..4\n  sym P in 1..8\n  weight @w: q4_0[64, 64]\n  weight @g: f32[64]\n"   \
    "  state $k.0: f16[S, 2, 16]\n\n"
#define TAIL "\n}\n"

static void every_form_is_stable(void **state) {
    (void)state;
    is_stable(HEAD "  graph g(%x: f32[T, 64], %b: batch) -> f32[T, 64] {\n    %0 = matmul %x, @w\n    return %0\n  }" TAIL, "a graph");
    is_stable(HEAD "  graph g(%x: f32[T, 64]) -> f32[T, 64], f32[T, 1] {\n    %y = mul %x, @g\n    %0 = sum %y\n    return %y, %0\n  }" TAIL, "two results");
    is_stable(HEAD "  graph g(%x: f32[T, 2, 16], %b: batch) {\n    $k.0'1 = append $k.0, %x, %b\n    $k.0'2 = append $k.0'1, %x, %b\n  }" TAIL,
              "versions of a state");
    is_stable(HEAD "  graph g(%q: f32[T, 2, 16], %b: batch) -> f32[T, 2, 16], f32[T, 2, 16] {\n    $k.0'1 = append $k.0, %q, %b\n"
                   "    %0 = attend %q, $k.0, $k.0, %b {scale=0.25}\n    %1 = attend %q, $k.0'1, $k.0, %b {scale=0.25, causal}\n    return %0, %1\n  }" TAIL,
              "an old version read after the new one was made");
    is_stable(HEAD "  graph g(%x: f32[T, 64], %b: batch) -> f32[T, 64] {\n    layer 3 {\n      %y = rope %x, %b.pos {theta=10000, dim=16}\n    }\n"
                   "    return %y\n  }" TAIL,
              "layers and fields");
    is_stable(HEAD "  graph g(%x: f32[T, 64], %b: batch) -> f32[T, 64] {\n    %y = rope %x, %b.pos {theta=500, factor=8, low=0.001, high=0.5, ramp=1, gain=1.25}\n"
                   "    return %y\n  }" TAIL,
              "a rope with a band");
    is_stable(HEAD "  graph g(%x: f32[T, 2, 16], %b: batch) -> f32[T, 2, 16] {\n    %y, $k.0'1 = fused kern.x(%x, $k.0, %b) {\n      %0 = silu %x\n"
                   "      $k.0'1 = append $k.0, %0, %b\n      yield %0, $k.0'1\n    }\n    return %y\n  }" TAIL,
              "a region that appends");
    is_stable(HEAD "  graph g(%x: f32[T, 2, 16], %b: batch) {\n    $k.0'1 = fused(%x, $k.0, %b) {\n      $k.0'1 = append $k.0, %x, %b\n"
                   "      $k.0'2 = append $k.0'1, %x, %b\n      yield $k.0'2\n    }\n    $k.0'2 = append $k.0'1, %x, %b\n  }" TAIL,
              "a region that appends twice and makes one version");
    is_stable(HEAD "  graph g(%x: f32[T, 2, 16], %b: batch) -> f32[S, 2, 16], f32[S, 2, 16], f32[S, 2, 16] {\n    $k.0'1 = append $k.0, %x, %b\n    $k.0'2 = append $k.0'1, %x, %b\n"
                   "    %0, %1, %2 = fused($k.0'2, $k.0, $k.0'1) {\n      %3 = neg $k.0\n      %4 = neg $k.0'1\n      %5 = neg $k.0'2\n      yield %3, %4, %5\n    }\n"
                   "    %6 = fused($k.0, $k.0'2) {\n      %7 = add $k.0, $k.0'2\n      yield %7\n    }\n    return %0, %1, %6\n  }" TAIL,
              "a region that is given several versions of a state");
    is_stable(HEAD "  graph g(%x: f32[T, 64]) -> f32[T, 64] {\n    %0 = fused(%x, @g) {\n      %n = mul %x, @g\n      %1 = add %n, -inf\n      yield %1\n    }"
                   "\n    return %0\n  }" TAIL,
              "a region without a name; numbers that are none");
    is_stable(HEAD "  graph g(%x: f32[T, 64]) -> f32[64, T] {\n    %0 = transpose %x {perm=[1, 0]}\n    %1 = reshape %0 {shape=[4, 16, T]}\n"
                   "    %2 = reshape %1 {shape=[64, T]}\n    %3 = cast %2 {dtype=bf16}\n    %4 = cast %3 {dtype=f32}\n    return %4\n  }" TAIL,
              "lists and types as attributes");
    is_stable("model m {\n  weight @a: f32[32, 64]\n  weight @b: f32[32, 64] panel rotate_half 16 alias @a\n  state $s: f32[64, 2, 8] kv_panel\n}\n",
              "storage of weights and states");
    is_stable(HEAD "  graph g(%x: f32[T, 64]) -> f32[T, 64] {\n    %0 = fused(%x, @g) {\n      %1 = mul %x, @g\n      yield %1\n    } schedule cpu.v4 {t 14 unroll; "
                   "n 512 32 lanes; %1 phase in scratch}\n    return %0\n  }" TAIL,
              "a schedule");
}

static void repeat_and_nesting_mean_their_long_form(void **state) {
    (void)state;
    aq_module m;
    aq_arena a = {0};
    read_or_fail("model m { dims D, DH\n sym T in 1..8\n sym S in 64..128 sym B in 1..2 sym P in 1..2\n weight @g[2]: f32[D]\n state $k[2]: f32[S, 9, DH] # caches\n"
                 "graph g(%x: f32[T, D], %b: batch) -> f32[T, D] {\n"
                 "  repeat 2 { %x = mul (add %x, 1/sqrt(4)), @g   append $k, (heads %x {heads=D/DH}), %b\n"
                 "  %y = attend (heads %x {heads=9}), $k, $k, %b {scale=1/sqrt(DH), causal} %x = add %x, (merge %y) }\n"
                 "  return add (%x), (2*D - 1) } }",
                 &m);
    assert_string_equal(aq_print_or_fail(&m, &a),
                        "model m {\n  sym T in 1..8\n  sym S in 64..128\n  sym B in 1..2\n  sym P in 1..2\n  weight @g.0: f32[576]\n  weight @g.1: f32[576]\n"
                        "  state $k.0: f32[S, 9, 64]\n  state $k.1: f32[S, 9, 64]\n\n"
                        "  graph g(%x: f32[T, 576], %b: batch) -> f32[T, 576] {\n"
                        "    layer 0 {\n      %0 = add %x, 0.5\n      %x.0 = mul %0, @g.0\n      %1 = heads %x.0 {heads=9}\n      $k.0'1 = append $k.0, %1, %b\n"
                        "      %2 = heads %x.0 {heads=9}\n      %y.0 = attend %2, $k.0'1, $k.0'1, %b {scale=0.125, causal}\n      %3 = merge %y.0\n"
                        "      %x.0.2 = add %x.0, %3\n    }\n"
                        "    layer 1 {\n      %4 = add %x.0.2, 0.5\n      %x.1 = mul %4, @g.1\n      %5 = heads %x.1 {heads=9}\n      $k.1'1 = append $k.1, %5, %b\n"
                        "      %6 = heads %x.1 {heads=9}\n      %y.1 = attend %6, $k.1'1, $k.1'1, %b {scale=0.125, causal}\n      %7 = merge %y.1\n"
                        "      %x.1.2 = add %x.1, %7\n    }\n"
                        "    %8 = add %x.1.2, 1151\n    return %8\n  }\n}\n");
    is_stable(aq_print_or_fail(&m, &a), "repeat");
    aq_module_close(&m);
    aq_arena_close(&a);
}

static void random_modules_are_stable(void **state) {
    (void)state;
    int used[AQ_OP_COUNT] = {0};
    for (uint64_t seed = 1; seed <= 150; seed++) {
        aq_module m;
        aq_arena a = {0};
        char story[40];
        aq_random_module(seed, 60, 1, &m, used);
        snprintf(story, sizeof story, "random module %d", (int)seed);
        is_stable(aq_print_or_fail(&m, &a), story);
        aq_module_close(&m);
        aq_arena_close(&a);
    }
    for (int op = 1; op < AQ_OP_COUNT; op++)
        if (!used[op])
            fail_msg("op %s never came up in 150 random modules", aq_op_of((aq_op)op)->name);
}

/* --- refusals ---------------------------------------------------------------------------------------------------------------------------- */

#define GRAPH(body) "model m {\n  sym T in 1..64\n  weight @w: f32[8, 64]\n  weight @l[2]: f32[64]\n  state $k: f32[64, 2, 8]\n  graph g(%x: f32[T, 64], %b: batch) -> f32[T, 64] {\n" body "\n  }\n}\n"

static void refused(const char *text, const char *message, const char *detail) {
    aq_module m;
    if (aq_read_module("t.aq", text, strlen(text), smollm2, sizeof smollm2 / sizeof *smollm2, &m) != AQ_REFUSED)
        fail_msg("read, but expected: %s\n%s", message, text);
    if (strcmp(aq_error(), message))
        fail_msg("the refusal says\n  %s\nexpected\n  %s", aq_error(), message);
    if (detail && strcmp(aq_error_detail(), detail))
        fail_msg("the detail says\n%s\nexpected\n%s", aq_error_detail(), detail);
}

/* An attribute that is a size which the model has not is left out; one that only contains it is refused. */
static void what_a_model_has_not_is_left_out(void **state) {
    (void)state;
    aq_module m;
    aq_arena a = {0};
    read_or_fail("model m {\n  dims ROPE_LOW, ROPE_HIGH\n  sym T in 1..64\n  graph g(%x: f32[T, 64], %b: batch) -> f32[T, 64] {\n"
                 "    %y = rope %x, %b.pos {low=ROPE_LOW, theta=500, high=ROPE_HIGH}\n    return %y\n  }\n}\n", &m);
    if (!strstr(aq_print_or_fail(&m, &a), "%y = rope %x, %b.pos {theta=500}\n"))
        fail_msg("%s", aq_print_or_fail(&m, &a));
    aq_module_close(&m);
    aq_arena_close(&a);
}

static void refusals_say_where_and_what(void **state) {
    (void)state;
    refused(GRAPH("    %y = add %x, @w\n    return %y"),
            "t.aq:7:10: add: %x is f32[T, 64], @w is f32[8, 64]: expected shapes that broadcast: trailing axes equal, or 1",
            "    %y = add %x, @w\n         ^");
    refused(GRAPH("    %y = add %x\n    return %y"), "t.aq:8:5: add has 1 operand: expected 2", "    return %y\n    ^");
    refused(GRAPH("    return %z"), "t.aq:7:12: %z is not known: expected a value made above", "    return %z\n           ^");
    refused(GRAPH("    return mul %x, @l"), "t.aq:7:20: @l is not known: expected a weight declared above, and its layer outside of repeat", NULL);
    refused(GRAPH("    return matmul %x, @w"), "t.aq:6:41: result 0: (matmul) is f32[T, 8]: expected f32[T, 64]", NULL);
    refused(GRAPH("    return frob %x"), "t.aq:7:12: no operand: expected %name, @weight, $state, a number or (OP ..)", NULL);
    refused(GRAPH("    %y = frob %x\n    return %y"), "t.aq:7:10: 'frob' is no op: expected one of `show ops`", NULL);
    refused(GRAPH("    %y = exp %x {eps=1}\n    return %y"), "t.aq:7:10: exp: attribute eps: expected none of that name", NULL);
    refused(GRAPH("    %y = rms %x\n    return %y"), "t.aq:7:10: rms: attribute eps is missing: expected a number from 0 to 1e+06", NULL);
    refused(GRAPH("    %y = rms %x {frob=1}\n    return %y"), "t.aq:7:18: 'frob' is no attribute: expected one of `show ops`", NULL);
    refused(GRAPH("    exp %x\n    return %x"), "t.aq:7:5: the result of exp has no name: expected %NAME = exp ..", NULL);
    refused(GRAPH("    $k = exp %x\n    return %x"), "t.aq:7:5: $k names a value: expected %name", NULL);
    refused(GRAPH("    $k'1 = append $k, %x, %b\n    return %x"),
            "t.aq:7:12: append: $k is f32[64, 2, 8], %x is f32[T, 64], %b is batch: expected a state [S, ...], floats [T, ...] with equal other axes, and a batch",
            NULL);
    refused(GRAPH("    %h = heads %x {heads=7}\n    return %x"), "t.aq:7:10: heads: %x is f32[T, 64]: expected a last axis that {heads} divides", NULL);
    refused(GRAPH("    %y = dot %x, @w {spec=\"tk,kn->tn\"}\n    return %x"),
            "t.aq:7:10: dot: %x is f32[T, 64], @w is f32[8, 64]: expected equal sizes where spec has equal letters", NULL);
    refused(GRAPH("    %y = dot %x, @w {spec=\"t,,\"}\n    return %x"), "t.aq:7:10: dot: attribute spec is \"t,,\": expected letters as \"tk,nk->tn\"", NULL);
    refused(GRAPH("    %y = rope %x, %b.pos {low=1, high=0.5}\n    return %y"),
            "t.aq:7:10: rope: an attribute is out of range: expected low below high, both from 1e-30 to 1e6", NULL);
    refused(GRAPH("    %y = rope %x, %b.pos {theta=100, gain=0}\n    return %y"), "t.aq:7:10: rope: an attribute is out of range: expected gain from 1e-6 to 1e6", NULL);
    refused(GRAPH("    %y = rope %x, %b.pos {theta=0/0}\n    return %y"), "t.aq:7:10: rope: an attribute is out of range: expected theta from 1e-6 to 1e12", NULL);
    refused("model m { dims ROPE_LOW weight @w: f32[ROPE_LOW] }",
            "t.aq:1:40: the model has no ROPE_LOW: expected it alone, as an attribute, which is left out then", NULL);
    refused("model m { dims Q }", "t.aq:1:16: size Q has no value: expected one from the model's configuration (--config, --bind)", "model m { dims Q }\n               ^");
    refused("model m {\n sym T in 5..2 }", "t.aq:2:6: bounds 5..2: expected the lowest first", NULL);
    refused("model m { weight @w: q4_0[4, 40] }", "t.aq:1:22: a last axis of 40 for q4_0: expected a multiple of 32", NULL);
    refused("model m { weight @w: f99[4] }", "t.aq:1:22: 'f99' is no element type: expected one of `show dtypes`", NULL);
    refused("model m { weight @w: [4, 4/0] }", "t.aq:1:26: a size of inf: expected a whole number of 1 or more", NULL);
    refused("model m { weight @w: f32[2] weight @w: f32[3] }", "t.aq:1:36: @w stands there twice: expected another name", NULL);
    refused("model m { frob }", "t.aq:1:11: 'frob' declares nothing: expected dims, sym, weight, state, graph or nest", NULL);
    refused("model m {", "t.aq:1:10: the text ends inside a model: expected '}'", NULL);
    refused("", "t.aq:1:1: no model: expected model NAME {", NULL);
    refused(GRAPH("    %y = fused(%x) { yield @w }\n    return %x"),
            "t.aq:7:28: @w is not known in this region: expected a value made in it or given to it", NULL);
    refused(GRAPH("    %y = fused(%x) { %z = exp %x yield %x }\n    return %x"), "t.aq:7:10: fused: result 0 is not made in the region: expected a value that is", NULL);
    refused("model m { weight @a: f32[2] alias @b }", "t.aq: a: expected an alias that names another weight", NULL);
}

/* Text that wants the stack, the memory or the time of everybody. */
static void hostile_text_is_refused_cleanly(void **state) {
    (void)state;
    enum { N = 1 << 20 };
    static char text[N + 1];
    aq_module m;
    static const char *const openings[] = {"", "model m { graph g(%x: f32[2]) -> f32[2] { %y = exp ", "model m { weight @w: f32[",
                                           "model m { graph g(%x: f32[2]) { return ", "model m { nest n("};
    static const char *const fillings[] = {"(", "{", "-", "(exp ", "%x, ", "a", "repeat 4096 {", "\n", "'", "$k'1 ", "[", "fused(", "..", "1*"};
    for (size_t o = 0; o < sizeof openings / sizeof *openings; o++)
        for (size_t f = 0; f < sizeof fillings / sizeof *fillings; f++) {
            size_t at = strlen(openings[o]), n = strlen(fillings[f]);
            memcpy(text, openings[o], at);
            for (; at + n <= N; at += n)
                memcpy(text + at, fillings[f], n);
            if (aq_read_module("t.aq", text, at, NULL, 0, &m) != AQ_REFUSED)
                fail_msg("a megabyte of %s behind %s was read", fillings[f], openings[o]);
        }
    assert_int_equal(aq_mem_open_blocks(), 0);
}

/* Every prefix of a good text is refused or read, and nothing leaks. */
static void truncated_text_is_refused(void **state) {
    (void)state;
    const char *text = GRAPH("    repeat 2 { %x = mul (add %x, 1/2), @l }\n    %y = fused(%x) { %z = rms %x {eps=1e-5} yield %z }\n    return mul %x, %y");
    for (size_t n = 0; n < strlen(text) - 1; n++) {
        aq_module m;
        if (aq_read_module("t.aq", text, n, NULL, 0, &m) == AQ_OK)
            fail_msg("the first %zu bytes were read: %.*s", n, (int)n, text);
    }
    assert_int_equal(aq_mem_open_blocks(), 0);
}

static void failing_allocations_are_clean(void **state) {
    (void)state;
    char *text;
    size_t n;
    aq_module m;
    assert_int_equal(aq_file_read("models/aquila/aquila.aq", 1 << 20, &text, &n), AQ_OK);
    aq_status status = AQ_NO_MEMORY;
    for (long nth = 1; status != AQ_OK; nth++) {
        aq_mem_fail_after(nth);
        status = aq_read_module("t.aq", text, n, smollm2, sizeof smollm2 / sizeof *smollm2, &m);
        aq_mem_fail_after(0);
        if (status != AQ_OK && status != AQ_NO_MEMORY)
            fail_msg("allocation %ld fails: status %d, %s", nth, status, aq_error());
    }
    aq_module_close(&m);
    aq_mem_free(text);
    assert_int_equal(aq_mem_open_blocks(), 0);
}

static void a_long_message_is_cut(void **state) {
    (void)state;
    static char name[5000];
    memset(name, 'a', sizeof name - 1);
    assert_int_equal(aq_fail(AQ_REFUSED, name, "%s", name), AQ_REFUSED);
    assert_int_equal(strlen(aq_error()), 1023);
    assert_int_equal(aq_refuse(7, NULL, "%s", name), AQ_REFUSED);
    assert_int_equal(strlen(aq_error()), 1023);
    assert_int_equal(aq_fail_prefix(AQ_REFUSED, "x"), AQ_REFUSED);
    assert_int_equal(strlen(aq_error()), 1023);
    assert_true(!memcmp(aq_error(), "x: aaa", 6) && aq_error_reason() == 7);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_long_message_is_cut), cmocka_unit_test(aquila_reads_prints_and_reads),   cmocka_unit_test(every_form_is_stable),      cmocka_unit_test(repeat_and_nesting_mean_their_long_form),
        cmocka_unit_test(random_modules_are_stable),       cmocka_unit_test(what_a_model_has_not_is_left_out), cmocka_unit_test(refusals_say_where_and_what), cmocka_unit_test(hostile_text_is_refused_cleanly),
        cmocka_unit_test(truncated_text_is_refused),       cmocka_unit_test(failing_allocations_are_clean),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
