/* lora.c: reads adapters. Config first (what would change the meaning is refused by name), then tensors: each name ends in lora_A or lora_B,
 * the rest of it is the name of a matrix of the model. */
#include "frontend/lora.h"

#include "frontend/import/internal.h"
#include "frontend/import/json.h"
#include "frontend/reasons.h"
#include "ir/memory.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_ADAPTERS = 16 };

typedef struct reader {
    aq_checkpoint *c;
    const char *config; /* path of adapter_config.json */
    double alpha, scale;
    int by_root; /* rslora: alpha / sqrt(r) */
    aq_stored_list stored;
    aq_naming naming; /* AQ_NAMINGS until the first name tells */
    AQ_VEC(aq_lora) pairs;
} reader;

/* ---- adapter_config.json ---- */

#define REFUSE_KEY(why, r, key, ...) aq_import_refuse(why, (r)->config, "key", key, strlen(key), __VA_ARGS__)

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

static aq_status read_settings(reader *r, const cJSON *root) {
    static const char *const unsupported[] = {"fan_in_fan_out", "use_dora", "modules_to_save", "bias", "lora_bias", "alpha_pattern", "layer_replication",
                                              "trainable_token_indices", "target_parameters", "use_qalora", "use_bdlora",
                                              "alora_invocation_tokens", "arrow_config", "kasa_config", "monteclora_config", "velora_config"};
    if (!cJSON_IsObject(root))
        return aq_refuse(AQ_WHY_LORA_CONFIG, r->config, "not a JSON object: expected the settings of an adapter");
    const cJSON *type = aq_json_get(root, "peft_type"), *alpha = aq_json_get(root, "lora_alpha");
    if (!cJSON_IsString(type) || strcmp(type->valuestring, "LORA"))
        return REFUSE_KEY(AQ_WHY_LORA_TYPE, r, "peft_type", "%.40s: expected LORA", cJSON_IsString(type) ? type->valuestring : "no text");
    for (size_t i = 0; i < sizeof unsupported / sizeof *unsupported; i++)
        if (!is_off(aq_json_get(root, unsupported[i])))
            return REFUSE_KEY(AQ_WHY_LORA_SETTING, r, unsupported[i], "is set: only plain LoRA is supported: expected it off");
    if (!is_plain_start(aq_json_get(root, "init_lora_weights")))
        return REFUSE_KEY(AQ_WHY_LORA_START, r, "init_lora_weights", "begins with changed weights of the model: expected true, false or gaussian (in PEFT: "
                                                              "save_pretrained with path_initial_model_for_weight_conversion)");
    if (!cJSON_IsNumber(alpha) || !(fabs(alpha->valuedouble) <= 1e6))
        return REFUSE_KEY(AQ_WHY_LORA_ALPHA, r, "lora_alpha", "no number up to 1e6: expected the adapter's scale times its rank");
    r->alpha = alpha->valuedouble;
    r->by_root = cJSON_IsTrue(aq_json_get(root, "use_rslora"));
    return AQ_OK;
}

static aq_status read_config(reader *r) {
    char *text;
    size_t n;
    cJSON *root;
    if (aq_file_kind(r->config) != 1)
        return aq_refuse(AQ_WHY_LORA_NO_CONFIG, r->config, "no such file: expected the settings of the adapter beside its weights");
    AQ_TRY(aq_file_read(r->config, (size_t)1 << 24, &text, &n));
    aq_status status = aq_json_parse(r->config, text, n, &root);
    aq_mem_free(text);
    AQ_TRY(status);
    status = read_settings(r, root);
    cJSON_Delete(root);
    return status;
}

/* ---- names ---- */

static int skip(aq_bytes *s, const char *text) {
    uint32_t n = (uint32_t)strlen(text);
    if (s->n < n || memcmp(s->s, text, n) != 0)
        return 0;
    s->s += n;
    s->n -= n;
    return 1;
}

static const char *find(aq_bytes s, const char *text) {
    size_t n = strlen(text);
    for (const char *p = s.s; p + n <= s.s + s.n; p++)
        if (memcmp(p, text, n) == 0)
            return p;
    return NULL;
}

