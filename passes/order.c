/* order.c: the order in which nodes run: the old order, except that whoever reads a version of a state runs before the node that makes the next
 * one (their storage is the same). Cost: linear in nodes and readers. */
#include "passes/passes.h"

aq_status aq_pass_order(aq_module *m, const aq_pass_options *o);

enum { UNSEEN, WAITS, DONE };

typedef struct waiting { /* a node on whose account others are looked at: by which input, and how many readers of that version are done */
    uint32_t at, input, reader;
} waiting;

typedef struct sorter {
    const aq_module *m;
    aq_body *b;
    uint32_t *def;         /* value -> position + 1 */
    uint32_t *first_use;   /* value -> where its readers begin; one more at the end */
    uint32_t *uses;        /* positions of readers */
    uint8_t *state;        /* of a position */
    waiting *stack;        /* texts are hostile: a chain of readers may be as long as the body, so no recursion */
    aq_id *out;
    uint32_t n_out;
} sorter;

static const aq_node *node_at(const sorter *s, uint32_t at) { return &s->m->nodes.at[s->b->nodes.at[at]]; }

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

/* What has to run before w and has not: makers of its inputs; everybody else who reads the version of a state that it takes. 0: nothing. */
static int next_before(const sorter *s, waiting *w, uint32_t *out) {
    const aq_node *n = node_at(s, w->at);
    for (; w->input < n->n_in; w->input++, w->reader = 0) {
        aq_id v = aq_node_in(s->m, n)[w->input];
        if (s->def[v] && s->state[s->def[v] - 1] != DONE) {
            *out = s->def[v] - 1;
            return 1;
        }
        if (!takes_version(s->m, n, v))
            continue;
        for (; w->reader < s->first_use[v + 1] - s->first_use[v]; w->reader++) {
            *out = s->uses[s->first_use[v] + w->reader];
            if (*out != w->at && s->state[*out] != DONE && !takes_version(s->m, node_at(s, *out), v))
                return 1;
        }
    }
    return 0;
}

static aq_status visit(sorter *s, uint32_t at) {
    uint32_t n = 0, before;
    if (s->state[at] == DONE)
        return AQ_OK;
    s->stack[n++] = (waiting){.at = at};
    while (n) {
        waiting *w = &s->stack[n - 1];
        s->state[w->at] = WAITS;
        if (!next_before(s, w, &before)) {
            s->state[w->at] = DONE;
            s->out[s->n_out++] = s->b->nodes.at[w->at];
            n--;
        } else if (s->state[before] == WAITS) {
            return aq_fail(AQ_REFUSED, s->m->file, "a version of a state is read after the next one is made: expected an order in which it is not");
        } else {
            s->stack[n++] = (waiting){.at = before};
        }
    }
    return AQ_OK;
}

static aq_status list_uses(sorter *s, aq_arena *scratch) {
    uint32_t total = 0, n = s->b->nodes.n;
    AQ_ALLOC(scratch, s->first_use, s->m->values.n + 2);
    for (uint32_t at = 0; at < n; at++)
        for (int i = 0; i < node_at(s, at)->n_in; i++)
            s->first_use[aq_node_in(s->m, node_at(s, at))[i] + 2]++;
    for (uint32_t v = 2; v < s->m->values.n + 2; v++)
        total = s->first_use[v] += total;
    AQ_ALLOC(scratch, s->uses, total + 1);
    for (uint32_t at = 0; at < n; at++)
        for (int i = 0; i < node_at(s, at)->n_in; i++)
            s->uses[s->first_use[aq_node_in(s->m, node_at(s, at))[i] + 1]++] = at;
    return AQ_OK;
}

static aq_status sort(sorter *s, aq_arena *scratch) {
    aq_body *b = s->b;
    AQ_ALLOC(scratch, s->def, s->m->values.n);
    AQ_ALLOC(scratch, s->state, b->nodes.n + 1);
    AQ_ALLOC(scratch, s->stack, b->nodes.n + 1);
    AQ_TRY(list_uses(s, scratch));
    for (uint32_t at = 0; at < b->nodes.n; at++)
        for (int k = 0; k < node_at(s, at)->n_out; k++)
            s->def[node_at(s, at)->out + (aq_id)k] = at + 1;
    for (uint32_t at = 0; at < b->nodes.n; at++)
        AQ_TRY(visit(s, at));
    b->nodes.at = s->out;
    b->nodes.room = b->nodes.n + 1;
    return AQ_OK;
}

static aq_status order_body(aq_module *m, aq_body *b) {
    sorter s = {.m = m, .b = b};
    aq_arena scratch = {0};
    AQ_ALLOC(&m->arena, s.out, b->nodes.n + 1);
    aq_status status = sort(&s, &scratch);
    aq_arena_close(&scratch);
    return status;
}

aq_status aq_pass_order(aq_module *m, const aq_pass_options *o) {
    (void)o;
    for (uint32_t g = 0; g < m->graphs.n; g++)
        AQ_TRY(order_body(m, &m->bodies.at[m->graphs.at[g]]));
    return AQ_OK;
}
