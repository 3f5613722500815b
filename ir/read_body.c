/* read_body.c: statements of model text (calls and names: read_call.c).
 *
 *   graph NAME(%x: TYPE, ..) -> TYPE, .. {
 *     %y = OP operand, operand {attribute=value, flag}     # operand: %name @weight $state number (OP ..) %b.pos
 *     append $k, %x, %b                                    # makes the newest version of $k
 *     $k.3'1 = append $k.3, %x, %b                         # the same with versions numbered, as prints do
 *     repeat L { .. }                                      # the body once a layer: @wq is @wq.0, @wq.1, ..; names get the layer's number
 *     layer 3 { .. }                                       # tags the nodes, renames nothing: as prints do
 *     return %y, ..
 *   }
 * A name may be given again: it means the newest value from then on. */
#include "ir/read.h"

#include <stdio.h>
#include <string.h>

static int shown(aq_word w) { return (int)(w.n < 60 ? w.n : 60); }

/* --- statements ----------------------------------------------------------------------------------------------------------------------- */

typedef struct target {
    aq_word name, written; /* written: with the version */
    int64_t version;
    size_t at;
} target;

/* The name of a value for good: unique in its body; "x.3" in layer 3 of a `repeat`. Digits only: no name. */
static aq_status unique_name(aq_reader *r, aq_scope *scope, aq_word name, const char **out) {
    char text[200];
    size_t n = name.n - 1;
    int is_numbered = 1;
    for (size_t i = 0; i < n; i++)
        is_numbered &= name.at[1 + i] >= '0' && name.at[1 + i] <= '9';
    *out = NULL;
    int in_layer = r->layer >= 0 && !scope->is_region; /* regions of all layers look the same */
    if (is_numbered && !in_layer)
        return AQ_OK;
    if (in_layer)
        snprintf(text, sizeof text, "%.*s.%d", (int)n, name.at + 1, r->layer);
    else
        snprintf(text, sizeof text, "%.*s", (int)n, name.at + 1);
    const char *key = NULL, *base;
    AQ_TRY(aq_arena_string(&r->m->arena, text, strlen(text), &base));
    uint32_t next = aq_names_find(&scope->taken, base, strlen(base));
    for (uint32_t i = next; next && (!key || aq_names_find(&scope->taken, key, strlen(key))); i++) {
        AQ_TRY(aq_arena_format(&r->m->arena, &key, "%s.%u", base, i));
        AQ_TRY(aq_names_put(&scope->taken, &r->m->arena, base, strlen(base), i + 1));
    }
    *out = key ? key : base;
    return aq_names_put(&scope->taken, &r->m->arena, *out, strlen(*out), 2);
}

static aq_status bind_result(aq_reader *r, aq_scope *scope, const target *t, aq_id v) {
    aq_value *x = &r->m->values.at[v];
    if (!x->state != (*t->name.at == '%'))
        return aq_read_fail_at(r, t->at, "%.*s names %s: expected %s", shown(t->name), t->name.at, x->state ? "a state" : "a value",
                               x->state ? "$name" : "%name");
    if (!x->state) {
        const char *name;
        AQ_TRY(unique_name(r, scope, t->name, &name));
        r->m->values.at[v].name = name;
        return aq_names_put(&scope->value, &r->m->arena, t->name.at, t->name.n, v);
    }
    const aq_state *s = &r->m->states.at[x->state - 1];
    uint32_t row = aq_read_row(r, t->name);
    if (row != x->state)
        return aq_read_fail_at(r, t->at, "%.*s names a version of $%s: expected the same state", shown(t->name), t->name.at, s->name);
    if (t->version == 0)
        return aq_read_fail_at(r, t->at, "version 0 is the state before the graph: expected 1 or more");
    if (t->version > 0) {
        AQ_TRY(aq_names_put(&scope->marked, &r->m->arena, s->name, strlen(s->name), 1));
        AQ_TRY(aq_names_put(&scope->value, &r->m->arena, t->written.at, t->written.n, v));
    }
    return aq_names_put(&scope->newest, &r->m->arena, s->name, strlen(s->name), v);
}

/* A node whose results have no names: only appends, which make the newest version of their state. */
static aq_status unnamed(aq_reader *r, aq_scope *scope, size_t at, aq_id node) {
    const aq_node *n = &r->m->nodes.at[node];
    for (int i = 0; i < n->n_out; i++) {
        aq_id v = n->out + (aq_id)i, state = r->m->values.at[v].state;
        if (!state)
            return aq_read_fail_at(r, at, "the result of %s has no name: expected %%NAME = %s ..", aq_op_of(n->op)->name, aq_op_of(n->op)->name);
        AQ_TRY(aq_names_put(&scope->newest, &r->m->arena, r->m->states.at[state - 1].name, strlen(r->m->states.at[state - 1].name), v));
    }
    return AQ_OK;
}

