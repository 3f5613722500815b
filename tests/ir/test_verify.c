/* test_verify.c: the tables, the builders, and that the verifier refuses each kind of broken module. */
#include "ir/memory.h"
#include "ir/nest.h"
#include "tests/support/random_module.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void tables_are_complete(void **state) {
    (void)state;
    for (int op = 1; op < AQ_OP_COUNT; op++) {
        const aq_op_info *i = aq_op_of((aq_op)op);
        if (!i->arity || !i->traits || !*i->doc)
            fail_msg("op %s: arity %d, traits %u: a rule of its own ($..) needs a row in op.c", i->name, i->arity, i->traits);
        assert_int_equal(aq_op_by_name(i->name, strlen(i->name)), op);
    }
    assert_int_equal(aq_op_of(AQ_OP_add)->arity, 2);
    assert_int_equal(aq_op_of(AQ_OP_select)->arity, 3);
    assert_int_equal(aq_op_of(AQ_OP_attend)->arity, 4);
    assert_int_equal(aq_op_of(AQ_OP_fused)->arity, AQ_MAX_IN + 1);
    assert_int_equal(aq_op_by_name("ad", 2), AQ_OP_NONE);
    for (int a = 1; a < AQ_ATTR_COUNT; a++)
        assert_int_equal(aq_attr_by_name(aq_attr_name((aq_attr_key)a), strlen(aq_attr_name((aq_attr_key)a))), a);
    assert_true(AQ_ATTR_COUNT <= 32); /* infer.h counts reads in 32 bits */
    assert_int_equal(aq_batch_field_by_name("pages", 5), 5);
    assert_int_equal(aq_batch_field_of(5)->rank, 2);
    assert_null(aq_batch_field_of(6));
    assert_int_equal(aq_monoid_of(AQ_MONOID_attend)->parts, 3);
}

static void sizes_saturate(void **state) {
    (void)state;
    const int64_t bound[2] = {0, INT64_MAX / 2};
    assert_true(aq_dim_eval((aq_dim){3, 1}, bound) == INT64_MAX);
    assert_true(aq_dim_eval((aq_dim){2, 1}, bound) == INT64_MAX - 1);
    assert_true(aq_dim_eval((aq_dim){7, 0}, bound) == 7);
}

/* --- broken modules ------------------------------------------------------------------------------------------------------------------- */

static const char good[] =
    "model m { sym T in 1..64 sym S in 64..128 sym B in 1..2 sym P in 1..2\n"
    "weight @g: f32[64] weight @h: f32[64] state $k: f32[S, 2, 32] state $v: f32[S, 2, 32]\n"
    "graph g(%x: f32[T, 64], %b: batch) -> f32[T, 64] {\n"
    "  %a = mul %x, @g\n  %h = heads %a {heads=2}\n  $k'1 = append $k, %h, %b\n"
    "  %y, $v'1 = fused(%a, @h, %b, $v) { %c = mul %a, @h  %d = heads %c {heads=2}  $v'1 = append $v, %d, %b  yield %c, $v'1 }\n"
    "  %z = add %y, 2\n  return %z } }";

typedef struct parts { /* of the good module, by what they are */
    aq_module *m;
    aq_body *g, *r;
    aq_node *mul, *heads, *append, *fused, *add;
} parts;

static parts open_good(aq_module *m) {
    if (aq_read_module("t", good, strlen(good), NULL, 0, m) != AQ_OK)
        fail_msg("%s", aq_error());
    parts p = {.m = m, .g = &m->bodies.at[m->graphs.at[0]]};
    for (uint32_t i = 0; i < p.g->nodes.n; i++) {
        aq_node *n = &m->nodes.at[p.g->nodes.at[i]];
        *(n->op == AQ_OP_mul ? &p.mul : n->op == AQ_OP_heads ? &p.heads : n->op == AQ_OP_append ? &p.append : n->op == AQ_OP_fused ? &p.fused : &p.add) = n;
    }
    p.r = &m->bodies.at[p.fused->body];
    return p;
}

static aq_value *out_of(const parts *p, const aq_node *n) { return &p->m->values.at[n->out]; }
static aq_id *in_of(const parts *p, const aq_node *n) { return p->m->inputs.at + n->in; }

