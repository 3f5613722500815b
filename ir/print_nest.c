/* print_nest.c: a nest as text that aq_read_nest takes back to the same nest: header, axes, then the tree by indentation.
 *
 * Expressions are printed as trees: one that is shared inside the nest is printed at every use, which is also what it means.
 * Every index is checked before it is followed, so a nest that aq_nest_check refused can still be shown to find out why. */
#include "ir/nest.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { MAX_DEPTH = 64 };

/* The shortest of the usual forms that reads back to the same double. */
static aq_status number(aq_text *t, double x) {
    char text[40];
    if (isnan(x))
        return aq_text_add(t, "nan");
    if (isinf(x))
        return aq_text_add(t, x < 0 ? "-inf" : "inf");
    for (int digits = 6; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, x);
        if (strtod(text, NULL) == x)
            break;
    }
    return aq_text_add(t, "%s", text);
}

static aq_status dim(aq_text *t, const aq_module *m, aq_dim d) {
    if (!d.sym)
        return aq_text_add(t, "%lld", (long long)d.k);
    const char *name = m && d.sym < m->syms.n ? m->syms.at[d.sym].name : "?";
    return d.k == 1 ? aq_text_add(t, "%s", name) : aq_text_add(t, "%lld*%s", (long long)d.k, name);
}

static aq_status attributes(aq_text *t, const aq_nest *n, const aq_expr *e) {
    for (uint32_t i = 0; i < e->n_attr; i++) {
        const aq_attr *a = &n->attrs.at[e->attr + i];
        AQ_TRY(aq_text_add(t, "%s%s", i ? ", " : " {", aq_attr_name(a->key)));
        switch (aq_attr_kind_of(a->key)) {
        case AQ_ATTR_KIND_FLAG:
            continue;
        case AQ_ATTR_KIND_NUM:
            AQ_TRY(aq_text_add(t, "="));
            AQ_TRY(number(t, a->num));
            break;
        case AQ_ATTR_KIND_DTYPE:
            AQ_TRY(aq_text_add(t, "=%s", aq_dtype_of((aq_dtype)a->num)->name));
            break;
        case AQ_ATTR_KIND_TEXT:
            AQ_TRY(aq_text_add(t, "=\"%s\"", a->text ? a->text : ""));
            break;
        case AQ_ATTR_KIND_DIMS:
            for (int d = 0; d < a->n_dims; d++) {
                AQ_TRY(aq_text_add(t, d ? ", " : "=["));
                AQ_TRY(dim(t, n->module, a->dim[d]));
            }
            AQ_TRY(aq_text_add(t, "]"));
        }
    }
    return e->n_attr ? aq_text_add(t, "}") : AQ_OK;
}

static aq_status tile_name(aq_text *t, const aq_nest *n, aq_id tile) {
    if (!tile || tile >= n->tiles.n)
        return aq_text_add(t, "%%?");
    const char *name = n->tiles.at[tile].name;
    return name ? aq_text_add(t, "%%%s", name) : aq_text_add(t, "%%%u", tile);
}

static const char *axis_name(const aq_nest *n, aq_id axis) {
    return axis && axis < n->axes.n ? n->axes.at[axis].name : "?";
}
static const char *buf_name(const aq_nest *n, aq_id buf) {
    return buf && buf < n->bufs.n ? n->bufs.at[buf].name : "%?";
}

static aq_status expr(aq_text *t, const aq_nest *n, aq_id id, int depth);

static aq_status list(aq_text *t, const aq_nest *n, const aq_id *ids, int count, int depth) {
    for (int i = 0; i < count; i++) {
        if (i)
            AQ_TRY(aq_text_add(t, ", "));
        AQ_TRY(expr(t, n, ids[i], depth));
    }
    return AQ_OK;
}

