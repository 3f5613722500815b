/* lora_settings.c: what is said about an adapter beside its matrices: adapter_config.json, or the keys of a GGUF file. What would change the meaning
 * and is not plain LoRA is refused by name. */
#include "frontend/import/gguf.h"
#include "frontend/import/internal.h"
#include "frontend/import/json.h"
#include "frontend/lora.h"
#include "frontend/reasons.h"
#include "ir/memory.h"

#include <math.h>
#include <string.h>

#define WORD "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_."

/* ---- adapter_config.json ---- */

#define REFUSE_KEY(why, s, key, ...) aq_import_refuse(why, (s)->file, "key", key, strlen(key), __VA_ARGS__)

/* Absent, null, false, empty or "none": the setting is off. */
static int is_off(const cJSON *x) {
    return !x || cJSON_IsNull(x) || cJSON_IsFalse(x) || (cJSON_IsString(x) && (!*x->valuestring || !strcmp(x->valuestring, "none"))) ||
           ((cJSON_IsArray(x) || cJSON_IsObject(x)) && !x->child);
}

/* How A and B were first drawn does not matter, unless it changed the model's own weights. */
static int is_plain_start(const cJSON *x) {
    static const char *const fine[] = {"gaussian", "orthogonal", "eva"};
    if (is_off(x) || cJSON_IsTrue(x))
        return 1;
    for (size_t i = 0; cJSON_IsString(x) && i < sizeof fine / sizeof *fine; i++)
        if (!strcmp(x->valuestring, fine[i]))
            return 1;
    return 0;
}

/* PEFT means a regular expression for the end of a module's name; read are those in which no sign but "." (any character) and "^" in front has a
 * meaning, which is what people write. */
static aq_status read_alphas(aq_arena *arena, const cJSON *map, aq_lora_settings *s) {
    const cJSON *x;
    cJSON_ArrayForEach(x, map) {
        aq_lora_alpha_pattern p = {.alpha = x->valuedouble};
        const char *key = x->string ? x->string : "";
        if (!*key || !cJSON_IsNumber(x) || !(fabs(x->valuedouble) <= 1e6) || key[strspn(key, WORD "^")] || strchr(key + 1, '^'))
            return REFUSE_KEY(AQ_WHY_LORA_PATTERN, s, "alpha_pattern", "\"%.60s\": expected the end of a module's name, such as layers.1.self_attn.q_proj, and a number", key);
        AQ_TRY(aq_arena_string(arena, key, strlen(key), &p.end));
        AQ_PUSH(arena, &s->alphas, p);
    }
    return AQ_OK;
}

static aq_status read_saved(aq_arena *arena, const cJSON *list, aq_lora_settings *s) {
    const cJSON *x;
    cJSON_ArrayForEach(x, list) {
        const char *name;
        if (!cJSON_IsString(x))
            continue;
        AQ_TRY(aq_arena_string(arena, x->valuestring, strlen(x->valuestring), &name));
        AQ_PUSH(arena, &s->saved, name);
    }
    return AQ_OK;
}

/* The two lists are looked through for every tensor. */
enum { MOST_ENTRIES = 4096 };

