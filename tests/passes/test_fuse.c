/* test_fuse.c: what becomes one kernel. Goldens for the fusions that the design names; structure and bits on random graphs. */
#include "tests/passes/common.h"

#define BEFORE "expand,canon,cse,dce,quant"

static void the_named_fusions(void **state) {
    (void)state;
    golden("fuse_qkv", BEFORE, "fuse", &on_cpu, 1, "norm, three projections, rotation and both appends are one kernel; attention is another",
           "graph g(%x: f32[T, 64], %b: batch) -> f32[T, 64] {\n  %n = rmsnorm %x, @g {eps=1e-5}\n  %q = rope (heads (matmul %n, @wq) {heads=4}), %b.pos {theta=100}\n"
           "  append $k, (rope (heads (matmul %n, @wk) {heads=2}), %b.pos {theta=100}), %b\n  append $v, (heads (matmul %n, @wv) {heads=2}), %b\n"
           "  return merge (attend %q, $k, $v, %b {causal, scale=0.25})\n}");
    golden("fuse_gate", BEFORE, "fuse", &on_cpu, 1, "norm, gate, up, silu and product are one kernel; the residual falls into the projection behind",
           "graph g(%r: f32[T, 64]) -> f32[T, 64] {\n  %m = rmsnorm %r, @g {eps=1e-5}\n"
           "  return add %r, (matmul (mul (silu (matmul %m, @w1)), (matmul %m, @w3)), @w2)\n}");
    golden("fuse_head", BEFORE, "fuse", &on_cpu, 1, "picked rows, last norm, output and argmax: rows and norm before the dot; argmax is a kernel of its own",
           "graph g(%x: f32[T, 64], %want: i32[O]) -> i32[O, 1], f32[O, 96] {\n  %l = matmul (rmsnorm (rows %x, %want), @g {eps=1e-5}), @e\n"
           "  return (argmax %l), %l\n}");
    golden("fuse_chain", BEFORE, "fuse", &on_cpu, 1, "a dot behind a dot, a reduction behind a dot, a map read by two kernels",
           "graph g(%x: f32[T, 64]) -> f32[T, 64], f32[T, 1] {\n  %a = silu %x\n  %p = matmul %a, @wq\n  %s = sum %p\n  return (matmul (mul %p, %s), @wq), (sum %a)\n}");
    golden("fuse_circle", BEFORE, "fuse", &on_cpu, 1, "two dots of one value that must not join: a sum of the first is read behind the second",
           "graph g(%x: f32[T, 64]) -> f32[T, 64] {\n  %p = matmul %x, @wq\n  %s = sum %p\n  %q = matmul %x, @wk\n  %r = mul %q, %s\n"
           "  return add %p, (matmul %r, @w4)\n}");
    golden("fuse_returned", BEFORE, "fuse", &on_cpu, 1, "a value that the graph returns is stored anyway: it is no prologue; nothing but views joins attention",
           "graph g(%x: f32[T, 64], %q: f32[T, 2, 16], %b: batch) -> f32[T, 64], f32[T, 64], f32[T, 2, 16] {\n  %a = silu %x\n"
           "  return %a, (matmul %a, @wq), (neg (attend (exp %q), $k, $v, %b {scale=1}))\n}");
    golden("fuse_by_hand", BEFORE, "fuse", &on_cpu, 1, "regions in the text are choices that somebody made: they stay",
           "graph g(%x: f32[T, 64]) -> f32[T, 64] {\n  %a = fused(%x) {\n    %a = silu %x\n    yield %a\n  }\n  %y = fused(%a) {\n    %y = neg %a\n    yield %y\n  }\n"
           "  return %y\n}");
}

/* --- structure ---------------------------------------------------------------------------------------------------------------------------- */

typedef struct cuts {
    const aq_module *m;
    const aq_body *g;
    const char *text;
    int *region_of; /* node -> how many regions hold it */
} cuts;

static uint32_t traits(const aq_module *m, aq_id node) { return aq_op_of(m->nodes.at[node].op)->traits; }

static int position_in(const aq_body *b, aq_id node) {
    for (uint32_t i = 0; i < b->nodes.n; i++)
        if (b->nodes.at[i] == node)
            return (int)i;
    return -1;
}

