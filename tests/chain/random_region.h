/* random_region.h: a module with one graph of one random region: a handful of ops drawn from ops.def, the one that is asked for among them,
 * on shapes that have edges. Operands are drawn until aq_node_add accepts them, so infer's rules are the only ones. Values stay near 1 in
 * size (exp of a tanh, log of what is above a half), so that a relative error says something. */
#ifndef AQ_TESTS_CHAIN_RANDOM_REGION_H
#define AQ_TESTS_CHAIN_RANDOM_REGION_H

#include <stdio.h>
#include <string.h>

#include "ir/graph.h"
#include "ir/random.h"

enum { GEN_MAX = 48 };

typedef struct gen {
    aq_module *m;
    aq_random r;
    aq_id region, T, O, B, S, P, batch;
    aq_id value[GEN_MAX], outer[GEN_MAX]; /* of the region; outer: what stands for a param outside, else 0 */
    int n, params;
    int64_t width, heads, kv_heads, e;
    uint8_t used[AQ_OP_COUNT];
} gen;

static inline uint32_t gen_below(gen *g, uint32_t n) {
    return aq_random_below(&g->r, n);
}
static inline const aq_type *gen_type(const gen *g, int i) {
    return &g->m->values.at[g->value[i]].type;
}
static inline int64_t gen_size(const gen *g, aq_dim d) {
    return d.sym == g->S ? 768 : d.sym ? 8 * d.k : d.k;
}
static inline int64_t gen_elements(const gen *g, const aq_type *t) {
    int64_t n = 1;
    for (int i = 0; i < t->rank; i++)
        n *= gen_size(g, t->dim[i]);
    return n;
}
static inline int gen_is_float(const gen *g, int i) {
    const aq_type *t = gen_type(g, i);
    return !t->is_batch && aq_dtype_of(t->dtype)->kind == AQ_KIND_FLOAT && !g->m->values.at[g->value[i]].state;
}

/* The region's param for a value of the graph; position in g->value, -1 if there is no room. */
static inline int gen_param(gen *g, aq_id outer, const char *name) {
    aq_value v = g->m->values.at[outer];
    if (g->n == GEN_MAX)
        return -1;
    v.kind = AQ_VALUE_PARAM;
    v.name = name;
    v.origin = outer;
    if (aq_value_add(g->m, v, &g->value[g->n]))
        return -1;
    g->outer[g->n] = outer;
    aq_body *b = &g->m->bodies.at[g->region];
    void *at = b->params.at;
    if (aq_vec_grow(&g->m->arena, &at, b->params.n, &b->params.room, sizeof *b->params.at))
        return -1;
    b->params.at = at;
    b->params.at[b->params.n++] = g->value[g->n];
    g->params++;
    return g->n++;
}

static inline int gen_input(gen *g, aq_dtype t, int rank, const aq_dim *dim, int is_batch) {
    const char *name;
    aq_value v = {.kind = AQ_VALUE_PARAM, .type = {.dtype = t, .rank = (uint8_t)rank, .is_batch = (uint8_t)is_batch}};
    if (rank)
        memcpy(v.type.dim, dim, (size_t)rank * sizeof *dim);
    if (aq_arena_format(&g->m->arena, &name, is_batch ? "b" : "x%d", g->n))
        return -1;
    v.name = name;
    aq_id outer;
    if (aq_value_add(g->m, v, &outer))
        return -1;
    aq_body *b = &g->m->bodies.at[g->m->graphs.at[0]];
    void *at = b->params.at;
    if (aq_vec_grow(&g->m->arena, &at, b->params.n, &b->params.room, sizeof *b->params.at))
        return -1;
    b->params.at = at;
    b->params.at[b->params.n++] = outer;
    return gen_param(g, outer, name);
}

static inline int gen_weight(gen *g, aq_dtype t, int rank, int64_t a, int64_t b) {
    aq_type type = {.dtype = t, .rank = (uint8_t)rank, .dim = {aq_dim_const(a), aq_dim_const(b)}};
    const char *name;
    aq_id id;
    if (aq_arena_format(&g->m->arena, &name, "w%d", g->n) || aq_weight_add(g->m, name, -1, type, &id))
        return -1;
    return gen_param(g, id, name);
}