/* "base_model.model.MODULE.lora_A[.ADAPTER].weight": the module with ".weight" behind it, as files call the matrix; is it B? */
static int split_name(aq_bytes name, char *module, size_t room, int *is_b) {
    while (skip(&name, "base_model.model.")) {
    }
    const char *at = find(name, ".lora_");
    size_t head = at ? (size_t)(at - name.s) : 0;
    if (!at || head + sizeof ".weight" > room || name.n - head < 8)
        return 0;
    aq_bytes rest = {at + 6, name.n - (uint32_t)head - 6};
    *is_b = *rest.s == 'B';
    if (!skip(&rest, *is_b ? "B" : "A") || rest.n < 7 || *rest.s != '.' || memcmp(rest.s + rest.n - 7, ".weight", 7) != 0)
        return 0;
    for (uint32_t i = 1; i + 7 < rest.n; i++)
        if (rest.s[i] == '.')
            return 0; /* more than an adapter's name between */
    memcpy(module, name.s, head);
    memcpy(module + head, ".weight", sizeof ".weight");
    return 1;
}

#define REFUSE(why, t, ...) aq_import_refuse(why, (t)->file, "tensor", (t)->name.s, (t)->name.n, __VA_ARGS__)

/* ---- pairs ---- */

static aq_status pair_of(reader *r, const char *house, aq_lora **out) {
    for (uint32_t i = 0; i < r->pairs.n; i++)
        if (!strcmp(r->pairs.at[i].house, house)) {
            *out = &r->pairs.at[i];
            return AQ_OK;
        }
    AQ_PUSH(&r->c->arena, &r->pairs, (aq_lora){.house = house});
    *out = &r->pairs.at[r->pairs.n - 1];
    return AQ_OK;
}

static aq_status put_part(reader *r, const aq_stored *t, uint32_t row, int64_t layer, int is_b) {
    const char *house;
    aq_lora *pair;
    int64_t want[2];
    aq_tensor_shape(&r->c->config, row, want);
    if (!want[1] || row == 0 || layer >= r->c->config.L)
        return REFUSE(AQ_WHY_LORA_TARGET, t, "adapts no matrix of this model: expected one of its %lld layers or the output", (long long)r->c->config.L);
    if (aq_dtype_of(t->dtype)->kind != AQ_KIND_FLOAT)
        return REFUSE(AQ_WHY_LORA_KIND, t, "type %s: expected a floating-point type", aq_dtype_of(t->dtype)->name);
    if (t->rank != 2 || t->dim[is_b ? 0 : 1] != want[is_b ? 0 : 1])
        return REFUSE(AQ_WHY_LORA_SHAPE, t, "%lld x %lld: expected %s%lld%s", (long long)t->dim[0], (long long)(t->rank > 1 ? t->dim[1] : 1), is_b ? "" : "rank x ",
                      (long long)want[is_b ? 0 : 1], is_b ? " x rank" : "");
    AQ_TRY(aq_tensor_house_name(&r->c->arena, row, layer, &house));
    AQ_TRY(pair_of(r, house, &pair));
    aq_tensor *slot = is_b ? &pair->b : &pair->a;
    if (slot->name)
        return REFUSE(AQ_WHY_LORA_TWICE, t, "occurs twice: expected once");
    *slot = (aq_tensor){.name = house, .dtype = t->dtype, .rank = 2, .dim = {t->dim[0], t->dim[1]}, .data = t->data, .bytes = t->bytes,
                        .rotate_half = is_b && r->naming == AQ_NAMING_HF && aq_tensor_rows[row].rotates};
    return aq_arena_string(&r->c->arena, t->name.s, t->name.n, &slot->file_name);
}

/* FlagAI's fused Wqkv: A serves all three, B is cut into the rows of q, k and v. */
static aq_status put_fused(reader *r, const aq_stored *t, int64_t layer, int is_b) {
    static const char *const parts[] = {"wq", "wk", "wv"};
    const aq_config *c = &r->c->config;
    int64_t rows = (c->H + 2 * c->HKV) * c->DH, first = 0, want[2];
    if (is_b && (t->rank != 2 || t->dim[0] != rows))
        return REFUSE(AQ_WHY_LORA_FUSED, t, "%lld rows: expected the %lld of q, k and v", (long long)t->dim[0], (long long)rows);
    for (uint32_t row = 0, k = 0; row < aq_tensor_rows_count && k < 3; row++) {
        if (strcmp(aq_tensor_rows[row].house, parts[k]) != 0)
            continue;
        aq_stored part = *t;
        aq_tensor_shape(c, row, want);
        if (is_b) {
            size_t row_bytes = t->bytes / (size_t)t->dim[0];
            part.dim[0] = want[0];
            part.data = t->data + (size_t)first * row_bytes;
            part.bytes = (size_t)want[0] * row_bytes;
        }
        AQ_TRY(put_part(r, &part, row, layer, is_b));
        first += want[0];
        k++;
    }
    return AQ_OK;
}

