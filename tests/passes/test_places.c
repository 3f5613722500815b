/* test_places.c: order, layout and buffers: who runs before whom, where weights and caches lie, where values live. */
#include "tests/passes/common.h"

#include <pthread.h>

#define TO_FUSE "expand,canon,cse,dce,quant,fuse"

/* --- order -------------------------------------------------------------------------------------------------------------------------------- */

static int position_of(const aq_module *m, const aq_body *b, aq_op op, int nth) {
    for (uint32_t i = 0; i < b->nodes.n; i++) {
        const aq_node *n = &m->nodes.at[b->nodes.at[i]];
        const aq_body *inner = n->op == AQ_OP_fused ? &m->bodies.at[n->body] : NULL;
        for (uint32_t k = 0; inner && k < inner->nodes.n; k++)
            if (m->nodes.at[inner->nodes.at[k]].op == op && nth-- == 0)
                return (int)i;
        if (n->op == op && nth-- == 0)
            return (int)i;
    }
    return -1;
}

/* The text reads the old keys after it has made the new ones; one storage serves both, so the reader must come first. */
static void readers_of_old_versions_come_first(void **state) {
    (void)state;
    aq_module m;
    const char *graph = "graph g(%x: f32[T, 64], %q: f32[T, 2, 16], %b: batch) -> f32[T, 2, 16] {\n  $k'1 = append $k, (heads (matmul %x, @wk) {heads=2}), %b\n"
                        "  %old = attend %q, $k, $v, %b {scale=1}\n  return %old\n}";
    read_graph(graph, &m);
    CHECK(aq_pipeline_run(&m, &on_cpu, TO_FUSE, NULL, NULL, NULL, NULL, NULL));
    const aq_body *b = &m.bodies.at[m.graphs.at[0]];
    assert_true(position_of(&m, b, AQ_OP_append, 0) < position_of(&m, b, AQ_OP_attend, 0));
    CHECK(aq_validate(&m, &on_cpu, "order", 1, aq_ref_sample));
    CHECK(aq_pipeline_run(&m, &on_cpu, "order", NULL, NULL, NULL, NULL, NULL));
    b = &m.bodies.at[m.graphs.at[0]];
    assert_true(position_of(&m, b, AQ_OP_attend, 0) < position_of(&m, b, AQ_OP_append, 0));
    aq_module_close(&m);
}

/* What is appended hangs on what reads the version before it is gone, and the other way round: no order is right. */
static void a_circle_is_refused(void **state) {
    (void)state;
    aq_module m;
    const char *graph = "graph g(%x: f32[T, 64], %q: f32[T, 2, 16], %b: batch) -> f32[T, 2, 16] {\n  $k'1 = append $k, (heads (matmul %x, @wk) {heads=2}), %b\n"
                        "  %new = attend %q, $k'1, $v, %b {scale=1}\n  return (attend %new, $k, $v, %b {scale=1})\n}";
    read_graph(graph, &m);
    CHECK(aq_pipeline_run(&m, &on_cpu, TO_FUSE, NULL, NULL, NULL, NULL, NULL));
    assert_int_equal(aq_pipeline_run(&m, &on_cpu, "order", NULL, NULL, NULL, NULL, NULL), AQ_REFUSED);
    assert_string_equal(aq_error(), "test.aq: a version of a state is read after the next one is made: expected an order in which it is not");
    aq_module_close(&m);
}

/* A text may make a chain as long as it likes wait for one reader: the stack must not be as long. */
static void *order_it(void *m) { return (void *)(uintptr_t)(aq_pipeline_run(m, &on_cpu, "order", NULL, NULL, NULL, NULL, NULL) != AQ_OK); }

