/* weights.c: binds the weights of a plan to the bytes of a model.
 *
 * A weight that the plan wants as stored is a pointer into the source's memory. The others are packed into one block: mapped from the
 * cache folder if an intact file of the same contents and recipes is there; else packed into such a file, window by window, and mapped from
 * it, so that memory holds one copy, which the kernel may throw out and read again; without a folder that can be written, packed in memory,
 * with a note: it is no error. */
#include "ir/file.h"
#include "ir/memory.h"
#include "runtime/internal.h"
#include "runtime/pack.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

struct aq_rt_weights {
    uint64_t plan_hash;
    const aq_rt_plan *plan;
    const void **at;
    aq_pack_list list;
    void *block; /* packed in memory */
    size_t block_size;
    aq_file cached;
    char note[512];
};

void *aq_rt_weight_at(const aq_rt_weights *w, uint32_t i) { return (void *)(uintptr_t)w->at[i]; }
uint64_t aq_rt_weights_plan(const aq_rt_weights *w) { return w->plan_hash; }
const char *aq_rt_weights_note(const aq_rt_weights *w) { return w->note[0] ? w->note : NULL; }

static aq_status check_tensor(const aq_rt_plan *p, const aq_plan_weight *w, const aq_rt_tensor *t) {
    const char *name = p->tables.strings + w->name;
    size_t n = 1, bytes;
    if (t->dtype != w->dtype)
        return aq_fail(AQ_REFUSED, name, "type %s: the plan %s expects %s", t->dtype < AQ_DTYPE_COUNT ? aq_dtype_of((aq_dtype)t->dtype)->name : "unknown",
                       p->name, aq_dtype_of((aq_dtype)w->dtype)->name);
    if (t->rank != w->rank)
        return aq_fail(AQ_REFUSED, name, "%u axes: the plan %s expects %u", t->rank, p->name, w->rank);
    for (uint32_t i = 0; i < w->rank; i++) {
        if (t->dim[i] != w->dim[i])
            return aq_fail(AQ_REFUSED, name, "axis %u of %" PRId64 ": the plan %s expects %" PRId64, i, t->dim[i], p->name, w->dim[i]);
        AQ_TRY(aq_size_mul(n, (size_t)w->dim[i], name, &n));
    }
    AQ_TRY(aq_dtype_bytes((aq_dtype)w->dtype, n, name, &bytes));
    int there = t->data || t->rows;
    if (!there || t->bytes != bytes)
        return aq_fail(AQ_REFUSED, name, "%zu bytes: expected %zu", there ? t->bytes : 0, bytes);
    if (t->rotate_half && !w->head_dim)
        return aq_fail(AQ_REFUSED, name, "its rows are in rotate-half order: the plan %s has no recipe for that", p->name);
    return AQ_OK;
}

/* As stored: the plan's layout is that of files, no row has to move, and the elements lie where the processor may load them. */
static int usable(const aq_plan_weight *w, const aq_rt_tensor *t) {
    static const uintptr_t align[] = {[AQ_KIND_FLOAT] = 0, [AQ_KIND_INT] = 0, [AQ_KIND_WEIGHT] = 2, [AQ_KIND_ACT] = 4};
    const aq_dtype_info *type = aq_dtype_of((aq_dtype)w->dtype);
    uintptr_t unit = align[type->kind] ? align[type->kind] : type->bytes;
    return t->data && w->layout == AQ_LAYOUT_ROWS && !(t->rotate_half && w->head_dim) && (uintptr_t)t->data % unit == 0;
}

/* Asks for every tensor; what has to be packed becomes a job. */
static aq_status collect(aq_rt_weights *b, aq_rt_tensor_source source, void *user, uint64_t *out_mapped) {
    const aq_plan *p = &b->plan->tables;
    aq_pack_list *l = &b->list;
    for (uint32_t i = 0; i < p->n_weights; i++) {
        const aq_plan_weight *w = &p->weights[i];
        aq_rt_tensor t = {0};
        if (w->alias)
            continue;
        AQ_TRY(source(user, p->strings + w->name, &t));
        AQ_TRY(check_tensor(b->plan, w, &t));
        b->at[i] = t.data;
        if (usable(w, &t)) {
            *out_mapped += t.bytes;
            continue;
        }
        l->jobs[l->n++] = (aq_pack_job){.from = t, .to = w, .head_dim = t.rotate_half ? w->head_dim : 0, .offset = b->block_size, .weight = i};
        AQ_TRY(aq_size_add(b->block_size, w->bytes, b->plan->name, &b->block_size));
        AQ_TRY(aq_size_add(b->block_size, 63, b->plan->name, &b->block_size));
        b->block_size &= ~(size_t)63;
    }
    l->jobs[l->n].offset = b->block_size;
    aq_pack_cut(l);
    return AQ_OK;
}

static void place(aq_rt_weights *b, const void *block) {
    for (uint32_t i = 0; i < b->list.n; i++)
        b->at[b->list.jobs[i].weight] = (const char *)block + b->list.jobs[i].offset;
}