static void unknown_op(parts *p) { p->mul->op = AQ_OP_COUNT; }
static void input_is_no_value(parts *p) { in_of(p, p->mul)[0] = p->m->values.n; }
static void input_zero(parts *p) { in_of(p, p->mul)[0] = 0; }
static void inputs_past_the_table(parts *p) { p->mul->in = p->m->inputs.n - 1; }
static void wrong_arity(parts *p) { p->mul->n_in = 1; }
static void used_before_made(parts *p) { in_of(p, p->mul)[0] = p->add->out; }
static void used_by_itself(parts *p) { in_of(p, p->mul)[0] = p->mul->out; }
static void node_twice(parts *p) { p->g->nodes.at[1] = p->g->nodes.at[0]; }
static void node_past_the_table(parts *p) { p->g->nodes.at[0] = p->m->nodes.n; }
static void result_of_another_node(parts *p) { out_of(p, p->mul)->node++; }
static void results_past_the_table(parts *p) { p->fused->out = p->m->values.n - 1; }
static void two_results_of_a_map(parts *p) { p->mul->n_out = 2; }
static void wrong_type(parts *p) { out_of(p, p->mul)->type.dtype = AQ_BF16; }
static void wrong_shape(parts *p) { out_of(p, p->mul)->type.dim[1].k = 32; }
static void unsound_dim(parts *p) { out_of(p, p->mul)->type.dim[1].sym = 99; }
static void unsound_rank(parts *p) { out_of(p, p->mul)->type.rank = 9; }
static void attribute_without_a_row(parts *p) { p->m->attrs.at[p->heads->attr].key = AQ_ATTR_COUNT; }
static void attributes_past_the_table(parts *p) { p->heads->attr = p->m->attrs.n; }
static void attribute_of_another_op(parts *p) { p->m->attrs.at[p->heads->attr].key = AQ_ATTR_eps; }
static void attribute_out_of_range(parts *p) { p->m->attrs.at[p->heads->attr].num = -2; }
static void same_name_twice(parts *p) { out_of(p, p->mul)->name = out_of(p, p->add)->name; }
static void name_with_a_space(parts *p) { out_of(p, p->mul)->name = "a b"; }
static void version_without_append(parts *p) { out_of(p, p->mul)->state = 1; }
static void append_to_another_state(parts *p) { out_of(p, p->append)->state = 2; }
static void append_without_a_state(parts *p) { in_of(p, p->append)[0] = in_of(p, p->append)[1]; }
static void two_successors(parts *p) { in_of(p, p->append)[0] = in_of(p, p->fused)[3]; out_of(p, p->append)->state = 2; }
static void weight_in_a_region(parts *p) { p->m->inputs.at[p->m->nodes.at[p->r->nodes.at[0]].in + 1] = p->m->weights.at[1].value; }
static void outer_value_in_a_region(parts *p) { p->m->inputs.at[p->m->nodes.at[p->r->nodes.at[0]].in] = p->mul->out; }
static void region_without_a_body(parts *p) { p->fused->body = 0; }
static void region_runs_a_graph(parts *p) { p->fused->body = p->m->graphs.at[0]; }
static void region_given_too_little(parts *p) { p->fused->n_in--; }
static void region_given_one_twice(parts *p) { in_of(p, p->fused)[1] = in_of(p, p->fused)[0]; }
static void region_param_of_another_type(parts *p) { p->m->values.at[p->r->params.at[1]].type.dim[0].k = 32; }
static void region_yields_its_param(parts *p) { p->r->results.at[0] = p->r->params.at[0]; }
static void region_yields_an_outer_value(parts *p) { p->r->results.at[0] = p->mul->out; }
static void result_of_nobody(parts *p) { p->g->results.at[0] = 0; }
static void result_of_a_region_leaks(parts *p) { p->g->results.at[0] = p->r->results.at[0]; }
static void graph_is_a_region(parts *p) { p->m->graphs.at[0] = p->fused->body; }
static void nest_that_is_not_there(parts *p) { p->r->by_nest = "frob"; }
static void weight_of_another_row(parts *p) { p->m->values.at[p->m->weights.at[0].value].index = 1; }
static void weight_without_a_layout(parts *p) { p->m->weights.at[0].layout = AQ_LAYOUT_COUNT; }
static void weight_with_odd_heads(parts *p) { p->m->weights.at[0].rotate_half = 1, p->m->weights.at[0].head_dim = 7; }
static void weight_named_twice(parts *p) { p->m->weights.at[1].name = p->m->weights.at[0].name; }
static void alias_of_nobody(parts *p) { p->m->weights.at[0].alias = "frob"; }
static void state_of_blocks(parts *p) { p->m->values.at[p->m->states.at[0].value].type.dtype = AQ_Q4_0; }
static void symbol_upside_down(parts *p) { p->m->syms.at[1].lo = 99; }
static void unknown_dtype(parts *p) { p->m->values.at[p->m->weights.at[0].value].type.dtype = AQ_DTYPE_COUNT; }
static void block_type_in_a_map(parts *p) { p->m->values.at[p->m->weights.at[0].value].type.dtype = AQ_Q8_0; }
static void param_used_as_result(parts *p) { p->m->values.at[p->g->params.at[0]].kind = AQ_VALUE_RESULT; }

