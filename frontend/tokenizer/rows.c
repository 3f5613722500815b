/* rows.c: the merges as rows: what a pair of ids merges to in one read of a small table.
 *
 * Every id that is the left part of a merge has a row, every id that is the right part of one has a column, and all rows lie on top of each
 * other in one array, shifted so that no two entries meet (first fit, the fullest rows first); an entry says whose it is. So a pair is asked for
 * by one sum and one comparison, whether it merges or not, and entries of one row lie near each other: those of random digits, or of the letters
 * of one script, are a few lines of the cache. In place of this was a hash table (that of build.c, 4 MB for 100000 merges, still checks a file) with a
 * filter before it: texts that merge much were slower by a tenth to a half.
 *
 * Cost: 5 ms for 100000 merges: counting sorts, then a word of 64 offsets at a time is tried for each row, going on where the row before found its
 * place, since that was as long or longer. Three slots of 8 bytes a merge: with two the long rows of Llama 3 (280000 merges, 22 looks a merge) find no
 * place; looking always from the start fills an array of 1.6 slots, but takes 75 ms. A file may be made so that rows fit nowhere: the looking is
 * bounded, rows that are left over are marked, and their pairs are asked for in the hash table, as are pairs with characters that the vocabulary lacks. */
#include "frontend/tokenizer/internal.h"

#include "ir/memory.h"

#include <string.h>

typedef struct entry {
    uint32_t left, column, rank;
} entry;

typedef struct work {
    aq_tokenizer *t;
    entry *entries, *other; /* [n] */
    uint32_t *counts;       /* [size + 2] */
    uint32_t *order;        /* [size] ids by falling length of their rows */
    uint64_t *taken;        /* [words + 2] bits of slots that are taken */
    uint32_t n, columns;
    size_t words, next, budget; /* of taken; where to look next; how often one may still look */
} work;

/* The merges that stand in rows, and a column for each right part, in the order of the ids. */
static void gather(work *w) {
    aq_tokenizer *t = w->t;
    for (uint32_t i = 0; i <= t->merge_mask; i++) {
        aq_merge_slot m = t->merges[i];
        if (m.rank == AQ_NO_RANK)
            continue;
        if (m.left >= t->size || m.right >= t->size) {
            t->has_hashed = 1;
            continue;
        }
        t->parts[m.right].column = 1;
        w->entries[w->n++] = (entry){m.left, m.right, m.rank};
    }
    for (uint32_t i = 0; i < t->size; i++)
        if (t->parts[i].column)
            t->parts[i].column = ++w->columns;
    for (uint32_t i = 0; i < w->n; i++)
        w->entries[i].column = t->parts[w->entries[i].column].column;
}

/* counts[k]: where those with key k begin. */
static void begin(uint32_t *counts, uint32_t n) {
    for (uint32_t i = 0, sum = 0; i < n; i++) {
        uint32_t count = counts[i];
        counts[i] = sum;
        sum += count;
    }
}

/* By left part, then by column; counts[i] becomes the end of the row of id i. */
static void sort(work *w) {
    memset(w->counts, 0, ((size_t)w->t->size + 2) * sizeof *w->counts);
    for (uint32_t i = 0; i < w->n; i++)
        w->counts[w->entries[i].column]++;
    begin(w->counts, w->columns + 1);
    for (uint32_t i = 0; i < w->n; i++)
        w->other[w->counts[w->entries[i].column]++] = w->entries[i];
    memset(w->counts, 0, ((size_t)w->t->size + 2) * sizeof *w->counts);
    for (uint32_t i = 0; i < w->n; i++)
        w->counts[w->other[i].left]++;
    begin(w->counts, w->t->size);
    for (uint32_t i = 0; i < w->n; i++)
        w->entries[w->counts[w->other[i].left]++] = w->other[i];
}

static uint32_t row_start(const work *w, uint32_t id) { return id ? w->counts[id - 1] : 0; }
static uint32_t row_length(const work *w, uint32_t id) { return w->counts[id] - row_start(w, id); }

