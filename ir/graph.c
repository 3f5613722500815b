/* graph.c: building a module: rows are appended to its tables, ids are their indices. Row 0 of the tables is a blank, so that 0 can mean
 * "none". Order of calls: aq_module_open; symbols, weights, states; aq_body_add, params, nodes, results; aq_verify_module.
 * Cost: a copy of a row each. Pointers into the tables do not survive an addition: hold ids. */
#include "ir/graph.h"

#include <string.h>

aq_status aq_module_open(aq_module *m, const char *file) {
    memset(m, 0, sizeof *m);
    aq_status status;
    AQ_TRY_GOTO(status, failed, aq_arena_string(&m->arena, file ? file : "", strlen(file ? file : ""), &m->file));
    m->name = "";
    m->at.layer = -1;
#define BLANK(vec, type)                                                                                                                   \
    do {                                                                                                                                   \
        void *at = NULL;                                                                                                                   \
        AQ_TRY_GOTO(status, failed, aq_vec_grow(&m->arena, &at, 0, &m->vec.room, sizeof(type)));                                           \
        m->vec.at = at;                                                                                                                    \
        memset(m->vec.at, 0, sizeof(type));                                                                                                \
        m->vec.n = 1;                                                                                                                      \
    } while (0)
    BLANK(syms, aq_sym);
    BLANK(values, aq_value);
    BLANK(nodes, aq_node);
    BLANK(bodies, aq_body);
    BLANK(inputs, aq_id);
    BLANK(attrs, aq_attr);
#undef BLANK
    return AQ_OK;
failed:
    aq_module_close(m);
    return status;
}

void aq_module_close(aq_module *m) {
    aq_arena_close(&m->arena);
    memset(m, 0, sizeof *m);
}

aq_status aq_sym_add(aq_module *m, const char *name, int64_t lo, int64_t hi, aq_id *out) {
    aq_sym s = {NULL, lo, hi};
    AQ_TRY(aq_arena_string(&m->arena, name, strlen(name), &s.name));
    AQ_PUSH(&m->arena, &m->syms, s);
    *out = m->syms.n - 1;
    return AQ_OK;
}

aq_id aq_sym_find(const aq_module *m, const char *name, size_t n) {
    for (aq_id i = 1; i < m->syms.n; i++)
        if (strlen(m->syms.at[i].name) == n && !memcmp(m->syms.at[i].name, name, n))
            return i;
    return 0;
}

aq_status aq_value_add(aq_module *m, aq_value v, aq_id *out) {
    if (!v.origin)
        v.origin = m->values.n;
    AQ_PUSH(&m->arena, &m->values, v);
    *out = m->values.n - 1;
    return AQ_OK;
}

/* "wq.3" for base "wq" of layer 3; "norm" outside a `repeat` (layer -1). */
static aq_status layered_name(aq_module *m, const char *base, int32_t layer, const char **out_name, const char **out_base) {
    AQ_TRY(aq_arena_string(&m->arena, base, strlen(base), out_base));
    if (layer < 0)
        *out_name = *out_base;
    else
        AQ_TRY(aq_arena_format(&m->arena, out_name, "%s.%d", base, layer));
    return AQ_OK;
}

aq_status aq_weight_add(aq_module *m, const char *base, int32_t layer, aq_type type, aq_id *out_value) {
    aq_weight w = {.layer = layer};
    AQ_TRY(layered_name(m, base, layer, &w.name, &w.base));
    AQ_TRY(aq_value_add(m, (aq_value){.kind = AQ_VALUE_WEIGHT, .type = type, .name = w.name, .index = m->weights.n}, &w.value));
    AQ_PUSH(&m->arena, &m->weights, w);
    *out_value = w.value;
    return AQ_OK;
}

aq_status aq_state_add(aq_module *m, const char *base, int32_t layer, aq_type type, aq_id *out_value) {
    aq_state s = {.layer = layer};
    AQ_TRY(layered_name(m, base, layer, &s.name, &s.base));
    AQ_TRY(aq_value_add(m, (aq_value){.kind = AQ_VALUE_STATE, .type = type, .name = s.name, .index = m->states.n, .state = m->states.n + 1},
                        &s.value));
    AQ_PUSH(&m->arena, &m->states, s);
    *out_value = s.value;
    return AQ_OK;
}

aq_status aq_const_add(aq_module *m, double number, aq_id *out_value) {
    return aq_value_add(m, (aq_value){.kind = AQ_VALUE_CONST, .type = {.dtype = AQ_F32}, .number = number}, out_value);
}

aq_status aq_body_add(aq_module *m, const char *name, int is_region, aq_id *out) {
    aq_body b = {.is_region = is_region != 0};
    if (name)
        AQ_TRY(aq_arena_string(&m->arena, name, strlen(name), &b.name));
    AQ_PUSH(&m->arena, &m->bodies, b);
    aq_id id = m->bodies.n - 1;
    if (!is_region)
        AQ_PUSH(&m->arena, &m->graphs, id);
    *out = id;
    return AQ_OK;
}

const aq_body *aq_graph_find(const aq_module *m, const char *name) {
    for (uint32_t i = 0; i < m->graphs.n; i++) {
        const aq_body *b = &m->bodies.at[m->graphs.at[i]];
        if (b->name && !strcmp(b->name, name))
            return b;
    }
    return NULL;
}

static void stamp(const aq_module *m, aq_node *n) { n->line = m->at.line, n->column = m->at.column, n->layer = m->at.layer; }

