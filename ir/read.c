/* read.c: a module from text: the declarations. Order: limits, `model NAME {`, then dims, sym, weight, state, graph, nest in the order of the
 * text (names before they are used), then the verifier: what is built from bytes passes the same checks as what is built by code.
 *
 *   model NAME {
 *     dims V, D, L                         # bound by the caller: numbers from here on
 *     sym T in 1..4096                     # bound later
 *     weight @wq[L]: q4_0[H*DH, D] panel rotate_half 64 alias @other     # [L]: one a layer, named @wq.0, @wq.1, ..
 *     state $k[L]: f16[S, HKV, DH] kv_panel
 *     graph NAME(%x: f32[T, D], %b: batch) -> f32[T, D] { ... }          # read_body.c
 *     nest NAME(...) { ... }                                             # read_nest.c
 *   }
 *
 * One pass, no token list; `repeat` reads its body's text again for every layer. Memory: the module's arena. */
#include "ir/memory.h"
#include "ir/nest.h"
#include "ir/read.h"

#include <math.h>
#include <string.h>

static int shown(aq_word w) { return (int)(w.n < 60 ? w.n : 60); }

static aq_status dims(aq_reader *r) {
    do {
        (void)aq_scan_more(&r->s);
        size_t at = r->s.at;
        aq_word w = aq_scan_word(&r->s);
        int i = 0;
        if (!w.n)
            return aq_read_fail(r, "no name: expected that of a size");
        while (i < r->n_binds && !aq_word_is(w, r->binds[i].name))
            i++;
        if (i == r->n_binds)
            return aq_read_fail_at(r, at, "size %.*s has no value: expected one from the model's configuration (--config, --bind)", shown(w), w.at);
        if (isinf(r->binds[i].value))
            return aq_read_fail_at(r, at, "size %.*s is %g: expected a finite number", shown(w), w.at, r->binds[i].value);
        if (aq_names_find(&r->dims, w.at, w.n) || aq_sym_find(r->m, w.at, w.n))
            return aq_read_fail_at(r, at, "%.*s stands there twice: expected another name", shown(w), w.at);
        AQ_TRY(aq_names_put(&r->dims, &r->m->arena, w.at, w.n, (uint32_t)i + 1));
    } while (aq_scan_take(&r->s, ","));
    return AQ_OK;
}

/* 1..4096: digits only, because the scanner of numbers would take "1..4096" for one word. */
static aq_status bound(aq_reader *r, int64_t *out) {
    int64_t x = 0;
    size_t digits = 0;
    (void)aq_scan_more(&r->s);
    for (; r->s.at < r->s.n && r->s.text[r->s.at] >= '0' && r->s.text[r->s.at] <= '9'; digits++, r->s.at++)
        if ((x = x * 10 + (r->s.text[r->s.at] - '0')) > INT64_C(1) << 48)
            return aq_read_fail(r, "a bound too large: expected at most 2^48");
    if (!digits)
        return aq_read_fail(r, "no bound: expected LOWEST..HIGHEST in digits");
    *out = x;
    return AQ_OK;
}

static aq_status sym(aq_reader *r) {
    (void)aq_scan_more(&r->s);
    size_t at = r->s.at;
    aq_word w = aq_scan_word(&r->s);
    int64_t lo = 0, hi = 0;
    const char *name;
    aq_id id;
    if (!w.n || !aq_scan_keyword(&r->s, "in"))
        return aq_read_fail(r, "no symbol: expected sym NAME in LOWEST..HIGHEST");
    AQ_TRY(bound(r, &lo));
    AQ_TRY(aq_read_expect(r, "..", "between the bounds"));
    AQ_TRY(bound(r, &hi));
    if (lo > hi)
        return aq_read_fail_at(r, at, "bounds %lld..%lld: expected the lowest first", (long long)lo, (long long)hi);
    if (aq_names_find(&r->dims, w.at, w.n) || aq_sym_find(r->m, w.at, w.n))
        return aq_read_fail_at(r, at, "%.*s stands there twice: expected another name", shown(w), w.at);
    if (r->m->syms.n > 64)
        return aq_read_fail_at(r, at, "too many symbols: expected at most 64");
    AQ_TRY(aq_read_copy(r, w, &name));
    return aq_sym_add(r->m, name, lo, hi, &id);
}

/* "wq.3" is layer 3 of wq; what does not end so has layer -1. */
static aq_status split_name(aq_reader *r, aq_word name, const char **out_base, int32_t *out_layer) {
    size_t dot = name.n;
    int64_t layer = 0;
    while (dot > 1 && name.at[dot - 1] >= '0' && name.at[dot - 1] <= '9')
        dot--;
    int plain = dot == name.n || dot < 3 || name.at[dot - 1] != '.' || name.n - dot > 6 || (name.at[dot] == '0' && name.n - dot > 1);
    for (size_t i = dot; !plain && i < name.n; i++)
        layer = layer * 10 + (name.at[i] - '0');
    *out_layer = plain ? -1 : (int32_t)layer;
    return aq_arena_string(&r->m->arena, name.at + 1, plain ? name.n - 1 : dot - 2, out_base);
}

