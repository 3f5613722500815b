/* exec_print.c: what `exec` says: each result with its size, norm and first numbers, the comparison, the times beside the machine's limits. */
#include "frontend/cli/exec.h"

#include "frontend/cli/json.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

static double norm_of(const aq_exec_output *o) {
    double sum = 0;
    for (int64_t i = 0, n = aq_exec_count(o->dim, o->rank); i < n; i++)
        sum += o->got[i] * o->got[i];
    return sqrt(sum);
}

static void print_output(const aq_exec_report *r, const aq_exec_output *o) {
    int64_t n = aq_exec_count(o->dim, o->rank);
    printf("%s: %s[", o->name, aq_dtype_of(o->dtype)->name);
    for (int i = 0; i < o->rank; i++)
        printf("%s%" PRId64, i ? ", " : "", o->dim[i]);
    printf("], norm %.6g:", norm_of(o));
    for (int64_t i = 0; i < n && i < 4; i++)
        printf(" %.6g", o->got[i]);
    printf("%s", n > 4 ? " ..." : "");
    if (r->compared)
        printf("; %.3g from ref%s", o->distance, o->distance <= r->tolerance ? "" : ": too far");
    printf("\n");
}

static double limit_gflops(const aq_exec_report *r, const aq_exec_time *t) {
    return t->integer_dots && r->peaks.int16_gops > r->peaks.f32_gflops ? r->peaks.int16_gops : r->peaks.f32_gflops;
}

/* The larger of the shares of the two limits. */
static double share_of(const aq_exec_report *r, const aq_exec_time *t) {
    double memory = r->peaks.read_gb_per_s > 0 ? t->bytes / r->peaks.read_gb_per_s : 0, maths = limit_gflops(r, t) > 0 ? t->flops / limit_gflops(r, t) : 0;
    return t->ns > 0 ? (memory > maths ? memory : maths) / t->ns : 0;
}

static void print_times(const aq_exec_report *r) {
    printf("%5s %11s %9s %9s %7s  kernel   (limits here: %.1f GB/s, f32 %.0f GFLOP/s, int16 %.0f Gop/s)\n", "uses", "time us", "GB/s", "GFLOP/s", "share",
           r->peaks.read_gb_per_s, r->peaks.f32_gflops, r->peaks.int16_gops);
    for (uint32_t i = 0; i < r->times.n; i++) {
        const aq_exec_time *t = &r->times.at[i];
        double ns = t->ns > 0 ? t->ns : 1;
        printf("%5" PRIu32 " %11.1f %9.1f %9.1f %6.0f%%  %s%s%s\n", t->uses, t->ns / 1e3, t->bytes / ns, t->flops / ns,
               100 * share_of(r, t), t->name, *t->ops ? ": " : "", t->ops);
    }
    printf("whole run: %.3f ms\n", r->whole_ns / 1e6);
}

static cJSON *output_json(const aq_exec_report *r, const aq_exec_output *o) {
    cJSON *j = cJSON_CreateObject(), *shape;
    aq_json_set_string(j, "name", o->name);
    aq_json_set_string(j, "dtype", aq_dtype_of(o->dtype)->name);
    shape = cJSON_AddArrayToObject(j, "shape");
    for (int i = 0; i < o->rank; i++)
        cJSON_AddItemToArray(shape, cJSON_CreateNumber((double)o->dim[i]));
    cJSON_AddNumberToObject(j, "norm", norm_of(o));
    if (r->compared)
        cJSON_AddNumberToObject(j, "relative_l2", o->distance);
    return j;
}

static cJSON *time_json(const aq_exec_report *r, const aq_exec_time *t) {
    cJSON *j = cJSON_CreateObject();
    aq_json_set_string(j, "kernel", t->name);
    aq_json_set_string(j, "computes", t->ops);
    aq_json_set_int(j, "uses", t->uses);
    cJSON_AddNumberToObject(j, "us", t->ns / 1e3);
    cJSON_AddNumberToObject(j, "gb_per_s", t->ns > 0 ? t->bytes / t->ns : 0);
    cJSON_AddNumberToObject(j, "gflops", t->ns > 0 ? t->flops / t->ns : 0);
    cJSON_AddNumberToObject(j, "share_of_limit", share_of(r, t));
    return j;
}

