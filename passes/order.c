/* order.c: the order in which nodes run: the old order, except that whoever reads a version of a state runs before the node that makes the next
 * one (their storage is the same). Quadratic only in the readers of one version. */
#include "passes/passes.h"

aq_status aq_pass_order(aq_module *m, const aq_pass_options *o);

typedef struct sorter {
    const aq_module *m;
    aq_body *b;
    uint32_t *def;    /* value -> position + 1 */
    uint8_t *state;   /* position: 0 not seen, 1 on the way, 2 done */
    aq_id *out;
    uint32_t n_out;
} sorter;

static int takes_version(const aq_module *m, const aq_node *n, aq_id version) {
    if (!m->values.at[version].state)
        return 0;
    for (int k = 0; k < n->n_out; k++)
        if (m->values.at[n->out + k].state == m->values.at[version].state)
            for (int i = 0; i < n->n_in; i++)
                if (aq_node_in(m, n)[i] == version)
                    return 1;
    return 0;
}

static aq_status visit(sorter *s, uint32_t at, uint32_t depth);

/* Everybody else who reads `version` goes first. */
static aq_status readers_first(sorter *s, uint32_t at, aq_id version, uint32_t depth) {
    for (uint32_t r = 0; r < s->b->nodes.n; r++) {
        const aq_node *n = &s->m->nodes.at[s->b->nodes.at[r]];
        if (r == at || takes_version(s->m, n, version))
            continue;
        for (int i = 0; i < n->n_in; i++)
            if (aq_node_in(s->m, n)[i] == version)
                AQ_TRY(visit(s, r, depth + 1));
    }
    return AQ_OK;
}

static aq_status visit(sorter *s, uint32_t at, uint32_t depth) {
    if (s->state[at] == 2)
        return AQ_OK;
    if (s->state[at] == 1 || depth > s->b->nodes.n)
        return aq_fail(AQ_REFUSED, s->m->file, "a version of a state is read after the next one is made: expected an order in which it is not");
    s->state[at] = 1;
    const aq_node *n = &s->m->nodes.at[s->b->nodes.at[at]];
    for (int i = 0; i < n->n_in; i++) {
        aq_id v = aq_node_in(s->m, n)[i];
        if (s->def[v])
            AQ_TRY(visit(s, s->def[v] - 1, depth + 1));
        if (takes_version(s->m, n, v))
            AQ_TRY(readers_first(s, at, v, depth));
    }
    s->state[at] = 2;
    s->out[s->n_out++] = s->b->nodes.at[at];
    return AQ_OK;
}

static aq_status order_body(aq_module *m, aq_body *b) {
    sorter s = {.m = m, .b = b};
    aq_arena scratch = {0};
    aq_status status = AQ_OK;
    void *p;
    AQ_TRY_GOTO(status, done, aq_arena_alloc(&scratch, m->values.n, sizeof *s.def, &p));
    s.def = p;
    AQ_TRY_GOTO(status, done, aq_arena_alloc(&scratch, b->nodes.n + 1, 1, &p));
    s.state = p;
    AQ_TRY_GOTO(status, done, aq_arena_alloc(&m->arena, b->nodes.n + 1, sizeof(aq_id), &p));
    s.out = p;
    for (uint32_t i = 0; i < b->nodes.n; i++) {
        const aq_node *n = &m->nodes.at[b->nodes.at[i]];
        for (int k = 0; k < n->n_out; k++)
            s.def[n->out + k] = i + 1;
    }
    /* In the old order every input was visited before: the recursion is one deep but for the readers of states. */
    for (uint32_t i = 0; i < b->nodes.n; i++)
        AQ_TRY_GOTO(status, done, visit(&s, i, 0));
    b->nodes.at = s.out;
    b->nodes.room = b->nodes.n + 1;
done:
    aq_arena_close(&scratch);
    return status;
}

aq_status aq_pass_order(aq_module *m, const aq_pass_options *o) {
    (void)o;
    for (uint32_t g = 0; g < m->graphs.n; g++)
        AQ_TRY(order_body(m, &m->bodies.at[m->graphs.at[g]]));
    return AQ_OK;
}