static inline int gen_state(gen *g, int64_t width) {
    static const aq_dtype types[] = {AQ_F16, AQ_F16, AQ_F32, AQ_BF16};
    aq_type type = {.dtype = types[gen_below(g, 4)], .rank = 3, .dim = {{1, g->S}, aq_dim_const(g->kv_heads), aq_dim_const(width)}};
    const char *name;
    aq_id id;
    if (aq_arena_format(&g->m->arena, &name, "s%d", g->n) || aq_state_add(g->m, name, -1, type, &id))
        return -1;
    return gen_param(g, id, name);
}

static inline int gen_batch(gen *g) {
    for (int i = 0; i < g->n; i++)
        if (gen_type(g, i)->is_batch)
            return i;
    return gen_input(g, AQ_F32, 0, NULL, 1);
}

/* Adds the node; the position of its value, -1 if it is refused or too large. */
static inline int gen_op(gen *g, aq_op op, const int *in, int n_in, const aq_attr *attr, int n_attr) {
    aq_id ids[AQ_MAX_IN], node;
    for (int i = 0; i < n_in; i++) {
        if (in[i] < 0)
            return -1;
        ids[i] = in[i] >= 1000 ? (aq_id)(in[i] - 1000) : g->value[in[i]];
    }
    if (g->n == GEN_MAX || aq_node_add(g->m, g->region, op, ids, n_in, attr, n_attr, &node))
        return -1;
    g->value[g->n] = g->m->nodes.at[node].out;
    g->used[op] = 1;
    if (gen_elements(g, gen_type(g, g->n)) > 6000 &&
        !g->m->values.at[g->value[g->n]].state) { /* the verifier does not mind a dead node, but it must not be read */
        g->m->bodies.at[g->region].nodes.n--;
        return -1;
    }
    return g->n++;
}

static inline int gen_const(gen *g, double x) {
    aq_id id;
    return aq_const_add(g->m, x, &id) ? -1 : 1000 + (int)id;
}

static inline int gen_1(gen *g, aq_op op, int a) {
    return gen_op(g, op, (int[]){a}, 1, NULL, 0);
}
static inline int gen_2(gen *g, aq_op op, int a, int b) {
    return gen_op(g, op, (int[]){a, b}, 2, NULL, 0);
}
static inline int gen_num(gen *g, aq_op op, int a, aq_attr_key key, double x) {
    return gen_op(g, op, (int[]){a}, 1, &(aq_attr){.key = key, .num = x}, 1);
}

static inline int gen_pick_float(gen *g) {
    for (int tries = 0; tries < 20; tries++) {
        int i = (int)gen_below(g, (uint32_t)g->n);
        if (gen_below(g, 2))
            i = g->n - 1 - (int)gen_below(g, g->n > 3 ? 3 : (uint32_t)g->n); /* chains rather than stars */
        if (gen_is_float(g, i) && gen_type(g, i)->rank)
            return i;
    }
    return 0;
}

static inline int gen_pick_int(gen *g) {
    for (int tries = 0; tries < 20; tries++) {
        int i = (int)gen_below(g, (uint32_t)g->n);
        if (gen_type(g, i)->dtype == AQ_I32 && !gen_type(g, i)->is_batch)
            return i;
    }
    return gen_input(g, AQ_I32, 1, (aq_dim[]){{1, g->T}}, 0);
}

static inline int gen_unary(gen *g, aq_op op, int x) {
    int y;
    switch (op) {
    case AQ_OP_exp:
        return gen_1(g, op, gen_1(g, AQ_OP_tanh, x));
    case AQ_OP_log:
        return gen_1(g, op, gen_2(g, AQ_OP_add, gen_1(g, AQ_OP_sigmoid, x), gen_const(g, 0.5)));
    case AQ_OP_sqrt:
    case AQ_OP_rsqrt:
        y = gen_2(g, AQ_OP_mul, x, x);
        return gen_1(g, op, gen_2(g, AQ_OP_add, y, gen_const(g, 0.25)));
    default:
        return gen_1(g, op, x);
    }
}

