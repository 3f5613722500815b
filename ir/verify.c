/* verify.c: everything a module must hold, whoever built it: texts end here, and so does every pass. Order: symbols, weights, states, then
 * each graph: structure first (nothing is followed before its id was checked), types last (infer.c). Linear in the module; memory: a few
 * words a value, freed on return. Nests are checked by nest_check.c when they are made. */
#include "ir/internal.h"
#include "ir/nest.h"

#include <stdio.h>
#include <string.h>

typedef struct verifier {
    const aq_module *m;
    aq_arena arena;
    uint32_t *defined;   /* by value: number of the body walk that made it visible; 0 = none */
    uint8_t *succeeded;  /* by value: some node has made its next version */
    uint8_t *placed;     /* by node: 1 if it stands in some body */
    uint8_t *owned;      /* by region: 1 if some node runs it */
    uint32_t walk;
    aq_names names;      /* of the current body */
} verifier;

static aq_status refuse(const verifier *v, const char *what, const char *expected) { return aq_fail(AQ_REFUSED, v->m->file, "%s: expected %s", what, expected); }

static int is_name(const char *s) {
    size_t n = s ? strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789.") : 0;
    return n && n < 200 && !s[n];
}

static aq_status name_once(verifier *v, aq_names *names, char sigil, const char *name) {
    const char *key;
    if (!is_name(name))
        return aq_fail(AQ_REFUSED, v->m->file, "name \"%.60s\": expected 1 to 199 letters, digits, _ and .", name ? name : "");
    AQ_TRY(aq_arena_format(&v->arena, &key, "%c%s", sigil, name));
    if (aq_names_find(names, key, strlen(key)))
        return aq_fail(AQ_REFUSED, v->m->file, "%s stands there twice: expected unique names", key);
    return aq_names_put(names, &v->arena, key, strlen(key), 1);
}

static int type_is_sound(const aq_module *m, const aq_type *t) {
    if (t->is_batch)
        return 1;
    if ((unsigned)t->dtype >= AQ_DTYPE_COUNT || t->rank > AQ_MAX_RANK)
        return 0;
    for (int i = 0; i < t->rank; i++)
        if (t->dim[i].k < 1 || t->dim[i].sym >= m->syms.n)
            return 0;
    int block = aq_dtype_of(t->dtype)->block;
    return block <= 1 || (t->rank && t->dim[t->rank - 1].k % block == 0);
}

/* --- what a module declares ---------------------------------------------------------------------------------------------------------- */

static aq_status syms(verifier *v) {
    aq_names names = {0};
    for (aq_id i = 1; i < v->m->syms.n; i++) {
        const aq_sym *s = &v->m->syms.at[i];
        AQ_TRY(name_once(v, &names, ' ', s->name));
        if (s->lo < 0 || s->lo > s->hi)
            return refuse(v, "bounds of a symbol", "0 <= lowest <= highest");
    }
    return AQ_OK;
}

static aq_status weight(verifier *v, aq_names *names, uint32_t i) {
    const aq_weight *w = &v->m->weights.at[i];
    AQ_TRY(name_once(v, names, '@', w->name));
    if (!w->value || w->value >= v->m->values.n || v->m->values.at[w->value].kind != AQ_VALUE_WEIGHT || v->m->values.at[w->value].index != i ||
        !v->m->values.at[w->value].name || strcmp(v->m->values.at[w->value].name, w->name))
        return refuse(v, w->name, "a weight's value of the same name and row");
    const aq_type *t = &v->m->values.at[w->value].type;
    if (!type_is_sound(v->m, t) || t->is_batch || (unsigned)w->layout >= AQ_LAYOUT_COUNT || w->layout == AQ_LAYOUT_WIDE)
        return refuse(v, w->name, "a tensor's type and a layout");
    if (w->rotate_half && (w->head_dim < 2 || w->head_dim % 2 || !t->rank || t->dim[0].sym || t->dim[0].k % w->head_dim))
        return refuse(v, w->name, "an even head size that divides its rows");
    return AQ_OK;
}

