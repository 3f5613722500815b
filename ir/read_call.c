/* read_call.c: names and calls of model text: `OP operand, operand {attribute=value, flag}` with %name @weight $state number (OP ..) %b.pos as
 * operands. What a name means depends on the scope: see aq_scope. */
#include "ir/read.h"

#include <string.h>

static int shown(aq_word w) { return (int)(w.n < 60 ? w.n : 60); }

/* --- names -------------------------------------------------------------------------------------------------------------------------- */

/* %b.pos where %b is a batch: one node a body, however often it is written. */
static aq_status field(aq_reader *r, aq_scope *scope, aq_word name, size_t at, aq_id *out) {
    size_t dot = name.n;
    while (dot && name.at[dot - 1] != '.')
        dot--;
    aq_id batch = dot > 2 ? aq_names_find(&scope->value, name.at, dot - 1) : 0, node;
    *out = 0;
    if (!batch || !r->m->values.at[batch].type.is_batch)
        return AQ_OK;
    aq_attr a = {.key = AQ_ATTR_name};
    AQ_TRY(aq_arena_string(&r->m->arena, name.at + dot, name.n - dot, &a.text));
    aq_read_place(r, at);
    int32_t layer = r->m->at.layer;
    r->m->at.layer = -1;
    aq_status status = aq_node_add(r->m, scope->body, AQ_OP_field, &batch, 1, &a, 1, &node);
    r->m->at.layer = layer;
    if (status != AQ_OK)
        return aq_read_caret(r, at, status);
    *out = r->m->nodes.at[node].out;
    return aq_names_put(&scope->value, &r->m->arena, name.at, name.n, *out);
}

/* Digits behind a ' that follows a state's name at once; -1 if there is none. */
aq_status aq_read_version(aq_reader *r, int64_t *out) {
    *out = -1;
    if (r->s.at >= r->s.n || r->s.text[r->s.at] != '\'')
        return AQ_OK;
    r->s.at++;
    *out = 0;
    size_t digits = 0;
    for (; digits < 10 && r->s.at < r->s.n && r->s.text[r->s.at] >= '0' && r->s.text[r->s.at] <= '9'; digits++, r->s.at++)
        *out = *out * 10 + (r->s.text[r->s.at] - '0');
    return digits && digits < 10 ? AQ_OK : aq_read_fail(r, "no version: expected digits behind '");
}

static aq_status state_value(aq_reader *r, aq_scope *scope, aq_word name, size_t at, int64_t v, aq_id *out) {
    uint32_t row = aq_read_row(r, name);
    if (!row)
        return aq_read_fail_at(r, at, "%.*s is no state: expected one declared above%s", shown(name), name.at,
                               aq_names_find(&r->bases, name.at, name.n) ? ", and its layer outside of repeat" : "");
    const aq_state *s = &r->m->states.at[row - 1];
    size_t n = strlen(s->name);
    aq_word written = {name.at, (size_t)(r->s.text + r->s.at - name.at)};
    if (v > 0)
        *out = aq_names_find(&scope->value, written.at, written.n);
    else
        *out = aq_names_find(v == 0 || aq_names_find(&scope->marked, s->name, n) ? &scope->zero : &scope->newest, s->name, n);
    if (!*out && !scope->is_region && v <= 0)
        *out = s->value;
    if (!*out)
        return aq_read_fail_at(r, at, "%.*s is not known here: expected a version made above%s", shown(written), written.at,
                               scope->is_region ? " or given to the region" : "");
    return AQ_OK;
}

