/* cse.c: equal nodes once. Two nodes are equal if op, inputs and attributes are; numbers count by their bits. State ops and regions are never
 * merged. One walk a body with a table of what was seen, so a node finds its twin after its inputs found theirs. */
#include "passes/passes.h"
#include "passes/rebuild.h"

#include "ir/internal.h"

#include <string.h>

aq_status aq_pass_cse(aq_module *m, const aq_pass_options *o);

typedef struct cse {
    aq_rebuild r;
    aq_names seen;    /* key of a node -> its node */
    aq_names numbers; /* bits of a number -> its first value */
    aq_text key;
} cse;

static aq_status add(cse *c, const void *bytes, size_t n) {
    const char *p = bytes;
    for (size_t i = 0; i < n; i++)
        AQ_PUSH(&c->r.scratch, &c->key.chars, p[i]);
    return AQ_OK;
}

/* Numbers of equal bits are one value from here on. */
static aq_status merge_number(cse *c, aq_id v) {
    const aq_value *x = &c->r.m->values.at[v];
    char *bits;
    if (x->kind != AQ_VALUE_CONST)
        return AQ_OK;
    AQ_ALLOC(&c->r.scratch, bits, sizeof x->number);
    memcpy(bits, &x->number, sizeof x->number);
    uint32_t first = aq_names_find(&c->numbers, bits, sizeof x->number);
    if (!first)
        return aq_names_put(&c->numbers, &c->r.scratch, bits, sizeof x->number, v);
    return first == v || aq_rebuild_value(&c->r, v) == first ? AQ_OK : aq_rebuild_replace(&c->r, v, first);
}

static aq_status key_of(cse *c, const aq_node *n) {
    const aq_module *m = c->r.m;
    c->key = (aq_text){.arena = &c->r.scratch};
    AQ_TRY(add(c, &n->op, sizeof n->op));
    for (int i = 0; i < n->n_in; i++) {
        AQ_TRY(merge_number(c, aq_node_in(m, n)[i]));
        aq_id in = aq_rebuild_value(&c->r, aq_node_in(m, n)[i]);
        AQ_TRY(add(c, &in, sizeof in));
    }
    for (int key = 1; key < AQ_ATTR_COUNT; key++) { /* in the order of the table, whatever the text's */
        const aq_attr *a = aq_node_attr(m, n, (aq_attr_key)key);
        if (!a)
            continue;
        AQ_TRY(add(c, &a->key, sizeof a->key));
        AQ_TRY(add(c, &a->num, sizeof a->num));
        for (int d = 0; d < a->n_dims; d++) {
            AQ_TRY(add(c, &a->dim[d].k, sizeof a->dim[d].k));
            AQ_TRY(add(c, &a->dim[d].sym, sizeof a->dim[d].sym));
        }
        if (a->text)
            AQ_TRY(add(c, a->text, strlen(a->text)));
    }
    return AQ_OK;
}

static aq_status merge_body(cse *c) {
    aq_module *m = c->r.m;
    for (uint32_t i = 0; i < m->bodies.at[c->r.body].nodes.n; i++) {
        aq_id id = m->bodies.at[c->r.body].nodes.at[i];
        const aq_node *n = &m->nodes.at[id];
        if (aq_op_of(n->op)->traits & (AQ_STATE | AQ_REGION)) {
            AQ_TRY(aq_rebuild_keep(&c->r, id));
            continue;
        }
        AQ_TRY(key_of(c, n));
        uint32_t twin = aq_names_find(&c->seen, c->key.chars.at, c->key.chars.n);
        if (twin) {
            aq_value *kept = &m->values.at[m->nodes.at[twin].out];
            if (!kept->name) /* the value keeps whichever name there is */
                kept->name = m->values.at[n->out].name;
            AQ_TRY(aq_rebuild_replace(&c->r, n->out, m->nodes.at[twin].out));
            continue;
        }
        AQ_TRY(aq_names_put(&c->seen, &c->r.scratch, c->key.chars.at, c->key.chars.n, id));
        AQ_TRY(aq_rebuild_keep(&c->r, id));
    }
    return aq_rebuild_finish(&c->r);
}

aq_status aq_pass_cse(aq_module *m, const aq_pass_options *o) {
    (void)o;
    for (aq_id b = 1; b < m->bodies.n; b++) {
        cse c = {.r = aq_rebuild_open(m, b)};
        aq_status status = merge_body(&c);
        aq_rebuild_close(&c.r);
        AQ_TRY(status);
    }
    return AQ_OK;
}
