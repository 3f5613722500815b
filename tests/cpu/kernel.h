/* kernel.h: a nest text compiled, loaded and run on random data beside the interpreter, for the tests of the CPU emitter. Buffers end at a page
 * that may not be touched, so a load or store past the end stops the test. */
#ifndef AQ_TESTS_CPU_KERNEL_H
#define AQ_TESTS_CPU_KERNEL_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "codegen/cpu/cpu.h"
#include "codegen/ref/ref.h"
#include "ir/memory.h"
#include "ir/plan.h"
#include "ir/random.h"
#include "runtime/cpu/elf_load.h"

typedef struct kernel {
    aq_module m;
    aq_arena arena;
    aq_nest *n;
    int64_t sym[AQ_SYM_COUNT];
    int n_bufs;
    void *map[64], *at[64];
    size_t map_bytes[64], bytes[64];
    aq_elf *elf;      /* the one in use */
    aq_elf *elfs[8];  /* by target, once compiled */
    uint64_t local_bytes;
    const char *text, *needs; /* needs: only targets whose name holds it; NULL = all */
} kernel;

#define OK(expr)                                                                                                                           \
    do {                                                                                                                                   \
        if ((expr) != AQ_OK)                                                                                                               \
            fail_msg("%s:%d: %s", __FILE__, __LINE__, aq_error());                                                                         \
    } while (0)

static inline void kernel_open(kernel *k, const char *text, int64_t T) {
    memset(k, 0, sizeof *k);
    OK(aq_module_open(&k->m, "test"));
    static const char *const names[] = {"", "T", "O", "B", "S", "P"};
    int64_t values[] = {1, T, 3, 3, 256, 4};
    memcpy(k->sym, values, sizeof values);
    for (int i = 1; i < AQ_SYM_COUNT; i++) {
        aq_id id;
        OK(aq_sym_add(&k->m, names[i], 1, 1 << 20, &id));
        assert_int_equal(id, i);
    }
    OK(aq_read_nest(&k->m, &k->arena, "test.nest", text, strlen(text), &k->n));
    k->text = text;
}

static inline int64_t buf_count(const kernel *k, const aq_nest_buf *b, int64_t *dim) {
    int64_t n = 1;
    for (int i = 0; i < b->type.rank; i++)
        n *= dim[i] = aq_dim_eval(b->type.dim[i], k->sym);
    return n;
}

static inline void fill_buf(kernel *k, const aq_nest_buf *b, void *at, uint64_t seed, int high) {
    int64_t dim[4], n = buf_count(k, b, dim);
    aq_random r = aq_random_open(seed);
    if (b->type.dtype == AQ_I32) {
        for (int64_t i = 0; i < n; i++)
            ((int32_t *)at)[i] = (int32_t)(aq_random_u32(&r) % (uint32_t)high);
        return;
    }
    void *x, *rows;
    size_t bytes;
    OK(aq_mem_alloc((size_t)n * 4, &x));
    for (int64_t i = 0; i < n; i++)
        ((float *)x)[i] = (float)aq_random_normal(&r);
    OK(aq_dtype_bytes(b->type.dtype, (uint64_t)n, "test", &bytes));
    if (b->layout == AQ_LAYOUT_ROWS)
        aq_dtype_encode_f32(b->type.dtype, x, (size_t)n, at);
    else if (b->layout == AQ_LAYOUT_PANEL) {
        OK(aq_mem_alloc(bytes, &rows));
        aq_dtype_encode_f32(b->type.dtype, x, (size_t)n, rows);
        aq_layout_pack_panel(b->type.dtype, rows, dim[0], dim[1], 0, 0, dim[0], at);
        aq_mem_free(rows);
    } else
        for (int64_t i = 0; i < n; i++) {
            int64_t index[3] = {i / dim[2] / dim[1], i / dim[2] % dim[1], i % dim[2]};
            aq_layout_set(b->layout, b->type.dtype, dim, 3, index, at, ((float *)x)[i]);
        }
    aq_mem_free(x);
}

