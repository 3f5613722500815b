/* read_nest.c: a nest from text: one pass of recursive descent straight into the tables, then aq_nest_check, which knows what a nest must
 * be. This file and read_expr.c only know the grammar (end of nest.h) and that names must be declared before they are used. */
#include "ir/read_nest.h"

static aq_status statements(aq_nest_reader *r, int depth, aq_id *first);

/* `WORD N`; 0 where the word does not come. */
static aq_status mark(aq_nest_reader *r, const char *word, int64_t most, int64_t *out) {
    *out = 0;
    return aq_scan_keyword(&r->s, word) ? aq_scan_whole(&r->s, 1, most, word, out) : AQ_OK;
}

static aq_status marks(aq_nest_reader *r, aq_stmt *s) {
    int64_t k;
    AQ_TRY(mark(r, "lanes", 1 << 10, &k));
    s->lanes = (int16_t)k;
    AQ_TRY(mark(r, "vec", 255, &k));
    s->vec = (uint8_t)k;
    AQ_TRY(mark(r, "warps", 255, &k));
    s->warps = (uint8_t)k;
    AQ_TRY(mark(r, "mma", 255, &k));
    s->mma = (uint8_t)k;
    AQ_TRY(mark(r, "stages", 255, &k));
    s->stages = (uint8_t)k;
    while (s->stages && r->s.at < r->s.n && aq_scan_more(&r->s) && r->s.text[r->s.at] != '{') {
        if (s->n_ring == sizeof s->ring / sizeof *s->ring)
            return aq_scan_fail(&r->s, "too many buffers of stages: expected at most 4");
        aq_word name = aq_scan_name(&r->s);
        aq_id buf = name.n ? aq_nest_find_buf(r->n, name) : 0;
        if (!buf)
            return aq_scan_fail(&r->s, "'%.*s' is no buffer: expected { or the buffers that are on their way in stages", AQ_SHOW(name));
        s->ring[s->n_ring++] = buf;
        if (!aq_scan_take(&r->s, ","))
            break;
    }
    return AQ_OK;
}

static aq_status loop(aq_nest_reader *r, aq_stmt *s, int depth) {
    int64_t k;
    if (s->kind != AQ_STMT_PHASE)
        AQ_TRY(aq_nest_read_axis(r, &s->axis));
    if (s->kind != AQ_STMT_PHASE && aq_scan_keyword(&r->s, "by")) {
        AQ_TRY(aq_scan_whole(&r->s, 1, 1 << 30, "step", &k));
        s->step = (int32_t)k;
    }
    if (s->kind != AQ_STMT_PHASE)
        AQ_TRY(marks(r, s));
    AQ_TRY(aq_scan_expect(&r->s, "{", "before the body of a loop"));
    return statements(r, depth + 1, &s->first_child);
}

static aq_status new_tile(aq_nest_reader *r, aq_word w, aq_tile t, aq_id *out) {
    if (w.n < 2 || w.at[0] != '%')
        return aq_scan_fail(&r->s, "no name: expected %%NAME of a new tile");
    AQ_TRY(aq_arena_string(r->arena, w.at + 1, w.n - 1, &t.name));
    AQ_PUSH(r->arena, &r->n->tiles, t);
    *out = r->n->tiles.n - 1;
    return AQ_OK;
}

static aq_status acc(aq_nest_reader *r, aq_stmt *s) {
    aq_word name = aq_scan_name(&r->s), w = aq_scan_word(&r->s);
    aq_tile t = {.is_acc = 1, .monoid = AQ_MONOID_COUNT};
    for (int i = 0; i < AQ_MONOID_COUNT; i++)
        if (aq_word_is(w, aq_monoid_of((aq_monoid)i)->name))
            t.monoid = (aq_monoid)i;
    if (t.monoid == AQ_MONOID_COUNT)
        return aq_scan_fail(&r->s, "'%.*s' is no monoid: expected acc %%NAME MONOID [axes] with one of reduce.def", AQ_SHOW(w));
    AQ_TRY(aq_scan_expect(&r->s, "[", "before the accumulator's axes"));
    if (!aq_scan_take(&r->s, "]")) {
        do {
            aq_id axis;
            AQ_TRY(aq_nest_read_axis(r, &axis));
            if (t.n_axes == AQ_MAX_TILE_AXES || axis > 255)
                return aq_scan_fail(&r->s, "too many axes: expected at most %d", AQ_MAX_TILE_AXES);
            t.axes[t.n_axes++] = (uint8_t)axis;
        } while (aq_scan_take(&r->s, ","));
        AQ_TRY(aq_scan_expect(&r->s, "]", "after the accumulator's axes"));
    }
    return new_tile(r, name, t, &s->tile);
}