static void broken_modules_are_refused(void **state) {
    (void)state;
#define BROKEN(f) {#f, f}
    static const struct {
        const char *name;
        void (*damage)(parts *);
    } broken[] = {BROKEN(unknown_op), BROKEN(input_is_no_value), BROKEN(input_zero), BROKEN(inputs_past_the_table), BROKEN(wrong_arity),
                  BROKEN(used_before_made), BROKEN(used_by_itself), BROKEN(node_twice), BROKEN(node_past_the_table), BROKEN(result_of_another_node),
                  BROKEN(results_past_the_table), BROKEN(two_results_of_a_map), BROKEN(wrong_type), BROKEN(wrong_shape), BROKEN(unsound_dim),
                  BROKEN(unsound_rank), BROKEN(attribute_without_a_row), BROKEN(attributes_past_the_table), BROKEN(attribute_of_another_op),
                  BROKEN(attribute_out_of_range), BROKEN(same_name_twice), BROKEN(name_with_a_space), BROKEN(version_without_append),
                  BROKEN(append_to_another_state), BROKEN(append_without_a_state), BROKEN(two_successors), BROKEN(weight_in_a_region),
                  BROKEN(outer_value_in_a_region), BROKEN(region_without_a_body), BROKEN(region_runs_a_graph), BROKEN(region_given_too_little),
                  BROKEN(region_given_one_twice), BROKEN(region_param_of_another_type), BROKEN(region_yields_its_param),
                  BROKEN(region_yields_an_outer_value), BROKEN(result_of_nobody), BROKEN(result_of_a_region_leaks), BROKEN(graph_is_a_region),
                  BROKEN(nest_that_is_not_there), BROKEN(weight_of_another_row), BROKEN(weight_without_a_layout), BROKEN(weight_with_odd_heads),
                  BROKEN(weight_named_twice), BROKEN(alias_of_nobody), BROKEN(state_of_blocks), BROKEN(symbol_upside_down), BROKEN(unknown_dtype),
                  BROKEN(block_type_in_a_map), BROKEN(param_used_as_result)};
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
        aq_module m;
        parts p = open_good(&m);
        broken[i].damage(&p);
        if (aq_verify_module(&m) != AQ_REFUSED)
            fail_msg("the verifier lets %s pass", broken[i].name);
        if (!strstr(aq_error(), "expected"))
            fail_msg("%s: the refusal does not say what was expected: %s", broken[i].name, aq_error());
        aq_module_close(&m);
    }
    assert_int_equal(aq_mem_open_blocks(), 0);
}

