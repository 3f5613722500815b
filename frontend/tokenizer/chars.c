/* chars.c: the token of each character, so that merging may start from characters where it would start from bytes.
 *
 * Byte-level BPE merges the bytes of a Chinese character first, two merges of three symbols each time. Starting from the character gives the
 * same ids, if within a piece
 *   1. no merge takes part of a character together with something outside of it, and
 *   2. every merge with the character as a part has a higher rank than those that make it from its bytes.
 * For then, wherever the merges from bytes stand, a character that is not yet whole has a merge inside it waiting, of a rank below all that the
 * whole character could do; so what is merged next elsewhere is the same with the character whole, and in the end all are.
 * 2 is asked once for each character. For 1, merges that join a text to a part of a character, or a part of one to a text (in Aquila's
 * vocabulary 84 of 100000 texts hold such a seam), mark the characters that can stand left and right of their seam: a piece where a left one
 * stands before a right one, or that is not UTF-8, starts from bytes.
 *
 * Where symbols are characters (SPM) the table only saves look-ups. */
#include "frontend/tokenizer/internal.h"

#include "ir/memory.h"

#include <string.h>

static int is_inner(char b) { return ((uint8_t)b & 0xC0) == 0x80; }

/* Where the last character of s begins, complete or not; 0 if there is no first byte of one. */
static size_t last_start(aq_bytes s) {
    size_t at = s.n;
    while (at > 0 && is_inner(s.s[at - 1]))
        at--;
    return at > 0 ? at - 1 : 0;
}

static int is_whole_character(const char *s, size_t n, uint32_t *c) { return n > 0 && aq_utf8_decode(s, n, c) == (int)n; }

/* Marks every character of two or three bytes that ends with the n inner bytes s, or, n bytes of it with a first one, begins with them. Some
 * 50 us: few merges ask for it. */
static void mark_all(aq_tokenizer *t, const char *s, size_t n, uint32_t mark) {
    uint8_t first = (uint8_t)s[0];
    size_t length = is_inner(s[0]) ? 0 : first >= 0xE0 ? 3 : 2;
    if (n > 2 || first >= 0xF0 || (length && n >= length))
        return;
    uint32_t value = length == 3 ? first & 0x0F : length == 2 ? first & 0x1F : first & 0x3F;
    if (n == 2)
        value = value << 6 | ((uint8_t)s[1] & 0x3F);
    uint32_t from = length == 3 || (!length && n == 2) ? 0x800 : 0x80, to = length == 2 ? 0x800 : 0x10000;
    uint32_t shift = length ? 6 * (uint32_t)(length - n) : 0, mask = length ? UINT32_MAX : (1u << 6 * n) - 1;
    for (uint32_t c = from; c < to; c++)
        if ((c >> shift & mask) == value)
            t->chars[c] |= mark;
}

/* The seam of one merge; returns 0 if marks for whole ranges were asked too often. */
static int mark_seam(aq_tokenizer *t, aq_bytes left, aq_bytes right, int *ranges) {
    uint32_t c, other;
    if (is_inner(right.s[0]))
        return 1; /* inside a character */
    size_t tail = last_start(right);
    int cut_left = is_inner(left.s[0]), cut_right = !is_whole_character(right.s + tail, right.n - tail, &c);
    if (!cut_left && !cut_right)
        return 1;
    size_t last = last_start(left), first = 1;
    while (first < right.n && is_inner(right.s[first]))
        first++;
    int l = is_whole_character(left.s + last, left.n - last, &c), r = is_whole_character(right.s, first, &other);
    *ranges -= !l + !r;
    if (*ranges < 0)
        return 0;
    if (!l)
        mark_all(t, left.s, left.n, AQ_CHAR_LEFT);
    else if (c < 0x10000)
        t->chars[c] |= AQ_CHAR_LEFT;
    if (!r)
        mark_all(t, right.s, first, AQ_CHAR_RIGHT);
    else if (other < 0x10000)
        t->chars[other] |= AQ_CHAR_RIGHT;
    return 1;
}

static int mark_seams(aq_tokenizer *t) {
    int ranges = 600;
    for (uint32_t i = 0; i <= t->merge_mask; i++) {
        aq_merge_slot m = t->merges[i];
        if (m.rank != AQ_NO_RANK && t->text[m.left].n && t->text[m.right].n && !mark_seam(t, t->text[m.left], t->text[m.right], &ranges))
            return 0;
    }
    return 1;
}

