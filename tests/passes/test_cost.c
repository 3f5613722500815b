/* test_cost.c: the roofline of a kernel against figures made by hand, and what must hold of any. */
#include "tests/passes/common.h"

#include "passes/cost.h"

#include <math.h>

#define TO_FUSE "expand,canon,cse,dce,quant,fuse"

static aq_cost cost_of(const char *graph, const aq_pass_options *o, uint32_t kernel, int64_t T) {
    aq_module m;
    aq_arena arena = {0};
    int64_t *bound;
    aq_cost c;
    uint32_t k = 0;
    read_graph(graph, &m);
    CHECK(aq_pipeline_run(&m, o, TO_FUSE, NULL, NULL, NULL, NULL, NULL));
    CHECK(aq_cost_sizes(&m, o, &arena, &bound));
    bound[aq_sym_find(&m, "T", 1)] = T;
    const aq_body *b = &m.bodies.at[m.graphs.at[0]];
    for (uint32_t i = 0; i < b->nodes.n; i++)
        if (m.nodes.at[b->nodes.at[i]].op == AQ_OP_fused && k++ == kernel)
            CHECK(aq_cost_node(&m, &m.nodes.at[b->nodes.at[i]], o, bound, &c));
    assert_true(k > kernel);
    aq_module_close(&m);
    aq_arena_close(&arena);
    return c;
}

static void near(double got, double want, const char *what) {
    if (fabs(got - want) > 1e-9 * fabs(want))
        fail_msg("%s: %.17g, by hand %.17g", what, got, want);
}

/* One kernel: T rows of 64 f32 in, a bf16 matrix of 64 x 64, T rows of 64 out. */
static void a_dot_by_hand(void **state) {
    (void)state;
    const char *graph = "graph g(%x: f32[T, 64]) -> f32[T, 64] { return silu (matmul %x, @wq) }";
    for (int64_t T = 1; T <= 64; T *= 4) {
        aq_cost c = cost_of(graph, &on_cpu, 0, T);
        near(c.flops, 2.0 * (double)T * 64 * 64 + (double)T * 64, "operations: two an element of the dot, one an element of silu");
        near(c.bytes, (double)T * 64 * 4 + 64 * 64 * 2 + (double)T * 64 * 4, "bytes: input, weight, output");
        near(c.bytes_unfused, c.bytes + 2 * (double)T * 64 * 4, "bytes alone: the dot's result written and read again");
        near(c.ns, fmax(c.bytes / 10, c.flops / 100) + 1000, "time: the larger of the two, and a launch");
        assert_int_equal(c.ops, 2);
        assert_int_equal(c.memory_bound, c.bytes / 10 >= c.flops / 100);
    }
}

/* Blocks count their stored size: q4_1 is 20 bytes for 32 numbers; activations quantised inside the kernel move nothing. */
static void blocks_by_hand(void **state) {
    (void)state;
    aq_cost c = cost_of("graph g(%x: f32[T, 64]) -> f32[T, 96] { return matmul %x, @w1 }", &on_cpu, 0, 3);
    near(c.bytes, 3 * 64 * 4 + 96 * 64 / 32 * 20 + 3 * 96 * 4, "bytes of a dot of blocks");
    near(c.bytes_unfused, c.bytes + 2 * (3 * 64 / 32 * 72), "bytes alone: a16 blocks, 72 bytes for 32, written and read");
}

/* A gather reads the rows it picks, not the table; an append writes the rows it is given, not the cache. */
static void rows_and_caches(void **state) {
    (void)state;
    aq_cost c = cost_of("graph g(%i: i32[T]) -> f32[T, 64] { return rows @e, %i }", &on_cpu, 0, 5);
    near(c.bytes, 5 * 4 + 2 * 5 * 64 * 4, "bytes of a gather");
    c = cost_of("graph g(%x: f32[T, 64], %b: batch) -> f32[T, 64] { append $k, (heads (matmul %x, @wk) {heads=2}), %b return %x }", &on_cpu, 0, 5);
    near(c.bytes, 5 * 64 * 4 + 32 * 64 * 2 + 5 * 32 * 2, "bytes of an append behind a dot: input, weight, f16 rows");
    near(c.bytes_unfused, 5 * 64 * 4 + 32 * 64 * 2 + 5 * 32 * 4 + 5 * 32 * (4 + 2) + 2 * 5 * 32 * 2, "bytes alone: dot, cast, append");
}

/* Of any graph: a kernel moves no more than its ops one by one, operations do not depend on the cuts, times are positive. */
static void of_random_graphs(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 150; seed++) {
        aq_module m;
        aq_arena arena = {0};
        const char *text;
        int64_t *bound;
        random_graph(seed, &arena, &text);
        read_text(text, &m);
        aq_pass_options o = on_cpu;
        o.t_hi = seed % 2 ? 1 : 512;
        CHECK(aq_pipeline_run(&m, &o, "expand,canon,cse,dce,quant", NULL, NULL, NULL, NULL, NULL));
        CHECK(aq_cost_sizes(&m, &o, &arena, &bound));
        double alone = 0, together = 0;
        for (int fused = 0; fused < 2; fused++) {
            const aq_body *b = &m.bodies.at[m.graphs.at[0]];
            for (uint32_t i = 0; i < b->nodes.n; i++) {
                const aq_node *n = &m.nodes.at[b->nodes.at[i]];
                aq_cost c;
                CHECK(aq_cost_node(&m, n, &o, bound, &c));
                *(fused ? &together : &alone) += c.flops;
                if (n->op == AQ_OP_fused && !(c.bytes <= c.bytes_unfused * (1 + 1e-12) && c.ns >= 1000))
                    fail_msg("kernel %u moves %g bytes, its ops one by one %g, in %g ns\n%s", i, c.bytes, c.bytes_unfused, c.ns, text);
            }
            if (!fused)
                CHECK(aq_pipeline_run(&m, &o, "fuse,cost", NULL, NULL, NULL, NULL, NULL));
        }
        near(together, alone, text);
        const aq_body *b = &m.bodies.at[m.graphs.at[0]];
        for (uint32_t i = 0; i < b->nodes.n; i++) /* the pass leaves its figures with the regions */
            if (m.nodes.at[b->nodes.at[i]].op == AQ_OP_fused)
                assert_int_equal(m.bodies.at[m.nodes.at[b->nodes.at[i]].body].cost->T, o.t_hi);
        aq_module_close(&m);
        aq_arena_close(&arena);
    }
}

static void sizes(void **state) {
    (void)state;
    aq_module m;
    aq_arena arena = {0};
    aq_pass_options o = on_cpu;
    int64_t *bound;
    read_graph("graph g(%x: f32[T, 64]) -> f32[T, 64] { return neg %x }", &m);
    static const int64_t t_hi[] = {1, 8, 512, 1 << 20}, want[] = {1, 8, 512, 512};
    for (int i = 0; i < 4; i++) {
        o.t_hi = t_hi[i];
        CHECK(aq_cost_sizes(&m, &o, &arena, &bound));
        assert_int_equal(bound[aq_sym_find(&m, "T", 1)], want[i]);
        assert_int_equal(bound[aq_sym_find(&m, "S", 1)], 1024);
        assert_int_equal(bound[aq_sym_find(&m, "O", 1)], 1);
    }
    aq_module_close(&m);
    aq_arena_close(&arena);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_dot_by_hand), cmocka_unit_test(blocks_by_hand), cmocka_unit_test(rows_and_caches),
        cmocka_unit_test(of_random_graphs), cmocka_unit_test(sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
