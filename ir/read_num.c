/* read_num.c: places in the text, numbers, sizes and types of model text. Arithmetic is done here, once: a module in memory holds numbers. */
#include "ir/read.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* --- places ---------------------------------------------------------------------------------------------------------------------------- */

/* Lines are counted on from the last place asked for, in both directions: nested calls and `repeat` ask for places further back. */
static void count_lines(aq_reader *r, size_t at) {
    int crossed = 0;
    for (; r->line_at > at; r->line_at--)
        crossed |= r->s.text[r->line_at - 1] == '\n', r->line -= r->s.text[r->line_at - 1] == '\n';
    for (r->line_start = crossed ? at : r->line_start; crossed && r->line_start && r->s.text[r->line_start - 1] != '\n';)
        r->line_start--;
    for (; r->line_at < at && r->line_at < r->s.n; r->line_at++)
        if (r->s.text[r->line_at] == '\n')
            r->line++, r->line_start = r->line_at + 1;
}

void aq_read_place(aq_reader *r, size_t at) {
    count_lines(r, at);
    r->m->at.line = r->line;
    r->m->at.column = (uint32_t)(at - r->line_start + 1);
}

aq_status aq_read_caret(aq_reader *r, size_t at, aq_status status) {
    if (status != AQ_REFUSED)
        return status;
    count_lines(r, at);
    const char *from = r->s.text + r->line_start;
    size_t n = 0, room = 200, column = at - r->line_start;
    while (r->line_start + n < r->s.n && from[n] != '\n' && n < room)
        n++;
    char shown[256];
    for (size_t i = 0; i < n; i++)
        shown[i] = (unsigned char)from[i] < 0x20 || (unsigned char)from[i] >= 0x7f ? ' ' : from[i];
    shown[n] = 0;
    aq_error_set_detail("%s\n%*s^", shown, (int)(column < room ? column : room), "");
    return status;
}

static aq_status fail_at(aq_reader *r, size_t at, const char *format, va_list args) {
    char text[512], place[256];
    vsnprintf(text, sizeof text, format, args);
    count_lines(r, at);
    snprintf(place, sizeof place, "%.200s:%u:%zu", r->s.file, r->line, at - r->line_start + 1);
    return aq_read_caret(r, at, aq_fail(AQ_REFUSED, place, "%s", text));
}

aq_status aq_read_fail_at(aq_reader *r, size_t at, const char *format, ...) {
    va_list args;
    va_start(args, format);
    aq_status status = fail_at(r, at, format, args);
    va_end(args);
    return status;
}

aq_status aq_read_fail(aq_reader *r, const char *format, ...) {
    (void)aq_scan_more(&r->s);
    va_list args;
    va_start(args, format);
    aq_status status = fail_at(r, r->s.at, format, args);
    va_end(args);
    return status;
}

aq_status aq_read_expect(aq_reader *r, const char *punctuation, const char *where) {
    if (aq_scan_take(&r->s, punctuation))
        return AQ_OK;
    return aq_read_fail(r, "no '%s' %s: expected it here", punctuation, where);
}

aq_status aq_read_copy(aq_reader *r, aq_word w, const char **out) { return aq_arena_string(&r->m->arena, w.at, w.n, out); }

/* --- numbers --------------------------------------------------------------------------------------------------------------------------- */

/* What an expression is worth: a number, or a number times a symbol. */
typedef struct worth {
    double x;
    aq_id sym;
} worth;

static aq_status sum(aq_reader *r, int depth, worth *out);

static aq_status named(aq_reader *r, aq_word w, size_t at, worth *out) {
    uint32_t bind = aq_names_find(&r->dims, w.at, w.n);
    *out = (worth){1, 0};
    if (bind && isnan(r->binds[bind - 1].value))
        return aq_read_fail_at(r, at, "the model has no %.*s: expected it alone, as an attribute, which is left out then", (int)(w.n < 60 ? w.n : 60), w.at);
    if (bind)
        out->x = r->binds[bind - 1].value;
    else if (!(out->sym = aq_sym_find(r->m, w.at, w.n)))
        return aq_read_fail_at(r, at, "'%.*s' is no size: expected a number, one of `dims` or a symbol", (int)(w.n < 60 ? w.n : 60), w.at);
    return AQ_OK;
}

static aq_status primary(aq_reader *r, int depth, worth *out) {
    int whole;
    *out = (worth){0, 0};
    if (depth > AQ_TEXT_DEPTH)
        return aq_read_fail(r, "parentheses too deep: expected at most %d levels", AQ_TEXT_DEPTH);
    if (aq_scan_number(&r->s, &out->x, &whole))
        return AQ_OK;
    if (aq_scan_take(&r->s, "-")) {
        AQ_TRY(primary(r, depth + 1, out));
        out->x = -out->x;
        return AQ_OK;
    }
    if (aq_scan_take(&r->s, "(")) {
        AQ_TRY(sum(r, depth + 1, out));
        return aq_read_expect(r, ")", "after the expression");
    }
    (void)aq_scan_more(&r->s);
    size_t at = r->s.at;
    aq_word w = aq_scan_word(&r->s);
    if (!w.n)
        return aq_read_fail(r, "no number: expected one, or a size");
    if (!aq_word_is(w, "sqrt"))
        return named(r, w, at, out);
    AQ_TRY(aq_read_expect(r, "(", "after sqrt"));
    AQ_TRY(sum(r, depth + 1, out));
    if (out->sym || !(out->x >= 0))
        return aq_read_fail_at(r, at, "sqrt of what is no number: expected one of 0 or more");
    out->x = sqrt(out->x);
    return aq_read_expect(r, ")", "after the expression");
}