static aq_status expr(aq_text *t, const aq_nest *n, aq_id id, int depth) {
    if (!id || id >= n->exprs.n || depth > MAX_DEPTH)
        return aq_text_add(t, "?");
    const aq_expr *e = &n->exprs.at[id];
    switch (e->kind) {
    case AQ_EXPR_CONST:
        return number(t, e->number);
    case AQ_EXPR_AXIS:
        return aq_text_add(t, "%s", axis_name(n, e->axis));
    case AQ_EXPR_DIM:
        return dim(t, n->module, e->dim);
    case AQ_EXPR_TILE:
        return tile_name(t, n, e->tile);
    case AQ_EXPR_PART:
        AQ_TRY(aq_text_add(t, "part("));
        AQ_TRY(tile_name(t, n, e->tile));
        return aq_text_add(t, ", %d)", e->part);
    case AQ_EXPR_LOAD:
        AQ_TRY(aq_text_add(t, "%s[", buf_name(n, e->buf)));
        AQ_TRY(list(t, n, e->in, e->n_in, depth + 1));
        return aq_text_add(t, "]");
    case AQ_EXPR_OP:
        AQ_TRY(aq_text_add(t, "%s(", aq_op_of(e->op)->name));
        AQ_TRY(list(t, n, e->in, e->n_in, depth + 1));
        AQ_TRY(aq_text_add(t, ")"));
        return attributes(t, n, e);
    }
    return aq_text_add(t, "?");
}

static aq_status type(aq_text *t, const aq_module *m, const aq_type *type) {
    AQ_TRY(aq_text_add(t, "%s[", aq_dtype_of(type->dtype)->name));
    for (int i = 0; i < type->rank; i++) {
        if (i)
            AQ_TRY(aq_text_add(t, ", "));
        AQ_TRY(dim(t, m, type->dim[i]));
    }
    return aq_text_add(t, "]");
}

static aq_status header(aq_text *t, const aq_nest *n) {
    static const char *const role[] = {"?", "in", "out", "state", "scratch", "local"};
    AQ_TRY(aq_text_add(t, "nest %s(", n->name));
    for (aq_id i = 1; i < n->bufs.n; i++) {
        const aq_nest_buf *b = &n->bufs.at[i];
        AQ_TRY(aq_text_add(t, "%s\n  %s %s: ", i > 1 ? "," : "", role[b->role <= AQ_BUF_LOCAL ? b->role : 0], b->name));
        AQ_TRY(type(t, n->module, &b->type));
        if (b->layout != AQ_LAYOUT_ROWS)
            AQ_TRY(aq_text_add(t, " %s", aq_layout_name(b->layout)));
    }
    AQ_TRY(aq_text_add(t, "%s) {\n", n->bufs.n > 1 ? "\n" : ""));
    for (aq_id i = 1; i < n->axes.n; i++) {
        const aq_nest_axis *a = &n->axes.at[i];
        AQ_TRY(aq_text_add(t, "%s%s: ", i > 1 ? ", " : "  axis ", a->name));
        AQ_TRY(dim(t, n->module, a->extent));
        if (a->limit) {
            AQ_TRY(aq_text_add(t, " limit "));
            AQ_TRY(expr(t, n, a->limit, 0));
        }
    }
    return n->axes.n > 1 ? aq_text_add(t, "\n") : AQ_OK;
}

static aq_status acc(aq_text *t, const aq_nest *n, const aq_stmt *s) {
    AQ_TRY(aq_text_add(t, "acc "));
    AQ_TRY(tile_name(t, n, s->tile));
    if (!s->tile || s->tile >= n->tiles.n)
        return aq_text_add(t, "\n");
    const aq_tile *tile = &n->tiles.at[s->tile];
    AQ_TRY(aq_text_add(t, " %s [", tile->monoid < AQ_MONOID_COUNT ? aq_monoid_of(tile->monoid)->name : "?"));
    for (int i = 0; i < tile->n_axes && i < AQ_MAX_TILE_AXES; i++)
        AQ_TRY(aq_text_add(t, "%s%s", i ? ", " : "", axis_name(n, tile->axes[i])));
    return aq_text_add(t, "]\n");
}

