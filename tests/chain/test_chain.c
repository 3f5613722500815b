/* test_chain.c: graph = region = nest = machine code, link by link, on random regions under random legal schedules. The first broken link
 * is the bug: a nest that the interpreter runs to something else than the graph is lower's; code that differs where the nest agreed is the
 * emitter's. Prints the region, the schedule, the nest and the seed. AQ_CHAIN_SEED runs
 * that one alone, with AQ_CHAIN_PAIRS so many from there; AQ_CHAIN_TARGET one level of CPU. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdlib.h>

#include "tests/chain/random_region.h"

#include "codegen/cpu/cpu.h"
#include "ir/memory.h"
#include "ir/plan.h"
#include "runtime/cpu/elf_load.h"
#include "tests/support/region.h"

enum { BATCH = 32, PAIRS = 2112 };

typedef struct pair {
    uint64_t seed;
    aq_module m;
    region r;
    aq_schedule *s;
    aq_nest *n;
    int64_t t;
} pair;

static const char *const targets[] = {"cpu:v4+bf16+vnni", "cpu:v3", "cpu:v4", "cpu:v4+vnni"};
static uint8_t used[AQ_OP_COUNT];
static long refused_nests, nests, runs, marked;

static void broken(const pair *p, const char *link, const char *why) {
    static char reason[1024];
    aq_arena a = {0};
    aq_text t = {.arena = &a};
    const char *text;
    snprintf(reason, sizeof reason, "%s", why);
    (void)!aq_print_module(&p->m, &t);
    (void)!aq_text_add(&t, "schedule ");
    if (p->s)
        (void)!aq_print_schedule(p->s, &t);
    (void)!aq_text_add(&t, "\n");
    if (p->n)
        (void)!aq_print_nest(p->n, &t);
    (void)!aq_text_end(&t, &text);
    fprintf(stderr, "%s\n", text); /* fail_msg cuts long texts */
    fail_msg("AQ_CHAIN_SEED=%llu T=%lld: %s is broken: %s", (unsigned long long)p->seed, (long long)p->t, link, reason);
}

/* ---- the CPU as a runner of nests ---- */

typedef struct code {
    aq_elf *elf;
    uint64_t local_bytes;
} code;

static int64_t items(const aq_nest *n, int phase, const int64_t *sym) {
    aq_grid g[AQ_MAX_TREES];
    int64_t total = 0;
    for (int i = 0, trees = aq_nest_grids(n, phase, g); i < trees; i++) {
        int64_t count = 1;
        for (int d = 0; d < g[i].n; d++)
            count *= (aq_dim_eval(g[i].extent[d], sym) + g[i].step[d] - 1) / g[i].step[d];
        total += count;
    }
    return total;
}

static aq_status run_code(void *user, const aq_nest *n, void *const *buf, const int64_t *sym, uint64_t seed) {
    code *c = user;
    void *local;
    assert_int_equal(aq_mem_alloc(c->local_bytes + 64, &local), AQ_OK);
    for (int p = 0; p < aq_nest_phases(n); p++) {
        char name[128];
        snprintf(name, sizeof name, "%s.p%d", n->name, p);
        void *at = aq_elf_symbol(c->elf, name);
        aq_kernel kernel;
        if (!at)
            return aq_fail(AQ_CHECK_FAILED, name, "no such function in the object");
        memcpy(&kernel, &at, sizeof kernel);
        int64_t count = items(n, p, sym), cut = count ? (int64_t)(seed % (uint64_t)(count + 1)) : 0;
        kernel(buf, sym, local, cut, count);
        kernel(buf, sym, local, 0, cut);
    }
    aq_mem_free(local);
    return AQ_OK;
}

/* Emits the nests into one object; if one is refused, each alone, and those that are refused are left out. */
static aq_elf *emit(pair *p, int n, const aq_target *t, uint64_t *local, uint8_t *is_in) {
    const aq_nest *list[BATCH];
    aq_arena arena = {0};
    unsigned char *object;
    aq_elf *elf = NULL;
    size_t size;
    uint64_t bytes[BATCH];
    for (int round = 0; round < 2; round++) {
        int count = 0;
        for (int i = 0; i < n; i++)
            if (is_in[i])
                list[count++] = p[i].n;
        aq_status status = aq_cpu_emit(list, (uint32_t)count, t, 1, &arena, &object, &size, bytes, NULL);
        if (status == AQ_OK) {
            for (int i = 0, k = 0; i < n; i++)
                local[i] = is_in[i] ? bytes[k++] : 0;
            if (aq_elf_load("chain", object, size, &elf))
                fail_msg("%s", aq_error());
            break;
        }
        if (status != AQ_REFUSED || round)
            fail_msg("%s: %s", t->name, aq_error());
        for (int i = 0; i < n; i++) {
            const aq_nest *one = p[i].n;
            is_in[i] = aq_cpu_emit(&one, 1, t, 1, &arena, &object, &size, bytes, NULL) == AQ_OK;
            if (!is_in[i] && getenv("AQ_CHAIN_VERBOSE"))
                printf("seed %llu refused by %s: %s\n", (unsigned long long)p[i].seed, t->name, aq_error());
            refused_nests += !is_in[i];
        }
    }
    aq_arena_close(&arena);
    return elf;
}

/* ---- pairs ---- */