static inline int gen_binary(gen *g, aq_op op) {
    for (int tries = 0; tries < 10; tries++) {
        int a = gen_pick_float(g), b = gen_below(g, 4) ? gen_pick_float(g) : gen_const(g, gen_below(g, 3) - 0.625), r;
        if (op == AQ_OP_div) {
            if (b >= 1000)
                continue;
            b = gen_2(g, AQ_OP_add, gen_2(g, AQ_OP_mul, b, b), gen_const(g, 0.5));
        }
        if ((r = op == AQ_OP_div || gen_below(g, 2) ? gen_2(g, op, a, b) : gen_2(g, op, b, a)) >= 0)
            return r;
    }
    return -1;
}

/* Against a number that nothing is equal to, or between integers: rounding must not decide. */
static inline int gen_le(gen *g) {
    if (gen_below(g, 4) == 0)
        return gen_2(g, AQ_OP_le, gen_pick_int(g), gen_const(g, gen_below(g, 20)));
    int x = gen_pick_float(g), c = gen_const(g, 0.3721894);
    return gen_below(g, 2) ? gen_2(g, AQ_OP_le, x, c) : gen_2(g, AQ_OP_le, c, x);
}

static inline int gen_index(gen *g, aq_op op) {
    int a = gen_pick_int(g);
    return gen_2(g, op, a, gen_const(g, 1 + gen_below(g, 9)));
}

/* A block type whose blocks fill rows of k elements; k 0: any. */
static inline aq_dtype gen_block_type(gen *g, int64_t k) {
    static const aq_dtype blocks[] = {AQ_Q4_0, AQ_Q4_1, AQ_Q8_0, AQ_Q5_0, AQ_Q5_1, AQ_IQ4_NL, AQ_Q2_K, AQ_Q3_K, AQ_Q4_K, AQ_Q5_K, AQ_Q6_K, AQ_IQ4_XS};
    return blocks[gen_below(g, k % 256 ? 6 : 12)];
}
static inline int64_t gen_block_width(gen *g, aq_dtype t) {
    return aq_dtype_of(t)->block > 32 ? aq_dtype_of(t)->block : 32 + 32 * gen_below(g, 2);
}

static inline int gen_cast(gen *g) {
    static const aq_dtype types[] = {AQ_F16, AQ_BF16, AQ_F32, AQ_I32, AQ_I8, AQ_F16};
    if (gen_below(g, 4) == 0) {
        aq_dtype t = gen_block_type(g, 0);
        return gen_num(g, AQ_OP_cast, gen_weight(g, t, 2, 1 + gen_below(g, 40), gen_block_width(g, t)), AQ_ATTR_dtype, AQ_F32);
    }
    return gen_num(g, AQ_OP_cast, gen_below(g, 6) ? gen_pick_float(g) : gen_pick_int(g), AQ_ATTR_dtype, types[gen_below(g, 6)]);
}

static inline int gen_quantize(gen *g) {
    for (int tries = 0; tries < 10; tries++) {
        int x = gen_pick_float(g), r = gen_num(g, AQ_OP_quantize, x, AQ_ATTR_dtype, gen_below(g, 4) ? AQ_A16 : AQ_A8);
        if (r >= 0)
            return r;
    }
    return gen_num(g, AQ_OP_quantize, gen_input(g, AQ_F32, 2, (aq_dim[]){{1, g->T}, aq_dim_const(gen_below(g, 8) ? 32 + 32 * gen_below(g, 3) : 256)}, 0),
                   AQ_ATTR_dtype, AQ_A16);
}

static inline int gen_dot_spec(gen *g, int a, int b, const char *spec) {
    return gen_op(g, AQ_OP_dot, (int[]){a, b}, 2, &(aq_attr){.key = AQ_ATTR_spec, .text = spec}, 1);
}

