/* splits.c: text -> pieces by a list of steps, each of which cuts the pieces of the one before: what Hugging Face calls a Sequence of pre-tokenizers.
 *
 * A step finds matches in a piece, which is a whole text to it, and makes pieces of them and of what lies between as its behaviour says. Steps whose
 * pattern is GPT-2's or Llama 3's run by hand (pretokenize.c), the others by PCRE2 (regex.c). A byte that is no UTF-8 is U+001A to a pattern: one
 * byte, and neither letter, number, mark nor space. Behind the step ALPHABET a piece is seen in GPT-2's printable alphabet, a character for
 * each byte, as Falcon's steps behind ByteLevel see it.
 *
 * Pieces go on to the next step one by one, the text need not be held twice. Cost: 0.1 to 0.2 us a match and step. */
#include "frontend/reasons.h"
#include "frontend/tokenizer/internal.h"

#include "ir/memory.h"

#include <string.h>

/* ---- building ---- */

/* Rust's char::is_numeric; and the marks of the crate unicode_categories, which stopped at Unicode 8, with ASCII's. */
#define DIGITS "[\\p{N}\\x{11DE0}-\\x{11DE9}\\x{16FF4}-\\x{16FF6}]"
#define PUNCTUATION                                                                                                                                \
    "[\\p{P}$+<=>\\^`|~\\x{166D}\\x{111C9}](?<![\\x{61D}\\x{9FD}-\\x{A76}\\x{C77}-\\x{C84}\\x{1B4E}\\x{1B4F}\\x{1B7D}-\\x{1B7F}\\x{2E43}-\\x{2E5D}"       \
    "\\x{10D6E}-\\x{10F89}\\x{113D4}-\\x{1145D}\\x{11660}-\\x{116B9}\\x{1183B}-\\x{11FFF}\\x{12FF1}-\\x{12FF2}\\x{16D6D}-\\x{16FE2}\\x{1E5FF}-\\x{1E95F}])"

static int same(aq_bytes a, const char *text) { return a.n == strlen(text) && memcmp(a.s, text, a.n) == 0; }

/* A text as a pattern: every mark behind a backslash. */
static aq_status quote(aq_arena *arena, const char *place, aq_bytes text, aq_bytes *out) {
    char *s;
    uint32_t n = 0;
    if (text.n > AQ_PATTERN_LIMIT)
        return aq_regex_read(arena, place, text, out); /* refuses it */
    AQ_ALLOC(arena, s, (size_t)text.n * 2);
    for (uint32_t i = 0; i < text.n; i++) {
        if (strchr("\\^$.[]()|?*+{}", text.s[i]))
            s[n++] = '\\';
        s[n++] = text.s[i];
    }
    *out = (aq_bytes){s, n};
    return AQ_OK;
}

static aq_status build_step(aq_arena *scratch, const char *place, const aq_split *split, aq_step *out) {
    aq_bytes pattern = split->pattern, text;
    if (split->kind == AQ_SPLIT_ALPHABET)
        return AQ_OK;
    if (split->kind == AQ_SPLIT_DIGITS)
        pattern = (aq_bytes){DIGITS, sizeof DIGITS - 1};
    else if (split->kind == AQ_SPLIT_PUNCTUATION)
        pattern = (aq_bytes){PUNCTUATION, sizeof PUNCTUATION - 1};
    else if (split->kind == AQ_SPLIT_TEXT)
        AQ_TRY(quote(scratch, place, split->pattern, &pattern));
    else if (split->behavior == AQ_ISOLATED && !split->invert && (same(pattern, AQ_GPT2_PATTERN) || same(pattern, AQ_LLAMA3_PATTERN))) {
        out->by_hand = 1;
        out->pre = same(pattern, AQ_GPT2_PATTERN) ? AQ_PRE_GPT2 : AQ_PRE_LLAMA3;
        return AQ_OK;
    }
    AQ_TRY(aq_regex_read(scratch, place, pattern, &text));
    return aq_regex_open(place, pattern, text, &out->regex);
}

aq_status aq_splits_build(aq_tokenizer *t, const aq_tokenizer_source *s) {
    aq_status status = AQ_OK;
    if (s->n_splits > AQ_SPLIT_LIMIT)
        return aq_refuse(AQ_WHY_TOKENIZER_SPLITS, s->place, "%u steps of pre_tokenizer: at most %u expected", s->n_splits, AQ_SPLIT_LIMIT);
    AQ_ALLOC(&t->arena, t->steps, s->n_splits);
    t->n_steps = s->n_splits;
    aq_arena scratch = {0};
    for (uint32_t i = 0; i < s->n_splits && status == AQ_OK; i++) {
        aq_step *step = &t->steps[i];
        step->kind = s->splits[i].kind;
        step->behavior = s->splits[i].behavior;
        step->invert = s->splits[i].invert;
        status = build_step(&scratch, s->place, &s->splits[i], step);
    }
    aq_arena_close(&scratch);
    return status;
}

void aq_splits_close(aq_tokenizer *t) {
    for (uint32_t i = 0; t->steps && i < t->n_steps; i++)
        aq_regex_close(t->steps[i].regex);
}

/* ---- one text ---- */

typedef struct run {
    const aq_tokenizer *t;
    aq_regex_work *work;
    const char *text, *seen; /* the text as it is, and as patterns see it, of the same length */
    int in_alphabet;
    aq_piece_taker *take;
    void *taker;
} run;

/* The piece that waits for what comes behind it. */
typedef struct fold {
    size_t start, end;
    int has, is_match;
} fold;

