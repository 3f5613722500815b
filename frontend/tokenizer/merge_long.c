/* merge_long.c: the same merges as merge.c for pieces of any length: a megabyte of one letter is an ordinary input here.
 *
 * Every adjacent pair that has a rank waits in the list of its rank, a queue linked through the symbols; a tree of bits finds the lowest
 * rank that waits. A pair that appears is put at the end of its queue, and the queue is in the order of the positions all the same,
 * for any ranks whatever: let the same two symbols x y come to stand side by side at two places. While the symbols inside x y are
 * merged, nothing merges across its ends, so both places go through the same steps in the same order, that of x y alone; and of two
 * places that are to do the same step the left one goes first, its rank being equal and its position lower. So the left place is never
 * behind, and its pair appears first. (This wants every symbol to be made in one way: build.c refuses an unk or byte token that merges
 * make. The same holds for the ranks of scores, where all pairs that make one text share a rank: what is inside the text goes through the
 * same steps everywhere.)
 * A rank that stands for several texts of equal score has no such order: its pairs wait in a heap by rank and position, where a pair
 * that is gone stays until it comes up.
 *
 * Cost: O(1) a merge, memory read in order; 24 bytes a symbol, 8 a merge of the vocabulary.
 * Dropped: one heap for all pairs, as in Hugging Face's tokenizers: 10 MB of one letter are all cache misses there; then queues with a
 * heap for pairs that come late, until no test could make one come late and the reason above was found. */
#include "frontend/tokenizer/internal.h"

#include "ir/memory.h"

#include <assert.h>

#define NOWHERE UINT32_MAX

typedef struct symbol {
    uint32_t id, next, previous; /* neighbours still alive, NOWHERE at the ends */
    uint32_t rank;               /* of the pair with next; AQ_NO_RANK if it has none or the symbol is gone */
    uint32_t later, earlier;     /* in the queue of that rank */
} symbol;

typedef struct rank_list {
    uint32_t first, last; /* meaningful while the rank's bit is set */
} rank_list;

enum { LEVELS = 4 }; /* 64^4 = 2^24 ranks */

typedef struct waiting {
    uint32_t rank, at;
} waiting;

typedef struct state {
    const aq_tokenizer *t;
    aq_merge_work *w;
    symbol *s;
    rank_list *list;
    size_t n_heap; /* in w->heap */
    uint64_t *bits[LEVELS]; /* bit r of level 0: list r is not empty; a bit of level k: that word of level k-1 is not zero */
} state;

static void bit_set(state *m, uint32_t r) {
    for (int k = 0; k < LEVELS; k++, r >>= 6) {
        uint64_t *word = &m->bits[k][r >> 6], old = *word;
        *word = old | 1ull << (r & 63);
        if (old)
            return;
    }
}

static void bit_clear(state *m, uint32_t r) {
    for (int k = 0; k < LEVELS; k++, r >>= 6) {
        uint64_t *word = &m->bits[k][r >> 6];
        if (*word &= ~(1ull << (r & 63)))
            return;
    }
}

static uint32_t bit_lowest(const state *m) {
    uint32_t r = 0;
    for (int k = LEVELS - 1; k >= 0; k--) {
        uint64_t word = m->bits[k][r];
        if (!word)
            return AQ_NO_RANK; /* only at the top */
        r = r << 6 | (uint32_t)__builtin_ctzll(word);
    }
    return r;
}

static int before(waiting a, waiting b) { return a.rank < b.rank || (a.rank == b.rank && a.at < b.at); }

/* A piece of n symbols makes fewer than 3 n pairs, so the heap has room. */
static void heap_push(state *m, waiting x) {
    waiting *h = m->w->heap;
    size_t i = m->n_heap++;
    for (; i && before(x, h[(i - 1) / 2]); i = (i - 1) / 2)
        h[i] = h[(i - 1) / 2];
    h[i] = x;
}

static void heap_pop(state *m) {
    waiting *h = m->w->heap, x = h[--m->n_heap];
    size_t i = 0, n = m->n_heap;
    for (size_t k; (k = 2 * i + 1) < n; i = k) {
        k += k + 1 < n && before(h[k + 1], h[k]);
        if (!before(h[k], x))
            break;
        h[i] = h[k];
    }
    h[i] = x;
}

/* The pair to merge next, NOWHERE if there is none. */
static uint32_t lowest_pair(state *m) {
    uint32_t r = bit_lowest(m);
    const waiting *h = m->w->heap;
    while (m->n_heap && m->s[h->at].rank != h->rank)
        heap_pop(m);
    if (m->n_heap && h->rank < r) {
        uint32_t at = h->at;
        heap_pop(m);
        return at;
    }
    return r == AQ_NO_RANK ? NOWHERE : m->list[r].first;
}

