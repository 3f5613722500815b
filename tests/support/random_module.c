/* random_module.c: draws an op, inputs from what is there, and plausible attributes, and lets the builder refuse what does not fit. */
#include "tests/support/random_module.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { POOL = 400 };

typedef struct maker {
    aq_module *m;
    aq_random r;
    aq_id pool[POOL];
    int n, in_region;
    int *used;
} maker;

#define CHECK(e)                                                                                                                           \
    do {                                                                                                                                   \
        if ((e) != AQ_OK)                                                                                                                  \
            fail_msg("%s", aq_error());                                                                                                    \
    } while (0)

static uint32_t below(maker *k, uint32_t n) { return aq_random_below(&k->r, n); }

static void keep(maker *k, aq_id v) {
    k->pool[k->n < POOL ? k->n++ : (int)below(k, POOL)] = v;
}

static aq_type type_of(aq_dtype t, int rank, aq_dim a, aq_dim b, aq_dim c) { return (aq_type){.dtype = t, .rank = (uint8_t)rank, .dim = {a, b, c}}; }

static double odd_number(maker *k) {
    static const double numbers[] = {0, 1, -1, 2, 0.5, -0.25, 1e-5, 3.14159, 1e30, 1.0 / 3, 100000, -7};
    return numbers[below(k, sizeof numbers / sizeof *numbers)];
}

static void declare(maker *k) {
    static const struct {
        const char *name;
        int64_t lo, hi;
    } syms[] = {{"T", 1, 64}, {"O", 1, 64}, {"B", 1, 8}, {"S", 64, 4096}, {"P", 1, 64}};
    static const aq_dtype types[] = {AQ_F32, AQ_BF16, AQ_F16, AQ_Q4_0, AQ_Q4_1, AQ_Q8_0, AQ_F64, AQ_Q5_0, AQ_Q5_1, AQ_Q2_K, AQ_Q3_K, AQ_Q4_K, AQ_Q5_K, AQ_Q6_K};
    aq_id id, v;
    aq_dim one = {1, 0}, d = {64, 0};
    for (int i = 0; i < 5; i++)
        CHECK(aq_sym_add(k->m, syms[i].name, syms[i].lo, syms[i].hi, &id));
    for (int i = 0; i < (int)(sizeof types / sizeof *types); i++) {
        char name[16];
        snprintf(name, sizeof name, "w%d", i);
        aq_dim wide = {aq_dtype_of(types[i])->block > 64 ? 256 : 64, 0};
        CHECK(aq_weight_add(k->m, name, i < 5 ? i : -1, type_of(types[i], 2, d, wide, one), &v));
        keep(k, v);
    }
    CHECK(aq_weight_add(k->m, "g", -1, type_of(AQ_F32, 1, d, one, one), &v));
    keep(k, v);
    for (int i = 0; i < 3; i++) {
        aq_type t = {.dtype = i == 1 ? AQ_F16 : AQ_F32, .rank = 3, .dim = {{1, aq_sym_find(k->m, "S", 1)}, {2, 0}, {16, 0}}};
        CHECK(aq_state_add(k->m, i ? "v" : "k", i, t, &v));
        keep(k, v);
    }
}

static aq_id param(maker *k, aq_id body, const char *name, aq_type t) {
    aq_id v;
    CHECK(aq_value_add(k->m, (aq_value){.kind = AQ_VALUE_PARAM, .type = t, .name = name}, &v));
    AQ_VEC(aq_id) *params = (void *)&k->m->bodies.at[body].params;
    void *at = params->at;
    CHECK(aq_vec_grow(&k->m->arena, &at, params->n, &params->room, sizeof *params->at));
    params->at = at;
    params->at[params->n++] = v;
    keep(k, v);
    return v;
}