static aq_status update(aq_nest_reader *r, aq_word name, aq_stmt *s) {
    s->tile = aq_nest_find_tile(r->n, name);
    if (!s->tile)
        return aq_scan_fail(&r->s, "%.*s is not declared: expected an acc above", AQ_SHOW(name));
    s->merge = (uint8_t)aq_scan_keyword(&r->s, "merge");
    const aq_tile *t = &r->n->tiles.at[s->tile];
    if (!t->is_acc)
        return aq_scan_fail(&r->s, "%.*s is no accumulator: expected an acc above", AQ_SHOW(name));
    AQ_TRY(aq_scan_expect(&r->s, aq_monoid_of(t->monoid)->text, "between the accumulator and what it takes in"));
    do {
        if (s->n_expr == 3)
            return aq_scan_fail(&r->s, "too many operands: expected at most 3");
        AQ_TRY(aq_nest_read_expr(r, 0, &s->expr[s->n_expr++]));
    } while (aq_scan_take(&r->s, ","));
    return AQ_OK;
}

static aq_status assigned(aq_nest_reader *r, aq_stmt *s) {
    AQ_TRY(aq_scan_expect(&r->s, "=", "before the value"));
    s->n_expr = 1;
    return aq_nest_read_expr(r, 0, &s->expr[0]);
}

static aq_status statement(aq_nest_reader *r, int depth, aq_stmt *s) {
    aq_word w = aq_scan_name(&r->s);
    if (w.n) {
        s->kind = AQ_STMT_UPDATE;
        return update(r, w, s);
    }
    aq_scan before = r->s;
    w = aq_scan_word(&r->s);
    s->kind = aq_word_is(w, "phase") ? AQ_STMT_PHASE : aq_word_is(w, "tiles") ? AQ_STMT_TILES : aq_word_is(w, "for") ? AQ_STMT_FOR : 0;
    if (s->kind)
        return loop(r, s, depth);
    if (aq_word_is(w, "acc")) {
        s->kind = AQ_STMT_ACC;
        return acc(r, s);
    }
    if (aq_word_is(w, "let")) {
        s->kind = AQ_STMT_LET;
        w = aq_scan_name(&r->s);
        AQ_TRY(assigned(r, s)); /* first: a let does not see itself */
        return new_tile(r, w, (aq_tile){0}, &s->tile);
    }
    if (!aq_word_is(w, "store")) {
        r->s = before;
        return aq_scan_fail(&r->s, "'%.*s' is no statement: expected phase tiles for acc let store or %%ACC", AQ_SHOW(w));
    }
    s->kind = AQ_STMT_STORE;
    w = aq_scan_name(&r->s);
    if (!w.n || !(s->buf = aq_nest_find_buf(r->n, w)))
        return aq_scan_fail(&r->s, "'%.*s' is no buffer of the nest: expected store BUFFER[..] = ..", AQ_SHOW(w));
    AQ_TRY(aq_scan_expect(&r->s, "[", "after the buffer"));
    AQ_TRY(aq_nest_read_list(r, 0, "]", AQ_MAX_RANK, s->index, &s->n_index));
    return assigned(r, s);
}

static aq_status statements(aq_nest_reader *r, int depth, aq_id *first) {
    aq_id last = 0;
    *first = 0;
    if (depth > AQ_NEST_TEXT_DEPTH)
        return aq_scan_fail(&r->s, "loops too deep: expected at most %d levels", AQ_NEST_TEXT_DEPTH);
    while (!aq_scan_take(&r->s, "}")) {
        aq_stmt s = {0};
        if (!aq_scan_more(&r->s))
            return aq_scan_fail(&r->s, "the text ends inside a nest: expected '}'");
        AQ_TRY(statement(r, depth, &s));
        AQ_PUSH(r->arena, &r->n->stmts, s);
        aq_id id = r->n->stmts.n - 1;
        *(last ? &r->n->stmts.at[last].next : first) = id;
        last = id;
    }
    return AQ_OK;
}

/* ---- header ---- */