typedef struct request {
    const char *folder;
    void (*progress)(void *user, uint64_t done, uint64_t all);
    void *progress_user;
} request;

static aq_status pack_in_memory(aq_rt_weights *b, aq_team *team, const aq_pack_to *how) {
    aq_pack_to to = *how;
    uint64_t free = aq_mem_available();
    if (b->block_size > free)
        return aq_fail(AQ_NO_MEMORY, b->plan->name, "packed weights of %.2f GiB: %.2f GiB of memory are free (a cache folder on a disk with room takes them too)",
                       (double)b->block_size / 0x1p30, (double)free / 0x1p30);
    AQ_TRY(aq_mem_map(b->block_size, &b->block));
    to.block = b->block;
    AQ_TRY(aq_pack_run(team, &b->list, &to));
    place(b, b->block);
    return AQ_OK;
}

/* AQ_FAILED: nothing is there or can be put there; the message says why. */
static aq_status pack_in_file(aq_rt_weights *b, aq_team *team, const char *folder, const aq_pack_to *how) {
    aq_cache_key key;
    const void *block;
    AQ_TRY(aq_pack_name(team, &b->list));
    AQ_TRY(aq_cache_name(folder, &b->list, &key));
    aq_status status = aq_cache_open(&key, &b->list, &b->cached, &block);
    if (status == AQ_REFUSED) {
        AQ_TRY(aq_cache_write(folder, &key, team, &b->list, how));
        status = aq_cache_open(&key, &b->list, &b->cached, &block);
    }
    if (status == AQ_OK)
        place(b, block);
    return status == AQ_REFUSED ? AQ_FAILED : status;
}

static aq_status pack(aq_rt_weights *b, aq_team *team, const request *r) {
    const aq_pack_to how = {.progress = r->progress, .progress_user = r->progress_user};
    if (r->folder) {
        aq_status status = pack_in_file(b, team, r->folder, &how);
        if (status != AQ_FAILED)
            return status;
        snprintf(b->note, sizeof b->note, "packed weights are not kept: %.400s (the next start packs them again)", aq_error());
    }
    return pack_in_memory(b, team, &how);
}

static aq_status open_tables(aq_rt_weights *b) {
    uint32_t n = b->plan->tables.n_weights;
    void *at;
    AQ_TRY(aq_mem_alloc((n + 1) * sizeof *b->at, &at));
    b->at = at;
    AQ_TRY(aq_mem_alloc((n + 1) * sizeof *b->list.jobs, &at));
    b->list.jobs = at;
    return AQ_OK;
}

static aq_status bind(aq_rt_weights *b, aq_rt_tensor_source source, void *user, int threads, const request *r) {
    const aq_plan *p = &b->plan->tables;
    uint64_t mapped = 0;
    AQ_TRY(open_tables(b));
    AQ_TRY(collect(b, source, user, &mapped));
    if (b->list.n) {
        aq_team *team;
        AQ_TRY(aq_team_open(threads, &team));
        aq_status status = pack(b, team, r);
        aq_team_close(team);
        AQ_TRY(status);
    }
    for (uint32_t i = 0; i < p->n_weights; i++)
        if (p->weights[i].alias)
            b->at[i] = b->at[p->weights[i].alias - 1];
    return AQ_OK;
}

aq_status aq_rt_weights_measure(const aq_rt_plan *p, aq_rt_tensor_source source, void *user, uint64_t *out_packed, uint64_t *out_mapped) {
    void *at;
    uint64_t mapped = 0;
    AQ_TRY(aq_mem_alloc(sizeof(aq_rt_weights), &at));
    aq_rt_weights *b = at;
    b->plan = p;
    aq_status status = open_tables(b);
    if (status == AQ_OK)
        status = collect(b, source, user, &mapped);
    if (status == AQ_OK) {
        *out_packed = b->block_size;
        *out_mapped = mapped;
    }
    aq_rt_weights_close(b);
    return status;
}

aq_status aq_rt_weights_bind(const aq_rt_plan *p, aq_rt_tensor_source source, void *user, const char *cache_folder, int threads,
                             void (*progress)(void *user, uint64_t done, uint64_t all), void *progress_user, aq_rt_weights **out) {
    void *at;
    AQ_TRY(aq_mem_alloc(sizeof(aq_rt_weights), &at));
    aq_rt_weights *b = at;
    b->plan = p;
    b->plan_hash = p->tables.hash;
    aq_status status = bind(b, source, user, threads, &(request){cache_folder, progress, progress_user});
    if (status != AQ_OK)
        aq_rt_weights_close(b);
    else
        *out = b;
    return status;
}

void aq_rt_weights_close(aq_rt_weights *w) {
    if (!w)
        return;
    aq_file_unmap(&w->cached);
    aq_mem_unmap(w->block, w->block_size);
    aq_mem_free(w->list.jobs);
    aq_mem_free(w->at);
    aq_mem_free(w);
}