/* The pair at p now waits. */
static void wait(state *m, uint32_t p) {
    symbol *s = &m->s[p];
    if (m->t->rank_id[s->rank] == AQ_NO_ID) {
        heap_push(m, (waiting){s->rank, p});
        return;
    }
    uint32_t r = s->rank;
    rank_list *list = &m->list[r];
    int is_empty = !(m->bits[0][r >> 6] >> (r & 63) & 1);
    assert(is_empty || list->last < p);
    s->later = NOWHERE;
    s->earlier = is_empty ? NOWHERE : list->last;
    if (is_empty) {
        list->first = p;
        bit_set(m, r);
    } else {
        m->s[list->last].later = p;
    }
    list->last = p;
}

/* The pair at p no longer waits, if it did. */
static void leave(state *m, uint32_t p) {
    symbol *s = &m->s[p];
    uint32_t r = s->rank;
    s->rank = AQ_NO_RANK;
    if (r == AQ_NO_RANK || m->t->rank_id[r] == AQ_NO_ID)
        return;
    if (s->earlier == NOWHERE)
        m->list[r].first = s->later;
    else
        m->s[s->earlier].later = s->later;
    if (s->later == NOWHERE)
        m->list[r].last = s->earlier;
    else
        m->s[s->later].earlier = s->earlier;
    if (m->list[r].first == NOWHERE)
        bit_clear(m, r);
}

static void pair_changed(state *m, uint32_t p) {
    leave(m, p);
    symbol *s = &m->s[p];
    if (s->next == NOWHERE)
        return;
    s->rank = aq_merge_rank(m->t, s->id, m->s[s->next].id);
    if (s->rank != AQ_NO_RANK)
        wait(m, p);
}

static void merge_at(state *m, uint32_t p) {
    symbol *s = &m->s[p];
    uint32_t gone = s->next;
    uint32_t made = m->t->rank_id[s->rank], right = m->s[gone].id;
    s->id = made != AQ_NO_ID ? made : aq_merge_find(m->t, aq_merge_hash(s->id, right), s->id, right)->id;
    leave(m, gone);
    s->next = m->s[gone].next;
    if (s->next != NOWHERE)
        m->s[s->next].previous = p;
    if (s->previous != NOWHERE)
        pair_changed(m, s->previous);
    pair_changed(m, p);
}

/* The queues are left empty by every piece, so they are made once an encode call. */
static aq_status open_lists(state *m) {
    aq_merge_work *w = m->w;
    size_t words[LEVELS], total = 0, n = m->t->n_ranks;
    for (int k = 0; k < LEVELS; k++)
        total += words[k] = n = (n >> 6) + 1;
    size_t lists = (size_t)m->t->n_ranks + 1;
    size_t size = total * sizeof(uint64_t) + lists * sizeof(rank_list);
    if (!w->ranks) {
        AQ_TRY(aq_mem_map(size, &w->ranks));
        w->ranks_size = size;
    }
    uint64_t *at = w->ranks;
    for (int k = 0; k < LEVELS; at += words[k++])
        m->bits[k] = at;
    m->list = (rank_list *)at;
    return AQ_OK;
}

static aq_status open_symbols(state *m, size_t n) {
    aq_merge_work *w = m->w;
    size_t size = n * sizeof(symbol);
    if (w->symbols_size < size) {
        aq_mem_unmap(w->symbols, w->symbols_size);
        w->symbols = NULL;
        w->symbols_size = 0;
        size += size / 2 + 4096;
        AQ_TRY(aq_mem_map(size, &w->symbols));
        w->symbols_size = size;
    }
    m->s = w->symbols;
    if (!m->t->has_ties || w->heap_room >= n)
        return AQ_OK;
    aq_mem_free(w->heap);
    w->heap = NULL;
    w->heap_room = 0;
    AQ_TRY(aq_size_mul(n, 3 * sizeof(waiting), "piece", &size));
    AQ_TRY(aq_mem_alloc(size, &w->heap));
    w->heap_room = n;
    return AQ_OK;
}

aq_status aq_merge_long(const aq_tokenizer *t, aq_merge_work *w, uint32_t *ids, size_t n, size_t *out_n) {
    if (n >= NOWHERE)
        return aq_fail(AQ_REFUSED, NULL, "a piece of %zu bytes with no break in it: less than 4 GiB expected", n);
    state m = {.t = t, .w = w};
    AQ_TRY(open_lists(&m));
    AQ_TRY(open_symbols(&m, n));
    for (size_t i = 0; i < n; i++)
        m.s[i] = (symbol){ids[i], i + 1 < n ? (uint32_t)i + 1 : NOWHERE, i ? (uint32_t)i - 1 : NOWHERE, AQ_NO_RANK, 0, 0};
    for (size_t i = 0; i < n; i++)
        pair_changed(&m, (uint32_t)i);
    for (uint32_t p; (p = lowest_pair(&m)) != NOWHERE;)
        merge_at(&m, p);
    *out_n = 0;
    for (uint32_t p = n ? 0 : NOWHERE; p != NOWHERE; p = m.s[p].next)
        ids[(*out_n)++] = m.s[p].id;
    return AQ_OK;
}
