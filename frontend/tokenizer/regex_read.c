/* regex_read.c: a regular expression as tokenizer.json has it, which Hugging Face's tokenizers give to Oniguruma, written again for PCRE2.
 *
 * Both call their languages Perl's, and differ in what \s, \h, \w, \v, $, {,n}, [a[b]], (?m), (?i:ss) and \p{Lu} mean, and in which characters they know.
 * So nothing is passed on: the text is read by the grammar below and every part written in a form that PCRE2 has only one reading for; what is
 * not in the grammar is refused by its place.
 *
 *   expression   sequence | sequence ...                  sequence   part with a quantifier or none, ...
 *   part         character, . ^ $ [set] (group) (?:group) (?i:group) (?>group) (?=ahead) (?!ahead) (?<=behind) (?<!behind)
 *                \s \S \d \D \p{Lu} \P{L}, \t \n \r \f \v \a \e \x41 \x{4E00} \u4E00, \ and a mark
 *   quantifier   ? * + {n} {n,} {n,m}, with ? behind it for the fewest; + behind ? * + to give nothing back
 *   set          characters, ranges, the classes above, sets inside a set; ^ in front
 *
 * Inside (?i: ) only ASCII stands, and no two letters that Oniguruma takes for one character as well (ss st ff fi fl). What may be empty is not
 * repeated: the two leave such loops differently. White space is spelled out, and categories get the characters of younger.def.
 *
 * (?C) is written where a match has chosen (behind what is repeated, at the end of a group) and where it starts again from an earlier place (before
 * an alternative, at the start of a look-around, if these go far): regex.c counts how often a match comes there and how far it has been, so no
 * pattern runs without bounds. Not behind the last part of an alternative of the whole, which ends the match. Cost: once a file. */
#include "frontend/reasons.h"
#include "frontend/tokenizer/regex.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { MOST_REPEATS = 1000, STEPS_UNCOUNTED = 32 };

/* What a part is to the quantifier and the sequence it stands in. */
typedef struct part {
    int is_assertion, is_group;
    int may_be_empty;
} part;

aq_status aq_regex_refuse(const aq_regex_reader *r, const char *what) {
    return aq_refuse(AQ_WHY_TOKENIZER_PATTERN, r->place, "regular expression \"%.*s\", byte %u: %s", (int)(r->in.n < 60 ? r->in.n : 60), r->in.s, r->at, what);
}

void aq_regex_put(aq_regex_reader *r, const char *format, ...) {
    va_list list;
    va_start(list, format);
    int n = vsnprintf(r->out + r->n, AQ_REGEX_ROOM - r->n, format, list);
    va_end(list);
    r->n = n >= (int)(AQ_REGEX_ROOM - r->n) ? AQ_REGEX_ROOM - 1 : r->n + (uint32_t)n; /* full: found out at the end */
}

char aq_regex_peek(const aq_regex_reader *r, uint32_t ahead) { return r->at + ahead < r->in.n ? r->in.s[r->at + ahead] : 0; }

int aq_regex_take(aq_regex_reader *r, const char *text) {
    size_t n = strlen(text);
    if (r->in.n - r->at < n || memcmp(r->in.s + r->at, text, n))
        return 0;
    r->at += (uint32_t)n;
    return 1;
}

static void put_text(aq_regex_reader *r, const char *text) { aq_regex_put(r, "%s", text); }
static int at_end(const aq_regex_reader *r) { return r->at >= r->in.n; }

static const char count_mark[] = "(?C)";

static void put_count(aq_regex_reader *r) {
    put_text(r, count_mark);
    r->steps = 0;
    r->counts++;
}

static void put_count_at(aq_regex_reader *r, uint32_t at) {
    put_count(r);
    if (r->n == AQ_REGEX_ROOM - 1)
        return;
    memmove(r->out + at + sizeof count_mark - 1, r->out + at, r->n - at - (sizeof count_mark - 1));
    memcpy(r->out + at, count_mark, sizeof count_mark - 1);
}

