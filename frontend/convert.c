/* convert.c: see convert.h. Order: the list of tensors (convert_types.c), then a GGUF file, or the files of a folder, each complete on the disk under
 * a temporary name, then the names. The bytes come from the writers of import/. Which files a folder may hold stands in one table: it tells
 * what is copied, what is made, and whether a folder that is there is one of ours. */
#define _GNU_SOURCE
#include "frontend/convert.h"

#include "ir/memory.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char config_name[] = "config.json", marker[] = "\"written_by\": \"aquila convert\"";

typedef struct output {
    aq_file_writer *w;
    const char *name;
} output;

typedef struct job {
    aq_arena *arena;
    const aq_checkpoint *c;
    const aq_convert_options *o;
    const char *out;
    aq_convert_report *report;
    aq_config config;
    aq_out_model model;
    aq_dtype main;
    uint64_t done, all;
    AQ_VEC(output) outputs; /* written, not named yet */
    AQ_VEC(const char *) stale;
} job;

/* Behind each piece. What was read is not read again: without forgetting it the maps would fill the memory with the whole source. */
static aq_status progress(void *user, uint64_t bytes) {
    job *j = user;
    for (uint32_t i = 0; i < j->c->n_files; i++)
        aq_file_forget(&j->c->files[i]);
    j->done += bytes;
    return j->o->progress ? j->o->progress(j->o->user, j->done, j->all) : AQ_OK;
}

/* ---- which files a folder holds ---- */

enum { MADE = 1 /* in config and weights */, COPIED = 2 /* from the source, if it is there */, HF = 4, FLAGAI = 8 /* written for that form otherwise */, OWN = 16 /* not copied for FlagAI's own code */ };
static const struct known {
    const char *name;
    int flags;
    aq_tokenizer_file file; /* of HF, FLAGAI */
} known[] = {
    {"config.json", MADE, AQ_TOKENIZER_FILES},
    {"model.safetensors", MADE, AQ_TOKENIZER_FILES},
    {"model.safetensors.index.json", MADE, AQ_TOKENIZER_FILES},
    {"pytorch_model.bin", MADE, AQ_TOKENIZER_FILES},
    {"tokenizer.json", COPIED | HF | FLAGAI, AQ_FILE_TOKENIZER_JSON},
    {"tokenizer_config.json", COPIED | HF | FLAGAI, AQ_FILE_TOKENIZER_CONFIG},
    {"special_tokens_map.json", COPIED | HF | FLAGAI | OWN, AQ_FILE_SPECIAL_MAP},
    {"vocab.json", COPIED | FLAGAI | OWN, AQ_FILE_VOCAB},
    {"merges.txt", COPIED | FLAGAI, AQ_FILE_MERGES},
    {"added_tokens.json", COPIED | FLAGAI, AQ_FILE_ADDED},
    {"tokenizer.model", COPIED, AQ_TOKENIZER_FILES},
    {"chat_template.jinja", COPIED, AQ_TOKENIZER_FILES},
    {"generation_config.json", COPIED, AQ_TOKENIZER_FILES},
};
enum { N_KNOWN = sizeof known / sizeof *known };

static int is_shard(const char *name) {
    unsigned a, b;
    int end = 0;
    return sscanf(name, "model-%5u-of-%5u.safetensors%n", &a, &b, &end) == 2 && end && !name[end];
}

static int is_known(const char *name) {
    const char *temporary = strstr(name, ".tmp.");
    size_t n = temporary ? (size_t)(temporary - name) : strlen(name);
    for (int i = 0; i < N_KNOWN; i++)
        if (strlen(known[i].name) == n && memcmp(known[i].name, name, n) == 0)
            return 1;
    return strncmp(name, "model-", 6) == 0 && (temporary || is_shard(name));
}

typedef struct look {
    const char *stranger;
    job *j;
    aq_status status;
    int has_config, any;
} look;

static aq_status remember(look *l, const char *name) {
    const char *copy;
    AQ_TRY(aq_arena_string(l->j->arena, name, strlen(name), &copy));
    if (!is_known(name))
        l->stranger = copy;
    else
        AQ_PUSH(l->j->arena, &l->j->stale, copy);
    return AQ_OK;
}

static int look_at(void *user, const char *name) {
    look *l = user;
    l->has_config |= strcmp(name, config_name) == 0;
    if (strstr(name, ".tmp.") && is_known(name)) /* of a killed writer, removed already, or of a living one */
        return 1;
    l->any = 1;
    l->status = remember(l, name);
    return l->status == AQ_OK && !l->stranger;
}