static aq_status run_steps(const run *r, uint32_t k, size_t start, size_t end);

/* In the alphabet: what the piece is in bytes. */
static aq_status give(const run *r, size_t start, size_t end) {
    const char *s = r->text + start;
    if (!r->in_alphabet)
        return r->take(r->taker, s, end - start);
    void *bytes;
    AQ_TRY(aq_mem_alloc(end - start, &bytes));
    int64_t n = aq_alphabet_to_bytes(s, end - start, bytes);
    aq_status status = r->take(r->taker, bytes, (size_t)n);
    aq_mem_free(bytes);
    return status;
}

static aq_status to_alphabet(const run *r, uint32_t k, size_t start, size_t end) {
    void *block;
    size_t room;
    AQ_TRY(aq_size_mul(end - start, 2, "piece", &room));
    AQ_TRY(aq_mem_alloc(room, &block));
    size_t n = 0;
    for (size_t i = start; i < end; i++)
        n += (size_t)aq_alphabet_of_byte((uint8_t)r->text[i], (char *)block + n);
    run inside = *r;
    inside.text = inside.seen = block;
    inside.in_alphabet = 1;
    aq_status status = run_steps(&inside, k + 1, 0, n);
    aq_mem_free(block);
    return status;
}

static aq_status flush(const run *r, uint32_t k, fold *f) {
    int is_piece = f->has && f->start < f->end;
    f->has = 0;
    return is_piece ? run_steps(r, k + 1, f->start, f->end) : AQ_OK;
}

/* A match, or what lies before one: by the rules of Hugging Face's SplitDelimiterBehavior. */
static aq_status add(const run *r, uint32_t k, fold *f, size_t start, size_t end, int is_match) {
    const aq_step *step = &r->t->steps[k];
    int joins = 0;
    is_match ^= step->invert;
    switch (step->behavior) {
    case AQ_REMOVED:
        if (is_match)
            return AQ_OK;
        break;
    case AQ_CONTIGUOUS: joins = f->has && f->is_match == is_match; break;
    case AQ_MERGED_WITH_PREVIOUS: joins = f->has && is_match && !f->is_match; break;
    case AQ_MERGED_WITH_NEXT: joins = f->has && !is_match && f->is_match; break;
    default: break;
    }
    if (!joins) {
        AQ_TRY(flush(r, k, f));
        f->start = start;
    }
    f->end = end;
    f->has = 1;
    f->is_match = is_match;
    return AQ_OK;
}

static size_t char_length(const char *s, size_t n) {
    uint32_t c;
    int length = n ? aq_utf8_decode(s, n, &c) : 0;
    return length ? (size_t)length : 1;
}

/* The matches, as rust-onig's find_iter goes through them: an empty match that touches the one before does not count. */
static aq_status run_regex(const run *r, uint32_t k, const char *s, size_t base, size_t n) {
    const aq_step *step = &r->t->steps[k];
    fold f = {0};
    size_t from = 0, done = 0;
    int has_match = 0;
    while (from <= n) {
        size_t start = from, end = 0;
        int found;
        AQ_TRY(aq_regex_find(step->regex, r->t->place, r->work, s, n, &start, &end, &found));
        if (!found)
            break;
        if (start == end && has_match && end == done) {
            from += char_length(s + from, n - from);
            continue;
        }
        if (start > done)
            AQ_TRY(add(r, k, &f, base + done, base + start, 0));
        AQ_TRY(add(r, k, &f, base + start, base + end, 1));
        has_match = 1;
        from = done = end;
    }
    if (done < n)
        AQ_TRY(add(r, k, &f, base + done, base + n, 0));
    return flush(r, k, &f);
}

static aq_status run_steps(const run *r, uint32_t k, size_t start, size_t end) {
    if (k == r->t->n_steps)
        return give(r, start, end);
    const aq_step *step = &r->t->steps[k];
    if (step->kind == AQ_SPLIT_ALPHABET)
        return to_alphabet(r, k, start, end);
    if (!step->by_hand)
        return run_regex(r, k, r->seen + start, start, end - start);
    const char *s = r->text + start;
    for (size_t n = end - start, at = 0; at < n;) {
        size_t next = aq_pretokenize_next(step->pre, r->t, s, n, at);
        AQ_TRY(run_steps(r, k + 1, start + at, start + next));
        at = next;
    }
    return AQ_OK;
}

/* *out: NULL if the text is UTF-8, else a copy with U+001A for every byte that is not. */
static aq_status make_valid(const char *text, size_t n, char **out) {
    char *copy = NULL;
    uint32_t c;
    *out = NULL;
    for (size_t i = 0; i < n;) {
        if ((uint8_t)text[i] < 0x80) {
            i++;
            continue;
        }
        int length = aq_utf8_decode(text + i, n - i, &c);
        if (!length && !copy) {
            void *block;
            AQ_TRY(aq_mem_alloc(n, &block));
            *out = copy = memcpy(block, text, n);
        }
        if (!length)
            copy[i] = 0x1A;
        i += length ? (size_t)length : 1;
    }
    return AQ_OK;
}

aq_status aq_splits_run(const aq_tokenizer *t, aq_regex_work *work, const char *text, size_t n, aq_piece_taker *take, void *taker) {
    char *valid;
    AQ_TRY(aq_regex_begin(work, n));
    AQ_TRY(make_valid(text, n, &valid));
    const run r = {.t = t, .work = work, .text = text, .seen = valid ? valid : text, .take = take, .taker = taker};
    aq_status status = n ? run_steps(&r, 0, 0, n) : AQ_OK;
    aq_mem_free(valid);
    return status;
}