static void a_long_chain_of_readers(void **state) {
    (void)state;
    enum { CHAIN = 5000 };
    aq_module m;
    aq_arena arena = {0};
    aq_text t = {.arena = &arena};
    const char *text;
    CHECK(aq_text_add(&t, "model m {\n sym T in 1..64 sym B in 1..4 sym S in 64..4096 sym P in 1..64\n state $k: f32[S, 2, 16] state $v: f32[S, 2, 16]\n"
                          " graph g(%%v0: f32[T, 2, 16], %%b: batch) -> f32[T, 2, 16] {\n  $k'1 = fused($k, %%v0, %%b) { append $k, %%v0, %%b yield $k }\n"));
    for (int i = 0; i < CHAIN; i++)
        CHECK(aq_text_add(&t, "  %%v%d = fused(%%v%d) { %%y = silu %%v%d yield %%y }\n", i + 1, i, i));
    CHECK(aq_text_add(&t, "  %%r = fused(%%v%d, $k'0, $v, %%b) { %%y = attend %%v%d, $k, $v, %%b {scale=1} yield %%y }\n  return %%r\n }\n}\n", CHAIN, CHAIN));
    CHECK(aq_text_end(&t, &text));
    read_text(text, &m);
    pthread_attr_t attr;
    pthread_t thread;
    void *failed;
    assert_int_equal(pthread_attr_init(&attr) | pthread_attr_setstacksize(&attr, 256 << 10) | pthread_create(&thread, &attr, order_it, &m), 0);
    assert_int_equal(pthread_join(thread, &failed), 0);
    pthread_attr_destroy(&attr);
    assert_null(failed);
    const aq_body *b = &m.bodies.at[m.graphs.at[0]];
    assert_int_equal(position_of(&m, b, AQ_OP_append, 0), CHAIN + 1);
    aq_module_close(&m);
    aq_arena_close(&arena);
}

/* --- layout ------------------------------------------------------------------------------------------------------------------------------- */

static aq_layout layout_of(const aq_module *m, const char *name) {
    for (uint32_t i = 0; i < m->weights.n; i++)
        if (!strcmp(m->weights.at[i].name, name))
            return m->weights.at[i].layout;
    for (uint32_t i = 0; i < m->states.n; i++)
        if (!strcmp(m->states.at[i].name, name))
            return m->states.at[i].layout;
    fail_msg("no %s", name);
    return AQ_LAYOUT_ROWS;
}

static void one_storage_for_each(void **state) {
    (void)state;
    aq_module m;
    const char *graph = "graph g(%i: i32[T], %b: batch) -> f32[T, 96] {\n  %x = rows @e, %i\n  %n = rmsnorm %x, @g {eps=1e-5}\n"
                        "  append $k, (heads (matmul %n, @wk) {heads=2}), %b\n  append $v, (heads (matmul %n, @wv) {heads=2}), %b\n"
                        "  %a = merge (attend (heads (matmul %n, @wk) {heads=2}), $k, $v, %b {scale=1})\n"
                        "  return mul (matmul %n, @w1), (sum %a)\n}";
    for (int target = 0; target < 2; target++)
        for (int tied = 0; tied < 2; tied++)
            for (int fused = 0; fused < 2; fused++) {
                read_graph(graph, &m);
                for (uint32_t i = 0; i < m.weights.n; i++)
                    if (tied && !strcmp(m.weights.at[i].name, "w1"))
                        m.weights.at[i].alias = "e";
                const aq_pass_options *o = target ? &on_cpu : &on_ref;
                CHECK(aq_pipeline_run(&m, o, fused ? TO_FUSE ",layout" : "expand,canon,cse,dce,quant,layout", NULL, NULL, NULL, NULL, NULL));
                aq_layout panel = target ? AQ_LAYOUT_PANEL : AQ_LAYOUT_ROWS;
                assert_int_equal(layout_of(&m, "wk"), panel);
                assert_int_equal(layout_of(&m, "w1"), panel);                         /* blocks too */
                assert_int_equal(layout_of(&m, "e"), tied ? panel : AQ_LAYOUT_ROWS);  /* a table alone stays as stored; a tied one follows its dot */
                assert_int_equal(layout_of(&m, "g"), AQ_LAYOUT_ROWS);
                assert_int_equal(layout_of(&m, "w2"), AQ_LAYOUT_ROWS);                /* nobody reads it */
                assert_int_equal(layout_of(&m, "k"), target ? AQ_LAYOUT_KV_PANEL : AQ_LAYOUT_ROWS);
                assert_int_equal(layout_of(&m, "v"), target ? AQ_LAYOUT_KV_ROWS : AQ_LAYOUT_ROWS);
                aq_module_close(&m);
            }
}