static aq_status state(verifier *v, aq_names *names, uint32_t i) {
    const aq_state *s = &v->m->states.at[i];
    AQ_TRY(name_once(v, names, '$', s->name));
    if (!s->value || s->value >= v->m->values.n || v->m->values.at[s->value].kind != AQ_VALUE_STATE || v->m->values.at[s->value].state != i + 1)
        return refuse(v, s->name, "a state's value of its row");
    const aq_type *t = &v->m->values.at[s->value].type;
    if (!type_is_sound(v->m, t) || t->is_batch || t->dtype == AQ_DTYPE_NONE || aq_dtype_of(t->dtype)->block > 1 ||
        (unsigned)s->layout >= AQ_LAYOUT_COUNT || s->layout == AQ_LAYOUT_WIDE)
        return refuse(v, s->name, "a plain tensor's type and a layout");
    return AQ_OK;
}

static aq_status declared(verifier *v) {
    aq_names names = {0};
    const aq_module *m = v->m;
    AQ_TRY(syms(v));
    for (uint32_t i = 0; i < m->weights.n; i++)
        AQ_TRY(weight(v, &names, i));
    for (uint32_t i = 0; i < m->weights.n; i++) {
        const char *alias = m->weights.at[i].alias, *key;
        if (!alias)
            continue;
        AQ_TRY(aq_arena_format(&v->arena, &key, "@%s", alias));
        if (!aq_names_find(&names, key, strlen(key)) || !strcmp(alias, m->weights.at[i].name))
            return refuse(v, m->weights.at[i].name, "an alias that names another weight");
    }
    for (uint32_t i = 0; i < m->states.n; i++)
        AQ_TRY(state(v, &names, i));
    return AQ_OK;
}

/* --- nodes ---------------------------------------------------------------------------------------------------------------------------- */

static aq_status attrs(verifier *v, const aq_node *n) {
    if ((uint64_t)n->attr + n->n_attr > v->m->attrs.n)
        return aq_fail_node(v->m, n, "attributes out of range: expected rows of the module");
    for (int i = 0; i < n->n_attr; i++) {
        const aq_attr *a = &v->m->attrs.at[n->attr + i];
        if (a->key <= AQ_ATTR_NONE || a->key >= AQ_ATTR_COUNT || a->n_dims > AQ_MAX_RANK)
            return aq_fail_node(v->m, n, "an attribute without a row in the table: expected one of attrs.def");
        for (int k = 0; k < i; k++)
            if (v->m->attrs.at[n->attr + k].key == a->key)
                return aq_fail_node(v->m, n, "attribute %s stands there twice: expected it once", aq_attr_name(a->key));
        if (aq_attr_kind_of(a->key) == AQ_ATTR_KIND_TEXT && (!a->text || strpbrk(a->text, "\"\n\r\\")))
            return aq_fail_node(v->m, n, "attribute %s: expected text without quotes", aq_attr_name(a->key));
        for (int k = 0; k < a->n_dims; k++)
            if (a->dim[k].sym >= v->m->syms.n || a->dim[k].k < 0)
                return aq_fail_node(v->m, n, "attribute %s: expected sizes of the module's symbols", aq_attr_name(a->key));
    }
    return AQ_OK;
}

static aq_status inputs(verifier *v, const aq_body *b, const aq_node *n) {
    const aq_module *m = v->m;
    char a[AQ_DESCRIBE];
    if (n->op <= AQ_OP_NONE || n->op >= AQ_OP_COUNT)
        return refuse(v, "a node without an op", "one of ops.def");
    if ((uint64_t)n->in + n->n_in > m->inputs.n || (n->op != AQ_OP_fused && n->n_in != aq_op_of(n->op)->arity))
        return aq_fail_node(m, n, "%d inputs: expected %d", n->n_in, aq_op_of(n->op)->arity);
    for (int i = 0; i < n->n_in; i++) {
        aq_id in = aq_node_in(m, n)[i];
        if (!in || in >= m->values.n)
            return aq_fail_node(m, n, "input %d is no value: expected an id of the module", i);
        aq_value_kind kind = m->values.at[in].kind;
        int outside = kind == AQ_VALUE_WEIGHT || kind == AQ_VALUE_STATE;
        if (outside && b->is_region)
            return aq_fail_node(m, n, "%s in a region: expected it among the values given to the region", aq_describe_value(m, in, a, sizeof a));
        if (!outside && kind != AQ_VALUE_CONST && v->defined[in] != v->walk)
            return aq_fail_node(m, n, "%s, which is not made before: expected a value made above in the same body", aq_describe_value(m, in, a, sizeof a));
    }
    return AQ_OK;
}

