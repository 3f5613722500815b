/* test_basic.c: the pipeline, and expand, canon, cse, dce: goldens say what each does, execution says that it changes nothing.
 * AQ_BLESS=1 writes the goldens anew (tests/goldens/passes_*.txt: the story, the module before, the module after). */
#include "codegen/ref/sample.h"
#include "ir/file.h"
#include "ir/memory.h"
#include "passes/validate.h"
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

static const aq_pass_options ref = {.target = "ref", .is_ref = 1, .activations = AQ_F32, .kv = AQ_F32, .t_lo = 1, .t_hi = 64, .read_gb_per_s = 10, .gflops = 100, .launch_ns = 1000};

#define CHECK(e)                                                                                                                           \
    do {                                                                                                                                   \
        if ((e) != AQ_OK)                                                                                                                  \
            fail_msg("%s\n%s", aq_error(), aq_error_detail());                                                                             \
    } while (0)

/* --- goldens ----------------------------------------------------------------------------------------------------------------------------- */

static void compare_with_file(const char *name, const char *text) {
    char path[160];
    snprintf(path, sizeof path, "tests/goldens/passes_%s.txt", name);
    if (getenv("AQ_BLESS")) {
        aq_file_writer *w;
        CHECK(aq_file_create(path, &w));
        CHECK(aq_file_append(w, text, strlen(text)));
        CHECK(aq_file_commit(w));
        return;
    }
    char *want;
    size_t n;
    CHECK(aq_file_read(path, 1 << 20, &want, &n));
    if (strcmp(want, text))
        fail_msg("%s differs (AQ_BLESS=1 accepts it)\n--- expected\n%s\n--- got\n%s", path, want, text);
    aq_mem_free(want);
}

static void golden(const char *name, const char *passes, const char *story, const char *graph) {
    static const char head[] = "model m { sym T in 1..64 sym S in 64..4096 sym B in 1..4 sym P in 1..64\n"
                               "weight @g: f32[64] weight @w: f32[64, 64] weight @u: q4_0[64, 64] state $k: f32[S, 2, 32]\n";
    aq_module m;
    aq_arena a = {0};
    aq_text text = {.arena = &a};
    const char *source, *out;
    CHECK(aq_arena_format(&a, &source, "%s%s\n}", head, graph));
    CHECK(aq_read_module(name, source, strlen(source), NULL, 0, &m));
    CHECK(aq_text_add(&text, "# %s\n# --passes=%s\n%s\n# becomes\n", story, passes, graph));
    for (uint64_t seed = 1; seed <= 3; seed++)
        CHECK(aq_validate(&m, &ref, passes, seed, aq_ref_sample));
    CHECK(aq_pipeline_run(&m, &ref, passes, NULL, NULL, NULL, NULL, NULL));
    CHECK(aq_print_body(&m, m.graphs.at[0], &text));
    CHECK(aq_text_end(&text, &out));
    compare_with_file(name, out);
    aq_module_close(&m);
    aq_arena_close(&a);
}

