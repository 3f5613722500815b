/* config.c: config.json, in Hugging Face's keys or FlagAI's, to figures. */
#include "frontend/import/internal.h"
#include "frontend/import/json.h"
#include "frontend/reasons.h"
#include "ir/memory.h"

#include <stdlib.h>
#include <string.h>

/* KEY, OBJECT.KEY or ARRAY.INDEX. null counts as absent. */
static aq_figure get(const aq_figure_source *s, const char *key) {
    const cJSON *x = s->from;
    const char *dot = strchr(key, '.');
    char first[64];
    if (dot && (size_t)(dot - key) < sizeof first) {
        memcpy(first, key, (size_t)(dot - key));
        first[dot - key] = 0;
        x = aq_json_get(x, first);
        key = dot + 1;
    }
    x = cJSON_IsArray(x) && *key >= '0' && *key <= '9' ? cJSON_GetArrayItem(x, atoi(key)) : aq_json_get(x, key);
    if (!x || cJSON_IsNull(x))
        return (aq_figure){0};
    if (cJSON_IsNumber(x))
        return (aq_figure){.kind = AQ_FIGURE_NUMBER, .number = x->valuedouble};
    if (cJSON_IsBool(x))
        return (aq_figure){.kind = AQ_FIGURE_BOOL, .number = cJSON_IsTrue(x)};
    if (cJSON_IsString(x))
        return (aq_figure){.kind = AQ_FIGURE_TEXT, .text = {x->valuestring, (uint32_t)strlen(x->valuestring)}};
    return (aq_figure){.kind = AQ_FIGURE_OTHER};
}

static aq_status copy_text(aq_arena *arena, const cJSON *x, const char *otherwise, const char **out) {
    const char *text = cJSON_IsString(x) ? x->valuestring : otherwise;
    return aq_import_name(arena, text, strlen(text), out);
}

/* Mistral is this architecture as long as no more positions than its window are seen: those are its length here. Without the key transformers
 * takes 4096; null is none. */
static aq_status within_window(const aq_figure_source *s, const cJSON *window, aq_config *c) {
    int64_t n = 4096;
    if (cJSON_IsNull(window))
        return AQ_OK;
    if (window)
        AQ_TRY(aq_figure_size(s, "sliding_window", s->get(s, "sliding_window"), &n));
    c->max_length = n < c->max_length ? n : c->max_length;
    return AQ_OK;
}

static aq_status read_root(aq_arena *arena, const char *file, const cJSON *root, aq_config *out, aq_naming *out_naming) {
    if (!cJSON_IsObject(root))
        return aq_refuse(AQ_WHY_CONFIG_NO_OBJECT, file, "not a JSON object: expected the figures of a model");
    aq_naming naming = aq_json_get(root, "dim") && !aq_json_get(root, "hidden_size") ? AQ_NAMING_FLAGAI : AQ_NAMING_HF;
    const cJSON *type = aq_json_get(root, "model_type"), *tied = aq_json_get(root, "tie_word_embeddings"), *name = aq_json_get(root, "name");
    int mistral = cJSON_IsString(type) && strcmp(type->valuestring, "mistral") == 0;
    if (type && !(cJSON_IsString(type) && (mistral || strcmp(type->valuestring, "aquila") == 0 || strcmp(type->valuestring, "llama") == 0)))
        return aq_import_refuse(AQ_WHY_CONFIG_ARCHITECTURE, file, "key", "model_type", 10, "another architecture: expected \"aquila\", \"llama\" or \"mistral\"");
    aq_figure_source s = {.file = file, .naming = naming, .prefix = "", .from = root, .get = get};
    aq_config c;
    AQ_TRY(aq_figures_read(&s, &c));
    if (mistral)
        AQ_TRY(within_window(&s, aq_json_get(root, "sliding_window"), &c));
    if (tied && !cJSON_IsBool(tied) && !cJSON_IsNull(tied))
        return aq_import_refuse(AQ_WHY_CONFIG_TIED, file, "key", "tie_word_embeddings", 19, "not true or false");
    c.tied = cJSON_IsTrue(tied);
    aq_config_drop_ids(&c);
    AQ_TRY(copy_text(arena, cJSON_IsString(name) ? name : aq_json_get(root, "_name_or_path"), "", &c.name));
    AQ_TRY(copy_text(arena, mistral ? NULL : type, mistral ? "llama" : "aquila", &c.family));
    *out = c;
    *out_naming = naming;
    return AQ_OK;
}

aq_status aq_config_parse(aq_arena *arena, const char *file, const char *json, size_t n, aq_config *out, aq_naming *out_naming) {
    cJSON *root;
    AQ_TRY(aq_json_parse(file, json, n, &root));
    aq_status status = read_root(arena, file, root, out, out_naming);
    cJSON_Delete(root);
    return status;
}

static aq_status read_generation(const char *file, const cJSON *root, aq_config *c) {
    aq_figure_source s = {.file = file, .naming = AQ_NAMING_HF, .prefix = "", .from = root, .get = get};
    if (cJSON_IsTrue(aq_json_get(root, "_from_model_config"))) /* nobody chose: it repeats config.json, often the defaults of its class */
        return AQ_OK;
    AQ_TRY(aq_figure_ends(&s, "eos_token_id", c));
    aq_config_drop_ids(c);
    return AQ_OK;
}

aq_status aq_generation_read(const char *file, aq_config *c) {
    char *text;
    size_t n;
    cJSON *root;
    if (aq_file_kind(file) != 1)
        return AQ_OK;
    AQ_TRY(aq_import_read(file, &text, &n));
    aq_status status = aq_json_parse(file, text, n, &root);
    aq_mem_free(text);
    AQ_TRY(status);
    status = read_generation(file, root, c);
    cJSON_Delete(root);
    return status;
}