/* ---- parts ---- */

static aq_status read_expression(aq_regex_reader *r, int is_assertion, part *out);

static aq_status read_group(aq_regex_reader *r, part *out) {
    static const struct {
        const char *in, *out;
        int is_assertion, is_caseless;
    } groups[] = {{"?:", "(?:", 0, 0}, {"?i:", "(?i:", 0, 1}, {"?>", "(?>", 0, 0}, {"?=", "(?=", 1, 0}, {"?!", "(?!", 1, 0}, {"?<=", "(?<=", 1, 0}, {"?<!", "(?<!", 1, 0}, {"", "(?:", 0, 0}};
    size_t k = 0;
    while (!aq_regex_take(r, groups[k].in))
        k++;
    if (aq_regex_peek(r, 0) == '?' || aq_regex_peek(r, 0) == '*' || r->depth == AQ_REGEX_DEPTH)
        return aq_regex_refuse(r, "a group that is not supported, or 16 groups inside each other: ( (?: (?i: (?> (?= (?! (?<= (?<! expected");
    int was = r->caseless;
    r->caseless |= groups[k].is_caseless;
    r->fold = was ? r->fold : 0;
    put_text(r, groups[k].out);
    r->depth++;
    AQ_TRY(read_expression(r, groups[k].is_assertion, out));
    r->depth--;
    r->caseless = was;
    if (!aq_regex_take(r, ")"))
        return aq_regex_refuse(r, "a group without an end: ) expected");
    put_text(r, ")");
    out->is_group = 1;
    out->is_assertion = groups[k].is_assertion;
    out->may_be_empty |= out->is_assertion;
    return AQ_OK;
}

static aq_status read_part(aq_regex_reader *r, part *out) {
    static const char marks[] = ".^$";
    uint32_t c;
    *out = (part){0};
    if (aq_regex_take(r, "("))
        return read_group(r, out);
    if (aq_regex_take(r, "["))
        return aq_regex_set(r);
    if (aq_regex_take(r, "\\"))
        return aq_regex_escaped(r);
    AQ_TRY(aq_regex_char(r, &c));
    if (c < 0x80 && strchr(marks, (int)c) && c) {
        if (r->caseless)
            return aq_regex_refuse(r, ". ^ and $ inside (?i: ) are not supported");
        aq_regex_put(r, "%c", (int)c);
        out->is_assertion = out->may_be_empty = c != '.';
        return AQ_OK;
    }
    if (c < 0x80 && c && strchr("*+?{", (int)c)) {
        r->at--;
        return aq_regex_refuse(r, "a quantifier without anything to repeat, or behind a quantifier");
    }
    AQ_TRY(aq_regex_fold(r, c));
    aq_regex_put(r, "\\x{%X}", c);
    return AQ_OK;
}

/* ---- quantifiers ---- */

static int take_number(aq_regex_reader *r, uint32_t *out) {
    uint32_t n = 0, k = 0;
    for (; aq_regex_peek(r, 0) >= '0' && aq_regex_peek(r, 0) <= '9' && k < 5; k++, r->at++)
        n = n * 10 + (uint32_t)(aq_regex_peek(r, 0) - '0');
    *out = n;
    return k > 0;
}

static aq_status take_counts(aq_regex_reader *r, uint32_t *least, uint32_t *most) {
    int good = take_number(r, least);
    *most = *least;
    if (good && aq_regex_take(r, ",") && aq_regex_peek(r, 0) != '}')
        good = take_number(r, most);
    else if (good && r->in.s[r->at - 1] == ',')
        *most = UINT32_MAX;
    if (!good || !aq_regex_take(r, "}") || *most < *least || *least > MOST_REPEATS || (*most > MOST_REPEATS && *most != UINT32_MAX))
        return aq_regex_refuse(r, "{n}, {n,} or {n,m} of numbers up to 1000 expected, or \\{");
    return AQ_OK;
}

