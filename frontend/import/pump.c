/* pump.c: tensors to bytes of a file: see write.h. A piece of rows at a time: the team decodes and encodes them, then the piece is written. What
 * need not change goes from the map to the file as it is. Cost: that of the decode and encode rules by the number of threads, and the disk.
 * Dropped: writing one piece while the next is made: the kernel's cache takes a write at once, and what then waits is the final sync. */
#include "frontend/import/made.h"
#include "frontend/import/write.h"
#include "ir/layout.h"
#include "ir/memory.h"
#include "runtime/team.h"

enum { PIECE = 8 << 20 };

struct aq_pump {
    aq_team *team;
    int64_t head_dim;
    aq_status (*progress)(void *user, uint64_t bytes);
    void *user;
    void *piece, *rows; /* rows: room for one a worker */
    size_t piece_room, rows_room;
    /* the piece at hand */
    const aq_out_tensor *tensor;
    int64_t first, n;
    atomic_int failed;
};

aq_status aq_pump_open(int threads, int64_t head_dim, aq_status (*progress)(void *user, uint64_t bytes), void *user, aq_pump **out) {
    void *at;
    AQ_TRY(aq_mem_alloc(sizeof(aq_pump), &at));
    aq_pump *p = at;
    p->head_dim = head_dim;
    p->progress = progress;
    p->user = user;
    aq_status status = aq_team_open(threads, &p->team);
    if (status != AQ_OK)
        aq_mem_free(p);
    else
        *out = p;
    return status;
}

void aq_pump_close(aq_pump *p) {
    if (!p)
        return;
    aq_team_close(p->team);
    aq_mem_free(p->piece);
    aq_mem_free(p->rows);
    aq_mem_free(p);
}

/* The row of the source that becomes row r. */
static int64_t source_row(const aq_pump *p, int64_t r) {
    switch (p->tensor->order) {
    case AQ_ROWS_INTERLEAVE: return aq_layout_row_of_halves(r, p->head_dim);
    case AQ_ROWS_HALVE: return aq_layout_row_of_pairs(r, p->head_dim);
    default: return r;
    }
}

static size_t columns(const aq_tensor *t) { return (size_t)(t->rank == 2 ? t->dim[1] : 1); }

/* What a worker needs to turn one row: the row as it is stored (of tensors that are made), and decoded. */
static size_t room_of(const aq_tensor *t) { return (columns(t) * sizeof(float) + aq_tensor_row_bytes(t) + 63) & ~(size_t)63; }

static aq_status make_row(const aq_pump *p, int64_t r, void *room, unsigned char *to) {
    const aq_out_tensor *t = p->tensor;
    size_t cols = columns(t->from), old = aq_tensor_row_bytes(t->from);
    float *row = room;
    const void *from = t->from->data ? (const unsigned char *)t->from->data + (size_t)source_row(p, r) * old : (const unsigned char *)(row + cols);
    if (t->from->dtype == t->dtype)
        return aq_tensor_read(t->from, source_row(p, r), 1, to);
    if (!t->from->data)
        AQ_TRY(aq_tensor_read(t->from, source_row(p, r), 1, row + cols));
    aq_dtype_decode_f32(t->from->dtype, from, 0, cols, row);
    aq_dtype_encode_f32(t->dtype, row, cols, to);
    return AQ_OK;
}

/* Each worker has a stretch of rows of its own. */
static void make_rows(void *user, int worker) {
    aq_pump *p = user;
    size_t now = p->tensor->bytes / (size_t)p->tensor->from->dim[0];
    int64_t size = aq_team_size(p->team), first = p->n * worker / size, end = p->n * (worker + 1) / size;
    char *room = (char *)p->rows + (size_t)worker * room_of(p->tensor->from);
    unsigned char *to = p->piece;
    if (first == end)
        return;
    if (p->tensor->from->dtype == p->tensor->dtype && p->tensor->order == AQ_ROWS_KEEP) {
        if (aq_tensor_read(p->tensor->from, p->first + first, end - first, to + (size_t)first * now) != AQ_OK)
            atomic_store(&p->failed, 1);
        return;
    }
    for (int64_t i = first; i < end; i++)
        if (make_row(p, p->first + i, room, to + (size_t)i * now) != AQ_OK) {
            atomic_store(&p->failed, 1);
            return;
        }
}

static void say(const aq_pump *p, aq_put *to, uint64_t bytes) {
    if (p->progress && to->status == AQ_OK)
        to->status = p->progress(p->user, bytes);
}

static void copy(const aq_pump *p, const aq_out_tensor *t, aq_put *to) {
    for (size_t at = 0; at < t->bytes && to->status == AQ_OK; at += PIECE) {
        size_t n = t->bytes - at < PIECE ? t->bytes - at : PIECE;
        aq_put_bytes(to, (const unsigned char *)t->from->data + at, n);
        say(p, to, n);
    }
}

static aq_status make_room(void **block, size_t *room, size_t size) {
    if (size > *room) {
        AQ_TRY(aq_mem_resize(block, *room, size));
        *room = size;
    }
    return AQ_OK;
}

/* A vector is a matrix of one column, which no block type has. */
void aq_pump_run(aq_pump *p, const aq_out_tensor *t, aq_put *to) {
    if (t->from->data && t->from->dtype == t->dtype && t->order == AQ_ROWS_KEEP) {
        copy(p, t, to);
        return;
    }
    size_t now = t->bytes / (size_t)t->from->dim[0], n_rows = now < PIECE ? PIECE / now : 1;
    if (n_rows > (size_t)t->from->dim[0])
        n_rows = (size_t)t->from->dim[0];
    if (to->status == AQ_OK)
        to->status = make_room(&p->piece, &p->piece_room, n_rows * now);
    if (to->status == AQ_OK)
        to->status = make_room(&p->rows, &p->rows_room, room_of(t->from) * (size_t)aq_team_size(p->team));
    p->tensor = t;
    for (p->first = 0; p->first < t->from->dim[0] && to->status == AQ_OK; p->first += (int64_t)n_rows) {
        int64_t left = t->from->dim[0] - p->first;
        p->n = left < (int64_t)n_rows ? left : (int64_t)n_rows;
        aq_team_run(p->team, make_rows, p);
        if (atomic_load(&p->failed))
            to->status = aq_fail(AQ_NO_MEMORY, t->name, "no memory to make its rows");
        aq_put_bytes(to, p->piece, (size_t)p->n * now);
        say(p, to, (uint64_t)p->n * now);
    }
}

aq_status aq_out_name(aq_arena *arena, const char *house, aq_naming naming, const char **out) {
    aq_bytes name = {house, 0};
    while (house[name.n] && house[name.n] != '.')
        name.n++;
    int layered = house[name.n] == '.';
    for (uint32_t i = 0; i < aq_tensor_rows_count; i++) {
        const aq_tensor_row *r = &aq_tensor_rows[i];
        const char *pattern = r->name[naming], *mark = pattern;
        while (*mark && *mark != '#')
            mark++;
        uint32_t same = 0;
        while (same < name.n && r->house[same] == house[same])
            same++;
        if (same < name.n || r->house[same] || r->layered != layered)
            continue;
        return aq_arena_format(arena, out, "%.*s%s%s.weight", (int)(mark - pattern), pattern, layered ? house + name.n + 1 : "", *mark ? mark + 1 : "");
    }
    return aq_fail(AQ_REFUSED, house, "not the house name of a tensor");
}