/* Memory for every buffer but LOCAL ones, random inputs (integers below `high`), outputs poisoned. */
static inline void kernel_fill(kernel *k, uint64_t seed, int high) {
    for (aq_id i = 1; i < k->n->bufs.n; i++) {
        const aq_nest_buf *b = &k->n->bufs.at[i];
        if (b->role == AQ_BUF_LOCAL)
            continue;
        int64_t dim[4];
        buf_count(k, b, dim);
        int j = k->n_bufs++;
        OK(aq_layout_bytes(b->layout, b->type.dtype, dim, b->type.rank, b->name, &k->bytes[j]));
        k->map_bytes[j] = (k->bytes[j] + 4095) / 4096 * 4096 + 4096;
        OK(aq_mem_map(k->map_bytes[j], &k->map[j]));
        char *end = (char *)k->map[j] + k->map_bytes[j] - 4096;
        assert_int_equal(mprotect(end, 4096, PROT_NONE), 0);
        k->at[j] = end - k->bytes[j];
        memset(k->at[j], 0, k->bytes[j]);
        if (b->role == AQ_BUF_IN || b->role == AQ_BUF_STATE)
            fill_buf(k, b, k->at[j], seed + i, high);
        else
            memset(k->at[j], 0xff, k->bytes[j]);
    }
}

static inline void *kernel_buf(kernel *k, const char *name) {
    int j = 0;
    for (aq_id i = 1; i < k->n->bufs.n; i++) {
        if (k->n->bufs.at[i].role == AQ_BUF_LOCAL)
            continue;
        if (!strcmp(k->n->bufs.at[i].name, name))
            return k->at[j];
        j++;
    }
    fail_msg("no buffer %s", name);
    return NULL;
}

static inline aq_elf *compiled(kernel *k, const char *target) {
    aq_target t;
    OK(aq_target_parse(target, &t));
    unsigned char *object;
    size_t size;
    const char *assembly = NULL;
    const aq_nest *n = k->n;
    aq_elf *elf = NULL;
    OK(aq_cpu_emit(&n, 1, &t, 1, &k->arena, &object, &size, &k->local_bytes, getenv("AQ_SHOW_ASM") ? &assembly : NULL));
    if (assembly)
        puts(assembly);
    OK(aq_elf_load("test", object, size, &elf));
    return elf;
}

static inline void kernel_compile(kernel *k, const char *target) {
    aq_elf_close(k->elfs[0]);
    k->elf = k->elfs[0] = compiled(k, target);
}

static inline int64_t kernel_items(const kernel *k, int phase) {
    aq_grid g[AQ_MAX_TREES];
    int64_t total = 0;
    for (int i = 0, n = aq_nest_grids(k->n, phase, g); i < n; i++) {
        int64_t items = 1;
        for (int d = 0; d < g[i].n; d++)
            items *= (aq_dim_eval(g[i].extent[d], k->sym) + g[i].step[d] - 1) / g[i].step[d];
        total += items;
    }
    return total;
}

static inline aq_kernel kernel_phase(const kernel *k, int phase) {
    char name[128];
    snprintf(name, sizeof name, "%s.p%d", k->n->name, phase);
    void *p = aq_elf_symbol(k->elf, name);
    aq_kernel f;
    assert_non_null(p);
    memcpy(&f, &p, sizeof f);
    return f;
}

/* All phases, each in three ranges of items, the last first. */
static inline void kernel_run(kernel *k, void **buf) {
    void *local;
    OK(aq_mem_alloc(k->local_bytes + 64, &local));
    for (int p = 0; p < aq_nest_phases(k->n); p++) {
        int64_t n = kernel_items(k, p), cut[4] = {0, n / 3, n - n / 4, n};
        for (int i = 3; i-- > 0;)
            kernel_phase(k, p)(buf, k->sym, local, cut[i], cut[i + 1]);
    }
    aq_mem_free(local);
}

static inline double value_at(const kernel *k, const aq_nest_buf *b, const void *at, int64_t i) {
    int64_t dim[4], index[4], n = buf_count(k, b, dim);
    (void)n;
    for (int d = b->type.rank; d-- > 0; i /= dim[d])
        index[d] = i % dim[d];
    return aq_layout_get(b->layout, b->type.dtype, dim, b->type.rank, index, at);
}

