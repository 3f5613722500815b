/* build_scores.c: SentencePiece's BPE has no list of merges: any two neighbours whose joined text is a piece may merge, the piece of the
 * highest score first, then the leftmost. Here those pairs are written out once, so that encoding asks for a pair of ids and never for a
 * text: for each piece every way to cut it in two parts that are pieces or single characters. Ranks are the pieces in the order of their
 * scores. Pieces of equal score share the rank of the first, which then stands for no one id (merge_long.c).
 *
 * Cost: two look-ups a cut: 30 ms for the 32000 pieces of Llama 2, which have 5 cuts each and give about 60000 pairs. */
#include "frontend/reasons.h"
#include "frontend/tokenizer/internal.h"

#include "ir/memory.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* All cuts of a piece cost the square of its length; this is a second of work, the largest vocabularies in use need a hundredth. */
enum { MOST_WORK = 1 << 30 };

typedef struct piece {
    float score;
    uint32_t id;
} piece;

static int higher_score(const void *a, const void *b) {
    const piece *x = a, *y = b;
    return x->score != y->score ? (x->score < y->score) - (x->score > y->score) : (x->id > y->id) - (x->id < y->id);
}

/* The symbol of a text, AQ_NO_ID if it is none. */
static uint32_t symbol_of(const aq_tokenizer *t, const char *s, size_t n) {
    uint32_t symbol;
    if (aq_spm_symbol(t, s, n, &symbol) == n)
        return symbol;
    return aq_piece_find(t, aq_piece_hash(s, n), s, n);
}

/* Appends the cuts of one piece to pairs, which has room. */
static uint32_t cut(const aq_tokenizer *t, uint32_t rank, uint32_t id, aq_merge_slot *pairs) {
    aq_bytes text = t->text[id];
    uint32_t n = 0;
    for (uint32_t i = 1; i < text.n; i++) {
        if (((uint8_t)text.s[i] & 0xC0) == 0x80)
            continue;
        uint32_t left = symbol_of(t, text.s, i);
        uint32_t right = left == AQ_NO_ID ? left : symbol_of(t, text.s + i, text.n - i);
        if (right != AQ_NO_ID)
            pairs[n++] = (aq_merge_slot){left, right, rank, id};
    }
    return n;
}

static int is_piece(const aq_tokenizer *t, uint32_t id) {
    aq_bytes text = t->text[id];
    return text.n && !(t->flags[id] & AQ_TOKEN_BYTE) && t->whole[id] != AQ_WHOLE_NO;
}

static aq_status list_pieces(const aq_tokenizer *t, const aq_tokenizer_source *s, piece *pieces, uint32_t *out_n, size_t *out_cuts) {
    uint64_t work = 0;
    *out_n = 0;
    *out_cuts = 0;
    for (uint32_t i = 0; i < s->n_vocab; i++) {
        if (!is_piece(t, i))
            continue;
        if (isnan(s->scores[i]))
            return aq_refuse(AQ_WHY_TOKENIZER_SCORE, s->place, "the score of token %u is no number: expected one", i);
        work += (uint64_t)t->text[i].n * t->text[i].n;
        if (work > MOST_WORK)
            return aq_refuse(AQ_WHY_TOKENIZER_LONG, s->place, "the tokens up to %u are too long: expected words", i);
        *out_cuts += t->text[i].n - 1;
        pieces[(*out_n)++] = (piece){s->scores[i], i};
    }
    qsort(pieces, *out_n, sizeof *pieces, higher_score);
    return AQ_OK;
}

static uint32_t cut_all(aq_tokenizer *t, const piece *pieces, uint32_t n, aq_merge_slot *pairs) {
    uint32_t n_pairs = 0, rank = 0;
    for (uint32_t i = 0; i < n; i++) {
        int ties = i && pieces[i].score == pieces[i - 1].score;
        rank = ties ? rank : i;
        uint32_t found = cut(t, rank, pieces[i].id, pairs + n_pairs);
        n_pairs += found;
    }
    return n_pairs;
}

/* What a rank makes; only pairs count, so single characters of the same score are no tie. */
static void name_ranks(aq_tokenizer *t, const aq_merge_slot *pairs, uint32_t n) {
    memset(t->rank_id, 0xFF, t->n_ranks * sizeof *t->rank_id);
    for (uint32_t i = 0; i < n; i++)
        if (i && pairs[i].rank == pairs[i - 1].rank && pairs[i].id != pairs[i - 1].id) {
            t->rank_id[pairs[i].rank] = AQ_NO_ID;
            t->has_ties = 1;
        } else if (!i || pairs[i].rank != pairs[i - 1].rank) {
            t->rank_id[pairs[i].rank] = pairs[i].id;
        }
}

static aq_status put_all(aq_tokenizer *t, const aq_tokenizer_source *s, const piece *pieces, uint32_t n, size_t cuts) {
    void *block;
    size_t size;
    AQ_TRY(aq_size_mul(cuts, sizeof(aq_merge_slot), "vocabulary", &size));
    AQ_TRY(aq_mem_alloc(size, &block));
    const aq_merge_slot *pairs = block;
    uint32_t n_pairs = cut_all(t, pieces, n, block);
    aq_status status = aq_merges_open(t, n_pairs, n);
    if (status == AQ_OK)
        name_ranks(t, pairs, n_pairs);
    for (uint32_t i = 0; i < n_pairs && status == AQ_OK; i++)
        status = aq_merges_put(t, s->place, pairs[i]);
    aq_mem_free(block);
    return status;
}

aq_status aq_merges_of_scores(aq_tokenizer *t, const aq_tokenizer_source *s) {
    void *block;
    size_t size, cuts;
    uint32_t n;
    AQ_TRY(aq_size_mul(s->n_vocab, sizeof(piece), "vocabulary", &size));
    AQ_TRY(aq_mem_alloc(size, &block));
    aq_status status = list_pieces(t, s, block, &n, &cuts);
    if (status == AQ_OK)
        status = put_all(t, s, block, n, cuts);
    aq_mem_free(block);
    return status;
}