static aq_status path_in(job *j, const char *folder, const char *name, const char **out) { return aq_arena_format(j->arena, out, "%s/%s", folder, name); }

static aq_status is_ours(job *j, const char *config, int *out) {
    char *text;
    size_t n;
    (void)j;
    AQ_TRY(aq_file_read(config, 1 << 24, &text, &n));
    *out = memmem(text, n, marker, sizeof marker - 1) != NULL;
    aq_mem_free(text);
    return AQ_OK;
}

static aq_status check_folder(job *j) {
    look l = {.j = j};
    const char *config;
    int ours = 0;
    if (aq_file_kind(j->out) == 1)
        return aq_fail(AQ_FAILED, j->out, "a file: expected the name of a folder for this form (or --to gguf)");
    AQ_TRY(aq_file_make_folder(j->out));
    aq_file_sweep(j->out, "");
    AQ_TRY(aq_file_list(j->out, look_at, &l));
    AQ_TRY(l.status);
    if (l.stranger)
        return aq_fail(AQ_FAILED, j->out, "holds %.100s, which convert does not write: expected a new or empty folder", l.stranger);
    if (!l.any)
        return AQ_OK;
    AQ_TRY(path_in(j, j->out, config_name, &config));
    if (l.has_config)
        AQ_TRY(is_ours(j, config, &ours));
    return ours ? AQ_OK : aq_fail(AQ_FAILED, j->out, "holds files that convert has not written: expected a new or empty folder");
}

/* ---- files on their way ---- */

static aq_status begin(job *j, const char *name, aq_file_writer **out) {
    const char *path;
    output x = {.name = name};
    AQ_TRY(path_in(j, j->out, name, &path));
    AQ_PUSH(j->arena, &j->outputs, x);
    AQ_TRY(aq_file_create(path, &j->outputs.at[j->outputs.n - 1].w));
    *out = j->outputs.at[j->outputs.n - 1].w;
    return AQ_OK;
}

static aq_status end(job *j, aq_file_writer *w) {
    j->report->bytes += aq_file_size(w);
    return aq_file_seal(w);
}

/* ---- weights ---- */

static aq_status write_shard(job *j, const char *name, uint32_t first, uint32_t last) {
    aq_file_writer *w;
    AQ_TRY(begin(j, name, &w));
    AQ_TRY(aq_safetensors_put(&j->model, first, last, w));
    return end(j, w);
}

static aq_status write_index(job *j, const uint32_t *shard_of, uint32_t shards) {
    aq_file_writer *w;
    AQ_TRY(begin(j, "model.safetensors.index.json", &w));
    aq_put o = {.writer = w};
    aq_put_format(&o, "{\n  \"metadata\": {\"total_size\": %" PRIu64 "},\n  \"weight_map\": {", j->all);
    for (uint32_t i = 0; i < j->model.n; i++) {
        aq_put_text(&o, i ? ",\n    " : "\n    ");
        aq_put_json(&o, j->model.tensors[i].name, strlen(j->model.tensors[i].name), "a name");
        aq_put_format(&o, ": \"model-%05u-of-%05u.safetensors\"", shard_of[i] + 1, shards);
    }
    aq_put_text(&o, "\n  }\n}\n");
    AQ_TRY(o.status);
    return end(j, w);
}

static aq_status write_safetensors(job *j) {
    uint32_t *shard_of, shards = 0, n = j->model.n;
    uint64_t held = 0;
    AQ_ALLOC(j->arena, shard_of, n + 1);
    for (uint32_t i = 0; i < n; i++) {
        uint64_t bytes = j->model.tensors[i].bytes;
        if (i && held + bytes > j->o->shard_size) {
            shards++;
            held = 0;
        }
        held += bytes;
        shard_of[i] = shards;
    }
    if (++shards == 1)
        return write_shard(j, "model.safetensors", 0, n);
    if (shards > 999)
        return aq_fail(AQ_USAGE, NULL, "--shard-size: gives %u files: expected at most 999, a larger size", shards);
    for (uint32_t first = 0, last; first < n; first = last) {
        const char *name;
        for (last = first + 1; last < n && shard_of[last] == shard_of[first]; last++) {
        }
        AQ_TRY(aq_arena_format(j->arena, &name, "model-%05u-of-%05u.safetensors", shard_of[first] + 1, shards));
        AQ_TRY(write_shard(j, name, first, last));
    }
    return write_index(j, shard_of, shards);
}