/* PEFT may store the embedding and the output themselves beside an adapter: left out if they are the model's, element by element. */
static aq_status check_base(reader *r, const aq_stored *t, aq_bytes name) {
    uint32_t row;
    int64_t layer;
    const char *house;
    const aq_tensor *base = NULL;
    float x[256], y[256];
    if (aq_import_find(AQ_NAMING_HF, name, &row, &layer) || aq_import_find(AQ_NAMING_FLAGAI, name, &row, &layer)) {
        AQ_TRY(aq_tensor_house_name(&r->c->arena, row, layer, &house));
        base = aq_checkpoint_find(r->c, house);
        if (!base && aq_tensor_rows[row].output)
            base = aq_checkpoint_find(r->c, "tok_embeddings");
    }
    int same = base && base->data && base->rank == t->rank && base->dim[0] == t->dim[0] && base->dim[1] == t->dim[1] &&
               aq_dtype_of(t->dtype)->block == 1 && aq_dtype_of(base->dtype)->block == 1;
    size_t all = same ? t->bytes / aq_dtype_of(t->dtype)->bytes : 0;
    for (size_t i = 0, n; same && i < all; i += n) {
        n = all - i < 256 ? all - i : 256;
        aq_dtype_decode_f32(t->dtype, t->data, i, n, x);
        aq_dtype_decode_f32(base->dtype, base->data, i, n, y);
        for (size_t k = 0; k < n; k++)
            same &= x[k] == y[k];
    }
    return same ? AQ_OK : REFUSE(AQ_WHY_LORA_BASE, t, "replaces a weight of the model: expected an adapter only (in PEFT: save_pretrained with save_embedding_layers=False)");
}

/* Is it a weight of the model and no adapter: MODULE.base_layer.weight, or, with save_embedding_layers, the embedding and the output by their own
 * names? *base: its name as files of models have it, in `room`. */
static int names_base(aq_bytes name, char *room, size_t size, aq_bytes *base) {
    static const char inner[] = ".base_layer", end[] = ".weight";
    uint32_t row, n = sizeof end - 1, m = sizeof inner - 1;
    int64_t layer;
    while (skip(&name, "base_model.model.")) {
    }
    if (name.n < n || name.n >= size || memcmp(name.s + name.n - n, end, n) != 0)
        return 0;
    int wrapped = name.n >= n + m && !memcmp(name.s + name.n - n - m, inner, m);
    uint32_t head = name.n - n - (wrapped ? m : 0);
    memcpy(room, name.s, head);
    memcpy(room + head, end, sizeof end);
    *base = (aq_bytes){room, head + n};
    return wrapped || aq_import_find(AQ_NAMING_HF, *base, &row, &layer) || aq_import_find(AQ_NAMING_FLAGAI, *base, &row, &layer);
}

static aq_status put(reader *r, const aq_stored *t) {
    char module[160];
    aq_bytes base;
    int is_b;
    uint32_t row;
    int64_t layer;
    if (names_base(t->name, module, sizeof module, &base))
        return check_base(r, t, base);
    if (!split_name(t->name, module, sizeof module, &is_b))
        return REFUSE(AQ_WHY_LORA_NAME, t, "is no lora_A or lora_B of a matrix: expected names like base_model.model.%s.lora_A.weight", "model.layers.0.self_attn.q_proj");
    aq_bytes name = {module, (uint32_t)strlen(module)};
    for (int naming = AQ_NAMING_HF; naming < AQ_NAMINGS; naming++) {
        if (r->naming != AQ_NAMINGS && (aq_naming)naming != r->naming)
            continue;
        int fused = naming == AQ_NAMING_FLAGAI && aq_import_matches("layers.#.attention.Wqkv", name, &layer);
        if (!fused && !aq_import_find((aq_naming)naming, name, &row, &layer))
            continue;
        r->naming = (aq_naming)naming;
        return fused ? put_fused(r, t, layer, is_b) : put_part(r, t, row, layer, is_b);
    }
    return REFUSE(AQ_WHY_LORA_FOREIGN, t, "adapts nothing in this architecture: expected a projection of attention or feed-forward, or the output");
}