aq_status aq_read_name_value(aq_reader *r, aq_scope *scope, aq_id *out) {
    (void)aq_scan_more(&r->s);
    size_t at = r->s.at;
    aq_word name = aq_scan_name(&r->s);
    int64_t v;
    if (!name.n)
        return aq_read_fail(r, "no operand: expected %%name, @weight, $state, a number or (OP ..)");
    if (*name.at == '$') {
        AQ_TRY(aq_read_version(r, &v));
        return state_value(r, scope, name, at, v, out);
    }
    *out = aq_names_find(&scope->value, name.at, name.n);
    if (!*out && *name.at == '%')
        AQ_TRY(field(r, scope, name, at, out));
    if (*out)
        return AQ_OK;
    if (scope->is_region)
        return aq_read_fail_at(r, at, "%.*s is not known in this region: expected a value made in it or given to it", shown(name), name.at);
    uint32_t row = *name.at == '@' ? aq_read_row(r, name) : 0;
    if (!row)
        return aq_read_fail_at(r, at, "%.*s is not known: expected a %s%s", shown(name), name.at, *name.at == '@' ? "weight declared above" : "value made above",
                               aq_names_find(&r->bases, name.at, name.n) ? ", and its layer outside of repeat" : "");
    *out = r->m->weights.at[row - 1].value;
    return AQ_OK;
}

/* --- calls -------------------------------------------------------------------------------------------------------------------------- */

static aq_status attr_value(aq_reader *r, aq_attr *a) {
    aq_word w;
    switch (aq_attr_kind_of(a->key)) {
    case AQ_ATTR_KIND_FLAG: a->num = 1; return AQ_OK;
    case AQ_ATTR_KIND_NUM: return aq_read_number(r, &a->num);
    case AQ_ATTR_KIND_DTYPE:
        w = aq_scan_word(&r->s);
        a->num = w.n ? aq_dtype_by_name(w.at, w.n) : 0;
        return a->num > 0 ? AQ_OK : aq_read_fail(r, "'%.*s' is no element type: expected one of `show dtypes`", shown(w), w.at);
    case AQ_ATTR_KIND_TEXT:
        if (aq_scan_take(&r->s, "\"")) {
            size_t from = r->s.at;
            while (r->s.at < r->s.n && r->s.text[r->s.at] > 0x1f && r->s.text[r->s.at] != '"')
                r->s.at++;
            AQ_TRY(aq_arena_string(&r->m->arena, r->s.text + from, r->s.at - from, &a->text));
            return aq_read_expect(r, "\"", "after the text");
        }
        w = aq_scan_word(&r->s);
        return w.n ? aq_read_copy(r, w, &a->text) : aq_read_fail(r, "no text: expected a word or \"text\"");
    case AQ_ATTR_KIND_DIMS: break;
    }
    AQ_TRY(aq_read_expect(r, "[", "before the list"));
    do {
        double x;
        if (a->n_dims == AQ_MAX_RANK)
            return aq_read_fail(r, "too many numbers: expected at most %d", AQ_MAX_RANK);
        aq_dim *d = &a->dim[a->n_dims++];
        aq_scan before = r->s;
        if (a->key == AQ_ATTR_perm) { /* axes count from 0; sizes from 1 */
            AQ_TRY(aq_read_number(r, &x));
            *d = aq_dim_const(x >= 0 && x < AQ_MAX_RANK ? (int64_t)x : AQ_MAX_RANK);
        } else {
            r->s = before;
            AQ_TRY(aq_read_dim(r, d));
        }
    } while (aq_scan_take(&r->s, ","));
    return aq_read_expect(r, "]", "after the list");
}

