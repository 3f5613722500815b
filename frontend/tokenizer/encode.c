/* encode.c: text to ids: added tokens, the normalizer of SPM, pieces, then the vocabulary or merges.
 *
 * Most pieces of real text are a token as they stand. Whether BPE would really give that token (a vocabulary may hold tokens that no
 * order of merges reaches) is found out by running the merges when it is first met, and remembered per token: the vocabulary is its
 * own cache, bounded, shared by all threads. */
#include "frontend/tokenizer/internal.h"

#include "ir/memory.h"

#include <string.h>

static aq_status ids_reserve(aq_ids *ids, size_t more) {
    if (ids->room - ids->n >= more)
        return AQ_OK;
    size_t room, old_bytes = ids->room * sizeof *ids->at, bytes;
    AQ_TRY(aq_size_add(ids->n, more, "ids", &room));
    room += room / 2 + 64;
    AQ_TRY(aq_size_mul(room, sizeof *ids->at, "ids", &bytes));
    void *p = ids->at;
    AQ_TRY(aq_mem_resize(&p, old_bytes, bytes));
    ids->at = p;
    ids->room = room;
    return AQ_OK;
}

aq_status aq_ids_push(aq_ids *ids, int32_t id) {
    AQ_TRY(ids_reserve(ids, 1));
    ids->at[ids->n++] = id;
    return AQ_OK;
}

void aq_ids_close(aq_ids *ids) {
    aq_mem_free(ids->at);
    *ids = (aq_ids){0};
}

static size_t symbols_of(const aq_tokenizer *t, const char *piece, size_t n, uint32_t *ids) {
    if (t->kind == AQ_TOKENIZER_SPM)
        return aq_spm_symbols(t, piece, n, ids);
    return t->starts_from_chars ? aq_char_symbols(t, piece, n, ids) : aq_byte_symbols(t, piece, n, ids);
}

static aq_status append(const aq_tokenizer *t, aq_ids *out, const uint32_t *ids, size_t n) {
    if (t->from_scores)
        return aq_spm_append(t, ids, n, out);
    AQ_TRY(ids_reserve(out, n));
    if (n)
        memcpy(out->at + out->n, ids, n * sizeof *ids);
    out->n += n;
    return AQ_OK;
}

static aq_status encode_long(const aq_tokenizer *t, aq_merge_work *w, const char *piece, size_t n, aq_ids *out) {
    if (w->room < n) {
        aq_mem_free(w->ids);
        w->ids = NULL;
        w->room = 0;
        size_t bytes;
        void *p;
        AQ_TRY(aq_size_mul(n, sizeof *w->ids, "piece", &bytes));
        AQ_TRY(aq_mem_alloc(bytes, &p));
        w->ids = p;
        w->room = n;
    }
    size_t left = symbols_of(t, piece, n, w->ids);
    if (left <= AQ_SHORT_PIECE && !t->has_ties)
        left = aq_merge_short(t, w->ids, left);
    else
        AQ_TRY(aq_merge_long(t, w, w->ids, left, &left));
    return append(t, out, w->ids, left);
}

static aq_status encode_piece(const aq_tokenizer *t, aq_merge_work *w, const char *piece, size_t n, aq_ids *out) {
    uint32_t ids[AQ_SHORT_BYTES], found = AQ_NO_ID;
    uint8_t whole = AQ_WHOLE_NO;
    if (n <= t->longest)
        found = aq_piece_find(t, aq_piece_hash(piece, n), piece, n);
    if (found != AQ_NO_ID) {
        whole = __atomic_load_n(&t->whole[found], __ATOMIC_RELAXED);
        if (whole == AQ_WHOLE_YES)
            return aq_ids_push(out, (int32_t)found);
    }
    if (n > AQ_SHORT_BYTES)
        return encode_long(t, w, piece, n, out);
    size_t left = symbols_of(t, piece, n, ids);
    if (left > AQ_SHORT_PIECE || t->has_ties)
        AQ_TRY(aq_merge_long(t, w, ids, left, &left));
    else
        left = aq_merge_short(t, ids, left);
    if (whole == AQ_WHOLE_UNKNOWN) {
        whole = left == 1 && ids[0] == found ? AQ_WHOLE_YES : AQ_WHOLE_NO;
        __atomic_store_n(&t->whole[found], whole, __ATOMIC_RELAXED);
    }
    return append(t, out, ids, left);
}

/* What aq_splits_run hands its pieces to. */
typedef struct sink {
    const aq_tokenizer *t;
    aq_merge_work *work;
    aq_ids *out;
} sink;

static aq_status take_piece(void *taker, const char *s, size_t n) {
    const sink *to = taker;
    return encode_piece(to->t, to->work, s, n, to->out);
}