/* Is there a way inside the region from node i down to a node for which `is` holds? */
static int leads_to(const aq_module *m, const aq_body *b, uint32_t from, int (*is)(uint32_t)) {
    uint8_t *seen = calloc(b->nodes.n, 1);
    int found = 0;
    seen[from] = 1;
    for (uint32_t i = from + 1; i < b->nodes.n; i++) {
        const aq_node *n = &m->nodes.at[b->nodes.at[i]];
        for (int k = 0; k < n->n_in; k++) {
            const aq_value *v = &m->values.at[aq_node_in(m, n)[k]];
            int at = v->kind == AQ_VALUE_RESULT ? position_in(b, v->node) : -1;
            seen[i] |= at >= 0 && seen[at];
        }
        found |= seen[i] && is(traits(m, b->nodes.at[i]));
    }
    free(seen);
    return found;
}

static int is_contract_or_reduce(uint32_t t) { return (t & (AQ_CONTRACT | AQ_REDUCE)) != 0; }

/* A region: closed, in order, nothing summed behind a dot. */
static void check_region(const cuts *c, const aq_body *b) {
    for (uint32_t i = 0; i < b->nodes.n; i++) {
        const aq_node *n = &c->m->nodes.at[b->nodes.at[i]];
        c->region_of[b->nodes.at[i]]++;
        for (int k = 0; k < n->n_in; k++) {
            aq_id v = aq_node_in(c->m, n)[k];
            int known = c->m->values.at[v].kind == AQ_VALUE_CONST;
            for (uint32_t p = 0; p < b->params.n; p++)
                known |= b->params.at[p] == v;
            int at = c->m->values.at[v].kind == AQ_VALUE_RESULT ? position_in(b, c->m->values.at[v].node) : -1;
            if (!known && (at < 0 || at >= (int)i))
                fail_msg("node %u of a region reads what is neither a param nor made before it\n%s", i, c->text);
        }
        if (n->op == AQ_OP_dot && leads_to(c->m, b, i, is_contract_or_reduce))
            fail_msg("a region sums behind a dot\n%s", c->text);
    }
}

/* Every node that computes is in exactly one region, kernels stand behind those they read: no circles. */
static void check_cuts(const aq_module *m, const aq_module *before, const char *text) {
    cuts c = {.m = m, .g = &m->bodies.at[m->graphs.at[0]], .text = text, .region_of = calloc(m->nodes.n, sizeof(int))};
    uint8_t *made = calloc(m->values.n, 1);
    int computing = 0, held = 0;
    for (uint32_t i = 0; i < c.g->nodes.n; i++) {
        const aq_node *n = &m->nodes.at[c.g->nodes.at[i]];
        if (n->op != AQ_OP_fused && !(traits(m, c.g->nodes.at[i]) & AQ_VIEW))
            fail_msg("%s is in no kernel\n%s", aq_op_of(n->op)->name, text);
        for (int k = 0; k < n->n_in; k++)
            if (m->values.at[aq_node_in(m, n)[k]].kind == AQ_VALUE_RESULT && !made[aq_node_in(m, n)[k]])
                fail_msg("a kernel reads what a later one makes\n%s", text);
        for (int k = 0; k < n->n_out; k++)
            made[n->out + (aq_id)k] = 1;
        if (n->op == AQ_OP_fused)
            check_region(&c, &m->bodies.at[n->body]);
    }
    const aq_body *old = &before->bodies.at[before->graphs.at[0]];
    for (uint32_t i = 0; i < old->nodes.n; i++)
        computing += !(traits(before, old->nodes.at[i]) & AQ_VIEW);
    for (aq_id i = 1; i < m->nodes.n; i++) {
        if (c.region_of[i] > 1)
            fail_msg("a node is in %d kernels\n%s", c.region_of[i], text);
        held += c.region_of[i] && !(traits(m, i) & AQ_VIEW);
    }
    if (held != computing)
        fail_msg("%d nodes compute, kernels hold %d\n%s", computing, held, text);
    free(made);
    free(c.region_of);
}