static const int64_t tokens[] = {1, 2, 3, 5, 6, 7, 8, 12, 13, 15, 16, 17};

static void open_pair(pair *p, uint64_t seed) {
    char name[32];
    const char *why, *kernel;
    aq_target t;
    aq_op wanted = (aq_op)(1 + seed % (AQ_OP_COUNT - 1));
    memset(p, 0, sizeof *p);
    p->seed = seed;
    for (uint64_t tries = 0; (why = gen_region(&p->m, seed + (tries << 32), wanted, used)) && tries < 20; tries++)
        aq_module_close(&p->m);
    if (why)
        broken(p, "the generator", why);
    aq_random random = aq_random_open(~seed);
    p->t = tokens[aq_random_below(&random, 12)];
    int panels = aq_random_below(&random, 4) != 0;
    if ((why = region_open(&p->r, &p->m, p->t, panels, seed)))
        broken(p, "the graph", why);
    assert_int_equal(aq_target_parse("cpu:v4", &t), AQ_OK);
    if (seed % 8 == 0 ? aq_schedule_default(&p->m, p->r.body, &t, 1, seed % 16 ? 1 : 64, &p->s)
                      : aq_schedule_random(&p->m, p->r.body, &t, &random, &p->s))
        broken(p, "the schedule", aq_error());
    snprintf(name, sizeof name, "k%llu", (unsigned long long)seed);
    assert_int_equal(aq_arena_string(&p->r.arena, name, strlen(name), &kernel), AQ_OK);
    if (aq_lower(&p->m, p->r.body, p->s, kernel, &p->r.arena, &p->n))
        broken(p, "lower", aq_error());
}

/* The same region under the marks of a GPU: the interpreter runs those nests too, and they mean the same. */
static void check_marks(pair *p) {
    aq_schedule *s = p->s;
    aq_nest *n = p->n;
    aq_target t;
    aq_random random = aq_random_open(~p->seed + 1);
    const char *why;
    assert_int_equal(aq_target_parse("ref", &t), AQ_OK);
    if (aq_schedule_random(&p->m, p->r.body, &t, &random, &p->s))
        broken(p, "the schedule with marks", aq_error());
    if (aq_lower(&p->m, p->r.body, p->s, "k", &p->r.arena, &p->n))
        broken(p, "lower with marks", aq_error());
    int is_marked = 0;
    for (aq_id i = 1; i < p->n->stmts.n; i++)
        is_marked |= p->n->stmts.at[i].warps || p->n->stmts.at[i].vec || p->n->stmts.at[i].mma || p->n->stmts.at[i].stages;
    marked += is_marked;
    if (is_marked && (why = region_compare(&p->r, p->n, region_run_ref, NULL, p->seed)))
        broken(p, "graph = nest with marks", why);
    p->s = s;
    p->n = n;
}

static void close_pair(pair *p) {
    region_close(&p->r);
    aq_module_close(&p->m);
}

static void check_batch(uint64_t first, int n) {
    static pair p[BATCH];
    uint8_t is_in[BATCH];
    uint64_t local[BATCH];
    aq_target t;
    const char *why;
    for (int i = 0; i < n; i++) {
        open_pair(&p[i], first + (uint64_t)i);
        if ((why = region_compare(&p[i].r, p[i].n, region_run_ref, NULL, p[i].seed)))
            broken(&p[i], "graph = nest", why);
        if (p[i].seed % 4 == 1)
            check_marks(&p[i]);
        is_in[i] = 1;
        nests++;
    }
    const char *target = getenv("AQ_CHAIN_TARGET");
    assert_int_equal(aq_target_parse(target ? target : targets[first / BATCH % 4], &t), AQ_OK);
    aq_elf *elf = emit(p, n, &t, local, is_in);
    for (int i = 0; elf && i < n && aq_target_runs_here(&t) == AQ_OK; i++) {
        if (!is_in[i])
            continue;
        code c = {elf, local[i]};
        p[i].r.tolerance = p[i].r.tolerance * 4 > 4e-5 ? p[i].r.tolerance * 4 : 4e-5;
        if ((why = region_compare(&p[i].r, p[i].n, run_code, &c, p[i].seed)))
            broken(&p[i], t.name, why);
        runs++;
    }
    aq_elf_close(elf);
    for (int i = 0; i < n; i++)
        close_pair(&p[i]);
}

static void random_regions_under_random_schedules(void **state) {
    (void)state;
    const char *one = getenv("AQ_CHAIN_SEED"), *count = getenv("AQ_CHAIN_PAIRS");
    uint64_t first = one ? strtoull(one, NULL, 10) : 1;
    if (one && !count) {
        check_batch(first, 1);
        return;
    }
    long pairs = count ? strtol(count, NULL, 10) : PAIRS;
    for (long i = 0; i < pairs; i += BATCH)
        check_batch(first + (uint64_t)i, BATCH);
    for (int op = 1; op < AQ_OP_COUNT; op++)
        if (!count && gen_can((aq_op)op) && !used[op])
            fail_msg("no region held %s", aq_op_of((aq_op)op)->name);
    printf("%ld nests, %ld run as machine code, %ld refused by the emitter; %ld with marks of a GPU\n", nests, runs, refused_nests, marked);
    assert_true(refused_nests * 50 <= nests && marked * 16 > nests);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_regions_under_random_schedules),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
