/* plan.c: from an .aqp file to functions that can be called: check the bytes, check the processor, load the code, look every symbol up. */
#include "ir/memory.h"
#include "runtime/cpu/features.h"
#include "runtime/internal.h"

#include <string.h>

static aq_kernel from_object(void *user, const char *symbol) {
    void *at = aq_elf_symbol(user, symbol);
    aq_kernel f;
    memcpy(&f, &at, sizeof f); /* ISO C has no cast from an object pointer to a function */
    return f;
}

static aq_status resolve_kernels(aq_rt_plan *p, aq_rt_lookup lookup, void *user) {
    void *at;
    AQ_TRY(aq_mem_alloc((p->tables.n_phases + 1) * sizeof *p->kernel, &at));
    p->kernel = at;
    for (uint32_t i = 0; i < p->tables.n_phases; i++) {
        const char *symbol = p->tables.strings + p->tables.phases[i].symbol;
        p->kernel[i] = lookup(user, symbol);
        if (!p->kernel[i])
            return aq_fail(AQ_REFUSED, p->name, "phases[%u].symbol: the code has no function %s", i, symbol);
    }
    return AQ_OK;
}

static aq_status open_plan(aq_rt_plan *p, const char *name, const void *bytes, size_t size, aq_rt_lookup lookup, void *user) {
    void *copy;
    AQ_TRY(aq_mem_alloc(strlen(name) + 1, &copy));
    p->name = copy;
    memcpy(p->name, name, strlen(name));
    AQ_TRY(aq_plan_open(name, bytes, size, &p->tables));
    for (uint32_t i = 0; i < p->tables.n_graphs && !p->step; i++)
        if (strcmp(p->tables.strings + p->tables.graphs[i].name, "step") == 0)
            p->step = &p->tables.graphs[i];
    if (lookup)
        return resolve_kernels(p, lookup, user);
    AQ_TRY(aq_rt_cpu_check(name, p->tables.target));
    AQ_TRY(aq_elf_load(name, p->tables.code, p->tables.code_size, &p->code));
    return resolve_kernels(p, from_object, p->code);
}

aq_status aq_rt_plan_from_functions(const char *name, const void *bytes, size_t size, aq_rt_lookup lookup, void *user, aq_rt_plan **out) {
    void *at;
    AQ_TRY(aq_mem_alloc(sizeof(aq_rt_plan), &at));
    aq_status status = open_plan(at, name, bytes, size, lookup, user);
    if (status != AQ_OK)
        aq_rt_plan_close(at);
    else
        *out = at;
    return status;
}

aq_status aq_rt_plan_from_memory(const char *name, const void *bytes, size_t size, aq_rt_plan **out) {
    return aq_rt_plan_from_functions(name, bytes, size, NULL, NULL, out);
}

aq_status aq_rt_plan_load(const char *path, aq_rt_plan **out) {
    aq_file file;
    AQ_TRY(aq_file_map(path, &file));
    aq_status status = aq_rt_plan_from_memory(path, file.bytes, file.size, out);
    if (status != AQ_OK)
        aq_file_unmap(&file);
    else
        (*out)->file = file;
    return status;
}

void aq_rt_plan_close(aq_rt_plan *p) {
    if (!p)
        return;
    aq_elf_close(p->code);
    aq_file_unmap(&p->file);
    aq_mem_free(p->kernel);
    aq_mem_free(p->name);
    aq_mem_free(p);
}

int aq_rt_plan_is_ours(const aq_rt_plan *p) { return p->file.ours; }

const struct aq_plan *aq_rt_plan_tables(const aq_rt_plan *p) { return &p->tables; }