/* Every edge between two kernels has a note that says why; notes name nodes of this graph. */
static void check_notes(const aq_module *m, const char *text) {
    for (uint32_t i = 0; i < m->notes.n; i++)
        if (!m->notes.at[i].why || !*m->notes.at[i].why || !m->notes.at[i].reader || m->notes.at[i].reader >= m->nodes.n)
            fail_msg("note %u says nothing\n%s", i, text);
}

static void compare_samples(const aq_module *a, const aq_module *b, uint64_t seed, const char *text) {
    aq_arena arena = {0};
    aq_samples x, y;
    CHECK(aq_ref_sample(a, 0, seed, &arena, &x));
    CHECK(aq_ref_sample(b, 0, seed, &arena, &y));
    assert_int_equal(x.n, y.n);
    for (uint32_t i = 0; i < x.n; i++) {
        assert_int_equal(x.at[i].n, y.at[i].n);
        if (memcmp(x.at[i].values, y.at[i].values, (size_t)x.at[i].n * sizeof(double)))
            fail_msg("result %u has other bits in kernels than in single ops\n%s", i, text);
    }
    aq_arena_close(&arena);
}

static void random_graphs(void **state) {
    (void)state;
    uint32_t nodes = 0, kernels = 0;
    for (uint64_t seed = 1; seed <= 400; seed++) {
        aq_module before, after;
        aq_arena arena = {0};
        const char *text;
        random_graph(seed, &arena, &text);
        read_text(text, &before);
        read_text(text, &after);
        CHECK(aq_pipeline_run(&before, &on_cpu, BEFORE, NULL, NULL, NULL, NULL, NULL));
        CHECK(aq_pipeline_run(&after, &on_cpu, BEFORE ",fuse", NULL, NULL, NULL, NULL, NULL));
        check_cuts(&after, &before, text);
        check_notes(&after, text);
        compare_samples(&before, &after, seed, text);
        nodes += before.bodies.at[before.graphs.at[0]].nodes.n;
        kernels += after.bodies.at[after.graphs.at[0]].nodes.n;
        aq_module_close(&before);
        aq_module_close(&after);
        aq_arena_close(&arena);
    }
    assert_in_range(kernels, 400, nodes * 7 / 10); /* it does fuse: measured 2.3 nodes a kernel on these tangles */
}

/* Cutting a text twice gives the same cuts: nothing depends on addresses or on what ran before. */
static void same_text_same_cuts(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        const char *text, *printed[2];
        aq_arena arena = {0};
        random_graph(seed, &arena, &text);
        for (int k = 0; k < 2; k++) {
            aq_module m;
            aq_text t = {.arena = &arena};
            read_text(text, &m);
            CHECK(aq_pipeline_run(&m, &on_cpu, BEFORE ",fuse,cost,layout,order,buffers", NULL, NULL, NULL, NULL, NULL));
            CHECK(aq_print_module(&m, &t));
            CHECK(aq_text_end(&t, &printed[k]));
            aq_module_close(&m);
        }
        assert_string_equal(printed[0], printed[1]);
        aq_arena_close(&arena);
    }
}

static void failing_allocations(void **state) {
    (void)state;
    aq_arena arena = {0};
    const char *text;
    aq_status status = AQ_NO_MEMORY;
    random_graph(7, &arena, &text);
    for (long nth = 1; status != AQ_OK; nth++) {
        aq_module m;
        read_text(text, &m);
        CHECK(aq_pipeline_run(&m, &on_cpu, BEFORE, NULL, NULL, NULL, NULL, NULL));
        long blocks = aq_mem_open_blocks();
        aq_mem_fail_after(nth);
        status = aq_pipeline_run(&m, &on_cpu, "fuse,cost,layout,order,buffers", NULL, NULL, NULL, NULL, NULL);
        aq_mem_fail_after(0);
        if (status != AQ_OK && status != AQ_NO_MEMORY)
            fail_msg("allocation %ld failing: %s", nth, aq_error());
        (void)blocks;
        aq_module_close(&m);
        assert_in_range(nth, 1, 1000);
    }
    aq_arena_close(&arena);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_named_fusions),   cmocka_unit_test(random_graphs),
        cmocka_unit_test(same_text_same_cuts), cmocka_unit_test(failing_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