static void goldens(void **state) {
    (void)state;
    golden("expand", "expand", "a norm is a row factor and two products; softmax goes by log-sum-exp; matmul stays",
           "graph g(%x: f32[T, 64]) -> f32[T, 64] {\n  %n = rmsnorm %x, @g {eps=1e-5}\n  %p = softmax (matmul %n, @u)\n  return add %n, %p\n}");
    golden("canon_views", "expand,canon,dce", "views go outward past maps and rope, and cancel",
           "graph g(%x: f32[T, 64], %b: batch) -> f32[T, 2, 32], f32[T, 64], f32[T, 64], f32[T, 2, 32] {\n  %h = heads (matmul %x, @w) {heads=2}\n"
           "  %q = rope %h, %b.pos {theta=100}\n  %a = merge (silu %h)\n  %c = reshape (reshape %h {shape=[T, 4, 16]}) {shape=[T, 64]}\n"
           "  %d = mul (neg %h), (heads (exp %x) {heads=2})\n  return %q, %a, %c, %d\n}");
    golden("canon_numbers", "expand,canon,dce", "numbers right and folded; what changes nothing dropped; nothing that would round otherwise",
           "graph g(%x: f32[T, 64]) -> f32[T, 64], f32[T, 64], f32[T, 64], f32[T, 64], f32[T, 64] {\n"
           "  %a = mul (add 1, 2), (div (mul %x, 1), 4)\n  %b = neg (neg %x)\n  %c = add %x, (neg (mul %x, 3))\n  %d = mul -1, (sub %x, 0)\n"
           "  %e = div (add %x, 0), 3\n  return %a, %b, %c, %d, %e\n}");
    golden("canon_transposes", "expand,canon,dce", "transposes compose and cancel; a cast or slice that changes nothing goes",
           "graph g(%x: f32[T, 64]) -> f32[T, 64], f32[T, 2, 32], f32[32, 2, T] {\n  %a = transpose (transpose %x {perm=[1, 0]}) {perm=[1, 0]}\n"
           "  %h = transpose (transpose (heads %x {heads=2}) {perm=[1, 2, 0]}) {perm=[2, 0, 1]}\n"
           "  %m = transpose (transpose (heads %x {heads=2}) {perm=[1, 2, 0]}) {perm=[1, 0, 2]}\n"
           "  return (slice (cast %a {dtype=f32}) {begin=0, end=64}), %h, %m\n}");
    golden("cse", "cse,dce", "equal nodes once, names kept, attributes in any order; states never merge",
           "graph g(%x: f32[T, 64], %b: batch) -> f32[T, 64], f32[T, 2, 32], f32[T, 2, 32] {\n  %a = mul (exp %x), 2\n  %c = mul (exp %x), 2\n"
           "  %h = heads %x {heads=2}\n  $k'1 = append $k, %h, %b\n  $k'2 = append $k'1, %h, %b\n"
           "  %q = rope %h, %b.pos {theta=10, dim=16}\n  %r = rope %h, %b.pos {dim=16, theta=10}\n"
           "  return (add %a, %c), %q, (attend %r, $k'2, $k'1, %b {scale=1})\n}");
    golden("dce", "dce", "what nobody reads goes, what writes a state stays, a region's unused inputs go",
           "graph g(%x: f32[T, 64], %b: batch) -> f32[T, 64] {\n  %dead = exp (exp %x)\n  %h = heads %x {heads=2}\n  append $k, %h, %b\n"
           "  %y = fused(%x, @g, @w) {\n    %n = mul %x, @g\n    %m = matmul %x, @w\n    yield %n\n  }\n  return %y\n}");
}

/* --- by execution -------------------------------------------------------------------------------------------------------------------------- */

static void is_stable(const aq_module *m, const char *story) {
    aq_module again;
    aq_arena a = {0};
    const char *first = aq_print_or_fail(m, &a);
    if (aq_read_module("printed", first, strlen(first), NULL, 0, &again) != AQ_OK)
        fail_msg("%s: %s\n%s\n%s", story, aq_error(), aq_error_detail(), first);
    const char *second = aq_print_or_fail(&again, &a);
    if (strcmp(first, second))
        fail_msg("%s: printing what was read differs\n%s\n---\n%s", story, first, second);
    aq_module_close(&again);
    aq_arena_close(&a);
}

/* A region is given each value once, and numbers stand inside: whatever a pass made of what was given. */
static void regions_are_given_values_once(const aq_module *m, const char *story, int seed) {
    for (aq_id id = 1; id < m->nodes.n; id++) {
        const aq_node *n = &m->nodes.at[id];
        for (int i = 0; n->op == AQ_OP_fused && i < n->n_in; i++) {
            int twice = m->values.at[aq_node_in(m, n)[i]].kind == AQ_VALUE_CONST;
            for (int k = 0; k < i; k++)
                twice |= aq_node_in(m, n)[k] == aq_node_in(m, n)[i];
            if (twice)
                fail_msg("random module %d after %s: a region is given a number, or a value twice", seed, story);
        }
    }
}

static void random_modules_keep_their_meaning(void **state) {
    (void)state;
    static const char *const lists[] = {"expand", "canon", "cse", "dce"};
    int ran = 0;
    for (uint64_t seed = 1; seed <= 120; seed++) {
        aq_module m;
        aq_arena a = {0};
        aq_random_module(seed, 40, seed % 2, &m, NULL);
        aq_samples s;
        CHECK(aq_ref_sample(&m, 0, seed, &a, &s)); /* every random module runs */
        if (aq_validate(&m, &ref, "expand,canon,cse,dce", seed, aq_ref_sample) != AQ_OK)
            fail_msg("random module %d: %s\n%s", (int)seed, aq_error(), aq_print_or_fail(&m, &a));
        for (int i = 0; i < 4; i++) {
            CHECK(aq_pass_by_name(lists[i], strlen(lists[i]))->run(&m, &ref));
            if (aq_verify_module(&m) != AQ_OK)
                fail_msg("random module %d after %s: %s", (int)seed, lists[i], aq_error());
            is_stable(&m, lists[i]);
            regions_are_given_values_once(&m, lists[i], (int)seed);
        }
        aq_module_close(&m);
        aq_arena_close(&a);
        ran++;
    }
    assert_int_equal(ran, 120);
}