static aq_status finish(reader *r, const char *weights) {
    if (!r->pairs.n)
        return aq_refuse(AQ_WHY_LORA_EMPTY, weights, "holds no tensors: expected lora_A and lora_B of at least one matrix");
    for (uint32_t i = 0; i < r->pairs.n; i++) {
        aq_lora *p = &r->pairs.at[i];
        const aq_tensor *there = p->a.name ? &p->a : &p->b;
        if (!p->a.name || !p->b.name)
            return aq_import_refuse(AQ_WHY_LORA_HALF, weights, "tensor", there->file_name, strlen(there->file_name), "comes without its lora_%s: expected both",
                                    p->a.name ? "B" : "A");
        if (p->a.dim[0] != p->b.dim[1])
            return aq_import_refuse(AQ_WHY_LORA_RANK, weights, "tensor", p->a.file_name, strlen(p->a.file_name), "rank %lld, of its lora_B %lld: expected the same",
                                    (long long)p->a.dim[0], (long long)p->b.dim[1]);
        double rank = (double)p->a.dim[0];
        p->scale = r->scale * r->alpha / (r->by_root ? sqrt(rank) : rank);
        AQ_PUSH(&r->c->arena, &r->c->adapters, *p);
    }
    return AQ_OK;
}

/* ---- files ---- */

static int ends(const char *s, const char *end) {
    size_t n = strlen(s), m = strlen(end);
    return n > m && !strcmp(s + n - m, end);
}

/* path is a folder, or a file with the settings beside it. */
static aq_status find_files(reader *r, const char *path, const char **weights) {
    static const char *const names[] = {"adapter_model.safetensors", "adapter_model.bin"};
    aq_arena *arena = &r->c->arena;
    if (aq_file_kind(path) == 1) {
        const char *slash = strrchr(path, '/');
        *weights = path;
        return slash ? aq_arena_format(arena, &r->config, "%.*s/adapter_config.json", (int)(slash - path), path)
                     : aq_arena_string(arena, "adapter_config.json", strlen("adapter_config.json"), &r->config);
    }
    AQ_TRY(aq_import_path(arena, path, "adapter_config.json", &r->config));
    for (size_t i = 0; aq_file_kind(path) == 2 && i < sizeof names / sizeof *names; i++) {
        AQ_TRY(aq_import_path(arena, path, names[i], weights));
        if (aq_file_kind(*weights) == 1)
            return AQ_OK;
    }
    return aq_refuse(AQ_WHY_LORA_FILES, path, "no adapter: expected a folder with adapter_config.json and %s or %s", names[0], names[1]);
}

aq_status aq_lora_add(aq_checkpoint *c, const char *path, double scale) {
    reader r = {.c = c, .scale = scale, .naming = AQ_NAMINGS};
    const aq_file *file;
    const char *weights;
    if (++c->n_adapters > MOST_ADAPTERS) /* aq_import_map has room for the shards of a model and some more */
        return aq_fail(AQ_USAGE, NULL, "--lora %.200s: the %dth: expected at most %d", path, MOST_ADAPTERS + 1, MOST_ADAPTERS);
    AQ_TRY(find_files(&r, path, &weights));
    AQ_TRY(read_config(&r));
    AQ_TRY(aq_import_map(c, weights, &file));
    AQ_TRY((ends(weights, ".safetensors") ? aq_safetensors_read : aq_torch_read)(&c->arena, weights, file, &r.stored));
    for (uint32_t i = 0; i < r.stored.n; i++)
        AQ_TRY(put(&r, &r.stored.at[i]));
    return finish(&r, weights);
}

aq_status aq_lora_parse(const char *text, aq_arena *arena, const char **out_path, double *out_scale) {
    const char *colon = strrchr(text, ':');
    char *end;
    *out_scale = 1;
    *out_path = text;
    if (!colon || aq_file_kind(text))
        return AQ_OK;
    *out_scale = strtod(colon + 1, &end);
    if (end == colon + 1 || *end || !(fabs(*out_scale) <= 1e6))
        return aq_fail(AQ_USAGE, NULL, "--lora %.200s: no such file, and no number up to 1e6 behind the colon: expected FOLDER or FOLDER:SCALE", text);
    return aq_arena_string(arena, text, (size_t)(colon - text), out_path);
}