static aq_status write_torch(job *j) {
    aq_file_writer *w;
    AQ_TRY(begin(j, "pytorch_model.bin", &w));
    AQ_TRY(aq_torch_put(&j->model, w));
    return end(j, w);
}

/* ---- tokenizer and config ---- */

static aq_status copy_file(job *j, const char *from, const char *name) {
    aq_file file;
    aq_file_writer *w;
    AQ_TRY(aq_file_map(from, &file));
    aq_status status = begin(j, name, &w);
    if (status == AQ_OK && file.size)
        status = aq_file_append(w, file.bytes, file.size);
    if (status == AQ_OK)
        status = end(j, w);
    aq_file_unmap(&file);
    return status;
}

/* The source's folder: where its tokenizer files lie. NULL for what is one file in itself. */
static aq_status source_folder(job *j, const char **out) {
    const char *path = j->c->path ? j->c->path : "", *slash = strrchr(path, '/');
    *out = j->o->tokenizer_folder;
    if (*out || aq_file_kind(path) == 0)
        return AQ_OK;
    if (aq_file_kind(path) == 2)
        *out = path;
    else if (aq_path_ends(path, ".safetensors"))
        return slash ? aq_arena_string(j->arena, path, slash == path ? 1 : (size_t)(slash - path), out) : aq_arena_string(j->arena, ".", 1, out);
    return AQ_OK;
}

static aq_status write_tokenizer(job *j) {
    const char *folder, *from;
    const aq_tokenizer_source *t = j->model.tokenizer;
    int form = j->o->to == AQ_FORM_HF ? HF : FLAGAI, is_aquilas = form == FLAGAI && aq_tokenizer_flagai_size(t);
    AQ_TRY(source_folder(j, &folder));
    for (int i = 0; i < N_KNOWN; i++) {
        aq_tokenizer_file file = is_aquilas && known[i].file == AQ_FILE_SPECIAL_MAP ? AQ_FILE_FLAGAI_MAP : known[i].file;
        aq_file_writer *w;
        if (folder && (known[i].flags & COPIED) && !(is_aquilas && (known[i].flags & OWN))) {
            AQ_TRY(path_in(j, folder, known[i].name, &from));
            if (aq_file_kind(from)) { /* what cannot be read is no reason to leave it out */
                AQ_TRY(copy_file(j, from, known[i].name));
                continue;
            }
        }
        if (!(known[i].flags & form) || t->kind == AQ_TOKENIZER_NONE || (t->kind == AQ_TOKENIZER_SPM && !(known[i].flags & HF)))
            continue;
        AQ_TRY(begin(j, known[i].name, &w));
        aq_status status = aq_tokenizer_put(t, j->model.chat_template, j->config.max_length, file, w);
        if (status == AQ_REFUSED && j->c->path)
            return aq_fail_prefix(status, j->c->path);
        AQ_TRY(status);
        AQ_TRY(end(j, w));
    }
    return AQ_OK;
}

static aq_status write_config(job *j) {
    aq_file_writer *w;
    AQ_TRY(begin(j, config_name, &w));
    AQ_TRY(aq_config_put(&j->config, j->o->to == AQ_FORM_HF ? AQ_NAMING_HF : AQ_NAMING_FLAGAI, j->main, w));
    return end(j, w);
}

/* ---- names ---- */

static aq_status commit(job *j, output *x) {
    aq_file_writer *w = x->w;
    const char *path;
    AQ_TRY(path_in(j, j->out, x->name, &path));
    x->w = NULL;
    AQ_TRY(aq_file_commit(w));
    AQ_PUSH(j->arena, &j->report->files, path);
    return AQ_OK;
}

/* A config.json that is no model's: it says whose folder this is while files change. */
static aq_status write_stub(job *j) {
    const char *path;
    aq_file_writer *w;
    AQ_TRY(path_in(j, j->out, config_name, &path));
    AQ_TRY(aq_file_create(path, &w));
    aq_put o = {.writer = w};
    aq_put_format(&o, "{\n  %s,\n  \"unfinished\": \"convert was interrupted here: run it again\"\n}\n", marker);
    if (o.status == AQ_OK)
        return aq_file_commit(w);
    aq_file_abandon(w);
    return o.status;
}