static aq_status assignment(aq_reader *r, aq_scope *scope) {
    target t[AQ_TEXT_INPUTS];
    int n = 0;
    aq_id node;
    do {
        if (n == AQ_TEXT_INPUTS)
            return aq_read_fail(r, "too many results: expected at most %d", AQ_TEXT_INPUTS);
        (void)aq_scan_more(&r->s);
        t[n].at = r->s.at;
        t[n].name = aq_scan_name(&r->s);
        t[n].version = -1;
        if (!t[n].name.n || *t[n].name.at == '@' || t[n].name.n > 120)
            return aq_read_fail_at(r, t[n].at, "no name of a result: expected %%name or $state, at most 120 characters");
        if (*t[n].name.at == '$')
            AQ_TRY(aq_read_version(r, &t[n].version));
        t[n].written = (aq_word){t[n].name.at, (size_t)(r->s.text + r->s.at - t[n].name.at)};
        n++;
    } while (aq_scan_take(&r->s, ","));
    AQ_TRY(aq_read_expect(r, "=", "after the results"));
    AQ_TRY(aq_read_call(r, scope, 0, &node));
    if (r->m->nodes.at[node].n_out != n)
        return aq_read_fail_at(r, t[0].at, "%d names for %d results: expected one each", n, r->m->nodes.at[node].n_out);
    for (int i = 0; i < n; i++)
        AQ_TRY(bind_result(r, scope, &t[i], r->m->nodes.at[node].out + (aq_id)i));
    return AQ_OK;
}

static aq_status results(aq_reader *r, aq_scope *scope) {
    do {
        aq_id v, node;
        (void)aq_scan_more(&r->s);
        size_t at = r->s.at;
        aq_scan before = r->s;
        aq_word w = aq_scan_word(&r->s);
        r->s = before;
        if (w.n && aq_op_by_name(w.at, w.n)) {
            AQ_TRY(aq_read_call(r, scope, 0, &node));
            if (r->m->nodes.at[node].n_out != 1)
                return aq_read_fail_at(r, at, "%d results inside an expression: expected one", r->m->nodes.at[node].n_out);
            v = r->m->nodes.at[node].out;
        } else {
            AQ_TRY(aq_read_operand(r, scope, 0, &v));
        }
        aq_body *b = &r->m->bodies.at[scope->body];
        if (b->results.n == AQ_TEXT_INPUTS)
            return aq_read_fail_at(r, at, "too many results: expected at most %d", AQ_TEXT_INPUTS);
        AQ_PUSH(&r->m->arena, &b->results, v);
    } while (aq_scan_take(&r->s, ","));
    return aq_read_expect(r, "}", "after the results");
}

/* `repeat L {` reads the body's text once a layer. */
static aq_status repeat(aq_reader *r, aq_scope *scope, int depth) {
    int64_t layers;
    size_t at = r->s.at;
    if (scope->is_region || r->m->at.layer >= 0)
        return aq_read_fail_at(r, at, "repeat stands inside a layer or a region: expected it at the top of a graph");
    AQ_TRY(aq_read_whole(r, 1, AQ_TEXT_LAYERS, "number of layers", &layers));
    AQ_TRY(aq_read_expect(r, "{", "before the body of repeat"));
    aq_scan body = r->s;
    for (int32_t i = 0; i < layers; i++) {
        r->s = body;
        r->layer = r->m->at.layer = i;
        AQ_TRY(aq_read_statements(r, scope, depth + 1));
        r->unrolled += r->s.at - body.at;
        if (r->unrolled > AQ_TEXT_UNROLLED)
            return aq_read_fail_at(r, at, "repeat makes too much text: expected at most %d bytes", AQ_TEXT_UNROLLED);
    }
    r->layer = r->m->at.layer = -1;
    return AQ_OK;
}

static aq_status tagged(aq_reader *r, aq_scope *scope, int depth) {
    int64_t layer;
    if (scope->is_region || r->m->at.layer >= 0)
        return aq_read_fail(r, "layer stands inside a layer or a region: expected it at the top of a graph");
    AQ_TRY(aq_read_whole(r, 0, AQ_TEXT_LAYERS, "layer", &layer));
    AQ_TRY(aq_read_expect(r, "{", "before the body of a layer"));
    r->m->at.layer = (int32_t)layer;
    AQ_TRY(aq_read_statements(r, scope, depth + 1));
    r->m->at.layer = -1;
    return AQ_OK;
}

aq_status aq_read_statements(aq_reader *r, aq_scope *scope, int depth) {
    while (!aq_scan_take(&r->s, "}")) {
        if (!aq_scan_more(&r->s))
            return aq_read_fail(r, "the text ends inside a body: expected '}'");
        size_t at = r->s.at;
        char c = r->s.text[at];
        aq_id node;
        if (c == '%' || c == '$' || c == '@')
            AQ_TRY(assignment(r, scope));
        else if (aq_scan_keyword(&r->s, scope->is_region ? "yield" : "return"))
            return depth ? aq_read_fail_at(r, at, "results inside a layer: expected them at the end of the body") : results(r, scope);
        else if (aq_scan_keyword(&r->s, "repeat"))
            AQ_TRY(repeat(r, scope, depth));
        else if (aq_scan_keyword(&r->s, "layer"))
            AQ_TRY(tagged(r, scope, depth));
        else {
            AQ_TRY(aq_read_call(r, scope, 0, &node));
            AQ_TRY(unnamed(r, scope, at, node));
        }
    }
    return AQ_OK;
}