static aq_status attrs(aq_reader *r, aq_attr *list, int *n) {
    *n = 0;
    if (!aq_scan_take(&r->s, "{"))
        return AQ_OK;
    do {
        aq_attr a = {0};
        (void)aq_scan_more(&r->s);
        size_t at = r->s.at;
        aq_word w = aq_scan_word(&r->s);
        a.key = w.n ? aq_attr_by_name(w.at, w.n) : AQ_ATTR_NONE;
        if (a.key == AQ_ATTR_NONE)
            return aq_read_fail_at(r, at, "'%.*s' is no attribute: expected one of `show ops`", shown(w), w.at);
        for (int i = 0; i < *n; i++)
            if (list[i].key == a.key)
                return aq_read_fail_at(r, at, "%s stands there twice: expected it once", aq_attr_name(a.key));
        if (aq_attr_kind_of(a.key) != AQ_ATTR_KIND_FLAG)
            AQ_TRY(aq_read_expect(r, "=", "after the attribute"));
        if (aq_attr_kind_of(a.key) == AQ_ATTR_KIND_NUM && aq_read_none(r))
            continue;
        AQ_TRY(attr_value(r, &a));
        list[(*n)++] = a;
    } while (aq_scan_take(&r->s, ","));
    return aq_read_expect(r, "}", "after the attributes");
}

aq_status aq_read_call(aq_reader *r, aq_scope *scope, int depth, aq_id *out_node) {
    (void)aq_scan_more(&r->s);
    size_t at = r->s.at;
    aq_word w = aq_scan_word(&r->s);
    aq_op op = w.n ? aq_op_by_name(w.at, w.n) : AQ_OP_NONE;
    if (op == AQ_OP_NONE)
        return aq_read_fail_at(r, at, "'%.*s' is no op: expected one of `show ops`", shown(w), w.at);
    if (r->m->nodes.n > AQ_TEXT_NODES)
        return aq_read_fail_at(r, at, "too many nodes: expected at most %d", AQ_TEXT_NODES);
    if (op == AQ_OP_fused)
        return aq_read_fused(r, scope, at, out_node);
    aq_id in[AQ_MAX_IN];
    aq_attr list[AQ_ATTR_COUNT];
    int arity = aq_op_of(op)->arity, n_attr;
    for (int i = 0; i < arity; i++) {
        if (i && !aq_scan_take(&r->s, ","))
            return aq_read_fail(r, "%s has %d operand%s: expected %d", aq_op_of(op)->name, i, i > 1 ? "s" : "", arity);
        AQ_TRY(aq_read_operand(r, scope, depth + 1, &in[i]));
    }
    AQ_TRY(attrs(r, list, &n_attr));
    aq_read_place(r, at);
    aq_status status = aq_node_add(r->m, scope->body, op, in, arity, list, n_attr, out_node);
    return status == AQ_OK ? AQ_OK : aq_read_caret(r, at, status);
}

aq_status aq_read_operand(aq_reader *r, aq_scope *scope, int depth, aq_id *out) {
    aq_id node;
    double x;
    if (depth > AQ_TEXT_DEPTH)
        return aq_read_fail(r, "parentheses too deep: expected at most %d levels", AQ_TEXT_DEPTH);
    if (aq_read_at_number(r)) {
        if (r->m->values.n > 4 * AQ_TEXT_NODES)
            return aq_read_fail(r, "too many numbers: expected at most %d", 4 * AQ_TEXT_NODES);
        AQ_TRY(aq_read_number(r, &x));
        return aq_const_add(r->m, x, out);
    }
    aq_scan before = r->s;
    if (!aq_scan_take(&r->s, "("))
        return aq_read_name_value(r, scope, out);
    if (aq_read_at_number(r)) { /* (1/D) */
        r->s = before;
        AQ_TRY(aq_read_number(r, &x));
        return aq_const_add(r->m, x, out);
    }
    aq_scan inner = r->s;
    if (aq_scan_take(&r->s, "(") || aq_scan_name(&r->s).n) { /* ((..)) or (%x) */
        r->s = inner;
        AQ_TRY(aq_read_operand(r, scope, depth + 1, out));
        return aq_read_expect(r, ")", "after the operand");
    }
    AQ_TRY(aq_read_call(r, scope, depth + 1, &node));
    if (r->m->nodes.at[node].n_out != 1)
        return aq_read_fail(r, "%d results inside an expression: expected one", r->m->nodes.at[node].n_out);
    *out = r->m->nodes.at[node].out;
    return aq_read_expect(r, ")", "after the operands");
}
