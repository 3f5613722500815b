/* print.c: a module as text that aq_read_module takes back. One node a line; a value without a name is called by its number in order of
 * appearance (%0, %1, ..), so reading a print and printing again gives the same bytes. State versions are numbered: `$k.3` is version 0,
 * `$k.3'1` the next. Nodes of one layer stand in `layer 3 { }`. A region's params are called what the values given to it are called.
 *
 * One pass over the nodes; memory: a pointer a value and a table of the names of one graph. */
#include "ir/internal.h"
#include "ir/nest.h"

#include <string.h>

typedef struct printer {
    const aq_module *m;
    aq_text *out;
    const char **text;   /* how each value is called in the current graph */
    uint32_t *version;   /* by value: its version number */
    uint32_t *newest;    /* by state row: versions given out in this graph */
    aq_names taken;      /* names in the current body */
    uint32_t unnamed;
    int depth;
    int32_t layer;
} printer;

static aq_status dim(printer *p, aq_dim d) {
    if (!d.sym)
        return aq_text_add(p->out, "%lld", (long long)d.k);
    if (d.k != 1)
        AQ_TRY(aq_text_add(p->out, "%lld*", (long long)d.k));
    return aq_text_add(p->out, "%s", p->m->syms.at[d.sym].name);
}

static aq_status type(printer *p, const aq_type *t) {
    if (t->is_batch)
        return aq_text_add(p->out, "batch");
    if (t->dtype != AQ_DTYPE_NONE || !t->rank)
        AQ_TRY(aq_text_add(p->out, "%s", aq_dtype_of(t->dtype)->name));
    for (int i = 0; i < t->rank; i++) {
        AQ_TRY(aq_text_add(p->out, i ? ", " : "["));
        AQ_TRY(dim(p, t->dim[i]));
    }
    return t->rank ? aq_text_add(p->out, "]") : AQ_OK;
}

static aq_status line(printer *p) { return aq_text_add(p->out, "\n%*s", 2 * p->depth, ""); }

/* --- what values are called --------------------------------------------------------------------------------------------------------- */

/* `name` with its sigil, made unique in its body by ".2", ".3" .. where a pass left two values of one name. */
static aq_status call(printer *p, aq_id v, const char *sigil, const char *name) {
    aq_arena *a = p->out->arena;
    const char *text;
    AQ_TRY(aq_arena_format(a, &text, "%s%s", sigil, name));
    for (uint32_t i = 2; aq_names_find(&p->taken, text, strlen(text)); i++)
        AQ_TRY(aq_arena_format(a, &text, "%s%s.%u", sigil, name, i));
    AQ_TRY(aq_names_put(&p->taken, a, text, strlen(text), 1));
    p->text[v] = text;
    return AQ_OK;
}

static int is_field_of_param(const printer *p, const aq_node *n) {
    return n->op == AQ_OP_field && p->m->values.at[aq_node_in(p->m, n)[0]].kind == AQ_VALUE_PARAM;
}

/* `%b.pos` is a field wherever %b is a batch: no other value may be called so. */
static aq_status take_fields(printer *p, aq_id batch) {
    const aq_batch_field *f;
    for (int i = 0; (f = aq_batch_field_of(i)); i++) {
        const char *text;
        AQ_TRY(aq_arena_format(p->out->arena, &text, "%s.%s", p->text[batch], f->name));
        AQ_TRY(aq_names_put(&p->taken, p->out->arena, text, strlen(text), 1));
    }
    return AQ_OK;
}

static aq_status call_version(printer *p, aq_id v, uint32_t version) {
    aq_id state = p->m->values.at[v].state;
    p->version[v] = version;
    return version ? aq_arena_format(p->out->arena, &p->text[v], "$%s'%u", p->m->states.at[state - 1].name, version)
                   : aq_arena_format(p->out->arena, &p->text[v], "$%s", p->m->states.at[state - 1].name);
}

/* A result of a node, or a param where no outer value gives it its name. */
static aq_status call_value(printer *p, aq_id v) {
    const aq_value *x = &p->m->values.at[v];
    if (x->state && x->state <= p->m->states.n)
        return call_version(p, v, x->kind == AQ_VALUE_PARAM ? 0 : ++p->newest[x->state - 1]);
    if (x->name && x->name[strspn(x->name, "0123456789")]) /* a name of digits only is what unnamed values look like */
        return call(p, v, x->kind == AQ_VALUE_PARAM && p->m->values.at[x->origin].kind == AQ_VALUE_WEIGHT ? "@" : "%", x->name);
    return aq_arena_format(p->out->arena, &p->text[v], "%%%u", p->unnamed++);
}

