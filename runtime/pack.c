/* pack.c: packing by pieces that the workers take from a shared counter, window by window: a window goes to a file as soon as it is full, so a
 * model takes the memory of one window while it is packed, whatever its size, and tensors that are made when they are asked for (random
 * weights, another type, merged adapters) exist a piece at a time only.
 *
 * Cost: packing runs at about 1 GB/s a core, once a model. Making random q4_0 costs as much again, quantising from bf16 three times that.
 * Dropped: packing through a shared mapping of the file (small pages for good, see cache_file.c); the whole block in memory before it is
 * written (twice the model at its largest moment). What names the contents of a tensor is in pack_name.c. */
#define XXH_INLINE_ALL
#include "runtime/pack.h"

#include "ir/arena.h"
#include "ir/file.h"
#include "ir/layout.h"
#include "ir/memory.h"

#include <string.h>
#include <xxhash.h>

enum { PIECE = 1 << 20, WINDOW = 64 << 20 };

typedef struct work {
    aq_team *team;
    const aq_pack_list *l;
    const aq_pack_to *to;
    int64_t begin, end;   /* pieces of this window */
    unsigned char *bytes; /* of the window */
    uint64_t start;       /* its place in the block */
    atomic_ullong done;
    uint64_t all;
    atomic_int failed; /* a status */
} work;

uint64_t aq_pack_sum_all(const void *bytes, uint64_t n) { return XXH3_64bits_withSeed(bytes, n, n); }

uint64_t aq_pack_sum_ends(const void *bytes, uint64_t n) {
    if (n <= 2 * AQ_PACK_ENDS)
        return aq_pack_sum_all(bytes, n);
    return XXH3_64bits_withSeed((const char *)bytes + n - AQ_PACK_ENDS, AQ_PACK_ENDS, aq_pack_sum_all(bytes, AQ_PACK_ENDS));
}

/* ---- pieces ---- */

static int64_t common(int64_t a, int64_t b) { return b ? common(b, a % b) : a; }

static size_t row_bytes(const aq_pack_job *j) { return j->from.bytes / (size_t)j->from.dim[0]; }

/* Rows a piece: about 1 MiB of them, whole panels, whole heads (a made tensor is interleaved inside its piece). */
static int64_t rows_of_piece(const aq_pack_job *j) {
    int64_t rows = (int64_t)(PIECE / (row_bytes(j) + 1)), unit = AQ_PANEL_ROWS;
    if (j->head_dim)
        unit = AQ_PANEL_ROWS / common(AQ_PANEL_ROWS, j->head_dim) * j->head_dim;
    return (rows + unit) / unit * unit;
}

/* The packed bytes of the first `rows` rows, a multiple of the panel or all. */
static uint64_t packed_bytes(const aq_pack_job *j, int64_t rows) {
    if (j->to->layout != AQ_LAYOUT_PANEL)
        return (uint64_t)rows * row_bytes(j);
    int64_t panels = (j->from.dim[0] + AQ_PANEL_ROWS - 1) / AQ_PANEL_ROWS;
    return (uint64_t)((rows + AQ_PANEL_ROWS - 1) / AQ_PANEL_ROWS) * (j->to->bytes / (uint64_t)panels);
}

void aq_pack_cut(aq_pack_list *l) {
    int64_t pieces = 0;
    for (uint32_t i = 0; i < l->n; i++) {
        int64_t step = rows_of_piece(&l->jobs[i]);
        l->jobs[i].first = pieces;
        pieces += (l->jobs[i].from.dim[0] + step - 1) / step;
    }
    l->jobs[l->n].first = pieces;
}

/* The job that piece i belongs to. */
static const aq_pack_job *job_of(const aq_pack_list *l, int64_t i) {
    uint32_t lo = 0, hi = l->n;
    while (hi - lo > 1) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (l->jobs[mid].first <= i)
            lo = mid;
        else
            hi = mid;
    }
    return &l->jobs[lo];
}

void aq_pack_extent(const aq_pack_list *l, int64_t i, uint64_t *begin, uint64_t *end) {
    const aq_pack_job *j = job_of(l, i);
    int64_t step = rows_of_piece(j), row = (i - j->first) * step;
    *begin = j->offset + packed_bytes(j, row);
    *end = i + 1 == j[1].first ? j[1].offset : j->offset + packed_bytes(j, row + step);
}

/* ---- packing ---- */

