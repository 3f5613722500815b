/* exec_machine.c: see exec_machine.h. Items of a phase are shared out as runtime/exec.c does it: even ranges, or from the end by a counter where
 * a phase is ragged. */
#include "frontend/cli/exec_machine.h"

#include "codegen/cpu/cpu.h"
#include "ir/clock.h"
#include "ir/memory.h"

#include <stdio.h>
#include <string.h>

static const char *const sym_names[AQ_SYM_COUNT] = {"", "T", "O", "B", "S", "P"};

aq_status aq_machine_open(const aq_nest *const *nests, uint32_t n, const aq_target *t, int threads, aq_arena *arena, aq_machine *out) {
    unsigned char *object;
    uint64_t *local;
    size_t size, bytes;
    *out = (aq_machine){.nests = nests, .n = n};
    AQ_TRY(aq_target_runs_here(t));
    AQ_ALLOC(arena, local, n + 1);
    if (n) { /* a graph of views alone has no kernel */
        AQ_TRY(aq_cpu_emit(nests, n, t, threads ? threads : aq_team_processors(), arena, &object, &size, local, NULL));
        AQ_TRY(aq_elf_load("exec", object, size, &out->elf));
    }
    AQ_TRY(aq_team_open(threads ? threads : aq_team_processors(), &out->team));
    for (uint32_t i = 0; i < n; i++)
        out->local_stride = local[i] > out->local_stride ? local[i] : out->local_stride;
    out->local_stride = (out->local_stride + 63) / 64 * 64 + 64;
    AQ_TRY(aq_size_mul((size_t)out->local_stride, (size_t)aq_team_size(out->team), "local memory", &bytes));
    return aq_mem_alloc(bytes, &out->local);
}

void aq_machine_close(aq_machine *m) {
    aq_team_close(m->team);
    aq_elf_close(m->elf);
    aq_mem_free(m->local);
    m->team = NULL;
    m->elf = NULL;
    m->local = NULL;
}

static int64_t count_items(const aq_nest *n, int phase, const int64_t *bound) {
    aq_grid grids[AQ_MAX_TREES];
    int64_t total = 0;
    for (int i = 0, k = aq_nest_grids(n, phase, grids); i < k; i++) {
        int64_t items = 1;
        for (int d = 0; d < grids[i].n; d++) {
            int64_t extent = aq_dim_eval(grids[i].extent[d], bound), step = grids[i].step[d] ? grids[i].step[d] : extent;
            items *= step > 0 ? (extent + step - 1) / step : 0;
        }
        total += items;
    }
    return total;
}

aq_status aq_launch_make(const aq_machine *m, uint32_t kernel, void **buf, const int64_t *bound, aq_arena *arena, aq_launch *out) {
    const aq_nest *n = m->nests[kernel];
    aq_launch l = {.kernel = kernel, .buf = buf, .n_phases = aq_nest_phases(n)};
    AQ_ALLOC(arena, l.phase, l.n_phases + 1);
    AQ_ALLOC(arena, l.items, l.n_phases + 1);
    for (int p = 0; p < l.n_phases; p++) {
        char name[256];
        snprintf(name, sizeof name, "%s.p%d", n->name, p);
        void *f = aq_elf_symbol(m->elf, name);
        if (!f)
            return aq_fail(AQ_FAILED, n->name, "phase %d is not in the object: this is a fault of the emitter", p);
        memcpy(&l.phase[p], &f, sizeof f);
        l.items[p] = count_items(n, p, bound);
    }
    for (aq_id i = 1; i < n->axes.n; i++)
        l.ragged |= n->axes.at[i].limit != 0;
    for (aq_id i = 1; i < n->module->syms.n; i++)
        for (int k = 1; k < AQ_SYM_COUNT; k++)
            if (!strcmp(n->module->syms.at[i].name, sym_names[k]))
                l.sym[k] = bound[i];
    *out = l;
    return AQ_OK;
}

typedef struct work {
    const aq_machine *m;
    const aq_launch *l;
} work;

static void walk(void *user, int w) {
    const work *k = user;
    const aq_launch *l = k->l;
    int workers = aq_team_size(k->m->team);
    void *local = (char *)k->m->local + (size_t)w * k->m->local_stride;
    for (int p = 0; p < l->n_phases; p++) {
        int64_t n = l->items[p], chunk = n / (workers * 8) > 0 ? n / (workers * 8) : 1, end;
        if (workers == 1)
            l->phase[p](l->buf, l->sym, local, 0, n);
        else if (l->ragged)
            while ((end = n - aq_team_take(k->m->team, chunk)) > 0)
                l->phase[p](l->buf, l->sym, local, end > chunk ? end - chunk : 0, end);
        else if (n * w / workers < n * (w + 1) / workers)
            l->phase[p](l->buf, l->sym, local, n * w / workers, n * (w + 1) / workers);
        aq_team_barrier(k->m->team, NULL);
    }
}

int64_t aq_machine_run(aq_machine *m, const aq_launch *l) {
    work k = {m, l};
    int64_t start = aq_clock_ns();
    aq_team_run(m->team, walk, &k);
    return aq_clock_ns() - start;
}
