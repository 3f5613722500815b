/* read_region.c: heads of graphs, and regions:
 *   %q, $k.0'1 = fused NAME(%x, @g, $k.0, %b) { %n = ..  yield %q, $k.0'1 } schedule TARGET { .. } by nest @mine
 * A region is closed: inside it, names mean the values given to it, by the names they have outside, or values made in it. */
#include "ir/nest.h"
#include "ir/read.h"

#include <string.h>

static int shown(aq_word w) { return (int)(w.n < 60 ? w.n : 60); }

/* A region may be given several versions of a state: then the state's plain name means the one that was given by it, if one was. */
static aq_status state_param(aq_reader *r, aq_scope *scope, aq_word written, const char *state, aq_id id) {
    aq_arena *a = &r->m->arena;
    size_t n = strlen(state), plain = 0;
    while (plain < written.n && written.at[plain] != '\'')
        plain++;
    int is_zero = 1, is_second = aq_names_find(&scope->newest, state, n) != 0;
    for (size_t i = plain + 1; i < written.n; i++)
        is_zero &= written.at[i] == '0';
    if (is_second && (is_zero || aq_names_find(&scope->value, written.at, plain)))
        AQ_TRY(aq_names_put(&scope->marked, a, state, n, 1));
    AQ_TRY(aq_names_put(&scope->newest, a, state, n, id));
    return is_zero || !aq_names_find(&scope->marked, state, n) ? aq_names_put(&scope->zero, a, state, n, id) : AQ_OK;
}

static aq_status add_param(aq_reader *r, aq_scope *scope, aq_word written, aq_value v) {
    aq_id id;
    v.kind = AQ_VALUE_PARAM;
    AQ_TRY(aq_value_add(r->m, v, &id));
    AQ_TRY(aq_names_put(&scope->value, &r->m->arena, written.at, written.n, id));
    if (v.state)
        AQ_TRY(state_param(r, scope, written, r->m->states.at[v.state - 1].name, id));
    AQ_PUSH(&r->m->arena, &r->m->bodies.at[scope->body].params, id);
    return AQ_OK;
}

/* --- graphs -------------------------------------------------------------------------------------------------------------------------- */

static aq_status param(aq_reader *r, aq_scope *scope) {
    (void)aq_scan_more(&r->s);
    size_t at = r->s.at;
    aq_word name = aq_scan_name(&r->s);
    aq_value v = {0};
    if (!name.n || *name.at != '%' || name.n > 120)
        return aq_read_fail_at(r, at, "no name of an input: expected %%NAME: TYPE");
    AQ_TRY(aq_read_expect(r, ":", "after the input's name"));
    AQ_TRY(aq_read_type(r, &v.type));
    if (aq_names_find(&scope->value, name.at, name.n))
        return aq_read_fail_at(r, at, "%.*s stands there twice: expected another name", shown(name), name.at);
    if (r->m->bodies.at[scope->body].params.n == AQ_TEXT_INPUTS)
        return aq_read_fail_at(r, at, "too many inputs: expected at most %d", AQ_TEXT_INPUTS);
    int numbered = 1;
    for (size_t i = 1; i < name.n; i++)
        numbered &= name.at[i] >= '0' && name.at[i] <= '9';
    if (!numbered) {
        AQ_TRY(aq_arena_string(&r->m->arena, name.at + 1, name.n - 1, &v.name));
        AQ_TRY(aq_names_put(&scope->taken, &r->m->arena, v.name, name.n - 1, 2));
    }
    return add_param(r, scope, name, v);
}

static aq_status check_results(aq_reader *r, aq_id body, const size_t *at, const aq_type *want, uint32_t n) {
    const aq_body *b = &r->m->bodies.at[body];
    char a[AQ_DESCRIBE], t[AQ_DESCRIBE];
    if (b->results.n != n)
        return aq_read_fail_at(r, at[0], "%u types for %u results: expected one each", n, b->results.n);
    for (uint32_t i = 0; i < n; i++)
        if (!aq_type_same(&want[i], &r->m->values.at[b->results.at[i]].type))
            return aq_read_fail_at(r, at[i], "result %u: %s: expected %s", i, aq_describe_value(r->m, b->results.at[i], a, sizeof a),
                                   aq_describe_type(r->m, &want[i], t, sizeof t));
    return AQ_OK;
}

