/* regex.c: regular expressions run by PCRE2, with what keeps a file's pattern from running for ever.
 *
 * regex_read.c writes the pattern; it holds (?C) where a match may go on in several ways, and count() adds up the steps between two of them, so the
 * work on a text has a bound that the machine's speed has no part in: AQ_REGEX_FREE steps, and AQ_REGEX_STEPS for each byte. Ordinary patterns take
 * less than three a byte. PCRE2's own limit of matches is one start's only, and its loops over single characters do not count there: dropped.
 * No JIT: a compiler fed by files of strangers, for code that runs on a megabyte at most. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "frontend/reasons.h"
#include "frontend/tokenizer/internal.h"

#include "ir/memory.h"

#include <pcre2.h>

enum { HEAP_KIB = 32 << 10, STOPPED = -1000 };

static void *take_memory(size_t size, void *unused) {
    void *p;
    (void)unused;
    return aq_mem_alloc(size, &p) == AQ_OK ? p : NULL;
}

static void give_memory(void *p, void *unused) {
    (void)unused;
    aq_mem_free(p);
}

/* ---- compiling ---- */

static aq_status refuse_compile(const char *place, aq_bytes pattern, int error) {
    PCRE2_UCHAR text[128] = "";
    pcre2_get_error_message(error, text, sizeof text);
    return aq_refuse(AQ_WHY_TOKENIZER_PATTERN_REFUSED, place, "regular expression \"%.*s\": PCRE2 refuses it: %s", (int)(pattern.n < 60 ? pattern.n : 60), pattern.s,
                     (const char *)text);
}

static aq_status compile(const char *place, aq_bytes pattern, aq_bytes text, pcre2_general_context *memory, pcre2_compile_context *context, void **out) {
    const uint32_t options = PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C | PCRE2_DOLLAR_ENDONLY;
    int error = 0;
    size_t where = 0, bytes = 0;
    if (!memory || !context)
        return aq_fail(AQ_NO_MEMORY, place, "no memory for a regular expression");
    pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    pcre2_set_parens_nest_limit(context, 64);
    *out = pcre2_compile((PCRE2_SPTR)text.s, text.n, options, &error, &where, context);
    if (!*out && error == PCRE2_ERROR_HEAP_FAILED)
        return aq_fail(AQ_NO_MEMORY, place, "no memory for a regular expression");
    if (!*out)
        return refuse_compile(place, pattern, error);
    (void)pcre2_pattern_info(*out, PCRE2_INFO_SIZE, &bytes);
    return AQ_OK;
}

aq_status aq_regex_open(const char *place, aq_bytes pattern, aq_bytes text, void **out) {
    pcre2_general_context *memory = pcre2_general_context_create(take_memory, give_memory, NULL);
    pcre2_compile_context *context = memory ? pcre2_compile_context_create(memory) : NULL;
    aq_status status = compile(place, pattern, text, memory, context, out);
    pcre2_compile_context_free(context);
    pcre2_general_context_free(memory);
    return status;
}

void aq_regex_close(void *regex) { pcre2_code_free(regex); }

/* ---- matching ---- */

/* What has been looked at between two places of a match: a step, and one for each 16 characters. */
static int count(pcre2_callout_block *b, void *p) {
    aq_regex_work *w = p;
    size_t last = b->start_match == w->start ? w->last : b->start_match, at = b->current_position, far = at > last ? at - last : last - at;
    w->start = b->start_match;
    w->last = at;
    w->steps += 1 + far / 16;
    return w->steps > w->most ? STOPPED : 0;
}

static aq_status open_work(aq_regex_work *w) {
    pcre2_general_context *memory = pcre2_general_context_create(take_memory, give_memory, NULL);
    if (memory) {
        w->context = pcre2_match_context_create(memory);
        w->data = pcre2_match_data_create(1, memory);
    }
    pcre2_general_context_free(memory);
    if (!w->context || !w->data)
        return aq_fail(AQ_NO_MEMORY, NULL, "no memory for a regular expression");
    pcre2_set_callout(w->context, count, w);
    pcre2_set_match_limit(w->context, UINT32_MAX);
    pcre2_set_depth_limit(w->context, UINT32_MAX);
    pcre2_set_heap_limit(w->context, HEAP_KIB);
    w->most = AQ_REGEX_FREE;
    return AQ_OK;
}

aq_status aq_regex_begin(aq_regex_work *w, size_t n) {
    if (!w->data)
        AQ_TRY(open_work(w));
    w->most += (uint64_t)n * AQ_REGEX_STEPS;
    return AQ_OK;
}

void aq_regex_end(aq_regex_work *w) {
    pcre2_match_data_free(w->data);
    pcre2_match_context_free(w->context);
    *w = (aq_regex_work){0};
}

aq_status aq_regex_find(const void *regex, const char *place, aq_regex_work *w, const char *s, size_t n, size_t *start, size_t *end, int *found) {
    w->last = w->start = *start;
    int rc = pcre2_match(regex, (PCRE2_SPTR)s, n, *start, PCRE2_NO_UTF_CHECK, w->data, w->context);
    *found = rc >= 0;
    if (rc == PCRE2_ERROR_NOMATCH)
        return AQ_OK;
    if (rc == PCRE2_ERROR_NOMEMORY)
        return aq_fail(AQ_NO_MEMORY, place, "no memory for a regular expression");
    if (rc < 0)
        return aq_refuse(AQ_WHY_TOKENIZER_PATTERN_WORK, place, "a regular expression of the pre-tokenizer takes too long on this text (%llu steps): an ordinary one, or a text "
                                                               "without such long runs, expected",
                         (unsigned long long)w->steps);
    const size_t *at = pcre2_get_ovector_pointer(w->data);
    *start = at[0];
    *end = at[1];
    return AQ_OK;
}
