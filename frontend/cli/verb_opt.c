/* verb_opt.c: `aquila opt FILE.aq`: passes on text. Read, bind, run the passes, print: what is printed is text that opt reads again, so one pass
 * can be looked at, changed by hand and fed to the next. --explain and --dot print something else instead; -o writes the text to a file. */
#include "frontend/cli/dot.h"
#include "frontend/cli/explain.h"
#include "frontend/cli/graph_file.h"
#include "frontend/cli/switches.h"
#include "frontend/compile.h"
#include "ir/file.h"
#include "codegen/ref/sample.h"
#include "passes/validate.h"
#include "runtime/aquila_rt.h"
#include "runtime/team.h"

#include <inttypes.h>
#include <string.h>

typedef struct opt {
    const aq_args *args;
    aq_arena arena;
    aq_graph_file file;
    aq_module m;
    int open;
    aq_pass_options options;
    const char *measured;
    const char *list;       /* passes; NULL: the default pipeline; "": none */
    aq_pass_report *reports;
    uint32_t n_reports;
} opt;

/* --- the target's figures ----------------------------------------------------------------------------------------------------------------- */

/* "cpu" is this machine: measured where somebody will read a time; a named level has the figures of its table, so that its output is the same
 * everywhere. Arithmetic is counted at the rate of the dots this target runs: 16-bit integers where weights are blocks, f32 otherwise. */
static aq_status target_options(opt *o) {
    const char *name = aq_arg_text(o->args, AQ_OPT_TARGET);
    int64_t T = aq_arg_number(o->args, AQ_OPT_T_RANGE), threads = aq_arg_number(o->args, AQ_OPT_THREADS);
    const aq_compile_options co = {.activations = aq_arg_text(o->args, AQ_OPT_ACTIVATIONS)};
    aq_target t;
    name = name ? name : aq_switch(AQ_SWITCH_AQ_DEVICE) ? aq_switch(AQ_SWITCH_AQ_DEVICE) : "cpu";
    threads = threads ? threads : aq_team_processors();
    AQ_TRY(aq_target_parse(name, &t));
    o->measured = "typical of one core";
    if (!strcmp(name, "cpu") && aq_arg_given(o->args, AQ_OPT_EXPLAIN)) {
        aq_rt_peaks p;
        AQ_TRY(aq_rt_limits_measure((int)threads, 0.05, &p));
        t.read_gb_per_s = p.read_gb_per_s;
        t.f32_gflops = p.f32_gflops;
        t.i16_gops = p.int16_gops;
        AQ_TRY(aq_arena_format(&o->arena, &o->measured, "measured now with %d threads", (int)threads));
    }
    AQ_TRY(aq_arena_string(&o->arena, t.name, strlen(t.name), &t.name));
    return aq_compile_pass_options(&t, &co, T, T, &o->options);
}

/* --- passes ------------------------------------------------------------------------------------------------------------------------------- */

static aq_status dump(void *user, const char *pass, const aq_module *m) {
    aq_arena arena = {0};
    aq_text text = {.arena = &arena};
    const char *chars, *folder = aq_switch(AQ_SWITCH_AQ_DUMP_DIR), *path;
    const opt *o = user;
    int is_switch = !aq_arg_given(o->args, AQ_OPT_PRINT_AFTER); /* AQ_DUMP leaves standard output to the result */
    aq_status status = aq_print_module(m, &text);
    if (status == AQ_OK)
        status = aq_text_end(&text, &chars);
    if (status == AQ_OK && is_switch && folder) {
        status = aq_file_make_folder(folder);
        if (status == AQ_OK)
            status = aq_arena_format(&arena, &path, "%s/%s.aq", folder, pass);
        if (status == AQ_OK)
            status = aq_output_file(path, chars, strlen(chars));
    } else if (status == AQ_OK) {
        fprintf(is_switch ? stderr : stdout, "# after %s\n%s", pass, chars);
    }
    aq_arena_close(&arena);
    return status;
}

static aq_status run_passes(opt *o) {
    const char *after = aq_arg_text(o->args, AQ_OPT_PRINT_AFTER);
    after = after ? after : aq_switch(AQ_SWITCH_AQ_DUMP);
    AQ_TRY(aq_verify_module(&o->m));
    AQ_TRY(aq_pipeline_run(&o->m, &o->options, o->list, after, dump, o, &o->reports, &o->n_reports));
    for (uint32_t i = 0; i < o->n_reports; i++) {
        const aq_pass_report *r = &o->reports[i];
        aq_say(o->args, 1, "%-8s %6" PRIu32 " nodes -> %6" PRIu32 " %9.3f ms", r->name, r->nodes_before, r->nodes_after, (double)r->ns / 1e6);
    }
    return AQ_OK;
}