/* Relative L2 difference of two copies of a buffer; both infinite or both NaN counts as equal. */
static inline double difference(const kernel *k, const aq_nest_buf *b, const void *x, const void *y) {
    int64_t dim[4], n = buf_count(k, b, dim);
    double up = 0, down = 1e-30;
    for (int64_t i = 0; i < n; i++) {
        double p = value_at(k, b, x, i), q = value_at(k, b, y, i);
        if (p == q || (isnan(p) && isnan(q)))
            continue;
        up += isfinite(p - q) ? (p - q) * (p - q) : 1e30;
        down += isfinite(q) ? q * q : 0;
    }
    for (int64_t i = 0; i < n; i++) {
        double q = value_at(k, b, y, i);
        down += isfinite(q) ? q * q : 0;
    }
    return sqrt(up / down);
}

static const char *const kernel_targets[] = {"cpu:v3", "cpu:v4", "cpu:v4+vnni", "cpu:v4+bf16+vnni"};

/* Runs the interpreter once and the compiled nest for every level that this machine has; outputs and states must agree. */
static inline void kernel_check(kernel *k, double tolerance) {
    void *want[64], *buf[64];
    for (int i = 0; i < k->n_bufs; i++) {
        OK(aq_mem_alloc(k->bytes[i] + 64, &want[i]));
        memcpy(want[i], k->at[i], k->bytes[i]);
    }
    OK(aq_ref_run_nest(k->n, want, k->sym, 1));
    void *saved[64];
    for (int i = 0; i < k->n_bufs; i++) {
        OK(aq_mem_alloc(k->bytes[i] + 64, &saved[i]));
        memcpy(saved[i], k->at[i], k->bytes[i]);
        buf[i] = k->at[i];
    }
    for (size_t t = 0; t < sizeof kernel_targets / sizeof *kernel_targets; t++) {
        aq_target target;
        OK(aq_target_parse(kernel_targets[t], &target));
        if (k->needs && !strstr(kernel_targets[t], k->needs))
            continue;
        if (!k->elfs[t])
            k->elfs[t] = compiled(k, kernel_targets[t]);
        k->elf = k->elfs[t];
        if (aq_target_runs_here(&target))
            continue;
        for (int i = 0; i < k->n_bufs; i++)
            memcpy(k->at[i], saved[i], k->bytes[i]);
        kernel_run(k, buf);
        int j = 0;
        for (aq_id i = 1; i < k->n->bufs.n; i++) {
            const aq_nest_buf *b = &k->n->bufs.at[i];
            if (b->role == AQ_BUF_LOCAL)
                continue;
            double d = b->role == AQ_BUF_OUT || b->role == AQ_BUF_STATE ? difference(k, b, k->at[j], want[j]) : 0;
            double limit = b->type.dtype == AQ_A8 ? 2e-2 : b->type.dtype == AQ_A16 ? 1e-4 : b->type.dtype == AQ_BF16 ? 2e-3 : b->type.dtype == AQ_F16 ? 3e-4 : tolerance;
            if (!(d <= limit))
                fail_msg("nest %s, T = %lld, %s: %s differs by %.3g from the interpreter (at most %.3g)\n%s", k->n->name, (long long)k->sym[1],
                         kernel_targets[t], b->name, d, limit, k->text);
            j++;
        }
    }
    for (int i = 0; i < k->n_bufs; i++) {
        aq_mem_free(want[i]);
        aq_mem_free(saved[i]);
    }
}

static inline void kernel_empty(kernel *k) {
    for (int i = 0; i < k->n_bufs; i++)
        aq_mem_unmap(k->map[i], k->map_bytes[i]);
    k->n_bufs = 0;
}

static inline void kernel_close(kernel *k) {
    kernel_empty(k);
    for (int i = 0; i < 8; i++)
        aq_elf_close(k->elfs[i]);
    aq_arena_close(&k->arena);
    aq_module_close(&k->m);
}

/* The nest compiled once and checked for every T in the list (0 ends it); `prepare` (may be NULL) sets inputs that must make sense. */
static inline void check_nest_at(const char *text, const int64_t *T, int high, double tolerance, void (*prepare)(kernel *)) {
    kernel k;
    kernel_open(&k, text, T[0]);
    for (; *T; T++) {
        k.sym[AQ_SYM_T] = *T;
        kernel_fill(&k, 42 + (uint64_t)*T, high);
        if (prepare)
            prepare(&k);
        kernel_check(&k, tolerance);
        kernel_empty(&k);
    }
    kernel_close(&k);
}

#endif