/* Only matrices lie in panels: a row of weights, a table of three axes or a matrix that grows with a symbol stays, whatever a dot does with it. */
static void only_matrices_lie_in_panels(void **state) {
    (void)state;
    static const struct {
        const char *weight, *graph;
        int panel;
    } cases[] = {{"f32[64]", "graph g(%x: f32[T, 64]) -> f32[T] { return dot %x, @m {spec=\"tk,k->t\"} }", 0},
                 {"f32[8, 64]", "graph g(%x: f32[T, 64]) -> f32[T, 8] { return dot %x, @m {spec=\"tk,nk->tn\"} }", 1},
                 {"f32[2, 8, 64]", "graph g(%x: f32[T, 64]) -> f32[T, 2, 8] { return dot %x, @m {spec=\"tk,hnk->thn\"} }", 0},
                 {"f32[O, 64]", "graph g(%x: f32[T, 64]) -> f32[T, O] { return dot %x, @m {spec=\"tk,nk->tn\"} }", 0},
                 {"f32[64, O]", "graph g(%x: f32[T, O]) -> f32[T, 64] { return dot %x, @m {spec=\"tk,nk->tn\"} }", 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        aq_module m;
        char text[400];
        snprintf(text, sizeof text, "model m { sym T in 1..64 sym O in 1..64 weight @m: %s\n%s }", cases[i].weight, cases[i].graph);
        read_text(text, &m);
        CHECK(aq_pipeline_run(&m, &on_cpu, TO_FUSE ",layout", NULL, NULL, NULL, NULL, NULL));
        if (layout_of(&m, "m") != (cases[i].panel ? AQ_LAYOUT_PANEL : AQ_LAYOUT_ROWS))
            fail_msg("%s lies in layout %d", cases[i].weight, (int)layout_of(&m, "m"));
        aq_module_close(&m);
    }
}

/* --- buffers ------------------------------------------------------------------------------------------------------------------------------ */

/* A life by its own count: from where the value is made to the last node that reads it or a view of it. */
static void life_of(const aq_module *m, const aq_body *b, aq_id value, uint32_t *first, uint32_t *last) {
    AQ_VEC(aq_id) same = {0};
    aq_arena arena = {0};
    void *p;
    CHECK(aq_arena_alloc(&arena, m->values.n, sizeof(aq_id), &p));
    same.at = p;
    same.at[same.n++] = value;
    for (uint32_t i = 0; i < b->nodes.n; i++) {
        const aq_node *n = &m->nodes.at[b->nodes.at[i]];
        for (int k = 0; k < n->n_out; k++)
            if (n->out + (aq_id)k == value)
                *first = *last = i;
        for (int k = 0; k < n->n_in; k++)
            for (uint32_t s = 0; s < same.n; s++)
                if (aq_node_in(m, n)[k] == same.at[s]) {
                    *last = i > *last ? i : *last;
                    if ((aq_op_of(n->op)->traits & AQ_VIEW) && n->op != AQ_OP_field && k == 0)
                        same.at[same.n++] = n->out;
                    break;
                }
    }
    aq_arena_close(&arena);
}

static void check_places(const aq_module *m, aq_id body, const char *text) {
    const aq_body *b = &m->bodies.at[body];
    aq_arena arena = {0};
    aq_places places;
    CHECK(aq_buffers_lives(m, body, 0, &arena, &places));
    CHECK(aq_buffers_pack(m, &arena, &places));
    for (uint32_t i = 0; i < places.n; i++) {
        const aq_place *p = &places.at[i];
        uint32_t first = 0, last = 0, k = 0;
        life_of(m, b, p->value, &first, &last);
        if (p->first > first || p->last < last)
            fail_msg("a value lives from %u to %u, its place only from %u to %u\n%s", first, last, p->first, p->last, text);
        assert_int_equal(p->offset % 64, 0);
        assert_int_equal(p->bytes.k % 64, 0);
        while (k < places.n_arenas && places.arena[k].sym != p->bytes.sym)
            k++;
        assert_true(k < places.n_arenas && p->offset >= 0 && p->offset + p->bytes.k <= places.arena[k].bytes);
        for (uint32_t j = 0; j < i; j++) {
            const aq_place *q = &places.at[j];
            int together = p->first <= q->last && q->first <= p->last && p->bytes.sym == q->bytes.sym;
            if (together && p->offset < q->offset + q->bytes.k && q->offset < p->offset + p->bytes.k)
                fail_msg("two values alive together lie at %lld and %lld\n%s", (long long)p->offset, (long long)q->offset, text);
        }
    }
    aq_arena_close(&arena);
}

static void values_alive_together_never_overlap(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 300; seed++) {
        aq_module m;
        aq_arena arena = {0};
        const char *text;
        random_graph(seed, &arena, &text);
        read_text(text, &m);
        const char *list = seed % 3 == 0 ? "" : seed % 3 == 1 ? TO_FUSE ",order" : "expand,canon,cse,dce,quant"; /* single ops, views between them, too */
        CHECK(aq_pipeline_run(&m, &on_cpu, list, NULL, NULL, NULL, NULL, NULL));
        check_places(&m, m.graphs.at[0], text);
        aq_module_close(&m);
        aq_arena_close(&arena);
    }
}

