/* read_expr.c: expressions of nest texts, and the names they may use. Called by read_nest.c only. */
#include "ir/read_nest.h"

#include <string.h>

aq_id aq_nest_find_axis(const aq_nest *n, aq_word w) {
    for (aq_id i = 1; w.n && i < n->axes.n; i++)
        if (aq_word_is(w, n->axes.at[i].name))
            return i;
    return 0;
}

aq_id aq_nest_find_buf(const aq_nest *n, aq_word w) {
    for (aq_id i = 1; i < n->bufs.n; i++)
        if (aq_word_is(w, n->bufs.at[i].name))
            return i;
    return 0;
}

aq_id aq_nest_find_tile(const aq_nest *n, aq_word name) {
    aq_word w = {name.at + 1, name.n - 1};
    for (aq_id i = n->tiles.n; i-- > 1;)
        if (aq_word_is(w, n->tiles.at[i].name))
            return i;
    return 0;
}

aq_status aq_nest_read_axis(aq_nest_reader *r, aq_id *out) {
    aq_scan before = r->s;
    aq_word w = aq_scan_word(&r->s);
    if ((*out = aq_nest_find_axis(r->n, w)))
        return AQ_OK;
    r->s = before;
    return aq_scan_fail(&r->s, "'%.*s' is no axis of the nest: expected one that an axis line declares", AQ_SHOW(w));
}

static aq_status add(aq_nest_reader *r, aq_expr e, aq_id *out) {
    if (r->n->exprs.n >= AQ_NEST_TEXT_MAX)
        return aq_scan_fail(&r->s, "too many expressions: expected fewer than %d", AQ_NEST_TEXT_MAX);
    AQ_PUSH(r->arena, &r->n->exprs, e);
    *out = r->n->exprs.n - 1;
    return AQ_OK;
}

/* Expressions up to `close`; at most `room`. */
aq_status aq_nest_read_list(aq_nest_reader *r, int depth, const char *close, int room, aq_id *ids, uint8_t *count) {
    int n = 0;
    if (aq_scan_take(&r->s, close)) {
        *count = 0;
        return AQ_OK;
    }
    do {
        if (n == room)
            return aq_scan_fail(&r->s, "too many operands: expected at most %d", room);
        AQ_TRY(aq_nest_read_expr(r, depth + 1, &ids[n++]));
    } while (aq_scan_take(&r->s, ","));
    *count = (uint8_t)n;
    return aq_scan_expect(&r->s, close, "after the operands");
}

static aq_status text_value(aq_nest_reader *r, aq_attr *a) {
    aq_scan *s = &r->s;
    AQ_TRY(aq_scan_expect(s, "\"", "before a text"));
    const char *start = s->text + s->at, *end = memchr(start, '"', s->n - s->at);
    if (!end || end - start > 60)
        return aq_scan_fail(s, "text without an end: expected '\"' within 60 characters");
    s->at += (size_t)(end - start) + 1;
    return aq_arena_string(r->arena, start, (size_t)(end - start), &a->text);
}

static aq_status attribute_value(aq_nest_reader *r, aq_attr *a) {
    aq_word w;
    int whole;
    AQ_TRY(aq_scan_expect(&r->s, "=", "after the attribute's name"));
    switch (aq_attr_kind_of(a->key)) {
    case AQ_ATTR_KIND_NUM:
        return aq_scan_number(&r->s, &a->num, &whole) ? AQ_OK
                                                      : aq_scan_fail(&r->s, "no value of %s: expected a number", aq_attr_name(a->key));
    case AQ_ATTR_KIND_DTYPE:
        w = aq_scan_word(&r->s);
        a->num = aq_dtype_by_name(w.at, w.n);
        return a->num != 0 ? AQ_OK : aq_scan_fail(&r->s, "'%.*s' is no element type: expected one of dtype.def", AQ_SHOW(w));
    case AQ_ATTR_KIND_TEXT:
        return text_value(r, a);
    case AQ_ATTR_KIND_DIMS:
        AQ_TRY(aq_scan_expect(&r->s, "[", "before the dims"));
        do {
            if (a->n_dims == AQ_MAX_RANK)
                return aq_scan_fail(&r->s, "too many dims: expected at most %d", AQ_MAX_RANK);
            AQ_TRY(aq_scan_dim(&r->s, r->n->module, &a->dim[a->n_dims++]));
        } while (aq_scan_take(&r->s, ","));
        return aq_scan_expect(&r->s, "]", "after the dims");
    default:
        return AQ_OK;
    }
}