static aq_status push_inputs(aq_module *m, const aq_id *in, int n_in, aq_node *n) {
    n->in = m->inputs.n;
    n->n_in = (uint8_t)n_in;
    for (int i = 0; i < n_in; i++) {
        if (!in[i] || in[i] >= m->values.n)
            return aq_fail(AQ_REFUSED, m->file, "%s: input %d is no value: expected an id below %u", aq_op_of(n->op)->name, i, m->values.n);
        AQ_PUSH(&m->arena, &m->inputs, in[i]);
    }
    return AQ_OK;
}

/* The node into its table and body; results as fresh values of the given types. */
static aq_status push_node(aq_module *m, aq_id body, aq_node n, const aq_type *types, const aq_id *states, aq_id *out_node) {
    aq_id id = m->nodes.n;
    n.out = m->values.n;
    for (int i = 0; i < n.n_out; i++) {
        aq_id value;
        AQ_TRY(aq_value_add(m, (aq_value){.kind = AQ_VALUE_RESULT, .type = types[i], .node = id, .index = (aq_id)i, .state = states[i]}, &value));
    }
    AQ_PUSH(&m->arena, &m->nodes, n);
    if (body)
        AQ_PUSH(&m->arena, &m->bodies.at[body].nodes, id);
    *out_node = id;
    return AQ_OK;
}

aq_status aq_node_add(aq_module *m, aq_id body, aq_op op, const aq_id *in, int n_in, const aq_attr *attr, int n_attr, aq_id *out_node) {
    aq_node n = {.op = op, .n_out = 1, .n_attr = (uint8_t)n_attr, .attr = m->attrs.n};
    stamp(m, &n);
    if (op <= AQ_OP_NONE || op >= AQ_OP_COUNT || op == AQ_OP_fused)
        return aq_fail(AQ_REFUSED, m->file, "op number %d cannot be added as a node", (int)op);
    if (n_in != aq_op_of(op)->arity)
        return aq_fail(AQ_REFUSED, m->file, "%s has %d inputs: expected %d", aq_op_of(op)->name, n_in, aq_op_of(op)->arity);
    AQ_TRY(push_inputs(m, in, n_in, &n));
    for (int i = 0; i < n_attr; i++)
        AQ_PUSH(&m->arena, &m->attrs, attr[i]);
    aq_type type;
    AQ_TRY(aq_infer_node(m, &n, &type));
    aq_id state = op == AQ_OP_append ? m->values.at[in[0]].state : 0;
    return push_node(m, body, n, &type, &state, out_node);
}

aq_status aq_region_add(aq_module *m, aq_id body, aq_id region, const aq_id *in, int n_in, aq_id *out_node) {
    const aq_body *r = &m->bodies.at[region];
    uint32_t n_out = r->results.n;
    if (!r->is_region || (uint32_t)n_in != r->params.n || n_in > UINT8_MAX || n_out > UINT8_MAX)
        return aq_fail(AQ_REFUSED, m->file, "fused: %d inputs, %u results: expected %u inputs, at most %d of each", n_in, n_out, r->params.n,
                       UINT8_MAX);
    aq_node n = {.op = AQ_OP_fused, .n_out = (uint8_t)n_out, .body = region};
    stamp(m, &n);
    AQ_TRY(push_inputs(m, in, n_in, &n));
    aq_type types[UINT8_MAX];
    aq_id states[UINT8_MAX];
    AQ_TRY(aq_infer_node(m, &n, types));
    for (uint32_t i = 0; i < n_out; i++) {
        /* A result that is a version of a state of the region is a version of the state that came in. */
        states[i] = m->values.at[r->results.at[i]].state;
        for (uint32_t p = 0; states[i] && p < r->params.n; p++)
            if (m->values.at[r->params.at[p]].state == states[i])
                states[i] = m->values.at[in[p]].state, p = r->params.n;
    }
    return push_node(m, body, n, types, states, out_node);
}

const aq_attr *aq_node_attr(const aq_module *m, const aq_node *n, aq_attr_key key) {
    for (int i = 0; i < n->n_attr; i++)
        if (m->attrs.at[n->attr + i].key == key)
            return &m->attrs.at[n->attr + i];
    return NULL;
}

double aq_node_num(const aq_module *m, const aq_node *n, aq_attr_key key, double otherwise) {
    const aq_attr *a = aq_node_attr(m, n, key);
    return a ? a->num : otherwise;
}

int aq_type_same(const aq_type *a, const aq_type *b) {
    if (a->is_batch || b->is_batch)
        return a->is_batch == b->is_batch;
    if (a->dtype != b->dtype || a->rank != b->rank)
        return 0;
    for (int i = 0; i < a->rank; i++)
        if (!aq_dim_same(a->dim[i], b->dim[i]))
            return 0;
    return 1;
}

static int64_t times(int64_t a, int64_t b) {
    int64_t r;
    return __builtin_mul_overflow(a, b, &r) ? INT64_MAX : r;
}

int64_t aq_dim_eval(aq_dim d, const int64_t *bound) { return d.sym ? times(d.k, bound[d.sym]) : d.k; }

aq_status aq_body_uses(const aq_module *m, const aq_body *b, aq_arena *arena, uint32_t **out) {
    uint32_t *uses;
    AQ_ALLOC(arena, uses, m->values.n);
    for (uint32_t i = 0; i < b->nodes.n; i++) {
        const aq_node *n = &m->nodes.at[b->nodes.at[i]];
        for (int k = 0; k < n->n_in; k++)
            uses[aq_node_in(m, n)[k]]++;
    }
    for (uint32_t i = 0; i < b->results.n; i++)
        uses[b->results.at[i]]++;
    *out = uses;
    return AQ_OK;
}
