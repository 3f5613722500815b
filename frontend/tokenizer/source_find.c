/* source_find.c: the texts that the files of a tokenizer have named so far, by their hash: the vocabulary, which is complete before anything is
 * looked up, and the added tokens, which become more. Files may name hundred thousands of both; looking through lists took the square of that. */
#include "frontend/reasons.h"
#include "frontend/tokenizer/internal.h"

#include <string.h>

enum { MOST_PROBES = 1000 };

static aq_bytes text_at(const aq_source_reader *r, const aq_text_index *index, uint32_t i) {
    return index == &r->by_added ? r->added.at[i].text : r->out->vocab[i];
}

/* The slot of a text, or the empty one where it would go; the index has room. */
static aq_status find_slot(const aq_source_reader *r, const aq_text_index *index, aq_bytes text, uint32_t **out) {
    uint32_t hash = aq_piece_hash(text.s, text.n);
    for (uint32_t probes = 0; probes < MOST_PROBES; probes++) {
        uint32_t *slot = &index->slots[(hash + probes) & (index->size - 1)];
        *out = slot;
        if (!*slot)
            return AQ_OK;
        aq_bytes other = text_at(r, index, *slot - 1);
        if (other.n == text.n && memcmp(other.s, text.s, text.n) == 0)
            return AQ_OK;
    }
    return aq_tokenizer_refuse_collisions(r->place, "texts");
}

/* Makes room for n entries of which the first `have` are to be in it. Of a text that is there twice the first counts. */
static aq_status reserve(aq_source_reader *r, aq_text_index *index, uint32_t n, uint32_t have) {
    if (index->size / 2 >= n)
        return AQ_OK;
    index->size = index->size ? index->size : 64;
    while (index->size / 2 < n)
        index->size *= 2;
    AQ_ALLOC(r->arena, index->slots, index->size);
    for (uint32_t i = 0; i < have; i++) {
        uint32_t *slot;
        aq_bytes text = text_at(r, index, i);
        if (!text.n)
            continue;
        AQ_TRY(find_slot(r, index, text, &slot));
        *slot = *slot ? *slot : i + 1;
    }
    return AQ_OK;
}

/* The added token of that text: its index, -1 if there is none. */
static aq_status find_added(aq_source_reader *r, aq_bytes text, int64_t *out) {
    uint32_t *slot;
    if (r->by_added.used > r->added.n) /* cannot be: tokens are never taken away */
        r->by_added = (aq_text_index){0};
    AQ_TRY(reserve(r, &r->by_added, r->added.n + 1, r->by_added.used));
    for (; r->by_added.used < r->added.n; r->by_added.used++) {
        AQ_TRY(find_slot(r, &r->by_added, r->added.at[r->by_added.used].text, &slot));
        *slot = *slot ? *slot : r->by_added.used + 1;
    }
    AQ_TRY(find_slot(r, &r->by_added, text, &slot));
    *out = (int64_t)*slot - 1;
    return AQ_OK;
}

aq_status aq_source_find(aq_source_reader *r, aq_bytes text, int32_t *out) {
    int64_t added;
    uint32_t *slot;
    AQ_TRY(find_added(r, text, &added));
    *out = added >= 0 ? r->added.at[added].id : -1;
    if (added >= 0 || !text.n || !r->out->n_vocab)
        return AQ_OK;
    AQ_TRY(reserve(r, &r->by_vocab, r->out->n_vocab, r->out->n_vocab));
    AQ_TRY(find_slot(r, &r->by_vocab, text, &slot));
    *out = (int32_t)*slot - 1;
    return AQ_OK;
}

aq_status aq_source_add(aq_source_reader *r, aq_added_token token) {
    int64_t old;
    AQ_TRY(find_added(r, token.text, &old));
    if (old < 0) {
        AQ_PUSH(r->arena, &r->added, token);
        return AQ_OK;
    }
    if (r->added.at[old].id != token.id)
        return aq_refuse(AQ_WHY_TOKENIZER_ADDED_IDS, r->place, "added token \"%.*s\" has the ids %d and %d: one expected", (int)token.text.n,
                         token.text.s, r->added.at[old].id, token.id);
    r->added.at[old] = token;
    return AQ_OK;
}
