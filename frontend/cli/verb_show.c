/* verb_show.c: `aquila show X`: a model's figures and tensors. Plans are in show_plan.c, the program's own tables are in tables.c. */
#include "frontend/chat/recognise.h"
#include "frontend/cli/common.h"
#include "frontend/cli/json.h"
#include "frontend/cli/models.h"
#include "frontend/cli/show_cache.h"
#include "frontend/cli/show_kernels.h"
#include "frontend/cli/show_plan.h"
#include "frontend/cli/tables.h"
#include "frontend/import/names.h"

#include <inttypes.h>
#include <string.h>


static cJSON *config_json(const aq_config *c) {
    cJSON *o = cJSON_CreateObject();
    aq_json_set_string(o, "name", c->name);
    aq_json_set_string(o, "family", c->family);
    const struct {
        const char *name;
        int64_t value;
    } whole[] = {{"dim", c->D},  {"layers", c->L},     {"heads", c->H},           {"kv_heads", c->HKV}, {"head_dim", c->DH},
                 {"ffn", c->F},  {"vocab", c->V},      {"max_length", c->max_length}, {"bos", c->bos},  {"eos", c->eos},
                 {"pad", c->pad}};
    for (size_t i = 0; i < sizeof whole / sizeof *whole; i++)
        aq_json_set_int(o, whole[i].name, whole[i].value);
    cJSON *ends = cJSON_AddArrayToObject(o, "ends");
    for (uint32_t i = 0; i < c->n_ends; i++)
        cJSON_AddItemToArray(ends, cJSON_CreateNumber(c->ends[i]));
    cJSON_AddNumberToObject(o, "norm_eps", c->eps);
    cJSON_AddNumberToObject(o, "rope_theta", c->theta);
    aq_json_set_string(o, "rope_scaling", aq_rope_scaling_name(c->scaling));
    cJSON_AddNumberToObject(o, "rope_factor", c->scaling_factor);
    if (c->original > 0) {
        cJSON_AddNumberToObject(o, "rope_original", c->original);
        cJSON_AddNumberToObject(o, "rope_low", c->low);
        cJSON_AddNumberToObject(o, "rope_high", c->high);
        cJSON_AddNumberToObject(o, "rope_gain", c->gain > 0 ? c->gain : 1);
    }
    cJSON_AddBoolToObject(o, "tied", c->tied);
    return o;
}

static cJSON *tensor_json(const aq_tensor *t) {
    cJSON *o = cJSON_CreateObject(), *shape;
    aq_json_set_string(o, "name", t->name);
    aq_json_set_string(o, "file_name", t->file_name);
    aq_json_set_string(o, "dtype", aq_dtype_of(t->dtype)->name);
    shape = cJSON_AddArrayToObject(o, "shape");
    for (int i = 0; i < t->rank; i++)
        cJSON_AddItemToArray(shape, cJSON_CreateNumber((double)t->dim[i]));
    aq_json_set_int(o, "bytes", (int64_t)t->bytes);
    return o;
}

/* Elements and bytes of each dtype that occurs. */
typedef struct tally {
    uint64_t tensors, elements, bytes;
} tally;

static void count(const aq_checkpoint *c, tally by[AQ_DTYPE_COUNT], tally *all) {
    memset(by, 0, AQ_DTYPE_COUNT * sizeof *by);
    *all = (tally){0};
    for (uint32_t i = 0; i < c->n_tensors; i++) {
        const aq_tensor *t = &c->tensors[i];
        uint64_t n = 1;
        for (int r = 0; r < t->rank; r++)
            n *= (uint64_t)t->dim[r];
        tally *const both[] = {&by[t->dtype], all};
        for (int k = 0; k < 2; k++) {
            both[k]->tensors++;
            both[k]->elements += n;
            both[k]->bytes += t->bytes;
        }
    }
}

/* The template that conversations take without --template; NULL: none that is known. */
static const char *template_of(const aq_checkpoint *c) {
    const aq_known_model *known = aq_known_model_of(c->config.name, c->path);
    aq_arena arena = {0};
    const char *own = NULL, *system;
    if (c->chat_template && aq_chat_recognise(&arena, c->chat_template, &own, &system) != AQ_OK)
        own = NULL;
    aq_arena_close(&arena); /* the name lives in a table */
    return own ? own : known ? known->template : c->chat_template ? NULL : "none";
}