/* The architecture at toy size, weights of several types, through the whole default pipeline, for ref and for a cpu at both ends of T. */
static void the_model_keeps_its_meaning(void **state) {
    (void)state;
    static const aq_bind binds[] = {{"V", 96},  {"D", 64},     {"L", 2},        {"H", 4},          {"HKV", 2},
                                    {"DH", 16}, {"F", 96},     {"EPS", 1e-5},   {"THETA", 10000}, {"ROPE_FACTOR", 1}, {"ROPE_LOW", NAN}, {"ROPE_HIGH", NAN}, {"ROPE_RAMP", NAN}, {"ROPE_GAIN", NAN}};
    static const aq_dtype types[] = {AQ_F32, AQ_BF16, AQ_Q4_0, AQ_Q4_1, AQ_Q8_0};
    static const aq_pass_options targets[] = {
        {.target = "ref", .is_ref = 1, .activations = AQ_F32, .kv = AQ_F32, .t_lo = 1, .t_hi = 64, .read_gb_per_s = 10, .gflops = 100, .launch_ns = 1000},
        {.target = "cpu", .activations = AQ_A16, .kv = AQ_F16, .panels = 1, .t_lo = 1, .t_hi = 1, .read_gb_per_s = 10, .gflops = 100, .launch_ns = 1000},
        {.target = "cpu", .activations = AQ_A16, .kv = AQ_F16, .panels = 1, .t_lo = 9, .t_hi = 1 << 20, .read_gb_per_s = 10, .gflops = 100, .launch_ns = 1000},
    };
    char *text;
    size_t n;
    CHECK(aq_file_read("models/aquila/aquila.aq", 1 << 20, &text, &n));
    for (int t = 0; t < 5; t++)
        for (int o = 0; o < 3; o++) {
            aq_module m;
            CHECK(aq_read_module("aquila.aq", text, n, binds, sizeof binds / sizeof *binds, &m));
            for (uint32_t i = 0; i < m.weights.n; i++) {
                aq_type *w = &m.values.at[m.weights.at[i].value].type;
                w->dtype = w->rank == 1 ? AQ_F32 : types[t];
            }
            for (uint64_t seed = 1; seed <= 3; seed++)
                if (aq_validate(&m, &targets[o], NULL, seed, aq_ref_sample) != AQ_OK)
                    fail_msg("weights %s, target %s, T from %d: %s", aq_dtype_of(types[t])->name, targets[o].target, (int)targets[o].t_lo, aq_error());
            CHECK(aq_pipeline_run(&m, &targets[o], NULL, NULL, NULL, NULL, NULL, NULL));
            is_stable(&m, "aquila after the pipeline");
            aq_module_close(&m);
        }
    aq_mem_free(text);
}

/* Any graph may be cut into kernels, not only models: fuse and what follows on random ones. A refusal is fine, a wrong number is not. */
static void kernels_of_random_graphs_keep_their_meaning(void **state) {
    (void)state;
    int refused = 0;
    for (uint64_t seed = 200; seed < 260; seed++) {
        aq_pass_options o = {.target = "cpu", .activations = AQ_A16, .kv = AQ_F16, .panels = 1, .t_lo = seed % 2 ? 1 : 9, .t_hi = seed % 2 ? 1 : 64,
                             .read_gb_per_s = 10, .gflops = 100, .launch_ns = 1000};
        aq_module m;
        aq_random_module(seed, 30, 0, &m, NULL);
        CHECK(aq_pipeline_run(&m, &o, "expand,canon,cse,dce,quant", NULL, NULL, NULL, NULL, NULL));
        aq_status status = aq_validate(&m, &o, "dce,fuse,cost,layout,order,buffers", seed, aq_ref_sample);
        if (status != AQ_OK && status != AQ_REFUSED)
            fail_msg("random module %d: %s", (int)seed, aq_error());
        refused += status != AQ_OK;
        aq_module_close(&m);
    }
    assert_in_range(refused, 0, 10);
}

/* validate must see what it is there for: a pass that breaks a number, one that breaks a shape, one that only rounds. */
static aq_status break_a_number(aq_module *m, const aq_pass_options *o) {
    (void)o;
    for (aq_id v = 1; v < m->values.n; v++)
        if (m->values.at[v].kind == AQ_VALUE_CONST)
            m->values.at[v].number *= 1 + 1e-7;
    return AQ_OK;
}