/* Letters at random: equal sizes may share one; what is shared is mostly summed. */
static inline int gen_einsum(gen *g) {
    int v[2] = {gen_pick_float(g), gen_pick_float(g)}, next = 0, n_out = 0;
    char in[2][5] = {{0}}, out[9] = {0}, text[24];
    const char *spec;
    const aq_type *t[2] = {gen_type(g, v[0]), gen_type(g, v[1])};
    for (int i = 0; i < t[0]->rank; i++)
        in[0][i] = (char)('a' + next++);
    for (int i = 0; i < t[1]->rank; i++) {
        for (int k = 0; k < t[0]->rank && !in[1][i]; k++)
            if (aq_dim_same(t[0]->dim[k], t[1]->dim[i]) && !strchr(in[1], in[0][k]) && gen_below(g, 3))
                in[1][i] = in[0][k];
        if (!in[1][i])
            in[1][i] = (char)('a' + next++);
    }
    for (int c = 'a'; c < 'a' + next; c++)
        if (gen_below(g, 10) < (strchr(in[0], c) && strchr(in[1], c) ? 3u : 8u))
            out[n_out++] = (char)c;
    if (n_out > 1 && gen_below(g, 3) == 0) {
        char c = out[0];
        out[0] = out[1];
        out[1] = c;
    }
    snprintf(text, sizeof text, "%s,%s->%s", in[0], in[1], out);
    if (n_out > 3 || !n_out || aq_arena_string(&g->m->arena, text, strlen(text), &spec))
        return -1;
    return gen_dot_spec(g, v[0], v[1], spec);
}

static inline int gen_dot(gen *g) {
    static const aq_dtype plain[] = {AQ_F32, AQ_F32, AQ_F16, AQ_BF16};
    static const int64_t rows[] = {1, 3, 15, 16, 17, 32, 33, 48};
    int64_t n = rows[gen_below(g, 8)];
    if (gen_below(g, 3) == 0)
        return gen_einsum(g);
    for (int tries = 0; tries < 10; tries++) {
        int x = gen_pick_float(g);
        const aq_type *t = gen_type(g, x);
        if (t->rank != 2 || t->dim[1].sym)
            continue;
        if (t->dim[1].k % 32 == 0 && gen_below(g, 2)) {
            int q = gen_num(g, AQ_OP_quantize, x, AQ_ATTR_dtype, gen_below(g, 4) ? AQ_A16 : AQ_A8);
            return gen_dot_spec(g, q, gen_weight(g, gen_block_type(g, t->dim[1].k), 2, n, t->dim[1].k), "tk,nk->tn");
        }
        return gen_dot_spec(g, x, gen_weight(g, plain[gen_below(g, 4)], 2, n, t->dim[1].k), "tk,nk->tn");
    }
    return -1;
}

static inline int gen_rope(gen *g) {
    static const int64_t dims[] = {0, 2, 4, 8, 16};
    for (int tries = 0; tries < 12; tries++) {
        int x =
            tries < 11 ? gen_pick_float(g) : gen_input(g, AQ_F32, 2, (aq_dim[]){{1, g->T}, aq_dim_const(16 * (1 + gen_below(g, 3)))}, 0);
        const aq_type *t = gen_type(g, x);
        if (t->rank < 2 || t->dim[0].sym != g->T || t->dim[0].k != 1)
            continue;
        if (t->dim[t->rank - 1].sym || t->dim[t->rank - 1].k % 16)
            continue;
        int pos = gen_op(g, AQ_OP_field, (int[]){gen_batch(g)}, 1, &(aq_attr){.key = AQ_ATTR_name, .text = "pos"}, 1);
        aq_attr attr[7] = {{.key = AQ_ATTR_theta, .num = 100},
                           {.key = AQ_ATTR_factor, .num = 1 + gen_below(g, 2)},
                           {.key = AQ_ATTR_dim, .num = (double)dims[gen_below(g, 5)]},
                           {.key = AQ_ATTR_low, .num = 0.05},
                           {.key = AQ_ATTR_high, .num = 0.5},
                           {.key = AQ_ATTR_ramp, .num = 1},
                           {.key = AQ_ATTR_gain, .num = 1.25}};
        int r = gen_op(g, AQ_OP_rope, (int[]){x, pos}, 2, attr, attr[1].num == 2 && attr[2].num >= 8 ? 7 : 3); /* with a band: positions of low frequencies alone are divided */
        if (r >= 0)
            return r;
    }
    return -1;
}