static aq_status type(aq_nest_reader *r, aq_type *t) {
    aq_word w = aq_scan_word(&r->s);
    t->dtype = w.n ? aq_dtype_by_name(w.at, w.n) : AQ_DTYPE_NONE;
    if (!t->dtype)
        return aq_scan_fail(&r->s, "'%.*s' is no element type: expected one of dtype.def", AQ_SHOW(w));
    AQ_TRY(aq_scan_expect(&r->s, "[", "after the element type"));
    if (aq_scan_take(&r->s, "]"))
        return AQ_OK;
    do {
        if (t->rank == AQ_MAX_RANK)
            return aq_scan_fail(&r->s, "too many dims: expected at most %d", AQ_MAX_RANK);
        AQ_TRY(aq_scan_dim(&r->s, r->n->module, &t->dim[t->rank++]));
    } while (aq_scan_take(&r->s, ","));
    return aq_scan_expect(&r->s, "]", "after the dims");
}

static aq_status buffer(aq_nest_reader *r) {
    static const char *const roles[] = {"", "in", "out", "state", "scratch", "local"};
    aq_nest_buf b = {0};
    aq_word w = aq_scan_word(&r->s);
    for (int i = AQ_BUF_IN; i <= AQ_BUF_LOCAL; i++)
        if (aq_word_is(w, roles[i]))
            b.role = (aq_buf_role)i;
    if (!b.role)
        return aq_scan_fail(&r->s, "'%.*s' is no role: expected in, out, state, scratch or local before a buffer", AQ_SHOW(w));
    aq_word name = aq_scan_name(&r->s);
    if (!name.n || aq_nest_find_buf(r->n, name))
        return aq_scan_fail(&r->s,
                            name.n ? "buffer %.*s stands there twice: expected another name" : "no name%.*s: expected that of a buffer",
                            AQ_SHOW(name));
    AQ_TRY(aq_arena_string(r->arena, name.at, name.n, &b.name));
    AQ_TRY(aq_scan_expect(&r->s, ":", "after the buffer's name"));
    AQ_TRY(type(r, &b.type));
    b.layout = AQ_LAYOUT_ROWS;
    w = aq_scan_word(&r->s);
    if (w.n && (b.layout = aq_layout_by_name(w.at, w.n)) == AQ_LAYOUT_COUNT)
        return aq_scan_fail(&r->s, "'%.*s' is no layout: expected one of layout.def", AQ_SHOW(w));
    AQ_PUSH(r->arena, &r->n->bufs, b);
    return AQ_OK;
}

static aq_status axes(aq_nest_reader *r) {
    do {
        aq_nest_axis a = {0};
        aq_word w = aq_scan_word(&r->s);
        if (!w.n || aq_nest_find_axis(r->n, w) || r->n->axes.n > 200)
            return aq_scan_fail(&r->s, "bad axis '%.*s': expected a new name, at most 200 axes", AQ_SHOW(w));
        AQ_TRY(aq_arena_string(r->arena, w.at, w.n, &a.name));
        AQ_TRY(aq_scan_expect(&r->s, ":", "after the axis"));
        AQ_TRY(aq_scan_dim(&r->s, r->n->module, &a.extent));
        if (aq_scan_keyword(&r->s, "limit"))
            AQ_TRY(aq_nest_read_expr(r, 0, &a.limit));
        AQ_PUSH(r->arena, &r->n->axes, a);
    } while (aq_scan_take(&r->s, ","));
    return AQ_OK;
}

aq_status aq_read_nest(const aq_module *m, aq_arena *arena, const char *file, const char *text, size_t n, aq_nest **out) {
    aq_nest_reader r = {.s = {file, text, 0, n}, .arena = arena};
    const char *name;
    if (!aq_scan_keyword(&r.s, "nest"))
        return aq_scan_fail(&r.s, "no nest: expected nest NAME(BUFFERS) {");
    aq_word w = aq_scan_word(&r.s);
    if (!w.n || w.n > 200)
        return aq_scan_fail(&r.s, "no name: expected nest NAME(BUFFERS) {");
    AQ_TRY(aq_arena_string(arena, w.at, w.n, &name));
    AQ_TRY(aq_nest_open(m, arena, name, &r.n));
    AQ_TRY(aq_scan_expect(&r.s, "(", "after the nest's name"));
    if (!aq_scan_take(&r.s, ")")) {
        do
            AQ_TRY(buffer(&r));
        while (aq_scan_take(&r.s, ","));
        AQ_TRY(aq_scan_expect(&r.s, ")", "after the buffers"));
    }
    AQ_TRY(aq_scan_expect(&r.s, "{", "before the nest's body"));
    while (aq_scan_keyword(&r.s, "axis"))
        AQ_TRY(axes(&r));
    AQ_TRY(statements(&r, 0, &r.n->first_phase));
    if (aq_scan_more(&r.s))
        return aq_scan_fail(&r.s, "text after the nest: expected its end");
    AQ_TRY(aq_nest_check(r.n));
    *out = r.n;
    return AQ_OK;
}
