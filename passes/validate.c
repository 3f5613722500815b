/* validate.c: see validate.h. The copy is made by print and read, so what a dump says is what is checked. Cost: two runs of toy size a pass. */
#include "passes/validate.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static aq_status copy_module(const aq_module *m, aq_arena *arena, aq_module *out) {
    aq_text text = {.arena = arena};
    const char *chars;
    AQ_TRY(aq_print_module(m, &text));
    AQ_TRY(aq_text_end(&text, &chars));
    return aq_read_module(m->file, chars, strlen(chars), NULL, 0, out);
}

static aq_status compare(const aq_pass *p, const char *graph, const aq_sample *a, const aq_sample *b) {
    double difference = 0, norm = 0, limit = p->grade == AQ_ROUND ? 2e-3 : 5e-2;
    if (a->n != b->n || strcmp(a->name, b->name))
        return aq_fail(AQ_CHECK_FAILED, p->name, "graph %s: %s of %lld numbers is %s of %lld afterwards: expected the same", graph, a->name, (long long)a->n,
                       b->name, (long long)b->n);
    for (int64_t i = 0; i < a->n; i++) {
        double x = a->values[i], y = b->values[i];
        if (p->grade == AQ_EXACT && !(x == y || (isnan(x) && isnan(y))))
            return aq_fail(AQ_CHECK_FAILED, p->name, "graph %s: %s[%lld] was %.17g and is %.17g: expected the same bits", graph, a->name, (long long)i, x, y);
        if (x == y || (isnan(x) && isnan(y))) /* infinities of one sign too */
            x = y = isfinite(x) ? x : 0;
        difference += (x - y) * (x - y);
        norm += x * x;
    }
    if (p->grade == AQ_EXACT || a->is_int || difference <= limit * limit * norm)
        return AQ_OK; /* a NaN on one side is no less than anything */
    return aq_fail(AQ_CHECK_FAILED, p->name, "graph %s: %s differs by %.3g of its size: expected at most %g", graph, a->name, sqrt(difference / norm), limit);
}

static aq_status run_all(const aq_module *m, uint64_t seed, aq_sample_run run, aq_arena *arena, aq_samples **out) {
    AQ_ALLOC(arena, *out, m->graphs.n + 1);
    for (uint32_t g = 0; g < m->graphs.n; g++)
        AQ_TRY(run(m, g, seed, arena, &(*out)[g]));
    return AQ_OK;
}

static aq_status one_pass(aq_module *m, const aq_pass_options *o, const aq_pass *p, uint64_t seed, aq_sample_run run, aq_arena *arena, aq_samples **before) {
    aq_samples *after;
    AQ_TRY(p->run(m, o));
    aq_status status = aq_verify_module(m);
    if (status != AQ_OK)
        return aq_fail_prefix(status, p->name);
    AQ_TRY(run_all(m, seed, run, arena, &after));
    for (uint32_t g = 0; g < m->graphs.n; g++) {
        const char *name = m->bodies.at[m->graphs.at[g]].name;
        if (after[g].n != (*before)[g].n)
            return aq_fail(AQ_CHECK_FAILED, p->name, "graph %s has %u results and states and had %u: expected the same", name, after[g].n, (*before)[g].n);
        for (uint32_t i = 0; i < after[g].n; i++)
            AQ_TRY(compare(p, name, &(*before)[g].at[i], &after[g].at[i]));
    }
    *before = after;
    return AQ_OK;
}

static aq_status all(const aq_pass_options *o, const char *list, uint64_t seed, aq_sample_run run, aq_arena *arena, aq_module *copy) {
    aq_samples *before;
    AQ_TRY(run_all(copy, seed, run, arena, &before));
    for (int i = 0; list ? *list != 0 : aq_pass_at(i) != NULL; i++) {
        size_t n = list ? strcspn(list, ",") : 0;
        const aq_pass *p = list ? aq_pass_by_name(list, n) : aq_pass_at(i);
        if (!p)
            return aq_fail(AQ_USAGE, NULL, "no pass %.*s: expected names from `show passes`, apart by commas", (int)(n < 60 ? n : 60), list);
        AQ_TRY(one_pass(copy, o, p, seed, run, arena, &before));
        if (list)
            list += n + (list[n] == ',');
    }
    return AQ_OK;
}

aq_status aq_validate(const aq_module *m, const aq_pass_options *o, const char *list, uint64_t seed, aq_sample_run run) {
    aq_arena arena = {0};
    aq_module copy;
    aq_status status = copy_module(m, &arena, &copy);
    if (status == AQ_OK) {
        status = all(o, list, seed, run, &arena, &copy);
        aq_module_close(&copy);
    }
    aq_arena_close(&arena);
    return status;
}
