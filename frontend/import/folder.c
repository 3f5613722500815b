/* folder.c: a model as a folder: config.json, the weights in one file (safetensors, or a torch archive) or in shards that an index lists, tokenizer
 * files, the chat template. Hugging Face and FlagAI keys and names; which of them, the keys and names themselves show.
 * Shards: each tensor must lie in the shard that the index names, and every tensor of a shard must be in the index. */
#include "frontend/import/internal.h"
#include "frontend/import/json.h"
#include "frontend/reasons.h"
#include "ir/memory.h"

#include <stdlib.h>
#include <string.h>

/* What weights come in, in the order in which a folder is searched. */
typedef struct container {
    const char *single, *index;
    aq_status (*read)(aq_arena *arena, const char *path, const aq_file *file, aq_stored_list *out);
} container;
static const container containers[] = {
    {"model.safetensors", "model.safetensors.index.json", aq_safetensors_read},
    {"pytorch_model.bin", "pytorch_model.bin.index.json", aq_torch_read},
};

typedef struct shard_entry {
    const char *tensor, *file;
} shard_entry;
typedef AQ_VEC(shard_entry) shard_list;

aq_status aq_import_path(aq_arena *arena, const char *folder, const char *name, const char **out) {
    return aq_arena_format(arena, out, "%s/%s", folder, name);
}

static int by_file(const void *a, const void *b) { return strcmp(((const shard_entry *)a)->file, ((const shard_entry *)b)->file); }
static int by_tensor(const void *a, const void *b) { return strcmp(((const shard_entry *)a)->tensor, ((const shard_entry *)b)->tensor); }

/* A shard lies beside its index: a name that leads elsewhere is refused. */
static aq_status read_index(aq_arena *arena, const char *path, const cJSON *root, shard_list *out) {
    const cJSON *map = aq_json_get(root, "weight_map"), *x;
    uint32_t n = 0;
    if (!cJSON_IsObject(map))
        return aq_import_refuse(AQ_WHY_INDEX_MAP, path, "key", "weight_map", 10, "missing: expected an object of tensor names and file names");
    cJSON_ArrayForEach(x, map)
        n++;
    AQ_ALLOC(arena, out->at, n);
    out->room = n;
    cJSON_ArrayForEach(x, map) {
        shard_entry e, *last = out->n ? &out->at[out->n - 1] : NULL;
        if (!cJSON_IsString(x) || !*x->valuestring || strchr(x->valuestring, '/') || x->valuestring[0] == '.')
            return aq_import_refuse(AQ_WHY_INDEX_FILE, path, "tensor", x->string, strlen(x->string), "not the name of a file beside the index");
        AQ_TRY(aq_arena_string(arena, x->string, strlen(x->string), &e.tensor));
        if (last && !strcmp(last->file, x->valuestring))
            e.file = last->file;
        else
            AQ_TRY(aq_arena_string(arena, x->valuestring, strlen(x->valuestring), &e.file));
        out->at[out->n++] = e;
    }
    if (out->n == 0)
        return aq_import_refuse(AQ_WHY_INDEX_EMPTY, path, "key", "weight_map", 10, "empty: expected the tensors of the model");
    return AQ_OK;
}

static aq_status parse_index(aq_arena *arena, const char *path, shard_list *out) {
    char *text;
    size_t n;
    cJSON *root;
    AQ_TRY(aq_import_read(path, &text, &n));
    aq_status status = aq_json_parse(path, text, n, &root);
    aq_mem_free(text);
    AQ_TRY(status);
    status = read_index(arena, path, root, out);
    cJSON_Delete(root);
    return status;
}

/* index sorted by tensor; stored holds what the shards hold. */
static aq_status compare_index(const char *path, shard_list *index, const aq_stored_list *stored) {
    qsort(index->at, index->n, sizeof *index->at, by_tensor);
    for (uint32_t i = 1; i < index->n; i++)
        if (by_tensor(&index->at[i - 1], &index->at[i]) == 0)
            return aq_import_refuse(AQ_WHY_INDEX_TWICE, path, "tensor", index->at[i].tensor, strlen(index->at[i].tensor), "occurs twice: expected once");
    for (uint32_t i = 0; i < stored->n; i++) {
        const aq_stored *t = &stored->at[i];
        const char *slash = strrchr(t->file, '/');
        shard_entry wanted = {.tensor = t->name.s}, *e = bsearch(&wanted, index->at, index->n, sizeof wanted, by_tensor);
        if (!e || strcmp(e->file, slash ? slash + 1 : t->file) != 0)
            return aq_import_refuse(AQ_WHY_INDEX_PLACE, t->file, "tensor", t->name.s, t->name.n, "the index puts it %s: expected it here",
                                    e ? e->file : "nowhere");
    }
    if (stored->n < index->n)
        return aq_refuse(AQ_WHY_INDEX_MORE, path, "lists %u tensors, the shards hold %u: expected the same", index->n, stored->n);
    return AQ_OK;
}

static aq_status read_shards(aq_checkpoint *c, const container *form, const char *folder, const char *path, aq_stored_list *stored) {
    shard_list index = {0};
    uint32_t shards = 0;
    AQ_TRY(parse_index(&c->arena, path, &index));
    qsort(index.at, index.n, sizeof *index.at, by_file);
    for (uint32_t i = 0; i < index.n; i++) {
        const char *shard;
        const aq_file *file;
        if (i && strcmp(index.at[i].file, index.at[i - 1].file) == 0)
            continue;
        if (shards++ == AQ_MOST_SHARDS)
            return aq_refuse(AQ_WHY_INDEX_SHARDS, path, "too many shards: expected at most %d", AQ_MOST_SHARDS);
        AQ_TRY(aq_import_path(&c->arena, folder, index.at[i].file, &shard));
        AQ_TRY(aq_import_map(c, shard, &file));
        AQ_TRY(form->read(&c->arena, shard, file, stored));
        if (stored->n > index.n)
            break; /* more than the index lists: not worth the memory of reading on */
    }
    return compare_index(path, &index, stored);
}

