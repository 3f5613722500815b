/* encode.c: text to ids: added tokens, then pieces, then the vocabulary or merges.
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

/* The bytes of a piece as ids. A byte the vocabulary lacks is left out, as Hugging Face does, or becomes unk. */
static size_t first_ids(const aq_tokenizer *t, const char *piece, size_t n, uint32_t *ids) {
    size_t count = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t id = t->byte_id[(uint8_t)piece[i]];
        ids[count] = id == AQ_NO_ID && t->unk_bytes ? (uint32_t)t->unk : id;
        count += ids[count] != AQ_NO_ID;
    }
    return count;
}

static aq_status append(aq_ids *out, const uint32_t *ids, size_t n) {
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
    size_t left = first_ids(t, piece, n, w->ids);
    if (left <= AQ_SHORT_PIECE)
        left = aq_merge_short(t, w->ids, left);
    else
        AQ_TRY(aq_merge_long(t, w, w->ids, left, &left));
    return append(out, w->ids, left);
}

static aq_status encode_piece(const aq_tokenizer *t, aq_merge_work *w, const char *piece, size_t n, aq_ids *out) {
    if (n > AQ_SHORT_PIECE)
        return encode_long(t, w, piece, n, out);
    uint32_t found = aq_piece_find(t, aq_piece_hash(piece, n), piece, n);
    uint8_t whole = AQ_WHOLE_NO;
    if (found != AQ_NO_ID) {
        whole = __atomic_load_n(&t->whole[found], __ATOMIC_RELAXED);
        if (whole == AQ_WHOLE_YES)
            return aq_ids_push(out, (int32_t)found);
    }
    uint32_t ids[AQ_SHORT_PIECE];
    size_t left = aq_merge_short(t, ids, first_ids(t, piece, n, ids));
    if (whole == AQ_WHOLE_UNKNOWN) {
        whole = left == 1 && ids[0] == found ? AQ_WHOLE_YES : AQ_WHOLE_NO;
        __atomic_store_n(&t->whole[found], whole, __ATOMIC_RELAXED);
    }
    return append(out, ids, left);
}

static aq_status encode_pieces(const aq_tokenizer *t, aq_merge_work *w, const char *text, size_t n, aq_ids *out) {
    for (size_t at = 0; at < n;) {
        size_t end = aq_pretokenize_next(t->pre, text, n, at);
        AQ_TRY(encode_piece(t, w, text + at, end - at, out));
        at = end;
    }
    return AQ_OK;
}

/* A stretch without added tokens. */
static aq_status encode_segment(const aq_tokenizer *t, aq_merge_work *w, const char *text, size_t n, aq_ids *out) {
    if (n == 0 || !t->add_prefix_space || text[0] == ' ')
        return encode_pieces(t, w, text, n, out);
    void *copy;
    size_t size;
    AQ_TRY(aq_size_add(n, 1, "text", &size));
    AQ_TRY(aq_mem_alloc(size, &copy));
    *(char *)copy = ' ';
    memcpy((char *)copy + 1, text, n);
    aq_status status = encode_pieces(t, w, copy, size, out);
    aq_mem_free(copy);
    return status;
}

/* The rounds of added tokens from `which` on. */
static aq_status encode_spans(const aq_tokenizer *t, aq_merge_work *w, int which, const aq_added_where *where, const char *text, size_t n,
                              aq_ids *out) {
    if (which == 2)
        return encode_segment(t, w, text, n, out);
    if (t->trie[which].n_tokens == 0)
        return encode_spans(t, w, which + 1, where, text, n, out);
    aq_added_walk walk = {0};
    for (aq_added_span span; aq_added_next(t, which, where, text, n, &walk, &span);) {
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
    aq_status status = encode_spans(t, &work, n_open ? 0 : 2, &where, text, n, ids);
    aq_merge_work_close(&work);
    if (status != AQ_OK)
        ids->n = before;
    return status;
}

aq_status aq_tokenizer_encode(const aq_tokenizer *t, const char *text, size_t n, int match_special, aq_ids *ids) {
    const aq_open_text all = {0, n};
    return aq_tokenizer_encode_open(t, text, n, &all, match_special ? 1 : 0, ids);
}