static inline int gen_rows(gen *g) {
    static const aq_dtype tables[] = {AQ_F32, AQ_F16, AQ_BF16};
    aq_dtype t = gen_below(g, 2) ? tables[gen_below(g, 3)] : gen_block_type(g, 0);
    aq_dim dim[1] = {{1, gen_below(g, 2) ? g->T : g->O}};
    int ids = gen_input(g, AQ_I32, 1, dim, 0);
    for (int tries = 0; tries < 5 && gen_below(g, 2); tries++) {
        int r = gen_2(g, AQ_OP_rows, gen_pick_float(g), ids);
        if (r >= 0)
            return r;
    }
    return gen_2(g, AQ_OP_rows, gen_weight(g, t, 2, 1 + gen_below(g, 20), gen_block_width(g, t)), ids);
}

/* A value [T, heads, e]: one that is there, or an input. */
static inline int gen_heads3(gen *g, int64_t heads, int64_t e) {
    for (int i = g->n; i-- > 0;) {
        const aq_type *t = gen_type(g, i);
        if (gen_is_float(g, i) && t->rank == 3 && t->dim[0].sym == g->T && t->dim[1].k == heads && t->dim[2].k == e && gen_below(g, 2))
            return i;
    }
    if (gen_below(g, 2)) {
        int x = gen_weight(g, AQ_F32, 2, heads * e, g->width);
        return gen_num(g, AQ_OP_heads, gen_dot_spec(g, 0, x, "tk,nk->tn"), AQ_ATTR_heads, (double)heads);
    }
    return gen_input(g, AQ_F32, 3, (aq_dim[]){{1, g->T}, aq_dim_const(heads), aq_dim_const(e)}, 0);
}

static inline int gen_append(gen *g) {
    return gen_op(g, AQ_OP_append, (int[]){gen_state(g, g->e), gen_heads3(g, g->kv_heads, g->e), gen_batch(g)}, 3, NULL, 0);
}

static inline int gen_attend(gen *g) {
    aq_attr attr[2] = {{.key = AQ_ATTR_scale, .num = 0.25}, {.key = AQ_ATTR_causal, .num = 1}};
    for (int i = 0; i < g->n; i++) /* one a region */
        if (g->m->values.at[g->value[i]].kind == AQ_VALUE_RESULT && g->m->nodes.at[g->m->values.at[g->value[i]].node].op == AQ_OP_attend)
            return -1;
    int in[4] = {gen_heads3(g, g->heads, g->e), gen_state(g, g->e), gen_state(g, gen_below(g, 2) ? g->e : 16), gen_batch(g)};
    return gen_op(g, AQ_OP_attend, in, 4, attr, gen_below(g, 2) ? 2 : 1);
}