static aq_status read_quantifier(aq_regex_reader *r, const part *p, uint32_t *least, uint32_t *most) {
    uint32_t from = r->at;
    int braces = 0;
    *least = *most = 1;
    if (aq_regex_take(r, "?"))
        *least = 0;
    else if (aq_regex_take(r, "*"))
        *least = 0, *most = UINT32_MAX;
    else if (aq_regex_take(r, "+"))
        *most = UINT32_MAX;
    else if ((braces = aq_regex_take(r, "{")))
        AQ_TRY(take_counts(r, least, most));
    else
        return AQ_OK;
    if (p->is_assertion || (p->may_be_empty && *most > 1))
        return aq_regex_refuse(r, "what may be empty is repeated: not supported");
    if (aq_regex_peek(r, 0) == '+' && braces)
        return aq_regex_refuse(r, "+ behind {} is not supported");
    if (aq_regex_peek(r, 0) == '?' && braces && *least == *most)
        return aq_regex_refuse(r, "? behind {n} is not supported");
    if (!aq_regex_take(r, "?"))
        aq_regex_take(r, "+");
    aq_regex_put(r, "%.*s", (int)(r->at - from), r->in.s + from);
    return AQ_OK;
}

/* ---- sequences ---- */

static int sequence_ends(const aq_regex_reader *r) { return at_end(r) || aq_regex_peek(r, 0) == '|' || aq_regex_peek(r, 0) == ')'; }

static aq_status read_sequence(aq_regex_reader *r, int *may_be_empty) {
    *may_be_empty = 1;
    while (!sequence_ends(r)) {
        part p;
        uint32_t least, most;
        AQ_TRY(read_part(r, &p));
        AQ_TRY(read_quantifier(r, &p, &least, &most));
        *may_be_empty &= p.may_be_empty || least == 0;
        int varies = least != most, is_last = r->depth == 0 && sequence_ends(r);
        if (is_last || p.is_assertion)
            continue;
        r->steps += varies ? STEPS_UNCOUNTED / 4 : 1;
        if ((varies && (p.is_group || most > 1)) || most >= STEPS_UNCOUNTED || r->steps >= STEPS_UNCOUNTED)
            put_count(r);
    }
    return AQ_OK;
}

/* A match that has gone far and comes back here says so before it goes far again. */
static aq_status read_expression(aq_regex_reader *r, int is_assertion, part *out) {
    *out = (part){0};
    for (int first = 1;; first = 0) {
        uint32_t from = r->n, counts = r->counts;
        int may_be_empty;
        AQ_TRY(read_sequence(r, &may_be_empty));
        out->may_be_empty |= may_be_empty;
        if (r->counts > counts && (is_assertion || !first))
            put_count_at(r, from);
        if (r->depth && !is_assertion)
            put_count(r);
        if (!aq_regex_take(r, "|"))
            return AQ_OK;
        r->fold = 0;
        put_text(r, "|");
    }
}

aq_status aq_regex_read(aq_arena *arena, const char *place, aq_bytes pattern, aq_bytes *out) {
    aq_regex_reader r = {.place = place, .in = pattern};
    part whole;
    if (pattern.n == 0 || pattern.n > AQ_PATTERN_LIMIT)
        return aq_refuse(AQ_WHY_TOKENIZER_PATTERN_SIZE, place, "a pattern of %u bytes: 1 to %u expected", pattern.n, AQ_PATTERN_LIMIT);
    AQ_ALLOC(arena, r.out, AQ_REGEX_ROOM);
    AQ_TRY(read_expression(&r, 0, &whole));
    if (!at_end(&r))
        return aq_regex_refuse(&r, "a ) without its (");
    if (r.n == AQ_REGEX_ROOM - 1)
        return aq_regex_refuse(&r, "too many classes: a shorter expression expected");
    *out = (aq_bytes){r.out, r.n};
    return AQ_OK;
}