static int is_output(const job *j, const char *name) {
    for (uint32_t i = 0; i < j->outputs.n; i++)
        if (strcmp(j->outputs.at[i].name, name) == 0)
            return 1;
    return 0;
}

/* config.json is the last of the outputs. */
static aq_status give_names(job *j) {
    AQ_TRY(write_stub(j));
    for (uint32_t i = 0; i < j->stale.n; i++) {
        const char *path;
        AQ_TRY(path_in(j, j->out, j->stale.at[i], &path));
        if (!is_output(j, j->stale.at[i]))
            AQ_TRY(aq_file_remove(path));
    }
    for (uint32_t i = 0; i < j->outputs.n; i++)
        AQ_TRY(commit(j, &j->outputs.at[i]));
    return AQ_OK;
}

/* ---- the whole ---- */

static aq_status write_folder(job *j) {
    AQ_TRY(check_folder(j));
    AQ_TRY(j->o->to == AQ_FORM_HF ? write_safetensors(j) : write_torch(j));
    AQ_TRY(write_tokenizer(j));
    AQ_TRY(write_config(j));
    return give_names(j);
}

static aq_status write_gguf(job *j) {
    output *x;
    AQ_PUSH(j->arena, &j->outputs, (output){.name = j->out});
    x = &j->outputs.at[0];
    AQ_TRY(aq_file_create(j->out, &x->w));
    AQ_TRY(aq_gguf_put(&j->model, x->w));
    j->report->bytes = aq_file_size(x->w);
    aq_file_writer *w = x->w;
    x->w = NULL;
    AQ_TRY(aq_file_commit(w));
    AQ_PUSH(j->arena, &j->report->files, j->out);
    return AQ_OK;
}

/* "llama" is the name that every reader knows; ids that only the tokenizer names are the model's too. */
static void complete_config(job *j) {
    const aq_tokenizer_source *t = j->model.tokenizer;
    j->config = j->c->config;
    j->config.family = "llama";
    if (t->kind == AQ_TOKENIZER_NONE)
        return;
    const struct {
        int32_t *to, from;
    } ids[] = {{&j->config.bos, t->bos}, {&j->config.eos, t->eos}, {&j->config.pad, t->pad}};
    for (int i = 0; i < 3; i++)
        if (*ids[i].to < 0 && ids[i].from < j->config.V)
            *ids[i].to = ids[i].from;
    aq_config_add_end(&j->config, t->eos < j->config.V ? t->eos : -1); /* GGUF has one key for the model's and the tokenizer's */
}

static aq_status prepare(job *j) {
    aq_out_tensor *list = NULL;
    uint64_t most = 0;
    uint32_t n = 0;
    AQ_TRY(aq_convert_list(j->arena, j->c, j->o, j->report, &list, &n));
    j->model = (aq_out_model){.config = &j->config, .tensors = list, .n = n, .tokenizer = j->o->tokenizer ? j->o->tokenizer : &j->c->tokenizer,
                              .chat_template = j->c->chat_template};
    complete_config(j);
    for (uint32_t i = 0; i < n; i++)
        j->all += list[i].shares ? 0 : list[i].bytes;
    for (int t = 0; t < AQ_DTYPE_COUNT; t++)
        if (j->report->of[t].bytes > most) {
            most = j->report->of[t].bytes;
            j->main = (aq_dtype)t;
        }
    if (j->model.tokenizer->kind == AQ_TOKENIZER_NONE && j->c->tokenizer_note)
        AQ_TRY(aq_convert_note(j->arena, j->report, "no tokenizer is written: %.300s", j->c->tokenizer_note));
    AQ_TRY(aq_convert_losses(j->arena, &j->model, j->o->to, j->report));
    return aq_pump_open(j->o->threads, j->config.DH, progress, j, &j->model.pump);
}

aq_status aq_convert(aq_arena *arena, const aq_checkpoint *c, const char *out, const aq_convert_options *o, aq_convert_report *report) {
    job j = {.arena = arena, .c = c, .o = o, .out = out, .report = report};
    *report = (aq_convert_report){0};
    aq_status status = prepare(&j);
    if (status == AQ_OK)
        status = o->to == AQ_FORM_GGUF ? write_gguf(&j) : write_folder(&j);
    for (uint32_t i = 0; i < j.outputs.n; i++)
        aq_file_abandon(j.outputs.at[i].w);
    aq_pump_close(j.model.pump);
    return status;
}