static inline int gen_view(gen *g, aq_op op) {
    for (int tries = 0; tries < 20; tries++) {
        int x = gen_pick_float(g), r = -1;
        const aq_type *t = gen_type(g, x);
        aq_dim last = t->dim[t->rank - 1];
        aq_attr a = {.n_dims = t->rank};
        if (op == AQ_OP_heads && t->rank == 2 && !last.sym) {
            int64_t h = 1 + gen_below(g, 6);
            r = last.k % h ? -1 : gen_num(g, op, x, AQ_ATTR_heads, (double)h);
        }
        if (op == AQ_OP_merge && t->rank == 3)
            r = gen_1(g, op, x);
        if (op == AQ_OP_slice && !last.sym) {
            int64_t begin = gen_below(g, (uint32_t)last.k), end = begin + 1 + gen_below(g, (uint32_t)(last.k - begin));
            r = gen_op(g, op, (int[]){x}, 1,
                       (aq_attr[]){{.key = AQ_ATTR_begin, .num = (double)begin}, {.key = AQ_ATTR_end, .num = (double)end}}, 2);
        }
        if (op == AQ_OP_transpose) {
            a.key = AQ_ATTR_perm;
            for (int i = 0; i < t->rank; i++) {
                int k = (int)gen_below(g, (uint32_t)i + 1);
                a.dim[i] = a.dim[k];
                a.dim[k] = aq_dim_const(i);
            }
            r = gen_op(g, op, (int[]){x}, 1, &a, 1);
        }
        if (op == AQ_OP_reshape) {
            a.key = AQ_ATTR_shape;
            int sym = 0;
            int64_t k = 1;
            for (int i = 0; i < t->rank; i++)
                sym += t->dim[i].sym != 0, k *= t->dim[i].sym ? 1 : t->dim[i].k;
            if (sym > 1 || (sym && t->dim[0].k != 1))
                continue;
            a.n_dims = 0;
            if (sym)
                a.dim[a.n_dims++] = (aq_dim){1, t->dim[0].sym ? t->dim[0].sym : t->dim[t->rank - 1].sym};
            static const int64_t cuts[] = {2, 3, 4, 5, 8, 16};
            int64_t c = cuts[gen_below(g, 6)];
            if (k % c == 0)
                a.dim[a.n_dims++] = aq_dim_const(c), k /= c;
            a.dim[a.n_dims++] = aq_dim_const(k);
            r = gen_op(g, op, (int[]){x}, 1, &a, 1);
        }
        if (r >= 0)
            return r;
    }
    return -1;
}

static inline int gen_add(gen *g, aq_op op) {
    uint32_t traits = aq_op_of(op)->traits;
    switch (op) {
    case AQ_OP_cast:
        return gen_cast(g);
    case AQ_OP_quantize:
        return gen_quantize(g);
    case AQ_OP_idiv:
    case AQ_OP_imod:
        return gen_index(g, op);
    case AQ_OP_select:
        return gen_op(g, op, (int[]){gen_le(g), gen_pick_float(g), gen_below(g, 2) ? gen_pick_float(g) : gen_const(g, 0.5)}, 3, NULL, 0);
    case AQ_OP_le:
        return gen_le(g);
    case AQ_OP_rms:
        return gen_num(g, op, gen_pick_float(g), AQ_ATTR_eps, 1e-5);
    case AQ_OP_dot:
        return gen_dot(g);
    case AQ_OP_rope:
        return gen_rope(g);
    case AQ_OP_rows:
        return gen_rows(g);
    case AQ_OP_append:
        return gen_append(g);
    case AQ_OP_attend:
        return gen_attend(g);
    case AQ_OP_field:
        return gen_op(g, op, (int[]){gen_batch(g)}, 1, &(aq_attr){.key = AQ_ATTR_name, .text = gen_below(g, 2) ? "pos" : "len"}, 1);
    default:
        break;
    }
    if (op == AQ_OP_argmax) { /* of an input or a sum of products: what saturates has near ties, which rounding decides */
        int x = gen_pick_float(g);
        const aq_value *v = &g->m->values.at[g->value[x]];
        if (v->kind != AQ_VALUE_PARAM && g->m->nodes.at[v->node].op != AQ_OP_dot)
            x = 0;
        return gen_1(g, op, x);
    }
    if (traits & AQ_VIEW)
        return gen_view(g, op);
    if (traits & AQ_REDUCE)
        return gen_1(g, op, gen_pick_float(g));
    return aq_op_of(op)->arity == 2 ? gen_binary(g, op) : gen_unary(g, op, gen_pick_float(g));
}

/* Ops that a region may hold; `expand` opens the composite ones, and `fused` is the region itself. */
static inline int gen_can(aq_op op) {
    return !(aq_op_of(op)->traits & (AQ_COMPOSITE | AQ_REGION));
}

