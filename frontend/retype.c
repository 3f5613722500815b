/* retype.c: rows are independent: threads take them in turn. */
#include "frontend/retype.h"

#include "ir/memory.h"

#include <pthread.h>
#include <string.h>

typedef struct worker {
    const aq_tensor *from, *to;
    uint32_t n;
    int index, count;
    aq_status status;
} worker;

static aq_status convert_rows(const worker *w, const aq_tensor *from, const aq_tensor *to, float *row) {
    size_t old = from->bytes / (size_t)from->dim[0], now = to->bytes / (size_t)to->dim[0];
    for (int64_t i = w->index; i < from->dim[0]; i += w->count) {
        aq_dtype_decode_f32(from->dtype, (const char *)from->data + (size_t)i * old, 0, (size_t)from->dim[1], row);
        aq_dtype_encode_f32(to->dtype, row, (size_t)to->dim[1], (char *)(uintptr_t)to->data + (size_t)i * now);
    }
    return AQ_OK;
}

static void *work(void *user) {
    worker *w = user;
    for (uint32_t i = 0; i < w->n && w->status == AQ_OK; i++) {
        if (w->from[i].data == w->to[i].data)
            continue;
        void *row;
        w->status = aq_mem_alloc((size_t)w->from[i].dim[1] * sizeof(float), &row);
        if (w->status == AQ_OK) {
            w->status = convert_rows(w, &w->from[i], &w->to[i], row);
            aq_mem_free(row);
        }
    }
    return NULL;
}

static aq_status plan_bytes(aq_checkpoint *c, aq_dtype to, aq_tensor *now, size_t *out_total) {
    size_t total = 0;
    for (uint32_t i = 0; i < c->n_tensors; i++) {
        now[i] = c->tensors[i];
        if (now[i].rank != 2 || now[i].dtype == to)
            continue;
        if (now[i].dim[1] % aq_dtype_of(to)->block)
            return aq_fail(AQ_REFUSED, c->path, "tensor %s: rows of %lld elements cannot be %s: expected a multiple of %d", now[i].file_name,
                           (long long)now[i].dim[1], aq_dtype_of(to)->name, aq_dtype_of(to)->block);
        size_t elements;
        AQ_TRY(aq_size_mul((size_t)now[i].dim[0], (size_t)now[i].dim[1], now[i].file_name, &elements));
        AQ_TRY(aq_dtype_bytes(to, elements, now[i].file_name, &now[i].bytes));
        now[i].dtype = to;
        now[i].data = (const char *)0 + total; /* an offset until the memory is there */
        AQ_TRY(aq_size_add(total, (now[i].bytes + 63) & ~(size_t)63, "weights", &total));
    }
    *out_total = total;
    return AQ_OK;
}

aq_status aq_checkpoint_retype(aq_checkpoint *c, aq_dtype to, int threads) {
    worker w[64];
    pthread_t thread[64];
    aq_tensor *now;
    size_t total;
    int n = threads < 1 ? 1 : threads > 64 ? 64 : threads, started = 0;
    if (c->memory)
        return aq_fail(AQ_REFUSED, c->path, "its weights were made already: expected a checkpoint from files");
    AQ_ALLOC(&c->arena, now, c->n_tensors + 1);
    AQ_TRY(plan_bytes(c, to, now, &total));
    if (!total)
        return AQ_OK;
    AQ_TRY(aq_mem_map(total, &c->memory));
    c->memory_bytes = total;
    for (uint32_t i = 0; i < c->n_tensors; i++)
        if (now[i].rank == 2 && now[i].dtype != c->tensors[i].dtype)
            now[i].data = (char *)c->memory + (size_t)now[i].data;
    for (int i = 0; i < n; i++)
        w[i] = (worker){.from = c->tensors, .to = now, .n = c->n_tensors, .index = i, .count = n};
    while (started < n - 1 && !pthread_create(&thread[started], NULL, work, &w[started + 1]))
        started++;
    work(&w[0]);
    for (int i = started + 1; i < n; i++) /* no thread to be had: done here */
        work(&w[i]);
    aq_status status = w[0].status;
    for (int i = 0; i < started; i++)
        pthread_join(thread[i], NULL);
    for (int i = 0; i < n; i++)
        status = w[i].status != AQ_OK ? w[i].status : status;
    if (status != AQ_OK)
        return aq_fail(status, c->path, "its weights could not be turned into %s", aq_dtype_of(to)->name);
    c->tensors = now;
    return AQ_OK;
}
