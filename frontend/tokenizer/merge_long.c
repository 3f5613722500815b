/* merge_long.c: the same merges as merge.c for pieces of any length: a megabyte of one letter is an ordinary input here.
 *
 * Every adjacent pair that has a rank waits in the list of its rank. The lists are linked through the symbols and sorted by position; a
 * tree of bits finds the lowest rank that waits. A pass over a list from left to right makes new pairs from left to right, so nearly
 * all of them belong at the end of their list; one that does not goes to a heap, and the lower of heap and lists is taken next. The
 * extent of the pair at a position only grows, so a pair never comes back there and a heap entry is stale just when the rank differs.
 *
 * Cost: O(1) a merge in practice with memory read in order, O(log n) at worst; 24 bytes a symbol, 8 a merge of the vocabulary.
 * Dropped: one heap for all pairs (what Hugging Face does): 10 MB of one letter took it seconds, all of them cache misses. */
#include "frontend/tokenizer/internal.h"

#include "ir/memory.h"

#define NOWHERE UINT32_MAX

typedef struct symbol {
    uint32_t id, next, previous; /* neighbours still alive, NOWHERE at the ends */
    uint32_t rank;               /* of the pair with next; AQ_NO_RANK if it has none or the symbol is gone */
    uint32_t later, earlier;     /* in the list of that rank; earlier is UNLISTED if it waits in the heap */
} symbol;
#define UNLISTED (UINT32_MAX - 1)

typedef struct rank_list {
    uint32_t first, last; /* meaningful while the rank's bit is set */
} rank_list;

enum { LEVELS = 4 }; /* 64^4 = 2^24 ranks */

typedef struct state {
    const aq_tokenizer *t;
    aq_merge_work *w;
    symbol *s;
    rank_list *list;
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

static aq_status heap_push(aq_merge_work *w, uint64_t key) {
    if (w->n_heap == w->heap_room) {
        size_t room = w->heap_room ? w->heap_room * 2 : 256;
        void *p = w->heap;
        AQ_TRY(aq_mem_resize(&p, w->heap_room * sizeof *w->heap, room * sizeof *w->heap));
        w->heap = p;
        w->heap_room = room;
    }
    size_t i = w->n_heap++;
    for (; i && w->heap[(i - 1) / 2] > key; i = (i - 1) / 2)
        w->heap[i] = w->heap[(i - 1) / 2];
    w->heap[i] = key;
    return AQ_OK;
}

static void heap_pop(aq_merge_work *w) {
    uint64_t key = w->heap[--w->n_heap];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < w->n_heap; i = child) {
        if (child + 1 < w->n_heap && w->heap[child + 1] < w->heap[child])
            child++;
        if (w->heap[child] >= key)
            break;
        w->heap[i] = w->heap[child];
    }
    w->heap[i] = key;
}

/* The pair at p now waits. */
static aq_status wait(state *m, uint32_t p) {
    symbol *s = &m->s[p];
    uint32_t r = s->rank;
    rank_list *list = &m->list[r];
    int is_empty = !(m->bits[0][r >> 6] >> (r & 63) & 1);
    if (!is_empty && list->last > p) {
        s->earlier = UNLISTED;
        return heap_push(m->w, (uint64_t)r << 32 | p);
    }
    s->later = NOWHERE;
    s->earlier = is_empty ? NOWHERE : list->last;
    if (is_empty) {
        list->first = p;
        bit_set(m, r);
    } else {
        m->s[list->last].later = p;
    }
    list->last = p;
    return AQ_OK;
}

/* The pair at p no longer waits, if it did. */
static void leave(state *m, uint32_t p) {
    symbol *s = &m->s[p];
    uint32_t r = s->rank;
    s->rank = AQ_NO_RANK;
    if (r == AQ_NO_RANK || s->earlier == UNLISTED)
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

static aq_status pair_changed(state *m, uint32_t p) {
    leave(m, p);
    symbol *s = &m->s[p];
    if (s->next == NOWHERE)
        return AQ_OK;
    s->rank = aq_merge_rank(m->t, s->id, m->s[s->next].id);
    return s->rank == AQ_NO_RANK ? AQ_OK : wait(m, p);
}

/* The position of the pair to merge next, NOWHERE if none is left. */
static uint32_t take(state *m) {
    aq_merge_work *w = m->w;
    while (w->n_heap && m->s[(uint32_t)w->heap[0]].rank != w->heap[0] >> 32)
        heap_pop(w);
    uint32_t r = bit_lowest(m);
    uint64_t key = r == AQ_NO_RANK ? UINT64_MAX : (uint64_t)r << 32 | m->list[r].first;
    if (w->n_heap && w->heap[0] < key) {
        key = w->heap[0];
        heap_pop(w);
    }
    return key == UINT64_MAX ? NOWHERE : (uint32_t)key;
}

static aq_status merge_at(state *m, uint32_t p) {
    symbol *s = &m->s[p];
    uint32_t gone = s->next;
    uint32_t id = m->t->rank_id[s->rank];
    leave(m, gone);
    s->id = id;
    s->next = m->s[gone].next;
    if (s->next != NOWHERE)
        m->s[s->next].previous = p;
    if (s->previous != NOWHERE)
        AQ_TRY(pair_changed(m, s->previous));
    return pair_changed(m, p);
}

/* The lists are left empty by every piece, so they are made once an encode call. */
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
    return AQ_OK;
}

aq_status aq_merge_long(const aq_tokenizer *t, aq_merge_work *w, uint32_t *ids, size_t n, size_t *out_n) {
    if (n >= UNLISTED)
        return aq_fail(AQ_REFUSED, NULL, "a piece of %zu bytes with no break in it: less than 4 GiB expected", n);
    state m = {.t = t, .w = w};
    AQ_TRY(open_lists(&m));
    AQ_TRY(open_symbols(&m, n));
    aq_status status = AQ_OK;
    w->n_heap = 0;
    for (size_t i = 0; i < n; i++)
        m.s[i] = (symbol){ids[i], i + 1 < n ? (uint32_t)i + 1 : NOWHERE, i ? (uint32_t)i - 1 : NOWHERE, AQ_NO_RANK, 0, 0};
    for (size_t i = 0; i < n; i++)
        AQ_TRY_GOTO(status, close, pair_changed(&m, (uint32_t)i));
    for (uint32_t p; (p = take(&m)) != NOWHERE;)
        AQ_TRY_GOTO(status, close, merge_at(&m, p));
    *out_n = 0;
    for (uint32_t p = 0; p != NOWHERE; p = m.s[p].next)
        ids[(*out_n)++] = m.s[p].id;
close:
    if (status != AQ_OK) { /* the lists are not empty: the next piece makes them anew */
        aq_mem_unmap(w->ranks, w->ranks_size);
        w->ranks = NULL;
    }
    return status;
}
