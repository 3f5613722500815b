/* pipeline.c: the table of passes and the one loop that runs them: needs checked, pass run, types and verifier checked, counted, timed, dumped.
 * A need holds if a pass of this run gave it or if the module shows it (a dump read back may go on where it stopped). */
#include "passes/passes.h"

#include "ir/clock.h"

#include <string.h>

#define PASS(name, needs, gives, grade, doc) aq_status aq_pass_##name(aq_module *m, const aq_pass_options *o);
#include "passes/passes.def"
#undef PASS

static const aq_pass passes[] = {
#define PASS(name, needs, gives, grade, doc) {#name, doc, needs, gives, AQ_##grade, aq_pass_##name},
#include "passes/passes.def"
#undef PASS
};
enum { PASSES = sizeof passes / sizeof *passes };

const aq_pass *aq_pass_at(int i) { return i >= 0 && i < PASSES ? &passes[i] : NULL; }

const aq_pass *aq_pass_by_name(const char *name, size_t n) {
    for (int i = 0; i < PASSES; i++)
        if (strlen(passes[i].name) == n && !memcmp(passes[i].name, name, n))
            return &passes[i];
    return NULL;
}

/* --- needs ------------------------------------------------------------------------------------------------------------------------------- */

/* Is the word of `n` letters at `word` among the words of `list`? */
static int has_word(const char *list, const char *word, size_t n) {
    for (const char *p = list; *p; p += strspn(p, " ")) {
        size_t len = strcspn(p, " ");
        if (len == n && !memcmp(p, word, n))
            return 1;
        p += len;
    }
    return 0;
}

static int any_node(const aq_module *m, int regions_too, int (*is)(const aq_module *, const aq_node *)) {
    for (aq_id b = 1; b < m->bodies.n; b++)
        for (uint32_t i = 0; i < m->bodies.at[b].nodes.n && (regions_too || !m->bodies.at[b].is_region); i++)
            if (is(m, &m->nodes.at[m->bodies.at[b].nodes.at[i]]))
                return 1;
    return 0;
}

static int is_closed_composite(const aq_module *m, const aq_node *n) {
    (void)m;
    return (aq_op_of(n->op)->traits & AQ_COMPOSITE) && n->op != AQ_OP_matmul;
}
static int is_matmul(const aq_module *m, const aq_node *n) {
    (void)m;
    return n->op == AQ_OP_matmul;
}
static int is_not_fused(const aq_module *m, const aq_node *n) {
    (void)m;
    return n->op != AQ_OP_fused && n->op != AQ_OP_field;
}
static int is_rope_of_heads(const aq_module *m, const aq_node *n) {
    const aq_value *x = n->op == AQ_OP_rope ? &m->values.at[aq_node_in(m, n)[0]] : NULL;
    return x && x->kind == AQ_VALUE_RESULT && m->nodes.at[x->node].op == AQ_OP_heads;
}

/* Does the module show by itself that the word holds? */
static int shows(const aq_module *m, const char *word, size_t n) {
    static const struct {
        const char *word;
        int regions_too;
        int (*breaks)(const aq_module *, const aq_node *);
    } signs[] = {{"expanded", 1, is_closed_composite}, {"canonical", 1, is_rope_of_heads}, {"quantised", 1, is_matmul}, {"fused", 0, is_not_fused}};
    for (size_t i = 0; i < sizeof signs / sizeof *signs; i++)
        if (strlen(signs[i].word) == n && !memcmp(signs[i].word, word, n))
            return !any_node(m, signs[i].regions_too, signs[i].breaks);
    return 0;
}

static aq_status check_needs(const aq_module *m, const aq_pass *p, uint32_t ran) {
    for (const char *w = p->needs; *w; w += strspn(w, " ")) {
        size_t n = strcspn(w, " ");
        int given = shows(m, w, n);
        const char *giver = "a pass";
        for (int i = 0; i < PASSES; i++)
            if (has_word(passes[i].gives, w, n))
                given |= ran >> i & 1, giver = passes[i].name;
        if (!given)
            return aq_fail(AQ_USAGE, NULL, "pass %s needs a module that is %.*s: expected %s before it", p->name, (int)n, w, giver);
        w += n;
    }
    return AQ_OK;
}

/* --- running ----------------------------------------------------------------------------------------------------------------------------- */

static uint32_t count_nodes(const aq_module *m) {
    uint32_t n = 0;
    for (uint32_t g = 0; g < m->graphs.n; g++) {
        const aq_body *b = &m->bodies.at[m->graphs.at[g]];
        n += b->nodes.n;
        for (uint32_t i = 0; i < b->nodes.n; i++)
            if (m->nodes.at[b->nodes.at[i]].op == AQ_OP_fused)
                n += m->bodies.at[m->nodes.at[b->nodes.at[i]].body].nodes.n;
    }
    return n;
}

static aq_status run_pass(aq_module *m, const aq_pass_options *o, const aq_pass *p, aq_pass_report *report) {
    report->name = p->name;
    report->nodes_before = count_nodes(m);
    int64_t start = aq_clock_ns();
    AQ_TRY(p->run(m, o));
    report->ns = aq_clock_ns() - start;
    report->nodes_after = count_nodes(m);
    aq_status status = aq_verify_module(m); /* types too */
    return status == AQ_OK ? AQ_OK : aq_fail_prefix(status, p->name);
}

/* The pass at *list up to a comma; NULL list: the next row of the table. */
static aq_status next_pass(const char **list, int i, const aq_pass **out) {
    if (!*list) {
        *out = aq_pass_at(i);
        return AQ_OK;
    }
    size_t n = strcspn(*list, ",");
    *out = NULL;
    if (!**list)
        return AQ_OK;
    if (!(*out = aq_pass_by_name(*list, n)))
        return aq_fail(AQ_USAGE, NULL, "no pass %.*s: expected names from `show passes`, apart by commas", (int)(n < 60 ? n : 60), *list);
    *list += n + ((*list)[n] == ',');
    return AQ_OK;
}

aq_status aq_pipeline_run(aq_module *m, const aq_pass_options *o, const char *list, const char *print_after,
                          aq_status (*dump)(void *user, const char *pass, const aq_module *m), void *user, aq_pass_report **reports, uint32_t *n_reports) {
    AQ_VEC(aq_pass_report) done = {0};
    uint32_t ran = 0;
    const aq_pass *p;
    if (print_after && strcmp(print_after, "all") && !aq_pass_by_name(print_after, strlen(print_after)))
        return aq_fail(AQ_USAGE, NULL, "no pass %.60s: expected a name from `show passes`, or all", print_after);
    for (int i = 0;; i++) {
        aq_pass_report report;
        AQ_TRY(next_pass(&list, i, &p));
        if (!p)
            break;
        AQ_TRY(check_needs(m, p, ran));
        AQ_TRY(run_pass(m, o, p, &report));
        ran |= UINT32_C(1) << (p - passes);
        AQ_PUSH(&m->arena, &done, report);
        if (dump && print_after && (!strcmp(print_after, "all") || !strcmp(print_after, p->name)))
            AQ_TRY(dump(user, p->name, m));
    }
    if (reports)
        *reports = done.at;
    if (n_reports)
        *n_reports = done.n;
    return AQ_OK;
}