typedef struct extras {
    aq_layout layout;
    int64_t rotate_half;
    const char *alias;
} extras;

/* What may follow the type of a weight or state. */
static aq_status storage(aq_reader *r, int is_weight, extras *e) {
    for (;;) {
        aq_scan before = r->s;
        aq_word w = aq_scan_word(&r->s);
        if (is_weight && aq_word_is(w, "rotate_half")) {
            AQ_TRY(aq_read_whole(r, 2, INT32_MAX, "head size", &e->rotate_half));
        } else if (is_weight && aq_word_is(w, "alias")) {
            aq_word name = aq_scan_name(&r->s);
            if (!name.n || *name.at != '@')
                return aq_read_fail(r, "no weight behind alias: expected @NAME");
            AQ_TRY(aq_arena_string(&r->m->arena, name.at + 1, name.n - 1, &e->alias));
        } else if (w.n && aq_layout_by_name(w.at, w.n) != AQ_LAYOUT_COUNT) {
            e->layout = aq_layout_by_name(w.at, w.n);
        } else {
            r->s = before;
            return AQ_OK;
        }
    }
}

static aq_status add_row(aq_reader *r, size_t at, char sigil, const char *base, int32_t layer, const aq_type *t, const extras *e) {
    aq_id value;
    const char *key;
    uint32_t n = sigil == '@' ? r->m->weights.n : r->m->states.n;
    if (n >= AQ_TEXT_ROWS)
        return aq_read_fail_at(r, at, "too many weights or states: expected at most %d of each", AQ_TEXT_ROWS);
    AQ_TRY(sigil == '@' ? aq_weight_add(r->m, base, layer, *t, &value) : aq_state_add(r->m, base, layer, *t, &value));
    AQ_TRY(aq_arena_format(&r->m->arena, &key, "%c%s", sigil, r->m->values.at[value].name));
    if (aq_names_find(&r->rows, key, strlen(key)))
        return aq_read_fail_at(r, at, "%.60s stands there twice: expected another name", key);
    AQ_TRY(aq_names_put(&r->rows, &r->m->arena, key, strlen(key), n + 1));
    if (sigil == '$') {
        r->m->states.at[n].layout = e->layout;
        return AQ_OK;
    }
    aq_weight *w = &r->m->weights.at[n];
    w->layout = e->layout, w->rotate_half = e->rotate_half > 0, w->head_dim = e->rotate_half, w->alias = e->alias;
    return AQ_OK;
}

/* weight @name[L]: TYPE STORAGE and state $name[L]: TYPE LAYOUT */
static aq_status row(aq_reader *r, char sigil) {
    (void)aq_scan_more(&r->s);
    size_t at = r->s.at;
    aq_word name = aq_scan_name(&r->s);
    int64_t layers = -1;
    aq_type t;
    extras e = {.layout = AQ_LAYOUT_ROWS};
    const char *base;
    int32_t layer;
    if (!name.n || *name.at != sigil || name.n > 120)
        return aq_read_fail_at(r, at, "no name: expected %cNAME: TYPE", sigil);
    if (aq_scan_take(&r->s, "[")) {
        AQ_TRY(aq_read_whole(r, 1, AQ_TEXT_LAYERS, "number of layers", &layers));
        AQ_TRY(aq_read_expect(r, "]", "after the number of layers"));
    }
    AQ_TRY(aq_read_expect(r, ":", "before the type"));
    AQ_TRY(aq_read_type(r, &t));
    if (t.is_batch)
        return aq_read_fail_at(r, at, "%.*s is a batch: expected a tensor", shown(name), name.at);
    AQ_TRY(storage(r, sigil == '@', &e));
    AQ_TRY(split_name(r, name, &base, &layer));
    if (layers < 0)
        return add_row(r, at, sigil, base, layer, &t, &e);
    AQ_TRY(aq_arena_string(&r->m->arena, name.at + 1, name.n - 1, &base));
    AQ_TRY(aq_names_put(&r->bases, &r->m->arena, name.at, name.n, 1));
    for (int32_t i = 0; i < layers; i++)
        AQ_TRY(add_row(r, at, sigil, base, i, &t, &e));
    return AQ_OK;
}

