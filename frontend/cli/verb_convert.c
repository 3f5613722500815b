/* verb_convert.c: `aquila convert MODEL -o OUT`: options to convert.h, and what was written to people or JSON. */
#include "frontend/cli/common.h"
#include "frontend/cli/json.h"
#include "frontend/cli/models.h"
#include "frontend/cli/subject.h"
#include "frontend/convert.h"
#include "frontend/lora.h"
#include "frontend/reasons.h"
#include "runtime/team.h"

#include <inttypes.h>
#include <string.h>

static aq_status show(void *user, uint64_t done, uint64_t all) {
    const aq_args *a = user;
    if (aq_interrupted())
        return aq_fail(AQ_INTERRUPTED, NULL, "interrupted: nothing was written");
    if (aq_obeys(stderr) && !aq_arg_given(a, AQ_OPT_QUIET))
        fprintf(stderr, done < all ? "\rconverting %3d %%\033[K" : "\r\033[K", (int)(100.0 * (double)done / (double)(all ? all : 1)));
    return AQ_OK;
}

/* The form: what --to says, else what the name of OUT does. */
static aq_status form_of(const aq_args *a, const char *out, aq_form *form) {
    const char *said = aq_arg_text(a, AQ_OPT_TO_FORM);
    static const char *const files[] = {".safetensors", ".bin", ".pt", ".pth"};
    *form = aq_path_ends(out, ".gguf") ? AQ_FORM_GGUF : AQ_FORM_HF;
    if (said && !aq_form_by_name(said, form))
        return aq_fail(AQ_USAGE, NULL, "--to %s: expected gguf, hf or flagai", said);
    if (*form != AQ_FORM_GGUF && aq_path_ends(out, ".gguf"))
        return aq_fail(AQ_USAGE, NULL, "--to %s: a folder is written: expected its name, not %s", said, out);
    for (size_t i = 0; *form != AQ_FORM_GGUF && i < sizeof files / sizeof *files; i++)
        if (aq_path_ends(out, files[i]))
            return aq_fail(AQ_USAGE, NULL, "%s: a folder is written, with config.json and tokenizer: expected its name", out);
    if (*form != AQ_FORM_GGUF && !strcmp(out, "-"))
        return aq_fail(AQ_USAGE, NULL, "-: a folder is written: expected its name, or --to gguf");
    return AQ_OK;
}

static aq_status type_of(const aq_args *a, aq_dtype *out) {
    const char *name = aq_arg_text(a, AQ_OPT_WEIGHTS_TYPE);
    *out = AQ_DTYPE_NONE;
    if (!strcmp(name, "as-stored"))
        return AQ_OK;
    *out = aq_dtype_by_name(name, strlen(name));
    if (*out == AQ_DTYPE_NONE)
        return aq_fail(AQ_USAGE, NULL, "--weights-type %s: no such type: `aquila show dtypes` lists them", name);
    return AQ_OK;
}

/* Rounded once: to the type asked for, or by convert where that is a block type. */
static aq_status merge_adapters(const aq_args *a, aq_dtype type, aq_checkpoint *c) {
    const aq_option_value *lora = &a->at[AQ_OPT_LORA];
    const char *path;
    double scale;
    for (uint32_t i = 0; i < lora->n_list; i++) {
        AQ_TRY(aq_lora_parse(lora->list[i], &c->arena, &path, &scale));
        AQ_TRY(aq_lora_add(c, path, scale));
    }
    int blocks = type != AQ_DTYPE_NONE && aq_dtype_of(type)->kind != AQ_KIND_FLOAT;
    return lora->n_list ? aq_lora_merge(c, blocks ? AQ_F32 : type) : AQ_OK;
}

static aq_status print_json(const char *out, const aq_convert_report *r) {
    cJSON *document = cJSON_CreateObject(), *files, *types, *notes;
    aq_json_set_string(document, "output", out);
    aq_json_set_int(document, "bytes", (int64_t)r->bytes);
    files = cJSON_AddArrayToObject(document, "files");
    for (uint32_t i = 0; i < r->files.n; i++)
        cJSON_AddItemToArray(files, cJSON_CreateString(r->files.at[i]));
    types = cJSON_AddObjectToObject(document, "types");
    for (int t = 0; t < AQ_DTYPE_COUNT; t++) {
        if (!r->of[t].tensors)
            continue;
        cJSON *one = cJSON_AddObjectToObject(types, aq_dtype_of((aq_dtype)t)->name);
        aq_json_set_int(one, "tensors", r->of[t].tensors);
        aq_json_set_int(one, "bytes", (int64_t)r->of[t].bytes);
    }
    notes = cJSON_AddArrayToObject(document, "notes");
    for (uint32_t i = 0; i < r->notes.n; i++)
        cJSON_AddItemToArray(notes, cJSON_CreateString(r->notes.at[i]));
    return aq_json_print(document);
}