static aq_status value(printer *p, aq_id v) {
    const aq_value *x = &p->m->values.at[v];
    char number[32];
    switch (x->kind) {
    case AQ_VALUE_CONST: return aq_text_add(p->out, "%s", aq_number_text(x->number, number));
    case AQ_VALUE_WEIGHT: return aq_text_add(p->out, "@%s", x->name);
    case AQ_VALUE_STATE: return aq_text_add(p->out, "$%s", x->name);
    default: break;
    }
    if (x->kind == AQ_VALUE_RESULT && is_field_of_param(p, &p->m->nodes.at[x->node])) {
        const aq_node *n = &p->m->nodes.at[x->node];
        return aq_text_add(p->out, "%s.%s", p->text[aq_node_in(p->m, n)[0]], aq_node_attr(p->m, n, AQ_ATTR_name)->text);
    }
    return aq_text_add(p->out, "%s", p->text[v] ? p->text[v] : "%?");
}

static aq_status values(printer *p, const aq_id *v, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        if (i)
            AQ_TRY(aq_text_add(p->out, ", "));
        AQ_TRY(value(p, v[i]));
    }
    return AQ_OK;
}

/* --- nodes -------------------------------------------------------------------------------------------------------------------------- */

static int is_word(const char *s) {
    size_t n = strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789");
    return *s && !s[n] && !(*s >= '0' && *s <= '9');
}

static aq_status attr(printer *p, const aq_attr *a) {
    char number[32];
    AQ_TRY(aq_text_add(p->out, "%s", aq_attr_name(a->key)));
    switch (aq_attr_kind_of(a->key)) {
    case AQ_ATTR_KIND_FLAG: return AQ_OK;
    case AQ_ATTR_KIND_NUM: return aq_text_add(p->out, "=%s", aq_number_text(a->num, number));
    case AQ_ATTR_KIND_DTYPE: return aq_text_add(p->out, "=%s", aq_dtype_of((aq_dtype)a->num)->name);
    case AQ_ATTR_KIND_TEXT: return aq_text_add(p->out, is_word(a->text) ? "=%s" : "=\"%s\"", a->text);
    case AQ_ATTR_KIND_DIMS: break;
    }
    for (int i = 0; i < a->n_dims; i++) {
        AQ_TRY(aq_text_add(p->out, i ? ", " : "=["));
        AQ_TRY(dim(p, a->dim[i]));
    }
    return aq_text_add(p->out, a->n_dims ? "]" : "=[]");
}

static aq_status attrs(printer *p, const aq_node *n) {
    int shown = 0;
    for (int i = 0; i < n->n_attr; i++) {
        const aq_attr *a = &p->m->attrs.at[n->attr + i];
        if (aq_attr_kind_of(a->key) == AQ_ATTR_KIND_FLAG && a->num == 0)
            continue;
        AQ_TRY(aq_text_add(p->out, shown++ ? ", " : " {"));
        AQ_TRY(attr(p, a));
    }
    return shown ? aq_text_add(p->out, "}") : AQ_OK;
}

static aq_status nodes(printer *p, const aq_body *b);

/* Inside a region the params are called what the values given to it are called. */
static aq_status call_params(printer *p, const aq_node *n, const aq_body *r) {
    p->taken = (aq_names){0};
    for (uint32_t i = 0; i < r->params.n && i < n->n_in; i++) {
        aq_id in = aq_node_in(p->m, n)[i], to = r->params.at[i];
        const aq_value *x = &p->m->values.at[in];
        p->text[to] = p->text[in];
        p->version[to] = p->version[in];
        if (x->kind == AQ_VALUE_WEIGHT || x->kind == AQ_VALUE_STATE) {
            AQ_TRY(aq_arena_format(p->out->arena, &p->text[to], "%s%s", x->kind == AQ_VALUE_STATE ? "$" : "@", x->name));
        } else if (x->kind == AQ_VALUE_RESULT && is_field_of_param(p, &p->m->nodes.at[x->node])) {
            const aq_node *f = &p->m->nodes.at[x->node];
            AQ_TRY(aq_arena_format(p->out->arena, &p->text[to], "%s.%s", p->text[aq_node_in(p->m, f)[0]], aq_node_attr(p->m, f, AQ_ATTR_name)->text));
        }
        AQ_TRY(aq_names_put(&p->taken, p->out->arena, p->text[to], strlen(p->text[to]), 1));
        if (x->type.is_batch)
            AQ_TRY(take_fields(p, to));
    }
    return AQ_OK;
}

