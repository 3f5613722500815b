/* values.c: numbers, sizes and words of the command line, checked; and the nearest name to a misspelt one. */
#include "frontend/cli/values.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static aq_status parse_int(const aq_option *o, const char *text, const char *end, int64_t *out) {
    char *stop;
    errno = 0;
    long long x = (*text >= '0' && *text <= '9') || *text == '-' ? strtoll(text, &stop, 10) : (stop = NULL, 0);
    if (!stop || stop == text || stop != end || errno || (double)x < o->low || (double)x > o->high)
        return aq_fail(AQ_USAGE, NULL, "--%s: %.*s: expected a whole number from %.0f to %.0f", o->name, (int)(end - text < 60 ? end - text : 60), text,
                       o->low, o->high);
    *out = x;
    return AQ_OK;
}

static aq_status parse_real(const aq_option *o, const char *text, double *out) {
    char *stop;
    double x = strtod(text, &stop);
    if (stop == text || *stop || !isfinite(x) || x < o->low || x > o->high || strpbrk(text, " \t\nxX"))
        return aq_fail(AQ_USAGE, NULL, "--%s: %.60s: expected a number from %g to %g", o->name, text, o->low, o->high);
    *out = x;
    return AQ_OK;
}

static aq_status parse_choice(const aq_option *o, const char *text, int64_t *out) {
    size_t n = strlen(text);
    const char *s = o->argument;
    for (int64_t i = 0; *s; i++) {
        size_t m = strcspn(s, "|");
        if (m == n && !memcmp(s, text, n)) {
            *out = i;
            return AQ_OK;
        }
        s += m + (s[m] == '|');
    }
    return aq_fail(AQ_USAGE, NULL, "--%s: %.60s: expected %s", o->name, text, o->argument);
}

static aq_status parse_ints(aq_arena *arena, const aq_option *o, const char *text, aq_option_value *v) {
    uint32_t n = 1;
    for (const char *s = text; *s; s++)
        n += *s == ',';
    v->n_list = 0;
    AQ_ALLOC(arena, v->numbers, n);
    for (const char *s = text;;) {
        const char *end = s + strcspn(s, ",");
        AQ_TRY(parse_int(o, s, end, &v->numbers[v->n_list++]));
        if (!*end)
            return AQ_OK;
        s = end + 1;
    }
}

aq_status aq_value_bytes(const char *name, const char *text, int64_t *out) {
    char *unit;
    errno = 0;
    double x = *text >= '0' && *text <= '9' ? strtod(text, &unit) : (unit = NULL, 0.0);
    double factor = 0;
    if (unit) {
        static const char letters[] = "KMGT";
        const char *letter = *unit ? strchr(letters, *unit >= 'a' ? *unit - 32 : *unit) : NULL;
        if (!*unit || !strcmp(unit, "B"))
            factor = 1;
        else if (letter && (!unit[1] || !strcmp(unit + 1, "iB")))
            factor = ldexp(1, 10 * (int)(letter - letters + 1));
        else if (letter && !strcmp(unit + 1, "B"))
            factor = pow(1000, (double)(letter - letters + 1));
    }
    if (!factor || !isfinite(x) || x * factor > 0x1p60)
        return aq_fail(AQ_USAGE, NULL, "--%s: %.60s: expected a size such as 512MiB or 16GiB", name, text);
    *out = (int64_t)(x * factor);
    return AQ_OK;
}

static aq_status append(aq_arena *arena, aq_option_value *v, const char *text) {
    const char **list;
    AQ_ALLOC(arena, list, v->n_list + 1);
    if (v->n_list)
        memcpy(list, v->list, v->n_list * sizeof *list);
    list[v->n_list++] = text;
    v->list = list;
    return AQ_OK;
}

aq_status aq_value_set(aq_arena *arena, const aq_option *o, const char *text, aq_option_value *v) {
    switch (o->kind) {
    case AQ_OPTION_FLAG:
    case AQ_OPTION_TEXT:
        break;
    case AQ_OPTION_LIST:
        AQ_TRY(append(arena, v, text));
        break;
    case AQ_OPTION_INT:
        AQ_TRY(parse_int(o, text, text + strlen(text), &v->number));
        v->real = (double)v->number;
        break;
    case AQ_OPTION_REAL:
        AQ_TRY(parse_real(o, text, &v->real));
        break;
    case AQ_OPTION_INTS:
        AQ_TRY(parse_ints(arena, o, text, v));
        break;
    case AQ_OPTION_SIZE:
        AQ_TRY(aq_value_bytes(o->name, text, &v->number));
        break;
    case AQ_OPTION_CHOICE:
        AQ_TRY(parse_choice(o, text, &v->number));
        break;
    }
    v->text = text;
    v->n++;
    return AQ_OK;
}

/* Optimal string alignment distance: insert, delete, replace, swap neighbours; capped at 63 letters. */
static unsigned distance(const char *a, const char *b) {
    enum { MOST = 64 };
    size_t n = strnlen(a, MOST - 1), m = strnlen(b, MOST - 1);
    unsigned row[3][MOST];
    for (size_t j = 0; j <= m; j++)
        row[0][j] = (unsigned)j;
    for (size_t i = 1; i <= n; i++) {
        unsigned *now = row[i % 3], *before = row[(i + 2) % 3], *earlier = row[(i + 1) % 3];
        now[0] = (unsigned)i;
        for (size_t j = 1; j <= m; j++) {
            unsigned best = before[j - 1] + (a[i - 1] != b[j - 1]);
            best = before[j] + 1 < best ? before[j] + 1 : best;
            best = now[j - 1] + 1 < best ? now[j - 1] + 1 : best;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && earlier[j - 2] + 1 < best)
                best = earlier[j - 2] + 1;
            now[j] = best;
        }
    }
    return row[n % 3][m];
}

const char *aq_nearest(const char *word, const char *(*next)(void *user, uint32_t i), void *user) {
    size_t n = strlen(word);
    unsigned best = n < 4 ? 2 : (unsigned)(n / 3) + 1; /* anything below is near */
    const char *found = NULL, *name;
    for (uint32_t i = 0; (name = next(user, i)); i++) {
        unsigned d = distance(word, name);
        if (d < best || (!found && n >= 3 && !strncmp(name, word, n))) {
            best = d;
            found = name;
        }
    }
    return found;
}