static void copy_rows(const aq_pack_job *j, const char *from, int64_t n, unsigned char *to) {
    size_t row = row_bytes(j);
    if (!j->head_dim)
        memcpy(to, from, (size_t)n * row);
    else
        for (int64_t i = 0; i < n; i++)
            memcpy(to + (size_t)i * row, from + (size_t)aq_layout_row_of_halves(i, j->head_dim) * row, row);
}

/* A piece is whole heads, so it is packed as a matrix of its own. */
static aq_status pack_piece(const work *w, int64_t i) {
    const aq_pack_job *j = job_of(w->l, i);
    int64_t step = rows_of_piece(j), first = (i - j->first) * step, n = j->from.dim[0] - first < step ? j->from.dim[0] - first : step;
    uint64_t begin, end;
    const char *from = j->from.data ? (const char *)j->from.data + (size_t)first * row_bytes(j) : NULL;
    void *made = NULL;
    aq_pack_extent(w->l, i, &begin, &end);
    unsigned char *to = w->bytes + (begin - w->start);
    if (!w->to->block)
        memset(to, 0, (size_t)(end - begin)); /* a window before left its bytes */
    if (!from) {
        AQ_TRY(aq_mem_alloc((size_t)n * row_bytes(j), &made));
        aq_status status = j->from.rows(j->from.maker, first, n, made);
        if (status != AQ_OK) {
            aq_mem_free(made);
            return status;
        }
        from = made;
    }
    if (j->to->layout == AQ_LAYOUT_PANEL)
        aq_layout_pack_panel((aq_dtype)j->to->dtype, from, n, j->from.dim[1], j->head_dim, 0, n, to);
    else
        copy_rows(j, from, n, to);
    aq_mem_free(made);
    if (j->from.data)
        aq_file_forget_at(from, (size_t)n * row_bytes(j)); /* else a first start holds two copies, the second one in the kernel's cache */
    if (w->to->sums)
        w->to->sums[i] = (aq_pack_sums){end, aq_pack_sum_ends(to, end - begin), aq_pack_sum_all(to, end - begin)};
    return AQ_OK;
}

static void pack_pieces(void *user, int worker) {
    work *w = user;
    for (int64_t i; (i = w->begin + aq_team_take(w->team, 1)) < w->end && !atomic_load(&w->failed);) {
        uint64_t begin, end;
        aq_status status = pack_piece(w, i);
        if (status != AQ_OK)
            atomic_store(&w->failed, (int)status);
        aq_pack_extent(w->l, i, &begin, &end);
        uint64_t done = atomic_fetch_add(&w->done, end - begin);
        if (worker == 0 && w->to->progress)
            w->to->progress(w->to->progress_user, done, w->all);
    }
}

/* The end of the window that begins with piece `begin`. */
static int64_t window_end(const aq_pack_list *l, int64_t begin, uint64_t *bytes) {
    int64_t pieces = l->jobs[l->n].first, i = begin;
    uint64_t start, at, end;
    aq_pack_extent(l, begin, &start, &end);
    for (*bytes = end - start; ++i < pieces; *bytes = end - start) {
        aq_pack_extent(l, i, &at, &end);
        if (end - start > WINDOW)
            break;
    }
    return i;
}

static aq_status run_window(work *w) {
    aq_team_run(w->team, pack_pieces, w);
    int failed = atomic_load(&w->failed);
    return failed ? aq_fail((aq_status)failed, NULL, "a tensor could not be made while weights were packed") : AQ_OK;
}

aq_status aq_pack_run(aq_team *team, const aq_pack_list *l, const aq_pack_to *to) {
    work w = {.team = team, .l = l, .to = to, .bytes = to->block, .all = l->jobs[l->n].offset};
    int64_t pieces = l->jobs[l->n].first;
    uint64_t most = 0, bytes = 0;
    aq_status status = AQ_OK;
    void *window = NULL;
    for (int64_t at = 0; !to->block && at < pieces; most = bytes > most ? bytes : most)
        at = window_end(l, at, &bytes);
    if (!to->block) {
        AQ_TRY(aq_mem_map(most, &window));
        w.bytes = window;
    }
    for (int64_t at = 0; at < pieces; at = w.end) {
        w.begin = at;
        w.end = to->block ? pieces : window_end(l, at, &bytes);
        if (!to->block)
            aq_pack_extent(l, at, &w.start, &(uint64_t){0});
        AQ_TRY_GOTO(status, close, run_window(&w));
        if (to->put)
            AQ_TRY_GOTO(status, close, to->put(to->user, w.bytes, to->block ? w.all : bytes));
    }
    if (to->progress)
        to->progress(to->progress_user, w.all, w.all);
close:
    aq_mem_unmap(window, most);
    return status;
}