static aq_status print_json(const aq_exec_report *r, double worst) {
    cJSON *document = cJSON_CreateObject(), *list;
    aq_json_set_string(document, "ran", r->what);
    aq_json_set_string(document, "target", r->target);
    aq_json_set_string(document, "sizes", r->sizes);
    aq_json_set_int(document, "threads", r->threads);
    list = cJSON_AddArrayToObject(document, "outputs");
    for (uint32_t i = 0; i < r->outputs.n; i++)
        cJSON_AddItemToArray(list, output_json(r, &r->outputs.at[i]));
    if (r->compared) {
        cJSON_AddNumberToObject(document, "relative_l2", worst);
        cJSON_AddNumberToObject(document, "tolerance", r->tolerance);
        cJSON_AddBoolToObject(document, "ok", worst <= r->tolerance);
    }
    if (r->whole_ns > 0) {
        cJSON *limits = cJSON_AddObjectToObject(document, "limits");
        cJSON_AddNumberToObject(limits, "read_gb_per_s", r->peaks.read_gb_per_s);
        cJSON_AddNumberToObject(limits, "f32_gflops", r->peaks.f32_gflops);
        cJSON_AddNumberToObject(limits, "int16_gops", r->peaks.int16_gops);
        cJSON_AddNumberToObject(document, "ms", r->whole_ns / 1e6);
        list = cJSON_AddArrayToObject(document, "kernels");
        for (uint32_t i = 0; i < r->times.n; i++)
            cJSON_AddItemToArray(list, time_json(r, &r->times.at[i]));
    }
    return aq_json_print(document);
}

static aq_status write_outputs(const aq_args *a, const aq_exec_report *r, aq_arena *arena) {
    const aq_option_value *files = &a->at[AQ_OPT_EXEC_OUT];
    const char **known;
    AQ_ALLOC(arena, known, r->outputs.n + 1);
    for (uint32_t i = 0; i < r->outputs.n; i++)
        known[i] = r->outputs.at[i].name;
    AQ_TRY(aq_exec_files_check(files, "--out", known, r->outputs.n));
    for (uint32_t i = 0; i < r->outputs.n; i++) {
        const aq_exec_output *o = &r->outputs.at[i];
        const char *file = aq_exec_file_of(files, o->name);
        if (file)
            AQ_TRY(aq_exec_write(file, o->dtype, o->dim, o->rank, o->got, arena));
    }
    return AQ_OK;
}

aq_status aq_exec_report_print(const aq_args *a, const aq_exec_report *r, aq_arena *arena) {
    double worst = 0;
    const char *where = "";
    for (uint32_t i = 0; i < r->outputs.n; i++)
        if (r->compared && !(r->outputs.at[i].distance <= worst)) {
            worst = r->outputs.at[i].distance;
            where = r->outputs.at[i].name;
        }
    AQ_TRY(write_outputs(a, r, arena));
    if (aq_arg_given(a, AQ_OPT_JSON)) {
        AQ_TRY(print_json(r, worst));
    } else {
        printf("%s on %s, %d thread%s, %s\n", r->what, r->target, r->threads, r->threads == 1 ? "" : "s", r->sizes);
        for (uint32_t i = 0; i < r->outputs.n; i++)
            print_output(r, &r->outputs.at[i]);
        if (r->whole_ns > 0)
            print_times(r);
        if (r->compared && worst <= r->tolerance)
            printf("agrees with ref: relative L2 at most %.3g (%g is allowed)\n", worst, r->tolerance);
    }
    if (r->compared && !(worst <= r->tolerance))
        return aq_fail(AQ_CHECK_FAILED, r->what, "%s is %.3g from ref by relative L2: expected at most %g", where, worst, r->tolerance);
    return AQ_OK;
}
