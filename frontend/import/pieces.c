/* pieces.c: see pieces.h. Both ask which id a text has: a table of hashes, at most half full. */
#include "frontend/import/pieces.h"

#include <stdlib.h>
#include <string.h>

/* A piece beyond LONGEST is made by nothing; one that a file made to collide with MOST others is not found. */
enum { LONGEST = 1024, MOST = 1000 };

typedef struct table {
    const aq_tokenizer_source *t;
    uint32_t *slot, mask; /* id + 1; 0 is empty */
    uint32_t none;
} table;

static uint32_t hash(const char *s, size_t n) {
    uint64_t h = 14695981039346656037u;
    for (size_t i = 0; i < n; i++)
        h = (h ^ (unsigned char)s[i]) * 0x100000001b3u;
    return (uint32_t)(h ^ h >> 32);
}

static uint32_t *find(table *k, const char *s, size_t n) {
    uint32_t at = hash(s, n) & k->mask;
    k->none = 0;
    for (int step = 0; k->slot[at]; at = (at + 1) & k->mask, step++) {
        aq_bytes other = k->t->vocab[k->slot[at] - 1];
        if (other.n == n && memcmp(other.s, s, n) == 0)
            break;
        if (step == MOST)
            return &k->none;
    }
    return &k->slot[at];
}

static aq_status build(aq_arena *arena, const aq_tokenizer_source *t, table *k) {
    uint32_t size = 64;
    while (size < 2 * t->n_vocab)
        size *= 2;
    *k = (table){.t = t, .mask = size - 1};
    AQ_ALLOC(arena, k->slot, size);
    for (uint32_t i = 0; i < t->n_vocab; i++)
        if (t->vocab[i].n) {
            uint32_t *slot = find(k, t->vocab[i].s, t->vocab[i].n);
            if (!*slot)
                *slot = i + 1;
        }
    return AQ_OK;
}

aq_status aq_pieces_scores(aq_arena *arena, const aq_tokenizer_source *t, float **out) {
    char text[LONGEST];
    table k;
    float *scores;
    AQ_TRY(build(arena, t, &k));
    AQ_ALLOC(arena, scores, t->n_vocab + 1);
    for (uint32_t rank = 0; rank < t->n_merges; rank++) {
        aq_bytes m = t->merges[rank];
        const char *space = m.n ? memchr(m.s, ' ', m.n) : NULL;
        if (!space || m.n > sizeof text)
            continue;
        size_t left = (size_t)(space - m.s), whole = m.n - 1;
        memcpy(text, m.s, left);
        memcpy(text + left, space + 1, whole - left);
        uint32_t id = *find(&k, text, whole);
        if (id && scores[id - 1] == 0)
            scores[id - 1] = -1 - (float)rank;
    }
    *out = scores;
    return AQ_OK;
}

static int by_score(const void *a, const void *b) {
    const aq_piece_merge *x = a, *y = b;
    if (x->score != y->score)
        return x->score > y->score ? -1 : 1;
    if (x->made != y->made)
        return x->made < y->made ? -1 : 1;
    if (x->left != y->left)
        return x->left < y->left ? -1 : 1;
    return (x->right > y->right) - (x->right < y->right);
}

aq_status aq_pieces_merges(aq_arena *arena, const aq_tokenizer_source *t, aq_piece_merge **out, uint32_t *out_n) {
    AQ_VEC(aq_piece_merge) list = {0};
    table k;
    AQ_TRY(build(arena, t, &k));
    for (uint32_t id = 0; id < t->n_vocab; id++) {
        aq_bytes v = t->vocab[id];
        for (uint32_t cut = 1; cut < v.n && v.n <= LONGEST; cut++) {
            if (((unsigned char)v.s[cut] & 0xc0) == 0x80) /* inside a character */
                continue;
            uint32_t left = *find(&k, v.s, cut), right = left ? *find(&k, v.s + cut, v.n - cut) : 0;
            if (right)
                AQ_PUSH(arena, &list, (aq_piece_merge){left - 1, right - 1, id, t->scores ? t->scores[id] : 0});
        }
    }
    if (list.n)
        qsort(list.at, list.n, sizeof *list.at, by_score);
    *out = list.at;
    *out_n = list.n;
    return AQ_OK;
}
