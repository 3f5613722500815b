/* merge.c: byte-pair merges of one piece: always the pair of lowest rank, of equal ranks the leftmost, until none is left.
 *
 * Short pieces, which is nearly all of real text, keep the ranks of neighbouring pairs in an array that is scanned for each merge: n^2
 * steps of a few cycles for n <= AQ_SHORT_PIECE. A heap costs more there. merge_long.c takes the others. */
#include "frontend/tokenizer/internal.h"

#include "ir/memory.h"

#include <string.h>

uint32_t aq_piece_hash(const char *s, size_t n) {
    uint64_t h = n * 0x9E3779B97F4A7C15u, word;
    for (; n >= 8; s += 8, n -= 8) {
        memcpy(&word, s, 8);
        h = (h ^ word) * 0xD6E8FEB86659FD93u;
        h ^= h >> 32;
    }
    if (n) {
        word = 0;
        memcpy(&word, s, n);
        h = (h ^ word) * 0xD6E8FEB86659FD93u;
        h ^= h >> 32;
    }
    h *= 0xD6E8FEB86659FD93u;
    return (uint32_t)(h >> 32);
}

uint32_t aq_piece_find(const aq_tokenizer *t, uint32_t hash, const char *s, size_t n) {
    for (uint32_t i = hash & t->piece_mask;; i = (i + 1) & t->piece_mask) {
        aq_piece_slot slot = t->pieces[i];
        if (slot.id == AQ_NO_ID)
            return AQ_NO_ID;
        if (slot.hash == hash && t->text[slot.id].n == n && memcmp(t->text[slot.id].s, s, n) == 0)
            return slot.id;
    }
}

aq_merge_slot *aq_merge_find(const aq_tokenizer *t, uint64_t hash, uint32_t left, uint32_t right) {
    for (uint32_t i = (uint32_t)hash & t->merge_mask;; i = (i + 1) & t->merge_mask) {
        aq_merge_slot *slot = &t->merges[i];
        if (slot->rank == AQ_NO_RANK || (slot->left == left && slot->right == right))
            return slot;
    }
}

size_t aq_merge_short(const aq_tokenizer *t, uint32_t *ids, size_t n) {
    uint32_t rank[AQ_SHORT_PIECE + 1];
    for (size_t i = 0; i + 1 < n; i++)
        rank[i] = aq_merge_rank(t, ids[i], ids[i + 1]);
    while (n > 1) {
        size_t best = 0;
        uint32_t lowest = rank[0];
        for (size_t i = 1; i + 1 < n; i++)
            if (rank[i] < lowest) {
                lowest = rank[i];
                best = i;
            }
        if (lowest == AQ_NO_RANK)
            break;
        ids[best] = t->rank_id[lowest];
        n--;
        for (size_t i = best + 1; i < n; i++) {
            ids[i] = ids[i + 1];
            rank[i - 1] = rank[i];
        }
        if (best + 1 < n)
            rank[best] = aq_merge_rank(t, ids[best], ids[best + 1]);
        if (best > 0)
            rank[best - 1] = aq_merge_rank(t, ids[best - 1], ids[best]);
    }
    return n;
}

void aq_merge_work_close(aq_merge_work *w) {
    aq_mem_free(w->ids);
    aq_mem_free(w->heap);
    aq_mem_unmap(w->ranks, w->ranks_size);
    aq_mem_unmap(w->symbols, w->symbols_size);
    *w = (aq_merge_work){0};
}