/* What follows the op word of a fused node, from its kernel's name on. */
static aq_status region(printer *p, const aq_node *n) {
    const aq_body *r = &p->m->bodies.at[n->body];
    if (r->name)
        AQ_TRY(aq_text_add(p->out, " %s", r->name));
    AQ_TRY(aq_text_add(p->out, "("));
    AQ_TRY(values(p, aq_node_in(p->m, n), n->n_in));
    AQ_TRY(aq_text_add(p->out, ") {"));
    aq_names taken = p->taken;
    AQ_TRY(call_params(p, n, r));
    /* Versions made inside start from those that came in. */
    uint32_t outside[UINT8_MAX];
    for (uint32_t i = 0; i < r->params.n; i++) {
        aq_id state = p->m->values.at[r->params.at[i]].state;
        outside[i] = state ? p->newest[state - 1] : 0;
        if (state)
            p->newest[state - 1] = p->version[r->params.at[i]];
    }
    int32_t layer = p->layer;
    p->layer = -1;
    p->depth++;
    AQ_TRY(nodes(p, r));
    AQ_TRY(line(p));
    AQ_TRY(aq_text_add(p->out, "yield "));
    AQ_TRY(values(p, r->results.at, r->results.n));
    p->depth--;
    p->layer = layer;
    for (uint32_t i = r->params.n; i-- > 0;)
        if (p->m->values.at[r->params.at[i]].state)
            p->newest[p->m->values.at[r->params.at[i]].state - 1] = outside[i];
    p->taken = taken;
    AQ_TRY(line(p));
    AQ_TRY(aq_text_add(p->out, "}"));
    if (r->schedule) {
        AQ_TRY(aq_text_add(p->out, " schedule %s {", r->schedule->target));
        AQ_TRY(aq_print_schedule(r->schedule, p->out));
        AQ_TRY(aq_text_add(p->out, "}"));
    }
    return r->by_nest ? aq_text_add(p->out, " by nest @%s", r->by_nest) : AQ_OK;
}

static aq_status node(printer *p, const aq_node *n) {
    AQ_TRY(line(p));
    for (int i = 0; i < n->n_out; i++) {
        AQ_TRY(call_value(p, n->out + (aq_id)i));
        AQ_TRY(aq_text_add(p->out, "%s%s", i ? ", " : "", p->text[n->out + (aq_id)i]));
    }
    AQ_TRY(aq_text_add(p->out, "%s%s", n->n_out ? " = " : "", aq_op_of(n->op)->name));
    if (n->op == AQ_OP_fused)
        return region(p, n);
    AQ_TRY(aq_text_add(p->out, " "));
    AQ_TRY(values(p, aq_node_in(p->m, n), n->n_in));
    return attrs(p, n);
}

static aq_status to_layer(printer *p, int32_t layer) {
    if (layer == p->layer)
        return AQ_OK;
    if (p->layer >= 0) {
        p->depth--;
        AQ_TRY(line(p));
        AQ_TRY(aq_text_add(p->out, "}"));
    }
    if (layer >= 0) {
        AQ_TRY(line(p));
        AQ_TRY(aq_text_add(p->out, "layer %d {", layer));
        p->depth++;
    }
    p->layer = layer;
    return AQ_OK;
}

static aq_status nodes(printer *p, const aq_body *b) {
    for (uint32_t i = 0; i < b->nodes.n; i++) {
        const aq_node *n = &p->m->nodes.at[b->nodes.at[i]];
        if (is_field_of_param(p, n))
            continue; /* written %b.pos where it is used */
        if (!b->is_region)
            AQ_TRY(to_layer(p, n->layer));
        AQ_TRY(node(p, n));
    }
    return b->is_region ? AQ_OK : to_layer(p, -1);
}

/* --- bodies and modules -------------------------------------------------------------------------------------------------------------- */

