/* verb_exec.c: `aquila exec FILE.aq`: runs what the text holds: a graph, one kernel of it, or a nest. Sizes nobody gave are small, inputs are
 * random by seed unless they come from files. The two kinds of text are in exec_graph.c and exec_nest.c. */
#include "frontend/cli/exec.h"

#include "frontend/cli/switches.h"

#include <inttypes.h>
#include <string.h>

const char *aq_exec_target(const aq_args *a) {
    const char *name = aq_arg_text(a, AQ_OPT_TARGET), *device = aq_switch(AQ_SWITCH_AQ_DEVICE);
    return name ? name : device ? device : "cpu";
}

double aq_exec_median(int64_t *ns, uint32_t n) {
    for (uint32_t i = 1; i < n; i++)
        for (uint32_t k = i; k && ns[k] < ns[k - 1]; k--) {
            int64_t t = ns[k];
            ns[k] = ns[k - 1];
            ns[k - 1] = t;
        }
    return n == 0 ? 0 : n % 2 ? (double)ns[n / 2] : ((double)ns[n / 2 - 1] + (double)ns[n / 2]) / 2;
}

aq_status aq_exec_sizes(const aq_module *m, const int64_t *bound, aq_arena *arena, const char **out) {
    aq_text t = {.arena = arena};
    for (aq_id i = 1; i < m->syms.n; i++)
        AQ_TRY(aq_text_add(&t, "%s%s=%" PRId64, i > 1 ? " " : "", m->syms.at[i].name, bound[i]));
    return aq_text_end(&t, out);
}

/* The symbol if its value is still open. */
static aq_sym *open_symbol(aq_module *m, const char *name) {
    aq_id id = aq_sym_find(m, name, strlen(name));
    return id && m->syms.at[id].lo != m->syms.at[id].hi ? &m->syms.at[id] : NULL;
}

static void settle(aq_module *m, const char *name, int64_t value) {
    aq_sym *s = open_symbol(m, name);
    if (s)
        s->lo = s->hi = value < s->lo ? s->lo : value > s->hi ? s->hi : value;
}

static int64_t value_of(const aq_module *m, const char *name, int64_t otherwise) {
    aq_id id = aq_sym_find(m, name, strlen(name));
    return id ? m->syms.at[id].lo : otherwise;
}

aq_status aq_exec_default_sizes(const aq_args *a, aq_module *m) {
    settle(m, "T", 4);
    settle(m, "B", 1);
    settle(m, "O", value_of(m, "T", 4) < 2 ? 1 : 2);
    if (!aq_arg_given(a, AQ_OPT_EXEC_DEPTH))
        return AQ_OK;
    int64_t depth = aq_arg_number(a, AQ_OPT_EXEC_DEPTH), pages = (depth + value_of(m, "T", 1) + AQ_PAGE - 1) / AQ_PAGE;
    settle(m, "S", (pages + 3) * AQ_PAGE);
    settle(m, "P", pages + 3);
    if (value_of(m, "B", 1) != 1 || value_of(m, "S", pages * AQ_PAGE) < pages * AQ_PAGE || value_of(m, "P", pages) < pages)
        return aq_fail(AQ_USAGE, NULL, "--depth %" PRId64 ": expected B=1, S=%" PRId64 " and P=%" PRId64 " or more", depth, pages * AQ_PAGE, pages);
    return AQ_OK;
}

aq_status aq_exec_set_depth(const aq_args *a, aq_arena *arena, aq_ref_batch *batch) {
    int64_t tokens = batch->n[0], table = batch->n[5];
    int32_t depth = (int32_t)aq_arg_number(a, AQ_OPT_EXEC_DEPTH), *pos, *pages, *one;
    if (!aq_arg_given(a, AQ_OPT_EXEC_DEPTH))
        return AQ_OK;
    AQ_ALLOC(arena, pos, tokens + 1);
    AQ_ALLOC(arena, pages, table + 1);
    AQ_ALLOC(arena, one, 3);
    for (int64_t i = 0; i < tokens; i++)
        pos[i] = depth + (int32_t)i;
    for (int64_t i = 0; i < table && i * AQ_PAGE < depth + tokens; i++)
        pages[i] = (int32_t)i;
    one[1] = (int32_t)tokens;
    one[2] = depth + (int32_t)tokens;
    batch->field[0] = batch->field[1] = pos;
    batch->field[2] = &one[0], batch->field[3] = &one[1], batch->field[4] = &one[2];
    batch->field[5] = pages;
    return AQ_OK;
}

/* Does the text begin with the word nest, comments aside? */
static int is_nest(const aq_graph_file *f) {
    const char *p = f->text, *end = f->text + f->n;
    while (p < end && (*p == ' ' || *p == '\t' || *p == '\n' || *p == '\r' || *p == '#'))
        if (*p++ == '#')
            while (p < end && *p != '\n')
                p++;
    return end - p > 5 && !memcmp(p, "nest", 4) && (p[4] == ' ' || p[4] == '\t' || p[4] == '\n');
}

aq_status aq_verb_exec(const aq_args *a) {
    aq_arena arena = {0};
    aq_graph_file file;
    aq_exec_report report = {0};
    const char *text = NULL;
    aq_status status;
    if (aq_arg_given(a, AQ_OPT_EXEC_SHOW) && aq_arg_given(a, AQ_OPT_JSON))
        return aq_fail(AQ_USAGE, NULL, "exec: --show prints text: expected it without --json");
    report.tolerance = a->at[AQ_OPT_TOLERANCE].real;
    AQ_TRY_GOTO(status, close, aq_graph_file_open(a, a->operand[0], &file));
    AQ_TRY_GOTO(status, close, is_nest(&file) ? aq_exec_nest(&file, &arena, &report, &text) : aq_exec_graph(&file, &arena, &report, &text));
    if (text)
        fputs(text, stdout);
    else
        status = aq_exec_report_print(a, &report, &arena);
close:
    aq_graph_file_close(&file);
    aq_arena_close(&arena);
    return status;
}