/* Attributes that might fit. */
static int attributes(maker *k, aq_op op, aq_attr *a) {
    static const char *const specs[] = {"tk,nk->tn", "tk,nk->nt", "tk,kn->tn", "nk,tk->tn", "tk,tk->t", "the,the->th", "the,she->ths", "ab,b->a"};
    static const char *const fields[] = {"pos", "slot", "start", "rows", "len", "pages"};
    static const aq_dtype plain[] = {AQ_F32, AQ_BF16, AQ_F16, AQ_F64};
    switch (op) {
    case AQ_OP_rms:
    case AQ_OP_rmsnorm: a[0] = (aq_attr){.key = AQ_ATTR_eps, .num = 1e-5}; return 1;
    case AQ_OP_dot: a[0] = (aq_attr){.key = AQ_ATTR_spec, .text = specs[below(k, 8)]}; return 1;
    case AQ_OP_cast: a[0] = (aq_attr){.key = AQ_ATTR_dtype, .num = plain[below(k, 4)]}; return 1;
    case AQ_OP_quantize: a[0] = (aq_attr){.key = AQ_ATTR_dtype, .num = below(k, 2) ? AQ_A8 : AQ_A16}; return 1;
    case AQ_OP_field: a[0] = (aq_attr){.key = AQ_ATTR_name, .text = fields[below(k, 6)]}; return 1;
    case AQ_OP_heads: a[0] = (aq_attr){.key = AQ_ATTR_heads, .num = 1 << below(k, 4)}; return 1;
    case AQ_OP_slice:
        a[0] = (aq_attr){.key = AQ_ATTR_begin, .num = below(k, 8)};
        a[1] = (aq_attr){.key = AQ_ATTR_end, .num = a[0].num + 1 + below(k, 60)};
        return 2;
    case AQ_OP_transpose: {
        int rank = 2 + (int)below(k, 2), first = (int)below(k, (uint32_t)rank), mirrored = below(k, 2) != 0;
        a[0] = (aq_attr){.key = AQ_ATTR_perm, .n_dims = (uint8_t)rank};
        for (int i = 0; i < rank; i++)
            a[0].dim[i].k = (first + (mirrored ? rank - i : i)) % rank;
        return 1;
    }
    case AQ_OP_reshape:
        a[0] = (aq_attr){.key = AQ_ATTR_shape, .n_dims = 3, .dim = {{1, aq_sym_find(k->m, "T", 1)}, {1 << below(k, 6), 0}, {1, 0}}};
        a[0].dim[2].k = 64 / a[0].dim[1].k;
        return 1;
    case AQ_OP_attend:
        a[0] = (aq_attr){.key = AQ_ATTR_scale, .num = 0.25};
        a[1] = (aq_attr){.key = AQ_ATTR_causal, .num = 1};
        return below(k, 2) ? 2 : 1;
    case AQ_OP_rope:
        a[0] = (aq_attr){.key = AQ_ATTR_theta, .num = 10000};
        a[1] = (aq_attr){.key = AQ_ATTR_dim, .num = below(k, 2) ? 16 : 0};
        a[2] = (aq_attr){.key = AQ_ATTR_factor, .num = 4};
        return (int)below(k, 4);
    default: return 0;
    }
}

static int is_newest(const maker *k, aq_id v) {
    aq_id state = k->m->values.at[v].state;
    for (aq_id i = v + 1; i < k->m->values.n; i++)
        if (state && k->m->values.at[i].state == state && k->m->values.at[i].kind == AQ_VALUE_RESULT)
            return 0;
    return state != 0;
}

static int64_t width(const aq_value *x) { return x->type.rank && !x->type.dim[x->type.rank - 1].sym ? x->type.dim[x->type.rank - 1].k : 0; }

static int fits_place(const maker *k, aq_op op, int i, aq_id v, const aq_id *in) {
    const aq_value *x = &k->m->values.at[v];
    int last = i == aq_op_of(op)->arity - 1;
    switch (op) {
    case AQ_OP_matmul: return i ? x->kind == AQ_VALUE_WEIGHT && x->type.rank == 2 && width(x) == width(&k->m->values.at[in[0]]) : width(x) == 64 || width(x) == 256;
    case AQ_OP_append: return i == 0 ? x->state && is_newest(k, v) : last ? x->type.is_batch : x->type.rank == 3;
    case AQ_OP_attend: return last ? x->type.is_batch : i ? x->state != 0 : x->type.rank == 3;
    case AQ_OP_field: return x->type.is_batch;
    default: return 1;
    }
}

/* A value that has a chance in this place: rare kinds are looked for. */
static aq_id pick(maker *k, aq_op op, int i, const aq_id *in) {
    aq_id v = 0;
    for (int tries = 0; tries < 40 && (!v || !fits_place(k, op, i, v, in)); tries++)
        v = k->pool[below(k, 3) ? below(k, (uint32_t)k->n) : (uint32_t)k->n - 1 - below(k, k->n < 12 ? (uint32_t)k->n : 12)];
    return v;
}

/* One try; 1 if a node came of it. */
static int try_node(maker *k, aq_id body) {
    aq_op op = (aq_op)(1 + below(k, AQ_OP_COUNT - 1));
    aq_attr a[4];
    aq_id in[AQ_MAX_IN], node;
    if (op == AQ_OP_fused || (k->in_region && op == AQ_OP_append))
        return 0;
    for (int i = 0; i < aq_op_of(op)->arity; i++) {
        if (below(k, 8) == 0 && (aq_op_of(op)->traits & AQ_MAP))
            CHECK(aq_const_add(k->m, odd_number(k), &in[i]));
        else
            in[i] = pick(k, op, i, in);
        if ((k->m->values.at[in[i]].kind == AQ_VALUE_WEIGHT || k->m->values.at[in[i]].kind == AQ_VALUE_STATE) && k->in_region)
            return 0;
    }
    if (op == AQ_OP_append && !is_newest(k, in[0]))
        return 0;
    if (aq_node_add(k->m, body, op, in, aq_op_of(op)->arity, a, attributes(k, op, a), &node) != AQ_OK)
        return 0;
    aq_value *v = &k->m->values.at[k->m->nodes.at[node].out];
    if (!v->state && below(k, 2)) {
        const char *name;
        CHECK(aq_arena_format(&k->m->arena, &name, below(k, 4) ? "x%u" : "x.%u", node));
        k->m->values.at[k->m->nodes.at[node].out].name = name;
    }
    keep(k, k->m->nodes.at[node].out);
    if (k->used)
        k->used[op]++;
    return 1;
}