static aq_status verify(opt *o) {
    aq_module m;
    const char *toy;
    AQ_TRY(aq_graph_file_module(&o->file, 1, &o->arena, &toy, &m));
    int64_t seed = aq_arg_given(o->args, AQ_OPT_SEED) ? aq_arg_number(o->args, AQ_OPT_SEED) : 1;
    aq_status status = aq_validate(&m, &o->options, o->list, (uint64_t)seed, aq_ref_sample);
    aq_module_close(&m);
    if (status == AQ_OK)
        aq_say(o->args, 0, "verified: every pass keeps what ref computes, as far as its grade promises%s%s", toy ? ", at " : "", toy ? toy : "");
    return status;
}

/* --- output ------------------------------------------------------------------------------------------------------------------------------- */

static aq_status module_text(opt *o, const char **out) {
    aq_text text = {.arena = &o->arena};
    AQ_TRY(aq_print_module(&o->m, &text));
    return aq_text_end(&text, out);
}

static aq_status write_text(opt *o, const char *path) {
    const char *chars;
    AQ_TRY(module_text(o, &chars));
    return aq_output_file(path, chars, strlen(chars));
}

static cJSON *reports_json(const opt *o) {
    cJSON *list = cJSON_CreateArray();
    for (uint32_t i = 0; i < o->n_reports; i++) {
        cJSON *r = cJSON_CreateObject();
        aq_json_set_string(r, "pass", o->reports[i].name);
        aq_json_set_int(r, "nodes_before", o->reports[i].nodes_before);
        aq_json_set_int(r, "nodes_after", o->reports[i].nodes_after);
        cJSON_AddNumberToObject(r, "ms", (double)o->reports[i].ns / 1e6);
        cJSON_AddItemToArray(list, r);
    }
    return list;
}

static aq_status print_json(opt *o, const aq_explain *e, int verified) {
    cJSON *document = e ? aq_explain_json(e) : cJSON_CreateObject();
    const char *chars;
    cJSON_AddItemToObject(document, "passes", reports_json(o));
    if (verified)
        cJSON_AddBoolToObject(document, "verified", 1);
    if (!e) {
        aq_status status = module_text(o, &chars);
        if (status != AQ_OK) {
            cJSON_Delete(document);
            return status;
        }
        aq_json_set_string(document, "text", chars);
    }
    return aq_json_print(document);
}

static aq_status print(opt *o) {
    const aq_args *a = o->args;
    const char *path = aq_arg_text(a, AQ_OPT_OUTPUT), *chars;
    int explain = aq_arg_given(a, AQ_OPT_EXPLAIN), json = aq_arg_given(a, AQ_OPT_JSON);
    aq_explain e;
    if (explain)
        AQ_TRY(aq_explain_make(&o->m, &o->options, o->measured, &o->arena, &e));
    if (path)
        AQ_TRY(write_text(o, path));
    if (json)
        return print_json(o, explain ? &e : NULL, aq_arg_given(a, AQ_OPT_VERIFY));
    if (explain)
        aq_explain_print(&e);
    else if (aq_arg_given(a, AQ_OPT_DOT))
        aq_dot_print(&o->m);
    else if (!path && !aq_arg_text(a, AQ_OPT_PRINT_AFTER)) {
        AQ_TRY(module_text(o, &chars));
        fputs(chars, stdout);
    }
    return AQ_OK;
}

/* --- the verb ----------------------------------------------------------------------------------------------------------------------------- */

static aq_status check_arguments(const aq_args *a) {
    int explain = aq_arg_given(a, AQ_OPT_EXPLAIN), dot = aq_arg_given(a, AQ_OPT_DOT), after = aq_arg_given(a, AQ_OPT_PRINT_AFTER);
    if (explain + dot + after > 1 || (aq_arg_given(a, AQ_OPT_JSON) && (dot || after)))
        return aq_fail(AQ_USAGE, NULL, "opt: --explain, --dot, --print-after: expected one of them; --json goes with none or --explain");
    return AQ_OK;
}

aq_status aq_verb_opt(const aq_args *a) {
    opt o = {.args = a, .list = aq_arg_text(a, AQ_OPT_PASSES)};
    aq_status status;
    if (o.list && !strcmp(o.list, "none"))
        o.list = "";
    AQ_TRY(check_arguments(a));
    AQ_TRY_GOTO(status, close, aq_graph_file_open(a, a->operand[0], &o.file));
    AQ_TRY_GOTO(status, close, target_options(&o));
    AQ_TRY_GOTO(status, close, aq_graph_file_module(&o.file, 0, &o.arena, NULL, &o.m));
    o.open = 1;
    AQ_TRY_GOTO(status, close, run_passes(&o));
    if (aq_arg_given(a, AQ_OPT_VERIFY))
        AQ_TRY_GOTO(status, close, verify(&o));
    status = print(&o);
close:
    if (o.open)
        aq_module_close(&o.m);
    aq_graph_file_close(&o.file);
    aq_arena_close(&o.arena);
    return status;
}