/* Whether merging the character's bytes gives id, by merges below the rank `limit`. */
static int is_made_below(const aq_tokenizer *t, aq_bytes text, uint32_t id, uint32_t limit) {
    uint32_t ids[4];
    size_t n = text.n;
    for (size_t i = 0; i < n; i++)
        if ((ids[i] = t->byte_id[(uint8_t)text.s[i]]) == AQ_NO_ID)
            return 0;
    while (n > 1) {
        uint32_t lowest = AQ_NO_RANK;
        size_t best = 0;
        for (size_t i = 0; i + 1 < n; i++) {
            uint32_t rank = aq_merge_rank(t, ids[i], ids[i + 1]);
            if (rank < lowest)
                lowest = rank, best = i;
        }
        if (lowest >= limit)
            return 0;
        ids[best] = t->rank_id[lowest];
        memmove(ids + best + 1, ids + best + 2, (n - best - 2) * sizeof *ids);
        n--;
    }
    return ids[0] == id;
}

/* limit[id]: the lowest rank of a merge that has the id as a part. */
static void find_limits(const aq_tokenizer *t, uint32_t *limit) {
    memset(limit, 0xFF, t->size * sizeof *limit);
    for (uint32_t i = 0; i <= t->merge_mask; i++) {
        aq_merge_slot m = t->merges[i];
        if (m.rank == AQ_NO_RANK)
            continue;
        if (m.rank < limit[m.left])
            limit[m.left] = m.rank;
        if (m.rank < limit[m.right])
            limit[m.right] = m.rank;
    }
}

static void fill(aq_tokenizer *t, const uint32_t *limit) {
    uint32_t c;
    for (uint32_t b = 0; b < 128 && limit; b++)
        if (t->byte_id[b] != AQ_NO_ID)
            t->chars[b] = (t->chars[b] & ~AQ_CHAR_NONE) | t->byte_id[b];
    for (uint32_t i = 0; i < t->piece_mask + 1; i++) {
        uint32_t id = t->pieces[i].id;
        if (id == AQ_NO_ID || t->text[id].n > 3 || !is_whole_character(t->text[id].s, t->text[id].n, &c))
            continue;
        if (!limit || (c >= 0x80 && is_made_below(t, t->text[id], id, limit[id])))
            t->chars[c] = (t->chars[c] & ~AQ_CHAR_NONE) | id;
    }
}

aq_status aq_chars_build(aq_tokenizer *t) {
    AQ_ALLOC(&t->arena, t->chars, 0x10000);
    for (uint32_t c = 0; c < 0x10000; c++)
        t->chars[c] = AQ_CHAR_NONE;
    if (t->kind == AQ_TOKENIZER_SPM) {
        fill(t, NULL);
        return AQ_OK;
    }
    t->starts_from_chars = mark_seams(t);
    if (!t->starts_from_chars)
        return AQ_OK;
    void *limit;
    AQ_TRY(aq_mem_alloc(t->size * sizeof(uint32_t), &limit));
    find_limits(t, limit);
    fill(t, limit);
    aq_mem_free(limit);
    return AQ_OK;
}

/* ---- the symbols that a piece starts from ---- */

/* The bytes of a piece as ids. A byte the vocabulary lacks is left out, as Hugging Face does, or becomes unk. */
size_t aq_byte_symbols(const aq_tokenizer *t, const char *piece, size_t n, uint32_t *ids) {
    size_t count = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t id = t->byte_id[(uint8_t)piece[i]];
        ids[count] = id == AQ_NO_ID && t->unk_bytes ? (uint32_t)t->unk : id;
        count += ids[count] != AQ_NO_ID;
    }
    return count;
}

size_t aq_char_symbols(const aq_tokenizer *t, const char *piece, size_t n, uint32_t *ids) {
    size_t count = 0, length;
    uint32_t before = 0, here;
    for (size_t i = 0; i < n; i += length, before = here) {
        const uint8_t *b = (const uint8_t *)piece + i;
        uint32_t c = *b;
        length = 1;
        if (n - i >= 3 && b[0] >= 0xE1 && b[0] <= 0xEC && (b[1] & 0xC0) == 0x80 && (b[2] & 0xC0) == 0x80) {
            c = (b[0] & 0x0Fu) << 12 | (b[1] & 0x3Fu) << 6 | (b[2] & 0x3Fu);
            length = 3;
        } else if (c >= 0x80 && !(length = (size_t)aq_utf8_decode(piece + i, n - i, &c))) {
            return aq_byte_symbols(t, piece, n, ids);
        }
        here = c < 0x10000 ? t->chars[c] : AQ_CHAR_NONE | AQ_CHAR_LEFT | AQ_CHAR_RIGHT;
        if ((before & AQ_CHAR_LEFT) && (here & AQ_CHAR_RIGHT))
            return aq_byte_symbols(t, piece, n, ids);
        if ((here & AQ_CHAR_NONE) != AQ_CHAR_NONE) {
            ids[count++] = here & AQ_CHAR_NONE;
            continue;
        }
        size_t known = aq_byte_symbols(t, piece + i, length, ids + count);
        if (known < length) /* where a byte is left out, characters meet that do not stand side by side */
            return aq_byte_symbols(t, piece, n, ids);
        count += known;
    }
    return count;
}