static void result(maker *k, aq_id body, aq_id v) {
    AQ_VEC(aq_id) *results = (void *)&k->m->bodies.at[body].results;
    void *at = results->at;
    CHECK(aq_vec_grow(&k->m->arena, &at, results->n, &results->room, sizeof *results->at));
    results->at = at;
    results->at[results->n++] = v;
}

/* A region of a few values of the pool and a few nodes. */
static void add_region(maker *k, aq_id body) {
    maker inner = {.m = k->m, .r = aq_random_open(below(k, 1u << 30)), .in_region = 1};
    aq_id in[6], region, node;
    int n_in = 0;
    CHECK(aq_body_add(k->m, below(k, 2) ? "kernel.x" : NULL, 1, &region));
    for (int i = 0; i < 6; i++) {
        aq_id v = k->pool[below(k, (uint32_t)k->n)];
        int known = k->m->values.at[v].kind == AQ_VALUE_CONST;
        for (int j = 0; j < n_in; j++)
            known |= in[j] == v;
        if (known)
            continue;
        in[n_in++] = v;
        aq_value x = k->m->values.at[v];
        aq_id p = param(&inner, region, x.name, x.type);
        k->m->values.at[p].state = x.state;
        k->m->values.at[p].origin = x.origin;
    }
    int made = 0;
    for (int tries = 0; tries < 400 && made < 5; tries++)
        made += try_node(&inner, region);
    if (!made)
        return;
    for (uint32_t i = 0; i < k->m->bodies.at[region].nodes.n; i += 2)
        result(k, region, k->m->nodes.at[k->m->bodies.at[region].nodes.at[i]].out);
    CHECK(aq_region_add(k->m, body, region, in, n_in, &node));
    for (int i = 0; i < k->m->nodes.at[node].n_out; i++)
        keep(k, k->m->nodes.at[node].out + (aq_id)i);
    if (k->used)
        k->used[AQ_OP_fused]++;
}

void aq_random_module(uint64_t seed, int nodes, int with_regions, aq_module *m, int *used) {
    maker k = {.m = m, .r = aq_random_open(seed), .used = used};
    aq_id body;
    CHECK(aq_module_open(m, "random"));
    m->name = "random";
    declare(&k);
    aq_dim t = {1, aq_sym_find(m, "T", 1)}, d = {64, 0}, two = {2, 0}, e = {16, 0};
    CHECK(aq_body_add(m, "g", 0, &body));
    param(&k, body, "x", type_of(AQ_F32, 2, t, d, d));
    param(&k, body, "y", type_of(AQ_F32, 2, t, d, d));
    param(&k, body, "z", type_of(AQ_F32, 2, t, (aq_dim){256, 0}, d));
    param(&k, body, "q", type_of(AQ_F32, 3, t, two, e));
    param(&k, body, "i", type_of(AQ_I32, 1, t, d, d));
    param(&k, body, "b", (aq_type){.is_batch = 1});
    int made = 0;
    for (int tries = 0; made < nodes && tries < nodes * 400; tries++) {
        m->at.layer = made < nodes / 3 ? -1 : made < nodes / 2 ? 0 : made < nodes * 2 / 3 ? 1 : -1;
        made += try_node(&k, body);
        if (with_regions && below(&k, 200) == 0)
            add_region(&k, body);
    }
    m->at.layer = -1;
    for (uint32_t i = 0; i < m->bodies.at[body].nodes.n; i++) {
        const aq_node *n = &m->nodes.at[m->bodies.at[body].nodes.at[i]];
        for (int o = 0; o < n->n_out; o++)
            if (below(&k, 3) == 0 && m->bodies.at[body].results.n < 30)
                result(&k, body, n->out + (aq_id)o);
    }
    CHECK(aq_verify_module(m));
}

const char *aq_print_or_fail(const aq_module *m, aq_arena *arena) {
    aq_text text = {.arena = arena};
    const char *out;
    CHECK(aq_print_module(m, &text));
    CHECK(aq_text_end(&text, &out));
    return out;
}