static void print_model(const aq_args *a, const aq_checkpoint *c) {
    const aq_config *f = &c->config;
    tally by[AQ_DTYPE_COUNT], all;
    count(c, by, &all);
    (void)aq_output_text(c->path, strlen(c->path));
    printf("\n  %s%s%s\n", *f->name ? f->name : "(no name)", ", family ", f->family);
    printf("  dim %" PRId64 ", layers %" PRId64 ", heads %" PRId64 " (kv %" PRId64 ", %" PRId64 " wide), ffn %" PRId64 ", vocab %" PRId64
           ", at most %" PRId64 " tokens\n",
           f->D, f->L, f->H, f->HKV, f->DH, f->F, f->V, f->max_length);
    printf("  norm eps %g, rope theta %g, scaling %s", f->eps, f->theta, aq_rope_scaling_name(f->scaling));
    if (f->scaling != AQ_ROPE_NONE)
        printf(" by %g", f->scaling_factor);
    if (f->original > 0)
        printf(" from %g tokens, between %g and %g turns", f->original, f->low, f->high);
    if (f->gain > 0 && f->gain != 1)
        printf(", attention times %g", f->gain);
    const char *template = template_of(c);
    printf("%s\n  bos %" PRId32 ", eos %" PRId32, f->tied ? ", tied output" : "", f->bos, f->eos);
    for (uint32_t i = 0; i < f->n_ends; i++)
        printf("%s%" PRId32, i ? ", " : " (and ", f->ends[i]);
    printf("%s, pad %" PRId32 "; tokenizer: %s; conversations: %s\n", f->n_ends ? ")" : "", f->pad,
           c->tokenizer.kind == AQ_TOKENIZER_NONE ? "none" : "yes", template ? template : "by a template that is not known (--template)");
    printf("  %" PRIu64 " tensors, %.1f M parameters, %.1f MiB\n", all.tensors, (double)all.elements / 1e6, (double)all.bytes / 0x1p20);
    for (int t = 0; t < AQ_DTYPE_COUNT; t++)
        if (by[t].tensors)
            printf("    %-6s %6" PRIu64 " tensors %10.1f M %10.1f MiB\n", aq_dtype_of((aq_dtype)t)->name, by[t].tensors, (double)by[t].elements / 1e6,
                   (double)by[t].bytes / 0x1p20);
    if (!aq_arg_given(a, AQ_OPT_TENSORS))
        return;
    for (uint32_t i = 0; i < c->n_tensors; i++) {
        const aq_tensor *t = &c->tensors[i];
        char shape[48];
        snprintf(shape, sizeof shape, t->rank == 2 ? "%" PRId64 " x %" PRId64 : "%" PRId64, t->dim[0], t->dim[1]);
        printf("%-16s %-6s %16s %12zu  %s\n", t->name, aq_dtype_of(t->dtype)->name, shape, t->bytes, t->file_name);
    }
}

static aq_status print_model_json(const aq_args *a, const aq_checkpoint *c) {
    cJSON *document = cJSON_CreateObject();
    tally by[AQ_DTYPE_COUNT], all;
    count(c, by, &all);
    aq_json_set_string(document, "path", c->path);
    cJSON_AddItemToObject(document, "config", config_json(&c->config));
    cJSON_AddBoolToObject(document, "tokenizer", c->tokenizer.kind != AQ_TOKENIZER_NONE);
    aq_json_set_string(document, "chat_template", c->chat_template);
    aq_json_set_string(document, "template", template_of(c));
    aq_json_set_int(document, "parameters", (int64_t)all.elements);
    aq_json_set_int(document, "bytes", (int64_t)all.bytes);
    aq_json_set_int(document, "n_tensors", c->n_tensors);
    if (aq_arg_given(a, AQ_OPT_TENSORS)) {
        cJSON *list = cJSON_AddArrayToObject(document, "tensors");
        for (uint32_t i = 0; i < c->n_tensors; i++)
            cJSON_AddItemToArray(list, tensor_json(&c->tensors[i]));
    }
    return aq_json_print(document);
}

static aq_status no_such(const char *what) {
    const char *near = aq_nearest(what, aq_show_word, NULL);
    if (near)
        return aq_fail(AQ_USAGE, NULL, "show: %s: no table and no model of that name: did you mean %s?", what, near);
    return aq_fail(AQ_USAGE, NULL, "show: %s: no table and no model of that name: `aquila show tables` lists the tables", what);
}

aq_status aq_verb_show(const aq_args *a) {
    const char *what = a->operand[0];
    int wants_model = !strcmp(what, "kernels");
    if (a->n_operands < 2 && wants_model)
        return aq_fail(AQ_USAGE, NULL, "show: kernels are made for a model: expected aquila show kernels MODEL, or a plan (.aqp)");
    if (a->n_operands > 1 && !wants_model)
        return aq_fail(AQ_USAGE, NULL, "show: %s is one too many: only `show kernels MODEL` takes two", a->operand[1]);
    if (wants_model)
        return aq_kernels_show(a, a->operand[1]);
    if (!strcmp(what, "cache"))
        return aq_cache_show(a);
    if (aq_table_exists(what))
        return aq_table_print(what, aq_arg_given(a, AQ_OPT_JSON));
    if (aq_file_kind(what) == 0 && !aq_known_model_find(what) && !strchr(what, ':') && !strchr(what, '/') && !strchr(what, '.'))
        return no_such(what);
    if (aq_path_ends(what, ".aqp"))
        return aq_plan_show(a, what);
    aq_checkpoint c;
    AQ_TRY(aq_model_open(what, AQ_F32, &c));
    aq_status status = AQ_OK;
    if (aq_arg_given(a, AQ_OPT_JSON))
        status = print_model_json(a, &c);
    else
        print_model(a, &c);
    aq_checkpoint_close(&c);
    return status;
}