static aq_status update(aq_text *t, const aq_nest *n, const aq_stmt *s) {
    AQ_TRY(tile_name(t, n, s->tile));
    aq_monoid monoid = s->tile && s->tile < n->tiles.n ? n->tiles.at[s->tile].monoid : AQ_MONOID_COUNT;
    AQ_TRY(aq_text_add(t, "%s %s ", s->merge ? " merge" : "", monoid < AQ_MONOID_COUNT ? aq_monoid_of(monoid)->text : "?="));
    AQ_TRY(list(t, n, s->expr, s->n_expr <= 3 ? s->n_expr : 3, 0));
    return aq_text_add(t, "\n");
}

static aq_status statements(aq_text *t, const aq_nest *n, aq_id first, int depth);

static aq_status marks(aq_text *t, const aq_nest *n, const aq_stmt *s) {
    const struct {
        const char *word;
        int number;
    } mark[] = {{"lanes", s->lanes}, {"vec", s->vec}, {"warps", s->warps}, {"mma", s->mma}, {"stages", s->stages}};
    for (size_t i = 0; i < sizeof mark / sizeof *mark; i++)
        if (mark[i].number)
            AQ_TRY(aq_text_add(t, " %s %d", mark[i].word, mark[i].number));
    for (int i = 0; i < s->n_ring && i < 4; i++)
        AQ_TRY(aq_text_add(t, "%s %s", i ? "," : "", buf_name(n, s->ring[i])));
    return AQ_OK;
}

static aq_status loop(aq_text *t, const aq_nest *n, const aq_stmt *s, int depth) {
    if (s->kind == AQ_STMT_PHASE)
        AQ_TRY(aq_text_add(t, "phase {\n"));
    else {
        AQ_TRY(aq_text_add(t, "%s %s", s->kind == AQ_STMT_TILES ? "tiles" : "for", axis_name(n, s->axis)));
        if (s->step)
            AQ_TRY(aq_text_add(t, " by %d", s->step));
        AQ_TRY(marks(t, n, s));
        AQ_TRY(aq_text_add(t, " {\n"));
    }
    AQ_TRY(statements(t, n, s->first_child, depth + 1));
    return aq_text_add(t, "%*s}\n", 2 * depth, "");
}

static aq_status statement(aq_text *t, const aq_nest *n, const aq_stmt *s, int depth) {
    AQ_TRY(aq_text_add(t, "%*s", 2 * depth, ""));
    switch (s->kind) {
    case AQ_STMT_PHASE:
    case AQ_STMT_TILES:
    case AQ_STMT_FOR:
        return loop(t, n, s, depth);
    case AQ_STMT_ACC:
        return acc(t, n, s);
    case AQ_STMT_UPDATE:
        return update(t, n, s);
    case AQ_STMT_LET:
        AQ_TRY(aq_text_add(t, "let "));
        AQ_TRY(tile_name(t, n, s->tile));
        break;
    case AQ_STMT_STORE:
        AQ_TRY(aq_text_add(t, "store %s[", buf_name(n, s->buf)));
        AQ_TRY(list(t, n, s->index, s->n_index <= AQ_MAX_RANK ? s->n_index : AQ_MAX_RANK, 0));
        AQ_TRY(aq_text_add(t, "]"));
        break;
    default:
        return aq_text_add(t, "?\n");
    }
    AQ_TRY(aq_text_add(t, " = "));
    AQ_TRY(expr(t, n, s->expr[0], 0));
    return aq_text_add(t, "\n");
}

static aq_status statements(aq_text *t, const aq_nest *n, aq_id first, int depth) {
    if (depth > MAX_DEPTH)
        return aq_text_add(t, "?\n");
    uint32_t left = n->stmts.n; /* a ring of `next` must end too */
    for (aq_id id = first; id && id < n->stmts.n && left--; id = n->stmts.at[id].next)
        AQ_TRY(statement(t, n, &n->stmts.at[id], depth));
    return AQ_OK;
}

aq_status aq_print_nest(const aq_nest *n, aq_text *out) {
    AQ_TRY(header(out, n));
    AQ_TRY(statements(out, n, n->first_phase, 1));
    return aq_text_add(out, "}\n");
}