static aq_status encode_pieces(const aq_tokenizer *t, aq_merge_work *w, const char *text, size_t n, aq_ids *out) {
    sink to = {t, w, out};
    if (t->pre == AQ_PRE_SPLITS)
        return aq_splits_run(t, &w->regex, text, n, take_piece, &to);
    for (size_t at = 0; at < n;) {
        size_t end = t->kind == AQ_TOKENIZER_SPM ? aq_spm_next(t, text, n, at) : aq_pretokenize_next(t->pre, t, text, n, at);
        AQ_TRY(encode_piece(t, w, text + at, end - at, out));
        at = end;
    }
    return AQ_OK;
}

static int wants_prefix(const aq_tokenizer *t, const char *text, size_t n, int is_first) {
    if (t->add_prefix_space == AQ_PREFIX_NONE || n == 0)
        return 0;
    int has_space = text[0] == ' ' || (t->kind == AQ_TOKENIZER_SPM && n >= 3 && aq_spm_has_mark(text, 3));
    return t->add_prefix_space == AQ_PREFIX_ALWAYS || (!has_space && (is_first || t->add_prefix_space != AQ_PREFIX_FIRST));
}

/* A stretch without added tokens. */
static aq_status encode_segment(const aq_tokenizer *t, aq_merge_work *w, const aq_added_where *where, const char *text, size_t n,
                                aq_ids *out) {
    int prefix = !t->normalizes && wants_prefix(t, text, n, text == where->base);
    if (!prefix && (t->kind != AQ_TOKENIZER_SPM || t->normalizes || !aq_spm_has_mark(text, n)))
        return encode_pieces(t, w, text, n, out);
    void *copy;
    size_t size;
    AQ_TRY(aq_size_add(n, 1, "text", &size));
    AQ_TRY(aq_mem_alloc(size, &copy));
    char *at = copy;
    if (prefix)
        *at++ = ' ';
    if (t->kind == AQ_TOKENIZER_SPM)
        n = aq_spm_copy(text, n, at);
    else
        memcpy(at, text, n);
    aq_status status = encode_pieces(t, w, copy, n + (size_t)prefix, out);
    aq_mem_free(copy);
    return status;
}

static aq_status encode_spans(const aq_tokenizer *t, aq_merge_work *w, int which, const aq_added_where *where, const char *text, size_t n,
                              aq_ids *out);

/* The normalizer's turn: what it makes is the text for all that follows. */
static aq_status encode_normalized(const aq_tokenizer *t, aq_merge_work *w, const aq_added_where *where, const char *text, size_t n,
                                   aq_ids *out) {
    int prefix = wants_prefix(t, text, n, text == where->base);
    if (!prefix && !aq_spm_has_mark(text, n))
        return encode_spans(t, w, 2, where, text, n, out);
    aq_added_where inside;
    char *copy;
    size_t length;
    AQ_TRY(aq_spm_normalize(text, n, prefix, where, &copy, &length, &inside));
    aq_status status = encode_spans(t, w, 2, &inside, copy, length, out);
    aq_mem_free((void *)(uintptr_t)inside.open); /* the block begins with it */
    return status;
}

/* Steps from `which` on: 0: added tokens that are not `normalized`; 1: the normalizer; 2: the other added tokens; 3: the text between. */
static aq_status encode_spans(const aq_tokenizer *t, aq_merge_work *w, int which, const aq_added_where *where, const char *text, size_t n,
                              aq_ids *out) {
    if (which == 3)
        return encode_segment(t, w, where, text, n, out);
    if (which == 1)
        return t->normalizes ? encode_normalized(t, w, where, text, n, out) : encode_spans(t, w, 2, where, text, n, out);
    if (t->trie[which / 2].n_tokens == 0 || where->n_open == 0)
        return encode_spans(t, w, which + 1, where, text, n, out);
    aq_added_walk walk = {0};
    for (aq_added_span span; aq_added_next(t, which / 2, where, text, n, &walk, &span);) {
        if (span.id >= 0)
            AQ_TRY(aq_ids_push(out, span.id));
        else
            AQ_TRY(encode_spans(t, w, which + 1, where, text + span.start, span.end - span.start, out));
    }
    return AQ_OK;
}

aq_status aq_tokenizer_encode_open(const aq_tokenizer *t, const char *text, size_t n, const aq_open_text *open, uint32_t n_open,
                                   aq_ids *ids) {
    aq_merge_work work = {0};
    aq_added_where where = {text, open, n_open};
    size_t before = ids->n;
    aq_status status = encode_spans(t, &work, 0, &where, text, n, ids);
    aq_regex_end(&work.regex);
    aq_merge_work_close(&work);
    if (status != AQ_OK)
        ids->n = before;
    return status;
}

aq_status aq_tokenizer_encode(const aq_tokenizer *t, const char *text, size_t n, int match_special, aq_ids *ids) {
    const aq_open_text all = {0, n};
    return aq_tokenizer_encode_open(t, text, n, &all, match_special ? 1 : 0, ids);
}