static aq_status body(printer *p, aq_id id) {
    const aq_body *b = &p->m->bodies.at[id];
    AQ_ALLOC(p->out->arena, p->newest, p->m->states.n + 1);
    p->taken = (aq_names){0};
    p->unnamed = 0;
    p->layer = -1;
    AQ_TRY(aq_text_add(p->out, "%s %s(", b->is_region ? "region" : "graph", b->name ? b->name : "_"));
    for (uint32_t i = 0; i < b->params.n; i++) {
        AQ_TRY(call_value(p, b->params.at[i]));
        AQ_TRY(aq_text_add(p->out, "%s%s: ", i ? ", " : "", p->text[b->params.at[i]]));
        AQ_TRY(type(p, &p->m->values.at[b->params.at[i]].type));
        if (p->m->values.at[b->params.at[i]].type.is_batch)
            AQ_TRY(take_fields(p, b->params.at[i]));
    }
    AQ_TRY(aq_text_add(p->out, ")"));
    for (uint32_t i = 0; i < b->results.n; i++) {
        AQ_TRY(aq_text_add(p->out, i ? ", " : " -> "));
        AQ_TRY(type(p, &p->m->values.at[b->results.at[i]].type));
    }
    AQ_TRY(aq_text_add(p->out, " {"));
    p->depth++;
    AQ_TRY(nodes(p, b));
    if (b->results.n) {
        AQ_TRY(line(p));
        AQ_TRY(aq_text_add(p->out, b->is_region ? "yield " : "return "));
        AQ_TRY(values(p, b->results.at, b->results.n));
    }
    p->depth--;
    AQ_TRY(line(p));
    return aq_text_add(p->out, "}");
}

static aq_status open_printer(const aq_module *m, aq_text *out, printer *p) {
    *p = (printer){.m = m, .out = out, .layer = -1};
    AQ_ALLOC(out->arena, p->text, m->values.n);
    AQ_ALLOC(out->arena, p->version, m->values.n);
    return AQ_OK;
}

aq_status aq_print_body(const aq_module *m, aq_id id, aq_text *out) {
    printer p;
    AQ_TRY(open_printer(m, out, &p));
    AQ_TRY(body(&p, id));
    return aq_text_add(out, "\n");
}

static aq_status weight(printer *p, const aq_weight *w) {
    AQ_TRY(aq_text_add(p->out, "\n  weight @%s: ", w->name));
    AQ_TRY(type(p, &p->m->values.at[w->value].type));
    if (w->layout != AQ_LAYOUT_ROWS)
        AQ_TRY(aq_text_add(p->out, " %s", aq_layout_name(w->layout)));
    if (w->rotate_half)
        AQ_TRY(aq_text_add(p->out, " rotate_half %lld", (long long)w->head_dim));
    return w->alias ? aq_text_add(p->out, " alias @%s", w->alias) : AQ_OK;
}

static aq_status state(printer *p, const aq_state *s) {
    AQ_TRY(aq_text_add(p->out, "\n  state $%s: ", s->name));
    AQ_TRY(type(p, &p->m->values.at[s->value].type));
    return s->layout != AQ_LAYOUT_ROWS ? aq_text_add(p->out, " %s", aq_layout_name(s->layout)) : AQ_OK;
}

aq_status aq_print_module(const aq_module *m, aq_text *out) {
    printer p;
    AQ_TRY(open_printer(m, out, &p));
    AQ_TRY(aq_text_add(out, "model %s {", m->name && *m->name ? m->name : "_"));
    for (aq_id i = 1; i < m->syms.n; i++)
        AQ_TRY(aq_text_add(out, "\n  sym %s in %lld..%lld", m->syms.at[i].name, (long long)m->syms.at[i].lo, (long long)m->syms.at[i].hi));
    for (uint32_t i = 0; i < m->weights.n; i++)
        AQ_TRY(weight(&p, &m->weights.at[i]));
    for (uint32_t i = 0; i < m->states.n; i++)
        AQ_TRY(state(&p, &m->states.at[i]));
    p.depth = 1;
    for (uint32_t i = 0; i < m->graphs.n; i++) {
        AQ_TRY(aq_text_add(out, "\n"));
        AQ_TRY(line(&p));
        AQ_TRY(body(&p, m->graphs.at[i]));
    }
    for (uint32_t i = 0; i < m->nests.n; i++) {
        AQ_TRY(aq_text_add(out, "\n\n"));
        AQ_TRY(aq_print_nest(m->nests.at[i], out));
    }
    return aq_text_add(out, "\n}\n");
}