/* Any single damaged id or number: refused or still sound, never followed out of the tables (the sanitizers watch). */
static void damage_anywhere_is_survived(void **state) {
    (void)state;
    aq_random r = aq_random_open(1);
    for (int i = 0; i < 3000; i++) {
        aq_module m;
        aq_arena a = {0};
        (void)open_good(&m);
        aq_id junk = aq_random_below(&r, 2) ? aq_random_below(&r, 70) : aq_random_u32(&r);
        aq_node *n = &m.nodes.at[1 + aq_random_below(&r, m.nodes.n - 1)];
        aq_value *v = &m.values.at[1 + aq_random_below(&r, m.values.n - 1)];
        aq_body *b = &m.bodies.at[1 + aq_random_below(&r, m.bodies.n - 1)];
        switch (aq_random_below(&r, 13)) {
        case 0: m.inputs.at[1 + aq_random_below(&r, m.inputs.n - 1)] = junk; break;
        case 1: n->in = junk; break;
        case 2: n->out = junk; break;
        case 3: n->body = junk; break;
        case 4: n->attr = junk; break;
        case 5: n->op = (aq_op)(junk % (AQ_OP_COUNT + 2)); break;
        case 6: n->n_in = (uint8_t)junk; break;
        case 7: n->n_out = (uint8_t)junk; break;
        case 8: v->kind = (aq_value_kind)(junk % 6); break;
        case 9: v->state = junk; break;
        case 10: v->index = junk; break;
        case 11: b->results.at[0] = junk; break;
        default: b->params.at[aq_random_below(&r, b->params.n)] = junk; break;
        }
        if (aq_verify_module(&m) == AQ_OK) /* then it can be printed */
            (void)aq_print_or_fail(&m, &a);
        aq_arena_close(&a);
        aq_module_close(&m);
    }
}

static void builders_refuse_what_does_not_fit(void **state) {
    (void)state;
    aq_module m;
    aq_id node, body, three;
    parts p = open_good(&m);
    const aq_id two[2] = {p.mul->out, p.heads->out}, bad[2] = {p.mul->out, 9999};
    body = m.graphs.at[0];
    assert_int_equal(aq_node_add(&m, body, AQ_OP_add, two, 2, NULL, 0, &node), AQ_REFUSED);
    assert_int_equal(aq_node_add(&m, body, AQ_OP_add, bad, 2, NULL, 0, &node), AQ_REFUSED);
    assert_int_equal(aq_node_add(&m, body, AQ_OP_add, two, 1, NULL, 0, &node), AQ_REFUSED);
    assert_int_equal(aq_node_add(&m, body, AQ_OP_fused, two, 1, NULL, 0, &node), AQ_REFUSED);
    assert_int_equal(aq_region_add(&m, body, p.fused->body, two, 2, &node), AQ_REFUSED);
    assert_int_equal(aq_verify_module(&m), AQ_OK); /* refusals left no trace */
    assert_int_equal(aq_const_add(&m, 3, &three), AQ_OK);
    const aq_id fine[2] = {p.mul->out, three};
    m.at.layer = 7;
    assert_int_equal(aq_node_add(&m, body, AQ_OP_mul, fine, 2, NULL, 0, &node), AQ_OK);
    assert_int_equal(m.nodes.at[node].layer, 7);
    assert_int_equal(m.values.at[m.nodes.at[node].out].type.rank, 2);
    aq_arena a = {0};
    uint32_t *uses;
    assert_int_equal(aq_body_uses(&m, &m.bodies.at[body], &a, &uses), AQ_OK);
    assert_int_equal(uses[m.nodes.at[node].in ? two[0] : 0], 3);
    aq_arena_close(&a);
    aq_module_close(&m);
}

static void types_follow_a_retyped_state(void **state) {
    (void)state;
    aq_module m;
    parts p = open_good(&m);
    m.values.at[m.states.at[0].value].type.dtype = AQ_F16;
    m.values.at[m.states.at[1].value].type.dtype = AQ_F16;
    assert_int_equal(aq_verify_module(&m), AQ_REFUSED);
    assert_int_equal(aq_infer_refresh(&m), AQ_OK);
    assert_int_equal(aq_verify_module(&m), AQ_OK);
    assert_int_equal(m.values.at[p.fused->out + 1].type.dtype, AQ_F16);
    aq_module_close(&m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tables_are_complete),         cmocka_unit_test(sizes_saturate),
        cmocka_unit_test(broken_modules_are_refused),  cmocka_unit_test(damage_anywhere_is_survived),
        cmocka_unit_test(builders_refuse_what_does_not_fit), cmocka_unit_test(types_follow_a_retyped_state),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