static aq_status product(aq_reader *r, int depth, worth *out) {
    AQ_TRY(primary(r, depth, out));
    for (;;) {
        worth y;
        size_t at = r->s.at;
        int times = aq_scan_take(&r->s, "*"), over = !times && aq_scan_take(&r->s, "/");
        if (!times && !over)
            return AQ_OK;
        AQ_TRY(primary(r, depth, &y));
        if ((over && y.sym) || (out->sym && y.sym))
            return aq_read_fail_at(r, at, "a size with more than one symbol: expected a number times a symbol");
        out->x = times ? out->x * y.x : out->x / y.x;
        out->sym |= y.sym;
    }
}

static aq_status sum(aq_reader *r, int depth, worth *out) {
    AQ_TRY(product(r, depth, out));
    for (;;) {
        worth y;
        size_t at = r->s.at;
        int plus = aq_scan_take(&r->s, "+"), minus = 0;
        if (!plus && aq_scan_more(&r->s) && r->s.text[r->s.at] == '-' && !(r->s.at + 1 < r->s.n && r->s.text[r->s.at + 1] == '>'))
            minus = aq_scan_take(&r->s, "-");
        if (!plus && !minus)
            return AQ_OK;
        AQ_TRY(product(r, depth, &y));
        if (out->sym || y.sym)
            return aq_read_fail_at(r, at, "a sum with a symbol: expected numbers");
        out->x = plus ? out->x + y.x : out->x - y.x;
    }
}

int aq_read_at_number(aq_reader *r) {
    aq_scan s = r->s;
    double x;
    int whole;
    if (aq_scan_number(&s, &x, &whole) || aq_scan_take(&s, "-"))
        return 1;
    aq_word w = aq_scan_word(&s);
    return w.n && (aq_word_is(w, "sqrt") || aq_names_find(&r->dims, w.at, w.n)) && !aq_op_by_name(w.at, w.n);
}

int aq_read_none(aq_reader *r) {
    aq_scan before = r->s;
    aq_word w = aq_scan_word(&r->s);
    uint32_t bind = w.n ? aq_names_find(&r->dims, w.at, w.n) : 0;
    if (bind && isnan(r->binds[bind - 1].value))
        return 1;
    r->s = before;
    return 0;
}

aq_status aq_read_number(aq_reader *r, double *out) {
    worth w;
    (void)aq_scan_more(&r->s);
    size_t at = r->s.at;
    AQ_TRY(sum(r, 0, &w));
    if (w.sym)
        return aq_read_fail_at(r, at, "a symbol where a number stands: expected one that is known before a run");
    *out = w.x;
    return AQ_OK;
}

aq_status aq_read_whole(aq_reader *r, int64_t lo, int64_t hi, const char *what, int64_t *out) {
    double x = 0;
    (void)aq_scan_more(&r->s);
    size_t at = r->s.at;
    AQ_TRY(aq_read_number(r, &x));
    if (!(x >= (double)lo && x <= (double)hi) || x != floor(x))
        return aq_read_fail_at(r, at, "%s is %g: expected a whole number from %lld to %lld", what, x, (long long)lo, (long long)hi);
    *out = (int64_t)x;
    return AQ_OK;
}

aq_status aq_read_dim(aq_reader *r, aq_dim *out) {
    worth w;
    (void)aq_scan_more(&r->s);
    size_t at = r->s.at;
    AQ_TRY(sum(r, 0, &w));
    if (!(w.x >= 1 && w.x <= 0x1p48) || w.x != floor(w.x))
        return aq_read_fail_at(r, at, "a size of %g: expected a whole number of 1 or more", w.x);
    *out = (aq_dim){(int64_t)w.x, w.sym};
    return AQ_OK;
}

/* [a, b]: at most AQ_MAX_RANK sizes; behind the '['. */
static aq_status dims(aq_reader *r, aq_type *t) {
    do {
        if (t->rank == AQ_MAX_RANK)
            return aq_read_fail(r, "too many axes: expected at most %d", AQ_MAX_RANK);
        AQ_TRY(aq_read_dim(r, &t->dim[t->rank++]));
    } while (aq_scan_take(&r->s, ","));
    return aq_read_expect(r, "]", "after the axes");
}

aq_status aq_read_type(aq_reader *r, aq_type *out) {
    aq_type t = {.dtype = AQ_DTYPE_NONE};
    (void)aq_scan_more(&r->s);
    size_t at = r->s.at;
    aq_word w = aq_scan_word(&r->s);
    if (aq_word_is(w, "batch")) {
        *out = (aq_type){.is_batch = 1};
        return AQ_OK;
    }
    t.dtype = w.n ? aq_dtype_by_name(w.at, w.n) : AQ_DTYPE_NONE;
    if (w.n && t.dtype == AQ_DTYPE_NONE && !aq_word_is(w, "any"))
        return aq_read_fail_at(r, at, "'%.*s' is no element type: expected one of `show dtypes`", (int)(w.n < 60 ? w.n : 60), w.at);
    if (aq_scan_take(&r->s, "["))
        AQ_TRY(dims(r, &t));
    else if (!w.n)
        return aq_read_fail(r, "no type: expected DTYPE[sizes] or batch");
    int block = aq_dtype_of(t.dtype)->block;
    if (block > 1 && (!t.rank || t.dim[t.rank - 1].k % block))
        return aq_read_fail_at(r, at, "a last axis of %lld for %s: expected a multiple of %d", t.rank ? (long long)t.dim[t.rank - 1].k : 1LL,
                               aq_dtype_of(t.dtype)->name, block);
    *out = t;
    return AQ_OK;
}