static aq_status attributes(aq_nest_reader *r, aq_expr *e) {
    if (!aq_scan_take(&r->s, "{"))
        return AQ_OK;
    e->attr = r->n->attrs.n;
    do {
        aq_word w = aq_scan_word(&r->s);
        aq_attr a = {.key = w.n ? aq_attr_by_name(w.at, w.n) : AQ_ATTR_NONE, .num = 1};
        if (!a.key)
            return aq_scan_fail(&r->s, "'%.*s' is no attribute: expected one of attrs.def", AQ_SHOW(w));
        if (aq_attr_kind_of(a.key) != AQ_ATTR_KIND_FLAG)
            AQ_TRY(attribute_value(r, &a));
        AQ_PUSH(r->arena, &r->n->attrs, a);
        if (++e->n_attr == AQ_ATTR_COUNT)
            return aq_scan_fail(&r->s, "too many attributes: expected each once");
    } while (aq_scan_take(&r->s, ","));
    return aq_scan_expect(&r->s, "}", "after the attributes");
}

static aq_status operation(aq_nest_reader *r, aq_word w, int depth, aq_id *out) {
    aq_expr e = {.kind = AQ_EXPR_OP, .op = aq_op_by_name(w.at, w.n)};
    if (!e.op)
        return aq_scan_fail(&r->s, "'%.*s' is no op: expected one of ops.def", AQ_SHOW(w));
    AQ_TRY(aq_nest_read_list(r, depth, ")", AQ_MAX_IN, e.in, &e.n_in));
    AQ_TRY(attributes(r, &e));
    return add(r, e, out);
}

static aq_status part(aq_nest_reader *r, aq_id *out) {
    int64_t k;
    aq_word w = aq_scan_name(&r->s);
    aq_expr e = {.kind = AQ_EXPR_PART, .tile = w.n ? aq_nest_find_tile(r->n, w) : 0};
    if (!e.tile)
        return aq_scan_fail(&r->s, "'%.*s' is no accumulator declared so far: expected part(%%NAME, NUMBER)", AQ_SHOW(w));
    AQ_TRY(aq_scan_expect(&r->s, ",", "after the accumulator"));
    AQ_TRY(aq_scan_whole(&r->s, 0, 2, "part", &k));
    e.part = (uint8_t)k;
    AQ_TRY(aq_scan_expect(&r->s, ")", "after the part"));
    return add(r, e, out);
}

static aq_status named(aq_nest_reader *r, aq_word w, int depth, aq_id *out) {
    if (aq_scan_take(&r->s, "[")) {
        aq_expr load = {.kind = AQ_EXPR_LOAD, .buf = aq_nest_find_buf(r->n, w)};
        if (!load.buf)
            return aq_scan_fail(&r->s, "%.*s is no buffer of the nest: expected one of its header", AQ_SHOW(w));
        AQ_TRY(aq_nest_read_list(r, depth, "]", AQ_MAX_RANK, load.in, &load.n_in));
        return add(r, load, out);
    }
    aq_expr tile = {.kind = AQ_EXPR_TILE, .tile = aq_nest_find_tile(r->n, w)};
    if (!tile.tile)
        return aq_scan_fail(&r->s, "%.*s is not declared: expected a let or acc above, or [..] after a buffer", AQ_SHOW(w));
    return add(r, tile, out);
}

aq_status aq_nest_read_expr(aq_nest_reader *r, int depth, aq_id *out) {
    aq_expr e = {0};
    int whole;
    if (depth > AQ_NEST_TEXT_DEPTH)
        return aq_scan_fail(&r->s, "expression too deep: expected at most %d levels", AQ_NEST_TEXT_DEPTH);
    aq_scan before = r->s;
    aq_word w = aq_scan_name(&r->s);
    if (w.n)
        return named(r, w, depth, out);
    if (aq_scan_number(&r->s, &e.number, &whole)) {
        e.kind = AQ_EXPR_CONST;
        if (!whole || e.number < 0 || !aq_scan_take(&r->s, "*"))
            return add(r, e, out);
        r->s = before;
        e = (aq_expr){.kind = AQ_EXPR_DIM};
        AQ_TRY(aq_scan_dim(&r->s, r->n->module, &e.dim));
        return add(r, e, out);
    }
    w = aq_scan_word(&r->s);
    if (!w.n)
        return aq_scan_fail(&r->s, "no expression: expected a number, an axis, a dim, %%tile, BUFFER[..] or op(..)");
    if (aq_scan_take(&r->s, "("))
        return aq_word_is(w, "part") ? part(r, out) : operation(r, w, depth, out);
    if ((e.axis = aq_nest_find_axis(r->n, w)))
        e.kind = AQ_EXPR_AXIS;
    else {
        r->s = before;
        e.kind = AQ_EXPR_DIM;
        AQ_TRY(aq_scan_dim(&r->s, r->n->module, &e.dim));
    }
    return add(r, e, out);
}