/* 0, or what went wrong. *m is opened in any case. used[op] is set for what the region holds. */
static inline const char *gen_region(aq_module *m, uint64_t seed, aq_op wanted, uint8_t *used) {
    static const int64_t widths[] = {1, 7, 15, 16, 17, 31, 32, 33, 64, 96, 256}, es[] = {4, 8, 16, 24, 32};
    gen g = {.m = m, .r = aq_random_open(seed)};
    aq_id graph, node, outer[GEN_MAX];
    if (aq_module_open(m, "random"))
        return aq_error();
    m->name = "random";
    if (aq_sym_add(m, "T", 1, 4096, &g.T) || aq_sym_add(m, "O", 1, 4096, &g.O) || aq_sym_add(m, "B", 1, 64, &g.B) ||
        aq_sym_add(m, "S", 64, 65536, &g.S) || aq_sym_add(m, "P", 1, 64, &g.P) || aq_body_add(m, "f", 0, &graph) ||
        aq_body_add(m, NULL, 1, &g.region))
        return aq_error();
    if (!m->graphs.n) { /* the list of graphs is the builder's business */
        void *at = m->graphs.at;
        if (aq_vec_grow(&m->arena, &at, 0, &m->graphs.room, sizeof *m->graphs.at))
            return aq_error();
        m->graphs.at = at;
        m->graphs.at[m->graphs.n++] = graph;
    }
    g.width = widths[gen_below(&g, 11)];
    g.e = es[gen_below(&g, 5)];
    g.kv_heads = 1 + gen_below(&g, 2);
    g.heads = g.kv_heads * (1 + gen_below(&g, 3));
    gen_input(&g, gen_below(&g, 5) ? AQ_F32 : AQ_F16, 2, (aq_dim[]){{1, gen_below(&g, 6) ? g.T : g.O}, aq_dim_const(g.width)}, 0);
    int ops = 1 + (int)gen_below(&g, 7), when = (int)gen_below(&g, (uint32_t)ops);
    for (int i = 0; i < ops; i++) {
        aq_op op = i == when ? wanted : (aq_op)(1 + gen_below(&g, AQ_OP_COUNT - 1));
        for (int tries = 0; gen_can(op) && tries < (i == when ? 8 : 2) && gen_add(&g, op) < 0; tries++)
            ;
    }
    uint32_t *uses;
    if (aq_body_uses(m, &m->bodies.at[g.region], &m->arena, &uses))
        return aq_error();
    for (int k = 2 * g.n; k-- > 0;) { /* all new versions of states, then what nothing uses, the latest first */
        int i = k % g.n, states = k >= g.n;
        aq_body *b = &m->bodies.at[g.region];
        const aq_value *v = &m->values.at[g.value[i]];
        if (v->kind != AQ_VALUE_RESULT || (v->state != 0) != states || (!states && uses[g.value[i]] && gen_below(&g, 6)) ||
            (!states && b->results.n > 5))
            continue;
        void *at = b->results.at;
        if (aq_vec_grow(&m->arena, &at, b->results.n, &b->results.room, sizeof *b->results.at))
            return aq_error();
        b->results.at = at;
        b->results.at[b->results.n++] = g.value[i];
    }
    if (!m->bodies.at[g.region].results.n)
        return "no results";
    for (int i = 0, k = 0; i < g.n; i++)
        if (g.outer[i])
            outer[k++] = g.outer[i];
    if (aq_region_add(m, graph, g.region, outer, g.params, &node))
        return aq_error();
    for (int i = 0; i < m->nodes.at[node].n_out; i++) {
        aq_id v = m->nodes.at[node].out + (aq_id)i;
        aq_body *b = &m->bodies.at[graph];
        void *at = b->results.at;
        if (m->values.at[v].state)
            continue;
        if (aq_vec_grow(&m->arena, &at, b->results.n, &b->results.room, sizeof *b->results.at))
            return aq_error();
        b->results.at = at;
        b->results.at[b->results.n++] = v;
    }
    if (aq_verify_module(m))
        return aq_error();
    const aq_body *b = &m->bodies.at[g.region];
    for (uint32_t i = 0; i < b->nodes.n; i++)
        used[m->nodes.at[b->nodes.at[i]].op] = 1;
    return NULL;
}

#endif