static void print_text(FILE *to, const char *out, const aq_convert_report *r) {
    fprintf(to, "%s: %.1f MiB in %u file%s\n", out, (double)r->bytes / 0x1p20, r->files.n, r->files.n == 1 ? "" : "s");
    for (int t = 0; t < AQ_DTYPE_COUNT; t++)
        if (r->of[t].tensors)
            fprintf(to, "  %-6s %6u tensors %10.1f MiB\n", aq_dtype_of((aq_dtype)t)->name, r->of[t].tensors, (double)r->of[t].bytes / 0x1p20);
}

static aq_status convert(const aq_args *a, const char *out, const aq_checkpoint *c, aq_convert_options *o) {
    aq_arena arena = {0};
    aq_convert_report report;
    aq_tokenizer_source tokenizer;
    aq_status status;
    o->tokenizer_folder = aq_arg_text(a, AQ_OPT_TOKENIZER);
    if (o->tokenizer_folder && aq_tokenizer_is_way(o->tokenizer_folder))
        return aq_fail(AQ_USAGE, NULL, "--tokenizer %s: only a way to read a tokenizer, the files stay the same: expected a folder", o->tokenizer_folder);
    if (o->tokenizer_folder) {
        AQ_TRY_GOTO(status, close, aq_tokenizer_source_read(&arena, o->tokenizer_folder, &tokenizer));
        o->tokenizer = &tokenizer;
        if (tokenizer.kind == AQ_TOKENIZER_NONE)
            status = aq_refuse(AQ_WHY_CONVERT_TOKENIZER, o->tokenizer_folder, "no tokenizer in this folder: expected tokenizer.json, or vocab.json and merges.txt");
        else
            status = aq_tokenizer_fits(o->tokenizer_folder, a->operand[0], tokenizer.n_vocab, c->config.V);
        AQ_TRY_GOTO(status, close, status);
    }
    aq_interrupt_heed(1);
    status = aq_convert(&arena, c, out, o, &report);
    aq_interrupt_heed(-1);
    (void)show((void *)(uintptr_t)a, 1, 1);
    if (status != AQ_OK)
        goto close;
    for (uint32_t i = 0; i < report.notes.n; i++)
        aq_say(a, 0, "note: %s", report.notes.at[i]);
    if (aq_arg_given(a, AQ_OPT_JSON))
        status = print_json(out, &report);
    else
        print_text(strcmp(out, "-") ? stdout : stderr, out, &report);
close:
    aq_arena_close(&arena);
    return status;
}

aq_status aq_verb_convert(const aq_args *a) {
    const char *out = aq_arg_text(a, AQ_OPT_OUTPUT);
    aq_convert_options o = {.progress = show, .user = (void *)(uintptr_t)a, .shard_size = (uint64_t)aq_arg_number(a, AQ_OPT_SHARD_SIZE)};
    aq_checkpoint c;
    if (!out)
        return aq_fail(AQ_USAGE, NULL, "convert: expected -o OUT, a .gguf file or a folder");
    AQ_TRY(form_of(a, out, &o.to));
    AQ_TRY(type_of(a, &o.type));
    if (!strcmp(out, "-") && aq_arg_given(a, AQ_OPT_JSON))
        return aq_fail(AQ_USAGE, NULL, "--json and -o - both mean standard output: expected one");
    if (o.shard_size == 0)
        return aq_fail(AQ_USAGE, NULL, "--shard-size: expected a size above 0");
    o.threads = aq_arg_given(a, AQ_OPT_THREADS) ? (int)aq_arg_number(a, AQ_OPT_THREADS) : aq_team_processors();
    AQ_TRY(aq_model_open(a->operand[0], aq_dtype_of(o.type)->kind == AQ_KIND_FLOAT && o.type != AQ_DTYPE_NONE ? o.type : AQ_DTYPE_NONE, &c));
    aq_status status = merge_adapters(a, o.type, &c);
    if (status == AQ_OK)
        status = convert(a, out, &c, &o);
    aq_checkpoint_close(&c);
    return status;
}