static aq_status read_single(aq_checkpoint *c, const container *form, const char *path) {
    aq_stored_list stored = {0};
    const aq_file *file;
    AQ_TRY(aq_import_map(c, path, &file));
    AQ_TRY(form->read(&c->arena, path, file, &stored));
    return aq_import_bind(c, &stored, path);
}

/* c->path is the file of the weights. */
static aq_status read_file(aq_checkpoint *c) {
    return read_single(c, aq_path_ends(c->path, ".safetensors") ? &containers[0] : &containers[1], c->path);
}

static aq_status read_weights(aq_checkpoint *c, const char *folder) {
    for (size_t i = 0; i < sizeof containers / sizeof *containers; i++) {
        const container *form = &containers[i];
        aq_stored_list stored = {0};
        const char *single, *index;
        AQ_TRY(aq_import_path(&c->arena, folder, form->single, &single));
        AQ_TRY(aq_import_path(&c->arena, folder, form->index, &index));
        if (aq_file_kind(single))
            return read_single(c, form, single);
        if (!aq_file_kind(index))
            continue;
        AQ_TRY(read_shards(c, form, folder, index, &stored));
        return aq_import_bind(c, &stored, index);
    }
    return aq_refuse(AQ_WHY_FOLDER_WEIGHTS, folder, "no weights: expected %s, %s, or shards with %s or %s", containers[0].single, containers[1].single,
                     containers[0].index, containers[1].index);
}

/* ---- the chat template: chat_template.jinja, or a string or the entry "default" of a list in tokenizer_config.json ---- */

static const cJSON *default_template(const cJSON *root) {
    const cJSON *x = aq_json_get(root, "chat_template"), *entry;
    if (!cJSON_IsArray(x))
        return cJSON_IsString(x) ? x : NULL;
    cJSON_ArrayForEach(entry, x) {
        const cJSON *name = aq_json_get(entry, "name"), *text = aq_json_get(entry, "template");
        if (cJSON_IsString(name) && strcmp(name->valuestring, "default") == 0 && cJSON_IsString(text))
            return text;
    }
    return NULL;
}

static aq_status read_template(aq_checkpoint *c, const char *folder) {
    const char *jinja, *config;
    char *text = NULL;
    size_t n;
    cJSON *root;
    AQ_TRY(aq_import_path(&c->arena, folder, "chat_template.jinja", &jinja));
    AQ_TRY(aq_import_path(&c->arena, folder, "tokenizer_config.json", &config));
    int has_jinja = aq_file_kind(jinja) == 1;
    if (!has_jinja && aq_file_kind(config) != 1)
        return AQ_OK;
    AQ_TRY(aq_import_read(has_jinja ? jinja : config, &text, &n));
    aq_status status;
    if (has_jinja) {
        status = aq_arena_string(&c->arena, text, n, &c->chat_template);
    } else if ((status = aq_json_parse(config, text, n, &root)) == AQ_OK) {
        const cJSON *x = default_template(root);
        if (x)
            status = aq_arena_string(&c->arena, x->valuestring, strlen(x->valuestring), &c->chat_template);
        cJSON_Delete(root);
    }
    aq_mem_free(text);
    return status;
}

/* ---- the entry: c->path is a folder, or the file of the weights in one ---- */

static aq_status folder_of(aq_checkpoint *c, const char **folder) {
    const char *slash = strrchr(c->path, '/');
    if (aq_file_kind(c->path) == 2)
        *folder = c->path;
    else if (slash)
        return aq_arena_string(&c->arena, c->path, slash == c->path ? 1 : (size_t)(slash - c->path), folder);
    else
        *folder = ".";
    return AQ_OK;
}

aq_status aq_import_folder(aq_checkpoint *c) {
    const char *folder, *config;
    char *text;
    size_t n;
    aq_naming naming;
    AQ_TRY(folder_of(c, &folder));
    AQ_TRY(aq_import_path(&c->arena, folder, "config.json", &config));
    if (!aq_file_kind(config))
        return aq_refuse(AQ_WHY_FOLDER_CONFIG, config, "no such file: expected the figures of the model beside its weights");
    AQ_TRY(aq_import_read(config, &text, &n));
    aq_status status = aq_config_parse(&c->arena, config, text, n, &c->config, &naming);
    aq_mem_free(text);
    AQ_TRY(status);
    AQ_TRY(aq_import_path(&c->arena, folder, "generation_config.json", &config));
    AQ_TRY(aq_generation_read(config, &c->config));
    AQ_TRY(folder == c->path ? read_weights(c, folder) : read_file(c));
    AQ_TRY(read_template(c, folder));
    AQ_TRY(aq_tokenizer_source_read(&c->arena, folder, &c->tokenizer));
    if (c->tokenizer.kind == AQ_TOKENIZER_NONE || c->tokenizer.n_vocab <= (uint64_t)c->config.V)
        return AQ_OK;
    return aq_refuse(AQ_WHY_FOLDER_TOKENS, c->tokenizer.place ? c->tokenizer.place : folder, "%u tokens: expected at most the vocab_size of %lld",
                     c->tokenizer.n_vocab, (long long)c->config.V);
}