/* Ids by falling length of their rows; returns how many have any. */
static uint32_t by_length(work *w) {
    uint32_t n = 0, size = w->t->size;
    uint32_t *starts = (uint32_t *)w->other; /* free by now; no row is longer than n */
    memset(starts, 0, ((size_t)w->n + 1) * sizeof *starts);
    for (uint32_t i = 0; i < size; i++)
        starts[w->n - row_length(w, i)]++;
    begin(starts, w->n + 1);
    for (uint32_t i = 0; i < size; i++) {
        w->order[starts[w->n - row_length(w, i)]++] = i;
        n += row_length(w, i) != 0;
    }
    return n;
}

static uint64_t window(const work *w, size_t at) {
    uint64_t low = w->taken[at >> 6] >> (at & 63);
    return at & 63 ? low | w->taken[(at >> 6) + 1] << (64 - (at & 63)) : low;
}

/* Whether the row can begin in this word; *at: where. */
static int fits(work *w, const entry *row, uint32_t n, size_t word, size_t *at) {
    uint64_t free = UINT64_MAX;
    if (word * 64 + 64 + row[n - 1].column - row[0].column > w->words * 64)
        return 0;
    for (uint32_t i = 0; i < n && free; i++, w->budget--)
        free &= ~window(w, word * 64 + row[i].column - row[0].column);
    if (free)
        *at = word * 64 + (size_t)__builtin_ctzll(free);
    return free != 0;
}

static int place(work *w, uint32_t id) {
    const entry *row = w->entries + row_start(w, id);
    uint32_t n = row_length(w, id);
    size_t at = 0, tries = 0;
    while (tries < w->words && w->budget >= n && !fits(w, row, n, w->next, &at)) {
        w->next = w->next + 1 < w->words ? w->next + 1 : 0;
        tries++;
    }
    if (tries == w->words || w->budget < n)
        return 0;
    for (uint32_t i = 0; i < n; i++) {
        size_t slot = at + row[i].column - row[0].column;
        w->taken[slot >> 6] |= 1ull << (slot & 63);
    }
    /* Columns are 1 to `columns`, and the array begins with as many slots that are nobody's: no sum is outside of it. */
    w->t->parts[id].row = (uint32_t)(at + w->columns - row[0].column);
    return 1;
}

static void place_all(work *w) {
    uint32_t n = by_length(w);
    for (uint32_t i = 0; i < n; i++)
        if (!place(w, w->order[i])) {
            w->t->parts[w->order[i]].row = AQ_ROW_HASHED;
            w->t->has_hashed = 1;
        }
}

static aq_status fill(work *w) {
    aq_tokenizer *t = w->t;
    size_t slots = w->words * 64 + 2 * (size_t)w->columns + 1;
    AQ_ALLOC(&t->arena, t->rows, slots);
    memset(t->rows, 0xFF, slots * sizeof *t->rows);
    for (uint32_t i = 0; i < w->n; i++) {
        entry e = w->entries[i];
        if (t->parts[e.left].row != AQ_ROW_HASHED)
            t->rows[t->parts[e.left].row + e.column] = (aq_row_slot){e.left, e.rank};
    }
    AQ_ALLOC(&t->arena, t->made, t->n_ranks);
    for (uint32_t r = 0; r < t->n_ranks; r++)
        t->made[r] = (aq_merged){t->rank_id[r], aq_part_of(t, t->rank_id[r])};
    return AQ_OK;
}

aq_status aq_rows_build(aq_tokenizer *t, uint32_t looks) {
    work w = {.t = t};
    void *block;
    size_t n = (size_t)t->n_pairs + 1, ids = t->size;
    w.words = (n * 3 >> 6) + 2;
    w.budget = n * looks;
    AQ_ALLOC(&t->arena, t->parts, ids);
    AQ_TRY(aq_mem_alloc(2 * n * sizeof(entry) + (w.words + 2) * sizeof(uint64_t) + (2 * ids + 2) * sizeof(uint32_t), &block));
    w.taken = block;
    w.entries = (entry *)(w.taken + w.words + 2);
    w.other = w.entries + n;
    w.counts = (uint32_t *)(w.other + n);
    w.order = w.counts + ids + 2;
    memset(w.taken, 0, (w.words + 2) * sizeof *w.taken);
    gather(&w);
    sort(&w);
    place_all(&w);
    aq_status status = fill(&w);
    aq_mem_free(block);
    return status;
}
