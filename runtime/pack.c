/* pack.c: hashing and packing by pieces that the workers take from a shared counter.
 *
 * Cost (2 Zen 4 cores, tensors in the page cache): hashing runs at the speed of memory. The whole contents are hashed, not samples: a
 * binding must not take the packed form of a checkpoint that differs in one row, and the price is that of decoding about one token, which
 * reads the same bytes. Packing runs once a model. */
#define XXH_INLINE_ALL
#include "runtime/pack.h"

#include "ir/arena.h"
#include "ir/dtype.h"
#include "ir/layout.h"

#include <string.h>
#include <xxhash.h>

#define PIECE ((uint64_t)4 << 20)

typedef struct work {
    aq_team *team;
    const aq_pack_job *jobs;
    uint32_t n;
    const int64_t *first; /* of n + 1: number of the first piece of each job */
    aq_digest *digest;    /* hashing: one a piece */
    unsigned char *block; /* packing */
    int64_t pieces;
    atomic_ullong done;
    uint64_t all;
    void (*progress)(void *, uint64_t, uint64_t);
    void *progress_user;
} work;

/* The job that piece i belongs to. */
static uint32_t job_of(const work *w, int64_t i) {
    uint32_t lo = 0, hi = w->n;
    while (hi - lo > 1) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (w->first[mid] <= i)
            lo = mid;
        else
            hi = mid;
    }
    return lo;
}

static void hash_pieces(void *user, int worker) {
    work *w = user;
    (void)worker;
    for (int64_t i; (i = aq_team_take(w->team, 1)) < w->pieces;) {
        const aq_rt_tensor *t = &w->jobs[job_of(w, i)].from;
        uint64_t at = (uint64_t)(i - w->first[job_of(w, i)]) * PIECE;
        XXH128_hash_t h = XXH3_128bits((const char *)t->data + at, t->bytes - at < PIECE ? t->bytes - at : PIECE);
        w->digest[i] = (aq_digest){h.low64, h.high64};
    }
}

aq_status aq_pack_hash(aq_team *team, aq_pack_job *jobs, uint32_t n) {
    aq_arena arena = {0};
    aq_status status = AQ_OK;
    void *first, *digest;
    AQ_TRY_GOTO(status, close, aq_arena_alloc(&arena, n + 1, sizeof(int64_t), &first));
    int64_t *at = first;
    for (uint32_t i = 0; i < n; i++)
        at[i + 1] = at[i] + (int64_t)((jobs[i].from.bytes + PIECE - 1) / PIECE);
    AQ_TRY_GOTO(status, close, aq_arena_alloc(&arena, (size_t)at[n], sizeof(aq_digest), &digest));
    work w = {.team = team, .jobs = jobs, .n = n, .first = at, .digest = digest, .pieces = at[n]};
    aq_team_run(team, hash_pieces, &w);
    for (uint32_t i = 0; i < n; i++) {
        XXH128_hash_t h = XXH3_128bits(w.digest + at[i], (size_t)(at[i + 1] - at[i]) * sizeof *w.digest);
        jobs[i].content = (aq_digest){h.low64, h.high64};
    }
close:
    aq_arena_close(&arena);
    return status;
}

/* ---- packing ---- */

/* Rows a piece: about 1 MiB of them, whole panels. */
static int64_t rows_of_piece(const aq_pack_job *j) {
    int64_t rows = (int64_t)((PIECE / 4) / (j->from.bytes / (uint64_t)j->from.dim[0] + 1));
    return (rows + AQ_PANEL_ROWS) / AQ_PANEL_ROWS * AQ_PANEL_ROWS;
}

/* Row `row` of the result comes from this row of a matrix in rotate-half order (layout.h). */
static int64_t source_row(int64_t row, int64_t head_dim) {
    if (!head_dim)
        return row;
    int64_t in_head = row % head_dim;
    return row - in_head + in_head / 2 + in_head % 2 * (head_dim / 2);
}

static void copy_rows(const aq_pack_job *j, int64_t begin, int64_t end, unsigned char *to) {
    size_t row = j->from.bytes / (size_t)j->from.dim[0];
    if (!j->head_dim)
        memcpy(to + (size_t)begin * row, (const char *)j->from.data + (size_t)begin * row, (size_t)(end - begin) * row);
    else
        for (int64_t i = begin; i < end; i++)
            memcpy(to + (size_t)i * row, (const char *)j->from.data + (size_t)source_row(i, j->head_dim) * row, row);
}

static void pack_pieces(void *user, int worker) {
    work *w = user;
    for (int64_t i; (i = aq_team_take(w->team, 1)) < w->pieces;) {
        const aq_pack_job *j = &w->jobs[job_of(w, i)];
        int64_t rows = j->from.dim[0], step = rows_of_piece(j), begin = (i - w->first[job_of(w, i)]) * step;
        int64_t end = begin + step < rows ? begin + step : rows;
        if (j->to->layout == AQ_LAYOUT_PANEL)
            aq_layout_pack_panel((aq_dtype)j->to->dtype, j->from.data, rows, j->from.dim[1], j->head_dim, begin, end - begin, w->block + j->offset);
        else
            copy_rows(j, begin, end, w->block + j->offset);
        uint64_t done = atomic_fetch_add(&w->done, (uint64_t)(end - begin) * (j->from.bytes / (uint64_t)rows));
        if (worker == 0 && w->progress)
            w->progress(w->progress_user, done, w->all);
    }
}

aq_status aq_pack_run(aq_team *team, const aq_pack_job *jobs, uint32_t n, void *block, void (*progress)(void *, uint64_t, uint64_t),
                      void *progress_user) {
    aq_arena arena = {0};
    aq_status status = AQ_OK;
    void *first;
    AQ_TRY_GOTO(status, close, aq_arena_alloc(&arena, n + 1, sizeof(int64_t), &first));
    int64_t *at = first;
    work w = {.team = team, .jobs = jobs, .n = n, .first = at, .block = block, .progress = progress, .progress_user = progress_user};
    for (uint32_t i = 0; i < n; i++) {
        at[i + 1] = at[i] + (jobs[i].from.dim[0] + rows_of_piece(&jobs[i]) - 1) / rows_of_piece(&jobs[i]);
        w.all += jobs[i].from.bytes;
    }
    w.pieces = at[n];
    aq_team_run(team, pack_pieces, &w);
    if (progress)
        progress(progress_user, w.all, w.all);
close:
    aq_arena_close(&arena);
    return status;
}
