/* made.c: see made.h. Rows are independent: threads take runs of them from a shared counter. */
#include "frontend/import/made.h"

#include "codegen/parallel.h"
#include "ir/memory.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <stdatomic.h>
#include <string.h>

enum { SAMPLES = 16, SAMPLE = 4096, RUN = 1 << 20 /* bytes that a thread makes at a time */ };

aq_status aq_tensor_read(const aq_tensor *t, int64_t first, int64_t count, void *out) {
    if (t->maker)
        return t->maker->rows(t->maker, first, count, out);
    memcpy(out, (const char *)t->data + (size_t)first * aq_tensor_row_bytes(t), (size_t)count * aq_tensor_row_bytes(t));
    return AQ_OK;
}

void aq_tensor_forget(const aq_tensor *t, int64_t first, int64_t count) {
    if (t->data)
        aq_file_forget_at((const char *)t->data + (size_t)first * aq_tensor_row_bytes(t), (size_t)count * aq_tensor_row_bytes(t));
}

uint64_t aq_tensor_stamp(const aq_checkpoint *c, const aq_tensor *t) {
    uintptr_t at = (uintptr_t)t->data;
    for (uint32_t i = 0; t->data && i < c->n_files; i++) {
        const aq_file *f = &c->files[i];
        if (at < (uintptr_t)f->bytes || at - (uintptr_t)f->bytes >= f->size)
            continue;
        uint64_t stamp = XXH3_64bits_withSeed(&f->mtime_ns, sizeof f->mtime_ns, f->size);
        return stamp ? stamp : 1;
    }
    return 0;
}

/* As the runtime samples (runtime/pack_name.c), but for recipes that start from these bytes. */
void aq_tensor_content(const aq_checkpoint *c, const aq_tensor *t, uint64_t out[2]) {
    struct {
        uint64_t stamp, bytes, dtype;
        int64_t dim[2], rotate_half;
    } head = {aq_tensor_stamp(c, t), t->bytes, t->dtype, {t->dim[0], t->dim[1]}, t->rotate_half};
    XXH128_hash_t h = XXH3_128bits(&head, sizeof head);
    if (t->maker) {
        h = XXH3_128bits_withSeed(t->maker->content, sizeof t->maker->content, h.low64);
    } else if (t->data && (!head.stamp || t->bytes <= SAMPLES * SAMPLE)) {
        h = XXH3_128bits_withSeed(t->data, t->bytes, h.low64);
    } else if (t->data) {
        for (size_t i = 0; i < SAMPLES; i++)
            h = XXH3_128bits_withSeed((const char *)t->data + (t->bytes - SAMPLE) / (SAMPLES - 1) * i, SAMPLE, h.low64 ^ (h.high64 << 1 | h.high64 >> 63));
        aq_file_forget_at(t->data, t->bytes);
    }
    out[0] = h.low64;
    out[1] = h.high64;
}

aq_status aq_tensor_become(aq_tensor *t, aq_dtype to, aq_made_recipe recipe, aq_tensor_maker *maker) {
    size_t elements;
    AQ_TRY(aq_size_mul((size_t)t->dim[0], t->rank == 2 ? (size_t)t->dim[1] : 1, t->file_name, &elements));
    AQ_TRY(aq_dtype_bytes(to, elements, t->file_name, &t->bytes));
    maker->content[1] ^= (uint64_t)to << 56 | (uint64_t)recipe << 48;
    t->dtype = to;
    t->data = NULL;
    t->maker = maker;
    return AQ_OK;
}

/* ---- all of them ---- */

typedef struct work {
    const aq_tensor *t;
    uint32_t n;
    atomic_llong *next; /* row of each tensor that nobody has taken yet */
    atomic_int failed;
} work;

/* One worker: takes rows until none is left. */
static void make_rows(void *user, int64_t begin, int64_t end) {
    work *w = user;
    (void)begin, (void)end;
    for (uint32_t i = 0; i < w->n; i++) {
        const aq_tensor *t = &w->t[i];
        int64_t run = (int64_t)(RUN / aq_tensor_row_bytes(t)) + 1;
        for (int64_t row; t->maker && !atomic_load(&w->failed) && (row = atomic_fetch_add(&w->next[i], run)) < t->dim[0];) {
            int64_t count = t->dim[0] - row < run ? t->dim[0] - row : run;
            aq_status status = t->maker->rows(t->maker, row, count, (char *)(uintptr_t)t->data + (size_t)row * aq_tensor_row_bytes(t));
            if (status != AQ_OK)
                atomic_store(&w->failed, (int)status);
        }
    }
}

static aq_status make_all(work *w, int threads) {
    aq_parallel(threads, threads > 1 ? threads : 1, 1, make_rows, w);
    return (aq_status)atomic_load(&w->failed);
}

aq_status aq_checkpoint_make(aq_checkpoint *c, int threads) {
    aq_tensor *now;
    work w = {.n = c->n_tensors};
    size_t total = 0;
    AQ_ALLOC(&c->arena, now, c->n_tensors + 1);
    AQ_ALLOC(&c->arena, w.next, c->n_tensors + 1);
    for (uint32_t i = 0; i < c->n_tensors; i++) {
        now[i] = c->tensors[i];
        if (!now[i].maker)
            continue;
        now[i].data = (const void *)(uintptr_t)total; /* an offset until the memory is there */
        AQ_TRY(aq_size_add(total, (now[i].bytes + 63) & ~(size_t)63, c->path, &total));
    }
    if (!total)
        return AQ_OK;
    uint64_t free = aq_mem_available(); /* filling more than there is would end in the kernel killing us, not in a failed call */
    if (total > free)
        return aq_fail(AQ_NO_MEMORY, c->path, "weights of %.1f GiB: only %.1f GiB of memory are free (try a smaller --weights-type)",
                       (double)total / 0x1p30, (double)free / 0x1p30);
    if (c->made)
        return aq_fail(AQ_FAILED, c->path, "its weights were made already: this is a fault of the caller");
    AQ_TRY(aq_mem_map(total, &c->made));
    c->made_bytes = total;
    for (uint32_t i = 0; i < c->n_tensors; i++)
        if (now[i].maker)
            now[i].data = (char *)c->made + (size_t)now[i].data;
    w.t = now;
    aq_status status = make_all(&w, threads);
    if (status != AQ_OK)
        return aq_fail(status, c->path, "its weights could not be made");
    for (uint32_t i = 0; i < c->n_tensors; i++)
        now[i].maker = NULL;
    c->tensors = now;
    return AQ_OK;
}
