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
    uint32_t bit = aq_piece_bit(t, hash);
    if (!(t->piece_filter[bit >> 6] >> (bit & 63) & 1))
        return AQ_NO_ID;
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

/* Ranks have 24 bits, positions 6: one number says which pair goes next. */
#define WAITS(rank, at) ((rank) == AQ_NO_RANK ? UINT32_MAX : (rank) << 6 | (uint32_t)(at))

/* By twos and not by vectors: a vector that is read soon after its parts were written waits for them (35 % of all time went there). */
static inline uint32_t lowest(const uint32_t *waits, size_t n) {
    uint32_t a = UINT32_MAX, b = UINT32_MAX;
    for (size_t i = 0; i < n; i += 2) {
        a = waits[i] < a ? waits[i] : a;
        b = waits[i + 1] < b ? waits[i + 1] : b;
        __asm__("" : "+r"(a), "+r"(b)); /* keeps compilers from vectors */
    }
    return a < b ? a : b;
}

size_t aq_merge_short(const aq_tokenizer *t, uint32_t *ids, size_t n) {
    uint32_t waits[AQ_SHORT_PIECE];
    aq_part part[AQ_SHORT_PIECE];
    if (n < 2)
        return n;
    part[0] = aq_part_of(t, ids[0]);
    for (size_t i = 0; i + 1 < n; i++) {
        part[i + 1] = aq_part_of(t, ids[i + 1]);
        waits[i] = WAITS(aq_pair_rank(t, ids[i], part[i], ids[i + 1], part[i + 1]), i);
    }
    waits[n - 1] = UINT32_MAX;
    size_t even = n & ~(size_t)1; /* the last one waits for nothing */
    uint64_t alive = UINT64_MAX >> (64 - n);
    for (uint32_t first; (first = lowest(waits, even)) != UINT32_MAX;) {
        uint32_t at = first & 63, gone = (uint32_t)__builtin_ctzll(alive & (UINT64_MAX << at << 1));
        aq_merged made = t->made[first >> 6];
        uint32_t id = ids[at] = made.id;
        part[at] = made.part;
        alive &= ~(1ull << gone);
        waits[at] = waits[gone] = UINT32_MAX;
        uint64_t after = alive & (UINT64_MAX << at << 1), before = alive & ((1ull << at) - 1);
        if (after) {
            uint32_t next = (uint32_t)__builtin_ctzll(after);
            waits[at] = WAITS(aq_pair_rank(t, id, part[at], ids[next], part[next]), at);
        }
        if (before) {
            uint32_t last = 63 - (uint32_t)__builtin_clzll(before);
            waits[last] = WAITS(aq_pair_rank(t, ids[last], part[last], id, part[at]), last);
        }
    }
    size_t left = 0;
    for (; alive; alive &= alive - 1)
        ids[left++] = ids[__builtin_ctzll(alive)];
    return left;
}

void aq_merge_work_close(aq_merge_work *w) {
    aq_mem_free(w->ids);
    aq_mem_free(w->heap);
    aq_mem_unmap(w->ranks, w->ranks_size);
    aq_mem_unmap(w->symbols, w->symbols_size);
    *w = (aq_merge_work){0};
}