static aq_status read_settings(aq_arena *arena, const cJSON *root, aq_lora_settings *s) {
    static const char *const unsupported[] = {"fan_in_fan_out", "use_dora", "bias", "lora_bias", "layer_replication",
                                              "trainable_token_indices", "target_parameters", "use_qalora", "use_bdlora",
                                              "alora_invocation_tokens", "arrow_config", "kasa_config", "monteclora_config", "velora_config"};
    static const char *const lists[] = {"alpha_pattern", "modules_to_save"};
    if (!cJSON_IsObject(root))
        return aq_refuse(AQ_WHY_LORA_CONFIG, s->file, "not a JSON object: expected the settings of an adapter");
    const cJSON *type = aq_json_get(root, "peft_type"), *alpha = aq_json_get(root, "lora_alpha");
    if (!cJSON_IsString(type) || strcmp(type->valuestring, "LORA"))
        return REFUSE_KEY(AQ_WHY_LORA_TYPE, s, "peft_type", "%.40s: expected LORA", cJSON_IsString(type) ? type->valuestring : "no text");
    for (size_t i = 0; i < sizeof unsupported / sizeof *unsupported; i++)
        if (!is_off(aq_json_get(root, unsupported[i])))
            return REFUSE_KEY(AQ_WHY_LORA_SETTING, s, unsupported[i], "is set: only plain LoRA is supported: expected it off");
    if (!is_plain_start(aq_json_get(root, "init_lora_weights")))
        return REFUSE_KEY(AQ_WHY_LORA_START, s, "init_lora_weights", "begins with changed weights of the model: expected true, false or gaussian (in PEFT: "
                                                              "save_pretrained with path_initial_model_for_weight_conversion)");
    if (!cJSON_IsNumber(alpha) || !(fabs(alpha->valuedouble) <= 1e6))
        return REFUSE_KEY(AQ_WHY_LORA_ALPHA, s, "lora_alpha", "no number up to 1e6: expected the adapter's scale times its rank");
    s->alpha = alpha->valuedouble;
    s->by_root = cJSON_IsTrue(aq_json_get(root, "use_rslora"));
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        if (cJSON_GetArraySize(aq_json_get(root, lists[i])) > MOST_ENTRIES)
            return REFUSE_KEY(AQ_WHY_LORA_LISTS, s, lists[i], "%d entries: expected at most %d", cJSON_GetArraySize(aq_json_get(root, lists[i])), MOST_ENTRIES);
    AQ_TRY(read_alphas(arena, aq_json_get(root, lists[0]), s));
    return read_saved(arena, aq_json_get(root, lists[1]), s);
}

aq_status aq_lora_settings_read(aq_arena *arena, const char *file, aq_lora_settings *out) {
    aq_lora_settings one = {.file = file}, *s = &one;
    char *text;
    size_t n;
    cJSON *root;
    if (aq_file_kind(s->file) != 1)
        return aq_refuse(AQ_WHY_LORA_NO_CONFIG, s->file, "no such file: expected the settings of the adapter beside its weights");
    AQ_TRY(aq_file_read(s->file, (size_t)1 << 24, &text, &n));
    aq_status status = aq_json_parse(s->file, text, n, &root);
    aq_mem_free(text);
    AQ_TRY(status);
    status = read_settings(arena, root, s);
    cJSON_Delete(root);
    *out = one;
    return status;
}

/* ---- the keys of a GGUF file ---- */

static int says(const aq_gguf *g, const char *key, const char *text) {
    const aq_gguf_value *v = aq_gguf_find(g, key);
    return v && v->type == AQ_GGUF_STRING && v->n == strlen(text) && !memcmp(v->data, text, v->n);
}

/* As llama.cpp reads them: an alpha of 0 is none. */
aq_status aq_lora_settings_of_gguf(const aq_gguf *g, aq_lora_settings *out) {
    const aq_gguf_value *alpha = aq_gguf_find(g, "adapter.lora.alpha");
    aq_lora_settings s = {.file = g->path};
    if (!says(g, "general.type", "adapter") || !says(g, "adapter.type", "lora") || aq_gguf_find(g, "adapter.alora.invocation_tokens") ||
        (alpha && !(aq_gguf_number(alpha, &s.alpha) && fabs(s.alpha) <= 1e6)))
        return aq_import_refuse(AQ_WHY_LORA_GGUF, g->path, "key", "adapter.type", 12,
                                "no plain LoRA: expected general.type adapter, adapter.type lora and a number in adapter.lora.alpha, as llama.cpp's convert_lora_to_gguf writes");
    s.no_alpha = s.alpha == 0;
    *out = s;
    return AQ_OK;
}

/* ---- questions ---- */

static int ends_like(aq_bytes module, const char *end) {
    int whole = *end == '^';
    size_t n = strlen(end += whole);
    if (n > module.n || (n < module.n && (whole || module.s[module.n - n - 1] != '.')))
        return 0;
    for (size_t i = 0; i < n; i++)
        if (end[i] != '.' && end[i] != module.s[module.n - n + i])
            return 0;
    return 1;
}

double aq_lora_alpha(const aq_lora_settings *s, aq_bytes module) {
    for (uint32_t i = 0; i < s->alphas.n; i++)
        if (ends_like(module, s->alphas.at[i].end))
            return s->alphas.at[i].alpha;
    return s->alpha;
}

int aq_lora_saves(const aq_lora_settings *s, aq_bytes module) {
    for (uint32_t i = 0; i < s->saved.n; i++) {
        size_t n = strlen(s->saved.at[i]);
        if (n && n <= module.n && !memcmp(module.s + module.n - n, s->saved.at[i], n))
            return 1;
    }
    return 0;
}