uint32_t aq_read_row(aq_reader *r, aq_word name) {
    uint32_t row = aq_names_find(&r->rows, name.at, name.n);
    if (row || r->layer < 0 || name.n > 120)
        return row;
    char key[160];
    memcpy(key, name.at, name.n);
    size_t n = name.n, digits = 0;
    char number[12];
    int32_t layer = r->layer;
    do
        number[digits++] = (char)('0' + layer % 10);
    while ((layer /= 10));
    key[n++] = '.';
    while (digits)
        key[n++] = number[--digits];
    return aq_names_find(&r->rows, key, n);
}

aq_status aq_read_inner(aq_reader *r, size_t from, int with_braces, aq_status (*read)(aq_reader *, void *, const char *, size_t), void *user) {
    aq_scan *s = &r->s;
    size_t open, depth = 0, first, end;
    while (aq_scan_more(s) && s->text[s->at] != '{')
        s->at++;
    open = s->at;
    do {
        if (!aq_scan_more(s))
            return aq_read_fail_at(r, open < s->n ? open : from, "braces that are not closed: expected '{ .. }'");
        depth += s->text[s->at] == '{';
        depth -= s->text[s->at] == '}';
        s->at++;
    } while (depth);
    first = with_braces ? from : open + 1, end = with_braces ? s->at : s->at - 1;
    aq_read_place(r, first);
    void *copy;
    size_t lead = r->m->at.line - 1, column = r->m->at.column - 1;
    AQ_TRY(aq_mem_alloc(lead + column + (end - first) + 1, &copy));
    char *text = copy;
    memset(text, '\n', lead);
    memset(text + lead, ' ', column);
    memcpy(text + lead + column, s->text + first, end - first);
    aq_status status = read(r, user, text, lead + column + (end - first));
    aq_mem_free(copy);
    return status;
}

static aq_status nest_text(aq_reader *r, void *user, const char *text, size_t n) { return aq_read_nest(r->m, &r->m->arena, r->s.file, text, n, user); }

static aq_status nest(aq_reader *r, size_t at) {
    struct aq_nest *n;
    if (r->m->nests.n >= AQ_TEXT_NESTS)
        return aq_read_fail_at(r, at, "too many nests: expected at most %d", AQ_TEXT_NESTS);
    AQ_TRY(aq_read_inner(r, at, 1, nest_text, &n));
    AQ_PUSH(&r->m->arena, &r->m->nests, n);
    return AQ_OK;
}

static aq_status declarations(aq_reader *r) {
    while (!aq_scan_take(&r->s, "}")) {
        if (!aq_scan_more(&r->s))
            return aq_read_fail(r, "the text ends inside a model: expected '}'");
        size_t at = r->s.at;
        aq_word w = aq_scan_word(&r->s);
        if (aq_word_is(w, "dims"))
            AQ_TRY(dims(r));
        else if (aq_word_is(w, "sym"))
            AQ_TRY(sym(r));
        else if (aq_word_is(w, "weight"))
            AQ_TRY(row(r, '@'));
        else if (aq_word_is(w, "state"))
            AQ_TRY(row(r, '$'));
        else if (aq_word_is(w, "graph"))
            AQ_TRY(aq_read_graph(r));
        else if (aq_word_is(w, "nest"))
            AQ_TRY(nest(r, at));
        else
            return aq_read_fail_at(r, at, "'%.*s' declares nothing: expected dims, sym, weight, state, graph or nest", shown(w), w.at);
    }
    return AQ_OK;
}

static aq_status module(aq_reader *r) {
    if (r->s.n > AQ_TEXT_MAX)
        return aq_fail(AQ_REFUSED, r->s.file, "text of %zu bytes: expected at most %d", r->s.n, AQ_TEXT_MAX);
    if (!aq_scan_keyword(&r->s, "model"))
        return aq_read_fail(r, "no model: expected model NAME {");
    aq_word w = aq_scan_word(&r->s);
    if (!w.n || w.n > 120)
        return aq_read_fail(r, "no name: expected model NAME {");
    AQ_TRY(aq_read_copy(r, w, &r->m->name));
    AQ_TRY(aq_read_expect(r, "{", "after the model's name"));
    AQ_TRY(declarations(r));
    if (aq_scan_more(&r->s))
        return aq_read_fail(r, "text after the model: expected its end");
    r->m->at.line = r->m->at.column = 0;
    r->m->at.layer = -1;
    return aq_verify_module(r->m);
}

aq_status aq_read_module(const char *file, const char *text, size_t n, const aq_bind *binds, int n_binds, aq_module *m) {
    aq_reader r = {.s = {file, text, 0, n}, .m = m, .binds = binds, .n_binds = n_binds, .layer = -1, .line = 1};
    AQ_TRY(aq_module_open(m, file));
    aq_status status = module(&r);
    if (status != AQ_OK)
        aq_module_close(m);
    return status;
}