static aq_status run_changed(const aq_module *m, uint32_t graph, uint64_t seed, aq_arena *arena, aq_samples *out) {
    static int calls;
    if (calls++ % 2) /* the run after the pass */
        CHECK(break_a_number((aq_module *)(uintptr_t)m, NULL));
    return aq_ref_sample(m, graph, seed, arena, out);
}

static void validate_sees_a_wrong_number(void **state) {
    (void)state;
    const char *text = "model m { sym T in 1..9 graph g(%x: f32[T, 4]) -> f32[T, 4] { return mul %x, 3 } }";
    aq_module m;
    CHECK(aq_read_module("t", text, strlen(text), NULL, 0, &m));
    CHECK(aq_validate(&m, &ref, "expand", 1, aq_ref_sample));
    assert_int_equal(aq_validate(&m, &ref, "expand", 1, run_changed), AQ_CHECK_FAILED);
    assert_non_null(strstr(aq_error(), "expand: graph g: 0[0] was "));
    assert_int_equal(aq_validate(&m, &ref, "quant", 1, run_changed), AQ_OK); /* 1e-7 is rounding */
    aq_module_close(&m);
}

/* --- the pipeline ---------------------------------------------------------------------------------------------------------------------------- */

static int dumps;
static aq_status count_dump(void *user, const char *pass, const aq_module *m) {
    (void)m;
    dumps++;
    assert_string_equal(user, "user");
    assert_non_null(aq_pass_by_name(pass, strlen(pass)));
    return AQ_OK;
}

static void the_pipeline_checks_needs_counts_and_dumps(void **state) {
    (void)state;
    const char *text = "model m { sym T in 1..9 weight @g: f32[4] graph g(%x: f32[T, 4]) -> f32[T, 4] { return rmsnorm %x, @g {eps=0.1} } }";
    aq_module m;
    aq_pass_report *reports;
    uint32_t n;
    CHECK(aq_read_module("t", text, strlen(text), NULL, 0, &m));
    assert_int_equal(aq_pipeline_run(&m, &ref, "canon", NULL, NULL, NULL, NULL, NULL), AQ_USAGE);
    assert_string_equal(aq_error(), "pass canon needs a module that is expanded: expected expand before it");
    assert_int_equal(aq_pipeline_run(&m, &ref, "frob", NULL, NULL, NULL, NULL, NULL), AQ_USAGE);
    assert_int_equal(aq_pipeline_run(&m, &ref, "expand", "frob", count_dump, "user", NULL, NULL), AQ_USAGE);
    CHECK(aq_pipeline_run(&m, &ref, "cse,expand,canon", "all", count_dump, "user", &reports, &n));
    assert_int_equal(dumps, 3);
    assert_int_equal(n, 3);
    assert_string_equal(reports[1].name, "expand");
    assert_int_equal(reports[1].nodes_before, 1);
    assert_int_equal(reports[1].nodes_after, 3);
    CHECK(aq_pipeline_run(&m, &ref, "canon,dce", "dce", count_dump, "user", NULL, NULL)); /* it shows that it is expanded */
    assert_int_equal(dumps, 4);
    aq_module_close(&m);
    for (int i = 0; aq_pass_at(i); i++)
        assert_ptr_equal(aq_pass_by_name(aq_pass_at(i)->name, strlen(aq_pass_at(i)->name)), aq_pass_at(i));
}

static void failing_allocations_are_clean(void **state) {
    (void)state;
    aq_status status = AQ_NO_MEMORY;
    for (long nth = 1; status != AQ_OK; nth++) {
        aq_module m;
        aq_random_module(5, 60, 1, &m, NULL);
        aq_mem_fail_after(nth);
        status = aq_pipeline_run(&m, &ref, "expand,canon,cse,dce", NULL, NULL, NULL, NULL, NULL);
        aq_mem_fail_after(0);
        if (status != AQ_OK && status != AQ_NO_MEMORY)
            fail_msg("allocation %ld fails: %s", nth, aq_error());
        aq_module_close(&m);
    }
    assert_int_equal(aq_mem_open_blocks(), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(goldens),
        cmocka_unit_test(random_modules_keep_their_meaning),
        cmocka_unit_test(the_model_keeps_its_meaning),
        cmocka_unit_test(kernels_of_random_graphs_keep_their_meaning),
        cmocka_unit_test(validate_sees_a_wrong_number),
        cmocka_unit_test(the_pipeline_checks_needs_counts_and_dumps),
        cmocka_unit_test(failing_allocations_are_clean),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