static aq_status define(verifier *v, const aq_node *n, aq_id id, int i) {
    const aq_module *m = v->m;
    aq_id out = n->out + (aq_id)i;
    const aq_value *x = &m->values.at[out];
    if (x->kind != AQ_VALUE_RESULT || x->node != id || x->index != (aq_id)i || v->defined[out])
        return aq_fail_node(m, n, "result %d does not name its node: expected a value of its own", i);
    if (!type_is_sound(m, &x->type) || x->type.is_batch || x->state > m->states.n || !x->origin || x->origin >= m->values.n)
        return aq_fail_node(m, n, "result %d: expected a sound type, state and origin", i);
    v->defined[out] = v->walk;
    return x->name && !x->state ? name_once(v, &v->names, '%', x->name) : AQ_OK;
}

static aq_status succeed(verifier *v, const aq_node *n, aq_id old) {
    char a[AQ_DESCRIBE];
    if (v->succeeded[old])
        return aq_fail_node(v->m, n, "%s, which has a next version already: expected one successor a version",
                            aq_describe_value(v->m, old, a, sizeof a));
    v->succeeded[old] = 1;
    return AQ_OK;
}

static aq_status body(verifier *v, aq_id id);

/* A region's results that are versions succeed the versions given to it. */
static aq_status region(verifier *v, const aq_body *b, const aq_node *n) {
    const aq_module *m = v->m;
    char a[AQ_DESCRIBE];
    if (b->is_region || !n->body || n->body >= m->bodies.n || !m->bodies.at[n->body].is_region || v->owned[n->body]++)
        return aq_fail_node(m, n, "its body: expected a region of its own, not inside another region");
    const aq_body *r = &m->bodies.at[n->body];
    if (r->params.n != n->n_in || r->results.n != n->n_out)
        return aq_fail_node(m, n, "%d inputs and %d results: expected %u and %u as the region", n->n_in, n->n_out, r->params.n, r->results.n);
    for (uint32_t i = 0; i < r->params.n; i++) {
        aq_id in = aq_node_in(m, n)[i], p = r->params.at[i];
        if (m->values.at[in].kind == AQ_VALUE_CONST)
            return aq_fail_node(m, n, "a number is given to a region: expected it inside");
        if (!p || p >= m->values.n || m->values.at[p].state != m->values.at[in].state)
            return aq_fail_node(m, n, "%s: expected a param of the same state", aq_describe_value(m, in, a, sizeof a));
        for (uint32_t k = 0; k < i; k++)
            if (aq_node_in(m, n)[k] == in)
                return aq_fail_node(m, n, "%s is given twice: expected it once", aq_describe_value(m, in, a, sizeof a));
    }
    uint32_t outer = v->walk;
    aq_names names = v->names;
    AQ_TRY(body(v, n->body));
    v->walk = outer;
    v->names = names;
    for (uint32_t i = 0; i < r->results.n; i++) {
        aq_id state = m->values.at[r->results.at[i]].state;
        if (m->values.at[r->results.at[i]].kind != AQ_VALUE_RESULT)
            return aq_fail_node(m, n, "result %u is not made in the region: expected a value that is", i);
        if (n->out + i < m->values.n && m->values.at[n->out + i].state != state)
            return aq_fail_node(m, n, "result %u: expected a version of the same state as in the region", i);
        for (uint32_t k = 0; state && k < i; k++)
            if (m->values.at[r->results.at[k]].state == state)
                return aq_fail_node(m, n, "two versions of $%s: expected the last", m->states.at[state - 1].name);
        for (uint32_t k = 0; state && k < r->params.n; k++)
            if (m->values.at[r->params.at[k]].state == state)
                AQ_TRY(succeed(v, n, aq_node_in(m, n)[k]));
    }
    return AQ_OK;
}