aq_status aq_read_graph(aq_reader *r) {
    aq_scope scope = {0};
    aq_type want[AQ_TEXT_INPUTS];
    size_t at[AQ_TEXT_INPUTS] = {r->s.at};
    uint32_t n = 0;
    const char *name;
    aq_word w = aq_scan_word(&r->s);
    if (!w.n || w.n > 120)
        return aq_read_fail(r, "no name: expected graph NAME(%%x: TYPE, ..) -> TYPE {");
    AQ_TRY(aq_read_copy(r, w, &name));
    if (aq_graph_find(r->m, name) || r->m->graphs.n >= 64)
        return aq_read_fail_at(r, at[0], "graph %.60s stands there twice or is one too many: expected another name, at most 64 graphs", name);
    AQ_TRY(aq_body_add(r->m, name, 0, &scope.body));
    AQ_TRY(aq_read_expect(r, "(", "after the graph's name"));
    if (!aq_scan_take(&r->s, ")")) {
        do
            AQ_TRY(param(r, &scope));
        while (aq_scan_take(&r->s, ","));
        AQ_TRY(aq_read_expect(r, ")", "after the inputs"));
    }
    if (aq_scan_take(&r->s, "->")) {
        do {
            (void)aq_scan_more(&r->s);
            if (n == AQ_TEXT_INPUTS)
                return aq_read_fail(r, "too many results: expected at most %d", AQ_TEXT_INPUTS);
            at[n] = r->s.at;
            AQ_TRY(aq_read_type(r, &want[n++]));
        } while (aq_scan_take(&r->s, ","));
    }
    AQ_TRY(aq_read_expect(r, "{", "before the graph's body"));
    AQ_TRY(aq_read_statements(r, &scope, 0));
    return check_results(r, scope.body, at, want, n);
}

/* --- regions ------------------------------------------------------------------------------------------------------------------------- */

static aq_status schedule_text(aq_reader *r, void *user, const char *text, size_t n) { return aq_read_schedule(&r->m->arena, r->s.file, text, n, user); }

static aq_status how(aq_reader *r, aq_id region) {
    if (aq_scan_keyword(&r->s, "schedule")) {
        struct aq_schedule *s;
        const char *target;
        aq_word w = aq_scan_word(&r->s);
        if (!w.n)
            return aq_read_fail(r, "no target: expected schedule TARGET { .. }");
        AQ_TRY(aq_read_copy(r, w, &target));
        if (!aq_scan_more(&r->s) || r->s.text[r->s.at] != '{')
            return aq_read_fail(r, "no '{' before the schedule: expected it here");
        AQ_TRY(aq_read_inner(r, r->s.at, 0, schedule_text, &s));
        s->target = target;
        r->m->bodies.at[region].schedule = s;
    }
    aq_scan before = r->s;
    if (aq_scan_keyword(&r->s, "by")) {
        aq_word name;
        if (!aq_scan_keyword(&r->s, "nest") || !(name = aq_scan_name(&r->s)).n || *name.at != '@') {
            r->s = before;
            return aq_read_fail(r, "no nest: expected by nest @NAME");
        }
        AQ_TRY(aq_arena_string(&r->m->arena, name.at + 1, name.n - 1, &r->m->bodies.at[region].by_nest));
    }
    return AQ_OK;
}

/* The values given to the region; its params are called what they are called. */
static aq_status inputs(aq_reader *r, aq_scope *outer, aq_scope *scope, aq_id *in, int *n_in) {
    *n_in = 0;
    AQ_TRY(aq_read_expect(r, "(", "before the values given to the region"));
    if (aq_scan_take(&r->s, ")"))
        return AQ_OK;
    do {
        (void)aq_scan_more(&r->s);
        size_t at = r->s.at;
        aq_id v;
        if (*n_in == AQ_TEXT_INPUTS)
            return aq_read_fail(r, "too many values given to a region: expected at most %d", AQ_TEXT_INPUTS);
        AQ_TRY(aq_read_name_value(r, outer, &v));
        aq_word written = {r->s.text + at, r->s.at - at};
        if (aq_names_find(&scope->value, written.at, written.n))
            return aq_read_fail_at(r, at, "%.*s is given twice: expected it once", shown(written), written.at);
        const aq_value *x = &r->m->values.at[v];
        AQ_TRY(add_param(r, scope, written, (aq_value){.type = x->type, .name = x->name, .state = x->state, .origin = x->origin}));
        in[(*n_in)++] = v;
    } while (aq_scan_take(&r->s, ","));
    return aq_read_expect(r, ")", "after the values given to the region");
}

aq_status aq_read_fused(aq_reader *r, aq_scope *outer, size_t at, aq_id *out_node) {
    aq_scope scope = {.is_region = 1};
    aq_id in[AQ_TEXT_INPUTS];
    int n_in;
    const char *name = NULL;
    if (outer->is_region)
        return aq_read_fail_at(r, at, "a region inside a region: expected ordinary ops");
    aq_word w = aq_scan_word(&r->s);
    if (w.n)
        AQ_TRY(aq_read_copy(r, w, &name));
    AQ_TRY(aq_body_add(r->m, name, 1, &scope.body));
    AQ_TRY(inputs(r, outer, &scope, in, &n_in));
    AQ_TRY(aq_read_expect(r, "{", "before the region's body"));
    int32_t layer = r->layer, tag = r->m->at.layer;
    r->m->at.layer = -1;
    AQ_TRY(aq_read_statements(r, &scope, 0));
    r->layer = layer, r->m->at.layer = tag;
    AQ_TRY(how(r, scope.body));
    aq_read_place(r, at);
    aq_status status = aq_region_add(r->m, outer->body, scope.body, in, n_in, out_node);
    return status == AQ_OK ? AQ_OK : aq_read_caret(r, at, status);
}
