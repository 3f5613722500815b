/* scan.c: the scanner of nest and schedule texts. Linear; a failure looks for its line once. */
#include "ir/scan.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int is_digit(char c) {
    return c >= '0' && c <= '9';
}
static int is_letter(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}
static int is_sigil(char c) {
    return c == '%' || c == '@' || c == '$';
}
static int is_inner(char c) {
    return is_letter(c) || is_digit(c) || c == '.';
}

int aq_scan_more(aq_scan *s) {
    while (s->at < s->n) {
        char c = s->text[s->at];
        if (c == '#')
            while (s->at < s->n && s->text[s->at] != '\n')
                s->at++;
        else if (c == ' ' || c == '\n' || c == '\t' || c == '\r')
            s->at++;
        else
            return 1;
    }
    return 0;
}

int aq_scan_take(aq_scan *s, const char *punctuation) {
    size_t n = strlen(punctuation);
    if (!aq_scan_more(s) || s->n - s->at < n || memcmp(s->text + s->at, punctuation, n))
        return 0;
    s->at += n;
    return 1;
}

int aq_word_is(aq_word w, const char *text) {
    return strlen(text) == w.n && !memcmp(w.at, text, w.n);
}

aq_word aq_scan_word(aq_scan *s) {
    aq_word w = {s->text, 0};
    if (!aq_scan_more(s) || !is_letter(s->text[s->at]))
        return w;
    w.at = s->text + s->at;
    while (s->at < s->n && is_inner(s->text[s->at]))
        s->at++, w.n++;
    return w;
}

int aq_scan_keyword(aq_scan *s, const char *keyword) {
    aq_scan before = *s;
    if (aq_word_is(aq_scan_word(s), keyword))
        return 1;
    *s = before;
    return 0;
}

aq_word aq_scan_name(aq_scan *s) {
    aq_word w = {s->text, 0};
    if (!aq_scan_more(s) || !is_sigil(s->text[s->at]) || s->n - s->at < 2 || !is_inner(s->text[s->at + 1]))
        return w;
    w.at = s->text + s->at;
    s->at++, w.n++;
    while (s->at < s->n && is_inner(s->text[s->at]))
        s->at++, w.n++;
    return w;
}

/* strtod needs an end it can see, so the characters that may belong to a number are copied first. */
int aq_scan_number(aq_scan *s, double *out, int *is_whole) {
    char text[64];
    size_t n = 0, at;
    if (!aq_scan_more(s))
        return 0;
    at = s->at;
    if (at < s->n && (s->text[at] == '-' || s->text[at] == '+'))
        text[n++] = s->text[at++];
    for (; n < sizeof text - 1 && at < s->n; at++) {
        char c = s->text[at];
        int sign = (c == '-' || c == '+') && n && (text[n - 1] == 'e' || text[n - 1] == 'E');
        if (!is_inner(c) && !sign)
            break;
        text[n++] = c;
    }
    text[n] = 0;
    const char *digits = text + (text[0] == '-' || text[0] == '+');
    int word = !strcmp(digits, "inf") || !strcmp(digits, "nan");
    if (!word && !is_digit(digits[0]) && !(digits[0] == '.' && is_digit(digits[1])))
        return 0;
    char *end;
    *out = strtod(text, &end);
    if (end == text || *end || strchr(text, 'x') || strchr(text, 'X'))
        return 0;
    *is_whole = !word && !strpbrk(text, ".eE") && fabs(*out) < 0x1p53;
    s->at = at;
    return 1;
}

aq_status aq_scan_fail(aq_scan *s, const char *format, ...) {
    char text[256], place[160];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    (void)aq_scan_more(s);
    unsigned line = 1, column = 1;
    for (size_t i = 0; i < s->at && i < s->n; i++)
        if (s->text[i] == '\n')
            line++, column = 1;
        else
            column++;
    snprintf(place, sizeof place, "%.120s:%u:%u", s->file, line, column);
    return aq_fail(AQ_REFUSED, place, "%s", text);
}

aq_status aq_scan_expect(aq_scan *s, const char *punctuation, const char *where) {
    return aq_scan_take(s, punctuation) ? AQ_OK : aq_scan_fail(s, "no '%s' %s: expected it here", punctuation, where);
}

aq_status aq_scan_whole(aq_scan *s, int64_t lo, int64_t hi, const char *what, int64_t *out) {
    double x;
    int whole;
    aq_scan before = *s;
    if (!aq_scan_number(s, &x, &whole))
        return aq_scan_fail(s, "no %s: expected a whole number", what);
    if (!whole || x < (double)lo || x > (double)hi) {
        *s = before;
        return aq_scan_fail(s, "bad %s: expected a whole number from %lld to %lld", what, (long long)lo, (long long)hi);
    }
    *out = (int64_t)x;
    return AQ_OK;
}

aq_status aq_scan_dim(aq_scan *s, const aq_module *m, aq_dim *out) {
    aq_dim d = {1, 0};
    aq_scan before = *s;
    aq_word w = aq_scan_word(s);
    if (!w.n) {
        AQ_TRY(aq_scan_whole(s, 0, (int64_t)1 << 52, "dim", &d.k));
        before = *s;
        if (!aq_scan_take(s, "*")) {
            *out = d;
            return AQ_OK;
        }
        w = aq_scan_word(s);
    }
    d.sym = m && w.n ? aq_sym_find(m, w.at, w.n) : 0;
    if (!d.sym) {
        *s = before;
        return aq_scan_fail(s, "unknown symbol '%.*s': expected one of the module", (int)(w.n < 60 ? w.n : 60), w.at);
    }
    *out = d;
    return AQ_OK;
}