static aq_status node(verifier *v, const aq_body *b, aq_id id) {
    const aq_module *m = v->m;
    if (!id || id >= m->nodes.n || v->placed[id]++)
        return refuse(v, "a body's list of nodes", "ids of the module, each once");
    const aq_node *n = &m->nodes.at[id];
    AQ_TRY(inputs(v, b, n));
    AQ_TRY(attrs(v, n));
    if (!n->out || (uint64_t)n->out + n->n_out > m->values.n || (n->op != AQ_OP_fused && n->n_out != 1))
        return aq_fail_node(m, n, "%d results: expected values of the module", n->n_out);
    if (n->op == AQ_OP_fused)
        AQ_TRY(region(v, b, n));
    if (n->op == AQ_OP_append) {
        AQ_TRY(succeed(v, n, *aq_node_in(m, n)));
        if (m->values.at[n->out].state != m->values.at[*aq_node_in(m, n)].state)
            return aq_fail_node(m, n, "the result is a version of another state: expected the same");
    } else if (n->op != AQ_OP_fused && m->values.at[n->out].state) {
        return aq_fail_node(m, n, "the result is called a version of a state: expected that of append only");
    }
    for (int i = 0; i < n->n_out; i++)
        AQ_TRY(define(v, n, id, i));
    return AQ_OK;
}

/* --- bodies --------------------------------------------------------------------------------------------------------------------------- */

static aq_status body(verifier *v, aq_id id) {
    const aq_module *m = v->m;
    const aq_body *b = &m->bodies.at[id];
    v->walk = id;
    v->names = (aq_names){0};
    if (b->name && !is_name(b->name))
        return refuse(v, "the name of a body", "letters, digits, _ and .");
    for (uint32_t i = 0; i < b->params.n; i++) {
        aq_id p = b->params.at[i];
        if (!p || p >= m->values.n || m->values.at[p].kind != AQ_VALUE_PARAM || v->defined[p])
            return refuse(v, b->name ? b->name : "a body", "params that are values of their own");
        const aq_value *x = &m->values.at[p];
        if (!type_is_sound(m, &x->type) || !x->origin || x->origin >= m->values.n || x->state > m->states.n || (x->state && !b->is_region))
            return refuse(v, x->name ? x->name : "a param", "a sound type, origin and state");
        v->defined[p] = id;
        if (x->name && !x->state)
            AQ_TRY(name_once(v, &v->names, m->values.at[x->origin].kind == AQ_VALUE_WEIGHT ? '@' : '%', x->name));
    }
    for (uint32_t i = 0; i < b->nodes.n; i++) {
        AQ_TRY(node(v, b, b->nodes.at[i]));
        v->walk = id;
    }
    for (uint32_t i = 0; i < b->results.n; i++) {
        aq_id r = b->results.at[i];
        int sound = r && r < m->values.n;
        aq_value_kind kind = sound ? m->values.at[r].kind : 0;
        sound = sound && (v->defined[r] == id || (!b->is_region && kind != AQ_VALUE_RESULT && kind != AQ_VALUE_PARAM));
        if (!sound)
            return refuse(v, b->name ? b->name : "a body", "results that are made in it");
    }
    for (uint32_t i = 0; b->by_nest && i < m->nests.n; i++)
        if (!strcmp(m->nests.at[i]->name, b->by_nest))
            return AQ_OK;
    return b->by_nest ? refuse(v, b->by_nest, "a nest of that name in the module") : AQ_OK;
}

static aq_status graphs(verifier *v) {
    aq_names names = {0};
    for (uint32_t i = 0; i < v->m->graphs.n; i++) {
        aq_id id = v->m->graphs.at[i];
        if (!id || id >= v->m->bodies.n || v->m->bodies.at[id].is_region)
            return refuse(v, "the list of graphs", "bodies that are no regions");
        AQ_TRY(name_once(v, &names, ' ', v->m->bodies.at[id].name));
        memset(v->succeeded, 0, v->m->values.n);
        AQ_TRY(body(v, id));
    }
    return AQ_OK;
}

static aq_status all(verifier *v) {
    AQ_ALLOC(&v->arena, v->defined, v->m->values.n);
    AQ_ALLOC(&v->arena, v->succeeded, v->m->values.n);
    AQ_ALLOC(&v->arena, v->placed, v->m->nodes.n);
    AQ_ALLOC(&v->arena, v->owned, v->m->bodies.n);
    AQ_TRY(declared(v));
    AQ_TRY(graphs(v));
    return aq_infer_module((aq_module *)(uintptr_t)v->m); /* demands, writes nothing */
}

aq_status aq_verify_module(const aq_module *m) {
    verifier v = {.m = m};
    aq_status status = all(&v);
    aq_arena_close(&v.arena);
    return status;
}