/* A chain of a hundred values needs the room of two. */
static void room_is_used_again(void **state) {
    (void)state;
    aq_arena arena = {0};
    aq_text t = {.arena = &arena};
    const char *text;
    aq_module m;
    aq_places places;
    CHECK(aq_text_add(&t, "model m { sym T in 1..64 graph g(%%v0: f32[T, 64]) -> f32[T, 64] {\n"));
    for (int i = 1; i <= 100; i++)
        CHECK(aq_text_add(&t, "  %%v%d = fused(%%v%d) { %%y = neg %%v%d yield %%y }\n", i, i - 1, i - 1));
    CHECK(aq_text_add(&t, "  return %%v100 } }"));
    CHECK(aq_text_end(&t, &text));
    read_text(text, &m);
    CHECK(aq_buffers_lives(&m, m.graphs.at[0], 0, &arena, &places));
    CHECK(aq_buffers_pack(&m, &arena, &places));
    assert_int_equal(places.n, 99);
    assert_int_equal(places.n_arenas, 1);
    assert_int_equal(places.arena[0].bytes, 2 * 256);
    aq_module_close(&m);
    aq_arena_close(&arena);
}

static void a_size_with_two_symbols_is_refused(void **state) {
    (void)state;
    aq_module m;
    aq_dim d;
    read_text("model m { sym T in 1..9 sym O in 1..9 graph g(%x: f32[T, O], %y: f32[3, 7], %z: f32[T, 5]) -> f32[T, O] { return neg %x } }", &m);
    const aq_body *b = &m.bodies.at[m.graphs.at[0]];
    assert_int_equal(aq_buffers_unit(&m, &m.values.at[b->params.at[0]].type, &d), AQ_REFUSED);
    assert_string_equal(aq_error(), "test.aq: a value between kernels grows with two symbols, T and O: expected one");
    CHECK(aq_buffers_unit(&m, &m.values.at[b->params.at[1]].type, &d));
    assert_true(d.k == 128 && d.sym == 0);
    CHECK(aq_buffers_unit(&m, &m.values.at[b->params.at[2]].type, &d));
    assert_true(d.k == 64 && d.sym == aq_sym_find(&m, "T", 1));
    aq_module_close(&m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(readers_of_old_versions_come_first),  cmocka_unit_test(a_circle_is_refused), cmocka_unit_test(one_storage_for_each),
        cmocka_unit_test(values_alive_together_never_overlap), cmocka_unit_test(room_is_used_again),  cmocka_unit_test(a_size_with_two_symbols_is_refused),
        cmocka_unit_test(a_long_chain_of_readers), cmocka_unit_test(only_matrices_lie_in_panels),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
